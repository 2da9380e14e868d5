//! What a client asks for and what it gets.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A client's session: replicated state that makes its calls exactly-once. Given out by the
/// log, so that no two sessions of a cluster ever share one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A connection of a client to one replica. Means nothing to any other replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ConnectionId(pub u64);

/// Whom an object sees as one and the same: the thread or task of a client's session.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Caller {
    /// The session.
    pub session: SessionId,
    /// See [`Call::thread`].
    pub thread: u64,
}

/// A call, for good.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct CallId {
    /// The session that makes it.
    pub session: SessionId,
    /// Its number there.
    pub sequence: u64,
}

/// Which object of a cluster: made when it is first called.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectName {
    /// The dotted name of its class; empty for that which the cluster was started with.
    pub class: String,
    /// Which one of that class, at most [`crate::limits::NAME_BYTES_MAX`] bytes; empty for the
    /// one that is meant where none is named.
    pub name: String,
}

impl ObjectName {
    /// Whether it is the object that the cluster was started with.
    #[must_use]
    pub const fn is_default(&self) -> bool {
        self.class.is_empty() && self.name.is_empty()
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.class.rsplit('.').next().unwrap_or_default(), self.name.as_str()) {
            ("", "") => write!(f, "the cluster's object"),
            (class, "") => write!(f, "{class}"),
            ("", name) => write!(f, "{name:?}"),
            (class, name) => write!(f, "{class} {name:?}"),
        }
    }
}

/// What must be held for a call to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// The lock, or whatever else gives tokens out.
    pub object: ObjectName,
    /// The token under which it was acquired.
    pub token: u64,
}

/// One call of a method of the replicated object.
///
/// `(session, sequence)` names it for good: however often it is sent, by whatever way, it takes
/// effect once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Who calls.
    pub session: SessionId,
    /// The number of this call within its session, from 1. Numbers need not arrive in order.
    pub sequence: u64,
    /// Every reply below this number has reached the client and may be forgotten, but for those
    /// of calls that were parked.
    pub acked: u64,
    /// Calls that were parked and whose replies have reached the client since.
    pub received: Vec<u64>,
    /// Which thread or task of the client calls: a number that the client gives it.
    pub thread: u64,
    /// It runs only if this is held then.
    pub guard: Option<Box<Guard>>,
    /// Which object.
    pub object: ObjectName,
    /// A public method, or one of the few special ones ([`crate::object::is_callable`]).
    pub method: String,
    /// CBOR as [`crate::value::Arguments`] writes it; empty for a call without arguments.
    pub arguments: Bytes,
}

impl Call {
    /// Bytes that it takes, roughly.
    pub(crate) const fn size(&self) -> usize {
        let words = self.method.len() + self.object.class.len() + self.object.name.len();
        self.arguments.len() + words + 8 * self.received.len() + 64
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
    /// The cluster hosts no such class, or the name is none.
    #[error("{0}")]
    NoSuchObject(String),
    /// The token of the call's guard is of something that is not held any more.
    #[error("{object} is not held under token {token} any more")]
    Fenced {
        /// What the guard names.
        object: String,
        /// The token.
        token: u64,
    },
    /// The client has given the call up before it ended.
    #[error("the call was cancelled")]
    Cancelled,
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
