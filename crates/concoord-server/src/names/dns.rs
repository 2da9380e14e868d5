//! The name server: DNS queries for a domain, answered from the view.
//!
//! ```text
//! status ─▶ zone ─▶ thread of its own: UDP · TCP ─ query ─▶ answer
//! ```
//!
//! The replica hands over a zone when its view or its leader changes, and never waits. Queries, and
//! be it a flood of them, are the other thread's, which stands back behind the replica's where
//! processors are scarce. `docs/internals/nameserver.md` tells what is answered.

mod answer;
mod ask;
mod check;
mod limit;
mod message;
mod server;
mod sockets;

use std::cell::RefCell;
use std::io;
use std::sync::Arc;

use concoord_core::view::ReplicaId;
use concoord_core::wire::Status;

use super::zone::Zone;
pub(crate) use check::{Checked, Servers, check};
use server::Server;
pub use sockets::{BindError, DnsSockets};

/// The port of name servers.
pub(crate) const PORT: u16 = 53;

/// Bytes of a datagram that is cut up nowhere on its way (DNS flag day 2020).
const DATAGRAM_BYTES_MAX: u16 = 1232;

/// What a name server is started with.
#[derive(Debug)]
pub struct DnsSpec {
    /// The domain: lower-case ASCII, without a dot at its end.
    pub domain: String,
    /// How long resolvers may keep the records, in seconds.
    pub ttl: u32,
    /// Where it is asked.
    pub sockets: DnsSockets,
}

/// The name server as the replica has it.
pub(crate) struct NameServer {
    domain: String,
    ttl: u32,
    places: String,
    server: Server,
    followed: RefCell<Followed>,
}

/// What the zone that is served was made of.
#[derive(Default)]
struct Followed {
    /// Lineage, number, and who leads.
    of: Option<(u64, u64, Option<ReplicaId>)>,
    /// The number of the view that is served.
    serves: Option<u64>,
    /// Why it may be out of date; empty if it is not.
    stale: String,
    /// The view has it that this replica answers no queries, or those for another domain.
    unlisted: bool,
}

impl NameServer {
    pub(crate) fn start(spec: DnsSpec) -> io::Result<Self> {
        let DnsSpec { domain, ttl, sockets } = spec;
        let places = sockets.to_string();
        let server = Server::start(sockets)?;
        tracing::info!("DNS queries for {domain} are answered at {places}");
        Ok(Self { domain, ttl, places, server, followed: RefCell::default() })
    }

    /// Has the zone follow the replica. What is of use stays: without a view, a leader or anybody
    /// who serves, the last ones are answered.
    pub(crate) fn follow(&self, status: &Status) {
        let mut followed = self.followed.borrow_mut();
        if followed.stale != status.reason {
            followed.stale.clone_from(&status.reason);
        }
        let Some(view) = &status.view else { return };
        let led = followed.of.and_then(|(.., leader)| leader);
        let leader = status.leader.or(led).filter(|leader| view.role(*leader).is_some());
        let of = Some((view.lineage, view.number, leader));
        if of == followed.of {
            return;
        }
        followed.of = of;
        let listed = view.member(status.replica.id).and_then(|member| member.domain.as_deref());
        followed.unlisted = listed != Some(&*self.domain);
        if let Some(zone) = Zone::new(view, leader, &[&status.class], &self.domain, self.ttl) {
            followed.serves = Some(view.number);
            self.server.serve(Arc::new(zone));
        }
    }

    /// How it is, as a sentence for people.
    pub(crate) fn state(&self) -> String {
        let Self { domain, places, .. } = self;
        let followed = self.followed.borrow();
        let Some(view) = followed.serves else {
            return format!(
                "name server of {domain} at {places}, without a view to answer from yet"
            );
        };
        let mut state = format!("name server of {domain} at {places}, view {view}");
        if followed.unlisted {
            state += ", not among the NS records, since it joined the cluster without this domain";
        }
        if followed.stale.is_empty() {
            return state;
        }
        format!("{state}, which may be out of date: {}", followed.stale)
    }
}
