//! Members that vote and keep the log, and have no object.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustix::process::Signal;

use crate::calls::until;
use crate::cluster::SOON;
use crate::operators::{list, role};
use crate::processes::{Host, Load, Replica, agree, bootstrap, client, leader, tell};

/// MiB that a witness may take at most, in a build for tests.
const WITNESS_MIB_MAX: u64 = 32;

/// Two replicas with the object, started with these options, and what they are joined by.
fn two(host: &Host, durable: bool) -> (Vec<Replica>, String) {
    let start = |options: &[&str]| {
        if durable { host.start_durable(options) } else { host.start(options) }
    };
    let first = start(&[]);
    let boot = first.address.to_string();
    let second = start(&["-b", &boot]);
    (vec![first, second], boot)
}

#[test]
fn calls_go_on_beside_a_witness_whichever_replica_is_killed() {
    let host = Host::new();
    let (mut replicas, boot) = two(&host, false);
    let witness = host.start(&["--witness", "-b", &boot]);
    let load = Load::start(&bootstrap(&replicas.iter().collect::<Vec<_>>()), 4);
    load.goes_on();
    for _ in 0..2 {
        let dies = leader(&replicas);
        replicas[dies].kill();
        load.goes_on();
        let other = &replicas[1 - dies];
        until("the witness and one replica are left", || other.members() == 2);
        // By its old command, which names nobody if it was the first.
        let back = replicas.remove(dies).restart();
        replicas.push(back);
        load.goes_on();
        until("there are three again", || replicas[0].members() == 3);
    }
    let tally = load.stop();
    assert_eq!(role(&replicas[0], &witness), "witness");
    agree(&replicas);
    let counter = client(&bootstrap(&[&replicas[0]]), SOON);
    tally.accounts_for(counter.getvalue().unwrap());
    let mib = witness.resident_mib_max();
    tell(&format!("{tally:?}, the witness took {mib} MiB"));
    assert!(mib < WITNESS_MIB_MAX, "the witness takes {mib} MiB");
}

#[test]
fn a_witness_is_listed_is_ready_and_sends_clients_to_the_leader() {
    let host = Host::new();
    let first = host.start(&[]);
    let boot = first.address.to_string();
    // It waits for a second replica with the object, beside which it is of use.
    let witness = host.spawn(&["--witness", "-b", &boot]);
    until("it is a learner", || role(&first, &witness) == "learner");
    assert!(witness.status().unwrap().reason.contains("once two replicas"));
    let second = host.join(&[&first]);
    let witness = witness.serves();

    let listed = list(&witness);
    let entry = listed.iter().find(|member| member["role"] == "witness").unwrap();
    assert_eq!(entry["address"], witness.address.to_string());
    assert!(entry["witness"] == true && entry["ready"] == true, "{entry}");
    assert_eq!(listed.iter().filter(|member| member["witness"] == false).count(), 2);
    let status = witness.status().unwrap();
    assert_eq!((status.sessions, status.calls, status.digest), (0, 0, 0));

    let mut stream = TcpStream::connect(witness.address).unwrap();
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 200"), "{reply}");

    // Who knows the witness alone is sent on.
    let counter = client(&witness.address.to_string(), SOON);
    counter.increment().unwrap();
    assert_eq!(counter.getvalue().unwrap(), 1);
    agree(&[first, second]);
}

/// No Python is looked for: else another code would say that there is none with that class.
#[test]
fn a_witness_of_another_class_is_refused_and_hosts_nothing() {
    let host = Host::new();
    let first = host.start(&[]);
    let boot = first.address.to_string();
    let mut other = host.spawn(&["--witness", "-b", &boot, "-o", "no.such.Class"]);
    assert_eq!(other.ends(), 1);
    assert!(other.log().contains("hosts concoord.object.counter.Counter"), "{}", other.log());
    let mut alone = host.spawn(&["--witness"]);
    assert_eq!(alone.ends(), 2);
    let mut both = host.spawn(&["--witness", "--learner", "-b", &boot]);
    assert_eq!(both.ends(), 2);
}

/// All die at once, and the witness comes back with its log; with another role it does not.
#[test]
fn a_durable_witness_comes_back_as_what_it_was() {
    let host = Host::new();
    let (mut replicas, boot) = two(&host, true);
    let folder = host.folder();
    let witness = host.start_durable(&["--witness", "-b", &boot]);
    let (id, address) = (witness.status().unwrap().replica.id, witness.address);
    replicas.push(witness);
    let load = Load::start(&bootstrap(&[&replicas[0], &replicas[1]]), 4);
    for _ in 0..2 {
        load.goes_on();
        for replica in &replicas {
            replica.signal(Signal::KILL);
        }
        replicas.iter_mut().for_each(Replica::kill);
        let back: Vec<_> = replicas.into_iter().rev().map(Replica::respawn).collect();
        replicas = back.into_iter().map(Replica::serves).collect();
        replicas.sort_by_key(|replica| replica.address);
    }
    load.goes_on();
    let tally = load.stop();
    let mut witness = replicas.pop().unwrap();
    assert_eq!(witness.status().unwrap().replica.id, id);
    agree(&replicas);
    tally.accounts_for(client(&bootstrap(&[&replicas[0]]), SOON).getvalue().unwrap());

    witness.kill();
    let folder = folder.to_str().unwrap();
    let mut other = Host::at(address, &["-w", "--data-dir", folder, "-b", &boot]);
    assert_eq!(other.ends(), 10);
    assert!(other.log().contains("started with --witness"), "{}", other.log());
    let witness = witness.restart();
    assert_eq!(role(&replicas[0], &witness), "witness");
}

/// One is stopped for so long that the others go on without it, then wakes.
#[test]
fn a_witness_that_slept_joins_again() {
    let host = Host::new();
    let options = ["--dead-timeout", "2"];
    let first = host.start(&options);
    let boot = first.address.to_string();
    let second = host.start(&[&options[..], &["-b", &boot]].concat());
    let witness = host.start(&["--witness", "-b", &boot]);
    client(&boot, SOON).increment().unwrap();
    witness.signal(Signal::STOP);
    until("it is removed", || first.members() == 2 && second.members() == 2);
    client(&boot, SOON).increment().unwrap();
    witness.signal(Signal::CONT);
    until("it is a member again", || role(&first, &witness) == "witness");
    agree(&[first, second]);
}
