//! A stack.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::kept::Kept;
use super::repr::repr;
use super::{decode, encode};
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.stack.Stack";

/// A stack: last in, first out.
///
/// It takes as much memory as what clients put on it. Who watches it is told `("push", size)` and
/// `("pop", size)`, the size being that after the change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    items: Vec<Kept>,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    class: CLASS.into(),
    doc: "A stack: last in, first out.".into(),
    methods: vec![
        Method::new("__concoordinit__", "Start anew, empty."),
        Method::new("append", "Put `item` on top.").takes("item", "object", None),
        Method::new("push", "Put `item` on top.").takes("item", "object", None),
        Method::new(
            "pop",
            "Take the item on top and return it; raise IndexError if there is none.",
        )
        .returns("Any"),
        Method::new("peek", "Return the item on top; raise IndexError if there is none.")
            .returns("Any")
            .reads(),
        Method::new("get_size", "Return how many items there are.").returns("int").reads(),
        Method::new("get_stack", "Return the items, the lowest first.")
            .returns("list[Any]")
            .reads(),
        Method::new("__len__", "Return how many items there are.").returns("int").reads(),
        Method::new("__str__", "Return the items, as the str of a list.").returns("str").reads(),
    ],
});

impl Stack {
    fn tell(&self, change: &str, context: &mut Context<'_>) {
        context.tell(Value::Tuple(vec![change.into(), self.items.len().into()]));
    }
}

impl Object for Stack {
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
        let returned = match method {
            "append" | "push" => {
                self.items.push(Kept::of(given.required(0))?);
                self.tell("push", context);
                Value::None
            }
            "pop" => {
                let item = self.items.pop().ok_or_else(nothing)?;
                self.tell("pop", context);
                item.value()
            }
            "__concoordinit__" => {
                self.items.clear();
                self.tell("pop", context);
                Value::None
            }
            _ => return self.read(method, arguments).map(Reply::Value),
        };
        Ok(Reply::Value(returned))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        INTERFACE.given(method, arguments)?;
        let all = || Value::List(self.items.iter().map(Kept::value).collect());
        Ok(match method {
            "peek" => self.items.last().ok_or_else(nothing)?.value(),
            "get_stack" => all(),
            "__str__" => Value::Str(repr(&all())),
            _ => self.items.len().into(),
        })
    }

    fn snapshot(&self) -> Vec<u8> {
        encode(self)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        *self = decode(snapshot)?;
        Ok(())
    }
}

fn nothing() -> Exception {
    Exception::builtin("IndexError", "pop from an empty stack")
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, caller};
    use super::*;

    #[test]
    fn the_last_item_comes_first() {
        let mut stage = Stage::new(Stack::default());
        let one = caller(1);
        stage.returns(one, "append", vec![Value::from("a")]);
        stage.returns(one, "push", vec![Value::None]);
        assert_eq!(stage.returns(one, "__str__", vec![]), Value::from("['a', None]"));
        let both = Value::List(vec![Value::from("a"), Value::None]);
        assert_eq!(stage.returns(one, "get_stack", vec![]), both);
        assert_eq!(stage.returns(one, "pop", vec![]), Value::None);
        assert_eq!(stage.returns(one, "peek", vec![]), Value::from("a"));
        assert_eq!(stage.returns(one, "pop", vec![]), Value::from("a"));
        assert_eq!(stage.returns(one, "get_size", vec![]), Value::Int(0));
        let error = ("IndexError".into(), "pop from an empty stack".into());
        assert_eq!(stage.raises(one, "pop", vec![]), error);
        assert_eq!(stage.raises(one, "peek", vec![]), error);
    }
}
