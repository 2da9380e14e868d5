//! The thread that makes segments and deletes them.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use super::disk::{Kind, Segment, delete, is_full, sync_folder};
use super::folder::segment_path;
use super::log::{Ready, ToLog};

/// How often what found no room is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(1);

/// What the maker is asked for.
#[derive(Debug)]
pub(super) enum ToMaker {
    /// A segment of that number and so many bytes.
    Make(u64, u64),
    /// These segments are not needed any more.
    Delete(Vec<u64>),
}

pub(super) struct Maker {
    folder: PathBuf,
    log: Sender<ToLog>,
    stopping: Arc<AtomicBool>,
    /// What found no room.
    unmade: Option<(u64, u64)>,
    /// Segments to be deleted, in order.
    undeleted: VecDeque<u64>,
}

impl Maker {
    pub(super) const fn new(
        folder: PathBuf,
        log: Sender<ToLog>,
        stopping: Arc<AtomicBool>,
    ) -> Self {
        Self { folder, log, stopping, unmade: None, undeleted: VecDeque::new() }
    }

    /// Works until nobody asks any more.
    pub(super) fn run(mut self, asked: &Receiver<ToMaker>) {
        loop {
            let next = if self.unmade.is_some() {
                asked.recv_timeout(RETRY)
            } else {
                asked.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match next {
                Ok(ToMaker::Make(number, bytes)) => self.unmade = Some((number, bytes)),
                Ok(ToMaker::Delete(segments)) => {
                    self.undeleted.extend(segments);
                    self.delete();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.stopping.load(Ordering::Relaxed) {
                return;
            }
            if let Some((number, bytes)) = self.unmade.take() {
                self.make(number, bytes);
            }
        }
    }

    fn make(&mut self, number: u64, bytes: u64) {
        let path = segment_path(&self.folder, number);
        let made = Segment::make(&path, bytes).and_then(|()| Segment::open(&path));
        let told = match made {
            Ok(file) => ToLog::Made(Ready { number, bytes, file }),
            Err(error) if is_full(&error) => {
                self.unmade = Some((number, bytes));
                ToLog::NoRoom(format!("log-{number} can't be made: {error}"))
            }
            Err(error) => ToLog::Failed(format!("log-{number} can't be made: {error}")),
        };
        self.tell(told);
    }

    /// In order, each safely gone before the next one: what is left behind by a crash, or by one
    /// that can't be deleted, is a log without its beginning and never one with a gap.
    fn delete(&mut self) {
        while let Some(number) = self.undeleted.front() {
            let deleted = delete(&segment_path(&self.folder, *number), Kind::Segment)
                .and_then(|()| sync_folder(&self.folder, Kind::Segment));
            if let Err(error) = deleted {
                // It is tried again with the next ones.
                return tracing::warn!("log-{number} is old and can't be deleted: {error}");
            }
            self.undeleted.pop_front();
        }
    }

    fn tell(&self, message: ToLog) {
        // A log that has ended needs no segment.
        drop(self.log.send(message));
    }
}
