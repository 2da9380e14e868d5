//! Which objects there are, and what can be asked of any of them.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::native::outcome_of;
use super::watches::Taken;
use super::{Effect, Machine};
use crate::call::{Call, CallId, Caller, ObjectName, Outcome, Refusal};
use crate::limits::OBJECTS_MAX;
use crate::object::{CREATE, INIT};
use crate::objects;
use crate::value::{Arguments, Exception, Value};
use crate::wire::REMOVE;

/// An object, by the order in which the cluster made them. That which it was started with has 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct ObjectId(pub(crate) u64);

/// Where an object lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In this process.
    Native,
    Worker,
}

/// The names of all objects that were called, but for the one that the cluster was started with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Directory {
    ids: BTreeMap<ObjectName, ObjectId>,
    names: BTreeMap<ObjectId, ObjectName>,
    /// How many were ever made.
    made: u64,
}

impl Directory {
    pub(super) fn name(&self, id: ObjectId) -> Option<&ObjectName> {
        self.names.get(&id)
    }

    fn make(&mut self, name: &ObjectName) -> ObjectId {
        self.made += 1;
        let id = ObjectId(self.made);
        self.ids.insert(name.clone(), id);
        self.names.insert(id, name.clone());
        id
    }

    fn remove(&mut self, name: &ObjectName) -> Option<ObjectId> {
        let id = self.ids.remove(name)?;
        self.names.remove(&id);
        Some(id)
    }
}

/// Begins to give every change of the object, or gives those after a step. Where there are none it
/// parks until there are, and then returns an empty list: they are there to be asked for.
const WATCH: &str = "__concoordwatch__";

/// Says who has what and who waits.
const DESCRIBE: &str = "__concoorddescribe__";

/// Lists objects.
const LIST: &str = "__concoordobjects__";

/// Names of objects that are listed at once.
const LISTED_MAX: usize = 1000;

/// Whether that is something which can be asked of any object, or of the cluster.
pub(crate) fn is_meta(method: &str) -> bool {
    [WATCH, REMOVE, CREATE, DESCRIBE, LIST].contains(&method)
}

/// Whether that leaves everything as it is.
pub(crate) fn is_meta_read(method: &str) -> bool {
    [DESCRIBE, LIST].contains(&method)
}

impl Machine {
    /// Where objects of that class live; `None` if there are none here.
    pub(super) fn place_of(&self, class: &str) -> Option<Place> {
        let is_default = class.is_empty() || class == self.interface.class;
        let hosted = || self.hosts.iter().any(|interface| interface.class == class);
        if is_default && self.natives.has_default() || !is_default && !hosted() {
            (is_default || objects::interface(class).is_some()).then_some(Place::Native)
        } else {
            Some(Place::Worker)
        }
    }

    /// The name as it is kept: the class that the cluster was started with goes without saying.
    pub(crate) fn proper(&self, name: &ObjectName) -> ObjectName {
        let is_default = name.class == self.interface.class;
        let class = if is_default { String::new() } else { name.class.clone() };
        ObjectName { class, name: name.name.clone() }
    }

    /// The object of that name, if it was made.
    pub(super) fn find(&self, name: &ObjectName) -> Option<ObjectId> {
        if name.is_default() {
            return Some(ObjectId(0));
        }
        let found = self.state.directory.ids.get(name).copied();
        found.or_else(|| {
            let proper = self.proper(name);
            if proper.is_default() {
                return Some(ObjectId(0));
            }
            self.state.directory.ids.get(&proper).copied()
        })
    }

    /// The object of that name, which is made if there is none.
    pub(super) fn object_id(&mut self, name: &ObjectName) -> Result<ObjectId, Refusal> {
        if let Some(id) = self.find(name) {
            return Ok(id);
        }
        if self.state.directory.ids.len() >= OBJECTS_MAX {
            let words = format!("the cluster has {OBJECTS_MAX} objects, and can have no more");
            return Err(Refusal::NoSuchObject(words));
        }
        let name = self.proper(name);
        Ok(self.state.directory.make(&name))
    }

    /// Does what can be asked of any object.
    pub(super) fn apply_meta(&mut self, index: u64, call: Call, then: &mut impl FnMut(Effect)) {
        if call.method == CREATE && !self.proper(&call.object).is_default() {
            match self.place_of(&call.object.class) {
                // It alone knows whether an earlier attempt has failed.
                Some(Place::Worker) => return self.host(index, call, then),
                // One that is only watched has a name, and is not there.
                Some(Place::Native) | None => {
                    let known = self.find(&call.object);
                    if !known.is_some_and(|id| self.natives.has(id)) {
                        return self.create(index, call, known.is_some(), then);
                    }
                }
            }
        }
        let (id, call) = (call.id(), &call);
        let made = match Arguments::decode(&call.arguments) {
            Err(error) => Err(Outcome::Refused(Refusal::Malformed(error.to_string()))),
            Ok(arguments) => match call.method.as_str() {
                WATCH => self.watch(call, &arguments),
                REMOVE => Ok(Some(self.remove(index, call, then))),
                CREATE => Ok(Some(Ok(Value::Bool(false)))),
                _ => Ok(Some(self.ask(&call.object, &call.method, &arguments))),
            },
        };
        match made {
            Ok(None) => {
                then(Effect::Parked(id.session, id.sequence));
            }
            Ok(Some(result)) => self.finish(id, &outcome_of(result), then),
            Err(outcome) => self.finish(id, &outcome, then),
        }
    }

    /// Makes an object that lives here; none stays where that raises, but for its name where that
    /// was known before.
    fn create(&mut self, index: u64, call: Call, known: bool, then: &mut impl FnMut(Effect)) {
        let call = Call { method: INIT.into(), ..call };
        let mut is_made = false;
        self.apply_native(index, &call, &mut |effect| {
            if let Effect::Replied(session, sequence, outcome) = &effect
                && (*session, *sequence) == (call.session, call.sequence)
            {
                is_made = matches!(outcome, Outcome::Returned(_));
            }
            then(effect);
        });
        let id = self.find(&call.object);
        if let Some(id) = id.filter(|_| !is_made) {
            self.natives.remove(id);
            if !known {
                self.state.directory.remove(&self.proper(&call.object));
            }
        }
    }

    /// Answers what only looks.
    pub(super) fn ask(
        &self,
        object: &ObjectName,
        method: &str,
        arguments: &Arguments,
    ) -> Result<Value, Exception> {
        match method {
            LIST => Ok(self.list(arguments)),
            _ => self.describe(object),
        }
    }

    /// `None` where the call is parked.
    fn watch(
        &mut self,
        call: &Call,
        arguments: &Arguments,
    ) -> Result<Option<Result<Value, Exception>>, Outcome> {
        let object = self.object_id(&call.object).map_err(Outcome::Refused)?;
        let caller = Caller { session: call.session, thread: call.thread };
        let step = self.state.step;
        let value = match arguments.positional.first() {
            None | Some(Value::None) => {
                if !self.state.watches.begin(object, caller, step) {
                    return Err(Outcome::Refused(Refusal::TooManyCalls));
                }
                Ok(Value::from(step))
            }
            Some(Value::Bool(false)) => {
                self.state.watches.end(object, caller);
                Ok(Value::None)
            }
            Some(Value::Int(after)) => {
                let after = u64::try_from(*after).unwrap_or(0);
                match self.state.watches.take(object, caller, after) {
                    Taken::TooMany => return Err(Outcome::Refused(Refusal::TooManyCalls)),
                    Taken::Changes(changes) => Ok(changes_as_value(&changes)),
                    Taken::Missed => {
                        let words = "changes were missed: look at the object, and watch it anew";
                        Err(Exception::of("concoord.exception", "WatchLostError", words))
                    }
                    Taken::Nothing => {
                        let CallId { session, sequence } = call.id();
                        if !self.state.sessions.park(session, sequence) {
                            return Err(Outcome::Refused(Refusal::TooManyCalls));
                        }
                        self.state.waits.park(call.id(), object, None);
                        self.state.watches.wait(object, call.id());
                        return Ok(None);
                    }
                }
            }
            Some(other) => {
                let words = format!("a watch goes on after an int, not {}", other.kind());
                Err(Exception::builtin("TypeError", words))
            }
        };
        Ok(Some(value))
    }

    /// The object has changed: who watches it is told.
    pub(super) fn tell(&mut self, object: ObjectId, change: &Value, then: &mut impl FnMut(Effect)) {
        if !self.state.watches.tell(object, self.state.step, change) {
            return;
        }
        // Each comes back for the changes: here they would be written down once a watcher.
        for call in self.state.watches.take_waiting(object) {
            self.state.waits.unpark(call);
            self.wake(call, outcome_of(Ok(Value::List(Vec::new()))), then);
        }
    }

    /// A call of an object of the worker is a change: what it does to the object nobody knows here.
    /// Not one that only reads, though the log may bring it, for what it says beside.
    pub(super) fn tell_call(&mut self, call: &Call, then: &mut impl FnMut(Effect)) {
        if self.state.watches.is_empty() || self.is_read_only(call) {
            return;
        }
        if let Some(id) = self.find(&call.object)
            && let Ok(arguments) = Arguments::decode(&call.arguments)
        {
            let keyword = arguments.keyword.into_iter();
            let keyword = keyword.map(|(name, value)| (Value::Str(name), value)).collect();
            let change = Value::Tuple(vec![
                Value::Str(call.method.clone()),
                Value::Tuple(arguments.positional),
                Value::Map(keyword),
            ]);
            self.tell(id, &change, then);
        }
    }

    fn remove(
        &mut self,
        index: u64,
        call: &Call,
        then: &mut impl FnMut(Effect),
    ) -> Result<Value, Exception> {
        let name = self.proper(&call.object);
        if name.is_default() {
            let words = "the object that the cluster was started with can't be removed";
            return Err(Exception::builtin("ValueError", words));
        }
        let Some(id) = self.find(&name) else { return Ok(Value::Bool(false)) };
        // The object is not asked to give them up: what one leaves would be given to another.
        for parked in self.state.waits.at(id) {
            self.state.waits.unpark(parked);
            self.state.watches.unpark(id, parked);
            let words = format!("{name} was removed");
            let exception = Exception::of("concoord.exception", "ObjectRemovedError", words);
            self.wake(parked, outcome_of(Err(exception)), then);
        }
        self.state.waits.remove(id);
        self.state.watches.remove(id);
        self.state.directory.remove(&name);
        self.natives.remove(id);
        if self.place_of(&name.class) == Some(Place::Worker) {
            self.host_removal(index, name, then);
        }
        Ok(Value::Bool(true))
    }

    fn describe(&self, name: &ObjectName) -> Result<Value, Exception> {
        let Some(id) = self.find(name) else {
            return Err(Exception::builtin("LookupError", format!("there is no {name}")));
        };
        let class = self.interface_of(&name.class).map_or("", |interface| &interface.class);
        let mut said = vec![
            ("class", Value::from(class)),
            ("name", Value::from(name.name.as_str())),
            ("parked", Value::from(self.state.waits.at(id).len())),
            ("watchers", Value::from(self.state.watches.count(id))),
        ];
        said.extend(self.natives.describe(id));
        Ok(Value::Map(said.into_iter().map(|(word, value)| (Value::from(word), value)).collect()))
    }

    /// The names after the pair in the second argument, of the class in the first one.
    fn list(&self, arguments: &Arguments) -> Value {
        let text = |value: Option<&Value>| match value {
            Some(Value::Str(text)) => text.clone(),
            _ => String::new(),
        };
        let class = text(arguments.positional.first());
        // The one without a name comes first, also where it is what was listed last.
        let begins = !matches!(arguments.positional.get(1), Some(Value::List(_) | Value::Tuple(_)));
        let after = match arguments.positional.get(1) {
            Some(Value::List(pair) | Value::Tuple(pair)) => {
                ObjectName { class: text(pair.first()), name: text(pair.get(1)) }
            }
            _ => ObjectName::default(),
        };
        let after = self.proper(&after);
        let whole = |name: &ObjectName| {
            let class = if name.class.is_empty() { &self.interface.class } else { &name.class };
            (class.clone(), name.name.clone())
        };
        let rest = (Bound::Excluded(&after), Bound::Unbounded);
        let rest = self.state.directory.ids.range::<ObjectName, _>(rest).map(|(name, _)| name);
        let first = begins.then(ObjectName::default);
        let names = first.iter().chain(rest).map(whole);
        let names = names.filter(|(of, _)| class.is_empty() || *of == class).take(LISTED_MAX);
        let pair = |(class, name)| Value::Tuple(vec![Value::Str(class), Value::Str(name)]);
        Value::List(names.map(pair).collect())
    }
}

/// A list of steps, each with its changes.
fn changes_as_value(changes: &[(u64, Vec<Bytes>)]) -> Value {
    let decoded = |change: &Bytes| Value::decode(change).unwrap_or(Value::None);
    let step = |(step, changes): &(u64, Vec<Bytes>)| {
        Value::Tuple(vec![Value::from(*step), Value::List(changes.iter().map(decoded).collect())])
    };
    Value::List(changes.iter().map(step).collect())
}

impl Call {
    /// Which call it is.
    #[must_use]
    pub const fn id(&self) -> CallId {
        CallId { session: self.session, sequence: self.sequence }
    }
}
