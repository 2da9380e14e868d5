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
use concoord_core::limits::{PEER_UNREAD_BYTES_MAX, UNREAD_BYTES_MAX};
use concoord_core::wire::{FrameError, take_frame, write_frame};
use serde::Serialize;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;
use tokio::task::yield_now;

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
    pub(crate) async fn frame(&mut self, bytes_max: usize) -> Result<Bytes, ReadError> {
        loop {
            if let Some(frame) = take_frame(&mut self.pending, bytes_max)? {
                return Ok(frame);
            }
            self.fill().await?;
        }
    }

    /// Gives all frames to `deliver` as they come; ends only in an error.
    pub(crate) async fn frames(
        &mut self,
        bytes_max: usize,
        mut deliver: impl FnMut(&[u8]) -> Result<(), FrameError>,
    ) -> Result<(), ReadError> {
        loop {
            while let Some(frame) = take_frame(&mut self.pending, bytes_max)? {
                deliver(&frame)?;
            }
            if self.fill().await? {
                // One that sends without end must not keep the others from being read.
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
        deliver: impl FnMut(&[u8]) -> Result<(), FrameError>,
    ) -> Result<(), ReadError> {
        tokio::select! {
            // First, so that nothing is delivered once it is closed.
            biased;
            ended = self.write() => ended.map_err(ReadError::Socket),
            ended = reader.frames(bytes_max, deliver) => ended,
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
