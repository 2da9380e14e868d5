//! Whether a domain's name servers are found, and agree: asks its parent and each of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::ask::ask;
use super::message::{A, AAAA, NS, Reply, SOA};
use crate::names::zone::{Data, Record};

/// Servers of the parent that are tried.
const PARENTS_MAX: usize = 4;

/// Servers of the domain that are asked.
const SERVERS_MAX: usize = 64;

/// Whom to ask, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Servers {
    /// Who knows how to find the parent.
    pub(crate) resolver: SocketAddr,
    /// The port of the parent's servers and of the domain's own.
    pub(crate) port: u16,
    /// How long each may take.
    pub(crate) patience: Duration,
}

/// Name servers and their addresses.
type Named = BTreeMap<String, BTreeSet<IpAddr>>;

/// What was found.
#[derive(Debug)]
pub(crate) struct Checked {
    /// The zone that delegates to the domain.
    pub(crate) parent: String,
    /// The name servers that it gives.
    pub(crate) delegated: Named,
    /// What each of them says: its serial, or why there is none.
    pub(crate) answers: Vec<(String, IpAddr, Result<u32, String>)>,
    /// What is wrong, and what to do about it, a sentence each.
    pub(crate) problems: Vec<String>,
}

/// Checks that domain.
///
/// # Errors
/// A sentence, if the parent can't be asked.
pub(crate) fn check(domain: &str, servers: &Servers) -> Result<Checked, String> {
    let (parent, parents) = servers.parent(domain)?;
    let reply = servers.delegation(domain, &parent, &parents)?;
    let delegated = named(domain, &reply);
    let mut checked = Checked { parent, delegated, answers: Vec::new(), problems: Vec::new() };
    if checked.delegated.is_empty() {
        checked.problems.push(format!(
            "{} does not delegate {domain}: at the registrar of {domain}, or in the zone of {}, \
             set its name servers (`concoord dns zone` prints them with their addresses)",
            checked.parent, checked.parent
        ));
        return Ok(checked);
    }
    let own = servers.ask_each(domain, &mut checked);
    checked.compare(domain, &own);
    Ok(checked)
}

impl Servers {
    fn ask(&self, server: IpAddr, name: &str, kind: u16) -> Result<Reply, String> {
        let server = SocketAddr::new(server, self.port);
        ask(server, name, kind, false, self.patience).map_err(|error| error.to_string())
    }

    fn resolve(&self, name: &str, kind: u16) -> Result<Vec<Record>, String> {
        let reply = ask(self.resolver, name, kind, true, self.patience);
        let reply = reply.map_err(|error| error.to_string()).and_then(Reply::known);
        let reply = reply.map_err(|error| {
            format!(
                "the resolver {} does not answer for {name} ({error}): name one with --resolver",
                self.resolver
            )
        })?;
        let [answers, ..] = reply.sections;
        Ok(answers)
    }

    fn addresses(&self, name: &str) -> Result<BTreeSet<IpAddr>, String> {
        let mut records = self.resolve(name, A)?;
        records.extend(self.resolve(name, AAAA)?);
        Ok(records.iter().filter_map(address).collect())
    }

    /// The zone that the domain is delegated from, and its servers.
    fn parent(&self, domain: &str) -> Result<(String, Vec<IpAddr>), String> {
        let mut parent = domain;
        while let Some((_, rest)) = parent.split_once('.') {
            parent = rest;
            let records = self.resolve(parent, NS)?;
            let of_parent = records.iter().filter(|record| record.name == parent);
            let names: Vec<&str> = of_parent.filter_map(|record| record.data.target()).collect();
            let mut ips = Vec::new();
            for name in names.iter().take(PARENTS_MAX) {
                ips.extend(self.addresses(name)?);
            }
            if !ips.is_empty() {
                return Ok((parent.into(), ips));
            }
        }
        Err(format!("the resolver {} knows no zone that {domain} could be in", self.resolver))
    }

    /// What the first of the parent's servers that answers says of the domain.
    fn delegation(&self, domain: &str, parent: &str, ips: &[IpAddr]) -> Result<Reply, String> {
        let mut failures = Vec::new();
        for ip in ips.iter().take(2 * PARENTS_MAX) {
            match self.ask(*ip, domain, NS).and_then(Reply::known) {
                Ok(reply) => return Ok(reply),
                Err(why) => failures.push(format!("{ip}: {why}")),
            }
        }
        Err(format!("no name server of {parent} answers ({})", failures.join("; ")))
    }

    /// Asks each server that the parent gives; the name servers that those give.
    fn ask_each(&self, domain: &str, checked: &mut Checked) -> Named {
        let mut own: Option<(u32, Named)> = None;
        for (name, ips) in checked.delegated.clone() {
            let inside = name == domain || name.ends_with(&format!(".{domain}"));
            let ips = if ips.is_empty() {
                if inside {
                    checked.problems.push(format!(
                        "{} gives no address for {name}, which is in {domain} itself: set its \
                         glue (`concoord dns zone` prints the address)",
                        checked.parent
                    ));
                }
                self.addresses(&name).unwrap_or_default()
            } else {
                ips
            };
            for ip in ips.into_iter().take(SERVERS_MAX - checked.answers.len().min(SERVERS_MAX)) {
                let answer = self.look(domain, ip);
                if let Ok((serial, named)) = &answer
                    && own.as_ref().is_none_or(|(latest, _)| latest < serial)
                {
                    own = Some((*serial, named.clone()));
                }
                let answer = answer.map(|(serial, _)| serial);
                checked.answers.push((name.clone(), ip, answer));
            }
        }
        own.map(|(_, named)| named).unwrap_or_default()
    }

    /// The serial of one server, and the name servers that it gives.
    fn look(&self, domain: &str, ip: IpAddr) -> Result<(u32, Named), String> {
        let reply = self.ask(ip, domain, SOA)?;
        let [answers, ..] = &reply.sections;
        let serial = answers.iter().filter(|record| record.name == domain).find_map(|record| {
            if let Data::Soa { serial, .. } = &record.data { Some(*serial) } else { None }
        });
        let serial = serial.filter(|_| reply.authoritative);
        let serial = serial.ok_or_else(|| format!("does not answer for {domain}"))?;
        Ok((serial, named(domain, &self.ask(ip, domain, NS)?)))
    }
}

impl Checked {
    fn compare(&mut self, domain: &str, own: &Named) {
        let Self { parent, delegated, answers, problems } = self;
        for (name, ip, answer) in &*answers {
            if let Err(why) = answer {
                problems.push(format!(
                    "{name} ({ip}): {why}. Start a replica there with -n {domain}, or take {name} \
                     out of the delegation at {parent}"
                ));
            }
        }
        let serials: BTreeSet<u32> =
            answers.iter().filter_map(|(_, _, answer)| answer.as_ref().ok().copied()).collect();
        if serials.len() > 1 {
            let each: Vec<String> = answers
                .iter()
                .filter_map(|(name, ip, answer)| {
                    Some(format!("{name} ({ip}) has {}", answer.as_ref().ok()?))
                })
                .collect();
            problems.push(format!(
                "the name servers do not agree on the view: {}. If they do not a few seconds \
                 later either, the one that is behind has lost its cluster: see `concoord status`",
                each.join(", ")
            ));
        }
        for (name, ips) in own {
            let list = |ips: &BTreeSet<IpAddr>| {
                ips.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
            };
            match delegated.get(name) {
                None => problems.push(format!(
                    "{parent} does not give {name}: add it to the delegation, with the address {}",
                    list(ips)
                )),
                Some(glue) if !glue.is_empty() && glue != ips => problems.push(format!(
                    "{parent} gives {} for {name}, which is at {}: change its glue",
                    list(glue),
                    list(ips)
                )),
                Some(_) => {}
            }
        }
    }
}

/// The name servers that a reply gives for the domain, and their addresses as far as it does.
fn named(domain: &str, reply: &Reply) -> Named {
    let records = || reply.sections.iter().flatten();
    let servers = records().filter(|record| record.name == domain);
    let targets = servers.filter_map(|record| {
        if let Data::Ns(target) = &record.data { Some(target.clone()) } else { None }
    });
    targets
        .map(|name| {
            let of_name = records().filter(|record| record.name == name);
            let ips = of_name.filter_map(address).collect();
            (name, ips)
        })
        .collect()
}

fn address(record: &Record) -> Option<IpAddr> {
    match record.data {
        Data::A(ip) => Some(ip.into()),
        Data::Aaaa(ip) => Some(ip.into()),
        Data::Ns(_) | Data::Soa { .. } | Data::Srv { .. } | Data::Txt(_) => None,
    }
}

#[cfg(test)]
mod tests;
