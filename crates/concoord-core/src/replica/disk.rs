//! What a durable replica has its disk do, and how it writes its state down.

use std::time::Duration;

use bytes::Bytes;

use super::{Action, Freezing, Replica, WorkerAction};
use crate::consensus::{Cut, GENESIS};
use crate::durable::{Persist, Record, Snapshot};
use crate::machine::Frozen;
use crate::planted;
use crate::wal::BLOCK;

/// What a durable replica has its disk do.
#[derive(Default)]
pub(super) struct Disk {
    /// Bytes written since the last snapshot.
    pub(super) bytes: usize,
    /// Bytes at which the next snapshot is due.
    pub(super) due: usize,
    /// A snapshot is being made or written.
    pub(super) saving: bool,
    /// What the last one took.
    pub(super) state_bytes: usize,
    /// The first thing that is not known to be safe, and since when it is asked for.
    pub(super) waits: Option<(u64, Duration)>,
}

impl Replica {
    pub(super) fn restore(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        if self.is_witness() {
            return self.restore_view(snapshot);
        }
        // Everything after the very first state has an object, but for what witnesses get.
        if snapshot.object.is_none() && snapshot.index > GENESIS {
            return Err("the state holds no object: it is a witness's".into());
        }
        if let Some(object) = self.machine.restore(snapshot)? {
            self.actions.push(Action::Worker(WorkerAction::Restore(object)));
            self.pace.restore(self.now);
        }
        let cut = Cut::of(snapshot, &self.machine.state.view);
        self.rebase(Some((cut, snapshot.clone())));
        if self.freezing.take().is_some_and(|freezing| freezing.save) {
            self.disk.saving = false;
        }
        Ok(())
    }

    pub(super) fn persist(&mut self, persist: Persist) {
        self.disk.bytes += written(&persist.records);
        if let Some(snapshot) = &persist.snapshot {
            (self.disk.bytes, self.disk.state_bytes) = (0, snapshot.size());
            self.disk.due = self.config.snapshot_bytes.max(snapshot.size());
        }
        self.actions.push(Action::Persist(persist));
    }

    pub(super) fn persisted(&mut self, number: u64) {
        self.consensus.persisted(number);
        if let Some((_, written)) = self.unwritten.take_if(|(needed, _)| *needed <= number) {
            self.written = written;
            self.say_written(None);
        }
        let untold = std::mem::take(&mut self.untold).into_iter();
        let (safe, untold): (Vec<_>, _) = untold.partition(|(needed, _)| *needed <= number);
        self.untold = untold;
        for (_, member) in safe {
            self.tell_removed(&member);
            self.actions.push(Action::Contacts);
        }
        if let Some(view) = self.alone.take_if(|_| !self.consensus.is_about_to_be_alone()) {
            self.went_solo(view);
        }
    }

    /// Whether so much was written since the last snapshot that it is time for another one.
    pub(super) fn is_save_due(&self) -> bool {
        // What it has before it is a member is nothing to keep.
        self.config.member.durable
            && self.view().is_some()
            && self.disk.bytes >= self.disk.due
            && (!self.disk.saving || planted::is("two-saves"))
    }

    pub(super) fn saved(&mut self, index: u64, result: Result<(), String>) {
        self.disk.saving = false;
        match result {
            // A large state is written less often: never more of it than of the log.
            Ok(()) => self.disk.due = self.config.snapshot_bytes.max(self.disk.state_bytes),
            Err(reason) => {
                // The log goes on to grow: soon again, though not at once.
                self.disk.due = self.disk.bytes + self.config.snapshot_bytes / 4;
                let text = format!("the state at {index} could not be written down: {reason}");
                self.note(tracing::Level::ERROR, text);
            }
        }
    }

    /// Makes a snapshot of the state at this moment, at once or with the worker's help: for a
    /// peer that lags, for the disk, or for both.
    pub(super) fn freeze(&mut self) {
        // A state that is astray is nobody's.
        let is_astray = self.rejoining.is_some();
        if self.freezing.is_some() || is_astray || self.must_settle() {
            return;
        }
        let save = self.is_save_due();
        self.disk.saving |= save;
        let cut = self.consensus.cut();
        let state = self.machine.freeze();
        if self.machine.has_worker() {
            let number = self.machine.number();
            self.freezing = Some(Freezing { number, cut, state, save });
            self.actions.push(Action::Worker(WorkerAction::Snapshot(number)));
        } else {
            // Whatever has an object has something there: what witnesses are given has not.
            self.frozen_whole(cut, &state, Bytes::new(), save);
        }
    }

    pub(super) fn frozen(&mut self, number: u64, result: Result<Bytes, String>) {
        let Some(freezing) = self.freezing.take_if(|freezing| freezing.number == number) else {
            return;
        };
        match result {
            Ok(object) => {
                self.frozen_whole(freezing.cut, &freezing.state, object, freezing.save);
            }
            Err(reason) => {
                self.consensus.give_up_snapshot();
                self.refuse_backups(&reason);
                if freezing.save {
                    self.saved(freezing.cut.index, Err(reason));
                } else {
                    let text = format!("no snapshot of the object: {reason}");
                    self.note(tracing::Level::ERROR, text);
                }
            }
        }
    }

    fn frozen_whole(&mut self, cut: Cut, state: &Frozen, object: Bytes, save: bool) {
        let Cut { index, term, .. } = cut;
        let (state, object) = (state.encode(), Some(object));
        let snapshot = Snapshot { index, term, state, object };
        if save {
            self.disk.state_bytes = snapshot.size();
            self.disk.bytes = 0;
            self.actions.push(Action::Save(snapshot.clone()));
        }
        self.give_backups(&snapshot);
        self.rebase(Some((cut.clone(), snapshot.clone())));
        self.offer(cut, snapshot);
    }

    pub(super) fn mind_disk(&mut self) {
        let oldest = self.consensus.unpersisted();
        let before = self.disk.waits.take_if(|(waits, _)| Some(*waits) == oldest);
        self.disk.waits = before.or_else(|| oldest.map(|oldest| (oldest, self.now)));
    }

    /// What there is to say of a disk that does not confirm what was written.
    pub(super) fn disk_is_slow(&self) -> Option<String> {
        let (_, since) = self.disk.waits?;
        let taken = self.now - since;
        let slow = taken > self.config.disk_timeout;
        slow.then(|| format!("the disk has not confirmed a write for {:.1} s", taken.as_secs_f64()))
    }
}

/// Bytes of log that these take, at least: what is written together takes whole blocks.
pub(super) fn written(records: &[Record]) -> usize {
    records.iter().map(Record::size).sum::<usize>().next_multiple_of(BLOCK)
}
