use super::super::stage::{Stage, caller};
use super::*;

const YES: Result<Value, Exception> = Ok(Value::Bool(true));
const NO: Result<Value, Exception> = Ok(Value::Bool(false));

/// Has each session acquire the lock and wait.
fn sleepers<const N: usize>(stage: &mut Stage<Condition>, sessions: [u64; N]) -> [CallId; N] {
    sessions.map(|session| {
        stage.returns(caller(session), "acquire", vec![]);
        stage.waits(caller(session), "wait", vec![])
    })
}

#[test]
fn those_that_are_notified_return_in_order_each_with_the_lock() {
    let mut stage = Stage::new(Condition::default());
    let [first, second, third] = sleepers(&mut stage, [1, 2, 3]);
    stage.returns(caller(4), "acquire", vec![]);
    stage.returns(caller(4), "notify", vec![Value::Int(2)]);
    assert_eq!(stage.end_of(first), None);
    stage.returns(caller(4), "release", vec![]);
    assert_eq!((stage.end_of(first), stage.end_of(second)), (Some(&YES), None));
    assert_eq!((stage.holds(1), stage.holds(4)), (1, 0));
    stage.returns(caller(1), "release", vec![]);
    assert_eq!((stage.end_of(second), stage.end_of(third)), (Some(&YES), None));
    stage.returns(caller(2), "notify_all", vec![]);
    stage.returns(caller(2), "release", vec![]);
    assert_eq!(stage.end_of(third), Some(&YES));
}

#[test]
fn who_has_waited_for_long_enough_returns_once_it_has_the_lock_again() {
    let mut stage = Stage::new(Condition::default());
    stage.returns(caller(1), "acquire", vec![]);
    let call = stage.waits(caller(1), "wait", vec![Value::Float(0.5)]);
    stage.returns(caller(2), "acquire", vec![]);
    stage.pass(1_000);
    assert_eq!(stage.end_of(call), None);
    // Too late: it waits for the lock alone.
    stage.returns(caller(2), "notify", vec![]);
    stage.returns(caller(2), "release", vec![]);
    assert_eq!((stage.end_of(call), stage.holds(1)), (Some(&NO), 1));
}

#[test]
fn the_bell_of_one_that_is_notified_is_silent() {
    let mut stage = Stage::new(Condition::default());
    stage.returns(caller(1), "acquire", vec![]);
    let call = stage.waits(caller(1), "wait", vec![Value::Int(1)]);
    stage.returns(caller(2), "acquire", vec![]);
    stage.returns(caller(2), "notifyAll", vec![]);
    stage.pass(5_000);
    stage.returns(caller(2), "release", vec![]);
    assert_eq!(stage.end_of(call), Some(&YES));
    assert!(stage.object.bells.is_empty());
}

#[test]
fn all_levels_are_given_up_and_come_back() {
    let mut stage = Stage::new(Condition::default());
    stage.returns(caller(1), "acquire", vec![]);
    let before = stage.returns(caller(1), "acquire", vec![]);
    let call = stage.waits(caller(1), "wait", vec![]);
    stage.returns(caller(2), "acquire", vec![]);
    stage.returns(caller(2), "notify", vec![]);
    stage.returns(caller(2), "release", vec![]);
    assert_eq!(stage.end_of(call), Some(&YES));
    let Value::Int(after) = stage.returns(caller(3), "gettoken", vec![]) else { panic!() };
    assert!(Value::Int(after) != before && stage.object.guards(after as u64));
    stage.returns(caller(1), "release", vec![]);
    assert_eq!(stage.returns(caller(3), "locked", vec![]), Value::Bool(true));
    stage.returns(caller(1), "release", vec![]);
    assert_eq!(stage.returns(caller(3), "gettoken", vec![]), Value::None);
}

#[test]
fn a_wait_of_no_time_lets_others_have_the_lock_first() {
    let mut stage = Stage::new(Condition::default());
    stage.returns(caller(1), "acquire", vec![]);
    assert_eq!(stage.returns(caller(1), "wait", vec![Value::Int(0)]), Value::Bool(false));
    let other = stage.waits(caller(2), "acquire", vec![]);
    let call = stage.waits(caller(1), "wait", vec![Value::Int(0)]);
    assert!(stage.end_of(other).is_some());
    stage.returns(caller(2), "release", vec![]);
    assert_eq!((stage.end_of(call), stage.holds(1)), (Some(&NO), 1));
}

#[test]
fn a_notification_of_one_that_is_gone_goes_to_the_next() {
    let mut stage = Stage::new(Condition::default());
    let [_, second, third] = sleepers(&mut stage, [1, 2, 3]);
    stage.returns(caller(4), "acquire", vec![]);
    stage.returns(caller(4), "notify", vec![]);
    stage.lose(1);
    stage.lose(4);
    assert_eq!((stage.end_of(second), stage.end_of(third)), (Some(&YES), None));
}

#[test]
fn only_the_holder_waits_and_notifies() {
    let mut stage = Stage::new(Condition::default());
    stage.returns(caller(1), "acquire", vec![]);
    let words = |what: &str| ("RuntimeError".to_owned(), format!("cannot {what} un-acquired lock"));
    for (method, what) in [
        ("wait", "wait on"),
        ("notify", "notify on"),
        ("notify_all", "notify on"),
        ("release", "release"),
    ] {
        assert_eq!(stage.raises(caller(2), method, vec![]), words(what));
    }
}

#[test]
fn to_initialise_it_sends_everyone_away() {
    let mut stage = Stage::new(Condition::default());
    let [asleep, woken] = sleepers(&mut stage, [1, 2]);
    stage.returns(caller(3), "acquire", vec![]);
    stage.returns(caller(3), "notify", vec![]);
    let waiting = stage.waits(caller(4), "acquire", vec![]);
    stage.returns(caller(5), "__concoordinit__", vec![]);
    assert_eq!(stage.end_of(waiting), Some(&NO));
    assert!([asleep, woken].iter().all(|call| matches!(stage.end_of(*call), Some(Err(_)))));
    assert_eq!(stage.holds(3), 0);
    assert_eq!(stage.raises(caller(5), "__concoordinit__", vec![Value::Int(1)]).0, "TypeError");
}
