//! Our side of the worker: the process that hosts an object which does not live in ours.
//!
//! Whatever the object does, it does it to that process only. Here it is started, fed, listened
//! to, killed when it takes too long, and replaced; the [`Journal`] knows what its successor must
//! be told.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::env;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::process::Stdio;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use concoord_core::limits::FRAME_BYTES_MAX;
use concoord_core::object::Interface;
use concoord_core::replica::{Event, WorkerAction};
use concoord_core::wire::{FromWorker, ToWorker, Written, read_message, take_frame, write_frame};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::config::WorkerSpec;
use crate::connection::{ReadError, Reader};
use crate::journal::{Journal, Next};
use crate::steps::{of_answer, reach};
use crate::task::Task;
use crate::worker::states::States;

/// Bytes that are written to the worker at once.
const WRITE_BYTES: usize = 256 << 10;

/// How long to wait before a worker is started in place of one that died; doubled each time, so
/// that one which always does costs little.
const RESTART_PAUSE: Duration = Duration::from_millis(100);

/// The longest such wait, and how long a worker must live to be none of those.
const RESTART_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long the last words of a worker that ended may take to arrive.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Lines of the worker's standard error that an error message quotes.
const TAIL_LINES: usize = 12;

/// Bytes of a line of the worker's output; a longer one is cut.
const LINE_BYTES_MAX: usize = 4 << 10;

/// Why the object could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The program that hosts it can't be started.
    #[error("{program} can't be started to host {class}: {source}")]
    Start {
        /// The program.
        program: String,
        /// The class.
        class: String,
        /// What the system says.
        source: io::Error,
    },
    /// The worker runs, but has no such object.
    #[error("{0}")]
    NotLoaded(String),
    /// The worker ended, or spoke something else.
    #[error("the worker ended while it loaded {class}: {reason}")]
    Ended {
        /// The class.
        class: String,
        /// How it ended, and its last words.
        reason: String,
    },
    /// It takes too long.
    #[error("{class} did not load within {timeout:?}: does its module wait for something?")]
    TimedOut {
        /// The class.
        class: String,
        /// How long was waited.
        timeout: Duration,
    },
}

/// What a worker said of the object it loaded.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) interfaces: Vec<Interface>,
    pub(crate) runtime: String,
}

/// The worker, whichever process it is now.
pub(crate) struct Worker {
    host: Rc<Host>,
    _supervisor: Task,
}

struct Host {
    spec: WorkerSpec,
    /// What the first worker said; one that says otherwise hosts another object.
    runtime: String,
    journal: RefCell<Journal>,
    changed: Notify,
    deliver: RefCell<Box<dyn Fn(Event)>>,
}

impl Worker {
    /// Starts a worker that has loaded the object.
    pub(crate) async fn load(spec: WorkerSpec) -> Result<(Self, Loaded), LoadError> {
        let (process, loaded) = start(&spec).await?;
        let host = Rc::new(Host {
            journal: RefCell::new(Journal::new(spec.apply_timeout, spec.load_timeout)),
            spec,
            runtime: loaded.runtime.clone(),
            changed: Notify::new(),
            deliver: RefCell::new(Box::new(|_| {})),
        });
        let _supervisor = Task::spawn(supervise(Rc::clone(&host), process));
        Ok((Self { host, _supervisor }, loaded))
    }

    /// Names who is told of what the worker answers; to be called before anything is asked.
    pub(crate) fn deliver_to(&self, deliver: impl Fn(Event) + 'static) {
        *self.host.deliver.borrow_mut() = Box::new(deliver);
    }

    /// Asks, in order; the answer is delivered.
    pub(crate) fn ask(&self, action: WorkerAction) {
        let told = self.host.journal.borrow_mut().ask(action);
        self.host.tell(told);
        self.host.free_outdated();
        self.host.changed.notify_one();
    }
}

/// Keeps a worker running, until it is dropped.
async fn supervise(host: Rc<Host>, mut process: Process) {
    let mut pause = RESTART_PAUSE;
    loop {
        let started = Instant::now();
        let reason = host.live(&mut process).await;
        process.kill().await;
        let told = host.journal.borrow_mut().end_life();
        tracing::warn!("the worker of {} is replaced: {reason}", host.spec.name());
        host.tell(told);
        if started.elapsed() > RESTART_PAUSE_MAX {
            pause = RESTART_PAUSE;
        }
        process = host.replace(&mut pause).await;
    }
}

impl Host {
    fn tell(&self, event: Option<Event>) {
        if let Some(event) = event {
            reach(of_answer(&event));
            (self.deliver.borrow())(event);
        }
    }

    /// Serves a worker until it must be replaced; says why.
    async fn live(self: &Rc<Self>, process: &mut Process) -> String {
        let Process { child, reader, writer, states, tail, .. } = process;
        let ended = tokio::select! {
            ended = self.write(writer, states) => ended,
            error = self.read(reader, states) => error,
            reason = self.overdue(states) => return reason,
            ended = child.wait() => describe(ended),
        };
        let tail = tail.borrow().join();
        if tail.is_empty() { ended } else { format!("{ended}; it said: {tail}") }
    }

    /// Writes what is to be sent; ends when the worker can't be written to or is of no use.
    async fn write(&self, writer: &mut OwnedWriteHalf, states: &RefCell<States>) -> String {
        let mut out = BytesMut::new();
        loop {
            if self.journal.borrow().is_spoilt() {
                return "its state has seen a call that is to be skipped".into();
            }
            if self.journal.borrow().has_failed() {
                return "it could not take the state in".into();
            }
            let next = self.journal.borrow_mut().send(Instant::now(), &mut out);
            if next == Next::Frame && out.len() < WRITE_BYTES {
                continue;
            }
            if next == Next::Nothing && out.is_empty() {
                self.changed.notified().await;
                continue;
            }
            if let Err(error) = send(next, &mut out, writer, states).await {
                return format!("it can't be written to: {error}");
            }
        }
    }

    /// Takes in what the worker says, until it says nothing more.
    async fn read(
        self: &Rc<Self>,
        reader: &mut Reader<OwnedReadHalf>,
        states: &RefCell<States>,
    ) -> String {
        loop {
            let said = match next(reader).await {
                Ok(FromWorker::Snapshot(number, written)) => {
                    self.take_state(number, written, states);
                    continue;
                }
                Ok(said) => said,
                Err(error) => return error.to_string(),
            };
            let heard = self.journal.borrow_mut().hear(said, Instant::now());
            match heard {
                Ok(told) => self.tell(told),
                Err(error) => return error.to_string(),
            }
            self.changed.notify_one();
        }
    }

    /// Takes a state in that the worker has written, as soon as it is all here.
    fn take_state(
        self: &Rc<Self>,
        number: u64,
        written: Result<Written, String>,
        states: &RefCell<States>,
    ) {
        let mut states = states.borrow_mut();
        let Some(reading) = states.take(number) else { return };
        let host = Rc::clone(self);
        states.keep(Task::spawn(async move {
            let state = reading.end(written).await;
            let told = host.journal.borrow_mut().hear_state(number, state);
            host.tell(told);
            host.free_outdated();
            host.changed.notify_one();
        }));
    }

    /// To free hundreds of megabytes takes tens of milliseconds: of another thread.
    fn free_outdated(&self) {
        let outdated = self.journal.borrow_mut().take_outdated();
        if !outdated.is_empty() {
            spawn_blocking(move || drop(outdated));
        }
    }

    /// Returns once the worker takes too long for something, and says for what.
    async fn overdue(&self, states: &RefCell<States>) -> String {
        loop {
            match self.time_left(states) {
                Ok(left) => sleep(left).await,
                Err(reason) => return reason,
            }
        }
    }

    /// When to look at it again, or what it takes too long for.
    fn time_left(&self, states: &RefCell<States>) -> Result<Duration, String> {
        let WorkerSpec { apply_timeout, load_timeout, .. } = self.spec;
        // What begins meanwhile, whatever it is, ends no earlier than we look again.
        let shortest = apply_timeout.min(load_timeout);
        let (now, journal) = (Instant::now(), self.journal.borrow());
        let left = journal.time_left(now).unwrap_or(shortest);
        if left.is_zero() {
            return Err(format!("what it was asked took longer than {apply_timeout:?}"));
        }
        let stalled = states.borrow_mut().stalled(now, |number| journal.has_begun(number));
        if stalled > load_timeout {
            return Err(format!("nothing came of its state for {load_timeout:?}"));
        }
        Ok(left.min(shortest))
    }

    /// Starts a worker in place of the one that ended, once one is of use.
    async fn replace(&self, pause: &mut Duration) -> Process {
        let mut failed = false;
        loop {
            sleep(*pause).await;
            *pause = RESTART_PAUSE_MAX.min(*pause * 2);
            while self.journal.borrow().has_failed() {
                self.changed.notified().await;
            }
            let reason = match start(&self.spec).await {
                Ok((process, loaded)) if loaded.runtime == self.runtime => {
                    self.tell(failed.then_some(Event::Hosting(Ok(()))));
                    return process;
                }
                Ok(_) => format!(
                    "{} is not what this replica was started with any more, and the other replicas \
                     would have another object: put its source back, or start this replica again",
                    self.spec.name()
                ),
                Err(error) => error.to_string(),
            };
            failed = true;
            self.tell(Some(Event::Hosting(Err(reason))));
        }
    }
}

/// Sends all that waits in `out`, and what comes next.
async fn send(
    next: Next,
    out: &mut BytesMut,
    writer: &mut OwnedWriteHalf,
    states: &RefCell<States>,
) -> io::Result<()> {
    match next {
        Next::Frame | Next::Nothing => writer.write_all_buf(out).await,
        Next::Take(asked, number) => {
            write_frame(&asked, out);
            let pipe = states.borrow_mut().read(number)?;
            states::send(writer, out, pipe).await
        }
        Next::Give(state) => {
            write_frame(&ToWorker::Restore, out);
            states::send(writer, out, states::write(state)?).await
        }
    }
}

/// The worker's next message.
async fn next(reader: &mut Reader<OwnedReadHalf>) -> Result<FromWorker, ReadError> {
    loop {
        if let Some(frame) = take_frame(&mut reader.pending, FRAME_BYTES_MAX)? {
            return Ok(read_message(&frame)?);
        }
        reader.fill().await?;
    }
}

/// A worker's process, and our end of the socket to it.
struct Process {
    child: Child,
    reader: Reader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
    states: RefCell<States>,
    tail: Rc<RefCell<Tail>>,
    logs: [Task; 2],
}

impl Process {
    /// Ends it, and whatever it has forked.
    async fn kill(&mut self) {
        self.states.take();
        self.kill_group();
        if let Err(error) = self.child.kill().await {
            tracing::debug!("the worker can't be killed: {error}");
        }
    }

    fn kill_group(&self) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid
            && let Err(error) = kill_process_group(pid, Signal::KILL)
        {
            tracing::debug!("the worker's group can't be killed: {error}");
        }
    }

    /// How it ended, with its last words.
    async fn last_words(&mut self) -> String {
        let ended = match timeout(LAST_WORDS, self.child.wait()).await {
            Ok(ended) => describe(ended),
            Err(_) => "it closed its socket".into(),
        };
        let [stdout, stderr] = &mut self.logs;
        // What it has forked may hold the pipes open: not for ever.
        let _late = timeout(LAST_WORDS, async { tokio::join!(stdout.over(), stderr.over()) }).await;
        let tail = self.tail.borrow().join();
        if tail.is_empty() { ended } else { format!("{ended}; it said: {tail}") }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_group();
    }
}

fn describe(ended: io::Result<std::process::ExitStatus>) -> String {
    match ended {
        Ok(status) => format!("it ended ({status})"),
        Err(error) => format!("it can't be waited for: {error}"),
    }
}

/// Starts a process and has it load the object.
async fn start(spec: &WorkerSpec) -> Result<(Process, Loaded), LoadError> {
    let class = || spec.name();
    let mut process = spawn(spec).map_err(|source| {
        let program = spec.command.first().map(|program| program.to_string_lossy().into_owned());
        LoadError::Start { program: program.unwrap_or_default(), class: class(), source }
    })?;
    let said = timeout(spec.load_timeout, load(&mut process, spec.classes.clone())).await;
    let Ok(said) = said else {
        return Err(LoadError::TimedOut { class: class(), timeout: spec.load_timeout });
    };
    match said {
        Ok(FromWorker::Loaded { interfaces, runtime }) => {
            Ok((process, Loaded { interfaces, runtime }))
        }
        Ok(FromWorker::NotLoaded(reason)) => Err(LoadError::NotLoaded(reason)),
        Ok(_) => Err(LoadError::Ended { class: class(), reason: "it spoke out of turn".into() }),
        Err(ReadError::Closed | ReadError::Socket(_)) => {
            Err(LoadError::Ended { class: class(), reason: process.last_words().await })
        }
        Err(error @ ReadError::Frame(_)) => {
            Err(LoadError::Ended { class: class(), reason: error.to_string() })
        }
    }
}

async fn load(process: &mut Process, classes: Vec<String>) -> Result<FromWorker, ReadError> {
    let mut frame = BytesMut::new();
    write_frame(&ToWorker::Load { classes }, &mut frame);
    process.writer.write_all_buf(&mut frame).await?;
    next(&mut process.reader).await
}

fn spawn(spec: &WorkerSpec) -> io::Result<Process> {
    let (ours, theirs) = Socket::pair()?;
    ours.set_nonblocking(true)?;
    let (reader, writer) = UnixStream::from_std(ours)?.into_split();
    let (program, arguments) = spec.command.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child = Command::new(program)
        .args(arguments)
        .env("PYTHONHASHSEED", "0")
        .env("PYTHONPATH", python_path()?)
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .env(TUNABLES, tunables())
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A group of its own: Ctrl-C is for the replica, which must first leave the view.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let tail = Rc::new(RefCell::new(Tail::default()));
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let logs = [
        Task::spawn(log(stdout.expect("it is piped"), None)),
        Task::spawn(log(stderr.expect("it is piped"), Some(Rc::clone(&tail)))),
    ];
    Ok(Process {
        child,
        reader: Reader::new(reader),
        writer,
        states: RefCell::default(),
        tail,
        logs,
    })
}

/// What tells the C library how to take memory.
const TUNABLES: &str = "GLIBC_TUNABLES";

/// As the user says, and in huge pages: a worker with half a gigabyte forks in one millisecond
/// instead of thirty.
fn tunables() -> OsString {
    const HUGE_PAGES: &str = "glibc.malloc.hugetlb=1";
    let mut tunables = env::var_os(TUNABLES).unwrap_or_default();
    if !tunables.is_empty() {
        tunables.push(":");
    }
    tunables.push(HUGE_PAGES);
    tunables
}

/// Where modules are found: as the user says, then in the current folder.
fn python_path() -> io::Result<OsString> {
    let given = env::var_os("PYTHONPATH").unwrap_or_default();
    let folders = env::split_paths(&given).filter(|folder| !folder.as_os_str().is_empty());
    let all = folders.chain([env::current_dir()?]);
    env::join_paths(all).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
}

/// The last lines that a worker wrote to its standard error.
#[derive(Default)]
struct Tail(VecDeque<String>);

impl Tail {
    fn push(&mut self, line: String) {
        if self.0.len() == TAIL_LINES {
            self.0.pop_front();
        }
        self.0.push_back(line);
    }

    fn join(&self) -> String {
        self.0.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// Makes what a worker prints lines of our log.
async fn log(pipe: impl AsyncRead + Unpin, tail: Option<Rc<RefCell<Tail>>>) {
    let mut reader = Reader::new(pipe);
    loop {
        let ended = reader.fill().await.is_err();
        while let Some(line) = take_line(&mut reader.pending, ended) {
            tracing::info!(target: "worker", "{line}");
            if let Some(tail) = &tail {
                tail.borrow_mut().push(line);
            }
        }
        if ended {
            return;
        }
    }
}

fn take_line(from: &mut BytesMut, ended: bool) -> Option<String> {
    let end = from.iter().take(LINE_BYTES_MAX).position(|byte| *byte == b'\n');
    let line = match end {
        Some(end) => from.split_to(end + 1),
        None if from.len() >= LINE_BYTES_MAX => from.split_to(LINE_BYTES_MAX),
        None if ended && !from.is_empty() => from.split(),
        None => return None,
    };
    Some(String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[cfg(test)]
mod fake;
mod states;
#[cfg(test)]
mod tests;
