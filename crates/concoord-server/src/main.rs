//! The program `concoord`.

use std::process::ExitCode;

fn main() -> ExitCode {
    concoord_server::cli::main(std::env::args_os(), None).into()
}
