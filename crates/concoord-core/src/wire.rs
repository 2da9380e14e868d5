//! What travels over a connection, and how.
//!
//! A connection opens with [`PREAMBLE`], then carries frames both ways: a header of twelve bytes
//! (length, checksum, both little-endian, and four reserved zeros), then a message in postcard's encoding of
//! the types below. The first byte of the preamble is none that HTTP or TLS starts with, so one
//! port serves all. The length is checked before memory is taken; the checksum (CRC-32C) covers
//! length and message.
//!
//! Who connects speaks first: a [`Hello`], answered by a [`Welcome`] or a refusal. Then
//! - a client sends [`Request`]s and gets [`Answer`]s,
//! - a peer sends [`PeerMessage`]s and gets nothing: each replica dials each other one, and a
//!   stream carries one direction, in order.
//!
//! A replica and the worker that hosts its object speak the same frames over a socket pair, with
//! [`ToWorker`] and [`FromWorker`]. States travel through pipes beside it, one for each: no call or
//! reply waits behind one.

use std::net::SocketAddr;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::call::{Call, CallId, ObjectName, Outcome, Refusal, SessionId};
use crate::consensus::Envelope;
use crate::log::Command;
use crate::object::Interface;
use crate::snapshot::About;
use crate::view::{ClusterId, Member, ReplicaId, Standing, View};

/// The first bytes of a connection: what we are, and the version of everything below.
pub const PREAMBLE: [u8; 8] = *b"\xC0\xCDcncrd\x01";

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 12;

/// The first message of whoever connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hello {
    /// A client.
    Client(ClientHello),
    /// A replica, or a process that would become one.
    Peer(PeerHello),
}

/// What a client says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientHello {
    /// The class it has a proxy of, to be told at once if the cluster has no such objects; `None`
    /// for whatever the cluster was started with.
    pub class: Option<String>,
    /// The session that it goes on with. Refused if it is of another cluster.
    pub session: Option<(ClusterId, SessionId)>,
}

/// What a peer says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHello {
    /// Itself.
    pub member: Member,
    /// The cluster it is in, and how far it is there; `None` before it has joined one.
    pub standing: Option<Standing>,
    /// The class of the object.
    pub class: String,
    /// What must be alike for the object to behave alike: empty for native objects, the Python
    /// version and a digest of the module's source for the others.
    pub runtime: String,
    /// What this connection is for.
    pub purpose: Purpose,
}

/// What a peer connects for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Purpose {
    /// To send its messages.
    Stream,
    /// To see whether a newcomer lives at the address of a lost member.
    Greet,
    /// To hand over one snapshot, so that no heartbeat waits behind it: a [`Transfer`], back a
    /// [`Received`], what is missing in frames of at most [`crate::limits::CHUNK_BYTES`], and
    /// back a [`Received`] again.
    Snapshot,
}

/// What a connection for [`Purpose::Snapshot`] begins with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Transfer {
    /// The message, without the state that its snapshot holds.
    pub message: PeerMessage,
    /// Of which snapshot: one that was begun on another connection goes on where that broke.
    pub parcel: Parcel,
}

/// A snapshot on its way, as both ends know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parcel {
    /// The last entry that it holds.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// Bytes of [`Snapshot::state`](crate::durable::Snapshot::state).
    pub state: u64,
    /// Bytes of [`Snapshot::object`](crate::durable::Snapshot::object).
    pub object: Option<u64>,
    /// [`Snapshot::digest`](crate::durable::Snapshot::digest).
    pub digest: u64,
}

impl Parcel {
    /// Bytes of it all; `None` for more than there can be.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        self.state.checked_add(self.object.unwrap_or(0))
    }
}

/// So many bytes of the snapshot have arrived: said at first, so that the rest follows, and once
/// all are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Received(pub u64);

/// How a replica answers a hello.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Welcome {
    /// To a client.
    Client {
        /// Which cluster.
        cluster: ClusterId,
        /// The replica that answers.
        replica: SocketAddr,
        /// The replica that calls are best sent to, where it is known.
        leader: Option<SocketAddr>,
        /// All replicas that serve.
        members: Vec<SocketAddr>,
        /// The class of the object that the cluster was started with.
        class: String,
        /// How long a session may be silent, milliseconds.
        session_timeout_ms: u64,
    },
    /// To a peer.
    Peer {
        /// The replica that answers.
        member: Member,
        /// Its view; `None` before it has joined a cluster.
        view: Option<View>,
    },
    /// To a peer: that replica was a member and is none any more, as of this view. It may join
    /// again, as another.
    Removed(View),
    /// To either: not here, and why, as a sentence for people.
    Refused(String),
    /// To either: not yet (starting, joining), and why. Worth asking again.
    NotYet(String),
}

/// What a client asks of the replica it is connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// A session, please. Answered by [`Answer::Opened`].
    Open,
    /// A call of an open session. Answered by [`Answer::Reply`].
    Call(Call),
    /// The session lives. Answered by [`Answer::Alive`].
    KeepAlive(SessionId),
    /// The session is over: what it held may be released now. Answered by [`Answer::Closed`].
    Close(SessionId),
    /// Nobody wants the reply of that call any more: if it waits it ends, and if it has not run
    /// it never will. Answered by its [`Answer::Reply`].
    Cancel(CallId),
    /// What can be called of objects of that class; of that which the cluster was started with
    /// if it is empty? Answered by [`Answer::Interface`], or [`Answer::NoInterface`].
    Interface(String),
    /// How is the cluster? Answered by [`Answer::Status`].
    Status,
    /// Change the membership. Answered by [`Answer::Ordered`].
    Order(Order),
    /// The whole state, with everything that was acknowledged before this was asked. Answered by
    /// [`Answer::Backup`] and [`Answer::Part`]s, or by [`Answer::NoBackup`].
    Backup,
}

/// What an operator wants of the membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Order {
    /// The replica that was started alone at that address shall join.
    Add(SocketAddr),
    /// That member shall leave, and not come back by itself.
    Remove(Who),
    /// That learner shall be a voter.
    Promote(Who),
    /// The replica that is asked shall go on alone, whatever the others have decided without it.
    GoAlone,
}

/// A member, as an operator names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Who {
    /// By its id.
    Id(ReplicaId),
    /// By its address.
    Address(SocketAddr),
}

/// What becomes of an [`Order`], with a sentence for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// It is decided and applied where it was asked for. Nothing follows.
    Done(String),
    /// It is under way, and this is what it waits for. More follows.
    Waiting(String),
    /// It can't be done, and nothing has changed. Nothing follows.
    Refused(String),
    /// It can't be done for now: there is no quorum. Nothing has changed, and nothing follows.
    NotNow(String),
}

/// What a replica says to a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The session is open.
    Opened(SessionId),
    /// No session could be opened.
    NotOpened(Refusal),
    /// How the call of that number ended.
    Reply {
        /// The call's number in its session.
        sequence: u64,
        /// How it ended.
        outcome: Outcome,
    },
    /// The call of that number runs and waits for what others do: its reply may take for ever.
    Parked {
        /// The call's number in its session.
        sequence: u64,
    },
    /// The session lives: since it was asked for, whoever leads has heard that its client does.
    Alive(SessionId),
    /// The session is closed.
    Closed(SessionId),
    /// The interface of the class.
    Interface(Interface),
    /// There are no objects of that class here.
    NoInterface(Refusal),
    /// The state of this replica.
    Status(Box<Status>),
    /// There is a new leader: calls are best sent there. Sent unasked.
    Leader(SocketAddr),
    /// Open calls wait, and this is what for, as a sentence for people. Sent unasked; the calls
    /// go on as soon as they can.
    Waiting(String),
    /// The session is gone, and calls that are open in it will not be answered. Sent unasked.
    Expired(SessionId),
    /// How the order of this connection is.
    Ordered(Report),
    /// A backup follows, in [`Answer::Part`]s.
    Backup(About, Parcel),
    /// The next bytes of a backup, at most [`crate::limits::CHUNK_BYTES`].
    Part(Bytes),
    /// There is no backup, and why, as a sentence for people.
    NoBackup(String),
    /// All replicas that serve, now that others do. Sent unasked.
    Members(Vec<SocketAddr>),
}

/// A replica as it sees itself and its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The replica that answers.
    pub replica: Member,
    /// The class of the object.
    pub class: String,
    /// Its view, `None` before it has joined.
    pub view: Option<View>,
    /// The leader it follows or is.
    pub leader: Option<ReplicaId>,
    /// The term of the log.
    pub term: u64,
    /// The last entry that is decided, as far as it knows.
    pub committed: u64,
    /// The last entry that it has applied.
    pub applied: u64,
    /// A digest of the state (object and sessions) after that entry: replicas that have applied
    /// as much agree on it. 0 while a worker has calls of decided entries to run, and of a witness.
    pub digest: u64,
    /// Open sessions.
    pub sessions: u64,
    /// Connections of clients to this replica.
    pub connections: u64,
    /// Calls that it has applied since it started.
    pub calls: u64,
    /// Calls that it applied in the last full second.
    pub calls_per_second: u64,
    /// Whether a call would be answered now: there is a leader with a quorum, and it is in touch.
    /// Of a witness: whether it counts, and follows a leader.
    pub ready: bool,
    /// Why it is not ready, as a sentence for people; empty if it is.
    pub reason: String,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// How what it keeps of the names is by which clients find replicas, as a sentence for people;
    /// empty if there is nothing to say.
    pub names: String,
}

/// What replicas send each other over an established stream.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum PeerMessage {
    /// The consensus library's own.
    Consensus(Envelope),
    /// Requests of clients that are connected to the sender, for the leader to propose.
    Forward(Vec<Command>),
    /// The sender would be a member.
    Join(Member),
    /// The sender is about to stop.
    Leave,
    /// The sender has written down the view of that lineage and number.
    Written(u64, u64),
    /// To one that was a member: it is none as of this view.
    Removed(View),
    /// These sessions were heard of by the sender.
    Heard(Vec<SessionId>),
    /// That call crashed the object of the sender, twice.
    Failed(SessionId, u64),
    /// That call ran at the sender.
    Ran(SessionId, u64),
    /// An operator wants this of the leader. Said again and again until the sender has applied
    /// it, or nobody wants it any more.
    Order(Order),
    /// To who passed that order on: it can't be done, and why.
    Declined(Order, String),
    /// To a witness, by the leader: all voters with an object have the log up to that entry.
    Held(u64),
    /// The sender is of little use: it should not lead.
    Ails(Ailment),
    /// To one without a worker, by the leader: up to that step all have run at the sender.
    Run(u64),
}

/// What a replica is of little use for, the worse the later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ailment {
    /// Its disk or its worker does not keep up.
    Slow,
    /// No worker can be started for its object.
    NoWorker,
}

/// What a replica asks of the worker that hosts its object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToWorker {
    /// Make an object of the first of these classes, and be ready to make more of them all when
    /// they are called. Answered by [`FromWorker::Loaded`] or [`FromWorker::NotLoaded`].
    Load {
        /// `module.Class` each.
        classes: Vec<String>,
    },
    /// Run these calls of one log entry, in order. Answered by [`FromWorker::Done`].
    Apply {
        /// The entry's index.
        index: u64,
        /// The entry's time, milliseconds since 1970.
        time_ms: u64,
        /// The entry's [clock](crate::object::Moment::clock_ms): timers that are due by it come
        /// before the calls.
        clock_ms: u64,
        /// The calls.
        calls: Vec<HostedCall>,
    },
    /// Run these read-only calls. Answered by [`FromWorker::Done`] with their numbers.
    Read {
        /// The time of the state, milliseconds since 1970. A worker that has begun from a snapshot
        /// has seen none.
        time_ms: u64,
        /// The calls.
        calls: Vec<HostedCall>,
    },
    /// Write down the state after all that was asked before, to the pipe whose descriptor comes
    /// with this. Answered by [`FromWorker::Snapshot`] with that number; later calls do not wait
    /// for it.
    Snapshot(u64),
    /// Become the state that comes out of the pipe whose descriptor comes with this. Answered by
    /// [`FromWorker::Restored`].
    Restore,
    /// Become what a replica would be that takes in the state as it is now, and write that down
    /// as for [`ToWorker::Snapshot`]. Answered by [`FromWorker::Settled`], for which later calls
    /// wait, and then by [`FromWorker::Snapshot`].
    Settle(u64),
}

/// A call for a worker to run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostedCall {
    /// The replica's number for it, unique while the worker lives, rising.
    pub number: u64,
    /// Which call it is.
    pub call: CallId,
    /// See [`Call::thread`].
    pub thread: u64,
    /// Of which object: made when it is first called.
    pub object: ObjectName,
    /// The method, or one of those that no client can call: [`STEPS`], [`REMOVE`].
    pub method: String,
    /// Its encoded arguments.
    pub arguments: Bytes,
}

/// Of a [`HostedCall`]: the session of its call is over. What it held is to be released, and none
/// of its calls waits any more.
pub const LOST: &str = "__concoordlost__";

/// Of a [`HostedCall`]: nobody wants the reply of its call any more, which may be parked.
pub const CANCEL: &str = "__concoordcancel__";

/// Forgets the object; what is parked there raises `ObjectRemovedError`. Clients may call it of any
/// object but the one that the cluster was started with.
pub const REMOVE: &str = "__concoordremove__";

/// Of a [`HostedCall`]: timers are due.
pub const WAKE: &str = "__concoordwake__";

/// Of a [`HostedCall`]: all replicas leave out what stood here, since workers died of it.
pub const SKIPPED: &str = "__concoordskipped__";

/// What only replicas ask of a worker.
pub const STEPS: [&str; 4] = [LOST, CANCEL, WAKE, SKIPPED];

/// What has become of something that a worker was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Done {
    /// The call of that number has ended.
    Ended(u64, Outcome),
    /// The call of that number waits for others.
    Parked(u64),
    /// By the call of that number this one has ended, which was parked.
    Woken(u64, CallId, Outcome),
}

impl Done {
    /// The number of the call that is done, or by which another one is.
    #[must_use]
    pub const fn number(&self) -> u64 {
        match self {
            Self::Ended(number, _) | Self::Parked(number) | Self::Woken(number, ..) => *number,
        }
    }

    /// Whether more may follow about that number.
    #[must_use]
    pub const fn is_last(&self) -> bool {
        !matches!(self, Self::Woken(..))
    }
}

/// What a worker answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromWorker {
    /// The object is there.
    Loaded {
        /// What each class offers, in the order asked.
        interfaces: Vec<Interface>,
        /// See [`PeerHello::runtime`].
        runtime: String,
    },
    /// It is not, and why, as a sentence for people.
    NotLoaded(String),
    /// These calls are done, in the order asked; who is woken by a call comes before its end.
    Done {
        /// What is done.
        done: Vec<Done>,
        /// When the next timer is due, by the clock, after all of that.
        wake_at: Option<u64>,
    },
    /// The state at that number is written down, or why it can't be.
    Snapshot(u64, Result<Written, String>),
    /// The state is in place, or why not.
    Restored(Result<(), String>),
    /// The state is settled at that number, or why it stays as it is.
    Settled(u64, Result<(), String>),
}

/// A state that a worker has written to its pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// How many bytes.
    pub bytes: u64,
    /// Whether it holds sets, which may iterate in another order in who takes it in than in the
    /// object that it was written from.
    pub has_sets: bool,
}

/// Why a frame can't be read. The connection is of no use after that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// It says that it is longer than it may be.
    #[error("a frame of {bytes} bytes, {max} is the most here")]
    TooLong {
        /// What it says.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// The checksum differs.
    #[error("a frame is damaged: its checksum differs")]
    Damaged,
    /// The message is none.
    #[error("a frame holds no message: {0}")]
    Malformed(String),
}

/// Appends `message` to `to` as a frame.
///
/// # Panics
/// If a message is too large for the length field: who makes messages keeps to the limits.
pub fn write_frame<M: Serialize>(message: &M, to: &mut BytesMut) {
    let start = to.len();
    to.put_bytes(0, HEADER_BYTES);
    postcard::to_io(message, (&mut *to).writer())
        .expect("all message types can be encoded, and memory takes all bytes");
    let (header, body) = to.split_at_mut(start).1.split_at_mut(HEADER_BYTES);
    let length = u32::try_from(body.len()).expect("messages stay within the limits").to_le_bytes();
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&length), body).to_le_bytes();
    for (to, from) in header.iter_mut().zip(length.into_iter().chain(checksum)) {
        *to = from;
    }
}

/// Takes the first frame out of `from`, as its message's bytes; `None` if it has not arrived
/// whole yet.
///
/// # Errors
/// [`FrameError::TooLong`] as soon as the header says so, [`FrameError::Damaged`].
pub fn take_frame(from: &mut BytesMut, bytes_max: usize) -> Result<Option<Bytes>, FrameError> {
    let Some((mut header, rest)) = from.split_at_checked(HEADER_BYTES) else { return Ok(None) };
    let (length, checksum) = (header.get_u32_le(), header.get_u32_le());
    let bytes = length as usize;
    if bytes > bytes_max {
        return Err(FrameError::TooLong { bytes, max: bytes_max });
    }
    if header.get_u32_le() != 0 {
        return Err(FrameError::Damaged);
    }
    let Some(body) = rest.get(..bytes) else { return Ok(None) };
    if crc32c::crc32c_append(crc32c::crc32c(&length.to_le_bytes()), body) != checksum {
        return Err(FrameError::Damaged);
    }
    from.advance(HEADER_BYTES);
    Ok(Some(from.split_to(bytes).freeze()))
}

/// Bytes of the message of the frame that `from` begins with; `None` before its header is there.
#[must_use]
pub fn announced(from: &[u8]) -> Option<usize> {
    let header = from.first_chunk::<HEADER_BYTES>()?;
    Some(header.as_slice().get_u32_le() as usize)
}

/// The message of a frame's bytes.
///
/// # Errors
/// [`FrameError::Malformed`].
pub fn read_message<'a, M: Deserialize<'a>>(bytes: &'a [u8]) -> Result<M, FrameError> {
    postcard::from_bytes(bytes).map_err(|error| FrameError::Malformed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back_as_it_went_however_it_is_cut() {
        let mut bytes = BytesMut::new();
        write_frame(&Request::KeepAlive(SessionId(7)), &mut bytes);
        write_frame(&Request::Status, &mut bytes);
        let mut arriving = BytesMut::new();
        let mut messages = Vec::new();
        for byte in bytes {
            arriving.put_u8(byte);
            while let Some(frame) = take_frame(&mut arriving, 1024).unwrap() {
                messages.push(read_message::<Request>(&frame).unwrap());
            }
        }
        assert_eq!(messages, [Request::KeepAlive(SessionId(7)), Request::Status]);
    }

    #[test]
    fn a_length_beyond_the_limit_is_refused_by_its_header_alone() {
        let mut bytes = BytesMut::from(&[0xff; HEADER_BYTES][..]);
        assert_eq!(announced(&bytes), Some(u32::MAX as usize));
        assert_eq!(announced(&bytes[1..]), None);
        assert!(matches!(take_frame(&mut bytes, 1024), Err(FrameError::TooLong { .. })));
    }

    #[test]
    fn a_flipped_bit_is_seen() {
        let mut whole = BytesMut::new();
        write_frame(&Request::KeepAlive(SessionId(7)), &mut whole);
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            assert!(!matches!(take_frame(&mut damaged, 1024), Ok(Some(_))), "byte {at}");
        }
    }
}
