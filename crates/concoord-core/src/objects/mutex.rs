//! What the locks have in common: one holder at a time, and a line of those who wait.

use serde::{Deserialize, Serialize};

use super::line::{Line, Waiter};
use super::patience::Patience;
use crate::call::{CallId, Caller, SessionId};
use crate::object::{Context, Reply};
use crate::planted;
use crate::value::{Exception, Value};

/// What one caller at a time holds. Nobody waits while nobody holds it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Mutex {
    holder: Option<Holder>,
    line: Line<Claim>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) caller: Caller,
    pub(crate) token: u64,
    /// How many times over it holds it.
    pub(crate) levels: u64,
}

/// What a waiter shall get.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Claim {
    pub(crate) levels: u64,
    pub(crate) then: Then,
}

/// What its call returns then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Then {
    /// The token: it acquires.
    Token,
    /// Whether it was notified: it wants back what it gave up to wait.
    Notified(bool),
}

impl Mutex {
    pub(crate) const fn holder(&self) -> Option<&Holder> {
        self.holder.as_ref()
    }

    pub(crate) fn is_held_by(&self, caller: Caller) -> bool {
        self.holder.is_some_and(|holder| holder.caller == caller)
    }

    pub(crate) fn guards(&self, token: u64) -> bool {
        self.holder.is_some_and(|holder| holder.token == token)
    }

    pub(crate) fn waiting(&self) -> usize {
        self.line.len()
    }

    /// The caller of this step gets it, or waits for it, whether it holds it or not.
    pub(crate) fn acquire(&mut self, patience: Patience, context: &mut Context<'_>) -> Reply {
        if self.holder.is_none() {
            return Reply::Value(self.grant(context.caller, 1, context).into());
        }
        let claim = Claim { levels: 1, then: Then::Token };
        patience.wait(context, || self.line.join(claim, context))
    }

    /// The same, where who holds it gets it once more.
    pub(crate) fn acquire_again(&mut self, patience: Patience, context: &mut Context<'_>) -> Reply {
        match &mut self.holder {
            Some(holder) if holder.caller == context.caller => {
                holder.levels += 1;
                Reply::Value(holder.token.into())
            }
            _ => self.acquire(patience, context),
        }
    }

    /// A call that is parked already gets it, at once or when its turn comes.
    pub(crate) fn reclaim(&mut self, waiter: Waiter<Claim>, context: &mut Context<'_>) {
        if self.holder.is_some() {
            self.line.push(waiter);
        } else {
            self.admit(waiter, context);
        }
    }

    /// The caller of this step gives it back once.
    ///
    /// # Errors
    /// The `RuntimeError` that Python raises where the caller does not hold it.
    pub(crate) fn release(&mut self, context: &mut Context<'_>) -> Result<(), Exception> {
        match &mut self.holder {
            Some(holder) if holder.caller == context.caller => {
                holder.levels -= 1;
                if holder.levels == 0 {
                    self.give_up(context);
                }
                Ok(())
            }
            _ => Err(Exception::builtin("RuntimeError", "cannot release un-acquired lock")),
        }
    }

    /// It is taken from its holder, and goes to whoever has waited longest.
    pub(crate) fn give_up(&mut self, context: &mut Context<'_>) -> Option<Holder> {
        let holder = self.holder.take()?;
        context.free(holder.caller.session);
        self.pass_on(context);
        Some(holder)
    }

    /// Nobody holds it and nobody waits; those who did are told that they acquired nothing.
    pub(crate) fn reset(&mut self, context: &mut Context<'_>) {
        if let Some(holder) = self.holder.take() {
            context.free(holder.caller.session);
        }
        for waiter in self.line.take() {
            let end = match waiter.wants.then {
                Then::Token => Ok(Value::Bool(false)),
                Then::Notified(_) => Err(initialised()),
            };
            context.answer(waiter.call, end);
        }
    }

    /// That call waits no more; what it would have got.
    pub(crate) fn cancel(&mut self, call: CallId) -> Option<Claim> {
        self.line.remove(call).map(|waiter| waiter.wants)
    }

    pub(crate) fn lose(&mut self, session: SessionId, context: &mut Context<'_>) {
        if self.holder.is_some_and(|holder| holder.caller.session == session) {
            self.holder = None;
            if !planted::is("lost-waiter") {
                self.pass_on(context);
            }
        }
    }

    pub(crate) fn describe(&self) -> Vec<(&'static str, Value)> {
        let mut said = vec![("waiting", Value::from(self.line.len()))];
        if let Some(Holder { caller, token, levels }) = self.holder {
            said.push(("session", caller.session.0.into()));
            said.push(("thread", caller.thread.into()));
            said.push(("token", token.into()));
            said.push(("levels", levels.into()));
        }
        said
    }

    fn pass_on(&mut self, context: &mut Context<'_>) {
        if let Some(waiter) = self.line.pop() {
            self.admit(waiter, context);
        }
    }

    fn admit(&mut self, waiter: Waiter<Claim>, context: &mut Context<'_>) {
        let token = self.grant(waiter.caller(), waiter.wants.levels, context);
        let end = match waiter.wants.then {
            Then::Token => token.into(),
            Then::Notified(notified) => notified.into(),
        };
        context.answer(waiter.call, Ok(end));
    }

    fn grant(&mut self, caller: Caller, levels: u64, context: &mut Context<'_>) -> u64 {
        let token = context.token();
        self.holder = Some(Holder { caller, token, levels });
        context.hold(caller.session);
        token
    }
}

/// What those get who wait for something that is made anew, and can't return without it.
pub(crate) fn initialised() -> Exception {
    Exception::builtin("RuntimeError", "it was initialised anew while the call waited")
}
