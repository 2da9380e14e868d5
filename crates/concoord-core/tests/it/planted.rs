//! Bugs that are planted in the product: each must be found by what the simulation checks. A
//! table of what found which is printed with `--nocapture`.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use concoord_core::planted::plant;
use concoord_core::view::Role;

use crate::cases::{hidden_removal, lagging_quorum};
use crate::sessions::cut_off_follower;
use crate::sim::{
    SECOND, cluster, durable_faults, durable_lock_faults, lock_faults, members_change,
    settle_and_check, survive_faults,
};
use crate::world::World;
use crate::world::disk::End;

/// What each bug may be tried with, before it counts as not found.
const SEEDS: u64 = 600;

/// What may find a bug, by what it says.
const LIST: &str = "was appended twice";
const LOST: &str = "was acknowledged at";
const STALE: &str = "was seen before";
const DIFFER: &str = "differ";
const SAFE: &str = "answers at";
const LEADERS: &str = "two leaders in term";
const TERM: &str = "became";
const STUCK: &str = "every call is answered in the end";
const WAITS: &str = "somebody waits for ever";
/// The library's own look, as a leader begins, at how far its log is persisted.
const PERSISTED: &str = "assertion `left == right` failed\n  left: ";
const DISK: &str = "what was safe is lost or another";

fn faults(seed: u64) -> World {
    match seed % 3 {
        0 => durable_faults(seed),
        1 => members_change(seed),
        _ => survive_faults(seed),
    }
}

fn durable(seed: u64) -> World {
    if seed.is_multiple_of(2) { durable_faults(seed) } else { members_change(seed) }
}

/// Runs seeds with that bug until one of those checks finds it; and none of them may without it.
fn is_found(bug: &'static str, by: &[&str], run: impl Fn(u64) -> World) {
    for seed in 0..SEEDS {
        plant(bug);
        let end = catch_unwind(AssertUnwindSafe(|| run(seed)));
        plant("");
        let Err(panic) = end else { continue };
        let reason = reason(panic.as_ref());
        let line = reason.lines().next().unwrap_or_default();
        let line: String = line.chars().take(60).collect();
        eprintln!("{bug:<26} {:>4} seeds  {line}", seed + 1);
        assert!(by.iter().any(|by| reason.contains(by)), "found, but not by what should: {reason}");
        run(seed);
        return;
    }
    panic!("{bug} is not found by {SEEDS} seeds");
}

fn reason(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).into())).unwrap_or_default()
}

#[test]
fn an_acknowledgement_before_the_sync_is_found() {
    is_found("ack-before-sync", &[SAFE, LOST, LEADERS, DIFFER, PERSISTED], durable);
}

/// The vote made a leader, whose voter is started again at once and asked by another candidate.
#[test]
fn a_vote_forgotten_at_a_restart_is_found() {
    is_found("vote-forgotten", &[LEADERS], |seed| {
        let mut world = World::new(seed);
        (world.same_host, world.durable) = (true, true);
        cluster(&mut world, 3);
        let first = (0..3).find(|node| world.leads(*node)).unwrap();
        world.crash(first, End::Killed);
        let elected = |world: &World| (0..3).find(|node| world.leads(*node));
        let end = world.now + 5 * SECOND;
        world.run_until(end, |world| elected(world).is_some());
        let Some(elected) = elected(&world) else { return world };
        let voter = 3 - first - elected;
        for node in [elected, voter] {
            world.crash(node, End::Killed);
        }
        world.start(first, vec![]);
        world.start(voter, vec![]);
        let end = world.now + 5 * SECOND;
        world.run_until(end, |_| false);
        world
    });
}

#[test]
fn a_term_forgotten_at_a_restart_is_found() {
    is_found("term-forgotten", &[LEADERS, LOST, DIFFER, TERM], durable);
}

#[test]
fn a_call_that_runs_again_is_found() {
    is_found("no-dedupe", &[LIST, LOST], faults);
}

#[test]
fn a_reply_forgotten_is_found() {
    is_found("reply-forgotten", &["ended as Refused(Superseded)"], faults);
}

#[test]
fn a_read_without_a_quorum_is_found() {
    is_found("stale-read", &[STALE], survive_faults);
}

#[test]
fn a_checksum_skipped_is_found() {
    is_found(
        "checksum-skipped",
        &["is taken for what was written", "no rot, and yet", DISK],
        durable,
    );
}

#[test]
fn a_torn_tail_taken_is_found() {
    is_found("torn-tail-taken", &[DISK], durable);
}

#[test]
fn a_waiter_lost_with_the_holder_is_found() {
    is_found("lost-waiter", &[WAITS, "somebody waits"], lock_faults);
}

#[test]
fn a_guard_that_nobody_looks_at_is_found() {
    is_found("guard-unchecked", &["two held the lock", "whose session was over"], lock_faults);
}

#[test]
fn a_session_that_lives_though_no_leader_has_heard_of_it_is_found() {
    is_found("alive-unheard", &["cut off, it says"], cut_off_follower);
}

#[test]
fn a_snapshot_without_parked_calls_is_found() {
    let by = [WAITS, DIFFER, "ended as", "it is still held", "somebody waits"];
    is_found("parked-forgotten", &by, |seed| {
        if seed.is_multiple_of(2) { durable_lock_faults(seed) } else { lock_faults(seed) }
    });
}

#[test]
fn an_order_of_ones_own_within_an_entry_is_found() {
    is_found("entry-reordered", &[DIFFER, LOST], faults);
}

#[test]
fn a_snapshot_without_sessions_is_found() {
    is_found("snapshot-without-sessions", &[LIST, LOST, DIFFER], durable);
}

#[test]
fn a_removal_without_a_quorum_is_found() {
    is_found("removed-without-quorum", &[LOST, LIST, STALE, LEADERS, DIFFER], survive_faults);
}

#[test]
fn going_alone_without_proof_is_found() {
    is_found("alone-without-proof", &[LOST, LIST, STALE, LEADERS, DIFFER], survive_faults);
}

#[test]
fn an_election_with_a_stale_log_is_found() {
    is_found("stale-log-elected", &[LOST, LEADERS, DIFFER, STUCK], faults);
}

#[test]
fn a_witness_that_goes_on_alone_is_found() {
    is_found("witness-alone", &[LOST, LIST, STALE, DIFFER, STUCK], crate::witness::durable_faults);
}

#[test]
fn a_witness_that_cuts_what_others_lack_is_found() {
    is_found("witness-cuts", &[STUCK], crate::witness::cut_and_started_again);
}

#[test]
fn two_snapshots_saved_at_once_are_found() {
    is_found("two-saves", &["two snapshots are to be saved at once"], durable);
}

#[test]
fn an_old_lineage_taken_is_found() {
    is_found("old-lineage-taken", &[LOST, DIFFER, STUCK], durable);
}

#[test]
fn going_alone_past_a_sleeper_is_found() {
    is_found("alone-past-a-sleeper", &[LEADERS, DIFFER], |seed| {
        let mut world = World::new(seed);
        hidden_removal(&mut world);
        settle_and_check(&mut world);
        world
    });
}

#[test]
fn a_base_not_lent_is_found() {
    is_found("no-base-lent", &[STUCK], |seed| {
        let mut world = World::new(seed);
        lagging_quorum(&mut world);
        settle_and_check(&mut world);
        world
    });
}

/// Only where a learner has what the other voter has not, and that one goes on alone.
#[test]
fn a_learner_counted_as_a_voter_is_found() {
    is_found("learner-counted", &[LOST, STALE, DIFFER], |seed| {
        let mut world = World::new(seed);
        world.same_host = true;
        cluster(&mut world, 2);
        let (leader, other) = if world.leads(0) { (0, 1) } else { (1, 0) };
        for _ in 0..3 {
            world.add_client(60);
        }
        let newcomer = world.place();
        let through = world.address(leader);
        world.start(newcomer, vec![through]);
        let end = world.now + SECOND;
        let joined = |world: &World| world.role(leader, newcomer) == Some(Role::Learner);
        world.run_until(end, joined);
        // The other hears nothing; the leader must not go on without it.
        world.sever(leader, other);
        let end = world.now + SECOND / 4;
        world.run_until(end, |_| false);
        world.crash(leader, End::Killed);
        let end = world.now + SECOND;
        world.run_until(end, |_| false);
        if !world.has_served(newcomer) && !world.is_up(leader) {
            world.crash(newcomer, End::Killed);
        }
        settle_and_check(&mut world);
        world
    });
}
