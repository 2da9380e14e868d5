//! The log in memory: what memory mode keeps, and what a lagging peer is fed from.

use std::cell::Cell;
use std::collections::{BTreeSet, VecDeque};

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};

use crate::durable;
use crate::limits::{LOG_BYTES_MAX, LOG_HELD_BYTES_MAX, SETTLED_LOG_BYTES_MAX};

/// Entries from the one after `cut` on, and what a restart of the library needs.
#[derive(Default)]
pub(super) struct MemoryLog {
    entries: VecDeque<Entry>,
    /// Index and term of the last entry that is gone.
    cut: (u64, u64),
    bytes: usize,
    pub(super) hard_state: HardState,
    pub(super) members: ConfState,
    /// The state that a lagging peer can start from, while one needs it, and what the library
    /// knows of it.
    offer: Option<(durable::Snapshot, Snapshot)>,
    /// The same without the object, for witnesses.
    bare: Option<(durable::Snapshot, Snapshot)>,
    /// Where the snapshot is cut that is being made or under way: what follows is kept for it.
    held: Option<u64>,
    /// What follows this entry is kept for who may have to start from the state there.
    pub(super) base: Option<u64>,
    /// The peer that the library could not give a snapshot.
    wanted: Cell<Option<u64>>,
    /// Whether that happened with a witness.
    bare_wanted: Cell<bool>,
    /// The peers that are witnesses.
    pub(super) witnesses: BTreeSet<u64>,
}

impl MemoryLog {
    /// An empty log after an entry of that index and term.
    pub(super) fn after(index: u64, term: u64, members: ConfState) -> Self {
        let hard_state = HardState { term, commit: index, ..HardState::default() };
        Self { cut: (index, term), hard_state, members, ..Self::default() }
    }

    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        self.truncate(first.index - 1);
        assert_eq!(first.index, self.last() + 1, "entries are appended without gaps");
        self.bytes += entries.iter().map(size).sum::<usize>();
        self.entries.extend(entries.iter().cloned());
    }

    /// Forgets what comes after `last`.
    pub(super) fn truncate(&mut self, last: u64) {
        while self.last() > last {
            let gone =
                self.entries.pop_back().expect("nobody rewrites what is decided and cut off");
            self.bytes -= size(&gone);
        }
    }

    /// Becomes an empty log after this snapshot.
    pub(super) fn restore(&mut self, snapshot: &Snapshot) {
        let metadata = snapshot.get_metadata();
        self.entries.clear();
        self.bytes = 0;
        self.cut = (metadata.index, metadata.term);
        self.hard_state.commit = metadata.index;
        self.members = metadata.get_conf_state().clone();
        self.withdraw_offer();
        self.bare = None;
    }

    /// Forgets the older half of what is applied once the log takes more than
    /// [`LOG_BYTES_MAX`]; but keeps what comes after `needed`, by a lagging peer, and after the
    /// snapshot that one is to get, up to [`LOG_HELD_BYTES_MAX`], and after the base, up to
    /// [`SETTLED_LOG_BYTES_MAX`].
    pub(super) fn trim(&mut self, applied: u64, needed: Option<u64>) {
        let needed = needed.into_iter().chain(self.held).min();
        let needed = needed.filter(|_| self.bytes <= LOG_HELD_BYTES_MAX);
        let base = self.base.filter(|_| self.bytes <= SETTLED_LOG_BYTES_MAX);
        let needed = needed.into_iter().chain(base).min();
        let to = needed.map_or(applied, |needed| needed.min(applied));
        if self.bytes <= LOG_BYTES_MAX {
            return;
        }
        while self.bytes > LOG_BYTES_MAX / 2 && self.cut.0 < to {
            let Some(gone) = self.entries.pop_front() else { return };
            self.bytes -= size(&gone);
            self.cut = (gone.index, gone.term);
        }
    }

    /// A state, for peers that need what is cut off.
    pub(super) fn offer(&mut self, snapshot: durable::Snapshot, members: ConfState) {
        self.offer = Some(known(snapshot, members));
    }

    /// The same for witnesses: it has no object.
    pub(super) fn offer_bare(&mut self, snapshot: durable::Snapshot) {
        self.bare = Some(known(snapshot, self.members.clone()));
    }

    /// The state that is offered to that peer, if it is that after the entry `index`.
    pub(super) fn offered(&self, to: u64, index: u64) -> Option<&durable::Snapshot> {
        let offer = if self.witnesses.contains(&to) { &self.bare } else { &self.offer };
        offer.as_ref().map(|(snapshot, _)| snapshot).filter(|offer| offer.index == index)
    }

    pub(super) fn withdraw_offer(&mut self) {
        self.offer = None;
        self.held = None;
    }

    pub(super) fn withdraw_bare(&mut self) {
        self.bare = None;
    }

    /// A snapshot at `index` is about to be made.
    pub(super) fn hold(&mut self, index: u64) {
        self.held = Some(index);
    }

    /// Where the log begins: after that entry.
    pub(super) const fn start(&self) -> u64 {
        self.cut.0
    }

    /// Bytes of the entries that are kept.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn take_wanted(&mut self) -> Option<u64> {
        self.wanted.take()
    }

    pub(super) fn take_bare_wanted(&mut self) -> bool {
        self.bare_wanted.take()
    }

    /// The entries after `index`.
    pub(super) fn tail(&self, index: u64) -> impl Iterator<Item = &Entry> {
        self.entries.iter().rev().take_while(move |entry| entry.index > index)
    }

    pub(super) fn last(&self) -> u64 {
        self.entries.back().map_or(self.cut.0, |entry| entry.index)
    }

    fn at(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.cut.0 + 1)?).ok()
    }
}

/// The snapshot, and what the library knows of it.
fn known(snapshot: durable::Snapshot, members: ConfState) -> (durable::Snapshot, Snapshot) {
    let mut known = Snapshot::default();
    known.mut_metadata().index = snapshot.index;
    known.mut_metadata().term = snapshot.term;
    known.mut_metadata().set_conf_state(members);
    (snapshot, known)
}

fn size(entry: &Entry) -> usize {
    entry.data.len() + entry.context.len() + size_of::<Entry>()
}

impl Storage for MemoryLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.members.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        bytes_max: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let compacted = Error::Store(StorageError::Compacted);
        let (Some(from), Some(to)) = (self.at(low), self.at(high)) else { return Err(compacted) };
        let bytes_max = bytes_max.into().unwrap_or(u64::MAX);
        let mut bytes = 0;
        let mut fits = |entry: &&Entry| {
            let first = bytes == 0;
            bytes += size(entry) as u64;
            first || bytes <= bytes_max
        };
        Ok(self.entries.range(from..to).take_while(|entry| fits(entry)).cloned().collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.cut.0 {
            return Ok(self.cut.1);
        }
        let at = self.at(index).ok_or(Error::Store(StorageError::Compacted))?;
        self.entries.get(at).map(|entry| entry.term).ok_or(Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.cut.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, index_min: u64, to: u64) -> raft::Result<Snapshot> {
        let for_witness = self.witnesses.contains(&to);
        match if for_witness { &self.bare } else { &self.offer } {
            Some((offer, known)) if offer.index >= index_min.max(self.cut.0) => Ok(known.clone()),
            _ => {
                if for_witness {
                    self.bare_wanted.set(true);
                } else {
                    self.wanted.set(Some(to));
                }
                Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
            }
        }
    }
}
