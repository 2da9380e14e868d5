//! `concoord object`: has Python write the proxy of a Python class.

use std::path::PathBuf;
use std::process::Command;

use super::exit::{Exit, Failure};
use super::python;

#[derive(Debug, clap::Args)]
#[command(after_long_help = super::EXIT_CODES)]
pub(super) struct Options {
    /// Dotted name of the class
    #[arg(short, long, value_name = "OBJECTNAME")]
    objectname: String,
    /// How it calls: 0 or 1 waits for each result, 2 keeps calls back to make many in one go,
    /// 3 returns a future for each
    #[arg(short, long, value_name = "KIND", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=3))]
    proxytype: u8,
    /// Say what is done
    #[arg(short, long)]
    verbose: bool,
    /// The Python that knows the class
    #[arg(long)]
    python: Option<PathBuf>,
}

/// The module that does it, part of the Python package.
const GENERATE: &str = "concoord._generate";

pub(super) fn run(options: &Options, installed: Option<PathBuf>) -> Result<(), Failure> {
    let python = python::choose(options.python.as_deref(), installed.as_deref());
    if installed.as_ref() != Some(&python) {
        check(&python)?;
    }
    let mut command = Command::new(&python);
    command.args(["-m", GENERATE, "-o", &options.objectname]);
    command.args(["-p", &options.proxytype.to_string()]);
    if options.verbose {
        command.arg("-v");
    }
    // The generator says itself what went wrong, and its codes are ours.
    let status = command.status().map_err(|error| absent(&python, &error))?;
    match status.code() {
        Some(0) => Ok(()),
        Some(2) => Err(Failure::usage("no proxy was written")),
        Some(4) => Err(Failure::new(Exit::Object, "no proxy was written")),
        Some(_) | None => Err(Failure::failed("no proxy was written")),
    }
}

/// Whether that Python has our package.
fn check(python: &PathBuf) -> Result<(), Failure> {
    let find =
        format!("import importlib.util as u; raise SystemExit(not u.find_spec({GENERATE:?}))");
    let output = Command::new(python)
        .args(["-c", &find])
        .output()
        .map_err(|error| absent(python, &error))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "{} has no package concoord: install it there (pip install concoord), or name another \
         Python with --python",
        python.display()
    )))
}

fn absent(python: &std::path::Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!(
        "{} can't be run ({error}): name a Python with --python",
        python.display()
    ))
}
