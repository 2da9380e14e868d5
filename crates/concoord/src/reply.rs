//! What callers give and get, on its way to and from a session: the same for both clients.

use bytes::Bytes;
use concoord_core::call::{Outcome, Refusal};
use concoord_core::limits::{ARGUMENT_BYTES_MAX, METHOD_BYTES_MAX};
use concoord_core::object::Interface;
use concoord_core::value::ValueError;
use concoord_core::wire::Status;

use crate::session::Reply;
use crate::{Arguments, Error, Value};

/// The bytes of these arguments, if they and the method's name are within the limits.
pub(crate) fn encode(
    method: &str,
    arguments: &Arguments,
    class: Option<&str>,
) -> Result<Bytes, Error> {
    if method.len() > METHOD_BYTES_MAX {
        let (class, method) = (class.unwrap_or("the").to_owned(), method.to_owned());
        return Err(Error::Refusal(Refusal::NoSuchMethod { class, method }));
    }
    let bytes = arguments.encode().map_err(Error::Encode)?;
    if bytes.len() > ARGUMENT_BYTES_MAX {
        return Err(Error::TooLarge { bytes: bytes.len(), max: ARGUMENT_BYTES_MAX });
    }
    Ok(bytes)
}

pub(crate) fn value(reply: Reply) -> Result<Value, Error> {
    let Reply::Outcome(outcome, _) = reply else { return Err(mixed_up()) };
    match outcome {
        Outcome::Returned(bytes) => Value::decode(&bytes).map_err(Error::Decode),
        Outcome::Raised(bytes) => Err(match Value::decode(&bytes) {
            Ok(Value::Exception(exception)) => Error::Raised(*exception),
            Ok(_) => Error::Decode(ValueError::Malformed("what was raised is no exception".into())),
            Err(error) => Error::Decode(error),
        }),
        Outcome::Refused(refusal) => Err(Error::Refusal(refusal)),
    }
}

pub(crate) fn interface(reply: Reply) -> Result<Interface, Error> {
    if let Reply::Interface(interface) = reply { Ok(interface) } else { Err(mixed_up()) }
}

pub(crate) fn status(reply: Reply) -> Result<Status, Error> {
    if let Reply::Status(status) = reply { Ok(*status) } else { Err(mixed_up()) }
}

/// A session answers each ticket as it was asked, so nobody ever sees this.
fn mixed_up() -> Error {
    Error::Decode(ValueError::Malformed("the answer is to another question".into()))
}
