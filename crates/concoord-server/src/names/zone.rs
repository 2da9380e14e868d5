//! What a name server says of a cluster: a zone, made of a view and of nothing else. Pure.
//!
//! Of a domain `d`:
//!
//! | name | type | |
//! | --- | --- | --- |
//! | `d` | A, AAAA | the replicas that serve, the leader first |
//! | `d`, `_concoord._tcp.d` | SRV | the same with their ports; the leader has priority 0 |
//! | `….ipaddr.d` | A, AAAA | the names that SRV has to give instead of addresses |
//! | `d` | TXT | all nodes, as `NAMESERVER address:port;REPLICA address:port` |
//! | `d` | NS, SOA | the replicas that answer for `d`; the serial is the view's number |
//! | `nsN.d` | A, AAAA | those, in order of their addresses |
//! | `leader.d` | A, AAAA | who leads |
//! | `counter.d` | A, AAAA | the replicas of the object, by the name of its class |

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use concoord_core::view::{Member, ReplicaId, Role, View};

/// Seconds that the records of name servers are kept: they change less than replicas do.
const NS_TTL: u32 = 300;

/// Seconds that resolvers remember that something is not there.
const NEGATIVE_TTL: u32 = 5;

/// Bytes of a character string (RFC 1035, section 3.3).
const STRING_BYTES_MAX: usize = 255;

/// The service that replicas are, as the first two labels of its SRV records.
const SERVICE: &str = "_concoord._tcp";

/// A domain's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Zone {
    /// Lower-case, without a dot at its end, as all names here.
    pub(crate) domain: String,
    /// Seconds that resolvers may keep what changes with the view.
    pub(crate) ttl: u32,
    /// The view's number.
    pub(crate) serial: u32,
    /// In order of names, then of types. Records of one name and type are in the order in which
    /// they are best tried.
    pub(crate) records: Vec<Record>,
    /// Names without records of their own, between the domain and names that have some.
    empty: BTreeSet<String>,
}

/// A record of class IN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) name: String,
    /// Seconds.
    pub(crate) ttl: u32,
    pub(crate) data: Data,
}

/// What a record says, by RFC 1035 and 2782.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Data {
    A(Ipv4Addr),
    Aaaa(Ipv6Addr),
    Ns(String),
    Soa { primary: String, contact: String, serial: u32, times: [u32; 4] },
    Srv { priority: u16, weight: u16, port: u16, target: String },
    Txt(Vec<String>),
}

impl Data {
    /// The number of its type.
    pub(crate) const fn kind(&self) -> u16 {
        match self {
            Self::A(_) => 1,
            Self::Ns(_) => 2,
            Self::Soa { .. } => 6,
            Self::Txt(_) => 16,
            Self::Aaaa(_) => 28,
            Self::Srv { .. } => 33,
        }
    }

    /// The name that whoever reads this asks for next.
    pub(crate) fn target(&self) -> Option<&str> {
        match self {
            Self::Ns(target) | Self::Srv { target, .. } => Some(target),
            Self::A(_) | Self::Aaaa(_) | Self::Soa { .. } | Self::Txt(_) => None,
        }
    }
}

/// What a zone has of a name and type.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    Records(&'a [Record]),
    /// The name is there, with other types.
    NoData,
    NoName,
    /// It is no name of this domain.
    Outside,
}

impl Zone {
    /// The zone of a view in which `leader` leads and which hosts objects of these classes. `None`
    /// if nobody serves: the zone of the last view that somebody served in is the best there is.
    pub(crate) fn new(
        view: &View,
        leader: Option<ReplicaId>,
        classes: &[&str],
        domain: &str,
        ttl: u32,
    ) -> Option<Self> {
        let mut serving: Vec<&Member> = view.voters().filter(|member| !member.witness).collect();
        serving.sort_by_key(|member| (Some(member.id) != leader, member.address));
        if serving.is_empty() {
            return None;
        }
        let is_server = |member: &&Member| member.domain.as_deref() == Some(domain);
        let mut servers: Vec<&Member> =
            view.members.iter().map(|(member, _): &(Member, Role)| member).collect();
        servers.retain(is_server);
        if servers.is_empty() {
            // A zone has name servers. A replica that has just been given a domain is none in its
            // view yet.
            servers.clone_from(&serving);
        }
        servers.sort_by_key(|member| member.address);

        #[expect(clippy::cast_possible_truncation, reason = "serials go round (RFC 1982)")]
        let serial = view.number as u32;
        let mut zone = Self {
            domain: domain.into(),
            ttl,
            serial,
            records: Vec::new(),
            empty: BTreeSet::new(),
        };
        zone.add_servers(&servers);
        zone.add_replicas(&serving, leader);
        zone.add(domain, ttl, Data::Txt(strings(&nodes(&servers, &serving))));
        zone.sort();
        for label in classes.iter().filter_map(|class| label(class)) {
            let name = format!("{label}.{domain}");
            if zone.all_of(&name).is_empty() {
                zone.add_addresses(&name, ttl, serving.iter().map(|member| member.address.ip()));
                zone.sort();
            }
        }
        zone.sort();
        zone.find_empty();
        Some(zone)
    }

    fn add(&mut self, name: &str, ttl: u32, data: Data) {
        let record = Record { name: name.into(), ttl, data };
        if !self.records.contains(&record) {
            self.records.push(record);
        }
    }

    fn add_addresses(&mut self, name: &str, ttl: u32, ips: impl Iterator<Item = IpAddr>) {
        for ip in ips {
            let data = match ip.to_canonical() {
                IpAddr::V4(ip) => Data::A(ip),
                IpAddr::V6(ip) => Data::Aaaa(ip),
            };
            self.add(name, ttl, data);
        }
    }

    fn add_servers(&mut self, servers: &[&Member]) {
        let domain = self.domain.clone();
        let (primary, contact) = (format!("ns1.{domain}"), format!("hostmaster.{domain}"));
        // Refresh, retry and expiry are for servers that copy zones, which ours never let.
        let times = [60, 10, 86_400, NEGATIVE_TTL];
        let soa = Data::Soa { primary, contact, serial: self.serial, times };
        self.add(&domain, NEGATIVE_TTL, soa);
        let mut ips: Vec<IpAddr> = servers.iter().map(|member| member.address.ip()).collect();
        ips.dedup();
        for (at, ip) in ips.into_iter().enumerate() {
            let name = format!("ns{}.{domain}", at + 1);
            self.add(&domain, NS_TTL, Data::Ns(name.clone()));
            self.add_addresses(&name, NS_TTL, [ip].into_iter());
        }
    }

    fn add_replicas(&mut self, serving: &[&Member], leader: Option<ReplicaId>) {
        let (domain, ttl) = (self.domain.clone(), self.ttl);
        self.add_addresses(&domain, ttl, serving.iter().map(|member| member.address.ip()));
        let leads = |member: &&&Member| Some(member.id) == leader;
        let leaders = serving.iter().filter(leads).map(|member| member.address.ip());
        self.add_addresses(&format!("leader.{domain}"), ttl, leaders);
        for member in serving {
            let ip = member.address.ip().to_canonical();
            let targets = targets(ip).map(|label| format!("{label}.ipaddr.{domain}"));
            for target in &targets {
                self.add_addresses(target, ttl, [ip].into_iter());
            }
            let [target, _] = targets;
            let priority = if Some(member.id) == leader { 0 } else { 10 };
            let port = member.address.port();
            let service = Data::Srv { priority, weight: 100, port, target };
            self.add(&domain, ttl, service.clone());
            self.add(&format!("{SERVICE}.{domain}"), ttl, service);
        }
    }

    fn sort(&mut self) {
        self.records
            .sort_by(|one, two| (&one.name, one.data.kind()).cmp(&(&two.name, two.data.kind())));
    }

    fn find_empty(&mut self) {
        let mut empty = BTreeSet::new();
        for Record { name, .. } in &self.records {
            let mut name = name.as_str();
            while name != self.domain
                && let Some((_, rest)) = name.split_once('.')
            {
                empty.insert(rest.to_owned());
                name = rest;
            }
        }
        empty.retain(|name| self.all_of(name).is_empty());
        self.empty = empty;
    }

    /// All records of that name.
    pub(crate) fn all_of(&self, name: &str) -> &[Record] {
        let from = self.records.partition_point(|record| *record.name < *name);
        let rest = self.records.get(from..).unwrap_or_default();
        let count = rest.partition_point(|record| record.name == name);
        rest.get(..count).unwrap_or_default()
    }

    /// What it has of that name, which is in lower case, and that type.
    pub(crate) fn find(&self, name: &str, kind: u16) -> Found<'_> {
        let all = self.all_of(name);
        let from = all.partition_point(|record| record.data.kind() < kind);
        let rest = all.get(from..).unwrap_or_default();
        let count = rest.partition_point(|record| record.data.kind() == kind);
        match rest.get(..count) {
            Some(records) if !records.is_empty() => Found::Records(records),
            _ if !all.is_empty() || self.empty.contains(name) => Found::NoData,
            _ if self.holds(name) => Found::NoName,
            _ => Found::Outside,
        }
    }

    /// Whether that is a name of this domain, if there is one.
    fn holds(&self, name: &str) -> bool {
        let rest = name.strip_suffix(&*self.domain);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }

    /// The record that says how long nothing is remembered.
    pub(crate) fn soa(&self) -> &[Record] {
        match self.find(&self.domain, 6) {
            Found::Records(records) => records,
            Found::NoData | Found::NoName | Found::Outside => &[],
        }
    }

    /// Addresses of what these records name, each once.
    pub(crate) fn addresses_for(&self, records: &[Record]) -> Vec<&Record> {
        let mut names: Vec<&str> = Vec::new();
        for target in records.iter().filter_map(|record| record.data.target()) {
            if !names.contains(&target) {
                names.push(target);
            }
        }
        let is_address = |record: &&Record| matches!(record.data, Data::A(_) | Data::Aaaa(_));
        names.into_iter().flat_map(|name| self.all_of(name)).filter(is_address).collect()
    }
}

/// Labels for an address, since SRV gives names alone: the one that we give, and the one that the
/// ConCoord of 2012 gave.
fn targets(ip: IpAddr) -> [String; 2] {
    match ip {
        IpAddr::V4(ip) => [ip.to_string().replace('.', "-"), ip.to_string()],
        IpAddr::V6(ip) => {
            let parts: Vec<String> = ip.segments().map(|part| format!("{part:x}")).to_vec();
            [parts.join("-"), parts.join(".")]
        }
    }
}

/// The label of a class: its own name as host names are written.
fn label(class: &str) -> Option<String> {
    let name = class.rsplit('.').next()?.to_ascii_lowercase().replace('_', "-");
    let label = name.trim_matches('-');
    let fits = (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    fits.then(|| label.to_owned())
}

/// All nodes, as the ConCoord of 2012 wrote them.
fn nodes(servers: &[&Member], serving: &[&Member]) -> String {
    let place = |kind: &str, address: SocketAddr| format!("{kind} {address}");
    let servers = servers.iter().filter(|member| member.domain.is_some());
    let servers = servers.map(|member| place("NAMESERVER", member.address));
    let replicas = serving.iter().map(|member| place("REPLICA", member.address));
    servers.chain(replicas).collect::<Vec<_>>().join(";")
}

/// A text in as many strings as it takes. It is ASCII.
fn strings(text: &str) -> Vec<String> {
    let chunks = text.as_bytes().chunks(STRING_BYTES_MAX);
    chunks.map(|chunk| String::from_utf8_lossy(chunk).into_owned()).collect()
}

/// As a zone file (RFC 1035, section 5).
impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "$ORIGIN {}.\n$TTL {}", self.domain, self.ttl)?;
        // It is to begin with the SOA.
        let others = self.records.iter().filter(|record| record.data.kind() != 6);
        self.soa().iter().chain(others).try_for_each(|record| writeln!(f, "{record}"))
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, ttl, data } = self;
        write!(f, "{name}. {ttl} IN ")?;
        match data {
            Data::A(ip) => write!(f, "A {ip}"),
            Data::Aaaa(ip) => write!(f, "AAAA {ip}"),
            Data::Ns(target) => write!(f, "NS {target}."),
            Data::Soa { primary, contact, serial, times: [refresh, retry, expire, minimum] } => {
                write!(f, "SOA {primary}. {contact}. {serial} {refresh} {retry} {expire} {minimum}")
            }
            Data::Srv { priority, weight, port, target } => {
                write!(f, "SRV {priority} {weight} {port} {target}.")
            }
            Data::Txt(strings) => {
                let quoted: Vec<_> = strings.iter().map(|string| format!("\"{string}\"")).collect();
                write!(f, "TXT {}", quoted.join(" "))
            }
        }
    }
}

#[cfg(test)]
mod tests;
