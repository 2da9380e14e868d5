//! Asking other name servers. Blocks; for the command line, and before a replica starts.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::DATAGRAM_BYTES_MAX;
use super::message::{Reply, query};

/// Datagrams that are sent before a server counts as silent: one may be lost.
const ATTEMPTS: u32 = 2;

/// Asks that server for a name and type, for so long at most; `recursive` has it ask others.
pub(crate) fn ask(
    server: SocketAddr,
    name: &str,
    kind: u16,
    recursive: bool,
    patience: Duration,
) -> io::Result<Reply> {
    let id = getrandom::u32().map_err(io::Error::other)?.to_be_bytes();
    let [first, second, ..] = id;
    let id = [first, second];
    let query = query(id, name, kind, recursive);
    let any: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(server)?;
    for _ in 0..ATTEMPTS {
        socket.send(&query)?;
        if let Some(reply) = receive(&socket, id, patience / ATTEMPTS)? {
            return if reply.truncated {
                ask_by_tcp(server, &query, id, patience)
            } else {
                Ok(reply)
            };
        }
    }
    Err(io::ErrorKind::TimedOut.into())
}

fn receive(socket: &UdpSocket, id: [u8; 2], patience: Duration) -> io::Result<Option<Reply>> {
    let until = Instant::now() + patience;
    let mut packet = [0; DATAGRAM_BYTES_MAX as usize];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        socket.set_read_timeout(Some(left))?;
        match socket.recv(&mut packet) {
            Ok(length) => {
                // What answers another query is passed over.
                if let Some(reply) = Reply::read(packet.get(..length).unwrap_or_default(), id) {
                    return Ok(Some(reply));
                }
            }
            Err(error)
                if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind()) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
}

fn ask_by_tcp(
    server: SocketAddr,
    query: &[u8],
    id: [u8; 2],
    patience: Duration,
) -> io::Result<Reply> {
    let mut stream = TcpStream::connect_timeout(&server, patience)?;
    stream.set_read_timeout(Some(patience))?;
    stream.set_write_timeout(Some(patience))?;
    let mut bytes = u16::try_from(query.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
    bytes.extend(query);
    stream.write_all(&bytes)?;
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut packet = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut packet)?;
    Reply::read(&packet, id).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
