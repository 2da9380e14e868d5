//! The blocking client: threads, a socket and a clock around a [`Session`].
//!
//! A thread that calls writes its frame itself. Of the threads that wait for replies, one reads
//! for all: a lone call costs one write and one read, and no thread is woken for it. Whoever
//! leaves with its reply hands the reading on. The keeper, a thread of its own, dials, keeps the
//! session alive and looks for unasked answers while nobody waits.

mod keeper;
mod later;
mod shared;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use concoord_core::call::{Guard, ObjectName};
use concoord_core::object::Interface;
use concoord_core::wire::Status;

pub use self::later::{Gathered, Started};
use self::shared::Shared;
use crate::bootstrap::Bootstrap;
use crate::reply;
use crate::session::{Health, Making, Question, Reply, Session, Ticket, Undo};
use crate::{Arguments, Error, Value};

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

#[cfg(test)]
mod tests;
