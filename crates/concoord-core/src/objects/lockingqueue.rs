//! A queue whose items are leased until their taker says that they are done with.

use std::collections::{BTreeMap, VecDeque};
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::given::{Given, Seconds};
use super::kept::Kept;
use super::queue::{empty, patience};
use super::{decode, encode};
use crate::call::{CallId, SessionId};
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.lockingqueue.LockingQueue";

/// A queue that loses no item to a client that dies. `get` leases an item; it is gone when it is
/// consumed, and back in its old place when it is released, when the lease is over or when the
/// session ends that has it. The id of a lease is a fencing token.
///
/// It takes as much memory as what clients put into it and do not consume. Who watches it is told
/// `("put", token)` for each item that comes or comes back, with the token of the lease that it
/// had, 0 without one; `("get", token)` for each that is leased; `("consume", token)`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockingQueue {
    /// By their numbers, in the order of which they are given out.
    free: BTreeMap<u64, Kept>,
    put: u64,
    leased: BTreeMap<u64, Lease>,
    getting: VecDeque<(CallId, Option<u64>)>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    session: SessionId,
    number: u64,
    item: Kept,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    class: CLASS.into(),
    doc: "A queue whose items are leased until they are consumed.".into(),
    methods: vec![
        Method::new(
            "__concoordinit__",
            "Start anew, empty; leases are over, who waits for an item goes on waiting.",
        ),
        Method::new("put", "Put `item`.").takes("item", "object", None),
        Method::new("put_all", "Put the items of a list or tuple, in their order.").takes(
            "items",
            "list[Any] | tuple[Any, ...]",
            None,
        ),
        Method::new(
            "get",
            "Lease the next item: return the id of the lease, which is a fencing token, and the \
             item. If there is none, wait, for `timeout` seconds at most if that is given; raise \
             queue.Empty without one then, or at once if not `block`. The lease is over after \
             `lease` seconds if that is given, and with the session.",
        )
        .takes("block", "bool", Some("True"))
        .takes("timeout", "float | None", Some("None"))
        .takes("lease", "float | None", Some("None"))
        .returns("tuple[int, Any]"),
        about_lease("holds", "Return whether that lease is not over.").reads(),
        about_lease("consume", "Remove the item; return False, and do not, if the lease is over."),
        about_lease("ack", "Remove the item, as `consume` does."),
        about_lease(
            "release",
            "Put the item back in its place; return False, and do not, if the lease is over.",
        ),
        about_lease("renew", "Have the lease last for `lease` seconds more, or for the session.")
            .takes("lease", "float | None", Some("None")),
        Method::new("qsize", "Return how many items can be had.").returns("int").reads(),
        Method::new("empty", "Return whether none can be had.").returns("bool").reads(),
        Method::new("leases", "Return how many items are leased.").returns("int").reads(),
        Method::new("__len__", "Return how many items there are, leased or not.")
            .returns("int")
            .reads(),
    ],
});

fn about_lease(name: &str, doc: &str) -> Method {
    Method::new(name, doc).takes("token", "int", None).returns("bool")
}

impl LockingQueue {
    fn get(&mut self, given: &Given<'_>, context: &mut Context<'_>) -> Result<Reply, Exception> {
        let (patience, ms) = (patience(given, 0)?, lease_ms(given, 2)?);
        // Nobody waits while there is an item.
        if let Some((number, item)) = self.free.pop_first() {
            let session = context.caller.session;
            return Ok(Reply::Value(self.lease(Lease { session, number, item }, ms, context)));
        }
        let Some(wait) = patience else { return Err(empty()) };
        self.getting.push_back((context.call, ms));
        Ok(Reply::Parked { until: wait.map(|wait| context.after(wait)) })
    }

    fn lease(&mut self, lease: Lease, ms: Option<u64>, context: &mut Context<'_>) -> Value {
        let token = context.token();
        let item = lease.item.value();
        context.hold(lease.session);
        if let Some(ms) = ms {
            context.bell(token, context.after(ms));
        }
        self.leased.insert(token, lease);
        tell("get", token, context);
        Value::Tuple(vec![token.into(), item])
    }

    fn add(&mut self, item: Kept, context: &mut Context<'_>) {
        self.put += 1;
        self.come(self.put, item, 0, context);
    }

    /// An item comes, or comes back.
    fn come(&mut self, number: u64, item: Kept, token: u64, context: &mut Context<'_>) {
        tell("put", token, context);
        let Some((call, ms)) = self.getting.pop_front() else {
            self.free.insert(number, item);
            return;
        };
        let leased = self.lease(Lease { session: call.session, number, item }, ms, context);
        context.answer(call, Ok(leased));
    }

    /// Ends a lease, whose session goes on.
    fn end(&mut self, token: u64, context: &mut Context<'_>) -> Option<Lease> {
        let lease = self.leased.remove(&token)?;
        context.hush(token);
        context.free(lease.session);
        Some(lease)
    }

    fn give_back(&mut self, token: u64, context: &mut Context<'_>) -> bool {
        let ended = self.end(token, context);
        let was_leased = ended.is_some();
        if let Some(lease) = ended {
            self.come(lease.number, lease.item, token, context);
        }
        was_leased
    }

    fn start_anew(&mut self, context: &mut Context<'_>) {
        self.free.clear();
        for (token, lease) in std::mem::take(&mut self.leased) {
            context.hush(token);
            context.free(lease.session);
        }
    }
}

fn tell(change: &str, token: u64, context: &mut Context<'_>) {
    context.tell(Value::Tuple(vec![change.into(), token.into()]));
}

/// The token that a method was given; 0, which is none, for an int that can't be one.
fn token(given: &Given<'_>) -> Result<u64, Exception> {
    Ok(given.int(0)?.and_then(|int| u64::try_from(int).ok()).unwrap_or(0))
}

/// For how long an item is leased; `None` for as long as the session lives.
fn lease_ms(given: &Given<'_>, at: usize) -> Result<Option<u64>, Exception> {
    Ok(match given.seconds(at)? {
        None | Some(Seconds::Forever) => None,
        Some(Seconds::Ms(ms)) if ms > 0 => Some(ms),
        Some(Seconds::Ms(_) | Seconds::MinusOne | Seconds::Negative) => {
            let words = "'lease' must be a positive number of seconds";
            return Err(Exception::builtin("ValueError", words));
        }
    })
}

impl Object for LockingQueue {
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
        Ok(Reply::Value(match method {
            "get" => return self.get(&given, context),
            "put" => {
                self.add(Kept::of(given.required(0))?, context);
                Value::None
            }
            "put_all" => {
                let items = given.items(0)?.iter().map(Kept::of).collect::<Result<Vec<_>, _>>()?;
                for item in items {
                    self.add(item, context);
                }
                Value::None
            }
            "consume" | "ack" => {
                let token = token(&given)?;
                let consumed = self.end(token, context).is_some();
                if consumed {
                    tell("consume", token, context);
                }
                Value::Bool(consumed)
            }
            "release" => Value::Bool(self.give_back(token(&given)?, context)),
            "renew" => {
                let (token, ms) = (token(&given)?, lease_ms(&given, 1)?);
                let is_leased = self.leased.contains_key(&token);
                match ms.filter(|_| is_leased) {
                    Some(ms) => context.bell(token, context.after(ms)),
                    None if is_leased => context.hush(token),
                    None => {}
                }
                Value::Bool(is_leased)
            }
            "__concoordinit__" => {
                self.start_anew(context);
                Value::None
            }
            _ => return self.read(method, arguments).map(Reply::Value),
        }))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        let given = INTERFACE.given(method, arguments)?;
        Ok(match method {
            "holds" => Value::Bool(self.guards(token(&given)?)),
            "qsize" => self.free.len().into(),
            "empty" => Value::Bool(self.free.is_empty()),
            "leases" => self.leased.len().into(),
            _ => (self.free.len() + self.leased.len()).into(),
        })
    }

    fn timed_out(&mut self, parked: CallId, context: &mut Context<'_>) -> Result<Value, Exception> {
        self.cancelled(parked, context);
        Err(empty())
    }

    fn cancelled(&mut self, parked: CallId, _: &mut Context<'_>) {
        self.getting.retain(|(call, _)| *call != parked);
    }

    fn lost(&mut self, session: SessionId, context: &mut Context<'_>) {
        let (lost, kept) = std::mem::take(&mut self.leased)
            .into_iter()
            .partition(|(_, lease)| lease.session == session);
        self.leased = kept;
        // In the order of the items, so that who waits gets the first of them first.
        let mut lost: Vec<(u64, Lease)> = BTreeMap::into_iter(lost).collect();
        lost.sort_by_key(|(_, lease)| lease.number);
        for (token, lease) in lost {
            context.hush(token);
            self.come(lease.number, lease.item, token, context);
        }
    }

    fn ring(&mut self, token: u64, context: &mut Context<'_>) {
        self.give_back(token, context);
    }

    fn guards(&self, token: u64) -> bool {
        self.leased.contains_key(&token)
    }

    fn describe(&self) -> Vec<(&'static str, Value)> {
        let leased = self
            .leased
            .iter()
            .map(|(token, lease)| Value::Tuple(vec![(*token).into(), lease.session.0.into()]));
        vec![
            ("items", self.free.len().into()),
            ("leases and their sessions", Value::List(leased.collect())),
            ("waiting", self.getting.len().into()),
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
mod tests;
