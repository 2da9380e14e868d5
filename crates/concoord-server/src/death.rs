//! Proof that a process of this machine is gone.
//!
//! Two members, one silent: the other may go on alone only if the silent one is dead, not slow.
//! For a process of the same boot and pid namespace the kernel tells, exactly and at once: a
//! pidfd becomes readable when its process has ended, and never before. A process that is only
//! stopped, swapped out or cut off is none of the kernel's dead.

use std::cell::RefCell;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::rc::Rc;
use std::time::Duration;

use concoord_core::replica::Event;
use concoord_core::view::{Process, ReplicaId};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::shell::Shell;
use crate::task::Task;

/// How long to wait before a process that could not be watched is tried again: descriptors may
/// have run out for a moment.
const RETRY: Duration = Duration::from_secs(1);

/// This process, as others can watch it; `None` where the system does not tell.
pub(crate) fn own_process() -> Option<Process> {
    // Start times are shown shifted by the reader's time namespace: there they prove nothing.
    let offsets = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    if offsets.split_whitespace().any(|word| word.parse::<i64>().is_ok_and(|offset| offset != 0)) {
        return None;
    }
    let pid = std::process::id();
    Some(Process {
        boot: fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?.trim().to_owned(),
        namespace: fs::metadata("/proc/self/ns/pid").ok()?.ino(),
        pid,
        started: started(pid)?,
    })
}

/// When the process of that pid started, in clock ticks after boot.
fn started(pid: u32) -> Option<u64> {
    /// Field 22 of proc_pid_stat(5), counted from the third, after the command in parentheses.
    const FIELD: usize = 22 - 3;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(FIELD)?.parse().ok()
}

/// Returns once that process, of this boot and pid namespace, is gone.
///
/// # Errors
/// If it can't be watched; that proves nothing.
pub(crate) async fn death(process: &Process) -> io::Result<()> {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let pidfd: OwnedFd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
        Ok(pidfd) => pidfd,
        Err(Errno::SRCH) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // Checked with the pidfd in hand, so that the pid can't change hands in between. Where the
    // start time can't be read the pidfd still serves: whoever has the pid now, once that one is
    // gone the peer is too.
    if started(process.pid).is_some_and(|started| started != process.started) {
        return Ok(());
    }
    #[expect(
        deprecated,
        reason = "its replacement is unsafe for descriptors that may be closed early; one that is owned is not"
    )]
    let pidfd = AsyncFd::with_interest(pidfd, Interest::READABLE)?;
    pidfd.readable().await.map(drop)
}

/// Watches the processes of other replicas.
pub(crate) struct DeathWatch {
    own: Option<Process>,
    watched: RefCell<Vec<(ReplicaId, Process, Task)>>,
}

impl DeathWatch {
    pub(crate) fn new(own: Option<Process>) -> Self {
        Self { own, watched: RefCell::default() }
    }

    /// Tells of the end of that process of that replica, where it can be watched.
    pub(crate) fn watch(&self, shell: &Rc<Shell>, id: ReplicaId, process: Process) {
        let mut watched = self.watched.borrow_mut();
        watched.retain(|(.., task)| !task.is_over());
        let known = watched.iter().any(|(of, known, _)| *of == id && *known == process);
        if !known && self.can_watch(&process) {
            let task = Task::spawn(watch(Rc::clone(shell), id, process.clone()));
            watched.push((id, process, task));
        }
    }

    /// Watches nobody any more.
    pub(crate) fn end(&self) {
        self.watched.borrow_mut().clear();
    }

    fn can_watch(&self, process: &Process) -> bool {
        self.own.as_ref().is_some_and(|own| {
            own.boot == process.boot
                && own.namespace == process.namespace
                // Replicas that share a process, in a test, are not told apart by it.
                && own.pid != process.pid
        })
    }
}

async fn watch(shell: Rc<Shell>, id: ReplicaId, process: Process) {
    while let Err(error) = death(&process).await {
        tracing::debug!("process {} of replica {id} can't be watched: {error}", process.pid);
        tokio::time::sleep(RETRY).await;
    }
    tracing::debug!("process {} of replica {id} is gone", process.pid);
    shell.post(Event::PeerDead(id, process));
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use rustix::process::{Signal, kill_process};
    use tokio::time::timeout;

    use super::*;

    /// Far more than the kernel needs.
    const AT_ONCE: Duration = Duration::from_secs(5);

    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> Self {
            Self(Command::new("sleep").arg("60").spawn().expect("sleep is there"))
        }

        fn process(&self) -> Process {
            let pid = self.0.id();
            let started = started(pid).expect("it runs");
            Process { pid, started, ..own_process().expect("Linux tells") }
        }

        fn signal(&self, signal: Signal) {
            kill_process(Pid::from_child(&self.0), signal).expect("it is ours");
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            self.signal(Signal::KILL);
            self.0.wait().expect("it is ours");
        }
    }

    #[tokio::test]
    async fn a_killed_process_is_proven_dead_at_once() {
        let sleeper = Sleeper::start();
        let process = sleeper.process();
        let death = death(&process);
        tokio::pin!(death);
        assert!(timeout(Duration::from_millis(20), &mut death).await.is_err(), "it lives");
        sleeper.signal(Signal::KILL);
        timeout(AT_ONCE, death).await.expect("the kernel tells").unwrap();
    }

    #[tokio::test]
    async fn a_stopped_process_is_not_dead() {
        let sleeper = Sleeper::start();
        let process = sleeper.process();
        sleeper.signal(Signal::STOP);
        while !fs::read_to_string(format!("/proc/{}/stat", process.pid)).unwrap().contains(") T ") {
            tokio::task::yield_now().await;
        }
        assert!(timeout(Duration::from_millis(200), death(&process)).await.is_err());
    }

    #[tokio::test]
    async fn a_pid_that_nobody_has_is_a_proof() {
        let process = {
            let sleeper = Sleeper::start();
            sleeper.process()
        };
        timeout(AT_ONCE, death(&process)).await.expect("nothing to wait for").unwrap();
    }

    #[tokio::test]
    async fn a_pid_that_another_process_has_now_is_a_proof() {
        let sleeper = Sleeper::start();
        let mut process = sleeper.process();
        process.started -= 1;
        timeout(AT_ONCE, death(&process)).await.expect("nothing to wait for").unwrap();
    }

    #[test]
    fn processes_of_another_machine_or_namespace_are_not_watched() {
        let own = own_process().unwrap();
        let watch = DeathWatch::new(Some(own.clone()));
        let peer = Process { pid: own.pid + 1, ..own };
        assert!(watch.can_watch(&peer));
        assert!(!DeathWatch::new(None).can_watch(&peer));
        assert!(!watch.can_watch(&Process { namespace: 1, ..peer.clone() }));
        assert!(!watch.can_watch(&Process { boot: "another".into(), ..peer }));
    }
}
