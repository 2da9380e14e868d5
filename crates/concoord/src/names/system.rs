//! What this host says of names: `/etc/hosts` and `/etc/resolv.conf`.

use std::cell::Cell;
use std::fs::File;
use std::io::Read;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::Path;
use std::time::Duration;

use super::message::Name;

/// Where a DNS server listens.
pub(crate) const DNS_PORT: u16 = 53;

/// Bytes of either file that are read: blocklists are kept in `/etc/hosts`.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Servers that are asked, as in the C library.
const SERVERS_MAX: usize = 3;

/// Domains that a name is looked for in, as in the C library of old.
const SEARCH_MAX: usize = 6;

/// How long an answer is awaited at most, whatever `/etc/resolv.conf` says: the next server may
/// know it. The second attempt waits twice as long.
const PATIENCE: Duration = Duration::from_secs(1);

/// How names are looked up here and now.
#[derive(Clone, Debug)]
pub(super) struct System {
    /// Names of `/etc/hosts`.
    pub(super) hosts: Vec<(IpAddr, Vec<String>)>,
    pub(super) servers: Vec<SocketAddr>,
    pub(super) search: Vec<Name>,
    /// A name with so many dots is tried as it is before it is looked for in `search`.
    pub(super) ndots: usize,
    pub(super) attempts: u32,
    /// How long the first attempt waits.
    pub(super) patience: Duration,
    /// Whether the C library is asked for addresses: it knows of sources other than the DNS.
    pub(super) asks_libc: bool,
    /// Which of the servers answered last: it is asked first, so that one which is dead costs its
    /// patience once.
    pub(super) answered: Cell<usize>,
}

impl System {
    /// As the host has it, or with these servers instead.
    pub(super) fn read(servers: &[SocketAddr]) -> Self {
        let hosts = hosts(&text(Path::new("/etc/hosts")));
        if servers.is_empty() {
            return Self { hosts, ..Self::of_resolv_conf(&text(Path::new("/etc/resolv.conf"))) };
        }
        Self { hosts, ..Self::of_servers(servers.to_vec()) }
    }

    /// With these servers, and nothing else.
    pub(super) fn of_servers(servers: Vec<SocketAddr>) -> Self {
        Self {
            hosts: Vec::new(),
            servers,
            search: Vec::new(),
            ndots: 1,
            attempts: 2,
            patience: PATIENCE,
            asks_libc: false,
            answered: Cell::new(0),
        }
    }

    pub(super) fn of_resolv_conf(text: &str) -> Self {
        // A line that nobody understands is passed over, as the C library does.
        let (config, _) = resolv_conf::Config::parse_with_errors(text.as_bytes());
        let mut servers: Vec<_> =
            config.nameservers.iter().take(SERVERS_MAX).map(server_at).collect();
        if servers.is_empty() {
            servers.push(SocketAddr::from(([127, 0, 0, 1], DNS_PORT)));
        }
        let search = config.get_last_search_or_domain().filter_map(|name| Name::parse(name));
        Self {
            search: search.take(SEARCH_MAX).collect(),
            ndots: usize::try_from(config.ndots).unwrap_or(1),
            attempts: config.attempts.clamp(1, 3),
            patience: Duration::from_secs(config.timeout.into()).clamp(PATIENCE / 2, PATIENCE),
            asks_libc: true,
            ..Self::of_servers(servers)
        }
    }

    /// The names that this one may stand for, in the order in which they are tried.
    pub(super) fn candidates(&self, text: &str) -> Vec<Name> {
        let Some(name) = Name::parse(text) else { return Vec::new() };
        if text.ends_with('.') {
            return vec![name];
        }
        let mut all: Vec<_> = self.search.iter().filter_map(|domain| name.within(domain)).collect();
        let at = if name.dots() >= self.ndots { 0 } else { all.len() };
        all.insert(at, name);
        all
    }

    /// The addresses of that name in `/etc/hosts`.
    pub(super) fn hosted(&self, name: &str) -> Vec<IpAddr> {
        let name = name.strip_suffix('.').unwrap_or(name);
        let is_it =
            |names: &Vec<String>| names.iter().any(|known| known.eq_ignore_ascii_case(name));
        self.hosts.iter().filter(|(_, names)| is_it(names)).map(|(ip, _)| *ip).collect()
    }
}

/// Where that server listens. An address of a link takes the number of its interface.
fn server_at(ip: &resolv_conf::ScopedIp) -> SocketAddr {
    let resolv_conf::ScopedIp::V6(ip, Some(scope)) = ip else {
        return SocketAddr::new(ip.into(), DNS_PORT);
    };
    let scope = scope.parse().ok().or_else(|| {
        let number = text(&Path::new("/sys/class/net").join(scope).join("ifindex"));
        number.trim().parse().ok()
    });
    SocketAddrV6::new(*ip, DNS_PORT, 0, scope.unwrap_or(0)).into()
}

/// The lines of `/etc/hosts`.
pub(super) fn hosts(text: &str) -> Vec<(IpAddr, Vec<String>)> {
    let line = |line: &str| {
        let mut words = line.split('#').next()?.split_whitespace();
        let ip = words.next()?.parse().ok()?;
        Some((ip, words.map(str::to_owned).collect()))
    };
    text.lines().filter_map(line).collect()
}

/// What is in the file, if it can be read: a host may have none.
fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes));
    read.map_or_else(|_| String::new(), |_| String::from_utf8_lossy(&bytes).into_owned())
}
