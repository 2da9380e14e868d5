//! The records that a view asks for: those of its zone that clients look for. The rest, NS and SOA
//! above all, are Route 53's own.

use concoord_core::view::{ReplicaId, View};

use super::records::{Mark, RecordSet, service_name};
use crate::names::zone::{Data, Record, Zone};

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
        let zone = Zone::new(view, Some(leader), &[], domain, ttl)?;
        let moment = (view.lineage, view.number, term);
        let branch = Some(view.branch.number);
        let mark = Mark { cluster: view.cluster.to_string(), branch, moment };
        let mut sets: Vec<RecordSet> = Vec::new();
        let targets = zone.all_of(&service_name(domain)).iter().filter_map(|r| r.data.target());
        let targets: Vec<&str> = targets.collect();
        for record in zone.records.iter().filter(|record| is_kept(record, &targets, domain)) {
            let (kind, value) = written(&record.data)?;
            match sets.last_mut() {
                Some(set) if set.name == record.name && set.kind == kind => set.values.push(value),
                _ => sets.push(RecordSet::new(record.name.clone(), kind, ttl, vec![value])),
            }
        }
        sets.push(mark.record(domain, ttl));
        Some(Self { mark, sets })
    }
}

fn is_kept(record: &Record, targets: &[&str], domain: &str) -> bool {
    let name = record.name.as_str();
    match record.data {
        Data::A(_) | Data::Aaaa(_) => name == domain || targets.contains(&name),
        Data::Txt(_) => name == domain,
        Data::Srv { .. } => name == service_name(domain),
        Data::Ns(_) | Data::Soa { .. } => false,
    }
}

/// Type and value as Route 53 writes them; it has NS and SOA of its own.
fn written(data: &Data) -> Option<(&'static str, String)> {
    Some(match data {
        Data::A(ip) => ("A", ip.to_string()),
        Data::Aaaa(ip) => ("AAAA", ip.to_string()),
        Data::Srv { priority, weight, port, target } => {
            ("SRV", format!("{priority} {weight} {port} {target}."))
        }
        Data::Txt(strings) => {
            let quoted: Vec<_> = strings.iter().map(|string| format!("\"{string}\"")).collect();
            ("TXT", quoted.join(" "))
        }
        Data::Ns(_) | Data::Soa { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use concoord_core::view::{Branch, ClusterId, Member, Role};

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
