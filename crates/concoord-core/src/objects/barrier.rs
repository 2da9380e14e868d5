//! A point that a number of callers pass together, with the behaviour of Python's
//! `threading.Barrier`.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::given::Given;
use super::line::Line;
use super::patience::Patience;
use super::semaphore::either;
use super::{decode, encode};
use crate::call::CallId;
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.barrier.Barrier";

/// Where so many callers wait for each other, again and again; one at first.
///
/// As in Python, it breaks when one of them has waited for long enough; so it does when one gives
/// up or its session ends. It stays broken until it is reset. Unlike there, an action is for the
/// caller to take that gets the index 0. It takes as much memory as there are calls that wait.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Barrier {
    parties: u64,
    /// How long each waits at most that does not say so, milliseconds.
    timeout: Option<u64>,
    broken: bool,
    /// Each waits for its index; those are in order.
    line: Line<u64>,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| {
    Interface {
    class: CLASS.into(),
    doc: "Where so many callers wait for each other, again and again.".into(),
    methods: vec![
        Method::new(
            "__concoordinit__",
            "Start anew, for `parties` callers, and break it for all who wait. Their number may \
             also be given as `count`. They wait for `timeout` seconds at most if they don't say \
             otherwise. An `action` is for the caller to take that gets the index 0, so it must \
             be None.",
        )
        .takes("parties", "int", Some("1"))
        .takes("action", "None", Some("None"))
        .takes("timeout", "float | None", Some("None"))
        .takes("count", "int | None", Some("None")),
        Method::new(
            "wait",
            "Wait until all are there. After `timeout` seconds the barrier breaks. Return an index from 0 on, in the order of coming. Raise BrokenBarrierError \
             where it breaks, is broken or is reset.",
        )
        .takes("timeout", "float | None", Some("None"))
        .returns("int"),
        Method::new("reset", "Mend it; raise BrokenBarrierError where one waits."),
        Method::new("abort", "Break it."),
        Method::new("parties", "Return how many callers pass together.").returns("int").reads(),
        Method::new("n_waiting", "Return how many wait.").returns("int").reads(),
        Method::new("broken", "Return whether it is broken.").returns("bool").reads(),
        Method::new("__repr__", "Return its state, as a str.").returns("str").reads(),
        Method::new("__str__", "Return its state, as a str.").returns("str").reads(),
    ],
}
});

impl Default for Barrier {
    fn default() -> Self {
        Self { parties: 1, timeout: None, broken: false, line: Line::default() }
    }
}

impl Barrier {
    fn initialise(
        &mut self,
        given: &Given<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), Exception> {
        if given.value(1).is_some_and(|action| *action != Value::None) {
            let words = "Barrier.__concoordinit__() takes no action: let the caller take it that \
                         gets the index 0";
            return Err(Exception::builtin("TypeError", words));
        }
        let parties = u64::try_from(either(given, 0, 3)?.unwrap_or(1)).unwrap_or(0);
        if parties == 0 {
            return Err(Exception::builtin("ValueError", "parties must be >= 1"));
        }
        let timeout = match Patience::of_wait(given, 2)? {
            Patience::None => Some(0),
            Patience::Ms(ms) => Some(ms),
            Patience::Forever => None,
        };
        self.send_away(context);
        *self = Self { parties, timeout, ..Self::default() };
        Ok(())
    }

    fn wait(&mut self, given: &Given<'_>, context: &mut Context<'_>) -> Result<Reply, Exception> {
        let patience = match (Patience::of_wait(given, 0)?, self.timeout) {
            (Patience::Forever, Some(0)) => Patience::None,
            (Patience::Forever, Some(ms)) => Patience::Ms(ms),
            (patience, _) => patience,
        };
        if self.broken {
            return Err(broken());
        }
        let index = self.line.len() as u64;
        if index + 1 == self.parties {
            for waiter in self.line.take() {
                context.answer(waiter.call, Ok(waiter.wants.into()));
            }
            return Ok(Reply::Value(index.into()));
        }
        if patience == Patience::None {
            // Not as an error, which would say that nothing has changed.
            context.answer(context.call, Err(broken()));
            self.abort(context);
            return Ok(Reply::Parked { until: None });
        }
        Ok(patience.wait(context, || self.line.join(index, context)))
    }

    fn abort(&mut self, context: &mut Context<'_>) {
        self.broken = true;
        self.send_away(context);
    }

    fn send_away(&mut self, context: &mut Context<'_>) {
        for waiter in self.line.take() {
            context.answer(waiter.call, Err(broken()));
        }
    }
}

fn broken() -> Exception {
    let (module, name) = ("threading".into(), "BrokenBarrierError".into());
    Exception { module, name, args: vec![], traceback: String::new() }
}

impl Object for Barrier {
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
            "wait" => return self.wait(&given, context),
            "reset" => {
                self.broken = false;
                self.send_away(context);
            }
            "abort" => self.abort(context),
            "__concoordinit__" => self.initialise(&given, context)?,
            _ => return self.read(method, arguments).map(Reply::Value),
        }
        Ok(Reply::Value(Value::None))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        INTERFACE.given(method, arguments)?;
        let waiting = self.line.len();
        Ok(match method {
            "parties" => self.parties.into(),
            "n_waiting" => waiting.into(),
            "broken" => self.broken.into(),
            _ if self.broken => Value::Str("<DBarrier broken>".into()),
            _ => Value::Str(format!("<DBarrier waiters={waiting}/{}>", self.parties)),
        })
    }

    fn timed_out(&mut self, parked: CallId, context: &mut Context<'_>) -> Result<Value, Exception> {
        self.cancelled(parked, context);
        Err(broken())
    }

    fn cancelled(&mut self, parked: CallId, context: &mut Context<'_>) {
        if self.line.remove(parked).is_some() {
            self.abort(context);
        }
    }

    fn describe(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("parties", self.parties.into()),
            ("waiting", self.line.len().into()),
            ("broken", self.broken.into()),
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

    fn of(parties: i64) -> Stage<Barrier> {
        let mut stage = Stage::new(Barrier::default());
        stage.returns(caller(9), "__concoordinit__", vec![Value::Int(parties)]);
        stage
    }

    fn is_broken(stage: &mut Stage<Barrier>) -> bool {
        stage.returns(caller(9), "broken", vec![]) == Value::Bool(true)
    }

    #[test]
    fn all_pass_together_and_again() {
        let mut stage = of(3);
        for _ in 0..3 {
            let first = stage.waits(caller(1), "wait", vec![]);
            let second = stage.waits(caller(2), "wait", vec![]);
            assert_eq!(stage.returns(caller(9), "n_waiting", vec![]), Value::Int(2));
            assert_eq!(stage.end_of(first), None);
            assert_eq!(stage.returns(caller(3), "wait", vec![]), Value::Int(2));
            assert_eq!(stage.end_of(first), Some(&Ok(Value::Int(0))));
            assert_eq!(stage.end_of(second), Some(&Ok(Value::Int(1))));
        }
        assert_eq!(stage.returns(caller(9), "__str__", vec![]), "<DBarrier waiters=0/3>".into());
    }

    #[test]
    fn one_that_has_waited_for_long_enough_breaks_it_for_all() {
        let mut stage = of(3);
        let first = stage.waits(caller(1), "wait", vec![]);
        let second = stage.waits(caller(2), "wait", vec![Value::Int(1)]);
        stage.pass(1_000);
        let end = Some(&Err(broken()));
        assert_eq!((stage.end_of(first), stage.end_of(second)), (end, end));
        assert_eq!(stage.raises(caller(3), "wait", vec![]).0, "BrokenBarrierError");
        stage.returns(caller(3), "reset", vec![]);
        stage.waits(caller(3), "wait", vec![]);
        assert!(!is_broken(&mut stage));
    }

    #[test]
    fn one_that_gives_up_or_is_lost_breaks_it_for_all() {
        for lose in [true, false] {
            let mut stage = of(3);
            let first = stage.waits(caller(1), "wait", vec![]);
            let second = stage.waits(caller(2), "wait", vec![]);
            if lose {
                stage.lose(2);
            } else {
                stage.cancel(second);
            }
            assert_eq!(stage.end_of(first), Some(&Err(broken())));
            assert!(is_broken(&mut stage));
        }
    }

    #[test]
    fn a_wait_of_no_time_breaks_it_unless_all_are_there() {
        let mut stage = of(2);
        let first = stage.waits(caller(1), "wait", vec![]);
        assert_eq!(stage.returns(caller(2), "wait", vec![Value::Int(0)]), Value::Int(1));
        assert!(stage.end_of(first).is_some());
        let call = stage.waits(caller(1), "wait", vec![Value::Int(0)]);
        assert_eq!(stage.end_of(call), Some(&Err(broken())));
        assert!(is_broken(&mut stage));
    }

    #[test]
    fn a_reset_sends_those_away_who_wait_and_leaves_it_whole() {
        let mut stage = of(2);
        let call = stage.waits(caller(1), "wait", vec![]);
        stage.returns(caller(2), "reset", vec![]);
        assert_eq!(stage.end_of(call), Some(&Err(broken())));
        assert!(!is_broken(&mut stage));
        stage.returns(caller(2), "abort", vec![]);
        assert!(is_broken(&mut stage));
    }

    #[test]
    fn its_own_timeout_holds_where_none_is_given() {
        let mut stage = Stage::new(Barrier::default());
        let given = vec![Value::None, Value::None, Value::Float(0.5), Value::Int(2)];
        stage.returns(caller(9), "__concoordinit__", given);
        assert_eq!(stage.returns(caller(9), "parties", vec![]), Value::Int(2));
        let call = stage.waits(caller(1), "wait", vec![]);
        stage.pass(500);
        assert_eq!(stage.end_of(call), Some(&Err(broken())));
        let raised = stage.raises(caller(9), "__concoordinit__", vec![Value::Int(0)]);
        assert_eq!(raised, ("ValueError".into(), "parties must be >= 1".into()));
        let raised = stage.raises(caller(9), "__concoordinit__", vec![1u64.into(), true.into()]);
        assert_eq!(raised.0, "TypeError");
    }
}
