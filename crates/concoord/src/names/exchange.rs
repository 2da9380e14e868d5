//! One question to the DNS, by UDP, and by TCP where the answer does not fit.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use super::message::{Question, Response, UDP_BYTES_MAX, decode, encode};
use super::system::System;

const FORMAT_ERROR: u8 = 1;
const NAME_ERROR: u8 = 3;

/// What comes of a question.
pub(super) struct Answered {
    pub(super) by: SocketAddr,
    pub(super) response: Response,
}

impl Answered {
    pub(super) const fn is_name_unknown(&self) -> bool {
        self.response.code == NAME_ERROR
    }
}

/// Why a server has not answered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    #[error("{0} does not answer")]
    Late(SocketAddr),
    #[error("{0}: {1}")]
    Socket(SocketAddr, String),
    #[error("{0} answers {1}")]
    Code(SocketAddr, String),
    #[error("no random numbers: {0}")]
    Random(String),
    #[error("there was no time left to ask")]
    NoTime,
}

/// Asks the servers in turn, the one that answered last first, until one says yes or no, or `end` has come.
///
/// # Errors
/// Why each of them has not, the last one last.
pub(super) fn ask(
    system: &System,
    question: &Question,
    end: Instant,
) -> Result<Answered, Vec<Unanswered>> {
    let mut failures: Vec<Unanswered> = Vec::new();
    let first = system.answered.get();
    for attempt in 0..system.attempts {
        let servers = system.servers.iter().enumerate();
        for (nth, server) in servers.clone().skip(first).chain(servers.take(first)) {
            let patience = system.patience * (1 << attempt);
            match ask_one(*server, question, end.min(Instant::now() + patience)) {
                Ok(response) if matches!(response.code, 0 | NAME_ERROR) => {
                    system.answered.set(nth);
                    return Ok(Answered { by: *server, response });
                }
                Ok(response) => note(&mut failures, Unanswered::Code(*server, name(response.code))),
                Err(failure) => note(&mut failures, failure),
            }
        }
    }
    if failures.is_empty() {
        failures.push(Unanswered::NoTime);
    }
    Err(failures)
}

/// The same is said once.
fn note(failures: &mut Vec<Unanswered>, failure: Unanswered) {
    if !failures.contains(&failure) {
        failures.push(failure);
    }
}

/// Codes of servers that know no answer, as RFC 1035 and `dig` name them.
fn name(code: u8) -> String {
    match code {
        FORMAT_ERROR => "FORMERR".into(),
        2 => "SERVFAIL".into(),
        4 => "NOTIMP".into(),
        5 => "REFUSED".into(),
        other => format!("with error {other}"),
    }
}

fn ask_one(server: SocketAddr, question: &Question, end: Instant) -> Result<Response, Unanswered> {
    let response = ask_by_udp(server, question, true, end)?;
    // One that knows of no EDNS says so by this (RFC 6891, 7).
    let response = if response.code == FORMAT_ERROR {
        ask_by_udp(server, question, false, end)?
    } else {
        response
    };
    if response.truncated { ask_by_tcp(server, question, end) } else { Ok(response) }
}

fn ask_by_udp(
    server: SocketAddr,
    question: &Question,
    edns: bool,
    end: Instant,
) -> Result<Response, Unanswered> {
    let id = random_id()?;
    let failed = |error: &io::Error| failure(server, error);
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    // The kernel draws the port, and lets in what comes from the server alone.
    let socket = UdpSocket::bind(any).map_err(|error| failed(&error))?;
    socket.connect(server).map_err(|error| failed(&error))?;
    socket.send(&encode(id, question, edns)).map_err(|error| failed(&error))?;
    let mut room = [0; UDP_BYTES_MAX as usize];
    loop {
        socket.set_read_timeout(Some(left(server, end)?)).map_err(|error| failed(&error))?;
        let bytes = match socket.recv(&mut room) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(&error)),
        };
        // Anything else may be forged, or late: the answer may still come.
        if let Some(response) = room.get(..bytes).and_then(|bytes| decode(bytes, id, question)) {
            return Ok(response);
        }
    }
}

fn ask_by_tcp(
    server: SocketAddr,
    question: &Question,
    end: Instant,
) -> Result<Response, Unanswered> {
    let id = random_id()?;
    let failed = |error: &io::Error| failure(server, error);
    let within = left(server, end)?;
    let mut stream = TcpStream::connect_timeout(&server, within).map_err(|error| failed(&error))?;
    let message = encode(id, question, true);
    let length = u16::try_from(message.len()).expect("a question takes some 300 bytes at most");
    stream.set_write_timeout(Some(left(server, end)?)).map_err(|error| failed(&error))?;
    let bytes = [&length.to_be_bytes()[..], &message].concat();
    stream.write_all(&bytes).map_err(|error| failed(&error))?;
    let mut length = [0; 2];
    read_exact(&mut stream, server, &mut length, end)?;
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    read_exact(&mut stream, server, &mut answer, end)?;
    decode(&answer, id, question)
        .ok_or_else(|| Unanswered::Socket(server, "what it sends by TCP is no answer".into()))
}

/// Reads all of that, or until `end`, however slowly it comes.
fn read_exact(
    stream: &mut TcpStream,
    server: SocketAddr,
    mut room: &mut [u8],
    end: Instant,
) -> Result<(), Unanswered> {
    let failed = |error: &io::Error| failure(server, error);
    while !room.is_empty() {
        stream.set_read_timeout(Some(left(server, end)?)).map_err(|error| failed(&error))?;
        match stream.read(room) {
            Ok(0) => return Err(failed(&ErrorKind::UnexpectedEof.into())),
            Ok(bytes) => room = room.get_mut(bytes..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    Ok(())
}

/// The time until `end`, never none at all, which would mean for ever.
fn left(server: SocketAddr, end: Instant) -> Result<Duration, Unanswered> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(Unanswered::Late(server)) } else { Ok(left) }
}

fn failure(server: SocketAddr, error: &io::Error) -> Unanswered {
    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
        Unanswered::Late(server)
    } else if error.kind() == ErrorKind::ConnectionRefused {
        Unanswered::Socket(server, "no DNS server listens there".into())
    } else {
        Unanswered::Socket(server, error.to_string())
    }
}

fn random_id() -> Result<u16, Unanswered> {
    let drawn = getrandom::u32().map_err(|error| Unanswered::Random(error.to_string()))?;
    Ok((drawn & 0xffff) as u16)
}
