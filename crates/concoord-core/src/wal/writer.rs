//! From records to bytes.

use std::collections::VecDeque;

use bytes::Bytes;

use super::layout::{BLOCK, Start, batch_size, record_size, write_batch};
use super::{Folder, Log, Position};
use crate::durable::{Record, RecordKind};
use crate::limits::SEGMENT_BYTES;

/// Knows where the log ends, and what its segments still hold that is needed.
#[derive(Debug)]
pub struct Writer {
    folder: Folder,
    /// Where the next batch goes.
    at: Position,
    /// Bytes of the segment.
    size: u64,
    /// Where the segment before this one ended, until that is written.
    start: Option<Option<Position>>,
    ledger: Ledger,
}

/// A segment that is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Next {
    /// Its number.
    pub segment: u64,
    /// The bytes it must have at least.
    pub bytes: u64,
}

impl Writer {
    /// Goes on after what was found. After a torn tail that is in a new segment.
    #[must_use]
    pub fn new(folder: Folder, log: &Log) -> Self {
        let mut ledger = Ledger::default();
        let mut records = log.records.iter();
        for (segment, count) in &log.segments {
            ledger.begin(*segment);
            records.by_ref().take(*count).for_each(|record| ledger.note(record));
        }
        let (at, size) = match log.end {
            Some(end) if end.torn == 0 => (end.at, end.size),
            Some(end) => (end.at, end.at.offset),
            None => (Position { segment: 0, offset: 0 }, 0),
        };
        Self { folder, at, size, start: None, ledger }
    }

    /// The segment in which [`Writer::write`] will write, 0 before there is one.
    #[must_use]
    pub const fn segment(&self) -> u64 {
        self.at.segment
    }

    /// The segment that must be begun before these records can be written; `None` if the
    /// present one has room.
    #[must_use]
    pub fn needs(&self, records: &[Record]) -> Option<Next> {
        let room = self.size.saturating_sub(self.at.offset);
        let batch = batch_size(records.iter().map(record_size).sum());
        let start = if self.start.is_some() { self.start_size() } else { 0 };
        if (start + batch) as u64 <= room {
            return None;
        }
        let bytes = (self.start_size() + batch) as u64;
        Some(Next { segment: self.at.segment + 1, bytes: bytes.max(SEGMENT_BYTES) })
    }

    /// Bytes that [`Writer::write`] appends for these records, at most.
    #[must_use]
    pub fn size(&self, records: &[Record]) -> usize {
        self.start_size() + batch_size(records.iter().map(record_size).sum())
    }

    #[cfg(test)]
    pub(super) const fn start_is_due(&self) -> bool {
        self.start.is_some()
    }

    #[cfg(test)]
    pub(super) fn promised(&self) -> Option<Record> {
        self.ledger.promise.clone()
    }

    /// More than what a segment's first batch has before the records that are asked for.
    fn start_size(&self) -> usize {
        BLOCK + self.ledger.promise.as_ref().map_or(0, |promise| batch_size(record_size(promise)))
    }

    /// Goes on in the next segment, of so many bytes: all zeros, and safe to be there.
    pub const fn begin(&mut self, bytes: u64) {
        let previous = self.at;
        self.start = Some(if previous.segment > 0 { Some(previous) } else { None });
        self.at = Position { segment: previous.segment + 1, offset: 0 };
        self.size = bytes;
    }

    /// Appends to `to` what is to be written at the position that this returns: whole blocks.
    /// It must be synced before the next is written. Without records it is a mark: by rule 1 of
    /// the log it vouches for what is before it.
    ///
    /// # Panics
    /// If the records [need](Self::needs) another segment first.
    pub fn write(&mut self, records: &[Record], to: &mut Vec<u8>) -> Position {
        assert!(self.needs(records).is_none(), "there is room");
        let (from, at) = (to.len(), self.at);
        let mut carried = None;
        if let Some(previous) = self.start.take() {
            Start::new(self.folder, at.segment, self.size, previous).write(to);
            self.at.offset += BLOCK as u64;
            self.ledger.begin(at.segment);
            // What was promised in a segment that may be deleted stays promised.
            carried = self.ledger.promise.clone();
        }
        write_batch(self.folder, self.at, carried.iter().chain(records), to);
        carried.iter().chain(records).for_each(|record| self.ledger.note(record));
        self.at.offset = at.offset + (to.len() - from) as u64;
        at
    }

    /// The segments that nobody needs any more once a snapshot at `index` is safe, and all that
    /// was written is synced. They are forgotten here, and are best deleted in this order.
    pub fn cut(&mut self, index: u64) -> Vec<u64> {
        let Ledger { held, promised_in, .. } = &mut self.ledger;
        let promised_in = *promised_in;
        let is_needed = |held: &Held| held.needed() > index || held.segment == promised_in;
        let needed = held.iter().position(is_needed).unwrap_or(held.len());
        let cut = needed.min(held.len().saturating_sub(1));
        held.drain(..cut).map(|held| held.segment).collect()
    }
}

/// What the segments hold.
#[derive(Debug, Default)]
struct Ledger {
    held: VecDeque<Held>,
    /// The latest.
    promise: Option<Record>,
    /// Where it stands: a segment that was begun and torn has none.
    promised_in: u64,
}

#[derive(Debug)]
struct Held {
    segment: u64,
    /// The last entry that counts.
    last: u64,
    /// The first entry after it went alone: only a snapshot that has it knows.
    alone: u64,
}

impl Held {
    fn needed(&self) -> u64 {
        self.last.max(self.alone)
    }
}

impl Ledger {
    fn begin(&mut self, segment: u64) {
        self.held.push_back(Held { segment, last: 0, alone: 0 });
    }

    fn note(&mut self, record: &Record) {
        if matches!(record.kind, RecordKind::Promise | RecordKind::Alone) {
            self.promised_in = self.held.back().map_or(0, |held| held.segment);
        }
        match record.kind {
            RecordKind::Entry | RecordKind::Change => self.end_at(record.index),
            RecordKind::Restored => {
                self.held.iter_mut().for_each(|held| (held.last, held.alone) = (0, 0));
                self.end_at(record.index);
            }
            RecordKind::Promise => self.promise = Some(record.clone()),
            RecordKind::Alone => {
                if let Some(held) = self.held.back_mut() {
                    held.alone = record.index.saturating_add(1);
                }
                // It promises too: that term, and no vote in it.
                let payload = Bytes::from_static(&[0; 8]);
                self.promise = Some(Record { kind: RecordKind::Promise, payload, ..*record });
            }
        }
    }

    /// The log ends at that index, now.
    fn end_at(&mut self, index: u64) {
        let mut held = self.held.iter_mut().rev();
        if let Some(current) = held.next() {
            current.last = index;
        }
        for earlier in held {
            earlier.last = earlier.last.min(index.saturating_sub(1));
        }
    }
}
