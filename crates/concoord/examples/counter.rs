//! Counts together with everybody else: `cargo run --example counter -- 127.0.0.1:14000`.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to a person")]

use std::process::ExitCode;

use concoord::Error;
use concoord::object::Counter;

fn main() -> ExitCode {
    let bootstrap = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:14000".into());
    match count(&bootstrap) {
        Ok(value) => {
            println!("{value}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("counter: {error}");
            ExitCode::FAILURE
        }
    }
}

fn count(bootstrap: &str) -> Result<i64, Error> {
    let counter = Counter::connect(bootstrap)?;
    counter.increment()?;
    counter.increment()?;
    counter.getvalue()
}
