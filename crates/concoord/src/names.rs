//! How a name becomes the addresses of replicas.
//!
//! A name without a port is looked for as SRV records at `_concoord._tcp.<name>`: they say which
//! ports, and whom to try first. Where there are none, and for a name with a port, its addresses
//! are taken. `/etc/hosts` comes before the DNS, as ever.
//!
//! SRV records take a DNS message, which the C library has no call for. Addresses it knows better
//! (`/etc/nsswitch.conf`, mDNS, …), so they are asked of it, unless DNS servers are named.
//!
//! All of this blocks, for [`LOOK_UP_MAX`] and what the C library takes: it runs in threads of
//! its own, which nobody waits for. Nothing is remembered here; that is for the servers, which
//! know how long.

mod exchange;
mod message;
#[cfg(test)]
pub(crate) mod responder;
mod system;

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::Error;
use crate::bootstrap::{Bootstrap, PORT, Place};
use crate::error::Attempts;
use exchange::{Answered, Unanswered, ask};
pub(crate) use message::Name;
use message::{Data, Question, Record, Type};
pub(crate) use system::DNS_PORT;
use system::System;

/// How long asking the DNS for one name may take, all servers and aliases included. Less than
/// those wait who ask for it: what was found by then is of use to them.
const LOOK_UP_MAX: Duration = Duration::from_secs(8);

/// Aliases that are followed from one name.
const ALIASES_MAX: usize = 8;

/// Addresses that one name may stand for: more than a cluster has members.
const ADDRESSES_MAX: usize = 64;

/// The service that replicas are: the first two labels of its SRV records.
const SERVICE: &str = "_concoord._tcp";

/// Why a name stands for no address, to be read behind that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LookUpError {
    #[error("it can be no name: labels of 63 ASCII characters at most, 253 in all")]
    NoName,
    #[error(
        "{} (asked for SRV, A and AAAA records): check the name; where no name server delegates \
         to it, name its own by ?dns=ADDRESS:PORT",
        .0
    )]
    Unknown(String),
    #[error("{0}: a name with a port takes an A or AAAA record")]
    NoAddress(String),
    #[error("{} says that replicas are at {}, which have no address: mend its zone", .by, .targets)]
    Dangling { by: SocketAddr, targets: String },
    #[error("{0} says that there is no such service (an SRV record of \".\")")]
    NoService(SocketAddr),
    #[error("{0} is an alias of an alias, more than {ALIASES_MAX} times: mend its CNAME records")]
    Aliases(Name),
    #[error("{}: see /etc/resolv.conf, or name another server by ?dns=ADDRESS:PORT", failures(.0))]
    Unanswered(Vec<Unanswered>),
    #[error("no thread to look it up: {0}")]
    Thread(String),
}

fn failures(failures: &[Unanswered]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// All addresses of a bootstrap; see [`Bootstrap::look_up`].
pub(crate) fn look_up(bootstrap: &Bootstrap, timeout: Duration) -> Result<Vec<SocketAddr>, Error> {
    let end = Instant::now() + timeout;
    let (found_tx, found_rx) = mpsc::channel();
    look_up_all(bootstrap, &move |nth, found| {
        // Who asked may have stopped waiting.
        drop(found_tx.send((nth, found)));
    });
    let mut search = Search::new(bootstrap);
    while let Ok((nth, result)) =
        found_rx.recv_timeout(end.saturating_duration_since(Instant::now()))
    {
        search.take(nth, result);
    }
    search.end(timeout)
}

/// A look-up of all names that is under way.
pub(crate) struct Search<'a> {
    bootstrap: &'a Bootstrap,
    found: Vec<Vec<SocketAddr>>,
    attempts: Attempts,
}

impl<'a> Search<'a> {
    pub(crate) fn new(bootstrap: &'a Bootstrap) -> Self {
        let mut attempts = Attempts::default();
        for (_, name) in bootstrap.names() {
            attempts.note(name, bootstrap.awaited());
        }
        Self { bootstrap, found: bootstrap.names().map(|_| Vec::new()).collect(), attempts }
    }

    /// The `nth` name was looked up.
    pub(crate) fn take(&mut self, nth: usize, result: Result<Vec<SocketAddr>, LookUpError>) {
        let Some((_, name)) = self.bootstrap.names().nth(nth) else { return };
        match (result, self.found.get_mut(nth)) {
            (Ok(addresses), Some(place)) => {
                self.attempts.forget(&name);
                *place = addresses;
            }
            (Err(error), _) => self.attempts.note(name, error.to_string()),
            (Ok(_), None) => {}
        }
    }

    pub(crate) fn end(self, timeout: Duration) -> Result<Vec<SocketAddr>, Error> {
        let all = self.bootstrap.in_order(&self.found);
        let attempts = self.attempts;
        if all.is_empty() { Err(Error::Unreachable { attempts, timeout }) } else { Ok(all) }
    }
}

/// Looks the names up, each in a thread of its own, and tells what came of the `nth`.
pub(crate) fn look_up_all<F>(bootstrap: &Bootstrap, tell: &F)
where
    F: Fn(usize, Result<Vec<SocketAddr>, LookUpError>) + Clone + Send + 'static,
{
    for (nth, place) in bootstrap.places.iter().filter(|place| place.is_name()).enumerate() {
        let Place::Name { host, port } = place.clone() else { continue };
        let servers = bootstrap.servers.clone();
        let told = tell.clone();
        let thread = thread::Builder::new().name("concoord-name".into());
        let spawned = thread.spawn(move || {
            let found = System::read(&servers).look_up(&host, port, Instant::now() + LOOK_UP_MAX);
            told(nth, found);
        });
        if let Err(error) = spawned {
            tell(nth, Err(LookUpError::Thread(error.to_string())));
        }
    }
}

impl System {
    /// The addresses of replicas that go by that name, the best one first.
    fn look_up(
        &self,
        host: &str,
        port: Option<u16>,
        end: Instant,
    ) -> Result<Vec<SocketAddr>, LookUpError> {
        let hosted = self.hosted(host);
        if !hosted.is_empty() {
            let port = port.unwrap_or(PORT);
            return Ok(hosted.into_iter().map(|ip| (ip, port).into()).collect());
        }
        let names = self.candidates(host);
        if names.is_empty() {
            return Err(LookUpError::NoName);
        }
        let Some(port) = port else { return self.look_up_service(host, &names, end) };
        self.look_up_host(host, port, &names, end).map_err(|why| match why {
            Nothing::Unanswered(failures) => LookUpError::Unanswered(failures),
            Nothing::Aliases(name) => LookUpError::Aliases(name),
            Nothing::Said(text) => LookUpError::NoAddress(text),
        })
    }

    fn look_up_service(
        &self,
        host: &str,
        names: &[Name],
        end: Instant,
    ) -> Result<Vec<SocketAddr>, LookUpError> {
        let service = Name::parse(SERVICE).expect("a constant");
        let (mut said, mut denied) = (None, String::new());
        for name in names.iter().filter_map(|name| service.within(name)) {
            match self.follow(name, end) {
                Ok((by, services)) if !services.is_empty() => {
                    return self.look_up_targets(by, services, end);
                }
                Ok((by, _)) => denied = format!("{by} has no such SRV record, and "),
                // Nobody answers for one domain: another one may have the name.
                Err(why @ Nothing::Unanswered(_)) => _ = said.get_or_insert(why),
                Err(why) => {
                    said = Some(why);
                    break;
                }
            }
        }
        // No word on services is none against addresses; they may even come from elsewhere.
        self.look_up_host(host, PORT, names, end).map_err(|why| match (why, said) {
            (_, Some(Nothing::Aliases(name))) | (Nothing::Aliases(name), _) => {
                LookUpError::Aliases(name)
            }
            (_, Some(Nothing::Unanswered(failures))) | (Nothing::Unanswered(failures), _) => {
                LookUpError::Unanswered(failures)
            }
            (Nothing::Said(text), _) if self.asks_libc => LookUpError::Unknown(denied + &text),
            (Nothing::Said(text), _) => LookUpError::Unknown(text),
        })
    }

    /// The addresses of what SRV records point at.
    fn look_up_targets(
        &self,
        by: SocketAddr,
        Services { mut services, additional }: Services,
        end: Instant,
    ) -> Result<Vec<SocketAddr>, LookUpError> {
        services.truncate(ADDRESSES_MAX);
        if services.iter().all(|service| service.target.is_none()) {
            return Err(LookUpError::NoService(by));
        }
        let mut found = Vec::new();
        let mut dangling = String::new();
        for Service { port, target, .. } in in_order(services) {
            let Some(target) = target else { continue };
            let mut ips = addresses_of(&additional, &target);
            if ips.is_empty() {
                ips = self.look_up_ips(std::slice::from_ref(&target), end).unwrap_or_default();
            }
            if ips.is_empty() {
                let comma = if dangling.is_empty() { "" } else { ", " };
                write!(dangling, "{comma}{target}").expect("a String takes all");
            }
            for address in ips.into_iter().map(|ip| SocketAddr::new(ip, port)) {
                if !found.contains(&address) && found.len() < ADDRESSES_MAX {
                    found.push(address);
                }
            }
        }
        if found.is_empty() {
            return Err(LookUpError::Dangling { by, targets: dangling });
        }
        Ok(found)
    }

    fn look_up_host(
        &self,
        host: &str,
        port: u16,
        names: &[Name],
        end: Instant,
    ) -> Result<Vec<SocketAddr>, Nothing> {
        let mut found: Vec<SocketAddr> = if self.asks_libc {
            let found = (host, port).to_socket_addrs();
            found.map_err(|error: io::Error| Nothing::Said(error.to_string()))?.collect()
        } else {
            let ips = self.look_up_ips(names, end)?;
            ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
        };
        found.truncate(ADDRESSES_MAX);
        Ok(found)
    }

    /// The addresses that the DNS knows of the first of these names that has any.
    fn look_up_ips(&self, names: &[Name], end: Instant) -> Result<Vec<IpAddr>, Nothing> {
        let mut said = String::new();
        for name in names {
            let (mut ips, mut failed) = (Vec::new(), None);
            for kind in [Type::A, Type::Aaaa] {
                match self.follow_addresses(name, kind, end) {
                    Ok((records, text)) => {
                        ips.extend(records);
                        said = text;
                    }
                    // Not all who know the one kind answer questions for the other (RFC 4074).
                    Err(why) => _ = failed.get_or_insert(why),
                }
            }
            if !ips.is_empty() {
                return Ok(ips);
            }
            if let Some(why) = failed {
                return Err(why);
            }
        }
        Err(Nothing::Said(said))
    }

    fn follow_addresses(
        &self,
        name: &Name,
        kind: Type,
        end: Instant,
    ) -> Result<(Vec<IpAddr>, String), Nothing> {
        let (name, answered) = self.resolve(name.clone(), kind, end)?;
        let said = if answered.is_name_unknown() {
            format!("{} knows no such name", answered.by)
        } else {
            format!("{} knows the name, but no address of it", answered.by)
        };
        Ok((addresses_of(&answered.response.answers, &name), said))
    }

    /// The services at that name, if there are any, and who says so.
    fn follow(&self, name: Name, end: Instant) -> Result<(SocketAddr, Services), Nothing> {
        let (name, Answered { by, response }) = self.resolve(name, Type::Srv, end)?;
        let service = |(owner, data): Record| match data {
            Data::Service { priority, weight, port, target } if owner.as_ref() == Some(&name) => {
                Some(Service { priority, weight, port, target })
            }
            Data::Service { .. } | Data::Address(_) | Data::Alias(_) => None,
        };
        let services = response.answers.into_iter().filter_map(service).collect();
        Ok((by, Services { services, additional: response.additional }))
    }

    /// Asks for that name, and for what it is an alias of where the answer does not hold it
    /// (RFC 1034, 3.6.2); returns the last one with its answer.
    fn resolve(&self, asked: Name, kind: Type, end: Instant) -> Result<(Name, Answered), Nothing> {
        let (mut name, mut aliases) = (asked.clone(), 0);
        loop {
            let question = Question { name: name.clone(), kind };
            let answered = ask(self, &question, end).map_err(Nothing::Unanswered)?;
            while let Some(alias) = alias_of(&answered.response.answers, &name) {
                aliases += 1;
                if aliases > ALIASES_MAX {
                    return Err(Nothing::Aliases(asked));
                }
                name = alias;
            }
            let has_it = answered.response.answers.iter().any(|(owner, data)| {
                owner.as_ref() == Some(&name) && !matches!(data, Data::Alias(_))
            });
            if has_it || name == question.name || answered.is_name_unknown() {
                return Ok((name, answered));
            }
        }
    }
}

/// Why there is no address.
enum Nothing {
    /// Nobody says anything.
    Unanswered(Vec<Unanswered>),
    Aliases(Name),
    /// Somebody says so.
    Said(String),
}

/// SRV records, and what came along with them.
struct Services {
    services: Vec<Service>,
    additional: Vec<Record>,
}

impl Services {
    const fn is_empty(&self) -> bool {
        self.services.is_empty()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Service {
    priority: u16,
    weight: u16,
    port: u16,
    target: Option<Name>,
}

/// In the order in which they are to be tried (RFC 2782): by priority, and among equals by lot, in
/// proportion to their weights.
fn in_order(mut services: Vec<Service>) -> Vec<Service> {
    // Those without a weight come first, so that they are drawn now and then.
    services.sort_by_key(|service| (service.priority, service.weight));
    let mut ordered = Vec::new();
    while let Some(priority) = services.first().map(|service| service.priority) {
        let equals = services.iter().take_while(|service| service.priority == priority);
        let sum: u32 = equals.map(|service| u32::from(service.weight)).sum();
        // Without random numbers the order is the same each time, and still one.
        let mut lot = getrandom::u32().unwrap_or_default() % (sum + 1);
        let drawn = services.iter().position(|service| {
            let weight = u32::from(service.weight);
            let is_drawn = lot <= weight;
            lot = lot.saturating_sub(weight);
            is_drawn
        });
        ordered.push(services.remove(drawn.unwrap_or_default()));
    }
    ordered
}

fn addresses_of(records: &[Record], name: &Name) -> Vec<IpAddr> {
    let address = |(owner, data): &Record| match data {
        Data::Address(ip) if owner.as_ref() == Some(name) => Some(*ip),
        Data::Address(_) | Data::Alias(_) | Data::Service { .. } => None,
    };
    records.iter().filter_map(address).collect()
}

fn alias_of(records: &[Record], name: &Name) -> Option<Name> {
    records.iter().find_map(|(owner, data)| match data {
        Data::Alias(alias) if owner.as_ref() == Some(name) => Some(alias.clone()),
        Data::Alias(_) | Data::Address(_) | Data::Service { .. } => None,
    })
}

#[cfg(test)]
mod tests;
