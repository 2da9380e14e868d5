//! Whole clusters under faults. A failure prints the seed; `SIM_SEED=n` runs that one alone,
//! `SIM_SEEDS=n` runs more or fewer than usual.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::history::check;
use crate::world::{Time, World};

pub(crate) const SECOND: Time = 1_000_000;

fn for_seeds(name: &str, run: impl Fn(u64) + Sync) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(2_000),
    };
    let (next, failed) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| run(seed))) {
                        failed.store(true, Ordering::Relaxed);
                        eprintln!(
                            "again: SIM_SEED={seed} cargo test -p concoord-core --test it {name}"
                        );
                        std::panic::resume_unwind(panic);
                    }
                }
            });
        }
    });
}

/// Starts the first replica, then the others, and waits until all serve.
pub(crate) fn cluster(world: &mut World, replicas: usize) {
    for _ in 0..replicas {
        world.place();
    }
    world.start(0, vec![]);
    let first = world.address(0);
    for node in 1..replicas {
        world.start(node, vec![first]);
    }
    let end = world.now + 20 * SECOND;
    world.run_until(end, |world| (0..replicas).all(|node| world.has_served(node)));
    assert!(
        (0..replicas).all(|node| world.has_served(node)),
        "all replicas serve\n{}",
        world.stuck()
    );
}

/// Ends all faults, lets everybody come back, and looks at what the clients saw.
pub(crate) fn settle_and_check(world: &mut World) {
    world.heal();
    let end = world.now + 90 * SECOND;
    world.run_until(end, World::are_clients_done);
    assert!(world.are_clients_done(), "every call is answered in the end\n{}", world.stuck());
    let end = world.now + 2 * SECOND;
    world.run_until(end, |_| false);
    // Followers hear within a tick of what was decided last, a session's end perhaps.
    let end = world.now + SECOND;
    world.run_until(end, |world| {
        let digests = world.digests();
        digests.iter().all(|(applied, ..)| *applied == digests[0].0)
    });
    check(&world.history, &world.list()).unwrap();
    let digests = world.digests();
    let (most, digest, _) = *digests.iter().max().unwrap();
    for (applied, other, node) in &digests {
        assert!(
            *applied == most && *other == digest,
            "node {node} differs: {digests:?}\n{}",
            world.stuck()
        );
    }
}

/// Whatever befalls the replicas and their network, as long as what was acknowledged has
/// somebody left to remember it: no call is lost, none runs twice, none sees the past.
#[test]
fn calls_survive_faults() {
    for_seeds("calls_survive_faults", survive_faults);
}

/// A member that had slept through the joining and the election of a new one was sent the log by
/// it, and had nobody in its view to answer.
#[test]
fn a_member_that_lags_answers_a_leader_it_has_never_heard_of() {
    survive_faults(1912);
}

fn survive_faults(seed: u64) {
    let mut world = World::new(seed);
    let replicas = [1, 2, 2, 3, 3, 3, 4, 5][world.dice.below(8) as usize];
    cluster(&mut world, replicas);
    if world.dice.chance(5) {
        // Enough for the log to be cut off.
        (world.padding, world.snapshot_time) = (200_000, SECOND / 10);
    }
    befall(&mut world, replicas, 150);
}

/// The same where the object lives in a process of its own, which takes its time.
#[test]
fn calls_of_a_hosted_object_survive_faults() {
    for_seeds("calls_of_a_hosted_object_survive_faults", |seed| {
        let mut world = World::new(seed ^ 0xB0B0_0000);
        world.hosted = true;
        let replicas = [1, 2, 3, 3, 4][world.dice.below(5) as usize];
        cluster(&mut world, replicas);
        if world.dice.chance(50) {
            world.poisoned = true;
            world.crashes = (0..replicas).collect();
        }
        befall(&mut world, replicas, 100);
    });
}

/// Replicas with disks, all of which may die at once: what was acknowledged is there when they
/// are back.
#[test]
fn durable_calls_survive_faults() {
    for_seeds("durable_calls_survive_faults", |seed| {
        let mut world = World::new(seed ^ 0xD15C_0000);
        world.durable = true;
        world.hosted = world.dice.chance(30);
        world.snapshot_bytes = [2_000, 10_000, 1_000_000][world.dice.below(3) as usize];
        let replicas = [1, 1, 2, 2, 3, 3, 3, 4, 5][world.dice.below(9) as usize];
        cluster(&mut world, replicas);
        for _ in 0..1 + world.dice.below(5) {
            let calls = 20 + world.dice.below(150) as usize;
            world.add_client(calls);
        }
        for _ in 0..8 + world.dice.below(16) {
            let end = world.now + world.dice.below(SECOND);
            world.run_until(end, |_| false);
            durable_fault(&mut world, replicas);
        }
        world.heal();
        // Those who are told to stop do so before they are started again.
        let end = world.now + 3 * SECOND;
        world.run_until(end, |_| false);
        for node in shuffled(&mut world, replicas) {
            restart(&mut world, node);
        }
        settle_and_check(&mut world);
    });
}

fn shuffled(world: &mut World, count: usize) -> Vec<usize> {
    let mut left: Vec<usize> = (0..count).collect();
    let mut next =
        |left: &mut Vec<usize>| left.swap_remove(world.dice.below(left.len() as u64) as usize);
    (0..count).map(|_| next(&mut left)).collect()
}

/// Starts a replica that is down by the command that it was started with first.
fn restart(world: &mut World, node: usize) {
    if !world.is_up(node) {
        let bootstrap = if node == 0 { vec![] } else { vec![world.address(0)] };
        world.start(node, bootstrap);
    }
}

fn durable_fault(world: &mut World, replicas: usize) {
    let node = world.dice.below(replicas as u64) as usize;
    let other = world.dice.below(replicas as u64) as usize;
    match world.dice.below(14) {
        0..=2 if world.is_up(node) => world.crash(node),
        3 if world.is_up(node) => world.leave(node),
        4 => {
            for node in world.up() {
                world.crash(node);
            }
        }
        5..=7 => restart(world, node),
        8 if node != other => {
            world.sever(node, other);
            if world.dice.chance(70) {
                world.sever(other, node);
            }
        }
        9 => world.loss_percent = 50 + world.dice.below(200),
        10 if world.is_up(node) => {
            let time = world.dice.below(3 * SECOND);
            world.pause(node, time);
        }
        11 | 12 => {
            let time = world.dice.below(2 * SECOND);
            world.slow_disk(node, time);
        }
        _ => world.heal(),
    }
}

/// Lets clients call while fault after fault befalls the cluster, then looks at what they saw.
fn befall(world: &mut World, replicas: usize, calls_max: u64) {
    for _ in 0..1 + world.dice.below(5) {
        let calls = 20 + world.dice.below(calls_max) as usize;
        world.add_client(calls);
    }
    for _ in 0..8 + world.dice.below(16) {
        let end = world.now + world.dice.below(SECOND);
        world.run_until(end, |_| false);
        fault(world, replicas);
    }
    settle_and_check(world);
}

fn fault(world: &mut World, replicas: usize) {
    let node = world.dice.below(replicas as u64) as usize;
    let other = world.dice.below(replicas as u64) as usize;
    match world.dice.below(11) {
        0..=2 if world.is_up(node) && world.can_spare(node) => world.crash(node),
        3 if world.is_up(node) && world.up().len() > 1 && world.can_spare(node) => {
            world.leave(node);
        }
        4 | 5 if !world.is_up(node) => {
            // Through any other one; the first, sometimes, with its old command.
            let up = world.up();
            let through =
                up.get(world.dice.below(up.len() as u64) as usize).map(|node| world.address(*node));
            let alone = node == 0 && world.dice.chance(50) && world.is_calm();
            let bootstrap = through.filter(|_| !alone).into_iter().collect();
            world.start(node, bootstrap);
            if alone {
                // Those who know its address must be able to say so.
                let end = world.now + SECOND / 2;
                world.run_until(end, |_| false);
            }
        }
        6 if node != other => {
            world.sever(node, other);
            if world.dice.chance(70) {
                world.sever(other, node);
            }
        }
        7 => {
            for peer in 0..replicas {
                world.sever(node, peer);
                world.sever(peer, node);
            }
        }
        8 => world.heal(),
        9 if node != other => world.break_stream(node, other),
        10 => {
            let time = world.dice.below(4 * SECOND);
            if world.dice.chance(50) {
                world.pause(node, time);
            } else {
                world.loss_percent = world.dice.below(40);
            }
        }
        _ => {}
    }
}

/// The same seed gives the same run: what a failure prints can be looked into.
#[test]
fn a_seed_gives_the_same_run() {
    let run = |seed| {
        let mut world = World::new(seed);
        cluster(&mut world, 3);
        world.add_client(50);
        world.crash(1);
        let end = world.now + 5 * SECOND;
        world.run_until(end, |_| false);
        format!("{:?} {:?}", world.history, world.digests())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}
