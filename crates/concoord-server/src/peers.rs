//! The other replicas: a stream to each, one from each, and snapshots on connections of their
//! own.
//!
//! Each replica dials each other one, and a stream carries one direction. Consensus needs what
//! one replica sends another to arrive in order: there is one stream from each peer, and one that
//! is dialled again replaces the one before it before anything is delivered from it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use concoord_core::durable::Snapshot;
use concoord_core::limits::{CHUNK_BYTES, FRAME_BYTES_MAX, HELLO_BYTES_MAX, SNAPSHOT_BYTES_MAX};
use concoord_core::replica::{Contact, Event};
use concoord_core::view::ReplicaId;
use concoord_core::wire::{
    FrameError, Hello, PREAMBLE, PeerHello, PeerMessage, Purpose, Received, Transfer, Welcome,
    read_message,
};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::connection::{Connection, ReadError, Reader, Room};
use crate::shell::Shell;
use crate::task::Task;

/// How soon a connection that broke or failed is tried again.
const REDIAL: Duration = Duration::from_millis(100);

/// How long an attempt may take, from the first packet to the welcome.
const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long what was sent may stay unacknowledged before the system ends the connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// How long either end of a transfer waits for the other to go on.
const TRANSFER_STALL: Duration = Duration::from_secs(10);

/// Bytes of a chunk's frame: the chunk and its length.
const CHUNK_FRAME_BYTES: usize = CHUNK_BYTES + 16;

/// How often a long transfer says how far it is.
const PROGRESS: Duration = Duration::from_secs(2);

/// Connections to and from other replicas.
pub(crate) struct Peers {
    source: IpAddr,
    contacts: RefCell<BTreeMap<(SocketAddr, Purpose), Task>>,
    /// By who answered.
    outgoing: RefCell<BTreeMap<ReplicaId, (SocketAddr, Rc<Connection>)>>,
    incoming: RefCell<BTreeMap<ReplicaId, Rc<Connection>>>,
    transfers: RefCell<BTreeMap<ReplicaId, Task>>,
}

impl Peers {
    pub(crate) fn new(source: IpAddr) -> Self {
        Self {
            source,
            contacts: RefCell::default(),
            outgoing: RefCell::default(),
            incoming: RefCell::default(),
            transfers: RefCell::default(),
        }
    }

    /// Keeps a connection to each of these, and to nobody else. What a contact is known to be
    /// does not matter here: whoever answers at an address says who it is.
    pub(crate) fn follow(&self, shell: &Rc<Shell>, contacts: &[Contact]) {
        let wanted = |address, purpose| {
            contacts.iter().any(|contact| (contact.address, contact.purpose) == (address, purpose))
        };
        let mut kept = self.contacts.borrow_mut();
        kept.retain(|(address, purpose), _| wanted(*address, *purpose));
        self.outgoing.borrow_mut().retain(|_, (address, connection)| {
            let stays = wanted(*address, Purpose::Stream);
            if !stays {
                // The last message may be the one that tells it why.
                connection.flush();
                connection.close();
            }
            stays
        });
        for Contact { address, purpose, .. } in contacts {
            kept.entry((*address, *purpose))
                .or_insert_with(|| Task::spawn(keep(Rc::clone(shell), *address, *purpose)));
        }
    }

    /// Sends to that peer; without a stream to it the message is lost.
    pub(crate) fn send(&self, shell: &Rc<Shell>, to: ReplicaId, mut message: PeerMessage) {
        let state = if let PeerMessage::Consensus(envelope) = &mut message {
            envelope.take_snapshot()
        } else {
            None
        };
        let outgoing = self.outgoing.borrow();
        match (outgoing.get(&to), state) {
            (Some((_, connection)), None) => shell.send(connection, &message),
            (None, None) => {}
            (Some((address, _)), Some(state)) => {
                let task = transfer(Rc::clone(shell), to, *address, message, state);
                let mut transfers = self.transfers.borrow_mut();
                transfers.retain(|_, task| !task.is_over());
                transfers.insert(to, Task::spawn(task));
            }
            (None, Some(_)) => shell.post(Event::SnapshotSent(to, false)),
        }
    }

    /// Closes the stream that comes from that peer, once it is sent what waits for it.
    pub(crate) fn hang_up(&self, id: ReplicaId) {
        if let Some((_, connection)) = self.outgoing.borrow().get(&id) {
            connection.flush();
        }
        if let Some(connection) = self.incoming.borrow_mut().remove(&id) {
            connection.close();
        }
    }

    /// Ends all connections.
    pub(crate) fn end(&self) {
        self.contacts.borrow_mut().clear();
        self.transfers.borrow_mut().clear();
        self.outgoing.borrow_mut().clear();
        self.incoming.borrow_mut().clear();
    }

    fn reaches(&self, id: ReplicaId) -> bool {
        self.outgoing.borrow().contains_key(&id)
    }
}

/// Removes a connection that ended from those in use, unless another has taken its place; says
/// whether it was in use.
fn forget<C>(
    connections: &RefCell<BTreeMap<ReplicaId, C>>,
    id: ReplicaId,
    is_it: impl FnOnce(&C) -> bool,
) -> bool {
    let mut connections = connections.borrow_mut();
    let used = connections.get(&id).is_some_and(is_it);
    if used {
        connections.remove(&id);
    }
    used
}

#[derive(Debug, thiserror::Error)]
enum DialError {
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("no answer within {DIAL_TIMEOUT:?}")]
    Silent,
    #[error("it answers as {0:?}")]
    Welcome(Welcome),
    #[error("it took in {0} bytes of the snapshot only")]
    Partial(u64),
}

impl DialError {
    /// Of an attempt that nobody answered: whether the host at the other end said that nobody
    /// listens there.
    fn is_refusal(&self) -> Option<bool> {
        match self {
            Self::Socket(error) => Some(error.kind() == io::ErrorKind::ConnectionRefused),
            Self::Silent => Some(false),
            Self::Read(_) | Self::Welcome(_) | Self::Partial(_) => None,
        }
    }
}

/// Keeps a connection to that address, dialling again when it breaks.
async fn keep(shell: Rc<Shell>, address: SocketAddr, purpose: Purpose) {
    let mut answered_by = None;
    let mut trouble = String::new();
    loop {
        // One that is reached by another of its addresses already must not be dialled by two:
        // the later stream would replace the earlier one, in turn and for ever.
        if !answered_by.is_some_and(|id| shell.peers.reaches(id)) {
            let ended = dial(&shell, address, purpose, &mut answered_by).await;
            if let Some(refused) = ended.as_ref().err().and_then(DialError::is_refusal) {
                shell.post(Event::Unreached(address, refused));
            }
            let now = ended.map_or_else(|error| error.to_string(), |()| String::new());
            if now != trouble && !now.is_empty() {
                tracing::debug!("no connection to {address}: {now}");
            }
            trouble = now;
        }
        tokio::time::sleep(REDIAL).await;
    }
}

/// Connects, tells the replica who answered, and serves the stream until it breaks.
async fn dial(
    shell: &Rc<Shell>,
    address: SocketAddr,
    purpose: Purpose,
    answered_by: &mut Option<ReplicaId>,
) -> Result<(), DialError> {
    let greeted = timeout(DIAL_TIMEOUT, greet(shell, address, purpose)).await;
    let (connection, mut reader, welcome) = greeted.map_err(|_| DialError::Silent)??;
    shell.post(Event::Welcomed(address, welcome.clone()));
    let id = match welcome {
        Welcome::Peer { member, .. } => member.id,
        Welcome::Client { .. } | Welcome::Removed(_) | Welcome::Refused(_) | Welcome::NotYet(_) => {
            return Err(DialError::Welcome(welcome));
        }
    };
    *answered_by = Some(id);
    if purpose != Purpose::Stream {
        return Ok(());
    }
    connection.leads_to_peer();
    shell.peers.outgoing.borrow_mut().insert(id, (address, Rc::clone(&connection)));
    shell.post(Event::PeerReached(id));
    let ended = connection
        .carry(&mut reader, HELLO_BYTES_MAX, &shell.peer_room, |_| {
            Err(FrameError::Malformed("a stream carries one direction only".into()))
        })
        .await;
    connection.close();
    if forget(&shell.peers.outgoing, id, |(_, current)| Rc::ptr_eq(current, &connection)) {
        shell.post(Event::PeerLost(id));
    }
    Ok(ended?)
}

/// Connects to that address and exchanges hello and welcome.
async fn greet(
    shell: &Rc<Shell>,
    address: SocketAddr,
    purpose: Purpose,
) -> Result<(Rc<Connection>, Reader, Welcome), DialError> {
    let stream = connect(shell.peers.source, address).await?;
    let (connection, mut reader) = Connection::new(stream);
    connection.push_bytes(&PREAMBLE);
    connection.push(&Hello::Peer(shell.replica.borrow().hello(purpose)));
    connection.drained().await?;
    let frame = reader.frame(HELLO_BYTES_MAX, &shell.peer_room).await?;
    let welcome = read_message(&frame).map_err(ReadError::Frame)?;
    Ok((connection, reader, welcome))
}

/// Connects from the address that this replica listens on, so that whoever filters or cuts
/// traffic by address treats both directions alike.
async fn connect(source: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if !source.is_unspecified() && source.is_ipv4() == to.is_ipv4() {
        socket.bind((source, 0).into())?;
    }
    let stream = socket.connect(to).await?;
    // TCP lets a socket connect to itself where nobody listens and its own port is the one dialled.
    if stream.local_addr()? == to {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.set_nodelay(true)?;
    SockRef::from(&stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(stream)
}

/// Answers a peer that dialled us, and takes what it came to bring.
pub(crate) async fn incoming(
    shell: &Rc<Shell>,
    connection: &Rc<Connection>,
    mut reader: Reader,
    hello: PeerHello,
) {
    let welcome = shell.replica.borrow_mut().greet_peer(&hello);
    shell.wake();
    connection.push(&welcome);
    connection.flush();
    if !matches!(welcome, Welcome::Peer { .. }) {
        return tracing::debug!("{} is answered {welcome:?}", hello.member.address);
    }
    let id = hello.member.id;
    let ended = match hello.purpose {
        Purpose::Greet => Ok(()),
        Purpose::Stream => listen(shell, connection, &mut reader, id).await,
        Purpose::Snapshot => receive(shell, connection, &mut reader, id).await,
    };
    if let Err(error) = ended {
        tracing::debug!("a connection from replica {id} ended: {error}");
    }
}

/// Delivers what a peer sends until its stream breaks or is replaced.
async fn listen(
    shell: &Rc<Shell>,
    connection: &Rc<Connection>,
    reader: &mut Reader,
    id: ReplicaId,
) -> Result<(), ReadError> {
    let before = shell.peers.incoming.borrow_mut().insert(id, Rc::clone(connection));
    if let Some(before) = before {
        before.close();
    }
    let ended = connection
        .carry(reader, FRAME_BYTES_MAX, &shell.peer_room, |frame| {
            shell.post(Event::Message(id, read_message(frame)?));
            Ok(())
        })
        .await;
    if forget(&shell.peers.incoming, id, |current| Rc::ptr_eq(current, connection)) {
        shell.post(Event::PeerLost(id));
    }
    ended
}

/// Takes one snapshot in.
async fn receive(
    shell: &Rc<Shell>,
    connection: &Connection,
    reader: &mut Reader,
    from: ReplicaId,
) -> Result<(), ReadError> {
    let frame = next(reader, FRAME_BYTES_MAX, &shell.peer_room).await?;
    let Transfer { mut message, state, object } = read_message(&frame)?;
    let bytes = state.saturating_add(object.unwrap_or(0));
    let (state_bytes, mut whole) = (state, assemble(reader, bytes, &shell.peer_room).await?);
    let state = whole.split_to(usize::try_from(state_bytes).unwrap_or(usize::MAX));
    let object = object.map(|_| whole);
    let PeerMessage::Consensus(envelope) = &mut message else {
        return Err(FrameError::Malformed("a transfer without a snapshot".into()).into());
    };
    envelope.put_snapshot(state, object);
    shell.post(Event::Message(from, message));
    connection.push(&Received(bytes));
    Ok(connection.drained().await?)
}

/// Puts the chunks of a state together. Memory is taken for what has come, not for what is
/// announced.
async fn assemble(reader: &mut Reader, bytes: u64, room: &Room) -> Result<Bytes, ReadError> {
    let whole = usize::try_from(bytes).unwrap_or(usize::MAX);
    if whole > SNAPSHOT_BYTES_MAX {
        return Err(FrameError::TooLong { bytes: whole, max: SNAPSHOT_BYTES_MAX }.into());
    }
    let mut state = BytesMut::new();
    while state.len() < whole {
        let frame = next(reader, CHUNK_FRAME_BYTES, room).await?;
        let chunk: &[u8] = read_message(&frame)?;
        if chunk.is_empty() || chunk.len() > whole - state.len() {
            return Err(FrameError::Malformed("a chunk that does not fit".into()).into());
        }
        state.extend_from_slice(chunk);
    }
    Ok(state.freeze())
}

async fn next(reader: &mut Reader, bytes_max: usize, room: &Room) -> Result<Bytes, ReadError> {
    let stalled = |_| ReadError::Socket(io::ErrorKind::TimedOut.into());
    timeout(TRANSFER_STALL, reader.frame(bytes_max, room)).await.map_err(stalled)?
}

/// Hands a snapshot over and reports how it went.
async fn transfer(
    shell: Rc<Shell>,
    to: ReplicaId,
    address: SocketAddr,
    message: PeerMessage,
    state: Snapshot,
) {
    let bytes = state.size();
    let sent = hand_over(&shell, to, address, message, state).await;
    match &sent {
        Ok(()) => tracing::info!("replica {to} at {address} has the snapshot ({bytes} bytes)"),
        Err(error) => tracing::warn!("replica {to} at {address} got no snapshot: {error}"),
    }
    shell.post(Event::SnapshotSent(to, sent.is_ok()));
}

async fn hand_over(
    shell: &Rc<Shell>,
    to: ReplicaId,
    address: SocketAddr,
    message: PeerMessage,
    snapshot: Snapshot,
) -> Result<(), DialError> {
    let greeted = timeout(DIAL_TIMEOUT, greet(shell, address, Purpose::Snapshot)).await;
    let (connection, mut reader, welcome) = greeted.map_err(|_| DialError::Silent)??;
    if !matches!(&welcome, Welcome::Peer { member, .. } if member.id == to) {
        return Err(DialError::Welcome(welcome));
    }
    let bytes = snapshot.size() as u64;
    let Snapshot { state, object, .. } = snapshot;
    let sizes = (state.len() as u64, object.as_ref().map(|object| object.len() as u64));
    connection.push(&Transfer { message, state: sizes.0, object: sizes.1 });
    let (mut told, mut sent) = (Instant::now(), 0);
    for mut part in std::iter::once(state).chain(object) {
        while !part.is_empty() {
            let chunk = part.split_to(CHUNK_BYTES.min(part.len()));
            sent += chunk.len();
            connection.push(&chunk);
            let stalled = |_| io::Error::from(io::ErrorKind::TimedOut);
            timeout(TRANSFER_STALL, connection.drained()).await.map_err(stalled)??;
            if told.elapsed() > PROGRESS {
                told = Instant::now();
                tracing::info!("snapshot to replica {to}: {sent} of {bytes} bytes are sent");
            }
            // Others' turns come between two chunks.
            tokio::task::yield_now().await;
        }
    }
    connection.drained().await?;
    let frame = next(&mut reader, HELLO_BYTES_MAX, &shell.peer_room).await?;
    match read_message(&frame).map_err(ReadError::Frame)? {
        Received(received) if received == bytes => Ok(()),
        Received(received) => Err(DialError::Partial(received)),
    }
}
