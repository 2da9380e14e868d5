//! The objects that live in this process: their steps, and what those lead to.

use std::collections::BTreeMap;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::directory::{ObjectId, Place, is_meta_read};
use super::waits::Due;
use super::{Effect, Machine};
use crate::call::{Call, CallId, ObjectName, Outcome, Refusal, SessionId};
use crate::limits::RESULT_BYTES_MAX;
use crate::object::{Context, Deed, Object, Reply};
use crate::objects;
use crate::value::{Arguments, Exception, Value};

#[derive(Default)]
pub(super) struct Natives {
    /// The one that the cluster was started with, if it lives here. It is never removed.
    default: Option<Box<dyn Object>>,
    made: BTreeMap<ObjectId, Box<dyn Object>>,
}

impl Natives {
    pub(super) fn new(default: Option<Box<dyn Object>>) -> Self {
        Self { default, made: BTreeMap::new() }
    }

    pub(super) const fn has_default(&self) -> bool {
        self.default.is_some()
    }

    fn get(&self, id: ObjectId) -> Option<&dyn Object> {
        let default = self.default.as_ref().filter(|_| id == ObjectId(0));
        default.or_else(|| self.made.get(&id)).map(AsRef::as_ref)
    }

    fn get_mut(&mut self, id: ObjectId) -> Option<&mut Box<dyn Object>> {
        let default = self.default.as_mut().filter(|_| id == ObjectId(0));
        default.or_else(|| self.made.get_mut(&id))
    }

    pub(super) fn has(&self, id: ObjectId) -> bool {
        self.get(id).is_some()
    }

    pub(super) fn remove(&mut self, id: ObjectId) {
        self.made.remove(&id);
    }

    pub(super) fn describe(&self, id: ObjectId) -> Vec<(&'static str, Value)> {
        self.get(id).map(Object::describe).unwrap_or_default()
    }

    /// All of them as bytes.
    pub(super) fn encode(&self) -> Vec<(ObjectId, Bytes)> {
        let default = self.default.iter().map(|object| (ObjectId(0), object.snapshot().into()));
        let made = self.made.iter().map(|(id, object)| (*id, object.snapshot().into()));
        default.chain(made).collect()
    }

    /// Becomes what those bytes say; where they can't be read, nothing has changed but perhaps
    /// the object that the cluster was started with.
    pub(super) fn restore<'a>(
        &mut self,
        natives: Vec<(ObjectId, Bytes)>,
        class: impl Fn(ObjectId) -> Option<&'a str>,
    ) -> Result<(), String> {
        let mut made = BTreeMap::new();
        for (id, state) in natives {
            if id == ObjectId(0) {
                let default = self.default.as_mut();
                default.ok_or("the snapshot is of an object that lives here")?.restore(&state)?;
                continue;
            }
            let class = class(id).ok_or("the snapshot holds an object without a name")?;
            let mut object = self.fresh(class).ok_or("the snapshot is of an unknown class")?;
            object.restore(&state)?;
            made.insert(id, object);
        }
        self.made = made;
        Ok(())
    }

    /// A new object of that class; the empty name is that of the one the cluster was started with.
    fn fresh(&self, class: &str) -> Option<Box<dyn Object>> {
        if class.is_empty() {
            return objects::stock(&self.default.as_ref()?.interface().class);
        }
        objects::stock(class)
    }
}

impl Machine {
    pub(super) fn apply_native(&mut self, index: u64, call: &Call, then: &mut impl FnMut(Effect)) {
        let id = call.id();
        let object = match self.native(&call.object) {
            Ok(object) => object,
            Err(refusal) => return self.finish(id, &Outcome::Refused(refusal), then),
        };
        let made = self.step(index, object, (id, call.thread), |native, context| {
            run(call, |arguments| native.apply(&call.method, arguments, context))
        });
        let Some((made, deeds)) = made else { return };
        match made {
            Ok(Ok(Reply::Parked { until })) => {
                if self.state.sessions.park(id.session, id.sequence) {
                    self.state.waits.park(id, object, until);
                    then(Effect::Parked(id.session, id.sequence));
                    self.take(object, deeds, then);
                } else {
                    self.take(object, deeds, then);
                    self.give_up(index, object, id, then);
                    self.finish(id, &Outcome::Refused(Refusal::TooManyCalls), then);
                }
            }
            Ok(Ok(Reply::Value(value))) => {
                self.finish(id, &outcome_of(Ok(value)), then);
                self.take(object, deeds, then);
            }
            Ok(Err(exception)) => {
                self.finish(id, &outcome_of(Err(exception)), then);
                self.take(object, deeds, then);
            }
            Err(refusal) => self.finish(id, &Outcome::Refused(refusal), then),
        }
    }

    /// The object of that name, which is made if there is none.
    fn native(&mut self, name: &ObjectName) -> Result<ObjectId, Refusal> {
        let id = self.object_id(name)?;
        if !self.natives.has(id) {
            let class = self.proper(name).class;
            let object = self.natives.fresh(&class).ok_or_else(|| super::unknown(name))?;
            self.natives.made.insert(id, object);
        }
        Ok(id)
    }

    /// Has an object make a step; `None` if it is not there. Says what the step led to.
    fn step<T>(
        &mut self,
        index: u64,
        object: ObjectId,
        (call, thread): (CallId, u64),
        step: impl FnOnce(&mut dyn Object, &mut Context<'_>) -> T,
    ) -> Option<(T, Vec<Deed>)> {
        let moment = self.moment(index);
        let native = self.natives.get_mut(object)?;
        let mut deeds = Vec::new();
        let mut context = Context::new(moment, call, thread, &mut deeds);
        let made = step(native.as_mut(), &mut context);
        self.state.step = context.last_step();
        Some((made, deeds))
    }

    /// The same, where nothing comes of the step but what it leads to.
    fn step_by_itself(
        &mut self,
        index: u64,
        object: ObjectId,
        call: CallId,
        then: &mut impl FnMut(Effect),
        step: impl FnOnce(&mut dyn Object, &mut Context<'_>),
    ) {
        if let Some(((), deeds)) = self.step(index, object, (call, 0), step) {
            self.take(object, deeds, then);
        }
    }

    /// Does what a step of that object led to.
    fn take(&mut self, object: ObjectId, deeds: Vec<Deed>, then: &mut impl FnMut(Effect)) {
        for deed in deeds {
            match deed {
                Deed::Answer(call, result) => {
                    // Where a call asks for it that is refused, it never was parked.
                    if self.state.waits.unpark(call).is_some() {
                        self.wake(call, outcome_of(result), then);
                    }
                }
                Deed::Hold(session) => self.state.waits.hold(session, object),
                Deed::Free(session) => self.state.waits.free(session, object),
                Deed::Bell(bell, at) => self.state.waits.set_bell(object, bell, at),
                Deed::Hush(bell) => self.state.waits.hush(object, bell),
                Deed::Tell(change) => self.tell(object, &change, then),
            }
        }
    }

    /// Does what is due by the clock, in order.
    pub(super) fn ring_due(&mut self, index: u64, then: &mut impl FnMut(Effect)) {
        while let Some(due) = self.state.waits.take_due(self.state.clock_ms) {
            match due {
                Due::Bell(object, bell) => {
                    let call = CallId::default();
                    self.step_by_itself(index, object, call, then, |native, context| {
                        native.ring(bell, context);
                    });
                }
                Due::Deadline(call) => {
                    let Some(object) = self.state.waits.unpark(call) else { continue };
                    let made = self.step(index, object, (call, 0), |native, context| {
                        native.timed_out(call, context)
                    });
                    let Some((result, deeds)) = made else { continue };
                    self.wake(call, outcome_of(result), then);
                    self.take(object, deeds, then);
                }
            }
        }
    }

    /// Has a parked call wait no more, unless it does not.
    pub(super) fn unpark(&mut self, index: u64, call: CallId, then: &mut impl FnMut(Effect)) {
        if let Some(object) = self.state.waits.unpark(call)
            && !self.state.watches.unpark(object, call)
        {
            self.give_up(index, object, call, then);
        }
    }

    fn give_up(
        &mut self,
        index: u64,
        object: ObjectId,
        call: CallId,
        then: &mut impl FnMut(Effect),
    ) {
        self.step_by_itself(index, object, call, then, |native, context| {
            native.cancelled(call, context);
        });
    }

    /// Has an object release what that session held, which is over.
    pub(super) fn lose(
        &mut self,
        index: u64,
        object: ObjectId,
        session: SessionId,
        then: &mut impl FnMut(Effect),
    ) {
        let call = CallId { session, sequence: 0 };
        self.step_by_itself(index, object, call, then, |native, context| {
            native.lost(session, context);
        });
    }

    /// Whether what was given out under that token is still held.
    pub(super) fn guards(&self, name: &ObjectName, token: u64) -> bool {
        let native = self.find(name).and_then(|id| self.natives.get(id));
        native.is_some_and(|native| native.guards(token))
    }

    /// Whether a call leaves everything as it is.
    pub(crate) fn is_read_only(&self, call: &Call) -> bool {
        let of_class = || self.interface_of(&call.object.class);
        is_meta_read(&call.method)
            || of_class().is_some_and(|interface| interface.is_read_only(&call.method))
    }

    /// Answers a read-only call, but for that of an object of the worker.
    pub(crate) fn read(&self, call: &Call) -> Option<Outcome> {
        if !self.state.sessions.contains(call.session) {
            return Some(Outcome::Refused(Refusal::SessionExpired));
        }
        let place = match self.place(call) {
            Ok(place) => place,
            Err(refusal) => return Some(Outcome::Refused(refusal)),
        };
        let made = if is_meta_read(&call.method) {
            run(call, |arguments| self.ask(&call.object, &call.method, arguments))
        } else if place == Place::Worker {
            return None;
        } else {
            run(call, |arguments| {
                match self.find(&call.object).and_then(|id| self.natives.get(id)) {
                    Some(native) => native.read(&call.method, arguments),
                    None => {
                        // As it would be if it were made now: to look makes nothing.
                        let fresh = self.natives.fresh(&self.proper(&call.object).class);
                        let fresh = fresh.ok_or_else(|| {
                            Exception::builtin(
                                "LookupError",
                                format!("there is no {}", call.object),
                            )
                        })?;
                        fresh.read(&call.method, arguments)
                    }
                }
            })
        };
        Some(match made {
            Ok(result) => outcome_of(result),
            Err(refusal) => Outcome::Refused(refusal),
        })
    }

    /// A digest of the whole state; of a worker's objects, of all that they ever answered.
    ///
    /// 0 while the worker has calls to run: then this holds more than the entries whose calls have
    /// all run, and no two replicas need be as far with the rest.
    pub(crate) fn digest(&self) -> u64 {
        if !self.hosted.is_empty() {
            return 0;
        }
        let natives = self.natives.encode();
        let objects =
            natives.iter().fold(0, |seed, (id, state)| xxh3_64_with_seed(state, seed ^ id.0));
        self.state.digest(objects)
    }
}

/// Decodes the arguments and runs.
fn run<T>(
    call: &Call,
    method: impl FnOnce(&Arguments) -> Result<T, Exception>,
) -> Result<Result<T, Exception>, Refusal> {
    let arguments = Arguments::decode(&call.arguments);
    arguments
        .map(|arguments| method(&arguments))
        .map_err(|error| Refusal::Malformed(error.to_string()))
}

/// How a call ends that comes to this: never in anything but an outcome.
pub(super) fn outcome_of(result: Result<Value, Exception>) -> Outcome {
    match result {
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
