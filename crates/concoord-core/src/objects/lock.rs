//! A lock, with the behaviour of Python's `threading.Lock` and a fencing token for each acquire.

use std::collections::VecDeque;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::given::Seconds;
use super::{decode, encode};
use crate::call::{CallId, Caller, SessionId};
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.lock.Lock";

/// A lock that nobody holds at first. Whoever waits for it gets it in the order of asking.
///
/// As in Python, any caller may release it; unlike there, it is released when the session ends
/// that acquired it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lock {
    holder: Option<Holder>,
    waiting: VecDeque<(CallId, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Holder {
    caller: Caller,
    token: u64,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    class: CLASS.into(),
    doc: "A lock, released when the session of its holder ends.".into(),
    methods: vec![
        Method::new("__concoordinit__", "Release it and send all who wait away."),
        Method::new(
            "acquire",
            "Wait for the lock, but for `timeout` seconds at most unless it is -1. Return the \
             fencing token, or False without the lock.",
        )
        .takes("blocking", "bool", Some("True"))
        .takes("timeout", "float", Some("-1"))
        .returns("int"),
        Method::new("release", "Hand it to whoever has waited longest."),
        Method::new("locked", "Return whether somebody holds it.").returns("bool").reads(),
        Method::new("__repr__", "Return whether it is locked, as a str.").returns("str").reads(),
        Method::new("__str__", "Return whether it is locked, as a str.").returns("str").reads(),
    ],
});

impl Lock {
    fn acquire(
        &mut self,
        arguments: &Arguments,
        context: &mut Context<'_>,
    ) -> Result<Reply, Exception> {
        let given = INTERFACE.given("acquire", arguments)?;
        let patience = patience(given.truth(0, true), given.seconds(1)?)?;
        if self.holder.is_none() {
            let token = self.grant(context.caller, context);
            return Ok(Reply::Value(token));
        }
        let Some(ms) = patience else { return Ok(Reply::Value(Value::Bool(false))) };
        self.waiting.push_back((context.call, context.caller.thread));
        Ok(Reply::Parked { until: ms.map(|ms| context.after(ms)) })
    }

    fn grant(&mut self, caller: Caller, context: &mut Context<'_>) -> Value {
        let token = context.moment.step;
        self.holder = Some(Holder { caller, token });
        context.hold(caller.session);
        Value::Int(i64::try_from(token).expect("there are fewer steps than that"))
    }

    /// Gives the free lock to who has waited longest.
    fn pass_on(&mut self, context: &mut Context<'_>) {
        if let Some((call, thread)) = self.waiting.pop_front() {
            let token = self.grant(Caller { session: call.session, thread }, context);
            context.answer(call, Ok(token));
        }
    }
}

impl Object for Lock {
    fn interface(&self) -> &'static Interface {
        &INTERFACE
    }

    fn apply(
        &mut self,
        method: &str,
        arguments: &Arguments,
        context: &mut Context<'_>,
    ) -> Result<Reply, Exception> {
        match method {
            "acquire" => return self.acquire(arguments, context),
            "release" => {
                INTERFACE.given(method, arguments)?;
                let Some(holder) = self.holder.take() else {
                    return Err(Exception::builtin("RuntimeError", "release unlocked lock"));
                };
                context.free(holder.caller.session);
                self.pass_on(context);
            }
            "__concoordinit__" => {
                INTERFACE.given(method, arguments)?;
                if let Some(holder) = self.holder.take() {
                    context.free(holder.caller.session);
                }
                for (call, _) in self.waiting.drain(..) {
                    context.answer(call, Ok(Value::Bool(false)));
                }
            }
            _ => return self.read(method, arguments).map(Reply::Value),
        }
        Ok(Reply::Value(Value::None))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        INTERFACE.given(method, arguments)?;
        let locked = self.holder.is_some();
        Ok(match method {
            "locked" => Value::Bool(locked),
            _ => Value::Str(format!("<DLock {}>", if locked { "locked" } else { "unlocked" })),
        })
    }

    fn cancelled(&mut self, parked: CallId, _: &mut Context<'_>) {
        self.waiting.retain(|(call, _)| *call != parked);
    }

    fn lost(&mut self, session: SessionId, context: &mut Context<'_>) {
        if self.holder.is_some_and(|holder| holder.caller.session == session) {
            self.holder = None;
            self.pass_on(context);
        }
    }

    fn guards(&self, token: u64) -> bool {
        self.holder.is_some_and(|holder| holder.token == token)
    }

    fn describe(&self) -> Vec<(&'static str, Value)> {
        let mut said = vec![("waiting", Value::from(self.waiting.len()))];
        if let Some(Holder { caller, token }) = self.holder {
            said.push(("session", Value::from(caller.session.0)));
            said.push(("token", Value::from(token)));
        }
        said
    }

    fn snapshot(&self) -> Vec<u8> {
        encode(self)
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        *self = decode(snapshot)?;
        Ok(())
    }
}

/// How long a caller would wait, as Python's `acquire` has it: not at all, so many milliseconds,
/// or for ever.
///
/// # Errors
/// The `ValueError` that Python raises where the two arguments don't go together.
pub(super) fn patience(
    blocking: bool,
    timeout: Option<Seconds>,
) -> Result<Option<Option<u64>>, Exception> {
    let error = |words: &str| Err(Exception::builtin("ValueError", words));
    match (blocking, timeout) {
        (true, None | Some(Seconds::MinusOne | Seconds::Forever)) => Ok(Some(None)),
        (true, Some(Seconds::Ms(ms))) => Ok(Some(Some(ms))),
        (_, Some(Seconds::Negative)) => error("timeout value must be positive"),
        (false, None | Some(Seconds::MinusOne)) => Ok(None),
        (false, Some(_)) => error("can't specify a timeout for a non-blocking call"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, caller};
    use super::*;

    const FOREVER: [Value; 0] = [];

    #[test]
    fn waiters_get_it_in_the_order_of_asking() {
        let mut stage = Stage::new(Lock::default());
        assert_eq!(stage.returns(caller(1), "acquire", FOREVER.into()), Value::Int(1));
        let second = stage.waits(caller(2), "acquire", vec![]);
        let third = stage.waits(caller(3), "acquire", vec![]);
        stage.returns(caller(9), "release", vec![]);
        assert_eq!(stage.end_of(second), Some(&Ok(Value::Int(4))));
        assert_eq!(stage.end_of(third), None);
        assert_eq!((stage.holds(1), stage.holds(2)), (0, 1));
    }

    #[test]
    fn who_waited_for_long_enough_never_gets_it() {
        let mut stage = Stage::new(Lock::default());
        stage.returns(caller(1), "acquire", vec![]);
        let patient = vec![Value::Bool(true), Value::Float(0.5)];
        let call = stage.waits(caller(2), "acquire", patient);
        stage.pass(499);
        assert_eq!(stage.end_of(call), None);
        stage.pass(1);
        assert_eq!(stage.end_of(call), Some(&Ok(Value::Bool(false))));
        stage.returns(caller(1), "release", vec![]);
        assert_eq!(stage.returns(caller(1), "locked", vec![]), Value::Bool(false));
    }

    #[test]
    fn the_end_of_a_session_releases_and_sends_its_waiters_away() {
        let mut stage = Stage::new(Lock::default());
        stage.returns(caller(1), "acquire", vec![]);
        stage.waits(caller(2), "acquire", vec![]);
        let third = stage.waits(caller(3), "acquire", vec![]);
        stage.lose(2);
        stage.lose(1);
        assert!(matches!(stage.end_of(third), Some(Ok(Value::Int(_)))));
        let token = stage.object.holder.unwrap().token;
        assert!(token > 1 && stage.object.guards(token) && !stage.object.guards(1));
    }

    #[test]
    fn errors_are_pythons() {
        let mut stage = Stage::new(Lock::default());
        let runtime = ("RuntimeError".into(), "release unlocked lock".into());
        assert_eq!(stage.raises(caller(1), "release", vec![]), runtime);
        let both = vec![Value::Bool(false), Value::Int(5)];
        let value = ("ValueError".into(), "can't specify a timeout for a non-blocking call".into());
        assert_eq!(stage.raises(caller(1), "acquire", both), value);
    }
}
