//! Who held a lock, and whether that was one at a time.

use std::collections::{BTreeMap, HashMap};

/// A lock that somebody got.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub(crate) lock: u64,
    pub(crate) token: u64,
    /// When it was got, in nanoseconds.
    pub(crate) got: u64,
    /// The last moment at which nobody had got it after this one: something that was done under
    /// the token began here.
    pub(crate) held: u64,
    /// Whether it was given back, and so held until then.
    pub(crate) is_released: bool,
}

/// Something that was to be written under a token.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) lock: u64,
    pub(crate) token: u64,
    pub(crate) number: i64,
    /// Whether the lock was no longer held for sure when it was sent.
    pub(crate) is_late: bool,
    pub(crate) ended: Ended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Done,
    Refused,
    /// It has run or not.
    Unknown,
}

/// What of a lock's record and its log contradicts that one at a time held it.
pub(crate) fn judge(
    lock: u64,
    grants: &[Grant],
    writes: &[Write],
    log: &[(u64, i64)],
) -> Result<(), String> {
    let mut grants: Vec<_> = grants.iter().filter(|grant| grant.lock == lock).collect();
    grants.sort_by_key(|grant| grant.token);
    one_at_a_time(&grants)?;
    let mut count = HashMap::<(u64, i64), usize>::new();
    for entry in log {
        *count.entry(*entry).or_default() += 1;
    }
    if let Some(pair) = log.windows(2).find(|pair| pair[0].0 > pair[1].0) {
        return Err(format!("{:?} was written after {:?}", pair[1], pair[0]));
    }
    let released: BTreeMap<u64, bool> =
        grants.iter().map(|grant| (grant.token, grant.is_released)).collect();
    for write in writes.iter().filter(|write| write.lock == lock) {
        let times = count.remove(&(write.token, write.number)).unwrap_or_default();
        let Some(is_released) = released.get(&write.token) else {
            return Err(format!("{write:?}: nobody got that token"));
        };
        let is_good = match write.ended {
            Ended::Done => times == 1 && !write.is_late,
            Ended::Refused => times == 0 && (write.is_late || !is_released),
            Ended::Unknown => times <= usize::from(!write.is_late),
        };
        if !is_good {
            return Err(format!("{write:?} is in the log {times} times"));
        }
    }
    if count.is_empty() { Ok(()) } else { Err(format!("nobody wrote {count:?}")) }
}

/// Tokens rise with time, none is given twice, and whoever certainly held it did so before the next
/// one got it.
fn one_at_a_time(grants: &[&Grant]) -> Result<(), String> {
    let Some(mut before) = grants.first() else { return Ok(()) };
    let mut last = before;
    for grant in &grants[1..] {
        if grant.token == last.token {
            return Err(format!("{last:?} and {grant:?} have the same token"));
        }
        if last.held > before.held {
            before = last;
        }
        if before.held > grant.got {
            return Err(format!("{before:?} was still held when {grant:?} was got"));
        }
        last = grant;
    }
    Ok(())
}
