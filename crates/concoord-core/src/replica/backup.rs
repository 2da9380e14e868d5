//! Backups: the state of a living cluster, given to a client.
//!
//! Who asks is told, as for a read, up to which entry the copy here must be, so that the backup
//! holds all that was acknowledged before; then the next snapshot is also its.

use super::{Action, Replica};
use crate::call::ConnectionId;
use crate::durable::Snapshot;
use crate::snapshot::About;
use crate::wire::Answer;

/// Backups that are waited for at once; past this who asks is told to come back.
const BACKUPS_MAX: usize = 8;

#[derive(Default)]
pub(super) struct Backups(Vec<Backup>);

struct Backup {
    connection: ConnectionId,
    /// It holds everything up to this entry, at least.
    index: u64,
}

impl Backups {
    pub(super) fn push(&mut self, connection: ConnectionId, index: u64) {
        if !self.0.iter().any(|backup| backup.connection == connection) {
            self.0.push(Backup { connection, index });
        }
    }

    pub(super) fn are_wanted(&self) -> bool {
        !self.0.is_empty()
    }

    pub(super) fn disconnected(&mut self, connection: ConnectionId) {
        self.0.retain(|backup| backup.connection != connection);
    }
}

impl Replica {
    /// That snapshot is what those wait for who asked before it was made.
    pub(super) fn give_backups(&mut self, snapshot: &Snapshot) {
        let view = &self.machine.state.view;
        let about = About {
            class: self.machine.interface().class.clone(),
            runtime: self.config.runtime.clone(),
            cluster: Some(view.cluster),
            lineage: view.lineage,
            written_ms: self.wall_ms,
        };
        for (at, backup) in
            self.backups.0.extract_if(.., |backup| backup.index <= snapshot.index).enumerate()
        {
            let busy = "too many backups are made at once: ask again when one has ended";
            self.actions.push(if at < BACKUPS_MAX {
                Action::Backup(backup.connection, about.clone(), snapshot.clone())
            } else {
                Action::Answer(backup.connection, Answer::NoBackup(busy.into()))
            });
        }
    }

    pub(super) fn refuse_backups(&mut self, reason: &str) {
        for backup in self.backups.0.drain(..) {
            let answer = Answer::NoBackup(format!("no snapshot of the object: {reason}"));
            self.actions.push(Action::Answer(backup.connection, answer));
        }
    }
}
