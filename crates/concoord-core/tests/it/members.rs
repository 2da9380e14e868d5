//! Members that are proven dead, forced, ordered in and out, and what must not come of it.

use concoord_core::limits::ORDERS_MAX;
use concoord_core::view::{Cause, Role};
use concoord_core::wire::{Answer, Order, Report, Request, Who};
use tracing::Level;

use crate::sim::{SECOND, cluster, settle_and_check};
use crate::world::disk::End;
use crate::world::{Fences, Time, World};

/// Two members on two hosts.
fn two(seed: u64, refused_is_dead: bool, fences: Option<Fences>) -> World {
    let mut world = World::new(seed);
    world.same_host = false;
    (world.refused_is_dead, world.fences) = (refused_is_dead, fences);
    cluster(&mut world, 2);
    world
}

fn run(world: &mut World, time: Time) {
    let end = world.now + time;
    world.run_until(end, |_| false);
}

fn lineage(world: &World, node: usize) -> u64 {
    world.view_of(node).map_or(0, |view| view.lineage)
}

/// Nothing passes between these two.
fn part(world: &mut World, one: usize, other: usize) {
    world.sever(one, other);
    world.sever(other, one);
}

/// Their streams end, as those of a host do that is reset.
fn reset(world: &mut World, one: usize, other: usize) {
    world.break_stream(one, other);
    world.break_stream(other, one);
}

/// Gives an order on a connection of its own.
fn order(world: &mut World, node: usize, order: Order) -> u64 {
    let connection = world.connection();
    world.request(node, connection, Request::Order(order));
    connection
}

/// How it ended; `None` if it has not.
fn end(world: &World, connection: u64) -> Option<Report> {
    let ends = |answer: &Answer| match answer {
        Answer::Ordered(Report::Waiting(_)) => None,
        Answer::Ordered(report) => Some(report.clone()),
        _ => None,
    };
    world.said(connection).find_map(ends)
}

/// Gives an order and waits until it ends.
fn carry_out(world: &mut World, node: usize, what: Order) -> Report {
    let connection = order(world, node, what);
    let limit = world.now + 20 * SECOND;
    world.run_until(limit, |world| end(world, connection).is_some());
    let Some(report) = end(world, connection) else {
        panic!("{what:?} has no end: {:?}\n{}", world.said(connection).last(), world.stuck());
    };
    report
}

fn done(report: &Report) {
    assert!(matches!(report, Report::Done(_)), "{report:?}");
}

fn refused(report: &Report, because: &str) {
    assert!(matches!(report, Report::Refused(text) if text.contains(because)), "{report:?}");
}

fn works(world: &mut World) {
    world.add_client(5);
    let limit = world.now + 20 * SECOND;
    world.run_until(limit, World::are_clients_done);
    assert!(world.are_clients_done(), "{}", world.stuck());
}

#[test]
fn who_is_refused_where_the_other_lived_goes_on_if_that_is_a_proof() {
    for (seed, proof) in [(1, true), (2, false)] {
        for dies in [0, 1] {
            let mut world = two(seed, proof, None);
            works(&mut world);
            world.crash(dies, End::Killed);
            run(&mut world, 10 * SECOND);
            assert_eq!(lineage(&world, 1 - dies), u64::from(proof), "{}", world.stuck());
            if proof {
                works(&mut world);
                let branch = world.view_of(1 - dies).unwrap().branch;
                assert_eq!(branch.cause, Cause::Proven);
            }
        }
    }
}

/// A short refusal is none: a service that is started again, a route that changes.
#[test]
fn a_second_of_refusals_is_asked_for() {
    let mut world = two(3, true, None);
    (world.rejecting, world.loss_percent) = (true, 0);
    part(&mut world, 0, 1);
    reset(&mut world, 0, 1);
    run(&mut world, 9 * SECOND / 10);
    world.heal();
    run(&mut world, 10 * SECOND);
    assert_eq!((lineage(&world, 0), lineage(&world, 1)), (0, 0));
    works(&mut world);
}

#[test]
fn packets_that_are_dropped_prove_nothing() {
    for seed in 0..20 {
        let mut world = two(seed, true, None);
        part(&mut world, 0, 1);
        if seed % 2 == 0 {
            reset(&mut world, 0, 1);
        }
        run(&mut world, 30 * SECOND);
        assert_eq!((lineage(&world, 0), lineage(&world, 1)), (0, 0), "{}", world.stuck());
        world.heal();
        works(&mut world);
    }
}

#[test]
fn one_that_is_stopped_and_wakes_is_not_dead_and_takes_nobody_for_dead() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.same_host = seed % 2 == 0;
        (world.refused_is_dead, world.fences) = (true, Some(Fences::Well));
        cluster(&mut world, 2);
        let stopped = (seed / 2 % 2) as usize;
        // Shorter than silence is borne.
        world.pause(stopped, 5 * SECOND / 2);
        run(&mut world, 10 * SECOND);
        assert_eq!((lineage(&world, 0), lineage(&world, 1)), (0, 0), "{}", world.stuck());
        assert!(world.is_up(0) && world.is_up(1), "one was fenced\n{}", world.stuck());
        works(&mut world);
    }
}

/// Whoever wakes after a long time finds the other one silent for as long: it was itself who slept.
#[test]
fn one_that_slept_long_fences_nobody() {
    for seed in 0..20 {
        let mut world = two(seed, false, Some(Fences::Fails));
        let stopped = (seed % 2) as usize;
        world.pause(stopped, 30 * SECOND);
        run(&mut world, 40 * SECOND);
        let fenced = |node: usize| {
            world.notes.iter().any(|(by, _, text)| *by == node && text.contains("fencing it"))
        };
        assert!(fenced(1 - stopped), "it was silent for long");
        assert!(!fenced(stopped), "seed {seed}: {:?}", world.notes);
    }
}

#[test]
fn a_silent_peer_is_fenced_before_the_other_goes_on() {
    for seed in 0..20 {
        let mut world = two(seed, false, Some(Fences::Well));
        works(&mut world);
        part(&mut world, 0, 1);
        run(&mut world, 12 * SECOND);
        assert_eq!(world.up().len(), 1, "one is fenced, and one only\n{}", world.stuck());
        let left = world.up()[0];
        assert_eq!(lineage(&world, left), 1, "{}", world.stuck());
        world.heal();
        works(&mut world);
        settle_and_check(&mut world);
    }
}

#[test]
fn a_fence_command_that_fails_proves_nothing_and_is_tried_again() {
    let mut world = two(5, false, Some(Fences::Fails));
    world.crash(1, End::Killed);
    run(&mut world, 20 * SECOND);
    assert_eq!(lineage(&world, 0), 0);
    let tries = world.notes.iter().filter(|(.., text)| text.contains("is not fenced")).count();
    assert!((3..=7).contains(&tries), "{tries}");
    world.fences = Some(Fences::Well);
    run(&mut world, 10 * SECOND);
    assert_eq!(lineage(&world, 0), 1, "{}", world.stuck());
}

/// The peer was cut off, and speaks again before the command says that it never will.
#[test]
fn a_fence_command_that_lies_late_is_not_believed() {
    for seed in 0..20 {
        let mut world = two(seed, false, Some(Fences::Lies(10 * SECOND)));
        part(&mut world, 0, 1);
        run(&mut world, 8 * SECOND);
        world.heal();
        works(&mut world);
        run(&mut world, 10 * SECOND);
        assert_eq!((lineage(&world, 0), lineage(&world, 1)), (0, 0), "{}", world.stuck());
        let doubted = |(_, level, text): &(usize, Level, String)| {
            *level == Level::ERROR && text.contains("counts as alive")
        };
        assert!(world.notes.iter().any(doubted), "{:?}", world.notes);
    }
}

/// Each of two dies and returns in turn, whatever the proof, and nothing is lost.
#[test]
fn two_that_die_and_return_in_turn_lose_nothing() {
    for seed in 0..60 {
        let (refused, fences) = [(true, None), (false, Some(Fences::Well))][(seed % 2) as usize];
        let mut world = two(seed, refused, fences);
        for _ in 0..3 {
            world.add_client(40);
        }
        for round in 0..4 {
            let dies = (round + seed as usize / 2) % 2;
            world.crash(dies, End::Killed);
            let limit = world.now + 20 * SECOND;
            world.run_until(limit, |world| {
                world.view_of(1 - dies).is_some_and(|view| view.members.len() == 1)
            });
            // The first with its old command, at times.
            let alone = dies == 0 && world.dice.chance(50);
            let through = world.address(1 - dies);
            world.start(dies, if alone { vec![] } else { vec![through] });
            let limit = world.now + 20 * SECOND;
            let voter = |world: &World| world.role(1 - dies, dies) == Some(Role::Voter);
            world.run_until(limit, voter);
            assert!(voter(&world), "seed {seed}\n{}", world.stuck());
            let limit = world.now + 5 * SECOND;
            world.run_until(limit, |world| world.role(dies, dies) == Some(Role::Voter));
        }
        settle_and_check(&mut world);
        assert_eq!(lineage(&world, 0), 4, "{}", world.stuck());
    }
}

/// The others make a third one a voter and remove a member that sleeps, and die. It must not take
/// itself for the survivor of two.
#[test]
fn one_that_was_removed_in_its_sleep_does_not_go_on_alone() {
    let mut removals = 0;
    for seed in 0..150 {
        let mut world = World::new(seed);
        (world.same_host, world.refused_is_dead) = (seed % 2 == 0, seed % 2 == 1);
        cluster(&mut world, 2);
        let sleeper = world.dice.below(2) as usize;
        let other = 1 - sleeper;
        let third = world.place();
        let through = world.address(other);
        world.start(third, vec![through]);
        let wait = world.dice.below(SECOND);
        run(&mut world, wait);
        world.pause(sleeper, 60 * SECOND);
        run(&mut world, 12 * SECOND);
        let view = world.view_of(other).unwrap();
        let without = view.role(world.id(sleeper)).is_none();
        let grown = without || view.role(world.id(third)) == Some(Role::Voter);
        removals += u32::from(without);
        world.crash(other, End::Killed);
        world.crash(third, End::Killed);
        world.heal();
        run(&mut world, 10 * SECOND);
        if grown {
            assert_eq!(lineage(&world, sleeper), 0, "seed {seed}\n{}", world.stuck());
        }
    }
    assert!(removals > 30, "{removals}");
}

/// A firewall between two refuses in the name of both, where that is taken for a proof.
#[test]
fn twins_of_the_same_lineage_refuse_each_other_loudly() {
    for seed in 0..10 {
        let mut world = two(seed, true, None);
        works(&mut world);
        (world.rejecting, world.twins) = (true, true);
        part(&mut world, 0, 1);
        reset(&mut world, 0, 1);
        run(&mut world, 5 * SECOND);
        assert_eq!((lineage(&world, 0), lineage(&world, 1)), (1, 1), "{}", world.stuck());
        are_apart(&mut world);
    }
}

#[test]
fn twins_that_operators_made_refuse_each_other_loudly() {
    let mut world = two(1, false, None);
    works(&mut world);
    world.twins = true;
    part(&mut world, 0, 1);
    run(&mut world, 5 * SECOND);
    for node in [0, 1] {
        done(&carry_out(&mut world, node, Order::GoAlone));
    }
    are_apart(&mut world);
}

/// Both say so, nothing is merged, and who would join both is refused.
fn are_apart(world: &mut World) {
    let before = [world.view_of(0).unwrap(), world.view_of(1).unwrap()];
    assert_ne!(before[0].branch.number, before[1].branch.number);
    world.heal();
    run(world, 10 * SECOND);
    let after = [world.view_of(0).unwrap(), world.view_of(1).unwrap()];
    assert_eq!(before, after);
    for node in [0, 1] {
        let loud = |(by, level, text): &(usize, Level, String)| {
            *by == node && *level == Level::ERROR && text.contains("nothing is merged")
        };
        assert!(world.notes.iter().any(loud), "node {node} says nothing");
    }
    let newcomer = world.place();
    let both = vec![world.address(0), world.address(1)];
    world.start(newcomer, both);
    run(world, 5 * SECOND);
    let voters = [0, 1].map(|node| world.view_of(node).unwrap().members.len());
    assert!(voters[0] + voters[1] <= 3, "it is a member of one at most\n{}", world.stuck());
}

#[test]
fn a_replica_is_forced_only_where_it_has_no_leader() {
    let mut world = World::new(7);
    cluster(&mut world, 3);
    works(&mut world);
    for node in 0..3 {
        refused(&carry_out(&mut world, node, Order::GoAlone), "there is a leader");
    }
    let leader = (0..3).find(|node| world.leads(*node)).unwrap();
    let (left, other) = ((leader + 1) % 3, (leader + 2) % 3);
    world.crash(leader, End::Killed);
    world.crash(other, End::Killed);
    let early = carry_out(&mut world, left, Order::GoAlone);
    assert!(matches!(early, Report::Refused(_) | Report::NotNow(_)), "{early:?}");
    run(&mut world, 3 * SECOND);
    done(&carry_out(&mut world, left, Order::GoAlone));
    works(&mut world);
    let view = world.view_of(left).unwrap();
    assert_eq!((view.members.len(), view.lineage), (1, 1));
    assert_eq!(view.branch.cause, Cause::Forced);
    refused(&carry_out(&mut world, left, Order::GoAlone), "alone already");
}

/// Those who have it alone are gone for good, and it dies too: it is the one that counts.
fn is_forced_and_comes_back(world: &mut World, node: usize) {
    run(world, 3 * SECOND);
    done(&carry_out(world, node, Order::GoAlone));
    works(world);
    refused(&carry_out(world, node, Order::GoAlone), "alone already");
    for end in [End::Killed, End::PowerLost] {
        world.crash(node, end);
        world.start(node, vec![]);
        works(world);
        let view = world.view_of(node).unwrap();
        let members: Vec<_> = view.members.iter().map(|(it, role)| (it.id, *role)).collect();
        assert_eq!(members, [(world.id(node), Role::Voter)]);
        assert!(!view.lost.contains(&world.address(node)));
    }
}

#[test]
fn a_learner_that_is_forced_votes_and_comes_back() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.durable = true;
        cluster(&mut world, 1);
        works(&mut world);
        let learner = add_learner(&mut world);
        assert_eq!(world.role(learner, learner), Some(Role::Learner), "{}", world.stuck());
        world.crash(0, End::Killed);
        is_forced_and_comes_back(&mut world, learner);
    }
}

/// It knows that it is removed, and nobody is left who could say so.
#[test]
fn one_that_was_removed_is_forced_and_comes_back() {
    for others in [1, 2] {
        let mut forced = 0;
        for seed in 0..40 {
            let mut world = World::new(seed);
            (world.same_host, world.durable) = (false, true);
            cluster(&mut world, others + 1);
            works(&mut world);
            let gone = (0..=others).find(|node| !world.leads(*node)).unwrap();
            let leader = (0..=others).find(|node| world.leads(*node)).unwrap();
            // It decides by the disks of the others, and takes its time to carry that out.
            world.slow_disk(leader, SECOND);
            let who = Who::Id(world.id(gone));
            order(&mut world, leader, Order::Remove(who));
            if others == 1 {
                // Who was to be removed has to decide on it.
                let wait = world.dice.below(SECOND / 100);
                run(&mut world, wait);
                world.crash(leader, End::Killed);
                world.start(leader, vec![]);
            }
            let limit = world.now + 5 * SECOND;
            let knows = |world: &World| {
                world.view_of(gone).is_some_and(|view| view.role(world.id(gone)).is_none())
            };
            world.run_until(limit, knows);
            if !knows(&world) {
                continue;
            }
            for other in (0..=others).filter(|other| *other != gone) {
                world.crash(other, End::Killed);
            }
            forced += 1;
            is_forced_and_comes_back(&mut world, gone);
        }
        assert!(forced > 3, "beside {others}: {forced}");
    }
}

/// The others were not dead: they give up what they have, and join again.
#[test]
fn those_who_return_to_a_forced_one_join_as_newcomers() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.same_host = false;
        cluster(&mut world, 3);
        works(&mut world);
        for other in [1, 2] {
            part(&mut world, 0, other);
        }
        part(&mut world, 1, 2);
        run(&mut world, 5 * SECOND);
        done(&carry_out(&mut world, 0, Order::GoAlone));
        world.heal();
        let limit = world.now + 20 * SECOND;
        let whole = |world: &World| world.view_of(0).is_some_and(|view| view.voters().count() == 3);
        world.run_until(limit, whole);
        assert!(whole(&world), "seed {seed}\n{}", world.stuck());
        settle_and_check(&mut world);
        assert!((0..3).all(|node| lineage(&world, node) == 1), "{}", world.stuck());
    }
}

/// Its log held the wish for another voter, which nobody has decided.
#[test]
fn a_forced_one_leaves_out_changes_that_were_under_way() {
    let mut forced = 0;
    for seed in 0..60 {
        let mut world = two(seed, false, None);
        let leader = (0..2).find(|node| world.leads(*node)).unwrap();
        let newcomer = world.place();
        let through = world.address(leader);
        world.start(newcomer, vec![through]);
        // The leader can't decide any more, and goes on to log.
        let wait = world.dice.below(SECOND);
        run(&mut world, wait);
        world.crash(1 - leader, End::Killed);
        world.crash(newcomer, End::Killed);
        run(&mut world, 8 * SECOND);
        if world.view_of(leader).unwrap().members.len() == 1 {
            continue;
        }
        done(&carry_out(&mut world, leader, Order::GoAlone));
        forced += 1;
        works(&mut world);
        let view = world.view_of(leader).unwrap();
        assert_eq!((view.members.len(), view.lineage), (1, 1), "{}", world.stuck());
    }
    assert!(forced > 30, "{forced}");
}

#[test]
fn members_are_removed_by_whoever_is_asked_and_stay_away() {
    for seed in 0..20 {
        for asked in 0..3 {
            let mut world = World::new(seed);
            cluster(&mut world, 3);
            let gone = world.dice.below(3) as usize;
            let who = if world.dice.chance(50) {
                Who::Id(world.id(gone))
            } else {
                Who::Address(world.address(gone))
            };
            done(&carry_out(&mut world, asked, Order::Remove(who)));
            run(&mut world, 2 * SECOND);
            let said = world.stopped(gone).expect("it ends").clone();
            assert!(said.is_ok_and(|text| text.contains("operator")), "{}", world.stuck());
            let left = (gone + 1) % 3;
            assert_eq!(world.view_of(left).unwrap().members.len(), 2);
            works(&mut world);
            refused(&carry_out(&mut world, left, Order::Remove(who)), "no member");
            // It is welcome as another.
            let through = world.address(left);
            world.start(gone, vec![through]);
            let limit = world.now + 10 * SECOND;
            world.run_until(limit, |world| world.role(left, gone) == Some(Role::Voter));
            assert_eq!(world.role(left, gone), Some(Role::Voter), "{}", world.stuck());
        }
    }
}

/// One that slept through its removal learns so when it wakes, and does not come back.
#[test]
fn one_that_is_removed_in_its_sleep_stops_when_it_wakes() {
    let mut world = World::new(11);
    cluster(&mut world, 3);
    world.pause(2, 5 * SECOND);
    let who = Who::Id(world.id(2));
    done(&carry_out(&mut world, 0, Order::Remove(who)));
    run(&mut world, 10 * SECOND);
    assert!(world.stopped(2).is_some_and(Result::is_ok), "{}", world.stuck());
    assert_eq!(world.view_of(0).unwrap().members.len(), 2);
}

#[test]
fn nobody_is_removed_without_the_quorum_before_or_after() {
    let mut world = World::new(12);
    world.same_host = false;
    cluster(&mut world, 1);
    let own = Who::Address(world.address(0));
    refused(&carry_out(&mut world, 0, Order::Remove(own)), "the only voter");

    let mut world = World::new(13);
    world.same_host = false;
    cluster(&mut world, 3);
    let leader = (0..3).find(|node| world.leads(*node)).unwrap();
    let (silent, other) = ((leader + 1) % 3, (leader + 2) % 3);
    world.pause(silent, 2 * SECOND);
    run(&mut world, 3 * SECOND / 2);
    let live = Who::Address(world.address(other));
    refused(&carry_out(&mut world, leader, Order::Remove(live)), "no quorum");
    run(&mut world, 5 * SECOND);
    assert_eq!(world.view_of(leader).unwrap().members.len(), 3);

    // Now two of three are gone: what is left may not remove them.
    world.crash(silent, End::Killed);
    world.crash(other, End::Killed);
    run(&mut world, 3 * SECOND);
    let report = carry_out(&mut world, leader, Order::Remove(live));
    assert!(matches!(&report, Report::NotNow(text) if text.contains("no quorum")), "{report:?}");
    run(&mut world, 5 * SECOND);
    assert_eq!(world.view_of(leader).unwrap().members.len(), 3);
}

#[test]
fn a_learner_stays_one_until_it_is_promoted() {
    for asked in 0..3 {
        let mut world = World::new(14);
        cluster(&mut world, 2);
        let learner = world.place();
        world.stay_learner(learner);
        let through = world.address(0);
        world.start(learner, vec![through]);
        run(&mut world, 10 * SECOND);
        assert_eq!(world.role(0, learner), Some(Role::Learner), "{}", world.stuck());
        assert!(world.has_served(learner), "clients may come to it\n{}", world.stuck());
        works(&mut world);
        let who = Who::Id(world.id(learner));
        done(&carry_out(&mut world, asked, Order::Promote(who)));
        run(&mut world, SECOND);
        assert!((0..3).all(|node| world.role(node, learner) == Some(Role::Voter)));
        done(&carry_out(&mut world, asked, Order::Promote(who)));
    }
}

/// A replica that joins through the first one and is to stay a learner.
fn add_learner(world: &mut World) -> usize {
    let learner = world.place();
    world.stay_learner(learner);
    let through = world.address(0);
    world.start(learner, vec![through]);
    run(world, 5 * SECOND);
    learner
}

#[test]
fn a_learner_that_lags_is_not_promoted() {
    let mut world = World::new(15);
    cluster(&mut world, 1);
    let learner = add_learner(&mut world);
    let who = Who::Id(world.id(learner));
    // It is heard, and hears nothing.
    world.sever(0, learner);
    world.add_client(20);
    run(&mut world, SECOND);
    let report = carry_out(&mut world, 0, Order::Promote(who));
    let said = matches!(&report, Report::Refused(text)
        if text.contains("entries behind") || text.contains("does not answer"));
    assert!(said, "{report:?}");
    run(&mut world, 2 * SECOND);
    assert_eq!(world.role(0, learner), Some(Role::Learner));
    world.heal();
    run(&mut world, 5 * SECOND);
    // It was silent for long, and may be another one now.
    let who = Who::Id(world.id(learner));
    done(&carry_out(&mut world, 0, Order::Promote(who)));
}

#[test]
fn a_learner_without_a_worker_is_not_promoted() {
    let mut world = World::new(16);
    world.hosted = true;
    cluster(&mut world, 1);
    let learner = add_learner(&mut world);
    let who = Who::Id(world.id(learner));
    world.host(learner, Err("its source has changed".into()));
    run(&mut world, 3 * SECOND);
    refused(&carry_out(&mut world, 0, Order::Promote(who)), "can start no worker");
    run(&mut world, SECOND);
    assert_eq!(world.role(0, learner), Some(Role::Learner));
    world.host(learner, Ok(()));
    run(&mut world, 5 * SECOND);
    done(&carry_out(&mut world, 0, Order::Promote(who)));
}

#[test]
fn a_replica_that_was_started_alone_is_added() {
    for asked in [0, 1] {
        let mut world = World::new(16);
        cluster(&mut world, 2);
        works(&mut world);
        let newcomer = world.place();
        world.start(newcomer, vec![]);
        run(&mut world, 2 * SECOND);
        assert!(world.leads(newcomer), "it is a cluster of its own");
        let address = world.address(newcomer);
        done(&carry_out(&mut world, asked, Order::Add(address)));
        run(&mut world, SECOND);
        assert_eq!(world.role(0, newcomer), Some(Role::Voter), "{}", world.stuck());
        refused(&carry_out(&mut world, asked, Order::Add(address)), "a member already");
    }
}

#[test]
fn why_one_can_not_be_added_is_said() {
    let mut world = World::new(17);
    cluster(&mut world, 1);
    let nobody = world.place();
    let address = world.address(nobody);
    refused(&carry_out(&mut world, 0, Order::Add(address)), "nobody listens");
    let used = world.place();
    world.start(used, vec![]);
    run(&mut world, SECOND);
    world.request(used, 1_000_000, Request::Open);
    run(&mut world, SECOND);
    let address = world.address(used);
    refused(&carry_out(&mut world, 0, Order::Add(address)), "clients have used it");
    let other = world.place();
    let through = world.address(used);
    world.start(other, vec![through]);
    run(&mut world, 5 * SECOND);
    refused(&carry_out(&mut world, 0, Order::Add(address)), "1 other members");
    assert_eq!(world.view_of(0).unwrap().members.len(), 1);
}

#[test]
fn orders_are_few_and_one_a_connection() {
    let mut world = World::new(18);
    cluster(&mut world, 2);
    // They wait, for somebody who never answers.
    let places: Vec<_> = (0..ORDERS_MAX).map(|_| world.place()).collect();
    for place in &places {
        world.sever(0, *place);
    }
    let open: Vec<u64> = places
        .into_iter()
        .map(|place| {
            let address = world.address(place);
            order(&mut world, 0, Order::Add(address))
        })
        .collect();
    run(&mut world, SECOND / 10);
    assert!(open.iter().all(|connection| end(&world, *connection).is_none()));
    let address = world.address(1);
    world.request(0, open[0], Request::Order(Order::Remove(Who::Address(address))));
    run(&mut world, SECOND / 10);
    refused(&end(&world, open[0]).unwrap(), "one order at a time");
    let one_more = carry_out(&mut world, 0, Order::Remove(Who::Address(address)));
    assert!(matches!(one_more, Report::NotNow(_)), "{one_more:?}");
    assert_eq!(world.view_of(0).unwrap().members.len(), 2);
    // They end with their answers, and make room.
    run(&mut world, 5 * SECOND);
    refused(&end(&world, open[1]).unwrap(), "no answer");
    done(&carry_out(&mut world, 0, Order::Remove(Who::Address(address))));
}

/// A leader that is cut off answers no read and no call, and says why.
#[test]
fn a_leader_that_is_cut_off_answers_nothing_and_says_so() {
    for seed in 0..20 {
        let mut world = World::new(seed);
        world.same_host = false;
        cluster(&mut world, 3);
        let leader = (0..3).find(|node| world.leads(*node)).unwrap();
        let connection = 1_500_000;
        world.request(leader, connection, Request::Open);
        run(&mut world, SECOND);
        let session = world.said(connection).find_map(|answer| match answer {
            Answer::Opened(session) => Some(*session),
            _ => None,
        });
        for other in [1, 2] {
            part(&mut world, leader, (leader + other) % 3);
        }
        for (sequence, method) in [(1, "length"), (2, "length")] {
            let call = concoord_core::call::Call {
                session: session.unwrap(),
                sequence,
                acked: 1,
                method: method.into(),
                ..concoord_core::call::Call::default()
            };
            world.request(leader, connection, Request::Call(call));
            // At once, while it takes itself for the leader, and when the others have another.
            run(&mut world, SECOND);
        }
        let replies = |world: &World| {
            world.said(connection).filter(|answer| matches!(answer, Answer::Reply { .. })).count()
        };
        assert_eq!(replies(&world), 0, "seed {seed}");
        let told =
            |answer: &Answer| matches!(answer, Answer::Waiting(text) if text.contains("no quorum"));
        assert!(world.said(connection).any(told), "seed {seed}");
        assert!((1..3).any(|other| world.leads((leader + other) % 3)), "the others go on");
        world.heal();
        run(&mut world, 5 * SECOND);
        assert_eq!(replies(&world), 2, "seed {seed}: they are answered in the end");
    }
}
