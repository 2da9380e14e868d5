//! One run: a fresh cluster, a load, one fault again and again, and the judgement.

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::checker;
use crate::cluster::{Cluster, Setup};
use crate::faults::{Fault, between};
use crate::history::{Answer, Call, Operation};
use crate::holders::Holders;
use crate::load::{Kind, Load};
use crate::network::run as run_tool;
use crate::random::Random;

/// Pauses between two strikes: long enough for calls to go on, now and then too short for it.
const REST_MS: (u64, u64) = (50, 800);

/// What is run, in a process and namespaces of its own.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Run {
    /// Name of the fault
    #[arg(long, value_parser = fault)]
    pub(crate) fault: Fault,
    /// Name of what is replicated
    #[arg(long, value_parser = kind)]
    pub(crate) kind: Kind,
    /// How long the fault strikes
    #[arg(long)]
    pub(crate) seconds: u64,
    /// Decides where and when it strikes, and what is called
    #[arg(long)]
    pub(crate) seed: u64,
    /// Write to disk even where the fault is not about it
    #[arg(long)]
    pub(crate) durable: bool,
    /// The Python that hosts objects
    #[arg(long)]
    pub(crate) python: String,
    /// Where the Python classes are
    #[arg(long)]
    pub(crate) objects: PathBuf,
    /// Where logs and the history are kept
    #[arg(long)]
    pub(crate) folder: PathBuf,
}

pub(crate) fn fault(name: &str) -> Result<Fault, String> {
    let found = Fault::ALL.into_iter().find(|fault| fault.name() == name);
    found.ok_or_else(|| "no such fault: --list shows them".into())
}

pub(crate) fn kind(name: &str) -> Result<Kind, String> {
    let found = Kind::ALL.into_iter().find(|kind| kind.name() == name);
    found.ok_or_else(|| "no such kind: --list shows them".into())
}

impl Run {
    /// Prints the figures of the run in one line of JSON if all is well, else panics.
    #[expect(clippy::print_stdout, reason = "who started this process reads it")]
    pub(crate) fn run(&self) -> ExitCode {
        // So that disks that are unmounted here are so for the replicas too, which have mounts
        // of their own.
        let folder = self.folder.to_str().expect("the folder has a plain name");
        run_tool("mount", &["--bind", folder, folder]);
        run_tool("mount", &["--make-rshared", folder]);
        run_tool("mount", &["-t", "tmpfs", "torture", "/run"]);

        // Runs of the same seed differ in more than their names.
        let name = format!("{} {}", self.fault.name(), self.kind.name());
        let of_name = name.bytes().fold(0, |sum: u64, byte| sum.wrapping_mul(31) + u64::from(byte));
        let mut random = Random::new(self.seed.wrapping_add(of_name));
        // A short run is not to wait for long sessions of holders that are paused.
        let is_short = self.kind == Kind::Holders && self.seconds < 5;
        let impatient = random.below(2) == 0 || is_short;
        let mut cluster = Cluster::start(self.setup(impatient));
        let file = self.folder.join("history");
        let bootstrap = cluster.bootstrap();
        let figures = if self.kind == Kind::Holders {
            let mut holders = Holders::start(bootstrap, self.seed, file);
            holders.goes_on();
            let strikes = self.strike(&mut cluster, &mut random, &|| holders.check());
            holders.goes_on();
            holders.stop();
            cluster.agree();
            holders.judge(strikes)
        } else {
            let load = Load::start(self.kind, bootstrap, self.seed, file);
            load.goes_on();
            let strikes = self.strike(&mut cluster, &mut random, &|| load.check());
            load.goes_on();
            let history = load.stop();
            cluster.agree();
            count(self.kind, &history);
            if let Err(violation) = checker::check(&history) {
                panic!("{violation}");
            }
            figures(&history, strikes)
        };
        println!("{figures}");
        ExitCode::SUCCESS
    }

    /// Has the fault strike until the time is over; how often it did.
    fn strike(&self, cluster: &mut Cluster, random: &mut Random, check: &dyn Fn()) -> u64 {
        let length = Duration::from_secs(self.seconds);
        let end = Instant::now() + length;
        let mut strikes = 0;
        while Instant::now() < end {
            self.fault.strike(cluster, random, length);
            strikes += 1;
            check();
            sleep(between(random, REST_MS));
        }
        strikes
    }

    fn setup(&self, impatient: bool) -> Setup {
        Setup {
            kind: self.kind,
            python: self.python.clone(),
            objects: self.objects.clone(),
            folder: self.folder.clone(),
            replicas: self.fault.replicas(),
            witness: (self.fault == Fault::Witness).then(|| self.fault.replicas()),
            impatient,
            together: self.fault == Fault::KillBeside,
            disk: self.fault.disk(self.durable),
            clock: self.fault == Fault::Clock,
        }
    }
}

/// Exactly once, without the checker: what a counter shows in the end is all increments that were
/// answered, and of the others each once or not at all.
fn count(kind: Kind, history: &[Operation]) {
    if kind != Kind::Counter {
        return;
    }
    let increments = history.iter().filter(|operation| operation.call == Call::Increment);
    let most = increments.clone().count();
    let least = increments.filter(|operation| operation.end.is_some()).count();
    let last = history.last().and_then(|read| read.end).map(|(_, answer)| answer);
    let last = match last {
        Some(Answer::Number(number)) => usize::try_from(number).ok(),
        other => panic!("the last call reads the counter, but was answered {other:?}"),
    };
    let within = last.is_some_and(|number| (least..=most).contains(&number));
    assert!(within, "{least} to {most} increments took effect, and the counter is {last:?}");
}

fn figures(history: &[Operation], strikes: u64) -> serde_json::Value {
    let mut ends: Vec<u64> = history.iter().filter_map(|call| call.end).map(|end| end.0).collect();
    ends.sort_unstable();
    let gap = ends.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default();
    serde_json::json!({
        "strikes": strikes,
        "ok": ends.len(),
        "unknown": history.len() - ends.len(),
        "gap_ms": gap / 1_000_000,
        "verdict": "linearizable",
    })
}

/// Makes the folder anew.
pub(crate) fn clear(folder: &std::path::Path) {
    if folder.exists() {
        fs::remove_dir_all(folder).expect("the folder is ours");
    }
    fs::create_dir_all(folder).expect("the target folder is there");
}
