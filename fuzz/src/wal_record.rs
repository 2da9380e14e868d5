//! The log's smallest parts: records, and the batches that carry them.

use bytes::{BufMut, Bytes};
use concoord_core::durable::{Record, RecordKind};
use concoord_core::view::ReplicaId;
use concoord_core::wal::{BLOCK, Folder, Log, Position, Scan, ScanError, Writer};

use super::input::Input;

pub(crate) const FOLDER: Folder = Folder { replica: ReplicaId(0x1234), data: 0xfeed_beef };

/// Bytes of a batch's header.
const HEADER: usize = 16;

/// A batch comes back as it was written; one that holds anything at all, under a right checksum,
/// is read as records or refused; and so is a segment of any bytes.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    match input.below(3) {
        0 => written(&mut input),
        1 => forged(&mut input),
        _ => drop(scan(input.rest())),
    }
}

fn scan(segment: &[u8]) -> Result<Log, ScanError> {
    let mut scan = Scan::new(FOLDER);
    scan.segment(1, segment)?;
    Ok(scan.finish())
}

/// A record of any kind.
pub(crate) fn record(input: &mut Input<'_>) -> Record {
    let kind = RecordKind::of(1 + (input.byte() % 5)).expect("there are five");
    let (index, term) = (input.any_number(), input.any_number());
    let length = [input.below(64), input.below(3 * BLOCK)][input.below(2)];
    Record { kind, index, term, payload: Bytes::from(vec![input.byte(); length]) }
}

/// A segment of this one batch, and zeros after it.
fn written(input: &mut Input<'_>) {
    let records: Vec<_> = (0..input.below(8)).map(|_| record(input)).collect();
    let segment = segment_of(&records);
    let log = scan(&segment).expect("it is whole");
    assert_eq!(log.records, records);
    assert_eq!(log.segments, [(1, records.len())]);
    let end = log.end.expect("it has begun");
    assert_eq!((end.torn, end.size), (0, segment.len() as u64));
    assert_eq!(end.at.offset, (segment.len() - BLOCK) as u64);
}

fn segment_of(records: &[Record]) -> Vec<u8> {
    let mut writer = Writer::new(FOLDER, &Log::default());
    let bytes = writer.size(records) + BLOCK;
    writer.begin(bytes as u64);
    let mut segment = Vec::new();
    assert_eq!(writer.write(records, &mut segment), Position { segment: 1, offset: 0 });
    segment.resize(bytes, 0);
    segment
}

/// A batch of that body, which no one wrote, with all checksums right.
fn forged(input: &mut Input<'_>) {
    let body = input.rest();
    let mut padded = body.to_vec();
    padded.resize((HEADER + body.len()).next_multiple_of(BLOCK) - HEADER, 0);
    let checksum = crc32c::crc32c(&padded);
    let length = u32::try_from(body.len()).expect("inputs are small");
    let mut covered = Vec::new();
    covered.put_u64_le(FOLDER.data);
    covered.put_u64_le(1);
    // Behind the segment's first block, and a batch that is empty.
    covered.put_u64_le(2 * BLOCK as u64);
    covered.put_u32_le(length);
    covered.put_u32_le(checksum);
    let mut segment = segment_of(&[]);
    segment.truncate(2 * BLOCK);
    segment.put_slice(b"btch");
    segment.put_u32_le(crc32c::crc32c(&covered));
    segment.put_u32_le(length);
    segment.put_u32_le(checksum);
    segment.put_slice(&padded);
    match scan(&segment) {
        Ok(log) => {
            let held: usize = log.records.iter().map(|record| 24 + record.payload.len()).sum();
            assert_eq!(held, body.len(), "each byte is of a record");
            assert_eq!(log.end.expect("it has begun").at.offset, segment.len() as u64);
        }
        Err(error) => {
            assert!(
                matches!(error, ScanError::Damaged { at, .. } if at.offset == 2 * BLOCK as u64)
            );
        }
    }
}
