//! Replicas that die at each step that they take above their disks, under load: whatever was
//! acknowledged is there, once. The steps to the disk have a test of their own beside them.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, channel};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use bytes::BytesMut;
use concoord::{Client, Options, Status, status_of};
use concoord_core::value::{Arguments, Value};
use concoord_core::wire::{ClientHello, Hello, PREAMBLE, Request, write_frame};
use concoord_server::{ObjectSpec, ReplicaConfig, WorkerSpec, run, runtime};
use tempfile::TempDir;

use crate::calls::until;
use crate::cluster::SOON;
use crate::fake;
use crate::processes::tell;

/// Says to [`a_replica`] what it is: its address, its folder, whom to join, and the test's folder.
const REPLICA: &str = "CONCOORD_TEST_REPLICA";

/// What ends a process that is to end at a step.
const ABORTED: i32 = 6;

/// What brings a replica to a step.
#[derive(Clone, Copy)]
enum By {
    /// The load, or its start.
    Load,
    /// A client of its own.
    Client,
    /// Another replica, that joins.
    Newcomer,
    /// Another one, that has lost its folder and needs the state.
    Giving,
    /// It has lost its own folder.
    Taking,
}

/// Every step, and what becomes of it.
const STEPS: [(&str, &str, By); 21] = [
    ("driver::recover", "return(abort)", By::Load),
    ("driver::turn", "100*off->return(abort)", By::Load),
    ("driver::persist", "30*off->return(abort)", By::Load),
    ("driver::stored", "30*off->return(abort)", By::Load),
    ("driver::save", "return(abort)", By::Load),
    ("driver::send", "30*off->return(abort)", By::Load),
    ("driver::answer", "return(abort)", By::Client),
    ("driver::contacts", "return(abort)", By::Load),
    ("driver::contacts", "1*off->return(abort)", By::Newcomer),
    ("driver::view", "1*off->return(abort)", By::Newcomer),
    ("peers::send", "30*off->2*return(EIO)->30*off->return(abort)", By::Load),
    ("peers::hear", "30*off->return(abort)", By::Load),
    ("peers::chunk", "3*off->1*return(EIO)->3*off->return(abort)", By::Giving),
    ("peers::assemble", "3*off->1*return(EIO)->3*off->return(abort)", By::Taking),
    ("worker::apply", "30*off->return(abort)", By::Load),
    ("worker::done", "30*off->return(abort)", By::Load),
    ("worker::snapshot", "return(abort)", By::Load),
    ("worker::frozen", "return(abort)", By::Load),
    ("worker::restore", "return(abort)", By::Load),
    ("worker::restored", "return(abort)", By::Load),
    ("worker::restored", "return(abort)", By::Taking),
];

#[test]
fn replicas_that_die_at_any_step_have_lost_nothing() {
    let mut cluster = Cluster::start();
    let load = Load::start(&cluster.addresses());
    let mut table = String::from("\n");
    for (nth, (step, what, by)) in STEPS.into_iter().enumerate() {
        let start = Instant::now();
        let failpoints = format!("{step}={what}");
        let aborted = cluster.die_at(nth % 3, &failpoints, by);
        assert!(aborted > 0, "{failpoints}: nobody got there");
        load.goes_on();
        let took = start.elapsed();
        writeln!(table, "{step:<18} {what:<46} aborted {aborted}, went on {took:>8.2?}").unwrap();
    }
    let (acknowledged, unknown) = load.stop();
    cluster.agree();
    let value = total(&cluster.addresses());
    writeln!(table, "{acknowledged} acknowledged, {unknown} unknown, {value} there").unwrap();
    tell(&table);
    assert!((acknowledged..=acknowledged + unknown).contains(&value));
}

#[test]
#[ignore = "it is a process of the other test"]
fn a_replica() {
    let Ok(what) = env::var(REPLICA) else { return };
    let [address, folder, bootstrap, scratch] = what.split('|').collect::<Vec<_>>()[..] else {
        panic!("{what}")
    };
    let address: SocketAddr = address.parse().unwrap();
    let worker = WorkerSpec {
        classes: vec![scratch.into()],
        command: fake::command("fake::fake_worker"),
        load_timeout: SOON,
        apply_timeout: SOON,
    };
    let bootstrap = bootstrap.split(',').filter(|address| !address.is_empty());
    let config = ReplicaConfig {
        bootstrap: bootstrap.map(|address| address.parse().unwrap()).collect(),
        data_dir: (!folder.is_empty()).then(|| folder.into()),
        snapshot_bytes: 1 << 20,
        ..ReplicaConfig::new(address, ObjectSpec::Worker(worker))
    };
    let ended = runtime().unwrap().block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        run(listener, config, || say("serves"), std::future::pending()).await
    });
    panic!("{ended:?}");
}

/// The test's own output may have begun a line.
fn say(text: &str) {
    writeln!(std::io::stdout().lock(), "\n{text}").unwrap();
}

/// A replica's place, and the process that it is now.
struct Place {
    address: SocketAddr,
    folder: Option<PathBuf>,
    scratch: PathBuf,
    child: Child,
    said: Receiver<String>,
}

impl Place {
    fn start(
        address: SocketAddr,
        folder: Option<PathBuf>,
        scratch: PathBuf,
        bootstrap: &[SocketAddr],
        failpoints: &str,
    ) -> Self {
        let bootstrap: Vec<_> = bootstrap.iter().map(SocketAddr::to_string).collect();
        let path = folder.as_ref().map_or("", |folder| folder.to_str().unwrap());
        let what = [&address.to_string(), path, &bootstrap.join(","), scratch.to_str().unwrap()];
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "failpoints::a_replica", "--ignored", "--nocapture"])
            .env(REPLICA, what.join("|"))
            .env("FAILPOINTS", failpoints)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (line_tx, said) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            let mut lines = output.lines().map_while(Result::ok);
            lines.try_for_each(|line| line_tx.send(line)).unwrap_or(());
        });
        Self { address, folder, scratch, child, said }
    }

    /// In the same place, once more.
    fn again(&mut self, bootstrap: &[SocketAddr], failpoints: &str) {
        self.kill();
        let (folder, scratch) = (self.folder.clone(), self.scratch.clone());
        *self = Self::start(self.address, folder, scratch, bootstrap, failpoints);
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn lose_folder(&mut self) {
        self.kill();
        fs::remove_dir_all(self.folder.as_ref().unwrap()).unwrap();
    }

    /// Whether it has ended, as it was to.
    fn has_aborted(&mut self) -> bool {
        let Some(status) = self.child.try_wait().unwrap() else { return false };
        assert_eq!(status.signal(), Some(ABORTED), "{status}");
        true
    }

    fn has_served(&self) -> bool {
        self.said.try_iter().any(|line| line == "serves")
    }

    fn status(&self) -> Option<Status> {
        status_of(&self.address.to_string(), SOON).ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It may have ended already.
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

struct Cluster {
    places: Vec<Place>,
    disk: TempDir,
    ip: Ipv4Addr,
}

impl Cluster {
    fn start() -> Self {
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let ip = Ipv4Addr::new(127, high, low, 1);
        let mut this = Self { places: Vec::new(), disk: TempDir::new().unwrap(), ip };
        for port in 14000..14003 {
            let address = SocketAddr::new(ip.into(), port);
            let (scratch, folder) = (this.disk.path(), this.disk.path().join(port.to_string()));
            let others: Vec<_> = this.places.iter().map(|place| place.address).collect();
            let place = Place::start(address, Some(folder), scratch.into(), &others, "");
            this.places.push(place);
            until("it serves", || this.places.last().unwrap().has_served());
        }
        this
    }

    fn addresses(&self) -> String {
        let all: Vec<_> = self.places.iter().map(|place| place.address.to_string()).collect();
        all.join(",")
    }

    fn restart(&mut self, which: usize, failpoints: &str) {
        let others = |(nth, place): (usize, &Place)| (nth != which).then_some(place.address);
        let others: Vec<_> = self.places.iter().enumerate().filter_map(others).collect();
        self.places[which].again(&others, failpoints);
    }

    /// Waits until it serves, or has died already.
    fn ready(&mut self, which: usize) {
        let place = &mut self.places[which];
        until("it serves or dies", || place.has_served() || place.has_aborted());
    }

    /// Has a replica, or more, die at a step; they are back when this returns. How many died.
    fn die_at(&mut self, which: usize, failpoints: &str, by: By) -> usize {
        let others = [(which + 1) % 3, (which + 2) % 3];
        match by {
            By::Load => {
                self.restart(which, failpoints);
                self.recover(failpoints, &[which], |_| true)
            }
            By::Client => {
                self.restart(which, failpoints);
                self.ready(which);
                ask(self.places[which].address);
                self.recover(failpoints, &[which], |_| true)
            }
            By::Newcomer => {
                self.restart(which, failpoints);
                self.ready(which);
                self.join(failpoints, which)
            }
            By::Taking => {
                self.places[which].lose_folder();
                self.restart(which, failpoints);
                self.recover(failpoints, &[which], |_| true)
            }
            By::Giving => {
                for other in others {
                    self.restart(other, failpoints);
                    self.ready(other);
                }
                self.places[which].lose_folder();
                self.restart(which, "");
                let aborted =
                    self.recover(failpoints, &others, |cluster| cluster.places[which].has_served());
                for other in others {
                    self.restart(other, "");
                    until("it serves", || self.places[other].has_served());
                }
                aborted
            }
        }
    }

    /// A replica joins in memory; when the one that is to die has done so, it goes.
    fn join(&mut self, failpoints: &str, which: usize) -> usize {
        let all: Vec<_> = self.places.iter().map(|place| place.address).collect();
        let address = SocketAddr::new(self.ip.into(), 14003);
        let newcomer = Place::start(address, None, self.disk.path().into(), &all, "");
        let aborted = self.recover(failpoints, &[which], |_| true);
        until("the newcomer serves", || newcomer.has_served());
        drop(newcomer);
        until("it is removed", || {
            let view = self.places[which].status().and_then(|status| status.view);
            view.is_some_and(|view| view.members.len() == 3)
        });
        aborted
    }

    /// Starts each of these again that dies, until one has and it is over; waits until they serve.
    fn recover(
        &mut self,
        failpoints: &str,
        armed: &[usize],
        mut is_over: impl FnMut(&Self) -> bool,
    ) -> usize {
        let mut aborted = Vec::new();
        until(failpoints, || {
            for which in armed {
                if !aborted.contains(which) && self.places[*which].has_aborted() {
                    aborted.push(*which);
                    self.restart(*which, "");
                }
            }
            !aborted.is_empty() && is_over(self)
        });
        for which in &aborted {
            until("it serves again", || self.places[*which].has_served());
        }
        aborted.len()
    }

    /// Waits until all have applied as much, workers too; then they must have the same state.
    fn agree(&self) {
        until("the same applied index", || {
            let status = |place: &Place| place.status().map(|it| (it.applied, it.digest));
            let states: Vec<_> = self.places.iter().filter_map(status).collect();
            let same_index =
                states.iter().all(|(applied, digest)| *applied == states[0].0 && *digest != 0);
            if same_index && states.len() == 3 {
                assert!(states.iter().all(|state| *state == states[0]), "{states:?}");
            }
            same_index && states.len() == 3
        });
    }
}

/// Asks that very replica for a session; it may die of that, or be dead.
fn ask(address: SocketAddr) {
    let mut bytes = BytesMut::from(&PREAMBLE[..]);
    write_frame(&Hello::Client(ClientHello { class: None, session: None }), &mut bytes);
    write_frame(&Request::Open, &mut bytes);
    if let Ok(mut stream) = TcpStream::connect(address) {
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(&bytes).unwrap_or(());
        stream.read_to_end(&mut Vec::new()).map(drop).unwrap_or(());
    }
}

fn client_of(addresses: &str) -> Client {
    Client::connect(addresses, Options { timeout: SOON, ..Options::default() }).unwrap()
}

fn total(addresses: &str) -> u64 {
    match client_of(addresses).call("total", &Arguments::default()).unwrap() {
        Value::Int(total) => total.try_into().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Threads that add without a pause, each by a client of its own.
struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    unknown: AtomicU64,
}

impl Load {
    fn start(addresses: &str) -> Self {
        let shared = Arc::new(Shared::default());
        let start = |_| {
            let (shared, client) = (Arc::clone(&shared), client_of(addresses));
            thread::spawn(move || shared.add(&client))
        };
        let threads = (0..3).map(start).collect();
        Self { shared, threads }
    }

    fn goes_on(&self) {
        let goal = self.shared.acknowledged.load(Relaxed) + 20;
        until("calls go on", || self.shared.acknowledged.load(Relaxed) > goal);
    }

    fn stop(self) -> (u64, u64) {
        self.shared.stop.store(true, Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        (self.shared.acknowledged.load(Relaxed), self.shared.unknown.load(Relaxed))
    }
}

impl Shared {
    fn add(&self, client: &Client) {
        while !self.stop.load(Relaxed) {
            match client.call("add", &Arguments::default()) {
                Ok(_) => self.acknowledged.fetch_add(1, Relaxed),
                Err(error) if error.outcome_unknown() => self.unknown.fetch_add(1, Relaxed),
                Err(error) => panic!("{error}"),
            };
        }
    }
}
