use std::collections::BTreeMap;

use super::super::stage::{Dice, Stage, caller};
use super::*;

fn queue(maxsize: i64) -> Stage<Queue<Fifo>> {
    let mut stage = Stage::new(Queue::default());
    stage.returns(caller(1), "__concoordinit__", vec![Value::Int(maxsize)]);
    stage
}

fn end(stage: &Stage<Queue<Fifo>>, call: CallId) -> String {
    match stage.end_of(call) {
        None => "waits".into(),
        Some(Ok(value)) => format!("{value:?}"),
        Some(Err(exception)) => format!("{}.{}", exception.module, exception.name),
    }
}

#[test]
fn items_go_to_those_who_have_waited_longest() {
    let mut stage = queue(0);
    let first = stage.waits(caller(1), "get", vec![]);
    let second = stage.waits(caller(2), "get", vec![]);
    stage.returns(caller(3), "put", vec![Value::from("a")]);
    assert_eq!(
        (end(&stage, first).as_str(), end(&stage, second).as_str()),
        ("Str(\"a\")", "waits")
    );
    stage.cancel(second);
    stage.returns(caller(3), "put", vec![Value::from("b")]);
    assert_eq!(stage.returns(caller(3), "qsize", vec![]), Value::Int(1));
    assert_eq!(stage.returns(caller(3), "get_nowait", vec![]), Value::from("b"));
    let change = |what: &str, size: i64| Value::Tuple(vec![what.into(), Value::Int(size)]);
    let told = [change("put", 1), change("get", 0), change("put", 1), change("get", 0)];
    assert_eq!(stage.told, told);
}

#[test]
fn who_puts_waits_for_room_in_turn() {
    let mut stage = queue(1);
    stage.returns(caller(1), "put", vec![Value::Int(1)]);
    assert_eq!(stage.returns(caller(1), "full", vec![]), Value::Bool(true));
    let brief = vec![Value::Int(2), Value::Bool(true), Value::Float(0.1)];
    let brief = stage.waits(caller(2), "put", brief);
    let patient = stage.waits(caller(3), "put", vec![Value::Int(3)]);
    stage.pass(100);
    assert_eq!(end(&stage, brief), "queue.Full");
    assert_eq!(stage.returns(caller(1), "get", vec![]), Value::Int(1));
    assert_eq!(end(&stage, patient), "None");
    assert_eq!(stage.returns(caller(1), "get", vec![]), Value::Int(3));
    assert_eq!(stage.returns(caller(1), "empty", vec![]), Value::Bool(true));
}

#[test]
fn exceptions_are_pythons() {
    let mut stage = queue(1);
    let one = caller(1);
    let nothing = || ("Empty".into(), String::new());
    assert_eq!(stage.raises(one, "get_nowait", vec![]), nothing());
    assert_eq!(stage.raises(one, "get", vec![Value::Bool(false)]), nothing());
    assert_eq!(stage.raises(one, "get", vec![Value::Bool(true), Value::Int(0)]), nothing());
    let brief = stage.waits(one, "get", vec![Value::Bool(true), Value::Float(0.5)]);
    stage.pass(500);
    assert_eq!(stage.end_of(brief), Some(&Err(empty())));
    let negative: (String, String) =
        ("ValueError".into(), "'timeout' must be a non-negative number".into());
    for timeout in [-1.0, -0.5] {
        let given = vec![Value::Bool(true), Value::Float(timeout)];
        assert_eq!(stage.raises(one, "get", given), negative);
    }
    stage.returns(one, "put", vec![Value::None]);
    let full: (String, String) = ("Full".into(), String::new());
    assert_eq!(stage.raises(one, "put_nowait", vec![Value::None]), full);
    assert_eq!(stage.raises(one, "put", vec![Value::None, Value::Bool(false)]), full);
    let given = vec![Value::None, Value::Bool(true), Value::Int(-1)];
    assert_eq!(stage.raises(one, "put", given.clone()), negative);
    stage.returns(one, "__concoordinit__", vec![]);
    stage.returns(one, "put", given);
    stage.returns(one, "task_done", vec![]);
    let often = ("ValueError".into(), "task_done() called too many times".into());
    assert_eq!(stage.raises(one, "task_done", vec![]), often);
}

#[test]
fn join_waits_until_all_is_done() {
    let mut stage = queue(0);
    stage.returns(caller(1), "join", vec![]);
    for item in 0..2 {
        stage.returns(caller(1), "put", vec![Value::Int(item)]);
    }
    let joining = [2, 3].map(|session| stage.waits(caller(session), "join", vec![]));
    stage.returns(caller(1), "get", vec![]);
    stage.returns(caller(1), "task_done", vec![]);
    assert!(joining.iter().all(|call| end(&stage, *call) == "waits"));
    stage.returns(caller(1), "task_done", vec![]);
    assert!(joining.iter().all(|call| end(&stage, *call) == "None"));
}

#[test]
fn who_waits_goes_on_in_a_queue_made_anew() {
    let mut stage = queue(1);
    stage.returns(caller(1), "put", vec![Value::Int(1)]);
    let putting = [2, 3].map(|item| stage.waits(caller(2), "put", vec![Value::Int(item)]));
    let joining = stage.waits(caller(3), "join", vec![]);
    stage.returns(caller(1), "__concoordinit__", vec![Value::Int(1)]);
    assert_eq!(putting.map(|call| end(&stage, call)), ["None", "waits"]);
    assert_eq!(end(&stage, joining), "waits");
    assert_eq!(stage.returns(caller(1), "get", vec![]), Value::Int(2));
    assert_eq!(end(&stage, putting[1]), "None");
    stage.returns(caller(1), "task_done", vec![]);
    stage.returns(caller(1), "task_done", vec![]);
    assert_eq!(end(&stage, joining), "None");
}

/// Whatever happens in whatever order: each item that was put is had once and in order, nobody
/// waits for what is there, and nobody overtakes.
#[test]
fn nothing_is_lost_and_nobody_waits_in_vain() {
    for seed in 0..60 {
        let (mut dice, maxsize) = (Dice::new(seed), seed as i64 % 4);
        let mut stage = queue(maxsize);
        // Of each call that waits, what it would put; `None` for one that gets.
        let mut waiting: BTreeMap<CallId, Option<i64>> = BTreeMap::new();
        let (mut next, mut seen) = (0, 0);
        let (mut put, mut got): (Vec<i64>, Vec<i64>) = (vec![], vec![]);
        for _ in 0..400 {
            let session = dice.below(5);
            let wait = [vec![], vec![Value::Bool(true), Value::Float(0.2)]];
            let wait = wait[dice.below(2) as usize].clone();
            match dice.below(8) {
                0..=2 => {
                    let mut given = vec![Value::Int(next)];
                    given.extend(wait);
                    match stage.call(caller(session), "put", given) {
                        Ok(ended) => {
                            ended.unwrap();
                            put.push(next);
                        }
                        Err(call) => drop(waiting.insert(call, Some(next))),
                    }
                    next += 1;
                }
                3..=5 => match stage.call(caller(session), "get", wait) {
                    Ok(Ok(Value::Int(item))) => got.push(item),
                    Ok(other) => panic!("{other:?}"),
                    Err(call) => drop(waiting.insert(call, None)),
                },
                6 => stage.pass(dice.below(300)),
                _ => {
                    stage.lose(session);
                    waiting.retain(|call, _| call.session.0 != session);
                }
            }
            for (call, ended) in stage.ended.drain(..) {
                match (waiting.remove(&call).expect("it waited"), ended) {
                    (Some(item), Ok(Value::None)) => put.push(item),
                    (None, Ok(Value::Int(item))) => got.push(item),
                    (Some(_), Err(error)) => assert_eq!(error.name, "Full"),
                    (None, Err(error)) => assert_eq!(error.name, "Empty"),
                    (_, Ok(other)) => panic!("{other:?}"),
                }
            }
            let queue = &stage.object;
            assert_eq!(queue.putting.len() + queue.getting.len(), waiting.len());
            assert_eq!(put.len(), got.len() + queue.shelf.len(), "seed {seed}");
            assert!(queue.getting.is_empty() || queue.shelf.len() == 0, "seed {seed}");
            assert!(queue.putting.is_empty() || queue.is_full(), "seed {seed}");
            // What is had is what was put, in its order.
            assert_eq!(got[seen..], put[seen..got.len()], "seed {seed}");
            seen = got.len();
        }
        assert!(got.len() > 20, "seed {seed}: the queue was used");
    }
}
