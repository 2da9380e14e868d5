//! Snapshots of states that hold sets.
//!
//! A set iterates in the order that its history gave it, and in another one after it was written
//! down and read back: a replica that starts from a snapshot would behave otherwise than one that
//! has lived. So where the state holds sets, the log says when a snapshot is made, and there every
//! worker, on all replicas, becomes what one would be that takes the snapshot in.

use std::time::Duration;

use super::{Action, Freezing, Replica, WorkerAction};
use crate::log::Command;

/// How long the log may take to bring what was asked of it.
const ASK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Default)]
pub(super) struct Settling {
    /// The state was seen to hold sets.
    needed: bool,
    /// The worker's journal grows until its state is settled.
    wanted: bool,
    asked: Option<Duration>,
}

impl Replica {
    /// A state that was written down holds sets and is of no use, or one that would be.
    pub(super) fn unsettled(&mut self, number: u64) {
        self.settling.needed = true;
        self.settling.wanted = true;
        if let Some(freezing) = self.freezing.take_if(|freezing| freezing.number == number) {
            self.consensus.give_up_snapshot();
            self.disk.saving &= !freezing.save;
        }
        self.ask_to_settle();
    }

    /// Whether a snapshot has to wait for the log, which is then asked for it.
    pub(super) fn must_settle(&mut self) -> bool {
        if self.settling.needed {
            self.settling.wanted = true;
            self.ask_to_settle();
        }
        self.settling.needed
    }

    /// Asks the log to have all replicas settle, and does so again while it does not come.
    pub(super) fn ask_to_settle(&mut self) {
        let due = self.settling.asked.is_none_or(|asked| asked + ASK_AGAIN <= self.now);
        if self.settling.wanted && due {
            self.settling.asked = Some(self.now);
            self.clients.enqueue([Command::Settle(self.machine.state.settled)], self.now);
        }
    }

    /// Has the worker settle its state after the entry at `index`, which makes a snapshot.
    pub(super) fn settle(&mut self, index: u64) {
        (self.settling.wanted, self.settling.asked) = (false, None);
        let number = self.machine.number();
        let cut = self.consensus.cut_at(index, &self.machine.state.view);
        // One that is under way was of a state that has sets, too.
        let before = self.freezing.take();
        let save = self.is_save_due() || before.is_some_and(|freezing| freezing.save);
        self.disk.saving |= save;
        self.freezing = Some(Freezing { number, cut, state: self.machine.freeze(), save });
        self.actions.push(Action::Worker(WorkerAction::Settle(number)));
    }
}
