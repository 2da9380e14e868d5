//! Commands that fence a peer, well or not.

use concoord_core::replica::Event;
use concoord_core::view::Member;

use super::disk::End;
use super::{Happening, Time, World};

/// What the command that fences a peer does.
#[derive(Clone, Copy)]
pub(crate) enum Fences {
    /// Kills the peer, then says so.
    Well,
    /// Says that it could not.
    Fails,
    /// Says, after that time, that it did, and did not.
    Lies(Time),
}

impl World {
    pub(super) fn fence(&mut self, node: usize, number: u64, peer: &Member) {
        let (result, time) = match self.fences.expect("only asked for where there is a command") {
            Fences::Well => {
                if let Some(to) = self.nodes.iter().position(|node| node.id == peer.id) {
                    self.crash(to, End::Killed);
                }
                (Ok(()), 100_000)
            }
            Fences::Fails => (Err("no power switch".into()), 100_000),
            Fences::Lies(time) => (Ok(()), time),
        };
        let life = self.nodes[node].life;
        self.at(self.now + time, Happening::Hear(node, life, Event::Fenced(number, result)));
    }
}
