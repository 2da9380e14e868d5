//! Replicas that are known by their domain's name alone, and replaced.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::calls::until;
use crate::cluster::SOON;
use crate::processes::{Host, Load, Replica, agree, client, concoord, leader, tell};
use crate::responder::{Manner, Responder, SRV};

const DOMAIN: &str = "counterdomain.com";

/// As long as other tests of failovers allow: how long it takes is printed.
const GAP_MAX: Duration = Duration::from_secs(5);

fn responder() -> Responder {
    Responder::start((Ipv4Addr::LOCALHOST, 0).into())
}

/// What a client is given that is to ask that server.
fn by_name(dns: SocketAddr) -> String {
    format!("{DOMAIN}?dns={dns}")
}

fn addresses(replicas: &[Replica]) -> Vec<SocketAddr> {
    replicas.iter().map(|replica| replica.address).collect()
}

/// Replaces all replicas one by one, the leader last: those who are connected to it know nobody
/// who is there in the end but by name. The newcomers know nobody by any other way either.
fn replace_all(host: &Host, replicas: &mut Vec<Replica>, dns: &Responder, boot: &str, load: &Load) {
    let first = leader(replicas);
    let leader = replicas.remove(first);
    replicas.push(leader);
    for _ in 0..replicas.len() {
        replicas.push(host.start(&["-b", boot]));
        let mut oldest = replicas.remove(0);
        dns.set_replicas(DOMAIN, &addresses(replicas));
        until("all are members", || replicas.iter().all(|replica| replica.members() == 4));
        oldest.kill();
        until("it is none any more", || replicas.iter().all(|replica| replica.members() == 3));
        tell(&format!("the longest call at a replacement: {:?}", load.goes_on()));
    }
}

#[test]
fn all_replicas_are_replaced_and_no_call_of_a_client_that_knows_their_name_fails() {
    let (host, dns) = (Host::new(), responder());
    let mut replicas = vec![host.start(&[])];
    dns.set_replicas(DOMAIN, &addresses(&replicas));
    let boot = by_name(dns.address);
    for _ in 0..2 {
        replicas.push(host.start(&["-b", &boot]));
        dns.set_replicas(DOMAIN, &addresses(&replicas));
    }
    let load = Load::start(&boot, 4);
    load.goes_on();
    replace_all(&host, &mut replicas, &dns, &boot, &load);
    let tally = load.stop();
    assert_eq!(tally.unknown, 0);
    agree(&replicas);
    tally.accounts_for(client(&boot, SOON).getvalue().unwrap());
}

#[test]
fn a_dead_name_server_holds_up_no_failover() {
    let (host, dns) = (Host::new(), responder());
    let mut replicas = Vec::from(host.three());
    dns.set_replicas(DOMAIN, &addresses(&replicas));
    let load = Load::start(&by_name(dns.address), 4);
    load.goes_on();
    dns.be(Manner::Silent);
    let mut leader = replicas.remove(leader(&replicas));
    leader.kill();
    let gap = load.goes_on();
    tell(&format!("the longest call: {gap:?}"));
    assert!(gap < GAP_MAX, "{gap:?}");
    assert_eq!(load.stop().unknown, 0);
}

#[test]
fn one_that_joins_looks_its_name_up_until_somebody_is_found() {
    let (host, dns) = (Host::new(), responder());
    let boot = by_name(dns.address);
    let joining = host.spawn(&["-b", &boot]);
    until("it says so", || joining.log().contains("No replica to join yet"));
    let reason = format!("{} knows no such name", dns.address);
    until("it says why", || joining.log().contains(&reason));
    // It is not its own cluster, whatever its name says.
    dns.set_replicas(DOMAIN, &[joining.address]);
    let asked = dns.with(|state| state.asked.len());
    until("it asks again", || dns.with(|state| state.asked.len()) > asked);
    let first = host.start(&[]);
    dns.set_replicas(DOMAIN, &[joining.address, first.address]);
    let joined = joining.serves();
    until("they are one cluster", || first.members() == 2 && joined.members() == 2);
}

#[test]
fn commands_take_a_name() {
    let (host, dns) = (Host::new(), responder());
    let replica = host.start(&[]);
    dns.set_replicas(DOMAIN, &[replica.address]);
    let boot = by_name(dns.address);
    let said = |arguments: &[&str]| run(&mut concoord(arguments));
    assert_eq!(said(&["call", "getvalue", "-b", &boot]), "0\n");
    assert!(said(&["status", "-b", &boot]).contains(&replica.address.to_string()));
    assert!(said(&["members", "-b", &boot]).contains(&replica.address.to_string()));
    let file = TempDir::new().unwrap();
    let file = file.path().join("backup");
    assert!(said(&["snapshot", "save", "-b", &boot, file.to_str().unwrap()]).contains("holds"));
    // The environment names the server, too.
    let mut command = concoord(&["call", "getvalue", "-b", DOMAIN]);
    assert_eq!(run(command.env("CONCOORD_DNS", dns.address.to_string())), "0\n");
    assert!(said(&["bench", "-b", &boot, "-c", "2", "-s", "0.1", "--json"]).contains("\"calls\""));

    let output = concoord(&["status", "-b", &format!("gone.{boot}")]).output().unwrap();
    assert_eq!(output.status.code(), Some(5));
    let text = String::from_utf8(output.stderr).unwrap();
    let expected = format!("gone.{DOMAIN}: {} knows no such name", dns.address);
    assert!(text.contains(&expected) && text.contains("?dns=ADDRESS:PORT"), "{text}");
}

/// What a command that succeeds prints.
fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{command:?}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// How much longer than an election a call may take: what the client waits before it asks another
/// replica may come after it, for a call that was made just then.
const HOP_MAX: Duration = Duration::from_secs(2);

/// Its connections stay open, and nothing comes: clients and followers have to find out.
#[test]
fn a_leader_that_is_paused_costs_little_more_than_an_election() {
    let host = Host::new();
    let replicas = Vec::from(host.three());
    let places: Vec<_> = addresses(&replicas).iter().map(ToString::to_string).collect();
    let load = Load::start(&places.join(", "), 8);
    load.goes_on();
    for _ in 0..3 {
        let which = leader(&replicas);
        let paused = &replicas[which];
        let others = || replicas.iter().enumerate().filter(|(nth, _)| *nth != which);
        paused.signal(Signal::STOP);
        let start = Instant::now();
        until("another one leads", || others().any(|(_, replica)| replica.leads()));
        let (elected, gap) = (start.elapsed(), load.goes_on());
        tell(&format!("another one led after {elected:?}; the longest call: {gap:?}"));
        assert!(gap < elected + HOP_MAX);
        paused.signal(Signal::CONT);
        until("it follows", || !paused.leads() && paused.status().is_ok_and(|it| it.ready));
        load.goes_on();
    }
    let tally = load.stop();
    assert_eq!(tally.unknown, 0);
    agree(&replicas);
    tally.accounts_for(client(&places.join(", "), SOON).getvalue().unwrap());
}

/// A recursive resolver, as hosts are set up with, between clients and the name server.
struct Unbound {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Unbound {
    /// Takes root: it listens on port 53, since `/etc/resolv.conf` has no other.
    fn start(ip: Ipv4Addr, dns: &Responder) -> Self {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join("unbound.conf");
        let (upstream, port) = (dns.address.ip(), dns.address.port());
        let config = format!(
            "server:\n  interface: {ip}\n  port: 53\n  access-control: 127.0.0.0/8 allow\n\
             \x20 chroot: \"\"\n  username: \"\"\n  pidfile: \"\"\n  use-syslog: no\n\
             \x20 directory: \"{}\"\n  do-daemonize: no\n  do-not-query-localhost: no\n\
             \x20 module-config: \"iterator\"\n\
             remote-control:\n  control-enable: no\n\
             stub-zone:\n  name: \"{DOMAIN}\"\n  stub-addr: {upstream}@{port}\n",
            folder.path().display()
        );
        fs::write(&file, config).unwrap();
        let child = Command::new("unbound").arg("-d").arg("-c").arg(&file).spawn();
        let child = child.expect("Debian's package unbound is installed");
        Self { child, address: (ip, 53).into(), _folder: folder }
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
#[ignore = "takes root and Debian's unbound: scripts/test runs it where both are there"]
fn through_a_recursive_resolver_replicas_are_found_after_all_were_replaced() {
    let (host, dns) = (Host::new(), responder());
    let mut replicas = Vec::from(host.three());
    dns.set_replicas(DOMAIN, &addresses(&replicas));
    let unbound = Unbound::start(host.ip, &dns);
    let boot = by_name(unbound.address);
    let bootstrap: concoord::Bootstrap = boot.parse().unwrap();
    until("unbound answers", || bootstrap.look_up(SOON).is_ok());
    let load = Load::start(&boot, 4);
    load.goes_on();

    // What may be kept is not asked of the name server again, until it may not.
    let services = || dns.with(|state| state.asked.iter().filter(|(_, kind)| *kind == SRV).count());
    let (before, start, mut look_ups) = (services(), Instant::now(), 0);
    while services() == before {
        bootstrap.look_up(SOON).unwrap();
        look_ups += 1;
        assert!(start.elapsed() < SOON, "records of a second are kept for ever");
    }
    tell(&format!("{look_ups} look-ups for each that reached the name server"));
    assert!(look_ups > 1);

    replace_all(&host, &mut replicas, &dns, &boot, &load);
    let tally = load.stop();
    assert_eq!(tally.unknown, 0);
    agree(&replicas);
    tally.accounts_for(client(&boot, SOON).getvalue().unwrap());

    // As on any host: the resolver of /etc/resolv.conf, a search domain, /etc/hosts.
    let folder = TempDir::new().unwrap();
    let (resolv, hosts) = (folder.path().join("resolv.conf"), folder.path().join("hosts"));
    fs::write(&resolv, format!("nameserver {}\nsearch com\n", unbound.address.ip())).unwrap();
    let found = replicas[0].address;
    fs::write(&hosts, format!("{} counterhost\n", found.ip())).unwrap();
    let call = |name: &str| {
        let script = format!(
            "mount --bind {} /etc/resolv.conf && mount --bind {} /etc/hosts && exec \"$@\"",
            resolv.display(),
            hosts.display()
        );
        let program = env!("CARGO_BIN_EXE_concoord");
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, "sh", program, "call", "getvalue"]);
        run(command.args(["-b", name]))
    };
    let value = call(DOMAIN);
    assert_eq!(call("counterdomain"), value);
    assert_eq!(call(&format!("counterhost:{}", found.port())), value);
    assert_eq!(call(&format!("{DOMAIN}:{}", found.port())), value);
}
