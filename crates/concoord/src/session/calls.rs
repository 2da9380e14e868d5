//! The calls of a session, from being made to being answered.
//!
//! A call that is parked waits for what others do, for as long as that takes: it holds up neither
//! the window of the others nor the acknowledgement of their replies, and says by itself, in a
//! later call, that its own reply has arrived.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use concoord_core::call::{Call, CallId, Guard, ObjectName, Outcome, SessionId};
use concoord_core::limits::{RECEIVED_MAX, SESSION_CALLS_MAX};
use concoord_core::wire::{Request, write_frame};

use super::Ticket;
use crate::{Arguments, Value};

/// Bytes of arguments that may be open at once, give or take one call: half of what a replica
/// takes from one connection before it hangs up.
const OPEN_BYTES_MAX: usize = 32 << 20;

/// Parked calls that are asked again or cancelled at once over a new connection, which has the
/// others to carry as well.
const ASKING_MAX: usize = 128;

/// A call that is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Making {
    pub(crate) object: ObjectName,
    pub(crate) thread: u64,
    pub(crate) guard: Option<Box<Guard>>,
    pub(crate) undo: Option<Undo>,
    /// It is made all the same where its caller has given it up.
    pub(crate) is_kept: bool,
    pub(crate) method: String,
    pub(crate) arguments: Bytes,
}

/// What gives back what a call got that its caller has given up, where the two crossed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undo {
    /// The method of the same object, such as `release`.
    pub method: String,
    /// Whether it takes what the call returned, as its only argument.
    pub takes_reply: bool,
    /// What it needs, to take nothing from others.
    pub when: UndoWhen,
}

/// When an [`Undo`] is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UndoWhen {
    /// Where the call returned anything but `None` and false.
    Got,
    /// So too; what it returned is a fencing token. The undo runs only if that is still held, and
    /// so never takes anything from who got it later.
    GotToken,
    /// Where the call returned at all, as a condition's `wait` does with the lock held, or was
    /// never made. The object itself is to see to it that only the same caller gives that back.
    Returned,
}

/// What a call may have got, which is to be given back if nobody takes its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Given {
    undo: Undo,
    call: Call,
}

impl Given {
    /// In which session that was.
    pub(super) const fn session(&self) -> SessionId {
        self.call.session
    }
}

#[derive(Debug, Default)]
pub(super) struct Calls {
    /// The number of the last call.
    sequence: u64,
    /// Calls that have not been sent in any session.
    queued: VecDeque<(Option<Ticket>, Making)>,
    /// Calls that have been sent and that nothing is known of, by their numbers.
    sent: BTreeMap<u64, Sent>,
    /// Bytes of their arguments.
    bytes: usize,
    parked: BTreeMap<u64, Sent>,
    /// Calls to be asked again or cancelled, as soon as there is room.
    again: VecDeque<u64>,
    /// Those of them that were, and have no answer yet.
    asking: BTreeSet<u64>,
    /// Parked calls that were answered, which the cluster is to be told.
    received: BTreeSet<u64>,
    /// The numbers of what is waited for.
    numbers: HashMap<Ticket, u64>,
}

#[derive(Debug)]
struct Sent {
    /// `None` once nobody wants the reply any more.
    ticket: Option<Ticket>,
    /// It is to run whoever wants the reply.
    is_kept: bool,
    /// When it was first written: which copy of it was answered nobody can say.
    at: Duration,
    /// Always a [`Request::Call`], ready to be written again.
    request: Request,
    undo: Option<Undo>,
    /// It is to end, if it has not: what it gets all the same is given back.
    cancelled: bool,
    /// It was sent more than once, so that nobody knows whether it was parked.
    repeated: bool,
}

impl Calls {
    pub(super) fn make(&mut self, ticket: Ticket, making: Making) {
        self.queued.push_back((Some(ticket), making));
    }

    /// Whether anything waits for a connection.
    pub(super) fn are_open(&self) -> bool {
        // What is given up ends with the session at the latest, and keeps no client trying.
        self.queued.iter().any(|(ticket, _)| ticket.is_some()) || !self.numbers.is_empty()
    }

    /// Whether an answer is due.
    pub(super) fn are_owed(&self) -> bool {
        !self.sent.is_empty() || !self.asking.is_empty()
    }

    /// Whether anything waits to be sent.
    pub(super) fn are_queued(&self) -> bool {
        !self.queued.is_empty() || !self.again.is_empty()
    }

    /// Whether something new waits, for which a session must be there.
    pub(super) fn want_session(&self) -> bool {
        !self.queued.is_empty()
    }

    pub(super) fn was_sent(&self, ticket: Ticket) -> bool {
        self.numbers.contains_key(&ticket)
    }

    pub(super) fn is_parked(&self, ticket: Ticket) -> bool {
        self.numbers.get(&ticket).is_some_and(|number| self.parked.contains_key(number))
    }

    /// Whether that call, which was not sent yet, is made though its caller gives it up.
    pub(super) fn goes_on(&self, ticket: Ticket, has_session: bool) -> bool {
        let is_it =
            |(queued, making): &(Option<Ticket>, Making)| *queued == Some(ticket) && making.is_kept;
        has_session && self.queued.iter().any(is_it)
    }

    /// Nobody waits for that any more. What waits, or would, ends; whatever else was sent may
    /// still run, once. What was not sent is not, unless it is to be kept and there is a session.
    pub(super) fn abandon(&mut self, ticket: Ticket, has_session: bool) {
        let Some(number) = self.numbers.remove(&ticket) else {
            let queued = self.queued.iter_mut().enumerate();
            let mut at = queued.filter(|(_, (queued, _))| *queued == Some(ticket));
            if let Some((at, (ticket, making))) = at.next() {
                *ticket = None;
                // What it would have given up first is held, and is to be given back all the same.
                let undo = making.undo.take().filter(|undo| undo.when == UndoWhen::Returned);
                match undo {
                    Some(undo) if has_session => *making = undo.instead_of(making),
                    Some(_) | None if making.is_kept && has_session => {}
                    Some(_) | None => drop(self.queued.remove(at)),
                }
            }
            return;
        };
        let is_parked = self.parked.contains_key(&number);
        let sent = self.parked.get_mut(&number).or_else(|| self.sent.get_mut(&number));
        if let Some(sent) = sent {
            sent.ticket = None;
            if is_parked || sent.undo.is_some() {
                sent.cancelled = true;
                self.again.push_back(number);
            }
        }
    }

    /// Writes the next thing that there is to send, if there is any.
    pub(super) fn send_next(
        &mut self,
        now: Duration,
        id: SessionId,
        default_class: &str,
        to: &mut BytesMut,
    ) -> bool {
        let number = match self.next_again() {
            Some(number) => number,
            None => match self.next_new(id, default_class) {
                Some(number) => number,
                None => return false,
            },
        };
        let acked = self.acked();
        let sent = self.sent.get_mut(&number).or_else(|| self.parked.get_mut(&number));
        let sent = sent.expect("what is to be sent is kept");
        if sent.cancelled {
            // Its answer may have been on its way: that proves nothing of now.
            write_frame(&Request::Cancel(CallId { session: id, sequence: number }), to);
        } else {
            sent.write(now, acked, to);
        }
        true
    }

    /// A call to be asked again or cancelled, if there is room.
    fn next_again(&mut self) -> Option<u64> {
        while self.asking.len() < ASKING_MAX
            && self.open_bytes() < OPEN_BYTES_MAX
            && let Some(number) = self.again.pop_front()
        {
            if self.parked.contains_key(&number) || self.sent.contains_key(&number) {
                self.asking.insert(number);
                return Some(number);
            }
        }
        None
    }

    /// A call that was not sent yet, if there is room.
    fn next_new(&mut self, id: SessionId, default_class: &str) -> Option<u64> {
        if self.sequence + 1 - self.acked() >= SESSION_CALLS_MAX
            || self.open_bytes() >= OPEN_BYTES_MAX
        {
            return None;
        }
        if self.queued.front().is_some_and(|(_, making)| self.is_being_undone(making)) {
            return None;
        }
        let (ticket, making) = self.queued.pop_front()?;
        self.sequence += 1;
        let number = self.sequence;
        if let Some(ticket) = ticket {
            self.numbers.insert(ticket, number);
        }
        let Making { mut object, thread, guard, undo, is_kept, method, arguments } = making;
        if object.class == default_class {
            // That of the cluster's own object goes without saying.
            object.class.clear();
        }
        self.bytes += arguments.len();
        // It counts itself: what it says of others is said of those before it.
        let acked = self.sent.first_key_value().map_or(number, |(first, _)| *first);
        let received = self.take_received(acked);
        let request = Request::Call(Call {
            session: id,
            sequence: number,
            acked,
            received,
            thread,
            guard,
            object,
            method,
            arguments,
        });
        let at = Duration::ZERO;
        let sent = Sent { ticket, is_kept, at, request, undo, cancelled: false, repeated: false };
        self.sent.insert(number, sent);
        Some(number)
    }

    /// Whether that call may be of something that a call of the same caller, which was given up,
    /// may have got and is to give back: what gives it back would take from this one.
    fn is_being_undone(&self, making: &Making) -> bool {
        let is_before = |sent: &Sent| {
            let always = sent.undo.as_ref().is_some_and(|undo| undo.when == UndoWhen::Returned);
            matches!(&sent.request, Request::Call(call)
                if sent.cancelled && always
                    && (call.thread, &call.object.name) == (making.thread, &making.object.name))
        };
        self.again_or_asked().any(is_before)
    }

    /// Bytes of arguments of all that was sent and has no answer yet.
    fn open_bytes(&self) -> usize {
        let asked = self.asking.iter().filter_map(|number| self.parked.get(number));
        self.bytes + asked.filter(|sent| !sent.cancelled).map(Sent::bytes).sum::<usize>()
    }

    /// Calls that were sent and are to end, among others.
    fn again_or_asked(&self) -> impl Iterator<Item = &Sent> {
        let numbers = self.again.iter().chain(&self.asking);
        numbers.filter_map(|number| self.sent.get(number).or_else(|| self.parked.get(number)))
    }

    /// Every reply below this number has arrived, or is not wanted, but for those of parked calls.
    fn acked(&self) -> u64 {
        self.sent.first_key_value().map_or(self.sequence + 1, |(number, _)| *number)
    }

    /// What is told with a call that says that all below that number have arrived.
    fn take_received(&mut self, acked: u64) -> Vec<u64> {
        let some: Vec<u64> = self.received.range(..acked).take(RECEIVED_MAX).copied().collect();
        for number in &some {
            self.received.remove(number);
        }
        some
    }

    /// There is a new connection: writes what has to be sent over it at once, and has the rest
    /// follow as there is room.
    pub(super) fn begin_again(&mut self, now: Duration, to: &mut BytesMut) {
        self.asking.clear();
        self.again = self.parked.keys().copied().collect();
        let acked = self.acked();
        for (number, sent) in &mut self.sent {
            sent.repeated = true;
            if sent.cancelled {
                self.again.push_back(*number);
            } else {
                sent.write(now, acked, to);
            }
        }
        for sent in self.parked.values_mut() {
            sent.repeated = true;
        }
    }

    /// The connection is gone: what nobody waits for is not sent again, but cancelled. It may have
    /// arrived, and wait there for what nobody would give back.
    pub(super) fn cancel_abandoned(&mut self) {
        for sent in self.sent.values_mut() {
            if sent.ticket.is_some() || sent.is_kept || sent.cancelled {
                continue;
            }
            sent.cancelled = true;
            if let Request::Call(call) = &mut sent.request {
                call.arguments.clear();
                // Whether it told of these nobody knows.
                self.received.extend(call.received.drain(..));
            }
        }
        self.bytes = self.sent.values().map(|sent| sent.bytes()).sum();
        self.asking.clear();
    }

    /// When that call was first sent: the session was there after that, if it is answered.
    pub(super) fn sent_at(&self, number: u64) -> Option<Duration> {
        self.sent.get(&number).or_else(|| self.parked.get(&number)).map(|sent| sent.at)
    }

    /// That call waits for what others do.
    pub(super) fn park(&mut self, number: u64) {
        let is_cancelled = if let Some(sent) = self.sent.remove(&number) {
            self.bytes -= sent.bytes();
            let unwanted = sent.ticket.is_none() && !sent.cancelled && !sent.is_kept;
            let sent = Sent { cancelled: sent.cancelled || unwanted, ..sent };
            let is_cancelled = sent.cancelled;
            self.parked.insert(number, sent);
            if unwanted {
                self.again.push_back(number);
            }
            is_cancelled
        } else {
            self.parked.get(&number).is_some_and(|sent| sent.cancelled)
        };
        if !is_cancelled {
            self.asking.remove(&number);
        }
    }

    /// That call has ended; says who waits for it, and what they have if they take the reply.
    pub(super) fn end(
        &mut self,
        number: u64,
        outcome: &Outcome,
    ) -> Option<(Ticket, Option<Box<Given>>)> {
        self.asking.remove(&number);
        let sent = if let Some(sent) = self.sent.remove(&number) {
            self.bytes -= sent.bytes();
            if sent.repeated {
                self.received.insert(number);
            }
            sent
        } else {
            self.received.insert(number);
            self.parked.remove(&number)?
        };
        if let (Outcome::Refused(_), Request::Call(call)) = (outcome, &sent.request) {
            // It may not have come to where it tells of these.
            self.received.extend(&call.received);
        }
        let given = match (sent.undo, sent.request) {
            (Some(undo), Request::Call(call)) => Some(Box::new(Given { undo, call })),
            _ => None,
        };
        let Some(ticket) = sent.ticket else {
            if let Some(given) = given.filter(|_| sent.cancelled) {
                self.give_back(*given, outcome);
            }
            return None;
        };
        self.numbers.remove(&ticket);
        Some((ticket, given))
    }

    /// Nobody has what a call got that ended so: it is to be given back.
    pub(super) fn give_back(&mut self, Given { undo, call }: Given, outcome: &Outcome) {
        if let Some(making) = undo.of(call, outcome) {
            // Before what its caller asks for next.
            self.queued.push_front((None, making));
        }
    }

    /// The session is gone, and with it all that was sent; says who waits for that.
    pub(super) fn lose(&mut self) -> Vec<Ticket> {
        let sent = std::mem::take(&mut self.sent).into_values();
        let parked = std::mem::take(&mut self.parked).into_values();
        let lost = sent.chain(parked).filter_map(|sent| sent.ticket).collect();
        // What was to be given back is nobody's any more.
        self.queued.retain(|(ticket, _)| ticket.is_some());
        let queued = std::mem::take(&mut self.queued);
        *self = Self { queued, ..Self::default() };
        lost
    }

    /// Takes all calls that have not been sent; says who waits for them.
    pub(super) fn take_queued(&mut self) -> Vec<Ticket> {
        self.queued.drain(..).filter_map(|(ticket, _)| ticket).collect()
    }
}

impl Sent {
    const fn bytes(&self) -> usize {
        if let Request::Call(call) = &self.request { call.arguments.len() } else { 0 }
    }

    fn write(&mut self, now: Duration, acked: u64, to: &mut BytesMut) {
        if !self.repeated {
            self.at = now;
        }
        if let Request::Call(call) = &mut self.request {
            call.acked = acked;
        }
        write_frame(&self.request, to);
    }
}

impl Undo {
    /// What is to be called in place of a call that was never sent.
    fn instead_of(self, making: &Making) -> Making {
        let arguments = Arguments::default().encode().unwrap_or_default();
        let (object, thread) = (making.object.clone(), making.thread);
        Making {
            object,
            thread,
            method: self.method,
            arguments,
            is_kept: true,
            ..Making::default()
        }
    }

    /// What is to be called after that call, which ended so; `None` where it got nothing.
    fn of(self, call: Call, outcome: &Outcome) -> Option<Making> {
        let Outcome::Returned(bytes) = outcome else { return None };
        let value = Value::decode(bytes).ok()?;
        let got_nothing = matches!(value, Value::None | Value::Bool(false));
        if got_nothing && self.when != UndoWhen::Returned {
            return None;
        }
        let token = if let Value::Int(token) = value { u64::try_from(token).ok() } else { None };
        let token = token.filter(|_| self.when == UndoWhen::GotToken);
        let guard = token.map(|token| Box::new(Guard { object: call.object.clone(), token }));
        let positional = if self.takes_reply { vec![value] } else { Vec::new() };
        let arguments = Arguments { positional, keyword: Vec::new() }.encode().ok()?;
        let (object, thread, method) = (call.object, call.thread, self.method);
        Some(Making { object, thread, guard, undo: None, is_kept: true, method, arguments })
    }
}
