//! Replicas as processes: to be killed, stopped, and started again by the same command; and a
//! load of calls that goes on meanwhile.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use concoord::object::Counter;
use concoord::{Client, Error, Options, Status, status_of};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use tempfile::{NamedTempFile, TempDir};

use crate::calls::until;
use crate::cluster::SOON;

pub(crate) fn concoord(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_concoord"));
    command.args(arguments).env_remove("VIRTUAL_ENV").env_remove("CONCOORD_LOG");
    command
}

/// A loopback address of one test's own. The port that a killed replica leaves is nobody else's
/// until it is started again, and survivors greet no replica of another test.
pub(crate) struct Host {
    pub(crate) ip: Ipv4Addr,
    port_next: AtomicU16,
    disk: TempDir,
    /// What its replicas find in their environment besides.
    env: Vec<(String, String)>,
}

impl Host {
    pub(crate) fn new() -> Self {
        Self::with(Vec::new())
    }

    pub(crate) fn with(env: Vec<(String, String)>) -> Self {
        static HOSTS: AtomicU8 = AtomicU8::new(2);
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, high, low, HOSTS.fetch_add(1, Relaxed));
        Self { ip, port_next: AtomicU16::new(14000), disk: TempDir::new().unwrap(), env }
    }

    /// `concoord replica` with these options, waited for until it serves.
    pub(crate) fn start(&self, options: &[&str]) -> Replica {
        self.spawn(options).serves()
    }

    /// One that joins the cluster of these.
    pub(crate) fn join(&self, others: &[&Replica]) -> Replica {
        self.start(&["-b", &bootstrap(others)])
    }

    pub(crate) fn three(&self) -> [Replica; 3] {
        let first = self.start(&[]);
        let (second, third) = (self.join(&[&first]), self.join(&[&first]));
        [first, second, third]
    }

    /// The data folder of the replica that is started next.
    pub(crate) fn folder(&self) -> PathBuf {
        self.disk.path().join(self.port_next.load(Relaxed).to_string())
    }

    /// A durable replica, with these options too.
    pub(crate) fn start_durable(&self, options: &[&str]) -> Replica {
        let folder = self.folder();
        let durable = ["-w", "--data-dir", folder.to_str().unwrap()];
        self.start(&[&durable[..], options].concat())
    }

    pub(crate) fn three_durable(&self) -> [Replica; 3] {
        let first = self.start_durable(&[]);
        let bootstrap = bootstrap(&[&first]);
        let other = || self.start_durable(&["-b", &bootstrap]);
        let (second, third) = (other(), other());
        [first, second, third]
    }

    /// A counter's replica, or of the class that the options name.
    pub(crate) fn spawn(&self, options: &[&str]) -> Replica {
        let address = SocketAddr::new(self.ip.into(), self.port_next.fetch_add(1, Relaxed));
        Self::run(&self.env, &["replica"], address, options)
    }

    /// The same at an address of one's choice.
    pub(crate) fn at(address: SocketAddr, options: &[&str]) -> Replica {
        Self::run(&[], &["replica"], address, options)
    }

    /// The first replica of a cluster that starts with that backup, waited for until it serves.
    pub(crate) fn restore(&self, file: &str, options: &[&str]) -> Replica {
        let address = SocketAddr::new(self.ip.into(), self.port_next.fetch_add(1, Relaxed));
        Self::run(&self.env, &["snapshot", "restore", file], address, options).serves()
    }

    fn run(
        env: &[(String, String)],
        command: &[&str],
        address: SocketAddr,
        options: &[&str],
    ) -> Replica {
        let (ip, port) = (address.ip().to_string(), address.port().to_string());
        let mut command = [command, &["-a", &ip, "-p", &port], options].concat();
        if !options.contains(&"-o") {
            command.extend(["-o", Counter::CLASS]);
        }
        let command: Vec<String> = command.into_iter().map(str::to_owned).collect();
        let log = NamedTempFile::new().unwrap();
        let (child, said) = spawn(env, &command, &log);
        Replica { address, env: env.to_vec(), command, child, said, log }
    }
}

/// Starts it; what it says on standard output comes line by line.
fn spawn(
    env: &[(String, String)],
    command: &[String],
    log: &NamedTempFile,
) -> (Child, Receiver<String>) {
    let arguments: Vec<&str> = command.iter().map(String::as_str).collect();
    let log = fs::File::options().append(true).open(log).unwrap();
    let mut child = concoord(&arguments)
        .envs(env.iter().cloned())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(log))
        .spawn()
        .unwrap();
    let (line_tx, said) = channel();
    let output = BufReader::new(child.stdout.take().unwrap());
    thread::spawn(move || {
        // Ends with the process, or with whoever listens.
        output.lines().map_while(Result::ok).try_for_each(|line| line_tx.send(line)).unwrap_or(());
    });
    (child, said)
}

/// What a client is given to find these.
pub(crate) fn bootstrap(replicas: &[&Replica]) -> String {
    let addresses: Vec<_> = replicas.iter().map(|replica| replica.address.to_string()).collect();
    addresses.join(", ")
}

/// A replica in a process of its own, killed at the end of its test if it lives still.
pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    env: Vec<(String, String)>,
    command: Vec<String>,
    child: Child,
    said: Receiver<String>,
    log: NamedTempFile,
}

impl Replica {
    /// Waits until it says that it serves.
    pub(crate) fn serves(self) -> Self {
        let line = self.said.recv_timeout(SOON).expect("it serves soon");
        let witness = self.command.iter().any(|option| option == "--witness");
        let role = if witness { "WITNESS" } else { "REPLICA" };
        assert_eq!(line, format!("{role}-{} connected.", self.address));
        self
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts a killed one again by the same command, and waits until it serves.
    pub(crate) fn restart(self) -> Self {
        self.respawn().serves()
    }

    /// Starts a killed one again by the same command.
    pub(crate) fn respawn(mut self) -> Self {
        (self.child, self.said) = spawn(&self.env, &self.command, &self.log);
        self
    }

    /// Waits until it ends by itself; its exit code.
    pub(crate) fn ends(&mut self) -> i32 {
        until("it ends", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code().expect("it ends by itself")
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn status(&self) -> Result<Status, Error> {
        status_of(&self.address.to_string(), Duration::from_secs(2))
    }

    pub(crate) fn members(&self) -> usize {
        let view = self.status().ok().and_then(|status| status.view);
        view.map_or(0, |view| view.members.len())
    }

    pub(crate) fn leads(&self) -> bool {
        self.status().is_ok_and(|status| status.ready && status.leader == Some(status.replica.id))
    }

    /// The most memory that it ever had, MiB.
    pub(crate) fn resident_mib_max(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        // It may have ended already, as its test wanted.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
        if thread::panicking() {
            tell(&format!("{} logged:\n{}", self.address, self.log()));
        }
    }
}

/// Shown by `cargo test` for a test that fails, or with `--nocapture`.
#[expect(clippy::print_stdout, reason = "who reads why a test failed wants to know")]
pub(crate) fn tell(text: &str) {
    println!("{text}");
}

/// Which of them leads, once one does.
pub(crate) fn leader(replicas: &[Replica]) -> usize {
    let mut leads = None;
    until("one leads", || {
        leads = replicas.iter().position(Replica::leads);
        leads.is_some()
    });
    leads.unwrap()
}

/// Waits until all of them have applied as much, workers too; then they must have the same state.
pub(crate) fn agree(replicas: &[Replica]) {
    until("the same applied index", || {
        let states: Vec<_> = replicas
            .iter()
            .map(|replica| replica.status().map(|status| (status.applied, status.digest)))
            .collect::<Result<_, _>>()
            .unwrap();
        let same_index =
            states.iter().all(|(applied, digest)| *applied == states[0].0 && *digest != 0);
        if same_index {
            assert!(states.iter().all(|state| *state == states[0]), "{states:?}");
        }
        same_index
    });
}

/// A client whose calls may take that long.
pub(crate) fn client(bootstrap: &str, timeout: Duration) -> Counter {
    let options = Options { class: Some(Counter::CLASS.into()), timeout, ..Options::default() };
    Counter::new(Arc::new(Client::connect(bootstrap, options).unwrap()))
}

/// Threads that increment a counter without a pause, each through a client of its own.
pub(crate) struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    failed: OnceLock<Error>,
    unknown: AtomicU64,
    /// Per thread.
    acknowledged: Vec<AtomicU64>,
    longest_us: AtomicU64,
}

/// What became of the increments.
#[derive(Debug)]
pub(crate) struct Tally {
    pub(crate) acknowledged: i64,
    /// Those that have taken effect or not.
    pub(crate) unknown: i64,
}

impl Tally {
    /// Every acknowledged increment is there, once.
    pub(crate) fn accounts_for(&self, value: i64) {
        let all = self.acknowledged + self.unknown;
        assert!((self.acknowledged..=all).contains(&value), "{self:?}, and the counter is {value}");
    }
}

impl Load {
    pub(crate) fn start(bootstrap: &str, threads: usize) -> Self {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            failed: OnceLock::new(),
            unknown: AtomicU64::new(0),
            acknowledged: (0..threads).map(|_| AtomicU64::new(0)).collect(),
            longest_us: AtomicU64::new(0),
        });
        let start = |nth| {
            let (shared, counter) = (Arc::clone(&shared), client(bootstrap, SOON));
            thread::spawn(move || shared.increment(&counter, nth))
        };
        let threads = (0..threads).map(start).collect();
        Self { shared, threads }
    }

    /// Waits until each thread has had replies to calls that it made after this moment; the
    /// longest that one took since the last look.
    pub(crate) fn goes_on(&self) -> Duration {
        let counts = || self.shared.acknowledged.iter().map(|count| count.load(Relaxed));
        // The first of them may have been under way.
        let goals: Vec<u64> = counts().map(|count| count + 5).collect();
        until("calls go on", || {
            assert_eq!(self.shared.failed.get(), None);
            counts().zip(&goals).all(|(count, goal)| count >= *goal)
        });
        Duration::from_micros(self.shared.longest_us.swap(0, Relaxed))
    }

    pub(crate) fn stop(self) -> Tally {
        self.shared.stop.store(true, Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        assert_eq!(self.shared.failed.get(), None);
        let acknowledged = self.shared.acknowledged.iter().map(|count| count.load(Relaxed)).sum();
        let count = |count: u64| i64::try_from(count).unwrap();
        Tally {
            acknowledged: count(acknowledged),
            unknown: count(self.shared.unknown.load(Relaxed)),
        }
    }
}

impl Shared {
    fn increment(&self, counter: &Counter, nth: usize) {
        while !self.stop.load(Relaxed) {
            let start = Instant::now();
            match counter.increment() {
                Ok(()) => self.acknowledged[nth].fetch_add(1, Relaxed),
                Err(error) if error.outcome_unknown() => self.unknown.fetch_add(1, Relaxed),
                Err(error) => {
                    self.failed.set(error).unwrap_or(());
                    return;
                }
            };
            let took = u64::try_from(start.elapsed().as_micros()).unwrap();
            self.longest_us.fetch_max(took, Relaxed);
        }
    }
}

/// Lets this process have as many connections as the system allows.
pub(crate) fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    setrlimit(Resource::Nofile, raised).unwrap();
}
