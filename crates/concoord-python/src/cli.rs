//! The `concoord` command of the wheel: the program's own.

use std::ffi::OsString;
use std::path::PathBuf;

use pyo3::prelude::*;

/// Runs the command line, the program's name first, and returns its exit code. Objects written
/// in Python are hosted by `python`.
#[pyfunction]
#[pyo3(signature = (arguments, python, /))]
pub(crate) fn run(py: Python<'_>, arguments: Vec<OsString>, python: PathBuf) -> u8 {
    py.detach(|| concoord_server::cli::main(arguments, Some(python)))
}
