//! An order to a replica: who is to be a member. It stays with the replica that it was given to,
//! so that nobody orders twice without knowing.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use concoord_core::limits::FRAME_BYTES_MAX;
use concoord_core::wire::{
    Answer, ClientHello, FrameError, Hello, Order, PREAMBLE, Report, Request, Welcome,
    read_message, take_frame, write_frame,
};
use serde::de::DeserializeOwned;

use super::addresses;
use super::exit::{Exit, Failure};

/// How long connecting to one replica may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Has the first replica of `boot` that answers carry out an order. `progress` is told what it
/// waits for; the result is what was done.
pub(super) fn give(
    boot: &str,
    order: Order,
    timeout: Duration,
    mut progress: impl FnMut(&str),
) -> Result<String, Failure> {
    let end = Instant::now() + timeout;
    let mut line = connect(boot, end)?;
    line.send(&Request::Order(order)).map_err(|error| unknown(&error, ""))?;
    let mut last = String::new();
    loop {
        match line.receive(end).map_err(|error| unknown(&error, &last))? {
            Answer::Ordered(Report::Done(text)) => return Ok(text),
            Answer::Ordered(Report::Waiting(text)) => {
                progress(&text);
                last = text;
            }
            Answer::Ordered(Report::Refused(text)) => {
                return Err(Failure::new(Exit::Refused, text));
            }
            Answer::Ordered(Report::NotNow(text)) => {
                return Err(Failure::new(Exit::NotReady, text));
            }
            // What a client is told unasked.
            Answer::Opened(_)
            | Answer::NotOpened(_)
            | Answer::Reply { .. }
            | Answer::Alive(_)
            | Answer::Closed(_)
            | Answer::Parked { .. }
            | Answer::Interface(_)
            | Answer::NoInterface(_)
            | Answer::Status(_)
            | Answer::Leader(_)
            | Answer::Waiting(_)
            | Answer::Backup(..)
            | Answer::Part(_)
            | Answer::NoBackup(_)
            | Answer::Members(_)
            | Answer::Expired(_) => {}
        }
    }
}

fn unknown(error: &LineError, last: &str) -> Failure {
    let last = if last.is_empty() { String::new() } else { format!("; the last word: {last}") };
    let text = format!(
        "{error}{last}. The change may be made or not: `concoord members` tells, and ordering it \
         again does no harm"
    );
    Failure::new(Exit::Unknown, text)
}

fn connect(boot: &str, end: Instant) -> Result<Line, Failure> {
    let (mut failures, mut exit) = (Vec::new(), Exit::Unreachable);
    for address in addresses(boot, end.saturating_duration_since(Instant::now()))? {
        match greet(address, end) {
            Ok((line, Welcome::Client { .. })) => return Ok(line),
            Ok((_, Welcome::NotYet(reason) | Welcome::Refused(reason))) => {
                exit = Exit::NotReady;
                failures.push(format!("{address}: {reason}"));
            }
            Ok((_, Welcome::Peer { .. } | Welcome::Removed(_))) => {
                failures.push(format!("{address}: it takes us for a replica"));
            }
            Err(error) => failures.push(format!("{address}: {error}")),
        }
    }
    let reasons = failures.join("; ");
    Err(Failure::new(exit, format!("no replica takes the order ({reasons}); name others with -b")))
}

fn greet(address: SocketAddr, end: Instant) -> Result<(Line, Welcome), LineError> {
    let stream = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    stream.set_nodelay(true)?;
    let mut line = Line { stream, pending: BytesMut::new() };
    line.stream.write_all(&PREAMBLE)?;
    line.send(&Hello::Client(ClientHello { class: None, session: None }))?;
    let welcome = line.receive(end.min(Instant::now() + CONNECT_TIMEOUT))?;
    Ok((line, welcome))
}

/// A connection to a replica.
struct Line {
    stream: TcpStream,
    pending: BytesMut,
}

#[derive(Debug, thiserror::Error)]
enum LineError {
    #[error("no reply in time")]
    Late,
    #[error("the replica closed the connection")]
    Closed,
    #[error("the connection failed: {0}")]
    Socket(#[from] io::Error),
    #[error("the replica sent {0}")]
    Frame(#[from] FrameError),
}

impl Line {
    fn send<M: serde::Serialize>(&mut self, message: &M) -> Result<(), LineError> {
        let mut frame = BytesMut::new();
        write_frame(message, &mut frame);
        Ok(self.stream.write_all(&frame)?)
    }

    fn receive<M: DeserializeOwned>(&mut self, end: Instant) -> Result<M, LineError> {
        let mut room = [0; 4096];
        loop {
            if let Some(frame) = take_frame(&mut self.pending, FRAME_BYTES_MAX)? {
                return Ok(read_message(&frame)?);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LineError::Late);
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut room) {
                Ok(0) => return Err(LineError::Closed),
                Ok(bytes) => {
                    self.pending.extend_from_slice(room.get(..bytes).unwrap_or_default());
                }
                Err(error)
                    if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut]
                        .contains(&error.kind()) =>
                {
                    return Err(LineError::Late);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}
