use super::*;

fn samples() -> Vec<Value> {
    let big = BigInt::from(10_u8).pow(40);
    vec![
        Value::None,
        Value::Bool(true),
        Value::Int(0),
        Value::Int(i64::MIN),
        Value::from(BigInt::from(i64::MAX) + 1),
        Value::from(BigInt::from(u64::MAX) + 1),
        Value::from(big.clone()),
        Value::from(-big),
        Value::Float(-0.0),
        Value::Float(f64::INFINITY),
        Value::Str("grüß".into()),
        Value::Bytes(vec![0, 255]),
        Value::List(vec![Value::Int(1), Value::List(vec![])]),
        Value::Tuple(vec![Value::None]),
        Value::Map(vec![
            (Value::Tuple(vec![Value::Int(2)]), Value::Int(1)),
            (Value::Int(1), Value::None),
        ]),
        Value::Set(vec![Value::Int(1), Value::Int(2)]),
        Value::FrozenSet(vec![Value::Str("a".into())]),
        Value::DateTime("2026-11-22T10:00:00+01:00".into()),
        Value::DateTime("2026-11-22T10:00:00.000001".into()),
        Value::Date("2026-11-22".into()),
        Value::Time("10:00:00".into()),
        Value::TimeDelta { days: -1, seconds: 86_399, microseconds: 1 },
        Value::Decimal("-Infinity".into()),
        Value::Uuid([7; 16]),
        Value::Complex(1.5, -2.0),
        Value::Exception(Box::new(Exception::builtin("KeyError", "nope"))),
    ]
}

#[test]
fn every_kind_comes_back_as_it_went() {
    for value in samples() {
        let bytes = value.encode().unwrap();
        assert_eq!(Value::decode(&bytes).unwrap(), value);
    }
    let arguments =
        Arguments { positional: samples(), keyword: vec![("by".into(), Value::Int(3))] };
    assert_eq!(Arguments::decode(&arguments.encode().unwrap()).unwrap(), arguments);
    assert!(Arguments::default().encode().unwrap().is_empty());
}

#[test]
fn every_prefix_and_every_flipped_byte_is_an_error_or_a_value() {
    let bytes = Value::List(samples()).encode().unwrap();
    for end in 0..bytes.len() {
        assert!(Value::decode(&bytes[..end]).is_err(), "a prefix of {end} bytes is not a value");
    }
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 1 << bit;
            drop(Value::decode(&damaged));
        }
    }
}

#[test]
fn sets_have_one_encoding() {
    let set = |items: [i64; 3]| Value::Set(items.map(Value::Int).to_vec()).encode().unwrap();
    assert_eq!(set([1, 2, 300]), set([300, 2, 1]));
}

#[test]
fn deep_nesting_is_refused_both_ways() {
    let deep = (0..VALUE_DEPTH_MAX + 2).fold(Value::None, |inner, _| Value::List(vec![inner]));
    assert_eq!(deep.encode(), Err(ValueError::TooDeep));
    let bytes = vec![0x81; 1 << 20];
    assert_eq!(Value::decode(&bytes), Err(ValueError::TooDeep));
}

#[test]
fn a_claimed_length_takes_no_memory() {
    let huge_list = [0x9b, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert!(Value::decode(&huge_list).is_err());
    let huge_bytes = [0x5b, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    assert!(Value::decode(&huge_bytes).is_err());
}
