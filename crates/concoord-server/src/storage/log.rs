//! The thread that writes the log.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use concoord_core::durable::{Persist, Record, Snapshot};
use concoord_core::limits::{SEGMENT_BYTES, SEGMENT_BYTES_MAX};
use concoord_core::wal::{Next, Writer};
use tokio::sync::mpsc::UnboundedSender;

use super::StorageEvent;
use super::disk::{Buffer, Segment};
use super::folder::{Identity, segment_path, write_identity};
use super::keeper::ToKeeper;
use super::maker::ToMaker;
use super::recovery::Found;

/// Bytes of payload past which nothing is added to a batch: what waits longer is not served
/// better by more of it.
const GROUP_BYTES: usize = 4 << 20;

/// How long nothing is written before a mark vouches for what was.
const QUIET: Duration = Duration::from_millis(100);

/// What the log is asked for and told.
#[derive(Debug)]
pub(super) enum ToLog {
    Persist(Persist),
    Save(Snapshot),
    /// The segment that was asked for.
    Made(Ready),
    /// The snapshot at that index is safe, which a [`Persist`] waits for.
    Stored(u64),
    /// The snapshot at that index is safe, and those before are gone.
    Cut(u64),
    /// What was asked for finds no room; it is tried again.
    NoRoom(String),
    /// What was asked for can't be had.
    Failed(String),
    Stop,
}

/// A segment that can be begun.
#[derive(Debug)]
pub(super) struct Ready {
    pub(super) number: u64,
    pub(super) bytes: u64,
    pub(super) file: Segment,
}

/// What one batch carries.
#[derive(Debug)]
struct Group {
    records: Vec<Record>,
    /// The last [`Persist::number`] of it.
    number: u64,
}

#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    identity: Identity,
    writer: Writer,
    current: Option<Segment>,
    spare: Option<Ready>,
    /// A segment is being made.
    making: bool,
    waiting: VecDeque<Persist>,
    saves: Vec<Snapshot>,
    /// What waits for a segment.
    group: Option<Group>,
    /// What waits for its snapshot is the first that waits.
    storing: bool,
    /// The number of what goes on from a snapshot that is safe by now, and that one's index.
    stored: Option<(u64, u64)>,
    /// Why what was asked for is not there.
    no_room: Option<String>,
    /// The owner was told so.
    full: bool,
    /// Nothing vouches for the last batch.
    unmarked: bool,
    buffer: Buffer,
    events: UnboundedSender<StorageEvent>,
    keeper: Sender<ToKeeper>,
    maker: Sender<ToMaker>,
}

impl Log {
    pub(super) fn new(
        folder: PathBuf,
        identity: Identity,
        found: Found,
        events: UnboundedSender<StorageEvent>,
        (keeper, maker): (Sender<ToKeeper>, Sender<ToMaker>),
    ) -> io::Result<Self> {
        let open = |number| Segment::open(&segment_path(&folder, number));
        let current = found.writer.segment();
        let current = if current > 0 { Some(open(current)?) } else { None };
        let spare = match found.spare {
            Some((number, bytes)) => Some(Ready { number, bytes, file: open(number)? }),
            None => None,
        };
        let mut this = Self {
            folder,
            identity,
            writer: found.writer,
            current,
            spare,
            making: false,
            waiting: VecDeque::new(),
            saves: Vec::new(),
            group: None,
            storing: false,
            stored: None,
            no_room: None,
            full: false,
            unmarked: found.unmarked,
            buffer: Buffer::default(),
            events,
            keeper,
            maker,
        };
        this.cut(found.snapshot);
        Ok(this)
    }

    /// Works until it is told to stop or the disk fails.
    pub(super) fn run(mut self, asked: &Receiver<ToLog>) {
        if let Err(reason) = self.work(asked) {
            self.say(StorageEvent::Failed(reason));
        }
    }

    fn work(&mut self, asked: &Receiver<ToLog>) -> Result<(), String> {
        if self.spare.is_none() {
            self.make(self.writer.segment() + 1, SEGMENT_BYTES);
        }
        let mut stop = false;
        while !stop {
            let first = if self.unmarked {
                asked.recv_timeout(QUIET)
            } else {
                asked.recv().map_err(|_| RecvTimeoutError::Disconnected)
            };
            match first {
                Ok(first) => stop |= self.take(first)?,
                Err(RecvTimeoutError::Timeout) => self.mark()?,
                Err(RecvTimeoutError::Disconnected) => stop = true,
            }
            while let Ok(next) = asked.try_recv() {
                stop |= self.take(next)?;
            }
            self.advance()?;
            self.tell_of_room();
        }
        // It may be long until something is written again.
        if self.unmarked { self.mark() } else { Ok(()) }
    }

    /// Returns whether it is told to stop.
    fn take(&mut self, message: ToLog) -> Result<bool, String> {
        match message {
            ToLog::Persist(persist) => self.waiting.push_back(persist),
            ToLog::Save(snapshot) => self.saves.push(snapshot),
            ToLog::Made(ready) => {
                (self.spare, self.making, self.no_room) = (Some(ready), false, None);
            }
            ToLog::Stored(index) => {
                self.stored = self.waiting.front().map(|first| (first.number, index));
                (self.storing, self.no_room) = (false, None);
            }
            ToLog::Cut(index) => self.cut(index),
            ToLog::NoRoom(reason) => self.no_room = Some(reason),
            ToLog::Failed(reason) => return Err(reason),
            ToLog::Stop => return Ok(true),
        }
        Ok(false)
    }

    /// Writes what can be written.
    fn advance(&mut self) -> Result<(), String> {
        if !self.begin_use()? {
            return Ok(());
        }
        for snapshot in std::mem::take(&mut self.saves) {
            self.tell_keeper(ToKeeper::Save(snapshot));
        }
        while let Some(group) = self.group.take().or_else(|| self.next_group()) {
            if !self.has_room(&group.records)? {
                self.group = Some(group);
                break;
            }
            if !group.records.is_empty() {
                self.write(&group.records)?;
                self.unmarked = true;
            }
            self.say(StorageEvent::Persisted(group.number));
            // Not before: what is written here may still be of the log that it stands for.
            if let Some((_, index)) = self.stored.take_if(|(number, _)| *number <= group.number) {
                self.tell_keeper(ToKeeper::Forget(index));
            }
        }
        Ok(())
    }

    /// Before anything counts, the folder says that it does. From then on there is a segment at
    /// each start, or one is missing.
    fn begin_use(&mut self) -> Result<bool, String> {
        if self.identity.used || self.waiting.is_empty() && self.saves.is_empty() {
            return Ok(self.identity.used);
        }
        if self.spare.is_none() {
            return Ok(false);
        }
        self.identity.used = true;
        write_identity(&self.folder, &self.identity)
            .map_err(|error| format!("identity can't be written: {error}"))?;
        Ok(true)
    }

    /// All that waits, up to what waits for a snapshot.
    fn next_group(&mut self) -> Option<Group> {
        let mut group: Option<Group> = None;
        let mut bytes = 0;
        while bytes < GROUP_BYTES && !self.storing {
            let Some(next) = self.waiting.front_mut() else { break };
            if let Some(snapshot) = next.snapshot.take() {
                self.storing = true;
                self.tell_keeper(ToKeeper::Store(snapshot));
                break;
            }
            let Some(next) = self.waiting.pop_front() else { break };
            bytes += next.records.iter().map(|record| record.payload.len()).sum::<usize>();
            let group = group.get_or_insert_with(|| Group { records: Vec::new(), number: 0 });
            group.number = next.number;
            if group.records.is_empty() {
                group.records = next.records;
            } else {
                group.records.extend(next.records);
            }
        }
        group
    }

    /// Sees to it that the current segment has room; false while one is awaited.
    fn has_room(&mut self, records: &[Record]) -> Result<bool, String> {
        let Some(Next { segment, bytes }) = self.writer.needs(records) else { return Ok(true) };
        if bytes > SEGMENT_BYTES_MAX {
            return Err(format!("{bytes} bytes at once are more than the log takes"));
        }
        match self.spare.take() {
            Some(ready) if ready.number == segment && ready.bytes >= bytes => {
                self.writer.begin(ready.bytes);
                self.current = Some(ready.file);
                self.make(segment + 1, SEGMENT_BYTES);
                Ok(true)
            }
            _ => {
                self.make(segment, bytes);
                Ok(false)
            }
        }
    }

    fn write(&mut self, records: &[Record]) -> Result<(), String> {
        let to = self.buffer.clear(self.writer.size(records));
        let at = self.writer.write(records, to);
        let segment = self.current.as_ref().expect("the writer is in a segment");
        let written = segment.write(self.buffer.filled(), at.offset);
        written.map_err(|error| format!("{at}, can't be written: {error}"))
    }

    /// Has the last batch vouched for, so that its rot is not taken for a torn tail; in the next
    /// segment, where this one is full. While there is none it is tried again.
    fn mark(&mut self) -> Result<(), String> {
        if self.has_room(&[])? {
            self.write(&[])?;
            self.unmarked = false;
        }
        Ok(())
    }

    fn cut(&mut self, index: u64) {
        let segments = self.writer.cut(index);
        if !segments.is_empty() {
            self.tell_maker(ToMaker::Delete(segments));
        }
    }

    /// One at a time: if it is not the one that is needed, that is asked for next.
    fn make(&mut self, number: u64, bytes: u64) {
        if !std::mem::replace(&mut self.making, true) {
            self.tell_maker(ToMaker::Make(number, bytes));
        }
    }

    /// The owner hears that there is no room when something waits for it, and not before.
    fn tell_of_room(&mut self) {
        let waits = self.group.is_some() || self.storing || !self.waiting.is_empty();
        match &self.no_room {
            Some(reason) if waits && !self.full => {
                self.full = true;
                self.say(StorageEvent::Full(reason.clone()));
            }
            None if self.full => {
                self.full = false;
                self.say(StorageEvent::Room);
            }
            _ => {}
        }
    }

    fn say(&self, event: StorageEvent) {
        // An owner that has gone needs no answer.
        drop(self.events.send(event));
    }

    fn tell_keeper(&self, message: ToKeeper) {
        // It ends when this does, or has told of its panic.
        drop(self.keeper.send(message));
    }

    fn tell_maker(&self, message: ToMaker) {
        // It ends when this does, or has told of its panic.
        drop(self.maker.send(message));
    }
}
