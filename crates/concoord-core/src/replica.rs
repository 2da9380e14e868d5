//! A replica: what reaches it goes in by [`Replica::step`], what follows comes out of
//! [`Replica::turn`].

mod ailing;
mod backup;
mod calls;
mod deaths;
mod disk;
mod event;
mod members;
mod orders;
mod pace;
mod peers;
mod queue;
mod reads;
mod settling;
mod status;
mod witness;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use self::ailing::Ailing;
use self::backup::Backups;
use self::calls::Clients;
use self::deaths::Proofs;
use self::disk::{Disk, written};
pub use self::event::{Action, Config, Contact, Event, WorkerAction};
use self::members::Watch;
use self::orders::Orders;
use self::pace::Pace;
use self::settling::Settling;
use self::witness::Witness;
use crate::consensus::{
    Consensus, Cut, Decided, GENESIS, Progress, Random, Recovery, Replayed, Timing,
};
use crate::durable::{Recovered, Snapshot};
use crate::log::{Command, Times, in_parts, unpack};
pub use crate::machine::Hosting;
use crate::machine::{Effect, Frozen, Machine};
use crate::planted;
use crate::view::{Branch, Cause, ClusterId, Member, ReplicaId, Standing, View};
use crate::wire::{Answer, Done, HostedCall, PeerMessage};

/// How long calls gather while a durable leader has an entry undecided: longer than disks of one
/// room take, and little beside the way to another continent, which they need not wait for.
const GATHER_MAX: Duration = Duration::from_millis(10);

/// How long the log may take to bring the time to objects before it is asked again.
const WAKE_AGAIN: Duration = Duration::from_secs(1);

/// How much of the objects' time a change of leaders may cost, milliseconds.
const CLOCK_KEPT_MS: u64 = 10_000;

/// How far this replica has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A bootstrap, listening whether a cluster knows it.
    Greeting { until: Option<Duration> },
    /// Asking to be made a member.
    Joining,
    /// A member.
    Member,
    /// A member that is about to leave.
    Leaving,
    /// [`Action::Stop`] or [`Action::Restart`] was said.
    Over,
}

/// A replica, whole but for its sockets, clock and disk.
pub struct Replica {
    config: Config,
    phase: Phase,
    consensus: Consensus,
    machine: Machine,
    clients: Clients,
    watch: Watch,
    proofs: Proofs,
    orders: Orders,
    witness: Witness,
    /// What the replicas that it would join stand for, once one said so.
    joins: Option<Standing>,
    /// Those whom a joining replica can ask, or who are of a later view than this one: they are
    /// in none of ours and yet must be answered.
    known: BTreeMap<ReplicaId, Member>,
    /// Whose streams were taken before this replica could judge them, and where they stood.
    early: BTreeMap<ReplicaId, Standing>,
    /// A call has run here that no other replica has run.
    astray: bool,
    /// Why it leaves, if it is to join again.
    rejoining: Option<&'static str>,
    /// A snapshot that the worker is writing.
    freezing: Option<Freezing>,
    settling: Settling,
    backups: Backups,
    disk: Disk,
    pace: Pace,
    ailing: Ailing,
    /// Lineage and number of the view that is written down here, and of a later one with what must
    /// be safe for that.
    written: (u64, u64),
    unwritten: Option<(u64, (u64, u64))>,
    /// Members that are removed, and do not hear so before that is safe here.
    untold: Vec<(u64, Member)>,
    /// The view with which it goes on alone, as soon as that is safe.
    alone: Option<View>,
    /// What waits for the end of the turn.
    actions: Vec<Action>,
    /// At the leader: something is on its way that another replica's clients wait for.
    followers_wait: bool,
    /// When clients' calls were last put into the log.
    proposed_at: Duration,
    ticks: u64,
    now: Duration,
    /// When this process last went on after having been stopped.
    woke: Duration,
    started: Option<Duration>,
    wall_ms: u64,
    serving: bool,
    leader_seen: Option<(ReplicaId, u64)>,
    /// Where a replica that was started again was told to find its cluster, and has not looked yet.
    unasked: BTreeSet<SocketAddr>,
    /// Lost addresses where somebody else lives, and since when that is known.
    declined: BTreeMap<SocketAddr, Duration>,
    rate: Rate,
    /// At a leader: what the objects' clock showed, and when that was; of which term.
    clock: (u64, Duration),
    clock_term: u64,
    /// What was due when the log was last asked to bring the time, and when that was.
    woken: Option<(u64, Duration)>,
}

struct Freezing {
    number: u64,
    cut: Cut,
    state: Frozen,
    /// It is to be kept on the disk.
    save: bool,
}

/// Calls a second, over the last full second.
#[derive(Default)]
struct Rate {
    since: Duration,
    calls: u64,
    per_second: u64,
}

impl Replica {
    /// A replica that is about to start or to join.
    #[must_use]
    pub fn new(config: Config, hosting: Hosting) -> Self {
        let timing = Timing::new(config.tick, config.election_timeout, config.heartbeat);
        let phase = if config.bootstrap.is_empty() {
            Phase::Greeting { until: None }
        } else {
            Phase::Joining
        };
        let mut random = Random(config.seed);
        // Stands for "none": a joiner gets the cluster's with its snapshot.
        let cluster = ClusterId(random.next());
        let Member { id, durable, witness, .. } = config.member;
        let mut consensus = Consensus::join(id, timing, random.next(), durable);
        if witness {
            consensus.be_witness();
        }
        Self {
            phase,
            consensus,
            machine: Machine::new(
                hosting,
                View::first(cluster, config.member.clone(), Branch::default()),
            ),
            clients: Clients::default(),
            watch: Watch::default(),
            proofs: Proofs::default(),
            orders: Orders::default(),
            witness: Witness::default(),
            joins: None,
            known: BTreeMap::new(),
            early: BTreeMap::new(),
            astray: false,
            rejoining: None,
            freezing: None,
            written: (0, 0),
            unwritten: None,
            untold: Vec::new(),
            settling: Settling::default(),
            backups: Backups::default(),
            alone: None,
            pace: Pace::default(),
            ailing: Ailing::default(),
            disk: Disk { due: config.snapshot_bytes, ..Disk::default() },
            actions: Vec::new(),
            followers_wait: false,
            proposed_at: Duration::ZERO,
            ticks: 0,
            now: Duration::ZERO,
            woke: Duration::ZERO,
            started: None,
            wall_ms: 0,
            serving: false,
            leader_seen: None,
            unasked: BTreeSet::new(),
            declined: BTreeMap::new(),
            rate: Rate::default(),
            clock: (0, Duration::ZERO),
            clock_term: 0,
            woken: None,
            config,
        }
    }

    /// Has it join a cluster, even if nobody to ask is known yet: it never starts one.
    #[must_use]
    pub fn joining(mut self) -> Self {
        self.phase = Phase::Joining;
        self
    }

    /// Whether it looks for its cluster.
    #[must_use]
    pub fn is_joining(&self) -> bool {
        self.phase == Phase::Joining
    }

    /// A durable replica that was started again, with what it had written down.
    ///
    /// # Errors
    /// If that makes no sense: a sentence for people.
    pub fn recover(config: Config, hosting: Hosting, recovered: Recovered) -> Result<Self, String> {
        let bytes = written(&recovered.records);
        let (recovery, snapshot) = Recovery::new(recovered)?;
        let mut this = Self::new(config, hosting);
        (this.disk.bytes, this.disk.state_bytes) = (bytes, snapshot.size());
        this.disk.due = this.disk.due.max(snapshot.size());
        this.restore(&snapshot)?;
        for step in recovery.replayed() {
            match step {
                Replayed::Decided(decided) => this.apply(decided),
                Replayed::Alone(view) => {
                    if view.lineage > this.machine.state.view.lineage {
                        this.machine.state.view = view;
                        this.rebase(None);
                    }
                }
            }
        }
        let Config { member, tick, election_timeout, heartbeat, seed, .. } = &this.config;
        let timing = Timing::new(*tick, *election_timeout, *heartbeat);
        let view = &this.machine.state.view;
        if view.voters().next().is_none() {
            return Err(
                "what is written down names no replica that votes: `concoord rebuild` sets \
                        the data folder aside"
                    .into(),
            );
        }
        let seed = Random(*seed).next();
        this.consensus = Consensus::recover(recovery, view, member.id, timing, seed);
        if this.is_witness() {
            this.consensus.be_witness();
        }
        this.keep_log();
        // What it led to besides was for those who were there then.
        this.actions.retain(|action| matches!(action, Action::Worker(_)));
        this.freezing = None;
        this.disk.saving = false;
        this.phase = Phase::Member;
        this.unasked = this.config.bootstrap.iter().copied().collect();
        this.view_changed();
        this.rejoin_if_astray();
        Ok(this)
    }

    /// Takes an event in.
    pub fn step(&mut self, event: Event) {
        if self.phase == Phase::Over {
            return;
        }
        match event {
            Event::Tick => self.tick(),
            Event::Request(connection, request) => self.request(connection, request),
            Event::Disconnected(connection) => {
                self.clients.disconnected(connection);
                self.orders.disconnected(connection);
                self.backups.disconnected(connection);
            }
            Event::Message(from, message) => self.message(from, message),
            Event::PeerReached(id) => self.peer_reached(id),
            Event::PeerLost(id) => {
                self.proofs.stream_lost(id);
                self.peer_lost(id);
            }
            Event::PeerDead(id, process) => self.peer_dead(id, &process),
            Event::Unreached(address, refused) => self.unreached(address, refused),
            Event::Fenced(number, result) => self.fenced(number, result),
            Event::SnapshotSent(id, arrived) => self.consensus.snapshot_sent(id, arrived),
            Event::Welcomed(address, welcome) => self.welcomed(address, welcome),
            Event::Found(addresses) => self.found(addresses),
            Event::Done(done, due) => self.done(done, due),
            Event::Hosting(result) => self.pace.is_without(result.err(), self.now),
            Event::HostFailed(number) => self.host_failed(number),
            Event::Snapshot(number, result) => self.frozen(number, result),
            Event::Unsettled(number) => self.unsettled(number),
            Event::Restored(Ok(())) => self.pace.restored(),
            Event::Restored(Err(reason)) => {
                self.stop(Err(format!("the object can't be restored: {reason}")));
            }
            Event::Persisted(number) => self.persisted(number),
            Event::Saved(index, result) => self.saved(index, result),
            Event::Leave => self.leave(),
        }
    }

    /// Decides on all that was taken in since the last turn: the calls become one log entry.
    /// `now` is monotone and starts anywhere, `wall_ms` is milliseconds since 1970.
    pub fn turn(&mut self, now: Duration, wall_ms: u64, actions: &mut Vec<Action>) {
        let away = now.saturating_sub(self.now) > self.config.election_timeout;
        let before = self.now;
        self.now = before.max(now);
        if away {
            self.woke = self.now;
            // Nobody could act meanwhile: it is no time by which anybody is late.
            self.clock.1 += self.now - before;
            self.pace.begin_anew(self.now);
            if self.consensus.is_leader() {
                // This process was stopped: that it heard of nobody is nobody's silence.
                self.hear_all();
            }
        }
        self.started.get_or_insert(now);
        self.wall_ms = wall_ms;
        if self.phase != Phase::Over {
            self.decide();
        }
        actions.append(&mut self.actions);
    }

    fn decide(&mut self) {
        loop {
            self.propose();
            self.ask_reads();
            while let Some(progress) = self.progress() {
                if let Some(persist) = progress.persist {
                    self.persist(persist);
                }
                for message in progress.messages {
                    self.actions.push(Action::Send(message.to(), PeerMessage::Consensus(message)));
                }
                for decided in progress.decided {
                    self.apply(decided);
                }
                self.clients.reads.confirm(progress.reads);
            }
            self.answer_reads();
            if !self.follow_leader() {
                break;
            }
        }
        self.give_view();
        let lags = self.consensus.snapshot_wanted().is_some();
        if self.is_witness() {
            self.shorten_log();
        } else if lags || self.is_save_due() || self.backups.are_wanted() {
            self.freeze();
        }
        if lags {
            self.lend_base();
        }
        if !self.serving && self.phase == Phase::Member && self.not_ready().is_none() {
            self.serving = true;
            self.actions.push(Action::Serving);
        }
    }

    /// What follows next from what was taken in. When nothing does, followers whose clients wait
    /// are told what was decided.
    fn progress(&mut self) -> Option<Progress> {
        self.consensus.progress().or_else(|| {
            if !self.followers_wait {
                return None;
            }
            self.followers_wait = self.consensus.committed() < self.consensus.last();
            self.consensus.tell();
            self.consensus.progress()
        })
    }

    /// Puts what clients asked for into the log, or sends it to who can.
    fn propose(&mut self) {
        if self.is_leader() {
            // What comes after a change must be decided by those who are members then: whoever
            // goes on alone, later, relies on having all that two members decided.
            if self.consensus.is_changing() {
                return;
            }
            self.spare_who_was_heard();
            // What waits takes its clients' room; what is with the worker would take ours.
            let has_room = !self.is_worker_full() && !self.needs_leaver();
            // What comes while the disks work makes one larger entry, rather than many small ones
            // that each cost a write on every disk.
            if self.config.member.durable
                && self.consensus.undecided() > 0
                && has_room
                && self.now < self.proposed_at + GATHER_MAX
                && !self.clients.fill_an_entry()
            {
                return;
            }
            let times = self.times();
            if has_room {
                self.wake_objects(times.clock_ms);
                self.clients.forget_gone();
            }
            let mut proposed = 0;
            for (entry, commands) in self.clients.pack(times, has_room) {
                // Refused while too much is undecided: the rest waits for the next turn.
                if !self.consensus.propose(entry) {
                    break;
                }
                proposed += commands;
            }
            if proposed > 0 {
                self.proposed_at = self.now;
            }
            self.clients.proposed(proposed, self.consensus.last());
        } else if let Some(leader) = self.leader() {
            let parts = in_parts(self.clients.forward(self.now));
            self.actions
                .extend(parts.map(|commands| Action::Send(leader, PeerMessage::Forward(commands))));
        } else {
            // What clients wait for is kept with them and comes back with the next leader.
            self.clients.clear_queue();
            self.leader_seen = None;
        }
    }

    fn apply(&mut self, decided: Decided) {
        match decided {
            Decided::Entry { data, .. } if data.is_empty() || self.is_witness() => {}
            Decided::Entry { index, term, data } => self.apply_entry((index, term), &data),
            Decided::Change { index, change } => {
                if let Some(change) = change {
                    self.note_change(index, &change);
                    self.apply_change(change);
                }
            }
            Decided::Snapshot(snapshot) => match self.restore(&snapshot) {
                Ok(()) => {
                    self.known.clear();
                    self.clients.reply_kept(&self.machine.state.sessions, &mut self.actions);
                    self.view_changed();
                }
                Err(reason) => self.stop(Err(reason)),
            },
        }
    }

    /// What an entry carries that is made now.
    fn times(&mut self) -> Times {
        let state = &self.machine.state;
        // A leader goes on from where the log is: the clock stands still while nobody leads, and
        // the clocks of the replicas need not agree.
        let (base, since) = self.clock;
        let gone = u64::try_from(self.now.saturating_sub(since).as_millis()).unwrap_or(0);
        if base.saturating_add(gone) < state.clock_ms || self.clock_term != self.consensus.term() {
            self.clock = (state.clock_ms, self.now);
            self.clock_term = self.consensus.term();
        }
        let (base, since) = self.clock;
        let gone = u64::try_from((self.now - since).as_millis()).unwrap_or(0);
        Times { time_ms: state.time_ms.max(self.wall_ms), clock_ms: base.saturating_add(gone) }
    }

    /// Has the log bring the time to objects for which something is due.
    fn wake_objects(&mut self, clock_ms: u64) {
        // While something is to come the log keeps the time, for whoever leads next: what has
        // passed since the last entry would have to pass again.
        let kept = self.machine.state.clock_ms + CLOCK_KEPT_MS;
        let due = self.machine.due().filter(|due| (*due).min(kept) <= clock_ms);
        let again =
            |(at, asked): &(u64, Duration)| Some(*at) == due && *asked + WAKE_AGAIN > self.now;
        if let Some(due) = due.filter(|_| !self.woken.as_ref().is_some_and(again)) {
            self.woken = Some((due, self.now));
            self.clients.enqueue(Command::Wake);
        }
    }

    fn apply_entry(&mut self, (index, term): (u64, u64), data: &[u8]) {
        let (times, commands) = unpack(data);
        let mut commands: Vec<_> = commands.collect();
        if planted::is("entry-reordered") && self.config.member.id.0 & 2 > 0 {
            commands.reverse();
        }
        let Self { clients, actions, machine, now, .. } = self;
        let (now, me) = (*now, self.config.member.id);
        // What an entry says may be less than one before it did: a leader may not have applied that.
        let state = &machine.state;
        let times = Times {
            time_ms: times.time_ms.max(state.time_ms),
            clock_ms: times.clock_ms.max(state.clock_ms),
        };
        let mut calls = Calls { index, of: Vec::new(), times };
        let (mut astray, mut settles) = (false, false);
        let mut then = |effect, clients: &mut Clients| match effect {
            Effect::Host(call) => calls.of.push(call),
            Effect::Skip(number) => {
                // What the worker is to skip may be in this very entry, before it.
                calls.flush(actions);
                actions.push(Action::Worker(WorkerAction::Skip(number)));
            }
            Effect::Astray => astray = true,
            Effect::Settle => settles = true,
            effect @ (Effect::Opened(..)
            | Effect::Replied(..)
            | Effect::Parked(..)
            | Effect::Ended(..)) => clients.effect(effect, me, now, actions),
        };
        machine.begin(index, times.time_ms, times.clock_ms, &mut |effect| then(effect, clients));
        for command in commands {
            if let Command::Call(call) = &command {
                clients.logged(call);
            }
            machine.apply(index, command, &mut |effect| then(effect, clients));
        }
        calls.flush(actions);
        if settles {
            self.settle((index, term));
        }
        self.astray |= astray;
        self.rejoin_if_astray();
    }

    fn done(&mut self, done: Vec<Done>, due: Option<u64>) {
        self.machine.worker_is_due(due);
        for done in done {
            let number = done.number();
            let frozen = self.freezing.as_mut().filter(|freezing| number < freezing.number);
            let frozen = frozen.map(|freezing| &mut freezing.state.state);
            match self.machine.done(done.clone(), frozen) {
                Some(Some(effect)) => {
                    let me = self.config.member.id;
                    self.clients.effect(effect, me, self.now, &mut self.actions);
                }
                Some(None) => {}
                None => {
                    if let Done::Ended(_, outcome) = done {
                        self.reply_read(number, outcome);
                    }
                }
            }
        }
    }

    fn tick(&mut self) {
        self.ticks += 1;
        self.consensus.tick();
        self.mind_disk();
        self.mind_worker();
        self.mind_ailment();
        self.mind_log();
        self.consensus.tell();
        if self.now >= self.rate.since + Duration::from_secs(1) {
            let calls = self.machine.state.calls;
            let new = calls.saturating_sub(self.rate.calls) as f64;
            let per_second = (new / (self.now - self.rate.since).as_secs_f64()).round() as u64;
            self.rate = Rate { since: self.now, calls, per_second };
        }
        match self.phase {
            // Before the first turn the time is not known.
            Phase::Greeting { until: None } if self.started.is_none() => {}
            Phase::Greeting { until: None } => {
                self.phase = Phase::Greeting { until: Some(self.now + self.config.greeting) }
            }
            Phase::Greeting { until: Some(until) } if self.now >= until => self.bootstrap(),
            Phase::Greeting { .. } | Phase::Over => {}
            Phase::Joining => self.ask_to_join(),
            Phase::Member | Phase::Leaving => self.mind_cluster(),
        }
    }

    /// Starts a cluster of this replica alone.
    fn bootstrap(&mut self) {
        if self.is_witness() {
            self.stop(Err("a witness starts no cluster: name a replica to join".into()));
            return;
        }
        let (mut start, mut object) = ((GENESIS, GENESIS), None);
        if let Some(backup) = self.config.restore.take() {
            let own = self.machine.state.view.clone();
            if let Err(reason) = self.restore(&backup) {
                self.stop(Err(reason));
                return;
            }
            let view = &mut self.machine.state.view;
            let (lineage, number) = (view.lineage + 1, view.number + 1);
            *view = View { lineage, number, ..own };
            (start, object) = ((backup.index, backup.term), backup.object);
        }
        self.machine.state.view.branch = self.branch(Cause::Started);
        let timing =
            Timing::new(self.config.tick, self.config.election_timeout, self.config.heartbeat);
        let Member { id, durable, .. } = self.config.member;
        let seed = Random(self.config.seed).next();
        self.consensus = Consensus::bootstrap(id, timing, seed, durable, start);
        let state = self.machine.freeze().encode();
        let first = Snapshot { index: start.0, term: start.1, state, object };
        let cut = Cut::of(&first, &self.machine.state.view);
        self.rebase(Some((cut, first.clone())));
        if let Some(persist) = self.consensus.persist_first(first) {
            self.persist(persist);
        }
        self.phase = Phase::Member;
        self.view_changed();
    }

    /// Another one with each view and each life.
    fn branch(&self, cause: Cause) -> Branch {
        let number = Random(self.config.seed ^ self.machine.state.view.number).next();
        Branch { number, since_ms: self.wall_ms, cause }
    }

    /// Sees whether there is another leader than at the last look. If so, what clients wait for
    /// is asked of it again; the session table tells what was decided already.
    fn follow_leader(&mut self) -> bool {
        let leader = self.leader().map(|leader| (leader, self.consensus.term()));
        if leader == self.leader_seen || leader.is_none() {
            return false;
        }
        self.leader_seen = leader;
        if self.phase == Phase::Leaving && !self.is_leader() {
            self.ask_to_leave();
        }
        self.clients.ask_again(self.config.member.id);
        self.hear_all();
        if let Some(member) = leader.and_then(|(id, _)| self.machine.state.view.member(id)) {
            let address = member.address;
            self.clients.tell_all(&Answer::Leader(address), &mut self.actions);
        }
        true
    }

    /// Gives everybody the whole time again before silence counts.
    fn hear_all(&mut self) {
        self.watch.new_leader(self.now);
        self.clients.hear_all(self.machine.state.sessions.ids(), self.now);
    }

    /// The view, once this replica is part of one.
    fn view(&self) -> Option<&View> {
        matches!(self.phase, Phase::Member | Phase::Leaving).then_some(&self.machine.state.view)
    }

    fn note(&mut self, level: tracing::Level, text: String) {
        self.actions.push(Action::Note(level, text));
    }

    fn stop(&mut self, reason: Result<String, String>) {
        self.phase = Phase::Over;
        self.actions.push(Action::Stop(reason));
    }

    fn restart(&mut self, bootstrap: Vec<SocketAddr>, reason: String) {
        self.phase = Phase::Over;
        self.actions.push(Action::Restart(bootstrap, reason));
    }
}

/// The calls of one entry for the worker.
struct Calls {
    index: u64,
    times: Times,
    of: Vec<HostedCall>,
}

impl Calls {
    fn flush(&mut self, actions: &mut Vec<Action>) {
        if !self.of.is_empty() {
            let (index, calls) = (self.index, std::mem::take(&mut self.of));
            let Times { time_ms, clock_ms } = self.times;
            let apply = WorkerAction::Apply { index, time_ms, clock_ms, calls };
            actions.push(Action::Worker(apply));
        }
    }
}
