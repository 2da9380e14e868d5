//! What waits at a replica for the log, in the order in which it came.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::call::ConnectionId;
use crate::limits::FORWARDED_WAITING_BYTES_MAX;
use crate::log::Command;
use crate::view::ReplicaId;

#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Queued>,
    /// Bytes of what each other replica has forwarded.
    forwarded: BTreeMap<ReplicaId, usize>,
    /// Who waits for a session.
    opens: BTreeSet<(ReplicaId, ConnectionId)>,
}

struct Queued {
    command: Command,
    /// Who has forwarded it; `None` where this replica wants it.
    from: Option<ReplicaId>,
}

impl Queue {
    pub(super) fn iter(&self) -> impl Iterator<Item = &Command> {
        self.waiting.iter().map(|queued| &queued.command)
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn push(&mut self, command: Command) {
        if is_new(&mut self.opens, &command) {
            self.waiting.push_back(Queued { command, from: None });
        }
    }

    pub(super) fn push_first(&mut self, command: Command) {
        self.waiting.push_front(Queued { command, from: None });
    }

    /// What that replica forwards, if there is room for more of it. Else it is as if the message
    /// were lost: it is forwarded again.
    pub(super) fn push_forwarded(&mut self, from: ReplicaId, command: Command) {
        let bytes = self.forwarded.get(&from).copied().unwrap_or_default();
        if bytes < FORWARDED_WAITING_BYTES_MAX && is_new(&mut self.opens, &command) {
            self.forwarded.insert(from, bytes + command.size());
            self.waiting.push_back(Queued { command, from: Some(from) });
        }
    }

    /// Takes the first so many out, and gives each of them to `then`.
    pub(super) fn take(&mut self, commands: usize, mut then: impl FnMut(Command)) {
        let Self { waiting, forwarded, opens } = self;
        for Queued { command, from } in waiting.drain(..commands.min(waiting.len())) {
            forget(opens, &command);
            if let Some(from) = from
                && let Some(bytes) = forwarded.get_mut(&from)
            {
                *bytes -= command.size();
            }
            then(command);
        }
        forwarded.retain(|_, bytes| *bytes > 0);
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Keeps of what this replica wants only that.
    pub(super) fn retain_own(&mut self, mut stays: impl FnMut(&Command) -> bool) {
        let opens = &mut self.opens;
        self.waiting.retain(|Queued { command, from }| {
            let stays = from.is_some() || stays(command);
            if !stays {
                forget(opens, command);
            }
            stays
        });
    }
}

impl Extend<Command> for Queue {
    fn extend<T: IntoIterator<Item = Command>>(&mut self, commands: T) {
        commands.into_iter().for_each(|command| self.push(command));
    }
}

/// Whether that asks for no session that is asked for already: it would be another one.
fn is_new(opens: &mut BTreeSet<(ReplicaId, ConnectionId)>, command: &Command) -> bool {
    let Command::Open(replica, connection) = command else { return true };
    opens.insert((*replica, *connection))
}

fn forget(opens: &mut BTreeSet<(ReplicaId, ConnectionId)>, command: &Command) {
    if let Command::Open(replica, connection) = command {
        opens.remove(&(*replica, *connection));
    }
}
