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

use bytes::Bytes;
use concoord_core::durable::{Persist, Record, RecordKind};
use concoord_server::storage::{Storage, StorageEvent, Who};
use rustix::fs::OFlags;
use tokio::runtime::Builder;

const BLOCK: usize = 4096;

/// Each way gets so many turns of so many batches: what else the machine does hits them alike.
const TURNS: usize = 40;
const BATCHES: usize = 50;

/// One batch of that number.
type Way = Box<dyn FnMut(usize)>;

fn main() {
    let given = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let under = given.map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let folder = tempfile::tempdir_in(under).unwrap();
    let raw = |name: &str, zeroed, flags, sync| -> Way {
        let file = file(&folder.path().join(name), zeroed, flags);
        Box::new(move |number| write(&file, number, sync))
    };
    let (none, direct) = (OFlags::empty(), OFlags::DIRECT);
    let mut ways = [
        ("growing file, write + fdatasync", raw("1", false, none, true)),
        ("zeroed file, write + fdatasync", raw("2", true, none, true)),
        ("zeroed file, O_DSYNC", raw("3", true, OFlags::DSYNC, false)),
        ("zeroed file, O_DIRECT + fdatasync", raw("4", true, direct, true)),
        ("zeroed file, O_DIRECT | O_DSYNC", raw("5", true, direct | OFlags::DSYNC, false)),
        ("through the log, and back", through_the_log(&folder.path().join("data"))),
    ];
    let mut times = ways.each_ref().map(|_| Vec::<Duration>::new());
    for turn in 0..TURNS {
        for ((_, way), times) in ways.iter_mut().zip(&mut times) {
            for number in turn * BATCHES..(turn + 1) * BATCHES {
                let start = Instant::now();
                way(number);
                times.push(start.elapsed());
            }
        }
    }
    println!("one batch of one block after another, µs      p10      p50      p99");
    for ((name, _), times) in ways.iter().zip(&mut times) {
        times.sort();
        let at = |percent: usize| times[times.len() * percent / 100].as_secs_f64() * 1e6;
        println!("{name:<40} {:>8.1} {:>8.1} {:>8.1}", at(10), at(50), at(99));
    }
}

fn file(path: &Path, zeroed: bool, flags: OFlags) -> File {
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(path).unwrap();
    if zeroed {
        file.write_all_at(&vec![0; TURNS * BATCHES * BLOCK], 0).unwrap();
        file.sync_all().unwrap();
    }
    let flags = i32::try_from(flags.bits()).unwrap();
    OpenOptions::new().write(true).custom_flags(flags).open(path).unwrap()
}

fn write(file: &File, number: usize, sync: bool) {
    let mut bytes = vec![0; 2 * BLOCK];
    let start = bytes.as_ptr().align_offset(BLOCK);
    let block = &mut bytes[start..start + BLOCK];
    block.fill(u8::try_from(number % 251).unwrap() + 1);
    file.write_all_at(block, (number * BLOCK) as u64).unwrap();
    if sync {
        file.sync_data().unwrap();
    }
}

/// From the owner to the disk and back, as each lone call waits for it.
fn through_the_log(folder: &Path) -> Way {
    let who = Who {
        class: "a.B".into(),
        address: ([127, 0, 0, 1], 14000).into(),
        runtime: String::new(),
        witness: false,
    };
    let (mut storage, _) = Storage::open(folder, who).unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let mut last = 0;
    let mut persist = move || {
        last += 1;
        let payload = Bytes::from_static(&[7; 100]);
        let records = vec![Record { kind: RecordKind::Entry, index: last, term: 1, payload }];
        storage.persist(Persist { number: last, snapshot: None, records });
        assert_eq!(runtime.block_on(storage.next()), StorageEvent::Persisted(last));
    };
    // The first has the folder made ready.
    persist();
    std::thread::sleep(Duration::from_millis(500));
    Box::new(move |_| persist())
}
