//! Values and arguments, from anybody.

use concoord_core::call::CallId;
use concoord_core::object::{Context, Moment, Object};
use concoord_core::objects::counter::Counter;
use concoord_core::value::{Arguments, Value};

/// What can be decoded has one encoding, and an object that is called with it does not panic.
pub fn run(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    if kind % 2 == 0 {
        let Ok(value) = Value::decode(bytes) else { return };
        let encoded = value.encode().expect("what was decoded can be encoded");
        let again = Value::decode(&encoded).expect("what was encoded can be decoded");
        // Not compared as values: NaN differs from itself, and sets lose their order.
        assert_eq!(again.encode().expect("as before"), encoded);
    } else {
        let Ok(arguments) = Arguments::decode(bytes) else { return };
        let encoded = arguments.encode().expect("what was decoded can be encoded");
        let again = Arguments::decode(&encoded).expect("what was encoded can be decoded");
        assert_eq!(again.encode().expect("as before"), encoded);
        call(&arguments);
    }
}

fn call(arguments: &Arguments) {
    let mut deeds = Vec::new();
    let mut context = Context::new(Moment::default(), CallId::default(), 0, &mut deeds);
    let mut counter = Counter::default();
    for method in ["__concoordinit__", "increment", "decrement", "getvalue", "__str__"] {
        let before = counter.clone();
        if counter.apply(method, arguments, &mut context).is_err() {
            assert_eq!(counter, before, "a method that raises leaves the object as it was");
        }
    }
    let mut other = Counter::default();
    other.restore(&counter.snapshot()).expect("it is its own");
    assert_eq!(other, counter);
}
