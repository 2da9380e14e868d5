//! The log on disk, as bytes: what [`Writer`] makes of records, [`Scan`] makes records of again.
//!
//! The log is a row of *segments*, files of a fixed size that are made ahead of need and filled
//! with zeros. The first block of a segment says whose it is and where the one before ended; then
//! come *batches*, each of which starts a block and holds the records that one write and one sync
//! carry.
//!
//! ```text
//! log-7  │ start │ batch ······ │ batch │ batch ··· │ 0 0 0 0 0 0 │
//!        0       4096                                             the segment's size
//! ```
//!
//! Two rules make every flaw tell what it is:
//!
//! 1. A batch is written only once everything before it is synced. So what is written wrong and
//!    has nothing behind it was never promised to anybody: a *torn tail*, which is cut. With
//!    anything behind it, it was safe once: *damage*, which is refused.
//! 2. Nothing is written twice. After a torn tail the log goes on in a new segment, which says
//!    where the old one ended.
//!
//! No file is touched here: a shell reads and writes, `docs/internals/disk.md` says how.

mod layout;
mod scan;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;

pub use self::layout::BLOCK;
pub use self::scan::{End, Log, Scan, ScanError, Void};
pub use self::writer::{Next, Writer};
use crate::view::ReplicaId;

/// The version of the format.
pub const VERSION: u32 = 1;

/// Whose log it is: no other's segment passes for one of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Folder {
    /// The replica.
    pub replica: ReplicaId,
    /// Random, and told to nobody: bytes that a client sends can't pass for a batch.
    pub data: u64,
}

/// A place in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The segment's number. They count up from 1.
    pub segment: u64,
    /// Bytes from its start.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "log-{}, byte {}", self.segment, self.offset)
    }
}
