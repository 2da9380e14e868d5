//! Where replicas keep their data, and what can happen to it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::cluster::until;
use crate::network::run;

/// What is below a replica's data folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// None: objects live in memory.
    None,
    /// That of this machine.
    Folder,
    /// One that is soon full.
    Small,
    /// One whose power can be cut.
    Own,
}

/// Room for some segments of the log and a snapshot or two.
const SMALL_MIB: u64 = 384;
const OWN_MIB: u64 = 768;
const MIB: u64 = 1 << 20;

impl Disk {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Folder => "folder",
            Self::Small => "small",
            Self::Own => "own",
        }
    }

    /// Makes the disk, and the folder on it.
    pub(crate) fn prepare(self, folder: &Path) {
        fs::create_dir_all(folder).expect("it is below the run's folder");
        match self {
            Self::None | Self::Folder => {}
            Self::Small => {
                let room = format!("size={SMALL_MIB}m");
                run("mount", &["-t", "tmpfs", "-o", &room, "torture", text(folder)]);
            }
            Self::Own => {
                let image = image(folder);
                let file = File::create(&image).expect("the run's folder is there");
                file.set_len(OWN_MIB * MIB).expect("a hole takes no room");
                run("mkfs.ext4", &["-q", "-E", "nodiscard", text(&image)]);
                mount(folder);
            }
        }
    }
}

/// Takes all the room that there is. What was taken is given back by [`free`].
pub(crate) fn fill(folder: &Path) {
    let mut file = File::create(filling(folder)).expect("a name takes no room");
    let block = vec![1; 1 << 16];
    let full = (0..SMALL_MIB * MIB).find_map(|_| file.write_all(&block).err());
    assert_eq!(full.map(|error| error.kind()), Some(io::ErrorKind::StorageFull));
}

pub(crate) fn free(folder: &Path) {
    fs::remove_file(filling(folder)).expect("it was filled");
}

fn filling(folder: &Path) -> PathBuf {
    folder.join("filling")
}

/// From now on nothing reaches the disk, and what it has not been made to keep is lost.
pub(crate) fn cut_power(python: &str, folder: &Path) {
    // EXT4_IOC_SHUTDOWN, without a flush of the journal.
    const SHUTDOWN: &str = "import fcntl, os, struct, sys\n\
        fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";
    run(python, &["-c", SHUTDOWN, text(folder)]);
}

/// The disk after the power is back: its journal is played.
pub(crate) fn restore_power(folder: &Path) {
    until("nobody uses the disk any more", || {
        Command::new("umount").arg(folder).stderr(Stdio::null()).status().is_ok_and(|s| s.success())
    });
    mount(folder);
}

fn mount(folder: &Path) {
    run("mount", &["-t", "ext4", "-o", "loop", text(&image(folder)), text(folder)]);
}

fn image(folder: &Path) -> PathBuf {
    folder.with_extension("ext4")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("the run's folder has a plain name")
}

/// What makes bytes safe: the log is written so that each write is a sync too.
const SYNCS: &str = "pwrite64,fsync,fdatasync";

/// What becomes of a process's syncs as long as this value lives.
pub(crate) struct Syncs {
    strace: Child,
}

impl Syncs {
    /// `injected` is what strace's `inject` takes: `error=EIO`, `delay_enter=1s`.
    pub(crate) fn suffer(pid: i32, injected: &str, log: &Path) -> Self {
        let inject = format!("inject={SYNCS}:{injected}");
        let strace = Command::new("strace")
            .args(["-f", "-q", "-p", &pid.to_string(), "-o", text(log)])
            .args(["-e", &format!("trace={SYNCS}"), "-e", &inject])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("strace is installed");
        let status = format!("/proc/{pid}/status");
        let traced = format!("TracerPid:\t{}", strace.id());
        until("strace is at work", || {
            // Gone already: then there is nothing to wait for.
            fs::read_to_string(&status).map_or(true, |status| status.contains(&traced))
        });
        Self { strace }
    }
}

impl Drop for Syncs {
    fn drop(&mut self) {
        // By SIGTERM it detaches and lets the process go on; it ends by itself with the process.
        let pid = rustix::process::Pid::from_child(&self.strace);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap_or_default();
        self.strace.wait().map(drop).unwrap_or_default();
    }
}
