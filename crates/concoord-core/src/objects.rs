//! The objects that come ready-made, by the name that `-o` takes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::object::{Interface, Object};

pub mod atomicreference;
pub mod bank;
pub mod binarytree;
pub mod counter;
pub mod delayqueue;
mod given;
pub mod jobmanager;
mod kept;
pub mod lock;
pub mod lockingqueue;
pub mod log;
pub mod map;
pub mod membership;
pub mod meshmembership;
pub mod nameservercoord;
mod order;
pub mod priorityqueue;
pub mod queue;
mod repr;
pub mod stack;
#[cfg(test)]
mod stage;
mod table;

/// A new object of that class; `None` if it is none of ours.
#[must_use]
pub fn stock(class: &str) -> Option<Box<dyn Object>> {
    Some(match class {
        atomicreference::CLASS => Box::new(atomicreference::AtomicReference::default()),
        bank::CLASS => Box::new(bank::Bank::default()),
        binarytree::CLASS => Box::new(binarytree::BinaryTree::default()),
        counter::ATOMIC_LONG => Box::new(counter::Counter::atomic_long()),
        counter::CLASS => Box::new(counter::Counter::default()),
        delayqueue::CLASS => Box::new(delayqueue::DelayQueue::default()),
        jobmanager::CLASS => Box::new(jobmanager::JobManager::default()),
        lock::CLASS => Box::new(lock::Lock::default()),
        lockingqueue::CLASS => Box::new(lockingqueue::LockingQueue::default()),
        log::CLASS => Box::new(log::Log::default()),
        map::CLASS => Box::new(map::Map::default()),
        membership::CLASS => Box::new(membership::Membership::default()),
        meshmembership::CLASS => Box::new(meshmembership::MeshMembership::default()),
        nameservercoord::CLASS => Box::new(nameservercoord::NameserverCoord::default()),
        priorityqueue::CLASS => Box::new(priorityqueue::PriorityQueue::default()),
        queue::CLASS => Box::new(queue::Queue::<queue::Fifo>::default()),
        stack::CLASS => Box::new(stack::Stack::default()),
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
pub const STOCK: [&str; 17] = [
    atomicreference::CLASS,
    bank::CLASS,
    binarytree::CLASS,
    counter::ATOMIC_LONG,
    counter::CLASS,
    delayqueue::CLASS,
    jobmanager::CLASS,
    lock::CLASS,
    lockingqueue::CLASS,
    log::CLASS,
    map::CLASS,
    membership::CLASS,
    meshmembership::CLASS,
    nameservercoord::CLASS,
    priorityqueue::CLASS,
    queue::CLASS,
    stack::CLASS,
];

/// An object's state as bytes.
fn encode(state: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(state).expect("memory takes all bytes")
}

/// What [`encode`] wrote.
fn decode<T: DeserializeOwned>(state: &[u8]) -> Result<T, String> {
    postcard::from_bytes(state).map_err(|error| format!("the state can't be read: {error}"))
}
