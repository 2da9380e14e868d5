//! A queue whose least item comes first, with the behaviour of Python's `queue.PriorityQueue`.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::given::Given;
use super::order::{self, Sorted};
use super::queue::{Queue, Shelf, methods};
use crate::object::{Context, Interface};
use crate::value::{Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.priorityqueue.PriorityQueue";

/// A [`Queue`] whose least item comes first, by Python's `<`; of equal ones that which was put
/// first.
///
/// Unlike Python's, it refuses an item that can't be compared with all the others, however it
/// would stand to them, and stays as it is then.
pub(crate) type PriorityQueue = Queue<Ranked>;

/// The least first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ranked {
    items: BTreeSet<(Sorted, u64)>,
    put: u64,
}

impl Shelf for Ranked {
    type Item = Sorted;

    fn interface() -> &'static Interface {
        static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
            class: CLASS.into(),
            doc: "A queue whose least item comes first; of equal ones that which was put first."
                .into(),
            methods: methods(true),
        });
        &INTERFACE
    }

    fn item(given: &Given<'_>, _: &Context<'_>) -> Result<Sorted, Exception> {
        Sorted::of(given.required(0))
    }

    fn push(&mut self, item: Sorted) -> Result<(), Exception> {
        let entry = (item, self.put + 1);
        order::beside_all(&self.items, &entry)?;
        self.put += 1;
        self.items.insert(entry);
        Ok(())
    }

    fn pop(&mut self, _: u64) -> Option<Value> {
        self.items.pop_first().map(|(item, _)| item.into_value())
    }

    fn len(&self) -> usize {
        self.items.len()
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, caller};
    use super::*;

    #[test]
    fn the_least_comes_first_and_equals_in_their_order() {
        let mut stage = Stage::new(PriorityQueue::default());
        let pair = |rank: Value, item: i64| Value::Tuple(vec![rank, Value::Int(item)]);
        for item in [Value::Int(3), Value::Float(1.0), Value::Int(1), Value::Bool(true)] {
            stage.returns(caller(1), "put", vec![item]);
        }
        let mut get = || stage.returns(caller(2), "get", vec![]);
        let got = [get(), get(), get(), get()];
        assert_eq!(got, [Value::Float(1.0), Value::Int(1), Value::Bool(true), Value::Int(3)]);
        for (rank, item) in [(2, 1), (1, 2), (1, 1)] {
            stage.returns(caller(1), "put", vec![pair(Value::Int(rank), item)]);
        }
        assert_eq!(stage.returns(caller(2), "get", vec![]), pair(Value::Int(1), 1));
    }

    #[test]
    fn what_does_not_compare_is_refused() {
        let mut stage = Stage::new(PriorityQueue::default());
        stage.returns(caller(1), "__concoordinit__", vec![Value::Int(2)]);
        stage.returns(caller(1), "put", vec![Value::Int(3)]);
        let words = "'<' not supported between instances of 'str' and 'int'";
        let error = ("TypeError".into(), words.into());
        assert_eq!(stage.raises(caller(1), "put", vec![Value::from("a")]), error);
        stage.returns(caller(1), "put", vec![Value::Int(5)]);
        // Only when there is room does it turn out that it can't go in; the next one can.
        let wrong = stage.waits(caller(2), "put", vec![Value::from("a")]);
        let right = stage.waits(caller(3), "put", vec![Value::Int(1)]);
        assert_eq!(stage.returns(caller(1), "get", vec![]), Value::Int(3));
        let ended = stage.end_of(wrong).unwrap().as_ref().unwrap_err();
        assert_eq!(ended.args, [Value::from(words)]);
        assert_eq!(stage.end_of(right), Some(&Ok(Value::None)));
    }
}
