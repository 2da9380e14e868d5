//! What a call gave a method of a ready-made object.

use num_bigint::BigInt;

use crate::object::{Interface, Method};
use crate::value::{Arguments, Exception, Value};

/// The arguments of a method, bound to its parameters.
pub(crate) struct Given<'a> {
    class: &'static str,
    method: &'static Method,
    values: Vec<Option<&'a Value>>,
}

impl Interface {
    /// The method and what it was given; `class` is the class's name without its module.
    ///
    /// # Errors
    /// The `AttributeError` or `TypeError` that Python would raise, in its words.
    pub(crate) fn given<'a>(
        &'static self,
        method: &str,
        arguments: &'a Arguments,
    ) -> Result<Given<'a>, Exception> {
        let class = self.class.rsplit('.').next().unwrap_or_default();
        let Some(method) = self.method(method) else {
            let words = format!("'{class}' object has no attribute '{method}'");
            return Err(Exception::builtin("AttributeError", words));
        };
        let values = method.bind(class, arguments)?;
        Ok(Given { class, method, values })
    }
}

impl<'a> Given<'a> {
    /// What the parameter at that place was given; `None` if its default holds.
    pub(crate) fn value(&self, at: usize) -> Option<&'a Value> {
        self.values.get(at).copied().flatten()
    }

    /// The same, where a caller must give it.
    pub(crate) fn required(&self, at: usize) -> &'a Value {
        self.value(at).expect("binding refuses calls without it")
    }

    /// An int of any size.
    pub(crate) fn int(&self, at: usize) -> Result<Option<BigInt>, Exception> {
        match self.value(at) {
            None => Ok(None),
            Some(Value::Int(int)) => Ok(Some((*int).into())),
            Some(Value::BigInt(int)) => Ok(Some(int.clone())),
            Some(Value::Bool(bool)) => Ok(Some(i64::from(*bool).into())),
            Some(other) => Err(self.wrong("an int", other)),
        }
    }

    /// A number that must be given, as a float.
    pub(crate) fn float(&self, at: usize) -> Result<f64, Exception> {
        match self.value(at) {
            Some(Value::Float(float)) => Ok(*float),
            Some(Value::Int(int)) => Ok(*int as f64),
            Some(Value::Bool(bool)) => Ok(f64::from(u8::from(*bool))),
            Some(Value::BigInt(_)) => {
                let words = "int too large to convert to float";
                Err(Exception::builtin("OverflowError", words))
            }
            _ => Err(self.wrong("a number", self.required(at))),
        }
    }

    /// An int of 64 bits.
    pub(crate) fn small_int(&self, at: usize) -> Result<Option<i64>, Exception> {
        match self.value(at) {
            None => Ok(None),
            Some(Value::Int(int)) => Ok(Some(*int)),
            Some(Value::Bool(bool)) => Ok(Some(i64::from(*bool))),
            Some(Value::BigInt(_)) => {
                let words = "Python int too large to convert to C ssize_t";
                Err(Exception::builtin("OverflowError", words))
            }
            Some(other) => Err(self.wrong("an int", other)),
        }
    }

    /// Whether it is true, as Python sees it.
    pub(crate) fn truth(&self, at: usize, default: bool) -> bool {
        self.value(at).map_or(default, is_true)
    }

    /// A str.
    pub(crate) fn text(&self, at: usize) -> Result<Option<&'a str>, Exception> {
        match self.value(at) {
            None => Ok(None),
            Some(Value::Str(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong("a str", other)),
        }
    }

    /// The items of a list or a tuple.
    pub(crate) fn items(&self, at: usize) -> Result<&'a [Value], Exception> {
        let value = self.required(at);
        let (Value::List(items) | Value::Tuple(items)) = value else {
            return Err(self.wrong("a list or a tuple", value));
        };
        Ok(items)
    }

    /// The items of a dict; none for `None` and where none is given.
    pub(crate) fn pairs(&self, at: usize) -> Result<&'a [(Value, Value)], Exception> {
        match self.value(at) {
            None | Some(Value::None) => Ok(&[]),
            Some(Value::Map(pairs)) => Ok(pairs),
            Some(other) => Err(self.wrong("a dict", other)),
        }
    }

    /// Seconds, as milliseconds rounded up, so that nobody waits for less than was asked for.
    /// `None` as an argument, and an infinite one, mean for ever; a negative number is returned
    /// as it is, since its meaning differs.
    pub(crate) fn seconds(&self, at: usize) -> Result<Option<Seconds>, Exception> {
        let seconds = match self.value(at) {
            None => return Ok(None),
            Some(Value::None) => return Ok(Some(Seconds::Forever)),
            Some(Value::Int(int)) => *int as f64,
            Some(Value::BigInt(_)) => f64::INFINITY,
            Some(Value::Bool(bool)) => f64::from(u8::from(*bool)),
            Some(Value::Float(float)) => *float,
            Some(other) => return Err(self.wrong("a number of seconds", other)),
        };
        if seconds.is_nan() {
            let words = "Invalid value NaN (not a number)";
            return Err(Exception::builtin("ValueError", words));
        }
        let ms = (seconds * 1000.0).ceil();
        Ok(Some(if seconds == -1.0 {
            Seconds::MinusOne
        } else if ms < 0.0 {
            Seconds::Negative
        } else if ms > MS_MAX {
            Seconds::Forever
        } else {
            Seconds::Ms(ms as u64)
        }))
    }

    fn wrong(&self, wanted: &str, got: &Value) -> Exception {
        let words =
            format!("{}.{}() takes {wanted}, not {}", self.class, self.method.name, got.kind());
        Exception::builtin("TypeError", words)
    }
}

/// Thirty years: past this nobody waits for an end.
const MS_MAX: f64 = 1e12;

/// How long something may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seconds {
    /// What Python's locks take for no timeout.
    MinusOne,
    Negative,
    Ms(u64),
    Forever,
}

/// Whether Python takes the value for true.
pub(crate) fn is_true(value: &Value) -> bool {
    match value {
        Value::None => false,
        Value::Bool(bool) => *bool,
        Value::Int(int) => *int != 0,
        Value::Float(float) => *float != 0.0,
        Value::Str(text) => !text.is_empty(),
        Value::Bytes(bytes) => !bytes.is_empty(),
        Value::List(items) | Value::Tuple(items) | Value::Set(items) | Value::FrozenSet(items) => {
            !items.is_empty()
        }
        Value::Map(items) => !items.is_empty(),
        Value::TimeDelta { days, seconds, microseconds } => {
            (*days, *seconds, *microseconds) != (0, 0, 0)
        }
        Value::Complex(real, imaginary) => *real != 0.0 || *imaginary != 0.0,
        Value::Decimal(text) => {
            text.bytes().any(|digit| (b'1'..=b'9').contains(&digit))
                || text.contains(['N', 'n', 'I', 'i'])
        }
        Value::BigInt(_)
        | Value::DateTime(_)
        | Value::Date(_)
        | Value::Time(_)
        | Value::Uuid(_)
        | Value::Exception(_) => true,
    }
}
