//! Reads: calls that leave everything as it is, on their way past the log.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::{Action, Replica, WorkerAction};
use crate::call::{Call, ConnectionId, Outcome, SessionId};
use crate::limits::HOSTED_READS_BYTES_MAX;
use crate::planted;
use crate::wire::{Answer, HostedCall};

/// A read whose index did not come for this long is asked for again.
const READ_AGAIN: Duration = Duration::from_millis(100);

/// Bytes that a read costs beside its arguments, about.
const READ_BYTES: usize = 256;

/// Reads on their way past the log.
#[derive(Default)]
pub(super) struct Reads {
    /// Not asked for yet.
    new: Vec<Read>,
    /// The tick after which the last question was asked.
    asked_in: u64,
    /// The index is asked for, under that number, since then.
    asked: BTreeMap<u64, (Duration, Vec<Read>)>,
    /// May be answered once that index is applied.
    confirmed: BTreeMap<u64, Vec<Read>>,
    /// May be answered by the worker, as soon as it has not too many others.
    waiting: VecDeque<(ConnectionId, Call)>,
    /// With the worker, by the number it was given. They stay when their client goes.
    hosted: BTreeMap<u64, Hosted>,
    hosted_bytes: usize,
}

struct Read {
    connection: ConnectionId,
    what: Sought,
}

pub(super) enum Sought {
    Call(Call),
    /// Whether that session lives.
    Alive(SessionId),
    Backup,
}

impl Sought {
    /// Whose client asks, and so lives.
    const fn session(&self) -> Option<SessionId> {
        match self {
            Self::Call(call) => Some(call.session),
            Self::Alive(session) => Some(*session),
            Self::Backup => None,
        }
    }
}

struct Hosted {
    connection: ConnectionId,
    sequence: u64,
    /// Bytes of its arguments.
    bytes: usize,
}

impl Replica {
    /// Asks from which index on the reads of this turn may be answered: one question for all.
    ///
    /// Whoever gets an answer may rely on its session for the whole of its timeout from when it
    /// asked. So the leader hears of these sessions first, on the same stream.
    pub(super) fn ask_reads(&mut self) {
        let leads = self.is_settled_leader();
        let follows = self.leader().filter(|_| !self.is_leader());
        if !self.clients.reads.may_ask(self.ticks)
            || !leads && follows.is_none()
            || self.is_in_doubt()
        {
            return;
        }
        let reads = self.clients.reads.begin(self.ticks);
        if let Some(leader) = follows {
            self.clients.hear_here(reads.iter().filter_map(|read| read.what.session()));
            self.tell_who_was_heard(leader);
        }
        let number = self.consensus.read();
        self.clients.reads.asked.insert(number, (self.now, reads));
        if planted::is("stale-read") {
            self.clients.reads.confirm(vec![(number, self.consensus.applied())]);
        }
    }

    pub(super) fn answer_reads(&mut self) {
        let applied = self.consensus.applied();
        while let Some(due) =
            self.clients.reads.confirmed.first_entry().filter(|due| *due.key() <= applied)
        {
            for Read { connection, what } in due.remove() {
                match what {
                    Sought::Call(call) => self.answer_read(connection, call),
                    Sought::Alive(session) => self.answer_alive(connection, session),
                    Sought::Backup => self.backups.push(connection, applied),
                }
            }
        }
        self.host_reads();
    }

    fn answer_read(&mut self, connection: ConnectionId, call: Call) {
        if let Some(outcome) = self.machine.read(&call) {
            self.clients.discharge(connection, call.arguments.len());
            let answer = Answer::Reply { sequence: call.sequence, outcome };
            self.actions.push(Action::Answer(connection, answer));
        } else {
            self.clients.reads.waiting.push_back((connection, call));
        }
    }

    fn answer_alive(&mut self, connection: ConnectionId, session: SessionId) {
        self.clients.discharge(connection, 0);
        let lives = self.machine.state.sessions.contains(session);
        let answer = if lives { Answer::Alive(session) } else { Answer::Expired(session) };
        self.actions.push(Action::Answer(connection, answer));
    }

    /// Gives the worker what it is to read, as long as it has not too much of that.
    fn host_reads(&mut self) {
        let mut calls = Vec::new();
        let reads = &mut self.clients.reads;
        while reads.hosted_bytes < HOSTED_READS_BYTES_MAX
            && let Some((connection, call)) = reads.waiting.pop_front()
        {
            let number = self.machine.number();
            let (sequence, bytes) = (call.sequence, call.arguments.len());
            reads.hosted_bytes += bytes + READ_BYTES;
            reads.hosted.insert(number, Hosted { connection, sequence, bytes });
            calls.push(HostedCall {
                number,
                call: call.id(),
                thread: call.thread,
                object: self.machine.proper(&call.object),
                method: call.method,
                arguments: call.arguments,
            });
        }
        if !calls.is_empty() {
            let time_ms = self.machine.state.time_ms;
            self.actions.push(Action::Worker(WorkerAction::Read { time_ms, calls }));
        }
    }

    /// The worker has answered a read.
    pub(super) fn reply_read(&mut self, number: u64, outcome: Outcome) {
        let reads = &mut self.clients.reads;
        let Some(Hosted { connection, sequence, bytes }) = reads.hosted.remove(&number) else {
            return;
        };
        reads.hosted_bytes -= bytes + READ_BYTES;
        self.clients.discharge(connection, bytes);
        self.actions.push(Action::Answer(connection, Answer::Reply { sequence, outcome }));
    }
}

impl Reads {
    pub(super) fn ask(&mut self, connection: ConnectionId, what: Sought) {
        self.new.push(Read { connection, what });
    }

    /// Whether something is to be asked now. Sessions alone cost one question a tick at most,
    /// however many they are.
    fn may_ask(&self, ticks: u64) -> bool {
        let is_alive = |read: &Read| matches!(read.what, Sought::Alive(_));
        !self.new.is_empty() && (self.asked_in != ticks || !self.new.iter().all(is_alive))
    }

    fn begin(&mut self, ticks: u64) -> Vec<Read> {
        self.asked_in = ticks;
        std::mem::take(&mut self.new)
    }

    /// There is another leader to ask.
    pub(super) fn ask_again(&mut self) {
        let asked = std::mem::take(&mut self.asked);
        self.new.extend(asked.into_values().flat_map(|(_, reads)| reads));
    }

    pub(super) fn ask_overdue(&mut self, now: Duration) {
        let overdue = self.asked.extract_if(.., |_, (since, _)| *since + READ_AGAIN <= now);
        self.new.extend(overdue.flat_map(|(_, (_, reads))| reads));
    }

    /// The reads that were asked for under these numbers may be answered from these indices on.
    pub(super) fn confirm(&mut self, confirmed: Vec<(u64, u64)>) {
        for (number, index) in confirmed {
            if let Some((_, reads)) = self.asked.remove(&number) {
                self.confirmed.entry(index).or_default().extend(reads);
            }
        }
    }

    /// The first that the worker has not answered.
    pub(super) fn undone(&self) -> Option<u64> {
        self.hosted.first_key_value().map(|(number, _)| *number)
    }

    pub(super) fn disconnected(&mut self, connection: ConnectionId) {
        let asked = self.asked.values_mut().map(|(_, reads)| reads);
        for reads in asked.chain(self.confirmed.values_mut()).chain([&mut self.new]) {
            reads.retain(|read| read.connection != connection);
        }
        self.waiting.retain(|(waiting, _)| *waiting != connection);
    }
}
