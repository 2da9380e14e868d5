//! Permits that callers take and give back, with the behaviour of Python's `threading.Semaphore`
//! and `threading.BoundedSemaphore`.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::given::Given;
use super::line::{Grants, Line};
use super::patience::Patience;
use super::{decode, encode};
use crate::call::{CallId, Caller, SessionId};
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.semaphore.Semaphore";

/// The name of the class of those that refuse to be released too often.
pub const BOUNDED: &str = "concoord.object.boundedsemaphore.BoundedSemaphore";

/// So many permits, one at first. Whoever waits for one gets it in the order of asking; each that
/// is held has a fencing token.
///
/// As in Python, any caller may release; unlike there, the permits of a session come back when it
/// ends. A release gives back the last permit of its caller, or else one of its session, or else
/// the one that has been held for longest, or else a new one: so a semaphore by which one client
/// signals to another does not grow. It takes as much memory as there are permits that are held
/// and calls that wait.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Semaphore {
    /// How many permits nobody holds. Nobody waits while there are any.
    value: u64,
    /// How many permits there are at most.
    bound: Option<u64>,
    held: Grants,
    line: Line<()>,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    class: CLASS.into(),
    doc: "So many permits; those that a session holds come back when it ends.".into(),
    methods: methods("Give back `n` permits, or make new ones where none are held."),
});

static BOUNDED_INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    class: BOUNDED.into(),
    doc: "So many permits and never more; those that a session holds come back when it ends."
        .into(),
    methods: methods("Give back `n` permits; raise ValueError where fewer are held."),
});

fn methods(release: &str) -> Vec<Method> {
    vec![
        Method::new(
            "__concoordinit__",
            "Start anew, with `value` permits, which may also be given as `count`; send all who \
             wait away.",
        )
        .takes("value", "int", Some("1"))
        .takes("count", "int | None", Some("None")),
        Method::new(
            "acquire",
            "Wait for a permit, but for `timeout` seconds at most. Return its fencing token, or \
             False without one.",
        )
        .takes("blocking", "bool", Some("True"))
        .takes("timeout", "float | None", Some("None"))
        .returns("int"),
        Method::new("release", release).takes("n", "int", Some("1")),
        Method::new("getvalue", "Return how many permits nobody holds.").returns("int").reads(),
        Method::new("__repr__", "Return how many permits nobody holds, as a str.")
            .returns("str")
            .reads(),
        Method::new("__str__", "Return how many permits nobody holds, as a str.")
            .returns("str")
            .reads(),
    ]
}

impl Default for Semaphore {
    fn default() -> Self {
        Self { value: 1, bound: None, held: Grants::default(), line: Line::default() }
    }
}

impl Semaphore {
    /// One that refuses to be released more often than it was acquired.
    #[must_use]
    pub fn bounded() -> Self {
        Self { bound: Some(1), ..Self::default() }
    }

    const fn own_interface(&self) -> &'static LazyLock<Interface> {
        if self.bound.is_some() { &BOUNDED_INTERFACE } else { &INTERFACE }
    }

    fn initialise(
        &mut self,
        given: &Given<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), Exception> {
        let value = match either(given, 0, 1)? {
            None => 1,
            Some(value) => u64::try_from(value)
                .map_err(|_| value_error("semaphore initial value must be >= 0"))?,
        };
        self.held.take_all(context);
        for waiter in self.line.take() {
            context.answer(waiter.call, Ok(Value::Bool(false)));
        }
        self.value = value;
        self.bound = self.bound.map(|_| value);
        Ok(())
    }

    fn acquire(&mut self, patience: Patience, context: &mut Context<'_>) -> Reply {
        if self.value == 0 {
            return patience.wait(context, || self.line.join((), context));
        }
        self.value -= 1;
        Reply::Value(self.held.give(context.caller, context).into())
    }

    fn release(&mut self, n: i64, context: &mut Context<'_>) -> Result<(), Exception> {
        let n = u64::try_from(n).ok().filter(|n| *n > 0);
        let n = n.ok_or_else(|| value_error("n must be one or more"))?;
        let value = self.value.checked_add(n).filter(|value| *value <= VALUE_MAX);
        if self.bound.is_some() && n > self.held.len() as u64 {
            return Err(value_error("Semaphore released too many times"));
        }
        let Some(value) = value else {
            return Err(Exception::builtin("OverflowError", "a semaphore counts to 2**63 - 1"));
        };
        for _ in 0..n.min(self.held.len() as u64) {
            self.take_back(context.caller, context);
        }
        self.value = value;
        self.pass_on(context);
        Ok(())
    }

    /// Takes back a permit; which one, [`Semaphore`] says.
    fn take_back(&mut self, caller: Caller, context: &mut Context<'_>) {
        let held = &self.held;
        let token = held.of_caller(caller).or_else(|| held.of_session(caller.session));
        if let Some(token) = token.or_else(|| held.oldest()) {
            self.held.take(token, context);
        }
    }

    /// Gives the free permits to those who have waited longest.
    fn pass_on(&mut self, context: &mut Context<'_>) {
        while self.value > 0
            && let Some(waiter) = self.line.pop()
        {
            self.value -= 1;
            let token = self.held.give(waiter.caller(), context);
            context.answer(waiter.call, Ok(token.into()));
        }
    }
}

/// More permits than this would not be an int of 64 bits.
const VALUE_MAX: u64 = i64::MAX as u64;

/// The number that the parameters at those places are two names for.
///
/// # Errors
/// The `TypeError` of one that is no int, or of both being given.
pub(super) fn either(
    given: &Given<'_>,
    one: usize,
    other: usize,
) -> Result<Option<i64>, Exception> {
    let is_given = |at| given.value(at).is_some_and(|value| *value != Value::None);
    match (is_given(one), is_given(other)) {
        (true, true) => {
            let words = "the same number is given by two names";
            Err(Exception::builtin("TypeError", words))
        }
        (true, false) => given.small_int(one),
        (false, true) => given.small_int(other),
        (false, false) => Ok(None),
    }
}

fn value_error(words: &str) -> Exception {
    Exception::builtin("ValueError", words)
}

impl Object for Semaphore {
    fn interface(&self) -> &'static Interface {
        self.own_interface()
    }

    fn apply(
        &mut self,
        method: &str,
        arguments: &Arguments,
        context: &mut Context<'_>,
    ) -> Result<Reply, Exception> {
        let given = self.own_interface().given(method, arguments)?;
        match method {
            "acquire" => return Ok(self.acquire(Patience::of_semaphore(&given)?, context)),
            "release" => self.release(given.small_int(0)?.unwrap_or(1), context)?,
            "__concoordinit__" => self.initialise(&given, context)?,
            _ => return self.read(method, arguments).map(Reply::Value),
        }
        Ok(Reply::Value(Value::None))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        self.own_interface().given(method, arguments)?;
        let bounded = if self.bound.is_some() { "Bounded" } else { "" };
        Ok(match method {
            "getvalue" => self.value.into(),
            _ => Value::Str(format!("<D{bounded}Semaphore count={}>", self.value)),
        })
    }

    fn cancelled(&mut self, parked: CallId, _: &mut Context<'_>) {
        self.line.remove(parked);
    }

    fn lost(&mut self, session: SessionId, context: &mut Context<'_>) {
        self.value = self.value.saturating_add(self.held.lose(session) as u64);
        self.pass_on(context);
    }

    fn guards(&self, token: u64) -> bool {
        self.held.contains(token)
    }

    fn describe(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("free", self.value.into()),
            ("held", self.held.len().into()),
            ("waiting", self.line.len().into()),
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
    use super::super::stage::{Stage, caller, thread};
    use super::*;

    fn with(value: i64) -> Stage<Semaphore> {
        let mut stage = Stage::new(Semaphore::default());
        stage.returns(caller(9), "__concoordinit__", vec![Value::Int(value)]);
        stage
    }

    fn text(stage: &mut Stage<Semaphore>) -> Value {
        stage.returns(caller(9), "__repr__", vec![])
    }

    fn tokens(stage: &Stage<Semaphore>) -> Vec<i64> {
        let ends = stage.ended.iter().map(|(_, end)| match end {
            Ok(Value::Int(token)) => *token,
            other => panic!("{other:?}"),
        });
        ends.collect()
    }

    #[test]
    fn the_tutorial_holds() {
        let mut stage = Stage::new(Semaphore::default());
        stage.returns(caller(1), "acquire", vec![]);
        assert_eq!(text(&mut stage), "<DSemaphore count=0>".into());
        stage.returns(caller(1), "release", vec![]);
        assert_eq!(text(&mut stage), "<DSemaphore count=1>".into());
    }

    #[test]
    fn one_release_serves_many_and_each_has_a_token_of_its_own() {
        let mut stage = with(0);
        let calls = [1, 2, 3, 4].map(|session| stage.waits(caller(session), "acquire", vec![]));
        stage.returns(caller(9), "release", vec![Value::Int(3)]);
        let tokens = tokens(&stage);
        assert!(tokens.is_sorted_by(|one, next| one < next) && tokens.len() == 3);
        assert_eq!(stage.end_of(calls[3]), None);
        stage.lose(2);
        assert!(!stage.object.guards(tokens[1] as u64) && stage.object.guards(tokens[2] as u64));
        let next = match stage.end_of(calls[3]) {
            Some(Ok(Value::Int(token))) => *token,
            other => panic!("{other:?}"),
        };
        assert!(next > tokens[2]);
    }

    #[test]
    fn a_release_gives_back_the_permit_that_is_nearest() {
        let mut stage = with(4);
        let mut acquire = |caller| {
            let token = stage.returns(caller, "acquire", vec![]);
            let Value::Int(token) = token else { panic!("{token:?}") };
            token as u64
        };
        let [a, b, c, d] = [caller(1), thread(2, 1), thread(2, 2), thread(2, 2)].map(&mut acquire);
        let mut held = |release| {
            stage.returns(release, "release", vec![]);
            [a, b, c, d].map(|token| stage.object.guards(token))
        };
        assert_eq!(held(thread(2, 2)), [true, true, true, false]);
        assert_eq!(held(thread(2, 3)), [true, true, false, false]);
        assert_eq!(held(caller(3)), [false, true, false, false]);
        assert_eq!(held(caller(3)), [false; 4]);
        assert_eq!(held(caller(3)), [false; 4]);
        assert_eq!(text(&mut stage), "<DSemaphore count=5>".into());
    }

    #[test]
    fn signals_between_sessions_do_not_pile_up() {
        let mut stage = with(0);
        for _ in 0..100 {
            stage.returns(caller(1), "release", vec![]);
            stage.returns(caller(2), "acquire", vec![]);
        }
        assert_eq!((stage.holds(2), stage.object.held.len()), (1, 1));
    }

    #[test]
    fn a_bounded_one_refuses_to_be_released_too_often() {
        let mut stage = Stage::new(Semaphore::bounded());
        stage.returns(caller(9), "__concoordinit__", vec![Value::None, Value::Int(2)]);
        let words = ("ValueError".into(), "Semaphore released too many times".into());
        assert_eq!(stage.raises(caller(1), "release", vec![]), words);
        stage.returns(caller(1), "acquire", vec![]);
        assert_eq!(stage.raises(caller(1), "release", vec![Value::Int(2)]), words);
        assert_eq!(text(&mut stage), "<DBoundedSemaphore count=1>".into());
        stage.lose(1);
        assert_eq!(stage.raises(caller(1), "release", vec![]), words);
    }

    #[test]
    fn errors_are_pythons() {
        let mut stage = with(1);
        let value = |words: &str| ("ValueError".to_owned(), words.to_owned());
        let mut raises = |method, given| stage.raises(caller(1), method, given);
        let n = value("n must be one or more");
        assert_eq!(raises("release", vec![Value::Int(0)]), n);
        let initial = value("semaphore initial value must be >= 0");
        assert_eq!(raises("__concoordinit__", vec![Value::Int(-1)]), initial);
        let both = vec![Value::Bool(false), Value::Int(1)];
        let words = value("can't specify timeout for non-blocking acquire");
        assert_eq!(raises("acquire", both), words);
        assert_eq!(raises("release", vec![Value::Int(i64::MAX)]).0, "OverflowError");
    }

    #[test]
    fn a_timeout_that_is_not_positive_does_not_wait() {
        let mut stage = with(0);
        for timeout in [Value::Int(0), Value::Int(-1), Value::Float(-0.5)] {
            let given = vec![Value::Bool(true), timeout];
            assert_eq!(stage.returns(caller(1), "acquire", given), Value::Bool(false));
        }
        let call = stage.waits(caller(1), "acquire", vec![Value::Bool(true), Value::Float(0.25)]);
        stage.pass(250);
        assert_eq!(stage.end_of(call), Some(&Ok(Value::Bool(false))));
        stage.returns(caller(1), "release", vec![]);
        assert_eq!(text(&mut stage), "<DSemaphore count=1>".into());
    }
}
