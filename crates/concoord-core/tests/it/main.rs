//! The core as a whole, from outside: whole clusters in one thread, from a seed.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "a test that can't go on should stop, and say the seed"
)]

mod ailing;
mod cases;
mod corpus;
mod dice;
mod history;
mod list;
mod lone;
mod members;
#[cfg(feature = "planted")]
mod planted;
mod sessions;
mod sim;
mod witness;
mod world;
