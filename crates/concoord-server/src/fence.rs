//! The operator's command that fences a peer: it makes sure that the peer does nothing any more,
//! by switching its machine off, say, and ends well only then.

use std::ffi::OsString;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

use concoord_core::replica::Event;
use concoord_core::view::Member;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;
use tokio::time::timeout;

use crate::shell::Shell;

/// How a peer is fenced.
#[derive(Clone, Debug)]
pub struct FenceSpec {
    /// What `sh -c` runs. It finds the peer in `CONCOORD_PEER_ADDRESS`, `CONCOORD_PEER_IP`,
    /// `CONCOORD_PEER_PORT` and `CONCOORD_PEER_ID`.
    pub command: OsString,
    /// How long it may take; then it is killed, and the peer is not fenced.
    pub timeout: Duration,
}

/// Why a peer is not fenced.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FenceError {
    #[error("the fence command can't be run: {0}")]
    Run(#[from] io::Error),
    #[error("the fence command ended with {0}")]
    Failed(ExitStatus),
    #[error("the fence command took more than {0:?} and was killed")]
    Late(Duration),
}

/// Runs the command and tells the replica how it ended.
pub(crate) async fn fence(shell: Rc<Shell>, spec: FenceSpec, number: u64, peer: Member) {
    let result = run(&spec, &peer).await;
    shell.post(Event::Fenced(number, result.map_err(|error| error.to_string())));
}

async fn run(spec: &FenceSpec, peer: &Member) -> Result<(), FenceError> {
    let mut child = Command::new("sh")
        .arg("-c")
        .arg(&spec.command)
        .env("CONCOORD_PEER_ADDRESS", peer.address.to_string())
        .env("CONCOORD_PEER_IP", peer.address.ip().to_string())
        .env("CONCOORD_PEER_PORT", peer.address.port().to_string())
        .env("CONCOORD_PEER_ID", peer.id.to_string())
        .stdin(Stdio::null())
        // Standard output holds what the replica prints for scripts.
        .stdout(io::stderr())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    match timeout(spec.timeout, child.wait()).await {
        Ok(status) => match status? {
            status if status.success() => Ok(()),
            status => Err(FenceError::Failed(status)),
        },
        Err(_) => {
            if let Some(group) = group {
                // What it started must not fence a peer later that has come back.
                kill_process_group(group, Signal::KILL).unwrap_or_default();
            }
            child.wait().await?;
            Err(FenceError::Late(spec.timeout))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use concoord_core::view::ReplicaId;

    use super::*;

    fn peer() -> Member {
        let address = ([192, 0, 2, 1], 14001).into();
        Member::new(ReplicaId(7), address)
    }

    fn spec(command: &str, seconds: u64) -> FenceSpec {
        FenceSpec { command: command.into(), timeout: Duration::from_secs(seconds) }
    }

    #[tokio::test]
    async fn it_is_told_whom_to_fence() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let place = file.path().display();
        let command = format!(
            "echo $CONCOORD_PEER_ADDRESS $CONCOORD_PEER_IP $CONCOORD_PEER_PORT \
             $CONCOORD_PEER_ID > {place}"
        );
        run(&spec(&command, 10), &peer()).await.unwrap();
        let said = fs::read_to_string(file.path()).unwrap();
        assert_eq!(said, "192.0.2.1:14001 192.0.2.1 14001 0000000000000007\n");
    }

    #[tokio::test]
    async fn one_that_fails_fences_nobody() {
        let error = run(&spec("exit 3", 10), &peer()).await.unwrap_err();
        assert!(error.to_string().contains("exit status: 3"), "{error}");
        let error = run(&spec("no-such-program", 10), &peer()).await.unwrap_err();
        assert!(matches!(error, FenceError::Failed(_)), "{error}");
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed_with_all_that_it_started() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let place = file.path().display();
        let command = format!("sleep 60 & echo $! > {place}; wait");
        let before = Instant::now();
        let error = run(&spec(&command, 1), &peer()).await.unwrap_err();
        assert!(matches!(error, FenceError::Late(_)), "{error}");
        assert!(before.elapsed() < Duration::from_secs(30));
        let pid = fs::read_to_string(file.path()).unwrap();
        let stat = || fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        let goes_on = |stat: String| !stat.is_empty() && !stat.contains(") Z ");
        while goes_on(stat()) {
            assert!(before.elapsed() < Duration::from_secs(30), "{}", stat());
            tokio::task::yield_now().await;
        }
    }
}
