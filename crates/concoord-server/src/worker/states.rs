//! States on their way from a worker and to it.
//!
//! Each goes through a pipe of its own, at whose other end a thread reads or writes: neither calls
//! nor the replica wait for it, whatever its size. The worker gets its end of the pipe over the
//! socket, beside the frame that asks for the state or brings it.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, PipeReader, PipeWriter, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes, BytesMut};
use concoord_core::limits::SNAPSHOT_BYTES_MAX;
use concoord_core::wire::Written;
use rustix::cmsg_space;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pipe::fcntl_setpipe_size;
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;
use tokio::task::{JoinHandle, spawn_blocking};

use crate::journal::State;
use crate::task::Task;

/// Bytes that a pipe holds, where the system grants as many: the two ends take turns less often.
const PIPE_BYTES: usize = 1 << 20;

/// States that a worker was asked to write down.
#[derive(Default)]
pub(super) struct States {
    /// Being read, by their numbers.
    reading: BTreeMap<u64, Reading>,
    /// Said to be whole, and about to be.
    whole: Vec<Task>,
}

/// A state that a thread reads.
pub(super) struct Reading {
    state: JoinHandle<io::Result<Bytes>>,
    /// Bytes that have come.
    came: Arc<AtomicUsize>,
    /// How many that were when last there were more, and when.
    seen: (usize, Instant),
}

impl States {
    /// Begins to read a state; returns the end of the pipe that it is to be written to.
    pub(super) fn read(&mut self, number: u64) -> io::Result<OwnedFd> {
        let (from, to) = pipe()?;
        let came = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&came);
        let state = spawn_blocking(move || read(from, &counting));
        self.reading.insert(number, Reading { state, came, seen: (0, Instant::now()) });
        Ok(to.into())
    }

    /// For how long nothing has come of a state, of those that the worker has begun on. Whoever
    /// writes it may wait for ever: of a lock, say, that another thread had as the worker forked.
    pub(super) fn stalled(&mut self, now: Instant, has_begun: impl Fn(u64) -> bool) -> Duration {
        let stalled = self.reading.iter_mut().map(|(number, Reading { came, seen, .. })| {
            let came = came.load(Ordering::Relaxed);
            if came > seen.0 || !has_begun(*number) {
                *seen = (came, now);
            }
            now.saturating_duration_since(seen.1)
        });
        stalled.max().unwrap_or_default()
    }

    pub(super) fn take(&mut self, number: u64) -> Option<Reading> {
        self.reading.remove(&number)
    }

    /// Keeps what waits for a state until it ends, or the worker does.
    pub(super) fn keep(&mut self, task: Task) {
        self.whole.retain(|task| !task.is_over());
        self.whole.push(task);
    }
}

impl Reading {
    /// The state, of which the worker has said that it is written.
    pub(super) async fn end(self, written: Result<Written, String>) -> Result<State, String> {
        let Written { bytes, has_sets } = written?;
        let state = self.state.await.expect("reading does not panic");
        let state = state.map_err(|error| format!("the state can't be read: {error}"))?;
        if state.len() > SNAPSHOT_BYTES_MAX {
            return Err(format!("the state takes more than {SNAPSHOT_BYTES_MAX} bytes"));
        }
        if state.len() as u64 != bytes {
            return Err(format!("{bytes} bytes of state were written, {} came", state.len()));
        }
        Ok(State { bytes: state, has_sets })
    }
}

fn read(from: PipeReader, came: &AtomicUsize) -> io::Result<Bytes> {
    let mut state = Vec::new();
    let mut from = from.take(SNAPSHOT_BYTES_MAX as u64 + 1);
    while from.by_ref().take(PIPE_BYTES as u64).read_to_end(&mut state)? > 0 {
        came.store(state.len(), Ordering::Relaxed);
    }
    state.shrink_to_fit();
    Ok(state.into())
}

/// Begins to write a state; returns the end of the pipe that it is to be read from.
pub(super) fn write(state: Bytes) -> io::Result<OwnedFd> {
    let (from, mut to) = pipe()?;
    spawn_blocking(move || {
        // Who does not take it in whole says why, or dies.
        if let Err(error) = to.write_all(&state) {
            tracing::debug!("a state was not taken in: {error}");
        }
    });
    Ok(from.into())
}

fn pipe() -> io::Result<(PipeReader, PipeWriter)> {
    let (from, to) = io::pipe()?;
    if let Err(error) = fcntl_setpipe_size(&to, PIPE_BYTES) {
        tracing::debug!("a pipe stays small: {error}");
    }
    Ok((from, to))
}

/// Sends all of `frame`, and a descriptor beside it.
pub(super) async fn send(
    writer: &mut OwnedWriteHalf,
    frame: &mut BytesMut,
    descriptor: OwnedFd,
) -> io::Result<()> {
    let socket: &UnixStream = writer.as_ref();
    let beside = || send_beside(socket, frame, descriptor.as_fd());
    let sent = socket.async_io(Interest::WRITABLE, beside).await?;
    drop(descriptor);
    frame.advance(sent);
    writer.write_all_buf(frame).await
}

fn send_beside(socket: &UnixStream, frame: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    assert!(beside.push(SendAncillaryMessage::ScmRights(&descriptors)), "there is space for one");
    Ok(sendmsg(socket, &[IoSlice::new(frame)], &mut beside, SendFlags::NOSIGNAL)?)
}
