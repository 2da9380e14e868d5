//! Processes that are killed and return, while calls go on.

use std::time::Duration;

use crate::calls::until;
use crate::cluster::SOON;
use crate::processes::{Host, Load, Replica, agree, bootstrap, client, leader, tell};

/// Far above what a failover takes, far below what waiting for timeouts would.
const GAP_MAX: Duration = Duration::from_secs(5);

/// Kills one of them; returns it together with the others, as soon as they serve without it.
fn kill(mut replicas: Vec<Replica>, which: usize) -> (Replica, Vec<Replica>) {
    let mut killed = replicas.remove(which);
    killed.kill();
    let left = replicas.len();
    until("the others go on without it", || replicas.iter().all(|other| other.members() == left));
    (killed, replicas)
}

/// One dies and returns, then the other one does, and no call is lost or runs twice.
fn two_die_in_turn(first_to_die: usize) {
    let host = Host::new();
    let first = host.start(&[]);
    let second = host.join(&[&first]);
    let load = Load::start(&bootstrap(&[&first, &second]), 2);
    let mut replicas = vec![first, second];
    for _ in 0..2 {
        // The one that has lived longer, from the second time on.
        let (killed, mut survivors) = kill(replicas, first_to_die);
        load.goes_on();
        survivors.insert(first_to_die, killed.restart());
        replicas = survivors;
        replicas.swap(0, 1);
        load.goes_on();
        assert!(replicas.iter().all(|replica| replica.members() == 2), "one cluster");
    }
    let tally = load.stop();
    assert_eq!(tally.unknown, 0);
    agree(&replicas);
    tally.accounts_for(client(&bootstrap(&[&replicas[0]]), SOON).getvalue().unwrap());
}

#[test]
fn the_bootstrap_of_two_dies_and_returns_and_then_the_other_does() {
    two_die_in_turn(0);
}

#[test]
fn the_second_of_two_dies_and_returns_and_then_the_bootstrap_does() {
    two_die_in_turn(1);
}

#[test]
fn the_leader_of_three_dies_ten_times_under_load() {
    let host = Host::new();
    let mut replicas = Vec::from(host.three());
    let load = Load::start(&bootstrap(&replicas.iter().collect::<Vec<_>>()), 8);
    load.goes_on();
    let mut gaps = Vec::new();
    for _ in 0..10 {
        let mut killed = replicas.remove(leader(&replicas));
        killed.kill();
        gaps.push(load.goes_on());
        replicas.push(killed.restart());
        load.goes_on();
    }
    tell(&format!("the longest call at each death: {gaps:?}"));
    assert!(gaps.iter().all(|gap| *gap < GAP_MAX), "{gaps:?}");
    let tally = load.stop();
    agree(&replicas);
    tell(&format!("{tally:?}"));
    tally.accounts_for(client(&bootstrap(&[&replicas[0]]), SOON).getvalue().unwrap());
}

#[test]
fn one_that_joined_under_load_has_it_all_when_the_others_are_dead() {
    let host = Host::new();
    let first = host.start(&[]);
    let load = Load::start(&first.address.to_string(), 4);
    load.goes_on();
    let second = host.join(&[&first]);
    let third = host.join(&[&first]);
    load.goes_on();
    let before = load.stop();
    let replicas = vec![first, second, third];
    agree(&replicas);

    let load = Load::start(&bootstrap(&replicas.iter().collect::<Vec<_>>()), 4);
    let (_first, replicas) = kill(replicas, 0);
    load.goes_on();
    let (_second, replicas) = kill(replicas, 0);
    load.goes_on();
    let after = load.stop();
    assert_eq!(before.unknown + after.unknown, 0);
    let value = client(&bootstrap(&[&replicas[0]]), SOON).getvalue().unwrap();
    assert_eq!(value, before.acknowledged + after.acknowledged);
}
