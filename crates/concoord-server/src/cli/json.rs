//! Values as JSON and back.
//!
//! What JSON has is itself. What it lacks is an object with one key that starts with `$`:
//! `{"$tuple": [1, 2]}`, `{"$bytes": "00ff"}`, `{"$int": "18446744073709551616"}` …; the table is
//! in `docs/reference/cli.md`. Reading takes all that writing gives.

use std::str::FromStr;

use concoord_core::value::{Arguments, Exception, Value};
use num_bigint::BigInt;
use serde_json::{Map, Value as Json, json};

/// The value as JSON.
pub(crate) fn to_json(value: &Value) -> Json {
    match value {
        Value::None => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Int(value) => json!(value),
        Value::BigInt(value) => json!({ "$int": value.to_string() }),
        Value::Float(value) if value.is_finite() => json!(value),
        Value::Float(value) => json!({ "$float": value.to_string() }),
        Value::Str(value) => json!(value),
        Value::Bytes(value) => json!({ "$bytes": hex(value) }),
        Value::List(items) => array(items),
        Value::Tuple(items) => json!({ "$tuple": array(items) }),
        Value::Map(pairs) => map(pairs),
        Value::Set(items) => json!({ "$set": array(items) }),
        Value::FrozenSet(items) => json!({ "$frozenset": array(items) }),
        Value::DateTime(text) => json!({ "$datetime": text }),
        Value::Date(text) => json!({ "$date": text }),
        Value::Time(text) => json!({ "$time": text }),
        Value::TimeDelta { days, seconds, microseconds } => {
            json!({ "$timedelta": [days, seconds, microseconds] })
        }
        Value::Decimal(text) => json!({ "$decimal": text }),
        Value::Uuid(bytes) => json!({ "$uuid": uuid(bytes) }),
        Value::Complex(re, im) => {
            json!({ "$complex": [to_json(&Value::Float(*re)), to_json(&Value::Float(*im))] })
        }
        Value::Exception(exception) => json!({ "$exception": exception_to_json(exception) }),
    }
}

/// The exception as JSON, without the `$`.
pub(crate) fn exception_to_json(exception: &Exception) -> Json {
    json!({
        "module": exception.module,
        "name": exception.name,
        "args": array(&exception.args),
        "traceback": exception.traceback,
    })
}

/// The arguments that a command line gives: an array by position, an object by name.
pub(crate) fn arguments(text: &str) -> Result<Arguments, String> {
    let json: Json = serde_json::from_str(text).map_err(|error| {
        format!("the arguments are no JSON ({error}): write an array like '[1, \"a\"]'")
    })?;
    match json {
        Json::Array(items) => Ok(Arguments { positional: values(&items)?, keyword: Vec::new() }),
        Json::Object(pairs) => {
            let keyword = pairs.iter().map(|(name, value)| Ok((name.clone(), from_json(value)?)));
            Ok(Arguments {
                positional: Vec::new(),
                keyword: keyword.collect::<Result<_, String>>()?,
            })
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => Err(format!(
            "the arguments are an array by position or an object by name: write '[{text}]'"
        )),
    }
}

/// The value that JSON stands for.
pub(crate) fn from_json(json: &Json) -> Result<Value, String> {
    Ok(match json {
        Json::Null => Value::None,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(int), _, _) => Value::Int(int),
            (_, Some(int), _) => Value::from(BigInt::from(int)),
            (_, _, Some(float)) => Value::Float(float),
            (None, None, None) => return Err(format!("{number} is out of range")),
        },
        Json::String(text) => Value::Str(text.clone()),
        Json::Array(items) => Value::List(values(items)?),
        Json::Object(pairs) => match single(pairs) {
            Some((kind, inner)) => special(kind, inner)?,
            None => Value::Map(
                pairs
                    .iter()
                    .map(|(key, value)| Ok((Value::Str(key.clone()), from_json(value)?)))
                    .collect::<Result<_, String>>()?,
            ),
        },
    })
}

/// The kind and content of an object that stands for what JSON lacks.
fn single(pairs: &Map<String, Json>) -> Option<(&str, &Json)> {
    let mut all = pairs.iter();
    let (key, value) = all.next()?;
    if all.next().is_some() { None } else { Some((key.strip_prefix('$')?, value)) }
}

fn special(kind: &str, json: &Json) -> Result<Value, String> {
    let wrong = || format!("{json} is no ${kind}");
    let text = || json.as_str().map(str::to_owned).ok_or_else(wrong);
    let items = || values(json.as_array().ok_or_else(wrong)?);
    Ok(match kind {
        "int" => Value::from(BigInt::from_str(&text()?).map_err(|_| wrong())?),
        "float" => Value::Float(text()?.parse().map_err(|_| wrong())?),
        "bytes" => Value::Bytes(unhex(&text()?).ok_or_else(wrong)?),
        "tuple" => Value::Tuple(items()?),
        "set" => Value::Set(items()?),
        "frozenset" => Value::FrozenSet(items()?),
        "map" => Value::Map(pairs(&items()?).ok_or_else(wrong)?),
        "datetime" => Value::DateTime(text()?),
        "date" => Value::Date(text()?),
        "time" => Value::Time(text()?),
        "decimal" => Value::Decimal(text()?),
        "timedelta" => match *items()? {
            [Value::Int(days), Value::Int(seconds), Value::Int(microseconds)] => {
                Value::TimeDelta { days, seconds, microseconds }
            }
            _ => return Err(wrong()),
        },
        "uuid" => {
            let bytes = unhex(&text()?.replace('-', "")).ok_or_else(wrong)?;
            Value::Uuid(bytes.try_into().map_err(|_| wrong())?)
        }
        "complex" => match &*items()? {
            [re, im] => Value::Complex(float(re).ok_or_else(wrong)?, float(im).ok_or_else(wrong)?),
            _ => return Err(wrong()),
        },
        "exception" => Value::Exception(Box::new(exception(json).ok_or_else(wrong)?)),
        other => return Err(format!("${other} is no kind of value")),
    })
}

fn exception(json: &Json) -> Option<Exception> {
    let text = |key: &str| json.get(key)?.as_str().map(str::to_owned);
    Some(Exception {
        module: text("module")?,
        name: text("name")?,
        args: values(json.get("args")?.as_array()?).ok()?,
        traceback: text("traceback").unwrap_or_default(),
    })
}

fn values(items: &[Json]) -> Result<Vec<Value>, String> {
    items.iter().map(from_json).collect()
}

fn pairs(items: &[Value]) -> Option<Vec<(Value, Value)>> {
    let pair = |item: &Value| {
        let Value::List(pair) = item else { return None };
        let [key, value] = &**pair else { return None };
        Some((key.clone(), value.clone()))
    };
    items.iter().map(pair).collect()
}

fn float(value: &Value) -> Option<f64> {
    if let Value::Float(float) = value { Some(*float) } else { None }
}

fn array(items: &[Value]) -> Json {
    Json::Array(items.iter().map(to_json).collect())
}

/// A JSON object where the keys are distinct strings and it can't be taken for something else.
fn map(pairs: &[(Value, Value)]) -> Json {
    let mut object = Map::new();
    for (key, value) in pairs {
        if let Value::Str(key) = key {
            object.insert(key.clone(), to_json(value));
        }
    }
    if object.len() == pairs.len() && single(&object).is_none() {
        return Json::Object(object);
    }
    let pairs = pairs.iter().map(|(key, value)| json!([to_json(key), to_json(value)]));
    json!({ "$map": pairs.collect::<Vec<_>>() })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u32>> = text.chars().map(|c| c.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    digits.chunks(2).map(|pair| u8::try_from(pair.iter().fold(0, |n, d| n * 16 + d)).ok()).collect()
}

fn uuid(bytes: &[u8; 16]) -> String {
    let digits = hex(bytes);
    let (a, rest) = digits.split_at(8);
    let (b, rest) = rest.split_at(4);
    let (c, rest) = rest.split_at(4);
    let (d, e) = rest.split_at(4);
    format!("{a}-{b}-{c}-{d}-{e}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_value_comes_back_as_it_went() {
        let kinds = Value::List(vec![
            Value::None,
            Value::Bool(true),
            Value::Int(-7),
            Value::from(BigInt::from(u64::MAX)),
            Value::from(-(BigInt::from(1_u8) << 80_u8)),
            Value::Float(1.5),
            Value::Float(2.0),
            Value::Float(f64::NEG_INFINITY),
            Value::Str("ü\n".into()),
            Value::Bytes(vec![0, 255]),
            Value::Tuple(vec![Value::Int(1), Value::List(vec![])]),
            Value::Map(vec![]),
            Value::Map(vec![
                (Value::Str("z".into()), Value::Int(1)),
                (Value::Str("a".into()), Value::None),
            ]),
            Value::Map(vec![(Value::Int(1), Value::Str("one".into()))]),
            Value::Map(vec![(Value::Str("$tuple".into()), Value::List(vec![]))]),
            Value::Set(vec![Value::Int(1)]),
            Value::FrozenSet(vec![Value::Str("a".into())]),
            Value::DateTime("2026-11-22T10:00:00".into()),
            Value::Date("2026-11-22".into()),
            Value::Time("10:00:00".into()),
            Value::TimeDelta { days: -1, seconds: 5, microseconds: 6 },
            Value::Decimal("1.10".into()),
            Value::Uuid([7; 16]),
            Value::Complex(1.0, -2.5),
            Value::Exception(Box::new(Exception::builtin("KeyError", "k"))),
        ]);
        assert_eq!(from_json(&to_json(&kinds)).unwrap(), kinds);
    }

    #[test]
    fn text_in_between_changes_nothing() {
        let value = Value::Map(vec![
            (Value::Str("z".into()), Value::Float(3.0)),
            (Value::Str("a".into()), Value::Uuid(*b"0123456789abcdef")),
        ]);
        let text = to_json(&value).to_string();
        assert_eq!(text, r#"{"z":3.0,"a":{"$uuid":"30313233-3435-3637-3839-616263646566"}}"#);
        assert_eq!(from_json(&serde_json::from_str(&text).unwrap()).unwrap(), value);
    }

    #[test]
    fn arguments_are_an_array_or_an_object() {
        assert_eq!(arguments("[1]").unwrap().positional, [Value::Int(1)]);
        assert_eq!(arguments(r#"{"by": 2}"#).unwrap().keyword, [("by".into(), Value::Int(2))]);
        assert_eq!(
            arguments("5").unwrap_err(),
            "the arguments are an array by position or an object by name: write '[5]'"
        );
        assert!(arguments("[").unwrap_err().starts_with("the arguments are no JSON"));
    }

    #[test]
    fn what_is_no_value_is_refused() {
        for text in [
            r#"{"$uuid": "12"}"#,
            r#"{"$bytes": "0"}"#,
            r#"{"$bytes": "zz"}"#,
            r#"{"$what": 1}"#,
            r#"{"$map": [[1]]}"#,
            r#"{"$timedelta": [1, 2]}"#,
            r#"{"$exception": {}}"#,
        ] {
            assert!(from_json(&serde_json::from_str(text).unwrap()).is_err(), "{text}");
        }
    }
}
