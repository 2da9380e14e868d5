//! How a client stays in touch with the cluster, and what it says of that.

use super::*;

#[test]
fn an_idle_client_leaves_a_replica_that_is_out_of_touch() {
    let mut world = World::open(&[1, 2]);
    world.pass(KEEP_ALIVE);
    assert_eq!(world.heard(), [Request::KeepAlive(SESSION)]);
    let start = world.now;
    // The answers come at once, long before anything could be found to be silent.
    while world.session.is_linked() {
        if world.heard().contains(&Request::KeepAlive(SESSION)) || world.now == start {
            world.say(&Answer::Waiting("no quorum".into()));
        }
        assert!(world.session.is_owed(), "an answer that proves something is still due");
        world.pass(Duration::from_millis(10));
    }
    assert_eq!(world.now - start, STUCK);
    world.serve(2, &[1, 2]);
    assert_eq!(world.heard(), [Request::KeepAlive(SESSION)]);
}

#[test]
fn an_election_does_not_drive_an_idle_client_away() {
    let mut world = World::open(&[1, 2]);
    world.pass(KEEP_ALIVE);
    world.heard();
    world.say(&Answer::Waiting("no quorum".into()));
    world.pass(QUIET);
    assert_eq!(world.heard(), [Request::KeepAlive(SESSION)], "it is asked again before that");
    world.say(&Answer::Alive(SESSION));
    world.pass(KEEP_ALIVE - STUCK);
    assert!(world.session.is_linked());
}

#[test]
fn what_was_in_the_way_of_one_call_is_not_held_against_the_next() {
    let mut world = World::new(&[1, 2]);
    world.ask(Question::Status);
    world.serve(1, &[1, 2]);
    world.say(&Answer::Waiting("no quorum".into()));
    world.say(&Answer::NoInterface(Refusal::TooManySessions));
    world.session.questions.clear();
    world.say(&Answer::Waiting("no quorum".into()));
    world.pass(STUCK * 2);
    world.ask(Question::Interface);
    world.pass(STUCK / 2);
    assert!(world.session.is_linked());
}

#[test]
fn a_client_that_stays_with_its_leader_hears_of_new_members() {
    let mut world = World::open(&[1, 2, 3]);
    let members = [1, 4, 5].map(address).to_vec();
    world.say(&Answer::Members(members));
    world.break_link();
    world.fail(4);
    world.serve(5, &[1, 4, 5]);
}

#[test]
fn a_session_that_was_cut_off_is_said_to_live_at_once() {
    let mut world = World::open(&[1, 2]);
    world.break_link();
    world.now += Duration::from_secs(7);
    world.serve(2, &[1, 2]);
    assert_eq!(world.heard(), [Request::KeepAlive(SESSION)]);
    let since = Duration::from_secs(7);
    assert_eq!(world.session.health(world.now).state, State::Reconnecting { since });
    world.say(&Answer::Alive(SESSION));
    assert_eq!(world.session.health(world.now).state, State::Connected);
}

#[test]
fn where_the_leader_has_no_room_a_follower_serves() {
    let mut world = World::new(&[2, 1]);
    world.call();
    world.accept(2);
    world.say(&welcome(CLUSTER, 2, 1, &[1, 2]));
    world.accept(1);
    world.say(&Welcome::NotYet("it has all the connections it can hold".into()));
    world.accept(2);
    world.say(&welcome(CLUSTER, 2, 1, &[1, 2]));
    assert_eq!(world.heard(), [Request::Open]);
    assert_eq!(world.done(), []);
}

#[test]
fn one_that_has_no_room_is_not_besieged() {
    let mut world = World::new(&[1]);
    world.call();
    let start = world.now;
    for _ in 0..100 {
        world.accept(1);
        world.say(&Welcome::NotYet("it has all the connections it can hold".into()));
    }
    assert!(world.now - start > Duration::from_secs(20), "{:?}", world.now - start);
}

#[test]
fn one_that_welcomes_and_hangs_up_is_not_besieged() {
    let mut world = World::new(&[1, 2]);
    world.call();
    let start = world.now;
    for _ in 0..100 {
        world.fail(1);
        world.serve(2, &[1, 2]);
        world.heard();
        world.break_link();
    }
    assert!(world.now - start > Duration::from_secs(20), "{:?}", world.now - start);
}

#[test]
fn of_a_release_that_goes_on_it_is_not_said_that_it_has_not_run() {
    let mut world = World::open(&[1]);
    world.break_link();
    let release = Making { is_kept: true, method: "release".into(), ..Making::default() };
    world.session.call(world.now, Ticket(50), release);
    let error = world.session.give_up(world.now, Ticket(50), Duration::from_secs(1));
    assert!(error.outcome_unknown(), "{error}");
    world.serve(1, &[1]);
    assert_eq!(calls(&world.heard()).len(), 1, "and so it does");

    let mut fresh = World::new(&[1]);
    let ticket = fresh.call();
    let error = fresh.session.give_up(fresh.now, ticket, Duration::from_secs(1));
    assert!(!error.outcome_unknown(), "{error}");
}

#[test]
fn large_parked_calls_that_are_asked_again_wait_for_each_other() {
    let mut world = World::open(&[1]);
    for sequence in 2..42 {
        let arguments = Bytes::from(vec![0; 4 << 20]);
        let making = Making { method: "put".into(), arguments, ..Making::default() };
        world.session.call(world.now, Ticket(sequence), making);
        world.say(&Answer::Parked { sequence });
    }
    world.heard();
    world.break_link();
    world.serve(1, &[1]);
    let asked = calls(&world.heard());
    assert_eq!(asked.len(), 8);
    for (sequence, _) in asked {
        world.say(&Answer::Parked { sequence });
    }
    assert_eq!(calls(&world.heard()).len(), 8);
}

#[test]
fn what_is_no_answer_ends_a_connection_that_is_closed_already() {
    let mut world = World::open(&[1]);
    world.session.close();
    let mut bytes = BytesMut::from(&[0xff; 64][..]);
    world.session.received(world.now, &mut bytes);
    assert!(!world.session.is_linked());
}

#[test]
fn a_reply_to_a_call_that_was_repeated_proves_no_more_than_its_first_copy_does() {
    let mut world = World::open(&[1, 2]);
    world.call();
    world.heard();
    let sent_at = world.now;
    world.break_link();
    world.now += Duration::from_secs(4);
    world.serve(2, &[1, 2]);
    // The log may bring the copy that the first replica had passed on.
    world.say(&returned(2));
    world.now = sent_at + Duration::from_secs(10);
    assert_eq!(world.session.health(world.now).state, State::Doubtful);
}
