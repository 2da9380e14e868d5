//! Workers that host the list: they take their time, and some calls kill them.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use concoord_core::call::{CallId, Outcome, Refusal};
use concoord_core::object::{Context, Moment, Object, Reply};
use concoord_core::replica::{Event, WorkerAction};
use concoord_core::value::{Arguments, Value};
use concoord_core::wire::{Done, HostedCall, LOST};

use super::{Happening, World};
use crate::list::List;

/// The number of the first call that a worker is given.
const FIRST: u64 = 1;

/// The process that hosts the list, where it does not live in the replica.
#[derive(Default)]
pub(super) struct Worker {
    pub(super) asked: VecDeque<WorkerAction>,
    pub(super) working: bool,
    /// It does nothing.
    still: bool,
    /// It can't get past that call.
    pub(super) stuck: Option<u64>,
    /// The order in which the sets of its state iterate: it follows from what happened since the
    /// state was last written down and read back, and from what that was.
    order: u64,
}

impl World {
    pub(super) fn ask_worker(&mut self, node: usize, action: WorkerAction) {
        let worker = &mut self.nodes[node].worker;
        match action {
            WorkerAction::Skip(number) => {
                let skipped = Outcome::Refused(Refusal::ObjectCrashed);
                if worker.stuck == Some(number) {
                    worker.stuck = None;
                }
                for asked in &mut worker.asked {
                    if let WorkerAction::Apply { calls, .. } = asked {
                        calls.retain(|call| call.number != number);
                    }
                }
                let life = self.nodes[node].life;
                let done = Event::Done(vec![Done::Ended(number, skipped)], None);
                self.at(self.now + 1, Happening::Hear(node, life, done));
            }
            WorkerAction::Restore(_) => {
                worker.stuck = None;
                worker.asked.retain(|asked| matches!(asked, WorkerAction::Read { .. }));
                worker.asked.push_back(action);
            }
            action => worker.asked.push_back(action),
        }
        self.wake_worker(node);
    }

    /// Has the worker of that node do nothing, or go on.
    pub(crate) fn hold_worker(&mut self, node: usize, still: bool) {
        self.nodes[node].worker.still = still;
        self.wake_worker(node);
    }

    /// That node's worker died, and there is none in its place for that reason; or there is.
    pub(crate) fn host(&mut self, node: usize, result: Result<(), String>) {
        self.hold_worker(node, result.is_err());
        let life = self.nodes[node].life;
        self.at(self.now, Happening::Hear(node, life, Event::Hosting(result)));
    }

    /// That node's worker died, and each in its place dies of the first call that it runs again.
    pub(crate) fn lose_worker(&mut self, node: usize) {
        self.nodes[node].worker.stuck = Some(FIRST);
        let life = self.nodes[node].life;
        self.at(self.now, Happening::Hear(node, life, Event::HostFailed(FIRST)));
    }

    /// Bytes of calls that the worker of that node has not done.
    pub(crate) fn undone_bytes(&self, node: usize) -> usize {
        let calls = self.nodes[node].worker.asked.iter().flat_map(|asked| match asked {
            WorkerAction::Apply { calls, .. } => calls.as_slice(),
            _ => &[],
        });
        calls.map(|call| call.arguments.len()).sum()
    }

    pub(super) fn wake_worker(&mut self, node: usize) {
        let worker = &mut self.nodes[node].worker;
        if !worker.working && !worker.still && worker.stuck.is_none() && !worker.asked.is_empty() {
            worker.working = true;
            let life = self.nodes[node].life;
            let slow = if self.dice.chance(3) { 200_000 } else { 1_000 };
            let when = self.now + 20 + self.dice.below(slow);
            self.at(when, Happening::Work(node, life));
        }
    }

    /// The worker does the next thing that it was asked for.
    pub(super) fn work(&mut self, node: usize) {
        let (crashes, has_sets) = (self.crashes.contains(&node), self.has_sets);
        let there = &mut self.nodes[node];
        there.worker.working = false;
        let Some(asked) = there.worker.asked.pop_front() else { return };
        let mut list = List(Arc::clone(&there.list));
        let event = match asked {
            WorkerAction::Apply { index, time_ms, clock_ms, mut calls } => {
                if calls.is_empty() {
                    return self.wake_worker(node);
                }
                let HostedCall { number, call, method, arguments, .. } = calls.remove(0);
                let arguments = Arguments::decode(&arguments).unwrap();
                if !calls.is_empty() {
                    let rest = WorkerAction::Apply { index, time_ms, clock_ms, calls };
                    there.worker.asked.push_front(rest);
                }
                // Some ends of sessions are too much for it as well.
                let is_end = method == LOST && call.session.0.is_multiple_of(3);
                let is_poison = matches!(arguments.positional.first(), Some(Value::Int(..0)));
                if crashes && (is_end || is_poison) {
                    there.worker.stuck = Some(number);
                    if is_end {
                        self.seen("worker died of a session's end");
                    }
                    Event::HostFailed(number)
                } else if method.starts_with('_') {
                    // The end of a session, say: a list does not care.
                    let nothing = Outcome::Returned(Value::None.encode().unwrap());
                    Event::Done(vec![Done::Ended(number, nothing)], None)
                } else {
                    let moment = Moment { index, time_ms, ..Moment::default() };
                    let mut deeds = Vec::new();
                    let mut context = Context::new(moment, CallId::default(), 0, &mut deeds);
                    let Reply::Value(value) =
                        list.apply(&method, &arguments, &mut context).unwrap()
                    else {
                        unreachable!("a list never waits")
                    };
                    there.worker.order = order_after(there.worker.order, &list);
                    self.check_order(node, index);
                    let outcome = Outcome::Returned(value.encode().unwrap());
                    Event::Done(vec![Done::Ended(number, outcome)], None)
                }
            }
            WorkerAction::Read { calls, .. } => {
                let outcome = |call: &HostedCall| {
                    let value = list.read(&call.method, &Arguments::default()).unwrap();
                    Done::Ended(call.number, Outcome::Returned(value.encode().unwrap()))
                };
                Event::Done(calls.iter().map(outcome).collect(), None)
            }
            WorkerAction::Snapshot(number) if has_sets => Event::Unsettled(number),
            WorkerAction::Snapshot(number) => Event::Snapshot(number, Ok(list.snapshot().into())),
            WorkerAction::Settle(number) => {
                there.worker.order = order_after(0, &list);
                self.seen("state settled");
                Event::Snapshot(number, Ok(list.snapshot().into()))
            }
            WorkerAction::Restore(state) => {
                let restored = list.restore(&state);
                there.worker.order = order_after(0, &list);
                Event::Restored(restored)
            }
            WorkerAction::Skip(_) => unreachable!("it is done as soon as it is asked for"),
        };
        let life = self.nodes[node].life;
        self.at(self.now, Happening::Hear(node, life, event));
        self.wake_worker(node);
    }

    /// Whether that node's worker has done all that it was asked for, or can't.
    pub(super) fn is_idle(&self, node: usize) -> bool {
        let worker = &self.nodes[node].worker;
        !worker.working && (worker.asked.is_empty() || worker.stuck.is_some())
    }

    /// Whoever has run as much iterates in the same order, whether it lived or was restored.
    fn check_order(&mut self, node: usize, index: u64) {
        let there = &self.nodes[node];
        let view = there.replica.as_ref().and_then(|replica| replica.status().view);
        let Some(view) = view.filter(|_| self.has_sets && !self.poisoned) else { return };
        let (order, calls) = (there.worker.order, there.list.lock().unwrap().len());
        let (other, first) =
            *self.orders.entry((view.cluster, index, calls)).or_insert((node, order));
        assert!(
            first == order,
            "the sets of nodes {node} and {other} differ after entry {index}\n{}",
            self.stuck()
        );
    }
}

/// How sets iterate in which the list was put when they iterated like that before; 0 where they
/// were just read back.
fn order_after(before: u64, list: &List) -> u64 {
    let mut hasher = DefaultHasher::new();
    let list = list.0.lock().unwrap();
    match before {
        0 => list.hash(&mut hasher),
        _ => (before, list.last()).hash(&mut hasher),
    }
    hasher.finish() | 1
}
