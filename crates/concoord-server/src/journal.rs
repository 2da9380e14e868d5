//! What a worker was asked, so that another one can be brought to the same state.
//!
//! A journal is a base, the state that a snapshot holds, and all that was asked since. A worker
//! that is started in place of one that died takes the base in and runs the rest again; answers
//! that were delivered before are dropped. What it died of is found by running all that it had and
//! had not answered once more, call by call.

use std::collections::{BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use concoord_core::call::{Outcome, Refusal};
use concoord_core::limits::LOG_BYTES_MAX;
use concoord_core::replica::{Event, WorkerAction};
use concoord_core::wire::{Done, FromWorker, HostedCall, SKIPPED, ToWorker, write_frame};

/// Bytes of calls since the base, after which a snapshot is taken for a new one. The core takes
/// one of its own earlier as a rule, and it serves as well.
const JOURNAL_BYTES_MAX: usize = 4 * LOG_BYTES_MAX;

/// Calls since the base: a second of replay, about.
const JOURNAL_CALLS_MAX: usize = 256 << 10;

/// Bytes that keeping a call costs, beside its arguments.
const CALL_BYTES: usize = 64;

/// Marks the numbers of our own snapshots; the core's are smaller.
const OWN: u64 = 1 << 63;

/// How often a worker may die of taking a state in or writing it down before that is an answer.
const DEATHS_MAX: u32 = 2;

pub(crate) struct Journal {
    apply_timeout: Duration,
    load_timeout: Duration,
    /// `None`: as the object is once it is loaded.
    base: Option<Bytes>,
    /// Bases before this one, which take a while to free.
    outdated: Vec<Bytes>,
    /// What was asked since: `Apply`, `Settle`, `Read` until it is answered, `Snapshot` until it
    /// is.
    asked: VecDeque<ToWorker>,
    bytes: usize,
    calls: usize,
    /// The latest number that the core has an answer to.
    delivered: u64,
    /// Calls that are left out by [`WorkerAction::Skip`].
    skipped: BTreeSet<u64>,
    /// All that a worker had and had not answered when it died: of one of these, as the worker may
    /// have done more than it said. They are run call by call, until all have been.
    suspects: Option<RangeInclusive<u64>>,
    /// The first of these. Where the next worker dies of it alone, that is no chance.
    blamed: Option<u64>,
    /// The core waits for [`Event::Restored`].
    restoring: bool,
    /// The last of our own snapshots, and whether it is under way.
    own: (u64, bool),
    /// The state is known to hold sets: a base is made where the log has all replicas settle.
    settles: bool,
    /// Doubled when the state can't be written down, so that we do not ask all the time.
    patience: usize,
    deaths: u32,
    failed: bool,
    /// When the worker's next timer is due, as it last said.
    wake_at: Option<u64>,
    life: Life,
}

/// How far this worker is.
#[derive(Default)]
struct Life {
    base_sent: bool,
    /// What of [`Journal::asked`] is sent, and how many calls of the batch after it.
    sent: (usize, usize),
    awaited: VecDeque<Awaited>,
    /// Calls that were woken by one whose own end is still to come. Were the core told of them and
    /// the worker to die before it says that end, the next one would wake them once more.
    woken: Vec<Done>,
    /// When it began on the first of `awaited`.
    since: Option<Instant>,
    /// Its state has seen a call that is to be left out.
    spoilt: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Restored,
    Settled(u64),
    Calls { first: u64, last: u64, read: bool, careful: bool },
}

/// A state that the worker wrote down.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) bytes: Bytes,
    /// See [`concoord_core::wire::Written::has_sets`].
    pub(crate) has_sets: bool,
}

/// What to send next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing until something is asked or answered.
    Nothing,
    /// A frame was written.
    Frame,
    /// This is to be sent, with a pipe for the state of that number.
    Take(ToWorker, u64),
    /// This state is to be restored, through a pipe.
    Give(Bytes),
}

/// The worker said what nobody asked it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it answered what it was not asked")]
pub(crate) struct Unasked;

impl Journal {
    pub(crate) fn new(apply_timeout: Duration, load_timeout: Duration) -> Self {
        Self {
            apply_timeout,
            load_timeout,
            base: None,
            outdated: Vec::new(),
            asked: VecDeque::new(),
            bytes: 0,
            calls: 0,
            delivered: 0,
            skipped: BTreeSet::new(),
            suspects: None,
            blamed: None,
            restoring: false,
            own: (OWN, false),
            settles: false,
            patience: 1,
            deaths: 0,
            failed: false,
            wake_at: None,
            life: Life::default(),
        }
    }

    /// Takes in what the core asks; returns what it is to be told at once.
    pub(crate) fn ask(&mut self, action: WorkerAction) -> Option<Event> {
        match action {
            WorkerAction::Apply { index, time_ms, clock_ms, calls } => {
                self.count(&calls);
                self.asked.push_back(ToWorker::Apply { index, time_ms, clock_ms, calls });
                return self.bound();
            }
            WorkerAction::Read { time_ms, calls } => {
                self.asked.push_back(ToWorker::Read { time_ms, calls });
            }
            WorkerAction::Snapshot(number) => self.asked.push_back(ToWorker::Snapshot(number)),
            WorkerAction::Settle(number) => {
                self.own.1 = false;
                self.asked.push_back(ToWorker::Settle(number));
            }
            WorkerAction::Restore(state) => self.restore(state),
            WorkerAction::Skip(number) => return self.skip(number),
        }
        None
    }

    fn count(&mut self, calls: &[HostedCall]) {
        self.calls += calls.len();
        self.bytes += calls.iter().map(|call| call.arguments.len() + CALL_BYTES).sum::<usize>();
    }

    /// Asks for a new base when too much would have to be run again; the core, where only the
    /// log can say when.
    fn bound(&mut self) -> Option<Event> {
        let (number, under_way) = self.own;
        let full = self.bytes > JOURNAL_BYTES_MAX.saturating_mul(self.patience)
            || self.calls > JOURNAL_CALLS_MAX.saturating_mul(self.patience);
        if !full || under_way {
            return None;
        }
        self.own = (number + 1, true);
        if self.settles {
            return Some(Event::Unsettled(number + 1));
        }
        self.asked.push_back(ToWorker::Snapshot(number + 1));
        None
    }

    fn restore(&mut self, state: Bytes) {
        self.outdated.extend(self.base.replace(state));
        // Reads that have no answer yet may have it of the later state; nobody asks them again.
        self.asked.retain(|asked| matches!(asked, ToWorker::Read { .. }));
        self.skipped.clear();
        (self.bytes, self.calls, self.deaths) = (0, 0, 0);
        self.own.1 = false;
        (self.suspects, self.blamed) = (None, None);
        self.restoring = true;
        self.failed = false;
        self.life.base_sent = false;
        self.life.sent = (0, 0);
    }

    fn skip(&mut self, number: u64) -> Option<Event> {
        let holds = |asked: &ToWorker| calls_of(asked).iter().any(|call| call.number == number);
        let Some(at) = self.asked.iter().rposition(holds) else {
            tracing::error!("call {number} can't be skipped: the base of its state is newer");
            return None;
        };
        self.skipped.insert(number);
        self.failed = false;
        let (sent, within) = self.life.sent;
        self.life.spoilt |= at < sent || (at == sent && within > 0);
        (number > self.delivered).then(|| self.crash(number))
    }

    /// Writes the next frame for the worker to `to`, if there is one to send.
    pub(crate) fn send(&mut self, now: Instant, to: &mut BytesMut) -> Next {
        if self.failed
            || matches!(self.life.awaited.front(), Some(Awaited::Calls { careful: true, .. }))
        {
            return Next::Nothing;
        }
        if !self.life.base_sent {
            self.life.base_sent = true;
            if let Some(base) = self.base.clone() {
                self.await_(Awaited::Restored, now);
                return Next::Give(base);
            }
        }
        let Some(asked) = self.asked.get(self.life.sent.0) else { return Next::Nothing };
        let calls = calls_of(asked);
        let (Some(first), Some(last)) = (calls.first(), calls.last()) else {
            let asked = asked.clone();
            self.life.sent.0 += 1;
            return self.send_for_state(asked, now);
        };
        let (first, last) = (first.number, last.number);
        let read = matches!(asked, ToWorker::Read { .. });
        // A read that was the last of them is gone once it is answered.
        self.suspects.take_if(|suspects| *suspects.end() < first);
        if self.suspects.as_ref().is_some_and(|suspects| *suspects.start() <= last) {
            return self.send_one(now, to);
        }
        write_without(asked, &self.skipped, (first, last), to);
        self.life.sent.0 += 1;
        self.await_(Awaited::Calls { first, last, read, careful: false }, now);
        Next::Frame
    }

    fn send_for_state(&mut self, asked: ToWorker, now: Instant) -> Next {
        match asked {
            ToWorker::Snapshot(number) => Next::Take(asked, number),
            ToWorker::Settle(number) => {
                self.await_(Awaited::Settled(number), now);
                Next::Take(asked, number)
            }
            ToWorker::Load { .. }
            | ToWorker::Restore
            | ToWorker::Apply { .. }
            | ToWorker::Read { .. } => unreachable!("these are not kept, or hold calls"),
        }
    }

    /// Sends the next call of a batch that a worker may have died of, alone.
    fn send_one(&mut self, now: Instant, to: &mut BytesMut) -> Next {
        if !self.life.awaited.is_empty() {
            return Next::Nothing;
        }
        let (at, within) = self.life.sent;
        let asked = self.asked.get(at).expect("the caller looked at it");
        let Some(call) = calls_of(asked).get(within) else {
            let last = calls_of(asked).last().map(|call| call.number);
            self.suspects.take_if(|suspects| last >= Some(*suspects.end()));
            self.life.sent = (at + 1, 0);
            return self.send(now, to);
        };
        let number = call.number;
        let read = matches!(asked, ToWorker::Read { .. });
        write_without(&with_calls(asked, vec![call.clone()]), &self.skipped, (number, number), to);
        self.life.sent.1 = within + 1;
        self.await_(Awaited::Calls { first: number, last: number, read, careful: true }, now);
        Next::Frame
    }

    fn await_(&mut self, awaited: Awaited, now: Instant) {
        if self.life.awaited.is_empty() {
            self.life.since = Some(now);
        }
        self.life.awaited.push_back(awaited);
    }

    fn answered(&mut self, now: Instant) {
        self.life.awaited.pop_front();
        self.life.since = Some(now);
    }

    /// The worker has answered what it was asked first, up to that call.
    fn has_come_to(&mut self, next: u64, now: Instant) {
        if let Some(Awaited::Calls { first, .. }) = self.life.awaited.front_mut() {
            *first = next;
            self.life.since = Some(now);
        }
    }

    /// Takes in what the worker says; returns what the core is to be told.
    ///
    /// # Errors
    /// [`Unasked`]: nothing it says can be relied on then.
    pub(crate) fn hear(
        &mut self,
        said: FromWorker,
        now: Instant,
    ) -> Result<Option<Event>, Unasked> {
        match said {
            FromWorker::Done { done, wake_at } => self.hear_done(done, wake_at, now),
            FromWorker::Restored(result) => {
                if self.life.awaited.front() != Some(&Awaited::Restored) {
                    return Err(Unasked);
                }
                self.answered(now);
                if !self.life.base_sent || self.life.awaited.contains(&Awaited::Restored) {
                    // Another state was asked for since; that one's answer counts.
                    return Ok(None);
                }
                self.failed = result.is_err();
                Ok(std::mem::take(&mut self.restoring).then_some(Event::Restored(result)))
            }
            FromWorker::Settled(number, result) => {
                if self.life.awaited.front() != Some(&Awaited::Settled(number)) {
                    return Err(Unasked);
                }
                self.answered(now);
                if let Err(reason) = result {
                    tracing::error!("the object's state can't be settled: {reason}");
                }
                Ok(None)
            }
            FromWorker::Snapshot(..) | FromWorker::Loaded { .. } | FromWorker::NotLoaded(_) => {
                Err(Unasked)
            }
        }
    }

    fn hear_done(
        &mut self,
        done: Vec<Done>,
        wake_at: Option<u64>,
        now: Instant,
    ) -> Result<Option<Event>, Unasked> {
        let mut fresh = Vec::with_capacity(done.len());
        for done in done {
            let Some(Awaited::Calls { first, last, read, .. }) = self.life.awaited.front().copied()
            else {
                return Err(Unasked);
            };
            let (number, is_last) = (done.number(), done.is_last());
            if !(first..=last).contains(&number) {
                return Err(Unasked);
            }
            if number > self.delivered && !self.skipped.contains(&number) {
                self.life.woken.push(done);
                if is_last {
                    self.delivered = number;
                    fresh.append(&mut self.life.woken);
                }
            }
            if number == last && is_last {
                self.answered(now);
                if read {
                    self.forget_read(last);
                }
            } else if is_last {
                self.has_come_to(number + 1, now);
            }
        }
        let is_news = !fresh.is_empty() || wake_at != self.wake_at;
        self.wake_at = wake_at;
        Ok(is_news.then_some(Event::Done(fresh, wake_at)))
    }

    /// What the core is told of a call that crashed.
    fn crash(&self, number: u64) -> Event {
        let crashed = Outcome::Refused(Refusal::ObjectCrashed);
        Event::Done(vec![Done::Ended(number, crashed)], self.wake_at)
    }

    /// Reads leave no trace in the state: once answered they are not run again.
    fn forget_read(&mut self, last: u64) {
        let is_it = |asked: &ToWorker| matches!(asked, ToWorker::Read { calls, .. } if calls.last().is_some_and(|call| call.number == last));
        if let Some(at) = self.asked.iter().rposition(is_it) {
            self.remove(at);
        }
    }

    fn remove(&mut self, at: usize) {
        self.asked.remove(at);
        if at < self.life.sent.0 {
            self.life.sent.0 -= 1;
        } else if at == self.life.sent.0 {
            self.life.sent.1 = 0;
        }
    }

    /// Takes in the state at that number, or why there is none; returns what the core is to be
    /// told.
    pub(crate) fn hear_state(
        &mut self,
        number: u64,
        result: Result<State, String>,
    ) -> Option<Event> {
        let at = self.place_of_state(number).filter(|at| *at < self.life.sent.0)?;
        let settles = matches!(self.asked.get(at), Some(ToWorker::Settle(_)));
        match result {
            Ok(State { has_sets: true, .. }) if !settles => {
                self.deaths = 0;
                // The core has the log settle the state, which makes the next base.
                (self.settles, self.own.1) = (true, true);
                self.remove(at);
                Some(Event::Unsettled(number))
            }
            Ok(State { bytes, .. }) => {
                (self.deaths, self.patience) = (0, 1);
                self.own.1 &= number != self.own.0;
                self.rebase(bytes.clone(), at);
                (number < OWN).then_some(Event::Snapshot(number, Ok(bytes)))
            }
            Err(reason) => self.hear_of_no_state(at, number, reason),
        }
    }

    fn hear_of_no_state(&mut self, at: usize, number: u64, reason: String) -> Option<Event> {
        self.deaths = 0;
        self.own.1 &= number != self.own.0;
        self.patience = self.patience.saturating_mul(2);
        // The next worker must settle where all others did.
        if matches!(self.asked.get(at), Some(ToWorker::Snapshot(_))) {
            self.remove(at);
        }
        if number < OWN {
            return Some(Event::Snapshot(number, Err(reason)));
        }
        tracing::warn!("the object's state can't be written down: {reason}");
        None
    }

    /// Begins anew from `state`, which holds everything before what was asked at `at`.
    fn rebase(&mut self, state: Bytes, at: usize) {
        self.outdated.extend(self.base.replace(state));
        for asked in self.asked.drain(..=at) {
            for call in calls_of(&asked) {
                self.skipped.remove(&call.number);
                if matches!(asked, ToWorker::Apply { .. }) {
                    self.calls -= 1;
                    self.bytes -= call.arguments.len() + CALL_BYTES;
                }
            }
        }
        self.life.sent.0 -= at + 1;
    }

    /// How long the worker may still take for what it does now; `None` while it does nothing.
    pub(crate) fn time_left(&self, now: Instant) -> Option<Duration> {
        let timeout = match self.life.awaited.front()? {
            Awaited::Restored | Awaited::Settled(_) => self.load_timeout,
            Awaited::Calls { .. } => self.apply_timeout,
        };
        let taken = now.saturating_duration_since(self.life.since?);
        Some(timeout.saturating_sub(taken))
    }

    /// Whether the worker has done all that it was asked before that state, as far as it matters.
    pub(crate) fn has_begun(&self, number: u64) -> bool {
        let Some(at) = self.place_of_state(number) else { return true };
        let before = self.asked.iter().take(at).rev().find_map(|asked| calls_of(asked).last());
        match self.life.awaited.front() {
            None => true,
            Some(Awaited::Calls { first, .. }) => before.is_none_or(|call| call.number < *first),
            // That has a time of its own.
            Some(Awaited::Restored | Awaited::Settled(_)) => false,
        }
    }

    /// Where the state of that number is asked for.
    fn place_of_state(&self, number: u64) -> Option<usize> {
        let asked_for = |asked: &ToWorker| matches!(asked, ToWorker::Snapshot(of) | ToWorker::Settle(of) if *of == number);
        self.asked.iter().position(asked_for)
    }

    /// Bases that are of no use any more.
    pub(crate) fn take_outdated(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.outdated)
    }

    /// Whether the worker must be replaced, as its state has seen what is to be left out.
    pub(crate) fn is_spoilt(&self) -> bool {
        self.life.spoilt
    }

    #[cfg(test)]
    pub(crate) fn base_is(&self, state: &Bytes) -> bool {
        self.base.as_ref() == Some(state)
    }

    /// Whether no worker is of use before the core decides.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed
    }

    /// The worker is gone, of itself or by us; returns what the core is to be told. The next one
    /// begins from the base.
    pub(crate) fn end_life(&mut self) -> Option<Event> {
        let life = std::mem::take(&mut self.life);
        if life.spoilt || self.failed {
            return None;
        }
        match life.awaited.front().copied() {
            Some(Awaited::Calls { first, last, careful, .. }) => {
                // None, where the worker was at a call that is no part of the state any more.
                let to_blame = self.first_call(first..=last)?;
                if careful && self.blamed == Some(to_blame) {
                    return self.fail(to_blame);
                }
                self.suspect(to_blame, &life);
                None
            }
            Some(Awaited::Restored) => self.died_restoring(),
            Some(Awaited::Settled(_)) => self.died_settling(),
            None => self.died_idle(life.sent.0),
        }
    }

    /// The first call among those numbers.
    fn first_call(&self, among: RangeInclusive<u64>) -> Option<u64> {
        let numbers = self.asked.iter().flat_map(calls_of).map(|call| call.number);
        numbers.filter(|number| among.contains(number)).min()
    }

    /// A worker died with that call as the first that it had not answered. What was suspected
    /// before stays so: a chance must not make us forget what all workers die of.
    fn suspect(&mut self, first: u64, life: &Life) {
        self.blamed = Some(first);
        let last_of = |awaited: &Awaited| match awaited {
            Awaited::Calls { last, .. } => Some(*last),
            Awaited::Restored | Awaited::Settled(_) => None,
        };
        let last = life.awaited.iter().rev().find_map(last_of).unwrap_or(first);
        let before = self.suspects.take().unwrap_or(first..=last);
        self.suspects = Some(first.min(*before.start())..=last.max(*before.end()));
    }

    /// A call was tried once more, alone, and the worker died of it again.
    fn fail(&mut self, number: u64) -> Option<Event> {
        let is_it = |call: &HostedCall| call.number == number;
        let asked = self.asked.iter().find(|asked| calls_of(asked).iter().any(is_it))?;
        if matches!(asked, ToWorker::Read { .. }) {
            // It changes nothing, so that its refusal needs nobody's agreement.
            self.skipped.insert(number);
            return Some(self.crash(number));
        }
        self.failed = true;
        Some(Event::HostFailed(number))
    }

    fn died_restoring(&mut self) -> Option<Event> {
        self.deaths += 1;
        if !self.restoring || self.deaths < DEATHS_MAX {
            return None;
        }
        self.restoring = false;
        self.failed = true;
        Some(Event::Restored(Err("the worker dies of taking the state in".into())))
    }

    /// One that can't settle is not like the others any more.
    fn died_settling(&mut self) -> Option<Event> {
        self.deaths += 1;
        if self.deaths < DEATHS_MAX {
            return None;
        }
        self.failed = true;
        Some(Event::Restored(Err("the worker dies of settling its state".into())))
    }

    fn died_idle(&mut self, sent: usize) -> Option<Event> {
        let is_snapshot = |asked: &ToWorker| matches!(asked, ToWorker::Snapshot(_));
        let at = self.asked.iter().take(sent).position(is_snapshot)?;
        self.deaths += 1;
        if self.deaths < DEATHS_MAX {
            return None;
        }
        let Some(ToWorker::Snapshot(number)) = self.asked.get(at).cloned() else { return None };
        self.hear_of_no_state(at, number, "the worker dies of writing its state down".into())
    }
}

fn calls_of(asked: &ToWorker) -> &[HostedCall] {
    match asked {
        ToWorker::Apply { calls, .. } | ToWorker::Read { calls, .. } => calls,
        ToWorker::Load { .. } | ToWorker::Snapshot(_) | ToWorker::Settle(_) | ToWorker::Restore => {
            &[]
        }
    }
}

fn with_calls(asked: &ToWorker, calls: Vec<HostedCall>) -> ToWorker {
    match asked {
        ToWorker::Apply { index, time_ms, clock_ms, .. } => {
            ToWorker::Apply { index: *index, time_ms: *time_ms, clock_ms: *clock_ms, calls }
        }
        ToWorker::Read { time_ms, .. } => ToWorker::Read { time_ms: *time_ms, calls },
        ToWorker::Load { .. } | ToWorker::Snapshot(_) | ToWorker::Settle(_) | ToWorker::Restore => {
            unreachable!("these hold no calls")
        }
    }
}

/// Writes a batch, and that something is left out where a call is skipped: what is due as the entry
/// begins may be what workers died of.
fn write_without(
    batch: &ToWorker,
    skipped: &BTreeSet<u64>,
    (first, last): (u64, u64),
    to: &mut BytesMut,
) {
    if skipped.range(first..=last).next().is_none() {
        return write_frame(batch, to);
    }
    let or_nothing = |call: &HostedCall| {
        let (number, method) = (call.number, SKIPPED.into());
        let is_skipped = skipped.contains(&number);
        if is_skipped {
            HostedCall { number, method, ..HostedCall::default() }
        } else {
            call.clone()
        }
    };
    write_frame(&with_calls(batch, calls_of(batch).iter().map(or_nothing).collect()), to);
}

#[cfg(test)]
mod tests;
