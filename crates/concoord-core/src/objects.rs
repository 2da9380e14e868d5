//! The objects that come ready-made, by the name that `-o` takes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::object::{Interface, Object};

pub mod barrier;
pub mod condition;
pub mod countdownlatch;
pub mod counter;
pub mod doublebarrier;
pub mod election;
pub mod event;
mod given;
mod line;
pub mod lock;
mod mutex;
#[cfg(test)]
mod ordeal;
mod patience;
pub mod readwritelock;
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
        countdownlatch::CLASS => Box::new(countdownlatch::CountDownLatch::default()),
        counter::CLASS => Box::new(counter::Counter::default()),
        doublebarrier::CLASS => Box::new(doublebarrier::DoubleBarrier::default()),
        election::CLASS => Box::new(election::Election::default()),
        event::CLASS => Box::new(event::Event::default()),
        lock::CLASS => Box::new(lock::Lock::default()),
        readwritelock::CLASS => Box::new(readwritelock::ReadWriteLock::default()),
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
pub const STOCK: [&str; 12] = [
    barrier::CLASS,
    condition::CLASS,
    countdownlatch::CLASS,
    counter::CLASS,
    doublebarrier::CLASS,
    election::CLASS,
    event::CLASS,
    lock::CLASS,
    readwritelock::CLASS,
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
