//! `concoord status`: the cluster as each of its members sees it.

use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use concoord::{Attempts, Error, Status, status_of};
use concoord_core::view::{Cause, Member, Role, View};
use serde_json::{Value as Json, json};

use super::exit::{Exit, Failure};
use super::output::{grouped, harmless, say, say_json, table};
use super::{BOOTSTRAP, addresses, seconds};
use crate::date::utc;

#[derive(Debug, clap::Args)]
#[command(after_long_help = super::EXIT_CODES)]
pub(super) struct Options {
    /// address:port of a replica, or several with commas between, or their domain name
    #[arg(short, long, value_name = "BOOTSTRAP", default_value = BOOTSTRAP)]
    boot: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// How long to wait for each replica, in seconds
    #[arg(long, value_parser = seconds, value_name = "SECONDS", default_value = "2")]
    timeout: Duration,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    look(&options.boot, options.timeout, |view, answers| {
        if options.json {
            say_json(&to_json(view, answers));
        } else {
            say(to_text(view, answers));
        }
    })
}

/// Asks each member of the cluster that `boot` names, and shows what they say. Fails if none is
/// ready for calls.
pub(super) fn look(
    boot: &str,
    timeout: Duration,
    show: impl FnOnce(&View, &[Answered<'_>]),
) -> Result<(), Failure> {
    let first = first(boot, timeout)?;
    let Some(view) = first.view.clone() else {
        return Err(Failure::new(Exit::NotReady, reason(&first)));
    };
    let answers = ask_all(&view, timeout);
    show(&view, &answers);
    let serves = |(member, _, answer): &Answered<'_>| {
        !member.witness && answer.as_ref().is_ok_and(|status| status.ready)
    };
    if answers.iter().any(serves) {
        return Ok(());
    }
    Err(Failure::new(Exit::NotReady, reason(&first)))
}

pub(super) fn reason(status: &Status) -> String {
    let reason = if status.reason.is_empty() { "not ready" } else { &status.reason };
    format!("{}: {reason}", status.replica.address)
}

pub(super) type Answered<'a> = (&'a Member, Role, Result<Status, String>);

/// The first replica of the list that answers.
pub(super) fn first(boot: &str, timeout: Duration) -> Result<Status, Failure> {
    let mut failures = Vec::new();
    for address in addresses(boot, timeout)? {
        match status_of(&address.to_string(), timeout) {
            Ok(status) => return Ok(status),
            Err(error) => failures.push(format!("{address}: {}", why(&error))),
        }
    }
    let message = format!("no replica answers ({}); name others with -b", failures.join("; "));
    Err(Failure::new(Exit::Unreachable, message))
}

/// Why one replica did not answer, in short.
fn why(error: &Error) -> String {
    if let Error::Unreachable { attempts: Attempts(attempts), .. } = error
        && !attempts.is_empty()
    {
        return attempts.iter().map(|(_, why)| &**why).collect::<Vec<_>>().join("; ");
    }
    error.to_string()
}

/// Every member is asked at the same time, so that the silent ones cost one timeout together.
fn ask_all(view: &View, timeout: Duration) -> Vec<Answered<'_>> {
    let ask = |member: &Member| {
        status_of(&member.address.to_string(), timeout).map_err(|error| why(&error))
    };
    thread::scope(|scope| {
        let asked: Vec<_> = view
            .members
            .iter()
            .map(|(member, role)| (member, *role, scope.spawn(move || ask(member))))
            .collect();
        asked
            .into_iter()
            .map(|(member, role, asked)| {
                (member, role, asked.join().expect("asking does not panic"))
            })
            .collect()
    })
}

pub(super) fn role(member: &Member, role: Role, leader: Option<SocketAddr>) -> &'static str {
    match role {
        Role::Voter if member.witness => "witness",
        Role::Voter if leader == Some(member.address) => "leader",
        Role::Voter => "follower",
        Role::Learner => "learner",
    }
}

/// The digest of its state; none of a witness, nor while a worker has calls to run.
fn digest_of(status: &Status) -> Option<String> {
    (status.digest != 0).then(|| format!("{:016x}", status.digest))
}

/// The leader that the members agree on best: the one of the latest term.
pub(super) fn leader(view: &View, answers: &[Answered<'_>]) -> Option<SocketAddr> {
    let statuses = answers.iter().filter_map(|(_, _, answer)| answer.as_ref().ok());
    let led = statuses.filter(|status| status.leader.is_some()).max_by_key(|status| status.term)?;
    led.leader.and_then(|id| view.member(id)).map(|member| member.address)
}

fn to_text(view: &View, answers: &[Answered<'_>]) -> String {
    let leader = leader(view, answers);
    let head = [
        "REPLICA", "ROLE", "APPLIED", "DIGEST", "SESSIONS", "CLIENTS", "CALLS", "CALLS/S", "UP", "",
    ];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for (member, rank, answer) in answers {
        let mut row = vec![member.address.to_string(), role(member, *rank, leader).to_owned()];
        match answer {
            Ok(status) => row.extend([
                status.applied.to_string(),
                of_object(member, || digest_of(status).unwrap_or_else(|| "-".into())),
                of_object(member, || grouped(status.sessions)),
                grouped(status.connections),
                of_object(member, || grouped(status.calls)),
                of_object(member, || grouped(status.calls_per_second)),
                uptime(status.uptime_ms),
                status.reason.clone(),
            ]),
            Err(reason) => {
                row.extend(["-"; 7].map(str::to_owned));
                row.push(reason.clone());
            }
        }
        rows.push(row);
    }
    let class = answers.iter().find_map(|(_, _, answer)| answer.as_ref().ok().map(|s| &*s.class));
    let named = |(member, _, answer): &Answered<'_>| {
        let names = &answer.as_ref().ok()?.names;
        (!names.is_empty()).then(|| format!("\n{}: {}", member.address, harmless(names)))
    };
    let names: String = answers.iter().filter_map(named).collect();
    let names = if names.is_empty() { names } else { format!("\n{names}") };
    format!("{}  {}\n\n{}{names}", class.unwrap_or("?"), title(view), table(&rows))
}

/// What a witness has nothing to say of.
fn of_object(member: &Member, text: impl FnOnce() -> String) -> String {
    if member.witness { "-".into() } else { text() }
}

/// Which cluster that is, and how it came to be.
pub(super) fn title(view: &View) -> String {
    let View { cluster, number, lineage, branch, .. } = view;
    let mut title = format!("cluster {cluster}  view {number}  lineage {lineage}");
    if branch.cause != Cause::Started {
        title += &format!(" ({} at {})", branch.cause, utc(branch.since_ms));
    }
    title
}

fn uptime(milliseconds: u64) -> String {
    let seconds = milliseconds / 1000;
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m{s:02}s"),
        (0, h, m, _) => format!("{h}h{m:02}m"),
        (d, h, _, _) => format!("{d}d{h:02}h"),
    }
}

fn to_json(view: &View, answers: &[Answered<'_>]) -> Json {
    let leader = leader(view, answers);
    let member = |(member, rank, answer): &Answered<'_>| {
        let role = role(member, *rank, leader);
        match answer {
            Ok(status) => json!({
                "address": member.address,
                "id": member.id.to_string(),
                "role": role,
                "witness": member.witness,
                "ready": status.ready,
                "reason": status.reason,
                "view": status.view.as_ref().map(|view| view.number),
                "term": status.term,
                "committed": status.committed,
                "applied": status.applied,
                "digest": digest_of(status).filter(|_| !member.witness),
                "sessions": status.sessions,
                "connections": status.connections,
                "calls": status.calls,
                "calls_per_second": status.calls_per_second,
                "uptime_ms": status.uptime_ms,
                "names": status.names,
            }),
            Err(reason) => json!({
                "address": member.address,
                "id": member.id.to_string(),
                "role": role,
                "witness": member.witness,
                "unreachable": reason,
            }),
        }
    };
    json!({
        "object": answers.iter().find_map(|(_, _, answer)| answer.as_ref().ok().map(|s| &s.class)),
        "cluster": view.cluster.to_string(),
        "view": view.number,
        "lineage": view.lineage,
        "since": utc(view.branch.since_ms),
        "cause": view.branch.cause.to_string(),
        "leader": leader,
        "members": answers.iter().map(member).collect::<Vec<_>>(),
        "lost": view.lost,
    })
}

#[cfg(test)]
mod tests {
    use concoord_core::view::{Branch, ClusterId, ReplicaId};

    use super::*;

    fn member(number: u16) -> Member {
        let address = SocketAddr::from(([127, 0, 0, 1], 14000 + number));
        let id = ReplicaId(number.into());
        Member::new(id, address)
    }

    fn status(number: u16, view: &View) -> Status {
        Status {
            replica: member(number),
            class: "concoord.object.counter.Counter".into(),
            view: Some(view.clone()),
            leader: Some(ReplicaId(1)),
            term: 2,
            committed: 12,
            applied: 12,
            digest: 0xabc,
            sessions: 1,
            connections: 0,
            calls: 12_345,
            calls_per_second: 7,
            ready: true,
            reason: String::new(),
            uptime_ms: 61_000,
            names: String::new(),
        }
    }

    fn view() -> View {
        View {
            cluster: ClusterId(0xc0ffee),
            lineage: 0,
            branch: Branch::default(),
            number: 3,
            members: vec![
                (member(0), Role::Voter),
                (member(1), Role::Voter),
                (member(2), Role::Learner),
            ],
            lost: vec![],
            dismissed: vec![],
        }
    }

    #[test]
    fn the_table_has_a_row_a_member_reached_or_not() {
        let view = view();
        let (a, b, c) = (member(0), member(1), member(2));
        let answers = [
            (&a, Role::Voter, Ok(status(0, &view))),
            (&b, Role::Voter, Ok(status(1, &view))),
            (&c, Role::Learner, Err("nothing listens there".to_owned())),
        ];
        let expected = "\
concoord.object.counter.Counter  cluster 0000000000c0ffee  view 3  lineage 0

REPLICA          ROLE      APPLIED  DIGEST            SESSIONS  CLIENTS   CALLS  CALLS/S  UP
127.0.0.1:14000  follower       12  0000000000000abc         1        0  12 345        7  1m01s
127.0.0.1:14001  leader         12  0000000000000abc         1        0  12 345        7  1m01s
127.0.0.1:14002  learner         -  -                        -        -       -        -  -      nothing listens there";
        assert_eq!(to_text(&view, &answers), expected);
        let json = to_json(&view, &answers);
        assert_eq!(json["leader"], "127.0.0.1:14001");
        assert_eq!(json["members"][2]["unreachable"], "nothing listens there");
        assert_eq!(json["members"][0]["calls"], 12_345);
    }

    #[test]
    fn a_witness_says_nothing_of_the_object() {
        let mut view = view();
        view.members[1].0.witness = true;
        let witness = view.members[1].0.clone();
        let answers = [(&witness, Role::Voter, Ok(status(1, &view)))];
        let text = to_text(&view, &answers);
        let row: Vec<_> = text.lines().last().unwrap().split_whitespace().collect();
        assert_eq!(row, ["127.0.0.1:14001", "witness", "12", "-", "-", "0", "-", "-", "1m01s"]);
        let json = to_json(&view, &answers);
        assert_eq!(json["members"][0]["role"], "witness");
        assert_eq!(json["members"][0]["digest"], Json::Null);
    }

    #[test]
    fn one_that_says_nothing_costs_the_timeout_and_no_more() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let place = silent.local_addr().unwrap().to_string();
        let failure = first(&place, Duration::from_millis(100)).unwrap_err();
        assert_eq!(failure.exit, Exit::Unreachable);
        assert!(failure.message.contains(&place), "{}", failure.message);
    }

    #[test]
    fn a_lineage_says_since_when_and_why() {
        let mut view = view();
        assert!(!title(&view).contains('('));
        view.branch = Branch { number: 1, since_ms: 1_795_390_245_678, cause: Cause::Forced };
        assert!(title(&view).ends_with("(went on alone by force at 2026-11-22T23:30:45Z)"));
    }

    #[test]
    fn times_are_short() {
        assert_eq!(uptime(5_999), "5s");
        assert_eq!(uptime(3_720_000), "1h02m");
        assert_eq!(uptime(90_000_000), "1d01h");
    }
}
