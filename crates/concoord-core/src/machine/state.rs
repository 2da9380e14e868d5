//! What is written down of a replica's state.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::directory::{Directory, ObjectId};
use super::waits::Waits;
use super::watches::Watches;
use crate::call::{CallId, Outcome};
use crate::durable::Contents;
use crate::planted;
use crate::session::{Fate, Sessions};
use crate::view::View;

/// Steps of workers whose being skipped is remembered: a decision to skip one may arrive twice.
const SKIPPED_MAX: usize = 64;

/// What a snapshot holds besides the objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) view: View,
    pub(crate) sessions: Sessions,
    /// The time of the last entry.
    pub(crate) time_ms: u64,
    /// Its clock.
    pub(crate) clock_ms: u64,
    /// Steps that objects have made.
    pub(super) step: u64,
    /// Calls that ran.
    pub(crate) calls: u64,
    /// A digest of all outcomes, in whatever order they came: a call that is skipped ends before
    /// those that a slow worker has yet to run.
    outcomes: u64,
    /// The last entry after which all workers settled their state.
    pub(crate) settled: u64,
    /// Steps of the worker's that no client called for and that were skipped.
    skipped: BTreeSet<u64>,
    pub(super) directory: Directory,
    pub(super) waits: Waits,
    pub(super) watches: Watches,
}

/// The state of a moment, with the objects that live here as bytes.
pub(crate) struct Frozen {
    pub(crate) state: State,
    pub(super) natives: Vec<(ObjectId, Bytes)>,
}

impl Frozen {
    pub(crate) fn encode(&self) -> Bytes {
        self.state.encode(&self.natives)
    }
}

impl State {
    pub(super) fn new(view: View) -> Self {
        Self {
            view,
            sessions: Sessions::default(),
            time_ms: 0,
            clock_ms: 0,
            step: 0,
            calls: 0,
            outcomes: 0,
            settled: 0,
            skipped: BTreeSet::new(),
            directory: Directory::default(),
            waits: Waits::default(),
            watches: Watches::default(),
        }
    }

    /// The state and the objects that live here.
    pub(crate) fn decode(state: &[u8]) -> Result<(Self, Vec<(ObjectId, Bytes)>), String> {
        postcard::from_bytes(state).map_err(|error| format!("the snapshot can't be read: {error}"))
    }

    pub(crate) fn contents(self) -> Contents {
        let Self { view, sessions, time_ms, calls, .. } = self;
        Contents { view, sessions: sessions.len(), calls, time_ms }
    }

    fn encode(&self, natives: &[(ObjectId, Bytes)]) -> Bytes {
        if planted::is("snapshot-without-sessions") {
            let mut bare = self.clone();
            bare.sessions.forget();
            return postcard::to_stdvec(&(&bare, natives)).expect("memory takes all bytes").into();
        }
        if planted::is("parked-forgotten") {
            let mut bare = self.clone();
            bare.sessions.forget_parked();
            return postcard::to_stdvec(&(&bare, natives)).expect("memory takes all bytes").into();
        }
        postcard::to_stdvec(&(self, natives)).expect("memory takes all bytes").into()
    }

    /// A call has ended that was not parked.
    pub(super) fn finish(&mut self, call: CallId, outcome: &Outcome) {
        self.count(call, outcome);
        self.sessions.done(call.session, call.sequence, outcome);
    }

    /// A call has ended that was parked.
    pub(super) fn wake(&mut self, call: CallId, outcome: &Outcome) {
        // Its reply may have been received already, from a replica whose worker was quicker.
        self.count(call, outcome);
        self.sessions.woken(call.session, call.sequence, outcome);
    }

    fn count(&mut self, call: CallId, outcome: &Outcome) {
        self.calls += 1;
        let (kind, bytes): (u64, &[u8]) = match outcome {
            Outcome::Returned(bytes) => (1, bytes),
            Outcome::Raised(bytes) => (2, bytes),
            Outcome::Refused(_) => (3, &[]),
        };
        let seed = call.session.0.rotate_left(32) ^ call.sequence.rotate_left(2) ^ kind;
        self.outcomes = self.outcomes.wrapping_add(xxh3_64_with_seed(bytes, seed));
    }

    /// That step of the worker is left out.
    pub(super) fn skipped(&mut self, step: u64) {
        self.skipped.insert(step);
        if self.skipped.len() > SKIPPED_MAX {
            self.skipped.pop_first();
        }
    }

    /// How a step of the worker ended, which it has not under way.
    pub(super) fn fate_of_step(&self, step: u64) -> Fate {
        if self.skipped.contains(&step) {
            Fate::Skipped
        } else if step <= self.step {
            Fate::Ran
        } else {
            Fate::Unknown
        }
    }

    /// A digest of the state, given that of the objects.
    pub(super) fn digest(&self, objects: u64) -> u64 {
        let sessions = [self.sessions.opened(), self.sessions.len() as u64, self.step];
        let sessions = xxh3_64_with_seed(sessions.map(u64::to_le_bytes).as_flattened(), objects);
        xxh3_64_with_seed(&self.outcomes.to_le_bytes(), sessions)
    }
}
