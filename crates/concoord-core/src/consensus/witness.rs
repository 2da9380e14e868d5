//! Witnesses, to the log: they have it and no object.
//!
//! Two things differ. Who needs a snapshot gets one that holds the view alone. And what a witness
//! has cut off nobody can get from it any more, so it keeps what a replica with an object lacks.

use bytes::Bytes;
use raft::Storage;

use super::Consensus;
use crate::durable::Snapshot;
use crate::planted;
use crate::view::View;

impl Consensus {
    /// This replica is a witness.
    pub(crate) fn be_witness(&mut self) {
        self.held = Some(0);
        self.settle();
    }

    /// The members that are witnesses.
    pub(crate) fn know_witnesses(&mut self, view: &View) {
        let witnesses = view.members.iter().filter(|(member, _)| member.witness);
        self.node.mut_store().witnesses = witnesses.map(|(member, _)| member.id.0).collect();
    }

    /// Whether a witness needs a snapshot before it can be sent the log.
    pub(crate) fn bare_snapshot_wanted(&mut self) -> bool {
        self.node.mut_store().take_bare_wanted()
    }

    /// Gives witnesses that lag behind the log the state without an object that belongs to what
    /// is applied.
    pub(crate) fn offer_bare(&mut self, state: Bytes) {
        let index = self.applied();
        let snapshot = Snapshot { index, term: self.term_at(index), state, object: None };
        self.node.mut_store().offer_bare(snapshot);
        if self.is_leader() {
            let peers = self.node.raft.prs();
            let is_peer = |id: &u64| peers.get(*id).is_some();
            let witnesses = self.node.store().witnesses.iter().copied().filter(is_peer);
            for id in witnesses.collect::<Vec<_>>() {
                self.node.raft.send_append(id);
            }
        }
    }

    /// Every replica with an object has the log up to there.
    pub(crate) fn held(&mut self, index: u64) {
        self.held = Some(index);
    }

    /// Up to where this witness may do without the log: what others might need is kept, but
    /// for what is more than any replica keeps for another.
    pub(crate) fn droppable(&self) -> u64 {
        if planted::is("witness-cuts") {
            return self.applied();
        }
        self.held.unwrap_or_default().min(self.applied()).max(self.start())
    }

    /// The log begins after that entry.
    pub(crate) fn start(&self) -> u64 {
        self.node.store().start()
    }

    /// The term of an entry that is applied and still in the log, or of the last one that is not
    /// in it any more.
    ///
    /// The library is not asked: of an entry that it does not know it says 0, and where a snapshot
    /// has just come it knows none.
    pub(crate) fn term_at(&self, index: u64) -> u64 {
        self.node.store().term(index).expect("what is applied and not cut off is there")
    }
}
