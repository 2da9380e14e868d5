//! What a replica writes down, so that it survives the death of its process.
//!
//! The core says what is to be written and in which order ([`Persist`]); a shell writes it and
//! gives it back after a restart ([`Recovered`]). `docs/internals/disk.md` describes the files.

use crate::machine::State;
use crate::view::View;
use bytes::Bytes;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// One thing to remember, in the order in which it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it is.
    pub kind: RecordKind,
    /// See [`RecordKind`].
    pub index: u64,
    /// See [`RecordKind`].
    pub term: u64,
    /// See [`RecordKind`]; empty where it says nothing of it.
    pub payload: Bytes,
}

impl Record {
    /// Bytes that it takes, roughly.
    pub(crate) const fn size(&self) -> usize {
        size_of::<Self>() + self.payload.len()
    }
}

/// What a [`Record`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RecordKind {
    /// The log has this entry at that index, and nothing after it: entries from that index on
    /// that were written before are void.
    Entry = 1,
    /// What the replica promised: it is in that term, has voted in it for the replica whose id
    /// the payload holds (eight bytes, little-endian, 0 for none), and knows the log to be decided
    /// up to that index.
    Promise = 2,
    /// The log begins anew after that index and term, at a snapshot that is safe already:
    /// entries that were written before are void.
    Restored = 3,
    /// With everything up to that index applied, the replica went on alone, in that term; the
    /// payload is its view from then on.
    Alone = 4,
    /// As [`RecordKind::Entry`], where the entry changes the members.
    Change = 5,
}

impl RecordKind {
    /// The kind of that number, if there is one.
    #[must_use]
    pub const fn of(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Entry),
            2 => Some(Self::Promise),
            3 => Some(Self::Restored),
            4 => Some(Self::Alone),
            5 => Some(Self::Change),
            _ => None,
        }
    }
}

/// The state after all entries up to `index`, in place of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The last entry that it holds.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// Sessions, members, counts: all that is not the object.
    pub state: Bytes,
    /// The object's own bytes; `None` for one that is as it was when it was loaded.
    pub object: Option<Bytes>,
}

impl Snapshot {
    /// What its state holds, for people.
    ///
    /// # Errors
    /// If the state is none that this version writes.
    pub fn contents(&self) -> Result<Contents, String> {
        State::decode(&self.state).map(|(state, _)| state.contents())
    }

    /// A digest of all of it.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let mut digest = Digest::of(self.index, self.term, self.state.len() as u64);
        digest.state(&self.state);
        self.object.iter().for_each(|object| digest.object(object));
        digest.end()
    }

    /// Bytes of the whole state.
    #[must_use]
    pub fn size(&self) -> usize {
        self.state.len() + self.object.as_ref().map_or(0, Bytes::len)
    }
}

/// [`Snapshot::digest`], of bytes that come one after the other: first all of the state.
pub(crate) struct Digest {
    state: Xxh3,
    object: Option<Xxh3>,
}

impl Digest {
    /// Of a snapshot there, with so many bytes of state.
    pub(crate) fn of(index: u64, term: u64, state: u64) -> Self {
        let numbers = [index, term, state].map(u64::to_le_bytes);
        Self { state: Xxh3::with_seed(xxh3_64(numbers.as_flattened())), object: None }
    }

    pub(crate) fn state(&mut self, bytes: &[u8]) {
        self.state.update(bytes);
    }

    /// Some bytes of the object: an empty one differs from none.
    pub(crate) fn object(&mut self, bytes: &[u8]) {
        let state = &self.state;
        self.object.get_or_insert_with(|| Xxh3::with_seed(state.digest() ^ 1)).update(bytes);
    }

    pub(crate) fn end(&self) -> u64 {
        self.object.as_ref().unwrap_or(&self.state).digest()
    }
}

/// What a snapshot's state holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The members.
    pub view: View,
    /// Open sessions.
    pub sessions: usize,
    /// Calls that ran so far.
    pub calls: u64,
    /// The time of the last entry, milliseconds since 1970.
    pub time_ms: u64,
}

/// What is to be made safe: the snapshot first, if there is one, then the records in order, after
/// all that was asked before. [`Event::Persisted`](crate::replica::Event::Persisted) says that it
/// is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persist {
    /// Counts up. Later ones are safe only once the earlier ones are.
    pub number: u64,
    /// A snapshot that stands for everything that was written before.
    pub snapshot: Option<Snapshot>,
    /// The records.
    pub records: Vec<Record>,
}

/// What was found to be safe after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The latest snapshot.
    pub snapshot: Snapshot,
    /// Everything that was written since the log was last cut off, in order: some of it may be
    /// older than the snapshot.
    pub records: Vec<Record>,
}
