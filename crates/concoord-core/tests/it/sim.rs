//! Whole clusters under faults. A failure prints the seed; `SIM_SEED=n` runs that one alone,
//! with `SIM_TRACE=1` telling what befell whom; `SIM_SEEDS=n` runs more or fewer than usual.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::history::check;
use crate::world::checks::Counts;
use crate::world::disk::End;
use crate::world::{Time, World};

pub(crate) const SECOND: Time = 1_000_000;

/// How many are run where nothing else is said: a fraction of a minute in all.
const SEEDS: u64 = 1_000;

/// Runs many seeds, prints how often everything happened, and demands that what is `expected`
/// did: a fault that never comes proves nothing.
pub(crate) fn for_seeds(name: &str, expected: &[&str], run: impl Fn(u64) -> World + Sync) {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let seeds = match number("SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIM_SEEDS").unwrap_or(SEEDS),
    };
    let all = Mutex::new(Counts::new());
    let (next, failed) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || failed.load(Ordering::Relaxed) {
                        return;
                    }
                    match catch_unwind(AssertUnwindSafe(|| run(seed))) {
                        Ok(world) => {
                            let mut all = all.lock().unwrap();
                            for (what, count) in world.counts() {
                                *all.entry(what).or_default() += count;
                            }
                        }
                        Err(panic) => {
                            failed.store(true, Ordering::Relaxed);
                            eprintln!(
                                "again: SIM_SEED={seed} cargo test -p concoord-core --test it {name}"
                            );
                            std::panic::resume_unwind(panic);
                        }
                    }
                }
            });
        }
    });
    let all = all.into_inner().unwrap();
    eprintln!("{name}, {} seeds:", seeds.end - seeds.start);
    for (what, count) in &all {
        eprintln!("{count:>10}  {what}");
    }
    if seeds.end - seeds.start >= SEEDS {
        for what in expected {
            assert!(all.contains_key(what), "in no run did this happen: {what}");
        }
    }
}

/// What happens to every kind of cluster.
pub(crate) const ALWAYS: [&str; 13] = [
    "call asked again",
    "elected",
    "failover",
    "joined",
    "killed",
    "late message",
    "leadership handed over",
    "left",
    "promoted",
    "removed",
    "session expired",
    "snapshot received",
    "snapshot sent",
];

/// What happens to those with disks besides.
pub(crate) const DURABLE: [&str; 10] = [
    "answered when it was safe",
    "damage refused",
    "disk error",
    "disk full",
    "disk lost",
    "handed over for a slow disk",
    "power lost",
    "recovered",
    "snapshot saved",
    "torn tail cut",
];

/// What happens where members come and go.
const CHANGING: [&str; 5] = [
    "clock jump",
    "removed for silence",
    "snapshot interrupted",
    "started as another",
    "went on alone",
];

pub(crate) fn all(rows: &[&[&'static str]]) -> Vec<&'static str> {
    rows.concat()
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
    // Followers hear within a tick of what was decided last, a session's end perhaps. Where a
    // snapshot is due every kilobyte, a state with sets is settled all the time: it may take a while
    // until there is a moment between.
    let end = world.now + 20 * SECOND;
    world.run_until(end, World::is_level);
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
    for_seeds("calls_survive_faults", &ALWAYS, survive_faults);
}

/// A member that had slept through the joining and the election of a new one was sent the log by
/// it, and had nobody in its view to answer.
#[test]
fn a_member_that_lags_answers_a_leader_it_has_never_heard_of() {
    survive_faults(1912);
}

pub(crate) fn survive_faults(seed: u64) -> World {
    let mut world = World::new(seed);
    let replicas = [1, 2, 2, 3, 3, 3, 4, 5][world.dice.below(8) as usize];
    cluster(&mut world, replicas);
    if world.dice.chance(5) {
        // Enough for the log to be cut off.
        (world.padding, world.snapshot_time) = (200_000, SECOND / 10);
    }
    befall(&mut world, replicas, 150);
    world
}

/// The same where the object lives in a process of its own, which takes its time.
#[test]
fn calls_of_a_hosted_object_survive_faults() {
    for_seeds("calls_of_a_hosted_object_survive_faults", &ALWAYS, hosted_faults);
}

/// Of three, the leader had proposed to remove one that was cut off; the other died before it had
/// that entry. The one that was cut off came back and decided on its own removal, and the leader
/// was left with the dead one.
#[test]
fn nobody_is_removed_while_the_others_may_be_gone() {
    hosted_faults(3320);
}

/// The same of one that was to join again for the others' state.
#[test]
fn nobody_leaves_to_join_again_while_the_others_may_be_gone() {
    hosted_faults(8823);
}

pub(crate) fn hosted_faults(seed: u64) -> World {
    let mut world = World::new(seed ^ 0xB0B0_0000);
    world.hosted = true;
    world.has_sets = seed.is_multiple_of(2);
    let replicas = [1, 2, 3, 3, 4][world.dice.below(5) as usize];
    cluster(&mut world, replicas);
    if world.dice.chance(50) {
        world.poisoned = true;
        world.crashes = (0..replicas).collect();
    }
    befall(&mut world, replicas, 100);
    world
}

/// Replicas with disks, all of which may die at once: what was acknowledged is there when they
/// are back.
#[test]
fn durable_calls_survive_faults() {
    let expected = all(&[&ALWAYS, &DURABLE]);
    for_seeds("durable_calls_survive_faults", &expected, durable_faults);
}

pub(crate) fn durable_faults(seed: u64) -> World {
    let mut world = World::new(seed ^ 0xD15C_0000);
    world.durable = true;
    world.hosted = world.dice.chance(30);
    world.has_sets = world.dice.chance(50);
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
        durable_fault(&mut world);
    }
    restart_all(&mut world);
    settle_and_check(&mut world);
    world
}

/// Members come and go, some of them for good, while their disks, clocks and links fail and
/// snapshots are under way.
#[test]
fn members_come_and_go_under_faults() {
    let expected = all(&[&ALWAYS, &DURABLE, &CHANGING]);
    for_seeds("members_come_and_go_under_faults", &expected, members_change);
}

pub(crate) fn members_change(seed: u64) -> World {
    let mut world = World::new(seed ^ 0x3E3B_0000);
    world.durable = world.dice.chance(70);
    world.hosted = world.dice.chance(20);
    world.has_sets = world.dice.chance(50);
    world.snapshot_bytes = [1_000, 5_000, 50_000][world.dice.below(3) as usize];
    world.snapshot_time = [0, SECOND / 20, SECOND / 2][world.dice.below(3) as usize];
    let replicas = 1 + world.dice.below(3) as usize;
    cluster(&mut world, replicas);
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

pub(crate) fn change(world: &mut World) {
    let nodes = world.nodes();
    let node = world.dice.below(nodes as u64) as usize;
    match world.dice.below(8) {
        0 if nodes < 7 => {
            // Through anybody who is there.
            let up = world.up();
            if let Some(through) = up.get(world.dice.below(up.len() as u64) as usize) {
                let through = world.address(*through);
                let newcomer = world.place();
                world.start(newcomer, vec![through]);
            }
        }
        1 if world.is_up(node) && world.up().len() > 1 && world.can_spare(node) => {
            world.leave(node);
        }
        2 => {
            let hours = 3_600_000 * world.dice.below(10) as i64;
            let ahead = if world.dice.chance(50) { hours } else { -hours };
            world.set_clock(node, ahead);
        }
        3 | 4 if world.durable => durable_fault(world),
        _ if world.durable => {
            if world.is_up(node) && world.dice.chance(40) {
                let end = any_end(world);
                world.crash(node, end);
                if world.can_spare_disk(node) {
                    world.lose_disk(node);
                }
            } else {
                restart(world, node);
            }
        }
        _ => fault(world, nodes),
    }
}

/// What happens where clients contend for a lock.
const CONTENDED: [&str; 14] = [
    "cancelled too late",
    "cancelled while parked",
    "failover while one waits",
    "granted at once",
    "granted in line",
    "holder lost",
    "holder stood still",
    "late write refused",
    "not granted",
    "parked call asked again",
    "snapshot received while one waits",
    "timed out",
    "waiter lost",
    "waiter stood still",
];

/// A lock has one holder, whatever befalls replicas and clients; who lost it writes nothing under
/// it, and nobody waits for ever.
#[test]
fn lock_histories_survive_faults() {
    for_seeds("lock_histories_survive_faults", &all(&[&ALWAYS, &CONTENDED]), lock_faults);
}

pub(crate) fn lock_faults(seed: u64) -> World {
    let mut world = World::new(seed ^ 0x10C4_0000);
    world.careful = true;
    world.hosted = world.dice.chance(30);
    let replicas = [1, 2, 3, 3, 3, 4][world.dice.below(6) as usize];
    cluster(&mut world, replicas);
    contend(&mut world, |world| fault(world, replicas));
    world
}

/// The same with everything on disks.
#[test]
fn durable_lock_histories_survive_faults() {
    let expected = all(&[&ALWAYS, &DURABLE, &CONTENDED]);
    for_seeds("durable_lock_histories_survive_faults", &expected, durable_lock_faults);
}

pub(crate) fn durable_lock_faults(seed: u64) -> World {
    let mut world = World::new(seed ^ 0xD10C_0000);
    world.durable = true;
    world.snapshot_bytes = [2_000, 10_000, 1_000_000][world.dice.below(3) as usize];
    let replicas = [1, 2, 2, 3, 3, 3, 4][world.dice.below(7) as usize];
    cluster(&mut world, replicas);
    contend(&mut world, durable_fault);
    world
}

/// Lets clients contend for a lock while faults befall the cluster, then looks at what they saw.
fn contend(world: &mut World, fault: impl Fn(&mut World)) {
    for _ in 0..2 + world.dice.below(5) {
        let times = 5 + world.dice.below(25) as usize;
        world.add_locker(times);
    }
    world.add_client(150);
    for _ in 0..10 + world.dice.below(20) {
        let end = world.now + world.dice.below(3 * SECOND);
        world.run_until(end, |_| false);
        fault(world);
    }
    if world.durable {
        restart_all(world);
    }
    world.heal();
    // Long enough for the sessions of those who stand still to end.
    let end = world.now + 30 * SECOND;
    world.run_until(end, |_| false);
    world.end_lockers();
    let end = world.now + 90 * SECOND;
    world.run_until(end, World::are_lockers_done);
    assert!(world.are_lockers_done(), "somebody waits for ever\n{}", world.stuck());
    settle_and_check(world);
    world.check_lockers();
}

fn any_end(world: &mut World) -> End {
    if world.dice.chance(50) { End::Killed } else { End::PowerLost }
}

/// Everybody is well again and there.
pub(crate) fn restart_all(world: &mut World) {
    world.heal();
    // Those who are told to stop do so before they are started again.
    let end = world.now + 3 * SECOND;
    world.run_until(end, |_| false);
    let nodes = world.nodes();
    for node in shuffled(world, nodes) {
        restart(world, node);
    }
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

pub(crate) fn durable_fault(world: &mut World) {
    let nodes = world.nodes() as u64;
    let node = world.dice.below(nodes) as usize;
    let other = world.dice.below(nodes) as usize;
    match world.dice.below(20) {
        0..=2 if world.is_up(node) => {
            let end = any_end(world);
            if world.dice.chance(60) {
                // Right in the middle of a write, if there is one.
                let soon = world.now + SECOND / 10;
                world.run_until(soon, |world| world.is_writing(node) || !world.is_up(node));
            }
            world.crash(node, end);
        }
        // One at a time: whoever lost a disk is replaced before another one goes.
        3 if world.is_up(node) && world.is_whole() => world.leave(node),
        4 => {
            let end = any_end(world);
            for node in world.up() {
                world.crash(node, end);
            }
        }
        5..=8 => restart(world, node),
        9 if node != other => {
            world.sever(node, other);
            if world.dice.chance(70) {
                world.sever(other, node);
            }
        }
        10 => world.loss_percent = 50 + world.dice.below(200),
        11 if world.is_up(node) => {
            let time = world.dice.below(3 * SECOND);
            world.pause(node, time);
        }
        12 | 13 => {
            let time = world.dice.below(2 * SECOND);
            world.slow_disk(node, time);
        }
        14 => world.fill_disk(node),
        15 => world.break_disk(node),
        16 | 17 if !world.is_up(node) => world.rot_disk(node),
        _ => world.heal(),
    }
}

/// Lets clients call while fault after fault befalls the cluster, then looks at what they saw.
pub(crate) fn befall(world: &mut World, replicas: usize, calls_max: u64) {
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
        0..=2 if world.is_up(node) && world.can_spare(node) => world.crash(node, End::Killed),
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
        world.crash(1, End::Killed);
        let end = world.now + 5 * SECOND;
        world.run_until(end, |_| false);
        format!("{:?} {:?}", world.history, world.digests())
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}
