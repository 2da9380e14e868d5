//! A count that callers wait to see at zero.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::line::Line;
use super::patience::Patience;
use super::{decode, encode};
use crate::call::CallId;
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.countdownlatch.CountDownLatch";

/// A count, zero at first, and those who wait until it is zero. Once it is there it can be set
/// again.
///
/// It takes as much memory as there are calls that wait. Who watches it is told `("count", count)`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct CountDownLatch {
    /// At most `i64::MAX`. Nobody waits while it is zero.
    count: u64,
    line: Line<()>,
}

static INTERFACE: LazyLock<Interface> =
    LazyLock::new(|| Interface {
        class: CLASS.into(),
        doc: "A count that callers wait to see at zero.".into(),
        methods: vec![
        Method::new("__concoordinit__", "Start anew, from `count`; send all who wait away.")
            .takes("count", "int", Some("0")),
        Method::new("try_set", "Set the count, if it is zero; return whether it was.")
            .takes("count", "int", None)
            .returns("bool"),
        Method::new("count_down", "Subtract `n`, down to zero at most. Return the count.")
            .takes("n", "int", Some("1"))
            .returns("int"),
        Method::new(
            "wait",
            "Wait until the count is zero, but for `timeout` seconds at most. Return whether it \
             was.",
        )
        .takes("timeout", "float | None", Some("None"))
        .returns("bool"),
        Method::new("getcount", "Return the count.").returns("int").reads(),
        Method::new("__repr__", "Return the count within a str.").returns("str").reads(),
        Method::new("__str__", "Return the count within a str.").returns("str").reads(),
    ],
    });

impl CountDownLatch {
    fn change(&mut self, count: u64, context: &mut Context<'_>) {
        if self.count != count {
            self.count = count;
            context.tell(Value::Tuple(vec!["count".into(), count.into()]));
        }
    }

    fn answer_all(&mut self, was_zero: bool, context: &mut Context<'_>) {
        for waiter in self.line.take() {
            context.answer(waiter.call, Ok(was_zero.into()));
        }
    }
}

fn count(int: Option<i64>) -> Result<u64, Exception> {
    let error = |_| Exception::builtin("ValueError", "count must be >= 0");
    u64::try_from(int.unwrap_or(0)).map_err(error)
}

impl Object for CountDownLatch {
    fn interface(&self) -> &'static Interface {
        &INTERFACE
    }

    fn apply(
        &mut self,
        method: &str,
        arguments: &Arguments,
        context: &mut Context<'_>,
    ) -> Result<Reply, Exception> {
        let given = INTERFACE.given(method, arguments)?;
        Ok(Reply::Value(match method {
            "wait" => {
                let patience = Patience::of_wait(&given, 0)?;
                if self.count > 0 {
                    return Ok(patience.wait(context, || self.line.join((), context)));
                }
                true.into()
            }
            "count_down" => {
                let n = u64::try_from(given.small_int(0)?.unwrap_or(1)).unwrap_or(0);
                if n == 0 {
                    return Err(Exception::builtin("ValueError", "n must be one or more"));
                }
                self.change(self.count.saturating_sub(n), context);
                if self.count == 0 {
                    self.answer_all(true, context);
                }
                self.count.into()
            }
            "try_set" => {
                let count = count(given.small_int(0)?)?;
                let is_free = self.count == 0;
                if is_free {
                    self.change(count, context);
                }
                is_free.into()
            }
            "__concoordinit__" => {
                let count = count(given.small_int(0)?)?;
                self.answer_all(false, context);
                self.change(count, context);
                Value::None
            }
            _ => self.read(method, arguments)?,
        }))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        INTERFACE.given(method, arguments)?;
        Ok(match method {
            "getcount" => self.count.into(),
            _ => Value::Str(format!("<DCountDownLatch count={}>", self.count)),
        })
    }

    fn cancelled(&mut self, parked: CallId, _: &mut Context<'_>) {
        self.line.remove(parked);
    }

    fn describe(&self) -> Vec<(&'static str, Value)> {
        vec![("count", self.count.into()), ("waiting", self.line.len().into())]
    }

    fn snapshot(&self) -> Vec<u8> {
        encode(self)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        *self = decode(snapshot)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, caller};
    use super::*;

    #[test]
    fn all_who_wait_return_at_zero() {
        let mut stage = Stage::new(CountDownLatch::default());
        assert_eq!(stage.returns(caller(1), "wait", vec![]), Value::Bool(true));
        assert_eq!(stage.returns(caller(1), "try_set", vec![Value::Int(3)]), Value::Bool(true));
        assert_eq!(stage.returns(caller(1), "try_set", vec![Value::Int(9)]), Value::Bool(false));
        let calls = [1, 2].map(|session| stage.waits(caller(session), "wait", vec![]));
        assert_eq!(stage.returns(caller(3), "count_down", vec![]), Value::Int(2));
        assert_eq!(stage.end_of(calls[0]), None);
        assert_eq!(stage.returns(caller(3), "count_down", vec![Value::Int(5)]), Value::Int(0));
        for call in calls {
            assert_eq!(stage.end_of(call), Some(&Ok(Value::Bool(true))));
        }
        let counts = [3, 2, 0].map(|count| Value::Tuple(vec!["count".into(), Value::Int(count)]));
        assert_eq!(stage.told, counts);
    }

    #[test]
    fn who_has_waited_for_long_enough_is_told_so() {
        let mut stage = Stage::new(CountDownLatch::default());
        stage.returns(caller(1), "__concoordinit__", vec![Value::Int(1)]);
        let call = stage.waits(caller(1), "wait", vec![Value::Int(1)]);
        let other = stage.waits(caller(2), "wait", vec![]);
        stage.pass(1_000);
        assert_eq!(stage.end_of(call), Some(&Ok(Value::Bool(false))));
        stage.returns(caller(1), "__concoordinit__", vec![Value::Int(2)]);
        assert_eq!(stage.end_of(other), Some(&Ok(Value::Bool(false))));
        assert_eq!(stage.returns(caller(1), "getcount", vec![]), Value::Int(2));
        let words = ("ValueError".into(), "n must be one or more".into());
        assert_eq!(stage.raises(caller(1), "count_down", vec![Value::Int(0)]), words);
        let words = ("ValueError".into(), "count must be >= 0".into());
        assert_eq!(stage.raises(caller(1), "try_set", vec![Value::Int(-1)]), words);
    }
}
