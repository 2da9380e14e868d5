//! The records that a view asks for.

use std::net::{IpAddr, SocketAddr};

use concoord_core::view::{Member, ReplicaId, Role, View};

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
        let serves = |(member, role): &&(Member, Role)| *role == Role::Voter && !member.witness;
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

#[cfg(test)]
mod tests {
    use concoord_core::view::{Branch, ClusterId};

    use super::*;

    const DOMAIN: &str = "counterdomain.com";

    fn member(id: u64, address: &str) -> (Member, Role) {
        (Member::new(ReplicaId(id), address.parse().unwrap()), Role::Voter)
    }

    fn view(members: Vec<(Member, Role)>) -> View {
        let (member, _) = members[0].clone();
        let view = View::first(ClusterId(0xc0ffee), member, Branch::default());
        View { members, ..view }
    }

    fn values<'a>(wanted: &'a Wanted, name: &str, kind: &str) -> &'a [String] {
        let set = wanted.sets.iter().find(|set| set.name == name && set.kind == kind);
        set.map(|set| set.values.as_slice()).unwrap_or_default()
    }

    #[test]
    fn those_that_serve_are_there_once_the_leader_first() {
        let mut witness = member(4, "192.0.2.4:14000");
        witness.0.witness = true;
        let learner = (member(5, "192.0.2.5:14000").0, Role::Learner);
        let members = vec![
            member(1, "192.0.2.1:14000"),
            member(2, "[2001:db8::2]:14000"),
            member(3, "192.0.2.1:14001"),
            witness,
            learner,
        ];
        let wanted = Wanted::of(&view(members), ReplicaId(3), 7, DOMAIN, 5).unwrap();
        assert_eq!(
            wanted.mark.to_string(),
            "view 1 of cluster 0000000000c0ffee, lineage 0, term 7"
        );
        assert_eq!(values(&wanted, DOMAIN, "A"), ["192.0.2.1"]);
        assert_eq!(values(&wanted, DOMAIN, "AAAA"), ["2001:db8::2"]);
        let text =
            "\"REPLICA 192.0.2.1:14001;REPLICA 192.0.2.1:14000;REPLICA [2001:db8::2]:14000\"";
        assert_eq!(values(&wanted, DOMAIN, "TXT"), [text]);
        let six = "2001-db8-0-0-0-0-0-2.ipaddr.counterdomain.com";
        assert_eq!(
            values(&wanted, "_concoord._tcp.counterdomain.com", "SRV"),
            [
                "0 100 14001 192-0-2-1.ipaddr.counterdomain.com.".to_owned(),
                "10 100 14000 192-0-2-1.ipaddr.counterdomain.com.".to_owned(),
                format!("10 100 14000 {six}."),
            ]
        );
        assert_eq!(values(&wanted, six, "AAAA"), ["2001:db8::2"]);
        assert_eq!(wanted.sets.len(), 7);
    }

    #[test]
    fn strings_have_255_bytes_at_most() {
        let members = (1..=30).map(|id| member(id, &format!("192.0.2.{id}:14000"))).collect();
        let wanted = Wanted::of(&view(members), ReplicaId(1), 7, DOMAIN, 5).unwrap();
        let [value] = values(&wanted, DOMAIN, "TXT") else { panic!("one value") };
        let strings: Vec<_> = value.trim_matches('"').split("\" \"").collect();
        assert!(strings.len() > 1 && strings.iter().all(|string| string.len() <= 255));
        assert_eq!(strings.concat().split(';').count(), 30);
    }

    #[test]
    fn where_nobody_serves_the_last_view_stays() {
        let learner = (member(1, "192.0.2.1:14000").0, Role::Learner);
        assert_eq!(Wanted::of(&view(vec![learner]), ReplicaId(1), 7, DOMAIN, 5), None);
    }
}
