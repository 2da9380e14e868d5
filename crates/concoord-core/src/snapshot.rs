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

use crate::durable::{Digest, Snapshot};
use crate::limits::SNAPSHOT_ABOUT_BYTES_MAX;
use crate::view::ClusterId;
use crate::wire::Parcel;

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
    let mut parts = Parts::begin(&preface, to)?;
    parts.push(&snapshot.state)?;
    snapshot.object.iter().try_for_each(|object| parts.push(object))
}

/// Writes a snapshot as its bytes come, the state and then the object, and holds a mebibyte of
/// them.
pub struct Writer<W> {
    parts: Parts<W>,
    digest: Digest,
    /// Bytes of the state that are still to come.
    state: u64,
    parcel: Parcel,
}

impl<W: Write> Writer<W> {
    /// Of what that parcel announces.
    ///
    /// # Errors
    /// Those of `to`.
    ///
    /// # Panics
    /// If what it says of itself is beyond [`SNAPSHOT_ABOUT_BYTES_MAX`].
    pub fn begin(about: &About, parcel: &Parcel, to: W) -> io::Result<Self> {
        let Parcel { index, term, state, object, .. } = *parcel;
        let preface = Preface { about: about.clone(), index, term, state, object };
        let (parts, digest) = (Parts::begin(&preface, to)?, Digest::of(index, term, state));
        Ok(Self { parts, digest, state, parcel: *parcel })
    }

    /// The next bytes.
    ///
    /// # Errors
    /// Those of `to`, and if these are more than was announced.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let state = usize::try_from(self.state).unwrap_or(usize::MAX).min(bytes.len());
        let (state, object) = bytes.split_at(state);
        self.digest.state(state);
        self.state -= state.len() as u64;
        if !object.is_empty() {
            self.digest.object(object);
        }
        self.parts.push(bytes)
    }

    /// All has come: gives `to` back.
    ///
    /// # Errors
    /// If it is not all that was announced, or something else.
    pub fn end(mut self) -> io::Result<W> {
        if self.parcel.object == Some(0) {
            self.digest.object(&[]);
        }
        if self.parts.left != [0, 0] {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if self.digest.end() != self.parcel.digest {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it was damaged on its way"));
        }
        Ok(self.parts.to)
    }
}

/// The parts of a snapshot, each written when it is whole.
struct Parts<W> {
    to: W,
    /// The checksum of what is said before the first.
    preface: u32,
    number: u64,
    /// Bytes of the state and of the object that are in no part yet.
    left: [u64; 2],
    /// The beginning of one.
    begun: Vec<u8>,
}

impl<W: Write> Parts<W> {
    fn begin(preface: &Preface, mut to: W) -> io::Result<Self> {
        let left = [preface.state, preface.object.unwrap_or(0)];
        let preface = postcard::to_stdvec(preface).expect("all of its types can be encoded");
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
        Ok(Self { to, preface: checksum, number: 0, left, begun: Vec::new() })
    }

    fn push(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let left = self.left.into_iter().find(|left| *left > 0);
            let more = || io::Error::new(io::ErrorKind::InvalidData, "it is more than announced");
            let whole = left.ok_or_else(more)?;
            let whole = usize::try_from(whole).map_or(PART_BYTES, |left| left.min(PART_BYTES));
            let (next, rest) = bytes.split_at(bytes.len().min(whole - self.begun.len()));
            bytes = rest;
            if next.len() == whole {
                self.write(next)?;
            } else {
                self.begun.extend_from_slice(next);
                if self.begun.len() == whole {
                    let begun = std::mem::take(&mut self.begun);
                    self.write(&begun)?;
                }
            }
        }
        Ok(())
    }

    fn write(&mut self, part: &[u8]) -> io::Result<()> {
        self.to.write_all(&part_checksum(self.preface, self.number, part).to_le_bytes())?;
        self.to.write_all(part)?;
        self.number += 1;
        if let Some(left) = self.left.iter_mut().find(|left| **left > 0) {
            *left -= part.len() as u64;
        }
        Ok(())
    }
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
    fn a_snapshot_that_comes_in_pieces_is_written_as_a_whole_one() {
        for (state, object) in
            [(0, None), (0, Some(7)), (1, Some(0)), (PART_BYTES + 3, Some(2 * PART_BYTES))]
        {
            let snapshot = snapshot(state, object);
            let parcel = Parcel {
                index: snapshot.index,
                term: snapshot.term,
                state: state as u64,
                object: object.map(|bytes| bytes as u64),
                digest: snapshot.digest(),
            };
            let all =
                [&snapshot.state[..], snapshot.object.as_deref().unwrap_or_default()].concat();
            for piece in [1_000, PART_BYTES, 3 * PART_BYTES] {
                let mut writer = Writer::begin(&about(), &parcel, Vec::new()).unwrap();
                all.chunks(piece).for_each(|bytes| writer.push(bytes).unwrap());
                assert_eq!(writer.end().unwrap(), written(&snapshot));
            }
            let begin = || Writer::begin(&about(), &parcel, Vec::new()).unwrap();
            let mut more = begin();
            more.push(&all).unwrap();
            more.push(b"x").unwrap_err();
            if let Some((last, rest)) = all.split_last() {
                let mut less = begin();
                less.push(rest).unwrap();
                less.end().unwrap_err();
                let mut other = begin();
                other.push(rest).unwrap();
                other.push(&[last ^ 1]).unwrap();
                other.end().unwrap_err();
            }
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
