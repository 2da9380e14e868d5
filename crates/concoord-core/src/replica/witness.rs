//! Witnesses: members that vote and keep the log, and have no copy of the object.
//! `docs/internals/members.md` has the reasoning.
//!
//! A witness can be elected, and sometimes it must be: where it alone has the last of what was
//! acknowledged. It then brings a replica with an object up to date and hands the leadership on.
//! Meanwhile nobody takes it for a leader: it puts nothing into the log, and is asked for nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;

use super::{Action, Replica};
use crate::call::ConnectionId;
use crate::durable::Snapshot;
use crate::view::{Change, Member, ReplicaId, View};
use crate::wire::{Answer, PeerMessage, Request};

/// How often a witness that finds nobody to hand the leadership to says so.
const REMIND: Duration = Duration::from_secs(5);

/// What a witness remembers besides its log.
#[derive(Default)]
pub(super) struct Witness {
    /// The view where the log on its disk begins, and that place.
    base: Option<(u64, View)>,
    /// What has changed it since: the changes that are applied, and their places.
    changes: BTreeMap<u64, Change>,
    /// When it last said that it leads.
    told: Option<Duration>,
}

impl Witness {
    /// The view after the entry at `index`, which becomes where the log begins.
    fn view_at(&mut self, index: u64) -> Option<View> {
        let (at, view) = self.base.as_mut()?;
        while let Some(change) = self.changes.first_entry().filter(|next| *next.key() <= index) {
            view.apply(change.remove());
        }
        *at = index;
        Some(view.clone())
    }
}

impl Replica {
    pub(super) const fn is_witness(&self) -> bool {
        self.config.member.witness
    }

    /// Who takes calls, orders and newcomers.
    pub(super) fn leader(&self) -> Option<ReplicaId> {
        self.consensus.leader().filter(|_| self.leading_witness().is_none())
    }

    /// Whether this replica takes calls, orders and newcomers.
    pub(super) fn is_leader(&self) -> bool {
        self.consensus.is_leader() && !self.is_witness()
    }

    /// Whether it knows besides what is decided.
    pub(super) fn is_settled_leader(&self) -> bool {
        self.consensus.is_settled_leader() && !self.is_witness()
    }

    /// The witness that was elected, if one was.
    fn leading_witness(&self) -> Option<&Member> {
        let leader = self.consensus.leader()?;
        self.machine.state.view.member(leader).filter(|leader| leader.witness)
    }

    /// Why calls wait, where a witness leads.
    pub(super) fn led_by_witness(&self) -> Option<String> {
        let witness = self.leading_witness()?.address;
        let lacking: Vec<String> = self
            .machine
            .state
            .view
            .serving()
            .filter(|member| member.id != self.config.member.id)
            .filter_map(|member| {
                let address = member.address;
                if !self.watch.heard_within(member.id, self.now, self.config.election_timeout) {
                    Some(format!("{address} can't be reached"))
                } else if self.consensus.is_leader() && !self.has_a_start(member.id) {
                    Some(format!("{address} lacks what this witness has no more"))
                } else {
                    None
                }
            })
            .collect();
        let why = if lacking.is_empty() { "" } else { ": " };
        Some(format!(
            "the witness at {witness} leads until a replica with the object has all that was \
             acknowledged{why}{}",
            lacking.join(", ")
        ))
    }

    /// Whether this leader can bring that replica up to date by its log alone.
    fn has_a_start(&self, id: ReplicaId) -> bool {
        let matched = self.consensus.matched(id);
        matched > 0 && matched >= self.consensus.start()
    }

    /// A witness that leads brings the voter with an object that is furthest up to date, and hands
    /// the leadership on to it.
    pub(super) fn hand_on(&mut self) {
        if !self.is_witness() || !self.consensus.is_leader() {
            self.witness.told = None;
            return;
        }
        let near = |member: &&Member| {
            self.watch.heard_within(member.id, self.now, self.config.election_timeout)
                && self.has_a_start(member.id)
        };
        let heirs = self.machine.state.view.serving().filter(near);
        if let Some(heir) =
            heirs.map(|member| member.id).max_by_key(|id| self.consensus.matched(*id))
        {
            self.consensus.transfer(heir);
        }
        let since = *self.witness.told.get_or_insert(self.now);
        if since + REMIND <= self.now {
            self.witness.told = Some(self.now);
            if let Some(reason) = self.led_by_witness() {
                self.note(tracing::Level::WARN, reason);
            }
        }
    }

    /// Tells witnesses what they need not keep for others.
    pub(super) fn tell_witnesses(&mut self) {
        if !self.is_settled_leader() {
            return;
        }
        let view = &self.machine.state.view;
        let held = view.serving().map(|member| self.consensus.matched(member.id)).min();
        let held = PeerMessage::Held(held.unwrap_or_default());
        let witnesses = view.members.iter().filter(|(member, _)| member.witness);
        self.actions.extend(witnesses.map(|(member, _)| Action::Send(member.id, held.clone())));
    }

    /// Gives witnesses that need a snapshot one.
    pub(super) fn give_view(&mut self) {
        if self.consensus.bare_snapshot_wanted() && !self.is_witness() {
            let state = encode(&self.machine.state.view);
            self.consensus.offer_bare(state);
        }
    }

    /// Becomes the state that a witness was given, or had written down.
    pub(super) fn restore_view(&mut self, snapshot: &Snapshot) -> Result<(), String> {
        if snapshot.object.is_some() {
            return Err("a witness has no place for an object: start it without --witness".into());
        }
        let view: View = postcard::from_bytes(&snapshot.state)
            .map_err(|error| format!("the snapshot of a witness can't be read: {error}"))?;
        self.machine.state.view = view.clone();
        self.witness.base = Some((snapshot.index, view));
        self.witness.changes.clear();
        Ok(())
    }

    /// That change is applied: where a witness has its log begin, it must know who the members were.
    pub(super) fn note_change(&mut self, index: u64, change: &Change) {
        if self.is_witness() && self.config.member.durable {
            self.witness.changes.insert(index, change.clone());
        }
    }

    /// Has the log on a witness's disk begin later, when enough was written since it last did.
    pub(super) fn shorten_log(&mut self) {
        let index = self.consensus.droppable();
        let before = self.witness.base.as_ref().map_or(u64::MAX, |(index, _)| *index);
        if !self.is_save_due() || index <= before {
            return;
        }
        if let Some(view) = self.witness.view_at(index) {
            let (term, state) = (self.consensus.term_at(index), encode(&view));
            (self.disk.bytes, self.disk.state_bytes) = (0, state.len());
            self.disk.saving = true;
            self.actions.push(Action::Save(Snapshot { index, term, state, object: None }));
        }
    }

    /// What a client asks of a witness that only a replica with an object can do.
    pub(super) fn send_away(&mut self, connection: ConnectionId, request: &Request) {
        let reason = "this replica is a witness and has no object: name another one";
        if *request == Request::Backup {
            let answer = Answer::NoBackup(reason.into());
            self.actions.push(Action::Answer(connection, answer));
        } else {
            self.actions.push(Action::Disconnect(connection));
        }
    }
}

/// The state that a witness is given: the view and nothing else.
fn encode(view: &View) -> Bytes {
    postcard::to_stdvec(view).expect("memory takes all bytes").into()
}
