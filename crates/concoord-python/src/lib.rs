//! The compiled half of the Python package: what is not written here is in `python/concoord`.
//!
//! ```text
//! proxy ─ client ─▶ the Rust client, without the interpreter
//! local object ─ object ─▶ the objects that replicas run
//! replica ─ socket ─▶ worker ─▶ an object of a class written in Python
//! ```
//!
//! Each is a thin face: it converts (`value`), lets go of the interpreter, calls, and raises.

mod cli;
mod client;
mod interface;
mod object;
mod value;
mod worker;

use pyo3::prelude::*;

#[pymodule]
mod _concoord {
    use pyo3::prelude::*;
    use pyo3::types::PyTuple;

    #[pymodule_export]
    use super::cli::run;
    #[pymodule_export]
    use super::client::{Client, Gather, Started};
    #[pymodule_export]
    use super::object::{LocalObject, stock_interface};
    #[pymodule_export]
    use super::value::{decode, encode};
    #[pymodule_export]
    use super::worker::Worker;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        let special = PyTuple::new(module.py(), concoord_core::object::SPECIAL_METHODS)?;
        module.add("SPECIAL_METHODS", special)
    }
}
