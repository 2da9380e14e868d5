//! Which records Route 53 shall have, and what leads there from those that it has. Pure.
//!
//! Ours are, of a domain `d`:
//!
//! | name | type | |
//! | --- | --- | --- |
//! | `d` | A, AAAA | the replicas |
//! | `d` | TXT | the values about replicas; others' are kept beside them |
//! | `_concoord._tcp.d` | SRV | the replicas with their ports |
//! | `….ipaddr.d` | A, AAAA | the names that SRV has to give instead of addresses |
//! | `_concoord.d` | TXT | the [`Mark`] |

use std::fmt;

/// Records of one name and type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordSet {
    /// Lower-case, without the last dot.
    pub(crate) name: String,
    /// `A`, `TXT` …
    pub(crate) kind: String,
    /// Seconds. Aliases have none.
    pub(crate) ttl: Option<u32>,
    /// As Route 53 writes them.
    pub(crate) values: Vec<String>,
    /// Whether there is nothing to it but its values: no alias, no policy.
    pub(crate) plain: bool,
}

impl RecordSet {
    pub(crate) fn new(name: String, kind: &str, ttl: u32, values: Vec<String>) -> Self {
        Self { name, kind: kind.into(), ttl: Some(ttl), values, plain: true }
    }

    fn is(&self, other: &Self) -> bool {
        self.name == other.name && self.kind == other.kind
    }

    /// The order of values means nothing.
    fn says_the_same_as(&self, other: &Self) -> bool {
        let sorted = |set: &Self| {
            let mut values = set.values.clone();
            values.sort();
            values
        };
        self.ttl == other.ttl && sorted(self) == sorted(other)
    }
}

/// A step of a batch. All of a batch are made, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Refused unless the records are exactly these.
    Delete(RecordSet),
    /// Refused if there are records of that name and type.
    Create(RecordSet),
    /// In place of whatever is there.
    Upsert(RecordSet),
}

impl Change {
    pub(crate) const fn action(&self) -> &'static str {
        match self {
            Self::Delete(_) => "DELETE",
            Self::Create(_) => "CREATE",
            Self::Upsert(_) => "UPSERT",
        }
    }

    pub(crate) const fn set(&self) -> &RecordSet {
        match self {
            Self::Delete(set) | Self::Create(set) | Self::Upsert(set) => set,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RecordSet { name, kind, values, .. } = self.set();
        let sign = if matches!(self, Self::Delete(_)) { '-' } else { '+' };
        write!(f, "{sign} {name} {kind} {}", values.join(", "))
    }
}

/// By which view the records were written. It is part of each batch, which deletes the mark that
/// was read and creates the next one: so a leader that paused between reading and writing, and
/// was replaced meanwhile, writes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Of which cluster.
    pub(crate) cluster: String,
    /// Which of those that went on alone in that lineage; see
    /// [`Branch`](concoord_core::view::Branch). Earlier versions did not say.
    pub(crate) branch: Option<u64>,
    /// Lineage, number and term: later ones are greater.
    pub(crate) moment: (u64, u64, u64),
}

impl Mark {
    /// Whether that one was written by the same cluster, later.
    pub(crate) fn is_before(&self, other: &Self) -> bool {
        self.cluster == other.cluster && !self.is_twin_of(other) && self.moment < other.moment
    }

    /// Whether that one was written by another branch of the same cluster and lineage: neither is
    /// the later one.
    pub(crate) fn is_twin_of(&self, other: &Self) -> bool {
        let whose = |mark: &Self| (mark.cluster.clone(), mark.moment.0);
        let differ = self.branch.zip(other.branch).is_some_and(|(one, other)| one != other);
        whose(self) == whose(other) && differ
    }

    /// As a record says it.
    pub(crate) fn record(&self, domain: &str, ttl: u32) -> RecordSet {
        let (lineage, view, term) = self.moment;
        let branch = self.branch.map(|branch| format!(" branch={branch:016x}"));
        let value = format!(
            "\"cluster={} lineage={lineage}{} view={view} term={term}\"",
            self.cluster,
            branch.unwrap_or_default()
        );
        RecordSet::new(mark_name(domain), "TXT", ttl, vec![value])
    }

    /// The one in these records.
    pub(crate) fn among(there: &[RecordSet], domain: &str) -> Option<Self> {
        let set = there.iter().find(|set| set.name == mark_name(domain) && set.kind == "TXT")?;
        let [value] = set.values.as_slice() else { return None };
        let text = value.trim_matches('"');
        let part = |name: &str| {
            text.split(' ').find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
        };
        let number = |name| part(name)?.parse().ok();
        let moment = (number("lineage")?, number("view")?, number("term")?);
        let branch = part("branch").and_then(|branch| u64::from_str_radix(branch, 16).ok());
        Some(Self { cluster: part("cluster")?.into(), branch, moment })
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lineage, view, term) = self.moment;
        write!(f, "view {view} of cluster {}, lineage {lineage}, term {term}", self.cluster)
    }
}

pub(crate) fn mark_name(domain: &str) -> String {
    format!("_concoord.{domain}")
}

pub(crate) fn service_name(domain: &str) -> String {
    format!("_concoord._tcp.{domain}")
}

pub(crate) fn targets_name(domain: &str) -> String {
    format!("ipaddr.{domain}")
}

/// A record is in the way that is not one of ours to replace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{name} has a record of type {kind} that ConCoord can't replace (an alias, one with a routing \
     policy, or a CNAME): delete it, or name another domain with -n"
)]
pub(crate) struct InTheWay {
    name: String,
    kind: String,
}

/// What leads from the records that are there to those that are wanted, deletions first; empty if
/// nothing needs to be changed. Nothing wanted means to remove what is ours.
pub(crate) fn changes(
    domain: &str,
    wanted: &[RecordSet],
    there: &[RecordSet],
) -> Result<Vec<Change>, InTheWay> {
    let wanted = with_values_of_others(domain, wanted, there);
    let ours: Vec<_> = there.iter().filter(|set| is_ours(domain, set)).collect();
    for set in there {
        let replaced = wanted.iter().any(|new| new.is(set)) && !set.plain;
        let hidden = set.kind == "CNAME" && wanted.iter().any(|new| new.name == set.name);
        if replaced || hidden {
            return Err(InTheWay { name: set.name.clone(), kind: set.kind.clone() });
        }
    }
    // What others may change at the same time is deleted as it was read and created anew, so that
    // all is refused where they have: the mark, and texts.
    let is_mark = |set: &RecordSet| set.name == mark_name(domain);
    let is_exchanged = |set: &RecordSet| is_mark(set) || set.kind == "TXT";
    let is_right = |new: &RecordSet| {
        ours.iter().any(|old| old.is(new) && old.plain && old.says_the_same_as(new))
    };
    let is_gone = |old: &RecordSet| old.plain && !wanted.iter().any(|new| new.is(old));
    if wanted.iter().all(is_right) && !ours.iter().any(|old| is_gone(old)) {
        return Ok(Vec::new());
    }
    let mut changes = Vec::new();
    for old in ours.iter().filter(|old| old.plain) {
        let new = wanted.iter().find(|new| new.is(old));
        let stays = new.is_some_and(|new| new.says_the_same_as(old) || !is_exchanged(new));
        // The mark is exchanged in each batch, for the same one if need be.
        if !stays || new.is_some() && is_mark(old) {
            changes.push(Change::Delete((*old).clone()));
        }
    }
    for new in wanted.iter().filter(|new| is_mark(new) || !is_right(new)) {
        let make = if is_exchanged(new) { Change::Create } else { Change::Upsert };
        changes.push(make(new.clone()));
    }
    Ok(changes)
}

/// The same, with the TXT values of others at the domain: who proves by one that the domain is
/// theirs, or says who sends its mail, shall not lose it.
fn with_values_of_others(
    domain: &str,
    wanted: &[RecordSet],
    there: &[RecordSet],
) -> Vec<RecordSet> {
    let mut wanted = wanted.to_vec();
    let at_domain = |set: &&RecordSet| set.name == domain && set.kind == "TXT" && set.plain;
    let Some(old) = there.iter().find(at_domain) else { return wanted };
    let others = old.values.iter().filter(|value| !is_about_replicas(value)).cloned();
    match wanted.iter_mut().find(|set| set.name == domain && set.kind == "TXT") {
        Some(set) => set.values.extend(others),
        None => {
            let values: Vec<_> = others.collect();
            if !values.is_empty() {
                wanted.push(RecordSet { values, ..old.clone() });
            }
        }
    }
    wanted
}

fn is_about_replicas(value: &str) -> bool {
    ["\"NAMESERVER ", "\"REPLICA "].iter().any(|start| value.starts_with(start))
}

fn is_ours(domain: &str, set: &RecordSet) -> bool {
    let is_address = ["A", "AAAA"].contains(&set.kind.as_str());
    let (name, kind) = (set.name.as_str(), set.kind.as_str());
    if name == domain {
        return is_address || kind == "TXT";
    }
    let is_target =
        || name.strip_suffix(&targets_name(domain)).is_some_and(|rest| rest.ends_with('.'));
    (name == service_name(domain) && kind == "SRV")
        || (name == mark_name(domain) && kind == "TXT")
        || (is_address && is_target())
}

#[cfg(test)]
mod tests;
