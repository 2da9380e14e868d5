//! Clusters with a member that votes and keeps the log, and has no object.

use concoord_core::call::SessionId;
use concoord_core::view::{Role, View};
use concoord_core::wire::{Answer, Order, Report, Request, Who};

use crate::sim::{
    ALWAYS, DURABLE, SECOND, all, befall, change, cluster, durable_fault, for_seeds, restart_all,
    settle_and_check,
};
use crate::world::disk::End;
use crate::world::{Time, World};

/// Two replicas with the object, and the witness: node 2.
const WITNESS: usize = 2;

fn two_and_a_witness(world: &mut World) {
    world.witnesses.insert(WITNESS);
    cluster(world, 3);
    let limit = world.now + 20 * SECOND;
    world.run_until(limit, |world| world.role(0, WITNESS) == Some(Role::Voter));
}

fn run(world: &mut World, time: Time) {
    let end = world.now + time;
    world.run_until(end, |_| false);
}

fn works(world: &mut World) {
    world.add_client(10);
    let limit = world.now + 30 * SECOND;
    world.run_until(limit, World::are_clients_done);
    assert!(world.are_clients_done(), "{}", world.stuck());
}

/// Which of the two leads.
fn leader(world: &World) -> usize {
    [0, 1].into_iter().find(|node| world.leads(*node)).expect("one with the object leads")
}

fn part(world: &mut World, one: usize, other: usize) {
    world.sever(one, other);
    world.sever(other, one);
}

fn voters(world: &World, node: usize) -> usize {
    world.view_of(node).as_ref().map_or(0, |view: &View| view.voters().count())
}

/// Nothing that befalls them costs a call, as long as one with the object is left with a majority.
#[test]
fn calls_survive_faults_beside_a_witness() {
    for_seeds("calls_survive_faults_beside_a_witness", &ALWAYS, |seed| {
        let mut world = World::new(seed ^ 0x3173_0000);
        world.hosted = world.dice.chance(20);
        let replicas = 3 + world.dice.below(3) as usize;
        world.witnesses.insert(replicas - 1);
        cluster(&mut world, replicas);
        if world.dice.chance(5) {
            (world.padding, world.snapshot_time) = (200_000, SECOND / 10);
        }
        befall(&mut world, replicas, 100);
        world
    });
}

/// The same with disks, of which each may be lost as long as the others have what it had.
#[test]
fn durable_calls_survive_faults_beside_a_witness() {
    let expected = all(&[&ALWAYS, &DURABLE, &["witness led"]]);
    for_seeds("durable_calls_survive_faults_beside_a_witness", &expected, durable_faults);
}

pub(crate) fn durable_faults(seed: u64) -> World {
    let mut world = World::new(seed ^ 0x3174_0000);
    world.durable = true;
    world.hosted = world.dice.chance(30);
    world.snapshot_bytes = [2_000, 10_000, 1_000_000][world.dice.below(3) as usize];
    let replicas = 3 + world.dice.below(3) as usize;
    world.witnesses.insert(replicas - 1);
    cluster(&mut world, replicas);
    for _ in 0..1 + world.dice.below(4) {
        let calls = 20 + world.dice.below(120) as usize;
        world.add_client(calls);
    }
    for _ in 0..8 + world.dice.below(16) {
        let end = world.now + world.dice.below(SECOND);
        world.run_until(end, |_| false);
        durable_fault(&mut world);
    }
    restart_all(&mut world);
    settle_and_check(&mut world);
    world
}

/// The same where members come and go, witnesses too.
#[test]
fn members_come_and_go_beside_a_witness() {
    let expected = all(&[&ALWAYS, &DURABLE, &["witness led", "removed for silence"]]);
    let run = members_change_beside_a_witness;
    for_seeds("members_come_and_go_beside_a_witness", &expected, run);
}

/// One was cut off until all others with the object that it knew of were gone: the witness may not
/// say that it was removed, and it knew nobody else to ask.
#[test]
fn who_was_left_behind_hears_it_from_one_that_it_has_never_heard_of() {
    members_change_beside_a_witness(8573);
}

fn members_change_beside_a_witness(seed: u64) -> World {
    let mut world = World::new(seed ^ 0x3175_0000);
    world.durable = world.dice.chance(70);
    world.hosted = world.dice.chance(20);
    world.snapshot_bytes = [1_000, 5_000, 50_000][world.dice.below(3) as usize];
    world.snapshot_time = [0, SECOND / 20, SECOND / 2][world.dice.below(3) as usize];
    // The second newcomer is one, too.
    world.witnesses = [WITNESS, 4].into();
    cluster(&mut world, 3);
    for _ in 0..1 + world.dice.below(4) {
        let calls = 20 + world.dice.below(120) as usize;
        world.add_client(calls);
    }
    for _ in 0..10 + world.dice.below(20) {
        let end = world.now + world.dice.below(SECOND);
        world.run_until(end, |_| false);
        change(&mut world);
    }
    if world.durable {
        restart_all(&mut world);
    }
    settle_and_check(&mut world);
    world
}

#[test]
fn either_of_two_may_die_beside_a_witness() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.same_host = seed % 2 == 0;
        two_and_a_witness(&mut world);
        works(&mut world);
        let dies = (seed / 2 % 2) as usize;
        world.crash(dies, End::Killed);
        works(&mut world);
        assert!(world.leads(1 - dies), "{}", world.stuck());
    }
}

/// Where the witness alone has the last calls, it is elected, brings the other replica up to date
/// and hands on: nothing that was acknowledged is lost.
#[test]
fn a_witness_that_alone_has_the_last_calls_gives_them_to_who_has_the_object() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.same_host = false;
        two_and_a_witness(&mut world);
        works(&mut world);
        let first = leader(&world);
        let second = 1 - first;
        // The second misses some calls, but not for so long that it is removed.
        part(&mut world, first, second);
        part(&mut world, WITNESS, second);
        // Some of them are connected to those who can answer.
        let before = world.calls(first);
        (0..5).for_each(|_| world.add_client(20));
        let limit = world.now + 2 * SECOND;
        world.run_until(limit, |world| world.calls(first) > before + 5);
        assert!(world.calls(first) > before + 5, "seed {seed}");
        world.crash(first, End::Killed);
        world.heal();
        let limit = world.now + 30 * SECOND;
        world.run_until(limit, World::are_clients_done);
        assert!(world.are_clients_done(), "{}", world.stuck());
        assert!(world.counts().contains_key("witness led"), "seed {seed}");
        run(&mut world, SECOND);
        assert!(world.leads(second), "{}", world.stuck());
        crate::history::check(&world.history, &world.list()).unwrap();
    }
}

/// The same where the witness was started again meanwhile, and its disk keeps no more than it must.
#[test]
fn a_witness_cuts_nothing_that_somebody_lacks() {
    (0..20).for_each(|seed| drop(cut_and_started_again(seed)));
}

pub(crate) fn cut_and_started_again(seed: u64) -> World {
    let mut world = World::new(seed);
    (world.same_host, world.durable) = (false, true);
    world.snapshot_bytes = 1_000;
    two_and_a_witness(&mut world);
    works(&mut world);
    let first = leader(&world);
    let second = 1 - first;
    part(&mut world, first, second);
    part(&mut world, WITNESS, second);
    let before = world.calls(first);
    (0..5).for_each(|_| world.add_client(20));
    let limit = world.now + SECOND;
    world.run_until(limit, |world| world.calls(first) > before + 20);
    world.crash(WITNESS, End::Killed);
    world.start(WITNESS, vec![]);
    world.crash(first, End::Killed);
    settle_and_check(&mut world);
    world
}

/// A witness that has cut its log can't give the returning replica what that lacks. Then nobody
/// answers, the sentence says who is missing, and all is well when that one is back.
#[test]
fn nobody_serves_what_only_a_dead_replica_still_has() {
    for seed in 0..6 {
        let mut world = World::new(seed);
        world.same_host = false;
        world.durable = true;
        world.snapshot_bytes = 20_000;
        two_and_a_witness(&mut world);
        works(&mut world);
        let first = leader(&world);
        let second = 1 - first;
        world.crash(second, End::Killed);
        // More than is kept for it, and before it is removed.
        world.padding = 3_000_000;
        (0..4).for_each(|_| world.add_client(40));
        let limit = world.now + 2 * SECOND;
        let is_cut = |world: &World| world.log_on_disk(WITNESS).0 > world.log_on_disk(second).1;
        world.run_until(limit, is_cut);
        assert!(is_cut(&world), "seed {seed}: {} calls", world.calls(first));
        assert_eq!(voters(&world, first), 3);
        world.padding = 0;
        world.crash(first, End::Killed);
        let address = world.address(first);
        world.start(second, vec![world.address(WITNESS)]);
        run(&mut world, 20 * SECOND);
        assert!(!world.leads(second), "seed {seed}: {}", world.stuck());
        let reason = world.reason(second);
        assert!(reason.contains("the witness at"), "{reason}");
        assert!(reason.contains(&format!("{address} can't be reached")), "{reason}");
        world.start(first, vec![]);
        settle_and_check(&mut world);
    }
}

#[test]
fn a_witness_never_goes_on_alone() {
    for seed in 0..10 {
        let mut world = World::new(seed);
        (world.same_host, world.refused_is_dead) = (true, true);
        two_and_a_witness(&mut world);
        works(&mut world);
        let first = leader(&world);
        world.crash(1 - first, End::Killed);
        let limit = world.now + 20 * SECOND;
        world.run_until(limit, |world| voters(world, first) == 2);
        works(&mut world);
        world.crash(first, End::Killed);
        run(&mut world, 20 * SECOND);
        assert_eq!((voters(&world, WITNESS), world.lineage(WITNESS)), (2, 0));
        assert!(!world.leads(WITNESS), "{}", world.stuck());
        let connection = world.connection();
        world.request(WITNESS, connection, Request::Order(Order::GoAlone));
        run(&mut world, SECOND);
        let said: Vec<_> = world.said(connection).collect();
        assert!(
            matches!(said[..], [Answer::Ordered(Report::Refused(text))] if text.contains("witness")),
            "{said:?}"
        );
    }
}

/// Who is removed gives up its copy because the others have one. A witness has none: it must not
/// be its word that the last copy is given up for.
#[test]
fn a_copy_is_not_given_up_for_the_word_of_a_witness() {
    for seed in 0..10 {
        let mut world = World::new(seed);
        (world.same_host, world.durable) = (false, true);
        two_and_a_witness(&mut world);
        works(&mut world);
        let first = leader(&world);
        let second = 1 - first;
        world.crash(second, End::Killed);
        let limit = world.now + 20 * SECOND;
        world.run_until(limit, |world| voters(world, first) == 2 && voters(world, WITNESS) == 2);
        assert_eq!(voters(&world, WITNESS), 2, "{}", world.stuck());
        world.crash(first, End::Killed);
        let copy = world.id(second);
        world.start(second, vec![world.address(WITNESS)]);
        run(&mut world, 20 * SECOND);
        assert_eq!((world.id(second), world.lineage(second)), (copy, 0), "{}", world.stuck());
        if seed % 2 == 0 {
            // The one that has it all is back, and says so.
            world.start(first, vec![]);
            works(&mut world);
            assert_ne!(world.id(second), copy);
        } else {
            // It never comes back: what is left goes on, because somebody says so.
            let connection = world.connection();
            world.request(second, connection, Request::Order(Order::GoAlone));
            run(&mut world, SECOND);
            works(&mut world);
            assert_eq!((world.id(second), world.lineage(second)), (copy, 1));
            // The witness, in whose view it was removed, joins it in another life.
            world.crash(WITNESS, End::Killed);
            world.lose_disk(WITNESS);
            world.start(WITNESS, vec![world.address(second)]);
            run(&mut world, 5 * SECOND);
            assert_eq!(world.role(second, WITNESS), Some(Role::Learner), "{}", world.stuck());
        }
    }
}

#[test]
fn a_replica_goes_on_without_a_witness_that_is_proven_to_be_gone() {
    let mut world = World::new(3);
    (world.same_host, world.durable) = (true, true);
    two_and_a_witness(&mut world);
    let first = leader(&world);
    world.crash(1 - first, End::Killed);
    let limit = world.now + 20 * SECOND;
    world.run_until(limit, |world| voters(world, first) == 2);
    works(&mut world);
    world.crash(WITNESS, End::Killed);
    works(&mut world);
    assert_eq!(world.lineage(first), 1);
}

/// Beside one replica with the object it would be one more that can fail.
#[test]
fn a_witness_counts_once_two_replicas_with_the_object_do() {
    let mut world = World::new(4);
    world.witnesses.insert(1);
    for _ in 0..3 {
        world.place();
    }
    world.start(0, vec![]);
    run(&mut world, SECOND);
    let first = world.address(0);
    world.start(1, vec![first]);
    run(&mut world, 5 * SECOND);
    assert_eq!(world.role(0, 1), Some(Role::Learner));
    assert!(!world.has_served(1) && world.reason(1).contains("once two"), "{}", world.reason(1));
    world.start(2, vec![first]);
    let limit = world.now + 10 * SECOND;
    world.run_until(limit, |world| world.has_served(1));
    assert_eq!((world.role(0, 1), world.role(0, 2)), (Some(Role::Voter), Some(Role::Voter)));
    // The last replica with the object is not to be removed.
    for (node, ends) in [(2, true), (0, false)] {
        let who = Who::Id(world.id(node));
        let connection = world.connection();
        world.request(0, connection, Request::Order(Order::Remove(who)));
        run(&mut world, 3 * SECOND);
        let done =
            world.said(connection).any(|answer| matches!(answer, Answer::Ordered(Report::Done(_))));
        assert_eq!(done, ends, "{:?}", world.said(connection).collect::<Vec<_>>());
    }
}

/// An operator may have it count all the same.
#[test]
fn a_witness_is_promoted_by_order_beside_one_replica() {
    let mut world = World::new(6);
    world.witnesses.insert(1);
    for _ in 0..2 {
        world.place();
    }
    world.start(0, vec![]);
    run(&mut world, SECOND);
    world.start(1, vec![world.address(0)]);
    run(&mut world, 3 * SECOND);
    let connection = world.connection();
    let promote = Order::Promote(Who::Id(world.id(1)));
    world.request(0, connection, Request::Order(promote));
    let limit = world.now + 10 * SECOND;
    world.run_until(limit, |world| world.has_served(1));
    assert_eq!(world.role(0, 1), Some(Role::Voter));
    works(&mut world);
    // It may leave again, and the other one goes on.
    world.leave(1);
    run(&mut world, 3 * SECOND);
    assert_eq!(voters(&world, 0), 1);
    works(&mut world);
}

/// What only a replica with the object can do is not done here, and not asked of it either.
#[test]
fn a_witness_sends_clients_away() {
    let mut world = World::new(5);
    two_and_a_witness(&mut world);
    let connection = world.connection();
    world.request(WITNESS, connection, Request::Backup);
    world.request(WITNESS, connection, Request::Status);
    run(&mut world, SECOND);
    let said: Vec<_> = world.said(connection).collect();
    assert!(matches!(said[..], [Answer::NoBackup(_), Answer::Status(_)]), "{said:?}");
    for request in
        [Request::Open, Request::KeepAlive(SessionId(1)), Request::Interface(String::new())]
    {
        let connection = world.connection();
        world.request(WITNESS, connection, request);
        run(&mut world, SECOND);
        assert_eq!(world.said(connection).count(), 0);
    }
    assert_eq!(world.counts().get("disconnected"), Some(&3));
    let view = world.view_of(WITNESS).unwrap();
    assert_eq!((view.voters().count(), view.serving().count()), (3, 2));
}

/// A call that crashes its object everywhere is skipped, whatever the witness says: it says
/// nothing.
#[test]
fn a_poisoned_call_is_skipped_beside_a_witness() {
    for seed in 0..5 {
        let mut world = World::new(seed);
        (world.hosted, world.poisoned) = (true, true);
        world.crashes = [0, 1].into();
        two_and_a_witness(&mut world);
        for _ in 0..3 {
            world.add_client(40);
        }
        settle_and_check(&mut world);
    }
}
