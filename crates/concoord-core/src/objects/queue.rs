//! A queue, with the behaviour of Python's `queue.Queue`, and what other queues share with it.

use std::collections::VecDeque;
use std::sync::LazyLock;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::given::{Given, Seconds};
use super::kept::Kept;
use super::{decode, encode};
use crate::call::CallId;
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.queue.Queue";

/// In which order a queue gives out what is put into it.
pub(crate) trait Shelf: Default + Send + Serialize + DeserializeOwned {
    /// What is put.
    type Item: Clone + Send + Serialize + DeserializeOwned;

    /// The class.
    fn interface() -> &'static Interface;

    /// What a call of `put` brings.
    ///
    /// # Errors
    /// The exception that `put` raises.
    fn item(given: &Given<'_>, context: &Context<'_>) -> Result<Self::Item, Exception>;

    /// Adds it.
    ///
    /// # Errors
    /// The exception that `put` raises; nothing is added then.
    fn push(&mut self, item: Self::Item) -> Result<(), Exception>;

    /// Takes what comes next.
    fn pop(&mut self, clock_ms: u64) -> Option<Value>;

    /// How much is there, due or not.
    fn len(&self) -> usize;

    /// When the next thing is due, if it has to wait for its time.
    fn due(&self) -> Option<u64> {
        None
    }
}

/// A queue. Callers get what is put, and room to put, in the order of asking.
///
/// It takes as much memory as what clients put into it: `maxsize` items, or without end. Who
/// watches it is told `("put", size)` and `("get", size)`, the size being that after the change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound = "")]
pub(crate) struct Queue<S: Shelf> {
    maxsize: i64,
    shelf: S,
    /// Items that were put and not yet said to be done.
    unfinished: u64,
    /// Who waits for room, and with what.
    putting: VecDeque<(CallId, S::Item)>,
    getting: VecDeque<CallId>,
    joining: Vec<CallId>,
}

/// First in, first out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fifo(VecDeque<Kept>);

impl Shelf for Fifo {
    type Item = Kept;

    fn interface() -> &'static Interface {
        static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
            class: CLASS.into(),
            doc: "A queue: first in, first out.".into(),
            methods: methods(true),
        });
        &INTERFACE
    }

    fn item(given: &Given<'_>, _: &Context<'_>) -> Result<Kept, Exception> {
        Kept::of(given.required(0))
    }

    fn push(&mut self, item: Kept) -> Result<(), Exception> {
        self.0.push_back(item);
        Ok(())
    }

    fn pop(&mut self, _: u64) -> Option<Value> {
        self.0.pop_front().map(|item| item.value())
    }

    fn len(&self) -> usize {
        self.0.len()
    }
}

/// The methods of a queue: one whose size may have a limit, or whose items have a delay.
pub(super) fn methods(limited: bool) -> Vec<Method> {
    let size = |method: Method| {
        if limited { method.takes("maxsize", "int", Some("0")) } else { method }
    };
    let after = |method: Method| {
        if limited { method } else { method.takes("delay", "float", Some("0.0")) }
    };
    let wait = |method: Method| {
        let method = method.takes("block", "bool", Some("True"));
        method.takes("timeout", "float | None", Some("None"))
    };
    let (mut put, mut put_nowait) = (
        "Put `item`. If the queue is full, wait for room, for `timeout` seconds at most if that is \
         given; raise queue.Full without room then, or at once if not `block`.",
        "Put `item`, or raise queue.Full.",
    );
    if !limited {
        put = "Put `item`, to be had after `delay` seconds.";
        put_nowait = put;
    }
    let start = "Start anew, empty; who waits to get or to put goes on in the new queue.";
    let with_item = |name, doc| after(Method::new(name, doc).takes("item", "object", None));
    let get = "Take the next item and return it. If there is none, wait, for `timeout` seconds at \
               most if that is given; raise queue.Empty without one then, or at once if not `block`.";
    vec![
        size(Method::new("__concoordinit__", start)),
        if limited { wait(with_item("put", put)) } else { with_item("put", put) },
        with_item("put_nowait", put_nowait),
        wait(Method::new("get", get)).returns("Any"),
        Method::new("get_nowait", "Take the next item, or raise queue.Empty.").returns("Any"),
        Method::new("task_done", "Say that an item which was taken is done with."),
        Method::new("join", "Wait until all that was put has been done with."),
        Method::new("qsize", "Return how many items there are.").returns("int").reads(),
        Method::new("empty", "Return whether there is none.").returns("bool").reads(),
        Method::new("full", "Return whether there are `maxsize` of them.").returns("bool").reads(),
        Method::new("__len__", "Return how many items there are.").returns("int").reads(),
    ]
}

impl<S: Shelf> Default for Queue<S> {
    fn default() -> Self {
        Self {
            maxsize: 0,
            shelf: S::default(),
            unfinished: 0,
            putting: VecDeque::new(),
            getting: VecDeque::new(),
            joining: Vec::new(),
        }
    }
}

impl<S: Shelf> Queue<S> {
    fn is_full(&self) -> bool {
        usize::try_from(self.maxsize).is_ok_and(|most| most > 0 && self.shelf.len() >= most)
    }

    fn put(
        &mut self,
        item: S::Item,
        patience: Option<Option<u64>>,
        context: &mut Context<'_>,
    ) -> Result<Reply, Exception> {
        // Who waits for room has seen the queue full, and takes what room there is at once.
        if !self.is_full() {
            self.add(item, context)?;
            self.serve(context);
            return Ok(Reply::Value(Value::None));
        }
        let Some(ms) = patience else { return Err(full()) };
        self.putting.push_back((context.call, item));
        Ok(Reply::Parked { until: ms.map(|ms| context.after(ms)) })
    }

    fn get(
        &mut self,
        patience: Option<Option<u64>>,
        context: &mut Context<'_>,
    ) -> Result<Reply, Exception> {
        if self.getting.is_empty()
            && let Some(item) = self.take(context)
        {
            self.serve(context);
            return Ok(Reply::Value(item));
        }
        let Some(ms) = patience else { return Err(empty()) };
        self.getting.push_back(context.call);
        // Something may have become due since, and belongs to those who came first.
        self.serve(context);
        Ok(Reply::Parked { until: ms.map(|ms| context.after(ms)) })
    }

    fn add(&mut self, item: S::Item, context: &mut Context<'_>) -> Result<(), Exception> {
        self.shelf.push(item)?;
        self.unfinished += 1;
        self.tell("put", context);
        Ok(())
    }

    fn take(&mut self, context: &mut Context<'_>) -> Option<Value> {
        let item = self.shelf.pop(context.moment.clock_ms)?;
        self.tell("get", context);
        Some(item)
    }

    fn tell(&self, change: &str, context: &mut Context<'_>) {
        context.tell(Value::Tuple(vec![change.into(), self.shelf.len().into()]));
    }

    /// Gives items to those who wait for one, and room to those who wait to put one.
    fn serve(&mut self, context: &mut Context<'_>) {
        loop {
            if let Some(call) = self.getting.front().copied()
                && let Some(item) = self.take(context)
            {
                self.getting.pop_front();
                context.answer(call, Ok(item));
            } else if !self.is_full()
                && let Some((call, item)) = self.putting.pop_front()
            {
                let put = self.add(item, context);
                context.answer(call, put.map(|()| Value::None));
            } else {
                break;
            }
        }
        self.set_bell(context);
    }

    fn set_bell(&self, context: &mut Context<'_>) {
        if let Some(due) = self.shelf.due().filter(|_| !self.getting.is_empty()) {
            context.bell(0, due);
        }
    }

    fn task_done(&mut self, context: &mut Context<'_>) -> Result<(), Exception> {
        if self.unfinished == 0 {
            let words = "task_done() called too many times";
            return Err(Exception::builtin("ValueError", words));
        }
        self.unfinished -= 1;
        self.let_join(context);
        Ok(())
    }

    fn let_join(&mut self, context: &mut Context<'_>) {
        if self.unfinished == 0 {
            for call in self.joining.drain(..) {
                context.answer(call, Ok(Value::None));
            }
        }
    }
}

/// How long `put` and `get` wait, by their arguments from that place on: not at all, so many
/// milliseconds, or for ever.
///
/// # Errors
/// Python's `ValueError` for a negative timeout.
pub(super) fn patience(given: &Given<'_>, at: usize) -> Result<Option<Option<u64>>, Exception> {
    if !given.truth(at, true) {
        return Ok(None);
    }
    Ok(match given.seconds(at + 1)? {
        None | Some(Seconds::Forever) => Some(None),
        // Whoever has no time gets what is there, or nothing, at once.
        Some(Seconds::Ms(0)) => None,
        Some(Seconds::Ms(ms)) => Some(Some(ms)),
        Some(Seconds::MinusOne | Seconds::Negative) => {
            let words = "'timeout' must be a non-negative number";
            return Err(Exception::builtin("ValueError", words));
        }
    })
}

/// `queue.Empty()`.
pub(super) fn empty() -> Exception {
    Exception { args: vec![], ..Exception::of("queue", "Empty", "") }
}

/// `queue.Full()`.
fn full() -> Exception {
    Exception { args: vec![], ..Exception::of("queue", "Full", "") }
}

impl<S: Shelf> Object for Queue<S> {
    fn interface(&self) -> &'static Interface {
        S::interface()
    }

    fn apply(
        &mut self,
        method: &str,
        arguments: &Arguments,
        context: &mut Context<'_>,
    ) -> Result<Reply, Exception> {
        let given = S::interface().given(method, arguments)?;
        match method {
            "put" => {
                let item = S::item(&given, context)?;
                // As in Python, whose queues without an end don't look at the timeout.
                let limited = self.maxsize > 0;
                let patience = if limited { patience(&given, 1)? } else { None };
                return self.put(item, patience, context);
            }
            "put_nowait" => return self.put(S::item(&given, context)?, None, context),
            "get" => return self.get(patience(&given, 0)?, context),
            "get_nowait" => return self.get(None, context),
            "task_done" => self.task_done(context)?,
            "join" if self.unfinished > 0 => {
                self.joining.push(context.call);
                return Ok(Reply::Parked { until: None });
            }
            "join" => {}
            "__concoordinit__" => {
                let maxsize = given.small_int(0)?.unwrap_or(0);
                (self.maxsize, self.shelf, self.unfinished) = (maxsize, S::default(), 0);
                self.serve(context);
                self.let_join(context);
            }
            _ => return self.read(method, arguments).map(Reply::Value),
        }
        Ok(Reply::Value(Value::None))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        S::interface().given(method, arguments)?;
        Ok(match method {
            "empty" => Value::Bool(self.shelf.len() == 0),
            "full" => Value::Bool(self.is_full()),
            _ => Value::from(self.shelf.len()),
        })
    }

    fn timed_out(&mut self, parked: CallId, context: &mut Context<'_>) -> Result<Value, Exception> {
        let was_getting = self.getting.contains(&parked);
        self.cancelled(parked, context);
        Err(if was_getting { empty() } else { full() })
    }

    fn cancelled(&mut self, parked: CallId, _: &mut Context<'_>) {
        self.putting.retain(|(call, _)| *call != parked);
        self.getting.retain(|call| *call != parked);
        self.joining.retain(|call| *call != parked);
    }

    fn ring(&mut self, _: u64, context: &mut Context<'_>) {
        self.serve(context);
    }

    fn describe(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("items", self.shelf.len().into()),
            ("unfinished", self.unfinished.into()),
            ("waiting to get", self.getting.len().into()),
            ("waiting to put", self.putting.len().into()),
            ("waiting to join", self.joining.len().into()),
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
