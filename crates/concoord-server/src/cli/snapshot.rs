//! `concoord snapshot`: backups of a living cluster, and clusters that start from one.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use concoord_core::durable::{Contents, Snapshot};
use concoord_core::limits::{FRAME_BYTES_MAX, SNAPSHOT_BYTES_MAX};
use concoord_core::snapshot::{self, About, SnapshotError};
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
            let backup = fetch(options)?;
            write(&options.file, &backup)?;
            let about = describe(&backup)?;
            if options.json {
                say_json(&about.to_json());
            } else {
                let bytes = grouped(backup.1.size() as u64);
                let (file, index) = (options.file.display(), backup.1.index);
                say(format!("{file} holds {} at entry {index}, {bytes} bytes.", backup.0.class));
            }
            Ok(())
        }
        Command::Restore(Restore { file, options }) => {
            replica::start(options, installed, Some(read(file)?))
        }
        Command::Show(Show { file, json }) => {
            let backup = read(file)?;
            let about = describe(&backup)?;
            if *json {
                say_json(&about.to_json());
            } else {
                say(about.to_text());
            }
            Ok(())
        }
    }
}

type Backup = (About, Snapshot);

/// Asks the replicas in turn, until one takes us.
fn fetch(options: &Save) -> Result<Backup, Failure> {
    let mut reasons = Vec::new();
    let mut exit = Exit::Unreachable;
    for address in addresses(&options.boot, options.timeout)? {
        let reason = match Line::open(address, options.timeout) {
            Ok((mut line, Welcome::Client { .. })) => return line.backup(),
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
    fn backup(&mut self) -> Result<Backup, Failure> {
        self.send(&Request::Backup).map_err(broken)?;
        let (about, parcel) = loop {
            match self.receive().map_err(broken)? {
                Answer::Backup(about, parcel) => break (about, parcel),
                Answer::NoBackup(reason) => return Err(Failure::failed(reason)),
                _ => {}
            }
        };
        let bytes = parcel.bytes().and_then(|bytes| usize::try_from(bytes).ok());
        let bytes = bytes.filter(|bytes| *bytes <= SNAPSHOT_BYTES_MAX).ok_or_else(|| {
            Failure::failed(format!("the backup takes more than {SNAPSHOT_BYTES_MAX} bytes"))
        })?;
        let progress = progress(bytes as u64);
        let mut whole = BytesMut::new();
        while whole.len() < bytes {
            if let Answer::Part(part) = self.receive().map_err(broken)? {
                whole.extend_from_slice(&part);
                progress.set_position(whole.len() as u64);
            }
        }
        progress.finish_and_clear();
        Ok((about, unpack(parcel, whole.freeze())?))
    }
}

fn unpack(parcel: Parcel, mut bytes: Bytes) -> Result<Snapshot, Failure> {
    let Parcel { index, term, digest, .. } = parcel;
    let state = usize::try_from(parcel.state).unwrap_or(usize::MAX);
    let state = bytes.split_to(state.min(bytes.len()));
    let snapshot = Snapshot { index, term, state, object: parcel.object.map(|_| bytes) };
    if snapshot.digest() != digest {
        return Err(Failure::failed("the backup was damaged on its way: save it again"));
    }
    Ok(snapshot)
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

/// Writes the file so that it is there whole or not at all, for its owner alone.
fn write(file: &Path, (about, snapshot): &Backup) -> Result<(), Failure> {
    let mut name = file.as_os_str().to_owned();
    name.push(".tmp");
    let unfinished = PathBuf::from(name);
    let written = write_to(&unfinished, about, snapshot).and_then(|()| {
        std::fs::rename(&unfinished, file)?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or_else(|| Path::new(".")))?.sync_all()
    });
    written.map_err(|error| {
        // It may not even be there.
        std::fs::remove_file(&unfinished).unwrap_or_default();
        Failure::failed(format!("{} can't be written: {error}", file.display()))
    })
}

fn write_to(file: &Path, about: &About, snapshot: &Snapshot) -> io::Result<()> {
    let options = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(file);
    let mut to = BufWriter::with_capacity(READ_BYTES, options?);
    snapshot::write(about, snapshot, &mut to)?;
    to.into_inner()?.sync_all()
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
struct Description<'a> {
    about: &'a About,
    snapshot: &'a Snapshot,
    contents: Contents,
}

fn describe((about, snapshot): &Backup) -> Result<Description<'_>, Failure> {
    let contents = snapshot.contents().map_err(Failure::failed)?;
    Ok(Description { about, snapshot, contents })
}

impl Description<'_> {
    fn members(&self) -> Vec<String> {
        self.contents.view.voters().map(|member| member.address.to_string()).collect()
    }

    fn to_json(&self) -> Json {
        let Self { about, snapshot, contents } = self;
        json!({
            "object": about.class,
            "runtime": about.runtime,
            "cluster": contents.view.cluster.to_string(),
            "lineage": contents.view.lineage,
            "index": snapshot.index,
            "term": snapshot.term,
            "members": self.members(),
            "sessions": contents.sessions,
            "calls": contents.calls,
            "state_bytes": snapshot.state.len(),
            "object_bytes": snapshot.object.as_ref().map(Bytes::len),
            "written_ms": about.written_ms,
        })
    }

    fn to_text(&self) -> String {
        let Self { about, snapshot, contents } = self;
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
            ("entry", format!("{} of term {}", grouped(snapshot.index), snapshot.term)),
            ("written", age),
            ("sessions", grouped(contents.sessions as u64)),
            ("calls", grouped(contents.calls)),
            ("bytes", grouped(snapshot.size() as u64)),
        ];
        lines.map(|(name, what)| format!("{name:<9} {what}")).join("\n")
    }
}
