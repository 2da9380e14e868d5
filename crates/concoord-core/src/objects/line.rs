//! Those who wait, in the order of asking.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::call::{CallId, Caller, SessionId};
use crate::object::Context;

/// Calls that wait, first come, first served. One that leaves from the middle costs as little as
/// the first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Vec<Waiter<T>>", into = "Vec<Waiter<T>>")]
#[serde(bound = "T: Clone + Serialize + for<'a> Deserialize<'a>")]
pub(crate) struct Line<T> {
    waiters: BTreeMap<u64, Waiter<T>>,
    places: BTreeMap<CallId, u64>,
    next: u64,
}

/// A call that waits.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Waiter<T> {
    pub(crate) call: CallId,
    thread: u64,
    /// What it waits for.
    pub(crate) wants: T,
}

impl<T> Waiter<T> {
    /// The call of this step.
    pub(crate) const fn of(wants: T, context: &Context<'_>) -> Self {
        Self { call: context.call, thread: context.caller.thread, wants }
    }

    pub(crate) const fn caller(&self) -> Caller {
        Caller { session: self.call.session, thread: self.thread }
    }

    /// The same call, which waits for something else now.
    pub(crate) fn instead<U>(self, wants: U) -> Waiter<U> {
        Waiter { call: self.call, thread: self.thread, wants }
    }
}

impl<T> Line<T> {
    /// The call of this step comes last.
    pub(crate) fn join(&mut self, wants: T, context: &Context<'_>) {
        self.push(Waiter::of(wants, context));
    }

    pub(crate) fn push(&mut self, waiter: Waiter<T>) {
        self.places.insert(waiter.call, self.next);
        self.waiters.insert(self.next, waiter);
        self.next += 1;
    }

    pub(crate) fn first(&self) -> Option<&Waiter<T>> {
        self.waiters.first_key_value().map(|(_, waiter)| waiter)
    }

    pub(crate) fn pop(&mut self) -> Option<Waiter<T>> {
        let (_, waiter) = self.waiters.pop_first()?;
        self.places.remove(&waiter.call);
        Some(waiter)
    }

    /// That call waits no more; where it did.
    pub(crate) fn remove(&mut self, call: CallId) -> Option<Waiter<T>> {
        self.waiters.remove(&self.places.remove(&call)?)
    }

    /// All of them, and nobody waits any more.
    pub(crate) fn take(&mut self) -> impl Iterator<Item = Waiter<T>> + use<T> {
        std::mem::take(self).waiters.into_values()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Waiter<T>> {
        self.waiters.values()
    }

    pub(crate) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self { waiters: BTreeMap::new(), places: BTreeMap::new(), next: 0 }
    }
}

impl<T> From<Vec<Waiter<T>>> for Line<T> {
    fn from(waiters: Vec<Waiter<T>>) -> Self {
        let mut line = Self::default();
        waiters.into_iter().for_each(|waiter| line.push(waiter));
        line
    }
}

impl<T> From<Line<T>> for Vec<Waiter<T>> {
    fn from(line: Line<T>) -> Self {
        line.waiters.into_values().collect()
    }
}

/// What callers have been given and have not given back, by fencing token.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "BTreeMap<u64, Grant>", into = "BTreeMap<u64, Grant>")]
pub(crate) struct Grants {
    by_token: BTreeMap<u64, Grant>,
    by_caller: BTreeSet<(Caller, u64)>,
    by_session: BTreeSet<(SessionId, u64)>,
}

/// That a caller has something.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Grant {
    pub(crate) caller: Caller,
    /// How many times over.
    pub(crate) levels: u64,
}

impl Grants {
    /// Gives the caller something; the token that stands for it.
    pub(crate) fn give(&mut self, caller: Caller, context: &mut Context<'_>) -> u64 {
        let token = context.token();
        self.by_token.insert(token, Grant { caller, levels: 1 });
        self.by_caller.insert((caller, token));
        self.by_session.insert((caller.session, token));
        context.hold(caller.session);
        token
    }

    /// Takes back what that token stands for.
    pub(crate) fn take(&mut self, token: u64, context: &mut Context<'_>) {
        if let Some(grant) = self.by_token.remove(&token) {
            self.by_caller.remove(&(grant.caller, token));
            self.by_session.remove(&(grant.caller.session, token));
            context.free(grant.caller.session);
        }
    }

    pub(crate) fn take_all(&mut self, context: &mut Context<'_>) {
        for grant in std::mem::take(self).by_token.into_values() {
            context.free(grant.caller.session);
        }
    }

    /// Takes back all that the session had, which is over; how much it was.
    pub(crate) fn lose(&mut self, session: SessionId) -> usize {
        let all = (session, 0)..=(session, u64::MAX);
        let lost: Vec<u64> = self.by_session.extract_if(all, |_| true).map(|(_, it)| it).collect();
        for token in &lost {
            if let Some(grant) = self.by_token.remove(token) {
                self.by_caller.remove(&(grant.caller, *token));
            }
        }
        lost.len()
    }

    /// The caller has something once more, of which it has one at most; the token of that. `None`
    /// if it does not have it.
    pub(crate) fn again(&mut self, caller: Caller) -> Option<u64> {
        let token = self.of_caller(caller)?;
        self.by_token.get_mut(&token)?.levels += 1;
        Some(token)
    }

    /// Takes back once what that token stands for.
    pub(crate) fn release(&mut self, token: u64, context: &mut Context<'_>) {
        match self.by_token.get_mut(&token) {
            Some(grant) if grant.levels > 1 => grant.levels -= 1,
            _ => self.take(token, context),
        }
    }

    pub(crate) fn contains(&self, token: u64) -> bool {
        self.by_token.contains_key(&token)
    }

    /// The last of what that caller got.
    pub(crate) fn of_caller(&self, caller: Caller) -> Option<u64> {
        let all = (caller, 0)..=(caller, u64::MAX);
        self.by_caller.range(all).next_back().map(|(_, token)| *token)
    }

    /// The last of what that session's callers got.
    pub(crate) fn of_session(&self, session: SessionId) -> Option<u64> {
        let all = (session, 0)..=(session, u64::MAX);
        self.by_session.range(all).next_back().map(|(_, token)| *token)
    }

    /// What has been held for longest.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.by_token.first_key_value().map(|(token, _)| *token)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_token.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_token.is_empty()
    }
}

impl From<BTreeMap<u64, Grant>> for Grants {
    fn from(by_token: BTreeMap<u64, Grant>) -> Self {
        let by_caller = by_token.iter().map(|(token, grant)| (grant.caller, *token));
        let by_session = by_token.iter().map(|(token, grant)| (grant.caller.session, *token));
        Self { by_caller: by_caller.collect(), by_session: by_session.collect(), by_token }
    }
}

impl From<Grants> for BTreeMap<u64, Grant> {
    fn from(grants: Grants) -> Self {
        grants.by_token
    }
}
