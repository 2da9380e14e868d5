//! How clients find replicas by name: what follows the view, besides the replica itself.

use std::io;

use concoord_core::wire::Status;

use crate::config::ReplicaConfig;

#[cfg(feature = "route53")]
pub(crate) mod route53;

/// All that a replica keeps of names, whichever incarnation of it.
pub(crate) struct Names {
    #[cfg(feature = "route53")]
    keeper: Option<route53::Keeper>,
}

#[cfg(feature = "route53")]
impl Names {
    pub(crate) fn start(config: &ReplicaConfig) -> io::Result<Self> {
        Ok(Self { keeper: config.route53.as_ref().map(route53::Keeper::start).transpose()? })
    }

    /// Has them follow how the replica is. Called now and again; never waits. The status needs no
    /// digest.
    pub(crate) fn follow(&self, status: impl FnOnce() -> Status) {
        if let Some(keeper) = &self.keeper {
            keeper.follow(&status());
        }
    }

    /// How they are, as a sentence for people; empty if there is nothing to say.
    pub(crate) fn state(&self) -> String {
        self.keeper.as_ref().map(route53::Keeper::state).unwrap_or_default()
    }
}

#[cfg(not(feature = "route53"))]
#[expect(clippy::unused_self, reason = "as above, with nothing to follow")]
impl Names {
    pub(crate) const fn start(_: &ReplicaConfig) -> io::Result<Self> {
        Ok(Self {})
    }

    pub(crate) fn follow(&self, _: impl FnOnce() -> Status) {}

    pub(crate) const fn state(&self) -> String {
        String::new()
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
