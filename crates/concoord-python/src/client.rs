//! The client behind a proxy: converts, lets go of the interpreter, calls, raises.

use std::time::Duration;

use concoord::{Arguments, Error, Options, Refusal};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use crate::interface::{self, InterfaceTuple};
use crate::value::{arguments_from_python, raise, to_python};

/// Longer than anybody waits, and short enough to be added to a clock.
const TIMEOUT_SECONDS_MAX: f64 = 1e9;

/// A client of the replicas at some addresses.
#[pyclass(frozen, module = "concoord._concoord")]
pub(crate) struct Client {
    client: concoord::Client,
    /// As it was given.
    #[pyo3(get)]
    bootstrap: String,
    /// Seconds that a call may take.
    #[pyo3(get)]
    timeout: f64,
    proxy: Option<Py<PyType>>,
}

#[pymethods]
impl Client {
    /// Connects; `proxy` is the proxy class that this is for, if there is one yet.
    #[new]
    #[pyo3(signature = (bootstrap, timeout, proxy, /))]
    fn new(
        py: Python<'_>,
        bootstrap: String,
        timeout: f64,
        proxy: Option<Py<PyType>>,
    ) -> PyResult<Self> {
        if timeout.is_nan() || timeout <= 0.0 {
            return Err(PyValueError::new_err("the timeout must be more than 0 seconds"));
        }
        let class = match &proxy {
            Some(proxy) => Some(proxy.getattr(py, "_class")?.extract::<String>(py)?),
            None => None,
        };
        let class = class.filter(|class| !class.is_empty());
        let options = Options {
            timeout: Duration::from_secs_f64(timeout.min(TIMEOUT_SECONDS_MAX)),
            class,
            ..Options::default()
        };
        let client = interruptible(py, |interrupted| {
            concoord::Client::connect_with(&bootstrap, options, interrupted)
        })?;
        Ok(Self { client, bootstrap, timeout, proxy })
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
        let value = interruptible(py, |interrupted| {
            self.client.call_with(method, &arguments, timeout, interrupted)
        })?;
        to_python(py, &value)
    }

    /// Asks what the object offers.
    fn interface(&self, py: Python<'_>) -> PyResult<InterfaceTuple> {
        let interface = py.detach(|| self.client.interface());
        interface.map(|it| interface::to_python(&it)).map_err(|error| to_exception(py, &error))
    }

    /// Ends the session.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.client.close());
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
