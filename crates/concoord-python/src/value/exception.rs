//! Exceptions travel by name and come back as what they are only if we know them: Python's own
//! and ours. What a peer names is never imported.

use concoord_core::value::{Exception, Value};
use pyo3::exceptions::{PyBaseException, PyException};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyTuple, PyType};

use super::{Unencodable, from_python_at, tuple};

const OURS: &str = "concoord.exception";

/// Those of Python's own modules that ready-made objects raise.
const STANDARD: [(&str, &str); 3] =
    [("queue", "Empty"), ("queue", "Full"), ("threading", "BrokenBarrierError")];

/// An exception that is data: all of its arguments must be, too.
pub(super) fn from_python(
    exception: &Bound<'_, PyBaseException>,
    depth: usize,
) -> Result<Exception, Unencodable> {
    let args = exception.getattr("args")?.cast_into::<PyTuple>().map_err(PyErr::from)?;
    let args = args.iter().enumerate().map(|(index, argument)| {
        let value = from_python_at(&argument, depth + 1);
        value.map_err(|error| super::inside(error, depth, || format!("args[{index}]")))
    });
    let (module, name) = class_of(exception)?;
    Ok(Exception { module, name, args: args.collect::<Result<_, _>>()?, traceback: String::new() })
}

/// An exception that a method raised: an argument that can't travel does so as its `repr`, since
/// the caller must learn of the exception all the same.
pub(crate) fn raised(py: Python<'_>, error: &PyErr) -> Exception {
    // Only this puts the traceback into the exception, before Python 3.12.
    let exception = error.clone_ref(py).into_value(py).into_bound(py);
    let (module, name) =
        class_of(&exception).unwrap_or_else(|_| ("builtins".into(), "Exception".into()));
    let args = exception.getattr("args").and_then(|args| Ok(args.cast_into::<PyTuple>()?));
    let args =
        args.map_or_else(|_| Vec::new(), |args| args.iter().map(|each| or_repr(&each)).collect());
    Exception { module, name, args, traceback: traceback(&exception).unwrap_or_default() }
}

fn or_repr(argument: &Bound<'_, PyAny>) -> Value {
    // Its own depth, and the one of the arguments around it.
    from_python_at(argument, 2).unwrap_or_else(|_| {
        let repr = argument.repr().map_or_else(|_| "...".into(), |repr| repr.to_string());
        Value::Str(repr)
    })
}

fn class_of(exception: &Bound<'_, PyBaseException>) -> PyResult<(String, String)> {
    // One that came from elsewhere goes on as what it was there.
    let class = exception.get_type();
    let (of, module, name) = if class.is(&known(exception.py())?.remote) {
        (exception.as_any(), "module", "name")
    } else {
        (class.as_any(), "__module__", "__qualname__")
    };
    Ok((of.getattr(module)?.extract()?, of.getattr(name)?.extract()?))
}

fn traceback(exception: &Bound<'_, PyBaseException>) -> PyResult<String> {
    exception.py().import("concoord._traceback")?.call_method1("text", (exception,))?.extract()
}

/// The object that an exception is: never an error for one that we don't know.
pub(super) fn to_python<'py>(
    py: Python<'py>,
    exception: &Exception,
) -> PyResult<Bound<'py, PyAny>> {
    let args = tuple(py, &exception.args)?;
    let known = known(py)?;
    if let Some(class) = known.class(py, exception)?
        && let Ok(object) = class.call1(&args)
        && object.is_instance_of::<PyBaseException>()
    {
        return Ok(object);
    }
    let Exception { module, name, traceback, .. } = exception;
    known.from_remote.bind(py).call1((module, name, args, traceback))
}

/// The error to raise for an exception that a method raised on the replica. Where it happened
/// there is seen as its cause.
pub(crate) fn raise(py: Python<'_>, exception: &Exception) -> PyErr {
    match to_python(py, exception) {
        Ok(object) => {
            let error = PyErr::from_value(object);
            if !exception.traceback.is_empty()
                && let Ok(known) = known(py)
                && let Ok(cause) = known.traceback.bind(py).call1((&exception.traceback,))
            {
                error.set_cause(py, Some(PyErr::from_value(cause)));
            }
            error
        }
        Err(error) => error,
    }
}

struct Known {
    builtins: Py<PyModule>,
    ours: Py<PyModule>,
    remote: Py<PyAny>,
    from_remote: Py<PyAny>,
    traceback: Py<PyAny>,
}

fn known(py: Python<'_>) -> PyResult<&Known> {
    static KNOWN: PyOnceLock<Known> = PyOnceLock::new();
    KNOWN.get_or_try_init(py, || {
        let ours = py.import(OURS)?;
        let remote = ours.getattr("RemoteError")?;
        Ok(Known {
            builtins: py.import("builtins")?.unbind(),
            from_remote: remote.getattr("_of")?.unbind(),
            remote: remote.unbind(),
            traceback: ours.getattr("RemoteTraceback")?.unbind(),
            ours: ours.unbind(),
        })
    })
}

impl Known {
    /// The class of that name, if it is an exception that may be raised here. Those that end
    /// programs (`SystemExit`, `KeyboardInterrupt`) may not.
    fn class<'py>(
        &self,
        py: Python<'py>,
        exception: &Exception,
    ) -> PyResult<Option<Bound<'py, PyType>>> {
        let Exception { module, name, .. } = exception;
        let module = match module.as_str() {
            "builtins" => self.builtins.bind(py).clone(),
            OURS => self.ours.bind(py).clone(),
            standard if STANDARD.contains(&(standard, name)) => py.import(standard)?,
            _ => return Ok(None),
        };
        let class = module.getattr_opt(name.as_str())?;
        let class = class.and_then(|class| class.cast_into::<PyType>().ok());
        Ok(class.filter(|class| class.is_subclass_of::<PyException>().unwrap_or(false)))
    }
}
