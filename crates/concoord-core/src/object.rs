//! What an object must be able to do to be replicated.

use serde::{Deserialize, Serialize};

use crate::call::{CallId, Caller, SessionId};
use crate::value::{Arguments, Exception, Value};

/// Where in the history of the cluster something is applied: the same on every replica.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moment {
    /// The log index of the entry that is applied.
    pub index: u64,
    /// The number of this step: more than that of any step before it, in all of the cluster's
    /// life. An entry carries many calls, and each of them is a step.
    pub step: u64,
    /// The time of the leader that proposed the entry, milliseconds since 1970, never going back.
    pub time_ms: u64,
    /// What deadlines are measured by, milliseconds: goes on while there is a leader, stands
    /// still while there is none, and never jumps, whatever the clocks of the replicas do.
    pub clock_ms: u64,
}

/// What an object does besides answering the call that is applied.
#[derive(Clone, Debug, PartialEq)]
pub enum Deed {
    /// That parked call ends so. It must be parked at this object.
    Answer(CallId, Result<Value, Exception>),
    /// That session holds something here, once more: its end is to be told.
    Hold(SessionId),
    /// It holds something less.
    Free(SessionId),
    /// Ring this bell ([`Object::ring`]) at that time of the clock; a bell rings once. One of the
    /// same number that has not rung is put off or brought forward.
    Bell(u64, u64),
    /// That bell shall not ring.
    Hush(u64),
    /// Who watches the object shall learn this.
    Tell(Value),
}

/// What surrounds a step of an object: when and for whom it is, and what it leads to.
#[derive(Debug)]
pub struct Context<'a> {
    /// When.
    pub moment: Moment,
    /// For whom, where the step is a call.
    pub caller: Caller,
    /// Which call, where the step is one.
    pub call: CallId,
    /// How many tokens were given out.
    tokens: u64,
    deeds: &'a mut Vec<Deed>,
}

impl<'a> Context<'a> {
    /// The surroundings of a call; what it leads to is added to `deeds`.
    #[must_use]
    pub const fn new(moment: Moment, call: CallId, thread: u64, deeds: &'a mut Vec<Deed>) -> Self {
        Self { moment, caller: Caller { session: call.session, thread }, call, tokens: 0, deeds }
    }

    /// Ends a call that is parked at this object.
    pub fn answer(&mut self, parked: CallId, result: Result<Value, Exception>) {
        self.deeds.push(Deed::Answer(parked, result));
    }

    /// A fencing token for something that is given out now: more than any that any object of the
    /// cluster gave out before. The first of a step is the number of that step.
    pub const fn token(&mut self) -> u64 {
        self.tokens += 1;
        self.last_step()
    }

    /// The number of this step, or that of the last token that it gave out, which count as steps.
    #[must_use]
    pub const fn last_step(&self) -> u64 {
        self.moment.step + self.tokens.saturating_sub(1)
    }

    /// Makes sure that the object learns of the end of that session ([`Object::lost`]). Counted:
    /// to be called once for each thing that the session gets. Parked calls count by themselves.
    pub fn hold(&mut self, session: SessionId) {
        self.deeds.push(Deed::Hold(session));
    }

    /// The session has one thing less; the counterpart of [`Context::hold`]. Not to be called in
    /// [`Object::lost`] for the session that is lost.
    pub fn free(&mut self, session: SessionId) {
        self.deeds.push(Deed::Free(session));
    }

    /// Has [`Object::ring`] be called with that number once the clock shows `clock_ms`.
    pub fn bell(&mut self, number: u64, clock_ms: u64) {
        self.deeds.push(Deed::Bell(number, clock_ms));
    }

    /// Stops a bell that has not rung.
    pub fn hush(&mut self, number: u64) {
        self.deeds.push(Deed::Hush(number));
    }

    /// Tells who watches the object of a change, in words that its class documents.
    pub fn tell(&mut self, change: Value) {
        self.deeds.push(Deed::Tell(change));
    }

    /// The time of the clock in so many milliseconds; [`u64::MAX`] stands for never.
    #[must_use]
    pub const fn after(&self, ms: u64) -> u64 {
        self.moment.clock_ms.saturating_add(ms)
    }
}

/// What a method comes to.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// It returns this.
    Value(Value),
    /// It waits. The object remembers [`Context::call`] and ends the call later by
    /// [`Context::answer`], at the latest when [`Object::timed_out`] is called for it.
    Parked {
        /// When, by the clock, it has waited for long enough; `None` for never.
        until: Option<u64>,
    },
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        Self::Value(value)
    }
}

/// An object that every replica holds a copy of.
///
/// `apply` and the other steps run on every replica, in log order. What they return and do depends
/// on the object, the arguments and the context and on nothing else: no clock, no random number,
/// no file. A copy that can't keep this promise must panic rather than go on and differ from the
/// others.
pub trait Object: Send {
    /// The methods and which of them only read.
    fn interface(&self) -> &'static Interface;

    /// Runs a method that may change the object.
    ///
    /// # Errors
    /// The exception that the method raised. The object is as it was before the call.
    fn apply(
        &mut self,
        method: &str,
        arguments: &Arguments,
        context: &mut Context<'_>,
    ) -> Result<Reply, Exception>;

    /// Runs a method that [`Interface::is_read_only`] says leaves the object as it is.
    ///
    /// # Errors
    /// The exception that the method raised.
    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception>;

    /// That call, parked here, has waited for long enough: it waits no more, and this is what it
    /// comes to. It never gets later what it waited for.
    ///
    /// # Errors
    /// The exception that its method raises then.
    fn timed_out(&mut self, parked: CallId, context: &mut Context<'_>) -> Result<Value, Exception> {
        self.cancelled(parked, context);
        Ok(Value::Bool(false))
    }

    /// Nobody wants the reply of that call any more, which is parked here: it waits no more, and
    /// never gets what it waited for.
    fn cancelled(&mut self, _parked: CallId, _context: &mut Context<'_>) {}

    /// That session is over: what it held is released. Its parked calls were
    /// [cancelled](Object::cancelled) before.
    fn lost(&mut self, _session: SessionId, _context: &mut Context<'_>) {}

    /// A bell rings that was set by [`Context::bell`].
    fn ring(&mut self, _bell: u64, _context: &mut Context<'_>) {}

    /// Whether what was given out under that fencing token is still held.
    fn guards(&self, _token: u64) -> bool {
        false
    }

    /// Who has what and who waits, for operators: words that say what each value means.
    fn describe(&self) -> Vec<(&'static str, Value)> {
        Vec::new()
    }

    /// The whole state, such that two equal objects give equal bytes.
    fn snapshot(&self) -> Vec<u8>;

    /// Becomes what [`Object::snapshot`] wrote.
    ///
    /// # Errors
    /// A sentence on what is wrong with the bytes; the object is then as it was before.
    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String>;
}

/// What a class offers: enough to make a proxy of it without having it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The dotted name, `module.Class`.
    pub class: String,
    /// The class's docstring.
    pub doc: String,
    /// The public methods, `__init__` (as `__concoordinit__`) among them, in order of definition.
    pub methods: Vec<Method>,
}

impl Interface {
    /// The method of that name.
    #[must_use]
    pub fn method(&self, name: &str) -> Option<&Method> {
        self.methods.iter().find(|method| method.name == name)
    }

    /// Whether the method is there and only reads.
    #[must_use]
    pub fn is_read_only(&self, name: &str) -> bool {
        self.method(name).is_some_and(|method| method.read_only)
    }
}

/// A method that clients may call.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Method {
    /// The name.
    pub name: String,
    /// The docstring.
    pub doc: String,
    /// The parameters after `self`.
    pub parameters: Vec<Parameter>,
    /// The return annotation as Python source; empty where there is none.
    pub returns: String,
    /// Whether it leaves the object as it is and so may skip the log.
    pub read_only: bool,
}

/// A parameter of a method.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// The name, without stars.
    pub name: String,
    /// How arguments bind to it.
    pub kind: ParameterKind,
    /// The default as Python source (`repr`); `None` where an argument is required.
    pub default: Option<String>,
    /// The annotation as Python source; empty where there is none.
    pub annotation: String,
}

/// The kinds of parameter, as Python's `inspect` names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are Python's")]
pub enum ParameterKind {
    PositionalOnly,
    PositionalOrKeyword,
    VarPositional,
    KeywordOnly,
    VarKeyword,
}

impl Method {
    /// A method that may change the object, takes nothing and returns `None`.
    #[must_use]
    pub fn new(name: &str, doc: &str) -> Self {
        let (parameters, returns) = (Vec::new(), "None".into());
        Self { name: name.into(), doc: doc.into(), parameters, returns, read_only: false }
    }

    /// With one more parameter; `default` and `annotation` are Python source.
    #[must_use]
    pub fn takes(mut self, name: &str, annotation: &str, default: Option<&str>) -> Self {
        self.parameters.push(Parameter {
            name: name.into(),
            kind: ParameterKind::PositionalOrKeyword,
            default: default.map(Into::into),
            annotation: annotation.into(),
        });
        self
    }

    /// Returns what that annotation says.
    #[must_use]
    pub fn returns(mut self, annotation: &str) -> Self {
        self.returns = annotation.into();
        self
    }

    /// Leaves the object as it is.
    #[must_use]
    pub const fn reads(mut self) -> Self {
        self.read_only = true;
        self
    }

    /// Binds arguments to the parameters, in their order, as Python does for a function without
    /// stars; `None` where the default holds.
    ///
    /// # Errors
    /// The `TypeError` that Python would raise, in its words.
    pub fn bind<'a>(
        &self,
        class: &str,
        arguments: &'a Arguments,
    ) -> Result<Vec<Option<&'a Value>>, Exception> {
        let error = |what: String| {
            Err(Exception::builtin("TypeError", format!("{class}.{}() {what}", self.name)))
        };
        let (most, given) = (self.parameters.len(), arguments.positional.len());
        if given > most {
            let required =
                self.parameters.iter().filter(|parameter| parameter.default.is_none()).count();
            // Python counts `self`.
            let takes = if required == most {
                (most + 1).to_string()
            } else {
                format!("from {} to {}", required + 1, most + 1)
            };
            let plural = if most == 0 { "" } else { "s" };
            return error(format!(
                "takes {takes} positional argument{plural} but {} were given",
                given + 1
            ));
        }
        let mut bound: Vec<Option<&Value>> = arguments.positional.iter().map(Some).collect();
        bound.resize(most, None);
        for (name, value) in &arguments.keyword {
            let known = self.parameters.iter().position(|parameter| parameter.name == *name);
            match known.and_then(|at| bound.get_mut(at)) {
                None => return error(format!("got an unexpected keyword argument '{name}'")),
                Some(Some(_)) => {
                    return error(format!("got multiple values for argument '{name}'"));
                }
                Some(free) => *free = Some(value),
            }
        }
        let missing: Vec<&str> = std::iter::zip(&self.parameters, &bound)
            .filter(|(parameter, value)| parameter.default.is_none() && value.is_none())
            .map(|(parameter, _)| parameter.name.as_str())
            .collect();
        match missing.as_slice() {
            [] => Ok(bound),
            [one] => error(format!("missing 1 required positional argument: '{one}'")),
            [first @ .., last] => error(format!(
                "missing {} required positional arguments: '{}' and '{last}'",
                missing.len(),
                first.join("', '")
            )),
        }
    }
}

/// The method that puts a new object in the old one's place.
pub const INIT: &str = "__concoordinit__";

/// What makes an object with the arguments of its [`INIT`], unless there is one: then it returns
/// False and changes nothing.
pub const CREATE: &str = "__concoordcreate__";

/// The special methods that clients may call where the class defines them: the re-initialiser,
/// and those of Python's own that only look.
pub const SPECIAL_METHODS: [&str; 7] = [
    "__concoordinit__",
    "__str__",
    "__repr__",
    "__len__",
    "__contains__",
    "__getitem__",
    "__bool__",
];

/// Whether a client may name this method at all. Private names and all other special ones never
/// reach an object, whatever its class defines.
#[must_use]
pub fn is_callable(method: &str) -> bool {
    if method.starts_with('_') { SPECIAL_METHODS.contains(&method) } else { !method.is_empty() }
}
