//! What the clients of a simulated cluster saw, and whether one object could have shown it.
//!
//! The object is a list: `append` returns the position of what it appended. Positions tell the
//! one order in which all calls took effect, so that checking linearizability needs no search.

use std::collections::BTreeMap;

/// A call as its client saw it.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    pub(crate) invoked: u64,
    /// When, and the position or length that came back; `None` if nothing did.
    pub(crate) returned: Option<(u64, i64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Append(i64),
    Length,
}

/// Says what is wrong, if anything is. `list` is what the object holds in the end.
pub(crate) fn check(operations: &[Operation], list: &[i64]) -> Result<(), String> {
    let mut position = BTreeMap::new();
    for (at, item) in list.iter().enumerate() {
        if position.insert(*item, at as i64).is_some() {
            return Err(format!("{item} was appended twice"));
        }
    }
    // For each call: the range of lengths that the list may have had when it took effect.
    let mut calls: Vec<(u64, u64, i64, i64)> = Vec::new();
    for operation in operations {
        let (ended, before, after) = match (operation.kind, operation.returned, ()) {
            (Kind::Append(item), Some((ended, at)), ()) => match position.get(&item) {
                Some(found) if *found == at => (ended, at, at + 1),
                other => {
                    return Err(format!("{item} was acknowledged at {at} and is at {other:?}"));
                }
            },
            (Kind::Append(item), None, ()) => match position.get(&item) {
                Some(at) => (u64::MAX, *at, at + 1),
                None => continue,
            },
            (Kind::Length, Some((ended, length)), ()) => (ended, length, length),
            (Kind::Length, None, ()) => continue,
        };
        calls.push((operation.invoked, ended, before, after));
    }
    calls.sort_by_key(|(_, ended, ..)| *ended);
    let mut by_start = calls.clone();
    by_start.sort_by_key(|(invoked, ..)| *invoked);
    // Whatever ended before a call began took effect before it.
    let mut ended = calls.iter().peekable();
    let mut least = 0;
    for (invoked, _, before, _) in &by_start {
        while let Some((.., after)) = ended.next_if(|(_, end, ..)| end < invoked) {
            least = least.max(*after);
        }
        if *before < least {
            return Err(format!(
                "a call that began at {invoked} saw length {before}, {least} was seen before"
            ));
        }
    }
    Ok(())
}

#[test]
fn a_stale_read_and_a_lost_append_and_a_double_one_are_found() {
    let append =
        |item, invoked, returned| Operation { kind: Kind::Append(item), invoked, returned };
    let length = |invoked, ended, length| Operation {
        kind: Kind::Length,
        invoked,
        returned: Some((ended, length)),
    };
    let fine = [
        append(1, 0, Some((5, 0))),
        append(2, 1, None),
        length(6, 7, 1),
        append(3, 8, Some((9, 2))),
    ];
    check(&fine, &[1, 2, 3]).unwrap();
    check(&[append(1, 0, Some((5, 0))), length(6, 7, 0)], &[1]).unwrap_err();
    check(&[append(1, 0, Some((5, 0)))], &[]).unwrap_err();
    check(&[append(1, 0, Some((5, 0)))], &[1, 1]).unwrap_err();
    check(&[append(1, 0, Some((5, 1))), append(2, 6, Some((7, 0)))], &[2, 1]).unwrap_err();
}
