//! How the worker keeps up with the log, and the log with its leader.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Phase, Replica};
use crate::limits::UNDONE_BYTES_MAX;
use crate::view::{Member, ReplicaId};
use crate::wire::Ailment;

#[derive(Default)]
pub(super) struct Pace {
    /// Numbers that the worker had been given when it was looked at, and when that was; but for
    /// those that it has done.
    given: VecDeque<(u64, Duration)>,
    /// Since when the worker has had something to do, where it has yet to take a state in.
    restoring: Option<Duration>,
    without: Option<Without>,
    /// Who said last how far its worker is, and the step.
    other: Option<(ReplicaId, u64)>,
    /// At a leader: the first entry that is not decided, and since when it is the first.
    undecided: Option<(u64, Duration)>,
}

/// There is no worker.
struct Without {
    reason: String,
    since: Duration,
    /// Until another state comes: of what there is here none can be made.
    lost: bool,
}

impl Pace {
    /// The worker is to take a state in, which stands for all that it has not done.
    pub(super) fn restore(&mut self, now: Duration) {
        self.restoring = self.since().or(Some(now));
        self.given.clear();
    }

    pub(super) fn restored(&mut self) {
        self.restoring = None;
        self.without.take_if(|without| without.lost);
    }

    pub(super) const fn is_restoring(&self) -> bool {
        self.restoring.is_some()
    }

    /// This process was stopped until now, and the worker may have been.
    pub(super) fn begin_anew(&mut self, now: Duration) {
        self.given.clear();
        self.restoring = self.restoring.map(|_| now);
        self.without = self.without.take().map(|without| Without { since: now, ..without });
        self.undecided = self.undecided.map(|(index, _)| (index, now));
    }

    /// Since when the worker has had the first thing that it has not done.
    fn since(&self) -> Option<Duration> {
        self.restoring.or_else(|| self.given.front().map(|(_, since)| *since))
    }

    /// There is no worker for that reason, or there is one again.
    pub(super) fn is_without(&mut self, reason: Option<String>, now: Duration) {
        let since = self.without.as_ref().map_or(now, |without| without.since);
        self.without = reason.map(|reason| Without { reason, since, lost: false });
    }

    /// That member's worker has done all steps up to that one.
    pub(super) const fn has_run(&mut self, id: ReplicaId, step: u64) {
        self.other = Some((id, step));
    }

    /// There will be none, for that reason.
    pub(super) fn is_lost(&mut self, reason: String, now: Duration) {
        self.without = Some(Without { reason, since: now, lost: true });
    }
}

impl Replica {
    /// Looks how far the worker is.
    pub(super) fn mind_worker(&mut self) {
        let (undone, last) = self.machine.undone();
        let first = undone.into_iter().chain(self.clients.reads.undone()).min();
        let given = &mut self.pace.given;
        while given.front().is_some_and(|(number, _)| first.is_none_or(|first| *number < first)) {
            given.pop_front();
        }
        if first.is_some() && given.back().is_none_or(|(number, _)| *number < last) {
            given.push_back((last, self.now));
        }
    }

    /// What there is to say where no worker can be started.
    pub(super) fn has_no_worker(&self) -> Option<String> {
        let without = self.pace.without.as_ref()?;
        Some(format!("the object has no worker: {}", without.reason))
    }

    /// What there is to say of a worker that is slower than the log for longer than it takes to
    /// find what it dies of.
    pub(super) fn worker_is_behind(&self) -> Option<String> {
        let taken = self.now.saturating_sub(self.pace.since()?);
        let behind = taken > self.config.worker_timeout;
        behind.then(|| format!("the worker is {:.0} s behind", taken.as_secs_f64()))
    }

    /// A replica for whose object no worker can be started leaves where its leader waits for it, to
    /// join again once one can: for room in its backlog, or for its word on a call that the leader's
    /// workers die of; at once where its worker is lost. Not if the leader has no worker either, or
    /// one that has not come as far: what ran here alone may have been acknowledged, and nobody would
    /// be left to say that it must not be skipped.
    pub(super) fn rejoin_without_worker(&mut self) {
        let Some(Without { since, lost, .. }) = self.pace.without else { return };
        let Some(leader) = self.leader().filter(|_| !self.is_leader()) else { return };
        let is_of_use =
            self.is_reachable(leader) && self.ailment_of(leader) != Some(Ailment::NoWorker);
        let is_as_far = || {
            let leaders = self.pace.other.filter(|(id, _)| *id == leader);
            leaders.is_some_and(|(_, step)| step >= self.machine.last_run())
        };
        let is_waited_for =
            || is_as_far() && (self.is_worker_full() || self.watch.tells_of_crash(leader));
        if is_of_use && (lost || since + self.config.dead_timeout <= self.now && is_waited_for()) {
            self.rejoin("no worker can be started for the object; joining again when one can");
        }
    }

    /// Whether the worker is so far behind that it can be given no more. Never at a follower where the
    /// log must bring what ends that, or its leave: all that was proposed may come before it, and one
    /// that was started again may have had more than this to run from the first. Its leader bounds
    /// what comes: it proposes calls only if its own worker has got further, and then it soon says
    /// so, or has this one removed.
    pub(super) fn is_worker_full(&self) -> bool {
        let waits = self.watch.stuck.is_some() || self.phase == Phase::Leaving;
        self.machine.undone_bytes() > UNDONE_BYTES_MAX && (!waits || self.is_leader())
    }

    /// Looks how far the log is.
    pub(super) fn mind_log(&mut self) {
        let waits = self.is_leader() && self.consensus.undecided() > 0;
        let first = waits.then(|| self.consensus.committed() + 1);
        let before = self.pace.undecided.take_if(|(index, _)| Some(*index) == first);
        self.pace.undecided = before.or_else(|| first.map(|first| (first, self.now)));
    }

    /// What there is to say where nothing is decided though a majority is there: those whose disk
    /// or worker has no room take no more of the log.
    pub(super) fn log_stands_still(&self) -> Option<String> {
        let (first, since) = self.pace.undecided?;
        let taken = self.now.saturating_sub(since);
        let lacks = |voter: &&Member| {
            voter.id != self.config.member.id && self.consensus.matched(voter.id) < first
        };
        let lacking = self.machine.state.view.voters().filter(lacks);
        let lacking: Vec<String> = lacking.map(|voter| voter.address.to_string()).collect();
        let (taken, lacking) = (taken.as_secs_f64(), lacking.join(", "));
        let stands = !lacking.is_empty() && taken > self.config.dead_timeout.as_secs_f64();
        stands.then(|| {
            format!("nothing was decided for {taken:.0} s: {lacking} did not take the log")
        })
    }
}
