//! A bank: accounts with a balance each, the example of the paper of 2012.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::given::Given;
use super::kept::{Key, key_error};
use super::repr::repr;
use super::table::Table;
use super::{decode, encode};
use crate::object::{Context, Interface, Method, Object, Reply};
use crate::value::{Arguments, Exception, Value};

/// The name of the class.
pub const CLASS: &str = "concoord.object.bank.Bank";

/// Accounts, by numbers or whatever else can be a key of a `dict`.
///
/// It takes as much memory as the accounts that clients open. Who watches it is told
/// `("balance", account, balance)` and `("close", account)`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Bank {
    balances: Table<f64>,
}

static INTERFACE: LazyLock<Interface> = LazyLock::new(|| Interface {
    class: CLASS.into(),
    doc: "A bank: accounts with a balance each, never below 0.".into(),
    methods: vec![
        Method::new("__concoordinit__", "Start anew, without accounts."),
        account("open", "Open an account with balance 0.0; return False if it is open already.")
            .returns("bool"),
        account("close", "Close an account and return True; raise KeyError if there is none.")
            .returns("bool"),
        account("deposit", "Add `amount` to an account and return its balance.")
            .takes("amount", "float", None)
            .returns("float"),
        account(
            "debit",
            "Take `amount` from an account and return its balance; False if it has less.",
        )
        .takes("amount", "float", None)
        .returns("float"),
        account("balance", "Return the balance of an account.").returns("float").reads(),
        Method::new("__str__", "Return all balances, as the str of a dict.").returns("str").reads(),
    ],
});

fn account(name: &str, doc: &str) -> Method {
    Method::new(name, doc).takes("accntno", "object", None)
}

impl Bank {
    /// Makes an account's balance what it comes to with `amount` more; `None` if it would be
    /// below 0.
    fn add(
        &mut self,
        account: &Value,
        amount: f64,
        context: &mut Context<'_>,
    ) -> Result<Option<f64>, Exception> {
        let missing = || key_error(account);
        let balance = self.balances.get_mut(&Key::of(account)?).ok_or_else(missing)?;
        let after = *balance + amount;
        if after < 0.0 {
            return Ok(None);
        }
        if after.is_infinite() {
            let words = "the balance would be infinite";
            return Err(Exception::builtin("OverflowError", words));
        }
        *balance = after;
        context.tell(Value::Tuple(vec!["balance".into(), account.clone(), Value::Float(after)]));
        Ok(Some(after))
    }

    fn close(&mut self, account: &Value, context: &mut Context<'_>) -> Result<(), Exception> {
        let closed = self.balances.remove(&Key::of(account)?, context);
        closed.ok_or_else(|| key_error(account))?;
        context.tell(Value::Tuple(vec!["close".into(), account.clone()]));
        Ok(())
    }
}

/// An amount of money, which is no debt.
fn amount(given: &Given<'_>) -> Result<f64, Exception> {
    let amount = given.float(1)?;
    if amount.is_finite() && amount >= 0.0 {
        return Ok(amount);
    }
    let words = "'amount' must be a non-negative number";
    Err(Exception::builtin("ValueError", words))
}

impl Object for Bank {
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
        Ok(Reply::Value(match method {
            "open" => {
                let key = Key::of(given.required(0))?;
                let is_new = self.balances.get(&key).is_none();
                if is_new {
                    self.balances.put(key, 0.0, None, context);
                    self.add(given.required(0), 0.0, context)?;
                }
                is_new.into()
            }
            "close" => {
                self.close(given.required(0), context)?;
                Value::Bool(true)
            }
            "deposit" | "debit" => {
                let sign = if method == "debit" { -1.0 } else { 1.0 };
                let after = self.add(given.required(0), sign * amount(&given)?, context)?;
                after.map_or(Value::Bool(false), Value::Float)
            }
            _ => {
                for account in self.balances.keys() {
                    context.tell(Value::Tuple(vec!["close".into(), account]));
                }
                self.balances.clear(context);
                Value::None
            }
        }))
    }

    fn read(&self, method: &str, arguments: &Arguments) -> Result<Value, Exception> {
        let given = INTERFACE.given(method, arguments)?;
        if method == "balance" {
            let account = given.required(0);
            let balance = self.balances.get(&Key::of(account)?);
            return Ok(Value::Float(*balance.ok_or_else(|| key_error(account))?));
        }
        let all = self.balances.iter().map(|(account, balance)| (account, Value::Float(*balance)));
        Ok(Value::Str(repr(&Value::Map(all.collect()))))
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

    #[test]
    fn only_what_is_there_can_be_taken() {
        let mut stage = Stage::new(Bank::default());
        let mut call = |method: &str, amount: Option<f64>| {
            let mut given = vec![Value::Int(7)];
            given.extend(amount.map(Value::Float));
            stage.call(caller(1), method, given).unwrap()
        };
        let missing = call("deposit", Some(1.0)).unwrap_err();
        assert_eq!((missing.name.as_str(), missing.args), ("KeyError", vec![Value::Int(7)]));
        assert_eq!(call("open", None), Ok(Value::Bool(true)));
        assert_eq!(call("open", None), Ok(Value::Bool(false)));
        assert_eq!(call("deposit", Some(10.0)), Ok(Value::Float(10.0)));
        assert_eq!(call("debit", Some(50.0)), Ok(Value::Bool(false)));
        assert_eq!(call("debit", Some(4.5)), Ok(Value::Float(5.5)));
        assert_eq!(call("balance", None), Ok(Value::Float(5.5)));
        assert_eq!(call("__str__", None).unwrap_err().name, "TypeError");
        for amount in [-1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(call("deposit", Some(amount)).unwrap_err().name, "ValueError");
        }
        assert_eq!(call("deposit", Some(f64::MAX)), Ok(Value::Float(f64::MAX)));
        assert_eq!(call("deposit", Some(f64::MAX)).unwrap_err().name, "OverflowError");
        assert_eq!(call("close", None), Ok(Value::Bool(true)));
        assert_eq!(call("close", None).unwrap_err().name, "KeyError");
        assert_eq!(stage.returns(caller(1), "__str__", vec![]), Value::from("{}"));
    }
}
