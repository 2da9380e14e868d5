//! Hosts of their own, as network namespaces, and the cables and the switch between them.

use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// The host that clients are on: the namespace that this process is in.
pub(crate) const CLIENTS: u8 = 100;

/// What is wrong with the network.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trouble {
    /// Nothing passes from the first of these to the second.
    pub(crate) cut: Vec<(u8, u8)>,
    /// Of 100 frames, these are lost.
    pub(crate) loss: u64,
    /// How long a frame takes, at least and at most, in milliseconds.
    pub(crate) delay_ms: Option<(u64, u64)>,
}

impl Trouble {
    /// Nothing passes between these and those.
    pub(crate) fn between(these: &[u8], those: &[u8]) -> Self {
        let pairs = these.iter().flat_map(|one| those.iter().map(|other| (*one, *other)));
        let cut = pairs.flat_map(|(one, other)| [(one, other), (other, one)]).collect();
        Self { cut, ..Self::default() }
    }

    fn to_json(&self) -> String {
        let cut: Vec<_> = self.cut.iter().map(|(from, to)| [from, to]).collect();
        let delay = self.delay_ms.map(|(shortest, longest)| [shortest, longest]);
        serde_json::json!({ "cut": cut, "loss": self.loss, "delay": delay }).to_string()
    }
}

/// The switch, a process; it ends with this value.
pub(crate) struct Network {
    switch: Child,
    told: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

/// The address of a host.
pub(crate) fn address(host: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, host)
}

/// The name of a host's namespace, as `ip netns` knows it.
pub(crate) fn namespace(host: u8) -> String {
    format!("host{host}")
}

impl Network {
    /// Hosts 1 to that many, and that of the clients.
    pub(crate) fn new(python: &str, hosts: u8) -> Self {
        ip("link set lo up");
        let mut cables = Vec::new();
        for host in (1..=hosts).chain([CLIENTS]) {
            let cable = format!("cable{host}");
            let namespace = namespace(host);
            if host == CLIENTS {
                ip(&format!("link add {cable} type veth peer name eth0"));
            } else {
                ip(&format!("netns add {namespace}"));
                ip(&format!("link add {cable} type veth peer name eth0 netns {namespace}"));
            }
            ip(&format!("link set {cable} up addrgenmode none"));
            let inside = if host == CLIENTS { String::new() } else { format!("-n {namespace} ") };
            ip(&format!("{inside}link set lo up"));
            let hardware = format!("address 02:00:00:00:00:{host:02x}");
            ip(&format!("{inside}link set eth0 up addrgenmode none {hardware}"));
            ip(&format!("{inside}addr add {}/24 dev eth0", address(host)));
            cables.push(cable);
        }
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/torture/switch.py");
        let mut switch = Command::new(python)
            .arg(script)
            .args(cables)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let told = switch.stdin.take();
        let answers = BufReader::new(switch.stdout.take().expect("it is piped"));
        let mut network = Self { switch, told, answers };
        network.heal();
        network
    }

    /// From now on this is what is wrong, and nothing else.
    pub(crate) fn suffer(&mut self, trouble: &Trouble) {
        let told = self.told.as_mut().expect("it is open until the end");
        writeln!(told, "{}", trouble.to_json()).expect("the switch listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the switch answers");
        assert_eq!(answer, "told\n", "the switch does as it is told");
    }

    pub(crate) fn heal(&mut self) {
        self.suffer(&Trouble::default());
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        drop(self.told.take());
        self.switch.wait().map(drop).unwrap_or_default();
    }
}

fn ip(arguments: &str) {
    run("ip", &arguments.split(' ').collect::<Vec<_>>());
}

/// Runs a tool that must succeed.
pub(crate) fn run(tool: &str, arguments: &[&str]) {
    let output = Command::new(tool).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{tool}: {error}; is it installed?"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {}: {said}", arguments.join(" "));
}
