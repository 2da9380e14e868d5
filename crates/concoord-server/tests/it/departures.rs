//! Processes that are stopped, told to stop, or not wanted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use concoord::Error;
use rustix::process::Signal;

use crate::calls::until;
use crate::cluster::SOON;
use crate::fake;
use crate::processes::{Host, Load, Replica, agree, bootstrap, client, leader};

/// A replica that is told to stop does so within a second. Other tests run beside this one: twice
/// the time, which still is far below any timeout that it could have waited for.
const TOLD_MAX: Duration = Duration::from_secs(2);

/// Tells it to stop, and waits until it has.
fn stop(replica: &mut Replica, signal: Signal) {
    let told = Instant::now();
    replica.signal(signal);
    assert_eq!(replica.ends(), 0);
    assert!(told.elapsed() < TOLD_MAX, "{:?}", told.elapsed());
}

/// One of two is stopped for longer than silence is borne, then goes on.
fn one_of_two_is_suspended(which: usize) {
    let host = Host::new();
    let first = host.start(&["--dead-timeout", "2"]);
    let second = host.start(&["-b", &first.address.to_string(), "--dead-timeout", "2"]);
    let replicas = [first, second];
    let (suspended, survivor) = (&replicas[which], &replicas[1 - which]);
    // A client whose own replica is silent goes to another one after three seconds.
    let timeout = Duration::from_secs(5);
    let counter = client(&bootstrap(&[survivor]), timeout);
    counter.increment().unwrap();

    suspended.signal(Signal::STOP);
    let asked = Instant::now();
    let error = counter.increment().unwrap_err();
    assert!(asked.elapsed() < timeout + Duration::from_secs(1), "{:?}", asked.elapsed());
    assert!(matches!(error, Error::TimedOut { .. }), "{error:?}");
    let said = error.to_string();
    assert!(said.contains("no quorum") && said.contains(&suspended.address.to_string()), "{said}");
    // Also one that comes now, and has less time than after which it would go elsewhere.
    let error = client(&bootstrap(&[survivor]), Duration::from_secs(2)).increment().unwrap_err();
    assert!(error.to_string().contains("no quorum"), "{error}");
    let status = survivor.status().unwrap();
    assert!(!status.ready);
    let view = status.view.unwrap();
    assert_eq!((view.members.len(), view.lineage), (2, 0), "nobody is taken for dead");

    suspended.signal(Signal::CONT);
    let patient = client(&bootstrap(&[survivor]), SOON);
    patient.increment().unwrap();
    // The calls whose outcome is unknown took effect, or not.
    let value = patient.getvalue().unwrap();
    assert!((2..=4).contains(&value), "{value}");
    agree(&replicas);
}

#[test]
fn a_suspended_leader_of_two_is_waited_for() {
    one_of_two_is_suspended(0);
}

#[test]
fn a_suspended_follower_of_two_is_waited_for() {
    one_of_two_is_suspended(1);
}

#[test]
fn who_is_told_to_stop_leaves_the_view_first() {
    let host = Host::new();
    let [first, mut second, mut third] = host.three();
    for (replica, signal, left) in [(&mut second, Signal::TERM, 2), (&mut third, Signal::INT, 1)] {
        stop(replica, signal);
        assert!(replica.log().contains("left the cluster"), "{}", replica.log());
        assert_eq!(first.members(), left, "it left before it ended");
    }
    let mut last = first;
    stop(&mut last, Signal::TERM);
}

#[test]
fn a_leader_that_is_told_to_stop_fails_no_call() {
    let host = Host::new();
    let mut replicas = Vec::from(host.three());
    let load = Load::start(&bootstrap(&replicas.iter().collect::<Vec<_>>()), 4);
    for left in [2, 1] {
        load.goes_on();
        let mut told = replicas.remove(leader(&replicas));
        stop(&mut told, Signal::TERM);
        assert!(told.log().contains("left the cluster"), "{}", told.log());
        load.goes_on();
        assert_eq!(replicas[0].members(), left);
    }
    let tally = load.stop();
    assert_eq!(tally.unknown, 0);
    let value = client(&bootstrap(&[&replicas[0]]), SOON).getvalue().unwrap();
    assert_eq!(value, tally.acknowledged);
}

/// Tells two of three to stop at the same moment.
fn two_of_three_are_told(which: [usize; 2]) {
    let host = Host::new();
    let mut replicas = host.three();
    let load = Load::start(&bootstrap(&replicas.each_ref()), 2);
    load.goes_on();
    let told = Instant::now();
    which.into_iter().for_each(|nth| replicas[nth].signal(Signal::TERM));
    which.into_iter().for_each(|nth| assert_eq!(replicas[nth].ends(), 0));
    assert!(told.elapsed() < TOLD_MAX, "{:?}", told.elapsed());
    load.goes_on();
    let survivor = &replicas[3 - which[0] - which[1]];
    until("it is alone", || survivor.members() == 1);
    let tally = load.stop();
    assert_eq!(tally.unknown, 0);
    let value = client(&bootstrap(&[survivor]), SOON).getvalue().unwrap();
    assert_eq!(value, tally.acknowledged);
}

#[test]
fn two_followers_are_told_to_stop_at_once() {
    two_of_three_are_told([1, 2]);
}

#[test]
fn the_leader_and_a_follower_are_told_to_stop_at_once() {
    two_of_three_are_told([0, 1]);
}

/// An interpreter that hosts whatever class it is asked for.
fn fake_python(folder: &Path) -> String {
    let python = folder.join("python");
    let worker: Vec<_> = fake::command("fake::fake_worker")
        .iter()
        .map(|word| format!("'{}'", word.to_str().unwrap()))
        .collect();
    fs::write(&python, format!("#!/bin/sh\nexec {}\n", worker.join(" "))).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    python.to_str().unwrap().to_owned()
}

#[test]
fn a_replica_of_another_class_is_refused_on_both_sides() {
    let scratch = tempfile::tempdir().unwrap();
    let (python, class) = (fake_python(scratch.path()), scratch.path().to_str().unwrap());
    let host = Host::new();
    let counters = host.start(&[]);
    let boot = counters.address.to_string();
    let mut other = host.spawn(&["-o", class, "--python", &python, "-b", &boot]);
    assert_eq!(other.ends(), 1);
    let sentence = format!("this cluster hosts {}, not {class}", concoord::object::Counter::CLASS);
    assert!(other.log().contains(&format!("{boot} refuses this replica: {sentence}")));
    let refused = format!("refused {}: {sentence}", other.address);
    until("so does the one that refused it", || counters.log().contains(&refused));
    assert_eq!(counters.members(), 1);
}

#[test]
fn a_replica_of_another_cluster_is_refused_on_both_sides() {
    let host = Host::new();
    let first = host.start(&[]);
    let mut second = host.join(&[&first]);
    let elsewhere = host.start(&[]);
    for counter in [client(&bootstrap(&[&first]), SOON), client(&bootstrap(&[&elsewhere]), SOON)] {
        counter.increment().unwrap();
    }
    second.kill();
    until("it is alone", || first.members() == 1);
    // Where the second was, somebody lives now who belongs elsewhere.
    let address = second.address;
    drop(second);
    let stranger = Host::at(address, &["-b", &elsewhere.address.to_string()]).serves();
    until("both say so", || {
        first.log().contains(&format!("{address} refuses this replica: this is cluster"))
            && stranger.log().contains(&format!("refused {}: this is cluster", first.address))
    });
    assert_eq!((first.members(), elsewhere.members(), stranger.members()), (1, 2, 2));
}
