//! The judge of the torture, judged: by histories that are known to be good or bad, and by trying
//! every order.

use crate::checker::{Violation, check};
use crate::history::{Answer, Call, Operation, State};
use crate::holds::{Ended, Grant, Write as Held, judge};
use crate::random::Random;

use Answer::{Flag, Nothing, Number};
use Call::{Acquire, Add, Dequeue, Enqueue, Increment, Read, Release, Swap, Write};

/// A call of some client on the one key, from one moment to another.
fn call(call: Call, start: u64, end: u64, answer: Answer) -> Operation {
    Operation { client: 0, key: 0, call, start, end: Some((end, answer)) }
}

fn unanswered(call: Call, start: u64) -> Operation {
    Operation { client: 0, key: 0, call, start, end: None }
}

fn good(history: &[Operation]) {
    check(history).unwrap();
}

fn bad(history: &[Operation]) {
    assert!(matches!(check(history), Err(Violation::NoOrder { .. })), "{history:?}");
}

#[test]
fn calls_at_the_same_time_have_either_order() {
    let write = call(Write(1), 0, 10, Nothing);
    good(&[write, call(Read, 1, 9, Number(0))]);
    good(&[write, call(Read, 1, 9, Number(1))]);
    bad(&[write, call(Read, 1, 9, Number(2))]);
}

#[test]
fn a_stale_read_is_seen() {
    bad(&[call(Write(1), 0, 1, Nothing), call(Read, 2, 3, Number(0))]);
    let writes = [call(Write(1), 0, 1, Nothing), call(Write(2), 2, 9, Nothing)];
    good(&[writes[0], writes[1], call(Read, 3, 4, Number(1)), call(Read, 5, 6, Number(2))]);
    // What one has read, nobody reads the value before it any more.
    bad(&[writes[0], writes[1], call(Read, 3, 4, Number(2)), call(Read, 5, 6, Number(1))]);
}

#[test]
fn a_lost_write_is_seen() {
    let increments = [call(Increment, 0, 1, Nothing), call(Increment, 0, 1, Nothing)];
    good(&[increments[0], increments[1], call(Read, 2, 3, Number(2))]);
    bad(&[increments[0], increments[1], call(Read, 2, 3, Number(1))]);
    bad(&[call(Add(1), 0, 1, Number(0)), call(Add(1), 2, 3, Number(0))]);
}

#[test]
fn a_call_that_took_effect_twice_is_seen() {
    bad(&[call(Increment, 0, 1, Nothing), call(Read, 2, 3, Number(2))]);
    bad(&[call(Add(5), 0, 1, Number(0)), call(Add(5), 2, 3, Number(10))]);
}

#[test]
fn a_call_without_an_answer_takes_effect_late_or_never_but_once() {
    let lost = unanswered(Write(1), 0);
    good(&[lost, call(Read, 1, 2, Number(0))]);
    good(&[lost, call(Read, 1, 2, Number(0)), call(Read, 8, 9, Number(1))]);
    bad(&[lost, call(Read, 1, 2, Number(1)), call(Read, 8, 9, Number(0))]);
    bad(&[call(Read, 1, 2, Number(1)), unanswered(Write(1), 3)]);
    let twice = [call(Write(2), 2, 3, Nothing), call(Read, 4, 5, Number(1))];
    good(&[lost, twice[0], twice[1]]);
    bad(&[lost, call(Read, 0, 1, Number(1)), twice[0], twice[1]]);
}

#[test]
fn a_swap_tells_whether_it_was_done() {
    let swap = Swap { old: 0, new: 1 };
    good(&[call(swap, 0, 9, Flag(true)), call(swap, 0, 9, Flag(false))]);
    bad(&[call(swap, 0, 9, Flag(true)), call(swap, 0, 9, Flag(true))]);
    bad(&[call(swap, 0, 1, Flag(false))]);
}

#[test]
fn an_item_is_dequeued_once_and_in_order() {
    let items = [call(Enqueue(1), 0, 1, Nothing), call(Enqueue(2), 2, 3, Nothing)];
    let dequeued = |start, item| call(Dequeue, start, start + 1, Number(item));
    good(&[items[0], items[1], dequeued(4, 1), dequeued(6, 2), call(Dequeue, 8, 9, Nothing)]);
    bad(&[items[0], items[1], dequeued(4, 1), dequeued(6, 1)]);
    bad(&[items[0], items[1], dequeued(4, 2), dequeued(6, 1)]);
    bad(&[items[0], items[1], dequeued(4, 1), call(Dequeue, 8, 9, Nothing)]);
}

#[test]
fn two_owners_of_a_lock_are_seen() {
    let first = call(Acquire(1), 0, 1, Flag(true));
    good(&[first, call(Acquire(2), 2, 3, Flag(false)), call(Release(1), 4, 5, Flag(true))]);
    bad(&[first, call(Acquire(2), 2, 3, Flag(true))]);
    bad(&[first, call(Release(2), 2, 3, Flag(true))]);
    // Released by a call whose answer was lost.
    good(&[first, unanswered(Release(1), 2), call(Acquire(2), 3, 4, Flag(true))]);
}

#[test]
fn keys_are_objects_of_their_own() {
    let other = |operation| Operation { key: 1, ..operation };
    good(&[call(Write(1), 0, 1, Nothing), other(call(Read, 2, 3, Number(0)))]);
    bad(&[other(call(Write(1), 0, 1, Nothing)), other(call(Read, 2, 3, Number(0)))]);
}

#[test]
fn a_violation_says_where_no_order_goes_on() {
    let stale = call(Read, 20_000_000, 30_000_000, Number(0));
    let said = check(&[call(Write(1), 0, 1, Nothing), stale]).unwrap_err().to_string();
    assert!(said.contains("after 1 calls") && said.contains("from 20.000 ms"), "{said}");
}

/// Hundreds of calls whose answers are those of one object, with answers lost now and then and
/// one call that waits all the time.
#[test]
fn long_good_histories_pass_and_one_wrong_answer_is_found() {
    for seed in 0..20 {
        let mut history = sequential(&mut Random::new(seed), 300);
        history.push(call(Read, 0, u64::MAX - 1, Number(0)));
        good(&history);
        let wrong =
            history.iter_mut().filter(|call| call.call == Read && call.end.is_some()).nth(50);
        let (_, answer) = wrong.unwrap().end.as_mut().unwrap();
        *answer = Number(-1);
        bad(&history);
    }
}

/// Calls on a register that each take effect in the middle of their time, one after another.
fn sequential(random: &mut Random, calls: u64) -> Vec<Operation> {
    let mut state = State::default();
    let operation = |nth: u64| {
        let moment = 1000 + nth * 100;
        let asked = match random.below(3) {
            0 => Read,
            1 => Write(i64::try_from(nth).unwrap()),
            _ => Swap { old: i64::try_from(nth).unwrap() - 1, new: -2 },
        };
        let answer = state.apply(asked);
        let start = moment - 1 - random.below(300);
        let answered = random.below(100) > 0;
        let end = answered.then(|| (moment + random.below(300), answer));
        Operation { client: 0, key: 0, call: asked, start, end }
    };
    (0..calls).map(operation).collect()
}

#[test]
fn the_verdict_is_that_of_trying_every_order() {
    let mut verdicts = [0; 2];
    for seed in 0..20_000 {
        let history = arbitrary(&mut Random::new(seed));
        let expected = some_order(&history, &mut vec![false; history.len()], &State::default());
        assert_eq!(check(&history).is_ok(), expected, "seed {seed}: {history:#?}");
        verdicts[usize::from(expected)] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 2000), "both occur: {verdicts:?}");
}

/// Up to six calls with answers out of the blue.
fn arbitrary(random: &mut Random) -> Vec<Operation> {
    let register: &[fn(i64) -> Call] =
        &[|_| Read, Write, |number| Swap { old: number, new: 1 - number }, Add];
    let queue: &[fn(i64) -> Call] = &[Enqueue, |_| Dequeue];
    let is_queue = random.below(3) > 0;
    let kind = if is_queue { queue } else { register };
    let items_differ = is_queue && random.below(2) == 0;
    let count = 2 + random.below(5);
    let operation = |nth: u64| {
        let number = i64::try_from(if items_differ { nth } else { random.below(2) }).unwrap();
        let asked = random.choose(kind)(number);
        let answer = match asked {
            Swap { .. } => Flag(random.below(2) == 0),
            Write(_) | Enqueue(_) => Nothing,
            Dequeue if random.below(3) == 0 => Nothing,
            Dequeue if items_differ => Number(i64::try_from(random.below(count)).unwrap()),
            _ => Number(i64::try_from(random.below(2)).unwrap()),
        };
        let start = random.below(12);
        let end = (random.below(5) > 0).then(|| (start + 1 + random.below(6), answer));
        Operation { client: 0, key: 0, call: asked, start, end }
    };
    (0..count).map(operation).collect()
}

/// Whether those not yet taken can follow in some order, where what has no answer may be left out.
fn some_order(history: &[Operation], taken: &mut Vec<bool>, state: &State) -> bool {
    let left =
        |taken: &[bool]| -> Vec<usize> { (0..history.len()).filter(|nth| !taken[*nth]).collect() };
    let rest = left(taken);
    if rest.iter().all(|nth| history[*nth].end.is_none()) {
        return true;
    }
    rest.iter().any(|nth| {
        let operation = &history[*nth];
        let ended_before =
            |other: &usize| history[*other].end.is_some_and(|(end, _)| end < operation.start);
        if rest.iter().any(ended_before) {
            return false;
        }
        let mut next = state.clone();
        let answer = next.apply(operation.call);
        if operation.end.is_some_and(|(_, given)| given != answer) {
            return false;
        }
        taken[*nth] = true;
        let found = some_order(history, taken, &next);
        taken[*nth] = false;
        found
    })
}

/// Token 1 was written under and given back, then token 5.
fn two_holders() -> [Grant; 2] {
    let first = Grant { lock: 0, token: 1, got: 10, held: 20, is_released: true };
    [first, Grant { lock: 0, token: 5, got: 21, held: 30, is_released: false }]
}

fn write(token: u64, number: i64, ended: Ended) -> Held {
    Held { lock: 0, token, number, is_late: false, ended }
}

#[test]
fn one_holder_after_another_is_good() {
    let writes = [
        write(1, 0, Ended::Done),
        Held { is_late: true, ..write(1, 1, Ended::Refused) },
        write(5, 2, Ended::Done),
        write(5, 3, Ended::Unknown),
        write(5, 4, Ended::Unknown),
        // Its session may have been lost.
        write(5, 5, Ended::Refused),
    ];
    judge(0, &two_holders(), &writes, &[(1, 0), (5, 2), (5, 3)]).unwrap();
}

#[test]
fn two_holders_at_once_are_seen() {
    let judged = |grants: [Grant; 2], writes: &[Held], log: &[(u64, i64)], why: &str| {
        let said = judge(0, &grants, writes, log).unwrap_err();
        assert!(said.contains(why), "{said}");
    };
    let [first, second] = two_holders();
    let with = |second: &Grant| [first.clone(), second.clone()];
    judged(with(&Grant { token: 1, ..second }), &[], &[], "the same token");
    judged(with(&Grant { got: 19, ..second }), &[], &[], "was still held");

    let done = [write(1, 0, Ended::Done), write(5, 1, Ended::Done)];
    judged(with(&second), &done, &[(5, 1), (1, 0)], "was written after");
    judged(with(&second), &done, &[(1, 0)], "0 times");
    judged(with(&second), &done, &[(1, 0), (1, 0), (5, 1)], "2 times");
    judged(with(&second), &done[..1], &[(1, 0), (5, 1)], "nobody wrote");
    judged(with(&second), &[write(3, 0, Ended::Done)], &[(3, 0)], "nobody got");

    let late = Held { is_late: true, ..write(1, 0, Ended::Done) };
    judged(with(&second), &[late], &[(1, 0)], "1 times");
    // Who still held it must not be refused.
    judged(with(&second), &[write(1, 0, Ended::Refused)], &[], "0 times");
}
