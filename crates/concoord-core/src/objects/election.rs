//! Who leads: one candidate at a time, the others wait for their turn.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::given::Given;
use super::kept::Kept;
use super::line::{Line, Waiter};
use super::patience::Patience;
use super::{decode, encode};
use crate::call::{CallId, Caller, SessionId};
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.election.Election";

/// An election without end: the candidate that has waited longest leads until it resigns or its
/// session ends, then the next.
///
/// Each candidate has a value by which the others know it. An epoch is the fencing token of who
/// leads; no epoch comes back. It takes as much memory as there are candidates, with their values.
/// Who watches it is told `("lead", value, epoch)` and `("resign", epoch)`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Election {
    leader: Option<Leader>,
    /// The values of those who wait. Nobody waits while nobody leads.
    candidates: Line<Kept>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Leader {
    caller: Caller,
    epoch: u64,
    value: Kept,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    class: CLASS.into(),
    doc: "Who leads: one candidate at a time, in the order of coming.".into(),
    methods: vec![
        Method::new("__concoordinit__", "Have nobody lead, and send all candidates away."),
        Method::new(
            "campaign",
            "Wait to lead, but for `timeout` seconds at most; `value` is what others see. Return \
             the epoch, a fencing token, or False. Who leads goes on, with the new value.",
        )
        .takes("value", "object", Some("None"))
        .takes("timeout", "float | None", Some("None"))
        .returns("int"),
        Method::new(
            "proclaim",
            "Replace the value of who leads. Raise RuntimeError if the caller's session does not.",
        )
        .takes("value", "object", None),
        Method::new(
            "resign",
            "Lead no more. Raise RuntimeError if the caller's session does not lead.",
        ),
        Method::new("leader", "Return the value of who leads; None if nobody does.")
            .returns("Any")
            .reads(),
        Method::new("epoch", "Return the epoch of who leads; None if nobody does.")
            .returns("int | None")
            .reads(),
        Method::new("candidates", "Return the values of those who wait to lead, in order.")
            .returns("list[Any]")
            .reads(),
        Method::new("__repr__", "Return its state, as a str.").returns("str").reads(),
        Method::new("__str__", "Return its state, as a str.").returns("str").reads(),
    ],
});

impl Election {
    fn campaign(
        &mut self,
        given: &Given<'_>,
        context: &mut Context<'_>,
    ) -> Result<Reply, Exception> {
        let value = Kept::of(given.value(0).unwrap_or(&Value::None))?;
        let patience = Patience::of_wait(given, 1)?;
        match &mut self.leader {
            None => {
                let epoch = self.lead(context.caller, value, context);
                Ok(Reply::Value(epoch.into()))
            }
            Some(leader) if leader.caller == context.caller => {
                leader.proclaim(value, context);
                Ok(Reply::Value(leader.epoch.into()))
            }
            Some(_) => Ok(patience.wait(context, || self.candidates.join(value, context))),
        }
    }

    fn lead(&mut self, caller: Caller, value: Kept, context: &mut Context<'_>) -> u64 {
        let leader = Leader { caller, epoch: context.token(), value };
        context.hold(caller.session);
        leader.tell(context);
        self.leader.insert(leader).epoch
    }

    /// Who leads, if that is of the session of the caller.
    fn leading(&mut self, context: &Context<'_>) -> Result<&mut Leader, Exception> {
        let leader = self.leader.as_mut();
        let leader = leader.filter(|leader| leader.caller.session == context.caller.session);
        leader.ok_or_else(|| Exception::builtin("RuntimeError", "the caller does not lead"))
    }

    /// Nobody leads, for now; whoever did.
    fn depose(&mut self, context: &mut Context<'_>) -> Option<SessionId> {
        let leader = self.leader.take()?;
        context.tell(Value::Tuple(vec!["resign".into(), leader.epoch.into()]));
        Some(leader.caller.session)
    }

    fn pass_on(&mut self, context: &mut Context<'_>) {
        if let Some(waiter) = self.candidates.pop() {
            let (call, caller) = (waiter.call, waiter.caller());
            let epoch = self.lead(caller, waiter.wants, context);
            context.answer(call, Ok(epoch.into()));
        }
    }
}

impl Leader {
    fn proclaim(&mut self, value: Kept, context: &mut Context<'_>) {
        if self.value != value {
            self.value = value;
            self.tell(context);
        }
    }

    fn tell(&self, context: &mut Context<'_>) {
        let change = vec!["lead".into(), self.value.value(), self.epoch.into()];
        context.tell(Value::Tuple(change));
    }
}

impl Object for Election {
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
            "campaign" => return self.campaign(&given, context),
            "proclaim" => {
                let value = Kept::of(given.required(0))?;
                self.leading(context)?.proclaim(value, context);
            }
            "resign" => {
                self.leading(context)?;
                if let Some(session) = self.depose(context) {
                    context.free(session);
                }
                self.pass_on(context);
            }
            "__concoordinit__" => {
                if let Some(session) = self.depose(context) {
                    context.free(session);
                }
                for Waiter { call, .. } in self.candidates.take() {
                    context.answer(call, Ok(false.into()));
                }
            }
            _ => return self.read(method, arguments).map(Reply::Value),
        }
        Ok(Reply::Value(Value::None))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        INTERFACE.given(method, arguments)?;
        let leader = self.leader.as_ref();
        Ok(match method {
            "leader" => leader.map_or(Value::None, |leader| leader.value.value()),
            "epoch" => leader.map_or(Value::None, |leader| leader.epoch.into()),
            "candidates" => {
                Value::List(self.candidates.iter().map(|waiter| waiter.wants.value()).collect())
            }
            _ => {
                let epoch = leader.map_or_else(|| "None".into(), |leader| leader.epoch.to_string());
                let waiting = self.candidates.len();
                Value::Str(format!("<DElection epoch={epoch} candidates={waiting}>"))
            }
        })
    }

    fn cancelled(&mut self, parked: CallId, _: &mut Context<'_>) {
        self.candidates.remove(parked);
    }

    fn lost(&mut self, session: SessionId, context: &mut Context<'_>) {
        if self.leader.as_ref().is_some_and(|leader| leader.caller.session == session) {
            self.depose(context);
            self.pass_on(context);
        }
    }

    fn guards(&self, token: u64) -> bool {
        self.leader.as_ref().is_some_and(|leader| leader.epoch == token)
    }

    fn describe(&self) -> Vec<(&'static str, Value)> {
        let mut said = vec![("candidates", Value::from(self.candidates.len()))];
        if let Some(leader) = &self.leader {
            said.push(("leader", leader.value.value()));
            said.push(("session", leader.caller.session.0.into()));
            said.push(("epoch", leader.epoch.into()));
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

    fn leader(stage: &mut Stage<Election>) -> Value {
        stage.returns(caller(9), "leader", vec![])
    }

    #[test]
    fn candidates_lead_one_after_another() {
        let mut stage = Stage::new(Election::default());
        assert_eq!(leader(&mut stage), Value::None);
        assert_eq!(stage.returns(caller(1), "campaign", vec!["a".into()]), Value::Int(2));
        let second = stage.waits(caller(2), "campaign", vec!["b".into()]);
        let third = stage.waits(caller(3), "campaign", vec!["c".into()]);
        let waiting = stage.returns(caller(9), "candidates", vec![]);
        assert_eq!(waiting, Value::List(vec!["b".into(), "c".into()]));
        stage.returns(caller(1), "resign", vec![]);
        assert_eq!(leader(&mut stage), "b".into());
        stage.lose(2);
        assert_eq!(leader(&mut stage), "c".into());
        let epochs = [second, third].map(|call| match stage.end_of(call) {
            Some(Ok(Value::Int(epoch))) => *epoch,
            other => panic!("{other:?}"),
        });
        assert!(2 < epochs[0] && epochs[0] < epochs[1]);
        assert!(stage.object.guards(epochs[1] as u64) && !stage.object.guards(epochs[0] as u64));
        let lead = |who: &str, epoch| Value::Tuple(vec!["lead".into(), who.into(), epoch]);
        let resign = |epoch| Value::Tuple(vec!["resign".into(), epoch]);
        let [second, third] = epochs.map(Value::Int);
        let told = [
            lead("a", Value::Int(2)),
            resign(Value::Int(2)),
            lead("b", second.clone()),
            resign(second),
            lead("c", third),
        ];
        assert_eq!(stage.told, told);
    }

    #[test]
    fn who_leads_goes_on_with_another_value() {
        let mut stage = Stage::new(Election::default());
        let epoch = stage.returns(caller(1), "campaign", vec!["a".into()]);
        assert_eq!(stage.returns(caller(1), "campaign", vec!["b".into()]), epoch);
        assert_eq!((leader(&mut stage), stage.holds(1)), ("b".into(), 1));
        stage.returns(caller(1), "proclaim", vec!["c".into()]);
        assert_eq!(leader(&mut stage), "c".into());
        for (method, given) in [("resign", vec![]), ("proclaim", vec!["d".into()])] {
            let words = ("RuntimeError".into(), "the caller does not lead".into());
            assert_eq!(stage.raises(caller(2), method, given), words);
        }
    }

    #[test]
    fn who_has_waited_for_long_enough_never_leads() {
        let mut stage = Stage::new(Election::default());
        stage.returns(caller(1), "campaign", vec![]);
        let given = vec!["b".into(), Value::Int(1)];
        let call = stage.waits(caller(2), "campaign", given);
        let at_once = vec!["c".into(), Value::Int(0)];
        assert_eq!(stage.returns(caller(3), "campaign", at_once), Value::Bool(false));
        stage.pass(1_000);
        assert_eq!(stage.end_of(call), Some(&Ok(Value::Bool(false))));
        stage.returns(caller(1), "__concoordinit__", vec![]);
        assert_eq!(stage.returns(caller(9), "epoch", vec![]), Value::None);
        assert_eq!((stage.holds(1), stage.holds(2)), (0, 0));
    }
}
