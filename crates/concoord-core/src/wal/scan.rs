//! From bytes to records.

use super::layout::{BATCH_HEADER, BLOCK, BatchHeader, Start, read_records};
use super::{Folder, Position, VERSION};
use crate::durable::Record;
use crate::planted;

/// Why a log is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// What was safe once is not there any more.
    #[error("the log is damaged ({at}): {flaw}")]
    Damaged {
        /// Where.
        at: Position,
        /// What.
        flaw: &'static str,
    },
    /// A segment is not there.
    #[error("log-{0} is missing")]
    Missing(u64),
    /// A segment is of another folder or has another's name.
    #[error("log-{0} is none of this folder's: it was moved or copied here")]
    Foreign(u64),
    /// A later program wrote it.
    #[error("log-{segment} is of format {version}, this program reads {VERSION}")]
    Newer {
        /// Which.
        segment: u64,
        /// Its format.
        version: u32,
    },
}

/// A log as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The records, in order.
    pub records: Vec<Record>,
    /// The segments, and how many of the records each holds.
    pub segments: Vec<(u64, usize)>,
    /// Where it ends; `None` if it has not begun.
    pub end: Option<End>,
    /// Segments after that, without a gap: nothing in them was ever safe. To be deleted before
    /// the log goes on, the last one first, but for one that is begun next.
    pub void: Vec<Void>,
}

/// Where a log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End {
    /// The first byte after it.
    pub at: Position,
    /// Bytes of the segment.
    pub size: u64,
    /// Bytes from there on that are something and no batch: a torn tail. 0 if all are zero.
    pub torn: u64,
    /// Whether something vouches for the last batch that holds records.
    pub marked: bool,
}

/// A segment in which nothing was ever safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Void {
    /// Its number.
    pub segment: u64,
    /// Its bytes.
    pub size: u64,
    /// Whether all of it is zero: then it can be begun.
    pub blank: bool,
}

/// Reads a log, segment by segment.
#[derive(Debug)]
pub struct Scan {
    folder: Folder,
    log: Log,
    /// The segment read last: the one after it has a say in where it ends.
    last: Option<Read>,
}

#[derive(Debug)]
struct Read {
    number: u64,
    size: u64,
    records: Vec<Record>,
    /// Where each batch ends, and how many records there are up to there.
    ends: Vec<(u64, usize)>,
    torn: u64,
}

impl Scan {
    /// Begins.
    #[must_use]
    pub fn new(folder: Folder) -> Self {
        Self { folder, log: Log::default(), last: None }
    }

    /// Takes in the bytes of the segment of that number. They come in the order of the numbers.
    ///
    /// # Errors
    /// If what was safe is not there any more, here or in the segment before.
    pub fn segment(&mut self, number: u64, bytes: &[u8]) -> Result<(), ScanError> {
        let Some(start) = Start::read(bytes) else {
            return self.without_start(number, bytes);
        };
        let segment = number;
        if start.version != VERSION {
            return Err(ScanError::Newer { segment, version: start.version });
        }
        if start.folder != self.folder || start.number != number {
            return Err(ScanError::Foreign(number));
        }
        if (bytes.len() as u64) < start.size {
            let flaw = "the file is shorter than it was made";
            return Err(damaged(number, bytes.len() as u64, flaw));
        }
        if let Some(void) = self.log.void.first() {
            return Err(damaged(void.segment, 0, "a later segment was written after this one"));
        }
        let read = self.batches(number, bytes)?;
        let end = self.check_last(number, start.previous)?;
        if read.ends.is_empty() && start.previous.is_some() {
            // The start came without the batch that is written together with it, and that carries
            // what was promised before.
            if self.last.is_none() {
                return Err(damaged(number, read.end(), "what was written here is not there"));
            }
            return self.void(number, bytes);
        }
        if let (Some(mut last), Some(end)) = (self.last.take(), end) {
            last.cut(end);
            self.take(last);
        }
        self.last = Some(read);
        Ok(())
    }

    /// The log, once all segments are in.
    #[must_use]
    pub fn finish(mut self) -> Log {
        if let Some(last) = self.last.take() {
            let at = Position { segment: last.number, offset: last.end() };
            let (size, torn, marked) = (last.size, last.torn, last.is_marked());
            self.log.end = Some(End { at, size, torn, marked });
            self.take(last);
        }
        self.log
    }

    /// The start is written together with the first batch: only a second one proves that it was
    /// safe.
    fn without_start(&mut self, number: u64, bytes: &[u8]) -> Result<(), ScanError> {
        if self.has_batch(number, 2 * BLOCK, bytes) {
            return Err(damaged(number, 0, "its first block is not what was written"));
        }
        self.void(number, bytes)
    }

    /// Nothing in this segment was ever safe.
    fn void(&mut self, number: u64, bytes: &[u8]) -> Result<(), ScanError> {
        let next = self.last.as_ref().map_or(1, |last| last.number + 1);
        let next = next + self.log.void.len() as u64;
        if number != next {
            return Err(ScanError::Missing(next));
        }
        let blank = bytes.iter().all(|byte| *byte == 0);
        self.log.void.push(Void { segment: number, size: bytes.len() as u64, blank });
        Ok(())
    }

    /// Where the segment before `number` ended, as this one says; `None` if this one is the first.
    fn check_last(
        &self,
        number: u64,
        previous: Option<Position>,
    ) -> Result<Option<u64>, ScanError> {
        let Some(last) = &self.last else { return Ok(None) };
        let Some(end) = previous.filter(|end| end.segment == last.number) else {
            return Err(ScanError::Missing(previous.map_or(number - 1, |end| end.segment)));
        };
        if end.offset > last.end() {
            return Err(damaged(last.number, last.end(), "what was written here is not there"));
        }
        Ok(Some(end.offset))
    }

    fn take(&mut self, mut segment: Read) {
        self.log.segments.push((segment.number, segment.records.len()));
        self.log.records.append(&mut segment.records);
    }

    fn batches(&self, number: u64, bytes: &[u8]) -> Result<Read, ScanError> {
        let size = bytes.len() as u64;
        let mut read = Read { number, size, records: Vec::new(), ends: Vec::new(), torn: 0 };
        loop {
            let at = Position { segment: number, offset: read.end() };
            let header = BatchHeader::read(self.folder, at, bytes);
            let batch = header.and_then(|header| Some((header, header.body(at.offset, bytes)?)));
            let Some((header, body)) = batch else {
                if let Some(header) = header.filter(|_| planted::is("torn-tail-taken")) {
                    read_whole(header, at.offset, bytes, &mut read.records);
                }
                break;
            };
            if read_records(body, &mut read.records).is_none() {
                return Err(damaged(number, at.offset, "a batch holds what is no record"));
            }
            read.ends.push((at.offset + header.size() as u64, read.records.len()));
        }
        let end = usize::try_from(read.end()).unwrap_or(usize::MAX);
        if self.has_batch(number, end + BLOCK, bytes) {
            return Err(damaged(number, read.end(), "what was written here is not there"));
        }
        let rest = bytes.get(end..).unwrap_or_default();
        let torn = rest.iter().rposition(|byte| *byte != 0);
        read.torn = torn.map_or(0, |last| last as u64 + 1);
        Ok(read)
    }

    /// Whether a batch starts at `from` or later. By rule 1 of the log all before it was safe.
    fn has_batch(&self, segment: u64, from: usize, bytes: &[u8]) -> bool {
        (from..bytes.len()).step_by(BLOCK).any(|offset| {
            let at = Position { segment, offset: offset as u64 };
            BatchHeader::read(self.folder, at, bytes).is_some()
        })
    }
}

impl Read {
    fn end(&self) -> u64 {
        self.ends.last().map_or(BLOCK as u64, |(end, _)| *end)
    }

    /// Whether the last batch holds nothing.
    fn is_marked(&self) -> bool {
        let mut records = self.ends.iter().rev().map(|(_, records)| *records);
        records.next().unwrap_or(0) == records.next().unwrap_or(0)
    }

    /// Forgets what comes after `end`.
    fn cut(&mut self, end: u64) {
        while self.ends.pop_if(|(batch, _)| *batch > end).is_some() {}
        self.records.truncate(self.ends.last().map_or(0, |(_, records)| *records));
    }
}

/// The records of a batch that is not whole.
fn read_whole(header: BatchHeader, offset: u64, bytes: &[u8], to: &mut Vec<Record>) {
    let from = usize::try_from(offset).unwrap_or(usize::MAX).saturating_add(BATCH_HEADER);
    let to_end = header.size() - BATCH_HEADER;
    let body = bytes.get(from..).and_then(|rest| rest.get(..to_end)).unwrap_or_default();
    // It says how many there are up to where it makes sense no more.
    let _: Option<usize> = read_records(body, to);
}

const fn damaged(segment: u64, offset: u64, flaw: &'static str) -> ScanError {
    ScanError::Damaged { at: Position { segment, offset }, flaw }
}
