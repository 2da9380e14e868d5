//! Where to find a cluster at first: `"host:port, host:port"`.

use std::net::IpAddr;

use crate::Error;

/// The port of an address that names none.
const PORT: u16 = 14000;

/// Hosts and ports, not looked up yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bootstrap(pub(crate) Vec<(String, u16)>);

impl Bootstrap {
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if text.trim().is_empty() {
            return Err(Error::Bootstrap("no address is given".into()));
        }
        text.split(',').map(|part| parse_address(part.trim())).collect::<Result<_, _>>().map(Self)
    }
}

fn parse_address(text: &str) -> Result<(String, u16), Error> {
    let wrong = |what: &str| Error::Bootstrap(format!("'{text}' {what}"));
    // An IPv6 address is full of colons: with a port it stands in brackets.
    if text.parse::<IpAddr>().is_ok() {
        return Ok((text.to_owned(), PORT));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
            let port = port.parse::<u16>().ok().filter(|port| *port > 0);
            (host, port.ok_or_else(|| wrong("has no port from 1 to 65535"))?)
        }
        _ => (text, PORT),
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_name =
        !bare.is_empty() && !bare.contains(|c: char| c.is_whitespace() || "[]/@".contains(c));
    if !is_name || (bare.contains(':') && bare.parse::<IpAddr>().is_err()) {
        return Err(wrong("is no address"));
    }
    Ok((bare.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<(String, u16)> {
        Bootstrap::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).0
    }

    #[test]
    fn addresses_are_separated_by_commas_and_blanks() {
        let expected = vec![("127.0.0.1".to_owned(), 14000), ("example.org".to_owned(), 14001)];
        assert_eq!(parsed("127.0.0.1:14000, example.org:14001"), expected);
        assert_eq!(parsed(" 127.0.0.1 ,example.org:14001 "), expected);
    }

    #[test]
    fn ipv6_takes_brackets_where_a_port_follows() {
        assert_eq!(parsed("[::1]:14002"), [("::1".to_owned(), 14002)]);
        assert_eq!(parsed("::1"), [("::1".to_owned(), 14000)]);
        assert_eq!(parsed("[::1]"), [("::1".to_owned(), 14000)]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("", "no address"),
            ("a:1,,b:2", "'' is no address"),
            ("a:port", "'a:port' has no port"),
            ("a:0", "'a:0' has no port"),
            ("a:70000", "'a:70000' has no port"),
            ("http://a:1", "is no address"),
            ("1:2:3", "is no address"),
            (":14000", "is no address"),
        ] {
            let error = Bootstrap::parse(text).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
