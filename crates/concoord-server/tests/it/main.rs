//! Whole replicas over loopback, each on a thread of its own, with clients that speak bytes; the
//! command line as a script sees it; and the repository itself.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test that can't go on should stop"
)]

mod aws;
mod backups;
mod calls;
#[path = "../torture/checker.rs"]
mod checker;
mod cli;
mod client;
mod cluster;
mod deaths;
mod departures;
mod durable;
mod failpoints;
#[path = "../../src/worker/fake.rs"]
mod fake;
mod growth;
mod histories;
#[path = "../torture/history.rs"]
mod history;
mod hold;
#[path = "../torture/holds.rs"]
mod holds;
mod hosted;
mod hostile;
mod http;
mod monitoring;
mod names;
mod nameserver;
mod operators;
mod partition;
mod processes;
#[path = "../torture/random.rs"]
mod random;
mod rebuild;
#[path = "../../../concoord/src/names/responder.rs"]
mod responder;
mod route53;
mod siege;
mod tidy;
mod transfers;
mod witness;
