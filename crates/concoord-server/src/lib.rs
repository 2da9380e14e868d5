//! The half of `ConCoord` that does: what one replica needs of the world.
//!
//! ```text
//!            ┌─ clients ─▶ inbox ─▶ driver ─▶ Replica::turn ─▶ actions ─┐
//! sockets ───┤   peers ──────┘                                          ├─▶ clients, peers
//!            └─ http        worker, death ─▶ inbox                      └─▶ worker, death
//! ```
//!
//! One thread owns a replica. Tasks read sockets and leave events in the inbox; the driver takes
//! all that is there, has the replica take one turn, and writes what follows, once a socket.
//! Nothing decides here: what a message means is `concoord_core`'s to know.

pub mod cli;
mod clients;
pub mod config;
mod connection;
mod date;
mod death;
mod driver;
mod fence;
mod http;
mod journal;
pub mod logging;
mod names;
mod peers;
mod shell;
mod steps;
pub mod storage;
mod task;
mod transfer;
mod worker;

pub use config::{ConfigError, ObjectSpec, ReplicaConfig, WorkerSpec};
pub use driver::{RunError, run, runtime};
pub use fence::FenceSpec;
#[cfg(feature = "dns")]
pub use names::dns::{BindError, DnsSockets, DnsSpec};
#[cfg(feature = "route53")]
pub use names::route53::Route53Spec;
pub use worker::LoadError;
