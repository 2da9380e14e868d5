//! A lock that its holder may acquire again, with the behaviour of Python's `threading.RLock`.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::lock::acquire;
use super::mutex::Mutex;
use super::patience::Patience;
use super::{decode, encode};
use crate::call::{CallId, SessionId};
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.rlock.RLock";

/// A lock that its holder, a thread or a task of a session, may acquire again, and must release as
/// often. Whoever waits for it gets it in the order of asking.
///
/// Unlike in Python, it is released when the session of its holder ends. It takes as much memory
/// as there are calls that wait.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RLock {
    mutex: Mutex,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    class: CLASS.into(),
    doc: "A lock that its holder may acquire again, released when the session of its holder ends."
        .into(),
    methods: vec![
        Method::new("__concoordinit__", "Release it and send all who wait away."),
        acquire("acquire", "lock that the caller may hold already"),
        Method::new(
            "release",
            "Give it back once; at last it goes to whoever has waited longest. Raise RuntimeError \
             if the caller does not hold it.",
        ),
        Method::new("locked", "Return whether somebody holds it.").returns("bool").reads(),
        Method::new("__repr__", "Return how often it is held, as a str.").returns("str").reads(),
        Method::new("__str__", "Return how often it is held, as a str.").returns("str").reads(),
    ],
});

impl Object for RLock {
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
            "acquire" => {
                return Ok(self.mutex.acquire_again(Patience::of_lock(&given, 0)?, context));
            }
            "release" => self.mutex.release(context)?,
            "__concoordinit__" => self.mutex.reset(context),
            _ => return self.read(method, arguments).map(Reply::Value),
        }
        Ok(Reply::Value(Value::None))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        INTERFACE.given(method, arguments)?;
        let levels = self.mutex.holder().map_or(0, |holder| holder.levels);
        let state = if levels == 0 { "unlocked" } else { "locked" };
        Ok(match method {
            "locked" => Value::Bool(levels > 0),
            _ => Value::Str(format!("<DRLock {state} count={levels}>")),
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
    use super::super::stage::{Stage, caller, thread};
    use super::*;

    #[test]
    fn its_holder_acquires_it_again_and_releases_it_as_often() {
        let mut stage = Stage::new(RLock::default());
        let token = stage.returns(caller(1), "acquire", vec![]);
        assert_eq!(stage.returns(caller(1), "acquire", vec![]), token);
        let other = stage.waits(caller(2), "acquire", vec![]);
        assert_eq!(stage.returns(caller(3), "__repr__", vec![]), "<DRLock locked count=2>".into());
        stage.returns(caller(1), "release", vec![]);
        assert_eq!(stage.end_of(other), None);
        stage.returns(caller(1), "release", vec![]);
        assert!(matches!(stage.end_of(other), Some(Ok(Value::Int(2..)))));
        assert_eq!((stage.holds(1), stage.holds(2)), (0, 1));
    }

    #[test]
    fn threads_of_a_session_are_callers_of_their_own() {
        let mut stage = Stage::new(RLock::default());
        stage.returns(thread(1, 7), "acquire", vec![]);
        let words = ("RuntimeError".into(), "cannot release un-acquired lock".into());
        assert_eq!(stage.raises(thread(1, 8), "release", vec![]), words);
        let at_once = vec![Value::Bool(false)];
        assert_eq!(stage.returns(thread(1, 8), "acquire", at_once), Value::Bool(false));
        let other = stage.waits(thread(1, 8), "acquire", vec![]);
        stage.returns(thread(1, 7), "release", vec![]);
        assert!(stage.end_of(other).is_some());
        assert_eq!(stage.raises(thread(1, 7), "release", vec![]), words);
    }

    #[test]
    fn the_end_of_a_session_releases_all_levels() {
        let mut stage = Stage::new(RLock::default());
        stage.returns(caller(1), "acquire", vec![]);
        let Value::Int(token) = stage.returns(caller(1), "acquire", vec![]) else { panic!() };
        let other = stage.waits(caller(2), "acquire", vec![]);
        stage.lose(1);
        assert!(stage.end_of(other).is_some());
        assert!(!stage.object.guards(token as u64));
        stage.returns(caller(2), "release", vec![]);
        assert_eq!(stage.returns(caller(3), "locked", vec![]), Value::Bool(false));
    }
}
