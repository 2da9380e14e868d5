//! What was once lost, forked, stuck or given away, each case by itself.

use bytes::Bytes;
use concoord_core::call::{Call, SessionId};
use concoord_core::limits::{ARGUMENT_BYTES_MAX, CONNECTION_SESSIONS_MAX};
use concoord_core::view::Role;
use concoord_core::wire::Request;

use crate::sim::{SECOND, cluster};
use crate::world::World;

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
        world.crash(leader);
        world.add_client(5);
        let end = world.now + 20 * SECOND;
        world.run_until(end, World::are_clients_done);
        assert!(world.are_clients_done(), "seed {seed}\n{}", world.stuck());
    }
}
