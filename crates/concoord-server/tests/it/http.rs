//! What HTTP gets on the replica's port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::client::Client;
use crate::cluster::{Running, SOON};

/// The replies to those requests, sent on one connection.
pub(crate) fn ask(address: SocketAddr, requests: &[&str]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    for (at, request) in requests.iter().enumerate() {
        let last = at + 1 == requests.len();
        let connection = if last { "Connection: close\r\n" } else { "" };
        write!(stream, "{request} HTTP/1.1\r\nHost: replica\r\n{connection}\r\n").unwrap();
    }
    let mut back = String::new();
    stream.read_to_string(&mut back).unwrap();
    back
}

#[test]
fn a_replica_that_serves_is_ready() {
    let replica = Running::start(&[]).serves();
    let back = ask(replica.address, &["GET /livez", "GET /readyz"]);
    assert_eq!(back.matches("HTTP/1.1 200 OK").count(), 2, "{back}");
}

#[test]
fn a_replica_that_can_not_join_is_alive_but_not_ready_and_says_why() {
    let nobody = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let replica = Running::start(&[nobody.local_addr().unwrap()]);
    let back = ask(replica.address, &["GET /livez", "GET /readyz"]);
    assert!(back.starts_with("HTTP/1.1 200 OK"), "{back}");
    let (_, ready) = back.split_once("HTTP/1.1 503").expect("not ready");
    let (_, reason) = ready.split_once("\r\n\r\n").unwrap();
    assert!(reason.trim().len() > 10, "{reason}");
}

#[test]
fn metrics_count_what_was_done() {
    let replica = Running::start(&[]).serves();
    let mut client = Client::open(replica.address);
    client.increment();
    let back = ask(replica.address, &["GET /metrics"]);
    for line in [
        "concoord_members 1",
        "concoord_leader 1",
        "concoord_connections 1",
        "concoord_calls_total 1",
    ] {
        assert!(back.contains(&format!("\n{line}\n")), "{line} in {back}");
    }
}

#[test]
fn head_has_no_body_and_what_is_not_there_is_not_found() {
    let replica = Running::start(&[]).serves();
    let head = ask(replica.address, &["HEAD /metrics"]);
    assert!(head.starts_with("HTTP/1.1 200 OK") && head.ends_with("\r\n\r\n"), "{head}");
    assert!(ask(replica.address, &["GET /nothing"]).starts_with("HTTP/1.1 404"));
    assert!(ask(replica.address, &["DELETE /"]).starts_with("HTTP/1.1 405"));
}

#[test]
fn a_head_that_is_too_long_is_refused() {
    let replica = Running::start(&[]).serves();
    let mut stream = TcpStream::connect(replica.address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(64 << 10));
    // It may close before it has read all.
    stream.write_all(long.as_bytes()).unwrap_or(());
    let mut back = Vec::new();
    stream.read_to_end(&mut back).unwrap_or(0);
    assert!(back.is_empty() || back.starts_with(b"HTTP/1.1 431"), "{back:?}");
}
