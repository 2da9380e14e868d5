//! Replicas whose disk or worker does not keep up: of no use to clients, or to others as leaders.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Action, Phase, Replica};
use crate::view::ReplicaId;
use crate::wire::{Ailment, PeerMessage};

/// How often it is complained of, and a leader tries to hand on.
const REMIND: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Ailing {
    /// When it was last complained of.
    told: Option<Duration>,
    /// What other members complained of, and when.
    others: BTreeMap<ReplicaId, (Ailment, Duration)>,
}

impl Replica {
    /// Why this replica is of no use for now, though nothing is wrong with its cluster.
    pub(super) fn ailment(&self) -> Option<(Ailment, String)> {
        let slow = || self.disk_is_slow().or_else(|| self.worker_is_behind());
        let without = self.has_no_worker().map(|reason| (Ailment::NoWorker, reason));
        without.or_else(|| Some((Ailment::Slow, slow()?)))
    }

    /// What that replica said lately that it ails from.
    pub(super) fn ailment_of(&self, id: ReplicaId) -> Option<Ailment> {
        let (ailment, told) = self.ailing.others.get(&id)?;
        (*told + 2 * REMIND > self.now).then_some(*ailment)
    }

    /// That member says what it ails from. One without a worker must know how far its leader's is.
    pub(super) fn ails(&mut self, id: ReplicaId, ailment: Ailment) {
        if self.machine.state.view.member(id).is_none() {
            return;
        }
        self.ailing.others.insert(id, (ailment, self.now));
        if ailment == Ailment::NoWorker && self.is_leader() {
            let run = PeerMessage::Run(self.machine.last_run());
            self.actions.push(Action::Send(id, run));
        }
    }

    /// A leader that ails hands on to a voter that is better off: it could neither answer its
    /// clients nor be of use to others. Where none is, nobody is helped by one leader after the
    /// other.
    pub(super) fn mind_ailment(&mut self) {
        let Some((ailment, reason)) = self.ailment() else {
            self.ailing.told = None;
            return;
        };
        if self.ailing.told.is_some_and(|told| told + REMIND > self.now) {
            return;
        }
        self.ailing.told = Some(self.now);
        let Self { config, machine, ailing, .. } = self;
        ailing.others.retain(|id, _| machine.state.view.member(*id).is_some());
        let others = machine.state.view.serving().map(|other| other.id);
        let others: Vec<_> = others.filter(|id| *id != config.member.id).collect();
        let tell = |id: &ReplicaId| Action::Send(*id, PeerMessage::Ails(ailment));
        self.actions.extend(others.iter().map(tell));
        let is_better = |id: &ReplicaId| {
            self.is_reachable(*id) && self.ailment_of(*id).is_none_or(|theirs| theirs < ailment)
        };
        let leads = self.is_leader() && self.phase == Phase::Member;
        if leads && others.iter().any(is_better) {
            self.hand_over(&reason);
        }
        self.note(tracing::Level::WARN, reason);
    }

    /// Whether that member was heard of so lately that it may well lead.
    pub(super) fn is_reachable(&self, id: ReplicaId) -> bool {
        self.watch.heard_within(id, self.now, self.config.election_timeout)
    }
}
