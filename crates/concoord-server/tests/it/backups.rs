//! Backups of a living cluster, and clusters that start from one.

use std::fs;
use std::process::Output;

use concoord::object::Counter;
use serde_json::Value as Json;

use crate::cluster::SOON;
use crate::processes::{Host, Load, agree, bootstrap, client, concoord};

fn run(arguments: &[&str]) -> Output {
    concoord(arguments).output().expect("the program runs")
}

/// What it prints, or its exit code and what it complains about.
fn said(arguments: &[&str]) -> Result<String, (i32, String)> {
    let Output { status, stdout, stderr } = run(arguments);
    let text = |bytes| String::from_utf8(bytes).expect("it speaks UTF-8");
    if status.success() { Ok(text(stdout)) } else { Err((status.code().unwrap(), text(stderr))) }
}

fn json(arguments: &[&str]) -> Json {
    serde_json::from_str(&said(arguments).unwrap()).unwrap()
}

#[test]
fn a_backup_under_load_holds_all_that_was_acknowledged_and_starts_a_cluster() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    let file = file.to_str().unwrap();
    let host = Host::new();
    let replicas = host.three();
    let boot = bootstrap(&replicas.iter().collect::<Vec<_>>());
    let load = Load::start(&boot, 4);
    load.goes_on();
    let before = client(&boot, SOON).getvalue().unwrap();
    // A follower gives one, too: the leader is the first here.
    let follower = replicas[2].address.to_string();
    let saved = json(&["snapshot", "save", file, "-b", &follower, "--json"]);
    let after = client(&boot, SOON).getvalue().unwrap();
    load.stop();
    assert_eq!(saved["object"], Counter::CLASS);
    assert!(saved["sessions"].as_u64().unwrap() >= 4, "{saved}");
    let shown = json(&["snapshot", "show", file, "--json"]);
    assert_eq!(shown, saved);
    assert_eq!(shown["members"].as_array().unwrap().len(), 3);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left there");

    let restored = Host::new().restore(file, &[]);
    let status = restored.status().unwrap();
    let view = status.view.unwrap();
    assert_eq!((view.members.len(), view.lineage), (1, 1));
    assert_ne!(view.cluster.to_string(), shown["cluster"].as_str().unwrap());
    assert!(status.applied > shown["index"].as_u64().unwrap(), "the log goes on from there");
    let address = restored.address.to_string();
    let counter = client(&address, SOON);
    let value = counter.getvalue().unwrap();
    assert!((before..=after).contains(&value), "{before} <= {value} <= {after}");
    counter.increment().unwrap();
    let second = host.start(&["-b", &address]);
    agree(&[restored, second]);
    // The old cluster is another one, and goes on.
    client(&boot, SOON).increment().unwrap();
}

#[test]
fn a_durable_replica_is_restored_once_and_then_started_as_itself() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (file, data) = (path("backup"), path("data"));
    let host = Host::new();
    let replica = host.start(&[]);
    let address = replica.address.to_string();
    client(&address, SOON).increment().unwrap();
    said(&["snapshot", "save", &file, "-b", &address]).unwrap();

    let durable = ["-w", "--data-dir", &data];
    let mut restored = host.restore(&file, &durable);
    let address = restored.address;
    client(&address.to_string(), SOON).increment().unwrap();
    restored.kill();
    let port = address.port().to_string();
    let again = ["snapshot", "restore", &file, "-a", &address.ip().to_string(), "-p", &port];
    let (code, message) =
        said(&[&again[..], &["-o", Counter::CLASS], &durable].concat()).unwrap_err();
    assert_eq!(code, 1, "{message}");
    assert!(message.contains("holds a replica already"), "{message}");
    let replica = Host::at(address, &durable).serves();
    assert_eq!(client(&address.to_string(), SOON).getvalue().unwrap(), 2);
    assert_eq!(replica.status().unwrap().view.unwrap().lineage, 1);
}

#[test]
fn what_is_wrong_with_a_backup_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (file, damaged, short) = (path("backup"), path("damaged"), path("short"));
    let host = Host::new();
    let replica = host.start(&[]);
    let address = replica.address.to_string();
    client(&address, SOON).increment().unwrap();
    said(&["snapshot", "save", &file, "-b", &address]).unwrap();

    let bytes = fs::read(&file).unwrap();
    let mut flipped = bytes.clone();
    let at = bytes.len() - 3;
    flipped[at] ^= 1;
    fs::write(&damaged, flipped).unwrap();
    fs::write(&short, &bytes[..at]).unwrap();
    let ends = |arguments: &[&str], words: &str| {
        let (_, message) = said(arguments).unwrap_err();
        assert!(message.contains(words), "{message}");
    };
    ends(&["snapshot", "show", &damaged], &format!("damaged before byte {}", bytes.len()));
    ends(&["snapshot", "show", &short], &format!("it ends at byte {at}"));
    ends(&["snapshot", "show", &path("absent")], "can't be read");
    let (code, message) =
        said(&["snapshot", "restore", &damaged, "-o", Counter::CLASS]).unwrap_err();
    assert_eq!(code, 1, "{message}");
    ends(
        &["snapshot", "restore", &file, "-a", "127.0.0.1", "-o", Counter::CLASS, "-b", &address],
        "name no replica to join",
    );
    ends(&["snapshot", "save", &path("nowhere/backup"), "-b", &address], "can't be written");
    drop(replica);
    let (code, message) = said(&["snapshot", "save", &file, "-b", &address]).unwrap_err();
    assert_eq!(code, 5, "{message}");
}
