//! Every bound of the system, with its unit and its reason.
//!
//! What comes from the network is checked against these before memory is taken for it.

use std::time::Duration;

/// Bytes of one frame between clients, replicas and workers. Larger than any single call or
/// reply, so that a turn's entry or a chunk of a snapshot fits with room to spare.
pub const FRAME_BYTES_MAX: usize = 16 << 20;

/// Bytes of one frame of a client: a call with the largest arguments, and with some that are
/// larger by so little that they are still told so. Past this the connection is closed.
pub const CLIENT_FRAME_BYTES_MAX: usize = ARGUMENT_BYTES_MAX + (1 << 20);

/// Bytes of a frame that may be begun without leave, since one read may bring them.
pub const SMALL_FRAME_BYTES: usize = 64 << 10;

/// How long a frame may take from its first byte to its last, waiting for room included; past
/// this its connection is closed. With [`KEEP_ALIVE`] less than [`SESSION_TIMEOUT`]: whatever
/// others do to fill the room, no session ends because a frame of its client waits for it.
pub const FRAME_TIMEOUT: Duration = Duration::from_secs(6);

/// Bytes of frames that all clients of a replica may have begun and not ended, but for frames of
/// [`SMALL_FRAME_BYTES`]. Past this a frame is not read on until others have ended.
pub const CLIENTS_BEGUN_BYTES_MAX: usize = 64 << 20;

/// The same for all peers of a replica, apart from its clients: those can't hold up replicas.
pub const PEERS_BEGUN_BYTES_MAX: usize = 128 << 20;

/// Bytes of the first frame of a connection, before its sender has said who it is.
pub const HELLO_BYTES_MAX: usize = 64 << 10;

/// Bytes of the encoded arguments of one call. Four times what etcd takes for a whole request.
pub const ARGUMENT_BYTES_MAX: usize = 4 << 20;

/// Bytes of the encoded result of one call; a larger one is an error for that call only.
pub const RESULT_BYTES_MAX: usize = 4 << 20;

/// Calls that were parked and of which one further call may say that their replies have arrived.
pub const RECEIVED_MAX: usize = 1024;

/// Bytes of an object's name, and of that of its class.
pub const NAME_BYTES_MAX: usize = 256;

/// Objects that a cluster keeps at once: a lock that nobody holds costs about 300 bytes a replica.
pub const OBJECTS_MAX: usize = 1_000_000;

/// Calls that a session may have parked at once, those included whose replies it has not said to
/// have received: ten times what one process has been seen to want.
pub const SESSION_PARKED_MAX: usize = 100_000;

/// Watchers of a session, at all objects together: each costs a look when others take changes.
pub const SESSION_WATCHES_MAX: usize = 1_000;

/// Changes of an object that are kept for those who watch it and have not taken them; past this
/// the slowest are told that they missed some.
pub const WATCH_CHANGES_MAX: usize = 16_384;

/// Bytes of such changes.
pub const WATCH_BYTES_MAX: usize = 4 << 20;

/// Bytes of a method's name.
pub const METHOD_BYTES_MAX: usize = 256;

/// How deep values may nest. Deep enough for data, shallow enough for any thread's stack.
pub const VALUE_DEPTH_MAX: usize = 96;

/// How deep a value may nest that an object keeps: it may come back within others, such as a list
/// of pairs of them.
pub const KEPT_DEPTH_MAX: usize = VALUE_DEPTH_MAX - 8;

/// Bytes of a value that an object keeps: what surrounds it in a result must fit as well.
pub const KEPT_BYTES_MAX: usize = RESULT_BYTES_MAX - (4 << 10);

/// Bytes of calls that one log entry carries. Past this a turn proposes the rest in further
/// entries, so that one entry never holds up the heartbeats behind it for long.
pub const ENTRY_BYTES_MAX: usize = 256 << 10;

/// Sessions that a cluster keeps at once: 100 000 idle ones cost about 20 MiB a replica.
pub const SESSIONS_MAX: usize = 100_000;

/// Calls that a session may have open at once. The next one waits in the client, so that one
/// which never reads its replies can't fill a replica's memory.
pub const SESSION_CALLS_MAX: u64 = 256;

/// Calls that one connection may have open, whatever its sessions; past this it is closed. A
/// client that keeps to [`SESSION_CALLS_MAX`] never gets there.
pub const CONNECTION_CALLS_MAX: usize = 1024;

/// Bytes of arguments that one connection may have open; past this it is closed.
pub const CONNECTION_BYTES_MAX: usize = 64 << 20;

/// Bytes of arguments of reads that a replica's worker has at once; past this the others wait.
pub const HOSTED_READS_BYTES_MAX: usize = 64 << 20;

/// Bytes of calls of the log that a replica's worker has not done; past this the replica takes in
/// no more of the log until some are, and a leader no more calls. More than clients leave open as
/// a rule, so that this happens to those whose worker is slower than others', or can't be started.
pub const UNDONE_BYTES_MAX: usize = 64 << 20;

/// Sessions that one connection may open while it lasts; past this it is closed. A client opens
/// one, and a new connection for the next.
pub const CONNECTION_SESSIONS_MAX: usize = 16;

/// Bytes of replies that are kept for one session until it acknowledges them. Past this its
/// further calls are refused without having run.
pub const SESSION_REPLY_BYTES_MAX: usize = 8 << 20;

/// Bytes of replies of a worker's objects that are kept for one session until it acknowledges them.
/// Past this, or past twice [`SESSION_PARKED_MAX`] calls, the session is expired: what a worker
/// does can't be refused while applying. Far more than clients leave open that tell what they got.
pub const SESSION_LATE_BYTES_MAX: usize = 256 << 20;

/// A session that is silent for this long is expired, through the log.
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a client says that its session lives. A third of the timeout: two may be lost.
pub const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// A member that is silent for this long is removed, where the rest keeps a quorum.
pub const DEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// Connections that a replica holds at once, clients and peers together.
pub const CONNECTIONS_MAX: usize = 16_384;

/// How long a new connection may take to say what it is.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that may wait for a client which does not read; past this it is disconnected.
pub const UNREAD_BYTES_MAX: usize = 32 << 20;

/// Bytes that may wait for a peer which does not read; past this its stream is dialled again.
/// All that a leader proposes ahead of its decision fits, and then some.
pub const PEER_UNREAD_BYTES_MAX: usize = 128 << 20;

/// Bytes of calls that a replica has on their way to the leader and back through the log; past
/// this the others wait with it. Enough for any network, and what replicas say for themselves
/// never waits long behind it.
pub const FORWARDED_BYTES_MAX: usize = 8 << 20;

/// Bytes of what one other replica has forwarded that wait here for room in the log; past this more
/// of it is dropped, and forwarded again. Twice what it has on its way at once: it drops only what
/// it was asked for again.
pub const FORWARDED_WAITING_BYTES_MAX: usize = 2 * FORWARDED_BYTES_MAX;

/// Members of a cluster, learners included.
pub const MEMBERS_MAX: usize = 31;

/// Addresses of lost members that the survivors go on greeting, the latest first.
pub const LOST_MAX: usize = 16;

/// Orders of operators that a replica carries out at once; the next one is refused.
pub const ORDERS_MAX: usize = 16;

/// How long a command that fences a peer may take: long enough for a machine to be powered off.
pub const FENCE_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of log that a replica keeps when nobody needs it.
pub const LOG_BYTES_MAX: usize = 8 << 20;

/// Bytes of log that a leader keeps for peers that lag; past this they get a snapshot. A
/// snapshot must arrive, and what is logged meanwhile after it, before this is full.
pub const LOG_HELD_BYTES_MAX: usize = 64 << 20;

/// Bytes of log after which a state that holds sets is settled anew, so that whoever lags can
/// start from one that is not long ago. Calls wait for it; so it is rare.
pub const SETTLE_LOG_BYTES: usize = 32 << 20;

/// Bytes of log that a replica keeps after the last settled state. All that may be undecided fits
/// besides what leads to the next one, and then some; past this whoever lags must wait for that.
pub const SETTLED_LOG_BYTES_MAX: usize = 128 << 20;

/// Bytes that may wait for a replica's disk; past this it takes in no more of the log until some
/// are safe. More than a leader may propose ahead, so that this happens to those alone whose disk
/// has stopped.
pub const UNSAFE_BYTES_MAX: usize = 128 << 20;

/// Bytes of log that a durable replica writes before it writes its state down anew: a second or
/// two of replay after a restart, about.
pub const SNAPSHOT_LOG_BYTES: usize = 64 << 20;

/// Bytes of an object's state in a snapshot.
pub const SNAPSHOT_BYTES_MAX: usize = 1 << 30;

/// Bytes of a snapshot that travel in one frame. Small enough that a heartbeat's turn never
/// waits long for one.
pub const CHUNK_BYTES: usize = 256 << 10;

/// Bytes of a segment of the log on disk; more where one batch needs it. Small enough to be
/// filled with zeros in no time and to be deleted soon, large enough to need a new one rarely.
pub const SEGMENT_BYTES: u64 = 16 << 20;

/// Bytes of a segment that is read into memory: past this no batch can have made it so large.
pub const SEGMENT_BYTES_MAX: u64 = 1 << 30;

/// Bytes of what a snapshot's file says of itself.
pub const SNAPSHOT_ABOUT_BYTES_MAX: usize = 64 << 10;
