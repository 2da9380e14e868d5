//! The thread that writes snapshots.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{SystemTime, UNIX_EPOCH};

use concoord_core::durable::Snapshot;
use concoord_core::snapshot::{self, About};
use tokio::sync::mpsc::UnboundedSender;

use super::aside::drop_discarded;
use super::disk::{Kind, delete, is_full, step, sync_folder, write_whole};
use super::folder::{snapshot_path, snapshots_in};
use super::log::ToLog;
use super::maker::RETRY;
use super::{StorageEvent, Who};

/// Bytes of a snapshot after which they are synced, so that the disk never has many of them to
/// write while the log waits for it.
const SYNC_BYTES: usize = 8 << 20;

/// What the keeper is asked for.
#[derive(Debug)]
pub(super) enum ToKeeper {
    /// Keep this; the owner is told, and can live with a no.
    Save(Snapshot),
    /// Keep this; the log waits for it.
    Store(Snapshot),
    /// Nobody needs the snapshots before that one any more, nor what it stands for.
    Forget(u64),
}

pub(super) struct Keeper {
    folder: PathBuf,
    about: About,
    log: Sender<ToLog>,
    events: UnboundedSender<StorageEvent>,
    stopping: Arc<AtomicBool>,
    asked: VecDeque<ToKeeper>,
}

impl Keeper {
    pub(super) fn new(
        folder: PathBuf,
        who: &Who,
        log: Sender<ToLog>,
        events: UnboundedSender<StorageEvent>,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        let about = About {
            class: who.class.clone(),
            runtime: who.runtime.clone(),
            // In the folder of a replica the state says that.
            cluster: None,
            lineage: 0,
            written_ms: 0,
        };
        Self { folder, about, log, events, stopping, asked: VecDeque::new() }
    }

    /// Works until nobody asks any more.
    pub(super) fn run(mut self, asked: &Receiver<ToKeeper>) {
        while let Some(next) = self.asked.pop_front().or_else(|| asked.recv().ok()) {
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            match next {
                ToKeeper::Save(snapshot) => self.save(&snapshot),
                ToKeeper::Store(snapshot) => self.store(&snapshot, asked),
                ToKeeper::Forget(index) => self.forget_before(index),
            }
        }
    }

    fn save(&self, snapshot: &Snapshot) {
        let saved = self.write(snapshot).map_err(|error| unkept(snapshot, &error));
        let is_saved = saved.is_ok();
        self.say(StorageEvent::Saved(snapshot.index, saved));
        if is_saved {
            self.forget_before(snapshot.index);
        }
    }

    fn store(&mut self, snapshot: &Snapshot, asked: &Receiver<ToKeeper>) {
        loop {
            match self.write(snapshot) {
                Ok(()) => return self.tell(ToLog::Stored(snapshot.index)),
                Err(error) if is_full(&error) => {
                    self.tell(ToLog::NoRoom(unkept(snapshot, &error)));
                }
                Err(error) => return self.tell(ToLog::Failed(unkept(snapshot, &error))),
            }
            match asked.recv_timeout(RETRY) {
                Ok(next) => self.asked.push_back(next),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn write(&self, snapshot: &Snapshot) -> io::Result<()> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let written_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        let about = About { written_ms, ..self.about.clone() };
        write_whole(&snapshot_path(&self.folder, snapshot.index), Kind::Snapshot, |file| {
            let mut to = BufWriter::new(Steady { file, stopping: &self.stopping, unsynced: 0 });
            snapshot::write(&about, snapshot, &mut to)?;
            to.flush()
        })
    }

    /// Snapshots go before the log does, so that one which is there has all of its log behind
    /// it.
    fn forget_before(&self, index: u64) {
        match delete_before(&self.folder, index) {
            Ok(()) => self.tell(ToLog::Cut(index)),
            // It is tried again with the next one.
            Err(error) => tracing::warn!("old snapshots can't be deleted: {error}"),
        }
        if let Err(error) = drop_discarded(&self.folder) {
            tracing::warn!("what was set aside can't be deleted: {error}");
        }
    }

    fn say(&self, event: StorageEvent) {
        // An owner that has gone needs no answer.
        drop(self.events.send(event));
    }

    fn tell(&self, message: ToLog) {
        // A log that has ended has said why.
        drop(self.log.send(message));
    }
}

fn delete_before(folder: &Path, index: u64) -> io::Result<()> {
    let mut old = snapshots_in(folder)?;
    old.retain(|of| *of < index);
    if old.is_empty() {
        return Ok(());
    }
    old.iter().try_for_each(|of| delete(&snapshot_path(folder, *of), Kind::Snapshot))?;
    sync_folder(folder, Kind::Snapshot)
}

fn unkept(snapshot: &Snapshot, error: &io::Error) -> String {
    format!("the snapshot at {} can't be written: {error}", snapshot.index)
}

/// A file whose bytes are synced now and then.
struct Steady<'a> {
    file: &'a File,
    stopping: &'a AtomicBool,
    unsynced: usize,
}

impl Write for Steady<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(io::Error::other("the replica stops"));
        }
        step("append", Kind::Snapshot)?;
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.unsynced >= SYNC_BYTES {
            self.unsynced = 0;
            self.file.sync_data()?;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
