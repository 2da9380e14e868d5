//! The half of `ConCoord` that decides.
//!
//! ```text
//! client ─ call ─▶ session ─ seen? ─▶ replica ─ propose ─▶ log ─▶ peers
//!    ▲                │ reply kept        (leader)              │ decided
//!    └──── reply ─────┴──────────── object ◀──── apply ◀────────┘
//! ```
//!
//! Nothing here opens a socket, reads a clock, starts a thread or draws a random number: those
//! reach the core as a [`replica::Event`] and leave it as a [`replica::Action`]. That is what
//! lets whole clusters be simulated from a seed.

pub mod call;
pub mod consensus;
pub mod durable;
pub mod limits;
pub mod log;
mod machine;
pub mod object;
pub mod objects;
#[cfg(feature = "planted")]
pub mod planted;
#[cfg(not(feature = "planted"))]
mod planted;
pub mod replica;
mod session;
pub mod snapshot;
pub mod value;
pub mod view;
pub mod wal;
pub mod wire;
