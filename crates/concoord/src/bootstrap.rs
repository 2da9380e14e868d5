//! Where to find a cluster at first: `"name, host:port, …"`, and `?dns=` behind it.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crate::Error;
use crate::names::{self, DNS_PORT, Name};

/// The port of an address that names none.
pub(crate) const PORT: u16 = 14000;

/// Places that may be given: twice as many as a cluster has members.
const PLACES_MAX: usize = 64;

/// DNS servers that may be given.
const SERVERS_MAX: usize = 8;

/// The environment variable that names DNS servers, where the bootstrap does not.
const SERVERS_VARIABLE: &str = "CONCOORD_DNS";

/// Where replicas are: addresses, and names that are looked up when they are needed. Made of
/// `"name, host:port, …"` by [`str::parse`]; [`Client::connect`](crate::Client::connect) says what
/// that may be.
///
/// ```
/// # fn main() -> Result<(), concoord::Error> {
/// let bootstrap: concoord::Bootstrap = "counterdomain.com, 127.0.0.1:14001".parse()?;
/// assert!(bootstrap.has_names());
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bootstrap {
    pub(crate) places: Vec<Place>,
    /// The DNS servers to ask; none for those of this host.
    pub(crate) servers: Vec<SocketAddr>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Address(SocketAddr),
    /// Without a port it may stand for any number of replicas, each with its own.
    Name {
        host: String,
        port: Option<u16>,
    },
}

impl Place {
    pub(crate) const fn is_name(&self) -> bool {
        matches!(self, Self::Name { .. })
    }
}

impl Bootstrap {
    fn parse_with(text: &str, variable: Option<&str>) -> Result<Self, Error> {
        let (text, options) = text.split_once('?').map_or((text, None), |(a, b)| (a, Some(b)));
        if text.trim().is_empty() {
            return Err(Error::Bootstrap("no address is given".into()));
        }
        let parts = text.split(',').map(|part| parse_place(part.trim()));
        let places = parts.collect::<Result<Vec<_>, _>>()?;
        if places.len() > PLACES_MAX {
            let what = format!("{} places are given, {PLACES_MAX} is the most", places.len());
            return Err(Error::Bootstrap(what));
        }
        let servers = match (options, variable) {
            (Some(options), _) => parse_options(options)?,
            (None, Some(list)) if !list.trim().is_empty() => parse_servers(SERVERS_VARIABLE, list)?,
            (None, _) => Vec::new(),
        };
        Ok(Self { places, servers })
    }

    /// Whether anything is to be looked up.
    #[must_use]
    pub fn has_names(&self) -> bool {
        self.places.iter().any(Place::is_name)
    }

    /// The addresses that are known without a look-up.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.in_order(&[])
    }

    /// All addresses of replicas, each name looked up once, all at the same time.
    ///
    /// # Errors
    /// [`Error::Unreachable`] where there is none, or none was found within `timeout`.
    pub fn look_up(&self, timeout: Duration) -> Result<Vec<SocketAddr>, Error> {
        names::look_up(self, timeout)
    }

    /// The names among the places, as they were given, with a number each.
    pub(crate) fn names(&self) -> impl Iterator<Item = (usize, String)> {
        let name = |place: &Place| match place {
            Place::Name { host, port: Some(port) } => Some(format!("{host}:{port}")),
            Place::Name { host, port: None } => Some(host.clone()),
            Place::Address(_) => None,
        };
        self.places.iter().filter_map(name).enumerate()
    }

    /// What is to be said of a name while its look-up goes on.
    pub(crate) fn awaited(&self) -> String {
        let servers: Vec<_> = self.servers.iter().map(ToString::to_string).collect();
        let servers = servers.join(", ");
        let who = if servers.is_empty() { "the DNS servers of this host" } else { &servers };
        format!("no answer yet from {who}")
    }

    /// All addresses in the order in which they were given, where the `nth` name stands for
    /// `found[nth]`; each once.
    pub(crate) fn in_order(&self, found: &[Vec<SocketAddr>]) -> Vec<SocketAddr> {
        let mut found = found.iter();
        let mut seen = BTreeSet::new();
        let all = self.places.iter().flat_map(|place| match place {
            Place::Address(address) => vec![*address],
            Place::Name { .. } => found.next().cloned().unwrap_or_default(),
        });
        all.filter(|address| seen.insert(*address)).collect()
    }
}

impl FromStr for Bootstrap {
    type Err = Error;

    /// Reads what was given, and the environment.
    fn from_str(text: &str) -> Result<Self, Error> {
        Self::parse_with(text, std::env::var(SERVERS_VARIABLE).ok().as_deref())
    }
}

fn parse_place(text: &str) -> Result<Place, Error> {
    let wrong = |what: &str| Error::Bootstrap(format!("'{text}' {what}"));
    // An IPv6 address is full of colons: with a port it stands in brackets.
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Place::Address((ip, PORT).into()));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            let port = port.parse::<u16>().ok().filter(|port| *port > 0);
            (host, Some(port.ok_or_else(|| wrong("has no port from 1 to 65535"))?))
        }
        _ => (text, None),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Ok(ip) = bare.parse::<IpAddr>() {
        return Ok(Place::Address((ip, port.unwrap_or(PORT)).into()));
    }
    if !bare.is_ascii() {
        return Err(wrong("is not ASCII: write the name as the DNS has it, xn--…"));
    }
    if bare.contains([':', '[', ']', '/', '@']) || Name::parse(bare).is_none() {
        return Err(wrong("is no address"));
    }
    Ok(Place::Name { host: bare.to_owned(), port })
}

fn parse_options(text: &str) -> Result<Vec<SocketAddr>, Error> {
    match text.split_once('=') {
        Some(("dns", list)) => parse_servers("?dns=", list),
        Some(_) | None => {
            Err(Error::Bootstrap(format!("'?{text}' is no option: there is ?dns=ADDRESS:PORT")))
        }
    }
}

/// The DNS servers of a list; they are addresses, since no name could be looked up without them.
fn parse_servers(source: &str, list: &str) -> Result<Vec<SocketAddr>, Error> {
    let server = |text: &str| match text.parse() {
        Ok(address) => Some(address),
        Err(_) => {
            let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
            bare.unwrap_or(text).parse::<IpAddr>().ok().map(|ip| (ip, DNS_PORT).into())
        }
    };
    let servers: Option<Vec<SocketAddr>> =
        list.split(',').map(|part| server(part.trim())).collect();
    let is_one = |server: &SocketAddr| server.port() > 0;
    servers.filter(|all| all.len() <= SERVERS_MAX && all.iter().all(is_one)).ok_or_else(|| {
        let what = "names no DNS server: write its address, as 127.0.0.1:5353";
        Error::Bootstrap(format!("{source} '{list}' {what}, or up to {SERVERS_MAX} with commas"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<Place> {
        let parsed = Bootstrap::parse_with(text, None);
        parsed.unwrap_or_else(|error| panic!("{text}: {error}")).places
    }

    fn address(text: &str) -> Place {
        Place::Address(text.parse().unwrap())
    }

    fn name(host: &str, port: Option<u16>) -> Place {
        Place::Name { host: host.into(), port }
    }

    #[test]
    fn places_are_separated_by_commas_and_blanks() {
        let expected = vec![address("127.0.0.1:14000"), name("example.org", Some(14001))];
        assert_eq!(parsed("127.0.0.1:14000, example.org:14001"), expected);
        assert_eq!(parsed(" 127.0.0.1 ,example.org:14001 "), expected);
        assert_eq!(parsed("counterdomain.com"), [name("counterdomain.com", None)]);
        assert_eq!(parsed("counter_1.example."), [name("counter_1.example.", None)]);
    }

    #[test]
    fn ipv6_takes_brackets_where_a_port_follows() {
        assert_eq!(parsed("[::1]:14002"), [address("[::1]:14002")]);
        assert_eq!(parsed("::1"), [address("[::1]:14000")]);
        assert_eq!(parsed("[::1]"), [address("[::1]:14000")]);
    }

    #[test]
    fn dns_servers_stand_behind_or_in_the_environment() {
        let servers = |text, variable| {
            let servers = Bootstrap::parse_with(text, variable).unwrap().servers;
            servers.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(servers("a, b:1?dns=127.0.0.1:5353", None), ["127.0.0.1:5353"]);
        assert_eq!(servers("a?dns=[::1]:5353, 10.0.0.1", None), ["[::1]:5353", "10.0.0.1:53"]);
        assert_eq!(servers("a", Some("::1")), ["[::1]:53"]);
        assert_eq!(servers("a?dns=10.0.0.2", Some("::1")), ["10.0.0.2:53"], "it comes first");
        assert_eq!(servers("a", Some("")), [""; 0]);
    }

    #[test]
    fn addresses_keep_the_order_in_which_they_were_given() {
        let bootstrap = Bootstrap::parse_with("a, 10.0.0.1, b", None).unwrap();
        let to = |ports: &[u16]| {
            let to = |port: &u16| SocketAddr::from(([10, 0, 0, 1], *port));
            ports.iter().map(to).collect::<Vec<_>>()
        };
        assert_eq!(bootstrap.in_order(&[]), to(&[14000]));
        assert_eq!(bootstrap.in_order(&[to(&[2, 1]), to(&[3, 2])]), to(&[2, 1, 14000, 3]));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let many = vec!["a"; 65].join(",");
        for (text, part) in [
            ("", "no address"),
            ("?dns=127.0.0.1", "no address"),
            ("a:1,,b:2", "'' is no address"),
            ("a:port", "'a:port' has no port"),
            ("a:0", "'a:0' has no port"),
            ("a:70000", "'a:70000' has no port"),
            ("http://a:1", "is no address"),
            ("1:2:3", "is no address"),
            (":14000", "is no address"),
            ("a..b", "is no address"),
            ("a b", "is no address"),
            ("zähler.example", "is not ASCII"),
            (&many, "64 is the most"),
            ("a?dns=here", "?dns= 'here' names no DNS server"),
            ("a?dns=", "names no DNS server"),
            ("a?dns=127.0.0.1:0", "names no DNS server"),
            ("a?port=1", "'?port=1' is no option"),
        ] {
            let error = Bootstrap::parse_with(text, None).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let error = Bootstrap::parse_with("a", Some("here")).unwrap_err().to_string();
        assert!(error.contains("CONCOORD_DNS 'here' names no DNS server"), "{error}");
    }
}
