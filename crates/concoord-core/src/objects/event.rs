//! A flag that callers wait for, with the behaviour of Python's `threading.Event`.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::line::Line;
use super::patience::Patience;
use super::{decode, encode};
use crate::call::CallId;
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.event.Event";

/// A flag that is not set at first, and those who wait until it is.
///
/// Who waits when it is set returns, even if it is cleared right after. It takes as much memory as
/// there are calls that wait. Who watches it is told `("set",)` and `("clear",)`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Event {
    is_set: bool,
    line: Line<()>,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    class: CLASS.into(),
    doc: "A flag that callers wait for, not set at first.".into(),
    methods: vec![
        Method::new("__concoordinit__", "Clear it and send all who wait away."),
        Method::new("set", "Set it, and have all who wait return."),
        Method::new("clear", "Have those wait who come from now on."),
        Method::new("is_set", "Return whether it is set.").returns("bool").reads(),
        Method::new(
            "wait",
            "Wait until it is set, but for `timeout` seconds at most. Return whether it was.",
        )
        .takes("timeout", "float | None", Some("None"))
        .returns("bool"),
        Method::new("__repr__", "Return whether it is set, as a str.").returns("str").reads(),
        Method::new("__str__", "Return whether it is set, as a str.").returns("str").reads(),
    ],
});

impl Event {
    fn change(&mut self, is_set: bool, context: &mut Context<'_>) {
        if self.is_set != is_set {
            self.is_set = is_set;
            let change = if is_set { "set" } else { "clear" };
            context.tell(Value::Tuple(vec![change.into()]));
        }
    }

    fn answer_all(&mut self, was_set: bool, context: &mut Context<'_>) {
        for waiter in self.line.take() {
            context.answer(waiter.call, Ok(was_set.into()));
        }
    }
}

impl Object for Event {
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
        match method {
            "wait" => {
                let patience = Patience::of_wait(&given, 0)?;
                if self.is_set {
                    return Ok(Reply::Value(true.into()));
                }
                return Ok(patience.wait(context, || self.line.join((), context)));
            }
            "set" => {
                self.change(true, context);
                self.answer_all(true, context);
            }
            "clear" => self.change(false, context),
            "__concoordinit__" => {
                self.change(false, context);
                self.answer_all(false, context);
            }
            _ => return self.read(method, arguments).map(Reply::Value),
        }
        Ok(Reply::Value(Value::None))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        INTERFACE.given(method, arguments)?;
        Ok(match method {
            "is_set" => self.is_set.into(),
            _ => Value::Str(format!("<DEvent {}>", if self.is_set { "set" } else { "unset" })),
        })
    }

    fn cancelled(&mut self, parked: CallId, _: &mut Context<'_>) {
        self.line.remove(parked);
    }

    fn describe(&self) -> Vec<(&'static str, Value)> {
        vec![("set", self.is_set.into()), ("waiting", self.line.len().into())]
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
    fn all_who_wait_return_when_it_is_set() {
        let mut stage = Stage::new(Event::default());
        let calls = [1, 2].map(|session| stage.waits(caller(session), "wait", vec![]));
        stage.returns(caller(3), "set", vec![]);
        stage.returns(caller(3), "set", vec![]);
        stage.returns(caller(3), "clear", vec![]);
        for call in calls {
            assert_eq!(stage.end_of(call), Some(&Ok(Value::Bool(true))));
        }
        let changes = ["set", "clear"].map(|change| Value::Tuple(vec![change.into()]));
        assert_eq!(stage.told, changes);
        stage.waits(caller(1), "wait", vec![]);
    }

    #[test]
    fn a_timeout_says_whether_it_was_set() {
        let mut stage = Stage::new(Event::default());
        let call = stage.waits(caller(1), "wait", vec![Value::Float(0.5)]);
        stage.pass(500);
        assert_eq!(stage.end_of(call), Some(&Ok(Value::Bool(false))));
        let at_once = vec![Value::Int(0)];
        assert_eq!(stage.returns(caller(1), "wait", at_once.clone()), Value::Bool(false));
        stage.returns(caller(1), "set", vec![]);
        assert_eq!(stage.returns(caller(1), "wait", at_once), Value::Bool(true));
        assert_eq!(stage.returns(caller(1), "wait", vec![]), Value::Bool(true));
    }
}
