//! What a replica wrote that has been told to forget it, kept until its successor has the state
//! of the others.
//!
//! ```text
//! discarding/was ─▶ a new identity ─▶ log-*, snapshot-* to discarding/ ─▶ discarded/
//! ```
//!
//! The new identity is what decides. Before it the copy is a replica's and `discarding` is of no
//! use; after it the copy is nobody's, and a start that finds `discarding` goes on. What is set
//! aside can't be opened as a data folder, since `was` is in it: a replica that others have removed
//! must not vote again by mistake.

use std::fs::{self, DirBuilder};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use super::StorageError;
use super::disk::{Kind, delete, step, sync_folder, write_whole};
use super::folder::{DISCARDED, DISCARDING, Folder, WAS};

impl Folder {
    /// Says in a folder below whose the copy is that is about to be set aside, if there is one that
    /// anybody counts on.
    pub(super) fn begin_aside(&self) -> Result<(), StorageError> {
        let identity = self.read_identity()?;
        let empty = self.snapshots().map_err(|error| self.failed(error))?.is_empty();
        if !identity.used || empty {
            return Ok(());
        }
        let aside = self.path().join(DISCARDING);
        let begin = || {
            // The copy before that one: this replica has had the others' state since.
            drop_discarded(self.path())?;
            remove(self.path(), &aside)?;
            step("create", Kind::Aside)?;
            DirBuilder::new().mode(0o700).create(&aside)?;
            let text = identity.text();
            write_whole(&aside.join(WAS), Kind::Aside, |mut file| file.write_all(text.as_bytes()))?;
            sync_folder(self.path(), Kind::Aside)
        };
        begin().map_err(|error| self.failed(error))
    }

    /// Moves the copy there, now that it is nobody's.
    pub(super) fn finish_aside(&self) -> Result<(), StorageError> {
        let aside = self.path().join(DISCARDING);
        if !aside.exists() {
            return Ok(());
        }
        let segments = self.content()?.segments.into_iter().map(|number| self.segment(number));
        let finish = || {
            let snapshots = self.snapshots()?.into_iter().map(|index| self.snapshot(index));
            for path in snapshots.chain(segments) {
                step("move", Kind::Aside)?;
                fs::rename(&path, aside.join(path.file_name().unwrap_or_default()))?;
            }
            sync_folder(&aside, Kind::Aside)?;
            sync_folder(self.path(), Kind::Aside)?;
            step("keep", Kind::Aside)?;
            fs::rename(&aside, self.path().join(DISCARDED))?;
            sync_folder(self.path(), Kind::Aside)
        };
        finish().map_err(|error| self.failed(error))
    }

    /// Goes on with what a crash left, or takes it back: the copy is still a replica's.
    pub(super) fn mind_aside(&self, is_used: bool) -> Result<(), StorageError> {
        if is_used {
            let aside = self.path().join(DISCARDING);
            return remove(self.path(), &aside).map_err(|error| self.failed(error));
        }
        self.finish_aside()
    }
}

/// Deletes what was set aside in that data folder: the state of the others is safe there.
pub(super) fn drop_discarded(folder: &Path) -> io::Result<()> {
    remove(folder, &folder.join(DISCARDED))
}

/// Deletes a folder with its files, which may be gone already.
fn remove(from: &Path, aside: &Path) -> io::Result<()> {
    if !aside.exists() {
        return Ok(());
    }
    for file in fs::read_dir(aside)? {
        delete(&file?.path(), Kind::Aside)?;
    }
    fs::remove_dir(aside)?;
    sync_folder(from, Kind::Aside)
}
