//! The objects that come ready-made, local: the same code that replicas run.

use std::sync::{Mutex, PoisonError};

use concoord_core::call::CallId;
use concoord_core::object::{Context, Deed, Moment, Object, Reply};
use concoord_core::objects;
use concoord_core::value::{Exception, Value};
use pyo3::exceptions::{PyLookupError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use crate::interface::{self, InterfaceTuple};
use crate::value::{arguments_from_python, raise, to_python};

/// A ready-made object in this process.
#[pyclass(frozen, module = "concoord._concoord")]
pub(crate) struct LocalObject(Mutex<State>);

struct State {
    object: Box<dyn Object>,
    /// Calls that were applied: what the log's index is to a replica.
    index: u64,
}

fn stock(class: &str) -> PyResult<Box<dyn Object>> {
    let object = objects::stock(class);
    object.ok_or_else(|| PyLookupError::new_err(format!("{class} does not come with concoord")))
}

/// Returns the interface of a ready-made class.
#[pyfunction]
#[pyo3(signature = (class, /))]
pub(crate) fn stock_interface(class: &str) -> PyResult<InterfaceTuple> {
    Ok(interface::to_python(stock(class)?.interface()))
}

#[pymethods]
impl LocalObject {
    /// Makes a ready-made object of that class.
    #[new]
    #[pyo3(signature = (class, /))]
    fn new(class: &str) -> PyResult<Self> {
        Ok(Self(Mutex::new(State { object: stock(class)?, index: 0 })))
    }

    /// Calls a method here and now.
    #[pyo3(signature = (method, /, *args, **kwargs))]
    fn call<'py>(
        &self,
        method: &Bound<'py, PyString>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = method.py();
        let arguments =
            arguments_from_python(args, kwargs, |_| None).map_err(|error| error.raise(py))?;
        let method = method.to_str()?;
        // Python's clock, since that is the entry's where the object is part of a replicated one.
        let time_ns: u64 = py.import("time")?.call_method0("time_ns")?.extract()?;
        let result = self.with(|state| {
            if state.object.interface().is_read_only(method) {
                return state.object.read(method, &arguments);
            }
            state.index += 1;
            let ms = time_ns / 1_000_000;
            let moment =
                Moment { index: state.index, step: state.index, time_ms: ms, clock_ms: ms };
            let mut deeds = Vec::new();
            let mut context = Context::new(moment, CallId::default(), 0, &mut deeds);
            let reply = state.object.apply(method, &arguments, &mut context)?;
            state.index = context.last_step();
            if let Reply::Value(value) = reply {
                return Ok(value);
            }
            answer(&deeds).unwrap_or_else(|| {
                let mut context = Context::new(moment, CallId::default(), 0, &mut deeds);
                state.object.cancelled(CallId::default(), &mut context);
                let words = "nobody else is there to wait for";
                Err(Exception::builtin("RuntimeError", words))
            })
        });
        to_python(py, &result.map_err(|exception| raise(py, &exception))?)
    }

    /// Returns the whole state.
    fn snapshot<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.with(|state| state.object.snapshot()))
    }

    /// Becomes what `snapshot` returned.
    #[pyo3(signature = (snapshot, /))]
    fn restore(&self, snapshot: &[u8]) -> PyResult<()> {
        self.with(|state| state.object.restore(snapshot)).map_err(PyValueError::new_err)
    }
}

impl LocalObject {
    /// Nothing that runs inside asks for the interpreter, so that to hold it meanwhile is safe.
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What the call itself comes to that waits, where the object says so at once.
fn answer(deeds: &[Deed]) -> Option<Result<Value, Exception>> {
    deeds.iter().find_map(|deed| match deed {
        Deed::Answer(call, result) if *call == CallId::default() => Some(result.clone()),
        Deed::Answer(..)
        | Deed::Hold(_)
        | Deed::Free(_)
        | Deed::Bell(..)
        | Deed::Hush(_)
        | Deed::Tell(_) => None,
    })
}
