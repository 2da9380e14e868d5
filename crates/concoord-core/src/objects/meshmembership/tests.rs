use super::super::stage::{Dice, Stage, caller};
use super::*;

fn mesh(minsize: i64) -> Stage<MeshMembership> {
    let mut stage = Stage::new(MeshMembership::default());
    let given = vec!["g".into(), Value::Int(minsize)];
    assert_eq!(stage.returns(caller(9), "add_group", given), Value::Bool(true));
    stage
}

fn with_epoch(success: bool, epoch: i64) -> Value {
    Value::Tuple(vec![success.into(), Value::Int(epoch)])
}

fn join(stage: &mut Stage<MeshMembership>, session: u64, node: &str, epoch: i64) -> Value {
    let given = vec!["g".into(), node.into(), Value::Int(epoch), Value::Bool(true)];
    stage.returns(caller(session), "approve_join", given)
}

fn failed(stage: &mut Stage<MeshMembership>, session: u64, node: &str, epoch: i64) -> Value {
    let given = vec!["g".into(), Value::Int(epoch), node.into()];
    stage.returns(caller(session), "notify_failure", given)
}

fn members(stage: &mut Stage<MeshMembership>) -> Value {
    stage.returns(caller(9), "get_group_members", vec!["g".into()])
}

fn nodes(nodes: &[&str]) -> Value {
    Value::List(nodes.iter().copied().map(Value::from).collect())
}

#[test]
fn a_node_joins_in_the_epoch_that_it_knows() {
    let mut stage = mesh(2);
    assert_eq!(join(&mut stage, 1, "a", 0), with_epoch(true, 1));
    assert_eq!(join(&mut stage, 2, "b", 0), with_epoch(false, 1));
    assert_eq!(join(&mut stage, 2, "b", 1), with_epoch(true, 2));
    assert_eq!(join(&mut stage, 2, "b", 1), with_epoch(true, 2));
    assert_eq!(members(&mut stage), nodes(&["a", "b"]));
    let check = vec!["g".into(), "c".into()];
    assert_eq!(stage.returns(caller(1), "check_member", check), Value::Bool(false));
    stage.lose(1);
    assert_eq!(members(&mut stage), nodes(&["b"]));
    let epoch = stage.returns(caller(1), "get_group_epoch", vec!["g".into()]);
    assert_eq!(epoch, Value::Int(3));
    let left = stage.returns(caller(1), "leave", vec!["g".into(), "b".into()]);
    assert_eq!((left, stage.holds(2)), (Value::Bool(true), 0));
}

#[test]
fn who_waits_goes_on_when_the_group_is_complete() {
    let mut stage = mesh(2);
    let patient = stage.waits(caller(1), "wait", vec!["g".into()]);
    let brief = stage.waits(caller(1), "wait", vec!["g".into(), Value::Float(0.1)]);
    join(&mut stage, 1, "a", 0);
    stage.pass(100);
    assert_eq!(stage.end_of(brief), Some(&Ok(Value::Bool(false))));
    assert_eq!(stage.end_of(patient), None);
    join(&mut stage, 2, "b", 1);
    assert_eq!(stage.end_of(patient), Some(&Ok(Value::Bool(true))));
    assert_eq!(stage.returns(caller(1), "wait", vec!["g".into()]), Value::Bool(true));
}

#[test]
fn a_node_is_removed_when_most_others_say_that_it_failed() {
    let mut stage = mesh(4);
    for (at, node) in ["a", "b", "c", "d"].into_iter().enumerate() {
        join(&mut stage, at as u64, node, at as i64);
    }
    assert_eq!(failed(&mut stage, 1, "d", 3), with_epoch(false, 4));
    assert_eq!(failed(&mut stage, 1, "x", 4), with_epoch(false, 4));
    assert_eq!(failed(&mut stage, 1, "d", 4), with_epoch(false, 4));
    // Saying it twice is saying it once.
    assert_eq!(failed(&mut stage, 1, "d", 4), with_epoch(false, 4));
    let Value::Map(state) = stage.returns(caller(1), "get_group_state", vec!["g".into()]) else {
        panic!("no dict")
    };
    let votes = Value::Map(vec![("d".into(), Value::Int(1))]);
    assert_eq!(state[3], (Value::from("votes"), votes));
    assert_eq!(failed(&mut stage, 2, "d", 4), with_epoch(true, 5));
    assert_eq!(members(&mut stage), nodes(&["a", "b", "c"]));
    assert_eq!(stage.holds(3), 0);
    // What was said in an epoch before does not count.
    assert_eq!(failed(&mut stage, 0, "c", 5), with_epoch(false, 5));
    stage.returns(caller(9), "leave", vec!["g".into(), "b".into()]);
    assert_eq!(failed(&mut stage, 0, "c", 6), with_epoch(true, 7));
}

#[test]
fn a_group_that_is_removed_lets_go_of_all() {
    let mut stage = mesh(2);
    join(&mut stage, 1, "a", 0);
    let waiting = stage.waits(caller(2), "wait", vec!["g".into()]);
    stage.returns(caller(3), "remove_group", vec!["g".into()]);
    assert_eq!(stage.holds(1), 0);
    assert_eq!(stage.end_of(waiting).unwrap().as_ref().unwrap_err().name, "KeyError");
    for method in ["wait", "get_group_members", "get_group_epoch", "get_group_state"] {
        let raised = stage.raises(caller(1), method, vec!["g".into()]);
        assert_eq!(raised, ("KeyError".into(), "g".into()));
    }
    stage.returns(caller(3), "add_group", vec!["h".into(), Value::Int(1)]);
    let waiting = stage.waits(caller(2), "wait", vec!["h".into()]);
    stage.returns(caller(3), "__concoordinit__", vec![]);
    assert_eq!(stage.end_of(waiting), Some(&Ok(Value::Bool(false))));
}

/// Whatever happens: sessions hold their nodes, nobody waits for a complete group, and the epoch
/// tells each change of the members.
#[test]
fn epochs_tell_changes_and_nobody_waits_in_vain() {
    for seed in 0..40 {
        let mut dice = Dice::new(seed);
        let mut stage = mesh(3);
        let (mut before, mut epoch) = (members(&mut stage), 0);
        for _ in 0..200 {
            let session = dice.below(4);
            let node = ["a", "b", "c", "d", "e"][dice.below(5) as usize];
            match dice.below(7) {
                0..=2 => drop(join(&mut stage, session, node, epoch)),
                3 => drop(failed(&mut stage, session, node, epoch)),
                4 => {
                    let given = vec!["g".into(), Value::Float(0.1)];
                    drop(stage.call(caller(session), "wait", given));
                }
                5 => stage.pass(dice.below(100)),
                _ => stage.lose(session),
            }
            let now = members(&mut stage);
            let key = Key::of(&"g".into()).unwrap();
            let group = stage.object.groups.get(&key).unwrap();
            assert_eq!(now == before, group.epoch as i64 == epoch, "seed {seed}");
            assert!(group.waiting.is_empty() || !group.is_complete(), "seed {seed}");
            let held: u64 = (0..4).map(|session| stage.holds(session)).sum();
            assert_eq!(held, group.members.len() as u64, "seed {seed}");
            (before, epoch) = (now, group.epoch as i64);
        }
        assert!(epoch > 20, "seed {seed}: something happened");
    }
}
