//! Values, and the bytes that they travel as.
//!
//! CBOR (RFC 8949) with definite lengths, shortest integers and 64-bit floats, so that a value
//! has one encoding. Two things follow Python rather than the RFC's deterministic profile: a
//! map keeps the order in which its keys were inserted, since a Python `dict` does and programs
//! rely on it; sets, which have no order, are sorted by their elements' encoding. The table of
//! tags is in `docs/internals/values.md`.
//!
//! Decoding is for bytes from anybody: it never panics, never nests deeper than
//! [`VALUE_DEPTH_MAX`], and never takes more memory than a small multiple of its input.

use bytes::Bytes;
use minicbor::data::{Tag, Type};
use minicbor::{Decoder, Encoder};
use num_bigint::{BigInt, Sign};

use crate::limits::{KEPT_DEPTH_MAX, VALUE_DEPTH_MAX};

/// What arguments and results are made of: the types of Python that mean the same anywhere.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// `bool`.
    Bool(bool),
    /// An `int` that fits 64 bits.
    Int(i64),
    /// An `int` that does not.
    BigInt(BigInt),
    /// `float`.
    Float(f64),
    /// `str`.
    Str(String),
    /// `bytes`.
    Bytes(Vec<u8>),
    /// `list`.
    List(Vec<Self>),
    /// `tuple`.
    Tuple(Vec<Self>),
    /// `dict`, in order of insertion.
    Map(Vec<(Self, Self)>),
    /// `set`.
    Set(Vec<Self>),
    /// `frozenset`.
    FrozenSet(Vec<Self>),
    /// `datetime.datetime` in ISO 8601; aware where it ends in an offset or `Z`.
    DateTime(String),
    /// `datetime.date` in ISO 8601.
    Date(String),
    /// `datetime.time` in ISO 8601.
    Time(String),
    /// `datetime.timedelta`.
    TimeDelta {
        /// Days, negative ones too.
        days: i64,
        /// Seconds within the day.
        seconds: i64,
        /// Microseconds within the second.
        microseconds: i64,
    },
    /// `decimal.Decimal` as Python writes it, `NaN` and `-Infinity` included.
    Decimal(String),
    /// `uuid.UUID`.
    Uuid([u8; 16]),
    /// `complex`.
    Complex(f64, f64),
    /// An exception that was raised, or is data.
    Exception(Box<Exception>),
}

/// An exception: its class by name, never by code.
#[derive(Clone, Debug, PartialEq)]
pub struct Exception {
    /// The module of the class, `builtins` for Python's own.
    pub module: String,
    /// The class's name.
    pub name: String,
    /// Its `args`.
    pub args: Vec<Value>,
    /// Where it was raised on the replica, as text; may be empty.
    pub traceback: String,
}

impl Exception {
    /// One of that module with a message.
    #[must_use]
    pub fn of(module: &str, name: &str, message: impl Into<String>) -> Self {
        Self { module: module.into(), ..Self::builtin(name, message) }
    }

    /// One of Python's built-in exceptions with a message.
    #[must_use]
    pub fn builtin(name: &str, message: impl Into<String>) -> Self {
        Self {
            module: "builtins".into(),
            name: name.into(),
            args: vec![Value::Str(message.into())],
            traceback: String::new(),
        }
    }
}

/// The arguments of a call, as the caller gave them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Arguments {
    /// By position.
    pub positional: Vec<Value>,
    /// By name, in the order given.
    pub keyword: Vec<(String, Value)>,
}

/// Why a value could not be encoded or bytes could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The nesting is too deep (or has a cycle).
    #[error("values nest deeper than {VALUE_DEPTH_MAX} levels")]
    TooDeep,
    /// The bytes are not CBOR, or not of this profile.
    #[error("not an encoded value: {0}")]
    Malformed(String),
    /// Something follows the value.
    #[error("{0} bytes follow the value")]
    Trailing(usize),
}

impl From<minicbor::decode::Error> for ValueError {
    fn from(error: minicbor::decode::Error) -> Self {
        Self::Malformed(error.to_string())
    }
}

/// Tags of the IANA registry; those from 1 667 432 449 on (`"cc\0\x01"`) are our own, of its
/// first-come range.
mod tag {
    pub(super) const DATE_TIME: u64 = 0;
    pub(super) const BIG_POSITIVE: u64 = 2;
    pub(super) const BIG_NEGATIVE: u64 = 3;
    pub(super) const UUID: u64 = 37;
    pub(super) const SET: u64 = 258;
    pub(super) const DATE: u64 = 1004;
    pub(super) const COMPLEX: u64 = 43_000;
    pub(super) const TUPLE: u64 = 0x6363_0001;
    pub(super) const FROZEN_SET: u64 = 0x6363_0002;
    pub(super) const NAIVE_DATE_TIME: u64 = 0x6363_0003;
    pub(super) const TIME: u64 = 0x6363_0004;
    pub(super) const TIME_DELTA: u64 = 0x6363_0005;
    pub(super) const DECIMAL: u64 = 0x6363_0006;
    pub(super) const EXCEPTION: u64 = 0x6363_0007;
}

impl Value {
    /// The bytes of this value.
    ///
    /// # Errors
    /// [`ValueError::TooDeep`].
    pub fn encode(&self) -> Result<Bytes, ValueError> {
        let mut encoder = Encoder::new(Vec::with_capacity(16));
        self.write(&mut encoder, 0)?;
        Ok(Bytes::from(encoder.into_writer()))
    }

    /// The bytes of this value, which may nest [`KEPT_DEPTH_MAX`] levels deep: an object that keeps
    /// it can return it within others.
    ///
    /// # Errors
    /// [`ValueError::TooDeep`].
    pub(crate) fn encode_kept(&self) -> Result<Bytes, ValueError> {
        let mut encoder = Encoder::new(Vec::with_capacity(16));
        self.write(&mut encoder, VALUE_DEPTH_MAX - KEPT_DEPTH_MAX)?;
        Ok(Bytes::from(encoder.into_writer()))
    }

    /// The value of these bytes, which must hold nothing else.
    ///
    /// # Errors
    /// [`ValueError`] for anything that [`Value::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, ValueError> {
        let mut decoder = Decoder::new(bytes);
        let value = Self::read(&mut decoder, 0)?;
        match bytes.len() - decoder.position() {
            0 => Ok(value),
            trailing => Err(ValueError::Trailing(trailing)),
        }
    }

    /// The name of its type in Python.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) | Self::BigInt(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::Bytes(_) => "bytes",
            Self::List(_) => "list",
            Self::Tuple(_) => "tuple",
            Self::Map(_) => "dict",
            Self::Set(_) => "set",
            Self::FrozenSet(_) => "frozenset",
            Self::DateTime(_) => "datetime",
            Self::Date(_) => "date",
            Self::Time(_) => "time",
            Self::TimeDelta { .. } => "timedelta",
            Self::Decimal(_) => "Decimal",
            Self::Uuid(_) => "UUID",
            Self::Complex(..) => "complex",
            Self::Exception(_) => "Exception",
        }
    }

    fn write(&self, to: &mut Encoder<Vec<u8>>, depth: usize) -> Result<(), ValueError> {
        if depth > VALUE_DEPTH_MAX {
            return Err(ValueError::TooDeep);
        }
        match self {
            Self::None => vec_write(to.null()),
            Self::Bool(value) => vec_write(to.bool(*value)),
            Self::Int(value) => vec_write(to.i64(*value)),
            Self::BigInt(value) => write_big_int(value, to),
            Self::Float(value) => vec_write(to.f64(*value)),
            Self::Str(value) => vec_write(to.str(value)),
            Self::Bytes(value) => vec_write(to.bytes(value)),
            Self::List(items) => write_items(items, to, depth)?,
            Self::Tuple(items) => write_items(items, tagged(to, tag::TUPLE), depth)?,
            Self::Map(pairs) => {
                vec_write(to.map(pairs.len() as u64));
                for (key, value) in pairs {
                    key.write(to, depth + 1)?;
                    value.write(to, depth + 1)?;
                }
            }
            Self::Set(items) => write_sorted(items, tagged(to, tag::SET), depth)?,
            Self::FrozenSet(items) => write_sorted(items, tagged(to, tag::FROZEN_SET), depth)?,
            Self::DateTime(text) => {
                let kind = if is_aware(text) { tag::DATE_TIME } else { tag::NAIVE_DATE_TIME };
                vec_write(tagged(to, kind).str(text));
            }
            Self::Date(text) => vec_write(tagged(to, tag::DATE).str(text)),
            Self::Time(text) => vec_write(tagged(to, tag::TIME).str(text)),
            Self::TimeDelta { days, seconds, microseconds } => {
                vec_write(tagged(to, tag::TIME_DELTA).array(3));
                vec_write(to.i64(*days));
                vec_write(to.i64(*seconds));
                vec_write(to.i64(*microseconds));
            }
            Self::Decimal(text) => vec_write(tagged(to, tag::DECIMAL).str(text)),
            Self::Uuid(bytes) => vec_write(tagged(to, tag::UUID).bytes(bytes)),
            Self::Complex(re, im) => {
                vec_write(tagged(to, tag::COMPLEX).array(2));
                vec_write(to.f64(*re));
                vec_write(to.f64(*im));
            }
            Self::Exception(exception) => {
                vec_write(tagged(to, tag::EXCEPTION).array(4));
                vec_write(to.str(&exception.module));
                vec_write(to.str(&exception.name));
                write_items(&exception.args, to, depth)?;
                vec_write(to.str(&exception.traceback));
            }
        }
        Ok(())
    }

    fn read(from: &mut Decoder<'_>, depth: usize) -> Result<Self, ValueError> {
        if depth > VALUE_DEPTH_MAX {
            return Err(ValueError::TooDeep);
        }
        let kind = from.datatype()?;
        Ok(match kind {
            Type::Null => {
                from.null()?;
                Self::None
            }
            Type::Bool => Self::Bool(from.bool()?),
            Type::U8
            | Type::U16
            | Type::U32
            | Type::U64
            | Type::I8
            | Type::I16
            | Type::I32
            | Type::I64
            | Type::Int => {
                let int = i128::from(from.int()?);
                i64::try_from(int).map_or_else(|_| Self::BigInt(BigInt::from(int)), Self::Int)
            }
            Type::F64 => Self::Float(from.f64()?),
            Type::Bytes => Self::Bytes(from.bytes()?.to_vec()),
            Type::String => Self::Str(from.str()?.to_owned()),
            Type::Array => Self::List(read_items(from, depth)?),
            Type::Map => {
                let count = length(from.map()?)?;
                let mut pairs = Vec::with_capacity(at_most(count, from, 2));
                for _ in 0..count {
                    pairs.push((Self::read(from, depth + 1)?, Self::read(from, depth + 1)?));
                }
                Self::Map(pairs)
            }
            Type::Tag => Self::read_tagged(from, depth)?,
            Type::Undefined
            | Type::F16
            | Type::F32
            | Type::Simple
            | Type::BytesIndef
            | Type::StringIndef
            | Type::ArrayIndef
            | Type::MapIndef
            | Type::Break
            | Type::Unknown(_) => {
                return Err(ValueError::Malformed(format!("{kind} is not used here")));
            }
        })
    }

    fn read_tagged(from: &mut Decoder<'_>, depth: usize) -> Result<Self, ValueError> {
        Ok(match from.tag()?.as_u64() {
            tag::DATE_TIME => Self::DateTime(text(from, true)?),
            tag::NAIVE_DATE_TIME => Self::DateTime(text(from, false)?),
            tag::BIG_POSITIVE => shrink(BigInt::from_bytes_be(Sign::Plus, from.bytes()?)),
            tag::BIG_NEGATIVE => shrink(-BigInt::from_bytes_be(Sign::Plus, from.bytes()?) - 1),
            tag::UUID => {
                let bytes = from.bytes()?.try_into();
                Self::Uuid(bytes.map_err(|_| ValueError::Malformed("a UUID has 16 bytes".into()))?)
            }
            tag::SET => Self::Set(read_items(from, depth)?),
            tag::FROZEN_SET => Self::FrozenSet(read_items(from, depth)?),
            tag::TUPLE => Self::Tuple(read_items(from, depth)?),
            tag::DATE => Self::Date(from.str()?.to_owned()),
            tag::TIME => Self::Time(from.str()?.to_owned()),
            tag::DECIMAL => Self::Decimal(from.str()?.to_owned()),
            tag::COMPLEX => {
                exactly(from, 2)?;
                Self::Complex(from.f64()?, from.f64()?)
            }
            tag::TIME_DELTA => {
                exactly(from, 3)?;
                Self::TimeDelta {
                    days: from.i64()?,
                    seconds: from.i64()?,
                    microseconds: from.i64()?,
                }
            }
            tag::EXCEPTION => {
                exactly(from, 4)?;
                Self::Exception(Box::new(Exception {
                    module: from.str()?.to_owned(),
                    name: from.str()?.to_owned(),
                    args: read_items(from, depth)?,
                    traceback: from.str()?.to_owned(),
                }))
            }
            other => return Err(ValueError::Malformed(format!("tag {other} is not used here"))),
        })
    }
}

impl Arguments {
    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.positional.is_empty() && self.keyword.is_empty()
    }

    /// The bytes of these arguments; none for none.
    ///
    /// # Errors
    /// [`ValueError::TooDeep`].
    pub fn encode(&self) -> Result<Bytes, ValueError> {
        if self.is_empty() {
            return Ok(Bytes::new());
        }
        let mut to = Encoder::new(Vec::with_capacity(32));
        vec_write(to.array(2));
        write_items(&self.positional, &mut to, 0)?;
        vec_write(to.map(self.keyword.len() as u64));
        for (name, value) in &self.keyword {
            vec_write(to.str(name));
            value.write(&mut to, 1)?;
        }
        Ok(Bytes::from(to.into_writer()))
    }

    /// The arguments of these bytes.
    ///
    /// # Errors
    /// [`ValueError`] for anything that [`Arguments::encode`] does not write.
    pub fn decode(bytes: &[u8]) -> Result<Self, ValueError> {
        if bytes.is_empty() {
            return Ok(Self::default());
        }
        let mut from = Decoder::new(bytes);
        exactly(&mut from, 2)?;
        let positional = read_items(&mut from, 0)?;
        let count = length(from.map()?)?;
        let mut keyword = Vec::with_capacity(at_most(count, &from, 2));
        for _ in 0..count {
            keyword.push((from.str()?.to_owned(), Value::read(&mut from, 1)?));
        }
        match bytes.len() - from.position() {
            0 => Ok(Self { positional, keyword }),
            trailing => Err(ValueError::Trailing(trailing)),
        }
    }
}

impl From<BigInt> for Value {
    fn from(int: BigInt) -> Self {
        shrink(int)
    }
}

impl From<u64> for Value {
    fn from(int: u64) -> Self {
        i64::try_from(int).map_or_else(|_| Self::BigInt(int.into()), Self::Int)
    }
}

impl From<usize> for Value {
    fn from(int: usize) -> Self {
        Self::from(int as u64)
    }
}

impl From<i64> for Value {
    fn from(int: i64) -> Self {
        Self::Int(int)
    }
}

impl From<bool> for Value {
    fn from(bool: bool) -> Self {
        Self::Bool(bool)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Str(text.into())
    }
}

/// Whether an ISO 8601 date and time carries an offset from UTC.
fn is_aware(text: &str) -> bool {
    let time = text.get(10..).unwrap_or_default();
    time.ends_with('Z') || time.contains(['+', '-'])
}

fn shrink(int: BigInt) -> Value {
    i64::try_from(&int).map_or_else(|_| Value::BigInt(int), Value::Int)
}

/// Writing to a `Vec` cannot fail: minicbor says so with an error type without values.
fn vec_write<T>(result: Result<T, minicbor::encode::Error<std::convert::Infallible>>) {
    result.map(drop).expect("a Vec takes all bytes");
}

fn tagged(to: &mut Encoder<Vec<u8>>, tag: u64) -> &mut Encoder<Vec<u8>> {
    vec_write(to.tag(Tag::new(tag)));
    to
}

/// An int beyond 64 signed bits: as a plain integer while CBOR has one for it, else as a bignum,
/// so that no int has two encodings.
fn write_big_int(value: &BigInt, to: &mut Encoder<Vec<u8>>) {
    let plain = i128::try_from(value).ok().and_then(|int| minicbor::data::Int::try_from(int).ok());
    if let Some(int) = plain {
        vec_write(to.int(int));
    } else if value.sign() == Sign::Minus {
        let (_, bytes) = (-value - 1_u8).to_bytes_be();
        vec_write(tagged(to, tag::BIG_NEGATIVE).bytes(&bytes));
    } else {
        let (_, bytes) = value.to_bytes_be();
        vec_write(tagged(to, tag::BIG_POSITIVE).bytes(&bytes));
    }
}

fn write_items(items: &[Value], to: &mut Encoder<Vec<u8>>, depth: usize) -> Result<(), ValueError> {
    vec_write(to.array(items.len() as u64));
    items.iter().try_for_each(|item| item.write(to, depth + 1))
}

fn write_sorted(
    items: &[Value],
    to: &mut Encoder<Vec<u8>>,
    depth: usize,
) -> Result<(), ValueError> {
    let mut encoded = Vec::with_capacity(items.len());
    for item in items {
        let mut each = Encoder::new(Vec::new());
        item.write(&mut each, depth + 1)?;
        encoded.push(each.into_writer());
    }
    encoded.sort_unstable();
    vec_write(to.array(encoded.len() as u64));
    for item in encoded {
        to.writer_mut().extend_from_slice(&item);
    }
    Ok(())
}

fn read_items(from: &mut Decoder<'_>, depth: usize) -> Result<Vec<Value>, ValueError> {
    let count = length(from.array()?)?;
    let mut items = Vec::with_capacity(at_most(count, from, 1));
    for _ in 0..count {
        items.push(Value::read(from, depth + 1)?);
    }
    Ok(items)
}

fn text(from: &mut Decoder<'_>, aware: bool) -> Result<String, ValueError> {
    let text = from.str()?;
    if is_aware(text) == aware {
        Ok(text.to_owned())
    } else {
        Err(ValueError::Malformed(format!("the tag of {text:?} says otherwise about its offset")))
    }
}

fn length(length: Option<u64>) -> Result<u64, ValueError> {
    length.ok_or_else(|| ValueError::Malformed("lengths must be given".into()))
}

fn exactly(from: &mut Decoder<'_>, wanted: u64) -> Result<(), ValueError> {
    let count = length(from.array()?)?;
    if count == wanted {
        Ok(())
    } else {
        Err(ValueError::Malformed(format!("{count} items where {wanted} belong")))
    }
}

/// How many of `count` items the rest of the input can hold at all: what a length claims is no
/// reason to take memory.
fn at_most(count: u64, from: &Decoder<'_>, bytes_each: usize) -> usize {
    let rest = from.input().len().saturating_sub(from.position()) / bytes_each;
    usize::try_from(count).unwrap_or(usize::MAX).min(rest).min(4096)
}

#[cfg(test)]
mod tests;
