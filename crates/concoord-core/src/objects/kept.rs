//! Values that objects keep, and what makes two of them the same key.

use bytes::Bytes;
use num_bigint::BigInt;
use serde::{Deserialize, Serialize};

use super::order;
use crate::limits::{KEPT_BYTES_MAX, KEPT_DEPTH_MAX};
use crate::value::{Exception, Value, ValueError};

/// A value as the bytes that it travels as: small in memory, and equal where those are.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Bytes", into = "Bytes")]
pub(crate) struct Kept(Bytes);

impl Kept {
    /// # Errors
    /// The `ValueError` of one that could never be returned.
    pub(crate) fn of(value: &Value) -> Result<Self, Exception> {
        let error = |words: String| Exception::builtin("ValueError", words);
        let bytes = value.encode_kept().map_err(|_| {
            error(format!("a value that is kept nests {KEPT_DEPTH_MAX} levels deep at most"))
        })?;
        if bytes.len() > KEPT_BYTES_MAX {
            let words = format!(
                "a value that is kept takes {KEPT_BYTES_MAX} bytes at most, not {}",
                bytes.len()
            );
            return Err(error(words));
        }
        Ok(Self(bytes))
    }

    pub(crate) fn value(&self) -> Value {
        Value::decode(&self.0).expect("it was encoded here, or tried when it was read")
    }
}

impl TryFrom<Bytes> for Kept {
    type Error = ValueError;

    fn try_from(bytes: Bytes) -> Result<Self, ValueError> {
        Value::decode(&bytes).map(|_| Self(bytes))
    }
}

impl From<Kept> for Bytes {
    fn from(kept: Kept) -> Self {
        kept.0
    }
}

/// A value to find something by, as a `dict` of Python does: `1`, `1.0` and `True` are one key.
/// A `Decimal` is a key of its own, a date with an offset one with that offset, and NaN is itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// The same for all keys that are one.
    pub(crate) id: Kept,
    /// What the caller gave.
    pub(crate) given: Kept,
}

impl Key {
    /// # Errors
    /// The `TypeError` of a value that Python can't hash, in its words; the `ValueError` of
    /// [`Kept::of`].
    pub(crate) fn of(value: &Value) -> Result<Self, Exception> {
        let given = Kept::of(value)?;
        // Most keys are what stands for them.
        let is_its_id = matches!(value, Value::Str(_) | Value::Int(_) | Value::Bytes(_));
        let id = if is_its_id { given.clone() } else { Kept::of(&alike(value)?)? };
        Ok(Self { id, given })
    }
}

/// The value that stands for all that are equal to it.
fn alike(value: &Value) -> Result<Value, Exception> {
    Ok(match value {
        Value::List(_) | Value::Map(_) | Value::Set(_) => {
            let words = format!("unhashable type: '{}'", value.kind());
            return Err(Exception::builtin("TypeError", words));
        }
        Value::Bool(bool) => Value::Int(i64::from(*bool)),
        Value::Float(float) => whole(*float).map_or(Value::Float(*float), Value::from),
        Value::Complex(real, imaginary) if *imaginary == 0.0 => alike(&Value::Float(*real))?,
        Value::Decimal(text) => Value::Decimal(order::Digits::of(text).to_string()),
        Value::Tuple(items) => Value::Tuple(items.iter().map(alike).collect::<Result<_, _>>()?),
        Value::FrozenSet(items) => {
            Value::FrozenSet(items.iter().map(alike).collect::<Result<_, _>>()?)
        }
        Value::None
        | Value::Int(_)
        | Value::BigInt(_)
        | Value::Str(_)
        | Value::Bytes(_)
        | Value::DateTime(_)
        | Value::Date(_)
        | Value::Time(_)
        | Value::TimeDelta { .. }
        | Value::Uuid(_)
        | Value::Complex(..)
        | Value::Exception(_) => value.clone(),
    })
}

/// The int that a float is, if it is one.
pub(crate) fn whole(float: f64) -> Option<BigInt> {
    (float.is_finite() && float.fract() == 0.0).then(|| order::floor(float))
}

/// Python's complaint that a key is not there.
pub(crate) fn key_error(key: &Value) -> Exception {
    Exception { args: vec![key.clone()], ..Exception::builtin("KeyError", "") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(value: &Value) -> Kept {
        Key::of(value).unwrap().id
    }

    #[test]
    fn what_python_takes_for_one_key_is_one() {
        let one = id(&Value::Int(1));
        for same in [Value::Bool(true), Value::Float(1.0), Value::Complex(1.0, -0.0)] {
            assert_eq!(id(&same), one, "{same:?}");
        }
        assert_eq!(id(&Value::Float(-0.0)), id(&Value::Bool(false)));
        let big = BigInt::from(1) << 80_u32;
        assert_eq!(id(&Value::Float(2f64.powi(80))), id(&Value::from(big)));
        let pair = |first: Value| Value::Tuple(vec![first, Value::None]);
        assert_eq!(id(&pair(Value::Bool(true))), id(&pair(Value::Int(1))));
        let decimal = |text: &str| id(&Value::Decimal(text.into()));
        assert_eq!(decimal("1.50"), decimal("15E-1"));
        for other in [Value::from("1"), Value::Float(1.5), Value::Bytes(b"1".to_vec())] {
            assert_ne!(id(&other), one);
        }
    }

    #[test]
    fn what_python_can_not_hash_is_no_key() {
        let list = Value::Tuple(vec![Value::List(vec![])]);
        let words = vec![Value::from("unhashable type: 'list'")];
        assert_eq!(Key::of(&list).unwrap_err().args, words);
    }

    #[test]
    fn what_could_never_be_returned_is_not_kept() {
        let mut deep = Value::None;
        for _ in 0..KEPT_DEPTH_MAX {
            deep = Value::List(vec![deep]);
        }
        let kept = Kept::of(&deep).unwrap();
        let within = Value::List(vec![Value::Tuple(vec![kept.value(), Value::None])]);
        assert!(within.encode().is_ok());
        assert!(Kept::of(&Value::List(vec![deep])).is_err());
        let large = vec![0; KEPT_BYTES_MAX];
        assert!(Kept::of(&Value::Bytes(large)).is_err());
    }
}
