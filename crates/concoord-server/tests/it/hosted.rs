//! Replicas whose object lives in a worker.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use concoord_core::call::{Outcome, Refusal};
use concoord_server::{ObjectSpec, WorkerSpec};
use tempfile::TempDir;

use crate::calls::until;
use crate::client::Client;
use crate::cluster::{Running, SOON};
use crate::fake;

fn start(scratch: &Path, bootstrap: &[&Running]) -> Running {
    let spec = WorkerSpec {
        classes: vec![scratch.to_str().unwrap().into()],
        command: fake::command("fake::fake_worker"),
        load_timeout: SOON,
        apply_timeout: Duration::from_millis(500),
    };
    let bootstrap: Vec<_> = bootstrap.iter().map(|replica| replica.address).collect();
    Running::hosting(move || ObjectSpec::Worker(spec), &bootstrap).serves()
}

fn three(scratch: &TempDir) -> [Running; 3] {
    let first = start(scratch.path(), &[]);
    let second = start(scratch.path(), &[&first]);
    let third = start(scratch.path(), &[&first]);
    [first, second, third]
}

#[test]
fn a_hosted_object_is_replicated_and_read() {
    let scratch = tempfile::tempdir().unwrap();
    let replicas = three(&scratch);
    for (replica, total) in replicas.iter().zip(1..) {
        assert_eq!(Client::open(replica.address).integer("add"), total);
    }
    assert_eq!(Client::open(replicas[0].address).integer("total"), 3);
}

#[test]
fn a_state_of_megabytes_reaches_a_newcomer() {
    let scratch = tempfile::tempdir().unwrap();
    let first = start(scratch.path(), &[]);
    let mut client = Client::open(first.address);
    for total in 1..=10 {
        assert_eq!(client.integer("add"), total);
    }
    let second = start(scratch.path(), &[&first]);
    assert_eq!(Client::open(second.address).integer("add"), 11);
    let mut newcomer = Client::connect(second.address);
    until("the same digest", || {
        let (theirs, ours) = (newcomer.status(), client.status());
        theirs.digest == ours.digest && ours.digest != 0
    });
}

#[test]
fn a_call_that_kills_every_worker_is_skipped_and_the_object_goes_on() {
    let scratch = tempfile::tempdir().unwrap();
    let replicas = three(&scratch);
    let mut client = Client::open(replicas[0].address);
    assert_eq!(client.integer("add"), 1);
    let deadly = client.ask("die");
    assert_eq!(client.reply(deadly), Outcome::Refused(Refusal::ObjectCrashed));
    for replica in &replicas {
        Client::open(replica.address).integer("add");
    }
    assert_eq!(client.integer("total"), 4);
}

#[test]
fn a_step_that_kills_every_worker_is_skipped_and_all_replicas_agree() {
    let scratch = tempfile::tempdir().unwrap();
    let replicas = three(&scratch);
    let mut others: Vec<_> = replicas.iter().map(|replica| Client::open(replica.address)).collect();
    let deadly = scratch.path().join(fake::DIES_OF_LOST);
    File::create(&deadly).unwrap();
    for (round, replica) in (0..).zip(&replicas[..2]) {
        let mut client = Client::open(replica.address);
        client.integer("add");
        client.close();
        // They are answered once the workers are past the end of that session.
        for (nth, other) in (2..).zip(&mut others) {
            assert_eq!(other.integer("add"), 4 * round + nth);
        }
    }
    // A step is given up once a worker has died of it twice.
    assert!(fs::read(&deadly).unwrap().len() >= 4, "it was no step that kills");
    fs::remove_file(&deadly).unwrap();
    Client::open(replicas[0].address).close();
    until("the same digest", || {
        let states: Vec<_> = others.iter_mut().map(|other| other.status()).collect();
        let (applied, digest) = (states[0].applied, states[0].digest);
        digest != 0 && states.iter().all(|it| (it.applied, it.digest) == (applied, digest))
    });
    assert_eq!(others[0].integer("total"), 8);
}

#[test]
fn while_a_call_hangs_the_replica_answers_others() {
    let scratch = tempfile::tempdir().unwrap();
    let replica = start(scratch.path(), &[]);
    let mut client = Client::open(replica.address);
    let hanging = client.ask("hang");
    let mut other = Client::open(replica.address);
    assert!(other.status().ready);
    assert_eq!(client.reply(hanging), Outcome::Refused(Refusal::ObjectCrashed));
    assert_eq!(other.integer("add"), 1);
}
