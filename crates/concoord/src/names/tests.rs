//! Against a DNS server in this process, which may misbehave.

use std::net::UdpSocket;

use super::responder::{A, AAAA, Data as Told, Manner, Responder, SRV};
use super::*;

const DOMAIN: &str = "counterdomain.example";

/// Longer than anything takes here.
const LONG: Duration = Duration::from_secs(20);

fn responder() -> Responder {
    Responder::start("127.0.0.1:0".parse().unwrap())
}

/// Which asks these, and does not wait long.
fn system(responders: &[&Responder]) -> System {
    let servers = responders.iter().map(|responder| responder.address).collect();
    System { patience: Duration::from_millis(250), ..System::of_servers(servers) }
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn addresses<const N: usize>(texts: [&str; N]) -> Vec<SocketAddr> {
    texts.map(address).to_vec()
}

fn service(priority: u16, port: u16, target: &str) -> Told {
    Told::Service(priority, 100, port, target.to_owned())
}

fn ip(text: &str) -> Told {
    Told::Address(text.parse().unwrap())
}

impl System {
    fn find(&self, host: &str, port: Option<u16>) -> Result<Vec<SocketAddr>, LookUpError> {
        self.look_up(host, port, Instant::now() + LONG)
    }

    fn fail(&self, host: &str, port: Option<u16>) -> String {
        self.find(host, port).expect_err("nothing is to be found").to_string()
    }
}

#[test]
fn a_name_stands_for_its_services_by_priority() {
    let dns = responder();
    dns.set_replicas(DOMAIN, &addresses(["10.0.0.2:14001", "10.0.0.3:14002", "10.0.0.1:14000"]));
    let mut found = system(&[&dns]).find(DOMAIN, None).unwrap();
    assert_eq!(found.remove(0), address("10.0.0.2:14001"), "the leader comes first");
    found.sort_unstable();
    assert_eq!(found, addresses(["10.0.0.1:14000", "10.0.0.3:14002"]));
    let asked = dns.with(|state| state.asked.clone());
    assert_eq!(asked, [(format!("_concoord._tcp.{DOMAIN}"), SRV)], "their addresses came along");
}

#[test]
fn a_name_without_services_stands_for_its_addresses() {
    let dns = responder();
    dns.set(DOMAIN, vec![ip("10.0.0.1"), ip("::1"), ip("10.0.0.2")]);
    let expected = addresses(["10.0.0.1:14000", "10.0.0.2:14000", "[::1]:14000"]);
    assert_eq!(system(&[&dns]).find(DOMAIN, None), Ok(expected));
}

#[test]
fn a_name_with_a_port_stands_for_its_addresses_alone() {
    let dns = responder();
    dns.set_replicas(DOMAIN, &addresses(["10.0.0.2:14001"]));
    assert_eq!(system(&[&dns]).find(DOMAIN, Some(1)), Ok(addresses(["10.0.0.2:1"])));
    assert!(dns.with(|state| state.asked.iter().all(|(_, kind)| *kind != SRV)));
}

#[test]
fn targets_without_an_address_in_the_answer_are_looked_up() {
    let dns = responder();
    dns.set("_concoord._tcp.a.example", vec![service(0, 14001, "r.example")]);
    // The responder adds IPv4 addresses only.
    dns.set("r.example", vec![ip("::1")]);
    assert_eq!(system(&[&dns]).find("a.example", None), Ok(addresses(["[::1]:14001"])));
}

#[test]
fn weights_share_out_the_first_place() {
    let service = |weight, port| Service { priority: 0, weight, port, target: None };
    let mut first = [0; 4];
    for _ in 0..4000 {
        let order = in_order(vec![service(0, 0), service(10, 1), service(30, 2), service(60, 3)]);
        assert_eq!(order.len(), 4);
        first[usize::from(order[0].port)] += 1;
    }
    // Of 101 lots one, ten, thirty and sixty; five deviations off would be one in a million.
    let expected = [40.0, 396.0, 1188.0, 2376.0];
    for (count, expected) in first.into_iter().zip(expected) {
        let off = (f64::from(count) - expected).abs();
        assert!(off < 6.0 * f64::sqrt(expected), "{first:?}");
    }
}

#[test]
fn hosts_come_before_the_dns() {
    let dns = responder();
    dns.set_replicas(DOMAIN, &addresses(["10.0.0.2:14001"]));
    let hosts = system::hosts("# none\n10.9.9.9 other Counterdomain.Example # here\n::1 other\n");
    let system = System { hosts, ..system(&[&dns]) };
    assert_eq!(system.find(DOMAIN, None), Ok(addresses(["10.9.9.9:14000"])));
    assert_eq!(system.find(DOMAIN, Some(5)), Ok(addresses(["10.9.9.9:5"])));
    assert_eq!(system.find("other", Some(5)), Ok(addresses(["10.9.9.9:5", "[::1]:5"])));
    assert_eq!(dns.with(|state| state.asked.len()), 0);
}

#[test]
fn a_short_name_is_looked_for_in_the_search_domains() {
    let dns = responder();
    dns.set_replicas("counter.b.example", &addresses(["10.0.0.2:14001"]));
    let config = System::of_resolv_conf("search a.example b.example\noptions ndots:2");
    let system = System { search: config.search, ndots: config.ndots, ..system(&[&dns]) };
    let found = Ok(addresses(["10.0.0.2:14001"]));
    assert_eq!(system.find("counter", None), found);
    assert_eq!(system.find("counter.b.example", None), found, "two dots: as it is");
    assert!(system.find("counter.", None).is_err(), "a dot at the end: as it is, and no more");
    let asked: Vec<_> =
        dns.with(|state| state.asked.iter().map(|(name, _)| name.clone()).collect());
    assert_eq!(
        asked[..3],
        ["a", "b", "b"].map(|domain| {
            let name = if domain == "a" { "counter.a.example" } else { "counter.b.example" };
            format!("_concoord._tcp.{name}")
        })
    );
}

#[test]
fn resolv_conf_is_read_as_the_c_library_does() {
    let system = System::of_resolv_conf(
        "nameserver 10.0.0.1\nnameserver ::1\nnameserver 10.0.0.2\nnameserver 10.0.0.3\n\
         search a.example b.example\noptions ndots:3 attempts:9 timeout:30\n",
    );
    assert_eq!(system.servers, addresses(["10.0.0.1:53", "[::1]:53", "10.0.0.2:53"]));
    assert_eq!((system.ndots, system.attempts), (3, 3));
    assert!(system.patience <= Duration::from_secs(1) && system.asks_libc);
    let names = |name: &str| {
        let names = system.candidates(name);
        names.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names("c"), ["c.a.example", "c.b.example", "c"]);
    assert_eq!(names("a.b.c.d"), ["a.b.c.d", "a.b.c.d.a.example", "a.b.c.d.b.example"]);
    assert_eq!(System::of_resolv_conf("").servers, addresses(["127.0.0.1:53"]));
}

#[test]
fn a_line_of_resolv_conf_that_nobody_understands_costs_itself_alone() {
    let system = System::of_resolv_conf(
        "options of-tomorrow ndots:2\nfrobnicate\nnameserver fe80::1%br-lan\nnameserver 10.0.0.1\n\
         nameserver fe80::1%lo\nnameserver fe80::1%7\nsearch a.example\n",
    );
    assert_eq!(system.servers[0], address("10.0.0.1:53"), "{:?}", system.servers);
    // The loopback interface is the first, in each network namespace.
    assert_eq!(system.servers[1..], addresses(["[fe80::1%1]:53", "[fe80::1%7]:53"]));
    assert_eq!(system.search.len(), 1);
}

#[test]
fn aliases_are_followed_and_a_loop_of_them_is_an_error() {
    let dns = responder();
    let system = system(&[&dns]);
    let alias = |to: &str| vec![Told::Alias(to.to_owned())];
    dns.set_replicas(DOMAIN, &addresses(["10.0.0.2:14001"]));
    dns.set("_concoord._tcp.one.example", alias("two.example"));
    dns.set("two.example", alias(&format!("_concoord._tcp.{DOMAIN}")));
    assert_eq!(system.find("one.example", None), Ok(addresses(["10.0.0.2:14001"])));
    dns.set("two.example", alias("_concoord._tcp.one.example"));
    let text = system.fail("one.example", None);
    assert!(text.contains("is an alias of an alias, more than 8 times"), "{text}");
    dns.set("three.example", alias("three.example"));
    assert!(system.fail("three.example", Some(1)).contains("is an alias of an alias"));
}

#[test]
fn forged_answers_are_passed_over() {
    let dns = responder();
    dns.set_replicas(DOMAIN, &addresses(["10.0.0.2:14001"]));
    dns.be(Manner::Forged);
    assert_eq!(system(&[&dns]).find(DOMAIN, None), Ok(addresses(["10.0.0.2:14001"])));
}

#[test]
fn what_does_not_fit_comes_by_tcp() {
    let dns = responder();
    let replicas: Vec<SocketAddr> =
        (0..31).map(|nth| SocketAddr::from(([10, 0, 0, nth], 14000))).collect();
    dns.set_replicas(DOMAIN, &replicas);
    dns.be(Manner::Truncated);
    let mut found = system(&[&dns]).find(DOMAIN, None).unwrap();
    found.sort_unstable();
    assert_eq!(found, replicas);
}

#[test]
fn a_huge_answer_is_cut() {
    let dns = responder();
    let many = (0..1800u16).map(|nth| {
        let [high, low] = nth.to_be_bytes();
        Told::Address([10, 0, high, low].into())
    });
    dns.set("a.b", many.collect());
    dns.be(Manner::Truncated);
    assert_eq!(system(&[&dns]).find("a.b", Some(1)).unwrap().len(), ADDRESSES_MAX);
}

#[test]
fn a_server_without_edns_is_asked_without() {
    let dns = responder();
    dns.set_replicas(DOMAIN, &addresses(["10.0.0.2:14001"]));
    dns.be(Manner::Old);
    assert_eq!(system(&[&dns]).find(DOMAIN, None), Ok(addresses(["10.0.0.2:14001"])));
}

#[test]
fn another_server_is_asked_where_one_does_not_answer() {
    for manner in [Manner::Silent, Manner::Garbage, Manner::Code(2), Manner::Code(5)] {
        let (bad, good) = (responder(), responder());
        bad.be(manner);
        good.set_replicas(DOMAIN, &addresses(["10.0.0.2:14001"]));
        let found = system(&[&bad, &good]).find(DOMAIN, None);
        assert_eq!(found, Ok(addresses(["10.0.0.2:14001"])), "{manner:?}");
    }
}

#[test]
fn a_dead_server_costs_its_patience_once() {
    let (dead, good) = (responder(), responder());
    dead.be(Manner::Silent);
    let replicas = (1..=9).map(|nth| service(0, 14000 + nth, &format!("r{nth}.example")));
    good.set("_concoord._tcp.a.example", replicas.collect());
    // The responder adds IPv4 addresses only: each target is asked for.
    (1..=9).for_each(|nth| good.set(&format!("r{nth}.example"), vec![ip("::1")]));
    assert_eq!(system(&[&dead, &good]).find("a.example", None).unwrap().len(), 9);
    assert_eq!(dead.with(|state| state.asked.len()), 1);
}

#[test]
fn a_failure_for_one_kind_of_address_costs_not_the_other() {
    let dns = responder();
    dns.set("_concoord._tcp.a.example", vec![service(0, 14001, "r.example")]);
    dns.set("r.example", vec![ip("::1")]);
    dns.be(Manner::FailsOn(A));
    assert_eq!(system(&[&dns]).find("a.example", None), Ok(addresses(["[::1]:14001"])));
    dns.set(DOMAIN, vec![ip("10.0.0.1")]);
    dns.be(Manner::FailsOn(AAAA));
    assert_eq!(system(&[&dns]).find(DOMAIN, None), Ok(addresses(["10.0.0.1:14000"])));
    assert!(system(&[&dns]).fail("r.example", Some(1)).contains("SERVFAIL"));
}

#[test]
fn a_search_domain_that_fails_hides_no_other() {
    let dns = responder();
    dns.set_replicas("counter.b.example", &addresses(["10.0.0.2:14001"]));
    dns.be(Manner::FailsAt("_concoord._tcp.counter.a."));
    let config = System::of_resolv_conf("search a.example b.example");
    let system = System { search: config.search, ..system(&[&dns]) };
    assert_eq!(system.find("counter", None), Ok(addresses(["10.0.0.2:14001"])));
}

#[test]
fn who_was_asked_and_what_came_back_is_said() {
    let dns = responder();
    let system = system(&[&dns]);
    let text = system.fail(DOMAIN, None);
    let expected = format!("{} knows no such name (asked for SRV, A and AAAA", dns.address);
    assert!(text.starts_with(&expected) && text.contains("?dns=ADDRESS:PORT"), "{text}");

    let text = system.fail(DOMAIN, Some(5));
    assert!(text.contains("knows no such name: a name with a port takes an A"), "{text}");

    dns.set(&format!("other.{DOMAIN}"), vec![ip("10.0.0.1")]);
    let text = system.fail(DOMAIN, None);
    assert!(text.contains("knows the name, but no address of it"), "{text}");

    let name = format!("_concoord._tcp.{DOMAIN}");
    dns.set(&name, vec![service(0, 14000, "gone.example")]);
    let text = system.fail(DOMAIN, None);
    assert!(text.contains("are at gone.example, which have no address"), "{text}");

    dns.set(&name, vec![service(0, 0, "")]);
    assert!(system.fail(DOMAIN, None).contains("there is no such service"));

    dns.be(Manner::Code(2));
    let text = system.fail(DOMAIN, None);
    assert!(text.contains(&format!("{} answers SERVFAIL: see /etc/resolv.conf", dns.address)));

    dns.be(Manner::Silent);
    let text = system.fail(DOMAIN, None);
    assert!(text.contains(&format!("{} does not answer", dns.address)), "{text}");
}

#[test]
fn a_port_without_a_server_is_said_to_be_one() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let gone = socket.local_addr().unwrap();
    drop(socket);
    let text = System::of_servers(vec![gone]).fail(DOMAIN, None);
    assert!(text.contains(&format!("{gone}: no DNS server listens there")), "{text}");
}

#[test]
fn a_dead_server_takes_its_time_and_no_more() {
    let dns = responder();
    dns.be(Manner::Silent);
    let start = Instant::now();
    let end = start + Duration::from_millis(300);
    assert!(system(&[&dns]).look_up(DOMAIN, None, end).is_err());
    assert!(start.elapsed() < LONG / 4);
}

#[test]
fn a_look_up_keeps_the_order_and_names_what_failed() {
    let dns = responder();
    dns.set_replicas(DOMAIN, &addresses(["10.0.0.2:14001"]));
    let look_up = |places: &str, timeout| {
        let text = format!("{places}?dns={}", dns.address);
        text.parse::<Bootstrap>().unwrap().look_up(timeout)
    };
    let found = look_up(&format!("10.0.0.1, {DOMAIN}, gone.example, {DOMAIN}:7"), LONG).unwrap();
    assert_eq!(found, addresses(["10.0.0.1:14000", "10.0.0.2:14001", "10.0.0.2:7"]));
    let error = look_up("gone.example, lost.example", LONG).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("gone.example: ") && text.contains("; lost.example: "), "{text}");
    dns.be(Manner::Silent);
    let error = look_up("a.example", LONG / 100).unwrap_err();
    let expected = format!("a.example: no answer yet from {}", dns.address);
    assert!(error.to_string().contains(&expected), "{error}");
}
