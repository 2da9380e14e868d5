//! What is fuzzed: each module's `run` takes bytes, makes of them what a disk or a network might
//! bring, and panics if what reads it does anything but what it promises.
//!
//! `fuzz_targets` has the fuzzer call these, and the tests of `concoord-core` run them over the
//! kept corpus without it. `docs/internals/testing.md` says what each is about.

pub mod frames;
pub mod hello;
mod input;
pub mod recovery;
pub mod segments;
pub mod snapshot;
pub mod value;
pub mod wal_record;

/// Panics if a promise is broken.
pub type Run = fn(&[u8]);

/// Each target by its name.
pub const TARGETS: [(&str, Run); 7] = [
    ("frames", frames::run),
    ("hello", hello::run),
    ("recovery", recovery::run),
    ("segments", segments::run),
    ("snapshot", snapshot::run),
    ("value", value::run),
    ("wal_record", wal_record::run),
];
