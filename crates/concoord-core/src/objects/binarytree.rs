//! A binary search tree.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::order::{self, Sorted};
use super::{decode, encode};
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.binarytree.BinaryTree";

/// Values in their order, by Python's `<`. A value that was inserted twice is there twice.
///
/// It takes as much memory as what clients insert. Its nodes never travel, only their values; and
/// it is balanced whatever the order of the calls. Who watches it is told `("insert", data)` and
/// `("delete", data)`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinaryTree {
    /// With the number of its insertion.
    values: BTreeSet<(Sorted, u64)>,
    inserted: u64,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    class: CLASS.into(),
    doc: "A binary search tree: values in their order.".into(),
    methods: vec![
        Method::new("__concoordinit__", "Start anew, empty."),
        of_data("add_node", "Insert `data`; raise TypeError if it does not compare with the rest."),
        of_data("insert", "Insert `data`; raise TypeError if it does not compare with the rest."),
        of_data("find", "Return whether a value equal to `data` is there.").returns("bool").reads(),
        of_data("delete", "Remove one value equal to `data`; return whether there was one.")
            .returns("bool"),
        least_or_most("get_min", "Return the least value; raise ValueError if there is none."),
        least_or_most("get_max", "Return the greatest value; raise ValueError if there is none."),
        Method::new("get_depth", "Return how many levels the balanced tree of its values has.")
            .returns("int")
            .reads(),
        Method::new("get_size", "Return how many values there are.").returns("int").reads(),
        Method::new("get_values", "Return the values in their order.").returns("list[Any]").reads(),
        Method::new("__len__", "Return how many values there are.").returns("int").reads(),
        of_data("__contains__", "Return whether a value equal to `data` is there.")
            .returns("bool")
            .reads(),
    ],
});

fn of_data(name: &str, doc: &str) -> Method {
    Method::new(name, doc).takes("data", "object", None)
}

fn least_or_most(name: &str, doc: &str) -> Method {
    Method::new(name, doc).returns("Any").reads()
}

impl BinaryTree {
    fn insert(&mut self, data: &Value) -> Result<(), Exception> {
        let entry = (Sorted::of(data)?, self.inserted + 1);
        order::beside_all(&self.values, &entry)?;
        self.inserted += 1;
        self.values.insert(entry);
        Ok(())
    }

    /// The first value that is equal to `data`.
    fn find(&self, data: &Value) -> Result<Option<(Sorted, u64)>, Exception> {
        let entry = (Sorted::of(data)?, 0);
        let next = self.values.range(&entry..).next();
        let found = next.filter(|(value, _)| *value == entry.0).cloned();
        if found.is_none() {
            order::beside_all(&self.values, &entry)?;
        }
        Ok(found)
    }
}

impl Object for BinaryTree {
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
        let mut tell = |change: &str, data: &Value| {
            context.tell(Value::Tuple(vec![change.into(), data.clone()]));
        };
        let returned = match method {
            "add_node" | "insert" => {
                self.insert(given.required(0))?;
                tell("insert", given.required(0));
                Value::None
            }
            "delete" => {
                let found = self.find(given.required(0))?;
                if let Some(entry) = &found {
                    self.values.remove(entry);
                    tell("delete", given.required(0));
                }
                found.is_some().into()
            }
            "__concoordinit__" => {
                for (value, _) in std::mem::take(&mut self.values) {
                    tell("delete", &value.into_value());
                }
                Value::None
            }
            _ => return self.read(method, arguments).map(Reply::Value),
        };
        Ok(Reply::Value(returned))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        let given = INTERFACE.given(method, arguments)?;
        let value = |entry: Option<&(Sorted, u64)>| match entry {
            Some((value, _)) => Ok(value.clone().into_value()),
            None => Err(Exception::builtin("ValueError", "the tree is empty")),
        };
        Ok(match method {
            "find" | "__contains__" => self.find(given.required(0))?.is_some().into(),
            "get_min" => value(self.values.first())?,
            "get_max" => value(self.values.last())?,
            "get_depth" => Value::from(u64::from(usize::BITS - self.values.len().leading_zeros())),
            "get_values" => {
                let values = self.values.iter().map(|(value, _)| value.clone().into_value());
                Value::List(values.collect())
            }
            _ => self.values.len().into(),
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

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, caller};
    use super::*;

    #[test]
    fn values_are_found_in_their_order() {
        let mut stage = Stage::new(BinaryTree::default());
        let one = caller(1);
        let empty = ("ValueError".into(), "the tree is empty".into());
        assert_eq!(stage.raises(one, "get_min", vec![]), empty);
        for data in [5, 3, 8, 3, 9] {
            stage.returns(one, "insert", vec![Value::Int(data)]);
        }
        let mut call = |method: &str, given: &[i64]| {
            stage.returns(one, method, given.iter().copied().map(Value::Int).collect())
        };
        assert_eq!((call("get_min", &[]), call("get_max", &[])), (Value::Int(3), Value::Int(9)));
        assert_eq!((call("get_size", &[]), call("get_depth", &[])), (Value::Int(5), Value::Int(3)));
        assert_eq!(call("delete", &[3]), Value::Bool(true));
        assert_eq!(call("find", &[3]), Value::Bool(true));
        assert_eq!(call("delete", &[3]), Value::Bool(true));
        assert_eq!(call("delete", &[3]), Value::Bool(false));
        assert_eq!(call("find", &[4]), Value::Bool(false));
        let rest = [5, 8, 9].map(Value::Int).to_vec();
        assert_eq!(call("get_values", &[]), Value::List(rest));
        assert_eq!(stage.returns(one, "find", vec![Value::Float(8.0)]), Value::Bool(true));
        for method in ["add_node", "find", "delete"] {
            assert_eq!(stage.raises(one, method, vec![Value::from("a")]).0, "TypeError");
        }
        stage.returns(one, "__concoordinit__", vec![]);
        assert_eq!(stage.returns(one, "get_depth", vec![]), Value::Int(0));
    }
}
