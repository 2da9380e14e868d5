use std::net::UdpSocket;
use std::thread;

use concoord_core::view::{Branch, Change, ClusterId, Member, ReplicaId, View};

use super::super::answer::{Transport, answer};
use super::super::message::{Code, Query, Section, Writer};
use super::*;
use crate::names::zone::Zone;

const DOMAIN: &str = "counterdomain.com";

fn ip(last: u8) -> IpAddr {
    [127, 53, 53, last].into()
}

fn record(name: &str, data: Data) -> Record {
    Record { name: name.into(), ttl: 60, data }
}

fn ns(name: &str, target: &str) -> Record {
    record(name, Data::Ns(target.into()))
}

fn a(name: &str, last: u8) -> Record {
    let IpAddr::V4(ip) = ip(last) else { panic!() };
    record(name, Data::A(ip))
}

/// Answers queries at that address as long as the tests run. All use one port.
fn serve(last: u8, port: u16, reply: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + 'static) -> u16 {
    let socket = UdpSocket::bind((ip(last), port)).unwrap();
    let port = socket.local_addr().unwrap().port();
    thread::spawn(move || {
        let mut packet = [0; 1500];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            if let Some(reply) = reply(&packet[..length]) {
                socket.send_to(&reply, from).unwrap();
            }
        }
    });
    port
}

/// What gives these records: to who asks for their name and type as an answer, to who asks for
/// another type as a delegation.
fn table(records: Vec<Record>) -> impl Fn(&[u8]) -> Option<Vec<u8>> + Send {
    move |packet| {
        let query = Query::read(packet)?;
        let question = query.question.as_ref()?;
        let mut writer = Writer::new(&query, Code::Ok, 1232);
        for record in records.iter().filter(|record| record.name == question.name) {
            if record.data.kind() == question.kind {
                writer.add(Section::Answer, record);
            }
        }
        let glue = |record: &&Record| matches!(record.data, Data::A(_)) && question.kind == NS;
        for record in records.iter().filter(glue) {
            writer.add(Section::Additional, record);
        }
        Some(writer.finish())
    }
}

fn zone(lasts: &[u8], changes: u64) -> Zone {
    let member = |last: u8| {
        let address = (ip(last), 14000).into();
        Member { domain: Some(DOMAIN.into()), ..Member::new(ReplicaId(last.into()), address) }
    };
    let mut view = View::first(ClusterId(1), member(lasts[0]), Branch::default());
    for last in &lasts[1..] {
        view.apply(Change::Add(member(*last)));
    }
    view.number += changes;
    Zone::new(&view, None, &[], DOMAIN, 5).unwrap()
}

fn own(last: u8, port: u16, zone: Zone) {
    serve(last, port, move |packet| answer(Some(&zone), packet, Transport::Udp));
}

/// A resolver at `first`, a parent that gives these records after it.
fn world(first: u8, delegation: Vec<Record>) -> Servers {
    let port = serve(first + 1, 0, table(delegation));
    let known = vec![ns("com", "a.gtld"), a("a.gtld", first + 1)];
    let resolver = serve(first, 0, table(known));
    let resolver = SocketAddr::new(ip(first), resolver);
    Servers { resolver, port, patience: Duration::from_secs(2) }
}

fn ns_of(n: u8) -> String {
    format!("ns{n}.{DOMAIN}")
}

#[test]
fn a_domain_that_is_delegated_as_its_servers_say_has_no_problem() {
    let delegation =
        vec![ns(DOMAIN, &ns_of(1)), ns(DOMAIN, &ns_of(2)), a(&ns_of(1), 12), a(&ns_of(2), 13)];
    let servers = world(10, delegation);
    own(12, servers.port, zone(&[12, 13], 0));
    own(13, servers.port, zone(&[12, 13], 0));
    let checked = check(DOMAIN, &servers).unwrap();
    assert_eq!(checked.problems, Vec::<String>::new());
    assert_eq!((checked.parent.as_str(), checked.answers.len()), ("com", 2));
}

#[test]
fn each_thing_that_is_wrong_is_said_with_what_to_do() {
    let delegation =
        vec![ns(DOMAIN, &ns_of(1)), ns(DOMAIN, &ns_of(9)), a(&ns_of(1), 23), a(&ns_of(9), 24)];
    let servers = world(20, delegation);
    own(23, servers.port, zone(&[22, 23], 0));
    serve(24, servers.port, table(vec![]));
    let problems = check(DOMAIN, &servers).unwrap().problems.join("\n");
    for expected in [
        "ns9.counterdomain.com (127.53.53.24): does not answer for counterdomain.com",
        "com does not give ns2.counterdomain.com: add it to the delegation, with the address 127.53.53.23",
        "com gives 127.53.53.23 for ns1.counterdomain.com, which is at 127.53.53.22: change its glue",
    ] {
        assert!(problems.contains(expected), "{expected} in {problems}");
    }
}

#[test]
fn servers_that_do_not_agree_are_told() {
    let delegation =
        vec![ns(DOMAIN, &ns_of(1)), ns(DOMAIN, &ns_of(2)), a(&ns_of(1), 32), a(&ns_of(2), 33)];
    let servers = world(30, delegation);
    own(32, servers.port, zone(&[32, 33], 0));
    own(33, servers.port, zone(&[32, 33], 1));
    let problems = check(DOMAIN, &servers).unwrap().problems;
    assert!(problems.len() == 1 && problems[0].contains("do not agree"), "{problems:?}");
}

/// What gives nothing but that code.
fn coded(code: Code) -> impl Fn(&[u8]) -> Option<Vec<u8>> + Send {
    move |packet| Some(Writer::new(&Query::read(packet)?, code, 1232).finish())
}

#[test]
fn a_parent_that_gives_no_answer_is_not_one_that_does_not_delegate() {
    let delegation = vec![ns(DOMAIN, &ns_of(1)), a(&ns_of(1), 54)];
    let port = serve(51, 0, coded(Code::Refused));
    serve(52, port, table(delegation));
    own(54, port, zone(&[54], 0));
    let known = |parents: &[u8]| {
        let mut records = vec![ns("com", "a.gtld")];
        records.extend(parents.iter().map(|last| a("a.gtld", *last)));
        table(records)
    };
    let servers = |resolver: u16| {
        let resolver = SocketAddr::new(ip(50), resolver);
        Servers { resolver, port, patience: Duration::from_secs(2) }
    };
    // The next one is asked.
    let checked = check(DOMAIN, &servers(serve(50, 0, known(&[51, 52])))).unwrap();
    assert_eq!(checked.problems, Vec::<String>::new());
    let why = check(DOMAIN, &servers(serve(50, 0, known(&[51])))).unwrap_err();
    assert!(why.contains("127.53.53.51: it answers REFUSED"), "{why}");
    let why = check(DOMAIN, &servers(serve(50, 0, coded(Code::Failed)))).unwrap_err();
    assert!(why.contains("does not answer for com (it answers SERVFAIL)"), "{why}");
}

#[test]
fn a_domain_that_nobody_delegates_is_told() {
    let servers = world(40, vec![]);
    let problems = check(DOMAIN, &servers).unwrap().problems;
    assert!(problems.len() == 1 && problems[0].contains("does not delegate"), "{problems:?}");
    let lost = check("counterdomain.org", &servers).unwrap_err();
    assert!(lost.contains("knows no zone"), "{lost}");
}
