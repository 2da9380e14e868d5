//! A queue whose items can be had after a delay.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::given::{Given, Seconds};
use super::kept::Kept;
use super::queue::{Queue, Shelf, methods};
use crate::object::{Context, Interface};
use crate::value::{Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.delayqueue.DelayQueue";

/// A [`Queue`] without a limit whose items can be had after a delay: first that which is due first,
/// and of those due at once that which was put first.
///
/// The time is that by which all deadlines are measured: it stands still while the cluster has no
/// leader, so that an item comes late rather than early.
pub(crate) type DelayQueue = Queue<Timed>;

/// That which is due first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Timed {
    items: BTreeMap<(u64, u64), Kept>,
    put: u64,
}

impl Shelf for Timed {
    type Item = (u64, Kept);

    fn interface() -> &'static Interface {
        static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
            class: CLASS.into(),
            doc: "A queue whose items can be had after a delay.".into(),
            methods: methods(false),
        });
        &INTERFACE
    }

    fn item(given: &Given<'_>, context: &Context<'_>) -> Result<(u64, Kept), Exception> {
        let due = match given.seconds(1)? {
            None => context.moment.clock_ms,
            Some(Seconds::Ms(ms)) => context.after(ms),
            Some(Seconds::MinusOne | Seconds::Negative | Seconds::Forever) => {
                let words = "'delay' must be a non-negative number of seconds";
                return Err(Exception::builtin("ValueError", words));
            }
        };
        Ok((due, Kept::of(given.required(0))?))
    }

    fn push(&mut self, (due, item): (u64, Kept)) -> Result<(), Exception> {
        self.put += 1;
        self.items.insert((due, self.put), item);
        Ok(())
    }

    fn pop(&mut self, clock_ms: u64) -> Option<Value> {
        let next = self.items.first_entry().filter(|next| next.key().0 <= clock_ms)?;
        Some(next.remove().value())
    }

    fn len(&self) -> usize {
        self.items.len()
    }

    fn due(&self) -> Option<u64> {
        self.items.first_key_value().map(|((due, _), _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, caller};
    use super::*;

    fn put(stage: &mut Stage<DelayQueue>, item: i64, seconds: f64) {
        stage.returns(caller(1), "put", vec![Value::Int(item), Value::Float(seconds)]);
    }

    #[test]
    fn items_come_when_they_are_due() {
        let mut stage = Stage::new(DelayQueue::default());
        put(&mut stage, 1, 2.0);
        let first = stage.waits(caller(1), "get", vec![]);
        let second = stage.waits(caller(2), "get", vec![]);
        put(&mut stage, 2, 0.5);
        put(&mut stage, 3, 0.5);
        stage.pass(499);
        assert_eq!(stage.end_of(first), None);
        stage.pass(1);
        assert_eq!(stage.end_of(first), Some(&Ok(Value::Int(2))));
        assert_eq!(stage.end_of(second), Some(&Ok(Value::Int(3))));
        assert_eq!(stage.raises(caller(3), "get_nowait", vec![]).0, "Empty");
        stage.pass(1500);
        assert_eq!(stage.returns(caller(3), "get_nowait", vec![]), Value::Int(1));
    }

    #[test]
    fn who_waits_in_vain_is_told_and_the_item_is_another_ones() {
        let mut stage = Stage::new(DelayQueue::default());
        put(&mut stage, 1, 1.0);
        let brief = stage.waits(caller(1), "get", vec![Value::Bool(true), Value::Float(0.5)]);
        let patient = stage.waits(caller(2), "get", vec![]);
        stage.pass(700);
        assert_eq!(stage.end_of(brief).unwrap().as_ref().unwrap_err().name, "Empty");
        stage.pass(300);
        assert_eq!(stage.end_of(patient), Some(&Ok(Value::Int(1))));
    }

    #[test]
    fn a_delay_is_a_time_to_come() {
        let mut stage = Stage::new(DelayQueue::default());
        for delay in [Value::Int(-1), Value::Float(-0.5), Value::Float(f64::INFINITY)] {
            let given = vec![Value::None, delay];
            assert_eq!(stage.raises(caller(1), "put", given).0, "ValueError");
        }
    }
}
