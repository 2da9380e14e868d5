use std::time::Duration;
use std::{fmt, io};

use concoord_core::call::Refusal;
use concoord_core::value::{Exception, ValueError};

/// Why a call has no result.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The addresses can't be understood.
    #[error("{0}: give replicas as \"host:port, host:port\", or their cluster's domain name")]
    Bootstrap(String),
    /// No replica could be reached in time. The call has not run.
    #[error("no replica could be reached within {timeout:?}: {attempts}")]
    Unreachable {
        /// What was tried.
        attempts: Attempts,
        /// How long.
        timeout: Duration,
    },
    /// No reply came in time.
    #[error("no reply within {timeout:?}, so whether the call has run is not known{}", because(.reason))]
    TimedOut {
        /// How long was waited.
        timeout: Duration,
        /// What the cluster was waiting for when it was last heard, or why it was not.
        reason: Option<String>,
    },
    /// The session ended, by its silence or with its cluster, before the reply came.
    #[error(
        "the session ended before the reply came, so whether the call has run is not known; further calls open a new session"
    )]
    SessionExpired,
    /// The replica wants nothing to do with this client; a sentence says why.
    #[error("{0}")]
    Refused(String),
    /// The method raised an exception.
    #[error("{}", describe(.0))]
    Raised(Exception),
    /// The cluster did not run the call.
    #[error(transparent)]
    Refusal(Refusal),
    /// The arguments can't be encoded. Nothing was sent.
    #[error("the arguments can't be encoded: {0}")]
    Encode(ValueError),
    /// The call has run, but its result is not one that this version can read.
    #[error("the call has run but its result can't be read: {0}")]
    Decode(ValueError),
    /// The arguments are too large. Nothing was sent.
    #[error("the arguments take {bytes} bytes, {max} is the most")]
    TooLarge {
        /// What they take.
        bytes: usize,
        /// What they may take.
        max: usize,
    },
    /// The caller no longer wants the reply.
    #[error("interrupted, so whether the call has run is not known")]
    Interrupted,
    /// The client was closed before the call was made.
    #[error("the client is closed")]
    Closed,
}

impl Error {
    /// Whether the call may have run although it has no result: look before you call again.
    #[must_use]
    pub const fn outcome_unknown(&self) -> bool {
        matches!(self, Self::TimedOut { .. } | Self::SessionExpired | Self::Interrupted)
    }
}

/// The addresses that were tried in vain, and why each failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attempts(pub Vec<(String, String)>);

impl Attempts {
    /// Notes why an address failed, in place of what was noted for it before.
    pub(crate) fn note(&mut self, address: String, why: String) {
        match self.0.iter_mut().find(|(known, _)| *known == address) {
            Some((_, known)) => *known = why,
            None => self.0.push((address, why)),
        }
    }

    pub(crate) fn has(&self, address: &str) -> bool {
        self.0.iter().any(|(known, _)| known == address)
    }

    /// That address did not fail after all.
    pub(crate) fn forget(&mut self, address: &str) {
        self.0.retain(|(known, _)| known != address);
    }
}

impl fmt::Display for Attempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("there was no time to try one");
        }
        for (nth, (address, why)) in self.0.iter().enumerate() {
            let separator = if nth == 0 { "" } else { "; " };
            write!(f, "{separator}{address}: {why}")?;
        }
        Ok(())
    }
}

/// Why a connection was not made.
pub(crate) fn why_unconnected(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::ConnectionRefused {
        "nobody listens there".into()
    } else if error.kind() == io::ErrorKind::TimedOut {
        "no answer".into()
    } else {
        error.to_string()
    }
}

fn because(reason: &Option<String>) -> String {
    reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default()
}

/// An exception in one line, as Python ends a traceback.
fn describe(exception: &Exception) -> String {
    use concoord_core::value::Value;
    let name = match exception.module.as_str() {
        "builtins" => exception.name.clone(),
        module => format!("{module}.{}", exception.name),
    };
    match exception.args.as_slice() {
        [] => name,
        [Value::Str(message)] => format!("{name}: {message}"),
        args => format!("{name}: {args:?}"),
    }
}
