//! Clusters that grow, shrink and are renewed while calls go on.

use std::time::Duration;

use rustix::process::Signal;

use crate::calls::until;
use crate::cluster::SOON;
use crate::processes::{Host, Load, Replica, agree, bootstrap, client, concoord, leader, tell};

/// Far above what any change takes, far below what waiting for timeouts would.
const GAP_MAX: Duration = Duration::from_secs(5);

fn all(replicas: &[Replica]) -> String {
    bootstrap(&replicas.iter().collect::<Vec<_>>())
}

fn voters(replicas: &[Replica]) -> usize {
    let view = replicas[0].status().ok().and_then(|status| status.view);
    view.map_or(0, |view| view.voters().count())
}

/// Grows to so many.
fn grow(host: &Host, replicas: &mut Vec<Replica>, to: usize) {
    while replicas.len() < to {
        replicas.push(host.join(&[&replicas[0]]));
    }
    until("all vote", || voters(replicas) == to);
}

fn remove(replicas: &[Replica], which: &Replica) {
    let address = which.address.to_string();
    let output = concoord(&["members", "remove", &address, "-b", &all(replicas)]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn a_cluster_grows_to_seven_and_shrinks_to_one_under_load() {
    let host = Host::new();
    let mut replicas = vec![host.start(&[])];
    let load = Load::start(&replicas[0].address.to_string(), 4);
    let mut gaps = Vec::new();
    for to in [3, 5, 7] {
        grow(&host, &mut replicas, to);
        gaps.push((to, load.goes_on()));
    }
    // Removed by an operator and told to stop in turn, leaders among them.
    while replicas.len() > 1 {
        let nth = if replicas.len() % 3 == 0 { leader(&replicas) } else { replicas.len() - 1 };
        let mut leaves = replicas.remove(nth);
        if replicas.len().is_multiple_of(2) {
            remove(&replicas, &leaves);
        } else {
            leaves.signal(Signal::TERM);
        }
        assert_eq!(leaves.ends(), 0);
        until("the others go on without it", || voters(&replicas) == replicas.len());
        gaps.push((replicas.len(), load.goes_on()));
    }
    tell(&format!("voters, and the longest call on the way there: {gaps:?}"));
    assert!(gaps.iter().all(|(_, gap)| *gap < GAP_MAX), "{gaps:?}");
    let tally = load.stop();
    tell(&format!("{tally:?}"));
    assert_eq!(tally.unknown, 0);
    let value = client(&all(&replicas), SOON).getvalue().unwrap();
    assert_eq!(value, tally.acknowledged);
}

#[test]
fn each_member_is_replaced_by_a_new_one_under_load() {
    let host = Host::new();
    let mut replicas = Vec::from(host.three());
    let load = Load::start(&all(&replicas), 4);
    for _ in 0..3 {
        replicas.push(host.join(&[&replicas[0]]));
        until("four vote", || voters(&replicas) == 4);
        let mut old = replicas.remove(0);
        remove(&replicas, &old);
        assert_eq!(old.ends(), 0);
        assert!(old.log().contains("operator"), "{}", old.log());
        tell(&format!("the longest call while one is replaced: {:?}", load.goes_on()));
    }
    let tally = load.stop();
    assert_eq!(tally.unknown, 0);
    agree(&replicas);
    let value = client(&all(&replicas), SOON).getvalue().unwrap();
    assert_eq!(value, tally.acknowledged);
}

/// Each is told to stop and started again by the same command, as for a new release.
#[test]
fn a_rolling_restart_fails_no_call() {
    let host = Host::new();
    let mut replicas = Vec::from(host.three());
    let load = Load::start(&all(&replicas), 4);
    load.goes_on();
    let mut gaps = Vec::new();
    for _ in 0..3 {
        let led = replicas[0].leads();
        let mut told = replicas.remove(0);
        told.signal(Signal::TERM);
        assert_eq!(told.ends(), 0);
        let stopped = load.goes_on();
        replicas.push(told.restart());
        until("three vote", || voters(&replicas) == 3);
        gaps.push((led, stopped, load.goes_on()));
    }
    tell(&format!("led, the longest call while it stopped and while it returned: {gaps:?}"));
    assert!(gaps.iter().any(|(led, ..)| *led), "a leader was among them");
    assert!(gaps.iter().all(|(_, one, other)| *one.max(other) < GAP_MAX), "{gaps:?}");
    let tally = load.stop();
    assert_eq!(tally.unknown, 0);
    agree(&replicas);
    let value = client(&all(&replicas), SOON).getvalue().unwrap();
    assert_eq!(value, tally.acknowledged);
}
