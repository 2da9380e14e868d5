//! Disks, as bytes: what was synced comes back, what was not may be lost, block by block.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use bytes::Bytes;
use concoord_core::durable::{Persist, Record, RecordKind, Recovered, Snapshot};
use concoord_core::replica::Event;
use concoord_core::snapshot::{self, About};
use concoord_core::view::ReplicaId;
use concoord_core::wal::{BLOCK, Folder, Log, Scan, Writer};

use super::{Happening, Time, World};
use crate::dice::Dice;

/// Bytes of a segment, where no batch needs more: small, so that there are many.
const SEGMENT: u64 = 32 << 10;

/// Records of which the disk itself knows that they are safe, to compare with what is found.
const REMEMBERED: usize = 64;

/// How a process ends: what it wrote and did not sync is with the kernel, or nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Killed,
    PowerLost,
}

/// What the folder of one replica holds. What is in the fields is safe, but for what says
/// otherwise.
#[derive(Default)]
pub(super) struct Disk {
    /// Whose it is, once there is something in it.
    folder: Option<Folder>,
    /// Who was told to forget its copy, and up to where that went: it is set aside until the
    /// others' state is safe here.
    aside: Option<(ReplicaId, u64)>,
    /// Whom to ask for the cluster that this replica was in, if there is nothing else.
    pub(super) rejoin: Vec<SocketAddr>,
    segments: BTreeMap<u64, Segment>,
    snapshots: BTreeMap<u64, Bytes>,
    /// The deletion of these is not synced.
    deleted: Vec<(u64, Segment)>,
    writer: Option<Writer>,
    asked: VecDeque<Persist>,
    /// What is being written, and is not safe.
    writing: Option<Writing>,
    saving: Option<Saving>,
    /// A snapshot that the log's next batch goes on from.
    stored: Option<u64>,
    /// A snapshot for whose sake the log can be cut once nothing is being written.
    cut: Option<u64>,
    pub(super) end: Option<End>,
    /// Each write takes so long at most, where it is more than usual.
    pub(super) slow: Time,
    pub(super) full: bool,
    /// The next write fails.
    pub(super) broken: bool,
    known: Known,
}

struct Segment {
    bytes: Vec<u8>,
    /// Where what was written ends, and where its last batch begins: nothing vouches for that.
    end: usize,
    last: usize,
}

enum Writing {
    Snapshot { index: u64, bytes: Bytes, renamed: bool },
    Batch { segment: u64, offset: usize, bytes: Vec<u8>, number: u64, records: Vec<Record> },
}

struct Saving {
    index: u64,
    bytes: Bytes,
    renamed: bool,
}

/// What must be found again, whatever the bytes say.
#[derive(Clone, Default)]
struct Known {
    /// The last records but promises.
    records: VecDeque<Record>,
    /// Term and vote.
    promise: Option<(u64, Bytes)>,
    /// Where the log ends.
    last: u64,
    snapshot: u64,
}

impl Known {
    fn note(&mut self, record: &Record) {
        match record.kind {
            RecordKind::Promise => self.promise = Some((record.term, record.payload.clone())),
            RecordKind::Alone => {
                self.promise = Some((record.term, Bytes::from_static(&[0; 8])));
            }
            RecordKind::Entry | RecordKind::Change | RecordKind::Restored => {
                self.last = record.index;
            }
        }
        if record.kind != RecordKind::Promise {
            self.records.push_back(record.clone());
            if self.records.len() > REMEMBERED {
                self.records.pop_front();
            }
        }
    }

    /// Whether those end with what is known.
    fn agrees(&self, found: &[Record]) -> bool {
        let mut promise = None;
        for record in found {
            match record.kind {
                RecordKind::Promise => promise = Some((record.term, record.payload.clone())),
                RecordKind::Alone => promise = Some((record.term, Bytes::from_static(&[0; 8]))),
                RecordKind::Entry | RecordKind::Change | RecordKind::Restored => {}
            }
        }
        let mut found = found.iter().filter(|record| record.kind != RecordKind::Promise).rev();
        let all = self.records.iter().rev();
        let same = all.map_while(|known| Some(*known == *found.next()?)).all(|same| same);
        same && promise == self.promise
    }
}

impl Disk {
    /// What a replica finds that is started again, and how many bytes of a torn tail.
    pub(super) fn recover(&mut self, dice: &mut Dice) -> Option<(ReplicaId, Recovered, u64)> {
        let folder = self.folder?;
        let before = self.known.clone();
        let mut after = before.clone();
        if let Some(Writing::Batch { records, .. }) = &self.writing {
            records.iter().for_each(|record| after.note(record));
        }
        self.end(dice);
        let mut log = self.scan(folder).unwrap_or_else(|error| panic!("no rot, and yet: {error}"));
        for void in &log.void {
            self.segments.remove(&void.segment);
        }
        let Some(snapshot) = self.snapshots.values().next_back().map(|bytes| read(bytes)) else {
            assert_eq!(before.snapshot, 0, "a snapshot that was safe is gone");
            return None;
        };
        assert!(snapshot.index >= before.snapshot, "a snapshot that was safe is gone");
        let whole = after.agrees(&log.records);
        assert!(
            whole || before.agrees(&log.records),
            "what was safe is lost or another: known {:?} {:?}, found {:?}",
            before.promise,
            before.records,
            log.records
        );
        self.known = if whole { after } else { before };
        self.known.snapshot = snapshot.index;
        self.snapshots.retain(|index, _| *index == snapshot.index);
        // The batch that was being written may have come whole.
        if let Some(end) = &log.end
            && let Some(segment) = self.segments.get_mut(&end.at.segment)
        {
            segment.end = end.at.offset as usize;
        }
        self.writer = Some(Writer::new(folder, &log));
        let torn = log.end.map_or(0, |end| end.torn);
        let records = std::mem::take(&mut log.records);
        Some((folder.replica, Recovered { snapshot, records }, torn))
    }

    fn scan(&self, folder: Folder) -> Result<Log, String> {
        let mut scan = Scan::new(folder);
        for (number, segment) in &self.segments {
            scan.segment(*number, &segment.bytes).map_err(|error| error.to_string())?;
        }
        Ok(scan.finish())
    }

    /// Whatever was not safe when the process ended is there or not.
    fn end(&mut self, dice: &mut Dice) {
        let power = self.end.take() == Some(End::PowerLost);
        self.asked.clear();
        (self.stored, self.cut, self.broken) = (None, None, false);
        match self.writing.take() {
            Some(Writing::Batch { segment, offset, bytes, .. }) => {
                if let Some(segment) = self.segments.get_mut(&segment) {
                    tear(&mut segment.bytes[offset..], &bytes, power, dice);
                }
            }
            Some(Writing::Snapshot { index, bytes, renamed: true })
                if !power || dice.chance(50) =>
            {
                self.snapshots.insert(index, bytes);
            }
            _ => {}
        }
        if let Some(Saving { index, bytes, renamed: true }) = self.saving.take()
            && (!power || dice.chance(50))
        {
            self.snapshots.insert(index, bytes);
        }
        // Folders change in order: what comes back is what was deleted last.
        let deleted = std::mem::take(&mut self.deleted);
        let kept = if power { dice.below(deleted.len() as u64 + 1) as usize } else { 0 };
        self.segments.extend(deleted.into_iter().rev().take(kept));
    }

    pub(super) fn begin(&mut self, id: ReplicaId, dice: &mut Dice) {
        let folder = Folder { replica: id, data: dice.roll() };
        let (slow, full) = (self.slow, self.full);
        let (rejoin, aside) = (std::mem::take(&mut self.rejoin), self.aside);
        let writer = Some(Writer::new(folder, &Log::default()));
        *self = Self { folder: Some(folder), rejoin, aside, writer, slow, full, ..Self::default() };
    }

    /// How far the log is safe here.
    /// The entry that the log begins after.
    pub(super) fn first(&self) -> u64 {
        self.snapshots.keys().next_back().copied().unwrap_or_default()
    }

    pub(super) fn last(&self) -> u64 {
        self.known.last.max(self.known.snapshot)
    }

    /// Sets the copy aside and begins anew, to join those.
    pub(super) fn discard(&mut self, rejoin: Vec<SocketAddr>) {
        let copy = self.folder.filter(|_| !self.snapshots.is_empty());
        let aside = copy.map(|folder| (folder.replica, self.last())).or(self.aside);
        *self = Self { rejoin, aside, ..Self::default() };
    }

    /// Whether what that replica had applied up to there is on this disk, be it set aside.
    pub(super) fn holds(&self, id: ReplicaId, applied: u64) -> bool {
        self.is_of(id) && self.last() >= applied
            || self.aside.is_some_and(|(of, last)| of == id && last >= applied)
    }

    pub(super) fn is_of(&self, id: ReplicaId) -> bool {
        self.folder.is_some_and(|folder| folder.replica == id)
    }

    /// Takes up the next thing that waits, unless one is being written; whether it did.
    fn next(&mut self) -> bool {
        if self.writing.is_some() {
            return false;
        }
        let writer = self.writer.as_mut().expect("a folder is begun before it is written to");
        if let Some(index) = self.cut.take() {
            let gone = writer.cut(index).into_iter();
            self.deleted.extend(gone.filter_map(|gone| self.segments.remove_entry(&gone)));
        }
        let Some(first) = self.asked.front_mut() else { return false };
        if let Some(snapshot) = first.snapshot.take() {
            let (index, bytes) = (snapshot.index, write(&snapshot));
            self.writing = Some(Writing::Snapshot { index, bytes, renamed: false });
            return true;
        }
        let (mut records, mut number) = (Vec::new(), 0);
        while self.asked.front().is_some_and(|next| next.snapshot.is_none())
            && let Some(next) = self.asked.pop_front()
        {
            records.extend(next.records);
            number = next.number;
        }
        if writer.needs(&records).is_some() {
            let bytes = SEGMENT.max((writer.size(&records) + BLOCK) as u64);
            writer.begin(bytes);
            let blank = Segment { bytes: vec![0; bytes as usize], end: 0, last: 0 };
            self.segments.insert(writer.segment(), blank);
            self.deleted.clear();
        }
        let mut bytes = Vec::new();
        let at = writer.write(&records, &mut bytes);
        let (segment, offset) = (at.segment, at.offset as usize);
        self.writing = Some(Writing::Batch { segment, offset, bytes, number, records });
        true
    }

    /// What was being written is safe; the number to tell the replica.
    fn written(&mut self) -> Option<u64> {
        match self.writing.take()? {
            Writing::Snapshot { index, bytes, renamed: false } => {
                self.writing = Some(Writing::Snapshot { index, bytes, renamed: true });
                None
            }
            Writing::Snapshot { index, bytes, renamed: true } => {
                self.snapshots.insert(index, bytes);
                self.known.snapshot = self.known.snapshot.max(index);
                self.stored = Some(index);
                self.aside = None;
                self.deleted.clear();
                None
            }
            Writing::Batch { segment, offset, bytes, number, records } => {
                let segment = self.segments.get_mut(&segment).expect("it was begun");
                segment.bytes[offset..offset + bytes.len()].copy_from_slice(&bytes);
                (segment.end, segment.last) = (offset + bytes.len(), offset);
                records.iter().for_each(|record| self.known.note(record));
                if let Some(index) = self.stored.take() {
                    self.forget(index);
                }
                Some(number)
            }
        }
    }

    /// The snapshot at `index` is safe, and so is what comes after it.
    fn forget(&mut self, index: u64) {
        self.snapshots.retain(|other, _| *other >= index);
        self.cut = Some(index);
    }

    /// Changes a bit of what is safe and something vouches for; how to change it back.
    fn rot(&mut self, dice: &mut Dice) -> Option<(u64, usize, u8)> {
        // What was begun after it proves nothing of it unless it came to the disk.
        let has_begun = |(number, segment): (&u64, &Segment)| (segment.end > 0).then_some(*number);
        let newest = self.segments.iter().rev().find_map(has_begun)?;
        let number = *self.segments.keys().nth(dice.below(self.segments.len() as u64) as usize)?;
        let segment = self.segments.get_mut(&number)?;
        let safe = if number == newest { segment.last } else { segment.end };
        if number > newest || safe <= BLOCK && number == newest {
            return None;
        }
        let (at, bit) = (dice.below(safe as u64) as usize, 1 << dice.below(8));
        segment.bytes[at] ^= bit;
        Some((number, at, bit))
    }

    fn unrot(&mut self, (number, at, bit): (u64, usize, u8)) {
        if let Some(segment) = self.segments.get_mut(&number) {
            segment.bytes[at] ^= bit;
        }
    }
}

/// What becomes of bytes that were on their way. A kernel that lives writes them from the first
/// on; one that dies may have written any of their sectors.
fn tear(to: &mut [u8], bytes: &[u8], power: bool, dice: &mut Dice) {
    const SECTOR: usize = 512;
    let whole = dice.chance(40);
    // Within what is not zero: most batches fill a part of their block.
    let content = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let upto = if whole { bytes.len() } else { dice.below(content as u64 + 1) as usize };
    for (at, block) in bytes.chunks(BLOCK).enumerate() {
        let from = at * BLOCK;
        let length = match power {
            _ if whole => block.len(),
            false => upto.saturating_sub(from).min(block.len()),
            true if dice.chance(50) => block.len(),
            true => SECTOR * dice.below((BLOCK / SECTOR) as u64) as usize,
        };
        to[from..from + length].copy_from_slice(&block[..length]);
    }
}

fn write(snapshot: &Snapshot) -> Bytes {
    let (class, runtime) = ("test.List".into(), String::new());
    let about = About { class, runtime, cluster: None, lineage: 0, written_ms: 0 };
    let mut bytes = Vec::new();
    snapshot::write(&about, snapshot, &mut bytes).unwrap();
    bytes.into()
}

fn read(bytes: &[u8]) -> Snapshot {
    let (_, snapshot) = snapshot::read(&mut &*bytes, bytes.len() as u64).unwrap();
    snapshot
}

impl World {
    pub(super) fn persist(&mut self, node: usize, persist: Persist) {
        self.tell(node, || {
            let record = |record: &Record| format!(" {:?} {}", record.kind, record.index);
            let records: Vec<String> = persist.records.iter().map(record).collect();
            format!("writes {}:{}", persist.number, records.join(","))
        });
        let disk = &mut self.nodes[node].disk;
        disk.asked.push_back(persist);
        assert!(disk.asked.len() < 100_000, "a replica writes without end");
        self.write_on(node);
    }

    /// Has the disk take up what waits for it.
    fn write_on(&mut self, node: usize) {
        let there = &mut self.nodes[node];
        let life = there.life;
        if there.disk.full && !there.disk.asked.is_empty() {
            self.seen("disk full");
        } else if there.disk.broken && !there.disk.asked.is_empty() {
            self.at(self.now + 20, Happening::DiskFails(node, life));
        } else if there.disk.next() {
            self.await_disk(node);
        }
    }

    fn await_disk(&mut self, node: usize) {
        let slow = self.nodes[node].disk.slow;
        let time = 50 + self.dice.below(250) + if slow > 0 { self.dice.below(slow) } else { 0 };
        let life = self.nodes[node].life;
        self.at(self.now + time, Happening::Synced(node, life));
    }

    pub(super) fn synced(&mut self, node: usize) {
        let disk = &mut self.nodes[node].disk;
        let number = disk.written();
        if disk.writing.is_some() {
            return self.await_disk(node);
        }
        self.write_on(node);
        if let Some(number) = number {
            let life = self.nodes[node].life;
            self.happen(Happening::Hear(node, life, Event::Persisted(number)));
        }
    }

    pub(super) fn save(&mut self, node: usize, snapshot: &Snapshot) {
        let when = self.now + 500 + self.dice.below(50_000);
        let saving = &mut self.nodes[node].disk.saving;
        assert!(saving.is_none(), "two snapshots are to be saved at once");
        let (index, bytes) = (snapshot.index, write(snapshot));
        *saving = Some(Saving { index, bytes, renamed: false });
        let life = self.nodes[node].life;
        self.at(when, Happening::Saved(node, life));
    }

    pub(super) fn saved(&mut self, node: usize) {
        let (life, disk) = (self.nodes[node].life, &mut self.nodes[node].disk);
        let Some(saving) = disk.saving.as_mut() else { return };
        if !std::mem::replace(&mut saving.renamed, true) {
            let when = self.now + 50 + self.dice.below(2_000);
            return self.at(when, Happening::Saved(node, life));
        }
        let Some(Saving { index, bytes, .. }) = disk.saving.take() else { return };
        disk.snapshots.insert(index, bytes);
        disk.known.snapshot = disk.known.snapshot.max(index);
        disk.deleted.clear();
        disk.forget(index);
        self.seen("snapshot saved");
        self.tell(node, || format!("has its state at {index} on disk"));
        self.happen(Happening::Hear(node, life, Event::Saved(index, Ok(()))));
    }

    /// Writes of that node take up to so long from now on; 0 for as long as usual.
    pub(crate) fn slow_disk(&mut self, node: usize, time: Time) {
        self.nodes[node].disk.slow = time;
    }

    /// Writes of that node wait until there is room.
    pub(crate) fn fill_disk(&mut self, node: usize) {
        self.nodes[node].disk.full = true;
    }

    /// There is room again.
    pub(super) fn empty_disk(&mut self, node: usize) {
        if std::mem::take(&mut self.nodes[node].disk.full) && self.is_up(node) {
            self.write_on(node);
        }
    }

    /// The next write of that node fails.
    pub(crate) fn break_disk(&mut self, node: usize) {
        self.nodes[node].disk.broken = true;
    }

    pub(crate) fn is_writing(&self, node: usize) -> bool {
        self.nodes[node].disk.writing.is_some()
    }

    pub(super) fn disk_failed(&mut self, node: usize) {
        self.seen("disk error");
        self.crash(node, End::PowerLost);
    }

    /// A bit of what a node that is down has on disk changes. The node's next start must refuse
    /// that; then its folder is set aside, where the others can spare it, else put right.
    pub(crate) fn rot_disk(&mut self, node: usize) {
        let spared = self.can_spare_disk(node);
        let disk = &mut self.nodes[node].disk;
        let Some(folder) = disk.folder.filter(|_| disk.writing.is_none()) else { return };
        let Some(flaw) = disk.rot(&mut self.dice) else { return };
        let refused = disk.scan(folder);
        assert!(refused.is_err(), "rot at {flaw:?} is taken for what was written");
        if spared {
            self.lose_disk(node);
        } else {
            disk.unrot(flaw);
        }
        self.seen("damage refused");
    }

    /// What a node that is down has on disk is gone for good.
    pub(crate) fn lose_disk(&mut self, node: usize) {
        self.tell(node, || "its disk is gone".into());
        self.seen("disk lost");
        self.disk_was_lost = true;
        let others = self.up().into_iter().map(|other| self.address(other)).collect();
        self.nodes[node].disk = Disk { rejoin: others, ..Disk::default() };
    }
}
