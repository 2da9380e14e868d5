use std::net::Ipv4Addr;

use concoord_core::view::{Branch, ClusterId, Member, ReplicaId, View};

use super::super::message::{A, NS, OPT, Reply, SOA, query};
use super::*;
use crate::names::zone::Data;

const DOMAIN: &str = "counterdomain.com";
const ID: [u8; 2] = [7, 9];
const TXT: u16 = 16;
const SRV: u16 = 33;

fn zone(replicas: u8) -> Zone {
    let member = |id: u8| {
        let address = (Ipv4Addr::new(10, 0, 0, id), 14000).into();
        Member { domain: Some(DOMAIN.into()), ..Member::new(ReplicaId(id.into()), address) }
    };
    let mut view = View::first(ClusterId(1), member(1), Branch::default());
    for id in 2..=replicas {
        view.apply(concoord_core::view::Change::Add(member(id)));
        view.apply(concoord_core::view::Change::Promote(ReplicaId(id.into())));
    }
    Zone::new(&view, Some(ReplicaId(1)), &["a.Counter"], DOMAIN, 5).unwrap()
}

/// A query without EDNS.
fn plain(name: &str, kind: u16) -> Vec<u8> {
    let mut query = query(ID, name, kind, false);
    query.truncate(query.len() - 11);
    query[11] = 0;
    query
}

fn ask(zone: &Zone, packet: &[u8]) -> Vec<u8> {
    answer(Some(zone), packet, Transport::Udp).unwrap()
}

fn code(answer: &[u8]) -> u8 {
    answer[3] & 0x0F
}

fn read(answer: &[u8]) -> Reply {
    Reply::read(answer, ID).unwrap()
}

#[test]
fn addresses_are_answered_by_authority() {
    let answer = ask(&zone(3), &query(ID, DOMAIN, A, true));
    let reply = read(&answer);
    assert!(reply.authoritative && !reply.truncated);
    assert_eq!((code(&answer), answer[2] & 1, answer[3] & 0x80), (0, 1, 0), "no recursion");
    let [answers, ..] = &reply.sections;
    let ips: Vec<_> = answers.iter().map(|record| record.data.clone()).collect();
    assert_eq!(ips[0], Data::A(Ipv4Addr::new(10, 0, 0, 1)));
    assert_eq!(ips.len(), 3);
}

#[test]
fn services_come_with_the_addresses_of_their_targets() {
    for name in [DOMAIN, "_concoord._tcp.counterdomain.com"] {
        let answer = ask(&zone(3), &query(ID, name, SRV, false));
        let [_, _, additional] = read(&answer).sections;
        assert_eq!(additional.len(), 3, "{name}");
        assert!(additional[0].name.ends_with(".ipaddr.counterdomain.com"));
    }
}

#[test]
fn name_servers_come_with_their_addresses() {
    let [answers, _, glue] = read(&ask(&zone(2), &query(ID, DOMAIN, NS, false))).sections;
    assert_eq!((answers.len(), glue.len()), (2, 2));
    assert_eq!(glue[0].name, "ns1.counterdomain.com");
}

#[test]
fn a_question_comes_back_in_its_case() {
    let packet = plain("CouNTerDOmaIn.Com", A);
    let answer = ask(&zone(1), &packet);
    assert_eq!(answer[12..packet.len()], packet[12..]);
    assert_eq!(read(&answer).sections[0].len(), 1);
}

#[test]
fn what_is_not_there_is_told_with_how_long_that_holds() {
    for (name, kind, expected) in [("www", A, 3), ("leader", TXT, 0), ("_tcp", SRV, 0)] {
        let answer = ask(&zone(1), &query(ID, &format!("{name}.{DOMAIN}"), kind, false));
        assert_eq!(code(&answer), expected, "{name}");
        let [answers, authority, _] = read(&answer).sections;
        assert!(answers.is_empty() && authority.len() == 1, "{name}");
        assert!(matches!(authority[0].data, Data::Soa { times: [.., 5], .. }), "{name}");
    }
}

#[test]
fn what_is_not_ours_is_refused() {
    let zone = zone(1);
    for packet in [
        query(ID, "example.org", A, true),
        query(ID, "", NS, true),
        query(ID, DOMAIN, AXFR, false),
        query(ID, DOMAIN, IXFR, false),
    ] {
        assert_eq!(code(&ask(&zone, &packet)), Code::Refused as u8);
    }
    // version.bind, class CHAOS.
    let mut chaos = plain("version.bind", TXT);
    let class_at = chaos.len() - 1;
    chaos[class_at] = 3;
    assert_eq!(code(&ask(&zone, &chaos)), Code::Refused as u8);
    assert_eq!(answer(None, &plain(DOMAIN, A), Transport::Udp).map(|it| code(&it)), Some(2));
}

#[test]
fn all_types_at_once_are_one() {
    let [answers, ..] = read(&ask(&zone(3), &query(ID, DOMAIN, ANY, false))).sections;
    assert!(answers.iter().all(|record| matches!(record.data, Data::A(_))), "{answers:?}");
    assert_eq!(code(&ask(&zone(3), &query(ID, "x.counterdomain.com", ANY, false))), 3);
}

#[test]
fn edns_is_answered_and_bounds_a_datagram() {
    let zone = zone(31);
    let mut packet = query(ID, DOMAIN, SRV, false);
    let answer = ask(&zone, &packet);
    assert!(answer.len() <= 1232 && read(&answer).truncated, "{}", answer.len());
    let tail = &answer[answer.len() - 11..];
    assert_eq!(tail[..3], [0, 0, OPT.to_be_bytes()[1]]);
    let whole = super::answer(Some(&zone), &packet, Transport::Tcp).unwrap();
    let reply = read(&whole);
    assert!(!reply.truncated && reply.sections[2].len() == 31);
    // Version 1.
    let at = packet.len() - 5;
    packet[at] = 1;
    let answer = ask(&zone, &packet);
    assert_eq!((code(&answer), answer[answer.len() - 6]), (0, 1), "BADVERS");
}

#[test]
fn without_edns_an_answer_is_at_most_six_times_its_question() {
    let zone = zone(31);
    for name in [DOMAIN, "_concoord._tcp.counterdomain.com", "leader.counterdomain.com", "x", ""] {
        for kind in [A, NS, SOA, TXT, 28, SRV, ANY] {
            let packet = plain(name, kind);
            let answer = ask(&zone, &packet);
            assert!(answer.len() <= 6 * packet.len(), "{name} {kind}: {}", answer.len());
            assert!(truncated(&packet).unwrap().len() <= packet.len());
        }
    }
    assert!(read(&ask(&zone, &plain(DOMAIN, TXT))).truncated);
}

#[test]
fn what_is_no_query_hears_nothing_and_what_is_odd_an_error() {
    let zone = zone(1);
    let hears = |packet: &[u8]| answer(Some(&zone), packet, Transport::Udp).map(|it| code(&it));
    assert_eq!(hears(&[]), None);
    assert_eq!(hears(&[0; 11]), None);
    let mut packet = plain(DOMAIN, A);
    packet[2] = 0x80;
    assert_eq!(hears(&packet), None, "an answer");
    packet[2] = 0x28;
    assert_eq!(hears(&packet), Some(Code::NotDone as u8), "an update");
    packet[2] = 0;
    packet[5] = 2;
    assert_eq!(hears(&packet), Some(Code::BadForm as u8), "two questions");
    packet[5] = 1;
    packet[12] = 0xC0;
    assert_eq!(hears(&packet), None, "a name that points to itself");
}

/// Random bytes, and queries with some bytes changed: nothing panics, and nothing is of use to
/// those who flood others.
#[test]
fn whatever_comes_is_survived() {
    let zone = zone(31);
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    let mut answered = 0;
    for round in 0..20_000 {
        let mut packet = match round % 3 {
            0 => (0..random(600)).map(|_| u8::try_from(random(256)).unwrap()).collect(),
            1 => plain("_concoord._tcp.counterdomain.com", SRV),
            _ => query(ID, DOMAIN, TXT, false),
        };
        for _ in 0..random(6).min(packet.len()) {
            let at = random(packet.len());
            packet[at] = u8::try_from(random(256)).unwrap();
        }
        let cut = random(20);
        if cut < 4 {
            packet.truncate(packet.len().saturating_sub(cut));
        }
        if let Some(answer) = answer(Some(&zone), &packet, Transport::Udp) {
            answered += 1;
            let edns = answer.len() >= 23 && answer[answer.len() - 11..][..3] == [0, 0, 41];
            assert!(answer.len() <= 1232 && (edns || answer.len() <= 6 * packet.len()));
            assert!(Reply::read(&answer, [packet[0], packet[1]]).is_some());
        }
        Reply::read(&packet, ID);
    }
    assert!(answered > 5000, "{answered}");
}
