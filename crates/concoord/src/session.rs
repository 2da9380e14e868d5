//! A client's session, whole but for its socket and clock.
//!
//! The shell connects where [`Session::dial`] says, moves bytes between the socket and
//! [`Session::output`] / [`Session::received`], calls [`Session::wake`] when
//! [`Session::wake_at`] has come, and fetches what is done with [`Session::done`].
//!
//! What makes calls exactly-once: a call keeps its number within the session however often it
//! is sent, and every unanswered one is sent again over each new connection. A connection
//! carries at most one session, so that a late reply is never taken for another call's.

mod answers;
mod calls;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use concoord_core::call::{Outcome, SessionId};
use concoord_core::limits::{FRAME_BYTES_MAX, HELLO_BYTES_MAX, KEEP_ALIVE, SESSION_TIMEOUT};
use concoord_core::object::Interface;
use concoord_core::view::ClusterId;
use concoord_core::wire::{
    ClientHello, Hello, PREAMBLE, Request, Status, read_message, take_frame, write_frame,
};

use self::calls::Calls;
pub(crate) use self::calls::{Given, Making};
pub use self::calls::{Undo, UndoWhen};
use crate::Error;
use crate::bootstrap::Bootstrap;
use crate::route::{Dial, Route};

/// How long an answer may be awaited before we ask the replica whether it lives. Twice as long
/// each time that it says so: a call may well take minutes.
const QUIET: Duration = Duration::from_millis(300);

/// What [`QUIET`] grows to.
const QUIET_MAX: Duration = Duration::from_millis(1200);

/// How long the answer to that may be awaited before another replica is asked who leads. With
/// [`QUIET`] no longer than an election takes to begin: then whoever is asked will know. Twice as
/// long each time that the other one does not answer either: clients that run around would only
/// give replicas that are behind more to do.
const SILENT: Duration = Duration::from_millis(700);

/// How long a replica may say that calls wait before another one is asked: this one may be cut
/// off from a majority that the other is part of. Doubled like [`SILENT`].
const STUCK: Duration = Duration::from_millis(400);

/// How long a session may be asked for before it is asked for elsewhere, though the replica lives
/// and has no reason to give. Doubled like [`SILENT`].
const UNOPENED: Duration = Duration::from_secs(3);

/// How often [`SILENT`], [`STUCK`] and [`UNOPENED`] are doubled at most.
const DOUBLINGS_MAX: u32 = 2;

/// How long after a leader did not answer it is tried again, if a follower says that it still
/// leads.
const RETURN: Duration = Duration::from_secs(10);

/// The shell's name for something it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Ticket(pub(crate) u64);

/// What can be asked besides calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// Is a replica there?
    Ready,
    Interface,
    Status,
}

/// What comes of a call or a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Outcome(Outcome, Option<Box<Given>>),
    Ready,
    Interface(Interface),
    Status(Box<Status>),
}

/// How a client's session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Health {
    /// Whether it can be relied on.
    pub state: State,
    /// Its number in the cluster, where there is one.
    pub session: Option<u64>,
    /// How many sessions of this client are over.
    pub losses: u64,
}

/// Whether a session can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is none: nothing was called yet, or the last one is lost.
    None,
    /// The cluster answers.
    Connected,
    /// It has not answered for so long, but has not ended the session either.
    Reconnecting {
        /// How long.
        since: Duration,
    },
    /// It was closed here.
    Closed,
    /// It has not answered for so long that it may have ended the session: what that held may be
    /// another's by now.
    Doubtful,
}

pub(crate) type Done = (Ticket, Result<Reply, Error>);

#[derive(Debug)]
pub(crate) struct Session {
    class: Option<String>,
    cluster: Option<ClusterId>,
    id: Option<SessionId>,
    timeout: Duration,
    /// When the last request was sent that the cluster has answered for the session: its silence
    /// is counted there from no earlier moment.
    proven_at: Duration,
    calls: Calls,
    /// Sessions that were lost.
    losses: u64,
    closed: bool,
    /// The class of the object that the cluster was started with.
    default_class: String,
    questions: Vec<(Ticket, Question)>,
    /// What calls last were said to wait for.
    waiting: Option<String>,
    link: Link,
    link_number: u64,
    lost_at: Duration,
    route: Route,
    /// How many replicas in a row were left since one answered for the session.
    left: u32,
    /// Since when nobody has answered for it, though the connection broke or calls were said to
    /// wait.
    cut_off_at: Option<Duration>,
    /// Whether a replica in this round knows nothing of the session's cluster.
    foreign: bool,
    output: BytesMut,
    done: VecDeque<Done>,
}

#[derive(Debug)]
enum Link {
    Down,
    Dialling { address: SocketAddr, within: Duration },
    Greeting { address: SocketAddr, deadline: Duration },
    Up(Up),
}

/// A connection to a replica that has welcomed us.
#[derive(Debug)]
struct Up {
    /// Where we dialled.
    address: SocketAddr,
    /// What the replica calls itself, in the eyes of the others.
    replica: SocketAddr,
    /// Since when a session has been asked for.
    opening: Option<Duration>,
    /// Since when the answer to whether the session lives is due.
    asked_alive_at: Option<Duration>,
    /// New calls wait until the cluster has answered for the session.
    proving: bool,
    /// The leader that it named, where that is not itself.
    leader: Option<SocketAddr>,
    /// Since when it has been ours.
    since: Duration,
    /// Since when the answer to whether it lives is due.
    greeted_at: Option<Duration>,
    /// How long it may be quiet while an answer is due.
    quiet: Duration,
    /// Since when an answer is due, or another part of it.
    asked_at: Option<Duration>,
    /// When the session was last heard from.
    said_at: Duration,
    /// Since when the replica says nothing but that calls wait.
    stuck_at: Option<Duration>,
    /// It has answered something.
    has_answered: bool,
}

impl Up {
    /// Bytes come or go.
    fn flows(&mut self, now: Duration) {
        for at in [&mut self.asked_at, &mut self.greeted_at].into_iter().flatten() {
            *at = now;
        }
    }

    /// An answer is due.
    fn owes(&mut self, now: Duration) {
        if self.asked_at.is_none() {
            self.quiet = QUIET;
            // What it said to be in the way of something else may be over.
            self.stuck_at = None;
        }
        self.asked_at.get_or_insert(now);
    }

    /// When to go back to the leader that had not answered.
    fn return_at(&self) -> Option<Duration> {
        self.leader.map(|_| self.since + RETURN)
    }
}

impl Session {
    pub(crate) fn new(bootstrap: Bootstrap, class: Option<String>) -> Self {
        Self {
            class,
            cluster: None,
            id: None,
            timeout: SESSION_TIMEOUT,
            proven_at: Duration::ZERO,
            calls: Calls::default(),
            losses: 0,
            closed: false,
            default_class: String::new(),
            questions: Vec::new(),
            waiting: None,
            link: Link::Down,
            link_number: 0,
            lost_at: Duration::ZERO,
            route: Route::new(bootstrap),
            left: 0,
            cut_off_at: None,
            foreign: false,
            output: BytesMut::new(),
            done: VecDeque::new(),
        }
    }

    /// Keeps to the addresses of the bootstrap, whoever leads.
    #[must_use]
    pub(crate) const fn staying(mut self) -> Self {
        self.route.stay();
        self
    }

    /// Makes a call.
    pub(crate) fn call(&mut self, now: Duration, ticket: Ticket, making: Making) {
        self.calls.make(ticket, making);
        self.flush(now);
    }

    /// Asks a question.
    pub(crate) fn ask(&mut self, now: Duration, ticket: Ticket, question: Question) {
        if matches!((&self.link, question), (Link::Up(_), Question::Ready)) {
            self.done.push_back((ticket, Ok(Reply::Ready)));
            return;
        }
        self.questions.push((ticket, question));
        if matches!(self.link, Link::Up(_)) {
            self.send_question(now, question);
        }
    }

    /// Nobody waits for that any more. A call that waits ends; any other that was sent may still
    /// run, once.
    pub(crate) fn abandon(&mut self, now: Duration, ticket: Ticket) {
        self.questions.retain(|(asked, _)| *asked != ticket);
        self.calls.abandon(ticket, self.id.is_some());
        if matches!(self.link, Link::Up(_)) {
            self.flush(now);
        } else {
            self.calls.cancel_abandoned();
        }
    }

    /// Nobody takes that reply, though it came: what it brought is given back.
    pub(crate) fn untaken(&mut self, now: Duration, reply: Result<Reply, Error>) {
        if let Ok(Reply::Outcome(outcome, Some(given))) = reply
            && self.id == Some(given.session())
        {
            self.calls.give_back(*given, &outcome);
            self.flush(now);
        }
    }

    /// When what was asked at `start` has waited for longer than `timeout`. A call that is parked
    /// waits for others, however long that takes: then it is the silence of the cluster that
    /// counts, and `None` is returned while there is none.
    pub(crate) fn deadline(
        &self,
        ticket: Ticket,
        start: Duration,
        timeout: Duration,
    ) -> Option<Duration> {
        if !self.calls.is_parked(ticket) {
            return Some(start.saturating_add(timeout));
        }
        self.cut_off_at.map(|since| since.max(start).saturating_add(timeout))
    }

    /// How the session is, as its user should see it.
    pub(crate) fn health(&self, now: Duration) -> Health {
        let (session, losses) = (self.id.map(|id| id.0), self.losses);
        let over = self.proven_at + self.timeout;
        let state = match (self.id, self.cut_off_at) {
            (None, _) if self.closed => State::Closed,
            (None, _) => State::None,
            // The cluster may have ended it meanwhile: nobody may rely on it any more. So too where
            // this process stood still, and its connection did not break.
            (Some(_), _) if now >= over => State::Doubtful,
            (Some(_), Some(since)) => State::Reconnecting { since: now.saturating_sub(since) },
            (Some(_), None) => State::Connected,
        };
        Health { state, session, losses }
    }

    /// Abandons what was not answered within `timeout`, and says why it was not.
    pub(crate) fn give_up(&mut self, now: Duration, ticket: Ticket, timeout: Duration) -> Error {
        // A call that goes on without its caller may yet run, too.
        let was_sent = self.calls.was_sent(ticket) || self.calls.goes_on(ticket, self.id.is_some());
        self.abandon(now, ticket);
        let attempts = self.route.attempts().clone();
        if matches!(self.link, Link::Up(_)) || self.waiting.is_some() {
            Error::TimedOut { timeout, reason: self.waiting.clone() }
        } else if was_sent {
            Error::TimedOut { timeout, reason: Some(attempts.to_string()) }
        } else {
            Error::Unreachable { attempts, timeout }
        }
    }

    /// Ends the session. The shell still writes [`Session::output`], then hangs up.
    pub(crate) fn close(&mut self) {
        if let (Some(id), Link::Up(_)) = (self.id, &self.link) {
            write_frame(&Request::Close(id), &mut self.output);
        }
        self.lose_session();
        self.closed = true;
        self.fail_unsent(&Error::Closed);
        self.link = Link::Down;
    }

    /// What came of calls and questions since.
    pub(crate) fn done(&mut self) -> Option<Done> {
        self.done.pop_front()
    }

    /// What to do for a connection.
    pub(crate) fn dial(&mut self, now: Duration) -> Dial {
        if !matches!(self.link, Link::Down) || !self.is_wanted(now) {
            return Dial::Nothing;
        }
        let dial = self.route.next(now);
        if let Dial::Connect { address, within } = dial {
            self.link = Link::Dialling { address, within };
        }
        dial
    }

    /// The `nth` name of the bootstrap was looked up.
    pub(crate) fn looked_up(&mut self, nth: usize, found: Result<Vec<SocketAddr>, String>) {
        self.route.looked_up(nth, found);
    }

    /// The connection that [`Session::dial`] wanted is there.
    pub(crate) fn dialled(&mut self, now: Duration) {
        let Link::Dialling { address, within } = self.link else { return };
        self.link = Link::Greeting { address, deadline: now + within };
        self.output.clear();
        self.output.extend_from_slice(&PREAMBLE);
        let session = self.cluster.zip(self.id);
        let hello = Hello::Client(ClientHello { class: self.class.clone(), session });
        write_frame(&hello, &mut self.output);
    }

    /// The replica does not answer any more.
    fn leave(&mut self, now: Duration, why: String) {
        let Link::Up(Up { address, replica, .. }) = self.link else { return };
        self.left = self.left.saturating_add(1);
        self.route.silent(address, replica, why);
        self.hang_up(now);
    }

    /// The connection could not be made, or broke.
    pub(crate) fn lost(&mut self, now: Duration, why: String) {
        match self.link {
            Link::Down => return,
            Link::Dialling { address, .. } | Link::Greeting { address, .. } => {
                self.route.failed(address, why);
            }
            Link::Up(Up { address, has_answered: true, .. }) => self.route.lost(address, why),
            Link::Up(Up { address, .. }) => self.route.turned_away(now, address, why),
        }
        self.hang_up(now);
        self.judge_round();
    }

    /// Which connection [`Session::output`] is for. When it changes, the one before is to be
    /// closed.
    pub(crate) const fn link_number(&self) -> u64 {
        self.link_number
    }

    /// Whether there is, or is about to be, a connection.
    pub(crate) const fn is_linked(&self) -> bool {
        matches!(self.link, Link::Greeting { .. } | Link::Up(_))
    }

    /// Whether an answer is due.
    pub(crate) fn is_owed(&self) -> bool {
        match &self.link {
            Link::Down | Link::Dialling { .. } => false,
            Link::Greeting { .. } => true,
            Link::Up(up) => up.asked_at.is_some(),
        }
    }

    /// What is to be written to the connection; say with [`Session::written`] what was.
    pub(crate) fn output(&self) -> &[u8] {
        &self.output
    }

    /// The connection took that many bytes of the output.
    pub(crate) fn written(&mut self, now: Duration, bytes: usize) {
        self.output.advance(bytes);
        // Where much is to be written nobody can have answered yet; that it flows is proof enough.
        if let (false, Link::Up(up)) = (self.output.is_empty(), &mut self.link) {
            up.flows(now);
        }
    }

    /// Takes in what was read from the connection; the beginning of a frame is left.
    pub(crate) fn received(&mut self, now: Duration, bytes: &mut BytesMut) {
        let link = self.link_number;
        // A part of a large answer is a sign of life, too.
        if let Link::Up(up) = &mut self.link {
            up.flows(now);
        }
        while self.link_number == link {
            let greeting = matches!(self.link, Link::Greeting { .. });
            let bytes_max = if greeting { HELLO_BYTES_MAX } else { FRAME_BYTES_MAX };
            let step = match take_frame(bytes, bytes_max) {
                Ok(None) => break,
                Ok(Some(frame)) if greeting => {
                    read_message(&frame).map(|welcome| self.welcome(now, welcome))
                }
                Ok(Some(frame)) => read_message(&frame).map(|answer| self.answer(now, answer)),
                Err(error) => Err(error),
            };
            if let Err(error) = step {
                let why = format!("it does not answer as a replica of ConCoord does: {error}");
                return self.lost(now, why);
            }
        }
    }

    /// When to call [`Session::wake`] next, at the latest.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        match &self.link {
            Link::Down | Link::Dialling { .. } => None,
            Link::Greeting { deadline, .. } => Some(*deadline),
            Link::Up(up) => {
                let leaves = [self.stuck_at(up), self.silent_at(up), self.unopened_at(up)];
                let others = [self.greet_at(up), up.return_at()];
                leaves.into_iter().chain(others).flatten().min()
            }
        }
    }

    /// Does what is due.
    pub(crate) fn wake(&mut self, now: Duration) {
        let is_due = |at: Option<Duration>| at.is_some_and(|at| now >= at);
        match &self.link {
            Link::Greeting { deadline, .. } if now >= *deadline => {
                self.lost(now, "it took the connection but did not answer".into());
            }
            Link::Up(up) if is_due(self.silent_at(up)) => {
                self.leave(now, "it takes requests but does not answer".into());
            }
            Link::Up(up) if is_due(self.stuck_at(up)) => {
                self.leave(now, self.waiting.clone().unwrap_or_default());
            }
            Link::Up(up) if is_due(self.unopened_at(up)) => {
                self.leave(now, "it answers, but opens no session".into());
            }
            Link::Up(up) if is_due(self.greet_at(up)) => self.greet(now),
            Link::Up(up) if is_due(up.return_at()) => self.go_back(now),
            Link::Down | Link::Dialling { .. } | Link::Greeting { .. } | Link::Up(_) => {}
        }
    }

    /// Goes back to the leader that had not answered.
    fn go_back(&mut self, now: Duration) {
        let Link::Up(up) = &mut self.link else { return };
        if let Some(leader) = up.leader.take()
            && self.route.returns_to(leader, up.address)
        {
            self.hang_up(now);
        }
    }

    /// When to ask elsewhere, where nothing but that calls wait is said.
    fn stuck_at(&self, up: &Up) -> Option<Duration> {
        up.asked_at.and(up.stuck_at).map(|at| at + self.patience(STUCK))
    }

    /// When the replica is no longer believed to live.
    fn silent_at(&self, up: &Up) -> Option<Duration> {
        up.greeted_at.map(|at| at + self.patience(SILENT))
    }

    /// When to ask elsewhere for a session.
    fn unopened_at(&self, up: &Up) -> Option<Duration> {
        up.opening.map(|at| at + self.patience(UNOPENED))
    }

    fn patience(&self, time: Duration) -> Duration {
        time * (1 << self.left.min(DOUBLINGS_MAX))
    }

    /// Whether a connection is needed: for something that was asked, or to keep a session that
    /// may still live.
    fn is_wanted(&self, now: Duration) -> bool {
        self.calls.are_open()
            || !self.questions.is_empty()
            || (self.id.is_some() && now < self.lost_at + self.timeout)
    }

    /// When to ask whether the replica lives next, or to say that the session does.
    fn greet_at(&self, up: &Up) -> Option<Duration> {
        let quiet = up.asked_at.filter(|_| up.greeted_at.is_none()).map(|at| at + up.quiet);
        let idle = self.id.map(|_| up.said_at + KEEP_ALIVE.min(self.timeout / 3));
        quiet.into_iter().chain(idle).min()
    }

    fn greet(&mut self, now: Duration) {
        let Link::Up(up) = &mut self.link else { return };
        up.greeted_at.get_or_insert(now);
        up.owes(now);
        up.quiet = (up.quiet * 2).min(QUIET_MAX);
        if self.id.is_some() {
            return self.keep_alive(now);
        }
        // Without a session anything serves that every replica answers at once.
        up.said_at = now;
        write_frame(&Request::Status, &mut self.output);
    }

    /// Says that the session lives, and asks whether it does.
    fn keep_alive(&mut self, now: Duration) {
        let (Some(id), Link::Up(up)) = (self.id, &mut self.link) else { return };
        up.said_at = now;
        up.owes(now);
        up.asked_alive_at.get_or_insert(now);
        write_frame(&Request::KeepAlive(id), &mut self.output);
    }

    /// The cluster has answered for the session what was sent then.
    fn proven(&mut self, now: Duration, at: Option<Duration>) {
        self.proven_at = self.proven_at.max(at.unwrap_or_default());
        self.left = 0;
        self.cut_off_at = None;
        self.waiting = None;
        if let Link::Up(up) = &mut self.link {
            up.proving = false;
            up.stuck_at = None;
        }
        self.flush(now);
    }

    /// Sends what is queued, as far as it may be sent now.
    fn flush(&mut self, now: Duration) {
        let Link::Up(up) = &mut self.link else { return };
        if !self.calls.are_queued() || up.opening.is_some() || up.proving {
            return;
        }
        let Some(id) = self.id else {
            if self.calls.want_session() {
                up.opening = Some(now);
                up.owes(now);
                write_frame(&Request::Open, &mut self.output);
            }
            return;
        };
        // After so long a silence the session may be gone: a call that was sent in it would end
        // in doubt, one that waits for the proof goes on in a new session.
        if now > self.proven_at + self.timeout / 2 {
            up.proving = true;
            if up.asked_alive_at.is_none() {
                self.greet(now);
            }
            return;
        }
        while self.calls.send_next(now, id, &self.default_class, &mut self.output) {
            self.said(now);
        }
    }

    /// Calls are about to be written, and are to be answered.
    fn said(&mut self, now: Duration) {
        if let Link::Up(up) = &mut self.link {
            up.said_at = now;
            up.owes(now);
        }
    }

    fn send_question(&mut self, now: Duration, question: Question) {
        let request = match question {
            Question::Ready => return,
            Question::Interface => Request::Interface(self.class.clone().unwrap_or_default()),
            Question::Status => Request::Status,
        };
        if let Link::Up(up) = &mut self.link {
            up.owes(now);
            write_frame(&request, &mut self.output);
        }
    }

    fn lose_session(&mut self) {
        self.losses += u64::from(self.id.take().is_some());
        for ticket in self.calls.lose() {
            self.done.push_back((ticket, Err(Error::SessionExpired)));
        }
    }

    fn fail_unsent(&mut self, error: &Error) {
        let calls = self.calls.take_queued().into_iter();
        for ticket in calls.chain(self.questions.drain(..).map(|(ticket, _)| ticket)) {
            self.done.push_back((ticket, Err(error.clone())));
        }
    }

    fn hang_up(&mut self, now: Duration) {
        if matches!(self.link, Link::Up(_)) {
            self.lost_at = now;
            self.cut_off_at.get_or_insert(now);
        }
        self.link = Link::Down;
        self.link_number += 1;
        self.output.clear();
        self.calls.cancel_abandoned();
    }
}

#[cfg(test)]
mod tests;
