//! A cluster in one thread: replicas, their network, their clients, and what befalls them, all
//! from one seed and in virtual time.

pub(crate) mod checks;
mod clients;
pub(crate) mod disk;
mod fences;
mod lockers;
mod looks;
mod network;
mod nodes;
mod workers;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use concoord_core::call::ConnectionId;
use concoord_core::replica::{Action, Event, Replica};
use concoord_core::view::{ClusterId, Member, ReplicaId, Role};
use concoord_core::wire::{Answer, PeerMessage, Purpose, Request};

use self::checks::Checks;
use self::clients::Client;
use self::disk::Disk;
pub(crate) use self::fences::Fences;
use self::lockers::{LOCKERS, Lockers};
use self::network::{Stream, is_snapshot};
use self::workers::Worker;
use crate::dice::Dice;
use crate::history::Operation;

/// Microseconds.
pub(crate) type Time = u64;

const TICK: Time = 10_000;
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
    LockerTimer(usize, u64),
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
    lockers: Lockers,
    owner: BTreeMap<ConnectionId, usize>,
    pub(crate) history: Vec<Operation>,
    /// Whether replicas can watch each other's processes.
    pub(crate) same_host: bool,
    pub(crate) loss_percent: u64,
    /// Streams that broke while something was still on its way.
    ghosts: BTreeMap<u64, (usize, usize)>,
    checks: Checks,
    /// In which order the sets iterate of who has run so many calls of that entry, and who said so.
    orders: BTreeMap<(ClusterId, u64, usize), (usize, u64)>,
    disk_was_lost: bool,
    /// Messages to one peer come in any order, as no shell may have them.
    pub(crate) shuffled: bool,
    /// Whether the list lives in a worker of each replica.
    pub(crate) hosted: bool,
    /// Whether its state holds sets, so that a snapshot of it is made where the log says so.
    pub(crate) has_sets: bool,
    /// Whether replicas write down what they promise.
    pub(crate) durable: bool,
    /// Bytes of log after which they write their state down anew.
    pub(crate) snapshot_bytes: usize,
    /// Nodes that are witnesses.
    pub(crate) witnesses: BTreeSet<usize>,
    /// Nodes whose worker can't append an item below zero.
    pub(crate) crashes: BTreeSet<usize>,
    /// Whether clients append such items at times.
    pub(crate) poisoned: bool,
    /// Bytes that each append carries for nothing.
    pub(crate) padding: usize,
    /// Whether each message is checked to fit a frame.
    pub(crate) measured: bool,
    /// Messages that replicas have sent each other.
    pub(crate) sent: u64,
    /// Bytes that were forwarded, where that is so.
    pub(crate) forwarded: usize,
    traced: bool,
    /// Whether the cluster is meant to become two.
    pub(crate) twins: bool,
    /// Whether nobody dies while others are cut off.
    pub(crate) careful: bool,
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
            lockers: Lockers::default(),
            owner: BTreeMap::new(),
            history: Vec::new(),
            same_host,
            loss_percent: 0,
            ghosts: BTreeMap::new(),
            checks: Checks::default(),
            orders: BTreeMap::new(),
            disk_was_lost: false,
            shuffled: false,
            hosted: false,
            has_sets: false,
            durable: false,
            snapshot_bytes: 20_000,
            witnesses: BTreeSet::new(),
            crashes: BTreeSet::new(),
            poisoned: false,
            padding: 0,
            measured: false,
            sent: 0,
            forwarded: 0,
            snapshot_time: 0,
            traced: std::env::var_os("SIM_TRACE").is_some(),
            twins: false,
            careful: false,
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

    /// Runs until that time, or until it is done.
    pub(crate) fn run_until(&mut self, end: Time, mut done: impl FnMut(&Self) -> bool) {
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
            Happening::ToClient(client, connection, answer) if client >= LOCKERS => {
                self.locker_answered(client - LOCKERS, connection, answer);
            }
            Happening::LockerTimer(locker, timer) => self.locker_timer(locker, timer),
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
                self.nodes[node].disk.discard(bootstrap.clone());
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
}
