//! What an object must be able to do to be replicated.

use serde::{Deserialize, Serialize};

use crate::value::{Arguments, Exception, Value};

/// What surrounds a call when it is applied: the same on every replica.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// The log index of the entry that carries the call.
    pub index: u64,
    /// The time of the leader that proposed the entry, milliseconds since 1970, never going back.
    pub time_ms: u64,
}

/// An object that every replica holds a copy of.
///
/// `apply` runs on every replica, in log order. Its result and its effect depend on the object,
/// the call and the context and on nothing else: no clock, no random number, no file. A copy that
/// can't keep this promise must panic rather than go on and differ from the others.
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
        context: Context,
    ) -> Result<Value, Exception>;

    /// Runs a method that [`Interface::is_read_only`] says leaves the object as it is.
    ///
    /// # Errors
    /// The exception that the method raised.
    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception>;

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
