//! Calls that no thread waits for: what came of them is gathered, and told of once a batch.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Client;
use super::shared::{Shared, State};
use crate::session::{Reply, Session, Ticket};
use crate::{Arguments, Error, Manner, Value, reply};

/// How often it is looked at whether a parked call still has a cluster to wait for.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What came of calls that no thread waits for.
pub struct Gathered {
    done: Mutex<Vec<(u64, Result<Reply, Error>)>>,
    wake: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Gathered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gathered").finish_non_exhaustive()
    }
}

impl Gathered {
    /// `wake` is called when there is something to take where there was nothing. It must come
    /// back at once, and not call the client.
    #[must_use]
    pub fn new(wake: Box<dyn Fn() + Send + Sync>) -> Self {
        Self { done: Mutex::default(), wake }
    }

    /// What there is since, each with the number that its call was started under.
    #[must_use]
    pub fn take(&self) -> Vec<(u64, Result<Value, Error>)> {
        let done = std::mem::take(&mut *self.done.lock().unwrap_or_else(PoisonError::into_inner));
        done.into_iter().map(|(number, result)| (number, result.and_then(reply::value))).collect()
    }

    fn put(&self, number: u64, result: Result<Reply, Error>) {
        let mut done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = done.is_empty();
        done.push((number, result));
        drop(done);
        if is_first {
            (self.wake)();
        }
    }
}

/// A call that was started and is gathered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    ticket: Ticket,
    /// A forked child has calls of its own.
    process: u32,
}

/// The calls of a client that are gathered.
#[derive(Debug, Default)]
pub(super) struct Later {
    calls: BTreeMap<Ticket, Gathering>,
    /// When to look at each of them.
    looks: BTreeSet<(Duration, Ticket)>,
}

#[derive(Debug)]
struct Gathering {
    number: u64,
    to: Arc<Gathered>,
    start: Duration,
    timeout: Duration,
    look_at: Duration,
}

impl Later {
    /// Whether nothing is on its way.
    pub(super) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// When one of them may be out of time.
    pub(super) fn look_at(&self) -> Option<Duration> {
        self.looks.first().map(|(at, _)| *at)
    }

    /// Takes the end of a call in; `Some` if it is none of these.
    pub(super) fn end(
        &mut self,
        ticket: Ticket,
        result: Result<Reply, Error>,
    ) -> Option<Result<Reply, Error>> {
        let Some(gathering) = self.calls.remove(&ticket) else { return Some(result) };
        self.looks.remove(&(gathering.look_at, ticket));
        gathering.to.put(gathering.number, result);
        None
    }

    fn add(&mut self, ticket: Ticket, gathering: Gathering) {
        self.looks.insert((gathering.look_at, ticket));
        self.calls.insert(ticket, gathering);
    }

    /// Gives up what is out of time.
    pub(super) fn give_up_overdue(&mut self, now: Duration, session: &mut Session) {
        while let Some((at, ticket)) = self.looks.first().copied().filter(|(at, _)| *at <= now) {
            self.looks.remove(&(at, ticket));
            let Some(gathering) = self.calls.get_mut(&ticket) else { continue };
            let deadline = session.deadline(ticket, gathering.start, gathering.timeout);
            let deadline = deadline.unwrap_or(now + LOOK_AGAIN);
            if deadline > now {
                gathering.look_at = deadline;
                self.looks.insert((deadline, ticket));
                continue;
            }
            let error = session.give_up(now, ticket, gathering.timeout);
            // Nothing is left of it to be handed back.
            drop(self.end(ticket, Err(error)));
        }
    }
}

impl Client {
    /// Makes calls, all of which are written together and take effect in their order, and waits
    /// for none: what comes of each is gathered under its number.
    ///
    /// # Errors
    /// See [`Error`]; if one can't be encoded, none is made.
    pub fn start_gathered(
        &self,
        calls: &[(u64, Manner, &str, Arguments)],
        timeout: Duration,
        to: &Arc<Gathered>,
    ) -> Result<Vec<Started>, Error> {
        let makings = calls
            .iter()
            .map(|(_, manner, method, arguments)| self.making(manner, method, arguments));
        let makings = makings.collect::<Result<Vec<_>, _>>()?;
        let shared = self.shared();
        let (mut state, now) = (shared.lock(), shared.now());
        let mut started = Vec::with_capacity(calls.len());
        for (making, (number, ..)) in makings.into_iter().zip(calls) {
            let make = |session: &mut Session, now: Duration, ticket: Ticket| {
                session.call(now, ticket, making);
            };
            let ticket = shared.make(&mut state, &self.bootstrap, now, make)?;
            let look_at = now.saturating_add(timeout);
            let (number, to) = (*number, Arc::clone(to));
            state.later.add(ticket, Gathering { number, to, start: now, timeout, look_at });
            started.push(Started { ticket, process: (self.process)() });
        }
        shared.settle(&mut state, now);
        shared.keeper.notify_one();
        Ok(started)
    }

    /// Nobody wants that any more: it is given up as in [`Client::call_as`], and nothing is
    /// gathered of it. False where it has ended already: what it got is the caller's, who finds it
    /// in what is gathered.
    pub fn give_up(&self, started: Started) -> bool {
        let Some(life) = self.life_of(started.process) else { return true };
        if started.process != (self.process)() {
            return true;
        }
        let shared = &life.shared;
        let (mut state, now) = (shared.lock(), shared.now());
        let is_open = state.later.forget(started.ticket);
        if is_open {
            state.session.abandon(now, started.ticket);
            shared.settle(&mut state, now);
        }
        is_open
    }
}

impl Later {
    /// False where it has ended.
    fn forget(&mut self, ticket: Ticket) -> bool {
        let Some(gathering) = self.calls.remove(&ticket) else { return false };
        self.looks.remove(&(gathering.look_at, ticket))
    }
}

impl Shared {
    /// What the keeper does for calls that no thread waits for.
    pub(super) fn mind_later(&self, state: &mut State, now: Duration) {
        let State { later, session, .. } = state;
        later.give_up_overdue(now, session);
    }
}
