//! Against a scripted replica, over loopback.

use std::cell::Cell;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc;
use std::thread::{self, scope};
use std::time::Instant;

use concoord_core::call::{Call, Outcome, Refusal};
use concoord_core::limits::ARGUMENT_BYTES_MAX;
use concoord_core::object::Interface;
use concoord_core::view::{Member, ReplicaId};
use concoord_core::wire::{Answer, Request, Welcome};

use super::*;
use crate::Exception;
use crate::script::{Guest, SESSION, Script};
use crate::{Undo, UndoWhen};

/// Enough for anything that is answered.
const LONG: Duration = Duration::from_secs(20);

/// Too short for anything that is not.
const SHORT: Duration = Duration::from_millis(500);

/// Where nobody listens: a port that is given to a service nobody runs.
const GONE: &str = "127.0.0.1:1";

fn options(timeout: Duration) -> Options {
    Options { timeout, ..Options::default() }
}

fn connect(replicas: &[&Script]) -> Client {
    let addresses: Vec<_> = replicas.iter().map(|replica| replica.address.to_string()).collect();
    Client::connect(&addresses.join(", "), options(LONG)).unwrap()
}

fn increment(client: &Client) -> Result<Value, Error> {
    client.call("increment", &Arguments::default())
}

#[test]
fn a_call_is_answered() {
    let replica = Script::new();
    scope(|scope| {
        let served = scope.spawn(|| replica.welcome().serve());
        let client = connect(&[&replica]);
        assert_eq!(increment(&client), Ok(Value::Int(1)));
        assert_eq!(increment(&client), Ok(Value::Int(2)));
        drop(client);
        assert_eq!(served.join().unwrap(), Some(SESSION), "dropping says goodbye");
    });
}

#[test]
fn a_call_whose_reply_was_lost_is_sent_again_under_its_number() {
    let (first, second) = (Script::new(), Script::new());
    scope(|scope| {
        scope.spawn(|| {
            let mut guest = first.accept();
            guest.welcome(first.address, &[first.address, second.address], 10_000);
            assert_eq!(guest.hear(), Some(Request::Open));
            guest.say(&Answer::Opened(SESSION));
            let call = guest.call();
            drop(guest);
            let mut guest = second.welcome();
            assert_eq!(guest.hello.session.map(|(_, id)| id), Some(SESSION));
            let again = guest.call();
            assert_eq!(again, call);
            guest.reply(&again);
        });
        assert_eq!(increment(&connect(&[&first])), Ok(Value::Int(1)));
    });
}

#[test]
fn a_follower_is_left_for_the_leader() {
    let (follower, leader) = (Script::new(), Script::new());
    scope(|scope| {
        scope.spawn(|| {
            follower.accept().welcome(leader.address, &[leader.address], 10_000);
            leader.open().serve()
        });
        assert_eq!(increment(&connect(&[&follower])), Ok(Value::Int(1)));
    });
}

#[test]
fn unreachable_names_each_address_and_why() {
    let silent = Script::new();
    let bootstrap = format!("{GONE}, {}, name.invalid", silent.address);
    let start = Instant::now();
    let error = Client::connect(&bootstrap, options(Duration::from_millis(2500))).unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!("{GONE}: nobody listens there")), "{text}");
    assert!(text.contains(&format!("{}: it took the connection", silent.address)), "{text}");
    assert!(text.contains("name.invalid: "), "{text}");
    assert!(text.contains("within 2.5s"), "{text}");
    assert!(start.elapsed() < LONG);
}

#[test]
fn an_address_that_does_not_answer_does_not_take_all_the_time() {
    let (silent, replica) = (Script::new(), Script::new());
    scope(|scope| {
        scope.spawn(|| replica.welcome().serve());
        assert_eq!(increment(&connect(&[&silent, &replica])), Ok(Value::Int(1)));
    });
}

#[test]
fn a_timeout_is_kept_and_says_what_the_cluster_waits_for() {
    let replica = Script::new();
    scope(|scope| {
        scope.spawn(|| {
            let mut guest = replica.open();
            guest.call();
            guest.say(&Answer::Waiting("no quorum".into()));
            while guest.hear().is_some() {
                guest.say(&Answer::Waiting("no quorum".into()));
            }
        });
        let client = connect(&[&replica]);
        let start = Instant::now();
        let error =
            client.call_with("increment", &Arguments::default(), SHORT, &mut || false).unwrap_err();
        assert!(error.outcome_unknown());
        assert!(error.to_string().contains("(no quorum)"), "{error}");
        assert!((SHORT..SHORT * 10).contains(&start.elapsed()));
    });
}

#[test]
fn an_expired_session_ends_its_calls_and_another_follows() {
    let replica = Script::new();
    scope(|scope| {
        scope.spawn(|| {
            let mut guest = replica.open();
            guest.call();
            guest.say(&Answer::Expired(SESSION));
            let guest = replica.open();
            assert_eq!(guest.hello.session, None);
            guest.serve()
        });
        let client = connect(&[&replica]);
        assert_eq!(increment(&client), Err(Error::SessionExpired));
        assert_eq!(increment(&client), Ok(Value::Int(1)));
    });
}

#[test]
fn an_interrupt_ends_the_wait_at_once_and_the_reply_is_acknowledged() {
    let replica = Script::new();
    scope(|scope| {
        let (interrupted_tx, interrupted_rx) = mpsc::channel();
        let replica = &replica;
        scope.spawn(move || {
            let mut guest = replica.open();
            let call = guest.call();
            interrupted_tx.send(()).unwrap();
            let next = guest.call();
            assert_eq!((next.sequence, next.acked), (2, 1));
            guest.reply(&call);
            guest.reply(&next);
            let last = guest.call();
            assert_eq!((last.sequence, last.acked), (3, 3));
            guest.reply(&last);
            guest.serve()
        });
        let client = connect(&[replica]);
        let mut interrupted = || interrupted_rx.try_recv().is_ok();
        let result = client.call_with("slow", &Arguments::default(), LONG, &mut interrupted);
        assert_eq!(result, Err(Error::Interrupted));
        assert_eq!(increment(&client), Ok(Value::Int(2)));
        assert_eq!(increment(&client), Ok(Value::Int(3)));
    });
}

/// How a lock is acquired.
fn acquiring() -> Manner {
    let when = UndoWhen::GotToken;
    let undo = Undo { method: "release".into(), takes_reply: false, when };
    Manner { undo: Some(undo), ..Manner::default() }
}

/// Hears that the lock which that call got is given back.
fn is_given_back(guest: &mut Guest, call: &Call) {
    let back = guest.call();
    assert_eq!(back.method, "release");
    assert_eq!(back.guard.as_ref().map(|guard| guard.token), Some(call.sequence));
    guest.reply(&back);
}

#[test]
fn what_a_thread_got_in_the_moment_of_its_interrupt_is_given_back() {
    let replica = Script::new();
    scope(|scope| {
        let (interrupted_tx, interrupted_rx) = mpsc::channel();
        let (read_tx, read_rx) = mpsc::channel();
        let replica = &replica;
        scope.spawn(move || {
            let mut guest = replica.open();
            let (acquire, other) = (guest.call(), guest.call());
            interrupted_rx.recv().unwrap();
            guest.reply(&acquire);
            guest.reply(&other);
            is_given_back(&mut guest, &acquire);
            guest.serve()
        });
        let client = connect(&[replica]);
        let pending = client.start(&acquiring(), "acquire", &Arguments::default()).unwrap();
        thread::scope(|both| {
            both.spawn(|| {
                // Whoever reads this reply has read the other one.
                assert_eq!(increment(&client), Ok(Value::Int(2)));
                read_tx.send(()).unwrap();
            });
            let mut interrupted = || {
                interrupted_tx.send(()).unwrap();
                read_rx.recv_timeout(LONG).unwrap();
                true
            };
            assert_eq!(pending.wait(LONG, &mut interrupted), Err(Error::Interrupted));
        });
        assert_eq!(increment(&client), Ok(Value::Int(4)));
    });
}

#[test]
fn what_came_of_a_call_that_is_dropped_is_given_back() {
    let replica = Script::new();
    scope(|scope| {
        let replica = &replica;
        scope.spawn(move || {
            let mut guest = replica.open();
            let acquire = guest.call();
            guest.reply(&acquire);
            let other = guest.call();
            guest.reply(&other);
            is_given_back(&mut guest, &acquire);
            guest.serve()
        });
        let client = connect(&[replica]);
        let pending = client.start(&acquiring(), "acquire", &Arguments::default()).unwrap();
        assert_eq!(increment(&client), Ok(Value::Int(2)));
        assert!(pending.is_done());
        drop(pending);
        assert_eq!(increment(&client), Ok(Value::Int(4)));
    });
}

#[test]
fn connecting_can_be_interrupted() {
    let start = Instant::now();
    let result = Client::connect_with(GONE, options(LONG), &mut || true);
    assert_eq!(result.map(drop), Err(Error::Interrupted));
    assert!(start.elapsed() < LONG / 4);
}

#[test]
fn many_threads_share_a_client() {
    const THREADS: i64 = 16;
    const CALLS: i64 = 50;
    let replica = Script::new();
    scope(|scope| {
        scope.spawn(|| replica.welcome().serve());
        let client = Arc::new(connect(&[&replica]));
        let call_often =
            |client: Arc<Client>| -> Vec<_> { (0..CALLS).map(|_| increment(&client)).collect() };
        let start = |_| {
            let client = Arc::clone(&client);
            scope.spawn(move || call_often(client))
        };
        let threads: Vec<_> = (0..THREADS).map(start).collect();
        let mut numbers = Vec::new();
        for result in threads.into_iter().flat_map(|thread| thread.join().unwrap()) {
            let Ok(Value::Int(number)) = result else { panic!("{result:?}") };
            numbers.push(number);
        }
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=THREADS * CALLS).collect::<Vec<_>>());
        client.close();
    });
}

#[test]
fn what_a_stranger_sends_is_an_error() {
    for garbage in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], &[0xff; 4096], &[0; 64]] {
        let address = stranger(garbage);
        let error = Client::connect(&address.to_string(), options(SHORT)).unwrap_err();
        let why = "it does not answer as a replica of ConCoord does";
        assert!(error.to_string().contains(&format!("{address}: {why}")), "{error}");
        assert!(!error.outcome_unknown());
    }
}

/// Where everybody is greeted with these bytes.
fn stranger(greeting: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        // Kept open: closing would reset the connection, and the greeting could be lost.
        let mut guests = Vec::new();
        for mut guest in listener.incoming().flatten() {
            if guest.write_all(greeting).is_ok() {
                guests.push(guest);
            }
        }
    });
    address
}

#[test]
fn a_refusal_is_said_at_once() {
    let replica = Script::new();
    scope(|scope| {
        scope.spawn(|| replica.accept().say(&Welcome::Refused("it is a Lock".into())));
        let error = Client::connect(&replica.address.to_string(), options(LONG)).unwrap_err();
        assert!(matches!(&error, Error::Refused(why) if why.contains("it is a Lock")), "{error}");
    });
}

#[test]
fn exceptions_and_refusals_reach_the_caller() {
    let replica = Script::new();
    let exception = Exception::builtin("KeyError", "hits");
    let refusal = Refusal::NoSuchMethod { class: "Counter".into(), method: "fly".into() };
    scope(|scope| {
        scope.spawn(|| {
            let mut guest = replica.open();
            let raised = Value::Exception(Box::new(exception.clone())).encode().unwrap();
            for outcome in [
                Outcome::Raised(raised),
                Outcome::Refused(refusal.clone()),
                Outcome::Returned(bytes::Bytes::from_static(b"\xff")),
            ] {
                let sequence = guest.call().sequence;
                guest.say(&Answer::Reply { sequence, outcome });
            }
            guest.serve()
        });
        let client = connect(&[&replica]);
        assert_eq!(increment(&client), Err(Error::Raised(exception.clone())));
        assert_eq!(increment(&client), Err(Error::Refusal(refusal.clone())));
        assert!(matches!(increment(&client), Err(Error::Decode(_))));
    });
}

#[test]
fn arguments_that_can_not_be_sent_are_not() {
    let replica = Script::new();
    scope(|scope| {
        scope.spawn(|| replica.welcome().serve());
        let client = connect(&[&replica]);
        let call =
            |value| client.call("put", &Arguments { positional: vec![value], keyword: vec![] });
        let large = Value::Bytes(vec![0; ARGUMENT_BYTES_MAX]);
        assert!(matches!(call(large), Err(Error::TooLarge { .. })));
        let deep = (0..200).fold(Value::None, |inner, _| Value::List(vec![inner]));
        assert!(matches!(call(deep), Err(Error::Encode(_))));
        let largest = Value::Bytes(vec![0; ARGUMENT_BYTES_MAX - 16]);
        assert_eq!(call(largest), Ok(Value::Int(1)));
    });
}

#[test]
fn closing_twice_says_goodbye_once_and_ends_later_calls() {
    let replica = Script::new();
    scope(|scope| {
        let served = scope.spawn(|| replica.welcome().serve());
        let client = connect(&[&replica]);
        assert_eq!(increment(&client), Ok(Value::Int(1)));
        client.close();
        client.close();
        assert_eq!(served.join().unwrap(), Some(SESSION));
        assert_eq!(increment(&client), Err(Error::Closed));
    });
}

#[test]
fn closing_ends_the_calls_of_other_threads() {
    let replica = &Script::new();
    scope(|scope| {
        let (called_tx, called_rx) = mpsc::channel();
        scope.spawn(move || {
            let mut guest = replica.open();
            guest.call();
            called_tx.send(()).unwrap();
            guest.serve()
        });
        let client = Arc::new(connect(&[replica]));
        let caller = Arc::clone(&client);
        let call = scope.spawn(move || increment(&caller));
        called_rx.recv_timeout(LONG).unwrap();
        client.close();
        assert_eq!(call.join().unwrap(), Err(Error::SessionExpired));
    });
}

#[test]
fn an_idle_client_keeps_its_session_and_finds_a_new_connection() {
    let replica = Script::new();
    scope(|scope| {
        let script = scope.spawn(|| {
            let mut guest = replica.accept();
            guest.welcome(replica.address, &[replica.address], 300);
            assert_eq!(guest.hear(), Some(Request::Open));
            guest.say(&Answer::Opened(SESSION));
            let call = guest.call();
            guest.reply(&call);
            for _ in 0..3 {
                assert_eq!(guest.hear(), Some(Request::KeepAlive(SESSION)));
                guest.say(&Answer::Alive(SESSION));
            }
            drop(guest);
            let guest = replica.welcome();
            assert_eq!(guest.hello.session.map(|(_, id)| id), Some(SESSION));
        });
        let client = connect(&[&replica]);
        assert_eq!(increment(&client), Ok(Value::Int(1)));
        script.join().unwrap();
    });
}

#[test]
fn a_forked_child_has_its_own_session_and_leaves_the_parents_alone() {
    thread_local!(static PROCESS: Cell<u32> = const { Cell::new(1) });
    let replica = Script::new();
    scope(|scope| {
        let script = scope.spawn(|| {
            let mut parent = replica.open();
            let call = parent.call();
            parent.reply(&call);
            let child = replica.open();
            assert_eq!(child.hello.session, None);
            let child = scope.spawn(|| child.serve());
            let next = parent.call();
            assert_eq!(next.sequence, 2, "the child has said nothing here");
            parent.reply(&next);
            assert_eq!(parent.serve(), Some(SESSION));
            child.join().unwrap()
        });
        let process = || PROCESS.get();
        let bootstrap = replica.address.to_string();
        let client = Client::connect_in(process, &bootstrap, options(LONG), &mut || false).unwrap();
        assert_eq!(increment(&client), Ok(Value::Int(1)));

        // A thread of the parent held the lock when it forked: in the child nobody ever frees it.
        let held = client.life.shared.lock();
        PROCESS.set(2);
        assert_eq!(increment(&client), Ok(Value::Int(1)));
        client.close();
        drop(held);

        PROCESS.set(1);
        assert_eq!(increment(&client), Ok(Value::Int(2)));
        client.close();
        assert_eq!(script.join().unwrap(), Some(SESSION));
    });
}

#[test]
fn the_interface_can_be_asked_for() {
    let replica = Script::new();
    let interface = Interface { class: "Counter".into(), ..Interface::default() };
    scope(|scope| {
        scope.spawn(|| {
            let mut guest = replica.welcome();
            assert_eq!(guest.hear(), Some(Request::Interface(String::new())));
            guest.say(&Answer::Interface(interface.clone()));
            guest.serve()
        });
        assert_eq!(connect(&[&replica]).interface(), Ok(interface.clone()));
    });
}

#[test]
fn the_status_of_a_follower_is_its_own() {
    let (follower, leader) = (Script::new(), Script::new());
    let status = status_at(follower.address);
    scope(|scope| {
        scope.spawn(|| {
            let mut guest = follower.accept();
            guest.welcome(leader.address, &[leader.address], 10_000);
            assert_eq!(guest.hear(), Some(Request::Status));
            guest.say(&Answer::Status(Box::new(status.clone())));
            guest.serve()
        });
        assert_eq!(status_of(&follower.address.to_string(), LONG), Ok(status.clone()));
    });
}

fn status_at(address: SocketAddr) -> Status {
    Status {
        replica: Member::new(ReplicaId(1), address),
        class: "Counter".into(),
        view: None,
        leader: Some(ReplicaId(2)),
        term: 3,
        committed: 5,
        applied: 5,
        digest: 0,
        sessions: 1,
        connections: 1,
        calls: 4,
        calls_per_second: 0,
        ready: true,
        reason: String::new(),
        names: String::new(),
        uptime_ms: 1000,
    }
}

/// Something that gathers, and what tells of it.
fn gathering() -> (Arc<Gathered>, mpsc::Receiver<()>) {
    let (wake_tx, wake_rx) = mpsc::channel();
    (Arc::new(Gathered::new(Box::new(move || wake_tx.send(()).unwrap()))), wake_rx)
}

#[test]
fn calls_that_no_thread_waits_for_are_gathered() {
    let replica = Script::new();
    let (gathered, wake_rx) = gathering();
    scope(|scope| {
        scope.spawn(|| replica.welcome().serve());
        let client = Client::lazy(&replica.address.to_string(), options(LONG)).unwrap();
        let call = |number| (number, Manner::default(), "increment", Arguments::default());
        client.start_gathered(&[call(7), call(8), call(9)], LONG, &gathered).unwrap();
        let mut done = Vec::new();
        while done.len() < 3 {
            wake_rx.recv_timeout(LONG).unwrap();
            done.extend(gathered.take());
        }
        let value = |number| Ok(Value::Int(number));
        assert_eq!(done, [(7, value(1)), (8, value(2)), (9, value(3))]);
        client.close();
        let error = client.start_gathered(&[call(1)], LONG, &gathered);
        assert_eq!(error, Err(Error::Closed));
    });
}

#[test]
fn what_is_gathered_can_be_given_up_and_runs_out_of_time() {
    let replica = Script::new();
    let (gathered, wake_rx) = gathering();
    scope(|scope| {
        let served = scope.spawn(|| {
            let mut guest = replica.open();
            let (parked, slow) = (guest.call(), guest.call());
            guest.say(&Answer::Parked { sequence: parked.sequence });
            loop {
                match guest.hear() {
                    Some(Request::Cancel(call)) => break (call.sequence, slow.sequence),
                    Some(Request::KeepAlive(id)) => guest.say(&Answer::Alive(id)),
                    other => panic!("{other:?}"),
                }
            }
        });
        let client = connect(&[&replica]);
        let call = |number| (number, Manner::default(), "acquire", Arguments::default());
        let parked = client.start_gathered(&[call(1)], SHORT, &gathered).unwrap()[0];
        client.start_gathered(&[call(2)], SHORT, &gathered).unwrap();
        wake_rx.recv_timeout(LONG).unwrap();
        let [(2, Err(error))] = &gathered.take()[..] else { panic!("the slow one is over") };
        assert!(matches!(error, Error::TimedOut { .. }), "{error}");
        client.give_up(parked);
        assert_eq!(served.join().unwrap(), (1, 2));
        assert!(gathered.take().is_empty(), "nobody wants it");
    });
}
