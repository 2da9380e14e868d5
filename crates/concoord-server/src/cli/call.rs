//! `concoord call`: one call from the shell.

use std::time::Duration;

use concoord::{Client, Error, Options as ClientOptions};
use serde_json::json;

use super::exit::Failure;
use super::json::{arguments, exception_to_json, to_json};
use super::output::{say, say_json};
use super::{BOOTSTRAP, seconds};

/// Somebody at a terminal wants to know soon that nobody is there; long enough for an election.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, clap::Args)]
#[command(after_long_help = super::EXIT_CODES)]
pub(super) struct Options {
    /// The method
    method: String,
    /// Its arguments in JSON: an array by position, an object by name
    #[arg(value_name = "ARGS", default_value = "[]")]
    arguments: String,
    /// address:port of a replica, or several with commas between, or their domain name
    #[arg(short, long, value_name = "BOOTSTRAP", default_value = BOOTSTRAP)]
    boot: String,
    /// Dotted name of the object's class [default: that of the cluster's own object]
    #[arg(long)]
    class: Option<String>,
    /// Which object of the class; made when it is first called [default: the one without a name]
    #[arg(long, default_value = "", hide_default_value = true)]
    name: String,
    /// Print how the call ended as JSON, exceptions too
    #[arg(long)]
    json: bool,
    /// How long to wait for the reply, in seconds
    #[arg(long, value_parser = seconds, value_name = "SECONDS", default_value = "60")]
    timeout: Duration,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let arguments = arguments(&options.arguments).map_err(Failure::usage)?;
    let timeout = options.timeout.min(CONNECT_TIMEOUT);
    let (class, name) = (options.class.clone(), options.name.clone());
    let client = Client::connect(&options.boot, ClientOptions { timeout, class, name })?;
    let outcome = client.call_with(&options.method, &arguments, options.timeout, &mut || false);
    if options.json {
        match &outcome {
            Ok(value) => say_json(&json!({ "returned": to_json(value) })),
            Err(Error::Raised(exception)) => {
                say_json(&json!({ "raised": exception_to_json(exception) }))
            }
            Err(_) => true,
        };
    } else if let Ok(value) = &outcome {
        say(to_json(value).to_string());
    }
    outcome.map(drop).map_err(Failure::from)
}
