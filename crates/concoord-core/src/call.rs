//! What a client asks for and what it gets.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A client's session: replicated state that makes its calls exactly-once. Given out by the
/// log, so that no two sessions of a cluster ever share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A connection of a client to one replica. Means nothing to any other replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

/// One call of a method of the replicated object.
///
/// `(session, sequence)` names it for good: however often it is sent, by whatever way, it takes
/// effect once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Who calls.
    pub session: SessionId,
    /// The number of this call within its session, from 1. Numbers need not arrive in order.
    pub sequence: u64,
    /// Every reply below this number has reached the client and may be forgotten.
    pub acked: u64,
    /// The name of the object; empty for the one that the cluster was started with.
    pub object: String,
    /// A public method, or one of the few special ones ([`crate::object::is_callable`]).
    pub method: String,
    /// CBOR as [`crate::value::Arguments`] writes it; empty for a call without arguments.
    pub arguments: Bytes,
}

impl Call {
    /// Bytes that it takes, roughly.
    pub(crate) const fn size(&self) -> usize {
        self.arguments.len() + self.method.len() + 64
    }
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The method returned this value (CBOR, [`crate::value::Value`]).
    Returned(Bytes),
    /// The method raised this exception (CBOR, a [`crate::value::Value::Exception`]).
    Raised(Bytes),
    /// The call has not run, and this call never will.
    Refused(Refusal),
}

impl Outcome {
    /// Bytes that keeping this outcome costs, roughly.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Returned(bytes) | Self::Raised(bytes) => bytes.len() + 48,
            Self::Refused(_) => 48,
        }
    }
}

/// Why a call did not run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The session was silent for too long, or belongs to another life of the cluster. Whether
    /// a call whose reply was never seen has run is not known any more.
    #[error("the session has expired")]
    SessionExpired,
    /// The client has acknowledged the reply to this number already.
    #[error("the call was acknowledged before and its reply is forgotten")]
    Superseded,
    /// Too many calls, or too many bytes of replies, are open in this session.
    #[error("too many calls are open in this session")]
    TooManyCalls,
    /// No more sessions fit.
    #[error("the cluster has as many sessions as it can hold")]
    TooManySessions,
    /// The method is private, special or not there.
    #[error("'{class}' object has no public method '{method}'")]
    NoSuchMethod {
        /// The object's class.
        class: String,
        /// What was called.
        method: String,
    },
    /// There is no object of that name.
    #[error("there is no object named '{0}'")]
    NoSuchObject(String),
    /// The arguments are larger than [`crate::limits::ARGUMENT_BYTES_MAX`].
    #[error("the arguments take {bytes} bytes, {max} is the most")]
    TooLarge {
        /// What the call brought.
        bytes: u64,
        /// What it may bring.
        max: u64,
    },
    /// The arguments are not what [`crate::value::Arguments`] writes.
    #[error("the arguments can't be decoded: {0}")]
    Malformed(String),
    /// The process that hosts the object died of this call, or never came back from it, on a
    /// majority of the replicas; all of them skip it.
    #[error("the object crashed or did not return within the apply timeout; the call was skipped")]
    ObjectCrashed,
}
