//! Replicas whose disk or worker does not keep up: of no use to clients, or to others as leaders.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Action, Phase, Replica};
use crate::view::ReplicaId;
use crate::wire::PeerMessage;

/// How often it is complained of, and a leader tries to hand on.
const REMIND: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(super) struct Ailing {
    /// When it was last complained of.
    told: Option<Duration>,
    /// Other members that complained, and when.
    others: BTreeMap<ReplicaId, Duration>,
}

impl Replica {
    /// Why this replica is of no use for now, though nothing is wrong with its cluster.
    pub(super) fn ailment(&self) -> Option<String> {
        self.disk_is_slow().or_else(|| self.worker_is_behind())
    }

    /// Whether that replica said lately that it is of no use.
    pub(super) fn is_ailing(&self, id: ReplicaId) -> bool {
        self.ailing.others.get(&id).is_some_and(|told| *told + 2 * REMIND > self.now)
    }

    /// That member says that it is of no use.
    pub(super) fn ails(&mut self, id: ReplicaId) {
        if self.machine.state.view.member(id).is_some() {
            self.ailing.others.insert(id, self.now);
        }
    }

    /// A leader that ails hands on to a voter that does not: it could neither answer its clients
    /// nor be of use to others. Where all ail, nobody is helped by one leader after the other.
    pub(super) fn mind_ailment(&mut self) {
        let Some(reason) = self.ailment() else {
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
        let tell = |id: &ReplicaId| Action::Send(*id, PeerMessage::Ails);
        self.actions.extend(others.iter().map(tell));
        let leads = self.is_leader() && self.phase == Phase::Member;
        if leads && !others.iter().all(|id| self.is_ailing(*id)) {
            self.hand_over(&reason);
        }
        self.note(tracing::Level::WARN, reason);
    }
}
