use bytes::Bytes;

use super::layout::{BATCH_HEADER, Start};
use super::*;
use crate::durable::{Record, RecordKind};
use crate::limits::SEGMENT_BYTES;

const FOLDER: Folder = Folder { replica: ReplicaId(0x1234), data: 0xfeed_beef };

/// What a disk holds: each segment's bytes, and how many of them in the current one are safe.
struct Disk {
    writer: Writer,
    segments: Vec<(u64, Vec<u8>)>,
    /// Where each batch is, and how many records there are once it is safe.
    batches: Vec<(Position, Vec<u8>, usize)>,
    records: Vec<Record>,
}

impl Disk {
    fn new() -> Self {
        Self {
            writer: Writer::new(FOLDER, &Log::default()),
            segments: Vec::new(),
            batches: Vec::new(),
            records: Vec::new(),
        }
    }

    /// As [`SEGMENT_BYTES`] is, but small.
    fn begin(&mut self, blocks: usize) {
        self.writer.begin((blocks * BLOCK) as u64);
        self.segments.push((self.writer.segment(), vec![0; blocks * BLOCK]));
    }

    fn write(&mut self, records: &[Record]) {
        if self.writer.needs(records).is_some() {
            let body: usize = records.iter().map(|record| record.payload.len() + 24).sum();
            self.begin(4 + body.div_ceil(BLOCK));
        }
        let carried = self.writer.start_is_due().then(|| self.writer.promised()).flatten();
        let mut bytes = Vec::new();
        let at = self.writer.write(records, &mut bytes);
        self.put(at, &bytes);
        self.records.extend(carried.into_iter().chain(records.iter().cloned()));
        self.batches.push((at, bytes, self.records.len()));
    }

    fn put(&mut self, at: Position, bytes: &[u8]) {
        let segment = self.segments.iter_mut().find(|(number, _)| *number == at.segment);
        let offset = usize::try_from(at.offset).unwrap();
        segment.unwrap().1[offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    fn scan(&self) -> Result<Log, ScanError> {
        scan(&self.segments)
    }
}

fn scan(segments: &[(u64, Vec<u8>)]) -> Result<Log, ScanError> {
    let mut scan = Scan::new(FOLDER);
    for (number, bytes) in segments {
        scan.segment(*number, bytes)?;
    }
    Ok(scan.finish())
}

/// `SplitMix64`.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % bound.max(1) as u64).unwrap()
    }
}

fn entry(index: u64, bytes: usize) -> Record {
    let payload = vec![u8::try_from(index % 255).unwrap() + 1; bytes].into();
    Record { kind: RecordKind::Entry, index, term: 1, payload }
}

fn record(kind: RecordKind, index: u64, term: u64) -> Record {
    Record { kind, index, term, payload: Bytes::from_static(&[7; 8]) }
}

/// A log of some segments, some batches each, of all kinds and sizes.
fn any_log(dice: &mut Dice) -> Disk {
    let mut disk = Disk::new();
    let mut index = 0;
    for _ in 0..1 + dice.below(8) {
        let mut batch = Vec::new();
        for _ in 0..dice.below(4) {
            index += 1;
            batch.push(match dice.below(6) {
                0 => record(RecordKind::Promise, index, index),
                1 => record(RecordKind::Alone, index, index),
                _ => entry(index, dice.below(2 * BLOCK)),
            });
        }
        disk.write(&batch);
    }
    disk
}

const SEEDS: u64 = 300;

#[test]
fn what_is_written_comes_back() {
    for seed in 0..SEEDS {
        let disk = any_log(&mut Dice(seed));
        let log = disk.scan().unwrap();
        assert_eq!(log.records, disk.records, "seed {seed}");
        assert_eq!(log.segments.len(), disk.segments.len());
        assert_eq!(log.end.unwrap().torn, 0);
    }
}

/// All but the last batch is vouched for by what follows it.
#[test]
fn each_flipped_bit_of_what_is_safe_is_found() {
    for seed in 0..40 {
        let mut dice = Dice(seed);
        let mut disk = any_log(&mut dice);
        disk.write(&[]);
        let (mark, ..) = *disk.batches.last().unwrap();
        for (at, bytes, _) in &disk.batches {
            // What a mark begins is no more safe than the mark itself.
            if *at == mark {
                continue;
            }
            for _ in 0..40 {
                let (byte, bit) = (dice.below(bytes.len()), dice.below(8));
                let mut segments = disk.segments.clone();
                let segment = segments.iter_mut().find(|(number, _)| *number == at.segment);
                segment.unwrap().1[usize::try_from(at.offset).unwrap() + byte] ^= 1 << bit;
                let found = scan(&segments);
                assert!(found.is_err(), "seed {seed}, {at}+{byte}, bit {bit}: {found:?}");
            }
        }
    }
}

/// The last write reaches the disk in any of its blocks, or in parts of them: what was safe
/// before is there, and the batch is, whole or not at all.
#[test]
fn a_torn_write_leaves_whole_batches() {
    for seed in 0..SEEDS {
        let mut dice = Dice(seed);
        let mut disk = any_log(&mut dice);
        let (at, bytes, records) = disk.batches.pop().unwrap();
        let safe = disk.batches.last().map_or(0, |(.., records)| *records);
        let mut torn = bytes.clone();
        for sector in torn.chunks_mut(512) {
            match dice.below(3) {
                0 => sector.fill(0),
                1 => sector
                    .iter_mut()
                    .for_each(|byte| *byte = byte.wrapping_add(dice.below(2) as u8)),
                _ => {}
            }
        }
        disk.put(at, &torn);
        let log = disk.scan().unwrap();
        let whole = torn == bytes;
        let found = log.records.len();
        assert!(found == safe || whole && found == records, "seed {seed}: {found} of {records}");
        assert_eq!(log.records, disk.records[..found]);
        assert_goes_on(disk, &log, seed);
    }
}

/// A log that goes on after a crash is read as one, and its torn part never comes back.
fn assert_goes_on(mut disk: Disk, log: &Log, seed: u64) {
    let void: Vec<_> = log.void.iter().map(|void| void.segment).collect();
    disk.segments.retain(|(number, _)| !void.contains(number));
    disk.records.truncate(log.records.len());
    disk.writer = Writer::new(FOLDER, log);
    disk.write(&[entry(1000, 10)]);
    disk.write(&[entry(1001, 10)]);
    assert_eq!(disk.scan().unwrap().records, disk.records, "seed {seed}");
}

/// The first block of a segment arrives, the batch behind it does not: what it would have carried
/// must not be lost with the segments before.
#[test]
fn a_promise_outlives_a_segment_that_was_begun_and_no_more() {
    let mut disk = Disk::new();
    disk.begin(4);
    disk.write(&[record(RecordKind::Promise, 1, 1)]);
    disk.begin(8);
    disk.write(&[entry(1, 10)]);
    let (at, bytes, _) = disk.batches.pop().unwrap();
    disk.put(at, &[&bytes[..BLOCK], &vec![0; bytes.len() - BLOCK]].concat());
    disk.records.truncate(1);

    let log = disk.scan().unwrap();
    assert_eq!(log.void.iter().map(|void| void.segment).collect::<Vec<_>>(), [2]);
    disk.segments.pop();
    disk.writer = Writer::new(FOLDER, &log);
    assert_eq!(disk.writer.cut(5), [0; 0]);
    disk.begin(8);
    disk.write(&[entry(1, 10)]);
    assert_eq!(disk.writer.cut(5), [1]);
    disk.segments.remove(0);
    assert_eq!(disk.scan().unwrap().records, [record(RecordKind::Promise, 1, 1), entry(1, 10)]);
    disk.segments[0].1[BLOCK] ^= 1;
    assert!(matches!(disk.scan(), Err(ScanError::Damaged { .. })), "it was safe, since 1 is gone");
}

#[test]
fn a_torn_tail_is_left_as_it_is_and_the_next_segment_says_where_it_began() {
    let mut disk = Disk::new();
    disk.begin(16);
    disk.write(&[entry(1, 10)]);
    disk.write(&[entry(2, 5000)]);
    let (torn, ..) = disk.batches[1];
    disk.segments[0].1[usize::try_from(torn.offset).unwrap() + BLOCK] ^= 1;
    let log = disk.scan().unwrap();
    assert_eq!(log.records, [entry(1, 10)]);
    assert_eq!(log.end.unwrap().at, torn);
    assert!(log.end.unwrap().torn > BLOCK as u64);

    disk.writer = Writer::new(FOLDER, &log);
    let next = disk.writer.needs(&[]).unwrap();
    assert_eq!(next, Next { segment: 2, bytes: SEGMENT_BYTES });
    disk.write(&[entry(2, 20)]);
    // Should the bit flip back, the batch would be whole; it is void all the same.
    disk.segments[0].1[usize::try_from(torn.offset).unwrap() + BLOCK] ^= 1;
    assert_eq!(disk.scan().unwrap().records, [entry(1, 10), entry(2, 20)]);
}

#[test]
fn a_log_that_ends_well_goes_on_in_its_segment() {
    let mut disk = Disk::new();
    disk.begin(16);
    disk.write(&[entry(1, 10)]);
    let log = disk.scan().unwrap();
    disk.writer = Writer::new(FOLDER, &log);
    disk.write(&[entry(2, 10)]);
    assert_eq!(disk.segments.len(), 1);
    assert_eq!(disk.scan().unwrap().records, disk.records);
}

#[test]
fn a_segment_that_was_made_and_not_begun_is_blank() {
    let mut disk = Disk::new();
    disk.write(&[entry(1, 10)]);
    disk.segments.push((2, vec![0; 8 * BLOCK]));
    let log = disk.scan().unwrap();
    assert_eq!(log.void, [Void { segment: 2, size: 8 * BLOCK as u64, blank: true }]);
    assert_eq!(log.records, [entry(1, 10)]);
}

#[test]
fn blocks_from_elsewhere_are_none_of_the_log() {
    let mut disk = Disk::new();
    disk.begin(16);
    disk.write(&[entry(1, 10)]);
    disk.write(&[entry(2, 10)]);
    let second = disk.batches[1].1.clone();
    // The same bytes a block further, where a batch would come next.
    let at = Position { segment: 1, offset: 3 * BLOCK as u64 };
    disk.put(at, &second);
    let log = disk.scan().unwrap();
    assert_eq!((log.records.len(), log.end.unwrap().at), (2, at));
    // At its place, in a segment of another number; and in one of another folder.
    for (folder, number) in [(FOLDER, 2), (Folder { data: 1, ..FOLDER }, 1)] {
        let mut other = Vec::new();
        Start::new(folder, number, 8 * BLOCK as u64, None).write(&mut other);
        other.resize(8 * BLOCK, 0);
        other[BLOCK..2 * BLOCK].copy_from_slice(&disk.batches[0].1[BLOCK..]);
        let mut scan = Scan::new(folder);
        scan.segment(number, &other).unwrap();
        assert_eq!(scan.finish().records, []);
    }
}

/// A client can't have a batch made up: it does not know the folder's number.
#[test]
fn what_a_payload_holds_is_no_batch() {
    let mut forged = Vec::new();
    let mut other = Writer::new(Folder { data: 0, ..FOLDER }, &Log::default());
    other.begin(8 * BLOCK as u64);
    other.write(&[entry(1, 1)], &mut forged);
    let mut disk = Disk::new();
    disk.begin(16);
    let mut payload = vec![0; BLOCK - BATCH_HEADER - 24];
    payload.extend(&forged[BLOCK..]);
    let carrier = Record { payload: payload.into(), ..entry(1, 0) };
    disk.write(&[carrier]);
    disk.segments[0].1[BLOCK] ^= 1;
    assert_eq!(disk.scan().unwrap().records, []);
}

#[test]
fn a_log_of_nothing_but_zeros_is_empty() {
    let log = scan(&[(1, vec![0; 8 * BLOCK])]).unwrap();
    assert_eq!((log.records.len(), log.end), (0, None));
    assert!(log.void[0].blank);
}

#[test]
fn a_segment_that_is_missing_moved_short_or_of_the_future_is_refused() {
    let mut disk = Disk::new();
    for index in 1..=3 {
        disk.begin(4);
        disk.write(&[entry(index, 10)]);
    }
    let mut segments = disk.segments.clone();
    segments.remove(1);
    assert_eq!(scan(&segments), Err(ScanError::Missing(2)));

    // One that was made ahead does not hide that those before it are gone.
    let blank = vec![0; 4 * BLOCK];
    assert_eq!(scan(&[(4, blank.clone())]), Err(ScanError::Missing(1)));
    let mut segments = disk.segments.clone();
    segments.push((5, blank));
    assert_eq!(scan(&segments), Err(ScanError::Missing(4)));

    let mut segments = disk.segments.clone();
    segments[2].0 = 4;
    assert_eq!(scan(&segments), Err(ScanError::Foreign(4)));

    let mut segments = disk.segments.clone();
    segments[1].1.truncate(3 * BLOCK);
    assert!(matches!(scan(&segments), Err(ScanError::Damaged { .. })));

    let mut bytes = Vec::new();
    let start = Start::new(FOLDER, 1, BLOCK as u64, None);
    Start { version: 2, ..start }.write(&mut bytes);
    assert_eq!(scan(&[(1, bytes)]), Err(ScanError::Newer { segment: 1, version: 2 }));
}

#[test]
fn a_later_segment_vouches_for_the_last_batch_of_the_one_before() {
    let mut disk = Disk::new();
    disk.begin(4);
    disk.write(&[entry(1, 10)]);
    disk.begin(4);
    disk.write(&[entry(2, 10)]);
    disk.segments[0].1[BLOCK..].fill(0);
    let at = Position { segment: 1, offset: BLOCK as u64 };
    assert!(matches!(disk.scan(), Err(ScanError::Damaged { at: found, .. }) if found == at));
}

#[test]
fn any_bytes_are_read_without_panic() {
    for seed in 0..SEEDS {
        let mut dice = Dice(seed);
        let mut disk = any_log(&mut dice);
        for (_, bytes) in &mut disk.segments {
            for _ in 0..dice.below(4) {
                let from = dice.below(bytes.len());
                let to = (from + dice.below(2 * BLOCK)).min(bytes.len());
                for byte in &mut bytes[from..to] {
                    *byte = dice.below(256) as u8;
                }
            }
        }
        drop(disk.scan());
    }
}

#[test]
fn segments_that_a_snapshot_stands_for_are_cut_in_order() {
    let mut disk = Disk::new();
    for index in 1..=4 {
        disk.begin(4);
        disk.write(&[entry(index, 10)]);
    }
    assert_eq!(disk.writer.cut(0), [0; 0]);
    assert_eq!(disk.writer.cut(2), [1, 2]);
    // The last is never cut: the log goes on there.
    assert_eq!(disk.writer.cut(9), [3]);
    assert_eq!(disk.writer.cut(9), [0; 0]);
}

#[test]
fn entries_that_were_written_over_are_not_needed() {
    let mut disk = Disk::new();
    disk.begin(4);
    disk.write(&[entry(9, 10)]);
    disk.begin(4);
    disk.write(&[entry(5, 10)]);
    assert_eq!(disk.writer.cut(3), [0; 0]);
    assert_eq!(disk.writer.cut(4), [1]);
}

#[test]
fn a_log_that_begins_anew_needs_nothing_before() {
    let mut disk = Disk::new();
    disk.begin(4);
    disk.write(&[entry(9, 10)]);
    disk.begin(4);
    disk.write(&[record(RecordKind::Restored, 20, 2)]);
    assert_eq!(disk.writer.cut(20), [1]);
}

#[test]
fn that_it_went_on_alone_is_kept_until_a_snapshot_knows() {
    let mut disk = Disk::new();
    disk.begin(4);
    disk.write(&[entry(5, 10), record(RecordKind::Alone, 5, 2)]);
    disk.begin(4);
    disk.write(&[entry(6, 10)]);
    disk.begin(4);
    disk.write(&[entry(7, 10)]);
    // That snapshot may have been taken before.
    assert_eq!(disk.writer.cut(5), [0; 0]);
    assert_eq!(disk.writer.cut(6), [1, 2]);
}

#[test]
fn a_promise_outlives_its_segment() {
    let mut disk = Disk::new();
    let promise = record(RecordKind::Promise, 1, 8);
    disk.begin(4);
    disk.write(&[promise.clone(), entry(1, 10)]);
    disk.begin(4);
    disk.write(&[entry(2, 10)]);
    assert_eq!(disk.writer.cut(1), [1]);
    disk.segments.remove(0);
    let log = disk.scan().unwrap();
    assert_eq!(log.records, [promise, entry(2, 10)]);
    // The same after a restart, and an older one does not undo what came later.
    disk.writer = Writer::new(FOLDER, &log);
    disk.write(&[record(RecordKind::Alone, 2, 9)]);
    disk.begin(4);
    disk.write(&[]);
    let last = disk.scan().unwrap().records.pop().unwrap();
    let promised = Bytes::from_static(&[0; 8]);
    assert_eq!(last, Record { kind: RecordKind::Promise, index: 2, term: 9, payload: promised });
}

#[test]
fn a_log_that_ends_with_a_mark_is_told_from_one_that_does_not() {
    let mut disk = Disk::new();
    disk.write(&[entry(1, 10)]);
    assert!(!disk.scan().unwrap().end.unwrap().marked);
    disk.write(&[]);
    assert!(disk.scan().unwrap().end.unwrap().marked);
}

#[test]
fn a_batch_beyond_a_segment_gets_a_larger_one() {
    let mut disk = Disk::new();
    let large = entry(1, usize::try_from(SEGMENT_BYTES).unwrap());
    let next = disk.writer.needs(std::slice::from_ref(&large)).unwrap();
    assert!(next.bytes > SEGMENT_BYTES);
    disk.writer.begin(next.bytes);
    disk.segments.push((1, vec![0; usize::try_from(next.bytes).unwrap()]));
    disk.write(std::slice::from_ref(&large));
    assert_eq!(disk.scan().unwrap().records, [large]);
}

/// Version 1 stays readable: these bytes are on people's disks.
#[test]
fn the_first_version_is_these_bytes() {
    let mut disk = Disk::new();
    disk.begin(3);
    disk.write(&[entry(1, 2), record(RecordKind::Promise, 1, 2)]);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let bytes = &disk.segments[0].1;
    assert_eq!(
        hex(&bytes[..64]),
        "434352444c4f470a01000000dcdb20693412000000000000efbeedfe00000000\
         0100000000000000003000000000000000000000000000000000000000000000"
    );
    assert_eq!(
        hex(&bytes[BLOCK..BLOCK + 74]),
        "627463681c25c6283a0000000b756c72\
         0200000001000000010000000000000001000000000000000202\
         080000000200000001000000000000000200000000000000\
         0707070707070707"
    );
    assert!(bytes[64..BLOCK].iter().chain(&bytes[BLOCK + 74..]).all(|byte| *byte == 0));
}

/// A crash while a segment is begun, and another one before anything is written after it.
#[test]
fn a_promise_outlives_two_crashes_and_the_segment_after_it() {
    let mut disk = Disk::new();
    disk.begin(4);
    disk.write(&[record(RecordKind::Promise, 1, 9), entry(1, 10)]);
    disk.begin(4);
    let mut bytes = Vec::new();
    let at = disk.writer.write(&[entry(2, 10)], &mut bytes);
    disk.put(at, &bytes[..BLOCK]);
    let log = disk.scan().unwrap();
    let gone = Writer::new(FOLDER, &log).cut(1);
    disk.segments.retain(|(number, _)| !gone.contains(number));
    let log = disk.scan().unwrap();
    assert!(log.records.iter().any(|record| record.kind == RecordKind::Promise), "{log:?}");
}
