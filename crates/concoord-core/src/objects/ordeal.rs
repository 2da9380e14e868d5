//! What must hold of everything that callers acquire, whatever they do: random calls, deadlines,
//! calls that are given up and sessions that end.

use std::collections::BTreeMap;

use super::stage::{Dice, Stage, thread};
use crate::call::{CallId, Caller};
use crate::object::Object;
use crate::value::Value;

/// One way to acquire something, and how it is given back.
struct Way {
    acquire: &'static str,
    /// Whether it is a lock's: the timeout follows `blocking`, and who has it may get it again.
    is_lock: bool,
    release: &'static str,
}

type Holders = BTreeMap<u64, Holder>;

#[derive(Clone, Copy)]
struct Holder {
    caller: Caller,
    way: usize,
    levels: u64,
}

struct Ordeal<O> {
    stage: Stage<O>,
    dice: Dice,
    ways: &'static [Way],
    /// Whether those may hold it at once.
    may: fn(&[(Caller, usize)]) -> bool,
    held: Holders,
    waiting: Vec<(CallId, Caller, usize)>,
    /// How many ends were looked at.
    ended: usize,
    last_token: u64,
    grants: u64,
    given_back: Vec<u64>,
}

const STEPS: u64 = 3_000;

/// Goes through it, several times.
fn ordeal<O: Object>(
    make: impl Fn() -> Stage<O>,
    ways: &'static [Way],
    may: fn(&[(Caller, usize)]) -> bool,
) {
    for seed in 0..8 {
        let mut ordeal = Ordeal {
            stage: make(),
            dice: Dice::new(seed),
            ways,
            may,
            held: Holders::new(),
            waiting: Vec::new(),
            ended: 0,
            last_token: 0,
            grants: 0,
            given_back: Vec::new(),
        };
        for _ in 0..STEPS {
            ordeal.step();
            ordeal.check();
        }
        assert!(ordeal.grants > STEPS / 20, "it was hardly ever acquired");
    }
}

impl<O: Object> Ordeal<O> {
    fn step(&mut self) {
        let caller = thread(1 + self.dice.below(4), self.dice.below(2));
        let is_parked = self.waiting.iter().any(|(_, waiter, _)| *waiter == caller);
        match self.dice.below(20) {
            0 => {
                let ms = self.dice.below(60);
                self.stage.pass(ms);
            }
            1 if !self.waiting.is_empty() => {
                let at = self.dice.below(self.waiting.len() as u64) as usize;
                let (call, ..) = self.waiting.remove(at);
                self.stage.cancel(call);
            }
            2 => {
                let session = caller.session;
                self.held.retain(|_, holder| holder.caller.session != session);
                self.waiting.retain(|(call, ..)| call.session != session);
                self.stage.lose(session.0);
                // What it got while it ended, it lost again.
                let mut at = 0;
                self.stage.ended.retain(|(call, _)| {
                    at += 1;
                    at <= self.ended || call.session != session
                });
            }
            3..10 if !is_parked => self.acquire(caller),
            10.. if !self.held.is_empty() => self.release(),
            _ => {}
        }
        self.take_ends();
    }

    fn acquire(&mut self, caller: Caller) {
        let at = self.dice.below(self.ways.len() as u64) as usize;
        let way = &self.ways[at];
        let mut given = if way.is_lock { vec![Value::Bool(true)] } else { vec![Value::None] };
        match self.dice.below(3) {
            0 => given.clear(),
            1 => given.push(Value::Float(self.dice.below(100) as f64 / 1000.0)),
            _ if way.is_lock => given = vec![Value::Bool(false)],
            _ => given.push(Value::Int(0)),
        }
        match self.stage.call(caller, way.acquire, given) {
            Err(call) => self.waiting.push((call, caller, at)),
            Ok(Ok(Value::Int(token))) => {
                assert!(
                    self.waiting.is_empty() || self.has(caller),
                    "a newcomer overtakes those who wait"
                );
                self.got(token as u64, caller, at);
            }
            // It is not to be had now, or not so.
            Ok(Ok(Value::Bool(false)) | Err(_)) => {}
            Ok(other) => panic!("{other:?}"),
        }
    }

    fn has(&self, caller: Caller) -> bool {
        self.held.values().any(|holder| holder.caller == caller)
    }

    fn release(&mut self) {
        let at = self.dice.below(self.held.len() as u64) as usize;
        let Some(Holder { caller, .. }) = self.held.values().nth(at).copied() else { return };
        if self.waiting.iter().any(|(_, waiter, _)| *waiter == caller) {
            return;
        }
        let last = self.held.iter_mut().rfind(|(_, holder)| holder.caller == caller);
        let Some((token, holder)) = last else { return };
        let (token, way) = (*token, holder.way);
        holder.levels -= 1;
        if holder.levels == 0 {
            self.held.remove(&token);
            self.given_back.push(token);
        }
        self.stage.returns(caller, self.ways[way].release, vec![]);
    }

    fn got(&mut self, token: u64, caller: Caller, way: usize) {
        if let Some(holder) = self.held.get_mut(&token) {
            assert_eq!((holder.caller, holder.way), (caller, way), "two have one token");
            holder.levels += u64::from(self.ways[way].is_lock);
            return;
        }
        assert!(token > self.last_token, "token {token} comes after {}", self.last_token);
        self.last_token = token;
        self.grants += 1;
        self.held.insert(token, Holder { caller, way, levels: 1 });
    }

    /// Looks at what became of those who waited.
    fn take_ends(&mut self) {
        let ends: Vec<_> = self.stage.ended[self.ended..].to_vec();
        self.ended += ends.len();
        // Who is sent away frees the way for others in the same step.
        for (call, end) in &ends {
            if *end == Ok(Value::Bool(false)) {
                self.waiting.retain(|(waiter, ..)| waiter != call);
            }
        }
        for (call, end) in ends {
            let Ok(Value::Int(token)) = end else { continue };
            let (first, caller, way) = self.waiting.remove(0);
            assert_eq!(first, call, "one that came later is served first");
            self.got(token as u64, caller, way);
        }
    }

    fn check(&self) {
        let mut holders: Vec<_> =
            self.held.values().map(|holder| (holder.caller, holder.way)).collect();
        assert!((self.may)(&holders), "too many hold it: {holders:?}");
        for session in 1..=4 {
            let of_session = self.held.values().filter(|holder| holder.caller.session.0 == session);
            assert_eq!(self.stage.holds(session), of_session.count() as u64, "a hold leaks");
        }
        assert!(self.held.keys().all(|token| self.stage.object.guards(*token)));
        let late = self.given_back.iter().rev().take(8);
        assert!(late.into_iter().all(|token| !self.stage.object.guards(*token)));
        if let Some((_, caller, way)) = self.waiting.first() {
            holders.push((*caller, *way));
            assert!(!(self.may)(&holders), "one waits for what it could have");
        }
    }
}

const fn way(acquire: &'static str, release: &'static str) -> Way {
    Way { acquire, is_lock: true, release }
}

static PLAIN: [Way; 1] = [way("acquire", "release")];

#[test]
fn a_lock_has_one_holder() {
    ordeal(|| Stage::new(super::lock::Lock::default()), &PLAIN, |holders| holders.len() <= 1);
}

#[test]
fn an_rlock_has_one_holder() {
    ordeal(|| Stage::new(super::rlock::RLock::default()), &PLAIN, |holders| holders.len() <= 1);
}

#[test]
fn the_lock_of_a_condition_has_one_holder() {
    ordeal(
        || Stage::new(super::condition::Condition::default()),
        &PLAIN,
        |holders| holders.len() <= 1,
    );
}

#[test]
fn a_semaphore_has_as_many_holders_as_permits() {
    let make = || {
        let mut stage = Stage::new(super::semaphore::Semaphore::bounded());
        stage.returns(thread(9, 0), "__concoordinit__", vec![Value::Int(3)]);
        stage
    };
    ordeal(make, &PLAIN, |holders| holders.len() <= 3);
}

#[test]
fn a_read_write_lock_has_one_writer_or_many_readers() {
    static WAYS: [Way; 2] =
        [way("acquire_read", "release_read"), way("acquire_write", "release_write")];
    ordeal(
        || Stage::new(super::readwritelock::ReadWriteLock::default()),
        &WAYS,
        |holders| {
            let writer = holders.iter().find(|(_, way)| *way == 1).map(|(caller, _)| *caller);
            // A writer may read as well, by itself.
            writer.is_none_or(|writer| {
                holders.iter().filter(|(_, way)| *way == 1).count() == 1
                    && holders.iter().all(|(caller, _)| *caller == writer)
            })
        },
    );
}

#[test]
fn an_election_has_one_leader() {
    static WAYS: [Way; 1] = [Way { acquire: "campaign", is_lock: false, release: "resign" }];
    ordeal(
        || Stage::new(super::election::Election::default()),
        &WAYS,
        |holders| holders.len() <= 1,
    );
}
