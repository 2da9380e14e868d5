//! A counter: an int of any size.

use std::sync::LazyLock;

use num_bigint::BigInt;

use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.counter.Counter";

/// A counter that starts at 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    value: BigInt,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    class: CLASS.into(),
    doc: "A counter: an int of any size, 0 at first.".into(),
    methods: vec![
        Method::new("__concoordinit__", "Start anew, from `value`.").takes(
            "value",
            "int",
            Some("0"),
        ),
        Method::new("increment", "Add `by`.").takes("by", "int", Some("1")),
        Method::new("decrement", "Subtract `by`.").takes("by", "int", Some("1")),
        Method::new("getvalue", "Return the value.").returns("int").reads(),
        Method::new("__str__", "Return `The counter value is ` and the value.")
            .returns("str")
            .reads(),
    ],
});

impl Object for Counter {
    fn interface(&self) -> &'static Interface {
        &INTERFACE
    }

    fn apply(
        &mut self,
        method: &str,
        arguments: &Arguments,
        _: &mut Context<'_>,
    ) -> Result<Reply, Exception> {
        match method {
            "increment" => self.value += int_argument(method, arguments, 1)?,
            "decrement" => self.value -= int_argument(method, arguments, 1)?,
            "__concoordinit__" => self.value = int_argument(method, arguments, 0)?,
            _ => return self.read(method, arguments).map(Reply::Value),
        }
        Ok(Reply::Value(Value::None))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        INTERFACE.given(method, arguments)?;
        Ok(match method {
            "getvalue" => Value::from(self.value.clone()),
            _ => Value::Str(format!("The counter value is {}", self.value)),
        })
    }

    fn snapshot(&self) -> Vec<u8> {
        self.value.to_signed_bytes_le()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        self.value = BigInt::from_signed_bytes_le(snapshot);
        Ok(())
    }
}

/// The only argument of that method.
fn int_argument(method: &str, arguments: &Arguments, default: i64) -> Result<BigInt, Exception> {
    if arguments.is_empty() {
        return Ok(default.into());
    }
    Ok(INTERFACE.given(method, arguments)?.int(0)?.unwrap_or_else(|| default.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::CallId;
    use crate::object::Moment;

    fn call(
        counter: &mut Counter,
        method: &str,
        positional: Vec<Value>,
    ) -> Result<Value, Exception> {
        let mut deeds = Vec::new();
        let mut context = Context::new(Moment::default(), CallId::default(), 0, &mut deeds);
        match counter.apply(method, &Arguments { positional, keyword: vec![] }, &mut context)? {
            Reply::Value(value) => Ok(value),
            Reply::Parked { .. } => panic!("a counter never waits"),
        }
    }

    #[test]
    fn counts_beyond_64_bits_and_back() {
        let mut counter = Counter::default();
        call(&mut counter, "increment", vec![Value::Int(i64::MAX)]).unwrap();
        call(&mut counter, "increment", vec![]).unwrap();
        assert_eq!(
            call(&mut counter, "getvalue", vec![]),
            Ok(Value::from(BigInt::from(i64::MAX) + 1))
        );
        let mut copy = Counter::default();
        copy.restore(&counter.snapshot()).unwrap();
        assert_eq!(copy, counter);
        call(&mut counter, "decrement", vec![Value::from(BigInt::from(i64::MAX) + 2)]).unwrap();
        assert_eq!(
            call(&mut counter, "__str__", vec![]),
            Ok(Value::Str("The counter value is -1".into()))
        );
        call(&mut counter, "__concoordinit__", vec![]).unwrap();
        assert_eq!(call(&mut counter, "getvalue", vec![]), Ok(Value::Int(0)));
    }

    #[test]
    fn wrong_arguments_are_type_errors_in_pythons_words() {
        let mut counter = Counter::default();
        let message = |result: Result<Value, Exception>| result.unwrap_err().args;
        let words = |text: &str| vec![Value::Str(text.into())];
        assert_eq!(
            message(call(&mut counter, "increment", vec![Value::Int(1), Value::Int(2)])),
            words("Counter.increment() takes from 1 to 2 positional arguments but 3 were given")
        );
        assert_eq!(
            message(call(&mut counter, "getvalue", vec![Value::Int(1)])),
            words("Counter.getvalue() takes 1 positional argument but 2 were given")
        );
        assert_eq!(
            message(call(&mut counter, "increment", vec![Value::Str("a".into())])),
            words("Counter.increment() takes an int, not str")
        );
        assert_eq!(counter, Counter::default());
    }
}
