//! Who takes part.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::kept::{Key, key_error};
use super::repr::repr;
use super::table::Table;
use super::{decode, encode};
use crate::call::SessionId;
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.membership.Membership";

/// Members, in the order in which they came. Those that were added stay until they are removed;
/// those that have joined leave with the session that had them join last.
///
/// It takes as much memory as the members do. Who watches it is told `("join", member)` and
/// `("leave", member)`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    members: Table<()>,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    class: CLASS.into(),
    doc: "Members: added until they are removed, or joined while a session lives.".into(),
    methods: vec![
        Method::new("__concoordinit__", "Start anew, without members."),
        member("add", "Have a member until it is removed; return whether it is new."),
        member(
            "join",
            "Have a member that leaves when the caller's session ends; return whether it is new. \
             One that was added or had joined belongs to this session now.",
        ),
        without_return("remove", "Remove a member; raise KeyError if it is none."),
        member("leave", "Remove a member; return whether it was one."),
        Method::new("members", "Return the members, the longest-standing first.")
            .returns("list[Any]")
            .reads(),
        Method::new("get_size", "Return how many members there are.").returns("int").reads(),
        Method::new("__len__", "Return how many members there are.").returns("int").reads(),
        member("__contains__", "Return whether it is a member.").reads(),
        Method::new("__str__", "Return the members, as the str of a list.").returns("str").reads(),
    ],
});

fn without_return(name: &str, doc: &str) -> Method {
    Method::new(name, doc).takes("member", "object", None)
}

fn member(name: &str, doc: &str) -> Method {
    without_return(name, doc).returns("bool")
}

impl Membership {
    fn join(
        &mut self,
        member: &Value,
        owner: Option<SessionId>,
        context: &mut Context<'_>,
    ) -> Result<bool, Exception> {
        let is_new = self.members.put(Key::of(member)?, (), owner, context).is_none();
        if is_new {
            tell("join", member, context);
        }
        Ok(is_new)
    }

    fn leave(&mut self, member: &Value, context: &mut Context<'_>) -> Result<bool, Exception> {
        let was_there = self.members.remove(&Key::of(member)?, context).is_some();
        if was_there {
            tell("leave", member, context);
        }
        Ok(was_there)
    }
}

fn tell(change: &str, member: &Value, context: &mut Context<'_>) {
    context.tell(Value::Tuple(vec![change.into(), member.clone()]));
}

impl Object for Membership {
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
        let returned = match method {
            "add" => self.join(given.required(0), None, context)?.into(),
            "join" => {
                let session = context.caller.session;
                self.join(given.required(0), Some(session), context)?.into()
            }
            "leave" => self.leave(given.required(0), context)?.into(),
            "remove" => {
                let member = given.required(0);
                if !self.leave(member, context)? {
                    return Err(key_error(member));
                }
                Value::None
            }
            "__concoordinit__" => {
                for member in self.members.keys() {
                    tell("leave", &member, context);
                }
                self.members.clear(context);
                Value::None
            }
            _ => return self.read(method, arguments).map(Reply::Value),
        };
        Ok(Reply::Value(returned))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        let given = INTERFACE.given(method, arguments)?;
        let all = || Value::List(self.members.keys().collect());
        Ok(match method {
            "members" => all(),
            "__contains__" => self.members.get(&Key::of(given.required(0))?).is_some().into(),
            "__str__" => Value::Str(repr(&all())),
            _ => self.members.len().into(),
        })
    }

    fn lost(&mut self, session: SessionId, context: &mut Context<'_>) {
        for (_, member, ()) in self.members.lost(session) {
            tell("leave", &member, context);
        }
    }

    fn describe(&self) -> Vec<(&'static str, Value)> {
        vec![("members", self.members.len().into())]
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

    fn members(stage: &mut Stage<Membership>) -> Value {
        stage.returns(caller(9), "__str__", vec![])
    }

    #[test]
    fn those_that_joined_leave_with_their_session() {
        let mut stage = Stage::new(Membership::default());
        let mut call = |session, method: &str, member: &str| {
            stage.returns(caller(session), method, vec![member.into()])
        };
        assert_eq!(call(1, "join", "a"), Value::Bool(true));
        assert_eq!(call(1, "join", "a"), Value::Bool(false));
        assert_eq!(call(1, "join", "b"), Value::Bool(true));
        assert_eq!(call(2, "add", "c"), Value::Bool(true));
        assert_eq!(call(2, "join", "d"), Value::Bool(true));
        // It has started again, before its old session was found to be over.
        assert_eq!(call(3, "join", "b"), Value::Bool(false));
        assert_eq!((stage.holds(1), stage.holds(3)), (1, 1));
        stage.lose(1);
        stage.lose(2);
        assert_eq!(members(&mut stage), Value::from("['b', 'c']"));
        stage.lose(3);
        assert_eq!(members(&mut stage), Value::from("['c']"));
        let change = |what: &str, who: &str| Value::Tuple(vec![what.into(), who.into()]);
        assert_eq!(stage.told[4..], ["a", "d", "b"].map(|who| change("leave", who)));
    }

    #[test]
    fn those_that_were_added_stay_until_they_are_removed() {
        let mut stage = Stage::new(Membership::default());
        stage.returns(caller(1), "join", vec![Value::Int(1)]);
        stage.returns(caller(1), "add", vec![Value::Float(1.0)]);
        stage.lose(1);
        assert_eq!(members(&mut stage), Value::from("[1]"));
        let is_there = stage.returns(caller(1), "__contains__", vec![Value::Bool(true)]);
        assert_eq!(is_there, Value::Bool(true));
        stage.returns(caller(1), "remove", vec![Value::Int(1)]);
        let left = stage.returns(caller(1), "leave", vec![Value::Int(1)]);
        assert_eq!(left, Value::Bool(false));
        let gone = stage.call(caller(1), "remove", vec![Value::Int(1)]).unwrap().unwrap_err();
        assert_eq!((gone.name.as_str(), gone.args), ("KeyError", vec![Value::Int(1)]));
        let list = vec![Value::List(vec![])];
        let words = ("TypeError".into(), "unhashable type: 'list'".into());
        assert_eq!(stage.raises(caller(1), "add", list), words);
    }

    #[test]
    fn one_made_anew_holds_nothing() {
        let mut stage = Stage::new(Membership::default());
        stage.returns(caller(1), "join", vec![Value::Int(1)]);
        stage.returns(caller(1), "__concoordinit__", vec![]);
        assert_eq!((stage.holds(1), members(&mut stage)), (0, Value::from("[]")));
    }
}
