//! What a worker was asked, so that another one can be brought to the same state.
//!
//! A journal is a base, the state that a snapshot holds, and all that was asked since. A worker
//! that is started in place of one that died takes the base in and runs the rest again; answers
//! that were delivered before are dropped. What it died of is found by running the entry once
//! more, call by call.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use concoord_core::call::{Outcome, Refusal};
use concoord_core::limits::LOG_BYTES_MAX;
use concoord_core::replica::{Event, WorkerAction};
use concoord_core::wire::{FromWorker, HostedCall, ToWorker, write_frame};

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
    /// What was asked since: `Apply`, `Read` until it is answered, `Snapshot` until it is.
    asked: VecDeque<ToWorker>,
    bytes: usize,
    calls: usize,
    /// The latest number that the core has an answer to.
    delivered: u64,
    /// Calls that are left out by [`WorkerAction::Skip`].
    skipped: BTreeSet<u64>,
    /// The last call of the batch that is run call by call.
    careful: Option<u64>,
    /// The core waits for [`Event::Restored`].
    restoring: bool,
    /// The last of our own snapshots, and whether it is under way.
    own: (u64, bool),
    /// Doubled when the state can't be written down, so that we do not ask all the time.
    patience: usize,
    deaths: u32,
    failed: bool,
    life: Life,
}

/// How far this worker is.
#[derive(Default)]
struct Life {
    base_sent: bool,
    /// What of [`Journal::asked`] is sent, and how many calls of the batch after it.
    sent: (usize, usize),
    awaited: VecDeque<Awaited>,
    /// When it began on the first of `awaited`.
    since: Option<Instant>,
    /// Its state has seen a call that is to be left out.
    spoilt: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Restored,
    Calls { first: u64, last: u64, read: bool, careful: bool },
}

/// What to send next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Nothing until something is asked or answered.
    Nothing,
    /// A frame was written.
    Frame,
    /// This state is to be restored. May be large, so that it is for the caller to encode.
    State(Bytes),
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
            asked: VecDeque::new(),
            bytes: 0,
            calls: 0,
            delivered: 0,
            skipped: BTreeSet::new(),
            careful: None,
            restoring: false,
            own: (OWN, false),
            patience: 1,
            deaths: 0,
            failed: false,
            life: Life::default(),
        }
    }

    /// Takes in what the core asks; returns what it is to be told at once.
    pub(crate) fn ask(&mut self, action: WorkerAction) -> Option<Event> {
        match action {
            WorkerAction::Apply { index, time_ms, calls } => {
                self.count(&calls);
                self.asked.push_back(ToWorker::Apply { index, time_ms, calls });
                self.bound();
            }
            WorkerAction::Read(calls) => self.asked.push_back(ToWorker::Read(calls)),
            WorkerAction::Snapshot(number) => self.asked.push_back(ToWorker::Snapshot(number)),
            WorkerAction::Restore(state) => self.restore(state),
            WorkerAction::Skip(number) => return self.skip(number),
        }
        None
    }

    fn count(&mut self, calls: &[HostedCall]) {
        self.calls += calls.len();
        self.bytes += calls.iter().map(|call| call.arguments.len() + CALL_BYTES).sum::<usize>();
    }

    /// Asks for a new base when too much would have to be run again.
    fn bound(&mut self) {
        let (number, under_way) = self.own;
        let full = self.bytes > JOURNAL_BYTES_MAX.saturating_mul(self.patience)
            || self.calls > JOURNAL_CALLS_MAX.saturating_mul(self.patience);
        if full && !under_way {
            self.own = (number + 1, true);
            self.asked.push_back(ToWorker::Snapshot(number + 1));
        }
    }

    fn restore(&mut self, state: Bytes) {
        self.base = Some(state);
        self.asked.clear();
        self.skipped.clear();
        (self.bytes, self.calls, self.deaths) = (0, 0, 0);
        self.own.1 = false;
        self.careful = None;
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
        (number > self.delivered).then(|| Event::Done(vec![(number, crashed())]))
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
                return Next::State(base);
            }
        }
        while let Some(asked) = self.asked.get(self.life.sent.0) {
            let calls = calls_of(asked);
            let (Some(first), Some(last)) = (calls.first(), calls.last()) else {
                write_frame(asked, to);
                self.life.sent.0 += 1;
                return Next::Frame;
            };
            let (first, last) = (first.number, last.number);
            let read = matches!(asked, ToWorker::Read(_));
            if self.careful == Some(last) {
                return self.send_one(now, to);
            }
            self.life.sent.0 += 1;
            let Some(range) = write_without(asked, &self.skipped, (first, last), to) else {
                continue;
            };
            self.await_(
                Awaited::Calls { first: range.0, last: range.1, read, careful: false },
                now,
            );
            return Next::Frame;
        }
        Next::Nothing
    }

    /// Sends the next call of a batch that a worker died of, alone.
    fn send_one(&mut self, now: Instant, to: &mut BytesMut) -> Next {
        if !self.life.awaited.is_empty() {
            return Next::Nothing;
        }
        let (at, within) = self.life.sent;
        let asked = self.asked.get(at).expect("the caller looked at it");
        let calls = calls_of(asked);
        let left = calls.iter().enumerate().skip(within);
        let next = left.into_iter().find(|(_, call)| !self.skipped.contains(&call.number));
        let Some((position, call)) = next else {
            self.careful = None;
            self.life.sent = (at + 1, 0);
            return self.send(now, to);
        };
        let number = call.number;
        let read = matches!(asked, ToWorker::Read(_));
        write_frame(&with_calls(asked, vec![call.clone()]), to);
        self.life.sent.1 = position + 1;
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
            FromWorker::Done(outcomes) => self.hear_done(outcomes, now),
            FromWorker::Snapshot(number, result) => Ok(self.hear_snapshot(number, result)),
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
            FromWorker::Loaded { .. } | FromWorker::NotLoaded(_) => Err(Unasked),
        }
    }

    fn hear_done(
        &mut self,
        outcomes: Vec<(u64, Outcome)>,
        now: Instant,
    ) -> Result<Option<Event>, Unasked> {
        let mut fresh = Vec::with_capacity(outcomes.len());
        for (number, outcome) in outcomes {
            let Some(Awaited::Calls { first, last, read, .. }) = self.life.awaited.front().copied()
            else {
                return Err(Unasked);
            };
            if !(first..=last).contains(&number) {
                return Err(Unasked);
            }
            if number > self.delivered && !self.skipped.contains(&number) {
                self.delivered = number;
                fresh.push((number, outcome));
            }
            if number == last {
                self.answered(now);
                if read {
                    self.forget_read(last);
                }
            }
        }
        Ok((!fresh.is_empty()).then_some(Event::Done(fresh)))
    }

    /// Reads leave no trace in the state: once answered they are not run again.
    fn forget_read(&mut self, last: u64) {
        let is_it = |asked: &ToWorker| matches!(asked, ToWorker::Read(calls) if calls.last().is_some_and(|call| call.number == last));
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

    fn hear_snapshot(&mut self, number: u64, result: Result<Bytes, String>) -> Option<Event> {
        let at = self.asked.iter().position(|asked| *asked == ToWorker::Snapshot(number))?;
        self.deaths = 0;
        if number == self.own.0 {
            self.own.1 = false;
        }
        match &result {
            Ok(state) => {
                self.patience = 1;
                self.rebase(state.clone(), at);
            }
            Err(reason) => {
                self.patience = self.patience.saturating_mul(2);
                if number >= OWN {
                    tracing::warn!("the object's state can't be written down: {reason}");
                }
                self.remove(at);
            }
        }
        (number < OWN).then_some(Event::Snapshot(number, result))
    }

    /// Begins anew from `state`, which holds everything before what was asked at `at`.
    fn rebase(&mut self, state: Bytes, at: usize) {
        self.base = Some(state);
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
            Awaited::Restored => self.load_timeout,
            Awaited::Calls { .. } => self.apply_timeout,
        };
        let taken = now.saturating_duration_since(self.life.since?);
        Some(timeout.saturating_sub(taken))
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
            Some(Awaited::Calls { first, careful: true, .. }) => self.fail(first),
            Some(Awaited::Calls { last, .. }) => {
                self.careful = self.batch_end(last);
                None
            }
            Some(Awaited::Restored) => self.died_restoring(),
            None => self.died_idle(life.sent.0),
        }
    }

    /// The last number of the batch that holds that call.
    fn batch_end(&self, number: u64) -> Option<u64> {
        let batch = self
            .asked
            .iter()
            .map(calls_of)
            .find(|calls| calls.iter().any(|call| call.number == number))?;
        batch.last().map(|call| call.number)
    }

    /// A call was tried a second time, alone, and the worker died of it again.
    fn fail(&mut self, number: u64) -> Option<Event> {
        let is_it = |call: &HostedCall| call.number == number;
        let asked = self.asked.iter().find(|asked| calls_of(asked).iter().any(is_it))?;
        if matches!(asked, ToWorker::Read(_)) {
            // It changes nothing, so that its refusal needs nobody's agreement.
            self.skipped.insert(number);
            return Some(Event::Done(vec![(number, crashed())]));
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

    fn died_idle(&mut self, sent: usize) -> Option<Event> {
        let is_snapshot = |asked: &ToWorker| matches!(asked, ToWorker::Snapshot(_));
        let at = self.asked.iter().take(sent).position(is_snapshot)?;
        self.deaths += 1;
        if self.deaths < DEATHS_MAX {
            return None;
        }
        let Some(ToWorker::Snapshot(number)) = self.asked.get(at).cloned() else { return None };
        self.hear_snapshot(number, Err("the worker dies of writing its state down".into()))
    }
}

fn crashed() -> Outcome {
    Outcome::Refused(Refusal::ObjectCrashed)
}

fn calls_of(asked: &ToWorker) -> &[HostedCall] {
    match asked {
        ToWorker::Apply { calls, .. } | ToWorker::Read(calls) => calls,
        ToWorker::Load { .. } | ToWorker::Snapshot(_) | ToWorker::Restore(_) => &[],
    }
}

fn with_calls(asked: &ToWorker, calls: Vec<HostedCall>) -> ToWorker {
    match asked {
        ToWorker::Apply { index, time_ms, .. } => {
            ToWorker::Apply { index: *index, time_ms: *time_ms, calls }
        }
        ToWorker::Read(_) => ToWorker::Read(calls),
        ToWorker::Load { .. } | ToWorker::Snapshot(_) | ToWorker::Restore(_) => {
            unreachable!("these hold no calls")
        }
    }
}

/// Writes a batch but for the calls that are skipped; returns its first and last number, if any
/// is left.
fn write_without(
    batch: &ToWorker,
    skipped: &BTreeSet<u64>,
    (first, last): (u64, u64),
    to: &mut BytesMut,
) -> Option<(u64, u64)> {
    if skipped.range(first..=last).next().is_none() {
        write_frame(batch, to);
        return Some((first, last));
    }
    let stays = |call: &&HostedCall| !skipped.contains(&call.number);
    let left: Vec<_> = calls_of(batch).iter().filter(stays).cloned().collect();
    let range = (left.first()?.number, left.last()?.number);
    write_frame(&with_calls(batch, left), to);
    Some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn apply(number: u64) -> WorkerAction {
        let call = HostedCall { number, method: "add".into(), arguments: Bytes::new() };
        WorkerAction::Apply { index: number, time_ms: 0, calls: vec![call] }
    }

    fn done(number: u64) -> FromWorker {
        FromWorker::Done(vec![(number, Outcome::Returned(Bytes::new()))])
    }

    /// Has the journal send all it can; says how many frames.
    fn send(journal: &mut Journal) -> usize {
        let mut to = BytesMut::new();
        std::iter::from_fn(|| {
            (journal.send(Instant::now(), &mut to) != Next::Nothing).then_some(())
        })
        .count()
    }

    #[test]
    fn a_journal_that_grows_asks_for_a_snapshot_of_its_own_and_begins_anew_from_it() {
        let mut journal = Journal::new(MINUTE, MINUTE);
        let last = JOURNAL_CALLS_MAX as u64 + 1;
        for number in 1..=last {
            journal.ask(apply(number));
            send(&mut journal);
            journal.hear(done(number), Instant::now()).unwrap();
        }
        let own = ToWorker::Snapshot(OWN + 1);
        assert_eq!(journal.asked.back(), Some(&own));
        journal.ask(apply(last + 1));
        let state = Ok(Bytes::from_static(b"state"));
        // The core does not hear of it.
        assert!(
            journal.hear(FromWorker::Snapshot(OWN + 1, state), Instant::now()).unwrap().is_none()
        );
        assert_eq!((journal.asked.len(), journal.calls, journal.bytes), (1, 1, CALL_BYTES));
        assert_eq!(send(&mut journal), 1, "only what the state does not hold");
    }

    #[test]
    fn what_nobody_asked_is_not_believed() {
        let mut journal = Journal::new(MINUTE, MINUTE);
        journal.ask(apply(1));
        assert!(journal.hear(done(1), Instant::now()).is_err(), "it was not sent yet");
        send(&mut journal);
        assert!(journal.hear(done(2), Instant::now()).is_err());
        assert!(journal.hear(FromWorker::Restored(Ok(())), Instant::now()).is_err());
        assert!(journal.hear(done(1), Instant::now()).is_ok());
    }

    #[test]
    fn a_worker_that_always_dies_of_writing_its_state_down_ends_the_asking() {
        let mut journal = Journal::new(MINUTE, MINUTE);
        journal.ask(WorkerAction::Snapshot(1));
        send(&mut journal);
        assert!(journal.end_life().is_none(), "once may be chance");
        send(&mut journal);
        assert!(matches!(journal.end_life(), Some(Event::Snapshot(1, Err(_)))));
    }

    #[test]
    fn the_time_of_a_call_runs_from_when_the_worker_began_on_it() {
        let mut journal = Journal::new(MINUTE, MINUTE);
        let start = Instant::now();
        assert_eq!(journal.time_left(start), None);
        let mut to = BytesMut::new();
        for number in 1..=2 {
            journal.ask(apply(number));
            journal.send(start, &mut to);
        }
        let later = start + MINUTE / 2;
        assert_eq!(journal.time_left(later), Some(MINUTE / 2));
        journal.hear(done(1), later).unwrap();
        assert_eq!(journal.time_left(later), Some(MINUTE));
    }
}
