//! `concoord snapshot`: backups of a living cluster, and clusters that start from one.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use bytes::BytesMut;
use concoord_core::durable::{Contents, Snapshot};
use concoord_core::limits::{FRAME_BYTES_MAX, SNAPSHOT_BYTES_MAX};
use concoord_core::snapshot::{self, About, SnapshotError, Writer};
use concoord_core::wire::{
    Answer, ClientHello, Hello, PREAMBLE, Parcel, Request, Welcome, read_message, take_frame,
    write_frame,
};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value as Json, json};

use super::exit::{Exit, Failure};
use super::output::{grouped, say, say_json};
use super::{BOOTSTRAP, addresses, replica, seconds};

/// Bytes that one read takes.
const READ_BYTES: usize = 256 << 10;

#[derive(Debug, clap::Subcommand)]
pub(super) enum Command {
    /// Write the state of a living cluster to a file
    #[command(after_long_help = super::EXIT_CODES)]
    Save(Save),
    /// Start the first replica of a new cluster with the state in a file
    #[command(after_long_help = super::EXIT_CODES)]
    Restore(Restore),
    /// Show what is in a file, and whether all of it is sound
    #[command(after_long_help = super::EXIT_CODES)]
    Show(Show),
}

#[derive(Debug, clap::Args)]
pub(super) struct Save {
    /// Where to write it
    file: PathBuf,
    /// address:port of a replica, or several with commas between, or their domain name
    #[arg(short, long, value_name = "BOOTSTRAP", default_value = BOOTSTRAP)]
    boot: String,
    /// How long the replica may be silent
    #[arg(long, value_parser = seconds, value_name = "SECONDS", default_value = "30")]
    timeout: Duration,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Restore {
    /// What `concoord snapshot save` wrote
    file: PathBuf,
    #[command(flatten)]
    options: Box<replica::Options>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    /// What `concoord snapshot save` wrote
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Command, installed: Option<PathBuf>) -> Result<(), Failure> {
    match command {
        Command::Save(options) => {
            let saved = save(options)?;
            if options.json {
                say_json(&saved.to_json());
            } else {
                let (file, bytes) = (options.file.display(), grouped(saved.bytes()));
                let Description { about, index, .. } = &saved;
                say(format!("{file} holds {} at entry {index}, {bytes} bytes.", about.class));
            }
            Ok(())
        }
        Command::Restore(Restore { file, options }) => {
            replica::start(options, installed, Some(read(file)?))
        }
        Command::Show(Show { file, json }) => {
            let (about, snapshot) = read(file)?;
            let shown = Description::of(about, &snapshot)?;
            if *json {
                say_json(&shown.to_json());
            } else {
                say(shown.to_text());
            }
            Ok(())
        }
    }
}

type Backup = (About, Snapshot);

/// Asks the replicas in turn, until one takes us, and writes what it gives.
fn save(options: &Save) -> Result<Description, Failure> {
    let mut reasons = Vec::new();
    let mut exit = Exit::Unreachable;
    for address in addresses(&options.boot, options.timeout)? {
        let reason = match Line::open(address, options.timeout) {
            Ok((mut line, Welcome::Client { .. })) => return line.backup(&options.file),
            Ok((_, Welcome::NotYet(reason) | Welcome::Refused(reason))) => {
                exit = Exit::NotReady;
                reason
            }
            Ok((_, other)) => format!("it answers {other:?}"),
            Err(error) => error.to_string(),
        };
        reasons.push(format!("{address}: {reason}"));
    }
    let message =
        format!("no replica gives a backup ({}): name others with -b", reasons.join("; "));
    Err(Failure::new(exit, message))
}

/// A connection to a replica.
struct Line {
    stream: TcpStream,
    pending: BytesMut,
    chunk: Vec<u8>,
}

impl Line {
    fn open(address: SocketAddr, timeout: Duration) -> io::Result<(Self, Welcome)> {
        let stream = TcpStream::connect_timeout(&address, timeout)?;
        stream.set_read_timeout(Some(timeout))?;
        let mut line = Self { stream, pending: BytesMut::new(), chunk: vec![0; READ_BYTES] };
        line.stream.write_all(&PREAMBLE)?;
        line.send(&Hello::Client(ClientHello { class: None, session: None }))?;
        let welcome = line.receive()?;
        Ok((line, welcome))
    }

    fn send<M: Serialize>(&mut self, message: &M) -> io::Result<()> {
        let mut frame = BytesMut::new();
        write_frame(message, &mut frame);
        self.stream.write_all(&frame)
    }

    fn receive<M: DeserializeOwned>(&mut self) -> io::Result<M> {
        loop {
            if let Some(frame) = take_frame(&mut self.pending, FRAME_BYTES_MAX).map_err(invalid)? {
                return read_message(&frame).map_err(invalid);
            }
            match self.stream.read(&mut self.chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(bytes) => {
                    self.pending.extend_from_slice(self.chunk.get(..bytes).unwrap_or_default());
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(error) => return Err(error),
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "a client is told much else")]
    fn backup(&mut self, file: &Path) -> Result<Description, Failure> {
        self.send(&Request::Backup).map_err(broken)?;
        let (about, parcel) = loop {
            match self.receive().map_err(broken)? {
                Answer::Backup(about, parcel) => break (about, parcel),
                Answer::NoBackup(reason) => return Err(Failure::failed(reason)),
                _ => {}
            }
        };
        let bytes = parcel.bytes().filter(|bytes| *bytes <= SNAPSHOT_BYTES_MAX as u64);
        let bytes = bytes.ok_or_else(|| {
            Failure::failed(format!("the backup takes more than {SNAPSHOT_BYTES_MAX} bytes"))
        })?;
        let mut unfinished = Unfinished::begin(file, &about, &parcel)?;
        let (progress, mut state) = (progress(bytes), BytesMut::new());
        while progress.position() < bytes {
            if let Answer::Part(part) = self.receive().map_err(broken)? {
                unfinished.push(&part)?;
                let left = usize::try_from(parcel.state).unwrap_or(usize::MAX) - state.len();
                state.extend_from_slice(part.get(..left).unwrap_or(&part));
                progress.inc(part.len() as u64);
            }
        }
        progress.finish_and_clear();
        unfinished.end()?;
        // What is said of it is in the state, and the object may be large.
        let Parcel { index, term, object, .. } = parcel;
        let snapshot = Snapshot { index, term, state: state.freeze(), object: None };
        Ok(Description { object, ..Description::of(about, &snapshot)? })
    }
}

fn invalid(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn broken(error: io::Error) -> Failure {
    if error.kind() == io::ErrorKind::TimedOut {
        return Failure::new(
            Exit::NotReady,
            "the replica gives no backup in time: `concoord status` says whether it has a quorum",
        );
    }
    let message = format!("the replica went away ({error}): save again, from another one with -b");
    Failure::new(Exit::Unreachable, message)
}

/// A bar on a terminal; elsewhere nothing.
fn progress(bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {bytes_per_sec}");
    ProgressBar::new(bytes).with_style(style.expect("the template is sound"))
}

/// A backup that is being written under another name, for its owner alone: the file is there whole
/// or not at all.
struct Unfinished<'a> {
    file: &'a Path,
    path: PathBuf,
    /// Until it is renamed.
    writer: Option<Writer<BufWriter<File>>>,
}

impl<'a> Unfinished<'a> {
    fn begin(file: &'a Path, about: &About, parcel: &Parcel) -> Result<Self, Failure> {
        let mut name = file.as_os_str().to_owned();
        name.push(".tmp");
        let mut this = Self { file, path: name.into(), writer: None };
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let opened = options.open(&this.path).and_then(|opened| {
            Writer::begin(about, parcel, BufWriter::with_capacity(READ_BYTES, opened))
        });
        this.writer = Some(opened.map_err(|error| this.failed(&error))?);
        Ok(this)
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let pushed = self.writer.as_mut().map_or(Ok(()), |writer| writer.push(bytes));
        pushed.map_err(|error| self.failed(&error))
    }

    fn end(mut self) -> Result<(), Failure> {
        let writer = self.writer.take();
        let ended = writer.map_or(Ok(()), |writer| {
            writer.end()?.into_inner()?.sync_all()?;
            std::fs::rename(&self.path, self.file)?;
            let folder = self.file.parent().filter(|folder| !folder.as_os_str().is_empty());
            File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
        });
        ended.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::InvalidData {
            return Failure::failed("the backup was damaged on its way: save it again");
        }
        Failure::failed(format!("{} can't be written: {error}", self.file.display()))
    }
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        // It has its own name now, or is of no use; or it is not even there.
        std::fs::remove_file(&self.path).unwrap_or_default();
    }
}

fn read(file: &Path) -> Result<Backup, Failure> {
    let name = file.display();
    let open = |error| Failure::failed(format!("{name} can't be read: {error}"));
    let opened = File::open(file).map_err(open)?;
    let bytes = opened.metadata().map_err(open)?.len();
    snapshot::read(&mut BufReader::with_capacity(READ_BYTES, opened), bytes).map_err(|error| {
        let what = match error {
            SnapshotError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                format!("it ends at byte {bytes}, before its end")
            }
            SnapshotError::Damaged(0..=16) => "it is no backup".into(),
            SnapshotError::Damaged(at) => format!("it is damaged before byte {at}"),
            error @ (SnapshotError::Io(_) | SnapshotError::Newer(_)) => error.to_string(),
        };
        Failure::failed(format!("{name} can't be used: {what}. Take another copy of it"))
    })
}

/// What there is to say of a backup.
struct Description {
    about: About,
    index: u64,
    term: u64,
    /// Bytes.
    state: u64,
    object: Option<u64>,
    contents: Contents,
}

impl Description {
    fn of(about: About, snapshot: &Snapshot) -> Result<Self, Failure> {
        let Snapshot { index, term, .. } = *snapshot;
        let (state, object) = (snapshot.state.len() as u64, snapshot.object.as_ref());
        let object = object.map(|object| object.len() as u64);
        let contents = snapshot.contents().map_err(Failure::failed)?;
        Ok(Self { about, index, term, state, object, contents })
    }

    fn bytes(&self) -> u64 {
        self.state + self.object.unwrap_or(0)
    }

    fn members(&self) -> Vec<String> {
        self.contents.view.voters().map(|member| member.address.to_string()).collect()
    }

    fn to_json(&self) -> Json {
        let Self { about, index, term, contents, .. } = self;
        json!({
            "object": about.class,
            "runtime": about.runtime,
            "cluster": contents.view.cluster.to_string(),
            "lineage": contents.view.lineage,
            "index": index,
            "term": term,
            "members": self.members(),
            "sessions": contents.sessions,
            "calls": contents.calls,
            "state_bytes": self.state,
            "object_bytes": self.object,
            "written_ms": about.written_ms,
        })
    }

    fn to_text(&self) -> String {
        let Self { about, index, term, contents, .. } = self;
        let seconds = Duration::from_secs(about.written_ms / 1000);
        let age = UNIX_EPOCH.checked_add(seconds).and_then(|at| at.elapsed().ok());
        let age =
            age.map_or_else(|| "in the future".into(), |age| format!("{} s ago", age.as_secs()));
        let runtime = Some(&*about.runtime).filter(|runtime| !runtime.is_empty());
        let lines = [
            ("object", about.class.clone()),
            ("runtime", runtime.unwrap_or("native").into()),
            ("cluster", format!("{}, lineage {}", contents.view.cluster, contents.view.lineage)),
            ("members", self.members().join(", ")),
            ("entry", format!("{} of term {term}", grouped(*index))),
            ("written", age),
            ("sessions", grouped(contents.sessions as u64)),
            ("calls", grouped(contents.calls)),
            ("bytes", grouped(self.bytes())),
        ];
        lines.map(|(name, what)| format!("{name:<9} {what}")).join("\n")
    }
}
