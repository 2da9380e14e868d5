//! Replicas with disks: whatever dies, what was acknowledged is there when they are back.

use std::process::Output;

use rustix::process::Signal;

use crate::cluster::SOON;
use crate::processes::{Host, Load, Replica, agree, bootstrap, client, concoord, leader, tell};

#[test]
fn a_lone_replica_comes_back_with_what_it_had() {
    let host = Host::new();
    let mut replica = host.start_durable(&[]);
    let address = replica.address.to_string();
    for round in 1..=3 {
        let load = Load::start(&address, 2);
        load.goes_on();
        replica.kill();
        replica = replica.restart();
        load.goes_on();
        let tally = load.stop();
        tell(&format!("round {round}: {tally:?}"));
        assert_eq!(tally.unknown, 0, "the client tries again until it knows");
        let counter = client(&address, SOON);
        assert_eq!(counter.getvalue().unwrap(), tally.acknowledged);
        counter.decrement_by(tally.acknowledged).unwrap();
    }
}

/// All die at once and are started again in each order. Calls that were open go on, once each.
#[test]
fn three_that_are_killed_at_once_come_back_with_every_call_once() {
    let host = Host::new();
    let mut replicas = Vec::from(host.three_durable());
    let load = Load::start(&bootstrap(&replicas.iter().collect::<Vec<_>>()), 4);
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
        load.goes_on();
        for replica in &replicas {
            replica.signal(Signal::KILL);
        }
        replicas.iter_mut().for_each(Replica::kill);
        let mut dead: Vec<_> = replicas.into_iter().map(Some).collect();
        let back: Vec<_> =
            order.iter().map(|which| dead[*which].take().unwrap().respawn()).collect();
        replicas = back.into_iter().map(Replica::serves).collect();
        replicas.sort_by_key(|replica| replica.address);
    }
    let gap = load.goes_on();
    let tally = load.stop();
    tell(&format!("{tally:?}, the last call took {gap:?} at most"));
    assert_eq!(tally.unknown, 0, "the client tries again until it knows");
    agree(&replicas);
    assert_eq!(client(&bootstrap(&[&replicas[0]]), SOON).getvalue().unwrap(), tally.acknowledged);
}

/// It keeps its id and its log: it is no newcomer.
#[test]
fn one_of_three_comes_back_as_itself() {
    let host = Host::new();
    let mut replicas = Vec::from(host.three_durable());
    let load = Load::start(&bootstrap(&replicas.iter().collect::<Vec<_>>()), 2);
    load.goes_on();
    let mut killed = replicas.remove(leader(&replicas));
    let before = killed.status().unwrap();
    killed.kill();
    load.goes_on();
    replicas.push(killed.restart());
    load.goes_on();
    let after = replicas[2].status().unwrap();
    assert_eq!(after.replica.id, before.replica.id);
    assert_eq!(after.view, before.view, "nobody left");
    assert_eq!(load.stop().unknown, 0);
    agree(&replicas);
}

/// Both die; whoever is back first waits for the other one.
#[test]
fn two_that_die_at_once_need_each_other() {
    let host = Host::new();
    let first = host.start_durable(&[]);
    let second = host.start_durable(&["-b", &bootstrap(&[&first])]);
    let load = Load::start(&bootstrap(&[&first, &second]), 2);
    load.goes_on();
    let mut replicas = [first, second];
    for replica in &replicas {
        replica.signal(Signal::STOP);
    }
    replicas.iter_mut().for_each(Replica::kill);
    let replicas = replicas.map(Replica::respawn).map(Replica::serves);
    load.goes_on();
    let tally = load.stop();
    assert_eq!(tally.unknown, 0);
    agree(&replicas);
    let value = client(&bootstrap(&[&replicas[0]]), SOON).getvalue().unwrap();
    assert_eq!(value, tally.acknowledged);
}

fn replica(host: &Host, port: &str, folder: &str, options: &[&str]) -> Output {
    let ip = host.ip.to_string();
    let command = ["replica", "-a", &ip, "-p", port, "--data-dir", folder];
    concoord(&[&command[..], options].concat()).output().unwrap()
}

#[test]
fn a_folder_that_is_not_this_replicas_is_refused() {
    let counter = ["-o", "concoord.object.counter.Counter"];
    let host = Host::new();
    let folder = host.folder();
    let folder = folder.to_str().unwrap();
    let mut serving = host.start_durable(&[]);
    let refused = |host: &Host, port: &str, options: &[&str], words: &[&str]| {
        let output = replica(host, port, folder, options);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(10), "{said}");
        assert!(words.iter().all(|words| said.contains(words)), "{said}");
    };
    refused(&host, "14900", &counter, &["in use by another process", "--data-dir"]);
    serving.kill();
    refused(&host, "14900", &counter, &["is of the replica at", "-p 14000"]);
}

#[test]
fn one_that_is_told_to_join_another_cluster_than_its_own_says_so() {
    let host = Host::new();
    let folder = host.folder();
    let mut durable = host.start_durable(&[]);
    client(&durable.address.to_string(), SOON).increment().unwrap();
    let other = host.start(&[]);
    client(&other.address.to_string(), SOON).increment().unwrap();
    durable.kill();
    let boot = other.address.to_string();
    let class = "concoord.object.counter.Counter";
    let options = ["-o", class, "-b", &boot];
    let output = replica(&host, "14000", folder.to_str().unwrap(), &options);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("refuses this replica: this is cluster"), "{said}");
}

#[test]
fn a_bench_of_durable_replicas_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["bench", "--spawn", "2", "-w", "-c", "4", "-s", "0.3", "--json"];
    let output = concoord(&arguments).current_dir(&folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}
