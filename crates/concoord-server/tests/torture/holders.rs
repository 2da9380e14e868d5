//! Clients that contend for locks and write under their tokens, and the judgement of who held what.
//!
//! ```text
//! thread ─ acquire ─▶ lock ─ token ─▶ write, guarded by it ─▶ log of the lock ─▶ release
//!   │                                        ▲
//!   └─ after the release, or paused for longer than its session: refused
//! ```
//!
//! The log of a lock has the tokens in the order in which they were written under, so it shows by
//! itself whether a holder wrote after the next one.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write as _, stdin};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use concoord::{
    Arguments, Client, Error, Guard, Manner, ObjectName, Options, Refusal, Undo, UndoWhen, Value,
};
use rustix::process::{Pid, Signal, kill_process};

use crate::cluster::until;
use crate::holds::{Ended, Grant, Write, judge};
use crate::random::Random;

const LOCK: &str = "concoord.object.lock.Lock";
const LOG: &str = "concoord.object.log.Log";

/// Sessions, and threads of each that wait at the same time.
const CLIENTS: usize = 8;
const THREADS: usize = 4;

/// Locks that all contend for. One more is for those that are paused while they hold it: it
/// changes hands as seldom as sessions end.
const LOCKS: u64 = 3;
const PAUSED: u64 = LOCKS;

/// How long a call may take, the wait for a lock included: who waits longer was forgotten.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How many entries of a log are read at a time.
const PAGE: i64 = 10_000;

/// What is run in a process of its own, to be paused while it holds a lock.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Pausable {
    #[arg(long)]
    boot: String,
    /// What it writes before, and the number after that when it was paused
    #[arg(long)]
    number: i64,
}

/// The clients at work.
pub(crate) struct Holders {
    shared: Arc<Shared>,
    /// Where the record is kept, for whoever looks into a failure.
    file: PathBuf,
    threads: Vec<JoinHandle<()>>,
    /// When it was told to stop: after that it is quiet.
    stopped: u64,
}

struct Shared {
    bootstrap: String,
    begin: Instant,
    stop: AtomicBool,
    number: AtomicI64,
    /// Per thread.
    answered: Vec<AtomicU64>,
    record: Mutex<Record>,
    failed: OnceLock<String>,
}

#[derive(Debug, Default)]
struct Record {
    grants: Vec<Grant>,
    writes: Vec<Write>,
    /// When calls ended, and how many did so with an unknown outcome.
    ends: Vec<u64>,
    unknown: u64,
    /// Acquires that did not get it: at once, in time, or given up.
    without: u64,
    /// Holders that were paused for longer than their session.
    paused: u64,
}

impl Holders {
    pub(crate) fn start(bootstrap: String, seed: u64, file: PathBuf) -> Self {
        let shared = Arc::new(Shared {
            bootstrap,
            begin: Instant::now(),
            stop: AtomicBool::new(false),
            number: AtomicI64::new(0),
            answered: (0..CLIENTS * THREADS).map(|_| AtomicU64::new(0)).collect(),
            record: Mutex::default(),
            failed: OnceLock::new(),
        });
        let mut threads = Vec::new();
        for nth in 0..CLIENTS {
            let client = Arc::new(shared.client());
            for thread in nth * THREADS..(nth + 1) * THREADS {
                let random = Random::new(seed.wrapping_add(thread as u64));
                let (shared, client) = (Arc::clone(&shared), Arc::clone(&client));
                let turns =
                    move || Contender { shared: &shared, client: &client, random }.run(thread);
                threads.push(thread::spawn(turns));
            }
        }
        let late = Arc::clone(&shared);
        threads.push(thread::spawn(move || late.pause_holders()));
        Self { shared, file, threads, stopped: u64::MAX }
    }

    /// Waits until each thread has had answers to calls that it made after this moment.
    pub(crate) fn goes_on(&self) {
        let counts = || self.shared.answered.iter().map(|count| count.load(Relaxed));
        // The first of them may have been under way.
        let goals: Vec<u64> = counts().map(|count| count + 2).collect();
        until("each thread's calls go on", || {
            self.check();
            counts().zip(&goals).all(|(count, goal)| count >= *goal)
        });
    }

    /// Panics if a call ended as none may.
    pub(crate) fn check(&self) {
        assert_eq!(self.shared.failed.get(), None);
    }

    /// Ends the load: everybody who waits gets the lock, and in the end nobody holds any.
    pub(crate) fn stop(&mut self) {
        self.stopped = self.shared.now();
        self.shared.stop.store(true, Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a client does not panic");
        }
        self.check();
        let client = self.shared.client();
        for lock in 0..=PAUSED {
            until(&format!("lock {lock} is free"), || is_free(&client, lock));
        }
    }

    /// The figures of a good record; panics where it is none.
    pub(crate) fn judge(&self, strikes: u64) -> serde_json::Value {
        self.keep();
        let client = self.shared.client();
        let record = self.shared.record();
        assert!(record.paused > 0, "no holder was paused for longer than its session");
        for lock in 0..=PAUSED {
            let judged = judge(lock, &record.grants, &record.writes, &log(&client, lock));
            judged.unwrap_or_else(|why| panic!("lock {lock}: {why}"));
        }
        let mut ends = record.ends.clone();
        ends.sort_unstable();
        let busy = &ends[..ends.partition_point(|end| *end < self.stopped)];
        let gap = busy.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
        let refused = record.writes.iter().filter(|write| write.ended == Ended::Refused).count();
        let verdict = format!(
            "one holder: {} tokens, {} went without, {refused} writes refused, {} paused",
            record.grants.len(),
            record.without,
            record.paused,
        );
        serde_json::json!({
            "strikes": strikes,
            "ok": ends.len(),
            "unknown": record.unknown,
            "gap_ms": gap / 1_000_000,
            "verdict": verdict,
        })
    }

    /// Writes the record down, one event a line.
    fn keep(&self) {
        let mut file = BufWriter::new(File::create(&self.file).expect("its folder is there"));
        let record = self.shared.record();
        let lines = record.grants.iter().map(|grant| format!("{grant:?}"));
        for line in lines.chain(record.writes.iter().map(|write| format!("{write:?}"))) {
            writeln!(file, "{line}").expect("there is room");
        }
        file.flush().expect("there is room");
    }
}

impl Drop for Holders {
    fn drop(&mut self) {
        if thread::panicking() {
            self.keep();
        }
    }
}

impl Shared {
    fn client(&self) -> Client {
        connect(&self.bootstrap)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_nanos()).expect("a run is short")
    }

    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_over(&self) -> bool {
        self.stop.load(Relaxed) || self.failed.get().is_some()
    }

    /// Waits for the lock of one that holds it and is paused, and has that one write once it runs
    /// again, while the lock is held here.
    fn pause_holders(&self) {
        let client = self.client();
        let mut contender = Contender { shared: self, client: &client, random: Random::new(0) };
        // It is worth the wait for one.
        while !self.is_over() || self.failed.get().is_none() && self.record().paused == 0 {
            let number = self.number.fetch_add(2, Relaxed);
            let mut paused = Paused::start(&self.bootstrap, number);
            let asked = self.now();
            let Some(said) = paused.says() else { continue };
            let (token, first) = said.split_once(' ').expect("it says both");
            let token = token.parse().expect("a token is a number");
            let first = outcome(first);
            let got = self.now();
            paused.signal(Signal::STOP);
            self.record().grants.push(Grant {
                lock: PAUSED,
                token,
                got,
                held: asked,
                is_released: false,
            });
            let grant = contender.acquire(PAUSED, &Patience::Forever);
            paused.signal(Signal::CONT);
            let ended = paused.ends();
            let write =
                |number, is_late, ended| Write { lock: PAUSED, token, number, is_late, ended };
            let mut record = self.record();
            record.writes.push(write(number, false, first));
            // Where nobody took over, it may still hold it.
            record.writes.push(write(number + 1, grant.is_some(), ended));
            record.paused += u64::from(grant.is_some() && ended == Ended::Refused);
            record.ends.push(self.now());
            drop(record);
            if let Some(grant) = grant {
                contender.hold(grant);
            }
        }
    }
}

fn connect(bootstrap: &str) -> Client {
    let options = Options { class: Some(LOCK.into()), timeout: TIMEOUT, name: "0".into() };
    Client::lazy(bootstrap, options).expect("addresses can be understood")
}

/// How long an acquire waits.
enum Patience {
    Forever,
    None,
    Ms(u64),
    /// Until its caller wants it no more.
    CancelledAfter(Duration),
}

/// One thread of one client.
struct Contender<'a> {
    shared: &'a Shared,
    client: &'a Client,
    random: Random,
}

impl Contender<'_> {
    fn run(mut self, nth: usize) {
        while !self.shared.is_over() {
            let lock = self.random.below(LOCKS);
            let patience = match self.random.below(10) {
                0 => Patience::None,
                1 | 2 => Patience::Ms(1 + self.random.below(300)),
                3 => Patience::CancelledAfter(Duration::from_millis(self.random.below(150))),
                _ => Patience::Forever,
            };
            if let Some(grant) = self.acquire(lock, &patience) {
                self.hold(grant);
            }
            self.shared.answered[nth].fetch_add(1, Relaxed);
        }
    }

    /// Writes a few times, gives it back, and now and then writes once more.
    fn hold(&mut self, mut grant: Grant) {
        for _ in 0..=self.random.below(3) {
            let began = self.shared.now();
            if self.write(&grant, false) == Ended::Done {
                grant.held = began;
            }
        }
        self.release(&mut grant);
        if grant.is_released && self.random.below(4) == 0 {
            self.write(&grant, true);
        }
        self.shared.record().grants.push(grant);
    }

    fn acquire(&mut self, lock: u64, patience: &Patience) -> Option<Grant> {
        let positional = match patience {
            Patience::Forever | Patience::CancelledAfter(_) => vec![],
            Patience::None => vec![Value::Bool(false)],
            Patience::Ms(ms) => vec![Value::Bool(true), Value::Float(*ms as f64 / 1000.0)],
        };
        let manner = Manner {
            object: Some(name(LOCK, lock)),
            undo: Some(Undo {
                method: "release".into(),
                takes_reply: false,
                when: UndoWhen::GotToken,
            }),
            ..Manner::default()
        };
        let (asked, began) = (self.shared.now(), Instant::now());
        let mut is_unwanted = || match patience {
            Patience::CancelledAfter(after) => began.elapsed() >= *after,
            _ => false,
        };
        let arguments = Arguments { positional, keyword: vec![] };
        let result = self.client.call_as(&manner, "acquire", &arguments, TIMEOUT, &mut is_unwanted);
        let got = self.ended();
        match result {
            Ok(Value::Int(token)) => {
                let token = token.cast_unsigned();
                let held = asked;
                return Some(Grant { lock, token, got, held, is_released: false });
            }
            Ok(Value::Bool(false)) if !matches!(patience, Patience::Forever) => {
                self.shared.record().without += 1;
            }
            Err(Error::Interrupted) if matches!(patience, Patience::CancelledAfter(_)) => {
                self.shared.record().without += 1;
            }
            Err(Error::SessionExpired) => self.shared.record().unknown += 1,
            other => self.fail("acquire", lock, &other),
        }
        None
    }

    fn write(&self, grant: &Grant, is_late: bool) -> Ended {
        let (lock, token) = (grant.lock, grant.token);
        let number = self.shared.number.fetch_add(1, Relaxed);
        let result = write(self.client, lock, token, number);
        self.ended();
        let ended = match &result {
            Ok(_) => Ended::Done,
            Err(Error::Refusal(Refusal::Fenced { .. })) => Ended::Refused,
            Err(error) => {
                if *error != Error::SessionExpired {
                    self.fail("write", lock, &result);
                }
                self.shared.record().unknown += 1;
                Ended::Unknown
            }
        };
        self.shared.record().writes.push(Write { lock, token, number, is_late, ended });
        ended
    }

    /// Gives it back, if it is still held.
    fn release(&self, grant: &mut Grant) {
        let manner = Manner {
            object: Some(name(LOCK, grant.lock)),
            guard: Some(guard(grant.lock, grant.token)),
            ..Manner::default()
        };
        let began = self.shared.now();
        let arguments = Arguments::default();
        let result = self.client.call_as(&manner, "release", &arguments, TIMEOUT, &mut || false);
        self.ended();
        match result {
            Ok(_) => (grant.held, grant.is_released) = (began, true),
            Err(Error::Refusal(Refusal::Fenced { .. })) => {}
            Err(Error::SessionExpired) => self.shared.record().unknown += 1,
            other => self.fail("release", grant.lock, &other),
        }
    }

    /// Notes that a call has ended, and when.
    fn ended(&self) -> u64 {
        let now = self.shared.now();
        self.shared.record().ends.push(now);
        now
    }

    fn fail(&self, what: &str, lock: u64, result: &Result<Value, Error>) {
        let said = format!("{what} of lock {lock}: {result:?}");
        self.shared.failed.set(said).unwrap_or_default();
    }
}

fn name(class: &str, lock: u64) -> ObjectName {
    ObjectName { class: class.into(), name: lock.to_string() }
}

fn guard(lock: u64, token: u64) -> Guard {
    Guard { object: name(LOCK, lock), token }
}

/// Appends the token and a number to the lock's log, if the lock is held under that token.
fn write(client: &Client, lock: u64, token: u64, number: i64) -> Result<Value, Error> {
    let manner = Manner {
        object: Some(name(LOG, lock)),
        guard: Some(guard(lock, token)),
        ..Manner::default()
    };
    let entry = Value::Tuple(vec![Value::Int(token.cast_signed()), Value::Int(number)]);
    let arguments = Arguments { positional: vec![entry], keyword: vec![] };
    client.call_as(&manner, "append", &arguments, TIMEOUT, &mut || false)
}

fn read(client: &Client, class: &str, lock: u64, method: &str, positional: Vec<Value>) -> Value {
    let manner = Manner { object: Some(name(class, lock)), ..Manner::default() };
    let arguments = Arguments { positional, keyword: vec![] };
    let result = client.call_as(&manner, method, &arguments, TIMEOUT, &mut || false);
    result.expect("nothing is wrong any more")
}

fn is_free(client: &Client, lock: u64) -> bool {
    read(client, LOCK, lock, "locked", vec![]) == Value::Bool(false)
}

/// The tokens and numbers that were written.
fn log(client: &Client, lock: u64) -> Vec<(u64, i64)> {
    let mut entries = Vec::new();
    loop {
        let from = i64::try_from(entries.len()).expect("they are few");
        let page = read(client, LOG, lock, "read", vec![Value::Int(from), Value::Int(PAGE)]);
        let Value::List(page) = page else { panic!("{page:?}") };
        if page.is_empty() {
            return entries;
        }
        entries.extend(page.iter().map(|entry| match entry {
            Value::Tuple(pair) => match pair[..] {
                [Value::Int(token), Value::Int(number)] => (token.cast_unsigned(), number),
                _ => panic!("{entry:?}"),
            },
            _ => panic!("{entry:?}"),
        }));
    }
}

impl Pausable {
    /// Holds the lock, says its token, and writes again once there is a line to read.
    #[expect(clippy::print_stdout, reason = "who started this process reads it")]
    pub(crate) fn run(&self) -> ExitCode {
        let client = connect(&self.boot);
        let token = read(&client, LOCK, PAUSED, "acquire", vec![]);
        let Value::Int(token) = token else { panic!("{token:?}") };
        let token = token.cast_unsigned();
        println!("{token} {:?}", write(&client, PAUSED, token, self.number));
        stdin().read_line(&mut String::new()).expect("it is a pipe");
        let mut late = write(&client, PAUSED, token, self.number + 1);
        if late == Err(Error::SessionExpired) {
            // Then another session makes it, which knows the token.
            late = write(&client, PAUSED, token, self.number + 1);
        }
        println!("{late:?}");
        ExitCode::SUCCESS
    }
}

/// A process that holds a lock.
struct Paused {
    child: Child,
    said: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

impl Paused {
    fn start(bootstrap: &str, number: i64) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("it is running"));
        command.args(["pausable", "--boot", bootstrap, "--number", &number.to_string()]);
        let command = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("it is this program");
        let output = child.stdout.take().expect("it is piped");
        Self { child, said: BufReader::new(output).lines() }
    }

    fn says(&mut self) -> Option<String> {
        self.said.next()?.ok()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it lives");
    }

    /// Has it write late; what became of that.
    fn ends(&mut self) -> Ended {
        drop(self.child.stdin.take());
        self.says().as_deref().map_or(Ended::Unknown, outcome)
    }
}

/// What a process said of a write.
fn outcome(said: &str) -> Ended {
    match said {
        done if done.starts_with("Ok") => Ended::Done,
        refused if refused.contains("Fenced") => Ended::Refused,
        _ => Ended::Unknown,
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}
