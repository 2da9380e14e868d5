//! Files, step by step: each of these can fail, and each can be made to fail in a test.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use concoord_core::wal::BLOCK;
use rustix::fs::{FallocateFlags, OFlags, fallocate};
use rustix::io::Errno;

/// Bytes that are zeroed or read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// A buffer keeps no more than this between two uses.
const BUFFER_KEPT_BYTES: usize = 4 << 20;

/// What a file is, in the names of fail points.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Identity,
    Segment,
    Snapshot,
    /// What is set aside.
    Aside,
}

/// A step to the disk is about to be taken. With the feature `failpoints`, `FAILPOINTS` in the
/// environment may say of `storage::STEP-KIND` what becomes of it: `return(EIO)`,
/// `return(ENOSPC)`, `return(EMFILE)`, or `return(abort)`, which ends the process.
#[cfg(feature = "failpoints")]
pub(super) fn step(name: &str, kind: Kind) -> io::Result<()> {
    let name = format!("storage::{name}-{kind:?}").to_lowercase();
    fail::fail_point!(&name, |what| match what.as_deref() {
        Some("ENOSPC") => Err(Errno::NOSPC.into()),
        Some("EMFILE") => Err(Errno::MFILE.into()),
        Some("abort") => std::process::abort(),
        _ => Err(Errno::IO.into()),
    });
    Ok(())
}

#[cfg(not(feature = "failpoints"))]
#[expect(clippy::unnecessary_wraps, reason = "it fails where the feature is on")]
pub(super) const fn step(_: &str, _: Kind) -> io::Result<()> {
    Ok(())
}

/// Makes what was created, renamed and deleted in a folder safe.
pub(super) fn sync_folder(folder: &Path, kind: Kind) -> io::Result<()> {
    step("folder", kind)?;
    File::open(folder)?.sync_all()
}

/// Writes a file that is there whole or not at all.
pub(super) fn write_whole(
    path: &Path,
    kind: Kind,
    write: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let temporary = temporary(path);
    let written = (|| {
        step("create", kind)?;
        let file = new_file(0).truncate(true).open(&temporary)?;
        step("write", kind)?;
        write(&file)?;
        step("sync", kind)?;
        file.sync_all()?;
        drop(file);
        step("rename", kind)?;
        fs::rename(&temporary, path)?;
        sync_folder(path.parent().unwrap_or_else(|| Path::new(".")), kind)
    })();
    if written.is_err() {
        // It may take room that others need. Nobody takes it for the whole one anyway.
        drop(fs::remove_file(&temporary));
    }
    written
}

/// The name of a file that is not whole yet.
pub(super) fn temporary(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    name.into()
}

/// Deletes a file, which may be gone already.
pub(super) fn delete(path: &Path, kind: Kind) -> io::Result<()> {
    step("delete", kind)?;
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn new_file(flags: i32) -> OpenOptions {
    let mut options = OpenOptions::new();
    options.write(true).create(true).mode(0o600).custom_flags(flags);
    options
}

/// A segment of the log, open for writing.
#[derive(Debug)]
pub(super) struct Segment {
    file: File,
    /// A write comes back when it is safe, and takes no detour by the page cache.
    direct: bool,
}

impl Segment {
    /// Makes a file of so many zeros: they are written, so that later writes only replace bytes
    /// and no other step of the file system can fail them.
    pub(super) fn make(path: &Path, bytes: u64) -> io::Result<()> {
        write_whole(path, Kind::Segment, |file| {
            step("preallocate", Kind::Segment)?;
            match fallocate(file, FallocateFlags::empty(), 0, bytes) {
                // Some file systems can't; writing does it too.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
                Err(error) => return Err(error.into()),
            }
            let zeros = vec![0; PIECE_BYTES];
            let mut at = 0;
            while at < bytes {
                let piece =
                    usize::try_from(bytes - at).map_or(PIECE_BYTES, |left| left.min(PIECE_BYTES));
                file.write_all_at(zeros.get(..piece).unwrap_or(&zeros), at)?;
                at += piece as u64;
            }
            Ok(())
        })
    }

    pub(super) fn open(path: &Path) -> io::Result<Self> {
        step("open", Kind::Segment)?;
        match Self::open_direct(path) {
            Ok(file) => Ok(Self { file, direct: true }),
            // The file system has no such thing, or only for larger blocks.
            Err(error) if is_invalid(&error) => {
                Ok(Self { file: OpenOptions::new().write(true).open(path)?, direct: false })
            }
            Err(error) => Err(error),
        }
    }

    fn open_direct(path: &Path) -> io::Result<File> {
        let flags = flags(OFlags::DIRECT | OFlags::DSYNC);
        let file = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path)?;
        let mut probe = Buffer::default();
        let block = probe.clear(BLOCK);
        block.resize(block.len() + BLOCK, 0);
        file.read_exact_at(probe.filled_mut(), 0)?;
        Ok(file)
    }

    /// Writes whole blocks, and returns when they are safe.
    pub(super) fn write(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        step("append", Kind::Segment)?;
        #[cfg(feature = "failpoints")]
        self.tear(bytes, at)?;
        self.file.write_all_at(bytes, at)?;
        step("flush", Kind::Segment)?;
        if self.direct { Ok(()) } else { self.file.sync_data() }
    }

    /// With `storage::tear-segment` the process ends when half of the blocks are written.
    #[cfg(feature = "failpoints")]
    fn tear(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        fail::fail_point!("storage::tear-segment", |_| {
            let half = (bytes.len() / 2).next_multiple_of(BLOCK);
            self.file.write_all_at(bytes.get(..half).unwrap_or_default(), at)?;
            std::process::abort()
        });
        Ok(())
    }

    /// Makes safe what an earlier process wrote.
    pub(super) fn sync(path: &Path) -> io::Result<()> {
        step("flush", Kind::Segment)?;
        OpenOptions::new().write(true).open(path)?.sync_all()
    }
}

/// Whether there is no room, on the disk or in the system's tables: to make some may help. It says
/// nothing of a disk, so a file that is made anew may then be tried again.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::NOSPC | Errno::DQUOT | Errno::MFILE | Errno::NFILE | Errno::NOMEM)
    )
}

fn is_invalid(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::INVAL)
}

fn flags(flags: OFlags) -> i32 {
    i32::try_from(flags.bits()).expect("the kernel's flags fit an int")
}

/// Bytes that start at a block's multiple in memory, as direct writes and reads need them.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    start: usize,
}

impl Buffer {
    /// Empties it: so many bytes may be appended to what this returns, all to be had again by
    /// [`Buffer::filled`].
    pub(super) fn clear(&mut self, bytes: usize) -> &mut Vec<u8> {
        if self.bytes.capacity() > BUFFER_KEPT_BYTES {
            self.bytes = Vec::new();
        }
        self.bytes.clear();
        self.bytes.reserve(bytes + BLOCK);
        self.start = self.bytes.as_ptr().align_offset(BLOCK);
        self.bytes.resize(self.start, 0);
        &mut self.bytes
    }

    pub(super) fn filled(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    fn filled_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..).unwrap_or_default()
    }
}

/// Reads a segment into `buffer`: from the disk itself where that is possible, since the page
/// cache may hold what never got there.
pub(super) fn read_segment(path: &Path, buffer: &mut Buffer) -> io::Result<()> {
    step("read", Kind::Segment)?;
    let size = fs::metadata(path)?.len();
    let whole = usize::try_from(size).map_err(io::Error::other)?;
    let bytes = buffer.clear(whole.next_multiple_of(BLOCK));
    bytes.resize(bytes.len() + whole, 0);
    let direct = OpenOptions::new().read(true).custom_flags(flags(OFlags::DIRECT)).open(path);
    let read = direct.and_then(|file| file.read_exact_at(buffer.filled_mut(), 0));
    match read {
        Err(error) if is_invalid(&error) => File::open(path)?.read_exact_at(buffer.filled_mut(), 0),
        read => read,
    }
}
