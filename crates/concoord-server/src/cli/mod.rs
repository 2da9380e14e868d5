//! The command line: one file a sub-command.
//!
//! The same for both ways in: the program of `cargo install`, and the `concoord` command of the
//! Python package, which says which Python it was installed into.

mod bench;
mod call;
#[cfg(feature = "dns")]
mod dns;
mod exit;
mod force_solo;
mod hold;
mod json;
mod logger;
mod members;
mod object;
mod objects;
mod offspring;
mod order;
mod output;
mod python;
mod rebuild;
mod replica;
mod reply;
#[cfg(feature = "route53")]
mod route53;
#[cfg(feature = "route53")]
mod route53_keys;
mod snapshot;
mod status;

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use concoord::Bootstrap;

use exit::{EXIT_CODES, Failure};
use output::note;

/// Where a client looks for the cluster if it is not told: the first port that a replica takes.
const BOOTSTRAP: &str = "127.0.0.1:14000";

/// How long a command looks names up.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Parser)]
#[command(
    name = "concoord",
    bin_name = "concoord",
    version,
    about = "Keeps live, linearizable copies of an ordinary object on several replicas.",
    help_template = "{name} {version}\n{about-with-newline}\n{usage-heading} {usage}\n\n{all-args}{after-help}",
    after_help = "Start:   concoord replica -o concoord.object.counter.Counter -a 127.0.0.1 -p 14000\n\
                  Use:     concoord call increment\n\
                  Look:    concoord status",
    after_long_help = EXIT_CODES,
    disable_help_subcommand = true
)]
struct Program {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start a replica of an object
    Replica(replica::Options),
    /// Show the members of a cluster and how they are
    Status(status::Options),
    /// List, add, remove or promote members of a cluster
    Members(members::Options),
    /// Have one replica go on alone where the others will never return
    ForceSolo(force_solo::Options),
    /// Call a method of the object
    Call(call::Options),
    /// List, show or remove the objects of a cluster
    Objects(objects::Options),
    Lock(hold::Lock),
    Semaphore(hold::Semaphore),
    Elect(hold::Elect),
    /// Write the proxy of a Python class beside its source
    Object(object::Options),
    /// Save a living cluster's state, start a cluster from it, or look at it
    #[command(subcommand)]
    Snapshot(snapshot::Command),
    /// Measure calls per second and how long they take
    Bench(bench::Options),
    /// Print the log records that replicas send with -l
    Logger(logger::Options),
    /// Set the content of a damaged data folder aside, to get it anew from the peers
    Rebuild(rebuild::Options),
    /// Keep the AWS access key id that replicas change Route 53 with
    #[cfg(feature = "route53")]
    #[command(name = "route53id")]
    Route53Id(route53_keys::Id),
    /// Keep the AWS secret access key that replicas change Route 53 with
    #[cfg(feature = "route53")]
    #[command(name = "route53key")]
    Route53Key(route53_keys::Key),
    /// Compare a cluster's records in Route 53 with it, set them right, or remove them
    #[cfg(feature = "route53")]
    #[command(subcommand)]
    Route53(route53::Command),
    /// Print a cluster's records, or check whether a domain's name servers are found
    #[cfg(feature = "dns")]
    #[command(subcommand)]
    Dns(dns::Command),
    /// Print the completions for a shell
    Completions {
        /// Which shell
        shell: clap_complete::Shell,
    },
}

/// Runs the command line `arguments`, the program's name first. `python` is the interpreter that
/// this was installed into, where it was installed into one: it hosts Python objects. Returns the
/// exit code, as a number since Python ends by it, too.
pub fn main<A>(arguments: A, python: Option<PathBuf>) -> u8
where
    A: IntoIterator,
    A::Item: Into<OsString>,
{
    let arguments = with_lower_command(arguments);
    match Program::try_parse_from(&arguments) {
        Ok(program) => match run(program, arguments.first(), python) {
            Ok(code) => code,
            Err(failure) => {
                note(format!("concoord: {}", failure.message));
                failure.exit as u8
            }
        },
        Err(error) => {
            // Whoever would read it may have gone; that is no failure of the command line.
            drop(error.print());
            u8::try_from(error.exit_code()).unwrap_or(exit::Exit::Failed as u8)
        }
    }
}

fn run(
    program: Program,
    script: Option<&OsString>,
    python: Option<PathBuf>,
) -> Result<u8, Failure> {
    match program.command {
        Some(Command::Lock(options)) => return hold::lock(&options),
        Some(Command::Semaphore(options)) => return hold::semaphore(&options),
        Some(Command::Elect(options)) => return hold::elect(&options),
        Some(Command::Replica(options)) => replica::run(&options, python),
        Some(Command::Status(options)) => status::run(&options),
        Some(Command::Members(options)) => members::run(&options),
        Some(Command::ForceSolo(options)) => force_solo::run(&options),
        Some(Command::Call(options)) => call::run(&options),
        Some(Command::Objects(options)) => objects::run(&options),
        Some(Command::Snapshot(command)) => snapshot::run(&command, python),
        Some(Command::Object(options)) => object::run(&options, python),
        Some(Command::Bench(options)) => {
            bench::run(&options, &bench::program(script, python.as_deref())?)
        }
        Some(Command::Logger(options)) => logger::run(&options),
        Some(Command::Rebuild(options)) => rebuild::run(&options),
        #[cfg(feature = "route53")]
        Some(Command::Route53Id(options)) => route53_keys::keep_id(&options),
        #[cfg(feature = "route53")]
        Some(Command::Route53Key(options)) => route53_keys::keep_key(&options),
        #[cfg(feature = "route53")]
        Some(Command::Route53(command)) => route53::run(&command),
        #[cfg(feature = "dns")]
        Some(Command::Dns(command)) => dns::run(&command),
        Some(Command::Completions { shell }) => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Program::command(), "concoord", &mut script);
            output::say(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
        None => {
            output::say(Program::command().render_help().to_string().trim_end());
            Ok(())
        }
    }
    .map(|()| 0)
}

/// The name of the sub-command may be written in any case.
fn with_lower_command<A>(arguments: A) -> Vec<OsString>
where
    A: IntoIterator,
    A::Item: Into<OsString>,
{
    let mut arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
    if let Some(name) = arguments.get_mut(1)
        && let Some(lower) = name.to_str().map(str::to_lowercase)
        && Program::command().find_subcommand(&lower).is_some()
    {
        *name = lower.into();
    }
    arguments
}

/// Seconds on the command line: `10`, `0.5`.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().map_err(|_| "write a number of seconds, as 10 or 0.5")?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        Ok(_) | Err(_) => Err("write a number of seconds above 0".into()),
    }
}

/// The addresses of replicas: `host:port, host:port`, or domain names, which are looked up for
/// `timeout` at most.
fn addresses(text: &str, timeout: Duration) -> Result<Vec<SocketAddr>, Failure> {
    Ok(text.parse::<Bootstrap>()?.look_up(timeout)?)
}

/// The runtime that commands with sockets run on: this thread and no other.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error: io::Error| Failure::failed(format!("no runtime: {error}")))
}

#[cfg(test)]
mod tests {
    use super::exit::Exit;
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Program::command().debug_assert();
    }

    #[test]
    fn a_sub_command_may_be_written_in_any_case() {
        let arguments = with_lower_command(["concoord", "RePlica", "-o", "A.B"]);
        assert_eq!(arguments, ["concoord", "replica", "-o", "A.B"]);
        let arguments = with_lower_command(["concoord", "Nothing"]);
        assert_eq!(arguments, ["concoord", "Nothing"]);
    }

    #[test]
    fn replicas_are_named_by_address_and_port() {
        let expected: Vec<SocketAddr> =
            vec![([127, 0, 0, 1], 14000).into(), ([127, 0, 0, 1], 14001).into()];
        let addresses = |text| addresses(text, LOOK_UP_TIMEOUT);
        assert_eq!(addresses("127.0.0.1:14000, 127.0.0.1:14001").unwrap(), expected);
        assert_eq!(addresses("127.0.0.1,127.0.0.1:14001").unwrap(), expected);
        for text in ["", "127.0.0.1:14000,", "127.0.0.1:99999", "no host:1"] {
            assert_eq!(addresses(text).unwrap_err().exit, Exit::Usage, "{text}");
        }
        let failure = addresses("name.invalid").unwrap_err();
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.message.contains("name.invalid: "), "{}", failure.message);
    }

    #[test]
    fn seconds_are_above_zero() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "NaN", "inf", "ten", ""] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
