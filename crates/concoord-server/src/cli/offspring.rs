//! The processes that a command has started, and those that they have.

use std::collections::HashMap;
use std::fs;

use rustix::process::{Pid, getpid, set_child_subreaper};

/// From now on a process whose parent ends becomes a child of this one: none gets out of sight.
pub(super) fn keep_in_sight() {
    // Without it only those are lost whose parents have ended.
    if let Err(error) = set_child_subreaper(Some(getpid())) {
        tracing::debug!("orphans are out of sight: {error}");
    }
}

/// All that this process has started, directly or not, and that have not ended.
pub(super) fn offspring() -> Vec<Pid> {
    let mut children = HashMap::<i32, Vec<Pid>>::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let pid = process.file_name().to_str().and_then(|name| name.parse().ok());
        if let Some(pid) = pid.and_then(Pid::from_raw)
            && let Ok(stat) = fs::read_to_string(process.path().join("stat"))
            && let Some(parent) = parent_of_living(&stat)
        {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = children.remove(&getpid().as_raw_pid()).unwrap_or_default();
    let mut seen = 0;
    while let Some(pid) = found.get(seen) {
        let theirs = children.remove(&pid.as_raw_pid()).unwrap_or_default();
        found.extend(theirs);
        seen += 1;
    }
    found
}

/// From proc_pid_stat(5): the parent, unless the process has ended and nobody has taken note.
fn parent_of_living(stat: &str) -> Option<i32> {
    // The command stands in parentheses, and may have some itself.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_that_of_a_process_that_lives() {
        assert_eq!(parent_of_living("7 (a (b) c) S 3 7 7"), Some(3));
        assert_eq!(parent_of_living("7 (a) Z 3 7 7"), None);
        assert_eq!(parent_of_living("7 (a)"), None);
    }
}
