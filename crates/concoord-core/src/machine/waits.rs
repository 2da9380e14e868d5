//! What objects wait for: calls that are parked, deadlines, bells, the ends of sessions.
//!
//! All of it is of objects that live here. Those of a worker keep the like with their own state.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::ObjectId;
use crate::call::{CallId, SessionId};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waits {
    parked: BTreeMap<CallId, Parked>,
    /// By object, its parked calls.
    by_object: BTreeSet<(ObjectId, CallId)>,
    bells: BTreeMap<(ObjectId, u64), u64>,
    /// Everything that is due at some time of the clock, in the order in which it will be done.
    due: BTreeSet<(u64, Due)>,
    /// How much each session has at each object.
    held: BTreeMap<(SessionId, ObjectId), u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Parked {
    object: ObjectId,
    until: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum Due {
    Bell(ObjectId, u64),
    Deadline(CallId),
}

impl Waits {
    pub(super) fn park(&mut self, call: CallId, object: ObjectId, until: Option<u64>) {
        if let Some(until) = until {
            self.due.insert((until, Due::Deadline(call)));
        }
        self.parked.insert(call, Parked { object, until });
        self.by_object.insert((object, call));
    }

    /// That call waits no more; where it did.
    pub(super) fn unpark(&mut self, call: CallId) -> Option<ObjectId> {
        let Parked { object, until } = self.parked.remove(&call)?;
        if let Some(until) = until {
            self.due.remove(&(until, Due::Deadline(call)));
        }
        self.by_object.remove(&(object, call));
        Some(object)
    }

    pub(super) fn set_bell(&mut self, object: ObjectId, bell: u64, at: u64) {
        self.hush(object, bell);
        self.bells.insert((object, bell), at);
        self.due.insert((at, Due::Bell(object, bell)));
    }

    pub(super) fn hush(&mut self, object: ObjectId, bell: u64) {
        if let Some(at) = self.bells.remove(&(object, bell)) {
            self.due.remove(&(at, Due::Bell(object, bell)));
        }
    }

    pub(super) fn hold(&mut self, session: SessionId, object: ObjectId) {
        *self.held.entry((session, object)).or_default() += 1;
    }

    pub(super) fn free(&mut self, session: SessionId, object: ObjectId) {
        if let Some(held) = self.held.get_mut(&(session, object)) {
            *held -= 1;
            if *held == 0 {
                self.held.remove(&(session, object));
            }
        }
    }

    pub(super) fn is_parked(&self, call: CallId) -> bool {
        self.parked.contains_key(&call)
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<u64> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the first of what is due by then. A deadline's call is still parked.
    pub(super) fn take_due(&mut self, clock_ms: u64) -> Option<Due> {
        let (at, due) = *self.due.first().filter(|(at, _)| *at <= clock_ms)?;
        self.due.remove(&(at, due));
        match due {
            Due::Bell(object, bell) => {
                self.bells.remove(&(object, bell));
            }
            Due::Deadline(call) => {
                if let Some(parked) = self.parked.get_mut(&call) {
                    parked.until = None;
                }
            }
        }
        Some(due)
    }

    /// The calls of that session that are parked.
    pub(super) fn of_session(&self, session: SessionId) -> Vec<CallId> {
        let call = |sequence| CallId { session, sequence };
        self.parked.range(call(0)..=call(u64::MAX)).map(|(call, _)| *call).collect()
    }

    /// The objects where that session has something; it has nothing any more.
    pub(super) fn take_held(&mut self, session: SessionId) -> Vec<ObjectId> {
        let all = (session, ObjectId(0))..=(session, ObjectId(u64::MAX));
        self.held.extract_if(all, |_, _| true).map(|((_, object), _)| object).collect()
    }

    /// The calls that are parked at that object, in the order of their sessions.
    pub(super) fn at(&self, object: ObjectId) -> Vec<CallId> {
        let (first, last) =
            (CallId::default(), CallId { session: SessionId(u64::MAX), sequence: u64::MAX });
        self.by_object.range((object, first)..=(object, last)).map(|(_, call)| *call).collect()
    }

    /// Forgets that object, at which no call is parked any more.
    pub(super) fn remove(&mut self, object: ObjectId) {
        let bells = self.bells.extract_if((object, 0)..=(object, u64::MAX), |_, _| true);
        for ((object, bell), at) in bells {
            self.due.remove(&(at, Due::Bell(object, bell)));
        }
        self.held.retain(|(_, at), _| *at != object);
    }
}
