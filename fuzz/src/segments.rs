//! A log of several segments, damaged: what is found is what was written, or the log is refused.

use bytes::Bytes;
use concoord_core::durable::{Record, RecordKind};
use concoord_core::wal::{BLOCK, Log, Position, Scan, ScanError, Writer};

use super::input::Input;
use super::wal_record::{FOLDER, record};

/// Bytes of a batch's header.
const HEADER: usize = 16;

/// A log is written, with crashes and what they tear; then it is damaged, and read again.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let mut disk = Disk::new();
    for _ in 0..=input.below(12) {
        let step = input.below(8);
        if step == 7 {
            disk.cut(input.any_number());
            continue;
        }
        let records: Vec<_> = (0..input.below(4)).map(|_| record(&mut input)).collect();
        disk.write(&records);
        if step > 4 {
            disk.crash(&mut input);
        }
    }
    assert_eq!(scan(&disk.segments).expect("nothing is damaged").records, disk.records());
    let damage = Damage::of(&disk, &mut input);
    if !disk.is_untorn(&damage.segments) {
        judge(disk, &damage);
    }
}

type Segments = Vec<(u64, Vec<u8>)>;

fn scan(segments: &Segments) -> Result<Log, ScanError> {
    let mut scan = Scan::new(FOLDER);
    for (number, bytes) in segments {
        scan.segment(*number, bytes)?;
    }
    Ok(scan.finish())
}

/// What was written with one write.
struct Batch {
    at: Position,
    bytes: Vec<u8>,
    records: Vec<Record>,
}

impl Batch {
    /// With the first block of its segment, where it is the first.
    fn begins_segment(&self) -> bool {
        self.at.offset == 0
    }

    fn end(&self) -> Position {
        Position { offset: self.at.offset + self.bytes.len() as u64, ..self.at }
    }

    /// Whether it can be seen that it was written: by rule 1 of the log, all before it was safe.
    fn vouches(&self, segments: &Segments) -> bool {
        let bytes = if self.begins_segment() { BLOCK } else { HEADER };
        let there = segments.iter().find(|(number, _)| *number == self.at.segment);
        there.is_some_and(|(_, all)| {
            let there = all.get(place(self.at)..).and_then(|all| all.get(..bytes));
            there == self.bytes.get(..bytes)
        })
    }
}

fn place(at: Position) -> usize {
    usize::try_from(at.offset).expect("segments are small here")
}

/// What a disk holds, and what it was promised to.
struct Disk {
    writer: Writer,
    segments: Segments,
    batches: Vec<Batch>,
    /// What did not get there whole.
    torn: Vec<Batch>,
    begins: bool,
}

impl Disk {
    fn new() -> Self {
        let writer = Writer::new(FOLDER, &Log::default());
        Self { writer, segments: vec![], batches: vec![], torn: vec![], begins: false }
    }

    fn records(&self) -> Vec<Record> {
        self.batches.iter().flat_map(|batch| batch.records.iter().cloned()).collect()
    }

    fn write(&mut self, records: &[Record]) {
        if self.writer.needs(records).is_some() {
            let bytes = self.writer.size(records).next_multiple_of(BLOCK) + 3 * BLOCK;
            self.writer.begin(bytes as u64);
            self.segments.push((self.writer.segment(), vec![0; bytes]));
            self.begins = true;
        }
        let carried = if self.begins { promise(&self.records()) } else { None };
        self.begins = false;
        let mut bytes = Vec::new();
        let at = self.writer.write(records, &mut bytes);
        self.put(at, &bytes);
        let records = carried.into_iter().chain(records.iter().cloned()).collect();
        self.batches.push(Batch { at, bytes, records });
    }

    fn put(&mut self, at: Position, bytes: &[u8]) {
        let segment = self.segments.iter_mut().find(|(number, _)| *number == at.segment);
        let (_, all) = segment.expect("it was begun");
        all[place(at)..][..bytes.len()].copy_from_slice(bytes);
    }

    /// Of the last write only some blocks get there; then the log is read and goes on.
    fn crash(&mut self, input: &mut Input<'_>) {
        let Some(last) = self.batches.pop() else { return };
        let mut bytes = last.bytes.clone();
        for block in bytes.chunks_mut(BLOCK) {
            if input.below(2) == 0 {
                block.fill(0);
            }
        }
        self.put(last.at, &bytes);
        if bytes == last.bytes {
            self.batches.push(last);
        } else {
            self.torn.push(last);
        }
        let log = scan(&self.segments).expect("a torn tail is no damage");
        assert_eq!(log.records, self.records());
        self.go_on(&log);
    }

    fn go_on(&mut self, log: &Log) {
        let is_void = |number| log.void.iter().any(|void| void.segment == number);
        self.segments.retain(|(number, _)| !is_void(*number));
        self.writer = Writer::new(FOLDER, log);
    }

    /// There is a snapshot at that index: what it stands for is deleted, and no promise with it.
    fn cut(&mut self, index: u64) {
        let promised = promise(&self.records());
        let cut = self.writer.cut(index);
        assert!(self.segments.iter().zip(&cut).all(|((number, _), cut)| number == cut));
        self.segments.drain(..cut.len());
        self.batches.retain(|batch| !cut.contains(&batch.at.segment));
        self.torn.retain(|batch| !cut.contains(&batch.at.segment));
        assert_eq!(promise(&self.records()), promised);
    }

    /// Whether damage has made whole again what was torn, as no disk would.
    fn is_untorn(&self, segments: &Segments) -> bool {
        self.torn.iter().any(|torn| {
            let there = segments.iter().find(|(number, _)| *number == torn.at.segment);
            there.is_some_and(|(_, all)| {
                let there = all.get(place(torn.at)..).unwrap_or_default();
                there.starts_with(&torn.bytes)
            })
        })
    }
}

/// What was promised last.
fn promise(records: &[Record]) -> Option<Record> {
    let is_one = |record: &&Record| matches!(record.kind, RecordKind::Promise | RecordKind::Alone);
    let last = records.iter().rev().find(is_one)?.clone();
    Some(match last.kind {
        RecordKind::Promise => last,
        // To go on alone, in that term, is to vote for nobody in it.
        _ => Record { kind: RecordKind::Promise, payload: Bytes::from_static(&[0; 8]), ..last },
    })
}

/// What became of the segments.
struct Damage {
    segments: Segments,
    /// Only bytes of the last batch have changed.
    is_torn_tail: bool,
}

impl Damage {
    fn of(disk: &Disk, input: &mut Input<'_>) -> Self {
        let mut segments = disk.segments.clone();
        let mut is_torn_tail = true;
        for _ in 0..input.below(5) {
            if segments.is_empty() {
                break;
            }
            let (which, other) = (input.below(segments.len()), input.below(segments.len()));
            let (_, bytes) = &mut segments[which];
            let (at, block) = (input.below(bytes.len()), input.below(bytes.len() / BLOCK));
            match input.below(6) {
                0 | 1 => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte ^= input.byte();
                    }
                    continue;
                }
                2 => {
                    bytes.iter_mut().skip(block * BLOCK).take(BLOCK).for_each(|byte| *byte = 0);
                    continue;
                }
                3 => bytes.truncate(at),
                // Without its first segment a log is that of a replica which has a snapshot.
                4 if which > 0 => drop(segments.remove(which)),
                4 => {}
                _ => {
                    let from: Vec<_> = segments[other].1.iter().copied().take(BLOCK).collect();
                    let to = segments[which].1.iter_mut().skip(block * BLOCK);
                    to.zip(from).for_each(|(to, from)| *to = from);
                }
            }
            is_torn_tail = false;
        }
        is_torn_tail = is_torn_tail && is_mended_by_last(disk, &segments);
        Self { segments, is_torn_tail }
    }
}

/// Whether nothing but the last batch has changed, and nothing vouches for that one: neither what
/// arrived of a torn one behind it, nor that what was before it is deleted.
fn is_mended_by_last(disk: &Disk, segments: &Segments) -> bool {
    let Some(last) = disk.batches.last() else { return *segments == disk.segments };
    let is_alone = disk.batches.len() == 1 && last.at.segment > 1;
    if is_alone || disk.torn.iter().any(|torn| torn.at > last.at) {
        return *segments == disk.segments;
    }
    let mut mended = segments.clone();
    let there = mended.iter_mut().find(|(number, _)| *number == last.at.segment);
    let (_, all) = there.expect("none was taken away");
    all[place(last.at)..][..last.bytes.len()].copy_from_slice(&last.bytes);
    mended == disk.segments
}

/// Whole batches from the beginning on are found, and none that anything vouches for is missed.
fn judge(mut disk: Disk, damage: &Damage) {
    let log = match scan(&damage.segments) {
        Ok(log) => log,
        Err(error) => {
            assert!(!damage.is_torn_tail, "{error}");
            assert_ne!(damage.segments, disk.segments, "{error}");
            return;
        }
    };
    let is_found = |batch: &Batch| log.end.is_some_and(|end| batch.end() <= end.at);
    let found = disk.batches.iter().take_while(|batch| is_found(batch)).count();
    for missed in disk.batches.iter().skip(found + 1) {
        assert!(!missed.vouches(&damage.segments), "{} vouches for what is missed", missed.at);
    }
    disk.batches.truncate(found);
    assert_eq!(log.records, disk.records());
    disk.segments.clone_from(&damage.segments);
    disk.go_on(&log);
    disk.write(&[]);
    disk.write(&[Record { kind: RecordKind::Entry, index: 1, term: 1, payload: Bytes::new() }]);
    assert_eq!(scan(&disk.segments).expect("it goes on").records, disk.records());
}
