//! What the threads of a client share: the session, the socket, and who waits for what.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::keeper;
use super::later::Later;
use crate::Error;
use crate::bootstrap::Bootstrap;
use crate::error::Attempts;
use crate::session::{Making, Reply, Session, Ticket};

/// How long a read, a write or a wait lasts at most before its thread looks around: whether it
/// was interrupted, whether its time is up, whether there is something left to write.
pub(super) const SLICE: Duration = Duration::from_millis(50);

/// What the threads of one life share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// Wakes the keeper.
    pub(super) keeper: Condvar,
    pub(super) born: Instant,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) session: Session,
    pub(super) socket: Option<Socket>,
    /// Whether some thread reads from the socket.
    pub(super) reading: bool,
    /// Threads that wait while another one reads.
    pub(super) followers: BTreeMap<Ticket, Arc<Condvar>>,
    /// Calls that no thread waits for.
    pub(super) later: Later,
    pub(super) replies: BTreeMap<Ticket, Result<Reply, Error>>,
    pub(super) tickets: u64,
    pub(super) kept: bool,
    pub(super) closed: bool,
}

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) link: u64,
    pub(super) stream: Arc<TcpStream>,
    pub(super) inbox: Inbox,
}

/// What was read, and room to read into.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) bytes: BytesMut,
    pub(super) room: Vec<u8>,
}

impl Shared {
    pub(super) fn new(session: Session) -> Self {
        let state = State {
            session,
            socket: None,
            reading: false,
            followers: BTreeMap::new(),
            later: Later::default(),
            replies: BTreeMap::new(),
            tickets: 0,
            kept: false,
            closed: false,
        };
        Self { state: Mutex::new(state), keeper: Condvar::new(), born: Instant::now() }
    }

    pub(super) fn now(&self) -> Duration {
        self.born.elapsed()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked in here has left no step half done that others could not go on
        // from: the session checks all that it is told.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn wait_for(
        self: &Arc<Self>,
        bootstrap: &Bootstrap,
        make: impl FnOnce(&mut Session, Duration, Ticket),
        timeout: Duration,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Reply, Error> {
        let start = self.now();
        let mut state = self.lock();
        let ticket = self.make(&mut state, bootstrap, start, make)?;
        self.settle(&mut state, start);
        self.wait(state, Wait { shared: self, ticket, start, timeout }, interrupted)
    }

    /// Makes calls, all of which are written together.
    pub(super) fn begin(
        self: &Arc<Self>,
        bootstrap: &Bootstrap,
        makings: Vec<Making>,
    ) -> Result<Vec<Ticket>, Error> {
        let now = self.now();
        let mut state = self.lock();
        let mut tickets = Vec::with_capacity(makings.len());
        for making in makings {
            let make = |session: &mut Session, now: Duration, ticket: Ticket| {
                session.call(now, ticket, making);
            };
            tickets.push(self.make(&mut state, bootstrap, now, make)?);
        }
        self.settle(&mut state, now);
        Ok(tickets)
    }

    /// Waits for what was begun.
    pub(super) fn finish(
        &self,
        ticket: Ticket,
        start: Duration,
        timeout: Duration,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Reply, Error> {
        self.wait(self.lock(), Wait { shared: self, ticket, start, timeout }, interrupted)
    }

    pub(super) fn make(
        self: &Arc<Self>,
        state: &mut State,
        bootstrap: &Bootstrap,
        now: Duration,
        make: impl FnOnce(&mut Session, Duration, Ticket),
    ) -> Result<Ticket, Error> {
        if state.closed {
            return Err(Error::Closed);
        }
        self.ensure_kept(state, bootstrap)?;
        state.tickets += 1;
        let ticket = Ticket(state.tickets);
        make(&mut state.session, now, ticket);
        Ok(ticket)
    }

    fn wait<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        wait: Wait<'a>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Reply, Error> {
        let ticket = wait.ticket;
        let (mut state, result) = wait.run(state, interrupted);
        if result.is_err() {
            // To give a call up may mean to say so.
            let now = self.now();
            self.settle(&mut state, now);
        }
        state.followers.remove(&ticket);
        state.hand_on();
        result
    }

    fn ensure_kept(
        self: &Arc<Self>,
        state: &mut State,
        bootstrap: &Bootstrap,
    ) -> Result<(), Error> {
        if state.kept {
            return Ok(());
        }
        let (shared, bootstrap) = (Arc::clone(self), bootstrap.clone());
        let keeper = thread::Builder::new().name("concoord".into());
        keeper.spawn(move || keeper::keep(&shared, &bootstrap)).map_err(|error| {
            Error::Unreachable {
                attempts: Attempts(vec![("a thread of its own".into(), error.to_string())]),
                timeout: Duration::ZERO,
            }
        })?;
        state.kept = true;
        Ok(())
    }

    /// Brings the socket and the waiting threads in line with the session.
    pub(super) fn settle(&self, state: &mut State, now: Duration) {
        state.write(now);
        if state.socket.as_ref().is_some_and(|socket| socket.link != state.session.link_number()) {
            state.hang_up();
        }
        if state.socket.is_none() && !state.session.is_linked() {
            self.keeper.notify_one();
        }
        while let Some((ticket, result)) = state.session.done() {
            let Some(result) = state.later.end(ticket, result) else { continue };
            if let Some(follower) = state.followers.get(&ticket) {
                follower.notify_one();
            }
            state.replies.insert(ticket, result);
        }
    }

    pub(super) fn close(&self) {
        let mut state = self.lock();
        if state.closed {
            return;
        }
        state.closed = true;
        state.session.close();
        self.settle(&mut state, self.now());
        state.hang_up();
        self.keeper.notify_one();
    }

    /// In a forked child: lets go of the parent's connection, without a word on it.
    pub(super) fn abandon(&self) {
        if let Ok(mut state) = self.state.try_lock() {
            state.socket = None;
        }
    }
}

impl State {
    /// Nobody waits for that any more. Its reply may have come just now.
    pub(super) fn abandon(&mut self, now: Duration, ticket: Ticket) {
        match self.replies.remove(&ticket) {
            Some(reply) => self.session.untaken(now, reply),
            None => self.session.abandon(now, ticket),
        }
    }

    /// Writes what there is to write, as far as the socket takes it.
    pub(super) fn write(&mut self, now: Duration) {
        let Some(socket) = self.socket.as_ref() else { return };
        while socket.link == self.session.link_number() && !self.session.output().is_empty() {
            match (&*socket.stream).write(self.session.output()) {
                Ok(0) => self.session.lost(now, "it takes no more".into()),
                Ok(bytes) => self.session.written(now, bytes),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => return,
                Err(error) => self.session.lost(now, error.to_string()),
            }
        }
    }

    /// Takes in what a read brought.
    pub(super) fn read(
        &mut self,
        now: Duration,
        link: u64,
        mut inbox: Inbox,
        read: std::io::Result<usize>,
    ) {
        if link != self.session.link_number() {
            return;
        }
        match read {
            Ok(0) => self.session.lost(now, "it closed the connection".into()),
            Ok(count) => {
                inbox.bytes.extend_from_slice(inbox.room.get(..count).unwrap_or_default());
                self.session.received(now, &mut inbox.bytes);
            }
            Err(error) if is_timeout(&error) || error.kind() == ErrorKind::Interrupted => {}
            Err(error) => self.session.lost(now, error.to_string()),
        }
        if let Some(socket) = self.socket.as_mut().filter(|socket| socket.link == link) {
            socket.inbox = inbox;
        }
    }

    /// If nobody reads, one of those who wait shall.
    pub(super) fn hand_on(&self) {
        if !self.reading
            && let Some(follower) = self.followers.values().next()
        {
            follower.notify_one();
        }
    }

    pub(super) fn hang_up(&mut self) {
        if let Some(socket) = self.socket.take() {
            // Other owners of the socket (a thread in a read, a forked child) must not keep the
            // connection open. That it is closed already is no error.
            drop(socket.stream.shutdown(std::net::Shutdown::Both));
        }
    }
}

/// One thread's wait for its reply.
struct Wait<'a> {
    shared: &'a Shared,
    ticket: Ticket,
    start: Duration,
    timeout: Duration,
}

impl<'a> Wait<'a> {
    fn run(
        &self,
        mut state: MutexGuard<'a, State>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> (MutexGuard<'a, State>, Result<Reply, Error>) {
        let mut asked_at = self.start;
        loop {
            if let Some(result) = state.replies.remove(&self.ticket) {
                return (state, result);
            }
            let now = self.shared.now();
            let deadline = state.session.deadline(self.ticket, self.start, self.timeout);
            if deadline.is_some_and(|deadline| now >= deadline) {
                let error = state.session.give_up(now, self.ticket, self.timeout);
                return (state, Err(error));
            }
            let (next, was_signalled) = self.step(state, now);
            state = next;
            let now = self.shared.now();
            let is_done = state.replies.contains_key(&self.ticket);
            if !is_done && (was_signalled || now.saturating_sub(asked_at) >= SLICE) {
                asked_at = now;
                drop(state);
                let is_interrupted = interrupted();
                state = self.shared.lock();
                if is_interrupted {
                    state.abandon(now, self.ticket);
                    return (state, Err(Error::Interrupted));
                }
            }
        }
    }

    /// Reads, or waits for the thread that does, for a slice of time at most. Returns whether a
    /// signal ended it.
    fn step(
        &self,
        mut state: MutexGuard<'a, State>,
        now: Duration,
    ) -> (MutexGuard<'a, State>, bool) {
        if !state.reading && state.socket.is_some() {
            return read_once(self.shared, state);
        }
        let deadline = state.session.deadline(self.ticket, self.start, self.timeout);
        let left = deadline.map_or(SLICE, |deadline| deadline.saturating_sub(now));
        let follower = Arc::clone(state.followers.entry(self.ticket).or_default());
        let waited = follower.wait_timeout(state, left.min(SLICE));
        (waited.unwrap_or_else(PoisonError::into_inner).0, false)
    }
}

/// Reads once, without the lock. The socket must be there and nobody reading from it.
pub(super) fn read_once<'a>(
    shared: &'a Shared,
    mut state: MutexGuard<'a, State>,
) -> (MutexGuard<'a, State>, bool) {
    let Some(socket) = state.socket.as_mut() else { return (state, false) };
    let (link, stream) = (socket.link, Arc::clone(&socket.stream));
    let mut inbox = std::mem::take(&mut socket.inbox);
    state.reading = true;
    drop(state);
    let read = (&*stream).read(&mut inbox.room);
    let mut state = shared.lock();
    state.reading = false;
    let was_signalled = read.as_ref().is_err_and(|error| error.kind() == ErrorKind::Interrupted);
    let now = shared.now();
    state.read(now, link, inbox, read);
    shared.settle(&mut state, now);
    (state, was_signalled)
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
