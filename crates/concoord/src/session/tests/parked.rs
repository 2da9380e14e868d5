//! Calls that wait for what others do, and calls that are given up.

use super::*;

fn asked(requests: &[Request]) -> Vec<(u64, u64, Vec<u64>)> {
    let call = |request: &Request| {
        let Request::Call(call) = request else { return None };
        Some((call.sequence, call.acked, call.received.clone()))
    };
    requests.iter().filter_map(call).collect()
}

impl World {
    /// A call that gives back what it got if it was given up.
    fn acquire(&mut self) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        let undo = undo("release", UndoWhen::GotToken);
        let making = Making { method: "acquire".into(), undo, ..Making::default() };
        self.session.call(self.now, ticket, making);
        ticket
    }

    /// One call of that method, with what else is said of it.
    fn make(&mut self, method: &str, making: Making) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.session.call(self.now, ticket, Making { method: method.into(), ..making });
        ticket
    }
}

#[test]
fn a_parked_call_holds_up_neither_the_window_nor_what_is_acknowledged() {
    let mut world = World::open(&[1]);
    let parked = world.acquire();
    assert_eq!(asked(&world.heard()), [(2, 2, vec![])]);
    world.say(&Answer::Parked { sequence: 2 });
    for sequence in 3..2 * SESSION_CALLS_MAX {
        let ticket = world.call();
        assert_eq!(asked(&world.heard()), [(sequence, sequence, vec![])]);
        world.say(&returned(sequence));
        assert_eq!(world.done().len(), 1, "{ticket:?}");
    }
    world.say(&returned(2));
    assert_eq!(world.done()[0].0, parked);
    let next = 2 * SESSION_CALLS_MAX;
    world.call();
    assert_eq!(asked(&world.heard()), [(next, next, vec![2])]);
    world.say(&returned(next));
    world.call();
    assert_eq!(asked(&world.heard()), [(next + 1, next + 1, vec![])]);
}

#[test]
fn a_parked_reply_is_acknowledged_by_no_call_that_an_earlier_one_holds_up() {
    let mut world = World::open(&[1]);
    let slow = world.call();
    world.acquire();
    world.heard();
    world.say(&Answer::Parked { sequence: 3 });
    world.say(&returned(3));
    world.call();
    assert_eq!(asked(&world.heard()), [(4, 2, vec![])], "the cluster would not believe it");
    world.say(&returned(2));
    assert!(world.done().iter().any(|(ticket, _)| *ticket == slow));
    world.call();
    assert_eq!(asked(&world.heard()), [(5, 4, vec![3])]);
}

#[test]
fn time_runs_out_for_a_parked_call_only_while_nobody_answers() {
    let mut world = World::open(&[1, 2]);
    let ticket = world.acquire();
    world.heard();
    let (start, timeout) = (world.now, Duration::from_secs(5));
    assert_eq!(world.session.deadline(ticket, start, timeout), Some(start + timeout));
    world.say(&Answer::Parked { sequence: 2 });
    assert_eq!(world.session.deadline(ticket, start, timeout), None);
    world.now += Duration::from_secs(3);
    world.session.lost(world.now, "it closed the connection".into());
    assert_eq!(world.session.deadline(ticket, start, timeout), Some(world.now + timeout));
    world.serve(2, &[1, 2]);
    assert_eq!(asked(&world.heard()), [(2, 3, vec![])], "it is asked again, as what it is");
    // To be welcomed is no answer, however often.
    let lost = world.now;
    world.now += Duration::from_secs(1);
    world.say(&Answer::Waiting("no quorum".into()));
    world.break_link();
    world.serve(1, &[1, 2]);
    assert_eq!(world.session.deadline(ticket, start, timeout), Some(lost + timeout));
    let since = world.now - lost;
    assert_eq!(world.session.health(world.now).state, State::Reconnecting { since });
    world.say(&Answer::Alive(SESSION));
    assert_eq!(world.session.deadline(ticket, start, timeout), None);
}

#[test]
fn a_parked_call_that_is_given_up_is_cancelled_until_that_is_answered() {
    let mut world = World::open(&[1, 2]);
    let ticket = world.acquire();
    world.heard();
    world.say(&Answer::Parked { sequence: 2 });
    world.session.abandon(world.now, ticket);
    assert_eq!(cancels(&world.heard()), [2]);
    world.session.lost(world.now, "it closed the connection".into());
    world.serve(2, &[1, 2]);
    let heard = world.heard();
    assert_eq!((asked(&heard).len(), cancels(&heard)), (0, vec![2]));
    let cancelled = Outcome::Refused(Refusal::Cancelled);
    world.say(&Answer::Reply { sequence: 2, outcome: cancelled });
    assert_eq!(world.done(), []);
    assert!(asked(&world.heard()).is_empty(), "there is nothing to give back");
}

#[test]
fn what_was_granted_while_it_was_given_up_is_given_back() {
    let mut world = World::open(&[1]);
    let ticket = world.acquire();
    world.heard();
    world.session.give_up(world.now, ticket, Duration::from_secs(1));
    assert_eq!(cancels(&world.heard()), [2], "it may be parked by now");
    world.say(&returned(2));
    let heard = world.heard();
    let [Request::Call(call)] = heard.as_slice() else { panic!("{heard:?}") };
    assert_eq!((call.method.as_str(), call.sequence), ("release", 3));
    world.say(&returned(3));
    assert_eq!(world.done(), [], "nobody waits for any of it");
}

#[test]
fn ten_thousand_parked_calls_are_asked_again_a_few_at_a_time() {
    const MANY: u64 = 10_000;
    let mut world = World::open(&[1, 2]);
    for _ in 0..MANY {
        world.acquire();
    }
    let mut parked = 0;
    while parked < MANY {
        for (sequence, ..) in asked(&world.heard()) {
            world.say(&Answer::Parked { sequence });
            parked += 1;
        }
    }
    world.session.lost(world.now, "it closed the connection".into());
    world.serve(2, &[1, 2]);
    let mut again = 0;
    while again < MANY {
        let calls = asked(&world.heard());
        assert!((1..=SESSION_CALLS_MAX as usize).contains(&calls.len()));
        for (sequence, ..) in calls {
            world.say(&Answer::Parked { sequence });
            again += 1;
        }
    }
    assert!(world.heard().is_empty());
}

#[test]
fn a_session_that_may_be_over_is_said_to_be_in_doubt() {
    let mut world = World::open(&[1]);
    assert_eq!(world.session.health(world.now).state, State::Connected);
    world.session.lost(world.now, "it closed the connection".into());
    world.now += Duration::from_secs(9);
    let since = Duration::from_secs(9);
    assert_eq!(world.session.health(world.now).state, State::Reconnecting { since });
    world.now += Duration::from_secs(2);
    assert_eq!(world.session.health(world.now).state, State::Doubtful);
    world.call();
    world.serve(1, &[1]);
    world.say(&Answer::Expired(SESSION));
    let health = world.session.health(world.now);
    assert_eq!((health.state, health.session, health.losses), (State::None, None, 1));
}

#[test]
fn what_is_given_back_is_guarded_by_the_token_it_was_given_under() {
    let mut world = World::open(&[1]);
    let ticket = world.acquire();
    world.heard();
    world.session.abandon(world.now, ticket);
    world.heard();
    let outcome = Outcome::Returned(crate::Value::Int(41).encode().unwrap());
    world.say(&Answer::Reply { sequence: 2, outcome });
    let heard = world.heard();
    let [Request::Call(call)] = heard.as_slice() else { panic!("{heard:?}") };
    assert_eq!((call.method.as_str(), call.guard.as_ref().unwrap().token), ("release", 41));
}

#[test]
fn what_was_given_up_keeps_no_client_trying_for_longer_than_its_session_may_live() {
    let mut world = World::open(&[1]);
    let ticket = world.acquire();
    world.heard();
    world.say(&Answer::Parked { sequence: 2 });
    world.session.abandon(world.now, ticket);
    world.break_link();
    let release = world.make("release", Making { is_kept: true, ..Making::default() });
    world.session.abandon(world.now, release);
    let lost_at = world.now;
    while world.session.dial(world.now) != Dial::Nothing {
        world.session.lost(world.now, "nobody listens there".into());
        world.now += Duration::from_millis(100);
        assert!(world.now < lost_at + Duration::from_secs(11));
    }
}

#[test]
fn a_session_is_in_doubt_after_its_process_stood_still() {
    let mut world = World::open(&[1]);
    world.now += Duration::from_secs(11);
    assert_eq!(world.session.health(world.now).state, State::Doubtful);
    world.session.wake(world.now);
    world.say(&Answer::Alive(SESSION));
    assert_eq!(world.session.health(world.now).state, State::Connected);
}

#[test]
fn what_a_forgotten_call_told_is_told_again() {
    let mut world = World::open(&[1]);
    world.acquire();
    world.heard();
    world.say(&Answer::Parked { sequence: 2 });
    world.say(&returned(2));
    let ticket = world.call();
    assert_eq!(asked(&world.heard()), [(3, 3, vec![2])]);
    world.session.abandon(world.now, ticket);
    world.break_link();
    world.call();
    world.serve(1, &[1]);
    let heard = world.heard();
    assert_eq!((asked(&heard), cancels(&heard)), (vec![(4, 3, vec![2])], vec![3]));
}

fn undo(method: &str, when: UndoWhen) -> Option<Undo> {
    Some(Undo { method: method.into(), takes_reply: false, when })
}

fn methods(requests: &[Request]) -> Vec<(u64, String)> {
    let call = |request: &Request| {
        let Request::Call(call) = request else { return None };
        Some((call.sequence, call.method.clone()))
    };
    requests.iter().filter_map(call).collect()
}

#[test]
fn what_gives_back_is_asked_again_over_the_next_connection() {
    let mut world = World::open(&[1]);
    let ticket = world.acquire();
    world.heard();
    world.session.abandon(world.now, ticket);
    world.heard();
    world.say(&returned(2));
    assert_eq!(methods(&world.heard()), [(3, "release".to_owned())]);
    world.break_link();
    world.serve(1, &[1]);
    assert_eq!(methods(&world.heard()), [(3, "release".to_owned())], "or it is held for ever");
}

#[test]
fn a_call_that_was_given_up_is_cancelled_where_its_connection_broke() {
    let mut world = World::open(&[1]);
    let ticket = world.make("get", Making::default());
    world.heard();
    world.session.abandon(world.now, ticket);
    assert!(world.heard().is_empty(), "most have run by then");
    world.break_link();
    world.serve(1, &[1]);
    let heard = world.heard();
    assert_eq!((methods(&heard), cancels(&heard)), (vec![], vec![2]), "it may be parked");
    let cancelled = Outcome::Refused(Refusal::Cancelled);
    world.say(&Answer::Reply { sequence: 2, outcome: cancelled });
    world.call();
    assert_eq!(asked(&world.heard()), [(3, 3, vec![2])]);
}

#[test]
fn a_release_that_nobody_waits_for_is_made_where_there_is_a_session() {
    let release = || Making { is_kept: true, ..Making::default() };
    let mut world = World::open(&[1]);
    world.break_link();
    let ticket = world.make("release", release());
    world.session.abandon(world.now, ticket);
    let ticket = world.make("increment", Making::default());
    world.session.abandon(world.now, ticket);
    world.serve(1, &[1]);
    assert_eq!(methods(&world.heard()), [(2, "release".to_owned())]);
    world.break_link();
    world.serve(1, &[1]);
    assert_eq!(methods(&world.heard()), [(2, "release".to_owned())]);

    let mut fresh = World::new(&[1]);
    let ticket = fresh.make("release", release());
    fresh.session.abandon(fresh.now, ticket);
    assert_eq!(fresh.session.dial(fresh.now), Dial::Nothing, "nothing is held without one");
}

#[test]
fn a_wait_that_was_never_made_gives_back_what_it_would_have_given_up() {
    let wait = || Making { undo: undo("release_all", UndoWhen::Returned), ..Making::default() };
    let mut world = World::open(&[1]);
    world.break_link();
    let ticket = world.make("wait", wait());
    world.session.abandon(world.now, ticket);
    world.serve(1, &[1]);
    assert_eq!(methods(&world.heard()), [(2, "release_all".to_owned())]);
    world.say(&returned(2));

    let ticket = world.make("wait", wait());
    world.heard();
    world.session.abandon(world.now, ticket);
    assert_eq!(cancels(&world.heard()), [3]);
    let outcome = Outcome::Returned(crate::Value::Bool(false).encode().unwrap());
    world.say(&Answer::Reply { sequence: 3, outcome });
    assert_eq!(methods(&world.heard()), [(4, "release_all".to_owned())], "it has the lock again");
}

#[test]
fn what_gives_a_wait_back_takes_nothing_from_the_next_acquire() {
    let wait = Making { undo: undo("release_all", UndoWhen::Returned), ..Making::default() };
    let mut world = World::open(&[1]);
    let ticket = world.make("wait", wait);
    world.heard();
    world.say(&Answer::Parked { sequence: 2 });
    world.session.abandon(world.now, ticket);
    assert_eq!(cancels(&world.heard()), [2]);
    world.make("acquire", Making::default());
    assert!(world.heard().is_empty(), "the wait may have the lock");
    let outcome = Outcome::Returned(crate::Value::Bool(true).encode().unwrap());
    world.say(&Answer::Reply { sequence: 2, outcome });
    assert_eq!(methods(&world.heard()), [(3, "release_all".to_owned()), (4, "acquire".to_owned())]);
}

#[test]
fn what_a_refused_call_told_is_told_again() {
    let mut world = World::open(&[1]);
    world.acquire();
    world.heard();
    world.say(&Answer::Parked { sequence: 2 });
    world.say(&returned(2));
    world.call();
    assert_eq!(asked(&world.heard()), [(3, 3, vec![2])]);
    let outcome = Outcome::Refused(Refusal::TooManyCalls);
    world.say(&Answer::Reply { sequence: 3, outcome });
    world.call();
    assert_eq!(asked(&world.heard()), [(4, 4, vec![2])]);
}

#[test]
fn a_session_is_proven_from_when_the_answered_request_was_sent() {
    let mut world = World::open(&[1]);
    world.call();
    world.heard();
    world.now += Duration::from_secs(8);
    world.say(&returned(2));
    assert_eq!(world.session.health(world.now).state, State::Connected);
    // The cluster may have heard nothing since: the reply may have been on its way for so long.
    world.now += Duration::from_secs(3);
    assert_eq!(world.session.health(world.now).state, State::Doubtful);
    world.session.wake(world.now);
    world.say(&Answer::Alive(SESSION));
    assert_eq!(world.session.health(world.now).state, State::Connected);
}
