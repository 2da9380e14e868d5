//! Agreement on the log: the only place that names the consensus library.
//!
//! The library is `raft` (a port of etcd's), which does no I/O of its own. What we know of its
//! faults, and how we keep clear of them:
//! - messages between two replicas must stay in order (raft-rs #555): the shell keeps one stream
//!   in each direction;
//! - the context of a read must not be used twice (etcd #20418): `Consensus::read` counts;
//! - it draws election timeouts from the thread's random numbers: each is set anew from the
//!   replica's seed, so that a simulated run can be repeated;
//! - its protobuf parser (RUSTSEC-2024-0437) never sees bytes of the network: messages travel as
//!   [`Envelope`]s.

mod cut;
mod envelope;
mod logging;
mod memory;
mod random;
mod safety;
mod witness;

use std::time::Duration;

use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, Message, MessageType};
use raft::{ProgressState, RawNode, SnapshotStatus, StateRole};

pub(crate) use self::cut::Cut;
use self::cut::members_of;
pub use self::envelope::Envelope;
use self::envelope::{change_entry, change_of, conf_change, record_of};
use self::logging::ToTracing;
use self::memory::MemoryLog;
pub(crate) use self::random::Random;
use self::safety::Safety;
pub(crate) use self::safety::{Recovery, Replayed};
use crate::durable::{Persist, Record, RecordKind, Snapshot};
use crate::limits::ENTRY_BYTES_MAX;
use crate::planted;
use crate::view::{Change, ReplicaId, View};

/// The index of the entry that a cluster's log starts after. Not 0, so that every newcomer needs
/// a snapshot: the first members are in no entry.
pub(crate) const GENESIS: u64 = 1;

/// Bytes of entries that a leader proposes ahead of their decision; past this it proposes no
/// more until some are decided, and the calls wait.
const UNDECIDED_BYTES_MAX: u64 = 64 << 20;

/// Appends that travel to one follower at once.
const INFLIGHT_MAX: usize = 256;

/// How long, in ticks, and with how many tries a follower looks for a new leader at once after
/// its stream to the old one broke; then the ordinary timeout is left.
const HINTED_TRIES: u32 = 12;

/// The part of a replica that agrees with the others.
pub(crate) struct Consensus {
    node: RawNode<MemoryLog>,
    timing: Timing,
    random: Random,
    ticks: u64,
    hint: Option<Hint>,
    reads: u64,
    /// What the followers know to be decided, at least: it travelled with an append.
    told: u64,
    /// What is written down and not known to be safe yet; `None` in memory mode.
    safety: Option<Safety>,
    /// The last entry that was given to be applied, itself or in a snapshot.
    given: u64,
    /// The state that belongs to the snapshot which the library has taken in.
    arriving: Option<Snapshot>,
    /// Of a witness: up to where all replicas with an object have the log, as a leader said.
    held: Option<u64>,
}

/// Timeouts, in ticks.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    pub(crate) election: usize,
    pub(crate) heartbeat: usize,
}

impl Timing {
    pub(crate) fn new(tick: Duration, election: Duration, heartbeat: Duration) -> Self {
        let ticks = |time: Duration| {
            usize::try_from(time.as_nanos() / tick.as_nanos().max(1)).unwrap_or(usize::MAX)
        };
        let heartbeat = ticks(heartbeat).max(1);
        Self { election: ticks(election).max(heartbeat + 1), heartbeat }
    }
}

/// The leader's stream broke: campaign in so many ticks, so many times.
struct Hint {
    rank: u32,
    ticks: u32,
    tries: u32,
}

/// What was decided.
pub(crate) enum Decided {
    /// The payload of an entry; empty for the one that a new leader starts with.
    Entry { index: u64, term: u64, data: Bytes },
    /// A change of the members; `None` where the library found it impossible.
    Change { index: u64, change: Option<Change> },
    /// Everything so far, as a state.
    Snapshot(Snapshot),
}

impl Decided {
    fn of(mut entry: Entry) -> Self {
        match change_of(&entry) {
            Some(change) => Self::Change { index: entry.index, change: Some(change) },
            None => Self::Entry { index: entry.index, term: entry.term, data: entry.take_data() },
        }
    }
}

/// What follows from what was taken in, in the order to be carried out.
#[derive(Default)]
pub(crate) struct Progress {
    /// To be made safe; then [`Consensus::persisted`].
    pub(crate) persist: Option<Persist>,
    pub(crate) messages: Vec<Envelope>,
    pub(crate) decided: Vec<Decided>,
    /// Reads, by what [`Consensus::read`] gave out, that may be answered at that index.
    pub(crate) reads: Vec<(u64, u64)>,
}

impl Consensus {
    /// Of a replica that starts a cluster of itself, whose log begins after the entry of
    /// that index and term.
    pub(crate) fn bootstrap(
        id: ReplicaId,
        timing: Timing,
        seed: u64,
        durable: bool,
        start: (u64, u64),
    ) -> Self {
        let members = ConfState { voters: vec![id.0], ..ConfState::default() };
        let log = MemoryLog::after(start.0, start.1, members);
        let safety = durable.then(Safety::default);
        let mut this = Self::over(log, id, timing, seed, start.0, safety);
        this.campaign();
        this
    }

    /// Of a replica that waits to be made a member.
    pub(crate) fn join(id: ReplicaId, timing: Timing, seed: u64, durable: bool) -> Self {
        Self::over(MemoryLog::default(), id, timing, seed, 0, durable.then(Safety::default))
    }

    /// Of a durable replica that was started again, with everything applied that it knew to be
    /// decided: `view` is what that led to.
    pub(crate) fn recover(
        recovery: Recovery,
        view: &View,
        id: ReplicaId,
        timing: Timing,
        seed: u64,
    ) -> Self {
        let applied = recovery.decided();
        let log = recovery.into_log(members_of(view));
        let mut this = Self::over(log, id, timing, seed, applied, Some(Safety::default()));
        if view.voters().all(|voter| voter.id == id) {
            this.campaign();
        }
        this
    }

    fn over(
        log: MemoryLog,
        id: ReplicaId,
        timing: Timing,
        seed: u64,
        applied: u64,
        safety: Option<Safety>,
    ) -> Self {
        let config = raft::Config {
            id: id.0,
            election_tick: timing.election,
            // Room for the patience of a witness, see `settle`.
            max_election_tick: 3 * timing.election,
            heartbeat_tick: timing.heartbeat,
            applied,
            max_size_per_msg: 4 * ENTRY_BYTES_MAX as u64,
            max_inflight_msgs: INFLIGHT_MAX,
            check_quorum: true,
            pre_vote: true,
            // Batched, all entries of a turn would travel in one message: more than a frame holds.
            batch_append: false,
            // See `tell`.
            skip_bcast_commit: true,
            max_uncommitted_size: UNDECIDED_BYTES_MAX,
            max_committed_size_per_ready: 4 * ENTRY_BYTES_MAX as u64,
            ..raft::Config::default()
        };
        let logger = slog::Logger::root(ToTracing, slog::o!());
        let node =
            RawNode::new(&config, log, &logger).expect("the configuration is valid for any timing");
        let mut this = Self {
            node,
            timing,
            random: Random(seed),
            ticks: 0,
            hint: None,
            reads: 0,
            told: 0,
            safety,
            given: applied,
            arriving: None,
            held: None,
        };
        this.settle();
        this
    }

    /// Goes on alone, with the log as it is: the caller has proof that the only other voter is
    /// gone. Under two voters every decided entry is on both, so nothing decided is lost. `view`
    /// is that of the one that is left. Returns what must be safe before anything else is done
    /// here; [`Consensus::persisted`] then ends the wait.
    pub(crate) fn go_solo(&mut self, view: &View) -> Option<Persist> {
        let (index, term) = (self.applied(), self.node.raft.term + 1);
        let Some(safety) = self.safety.as_mut() else {
            self.start_solo(term);
            return None;
        };
        let payload = postcard::to_stdvec(view).expect("memory takes all bytes").into();
        let record = Record { kind: RecordKind::Alone, index, term, payload };
        Some(safety.ask_alone(record))
    }

    fn start_solo(&mut self, term: u64) {
        let id = self.id();
        let applied = self.applied();
        let mut log = std::mem::take(self.node.mut_store());
        log.withdraw_offer();
        log.members = ConfState { voters: vec![id.0], ..ConfState::default() };
        log.hard_state.term = term;
        log.hard_state.vote = id.0;
        let (reads, safety) = (self.reads, self.safety.take());
        *self = Self::over(log, id, self.timing, self.random.next(), applied, safety);
        self.reads = reads;
        self.campaign();
    }

    /// Whether it waits for its being alone to be safe: until then nothing may happen.
    pub(crate) fn is_about_to_be_alone(&self) -> bool {
        self.safety.as_ref().is_some_and(|safety| safety.alone.is_some())
    }

    /// What was asked to be persisted up to that number is safe. [`Consensus::progress`] says
    /// what follows.
    pub(crate) fn persisted(&mut self, number: u64) {
        let Some(safety) = self.safety.as_mut() else { return };
        let ready = safety.persisted(number);
        if let Some((_, term)) = safety.alone.take_if(|(alone, _)| *alone <= number) {
            safety.forget_readies();
            self.start_solo(term);
        } else if let Some(ready) = ready {
            self.node.on_persist_ready(ready);
            self.advance_apply();
        }
        self.settle();
    }

    /// Has the state written down that this replica's log begins with.
    pub(crate) fn persist_first(&mut self, snapshot: Snapshot) -> Option<Persist> {
        Some(self.safety.as_mut()?.ask_first(snapshot))
    }

    /// The last [`Persist::number`] that is not known to be safe.
    pub(crate) fn unpersisted_last(&self) -> Option<u64> {
        self.safety.as_ref()?.latest()
    }

    /// The first [`Persist::number`] that is not known to be safe.
    pub(crate) fn unpersisted(&self) -> Option<u64> {
        self.safety.as_ref()?.oldest()
    }

    pub(crate) fn tick(&mut self) {
        if self.is_about_to_be_alone() {
            return;
        }
        self.ticks += 1;
        // Whoever can't stand counts the time too: a voter that does not know yet that it is one
        // would otherwise hold for ever to a leader that has stepped down.
        if self.may_campaign() || !self.node.raft.promotable() {
            self.node.tick();
        }
        if !self.is_leader() || !self.is_short_of_log() {
            self.node.mut_store().withdraw_offer();
            self.node.mut_store().withdraw_bare();
        }
        if self.leader().is_some() {
            self.hint = None;
        }
        let due = self.hint.as_mut().is_some_and(|hint| {
            hint.ticks = hint.ticks.saturating_sub(1);
            hint.ticks == 0
        });
        if due {
            self.campaign_on_hint();
        }
        self.settle();
    }

    /// The stream to the leader broke. `rank` is this replica's place among those who may
    /// succeed it: the first campaigns at once, the next gives it time.
    ///
    /// Forgetting the leader ends the lease that makes voters ignore each other, so a pre-vote
    /// passes exactly when a majority lost the leader; one cut link disturbs nobody.
    pub(crate) fn leader_lost(&mut self, rank: u32) {
        let term = self.node.raft.term;
        self.node.raft.become_follower(term, raft::INVALID_ID);
        self.hint = Some(Hint { rank, ticks: 0, tries: HINTED_TRIES });
        if rank == 0 {
            self.campaign_on_hint();
        } else if let Some(hint) = self.hint.as_mut() {
            hint.ticks = 4 * rank;
        }
        self.settle();
    }

    fn campaign_on_hint(&mut self) {
        let Some(mut hint) = self.hint.take() else { return };
        if hint.tries > 0 && self.node.raft.state != StateRole::Candidate {
            self.campaign();
        }
        if hint.tries > 0 {
            hint.tries -= 1;
            // The first goes on quickly, the others stay out of each other's way.
            hint.ticks = 2 + 5 * hint.rank + u32::try_from(self.random.below(2)).unwrap_or(0);
            self.hint = Some(hint);
        }
    }

    /// Whether an election may start. The library lets those who are no voters stand too, and
    /// does not stand it if they win. It takes it for granted that a snapshot which it
    /// took in is safe then, and that one who elects itself has all of its log on disk.
    fn may_campaign(&self) -> bool {
        let (alone, start) =
            (self.node.store().members.voters == [self.node.raft.id], self.node.store().start());
        self.is_leader()
            || self.node.raft.promotable()
                && self.node.raft.raft_log.applied >= start
                && (!alone || self.unpersisted().is_none())
    }

    fn campaign(&mut self) {
        if !self.may_campaign() {
            return;
        }
        // Refused only while a change of the members is undecided; the timeout will ask again.
        drop(self.node.campaign());
        self.settle();
    }

    /// Takes in a message of a peer; but none that brings more of the log where that is full, which
    /// a snapshot would help.
    pub(crate) fn receive(&mut self, mut envelope: Envelope, is_log_full: bool) {
        if self.is_about_to_be_alone() {
            return;
        }
        let asks_vote = envelope.is_vote_request();
        let state = envelope.take_snapshot();
        let Some(mut message) = envelope.unpack() else { return };
        let is_full = self.safety.as_ref().is_some_and(Safety::is_full);
        // An append alone does: what asks for a read has an entry too.
        let brings_log =
            message.get_msg_type() == MessageType::MsgAppend && !message.entries.is_empty();
        if is_log_full && brings_log || is_full && (brings_log || message.has_snapshot()) {
            // As if it were lost: its sender tries again.
            return;
        }
        if asks_vote && planted::is("stale-log-elected") {
            message.log_term = u64::MAX;
        }
        if !self.is_plausible(&message) {
            tracing::warn!(?message, "dropped what no replica sends");
            return;
        }
        // Whoever is asked is a voter, even one that has not heard of it yet: without its vote
        // those who made it one could be stuck. Only one without any log knows nothing.
        if !asks_vote || self.last() > 0 {
            // An error says that the message is stale or its sender no member: nothing follows.
            drop(self.node.step(message));
        }
        let taken = self.node.raft.raft_log.unstable_snapshot().as_ref();
        let taken = taken.map(|snapshot| snapshot.get_metadata().index);
        if state.as_ref().is_some_and(|state| Some(state.index) == taken) {
            self.arriving = state;
        }
        self.settle();
    }

    /// Whether a replica can have sent that: the library ends the process over what it takes for
    /// impossible.
    #[expect(clippy::wildcard_enum_match_arm, reason = "the library trusts nothing in the others")]
    fn is_plausible(&self, message: &Message) -> bool {
        let log = &self.node.raft.raft_log;
        let numbered = |(at, entry): (u64, &Entry)| {
            message.index.checked_add(at) == Some(entry.index)
                && (entry.index > log.committed
                    || log.term(entry.index).is_ok_and(|term| term == entry.term)
                    || entry.index < log.first_index())
        };
        match message.get_msg_type() {
            // Of a leader that was: it is only told so.
            MessageType::MsgAppend if (1..self.term()).contains(&message.term) => true,
            MessageType::MsgAppend => {
                let known = log.term(log.committed).unwrap_or(0);
                (message.index < log.committed || message.log_term >= known)
                    && (1..).zip(message.entries.iter()).all(numbered)
            }
            MessageType::MsgAppendResponse => {
                !self.is_leader() || message.index <= log.last_index() || message.reject
            }
            MessageType::MsgTimeoutNow => self.may_campaign(),
            MessageType::MsgHeartbeat => message.commit <= log.last_index(),
            MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => message.entries.len() == 1,
            MessageType::MsgSnapshot => {
                let members = message.get_snapshot().get_metadata().get_conf_state();
                let (voters, learners) = (members.get_voters(), members.get_learners());
                !voters.is_empty() && !learners.iter().any(|learner| voters.contains(learner))
            }
            _ => true,
        }
    }

    /// Proposes an entry; false if it can't be now.
    pub(crate) fn propose(&mut self, data: Vec<u8>) -> bool {
        let proposed = self.node.propose(Vec::new(), data).is_ok();
        if proposed {
            self.told = self.committed();
        }
        proposed
    }

    /// Proposes a change of the members, at the leader and while no other is undecided.
    pub(crate) fn propose_change(&mut self, change: &Change) {
        if planted::is("removed-without-quorum") && matches!(change, Change::Remove(_)) {
            self.remove_all();
        }
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.set_entries(vec![change_entry(change)].into());
        // If it is dropped, whoever wanted it proposes it again.
        drop(self.node.raft.step(message));
    }

    /// Whoever else is a voter is none any more, as if that were for one alone to say.
    fn remove_all(&mut self) {
        let me = self.id().0;
        let others = self.node.store().members.voters.clone();
        for id in others.into_iter().filter(|id| *id != me) {
            let change = conf_change(&change_entry(&Change::Remove(ReplicaId(id))));
            if let Ok(members) = self.node.apply_conf_change(&change) {
                self.node.mut_store().members = members;
            }
        }
    }

    /// Tells the followers what is decided, unless an append that they are sent anyway does.
    ///
    /// Left to itself the library sends each of them an empty append for each entry, answered by
    /// another message: half of all traffic between replicas, for news that the next entry
    /// brings as well. So it is told not to, and this is called when a follower's clients wait
    /// for it, when the membership changed, and at each tick.
    pub(crate) fn tell(&mut self) {
        let committed = self.committed();
        if self.is_leader() && self.told < committed {
            self.told = committed;
            self.node.raft.bcast_append();
        }
    }

    /// Asks from which index on a read that starts now may be answered. The number given out
    /// comes back in [`Progress::reads`], or never.
    pub(crate) fn read(&mut self) -> u64 {
        self.reads += 1;
        // The leader tells the answers to all replicas' questions apart by this alone: an old
        // one to another replica's must not pass for one to ours.
        self.node.read_index([self.id().0, self.reads].map(u64::to_le_bytes).concat());
        self.reads
    }

    /// What follows, until nothing does. The caller carries each out whole before it asks again.
    pub(crate) fn progress(&mut self) -> Option<Progress> {
        let released = self.safety.as_mut().map(Safety::release).unwrap_or_default();
        if self.is_about_to_be_alone() || released.is_empty() && !self.node.has_ready() {
            return None;
        }
        let mut progress = Progress { messages: released, ..Progress::default() };
        if self.node.has_ready() {
            self.take_ready(&mut progress);
        }
        Some(progress)
    }

    fn take_ready(&mut self, progress: &mut Progress) {
        // Now, and not with what is decided here: while that is carried out it has its place in
        // the log, where a snapshot may have to stand.
        let applied = self.node.raft.raft_log.applied;
        let needed = self.held.or_else(|| self.needed());
        self.node.mut_store().trim(applied, needed);
        let mut ready = self.node.ready();
        progress.reads.extend(ready.take_read_states().into_iter().filter_map(|read| {
            let number = read.request_ctx.get(8..)?;
            Some((u64::from_le_bytes(number.try_into().ok()?), read.index))
        }));
        let mut messages = ready.take_messages();
        messages.append(&mut ready.take_persisted_messages());
        let mut gone = Vec::new();
        let pack = |message| self.pack(message).map_err(|to| gone.push(to)).ok();
        let messages = messages.into_iter().filter_map(pack).collect();
        if !ready.snapshot().is_empty() {
            self.node.mut_store().restore(ready.snapshot());
            let state = self.arriving.take().expect("it came with its message");
            self.given = state.index;
            progress.decided.push(Decided::Snapshot(state));
        }
        let decided = ready.take_committed_entries();
        self.node.mut_store().append(ready.entries());
        if let Some(hard_state) = ready.hs() {
            self.node.mut_store().hard_state = hard_state.clone();
        }
        let number = ready.number();
        let is_safe = if let Some(safety) = self.safety.as_mut() {
            let (snapshot, records) = written_down(&ready, progress.decided.first());
            let changes = decided.iter().any(|entry| change_of(entry).is_some());
            let hard_state = self.node.raft.hard_state();
            progress.persist = safety.ask(number, snapshot, records, (&hard_state, changes));
            safety.send(messages);
            progress.messages.append(&mut safety.release());
            safety.oldest().is_none()
        } else {
            progress.messages.extend(messages);
            true
        };
        self.node.advance_append_async(ready);
        if is_safe {
            self.node.on_persist_ready(number);
        }
        for to in gone {
            self.node.report_snapshot(to, SnapshotStatus::Failure);
        }
        self.given = decided.last().map_or(self.given, |entry| entry.index);
        progress.decided.extend(decided.into_iter().map(|entry| self.decide(entry)));
        self.advance_apply();
        self.settle();
    }

    /// Tells the library what is applied. It wants to hear of what is safe only.
    fn advance_apply(&mut self) {
        let to = self.given.min(self.node.raft.raft_log.persisted);
        if to > self.node.raft.raft_log.applied {
            self.node.advance_apply_to(to);
        }
    }

    /// The message as it travels; for a snapshot that is offered no more, who was to get it.
    fn pack(&self, message: Message) -> Result<Envelope, u64> {
        let (to, index) = (message.to, message.get_snapshot().get_metadata().index);
        let mut envelope = Envelope::pack(message);
        if envelope.has_snapshot() {
            let offer = self.node.store().offered(to, index).ok_or(to)?;
            envelope.put_snapshot(offer.state.clone(), offer.object.clone());
        }
        Ok(envelope)
    }

    /// Up to where the peer has the log, or will have it with its snapshot, that needs the most
    /// of what this leader keeps.
    fn needed(&self) -> Option<u64> {
        let me = self.node.raft.id;
        let start = self.node.store().start();
        let needed = self
            .node
            .raft
            .prs()
            .iter()
            .filter(|(id, _)| **id != me)
            .map(|(_, peer)| match peer.state {
                ProgressState::Snapshot => peer.pending_snapshot,
                ProgressState::Probe => peer.matched.max(peer.next_idx - 1),
                ProgressState::Replicate => peer.matched,
            })
            .filter(|has| *has >= start)
            .min();
        needed.filter(|_| self.is_leader())
    }

    /// Whether some peer needs a snapshot, or is getting one.
    fn is_short_of_log(&self) -> bool {
        let start = self.node.store().start();
        let short =
            |peer: &raft::Progress| peer.state == ProgressState::Snapshot || peer.next_idx <= start;
        self.node.raft.prs().iter().any(|(id, peer)| *id != self.node.raft.id && short(peer))
    }

    fn decide(&mut self, entry: Entry) -> Decided {
        let index = entry.index;
        let Some(change) = change_of(&entry) else { return Decided::of(entry) };
        let change = match self.node.apply_conf_change(&conf_change(&entry)) {
            Ok(mut members) => {
                if planted::is("learner-counted")
                    && self.is_leader()
                    && let Change::Add(member) = &change
                {
                    members = self.node.apply_conf_change(&promoted(member.id)).unwrap_or(members);
                }
                self.node.mut_store().members = members;
                Some(change)
            }
            Err(error) => {
                tracing::error!(%error, ?change, "a change of the members can't be made, on no replica");
                None
            }
        };
        Decided::Change { index, change }
    }

    /// Messages to that peer were lost.
    pub(crate) fn unreachable(&mut self, id: ReplicaId) {
        self.node.report_unreachable(id.0);
    }

    /// Hands the leadership to that voter.
    pub(crate) fn transfer(&mut self, to: ReplicaId) {
        self.node.transfer_leader(to.0);
    }

    pub(crate) fn id(&self) -> ReplicaId {
        ReplicaId(self.node.raft.id)
    }

    pub(crate) fn leader(&self) -> Option<ReplicaId> {
        Some(self.node.raft.leader_id).filter(|id| *id != raft::INVALID_ID).map(ReplicaId)
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    /// Whether this leader has decided an entry of its own term: before that it knows not what
    /// else is decided.
    pub(crate) fn is_settled_leader(&self) -> bool {
        self.is_leader() && self.node.raft.commit_to_current_term()
    }

    pub(crate) fn term(&self) -> u64 {
        self.node.raft.term
    }

    pub(crate) fn committed(&self) -> u64 {
        self.node.raft.raft_log.committed
    }

    pub(crate) fn applied(&self) -> u64 {
        self.given
    }

    pub(crate) fn last(&self) -> u64 {
        self.node.raft.raft_log.last_index()
    }

    /// Entries that are proposed and not known to be decided.
    pub(crate) fn undecided(&self) -> u64 {
        self.last() - self.committed()
    }

    /// Whether a change of the members is proposed and not yet applied, as this leader knows.
    pub(crate) fn is_changing(&self) -> bool {
        self.node.raft.has_pending_conf()
    }

    /// Whether the log holds a change, not applied here, that gives others a say: a member
    /// that has applied it may have decided entries which this one has not.
    pub(crate) fn may_grow(&self) -> bool {
        let me = self.id();
        self.node.store().tail(self.applied()).filter_map(change_of).any(|change| match change {
            Change::Promote(_) => true,
            Change::Remove(id) | Change::Dismiss(id) => id == me,
            Change::Add(_) => false,
        })
    }

    /// Takes the changes of the members that are not decided here out of the log, with all that
    /// follows them: whoever is about to go on alone can't make them. False if one is decided and
    /// has yet to be applied.
    pub(crate) fn drop_changes(&mut self) -> bool {
        let first =
            self.node.store().tail(self.applied()).filter(|entry| change_of(entry).is_some());
        let Some(first) = first.map(|entry| entry.index).last() else { return true };
        let undecided = first > self.committed();
        if undecided {
            self.node.mut_store().truncate(first - 1);
        }
        undecided
    }

    /// How far that peer's log is known to equal this leader's.
    pub(crate) fn matched(&self, id: ReplicaId) -> u64 {
        self.node.raft.prs().get(id.0).map_or(0, |progress| progress.matched)
    }

    /// Puts an election timeout of ours in place of the one that the library drew: it follows
    /// from the seed, the term and the time alone, however often the library draws. A witness lets
    /// the others go first.
    fn settle(&mut self) {
        let election = self.timing.election;
        let epoch = self.ticks / (2 * election as u64);
        let mut random = Random(self.random.0 ^ self.node.raft.term.rotate_left(32) ^ epoch);
        let patience = if self.held.is_some() { 2 * election } else { election };
        let timeout = patience + random.below(election);
        self.node.raft.set_randomized_election_timeout(timeout);
    }
}

/// What makes that learner a voter, for the library.
fn promoted(id: ReplicaId) -> raft::eraftpb::ConfChangeV2 {
    conf_change(&change_entry(&Change::Promote(id)))
}

/// The state and the entries of that, to be written down.
fn written_down(
    ready: &raft::Ready,
    restored: Option<&Decided>,
) -> (Option<Snapshot>, Vec<Record>) {
    let mut records = Vec::with_capacity(ready.entries().len() + 2);
    let mut snapshot = None;
    if let Some(Decided::Snapshot(restored)) = restored {
        let (index, term) = (restored.index, restored.term);
        records.push(Record { kind: RecordKind::Restored, index, term, payload: Bytes::new() });
        snapshot = Some(restored.clone());
    }
    records.extend(ready.entries().iter().map(record_of));
    (snapshot, records)
}

#[cfg(test)]
mod tests;
