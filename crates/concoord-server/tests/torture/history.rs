//! What clients asked and were answered, and what an object would have answered.

use std::collections::VecDeque;
use std::fmt;

/// What a client asked for. An object of some kind understands some of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Call {
    Read,
    Write(i64),
    Swap {
        old: i64,
        new: i64,
    },
    Increment,
    /// Tells what was there before.
    Add(i64),
    Enqueue(i64),
    Dequeue,
    Acquire(i64),
    Release(i64),
}

/// What it was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Answer {
    Nothing,
    Number(i64),
    Flag(bool),
}

/// One call of one client. Moments are in nanoseconds after the begin of the history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) client: usize,
    /// Which of many objects was called: each has a history of its own.
    pub(crate) key: i64,
    pub(crate) call: Call,
    pub(crate) start: u64,
    /// When the answer came, and which. Without one the call may take effect at any moment after
    /// its start, or never.
    pub(crate) end: Option<(u64, Answer)>,
}

/// An object of any kind: one after another, it answers calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct State {
    /// A register's or a counter's number, or who owns the lock; 0 at first, and nobody.
    number: i64,
    queue: VecDeque<i64>,
}

impl Call {
    /// Whether it changes nothing, whatever the state.
    pub(crate) const fn only_reads(self) -> bool {
        matches!(self, Self::Read)
    }
}

impl State {
    pub(crate) fn apply(&mut self, call: Call) -> Answer {
        match call {
            Call::Read => return Answer::Number(self.number),
            Call::Write(number) => self.number = number,
            Call::Swap { old, new } => return self.replace(old, new),
            Call::Increment => self.number += 1,
            Call::Add(by) => {
                let before = self.number;
                self.number += by;
                return Answer::Number(before);
            }
            Call::Enqueue(item) => self.queue.push_back(item),
            Call::Dequeue => {
                return self.queue.pop_front().map_or(Answer::Nothing, Answer::Number);
            }
            Call::Acquire(owner) => return self.replace(0, owner),
            Call::Release(owner) => return self.replace(owner, 0),
        }
        Answer::Nothing
    }

    fn replace(&mut self, old: i64, new: i64) -> Answer {
        let is_old = self.number == old;
        if is_old {
            self.number = new;
        }
        Answer::Flag(is_old)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, key, call, start, end } = self;
        let ms = |moment: &u64| format!("{}.{:03} ms", moment / 1_000_000, moment / 1000 % 1000);
        write!(f, "client {client} key {key}: {call:?} from {}", ms(start))?;
        match end {
            Some((end, answer)) => write!(f, " to {}: {answer:?}", ms(end)),
            None => write!(f, ", not answered"),
        }
    }
}
