use super::super::stage::{Dice, Stage, caller};
use super::*;

fn map() -> Stage<Map> {
    Stage::new(Map::default())
}

fn shown(stage: &mut Stage<Map>) -> String {
    let Value::Str(text) = stage.returns(caller(9), "__str__", vec![]) else { panic!("no str") };
    text
}

fn ephemeral(key: i64) -> Vec<Value> {
    vec![Value::Int(key), Value::None, Value::Bool(true)]
}

#[test]
fn it_is_as_a_dict() {
    let mut stage = map();
    let mut call = |method: &str, given: &[i64]| {
        stage.returns(caller(1), method, given.iter().copied().map(Value::Int).collect())
    };
    assert_eq!(call("get", &[1]), Value::None);
    assert_eq!(call("get", &[1, 5]), Value::Int(5));
    assert_eq!(call("put", &[1, 10]), Value::None);
    assert_eq!(call("put", &[2, 20]), Value::None);
    assert_eq!(call("put", &[1, 11]), Value::Int(10));
    assert_eq!(call("put_if_absent", &[1, 12]), Value::Int(11));
    assert_eq!(call("put_if_absent", &[3, 30]), Value::None);
    assert_eq!(call("setdefault", &[3, 31]), Value::Int(30));
    assert_eq!(call("setdefault", &[4]), Value::None);
    assert_eq!(call("replace", &[4, 40]), Value::Bool(true));
    assert_eq!(call("replace", &[5, 50]), Value::Bool(false));
    assert_eq!(call("compare_and_set", &[4, 41, 42]), Value::Bool(false));
    assert_eq!(call("compare_and_set", &[4, 40, 42]), Value::Bool(true));
    assert_eq!(call("compare_and_set", &[5, 50, 51]), Value::Bool(false));
    assert_eq!(call("pop", &[2]), Value::Int(20));
    assert_eq!(call("pop", &[2, 7]), Value::Int(7));
    assert_eq!(call("remove", &[2]), Value::None);
    assert_eq!(call("remove", &[3]), Value::Int(30));
    assert_eq!(call("__getitem__", &[4]), Value::Int(42));
    assert_eq!(call("size", &[]), Value::Int(2));
    assert_eq!(call("contains", &[3]), Value::Bool(false));
    assert_eq!(shown(&mut stage), "{1: 11, 4: 42}");
    for method in ["pop", "__getitem__"] {
        let raised = stage.call(caller(1), method, vec![Value::from("x")]).unwrap().unwrap_err();
        assert_eq!((raised.name.as_str(), raised.args), ("KeyError", vec![Value::from("x")]));
    }
    let change = |change: &[Value]| Value::Tuple(change.to_vec());
    let (put, remove) = (Value::from("put"), Value::from("remove"));
    assert_eq!(stage.told[0], change(&[put, Value::Int(1), Value::Int(10)]));
    assert_eq!(stage.told.last(), Some(&change(&[remove, Value::Int(3)])));
}

#[test]
fn keys_are_one_where_python_has_it_so() {
    let mut stage = map();
    let dict = Value::Map(vec![
        (Value::Bool(true), Value::from("a")),
        (Value::Float(2.0), Value::from("b")),
        (Value::Int(1), Value::from("c")),
    ]);
    stage.returns(caller(1), "update", vec![dict]);
    assert_eq!(shown(&mut stage), "{True: 'c', 2.0: 'b'}");
    assert_eq!(stage.returns(caller(1), "get", vec![Value::Int(2)]), Value::from("b"));
    let keyed_by_list = Value::Map(vec![
        (Value::Int(3), Value::None),
        (Value::Tuple(vec![Value::List(vec![])]), Value::None),
    ]);
    let words = ("TypeError".into(), "unhashable type: 'list'".into());
    assert_eq!(stage.raises(caller(1), "update", vec![keyed_by_list.clone()]), words);
    assert_eq!(stage.raises(caller(1), "__concoordinit__", vec![keyed_by_list]), words);
    assert_eq!(stage.raises(caller(1), "__contains__", vec![Value::Map(vec![])]).0, "TypeError");
}

#[test]
fn ephemeral_keys_go_with_their_session() {
    let mut stage = map();
    for (session, key) in [(1, 1), (1, 2), (2, 3), (1, 4)] {
        stage.returns(caller(session), "put", ephemeral(key));
    }
    assert_eq!((stage.holds(1), stage.holds(2)), (3, 1));
    // Another session takes one over, another becomes lasting, a third is gone before.
    stage.returns(caller(2), "put", ephemeral(1));
    stage.returns(caller(3), "put", vec![Value::Int(2), Value::None]);
    stage.returns(caller(3), "remove", vec![Value::Int(4)]);
    assert_eq!((stage.holds(1), stage.holds(2)), (0, 2));
    stage.lose(1);
    assert_eq!(shown(&mut stage), "{1: None, 2: None, 3: None}");
    stage.returns(caller(3), "replace", vec![Value::Int(1), Value::Int(7)]);
    stage.lose(2);
    assert_eq!(shown(&mut stage), "{2: None}");
}

#[test]
fn keys_with_a_time_to_live_go_when_it_is_over() {
    let mut stage = map();
    let put = |stage: &mut Stage<Map>, key: i64, ttl: Option<f64>| {
        let mut given = vec![Value::Int(key), Value::None, Value::Bool(false)];
        given.extend(ttl.map(Value::Float));
        stage.returns(caller(1), "put", given);
    };
    for key in 1..=4 {
        put(&mut stage, key, Some(1.0));
    }
    stage.pass(999);
    put(&mut stage, 1, None);
    put(&mut stage, 2, Some(1.0));
    stage.returns(caller(1), "remove", vec![Value::Int(3)]);
    put(&mut stage, 3, None);
    stage.pass(1);
    assert_eq!(shown(&mut stage), "{1: None, 2: None, 3: None}");
    stage.pass(998);
    assert_eq!(stage.returns(caller(1), "__len__", vec![]), Value::Int(3));
    stage.pass(1);
    assert_eq!(shown(&mut stage), "{1: None, 3: None}");
    stage.returns(caller(1), "clear", vec![]);
    assert_eq!(shown(&mut stage), "{}");
    let none = vec![Value::Int(1), Value::None, Value::Bool(false), Value::Int(0)];
    assert_eq!(stage.raises(caller(1), "put", none).0, "ValueError");
}

/// Whatever happens, it is what a list of its entries would be, and sessions hold what is theirs.
#[test]
fn it_is_what_a_list_would_be() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let mut stage = map();
        // Key, value, session, time of its end.
        let mut model: Vec<(i64, i64, Option<u64>, Option<u64>)> = Vec::new();
        let mut clock = 0;
        for step in 0..300 {
            let (session, key) = (dice.below(3), dice.below(6) as i64);
            match dice.below(8) {
                0..=3 => {
                    let owner = (dice.below(2) == 0).then_some(session);
                    let ttl = (dice.below(2) == 0).then(|| 1 + dice.below(400));
                    let seconds = ttl.map_or(Value::None, |ms| Value::Float(ms as f64 / 1000.0));
                    let given =
                        [Value::Int(key), Value::Int(step), owner.is_some().into(), seconds];
                    stage.returns(caller(session), "put", given.to_vec());
                    let entry = (key, step, owner, ttl.map(|ms| clock + ms));
                    match model.iter_mut().find(|(there, ..)| *there == key) {
                        Some(there) => *there = entry,
                        None => model.push(entry),
                    }
                }
                4 => {
                    stage.returns(caller(session), "remove", vec![Value::Int(key)]);
                    model.retain(|(there, ..)| *there != key);
                }
                5 | 6 => {
                    let ms = dice.below(200);
                    stage.pass(ms);
                    clock += ms;
                    model.retain(|(.., end)| end.is_none_or(|end| end > clock));
                }
                _ => {
                    stage.lose(session);
                    model.retain(|(_, _, owner, _)| *owner != Some(session));
                }
            }
            let pairs = model.iter().map(|(key, value, ..)| format!("{key}: {value}"));
            let expected = format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "));
            assert_eq!(shown(&mut stage), expected, "seed {seed}, step {step}");
            for session in 0..3 {
                let held = model.iter().filter(|(_, _, owner, _)| *owner == Some(session));
                assert_eq!(stage.holds(session), held.count() as u64, "seed {seed}");
            }
        }
    }
}
