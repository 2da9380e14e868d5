//! What a durable replica has written down and what it may say meanwhile.
//!
//! A leader sends its entries before they are safe with itself (Ongaro 2014, section 10.2.1):
//! its own disk and those of its followers work side by side, and it counts itself among those
//! who have an entry only once it is safe. A vote, or that an entry has been taken in, is said
//! when that is safe and not before.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, HardState};

use super::envelope::{change_of, entry_of};
use super::memory::MemoryLog;
use super::{Decided, Envelope};
use crate::durable::{Persist, Record, RecordKind, Recovered, Snapshot};
use crate::limits::UNSAFE_BYTES_MAX;
use crate::planted;
use crate::view::{Cause, View};

/// What is on its way to the disk.
#[derive(Default)]
pub(super) struct Safety {
    /// The latest [`Persist::number`].
    asked: u64,
    /// What is not known to be safe.
    pending: VecDeque<Pending>,
    /// Bytes of it.
    bytes: usize,
    /// The library's number of what came last, whether it had to be written or not.
    ready: u64,
    /// Messages, and what must be safe before each is sent.
    held: Vec<(u64, Envelope)>,
    /// Messages that may be sent.
    released: Vec<Envelope>,
    /// The latest promise that nobody may hear more from here before it is safe.
    promise: u64,
    /// What was written last of what was promised.
    promised: HardState,
    /// The replica goes on alone, in that term, once that number is safe.
    pub(super) alone: Option<(u64, u64)>,
}

/// Something that is not known to be safe.
struct Pending {
    number: u64,
    /// The library's number of what it is.
    ready: u64,
    bytes: usize,
}

impl Safety {
    /// Takes in what one step of the library leads to; `changes` says that it decides on a change
    /// of the members.
    ///
    /// That more is decided can be found out again, and is written beside other things only: so
    /// whoever has an entry knows, after a restart, all that was decided when it came. A change
    /// of the members is written at once, and nobody hears more from here before it is safe: a
    /// replica that is started again must not count by a membership that others know to be over.
    pub(super) fn ask(
        &mut self,
        ready: u64,
        snapshot: Option<Snapshot>,
        mut records: Vec<Record>,
        (now, changes): (&HardState, bool),
    ) -> Option<Persist> {
        self.ready = ready;
        let promises = (now.term, now.vote) != (self.promised.term, self.promised.vote) || changes;
        if promises || !records.is_empty() && now.commit > self.promised.commit {
            let payload = Bytes::copy_from_slice(&now.vote.to_le_bytes());
            let (kind, index, term) = (RecordKind::Promise, now.commit, now.term);
            records.push(Record { kind, index, term, payload });
            self.promised = now.clone();
        }
        let persist = (!records.is_empty()).then(|| self.number(snapshot, records));
        if promises {
            self.promise = self.asked;
        }
        persist
    }

    /// Sends what may be sent; the rest waits.
    pub(super) fn send(&mut self, messages: Vec<Envelope>) {
        for message in messages {
            let needed = if message.promises() { self.asked } else { self.promise };
            if self.oldest().is_none_or(|oldest| needed < oldest) || planted::is("ack-before-sync")
            {
                self.released.push(message);
            } else {
                self.held.push((needed, message));
            }
        }
    }

    /// Has the state written down that the log begins with.
    pub(super) fn ask_first(&mut self, snapshot: Snapshot) -> Persist {
        let (kind, index, term) = (RecordKind::Restored, snapshot.index, snapshot.term);
        self.number(Some(snapshot), vec![Record { kind, index, term, payload: Bytes::new() }])
    }

    fn number(&mut self, snapshot: Option<Snapshot>, records: Vec<Record>) -> Persist {
        self.asked += 1;
        let bytes = records.iter().map(Record::size).sum::<usize>()
            + snapshot.as_ref().map_or(0, Snapshot::size);
        self.bytes += bytes;
        self.pending.push_back(Pending { number: self.asked, ready: self.ready, bytes });
        Persist { number: self.asked, snapshot, records }
    }

    /// Has it written down that the replica is alone.
    pub(super) fn ask_alone(&mut self, record: Record) -> Persist {
        let term = record.term;
        let persist = self.number(None, vec![record]);
        self.alone = Some((persist.number, term));
        persist
    }

    /// Up to that number all is safe; returns up to what the library is to be told so.
    pub(super) fn persisted(&mut self, number: u64) -> Option<u64> {
        let done = self.pending.partition_point(|pending| pending.number <= number);
        let mut safe = None;
        for pending in self.pending.drain(..done) {
            self.bytes -= pending.bytes;
            safe = Some(pending.ready);
        }
        let held = std::mem::take(&mut self.held).into_iter();
        let (free, held): (Vec<_>, _) = held.partition(|(needed, _)| *needed <= number);
        self.held = held;
        self.released.extend(free.into_iter().map(|(_, message)| message));
        if self.pending.is_empty() { safe.map(|_| self.ready) } else { safe }
    }

    /// The library begins anew: what it is told next is of its new life.
    pub(super) fn forget_readies(&mut self) {
        self.pending.clear();
        self.bytes = 0;
        self.held.clear();
        self.released.clear();
        self.ready = 0;
    }

    /// Messages that may be sent now.
    pub(super) fn release(&mut self) -> Vec<Envelope> {
        std::mem::take(&mut self.released)
    }

    /// The first number that is not known to be safe.
    pub(super) fn oldest(&self) -> Option<u64> {
        self.pending.front().map(|pending| pending.number)
    }

    /// The last number that is not known to be safe.
    pub(super) fn latest(&self) -> Option<u64> {
        self.pending.back().map(|pending| pending.number)
    }

    /// Whether more waits for the disk than may: one that is full, or stuck, must not have a
    /// leader fill this replica's memory.
    pub(super) const fn is_full(&self) -> bool {
        self.bytes > UNSAFE_BYTES_MAX
    }
}

/// More entries or terms than any log will have.
const NUMBER_MAX: u64 = u64::MAX / 2;

/// What a replica finds of its log when it is started again.
pub(crate) struct Recovery {
    /// Where the snapshot stands.
    start: (u64, u64),
    entries: VecDeque<Entry>,
    hard_state: HardState,
    /// The views with which it went on alone, and what was applied before.
    alone: Vec<(u64, View)>,
    /// What follows the snapshot's entry in the log does not follow the snapshot: a crash kept
    /// the record of a state that was received from coming after it.
    astray: bool,
}

impl Recovery {
    /// Puts the records in order, after the snapshot.
    ///
    /// # Errors
    /// If they make no log: a sentence for people.
    pub(crate) fn new(recovered: Recovered) -> Result<(Self, Snapshot), String> {
        let Recovered { snapshot, records } = recovered;
        let (index, term) = (snapshot.index, snapshot.term);
        check_numbers(index, term)?;
        let hard_state = HardState { term, commit: index, ..HardState::default() };
        let mut this = Self {
            start: (index, term),
            entries: VecDeque::new(),
            hard_state,
            alone: Vec::new(),
            astray: false,
        };
        for record in records {
            this.replay(record)?;
        }
        // What was known to be decided had been written by then, or is in the snapshot; and what
        // does not follow the snapshot was never decided.
        let (last, decided) = (this.last(), this.decided());
        if decided > last {
            return Err(format!(
                "the log ends at {last}, though it was decided up to {decided}: what is missing \
                 was acknowledged; `concoord rebuild` sets the data folder aside"
            ));
        }
        Ok((this, snapshot))
    }

    fn replay(&mut self, record: Record) -> Result<(), String> {
        check_numbers(record.index, record.term)?;
        match record.kind {
            RecordKind::Entry | RecordKind::Change => {
                self.entries.truncate(usize_of(record.index.saturating_sub(self.start.0 + 1)));
                if record.index <= self.start.0 {
                    self.astray = record.index == self.start.0 && record.term != self.start.1;
                    return Ok(());
                }
                if self.astray {
                    return Ok(());
                }
                if record.index != self.last() + 1 {
                    let (index, last) = (record.index, self.last());
                    return Err(format!("the log lacks what is between {last} and {index}"));
                }
                self.entries.push_back(entry_of(record)?);
            }
            RecordKind::Promise => {
                let vote = record.payload.first_chunk().ok_or("a promise without a vote")?;
                // Older than a received state of which the crash kept the promise from coming.
                if record.term >= self.start.1 && !planted::is("term-forgotten") {
                    self.hard_state.term = record.term;
                }
                if record.term >= self.start.1 && !planted::is("vote-forgotten") {
                    self.hard_state.vote = u64::from_le_bytes(*vote);
                }
                self.hard_state.commit = self.hard_state.commit.max(record.index);
            }
            RecordKind::Restored => {
                if record.index > self.start.0 {
                    let (index, start) = (record.index, self.start.0);
                    return Err(format!(
                        "the log goes on from a snapshot at {index}, the latest one is at {start}"
                    ));
                }
                self.entries.clear();
                self.astray = false;
            }
            RecordKind::Alone => {
                let view: View = postcard::from_bytes(&record.payload)
                    .map_err(|error| format!("a view can't be read: {error}"))?;
                if view.branch.cause == Cause::Forced {
                    // As `Consensus::drop_changes` did before this was written.
                    let made = |entry: &Entry| entry.index <= record.index;
                    let stays = |entry: &Entry| made(entry) || change_of(entry).is_none();
                    let first = self.entries.iter().position(|entry| !stays(entry));
                    self.entries.truncate(first.unwrap_or(usize::MAX));
                }
                self.alone.push((record.index, view));
                self.hard_state.term = record.term;
                self.hard_state.vote = 0;
                self.hard_state.commit = self.hard_state.commit.max(record.index);
            }
        }
        Ok(())
    }

    fn last(&self) -> u64 {
        self.entries.back().map_or(self.start.0, |entry| entry.index)
    }

    /// Up to where the log is known to be decided.
    pub(crate) fn decided(&self) -> u64 {
        self.hard_state.commit
    }

    /// What was decided after the snapshot, in order, and the views with which it went on alone,
    /// each in its place.
    pub(crate) fn replayed(&self) -> impl Iterator<Item = Replayed> {
        let decided = self.entries.iter().take_while(|entry| entry.index <= self.decided());
        let at = |index: u64| {
            let alone = self.alone.iter().filter(move |(at, _)| *at == index);
            alone.map(|(_, view)| Replayed::Alone(view.clone()))
        };
        let start = self.start.0;
        at(start).chain(decided.flat_map(move |entry| {
            std::iter::once(Replayed::Decided(Decided::of(entry.clone()))).chain(at(entry.index))
        }))
    }

    pub(super) fn into_log(self, members: ConfState) -> MemoryLog {
        let (index, term) = self.start;
        let mut log = MemoryLog::after(index, term, members);
        let entries: Vec<Entry> = self.entries.into();
        log.append(&entries);
        log.hard_state = self.hard_state;
        log
    }
}

/// What counts on from there must not overflow.
fn check_numbers(index: u64, term: u64) -> Result<(), String> {
    if index.max(term) > NUMBER_MAX {
        return Err(format!("no log gets to index {index}, term {term}"));
    }
    Ok(())
}

/// One step from the snapshot to what was decided.
pub(crate) enum Replayed {
    Decided(Decided),
    Alone(View),
}

fn usize_of(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Record {
        Record { kind: RecordKind::Entry, index, term, payload: Bytes::new() }
    }

    fn last(snapshot: (u64, u64), records: Vec<Record>) -> Result<u64, String> {
        let (index, term) = snapshot;
        let snapshot = Snapshot { index, term, state: Bytes::new(), object: None };
        Recovery::new(Recovered { snapshot, records }).map(|(recovery, _)| recovery.last())
    }

    #[test]
    fn a_log_goes_on_from_the_snapshot() {
        let records = |from, to| (from..=to).map(|index| entry(index, 1)).collect::<Vec<_>>();
        assert_eq!(last((5, 1), records(1, 9)), Ok(9));
        assert_eq!(last((5, 1), records(6, 9)), Ok(9));
        assert_eq!(last((5, 1), records(1, 3)), Ok(5));
        last((5, 1), records(7, 9)).unwrap_err();
        let rewritten = [records(1, 9), vec![entry(7, 2)]].concat();
        assert_eq!(last((5, 1), rewritten), Ok(7));
    }

    #[test]
    fn a_log_that_lacks_what_was_decided_is_damaged() {
        let entries = || (1..=9).map(|index| entry(index, 1)).collect::<Vec<_>>();
        let decided = |index| Record {
            kind: RecordKind::Promise,
            payload: Bytes::from_static(&[0; 8]),
            ..entry(index, 1)
        };
        assert_eq!(last((5, 1), [entries(), vec![decided(9)]].concat()), Ok(9));
        // A snapshot that says that it is of another term would have all behind it void.
        last((5, 0), [entries(), vec![decided(9)]].concat()).unwrap_err();
        last((5, 1), [entries(), vec![decided(10)]].concat()).unwrap_err();
        // Nobody had heard of any of it that it was decided.
        assert_eq!(last((5, 2), [entries(), vec![decided(4)]].concat()), Ok(5));
    }

    #[test]
    fn numbers_that_nothing_can_follow_are_no_log_s() {
        for kind in [RecordKind::Entry, RecordKind::Promise, RecordKind::Alone] {
            last((0, 0), vec![Record { kind, ..entry(1, u64::MAX) }]).unwrap_err();
            last((0, 0), vec![Record { kind, ..entry(u64::MAX, 1) }]).unwrap_err();
        }
        last((u64::MAX, 1), vec![]).unwrap_err();
    }

    #[test]
    fn entries_that_do_not_follow_a_received_snapshot_are_void() {
        let old = || (1..=9).map(|index| entry(index, 1)).collect::<Vec<_>>();
        assert_eq!(last((5, 2), old()), Ok(5), "the crash came before the record of it");
        let restored =
            Record { kind: RecordKind::Restored, index: 5, term: 2, payload: Bytes::new() };
        assert_eq!(last((5, 2), [old(), vec![restored, entry(6, 2)]].concat()), Ok(6));
        last((4, 1), vec![Record { kind: RecordKind::Restored, ..entry(5, 2) }]).unwrap_err();
    }
}
