//! The objects that come ready-made, local: the same code that replicas run.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use concoord_core::call::{CallId, SessionId};
use concoord_core::object::{Context, Deed, Moment, Object, Reply};
use concoord_core::objects;
use concoord_core::value::{Exception, Value};
use pyo3::exceptions::{PyLookupError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use crate::interface::{self, InterfaceTuple};
use crate::value::{arguments_from_python, raise, to_python};

/// How long a call waits at most before it looks whether a signal came.
const SLICE: Duration = Duration::from_millis(50);

/// A ready-made object in this process. A call that has to wait waits for its other threads.
#[pyclass(frozen, module = "concoord._concoord")]
pub(crate) struct LocalObject {
    state: Mutex<State>,
    /// Some calls that wait have ended.
    ended: Condvar,
}

struct State {
    object: Box<dyn Object>,
    /// Steps so far: what the log's index is to a replica.
    index: u64,
    /// Calls that wait, by their numbers; `Some` once they have ended.
    parked: HashMap<u64, Option<Result<Value, Exception>>>,
    /// What is due when, of the object's own.
    bells: BTreeMap<u64, u64>,
}

/// When a call is made, milliseconds.
#[derive(Clone, Copy)]
struct Now {
    time_ms: u64,
    clock_ms: u64,
}

impl Now {
    /// Python's clock, since that is the entry's where the object is part of a replicated one. For
    /// deadlines too: what is due is part of the object's state, and goes where that goes.
    fn of(py: Python<'_>) -> PyResult<Self> {
        let ms = py.import("time")?.call_method0("time_ns")?.extract::<u64>()? / 1_000_000;
        Ok(Self { time_ms: ms, clock_ms: ms })
    }
}

impl State {
    fn new(object: Box<dyn Object>) -> Self {
        Self { object, index: 0, parked: HashMap::new(), bells: BTreeMap::new() }
    }

    /// Has the object make a step for the call of that number.
    fn step<T>(
        &mut self,
        now: Now,
        sequence: u64,
        step: impl FnOnce(&mut dyn Object, &mut Context<'_>) -> T,
    ) -> T {
        self.index += 1;
        let Now { time_ms, clock_ms } = now;
        let moment = Moment { index: self.index, step: self.index, time_ms, clock_ms };
        let mut deeds = Vec::new();
        let call = CallId { session: SESSION, sequence };
        let mut context = Context::new(moment, call, thread_number(), &mut deeds);
        let made = step(self.object.as_mut(), &mut context);
        self.index = context.last_step();
        for deed in deeds {
            match deed {
                Deed::Answer(call, result) => {
                    if let Some(parked) = self.parked.get_mut(&call.sequence) {
                        *parked = Some(result);
                    }
                }
                Deed::Bell(bell, at) => {
                    self.bells.insert(bell, at);
                }
                Deed::Hush(bell) => {
                    self.bells.remove(&bell);
                }
                // There is one session, as long as the process, and nobody watches.
                Deed::Hold(_) | Deed::Free(_) | Deed::Tell(_) => {}
            }
        }
        made
    }

    /// The object, its steps and its bells.
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

    /// Rings what is due.
    fn ring(&mut self, now: Now) {
        while let Some(bell) =
            self.bells.iter().find(|(_, at)| **at <= now.clock_ms).map(|it| *it.0)
        {
            self.bells.remove(&bell);
            self.step(now, 0, |object, context| object.ring(bell, context));
        }
    }
}

/// The session of all calls: that of the process.
const SESSION: SessionId = SessionId(1);

/// The number of this thread, which no other of this process has.
fn thread_number() -> u64 {
    static THREADS: AtomicU64 = AtomicU64::new(0);
    thread_local! {
        static NUMBER: u64 = THREADS.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
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
        Ok(Self { state: Mutex::new(State::new(stock(class)?)), ended: Condvar::new() })
    }

    /// Calls a method here, and waits for other threads if that has to.
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
        let now = Now::of(py)?;
        let begun = self.with(|state| {
            state.ring(now);
            if state.object.interface().is_read_only(method) {
                return Begun::Over(state.object.read(method, &arguments));
            }
            let number = state.index + 1;
            // A call may be answered by the very step that has it wait.
            state.parked.insert(number, None);
            let made = state.step(now, number, |object, it| object.apply(method, &arguments, it));
            let over = match made {
                Ok(Reply::Parked { until }) => return Begun::Parked(number, until),
                Ok(Reply::Value(value)) => Ok(value),
                Err(exception) => Err(exception),
            };
            state.parked.remove(&number);
            Begun::Over(over)
        });
        let result = match begun {
            Begun::Over(result) => {
                self.ended.notify_all();
                result
            }
            Begun::Parked(number, until) => self.wait(py, number, until)?,
        };
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

/// What has become of a call at first.
enum Begun {
    Over(Result<Value, Exception>),
    /// Under that number, until that time.
    Parked(u64, Option<u64>),
}

impl LocalObject {
    /// Waits for the end of a call.
    fn wait(
        &self,
        py: Python<'_>,
        number: u64,
        until: Option<u64>,
    ) -> PyResult<Result<Value, Exception>> {
        let call = CallId { session: SESSION, sequence: number };
        self.ended.notify_all();
        if py.import("sys")?.getattr("modules")?.contains("concoord._worker")? {
            let now = Now::of(py)?;
            self.give_up(now, call);
            let words = "part of a replicated object, this can't wait: nobody else is there";
            return Ok(Err(Exception::builtin("RuntimeError", words)));
        }
        loop {
            let now = Now::of(py)?;
            let over = self.with(|state| {
                state.ring(now);
                if let Some(Some(_)) = state.parked.get(&number) {
                    return state.parked.remove(&number).flatten();
                }
                until.filter(|until| *until <= now.clock_ms)?;
                state.parked.remove(&number);
                Some(state.step(now, 0, |object, context| object.timed_out(call, context)))
            });
            if let Some(result) = over {
                self.ended.notify_all();
                return Ok(result);
            }
            let left = until.map_or(SLICE, |until| {
                Duration::from_millis(until.saturating_sub(now.clock_ms)).min(SLICE)
            });
            py.detach(|| {
                let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
                // It may have ended since we looked.
                if matches!(state.parked.get(&number), Some(None)) {
                    drop(self.ended.wait_timeout(state, left));
                }
            });
            if let Err(error) = py.check_signals() {
                self.give_up(Now::of(py)?, call);
                return Err(error);
            }
        }
    }

    /// Nobody wants that call any more. What it was given meanwhile stays with who called, as where
    /// a thread is interrupted that has just got a lock.
    fn give_up(&self, now: Now, call: CallId) {
        self.with(|state| {
            if state.parked.remove(&call.sequence).is_some_and(|ended| ended.is_none()) {
                state.step(now, 0, |object, context| object.cancelled(call, context));
            }
        });
        self.ended.notify_all();
    }

    /// Nothing that runs inside asks for the interpreter, so that to hold it meanwhile is safe.
    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        work(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
