//! Groups of nodes that watch each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::given::Given;
use super::kept::{Kept, Key, key_error};
use super::patience::Patience;
use super::table::Table;
use super::{decode, encode};
use crate::call::{CallId, SessionId};
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.meshmembership.MeshMembership";

/// Groups of nodes. Each group has an epoch, which is one more after each change of its members:
/// a node joins, or is said to have failed, in an epoch, so that whoever acts knows the others.
///
/// It takes as much memory as groups and nodes do. Who watches it is told `("add_group", group)`,
/// `("remove_group", group)`, `("join", group, node, epoch)` and `("leave", group, node, epoch)`
/// with the epoch that begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshMembership {
    groups: Table<Group>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Group {
    minsize: u64,
    epoch: u64,
    members: Table<()>,
    /// Which sessions have said in this epoch that a node has failed.
    votes: BTreeMap<Kept, BTreeSet<SessionId>>,
    /// Who waits for as many members as there shall be.
    waiting: Vec<CallId>,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    class: CLASS.into(),
    doc: "Groups of nodes that watch each other. All methods but add_group raise KeyError for a \
          group that is not there."
        .into(),
    methods: methods(),
});

fn methods() -> Vec<Method> {
    let of_group = |name: &str, doc: &str| Method::new(name, doc).takes("gname", "object", None);
    let of_node = |name: &str, doc: &str| of_group(name, doc).takes("node", "object", None);
    vec![
        Method::new("__concoordinit__", "Start anew, without groups; who waits gets False."),
        of_group(
            "add_group",
            "Add a group that shall have `minsize` members; return whether it is new.",
        )
        .takes("minsize", "int", None)
        .returns("bool"),
        of_group("remove_group", "Remove a group; who waits for it gets the KeyError."),
        of_node(
            "approve_join",
            "Have a node join in that epoch. Return True and the epoch that begins, or, if that \
             is not the group's epoch, False and the one that is; for a member, True and the \
             epoch. An ephemeral node leaves when the session of the caller ends.",
        )
        .takes("epochno", "int", None)
        .takes("ephemeral", "bool", Some("False"))
        .returns("tuple[bool, int]"),
        of_node("leave", "Have a node leave; return whether it was a member.").returns("bool"),
        of_group(
            "notify_failure",
            "Say that a member has failed in that epoch. It is removed once more than half of the \
             other members' number have said so, each session once. Return whether this removed \
             it, and the epoch.",
        )
        .takes("epoch", "int", None)
        .takes("failednode", "object", None)
        .returns("tuple[bool, int]"),
        of_group(
            "wait",
            "Wait until the group has `minsize` members; return whether it has. Wait for \
             `timeout` seconds at most if that is given.",
        )
        .takes("timeout", "float | None", Some("None"))
        .returns("bool"),
        of_node("check_member", "Return whether the node is a member.").returns("bool").reads(),
        of_group("get_group_members", "Return the members, the longest-standing first.")
            .returns("list[Any]")
            .reads(),
        of_group("get_group_epoch", "Return the epoch, 0 at first.").returns("int").reads(),
        of_group(
            "get_group_state",
            "Return a dict of `epoch`, `minsize`, `members` and `votes`. The votes are a dict of \
             how many have said of which node that it has failed.",
        )
        .returns("dict[str, Any]")
        .reads(),
        Method::new("get_groups", "Return the names of the groups.").returns("list[Any]").reads(),
    ]
}

impl Group {
    fn is_complete(&self) -> bool {
        self.members.len() as u64 >= self.minsize
    }

    /// The members have changed.
    fn turn(&mut self, change: &str, name: &Value, node: &Value, context: &mut Context<'_>) {
        self.epoch += 1;
        self.votes.clear();
        context.tell(Value::Tuple(vec![
            change.into(),
            name.clone(),
            node.clone(),
            self.epoch.into(),
        ]));
        if self.is_complete() {
            for call in self.waiting.drain(..) {
                context.answer(call, Ok(Value::Bool(true)));
            }
        }
    }

    fn join(&mut self, given: &Given<'_>, context: &mut Context<'_>) -> Result<bool, Exception> {
        let (key, epoch) = (Key::of(given.required(1))?, given.small_int(2)?);
        let owner = given.truth(3, false).then_some(context.caller.session);
        let is_member = self.members.get(&key).is_some();
        if !is_member && epoch != i64::try_from(self.epoch).ok() {
            return Ok(false);
        }
        self.members.put(key, (), owner, context);
        if !is_member {
            self.turn("join", given.required(0), given.required(1), context);
        }
        Ok(true)
    }

    fn leave(
        &mut self,
        name: &Value,
        node: &Value,
        context: &mut Context<'_>,
    ) -> Result<bool, Exception> {
        let was_member = self.members.remove(&Key::of(node)?, context).is_some();
        if was_member {
            self.turn("leave", name, node, context);
        }
        Ok(was_member)
    }

    fn vote(&mut self, given: &Given<'_>, context: &mut Context<'_>) -> Result<bool, Exception> {
        let (epoch, node) = (given.small_int(1)?, given.required(2));
        let key = Key::of(node)?;
        if epoch != i64::try_from(self.epoch).ok() || self.members.get(&key).is_none() {
            return Ok(false);
        }
        let votes = self.votes.entry(key.id).or_default();
        votes.insert(context.caller.session);
        // More than half of the others', of whom there is one less.
        if votes.len() * 2 < self.members.len() {
            return Ok(false);
        }
        self.leave(given.required(0), node, context)
    }

    fn state(&self) -> Value {
        let votes = self
            .members
            .ids()
            .filter_map(|(id, node)| Some((node, self.votes.get(id)?.len().into())));
        Value::Map(vec![
            ("epoch".into(), self.epoch.into()),
            ("minsize".into(), self.minsize.into()),
            ("members".into(), Value::List(self.members.keys().collect())),
            ("votes".into(), Value::Map(votes.collect())),
        ])
    }
}

impl MeshMembership {
    fn add_group(
        &mut self,
        given: &Given<'_>,
        context: &mut Context<'_>,
    ) -> Result<bool, Exception> {
        let key = Key::of(given.required(0))?;
        let Ok(minsize) = u64::try_from(given.small_int(1)?.unwrap_or(0)) else {
            return Err(Exception::builtin("ValueError", "'minsize' must not be negative"));
        };
        if self.groups.get(&key).is_some() {
            return Ok(false);
        }
        self.groups.put(key, Group { minsize, ..Group::default() }, None, context);
        context.tell(Value::Tuple(vec!["add_group".into(), given.required(0).clone()]));
        Ok(true)
    }

    fn remove_group(&mut self, name: &Value, context: &mut Context<'_>) -> Result<(), Exception> {
        let group = self.groups.remove(&Key::of(name)?, context);
        let mut group = group.ok_or_else(|| key_error(name))?;
        end(&mut group, &Err(key_error(name)), name, context);
        Ok(())
    }

    fn wait(&mut self, given: &Given<'_>, context: &mut Context<'_>) -> Result<Reply, Exception> {
        let patience = Patience::of_wait(given, 1)?;
        let group = group_mut(&mut self.groups, given)?;
        if group.is_complete() {
            return Ok(Reply::Value(Value::Bool(true)));
        }
        Ok(patience.wait(context, || group.waiting.push(context.call)))
    }
}

/// A group is no more.
fn end(
    group: &mut Group,
    waited: &Result<Value, Exception>,
    name: &Value,
    context: &mut Context<'_>,
) {
    group.members.clear(context);
    for call in group.waiting.drain(..) {
        context.answer(call, waited.clone());
    }
    context.tell(Value::Tuple(vec!["remove_group".into(), name.clone()]));
}

fn group_mut<'a>(
    groups: &'a mut Table<Group>,
    given: &Given<'_>,
) -> Result<&'a mut Group, Exception> {
    let name = given.required(0);
    groups.get_mut(&Key::of(name)?).ok_or_else(|| key_error(name))
}

impl Object for MeshMembership {
    fn interface(&self) -> &'static Interface {
        &INTERFACE
    }

    fn apply(
        &mut self,
        method: &str,
        arguments: &Arguments,
        context: &mut Context<'_>,
    ) -> Result<Reply, Exception> {
        if INTERFACE.is_read_only(method) {
            return self.read(method, arguments).map(Reply::Value);
        }
        let given = INTERFACE.given(method, arguments)?;
        let with_epoch =
            |success: bool, group: &Group| Value::Tuple(vec![success.into(), group.epoch.into()]);
        Ok(Reply::Value(match method {
            "add_group" => self.add_group(&given, context)?.into(),
            "remove_group" => {
                self.remove_group(given.required(0), context)?;
                Value::None
            }
            "approve_join" => {
                let group = group_mut(&mut self.groups, &given)?;
                with_epoch(group.join(&given, context)?, group)
            }
            "leave" => {
                let group = group_mut(&mut self.groups, &given)?;
                group.leave(given.required(0), given.required(1), context)?.into()
            }
            "notify_failure" => {
                let group = group_mut(&mut self.groups, &given)?;
                with_epoch(group.vote(&given, context)?, group)
            }
            "wait" => return self.wait(&given, context),
            _ => {
                for (name, group) in self.groups.iter_mut() {
                    end(group, &Ok(Value::Bool(false)), &name, context);
                }
                self.groups.clear(context);
                Value::None
            }
        }))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        let given = INTERFACE.given(method, arguments)?;
        if method == "get_groups" {
            return Ok(Value::List(self.groups.keys().collect()));
        }
        let name = given.required(0);
        let group = self.groups.get(&Key::of(name)?).ok_or_else(|| key_error(name))?;
        Ok(match method {
            "check_member" => group.members.get(&Key::of(given.required(1))?).is_some().into(),
            "get_group_members" => Value::List(group.members.keys().collect()),
            "get_group_epoch" => group.epoch.into(),
            _ => group.state(),
        })
    }

    fn cancelled(&mut self, parked: CallId, _: &mut Context<'_>) {
        for (_, group) in self.groups.iter_mut() {
            group.waiting.retain(|call| *call != parked);
        }
    }

    fn lost(&mut self, session: SessionId, context: &mut Context<'_>) {
        for (name, group) in self.groups.iter_mut() {
            for (_, node, ()) in group.members.lost(session) {
                group.turn("leave", &name, &node, context);
            }
        }
    }

    fn describe(&self) -> Vec<(&'static str, Value)> {
        let waiting: usize = self.groups.iter().map(|(_, group)| group.waiting.len()).sum();
        vec![("groups", self.groups.len().into()), ("waiting", waiting.into())]
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
