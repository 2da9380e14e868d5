//! The object of the simulated clusters.

use std::sync::{Arc, LazyLock, Mutex};

use concoord_core::object::{Context, Interface, Method, Object, Reply};
use concoord_core::value::{Arguments, Exception, Value};

/// The list that clients append to. The world can look into it.
pub(crate) struct List(pub(crate) Arc<Mutex<Vec<i64>>>);

pub(crate) static LIST: LazyLock<Interface> = LazyLock::new(|| {
    let method =
        |name: &str, read_only| Method { name: name.into(), read_only, ..Method::default() };
    let methods = vec![method("append", false), method("length", true)];
    Interface { class: "test.List".into(), doc: String::new(), methods }
});

impl Object for List {
    fn interface(&self) -> &'static Interface {
        &LIST
    }

    fn apply(
        &mut self,
        _: &str,
        arguments: &Arguments,
        _: &mut Context<'_>,
    ) -> Result<Reply, Exception> {
        match arguments.positional.first() {
            Some(Value::Int(item)) => {
                let mut list = self.0.lock().unwrap();
                list.push(*item);
                Ok(Reply::Value(Value::Int(list.len() as i64 - 1)))
            }
            _ => Err(Exception::builtin("TypeError", "an int is appended")),
        }
    }

    fn read(&self, _: &str, _: &Arguments) -> Result<Value, Exception> {
        Ok(Value::Int(self.0.lock().unwrap().len() as i64))
    }

    fn snapshot(&self) -> Vec<u8> {
        self.0.lock().unwrap().iter().flat_map(|item| item.to_le_bytes()).collect()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), String> {
        *self.0.lock().unwrap() =
            snapshot.chunks(8).map(|item| i64::from_le_bytes(item.try_into().unwrap())).collect();
        Ok(())
    }
}
