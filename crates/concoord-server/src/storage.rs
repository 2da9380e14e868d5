//! The data folder of a durable replica: what makes [`Persist`] true.
//!
//! ```text
//!        persist, save
//! owner ───────────────▶ log ──── segments ────▶ maker
//!   ▲                    │ │
//!   └────── events ──────┘ └───── snapshots ───▶ keeper
//! ```
//!
//! Three threads, so that none waits for what another one does to the disk: the *log* writes and
//! syncs what was asked, all that is there at once; the *maker* has the next segment ready before
//! it is needed, and deletes old ones; the *keeper* writes snapshots.
//!
//! `docs/internals/disk.md` says what is in the files and why.

mod aside;
mod disk;
mod folder;
mod keeper;
mod log;
mod maker;
mod recovery;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use concoord_core::durable::{Persist, Recovered, Snapshot};
use concoord_core::view::ReplicaId;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use self::aside::drop_discarded;
use self::folder::{Folder, Identity};
use self::keeper::Keeper;
use self::log::{Log, ToLog};
use self::maker::Maker;
use self::recovery::Found;

/// How long the end of the replica waits for what is under way to the disk.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a folder that is to be another replica's may take to come to rest.
const DISCARD_TIMEOUT: Duration = Duration::from_secs(10);

/// Whose folder it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    /// The object's class.
    pub class: String,
    /// Where the replica is reached.
    pub address: SocketAddr,
    /// What runs the object, for who reads a snapshot; see
    /// [`PeerHello::runtime`](concoord_core::wire::PeerHello::runtime).
    pub runtime: String,
    /// Whether it keeps the log alone.
    pub witness: bool,
}

/// What becomes of what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorageEvent {
    /// Every [`Persist`] up to that number is safe.
    Persisted(u64),
    /// The snapshot at that index is safe, or why it is not: it can be asked for again.
    Saved(u64, Result<(), String>),
    /// There is no room on the disk for what was asked, or no descriptor or memory to be had; it
    /// is tried again every second. The reason is a sentence for people.
    Full(String),
    /// There is again.
    Room,
    /// The disk failed: nothing that has been asked and not answered will be. Whether it is safe
    /// nobody knows, and trying again would not tell. The reason is a sentence for people.
    Failed(String),
}

/// Why a data folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// By two at once it would be of no use to either.
    #[error("{} is in use by another process{}: stop that one, or name another folder by --data-dir", folder.display(), of(pid))]
    InUse {
        /// The folder.
        folder: PathBuf,
        /// The other process, if it has said so.
        pid: String,
    },
    /// It holds what no replica writes.
    #[error("{} holds {name}, which is no file of a replica: name a new or empty folder by --data-dir", folder.display())]
    NotOurs {
        /// The folder.
        folder: PathBuf,
        /// Such a file.
        name: String,
    },
    /// It is of another object.
    #[error("{} holds a {theirs}, not a {ours}: start the replica with -o {theirs}, or name another folder by --data-dir", folder.display())]
    OtherClass {
        /// The folder.
        folder: PathBuf,
        /// The class in it.
        theirs: String,
        /// The class that was asked for.
        ours: String,
    },
    /// It is of another replica.
    #[error("{} is of the replica at {theirs}, not {ours}: start it with -a {} -p {}, or name another folder by --data-dir", folder.display(), theirs.ip(), theirs.port())]
    OtherAddress {
        /// The folder.
        folder: PathBuf,
        /// The address in it.
        theirs: SocketAddr,
        /// The address that was asked for.
        ours: SocketAddr,
    },
    /// What the object in it did, it would not do again.
    #[error("{}: its object would behave differently: it ran as {theirs}, this is {ours}. Start it as it was, or save the state from replicas that still run (`concoord snapshot save`) and begin a new cluster from it", folder.display())]
    OtherRuntime {
        /// The folder.
        folder: PathBuf,
        /// What it ran as.
        theirs: String,
        /// What it would run as.
        ours: String,
    },
    /// It holds a log and an object, or a log alone.
    #[error("{} is of a replica that was started with{} --witness: start it so again, or name another folder by --data-dir", folder.display(), if *witness { "" } else { "out" })]
    OtherRole {
        /// The folder.
        folder: PathBuf,
        /// Whether it is a witness's.
        witness: bool,
    },
    /// A later program wrote it.
    #[error("{} is of format {format}, which this program does not know: use the program that wrote it, or a later one", folder.display())]
    Newer {
        /// The folder.
        folder: PathBuf,
        /// Its format.
        format: u32,
    },
    /// What was safe once is not there any more.
    #[error("{}: {flaw}; `concoord rebuild --data-dir {}` sets the folder's content aside; started again with -b, the replica then gets everything from its peers", folder.display(), folder.display())]
    Damaged {
        /// The folder.
        folder: PathBuf,
        /// What is wrong, and where.
        flaw: String,
    },
    /// The system refuses.
    #[error("{} can't be used: {error}", path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

fn of(pid: &str) -> String {
    if pid.is_empty() { String::new() } else { format!(", {pid}") }
}

impl StorageError {
    fn io(path: &Path, error: io::Error) -> Self {
        Self::Io { path: path.into(), error }
    }
}

/// A replica's data folder, open.
#[derive(Debug)]
pub struct Storage {
    who: Who,
    identity: Identity,
    threads: Option<Threads>,
    events: UnboundedReceiver<StorageEvent>,
    // Last: it is let go once nothing is written any more.
    folder: Arc<Folder>,
}

#[derive(Debug)]
struct Threads {
    log: Sender<ToLog>,
    stopping: Arc<AtomicBool>,
    /// Tells when all threads have ended.
    ended: Receiver<()>,
}

impl Storage {
    /// Opens the folder, which need not be there, and says what is safe in it: `None` if nothing
    /// is, and the replica begins anew.
    ///
    /// # Errors
    /// If it is no folder for this replica, or holds less than was promised.
    pub fn open(folder: &Path, who: Who) -> Result<(Self, Option<Recovered>), StorageError> {
        #[cfg(feature = "failpoints")]
        from_environment();
        let folder = Arc::new(Folder::open(folder)?);
        let mut identity = folder.identify(&who)?;
        folder.mind_aside(identity.used)?;
        let mut found = recovery::recover(&folder, &identity)?;
        if found.recovered.is_some() {
            drop_discarded(folder.path()).map_err(|error| folder.failed(error))?;
        } else {
            if identity.used {
                identity = folder.identify_anew(&who, &identity.rejoin)?;
            }
            recovery::clear(&folder)?;
            found = Found::nothing(&identity);
        }
        let recovered = found.recovered.take();
        let (threads, events) = Threads::start(&folder, &identity, &who, found)?;
        Ok((Self { who, identity, threads: Some(threads), events, folder }, recovered))
    }

    /// Which replica it is, in this life and those before.
    #[must_use]
    pub const fn replica(&self) -> ReplicaId {
        self.identity.wal.replica
    }

    /// Has this made safe; answered by [`StorageEvent::Persisted`].
    pub fn persist(&self, persist: Persist) {
        self.tell(ToLog::Persist(persist));
    }

    /// Has this snapshot kept; answered by [`StorageEvent::Saved`]. What it stands for is
    /// deleted then.
    pub fn save(&self, snapshot: Snapshot) {
        self.tell(ToLog::Save(snapshot));
    }

    /// What has become of what was asked. Nothing is lost if this is dropped half way.
    pub async fn next(&mut self) -> StorageEvent {
        match self.events.recv().await {
            Some(event) => event,
            // The threads have ended, and have said why.
            None => std::future::pending().await,
        }
    }

    /// Replicas of the cluster that it is to join, if nothing was safe in its folder.
    #[must_use]
    pub fn rejoin(&self) -> &[SocketAddr] {
        &self.identity.rejoin
    }

    /// Forgets everything: from now on this is another replica's folder, in which nothing is
    /// safe yet but that it is to join the cluster of those, however it is started. What was
    /// asked before is not answered any more. The copy that was there is set aside, and deleted
    /// once the other replica has the state of that cluster safe.
    ///
    /// # Errors
    /// If the disk fails. The folder is then either replica's, whole.
    pub fn discard(&mut self, rejoin: &[SocketAddr]) -> Result<(), StorageError> {
        if self.threads.take().is_some_and(|threads| !threads.end(DISCARD_TIMEOUT)) {
            // Nothing may be written any more for the one that it was.
            return Err(self.folder.failed(io::ErrorKind::TimedOut.into()));
        }
        self.folder.begin_aside()?;
        self.identity = self.folder.identify_anew(&self.who, rejoin)?;
        self.folder.finish_aside()?;
        recovery::clear(&self.folder)?;
        let found = Found::nothing(&self.identity);
        let (threads, events) = Threads::start(&self.folder, &self.identity, &self.who, found)?;
        (self.threads, self.events) = (Some(threads), events);
        Ok(())
    }

    fn tell(&self, message: ToLog) {
        if let Some(threads) = &self.threads {
            // A thread that has ended has said why.
            drop(threads.log.send(message));
        }
    }
}

/// Sets the content of a data folder aside, in a folder below it that this returns, so that its
/// replica begins anew.
///
/// # Errors
/// If it is in use, or none of ours.
pub fn set_aside(folder: &Path) -> Result<PathBuf, StorageError> {
    if !folder.is_dir() {
        let error = io::Error::new(io::ErrorKind::NotFound, "there is no such folder");
        return Err(StorageError::io(folder, error));
    }
    Folder::open(folder)?.set_aside()
}

impl Threads {
    fn start(
        folder: &Arc<Folder>,
        identity: &Identity,
        who: &Who,
        found: Found,
    ) -> Result<(Self, UnboundedReceiver<StorageEvent>), StorageError> {
        let failed = |error| folder.failed(error);
        let path = folder.path().to_owned();
        let stopping = Arc::new(AtomicBool::new(false));
        let (events, answers) = unbounded_channel();
        let (log, for_log) = channel();
        let (to_keeper, for_keeper) = channel();
        let (to_maker, for_maker) = channel();
        let keeper =
            Keeper::new(path.clone(), who, log.clone(), events.clone(), Arc::clone(&stopping));
        let maker = Maker::new(path.clone(), log.clone(), Arc::clone(&stopping));
        let writer = Log::new(path, identity.clone(), found, events.clone(), (to_keeper, to_maker));
        let writer = writer.map_err(failed)?;
        let (lives, ended) = channel();
        spawn("concoord-log", (&events, &lives), move || writer.run(&for_log)).map_err(failed)?;
        spawn("concoord-keeper", (&events, &lives), move || keeper.run(&for_keeper))
            .map_err(failed)?;
        spawn("concoord-maker", (&events, &lives), move || maker.run(&for_maker))
            .map_err(failed)?;
        Ok((Self { log, stopping, ended }, answers))
    }

    /// Ends the threads; says whether they have, or hang at a disk that does not answer.
    fn end(&self, patience: Duration) -> bool {
        self.stopping.store(true, Ordering::Relaxed);
        // One that has ended needs not be told.
        drop(self.log.send(ToLog::Stop));
        self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Disconnected)
    }
}

fn spawn(
    name: &str,
    (events, lives): (&UnboundedSender<StorageEvent>, &Sender<()>),
    run: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let (watched, lives) = (Watched(events.clone()), lives.clone());
    let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
        run();
        drop(watched);
        drop(lives);
    });
    thread.map(drop)
}

/// Tells if its thread panics: nobody would else.
struct Watched(UnboundedSender<StorageEvent>);

impl Drop for Watched {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = "the thread that writes to the disk panicked".into();
            drop(self.0.send(StorageEvent::Failed(reason)));
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A process that ends must not wait for a disk that hangs.
        if !self.end(END_TIMEOUT) {
            tracing::warn!("the disk does not answer; what is under way there is left to itself");
        }
    }
}

/// Reads `FAILPOINTS`, once.
#[cfg(feature = "failpoints")]
fn from_environment() {
    use std::sync::OnceLock;
    static SCENARIO: OnceLock<()> = OnceLock::new();
    SCENARIO.get_or_init(|| std::mem::forget(fail::FailScenario::setup()));
}
