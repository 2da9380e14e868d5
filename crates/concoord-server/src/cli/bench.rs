//! `concoord bench`: how many calls a second, and how long they take.
//!
//! A closed loop: each client has one call open, the next one starts when the reply is there. So what
//! is measured is what a caller waits for, connection included. Each has a session and a connection of
//! its own, as if it were a program of its own, unless they are to share some as the threads and tasks
//! of one program do.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::rc::Rc;
use std::time::{Duration, Instant};

use concoord::tokio::Client;
use concoord::{Arguments, Options as ClientOptions};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout};

use super::exit::Failure;
use super::json::arguments;
use super::output::{grouped, say, say_json, table};
use super::{BOOTSTRAP, runtime, seconds};

/// What is hosted and called if nothing else is asked for.
const OBJECT: &str = "concoord.object.counter.Counter";

/// How long a replica that was spawned may take until it serves.
const SPAWN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the clients may take to connect, and any call to be answered.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Debug, clap::Args)]
#[command(after_long_help = super::EXIT_CODES)]
pub(super) struct Options {
    /// address:port of a replica, or several with commas between, or their domain name
    #[arg(short, long, value_name = "BOOTSTRAP", default_value = BOOTSTRAP)]
    boot: String,
    /// Measure replicas of its own instead, so many; they are stopped afterwards
    #[arg(long, value_name = "N", conflicts_with = "boot",
          value_parser = clap::value_parser!(u16).range(1..=31))]
    spawn: Option<u16>,
    /// Have those write everything to the disk, in the current folder
    #[arg(short, long, requires = "spawn")]
    writetodisk: bool,
    /// Dotted name of the object's class
    #[arg(short, long, value_name = "OBJECTNAME", default_value = OBJECT)]
    object: String,
    /// The method to call [default: increment, or getvalue with --read]
    #[arg(short, long)]
    method: Option<String>,
    /// Its arguments in JSON: an array by position, an object by name
    #[arg(long, value_name = "ARGS", default_value = "[]")]
    args: String,
    /// Call a method that reads
    #[arg(short, long)]
    read: bool,
    /// Clients at once
    #[arg(short, long, value_name = "N", default_value_t = 64,
          value_parser = clap::value_parser!(u16).range(1..))]
    clients: u16,
    /// Connections, and sessions, that the clients share [default: one each]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    connections: Option<u16>,
    /// How long to measure, in seconds
    #[arg(short, long, value_parser = seconds, default_value = "10")]
    seconds: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Options {
    fn method(&self) -> &str {
        let default = if self.read { "getvalue" } else { "increment" };
        self.method.as_deref().unwrap_or(default)
    }

    fn connections(&self) -> u16 {
        self.connections.unwrap_or(self.clients)
    }
}

/// `program` is how this program is started, for the replicas that are spawned.
pub(super) fn run(options: &Options, program: &[OsString]) -> Result<(), Failure> {
    let arguments = arguments(&options.args).map_err(Failure::usage)?;
    if options.connections() > options.clients {
        return Err(Failure::usage("more connections than clients: each client uses one"));
    }
    runtime()?.block_on(LocalSet::new().run_until(async {
        let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
        let result = tokio::select! {
            result = bench(options, arguments, program) => result?,
            _ = tokio::signal::ctrl_c() => return Err(Failure::failed("interrupted")),
            _ = terminate.recv() => return Err(Failure::failed("terminated")),
        };
        if options.json {
            say_json(&to_json(options, &result));
        } else {
            say(to_text(options, &result));
        }
        Ok(())
    }))
}

/// What was measured.
struct Measured {
    /// Nanoseconds a call.
    latency: Histogram<u64>,
    /// Calls whose outcome stayed unknown.
    unknown: u64,
    elapsed: Duration,
}

impl Measured {
    fn per_second(&self) -> f64 {
        self.latency.len() as f64 / self.elapsed.as_secs_f64()
    }

    fn micros_at(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1000.0
    }

    fn micros_max(&self) -> f64 {
        self.latency.max() as f64 / 1000.0
    }
}

/// What the clients write while they run. One thread runs them all, so it is shared as it is.
struct Shared {
    method: String,
    arguments: Arguments,
    until: Cell<Instant>,
    latency: RefCell<Histogram<u64>>,
    unknown: Cell<u64>,
}

async fn bench(
    options: &Options,
    arguments: Arguments,
    program: &[OsString],
) -> Result<Measured, Failure> {
    let spawned = match options.spawn {
        Some(replicas) => spawn(program, options, replicas).await?,
        None => Spawned { _replicas: Vec::new(), _folder: None, boot: options.boot.clone() },
    };
    let progress = progress(options);
    let connected = connect(options, &spawned.boot, &arguments, &progress).await?;
    let start = Instant::now();
    let shared = Rc::new(Shared {
        method: options.method().to_owned(),
        arguments,
        until: Cell::new(start + options.seconds),
        latency: RefCell::new(histogram()),
        unknown: Cell::new(0),
    });
    let mut running = JoinSet::new();
    for client in connected.iter().cycle().take(options.clients.into()) {
        running.spawn_local(call_on(client.clone(), Rc::clone(&shared)));
    }
    let show = show(&progress, start, &shared);
    let ended = tokio::select! {
        ended = all(&mut running) => ended,
        never = show => never,
    };
    progress.finish_and_clear();
    ended?;
    let elapsed = start.elapsed();
    for client in connected {
        running.spawn_local(async move {
            client.close().await;
            Ok(())
        });
    }
    all(&mut running).await?;
    let latency = shared.latency.replace(histogram());
    Ok(Measured { latency, unknown: shared.unknown.get(), elapsed })
}

fn histogram() -> Histogram<u64> {
    // A nanosecond to ten minutes, in three digits.
    Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("these bounds are sound")
}

async fn connect(
    options: &Options,
    boot: &str,
    arguments: &Arguments,
    progress: &ProgressBar,
) -> Result<Vec<Client>, Failure> {
    progress.set_message("connecting");
    let mut clients = Vec::with_capacity(options.connections().into());
    for _ in 0..options.connections() {
        let client_options = ClientOptions {
            timeout: CALL_TIMEOUT,
            class: Some(options.object.clone()),
            ..ClientOptions::default()
        };
        let client = Client::connect(boot, client_options).await?;
        // Its session opens with its first call, and what is wrong with the call shows now.
        client.call(options.method(), arguments).await?;
        clients.push(client);
    }
    Ok(clients)
}

async fn call_on(client: Client, shared: Rc<Shared>) -> Result<(), Failure> {
    loop {
        let start = Instant::now();
        if start >= shared.until.get() {
            return Ok(());
        }
        match client.call(&shared.method, &shared.arguments).await {
            Ok(_) => {
                let nanos = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
                shared.latency.borrow_mut().saturating_record(nanos);
            }
            Err(error) if error.outcome_unknown() => shared.unknown.set(shared.unknown.get() + 1),
            Err(error) => return Err(error.into()),
        }
    }
}

async fn all(running: &mut JoinSet<Result<(), Failure>>) -> Result<(), Failure> {
    while let Some(ended) = running.join_next().await {
        ended.map_err(Failure::failed)??;
    }
    Ok(())
}

/// A bar on a terminal; elsewhere nothing.
fn progress(options: &Options) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {elapsed}/{len}s {msg}");
    let length = options.seconds.as_secs().max(1);
    ProgressBar::new(length).with_style(style.expect("the template is sound"))
}

async fn show<T>(progress: &ProgressBar, start: Instant, shared: &Shared) -> T {
    let mut before = 0;
    loop {
        sleep(Duration::from_millis(500)).await;
        let calls = shared.latency.borrow().len();
        progress.set_position(start.elapsed().as_secs());
        progress.set_message(format!("{} calls/s", grouped((calls - before) * 2)));
        before = calls;
    }
}

/// Replicas that end with this, and then their data.
struct Spawned {
    _replicas: Vec<Child>,
    _folder: Option<TempDir>,
    boot: String,
}

async fn spawn(program: &[OsString], options: &Options, count: u16) -> Result<Spawned, Failure> {
    let folder = options
        .writetodisk
        .then(|| tempfile::Builder::new().prefix("concoord-bench-").tempdir_in("."))
        .transpose()
        .map_err(|error| Failure::failed(format!("no folder for the data: {error}")))?;
    let mut replicas = Vec::new();
    let mut boot: Vec<String> = Vec::new();
    for nth in 0..count {
        let (name, rest) = program.split_first().expect("a program has a name");
        let mut command = Command::new(name);
        command.args(rest).args(["replica", "-a", "127.0.0.1", "-o", &options.object]);
        if let Some(folder) = &folder {
            command.arg("--data-dir").arg(folder.path().join(nth.to_string()));
        }
        if let Some(first) = boot.first() {
            command.args(["-b", first]);
        }
        // What goes wrong is for the user to see, what goes well is not.
        command.env(crate::logging::FILTER_VARIABLE, "warn");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut replica = command
            .spawn()
            .map_err(|error| Failure::failed(format!("no replica can be started: {error}")))?;
        boot.push(served_address(&mut replica).await?);
        replicas.push(replica);
    }
    Ok(Spawned { _replicas: replicas, _folder: folder, boot: boot.join(",") })
}

/// Where a replica says that it serves.
async fn served_address(replica: &mut Child) -> Result<String, Failure> {
    let stdout = replica.stdout.take().expect("its output is piped");
    let mut line = String::new();
    let read = timeout(SPAWN_TIMEOUT, BufReader::new(stdout).read_line(&mut line)).await;
    let address = line.strip_prefix("REPLICA-").and_then(|rest| rest.split(' ').next());
    match (read, address) {
        (Ok(Ok(_)), Some(address)) => Ok(address.to_owned()),
        (Ok(_), _) => Err(Failure::failed("a replica ended before it served")),
        (Err(_), _) => Err(Failure::failed("a replica did not serve in time")),
    }
}

const QUANTILES: [(&str, f64); 4] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999)];

fn to_text(options: &Options, result: &Measured) -> String {
    let mut head = vec![
        "CLIENTS".to_owned(),
        "CONNECTIONS".to_owned(),
        "CALLS".to_owned(),
        "CALLS/S".to_owned(),
    ];
    let mut row = vec![
        grouped(options.clients.into()),
        grouped(options.connections().into()),
        grouped(result.latency.len()),
        grouped(result.per_second().round() as u64),
    ];
    for (name, quantile) in QUANTILES {
        head.push(name.to_owned());
        row.push(format!("{:.1}", result.micros_at(quantile)));
    }
    head.push("max".to_owned());
    row.push(format!("{:.1}", result.micros_max()));
    let mut text = format!(
        "{}.{} for {:.1} s, times in µs\n\n{}",
        options.object,
        options.method(),
        result.elapsed.as_secs_f64(),
        table(&[head, row])
    );
    if result.unknown > 0 {
        text += &format!("\n\n{} calls had no reply in time", grouped(result.unknown));
    }
    text
}

fn to_json(options: &Options, result: &Measured) -> Json {
    let mut json = json!({
        "object": options.object,
        "method": options.method(),
        "clients": options.clients,
        "connections": options.connections(),
        "spawned": options.spawn,
        "seconds": result.elapsed.as_secs_f64(),
        "calls": result.latency.len(),
        "calls_per_second": result.per_second(),
        "unknown": result.unknown,
    });
    let times = QUANTILES.map(|(name, quantile)| (name, result.micros_at(quantile)));
    if let Some(json) = json.as_object_mut() {
        for (name, micros) in times.into_iter().chain([("max", result.micros_max())]) {
            json.insert(format!("{}_us", name.replace('.', "_")), micros.into());
        }
    }
    json
}

/// How this program is started: by its own file, or by the Python that it is part of, which then
/// runs the script that was run.
pub(super) fn program(
    script: Option<&OsString>,
    python: Option<&Path>,
) -> Result<Vec<OsString>, Failure> {
    match (python, script) {
        (Some(python), Some(script)) => Ok(vec![python.into(), script.clone()]),
        (Some(_), None) => Err(Failure::failed("the command line has no program")),
        (None, _) => {
            let file: PathBuf = std::env::current_exe().map_err(Failure::failed)?;
            Ok(vec![file.into()])
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn measured() -> Measured {
        let mut latency = histogram();
        for micros in 1..=1000 {
            latency.record(micros * 1000).unwrap();
        }
        Measured { latency, unknown: 0, elapsed: Duration::from_secs(2) }
    }

    #[test]
    fn the_table_says_what_was_measured() {
        let options = Line::parse_from(["bench", "--read", "--clients", "8"]).options;
        let text = to_text(&options, &measured());
        assert!(text.starts_with("concoord.object.counter.Counter.getvalue for 2.0 s"), "{text}");
        let row = text.lines().last().unwrap();
        assert!(row.contains("1 000") && row.contains("    500  "), "{row}");
        let json = to_json(&options, &measured());
        assert_eq!(json["calls"], 1000);
        assert_eq!(json["calls_per_second"], 500.0);
        assert!((json["p99_9_us"].as_f64().unwrap() - 999.0).abs() < 2.0, "{json}");
    }
}
