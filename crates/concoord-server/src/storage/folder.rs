//! The data folder: whose it is, and what is in it.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use concoord_core::view::ReplicaId;
use concoord_core::wal;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::disk::{Kind, delete, sync_folder, write_whole};
use super::{StorageError, Who};

/// The version of the folder as a whole.
const FORMAT: u32 = 1;

/// Bytes of the identity.
const IDENTITY_BYTES_MAX: u64 = 16 << 10;

const LOCK: &str = "lock";
const IDENTITY: &str = "identity";
const LOG: &str = "log-";
const SNAPSHOT: &str = "snapshot-";
/// What [`Folder::set_aside`] makes.
const DAMAGED: &str = "damaged-";
/// What was set aside by [`Folder::finish_aside`], until then, and whose it was.
pub(super) const DISCARDED: &str = "discarded";
pub(super) const DISCARDING: &str = "discarding";
pub(super) const WAS: &str = "was";
/// The file system's own, where the folder is the top of one.
const LOST_AND_FOUND: &str = "lost+found";

/// An open data folder; no other process has it open.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

/// What the folder holds, the numbers in order.
#[derive(Debug, Default)]
pub(super) struct Content {
    identity: bool,
    pub(super) segments: Vec<u64>,
    snapshots: Vec<u64>,
    temporary: Vec<PathBuf>,
    aside: u64,
}

/// Who wrote the folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) wal: wal::Folder,
    class: String,
    address: SocketAddr,
    /// When it was made, seconds since 1970.
    created: u64,
    /// Whether anything in the folder may count. Before that the log and the snapshots, if there
    /// are any, are another replica's and void.
    pub(super) used: bool,
    /// What the object behaves like; see [`Who::runtime`].
    runtime: String,
    /// Whether it keeps the log of a witness, which has no object.
    witness: bool,
    /// Replicas of the cluster that this one is to join again, as long as nothing counts.
    pub(super) rejoin: Vec<SocketAddr>,
}

impl Folder {
    /// Makes the folder if it is not there, and takes hold of it.
    pub(super) fn open(path: &Path) -> Result<Self, StorageError> {
        let failed = |error| StorageError::io(path, error);
        if !path.exists() {
            let is_new = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
            let new: Vec<&Path> = path.ancestors().take_while(is_new).collect();
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
            for path in new {
                let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
                sync_folder(parent.unwrap_or_else(|| Path::new(".")), Kind::Identity)
                    .map_err(failed)?;
            }
        }
        Self::content_of(path)?;
        fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(failed)?;
        let lock = Self::lock(path)?;
        Ok(Self { path: path.into(), _lock: lock })
    }

    fn lock(folder: &Path) -> Result<File, StorageError> {
        let path = folder.join(LOCK);
        let failed = |error| StorageError::io(&path, error);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(&path).map_err(failed)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                (&file).take(20).read_to_string(&mut pid).map_err(failed)?;
                let folder = folder.to_owned();
                return Err(StorageError::InUse { folder, pid: pid.trim().into() });
            }
            Err(error) => return Err(failed(error.into())),
        }
        file.set_len(0).map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(file)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn segment(&self, number: u64) -> PathBuf {
        segment_path(&self.path, number)
    }

    pub(super) fn snapshot(&self, index: u64) -> PathBuf {
        snapshot_path(&self.path, index)
    }

    pub(super) fn content(&self) -> Result<Content, StorageError> {
        Self::content_of(&self.path)
    }

    /// The indices of the snapshots, in order.
    pub(super) fn snapshots(&self) -> io::Result<Vec<u64>> {
        snapshots_in(&self.path)
    }

    fn content_of(path: &Path) -> Result<Content, StorageError> {
        let failed = |error| StorageError::io(path, error);
        let mut content = Content::default();
        for file in fs::read_dir(path).map_err(failed)? {
            let name = file.map_err(failed)?.file_name();
            let known = name.to_str().is_some_and(|name| content.note(path, name));
            if !known {
                let name = name.to_string_lossy().into_owned();
                return Err(StorageError::NotOurs { folder: path.into(), name });
            }
        }
        content.segments.sort_unstable();
        Ok(content)
    }

    /// Reads who wrote the folder, or says that it is this replica.
    pub(super) fn identify(&self, who: &Who) -> Result<Identity, StorageError> {
        let content = self.content()?;
        for path in &content.temporary {
            delete(path, Kind::Identity).map_err(|error| StorageError::io(path, error))?;
        }
        if !content.identity {
            if !content.segments.is_empty() || !content.snapshots.is_empty() {
                return Err(self.damaged("the file that says whose it is, identity, is missing"));
            }
            return self.identify_anew(who, &[]);
        }
        let identity = self.read_identity()?;
        if identity.class != who.class {
            return Err(StorageError::OtherClass {
                folder: self.path.clone(),
                theirs: identity.class,
                ours: who.class.clone(),
            });
        }
        if identity.address != who.address {
            return Err(StorageError::OtherAddress {
                folder: self.path.clone(),
                theirs: identity.address,
                ours: who.address,
            });
        }
        if identity.used && identity.witness != who.witness {
            let (folder, witness) = (self.path.clone(), identity.witness);
            return Err(StorageError::OtherRole { folder, witness });
        }
        if identity.used && identity.runtime != who.runtime {
            return Err(StorageError::OtherRuntime {
                folder: self.path.clone(),
                theirs: identity.runtime,
                ours: who.runtime.clone(),
            });
        }
        Ok(identity)
    }

    /// Makes it the folder of a new replica, in which nothing counts yet, and which is to join
    /// the cluster of those.
    pub(super) fn identify_anew(
        &self,
        who: &Who,
        rejoin: &[SocketAddr],
    ) -> Result<Identity, StorageError> {
        let random = || getrandom::u64().map_err(|error| self.failed(io::Error::other(error)));
        let identity = Identity {
            wal: wal::Folder { replica: ReplicaId(random()?), data: random()? },
            class: who.class.clone(),
            address: who.address,
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs()),
            used: false,
            runtime: who.runtime.clone(),
            witness: who.witness,
            rejoin: rejoin.to_vec(),
        };
        self.write_identity(&identity).map_err(|error| self.failed(error))?;
        Ok(identity)
    }

    pub(super) fn write_identity(&self, identity: &Identity) -> io::Result<()> {
        write_identity(&self.path, identity)
    }

    pub(super) fn read_identity(&self) -> Result<Identity, StorageError> {
        let mut text = String::new();
        let file = File::open(self.path.join(IDENTITY));
        let read = file.and_then(|file| file.take(IDENTITY_BYTES_MAX).read_to_string(&mut text));
        read.map_err(|error| self.damaged(&format!("identity can't be read: {error}")))?;
        let format = Identity::format(&text);
        if let Some(format) = format.filter(|format| *format > FORMAT) {
            return Err(StorageError::Newer { folder: self.path.clone(), format });
        }
        Identity::parse(&text).ok_or_else(|| self.damaged("identity is not what was written"))
    }

    pub(super) fn damaged(&self, flaw: &str) -> StorageError {
        StorageError::Damaged { folder: self.path.clone(), flaw: flaw.into() }
    }

    pub(super) fn failed(&self, error: io::Error) -> StorageError {
        StorageError::io(&self.path, error)
    }

    /// Moves all that a replica wrote into a folder of its own below. What says whose it is goes
    /// first: what is left behind by a crash is not taken for a replica.
    pub(super) fn set_aside(&self) -> Result<PathBuf, StorageError> {
        let content = self.content()?;
        let aside = self.path.join(format!("{DAMAGED}{}", content.aside + 1));
        let moved = |name: &Path| {
            let to = aside.join(name.file_name().unwrap_or_default());
            match fs::rename(name, to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
        };
        let all = || {
            DirBuilder::new().mode(0o700).create(&aside)?;
            moved(&self.path.join(IDENTITY))?;
            sync_folder(&self.path, Kind::Identity)?;
            content.segments.iter().try_for_each(|number| moved(&self.segment(*number)))?;
            content.snapshots.iter().try_for_each(|index| moved(&self.snapshot(*index)))?;
            content.temporary.iter().try_for_each(|path| moved(path))?;
            sync_folder(&aside, Kind::Identity)?;
            sync_folder(&self.path, Kind::Identity)
        };
        all().map_err(|error| self.failed(error))?;
        Ok(aside)
    }
}

pub(super) fn segment_path(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{LOG}{number}"))
}

pub(super) fn snapshot_path(folder: &Path, index: u64) -> PathBuf {
    folder.join(format!("{SNAPSHOT}{index}"))
}

/// The indices of the snapshots of a folder, in order.
pub(super) fn snapshots_in(folder: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for file in fs::read_dir(folder)? {
        let name = file?.file_name();
        found.extend(name.to_str().and_then(|name| number(name.strip_prefix(SNAPSHOT)?)));
    }
    found.sort_unstable();
    Ok(found)
}

pub(super) fn write_identity(folder: &Path, identity: &Identity) -> io::Result<()> {
    let text = identity.text();
    write_whole(&folder.join(IDENTITY), Kind::Identity, |mut file| file.write_all(text.as_bytes()))
}

impl Content {
    /// Whether a file of that name is one of ours.
    fn note(&mut self, folder: &Path, name: &str) -> bool {
        let number = |prefix| name.strip_prefix(prefix).and_then(number);
        if let Some(whole) = name.strip_suffix(".tmp") {
            let ours = Self::default().note(folder, whole);
            self.temporary.push(folder.join(name));
            return ours;
        }
        if let Some(number) = number(LOG) {
            self.segments.push(number);
        } else if let Some(index) = number(SNAPSHOT) {
            self.snapshots.push(index);
        } else if let Some(number) = number(DAMAGED) {
            self.aside = self.aside.max(number);
        } else if name == IDENTITY {
            self.identity = true;
        } else {
            return [LOCK, LOST_AND_FOUND, DISCARDED, DISCARDING].contains(&name);
        }
        true
    }
}

/// A number as we write it, and in no other way.
fn number(text: &str) -> Option<u64> {
    text.parse().ok().filter(|number: &u64| number.to_string() == text)
}

impl Identity {
    pub(super) fn text(&self) -> String {
        let Self { wal, class, address, created, used, runtime, witness, rejoin } = self;
        let witness = if *witness { "witness true\n" } else { "" };
        let rejoin: Vec<String> = rejoin.iter().map(SocketAddr::to_string).collect();
        let rejoin = rejoin.join(",");
        let text = format!(
            "ConCoord data folder, format {FORMAT}\n\
             replica {}\ndata {:016x}\nclass {class}\naddress {address}\ncreated {created}\n\
             used {used}\nruntime {runtime}\n{witness}rejoin {rejoin}\n",
            wal.replica, wal.data
        );
        let checksum = crc32c::crc32c(text.as_bytes());
        format!("{text}checksum {checksum:08x}\n")
    }

    fn format(text: &str) -> Option<u32> {
        text.lines().next()?.strip_prefix("ConCoord data folder, format ")?.parse().ok()
    }

    fn parse(text: &str) -> Option<Self> {
        let field =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let hex = |name| u64::from_str_radix(field(name)?, 16).ok();
        let this = Self {
            wal: wal::Folder { replica: ReplicaId(hex("replica")?), data: hex("data")? },
            class: field("class")?.into(),
            address: field("address")?.parse().ok()?,
            created: field("created")?.parse().ok()?,
            used: field("used")?.parse().ok()?,
            runtime: field("runtime")?.into(),
            witness: field("witness").is_some(),
            rejoin: field("rejoin")?
                .split(',')
                .filter(|address| !address.is_empty())
                .map(|address| address.parse().ok())
                .collect::<Option<_>>()?,
        };
        // Written again it is the same, its checksum too.
        (this.text() == text).then_some(this)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity {
            wal: wal::Folder { replica: ReplicaId(0xabc), data: 0x123 },
            class: "bank.Account".into(),
            address: ([127, 0, 0, 1], 14000).into(),
            created: 1_795_000_000,
            used: true,
            runtime: "python 3.11".into(),
            witness: false,
            rejoin: vec![([127, 0, 0, 1], 14001).into(), ([127, 0, 0, 1], 14002).into()],
        }
    }

    /// Version 1 stays readable: this is on people's disks.
    #[test]
    fn an_identity_is_read_by_people_too() {
        let text = "ConCoord data folder, format 1\n\
                    replica 0000000000000abc\n\
                    data 0000000000000123\n\
                    class bank.Account\n\
                    address 127.0.0.1:14000\n\
                    created 1795000000\n\
                    used true\n\
                    runtime python 3.11\n\
                    rejoin 127.0.0.1:14001,127.0.0.1:14002\n\
                    checksum 7f335671\n";
        assert_eq!(identity().text(), text);
        assert_eq!(Identity::parse(text), Some(identity()));
        let witness = Identity { witness: true, ..identity() };
        assert!(witness.text().contains("\nwitness true\nrejoin "));
        assert_eq!(Identity::parse(&witness.text()), Some(witness));
    }

    #[test]
    fn an_identity_that_was_changed_is_none() {
        let text = identity().text();
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            let changed = String::from_utf8(bytes).unwrap();
            assert_eq!(Identity::parse(&changed), None, "byte {at}");
            assert_eq!(Identity::parse(&text[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn only_names_that_we_write_are_ours() {
        let ours = |name| Content::default().note(Path::new(""), name);
        for name in ["lock", "identity", "log-1", "snapshot-0", "log-7.tmp", "damaged-3"] {
            assert!(ours(name), "{name}");
        }
        for name in
            ["was", "log-", "log-01", "log-x", "log--1", "notes.tmp", "snapshot-1.bak", ".git"]
        {
            assert!(!ours(name), "{name}");
        }
    }
}
