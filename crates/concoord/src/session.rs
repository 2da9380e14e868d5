//! A client's session, whole but for its socket and clock.
//!
//! The shell connects where [`Session::dial`] says, moves bytes between the socket and
//! [`Session::output`] / [`Session::received`], calls [`Session::wake`] when
//! [`Session::wake_at`] has come, and fetches what is done with [`Session::done`].
//!
//! What makes calls exactly-once: a call keeps its number within the session however often it
//! is sent, and every unanswered one is sent again over each new connection. A connection
//! carries at most one session, so that a late reply is never taken for another call's.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use concoord_core::call::{Call, Outcome, Refusal, SessionId};
use concoord_core::limits::{
    FRAME_BYTES_MAX, HELLO_BYTES_MAX, KEEP_ALIVE, SESSION_CALLS_MAX, SESSION_TIMEOUT,
};
use concoord_core::object::Interface;
use concoord_core::view::ClusterId;
use concoord_core::wire::{
    Answer, ClientHello, Hello, PREAMBLE, Request, Status, Welcome, read_message, take_frame,
    write_frame,
};

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

/// How often [`SILENT`] and [`STUCK`] are doubled at most.
const DOUBLINGS_MAX: u32 = 2;

/// How long after a leader did not answer it is tried again, if a follower says that it still
/// leads.
const RETURN: Duration = Duration::from_secs(10);

/// Bytes of arguments that may be open at once, give or take one call: half of what a replica
/// takes from one connection before it hangs up.
const OPEN_BYTES_MAX: usize = 32 << 20;

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
    Outcome(Outcome),
    Ready,
    Interface(Interface),
    Status(Box<Status>),
}

pub(crate) type Done = (Ticket, Result<Reply, Error>);

#[derive(Debug)]
pub(crate) struct Session {
    class: Option<String>,
    cluster: Option<ClusterId>,
    id: Option<SessionId>,
    timeout: Duration,
    /// When the cluster last answered for the session.
    proven_at: Duration,
    /// The number of the last call.
    sequence: u64,
    /// Calls that have not been sent in any session.
    queued: VecDeque<(Ticket, String, Bytes)>,
    /// Calls that have been sent and not been answered, by their numbers.
    sent: BTreeMap<u64, Sent>,
    /// Bytes of their arguments.
    sent_bytes: usize,
    questions: Vec<(Ticket, Question)>,
    /// What calls last were said to wait for.
    waiting: Option<String>,
    link: Link,
    link_number: u64,
    lost_at: Duration,
    route: Route,
    /// How many replicas in a row were left since one answered for the session.
    left: u32,
    /// Whether a replica in this round knows nothing of the session's cluster.
    foreign: bool,
    output: BytesMut,
    done: VecDeque<Done>,
}

#[derive(Debug)]
struct Sent {
    /// `None` once nobody wants the reply any more.
    ticket: Option<Ticket>,
    /// Always a [`Request::Call`], ready to be written again.
    request: Request,
}

impl Sent {
    const fn bytes(&self) -> usize {
        if let Request::Call(call) = &self.request { call.arguments.len() } else { 0 }
    }
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
    /// A session was asked for.
    opening: bool,
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
            sequence: 0,
            queued: VecDeque::new(),
            sent: BTreeMap::new(),
            sent_bytes: 0,
            questions: Vec::new(),
            waiting: None,
            link: Link::Down,
            link_number: 0,
            lost_at: Duration::ZERO,
            route: Route::new(bootstrap),
            left: 0,
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
    pub(crate) fn call(&mut self, now: Duration, ticket: Ticket, method: String, arguments: Bytes) {
        self.queued.push_back((ticket, method, arguments));
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

    /// Nobody waits for that any more. A call that was sent may still run, once.
    pub(crate) fn abandon(&mut self, ticket: Ticket) {
        self.queued.retain(|(queued, ..)| *queued != ticket);
        self.questions.retain(|(asked, _)| *asked != ticket);
        if let Some(sent) = self.sent.values_mut().find(|sent| sent.ticket == Some(ticket)) {
            sent.ticket = None;
        }
        if !matches!(self.link, Link::Up(_)) {
            self.forget_abandoned();
        }
    }

    /// Abandons what was not answered within `timeout`, and says why it was not.
    pub(crate) fn give_up(&mut self, ticket: Ticket, timeout: Duration) -> Error {
        let was_sent = self.sent.values().any(|sent| sent.ticket == Some(ticket));
        self.abandon(ticket);
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
            Link::Up(Up { address, .. }) => self.route.lost(address, why),
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
                self.lost(
                    now,
                    format!("it does not answer as a replica of ConCoord does: {error}"),
                );
            }
        }
    }

    /// When to call [`Session::wake`] next, at the latest.
    pub(crate) fn wake_at(&self) -> Option<Duration> {
        match &self.link {
            Link::Down | Link::Dialling { .. } => None,
            Link::Greeting { deadline, .. } => Some(*deadline),
            Link::Up(up) => {
                let times =
                    [self.stuck_at(up), self.silent_at(up), self.greet_at(up), up.return_at()];
                times.into_iter().flatten().min()
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

    fn patience(&self, time: Duration) -> Duration {
        time * (1 << self.left.min(DOUBLINGS_MAX))
    }

    /// Whether a connection is needed: for something that was asked, or to keep a session that
    /// may still live.
    fn is_wanted(&self, now: Duration) -> bool {
        !self.queued.is_empty()
            || !self.sent.is_empty()
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
        up.said_at = now;
        up.owes(now);
        up.quiet = (up.quiet * 2).min(QUIET_MAX);
        // Without a session anything serves that every replica answers at once.
        let request = self.id.map_or(Request::Status, Request::KeepAlive);
        write_frame(&request, &mut self.output);
    }

    fn welcome(&mut self, now: Duration, welcome: Welcome) {
        let Link::Greeting { address, .. } = self.link else { return };
        match welcome {
            Welcome::Client { cluster, replica, leader, members, class, session_timeout_ms } => {
                if self.id.is_some() && self.cluster != Some(cluster) {
                    return self.refused(now, address, "it belongs to another cluster".into());
                }
                if let Some(expected) = self.class.as_ref().filter(|expected| **expected != class) {
                    let why = format!("its object is a {class}, not a {expected}");
                    return self.refused(now, address, why);
                }
                self.cluster = Some(cluster);
                self.timeout = Duration::from_millis(session_timeout_ms.max(1));
                let leader = leader.filter(|leader| *leader != replica);
                if self.route.welcomed(address, leader, members) {
                    self.hang_up(now);
                } else {
                    self.go_on(now, address, replica, leader);
                }
            }
            Welcome::Peer { .. } | Welcome::Removed(_) => {
                self.lost(now, "it takes us for a replica".into());
            }
            Welcome::NotYet(why) => {
                self.route.not_yet(address, why);
                self.hang_up(now);
                self.judge_round();
            }
            Welcome::Refused(why) => self.refused(now, address, why),
        }
    }

    /// The link is up: whatever has no answer is asked (again).
    fn go_on(
        &mut self,
        now: Duration,
        address: SocketAddr,
        replica: SocketAddr,
        leader: Option<SocketAddr>,
    ) {
        self.foreign = false;
        self.link = Link::Up(Up {
            address,
            replica,
            leader,
            since: now,
            opening: false,
            proving: false,
            greeted_at: None,
            quiet: QUIET,
            asked_at: None,
            said_at: now,
            stuck_at: None,
        });
        let ready = |(_, question): &(Ticket, Question)| *question == Question::Ready;
        for (ticket, _) in self.questions.extract_if(.., |question| ready(question)) {
            self.done.push_back((ticket, Ok(Reply::Ready)));
        }
        for (_, question) in self.questions.clone() {
            self.send_question(now, question);
        }
        for sequence in self.sent.keys().copied().collect::<Vec<_>>() {
            self.send(now, sequence);
        }
        self.flush(now);
    }

    fn answer(&mut self, now: Duration, answer: Answer) {
        let Link::Up(up) = &mut self.link else { return };
        up.greeted_at = None;
        match answer {
            Answer::Opened(id) if up.opening => {
                up.opening = false;
                self.id = Some(id);
                self.proven(now);
            }
            Answer::NotOpened(refusal) if up.opening => {
                up.opening = false;
                let error = Error::Refusal(refusal);
                for (ticket, ..) in self.queued.drain(..) {
                    self.done.push_back((ticket, Err(error.clone())));
                }
            }
            Answer::Reply { sequence: _, outcome: Outcome::Refused(Refusal::SessionExpired) } => {
                self.expired(now);
            }
            Answer::Reply { sequence, outcome } => {
                if let Some(sent) = self.sent.remove(&sequence) {
                    self.sent_bytes -= sent.bytes();
                    if let Some(ticket) = sent.ticket {
                        self.done.push_back((ticket, Ok(Reply::Outcome(outcome))));
                    }
                }
                up.quiet = QUIET;
                self.route.settled();
                self.proven(now);
            }
            Answer::Alive(id) if self.id == Some(id) => self.proven(now),
            Answer::Expired(id) if self.id == Some(id) => self.expired(now),
            Answer::Interface(interface) => {
                self.reply_to(Question::Interface, &Reply::Interface(interface));
            }
            Answer::Status(status) => self.reply_to(Question::Status, &Reply::Status(status)),
            Answer::Waiting(why) => {
                up.stuck_at.get_or_insert(now);
                self.waiting = Some(why);
            }
            Answer::Leader(leader) => {
                let (address, replica) = (up.address, up.replica);
                up.leader = None;
                if leader != replica && self.route.told_leader(leader, address) {
                    self.hang_up(now);
                }
            }
            // Answers to what was asked in another life of this session.
            Answer::Opened(_)
            | Answer::NotOpened(_)
            | Answer::Alive(_)
            | Answer::Expired(_)
            | Answer::Closed(_)
            // To operators, and those who ask for backups: they have no session.
            | Answer::Ordered(_)
            | Answer::Backup(..)
            | Answer::Part(_)
            | Answer::NoBackup(_) => {}
        }
        let questions = !self.questions.is_empty() || !self.sent.is_empty();
        if let Link::Up(up) = &mut self.link {
            up.asked_at = (questions || up.opening || up.proving).then_some(now);
        }
    }

    fn reply_to(&mut self, question: Question, reply: &Reply) {
        let same = |(_, asked): &mut (Ticket, Question)| *asked == question;
        for (ticket, _) in self.questions.extract_if(.., same) {
            self.done.push_back((ticket, Ok(reply.clone())));
        }
    }

    /// The cluster has answered for the session.
    fn proven(&mut self, now: Duration) {
        self.proven_at = now;
        self.left = 0;
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
        if self.queued.is_empty() || up.opening || up.proving {
            return;
        }
        let Some(id) = self.id else {
            up.opening = true;
            up.owes(now);
            write_frame(&Request::Open, &mut self.output);
            return;
        };
        // After so long a silence the session may be gone: a call that was sent in it would end
        // in doubt, one that waits for the proof goes on in a new session.
        if now > self.proven_at + self.timeout / 2 {
            up.proving = true;
            return self.greet(now);
        }
        while self.sequence + 1 - self.acked() < SESSION_CALLS_MAX
            && self.sent_bytes < OPEN_BYTES_MAX
        {
            let Some((ticket, method, arguments)) = self.queued.pop_front() else { break };
            self.sequence += 1;
            self.sent_bytes += arguments.len();
            let (sequence, object) = (self.sequence, String::new());
            let call = Call { session: id, sequence, acked: 0, object, method, arguments };
            let sent = Sent { ticket: Some(ticket), request: Request::Call(call) };
            self.sent.insert(sequence, sent);
            self.send(now, sequence);
        }
    }

    /// Every reply below this number has arrived, or is not wanted.
    fn acked(&self) -> u64 {
        self.sent.first_key_value().map_or(self.sequence + 1, |(sequence, _)| *sequence)
    }

    fn send(&mut self, now: Duration, sequence: u64) {
        let up_to = self.acked();
        let (Link::Up(up), Some(sent)) = (&mut self.link, self.sent.get_mut(&sequence)) else {
            return;
        };
        if let Request::Call(call) = &mut sent.request {
            call.acked = up_to;
        }
        up.said_at = now;
        up.owes(now);
        write_frame(&sent.request, &mut self.output);
    }

    fn send_question(&mut self, now: Duration, question: Question) {
        let request = match question {
            Question::Ready => return,
            Question::Interface => Request::Interface,
            Question::Status => Request::Status,
        };
        if let Link::Up(up) = &mut self.link {
            up.owes(now);
            write_frame(&request, &mut self.output);
        }
    }

    /// The replica will not have us. With a session that is no verdict yet: the session's own
    /// cluster may be at another address.
    fn refused(&mut self, now: Duration, address: SocketAddr, why: String) {
        if self.id.is_some() {
            self.foreign = true;
            return self.lost(now, why);
        }
        self.fail_unsent(&Error::Refused(format!("the replica at {address} refuses: {why}")));
        self.hang_up(now);
    }

    /// After a round in which nobody but strangers answered, the session's cluster is no more.
    fn judge_round(&mut self) {
        if self.foreign && self.route.is_round_over() {
            self.foreign = false;
            self.lose_session();
        }
    }

    /// The session is gone; another one needs a connection of its own.
    fn expired(&mut self, now: Duration) {
        self.lose_session();
        if let Link::Up(up) = &self.link {
            self.route.again(up.address);
            self.hang_up(now);
        }
    }

    fn lose_session(&mut self) {
        self.id = None;
        self.sequence = 0;
        self.sent_bytes = 0;
        for sent in std::mem::take(&mut self.sent).into_values() {
            if let Some(ticket) = sent.ticket {
                self.done.push_back((ticket, Err(Error::SessionExpired)));
            }
        }
    }

    fn fail_unsent(&mut self, error: &Error) {
        let calls = self.queued.drain(..).map(|(ticket, ..)| ticket);
        for ticket in calls.chain(self.questions.drain(..).map(|(ticket, _)| ticket)) {
            self.done.push_back((ticket, Err(error.clone())));
        }
    }

    fn hang_up(&mut self, now: Duration) {
        if matches!(self.link, Link::Up(_)) {
            self.lost_at = now;
        }
        self.link = Link::Down;
        self.link_number += 1;
        self.output.clear();
        self.forget_abandoned();
    }

    /// What nobody waits for is not sent again.
    fn forget_abandoned(&mut self) {
        self.sent.retain(|_, sent| sent.ticket.is_some());
        self.sent_bytes = self.sent.values().map(Sent::bytes).sum();
    }
}

#[cfg(test)]
mod tests;
