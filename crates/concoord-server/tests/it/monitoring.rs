//! What those who watch a cluster get from its processes.

use std::io::{self, Write};
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::calls::until;
use crate::cluster::SOON;
use crate::http::ask;
use crate::processes::{Host, bootstrap, client, tell};

#[test]
fn promtool_finds_no_fault_with_the_metrics() {
    let host = Host::new();
    let replicas = host.three();
    client(&bootstrap(&replicas.each_ref()), SOON).increment().unwrap();
    for replica in &replicas {
        let back = ask(replica.address, &["GET /metrics"]);
        let (head, metrics) = back.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200") && head.contains("version=0.0.4"), "{head}");
        let promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut promtool = match promtool {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return tell("skipped: no promtool here (Debian: apt-get install prometheus)");
            }
            promtool => promtool.unwrap(),
        };
        promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
        let found = promtool.wait_with_output().unwrap();
        let said = [found.stdout, found.stderr].concat();
        assert!(found.status.success(), "{}\n{metrics}", String::from_utf8_lossy(&said));
        assert_eq!(String::from_utf8(said).unwrap(), "");
    }
}

#[test]
fn without_a_quorum_a_replica_is_not_ready_and_says_who_is_missing() {
    let host = Host::new();
    let replicas = host.three();
    let ready = |nth: usize| ask(replicas[nth].address, &["GET /readyz"]);
    assert!(ready(2).starts_with("HTTP/1.1 200"));
    replicas[..2].iter().for_each(|replica| replica.signal(Signal::STOP));
    until("it is not ready", || ready(2).starts_with("HTTP/1.1 503"));
    until("it says who is missing", || {
        let back = ready(2);
        back.contains("no quorum: 2 of 3")
            && replicas[..2].iter().all(|stopped| back.contains(&stopped.address.to_string()))
    });
    let back = ask(replicas[2].address, &["GET /livez", "GET /metrics"]);
    assert!(back.starts_with("HTTP/1.1 200") && back.contains("\nconcoord_ready 0\n"), "{back}");
    replicas[0].signal(Signal::CONT);
    until("two are enough", || ready(2).starts_with("HTTP/1.1 200"));
}
