//! The one task that owns a replica.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use concoord::Bootstrap;
use concoord_core::durable::{Recovered, Snapshot};
use concoord_core::object::Interface;
use concoord_core::replica::{Action, Config, Event, Hosting, Replica};
use concoord_core::snapshot::About;
use concoord_core::view::{Member, ReplicaId};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, LocalOptions, LocalRuntime};
use tokio::time::MissedTickBehavior;

use crate::clients;
use crate::config::{ConfigError, ObjectSpec, ReplicaConfig, WorkerSpec};
use crate::death::own_process;
use crate::fence::{FenceSpec, fence};
use crate::names::Names;
use crate::shell::Shell;
use crate::steps::{of_action, reach};
use crate::storage::{Storage, StorageError, StorageEvent, Who};
use crate::task::Task;
use crate::worker::{LoadError, Worker};

/// How long a replica that was told to stop may take to leave the view.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long looking the names of replicas up may take, and between two attempts.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(10);
const LOOK_UP_AGAIN: Duration = Duration::from_secs(2);

/// Why a replica ended without having been told to, or could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// What it was to be started with makes no sense.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no object.
    #[error(transparent)]
    Object(#[from] LoadError),
    /// The listener, or the system's source of random numbers, failed.
    #[error("the system refuses what a replica needs: {0}")]
    System(#[from] io::Error),
    /// The backup is of another object.
    #[error("{0}")]
    Backup(String),
    /// The data folder can't be used.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The replica can't go on.
    #[error("{0}")]
    Stopped(String),
}

/// The runtime that [`run`] is made for: one thread, which may be shared by nothing that blocks.
///
/// # Errors
/// If the system has no descriptors left.
pub fn runtime() -> io::Result<LocalRuntime> {
    Builder::new_current_thread().enable_all().build_local(LocalOptions::default())
}

/// Runs a replica on `listener` until `shutdown`, and then until it has left the view, but a
/// second at most. `serving` is called once, when calls are served. Returns why it stopped, as a
/// sentence for people.
///
/// Raises this process's limit on open files as far as it may.
///
/// # Errors
/// If it can't start or can't go on.
///
/// # Panics
/// Outside a [`LocalRuntime`] or `LocalSet`: [`runtime`] makes the former.
pub async fn run(
    listener: TcpListener,
    mut config: ReplicaConfig,
    serving: impl FnOnce(),
    shutdown: impl Future<Output = ()>,
) -> Result<String, RunError> {
    config.check()?;
    raise_file_limit();
    let listener = Rc::new(listener);
    let (mut shutdown, mut serving) = (pin!(shutdown), Some(serving));
    let mut bootstrap = config.bootstrap.clone();
    let mut restore = config.restore.take();
    let mut disk = Disk::default();
    let names = Rc::new(Names::start(&mut config)?);
    loop {
        let driver = tokio::select! {
            driver = Driver::start(&listener, &config, &names, &mut disk, bootstrap, restore.take()) => driver?,
            () = &mut shutdown => return Ok("told to stop before it had started".into()),
        };
        match driver.drive(&mut disk, &mut serving, shutdown.as_mut()).await {
            End::Stop(reason) => return reason.map_err(RunError::Stopped),
            End::Restart(addresses, reason) => {
                tracing::warn!("this replica starts anew: {reason}");
                disk.discard(&addresses)?;
                bootstrap = addresses;
            }
        }
    }
}

/// The data folder, where there is one, whichever incarnation of the replica it is of.
#[derive(Default)]
struct Disk(Option<Storage>);

impl Disk {
    /// Opens it, the first time, and says what was safe in it.
    fn open(
        &mut self,
        config: &ReplicaConfig,
        hosting: &Hosting,
        runtime: &str,
    ) -> Result<Option<Recovered>, RunError> {
        let Some(folder) = config.data_dir.as_ref().filter(|_| self.0.is_none()) else {
            return Ok(None);
        };
        let (class, runtime) = (hosting.interface().class.clone(), runtime.to_owned());
        let witness = hosting.witness.is_some();
        let who = Who { class, address: config.advertise, runtime, witness };
        let (storage, recovered) = Storage::open(folder, who)?;
        self.0 = Some(storage);
        Ok(recovered)
    }

    fn discard(&mut self, rejoin: &[SocketAddr]) -> Result<(), StorageError> {
        self.0.as_mut().map_or(Ok(()), |storage| storage.discard(rejoin))
    }

    fn storage(&self) -> &Storage {
        self.0.as_ref().expect("only a durable replica asks for this")
    }

    /// What has become of what was asked; never, without a disk.
    async fn next(&mut self) -> StorageEvent {
        match &mut self.0 {
            Some(storage) => storage.next().await,
            None => std::future::pending().await,
        }
    }
}

/// How an incarnation of the replica ends.
enum End {
    Stop(Result<String, String>),
    Restart(Vec<SocketAddr>, String),
}

/// One incarnation of the replica.
struct Driver {
    shell: Rc<Shell>,
    worker: Option<Worker>,
    tick: Duration,
    fence: Option<FenceSpec>,
    /// The fence command, while it runs.
    fencing: Cell<Option<Task>>,
    started: Instant,
    _accepting: Task,
    _looking: Option<Task>,
}

impl Driver {
    async fn start(
        listener: &Rc<TcpListener>,
        config: &ReplicaConfig,
        names: &Rc<Names>,
        disk: &mut Disk,
        mut bootstrap: Vec<SocketAddr>,
        restore: Option<(About, Snapshot)>,
    ) -> Result<Self, RunError> {
        let source = listener.local_addr()?.ip();
        let process = own_process();
        let (hosting, runtime, worker) = host(&config.object).await?;
        let restore = restore.map(|backup| fitting(backup, hosting.interface(), &runtime));
        let restore = restore.transpose()?;
        let recovered = disk.open(config, &hosting, &runtime)?;
        if recovered.is_some() && restore.is_some() {
            return Err(RunError::Backup(
                "the data folder holds a replica already: name an empty one with --data-dir, or \
                 start that replica with `concoord replica`"
                    .into(),
            ));
        }
        let (id, durable) = match &disk.0 {
            Some(storage) => (storage.replica(), true),
            None => (ReplicaId(random()?), false),
        };
        if let Some(storage) = disk.0.as_ref().filter(|_| recovered.is_none()) {
            // One that was in a cluster, and has nothing of it any more, never starts another.
            bootstrap.extend(storage.rejoin());
        }
        let member = Member {
            process: process.clone(),
            durable,
            learner: config.learner,
            witness: hosting.witness.is_some(),
            domain: names.domain.clone(),
            ..Member::new(id, config.advertise)
        };
        let core = Config { bootstrap, restore, runtime, ..core_config(config, member)? };
        let replica = match recovered {
            Some(recovered) => {
                reach("driver::recover");
                Replica::recover(core, hosting, recovered).map_err(RunError::Stopped)?
            }
            None if config.names.is_some() => Replica::new(core, hosting).joining(),
            None => Replica::new(core, hosting),
        };
        let names = Rc::clone(names);
        let shell = Rc::new(Shell::new(replica, source, process, random()? >> 1, names));
        if let Some(worker) = &worker {
            let shell = Rc::clone(&shell);
            worker.deliver_to(move |event| shell.post(event));
        }
        shell.peers.follow(&shell, &shell.replica.borrow().contacts());
        let accepting = Task::spawn(clients::accept(Rc::clone(listener), Rc::clone(&shell)));
        let (tick, started) = (config.tick, Instant::now());
        let (fence, fencing) = (config.fence.clone(), Cell::default());
        let names = config.names.clone();
        let looking = names.map(|names| Task::spawn(look_up(Rc::clone(&shell), names)));
        Ok(Self {
            shell,
            worker,
            tick,
            fence,
            fencing,
            started,
            _accepting: accepting,
            _looking: looking,
        })
    }

    /// Takes turns until the replica ends.
    async fn drive(
        self,
        disk: &mut Disk,
        serving: &mut Option<impl FnOnce()>,
        mut shutdown: Pin<&mut impl Future<Output = ()>>,
    ) -> End {
        let mut ticks = tokio::time::interval(self.tick);
        // Ticks that a stopped or starved process missed are no silence of its peers.
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut leave_timeout = pin!(tokio::time::sleep(Duration::MAX));
        let mut leaving = false;
        let (mut events, mut actions, mut to_store) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            tokio::select! {
                () = self.shell.woken() => {}
                event = disk.next() => {
                    if let Some(end) = self.stored(event) {
                        return end;
                    }
                }
                _ = ticks.tick() => {
                    self.shell.names.follow(|| self.shell.status());
                    self.shell.post(Event::Tick);
                }
                () = &mut shutdown, if !leaving => {
                    leaving = true;
                    leave_timeout.set(tokio::time::sleep(LEAVE_TIMEOUT));
                    self.shell.post(Event::Leave);
                }
                () = &mut leave_timeout, if leaving => {
                    let reason = "told to stop; the others have not confirmed that it left";
                    return End::Stop(Ok(reason.into()));
                }
            }
            // Once around: all that is ready to be read now becomes part of this turn.
            tokio::task::yield_now().await;
            self.turn(&mut events, &mut actions);
            reach("driver::turn");
            let mut end = None;
            for action in actions.drain(..) {
                if matches!(action, Action::Persist(_) | Action::Save(_)) {
                    to_store.push(action);
                } else {
                    end = self.perform(action, disk, serving).or(end);
                }
            }
            // The longest way first: over the others' disks, then over this one's. Who is answered
            // now has waited for both already.
            self.shell.to_peers.flush();
            for action in to_store.drain(..) {
                end = self.perform(action, disk, serving).or(end);
            }
            self.shell.to_clients.flush();
            if let Some(end) = end {
                return end;
            }
        }
    }

    /// Takes note of what became of something that was to be made safe.
    fn stored(&self, event: StorageEvent) -> Option<End> {
        reach("driver::stored");
        match event {
            StorageEvent::Persisted(number) => self.shell.post(Event::Persisted(number)),
            StorageEvent::Saved(index, result) => self.shell.post(Event::Saved(index, result)),
            StorageEvent::Full(reason) => {
                tracing::error!("{reason}; nothing is acknowledged here until there is room");
            }
            StorageEvent::Room => tracing::info!("there is room again"),
            StorageEvent::Failed(reason) => {
                let advice = "this replica stops, since nobody knows what is safe on its disk";
                return Some(End::Stop(Err(format!("{reason}: {advice}; the others go on"))));
            }
        }
        None
    }

    /// One turn: all input that is there, one decision.
    fn turn(&self, events: &mut Vec<Event>, actions: &mut Vec<Action>) {
        self.shell.take_posted(events);
        let mut replica = self.shell.replica.borrow_mut();
        for event in events.drain(..) {
            replica.step(event);
        }
        replica.turn(self.started.elapsed(), wall_ms(), actions);
    }

    /// Does what the replica wants done, but for what waits for the end of the turn to be
    /// written. Says whether the replica is at its end.
    fn perform(
        &self,
        action: Action,
        disk: &Disk,
        serving: &mut Option<impl FnOnce()>,
    ) -> Option<End> {
        reach(of_action(&action));
        let shell = &self.shell;
        match action {
            Action::Answer(connection, answer) => shell.answer(connection, answer),
            Action::Send(to, message) => shell.peers.send(shell, to, message),
            Action::HangUp(peer) => shell.peers.hang_up(peer),
            Action::Worker(action) => {
                let worker = self.worker.as_ref();
                worker.expect("only a replica with a hosted object asks for this").ask(action);
            }
            Action::Contacts => {
                let contacts = shell.replica.borrow().contacts();
                shell.peers.follow(shell, &contacts);
            }
            Action::Backup(connection, about, snapshot) => {
                shell.give_backup(connection, about, snapshot);
            }
            Action::View(_) => {}
            Action::Watch(id, process) => shell.deaths.watch(shell, id, process),
            Action::Fence(number, peer) => {
                let spec = self.fence.clone().expect("only asked for where there is a command");
                let task = Task::spawn(fence(Rc::clone(shell), spec, number, peer));
                self.fencing.set(Some(task));
            }
            Action::Persist(persist) => disk.storage().persist(persist),
            Action::Save(snapshot) => disk.storage().save(snapshot),
            Action::Serving => {
                // Whoever hears that calls are served may ask for names at once.
                shell.names.follow(|| shell.status());
                if let Some(serving) = serving.take() {
                    serving();
                }
            }
            Action::Note(level, text) => note(level, &text),
            Action::Disconnect(connection) => shell.disconnect(connection),
            Action::Restart(bootstrap, reason) => return Some(End::Restart(bootstrap, reason)),
            Action::Stop(reason) => return Some(End::Stop(reason)),
        }
        None
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shell.end();
    }
}

/// What the core is told of that, with nobody to join and nothing to go on from.
fn core_config(config: &ReplicaConfig, member: Member) -> io::Result<Config> {
    Ok(Config {
        member,
        bootstrap: Vec::new(),
        restore: None,
        runtime: String::new(),
        seed: random()?,
        tick: config.tick,
        election_timeout: config.election_timeout,
        heartbeat: config.heartbeat,
        session_timeout: config.session_timeout,
        dead_timeout: config.dead_timeout,
        snapshot_bytes: config.snapshot_bytes,
        disk_timeout: config.disk_timeout,
        worker_timeout: config.object.worker().map_or(Duration::MAX, WorkerSpec::patience),
        refused_is_dead: config.refused_is_dead,
        fences: config.fence.is_some(),
        greeting: config.greeting,
    })
}

/// Looks the names of other replicas up until this one has joined them. One that comes back does
/// so once: if all that it knew were replaced, only their name leads to those who are there now.
async fn look_up(shell: Rc<Shell>, names: Bootstrap) {
    let mut trouble = String::new();
    loop {
        match concoord::tokio::look_up(&names, LOOK_UP_TIMEOUT).await {
            Ok(addresses) => {
                shell.post(Event::Found(addresses));
                trouble.clear();
            }
            Err(error) if error.to_string() != trouble => {
                trouble = error.to_string();
                tracing::debug!("nobody to join is found: {trouble}");
            }
            Err(_) => {}
        }
        if trouble.is_empty() && !shell.replica.borrow().is_joining() {
            return;
        }
        tokio::time::sleep(LOOK_UP_AGAIN).await;
    }
}

/// What is hosted, what it behaves like, and the worker, if there is one.
async fn host(object: &ObjectSpec) -> Result<(Hosting, String, Option<Worker>), LoadError> {
    let mut hosting = match object {
        ObjectSpec::Native(make, _) => Hosting::native(make()),
        ObjectSpec::Worker(_) => Hosting::worker(Vec::new()),
        ObjectSpec::Nowhere(class) => {
            Hosting::nowhere(Interface { class: class.clone(), ..Interface::default() })
        }
    };
    let Some(spec) = object.worker() else { return Ok((hosting, String::new(), None)) };
    let (worker, loaded) = Worker::load(spec.clone()).await?;
    hosting.worker = loaded.interfaces;
    Ok((hosting, loaded.runtime, Some(worker)))
}

/// The backup's state, if it is one of that object.
fn fitting(
    (about, snapshot): (About, Snapshot),
    interface: &Interface,
    runtime: &str,
) -> Result<Snapshot, RunError> {
    let About { class, runtime: before, .. } = about;
    if class != interface.class {
        let text =
            format!("the backup is of {class}, not of {}: name that with -o", interface.class);
        return Err(RunError::Backup(text));
    }
    if before != runtime {
        return Err(RunError::Backup(format!(
            "the object would behave differently than where the backup was made: {before} there, \
             {runtime} here. Take that Python with --python, and the class's source as it was"
        )));
    }
    Ok(snapshot)
}

fn note(level: tracing::Level, text: &str) {
    match level {
        tracing::Level::ERROR => tracing::error!("{text}"),
        tracing::Level::WARN => tracing::warn!("{text}"),
        tracing::Level::INFO => tracing::info!("{text}"),
        tracing::Level::DEBUG => tracing::debug!("{text}"),
        tracing::Level::TRACE => tracing::trace!("{text}"),
    }
}

fn random() -> io::Result<u64> {
    getrandom::u64().map_err(io::Error::other)
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// A connection is a file: what the system allows by default is less than we serve.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!("the limit on open files stays at {:?}: {error}", limit.current);
    }
}
