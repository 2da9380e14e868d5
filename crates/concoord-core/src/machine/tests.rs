//! What the log makes of calls that wait, of time, and of sessions that end.

use super::*;
use crate::call::Guard;
use crate::object::Method;
use crate::objects::counter::Counter;
use crate::objects::{self};
use crate::value::{Arguments, Value};
use crate::view::{Branch, ClusterId, Member};

/// A machine, what it said last, and another one that lives from snapshot to snapshot.
struct Stage {
    make: fn() -> Machine,
    machine: Machine,
    index: u64,
    time: u64,
    said: Vec<Effect>,
}

const LOCK: &str = objects::lock::CLASS;

fn machine() -> Machine {
    let member = Member::new(ReplicaId(1), ([127, 0, 0, 1], 14000).into());
    let view = View::first(ClusterId(1), member, Branch::default());
    Machine::new(Hosting::native(Box::new(Counter::default())), view)
}

/// One whose objects are of a worker.
fn hosting() -> Machine {
    let member = Member::new(ReplicaId(1), ([127, 0, 0, 1], 14000).into());
    let view = View::first(ClusterId(1), member, Branch::default());
    let class = |name: &str| Interface {
        class: name.into(),
        methods: vec![Method::new("look", "").reads()],
        ..Interface::default()
    };
    Machine::new(Hosting::worker(vec![class("a.First"), class("a.Second")]), view)
}

impl Stage {
    fn new() -> Self {
        Self::of(machine)
    }

    fn of(make: fn() -> Machine) -> Self {
        let mut stage = Self { make, machine: make(), index: 0, time: 0, said: Vec::new() };
        for session in 1..=3 {
            stage.apply(Command::Open(ReplicaId(1), ConnectionId(session)));
        }
        stage
    }

    /// Applies an entry of this command alone.
    fn apply(&mut self, command: Command) {
        self.index += 1;
        self.said.clear();
        let said = &mut self.said;
        let mut then = |effect| said.push(effect);
        self.machine.begin(self.index, self.time, self.time, &mut then);
        self.machine.apply(self.index, command, &mut then);
        self.survives_a_snapshot();
    }

    /// A replica that starts from a snapshot here and now is the same.
    fn survives_a_snapshot(&self) {
        let state = self.machine.freeze().encode();
        let mut other = (self.make)();
        let snapshot = Snapshot { index: self.index, term: 1, state: state.clone(), object: None };
        assert_eq!(other.restore(&snapshot), Ok(None));
        assert_eq!(other.freeze().encode(), state);
        // There is none while a worker has calls to run.
        let digest = self.machine.digest();
        assert!(digest == other.digest() || digest == 0 && !self.machine.hosted.is_empty());
    }

    /// What the worker was asked by the last entry.
    fn hosted(&self) -> Vec<HostedCall> {
        let hosted = |effect: &Effect| {
            let Effect::Host(call) = effect else { return None };
            Some(call.clone())
        };
        self.said.iter().filter_map(hosted).collect()
    }

    /// The worker has done something; who is told what of it.
    fn done(&mut self, done: Done) -> Option<(u64, u64, Outcome)> {
        let told = self.machine.done(done, None);
        let Some(Some(Effect::Replied(session, sequence, outcome))) = told else { return None };
        Some((session.0, sequence, outcome))
    }

    fn call(&mut self, session: u64, sequence: u64, object: &ObjectName, method: &str) {
        self.call_with(session, sequence, object, method, vec![]);
    }

    fn call_with(
        &mut self,
        session: u64,
        sequence: u64,
        object: &ObjectName,
        method: &str,
        positional: Vec<Value>,
    ) {
        let arguments = Arguments { positional, keyword: vec![] }.encode().unwrap();
        self.apply(Command::Call(Call {
            session: SessionId(session),
            sequence,
            method: method.into(),
            object: object.clone(),
            arguments,
            ..Call::default()
        }));
    }

    /// How calls ended by the last entry.
    fn replies(&self) -> Vec<(u64, u64, Outcome)> {
        let reply = |effect: &Effect| {
            let Effect::Replied(session, sequence, outcome) = effect else { return None };
            Some((session.0, *sequence, outcome.clone()))
        };
        self.said.iter().filter_map(reply).collect()
    }

    fn parked(&self) -> Vec<(u64, u64)> {
        let parked = |effect: &Effect| {
            let Effect::Parked(session, sequence) = effect else { return None };
            Some((session.0, *sequence))
        };
        self.said.iter().filter_map(parked).collect()
    }
}

fn lock(name: &str) -> ObjectName {
    ObjectName { class: LOCK.into(), name: name.into() }
}

fn returned(value: Value) -> Outcome {
    Outcome::Returned(value.encode().unwrap())
}

fn token(outcome: &Outcome) -> i64 {
    let Outcome::Returned(bytes) = outcome else { panic!("{outcome:?} is no token") };
    let Ok(Value::Int(token)) = Value::decode(bytes) else { panic!("{outcome:?} is no token") };
    token
}

#[test]
fn a_waiter_gets_the_lock_when_it_is_released_and_its_reply_is_kept() {
    let mut stage = Stage::new();
    stage.call(1, 1, &lock("a"), "acquire");
    let first = token(&stage.replies()[0].2);
    stage.call(2, 1, &lock("a"), "acquire");
    assert_eq!((stage.parked(), stage.replies().len()), (vec![(2, 1)], 0));
    // Another lock of the class is another lock.
    stage.call(3, 1, &lock("b"), "acquire");
    assert_eq!(stage.replies().len(), 1);
    // Asked again it is still the same call.
    stage.call(2, 1, &lock("a"), "acquire");
    assert_eq!((stage.parked(), stage.replies().len()), (vec![(2, 1)], 0));
    stage.call(1, 2, &lock("a"), "release");
    let replies = stage.replies();
    let (session, sequence, outcome) = replies.iter().find(|reply| reply.0 == 2).unwrap();
    assert_eq!((*session, *sequence), (2, 1));
    assert!(token(outcome) > first);
    stage.call(2, 1, &lock("a"), "acquire");
    assert_eq!(stage.replies(), [(2, 1, outcome.clone())]);
}

#[test]
fn deadlines_pass_by_the_clock_of_entries_before_what_the_entry_brings() {
    let mut stage = Stage::new();
    stage.call(1, 1, &lock(""), "acquire");
    stage.call_with(2, 1, &lock(""), "acquire", vec![Value::Bool(true), Value::Int(2)]);
    assert_eq!(stage.machine.due(), Some(2000));
    stage.time = 1999;
    stage.apply(Command::Wake);
    assert!(stage.replies().is_empty());
    // The release comes in the entry that brings the time: it is too late for who waited.
    stage.time = 2000;
    stage.call(1, 2, &lock(""), "release");
    assert_eq!(stage.replies()[0], (2, 1, returned(Value::Bool(false))));
    stage.call(3, 1, &lock(""), "locked");
    assert_eq!(stage.replies()[0].2, returned(Value::Bool(false)));
    assert_eq!(stage.machine.due(), None);
}

#[test]
fn the_end_of_a_session_releases_what_it_held_and_sends_its_waiters_away() {
    let mut stage = Stage::new();
    stage.call(1, 1, &lock("a"), "acquire");
    stage.call(1, 2, &lock("b"), "acquire");
    stage.call(2, 1, &lock("a"), "acquire");
    stage.call(3, 1, &lock("a"), "acquire");
    stage.apply(Command::Expire(SessionId(2)));
    assert!(stage.replies().is_empty(), "nobody is there to be told");
    stage.apply(Command::Expire(SessionId(1)));
    assert_eq!(stage.replies().len(), 1, "the next in line has it");
    assert_eq!(stage.replies()[0].0, 3);
    stage.call(3, 2, &lock("b"), "locked");
    assert_eq!(stage.replies()[0].2, returned(Value::Bool(false)));
}

#[test]
fn who_cancelled_never_gets_the_lock_and_a_call_that_is_cancelled_before_it_comes_never_runs() {
    let mut stage = Stage::new();
    stage.call(1, 1, &lock(""), "acquire");
    stage.call(2, 1, &lock(""), "acquire");
    let cancelled = Outcome::Refused(Refusal::Cancelled);
    let call = CallId { session: SessionId(2), sequence: 1 };
    stage.apply(Command::Cancel(call));
    assert!(stage.replies().contains(&(2, 1, cancelled.clone())));
    stage.call(1, 2, &lock(""), "release");
    stage.call(3, 1, &lock(""), "locked");
    assert_eq!(stage.replies()[0].2, returned(Value::Bool(false)));
    let early = CallId { session: SessionId(2), sequence: 2 };
    stage.apply(Command::Cancel(early));
    stage.call(2, 2, &lock(""), "acquire");
    assert_eq!(stage.replies(), [(2, 2, cancelled)]);
    // One that was granted stays so: who cancels learns it, and gives it back.
    stage.call(3, 2, &lock(""), "acquire");
    let granted = stage.replies()[0].2.clone();
    stage.apply(Command::Cancel(CallId { session: SessionId(3), sequence: 2 }));
    assert_eq!(stage.replies(), [(3, 2, granted)]);
}

#[test]
fn a_call_under_a_guard_runs_only_while_the_token_is_held() {
    let mut stage = Stage::new();
    stage.call(1, 1, &lock("a"), "acquire");
    let token = u64::try_from(token(&stage.replies()[0].2)).unwrap();
    let guarded = |sequence| Call {
        session: SessionId(2),
        sequence,
        method: "increment".into(),
        guard: Some(Box::new(Guard { object: lock("a"), token })),
        ..Call::default()
    };
    stage.apply(Command::Call(guarded(1)));
    assert_eq!(stage.replies()[0].2, returned(Value::None));
    stage.call(1, 2, &lock("a"), "release");
    stage.call(1, 3, &lock("a"), "acquire");
    stage.apply(Command::Call(guarded(2)));
    assert!(matches!(stage.replies()[0].2, Outcome::Refused(Refusal::Fenced { .. })));
    stage.call(1, 4, &ObjectName::default(), "getvalue");
    assert_eq!(stage.replies()[0].2, returned(Value::Int(1)));
}

#[test]
fn a_call_that_waits_holds_up_no_other_reply() {
    let mut stage = Stage::new();
    stage.call(1, 1, &lock(""), "acquire");
    stage.call(2, 1, &lock(""), "acquire");
    let increment = |sequence, acked, received: Vec<u64>| {
        Command::Call(Call {
            session: SessionId(2),
            sequence,
            acked,
            received,
            method: "increment".into(),
            ..Call::default()
        })
    };
    for sequence in 2..2000 {
        stage.apply(increment(sequence, sequence, vec![]));
        assert_eq!(stage.replies()[0].2, returned(Value::None), "call {sequence}");
    }
    stage.call(1, 2, &lock(""), "release");
    let granted = stage.replies().into_iter().find(|reply| reply.0 == 2).unwrap().2;
    stage.call(2, 1, &lock(""), "acquire");
    assert_eq!(stage.replies()[0].2, granted, "its reply is kept until it has arrived");
    stage.apply(increment(2000, 2000, vec![1]));
    stage.call(2, 1, &lock(""), "acquire");
    assert_eq!(stage.replies()[0].2, Outcome::Refused(Refusal::Superseded));
}

#[test]
fn objects_are_listed_described_and_removed() {
    let mut stage = Stage::new();
    stage.call(1, 1, &lock("a"), "acquire");
    stage.call(2, 1, &lock("a"), "acquire");
    let ask = |stage: &Stage, method: &str, object: ObjectName| {
        let call = Call { session: SessionId(1), method: method.into(), object, ..Call::default() };
        stage.machine.read(&call).unwrap()
    };
    let pair = |class: &str, name: &str| Value::Tuple(vec![class.into(), name.into()]);
    let default = pair(objects::counter::CLASS, "");
    let all = returned(Value::List(vec![default.clone(), pair(LOCK, "a")]));
    assert_eq!(ask(&stage, "__concoordobjects__", ObjectName::default()), all);
    let Outcome::Returned(said) = ask(&stage, "__concoorddescribe__", lock("a")) else { panic!() };
    let Ok(Value::Map(said)) = Value::decode(&said) else { panic!("a map is returned") };
    assert!(said.contains(&("parked".into(), Value::Int(1))));
    stage.call(3, 1, &lock("a"), "__concoordremove__");
    assert!(matches!(stage.replies()[0], (2, 1, Outcome::Raised(_))));
    assert_eq!(stage.replies()[1], (3, 1, returned(Value::Bool(true))));
    let rest = returned(Value::List(vec![default]));
    assert_eq!(ask(&stage, "__concoordobjects__", ObjectName::default()), rest);
    // The next of that name is another lock, which nobody holds.
    stage.call(3, 2, &lock("a"), "acquire");
    assert_eq!(stage.replies().len(), 1);
}

#[test]
fn what_can_not_be_made_is_not_there_and_can_be_made_otherwise() {
    let mut stage = Stage::new();
    let semaphore = ObjectName { class: objects::semaphore::CLASS.into(), name: "a".into() };
    let mut create = |sequence, count: i64| {
        let count = vec![Value::Int(count)];
        stage.call_with(1, sequence, &semaphore, "__concoordcreate__", count);
        (stage.replies().remove(0).2, stage.machine.find(&semaphore).is_some())
    };
    let (refused, is_there) = create(1, -1);
    assert!(matches!(refused, Outcome::Raised(_)) && !is_there, "{refused:?}");
    assert_eq!(create(2, 3), (returned(Value::None), true));
    assert_eq!(create(3, 5), (returned(Value::Bool(false)), true));
    assert!(matches!(create(4, -1), (Outcome::Returned(_), true)), "there is one");
    stage.call(1, 5, &semaphore, "getvalue");
    assert_eq!(stage.replies()[0].2, returned(Value::Int(3)));
}

/// Who watches an object before there is one keeps its place, whatever becomes of the making.
#[test]
fn what_is_only_watched_can_be_made() {
    let mut stage = Stage::new();
    let semaphore = ObjectName { class: objects::semaphore::CLASS.into(), name: "a".into() };
    stage.call(1, 1, &semaphore, "__concoordwatch__");
    let watched = stage.machine.find(&semaphore);
    for (sequence, count) in [(1, -1), (2, 3)] {
        let count = vec![Value::Int(count)];
        stage.call_with(2, sequence, &semaphore, "__concoordcreate__", count);
        let raised = matches!(stage.replies()[0].2, Outcome::Raised(_));
        assert_eq!((raised, stage.machine.find(&semaphore)), (sequence == 1, watched));
    }
    stage.call(2, 3, &semaphore, "getvalue");
    assert_eq!(stage.replies()[0].2, returned(Value::Int(3)));
}

#[test]
fn who_waits_for_what_is_removed_is_told_so_once_and_gets_nothing_that_another_leaves() {
    let mut stage = Stage::new();
    let lock = ObjectName { class: objects::readwritelock::CLASS.into(), name: "a".into() };
    for (session, method) in [(1, "acquire_read"), (2, "acquire_write"), (3, "acquire_read")] {
        stage.call(session, 1, &lock, method);
    }
    assert!(stage.replies().is_empty(), "a reader waits behind the writer that waits");
    stage.call(1, 2, &lock, "__concoordremove__");
    let ends: Vec<_> =
        stage.replies().into_iter().map(|(session, _, end)| (session, end)).collect();
    let (last, removed) = ends.split_last().unwrap();
    assert_eq!(*last, (1, returned(Value::Bool(true))));
    assert!(removed.iter().all(|(_, end)| matches!(end, Outcome::Raised(_))), "{removed:?}");
    assert_eq!(removed.iter().map(|(session, _)| *session).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn what_was_never_called_can_be_read_and_is_not_made() {
    let stage = Stage::new();
    let (session, method, object) = (SessionId(1), "locked".into(), lock("never"));
    let call = Call { session, method, object, ..Call::default() };
    assert_eq!(stage.machine.read(&call), Some(returned(Value::Bool(false))));
    assert_eq!(stage.machine.find(&lock("never")), None);
}

#[test]
fn the_class_that_the_cluster_was_started_with_can_be_named() {
    let mut stage = Stage::new();
    let named = ObjectName { class: objects::counter::CLASS.into(), name: String::new() };
    stage.call(1, 1, &named, "increment");
    stage.call(1, 2, &ObjectName::default(), "getvalue");
    assert_eq!(stage.replies()[0].2, returned(Value::Int(1)));
    let other = ObjectName { name: "hits".into(), ..ObjectName::default() };
    stage.call(1, 3, &other, "getvalue");
    assert_eq!(stage.replies()[0].2, returned(Value::Int(0)));
}

#[test]
fn a_cancelled_call_that_its_object_forgot_ends_as_cancelled_and_once() {
    let cancelled = Outcome::Refused(Refusal::Cancelled);
    let none = Outcome::Returned(Bytes::from_static(&[0xf6]));
    let mut stage = Stage::of(hosting);
    for (sequence, knows) in [(1, true), (2, false)] {
        stage.call(1, sequence, &ObjectName::default(), "wait");
        let number = stage.hosted()[0].number;
        assert_eq!(stage.done(Done::Parked(number)), None);
        let call = CallId { session: SessionId(1), sequence };
        stage.apply(Command::Cancel(call));
        let asked = stage.hosted().remove(0);
        assert_eq!((asked.method.as_str(), asked.call), (CANCEL, call));
        let mut replies = Vec::new();
        if knows {
            replies.extend(stage.done(Done::Woken(asked.number, call, cancelled.clone())));
        }
        replies.extend(stage.done(Done::Ended(asked.number, none.clone())));
        assert_eq!(replies, [(1, sequence, cancelled.clone())], "known to it: {knows}");
        // Asked again it has ended, and the worker hears no more of it.
        stage.call(1, sequence, &ObjectName::default(), "wait");
        assert_eq!(stage.replies(), replies);
        assert!(stage.hosted().is_empty());
        stage.survives_a_snapshot();
    }
}

#[test]
fn a_call_that_ended_before_it_was_cancelled_keeps_its_reply() {
    let mut stage = Stage::of(hosting);
    stage.call(1, 1, &ObjectName::default(), "wait");
    let number = stage.hosted()[0].number;
    stage.done(Done::Parked(number));
    let woken = returned(Value::Int(7));
    stage.call(2, 1, &ObjectName::default(), "wake");
    let by = stage.hosted()[0].number;
    let call = CallId { session: SessionId(1), sequence: 1 };
    assert_eq!(stage.done(Done::Woken(by, call, woken.clone())), Some((1, 1, woken.clone())));
    stage.done(Done::Ended(by, returned(Value::None)));
    stage.apply(Command::Cancel(call));
    assert_eq!(stage.replies(), [(1, 1, woken)]);
    let asked = stage.hosted()[0].number;
    assert_eq!(stage.done(Done::Ended(asked, returned(Value::None))), None);
}

#[test]
fn a_worker_knows_an_object_by_one_name() {
    let mut stage = Stage::of(hosting);
    let object = |class: &str, name: &str| ObjectName { class: class.into(), name: name.into() };
    for (sequence, (asked, told)) in (1..).zip([
        (object("a.First", ""), object("", "")),
        (object("a.First", "x"), object("", "x")),
        (object("", "x"), object("", "x")),
        (object("a.Second", "x"), object("a.Second", "x")),
    ]) {
        stage.call(1, sequence, &asked, "work");
        assert_eq!(stage.hosted()[0].object, told);
    }
}

#[test]
fn what_only_replicas_ask_of_a_worker_no_client_does() {
    let mut stage = Stage::of(hosting);
    for (sequence, method) in (1..).zip(STEPS) {
        stage.call(1, sequence, &ObjectName::default(), method);
        assert!(stage.hosted().is_empty());
        assert!(matches!(stage.replies()[0].2, Outcome::Refused(Refusal::NoSuchMethod { .. })));
    }
}

#[test]
fn a_worker_is_asked_at_first_whether_it_has_timers() {
    let mut stage = Stage::of(hosting);
    assert_eq!(stage.machine.due(), Some(0));
    stage.apply(Command::Wake);
    let number = stage.hosted()[0].number;
    stage.done(Done::Ended(number, returned(Value::None)));
    stage.machine.worker_is_due(None);
    assert_eq!(stage.machine.due(), None);
}

#[test]
fn a_call_that_only_reads_is_no_change_though_the_log_brings_it() {
    let mut stage = Stage::of(hosting);
    stage.call(1, 1, &ObjectName::default(), "__concoordwatch__");
    let Outcome::Returned(step) = stage.replies().remove(0).2 else { panic!("it says from where") };
    let step = Value::decode(&step).unwrap();
    stage.call(2, 1, &ObjectName::default(), "look");
    stage.call_with(1, 2, &ObjectName::default(), "__concoordwatch__", vec![step]);
    assert_eq!(stage.parked(), [(1, 2)], "there is nothing to tell yet");
    stage.call(2, 2, &ObjectName::default(), "work");
    assert_eq!(stage.replies(), [(1, 2, returned(Value::List(vec![])))], "now there is");
}
