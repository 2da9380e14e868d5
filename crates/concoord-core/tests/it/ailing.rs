//! Replicas of little use: those whose worker stands still, or is gone for good.

use concoord_core::limits::UNDONE_BYTES_MAX;

use crate::sim::{SECOND, cluster, settle_and_check};
use crate::world::World;
use crate::world::disk::End;

const WHY: &str = "its source has changed";

/// Clients whose calls take that many times what a worker may be behind.
fn flood(world: &mut World, times: usize) {
    for _ in 0..4 {
        world.add_client(times * UNDONE_BYTES_MAX / world.padding / 4);
    }
}

fn follower(world: &World) -> usize {
    (0..world.nodes()).find(|node| !world.leads(*node)).unwrap()
}

fn leader(world: &World) -> usize {
    (0..world.nodes()).find(|node| world.leads(*node)).unwrap()
}

/// A replica whose worker stands still keeps a bounded backlog, holds nobody up, and goes on from a
/// snapshot.
#[test]
fn a_worker_that_stands_still_costs_its_replica_bounded_memory_alone() {
    let mut world = World::new(3);
    (world.hosted, world.padding) = (true, 400_000);
    cluster(&mut world, 3);
    let still = (0..3).find(|node| !world.leads(*node)).unwrap();
    world.hold_worker(still, true);
    world.add_client(4 * UNDONE_BYTES_MAX / 400_000);
    let end = world.now + 300 * SECOND;
    let mut most = 0;
    world.run_until(end, |world| {
        most = most.max(world.undone_bytes(still));
        world.are_clients_done()
    });
    assert!(world.are_clients_done(), "{}", world.stuck());
    let given = UNDONE_BYTES_MAX..2 * UNDONE_BYTES_MAX;
    assert!(given.contains(&most), "{most} bytes were given to it");
    let end = world.now + 5 * SECOND;
    world.run_until(end, |_| false);
    assert!(world.reason(still).contains("behind"), "{}", world.stuck());
    world.hold_worker(still, false);
    let end = world.now + 60 * SECOND;
    world.run_until(end, |world| world.reason(still).is_empty());
    assert_eq!(world.reason(still), "");
    settle_and_check(&mut world);
}

#[test]
fn a_leader_without_a_worker_hands_over_and_is_of_use_again_with_one() {
    let mut world = World::new(5);
    world.hosted = true;
    cluster(&mut world, 3);
    let old = (0..3).find(|node| world.leads(*node)).unwrap();
    world.host(old, Err("its source has changed".into()));
    world.add_client(100);
    let end = world.now + 60 * SECOND;
    world.run_until(end, World::are_clients_done);
    assert!(world.are_clients_done() && !world.leads(old), "{}", world.stuck());
    assert!(world.reason(old).contains("its source has changed"));
    world.host(old, Ok(()));
    settle_and_check(&mut world);
    assert_eq!(world.reason(old), "");
}

/// All workers die of what they are to run again, though it ran once: only the state of others helps.
#[test]
fn a_replica_whose_worker_is_lost_takes_the_state_of_the_others() {
    for leads in [false, true] {
        let mut world = World::new(19);
        world.hosted = true;
        cluster(&mut world, 3);
        world.add_client(100);
        let end = world.now + 60 * SECOND;
        world.run_until(end, World::are_clients_done);
        let lost = if leads { leader(&world) } else { follower(&world) };
        let before = world.id(lost);
        world.lose_worker(lost);
        world.add_client(100);
        let end = world.now + 60 * SECOND;
        world.run_until(end, |world| world.are_clients_done() && world.is_whole());
        assert_ne!(world.id(lost), before, "it joins as another\n{}", world.stuck());
        settle_and_check(&mut world);
        assert_eq!(world.reason(lost), "");
        assert_eq!(world.view().unwrap().0.members.len(), 3);
    }
}

/// Of two members both are needed for a decision: one that has no room for more leaves, and the
/// other one goes on.
#[test]
fn a_member_without_a_worker_holds_the_other_one_up_for_a_while_only() {
    for durable in [false, true] {
        let mut world = World::new(7);
        (world.hosted, world.padding, world.durable) = (true, 400_000, durable);
        cluster(&mut world, 2);
        let bare = follower(&world);
        world.host(bare, Err(WHY.into()));
        flood(&mut world, 3);
        let end = world.now + 300 * SECOND;
        let mut most = 0;
        world.run_until(end, |world| {
            most = most.max(world.undone_bytes(bare));
            world.are_clients_done()
        });
        assert!(world.are_clients_done(), "{}", world.stuck());
        assert!((UNDONE_BYTES_MAX..3 * UNDONE_BYTES_MAX).contains(&most), "{most}");
        // It is back, with a worker.
        settle_and_check(&mut world);
        assert_eq!((world.reason(bare), world.view().unwrap().0.members.len()), ("".into(), 2));
    }
}

/// One that leaves for want of a worker can't be removed before another one that is dead, but with its
/// own vote: until then it must take in what the leader proposes, and that has to be little.
#[test]
fn calls_wait_for_a_member_that_leaves_where_its_vote_is_needed() {
    let mut world = World::new(3);
    (world.hosted, world.padding, world.same_host) = (true, 2_000_000, false);
    cluster(&mut world, 3);
    let (leader, bare) = (leader(&world), follower(&world));
    world.host(bare, Err(WHY.into()));
    let end = world.now + 4 * SECOND;
    world.run_until(end, |_| false);
    world.crash(3 - leader - bare, End::Killed);
    flood(&mut world, 8);
    let end = world.now + 60 * SECOND;
    let mut most = 0;
    world.run_until(end, |world| {
        most = most.max(world.undone_bytes(bare));
        world.are_clients_done()
    });
    assert!(world.are_clients_done(), "{}", world.stuck());
    assert!((UNDONE_BYTES_MAX..3 * UNDONE_BYTES_MAX).contains(&most), "{most}");
}

/// Two durable ones that are started again, and have more to run than they may be behind.
fn two_with_much_to_run() -> World {
    let mut world = World::new(7);
    (world.hosted, world.padding, world.durable) = (true, 400_000, true);
    (world.snapshot_bytes, world.poisoned) = (usize::MAX / 4, true);
    cluster(&mut world, 2);
    flood(&mut world, 6);
    let end = world.now + 300 * SECOND;
    world.run_until(end, World::are_clients_done);
    assert!(world.are_clients_done(), "{}", world.stuck());
    for node in 0..2 {
        world.crash(node, End::Killed);
    }
    for node in 0..2 {
        world.start(node, vec![]);
    }
    world
}

/// The same with none of it run yet, and a leader.
fn two_with_all_to_run() -> World {
    let mut world = two_with_much_to_run();
    for node in 0..2 {
        world.hold_worker(node, true);
    }
    let end = world.now + 5 * SECOND;
    world.run_until(end, |world| (0..2).any(|node| world.leads(node)));
    world
}

/// What ends that comes by the log, however much that is.
#[test]
fn two_that_are_started_again_with_much_to_run_go_on() {
    for dies in [true, false] {
        let mut world = if dies { two_with_much_to_run() } else { two_with_all_to_run() };
        if dies {
            world.crashes = (0..2).collect();
        } else {
            let (leader, bare) = (leader(&world), follower(&world));
            world.hold_worker(leader, false);
            world.host(bare, Err(WHY.into()));
        }
        world.add_client(10);
        let end = world.now + 60 * SECOND;
        world.run_until(end, World::are_clients_done);
        assert!(world.are_clients_done(), "{}", world.stuck());
    }
}

/// What ran there alone may have been acknowledged.
#[test]
fn a_member_without_a_worker_stays_until_its_leaders_has_come_as_far() {
    let mut world = two_with_all_to_run();
    let (leader, bare) = (leader(&world), follower(&world));
    let before = (world.id(bare), world.undone_bytes(bare));
    world.hold_worker(bare, false);
    let end = world.now + 60 * SECOND;
    world.run_until(end, |world| 2 * world.undone_bytes(bare) < before.1);
    world.host(bare, Err(WHY.into()));
    let end = world.now + 10 * SECOND;
    world.run_until(end, |_| false);
    assert_eq!(world.id(bare), before.0, "{}", world.stuck());
    world.hold_worker(leader, false);
    let end = world.now + 30 * SECOND;
    world.run_until(end, |world| world.id(bare) != before.0);
    assert_ne!(world.id(bare), before.0, "{}", world.stuck());
    settle_and_check(&mut world);
}

/// Nobody is told to wait without being told for whom.
#[test]
fn a_leader_says_who_takes_no_more_of_the_log() {
    let mut world = World::new(7);
    (world.hosted, world.padding) = (true, 400_000);
    cluster(&mut world, 2);
    let (still, leader) = (follower(&world), leader(&world));
    world.hold_worker(still, true);
    flood(&mut world, 2);
    let end = world.now + 60 * SECOND;
    world.run_until(end, |_| false);
    let (reason, address) = (world.reason(leader), world.address(still));
    assert!(reason.contains(&format!("{address} did not take the log")), "{reason}");
    world.hold_worker(still, false);
    let end = world.now + 60 * SECOND;
    world.run_until(end, World::are_clients_done);
    settle_and_check(&mut world);
    assert_eq!(world.reason(leader), "");
}

/// One that has not run a call that kills workers, and never will, has nothing to say of it.
#[test]
fn a_member_without_a_worker_keeps_nobody_from_skipping_a_call() {
    for bare in 0..3 {
        let mut world = World::new(11 + bare as u64);
        (world.hosted, world.poisoned) = (true, true);
        cluster(&mut world, 3);
        world.crashes = (0..3).filter(|node| *node != bare).collect();
        world.host(bare, Err(WHY.into()));
        world.add_client(40);
        let end = world.now + 60 * SECOND;
        world.run_until(end, World::are_clients_done);
        assert!(world.are_clients_done(), "a call hangs\n{}", world.stuck());
        settle_and_check(&mut world);
    }
}

#[test]
fn members_without_a_worker_stay_while_nobody_waits_for_them() {
    let mut world = World::new(13);
    world.hosted = true;
    cluster(&mut world, 3);
    let leader = leader(&world);
    let (view, _) = world.view().unwrap();
    for bare in (0..3).filter(|node| *node != leader) {
        world.host(bare, Err(WHY.into()));
    }
    world.add_client(100);
    let end = world.now + 60 * SECOND;
    world.run_until(end, |_| false);
    assert!(world.are_clients_done(), "{}", world.stuck());
    assert_eq!(world.view().unwrap().0, view);
}

/// One that has run what kills another one's worker waits for no word of a third.
#[test]
fn a_member_without_a_worker_stays_while_only_others_than_the_leader_wait() {
    let mut world = World::new(13);
    (world.hosted, world.poisoned) = (true, true);
    cluster(&mut world, 3);
    let (leader, bare) = (leader(&world), follower(&world));
    let other = 3 - leader - bare;
    world.host(bare, Err(WHY.into()));
    let end = world.now + 4 * SECOND;
    world.run_until(end, |_| false);
    let before = (world.id(bare), world.id(other));
    world.crashes = [other].into();
    world.add_client(300);
    let end = world.now + 60 * SECOND;
    world.run_until(end, |_| false);
    assert!(world.are_clients_done(), "{}", world.stuck());
    assert_ne!(world.id(other), before.1, "it takes the leader's state\n{}", world.stuck());
    assert_eq!(world.id(bare), before.0, "it stays\n{}", world.stuck());
}

#[test]
fn the_dead_are_no_heirs_of_a_leader_that_ails() {
    let mut world = World::new(17);
    (world.hosted, world.same_host) = (true, false);
    cluster(&mut world, 3);
    let (old, dead) = (leader(&world), follower(&world));
    let other = 3 - old - dead;
    world.host(other, Err(WHY.into()));
    let end = world.now + SECOND / 10;
    world.run_until(end, |_| false);
    world.crash(dead, End::Killed);
    let end = world.now + SECOND;
    world.run_until(end, |_| false);
    world.host(old, Err(WHY.into()));
    let end = world.now + 20 * SECOND;
    world.run_until(end, |_| false);
    let handed = world.notes.iter().find(|(_, _, text)| text.contains("the leadership goes"));
    assert_eq!(handed, None);
    assert!(world.leads(old), "{}", world.stuck());
}
