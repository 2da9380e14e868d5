//! What operators order: `concoord members` and `concoord force-solo`.

use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use crate::calls::until;
use crate::cluster::SOON;
use crate::processes::{Host, Replica, agree, bootstrap, client, concoord};

/// Exit code, standard output and standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = concoord(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn members(of: &Replica, arguments: &[&str]) -> (i32, String, String) {
    let boot = of.address.to_string();
    let mut all = vec!["members"];
    all.extend_from_slice(arguments);
    all.extend(["-b", &boot]);
    run(&all)
}

/// The members as JSON lists them.
pub(crate) fn list(of: &Replica) -> Vec<serde_json::Value> {
    let (code, said, trouble) = members(of, &["list", "--json"]);
    assert_eq!(code, 0, "{trouble}");
    let list: serde_json::Value = serde_json::from_str(&said).unwrap();
    list["members"].as_array().unwrap().clone()
}

pub(crate) fn role(of: &Replica, replica: &Replica) -> String {
    let address = replica.address.to_string();
    let member = list(of).into_iter().find(|member| member["address"] == address);
    member.map_or_else(|| "none".into(), |member| member["role"].as_str().unwrap().to_owned())
}

#[test]
fn members_are_listed_with_what_an_operator_must_know() {
    let host = Host::new();
    let [first, second, third] = host.three();
    let (code, said, _) = members(&second, &[]);
    assert_eq!(code, 0);
    assert!(said.contains("REPLICA") && said.contains("leader"), "{said}");
    assert!(said.contains("in memory") && said.contains(&third.address.to_string()), "{said}");
    let listed = list(&first);
    assert_eq!(listed.len(), 3);
    assert!(listed.iter().all(|member| member["answers"] == true && member["durable"] == false));
    third.signal(Signal::STOP);
    let silent = third.address.to_string();
    let answers = |member: &serde_json::Value| member["address"] != silent;
    assert!(list(&first).iter().all(|member| member["answers"] == answers(member)));
    third.signal(Signal::CONT);
}

#[test]
fn a_member_that_lives_is_removed_and_stays_away() {
    let host = Host::new();
    let [first, mut second, mut third] = host.three();
    // By address, through another one than itself; then by id, through itself.
    let (code, said, trouble) = members(&first, &["remove", &third.address.to_string()]);
    assert_eq!(code, 0, "{trouble}");
    assert_eq!(said, format!("{} is removed\n", third.address));
    assert_eq!(third.ends(), 0);
    assert!(third.log().contains("an operator removed this replica"), "{}", third.log());
    let id = second.status().unwrap().replica.id.to_string();
    let (code, _, trouble) = members(&second, &["remove", &id]);
    assert_eq!(code, 0, "{trouble}");
    assert_eq!(second.ends(), 0);
    assert_eq!(list(&first).len(), 1);

    let (code, _, trouble) = members(&first, &["remove", &id]);
    assert_eq!(code, 8, "{trouble}");
    assert!(trouble.contains("is no member"), "{trouble}");
    let (code, _, trouble) = members(&first, &["remove", &first.address.to_string()]);
    assert_eq!(code, 8, "{trouble}");
    assert!(trouble.contains("the only voter"), "{trouble}");
    client(&bootstrap(&[&first]), SOON).increment().unwrap();
}

#[test]
fn a_replica_that_was_started_alone_is_added_unless_it_can_not_be() {
    let host = Host::new();
    let first = host.start(&[]);
    client(&bootstrap(&[&first]), SOON).increment().unwrap();
    let alone = host.start(&[]);
    let address = alone.address.to_string();
    let (code, said, trouble) = members(&first, &["add", &address]);
    assert_eq!(code, 0, "{trouble}");
    assert_eq!(said, format!("{address} is a voter\n"));
    assert!(trouble.contains('…'), "it shows progress: {trouble}");
    until("both agree", || alone.members() == 2);

    let used = host.start(&[]);
    client(&bootstrap(&[&used]), SOON).increment().unwrap();
    for (address, because) in [
        (used.address.to_string(), "clients have used it"),
        (format!("{}:1", host.ip), "nobody listens"),
        (address, "a member already"),
    ] {
        let (code, said, trouble) = members(&first, &["add", &address]);
        assert_eq!(code, 8, "{said} {trouble}");
        assert!(trouble.contains(because), "{trouble}");
    }
    assert_eq!((first.members(), used.members()), (2, 1));
    let (code, _, trouble) = members(&first, &["add", "00000000000000ff"]);
    assert_eq!(code, 2, "{trouble}");
}

#[test]
fn a_learner_is_promoted_by_order_only() {
    let host = Host::new();
    let first = host.start(&[]);
    let learner = host.start(&["-b", &first.address.to_string(), "--learner"]);
    let second = host.join(&[&first]);
    assert_eq!(role(&second, &learner), "learner", "another joined and votes since");
    client(&bootstrap(&[&learner]), SOON).increment().unwrap();
    let (code, said, trouble) = members(&learner, &["promote", &learner.address.to_string()]);
    assert_eq!(code, 0, "{trouble}");
    assert_eq!(said, format!("{} is a voter\n", learner.address));
    assert_eq!(role(&first, &learner), "follower");
    agree(&[first, second, learner]);
}

#[test]
fn orders_without_a_quorum_change_nothing_and_end_with_9() {
    let host = Host::new();
    let [first, second, third] = host.three();
    let others = [&second, &third];
    others.iter().for_each(|other| other.signal(Signal::STOP));
    until("it has no quorum", || first.status().is_ok_and(|status| !status.ready));
    let (code, _, trouble) = members(&first, &["remove", &second.address.to_string()]);
    assert_eq!(code, 9, "{trouble}");
    assert!(trouble.contains("no quorum"), "{trouble}");
    others.iter().for_each(|other| other.signal(Signal::CONT));
    client(&bootstrap(&[&first]), SOON).increment().unwrap();
    assert_eq!(first.members(), 3);
}

fn force_solo(of: &Replica, arguments: &[&str]) -> (i32, String, String) {
    let boot = of.address.to_string();
    let mut all = vec!["force-solo", "-b", &boot];
    all.extend_from_slice(arguments);
    run(&all)
}

#[test]
fn one_of_two_is_forced_to_go_on_and_the_other_joins_when_it_wakes() {
    let host = Host::new();
    let first = host.start(&[]);
    let second = host.join(&[&first]);
    client(&bootstrap(&[&first]), SOON).increment().unwrap();
    let (code, _, trouble) = force_solo(&second, &["--yes"]);
    assert_eq!(code, 8, "{trouble}");
    assert!(trouble.contains("there is a leader"), "{trouble}");

    first.signal(Signal::STOP);
    until("it has no quorum", || second.status().is_ok_and(|status| !status.ready));
    let (code, _, trouble) = force_solo(&second, &[]);
    assert_eq!(code, 2, "{trouble}");
    assert!(trouble.contains("WARNING") && trouble.contains("--yes"), "{trouble}");
    assert_eq!(second.status().unwrap().view.unwrap().lineage, 0);
    let forced = || {
        let (code, said, trouble) = force_solo(&second, &["--yes"]);
        // It has to have been without a leader for a while.
        assert!(code == 0 || code == 9 && trouble.contains("moment"), "{code} {trouble}");
        code == 0 && said.contains("lineage 1")
    };
    until("it is forced", forced);
    let counter = client(&bootstrap(&[&second]), SOON);
    counter.increment().unwrap();
    assert_eq!(counter.getvalue().unwrap(), 2);
    let (_, said, _) = run(&["status", "-b", &second.address.to_string()]);
    assert!(said.contains("lineage 1 (went on alone by force at 20"), "{said}");

    first.signal(Signal::CONT);
    until("the other has joined", || second.members() == 2 && first.members() == 2);
    assert_eq!(client(&bootstrap(&[&first]), SOON).getvalue().unwrap(), 2);
    agree(&[first, second]);
}

#[test]
fn a_peer_that_is_silent_is_fenced_and_the_other_goes_on() {
    let host = Host::new();
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    let command = format!("echo $CONCOORD_PEER_ADDRESS >> {}", told.display());
    // Fails until the file is there.
    let ready = folder.path().join("ready");
    let command = format!("{command}; test -e {}", ready.display());
    let options = ["--dead-timeout", "2", "--fence-cmd", &command, "--fence-timeout", "5"];
    let first = host.start(&options);
    let boot = first.address.to_string();
    let second = host.start(&[&options[..], &["-b", &boot]].concat());
    client(&bootstrap(&[&first]), SOON).increment().unwrap();
    first.signal(Signal::STOP);
    until("the command fails", || second.log().contains("is not fenced"));
    assert_eq!(second.status().unwrap().view.unwrap().lineage, 0);
    std::fs::write(&ready, "").unwrap();
    let counter = client(&bootstrap(&[&second]), SOON);
    counter.increment().unwrap();
    assert_eq!(second.status().unwrap().view.unwrap().lineage, 1);
    let told = std::fs::read_to_string(&told).unwrap();
    assert!(told.lines().all(|address| address == boot), "{told}");
    // The command lied: the other one wakes, and does no harm.
    first.signal(Signal::CONT);
    until("it has joined as a newcomer", || second.members() == 2 && first.members() == 2);
    let patient = client(&bootstrap(&[&first]), Duration::from_secs(10));
    assert_eq!(patient.getvalue().unwrap(), 2);
}
