//! What an entry of the log carries: all that one turn of the leader's loop took in.

use serde::{Deserialize, Serialize};

use crate::call::{Call, CallId, ConnectionId, SessionId};
use crate::limits::ENTRY_BYTES_MAX;
use crate::view::ReplicaId;

/// What goes into the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Open a session for that connection of that replica.
    Open(ReplicaId, ConnectionId),
    /// A call.
    Call(Call),
    /// The client ends its session.
    Close(SessionId),
    /// The leader has not heard of that session for too long.
    Expire(SessionId),
    /// The call of that session crashed its object on a majority of the replicas: no replica is
    /// to run it again.
    Skip(SessionId, u64),
    /// Every worker is to become what one would be that takes in a snapshot of here and now, if
    /// none was told so since that entry.
    Settle(u64),
    /// Nobody wants the reply of that call any more.
    Cancel(CallId),
    /// Something is due by the clock of the entry.
    Wake,
}

impl Command {
    /// Bytes that it takes, roughly.
    pub(crate) const fn size(&self) -> usize {
        match self {
            Self::Call(call) => call.size(),
            Self::Open(..)
            | Self::Close(_)
            | Self::Expire(_)
            | Self::Skip(..)
            | Self::Settle(_)
            | Self::Cancel(_)
            | Self::Wake => 32,
        }
    }
}

/// When an entry was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Times {
    /// See [`Moment::time_ms`](crate::object::Moment::time_ms).
    pub(crate) time_ms: u64,
    /// See [`Moment::clock_ms`](crate::object::Moment::clock_ms).
    pub(crate) clock_ms: u64,
}

/// Puts commands into entries, each with the number of commands in it. An entry is full once it
/// is larger than [`ENTRY_BYTES_MAX`]; it is made when it is asked for.
pub(crate) fn pack<'a>(
    times: Times,
    mut commands: impl Iterator<Item = &'a Command>,
) -> impl Iterator<Item = (Vec<u8>, usize)> {
    std::iter::from_fn(move || {
        let mut packed = 0;
        let mut entry = postcard::to_stdvec(&times).expect("memory takes all bytes");
        while entry.len() <= ENTRY_BYTES_MAX
            && let Some(command) = commands.next()
        {
            entry = postcard::to_extend(command, entry).expect("memory takes all bytes");
            packed += 1;
        }
        (packed > 0).then_some((entry, packed))
    })
}

/// Commands for another replica to propose, in parts that each make about one entry: together
/// they may be larger than a frame.
pub(crate) fn in_parts(commands: Vec<Command>) -> impl Iterator<Item = Vec<Command>> {
    let mut commands = commands.into_iter().peekable();
    std::iter::from_fn(move || {
        let (mut part, mut bytes) = (Vec::new(), 0);
        while let Some(command) = commands.next_if(|_| bytes <= ENTRY_BYTES_MAX) {
            bytes += command.size();
            part.push(command);
        }
        (!part.is_empty()).then_some(part)
    })
}

/// The times of an entry, and its commands in order.
///
/// # Panics
/// If the bytes were not made by [`pack`]: entries reach the log through leaders alone, and a
/// replica that can't read what the others can must not go on.
pub(crate) fn unpack(mut entry: &[u8]) -> (Times, impl Iterator<Item = Command>) {
    const PROMISE: &str = "an entry is what a leader of this version packed";
    let (times, rest) = postcard::take_from_bytes(entry).expect(PROMISE);
    entry = rest;
    let commands = std::iter::from_fn(move || {
        let (command, rest) =
            (!entry.is_empty()).then(|| postcard::take_from_bytes(entry).expect(PROMISE))?;
        entry = rest;
        Some(command)
    });
    (times, commands)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMES: Times = Times { time_ms: 7, clock_ms: 3 };

    #[test]
    fn commands_come_back_in_order_whatever_the_cut() {
        let commands: Vec<Command> =
            (0..100_000).map(|number| Command::Close(SessionId(number))).collect();
        let entries: Vec<_> = pack(TIMES, commands.iter()).collect();
        assert!(entries.len() > 1);
        let mut back = Vec::new();
        for (entry, _) in &entries {
            assert!(entry.len() <= ENTRY_BYTES_MAX + 16);
            let (times, commands) = unpack(entry);
            assert_eq!(times, TIMES);
            back.extend(commands);
        }
        assert_eq!(back, commands);
    }
}
