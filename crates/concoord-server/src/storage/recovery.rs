//! What a folder holds when it is opened.

use std::fs::{self, File};
use std::io::{self, BufReader};

use concoord_core::durable::{Record, RecordKind, Recovered, Snapshot};
use concoord_core::limits::{SEGMENT_BYTES, SEGMENT_BYTES_MAX};
use concoord_core::snapshot::{self, SnapshotError};
use concoord_core::wal::{self, Log, Scan, ScanError, Writer};

use super::StorageError;
use super::disk::{Buffer, Kind, Segment, delete, read_segment, sync_folder};
use super::folder::{Folder, Identity};

/// What was found.
#[derive(Debug)]
pub(super) struct Found {
    /// `None` if nothing was ever safe.
    pub(super) recovered: Option<Recovered>,
    /// Goes on where the log ends.
    pub(super) writer: Writer,
    /// A segment that can be begun next: its number and its bytes.
    pub(super) spare: Option<(u64, u64)>,
    /// Where the snapshot stands.
    pub(super) snapshot: u64,
    /// Nothing vouches for the last batch.
    pub(super) unmarked: bool,
}

impl Found {
    pub(super) fn nothing(identity: &Identity) -> Self {
        let writer = Writer::new(identity.wal, &Log::default());
        Self { recovered: None, writer, spare: None, snapshot: 0, unmarked: false }
    }
}

/// Reads all that counts, and deletes what does not.
pub(super) fn recover(folder: &Folder, identity: &Identity) -> Result<Found, StorageError> {
    if !identity.used {
        return Ok(Found::nothing(identity));
    }
    let mut log = read_log(folder, identity.wal)?;
    let Some(snapshot) = read_snapshot(folder, &log.records)? else {
        return Ok(Found::nothing(identity));
    };
    check_reaches(folder, &snapshot, &log.records)?;
    let spare = tidy(folder, &log, snapshot.index).map_err(|error| folder.failed(error))?;
    let writer = Writer::new(identity.wal, &log);
    let records = std::mem::take(&mut log.records);
    let unmarked = log.end.is_some_and(|end| !end.marked);
    let index = snapshot.index;
    let recovered = Some(Recovered { snapshot, records });
    Ok(Found { recovered, writer, spare, snapshot: index, unmarked })
}

/// Deletes the log and the snapshots of a replica that is no more.
pub(super) fn clear(folder: &Folder) -> Result<(), StorageError> {
    let segments = folder.content()?.segments;
    let all = || {
        for index in folder.snapshots()? {
            delete(&folder.snapshot(index), Kind::Snapshot)?;
        }
        for number in segments {
            delete(&folder.segment(number), Kind::Segment)?;
        }
        sync_folder(folder.path(), Kind::Segment)
    };
    all().map_err(|error| folder.failed(error))
}

fn read_log(folder: &Folder, wal: wal::Folder) -> Result<Log, StorageError> {
    let segments = folder.content()?.segments;
    if segments.is_empty() {
        return Err(folder.damaged("the log, log-*, is missing"));
    }
    let mut scan = Scan::new(wal);
    let mut buffer = Buffer::default();
    for number in segments {
        let path = folder.segment(number);
        let size = fs::metadata(&path).map_err(|error| StorageError::io(&path, error))?.len();
        if size > SEGMENT_BYTES_MAX {
            return Err(folder.damaged(&format!("log-{number} is larger than any log of ours")));
        }
        read_segment(&path, &mut buffer)
            .map_err(|error| folder.damaged(&format!("log-{number} can't be read: {error}")))?;
        scan.segment(number, buffer.filled()).map_err(|error| match error {
            ScanError::Newer { version, .. } => {
                StorageError::Newer { folder: folder.path().into(), format: version }
            }
            ScanError::Damaged { .. } | ScanError::Missing(_) | ScanError::Foreign(_) => {
                folder.damaged(&error.to_string())
            }
        })?;
    }
    Ok(scan.finish())
}

/// The latest snapshot that can be read. One that can't be is damage, unless the one before is
/// there: it is deleted before the log behind it is.
fn read_snapshot(folder: &Folder, records: &[Record]) -> Result<Option<Snapshot>, StorageError> {
    let snapshots = folder.snapshots().map_err(|error| folder.failed(error))?;
    let mut unreadable = None;
    for index in snapshots.into_iter().rev() {
        match read_one(folder, index) {
            Ok(snapshot) => {
                if let Some(flaw) = unreadable {
                    tracing::warn!("{}: {flaw}; the one before is taken", folder.path().display());
                }
                return Ok(Some(snapshot));
            }
            Err(SnapshotError::Newer(format)) => {
                return Err(StorageError::Newer { folder: folder.path().into(), format });
            }
            Err(error) => {
                unreadable = unreadable.or_else(|| Some(format!("snapshot-{index}: {error}")));
            }
        }
    }
    match unreadable {
        Some(flaw) => Err(folder.damaged(&flaw)),
        None if records.iter().all(|record| record.kind == RecordKind::Promise) => Ok(None),
        None => Err(folder.damaged("the snapshot, snapshot-*, is missing")),
    }
}

fn read_one(folder: &Folder, index: u64) -> Result<Snapshot, SnapshotError> {
    let file = File::open(folder.snapshot(index))?;
    let bytes = file.metadata()?.len();
    let (_, snapshot) = snapshot::read(&mut BufReader::new(file), bytes)?;
    if snapshot.index != index {
        return Err(io::Error::other("it is of another index than its name says").into());
    }
    Ok(snapshot)
}

/// The log goes on where the snapshot ends, or before.
fn check_reaches(
    folder: &Folder,
    snapshot: &Snapshot,
    records: &[Record],
) -> Result<(), StorageError> {
    let mut last = snapshot.index;
    for record in records {
        let gap = match record.kind {
            RecordKind::Entry | RecordKind::Change => record.index > last + 1,
            RecordKind::Restored => record.index > snapshot.index,
            RecordKind::Promise | RecordKind::Alone => continue,
        };
        if gap {
            let index = record.index;
            let flaw = format!("the log goes on at {index}, what is before that ends at {last}");
            return Err(folder.damaged(&flaw));
        }
        last = record.index.max(snapshot.index);
    }
    Ok(())
}

/// Makes the log's end safe and says where it is cut; deletes what is void, and all snapshots but
/// the one that is taken. Returns a segment that can be begun.
fn tidy(folder: &Folder, log: &Log, snapshot: u64) -> io::Result<Option<(u64, u64)>> {
    if let Some(end) = log.end {
        if end.torn > 0 {
            let (folder, bytes) = (folder.path().display(), end.torn);
            tracing::warn!(
                "{folder}: the last write was not completed: {} and {bytes} after it are cut off, \
                 nobody was promised them",
                end.at
            );
        }
        Segment::sync(&folder.segment(end.at.segment))?;
    }
    for index in folder.snapshots()?.into_iter().filter(|index| *index != snapshot) {
        delete(&folder.snapshot(index), Kind::Snapshot)?;
    }
    sync_folder(folder.path(), Kind::Snapshot)?;
    let next = log.end.map_or(1, |end| end.at.segment + 1);
    let mut spare = None;
    // From the end, so that no crash leaves a gap.
    for void in log.void.iter().rev() {
        if void.blank && void.segment == next && void.size >= SEGMENT_BYTES {
            spare = Some((void.segment, void.size));
        } else {
            delete(&folder.segment(void.segment), Kind::Segment)?;
            sync_folder(folder.path(), Kind::Segment)?;
        }
    }
    Ok(spare)
}
