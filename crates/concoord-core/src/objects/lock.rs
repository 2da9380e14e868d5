//! A lock, with the behaviour of Python's `threading.Lock` and a fencing token for each acquire.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::mutex::Mutex;
use super::patience::Patience;
use super::{decode, encode};
use crate::call::{CallId, SessionId};
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.lock.Lock";

/// A lock that nobody holds at first. Whoever waits for it gets it in the order of asking.
///
/// As in Python, any thread of the process may release it that acquired it: any caller of the same
/// session. Unlike there nobody else may, and it is released when that session ends. It takes as much memory as there are calls that wait.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Lock {
    mutex: Mutex,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    class: CLASS.into(),
    doc: "A lock, released when the session of its holder ends.".into(),
    methods: vec![
        Method::new("__concoordinit__", "Release it and send all who wait away."),
        acquire("acquire", "lock"),
        Method::new(
            "release",
            "Hand it to whoever has waited longest. Raise RuntimeError if no thread of this \
             session holds it.",
        ),
        Method::new("locked", "Return whether somebody holds it.").returns("bool").reads(),
        Method::new("__repr__", "Return whether it is locked, as a str.").returns("str").reads(),
        Method::new("__str__", "Return whether it is locked, as a str.").returns("str").reads(),
    ],
});

/// A method that acquires what its `blocking` and `timeout` say how long to wait for.
pub(super) fn acquire(name: &str, what: &str) -> Method {
    let doc = format!(
        "Wait for the {what}. Give up after `timeout` seconds unless that is -1. Return the \
         fencing token, or False without it."
    );
    Method::new(name, &doc)
        .takes("blocking", "bool", Some("True"))
        .takes("timeout", "float", Some("-1"))
        .returns("int")
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
        let given = INTERFACE.given(method, arguments)?;
        match method {
            "acquire" => return Ok(self.mutex.acquire(Patience::of_lock(&given, 0)?, context)),
            "release" => {
                let session = context.caller.session;
                let words = match self.mutex.holder() {
                    None => "release unlocked lock",
                    // What another session holds it writes under: it must learn that it lost it.
                    Some(other) if other.caller.session != session => {
                        "cannot release un-acquired lock"
                    }
                    Some(_) => {
                        self.mutex.give_up(context);
                        return Ok(Reply::Value(Value::None));
                    }
                };
                return Err(Exception::builtin("RuntimeError", words));
            }
            "__concoordinit__" => self.mutex.reset(context),
            _ => return self.read(method, arguments).map(Reply::Value),
        }
        Ok(Reply::Value(Value::None))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        INTERFACE.given(method, arguments)?;
        let locked = self.mutex.holder().is_some();
        Ok(match method {
            "locked" => Value::Bool(locked),
            _ => Value::Str(format!("<DLock {}>", if locked { "locked" } else { "unlocked" })),
        })
    }

    fn cancelled(&mut self, parked: CallId, _: &mut Context<'_>) {
        self.mutex.cancel(parked);
    }

    fn lost(&mut self, session: SessionId, context: &mut Context<'_>) {
        self.mutex.lose(session, context);
    }

    fn guards(&self, token: u64) -> bool {
        self.mutex.guards(token)
    }

    fn describe(&self) -> Vec<(&'static str, Value)> {
        self.mutex.describe()
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
    use crate::call::Caller;

    const FOREVER: [Value; 0] = [];

    #[test]
    fn waiters_get_it_in_the_order_of_asking() {
        let mut stage = Stage::new(Lock::default());
        assert_eq!(stage.returns(caller(1), "acquire", FOREVER.into()), Value::Int(1));
        let second = stage.waits(caller(2), "acquire", vec![]);
        let third = stage.waits(caller(3), "acquire", vec![]);
        let not_held = ("RuntimeError".into(), "cannot release un-acquired lock".into());
        assert_eq!(stage.raises(caller(9), "release", vec![]), not_held);
        let other_thread = Caller { thread: 9, ..caller(1) };
        stage.returns(other_thread, "release", vec![]);
        assert_eq!(stage.end_of(second), Some(&Ok(Value::Int(5))));
        assert_eq!(stage.end_of(third), None);
        assert_eq!((stage.holds(1), stage.holds(2)), (0, 1));
    }

    #[test]
    fn who_waited_for_long_enough_never_gets_it() {
        let mut stage = Stage::new(Lock::default());
        stage.returns(caller(1), "acquire", vec![]);
        let at_once = vec![Value::Bool(true), Value::Int(0)];
        assert_eq!(stage.returns(caller(2), "acquire", at_once), Value::Bool(false));
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
        let token = stage.object.mutex.holder().unwrap().token;
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
