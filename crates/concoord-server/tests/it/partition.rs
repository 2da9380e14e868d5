//! Replicas that are cut off from each other.

use std::net::{IpAddr, TcpListener};
use std::time::{Duration, Instant};

use concoord::{Value, status_of};
use concoord_core::call::Outcome;
use concoord_core::wire::Answer;
use concoord_server::ReplicaConfig;

use crate::calls::until;
use crate::client::Client;
use crate::cluster::{Relay, Running, SOON, counter};
use crate::processes::{self, Host};

/// A replica at an address of its own, behind a relay that can cut others off.
fn behind_relay(bootstrap: Option<&Relay>) -> (Running, Relay, IpAddr) {
    let ip = IpAddr::from(Host::new().ip);
    let listener = TcpListener::bind((ip, 0)).unwrap();
    let relay = Relay::to(listener.local_addr().unwrap());
    let bootstrap: Vec<_> = bootstrap.map(|relay| relay.address).into_iter().collect();
    let running = Running::start_at(listener, relay.address, counter, &bootstrap).serves();
    (running, relay, ip)
}

#[test]
fn a_leader_that_is_cut_off_answers_nothing_stale_and_says_why() {
    let first = behind_relay(None);
    let second = behind_relay(Some(&first.1));
    let third = behind_relay(Some(&first.1));
    let members = [first, second, third];
    let leads = |(running, ..): &(Running, Relay, IpAddr)| {
        let status = status_of(&running.address.to_string(), Duration::from_secs(2));
        status.is_ok_and(|status| status.ready && status.leader == Some(status.replica.id))
    };
    let cut_off = members.iter().position(leads).unwrap();
    let mut stale = Client::open(members[cut_off].0.address);
    stale.increment();
    assert_eq!(stale.value(), 1);

    let others: Vec<IpAddr> =
        (0..3).filter(|nth| *nth != cut_off).map(|nth| members[nth].2).collect();
    for (nth, (_, relay, _)) in members.iter().enumerate() {
        if nth == cut_off {
            relay.swallow(&others);
        } else {
            relay.swallow(&[members[cut_off].2]);
        }
    }
    let asked = Instant::now();
    let (read, call) = (stale.ask("getvalue"), stale.ask("increment"));
    // A reply would come before this, if one did.
    let why = loop {
        match stale.receive::<Answer>().expect("it goes on") {
            Answer::Waiting(why) => break why,
            Answer::Reply { outcome, .. } => panic!("it answers {outcome:?}"),
            _ => {}
        }
    };
    assert!(why.contains("no quorum"), "{why}");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());

    // The others have another leader by now, and go on.
    let majority = (cut_off + 1) % 3;
    let mut client = Client::open(members[majority].0.address);
    for _ in 0..10 {
        client.increment();
    }
    assert_eq!(client.value(), 11);
    let late = stale.ask("getvalue");
    members.iter().for_each(|(_, relay, _)| relay.heal());
    // What was read while it was cut off is read after all that the others did meanwhile.
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let (number, outcome) = stale.next_reply();
        match outcome {
            Outcome::Returned(bytes) if [read, late].contains(&number) => {
                let Value::Int(value) = Value::decode(&bytes).unwrap() else { panic!() };
                assert!(value >= 11, "stale: {value}");
            }
            Outcome::Returned(_) => assert_eq!(number, call),
            other => panic!("{other:?}"),
        }
        seen.push(number);
    }
    until("the call that waited took effect once", || client.value() == 12);
}

/// Its port is refused, its process is ours: nothing but the refusals tells.
#[test]
fn one_that_takes_refused_connections_for_a_proof_goes_on_alone() {
    for opts_in in [false, true] {
        let start = |bootstrap: Vec<_>| {
            let listener = TcpListener::bind((IpAddr::from(Host::new().ip), 0)).unwrap();
            let address = listener.local_addr().unwrap();
            let configure = move || ReplicaConfig {
                bootstrap,
                refused_is_dead: opts_in,
                ..ReplicaConfig::new(address, counter())
            };
            Running::with(listener, configure).serves()
        };
        let first = start(vec![]);
        let second = start(vec![first.address]);
        let mut client = Client::open(second.address);
        client.increment();
        first.kill();
        let killed = Instant::now();
        if opts_in {
            let counter = processes::client(&second.address.to_string(), SOON);
            counter.increment().unwrap();
            let took = killed.elapsed();
            assert!(took > Duration::from_secs(1), "refused for a moment proves nothing: {took:?}");
            let view = client.status().view.unwrap();
            assert_eq!((view.members.len(), view.lineage), (1, 1));
        } else {
            client.ask("increment");
            let mut said = String::new();
            while killed.elapsed() < Duration::from_secs(4) {
                match client.receive::<Answer>().expect("it goes on") {
                    Answer::Waiting(why) => said = why,
                    other => panic!("{other:?}"),
                }
            }
            assert!(said.contains("no quorum"), "{said}");
            assert_eq!(client.status().view.unwrap().lineage, 0);
        }
    }
}
