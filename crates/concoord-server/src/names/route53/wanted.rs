//! The records that a view asks for.

use std::net::{IpAddr, SocketAddr};

use concoord_core::view::{ReplicaId, Role, View};

use super::records::{Mark, RecordSet, service_name, targets_name};

/// What Route 53 shall have, and on whose word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) mark: Mark,
    pub(crate) sets: Vec<RecordSet>,
}

impl Wanted {
    /// The records of a view, as of the term in which `leader` leads it. `None` if nobody serves:
    /// the records of the last view that somebody served in are the best there are.
    pub(crate) fn of(
        view: &View,
        leader: ReplicaId,
        term: u64,
        domain: &str,
        ttl: u32,
    ) -> Option<Self> {
        let serves = |(member, role): &&(_, Role)| {
            let member: &concoord_core::view::Member = member;
            *role == Role::Voter && !member.witness
        };
        let mut serving: Vec<_> =
            view.members.iter().filter(serves).map(|(member, _)| member).collect();
        serving.sort_by_key(|member| (member.id != leader, member.address));
        let places: Vec<_> =
            serving.iter().map(|member| (member.address, member.id == leader)).collect();
        if places.is_empty() {
            return None;
        }
        let mark =
            Mark { cluster: view.cluster.to_string(), moment: (view.lineage, view.number, term) };
        let mut sets = addresses(domain, places.iter().map(|(place, _)| place.ip()).collect(), ttl);
        sets.push(RecordSet::new(domain.into(), "TXT", ttl, vec![text(&places)]));
        let services = places.iter().map(|place| service(*place, domain)).collect();
        sets.push(RecordSet::new(service_name(domain), "SRV", ttl, services));
        for ip in ips(&places) {
            sets.extend(addresses(&target(ip, domain), vec![ip], ttl));
        }
        sets.push(mark.record(domain, ttl));
        Some(Self { mark, sets })
    }
}

fn ips(places: &[(SocketAddr, bool)]) -> Vec<IpAddr> {
    let mut ips: Vec<_> = places.iter().map(|(place, _)| place.ip()).collect();
    ips.sort();
    ips.dedup();
    ips
}

/// Records of type A, and of type AAAA, as far as there are any.
fn addresses(name: &str, mut ips: Vec<IpAddr>, ttl: u32) -> Vec<RecordSet> {
    let mut seen = Vec::new();
    ips.retain(|ip| {
        !seen.contains(ip) && {
            seen.push(*ip);
            true
        }
    });
    let (four, six): (Vec<IpAddr>, Vec<IpAddr>) = ips.iter().copied().partition(IpAddr::is_ipv4);
    [("A", four), ("AAAA", six)]
        .into_iter()
        .filter(|(_, ips)| !ips.is_empty())
        .map(|(kind, ips)| {
            RecordSet::new(name.into(), kind, ttl, ips.iter().map(ToString::to_string).collect())
        })
        .collect()
}

/// SRV: priority, weight, port, target.
fn service((place, leads): (SocketAddr, bool), domain: &str) -> String {
    let priority = if leads { 0 } else { 10 };
    format!("{priority} 100 {} {}.", place.port(), target(place.ip(), domain))
}

/// A name for an address, since SRV gives names alone.
fn target(ip: IpAddr, domain: &str) -> String {
    let label = match ip {
        IpAddr::V4(ip) => ip.to_string().replace('.', "-"),
        IpAddr::V6(ip) => ip.segments().map(|part| format!("{part:x}")).join("-"),
    };
    format!("{label}.{}", targets_name(domain))
}

/// All replicas in one value, of strings of at most 255 bytes.
fn text(places: &[(SocketAddr, bool)]) -> String {
    let words: Vec<_> = places.iter().map(|(place, _)| format!("REPLICA {place}")).collect();
    let text = words.join(";");
    let strings: Vec<_> = text
        .as_bytes()
        .chunks(255)
        .map(|chunk| format!("\"{}\"", String::from_utf8_lossy(chunk)))
        .collect();
    strings.join(" ")
}
