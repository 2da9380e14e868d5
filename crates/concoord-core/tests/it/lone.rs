//! One replica that hosts a worker's object, step by step: what it asks of the worker, and when.

use std::time::Duration;

use bytes::Bytes;
use concoord_core::call::{Call, ConnectionId, Outcome, Refusal, SessionId};
use concoord_core::durable::{Persist, Record, RecordKind, Recovered, Snapshot};
use concoord_core::limits::{
    CONNECTION_BYTES_MAX, FORWARDED_WAITING_BYTES_MAX, HOSTED_READS_BYTES_MAX, LOG_BYTES_MAX,
    RESULT_BYTES_MAX, SESSION_LATE_BYTES_MAX, UNDONE_BYTES_MAX,
};
use concoord_core::log::Command;
use concoord_core::replica::{Action, Config, Event, Hosting, Replica, WorkerAction};
use concoord_core::view::{Branch, ClusterId, Member, ReplicaId, Role, View};
use concoord_core::wire::{Answer, Done, HostedCall, PeerMessage, Request};

use crate::list::LIST;

const TICK: Duration = Duration::from_millis(10);
const WORKER_TIMEOUT: Duration = Duration::from_secs(5);
const MIB: usize = 1 << 20;

/// The replica, and what it said that nobody has looked at yet.
struct Lone {
    replica: Replica,
    now: Duration,
    /// Calls and reads that the worker was given and has not done.
    given: Vec<HostedCall>,
    /// The times of reads.
    read_at: Vec<u64>,
    answers: Vec<(ConnectionId, Answer)>,
    disconnected: Vec<ConnectionId>,
    /// Calls that the worker is told to do without.
    skipped: Vec<u64>,
    /// Snapshots that the worker is to make, of the state as it is and by settling it.
    snapshots: Vec<u64>,
    settles: Vec<u64>,
    /// What is to be written down.
    persists: Vec<Persist>,
    saves: Vec<Snapshot>,
    notes: Vec<String>,
    sessions: Vec<SessionId>,
    sequence: u64,
}

impl Lone {
    /// A replica that serves, with so many sessions, each on a connection of that number.
    fn new(sessions: u64) -> Self {
        Self::with(sessions, Duration::from_secs(3600))
    }

    /// So, where sessions may be silent for that long.
    fn with(sessions: u64, session_timeout: Duration) -> Self {
        let config = Config { session_timeout, ..config(false) };
        let mut lone = Self::over(Replica::new(config, hosting()));
        lone.serve(sessions);
        lone
    }

    fn over(replica: Replica) -> Self {
        Self {
            replica,
            now: Duration::ZERO,
            given: vec![],
            read_at: vec![],
            answers: vec![],
            disconnected: vec![],
            skipped: vec![],
            snapshots: vec![],
            settles: vec![],
            persists: vec![],
            saves: vec![],
            notes: vec![],
            sessions: vec![],
            sequence: 0,
        }
    }

    /// Returns what it wrote.
    fn serve(&mut self, sessions: u64) -> Vec<Persist> {
        let mut written = Vec::new();
        for _ in 0..200 {
            self.pass(TICK);
            written.extend(self.write());
        }
        // It is asked when its first timer is due.
        self.work();
        for session in 1..=sessions {
            self.hear(Event::Request(ConnectionId(session), Request::Open));
            written.extend(self.write());
            let Some((_, Answer::Opened(session))) = self.answers.pop() else {
                panic!("it serves: {:?}", self.reason())
            };
            self.sessions.push(session);
        }
        written
    }

    /// What it wants written down is safe; all of it.
    fn write(&mut self) -> Vec<Persist> {
        let mut written = Vec::new();
        while !self.persists.is_empty() {
            written.append(&mut self.persists);
            self.hear(Event::Persisted(written.last().unwrap().number));
        }
        written
    }

    fn hear(&mut self, event: Event) {
        self.replica.step(event);
        self.turn();
    }

    fn turn(&mut self) {
        let mut actions = Vec::new();
        let wall_ms = 1_800_000_000_000 + u64::try_from(self.now.as_millis()).unwrap();
        self.replica.turn(self.now, wall_ms, &mut actions);
        for action in actions {
            match action {
                Action::Worker(WorkerAction::Apply { calls, .. }) => self.given.extend(calls),
                Action::Worker(WorkerAction::Read { time_ms, calls }) => {
                    self.read_at.push(time_ms);
                    self.given.extend(calls);
                }
                Action::Answer(connection, answer) => self.answers.push((connection, answer)),
                Action::Disconnect(connection) => self.disconnected.push(connection),
                Action::Worker(WorkerAction::Skip(number)) => self.skipped.push(number),
                Action::Worker(WorkerAction::Snapshot(number)) => self.snapshots.push(number),
                Action::Worker(WorkerAction::Settle(number)) => self.settles.push(number),
                Action::Persist(persist) => self.persists.push(persist),
                Action::Save(snapshot) => self.saves.push(snapshot),
                Action::Note(_, text) => self.notes.push(text),
                _ => {}
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += TICK;
            self.hear(Event::Tick);
        }
    }

    /// A call of that session with so many bytes of arguments, on a connection of that number.
    fn call(&mut self, at: usize, connection: u64, method: &str, bytes: usize) {
        let call = self.next_call(at, method, bytes);
        self.hear(Event::Request(ConnectionId(connection), Request::Call(call)));
    }

    fn next_call(&mut self, at: usize, method: &str, bytes: usize) -> Call {
        self.sequence += 1;
        Call {
            session: self.sessions[at],
            sequence: self.sequence,
            acked: self.sequence.saturating_sub(200),
            method: method.into(),
            arguments: Bytes::from(vec![0; bytes]),
            ..Call::default()
        }
    }

    /// Another replica forwards that for its clients.
    fn forwarded(&mut self, command: Command) {
        self.hear(Event::Message(ReplicaId(2), PeerMessage::Forward(vec![command])));
    }

    /// Calls of these sessions, more than the worker is given, a megabyte each; says how many.
    fn fill(&mut self, sessions: usize) -> usize {
        let calls = 3 * UNDONE_BYTES_MAX / 2 / MIB;
        for call in 0..calls {
            self.call(call % sessions, (call % sessions) as u64 + 1, "append", MIB);
        }
        let given = self.given_bytes();
        assert!((UNDONE_BYTES_MAX..=UNDONE_BYTES_MAX + MIB).contains(&given), "{given}");
        calls
    }

    /// The worker does all that it is given until there is no more; says how many calls.
    fn work_off(&mut self) -> usize {
        let mut done = 0;
        while !self.given.is_empty() {
            done += self.work();
        }
        done
    }

    /// The worker does all that it was given; says how many calls of clients that were.
    fn work(&mut self) -> usize {
        let given = std::mem::take(&mut self.given);
        let outcome = Outcome::Returned(Bytes::from_static(&[0xf6]));
        let done = given.iter().map(|call| Done::Ended(call.number, outcome.clone())).collect();
        self.hear(Event::Done(done, None));
        given.iter().filter(|call| call.call.session.0 > 0).count()
    }

    fn given_bytes(&self) -> usize {
        self.given.iter().map(|call| call.arguments.len()).sum()
    }

    /// Why it is not ready.
    fn reason(&self) -> Option<String> {
        let status = self.replica.status();
        (!status.ready).then_some(status.reason)
    }
}

fn config(durable: bool) -> Config {
    let address = ([127, 0, 0, 1], 14000).into();
    Config {
        member: Member { durable, ..Member::new(ReplicaId(1), address) },
        bootstrap: vec![],
        restore: None,
        runtime: String::new(),
        seed: 1,
        tick: TICK,
        election_timeout: Duration::from_millis(500),
        heartbeat: Duration::from_millis(50),
        session_timeout: Duration::from_secs(3600),
        dead_timeout: Duration::from_secs(3),
        snapshot_bytes: if durable { MIB } else { 1 << 30 },
        disk_timeout: Duration::from_secs(1),
        worker_timeout: WORKER_TIMEOUT,
        refused_is_dead: false,
        fences: false,
        greeting: Duration::ZERO,
    }
}

fn hosting() -> Hosting {
    Hosting::worker(vec![LIST.clone()])
}

#[test]
fn a_read_that_the_worker_has_counts_for_its_connection() {
    let mut lone = Lone::new(1);
    let most = CONNECTION_BYTES_MAX / MIB;
    for _ in 0..3 * most {
        lone.call(0, 1, "length", MIB);
        assert_eq!(lone.work(), 1);
    }
    assert_eq!((lone.answers.len(), lone.disconnected.len()), (3 * most, 0));
    for _ in 0..most {
        lone.call(0, 1, "length", MIB);
    }
    assert!(lone.disconnected.is_empty());
    lone.call(0, 1, "length", MIB);
    assert_eq!(lone.disconnected, [ConnectionId(1)]);
}

#[test]
fn the_worker_is_given_no_more_reads_than_there_is_room_for_whoever_comes_and_goes() {
    let mut lone = Lone::new(1);
    for connection in 1..=10 {
        for _ in 0..30 {
            lone.call(0, connection, "length", MIB);
        }
        if connection != 10 {
            lone.hear(Event::Disconnected(ConnectionId(connection)));
        }
        assert!(lone.given_bytes() <= HOSTED_READS_BYTES_MAX + MIB);
    }
    let reads = lone.work_off();
    assert!(reads < 120, "those of clients that are gone are not done: {reads}");
    let answered = lone.answers.iter().filter(|(connection, _)| *connection == ConnectionId(10));
    assert_eq!(answered.count(), 30);
}

#[test]
fn a_read_is_of_the_time_of_the_state() {
    let mut lone = Lone::new(1);
    lone.call(0, 1, "length", 0);
    let opened = lone.read_at[0];
    assert!(opened >= 1_800_000_000_000);
    lone.pass(Duration::from_secs(7));
    lone.call(0, 1, "append", 0);
    lone.call(0, 1, "length", 0);
    assert!(lone.read_at[1] >= opened + 7_000, "{:?}", lone.read_at);
}

#[test]
fn a_worker_that_is_behind_is_given_no_more_than_there_is_room_for() {
    let mut lone = Lone::new(4);
    let calls = lone.fill(4);
    assert!(lone.disconnected.is_empty());
    assert_eq!((lone.work_off(), lone.answers.len()), (calls, calls));
}

#[test]
fn what_waits_for_room_is_of_clients_that_are_there() {
    let mut lone = Lone::new(5);
    let calls = lone.fill(4);
    for connection in 10..20 {
        for _ in 0..30 {
            lone.call(4, connection, "append", MIB);
        }
        lone.hear(Event::Disconnected(ConnectionId(connection)));
    }
    for connection in 20..40 {
        lone.hear(Event::Request(ConnectionId(connection), Request::Open));
        lone.hear(Event::Disconnected(ConnectionId(connection)));
    }
    assert_eq!(lone.work_off(), calls);
    assert_eq!(lone.replica.status().sessions, 5);
}

#[test]
fn what_others_forward_waits_for_room_in_bounded_memory() {
    let mut lone = Lone::new(5);
    let calls = lone.fill(4);
    for _ in 0..100 {
        let call = lone.next_call(4, "append", MIB);
        lone.forwarded(Command::Call(call));
    }
    let most = FORWARDED_WAITING_BYTES_MAX / MIB;
    let done = lone.work_off() - calls;
    assert!((most - 1..=most).contains(&done), "{done}");
    // There is room for what comes now.
    let call = lone.next_call(4, "append", MIB);
    lone.forwarded(Command::Call(call));
    assert_eq!(lone.work_off(), 1);
}

#[test]
fn a_session_that_another_replica_asks_for_again_and_again_is_one() {
    let mut lone = Lone::new(4);
    lone.fill(4);
    for _ in 0..10 {
        lone.forwarded(Command::Open(ReplicaId(2), ConnectionId(1)));
    }
    lone.work_off();
    assert_eq!(lone.replica.status().sessions, 5);
    lone.forwarded(Command::Open(ReplicaId(2), ConnectionId(1)));
    assert_eq!(lone.replica.status().sessions, 6);
}

/// Its client has gone from here to there.
#[test]
fn a_call_that_another_replica_forwards_is_not_that_of_a_connection_here() {
    let mut lone = Lone::new(5);
    let calls = lone.fill(4);
    let call = lone.next_call(4, "append", MIB);
    lone.hear(Event::Request(ConnectionId(10), Request::Call(call.clone())));
    lone.forwarded(Command::Call(call));
    lone.hear(Event::Disconnected(ConnectionId(10)));
    assert_eq!(lone.work_off(), calls + 1);
}

/// That is what makes room again.
#[test]
fn what_a_worker_that_is_behind_dies_of_is_skipped() {
    let mut lone = Lone::new(4);
    let calls = lone.fill(4);
    let deadly = lone.given.remove(0).number;
    lone.hear(Event::HostFailed(deadly));
    assert_eq!(lone.skipped, [deadly]);
    assert!(lone.given_bytes() <= UNDONE_BYTES_MAX + MIB);
    let crashed = Outcome::Refused(Refusal::ObjectCrashed);
    lone.hear(Event::Done(vec![Done::Ended(deadly, crashed)], None));
    assert_eq!(lone.work_off(), calls - 1);
}

#[test]
fn a_replica_is_not_ready_while_its_worker_is_behind() {
    for method in ["append", "length"] {
        let mut lone = Lone::new(1);
        // However many calls: as long as each is done in time it is ready.
        for _ in 0..10 {
            lone.call(0, 1, method, 0);
            lone.pass(WORKER_TIMEOUT / 2);
            assert_eq!((lone.work(), lone.reason()), (1, None));
        }
        lone.call(0, 1, method, 0);
        for _ in 0..3 {
            lone.pass(WORKER_TIMEOUT / 4);
            lone.call(0, 1, method, 0);
            assert_eq!(lone.reason(), None);
        }
        lone.pass(WORKER_TIMEOUT / 4 + 2 * TICK);
        let reason = lone.reason().unwrap();
        assert!(reason.contains("the worker is 5 s behind"), "{reason}");
        assert_eq!(lone.work(), 4);
        lone.pass(TICK);
        assert_eq!(lone.reason(), None);
    }
}

#[test]
fn a_replica_is_not_ready_while_no_worker_can_be_started() {
    let mut lone = Lone::new(1);
    lone.hear(Event::Hosting(Err("its source has changed".into())));
    let reason = lone.reason().unwrap();
    assert!(reason.contains("its source has changed"), "{reason}");
    lone.hear(Event::Hosting(Ok(())));
    assert_eq!(lone.reason(), None);
}

/// What has run can't be skipped: its reply is with the client.
#[test]
fn a_replica_says_so_where_workers_die_of_what_has_run_before() {
    let mut lone = Lone::new(1);
    lone.call(0, 1, "append", 0);
    let number = lone.given[0].number;
    assert_eq!((lone.work(), lone.reason()), (1, None));
    lone.hear(Event::HostFailed(number));
    let reason = lone.reason().unwrap();
    assert!(reason.contains("has run here before"), "{reason}");
    lone.pass(Duration::from_secs(1));
    assert!(lone.skipped.is_empty());
    assert!(lone.notes.iter().any(|text| text.contains("has run here before")));
}

#[test]
fn that_its_process_was_stopped_is_not_its_workers_fault() {
    let mut lone = Lone::new(1);
    lone.call(0, 1, "append", 0);
    lone.pass(WORKER_TIMEOUT / 2);
    lone.now += 10 * WORKER_TIMEOUT;
    lone.pass(WORKER_TIMEOUT / 2);
    assert_eq!(lone.reason(), None);
}

#[test]
fn a_session_that_never_says_what_it_was_told_ends() {
    let mut lone = Lone::new(2);
    tell_too_much(&mut lone);
    lone.answers.clear();
    lone.pass(Duration::from_secs(1));
    let expired = (ConnectionId(1), Answer::Expired(lone.sessions[0]));
    assert_eq!(lone.answers, [expired]);
    lone.work();
    lone.call(1, 2, "append", 0);
    assert_eq!(lone.work(), 1);
}

/// However long the log has no room for it.
#[test]
fn the_end_of_a_session_is_asked_for_once() {
    let mut lone = Lone::new(5);
    tell_too_much(&mut lone);
    lone.sessions.rotate_left(1);
    lone.fill(4);
    lone.pass(Duration::from_secs(3));
    let ends = lone.notes.iter().filter(|text| text.contains("keeps too much"));
    assert_eq!(ends.count(), 1);
}

#[test]
fn a_session_that_comes_back_before_its_end_finds_room_lives_on() {
    let timeout = Duration::from_secs(3);
    let mut lone = Lone::with(3, timeout);
    lone.fill(2);
    lone.pass(timeout / 2);
    let alive = |lone: &mut Lone, at: usize| {
        let session = lone.sessions[at];
        lone.hear(Event::Request(ConnectionId(at as u64 + 1), Request::KeepAlive(session)));
        // Where another one was asked for in the same tick, the next one answers.
        lone.pass(TICK);
        let about = |(_, answer): &(ConnectionId, Answer)| {
            [Answer::Alive(session), Answer::Expired(session)].contains(answer)
        };
        lone.answers.drain(..).find(about)
    };
    // The others are silent for too long, and there is no room to say so in the log.
    lone.pass(timeout);
    let here = ConnectionId(1);
    assert_eq!(alive(&mut lone, 0), Some((here, Answer::Alive(lone.sessions[0]))));
    lone.work_off();
    lone.pass(timeout / 2);
    assert_eq!(alive(&mut lone, 0), Some((here, Answer::Alive(lone.sessions[0]))));
    let over = Answer::Expired(lone.sessions[2]);
    assert_eq!(alive(&mut lone, 2), Some((ConnectionId(3), over)));
}

/// Has the first session be told more than is kept for one that does not say what it has.
fn tell_too_much(lone: &mut Lone) {
    let large = Outcome::Returned(Bytes::from(vec![0; RESULT_BYTES_MAX]));
    for _ in 0..=SESSION_LATE_BYTES_MAX / RESULT_BYTES_MAX {
        lone.call(0, 1, "append", 0);
        let number = lone.given.pop().unwrap().number;
        lone.hear(Event::Done(vec![Done::Ended(number, large.clone())], None));
    }
}

/// What a durable replica has written down.
fn written(persists: Vec<Persist>, snapshot: Option<Snapshot>) -> Recovered {
    let first = persists.iter().find_map(|persist| persist.snapshot.clone());
    let records = persists.into_iter().flat_map(|persist| persist.records).collect();
    Recovered { snapshot: snapshot.or(first).unwrap(), records }
}

/// One whose log asks for a state to be settled, with more behind that than it keeps of what is
/// decided: it died before it knew of any of it that it was.
fn died_before_it_settled() -> Recovered {
    let mut lone = Lone::over(Replica::new(config(true), hosting()));
    let mut written = lone.serve(1);
    for _ in 0..8 {
        lone.call(0, 1, "append", MIB / 5);
        written.extend(lone.write());
    }
    // The next call is asked for once the log is to have the state settled.
    let number = lone.snapshots.pop().expect("it is time to write the state down");
    lone.replica.step(Event::Unsettled(number));
    for _ in 0..2 * LOG_BYTES_MAX / (MIB / 5) {
        lone.call(0, 1, "append", MIB / 5);
    }
    lone.pass(2 * TICK);
    written.append(&mut lone.persists);
    self::written(written, None)
}

/// There is so much behind it that the log is cut past it within the burst.
#[test]
fn a_state_that_is_settled_in_a_burst_stands_where_the_log_goes_on() {
    let before = died_before_it_settled();
    let is_entry = |record: &Record| record.kind == RecordKind::Entry;
    let last = before.records.iter().rfind(|record| is_entry(record)).unwrap().index;
    let replica = Replica::recover(config(true), hosting(), before.clone()).unwrap();
    let mut lone = Lone::over(replica);
    let mut persists = Vec::new();
    // It writes its state down already, and a tick later the log is not kept for that any more.
    lone.pass(2 * TICK);
    assert_eq!((lone.snapshots.len(), lone.settles.len()), (1, 0));
    while lone.settles.is_empty() {
        lone.pass(TICK);
        persists.extend(lone.write());
        assert!(lone.now < Duration::from_secs(10), "the log has it settle");
    }
    assert!(lone.replica.applied() >= last, "it is one burst");
    lone.hear(Event::Snapshot(lone.settles[0], Ok(Bytes::new())));
    let saved = lone.saves.pop().expect("it is time to write the state down");
    let at = before.records.iter().rfind(|record| is_entry(record) && record.index == saved.index);
    assert_eq!(saved.term, at.unwrap().term);

    let records = [before.records, written(persists, Some(saved.clone())).records].concat();
    let recovered = Recovered { snapshot: saved.clone(), records };
    let mut lone = Lone::over(Replica::recover(config(true), hosting(), recovered).unwrap());
    lone.serve(0);
    assert!(lone.replica.applied() >= last, "what is behind it was acknowledged");
}

/// As one did that was forced while it was a learner.
#[test]
fn a_view_without_a_voter_is_refused_with_advice() {
    let mut found = died_before_it_settled();
    let mut view = View::first(ClusterId(1), config(true).member, Branch::default());
    (view.lineage, view.members[0].1) = (1, Role::Learner);
    let payload = postcard::to_stdvec(&view).unwrap().into();
    let index = found.snapshot.index;
    found.records.push(Record { kind: RecordKind::Alone, index, term: 9, payload });
    let refused = Replica::recover(config(true), hosting(), found).err().unwrap();
    assert!(refused.contains("concoord rebuild"), "{refused}");
}
