//! Clients that call as fast as they may, and keep a record.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use concoord::{Arguments, Client, Error, Options, Value};

use crate::cluster::until;
use crate::history::{Answer, Call, Operation};
use crate::random::Random;

/// Clients that call at the same time.
const CLIENTS: usize = 6;

/// The longest pause between two calls of a client. It keeps histories short enough to be checked.
const PAUSE_MS: u64 = 8;

/// How long a call may take. Half of the clients are patient; the others give up in the middle of
/// a fault, so that histories hold calls that nobody knows the outcome of.
const TIMEOUTS: [Duration; 2] = [Duration::from_secs(60), Duration::from_millis(900)];

/// Calls in a row without an answer that are too many: of an impatient client they take longer than
/// any fault.
const STALLED: usize = 30;

/// What is replicated, and so what is asked of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Register,
    Counter,
    FetchAdd,
    Queue,
    Lock,
    /// Many locks, and what is written under their tokens: see [`crate::holders`].
    Holders,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Register, Self::Counter, Self::FetchAdd, Self::Queue, Self::Lock, Self::Holders];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::Counter => "counter",
            Self::FetchAdd => "fetch-add",
            Self::Queue => "queue",
            Self::Lock => "lock",
            Self::Holders => "holders",
        }
    }

    /// What replicas are started with.
    pub(crate) const fn class(self) -> &'static str {
        match self {
            Self::Register => "objects.Register",
            Self::Counter => concoord::object::Counter::CLASS,
            Self::FetchAdd => "objects.FetchAdd",
            Self::Queue => "objects.Queue",
            Self::Lock => "objects.Lock",
            Self::Holders => "concoord.object.lock.Lock",
        }
    }

    /// How many calls a key gets before the next key is used. Of items that were put into a queue
    /// at the same time the order shows late, so its histories are short; a stock counter has one.
    const fn calls_per_key(self) -> u64 {
        match self {
            Self::Register | Self::FetchAdd | Self::Lock => 100,
            Self::Queue => 40,
            Self::Counter | Self::Holders => u64::MAX,
        }
    }

    /// What shows the state under a key once nobody else calls any more.
    const fn last(self) -> Call {
        match self {
            Self::Register | Self::Counter | Self::Holders => Call::Read,
            Self::FetchAdd => Call::Add(0),
            Self::Queue => Call::Dequeue,
            Self::Lock => Call::Acquire(-1),
        }
    }
}

/// Makes the log grow by more than a replica has room made for: calls with large arguments that
/// mean nothing, but are logged and refused by the object like any other.
pub(crate) fn burden(kind: Kind, bootstrap: &str) {
    const CALLS: usize = 16;
    const BYTES: usize = 3 << 20;
    let options =
        Options { class: Some(kind.class().into()), timeout: TIMEOUTS[0], ..Options::default() };
    let client = Client::connect(bootstrap, options).expect("the majority serves");
    let positional = vec![Value::Bytes(vec![0; BYTES])];
    let arguments = Arguments { positional, keyword: vec![] };
    let method = match kind {
        Kind::Register => "write",
        Kind::Counter => "increment",
        Kind::FetchAdd => "add",
        Kind::Queue => "enqueue",
        Kind::Lock => "acquire",
        Kind::Holders => "release",
    };
    for _ in 0..CALLS {
        let result = client.call(method, &arguments);
        assert!(matches!(result, Err(Error::Raised(_))), "{result:?}");
    }
}

/// The clients at work.
pub(crate) struct Load {
    shared: Arc<Shared>,
    /// Where the history is kept, for whoever looks into a failure.
    file: PathBuf,
    clients: Vec<JoinHandle<()>>,
}

struct Shared {
    kind: Kind,
    bootstrap: String,
    begin: Instant,
    stop: AtomicBool,
    calls: AtomicU64,
    /// Per client.
    answered: Vec<AtomicU64>,
    history: Mutex<Vec<Operation>>,
    failed: OnceLock<String>,
}

impl Load {
    pub(crate) fn start(kind: Kind, bootstrap: String, seed: u64, file: PathBuf) -> Self {
        let shared = Arc::new(Shared {
            kind,
            bootstrap,
            begin: Instant::now(),
            stop: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            answered: (0..CLIENTS).map(|_| AtomicU64::new(0)).collect(),
            history: Mutex::new(Vec::new()),
            failed: OnceLock::new(),
        });
        let start = |nth| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || Caller::new(&shared, nth, seed).run())
        };
        let clients = (0..CLIENTS).map(start).collect();
        Self { shared, file, clients }
    }

    /// Waits until each client has had answers to calls that it made after this moment.
    pub(crate) fn goes_on(&self) {
        let counts = || self.shared.answered.iter().map(|count| count.load(Relaxed));
        // The first of them may have been under way.
        let goals: Vec<u64> = counts().map(|count| count + 2).collect();
        until("each client's calls go on", || {
            self.check();
            counts().zip(&goals).all(|(count, goal)| count >= *goal)
        });
    }

    /// Panics if a call ended as none may.
    pub(crate) fn check(&self) {
        assert_eq!(self.shared.failed.get(), None);
    }

    /// Ends the load, and looks what is under each key.
    pub(crate) fn stop(mut self) -> Vec<Operation> {
        self.shared.stop.store(true, Relaxed);
        for client in self.clients.drain(..) {
            client.join().expect("a client does not panic");
        }
        let mut last = Caller::new(&self.shared, CLIENTS, 0);
        for key in 0..=self.shared.key() {
            while last.call(key, self.shared.kind.last()) != Answer::Nothing.into()
                && self.shared.kind == Kind::Queue
            {}
        }
        self.check();
        self.keep();
        std::mem::take(&mut *self.shared.history())
    }

    /// Writes the history down, one call a line.
    fn keep(&self) {
        let file = File::create(&self.file).expect("its folder is there");
        let mut file = BufWriter::new(file);
        for operation in &*self.shared.history() {
            writeln!(file, "{operation}").expect("there is room");
        }
        file.flush().expect("there is room");
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        if thread::panicking() {
            self.keep();
        }
    }
}

impl From<Answer> for Ended {
    fn from(answer: Answer) -> Self {
        Self::Answered(answer)
    }
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Answered(Answer),
    /// It has run or not, or will.
    Unknown,
    /// It has not run and will not.
    NotRun,
}

impl Shared {
    /// The key that is used now.
    fn key(&self) -> i64 {
        (self.calls.load(Relaxed) / self.kind.calls_per_key()).cast_signed()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_nanos()).expect("a run is short")
    }

    fn history(&self) -> std::sync::MutexGuard<'_, Vec<Operation>> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One client. When it does not know how a call ended it becomes another: what it holds and what
/// it writes is never mixed up with before.
struct Caller<'a> {
    shared: &'a Shared,
    nth: usize,
    client: Option<Client>,
    random: Random,
    /// Numbers that nobody else uses: what is written, put into a queue, or owns a lock.
    number: i64,
    owner: i64,
    /// What it saw last, and under which key.
    seen: (i64, i64),
    holds: Option<i64>,
}

impl<'a> Caller<'a> {
    fn new(shared: &'a Shared, nth: usize, seed: u64) -> Self {
        let number = (nth as i64 + 1) * 1_000_000;
        let random = Random::new(seed.wrapping_add(nth as u64));
        Self { shared, nth, client: None, random, number, owner: number, seen: (0, 0), holds: None }
    }

    fn run(mut self) {
        let mut unanswered = 0;
        while !self.shared.stop.load(Relaxed) && self.shared.failed.get().is_none() {
            let key = self.shared.key();
            let call = self.choose(key);
            let ended = self.call(key, call);
            self.learn(key, call, ended);
            match ended {
                Ended::Answered(_) => {
                    self.shared.answered[self.nth].fetch_add(1, Relaxed);
                    unanswered = 0;
                }
                Ended::Unknown => unanswered += 1,
                Ended::NotRun => {}
            }
            if unanswered == STALLED {
                let state = format!("{:?}", self.client);
                let said = format!("client {} has no answers: {state:.4000}", self.nth);
                self.shared.failed.set(said).unwrap_or_default();
            }
            thread::sleep(Duration::from_millis(self.random.below(PAUSE_MS)));
        }
    }

    fn choose(&mut self, key: i64) -> Call {
        self.number += 1;
        match (self.shared.kind, self.random.below(3)) {
            (Kind::Register | Kind::Counter, 0) => Call::Read,
            (Kind::Register, 1) => Call::Write(self.number),
            (Kind::Register, _) => Call::Swap { old: self.seen_under(key), new: self.number },
            (Kind::Counter, _) => Call::Increment,
            (Kind::FetchAdd, by) => Call::Add(by.cast_signed()),
            (Kind::Queue, _) if self.random.below(5) < 2 => Call::Enqueue(self.number),
            (Kind::Queue, _) => Call::Dequeue,
            (Kind::Lock, _) if self.holds == Some(key) => Call::Release(self.owner),
            (Kind::Lock, _) => Call::Acquire(self.owner),
            (Kind::Holders, _) => unreachable!("holders keep a record of their own"),
        }
    }

    fn seen_under(&self, key: i64) -> i64 {
        if self.seen.0 == key { self.seen.1 } else { 0 }
    }

    fn learn(&mut self, key: i64, call: Call, ended: Ended) {
        match (call, ended) {
            (Call::Read, Ended::Answered(Answer::Number(number))) => self.seen = (key, number),
            (Call::Acquire(_), Ended::Answered(Answer::Flag(true))) => self.holds = Some(key),
            (Call::Release(_), Ended::Answered(_)) => self.holds = None,
            (_, Ended::Unknown) => {
                self.number += 1;
                self.owner = self.number;
                self.holds = None;
            }
            _ => {}
        }
    }

    /// Makes the call and keeps the record.
    fn call(&mut self, key: i64, call: Call) -> Ended {
        self.shared.calls.fetch_add(1, Relaxed);
        let start = self.shared.now();
        let result = self.send(key, call);
        let end = self.shared.now();
        let ended = match &result {
            Ok(value) => answer(value).map_or(Ended::Unknown, Ended::Answered),
            Err(error) if error.outcome_unknown() => Ended::Unknown,
            Err(Error::Unreachable { .. } | Error::Refusal(_)) => Ended::NotRun,
            Err(_) => Ended::Unknown,
        };
        let expected = match &result {
            Ok(_) => matches!(ended, Ended::Answered(_)),
            Err(error) => error.outcome_unknown() || ended == Ended::NotRun,
        };
        if !expected {
            let said = format!("client {}: {call:?} under key {key}: {result:?}", self.nth);
            self.shared.failed.set(said).unwrap_or_default();
        }
        let end = match ended {
            Ended::Answered(answer) => Some((end, answer)),
            Ended::Unknown => None,
            Ended::NotRun => return ended,
        };
        self.shared.history().push(Operation { client: self.nth, key, call, start, end });
        ended
    }

    fn send(&mut self, key: i64, call: Call) -> Result<Value, Error> {
        let client = if let Some(client) = &self.client {
            client
        } else {
            let timeout = TIMEOUTS[self.nth % TIMEOUTS.len()];
            let options = Options {
                class: Some(self.shared.kind.class().into()),
                timeout,
                ..Options::default()
            };
            self.client.insert(Client::connect(&self.shared.bootstrap, options)?)
        };
        let (method, mut positional) = request(self.shared.kind, call);
        if self.shared.kind != Kind::Counter {
            positional.insert(0, Value::Int(key));
        }
        client.call(method, &Arguments { positional, keyword: vec![] })
    }
}

fn request(kind: Kind, call: Call) -> (&'static str, Vec<Value>) {
    match call {
        Call::Read if kind == Kind::Counter => ("getvalue", vec![]),
        Call::Read => ("read", vec![]),
        Call::Write(number) => ("write", vec![Value::Int(number)]),
        Call::Swap { old, new } => ("swap", vec![Value::Int(old), Value::Int(new)]),
        Call::Increment => ("increment", vec![]),
        Call::Add(by) => ("add", vec![Value::Int(by)]),
        Call::Enqueue(item) => ("enqueue", vec![Value::Int(item)]),
        Call::Dequeue => ("dequeue", vec![]),
        Call::Acquire(owner) => ("acquire", vec![Value::Int(owner)]),
        Call::Release(owner) => ("release", vec![Value::Int(owner)]),
    }
}

fn answer(value: &Value) -> Option<Answer> {
    match value {
        Value::None => Some(Answer::Nothing),
        Value::Int(number) => Some(Answer::Number(*number)),
        Value::Bool(flag) => Some(Answer::Flag(*flag)),
        _ => None,
    }
}
