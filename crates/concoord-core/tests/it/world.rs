//! A cluster in one thread: replicas, their network, their clients, and what befalls them, all
//! from one seed and in virtual time.

pub(crate) mod checks;
mod clients;
pub(crate) mod disk;
mod fences;
mod workers;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use concoord_core::call::ConnectionId;
use concoord_core::limits::FRAME_BYTES_MAX;
use concoord_core::replica::{Action, Config, Event, Hosting, Replica};
use concoord_core::view::{Member, Process, ReplicaId, Role, View};
use concoord_core::wire::{Answer, PeerMessage, Purpose, Request, Welcome, write_frame};

use self::checks::Checks;
use self::clients::Client;
use self::disk::{Disk, End};
pub(crate) use self::fences::Fences;
use self::workers::Worker;
use crate::dice::Dice;
use crate::history::Operation;
use crate::list::{LIST, List};

/// Microseconds.
pub(crate) type Time = u64;

const TICK: Time = 10_000;
const REDIAL: Time = 100_000;
const DIAL_TIMEOUT: Time = 2_000_000;
/// What the clocks say at the beginning.
const EPOCH_MS: u64 = 1_700_000_000_000;

/// What happens at a time.
enum Happening {
    Tick(usize, u64),
    /// From that node of that life.
    Dial(usize, u64, SocketAddr, Purpose),
    Hear(usize, u64, Event),
    /// A message on a stream; void if the stream is another by then.
    Deliver {
        from: usize,
        /// Who sent it, and to whom.
        ends: (ReplicaId, u64),
        to: usize,
        stream: u64,
        message: Box<PeerMessage>,
    },
    ToReplica(usize, ConnectionId, Request),
    ToClient(usize, ConnectionId, Answer),
    ClientTimer(usize, u64),
    /// The worker of that node of that life has time for the next thing.
    Work(usize, u64),
    /// The disk has written what it was at.
    Synced(usize, u64),
    Saved(usize, u64),
    DiskFails(usize, u64),
}

struct Node {
    address: SocketAddr,
    replica: Option<Replica>,
    id: ReplicaId,
    life: u64,
    list: Arc<Mutex<Vec<i64>>>,
    paused_until: Time,
    /// How far its clock is from the others', in milliseconds.
    clock_ms: i64,
    /// What came in while it was paused.
    waiting: Vec<Event>,
    worker: Worker,
    disk: Disk,
    served: bool,
    /// Whether it is started to stay a learner.
    learner: bool,
    pub(crate) stopped: Option<Result<String, String>>,
}

struct Stream {
    number: u64,
    last_arrival: Time,
}

pub(crate) struct World {
    pub(crate) now: Time,
    pub(crate) dice: Dice,
    happenings: BinaryHeap<Reverse<(Time, u64)>>,
    what: BTreeMap<u64, Happening>,
    count: u64,
    nodes: Vec<Node>,
    streams: BTreeMap<(usize, usize), Stream>,
    dialling: BTreeSet<(usize, u64, SocketAddr, Purpose)>,
    cut: BTreeSet<(usize, usize)>,
    /// Who is told to stop: soon they will be gone.
    leaving: BTreeSet<ReplicaId>,
    clients: Vec<Client>,
    owner: BTreeMap<ConnectionId, usize>,
    pub(crate) history: Vec<Operation>,
    /// Whether replicas can watch each other's processes.
    pub(crate) same_host: bool,
    pub(crate) loss_percent: u64,
    /// Streams that broke while something was still on its way.
    ghosts: BTreeMap<u64, (usize, usize)>,
    checks: Checks,
    disk_was_lost: bool,
    /// Messages to one peer come in any order, as no shell may have them.
    pub(crate) shuffled: bool,
    /// Whether the list lives in a worker of each replica.
    pub(crate) hosted: bool,
    /// Whether its state holds sets, so that a snapshot of it is made where the log says so.
    pub(crate) has_sets: bool,
    /// Whether replicas write down what they promise.
    pub(crate) durable: bool,
    /// Nodes that are witnesses.
    pub(crate) witnesses: BTreeSet<usize>,
    /// Bytes of log after which they write their state down anew.
    pub(crate) snapshot_bytes: usize,
    /// Nodes whose worker can't append an item below zero.
    pub(crate) crashes: BTreeSet<usize>,
    /// Whether clients append such items at times.
    pub(crate) poisoned: bool,
    /// Bytes that each append carries for nothing.
    pub(crate) padding: usize,
    /// Whether each message is checked to fit a frame.
    pub(crate) measured: bool,
    /// Bytes that were forwarded, where that is so.
    pub(crate) forwarded: usize,
    traced: bool,
    /// Whether the cluster is meant to become two.
    pub(crate) twins: bool,
    /// Whether a refused connection is a proof of death.
    pub(crate) refused_is_dead: bool,
    /// Whether connections that are cut are refused, as by a firewall, instead of swallowed.
    pub(crate) rejecting: bool,
    /// What the command does that fences a peer.
    pub(crate) fences: Option<Fences>,
    /// What replicas said to connections of no client of ours.
    said: Vec<(u64, Answer)>,
    /// What operators were told, and by which node.
    pub(crate) notes: Vec<(usize, tracing::Level, String)>,
    /// How long a snapshot travels, on a connection of its own; 0 for as long as any message.
    pub(crate) snapshot_time: Time,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let same_host = dice.chance(70);
        Self {
            now: 0,
            dice,
            happenings: BinaryHeap::new(),
            what: BTreeMap::new(),
            count: 0,
            nodes: Vec::new(),
            streams: BTreeMap::new(),
            dialling: BTreeSet::new(),
            cut: BTreeSet::new(),
            leaving: BTreeSet::new(),
            clients: Vec::new(),
            owner: BTreeMap::new(),
            history: Vec::new(),
            same_host,
            loss_percent: 0,
            ghosts: BTreeMap::new(),
            checks: Checks::default(),
            disk_was_lost: false,
            shuffled: false,
            hosted: false,
            has_sets: false,
            durable: false,
            witnesses: BTreeSet::new(),
            snapshot_bytes: 20_000,
            crashes: BTreeSet::new(),
            poisoned: false,
            padding: 0,
            measured: false,
            forwarded: 0,
            snapshot_time: 0,
            traced: std::env::var_os("SIM_TRACE").is_some(),
            twins: false,
            refused_is_dead: false,
            rejecting: false,
            fences: None,
            said: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Shown by `SIM_TRACE=1 SIM_SEED=n`: what befell that node.
    fn tell(&self, node: usize, what: impl FnOnce() -> String) {
        if self.traced {
            eprintln!("{:>10} node {node}: {}", self.now, what());
        }
    }

    fn at(&mut self, time: Time, happening: Happening) {
        self.count += 1;
        self.happenings.push(Reverse((time, self.count)));
        self.what.insert(self.count, happening);
    }

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

    pub(crate) fn address(&self, node: usize) -> SocketAddr {
        self.nodes[node].address
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
            Hosting::Nowhere(LIST.clone())
        } else if self.hosted {
            Hosting::Worker(LIST.clone())
        } else {
            Hosting::Native(Box::new(List(Arc::clone(&there.list))))
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
            session_timeout: Duration::from_secs(10),
            dead_timeout: Duration::from_secs(3),
            snapshot_bytes: self.snapshot_bytes,
            disk_timeout: Duration::from_secs(1),
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
        let life = there.life;
        let first = self.now + self.dice.below(TICK);
        self.at(first, Happening::Tick(node, life));
        self.dial(node);
    }

    pub(crate) fn is_up(&self, node: usize) -> bool {
        self.nodes[node].replica.is_some()
    }

    pub(crate) fn is_paused(&self, node: usize) -> bool {
        self.nodes[node].paused_until > self.now
    }

    /// Whether everybody who is up hears everybody.
    pub(crate) fn is_calm(&self) -> bool {
        self.cut.is_empty() && self.up().iter().all(|node| !self.is_paused(*node))
    }

    pub(crate) fn has_served(&self, node: usize) -> bool {
        self.nodes[node].served
    }

    pub(crate) fn up(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.is_up(*node)).collect()
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
    fn tell_death(&mut self, node: usize) {
        let (id, process) = (self.nodes[node].id, self.process(node, self.nodes[node].life));
        for other in self.up() {
            self.show_death(other, id, process.clone());
        }
    }

    fn show_death(&mut self, to: usize, id: ReplicaId, process: Process) {
        if self.same_host {
            let when = self.now + 100 + self.dice.below(3_000);
            let life = self.nodes[to].life;
            self.at(when, Happening::Hear(to, life, Event::PeerDead(id, process)));
        }
    }

    /// The process that a node is in one life of it.
    fn process(&self, node: usize, life: u64) -> Process {
        let boot = if self.same_host { String::new() } else { node.to_string() };
        Process { boot, namespace: 0, pid: node as u32, started: life }
    }

    fn lives(&self, wanted: &Process) -> bool {
        self.up().iter().any(|node| self.process(*node, self.nodes[*node].life) == *wanted)
    }

    fn break_streams(&mut self, node: usize) {
        let ends: Vec<(usize, usize)> = self
            .streams
            .keys()
            .filter(|(from, to)| *from == node || *to == node)
            .copied()
            .collect();
        for (from, to) in ends {
            self.break_stream(from, to);
        }
    }

    /// Both ends notice, soon.
    pub(crate) fn break_stream(&mut self, from: usize, to: usize) {
        let Some(stream) = self.streams.remove(&(from, to)) else { return };
        // What the sender's kernel had taken may still arrive, before the receiver sees the end.
        let late = !self.cut.contains(&(from, to)) && self.dice.chance(50);
        if late {
            self.ghosts.insert(stream.number, (from, to));
        }
        for (end, other) in [(from, to), (to, from)] {
            let id = self.nodes[other].id;
            let mut when = self.now + 20 + self.dice.below(500);
            if late && end == to {
                when = when.max(stream.last_arrival + 1);
            }
            let life = self.nodes[end].life;
            self.at(when, Happening::Hear(end, life, Event::PeerLost(id)));
        }
        for purpose in [Purpose::Stream, Purpose::Greet] {
            self.dial_at(self.now + REDIAL, from, self.nodes[to].address, purpose);
        }
    }

    /// Nothing passes between these two, either way or one way.
    pub(crate) fn sever(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    pub(crate) fn heal(&mut self) {
        let cut = std::mem::take(&mut self.cut);
        for (from, to) in cut {
            self.break_stream(from, to);
            self.break_stream(to, from);
        }
        self.loss_percent = 0;
        for node in 0..self.nodes.len() {
            let there = &mut self.nodes[node];
            there.paused_until = 0;
            (there.disk.slow, there.disk.broken) = (0, false);
            self.empty_disk(node);
        }
    }

    pub(crate) fn pause(&mut self, node: usize, time: Time) {
        self.nodes[node].paused_until = self.now + time;
    }

    /// A client that does as it likes: what `node` is asked on that connection.
    pub(crate) fn request(&mut self, node: usize, connection: u64, request: Request) {
        let life = self.nodes[node].life;
        self.at(
            self.now,
            Happening::Hear(node, life, Event::Request(ConnectionId(connection), request)),
        );
    }

    /// A connection that nobody has.
    pub(crate) fn connection(&mut self) -> u64 {
        self.count += 1;
        10_000_000 + self.count
    }

    /// What was answered on that connection so far.
    pub(crate) fn said(&self, connection: u64) -> impl Iterator<Item = &Answer> {
        self.said.iter().filter(move |(to, _)| *to == connection).map(|(_, answer)| answer)
    }

    /// The next replica there stays a learner.
    pub(crate) fn stay_learner(&mut self, node: usize) {
        self.nodes[node].learner = true;
    }

    pub(crate) fn id(&self, node: usize) -> ReplicaId {
        self.nodes[node].id
    }

    /// Why the replica there stopped, if it did.
    pub(crate) fn stopped(&self, node: usize) -> Option<&Result<String, String>> {
        self.nodes[node].stopped.as_ref()
    }

    /// The view of the replica there.
    pub(crate) fn view_of(&self, node: usize) -> Option<View> {
        self.nodes[node].replica.as_ref()?.status().view
    }

    /// The role of `of` as `node` has applied it.
    pub(crate) fn role(&self, node: usize, of: usize) -> Option<Role> {
        let view = self.nodes[node].replica.as_ref()?.status().view?;
        view.role(self.nodes[of].id)
    }

    pub(crate) fn leads(&self, node: usize) -> bool {
        let there = &self.nodes[node];
        there.replica.as_ref().is_some_and(|replica| replica.status().leader == Some(there.id))
    }

    pub(crate) fn lineage(&self, node: usize) -> u64 {
        self.view_of(node).map_or(0, |view| view.lineage)
    }

    /// Why the replica there is not ready, if it is not.
    pub(crate) fn reason(&self, node: usize) -> String {
        self.nodes[node].replica.as_ref().unwrap().status().reason
    }

    /// Where the log on that node's disk begins, and where it ends.
    pub(crate) fn log_on_disk(&self, node: usize) -> (u64, u64) {
        (self.nodes[node].disk.first(), self.nodes[node].disk.last())
    }

    pub(crate) fn sessions(&self, node: usize) -> u64 {
        self.nodes[node].replica.as_ref().unwrap().status().sessions
    }

    pub(crate) fn calls(&self, node: usize) -> u64 {
        self.nodes[node].replica.as_ref().unwrap().status().calls
    }

    pub(crate) fn leave(&mut self, node: usize) {
        let life = self.nodes[node].life;
        self.leaving.insert(self.nodes[node].id);
        self.at(self.now, Happening::Hear(node, life, Event::Leave));
    }

    /// How the latest view among the living has it, and whether all of them agree on it.
    pub(crate) fn view(&self) -> Option<(View, bool)> {
        let views: Vec<View> =
            self.nodes.iter().filter_map(|node| node.replica.as_ref()?.status().view).collect();
        let latest = views.iter().max_by_key(|view| (view.lineage, view.number))?.clone();
        let agreed = views.iter().all(|view| *view == latest);
        Some((latest, agreed))
    }

    /// Whether the cluster can lose this replica now without losing what it has acknowledged.
    pub(crate) fn can_spare(&self, node: usize) -> bool {
        let Some((view, agreed)) = self.view() else { return false };
        let id = self.nodes[node].id;
        let awake = |id: ReplicaId| {
            let there = self.nodes.iter().position(|node| node.id == id && node.replica.is_some());
            there.is_some_and(|at| !self.is_paused(at)) && !self.leaving.contains(&id)
        };
        if view.role(id) != Some(Role::Voter) {
            return true;
        }
        let voters = view.voters().count();
        let left = view.voters().filter(|voter| voter.id != id && awake(voter.id)).count();
        // A witness goes on with nothing.
        if !view.serving().any(|member| member.id != id && awake(member.id)) {
            return false;
        }
        // Changes of the members that are under way are on the log of the leader alone, maybe.
        let quiet = agreed
            && view.members.len() == voters
            && self
                .nodes
                .iter()
                .all(|node| node.replica.is_none() || view.member(node.id).is_some());
        quiet && (2 * left > voters || voters == 2 && left == 1 && self.same_host)
    }

    /// Whether the cluster can lose what this node, which is down, has on disk: all others are
    /// well, of one mind and enough without it.
    pub(crate) fn can_spare_disk(&self, node: usize) -> bool {
        let Some((view, agreed)) = self.view() else { return false };
        let well = |id: ReplicaId| {
            let there = self.nodes.iter().position(|node| node.id == id && node.replica.is_some());
            there.is_some_and(|at| !self.is_paused(at)) && !self.leaving.contains(&id)
        };
        let id = self.nodes[node].id;
        let mut others = view.members.iter().filter(|(member, _)| member.id != id);
        let voters = view.voters().count();
        let left = view.voters().filter(|voter| voter.id != id).count();
        agreed
            // Witnesses have nothing to go on with.
            && view.serving().any(|member| member.id != id)
            && !self.is_up(node)
            && self.is_calm()
            && others.all(|(member, role)| *role == Role::Voter && well(member.id))
            && 2 * left > voters
    }

    /// Whether every member, as the latest view has it, is there or can be started again.
    pub(crate) fn is_whole(&self) -> bool {
        let Some((view, _)) = self.view() else { return false };
        let is_there = |id| {
            let node = self.nodes.iter().find(|node| node.id == id);
            node.is_some_and(|node| node.replica.is_some() || node.disk.is_of(id))
        };
        view.members.iter().all(|(member, _)| is_there(member.id))
    }

    /// The clock of that node says something else from now on.
    pub(crate) fn set_clock(&mut self, node: usize, ahead_ms: i64) {
        self.seen("clock jump");
        self.nodes[node].clock_ms = ahead_ms;
    }

    pub(crate) fn nodes(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn stuck(&self) -> String {
        let mut text = format!("same host: {}\n", self.same_host);
        for (at, node) in self.nodes.iter().enumerate() {
            let status = node.replica.as_ref().map(Replica::status);
            text += &format!("node {at} {} stopped {:?}: {status:#?}\n", node.id, node.stopped);
        }
        text
    }

    /// Runs until that time, or until it is done.
    pub(crate) fn run_until(&mut self, end: Time, done: impl Fn(&Self) -> bool) {
        while let Some(Reverse((time, number))) = self.happenings.peek().copied() {
            if done(self) {
                return;
            }
            if time > end {
                break;
            }
            self.happenings.pop();
            self.now = time;
            let happening = self.what.remove(&number).unwrap();
            self.happen(happening);
        }
        self.now = self.now.max(end);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Tick(node, life) if self.nodes[node].life == life && self.is_up(node) => {
                self.at(self.now + TICK, Happening::Tick(node, life));
                // A paused process misses its ticks.
                if !self.is_paused(node) {
                    let waiting = std::mem::take(&mut self.nodes[node].waiting);
                    for event in waiting {
                        self.nodes[node].replica.as_mut().unwrap().step(event);
                    }
                    self.hear(node, Event::Tick);
                }
            }
            Happening::Dial(node, life, address, purpose) if self.nodes[node].life == life => {
                self.dialling.remove(&(node, life, address, purpose));
                self.try_dial(node, address, purpose);
            }
            Happening::Hear(node, life, event) if self.nodes[node].life == life => {
                self.hear(node, event);
            }
            Happening::Deliver { from, ends, to, stream, message } => {
                let open = self.streams.get(&(from, to)).is_some_and(|now| now.number == stream);
                let late = !open && self.ghosts.contains_key(&stream);
                if late {
                    self.seen("late message");
                }
                if open || late && self.nodes[to].life == ends.1 {
                    self.deliver(from, ends.0, to, *message);
                } else if is_snapshot(&message) {
                    self.seen("snapshot interrupted");
                    let life = self.nodes[from].life;
                    if let PeerMessage::Consensus(envelope) = *message {
                        self.snapshot_lost(from, life, envelope.to());
                    }
                }
            }
            Happening::ToReplica(node, connection, request) => {
                let life = self.nodes[node].life;
                if self.owner.contains_key(&connection) && self.is_up(node) {
                    self.happen(Happening::Hear(node, life, Event::Request(connection, request)));
                }
            }
            Happening::ToClient(client, connection, answer) => {
                self.answered(client, connection, answer);
            }
            Happening::ClientTimer(client, timer) if self.clients[client].timer == timer => {
                self.connect(client);
            }
            Happening::Work(node, life) if self.nodes[node].life == life => self.work(node),
            Happening::Synced(node, life) if self.lives_on(node, life) => self.synced(node),
            Happening::Saved(node, life) if self.lives_on(node, life) => self.saved(node),
            Happening::DiskFails(node, life) if self.lives_on(node, life) => {
                self.disk_failed(node);
            }
            Happening::Tick(..)
            | Happening::Work(..)
            | Happening::Synced(..)
            | Happening::Saved(..)
            | Happening::DiskFails(..)
            | Happening::Dial(..)
            | Happening::Hear(..)
            | Happening::ClientTimer(..) => {}
        }
    }

    fn lives_on(&self, node: usize, life: u64) -> bool {
        self.nodes[node].life == life && self.is_up(node)
    }

    fn deliver(&mut self, from: usize, id: ReplicaId, to: usize, message: PeerMessage) {
        let life = self.nodes[to].life;
        if let PeerMessage::Consensus(envelope) = &message
            && envelope.has_snapshot()
        {
            self.seen("snapshot received");
            let sender = self.nodes[from].life;
            self.at(
                self.now + 50,
                Happening::Hear(from, sender, Event::SnapshotSent(envelope.to(), true)),
            );
        }
        self.happen(Happening::Hear(to, life, Event::Message(id, message)));
    }

    /// Gives a replica an event and carries out what follows.
    fn hear(&mut self, node: usize, event: Event) {
        // What came during a pause is taken in first, with the next tick.
        if self.is_paused(node) || !self.nodes[node].waiting.is_empty() {
            self.nodes[node].waiting.push(event);
            return;
        }
        let Some(replica) = self.nodes[node].replica.as_mut() else { return };
        replica.step(event);
        let mut actions = Vec::new();
        let clock_ms = EPOCH_MS.saturating_add_signed(self.nodes[node].clock_ms);
        let replica = self.nodes[node].replica.as_mut().unwrap();
        replica.turn(Duration::from_micros(self.now), clock_ms + self.now / 1000, &mut actions);
        for action in actions {
            self.check_action(node, &action);
            self.perform(node, action);
        }
        self.check_node(node);
    }

    fn perform(&mut self, node: usize, action: Action) {
        match action {
            Action::Answer(connection, answer) => {
                if let Some(client) = self.owner.get(&connection).copied() {
                    let when = self.now + 30 + self.dice.below(300);
                    self.at(when, Happening::ToClient(client, connection, answer));
                } else {
                    self.said.push((connection.0, answer));
                }
            }
            Action::Send(id, message) => self.send(node, id, message),
            Action::HangUp(id) => {
                if let Some(from) = self.nodes.iter().position(|node| node.id == id) {
                    self.break_stream(from, node);
                }
            }
            Action::Contacts => self.dial(node),
            Action::Serving => self.nodes[node].served = true,
            Action::Stop(reason) => {
                self.tell(node, || format!("stop {reason:?}"));
                self.nodes[node].replica = None;
                self.nodes[node].stopped = Some(reason);
                self.break_streams(node);
                self.tell_death(node);
            }
            Action::Restart(bootstrap, reason) => {
                self.tell(node, || format!("restart {bootstrap:?} {reason:?}"));
                self.break_streams(node);
                self.nodes[node].disk = Disk::default();
                self.nodes[node].disk.rejoin.clone_from(&bootstrap);
                self.start(node, bootstrap);
            }
            Action::Disconnect(connection) => {
                self.seen("disconnected");
                self.owner.remove(&connection);
            }
            Action::Watch(id, process) => {
                if !self.lives(&process) {
                    self.show_death(node, id, process);
                }
            }
            Action::Persist(persist) => self.persist(node, persist),
            Action::Save(snapshot) => self.save(node, &snapshot),
            Action::Fence(number, peer) => self.fence(node, number, &peer),
            Action::Backup(..) => unreachable!("no client here asks for one"),
            Action::Note(level, text) => {
                self.tell(node, || text.clone());
                self.notes.push((node, level, text));
            }
            Action::View(view) => self.tell(node, || {
                let member = |(member, role): &(Member, Role)| {
                    format!(" {} {} {role:?}", member.address.port(), member.id)
                };
                let members: Vec<String> = view.members.iter().map(member).collect();
                format!("view {} of lineage {}:{}", view.number, view.lineage, members.join(","))
            }),
            Action::Worker(action) => self.ask_worker(node, action),
        }
    }

    fn snapshot_lost(&mut self, from: usize, life: u64, to: ReplicaId) {
        let when = self.now + 1_000 + self.dice.below(100_000);
        self.at(when, Happening::Hear(from, life, Event::SnapshotSent(to, false)));
    }

    fn send(&mut self, from: usize, id: ReplicaId, message: PeerMessage) {
        let Some(to) = self.nodes.iter().position(|node| node.id == id) else { return };
        let lost = self.cut.contains(&(from, to)) || self.dice.below(1000) < self.loss_percent;
        let delay = 20
            + self.dice.below(200)
            + if self.dice.chance(2) { self.dice.below(30_000) } else { 0 };
        let ends = (self.nodes[from].id, self.nodes[to].life);
        if is_snapshot(&message) {
            self.seen("snapshot sent");
        }
        if is_snapshot(&message) && (lost || !self.streams.contains_key(&(from, to))) {
            // Who sends one is told what became of it.
            return self.snapshot_lost(from, self.nodes[from].life, id);
        }
        let Some(stream) = self.streams.get_mut(&(from, to)) else { return };
        if lost {
            return;
        }
        if self.measured {
            let mut frame = BytesMut::new();
            write_frame(&message, &mut frame);
            assert!(frame.len() <= FRAME_BYTES_MAX, "a message of {} bytes", frame.len());
            if matches!(message, PeerMessage::Forward(_)) {
                self.forwarded += frame.len();
            }
        }
        if self.snapshot_time > 0 && is_snapshot(&message) {
            let (when, stream) = (self.now + self.snapshot_time, stream.number);
            let message = Box::new(message);
            self.at(when, Happening::Deliver { from, ends, to, stream, message });
            return;
        }
        // In order, as a stream is.
        let when = (self.now + delay).max(if self.shuffled { 0 } else { stream.last_arrival + 1 });
        stream.last_arrival = stream.last_arrival.max(when);
        let stream = stream.number;
        let twice = matches!(message, PeerMessage::Forward(_) | PeerMessage::Join(_))
            && self.dice.chance(5);
        if twice {
            let message = Box::new(message.clone());
            self.at(when, Happening::Deliver { from, ends, to, stream, message });
        }
        let message = Box::new(message);
        self.at(when, Happening::Deliver { from, ends, to, stream, message });
    }

    fn dial(&mut self, node: usize) {
        let Some(replica) = self.nodes[node].replica.as_ref() else { return };
        let contacts: Vec<_> = replica
            .contacts()
            .into_iter()
            .map(|contact| (contact.address, contact.purpose))
            .collect();
        for (address, purpose) in contacts.into_iter().collect::<BTreeSet<_>>() {
            let when = self.now + 10 + self.dice.below(100);
            self.dial_at(when, node, address, purpose);
        }
    }

    fn dial_at(&mut self, when: Time, node: usize, address: SocketAddr, purpose: Purpose) {
        let life = self.nodes[node].life;
        if self.dialling.insert((node, life, address, purpose)) {
            self.at(when, Happening::Dial(node, life, address, purpose));
        }
    }

    /// Connects, if it is still wanted and not done, and tries again later if it can't.
    fn try_dial(&mut self, node: usize, address: SocketAddr, purpose: Purpose) {
        let Some(replica) = self.nodes[node].replica.as_ref() else { return };
        let wanted = replica
            .contacts()
            .iter()
            .any(|contact| contact.address == address && contact.purpose == purpose);
        let Some(to) = self.nodes.iter().position(|other| other.address == address) else { return };
        if !wanted || self.streams.contains_key(&(node, to)) {
            return;
        }
        let hello = replica.hello(purpose);
        let life = self.nodes[node].life;
        let cut = self.cut.contains(&(node, to)) || self.cut.contains(&(to, node));
        let deaf = cut || self.is_paused(to);
        // The kernel takes connections for a process that is stopped.
        let refused = if cut { self.rejecting } else { !self.is_up(to) };
        if refused || cut {
            let when = self.now + if refused { 100 } else { DIAL_TIMEOUT };
            self.at(when, Happening::Hear(node, life, Event::Unreached(address, refused)));
        }
        let Some(other) = self.nodes[to].replica.as_mut().filter(|_| !deaf) else {
            self.dial_at(self.now + REDIAL, node, address, purpose);
            return;
        };
        let welcome = other.greet_peer(&hello);
        let accepted = matches!(welcome, Welcome::Peer { .. }) && purpose == Purpose::Stream;
        let (id, other_life) = (self.nodes[to].id, self.nodes[to].life);
        self.at(self.now + 50, Happening::Hear(node, life, Event::Welcomed(address, welcome)));
        if accepted {
            self.count += 1;
            // The receiver has given up the stream before.
            self.ghosts.retain(|_, ends| *ends != (node, to));
            self.streams
                .insert((node, to), Stream { number: self.count, last_arrival: self.now + 50 });
            self.at(self.now + 51, Happening::Hear(node, life, Event::PeerReached(id)));
        } else {
            self.dial_at(self.now + REDIAL, node, address, purpose);
        }
        // What greeting led to is carried out with the next turn.
        self.at(
            self.now + 1,
            Happening::Hear(to, other_life, Event::Disconnected(ConnectionId(0))),
        );
    }

    /// How far each member has applied, and its digest there.
    pub(crate) fn digests(&self) -> Vec<(u64, u64, usize)> {
        self.nodes
            .iter()
            .enumerate()
            .filter_map(|(at, node)| {
                let status = node.replica.as_ref()?.status();
                status.view.as_ref()?.role(status.replica.id)?;
                if status.replica.witness {
                    return None;
                }
                Some((status.applied, status.digest, at))
            })
            .collect()
    }

    /// The list at the replica that has applied the most.
    pub(crate) fn list(&self) -> Vec<i64> {
        let applied = |node: &&Node| {
            let status = node.replica.as_ref().map(Replica::status)?;
            (!status.replica.witness).then_some(status.applied)
        };
        self.nodes.iter().max_by_key(applied).unwrap().list.lock().unwrap().clone()
    }
}

fn is_snapshot(message: &PeerMessage) -> bool {
    matches!(message, PeerMessage::Consensus(envelope) if envelope.has_snapshot())
}
