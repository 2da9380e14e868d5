//! The order of values, as Python compares them.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use num_bigint::BigInt;
use serde::{Deserialize, Serialize};

use super::kept::Kept;
use crate::value::{Exception, Value};

/// A value that is compared as Python's `<` does, made total: NaN comes after all other numbers.
/// What Python does not compare has some order too; [`beside_all`] tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(from = "Kept", into = "Kept")]
pub(crate) struct Sorted(Value);

impl Sorted {
    /// # Errors
    /// The `ValueError` of [`Kept::of`].
    pub(crate) fn of(value: &Value) -> Result<Self, Exception> {
        Kept::of(value).map(|_| Self(value.clone()))
    }

    pub(crate) fn into_value(self) -> Value {
        self.0
    }

    /// Whether Python compares it with another. Values that it all compares with each other stand
    /// together in this order: one that compares with both its neighbours does so with all.
    ///
    /// # Errors
    /// Python's `TypeError`, in its words.
    fn beside(&self, other: &Self) -> Result<(), Exception> {
        comparable(&self.0, &other.0)
    }
}

/// Whether Python compares a value with all that are there.
///
/// # Errors
/// Python's `TypeError`, in its words.
pub(crate) fn beside_all(
    there: &BTreeSet<(Sorted, u64)>,
    entry: &(Sorted, u64),
) -> Result<(), Exception> {
    let neighbours = [there.range(..entry).next_back(), there.range(entry..).next()];
    neighbours.into_iter().flatten().try_for_each(|(neighbour, _)| entry.0.beside(neighbour))
}

impl From<Kept> for Sorted {
    fn from(kept: Kept) -> Self {
        Self(kept.value())
    }
}

impl From<Sorted> for Kept {
    fn from(sorted: Sorted) -> Self {
        Self::of(&sorted.0).expect("it was tried when it was made")
    }
}

impl PartialEq for Sorted {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Sorted {}

impl PartialOrd for Sorted {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Sorted {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

/// Kinds of value that Python compares among themselves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    Number,
    Str,
    Bytes,
    Tuple,
    List,
    Date,
    DateTime,
    AwareDateTime,
    Time,
    TimeDelta,
    Decimal,
    Uuid,
    /// Those that it does not compare, or not so that a queue could be sorted.
    Unordered,
}

fn family(value: &Value) -> Family {
    match value {
        Value::Bool(_) | Value::Int(_) | Value::BigInt(_) | Value::Float(_) => Family::Number,
        Value::Str(_) => Family::Str,
        Value::Bytes(_) => Family::Bytes,
        Value::Tuple(_) => Family::Tuple,
        Value::List(_) => Family::List,
        Value::Date(_) => Family::Date,
        Value::DateTime(text) if instant(text).is_some() => Family::AwareDateTime,
        Value::DateTime(_) => Family::DateTime,
        Value::Time(_) => Family::Time,
        Value::TimeDelta { .. } => Family::TimeDelta,
        Value::Decimal(_) => Family::Decimal,
        Value::Uuid(_) => Family::Uuid,
        Value::None
        | Value::Map(_)
        | Value::Set(_)
        | Value::FrozenSet(_)
        | Value::Complex(..)
        | Value::Exception(_) => Family::Unordered,
    }
}

fn compare(one: &Value, other: &Value) -> Ordering {
    match (one, other) {
        (Value::Int(one), Value::Int(other)) => one.cmp(other),
        (Value::Str(one), Value::Str(other))
        | (Value::Date(one), Value::Date(other))
        | (Value::Time(one), Value::Time(other)) => one.cmp(other),
        (Value::DateTime(one), Value::DateTime(other)) => {
            instant(one).cmp(&instant(other)).then_with(|| match instant(one) {
                Some(_) => Ordering::Equal,
                None => one.cmp(other),
            })
        }
        (Value::Bytes(one), Value::Bytes(other)) => one.cmp(other),
        (Value::Tuple(one), Value::Tuple(other)) | (Value::List(one), Value::List(other)) => {
            let mut orders = std::iter::zip(one, other).map(|(one, other)| compare(one, other));
            let first = orders.find(|order| order.is_ne());
            first.unwrap_or_else(|| one.len().cmp(&other.len()))
        }
        (Value::Uuid(one), Value::Uuid(other)) => one.cmp(other),
        (Value::Decimal(one), Value::Decimal(other)) => Digits::of(one).cmp(&Digits::of(other)),
        (
            Value::TimeDelta { days, seconds, microseconds },
            Value::TimeDelta { days: days2, seconds: seconds2, microseconds: microseconds2 },
        ) => (days, seconds, microseconds).cmp(&(days2, seconds2, microseconds2)),
        _ => match (family(one), family(other)) {
            (Family::Number, Family::Number) => numbers(one, other),
            (Family::Unordered, Family::Unordered) => {
                let bytes = |value: &Value| value.encode().unwrap_or_default();
                bytes(one).cmp(&bytes(other))
            }
            (one, other) => one.cmp(&other),
        },
    }
}

/// Whether Python's `<` has an answer for them.
fn comparable(one: &Value, other: &Value) -> Result<(), Exception> {
    let error = |words: String| Err(Exception::builtin("TypeError", words));
    match (family(one), family(other)) {
        (Family::DateTime, Family::AwareDateTime) | (Family::AwareDateTime, Family::DateTime) => {
            error("can't compare offset-naive and offset-aware datetimes".into())
        }
        (Family::Tuple, Family::Tuple) | (Family::List, Family::List) => {
            let differing = std::iter::zip(items(one), items(other))
                .find(|(one, other)| compare(one, other).is_ne());
            differing.map_or(Ok(()), |(one, other)| comparable(one, other))
        }
        (one, other) if one == other && one != Family::Unordered => Ok(()),
        _ => error(format!(
            "'<' not supported between instances of '{}' and '{}'",
            one.kind(),
            other.kind()
        )),
    }
}

fn items(value: &Value) -> &[Value] {
    if let Value::Tuple(items) | Value::List(items) = value { items } else { &[] }
}

/// Numbers by their exact values.
fn numbers(one: &Value, other: &Value) -> Ordering {
    let float = |value: &Value| if let Value::Float(float) = value { Some(*float) } else { None };
    match (float(one), float(other)) {
        (Some(one), Some(other)) => {
            one.partial_cmp(&other).unwrap_or_else(|| one.is_nan().cmp(&other.is_nan()))
        }
        (None, Some(float)) => int_and_float(&int(one), float),
        (Some(float), None) => int_and_float(&int(other), float).reverse(),
        (None, None) => int(one).cmp(&int(other)),
    }
}

fn int(value: &Value) -> BigInt {
    if let Value::BigInt(int) = value {
        return int.clone();
    }
    if let Value::Int(int) = value { (*int).into() } else { (*value == Value::Bool(true)).into() }
}

fn int_and_float(int: &BigInt, float: f64) -> Ordering {
    if float.is_nan() || float == f64::INFINITY {
        Ordering::Less
    } else if float == f64::NEG_INFINITY {
        Ordering::Greater
    } else {
        let is_whole = float.fract() == 0.0;
        int.cmp(&floor(float)).then(if is_whole { Ordering::Equal } else { Ordering::Less })
    }
}

/// The largest int that is no larger than the float, which must be finite.
pub(crate) fn floor(float: f64) -> BigInt {
    let floor = float.floor();
    let bits = floor.abs().to_bits();
    let (exponent, fraction) = ((bits >> 52) as i64 - 1075, bits & ((1 << 52) - 1));
    let mantissa = BigInt::from(fraction | (1 << 52));
    let size = match exponent {
        // Nothing below 1 is left but 0.
        ..=-53 => BigInt::ZERO,
        -52..=-1 => mantissa >> exponent.unsigned_abs(),
        _ => mantissa << exponent.unsigned_abs(),
    };
    if floor < 0.0 { -size } else { size }
}

/// When a date and time with an offset is: microseconds since the year 0. `None` for one without.
fn instant(text: &str) -> Option<i64> {
    let number = |range: Range<usize>| text.get(range)?.parse::<u16>().ok().map(i64::from);
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let seconds = number(11..13)? * 3600 + number(14..16)? * 60 + number(17..19)?;
    let rest = text.get(19..)?;
    let sign = rest.find(['Z', '+', '-'])?;
    let (fraction, offset) = rest.split_at(sign);
    let micros = format!("{:0<6}", fraction.trim_start_matches('.'));
    let micros: i64 = micros.get(..6)?.parse::<u32>().ok()?.into();
    // Days of the civil calendar, years beginning in March.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leaps = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = year * 365 + leaps + (month * 153 + 2) / 5 + day;
    let part =
        |range: Range<usize>| offset.get(range).map_or(Some(0), |part| part.parse::<u16>().ok());
    let away = i64::from(part(1..3)?) * 3600 + i64::from(part(4..6)?) * 60 + i64::from(part(7..9)?);
    let away = if offset.starts_with('-') { -away } else { away };
    Some((days * 86_400 + seconds - away) * 1_000_000 + micros)
}

/// A `Decimal`, such that equal ones are the same.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Digits {
    /// -2 for -Infinity, -1 for what is less than 0, 0, 1, 2 for Infinity, 3 for what is no number.
    sign: i8,
    /// Ten to this is the place before the first digit.
    exponent: i64,
    /// Neither the first nor the last is 0.
    digits: String,
}

impl Digits {
    pub(crate) fn of(text: &str) -> Self {
        let (negative, size) = match text.strip_prefix('-') {
            Some(size) => (true, size),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let of = |sign: i8, exponent, digits| Self {
            sign: if negative { -sign } else { sign },
            exponent,
            digits,
        };
        if size.starts_with(['I', 'i']) {
            return of(2, 0, String::new());
        }
        let (number, exponent) = size.split_once(['E', 'e']).unwrap_or((size, "0"));
        let (before, after) = number.split_once('.').unwrap_or((number, ""));
        let all = format!("{before}{after}");
        let exponent = exponent.parse::<i64>().ok();
        let Some(exponent) = exponent.filter(|_| all.bytes().all(|byte| byte.is_ascii_digit()))
        else {
            return Self { sign: 3, exponent: 0, digits: text.into() };
        };
        let digits = all.trim_start_matches('0');
        if digits.is_empty() {
            return Self { sign: 0, exponent: 0, digits: String::new() };
        }
        let zeros = all.len() - digits.len();
        let exponent = exponent.saturating_add(before.len() as i64).saturating_sub(zeros as i64);
        of(1, exponent, digits.trim_end_matches('0').into())
    }
}

impl fmt::Display for Digits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sign {
            3 => f.write_str(&self.digits),
            0 => f.write_str("0"),
            2 | -2 => write!(f, "{}Infinity", if self.sign < 0 { "-" } else { "" }),
            sign => {
                write!(f, "{}0.{}E{}", if sign < 0 { "-" } else { "" }, self.digits, self.exponent)
            }
        }
    }
}

impl PartialOrd for Digits {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Digits {
    fn cmp(&self, other: &Self) -> Ordering {
        let size = || self.exponent.cmp(&other.exponent).then(self.digits.cmp(&other.digits));
        let size = || if self.sign < 0 { size().reverse() } else { size() };
        self.sign.cmp(&other.sign).then_with(size)
    }
}

#[cfg(test)]
mod tests;
