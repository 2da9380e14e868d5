//! The objects that come ready-made, by the name that `-o` takes.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::object::Object;

pub mod counter;
mod given;
pub mod lock;
#[cfg(test)]
mod stage;

/// A new object of that class; `None` if it is none of ours.
#[must_use]
pub fn stock(class: &str) -> Option<Box<dyn Object>> {
    Some(match class {
        counter::CLASS => Box::new(counter::Counter::default()),
        lock::CLASS => Box::new(lock::Lock::default()),
        _ => return None,
    })
}

/// The names that [`stock`] knows.
pub const STOCK: [&str; 2] = [counter::CLASS, lock::CLASS];

/// An object's state as bytes.
fn encode(state: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(state).expect("memory takes all bytes")
}

/// What [`encode`] wrote.
fn decode<T: DeserializeOwned>(state: &[u8]) -> Result<T, String> {
    postcard::from_bytes(state).map_err(|error| format!("the state can't be read: {error}"))
}
