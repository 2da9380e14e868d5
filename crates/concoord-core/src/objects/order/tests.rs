use super::*;

fn sorted(value: Value) -> Sorted {
    Sorted::of(&value).unwrap()
}

fn ascend(values: Vec<Value>) {
    let values: Vec<Sorted> = values.into_iter().map(sorted).collect();
    for (at, one) in values.iter().enumerate() {
        for (other_at, other) in values.iter().enumerate() {
            assert_eq!(one.cmp(other), at.cmp(&other_at), "{one:?} {other:?}");
            one.beside(other).unwrap();
        }
    }
}

fn words(one: Value, other: Value) -> Value {
    sorted(one).beside(&sorted(other)).unwrap_err().args.remove(0)
}

#[test]
fn numbers_are_compared_by_their_exact_values() {
    ascend(vec![
        Value::Float(f64::NEG_INFINITY),
        Value::from(-(BigInt::from(1) << 100_u32)),
        Value::Float(-1.5),
        Value::Int(-1),
        Value::Float(0.0),
        Value::Float(5e-324),
        Value::Bool(true),
        Value::Float(1.25),
        Value::Int(2),
        // Floats can't tell these two.
        Value::Float(9_007_199_254_740_992.0),
        Value::Int(9_007_199_254_740_993),
        Value::Int(i64::MAX),
        Value::Float(9_223_372_036_854_775_808.0),
        Value::from((BigInt::from(1) << 63_u32) + 1_u32),
        Value::Float(1e300),
        Value::Float(f64::INFINITY),
        Value::Float(f64::NAN),
    ]);
    assert_eq!(sorted(Value::Bool(true)), sorted(Value::Float(1.0)));
    assert_eq!(sorted(Value::Float(-0.0)), sorted(Value::Int(0)));
}

#[test]
fn other_values_are_compared_as_python_does() {
    let texts = |kind: fn(String) -> Value, texts: &[&str]| {
        ascend(texts.iter().map(|text| kind((*text).into())).collect());
    };
    texts(Value::Str, &["", "A", "a", "aa", "b", "é"]);
    texts(Value::Decimal, &["-Infinity", "-1E+9", "-1", "-0.5", "0.00", "1E-9", "0.5", "1.10"]);
    texts(Value::Decimal, &["1", "1.01", "9.9", "10", "99", "1E+2", "Infinity", "NaN"]);
    texts(Value::DateTime, &["2026-01-01T00:00:00", "2026-01-01T00:00:00.000001"]);
    texts(
        Value::DateTime,
        &[
            "2025-12-31T23:00:00-00:30",
            "2026-01-01T01:00:00+01:00",
            "2026-01-01T00:00:00.5Z",
            "2026-02-28T23:59:59Z",
            "2026-03-01T01:00:00+01:00",
        ],
    );
    assert_eq!(
        sorted(Value::DateTime("2024-02-29T12:00:00Z".into())),
        sorted(Value::DateTime("2024-02-29T14:00:00+02:00".into()))
    );
    let tuple = |items: &[i64]| Value::Tuple(items.iter().copied().map(Value::Int).collect());
    ascend(vec![tuple(&[]), tuple(&[1]), tuple(&[1, -5]), tuple(&[1, 2, 3]), tuple(&[2])]);
    let delta = |days, seconds| Value::TimeDelta { days, seconds, microseconds: 0 };
    ascend(vec![delta(-1, 86_399), delta(0, 0), delta(0, 5), delta(1, 0)]);
}

#[test]
fn what_does_not_compare_says_so_in_pythons_words() {
    let between = |one: &str, other: &str| {
        Value::Str(format!("'<' not supported between instances of '{one}' and '{other}'"))
    };
    assert_eq!(words(Value::from("a"), Value::Int(1)), between("str", "int"));
    assert_eq!(words(Value::None, Value::None), between("NoneType", "NoneType"));
    let pair = |second: Value| Value::Tuple(vec![Value::Int(1), second]);
    assert_eq!(words(pair(Value::Map(vec![])), pair(Value::None)), between("dict", "NoneType"));
    assert!(sorted(pair(Value::None)).beside(&sorted(pair(Value::None))).is_ok());
    let naive = Value::DateTime("2026-01-01T00:00:00".into());
    let aware = Value::DateTime("2026-01-01T00:00:00Z".into());
    let both = Value::from("can't compare offset-naive and offset-aware datetimes");
    assert_eq!(words(naive, aware), both);
}

#[test]
fn no_text_of_anybody_upsets_it() {
    for text in ["", "-", "E", "1E", ".", "1E99999999999999999999", "Zzz", "2026-01-01T00:00:00+é"]
    {
        let (time, decimal) = (Value::DateTime(text.into()), Value::Decimal(text.into()));
        assert_eq!(sorted(time.clone()), sorted(time));
        assert_eq!(sorted(decimal.clone()), sorted(decimal));
    }
}
