//! The objects that come ready-made, by the name that `-o` takes.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::object::{Interface, Object};

pub mod atomicreference;
pub mod bank;
pub mod barrier;
pub mod binarytree;
pub mod condition;
pub mod countdownlatch;
pub mod counter;
pub mod delayqueue;
pub mod doublebarrier;
pub mod election;
pub mod event;
mod given;
pub mod jobmanager;
mod kept;
mod line;
pub mod lock;
pub mod lockingqueue;
pub mod log;
pub mod map;
pub mod membership;
pub mod meshmembership;
mod mutex;
pub mod nameservercoord;
#[cfg(test)]
mod ordeal;
mod order;
mod patience;
pub mod priorityqueue;
pub mod queue;
pub mod readwritelock;
mod repr;
pub mod rlock;
pub mod semaphore;
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
        barrier::CLASS => Box::new(barrier::Barrier::default()),
        binarytree::CLASS => Box::new(binarytree::BinaryTree::default()),
        condition::CLASS => Box::new(condition::Condition::default()),
        countdownlatch::CLASS => Box::new(countdownlatch::CountDownLatch::default()),
        counter::ATOMIC_LONG => Box::new(counter::Counter::atomic_long()),
        counter::CLASS => Box::new(counter::Counter::default()),
        delayqueue::CLASS => Box::new(delayqueue::DelayQueue::default()),
        doublebarrier::CLASS => Box::new(doublebarrier::DoubleBarrier::default()),
        election::CLASS => Box::new(election::Election::default()),
        event::CLASS => Box::new(event::Event::default()),
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
        readwritelock::CLASS => Box::new(readwritelock::ReadWriteLock::default()),
        rlock::CLASS => Box::new(rlock::RLock::default()),
        semaphore::BOUNDED => Box::new(semaphore::Semaphore::bounded()),
        semaphore::CLASS => Box::new(semaphore::Semaphore::default()),
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
pub const STOCK: &[&str] = &[
    atomicreference::CLASS,
    bank::CLASS,
    barrier::CLASS,
    binarytree::CLASS,
    condition::CLASS,
    countdownlatch::CLASS,
    counter::ATOMIC_LONG,
    counter::CLASS,
    delayqueue::CLASS,
    doublebarrier::CLASS,
    election::CLASS,
    event::CLASS,
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
    readwritelock::CLASS,
    rlock::CLASS,
    semaphore::BOUNDED,
    semaphore::CLASS,
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
