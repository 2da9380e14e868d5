//! A lock that many hold to read, or one to write.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::line::{Grants, Line};
use super::lock::acquire;
use super::patience::Patience;
use super::{decode, encode};
use crate::call::{CallId, Caller, SessionId};
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.readwritelock.ReadWriteLock";

/// A lock that many callers hold to read, or one to write.
///
/// It goes to those who wait in the order of asking, readers that stand together together: no
/// writer starves, and no reader. Who holds it, a thread or a task of a session, may acquire it
/// again in the same way, and must release it as often; who holds it to write may read, and who
/// holds it to read can't come to write. It is released when the session of a holder ends. It
/// takes as much memory as there are holders and calls that wait.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ReadWriteLock {
    /// One at most, and then nobody else reads.
    writer: Grants,
    readers: Grants,
    line: Line<Way>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Way {
    Read,
    Write,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    class: CLASS.into(),
    doc: "A lock that many hold to read, or one to write; fair to both.".into(),
    methods: vec![
        Method::new("__concoordinit__", "Release it and send all who wait away."),
        acquire("acquire_read", "lock to read"),
        acquire("acquire_write", "lock to write"),
        Method::new(
            "release_read",
            "Give it back once. Raise RuntimeError if the caller does not hold it to read.",
        ),
        Method::new(
            "release_write",
            "Give it back once. Raise RuntimeError if the caller does not hold it to write.",
        ),
        Method::new(
            "downgrade",
            "Hold it to read, once, instead of to write, without a gap between the two; return \
             the new fencing token. Raise RuntimeError if the caller does not hold it to write.",
        )
        .returns("int"),
        Method::new("readers", "Return how many hold it to read.").returns("int").reads(),
        Method::new("locked", "Return whether somebody holds it to write.").returns("bool").reads(),
        Method::new("__repr__", "Return who holds it how, as a str.").returns("str").reads(),
        Method::new("__str__", "Return who holds it how, as a str.").returns("str").reads(),
    ],
});

impl ReadWriteLock {
    fn acquire(
        &mut self,
        way: Way,
        patience: Patience,
        context: &mut Context<'_>,
    ) -> Result<Reply, Exception> {
        let caller = context.caller;
        if let Some(token) = self.held(way).again(caller) {
            return Ok(Reply::Value(token.into()));
        }
        let writes = self.writer.of_caller(caller).is_some();
        if way == Way::Write && self.readers.of_caller(caller).is_some() {
            let words = "cannot acquire to write a lock that is held to read: release it first";
            return Err(Exception::builtin("RuntimeError", words));
        }
        if writes || (self.line.is_empty() && self.is_open_to(way)) {
            return Ok(Reply::Value(self.held(way).give(caller, context).into()));
        }
        Ok(patience.wait(context, || self.line.join(way, context)))
    }

    const fn held(&mut self, way: Way) -> &mut Grants {
        match way {
            Way::Read => &mut self.readers,
            Way::Write => &mut self.writer,
        }
    }

    /// Whether one who holds nothing may have it so.
    fn is_open_to(&self, way: Way) -> bool {
        self.writer.is_empty() && (way == Way::Read || self.readers.is_empty())
    }

    fn release(&mut self, way: Way, context: &mut Context<'_>) -> Result<(), Exception> {
        let token = self.token(way, context.caller)?;
        self.held(way).release(token, context);
        self.pass_on(context);
        Ok(())
    }

    fn downgrade(&mut self, context: &mut Context<'_>) -> Result<u64, Exception> {
        let caller = context.caller;
        let written = self.token(Way::Write, caller)?;
        let read = self.readers.again(caller);
        let token = read.unwrap_or_else(|| self.readers.give(caller, context));
        self.writer.take(written, context);
        self.pass_on(context);
        Ok(token)
    }

    fn token(&mut self, way: Way, caller: Caller) -> Result<u64, Exception> {
        let error = || Exception::builtin("RuntimeError", "cannot release un-acquired lock");
        self.held(way).of_caller(caller).ok_or_else(error)
    }

    /// Gives it to those who have waited longest, as many as may have it at once.
    fn pass_on(&mut self, context: &mut Context<'_>) {
        while let Some(way) = self.line.first().map(|waiter| waiter.wants)
            && self.is_open_to(way)
            && let Some(waiter) = self.line.pop()
        {
            let token = self.held(way).give(waiter.caller(), context);
            context.answer(waiter.call, Ok(token.into()));
        }
    }

    fn reset(&mut self, context: &mut Context<'_>) {
        self.writer.take_all(context);
        self.readers.take_all(context);
        for waiter in self.line.take() {
            context.answer(waiter.call, Ok(Value::Bool(false)));
        }
    }
}

impl Object for ReadWriteLock {
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
            "acquire_read" => {
                return self.acquire(Way::Read, Patience::of_lock(&given, 0)?, context);
            }
            "acquire_write" => {
                return self.acquire(Way::Write, Patience::of_lock(&given, 0)?, context);
            }
            "release_read" => self.release(Way::Read, context)?,
            "release_write" => self.release(Way::Write, context)?,
            "downgrade" => return Ok(Reply::Value(self.downgrade(context)?.into())),
            "__concoordinit__" => self.reset(context),
            _ => return self.read(method, arguments).map(Reply::Value),
        }
        Ok(Reply::Value(Value::None))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        INTERFACE.given(method, arguments)?;
        let (readers, locked) = (self.readers.len(), !self.writer.is_empty());
        Ok(match method {
            "readers" => readers.into(),
            "locked" => locked.into(),
            _ => Value::Str(format!(
                "<DReadWriteLock {} readers={readers}>",
                if locked { "locked" } else { "unlocked" }
            )),
        })
    }

    fn cancelled(&mut self, parked: CallId, context: &mut Context<'_>) {
        self.line.remove(parked);
        // Readers may have stood behind a writer.
        self.pass_on(context);
    }

    fn lost(&mut self, session: SessionId, context: &mut Context<'_>) {
        self.writer.lose(session);
        self.readers.lose(session);
        self.pass_on(context);
    }

    fn guards(&self, token: u64) -> bool {
        self.writer.contains(token) || self.readers.contains(token)
    }

    fn describe(&self) -> Vec<(&'static str, Value)> {
        let mut said =
            vec![("readers", self.readers.len().into()), ("waiting", self.line.len().into())];
        if let Some(token) = self.writer.oldest() {
            said.push(("writer's token", token.into()));
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

#[cfg(test)]
mod tests {
    use super::super::stage::{Stage, caller};
    use super::*;

    fn ended(stage: &Stage<ReadWriteLock>, calls: &[CallId]) -> Vec<bool> {
        calls.iter().map(|call| stage.end_of(*call).is_some()).collect()
    }

    #[test]
    fn many_read_or_one_writes_in_the_order_of_asking() {
        let mut stage = Stage::new(ReadWriteLock::default());
        stage.returns(caller(1), "acquire_read", vec![]);
        stage.returns(caller(2), "acquire_read", vec![]);
        let calls = [(3, "acquire_write"), (4, "acquire_read"), (5, "acquire_read")]
            .map(|(session, method)| stage.waits(caller(session), method, vec![]));
        stage.returns(caller(1), "release_read", vec![]);
        assert_eq!(ended(&stage, &calls), [false; 3]);
        stage.returns(caller(2), "release_read", vec![]);
        assert_eq!(ended(&stage, &calls), [true, false, false]);
        stage.returns(caller(3), "release_write", vec![]);
        assert_eq!(ended(&stage, &calls), [true; 3]);
        assert_eq!(stage.returns(caller(9), "readers", vec![]), Value::Int(2));
    }

    #[test]
    fn readers_go_on_when_the_writer_before_them_gives_up() {
        let mut stage = Stage::new(ReadWriteLock::default());
        stage.returns(caller(1), "acquire_read", vec![]);
        stage.waits(caller(2), "acquire_write", vec![true.into(), Value::Int(1)]);
        let reader = stage.waits(caller(3), "acquire_read", vec![]);
        // Who reads already is not stopped by the writer: it would wait for itself.
        stage.returns(caller(1), "acquire_read", vec![]);
        stage.pass(1_000);
        assert_eq!(ended(&stage, &[reader]), [true]);
        assert_eq!((stage.holds(1), stage.holds(3)), (1, 1));
    }

    #[test]
    fn a_writer_comes_to_read_without_a_gap() {
        let mut stage = Stage::new(ReadWriteLock::default());
        let written = stage.returns(caller(1), "acquire_write", vec![]);
        let calls = [(2, "acquire_read"), (3, "acquire_write")]
            .map(|(session, method)| stage.waits(caller(session), method, vec![]));
        let Value::Int(read) = stage.returns(caller(1), "downgrade", vec![]) else { panic!() };
        assert_eq!(ended(&stage, &calls), [true, false]);
        let Value::Int(written) = written else { panic!() };
        assert!(stage.object.guards(read as u64) && !stage.object.guards(written as u64));
        stage.returns(caller(1), "release_read", vec![]);
        stage.lose(2);
        assert_eq!(ended(&stage, &calls), [true, true]);
    }

    #[test]
    fn a_writer_may_read_and_goes_on_reading_past_its_writing() {
        let mut stage = Stage::new(ReadWriteLock::default());
        stage.returns(caller(1), "acquire_write", vec![]);
        stage.returns(caller(1), "acquire_write", vec![]);
        stage.returns(caller(1), "acquire_read", vec![]);
        let reader = stage.waits(caller(2), "acquire_read", vec![]);
        stage.returns(caller(1), "release_write", vec![]);
        assert_eq!(ended(&stage, &[reader]), [false]);
        stage.returns(caller(1), "release_write", vec![]);
        assert_eq!(ended(&stage, &[reader]), [true]);
        let at_once = vec![Value::Bool(false)];
        assert_eq!(stage.returns(caller(3), "acquire_write", at_once), Value::Bool(false));
    }

    #[test]
    fn errors_say_what_to_do() {
        let mut stage = Stage::new(ReadWriteLock::default());
        let words = ("RuntimeError".into(), "cannot release un-acquired lock".into());
        for method in ["release_read", "release_write", "downgrade"] {
            assert_eq!(stage.raises(caller(1), method, vec![]), words);
        }
        stage.returns(caller(1), "acquire_read", vec![]);
        let (name, words) = stage.raises(caller(1), "acquire_write", vec![]);
        assert!(name == "RuntimeError" && words.ends_with("release it first"));
    }
}
