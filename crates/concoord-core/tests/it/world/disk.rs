//! Disks: what was written comes back, what was not safe yet may be lost.

use std::net::SocketAddr;

use concoord_core::durable::{Persist, Record, RecordKind, Recovered, Snapshot};
use concoord_core::replica::Event;
use concoord_core::view::ReplicaId;

use super::{Happening, Time, World};

/// What the folder of one replica holds.
#[derive(Default)]
pub(super) struct Disk {
    /// Whose it is, once there is something in it.
    id: Option<ReplicaId>,
    /// Whom to ask for the cluster that this replica was in, if there is nothing else.
    pub(super) rejoin: Vec<SocketAddr>,
    /// In the order asked; the first `safe` of them are safe.
    written: Vec<Persist>,
    safe: usize,
    saved: Option<Snapshot>,
    /// When the latest of what is under way is done.
    busy_until: Time,
    /// Each write takes so long at most, where it is more than usual.
    pub(super) slow: Time,
}

impl Disk {
    /// What a replica finds that is started again: all that was safe, and some of the rest.
    pub(super) fn recover(&mut self, extra: usize) -> Option<(ReplicaId, Recovered)> {
        self.written.truncate(self.safe + extra);
        self.safe = self.written.len();
        let received = self.written.iter().filter_map(|persist| persist.snapshot.as_ref());
        let snapshot = received.chain(&self.saved).max_by_key(|snapshot| snapshot.index)?.clone();
        let records = self.written.iter().flat_map(|persist| &persist.records).cloned().collect();
        Some((self.id?, Recovered { snapshot, records }))
    }

    pub(super) fn begin(&mut self, id: ReplicaId) {
        *self = Self { id: Some(id), rejoin: std::mem::take(&mut self.rejoin), ..Self::default() };
    }

    fn saved(&mut self, snapshot: Snapshot) {
        // What it stands for is deleted, but for the latest promise.
        let mut kept = 0;
        let last = self.written.len();
        self.written.retain(|persist| {
            kept += 1;
            let old = persist.records.iter().all(|record| record.index <= snapshot.index);
            let promises = persist.records.iter().any(|record| record.kind == RecordKind::Promise);
            !(old && kept <= self.safe && kept < last) || promises
        });
        self.safe -= last - self.written.len();
        self.saved = Some(snapshot);
    }
}

impl World {
    pub(super) fn persist(&mut self, node: usize, persist: Persist) {
        self.tell(node, || {
            let record = |record: &Record| format!(" {:?} {}", record.kind, record.index);
            let records: Vec<String> = persist.records.iter().map(record).collect();
            format!("writes {}:{}", persist.number, records.join(","))
        });
        let slow = self.nodes[node].disk.slow;
        let time = 50 + self.dice.below(250) + if slow > 0 { self.dice.below(slow) } else { 0 };
        let there = &mut self.nodes[node];
        let (number, life) = (persist.number, there.life);
        let when = (self.now + time).max(there.disk.busy_until);
        there.disk.busy_until = when;
        there.disk.written.push(persist);
        let asked = there.disk.written.len() - there.disk.safe;
        self.at(when, Happening::Synced(node, life, number));
        assert!(asked < 100_000, "a replica writes without end");
    }

    pub(super) fn synced(&mut self, node: usize, number: u64) {
        let disk = &mut self.nodes[node].disk;
        let pending = disk.written.iter().skip(disk.safe);
        disk.safe += pending.take_while(|persist| persist.number <= number).count();
        let life = self.nodes[node].life;
        self.happen(Happening::Hear(node, life, Event::Persisted(number)));
    }

    pub(super) fn save(&mut self, node: usize, snapshot: Snapshot) {
        let when = self.now + 500 + self.dice.below(50_000);
        let life = self.nodes[node].life;
        self.at(when, Happening::Saved(node, life, snapshot));
    }

    pub(super) fn snapshot_saved(&mut self, node: usize, snapshot: Snapshot) {
        let index = snapshot.index;
        self.tell(node, || format!("has its state at {index} on disk"));
        self.nodes[node].disk.saved(snapshot);
        let life = self.nodes[node].life;
        self.happen(Happening::Hear(node, life, Event::Saved(index, Ok(()))));
    }

    /// Writes of that node take up to so long from now on; 0 for as long as usual.
    pub(crate) fn slow_disk(&mut self, node: usize, time: Time) {
        self.nodes[node].disk.slow = time;
    }
}
