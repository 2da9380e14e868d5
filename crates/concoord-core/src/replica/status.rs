//! How a replica is, for clients, operators and the shell.

use super::{Phase, Replica};
use crate::view::Role;
use crate::wire::Status;

impl Replica {
    /// Why calls would not be answered now; `None` if they would.
    pub(super) fn not_ready(&self) -> Option<String> {
        match self.phase {
            Phase::Greeting { .. } => return Some("the replica is starting".into()),
            Phase::Joining => return Some("the replica is joining its cluster".into()),
            Phase::Over => return Some("the replica is stopping".into()),
            Phase::Member | Phase::Leaving => {}
        }
        let view = &self.machine.state.view;
        let me = &self.config.member;
        match view.role(me.id) {
            Some(Role::Voter) => {}
            Some(Role::Learner) if me.learner => {}
            Some(Role::Learner) if me.witness && view.serving().count() < 2 => {
                return Some("the witness counts once two replicas with the object do".into());
            }
            Some(Role::Learner) => {
                return Some("the replica is catching up with its cluster".into());
            }
            None => return Some("the replica is no member any more".into()),
        }
        let ailment = self.ailment().map(|(_, reason)| reason);
        let reason = ailment.or_else(|| self.led_by_witness()).or_else(|| self.log_stands_still());
        if reason.is_some() {
            return reason;
        }
        if self.is_settled_leader() {
            return None;
        }
        match self.consensus.leader() {
            Some(leader) if leader == self.config.member.id => {
                Some("the replica has just become the leader".into())
            }
            Some(leader)
                if self.watch.heard_within(leader, self.now, self.config.election_timeout) =>
            {
                None
            }
            _ => Some(self.watch.no_quorum(
                view,
                self.config.member.id,
                self.now,
                self.config.election_timeout,
            )),
        }
    }

    /// The latest term that it knows of.
    #[must_use]
    pub fn term(&self) -> u64 {
        self.consensus.term()
    }

    /// Whether it leads, as far as it knows.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.consensus.is_leader()
    }

    /// The last entry that it has applied.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.consensus.applied()
    }

    /// How it is. `connections` is filled in by the shell.
    #[must_use]
    pub fn status(&self) -> Status {
        // A witness has nothing to digest.
        let digest = if self.is_witness() { 0 } else { self.machine.digest() };
        Status { digest, ..self.glance() }
    }

    /// The same without the digest, which takes as long as the object is large: to be had often.
    #[must_use]
    pub fn glance(&self) -> Status {
        let reason = self.not_ready();
        let applied = self.consensus.applied();
        Status {
            replica: self.config.member.clone(),
            class: self.machine.interface().class.clone(),
            view: self.view().cloned(),
            leader: self.consensus.leader(),
            term: self.consensus.term(),
            committed: self.consensus.committed(),
            applied: self.machine.finished(applied),
            digest: 0,
            sessions: self.machine.state.sessions.len() as u64,
            connections: 0,
            calls: self.machine.state.calls,
            calls_per_second: self.rate.per_second,
            ready: reason.is_none(),
            reason: reason.unwrap_or_default(),
            uptime_ms: self
                .started
                .map_or(0, |started| u64::try_from((self.now - started).as_millis()).unwrap_or(0)),
            names: String::new(),
        }
    }
}
