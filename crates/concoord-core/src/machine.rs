//! The replicated state: the objects, the sessions, the view, and how the log changes them.
//!
//! Everything here is the same on every replica that has applied as much, but for calls that a
//! worker has not finished.

mod directory;
mod native;
mod state;
#[cfg(test)]
mod tests;
mod waits;
mod watches;

use std::collections::BTreeMap;

use bytes::Bytes;

use self::directory::Place;
pub(crate) use self::directory::{ObjectId, is_meta};
use self::native::Natives;
pub(crate) use self::state::{Frozen, State};
use crate::call::{Call, CallId, ConnectionId, ObjectName, Outcome, Refusal, SessionId};
use crate::durable::Snapshot;
use crate::log::Command;
use crate::object::{Interface, Moment, Object};
use crate::objects;
use crate::planted;
use crate::session::{Fate, Verdict};
use crate::view::{ReplicaId, View};
use crate::wire::{CANCEL, Done, HostedCall, LOST, REMOVE, STEPS, WAKE};

/// What a cluster hosts beside the objects that come ready-made.
pub struct Hosting {
    /// The object that the cluster is started with, where it lives in this process.
    pub object: Option<Box<dyn Object>>,
    /// The classes of the worker, which does what
    /// [`Action::Worker`](crate::replica::Action::Worker) says, as it told after it had loaded
    /// them. Without an object above, the first is that of the object that the cluster is started
    /// with.
    pub worker: Vec<Interface>,
    /// At a witness, which hosts nothing: the class of that object is all that it knows.
    pub witness: Option<Interface>,
}

impl Hosting {
    /// An object in this process, and nothing in a worker.
    #[must_use]
    pub fn native(object: Box<dyn Object>) -> Self {
        Self { object: Some(object), worker: Vec::new(), witness: None }
    }

    /// Objects of these classes in a worker.
    #[must_use]
    pub const fn worker(classes: Vec<Interface>) -> Self {
        Self { object: None, worker: classes, witness: None }
    }

    /// Nothing, at a witness of a cluster of objects of that class.
    #[must_use]
    pub const fn nowhere(class: Interface) -> Self {
        Self { object: None, worker: Vec::new(), witness: Some(class) }
    }

    /// What the object offers that the cluster is started with.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn interface(&self) -> &Interface {
        let hosted = || {
            let class = self.worker.first().or(self.witness.as_ref());
            class.expect("a cluster is started with an object")
        };
        self.object.as_ref().map_or_else(hosted, |object| object.interface())
    }
}

/// Bytes that a call which the worker has not done takes beside its arguments, about: here, and
/// where it is kept until the worker has.
const HOSTED_BYTES: usize = 256;

pub(crate) struct Machine {
    /// Of the object that the cluster is started with.
    interface: Interface,
    /// What the worker hosts.
    hosts: Vec<Interface>,
    natives: Natives,
    pub(crate) state: State,
    /// Calls with the worker, by the number they were given to it under.
    hosted: BTreeMap<u64, Hosted>,
    /// Bytes of these, about.
    hosted_bytes: usize,
    given: u64,
    /// When the next timer of the worker is due, as far as it has said.
    worker_due: Option<u64>,
}

/// A call that the worker runs.
#[derive(Clone, Copy)]
struct Hosted {
    index: u64,
    step: u64,
    call: CallId,
    /// Bytes of its arguments.
    bytes: usize,
    /// The call that this cancels.
    cancels: Option<CallId>,
}

/// What applying an entry leads to outside of the state.
pub(crate) enum Effect {
    Opened(ReplicaId, ConnectionId, Result<SessionId, Refusal>),
    Replied(SessionId, u64, Outcome),
    Parked(SessionId, u64),
    Ended(SessionId, Ending),
    /// The worker shall run this call of the entry; those of one entry belong together.
    Host(HostedCall),
    /// The worker shall leave out the call of that number.
    Skip(u64),
    /// After this entry the worker shall settle its state.
    Settle,
    /// A call has run here, and the log has decided that it runs nowhere.
    Astray,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Closed,
    Expired,
}

impl Machine {
    pub(crate) fn new(hosting: Hosting, view: View) -> Self {
        Self {
            interface: hosting.interface().clone(),
            // Its first object may have set timers as it was made: the worker is asked once.
            worker_due: (!hosting.worker.is_empty()).then_some(0),
            hosts: hosting.worker,
            natives: Natives::new(hosting.object),
            state: State::new(view),
            hosted: BTreeMap::new(),
            hosted_bytes: 0,
            given: 0,
        }
    }

    /// What the object offers that the cluster was started with.
    pub(crate) const fn interface(&self) -> &Interface {
        &self.interface
    }

    /// What objects of that class offer; the empty name is that of the class above.
    pub(crate) fn interface_of(&self, class: &str) -> Option<&Interface> {
        if class.is_empty() || class == self.interface.class {
            return Some(&self.interface);
        }
        let hosted = self.hosts.iter().find(|interface| interface.class == class);
        hosted.or_else(|| objects::interface(class))
    }

    /// An entry begins, of that time: what is due by its clock is done first.
    pub(crate) fn begin(
        &mut self,
        index: u64,
        time_ms: u64,
        clock_ms: u64,
        then: &mut impl FnMut(Effect),
    ) {
        self.state.time_ms = self.state.time_ms.max(time_ms);
        self.state.clock_ms = self.state.clock_ms.max(clock_ms);
        self.ring_due(index, then);
    }

    /// Applies a command of the entry at `index`, which has [begun](Self::begin).
    pub(crate) fn apply(&mut self, index: u64, command: Command, then: &mut impl FnMut(Effect)) {
        match command {
            Command::Open(replica, connection) => {
                let opened = self.state.sessions.open(self.state.view.lineage);
                then(Effect::Opened(replica, connection, opened));
            }
            Command::Call(call) => self.apply_call(index, call, then),
            Command::Cancel(call) => self.cancel(index, call, then),
            Command::Close(session) => {
                self.end(index, session, then);
                then(Effect::Ended(session, Ending::Closed));
            }
            Command::Expire(session) => {
                if self.end(index, session, then) {
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
                let call = CallId { session, sequence };
                if let Some((number, _)) = self.hosted.iter().find(|(_, it)| it.call == call) {
                    then(Effect::Skip(*number));
                } else if self.fate(session, sequence) == Fate::Ran {
                    then(Effect::Astray);
                }
            }
            Command::Wake => {
                // Natives' timers have rung as the entry began.
                if !self.hosts.is_empty() {
                    self.host_step(index, SessionId(0), WAKE, then);
                }
            }
        }
    }

    fn apply_call(&mut self, index: u64, call: Call, then: &mut impl FnMut(Effect)) {
        let (session, sequence) = (call.session, call.sequence);
        match self.state.sessions.admit(&call) {
            Verdict::Answer(outcome) => then(Effect::Replied(session, sequence, outcome)),
            Verdict::Wait => {}
            Verdict::Parked => then(Effect::Parked(session, sequence)),
            Verdict::Run => match self.place(&call) {
                Err(refusal) => {
                    let outcome = Outcome::Refused(refusal);
                    self.finish(call.id(), &outcome, then);
                }
                Ok(_) if is_meta(&call.method) => self.apply_meta(index, call, then),
                Ok(Place::Native) => self.apply_native(index, &call, then),
                Ok(Place::Worker) => self.host(index, call, then),
            },
        }
    }

    /// Where the call's object lives, and whether its guard holds.
    fn place(&self, call: &Call) -> Result<Place, Refusal> {
        if STEPS.contains(&call.method.as_str()) {
            let (class, method) = (self.interface.class.clone(), call.method.clone());
            return Err(Refusal::NoSuchMethod { class, method });
        }
        if let Some(guard) = &call.guard
            && !self.guards(&guard.object, guard.token)
            && !planted::is("guard-unchecked")
        {
            let (object, token) = (guard.object.to_string(), guard.token);
            return Err(Refusal::Fenced { object, token });
        }
        self.place_of(&call.object.class).ok_or_else(|| unknown(&call.object))
    }

    /// Gives the call to the worker.
    fn host(&mut self, index: u64, call: Call, then: &mut impl FnMut(Effect)) {
        let id = call.id();
        self.state.step += 1;
        self.tell_call(&call, then);
        if let Err(refusal) = self.object_id(&call.object) {
            return self.finish(id, &Outcome::Refused(refusal), then);
        }
        self.state.sessions.running(id.session, id.sequence);
        let bytes = call.arguments.len();
        let step = self.state.step;
        let number = self.give(Hosted { index, step, call: id, bytes, cancels: None });
        then(Effect::Host(HostedCall {
            number,
            call: id,
            thread: call.thread,
            object: self.proper(&call.object),
            method: call.method,
            arguments: call.arguments,
        }));
    }

    /// Has the worker do something that no client called for.
    fn host_step(
        &mut self,
        index: u64,
        session: SessionId,
        method: &str,
        then: &mut impl FnMut(Effect),
    ) {
        let call = CallId { session, sequence: 0 };
        self.host_as(index, call, ObjectName::default(), method, then);
    }

    /// Has the worker forget an object.
    fn host_removal(&mut self, index: u64, object: ObjectName, then: &mut impl FnMut(Effect)) {
        self.host_as(index, CallId::default(), object, REMOVE, then);
    }

    /// The same, about a call. Where a worker dies of it, it goes by the number of its step.
    fn host_as(
        &mut self,
        index: u64,
        call: CallId,
        object: ObjectName,
        method: &str,
        then: &mut impl FnMut(Effect),
    ) {
        self.state.step += 1;
        let step = self.state.step;
        let own = CallId { session: SessionId(0), sequence: step };
        let cancels = (method == CANCEL).then_some(call);
        let number = self.give(Hosted { index, step, call: own, bytes: 0, cancels });
        then(Effect::Host(HostedCall {
            number,
            call,
            thread: 0,
            object,
            method: method.into(),
            arguments: Bytes::new(),
        }));
    }

    fn give(&mut self, hosted: Hosted) -> u64 {
        let number = self.number();
        self.hosted_bytes += hosted.bytes + HOSTED_BYTES;
        self.hosted.insert(number, hosted);
        number
    }

    /// The first call that the worker has not done, and the last number that it was given.
    pub(crate) fn undone(&self) -> (Option<u64>, u64) {
        (self.hosted.first_key_value().map(|(number, _)| *number), self.given)
    }

    /// Bytes of the calls that the worker has not done, about.
    pub(crate) const fn undone_bytes(&self) -> usize {
        self.hosted_bytes
    }

    /// The next number for the worker.
    pub(crate) const fn number(&mut self) -> u64 {
        self.given += 1;
        self.given
    }

    /// The worker has done something. While a snapshot is being made, its part of the state is
    /// kept up to date as well. Says what clients are to be told; `None` for the number of a read.
    pub(crate) fn done(
        &mut self,
        done: Done,
        frozen: Option<&mut State>,
    ) -> Option<Option<Effect>> {
        let number = done.number();
        let Hosted { call, bytes, cancels, .. } = *self.hosted.get(&number)?;
        if done.is_last() {
            self.hosted.remove(&number);
            self.hosted_bytes -= bytes + HOSTED_BYTES;
        }
        // An object may have forgotten that a call waits: who cancels it must not.
        let ghost =
            cancels.filter(|ghost| self.state.sessions.is_parked(ghost.session, ghost.sequence));
        let states = std::iter::once(&mut self.state).chain(frozen);
        let effect = match done {
            Done::Ended(..) | Done::Parked(_) if call.session.0 == 0 => {
                let crashed = Done::Ended(number, Outcome::Refused(Refusal::ObjectCrashed));
                if done == crashed {
                    states.for_each(|state| state.skipped(call.sequence));
                    return Some(None);
                }
                let Some(ghost) = ghost else { return Some(None) };
                let outcome = Outcome::Refused(Refusal::Cancelled);
                states.for_each(|state| state.wake(ghost, &outcome));
                Effect::Replied(ghost.session, ghost.sequence, outcome)
            }
            Done::Ended(_, outcome) => {
                states.for_each(|state| state.finish(call, &outcome));
                Effect::Replied(call.session, call.sequence, outcome)
            }
            Done::Parked(_) => {
                states.for_each(|state| {
                    state.sessions.parked_late(call.session, call.sequence);
                });
                Effect::Parked(call.session, call.sequence)
            }
            Done::Woken(_, call, outcome) => {
                states.for_each(|state| state.wake(call, &outcome));
                Effect::Replied(call.session, call.sequence, outcome)
            }
        };
        Some(Some(effect))
    }

    /// When the next timer of the worker is due.
    pub(crate) const fn worker_is_due(&mut self, at: Option<u64>) {
        self.worker_due = at;
    }

    /// When something is due that an entry must bring.
    pub(crate) fn due(&self) -> Option<u64> {
        self.state.waits.next().into_iter().chain(self.worker_due).min()
    }

    /// The call that the worker has under that number.
    pub(crate) fn hosted(&self, number: u64) -> Option<(SessionId, u64)> {
        self.hosted.get(&number).map(|hosted| (hosted.call.session, hosted.call.sequence))
    }

    /// How that call ended here.
    pub(crate) fn fate(&self, session: SessionId, sequence: u64) -> Fate {
        let call = CallId { session, sequence };
        if self.hosted.values().any(|hosted| hosted.call == call) {
            return Fate::Unknown;
        }
        if session.0 == 0 {
            return self.state.fate_of_step(sequence);
        }
        self.state.sessions.fate(session, sequence)
    }

    /// The last entry whose calls have all run, given the last one that was applied.
    pub(crate) fn finished(&self, applied: u64) -> u64 {
        self.hosted.first_key_value().map_or(applied, |(_, hosted)| hosted.index - 1)
    }

    /// The last step up to which all have run; every replica counts the same ones.
    pub(crate) fn last_run(&self) -> u64 {
        self.hosted.first_key_value().map_or(self.state.step, |(_, hosted)| hosted.step - 1)
    }

    /// Whether a worker must be asked for the objects' state, too.
    pub(crate) fn has_worker(&self) -> bool {
        !self.hosts.is_empty()
    }

    /// The state at this moment, but for what a worker has.
    pub(crate) fn freeze(&self) -> Frozen {
        Frozen { state: self.state.clone(), natives: self.natives.encode() }
    }

    /// Becomes the state of a snapshot. Returns the part that a worker must take.
    pub(crate) fn restore(&mut self, snapshot: &Snapshot) -> Result<Option<Bytes>, String> {
        let (state, natives) = State::decode(&snapshot.state)?;
        let class = |id: ObjectId| state.directory.name(id).map(|name| name.class.as_str());
        self.natives.restore(natives, class)?;
        self.hosted.clear();
        self.hosted_bytes = 0;
        // It may have timers: it says so when it is next asked for anything.
        self.worker_due = self.has_worker().then_some(state.clock_ms);
        self.state = state;
        Ok(snapshot.object.clone().filter(|_| self.has_worker()))
    }

    /// Where in the history the next step is.
    fn moment(&mut self, index: u64) -> Moment {
        self.state.step += 1;
        let State { step, time_ms, clock_ms, .. } = self.state;
        Moment { index, step, time_ms, clock_ms }
    }

    /// That call has ended.
    fn finish(&mut self, call: CallId, outcome: &Outcome, then: &mut impl FnMut(Effect)) {
        self.state.finish(call, outcome);
        then(Effect::Replied(call.session, call.sequence, outcome.clone()));
    }

    /// That call, which was parked, has ended.
    fn wake(&mut self, call: CallId, outcome: Outcome, then: &mut impl FnMut(Effect)) {
        self.state.wake(call, &outcome);
        then(Effect::Replied(call.session, call.sequence, outcome));
    }

    /// Nobody wants the reply of that call any more.
    fn cancel(&mut self, index: u64, call: CallId, then: &mut impl FnMut(Effect)) {
        let CallId { session, sequence } = call;
        if !self.state.sessions.contains(session) {
            let outcome = Outcome::Refused(Refusal::SessionExpired);
            return then(Effect::Replied(session, sequence, outcome));
        }
        if self.state.waits.is_parked(call) {
            self.unpark(index, call, then);
            self.wake(call, Outcome::Refused(Refusal::Cancelled), then);
        } else if self.state.sessions.forestall(session, sequence) {
            let outcome = Outcome::Refused(Refusal::Cancelled);
            then(Effect::Replied(session, sequence, outcome));
        } else if self.has_worker() {
            self.host_as(index, call, ObjectName::default(), CANCEL, then);
        }
        if let Some(outcome) = self.state.sessions.outcome(session, sequence) {
            then(Effect::Replied(session, sequence, outcome.clone()));
        }
    }

    /// Ends a session: all that it held is released. False if there was none.
    fn end(&mut self, index: u64, session: SessionId, then: &mut impl FnMut(Effect)) -> bool {
        if !self.state.sessions.close(session) {
            return false;
        }
        for call in self.state.waits.of_session(session) {
            self.unpark(index, call, then);
        }
        self.state.watches.end_session(session);
        for object in self.state.waits.take_held(session) {
            self.lose(index, object, session, then);
        }
        if self.has_worker() {
            self.host_step(index, session, LOST, then);
        }
        true
    }
}

/// Why there is no such object.
pub(crate) fn unknown(object: &ObjectName) -> Refusal {
    Refusal::NoSuchObject(format!(
        "the cluster hosts no objects of {}: replicas are started with -o for each class that \
         does not come with ConCoord",
        object.class.chars().take(64).collect::<String>()
    ))
}
