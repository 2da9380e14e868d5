//! Typed proxies of the stock objects.

use std::sync::Arc;

use crate::{Arguments, Client, Error, Options, Value, ValueError};

/// A counter: an int, 0 at first.
///
/// ```no_run
/// # fn main() -> Result<(), concoord::Error> {
/// use concoord::object::Counter;
///
/// let counter = Counter::connect("127.0.0.1:14000, 127.0.0.1:14001")?;
/// counter.increment()?;
/// counter.increment_by(2)?;
/// assert_eq!(counter.getvalue()?, 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Counter {
    client: Arc<Client>,
}

impl Counter {
    /// The class that replicas are started with: `concoord replica -o …`.
    pub const CLASS: &str = "concoord.object.counter.Counter";

    /// Connects to a cluster of counters.
    ///
    /// # Errors
    /// As [`Client::connect`]; [`Error::Refused`] where the object is no counter.
    pub fn connect(bootstrap: &str) -> Result<Self, Error> {
        let options = Options { class: Some(Self::CLASS.into()), ..Options::default() };
        Client::connect(bootstrap, options).map(|client| Self::new(Arc::new(client)))
    }

    /// The counter of a client.
    #[must_use]
    pub const fn new(client: Arc<Client>) -> Self {
        Self { client }
    }

    /// Adds 1.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn increment(&self) -> Result<(), Error> {
        self.call("increment", vec![]).map(drop)
    }

    /// Adds `by`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn increment_by(&self, by: i64) -> Result<(), Error> {
        self.call("increment", vec![Value::Int(by)]).map(drop)
    }

    /// Subtracts 1.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn decrement(&self) -> Result<(), Error> {
        self.call("decrement", vec![]).map(drop)
    }

    /// Subtracts `by`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn decrement_by(&self, by: i64) -> Result<(), Error> {
        self.call("decrement", vec![Value::Int(by)]).map(drop)
    }

    /// The value.
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Decode`] where it has grown beyond 64 bits.
    pub fn getvalue(&self) -> Result<i64, Error> {
        let value = self.call("getvalue", vec![])?;
        if let Value::Int(value) = value { Ok(value) } else { Err(unexpected("an i64", &value)) }
    }

    /// Starts the counter anew, from `value`.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn reinitialize(&self, value: i64) -> Result<(), Error> {
        self.call("__concoordinit__", vec![Value::Int(value)]).map(drop)
    }

    /// The value in a sentence.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn describe(&self) -> Result<String, Error> {
        let text = self.call("__str__", vec![])?;
        if let Value::Str(text) = text { Ok(text) } else { Err(unexpected("a str", &text)) }
    }

    fn call(&self, method: &str, positional: Vec<Value>) -> Result<Value, Error> {
        self.client.call(method, &Arguments { positional, keyword: vec![] })
    }
}

fn unexpected(expected: &str, found: &Value) -> Error {
    Error::Decode(ValueError::Malformed(format!("{expected} was expected, not {found:?}")))
}
