//! The objects that come ready-made, by the name that `-o` takes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::object::{Interface, Object};

pub mod barrier;
pub mod condition;
pub mod counter;
mod given;
mod line;
pub mod lock;
mod mutex;
mod patience;
pub mod rlock;
pub mod semaphore;
#[cfg(test)]
mod stage;

/// A new object of that class; `None` if it is none of ours.
#[must_use]
pub fn stock(class: &str) -> Option<Box<dyn Object>> {
    Some(match class {
        barrier::CLASS => Box::new(barrier::Barrier::default()),
        condition::CLASS => Box::new(condition::Condition::default()),
        counter::CLASS => Box::new(counter::Counter::default()),
        lock::CLASS => Box::new(lock::Lock::default()),
        rlock::CLASS => Box::new(rlock::RLock::default()),
        semaphore::BOUNDED => Box::new(semaphore::Semaphore::bounded()),
        semaphore::CLASS => Box::new(semaphore::Semaphore::default()),
        _ => return None,
    })
}

/// What objects of that class offer; `None` if it is none of ours.
pub(crate) fn interface(class: &str) -> Option<&'static Interface> {
    static INTERFACES: LazyLock<BTreeMap<&str, &'static Interface>> = LazyLock::new(|| {
        STOCK.iter().filter_map(|class| Some((*class, stock(class)?.interface()))).collect()
    });
    INTERFACES.get(class).copied()
}

/// The names that [`stock`] knows.
pub const STOCK: [&str; 7] = [
    barrier::CLASS,
    condition::CLASS,
    counter::CLASS,
    lock::CLASS,
    rlock::CLASS,
    semaphore::BOUNDED,
    semaphore::CLASS,
];

/// An object's state as bytes.
fn encode(state: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(state).expect("memory takes all bytes")
}

/// What [`encode`] wrote.
fn decode<T: DeserializeOwned>(state: &[u8]) -> Result<T, String> {
    postcard::from_bytes(state).map_err(|error| format!("the state can't be read: {error}"))
}
