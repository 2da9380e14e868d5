//! A counter: an int of any size. The same with the method names of Java is `AtomicLong`.

use std::sync::LazyLock;

use num_bigint::BigInt;

use super::given::Given;
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.counter.Counter";

/// The name under which those look for it who know Java or Hazelcast.
pub const ATOMIC_LONG: &str = "concoord.object.atomiclong.AtomicLong";

/// A counter that starts at 0.
///
/// Who watches it is told each new value. It takes as much memory as the largest int that clients
/// have it count to.
#[derive(Clone, Debug)]
pub struct Counter {
    value: BigInt,
    interface: &'static Interface,
}

static COUNTER: LazyLock<Interface> =
    LazyLock::new(|| interface(CLASS, "A counter: an int of any size, 0 at first."));

static LONG: LazyLock<Interface> =
    LazyLock::new(|| interface(ATOMIC_LONG, "An int of any size, 0 at first: a Counter."));

fn interface(class: &str, doc: &str) -> Interface {
    let by = |name: &str, doc: &str| Method::new(name, doc).takes("by", "int", Some("1"));
    let methods = vec![
        Method::new("__concoordinit__", "Start anew, from `value`.").takes(
            "value",
            "int",
            Some("0"),
        ),
        by("increment", "Add `by`."),
        by("decrement", "Subtract `by`."),
        Method::new("getvalue", "Return the value.").returns("int").reads(),
        Method::new("get", "Return the value.").returns("int").reads(),
        Method::new("set", "Make it `value`.").takes("value", "int", None),
        by("increment_and_get", "Add `by` and return the new value.").returns("int"),
        by("decrement_and_get", "Subtract `by` and return the new value.").returns("int"),
        by("get_and_increment", "Add `by` and return the value before.").returns("int"),
        by("get_and_decrement", "Subtract `by` and return the value before.").returns("int"),
        Method::new("add_and_get", "Add `delta` and return the new value.")
            .takes("delta", "int", None)
            .returns("int"),
        Method::new("get_and_add", "Add `delta` and return the value before.")
            .takes("delta", "int", None)
            .returns("int"),
        Method::new("get_and_set", "Make it `value` and return the value before.")
            .takes("value", "int", None)
            .returns("int"),
        Method::new("compare_and_set", "Make it `new` if it is `expected`; return whether it was.")
            .takes("expected", "int", None)
            .takes("new", "int", None)
            .returns("bool"),
        Method::new("__str__", "Return `The counter value is ` and the value.")
            .returns("str")
            .reads(),
    ];
    Interface { class: class.into(), doc: doc.into(), methods }
}

impl Default for Counter {
    fn default() -> Self {
        Self { value: BigInt::ZERO, interface: &COUNTER }
    }
}

impl PartialEq for Counter {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl Eq for Counter {}

impl Counter {
    /// One that goes by the name of [`ATOMIC_LONG`].
    #[must_use]
    pub fn atomic_long() -> Self {
        Self { interface: &LONG, ..Self::default() }
    }

    /// What a method makes of the value, and what it returns.
    fn next(&self, method: &str, given: &Given<'_>) -> Result<(BigInt, Value), Exception> {
        let int = |at| Ok(given.int(at)?.unwrap_or_else(|| 1.into()));
        let before = || Value::from(self.value.clone());
        Ok(match method {
            "__concoordinit__" => (given.int(0)?.unwrap_or_default(), Value::None),
            "set" => (int(0)?, Value::None),
            "get_and_set" => (int(0)?, before()),
            "increment" => (&self.value + int(0)?, Value::None),
            "decrement" => (&self.value - int(0)?, Value::None),
            "get_and_increment" | "get_and_add" => (&self.value + int(0)?, before()),
            "get_and_decrement" => (&self.value - int(0)?, before()),
            "increment_and_get" | "add_and_get" => {
                let after = &self.value + int(0)?;
                (after.clone(), Value::from(after))
            }
            "decrement_and_get" => {
                let after = &self.value - int(0)?;
                (after.clone(), Value::from(after))
            }
            _ => {
                let (expected, new) = (int(0)?, int(1)?);
                let is_it = expected == self.value;
                (if is_it { new } else { self.value.clone() }, Value::Bool(is_it))
            }
        })
    }
}

/// Digits of the longest int that Python makes a str of: it takes time that grows as their square.
const DIGITS_MAX: u64 = 4300;

impl Object for Counter {
    fn interface(&self) -> &'static Interface {
        self.interface
    }

    fn apply(
        &mut self,
        method: &str,
        arguments: &Arguments,
        context: &mut Context<'_>,
    ) -> Result<Reply, Exception> {
        // What most calls are, without binding what was not given.
        if method == "increment" && arguments.is_empty() {
            self.value += 1;
            context.tell(Value::from(self.value.clone()));
            return Ok(Reply::Value(Value::None));
        }
        if self.interface.is_read_only(method) {
            return self.read(method, arguments).map(Reply::Value);
        }
        let given = self.interface.given(method, arguments)?;
        let (value, returned) = self.next(method, &given)?;
        if value != self.value {
            context.tell(Value::from(value.clone()));
            self.value = value;
        }
        Ok(Reply::Value(returned))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        self.interface.given(method, arguments)?;
        if method != "__str__" {
            return Ok(Value::from(self.value.clone()));
        }
        // A digit takes more than 3 bits.
        if self.value.bits() > DIGITS_MAX * 10 / 3 {
            let words = format!(
                "Exceeds the limit ({DIGITS_MAX} digits) for integer string conversion; use \
                 sys.set_int_max_str_digits() to increase the limit"
            );
            return Err(Exception::builtin("ValueError", words));
        }
        Ok(Value::Str(format!("The counter value is {}", self.value)))
    }

    fn snapshot(&self) -> Vec<u8> {
        self.value.to_signed_bytes_le()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        self.value = BigInt::from_signed_bytes_le(snapshot);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, caller};
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

    #[test]
    fn what_returns_the_value_says_which_one() {
        let mut stage = Stage::new(Counter::atomic_long());
        let mut returns = |method: &str, given: &[i64]| {
            let given = given.iter().copied().map(Value::Int).collect();
            stage.returns(caller(1), method, given)
        };
        assert_eq!(returns("increment_and_get", &[]), Value::Int(1));
        assert_eq!(returns("get_and_increment", &[]), Value::Int(1));
        assert_eq!(returns("add_and_get", &[5]), Value::Int(7));
        assert_eq!(returns("get_and_add", &[3]), Value::Int(7));
        assert_eq!(returns("decrement_and_get", &[4]), Value::Int(6));
        assert_eq!(returns("get_and_decrement", &[]), Value::Int(6));
        assert_eq!(returns("get_and_set", &[9]), Value::Int(5));
        assert_eq!(returns("compare_and_set", &[8, 1]), Value::Bool(false));
        assert_eq!(returns("compare_and_set", &[9, 1]), Value::Bool(true));
        assert_eq!(returns("set", &[1]), Value::None);
        assert_eq!(returns("get", &[]), Value::Int(1));
        let told = [1, 2, 7, 10, 6, 5, 9, 1].map(Value::Int);
        assert_eq!(stage.told, told);
        let (name, words) = stage.raises(caller(1), "compare_and_set", vec![Value::Int(1)]);
        assert_eq!(name, "TypeError");
        let missing = "missing 1 required positional argument: 'new'";
        assert_eq!(words, format!("AtomicLong.compare_and_set() {missing}"));
    }

    #[test]
    fn an_int_too_long_for_python_is_no_str() {
        let mut stage = Stage::new(Counter::default());
        let long = BigInt::from(1) << 14_334_u32;
        stage.returns(caller(1), "set", vec![Value::from(long)]);
        assert_eq!(stage.raises(caller(1), "__str__", vec![]).0, "ValueError");
    }
}
