//! What the client's errors mean on a command line.

use concoord::Error;
use concoord_core::value::{Exception, Value};

use super::exit::{Exit, Failure};
use super::json::to_json;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let exit = match &error {
            Error::Bootstrap(_) | Error::Encode(_) | Error::TooLarge { .. } => Exit::Usage,
            Error::Unreachable { .. } => Exit::Unreachable,
            Error::TimedOut { .. } | Error::SessionExpired | Error::Interrupted => Exit::Unknown,
            Error::Raised(exception) => return Self::new(Exit::Raised, describe(exception)),
            Error::Refused(_) | Error::Refusal(_) => Exit::Refused,
            Error::Decode(_) | Error::Closed => Exit::Failed,
        };
        Self::new(exit, error)
    }
}

/// An exception in one line, as Python ends a traceback.
fn describe(exception: &Exception) -> String {
    let name = match exception.module.as_str() {
        "builtins" => exception.name.clone(),
        module => format!("{module}.{}", exception.name),
    };
    match exception.args.as_slice() {
        [] => name,
        [Value::Str(message)] => format!("{name}: {message}"),
        [one] => format!("{name}: {}", to_json(one)),
        more => {
            let args: Vec<String> = more.iter().map(|arg| to_json(arg).to_string()).collect();
            format!("{name}: ({})", args.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_script_can_tell_the_ends_of_a_call_apart() {
        let raised = Failure::from(Error::Raised(Exception::builtin("KeyError", "k")));
        assert_eq!((raised.exit, &*raised.message), (Exit::Raised, "KeyError: k"));
        let timeout = Duration::from_secs(1);
        let unknown = Failure::from(Error::TimedOut { timeout, reason: None });
        assert_eq!(unknown.exit, Exit::Unknown);
        let nobody = Failure::from(Error::Unreachable { attempts: Default::default(), timeout });
        assert_eq!(nobody.exit, Exit::Unreachable);
        let crashed = Failure::from(Error::Refusal(concoord::Refusal::ObjectCrashed));
        assert_eq!(crashed.exit, Exit::Refused);
    }
}
