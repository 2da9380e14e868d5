//! Values in words, as Python's `repr` has them.

use crate::value::Value;

/// The value as Python would write it. What takes an import there is written by its class and its
/// text, as in `Decimal('1.5')`.
pub(crate) fn repr(value: &Value) -> String {
    match value {
        Value::None => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Int(int) => int.to_string(),
        // Its digits would take time that grows as their square.
        Value::BigInt(int) if int.bits() > 14_000 => "<an int of more than 14000 bits>".into(),
        Value::BigInt(int) => int.to_string(),
        Value::Float(float) => of_float(*float),
        Value::Str(text) => quoted(text),
        Value::Bytes(bytes) => of_bytes(bytes),
        Value::List(items) => format!("[{}]", listed(items)),
        Value::Tuple(items) if items.len() == 1 => format!("({},)", listed(items)),
        Value::Tuple(items) => format!("({})", listed(items)),
        Value::Map(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| format!("{}: {}", repr(key), repr(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        Value::Set(items) if items.is_empty() => "set()".into(),
        Value::Set(items) => format!("{{{}}}", listed(items)),
        Value::FrozenSet(items) if items.is_empty() => "frozenset()".into(),
        Value::FrozenSet(items) => format!("frozenset({{{}}})", listed(items)),
        Value::DateTime(text) | Value::Date(text) | Value::Time(text) | Value::Decimal(text) => {
            format!("{}({})", value.kind(), quoted(text))
        }
        Value::TimeDelta { days, seconds, microseconds } => {
            format!("timedelta(days={days}, seconds={seconds}, microseconds={microseconds})")
        }
        Value::Uuid(bytes) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("UUID('{digits}')")
        }
        Value::Complex(real, imaginary) => {
            format!("complex({}, {})", of_float(*real), of_float(*imaginary))
        }
        Value::Exception(exception) => format!("{}({})", exception.name, listed(&exception.args)),
    }
}

fn listed(items: &[Value]) -> String {
    items.iter().map(repr).collect::<Vec<_>>().join(", ")
}

/// The shortest digits that are this float, by Python's choice of notation.
fn of_float(float: f64) -> String {
    if float.is_nan() {
        return "nan".into();
    }
    let size = float.abs();
    if size == 0.0 || (1e-4..1e16).contains(&size) || size.is_infinite() {
        return format!("{float:?}");
    }
    let text = format!("{float:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    format!("{digits}e{sign}{exponent:0>2}")
}

fn of_bytes(bytes: &[u8]) -> String {
    let (single, double) = (bytes.contains(&b'\''), bytes.contains(&b'"'));
    let (quote, other) = if single && !double { ('"', "\\'") } else { ('\'', "\\\"") };
    let escaped = bytes.iter().map(|byte| match byte.escape_ascii().to_string() {
        // The quote that is not used needs no escape.
        escaped if escaped == other => char::from(*byte).to_string(),
        escaped => escaped,
    });
    format!("b{quote}{}{quote}", escaped.collect::<String>())
}

fn quoted(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push(quote);
    for char in text.chars() {
        match char {
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\\' => quoted.push_str("\\\\"),
            _ if char == quote => quoted.extend(['\\', quote]),
            _ if char.is_control() => quoted.push_str(&format!("\\x{:02x}", u32::from(char))),
            _ => quoted.push(char),
        }
    }
    quoted.push(quote);
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_python_writes_it() {
        let says = |value: Value, words: &str| assert_eq!(repr(&value), words);
        for (float, words) in [
            (1.0, "1.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e-5, "1.5e-05"),
            (1e-4, "0.0001"),
            (-2.5e300, "-2.5e+300"),
            (f64::INFINITY, "inf"),
        ] {
            says(Value::Float(float), words);
        }
        says(Value::from("it's"), "\"it's\"");
        says(Value::from("'\"\\\n\u{1}é"), "'\\'\"\\\\\\n\\x01é'");
        says(Value::Tuple(vec![Value::Int(1)]), "(1,)");
        says(Value::Tuple(vec![]), "()");
        says(Value::Map(vec![(Value::from("a"), Value::List(vec![]))]), "{'a': []}");
        says(Value::Bytes(b"a\0'".to_vec()), "b\"a\\x00'\"");
        says(Value::Bytes(b"\\\"'".to_vec()), "b'\\\\\"\\''");
        says(Value::Decimal("1.50".into()), "Decimal('1.50')");
    }
}
