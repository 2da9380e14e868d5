//! Replicas that answer DNS queries, asked by dig.

use std::fs;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::calls::until;
use crate::cluster::SOON;
use crate::http;
use crate::processes::{Host, Replica, bootstrap, client, concoord, leader};

const DOMAIN: &str = "counterdomain.com";
const PORT: &str = "5353";

/// How soon a change of the members shows.
const SHOWN: Duration = Duration::from_secs(2);

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {text}{errors}");
    text
}

/// What dig says, in short.
fn dig(at: IpAddr, words: &[&str]) -> Vec<String> {
    let at = format!("@{at}");
    let options = ["+short", "+tries=1", "+time=1", &at, "-p", PORT];
    // One that answers nobody is one that answers nothing.
    let output = Command::new("dig").args(options).args(words).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect()
}

fn addresses(at: IpAddr) -> Vec<String> {
    dig(at, &["-t", "a", DOMAIN])
}

/// A name server at an address of its own, in the cluster of these.
fn start(others: &[&Replica]) -> Replica {
    let names = ["-n", DOMAIN, "--dns-port", PORT];
    let join = bootstrap(others);
    let boot = if others.is_empty() { vec![] } else { vec!["-b", &join] };
    Host::new().start(&[&names[..], &boot].concat())
}

fn three() -> [Replica; 3] {
    let first = start(&[]);
    let (second, third) = (start(&[&first]), start(&[&first]));
    [first, second, third]
}

/// Waits until that server gives these replicas; says how long it took.
fn gives(at: IpAddr, replicas: &[&Replica]) -> Duration {
    let mut expected: Vec<_> = replicas.iter().map(|it| it.address.ip().to_string()).collect();
    expected.sort();
    let started = Instant::now();
    until("the answers have changed", || {
        let mut given = addresses(at);
        given.sort();
        given == expected
    });
    started.elapsed()
}

/// The tutorial's commands for name servers, as they stand there.
fn tutorial() -> Vec<String> {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/tutorial.txt");
    let page = fs::read_to_string(page).unwrap();
    let (_, section) = page.split_once("\nMaster Name Server\n").unwrap();
    let (section, _) = section.split_once("\nAmazon Route53 Name Server\n").unwrap();
    let lines = section.lines().filter_map(|line| line.trim().strip_prefix("$ "));
    lines.map(|line| line.trim_start_matches("sudo ").to_owned()).collect()
}

#[test]
fn the_tutorials_queries_are_answered() {
    let commands = tutorial();
    let (replicas, queries): (Vec<_>, Vec<_>) =
        commands.iter().partition(|line| line.starts_with("concoord"));
    assert_eq!((replicas.len(), queries.len()), (2, 5), "{commands:?}");
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("resolv.conf"), "nameserver 127.0.0.1\n").unwrap();
    let mut script =
        "set -e\nip link set lo up\nmount --bind resolv.conf /etc/resolv.conf\n".to_owned();
    for (at, replica) in replicas.iter().enumerate() {
        script += &format!("mkfifo said{at}\n{replica} > said{at} & read line < said{at}\n");
    }
    // Of a view that the second one is part of, too.
    script += "until dig +short _concoord._tcp.counterdomain.com srv | grep -q 14001; do sleep 0.1; done\n";
    for query in &queries {
        script += &format!("echo '== {query}'\n{query}\n");
    }
    // A host of its own: its port 53 and its resolver are nobody else's, and its processes end
    // with it.
    let mut own = Command::new("unshare");
    own.args(["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    own.args(["--map-root-user", "timeout", "60", "sh", "-c", &script]);
    let programs = std::path::Path::new(env!("CARGO_BIN_EXE_concoord")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let said = run(own.env("PATH", path).env_remove("VIRTUAL_ENV").current_dir(&folder));

    let text = "\"NAMESERVER 127.0.0.1:14000;NAMESERVER 127.0.0.1:14001;\
                REPLICA 127.0.0.1:14000;REPLICA 127.0.0.1:14001\"";
    let expected = [
        &["A\t127.0.0.1"][..],
        &[
            "SRV\t0 100 14000 127-0-0-1.ipaddr.counterdomain.com.",
            "SRV\t10 100 14001 127-0-0-1.ipaddr.counterdomain.com.",
        ],
        &[text],
        &["NS\tns1.counterdomain.com.", "A\t127.0.0.1"],
        &[text],
    ];
    let answers: Vec<&str> = said.split("== ").skip(1).collect();
    assert_eq!(answers.len(), expected.len(), "{said}");
    for (answer, expected) in answers.iter().zip(expected) {
        assert!(
            answer.contains("status: NOERROR") && answer.contains("flags: qr aa rd"),
            "{answer}"
        );
        assert!(expected.iter().all(|record| answer.contains(record)), "{expected:?}: {answer}");
    }
}

#[test]
fn who_joins_leaves_and_dies_shows_in_the_answers_of_all() {
    let [first, second, mut third] = three();
    for replica in [&first, &second, &third] {
        gives(replica.address.ip(), &[&first, &second, &third]);
    }
    third.kill();
    let took = gives(first.address.ip(), &[&first, &second]);
    assert!(took < SHOWN, "a death took {took:?}");
    gives(second.address.ip(), &[&first, &second]);
    let serial = |at: IpAddr| dig(at, &["-t", "soa", DOMAIN]);
    until("one serial", || serial(first.address.ip()) == serial(second.address.ip()));

    let fourth = start(&[&first]);
    let took = gives(first.address.ip(), &[&first, &second, &fourth]);
    assert!(took < SHOWN, "a join took {took:?}");
    fourth.signal(Signal::TERM);
    let took = gives(first.address.ip(), &[&first, &second]);
    assert!(took < SHOWN, "a leave took {took:?}");
}

#[test]
fn the_leader_comes_first_and_has_a_name() {
    let replicas = three();
    let all: Vec<&Replica> = replicas.iter().collect();
    gives(replicas[0].address.ip(), &all);
    let leads = replicas[leader(&replicas)].address.ip().to_string();
    until("the leader is first", || addresses(replicas[1].address.ip())[0] == leads);
    let at = replicas[2].address.ip();
    assert_eq!(dig(at, &["-t", "a", "leader.counterdomain.com"]), [leads]);
    assert_eq!(dig(at, &["-t", "a", "counter.counterdomain.com"]).len(), 3);
    assert_eq!(dig(at, &["+tcp", "-t", "srv", DOMAIN]).len(), 3);
}

#[test]
fn a_name_server_without_a_quorum_answers_the_last_view_and_says_so() {
    let replicas = three();
    let all: Vec<&Replica> = replicas.iter().collect();
    let at = replicas[0].address;
    gives(at.ip(), &all);
    assert!(http::ask(at, &["GET /readyz"]).contains("name server of counterdomain.com"));
    replicas[1].signal(Signal::STOP);
    replicas[2].signal(Signal::STOP);
    until("it says so", || {
        let said = http::ask(at, &["GET /readyz"]);
        said.starts_with("HTTP/1.1 503") && said.contains("may be out of date: no quorum")
    });
    gives(at.ip(), &all);
}

#[test]
fn the_zone_is_one_that_bind_takes() {
    let [first, second, third] = three();
    gives(first.address.ip(), &[&first, &second, &third]);
    let zone = run(&mut concoord(&["dns", "zone", "-b", &first.address.to_string()]));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, &zone).unwrap();
    run(Command::new("named-checkzone").arg("-q").arg(DOMAIN).arg(file.path()));
    assert!(zone.contains(&format!("IN A {}", third.address.ip())), "{zone}");
}

#[test]
fn a_port_of_another_domains_name_server_is_not_shared() {
    let host = Host::new();
    let first = host.start(&["-n", DOMAIN, "--dns-port", PORT]);
    gives(first.address.ip(), &[&first]);
    let mut other = host.spawn(&["-n", "example.com", "--dns-port", PORT]);
    assert_eq!(other.ends(), 3);
    assert!(other.log().contains("another program has it"), "{}", other.log());
}

/// What systemd does: binds, and hands the sockets over as descriptors from 3 on.
const HAND_OVER: &str = "
import os, socket, sys
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
for s in (udp, tcp):
    s.bind((sys.argv[1], 5353))
tcp.listen()
for fd, s in ((13, udp), (14, tcp)):
    os.dup2(s.fileno(), fd)
udp.close(), tcp.close()
for fd in (3, 4):
    os.dup2(fd + 10, fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS='2')
os.execv(sys.argv[2], sys.argv[2:])
";

#[test]
fn a_port_that_takes_a_privilege_is_said_with_the_ways_out() {
    // On a host of its own, where only who is allowed to binds to port 53.
    let replica = "ip link set lo up && exec setpriv --bounding-set=-net_bind_service \"$0\" replica \
                   -o concoord.object.counter.Counter -a 127.0.0.1 -n counterdomain.com";
    let mut own = Command::new("unshare");
    own.args(["--net", "--map-root-user", "timeout", "20", "sh", "-c", replica]);
    let output = own.arg(env!("CARGO_BIN_EXE_concoord")).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.trim().lines().count(), 1, "{said}");
    for words in
        ["port 53 on 127.0.0.1", "not allowed", "sudo", "CAP_NET_BIND_SERVICE", "--dns-port"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    assert_eq!(output.status.code(), Some(3), "{said}");
}

#[test]
fn it_is_asked_by_ipv6_too() {
    let ip = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let names = ["-n", DOMAIN, "--dns-port", PORT];
    let _replica = Host::at(SocketAddr::new(ip, 14000), &names).serves();
    for way in ["+notcp", "+tcp"] {
        let asked = |kind| dig(ip, &[way, "-t", kind, DOMAIN]);
        until("it answers", || asked("aaaa") == ["::1"]);
        assert_eq!(asked("a"), [""; 0], "{way}");
        let services = dig(ip, &[way, "-t", "srv", &format!("_concoord._tcp.{DOMAIN}")]);
        assert_eq!(services, ["0 100 14000 0-0-0-0-0-0-0-1.ipaddr.counterdomain.com."], "{way}");
    }
}

#[test]
fn sockets_of_systemd_are_taken_and_it_hears_when_calls_are_served() {
    let folder = TempDir::new().unwrap();
    let notified = folder.path().join("notify");
    let notify = UnixDatagram::bind(&notified).unwrap();
    notify.set_read_timeout(Some(SOON)).unwrap();
    let ip = Host::new().ip;
    let text = ip.to_string();
    let program = env!("CARGO_BIN_EXE_concoord");
    let class = "concoord.object.counter.Counter";
    let options = ["replica", "-o", class, "-a", &text, "-p", "14000", "-n", DOMAIN];
    let mut python = Command::new("python3");
    python.args(["-c", HAND_OVER, &text, program]).args(options);
    python.env("NOTIFY_SOCKET", &notified);
    let mut child = python.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut said = [0; 64];
    let length = notify.recv(&mut said).unwrap();
    until("a view to answer from", || addresses(ip.into()) == [text.clone()]);
    let by_tcp = dig(ip.into(), &["+tcp", "-t", "a", DOMAIN]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!((&said[..length], by_tcp), (&b"READY=1"[..], vec![text]));
}

/// 10 000 packets that are no queries, or are odd ones, while calls go on.
#[test]
fn garbage_is_survived_without_growing() {
    let replica = start(&[]);
    let at = SocketAddr::new(replica.address.ip(), PORT.parse().unwrap());
    gives(at.ip(), &[&replica]);
    let socket = UdpSocket::bind((at.ip(), 0)).unwrap();
    let counter = client(&replica.address.to_string(), SOON);
    let mut state = 7_u32;
    let mut garbage = |count: usize| {
        for round in 0..count {
            let mut packet =
                b"\0\x01\0\0\0\x01\0\0\0\0\0\0\x0dcounterdomain\x03com\0\0\x01\0\x01".to_vec();
            for _ in 0..=round % 40 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = (state as usize >> 8) & 31;
                packet[at] = state.to_be_bytes()[0];
            }
            socket.send_to(&packet, at).unwrap();
        }
    };
    garbage(1000);
    counter.increment().unwrap();
    let before = replica.resident_mib_max();
    garbage(10_000);
    counter.increment().unwrap();
    gives(at.ip(), &[&replica]);
    let grown = replica.resident_mib_max() - before;
    assert!(grown <= 1, "{grown} MiB");
}
