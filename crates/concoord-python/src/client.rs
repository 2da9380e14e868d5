//! The client behind a proxy: converts, lets go of the interpreter, calls, raises.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use concoord::{
    Arguments, Error, Gathered, Guard, Health, Manner, ObjectName, Options, Refusal, State, Undo,
    UndoWhen,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};
use rustix::event::{EventfdFlags, eventfd};

use crate::interface::{self, InterfaceTuple};
use crate::value::{arguments_from_python, raise, to_python};

/// A call's number, method, arguments and keyword arguments.
type Asked<'py> = (u64, Bound<'py, PyString>, Bound<'py, PyTuple>, Option<Bound<'py, PyDict>>);

/// Longer than anybody waits, and short enough to be added to a clock.
const TIMEOUT_SECONDS_MAX: f64 = 1e9;

/// Calls of one object, by a session that it may share with others.
#[pyclass(frozen, weakref, module = "concoord._concoord")]
pub(crate) struct Client {
    client: Arc<concoord::Client>,
    /// As it was given.
    #[pyo3(get)]
    bootstrap: String,
    /// Seconds that a call may take.
    #[pyo3(get)]
    timeout: f64,
    object: ObjectName,
    guard: Option<Guard>,
    /// Who calls, where that is not the thread that does.
    thread: Option<u64>,
    /// By what gives something out, what gives it back.
    /// By method, what gives back what a call got that was given up, and whether it does always.
    undo: HashMap<String, (String, bool)>,
    proxy: Option<Py<PyType>>,
}

#[pymethods]
impl Client {
    /// Connects; `proxy` is the proxy class that this is for, if there is one yet.
    #[new]
    #[pyo3(signature = (bootstrap, timeout, proxy, name="", /))]
    fn new(
        py: Python<'_>,
        bootstrap: String,
        timeout: f64,
        proxy: Option<Py<PyType>>,
        name: &str,
    ) -> PyResult<Self> {
        if timeout.is_nan() || timeout <= 0.0 {
            return Err(PyValueError::new_err("the timeout must be more than 0 seconds"));
        }
        let class = class_of(py, proxy.as_ref())?;
        let options = Options {
            timeout: Duration::from_secs_f64(timeout.min(TIMEOUT_SECONDS_MAX)),
            class: Some(class.clone()).filter(|class| !class.is_empty()),
            ..Options::default()
        };
        let client = interruptible(py, |interrupted| {
            concoord::Client::connect_with(&bootstrap, options, interrupted)
        })?;
        let (undo, object) =
            (undo_of(py, proxy.as_ref())?, ObjectName { class, name: name.into() });
        let (guard, thread, client) = (None, None, Arc::new(client));
        Ok(Self { client, bootstrap, timeout, object, guard, thread, undo, proxy })
    }

    /// Connects when it is first called, and so waits for nobody here.
    #[staticmethod]
    #[pyo3(signature = (bootstrap, timeout, proxy, name="", /))]
    fn lazy(
        py: Python<'_>,
        bootstrap: String,
        timeout: f64,
        proxy: Py<PyType>,
        name: &str,
    ) -> PyResult<Self> {
        if timeout.is_nan() || timeout <= 0.0 {
            return Err(PyValueError::new_err("the timeout must be more than 0 seconds"));
        }
        let class = class_of(py, Some(&proxy))?;
        let options = Options {
            timeout: Duration::from_secs_f64(timeout.min(TIMEOUT_SECONDS_MAX)),
            class: Some(class.clone()).filter(|class| !class.is_empty()),
            ..Options::default()
        };
        let client = concoord::Client::lazy(&bootstrap, options);
        let client = Arc::new(client.map_err(|error| to_exception(py, &error))?);
        let (undo, object) = (undo_of(py, Some(&proxy))?, ObjectName { class, name: name.into() });
        let (guard, thread, proxy) = (None, None, Some(proxy));
        Ok(Self { client, bootstrap, timeout, object, guard, thread, undo, proxy })
    }

    /// Makes calls, all of which are written together, and waits for none: each is its number,
    /// method, arguments and keyword arguments. What comes of them is gathered.
    #[pyo3(signature = (gather, thread, calls, /))]
    fn start(
        &self,
        py: Python<'_>,
        gather: &Gather,
        thread: Option<u64>,
        calls: Vec<Asked<'_>>,
    ) -> PyResult<Vec<Started>> {
        let mut made = Vec::with_capacity(calls.len());
        for (number, method, args, kwargs) in &calls {
            let name = |index| self.argument_name(method, index);
            let arguments = arguments_from_python(args, kwargs.as_ref(), name);
            let method = method.to_str()?;
            let mut manner = self.manner(method);
            manner.thread = thread.map(|thread| THREADS_MAX | thread).or(manner.thread);
            made.push((*number, manner, method, arguments.map_err(|error| error.raise(py))?));
        }
        let timeout = Duration::from_secs_f64(self.timeout.min(TIMEOUT_SECONDS_MAX));
        let started = py.detach(|| self.client.start_gathered(&made, timeout, &gather.0.gathered));
        let started = started.map_err(|error| to_exception(py, &error))?;
        Ok(started.into_iter().map(Started).collect())
    }

    /// Gives a started call up: one that waits ends, and never gets what it waited for. False
    /// where it has ended already, and is gathered.
    #[pyo3(signature = (started, /))]
    fn give_up(&self, py: Python<'_>, started: &Started) -> bool {
        py.detach(|| self.client.give_up(started.0))
    }

    /// Another object, called by the same session.
    #[pyo3(signature = (proxy, name, /))]
    fn object(&self, py: Python<'_>, proxy: Py<PyType>, name: String) -> PyResult<Self> {
        let object = ObjectName { class: class_of(py, Some(&proxy))?, name };
        let undo = undo_of(py, Some(&proxy))?;
        Ok(Self { object, undo, proxy: Some(proxy), guard: None, ..self.copy(py) })
    }

    /// The same object, for calls that run only while `holder`'s is held under that token.
    #[pyo3(signature = (holder, token, /))]
    fn guarded(&self, py: Python<'_>, holder: &Self, token: u64) -> Self {
        let guard = Some(Guard { object: holder.object.clone(), token });
        Self { guard, ..self.copy(py) }
    }

    /// The same object, for calls that are answered within so many seconds.
    #[pyo3(signature = (timeout, /))]
    fn within(&self, py: Python<'_>, timeout: f64) -> Self {
        Self { timeout, ..self.copy(py) }
    }

    /// The same object, called by one that is no thread of this process, whatever thread calls.
    #[pyo3(signature = (thread, /))]
    fn called_by(&self, py: Python<'_>, thread: u64) -> Self {
        Self { thread: Some(THREADS_MAX | thread), ..self.copy(py) }
    }

    /// The name of the object; empty for the one that is meant where none is named.
    #[getter]
    fn name(&self) -> &str {
        &self.object.name
    }

    /// How the session is: the state, for how many seconds, its number, how many were lost.
    fn health(&self, py: Python<'_>) -> (&'static str, f64, Option<u64>, u64) {
        let Health { state, session, losses } = py.detach(|| self.client.health());
        let (state, seconds) = match state {
            State::None => ("none", 0.0),
            State::Closed => ("closed", 0.0),
            State::Connected => ("connected", 0.0),
            State::Reconnecting { since } => ("reconnecting", since.as_secs_f64()),
            State::Doubtful => ("doubtful", 0.0),
        };
        (state, seconds, session, losses)
    }

    /// Calls a method of the object. An argument that is `...` is left to its default there.
    #[pyo3(signature = (method, /, *args, **kwargs))]
    fn call<'py>(
        &self,
        method: &Bound<'py, PyString>,
        args: &Bound<'py, PyTuple>,
        kwargs: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = method.py();
        let arguments = if args.is_empty() && kwargs.is_none() {
            Arguments::default()
        } else {
            let name = |index| self.argument_name(method, index);
            arguments_from_python(args, kwargs, name).map_err(|error| error.raise(py))?
        };
        let method = method.to_str()?;
        let timeout = Duration::from_secs_f64(self.timeout.min(TIMEOUT_SECONDS_MAX));
        let manner = self.manner(method);
        let value = interruptible(py, |interrupted| {
            self.client.call_as(&manner, method, &arguments, timeout, interrupted)
        })?;
        to_python(py, &value)
    }

    /// Asks what the object offers.
    fn interface(&self, py: Python<'_>) -> PyResult<InterfaceTuple> {
        let interface = py.detach(|| self.client.interface());
        interface.map(|it| interface::to_python(&it)).map_err(|error| to_exception(py, &error))
    }

    /// Ends the session, for all that share it.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.client.close());
    }
}

/// A call that was started.
#[pyclass(frozen, module = "concoord._concoord")]
pub(crate) struct Started(concoord::Started);

/// What came of calls that no thread waits for, with a descriptor that can be read when there is
/// something.
#[pyclass(frozen, module = "concoord._concoord")]
pub(crate) struct Gather(Inner);

struct Inner {
    gathered: Arc<Gathered>,
    event: Arc<OwnedFd>,
}

#[pymethods]
impl Gather {
    #[new]
    fn new() -> PyResult<Self> {
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let event = Arc::new(eventfd(0, flags).map_err(std::io::Error::from)?);
        let woken = Arc::clone(&event);
        let wake = move || {
            // It can only fail where nobody has looked for as often as a u64 counts.
            rustix::io::write(&*woken, &1_u64.to_ne_bytes()).ok();
        };
        Ok(Self(Inner { gathered: Arc::new(Gathered::new(Box::new(wake))), event }))
    }

    /// The descriptor.
    fn fileno(&self) -> i32 {
        self.0.event.as_raw_fd()
    }

    /// What there is: for each call its number, whether it raised, and what.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Vec<(u64, bool, Bound<'py, PyAny>)>> {
        // Before the look: what comes after it wakes again.
        rustix::io::read(&*self.0.event, &mut [0; 8]).ok();
        let taken = self.0.gathered.take().into_iter().map(|(number, result)| match result {
            Ok(value) => to_python(py, &value).map(|value| (number, false, value)),
            Err(error) => {
                let error = to_exception(py, &error).into_value(py).into_bound(py);
                Ok((number, true, error.into_any()))
            }
        });
        taken.collect()
    }
}

/// Numbers of threads are less; those of other callers have this bit.
const THREADS_MAX: u64 = 1 << 48;

fn class_of(py: Python<'_>, proxy: Option<&Py<PyType>>) -> PyResult<String> {
    proxy.map_or(Ok(String::new()), |proxy| proxy.getattr(py, "_class")?.extract(py))
}

fn undo_of(
    py: Python<'_>,
    proxy: Option<&Py<PyType>>,
) -> PyResult<HashMap<String, (String, bool)>> {
    let undoes = proxy.map(|proxy| proxy.bind(py).getattr_opt("_undoes")).transpose()?.flatten();
    undoes.map_or_else(|| Ok(HashMap::new()), |undoes| undoes.extract())
}

impl Client {
    fn copy(&self, py: Python<'_>) -> Self {
        Self {
            client: Arc::clone(&self.client),
            bootstrap: self.bootstrap.clone(),
            timeout: self.timeout,
            object: self.object.clone(),
            guard: self.guard.clone(),
            thread: self.thread,
            undo: self.undo.clone(),
            proxy: self.proxy.as_ref().map(|proxy| proxy.clone_ref(py)),
        }
    }

    fn manner(&self, method: &str) -> Manner {
        let undo = self.undo.get(method).map(|(method, always)| Undo {
            method: method.clone(),
            takes_reply: false,
            when: if *always { UndoWhen::Returned } else { UndoWhen::GotToken },
        });
        let is_kept = self.undo.values().any(|(gives_back, _)| gives_back == method);
        let (guard, thread) = (self.guard.clone(), self.thread);
        Manner { object: Some(self.object.clone()), thread, guard, undo, is_kept }
    }
}

impl Client {
    fn argument_name(&self, method: &Bound<'_, PyString>, index: usize) -> Option<String> {
        let proxy = self.proxy.as_ref()?;
        let module = method.py().import("concoord._proxy").ok()?;
        module.call_method1("argument_name", (proxy, method, index)).ok()?.extract().ok()?
    }
}

/// Waits without the interpreter, until Ctrl-C (or another signal whose handler raises) says
/// otherwise. Python runs handlers in its main thread, so calls of others are not interrupted.
fn interruptible<T: Send>(
    py: Python<'_>,
    wait: impl FnOnce(&mut dyn FnMut() -> bool) -> Result<T, Error> + Send,
) -> PyResult<T> {
    let (result, raised) = py.detach(|| {
        let mut raised = None;
        let result = wait(&mut || {
            // None where the interpreter is shutting down: nobody is left to answer.
            let checked = Python::try_attach(|py| py.check_signals());
            match checked {
                Some(Ok(())) => false,
                Some(Err(error)) => {
                    raised = Some(error);
                    true
                }
                None => true,
            }
        });
        (result, raised)
    });
    match raised {
        Some(error) => Err(error),
        None => result.map_err(|error| to_exception(py, &error)),
    }
}

fn to_exception(py: Python<'_>, error: &Error) -> PyErr {
    let name = match error {
        Error::Raised(exception) => return raise(py, exception),
        Error::Encode(error) => return PyValueError::new_err(error.to_string()),
        Error::Bootstrap(_) => "BootstrapError",
        Error::Unreachable { .. } => "UnreachableError",
        Error::TimedOut { .. } | Error::Interrupted => "CallTimeoutError",
        Error::SessionExpired | Error::Refusal(Refusal::SessionExpired) => "SessionExpiredError",
        Error::Refusal(Refusal::NoSuchMethod { .. }) => "NoSuchMethodError",
        Error::Refusal(Refusal::Fenced { .. }) => "FenceError",
        Error::Refusal(Refusal::Cancelled) => "CallCancelledError",
        Error::Refusal(Refusal::ObjectCrashed) => "ObjectCrashedError",
        Error::Refusal(Refusal::TooLarge { .. }) | Error::TooLarge { .. } => "TooLargeError",
        Error::Refusal(_) | Error::Refused(_) => "RefusedError",
        Error::Decode(_) => "ConcoordError",
        Error::Closed => "ClosedError",
    };
    let class = py.import("concoord.exception").and_then(|module| module.getattr(name));
    match class.and_then(|class| Ok(class.cast_into::<PyType>()?)) {
        Ok(class) => PyErr::from_type(class, (error.to_string(),)),
        Err(error) => error,
    }
}
