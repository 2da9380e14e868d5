//! The network: streams that keep their order, until they break, and messages that are lost.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use bytes::BytesMut;
use concoord_core::call::ConnectionId;
use concoord_core::limits::FRAME_BYTES_MAX;
use concoord_core::replica::Event;
use concoord_core::view::ReplicaId;
use concoord_core::wire::{PeerMessage, Purpose, Welcome, write_frame};

use super::{Happening, Time, World};

const REDIAL: Time = 100_000;
const DIAL_TIMEOUT: Time = 2_000_000;

pub(super) struct Stream {
    pub(super) number: u64,
    last_arrival: Time,
    /// When a message was last lost.
    last_lost: Option<Time>,
}

impl World {
    pub(super) fn break_streams(&mut self, node: usize) {
        let ends: Vec<(usize, usize)> = self
            .streams
            .keys()
            .filter(|(from, to)| *from == node || *to == node)
            .copied()
            .collect();
        for (from, to) in ends {
            self.break_stream(from, to);
        }
    }

    /// Both ends notice, soon.
    pub(crate) fn break_stream(&mut self, from: usize, to: usize) {
        let Some(stream) = self.streams.remove(&(from, to)) else { return };
        // What the sender's kernel had taken may still arrive, before the receiver sees the end.
        let late = !self.cut.contains(&(from, to)) && self.dice.chance(50);
        if late {
            self.ghosts.insert(stream.number, (from, to));
        }
        for (end, other) in [(from, to), (to, from)] {
            let id = self.nodes[other].id;
            let mut when = self.now + 20 + self.dice.below(500);
            if late && end == to {
                when = when.max(stream.last_arrival + 1);
            }
            let life = self.nodes[end].life;
            self.at(when, Happening::Hear(end, life, Event::PeerLost(id)));
        }
        for purpose in [Purpose::Stream, Purpose::Greet] {
            self.dial_at(self.now + REDIAL, from, self.nodes[to].address, purpose);
        }
    }

    /// Nothing passes between these two, either way or one way.
    pub(crate) fn sever(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    pub(crate) fn heal(&mut self) {
        let cut = std::mem::take(&mut self.cut);
        for (from, to) in cut {
            self.break_stream(from, to);
            self.break_stream(to, from);
        }
        self.loss_percent = 0;
        for node in 0..self.nodes.len() {
            let there = &mut self.nodes[node];
            there.paused_until = 0;
            (there.disk.slow, there.disk.broken) = (0, false);
            self.empty_disk(node);
        }
    }

    pub(super) fn deliver(&mut self, from: usize, id: ReplicaId, to: usize, message: PeerMessage) {
        let life = self.nodes[to].life;
        if let PeerMessage::Consensus(envelope) = &message
            && envelope.has_snapshot()
        {
            self.seen("snapshot received");
            let sender = self.nodes[from].life;
            self.at(
                self.now + 50,
                Happening::Hear(from, sender, Event::SnapshotSent(envelope.to(), true)),
            );
        }
        self.happen(Happening::Hear(to, life, Event::Message(id, message)));
    }

    pub(super) fn snapshot_lost(&mut self, from: usize, life: u64, to: ReplicaId) {
        let when = self.now + 1_000 + self.dice.below(100_000);
        self.at(when, Happening::Hear(from, life, Event::SnapshotSent(to, false)));
    }

    pub(super) fn send(&mut self, from: usize, id: ReplicaId, message: PeerMessage) {
        self.sent += 1;
        let Some(to) = self.nodes.iter().position(|node| node.id == id) else { return };
        let lost = self.cut.contains(&(from, to)) || self.dice.below(1000) < self.loss_percent;
        let delay = 20
            + self.dice.below(200)
            + if self.dice.chance(2) { self.dice.below(30_000) } else { 0 };
        let ends = (self.nodes[from].id, self.nodes[to].life);
        if is_snapshot(&message) {
            self.seen("snapshot sent");
        }
        if is_snapshot(&message) && (lost || !self.streams.contains_key(&(from, to))) {
            // Who sends one is told what became of it.
            return self.snapshot_lost(from, self.nodes[from].life, id);
        }
        let Some(stream) = self.streams.get_mut(&(from, to)) else { return };
        // What one turn writes to a stream is lost from some message on, not in its midst.
        if lost || stream.last_lost == Some(self.now) {
            stream.last_lost = Some(self.now);
            return;
        }
        if self.measured {
            let mut frame = BytesMut::new();
            write_frame(&message, &mut frame);
            assert!(frame.len() <= FRAME_BYTES_MAX, "a message of {} bytes", frame.len());
            if matches!(message, PeerMessage::Forward(_)) {
                self.forwarded += frame.len();
            }
        }
        if self.snapshot_time > 0 && is_snapshot(&message) {
            let (when, stream) = (self.now + self.snapshot_time, stream.number);
            let message = Box::new(message);
            self.at(when, Happening::Deliver { from, ends, to, stream, message });
            return;
        }
        // In order, as a stream is.
        let when = (self.now + delay).max(if self.shuffled { 0 } else { stream.last_arrival + 1 });
        stream.last_arrival = stream.last_arrival.max(when);
        let stream = stream.number;
        let twice = matches!(message, PeerMessage::Forward(_) | PeerMessage::Join(_))
            && self.dice.chance(5);
        if twice {
            let message = Box::new(message.clone());
            self.at(when, Happening::Deliver { from, ends, to, stream, message });
        }
        let message = Box::new(message);
        self.at(when, Happening::Deliver { from, ends, to, stream, message });
    }

    pub(super) fn dial(&mut self, node: usize) {
        let Some(replica) = self.nodes[node].replica.as_ref() else { return };
        let contacts: Vec<_> = replica
            .contacts()
            .into_iter()
            .map(|contact| (contact.address, contact.purpose))
            .collect();
        for (address, purpose) in contacts.into_iter().collect::<BTreeSet<_>>() {
            let when = self.now + 10 + self.dice.below(100);
            self.dial_at(when, node, address, purpose);
        }
    }

    pub(super) fn dial_at(
        &mut self,
        when: Time,
        node: usize,
        address: SocketAddr,
        purpose: Purpose,
    ) {
        let life = self.nodes[node].life;
        if self.dialling.insert((node, life, address, purpose)) {
            self.at(when, Happening::Dial(node, life, address, purpose));
        }
    }

    /// Connects, if it is still wanted and not done, and tries again later if it can't.
    pub(super) fn try_dial(&mut self, node: usize, address: SocketAddr, purpose: Purpose) {
        let Some(replica) = self.nodes[node].replica.as_ref() else { return };
        let wanted = replica
            .contacts()
            .iter()
            .any(|contact| contact.address == address && contact.purpose == purpose);
        let Some(to) = self.nodes.iter().position(|other| other.address == address) else { return };
        if !wanted || self.streams.contains_key(&(node, to)) {
            return;
        }
        let hello = replica.hello(purpose);
        let life = self.nodes[node].life;
        let cut = self.cut.contains(&(node, to)) || self.cut.contains(&(to, node));
        let deaf = cut || self.is_paused(to);
        // The kernel takes connections for a process that is stopped.
        let refused = if cut { self.rejecting } else { !self.is_up(to) };
        if refused || cut {
            let when = self.now + if refused { 100 } else { DIAL_TIMEOUT };
            self.at(when, Happening::Hear(node, life, Event::Unreached(address, refused)));
        }
        let Some(other) = self.nodes[to].replica.as_mut().filter(|_| !deaf) else {
            self.dial_at(self.now + REDIAL, node, address, purpose);
            return;
        };
        let welcome = other.greet_peer(&hello);
        let accepted = matches!(welcome, Welcome::Peer { .. }) && purpose == Purpose::Stream;
        let (id, other_life) = (self.nodes[to].id, self.nodes[to].life);
        self.at(self.now + 50, Happening::Hear(node, life, Event::Welcomed(address, welcome)));
        if accepted {
            self.count += 1;
            // The receiver has given up the stream before.
            self.ghosts.retain(|_, ends| *ends != (node, to));
            self.streams.insert(
                (node, to),
                Stream { number: self.count, last_arrival: self.now + 50, last_lost: None },
            );
            self.at(self.now + 51, Happening::Hear(node, life, Event::PeerReached(id)));
        } else {
            self.dial_at(self.now + REDIAL, node, address, purpose);
        }
        // What greeting led to is carried out with the next turn.
        self.at(
            self.now + 1,
            Happening::Hear(to, other_life, Event::Disconnected(ConnectionId(0))),
        );
    }
}

pub(super) fn is_snapshot(message: &PeerMessage) -> bool {
    matches!(message, PeerMessage::Consensus(envelope) if envelope.has_snapshot())
}
