//! Steps that a test can have fail. In a program that is not built for that, nothing.
//!
//! With the feature `failpoints`, `FAILPOINTS` in the environment of a durable replica says of
//! each, by its name, what becomes of it: `driver::view=3*off->return(abort)` ends the process
//! when it would take the fourth view in. The steps to the disk are in `storage`.

use concoord_core::replica::{Action, Event, WorkerAction};

/// That step is about to be taken: the process may end here.
#[cfg(feature = "failpoints")]
pub(crate) fn reach(name: &str) {
    fail::fail_point!(name, |_| std::process::abort());
}

#[cfg(not(feature = "failpoints"))]
pub(crate) const fn reach(_: &str) {}

/// As [`reach`], where the step can fail as well: by `return(EIO)`.
#[cfg(feature = "failpoints")]
pub(crate) fn step(name: &str) -> std::io::Result<()> {
    fail::fail_point!(name, |what| match what.as_deref() {
        Some("abort") => std::process::abort(),
        _ => Err(rustix::io::Errno::IO.into()),
    });
    Ok(())
}

#[cfg(not(feature = "failpoints"))]
#[expect(clippy::unnecessary_wraps, reason = "it fails where the feature is on")]
pub(crate) const fn step(_: &str) -> std::io::Result<()> {
    Ok(())
}

/// The step that doing this is.
pub(crate) const fn of_action(action: &Action) -> &'static str {
    match action {
        Action::Answer(..) => "driver::answer",
        Action::Disconnect(_) => "driver::disconnect",
        Action::Persist(_) => "driver::persist",
        Action::Save(_) => "driver::save",
        Action::Watch(..) => "driver::watch",
        Action::Send(..) => "driver::send",
        Action::HangUp(_) => "driver::hang-up",
        Action::Fence(..) => "driver::fence",
        Action::Worker(WorkerAction::Apply { .. }) => "worker::apply",
        Action::Worker(WorkerAction::Read { .. }) => "worker::read",
        Action::Worker(WorkerAction::Snapshot(_)) => "worker::snapshot",
        Action::Worker(WorkerAction::Restore(_)) => "worker::restore",
        Action::Worker(WorkerAction::Skip(_)) => "worker::skip",
        Action::Worker(WorkerAction::Settle(_)) => "worker::settle",
        Action::Contacts => "driver::contacts",
        Action::Backup(..) => "driver::backup",
        Action::View(_) => "driver::view",
        Action::Serving => "driver::serving",
        Action::Note(..) => "driver::note",
        Action::Restart(..) => "driver::restart",
        Action::Stop(_) => "driver::stop",
    }
}

/// The step that taking this in from the worker is.
#[expect(clippy::wildcard_enum_match_arm, reason = "a worker tells of nothing else")]
pub(crate) const fn of_answer(event: &Event) -> &'static str {
    match event {
        Event::Done(..) => "worker::done",
        Event::Snapshot(..) => "worker::frozen",
        Event::Restored(_) => "worker::restored",
        _ => "worker::failed",
    }
}
