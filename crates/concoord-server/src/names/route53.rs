//! Amazon Route 53: replicas that keep the records of a domain up to date there.
//!
//! ```text
//! status ─▶ wanted ─▶ keeper's thread ─▶ read · compare · one batch ─▶ Route 53
//! ```
//!
//! `docs/internals/route53.md` tells what happens when.

mod api;
mod credentials;
pub(crate) mod file;
mod http;
mod keeper;
mod problem;
mod records;
mod sign;
mod wanted;
mod xml;

pub(crate) use api::{Api, Taken};
pub(crate) use credentials::{ID, KEY};
pub(crate) use keeper::{Keeper, find_zone, sync};
pub(crate) use problem::Problem;
pub(crate) use records::{Change, Mark, changes};
pub(crate) use wanted::Wanted;

/// Which records to keep, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route53Spec {
    /// The domain: lower-case ASCII, without a dot at its end.
    pub domain: String,
    /// The id of the hosted zone; else it is the public one of the longest name that the domain
    /// ends with.
    pub hosted_zone: Option<String>,
    /// How long resolvers may keep the records, in seconds.
    pub ttl: u32,
}
