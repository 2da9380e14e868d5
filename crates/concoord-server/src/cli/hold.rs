//! `concoord lock`, `semaphore` and `elect`: run a command while something is held.
//!
//! The command is ended when what it runs under is lost, or may be: before that it could write
//! what the next holder does not expect. What it writes to replicated objects is safe all the same
//! where it passes the token on.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use concoord::tokio::Client;
use concoord::{
    Arguments, Guard, Manner, ObjectName, Options as ClientOptions, State, Undo, UndoWhen, Value,
};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{interval, sleep, timeout};

use super::exit::{Exit, Failure};
use super::offspring::{keep_in_sight, offspring};
use super::output::note;
use super::{BOOTSTRAP, runtime, seconds};

/// How often it is looked at whether the session still lives.
const LOOK: Duration = Duration::from_millis(100);

/// How long the cluster may take to answer what is no waiting.
const ANSWER: Duration = Duration::from_secs(60);

/// How long after a SIGKILL is looked for what is left.
const KILL_AGAIN: Duration = Duration::from_millis(20);

/// How long what was killed may take to end: the system may have it wait for a disk.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// Longer than anybody waits.
const FOREVER: Duration = Duration::from_secs(1 << 30);

#[derive(Debug, clap::Args)]
pub(super) struct Common {
    /// Which one; made when it is first asked for
    name: String,
    /// The command, after two dashes
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    /// address:port of a replica, or several with commas between
    #[arg(short, long, value_name = "BOOTSTRAP", default_value = BOOTSTRAP)]
    boot: String,
    /// How long to wait for it at most, in seconds [default: for ever]
    #[arg(long, value_parser = seconds, value_name = "SECONDS")]
    timeout: Option<Duration>,
    /// How long the command may take to end by itself, once it is told to [default: 5]
    #[arg(long, value_parser = seconds, value_name = "SECONDS", default_value = "5")]
    grace: Duration,
}

/// Run a command while a lock is held
///
/// The command finds the fencing token in CONCOORD_TOKEN, the lock's name in CONCOORD_NAME and the
/// replicas in CONCOORD_BOOT. If the lock is lost, it and all that it has started are sent SIGTERM,
/// and SIGKILL after the grace.
#[derive(Debug, clap::Args)]
#[command(after_long_help = CODES)]
pub(super) struct Lock {
    #[command(flatten)]
    common: Common,
}

/// Run a command while a permit of a semaphore is held
///
/// As `concoord lock`, for several commands at once.
#[derive(Debug, clap::Args)]
#[command(after_long_help = CODES)]
pub(super) struct Semaphore {
    #[command(flatten)]
    common: Common,
    /// How many permits it has, where it is made by this
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    count: u32,
}

/// Run a command while this is the leader of an election
///
/// As `concoord lock`; the others who campaign, and who asks, see the value.
#[derive(Debug, clap::Args)]
#[command(after_long_help = CODES)]
pub(super) struct Elect {
    #[command(flatten)]
    common: Common,
    /// What the others see of the leader [default: this host's name and the process id]
    #[arg(long)]
    value: Option<String>,
}

/// The codes of these commands: that of the command itself, where it ran to its end.
const CODES: &str = "\
Exit codes:
  that of COMMAND, or 128 and the number of the signal that ended it
  2  bad arguments
  5  no replica answers
  8  refused, for example by a cluster without such objects
 11  not had within the timeout; the command was not run
 12  lost while the command ran, which was ended
126  the command can't be run
127  there is no such command";

/// What is held.
struct Thing {
    class: &'static str,
    /// What it is made with, if it is not there.
    made_with: Vec<Value>,
    acquire: (&'static str, Vec<Value>),
    release: &'static str,
}

pub(super) fn lock(options: &Lock) -> Result<u8, Failure> {
    let patience = options.common.patience();
    hold(
        &options.common,
        Thing {
            class: "concoord.object.lock.Lock",
            made_with: vec![],
            acquire: ("acquire", vec![Value::Bool(true), patience]),
            release: "release",
        },
    )
}

pub(super) fn semaphore(options: &Semaphore) -> Result<u8, Failure> {
    let patience = options.common.patience();
    hold(
        &options.common,
        Thing {
            class: "concoord.object.semaphore.Semaphore",
            made_with: vec![Value::Int(options.count.into())],
            acquire: ("acquire", vec![Value::Bool(true), patience]),
            release: "release",
        },
    )
}

pub(super) fn elect(options: &Elect) -> Result<u8, Failure> {
    let here = || {
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        format!("{host}:{}", std::process::id())
    };
    let value = options.value.clone().unwrap_or_else(here);
    let patience = options.common.patience();
    hold(
        &options.common,
        Thing {
            class: "concoord.object.election.Election",
            made_with: vec![],
            acquire: ("campaign", vec![Value::Str(value), patience]),
            release: "resign",
        },
    )
}

impl Common {
    /// The timeout as objects take it.
    fn patience(&self) -> Value {
        self.timeout.map_or(Value::None, |timeout| Value::Float(timeout.as_secs_f64()))
    }
}

fn hold(options: &Common, thing: Thing) -> Result<u8, Failure> {
    runtime()?.block_on(async {
        let mut signals = Signals::new()?;
        let connecting = ClientOptions { timeout: ANSWER, ..ClientOptions::default() };
        let client = tokio::select! {
            client = Client::connect(&options.boot, connecting) => client?,
            signal = signals.next() => return Ok(by_signal(signal)),
        };
        let held = tokio::select! {
            held = acquire(&client, options, &thing) => held?,
            // The session ends with this process, and with it the wait.
            signal = signals.next() => {
                client.close().await;
                return Ok(by_signal(signal));
            }
        };
        let Some((token, losses)) = held else {
            client.close().await;
            note(format!("concoord: {:?} was not to be had in time", options.name));
            return Ok(Exit::NotHad as u8);
        };
        let ended = run_under(&client, options, (token, losses), &mut signals).await;
        if !matches!(ended, Ok(Ended::Lost)) {
            release(&client, options, &thing, token).await;
        }
        client.close().await;
        ended.map(|ended| match ended {
            Ended::Itself(status) => code(status),
            Ended::Lost => Exit::Lost as u8,
        })
    })
}

fn manner(options: &Common, thing: &Thing) -> Manner {
    let object = ObjectName { class: thing.class.into(), name: options.name.clone() };
    let undo = Undo { method: thing.release.into(), takes_reply: false, when: UndoWhen::GotToken };
    Manner { object: Some(object), undo: Some(undo), ..Manner::default() }
}

/// The token, and how many sessions were lost before it was got; `None` where it was not to be had
/// in time.
async fn acquire(
    client: &Client,
    options: &Common,
    thing: &Thing,
) -> Result<Option<(u64, u64)>, Failure> {
    let manner = manner(options, thing);
    if !thing.made_with.is_empty() {
        let made_with = Arguments { positional: thing.made_with.clone(), keyword: vec![] };
        let plain = Manner { undo: None, ..manner.clone() };
        client.call_as(&plain, "__concoordcreate__", &made_with, ANSWER).await?;
    }
    let (method, positional) = thing.acquire.clone();
    let arguments = Arguments { positional, keyword: vec![] };
    loop {
        let before = losses(client).await;
        let token = as_token(&client.call_as(&manner, method, &arguments, ANSWER).await?);
        let Some(token) = token else { return Ok(None) };
        if losses(client).await == before {
            return Ok(Some((token, before)));
        }
        // A session ended meanwhile, and nobody knows whether this was got before or after.
        release(client, options, thing, token).await;
    }
}

fn as_token(value: &Value) -> Option<u64> {
    if let Value::Int(token) = value { (*token).try_into().ok() } else { None }
}

/// How many sessions of this client are over.
async fn losses(client: &Client) -> u64 {
    client.health().await.map_or(u64::MAX, |health| health.losses)
}

/// Releases what is held under that token, and nothing else.
async fn release(client: &Client, options: &Common, thing: &Thing, token: u64) {
    let manner = Manner { undo: None, ..manner(options, thing) };
    let guard = manner.object.clone().map(|object| Guard { object, token });
    let manner = Manner { guard, ..manner };
    // The end of the session releases it, too.
    let nothing = Arguments::default();
    let released = client.call_as(&manner, thing.release, &nothing, ANSWER);
    if let Ok(Err(error)) = timeout(options.grace, released).await {
        note(format!(
            "concoord: {:?} is released by the end of the session: {error}",
            options.name
        ));
    }
}

enum Ended {
    Itself(ExitStatus),
    Lost,
}

/// Runs the command until it ends, or what it runs under is lost.
async fn run_under(
    client: &Client,
    options: &Common,
    (token, losses): (u64, u64),
    signals: &mut Signals,
) -> Result<Ended, Failure> {
    let (program, arguments) = options.command.split_first().expect("a command is required");
    keep_in_sight();
    let mut child = Command::new(program)
        .args(arguments)
        .env("CONCOORD_TOKEN", token.to_string())
        .env("CONCOORD_NAME", &options.name)
        .env("CONCOORD_BOOT", &options.boot)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| {
            let exit = if error.kind() == std::io::ErrorKind::NotFound {
                Exit::NoCommand
            } else {
                Exit::NotRun
            };
            Failure::new(exit, format!("{}: {error}", program.to_string_lossy()))
        })?;
    let mut looks = interval(LOOK);
    loop {
        tokio::select! {
            status = child.wait() => return status.map(Ended::Itself).map_err(Failure::failed),
            signal = signals.next() => {
                if let Some(pid) = pid_of(&child) {
                    send(pid, signal);
                }
            }
            _ = looks.tick() => {
                let health = client.health().await;
                let is_lost = health.is_none_or(|health| {
                    health.losses > losses || health.state == State::Doubtful
                });
                if is_lost {
                    note(format!(
                        "concoord: {:?} is lost, or may be: the cluster did not answer for as long \
                         as a session lives; ending the command",
                        options.name
                    ));
                    end(&mut child, options.grace).await;
                    return Ok(Ended::Lost);
                }
            }
        }
    }
}

/// Ends the command and all that it has started: kindly at first.
async fn end(child: &mut Child, grace: Duration) {
    for pid in offspring() {
        send(pid, Signal::TERM);
    }
    if timeout(grace.min(FOREVER), ended(child)).await.is_ok() {
        return;
    }
    let kill = async {
        // Again and again: one may just have started another.
        while timeout(KILL_AGAIN, ended(child)).await.is_err() {
            offspring().into_iter().for_each(|pid| send(pid, Signal::KILL));
        }
    };
    if timeout(KILL_PATIENCE, kill).await.is_err() {
        let left = offspring();
        note(format!("concoord: not to be ended, though killed: processes {left:?}"));
    }
}

/// Returns once the command has ended, and all that it has started.
async fn ended(child: &mut Child) {
    // One that can't be waited for has ended.
    drop(child.wait().await);
    while !offspring().is_empty() {
        sleep(KILL_AGAIN).await;
    }
}

fn send(pid: Pid, signal: Signal) {
    if let Err(error) = kill_process(pid, signal) {
        tracing::debug!("process {pid} can't be signalled: {error}");
    }
}

fn pid_of(child: &Child) -> Option<Pid> {
    child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
}

/// As shells have it.
fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(Exit::Failed as u8)
}

fn by_signal(signal: Signal) -> u8 {
    u8::try_from(128 + signal.as_raw()).unwrap_or(Exit::Failed as u8)
}

/// What would end this program: passed on to the command while there is one.
struct Signals([(tokio::signal::unix::Signal, Signal); 3]);

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind, as_| std::io::Result::Ok((signal(kind)?, as_));
        let listen_all = || -> std::io::Result<_> {
            Ok([
                listen(SignalKind::interrupt(), Signal::INT)?,
                listen(SignalKind::terminate(), Signal::TERM)?,
                listen(SignalKind::hangup(), Signal::HUP)?,
            ])
        };
        listen_all().map(Self).map_err(|error: std::io::Error| Failure::failed(error))
    }

    async fn next(&mut self) -> Signal {
        let [(interrupt, int), (terminate, term), (hangup, hup)] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => *int,
            _ = terminate.recv() => *term,
            _ = hangup.recv() => *hup,
        }
    }
}
