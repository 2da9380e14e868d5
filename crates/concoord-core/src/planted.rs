//! Bugs that are planted on purpose, to see that the tests find them.

#[cfg(feature = "planted")]
thread_local! {
    static BUG: std::cell::Cell<&'static str> = const { std::cell::Cell::new("") };
}

/// From now on this thread's replicas have that bug; `""` for none.
#[cfg(feature = "planted")]
pub fn plant(bug: &'static str) {
    BUG.set(bug);
}

/// Whether that bug is planted.
#[cfg(feature = "planted")]
pub(crate) fn is(bug: &str) -> bool {
    BUG.get() == bug
}

/// No bug is planted in what is shipped.
#[cfg(not(feature = "planted"))]
pub(crate) const fn is(_bug: &str) -> bool {
    false
}
