//! Call a replicated object as if it were local, exactly once per call.
//!
//! Start replicas of a class, for example of the stock counter:
//!
//! ```text
//! $ concoord replica -o concoord.object.counter.Counter -a 127.0.0.1 -p 14000
//! $ concoord replica -o concoord.object.counter.Counter -b 127.0.0.1:14000 -a 127.0.0.1 -p 14001
//! ```
//!
//! and call its methods, by a typed proxy or by name:
//!
//! ```no_run
//! use concoord::object::Counter;
//! use concoord::{Arguments, Client, Options, Value};
//!
//! # fn main() -> Result<(), concoord::Error> {
//! let counter = Counter::connect("127.0.0.1:14000, 127.0.0.1:14001")?;
//! counter.increment()?;
//! println!("{}", counter.getvalue()?);
//!
//! let client = Client::connect("127.0.0.1:14000", Options::default())?;
//! let by = Arguments { positional: vec![Value::Int(2)], keyword: vec![] };
//! client.call("increment", &by)?;
//! # Ok(())
//! # }
//! ```
//!
//! Each call takes effect at one moment between its start and its return, once, on all replicas.
//! If a replica dies in the middle of a call, the client goes to the next one and sends the same
//! call again under the same number, and the cluster answers it from what it remembers. Only
//! where no reply comes in time, or the session has ended, is the outcome unknown:
//! [`Error::outcome_unknown`].
//!
//! ```text
//! Client ─ call ─▶ session ─ frames ─▶ socket ─▶ replica
//!                     ▲  which one? ─ route ◀─ addresses ─ names
//! ```
//!
//! Replicas come and go, so a domain name is a better way to say where they are than addresses:
//! [`Client::connect`] says how it is looked up.
//!
//! `session` and `route` decide; they have no socket, thread or clock. [`Client`] drives them
//! with blocking sockets, and with the feature `tokio` the client in `concoord::tokio` does so
//! in a task.

mod bootstrap;
mod client;
mod error;
mod names;
pub mod object;
mod reply;
mod route;
#[cfg(test)]
mod script;
mod session;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use bootstrap::Bootstrap;
pub use client::{Client, Gathered, Manner, Options, Pending, Started, status_of};
pub use concoord_core::call::{Guard, ObjectName, Refusal};
pub use concoord_core::object::{Interface, Method, Parameter, ParameterKind};
pub use concoord_core::value::{Arguments, Exception, Value, ValueError};
pub use concoord_core::wire::Status;
pub use error::{Attempts, Error};
pub use session::{Health, State, Undo, UndoWhen};
