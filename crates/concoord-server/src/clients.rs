//! Who connects: what the first bytes tell, and a client from its hello on.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use concoord_core::limits::{
    CLIENT_FRAME_BYTES_MAX, CONNECTIONS_MAX, HANDSHAKE_TIMEOUT, HELLO_BYTES_MAX,
};
use concoord_core::replica::Event;
use concoord_core::wire::{ClientHello, Hello, PREAMBLE, Welcome, read_message};
use rustix::process::{Resource, getrlimit};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::connection::{Connection, ReadError, Reader, Room};
use crate::shell::Shell;
use crate::{http, peers};

/// Descriptors that connections leave to all else: files, the worker, peers that are dialled, and
/// those who ask the name server.
const SPARE_FILES: usize = 512;

/// Connections beyond the most that are still told why they are refused, and among
/// which peers still find a place: clients must not be able to cut replicas off.
const SPARE_CONNECTIONS: usize = 64;

/// How long to wait when no connection can be accepted: descriptors or memory are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Silence after which the system asks whether the other end still lives, and how often.
const KEEPALIVE: TcpKeepalive = TcpKeepalive::new()
    .with_time(Duration::from_secs(60))
    .with_interval(Duration::from_secs(10))
    .with_retries(3);

/// Accepts connections until it is dropped, and they end with it.
pub(crate) async fn accept(listener: Rc<TcpListener>, shell: Rc<Shell>) {
    let mut connections = JoinSet::new();
    let most = connections_max(getrlimit(Resource::Nofile).current);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) if connections.len() < most + SPARE_CONNECTIONS => {
                    let full = connections.len() >= most;
                    connections.spawn_local(greet(Rc::clone(&shell), stream, from, full));
                }
                Ok((_, from)) => tracing::debug!("{from} is turned away: too many connections"),
                Err(error) => {
                    tracing::warn!("a connection can't be accepted: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => {
                // What one connection sent must not end the others.
                if let Err(error) = ended {
                    tracing::error!("a connection's task failed, please report this: {error}");
                }
            }
        }
    }
}

/// The most connections where a process may have so many files open: they must not take what the
/// disk needs.
fn connections_max(files: Option<u64>) -> usize {
    let files = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    files.saturating_sub(SPARE_FILES).max(files / 2).min(CONNECTIONS_MAX)
}

/// What the first byte of a connection tells.
#[derive(Debug, PartialEq, Eq)]
enum Speaks {
    Frames,
    Http,
    Unknown,
}

impl Speaks {
    fn of(first: u8) -> Self {
        match first {
            first if first == PREAMBLE[0] => Self::Frames,
            // All methods of HTTP are capitals; a TLS hello starts with 0x16.
            b'A'..=b'Z' => Self::Http,
            _ => Self::Unknown,
        }
    }
}

/// Finds out who connects, in bounded time.
async fn greet(shell: Rc<Shell>, stream: TcpStream, from: SocketAddr, full: bool) {
    let speaks = match timeout(HANDSHAKE_TIMEOUT, first_byte(&stream)).await {
        Ok(Ok(first)) => Speaks::of(first),
        Ok(Err(error)) => return tracing::debug!("{from} went before it spoke: {error}"),
        Err(_) => return tracing::debug!("{from} said nothing"),
    };
    match speaks {
        Speaks::Http if !full => http::serve(shell, stream).await,
        Speaks::Http => {}
        Speaks::Unknown => tracing::debug!("{from} speaks neither ConCoord nor HTTP"),
        Speaks::Frames => {
            let (connection, mut reader) = Connection::new(stream);
            match timeout(HANDSHAKE_TIMEOUT, read_hello(&mut reader, &shell.client_room)).await {
                Ok(Ok(Hello::Client(hello))) => {
                    client(&shell, &connection, reader, &hello, full).await;
                }
                Ok(Ok(Hello::Peer(hello))) => {
                    peers::incoming(&shell, &connection, reader, hello).await;
                }
                Ok(Err(HelloError::Version(version))) => {
                    tracing::debug!("{from} speaks version {version} of the protocol");
                    refuse(&connection, &other_version(version));
                }
                Ok(Err(error)) => tracing::debug!("{from} sent no hello: {error}"),
                Err(_) => tracing::debug!("{from} did not end its hello"),
            }
        }
    }
}

async fn first_byte(stream: &TcpStream) -> io::Result<u8> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&KEEPALIVE)?;
    let mut first = [0];
    match stream.peek(&mut first).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(first[0]),
    }
}

#[derive(Debug, thiserror::Error)]
enum HelloError {
    #[error("its first bytes are not ours")]
    Preamble,
    #[error("it speaks version {0}")]
    Version(u8),
    #[error(transparent)]
    Read(#[from] ReadError),
}

async fn read_hello(reader: &mut Reader, room: &Room) -> Result<Hello, HelloError> {
    while reader.pending.len() < PREAMBLE.len() {
        reader.fill().await?;
    }
    let preamble = reader.pending.split_to(PREAMBLE.len());
    let (name, version) = (preamble.get(..7), preamble.last().copied().unwrap_or_default());
    if name != PREAMBLE.get(..7) {
        return Err(HelloError::Preamble);
    }
    if Some(&version) != PREAMBLE.last() {
        return Err(HelloError::Version(version));
    }
    let frame = reader.frame(HELLO_BYTES_MAX, room).await?;
    Ok(read_message(&frame).map_err(ReadError::Frame)?)
}

fn other_version(version: u8) -> String {
    let own = PREAMBLE.last().copied().unwrap_or_default();
    format!(
        "this replica speaks version {own} of the protocol, you speak {version}: \
         install the same release on both sides"
    )
}

fn refuse(connection: &Connection, reason: &str) {
    connection.push(&Welcome::Refused(reason.to_owned()));
    connection.flush();
}

/// Serves a client until it goes.
async fn client(
    shell: &Rc<Shell>,
    connection: &Rc<Connection>,
    mut reader: Reader,
    hello: &ClientHello,
    full: bool,
) {
    if full {
        let reason = "this replica has all the connections it can hold".into();
        connection.push(&Welcome::NotYet(reason));
        return connection.flush();
    }
    let welcome = shell.replica.borrow().greet_client(hello);
    connection.push(&welcome);
    connection.flush();
    if !matches!(welcome, Welcome::Client { .. }) {
        return;
    }
    let id = shell.add_client(connection);
    let ended = connection
        .carry(&mut reader, CLIENT_FRAME_BYTES_MAX, &shell.client_room, |frame| {
            shell.post(Event::Request(id, read_message(frame)?));
            Ok(())
        })
        .await;
    if let Err(error) = ended {
        tracing::debug!("client {} is gone: {error}", id.0);
    }
    shell.remove_client(id);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_to_the_disk() {
        assert_eq!(connections_max(None), CONNECTIONS_MAX);
        assert_eq!(connections_max(Some(1 << 20)), CONNECTIONS_MAX);
        assert_eq!(connections_max(Some(4096)), 4096 - SPARE_FILES);
        assert_eq!(connections_max(Some(256)), 128);
    }

    #[test]
    fn the_first_byte_tells_frames_from_http_and_from_all_else() {
        assert_eq!(Speaks::of(PREAMBLE[0]), Speaks::Frames);
        for method in ["GET", "HEAD", "POST", "OPTIONS", "DELETE"] {
            assert_eq!(Speaks::of(method.as_bytes()[0]), Speaks::Http);
        }
        // A TLS hello, an SSH client does not speak first, and nothing.
        for first in [0x16, 0x00, 0xff, b'g', b'\n'] {
            assert_eq!(Speaks::of(first), Speaks::Unknown);
        }
    }
}
