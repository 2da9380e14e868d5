//! Everything that anybody may send to the port, all at once, to a process that serves.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;

use bytes::{Bytes, BytesMut};
use concoord_core::call::{Call, Outcome, Refusal, SessionId};
use concoord_core::limits::{ARGUMENT_BYTES_MAX, CLIENT_FRAME_BYTES_MAX, HANDSHAKE_TIMEOUT};
use concoord_core::wire::{
    Answer, ClientHello, HEADER_BYTES, Hello, PREAMBLE, Request, Welcome, write_frame,
};

use crate::calls::until;
use crate::client::Client;
use crate::cluster::SOON;
use crate::processes::{Host, Load, Replica, bootstrap, client, leader, raise_file_limit, tell};

/// What the flood brings, and as much again.
const FLOOD_MIB_MAX: u64 = 640;

/// Several times what it takes, and a small part of what the besiegers announce.
const RESIDENT_MIB_MAX: u64 = 200;

#[test]
fn a_besieged_replica_serves_its_clients_and_keeps_its_memory() {
    raise_file_limit();
    let host = Host::new();
    let replica = host.start(&[]);
    let address = replica.address;
    let load = Load::start(&address.to_string(), 2);
    load.goes_on();
    let idle = idle(address);
    thread::scope(|scope| {
        let attacks = [
            noise,
            huge_lengths,
            http_that_is_none,
            tls,
            slow_hello,
            slow_first_bytes,
            names_that_are_none_of_theirs,
            arguments_of_megabytes,
            frames_that_never_end,
            damage,
        ];
        let attacks: Vec<_> =
            attacks.into_iter().map(|attack| scope.spawn(move || attack(address))).collect();
        while !attacks.iter().all(|attack| attack.is_finished()) {
            load.goes_on();
        }
    });
    load.goes_on();
    drop(idle);
    let tally = load.stop();
    assert_eq!(tally.unknown, 0);
    let value = client(&address.to_string(), SOON).getvalue().unwrap();
    assert_eq!(value, tally.acknowledged);
    until("all are gone", || replica.status().unwrap().connections <= 1);
    let resident = replica.resident_mib_max();
    tell(&format!("{tally:?}, at most {resident} MiB"));
    assert!(resident < RESIDENT_MIB_MAX, "{resident} MiB");
    assert!(!replica.log().contains("please report"), "{}", replica.log());
}

fn dial(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.set_write_timeout(Some(SOON)).unwrap();
    stream
}

/// Sends that, and reads until the replica closes the connection, as it must.
fn send(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = dial(address);
    // It may have closed before all was sent.
    stream.write_all(bytes).unwrap_or(());
    read_all(&mut stream)
}

fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut back = Vec::new();
    match stream.read_to_end(&mut back) {
        Ok(_) => {}
        // It closed with some of ours unread.
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
    back
}

/// A thousand connections, some of which are clients, that do nothing.
fn idle(address: SocketAddr) -> Vec<TcpStream> {
    let open = |nth| {
        if nth % 4 == 0 { Client::connect(address).stream } else { dial(address) }
    };
    (0..1000).map(open).collect()
}

/// Bytes without a pattern, the same in every run.
fn random(seed: u64, count: usize) -> Vec<u8> {
    let mut state = seed;
    let step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(step).take(count).collect()
}

fn noise(address: SocketAddr) {
    for seed in 1..=100 {
        let mut bytes = random(seed, 2000);
        // Capitals would be HTTP's.
        bytes[0] |= 0x80;
        assert_eq!(send(address, &bytes), b"");
        bytes[..PREAMBLE.len()].copy_from_slice(&PREAMBLE);
        assert_eq!(send(address, &bytes), b"");
        let mut client = Client::connect(address);
        client.stream.write_all(&bytes).unwrap_or(());
        assert_eq!(client.receive::<Welcome>(), None);
    }
}

fn header(length: u32) -> Vec<u8> {
    [&length.to_le_bytes()[..], &[0; HEADER_BYTES - 4]].concat()
}

fn huge_lengths(address: SocketAddr) {
    for length in [1 << 17, 64 << 20, u32::MAX / 2, u32::MAX] {
        for _ in 0..20 {
            assert_eq!(send(address, &[&PREAMBLE[..], &header(length)].concat()), b"");
        }
    }
    for length in [CLIENT_FRAME_BYTES_MAX as u32 + 1, 64 << 20, u32::MAX] {
        let mut client = Client::connect(address);
        client.stream.write_all(&header(length)).unwrap();
        assert_eq!(client.receive::<Welcome>(), None);
    }
}

fn http_that_is_none(address: SocketAddr) {
    let endless = ["GET /".to_owned(), "x".repeat(1 << 20)].concat();
    let headers = ["GET / HTTP/1.1\r\n".to_owned(), "X: y\r\n".repeat(100_000)].concat();
    for request in ["GET\r\n\r\n", "A", "POST / HTTP/9.9\r\n\r\n", &endless, &headers] {
        let mut stream = dial(address);
        stream.write_all(request.as_bytes()).unwrap_or(());
        stream.shutdown(std::net::Shutdown::Write).unwrap_or(());
        let back = read_all(&mut stream);
        assert!(back.is_empty() || back.starts_with(b"HTTP/1.1 4"), "{back:?}");
    }
}

fn tls(address: SocketAddr) {
    // A record of a handshake, TLS 1.0 to 1.3, with a client's hello of 508 bytes.
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &random(7, 506)].concat();
    for _ in 0..50 {
        assert_eq!(send(address, &hello), b"");
    }
}

/// One byte of a hello now and then, never all of it.
fn slow_hello(address: SocketAddr) {
    let mut hello = BytesMut::from(&PREAMBLE[..]);
    write_frame(&Hello::Client(ClientHello { class: None, session: None }), &mut hello);
    drip(address, &hello[..hello.len() - 1]);
}

/// Half of the preamble, and then nothing.
fn slow_first_bytes(address: SocketAddr) {
    drip(address, &PREAMBLE[..4]);
}

fn drip(address: SocketAddr, bytes: &[u8]) {
    let mut stream = dial(address);
    stream.set_read_timeout(Some(HANDSHAKE_TIMEOUT / 20)).unwrap();
    let mut left = bytes.iter();
    until("it is hung up on", || {
        if let Some(byte) = left.next() {
            stream.write_all(&[*byte]).unwrap_or(());
        }
        match stream.read(&mut [0]) {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        }
    });
}

fn names_that_are_none_of_theirs(address: SocketAddr) {
    let mut client = Client::open(address);
    let long = "x".repeat(100_000);
    for method in
        ["_value", "__init__", "__class__", "__reduce__", "__dict__", "", "a.b", "\u{0}", &long]
    {
        let number = client.ask(method);
        let outcome = client.reply(number);
        assert!(matches!(outcome, Outcome::Refused(Refusal::NoSuchMethod { .. })), "{outcome:?}");
    }
    assert!(client.value() > 0);
}

fn call(arguments: Bytes) -> Request {
    Request::Call(Call {
        session: SessionId(1),
        sequence: 1,
        method: "increment".into(),
        arguments,
        ..Call::default()
    })
}

/// More than a call may bring, in a frame that may come, and 64 MiB in one frame.
fn arguments_of_megabytes(address: SocketAddr) {
    let bytes = ARGUMENT_BYTES_MAX + (1 << 19);
    let large = call(Bytes::from(vec![0; bytes]));
    let mut answer = None;
    // While others fill the room for large frames it may be hung up on, as they are.
    until("it is answered", || {
        let mut client = Client::connect(address);
        answer = client.try_send(&large).ok().and_then(|()| client.receive());
        answer.is_some()
    });
    let refusal = Refusal::TooLarge { bytes: bytes as u64, max: ARGUMENT_BYTES_MAX as u64 };
    assert_eq!(answer, Some(Answer::Reply { sequence: 1, outcome: Outcome::Refused(refusal) }));
    let mut frame = BytesMut::new();
    write_frame(&call(Bytes::from(vec![0; 64 << 20])), &mut frame);
    let mut client = Client::connect(address);
    client.stream.write_all(&frame).unwrap_or(());
    assert_eq!(client.receive::<Welcome>(), None);
}

/// Frames of the greatest length that are all but ended, on more connections than there is room
/// for. Those that have room are hung up on, and so are those that wait for it.
fn frames_that_never_end(address: SocketAddr) {
    let begun = [header(CLIENT_FRAME_BYTES_MAX as u32), vec![0; CLIENT_FRAME_BYTES_MAX - 1]];
    let begun = begun.concat();
    thread::scope(|scope| {
        for _ in 0..64 {
            scope.spawn(|| {
                let mut client = Client::connect(address);
                client.stream.set_write_timeout(Some(SOON)).unwrap();
                client.stream.write_all(&begun).unwrap_or(());
                assert_eq!(client.receive::<Welcome>(), None);
            });
        }
    });
    let mut client = Client::open(address);
    let number = client.ask_with("increment", Bytes::from(vec![0xf6; ARGUMENT_BYTES_MAX]));
    let outcome = client.reply(number);
    assert!(matches!(outcome, Outcome::Refused(Refusal::Malformed(_))), "there is room again");
}

fn damage(address: SocketAddr) {
    let mut frame = BytesMut::new();
    write_frame(&Request::Status, &mut frame);
    // The reserved bytes mean nothing yet.
    for at in (4..8).chain(HEADER_BYTES..frame.len()) {
        let mut damaged = frame.clone();
        damaged[at] ^= 1;
        let mut client = Client::connect(address);
        client.stream.write_all(&damaged).unwrap();
        assert_eq!(client.receive::<Welcome>(), None, "byte {at}");
    }
}

/// Clients that each have many of the largest calls open, all at once: more than the leader may
/// propose ahead, and more than a frame or a stream's buffer holds.
#[test]
fn a_leader_that_is_flooded_with_arguments_stays_one_of_three() {
    flood(|replicas, leader| replicas[leader].address);
}

/// The same by way of a follower, which must not bring the calls out of order.
#[test]
fn a_follower_that_is_flooded_with_arguments_passes_them_on_in_order() {
    flood(|replicas, leader| replicas[(leader + 1) % 3].address);
}

fn flood(through: impl FnOnce(&[Replica; 3], usize) -> SocketAddr) {
    const CLIENTS: usize = 8;
    const CALLS: u64 = 10;
    let host = Host::new();
    let replicas = host.three();
    let load = Load::start(&bootstrap(&replicas.each_ref()), 2);
    load.goes_on();
    let address = through(&replicas, leader(&replicas));
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(move || {
                let mut client = Client::open(address);
                let arguments = Bytes::from(vec![0xf6; ARGUMENT_BYTES_MAX]);
                (0..CALLS).for_each(|_| _ = client.ask_with("increment", arguments.clone()));
                for number in 1..=CALLS {
                    let (sequence, outcome) = client.next_reply();
                    assert_eq!(sequence, number, "replies come in the order of the calls");
                    assert!(!matches!(outcome, Outcome::Returned(_)), "they mean nothing");
                }
            });
        }
    });
    load.goes_on();
    assert_eq!(load.stop().unknown, 0);
    for replica in &replicas {
        assert_eq!(replica.members(), 3);
        assert!(!replica.log().contains("starts anew"), "it was kept from the others");
        let resident = replica.resident_mib_max();
        tell(&format!("{resident} MiB"));
        assert!(resident < FLOOD_MIB_MAX, "{resident} MiB");
    }
}
