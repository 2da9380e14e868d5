//! What the library logs.

/// The library's log lines, as debug lines of ours.
pub(super) struct ToTracing;

impl slog::Drain for ToTracing {
    type Ok = ();
    type Err = slog::Never;

    fn log(&self, record: &slog::Record<'_>, _: &slog::OwnedKVList) -> Result<(), slog::Never> {
        if record.level().is_at_least(slog::Level::Warning) {
            tracing::debug!(target: "raft", "{}", record.msg());
        } else {
            tracing::trace!(target: "raft", "{}", record.msg());
        }
        Ok(())
    }

    fn is_enabled(&self, _: slog::Level) -> bool {
        tracing::enabled!(target: "raft", tracing::Level::DEBUG)
    }
}
