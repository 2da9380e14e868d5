//! Python objects as [`Value`]s, and back.
//!
//! Only the exact types of the table travel. A subclass (an `IntEnum`, a named tuple, an
//! `OrderedDict`) would arrive as something else than was sent, so it is a `TypeError` that says
//! how to convert it; `bytearray` and `memoryview` are the exceptions and arrive as `bytes`.

mod exception;

use concoord_core::limits::VALUE_DEPTH_MAX;
use concoord_core::value::{Arguments, Value};
use num_bigint::{BigInt, Sign};
use pyo3::exceptions::{PyBaseException, PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{
    PyBool, PyByteArray, PyBytes, PyComplex, PyDict, PyEllipsis, PyFloat, PyFrozenSet, PyInt,
    PyList, PyMemoryView, PySet, PyString, PyTuple, PyType,
};

pub(crate) use self::exception::{raise, raised};

/// Why an object can't travel, and where in the argument it was found.
#[derive(Debug)]
pub(crate) struct Unencodable {
    /// From the inside out.
    path: Vec<String>,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    /// A type that is not in the table.
    Type(String),
    /// A value of such a type that has no encoding.
    Value(String),
    /// Python code that was asked about the object raised.
    Raised(PyErr),
}

impl Unencodable {
    fn value(reason: impl Into<String>) -> Self {
        Self { path: Vec::new(), reason: Reason::Value(reason.into()) }
    }

    /// The same, found inside of `step`.
    pub(crate) fn within(mut self, step: impl Into<String>) -> Self {
        self.path.push(step.into());
        self
    }

    /// The exception for it: a `TypeError`, or a `ValueError` where the type is right.
    pub(crate) fn raise(self, py: Python<'_>) -> PyErr {
        let at = self.path.iter().rev().map(String::as_str).collect::<Vec<_>>().join(", ");
        let say = |reason: &str| match at.as_str() {
            "" => reason.to_owned(),
            at => format!("{at}: {reason}"),
        };
        match self.reason {
            Reason::Type(reason) => PyTypeError::new_err(say(&reason)),
            Reason::Value(reason) => PyValueError::new_err(say(&reason)),
            Reason::Raised(cause) => {
                let error = PyTypeError::new_err(say(&format!("cannot encode it: {cause}")));
                error.set_cause(py, Some(cause));
                error
            }
        }
    }
}

impl From<PyErr> for Unencodable {
    fn from(error: PyErr) -> Self {
        Self { path: Vec::new(), reason: Reason::Raised(error) }
    }
}

/// Encodes a value as it travels: CBOR.
#[pyfunction]
#[pyo3(signature = (value, /))]
pub(crate) fn encode<'py>(value: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyBytes>> {
    let py = value.py();
    let bytes = from_python(value).map_err(|error| error.raise(py))?.encode();
    let bytes = bytes.map_err(|error| PyValueError::new_err(error.to_string()))?;
    Ok(PyBytes::new(py, &bytes))
}

/// Decodes what `encode` wrote.
#[pyfunction]
#[pyo3(signature = (encoded, /))]
pub(crate) fn decode<'py>(py: Python<'py>, encoded: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let value = Value::decode(encoded).map_err(|error| PyValueError::new_err(error.to_string()))?;
    to_python(py, &value)
}

/// The value that `object` is.
pub(crate) fn from_python(object: &Bound<'_, PyAny>) -> Result<Value, Unencodable> {
    from_python_at(object, 0)
}

/// The arguments of a call. `...` leaves an argument to its default on the replica.
///
/// `name` is asked for the name of the positional argument at an index, if one can't be encoded.
pub(crate) fn arguments_from_python(
    positional: &Bound<'_, PyTuple>,
    keyword: Option<&Bound<'_, PyDict>>,
    name: impl Fn(usize) -> Option<String>,
) -> Result<Arguments, Unencodable> {
    let mut arguments = Arguments::default();
    let given = |argument: &Bound<'_, PyAny>| !argument.is_exact_instance_of::<PyEllipsis>();
    let called = |index| match name(index) {
        Some(name) => format!("argument '{name}'"),
        None => format!("argument {}", index + 1),
    };
    for (index, argument) in positional.iter().enumerate().filter(|(_, each)| given(each)) {
        if index != arguments.positional.len() {
            let reason = "the argument before it was left out with ...: pass it by name";
            return Err(Unencodable::value(reason).within(called(index)));
        }
        let value = from_python_at(&argument, 1).map_err(|error| error.within(called(index)))?;
        arguments.positional.push(value);
    }
    let keyword = keyword.into_iter().flat_map(|keyword| keyword.iter());
    for (key, argument) in keyword.filter(|(_, each)| given(each)) {
        let key = key.extract::<String>()?;
        let value = from_python_at(&argument, 1)
            .map_err(|error| error.within(format!("argument '{key}'")))?;
        arguments.keyword.push((key, value));
    }
    Ok(arguments)
}

/// The arguments of a call, for Python to call with.
pub(crate) fn arguments_to_python<'py>(
    py: Python<'py>,
    arguments: &Arguments,
) -> PyResult<(Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>)> {
    let positional = tuple(py, &arguments.positional)?;
    if arguments.keyword.is_empty() {
        return Ok((positional, None));
    }
    let keyword = PyDict::new(py);
    for (name, value) in &arguments.keyword {
        keyword.set_item(name, to_python(py, value)?)?;
    }
    Ok((positional, Some(keyword)))
}

fn from_python_at(object: &Bound<'_, PyAny>, depth: usize) -> Result<Value, Unencodable> {
    if depth > VALUE_DEPTH_MAX {
        let reason = format!("it contains itself, or nests deeper than {VALUE_DEPTH_MAX} levels");
        // Where such a thing was found says nothing: only where it starts does.
        return Err(Unencodable::value(reason));
    }
    // By how often each is seen.
    Ok(if object.is_none() {
        Value::None
    } else if object.is_exact_instance_of::<PyBool>() {
        Value::Bool(object.is_truthy()?)
    } else if object.is_exact_instance_of::<PyInt>() {
        int_from_python(object)?
    } else if let Ok(text) = object.cast_exact::<PyString>() {
        Value::Str(text_from_python(text)?)
    } else if object.is_exact_instance_of::<PyFloat>() {
        Value::Float(object.extract()?)
    } else if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        Value::Bytes(bytes.as_bytes().to_vec())
    } else if object.is_exact_instance_of::<PyList>() {
        Value::List(items_from_python(object, depth)?)
    } else if object.is_exact_instance_of::<PyTuple>() {
        Value::Tuple(items_from_python(object, depth)?)
    } else if let Ok(dict) = object.cast_exact::<PyDict>() {
        Value::Map(pairs_from_python(dict, depth)?)
    } else if object.is_exact_instance_of::<PySet>() {
        Value::Set(elements_from_python(object, depth)?)
    } else if object.is_exact_instance_of::<PyFrozenSet>() {
        Value::FrozenSet(elements_from_python(object, depth)?)
    } else if let Ok(complex) = object.cast_exact::<PyComplex>() {
        Value::Complex(complex.real(), complex.imag())
    } else if let Ok(bytes) = object.cast_exact::<PyByteArray>() {
        Value::Bytes(bytes.to_vec())
    } else if object.is_exact_instance_of::<PyMemoryView>() {
        Value::Bytes(object.call_method0("tobytes")?.extract()?)
    } else if let Ok(exception) = object.cast::<PyBaseException>() {
        Value::Exception(Box::new(exception::from_python(exception, depth)?))
    } else {
        library_from_python(object)?
    })
}

fn int_from_python(object: &Bound<'_, PyAny>) -> Result<Value, Unencodable> {
    if let Ok(int) = object.extract::<i64>() {
        return Ok(Value::Int(int));
    }
    let bits: usize = object.call_method0("bit_length")?.extract()?;
    let signed = PyDict::new(object.py());
    signed.set_item("signed", true)?;
    let bytes = object.call_method("to_bytes", (bits / 8 + 1, "little"), Some(&signed))?;
    let bytes = bytes.cast_into::<PyBytes>().map_err(PyErr::from)?;
    Ok(Value::BigInt(BigInt::from_signed_bytes_le(bytes.as_bytes())))
}

fn text_from_python(text: &Bound<'_, PyString>) -> Result<String, Unencodable> {
    let utf8 = text.to_str().map_err(|_| {
        Unencodable::value("cannot encode a str with a lone surrogate: it is not Unicode text")
    })?;
    Ok(utf8.to_owned())
}

fn items_from_python(items: &Bound<'_, PyAny>, depth: usize) -> Result<Vec<Value>, Unencodable> {
    let mut values = Vec::with_capacity(items.len()?);
    for (index, item) in items.try_iter()?.enumerate() {
        let value = from_python_at(&item?, depth + 1);
        values.push(value.map_err(|error| inside(error, depth, || format!("item {index}")))?);
    }
    Ok(values)
}

fn elements_from_python(set: &Bound<'_, PyAny>, depth: usize) -> Result<Vec<Value>, Unencodable> {
    let mut values = Vec::with_capacity(set.len()?);
    for element in set.try_iter()? {
        let value = from_python_at(&element?, depth + 1);
        values
            .push(value.map_err(|error| inside(error, depth, || "an element of the set".into()))?);
    }
    Ok(values)
}

fn pairs_from_python(
    dict: &Bound<'_, PyDict>,
    depth: usize,
) -> Result<Vec<(Value, Value)>, Unencodable> {
    let mut pairs = Vec::with_capacity(dict.len());
    // Over a copy: a time zone written in Python runs while its datetime is encoded, and may
    // change the dict.
    for pair in dict.items() {
        let (key, value) = pair.extract::<(Bound<'_, PyAny>, Bound<'_, PyAny>)>()?;
        let encoded = from_python_at(&key, depth + 1)
            .map_err(|error| inside(error, depth, || format!("key {}", brief(&key))))?;
        let value = from_python_at(&value, depth + 1)
            .map_err(|error| inside(error, depth, || format!("value of {}", brief(&key))))?;
        pairs.push((encoded, value));
    }
    Ok(pairs)
}

/// Adds a step to the path, but not to that of a cycle, which would name it 96 times.
fn inside(error: Unencodable, depth: usize, step: impl FnOnce() -> String) -> Unencodable {
    const STEPS_MAX: usize = 8;
    if depth < STEPS_MAX { error.within(step()) } else { error }
}

/// What people see of a key.
fn brief(key: &Bound<'_, PyAny>) -> String {
    const CHARS_MAX: usize = 40;
    let Ok(repr) = key.repr() else { return type_name(&key.get_type()) };
    let repr = repr.to_string_lossy();
    match repr.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}...", repr.get(..end).unwrap_or_default()),
        None => repr.into_owned(),
    }
}

/// The types of the standard library, imported when the first of them is met.
struct Library {
    datetime: Py<PyType>,
    date: Py<PyType>,
    time: Py<PyType>,
    timedelta: Py<PyType>,
    decimal: Py<PyType>,
    uuid: Py<PyType>,
}

impl Library {
    fn of(py: Python<'_>) -> PyResult<&Self> {
        static LIBRARY: PyOnceLock<Library> = PyOnceLock::new();
        LIBRARY.get_or_try_init(py, || {
            let class = |module: &str, name: &str| -> PyResult<Py<PyType>> {
                Ok(py.import(module)?.getattr(name)?.cast_into::<PyType>()?.unbind())
            };
            // By an instance: a worker puts classes of its own into the module's place.
            let of_instance = |module: &str, name: &str| -> PyResult<Py<PyType>> {
                Ok(py.import(module)?.getattr(name)?.getattr("min")?.get_type().unbind())
            };
            Ok(Self {
                datetime: of_instance("datetime", "datetime")?,
                date: of_instance("datetime", "date")?,
                time: of_instance("datetime", "time")?,
                timedelta: class("datetime", "timedelta")?,
                decimal: class("decimal", "Decimal")?,
                uuid: class("uuid", "UUID")?,
            })
        })
    }
}

fn library_from_python(object: &Bound<'_, PyAny>) -> Result<Value, Unencodable> {
    let class = object.get_type();
    let library = Library::of(object.py())?;
    let text = |method: &str| -> PyResult<String> { object.call_method0(method)?.extract() };
    let int = |name: &str| -> PyResult<i64> { object.getattr(name)?.extract() };
    Ok(if class.is(&library.datetime) {
        Value::DateTime(text("isoformat")?)
    } else if class.is(&library.date) {
        Value::Date(text("isoformat")?)
    } else if class.is(&library.time) {
        Value::Time(text("isoformat")?)
    } else if class.is(&library.timedelta) {
        Value::TimeDelta {
            days: int("days")?,
            seconds: int("seconds")?,
            microseconds: int("microseconds")?,
        }
    } else if class.is(&library.decimal) {
        Value::Decimal(text("__str__")?)
    } else if class.is(&library.uuid) {
        Value::Uuid(object.getattr("bytes")?.extract()?)
    } else {
        let reason = Reason::Type(unknown(&class));
        return Err(Unencodable { path: Vec::new(), reason });
    })
}

/// Says which type is not in the table, and, of a subclass of one that is, what to do.
fn unknown(class: &Bound<'_, PyType>) -> String {
    const PLAIN: [&str; 9] =
        ["int", "str", "float", "bytes", "list", "tuple", "dict", "set", "frozenset"];
    let name = type_name(class);
    let plain = class.mro().iter().find_map(|base| {
        let base = type_name(base.cast::<PyType>().ok()?);
        PLAIN.into_iter().find(|plain| *plain == base)
    });
    match plain {
        Some(plain) => format!("cannot encode {name}: convert it with {plain}(...)"),
        None => format!("cannot encode {name}"),
    }
}

/// `module.Class`, or `Class` if Python has it built in.
fn type_name(class: &Bound<'_, PyType>) -> String {
    class.fully_qualified_name().map_or_else(|_| "an object".into(), |name| name.to_string())
}

/// The object that `value` is.
pub(crate) fn to_python<'py>(py: Python<'py>, value: &Value) -> PyResult<Bound<'py, PyAny>> {
    Ok(match value {
        Value::None => py.None().into_bound(py),
        Value::Bool(value) => PyBool::new(py, *value).to_owned().into_any(),
        Value::Int(value) => value.into_pyobject(py)?.into_any(),
        Value::BigInt(value) => big_int_to_python(py, value)?,
        Value::Float(value) => PyFloat::new(py, *value).into_any(),
        Value::Str(value) => PyString::new(py, value).into_any(),
        Value::Bytes(value) => PyBytes::new(py, value).into_any(),
        Value::List(items) => PyList::new(py, objects(py, items)?)?.into_any(),
        Value::Tuple(items) => tuple(py, items)?.into_any(),
        Value::Map(pairs) => {
            let dict = PyDict::new(py);
            for (key, value) in pairs {
                dict.set_item(to_python(py, key)?, to_python(py, value)?)?;
            }
            dict.into_any()
        }
        Value::Set(items) => PySet::new(py, objects(py, items)?)?.into_any(),
        Value::FrozenSet(items) => PyFrozenSet::new(py, objects(py, items)?)?.into_any(),
        Value::DateTime(text) => from_iso(py, &Library::of(py)?.datetime, &utc(text))?,
        Value::Date(text) => from_iso(py, &Library::of(py)?.date, text)?,
        Value::Time(text) => from_iso(py, &Library::of(py)?.time, &utc(text))?,
        Value::TimeDelta { days, seconds, microseconds } => {
            Library::of(py)?.timedelta.bind(py).call1((days, seconds, microseconds))?
        }
        Value::Decimal(text) => Library::of(py)?.decimal.bind(py).call1((text,))?,
        Value::Uuid(bytes) => {
            let named = PyDict::new(py);
            named.set_item("bytes", PyBytes::new(py, bytes))?;
            Library::of(py)?.uuid.bind(py).call((), Some(&named))?
        }
        Value::Complex(re, im) => PyComplex::from_doubles(py, *re, *im).into_any(),
        Value::Exception(exception) => exception::to_python(py, exception)?,
    })
}

fn big_int_to_python<'py>(py: Python<'py>, value: &BigInt) -> PyResult<Bound<'py, PyAny>> {
    let (sign, bytes) = value.to_bytes_le();
    let int = py.get_type::<PyInt>().call_method1("from_bytes", (bytes, "little"))?;
    if sign == Sign::Minus { int.neg() } else { Ok(int) }
}

fn from_iso<'py>(py: Python<'py>, class: &Py<PyType>, text: &str) -> PyResult<Bound<'py, PyAny>> {
    class.bind(py).call_method1("fromisoformat", (text,))
}

/// Python 3.10 reads the offset of UTC only in this form.
fn utc(text: &str) -> String {
    text.strip_suffix('Z').map_or_else(|| text.to_owned(), |local| format!("{local}+00:00"))
}

fn objects<'py>(py: Python<'py>, items: &[Value]) -> PyResult<Vec<Bound<'py, PyAny>>> {
    items.iter().map(|item| to_python(py, item)).collect()
}

fn tuple<'py>(py: Python<'py>, items: &[Value]) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, objects(py, items)?)
}
