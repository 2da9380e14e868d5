//! Values and arguments, from anybody.

use concoord_core::call::CallId;
use concoord_core::object::{Context, Moment};
use concoord_core::objects::{STOCK, stock};
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

/// Calls every method of every class, of a new object and of one that waits or holds something.
fn call(arguments: &Arguments) {
    for class in STOCK {
        let mut object = stock(class).expect("it is ours");
        let (interface, mut deeds) = (object.interface(), Vec::new());
        let methods = interface.methods.iter().chain(&interface.methods);
        for (step, method) in std::iter::zip(1.., methods) {
            let moment = Moment { index: step, step, ..Moment::default() };
            let call = CallId { sequence: step, ..CallId::default() };
            let mut context = Context::new(moment, call, 0, &mut deeds);
            let before = object.snapshot();
            if object.apply(&method.name, arguments, &mut context).is_err() {
                assert_eq!(object.snapshot(), before, "a method that raises changes nothing");
            }
        }
        let mut other = stock(class).expect("as before");
        other.restore(&object.snapshot()).expect("it is its own");
        assert_eq!(other.snapshot(), object.snapshot());
    }
}
