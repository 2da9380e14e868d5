//! Snapshots of states that hold sets.
//!
//! A set iterates in the order that its history gave it, and in another one after it was written
//! down and read back: a replica that starts from a snapshot would behave otherwise than one that
//! has lived. So where the state holds sets, the log says when a snapshot is made, and there every
//! worker, on all replicas, becomes what one would be that takes the snapshot in.
//!
//! The log may be unable to say so: it needs a quorum, which may need a replica that first needs a
//! snapshot. So the last such state is kept, the *base*, and the log from there on.

use std::time::Duration;

use super::{Action, Freezing, Replica, WorkerAction};
use crate::consensus::Cut;
use crate::durable::Snapshot;
use crate::limits::SETTLE_LOG_BYTES;
use crate::log::Command;
use crate::planted;

/// How long the log may take to bring what was asked of it.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// How long a peer that lags waits for a new snapshot, before it gets the base and a longer log.
const LEND_AFTER: Duration = Duration::from_secs(1);

/// How often a new base is asked for at most: a state that can't be written down must not have
/// calls wait all the time.
const RENEW_EVERY: Duration = Duration::from_secs(10);

#[derive(Default)]
pub(super) struct Settling {
    /// The state was seen to hold sets.
    seen: bool,
    /// The worker's journal grows until its state is settled.
    wanted: bool,
    asked: Option<Duration>,
    /// The last snapshot from which another replica becomes what this one is: it was made or taken
    /// in here. One that this replica went on alone after is none: the log does not say that.
    base: Option<(Cut, Snapshot)>,
    renewed: Option<Duration>,
    /// Since when a peer waits for a snapshot.
    lags: Option<Duration>,
}

impl Replica {
    /// A state that was written down holds sets and is of no use, or one that would be.
    pub(super) fn unsettled(&mut self, number: u64) {
        self.settling.seen = true;
        self.settling.wanted = true;
        if let Some(freezing) = self.freezing.take_if(|freezing| freezing.number == number) {
            self.consensus.give_up_snapshot();
            self.disk.saving &= !freezing.save;
        }
        self.keep_log();
        self.ask_to_settle();
    }

    /// Whether the state has held sets, here or wherever it came from.
    fn holds_sets(&self) -> bool {
        self.settling.seen || self.machine.state.settled > 0
    }

    /// Whether a snapshot has to wait for the log, which is then asked for it.
    pub(super) fn must_settle(&mut self) -> bool {
        let must = self.holds_sets();
        if must {
            self.settling.wanted = true;
            self.ask_to_settle();
        }
        must
    }

    /// Asks the log to have all replicas settle, and does so again while it does not come.
    pub(super) fn ask_to_settle(&mut self) {
        let due = self.settling.asked.is_none_or(|asked| asked + ASK_AGAIN <= self.now);
        if self.settling.wanted && due {
            self.settling.asked = Some(self.now);
            self.clients.enqueue(Command::Settle(self.machine.state.settled));
        }
    }

    /// Has the worker settle its state after the entry of that index and term, which makes a
    /// snapshot.
    pub(super) fn settle(&mut self, at: (u64, u64)) {
        (self.settling.wanted, self.settling.asked) = (false, None);
        let number = self.machine.number();
        let cut = self.consensus.cut_at(at, &self.machine.state.view);
        // One that is under way was of a state that has sets, too.
        let before = self.freezing.take();
        let save = self.is_save_due() || before.is_some_and(|freezing| freezing.save);
        self.disk.saving |= save;
        self.freezing = Some(Freezing { number, cut, state: self.machine.freeze(), save });
        self.actions.push(Action::Worker(WorkerAction::Settle(number)));
    }

    /// That snapshot is one that others can start from.
    pub(super) fn rebase(&mut self, base: Option<(Cut, Snapshot)>) {
        self.settling.base = base.filter(|_| self.machine.has_worker());
        self.keep_log();
    }

    /// Keeps the log from the base on, where whoever lags may have to start from it.
    pub(super) fn keep_log(&mut self) {
        let kept = self.settling.base.as_ref().filter(|_| self.holds_sets());
        self.consensus.keep_after(kept.map(|(cut, _)| cut.index));
    }

    /// A peer waits for a snapshot. If none comes soon it gets the base.
    pub(super) fn lend_base(&mut self) {
        let since = *self.settling.lags.get_or_insert(self.now);
        if self.now < since + LEND_AFTER || planted::is("no-base-lent") {
            return;
        }
        let base = self.settling.base.clone();
        if let Some((cut, base)) = base.filter(|(cut, _)| self.consensus.goes_on_from(cut.index)) {
            self.offer(cut, base);
        }
    }

    pub(super) fn offer(&mut self, cut: Cut, snapshot: Snapshot) {
        self.settling.lags = None;
        self.consensus.offer_snapshot(cut, snapshot);
    }

    /// Sees that there is a base, while there is a quorum that can make one, and that the log
    /// after it does not grow without end.
    pub(super) fn renew_base(&mut self) {
        let base = self.settling.base.as_ref();
        let is_fresh = base.is_some_and(|(cut, _)| self.consensus.goes_on_from(cut.index))
            && self.consensus.bytes() < SETTLE_LOG_BYTES;
        let due = self.settling.renewed.is_none_or(|renewed| renewed + RENEW_EVERY <= self.now);
        if self.holds_sets() && self.consensus.is_leader() && !is_fresh && due {
            self.settling.renewed = Some(self.now);
            self.settling.wanted = true;
        }
    }
}
