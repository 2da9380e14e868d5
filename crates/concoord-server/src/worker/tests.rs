//! Workers that die, hang and come back.

use std::path::Path;

use bytes::Bytes;
use concoord_core::call::{Outcome, Refusal};
use concoord_core::value::Value;
use concoord_core::wire::{Done, HostedCall};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::LocalSet;

use super::*;

/// Far more than any step here needs.
const SOON: Duration = Duration::from_secs(20);

fn spec(class: &str) -> WorkerSpec {
    WorkerSpec {
        classes: vec![class.into()],
        command: fake::command("worker::fake::fake_worker"),
        load_timeout: 3 * SOON,
        apply_timeout: Duration::from_millis(500),
    }
}

struct Hosted {
    worker: Worker,
    events: UnboundedReceiver<Event>,
    number: u64,
}

impl Hosted {
    async fn load(scratch: &Path) -> Self {
        Self::load_as(spec(scratch.to_str().expect("it is text"))).await
    }

    async fn load_as(spec: WorkerSpec) -> Self {
        let (worker, _) = Worker::load(spec).await.expect("loads");
        let (events_tx, events) = unbounded_channel();
        worker.deliver_to(move |event| events_tx.send(event).expect("the test listens"));
        Self { worker, events, number: 0 }
    }

    fn calls(&mut self, methods: &[&str]) -> Vec<HostedCall> {
        let mut call = |method: &&str| {
            self.number += 1;
            HostedCall { number: self.number, method: (*method).into(), ..HostedCall::default() }
        };
        methods.iter().map(&mut call).collect()
    }

    fn apply(&mut self, methods: &[&str]) {
        let calls = self.calls(methods);
        let index = self.number;
        self.worker.ask(WorkerAction::Apply { index, time_ms: 0, clock_ms: 0, calls });
    }

    fn read(&mut self, method: &str) {
        let calls = self.calls(&[method]);
        self.worker.ask(WorkerAction::Read { time_ms: 0, calls });
    }

    async fn event(&mut self) -> Event {
        timeout(SOON, self.events.recv()).await.expect("in time").expect("the worker is there")
    }

    /// The calls done, until `count` of them are.
    async fn done(&mut self, count: usize) -> Vec<(u64, Result<i64, Refusal>)> {
        let mut all = Vec::new();
        while all.len() < count {
            let Event::Done(done, _) = self.event().await else { panic!("calls are done") };
            let ended = done.into_iter().map(|done| match done {
                Done::Ended(number, outcome) => (number, outcome),
                Done::Parked(_) | Done::Woken(..) => panic!("nothing waits here"),
            });
            all.extend(ended.map(|(number, outcome)| match outcome {
                Outcome::Returned(total) => match Value::decode(&total) {
                    Ok(Value::Int(total)) => (number, Ok(total)),
                    other => panic!("{other:?} is no total"),
                },
                Outcome::Refused(refusal) => (number, Err(refusal)),
                Outcome::Raised(_) => panic!("the fake raises nothing"),
            }));
        }
        all
    }
}

/// Runs a test with a loaded worker and a scratch folder.
fn hosted<F: Future<Output = ()>>(test: impl FnOnce(Hosted) -> F) {
    let scratch = tempfile::tempdir().expect("there is room");
    run_local(async {
        test(Hosted::load(scratch.path()).await).await;
    });
}

fn run_local(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    LocalSet::new().block_on(&runtime.expect("there are descriptors"), test);
}

#[test]
fn calls_are_answered_in_order() {
    hosted(|mut hosted| async move {
        hosted.apply(&["add", "add"]);
        hosted.read("total");
        hosted.apply(&["add"]);
        assert_eq!(hosted.done(4).await, [(1, Ok(1)), (2, Ok(2)), (3, Ok(2)), (4, Ok(3))]);
    });
}

#[test]
fn a_call_that_the_worker_died_of_by_chance_is_tried_once_more_and_answered() {
    hosted(|mut hosted| async move {
        hosted.apply(&["add"]);
        assert_eq!(hosted.done(1).await, [(1, Ok(1))]);
        hosted.apply(&["add", "die_once", "add"]);
        hosted.apply(&["add"]);
        let expected = [(2, Ok(2)), (3, Ok(102)), (4, Ok(103)), (5, Ok(104))];
        assert_eq!(hosted.done(4).await, expected);
    });
}

#[test]
fn that_the_class_has_changed_is_told_until_it_is_put_back() {
    let scratch = tempfile::tempdir().expect("there is room");
    run_local(async {
        let mut hosted = Hosted::load(scratch.path()).await;
        let changed = scratch.path().join(fake::CHANGED);
        std::fs::write(&changed, "").expect("there is room");
        hosted.apply(&["add", "die_once"]);
        for _ in 0..2 {
            let Event::Hosting(Err(reason)) = hosted.event().await else { panic!("it is told") };
            assert!(reason.contains("put its source back"), "{reason}");
        }
        std::fs::remove_file(&changed).expect("it is there");
        while let Event::Hosting(found) = hosted.event().await {
            if found.is_ok() {
                break;
            }
        }
        assert_eq!(hosted.done(2).await, [(1, Ok(1)), (2, Ok(101))]);
    });
}

#[test]
fn a_call_that_hung_by_chance_is_tried_once_more_and_answered() {
    hosted(|mut hosted| async move {
        hosted.apply(&["add", "hang_once"]);
        assert_eq!(hosted.done(2).await, [(1, Ok(1)), (2, Ok(101))]);
    });
}

#[test]
fn a_call_that_always_kills_is_reported_and_the_rest_goes_on_once_it_is_skipped() {
    hosted(|mut hosted| async move {
        hosted.apply(&["add", "die", "add"]);
        assert_eq!(hosted.done(1).await, [(1, Ok(1))]);
        assert!(matches!(hosted.event().await, Event::HostFailed(2)));
        hosted.apply(&["add"]);
        hosted.worker.ask(WorkerAction::Skip(2));
        let expected = [(2, Err(Refusal::ObjectCrashed)), (3, Ok(2)), (4, Ok(3))];
        assert_eq!(hosted.done(3).await, expected);
    });
}

#[test]
fn a_call_that_always_hangs_is_reported_too() {
    hosted(|mut hosted| async move {
        hosted.apply(&["hang"]);
        assert!(matches!(hosted.event().await, Event::HostFailed(1)));
    });
}

#[test]
fn a_call_that_hangs_after_a_state_was_taken_in_gets_no_more_time() {
    hosted(|mut hosted| async move {
        hosted.worker.ask(WorkerAction::Restore(vec![0; 8].into()));
        assert!(matches!(hosted.event().await, Event::Restored(Ok(()))));
        // Each worker that tries it takes the state in first, for which it has far longer.
        for hanging in 1..=3 {
            hosted.apply(&["hang"]);
            assert!(matches!(hosted.event().await, Event::HostFailed(number) if number == hanging));
            hosted.worker.ask(WorkerAction::Skip(hanging));
            assert_eq!(hosted.done(1).await, [(hanging, Err(Refusal::ObjectCrashed))]);
        }
    });
}

#[test]
fn a_read_that_kills_is_refused_without_asking_anybody() {
    hosted(|mut hosted| async move {
        hosted.apply(&["add"]);
        hosted.read("die");
        hosted.apply(&["add"]);
        let expected = [(1, Ok(1)), (2, Err(Refusal::ObjectCrashed)), (3, Ok(2))];
        assert_eq!(hosted.done(3).await, expected);
    });
}

#[test]
fn a_call_that_was_done_here_is_undone_when_the_others_skip_it() {
    hosted(|mut hosted| async move {
        hosted.apply(&["add", "add"]);
        assert_eq!(hosted.done(2).await, [(1, Ok(1)), (2, Ok(2))]);
        hosted.worker.ask(WorkerAction::Skip(1));
        hosted.read("total");
        assert_eq!(hosted.done(1).await, [(3, Ok(1))]);
    });
}

#[test]
fn a_successor_begins_from_the_snapshot() {
    hosted(|mut hosted| async move {
        hosted.apply(&["add", "add"]);
        hosted.worker.ask(WorkerAction::Snapshot(9));
        assert_eq!(hosted.done(2).await, [(1, Ok(1)), (2, Ok(2))]);
        let Event::Snapshot(9, Ok(state)) = hosted.event().await else { panic!("a snapshot") };
        assert_eq!(state[0], 2);
        hosted.apply(&["add", "die_once"]);
        assert_eq!(hosted.done(2).await, [(3, Ok(3)), (4, Ok(103))]);
        assert!(hosted.worker.host.journal.borrow().base_is(&state));
    });
}

#[test]
fn a_state_of_which_nothing_comes_is_given_up_and_calls_go_on() {
    let scratch = tempfile::tempdir().expect("there is room");
    std::fs::write(scratch.path().join(fake::HANGS_OF_SNAPSHOT), "").expect("there is room");
    let class = scratch.path().to_str().expect("it is text");
    run_local(async {
        let patience = WorkerSpec { load_timeout: Duration::from_secs(2), ..spec(class) };
        let mut hosted = Hosted::load_as(patience).await;
        hosted.apply(&["add"]);
        assert_eq!(hosted.done(1).await, [(1, Ok(1))]);
        hosted.worker.ask(WorkerAction::Snapshot(9));
        hosted.apply(&["add"]);
        assert_eq!(hosted.done(1).await, [(2, Ok(2))]);
        let Event::Snapshot(9, Err(reason)) = hosted.event().await else { panic!("there is none") };
        assert!(reason.contains("dies of writing its state down"), "{reason}");
        hosted.apply(&["add"]);
        assert_eq!(hosted.done(1).await, [(3, Ok(3))]);
    });
}

#[test]
fn a_state_is_taken_in_and_survives_the_worker() {
    hosted(|mut hosted| async move {
        hosted.apply(&["add"]);
        assert_eq!(hosted.done(1).await.len(), 1);
        let mut state = vec![0; 3 << 20];
        state[0] = 40;
        hosted.worker.ask(WorkerAction::Restore(state.into()));
        hosted.apply(&["add", "die_once"]);
        assert!(matches!(hosted.event().await, Event::Restored(Ok(()))));
        assert_eq!(hosted.done(2).await, [(2, Ok(41)), (3, Ok(141))]);
    });
}

#[test]
fn a_state_that_is_none_is_refused_and_the_next_one_taken() {
    hosted(|mut hosted| async move {
        hosted.worker.ask(WorkerAction::Restore(Bytes::from_static(b"?")));
        assert!(matches!(hosted.event().await, Event::Restored(Err(_))));
        hosted.worker.ask(WorkerAction::Restore(vec![0; 8].into()));
        assert!(matches!(hosted.event().await, Event::Restored(Ok(()))));
    });
}

#[test]
fn what_can_not_be_loaded_says_why() {
    run_local(async {
        let why = |class| async move {
            Worker::load(spec(class)).await.err().map(|error| error.to_string())
        };
        assert_eq!(why("fake.Missing").await.unwrap(), "there is no class Missing in fake");
        let died = why("fake.Dies").await.unwrap();
        assert!(died.contains("exit status: 3") && died.contains("something is wrong"), "{died}");
        let mut slow = spec("fake.Hangs");
        slow.load_timeout = Duration::from_millis(200);
        assert!(matches!(Worker::load(slow).await, Err(LoadError::TimedOut { .. })));
        let mut absent = spec("fake.Any");
        absent.command = vec!["/nonexistent/python".into()];
        assert!(matches!(Worker::load(absent).await, Err(LoadError::Start { .. })));
    });
}
