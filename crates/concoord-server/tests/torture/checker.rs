//! Whether a history is linearizable: whether each call can have taken effect at one moment
//! between its start and its answer, so that one object after another would have answered the
//! same.
//!
//! The search is that of Wing and Gong, with Lowe's memory of what was tried: it builds the order
//! from the front, and a call may come next if none of those left ended before it began. Keys are
//! objects of their own, and linearizability is local: each key is searched alone.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use crate::history::{Answer, Call, Operation, State};

/// How many positions are tried for one key before the search gives up. That takes seconds, and
/// histories of a few hundred calls are far below it.
const POSITIONS_MAX: usize = 1_000_000;

/// Why there is no verdict that all is well.
#[derive(Debug)]
pub(crate) enum Violation {
    /// No order explains the answers.
    NoOrder {
        /// How many calls some order explains.
        explained: usize,
        /// The object after these.
        state: State,
        /// Calls of which one should come next.
        stuck: Vec<Operation>,
    },
    /// The search took too long.
    Undecided {
        /// Of this key.
        key: i64,
    },
}

/// Searches an order for each key.
pub(crate) fn check(history: &[Operation]) -> Result<(), Violation> {
    let mut keys = BTreeMap::<i64, Vec<Operation>>::new();
    for operation in history {
        keys.entry(operation.key).or_default().push(*operation);
    }
    keys.into_values().try_for_each(|operations| Search::new(operations).run())
}

struct Search {
    /// Those that were answered, by their start.
    answered: Vec<(Operation, u64)>,
    /// Those that were not, and may have changed something, by their start.
    unanswered: Vec<Operation>,
    /// From when to when an item left its queue.
    dequeued: HashMap<i64, (u64, u64)>,
    seen: HashSet<Position>,
    /// The position that explains most.
    best: Position,
}

/// How far an order has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Position {
    /// All answered calls before this one are in the order.
    first: usize,
    /// Those after it that are, ascending.
    ahead: Vec<usize>,
    /// Unanswered calls that are, ascending.
    unanswered: Vec<usize>,
    state: State,
}

impl Search {
    fn new(mut operations: Vec<Operation>) -> Self {
        operations.sort_by_key(|operation| operation.start);
        let dequeued = dequeued(&operations);
        for operation in &mut operations {
            // What left the queue was in it, though nobody answered.
            if let (Call::Enqueue(item), None) = (operation.call, operation.end) {
                operation.end = dequeued.get(&item).map(|(_, end)| (*end, Answer::Nothing));
            }
        }
        let answered = operations
            .iter()
            .filter_map(|operation| operation.end.map(|(end, _)| (*operation, end)))
            .collect();
        operations.retain(|operation| operation.end.is_none() && !operation.call.only_reads());
        let (seen, best) = (HashSet::new(), Position::default());
        Self { answered, unanswered: operations, dequeued, seen, best }
    }

    fn run(mut self) -> Result<(), Violation> {
        let mut stack = vec![Position::default()];
        while let Some(position) = stack.pop() {
            if position.first == self.answered.len() {
                return Ok(());
            }
            if self.seen.len() > POSITIONS_MAX {
                let key = self.answered.first().map_or(0, |(call, _)| call.key);
                return Err(Violation::Undecided { key });
            }
            if position.explained() > self.best.explained() {
                self.best = position.clone();
            }
            // What is pushed last is tried first: those that were answered, the earliest before.
            for next in self.after(&position) {
                if self.seen.insert(next.clone()) {
                    stack.push(next);
                }
            }
        }
        let (candidates, _) = self.candidates(&self.best);
        Err(Violation::NoOrder {
            explained: self.best.explained(),
            stuck: candidates.iter().map(|nth| self.answered[*nth].0).collect(),
            state: self.best.state,
        })
    }

    /// The positions that are one call further, the likeliest last.
    fn after(&self, position: &Position) -> Vec<Position> {
        let (mut candidates, end_first) = self.candidates(position);
        let mut positions = self.with_unanswered(position, end_first);
        candidates.sort_by_key(|nth| std::cmp::Reverse(self.answered[*nth].1));
        for nth in candidates {
            let mut next = position.clone();
            let (operation, _) = self.answered[nth];
            if !self.in_turn(position, operation.call) {
                continue;
            }
            let answer = next.state.apply(operation.call);
            if operation.end.is_some_and(|(_, given)| given == answer) {
                next.take(nth);
                positions.push(next);
            }
        }
        positions
    }

    /// Whether no item has to be in the queue before this one that is not. The search would learn
    /// that too, but late: when they leave the queue.
    fn in_turn(&self, position: &Position, call: Call) -> bool {
        let Call::Enqueue(item) = call else { return true };
        let Some((start, _)) = self.dequeued.get(&item) else { return true };
        let rest = self.answered.iter().enumerate().skip(position.first);
        let mut left = rest.filter(|(nth, _)| position.ahead.binary_search(nth).is_err());
        !left.any(|(_, (other, _))| match other.call {
            Call::Enqueue(other) => self.dequeued.get(&other).is_some_and(|(_, end)| end < start),
            _ => false,
        })
    }

    /// Answered calls that may come next, and the moment at which the first of them ended.
    fn candidates(&self, position: &Position) -> (Vec<usize>, u64) {
        let (mut candidates, mut end_first) = (Vec::new(), u64::MAX);
        let mut ahead = position.ahead.iter().peekable();
        for (nth, (operation, end)) in self.answered.iter().enumerate().skip(position.first) {
            if operation.start > end_first {
                break;
            }
            if ahead.next_if_eq(&&nth).is_none() {
                candidates.push(nth);
                end_first = end_first.min(*end);
            }
        }
        (candidates, end_first)
    }

    /// Of unanswered calls that ask the same only the first: the others can wait, they have no end.
    fn with_unanswered(&self, position: &Position, end_first: u64) -> Vec<Position> {
        let (mut positions, mut asked) = (Vec::new(), HashSet::new());
        for (nth, operation) in self.unanswered.iter().enumerate() {
            let taken = position.unanswered.binary_search(&nth);
            if operation.start > end_first {
                break;
            }
            if let Err(place) = taken
                && asked.insert(operation.call)
            {
                let mut next = position.clone();
                next.state.apply(operation.call);
                next.unanswered.insert(place, nth);
                // What changes nothing leads nowhere.
                if next.state != position.state {
                    positions.push(next);
                }
            }
        }
        positions
    }
}

/// When each item left the queue. Nothing, if an item came or left twice: then that says little.
fn dequeued(operations: &[Operation]) -> HashMap<i64, (u64, u64)> {
    let (mut came, mut left) = (HashSet::new(), HashMap::new());
    for operation in operations {
        let twice = match (operation.call, operation.end) {
            (Call::Enqueue(item), _) => !came.insert(item),
            (Call::Dequeue, Some((end, Answer::Number(item)))) => {
                left.insert(item, (operation.start, end)).is_some()
            }
            _ => false,
        };
        if twice {
            return HashMap::new();
        }
    }
    left
}

impl Position {
    fn explained(&self) -> usize {
        self.first + self.ahead.len()
    }

    /// Puts an answered call into the order.
    fn take(&mut self, nth: usize) {
        let place = self.ahead.binary_search(&nth).expect_err("it is in no order yet");
        self.ahead.insert(place, nth);
        let run = self.ahead.iter().zip(self.first..).take_while(|(nth, next)| *nth == next);
        let run = run.count();
        self.ahead.drain(..run);
        self.first += run;
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoOrder { explained, state, stuck } => {
                write!(f, "not linearizable: after {explained} calls, {state:?}, none fits of")?;
                stuck.iter().try_for_each(|operation| write!(f, "\n    {operation}"))
            }
            Self::Undecided { key } => {
                write!(f, "key {key}: not decided within {POSITIONS_MAX} positions")
            }
        }
    }
}
