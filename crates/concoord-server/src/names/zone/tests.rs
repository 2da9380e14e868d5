use concoord_core::view::{Branch, ClusterId};

use super::*;

const DOMAIN: &str = "counterdomain.com";

fn member(id: u64, address: &str) -> Member {
    Member::new(ReplicaId(id), address.parse().unwrap())
}

fn server(id: u64, address: &str) -> Member {
    Member { domain: Some(DOMAIN.into()), ..member(id, address) }
}

fn view(members: Vec<(Member, Role)>) -> View {
    let (cluster, branch) = (ClusterId(1), Branch::default());
    View {
        cluster,
        lineage: 0,
        branch,
        number: 7,
        members,
        lost: Vec::new(),
        dismissed: Vec::new(),
    }
}

fn zone(view: &View, leader: u64) -> Zone {
    let classes = ["concoord.object.counter.Counter"];
    Zone::new(view, Some(ReplicaId(leader)), &classes, DOMAIN, 5).unwrap()
}

fn three() -> View {
    view(vec![
        (server(1, "10.0.0.1:14000"), Role::Voter),
        (server(2, "10.0.0.2:14000"), Role::Voter),
        (member(3, "[2001:db8::3]:14001"), Role::Voter),
    ])
}

#[test]
fn a_view_becomes_a_zone() {
    let expected = "\
$ORIGIN counterdomain.com.
$TTL 5
counterdomain.com. 5 IN SOA ns1.counterdomain.com. hostmaster.counterdomain.com. 7 60 10 86400 5
10-0-0-1.ipaddr.counterdomain.com. 5 IN A 10.0.0.1
10-0-0-2.ipaddr.counterdomain.com. 5 IN A 10.0.0.2
10.0.0.1.ipaddr.counterdomain.com. 5 IN A 10.0.0.1
10.0.0.2.ipaddr.counterdomain.com. 5 IN A 10.0.0.2
2001-db8-0-0-0-0-0-3.ipaddr.counterdomain.com. 5 IN AAAA 2001:db8::3
2001.db8.0.0.0.0.0.3.ipaddr.counterdomain.com. 5 IN AAAA 2001:db8::3
_concoord._tcp.counterdomain.com. 5 IN SRV 0 100 14000 10-0-0-2.ipaddr.counterdomain.com.
_concoord._tcp.counterdomain.com. 5 IN SRV 10 100 14000 10-0-0-1.ipaddr.counterdomain.com.
_concoord._tcp.counterdomain.com. 5 IN SRV 10 100 14001 2001-db8-0-0-0-0-0-3.ipaddr.counterdomain.com.
counter.counterdomain.com. 5 IN A 10.0.0.2
counter.counterdomain.com. 5 IN A 10.0.0.1
counter.counterdomain.com. 5 IN AAAA 2001:db8::3
counterdomain.com. 5 IN A 10.0.0.2
counterdomain.com. 5 IN A 10.0.0.1
counterdomain.com. 300 IN NS ns1.counterdomain.com.
counterdomain.com. 300 IN NS ns2.counterdomain.com.
counterdomain.com. 5 IN TXT \"NAMESERVER 10.0.0.1:14000;NAMESERVER 10.0.0.2:14000;\
REPLICA 10.0.0.2:14000;REPLICA 10.0.0.1:14000;REPLICA [2001:db8::3]:14001\"
counterdomain.com. 5 IN AAAA 2001:db8::3
counterdomain.com. 5 IN SRV 0 100 14000 10-0-0-2.ipaddr.counterdomain.com.
counterdomain.com. 5 IN SRV 10 100 14000 10-0-0-1.ipaddr.counterdomain.com.
counterdomain.com. 5 IN SRV 10 100 14001 2001-db8-0-0-0-0-0-3.ipaddr.counterdomain.com.
leader.counterdomain.com. 5 IN A 10.0.0.2
ns1.counterdomain.com. 300 IN A 10.0.0.1
ns2.counterdomain.com. 300 IN A 10.0.0.2
";
    assert_eq!(zone(&three(), 2).to_string(), expected);
}

#[test]
fn who_does_not_serve_is_not_given() {
    let witness = Member { witness: true, ..member(4, "10.0.0.4:14000") };
    let mut more = three();
    more.members.push((witness.clone(), Role::Voter));
    more.members.push((server(5, "10.0.0.5:14000"), Role::Learner));
    let zone = zone(&more, 1).to_string();
    assert!(!zone.contains("10.0.0.4") && !zone.contains("REPLICA 10.0.0.5"), "{zone}");
    assert!(zone.contains("ns3.counterdomain.com. 300 IN A 10.0.0.5"), "it answers: {zone}");

    let nobody = view(vec![(witness, Role::Voter)]);
    assert_eq!(Zone::new(&nobody, None, &[], DOMAIN, 5), None);
}

#[test]
fn replicas_of_one_host_have_one_address_and_two_ports() {
    let view = view(vec![
        (server(1, "127.0.0.1:14000"), Role::Voter),
        (server(2, "127.0.0.1:14001"), Role::Voter),
    ]);
    let zone = zone(&view, 1);
    let count = |kind| {
        let Found::Records(records) = zone.find(DOMAIN, kind) else { panic!("nothing of {kind}") };
        records.len()
    };
    assert_eq!((count(1), count(2), count(33)), (1, 1, 2));
    let Found::Records(services) = zone.find("_concoord._tcp.counterdomain.com", 33) else {
        panic!()
    };
    assert_eq!(zone.addresses_for(services).len(), 1);
}

#[test]
fn what_is_not_there_is_told_from_what_has_other_types() {
    let zone = zone(&three(), 1);
    for name in ["_tcp", "ipaddr", "ns1", "leader", "0.1.ipaddr"] {
        assert_eq!(zone.find(&format!("{name}.{DOMAIN}"), 16), Found::NoData, "{name}");
    }
    for name in ["www", "0.0.9.ipaddr", "x.ns1"] {
        assert_eq!(zone.find(&format!("{name}.{DOMAIN}"), 1), Found::NoName, "{name}");
    }
    for name in ["", "com", "xcounterdomain.com", "counterdomain.com.org"] {
        assert_eq!(zone.find(name, 1), Found::Outside, "{name}");
    }
}

#[test]
fn many_nodes_take_several_strings() {
    let members = (1..=31).map(|id| (server(id, &format!("10.20.30.{id}:14000")), Role::Voter));
    let zone = zone(&view(members.collect()), 1);
    let Found::Records([Record { data: Data::Txt(strings), .. }]) = zone.find(DOMAIN, 16) else {
        panic!()
    };
    assert!(strings.len() > 4 && strings.iter().all(|string| string.len() <= 255));
    assert_eq!(strings.concat().matches("REPLICA 10.20.30.").count(), 31);
}

#[test]
fn a_class_gives_its_name_to_a_host_unless_that_is_taken() {
    assert_eq!(label("concoord.object.counter.Counter").as_deref(), Some("counter"));
    assert_eq!(label("app.My_Map_").as_deref(), Some("my-map"));
    assert_eq!(label("app.Größe"), None);
    let view = three();
    let of_leader = |classes: &[&str]| {
        let zone = Zone::new(&view, Some(ReplicaId(1)), classes, DOMAIN, 5).unwrap();
        zone.all_of("leader.counterdomain.com").to_vec()
    };
    assert_eq!(of_leader(&["app.Leader"]), of_leader(&[]));
}

#[test]
fn a_cluster_whose_replicas_are_not_said_to_answer_has_its_replicas_as_name_servers() {
    let zone = zone(&view(vec![(member(1, "10.0.0.1:14000"), Role::Voter)]), 1).to_string();
    assert!(
        zone.contains("IN NS ns1.counterdomain.com.") && !zone.contains("NAMESERVER"),
        "{zone}"
    );
}
