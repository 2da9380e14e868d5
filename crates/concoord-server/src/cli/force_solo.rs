//! `concoord force-solo`: the last resort, where the others will never return.

use std::io::{self, IsTerminal};
use std::time::Duration;

use concoord::Status;
use concoord_core::view::View;
use concoord_core::wire::Order;

use super::exit::{Exit, Failure};
use super::output::{note, say};
use super::status::{first, reason};
use super::{BOOTSTRAP, addresses, order, seconds};

#[derive(Debug, clap::Args)]
#[command(
    long_about = "Have one replica go on alone where the others will never return.\n\n\
        Calls that the others acknowledged without this replica are lost. Use it only when those \
        others are destroyed or their state is given up: if they return, they give up what they \
        have and join as newcomers.",
    after_long_help = super::EXIT_CODES
)]
pub(super) struct Options {
    /// address:port of the one replica that is to go on
    #[arg(short, long, value_name = "ADDRESS", default_value = BOOTSTRAP)]
    boot: String,
    /// Don't ask
    #[arg(long)]
    yes: bool,
    /// How long it may take, in seconds
    #[arg(long, value_parser = seconds, value_name = "SECONDS", default_value = "10")]
    timeout: Duration,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    if options.boot.contains(',') {
        return Err(Failure::usage("-b: name the one replica that is to go on"));
    }
    let address = match addresses(&options.boot, options.timeout)?.as_slice() {
        [address] => address.to_string(),
        several => {
            let text = format!("-b: {} stands for {several:?}: name one address", options.boot);
            return Err(Failure::usage(text));
        }
    };
    let status = first(&address, options.timeout)?;
    let Some(view) = &status.view else {
        return Err(Failure::new(Exit::NotReady, reason(&status)));
    };
    if status.ready {
        let text =
            format!("{}: there is a leader, nothing is to be forced", status.replica.address);
        return Err(Failure::new(Exit::Refused, text));
    }
    note(warning(&status, view));
    if !options.yes {
        confirm()?;
    }
    say(order::give(&address, Order::GoAlone, options.timeout, |text| note(text))?);
    Ok(())
}

fn warning(status: &Status, view: &View) -> String {
    let others = view.members.iter().filter(|(member, _)| member.id != status.replica.id);
    let others: Vec<String> = others.map(|(member, _)| member.address.to_string()).collect();
    format!(
        "WARNING: {} goes on alone, with what it has applied up to entry {}.\n\
         Whatever the others ({}) have acknowledged without it is lost for good.\n\
         Make sure that none of them runs: while they do, clients may find two clusters.\n\
         Those that return give up what they have, and join as newcomers.",
        status.replica.address,
        status.applied,
        others.join(", ")
    )
}

fn confirm() -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::usage("nobody is there to confirm it: say --yes"));
    }
    note("Type yes to go on:");
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(Failure::failed)?;
    if answer.trim() == "yes" {
        Ok(())
    } else {
        Err(Failure::new(Exit::Refused, "not confirmed: nothing has changed"))
    }
}
