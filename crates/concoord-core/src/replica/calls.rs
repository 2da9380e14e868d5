//! What the clients connected to this replica wait for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::queue::Queue;
use super::reads::{Reads, Sought};
use super::{Action, Replica};
use crate::call::{Call, CallId, ConnectionId, ObjectName, Outcome, Refusal, SessionId};
use crate::limits::{
    ARGUMENT_BYTES_MAX, CONNECTION_BYTES_MAX, CONNECTION_CALLS_MAX, CONNECTION_SESSIONS_MAX,
    ENTRY_BYTES_MAX, FORWARDED_BYTES_MAX, METHOD_BYTES_MAX, NAME_BYTES_MAX, RECEIVED_MAX,
    SESSION_PARKED_MAX,
};
use crate::log::{Command, Times, pack};
use crate::machine::{Effect, Ending, is_meta, unknown};
use crate::object::is_callable;
use crate::planted;
use crate::session::Sessions;
use crate::view::ReplicaId;
use crate::wire::{Answer, ClientHello, PeerMessage, Request, Welcome};

/// A call that was forwarded and that the log does not bring for this long is forwarded again: the
/// message that carried it may be lost. The session table keeps it from running twice. Each time it waits for
/// twice as long: a leader that is behind must not get more to do for it.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// How long it waits at most: what a leader without room has dropped must not wait for long after.
const ASK_AGAIN_MAX: Duration = Duration::from_secs(16);

/// The clients of this replica. None of this is replicated.
#[derive(Default)]
pub(super) struct Clients {
    /// For the log.
    queue: Queue,
    /// How much in it, at most, is of connections that are gone.
    gone: usize,
    /// Bytes of `calls` that are on their way to the leader and back.
    forwarded: usize,
    connections: BTreeMap<ConnectionId, Load>,
    calls: BTreeMap<(SessionId, u64), Waiting>,
    /// Who waits for calls that are parked.
    parked: BTreeMap<CallId, ConnectionId>,
    /// Who wants calls to be cancelled.
    cancels: BTreeMap<CallId, Asked>,
    opens: BTreeMap<ConnectionId, Asked>,
    closes: BTreeMap<SessionId, Asked>,
    pub(super) reads: Reads,
    /// When each session was last heard of, at the leader; and at other replicas, those that
    /// the leader is to be told of.
    heard: BTreeMap<SessionId, Duration>,
    heard_here: BTreeSet<SessionId>,
    /// Whether `queue` holds the end of a session that was silent.
    expires: bool,
    /// Sessions whose end this leader has put into the log, up to this entry.
    expiring: BTreeMap<SessionId, u64>,
    /// The last such entry of a session that was heard of since: nobody may be told before it that
    /// the session lives.
    doubted: u64,
    /// Where each session was last seen.
    seen: BTreeMap<SessionId, ConnectionId>,
}

/// What a connection has open.
#[derive(Clone, Copy, Default)]
struct Load {
    /// Calls, and ends of sessions.
    calls: usize,
    bytes: usize,
    /// Calls that are parked.
    parked: usize,
    /// Sessions that it has asked for so far.
    sessions: usize,
}

struct Waiting {
    call: Call,
    asked: Asked,
}

/// Something that a client asked for and the leader is asked for.
#[derive(Clone, Copy)]
struct Asked {
    connection: ConnectionId,
    /// When it was forwarded; `None` while it is in the queue, and of a call once it is in the log.
    at: Option<Duration>,
    /// How long after that it is forwarded again: what a snapshot or a message that was lost took
    /// along would never be answered.
    patience: Duration,
}

impl Asked {
    const fn new(connection: ConnectionId) -> Self {
        Self { connection, at: None, patience: ASK_AGAIN }
    }

    /// Whether it is to be forwarded again, now.
    fn is_overdue(&mut self, now: Duration) -> bool {
        let overdue = self.at.take_if(|at| *at + self.patience <= now).is_some();
        if overdue {
            self.patience = ASK_AGAIN_MAX.min(self.patience * 2);
        }
        overdue
    }
}

impl Replica {
    /// Answers the hello of a client.
    #[must_use]
    pub fn greet_client(&self, hello: &ClientHello) -> Welcome {
        let class = &self.machine.interface().class;
        let Some(view) = self.view() else {
            return Welcome::NotYet(self.not_ready().unwrap_or_default());
        };
        if let Some(wanted) =
            hello.class.as_ref().filter(|wanted| self.machine.interface_of(wanted).is_none())
        {
            return Welcome::Refused(format!(
                "this cluster hosts {class}, the proxy is one of {}",
                shorten(wanted)
            ));
        }
        let leader = self.leader().and_then(|leader| view.member(leader));
        Welcome::Client {
            cluster: view.cluster,
            replica: self.config.member.address,
            leader: leader.map(|leader| leader.address),
            members: view.serving().map(|member| member.address).collect(),
            class: class.clone(),
            session_timeout_ms: u64::try_from(self.config.session_timeout.as_millis())
                .unwrap_or(u64::MAX),
        }
    }

    pub(super) fn request(&mut self, connection: ConnectionId, request: Request) {
        self.clients.connections.entry(connection).or_default();
        match request {
            Request::Status => {
                let status = Box::new(self.status());
                self.actions.push(Action::Answer(connection, Answer::Status(status)));
            }
            Request::Order(order) => self.order(connection, order),
            request if self.is_witness() => self.send_away(connection, &request),
            Request::Open => self.open_session(connection),
            Request::Call(call) => self.call(connection, call),
            Request::KeepAlive(session) => self.keep_alive(connection, session),
            Request::Close(session) => {
                if self.clients.close(connection, session) {
                    self.clients.queue.push(Command::Close(session));
                } else {
                    self.actions.push(Action::Disconnect(connection));
                }
            }
            Request::Cancel(call) => {
                if self.clients.cancel(connection, call) {
                    self.clients.queue.push(Command::Cancel(call));
                } else {
                    self.actions.push(Action::Disconnect(connection));
                }
            }
            Request::Interface(class) => {
                let answer = match self.machine.interface_of(&class) {
                    Some(interface) => Answer::Interface(interface.clone()),
                    None => {
                        let name = ObjectName { class, name: String::new() };
                        Answer::NoInterface(unknown(&name))
                    }
                };
                self.actions.push(Action::Answer(connection, answer));
            }
            Request::Backup => {
                self.clients.reads.ask(connection, Sought::Backup);
            }
        }
    }

    fn open_session(&mut self, connection: ConnectionId) {
        // Asked for once more while it is on its way, it is the same one.
        if self.clients.opens.contains_key(&connection) {
            return;
        }
        self.clients.opens.insert(connection, Asked::new(connection));
        if self.clients.may_open(connection) {
            self.clients.queue.push(Command::Open(self.config.member.id, connection));
        } else {
            self.actions.push(Action::Disconnect(connection));
        }
    }

    fn call(&mut self, connection: ConnectionId, call: Call) {
        if let Some(refusal) = self.refuse(&call) {
            let answer =
                Answer::Reply { sequence: call.sequence, outcome: Outcome::Refused(refusal) };
            self.actions.push(Action::Answer(connection, answer));
            return;
        }
        self.hear(call.session, connection);
        // What is said of replies that have arrived is for the log: reads go past it.
        if self.machine.is_read_only(&call) && call.received.is_empty() {
            if self.clients.charge(connection, &call) {
                self.clients.reads.ask(connection, Sought::Call(call));
                return;
            }
        } else if self.clients.wait(connection, &call) {
            self.clients.queue.push(Command::Call(call));
            return;
        }
        self.actions.push(Action::Disconnect(connection));
    }

    /// A client said that its session lives. It can name any: only those that are count.
    fn hear(&mut self, session: SessionId, connection: ConnectionId) {
        if self.machine.state.sessions.contains(session) {
            self.clients.hear(session, connection, self.now);
        }
    }

    /// Why this call can run on no replica, whatever the log holds.
    fn refuse(&self, call: &Call) -> Option<Refusal> {
        let bytes = call.arguments.len();
        if bytes > ARGUMENT_BYTES_MAX {
            return Some(Refusal::TooLarge { bytes: bytes as u64, max: ARGUMENT_BYTES_MAX as u64 });
        }
        let names = [Some(&call.object), call.guard.as_ref().map(|guard| &guard.object)];
        let mut words = names.iter().flatten().flat_map(|name| [&name.class, &name.name]);
        if words.any(|word| word.len() > NAME_BYTES_MAX) {
            let words = format!("the names of objects take {NAME_BYTES_MAX} bytes at most");
            return Some(Refusal::NoSuchObject(words));
        }
        if call.received.len() > RECEIVED_MAX {
            let words = format!("a call tells of {RECEIVED_MAX} received replies at most");
            return Some(Refusal::Malformed(words));
        }
        let Some(interface) = self.machine.interface_of(&call.object.class) else {
            return Some(unknown(&call.object));
        };
        if is_meta(&call.method) {
            return None;
        }
        if !is_callable(&call.method) || interface.method(&call.method).is_none() {
            let class = interface.class.rsplit('.').next().unwrap_or_default().into();
            return Some(Refusal::NoSuchMethod { class, method: shorten(&call.method) });
        }
        None
    }

    /// A read, in all but name: whoever leads has heard of the session before it is said to live.
    fn keep_alive(&mut self, connection: ConnectionId, session: SessionId) {
        self.hear(session, connection);
        if let Some(why) = self.not_ready() {
            self.actions.push(Action::Answer(connection, Answer::Waiting(why)));
        } else if planted::is("alive-unheard") && self.machine.state.sessions.contains(session) {
            self.actions.push(Action::Answer(connection, Answer::Alive(session)));
        } else if self.clients.charge_one(connection) {
            self.clients.reads.ask(connection, Sought::Alive(session));
        } else {
            self.actions.push(Action::Disconnect(connection));
        }
    }

    /// What has to be done for clients from time to time.
    pub(super) fn mind_clients(&mut self) {
        self.clients.ask_overdue(self.config.member.id, self.now);
        if self.is_settled_leader() {
            // Those of the last time may still wait for room in the log.
            if !self.clients.expires {
                self.expire_sessions();
            }
        } else if let Some(leader) = self.leader() {
            self.tell_who_was_heard(leader);
        }
        if let Some(reason) = self.not_ready() {
            let Clients { connections, opens, .. } = &self.clients;
            let waiting = connections.iter().filter(|(_, load)| load.calls > 0);
            let waiting: BTreeSet<_> = waiting.map(|(id, _)| id).chain(opens.keys()).collect();
            let answers = waiting
                .into_iter()
                .map(|connection| Action::Answer(*connection, Answer::Waiting(reason.clone())));
            self.actions.extend(answers);
        }
    }
}

impl Replica {
    fn expire_sessions(&mut self) {
        let since = self.silent_since();
        let applied = self.consensus.applied();
        self.clients.expiring.retain(|_, index| *index > applied);
        let silent = self.clients.silent(since).into_iter();
        self.clients.queue.extend(silent.map(Command::Expire));
        for session in self.machine.state.sessions.overfull().collect::<Vec<_>>() {
            self.clients.queue.push(Command::Expire(session));
            let text = format!("session {session} keeps too much that it was told: it ends");
            self.note(tracing::Level::WARN, text);
        }
        self.clients.expires = self.clients.queue_expires();
    }

    /// Who was not heard of since then has been silent for too long.
    fn silent_since(&self) -> Duration {
        self.now.saturating_sub(self.config.session_timeout)
    }

    /// Takes out of the queue the ends of sessions that were heard of while they waited there.
    pub(super) fn spare_who_was_heard(&mut self) {
        if !self.clients.expires {
            return;
        }
        let since = self.silent_since();
        let Self { clients: Clients { queue, heard, .. }, machine, .. } = self;
        queue.retain_own(|command| {
            let Command::Expire(session) = command else { return true };
            heard.get(session).is_none_or(|heard| *heard < since)
                || machine.state.sessions.is_overfull(*session)
        });
        self.clients.expires = self.clients.queue_expires();
    }

    /// Whether a session may be told to live though its end is in the log already.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.is_leader() && self.clients.doubted > self.consensus.applied()
    }

    /// Tells the leader of whom this replica has heard since it last did.
    pub(super) fn tell_who_was_heard(&mut self, leader: ReplicaId) {
        let heard = std::mem::take(&mut self.clients.heard_here);
        if !heard.is_empty() {
            let heard = PeerMessage::Heard(heard.into_iter().collect());
            self.actions.push(Action::Send(leader, heard));
        }
    }
}

impl Clients {
    /// The queue as entries, each with the number of commands in it; or what of it makes room for
    /// the rest.
    pub(super) fn pack(
        &self,
        times: Times,
        has_room: bool,
    ) -> impl Iterator<Item = (Vec<u8>, usize)> {
        let skips = self.queue.iter().take_while(|command| matches!(command, Command::Skip(..)));
        let most = if has_room { self.queue.len() } else { skips.count() };
        pack(times, self.queue.iter().take(most))
    }

    /// Whether what waits is enough for a whole entry.
    pub(super) fn fill_an_entry(&self) -> bool {
        let mut sizes = self.queue.iter().map(Command::size);
        sizes.try_fold(0, |sum, size| (sum < ENTRY_BYTES_MAX).then_some(sum + size)).is_none()
    }

    /// The first so many commands are in the log, up to that entry.
    pub(super) fn proposed(&mut self, commands: usize, index: u64) {
        let Self { queue, expiring, .. } = self;
        queue.take(commands, |command| {
            if let Command::Expire(session) = command {
                expiring.insert(session, index);
            }
        });
        self.expires = self.expires && self.queue_expires();
    }

    fn queue_expires(&self) -> bool {
        self.queue.iter().any(|command| matches!(command, Command::Expire(_)))
    }

    /// Takes from the queue what may travel to the leader now: in order, so that what a client
    /// asked for first is decided first unless a message is lost.
    pub(super) fn forward(&mut self, now: Duration) -> Vec<Command> {
        self.forget_gone();
        let mut commands = 0;
        for command in self.queue.iter() {
            if self.forwarded >= FORWARDED_BYTES_MAX {
                break;
            }
            let asked = match command {
                Command::Call(call) => {
                    let waiting = self.calls.get_mut(&(call.session, call.sequence));
                    let waiting = waiting.filter(|waiting| waiting.asked.at.is_none());
                    waiting.map(|waiting| {
                        self.forwarded += waiting.call.size();
                        &mut waiting.asked
                    })
                }
                Command::Open(_, connection) => self.opens.get_mut(connection),
                Command::Cancel(call) => self.cancels.get_mut(call),
                Command::Close(session) => self.closes.get_mut(session),
                Command::Expire(_) | Command::Settle(_) | Command::Skip(..) | Command::Wake => None,
            };
            if let Some(asked) = asked {
                asked.at = Some(now);
            }
            commands += 1;
        }
        let mut taken = Vec::with_capacity(commands);
        self.queue.take(commands, |command| taken.push(command));
        taken
    }

    pub(super) fn clear_queue(&mut self) {
        self.queue.clear();
        self.expires = false;
    }

    /// A command that this replica wants.
    pub(super) fn enqueue(&mut self, command: Command) {
        self.queue.push(command);
    }

    /// Commands that another replica forwards.
    pub(super) fn take_in(&mut self, from: ReplicaId, commands: Vec<Command>, now: Duration) {
        for command in commands {
            if let Command::Call(call) = &command {
                self.hear_at(call.session, now);
            }
            self.queue.push_forwarded(from, command);
        }
    }

    /// All replicas shall skip that call: what waits may wait for nothing else.
    pub(super) fn enqueue_skip(&mut self, session: SessionId, sequence: u64) {
        let skip = Command::Skip(session, sequence);
        if !self.queue.iter().any(|command| *command == skip) {
            self.queue.push_first(skip);
        }
    }

    /// Puts everything that is waited for into the queue again.
    pub(super) fn ask_again(&mut self, me: ReplicaId) {
        self.clear_queue();
        // What an earlier leader has put into the log comes before whatever this one decides.
        self.expiring.clear();
        self.doubted = 0;
        self.forwarded = 0;
        let calls = self.calls.values_mut().map(|waiting| &mut waiting.asked);
        let others = self.opens.values_mut().chain(self.cancels.values_mut());
        for asked in calls.chain(others).chain(self.closes.values_mut()) {
            *asked = Asked::new(asked.connection);
        }
        self.queue.extend(self.opens.keys().map(|connection| Command::Open(me, *connection)));
        self.queue.extend(self.calls.values().map(|waiting| Command::Call(waiting.call.clone())));
        self.queue.extend(self.cancels.keys().map(|call| Command::Cancel(*call)));
        self.queue.extend(self.closes.keys().map(|session| Command::Close(*session)));
        self.reads.ask_again();
    }

    fn ask_overdue(&mut self, me: ReplicaId, now: Duration) {
        let mut calls = Vec::new();
        for waiting in self.calls.values_mut() {
            if waiting.asked.is_overdue(now) {
                self.forwarded -= waiting.call.size();
                calls.push(Command::Call(waiting.call.clone()));
            }
        }
        // First, in the place of what they were asked before.
        calls.into_iter().rev().for_each(|call| self.queue.push_first(call));
        let opens = self.opens.iter_mut().filter_map(|(connection, asked)| {
            asked.is_overdue(now).then_some(Command::Open(me, *connection))
        });
        let cancels = self.cancels.iter_mut();
        let cancels = cancels
            .filter_map(|(call, asked)| asked.is_overdue(now).then_some(Command::Cancel(*call)));
        let closes = self.closes.iter_mut().filter_map(|(session, asked)| {
            asked.is_overdue(now).then_some(Command::Close(*session))
        });
        self.queue.extend(opens.chain(cancels).chain(closes));
        self.reads.ask_overdue(now);
    }

    /// Remembers who waits for that call; false if its connection has too much open.
    fn wait(&mut self, connection: ConnectionId, call: &Call) -> bool {
        if !self.charge(connection, call) {
            return false;
        }
        let waiting = Waiting { call: call.clone(), asked: Asked::new(connection) };
        if let Some(before) = self.calls.insert((call.session, call.sequence), waiting) {
            self.settle(&before);
        }
        true
    }

    /// The log has brought that call: its reply follows here.
    pub(super) fn logged(&mut self, call: &Call) {
        if self.forwarded > 0
            && let Some(waiting) = self.calls.get_mut(&(call.session, call.sequence))
            && waiting.asked.at.take().is_some()
        {
            self.forwarded -= waiting.call.size();
        }
    }

    /// That one waits no more.
    fn settle(&mut self, waiting: &Waiting) {
        self.discharge(waiting.asked.connection, waiting.call.arguments.len());
        if waiting.asked.at.is_some() {
            self.forwarded -= waiting.call.size();
        }
    }

    /// Counts a session that is asked for; false if its connection had too many.
    fn may_open(&mut self, connection: ConnectionId) -> bool {
        let load = self.connections.entry(connection).or_default();
        load.sessions += 1;
        load.sessions <= CONNECTION_SESSIONS_MAX
    }

    /// Remembers who waits for the end of that session; false if its connection has too much
    /// open.
    fn close(&mut self, connection: ConnectionId, session: SessionId) -> bool {
        if let Some(before) = self.closes.insert(session, Asked::new(connection)) {
            self.closed(before.connection);
        }
        self.charge_one(connection)
    }

    /// Remembers who wants that call to be cancelled; false if its connection has too much open.
    fn cancel(&mut self, connection: ConnectionId, call: CallId) -> bool {
        if let Some(before) = self.cancels.insert(call, Asked::new(connection)) {
            self.closed(before.connection);
        }
        self.charge_one(connection)
    }

    /// Counts what takes no bytes as a call; false if its connection has too much open.
    fn charge_one(&mut self, connection: ConnectionId) -> bool {
        let load = self.connections.entry(connection).or_default();
        load.calls += 1;
        load.calls <= CONNECTION_CALLS_MAX
    }

    fn closed(&mut self, connection: ConnectionId) {
        if let Some(load) = self.connections.get_mut(&connection) {
            load.calls -= 1;
        }
    }

    fn charge(&mut self, connection: ConnectionId, call: &Call) -> bool {
        let load = self.connections.entry(connection).or_default();
        load.calls += 1;
        load.bytes += call.arguments.len();
        load.calls <= CONNECTION_CALLS_MAX
            && load.bytes <= CONNECTION_BYTES_MAX
            && call.method.len() <= METHOD_BYTES_MAX
    }

    /// A call of that connection, with so many bytes of arguments, is open no more.
    pub(super) fn discharge(&mut self, connection: ConnectionId, bytes: usize) {
        if let Some(load) = self.connections.get_mut(&connection) {
            load.calls -= 1;
            load.bytes -= bytes;
        }
    }

    pub(super) fn disconnected(&mut self, connection: ConnectionId) {
        let load = self.connections.remove(&connection).unwrap_or_default();
        if load.calls > 0 {
            self.calls.retain(|_, waiting| {
                let stays = waiting.asked.connection != connection;
                if !stays {
                    self.gone += 1;
                    self.forwarded -= waiting.asked.at.map_or(0, |_| waiting.call.size());
                }
                stays
            });
        }
        // Backups are not counted.
        self.reads.disconnected(connection);
        if load.parked > 0 {
            self.parked.retain(|_, parked| *parked != connection);
        }
        self.gone += usize::from(self.opens.remove(&connection).is_some());
        self.cancels.retain(|_, asked| asked.connection != connection);
        self.closes.retain(|_, asked| asked.connection != connection);
        self.seen.retain(|_, seen| *seen != connection);
        // Those of clients that come and go would pile up while the queue can't move.
        if 2 * self.gone > self.queue.len() {
            self.forget_gone();
        }
    }

    /// Takes out of the queue what clients asked for that are gone.
    pub(super) fn forget_gone(&mut self) {
        if std::mem::take(&mut self.gone) == 0 {
            return;
        }
        let Self { queue, calls, opens, .. } = self;
        queue.retain_own(|command| match command {
            Command::Call(call) => calls.contains_key(&(call.session, call.sequence)),
            Command::Open(_, connection) => opens.contains_key(connection),
            Command::Close(_)
            | Command::Expire(_)
            | Command::Skip(..)
            | Command::Settle(_)
            | Command::Cancel(_)
            | Command::Wake => true,
        });
    }

    pub(super) fn effect(
        &mut self,
        effect: Effect,
        me: ReplicaId,
        now: Duration,
        actions: &mut Vec<Action>,
    ) {
        match effect {
            Effect::Opened(replica, connection, result) => {
                if let Ok(session) = result {
                    self.heard.insert(session, now);
                }
                if replica == me && self.opens.remove(&connection).is_some() {
                    if let Ok(session) = result {
                        self.seen.insert(session, connection);
                    }
                    let answer = result.map_or_else(Answer::NotOpened, Answer::Opened);
                    actions.push(Action::Answer(connection, answer));
                }
            }
            Effect::Replied(session, sequence, outcome) => {
                self.reply(session, sequence, outcome, actions);
            }
            Effect::Parked(session, sequence) => self.park(session, sequence, actions),
            Effect::Ended(session, ending) => {
                self.heard.remove(&session);
                self.expiring.remove(&session);
                self.end_session(session);
                if let Some(Asked { connection, .. }) = self.closes.remove(&session) {
                    self.closed(connection);
                    actions.push(Action::Answer(connection, Answer::Closed(session)));
                }
                if let Some(connection) =
                    self.seen.remove(&session).filter(|_| ending == Ending::Expired)
                {
                    actions.push(Action::Answer(connection, Answer::Expired(session)));
                }
            }
            Effect::Host(_) | Effect::Skip(_) | Effect::Astray | Effect::Settle => {}
        }
    }

    pub(super) fn reply(
        &mut self,
        session: SessionId,
        sequence: u64,
        outcome: Outcome,
        actions: &mut Vec<Action>,
    ) {
        let call = CallId { session, sequence };
        let asked = self.calls.remove(&(session, sequence)).map(|waiting| {
            self.settle(&waiting);
            waiting.asked.connection
        });
        let parked = self.unpark(call);
        let cancelled = self.cancels.remove(&call).map(|asked| asked.connection);
        let cancelled = cancelled.inspect(|connection| self.closed(*connection));
        if let Some(connection) = asked.or(parked).or(cancelled) {
            actions.push(Action::Answer(connection, Answer::Reply { sequence, outcome }));
        }
    }

    /// That call waits for others: its reply may take for ever.
    fn park(&mut self, session: SessionId, sequence: u64, actions: &mut Vec<Action>) {
        let Some(waiting) = self.calls.remove(&(session, sequence)) else { return };
        self.settle(&waiting);
        let connection = waiting.asked.connection;
        self.unpark(CallId { session, sequence });
        self.parked.insert(CallId { session, sequence }, connection);
        let load = self.connections.entry(connection).or_default();
        load.parked += 1;
        actions.push(if load.parked <= SESSION_PARKED_MAX {
            Action::Answer(connection, Answer::Parked { sequence })
        } else {
            Action::Disconnect(connection)
        });
    }

    fn unpark(&mut self, call: CallId) -> Option<ConnectionId> {
        let connection = self.parked.remove(&call)?;
        if let Some(load) = self.connections.get_mut(&connection) {
            load.parked -= 1;
        }
        Some(connection)
    }

    /// None of its calls will be answered any more.
    fn end_session(&mut self, session: SessionId) {
        let call = |sequence| CallId { session, sequence };
        let of = call(0)..=call(u64::MAX);
        let parked: Vec<CallId> = self.parked.range(of.clone()).map(|(call, _)| *call).collect();
        for call in parked {
            self.unpark(call);
        }
        let cancels: Vec<CallId> = self.cancels.range(of).map(|(call, _)| *call).collect();
        for call in cancels {
            if let Some(asked) = self.cancels.remove(&call) {
                self.closed(asked.connection);
            }
        }
    }

    /// Answers what was decided by entries that a snapshot stood in for.
    pub(super) fn reply_kept(&mut self, sessions: &Sessions, actions: &mut Vec<Action>) {
        let asked = self.calls.keys().map(|(session, sequence)| (*session, *sequence));
        let others = self.parked.keys().chain(self.cancels.keys());
        let others = others.map(|call| (call.session, call.sequence));
        let open: Vec<_> = asked.chain(others).collect();
        for (session, sequence) in open {
            if let Some(outcome) = sessions.outcome(session, sequence).cloned() {
                if sessions.was_parked(session, sequence) {
                    // Its client is to say by itself that the reply has arrived.
                    self.park(session, sequence, actions);
                }
                self.reply(session, sequence, outcome, actions);
            } else if sessions.is_parked(session, sequence) {
                self.park(session, sequence, actions);
            }
        }
    }

    pub(super) fn tell_all(&self, answer: &Answer, actions: &mut Vec<Action>) {
        actions.extend(
            self.connections.keys().map(|connection| Action::Answer(*connection, answer.clone())),
        );
    }

    fn hear(&mut self, session: SessionId, connection: ConnectionId, now: Duration) {
        self.hear_at(session, now);
        self.heard_here.insert(session);
        self.seen.insert(session, connection);
    }

    /// The leader is to be told of these.
    pub(super) fn hear_here(&mut self, sessions: impl Iterator<Item = SessionId>) {
        self.heard_here.extend(sessions);
    }

    pub(super) fn hear_of(&mut self, sessions: Vec<SessionId>, now: Duration) {
        for session in sessions {
            self.hear_at(session, now);
        }
    }

    fn hear_at(&mut self, session: SessionId, now: Duration) {
        if let Some(heard) = self.heard.get_mut(&session) {
            *heard = now;
            if let Some(index) = self.expiring.get(&session) {
                self.doubted = self.doubted.max(*index);
            }
        }
    }

    /// A new leader knows not who was heard of: everybody gets the whole time again.
    pub(super) fn hear_all(&mut self, sessions: impl Iterator<Item = SessionId>, now: Duration) {
        self.heard = sessions.map(|session| (session, now)).collect();
        self.doubted = self.expiring.values().copied().fold(self.doubted, u64::max);
    }

    fn silent(&mut self, since: Duration) -> Vec<SessionId> {
        self.heard_here.clear();
        self.heard
            .iter()
            .filter(|(_, heard)| **heard < since)
            .map(|(session, _)| *session)
            .collect()
    }
}

fn shorten(name: &str) -> String {
    name.chars().take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_brought_is_asked_for_again_ever_more_rarely_but_never_late() {
        let mut asked = Asked::new(ConnectionId(1));
        let mut times = Vec::new();
        for second in 0..100 {
            let now = Duration::from_secs(second);
            if asked.at.is_none() || asked.is_overdue(now) {
                asked.at = Some(now);
                times.push(second);
            }
        }
        assert_eq!(times, [0, 2, 6, 14, 30, 46, 62, 78, 94]);
    }
}
