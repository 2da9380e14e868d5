//! Sessions: what makes each call take effect once.
//!
//! The table is replicated state. It is asked when a call is *applied*, not when it is proposed:
//! two leaders can both put the same call into the log, and all replicas must see alike which
//! one is the first.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::call::{Call, Outcome, Refusal, SessionId};
use crate::limits::{
    SESSION_CALLS_MAX, SESSION_LATE_BYTES_MAX, SESSION_PARKED_MAX, SESSION_REPLY_BYTES_MAX,
    SESSIONS_MAX,
};
use crate::planted;

/// Numbers of sessions begin anew, and higher, with each lineage: one that goes on alone does not
/// know of those that were opened without it, and must not take their clients for others'.
const LINEAGE_SHIFT: u32 = 32;

/// All open sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sessions {
    open: BTreeMap<SessionId, Session>,
    /// The last that was opened. The next one's number is greater, so that none is given out
    /// twice.
    opened: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Session {
    /// Replies below this number have reached the client and are forgotten.
    acked: u64,
    /// Calls from `acked` on that were applied, and those before that are or were parked.
    kept: BTreeMap<u64, Kept>,
    /// Bytes of replies, but for those that came from the worker.
    reply_bytes: usize,
    /// Calls parked here, or that were and whose replies are kept; not those of a worker.
    parked: usize,
    /// Bytes of the replies that came from the worker.
    late_bytes: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Kept {
    /// The worker has it; the outcome follows. Where it was parked and woken and its reply has
    /// arrived already, since another replica's worker was quicker, the flag says so.
    Running(bool),
    Done(Outcome),
    /// Came from the worker. Workers finish when they do, so nothing that is decided while
    /// applying may depend on it: its bytes do not count.
    Late(Outcome),
    /// It waits at its object.
    Parked,
    /// It waited, and then ended so. To know that all replies below a number have arrived says
    /// nothing of this one.
    Woken(Outcome),
    /// As the two before, at an object of the worker.
    LateParked,
    LateWoken(Outcome),
}

/// What to do with a call that the log brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is the first time: run it.
    Run,
    /// It has run, or never will: this is the reply.
    Answer(Outcome),
    /// It is running; the reply follows.
    Wait,
    /// It is parked; the reply follows, whenever that is.
    Parked,
}

/// How a call ended, as far as a session table can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The log has not brought it here yet, or it has not ended.
    Unknown,
    Ran,
    Skipped,
    /// It has ended, and nobody needs to know how any more.
    Forgotten,
}

impl Sessions {
    pub(crate) fn open(&mut self, lineage: u64) -> Result<SessionId, Refusal> {
        if self.open.len() >= SESSIONS_MAX {
            return Err(Refusal::TooManySessions);
        }
        self.opened = (self.opened + 1).max(lineage << LINEAGE_SHIFT);
        let id = SessionId(self.opened);
        self.open.insert(id, Session::default());
        Ok(id)
    }

    /// What was kept of all calls is gone.
    pub(crate) fn forget(&mut self) {
        for session in self.open.values_mut() {
            session.kept.clear();
            session.late_bytes = 0;
        }
    }

    /// What was kept of parked calls is gone.
    pub(crate) fn forget_parked(&mut self) {
        for session in self.open.values_mut() {
            session.kept.retain(|_, kept| !matches!(kept, Kept::Parked | Kept::LateParked));
        }
    }

    pub(crate) fn close(&mut self, id: SessionId) -> bool {
        self.open.remove(&id).is_some()
    }

    pub(crate) fn contains(&self, id: SessionId) -> bool {
        self.open.contains_key(&id)
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = SessionId> {
        self.open.keys().copied()
    }

    pub(crate) fn len(&self) -> usize {
        self.open.len()
    }

    /// The last that was opened.
    pub(crate) const fn opened(&self) -> u64 {
        self.opened
    }

    /// Sessions for which too much is kept that came from the worker. Workers finish when they do,
    /// so that none of this can be refused while applying; and their calls can't be refused before
    /// they are in the log, since another copy may be there already.
    pub(crate) fn overfull(&self) -> impl Iterator<Item = SessionId> {
        self.open.iter().filter(|(_, session)| session.is_overfull()).map(|(id, _)| *id)
    }

    /// Whether it is one of those.
    pub(crate) fn is_overfull(&self, id: SessionId) -> bool {
        self.open.get(&id).is_some_and(Session::is_overfull)
    }

    /// Decides on a call. After [`Verdict::Run`] the caller says how it ended with
    /// [`Sessions::done`], or first that it runs elsewhere with [`Sessions::running`].
    pub(crate) fn admit(&mut self, call: &Call) -> Verdict {
        let Some(session) = self.open.get_mut(&call.session) else {
            return Verdict::Answer(Outcome::Refused(Refusal::SessionExpired));
        };
        session.acknowledge(call.acked);
        session.receive(&call.received);
        match session.kept.get(&call.sequence) {
            Some(_) if planted::is("no-dedupe") => Verdict::Run,
            Some(Kept::Running(_)) => Verdict::Wait,
            Some(Kept::Parked | Kept::LateParked) => Verdict::Parked,
            Some(
                Kept::Done(outcome)
                | Kept::Late(outcome)
                | Kept::Woken(outcome)
                | Kept::LateWoken(outcome),
            ) => Verdict::Answer(outcome.clone()),
            None if call.sequence < session.acked || call.sequence == 0 => {
                Verdict::Answer(Outcome::Refused(Refusal::Superseded))
            }
            // Nobody who keeps to the window gets there, and there is no end to such numbers.
            None if session.is_beyond(call.sequence) => {
                Verdict::Answer(Outcome::Refused(Refusal::TooManyCalls))
            }
            None if session.is_full() => {
                // Kept, so that a second copy of the call in the log does not run after all.
                let refused = Outcome::Refused(Refusal::TooManyCalls);
                session.keep(call.sequence, refused.clone());
                Verdict::Answer(refused)
            }
            None => Verdict::Run,
        }
    }

    /// What is known of the end of that call, for one that is not with the worker.
    pub(crate) fn fate(&self, id: SessionId, sequence: u64) -> Fate {
        let Some(session) = self.open.get(&id) else {
            return if id.0 <= self.opened { Fate::Forgotten } else { Fate::Unknown };
        };
        match session.kept.get(&sequence) {
            Some(Kept::Parked | Kept::LateParked | Kept::Woken(_) | Kept::LateWoken(_)) => {
                Fate::Ran
            }
            Some(Kept::Done(outcome) | Kept::Late(outcome)) => {
                if *outcome == Outcome::Refused(Refusal::ObjectCrashed) {
                    Fate::Skipped
                } else {
                    Fate::Ran
                }
            }
            Some(Kept::Running(_)) => Fate::Unknown,
            None if sequence < session.acked => Fate::Forgotten,
            None => Fate::Unknown,
        }
    }

    /// How that call ended, if it did and that is still kept.
    pub(crate) fn outcome(&self, id: SessionId, sequence: u64) -> Option<&Outcome> {
        match self.open.get(&id)?.kept.get(&sequence)? {
            Kept::Done(outcome)
            | Kept::Late(outcome)
            | Kept::Woken(outcome)
            | Kept::LateWoken(outcome) => Some(outcome),
            Kept::Running(_) | Kept::Parked | Kept::LateParked => None,
        }
    }

    /// Whether that call is known to be parked.
    pub(crate) fn is_parked(&self, id: SessionId, sequence: u64) -> bool {
        let kept = self.open.get(&id).and_then(|session| session.kept.get(&sequence));
        matches!(kept, Some(Kept::Parked | Kept::LateParked))
    }

    /// That call is with the worker.
    pub(crate) fn running(&mut self, id: SessionId, sequence: u64) {
        if let Some(session) = self.open.get_mut(&id) {
            session.kept.insert(sequence, Kept::Running(false));
        }
    }

    /// That call ended so. Kept for as long as the session lives and has not acknowledged it.
    pub(crate) fn done(&mut self, id: SessionId, sequence: u64, outcome: &Outcome) {
        let Some(session) = self.open.get_mut(&id) else { return };
        if session.kept.contains_key(&sequence) {
            if sequence < session.acked {
                // Another replica was quicker, and its reply has arrived.
                session.kept.remove(&sequence);
            } else {
                session.late_bytes += outcome.size();
                let before = session.kept.insert(sequence, Kept::Late(outcome.clone()));
                if let Some(Kept::Late(before)) = before {
                    session.late_bytes -= before.size();
                }
            }
            return;
        }
        if sequence < session.acked {
            return;
        }
        let kept = if planted::is("reply-forgotten") {
            Outcome::Refused(Refusal::Superseded)
        } else {
            outcome.clone()
        };
        session.keep(sequence, kept);
    }

    /// That call waits at an object that lives here; false if its session has too many that do,
    /// and then nothing has changed.
    pub(crate) fn park(&mut self, id: SessionId, sequence: u64) -> bool {
        let Some(session) = self.open.get_mut(&id) else { return false };
        if session.parked >= SESSION_PARKED_MAX {
            return false;
        }
        session.parked += 1;
        session.kept.insert(sequence, Kept::Parked);
        true
    }

    /// That call waits at an object of the worker.
    pub(crate) fn parked_late(&mut self, id: SessionId, sequence: u64) {
        let Some(session) = self.open.get_mut(&id) else { return };
        match session.kept.get_mut(&sequence) {
            Some(Kept::Running(true)) => {
                session.kept.remove(&sequence);
            }
            Some(kept) => *kept = Kept::LateParked,
            None => {}
        }
    }

    /// That call has waited and ended so.
    pub(crate) fn woken(&mut self, id: SessionId, sequence: u64, outcome: &Outcome) {
        let Some(session) = self.open.get_mut(&id) else { return };
        match session.kept.get_mut(&sequence) {
            Some(kept @ Kept::Parked) => {
                session.reply_bytes += outcome.size();
                *kept = Kept::Woken(outcome.clone());
            }
            Some(kept @ Kept::LateParked) => {
                session.late_bytes += outcome.size();
                *kept = Kept::LateWoken(outcome.clone());
            }
            Some(
                Kept::Running(_)
                | Kept::Done(_)
                | Kept::Late(_)
                | Kept::Woken(_)
                | Kept::LateWoken(_),
            )
            | None => {}
        }
    }

    /// Whether that call has waited and ended.
    pub(crate) fn was_parked(&self, id: SessionId, sequence: u64) -> bool {
        let kept = self.open.get(&id).and_then(|session| session.kept.get(&sequence));
        matches!(kept, Some(Kept::Woken(_) | Kept::LateWoken(_)))
    }

    /// That call is not to run if it has not; false if it has.
    pub(crate) fn forestall(&mut self, id: SessionId, sequence: u64) -> bool {
        let Some(session) = self.open.get_mut(&id) else { return true };
        let is_new = sequence >= session.acked && !session.kept.contains_key(&sequence);
        if is_new {
            // Reads go past the log, and what they acknowledge with them. Whoever keeps to the
            // window has the replies of all that are so far below this one: it must be kept, or a
            // copy of it that comes later would run.
            session.acknowledge(sequence.saturating_sub(SESSION_CALLS_MAX));
            session.keep(sequence, Outcome::Refused(Refusal::Cancelled));
        }
        is_new
    }
}

impl Session {
    fn acknowledge(&mut self, acked: u64) {
        if acked <= self.acked {
            return;
        }
        // What is running stays until the worker says how it ends: it may be parked.
        for (_, kept) in self
            .kept
            .extract_if(self.acked..acked, |_, kept| matches!(kept, Kept::Done(_) | Kept::Late(_)))
        {
            match kept {
                Kept::Done(outcome) => self.reply_bytes -= outcome.size(),
                Kept::Late(outcome) => self.late_bytes -= outcome.size(),
                Kept::Running(_)
                | Kept::Parked
                | Kept::Woken(_)
                | Kept::LateParked
                | Kept::LateWoken(_) => {}
            }
        }
        self.acked = acked;
    }

    /// The replies of these calls, which were parked, have arrived. Below `acked` alone: above it
    /// a call that is forgotten would run again.
    fn receive(&mut self, received: &[u64]) {
        for sequence in received.iter().filter(|sequence| **sequence < self.acked) {
            match self.kept.get_mut(sequence) {
                Some(Kept::Running(received)) => *received = true,
                Some(Kept::Woken(outcome)) => {
                    self.reply_bytes -= outcome.size();
                    self.parked -= 1;
                    self.kept.remove(sequence);
                }
                Some(Kept::LateWoken(outcome)) => {
                    self.late_bytes -= outcome.size();
                    self.kept.remove(sequence);
                }
                // That the worker's object has ended it may not be known here yet.
                Some(Kept::LateParked) => {
                    self.kept.remove(sequence);
                }
                // Nobody can have received that.
                Some(Kept::Parked | Kept::Done(_) | Kept::Late(_)) | None => {}
            }
        }
    }

    fn keep(&mut self, sequence: u64, outcome: Outcome) {
        self.reply_bytes += outcome.size();
        self.kept.insert(sequence, Kept::Done(outcome));
    }

    fn is_beyond(&self, sequence: u64) -> bool {
        sequence - self.acked > SESSION_CALLS_MAX
    }

    fn is_overfull(&self) -> bool {
        self.late_bytes > SESSION_LATE_BYTES_MAX
            || self.kept.len() > 2 * SESSION_PARKED_MAX + SESSION_CALLS_MAX as usize
    }

    fn is_full(&self) -> bool {
        self.reply_bytes > SESSION_REPLY_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn call(session: SessionId, sequence: u64, acked: u64) -> Call {
        Call { session, sequence, acked, method: "increment".into(), ..Call::default() }
    }

    fn returned(byte: u8) -> Outcome {
        Outcome::Returned(Bytes::copy_from_slice(&[byte]))
    }

    #[test]
    fn a_call_runs_once_and_its_reply_is_kept() {
        let mut sessions = Sessions::default();
        let id = sessions.open(0).unwrap();
        assert_eq!(sessions.admit(&call(id, 1, 1)), Verdict::Run);
        sessions.done(id, 1, &returned(7));
        assert_eq!(sessions.admit(&call(id, 1, 1)), Verdict::Answer(returned(7)));
    }

    #[test]
    fn a_call_that_is_cancelled_far_beyond_the_last_one_never_runs() {
        let mut sessions = Sessions::default();
        let id = sessions.open(0).unwrap();
        // All before it were reads, which go past the log.
        let number = 10 * SESSION_CALLS_MAX;
        assert!(sessions.forestall(id, number));
        let cancelled = Verdict::Answer(Outcome::Refused(Refusal::Cancelled));
        assert_eq!(sessions.admit(&call(id, number, number - 5)), cancelled);
        assert_eq!(sessions.admit(&call(id, number - 1, number - 5)), Verdict::Run);
    }

    #[test]
    fn no_lineage_gives_out_what_another_one_has() {
        let mut sessions = Sessions::default();
        let first = sessions.open(0).unwrap();
        let mut alone = sessions.clone();
        let lost: Vec<_> = (0..10).map(|_| sessions.open(0).unwrap()).collect();
        let opened: Vec<_> = (0..10).map(|_| alone.open(1).unwrap()).collect();
        assert!(opened.iter().all(|id| !lost.contains(id) && *id > first), "{opened:?}");
        assert!(opened.is_sorted());
        assert!(alone.open(2).unwrap() > *opened.last().unwrap());
    }

    #[test]
    fn numbers_may_arrive_in_any_order() {
        let mut sessions = Sessions::default();
        let id = sessions.open(0).unwrap();
        for sequence in [3, 1, 2] {
            assert_eq!(sessions.admit(&call(id, sequence, 1)), Verdict::Run);
            sessions.done(id, sequence, &returned(0));
        }
    }

    #[test]
    fn what_was_acknowledged_is_forgotten_and_never_runs_again() {
        let mut sessions = Sessions::default();
        let id = sessions.open(0).unwrap();
        sessions.admit(&call(id, 1, 1));
        sessions.done(id, 1, &returned(7));
        assert_eq!(sessions.admit(&call(id, 2, 2)), Verdict::Run);
        assert_eq!(
            sessions.admit(&call(id, 1, 1)),
            Verdict::Answer(Outcome::Refused(Refusal::Superseded))
        );
        assert_eq!(sessions.open[&id].reply_bytes, 0);
    }

    #[test]
    fn a_call_that_runs_elsewhere_is_not_run_again() {
        let mut sessions = Sessions::default();
        let id = sessions.open(0).unwrap();
        assert_eq!(sessions.admit(&call(id, 1, 1)), Verdict::Run);
        sessions.running(id, 1);
        assert_eq!(sessions.admit(&call(id, 1, 1)), Verdict::Wait);
    }

    #[test]
    fn after_the_end_of_a_session_its_calls_never_run() {
        let mut sessions = Sessions::default();
        let id = sessions.open(0).unwrap();
        assert!(sessions.close(id));
        assert_eq!(
            sessions.admit(&call(id, 1, 1)),
            Verdict::Answer(Outcome::Refused(Refusal::SessionExpired))
        );
        assert_ne!(sessions.open(0).unwrap(), id);
    }

    #[test]
    fn a_session_for_which_a_worker_did_too_much_is_named_until_it_acknowledges() {
        let mut sessions = Sessions::default();
        let id = sessions.open(0).unwrap();
        let large = Outcome::Returned(Bytes::from(vec![0; SESSION_LATE_BYTES_MAX / 2]));
        let run = |sessions: &mut Sessions, sequence, acked, received: &[u64]| {
            let received = received.to_vec();
            let verdict = sessions.admit(&Call { received, ..call(id, sequence, acked) });
            assert_eq!(verdict, Verdict::Run);
            sessions.running(id, sequence);
        };
        run(&mut sessions, 1, 1, &[]);
        sessions.parked_late(id, 1);
        sessions.woken(id, 1, &large);
        run(&mut sessions, 2, 1, &[]);
        sessions.done(id, 2, &large);
        assert_eq!(sessions.overfull().collect::<Vec<_>>(), [id]);
        run(&mut sessions, 3, 3, &[]);
        assert_eq!(sessions.overfull().count(), 0);
        run(&mut sessions, 4, 3, &[1]);
        assert_eq!(sessions.open[&id].late_bytes, 0);
        for sequence in 5..=2 * SESSION_PARKED_MAX as u64 + 300 {
            run(&mut sessions, sequence, sequence, &[]);
            sessions.parked_late(id, sequence);
        }
        assert_eq!(sessions.overfull().collect::<Vec<_>>(), [id]);
    }

    #[test]
    fn a_session_that_never_acknowledges_is_bounded() {
        let mut sessions = Sessions::default();
        let id = sessions.open(0).unwrap();
        let refused = Verdict::Answer(Outcome::Refused(Refusal::TooManyCalls));
        assert_eq!(sessions.admit(&call(id, SESSION_CALLS_MAX + 1, 0)), refused);
        sessions.admit(&call(id, 1, 1));
        sessions.done(id, 1, &Outcome::Returned(Bytes::from(vec![0; SESSION_REPLY_BYTES_MAX])));
        assert_eq!(sessions.admit(&call(id, 2, 1)), refused);
        assert_eq!(sessions.admit(&call(id, 2, 2)), refused, "another copy of it does not run");
        assert_eq!(sessions.admit(&call(id, 3, 3)), Verdict::Run);
    }
}
