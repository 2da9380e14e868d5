//! What a replica is told, and what it wants done.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::call::ConnectionId;
use crate::durable::{Persist, Snapshot};
use crate::snapshot::About;
use crate::view::{Member, Process, ReplicaId, View};
use crate::wire::{Answer, Done, HostedCall, PeerMessage, Purpose, Request, Welcome};

/// What a replica is started with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Itself; the id is new in each life.
    pub member: Member,
    /// Replicas of the cluster to join; empty to start one.
    pub bootstrap: Vec<SocketAddr>,
    /// The state that the cluster starts with, if it is to start with one.
    pub restore: Option<Snapshot>,
    /// See [`PeerHello::runtime`](crate::wire::PeerHello::runtime).
    pub runtime: String,
    /// What all randomness of this replica comes from.
    pub seed: u64,
    /// How long a tick is: how often [`Event::Tick`] comes.
    pub tick: Duration,
    /// Silence of the leader after which an election may start; also how long a leader goes on
    /// without hearing from a quorum.
    pub election_timeout: Duration,
    /// How often a leader greets its followers when there is nothing else to say.
    pub heartbeat: Duration,
    /// Silence after which a session is expired.
    pub session_timeout: Duration,
    /// Silence after which a member is removed, where the rest keeps a quorum.
    pub dead_timeout: Duration,
    /// Bytes of log after which a durable replica writes its state down anew.
    pub snapshot_bytes: usize,
    /// How long the disk may take for what it is asked, before a leader hands on to one whose
    /// disk is quicker.
    pub disk_timeout: Duration,
    /// How long the worker may take for what it is asked, all attempts included to find what it
    /// dies of, before a leader hands on to one whose worker is quicker.
    pub worker_timeout: Duration,
    /// Whether a member is proven to be gone by its host, when that refuses connections to it.
    pub refused_is_dead: bool,
    /// Whether [`Action::Fence`] can be done.
    pub fences: bool,
    /// How long a bootstrap waits to be greeted by a cluster that it once belonged to, before it
    /// starts one.
    pub greeting: Duration,
}

/// What reaches a replica.
#[derive(Debug)]
pub enum Event {
    /// Another tick has passed.
    Tick,
    /// A client asks.
    Request(ConnectionId, Request),
    /// A client's connection is gone.
    Disconnected(ConnectionId),
    /// A peer speaks.
    Message(ReplicaId, PeerMessage),
    /// The stream to that peer is open: what is sent now will arrive, in order.
    PeerReached(ReplicaId),
    /// A stream to or from that peer broke. A hint, nothing more.
    PeerLost(ReplicaId),
    /// A process of which [`Action::Watch`] said that it is that peer's is gone: proven.
    PeerDead(ReplicaId, Process),
    /// Nobody answered at that address; where the flag is set, its host said that nobody listens
    /// there.
    Unreached(SocketAddr, bool),
    /// The [`Action::Fence`] of that number is over, well or not.
    Fenced(u64, Result<(), String>),
    /// Sending the snapshot in that message to that peer is over, well or not.
    SnapshotSent(ReplicaId, bool),
    /// A replica at that address, reached with [`Purpose::Stream`] or [`Purpose::Greet`],
    /// answered our hello.
    Welcomed(SocketAddr, Welcome),
    /// The names that this replica was given to ask for a cluster stand for these addresses now.
    Found(Vec<SocketAddr>),
    /// The worker has done these calls; the next of its timers is due then, by the clock.
    Done(Vec<Done>, Option<u64>),
    /// No worker can be started in place of one that died, and why not; `Ok` once one was.
    Hosting(Result<(), String>),
    /// The worker died of this call, or did not come back from it, and did so again when it was
    /// tried once more.
    HostFailed(u64),
    /// The worker's state at that number, or why there is none.
    Snapshot(u64, Result<Bytes, String>),
    /// The worker's state holds sets, so that a snapshot of it (at that number, if one was asked
    /// for) is of use only where the log has all replicas settle.
    Unsettled(u64),
    /// The worker has taken the state in, or could not.
    Restored(Result<(), String>),
    /// What [`Action::Persist`] asked for up to that number is safe.
    Persisted(u64),
    /// The snapshot of [`Action::Save`] at that index is safe, or why it can't be.
    Saved(u64, Result<(), String>),
    /// This replica is told to stop: it leaves the view, then says [`Action::Stop`].
    Leave,
}

/// What a replica wants done, in the order given. [`Action::Persist`] and [`Action::Save`] keep their
/// order among themselves, and may be done after the others of their turn: what must not be sent before
/// something is safe comes out only after [`Event::Persisted`].
#[derive(Debug)]
pub enum Action {
    /// Tell a client; if its connection is gone, nobody.
    Answer(ConnectionId, Answer),
    /// Close the connection of a client that goes beyond its limits.
    Disconnect(ConnectionId),
    /// Make this safe, whatever becomes of this process; answered by [`Event::Persisted`]. Only
    /// of a replica that is [durable](crate::view::Member::durable).
    Persist(Persist),
    /// Keep this snapshot; answered by [`Event::Saved`]. What was written and it stands for may
    /// then be deleted. Others may be asked to be persisted meanwhile.
    Save(Snapshot),
    /// That is a process of that peer, as it says: watch it, if that is possible here, and tell
    /// of its end by [`Event::PeerDead`].
    Watch(ReplicaId, Process),
    /// Make sure that this peer does nothing any more, by whatever means the operator gave;
    /// answered by [`Event::Fenced`] with that number.
    Fence(u64, Member),
    /// Send to a peer; it may be lost. Messages to one peer stay in order. A message that holds
    /// a snapshot ([`crate::consensus::Envelope::take_snapshot`]) travels on a connection of its
    /// own and is answered by [`Event::SnapshotSent`].
    Send(ReplicaId, PeerMessage),
    /// Close the streams that come from that peer, after what was sent to it before: it is no
    /// member any more, and learns so when it dials again.
    HangUp(ReplicaId),
    /// Have the worker do this.
    Worker(WorkerAction),
    /// [`Replica::contacts`](super::Replica::contacts) has changed.
    Contacts,
    /// Send that client the backup that it asked for.
    Backup(ConnectionId, About, Snapshot),
    /// The view has changed.
    View(View),
    /// From now on calls are served: the replica is a voter of a cluster with a leader.
    Serving,
    /// Something that an operator should know.
    Note(tracing::Level, String),
    /// Start this replica anew, as another incarnation that joins through these addresses: what
    /// it holds is of no use. All connections of clients are closed. The reason is a sentence
    /// for people.
    Restart(Vec<SocketAddr>, String),
    /// There is nothing left to do here; the reason is a sentence for people. `Ok` where the
    /// replica was told to, `Err` where it can't go on.
    Stop(Result<String, String>),
}

/// What the worker is asked for; [`crate::wire::ToWorker`] says what each means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "as ToWorker's")]
pub enum WorkerAction {
    Apply {
        index: u64,
        time_ms: u64,
        clock_ms: u64,
        calls: Vec<HostedCall>,
    },
    Read {
        time_ms: u64,
        calls: Vec<HostedCall>,
    },
    Snapshot(u64),
    Settle(u64),
    Restore(Bytes),
    /// Do without the call of that number: all replicas skip it. A worker that is stuck at it, or
    /// has run it, starts again from the last state and leaves it out. Its
    /// [`Event::Done`] says [`Refusal::ObjectCrashed`](crate::call::Refusal::ObjectCrashed).
    Skip(u64),
}

/// Someone to keep a connection to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contact {
    /// Where.
    pub address: SocketAddr,
    /// Who, where it is known; `None` for a bootstrap or a lost address.
    pub id: Option<ReplicaId>,
    /// What for.
    pub purpose: Purpose,
}
