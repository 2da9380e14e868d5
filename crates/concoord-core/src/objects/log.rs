//! A log that clients share.

use std::collections::VecDeque;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::given::Given;
use super::kept::Kept;
use super::repr::repr;
use super::{decode, encode};
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.log.Log";

/// Entries in the order in which they were written, each with a number that no other ever has.
///
/// It takes as much memory as what clients append and do not trim. Who watches it is told
/// `("append", number, entry)`, and `("trim", first)` with the number of the first that is left.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Log {
    /// The number of the first entry that is there.
    first: u64,
    entries: VecDeque<Kept>,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    class: CLASS.into(),
    doc: "Entries in the order in which they were written, numbered from 0.".into(),
    methods: vec![
        Method::new("__concoordinit__", "Start anew, empty, with number 0."),
        Method::new("write", "Have `entry` replace all that there is; return its number.")
            .takes("entry", "object", None)
            .returns("int"),
        Method::new("append", "Add `entry` at the end; return its number.")
            .takes("entry", "object", None)
            .returns("int"),
        Method::new(
            "read",
            "Return the entries from that number on, or from the first that is left. Return \
             `limit` of them at most if that is given.",
        )
        .takes("start", "int", Some("0"))
        .takes("limit", "int | None", Some("None"))
        .returns("list[Any]")
        .reads(),
        Method::new("trim", "Forget the entries before that number; return how many that were.")
            .takes("before", "int", None)
            .returns("int"),
        Method::new("first", "Return the number of the first entry that is there.")
            .returns("int")
            .reads(),
        Method::new("next", "Return the number that the next entry will have.")
            .returns("int")
            .reads(),
        Method::new("__len__", "Return how many entries there are.").returns("int").reads(),
        Method::new("__str__", "Return the entries, as the str of a list.").returns("str").reads(),
    ],
});

impl Log {
    fn next(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    fn append(&mut self, entry: Kept, context: &mut Context<'_>) -> u64 {
        let number = self.next();
        context.tell(Value::Tuple(vec!["append".into(), number.into(), entry.value()]));
        self.entries.push_back(entry);
        number
    }

    /// Forgets all before that number; those that are still to come can't be.
    fn trim(&mut self, before: u64, context: &mut Context<'_>) -> usize {
        let count = before.clamp(self.first, self.next()) - self.first;
        let gone = self.entries.drain(..count as usize).count();
        if gone > 0 {
            self.first += count;
            context.tell(Value::Tuple(vec!["trim".into(), self.first.into()]));
        }
        gone
    }

    fn entries(&self, given: &Given<'_>) -> Result<Value, Exception> {
        let start = number(given, 0)?.saturating_sub(self.first);
        let limit = match given.value(1) {
            None | Some(Value::None) => usize::MAX,
            Some(_) => number(given, 1)? as usize,
        };
        let from = self.entries.iter().skip(start as usize);
        Ok(Value::List(from.take(limit).map(Kept::value).collect()))
    }
}

/// An int from 0 on.
fn number(given: &Given<'_>, at: usize) -> Result<u64, Exception> {
    u64::try_from(given.small_int(at)?.unwrap_or(0))
        .map_err(|_| Exception::builtin("ValueError", "entries are numbered from 0"))
}

impl Object for Log {
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
            "append" => self.append(Kept::of(given.required(0))?, context).into(),
            "write" => {
                let entry = Kept::of(given.required(0))?;
                self.trim(u64::MAX, context);
                self.append(entry, context).into()
            }
            "trim" => self.trim(number(&given, 0)?, context).into(),
            "__concoordinit__" => {
                *self = Self::default();
                context.tell(Value::Tuple(vec!["trim".into(), Value::Int(0)]));
                Value::None
            }
            _ => return self.read(method, arguments).map(Reply::Value),
        };
        Ok(Reply::Value(returned))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        let given = INTERFACE.given(method, arguments)?;
        Ok(match method {
            "read" => self.entries(&given)?,
            "first" => self.first.into(),
            "next" => self.next().into(),
            "__str__" => {
                Value::Str(repr(&Value::List(self.entries.iter().map(Kept::value).collect())))
            }
            _ => self.entries.len().into(),
        })
    }

    fn snapshot(&self) -> Vec<u8> {
        encode(self)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        let log: Self = decode(snapshot)?;
        if log.first.checked_add(log.entries.len() as u64).is_none() {
            return Err("the log has more entries than can be numbered".into());
        }
        *self = log;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, caller};
    use super::*;

    fn ints(ints: &[i64]) -> Value {
        Value::List(ints.iter().copied().map(Value::Int).collect())
    }

    #[test]
    fn entries_keep_their_numbers() {
        let mut stage = Stage::new(Log::default());
        let one = caller(1);
        for entry in 10..15 {
            let number = stage.returns(one, "append", vec![Value::Int(entry)]);
            assert_eq!(number, Value::Int(entry - 10));
        }
        let mut read = |given: &[i64]| {
            stage.returns(one, "read", given.iter().copied().map(Value::Int).collect())
        };
        assert_eq!(read(&[]), ints(&[10, 11, 12, 13, 14]));
        assert_eq!(read(&[3]), ints(&[13, 14]));
        assert_eq!(read(&[1, 2]), ints(&[11, 12]));
        assert_eq!(read(&[9]), ints(&[]));
        assert_eq!(stage.returns(one, "trim", vec![Value::Int(3)]), Value::Int(3));
        assert_eq!(stage.returns(one, "trim", vec![Value::Int(2)]), Value::Int(0));
        assert_eq!(stage.returns(one, "read", vec![Value::Int(2)]), ints(&[13, 14]));
        assert_eq!(stage.returns(one, "first", vec![]), Value::Int(3));
        assert_eq!(stage.returns(one, "write", vec![Value::from("x")]), Value::Int(5));
        assert_eq!(stage.returns(one, "__str__", vec![]), Value::from("['x']"));
        assert_eq!(stage.returns(one, "trim", vec![Value::Int(99)]), Value::Int(1));
        assert_eq!(stage.returns(one, "next", vec![]), Value::Int(6));
        assert_eq!(stage.told.len(), 5 + 1 + 2 + 1);
        assert_eq!(stage.raises(one, "read", vec![Value::Int(-1)]).0, "ValueError");
        let limit = vec![Value::Int(0), Value::Int(-1)];
        assert_eq!(stage.raises(one, "read", limit).0, "ValueError");
    }
}
