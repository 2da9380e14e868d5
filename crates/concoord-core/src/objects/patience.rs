//! How long callers would wait.

use super::given::{Given, Seconds};
use crate::object::{Context, Reply};
use crate::value::{Exception, Value};

/// How long a caller would wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Not at all.
    None,
    Ms(u64),
    Forever,
}

impl Patience {
    /// That of `acquire(blocking=True, timeout=-1)` of Python's locks; where the first of the two
    /// is.
    ///
    /// # Errors
    /// The `ValueError` that Python raises where the two don't go together.
    pub(crate) fn of_lock(given: &Given<'_>, at: usize) -> Result<Self, Exception> {
        let error = |words: &str| Err(Exception::builtin("ValueError", words));
        match (given.truth(at, true), given.seconds(at + 1)?) {
            (true, None | Some(Seconds::MinusOne | Seconds::Forever)) => Ok(Self::Forever),
            (true, Some(Seconds::Ms(0))) => Ok(Self::None),
            (true, Some(Seconds::Ms(ms))) => Ok(Self::Ms(ms)),
            (_, Some(Seconds::Negative)) => error("timeout value must be positive"),
            (false, None | Some(Seconds::MinusOne)) => Ok(Self::None),
            (false, Some(_)) => error("can't specify a timeout for a non-blocking call"),
        }
    }

    /// That of `acquire(blocking=True, timeout=None)` of Python's semaphores.
    ///
    /// # Errors
    /// The `ValueError` that Python raises where the two don't go together.
    pub(crate) fn of_semaphore(given: &Given<'_>) -> Result<Self, Exception> {
        let timeout = given.value(1).filter(|timeout| **timeout != Value::None);
        match (given.truth(0, true), timeout) {
            (true, _) => Self::of_wait(given, 1),
            (false, None) => Ok(Self::None),
            (false, Some(_)) => {
                let words = "can't specify timeout for non-blocking acquire";
                Err(Exception::builtin("ValueError", words))
            }
        }
    }

    /// That of `wait(timeout=None)`: no time at all where it is not positive.
    ///
    /// # Errors
    /// The `TypeError` of what is no number.
    pub(crate) fn of_wait(given: &Given<'_>, at: usize) -> Result<Self, Exception> {
        Ok(match given.seconds(at)? {
            None | Some(Seconds::Forever) => Self::Forever,
            Some(Seconds::MinusOne | Seconds::Negative | Seconds::Ms(0)) => Self::None,
            Some(Seconds::Ms(ms)) => Self::Ms(ms),
        })
    }

    /// Has the call of this step wait for so long, once `join` has put it in line; who has no
    /// patience gets `False`.
    pub(crate) fn wait(self, context: &Context<'_>, join: impl FnOnce()) -> Reply {
        let until = match self {
            Self::None => return Reply::Value(Value::Bool(false)),
            Self::Ms(ms) => Some(context.after(ms)),
            Self::Forever => None,
        };
        join();
        Reply::Parked { until }
    }
}
