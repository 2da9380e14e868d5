//! Replicas on hosts of their own: killed, stopped, started again by the same command.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use concoord::{Error, Status, status_of};
use rustix::process::{Pid, Signal, kill_process};

use crate::disk::Disk;
use crate::load::Kind;
use crate::network::{Network, address, namespace};

/// How long anything may take that is not held up by a fault.
pub(crate) const SOON: Duration = Duration::from_secs(30);

const PORT: u16 = 14000;

/// What the replicas of a run have in common.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    pub(crate) kind: Kind,
    pub(crate) python: String,
    /// Where the Python classes are.
    pub(crate) objects: PathBuf,
    /// Where logs and data are.
    pub(crate) folder: PathBuf,
    /// Replicas at first.
    pub(crate) replicas: u8,
    /// The host of a witness, if there is one.
    pub(crate) witness: Option<u8>,
    /// Whether silence ends sessions and memberships within a fault's time.
    pub(crate) impatient: bool,
    /// Whether they share a pid namespace, so that each can prove that another is gone.
    pub(crate) together: bool,
    pub(crate) disk: Disk,
    /// Whether their clock is one that a fault can set.
    pub(crate) clock: bool,
}

/// The hosts and their replicas, host 1 first.
pub(crate) struct Cluster {
    pub(crate) setup: Setup,
    pub(crate) network: Network,
    pub(crate) replicas: Vec<Replica>,
}

impl Cluster {
    /// As many as the setup says, serving, and one host more for a newcomer.
    pub(crate) fn start(setup: Setup) -> Self {
        let network = Network::new(&setup.python, setup.replicas + 1);
        let mut cluster = Self { replicas: Vec::new(), network, setup };
        for _ in 0..cluster.setup.replicas {
            cluster.add().serves();
        }
        cluster
    }

    /// Starts a replica on the next host. The first one starts the cluster, the others join it.
    pub(crate) fn add(&mut self) -> &mut Replica {
        let host = u8::try_from(self.replicas.len() + 1).expect("there are few");
        self.setup.disk.prepare(&self.setup.data(host));
        self.replicas.push(Replica::start(&self.setup, host, &bootstrap(1..host)));
        self.replicas.last_mut().expect("it was added")
    }

    /// What a client is given to find them.
    pub(crate) fn bootstrap(&self) -> String {
        bootstrap(1..=self.setup.replicas)
    }

    pub(crate) fn hosts(&self) -> Vec<u8> {
        self.replicas.iter().map(|replica| replica.host).collect()
    }

    /// The hosts but for these.
    pub(crate) fn others(&self, than: &[u8]) -> Vec<u8> {
        self.hosts().into_iter().filter(|host| !than.contains(host)).collect()
    }

    pub(crate) fn replica(&mut self, host: u8) -> &mut Replica {
        let found = self.replicas.iter_mut().find(|replica| replica.host == host);
        found.expect("there is a replica on each host")
    }

    /// The host of the replica that leads, once one does.
    pub(crate) fn leader(&self) -> u8 {
        let mut leader = None;
        until("one leads", || {
            leader = self.replicas.iter().find(|replica| replica.leads()).map(|one| one.host);
            leader.is_some()
        });
        leader.expect("one leads")
    }

    /// Waits until all have the same view with all of them in it, and have applied as much; then
    /// they must have the same state.
    pub(crate) fn agree(&self) {
        let mut statuses = Vec::new();
        let mut said = String::new();
        let all = self.replicas.len();
        let agree = || {
            let asked = self.replicas.iter().map(Replica::status).collect::<Result<Vec<_>, _>>();
            said = format!("{asked:#?}");
            statuses = asked.unwrap_or_default();
            let one = |status: &Status| {
                let view = status.view.as_ref()?;
                Some((view.number, view.members.len(), view.lineage, view.cluster, status.applied))
            };
            // A worker with calls to run may be ahead of what its replica has applied.
            let idle = |status: &Status| status.digest != 0 || status.replica.witness;
            statuses.len() == all
                && statuses.iter().all(idle)
                && statuses.iter().all(|status| one(status) == one(&statuses[0]))
                && one(&statuses[0]).is_some_and(|(_, members, ..)| members == all)
        };
        assert!(holds_soon(agree), "they do not agree: {said}");
        let with_object = statuses.iter().filter(|status| !status.replica.witness);
        let digests: Vec<_> = with_object.map(|status| status.digest).collect();
        assert!(digests.iter().all(|digest| *digest == digests[0]), "states differ: {statuses:#?}");
    }
}

impl Setup {
    /// The data folder of a host's replica.
    pub(crate) fn data(&self, host: u8) -> PathBuf {
        self.folder.join(format!("data{host}"))
    }

    /// The file that sets a host's clock.
    pub(crate) fn clock_file(&self, host: u8) -> PathBuf {
        self.folder.join(format!("clock{host}"))
    }

    fn command(&self, host: u8, bootstrap: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", namespace(host)));
        if !self.together {
            // The data folders' mounts come and go for all.
            command.args(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]);
            command.args(["--propagation", "slave"]);
        }
        if self.clock {
            // Set here rather than for all: unshare would tell the time wrong too, and fork.
            fs::write(self.clock_file(host), "+0").expect("the folder is there");
            command.arg("env").args([
                format!("LD_PRELOAD={}", libfaketime().display()),
                format!("FAKETIME_TIMESTAMP_FILE={}", self.clock_file(host).display()),
                "FAKETIME_NO_CACHE=1".into(),
                "FAKETIME_DONT_FAKE_MONOTONIC=1".into(),
            ]);
        }
        command.arg(env!("CARGO_BIN_EXE_concoord")).args(["replica", "-o", self.kind.class()]);
        command.args(["-a", &address(host).to_string(), "-p", &PORT.to_string()]);
        if self.witness == Some(host) {
            command.arg("--witness");
        } else {
            command.args(["--python", &self.python]);
        }
        if self.impatient && self.witness != Some(host) {
            command.args(["--dead-timeout", "2", "--session-timeout", "2"]);
        }
        if !bootstrap.is_empty() {
            command.args(["-b", bootstrap]);
        }
        if self.disk != Disk::None {
            command.arg("-w").arg("--data-dir").arg(self.data(host).join("replica"));
        }
        command.env("PYTHONPATH", &self.objects);
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.env_remove("CONCOORD_LOG").current_dir(&self.folder);
        command
    }
}

/// Where Debian's package has it.
fn libfaketime() -> PathBuf {
    let found = fs::read_dir("/usr/lib").into_iter().flatten().filter_map(|entry| {
        let library = entry.ok()?.path().join("faketime/libfaketime.so.1");
        library.exists().then_some(library)
    });
    found.last().expect("libfaketime is installed (Debian: faketime)")
}

fn bootstrap(hosts: impl Iterator<Item = u8>) -> String {
    hosts.map(|host| format!("{}:{PORT}", address(host))).collect::<Vec<_>>().join(",")
}

/// A replica, alive or not.
pub(crate) struct Replica {
    pub(crate) host: u8,
    setup: Setup,
    bootstrap: String,
    child: Child,
    said: Receiver<String>,
}

impl Replica {
    fn start(setup: &Setup, host: u8, bootstrap: &str) -> Self {
        let (child, said) = spawn(setup.command(host, bootstrap), &setup.folder, host);
        Self { host, setup: setup.clone(), bootstrap: bootstrap.into(), child, said }
    }

    /// Waits until it says that it serves.
    pub(crate) fn serves(&mut self) {
        let host = self.host;
        let line = self.said.recv_timeout(SOON);
        let line = line.unwrap_or_else(|error| panic!("replica {host} does not serve: {error}"));
        let role = if self.setup.witness == Some(host) { "WITNESS" } else { "REPLICA" };
        assert_eq!(line, format!("{role}-{}:{PORT} connected.", address(host)));
    }

    /// By the same command as at first.
    pub(crate) fn restart(&mut self) {
        let command = self.setup.command(self.host, &self.bootstrap);
        (self.child, self.said) = spawn(command, &self.setup.folder, self.host);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it lives");
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        if !self.has_ended() {
            // It may end by itself at this very moment.
            kill_process(self.pid(), Signal::KILL).unwrap_or_default();
        }
        self.ends();
    }

    /// Waits until it ends by itself, and how.
    pub(crate) fn ends(&mut self) -> ExitStatus {
        until("the replica ends", || self.has_ended());
        self.child.wait().expect("it has ended")
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is a child").is_some()
    }

    /// What it has logged so far, in all its lives.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(log_file(&self.setup.folder, self.host)).expect("it was made")
    }

    pub(crate) fn status(&self) -> Result<Status, Error> {
        status_of(&format!("{}:{PORT}", address(self.host)), Duration::from_secs(1))
    }

    fn leads(&self) -> bool {
        self.status().is_ok_and(|status| status.ready && status.leader == Some(status.replica.id))
    }

    /// The replica's process, as this namespace knows it.
    pub(crate) fn pid(&self) -> Pid {
        let child = self.child.id();
        if self.setup.together {
            return Pid::from_child(&self.child);
        }
        let children = format!("/proc/{child}/task/{child}/children");
        let children = fs::read_to_string(children).expect("the kernel tells of children");
        let pid = children.trim().parse().ok().and_then(Pid::from_raw);
        pid.expect("unshare has one child, the replica")
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

fn log_file(folder: &Path, host: u8) -> PathBuf {
    folder.join(format!("replica{host}.log"))
}

/// Starts it; what it says on standard output comes line by line, its log goes on in a file.
fn spawn(mut command: Command, folder: &Path, host: u8) -> (Child, Receiver<String>) {
    let log = log_file(folder, host);
    let log = File::options().create(true).append(true).open(log).expect("the folder is there");
    // A group of its own: Ctrl-C is for the torture, which ends its replicas itself.
    command.process_group(0).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().expect("nsenter is installed");
    let (line_tx, said) = channel();
    let output = BufReader::new(child.stdout.take().expect("it is piped"));
    thread::spawn(move || {
        // Ends with the process, or with whoever listens.
        output.lines().map_while(Result::ok).try_for_each(|line| line_tx.send(line)).unwrap_or(());
    });
    (child, said)
}

/// Polls until it holds: for what no message tells.
pub(crate) fn until(what: &str, holds: impl FnMut() -> bool) {
    assert!(holds_soon(holds), "{what}: not within {SOON:?}");
}

fn holds_soon(mut holds: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + SOON;
    while !holds() {
        if Instant::now() > end {
            return false;
        }
        thread::sleep(Duration::from_millis(10));
    }
    true
}
