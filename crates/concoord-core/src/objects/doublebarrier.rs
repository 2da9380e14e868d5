//! What a number of callers enter together and leave together, as ZooKeeper's recipe has it.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::given::Given;
use super::line::{Grants, Line};
use super::patience::Patience;
use super::semaphore::either;
use super::{decode, encode};
use crate::call::{CallId, SessionId};
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.doublebarrier.DoubleBarrier";

/// What so many callers, one at first, enter together and leave together, again and again.
///
/// It is open once so many wait to enter. Who comes while it is open enters at once, and so a
/// caller may take the place of one that is lost; who comes while others leave waits until all
/// have left, for the next round. A caller, a thread or a task of a session, leaves with its
/// session at the latest. It takes as much memory as there are callers within and calls that wait.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DoubleBarrier {
    parties: u64,
    /// Who is within.
    within: Grants,
    entering: Line<()>,
    /// Those who have left and wait for the others to. While there are any, the doors are shut.
    leaving: Line<()>,
    /// Whether one has left since it was opened.
    ends: bool,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    class: CLASS.into(),
    doc: "What so many callers enter together and leave together, again and again.".into(),
    methods: vec![
        Method::new(
            "__concoordinit__",
            "Start anew, for `parties` callers, which may also be given as `count`; send all who \
             wait away.",
        )
        .takes("parties", "int", Some("1"))
        .takes("count", "int | None", Some("None")),
        Method::new(
            "enter",
            "Wait to enter together, but for `timeout` seconds at most. Return whether the caller \
             is within. Raise RuntimeError where it is already.",
        )
        .takes("timeout", "float | None", Some("None"))
        .returns("bool"),
        Method::new(
            "leave",
            "Leave, and wait until all have left, but for `timeout` seconds at most. Return \
             whether they have. Raise RuntimeError where the caller is not within.",
        )
        .takes("timeout", "float | None", Some("None"))
        .returns("bool"),
        Method::new("parties", "Return how many callers enter together.").returns("int").reads(),
        Method::new("n_within", "Return how many callers are within.").returns("int").reads(),
        Method::new("n_waiting", "Return how many callers wait to enter.").returns("int").reads(),
        Method::new("__repr__", "Return its state, as a str.").returns("str").reads(),
        Method::new("__str__", "Return its state, as a str.").returns("str").reads(),
    ],
});

impl Default for DoubleBarrier {
    fn default() -> Self {
        Self {
            parties: 1,
            within: Grants::default(),
            entering: Line::default(),
            leaving: Line::default(),
            ends: false,
        }
    }
}

impl DoubleBarrier {
    fn initialise(
        &mut self,
        given: &Given<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), Exception> {
        let parties = u64::try_from(either(given, 0, 1)?.unwrap_or(1)).unwrap_or(0);
        if parties == 0 {
            return Err(Exception::builtin("ValueError", "parties must be >= 1"));
        }
        self.within.take_all(context);
        for waiter in self.entering.take().chain(self.leaving.take()) {
            context.answer(waiter.call, Ok(false.into()));
        }
        *self = Self { parties, ..Self::default() };
        Ok(())
    }

    fn enter(&mut self, patience: Patience, context: &mut Context<'_>) -> Result<Reply, Exception> {
        if self.within.of_caller(context.caller).is_some() {
            return Err(Exception::builtin("RuntimeError", "cannot enter it twice: leave first"));
        }
        let is_open = !self.within.is_empty();
        let is_last = self.entering.len() as u64 + 1 >= self.parties;
        if !self.ends && (is_open || is_last) {
            self.open(context);
            self.within.give(context.caller, context);
            return Ok(Reply::Value(true.into()));
        }
        Ok(patience.wait(context, || self.entering.join((), context)))
    }

    /// Lets all enter who wait to.
    fn open(&mut self, context: &mut Context<'_>) {
        for waiter in self.entering.take() {
            self.within.give(waiter.caller(), context);
            context.answer(waiter.call, Ok(true.into()));
        }
    }

    fn leave(&mut self, patience: Patience, context: &mut Context<'_>) -> Result<Reply, Exception> {
        let Some(token) = self.within.of_caller(context.caller) else {
            return Err(Exception::builtin("RuntimeError", "cannot leave what was not entered"));
        };
        self.within.take(token, context);
        self.ends = true;
        if self.within.is_empty() {
            self.end(context);
            return Ok(Reply::Value(true.into()));
        }
        Ok(patience.wait(context, || self.leaving.join((), context)))
    }

    /// All have left: the next round begins.
    fn end(&mut self, context: &mut Context<'_>) {
        self.ends = false;
        for waiter in self.leaving.take() {
            context.answer(waiter.call, Ok(true.into()));
        }
        if self.entering.len() as u64 >= self.parties {
            self.open(context);
        }
    }
}

impl Object for DoubleBarrier {
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
            "enter" => return self.enter(Patience::of_wait(&given, 0)?, context),
            "leave" => return self.leave(Patience::of_wait(&given, 0)?, context),
            "__concoordinit__" => self.initialise(&given, context)?,
            _ => return self.read(method, arguments).map(Reply::Value),
        }
        Ok(Reply::Value(Value::None))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        INTERFACE.given(method, arguments)?;
        let (within, waiting) = (self.within.len(), self.entering.len());
        Ok(match method {
            "parties" => self.parties.into(),
            "n_within" => within.into(),
            "n_waiting" => waiting.into(),
            _ => Value::Str(format!(
                "<DDoubleBarrier within={within} waiters={waiting}/{}>",
                self.parties
            )),
        })
    }

    fn cancelled(&mut self, parked: CallId, _: &mut Context<'_>) {
        if self.entering.remove(parked).is_none() {
            self.leaving.remove(parked);
        }
    }

    fn lost(&mut self, session: SessionId, context: &mut Context<'_>) {
        if self.within.lose(session) > 0 && self.within.is_empty() {
            self.end(context);
        }
    }

    fn describe(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("parties", self.parties.into()),
            ("within", self.within.len().into()),
            ("waiting to enter", self.entering.len().into()),
            ("waiting for others to leave", self.leaving.len().into()),
        ]
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

    const YES: Option<&Result<Value, Exception>> = Some(&Ok(Value::Bool(true)));
    const NO: Option<&Result<Value, Exception>> = Some(&Ok(Value::Bool(false)));

    /// With two callers within.
    fn open() -> Stage<DoubleBarrier> {
        let mut stage = Stage::new(DoubleBarrier::default());
        stage.returns(caller(9), "__concoordinit__", vec![Value::Int(2)]);
        let first = stage.waits(caller(1), "enter", vec![]);
        assert_eq!(stage.returns(caller(2), "enter", vec![]), Value::Bool(true));
        assert_eq!((stage.end_of(first), stage.holds(1)), (YES, 1));
        stage
    }

    #[test]
    fn all_enter_together_and_leave_together_and_again() {
        let mut stage = open();
        let first = stage.waits(caller(1), "leave", vec![]);
        let next = stage.waits(caller(3), "enter", vec![]);
        let after = stage.waits(caller(1), "enter", vec![]);
        assert_eq!(stage.end_of(first), None);
        assert_eq!(stage.returns(caller(2), "leave", vec![]), Value::Bool(true));
        assert_eq!(stage.end_of(first), YES);
        assert_eq!((stage.end_of(next), stage.end_of(after)), (YES, YES));
        assert_eq!((stage.holds(1), stage.holds(2), stage.holds(3)), (1, 0, 1));
    }

    #[test]
    fn a_caller_takes_the_place_of_one_that_is_lost() {
        let mut stage = open();
        stage.lose(1);
        assert_eq!(stage.returns(caller(3), "enter", vec![]), Value::Bool(true));
        let leaver = stage.waits(caller(2), "leave", vec![]);
        stage.lose(3);
        assert_eq!(stage.end_of(leaver), YES);
        // Nobody is within: the next round needs two again.
        stage.waits(caller(4), "enter", vec![]);
    }

    #[test]
    fn who_has_waited_for_long_enough_does_not_enter_and_has_left() {
        let mut stage = open();
        let call = stage.waits(caller(1), "leave", vec![Value::Int(1)]);
        stage.pass(1_000);
        assert_eq!((stage.end_of(call), stage.holds(1)), (NO, 0));
        // One has left: it is for the next round.
        let call = stage.waits(caller(3), "enter", vec![Value::Int(1)]);
        stage.pass(1_000);
        assert_eq!(stage.end_of(call), NO);
        stage.returns(caller(2), "leave", vec![]);
        let given = vec![Value::Int(0)];
        assert_eq!(stage.returns(caller(3), "enter", given), Value::Bool(false));
        assert_eq!(stage.returns(caller(9), "n_within", vec![]), Value::Int(0));
    }

    #[test]
    fn who_is_within_does_not_enter_and_who_is_not_does_not_leave() {
        let mut stage = open();
        assert_eq!(stage.raises(caller(1), "enter", vec![]).0, "RuntimeError");
        assert_eq!(stage.raises(caller(3), "leave", vec![]).0, "RuntimeError");
        let leaver = stage.waits(caller(1), "leave", vec![]);
        assert_eq!(
            stage.raises(caller(9), "__concoordinit__", vec![Value::Int(0)]).0,
            "ValueError"
        );
        stage.returns(caller(9), "__concoordinit__", vec![Value::Int(3)]);
        assert_eq!((stage.end_of(leaver), stage.holds(2)), (NO, 0));
    }
}
