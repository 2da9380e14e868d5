//! Calls, and replicas that come and go.

use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use concoord_core::view::Role;

use crate::client::Client;
use crate::cluster::{Relay, Running, SOON, counter, three};

/// Polls until it holds: for what no message tells.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < end, "{what}: not yet");
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn one_replica_answers_and_leaves_within_a_second() {
    let replica = Running::start(&[]).serves();
    let mut client = Client::open(replica.address);
    client.increment();
    client.increment();
    assert_eq!(client.value(), 2);
    assert_eq!(client.status().connections, 1);
    let (_, took) = replica.stop();
    assert!(took < Duration::from_millis(1500), "{took:?}");
}

#[test]
fn any_of_three_replicas_takes_calls() {
    let replicas = three();
    for replica in &replicas {
        Client::open(replica.address).increment();
    }
    for replica in &replicas {
        assert_eq!(Client::open(replica.address).value(), 3);
    }
}

#[test]
fn calls_that_arrive_together_are_all_answered() {
    let replicas = three();
    let mut client = Client::open(replicas[1].address);
    let asked: Vec<_> = (0..200).map(|_| client.ask("increment")).collect();
    for number in asked {
        client.reply(number);
    }
    assert_eq!(client.value(), 200);
}

#[test]
fn the_others_go_on_when_the_leader_is_killed() {
    let [first, second, third] = three();
    let mut client = Client::open(second.address);
    client.increment();
    first.kill();
    let killed = Instant::now();
    client.increment();
    let gap = killed.elapsed();
    assert_eq!(Client::open(third.address).value(), 2);
    // A broken stream starts an election at once; silence alone would take longer than this.
    assert!(gap < Duration::from_millis(900), "{gap:?}");
}

#[test]
fn a_replica_that_leaves_is_no_member_any_more() {
    let [first, second, third] = three();
    let mut client = Client::open(first.address);
    client.increment();
    third.stop();
    until("two members", || client.status().view.is_some_and(|view| view.members.len() == 2));
    second.stop();
    until("one member", || client.status().view.is_some_and(|view| view.members.len() == 1));
    assert_eq!(client.value(), 1);
}

#[test]
fn streams_that_break_are_dialled_again_and_nothing_is_lost() {
    let first = Running::start(&[]).serves();
    // Whatever the others send to the second passes the relay.
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let relay = Relay::to(listener.local_addr().unwrap());
    let second = Running::start_at(listener, relay.address, counter, &[first.address]).serves();
    let third = Running::start(&[first.address]).serves();
    let mut client = Client::open(third.address);
    for round in 1..=5 {
        until("streams", || relay.cut() > 0);
        client.increment();
        assert_eq!(client.value(), round);
    }
    let applied = client.status().applied;
    let mut behind = Client::connect(second.address);
    until("the second has caught up", || behind.status().applied >= applied);
}

#[test]
fn a_replica_that_joins_gets_the_state_and_a_vote() {
    let first = Running::start(&[]).serves();
    let mut client = Client::open(first.address);
    for _ in 0..100 {
        client.increment();
    }
    let second = Running::start(&[first.address]).serves();
    let mut newcomer = Client::connect(second.address);
    let (theirs, ours) = (newcomer.status(), client.status());
    let view = ours.view.unwrap();
    assert_eq!(view.role(theirs.replica.id), Some(Role::Voter));
    until("the same state", || {
        let (theirs, ours) = (newcomer.status(), client.status());
        theirs.applied == ours.applied && theirs.digest == ours.digest
    });
    assert_eq!(Client::open(second.address).value(), 100);
}
