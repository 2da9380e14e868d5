//! Who is a member: how newcomers become voters and how those who are gone cease to be.
//! `docs/internals/members.md` has the reasoning.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Action, Phase, Replica};
use crate::call::SessionId;
use crate::limits::MEMBERS_MAX;
use crate::planted;
use crate::session::Fate;
use crate::view::{Cause, Change, Member, Process, ReplicaId, Role, View};
use crate::wire::{Answer, Order, PeerMessage, Purpose, Who};

/// Ticks between two looks at what is overdue.
pub(super) const MINDING_TICKS: u64 = 20;

/// Ticks between two times of asking for membership, or for leave.
const ASKING_TICKS: u64 = 10;

/// How long somebody who lives at a lost address and refuses to be greeted is left alone.
const DECLINED: Duration = Duration::from_secs(5);

/// How quickly a learner must get through what was logged when it started, to be promoted.
const CATCH_UP_MAX: Duration = Duration::from_millis(200);

/// Processes that are remembered of one member; one that had more is not proven to be gone until
/// it is another member.
const PROCESSES_MAX: usize = 64;

/// How long a replica that can't run a call waits for the log once it hears that it ran.
const RAN_PATIENCE: Duration = Duration::from_secs(1);

/// What a replica notices of the others. None of this is replicated.
#[derive(Default)]
pub(super) struct Watch {
    heard: BTreeMap<ReplicaId, Duration>,
    /// The processes that spoke as each member here, and whether each is proven to be gone.
    processes: BTreeMap<ReplicaId, Vec<(Process, bool)>>,
    /// Members that this replica exchanged messages with while both were members.
    met: BTreeSet<ReplicaId>,
    /// Lineage and number of the view that each member is known to have written down.
    pub(super) written: BTreeMap<ReplicaId, (u64, u64)>,
    /// Members that are about to stop.
    leaving: BTreeSet<ReplicaId>,
    /// Since when what was heard is told apart from what may have been missed.
    listens: Duration,
    /// Newcomers that ask to be members.
    joining: BTreeMap<ReplicaId, (Member, Duration)>,
    /// What each learner has to reach, and when it was set that.
    goals: BTreeMap<ReplicaId, (u64, Duration)>,
    /// The call that each member's worker can't get past.
    crashes: BTreeMap<ReplicaId, (SessionId, u64)>,
    /// The one that the worker here can't get past.
    pub(super) stuck: Option<u64>,
    /// Since when others say that it ran there.
    ran_since: Option<Duration>,
}

impl Watch {
    pub(super) fn heard(&mut self, id: ReplicaId, now: Duration) {
        self.heard.insert(id, now);
        self.met.insert(id);
    }

    /// That process speaks as that member; says whether it is the first time.
    fn meet(&mut self, id: ReplicaId, process: &Process) -> bool {
        if self.processes.len() >= 2 * MEMBERS_MAX && !self.processes.contains_key(&id) {
            return false;
        }
        let known = self.processes.entry(id).or_default();
        let first = known.len() < PROCESSES_MAX && known.iter().all(|(known, _)| known != process);
        if first {
            known.push((process.clone(), false));
            // It was another process that was about to stop.
            self.leaving.remove(&id);
        }
        first
    }

    /// Whether every process that ever spoke as that member here is gone. A member that has
    /// been started again from its disk is one whose process lives, if it was ever met; and if it
    /// was not, it has decided nothing with this replica.
    pub(super) fn is_dead(&self, id: ReplicaId) -> bool {
        let known = self.processes.get(&id).map_or(&[][..], Vec::as_slice);
        !known.is_empty() && known.len() < PROCESSES_MAX && known.iter().all(|(_, gone)| *gone)
    }

    /// The processes of that member that are not known to be gone.
    pub(super) fn alive(&self, id: ReplicaId) -> impl Iterator<Item = &Process> {
        let known = self.processes.get(&id).into_iter().flatten();
        known.filter(|(_, gone)| !*gone).map(|(process, _)| process)
    }

    pub(super) fn heard_within(&self, id: ReplicaId, now: Duration, silence: Duration) -> bool {
        self.heard.get(&id).is_some_and(|heard| *heard + silence >= now)
    }

    /// Whether that member tells of a call that its worker can't get past.
    pub(super) fn tells_of_crash(&self, id: ReplicaId) -> bool {
        self.crashes.contains_key(&id)
    }

    /// A new leader has listened to nobody so far: everybody gets the whole time again.
    pub(super) fn new_leader(&mut self, now: Duration) {
        self.heard.values_mut().for_each(|heard| *heard = now);
        self.listens = now;
        self.goals.clear();
    }

    /// What there is to say while no leader is known.
    pub(super) fn no_quorum(
        &self,
        view: &View,
        me: ReplicaId,
        now: Duration,
        silence: Duration,
    ) -> String {
        let (near, far): (Vec<&Member>, Vec<&Member>) = view
            .voters()
            .partition(|voter| voter.id == me || self.heard_within(voter.id, now, silence));
        let voters = near.len() + far.len();
        if far.is_empty() || 2 * near.len() > voters {
            return "no leader at the moment, the replicas are electing one".into();
        }
        let silent: Vec<String> = far.iter().map(|member| member.address.to_string()).collect();
        let missing = voters / 2 + 1 - near.len();
        format!(
            "no quorum: {} of {voters} replicas can't be reached ({}); calls go on when {missing} of them can",
            far.len(),
            silent.join(", ")
        )
    }
}

impl Replica {
    pub(super) fn ask_to_join(&mut self) {
        if !self.ticks.is_multiple_of(ASKING_TICKS) {
            return;
        }
        let member = self.config.member.clone();
        let peers: Vec<ReplicaId> = self.known.keys().copied().collect();
        self.actions.extend(
            peers.into_iter().map(|id| Action::Send(id, PeerMessage::Join(member.clone()))),
        );
    }

    /// A newcomer asks to be a member.
    pub(super) fn newcomer(&mut self, member: Member) {
        if self.is_leader() {
            if self.watch.joining.len() < MEMBERS_MAX {
                self.watch.joining.insert(member.id, (member, self.now));
            }
            self.mind_members();
        } else if let Some(leader) = self.leader().filter(|_| self.view().is_some()) {
            self.actions.push(Action::Send(leader, PeerMessage::Join(member)));
        }
    }

    /// This replica is told to stop.
    pub(super) fn leave(&mut self) {
        // A learner asks too: it may have become a voter without knowing.
        let me = self.config.member.id;
        let has_others = self.machine.state.view.serving().any(|other| other.id != me);
        if self.phase != Phase::Member || !has_others {
            self.stop(Ok("stopped".into()));
            return;
        }
        self.phase = Phase::Leaving;
        self.ask_to_leave();
    }

    pub(super) fn ask_to_leave(&mut self) {
        if self.is_leader() {
            self.hand_over("this replica leaves");
        } else if let Some(leader) = self.leader() {
            self.actions.push(Action::Send(leader, PeerMessage::Leave));
        }
    }

    /// Hands the leadership to the voter with an object that is furthest, if there is another one.
    pub(super) fn hand_over(&mut self, reason: &str) {
        let me = self.config.member.id;
        let others = self.machine.state.view.serving().filter(|other| other.id != me);
        // Two that leave at once must not hand it to each other until their time is up.
        let stays = |id| !self.watch.leaving.contains(&id);
        let heir = others.max_by_key(|Member { id, .. }| {
            let health = Reverse(self.ailment_of(*id));
            (stays(*id), self.is_reachable(*id), health, self.consensus.matched(*id))
        });
        if let Some(Member { id, address, .. }) = heir.cloned() {
            self.note(tracing::Level::INFO, format!("{reason}: the leadership goes to {address}"));
            self.consensus.transfer(id);
        }
    }

    pub(super) fn leaver(&mut self, id: ReplicaId) {
        self.watch.leaving.insert(id);
        self.mind_members();
    }

    /// What a member does at each tick.
    pub(super) fn mind_cluster(&mut self) {
        if self.ticks.is_multiple_of(MINDING_TICKS) {
            self.mind_clients();
            self.renew_base();
            self.tell_witnesses();
            self.ask_to_settle();
            // Whoever else spoke to this replica is not worth remembering.
            let view = &self.machine.state.view;
            self.watch.heard.retain(|id, _| view.member(*id).is_some());
            self.watch.met.retain(|id| view.member(*id).is_some());
            self.proofs.retain(|id| view.member(id).is_some());
            self.tell_crash();
            let declined = self.declined.len();
            self.declined.retain(|_, since| *since + DECLINED >= self.now);
            if self.declined.len() < declined {
                self.actions.push(Action::Contacts);
            }
        }
        if self.phase == Phase::Leaving && self.ticks.is_multiple_of(ASKING_TICKS) {
            self.ask_to_leave();
        }
        if self.ticks.is_multiple_of(ASKING_TICKS) {
            self.mind_orders();
        }
        self.hand_on();
        self.rejoin_without_worker();
        self.mind_fence();
        self.go_solo_if_proven();
        self.mind_members();
    }

    /// Lets the leader make the next change of the members that is due.
    pub(super) fn mind_members(&mut self) {
        if !self.is_settled_leader() || self.consensus.is_changing() {
            return;
        }
        self.watch.joining.retain(|_, (_, asked)| *asked + Duration::from_secs(1) >= self.now);
        if let Some(change) =
            self.removal().or_else(|| self.promotion()).or_else(|| self.addition())
        {
            self.consensus.propose_change(&change);
        }
    }

    fn removal(&self) -> Option<Change> {
        let view = &self.machine.state.view;
        let me = self.config.member.id;
        let unwanted = view.members.iter().map(|(member, _)| member.id).find(|id| {
            let order = Order::Remove(Who::Id(*id));
            *id != me && self.orders.wants(order) && self.objection(order).is_none()
        });
        if let Some(id) = unwanted {
            return Some(Change::Dismiss(id));
        }
        let gone =
            view.members.iter().map(|(member, role)| (member, *role)).find(|(member, role)| {
                let id = member.id;
                let replaced = || {
                    self.watch
                        .joining
                        .values()
                        .any(|(new, _)| new.address == member.address && new.id != id)
                };
                id != me
                    && (self.watch.leaving.contains(&id)
                        && (*role == Role::Learner || self.others_can_do_without(id))
                        || self.is_gone(id) && !member.durable
                        || replaced()
                        || self.is_silent(id)
                            && (*role == Role::Learner || self.others_are_enough()))
            });
        gone.map(|(member, _)| Change::Remove(member.id))
    }

    fn is_silent(&self, id: ReplicaId) -> bool {
        let patience = if planted::is("removed-without-quorum") {
            self.config.election_timeout / 2
        } else {
            self.config.dead_timeout
        };
        !self.watch.heard_within(id, self.now, patience)
    }

    /// Whether those that are awake are a majority of a membership of three or more. Between two,
    /// silence proves nothing.
    fn others_are_enough(&self) -> bool {
        let voters: Vec<ReplicaId> =
            self.machine.state.view.voters().map(|voter| voter.id).collect();
        let awake = voters.iter().filter(|id| self.is_awake(**id)).count();
        voters.len() > 2 && 2 * awake > voters.len() || planted::is("removed-without-quorum")
    }

    /// Whether those that are awake are a majority of the voters that are left without that one.
    fn others_can_do_without(&self, id: ReplicaId) -> bool {
        let others: Vec<ReplicaId> =
            self.machine.state.view.voters().map(|voter| voter.id).collect();
        let others = others.into_iter().filter(|other| *other != id);
        let (awake, asleep): (Vec<_>, Vec<_>) = others.partition(|other| self.is_awake(*other));
        awake.len() > asleep.len()
    }

    /// Whether nothing is decided for now without the vote of a member that leaves, maybe for want
    /// of room: what it must still take in had better be what has it removed.
    pub(super) fn needs_leaver(&self) -> bool {
        let voters = || self.machine.state.view.voters().map(|voter| voter.id);
        let leaves = |id| self.watch.leaving.contains(&id);
        let stays = |id: &ReplicaId| !leaves(*id) && self.is_awake(*id);
        voters().any(leaves) && 2 * voters().filter(stays).count() <= voters().count()
    }

    /// Whether that member is this replica, or was heard just now. A removal that is in the log is
    /// decided once its entry has a majority, be it with the voice of the one that is removed: if
    /// one of the others is gone by then, those that are left may be too few for ever.
    fn is_awake(&self, id: ReplicaId) -> bool {
        let just_now = 2 * self.config.heartbeat;
        let listens = self.watch.listens + just_now < self.now;
        id == self.config.member.id || listens && self.watch.heard_within(id, self.now, just_now)
    }

    /// A learner that keeps up with the log counts from now on, unless it is to stay one.
    fn promotion(&mut self) -> Option<Change> {
        let view = &self.machine.state.view;
        // Beside one replica with an object a witness is one more that can fail, and no help.
        let has_use = view.serving().count() >= 2;
        let learners: Vec<(ReplicaId, bool)> = view
            .members
            .iter()
            .filter(|(_, role)| *role == Role::Learner)
            .map(|(member, _)| (member.id, member.learner || member.witness && !has_use))
            .collect();
        self.watch.goals.retain(|id, _| learners.iter().any(|(learner, _)| learner == id));
        let last = self.consensus.last();
        for (id, stays) in learners {
            let matched = self.consensus.matched(id);
            let (goal, since) = *self.watch.goals.entry(id).or_insert((last, self.now));
            if matched < goal || matched == 0 {
                continue;
            }
            if since + CATCH_UP_MAX >= self.now
                && self.watch.heard_within(id, self.now, CATCH_UP_MAX)
                && (!stays || self.orders.wants(Order::Promote(Who::Id(id))))
            {
                return Some(Change::Promote(id));
            }
            self.watch.goals.insert(id, (last, self.now));
        }
        None
    }

    /// By how many entries that learner is behind, if it does not keep up with the log.
    pub(super) fn lag(&self, id: ReplicaId) -> Option<u64> {
        let matched = self.consensus.matched(id);
        let overdue =
            |(goal, since): &(u64, Duration)| matched < *goal && *since + CATCH_UP_MAX < self.now;
        let lags = matched == 0 || self.watch.goals.get(&id).is_some_and(overdue);
        lags.then(|| self.consensus.last() - matched)
    }

    fn addition(&self) -> Option<Change> {
        let view = &self.machine.state.view;
        if view.members.len() >= MEMBERS_MAX {
            return None;
        }
        let mut newcomers = self.watch.joining.values().map(|(member, _)| member);
        newcomers.find(|member| view.member(member.id).is_none()).cloned().map(Change::Add)
    }

    /// That process of that peer is gone.
    pub(super) fn peer_dead(&mut self, id: ReplicaId, process: &Process) {
        let known = self.watch.processes.get_mut(&id);
        let Some((_, gone)) =
            known.and_then(|known| known.iter_mut().find(|(known, _)| known == process))
        else {
            return;
        };
        *gone = true;
        if !self.watch.is_dead(id) {
            return;
        }
        self.peer_lost(id);
        self.go_solo_if_proven();
        self.mind_members();
    }

    /// Goes on alone if the only other voter is proven to be gone. Sound because under two
    /// voters each decided entry is on both, so this one has all of them; and because the other
    /// can never speak again, so there is nobody to disagree with.
    pub(super) fn go_solo_if_proven(&mut self) {
        let Some(other) = self.only_other_voter().filter(|other| self.is_gone(*other)) else {
            return;
        };
        if self.may_go_solo_without(other) {
            let member = self.machine.state.view.member(other);
            let gone = member.map(|member| member.address.to_string()).unwrap_or_default();
            let text = format!("the replica at {gone} is gone, going on as the only one");
            self.go_alone(Cause::Proven, text);
        }
    }

    /// The other one of two voters, if this replica is the one.
    pub(super) fn only_other_voter(&self) -> Option<ReplicaId> {
        let me = self.config.member.id;
        let voters: Vec<ReplicaId> =
            self.machine.state.view.voters().map(|voter| voter.id).collect();
        match voters.as_slice() {
            [first, second] if *first == me => Some(*second),
            [first, second] if *second == me => Some(*first),
            _ => None,
        }
    }

    /// Whether nothing but the proof is missing to go on without the only other voter.
    pub(super) fn may_go_solo_without(&self, other: ReplicaId) -> bool {
        self.alone.is_none()
            // What was acknowledged went through its log, and is not in it any more.
            && (!self.is_witness() || planted::is("witness-alone"))
            && self.watch.met.contains(&other)
            && !self.consensus.may_grow()
            && self.has_written_members(other)
    }

    /// Whether that member has the membership as it is now written down. One that is durable and
    /// has not may come back, count by the membership before, and find somebody in it who was
    /// removed and has not heard of it either: together they would be a majority.
    fn has_written_members(&self, id: ReplicaId) -> bool {
        let view = &self.machine.state.view;
        let durable = view.member(id).is_some_and(|member| member.durable);
        let written = self.watch.written.get(&id).copied().unwrap_or_default();
        !durable || written >= (view.lineage, view.number) || planted::is("alone-past-a-sleeper")
    }

    /// What this replica has written down of the members, for the others to know.
    pub(super) fn say_written(&mut self, to: Option<ReplicaId>) {
        let view = &self.machine.state.view;
        if self.written != (view.lineage, view.number) {
            return;
        }
        let me = self.config.member.id;
        let members = view.members.iter().map(|(member, _)| member.id).filter(|id| *id != me);
        let to: Vec<ReplicaId> = members.filter(|id| to.is_none_or(|to| to == *id)).collect();
        let (lineage, number) = self.written;
        let message = PeerMessage::Written(lineage, number);
        self.actions.extend(to.into_iter().map(|id| Action::Send(id, message.clone())));
    }

    /// A view is this replica's now, and what it has asked to be persisted so far says so.
    pub(super) fn write_members(&mut self) {
        let view = &self.machine.state.view;
        let at = (view.lineage, view.number);
        match self.consensus.unpersisted_last() {
            Some(number) => self.unwritten = Some((number, at)),
            None => {
                self.written = at;
                self.say_written(None);
            }
        }
    }

    /// Whether that member is proven to be gone, one way or another.
    fn is_gone(&self, id: ReplicaId) -> bool {
        self.watch.is_dead(id)
            || self.proofs.is_gone(id)
            || planted::is("alone-without-proof") && self.is_silent(id)
    }

    /// Goes on as the only member.
    pub(super) fn go_alone(&mut self, cause: Cause, text: String) {
        let mut alone = self.machine.state.view.clone();
        alone.go_solo(self.config.member.clone(), self.branch(cause));
        self.note(tracing::Level::WARN, text);
        match self.consensus.go_solo(&alone) {
            None => self.went_solo(alone),
            // Nobody is told before it is safe: who hears of it gives up what it holds. Nor does
            // anybody hear anything else: the other one, if it is started again meanwhile, must
            // not take this for the replica that it shared everything with.
            Some(persist) => {
                self.persist(persist);
                self.alone = Some(alone);
                self.hang_up_on_others();
                self.actions.push(Action::Contacts);
            }
        }
    }

    fn hang_up_on_others(&mut self) {
        let me = self.config.member.id;
        let members = self.machine.state.view.members.iter().map(|(member, _)| member.id);
        self.actions.extend(members.filter(|id| *id != me).map(Action::HangUp));
    }

    pub(super) fn went_solo(&mut self, view: View) {
        self.hang_up_on_others();
        let before = std::mem::replace(&mut self.machine.state.view, view);
        self.rebase(None);
        // The log does not say that this happened: a state from before would mislead a newcomer.
        if let Some(freezing) = self.freezing.take() {
            self.disk.saving &= !freezing.save;
        }
        self.watch.joining.retain(|id, _| before.member(*id).is_none());
        self.view_changed();
    }

    pub(super) fn apply_change(&mut self, change: Change) {
        let removed = match &change {
            Change::Remove(id) | Change::Dismiss(id) => {
                self.machine.state.view.member(*id).cloned()
            }
            Change::Add(_) | Change::Promote(_) => None,
        };
        self.machine.state.view.apply(change);
        self.followers_wait = true;
        if let Some(member) = removed {
            let id = member.id;
            // What it asked for before it left.
            self.watch.joining.remove(&id);
            self.watch.leaving.remove(&id);
            self.known.remove(&id);
            match self.consensus.unpersisted_last() {
                Some(number) => self.untold.push((number, member)),
                None => self.tell_removed(&member),
            }
        }
        self.view_changed();
        // One that applies its own removal stays until a member says that it has applied it too,
        // by a message or when it is greeted: of two, the other one may need its vote or its copy
        // to come to know.
    }

    /// Tells those that they are removed. Whoever hears it gives up what it has, so that it must
    /// be beyond doubt here: of two, this one alone will know that it needs nobody else.
    pub(super) fn tell_removed(&mut self, member: &Member) {
        let id = member.id;
        if id != self.config.member.id && self.is_leader() {
            let view = self.machine.state.view.clone();
            self.actions.push(Action::Send(id, PeerMessage::Removed(view)));
        }
        self.actions.push(Action::HangUp(id));
    }

    /// A call ran here that the log has all others skip: their state is the one that counts.
    pub(super) fn rejoin_if_astray(&mut self) {
        if self.astray {
            self.rejoin("a call ran here that all others skip; joining again for their state");
        }
    }

    /// The others say that this replica is no member any more.
    pub(super) fn removed_by(&mut self, view: &View) {
        let mine = &self.machine.state.view;
        // Whoever is of an earlier lineage is left behind, even if it is a member again under the
        // id that it had: its log may hold what was never decided.
        if view.cluster != mine.cluster
            || planted::is("old-lineage-taken") && view.lineage > mine.lineage
            || mine.standing().is_ahead_of(&view.standing())
            || mine.standing().is_twin_of(&view.standing())
            || view.member(self.config.member.id).is_some() && view.lineage == mine.lineage
        {
            return;
        }
        self.end_orders();
        if self.phase == Phase::Leaving && self.rejoining.is_none() {
            self.stop(Ok("left the cluster".into()));
        } else if view.dismissed.contains(&self.config.member.id) {
            let reason = "an operator removed this replica from its cluster; started again with \
                          -b, it joins as a newcomer";
            self.note(tracing::Level::WARN, reason.into());
            self.stop(Ok(reason.into()));
        } else {
            let addresses = view.members.iter().map(|(member, _)| member.address).collect();
            let reason = "the others went on without this replica; joining again";
            self.restart(addresses, self.rejoining.unwrap_or(reason).into());
        }
    }

    /// That replica speaks, from the process that it says.
    pub(super) fn meet(&mut self, member: &Member) {
        if member.id == self.config.member.id {
            return;
        }
        // One that nobody can watch is never proven to be gone.
        let process = member.process.clone().unwrap_or_default();
        if self.watch.meet(member.id, &process) && member.process.is_some() {
            self.actions.push(Action::Watch(member.id, process));
        }
    }

    pub(super) fn view_changed(&mut self) {
        let view = self.machine.state.view.clone();
        if view.member(self.config.member.id).is_some() && self.phase == Phase::Joining {
            self.phase = Phase::Member;
            self.judge_early();
        }
        self.consensus.know_witnesses(&view);
        // Silence counts from when one could speak.
        for (member, _) in &view.members {
            self.watch.heard.entry(member.id).or_insert(self.now);
        }
        self.watch.heard.retain(|id, _| view.member(*id).is_some());
        self.watch.written.retain(|id, _| view.member(*id).is_some());
        self.watch.crashes.retain(|id, _| view.member(*id).is_some());
        let known = &self.known;
        let joining = &self.watch.joining;
        self.watch.processes.retain(|id, _| {
            view.member(*id).is_some() || known.contains_key(id) || joining.contains_key(id)
        });
        // Of one that is durable the view may name a process that it was long ago.
        for (member, _) in view.members.iter().filter(|(member, _)| !member.durable) {
            self.meet(member);
        }
        self.known.retain(|id, _| view.member(*id).is_none());
        self.declined.clear();
        let members = view.serving().map(|member| member.address).collect();
        self.clients.tell_all(&Answer::Members(members), &mut self.actions);
        self.actions.push(Action::View(view));
        self.actions.push(Action::Contacts);
        self.write_members();
        self.mind_orders();
    }

    /// The worker can't run that call.
    pub(super) fn host_failed(&mut self, number: u64) {
        let Some((session, sequence)) = self.machine.hosted(number) else {
            return self.replay_failed();
        };
        let text = format!("call {sequence} of session {session} crashed the object twice");
        self.note(tracing::Level::ERROR, text);
        (self.watch.stuck, self.watch.ran_since) = (Some(number), None);
        self.tell_crash();
    }

    /// Workers die of a call that has run here, and that they are to run again. Its reply may be with
    /// the client: it can't be skipped.
    fn replay_failed(&mut self) {
        // It was one of the state before.
        if self.pace.is_restoring() {
            return;
        }
        let reason = "each dies of a call that has run here before; another replica's state ends \
                      that, or starting this one again from its disk";
        self.pace.is_lost(reason.into(), self.now);
    }

    /// Says that this replica can't run a call, again and again until something is decided: what
    /// was said may be lost, and who leads may change.
    fn tell_crash(&mut self) {
        let machine = &self.machine;
        self.watch.crashes.retain(|_, (session, sequence)| {
            matches!(machine.fate(*session, *sequence), Fate::Unknown | Fate::Ran)
        });
        let stuck = self.watch.stuck.and_then(|number| self.machine.hosted(number));
        let Some((session, sequence)) = stuck else {
            self.watch.stuck = None;
            return;
        };
        let me = self.config.member.id;
        let failed = PeerMessage::Failed(session, sequence);
        let others: Vec<ReplicaId> = self
            .machine
            .state
            .view
            .serving()
            .map(|other| other.id)
            .filter(|id| *id != me)
            .collect();
        self.actions.extend(others.into_iter().map(|id| Action::Send(id, failed.clone())));
        self.crashed(me, session, sequence);
    }

    /// That call crashed the object of that replica. When a majority says so, and nobody who
    /// could have run it is left to say otherwise, the log decides that none ever will.
    pub(super) fn crashed(&mut self, by: ReplicaId, session: SessionId, sequence: u64) {
        let me = self.config.member.id;
        if matches!(self.machine.fate(session, sequence), Fate::Ran | Fate::Forgotten) {
            if by != me {
                self.actions.push(Action::Send(by, PeerMessage::Ran(session, sequence)));
            }
            return;
        }
        // A witness has nothing to say of it: it runs no calls.
        let voters: Vec<ReplicaId> =
            self.machine.state.view.serving().map(|voter| voter.id).collect();
        if !voters.contains(&by) {
            return;
        }
        self.watch.crashes.insert(by, (session, sequence));
        let failed = |id| self.watch.crashes.get(id) == Some(&(session, sequence));
        let majority = 2 * voters.iter().filter(|id| failed(id)).count() > voters.len();
        let all = voters.iter().all(|id| failed(id) || *id != me && self.is_silent(*id));
        if self.is_leader() && majority && all {
            self.watch.crashes.retain(|_, crashed| *crashed != (session, sequence));
            self.clients.enqueue_skip(session, sequence);
        }
    }

    /// Another replica ran a call that crashes here: its state is the one that counts.
    pub(super) fn ran_elsewhere(&mut self, session: SessionId, sequence: u64) {
        let stuck = self.watch.stuck.and_then(|number| self.machine.hosted(number));
        let since = *self.watch.ran_since.get_or_insert(self.now);
        // Those who have forgotten how it ended say so too: the log may be about to skip it here.
        if stuck == Some((session, sequence)) && since + RAN_PATIENCE <= self.now {
            self.rejoin("a call crashed here that ran elsewhere; joining again for their state");
        }
    }

    /// Leaves, to join again as another: several that did so at once, without leaving, could
    /// take the majority with them.
    pub(super) fn rejoin(&mut self, reason: &'static str) {
        if self.phase == Phase::Member && self.rejoining.is_none() {
            self.note(tracing::Level::WARN, reason.into());
            self.rejoining = Some(reason);
            self.phase = Phase::Leaving;
            self.ask_to_leave();
        }
    }
}

impl Replica {
    /// Whom the shell keeps a connection to, dialling again when it breaks.
    #[must_use]
    pub fn contacts(&self) -> Vec<super::Contact> {
        use super::Contact;
        let me = &self.config.member;
        let stream = |member: &Member| Contact {
            address: member.address,
            id: Some(member.id),
            purpose: Purpose::Stream,
        };
        let mut contacts: BTreeSet<Contact> = BTreeSet::new();
        if self.alone.is_some() {
            return Vec::new();
        }
        if let Some(view) = self.view() {
            contacts.extend(view.members.iter().map(|(member, _)| stream(member)));
            let lost = view.lost.iter().filter(|address| !self.declined.contains_key(address));
            let asked = self.unasked.iter().copied();
            contacts.extend(
                lost.copied().chain(asked).chain(self.orders.invited()).map(|address| Contact {
                    address,
                    id: None,
                    purpose: Purpose::Greet,
                }),
            );
            contacts.extend(self.known.values().map(stream));
            contacts.extend(self.untold.iter().map(|(_, member)| stream(member)));
        } else if self.phase == Phase::Joining {
            let bootstrap = self.config.bootstrap.iter();
            contacts.extend(bootstrap.map(|address| Contact {
                address: *address,
                id: None,
                purpose: Purpose::Stream,
            }));
            let bootstrap = |member: &&Member| !self.config.bootstrap.contains(&member.address);
            contacts.extend(self.known.values().filter(bootstrap).map(stream));
        }
        contacts
            .into_iter()
            .filter(|contact| contact.address != me.address && contact.id != Some(me.id))
            .collect()
    }
}
