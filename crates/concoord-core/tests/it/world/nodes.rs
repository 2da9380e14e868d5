//! Processes: how they start, stop for a while and end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use concoord_core::replica::{Config, Event, Hosting, Replica};
use concoord_core::view::{Member, Process, ReplicaId};

use super::disk::{Disk, End};
use super::lockers::SESSION_TIMEOUT;
use super::workers::Worker;
use super::{Happening, Node, TICK, Time, World};
use crate::list::{LIST, List};

impl World {
    /// A new place for a replica.
    pub(crate) fn place(&mut self) -> usize {
        let at = self.nodes.len();
        let address = SocketAddr::from(([127, 0, 0, 1], 14_000 + u16::try_from(at).unwrap()));
        self.nodes.push(Node {
            address,
            replica: None,
            id: ReplicaId(0),
            life: 0,
            list: Arc::default(),
            paused_until: 0,
            clock_ms: 0,
            waiting: Vec::new(),
            worker: Worker::default(),
            disk: Disk::default(),
            served: false,
            learner: false,
            stopped: None,
        });
        at
    }

    pub(crate) fn start(&mut self, node: usize, mut bootstrap: Vec<SocketAddr>) {
        self.tell(node, || format!("start {bootstrap:?}"));
        let mut id = ReplicaId(self.dice.roll() | 1);
        let seed = self.dice.roll();
        let process = Some(self.process(node, self.nodes[node].life + 1));
        let there = &mut self.nodes[node];
        let (mut recovered, mut tail) = (None, 0);
        if self.durable {
            match there.disk.recover(&mut self.dice) {
                Some((own, found, torn)) => (id, recovered, tail) = (own, Some(found), torn),
                None => there.disk.begin(id, &mut self.dice),
            }
            bootstrap.extend(&there.disk.rejoin);
        }
        if recovered.is_some() {
            self.seen("recovered");
        }
        if tail > 0 {
            self.seen("torn tail cut");
        }
        let there = &mut self.nodes[node];
        let (durable, learner) = (self.durable, there.learner);
        let witness = self.witnesses.contains(&node);
        let member =
            Member { process, durable, learner, witness, ..Member::new(id, there.address) };
        there.list = Arc::default();
        let hosting = if witness {
            Hosting::nowhere(LIST.clone())
        } else if self.hosted {
            Hosting::worker(vec![LIST.clone()])
        } else {
            Hosting::native(Box::new(List(Arc::clone(&there.list))))
        };
        there.worker = Worker::default();
        let config = Config {
            member,
            bootstrap,
            restore: None,
            runtime: String::new(),
            seed,
            tick: Duration::from_micros(TICK),
            election_timeout: Duration::from_millis(500),
            heartbeat: Duration::from_millis(50),
            session_timeout: Duration::from_micros(SESSION_TIMEOUT),
            dead_timeout: Duration::from_secs(3),
            snapshot_bytes: self.snapshot_bytes,
            disk_timeout: Duration::from_secs(1),
            worker_timeout: Duration::from_secs(5),
            refused_is_dead: self.refused_is_dead,
            fences: self.fences.is_some(),
            greeting: Duration::from_millis(300),
        };
        there.replica = Some(match recovered {
            Some(recovered) => Replica::recover(config, hosting, recovered).unwrap(),
            None => Replica::new(config, hosting),
        });
        there.id = id;
        there.life += 1;
        there.stopped = None;
        there.served = false;
        there.waiting.clear();
        // Nobody has stopped the new process.
        there.paused_until = 0;
        let life = there.life;
        let first = self.now + self.dice.below(TICK);
        self.at(first, Happening::Tick(node, life));
        self.dial(node);
    }

    /// kill -9, or worse.
    pub(crate) fn crash(&mut self, node: usize, end: End) {
        self.tell(node, || format!("dies: {end:?}"));
        self.seen(if end == End::Killed { "killed" } else { "power lost" });
        self.nodes[node].replica = None;
        self.nodes[node].disk.end = Some(end);
        self.nodes[node].paused_until = 0;
        self.break_streams(node);
        self.tell_death(node);
    }

    /// Whoever watches that node's process sees it end.
    pub(super) fn tell_death(&mut self, node: usize) {
        let (id, process) = (self.nodes[node].id, self.process(node, self.nodes[node].life));
        for other in self.up() {
            self.show_death(other, id, process.clone());
        }
    }

    pub(super) fn show_death(&mut self, to: usize, id: ReplicaId, process: Process) {
        if self.same_host {
            let when = self.now + 100 + self.dice.below(3_000);
            let life = self.nodes[to].life;
            self.at(when, Happening::Hear(to, life, Event::PeerDead(id, process)));
        }
    }

    /// The process that a node is in one life of it.
    pub(super) fn process(&self, node: usize, life: u64) -> Process {
        let boot = if self.same_host { String::new() } else { node.to_string() };
        Process { boot, namespace: 0, pid: node as u32, started: life }
    }

    pub(super) fn lives(&self, wanted: &Process) -> bool {
        self.up().iter().any(|node| self.process(*node, self.nodes[*node].life) == *wanted)
    }

    pub(crate) fn pause(&mut self, node: usize, time: Time) {
        self.nodes[node].paused_until = self.now + time;
    }

    /// The next replica there stays a learner.
    pub(crate) fn stay_learner(&mut self, node: usize) {
        self.nodes[node].learner = true;
    }

    pub(crate) fn leave(&mut self, node: usize) {
        let life = self.nodes[node].life;
        self.leaving.insert(self.nodes[node].id);
        self.at(self.now, Happening::Hear(node, life, Event::Leave));
    }

    /// The clock of that node says something else from now on.
    pub(crate) fn set_clock(&mut self, node: usize, ahead_ms: i64) {
        self.seen("clock jump");
        self.nodes[node].clock_ms = ahead_ms;
    }
}
