//! Where snapshots stand in the log, and who is given them.

use raft::SnapshotStatus;
use raft::eraftpb::ConfState;

use super::Consensus;
use crate::durable::Snapshot;
use crate::view::{ReplicaId, Role, View};

/// A place in the log, and the membership there.
#[derive(Clone)]
pub(crate) struct Cut {
    pub(crate) index: u64,
    pub(crate) term: u64,
    members: ConfState,
}

impl Cut {
    /// Where that snapshot stands; `view` is the one in it.
    pub(crate) fn of(snapshot: &Snapshot, view: &View) -> Self {
        let Snapshot { index, term, .. } = *snapshot;
        Self { index, term, members: members_of(view) }
    }
}

impl Consensus {
    /// The peer that needs a snapshot before it can be sent the log, if one does.
    pub(crate) fn snapshot_wanted(&mut self) -> Option<ReplicaId> {
        self.node.mut_store().take_wanted().map(ReplicaId)
    }

    /// Where the log stands now, for a snapshot of the state at this moment. What is logged
    /// from here on is kept for whoever gets it.
    pub(crate) fn cut(&mut self) -> Cut {
        let index = self.applied();
        let term = self.term_at(index);
        self.node.mut_store().hold(index);
        Cut { index, term, members: self.node.store().members.clone() }
    }

    /// The same for an entry of that index and term that is applied now, while later ones are
    /// decided; `view` is that of there.
    pub(crate) fn cut_at(&mut self, (index, term): (u64, u64), view: &View) -> Cut {
        self.node.mut_store().hold(index);
        Cut { index, term, members: members_of(view) }
    }

    /// From now on what follows that entry is kept; `None` if nothing has to be.
    pub(crate) fn keep_after(&mut self, index: Option<u64>) {
        self.node.mut_store().base = index;
    }

    /// Whether the log that is kept goes on from that entry.
    pub(crate) fn goes_on_from(&self, index: u64) -> bool {
        (self.node.store().start()..=self.last()).contains(&index)
    }

    /// Bytes of the log that is kept.
    pub(crate) fn bytes(&self) -> usize {
        self.node.store().bytes()
    }

    /// No snapshot can be made.
    pub(crate) fn give_up_snapshot(&mut self) {
        self.node.mut_store().withdraw_offer();
    }

    /// Gives the state at `cut` to peers that lag behind the log.
    pub(crate) fn offer_snapshot(&mut self, cut: Cut, snapshot: Snapshot) {
        self.node.mut_store().offer(snapshot, cut.members);
        if !self.is_leader() {
            return;
        }
        let me = self.node.raft.id;
        let others: Vec<u64> =
            self.node.raft.prs().iter().map(|(id, _)| *id).filter(|id| *id != me).collect();
        for id in others {
            self.node.raft.send_append(id);
        }
    }

    /// Sending a snapshot to that peer is over.
    pub(crate) fn snapshot_sent(&mut self, to: ReplicaId, arrived: bool) {
        let store = self.node.mut_store();
        if store.witnesses.contains(&to.0) {
            store.withdraw_bare();
        } else {
            store.withdraw_offer();
        }
        self.node.report_snapshot(
            to.0,
            if arrived { SnapshotStatus::Finish } else { SnapshotStatus::Failure },
        );
    }
}

/// The membership of that view, in the library's words.
pub(super) fn members_of(view: &View) -> ConfState {
    let with = |role| {
        let members = view.members.iter().filter(move |(_, other)| *other == role);
        members.map(|(member, _)| member.id.0).collect()
    };
    ConfState { voters: with(Role::Voter), learners: with(Role::Learner), ..ConfState::default() }
}
