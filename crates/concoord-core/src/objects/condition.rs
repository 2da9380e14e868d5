//! A condition with a lock of its own, with the behaviour of Python's `threading.Condition`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::given::Given;
use super::line::{Line, Waiter};
use super::lock::acquire;
use super::mutex::{Claim, Mutex, Then, initialised};
use super::patience::Patience;
use super::{decode, encode};
use crate::call::{CallId, SessionId};
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.condition.Condition";

/// A lock that its holder may acquire again, as Python's conditions have one, and those who gave
/// it up to wait for something that another will notify them of.
///
/// Who is notified, or has waited for long enough, gets the lock back in its turn, as often as it
/// held it, and only then returns. A notification of one whose session ends before that goes to
/// the next. It takes as much memory as there are calls that wait.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Condition {
    mutex: Mutex,
    /// Those who wait to be notified.
    sleeping: Line<Sleep>,
    /// By bell, who has waited for long enough when it rings.
    bells: BTreeMap<u64, CallId>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Sleep {
    /// How often it held the lock.
    levels: u64,
    bell: Option<u64>,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    class: CLASS.into(),
    doc: "A condition with a lock of its own, which its holder may acquire again.".into(),
    methods: vec![
        Method::new(
            "__concoordinit__",
            "Start anew; send all away who wait for the lock, and raise RuntimeError where one \
             waits to be notified. The lock is always the condition's own: `lock` must be None.",
        )
        .takes("lock", "None", Some("None")),
        acquire("acquire", "lock that the caller may hold already"),
        Method::new(
            "release",
            "Give the lock back once. Raise RuntimeError if the caller does not hold it.",
        ),
        Method::new(
            "release_all",
            "Give the lock back as often as the caller holds it. Raise RuntimeError if it does \
             not.",
        ),
        Method::new(
            "wait",
            "Give up the lock, which the caller must hold, and wait to be notified. Stop waiting \
             after `timeout` seconds. Return whether it was, once the lock is held again: under \
             another token.",
        )
        .takes("timeout", "float | None", Some("None"))
        .returns("bool"),
        Method::new("notify", "Wake the `n` that have waited longest, for the caller's lock.")
            .takes("n", "int", Some("1")),
        Method::new("notify_all", "Wake all that wait, for the caller's lock."),
        Method::new("notifyAll", "Wake all that wait, by the name of 2012."),
        Method::new("locked", "Return whether somebody holds the lock.").returns("bool").reads(),
        Method::new(
            "gettoken",
            "Return the fencing token of who holds the lock; None if nobody does.",
        )
        .returns("int | None")
        .reads(),
        Method::new("__repr__", "Return how many wait, as a str.").returns("str").reads(),
        Method::new("__str__", "Return how many wait, as a str.").returns("str").reads(),
    ],
});

impl Condition {
    fn initialise(
        &mut self,
        given: &Given<'_>,
        context: &mut Context<'_>,
    ) -> Result<(), Exception> {
        if given.value(0).is_some_and(|lock| *lock != Value::None) {
            let words = "Condition.__concoordinit__() takes no lock: it has one of its own";
            return Err(Exception::builtin("TypeError", words));
        }
        self.mutex.reset(context);
        for sleeper in self.sleeping.take() {
            context.answer(sleeper.call, Err(initialised()));
        }
        for bell in std::mem::take(&mut self.bells).into_keys() {
            context.hush(bell);
        }
        Ok(())
    }

    fn wait(&mut self, patience: Patience, context: &mut Context<'_>) -> Result<Reply, Exception> {
        self.must_hold("wait on", context)?;
        let bell = match patience {
            Patience::None => return Ok(self.yield_lock(context)),
            Patience::Ms(ms) => Some(ms),
            Patience::Forever => None,
        };
        // A wait is a step of its own, so that no other bell has its number.
        let bell = bell.map(|ms| (context.moment.step, context.after(ms)));
        if let Some((bell, at)) = bell {
            self.bells.insert(bell, context.call);
            context.bell(bell, at);
        }
        let levels = self.mutex.holder().map_or(1, |holder| holder.levels);
        self.sleeping.join(Sleep { levels, bell: bell.map(|(bell, _)| bell) }, context);
        self.mutex.give_up(context);
        Ok(Reply::Parked { until: None })
    }

    /// Waits for no time at all: those who wait for the lock have it first.
    fn yield_lock(&mut self, context: &mut Context<'_>) -> Reply {
        if self.mutex.waiting() == 0 {
            return Reply::Value(Value::Bool(false));
        }
        let levels = self.mutex.holder().map_or(1, |holder| holder.levels);
        self.mutex.give_up(context);
        let claim = Claim { levels, then: Then::Notified(false) };
        self.mutex.reclaim(Waiter::of(claim, context), context);
        Reply::Parked { until: None }
    }

    fn notify(&mut self, n: u64, context: &mut Context<'_>) {
        for _ in 0..n.min(self.sleeping.len() as u64) {
            if let Some(sleeper) = self.sleeping.pop() {
                self.wake(sleeper, true, context);
            }
        }
    }

    /// Has one that waited want the lock back.
    fn wake(&mut self, sleeper: Waiter<Sleep>, notified: bool, context: &mut Context<'_>) {
        self.hush(sleeper.wants, context);
        let claim = Claim { levels: sleeper.wants.levels, then: Then::Notified(notified) };
        self.mutex.reclaim(sleeper.instead(claim), context);
    }

    fn hush(&mut self, sleep: Sleep, context: &mut Context<'_>) {
        if let Some(bell) = sleep.bell
            && self.bells.remove(&bell).is_some()
        {
            context.hush(bell);
        }
    }

    fn must_hold(&self, what_for: &str, context: &Context<'_>) -> Result<(), Exception> {
        if self.mutex.is_held_by(context.caller) {
            return Ok(());
        }
        let words = format!("cannot {what_for} un-acquired lock");
        Err(Exception::builtin("RuntimeError", words))
    }
}

impl Object for Condition {
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
            "release_all" => {
                self.must_hold("release", context)?;
                self.mutex.give_up(context);
            }
            "wait" => return self.wait(Patience::of_wait(&given, 0)?, context),
            "notify" => {
                let n = given.small_int(0)?.unwrap_or(1);
                self.must_hold("notify on", context)?;
                self.notify(u64::try_from(n).unwrap_or(0), context);
            }
            "notify_all" | "notifyAll" => {
                self.must_hold("notify on", context)?;
                self.notify(u64::MAX, context);
            }
            "__concoordinit__" => self.initialise(&given, context)?,
            _ => return self.read(method, arguments).map(Reply::Value),
        }
        Ok(Reply::Value(Value::None))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        INTERFACE.given(method, arguments)?;
        let holder = self.mutex.holder();
        let state = if holder.is_some() { "locked" } else { "unlocked" };
        Ok(match method {
            "locked" => holder.is_some().into(),
            "gettoken" => holder.map_or(Value::None, |holder| holder.token.into()),
            _ => Value::Str(format!("<DCondition {state} waiting={}>", self.sleeping.len())),
        })
    }

    fn cancelled(&mut self, parked: CallId, context: &mut Context<'_>) {
        if let Some(sleeper) = self.sleeping.remove(parked) {
            self.hush(sleeper.wants, context);
        } else if let Some(Claim { then: Then::Notified(true), .. }) = self.mutex.cancel(parked) {
            self.notify(1, context);
        }
    }

    fn lost(&mut self, session: SessionId, context: &mut Context<'_>) {
        self.mutex.lose(session, context);
    }

    fn ring(&mut self, bell: u64, context: &mut Context<'_>) {
        if let Some(call) = self.bells.remove(&bell)
            && let Some(sleeper) = self.sleeping.remove(call)
        {
            self.wake(sleeper, false, context);
        }
    }

    fn guards(&self, token: u64) -> bool {
        self.mutex.guards(token)
    }

    fn describe(&self) -> Vec<(&'static str, Value)> {
        let mut said = vec![("waiting to be notified", Value::from(self.sleeping.len()))];
        said.extend(self.mutex.describe());
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
mod tests;
