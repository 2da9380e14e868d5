//! What a client may believe of its session, and when.

use concoord_core::call::SessionId;
use concoord_core::wire::{Answer, Request};

use crate::sim::{SECOND, cluster};
use crate::world::{Time, World};

fn run(world: &mut World, time: Time) {
    let end = world.now + time;
    world.run_until(end, |_| false);
}

/// A cluster of three that are on hosts of their own, who leads there, and a session.
fn three(seed: u64, durable: bool) -> (World, usize, SessionId) {
    let mut world = World::new(seed);
    (world.same_host, world.durable) = (false, durable);
    cluster(&mut world, 3);
    let leader = (0..3).find(|node| world.leads(*node)).unwrap();
    let connection = world.connection();
    world.request(leader, connection, Request::Open);
    run(&mut world, SECOND / 10);
    let opened = |answer: &Answer| match answer {
        Answer::Opened(session) => Some(*session),
        _ => None,
    };
    let session = world.said(connection).find_map(opened).unwrap();
    (world, leader, session)
}

/// What is said to one who says there that the session lives.
fn keep_alive(world: &mut World, node: usize, session: SessionId, time: Time) -> Vec<Answer> {
    let connection = world.connection();
    world.request(node, connection, Request::KeepAlive(session));
    run(world, time);
    world.said(connection).cloned().collect()
}

#[test]
fn every_replica_knows_that_a_session_is_over() {
    let (mut world, leader, session) = three(1, false);
    run(&mut world, 11 * SECOND);
    for node in [leader, (leader + 1) % 3, (leader + 2) % 3] {
        let said = keep_alive(&mut world, node, session, SECOND / 2);
        assert_eq!(said, [Answer::Expired(session)], "node {node}, {leader} leads");
    }
}

#[test]
fn a_session_lives_where_whoever_leads_has_heard_so() {
    for seed in 0..10 {
        cut_off_follower(seed);
    }
}

pub(crate) fn cut_off_follower(seed: u64) -> World {
    let (mut world, leader, session) = three(seed, false);
    let follower = (leader + 1) % 3;
    for _ in 0..4 {
        run(&mut world, 4 * SECOND);
        let said = keep_alive(&mut world, follower, session, SECOND / 10);
        assert_eq!(said, [Answer::Alive(session)]);
    }
    // Before it can have noticed that it is cut off.
    for other in (0..3).filter(|other| *other != follower) {
        world.sever(follower, other);
        world.sever(other, follower);
    }
    let said = keep_alive(&mut world, follower, session, 3 * SECOND);
    let waits = said.iter().all(|answer| matches!(answer, Answer::Waiting(_)));
    assert!(waits, "cut off, it says {said:?}");
    assert_eq!(world.sessions(leader), 1);
    // It comes back from there, and asks again.
    world.heal();
    run(&mut world, 3 * SECOND);
    let said = keep_alive(&mut world, follower, session, 2 * SECOND);
    assert_eq!(said.last(), Some(&Answer::Alive(session)));
    world
}

#[test]
fn a_leader_that_is_cut_off_says_of_no_session_that_it_lives() {
    let (mut world, leader, session) = three(3, false);
    for other in (0..3).filter(|other| *other != leader) {
        world.sever(leader, other);
        world.sever(other, leader);
    }
    let said = keep_alive(&mut world, leader, session, 3 * SECOND);
    assert!(said.iter().all(|answer| matches!(answer, Answer::Waiting(_))), "{said:?}");
}

/// Its end is in the log, and the followers' disks are slow: who comes back then is told so.
#[test]
fn a_session_whose_end_is_not_decided_is_not_said_to_live() {
    let mut seen = 0;
    for seed in 0..5 {
        let (mut world, leader, session) = three(seed, true);
        run(&mut world, 9 * SECOND);
        for follower in (0..3).filter(|node| *node != leader) {
            world.slow_disk(follower, 2 * SECOND);
        }
        run(&mut world, 3 * SECOND / 2);
        for node in [leader, (leader + 1) % 3] {
            if !world.leads(leader) || world.sessions(leader) == 0 {
                continue;
            }
            seen += 1;
            let connection = world.connection();
            world.request(node, connection, Request::KeepAlive(session));
            run(&mut world, SECOND / 2);
            let said: Vec<_> = world.said(connection).collect();
            assert!(!said.contains(&&Answer::Alive(session)), "seed {seed}, node {node}");
        }
        world.heal();
        run(&mut world, 5 * SECOND);
        let said = keep_alive(&mut world, leader, session, 2 * SECOND);
        assert_eq!(said.last(), Some(&Answer::Expired(session)), "seed {seed}\n{}", world.stuck());
    }
    assert!(seen > 0, "nobody asked in time");
}

#[test]
fn who_stays_hears_of_new_members() {
    let mut world = World::new(4);
    cluster(&mut world, 1);
    let connection = world.connection();
    world.request(0, connection, Request::Open);
    run(&mut world, SECOND);
    let newcomer = world.place();
    let through = world.address(0);
    world.start(newcomer, vec![through]);
    run(&mut world, 5 * SECOND);
    let both = Answer::Members(vec![world.address(0), world.address(newcomer)]);
    assert!(world.said(connection).any(|answer| *answer == both), "{}", world.stuck());
}

/// However many clients are idle, they have the leader ask its followers once a tick, and no more.
#[test]
fn a_thousand_idle_sessions_cost_little() {
    let (mut world, leader, session) = three(5, false);
    let before = world.sent;
    run(&mut world, SECOND);
    let idle = world.sent - before;
    let connections: Vec<_> = (0..1_000).map(|_| world.connection()).collect();
    let before = world.sent;
    for connection in &connections {
        world.request(leader, *connection, Request::KeepAlive(session));
        run(&mut world, SECOND / 1_000);
    }
    run(&mut world, SECOND / 10);
    assert!(world.sent - before < 10 * idle, "{} messages, {idle} idle", world.sent - before);
    let alive = Answer::Alive(session);
    assert!(connections.iter().all(|connection| world.said(*connection).any(|it| *it == alive)));
}
