//! Who watches which object, and the changes that they have not taken yet.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::ObjectId;
use crate::call::{CallId, Caller, SessionId};
use crate::limits::{WATCH_BYTES_MAX, WATCH_CHANGES_MAX};
use crate::value::Value;

/// Changes that are given at once.
const TAKEN_MAX: usize = 1024;

/// Bytes of them, at least one change apart.
const TAKEN_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Watches {
    watched: BTreeMap<ObjectId, Watch>,
    /// Parked calls of watchers, each with whom it is of and after which step it goes on.
    waiting: BTreeMap<(ObjectId, CallId), (Caller, u64)>,
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
}

impl Watches {
    /// From now on that caller watches; `now` is the step.
    pub(super) fn begin(&mut self, object: ObjectId, caller: Caller, now: u64) {
        let fresh =
            Watch { since: now, watchers: BTreeMap::new(), changes: VecDeque::new(), bytes: 0 };
        self.watched.entry(object).or_insert(fresh).watchers.insert(caller, now);
    }

    /// The changes after that step, which it has taken all up to.
    pub(super) fn take(&mut self, object: ObjectId, caller: Caller, after: u64) -> Taken {
        let Some(watch) = self.watched.get_mut(&object).filter(|watch| watch.since <= after) else {
            return Taken::Missed;
        };
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
        if let Some(watch) = self.watched.get_mut(&object) {
            watch.watchers.remove(&caller);
            watch.trim();
            if watch.watchers.is_empty() {
                self.watched.remove(&object);
            }
        }
    }

    /// Nobody of that session watches any more.
    pub(super) fn end_session(&mut self, session: SessionId) {
        self.watched.retain(|_, watch| {
            watch.watchers.retain(|caller, _| caller.session != session);
            !watch.watchers.is_empty()
        });
    }

    /// That call waits for the next change.
    pub(super) fn wait(&mut self, object: ObjectId, call: CallId, who: (Caller, u64)) {
        self.waiting.insert((object, call), who);
    }

    /// Takes all calls that wait for a change of that object.
    pub(super) fn take_waiting(&mut self, object: ObjectId) -> Vec<(CallId, (Caller, u64))> {
        let last = CallId { session: SessionId(u64::MAX), sequence: u64::MAX };
        let all = (object, CallId::default())..=(object, last);
        self.waiting.extract_if(all, |_, _| true).map(|((_, call), who)| (call, who)).collect()
    }

    /// That call waits no more; whether it waited for a change.
    pub(super) fn unpark(&mut self, object: ObjectId, call: CallId) -> bool {
        self.waiting.remove(&(object, call)).is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// How many watch that object.
    pub(super) fn count(&self, object: ObjectId) -> usize {
        self.watched.get(&object).map_or(0, |watch| watch.watchers.len())
    }

    pub(super) fn remove(&mut self, object: ObjectId) {
        self.watched.remove(&object);
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
