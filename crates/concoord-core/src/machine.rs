//! The replicated state: the object, the sessions, the view, and how the log changes them.
//!
//! Everything here is the same on every replica that has applied as much, but for calls that a
//! worker has not finished.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::call::{Call, ConnectionId, Outcome, Refusal, SessionId};
use crate::durable::{Contents, Snapshot};
use crate::limits::RESULT_BYTES_MAX;
use crate::log::Command;
use crate::object::{Context, Interface, Object};
use crate::planted;
use crate::session::{Fate, Sessions, Verdict};
use crate::value::{Arguments, Exception, Value};
use crate::view::{ReplicaId, View};
use crate::wire::HostedCall;

/// The object, and where it lives.
pub enum Hosting {
    /// In this process.
    Native(Box<dyn Object>),
    /// In a worker, which does what [`Action::Worker`](crate::replica::Action::Worker) says. It
    /// has loaded the object already and this is what it said.
    Worker(Interface),
    /// Nowhere, at a witness: it knows the class alone.
    Nowhere(Interface),
}

impl Hosting {
    /// What the object offers.
    #[must_use]
    pub fn interface(&self) -> &Interface {
        match self {
            Self::Native(object) => object.interface(),
            Self::Worker(interface) | Self::Nowhere(interface) => interface,
        }
    }
}

pub(crate) struct Machine {
    hosting: Hosting,
    pub(crate) state: State,
    /// Calls with the worker, by the number they were given to it under.
    hosted: BTreeMap<u64, Hosted>,
    given: u64,
}

/// What a snapshot holds besides the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) view: View,
    pub(crate) sessions: Sessions,
    /// The time of the last entry.
    pub(crate) time_ms: u64,
    /// Calls that ran.
    pub(crate) calls: u64,
    /// A digest of all outcomes, in whatever order they came: a call that is skipped ends before
    /// those that a slow worker has yet to run.
    outcomes: u64,
    /// The last entry after which all workers settled their state.
    pub(crate) settled: u64,
}

/// A call that the worker runs.
#[derive(Clone, Copy)]
struct Hosted {
    index: u64,
    session: SessionId,
    sequence: u64,
}

/// What applying an entry leads to outside of the state.
pub(crate) enum Effect {
    Opened(ReplicaId, ConnectionId, Result<SessionId, Refusal>),
    Replied(SessionId, u64, Outcome),
    Ended(SessionId, Ending),
    /// The worker shall run this call of the entry; those of one entry belong together.
    Host(HostedCall),
    /// The worker shall leave out the call of that number.
    Skip(u64),
    /// After this entry the worker shall settle its state.
    Settle,
    /// That call has run here, and the log has decided that it runs nowhere.
    Astray(SessionId, u64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Closed,
    Expired,
}

impl Machine {
    pub(crate) fn new(hosting: Hosting, view: View) -> Self {
        let state = State {
            view,
            sessions: Sessions::default(),
            time_ms: 0,
            calls: 0,
            outcomes: 0,
            settled: 0,
        };
        Self { hosting, state, hosted: BTreeMap::new(), given: 0 }
    }

    pub(crate) fn interface(&self) -> &Interface {
        self.hosting.interface()
    }

    /// Applies a command of the entry at `index`.
    pub(crate) fn apply(&mut self, index: u64, command: Command, mut then: impl FnMut(Effect)) {
        match command {
            Command::Open(replica, connection) => {
                then(Effect::Opened(replica, connection, self.state.sessions.open()));
            }
            Command::Call(call) => self.apply_call(index, call, then),
            Command::Close(session) => {
                self.state.sessions.close(session);
                then(Effect::Ended(session, Ending::Closed));
            }
            Command::Expire(session) => {
                if self.state.sessions.close(session) {
                    then(Effect::Ended(session, Ending::Expired));
                }
            }
            Command::Settle(since) => {
                if since == self.state.settled {
                    self.state.settled = index;
                    then(Effect::Settle);
                }
            }
            Command::Skip(session, sequence) => {
                let is_it = |call: &Hosted| (call.session, call.sequence) == (session, sequence);
                if let Some((number, _)) = self.hosted.iter().find(|(_, call)| is_it(call)) {
                    then(Effect::Skip(*number));
                } else if self.state.sessions.fate(session, sequence) == Fate::Ran {
                    then(Effect::Astray(session, sequence));
                }
            }
        }
    }

    fn apply_call(&mut self, index: u64, call: Call, mut then: impl FnMut(Effect)) {
        let (session, sequence) = (call.session, call.sequence);
        match self.state.sessions.admit(&call) {
            Verdict::Answer(outcome) => then(Effect::Replied(session, sequence, outcome)),
            Verdict::Wait => {}
            Verdict::Run => {
                let context = Context { index, time_ms: self.state.time_ms };
                if let Hosting::Native(object) = &mut self.hosting {
                    let outcome =
                        run(&call, |arguments| object.apply(&call.method, arguments, context));
                    self.state.finish(session, sequence, &outcome);
                    then(Effect::Replied(session, sequence, outcome));
                } else {
                    self.state.sessions.running(session, sequence);
                    let number = self.number();
                    self.hosted.insert(number, Hosted { index, session, sequence });
                    then(Effect::Host(HostedCall {
                        number,
                        method: call.method,
                        arguments: call.arguments,
                    }));
                }
            }
        }
    }

    /// The next number for the worker.
    pub(crate) fn number(&mut self) -> u64 {
        self.given += 1;
        self.given
    }

    /// The worker has finished a call; `None` if that number was no call of the log. While a
    /// snapshot is being made, its part of the state is kept up to date as well.
    pub(crate) fn done(
        &mut self,
        number: u64,
        outcome: &Outcome,
        frozen: Option<&mut State>,
    ) -> Option<(SessionId, u64)> {
        let call = self.hosted.remove(&number)?;
        self.state.finish(call.session, call.sequence, outcome);
        if let Some(frozen) = frozen {
            frozen.finish(call.session, call.sequence, outcome);
        }
        Some((call.session, call.sequence))
    }

    /// The call that the worker has under that number.
    pub(crate) fn hosted(&self, number: u64) -> Option<(SessionId, u64)> {
        self.hosted.get(&number).map(|call| (call.session, call.sequence))
    }

    /// How that call ended here.
    pub(crate) fn fate(&self, session: SessionId, sequence: u64) -> Fate {
        let is_it = |call: &Hosted| (call.session, call.sequence) == (session, sequence);
        if self.hosted.values().any(is_it) {
            return Fate::Unknown;
        }
        self.state.sessions.fate(session, sequence)
    }

    /// The last entry whose calls have all run, given the last one that was applied.
    pub(crate) fn finished(&self, applied: u64) -> u64 {
        self.hosted.first_key_value().map_or(applied, |(_, call)| call.index - 1)
    }

    /// Answers a read-only call of an object that lives here; `None` where a worker must.
    pub(crate) fn read(&self, call: &Call) -> Option<Outcome> {
        if !self.state.sessions.contains(call.session) {
            return Some(Outcome::Refused(Refusal::SessionExpired));
        }
        match &self.hosting {
            Hosting::Native(object) => {
                Some(run(call, |arguments| object.read(&call.method, arguments)))
            }
            Hosting::Worker(_) | Hosting::Nowhere(_) => None,
        }
    }

    /// The object, written down, if it lives here.
    pub(crate) fn object(&self) -> Option<Bytes> {
        match &self.hosting {
            Hosting::Native(object) => Some(object.snapshot().into()),
            Hosting::Worker(_) | Hosting::Nowhere(_) => None,
        }
    }

    /// Becomes the state of a snapshot. Returns the object's part where a worker must take it.
    pub(crate) fn restore(&mut self, snapshot: &Snapshot) -> Result<Option<Bytes>, String> {
        let state = State::decode(&snapshot.state)?;
        self.hosted.clear();
        let mut for_worker = None;
        match (&mut self.hosting, &snapshot.object) {
            (Hosting::Native(native), Some(object)) => native.restore(object)?,
            (Hosting::Worker(_), Some(object)) => for_worker = Some(object.clone()),
            (Hosting::Nowhere(_), Some(_)) => {
                return Err("there is nowhere to put an object".into());
            }
            // As it was loaded: a snapshot without an object is the first thing that is taken in.
            (_, None) => {}
        }
        self.state = state;
        Ok(for_worker)
    }

    /// A digest of the whole state; of a worker's object, of all that it ever answered.
    pub(crate) fn digest(&self) -> u64 {
        let sessions = xxh3_64_with_seed(
            &self.state.sessions.opened().to_le_bytes(),
            self.state.sessions.len() as u64,
        );
        let object = match &self.hosting {
            Hosting::Native(object) => xxh3_64_with_seed(&object.snapshot(), sessions),
            Hosting::Worker(_) | Hosting::Nowhere(_) => sessions,
        };
        xxh3_64_with_seed(&self.state.outcomes.to_le_bytes(), object)
    }
}

impl State {
    pub(crate) fn decode(state: &[u8]) -> Result<Self, String> {
        postcard::from_bytes(state).map_err(|error| format!("the snapshot can't be read: {error}"))
    }

    pub(crate) fn contents(self) -> Contents {
        let Self { view, sessions, time_ms, calls, .. } = self;
        Contents { view, sessions: sessions.len(), calls, time_ms }
    }

    pub(crate) fn encode(&self) -> Bytes {
        if planted::is("snapshot-without-sessions") {
            let mut bare = self.clone();
            bare.sessions.forget();
            return postcard::to_stdvec(&bare).expect("memory takes all bytes").into();
        }
        postcard::to_stdvec(self).expect("memory takes all bytes").into()
    }

    fn finish(&mut self, session: SessionId, sequence: u64, outcome: &Outcome) {
        self.calls += 1;
        let (kind, bytes): (u64, &[u8]) = match outcome {
            Outcome::Returned(bytes) => (1, bytes),
            Outcome::Raised(bytes) => (2, bytes),
            Outcome::Refused(_) => (3, &[]),
        };
        let seed = session.0.rotate_left(32) ^ sequence.rotate_left(2) ^ kind;
        self.outcomes = self.outcomes.wrapping_add(xxh3_64_with_seed(bytes, seed));
        self.sessions.done(session, sequence, outcome);
    }
}

/// Decodes, runs, encodes: a call never ends in anything but an outcome.
fn run(call: &Call, method: impl FnOnce(&Arguments) -> Result<Value, Exception>) -> Outcome {
    let arguments = match Arguments::decode(&call.arguments) {
        Ok(arguments) => arguments,
        Err(error) => return Outcome::Refused(Refusal::Malformed(error.to_string())),
    };
    match method(&arguments) {
        Ok(Value::None) => Outcome::Returned(Bytes::from_static(&[0xf6])),
        Ok(value) => match value.encode() {
            Ok(bytes) if bytes.len() <= RESULT_BYTES_MAX => Outcome::Returned(bytes),
            Ok(bytes) => {
                let words = format!(
                    "the result takes {} bytes, {RESULT_BYTES_MAX} is the most",
                    bytes.len()
                );
                raised(Exception::builtin("ValueError", words))
            }
            Err(error) => raised(Exception::builtin("ValueError", error.to_string())),
        },
        Err(exception) => raised(exception),
    }
}

fn raised(exception: Exception) -> Outcome {
    let encoded = Value::Exception(Box::new(exception)).encode();
    let too_deep = || {
        Value::Exception(Box::new(Exception::builtin("ValueError", "the exception nests too deep")))
            .encode()
    };
    Outcome::Raised(encoded.or_else(|_| too_deep()).expect("a flat exception can be encoded"))
}
