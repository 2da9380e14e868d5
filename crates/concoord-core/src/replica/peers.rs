//! How replicas greet each other, and what they say.

use std::net::SocketAddr;

use super::{Action, Phase, Replica};
use crate::limits::MEMBERS_MAX;
use crate::planted;
use crate::view::{ReplicaId, Standing, View};
use crate::wire::{PeerHello, PeerMessage, Purpose, Welcome};

/// Whether a replica of that lineage, with that view, is none of those that go on.
fn is_left_behind(view: &View, id: ReplicaId, at: &Standing) -> bool {
    at.lineage < view.lineage || !at.is_ahead_of(&view.standing()) && view.member(id).is_none()
}

/// Addresses to ask for a cluster: those that were found last, twice as many as it has members.
const FOUND_MAX: usize = 64;

impl Replica {
    /// The hello for connections of that purpose.
    #[must_use]
    pub fn hello(&self, purpose: Purpose) -> PeerHello {
        PeerHello {
            member: self.config.member.clone(),
            standing: self.view().map(View::standing),
            class: self.machine.interface().class.clone(),
            runtime: self.config.runtime.clone(),
            purpose,
        }
    }

    /// Answers the hello of a peer. [`Welcome::Peer`] accepts: messages of a
    /// [`Purpose::Stream`] or [`Purpose::Snapshot`] connection are then given to
    /// [`Replica::step`] as they come, from the member that the hello names.
    pub fn greet_peer(&mut self, hello: &PeerHello) -> Welcome {
        let welcome = self.judge(hello);
        if matches!(welcome, Welcome::Peer { .. }) {
            self.meet(&hello.member);
            let early = hello.standing.filter(|_| self.phase == Phase::Joining);
            if let Some(standing) = early.filter(|_| self.early.len() < MEMBERS_MAX) {
                self.early.insert(hello.member.id, standing);
            }
        }
        match &welcome {
            Welcome::Peer { .. } if self.must_answer(hello) => {
                if self.known.insert(hello.member.id, hello.member.clone()).is_none() {
                    self.actions.push(Action::Contacts);
                }
            }
            Welcome::Refused(reason) => {
                let text = format!("refused {}: {reason}", hello.member.address);
                self.note(self.gravity(hello.standing), text);
            }
            Welcome::NotYet(_) => self.follow_greeting(hello),
            Welcome::Peer { .. } | Welcome::Client { .. } | Welcome::Removed(_) => {}
        }
        welcome
    }

    /// Whether a peer that is in no view of ours must be able to hear from us: we are joining, or
    /// it is of a later view, and may be the one that leads us there, or that tells us that we are
    /// left behind: all others with the object that we know of may be gone.
    fn must_answer(&self, hello: &PeerHello) -> bool {
        let is_ahead = |view: &View| {
            hello.standing.is_some_and(|theirs| theirs.is_ahead_of(&view.standing()))
                && view.member(hello.member.id).is_none()
        };
        let is_joining = self.phase == Phase::Joining && hello.purpose == Purpose::Stream;
        self.known.len() < MEMBERS_MAX && (is_joining || self.view().is_some_and(is_ahead))
    }

    fn judge(&self, hello: &PeerHello) -> Welcome {
        let class = &self.machine.interface().class;
        if hello.class != *class {
            return Welcome::Refused(format!("this cluster hosts {class}, not {}", hello.class));
        }
        let both_have_it = !hello.member.witness && !self.is_witness();
        if both_have_it && hello.runtime != self.config.runtime {
            let (theirs, ours) = (&hello.runtime, &self.config.runtime);
            return Welcome::Refused(format!(
                "the object would behave differently: {theirs} there, {ours} here"
            ));
        }
        if hello.member.id == self.config.member.id {
            return Welcome::Refused("that is this replica itself".into());
        }
        if self.alone.is_some() {
            return Welcome::NotYet("this replica is about to go on alone".into());
        }
        let welcome =
            || Welcome::Peer { member: self.config.member.clone(), view: self.view().cloned() };
        match (self.view(), hello.standing) {
            (None, Some(theirs)) if self.phase == Phase::Joining => {
                self.other_than_joined(&theirs).map_or_else(welcome, Welcome::Refused)
            }
            (None, _) => Welcome::NotYet(self.not_ready().unwrap_or_default()),
            (Some(_), None) => welcome(),
            (Some(view), Some(theirs)) if theirs.is_twin_of(&view.standing()) => {
                let (own, other) = (self.config.member.address, hello.member.address);
                Welcome::Refused(format!(
                    "{own} and {other} went on apart from each other in cluster {}, and nothing \
                     is merged: stop the replicas of one side, and start them again with -b to \
                     join the other",
                    view.cluster
                ))
            }
            (Some(view), Some(theirs)) if view.cluster == theirs.cluster => {
                if hello.purpose == Purpose::Greet || planted::is("old-lineage-taken") {
                    welcome()
                } else if self.untold.iter().any(|(_, member)| member.id == hello.member.id) {
                    Welcome::NotYet("the disk has yet to confirm a change of the members".into())
                } else if is_left_behind(view, hello.member.id, &theirs) {
                    if self.is_witness() {
                        // Who hears of it gives up its copy of the object, and here is none.
                        Welcome::NotYet("it is removed, as one with the object will say".into())
                    } else {
                        Welcome::Removed(view.clone())
                    }
                } else if theirs.lineage > view.lineage {
                    // Its log goes on from where somebody went on alone. It will tell us so.
                    Welcome::NotYet("this replica was left behind and is about to join anew".into())
                } else {
                    welcome()
                }
            }
            (Some(view), Some(_)) if self.is_untouched(view) => {
                Welcome::NotYet("the replica joins the cluster that greets it".into())
            }
            (Some(view), Some(theirs)) => {
                let others = view.members.len() - 1;
                let why = if others > 0 {
                    format!("with {others} other members")
                } else if self.machine.state.sessions.opened() > 0 {
                    "and clients have used it".into()
                } else {
                    "which went on alone".into()
                };
                let (ours, theirs) = (view.cluster, theirs.cluster);
                Welcome::Refused(format!("this is cluster {ours}, not {theirs}, {why}"))
            }
        }
    }

    /// Ends the streams of those who would not be let in now.
    pub(super) fn judge_early(&mut self) {
        let view = &self.machine.state.view;
        let early = std::mem::take(&mut self.early).into_iter();
        let behind = early.filter(|(id, at)| is_left_behind(view, *id, at));
        self.actions.extend(behind.map(|(id, _)| Action::HangUp(id)));
    }

    /// Why a replica that joins has nothing to do with who stands there: it has spoken to others.
    fn other_than_joined(&self, theirs: &Standing) -> Option<String> {
        let joins = self
            .joins
            .filter(|joins| joins.cluster != theirs.cluster || joins.is_twin_of(theirs))?;
        Some(format!("this replica joins another cluster than yours, {}", joins.cluster))
    }

    /// How bad it is that somebody who stands there is refused: a cluster that is two is worse
    /// than a stranger.
    fn gravity(&self, theirs: Option<Standing>) -> tracing::Level {
        let ours = self.view().map(View::standing);
        if ours.zip(theirs).is_some_and(|(ours, theirs)| ours.is_twin_of(&theirs)) {
            tracing::Level::ERROR
        } else {
            tracing::Level::WARN
        }
    }

    /// Whether this cluster is this replica alone and nobody ever had a session with it.
    fn is_untouched(&self, view: &View) -> bool {
        view.members.len() == 1 && view.lineage == 0 && self.machine.state.sessions.opened() == 0
    }

    /// A cluster that this address belonged to is alive: a bootstrap that was started again
    /// joins it.
    fn follow_greeting(&mut self, hello: &PeerHello) {
        let fresh = match self.phase {
            // One that starts with a backup starts a cluster of its own.
            Phase::Greeting { .. } => self.config.restore.is_none(),
            Phase::Member => self.is_untouched(&self.machine.state.view),
            Phase::Joining | Phase::Leaving | Phase::Over => false,
        };
        if fresh && hello.standing.is_some() {
            let address = hello.member.address;
            self.restart(
                vec![address],
                format!("{address} knows this address as a member's; joining its cluster"),
            );
        }
    }

    /// Others may be at these addresses, too. Who joins asks them, and who comes back greets them
    /// once: all whom it knew may have been replaced.
    pub(super) fn found(&mut self, addresses: Vec<SocketAddr>) {
        let me = self.config.member.address;
        let mut addresses = addresses.into_iter().filter(|address| *address != me);
        if self.phase == Phase::Joining {
            let known = &mut self.config.bootstrap;
            for address in addresses {
                known.retain(|before| *before != address);
                known.push(address);
            }
            known.drain(..known.len().saturating_sub(FOUND_MAX));
        } else if let Some(view) = self.view() {
            let is_member = |address| view.members.iter().any(|(it, _)| it.address == address);
            let others: Vec<_> = addresses.by_ref().filter(|it| !is_member(*it)).collect();
            self.unasked.extend(others.into_iter().take(FOUND_MAX));
        }
        self.actions.push(Action::Contacts);
    }

    /// A replica answered our hello.
    pub(super) fn welcomed(&mut self, address: SocketAddr, welcome: Welcome) {
        self.answers(address);
        self.invited(address, &welcome);
        let told_to_ask = self.unasked.remove(&address);
        if told_to_ask {
            self.actions.push(Action::Contacts);
        }
        match welcome {
            Welcome::Peer { member, view } => {
                self.meet(&member);
                let standing = view.as_ref().map(View::standing);
                if self.phase == Phase::Joining
                    && let Some(standing) = standing
                {
                    if self.other_than_joined(&standing).is_some() {
                        let text = format!("{address} is of another cluster than the others of -b");
                        self.stop(Err(text));
                        return;
                    }
                    self.joins = Some(standing);
                }
                if self.phase == Phase::Joining && member.id != self.config.member.id {
                    self.known.insert(member.id, member);
                }
            }
            Welcome::Removed(view) if self.phase != Phase::Joining => self.removed_by(&view),
            Welcome::Refused(reason)
                if told_to_ask
                    || self.phase == Phase::Joining && self.config.bootstrap.contains(&address) =>
            {
                self.stop(Err(format!("{address} refuses this replica: {reason}")));
            }
            Welcome::Refused(reason) => {
                self.note(
                    tracing::Level::WARN,
                    format!("{address} refuses this replica: {reason}"),
                );
                self.declined.insert(address, self.now);
                self.actions.push(Action::Contacts);
            }
            Welcome::NotYet(reason) => {
                self.note(tracing::Level::DEBUG, format!("{address}: {reason}"));
            }
            Welcome::Removed(_) | Welcome::Client { .. } => {}
        }
    }

    pub(super) fn peer_reached(&mut self, id: ReplicaId) {
        if self.alone.is_some() {
            return;
        }
        self.hear_of(id);
        self.say_written(Some(id));
        if self.phase == Phase::Joining {
            self.actions.push(Action::Send(id, PeerMessage::Join(self.config.member.clone())));
        }
        // What was forwarded to it before may be lost.
        if self.leader() == Some(id) {
            self.clients.ask_again(self.config.member.id);
        }
    }

    /// A sign of life of that peer.
    fn hear_of(&mut self, id: ReplicaId) {
        self.watch.heard(id, self.now);
        self.proofs.heard(id);
    }

    pub(super) fn peer_lost(&mut self, id: ReplicaId) {
        self.consensus.unreachable(id);
        if self.consensus.leader() == Some(id) && self.view().is_some() {
            // What was forwarded may be lost, even if the same one goes on to lead.
            self.leader_seen = None;
            let me = self.config.member.id;
            // Witnesses come last: they would only hand on.
            let rank = (self.is_witness(), me);
            let others = self.machine.state.view.voters().filter(|voter| voter.id != id);
            let heirs = others.filter(|voter| (voter.witness, voter.id) < rank).count();
            self.consensus.leader_lost(u32::try_from(heirs).unwrap_or(u32::MAX));
        }
    }

    /// A peer speaks.
    pub(super) fn message(&mut self, from: ReplicaId, message: PeerMessage) {
        if self.alone.is_some() {
            return;
        }
        self.hear_of(from);
        match message {
            PeerMessage::Consensus(envelope) => {
                let ours = envelope.from() == from && envelope.to() == self.config.member.id;
                // A read that is not answered is asked for again.
                let held = envelope.asks_to_read() && self.is_in_doubt();
                if ours && !held && !matches!(self.phase, Phase::Greeting { .. }) {
                    self.consensus.receive(envelope, self.is_worker_full());
                }
            }
            PeerMessage::Held(index) => {
                if self.is_witness() && self.consensus.leader() == Some(from) {
                    self.consensus.held(index);
                }
            }
            // What concerns the object. Who sent it took this replica for a leader, and asks the
            // next one.
            PeerMessage::Forward(_)
            | PeerMessage::Heard(_)
            | PeerMessage::Failed(..)
            | PeerMessage::Ran(..)
                if self.is_witness() => {}
            PeerMessage::Forward(commands) => {
                self.followers_wait = true;
                self.clients.take_in(from, commands, self.now);
            }
            PeerMessage::Join(member) => self.newcomer(member),
            PeerMessage::Ails(ailment) => self.ails(from, ailment),
            PeerMessage::Run(step) => self.pace.has_run(from, step),
            PeerMessage::Written(lineage, number) => {
                // Before it is a member, too: this replica may be behind.
                if self.watch.written.len() < 2 * MEMBERS_MAX {
                    self.watch.written.insert(from, (lineage, number));
                }
            }
            PeerMessage::Leave => self.leaver(from),
            PeerMessage::Removed(view) => self.removed_by(&view),
            PeerMessage::Heard(sessions) => self.clients.hear_of(sessions, self.now),
            PeerMessage::Failed(session, sequence) => self.crashed(from, session, sequence),
            PeerMessage::Ran(session, sequence) => self.ran_elsewhere(session, sequence),
            PeerMessage::Order(order) => self.ordered(from, order),
            PeerMessage::Declined(order, reason) => self.declined(order, &reason),
        }
    }
}
