//! Scripted replicas in virtual time.

mod contact;
mod parked;

use bytes::Bytes;
use concoord_core::call::{CallId, Refusal};
use concoord_core::limits::SESSION_CALLS_MAX;
use concoord_core::wire::{Answer, Welcome};

use super::*;

const CLUSTER: ClusterId = ClusterId(1);
const SESSION: SessionId = SessionId(7);

/// A session and the replica at the other end of its connection.
struct World {
    session: Session,
    now: Duration,
    /// What the replica has not read yet.
    wire: BytesMut,
    tickets: u64,
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn welcome(cluster: ClusterId, replica: u16, leader: u16, members: &[u16]) -> Welcome {
    Welcome::Client {
        cluster,
        replica: address(replica),
        leader: Some(address(leader)),
        members: members.iter().copied().map(address).collect(),
        class: "Counter".into(),
        session_timeout_ms: 10_000,
    }
}

fn returned(sequence: u64) -> Answer {
    Answer::Reply { sequence, outcome: Outcome::Returned(Bytes::from(vec![1])) }
}

/// `(sequence, acked)` of the calls among these requests.
fn calls(requests: &[Request]) -> Vec<(u64, u64)> {
    let call = |request: &Request| match request {
        Request::Call(call) => Some((call.sequence, call.acked)),
        Request::Open
        | Request::KeepAlive(_)
        | Request::Close(_)
        | Request::Backup
        | Request::Cancel(_)
        | Request::Interface(_)
        | Request::Status
        | Request::Order(_) => None,
    };
    requests.iter().filter_map(call).collect()
}

fn cancels(requests: &[Request]) -> Vec<u64> {
    let cancel = |request: &Request| {
        let Request::Cancel(CallId { sequence, .. }) = request else { return None };
        Some(*sequence)
    };
    requests.iter().filter_map(cancel).collect()
}

impl World {
    fn new(ports: &[u16]) -> Self {
        let places: Vec<_> = ports.iter().map(|port| address(*port).to_string()).collect();
        Self::of(&places.join(", "))
    }

    fn of(bootstrap: &str) -> Self {
        let bootstrap = bootstrap.parse().unwrap();
        Self {
            session: Session::new(bootstrap, Some("Counter".into())),
            now: Duration::from_secs(1000),
            wire: BytesMut::new(),
            tickets: 0,
        }
    }

    /// Connected to the replica at that port, with an open session.
    fn open(ports: &[u16]) -> Self {
        let mut world = Self::new(ports);
        world.call();
        world.serve(ports[0], ports);
        assert_eq!(world.heard(), [Request::Open]);
        world.say(&Answer::Opened(SESSION));
        assert_eq!(calls(&world.heard()), [(1, 1)]);
        world.say(&returned(1));
        assert_eq!(world.done().len(), 1);
        world
    }

    fn call(&mut self) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let making = Making { method: "increment".into(), ..Making::default() };
        self.session.call(self.now, ticket, making);
        ticket
    }

    fn ask(&mut self, question: Question) -> Ticket {
        self.tickets += 1;
        self.session.ask(self.now, Ticket(self.tickets), question);
        Ticket(self.tickets)
    }

    /// Goes on to the next attempt, through pauses; returns its port. Look-ups that begin on the
    /// way have not ended.
    fn dial(&mut self) -> u16 {
        for _ in 0..100 {
            match self.session.dial(self.now) {
                Dial::LookUp => {}
                Dial::Connect { address, .. } => return address.port(),
                Dial::At(at) => self.now = at,
                Dial::Nothing => panic!("the session wants no connection"),
            }
        }
        panic!("the session never dials");
    }

    /// The next attempt goes to that port and fails.
    fn fail(&mut self, port: u16) {
        assert_eq!(self.dial(), port);
        self.session.lost(self.now, "nobody listens there".into());
    }

    /// The next attempt goes to that port and is taken; returns the hello.
    fn accept(&mut self, port: u16) -> ClientHello {
        assert_eq!(self.dial(), port);
        self.session.dialled(self.now);
        self.wire = self.session.output.split();
        assert_eq!(self.wire.split_to(PREAMBLE.len()), PREAMBLE[..]);
        let frame = take_frame(&mut self.wire, HELLO_BYTES_MAX).unwrap().unwrap();
        match read_message(&frame).unwrap() {
            Hello::Client(hello) => hello,
            Hello::Peer(_) => panic!("a client says that it is one"),
        }
    }

    /// The next attempt goes to that port, whose replica leads.
    fn serve(&mut self, port: u16, members: &[u16]) -> ClientHello {
        let hello = self.accept(port);
        self.say(&welcome(CLUSTER, port, port, members));
        hello
    }

    fn say<M: serde::Serialize>(&mut self, message: &M) {
        let mut bytes = BytesMut::new();
        write_frame(message, &mut bytes);
        self.session.received(self.now, &mut bytes);
    }

    /// What the replica reads next.
    fn heard(&mut self) -> Vec<Request> {
        self.wire.unsplit(self.session.output.split());
        let mut requests = Vec::new();
        while let Some(frame) = take_frame(&mut self.wire, FRAME_BYTES_MAX).unwrap() {
            requests.push(read_message(&frame).unwrap());
        }
        requests
    }

    fn done(&mut self) -> Vec<Done> {
        std::iter::from_fn(|| self.session.done()).collect()
    }

    fn break_link(&mut self) {
        self.session.lost(self.now, "it closed the connection".into());
    }

    /// Lets time pass, with all that is due in it.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.session.wake_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.session.wake(self.now);
        }
        self.now = end;
    }
}

#[test]
fn a_call_without_reply_is_sent_again_under_its_number() {
    let mut world = World::open(&[1, 2]);
    let ticket = world.call();
    assert_eq!(calls(&world.heard()), [(2, 2)]);
    world.break_link();
    let hello = world.serve(2, &[1, 2]);
    assert_eq!(hello.session, Some((CLUSTER, SESSION)));
    assert_eq!(calls(&world.heard()), [(2, 2)]);
    world.say(&returned(2));
    let [(done, Ok(_))] = &world.done()[..] else { panic!("one reply") };
    assert_eq!(*done, ticket);
}

#[test]
fn acked_is_below_every_call_without_reply() {
    let mut world = World::open(&[1]);
    for _ in 0..3 {
        world.call();
    }
    assert_eq!(calls(&world.heard()), [(2, 2), (3, 2), (4, 2)]);
    world.say(&returned(3));
    world.call();
    assert_eq!(calls(&world.heard()), [(5, 2)]);
    world.say(&returned(2));
    world.call();
    assert_eq!(calls(&world.heard()), [(6, 4)]);
}

#[test]
fn calls_beyond_the_window_wait() {
    let mut world = World::open(&[1]);
    for _ in 0..SESSION_CALLS_MAX + 10 {
        world.call();
    }
    let sent = calls(&world.heard());
    assert!(sent.iter().all(|(sequence, acked)| sequence - acked < SESSION_CALLS_MAX));
    assert_eq!(sent.len() as u64, SESSION_CALLS_MAX);
    world.say(&returned(3));
    assert_eq!(calls(&world.heard()), [], "call 2 holds the window");
    world.say(&returned(2));
    assert_eq!(calls(&world.heard()).len(), 2);
}

#[test]
fn a_follower_is_left_for_the_leader() {
    let mut world = World::new(&[1, 2]);
    world.call();
    world.accept(1);
    world.say(&welcome(CLUSTER, 1, 2, &[1, 2]));
    world.serve(2, &[1, 2]);
    assert_eq!(world.heard(), [Request::Open]);
}

#[test]
fn a_follower_serves_where_the_leader_is_out_of_reach() {
    let mut world = World::new(&[1, 2]);
    world.call();
    world.accept(1);
    world.say(&welcome(CLUSTER, 1, 2, &[1, 2]));
    world.fail(2);
    world.accept(1);
    world.say(&welcome(CLUSTER, 1, 2, &[1, 2]));
    assert_eq!(world.heard(), [Request::Open]);
}

#[test]
fn a_new_leader_is_followed_with_all_open_calls() {
    let mut world = World::open(&[1, 2]);
    world.call();
    world.heard();
    world.say(&Answer::Leader(address(2)));
    world.serve(2, &[1, 2]);
    assert_eq!(calls(&world.heard()), [(2, 2)]);
}

#[test]
fn replicas_that_point_at_each_other_do_not_keep_a_client_moving() {
    let mut world = World::new(&[1, 2]);
    world.call();
    let mut at = 1;
    let moves = (0..10).take_while(|_| {
        world.accept(at);
        let other = 3 - at;
        world.say(&welcome(CLUSTER, at, other, &[1, 2]));
        at = other;
        world.heard() != [Request::Open]
    });
    assert!(moves.count() < 5);
}

#[test]
fn a_replica_that_starts_is_asked_again_soon() {
    let mut world = World::new(&[1]);
    let ready = world.ask(Question::Ready);
    for _ in 0..5 {
        let before = world.now;
        world.accept(1);
        world.say(&Welcome::NotYet("it joins".into()));
        assert!(world.now - before <= Duration::from_millis(50));
    }
    world.serve(1, &[1]);
    assert_eq!(world.done(), [(ready, Ok(Reply::Ready))]);
}

#[test]
fn refusal_is_final() {
    let mut world = World::new(&[1]);
    world.ask(Question::Ready);
    world.accept(1);
    world.say(&Welcome::Refused("it is a Lock".into()));
    let [(_, Err(Error::Refused(why)))] = &world.done()[..] else { panic!("refused") };
    assert!(why.contains("it is a Lock"), "{why}");
    assert_eq!(world.session.dial(world.now), Dial::Nothing);
}

#[test]
fn a_session_ends_with_its_cluster() {
    let mut world = World::open(&[1]);
    let open = world.call();
    world.heard();
    world.break_link();
    while world.done().is_empty() {
        world.accept(1);
        world.say(&Welcome::Refused("that session is of another cluster".into()));
        if let Some((ticket, result)) = world.session.done() {
            assert_eq!((ticket, result), (open, Err(Error::SessionExpired)));
            break;
        }
    }
    world.call();
    assert_eq!(world.accept(1).session, None);
    world.say(&welcome(ClusterId(2), 1, 1, &[1]));
    assert_eq!(world.heard(), [Request::Open]);
    world.say(&Answer::Opened(SessionId(1)));
    assert_eq!(calls(&world.heard()), [(1, 1)]);
}

#[test]
fn a_stranger_among_the_replicas_does_not_end_a_session() {
    let mut world = World::open(&[1, 2, 3]);
    world.call();
    world.heard();
    world.break_link();
    world.accept(2);
    world.say(&welcome(ClusterId(2), 2, 2, &[2]));
    assert_eq!(world.serve(3, &[1, 3]).session, Some((CLUSTER, SESSION)));
    assert_eq!(calls(&world.heard()), [(2, 2)]);
}

#[test]
fn expiry_ends_the_calls_that_were_sent_and_no_others() {
    let mut world = World::open(&[1]);
    let ticket = world.call();
    world.heard();
    world.say(&Answer::Expired(SESSION));
    assert_eq!(world.done(), [(ticket, Err(Error::SessionExpired))]);
    world.call();
    assert_eq!(world.serve(1, &[1]).session, None, "a new session has its own connection");
    assert_eq!(world.heard(), [Request::Open]);
}

#[test]
fn a_call_after_a_long_silence_waits_for_a_proof_that_the_session_lives() {
    let mut world = World::open(&[1]);
    world.now += Duration::from_mins(1);
    let ticket = world.call();
    assert_eq!(world.heard(), [Request::KeepAlive(SESSION)]);
    world.say(&Answer::Expired(SESSION));
    assert_eq!(world.done(), [], "it was not sent, so it is not in doubt");
    world.serve(1, &[1]);
    assert_eq!(world.heard(), [Request::Open]);
    world.say(&Answer::Opened(SessionId(8)));
    assert_eq!(calls(&world.heard()), [(1, 1)]);
    world.say(&returned(1));
    assert!(matches!(world.done()[..], [(done, Ok(_))] if done == ticket));
}

#[test]
fn an_idle_session_is_kept_alive() {
    let mut world = World::open(&[1]);
    for _ in 0..20 {
        world.pass(KEEP_ALIVE);
        assert_eq!(world.heard(), [Request::KeepAlive(SESSION)]);
        world.say(&Answer::Alive(SESSION));
    }
    world.call();
    assert_eq!(calls(&world.heard()), [(2, 2)]);
}

#[test]
fn a_silent_replica_is_asked_and_then_left() {
    let mut world = World::open(&[1, 2]);
    world.call();
    world.heard();
    world.pass(QUIET);
    assert_eq!(world.heard(), [Request::KeepAlive(SESSION)]);
    world.pass(SILENT);
    world.serve(2, &[1, 2]);
    assert_eq!(calls(&world.heard()), [(2, 2)]);
}

#[test]
fn a_leader_that_is_paused_costs_an_election_and_no_more() {
    let mut world = World::open(&[1, 2, 3]);
    let ticket = world.call();
    let start = world.now;
    world.heard();
    world.pass(QUIET + SILENT);
    // The others have not noticed yet: a connection to it would be taken, and not answered.
    world.accept(2);
    world.say(&welcome(CLUSTER, 2, 1, &[1, 2, 3]));
    assert_eq!(calls(&world.heard()), [(2, 2)], "it is stayed with");
    world.pass(QUIET);
    assert_eq!(world.heard(), [Request::KeepAlive(SESSION)]);
    world.pass(QUIET);
    world.say(&Answer::Leader(address(3)));
    world.serve(3, &[1, 2, 3]);
    assert_eq!(calls(&world.heard()), [(2, 2)]);
    world.say(&returned(2));
    assert!(matches!(world.done()[..], [(done, Ok(_))] if done == ticket));
    assert!(world.now - start < Duration::from_secs(2));
}

#[test]
fn where_nobody_answers_clients_run_around_ever_more_slowly() {
    let mut world = World::open(&[1, 2]);
    world.call();
    for (factor, next) in [(1, 2), (2, 1), (4, 2), (4, 1)] {
        world.pass(QUIET + SILENT * factor - Duration::from_millis(1));
        assert!(world.session.is_linked());
        world.pass(Duration::from_millis(1));
        world.serve(next, &[1, 2]);
    }
    world.say(&Answer::Alive(SESSION));
    world.pass(QUIET + SILENT);
    assert!(!world.session.is_linked(), "soon again after an answer");
}

#[test]
fn one_that_was_silent_is_tried_last() {
    let mut world = World::open(&[1, 2, 3]);
    world.call();
    world.heard();
    world.pass(QUIET + SILENT);
    world.accept(2);
    world.say(&welcome(CLUSTER, 2, 1, &[1, 2, 3]));
    world.say(&Answer::Waiting("no quorum".into()));
    world.pass(STUCK * 2);
    world.serve(3, &[1, 2, 3]);
    assert_eq!(calls(&world.heard()), [(2, 2)]);
}

#[test]
fn a_leader_that_was_only_paused_is_returned_to() {
    let mut world = World::open(&[1, 2]);
    world.call();
    world.heard();
    world.pass(QUIET + SILENT);
    world.accept(2);
    world.say(&welcome(CLUSTER, 2, 1, &[1, 2]));
    world.heard();
    world.say(&returned(2));
    let pass = |world: &mut World| {
        for _ in 0..20 {
            world.pass(RETURN / 20);
            if !world.session.is_linked() {
                return;
            }
            if world.heard().contains(&Request::KeepAlive(SESSION)) {
                world.say(&Answer::Alive(SESSION));
            }
        }
    };
    pass(&mut world);
    world.fail(1);
    world.accept(2);
    world.say(&welcome(CLUSTER, 2, 1, &[1, 2]));
    pass(&mut world);
    assert!(world.session.is_linked(), "it was out of reach: now there must be news");
}

#[test]
fn a_part_of_a_large_answer_is_a_sign_of_life() {
    let mut world = World::open(&[1, 2]);
    world.call();
    world.heard();
    let mut answer = BytesMut::new();
    let outcome = Outcome::Returned(Bytes::from(vec![0; 4 << 20]));
    write_frame(&Answer::Reply { sequence: 2, outcome }, &mut answer);
    let mut inbox = BytesMut::new();
    while !answer.is_empty() {
        world.pass(QUIET * 2);
        inbox.unsplit(answer.split_to(answer.len().min(200 << 10)));
        world.session.received(world.now, &mut inbox);
    }
    assert_eq!(world.done().len(), 1);
}

#[test]
fn a_replica_that_still_takes_a_large_call_is_not_silent() {
    let mut world = World::open(&[1, 2]);
    world.call();
    for _ in 0..10 {
        world.pass(SILENT / 2);
        world.session.written(world.now, 1);
    }
    assert!(world.session.is_linked());
    world.pass(SILENT);
    assert!(!world.session.is_linked(), "now nothing flows any more");
}

#[test]
fn a_replica_without_a_quorum_is_left_for_one_that_may_have_it() {
    let mut world = World::open(&[1, 2]);
    let ticket = world.call();
    world.heard();
    let stick = |world: &mut World| {
        let start = world.now;
        while world.session.is_linked() {
            world.say(&Answer::Waiting("no quorum".into()));
            world.pass(Duration::from_millis(100));
        }
        world.now - start
    };
    assert_eq!(stick(&mut world), STUCK);
    let error = world.session.give_up(world.now, ticket, SILENT);
    assert!(error.to_string().contains("no quorum") && error.outcome_unknown(), "{error}");
    world.call();
    world.serve(2, &[1, 2]);
    assert_eq!(calls(&world.heard()), [(3, 2)]);
    assert_eq!(stick(&mut world), STUCK * 2, "where nobody has one, clients don't run around");
    world.serve(1, &[1, 2]);
    world.say(&returned(2));
    world.say(&returned(3));
    world.call();
    assert_eq!(stick(&mut world), STUCK);
}

#[test]
fn large_calls_wait_for_each_other() {
    let mut world = World::open(&[1]);
    for ticket in 100..120 {
        let arguments = Bytes::from(vec![0; 4 << 20]);
        world.session.call(
            world.now,
            Ticket(ticket),
            Making { method: "put".into(), arguments, ..Making::default() },
        );
    }
    assert_eq!(calls(&world.heard()).len(), 8);
    world.say(&returned(2));
    assert_eq!(calls(&world.heard()).len(), 1);
}

#[test]
fn a_slow_call_is_waited_for_while_the_leader_answers() {
    let mut world = World::open(&[1, 2]);
    world.call();
    world.heard();
    let quiets = [QUIET, QUIET * 2, QUIET_MAX].into_iter().chain([QUIET_MAX; 250]);
    for quiet in quiets {
        world.pass(quiet);
        assert_eq!(world.heard(), [Request::KeepAlive(SESSION)], "one question each time");
        world.pass(SILENT / 2);
        world.say(&Answer::Alive(SESSION));
    }
    world.call();
    assert_eq!(calls(&world.heard()), [(3, 2)]);
    world.say(&returned(3));
    world.pass(QUIET);
    assert_eq!(world.heard(), [Request::KeepAlive(SESSION)], "soon again after an answer");
    world.say(&Answer::Alive(SESSION));
    world.say(&returned(2));
    assert_eq!(world.done().len(), 2);
}

/// The session is over, which the leader alone can say: the others wait for it to come to know. It
/// gets its turn, also where one of those that are known is gone.
#[test]
fn of_those_that_were_silent_the_first_is_asked_first() {
    for gone in [false, true] {
        let known: &[u16] = if gone { &[4, 3, 2, 1] } else { &[3, 2, 1] };
        let mut world = World::open(&[1, 2, 3]);
        world.call();
        let mut asked = Vec::new();
        while asked.len() < 6 {
            world.pass(Duration::from_secs(1));
            if world.session.is_linked() {
                continue;
            }
            let mut port = world.dial();
            if port == 4 {
                world.session.lost(world.now, "nobody listens there".into());
                port = world.dial();
            }
            asked.push(port);
            world.session.dialled(world.now);
            world.session.output.clear();
            world.say(&welcome(CLUSTER, port, 1, known));
        }
        assert!(asked.contains(&1), "{asked:?}");
    }
}

/// What it was asked may have got lost behind it.
#[test]
fn a_replica_that_lives_but_opens_no_session_is_left() {
    let mut world = World::new(&[1, 2]);
    world.call();
    for (factor, port) in [(1, 1), (2, 2), (4, 1), (4, 2)] {
        world.serve(port, &[1, 2]);
        assert_eq!(world.heard(), [Request::Open]);
        let end = world.now + UNOPENED * factor;
        while world.session.is_linked() {
            world.pass(QUIET);
            for request in world.heard() {
                assert_eq!(request, Request::Status);
                world.say(&Answer::Alive(SESSION));
            }
        }
        assert!((end..=end + QUIET).contains(&world.now));
    }
}

#[test]
fn a_connection_that_is_taken_but_not_answered_is_left() {
    let mut world = World::new(&[1, 2]);
    world.call();
    world.accept(1);
    world.pass(Duration::from_secs(1));
    world.serve(2, &[2]);
    assert_eq!(world.heard(), [Request::Open]);
}

#[test]
fn an_abandoned_call_is_not_sent_again_and_its_reply_is_dropped() {
    let mut world = World::open(&[1]);
    let (first, second) = (world.call(), world.call());
    world.heard();
    world.session.abandon(world.now, first);
    world.session.abandon(world.now, second);
    world.say(&returned(3));
    assert_eq!(world.done(), []);
    world.break_link();
    world.call();
    world.serve(1, &[1]);
    let heard = world.heard();
    assert_eq!((calls(&heard), cancels(&heard)), (vec![(4, 2)], vec![2]));
    world.say(&returned(2));
    world.say(&returned(4));
    world.call();
    assert_eq!(calls(&world.heard()), [(5, 5)], "the abandoned ones are acknowledged");
}

#[test]
fn members_are_found_after_the_bootstrap_is_gone() {
    let mut world = World::open(&[1]);
    world.break_link();
    world.serve(1, &[1, 5, 6]);
    world.break_link();
    world.fail(5);
    world.serve(6, &[6, 7]);
    world.break_link();
    world.serve(7, &[7]);
}

#[test]
fn an_idle_client_gives_up_once_its_session_cannot_live_any_more() {
    let mut world = World::open(&[1]);
    world.break_link();
    let lost_at = world.now;
    while world.session.dial(world.now) != Dial::Nothing {
        world.session.lost(world.now, "nobody listens there".into());
        world.now += Duration::from_millis(100);
        assert!(world.now < lost_at + Duration::from_secs(11));
    }
    world.call();
    assert_eq!(world.accept(1).session, Some((CLUSTER, SESSION)), "it may live after all");
}

#[test]
fn giving_up_says_what_was_tried() {
    let mut world = World::new(&[1, 2]);
    let ticket = world.call();
    world.fail(1);
    world.fail(2);
    let error = world.session.give_up(world.now, ticket, Duration::from_secs(5));
    assert_eq!(
        error.to_string(),
        "no replica could be reached within 5s: \
         127.0.0.1:1: nobody listens there; 127.0.0.1:2: nobody listens there"
    );
    assert!(!error.outcome_unknown());
}

#[test]
fn giving_up_says_what_the_cluster_waits_for() {
    let mut world = World::open(&[1]);
    let ticket = world.call();
    world.say(&Answer::Waiting("no quorum: 1 of 3 members is here".into()));
    let error = world.session.give_up(world.now, ticket, Duration::from_secs(5));
    assert!(error.to_string().ends_with("(no quorum: 1 of 3 members is here)"), "{error}");
    assert!(error.outcome_unknown());
}

#[test]
fn questions_are_asked_again_over_the_next_connection() {
    let mut world = World::open(&[1]);
    let ticket = world.ask(Question::Interface);
    assert_eq!(world.heard(), [Request::Interface("Counter".into())]);
    world.break_link();
    world.serve(1, &[1]);
    let asked = [Request::Interface("Counter".into()), Request::KeepAlive(SESSION)];
    assert_eq!(world.heard(), asked);
    world.say(&Answer::Interface(Interface::default()));
    assert_eq!(world.done(), [(ticket, Ok(Reply::Interface(Interface::default())))]);
}

#[test]
fn closing_says_so_and_ends_everything() {
    let mut world = World::open(&[1]);
    let (sent, asked) = (world.call(), world.ask(Question::Status));
    world.heard();
    world.session.close();
    assert_eq!(world.heard(), [Request::Close(SESSION)]);
    let ends = [(sent, Err(Error::SessionExpired)), (asked, Err(Error::Closed))];
    assert_eq!(world.done(), ends);
    assert_eq!(world.session.dial(world.now), Dial::Nothing);
}

#[test]
fn a_name_is_looked_up_before_anything_else_is_known() {
    let mut world = World::of("counter.example");
    world.call();
    assert_eq!(world.session.dial(world.now), Dial::LookUp);
    assert!(matches!(world.session.dial(world.now), Dial::At(_)), "it has not ended");
    world.session.looked_up(0, Ok(vec![address(1)]));
    world.serve(1, &[1]);
}

#[test]
fn what_is_known_is_tried_while_names_are_looked_up() {
    let mut world = World::of("counter.example, 127.0.0.1:1");
    world.call();
    world.serve(1, &[1, 2]);
    world.heard();
    world.say(&Answer::Opened(SESSION));
    world.break_link();
    assert_eq!(world.session.dial(world.now), Dial::LookUp);
    world.fail(2);
    world.serve(1, &[1, 2]);
}

#[test]
fn a_dead_name_server_holds_up_nobody() {
    let mut world = World::of("counter.example, 127.0.0.1:1, 127.0.0.1:2");
    let ticket = world.call();
    let start = world.now;
    assert_eq!(world.dial(), 1);
    world.session.lost(world.now, "nobody listens there".into());
    assert_eq!(world.session.dial(world.now), Dial::LookUp);
    for port in [2, 1, 2, 1, 2, 1, 2, 1, 2] {
        assert_eq!(world.dial(), port);
        world.session.lost(world.now, "nobody listens there".into());
    }
    assert!(world.now - start < Duration::from_secs(2));
    let error = world.session.give_up(world.now, ticket, SILENT).to_string();
    assert!(error.contains("counter.example: no answer yet from the DNS servers"), "{error}");
}

#[test]
fn names_are_looked_up_once_a_second_at_most_and_why_in_vain_is_said() {
    let mut world = World::of("counter.example");
    let ticket = world.call();
    let (start, mut look_ups) = (world.now, 0);
    while world.now < start + Duration::from_secs(10) {
        match world.session.dial(world.now) {
            Dial::LookUp => {
                look_ups += 1;
                world.session.looked_up(0, Err("no such name".into()));
            }
            Dial::At(at) => world.now = at,
            dial @ (Dial::Connect { .. } | Dial::Nothing) => panic!("{dial:?}"),
        }
    }
    assert_eq!(look_ups, 10);
    let error = world.session.give_up(world.now, ticket, SILENT);
    assert!(error.to_string().ends_with("counter.example: no such name"), "{error}");
}

#[test]
fn a_name_leads_to_replicas_that_replaced_all_that_were_known() {
    let mut world = World::of("counter.example");
    world.call();
    assert_eq!(world.session.dial(world.now), Dial::LookUp);
    world.session.looked_up(0, Ok(vec![address(1), address(2)]));
    world.serve(1, &[1, 2]);
    world.heard();
    world.say(&Answer::Opened(SESSION));
    world.heard();
    world.say(&returned(1));
    world.call();
    world.heard();
    world.break_link();
    assert_eq!(world.session.dial(world.now), Dial::LookUp);
    world.fail(2);
    world.fail(1);
    world.session.looked_up(0, Ok(vec![address(7), address(2)]));
    let before = world.now;
    assert_eq!(world.serve(7, &[7]).session, Some((CLUSTER, SESSION)));
    assert_eq!(world.now, before, "at once, whatever the pause");
    assert_eq!(calls(&world.heard()), [(2, 2)]);
}

#[test]
fn strangers_do_not_end_a_session_before_its_name_was_looked_up() {
    let mut world = World::of("counter.example, 127.0.0.1:1");
    world.call();
    world.serve(1, &[1]);
    world.heard();
    world.say(&Answer::Opened(SESSION));
    world.break_link();
    assert_eq!(world.session.dial(world.now), Dial::LookUp);
    let refused = Welcome::Refused("that session is of another cluster".into());
    for _ in 0..5 {
        world.accept(1);
        world.say(&refused);
        assert_eq!(world.done(), [], "its cluster may be elsewhere");
    }
    world.session.looked_up(0, Ok(vec![]));
    world.accept(1);
    world.say(&refused);
    assert!(matches!(world.done()[..], [(_, Err(Error::SessionExpired))]));
}

/// Whatever a replica sends, the session goes on or hangs up.
#[test]
fn arbitrary_bytes_do_no_harm() {
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for round in 0..2_000 {
        let mut world = if round % 2 == 0 { World::open(&[1]) } else { World::new(&[1]) };
        world.call();
        if round % 2 == 1 {
            world.accept(1);
        }
        let body: Vec<u8> = (0..next() % 64).map(|_| (next() % 12) as u8).collect();
        let mut bytes = BytesMut::new();
        if round % 3 == 0 {
            bytes.extend_from_slice(&body);
        } else {
            // A sound frame around an arbitrary message. Postcard writes a tuple of bytes bare.
            frame_around(&body, &mut bytes);
        }
        world.session.received(world.now, &mut bytes);
        world.pass(Duration::from_secs(10));
    }
}

fn frame_around(body: &[u8], to: &mut BytesMut) {
    struct Bare<'a>(&'a [u8]);
    impl serde::Serialize for Bare<'_> {
        fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::SerializeTuple;
            let mut tuple = serializer.serialize_tuple(self.0.len())?;
            self.0.iter().try_for_each(|byte| tuple.serialize_element(byte))?;
            tuple.end()
        }
    }
    write_frame(&Bare(body), to);
}
