//! A snapshot as a file: in a data folder, and as a backup that says of itself what it is.
//!
//! ```text
//! magic 8 · version 4 · length of what it says of itself 4 · checksum 4 · what it says
//! checksum 4 · 1 MiB of the state │ … │ checksum 4 · 1 MiB of the object │ …
//! ```
//!
//! Each checksum covers all that was said before the first part, the part's number and the part:
//! none can be missing, changed, or of another snapshot. Nothing holds more than the state and
//! the object themselves.

use std::io::{self, Read, Write};

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::durable::Snapshot;
use crate::limits::SNAPSHOT_ABOUT_BYTES_MAX;
use crate::view::ClusterId;

/// The version of the format.
pub const VERSION: u32 = 1;

const MAGIC: [u8; 8] = *b"CCRDSNAP";

/// Bytes of a part.
const PART_BYTES: usize = 1 << 20;

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The object's class.
    pub class: String,
    /// See [`PeerHello::runtime`](crate::wire::PeerHello::runtime).
    pub runtime: String,
    /// The cluster, where whoever wrote it knew.
    pub cluster: Option<ClusterId>,
    /// Its lineage.
    pub lineage: u64,
    /// When it was written, milliseconds since 1970.
    pub written_ms: u64,
}

/// The first thing in the file.
#[derive(Serialize, Deserialize)]
struct Preface {
    about: About,
    index: u64,
    term: u64,
    state: u64,
    object: Option<u64>,
}

/// Why a snapshot can't be read.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// It ends early, or its bytes can't be had.
    #[error("the snapshot can't be read: {0}")]
    Io(#[from] io::Error),
    /// It is none, or not what was written.
    #[error("the snapshot is damaged in its first {0} bytes")]
    Damaged(u64),
    /// A later program wrote it.
    #[error("the snapshot is of format {0}, this program reads {VERSION}")]
    Newer(u32),
}

/// Writes a snapshot, in pieces of a mebibyte at most.
///
/// # Errors
/// Those of `to`.
///
/// # Panics
/// If what it says of itself is beyond [`SNAPSHOT_ABOUT_BYTES_MAX`].
pub fn write(about: &About, snapshot: &Snapshot, to: &mut impl Write) -> io::Result<()> {
    let Snapshot { index, term, .. } = *snapshot;
    let object = snapshot.object.as_ref().map(|object| object.len() as u64);
    let state = snapshot.state.len() as u64;
    let preface = Preface { about: about.clone(), index, term, state, object };
    let preface = postcard::to_stdvec(&preface).expect("all of its types can be encoded");
    assert!(preface.len() <= SNAPSHOT_ABOUT_BYTES_MAX, "what is said of a snapshot is short");
    let length = u32::try_from(preface.len()).expect("it is short");
    let mut header = Vec::new();
    header.put_slice(&MAGIC);
    header.put_u32_le(VERSION);
    header.put_u32_le(length);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&header), &preface);
    header.put_u32_le(checksum);
    header.put_slice(&preface);
    to.write_all(&header)?;
    let parts = snapshot.state.chunks(PART_BYTES);
    let parts = parts.chain(snapshot.object.iter().flat_map(|object| object.chunks(PART_BYTES)));
    for (number, part) in (0..).zip(parts) {
        to.write_all(&part_checksum(checksum, number, part).to_le_bytes())?;
        to.write_all(part)?;
    }
    Ok(())
}

/// Reads a snapshot, of `bytes_max` bytes at most: as many as there are.
///
/// # Errors
/// If what is there is not all that was written.
pub fn read(from: &mut impl Read, bytes_max: u64) -> Result<(About, Snapshot), SnapshotError> {
    let mut from = Source { from, bytes: 0 };
    let (preface, checksum) = from.preface()?;
    let Preface { about, index, term, state, object } = preface;
    let claimed = state.checked_add(object.unwrap_or(0));
    if claimed.is_none_or(|claimed| claimed > bytes_max) {
        return Err(from.damaged());
    }
    let mut number = 0;
    let state = from.parts(checksum, &mut number, state)?;
    let object = object.map(|bytes| from.parts(checksum, &mut number, bytes)).transpose()?;
    if from.from.read(&mut [0])? > 0 {
        return Err(from.damaged());
    }
    Ok((about, Snapshot { index, term, state, object }))
}

/// What a snapshot says of itself, without the rest.
///
/// # Errors
/// If that is not what was written.
pub fn read_about(from: &mut impl Read) -> Result<About, SnapshotError> {
    Ok(Source { from, bytes: 0 }.preface()?.0.about)
}

fn part_checksum(preface: u32, number: u64, part: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(preface, &number.to_le_bytes()), part)
}

struct Source<'a, R> {
    from: &'a mut R,
    /// Read so far.
    bytes: u64,
}

impl<R: Read> Source<'_, R> {
    fn preface(&mut self) -> Result<(Preface, u32), SnapshotError> {
        let header: [u8; 16] = self.take()?;
        let ([magic, version_and_length], _) = header.as_chunks::<8>() else {
            return Err(self.damaged());
        };
        if *magic != MAGIC {
            return Err(self.damaged());
        }
        let [v0, v1, v2, v3, l0, l1, l2, l3] = *version_and_length;
        let version = u32::from_le_bytes([v0, v1, v2, v3]);
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if version > VERSION {
            return Err(SnapshotError::Newer(version));
        }
        if version != VERSION || length > SNAPSHOT_ABOUT_BYTES_MAX {
            return Err(self.damaged());
        }
        let checksum = u32::from_le_bytes(self.take()?);
        let mut preface = vec![0; length];
        self.fill(&mut preface)?;
        if crc32c::crc32c_append(crc32c::crc32c(&header), &preface) != checksum {
            return Err(self.damaged());
        }
        let preface = postcard::from_bytes(&preface).map_err(|_| self.damaged())?;
        Ok((preface, checksum))
    }

    fn parts(
        &mut self,
        preface: u32,
        number: &mut u64,
        bytes: u64,
    ) -> Result<Bytes, SnapshotError> {
        let bytes = usize::try_from(bytes).map_err(|_| self.damaged())?;
        let mut parts = BytesMut::zeroed(bytes);
        for part in parts.chunks_mut(PART_BYTES) {
            let checksum = u32::from_le_bytes(self.take()?);
            self.fill(part)?;
            if part_checksum(preface, *number, part) != checksum {
                return Err(self.damaged());
            }
            *number += 1;
        }
        Ok(parts.freeze())
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), SnapshotError> {
        self.from.read_exact(bytes)?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    const fn damaged(&self) -> SnapshotError {
        SnapshotError::Damaged(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        About {
            class: "bank.Account".into(),
            runtime: "python 3.11".into(),
            cluster: Some(ClusterId(7)),
            lineage: 2,
            written_ms: 1_800_000_000_000,
        }
    }

    fn snapshot(state: usize, object: Option<usize>) -> Snapshot {
        let bytes = |bytes: usize| (0..bytes).map(|at| (at % 251) as u8).collect::<Bytes>();
        Snapshot { index: 9, term: 3, state: bytes(state), object: object.map(bytes) }
    }

    fn written(snapshot: &Snapshot) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(&about(), snapshot, &mut bytes).unwrap();
        bytes
    }

    fn read_back(bytes: &[u8]) -> Result<(About, Snapshot), SnapshotError> {
        read(&mut &*bytes, bytes.len() as u64)
    }

    #[test]
    fn a_snapshot_comes_back_as_it_went() {
        for (state, object) in [
            (0, None),
            (1, Some(0)),
            (PART_BYTES, Some(PART_BYTES + 1)),
            (2 * PART_BYTES - 1, Some(3 * PART_BYTES)),
        ] {
            let snapshot = snapshot(state, object);
            let bytes = written(&snapshot);
            assert_eq!(read_back(&bytes).unwrap(), (about(), snapshot));
            assert_eq!(read_about(&mut &*bytes).unwrap(), about());
        }
    }

    #[test]
    fn each_flipped_bit_each_cut_and_each_byte_too_many_is_seen() {
        let bytes = written(&snapshot(100, Some(50)));
        for at in 0..bytes.len() {
            assert!(read_back(&bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert!(read_back(&damaged).is_err(), "byte {at}, bit {bit}");
            }
        }
        assert!(read_back(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn parts_that_change_places_are_seen() {
        let bytes =
            written(&Snapshot { state: Bytes::from(vec![1; 2 * PART_BYTES]), ..snapshot(0, None) });
        let parts = bytes.len() - 2 * (PART_BYTES + 4);
        let (preface, rest) = bytes.split_at(parts);
        let (first, second) = rest.split_at(PART_BYTES + 4);
        assert!(read_back(&[preface, second, first].concat()).is_err());
        assert!(read_back(&[preface, first, second].concat()).is_ok());
    }

    #[test]
    fn a_size_beyond_what_is_there_is_refused_before_memory_is_taken() {
        let bytes = written(&snapshot(1000, None));
        assert!(matches!(read(&mut &*bytes, 999), Err(SnapshotError::Damaged(_))));
    }

    #[test]
    fn a_later_format_is_told_from_damage() {
        let mut bytes = written(&snapshot(1, None));
        bytes[8] = 2;
        assert!(matches!(read_back(&bytes), Err(SnapshotError::Newer(2))));
    }

    /// Version 1 stays readable: these bytes are on people's disks.
    #[test]
    fn the_first_version_is_these_bytes() {
        let about = About {
            class: "a.B".into(),
            runtime: "r".into(),
            cluster: None,
            lineage: 0,
            written_ms: 1,
        };
        let snapshot = Snapshot {
            index: 2,
            term: 1,
            state: Bytes::from_static(b"state"),
            object: Some(Bytes::from_static(b"object")),
        };
        let mut bytes = Vec::new();
        write(&about, &snapshot, &mut bytes).unwrap();
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "43435244534e4150010000000e0000000b9ad2f9\
             03612e4201720000010201050106\
             cfc2ddca7374617465\
             5349dc086f626a656374"
        );
    }
}
