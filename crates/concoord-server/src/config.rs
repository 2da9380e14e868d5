//! What a replica is started with, checked once.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use concoord::Bootstrap;
use concoord_core::durable::Snapshot;
use concoord_core::limits;
use concoord_core::object::Object;
use concoord_core::objects;
use concoord_core::snapshot::About;

use crate::fence::FenceSpec;

/// What a replica is started with.
pub struct ReplicaConfig {
    /// Where clients and peers reach this replica: the listener's own address, unless that is a
    /// wildcard or behind a translation.
    pub advertise: SocketAddr,
    /// Replicas of the cluster to join; empty to start one, unless there are `names`.
    pub bootstrap: Vec<SocketAddr>,
    /// Names of replicas of the cluster to join, looked up again as long as it has not joined.
    pub names: Option<Bootstrap>,
    /// What the cluster starts with, if it is to start with a backup.
    pub restore: Option<(About, Snapshot)>,
    /// The folder in which everything is written down; `None` to keep it in memory only.
    pub data_dir: Option<PathBuf>,
    /// The object.
    pub object: ObjectSpec,
    /// How often the replica is told that time passes.
    pub tick: Duration,
    /// How often a leader greets its followers when there is nothing else to say.
    pub heartbeat: Duration,
    /// Silence of the leader after which an election may start. A broken stream starts one at
    /// once, so this can be long enough for a machine that is busy.
    pub election_timeout: Duration,
    /// Silence after which a session is expired.
    pub session_timeout: Duration,
    /// Silence after which a member is removed, where the rest keeps a quorum.
    pub dead_timeout: Duration,
    /// Bytes of log after which a durable replica writes its state down anew.
    pub snapshot_bytes: usize,
    /// How long the disk may take before a leader hands on to a replica whose disk is quicker.
    pub disk_timeout: Duration,
    /// Whether it stays a learner until an operator promotes it.
    pub learner: bool,
    /// Whether a peer's host proves that the peer is gone by refusing connections to it: only
    /// right where nothing between the two refuses them in its place.
    pub refused_is_dead: bool,
    /// How a peer is fenced that is silent; `None` if it can't be.
    pub fence: Option<FenceSpec>,
    /// The domain that it answers DNS queries for, and where it is asked, if it does.
    #[cfg(feature = "dns")]
    pub dns: Option<crate::DnsSpec>,
    /// The records in Amazon Route 53 that it keeps up to date, if it does.
    #[cfg(feature = "route53")]
    pub route53: Option<crate::Route53Spec>,
    /// How long a bootstrap waits to be greeted by a cluster that it once belonged to.
    pub greeting: Duration,
}

/// The object that a cluster is started with, where it lives, and what else is hosted beside the
/// classes that come ready-made.
pub enum ObjectSpec {
    /// In this process, made by this; and further classes in a process of their own.
    Native(Box<dyn Fn() -> Box<dyn Object>>, Option<WorkerSpec>),
    /// In a process of its own, which hosts further classes as well.
    Worker(WorkerSpec),
    /// Nowhere: the replica is a witness, which votes and keeps the log of an object of that class.
    Nowhere(String),
}

impl ObjectSpec {
    /// The ready-made object of that class, if there is one.
    #[must_use]
    pub fn stock(class: &str) -> Option<Self> {
        objects::stock(class)?;
        let class = class.to_owned();
        let make = move || objects::stock(&class).expect("it was there before");
        Some(Self::Native(Box::new(make), None))
    }

    /// An object of the first of these classes, and the others besides; `worker` says how those
    /// are hosted that are not ready-made.
    ///
    /// # Panics
    /// If there is no class.
    #[must_use]
    pub fn of(classes: &[String], worker: impl FnOnce(Vec<String>) -> WorkerSpec) -> Self {
        let first = classes.first().expect("a cluster is started with an object");
        let hosted = classes.iter().filter(|class| objects::stock(class).is_none());
        let hosted: Vec<String> = hosted.cloned().collect();
        let worker = (!hosted.is_empty()).then(|| worker(hosted));
        match (Self::stock(first), worker) {
            (Some(Self::Native(make, _)), worker) => Self::Native(make, worker),
            (_, Some(worker)) => Self::Worker(worker),
            (_, None) => unreachable!("a class that is not ready-made is hosted"),
        }
    }

    /// The worker, if there is to be one.
    #[must_use]
    pub const fn worker(&self) -> Option<&WorkerSpec> {
        match self {
            Self::Native(_, worker) => worker.as_ref(),
            Self::Worker(worker) => Some(worker),
            Self::Nowhere(_) => None,
        }
    }
}

/// How to start the worker that hosts objects.
#[derive(Clone, Debug)]
pub struct WorkerSpec {
    /// The classes, `module.Class` each.
    pub classes: Vec<String>,
    /// The program and its arguments. It finds the socket to us as its standard input.
    pub command: Vec<OsString>,
    /// How long the class may take to load, and a state to be taken in.
    pub load_timeout: Duration,
    /// How long a call may take; a worker that takes longer is killed.
    pub apply_timeout: Duration,
}

impl WorkerSpec {
    /// How long it may take to find the call that workers hang at: each tries all that the first
    /// had not done, and one of them the call alone, twice.
    pub(crate) fn patience(&self) -> Duration {
        4 * self.apply_timeout
    }

    /// The worker that hosts Python classes, run by that interpreter.
    #[must_use]
    pub fn python(python: &Path, classes: Vec<String>) -> Self {
        Self {
            classes,
            command: vec![python.into(), "-m".into(), "concoord._worker".into()],
            load_timeout: Duration::from_secs(60),
            apply_timeout: Duration::from_secs(30),
        }
    }
}

impl WorkerSpec {
    /// What it hosts, for people.
    pub(crate) fn name(&self) -> String {
        self.classes.join(" and ")
    }
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nobody could connect to it.
    #[error("{0} can't be reached by others: name the address that clients use")]
    Unroutable(SocketAddr),
    /// A replica does not join itself.
    #[error("{0} is this replica itself: name another one to join, or none to start a cluster")]
    OwnBootstrap(SocketAddr),
    /// Two durations don't fit each other.
    #[error(
        "{larger} is {given:?}: give it {:?} or more, {factor} times {smaller} ({base:?})",
        *base * *factor
    )]
    Order {
        /// What is too small.
        larger: &'static str,
        /// What it is.
        given: Duration,
        /// How many times it must be what it is compared with.
        factor: u32,
        /// What it is compared with.
        smaller: &'static str,
        /// What that is.
        base: Duration,
    },
    /// A duration of nothing.
    #[error("{0} must be longer than nothing")]
    Zero(&'static str),
    /// A backup starts a cluster, and a bootstrap joins one.
    #[error("a backup starts a cluster of its own: name no replica to join")]
    RestoreAndJoin,
    /// A witness has nothing to start a cluster with.
    #[error("a witness joins a cluster: name a replica of it to join")]
    WitnessAlone,
    /// There is no program to start.
    #[error("the worker's command is empty: name the program that hosts the object")]
    NoCommand,
}

impl ReplicaConfig {
    /// The defaults for everything but where and what.
    #[must_use]
    pub fn new(advertise: SocketAddr, object: ObjectSpec) -> Self {
        Self {
            advertise,
            bootstrap: Vec::new(),
            names: None,
            restore: None,
            data_dir: None,
            object,
            tick: Duration::from_millis(20),
            heartbeat: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            session_timeout: limits::SESSION_TIMEOUT,
            dead_timeout: limits::DEAD_TIMEOUT,
            snapshot_bytes: limits::SNAPSHOT_LOG_BYTES,
            disk_timeout: Duration::from_secs(1),
            learner: false,
            refused_is_dead: false,
            fence: None,
            #[cfg(feature = "dns")]
            dns: None,
            #[cfg(feature = "route53")]
            route53: None,
            greeting: Duration::from_millis(300),
        }
    }

    /// Whether a replica can be run with this.
    ///
    /// # Errors
    /// What to change.
    pub fn check(&self) -> Result<(), ConfigError> {
        if self.advertise.ip().is_unspecified() || self.advertise.port() == 0 {
            return Err(ConfigError::Unroutable(self.advertise));
        }
        if self.bootstrap.contains(&self.advertise) {
            return Err(ConfigError::OwnBootstrap(self.advertise));
        }
        if self.restore.is_some() && (!self.bootstrap.is_empty() || self.names.is_some()) {
            return Err(ConfigError::RestoreAndJoin);
        }
        if self.tick.is_zero() {
            return Err(ConfigError::Zero("tick"));
        }
        let times = |(larger, given): (_, Duration), factor, (smaller, base): (_, Duration)| {
            if given < base * factor {
                return Err(ConfigError::Order { larger, given, factor, smaller, base });
            }
            Ok(())
        };
        times(("heartbeat", self.heartbeat), 1, ("tick", self.tick))?;
        // Two lost heartbeats are no reason to elect.
        times(("election_timeout", self.election_timeout), 3, ("heartbeat", self.heartbeat))?;
        times(("session_timeout", self.session_timeout), 2, ("tick", self.tick))?;
        times(("dead_timeout", self.dead_timeout), 2, ("election_timeout", self.election_timeout))?;
        let is_alone = self.bootstrap.is_empty() && self.names.is_none();
        if is_alone && matches!(self.object, ObjectSpec::Nowhere(_)) {
            return Err(ConfigError::WitnessAlone);
        }
        self.object.worker().map_or(Ok(()), WorkerSpec::check)
    }
}

impl WorkerSpec {
    fn check(&self) -> Result<(), ConfigError> {
        if self.command.is_empty() {
            return Err(ConfigError::NoCommand);
        }
        if self.apply_timeout.is_zero() {
            return Err(ConfigError::Zero("apply_timeout"));
        }
        if self.load_timeout.is_zero() {
            return Err(ConfigError::Zero("load_timeout"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ReplicaConfig {
        let worker = WorkerSpec::python(Path::new("python3"), vec!["counter.Counter".into()]);
        ReplicaConfig::new(([127, 0, 0, 1], 14000).into(), ObjectSpec::Worker(worker))
    }

    #[test]
    fn the_defaults_are_right() {
        assert_eq!(config().check(), Ok(()));
    }

    #[test]
    fn an_address_that_nobody_can_reach_is_refused() {
        let mut config = config();
        config.advertise = ([0, 0, 0, 0], 14000).into();
        assert_eq!(config.check(), Err(ConfigError::Unroutable(config.advertise)));
    }

    #[test]
    fn a_replica_does_not_join_itself() {
        let mut config = config();
        config.bootstrap = vec![config.advertise];
        assert_eq!(config.check(), Err(ConfigError::OwnBootstrap(config.advertise)));
    }

    #[test]
    fn a_witness_joins_others() {
        let mut config = config();
        config.object = ObjectSpec::Nowhere("counter.Counter".into());
        assert_eq!(config.check(), Err(ConfigError::WitnessAlone));
        config.bootstrap = vec![([127, 0, 0, 1], 14001).into()];
        assert_eq!(config.check(), Ok(()));
    }

    #[test]
    fn an_election_waits_for_three_heartbeats() {
        let mut config = config();
        config.heartbeat = config.election_timeout / 2;
        assert!(matches!(config.check(), Err(ConfigError::Order { factor: 3, .. })));
    }
}
