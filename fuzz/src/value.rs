//! Values and arguments, from anybody.

use concoord_core::call::{CallId, SessionId};
use concoord_core::object::{Context, Moment};
use concoord_core::objects;
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

/// Every method of every class, each with the object as the calls before have left it.
fn call(arguments: &Arguments) {
    for class in objects::STOCK {
        let mut object = objects::stock(class).expect("it is one of ours");
        for (step, method) in (1..).zip(&object.interface().methods) {
            let id = CallId { session: SessionId(1), sequence: step };
            let moment = Moment { index: step, step, time_ms: step, clock_ms: step };
            let mut deeds = Vec::new();
            let mut context = Context::new(moment, id, 0, &mut deeds);
            let before = object.snapshot();
            if object.apply(&method.name, arguments, &mut context).is_err() {
                let after = object.snapshot();
                assert_eq!(after, before, "a method that raises leaves the object as it was");
                assert!(deeds.is_empty(), "and leads to nothing");
            }
        }
        let mut other = objects::stock(class).expect("as before");
        other.restore(&object.snapshot()).expect("it is its own");
        assert_eq!(other.snapshot(), object.snapshot());
    }
}
