//! Clients that contend for a lock, and write under it: some wait, some give up, some stand still
//! for so long that they lose it and come back.
//!
//! What they write is the token they hold, into a log that the lock guards: had two of them held it
//! at once, the tokens would not be in order there.

use std::collections::BTreeMap;

use concoord_core::call::SessionId;
use concoord_core::call::{Call, CallId, ConnectionId, Guard, ObjectName, Outcome, Refusal};
use concoord_core::replica::Event;
use concoord_core::value::{Arguments, Value};
use concoord_core::wire::{Answer, ClientHello, Request, Welcome};

use super::{Happening, Time, World};

/// Owners of connections from here on are lockers.
pub(super) const LOCKERS: usize = 1_000_000;

const SECOND: Time = 1_000_000;

/// How long a session may be silent.
pub(super) const SESSION_TIMEOUT: Time = 10 * SECOND;

/// How long a locker hears nothing before it goes to another replica.
const PATIENCE: Time = SECOND;

#[derive(Default)]
pub(super) struct Lockers {
    all: Vec<Locker>,
    /// The greatest token that anybody was told of.
    greatest: u64,
    /// What was written and acknowledged: by number, under which token.
    written: BTreeMap<i64, u64>,
    /// Numbers of what was refused.
    refused: Vec<i64>,
    numbers: i64,
    /// No more of them acquire, stand still or give up.
    ending: bool,
}

struct Locker {
    at: usize,
    connection: ConnectionId,
    session: Option<SessionId>,
    opening: bool,
    sequence: u64,
    open: Option<Open>,
    /// Replies of parked calls that the cluster has not been told of.
    received: Vec<u64>,
    /// What it holds in this session.
    token: Option<u64>,
    /// What it held in one that is over.
    late: Option<u64>,
    heard_at: Time,
    /// Since when it waits to hear that its session lives.
    asked_at: Option<Time>,
    /// When the last thing was asked that the session was there after.
    proven_at: Time,
    /// It stands still until then.
    still_until: Time,
    timer: u64,
    left: usize,
}

/// A call that has no reply yet.
struct Open {
    call: Call,
    what: What,
    parked: bool,
    cancelled: bool,
    repeated: bool,
}

#[derive(Clone, Copy)]
enum What {
    /// With the greatest token that had been told when it was asked.
    Acquire {
        greatest: u64,
    },
    /// Under the token of this session, or of one that is over.
    Write {
        number: i64,
        token: u64,
        late: bool,
    },
    Release,
}

impl World {
    pub(crate) fn add_locker(&mut self, times: usize) {
        let locker = self.lockers.all.len();
        self.lockers.all.push(Locker {
            at: 0,
            connection: ConnectionId(0),
            session: None,
            opening: false,
            sequence: 0,
            open: None,
            received: Vec::new(),
            token: None,
            late: None,
            heard_at: 0,
            asked_at: None,
            proven_at: 0,
            still_until: 0,
            timer: 0,
            left: times,
        });
        self.locker_connects(locker);
        self.locker_later(locker, 0);
    }

    /// From now on they only end what they have begun.
    pub(crate) fn end_lockers(&mut self) {
        self.lockers.ending = true;
        for locker in 0..self.lockers.all.len() {
            self.lockers.all[locker].still_until = 0;
            self.locker_later(locker, 0);
        }
    }

    pub(crate) fn are_lockers_done(&self) -> bool {
        let is_done = |locker: &Locker| {
            locker.open.is_none() && locker.token.is_none() && locker.late.is_none()
        };
        self.lockers.all.iter().all(is_done)
    }

    pub(super) fn has_parked(&self) -> bool {
        let parked = |locker: &Locker| locker.open.as_ref().is_some_and(|open| open.parked);
        self.lockers.all.iter().any(parked)
    }

    /// Asks the cluster what was written, and whether anything is still held or waited for.
    pub(crate) fn check_lockers(&mut self) {
        let leader = self.up().into_iter().find(|node| self.leads(*node)).unwrap();
        let connection = self.connection();
        self.request(leader, connection, Request::Open);
        let end = self.now + SECOND;
        let opened = |answer: &Answer| matches!(answer, Answer::Opened(_));
        self.run_until(end, |world| world.said(connection).any(opened));
        let session = self.said(connection).find_map(|answer| match answer {
            Answer::Opened(session) => Some(*session),
            _ => None,
        });
        let call = |sequence, object: ObjectName, method: &str| {
            Request::Call(Call {
                session: session.unwrap(),
                sequence,
                acked: 1,
                object,
                method: method.into(),
                ..Call::default()
            })
        };
        self.request(leader, connection, call(1, log(), "read"));
        self.request(leader, connection, call(2, lock(), "__concoorddescribe__"));
        let replies = |world: &Self| {
            let reply = |answer: &Answer| match answer {
                Answer::Reply { sequence, outcome: Outcome::Returned(bytes) } => {
                    Some((*sequence, Value::decode(bytes).unwrap()))
                }
                _ => None,
            };
            world.said(connection).filter_map(reply).collect::<BTreeMap<_, _>>()
        };
        let end = self.now + SECOND;
        self.run_until(end, |world| replies(world).len() == 2);
        let replies = replies(self);
        self.check_written(&replies[&1]);
        let said = format!("{:?}", replies[&2]);
        assert!(!said.contains("token"), "it is still held: {said}\n{}", self.stuck());
        assert!(said.contains("(Str(\"parked\"), Int(0))"), "somebody waits: {said}");
    }

    fn check_written(&self, entries: &Value) {
        let Value::List(entries) = entries else { panic!("{entries:?} is no log") };
        let mut last = 0;
        let mut numbers = BTreeMap::new();
        for entry in entries {
            let Value::List(entry) = entry else { panic!("{entry:?} was never written") };
            let [Value::Int(token), Value::Int(number)] = entry[..] else { panic!("{entry:?}") };
            let token = u64::try_from(token).unwrap();
            assert!(token >= last, "token {token} wrote after {last}: two held the lock");
            last = token;
            assert!(numbers.insert(number, token).is_none(), "{number} was written twice");
        }
        for (number, token) in &self.lockers.written {
            let found = numbers.get(number);
            assert_eq!(found, Some(token), "what was acknowledged is not there: {number}");
        }
        for number in &self.lockers.refused {
            assert!(!numbers.contains_key(number), "{number} was refused and is there");
        }
    }

    fn locker_later(&mut self, locker: usize, time: Time) {
        let this = &mut self.lockers.all[locker];
        this.timer += 1;
        let timer = this.timer;
        self.at(self.now + time, Happening::LockerTimer(locker, timer));
    }

    /// A locker has time.
    pub(super) fn locker_timer(&mut self, locker: usize, timer: u64) {
        let this = &self.lockers.all[locker];
        if this.timer != timer {
            return;
        }
        if this.still_until > self.now {
            let still = this.still_until - self.now;
            return self.locker_later(locker, still);
        }
        let next = SECOND / 20 + self.dice.below(SECOND);
        self.locker_later(locker, next);
        if !self.lockers.ending && self.dice.chance(5) {
            return self.stand_still(locker);
        }
        let this = &self.lockers.all[locker];
        if self.now > this.heard_at + PATIENCE {
            return self.locker_connects(locker);
        }
        if let Some(session) = this.session {
            self.lockers.all[locker].asked_at.get_or_insert(self.now);
            self.locker_asks(locker, Request::KeepAlive(session));
        }
        let this = &mut self.lockers.all[locker];
        match (&mut this.open, this.session) {
            (None, _) => self.locker_goes_on(locker),
            (Some(open), Some(session)) if open.parked && !open.cancelled => {
                if !self.lockers.ending && self.dice.chance(15) {
                    open.cancelled = true;
                    let cancelled = CallId { session, sequence: open.call.sequence };
                    self.locker_asks(locker, Request::Cancel(cancelled));
                }
            }
            (Some(_), _) => {}
        }
    }

    fn stand_still(&mut self, locker: usize) {
        let time = self.dice.below(25 * SECOND);
        let this = &mut self.lockers.all[locker];
        this.still_until = self.now + time;
        let holds = this.token.is_some();
        let waits = this.open.as_ref().is_some_and(|open| open.parked);
        self.locker_later(locker, time);
        if holds {
            self.seen("holder stood still");
        }
        if waits {
            self.seen("waiter stood still");
        }
    }

    /// It goes to some replica, and asks there again.
    fn locker_connects(&mut self, locker: usize) {
        let at = self.dice.below(self.nodes.len() as u64) as usize;
        self.count += 1;
        let connection = ConnectionId(self.count);
        let this = &mut self.lockers.all[locker];
        let before = (this.at, this.connection);
        (this.at, this.connection, this.opening) = (at, connection, false);
        (this.heard_at, this.asked_at) = (self.now, None);
        self.owner.remove(&before.1);
        self.owner.insert(connection, LOCKERS + locker);
        let life = self.nodes[before.0].life;
        self.at(self.now + 50, Happening::Hear(before.0, life, Event::Disconnected(before.1)));
        let hello = ClientHello { class: None, session: None };
        let there = self.nodes[at].replica.as_ref().filter(|_| !self.is_paused(at));
        let greeted = there.map(|replica| replica.greet_client(&hello));
        if !matches!(greeted, Some(Welcome::Client { .. })) {
            return;
        }
        let this = &mut self.lockers.all[locker];
        let (Some(session), Some(open)) = (this.session, &mut this.open) else {
            return self.locker_goes_on(locker);
        };
        let parked = open.parked;
        open.repeated = true;
        let request = if open.cancelled {
            Request::Cancel(CallId { session, sequence: open.call.sequence })
        } else {
            Request::Call(open.call.clone())
        };
        self.locker_asks(locker, request);
        if parked {
            self.seen("parked call asked again");
        }
    }

    fn locker_asks(&mut self, locker: usize, request: Request) {
        let this = &self.lockers.all[locker];
        let (at, connection) = (this.at, this.connection);
        let when = self.now + 30 + self.dice.below(300);
        if self.dice.chance(3) {
            let again = when + self.dice.below(1000);
            self.at(again, Happening::ToReplica(at, connection, request.clone()));
        }
        self.at(when, Happening::ToReplica(at, connection, request));
    }

    /// It does the next thing.
    fn locker_goes_on(&mut self, locker: usize) {
        let ending = self.lockers.ending;
        let this = &mut self.lockers.all[locker];
        if this.open.is_some() || this.opening {
            return;
        }
        let idle = this.token.is_none() && this.late.is_none() && (this.left == 0 || ending);
        if this.session.is_none() {
            if !idle {
                this.opening = true;
                self.locker_asks(locker, Request::Open);
            }
            return;
        }
        if let Some(token) = this.token {
            if !ending && self.dice.chance(60) {
                return self.write(locker, token, false);
            }
            let guard = Some(token);
            return self.locker_calls(locker, What::Release, lock(), "release", vec![], guard);
        }
        if let Some(token) = this.late {
            return self.write(locker, token, true);
        }
        if idle {
            return;
        }
        this.left -= 1;
        let arguments = match self.dice.below(5) {
            0 => vec![Value::Bool(false)],
            1 | 2 => {
                let seconds = self.dice.below(4_000) as f64 / 1000.0;
                vec![Value::Bool(true), Value::Float(seconds)]
            }
            _ => vec![],
        };
        let what = What::Acquire { greatest: self.lockers.greatest };
        self.locker_calls(locker, what, lock(), "acquire", arguments, None);
    }

    fn write(&mut self, locker: usize, token: u64, late: bool) {
        self.lockers.numbers += 1;
        let number = self.lockers.numbers;
        let entry = vec![Value::Int(token as i64), Value::Int(number)];
        let what = What::Write { number, token, late };
        self.locker_calls(locker, what, log(), "append", vec![Value::List(entry)], Some(token));
    }

    fn locker_calls(
        &mut self,
        locker: usize,
        what: What,
        object: ObjectName,
        method: &str,
        positional: Vec<Value>,
        guard: Option<u64>,
    ) {
        let this = &mut self.lockers.all[locker];
        this.sequence += 1;
        let call = Call {
            session: this.session.unwrap(),
            sequence: this.sequence,
            acked: this.sequence,
            received: std::mem::take(&mut this.received),
            thread: 1,
            guard: guard.map(|token| Box::new(Guard { object: lock(), token })),
            object,
            method: method.into(),
            arguments: Arguments { positional, keyword: vec![] }.encode().unwrap(),
        };
        let request = Request::Call(call.clone());
        this.open = Some(Open { call, what, parked: false, cancelled: false, repeated: false });
        self.locker_asks(locker, request);
    }

    pub(super) fn locker_answered(
        &mut self,
        locker: usize,
        connection: ConnectionId,
        answer: Answer,
    ) {
        let this = &mut self.lockers.all[locker];
        if this.connection != connection {
            return;
        }
        if this.still_until > self.now {
            // It hears of it when it goes on.
            let when = this.still_until;
            return self.at(when, Happening::ToClient(LOCKERS + locker, connection, answer));
        }
        match answer {
            Answer::Opened(session) if this.opening => {
                this.heard_at = self.now;
                (this.opening, this.session, this.sequence) = (false, Some(session), 0);
                self.locker_goes_on(locker);
            }
            Answer::Alive(_) => {
                this.heard_at = self.now;
                this.proven_at = this.asked_at.take().unwrap_or(this.proven_at);
            }
            Answer::Parked { sequence } => {
                this.heard_at = self.now;
                if let Some(open) = this.open.as_mut().filter(|it| it.call.sequence == sequence) {
                    open.parked = true;
                }
            }
            Answer::Expired(session) if this.session == Some(session) => self.locker_lost(locker),
            Answer::Reply { sequence, outcome } => {
                this.heard_at = self.now;
                let Some(open) = this.open.take_if(|open| open.call.sequence == sequence) else {
                    return;
                };
                if outcome == Outcome::Refused(Refusal::SessionExpired) {
                    this.open = Some(open);
                    return self.locker_lost(locker);
                }
                if open.parked || open.repeated {
                    this.received.push(sequence);
                }
                self.locker_ended(locker, &open, &outcome);
                if self.dice.chance(70) {
                    self.locker_goes_on(locker);
                }
            }
            _ => {}
        }
    }

    /// Its session is over: what it holds, and what it waited for.
    fn locker_lost(&mut self, locker: usize) {
        let this = &mut self.lockers.all[locker];
        this.session = None;
        this.received.clear();
        let (held, waited) = (this.token.take(), this.open.take());
        this.late = held.or(this.late);
        if held.is_some() {
            self.seen("holder lost");
        }
        if waited.is_some_and(|open| open.parked) {
            self.seen("waiter lost");
        }
        self.locker_connects(locker);
    }

    /// Whoever has been told that its session lives may rely on what it holds for the whole of the
    /// timeout from when it asked: nobody else is told before that they hold it.
    fn nobody_else_believes_to_hold(&self, locker: usize) {
        let others = self.lockers.all.iter().enumerate().filter(|(other, _)| *other != locker);
        for (other, Locker { token, open, proven_at, .. }) in others {
            let releases = open.as_ref().is_some_and(|open| matches!(open.what, What::Release));
            assert!(
                token.is_none() || releases || self.now >= proven_at + SESSION_TIMEOUT,
                "locker {other} believes to hold what locker {locker} has, proven at {proven_at}"
            );
        }
    }

    fn locker_ended(&mut self, locker: usize, open: &Open, outcome: &Outcome) {
        let returned = match outcome {
            Outcome::Returned(bytes) => Some(Value::decode(bytes).unwrap()),
            Outcome::Refused(_) | Outcome::Raised(_) => None,
        };
        let fenced = matches!(outcome, Outcome::Refused(Refusal::Fenced { .. }));
        let this = &mut self.lockers.all[locker];
        match (open.what, returned) {
            (What::Acquire { greatest }, Some(Value::Int(token))) => {
                let token = u64::try_from(token).unwrap();
                assert!(token > greatest, "token {token} after {greatest}");
                this.token = Some(token);
                self.nobody_else_believes_to_hold(locker);
                if open.cancelled {
                    self.seen("cancelled too late");
                } else {
                    self.lockers.greatest = self.lockers.greatest.max(token);
                    self.seen(if open.parked { "granted in line" } else { "granted at once" });
                }
            }
            (What::Acquire { .. }, Some(Value::Bool(false))) => {
                self.seen(if open.parked { "timed out" } else { "not granted" });
            }
            (What::Acquire { .. }, None)
                if open.cancelled && *outcome == Outcome::Refused(Refusal::Cancelled) =>
            {
                self.seen("cancelled while parked");
            }
            (What::Write { number, token, late: false }, Some(Value::Int(_))) => {
                self.lockers.written.insert(number, token);
            }
            (What::Write { number, late: true, .. }, None) if fenced => {
                this.late = None;
                self.lockers.refused.push(number);
                self.seen("late write refused");
            }
            (What::Write { late: true, token, .. }, Some(_)) => {
                panic!("a write ran under token {token}, whose session was over");
            }
            (What::Release, Some(Value::None)) => this.token = None,
            (What::Write { .. } | What::Release, None) if fenced => {
                panic!("the lock was lost while the session lived\n{}", self.stuck());
            }
            (_, _) => panic!("{} ended as {outcome:?}", open.call.method),
        }
    }
}

fn lock() -> ObjectName {
    ObjectName { class: "concoord.object.lock.Lock".into(), name: "l".into() }
}

fn log() -> ObjectName {
    ObjectName { class: "concoord.object.log.Log".into(), name: "l".into() }
}
