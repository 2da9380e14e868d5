//! A reference: one value, swapped as a whole.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::kept::Kept;
use super::{decode, encode};
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.atomicreference.AtomicReference";

/// One value of any kind, `None` at first.
///
/// Who watches it is told each new value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AtomicReference {
    value: Kept,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    class: CLASS.into(),
    doc: "One value of any kind, None at first.".into(),
    methods: vec![
        Method::new("__concoordinit__", "Start anew, from `value`.").takes(
            "value",
            "object",
            Some("None"),
        ),
        Method::new("get", "Return the value.").returns("Any").reads(),
        Method::new("set", "Make it `value`.").takes("value", "object", None),
        Method::new("get_and_set", "Make it `value` and return what it was.")
            .takes("value", "object", None)
            .returns("Any"),
        Method::new(
            "compare_and_set",
            "Make it `new` if it is `expected`, in type as well: 1 is neither 1.0 nor True. Return \
             whether it was.",
        )
        .takes("expected", "object", None)
        .takes("new", "object", None)
        .returns("bool"),
    ],
});

impl Default for AtomicReference {
    fn default() -> Self {
        Self { value: Kept::of(&Value::None).expect("it is small") }
    }
}

impl AtomicReference {
    fn set(&mut self, value: Kept, context: &mut Context<'_>) -> Kept {
        context.tell(value.value());
        std::mem::replace(&mut self.value, value)
    }
}

impl Object for AtomicReference {
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
            "__concoordinit__" => {
                self.set(Kept::of(given.value(0).unwrap_or(&Value::None))?, context);
                Value::None
            }
            "set" => {
                self.set(Kept::of(given.required(0))?, context);
                Value::None
            }
            "get_and_set" => self.set(Kept::of(given.required(0))?, context).value(),
            "compare_and_set" => {
                let new = Kept::of(given.required(1))?;
                let is_it = Kept::of(given.required(0))? == self.value;
                if is_it {
                    self.set(new, context);
                }
                Value::Bool(is_it)
            }
            _ => self.value.value(),
        }))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        INTERFACE.given(method, arguments)?;
        Ok(self.value.value())
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
    fn it_is_swapped_where_it_is_what_is_expected() {
        let mut stage = Stage::new(AtomicReference::default());
        let one = caller(1);
        assert_eq!(stage.returns(one, "get", vec![]), Value::None);
        let pair = Value::Tuple(vec![Value::Int(1), Value::from("a")]);
        stage.returns(one, "set", vec![pair.clone()]);
        let mut swap = |expected: Value, new: Value| {
            stage.returns(caller(2), "compare_and_set", vec![expected, new])
        };
        assert_eq!(swap(Value::None, Value::Int(2)), Value::Bool(false));
        assert_eq!(swap(pair.clone(), Value::Int(2)), Value::Bool(true));
        assert_eq!(swap(Value::Float(2.0), Value::Int(3)), Value::Bool(false));
        assert_eq!(stage.returns(one, "get_and_set", vec![Value::None]), Value::Int(2));
        assert_eq!(stage.told, [pair, Value::Int(2), Value::None]);
    }
}
