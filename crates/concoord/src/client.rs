//! The blocking client: threads, a socket and a clock around a [`Session`].
//!
//! A thread that calls writes its frame itself. Of the threads that wait for replies, one reads
//! for all: a lone call costs one write and one read, and no thread is woken for it. Whoever
//! leaves with its reply hands the reading on. The keeper, a thread of its own, dials, keeps the
//! session alive and looks for unasked answers while nobody waits.

mod keeper;
mod later;

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use concoord_core::call::{Guard, ObjectName};
use concoord_core::object::Interface;
use concoord_core::wire::Status;

use self::later::Later;
pub use self::later::{Gathered, Started};
use crate::bootstrap::Bootstrap;
use crate::error::Attempts;
use crate::reply;
use crate::session::{Health, Making, Question, Reply, Session, Ticket, Undo};
use crate::{Arguments, Error, Value};

/// How long a read, a write or a wait lasts at most before its thread looks around: whether it
/// was interrupted, whether its time is up, whether there is something left to write.
const SLICE: Duration = Duration::from_millis(50);

/// What a client is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// How long a call may take, with all that is needed to connect.
    pub timeout: Duration,
    /// The class that the object must be of; `None` for that which the cluster was started with.
    pub class: Option<String>,
    /// Which object of the class; empty for the one that is meant where none is named.
    pub name: String,
}

/// How a call is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Of which object; `None` for that of the client's options.
    pub object: Option<ObjectName>,
    /// Who calls, as objects see it: one number a thread or task. `None` for the thread that
    /// makes the call.
    pub thread: Option<u64>,
    /// It runs only if this is held then; see [`Refusal::Fenced`](crate::Refusal::Fenced).
    pub guard: Option<Guard>,
    /// What is to be called if this call has got something though it was given up.
    pub undo: Option<Undo>,
    /// Whether it is made even where its caller has given it up before it was sent, as long as the
    /// session lives: a release that nobody waits for is still a release.
    pub is_kept: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { timeout: Duration::from_secs(60), class: None, name: String::new() }
    }
}

/// A client of a replicated object. Any number of threads may call at once.
///
/// A process that was forked gets a connection and a session of its own at its first call.
#[derive(Debug)]
pub struct Client {
    bootstrap: Bootstrap,
    options: Options,
    process: fn() -> u32,
    life: Life,
}

/// How the replica at `"host:port"` is, or the first that answers behind a name, by its own account: unlike a [`Client`] this stays with
/// that very replica.
///
/// # Errors
/// See [`Error`].
pub fn status_of(address: &str, timeout: Duration) -> Result<Status, Error> {
    let bootstrap: Bootstrap = address.parse()?;
    let options = Options { timeout, ..Options::default() };
    let session = Session::new(bootstrap.clone(), None).staying();
    let life = Life::new(std::process::id(), session);
    Client { bootstrap, options, process: std::process::id, life }.status()
}

/// The client within one process. A forked child finds locks that are held by threads which it
/// does not have, so it touches nothing of its parent's life and begins the next one.
#[derive(Debug)]
struct Life {
    process: u32,
    shared: Arc<Shared>,
    next: OnceLock<Box<Self>>,
}

impl Client {
    /// Connects to the first replica of `"host:port, host:port"` that serves. In place of some or
    /// all of them may stand domain names, which are looked up anew whenever a connection is lost:
    /// as SRV records at `_concoord._tcp.<name>`, else as addresses with port 14000, or with the
    /// port that follows the name. `?dns=ADDRESS:PORT` behind it all, or the environment variable
    /// `CONCOORD_DNS`, names the DNS servers to ask in place of this host's own.
    ///
    /// # Errors
    /// [`Error::Bootstrap`], [`Error::Unreachable`], [`Error::Refused`].
    pub fn connect(bootstrap: &str, options: Options) -> Result<Self, Error> {
        Self::connect_with(bootstrap, options, &mut || false)
    }

    /// Like [`Client::connect`], until `interrupted` says so; see [`Client::call_with`].
    ///
    /// # Errors
    /// As [`Client::connect`], and [`Error::Interrupted`].
    pub fn connect_with(
        bootstrap: &str,
        options: Options,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Self, Error> {
        Self::connect_in(std::process::id, bootstrap, options, interrupted)
    }

    /// A client that connects when it is first called, and so waits for nobody here.
    ///
    /// # Errors
    /// [`Error::Bootstrap`].
    pub fn lazy(bootstrap: &str, options: Options) -> Result<Self, Error> {
        let bootstrap: Bootstrap = bootstrap.parse()?;
        let session = Session::new(bootstrap.clone(), options.class.clone());
        let process = std::process::id;
        Ok(Self { bootstrap, options, process, life: Life::new(process(), session) })
    }

    fn connect_in(
        process: fn() -> u32,
        bootstrap: &str,
        options: Options,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Self, Error> {
        let bootstrap: Bootstrap = bootstrap.parse()?;
        let session = Session::new(bootstrap.clone(), options.class.clone());
        let life = Life::new(process(), session);
        let client = Self { bootstrap, options, process, life };
        client.ask(Question::Ready, client.options.timeout, interrupted)?;
        Ok(client)
    }

    /// Calls a method, within the timeout of the options.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn call(&self, method: &str, arguments: &Arguments) -> Result<Value, Error> {
        self.call_with(method, arguments, self.options.timeout, &mut || false)
    }

    /// Calls a method. `interrupted` is asked at least every 50 ms, without any lock held, and
    /// ends the wait by `true`; the call itself may still run, once.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn call_with(
        &self,
        method: &str,
        arguments: &Arguments,
        timeout: Duration,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Value, Error> {
        self.call_as(&Manner::default(), method, arguments, timeout, interrupted)
    }

    /// Calls a method, in a manner of its own. Interrupted or out of time, a call that waits for
    /// others ends, and never gets later what it waited for.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn call_as(
        &self,
        manner: &Manner,
        method: &str,
        arguments: &Arguments,
        timeout: Duration,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Value, Error> {
        let making = self.making(manner, method, arguments)?;
        let make = |session: &mut Session, now: Duration, ticket: Ticket| {
            session.call(now, ticket, making);
        };
        reply::value(self.wait_for(make, timeout, interrupted)?)
    }

    /// Makes many calls in one go; they take effect in their order, each once. What came of each
    /// is in the order of the calls.
    ///
    /// # Errors
    /// See [`Error`]; if one can't be encoded, none is made.
    pub fn call_all(
        &self,
        calls: &[(Manner, &str, Arguments)],
        timeout: Duration,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Result<Value, Error>>, Error> {
        let makings =
            calls.iter().map(|(manner, method, arguments)| self.making(manner, method, arguments));
        let makings = makings.collect::<Result<Vec<_>, _>>()?;
        let shared = self.shared();
        let tickets = shared.begin(&self.bootstrap, makings)?;
        let start = shared.now();
        Ok(tickets
            .into_iter()
            .map(|ticket| shared.finish(ticket, start, timeout, interrupted).and_then(reply::value))
            .collect())
    }

    /// Makes a call and does not wait for it; [`Pending::wait`] does.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn start(
        &self,
        manner: &Manner,
        method: &str,
        arguments: &Arguments,
    ) -> Result<Pending, Error> {
        let making = self.making(manner, method, arguments)?;
        let shared = Arc::clone(self.shared());
        let ticket = shared.begin(&self.bootstrap, vec![making])?.pop();
        let ticket = ticket.expect("one call was made");
        let start = shared.now();
        Ok(Pending { shared, ticket, start, is_over: false })
    }

    /// How the session is.
    #[must_use]
    pub fn health(&self) -> Health {
        let shared = self.shared();
        let now = shared.now();
        shared.lock().session.health(now)
    }

    fn making(
        &self,
        manner: &Manner,
        method: &str,
        arguments: &Arguments,
    ) -> Result<Making, Error> {
        let arguments = reply::encode(method, arguments, self.options.class.as_deref())?;
        let own = || ObjectName {
            class: self.options.class.clone().unwrap_or_default(),
            name: self.options.name.clone(),
        };
        Ok(Making {
            object: manner.object.clone().unwrap_or_else(own),
            thread: manner.thread.unwrap_or_else(thread_number),
            guard: manner.guard.clone().map(Box::new),
            undo: manner.undo.clone(),
            is_kept: manner.is_kept,
            method: method.to_owned(),
            arguments,
        })
    }

    /// What the object offers.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn interface(&self) -> Result<Interface, Error> {
        reply::interface(self.ask(Question::Interface, self.options.timeout, &mut || false)?)
    }

    /// How the replica is that this client is connected to.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn status(&self) -> Result<Status, Error> {
        reply::status(self.ask(Question::Status, self.options.timeout, &mut || false)?)
    }

    /// Ends the session and the connection. What the session held is released; calls that are
    /// open in other threads end with [`Error::SessionExpired`], later ones with
    /// [`Error::Closed`].
    pub fn close(&self) {
        if let Some(life) = self.life_of((self.process)()) {
            life.shared.close();
        }
    }

    fn ask(
        &self,
        question: Question,
        timeout: Duration,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Reply, Error> {
        let make = |session: &mut Session, now: Duration, ticket: Ticket| {
            session.ask(now, ticket, question);
        };
        self.wait_for(make, timeout, interrupted)
    }

    fn wait_for(
        &self,
        make: impl FnOnce(&mut Session, Duration, Ticket),
        timeout: Duration,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Reply, Error> {
        self.shared().wait_for(&self.bootstrap, make, timeout, interrupted)
    }

    /// What the threads of this process share.
    fn shared(&self) -> &Arc<Shared> {
        let process = (self.process)();
        let mut life = &self.life;
        while life.process != process {
            life = life.next.get_or_init(|| {
                life.shared.abandon();
                let session = Session::new(self.bootstrap.clone(), self.options.class.clone());
                Box::new(Life::new(process, session))
            });
        }
        &life.shared
    }

    fn life_of(&self, process: u32) -> Option<&Life> {
        let mut life = &self.life;
        while life.process != process {
            life = life.next.get()?;
        }
        Some(life)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}

impl Life {
    fn new(process: u32, session: Session) -> Self {
        Self { process, shared: Arc::new(Shared::new(session)), next: OnceLock::new() }
    }
}

/// What the threads of one life share.
#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Wakes the keeper.
    keeper: Condvar,
    born: Instant,
}

#[derive(Debug)]
struct State {
    session: Session,
    socket: Option<Socket>,
    /// Whether some thread reads from the socket.
    reading: bool,
    /// Threads that wait while another one reads.
    followers: BTreeMap<Ticket, Arc<Condvar>>,
    /// Calls that no thread waits for.
    later: Later,
    replies: BTreeMap<Ticket, Result<Reply, Error>>,
    tickets: u64,
    kept: bool,
    closed: bool,
}

#[derive(Debug)]
struct Socket {
    link: u64,
    stream: Arc<TcpStream>,
    inbox: Inbox,
}

/// What was read, and room to read into.
#[derive(Debug, Default)]
struct Inbox {
    bytes: BytesMut,
    room: Vec<u8>,
}

impl Shared {
    fn new(session: Session) -> Self {
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

    fn now(&self) -> Duration {
        self.born.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A thread that panicked in here has left no step half done that others could not go on
        // from: the session checks all that it is told.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for(
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
    fn begin(
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
    fn finish(
        &self,
        ticket: Ticket,
        start: Duration,
        timeout: Duration,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Reply, Error> {
        self.wait(self.lock(), Wait { shared: self, ticket, start, timeout }, interrupted)
    }

    fn make(
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
    fn settle(&self, state: &mut State, now: Duration) {
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

    fn close(&self) {
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
    fn abandon(&self) {
        if let Ok(mut state) = self.state.try_lock() {
            state.socket = None;
        }
    }
}

impl State {
    /// Nobody waits for that any more. Its reply may have come just now.
    fn abandon(&mut self, now: Duration, ticket: Ticket) {
        match self.replies.remove(&ticket) {
            Some(reply) => self.session.untaken(now, reply),
            None => self.session.abandon(now, ticket),
        }
    }

    /// Writes what there is to write, as far as the socket takes it.
    fn write(&mut self, now: Duration) {
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
    fn read(&mut self, now: Duration, link: u64, mut inbox: Inbox, read: std::io::Result<usize>) {
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
    fn hand_on(&self) {
        if !self.reading
            && let Some(follower) = self.followers.values().next()
        {
            follower.notify_one();
        }
    }

    fn hang_up(&mut self) {
        if let Some(socket) = self.socket.take() {
            // Other owners of the socket (a thread in a read, a forked child) must not keep the
            // connection open. That it is closed already is no error.
            drop(socket.stream.shutdown(std::net::Shutdown::Both));
        }
    }
}

/// A call that was made and is not waited for yet.
///
/// One that is dropped is given up: see [`Client::call_as`].
#[derive(Debug)]
pub struct Pending {
    shared: Arc<Shared>,
    ticket: Ticket,
    start: Duration,
    is_over: bool,
}

impl Pending {
    /// Whether the reply is there, so that to wait takes no time.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.shared.lock().replies.contains_key(&self.ticket)
    }

    /// Waits for the reply, until `timeout` after the call was made.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn wait(
        mut self,
        timeout: Duration,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Value, Error> {
        self.is_over = true;
        self.shared.finish(self.ticket, self.start, timeout, interrupted).and_then(reply::value)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if !self.is_over {
            let now = self.shared.now();
            let mut state = self.shared.lock();
            state.abandon(now, self.ticket);
            self.shared.settle(&mut state, now);
        }
    }
}

/// The number of this thread, which no other of this process has.
fn thread_number() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NUMBER: u64 = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
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
fn read_once<'a>(
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

#[cfg(test)]
mod tests;
