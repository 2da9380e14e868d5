//! How the worker keeps up with the log.

use std::collections::VecDeque;
use std::time::Duration;

use super::Replica;
use crate::limits::UNDONE_BYTES_MAX;

#[derive(Default)]
pub(super) struct Pace {
    /// Numbers that the worker had been given when it was looked at, and when that was; but for
    /// those that it has done.
    given: VecDeque<(u64, Duration)>,
    /// Since when the worker has had something to do, where it has yet to take a state in.
    restoring: Option<Duration>,
    /// Why there is no worker.
    without: Option<String>,
}

impl Pace {
    /// The worker is to take a state in, which stands for all that it has not done.
    pub(super) fn restore(&mut self, now: Duration) {
        self.restoring = self.since().or(Some(now));
        self.given.clear();
    }

    pub(super) fn restored(&mut self) {
        self.restoring = None;
    }

    /// This process was stopped until now, and the worker may have been.
    pub(super) fn begin_anew(&mut self, now: Duration) {
        self.given.clear();
        self.restoring = self.restoring.map(|_| now);
    }

    /// Since when the worker has had the first thing that it has not done.
    fn since(&self) -> Option<Duration> {
        self.restoring.or_else(|| self.given.front().map(|(_, since)| *since))
    }

    /// There is no worker for that reason, or there is one again.
    pub(super) fn is_without(&mut self, reason: Option<String>) {
        self.without = reason;
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

    /// What there is to say of a worker that can't be started, or is slower than the log for
    /// longer than it takes to find what it dies of.
    pub(super) fn worker_is_behind(&self) -> Option<String> {
        if let Some(reason) = &self.pace.without {
            return Some(format!("the object has no worker: {reason}"));
        }
        let taken = self.now.saturating_sub(self.pace.since()?);
        let behind = taken > self.config.worker_timeout;
        behind.then(|| format!("the worker is {:.0} s behind", taken.as_secs_f64()))
    }

    /// Whether the worker is so far behind that it can be given no more. Not while it can't go on
    /// before the log says what it is to skip.
    pub(super) fn is_worker_full(&self) -> bool {
        self.machine.undone_bytes() > UNDONE_BYTES_MAX && self.watch.stuck.is_none()
    }
}
