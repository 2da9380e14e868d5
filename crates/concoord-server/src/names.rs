//! How clients find replicas by name: what follows the view, besides the replica itself.

use std::io;

use concoord_core::wire::Status;

use crate::config::ReplicaConfig;

#[cfg(feature = "dns")]
pub(crate) mod dns;
#[cfg(feature = "route53")]
pub(crate) mod route53;
#[cfg(any(feature = "dns", feature = "route53"))]
#[cfg_attr(
    not(feature = "dns"),
    expect(dead_code, reason = "Route 53 takes the records, and needs no answers made of them")
)]
pub(crate) mod zone;

/// What keeps names as the replica is.
trait Follower {
    /// Learns how the replica is. Never waits. The status needs no digest.
    fn follow(&self, status: &Status);

    /// How it is, as a sentence for people; empty if there is nothing to say.
    fn state(&self) -> String;
}

#[cfg(feature = "dns")]
impl Follower for dns::NameServer {
    fn follow(&self, status: &Status) {
        self.follow(status);
    }

    fn state(&self) -> String {
        self.state()
    }
}

#[cfg(feature = "route53")]
impl Follower for route53::Keeper {
    fn follow(&self, status: &Status) {
        self.follow(status);
    }

    fn state(&self) -> String {
        self.state()
    }
}

/// All that a replica keeps of names, whichever incarnation of it.
#[derive(Default)]
pub(crate) struct Names {
    /// The domain that the replica answers DNS queries for, for its peers to know.
    pub(crate) domain: Option<String>,
    followers: Vec<Box<dyn Follower>>,
}

impl Names {
    /// Takes from the configuration what is for the names.
    #[cfg_attr(
        not(any(feature = "dns", feature = "route53")),
        expect(
            unused_variables,
            unused_mut,
            clippy::unnecessary_wraps,
            reason = "nothing follows"
        )
    )]
    pub(crate) fn start(config: &mut ReplicaConfig) -> io::Result<Self> {
        let mut names = Self::default();
        #[cfg(feature = "dns")]
        if let Some(spec) = config.dns.take() {
            names.domain = Some(spec.domain.clone());
            names.followers.push(Box::new(dns::NameServer::start(spec)?));
        }
        #[cfg(feature = "route53")]
        if let Some(spec) = &config.route53 {
            names.followers.push(Box::new(route53::Keeper::start(spec)?));
        }
        Ok(names)
    }

    /// Has them follow how the replica is. Called now and again.
    pub(crate) fn follow(&self, status: impl FnOnce() -> Status) {
        if !self.followers.is_empty() {
            let status = status();
            self.followers.iter().for_each(|follower| follower.follow(&status));
        }
    }

    /// How they are, as a sentence for people; empty if there is nothing to say.
    pub(crate) fn state(&self) -> String {
        let mut states: Vec<String> =
            self.followers.iter().map(|follower| follower.state()).collect();
        states.retain(|state| !state.is_empty());
        states.join("; ")
    }
}

/// A domain as we write it: lower-case, without a dot at its end.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn domain(text: &str) -> Result<String, String> {
    let domain = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    if !domain.is_ascii() {
        return Err("write it in ASCII, as xn--…".into());
    }
    let fits = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    // With the longest of the names below it, 253 bytes are what DNS has.
    if domain.len() > DOMAIN_BYTES_MAX || !domain.split('.').all(fits) {
        return Err("write a domain, as counterdomain.com".into());
    }
    Ok(domain)
}

/// Bytes of a domain, so that `ffff-ffff-…-ffff.ipaddr.` has room before it.
const DOMAIN_BYTES_MAX: usize = 253 - 47;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_written_in_one_way() {
        assert_eq!(domain("CounterDomain.COM.").unwrap(), "counterdomain.com");
        assert_eq!(domain("xn--bcher-kva.example").unwrap(), "xn--bcher-kva.example");
        let long = format!("{}.com", "a.".repeat(120));
        for text in ["", ".", "a..b", "-a.com", "a b.com", "bücher.example", "a/b", &long] {
            assert!(domain(text).is_err(), "{text}");
        }
    }
}
