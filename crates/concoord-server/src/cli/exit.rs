//! How the program ends.

use std::fmt;

/// The exit codes: one for each thing that a script does differently. They are a promise, also
/// made in `docs/reference/cli.md`; 0 is success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// None of those below; the message says what.
    Failed = 1,
    /// The arguments make no sense. Also clap's code.
    Usage = 2,
    /// The address can't be listened on.
    Bind = 3,
    /// The object's class can't be found or made.
    Object = 4,
    /// No replica answers.
    Unreachable = 5,
    /// A call or a change may have taken effect or not.
    Unknown = 6,
    /// The method raised an exception.
    Raised = 7,
    /// The call or the change was not made, and this very one never will be.
    Refused = 8,
    /// The replicas answer, but have no quorum or do not serve yet.
    NotReady = 9,
    /// The data folder can't be used.
    Storage = 10,
    /// What a command was to run under was not had in time.
    NotHad = 11,
    /// It was lost while the command ran.
    Lost = 12,
    /// The command can't be run. As shells have it, and the next.
    NotRun = 126,
    /// There is no such command.
    NoCommand = 127,
}

/// The codes as `--help` shows them.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed; the message says why
  2  bad arguments
  3  the address can't be listened on
  4  the object's class can't be found or made
  5  no replica answers
  6  no reply in time: the call or change may have taken effect or not
  7  the method raised an exception
  8  the call or change was refused and has no effect
  9  the replicas answer but can't serve calls now
 10  the data folder can't be used
 11  lock, semaphore, elect: not had within the timeout
 12  lock, semaphore, elect: lost while the command ran
126  lock, semaphore, elect: the command can't be run
127  lock, semaphore, elect: there is no such command";

/// An end that is not success: the code for scripts, the sentence for people.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl fmt::Display) -> Self {
        Self { exit, message: message.to_string() }
    }

    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    pub(crate) fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_code() {
        let codes = [
            Exit::Failed,
            Exit::Usage,
            Exit::Bind,
            Exit::Object,
            Exit::Unreachable,
            Exit::Unknown,
            Exit::Raised,
            Exit::Refused,
            Exit::NotReady,
            Exit::Storage,
            Exit::NotHad,
            Exit::Lost,
            Exit::NotRun,
            Exit::NoCommand,
        ];
        for code in codes {
            assert!(EXIT_CODES.contains(&format!("\n{:>3}  ", code as u8)), "{code:?}");
        }
    }
}
