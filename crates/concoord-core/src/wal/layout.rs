//! Where each byte is. Numbers are little-endian.

use bytes::{Buf, BufMut, Bytes};

use super::{Folder, Position, VERSION};
use crate::durable::{Record, RecordKind};
use crate::planted;
use crate::view::ReplicaId;

/// Bytes that a disk writes whole or not at all. Each batch starts one, so that writing it can't
/// harm what is safe already.
pub const BLOCK: usize = 4096;

const SEGMENT_MAGIC: [u8; 8] = *b"CCRDLOG\n";
const BATCH_MAGIC: u32 = u32::from_le_bytes(*b"btch");

/// Where the checksum of a segment's first block is; it covers the rest of the block.
const START_CHECKSUM: std::ops::Range<usize> = 12..16;

/// Bytes of a batch before its records: magic, checksum, length of the records and their
/// checksum, four each.
pub(super) const BATCH_HEADER: usize = 16;

/// Bytes of a record before its payload: the payload's length (4), the kind (1), three zeros,
/// index and term (8 each).
const RECORD_HEADER: usize = 24;

/// What a segment says of itself in its first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Start {
    pub(super) version: u32,
    pub(super) folder: Folder,
    pub(super) number: u64,
    /// The bytes it was made with.
    pub(super) size: u64,
    /// Where the segment before it ended; what comes after that there is void.
    pub(super) previous: Option<Position>,
}

impl Start {
    pub(super) fn write(&self, to: &mut Vec<u8>) {
        let start = to.len();
        to.put_slice(&SEGMENT_MAGIC);
        to.put_u32_le(self.version);
        to.put_u32_le(0);
        to.put_u64_le(self.folder.replica.0);
        to.put_u64_le(self.folder.data);
        to.put_u64_le(self.number);
        to.put_u64_le(self.size);
        let previous = self.previous.unwrap_or(Position { segment: 0, offset: 0 });
        to.put_u64_le(previous.segment);
        to.put_u64_le(previous.offset);
        to.resize(start + BLOCK, 0);
        let block = to.get_mut(start..).unwrap_or_default();
        let checksum = start_checksum(block).to_le_bytes();
        block.get_mut(START_CHECKSUM).expect("within the block").copy_from_slice(&checksum);
    }

    /// What the first block of `bytes` says; `None` if it is not whole.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let block = bytes.get(..BLOCK)?;
        let mut fields = block.strip_prefix(&SEGMENT_MAGIC)?;
        let version = fields.get_u32_le();
        if fields.get_u32_le() != start_checksum(block) {
            return None;
        }
        let folder = Folder { replica: ReplicaId(fields.get_u64_le()), data: fields.get_u64_le() };
        let (number, size) = (fields.get_u64_le(), fields.get_u64_le());
        let previous = Position { segment: fields.get_u64_le(), offset: fields.get_u64_le() };
        let previous = (previous.segment > 0).then_some(previous);
        Some(Self { version, folder, number, size, previous })
    }

    pub(super) fn new(folder: Folder, number: u64, size: u64, previous: Option<Position>) -> Self {
        Self { version: VERSION, folder, number, size, previous }
    }
}

fn start_checksum(block: &[u8]) -> u32 {
    let before = block.get(..START_CHECKSUM.start).unwrap_or_default();
    let after = block.get(START_CHECKSUM.end..).unwrap_or_default();
    crc32c::crc32c_append(crc32c::crc32c(before), after)
}

/// What a batch says of itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchHeader {
    /// Bytes of its records.
    length: u32,
    /// Of the records, and of the zeros after them up to the next block.
    checksum: u32,
}

impl BatchHeader {
    /// The header at `at`, of which `bytes` are the segment's; `None` if there is none. It says
    /// nothing of the records behind it.
    pub(super) fn read(folder: Folder, at: Position, bytes: &[u8]) -> Option<Self> {
        let mut fields = bytes.get(usize::try_from(at.offset).ok()?..)?.get(..BATCH_HEADER)?;
        if fields.get_u32_le() != BATCH_MAGIC {
            return None;
        }
        let checksum = fields.get_u32_le();
        let this = Self { length: fields.get_u32_le(), checksum: fields.get_u32_le() };
        (checksum == this.own_checksum(folder, at)).then_some(this)
    }

    /// Covers where it stands too: a block that went astray does not pass.
    fn own_checksum(self, folder: Folder, at: Position) -> u32 {
        let mut bytes = [0; 32];
        let mut to = bytes.as_mut_slice();
        to.put_u64_le(folder.data);
        to.put_u64_le(at.segment);
        to.put_u64_le(at.offset);
        to.put_u32_le(self.length);
        to.put_u32_le(self.checksum);
        crc32c::crc32c(&bytes)
    }

    /// Bytes of the whole batch, up to the next block.
    pub(super) fn size(self) -> usize {
        batch_size(self.length as usize)
    }

    /// The bytes of the records, where those behind the header at `offset` are what it says.
    pub(super) fn body(self, offset: u64, bytes: &[u8]) -> Option<&[u8]> {
        let batch = bytes.get(usize::try_from(offset).ok()?..)?.get(..self.size())?;
        let padded = batch.get(BATCH_HEADER..)?;
        (crc32c::crc32c(padded) == self.checksum || planted::is("checksum-skipped"))
            .then_some(padded)?
            .get(..self.length as usize)
    }
}

/// Bytes of a batch of so many bytes of records.
pub(super) fn batch_size(length: usize) -> usize {
    (BATCH_HEADER + length).next_multiple_of(BLOCK)
}

/// Appends the batch of these records, to be written at `at`.
///
/// # Panics
/// If the records are of more than 4 GiB.
pub(super) fn write_batch<'a>(
    folder: Folder,
    at: Position,
    records: impl Iterator<Item = &'a Record>,
    to: &mut Vec<u8>,
) {
    let start = to.len();
    to.resize(start + BATCH_HEADER, 0);
    for record in records {
        write_record(record, to);
    }
    let length = to.len() - start - BATCH_HEADER;
    to.resize(start + batch_size(length), 0);
    let (header, body) = to.split_at_mut(start).1.split_at_mut(BATCH_HEADER);
    let length = u32::try_from(length).expect("who makes batches keeps to the limits");
    let this = BatchHeader { length, checksum: crc32c::crc32c(body) };
    let mut header = &mut *header;
    header.put_u32_le(BATCH_MAGIC);
    header.put_u32_le(this.own_checksum(folder, at));
    header.put_u32_le(this.length);
    header.put_u32_le(this.checksum);
}

/// Bytes of a record in a batch.
pub(super) fn record_size(record: &Record) -> usize {
    RECORD_HEADER + record.payload.len()
}

fn write_record(record: &Record, to: &mut Vec<u8>) {
    let length =
        u32::try_from(record.payload.len()).expect("who makes records keeps to the limits");
    to.put_u32_le(length);
    to.put_u8(record.kind as u8);
    to.put_bytes(0, 3);
    to.put_u64_le(record.index);
    to.put_u64_le(record.term);
    to.put_slice(&record.payload);
}

/// The records of a batch's body, appended to `to`; how many there are. `None` if it makes no
/// sense, whatever its checksum.
pub(super) fn read_records(mut body: &[u8], to: &mut Vec<Record>) -> Option<usize> {
    let before = to.len();
    while !body.is_empty() {
        let (mut header, rest) = body.split_at_checked(RECORD_HEADER)?;
        let length = header.get_u32_le() as usize;
        let kind = RecordKind::of(header.get_u8())?;
        if header.get_uint_le(3) != 0 {
            return None;
        }
        let (index, term) = (header.get_u64_le(), header.get_u64_le());
        let (payload, rest) = rest.split_at_checked(length)?;
        to.push(Record { kind, index, term, payload: Bytes::copy_from_slice(payload) });
        body = rest;
    }
    Some(to.len() - before)
}
