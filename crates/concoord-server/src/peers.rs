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
use std::time::Duration;

use concoord_core::limits::{FRAME_BYTES_MAX, HELLO_BYTES_MAX};
use concoord_core::replica::{Contact, Event};
use concoord_core::view::ReplicaId;
use concoord_core::wire::{
    FrameError, Hello, PREAMBLE, PeerHello, PeerMessage, Purpose, Welcome, read_message,
};
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::connection::{Connection, ReadError, Reader};
use crate::shell::Shell;
use crate::steps::{reach, step};
use crate::task::Task;
use crate::transfer::{self, Arriving};

/// How soon a connection that broke or failed is tried again.
pub(crate) const REDIAL: Duration = Duration::from_millis(100);

/// How long an attempt may take, from the first packet to the welcome.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long what was sent may stay unacknowledged before the system ends the connection.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);

/// Connections to and from other replicas.
pub(crate) struct Peers {
    source: IpAddr,
    contacts: RefCell<BTreeMap<(SocketAddr, Purpose), Task>>,
    /// By who answered.
    outgoing: RefCell<BTreeMap<ReplicaId, (SocketAddr, Rc<Connection>)>>,
    incoming: RefCell<BTreeMap<ReplicaId, Rc<Connection>>>,
    transfers: RefCell<BTreeMap<ReplicaId, Task>>,
    /// The snapshot that is coming in.
    pub(crate) arriving: RefCell<Option<Arriving>>,
}

impl Peers {
    pub(crate) fn new(source: IpAddr) -> Self {
        Self {
            source,
            contacts: RefCell::default(),
            outgoing: RefCell::default(),
            incoming: RefCell::default(),
            transfers: RefCell::default(),
            arriving: RefCell::default(),
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
            (Some((_, connection)), None) => match step("peers::send") {
                Ok(()) => shell.to_peers.send(connection, &message),
                // It is lost, and so is what would come after it.
                Err(_) => connection.close(),
            },
            (None, None) => {}
            (Some((address, _)), Some(state)) => {
                let task = transfer::send(Rc::clone(shell), to, *address, message, state);
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
        self.arriving.borrow_mut().take();
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
pub(crate) enum DialError {
    #[error(transparent)]
    Socket(#[from] io::Error),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("no answer within {DIAL_TIMEOUT:?}")]
    Silent,
    #[error("it answers as {0:?}")]
    Welcome(Box<Welcome>),
    #[error("it says that it has {0} bytes of the snapshot")]
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
            return Err(DialError::Welcome(Box::new(welcome)));
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
pub(crate) async fn greet(
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
        Purpose::Snapshot => transfer::receive(shell, connection, &mut reader, id).await,
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
            reach("peers::hear");
            shell.post(Event::Message(id, read_message(frame)?));
            Ok(())
        })
        .await;
    if forget(&shell.peers.incoming, id, |current| Rc::ptr_eq(current, connection)) {
        shell.post(Event::PeerLost(id));
    }
    ended
}
