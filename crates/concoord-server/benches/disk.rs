//! What the disk takes for one small batch, by each way there is, and what the log adds to that.
//!
//! `cargo bench -p concoord-server --bench disk [FOLDER]`; figures only, nothing is judged.
#![expect(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a bench prints, and stops if it can't go on"
)]

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

const BLOCK: usize = 4096;
const ROUNDS: usize = 2000;
const SEGMENT: usize = 16 << 20;

fn main() {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let under = given.map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let folder = tempfile::tempdir_in(under).unwrap();
    println!("{ROUNDS} batches of one block, one after another, µs (p50, p99):");
    for round in 1..=2 {
        let grown = folder.path().join("grown");
        let file = OpenOptions::new().write(true).create(true).truncate(true).open(grown).unwrap();
        report("growing file, write + fdatasync", round, |at| written(&file, at, true));
        let file = zeroed(folder.path(), OFlags::empty());
        report("zeroed file, write + fdatasync", round, |at| written(&file, at, true));
        let file = zeroed(folder.path(), OFlags::DSYNC);
        report("zeroed file, O_DSYNC", round, |at| written(&file, at, false));
        let file = zeroed(folder.path(), OFlags::DIRECT | OFlags::DSYNC);
        report("zeroed file, O_DIRECT | O_DSYNC", round, |at| written(&file, at, false));
        let file = zeroed(folder.path(), OFlags::DIRECT);
        report("zeroed file, O_DIRECT + fdatasync", round, |at| written(&file, at, true));
    }
}

fn report(what: &str, round: usize, mut step: impl FnMut(usize)) {
    let mut times: Vec<Duration> = (0..ROUNDS)
        .map(|at| {
            let start = Instant::now();
            step(at);
            start.elapsed()
        })
        .collect();
    times.sort();
    let (p50, p99) = (times[ROUNDS / 2], times[ROUNDS * 99 / 100]);
    println!("  {what:<36} {round}  {:>7.1}  {:>7.1}", micros(p50), micros(p99));
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn written(file: &File, at: usize, sync: bool) {
    let mut bytes = vec![0; 2 * BLOCK];
    let start = bytes.as_ptr().align_offset(BLOCK);
    let block = &mut bytes[start..start + BLOCK];
    block.fill(u8::try_from(at % 251).unwrap() + 1);
    file.write_all_at(block, (at * BLOCK) as u64).unwrap();
    if sync {
        file.sync_data().unwrap();
    }
}

fn zeroed(folder: &Path, flags: OFlags) -> File {
    let path = folder.join("zeroed");
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path).unwrap();
    file.write_all_at(&vec![0; SEGMENT], 0).unwrap();
    file.sync_all().unwrap();
    let flags = i32::try_from(flags.bits()).unwrap();
    OpenOptions::new().write(true).custom_flags(flags).open(path).unwrap()
}
