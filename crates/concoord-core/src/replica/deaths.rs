//! What proves that a member is gone, besides the end of its process.
//! `docs/internals/members.md` has the reasoning.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use super::members::MINDING_TICKS;
use super::{Action, Replica};
use crate::view::{Process, ReplicaId};

/// So many connections in a row must be refused, over so long, to be a proof: a service that is
/// being started again, or a route that changes, is none.
const REFUSALS_MIN: u32 = 5;
const REFUSALS_TIME_MIN: Duration = Duration::from_secs(1);

/// What is known of members that fell silent. Any word of theirs makes it void.
#[derive(Default)]
pub(super) struct Proofs {
    /// Members whose stream broke, and the connections that were refused since.
    lost: BTreeMap<ReplicaId, Refusals>,
    /// Those that are proven to be gone.
    gone: BTreeSet<ReplicaId>,
    /// The command that fences a peer, while it runs.
    fencing: Option<Fencing>,
    fences: u64,
    /// When the last such command failed.
    failed: Option<Duration>,
}

#[derive(Default)]
struct Refusals {
    count: u32,
    since: Option<Duration>,
}

struct Fencing {
    number: u64,
    id: ReplicaId,
    /// The peer spoke since: whatever the command says is not so.
    void: bool,
}

impl Proofs {
    pub(super) fn is_gone(&self, id: ReplicaId) -> bool {
        self.gone.contains(&id)
    }

    /// That member speaks.
    pub(super) fn heard(&mut self, id: ReplicaId) {
        self.lost.remove(&id);
        self.gone.remove(&id);
        if let Some(fencing) = self.fencing.as_mut().filter(|fencing| fencing.id == id) {
            fencing.void = true;
        }
    }

    /// A stream of that member broke.
    pub(super) fn stream_lost(&mut self, id: ReplicaId) {
        self.lost.entry(id).or_default();
    }

    /// Somebody answered where that member is dialled, or nobody refused.
    fn not_refused(&mut self, id: ReplicaId) {
        if let Some(refusals) = self.lost.get_mut(&id) {
            *refusals = Refusals::default();
        }
    }

    /// A connection to that member was refused; says whether it is one too many.
    fn refused(&mut self, id: ReplicaId, now: Duration) -> bool {
        let Some(refusals) = self.lost.get_mut(&id) else { return false };
        refusals.count += 1;
        let since = *refusals.since.get_or_insert(now);
        refusals.count >= REFUSALS_MIN && since + REFUSALS_TIME_MIN <= now
    }

    pub(super) fn retain(&mut self, is_member: impl Fn(ReplicaId) -> bool) {
        self.lost.retain(|id, _| is_member(*id));
        self.gone.retain(|id| is_member(*id));
    }
}

impl Replica {
    /// Nobody at that address could be spoken to; `refused` where its host says that nobody
    /// listens there.
    pub(super) fn unreached(&mut self, address: SocketAddr, refused: bool) {
        self.uninvited(address, refused);
        for id in self.members_at(address) {
            if !refused {
                self.proofs.not_refused(id);
            } else if self.proofs.refused(id, self.now)
                && self.config.refused_is_dead
                && !self.proofs.is_gone(id)
                && !self.is_watched(id)
            {
                let text = format!("{address} refuses connections: its replica is gone");
                self.note(tracing::Level::WARN, text);
                self.proven_gone(id);
            }
        }
    }

    /// Somebody answers at that address.
    pub(super) fn answers(&mut self, address: SocketAddr) {
        for id in self.members_at(address) {
            self.proofs.not_refused(id);
        }
    }

    fn members_at(&self, address: SocketAddr) -> Vec<ReplicaId> {
        let members = self.machine.state.view.members.iter().map(|(member, _)| member);
        members.filter(|member| member.address == address).map(|member| member.id).collect()
    }

    /// Whether the kernel tells here of the end of a process of that member, and has not yet.
    fn is_watched(&self, id: ReplicaId) -> bool {
        let Some(own) = &self.config.member.process else { return false };
        let here = |process: &Process| {
            process.boot == own.boot
                && process.namespace == own.namespace
                // Of its own end nobody is told.
                && process.pid != own.pid
        };
        self.watch.alive(id).any(here)
    }

    fn proven_gone(&mut self, id: ReplicaId) {
        self.proofs.gone.insert(id);
        self.peer_lost(id);
        self.go_solo_if_proven();
        self.mind_members();
    }

    /// Has the only other voter fenced once it is silent for too long and nothing else is in the
    /// way of going on alone. Of two that lost each other one waits for longer, so that they do
    /// not fence each other.
    pub(super) fn mind_fence(&mut self) {
        if !self.config.fences || !self.ticks.is_multiple_of(MINDING_TICKS) {
            return;
        }
        let Some(other) = self.only_other_voter().filter(|other| self.may_go_solo_without(*other))
        else {
            return;
        };
        let dead_timeout = self.config.dead_timeout;
        let patience =
            if self.config.member.id < other { dead_timeout } else { dead_timeout * 3 / 2 };
        let since = self.proofs.failed.unwrap_or_default().max(self.woke) + patience;
        let silent = !self.watch.heard_within(other, self.now, patience) && since <= self.now;
        if !silent || self.proofs.fencing.is_some() || self.watch.is_dead(other) {
            return;
        }
        let Some(member) = self.machine.state.view.member(other).cloned() else { return };
        self.proofs.fences += 1;
        let number = self.proofs.fences;
        self.proofs.fencing = Some(Fencing { number, id: other, void: false });
        self.note(tracing::Level::WARN, format!("{} is silent: fencing it", member.address));
        self.actions.push(Action::Fence(number, member));
    }

    /// The command that was to fence a peer has ended.
    pub(super) fn fenced(&mut self, number: u64, result: Result<(), String>) {
        let Some(fencing) = self.proofs.fencing.take_if(|fencing| fencing.number == number) else {
            return;
        };
        let view = &self.machine.state.view;
        let Some(address) = view.member(fencing.id).map(|member| member.address) else { return };
        match result {
            Ok(()) if fencing.void => {
                self.proofs.failed = Some(self.now);
                let text = format!(
                    "the fence command says that {address} is fenced, but it spoke meanwhile: \
                     it counts as alive"
                );
                self.note(tracing::Level::ERROR, text);
            }
            Ok(()) => {
                self.note(tracing::Level::WARN, format!("{address} is fenced"));
                self.proven_gone(fencing.id);
            }
            Err(reason) => {
                self.proofs.failed = Some(self.now);
                self.note(tracing::Level::ERROR, format!("{address} is not fenced: {reason}"));
            }
        }
    }
}
