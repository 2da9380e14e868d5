//! A dict.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::given::{Given, Seconds};
use super::kept::{Kept, Key, key_error};
use super::repr::repr;
use super::table::Table;
use super::{decode, encode};
use crate::call::SessionId;
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.map.Map";

/// Keys with a value each, in order of insertion, as Python's `dict` has them.
///
/// A key may be put for as long as the session lives that puts it, or for a time. The map takes as
/// much memory as what clients put into it. Who watches it is told `("put", key, value)` and
/// `("remove", key)`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Map {
    entries: Table<Item>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Item {
    value: Kept,
    /// A bell rings when its time is over: that of its entry's number.
    ends: bool,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    class: CLASS.into(),
    doc: "A dict; 1, 1.0 and True are one key.".into(),
    methods: [changing(), reading()].concat(),
});

fn of_key(name: &str, doc: &str) -> Method {
    Method::new(name, doc).takes("key", "object", None)
}

fn of_both(name: &str, doc: &str) -> Method {
    of_key(name, doc).takes("value", "object", None)
}

fn lasting_put(name: &str, doc: &str) -> Method {
    of_both(name, doc)
        .takes("ephemeral", "bool", Some("False"))
        .takes("ttl", "float | None", Some("None"))
        .returns("Any")
}

/// The methods that change the map.
fn changing() -> Vec<Method> {
    vec![
        Method::new("__concoordinit__", "Start anew, with the items of `items`.").takes(
            "items",
            "dict[Any, Any] | None",
            Some("None"),
        ),
        lasting_put(
            "put",
            "Set the value of a key and return what it was, or None. An ephemeral key is removed \
             when the session of the caller ends, one with a `ttl` after so many seconds; another \
             `put` makes it what that says.",
        ),
        lasting_put(
            "put_if_absent",
            "Set the value of a key that is not there and return None, or return what it has.",
        ),
        of_both("replace", "Set the value of a key that is there; return whether it is.")
            .returns("bool"),
        of_key(
            "compare_and_set",
            "Set the value of a key if it is `expected`; return whether it was. It must be so in \
             type as well: 1 is neither 1.0 nor True.",
        )
        .takes("expected", "object", None)
        .takes("new", "object", None)
        .returns("bool"),
        of_key("remove", "Remove a key and return what it had, or None if it is not there.")
            .returns("Any"),
        of_key(
            "pop",
            "Remove a key and return what it had, or `default`; raise KeyError without either.",
        )
        .takes("default", "object", Some("..."))
        .returns("Any"),
        of_key("setdefault", "Return the value of a key, set to `default` if it was not there.")
            .takes("default", "object", Some("None"))
            .returns("Any"),
        Method::new("update", "Set the values of all keys of a dict.").takes(
            "items",
            "dict[Any, Any]",
            None,
        ),
        Method::new("clear", "Remove all keys."),
    ]
}

/// The methods that leave it as it is.
fn reading() -> Vec<Method> {
    let list = |name: &str, doc: &str| Method::new(name, doc).returns("list[Any]").reads();
    let size =
        |name: &str| Method::new(name, "Return how many keys there are.").returns("int").reads();
    let contains =
        |name: &str| of_key(name, "Return whether the key is there.").returns("bool").reads();
    vec![
        of_key("get", "Return the value of a key, or `default`.")
            .takes("default", "object", Some("None"))
            .returns("Any")
            .reads(),
        list("keys", "Return the keys."),
        list("values", "Return the values."),
        list("items", "Return the keys with their values.").returns("list[tuple[Any, Any]]"),
        contains("contains"),
        size("size"),
        of_key("__getitem__", "Return the value of a key, or raise KeyError.")
            .returns("Any")
            .reads(),
        size("__len__"),
        contains("__contains__"),
        Method::new("__str__", "Return the items, as the str of a dict.").returns("str").reads(),
    ]
}

/// For how long a key is put.
#[derive(Clone, Copy, Default)]
struct Lasting {
    owner: Option<SessionId>,
    ms: Option<u64>,
}

impl Map {
    fn put(
        &mut self,
        (key, value): (Key, Kept),
        lasting: Lasting,
        context: &mut Context<'_>,
    ) -> Option<Kept> {
        context.tell(Value::Tuple(vec!["put".into(), key.given.value(), value.value()]));
        let (item, id) = (Item { value, ends: lasting.ms.is_some() }, key.clone());
        let before = self.entries.put(key, item, lasting.owner, context);
        let number = self.entries.number(&id).unwrap_or_default();
        match lasting.ms {
            Some(ms) => context.bell(number, context.after(ms)),
            None if before.as_ref().is_some_and(|item| item.ends) => context.hush(number),
            None => {}
        }
        before.map(|item| item.value)
    }

    /// Sets the value of a key that is there, which lasts as long as before.
    fn replace(&mut self, key: &Key, value: Kept, context: &mut Context<'_>) -> bool {
        let Some(item) = self.entries.get_mut(key) else { return false };
        context.tell(Value::Tuple(vec!["put".into(), key.given.value(), value.value()]));
        item.value = value;
        true
    }

    fn remove(&mut self, key: &Key, context: &mut Context<'_>) -> Option<Kept> {
        let number = self.entries.number(key)?;
        let item = self.entries.remove(key, context)?;
        gone(number, &key.given.value(), &item, context);
        Some(item.value)
    }

    fn clear(&mut self, context: &mut Context<'_>) {
        for (number, key, item) in self.entries.numbered() {
            gone(number, &key, item, context);
        }
        self.entries.clear(context);
    }

    fn value(&self, given: &Given<'_>) -> Result<Option<Value>, Exception> {
        let item = self.entries.get(&Key::of(given.required(0))?);
        Ok(item.map(|item| item.value.value()))
    }

    fn all(&self) -> impl Iterator<Item = (Value, Value)> {
        self.entries.iter().map(|(key, item)| (key, item.value.value()))
    }

    fn change(
        &mut self,
        method: &str,
        given: &Given<'_>,
        context: &mut Context<'_>,
    ) -> Result<Value, Exception> {
        let key = Key::of(given.required(0))?;
        let value = |at| Kept::of(given.value(at).unwrap_or(&Value::None));
        let or_none = |value: Option<Kept>| value.map_or(Value::None, |value| value.value());
        let there = self.entries.get(&key).map(|item| item.value.value());
        Ok(match (method, there) {
            ("put", _) => {
                let (value, lasting) = (value(1)?, lasting(given, context)?);
                or_none(self.put((key, value), lasting, context))
            }
            ("put_if_absent", None) => {
                let (value, lasting) = (value(1)?, lasting(given, context)?);
                self.put((key, value), lasting, context);
                Value::None
            }
            ("setdefault", None) => {
                let value = value(1)?;
                self.put((key, value.clone()), Lasting::default(), context);
                value.value()
            }
            ("put_if_absent" | "setdefault", Some(there)) => there,
            ("replace", _) => Value::Bool(self.replace(&key, value(1)?, context)),
            ("compare_and_set", _) => {
                let (expected, new) = (value(1)?, value(2)?);
                let is_it = self.entries.get(&key).is_some_and(|item| item.value == expected);
                Value::Bool(is_it && self.replace(&key, new, context))
            }
            ("pop", None) => {
                return given.value(1).cloned().ok_or_else(|| key_error(given.required(0)));
            }
            _ => or_none(self.remove(&key, context)),
        })
    }
}

/// An entry is no more.
fn gone(number: u64, key: &Value, item: &Item, context: &mut Context<'_>) {
    if item.ends {
        context.hush(number);
    }
    context.tell(Value::Tuple(vec!["remove".into(), key.clone()]));
}

fn lasting(given: &Given<'_>, context: &Context<'_>) -> Result<Lasting, Exception> {
    let ms = match given.seconds(3)? {
        None | Some(Seconds::Forever) => None,
        Some(Seconds::Ms(ms)) if ms > 0 => Some(ms),
        Some(Seconds::Ms(_) | Seconds::MinusOne | Seconds::Negative) => {
            let words = "'ttl' must be a positive number of seconds";
            return Err(Exception::builtin("ValueError", words));
        }
    };
    Ok(Lasting { owner: given.truth(2, false).then_some(context.caller.session), ms })
}

/// The items of a dict.
fn items(given: &Given<'_>) -> Result<Vec<(Key, Kept)>, Exception> {
    let pairs = given.pairs(0)?.iter();
    pairs.map(|(key, value)| Ok((Key::of(key)?, Kept::of(value)?))).collect()
}

impl Object for Map {
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
        match method {
            "update" | "__concoordinit__" => {
                let items = items(&given)?;
                if method == "__concoordinit__" {
                    self.clear(context);
                }
                for item in items {
                    self.put(item, Lasting::default(), context);
                }
            }
            "clear" => self.clear(context),
            _ => return self.change(method, &given, context).map(Reply::Value),
        }
        Ok(Reply::Value(Value::None))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        let given = INTERFACE.given(method, arguments)?;
        let pair = |(key, value)| Value::Tuple(vec![key, value]);
        Ok(match method {
            "get" => self
                .value(&given)?
                .unwrap_or_else(|| given.value(1).cloned().unwrap_or(Value::None)),
            "__getitem__" => self.value(&given)?.ok_or_else(|| key_error(given.required(0)))?,
            "contains" | "__contains__" => {
                self.entries.get(&Key::of(given.required(0))?).is_some().into()
            }
            "keys" => Value::List(self.entries.keys().collect()),
            "values" => Value::List(self.all().map(|(_, value)| value).collect()),
            "items" => Value::List(self.all().map(pair).collect()),
            "__str__" => Value::Str(repr(&Value::Map(self.all().collect()))),
            _ => self.entries.len().into(),
        })
    }

    fn lost(&mut self, session: SessionId, context: &mut Context<'_>) {
        for (number, key, item) in self.entries.lost(session) {
            gone(number, &key, &item, context);
        }
    }

    fn ring(&mut self, number: u64, context: &mut Context<'_>) {
        if let Some((key, _)) = self.entries.remove_number(number, context) {
            context.tell(Value::Tuple(vec!["remove".into(), key]));
        }
    }

    fn describe(&self) -> Vec<(&'static str, Value)> {
        vec![("keys", self.entries.len().into())]
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
