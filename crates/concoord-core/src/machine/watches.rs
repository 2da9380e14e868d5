//! Who watches which object, and the changes that they have not taken yet.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ObjectId;
use crate::call::{CallId, Caller, SessionId};
use crate::limits::{SESSION_WATCHES_MAX, WATCH_BYTES_MAX, WATCH_CHANGES_MAX};
use crate::value::Value;

/// Changes that are given at once.
const TAKEN_MAX: usize = 1024;

/// Bytes of them, at least one change apart.
const TAKEN_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Watches {
    watched: BTreeMap<ObjectId, Watch>,
    /// Parked calls of watchers.
    waiting: BTreeSet<(ObjectId, CallId)>,
    /// How many watchers each session has.
    of_session: BTreeMap<SessionId, usize>,
}

/// An object that is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Watch {
    /// All changes after this step are kept.
    since: u64,
    /// Up to which step each watcher has taken them.
    watchers: BTreeMap<Caller, u64>,
    /// Each with its step, rising: several of one step are one change.
    changes: VecDeque<(u64, Vec<Bytes>)>,
    bytes: usize,
}

/// What a watcher gets.
#[derive(Debug, PartialEq)]
pub(super) enum Taken {
    /// These changes, each with its step.
    Changes(Vec<(u64, Vec<Bytes>)>),
    /// There is none yet.
    Nothing,
    /// Some that it has not taken are not kept any more.
    Missed,
    /// Its session has too many watchers.
    TooMany,
}

impl Watches {
    /// From now on that caller watches; `now` is the step. False if its session has too many that
    /// do, and then nothing has changed.
    pub(super) fn begin(&mut self, object: ObjectId, caller: Caller, now: u64) -> bool {
        if !self.add(object, caller) {
            return false;
        }
        let fresh =
            || Watch { since: now, watchers: BTreeMap::new(), changes: VecDeque::new(), bytes: 0 };
        self.watched.entry(object).or_insert_with(fresh).watchers.insert(caller, now);
        true
    }

    /// Counts a watcher, unless it is one already.
    fn add(&mut self, object: ObjectId, caller: Caller) -> bool {
        let is_known =
            self.watched.get(&object).is_some_and(|watch| watch.watchers.contains_key(&caller));
        let count = self.of_session.entry(caller.session).or_default();
        if !is_known && *count >= SESSION_WATCHES_MAX {
            return false;
        }
        *count += usize::from(!is_known);
        true
    }

    /// The changes after that step, which it has taken all up to.
    pub(super) fn take(&mut self, object: ObjectId, caller: Caller, after: u64) -> Taken {
        if self.watched.get(&object).is_none_or(|watch| watch.since > after) {
            return Taken::Missed;
        }
        if !self.add(object, caller) {
            return Taken::TooMany;
        }
        let Some(watch) = self.watched.get_mut(&object) else { return Taken::Missed };
        watch.watchers.insert(caller, after);
        watch.trim();
        let mut bytes = 0;
        let some = watch.changes.iter().filter(|(step, _)| *step > after);
        let some = some.take_while(|(_, changes)| {
            let go_on = bytes < TAKEN_BYTES_MAX;
            bytes += changes.iter().map(Bytes::len).sum::<usize>();
            go_on
        });
        let some: Vec<_> = some.take(TAKEN_MAX).cloned().collect();
        if some.is_empty() { Taken::Nothing } else { Taken::Changes(some) }
    }

    /// That caller watches no more.
    pub(super) fn end(&mut self, object: ObjectId, caller: Caller) {
        let Some(watch) = self.watched.get_mut(&object) else { return };
        if watch.watchers.remove(&caller).is_none() {
            return;
        }
        watch.trim();
        if watch.watchers.is_empty() {
            self.watched.remove(&object);
        }
        self.drop_from(caller.session);
    }

    /// That session has a watcher less.
    fn drop_from(&mut self, session: SessionId) {
        if let Some(count) = self.of_session.get_mut(&session) {
            *count -= 1;
            if *count == 0 {
                self.of_session.remove(&session);
            }
        }
    }

    /// Nobody of that session watches any more.
    pub(super) fn end_session(&mut self, session: SessionId) {
        if self.of_session.remove(&session).is_none() {
            return;
        }
        self.watched.retain(|_, watch| {
            watch.watchers.retain(|caller, _| caller.session != session);
            watch.trim();
            !watch.watchers.is_empty()
        });
    }

    /// That call waits for the next change.
    pub(super) fn wait(&mut self, object: ObjectId, call: CallId) {
        self.waiting.insert((object, call));
    }

    /// Takes all calls that wait for a change of that object.
    pub(super) fn take_waiting(&mut self, object: ObjectId) -> Vec<CallId> {
        let last = CallId { session: SessionId(u64::MAX), sequence: u64::MAX };
        let all = (object, CallId::default())..=(object, last);
        self.waiting.extract_if(all, |_| true).map(|(_, call)| call).collect()
    }

    /// That call waits no more; whether it waited for a change.
    pub(super) fn unpark(&mut self, object: ObjectId, call: CallId) -> bool {
        self.waiting.remove(&(object, call))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// How many watch that object.
    pub(super) fn count(&self, object: ObjectId) -> usize {
        self.watched.get(&object).map_or(0, |watch| watch.watchers.len())
    }

    pub(super) fn remove(&mut self, object: ObjectId) {
        let Some(watch) = self.watched.remove(&object) else { return };
        for caller in watch.watchers.into_keys() {
            self.drop_from(caller.session);
        }
    }

    /// The object has changed at that step; whether anybody watches.
    pub(super) fn tell(&mut self, object: ObjectId, step: u64, change: &Value) -> bool {
        let Some(watch) = self.watched.get_mut(&object) else { return false };
        let Ok(change) = change.encode() else { return false };
        watch.bytes += change.len();
        match watch.changes.back_mut().filter(|(last, _)| *last == step) {
            Some((_, changes)) => changes.push(change),
            None => watch.changes.push_back((step, vec![change])),
        }
        while watch.changes.len() > WATCH_CHANGES_MAX || watch.bytes > WATCH_BYTES_MAX {
            watch.drop_first();
        }
        true
    }
}

impl Watch {
    /// Forgets what all have taken.
    fn trim(&mut self) {
        let taken = self.watchers.values().copied().min().unwrap_or(self.since);
        while self.changes.front().is_some_and(|(step, _)| *step <= taken) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some((step, changes)) = self.changes.pop_front() {
            self.since = step;
            self.bytes -= changes.iter().map(Bytes::len).sum::<usize>();
        }
    }
}
