//! The objects that come ready-made, local: the same code that replicas run.

use std::collections::BTreeMap;
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
    /// Steps that were taken: what the log's index is to a replica.
    index: u64,
    /// When bells ring. There is nobody to ring them in time, but none is missed by a call.
    bells: BTreeMap<u64, u64>,
}

impl State {
    /// Takes a step at that time; what it returns, and what a call comes to that waits, where the
    /// object says so at once.
    fn step<T>(
        &mut self,
        ms: u64,
        step: impl FnOnce(&mut dyn Object, &mut Context<'_>) -> T,
    ) -> (T, Option<Result<Value, Exception>>) {
        self.index += 1;
        let moment = Moment { index: self.index, step: self.index, time_ms: ms, clock_ms: ms };
        let mut deeds = Vec::new();
        let mut context = Context::new(moment, CallId::default(), 0, &mut deeds);
        let result = step(&mut *self.object, &mut context);
        self.index = context.last_step();
        let mut answer = None;
        for deed in deeds {
            match deed {
                Deed::Bell(bell, at) => drop(self.bells.insert(bell, at)),
                Deed::Hush(bell) => drop(self.bells.remove(&bell)),
                Deed::Answer(call, result) if call == CallId::default() => answer = Some(result),
                // Nobody else is there to whom it would matter.
                Deed::Answer(..) | Deed::Hold(_) | Deed::Free(_) | Deed::Tell(_) => {}
            }
        }
        (result, answer)
    }

    /// Rings the bells that should have rung until then.
    fn ring(&mut self, ms: u64) {
        let next = |bells: &BTreeMap<u64, u64>| bells.iter().map(|(bell, at)| (*at, *bell)).min();
        while let Some((_, bell)) = next(&self.bells).filter(|(at, _)| *at <= ms) {
            self.bells.remove(&bell);
            self.step(ms, |object, context| object.ring(bell, context));
        }
    }

    fn snapshot(&self) -> Vec<u8> {
        let bells = self.bells.iter().map(|(bell, at)| ((*bell).into(), (*at).into()));
        let object = Value::Bytes(self.object.snapshot());
        let all = Value::List(vec![self.index.into(), Value::Map(bells.collect()), object]);
        all.encode().expect("it is not deep").to_vec()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        let number = |value: Value| {
            let Value::Int(int) = value else { return None };
            u64::try_from(int).ok()
        };
        let wrong = || "the state can't be read".to_owned();
        let all = Value::decode(snapshot).map_err(|error| error.to_string())?;
        let Value::List(parts) = all else { return Err(wrong()) };
        let Ok([index, Value::Map(bells), Value::Bytes(object)]) = <[Value; 3]>::try_from(parts)
        else {
            return Err(wrong());
        };
        let index = number(index).ok_or_else(wrong)?;
        let bells = bells.into_iter().map(|(bell, at)| Some((number(bell)?, number(at)?)));
        let bells = bells.collect::<Option<_>>().ok_or_else(wrong)?;
        self.object.restore(&object)?;
        (self.index, self.bells) = (index, bells);
        Ok(())
    }
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
        Ok(Self(Mutex::new(State { object: stock(class)?, index: 0, bells: BTreeMap::new() })))
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
        let ms = time_ns / 1_000_000;
        let result = self.with(|state| {
            state.ring(ms);
            if state.object.interface().is_read_only(method) {
                return state.object.read(method, &arguments);
            }
            let call = |object: &mut dyn Object, context: &mut Context<'_>| {
                object.apply(method, &arguments, context)
            };
            let (reply, answer) = state.step(ms, call);
            match reply? {
                Reply::Value(value) => Ok(value),
                Reply::Parked { .. } => answer.unwrap_or_else(|| {
                    state.step(ms, |object, context| object.cancelled(CallId::default(), context));
                    let words = "nobody else is there to wait for";
                    Err(Exception::builtin("RuntimeError", words))
                }),
            }
        });
        to_python(py, &result.map_err(|exception| raise(py, &exception))?)
    }

    /// Returns the whole state.
    fn snapshot<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.with(|state| state.snapshot()))
    }

    /// Becomes what `snapshot` returned.
    #[pyo3(signature = (snapshot, /))]
    fn restore(&self, snapshot: &[u8]) -> PyResult<()> {
        self.with(|state| state.restore(snapshot)).map_err(PyValueError::new_err)
    }
}

impl LocalObject {
    /// Nothing that runs inside asks for the interpreter, so that to hold it meanwhile is safe.
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
