use std::collections::BTreeSet;

use super::super::stage::{Dice, Stage, caller};
use super::*;

fn with_items(count: i64) -> Stage<LockingQueue> {
    let mut stage = Stage::new(LockingQueue::default());
    let items = (1..=count).map(Value::Int).collect();
    stage.returns(caller(9), "put_all", vec![Value::List(items)]);
    stage
}

fn leased(value: &Value) -> (Value, i64) {
    let Value::Tuple(pair) = value else { panic!("{value:?}") };
    let [token, Value::Int(item)] = pair.as_slice() else { panic!("{pair:?}") };
    (token.clone(), *item)
}

fn get(stage: &mut Stage<LockingQueue>, session: u64) -> (Value, i64) {
    leased(&stage.returns(caller(session), "get", vec![]))
}

fn with_lease(seconds: f64) -> Vec<Value> {
    vec![Value::Bool(true), Value::None, Value::Float(seconds)]
}

#[test]
fn what_is_consumed_is_gone() {
    let mut stage = with_items(2);
    let (token, item) = get(&mut stage, 1);
    assert_eq!((item, stage.holds(1)), (1, 1));
    assert_eq!(stage.returns(caller(1), "__len__", vec![]), Value::Int(2));
    assert_eq!(stage.returns(caller(1), "consume", vec![token.clone()]), Value::Bool(true));
    assert_eq!(stage.returns(caller(1), "consume", vec![token]), Value::Bool(false));
    assert_eq!((stage.holds(1), get(&mut stage, 2).1), (0, 2));
    assert_eq!(stage.raises(caller(2), "get", vec![Value::Bool(false)]).0, "Empty");
}

#[test]
fn what_comes_back_comes_to_its_old_place() {
    let mut stage = with_items(4);
    let (first, _) = get(&mut stage, 1);
    get(&mut stage, 2);
    get(&mut stage, 2);
    stage.lose(2);
    assert_eq!(stage.returns(caller(1), "release", vec![first.clone()]), Value::Bool(true));
    assert_eq!(stage.returns(caller(1), "holds", vec![first]), Value::Bool(false));
    assert_eq!((1..=4).map(|_| get(&mut stage, 3).1).collect::<Vec<_>>(), [1, 2, 3, 4]);
}

#[test]
fn the_items_of_a_lost_session_go_to_those_who_wait() {
    let mut stage = with_items(2);
    let (old, _) = get(&mut stage, 1);
    get(&mut stage, 1);
    let waiting = [2, 3].map(|session| stage.waits(caller(session), "get", vec![]));
    stage.lose(1);
    let got = waiting.map(|call| leased(stage.end_of(call).unwrap().as_ref().unwrap()));
    assert_eq!(got.clone().map(|(_, item)| item), [1, 2]);
    assert_ne!(got[0].0, got[1].0);
    assert_eq!(stage.returns(caller(1), "ack", vec![old]), Value::Bool(false));
    assert_eq!((stage.holds(1), stage.holds(2), stage.holds(3)), (0, 1, 1));
}

#[test]
fn a_lease_ends_unless_it_is_renewed() {
    let mut stage = with_items(2);
    let (brief, _) = leased(&stage.returns(caller(1), "get", with_lease(1.0)));
    let (renewed, _) = leased(&stage.returns(caller(1), "get", with_lease(1.0)));
    stage.pass(900);
    let given = vec![renewed.clone(), Value::Float(5.0)];
    assert_eq!(stage.returns(caller(1), "renew", given.clone()), Value::Bool(true));
    stage.pass(100);
    assert_eq!(stage.returns(caller(1), "holds", vec![brief]), Value::Bool(false));
    assert_eq!(stage.returns(caller(1), "holds", vec![renewed]), Value::Bool(true));
    assert_eq!(get(&mut stage, 2).1, 1);
    stage.pass(4900);
    assert_eq!(stage.returns(caller(1), "renew", given), Value::Bool(false));
    assert_eq!((stage.holds(1), stage.holds(2)), (0, 1));
}

#[test]
fn one_made_anew_has_no_leases() {
    let mut stage = with_items(1);
    let (token, _) = leased(&stage.returns(caller(1), "get", with_lease(1.0)));
    let waiting = stage.waits(caller(2), "get", vec![]);
    stage.returns(caller(3), "__concoordinit__", vec![]);
    assert_eq!(stage.returns(caller(1), "consume", vec![token]), Value::Bool(false));
    assert_eq!(stage.holds(1), 0);
    stage.returns(caller(3), "put", vec![Value::Int(7)]);
    assert!(matches!(stage.end_of(waiting), Some(Ok(_))));
}

#[test]
fn wrong_arguments_are_refused() {
    let mut stage = with_items(1);
    assert_eq!(stage.raises(caller(1), "get", with_lease(0.0)).0, "ValueError");
    assert_eq!(stage.raises(caller(1), "put_all", vec![Value::from("ab")]).0, "TypeError");
    for token in [Value::Int(-1), Value::from(u64::MAX), Value::Bool(false)] {
        assert_eq!(stage.returns(caller(1), "consume", vec![token]), Value::Bool(false));
    }
}

/// Whatever happens: an item is with one lease, or free, or consumed; tokens grow; nobody waits
/// while an item is free; sessions hold what they have leased.
#[test]
fn no_item_is_lost_or_leased_twice() {
    for seed in 0..60 {
        let mut dice = Dice::new(seed);
        let mut stage = Stage::new(LockingQueue::default());
        let (mut put, mut consumed) = (0, BTreeSet::new());
        let mut newest = 0;
        for _ in 0..300 {
            let session = dice.below(4);
            let tokens: Vec<u64> = stage.object.leased.keys().copied().collect();
            let token = tokens.get(dice.below(6) as usize).copied().unwrap_or(1);
            let about = |method| (method, vec![Value::from(token)]);
            let (method, given) = match dice.below(8) {
                0 | 1 => {
                    put += 1;
                    ("put", vec![Value::Int(put)])
                }
                2 | 3 => ("get", vec![]),
                4 => ("get", vec![Value::Bool(true), Value::Float(0.1), Value::Float(0.3)]),
                5 => about("consume"),
                6 => about("release"),
                _ if dice.below(3) == 0 => {
                    stage.lose(session);
                    continue;
                }
                _ => {
                    stage.pass(dice.below(200));
                    continue;
                }
            };
            let item = stage.object.leased.get(&token).map(|lease| lease.item.value());
            let answered = stage.ended.len();
            let got = stage.call(caller(session), method, given);
            if method == "consume" && got == Ok(Ok(Value::Bool(true))) {
                let Some(Value::Int(item)) = item else { panic!("seed {seed}: {item:?}") };
                assert!(consumed.insert(item), "seed {seed}: consumed twice");
            }
            let ended = stage.ended[answered..].iter().filter_map(|(_, ended)| ended.clone().ok());
            let direct = if method == "get" { got.ok().and_then(Result::ok) } else { None };
            for value in ended.chain(direct) {
                let (Value::Int(token), _) = leased(&value) else { panic!("{value:?}") };
                assert!(token > newest, "seed {seed}: tokens grow");
                newest = token;
            }
            let queue = &stage.object;
            let leased = queue.leased.values().map(|lease| &lease.item);
            let mut all: Vec<Value> = queue.free.values().chain(leased).map(Kept::value).collect();
            all.extend(consumed.iter().copied().map(Value::Int));
            let all: BTreeSet<i64> = all
                .iter()
                .map(|item| if let Value::Int(item) = item { *item } else { 0 })
                .collect();
            assert_eq!(all, (1..=put).collect(), "seed {seed}");
            assert_eq!(queue.free.len() + queue.leased.len() + consumed.len(), put as usize);
            assert!(queue.getting.is_empty() || queue.free.is_empty(), "seed {seed}");
            for session in 0..4 {
                let leases = queue.leased.values().filter(|lease| lease.session.0 == session);
                assert_eq!(stage.holds(session), leases.count() as u64, "seed {seed}");
            }
        }
    }
}

#[test]
fn a_queue_in_the_place_of_one_that_was_removed_gives_out_no_token_again() {
    let mut stage = with_items(4);
    for _ in 0..4 {
        get(&mut stage, 1);
    }
    let waiting = [2, 3, 4, 5].map(|session| stage.waits(caller(session), "get", vec![]));
    // One step gives them all out.
    stage.lose(1);
    let mut tokens =
        waiting.map(|call| leased(stage.end_of(call).unwrap().as_ref().unwrap()).0).to_vec();
    stage.object = LockingQueue::default();
    stage.returns(caller(9), "put", vec![Value::Int(3)]);
    tokens.push(get(&mut stage, 2).0);
    let tokens = tokens.iter().map(|token| {
        let Value::Int(token) = token else { panic!("{token:?} is no token") };
        *token
    });
    assert!(tokens.is_sorted_by(|one, next| one < next));
}
