//! What anybody may send to the port.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::BytesMut;
use concoord_core::limits::{CLIENT_FRAME_BYTES_MAX, HELLO_BYTES_MAX};
use concoord_core::wire::{PREAMBLE, Request, Welcome, write_frame};

use crate::calls::until;
use crate::client::Client;
use crate::cluster::{Running, SOON};

/// Sends bytes; returns whatever comes back until the replica closes the connection.
fn send(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut back = Vec::new();
    match stream.read_to_end(&mut back) {
        Ok(_) => {}
        // It closed with some of ours unread.
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
    back
}

#[test]
fn what_is_no_frame_costs_its_connection_and_no_other() {
    let replica = Running::start(&[]).serves();
    let mut client = Client::open(replica.address);
    let noise: Vec<u8> =
        (0..4096_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for first in [0x00, 0x16, 0x80, 0xff] {
        let mut bytes = noise.clone();
        bytes[0] = first;
        assert_eq!(send(replica.address, &bytes), b"");
    }
    let after_preamble = [&PREAMBLE[..], &noise].concat();
    assert_eq!(send(replica.address, &after_preamble), b"");
    assert_eq!(send(replica.address, b"\xC0not our preamble at all"), b"");
    client.increment();
    assert_eq!(client.value(), 1);
}

#[test]
fn a_length_beyond_the_limit_ends_the_connection_before_anything_is_kept() {
    let replica = Running::start(&[]).serves();
    let header =
        |bytes: usize| [&u32::try_from(bytes).unwrap().to_le_bytes()[..], &[0; 8]].concat();
    let hello = [&PREAMBLE[..], &header(HELLO_BYTES_MAX + 1)].concat();
    assert_eq!(send(replica.address, &hello), b"");
    let mut client = Client::connect(replica.address);
    client.stream.write_all(&header(CLIENT_FRAME_BYTES_MAX + 1)).unwrap();
    assert_eq!(client.receive::<Welcome>(), None);
}

#[test]
fn a_message_that_is_none_ends_the_connection() {
    let replica = Running::start(&[]).serves();
    let mut client = Client::connect(replica.address);
    client.send(&u64::MAX);
    assert_eq!(client.receive::<Welcome>(), None);
}

#[test]
fn another_version_of_the_protocol_is_told_so() {
    let replica = Running::start(&[]).serves();
    let mut client = Client::dial(replica.address);
    let mut preamble = PREAMBLE;
    preamble[7] += 1;
    client.stream.write_all(&preamble).unwrap();
    let Some(Welcome::Refused(reason)) = client.receive() else { panic!("it is refused") };
    assert!(reason.contains("version"), "{reason}");
}

#[test]
fn a_thousand_idle_connections_hurt_nobody() {
    let replica = Running::start(&[]).serves();
    // Some say nothing, some stop within the preamble, some are clients.
    let idle: Vec<_> = (0..1000)
        .map(|number| {
            let mut stream = TcpStream::connect(replica.address).unwrap();
            stream.write_all(&PREAMBLE[..number % 8]).unwrap();
            stream
        })
        .collect();
    let clients: Vec<_> = (0..50).map(|_| Client::connect(replica.address)).collect();
    let mut client = Client::open(replica.address);
    client.increment();
    assert_eq!(client.value(), 1);
    assert_eq!(client.status().connections, 51);
    drop((idle, clients));
    until("all are gone", || client.status().connections == 1);
}

#[test]
fn one_who_never_reads_is_disconnected_and_the_others_are_served() {
    let replica = Running::start(&[]).serves();
    let mut client = Client::open(replica.address);
    let deaf = Client::connect(replica.address);
    let mut writer = deaf.stream.try_clone().unwrap();
    writer.set_write_timeout(Some(SOON)).unwrap();
    let mut asked = BytesMut::new();
    for _ in 0..1000 {
        write_frame(&Request::Interface(String::new()), &mut asked);
    }
    // Each answer is some hundred times as long as its question.
    while writer.write_all(&asked).is_ok() {}
    until("it is disconnected", || client.status().connections == 1);
    client.increment();
    assert_eq!(client.value(), 1);
}
