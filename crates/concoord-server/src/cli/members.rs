//! `concoord members`: who they are, and who shall be one.

use std::time::Duration;

use concoord_core::view::{ReplicaId, View};
use concoord_core::wire::{Order, Who};
use serde_json::{Value as Json, json};

use super::exit::Failure;
use super::output::{note, say, say_json, table};
use super::status::{Answered, leader, look, role, title};
use super::{BOOTSTRAP, LOOK_UP_TIMEOUT, addresses, order, seconds};

/// How long to wait for each replica that is listed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
#[command(after_long_help = super::EXIT_CODES)]
pub(super) struct Options {
    #[command(subcommand)]
    action: Option<Action>,
    /// address:port of a replica, or several with commas between, or their domain name
    #[arg(short, long, value_name = "BOOTSTRAP", default_value = BOOTSTRAP, global = true)]
    boot: String,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
    /// How long a change may take, in seconds
    #[arg(
        long,
        value_parser = seconds,
        value_name = "SECONDS",
        default_value = "60",
        global = true
    )]
    timeout: Duration,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// List them; so does the bare command
    List,
    /// Have a replica join that was started alone, without -b
    Add {
        /// Its address:port
        address: String,
    },
    /// Remove a member, dead or alive
    Remove {
        /// Its address:port, or its id
        member: String,
    },
    /// Make a voter of a learner that is to stay one
    Promote {
        /// Its address:port, or its id
        member: String,
    },
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let order = match &options.action {
        None | Some(Action::List) => return list(options),
        Some(Action::Add { address }) => match who(address)? {
            Who::Address(address) => Order::Add(address),
            Who::Id(_) => {
                let text = format!("{address} is an id: name the address of the newcomer");
                return Err(Failure::usage(text));
            }
        },
        Some(Action::Remove { member }) => Order::Remove(who(member)?),
        Some(Action::Promote { member }) => Order::Promote(who(member)?),
    };
    let done =
        order::give(&options.boot, order, options.timeout, |text| note(format!("{text} …")))?;
    if options.json {
        say_json(&json!({ "done": done }));
    } else {
        say(done);
    }
    Ok(())
}

/// An id has sixteen hexadecimal digits; all else is an address.
fn who(text: &str) -> Result<Who, Failure> {
    if text.len() == 16
        && let Ok(id) = u64::from_str_radix(text, 16)
    {
        return Ok(Who::Id(ReplicaId(id)));
    }
    match addresses(text, LOOK_UP_TIMEOUT)?.as_slice() {
        [address, ..] if !text.contains(',') => Ok(Who::Address(*address)),
        _ => Err(Failure::usage(format!("{text:?}: one replica at a time"))),
    }
}

fn list(options: &Options) -> Result<(), Failure> {
    look(&options.boot, options.timeout.min(ANSWER_TIMEOUT), |view, answers| {
        if options.json {
            say_json(&to_json(view, answers));
        } else {
            say(to_text(view, answers));
        }
    })
}

fn to_text(view: &View, answers: &[Answered<'_>]) -> String {
    let leader = leader(view, answers);
    let mut rows = vec![["REPLICA", "ROLE", "ID", "KEPT", "ANSWERS"].map(str::to_owned).to_vec()];
    for (member, rank, answer) in answers {
        let kept = if member.durable { "on disk" } else { "in memory" };
        let answers = match answer {
            Ok(status) if status.ready => "yes".to_owned(),
            Ok(status) => status.reason.clone(),
            Err(reason) => reason.clone(),
        };
        rows.push(vec![
            member.address.to_string(),
            role(member, *rank, leader).to_owned(),
            member.id.to_string(),
            kept.to_owned(),
            answers,
        ]);
    }
    format!("{}\n\n{}", title(view), table(&rows))
}

fn to_json(view: &View, answers: &[Answered<'_>]) -> Json {
    let leader = leader(view, answers);
    let member = |(member, rank, answer): &Answered<'_>| {
        json!({
            "address": member.address,
            "id": member.id.to_string(),
            "role": role(member, *rank, leader),
            "stays_learner": member.learner,
            "witness": member.witness,
            "durable": member.durable,
            "answers": answer.is_ok(),
            "ready": answer.as_ref().is_ok_and(|status| status.ready),
            "reason": answer.as_ref().map_or_else(Clone::clone, |status| status.reason.clone()),
        })
    };
    json!({
        "cluster": view.cluster.to_string(),
        "view": view.number,
        "lineage": view.lineage,
        "leader": leader,
        "members": answers.iter().map(member).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::exit::Exit;
    use super::*;

    #[test]
    fn a_member_is_named_by_address_or_id() {
        assert_eq!(who("00000000000000ff").unwrap(), Who::Id(ReplicaId(255)));
        let address = ([127, 0, 0, 1], 14001).into();
        assert_eq!(who("127.0.0.1:14001").unwrap(), Who::Address(address));
        for text in ["", "no such host", "127.0.0.1:14000,127.0.0.1:14001"] {
            assert_eq!(who(text).unwrap_err().exit, Exit::Usage, "{text}");
        }
    }
}
