//! A connection: its socket, and what waits to leave by it.
//!
//! The driver writes straight to the socket at the end of a turn. Only what the socket does not
//! take at once is left to the connection's own task.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use concoord_core::limits::{
    FRAME_TIMEOUT, PEER_UNREAD_BYTES_MAX, SMALL_FRAME_BYTES, UNREAD_BYTES_MAX,
};
use concoord_core::wire::{FrameError, HEADER_BYTES, announced, take_frame, write_frame};
use serde::Serialize;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, Semaphore};
use tokio::task::yield_now;
use tokio::time::timeout;

/// Bytes that one read takes at most: one buffer of this size serves all sockets of a thread.
const READ_BYTES: usize = 64 << 10;

/// Bytes of buffer that an idle connection may keep.
const IDLE_BYTES: usize = 4 << 10;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into());
}

/// Why nothing more will be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// The other end is gone.
    #[error("the other end closed the connection")]
    Closed,
    /// The socket failed.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// What came is no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// What the connections of one kind may have begun in all: each large frame takes leave for all
/// of its bytes before more of it is read, so that those with leave can end.
pub(crate) struct Room(Semaphore);

impl Room {
    pub(crate) const fn new(bytes: usize) -> Self {
        Self(Semaphore::const_new(bytes))
    }
}

/// The reading end of a socket, with what has arrived of the next frame.
pub(crate) struct Reader<R = OwnedReadHalf> {
    socket: R,
    pub(crate) pending: BytesMut,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(socket: R) -> Self {
        Self { socket, pending: BytesMut::new() }
    }

    /// Waits for bytes; says whether more are likely to be there.
    pub(crate) async fn fill(&mut self) -> Result<bool, ReadError> {
        if self.pending.is_empty() && self.pending.capacity() > IDLE_BYTES {
            self.pending = BytesMut::new();
        }
        poll_fn(|cx| self.poll_fill(cx)).await
    }

    /// Waits for the next frame.
    pub(crate) async fn frame(
        &mut self,
        bytes_max: usize,
        room: &Room,
    ) -> Result<Bytes, ReadError> {
        let mut leave = None;
        loop {
            if let Some(frame) = take_frame(&mut self.pending, bytes_max)? {
                if leave.is_some() {
                    // What follows must not keep the large buffer.
                    self.pending = BytesMut::from(&*self.pending);
                }
                return Ok(frame);
            }
            let large = announced(&self.pending).filter(|bytes| *bytes > SMALL_FRAME_BYTES);
            if let (None, Some(bytes)) = (&leave, large) {
                let permits = u32::try_from(bytes).expect("a length on the wire is a u32");
                leave = Some(room.0.acquire_many(permits).await.expect("it is never closed"));
                self.pending.reserve(HEADER_BYTES + bytes + READ_BYTES - self.pending.len());
            }
            if self.fill().await? {
                // One that sends without end must not keep the others from being read.
                yield_now().await;
            }
        }
    }

    /// Gives all frames to `deliver` as they come; ends only in an error.
    pub(crate) async fn frames(
        &mut self,
        bytes_max: usize,
        room: &Room,
        mut deliver: impl FnMut(&[u8]) -> Result<(), FrameError>,
    ) -> Result<(), ReadError> {
        loop {
            while let Some(frame) = take_frame(&mut self.pending, bytes_max)? {
                deliver(&frame)?;
            }
            if !self.pending.is_empty() {
                let slow =
                    |_| io::Error::new(io::ErrorKind::TimedOut, "a frame did not end in time");
                let frame = timeout(FRAME_TIMEOUT, self.frame(bytes_max, room)).await;
                deliver(&frame.map_err(slow)??)?;
            } else if self.fill().await? {
                yield_now().await;
            }
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, ReadError>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let mut buffer = ReadBuf::new(scratch);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Err(ReadError::Closed));
            }
            self.pending.extend_from_slice(buffer.filled());
            Poll::Ready(Ok(buffer.remaining() == 0))
        })
    }
}

/// The writing end of a socket, with what it has not taken yet.
pub(crate) struct Connection {
    socket: OwnedWriteHalf,
    out: RefCell<BytesMut>,
    /// Bytes that may wait in `out`.
    unread_max: Cell<usize>,
    /// The socket is full: the connection's own task waits for it.
    stuck: Cell<bool>,
    closed: Cell<bool>,
    changed: Notify,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> (Rc<Self>, Reader) {
        let (reader, socket) = stream.into_split();
        let connection = Self {
            socket,
            out: RefCell::default(),
            unread_max: Cell::new(UNREAD_BYTES_MAX),
            stuck: Cell::new(false),
            closed: Cell::new(false),
            changed: Notify::new(),
        };
        (Rc::new(connection), Reader::new(reader))
    }

    /// The other end is a replica: more may wait for it than for a client.
    pub(crate) fn leads_to_peer(&self) {
        self.unread_max.set(PEER_UNREAD_BYTES_MAX);
    }

    /// Appends a message to what leaves with the next [`Connection::flush`]; says whether it is
    /// the first.
    pub(crate) fn push<M: Serialize>(&self, message: &M) -> bool {
        if self.closed.get() {
            return false;
        }
        let mut out = self.out.borrow_mut();
        let first = out.is_empty();
        write_frame(message, &mut out);
        if out.len() > self.unread_max.get() {
            tracing::debug!("a connection is closed: {} bytes wait for its reader", out.len());
            drop(out);
            self.close();
        }
        first
    }

    /// Appends bytes that are no frame.
    pub(crate) fn push_bytes(&self, bytes: &[u8]) {
        self.out.borrow_mut().extend_from_slice(bytes);
    }

    /// Writes all that the socket takes now; the rest follows when it takes more.
    pub(crate) fn flush(&self) {
        let mut out = self.out.borrow_mut();
        while !out.is_empty() && !self.closed.get() {
            match self.socket.try_write(&out) {
                Ok(bytes) => out.advance(bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !self.stuck.replace(true) {
                        self.changed.notify_one();
                    }
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.close(),
            }
        }
        self.stuck.set(false);
        if out.capacity() > IDLE_BYTES {
            *out = BytesMut::new();
        } else {
            out.clear();
        }
    }

    /// Waits until everything is written, for one that writes more than fits its buffer.
    pub(crate) async fn drained(&self) -> io::Result<()> {
        self.flush();
        while self.stuck.get() && !self.closed.get() {
            self.socket.writable().await?;
            self.flush();
        }
        if self.closed.get() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    /// Ends it: nothing more is sent, and nothing more that arrives is delivered.
    pub(crate) fn close(&self) {
        self.closed.set(true);
        self.changed.notify_one();
    }

    /// Reads and writes until either end closes, or what comes is no frame.
    pub(crate) async fn carry(
        &self,
        reader: &mut Reader,
        bytes_max: usize,
        room: &Room,
        deliver: impl FnMut(&[u8]) -> Result<(), FrameError>,
    ) -> Result<(), ReadError> {
        tokio::select! {
            // First, so that nothing is delivered once it is closed.
            biased;
            ended = self.write() => ended.map_err(ReadError::Socket),
            ended = reader.frames(bytes_max, room, deliver) => ended,
        }
    }

    /// Writes what waits, until the connection is closed.
    async fn write(&self) -> io::Result<()> {
        while !self.closed.get() {
            if self.stuck.get() {
                tokio::select! {
                    ready = self.socket.writable() => { ready?; self.flush(); }
                    () = self.changed.notified() => {}
                }
            } else {
                self.changed.notified().await;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::io::AsyncWriteExt;

    use super::*;

    /// A frame that is large, and a reader to which all but its last byte has come.
    async fn begun() -> (Vec<u8>, tokio::io::DuplexStream, Reader<tokio::io::DuplexStream>) {
        let mut frame = BytesMut::new();
        write_frame(&vec![7_u8; SMALL_FRAME_BYTES * 2], &mut frame);
        let (mut near, far) = tokio::io::duplex(frame.len());
        near.write_all(&frame[..frame.len() - 1]).await.unwrap();
        (frame.to_vec(), near, Reader::new(far))
    }

    /// Whether it goes on waiting, whatever is ready now.
    async fn waits(future: Pin<&mut impl Future>) -> bool {
        let others = async {
            for _ in 0..100 {
                yield_now().await;
            }
        };
        tokio::select! { biased; _ = future => false, () = others => true }
    }

    #[tokio::test]
    async fn a_large_frame_waits_until_another_has_ended() {
        const BYTES_MAX: usize = SMALL_FRAME_BYTES * 3;
        let room = Room::new(BYTES_MAX);
        let (sent, mut first_end, mut first) = begun().await;
        let (_, mut second_end, mut second) = begun().await;
        let mut first_frame = pin!(first.frame(BYTES_MAX, &room));
        assert!(waits(first_frame.as_mut()).await);
        {
            let mut second_frame = pin!(second.frame(BYTES_MAX, &room));
            second_end.write_all(&sent[sent.len() - 1..]).await.unwrap();
            assert!(waits(second_frame.as_mut()).await, "there is room for one");
            first_end.write_all(&sent[sent.len() - 1..]).await.unwrap();
            assert_eq!(first_frame.await.unwrap(), sent[HEADER_BYTES..]);
            assert_eq!(second_frame.await.unwrap(), sent[HEADER_BYTES..]);
        }
        assert!(second.pending.capacity() <= IDLE_BYTES, "the large buffer went with its frame");
    }
}
