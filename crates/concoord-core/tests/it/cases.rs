//! What was once lost, forked, stuck or given away, each case by itself.

use bytes::Bytes;
use concoord_core::call::{Call, SessionId};
use concoord_core::limits::{
    ARGUMENT_BYTES_MAX, CONNECTION_SESSIONS_MAX, FORWARDED_BYTES_MAX, SETTLE_LOG_BYTES,
};
use concoord_core::view::Role;
use concoord_core::wire::{Answer, Request};

use crate::sim::{SECOND, cluster, settle_and_check};
use crate::world::World;
use crate::world::disk::End;

/// The leader dies right after a learner became a voter and before that one has heard of it.
/// The only other voter needs its vote.
#[test]
fn a_voter_that_does_not_know_yet_that_it_is_one_votes() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.same_host = false;
        cluster(&mut world, 2);
        let leader = if world.leads(0) { 0 } else { 1 };
        let other = 1 - leader;
        let newcomer = world.place();
        let through = world.address(leader);
        world.start(newcomer, vec![through]);
        let end = world.now + 20 * SECOND;
        let is_voter = |world: &World, node| world.role(node, newcomer) == Some(Role::Voter);
        world.run_until(end, |world| is_voter(world, other));
        assert!(is_voter(&world, other));
        if is_voter(&world, newcomer) {
            continue;
        }
        world.crash(leader, End::Killed);
        world.add_client(5);
        let end = world.now + 20 * SECOND;
        world.run_until(end, World::are_clients_done);
        assert!(world.are_clients_done(), "seed {seed}\n{}", world.stuck());
    }
}

/// The leader promoted it, and stepped down because its disk took nothing: it has not heard yet
/// that it is a voter, and the leader needs its vote.
#[test]
fn a_voter_that_does_not_know_yet_that_it_is_one_forgets_a_silent_leader() {
    let mut seen = 0;
    for seed in 0..40 {
        let mut world = World::new(seed);
        (world.same_host, world.durable) = (false, true);
        cluster(&mut world, 1);
        let newcomer = world.place();
        let through = world.address(0);
        world.start(newcomer, vec![through]);
        let end = world.now + 20 * SECOND;
        world.run_until(end, |world| world.role(0, newcomer) == Some(Role::Voter));
        if world.role(newcomer, newcomer) == Some(Role::Voter) {
            continue;
        }
        seen += 1;
        world.fill_disk(newcomer);
        let end = world.now + 3 * SECOND;
        world.run_until(end, |_| false);
        world.heal();
        world.add_client(5);
        let end = world.now + 20 * SECOND;
        world.run_until(end, World::are_clients_done);
        assert!(world.are_clients_done(), "seed {seed}\n{}", world.stuck());
    }
    assert!(seen > 0, "each of them knew");
}

/// Of three whose state holds sets, one that lags behind the log is needed for a quorum: what it
/// starts from can't wait for the log to have all of them settle.
#[test]
fn a_quorum_that_needs_one_who_lags_behind_the_log_gives_it_the_last_settled_state() {
    let received = |world: &World| world.counts().get("snapshot received").copied();
    for seed in 0..20 {
        let mut world = World::new(seed);
        lagging_quorum(&mut world);
        let before = received(&world);
        settle_and_check(&mut world);
        assert_ne!(received(&world), before, "seed {seed}: it had no need of one");
    }
}

/// Two of three are there, of which one lags behind the other's log.
pub(crate) fn lagging_quorum(world: &mut World) {
    (world.durable, world.hosted, world.has_sets) = (true, true, true);
    (world.same_host, world.snapshot_bytes) = (false, 2_000);
    cluster(world, 3);
    let lags = world.dice.below(3) as usize;
    world.crash(lags, End::Killed);
    for _ in 0..3 {
        world.add_client(30);
    }
    // Before it is removed for its silence.
    let end = world.now + 2 * SECOND;
    world.run_until(end, |_| false);
    for node in world.up() {
        world.crash(node, End::PowerLost);
    }
    world.start((lags + 1) % 3, vec![]);
    world.start(lags, vec![]);
    world.add_client(20);
}

/// Whoever lags may need what was logged since the last settled state.
#[test]
fn a_long_log_has_a_state_with_sets_settled_anew() {
    let settled = |world: &World| world.counts().get("state settled").copied();
    let mut world = World::new(7);
    (world.hosted, world.has_sets, world.padding) = (true, true, 200_000);
    cluster(&mut world, 2);
    let end = world.now + SECOND;
    world.run_until(end, |_| false);
    let before = settled(&world);
    world.add_client(SETTLE_LOG_BYTES / 200_000);
    let end = world.now + 60 * SECOND;
    world.run_until(end, World::are_clients_done);
    assert_eq!(settled(&world), before, "calls would wait for it too often");
    world.add_client(100);
    let end = world.now + 60 * SECOND;
    world.run_until(end, |world| world.are_clients_done() && settled(world) > before);
    assert!(settled(&world) > before, "{}", world.stuck());
}

/// Many large calls in one turn, at the leader and at a follower.
#[test]
fn whatever_clients_send_no_message_is_larger_than_a_frame() {
    let mut world = World::new(1);
    world.measured = true;
    cluster(&mut world, 3);
    for node in 0..3 {
        flood(&mut world, node, SessionId(node as u64 + 1), 12);
        let end = world.now + SECOND;
        world.run_until(end, |_| false);
        assert_eq!(world.calls(0), 12 * (node as u64 + 1));
    }
}

/// Opens a session and has many of the largest calls of it taken in by one turn.
fn flood(world: &mut World, node: usize, session: SessionId, calls: u64) {
    world.request(node, 1_000_000, Request::Open);
    let end = world.now + SECOND;
    world.run_until(end, |_| false);
    world.pause(node, SECOND / 10);
    for sequence in 1..=calls {
        let (acked, method) = (1, "append".into());
        let arguments = Bytes::from(vec![0; ARGUMENT_BYTES_MAX]);
        let call = Call { session, sequence, acked, method, arguments, ..Call::default() };
        world.request(node, 1_000_000, Request::Call(call));
    }
}

/// A follower whose clients ask for much keeps it until the leader has dealt with what was
/// forwarded before.
#[test]
fn no_more_is_forwarded_at_once_than_may_be_and_all_of_it_once() {
    const CALLS: u64 = 12;
    let mut world = World::new(6);
    world.measured = true;
    cluster(&mut world, 3);
    let follower = (0..3).find(|node| !world.leads(*node)).unwrap();
    flood(&mut world, follower, SessionId(1), CALLS);
    world.forwarded = 0;
    let end = world.now + SECOND;
    world.run_until(end, |world| world.forwarded > 0);
    let most = FORWARDED_BYTES_MAX + ARGUMENT_BYTES_MAX;
    assert!((1..most).contains(&world.forwarded), "{} bytes at once", world.forwarded);
    let end = world.now + 10 * SECOND;
    world.run_until(end, |_| false);
    assert_eq!(world.calls(follower), CALLS);
    let all = CALLS as usize * ARGUMENT_BYTES_MAX;
    assert!(world.forwarded < all + ARGUMENT_BYTES_MAX / 2, "{} of {all}", world.forwarded);
}

/// What was on its way to the leader when the streams broke is asked again of the same leader.
#[test]
fn what_a_broken_stream_took_along_is_asked_again_though_the_leader_is_the_same() {
    for seed in 0..100 {
        let mut world = World::new(seed);
        world.same_host = false;
        cluster(&mut world, 3);
        let leader = (0..3).find(|node| world.leads(*node)).unwrap();
        let follower = (leader + 1) % 3;
        world.request(follower, 1_000_000, Request::Open);
        let soon = world.now + 1;
        world.run_until(soon, |_| false);
        world.break_stream(follower, leader);
        world.break_stream(leader, follower);
        let end = world.now + 10 * SECOND;
        world.run_until(end, |_| false);
        assert!(world.sessions(leader) > 0, "seed {seed}\n{}", world.stuck());
    }
}

/// A snapshot that travels for longer than the log takes to be cut off behind it.
#[test]
fn a_newcomer_catches_up_under_load_however_long_its_snapshot_travels() {
    let mut world = World::new(3);
    (world.padding, world.snapshot_time) = (128_000, SECOND / 2);
    cluster(&mut world, 2);
    for _ in 0..4 {
        world.add_client(2_000);
    }
    let newcomer = world.place();
    let through = world.address(0);
    world.start(newcomer, vec![through]);
    let end = world.now + 20 * SECOND;
    world.run_until(end, |world| world.has_served(newcomer) || world.are_clients_done());
    assert!(world.has_served(newcomer), "{}", world.stuck());
    assert!(!world.are_clients_done(), "there was no load\n{}", world.stuck());
}

/// A process that was stopped for a while has heard of nobody: that is nobody's silence.
#[test]
fn a_pause_of_the_leader_ends_no_session() {
    let mut world = World::new(4);
    cluster(&mut world, 1);
    world.request(0, 1_000_000, Request::Open);
    let end = world.now + SECOND;
    world.run_until(end, |_| false);
    assert_eq!(world.sessions(0), 1);
    world.pause(0, 30 * SECOND);
    let end = world.now + 31 * SECOND;
    world.run_until(end, |_| false);
    world.request(0, 1_000_000, Request::KeepAlive(SessionId(1)));
    let end = world.now + SECOND;
    world.run_until(end, |_| false);
    assert_eq!(world.sessions(0), 1, "{}", world.stuck());
}

#[test]
fn one_connection_opens_few_sessions() {
    let mut world = World::new(5);
    cluster(&mut world, 1);
    for _ in 0..1_000 {
        world.request(0, 1_000_000, Request::Open);
    }
    let end = world.now + SECOND;
    world.run_until(end, |_| false);
    assert_eq!(world.sessions(0), CONNECTION_SESSIONS_MAX as u64);
}

/// A call that crashes the object on a majority and runs on the third, in whatever order they
/// come to know: one of both is what all replicas hold in the end.
#[test]
fn a_call_that_ran_on_one_replica_and_crashed_on_the_others_forks_nothing() {
    for seed in 0..60 {
        let mut world = World::new(seed);
        (world.hosted, world.poisoned) = (true, true);
        cluster(&mut world, 3);
        world.crashes = (0..3).filter(|node| *node as u64 != seed % 3).collect();
        world.add_client(60);
        let end = world.now + 60 * SECOND;
        world.run_until(end, World::are_clients_done);
        assert!(world.are_clients_done(), "seed {seed}: a call hangs\n{}", world.stuck());
        let end = world.now + 30 * SECOND;
        world.run_until(end, |_| false);
        let digests = world.digests();
        let agree = digests.iter().all(|(_, digest, _)| *digest == digests[0].1);
        assert!(agree && digests.len() == 3, "seed {seed}: {digests:?}\n{}", world.stuck());
    }
}

/// The leader that was told of a crash dies before it has decided on it.
#[test]
fn a_crash_is_decided_on_whoever_leads() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        (world.hosted, world.poisoned) = (true, true);
        cluster(&mut world, 3);
        world.crashes = (0..3).collect();
        world.add_client(60);
        world.loss_percent = 300;
        for _ in 0..20 {
            let end = world.now + world.dice.below(SECOND / 2);
            world.run_until(end, |_| false);
            if let Some(leader) = (0..3).find(|node| world.leads(*node)) {
                world.pause(leader, SECOND);
            }
        }
        world.heal();
        let end = world.now + 60 * SECOND;
        world.run_until(end, World::are_clients_done);
        assert!(world.are_clients_done(), "seed {seed}: a call hangs\n{}", world.stuck());
    }
}

/// A newcomer that is told to stop just when it becomes a voter, before it has heard of it.
#[test]
fn a_newcomer_that_leaves_at_once_takes_no_quorum_with_it() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.same_host = false;
        cluster(&mut world, 1);
        let newcomer = world.place();
        let through = world.address(0);
        world.start(newcomer, vec![through]);
        let end = world.now + 20 * SECOND;
        world.run_until(end, |world| world.role(0, newcomer) == Some(Role::Voter));
        if world.role(newcomer, newcomer) == Some(Role::Voter) {
            continue;
        }
        world.leave(newcomer);
        world.add_client(5);
        let end = world.now + 20 * SECOND;
        world.run_until(end, World::are_clients_done);
        assert!(world.are_clients_done(), "seed {seed}\n{}", world.stuck());
    }
}

/// A bootstrap that starts when the clock has run for long listens as long as any other.
#[test]
fn a_bootstrap_that_is_started_again_is_greeted_whatever_the_clock_says() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.same_host = true;
        cluster(&mut world, 2);
        let end = world.now + 60 * SECOND;
        world.run_until(end, |_| false);
        world.crash(0, End::Killed);
        let end = world.now + SECOND;
        world.run_until(end, |_| false);
        world.start(0, vec![]);
        let end = world.now + SECOND / 20;
        world.run_until(end, |_| false);
        assert!(!world.has_served(0), "seed {seed}: it did not wait");
        let end = world.now + 20 * SECOND;
        world.run_until(end, |world| world.role(1, 0) == Some(Role::Voter));
        assert_eq!(world.role(1, 0), Some(Role::Voter), "seed {seed}\n{}", world.stuck());
    }
}

/// One that slept through two lineages finds, where a member of its own was, a newcomer that is
/// joining and lets everybody in. It must hear from it what has become of it.
#[test]
fn a_member_left_behind_that_met_a_joiner_learns_so() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        (world.same_host, world.durable) = (true, true);
        cluster(&mut world, 2);
        world.crash(0, End::Killed);
        let end = world.now + SECOND;
        world.run_until(end, |_| false);
        let newcomer = world.place();
        let through = world.address(1);
        world.start(newcomer, vec![through]);
        let end = world.now + 20 * SECOND;
        world.run_until(end, |world| world.role(newcomer, newcomer) == Some(Role::Voter));
        world.crash(1, End::Killed);
        let end = world.now + SECOND;
        world.run_until(end, |_| false);
        // Both come back at once: one joins anew, the other dials it meanwhile.
        world.start(1, vec![]);
        world.start(0, vec![]);
        let end = world.now + 20 * SECOND;
        let all = |world: &World| (0..3).all(|node| world.has_served(node));
        world.run_until(end, all);
        assert!(all(&world), "seed {seed}\n{}", world.stuck());
    }
}

/// One that is about to go on alone has that under way to a slow disk when the other comes back
/// from its own. They must not meet: once the first dies too, each would hold that it is alone.
#[test]
fn of_two_members_one_at_most_goes_on_alone() {
    for seed in 0..40 {
        let mut world = World::new(seed);
        (world.same_host, world.durable) = (true, true);
        cluster(&mut world, 2);
        world.slow_disk(0, 2 * SECOND);
        world.crash(1, End::Killed);
        let end = world.now + SECOND / 100;
        world.run_until(end, |_| false);
        let through = world.address(0);
        world.start(1, vec![through]);
        let end = world.now + SECOND / 2;
        world.run_until(end, |_| false);
        world.crash(0, End::Killed);
        let end = world.now + 2 * SECOND;
        world.run_until(end, |_| false);
        world.start(0, vec![]);
        world.add_client(20);
        settle_and_check(&mut world);
    }
}

/// A member's removal is decided by that member itself, as the leader: the power failed when the
/// removal was in both logs. Without its word the other one would count by both for ever.
#[test]
fn a_leader_that_decides_on_its_own_removal_tells_the_other() {
    for seed in 0..60 {
        let mut world = World::new(seed);
        (world.same_host, world.durable) = (false, true);
        cluster(&mut world, 2);
        let follower = if world.leads(0) { 1 } else { 0 };
        world.leave(follower);
        let end = world.now + 200 + world.dice.below(800);
        world.run_until(end, |_| false);
        for node in world.up() {
            world.crash(node, End::PowerLost);
        }
        let through = world.address(0);
        world.start(0, vec![]);
        world.start(1, vec![through]);
        world.add_client(5);
        let end = world.now + 30 * SECOND;
        world.run_until(end, World::are_clients_done);
        assert!(world.are_clients_done(), "seed {seed}\n{}", world.stuck());
    }
}

#[test]
fn nobody_goes_on_alone_past_one_who_slept_through_a_removal() {
    for seed in 0..100 {
        let mut world = World::new(seed);
        hidden_removal(&mut world);
        settle_and_check(&mut world);
    }
}

/// The leader and one other decide on the removal of that other, while the disk of the third is
/// slow. Both others die; the leader sees the third's process gone. They come back from their
/// disks, count by all three, since none has heard, and are a majority of those: they elect one
/// in a term in which the leader may lead alone.
pub(crate) fn hidden_removal(world: &mut World) {
    (world.same_host, world.durable) = (true, true);
    cluster(world, 3);
    let leader = (0..3).find(|node| world.leads(*node)).unwrap();
    let (sleeper, removed) = ((leader + 1) % 3, (leader + 2) % 3);
    world.slow_disk(sleeper, 2 * SECOND);
    world.leave(removed);
    let end = world.now + SECOND;
    world.run_until(end, |world| world.role(leader, removed).is_none());
    for node in [sleeper, removed] {
        world.crash(node, End::PowerLost);
    }
    world.add_client(20);
    let end = world.now + SECOND;
    world.run_until(end, |_| false);
    world.crash(leader, End::Killed);
    let through = world.address(leader);
    for _ in 0..4 {
        for node in [sleeper, removed] {
            world.start(node, vec![through]);
        }
        let end = world.now + world.dice.below(2 * SECOND);
        world.run_until(end, |_| false);
        for node in [sleeper, removed] {
            world.crash(node, End::Killed);
        }
    }
    for node in [leader, sleeper, removed] {
        let bootstrap = if node == 0 { vec![] } else { vec![world.address(0)] };
        world.start(node, bootstrap);
    }
    world.heal();
}

/// Whatever becomes of what replicas send each other: who asks one of them for a session, and
/// stays, is told what came of it.
#[test]
fn whoever_asks_for_a_session_and_waits_gets_one() {
    for seed in 0..100 {
        let mut world = World::new(seed);
        world.snapshot_bytes = 1_000;
        cluster(&mut world, 3);
        world.add_client(300);
        let mut asked = Vec::new();
        for _ in 0..40 {
            let (one, other) = (world.dice.below(3) as usize, world.dice.below(3) as usize);
            match world.dice.below(6) {
                0 => world.loss_percent = 50 + world.dice.below(250),
                1 => {
                    let time = world.dice.below(2 * SECOND);
                    world.pause(one, time);
                }
                2 => world.break_stream(one, other),
                3 => world.sever(one, other),
                4 => world.heal(),
                _ => {}
            }
            let serving = (0..3).filter(|node| world.has_served(*node)).collect::<Vec<_>>();
            for node in serving {
                let connection = world.connection();
                world.request(node, connection, Request::Open);
                asked.push((node, world.id(node), connection));
            }
            let end = world.now + world.dice.below(SECOND / 2);
            world.run_until(end, |_| false);
        }
        world.heal();
        let end = world.now + 20 * SECOND;
        world.run_until(end, |_| false);
        for (node, id, connection) in asked {
            let answered = world.said(connection).any(|answer| matches!(answer, Answer::Opened(_)));
            // Whoever began anew has let go of its connections.
            assert!(answered || world.id(node) != id, "seed {seed}, node {node}");
        }
    }
}
