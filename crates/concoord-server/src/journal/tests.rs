//! What a journal sends, keeps and believes.

use concoord_core::call::{CallId, SessionId};
use concoord_core::wire::{read_message, take_frame};

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn apply(number: u64) -> WorkerAction {
    let call = HostedCall { number, method: "add".into(), ..HostedCall::default() };
    WorkerAction::Apply { index: number, time_ms: 0, clock_ms: 0, calls: vec![call] }
}

fn state(has_sets: bool) -> State {
    State { bytes: Bytes::from_static(b"state"), has_sets }
}

fn done(number: u64) -> FromWorker {
    FromWorker::Done {
        done: vec![Done::Ended(number, Outcome::Returned(Bytes::new()))],
        wake_at: None,
    }
}

/// What the next frame asks for: the numbers of steps and their methods.
fn next_frame(journal: &mut Journal) -> Vec<(u64, String)> {
    let mut to = BytesMut::new();
    assert_eq!(journal.send(Instant::now(), &mut to), Next::Frame);
    let frame = take_frame(&mut to, 1 << 20).unwrap().unwrap();
    let asked: ToWorker = read_message(&frame).unwrap();
    calls_of(&asked).iter().map(|call| (call.number, call.method.clone())).collect()
}

/// Has the journal send all it can; says how many frames.
fn send(journal: &mut Journal) -> usize {
    let mut to = BytesMut::new();
    std::iter::from_fn(|| (journal.send(Instant::now(), &mut to) != Next::Nothing).then_some(()))
        .count()
}

#[test]
fn a_journal_that_grows_asks_for_a_snapshot_of_its_own_and_begins_anew_from_it() {
    let mut journal = Journal::new(MINUTE, MINUTE);
    let last = JOURNAL_CALLS_MAX as u64 + 1;
    for number in 1..=last {
        journal.ask(apply(number));
        send(&mut journal);
        journal.hear(done(number), Instant::now()).unwrap();
    }
    let own = ToWorker::Snapshot(OWN + 1);
    assert_eq!(journal.asked.back(), Some(&own));
    journal.ask(apply(last + 1));
    assert_eq!(send(&mut journal), 1);
    // The core does not hear of it.
    assert!(journal.hear_state(OWN + 1, Ok(state(false))).is_none());
    assert_eq!((journal.asked.len(), journal.calls, journal.bytes), (1, 1, CALL_BYTES));
    journal.hear(done(last + 1), Instant::now()).unwrap();
    journal.end_life();
    assert_eq!(send(&mut journal), 2, "only the state and what it does not hold");
}

#[test]
fn a_state_with_sets_makes_no_base_before_it_is_settled() {
    let mut journal = Journal::new(MINUTE, MINUTE);
    journal.ask(apply(1));
    journal.ask(WorkerAction::Snapshot(2));
    send(&mut journal);
    journal.hear(done(1), Instant::now()).unwrap();
    let unsettled = journal.hear_state(2, Ok(state(true)));
    assert!(matches!(unsettled, Some(Event::Unsettled(2))));
    assert!(journal.base.is_none());
    journal.ask(WorkerAction::Settle(3));
    journal.ask(apply(4));
    assert_eq!(send(&mut journal), 2);
    journal.hear(FromWorker::Settled(3, Ok(())), Instant::now()).unwrap();
    journal.hear(done(4), Instant::now()).unwrap();
    let settled = journal.hear_state(3, Ok(state(true)));
    assert!(matches!(settled, Some(Event::Snapshot(3, Ok(_)))));
    assert!(journal.base_is(&state(true).bytes));
    assert_eq!(journal.asked.len(), 1, "the call that came later");
}

#[test]
fn a_successor_settles_where_all_others_did() {
    let mut journal = Journal::new(MINUTE, MINUTE);
    journal.ask(WorkerAction::Settle(1));
    send(&mut journal);
    journal.hear(FromWorker::Settled(1, Ok(())), Instant::now()).unwrap();
    let lost = journal.hear_state(1, Err("the process that wrote it was killed".into()));
    assert!(matches!(lost, Some(Event::Snapshot(1, Err(_)))));
    journal.end_life();
    assert_eq!(send(&mut journal), 1);
    assert!(journal.end_life().is_none(), "once may be chance");
    send(&mut journal);
    assert!(matches!(journal.end_life(), Some(Event::Restored(Err(_)))));
}

#[test]
fn what_nobody_asked_is_not_believed() {
    let mut journal = Journal::new(MINUTE, MINUTE);
    journal.ask(apply(1));
    assert!(journal.hear(done(1), Instant::now()).is_err(), "it was not sent yet");
    send(&mut journal);
    assert!(journal.hear(done(2), Instant::now()).is_err());
    assert!(journal.hear(FromWorker::Restored(Ok(())), Instant::now()).is_err());
    assert!(journal.hear(done(1), Instant::now()).is_ok());
}

#[test]
fn a_worker_that_always_dies_of_writing_its_state_down_ends_the_asking() {
    let mut journal = Journal::new(MINUTE, MINUTE);
    journal.ask(WorkerAction::Snapshot(1));
    send(&mut journal);
    assert!(journal.end_life().is_none(), "once may be chance");
    send(&mut journal);
    assert!(matches!(journal.end_life(), Some(Event::Snapshot(1, Err(_)))));
}

#[test]
fn the_time_of_a_call_runs_from_when_the_worker_began_on_it() {
    let mut journal = Journal::new(MINUTE, MINUTE);
    let start = Instant::now();
    assert_eq!(journal.time_left(start), None);
    let mut to = BytesMut::new();
    for number in 1..=2 {
        journal.ask(apply(number));
        journal.send(start, &mut to);
    }
    let later = start + MINUTE / 2;
    assert_eq!(journal.time_left(later), Some(MINUTE / 2));
    journal.hear(done(1), later).unwrap();
    assert_eq!(journal.time_left(later), Some(MINUTE));
}

#[test]
fn a_worker_is_told_where_something_is_left_out_whole_or_step_by_step() {
    let step = |number, method: &str| (number, method.to_owned());
    let call = |number| HostedCall { number, method: "add".into(), ..HostedCall::default() };
    let mut journal = Journal::new(MINUTE, MINUTE);
    let (index, time_ms, clock_ms) = (1, 0, 0);
    let calls = vec![call(1), call(2)];
    journal.ask(WorkerAction::Apply { index, time_ms, clock_ms, calls });
    assert_eq!(next_frame(&mut journal), [step(1, "add"), step(2, "add")]);
    journal.end_life();
    assert_eq!(next_frame(&mut journal), [step(1, "add")]);
    assert!(matches!(journal.end_life(), Some(Event::HostFailed(1))));
    assert!(journal.ask(WorkerAction::Skip(1)).is_some());
    assert_eq!(next_frame(&mut journal), [step(1, SKIPPED)]);
    assert!(journal.hear(done(1), Instant::now()).unwrap().is_none(), "it has ended already");
    assert_eq!(next_frame(&mut journal), [step(2, "add")]);
    journal.hear(done(2), Instant::now()).unwrap();
    assert_eq!(send(&mut journal), 0);
    journal.end_life();
    assert_eq!(next_frame(&mut journal), [step(1, SKIPPED), step(2, "add")]);
}

#[test]
fn who_is_woken_is_told_once_though_the_worker_dies_before_the_end_of_the_call_that_woke() {
    let woken = |sequence| {
        let call = CallId { session: SessionId(1), sequence };
        Done::Woken(1, call, Outcome::Returned(Bytes::new()))
    };
    let part = |done| FromWorker::Done { done, wake_at: None };
    let ended = Done::Ended(1, Outcome::Returned(Bytes::new()));
    let mut journal = Journal::new(MINUTE, MINUTE);
    journal.ask(apply(1));
    send(&mut journal);
    let heard = journal.hear(part(vec![woken(1)]), Instant::now()).unwrap();
    assert!(heard.is_none(), "its end is still to come");
    journal.end_life();
    assert_eq!(send(&mut journal), 1);
    for sequence in 1..=2 {
        let heard = journal.hear(part(vec![woken(sequence)]), Instant::now()).unwrap();
        assert!(heard.is_none());
    }
    let heard = journal.hear(part(vec![woken(3), ended.clone()]), Instant::now()).unwrap();
    let all = vec![woken(1), woken(2), woken(3), ended];
    assert!(matches!(heard, Some(Event::Done(told, None)) if told == all));
}

#[test]
fn a_read_without_an_answer_outlives_the_state_that_it_was_asked_of() {
    let mut journal = Journal::new(MINUTE, MINUTE);
    let read = HostedCall { number: 2, method: "total".into(), ..HostedCall::default() };
    journal.ask(apply(1));
    send(&mut journal);
    journal.hear(done(1), Instant::now()).unwrap();
    journal.end_life();
    journal.ask(WorkerAction::Read { time_ms: 0, calls: vec![read] });
    journal.ask(WorkerAction::Restore(Bytes::from_static(b"state")));
    let mut to = BytesMut::new();
    assert!(matches!(journal.send(Instant::now(), &mut to), Next::Give(_)));
    assert_eq!(next_frame(&mut journal), [(2, "total".to_owned())]);
    journal.hear(FromWorker::Restored(Ok(())), Instant::now()).unwrap();
    let told = journal.hear(done(2), Instant::now()).unwrap();
    assert!(matches!(told, Some(Event::Done(done, _)) if done.len() == 1));
    assert_eq!(send(&mut journal), 0);
}

/// A state that came meanwhile has done away with the call, and the read is to be asked of it.
#[test]
fn a_read_is_not_blamed_for_a_call_that_is_no_part_of_the_state_any_more() {
    let mut journal = Journal::new(MINUTE, MINUTE);
    let read = HostedCall { number: 2, method: "total".into(), ..HostedCall::default() };
    journal.ask(apply(1));
    journal.ask(WorkerAction::Read { time_ms: 0, calls: vec![read] });
    assert_eq!(send(&mut journal), 2);
    // A worker dies of the call.
    journal.ask(WorkerAction::Restore(Bytes::from_static(b"state")));
    assert!(journal.end_life().is_none());
    // The next one dies at the read, which may be chance.
    let mut to = BytesMut::new();
    assert!(matches!(journal.send(Instant::now(), &mut to), Next::Give(_)));
    journal.hear(FromWorker::Restored(Ok(())), Instant::now()).unwrap();
    assert_eq!(next_frame(&mut journal), [(2, "total".to_owned())]);
    assert!(journal.end_life().is_none());
}

#[test]
fn what_workers_die_of_is_found_in_all_that_the_first_had_not_answered() {
    let call = |number| HostedCall { number, method: "add".into(), ..HostedCall::default() };
    let mut journal = Journal::new(MINUTE, MINUTE);
    for number in [1, 3, 5, 7] {
        let calls = vec![call(number), call(number + 1)];
        journal.ask(WorkerAction::Apply { index: number, time_ms: 0, clock_ms: 0, calls });
    }
    assert_eq!(send(&mut journal), 4);
    // Half of the first entry is answered, of what follows the worker says nothing any more.
    journal.hear(done(1), Instant::now()).unwrap();
    assert!(journal.end_life().is_none());
    // The next one dies early, by chance: that is no reason to forget what was suspected.
    assert_eq!(next_frame(&mut journal).len(), 1);
    assert!(journal.end_life().is_none());
    for lives in 0..2 {
        for number in 1..=5 {
            assert_eq!(next_frame(&mut journal), [(number, "add".to_owned())]);
            assert_eq!(send(&mut journal), 0, "one after the other");
            journal.hear(done(number), Instant::now()).unwrap();
        }
        assert_eq!(next_frame(&mut journal), [(6, "add".to_owned())]);
        match (lives, journal.end_life()) {
            (0, None) | (1, Some(Event::HostFailed(6))) => {}
            (_, told) => panic!("{told:?} in life {lives}"),
        }
    }
    journal.ask(WorkerAction::Skip(6));
    for number in 1..=8 {
        assert_eq!(next_frame(&mut journal)[0].0, number);
        journal.hear(done(number), Instant::now()).unwrap();
    }
    // All of them have run: what comes next is nobody's fault.
    for number in [9, 11] {
        let calls = vec![call(number), call(number + 1)];
        journal.ask(WorkerAction::Apply { index: number, time_ms: 0, clock_ms: 0, calls });
    }
    assert_eq!(send(&mut journal), 2);
}

#[test]
fn each_call_of_an_entry_has_the_whole_time() {
    let mut journal = Journal::new(MINUTE, MINUTE);
    let call = |number| HostedCall { number, method: "add".into(), ..HostedCall::default() };
    let calls = vec![call(1), call(2)];
    journal.ask(WorkerAction::Apply { index: 1, time_ms: 0, clock_ms: 0, calls });
    let start = Instant::now();
    journal.send(start, &mut BytesMut::new());
    journal.hear(done(1), start + MINUTE / 2).unwrap();
    assert_eq!(journal.time_left(start + MINUTE / 2), Some(MINUTE));
    assert_eq!(journal.time_left(start + MINUTE), Some(MINUTE / 2));
}
