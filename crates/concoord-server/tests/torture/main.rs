//! Whole replicas under fire: real processes on hosts of their own, clients that keep a record,
//! one fault after another, and a judge who says whether the record is that of one object.
//!
//! ```text
//! main ─ for each fault and kind: namespaces ─▶ run ─▶ cluster ◀─ faults
//!   ▲                                             │       ▲
//!   └────────── figures, or what is wrong ◀───────┤       └─ load ─▶ history
//!                                                 └─ checker ◀───────────┘
//! ```
//!
//! Each run is a process that is the first of a pid namespace, with mounts and network of its
//! own: whatever becomes of it, the kernel ends what it started and removes what it made.
//! `docs/internals/testing.md` says what is shown here and what elsewhere.

#![expect(
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test that can't go on should stop, and says what it saw"
)]

mod checker;
mod cluster;
mod disk;
mod faults;
mod history;
mod holders;
mod holds;
mod load;
mod network;
mod random;
mod run;

use std::io::{IsTerminal, Read, Write, stdout};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;

use crate::faults::Fault;
use crate::holders::Pausable;
use crate::load::Kind;
use crate::run::{Run, clear, fault, kind};

/// Replicas under fire, and a linearizability checker. Needs root, for namespaces of its own.
#[derive(Debug, Parser)]
struct Options {
    /// Show the faults and the kinds of objects
    #[arg(long)]
    list: bool,
    /// How long the fault of each run strikes
    #[arg(long, default_value_t = 6)]
    seconds: u64,
    /// Only these faults
    #[arg(long, value_parser = fault, value_delimiter = ',')]
    fault: Vec<Fault>,
    /// Only these kinds
    #[arg(long, value_parser = kind, value_delimiter = ',')]
    kind: Vec<Kind>,
    /// Repeats the choice of places, moments and calls
    #[arg(long)]
    seed: Option<u64>,
    /// Go on with the next seeds until so many operations were made and judged
    #[arg(long, default_value_t = 0)]
    operations: u64,
    /// Each fault once, with one kind after the other, and every second time with -w
    #[arg(long)]
    short: bool,
    /// Replicas write to disk (-w) in all runs, not only in those whose fault is about it
    #[arg(long)]
    durable: bool,
    /// The Python that hosts objects, with concoord installed
    #[arg(long)]
    python: Option<PathBuf>,
    /// Keep the logs and histories of good runs too
    #[arg(long)]
    keep: bool,
    /// Succeed where there is no root, having said so
    #[arg(long)]
    skip_without_root: bool,
    #[command(subcommand)]
    inside: Option<Inside>,
}

#[derive(Debug, clap::Subcommand)]
enum Inside {
    /// One run, within its namespaces
    #[command(hide = true)]
    Inside(Run),
    /// One that holds a lock and is paused meanwhile
    #[command(hide = true)]
    Pausable(Pausable),
}

/// Folders of the Python classes, beside this one's.
const OBJECTS: &str = "torture";
const BROKEN: &str = "torture/broken";

fn main() -> ExitCode {
    let options = Options::parse();
    match &options.inside {
        Some(Inside::Inside(run)) => return run.run(),
        Some(Inside::Pausable(pausable)) => return pausable.run(),
        None => {}
    }
    if options.list {
        Fault::ALL.iter().for_each(|fault| println!("{:15} {}", fault.name(), fault.what()));
        Kind::ALL.iter().for_each(|kind| println!("{:15} {}", kind.name(), kind.class()));
        return ExitCode::SUCCESS;
    }
    if !rustix::process::geteuid().is_root() {
        println!("The torture makes network namespaces: run it as root.");
        return if options.skip_without_root { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    torture(&options)
}

fn torture(options: &Options) -> ExitCode {
    let seed = options.seed.unwrap_or_else(|| {
        let since = std::time::UNIX_EPOCH.elapsed().expect("it is later than 1970");
        u64::from(since.subsec_nanos())
    });
    println!("seed {seed}");
    println!(
        "{:15} {:10} {:7} {:>7} {:>7} {:>7} {:>9}  verdict",
        "fault", "kind", "disk", "strikes", "ok", "unknown", "gap ms"
    );
    let run = |fault, kind, durable, seed: u64, objects: &str| Run {
        fault,
        kind,
        seconds: options.seconds,
        seed,
        durable,
        python: python(options),
        objects: PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(objects),
        folder: folder().join(format!("{seed}-{}-{}", fault.name(), kind.name())),
    };
    let (mut good, mut bad, mut operations) = (0, 0, 0);
    let start = Instant::now();
    if options.short {
        let good_judge = sees_what_is_wrong(&run(Fault::None, Kind::Register, false, seed, BROKEN));
        *(if good_judge { &mut good } else { &mut bad }) += 1;
    }
    for seed in seed.. {
        for (nth, (fault, kind)) in pairs(options).into_iter().enumerate() {
            let durable = options.durable || options.short && nth % 2 == 1;
            let judged = operations_of(&run(fault, kind, durable, seed, OBJECTS), options.keep);
            *(if judged.is_some() { &mut good } else { &mut bad }) += 1;
            operations += judged.unwrap_or_default();
        }
        if bad > 0 || operations >= options.operations {
            break;
        }
    }
    println!("{good} good, {bad} bad, {operations} operations, {} s", start.elapsed().as_secs());
    if bad == 0 && good > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is run: all pairs, or with `--short` each fault with the next kind.
fn pairs(options: &Options) -> Vec<(Fault, Kind)> {
    let faults = if options.fault.is_empty() { Fault::ALL.to_vec() } else { options.fault.clone() };
    let kinds = if options.kind.is_empty() { Kind::ALL.to_vec() } else { options.kind.clone() };
    if options.short {
        return faults.into_iter().zip(kinds.into_iter().cycle()).collect();
    }
    faults.iter().flat_map(|fault| kinds.iter().map(|kind| (*fault, *kind))).collect()
}

/// Prints the row of a run; how many operations it had, if all was well.
fn operations_of(run: &Run, keep: bool) -> Option<u64> {
    begin_row(run);
    let figures = match within(run) {
        Ok(figures) => figures,
        Err(why) => {
            println!("{:>33}  {}", "", red("BAD"));
            println!("{why}\nlogs: {}\nagain: {}", run.folder.display(), again(run));
            return None;
        }
    };
    let column = |name: &str| figures[name].to_string();
    let [strikes, ok, unknown, gap] = ["strikes", "ok", "unknown", "gap_ms"].map(column);
    println!("{strikes:>7} {ok:>7} {unknown:>7} {gap:>9}  {}", figures["verdict"].as_str()?);
    if keep {
        println!("logs: {}", run.folder.display());
    } else {
        std::fs::remove_dir_all(&run.folder).expect("the run has ended");
    }
    Some(["ok", "unknown"].iter().filter_map(|name| figures[name].as_u64()).sum())
}

/// Whether a run with an object that loses writes is found to be bad, for that reason.
fn sees_what_is_wrong(run: &Run) -> bool {
    begin_row(run);
    let result = within(run);
    let seen = matches!(&result, Err(why) if why.contains("not linearizable"));
    let verdict = if seen { "loses writes, and that is seen".into() } else { red("BLIND") };
    println!("{:>33}  {verdict}", "");
    if !seen {
        println!("an object that loses writes was not seen: {result:?}");
    }
    seen
}

fn begin_row(run: &Run) {
    let disk = run.fault.disk(run.durable).name();
    print!("{:15} {:10} {disk:7} ", run.fault.name(), run.kind.name());
    stdout().flush().expect("somebody reads this");
}

/// The command that makes the same choices again.
fn again(run: &Run) -> String {
    let (fault, kind) = (run.fault.name(), run.kind.name());
    let durable = if run.durable { " --durable" } else { "" };
    let (seconds, seed) = (run.seconds, run.seed);
    format!(
        "scripts/torture --fault {fault} --kind {kind} --seconds {seconds} --seed {seed}{durable}"
    )
}

/// Runs it in namespaces of its own; its figures, or what is wrong.
fn within(run: &Run) -> Result<serde_json::Value, String> {
    clear(&run.folder);
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--pid", "--fork"]);
    command.args(["--kill-child", "--mount-proc", "--"]);
    command.arg(std::env::current_exe().expect("it is running")).arg("inside");
    command.args(["--fault", run.fault.name(), "--kind", run.kind.name()]);
    command.args(["--seconds", &run.seconds.to_string(), "--seed", &run.seed.to_string()]);
    command.args(["--python", &run.python]).arg("--objects").arg(&run.objects);
    command.arg("--folder").arg(&run.folder);
    if run.durable {
        command.arg("--durable");
    }
    let said = run.folder.join("run.log");
    let log = std::fs::File::create(&said).expect("the folder is there");
    command.env("RUST_BACKTRACE", "0");
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().expect("setpriv is installed (Debian: util-linux)");
    let limit = Duration::from_secs(run.seconds * 3 + 120);
    if !wait(&mut child, limit) {
        return Err(format!("it did not end within {limit:?}"));
    }
    let mut figures = String::new();
    let mut output = child.stdout.take().expect("it is piped");
    output.read_to_string(&mut figures).expect("figures are text");
    serde_json::from_str(&figures).map_err(|_| std::fs::read_to_string(&said).unwrap_or_default())
}

/// Waits until it ends by itself, for no longer than that; whether it did.
fn wait(child: &mut std::process::Child, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while child.try_wait().expect("it is a child").is_none() {
        if Instant::now() > end {
            child.kill().expect("it is a child");
            child.wait().expect("it is a child");
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

fn red(text: &str) -> String {
    if stdout().is_terminal() { format!("\x1b[31m{text}\x1b[0m") } else { text.into() }
}

/// Where runs leave what is worth a look.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("torture")
}

/// The one that was asked for, else that of the repository's own environment.
fn python(options: &Options) -> String {
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.venv/bin/python");
    let python = options.python.clone().unwrap_or_else(|| repository.into());
    python.to_str().expect("Python's folder has a plain name").into()
}
