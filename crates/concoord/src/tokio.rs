//! The asynchronous client, for tokio: one task around a session.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::tokio::io::AsyncReadExt;
use ::tokio::net::TcpStream;
use ::tokio::sync::{mpsc, oneshot};
use ::tokio::time::{Instant, sleep, timeout};
use bytes::BytesMut;
use concoord_core::call::ObjectName;

use crate::bootstrap::Bootstrap;
use crate::error::why_unconnected;
use crate::names::{self, LookUpError};
use crate::route::Dial;
use crate::session::{Health, Making, Question, Reply, Session, Ticket};
use crate::{Arguments, Error, Interface, Manner, Options, Status, Value, reply};

/// How often the task looks at the session's clock while nothing happens.
const LOOK: Duration = Duration::from_millis(250);

/// Bytes of room that a read is given at least.
const READ_BYTES: usize = 16 << 10;

/// How often it is looked at whether a call that waits for others still has a cluster to wait for.
const PARKED: Duration = Duration::from_secs(5);

/// How long [`Client::close`] tries to say goodbye.
const GOODBYE: Duration = Duration::from_millis(250);

/// A client of a replicated object. Its clones share one session.
///
/// ```no_run
/// # async fn example() -> Result<(), concoord::Error> {
/// use concoord::{Arguments, Options, tokio::Client};
///
/// let client = Client::connect("127.0.0.1:14000", Options::default()).await?;
/// client.call("increment", &Arguments::default()).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    commands_tx: mpsc::UnboundedSender<Command>,
    tickets: Arc<AtomicU64>,
    options: Options,
}

type ReplyTx = oneshot::Sender<Result<Reply, Error>>;

/// What the task is told by the handles.
#[derive(Debug)]
enum Command {
    Call(Ticket, Making, ReplyTx),
    Ask(Ticket, Question, ReplyTx),
    /// If that has waited for long enough since then, it is given up; else it is said when it will
    /// have.
    GiveUp(Ticket, Instant, Duration, oneshot::Sender<Duration>),
    /// Nobody waits for that; what came of it, if it just has.
    Abandon(Ticket, Option<Result<Reply, Error>>),
    Health(oneshot::Sender<Health>),
    Close,
}

impl Client {
    /// Connects to the first replica of `"host:port, host:port"` that serves, or of a domain
    /// name: see [`crate::Client::connect`].
    ///
    /// # Errors
    /// [`Error::Bootstrap`], [`Error::Unreachable`], [`Error::Refused`].
    pub async fn connect(bootstrap: &str, options: Options) -> Result<Self, Error> {
        let bootstrap = bootstrap.parse::<Bootstrap>()?;
        let (commands_tx, commands_rx) = mpsc::unbounded_channel();
        let (names_tx, names_rx) = mpsc::unbounded_channel();
        let driver = Driver {
            session: Session::new(bootstrap.clone(), options.class.clone()),
            replies: HashMap::new(),
            names_tx,
            born: Instant::now(),
        };
        ::tokio::spawn(driver.run(bootstrap, commands_rx, names_rx));
        let client = Self { commands_tx, tickets: Arc::default(), options };
        client.ask(Question::Ready).await?;
        Ok(client)
    }

    /// Calls a method, within the timeout of the options.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn call(&self, method: &str, arguments: &Arguments) -> Result<Value, Error> {
        self.call_with(method, arguments, self.options.timeout).await
    }

    /// Calls a method, within `timeout`. If the future is dropped the call may still run, once.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn call_with(
        &self,
        method: &str,
        arguments: &Arguments,
        timeout: Duration,
    ) -> Result<Value, Error> {
        self.call_as(&Manner::default(), method, arguments, timeout).await
    }

    /// Calls a method, in a manner of its own. If the future is dropped or its time is up, a call
    /// that waits for others ends, and never gets later what it waited for. Without a thread in
    /// the manner all tasks are one to the object.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn call_as(
        &self,
        manner: &Manner,
        method: &str,
        arguments: &Arguments,
        timeout: Duration,
    ) -> Result<Value, Error> {
        let arguments = reply::encode(method, arguments, self.options.class.as_deref())?;
        let own = || ObjectName {
            class: self.options.class.clone().unwrap_or_default(),
            name: self.options.name.clone(),
        };
        let making = Making {
            object: manner.object.clone().unwrap_or_else(own),
            thread: manner.thread.unwrap_or(0),
            guard: manner.guard.clone().map(Box::new),
            undo: manner.undo.clone(),
            is_kept: manner.is_kept,
            method: method.to_owned(),
            arguments,
        };
        let make = |ticket, reply_tx| Command::Call(ticket, making, reply_tx);
        reply::value(self.wait_for(make, timeout).await?)
    }

    /// What the object offers.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn interface(&self) -> Result<Interface, Error> {
        reply::interface(self.ask(Question::Interface).await?)
    }

    /// How the replica is that this client is connected to.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn status(&self) -> Result<Status, Error> {
        reply::status(self.ask(Question::Status).await?)
    }

    /// How the session is; `None` once the client is closed.
    pub async fn health(&self) -> Option<Health> {
        let (health_tx, health_rx) = oneshot::channel();
        self.commands_tx.send(Command::Health(health_tx)).ok()?;
        health_rx.await.ok()
    }

    /// Ends the session and the connection, for all clones. Calls that are open end with
    /// [`Error::SessionExpired`], later ones with [`Error::Closed`]. Dropping the last clone does
    /// the same, without waiting.
    pub async fn close(&self) {
        if self.commands_tx.send(Command::Close).is_ok() {
            self.commands_tx.closed().await;
        }
    }

    async fn ask(&self, question: Question) -> Result<Reply, Error> {
        let make = |ticket, reply_tx| Command::Ask(ticket, question, reply_tx);
        self.wait_for(make, self.options.timeout).await
    }

    async fn wait_for(
        &self,
        make: impl FnOnce(Ticket, ReplyTx) -> Command,
        within: Duration,
    ) -> Result<Reply, Error> {
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        let (reply_tx, reply_rx) = oneshot::channel();
        let commands_tx = &self.commands_tx;
        let mut open = Open { commands_tx, ticket, reply_rx, is_over: false };
        open.say(make(ticket, reply_tx))?;
        let start = Instant::now();
        let mut left = within;
        let reply = loop {
            if let Ok(reply) = timeout(left, &mut open.reply_rx).await {
                break reply;
            }
            let (left_tx, left_rx) = oneshot::channel();
            open.say(Command::GiveUp(ticket, start, within, left_tx))?;
            match left_rx.await {
                Ok(more) => left = more,
                Err(_) => break (&mut open.reply_rx).await,
            }
        };
        open.is_over = true;
        // The task answers everything that it has taken; what it has not was too late.
        reply.unwrap_or(Err(Error::Closed))
    }
}

/// Something that is waited for; abandoned where the waiting future is dropped.
struct Open<'a> {
    commands_tx: &'a mpsc::UnboundedSender<Command>,
    ticket: Ticket,
    reply_rx: oneshot::Receiver<Result<Reply, Error>>,
    is_over: bool,
}

impl Open<'_> {
    fn say(&self, command: Command) -> Result<(), Error> {
        self.commands_tx.send(command).map_err(|_| Error::Closed)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if !self.is_over {
            // What has not come by now is handed back to the task.
            self.reply_rx.close();
            let reply = self.reply_rx.try_recv().ok();
            // Where the task is gone there is nothing left to abandon.
            drop(self.say(Command::Abandon(self.ticket, reply)));
        }
    }
}

/// All addresses of replicas, each name looked up once: [`Bootstrap::look_up`] for tasks.
///
/// # Errors
/// [`Error::Unreachable`] where there is none, or none was found within `within`.
pub async fn look_up(bootstrap: &Bootstrap, within: Duration) -> Result<Vec<SocketAddr>, Error> {
    let (names_tx, mut names_rx) = mpsc::unbounded_channel();
    names::look_up_all(bootstrap, &move |nth, found| {
        // Who asked may have stopped waiting.
        drop(names_tx.send((nth, found)));
    });
    let mut search = names::Search::new(bootstrap);
    let take_all = async {
        while let Some((nth, found)) = names_rx.recv().await {
            search.take(nth, found);
        }
    };
    // What has not come by then is said in the error, if there is none else.
    drop(timeout(within, take_all).await);
    search.end(within)
}

/// The task that owns a session.
struct Driver {
    session: Session,
    replies: HashMap<Ticket, ReplyTx>,
    names_tx: mpsc::UnboundedSender<LookedUp>,
    born: Instant,
}

/// The connection, or the way to one.
enum Wire {
    Down,
    Coming(Pin<Box<dyn Future<Output = Came> + Send>>),
    Up { link: u64, stream: TcpStream, inbox: BytesMut },
}

/// What the way to a connection has led to.
type Came = io::Result<TcpStream>;

/// What a name stands for.
type LookedUp = (usize, Result<Vec<SocketAddr>, LookUpError>);

/// What a turn of the task begins with.
enum Event {
    Command(Option<Command>),
    Came(Came),
    LookedUp(LookedUp),
    Read(io::Result<usize>),
    Writable,
    Timer,
}

impl Driver {
    async fn run(
        mut self,
        bootstrap: Bootstrap,
        mut commands_rx: mpsc::UnboundedReceiver<Command>,
        mut names_rx: mpsc::UnboundedReceiver<LookedUp>,
    ) {
        let mut wire = Wire::Down;
        let mut timer = pin!(sleep(LOOK));
        loop {
            if let Some(at) = self.settle(&mut wire, &bootstrap)
                && self.born + at < timer.deadline()
            {
                timer.as_mut().reset(self.born + at);
            }
            let wants_to_write = !self.session.output().is_empty();
            let event = ::tokio::select! {
                command = commands_rx.recv() => Event::Command(command),
                event = wire.event(wants_to_write) => event,
                Some(found) = names_rx.recv() => Event::LookedUp(found),
                () = timer.as_mut() => Event::Timer,
            };
            let now = self.born.elapsed();
            match event {
                Event::Command(None | Some(Command::Close)) => break,
                Event::Command(Some(command)) => {
                    self.obey(now, command);
                    while let Ok(command) = commands_rx.try_recv() {
                        if matches!(command, Command::Close) {
                            return self.close(wire).await;
                        }
                        self.obey(now, command);
                    }
                }
                Event::Came(came) => self.came(now, came, &mut wire),
                Event::LookedUp((nth, found)) => {
                    self.session.looked_up(nth, found.map_err(|error| error.to_string()));
                }
                Event::Read(read) => self.read(now, read, &mut wire),
                Event::Writable => {}
                Event::Timer => {
                    self.session.wake(now);
                    timer.as_mut().reset(Instant::now() + LOOK);
                }
            }
        }
        self.close(wire).await;
    }

    fn obey(&mut self, now: Duration, command: Command) {
        match command {
            Command::Call(ticket, making, reply_tx) => {
                self.replies.insert(ticket, reply_tx);
                self.session.call(now, ticket, making);
            }
            Command::Ask(ticket, question, reply_tx) => {
                self.replies.insert(ticket, reply_tx);
                self.session.ask(now, ticket, question);
            }
            Command::GiveUp(ticket, start, timeout, left_tx) => {
                let start = start.saturating_duration_since(self.born);
                // A call that is parked waits on: it is looked at again from time to time.
                let deadline = self.session.deadline(ticket, start, timeout);
                let left = deadline.map_or(PARKED, |deadline| deadline.saturating_sub(now));
                if !left.is_zero() && self.replies.contains_key(&ticket) {
                    // Who does not wait any more has abandoned the call.
                    left_tx.send(left).ok();
                } else if let Some(reply_tx) = self.replies.remove(&ticket) {
                    // Otherwise the reply has just been given.
                    let error = self.session.give_up(now, ticket, timeout);
                    drop(reply_tx.send(Err(error)));
                }
            }
            Command::Abandon(ticket, None) => {
                self.replies.remove(&ticket);
                self.session.abandon(now, ticket);
            }
            Command::Abandon(_, Some(reply)) => self.session.untaken(now, reply),
            Command::Health(health_tx) => {
                // Who does not wait any more does not want to know.
                health_tx.send(self.session.health(now)).ok();
            }
            Command::Close => unreachable!("the loop ends by this one"),
        }
    }

    fn came(&mut self, now: Duration, came: Came, wire: &mut Wire) {
        *wire = Wire::Down;
        match came {
            Ok(stream) => {
                self.session.dialled(now);
                let link = self.session.link_number();
                *wire = Wire::Up { link, stream, inbox: BytesMut::new() };
            }
            Err(error) => self.session.lost(now, why_unconnected(&error)),
        }
    }

    fn read(&mut self, now: Duration, read: io::Result<usize>, wire: &mut Wire) {
        let Wire::Up { inbox, .. } = wire else { return };
        match read {
            Ok(0) => self.session.lost(now, "it closed the connection".into()),
            Ok(_) => self.session.received(now, inbox),
            Err(error) => self.session.lost(now, error.to_string()),
        }
    }

    /// Brings the connection and the waiting calls in line with the session. Returns when there
    /// is something to do next.
    fn settle(&mut self, wire: &mut Wire, bootstrap: &Bootstrap) -> Option<Duration> {
        let now = self.born.elapsed();
        self.write(now, wire);
        if matches!(wire, Wire::Up { link, .. } if *link != self.session.link_number()) {
            *wire = Wire::Down;
        }
        while let Some((ticket, result)) = self.session.done() {
            if let Some(reply_tx) = self.replies.remove(&ticket)
                && let Err(reply) = reply_tx.send(result)
            {
                // Its caller is about to say that it waits no more.
                self.session.untaken(now, reply);
            }
        }
        if !matches!(wire, Wire::Down) {
            return self.session.wake_at();
        }
        loop {
            match self.session.dial(now) {
                Dial::LookUp => self.look_up(bootstrap),
                Dial::Connect { address, within } => {
                    *wire = Wire::Coming(Box::pin(connect(address, within)));
                    return None;
                }
                Dial::At(at) => return Some(at),
                Dial::Nothing => return None,
            }
        }
    }

    /// Begins to look the names up, in threads: the runtime would wait for tasks that block.
    fn look_up(&self, bootstrap: &Bootstrap) {
        let names_tx = self.names_tx.clone();
        names::look_up_all(bootstrap, &move |nth, found| {
            // The client may be gone.
            drop(names_tx.send((nth, found)));
        });
    }

    fn write(&mut self, now: Duration, wire: &Wire) {
        let Wire::Up { link, stream, .. } = wire else { return };
        while *link == self.session.link_number() && !self.session.output().is_empty() {
            match stream.try_write(self.session.output()) {
                Ok(0) => self.session.lost(now, "it takes no more".into()),
                Ok(bytes) => self.session.written(now, bytes),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => self.session.lost(now, error.to_string()),
            }
        }
    }

    /// Says goodbye, as far as that is possible in a moment.
    async fn close(mut self, wire: Wire) {
        self.session.close();
        while let Some((ticket, result)) = self.session.done() {
            if let Some(reply_tx) = self.replies.remove(&ticket) {
                // The session is over, and what it held with it.
                drop(reply_tx.send(result));
            }
        }
        if let Wire::Up { link, mut stream, .. } = wire
            && link == self.session.link_number()
        {
            let goodbye = ::tokio::io::AsyncWriteExt::write_all(&mut stream, self.session.output());
            // The session expires without it too, only later.
            drop(timeout(GOODBYE, goodbye).await);
        }
    }
}

impl Wire {
    async fn event(&mut self, wants_to_write: bool) -> Event {
        match self {
            Self::Down => std::future::pending().await,
            Self::Coming(coming) => Event::Came(coming.await),
            Self::Up { stream, inbox, .. } => {
                inbox.reserve(READ_BYTES);
                let (mut reader, writer) = stream.split();
                ::tokio::select! {
                    read = reader.read_buf(inbox) => Event::Read(read),
                    _ = writer.writable(), if wants_to_write => Event::Writable,
                }
            }
        }
    }
}

async fn connect(address: SocketAddr, within: Duration) -> Came {
    match timeout(within, TcpStream::connect(address)).await {
        // Where nobody listens, a port of the ephemeral range can by chance reach itself.
        Ok(Ok(stream)) if stream.local_addr().is_ok_and(|own| own == address) => {
            Err(io::ErrorKind::ConnectionRefused.into())
        }
        Ok(Ok(stream)) => stream.set_nodelay(true).map(|()| stream),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests;
