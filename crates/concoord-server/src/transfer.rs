//! Snapshots on their way to another replica, on connections of their own.
//!
//! A connection that breaks costs what was under way, not what has arrived: the sender dials again
//! and goes on from what the receiver says that it has, as long as it gets further. Chunks are
//! small and others' turns come between them, so heartbeats never wait for a transfer.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};
use std::{io, iter};

use bytes::{Bytes, BytesMut};
use concoord_core::durable::Snapshot;
use concoord_core::limits::{CHUNK_BYTES, FRAME_BYTES_MAX, HELLO_BYTES_MAX, SNAPSHOT_BYTES_MAX};
use concoord_core::replica::Event;
use concoord_core::snapshot::About;
use concoord_core::view::ReplicaId;
use concoord_core::wire::{
    Answer, FrameError, Parcel, PeerMessage, Purpose, Received, Transfer, Welcome, read_message,
};
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::{sleep, timeout};

use crate::connection::{Connection, ReadError, Reader, Room};
use crate::peers::{DIAL_TIMEOUT, DialError, REDIAL, greet};
use crate::shell::Shell;
use crate::steps::step;
use crate::task::Task;

/// How long either end waits for the other to go on.
const STALL: Duration = Duration::from_secs(10);

/// Bytes of a chunk's frame: the chunk and its length.
const CHUNK_FRAME_BYTES: usize = CHUNK_BYTES + 16;

/// How often a long transfer says how far it is.
const PROGRESS: Duration = Duration::from_secs(2);

/// Connections in a row that bring the receiver nothing before the sender gives up.
const TRIES_MAX: u32 = 5;

/// How long what has arrived is kept for a sender that does not come back.
const KEPT: Duration = Duration::from_secs(30);

/// A snapshot of which some has arrived.
pub(crate) struct Arriving {
    from: ReplicaId,
    parcel: Parcel,
    bytes: BytesMut,
    /// The connection that goes on with it: one more with each.
    turn: u64,
    _kept: Option<Task>,
}

/// Hands a snapshot over and reports how it went.
pub(crate) async fn send(
    shell: Rc<Shell>,
    to: ReplicaId,
    address: SocketAddr,
    message: PeerMessage,
    snapshot: Snapshot,
) {
    let size = snapshot.size();
    let sent = send_on(&shell, to, address, message, snapshot).await;
    match &sent {
        Ok(()) => tracing::info!("replica {to} at {address} has the snapshot ({size} bytes)"),
        Err(error) => tracing::warn!("replica {to} at {address} got no snapshot: {error}"),
    }
    shell.post(Event::SnapshotSent(to, sent.is_ok()));
}

/// Sends on one connection after the other, as long as they bring it further.
async fn send_on(
    shell: &Rc<Shell>,
    to: ReplicaId,
    address: SocketAddr,
    message: PeerMessage,
    snapshot: Snapshot,
) -> Result<(), DialError> {
    let (parcel, snapshot) = parcel_of(snapshot).await;
    let transfer = Transfer { message, parcel };
    let (mut furthest, mut tries) = (0, 0);
    loop {
        let mut has = 0;
        let error = match send_rest(shell, to, address, &transfer, &snapshot, &mut has).await {
            Ok(()) => return Ok(()),
            // It is another replica, or will have none of it.
            Err(error @ DialError::Welcome(_)) => return Err(error),
            Err(error) => error,
        };
        tries = if has > furthest { 1 } else { tries + 1 };
        furthest = furthest.max(has);
        if tries >= TRIES_MAX {
            return Err(error);
        }
        tracing::info!("snapshot to replica {to}: {error}; going on");
        sleep(REDIAL * tries).await;
    }
}

/// What both ends are to know of a snapshot. Its digest takes another thread a while.
async fn parcel_of(snapshot: Snapshot) -> (Parcel, Snapshot) {
    let parcel = move || {
        let Snapshot { index, term, .. } = snapshot;
        let object = snapshot.object.as_ref().map(|object| object.len() as u64);
        let (state, digest) = (snapshot.state.len() as u64, snapshot.digest());
        (Parcel { index, term, state, object, digest }, snapshot)
    };
    spawn_blocking(parcel).await.expect("reading it does not panic")
}

/// Gives a client a backup.
pub(crate) async fn give(connection: Rc<Connection>, about: About, snapshot: Snapshot) {
    let (parcel, snapshot) = parcel_of(snapshot).await;
    connection.push(&Answer::Backup(about, parcel));
    for mut part in iter::once(snapshot.state).chain(snapshot.object) {
        while !part.is_empty() {
            let chunk = part.split_to(CHUNK_BYTES.min(part.len()));
            connection.push(&Answer::Part(chunk));
            if let Err(error) = drained(&connection).await {
                connection.close();
                return tracing::debug!("a client did not take its backup: {error}");
            }
            yield_now().await;
        }
    }
    if let Err(error) = drained(&connection).await {
        tracing::debug!("a client did not take its backup: {error}");
    }
}

/// Sends on one connection what the receiver lacks; `has` is what it has at first.
async fn send_rest(
    shell: &Rc<Shell>,
    to: ReplicaId,
    address: SocketAddr,
    transfer: &Transfer,
    snapshot: &Snapshot,
    has: &mut u64,
) -> Result<(), DialError> {
    let greeted = timeout(DIAL_TIMEOUT, greet(shell, address, Purpose::Snapshot)).await;
    let (connection, mut reader, welcome) = greeted.map_err(|_| DialError::Silent)??;
    if !matches!(&welcome, Welcome::Peer { member, .. } if member.id == to) {
        return Err(DialError::Welcome(Box::new(welcome)));
    }
    let whole = snapshot.size() as u64;
    connection.push(transfer);
    drained(&connection).await?;
    *has = received(&mut reader, &shell.peer_room).await?;
    let mut progress = Progress::new("to", to, whole);
    let mut sent = *has;
    for mut part in rest(snapshot, *has).ok_or(DialError::Partial(*has))? {
        while !part.is_empty() {
            step("peers::chunk")?;
            let chunk = part.split_to(CHUNK_BYTES.min(part.len()));
            sent += chunk.len() as u64;
            connection.push(&chunk);
            drained(&connection).await?;
            progress.tell(sent);
            // Others' turns come between two chunks.
            yield_now().await;
        }
    }
    match received(&mut reader, &shell.peer_room).await? {
        all if all == whole => Ok(()),
        part => Err(DialError::Partial(part)),
    }
}

/// What comes after that many bytes; `None` if there are not as many.
fn rest(snapshot: &Snapshot, from: u64) -> Option<[Bytes; 2]> {
    let from = usize::try_from(from).ok().filter(|from| *from <= snapshot.size())?;
    let state = &snapshot.state;
    let object = snapshot.object.clone().unwrap_or_default();
    let within = from.saturating_sub(state.len());
    Some([state.slice(from.min(state.len())..), object.slice(within..)])
}

async fn drained(connection: &Connection) -> io::Result<()> {
    let stalled = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout(STALL, connection.drained()).await.map_err(stalled)?
}

async fn received(reader: &mut Reader, room: &Room) -> Result<u64, ReadError> {
    let frame = next(reader, HELLO_BYTES_MAX, room).await?;
    let Received(bytes) = read_message(&frame)?;
    Ok(bytes)
}

async fn next(reader: &mut Reader, bytes_max: usize, room: &Room) -> Result<Bytes, ReadError> {
    let stalled = |_| ReadError::Socket(io::ErrorKind::TimedOut.into());
    timeout(STALL, reader.frame(bytes_max, room)).await.map_err(stalled)?
}

/// Takes in a snapshot, or what is left of one.
pub(crate) async fn receive(
    shell: &Rc<Shell>,
    connection: &Connection,
    reader: &mut Reader,
    from: ReplicaId,
) -> Result<(), ReadError> {
    let frame = next(reader, FRAME_BYTES_MAX, &shell.peer_room).await?;
    let Transfer { mut message, parcel } = read_message(&frame)?;
    let whole = size(&parcel)?;
    let turn = begin(&shell.peers.arriving, from, parcel);
    let ended = assemble(shell, connection, reader, turn, whole).await;
    keep(shell, turn);
    let bytes = ended?;
    let snapshot = check(parcel, bytes).await?;
    let PeerMessage::Consensus(envelope) = &mut message else {
        return Err(malformed("a transfer without a snapshot"));
    };
    envelope.put_snapshot(snapshot.state, snapshot.object);
    shell.post(Event::Message(from, message));
    connection.push(&Received(whole as u64));
    Ok(connection.drained().await?)
}

fn size(parcel: &Parcel) -> Result<usize, ReadError> {
    let bytes = parcel.bytes().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX);
    if bytes > SNAPSHOT_BYTES_MAX {
        return Err(FrameError::TooLong { bytes, max: SNAPSHOT_BYTES_MAX }.into());
    }
    Ok(bytes)
}

/// Makes this connection the one that brings that snapshot; returns its turn.
fn begin(arriving: &RefCell<Option<Arriving>>, from: ReplicaId, parcel: Parcel) -> u64 {
    let mut arriving = arriving.borrow_mut();
    let turn = arriving.as_ref().map_or(0, |before| before.turn + 1);
    let before = arriving.take_if(|before| (before.from, before.parcel) == (from, parcel));
    let bytes = before.map(|before| before.bytes).unwrap_or_default();
    *arriving = Some(Arriving { from, parcel, bytes, turn, _kept: None });
    turn
}

/// Keeps what has arrived for the next connection, for a while.
fn keep(shell: &Rc<Shell>, turn: u64) {
    let later = Rc::clone(shell);
    let forget = Task::spawn(async move {
        sleep(KEPT).await;
        drop(later.peers.arriving.borrow_mut().take_if(|kept| kept.turn == turn));
    });
    if let Some(arriving) =
        shell.peers.arriving.borrow_mut().as_mut().filter(|arriving| arriving.turn == turn)
    {
        arriving._kept = Some(forget);
    }
}

/// Puts the chunks together, after what had come before. Memory is taken for what has come, not
/// for what is announced.
async fn assemble(
    shell: &Shell,
    connection: &Connection,
    reader: &mut Reader,
    turn: u64,
    whole: usize,
) -> Result<Bytes, ReadError> {
    let arriving = &shell.peers.arriving;
    let is_it = |arriving: &&mut Arriving| arriving.turn == turn;
    let begun = arriving.borrow().as_ref().map(|begun| (begun.from, begun.bytes.len()));
    let (from, mut has) = begun.ok_or(ReadError::Closed)?;
    connection.push(&Received(has as u64));
    drained(connection).await?;
    let mut progress = Progress::new("from", from, whole as u64);
    while has < whole {
        step("peers::assemble").map_err(ReadError::Socket)?;
        let frame = next(reader, CHUNK_FRAME_BYTES, &shell.peer_room).await?;
        let chunk: &[u8] = read_message(&frame)?;
        if chunk.is_empty() || chunk.len() > whole - has {
            return Err(malformed("a chunk that does not fit"));
        }
        let mut arriving = arriving.borrow_mut();
        // Else another connection goes on with it, or with another one.
        let arriving = arriving.as_mut().filter(is_it).ok_or(ReadError::Closed)?;
        arriving.bytes.extend_from_slice(chunk);
        has = arriving.bytes.len();
        progress.tell(has as u64);
    }
    let whole = arriving.borrow_mut().take_if(|arriving| arriving.turn == turn);
    Ok(whole.ok_or(ReadError::Closed)?.bytes.freeze())
}

/// Whether that is the snapshot that was announced.
async fn check(parcel: Parcel, mut bytes: Bytes) -> Result<Snapshot, ReadError> {
    let Parcel { index, term, digest, .. } = parcel;
    let state = bytes.split_to(usize::try_from(parcel.state).unwrap_or(usize::MAX));
    let snapshot = Snapshot { index, term, state, object: parcel.object.map(|_| bytes) };
    let (snapshot, is_it) = spawn_blocking(move || {
        let is_it = snapshot.digest() == digest;
        (snapshot, is_it)
    })
    .await
    .expect("reading it does not panic");
    if is_it { Ok(snapshot) } else { Err(malformed("a snapshot that is not the one announced")) }
}

fn malformed(what: &str) -> ReadError {
    FrameError::Malformed(what.into()).into()
}

/// Says now and then how far a transfer is.
struct Progress {
    which: &'static str,
    peer: ReplicaId,
    whole: u64,
    told: Instant,
}

impl Progress {
    fn new(which: &'static str, peer: ReplicaId, whole: u64) -> Self {
        Self { which, peer, whole, told: Instant::now() }
    }

    fn tell(&mut self, done: u64) {
        if self.told.elapsed() > PROGRESS {
            self.told = Instant::now();
            let Self { which, peer, whole, .. } = self;
            let percent = done * 100 / (*whole).max(1);
            tracing::info!("snapshot {which} replica {peer}: {done} of {whole} bytes, {percent} %");
        }
    }
}
