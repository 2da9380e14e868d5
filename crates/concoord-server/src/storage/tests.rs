mod crashes;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use concoord_core::durable::{Persist, Record, RecordKind, Recovered, Snapshot};
use concoord_core::limits::SEGMENT_BYTES;
use tempfile::TempDir;

use super::keeper::ToKeeper;
use super::*;

/// Far more than any disk needs.
const AT_ONCE: Duration = Duration::from_secs(60);

fn who() -> Who {
    Who {
        class: "bank.Account".into(),
        address: SocketAddr::from(([127, 0, 0, 1], 14000)),
        runtime: "python 3.11".into(),
        witness: false,
    }
}

fn open(folder: &Path) -> (Storage, Option<Recovered>) {
    open_as(folder, who()).unwrap_or_else(|error| panic!("{error}"))
}

/// As [`Storage::open`]. A process that another test starts holds all locks of this one for the
/// moment between its fork and its exec.
fn open_as(folder: &Path, who: Who) -> Result<(Storage, Option<Recovered>), StorageError> {
    let own = std::process::id().to_string();
    let until = Instant::now() + AT_ONCE;
    loop {
        match Storage::open(folder, who.clone()) {
            Err(StorageError::InUse { pid, .. }) if pid == own && Instant::now() < until => {
                std::thread::yield_now();
            }
            result => return result,
        }
    }
}

fn refusal(folder: &Path) -> String {
    refusal_of(folder, who())
}

fn refusal_of(folder: &Path, who: Who) -> String {
    let error = Storage::open(folder, who).map(drop).expect_err("it is refused").to_string();
    error.replace(folder.to_str().unwrap(), "DIR")
}

const ADVICE: &str = "`concoord rebuild --data-dir DIR` sets the folder's content aside; started \
                      again with -b, the replica then gets everything from its peers";

fn next(storage: &mut Storage) -> StorageEvent {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let next = async { tokio::time::timeout(AT_ONCE, storage.next()).await };
    runtime.block_on(next).expect("it answers")
}

fn entry(index: u64) -> Record {
    entry_of(index, 100)
}

fn entry_of(index: u64, bytes: usize) -> Record {
    let payload = vec![u8::try_from(index).unwrap(); bytes].into();
    Record { kind: RecordKind::Entry, index, term: 1, payload }
}

fn promise(term: u64) -> Record {
    let payload = Bytes::from_static(&[0; 8]);
    Record { kind: RecordKind::Promise, index: 0, term, payload }
}

fn restored(index: u64) -> Record {
    Record { kind: RecordKind::Restored, index, term: 1, payload: Bytes::new() }
}

fn snapshot(index: u64) -> Snapshot {
    let state = Bytes::from(vec![u8::try_from(index).unwrap(); 1000]);
    Snapshot { index, term: 1, state, object: Some(Bytes::from_static(b"object")) }
}

fn plain(number: u64, records: Vec<Record>) -> Persist {
    Persist { number, snapshot: None, records }
}

/// Has it made safe.
fn persist(storage: &mut Storage, persist: Persist) {
    let number = persist.number;
    storage.persist(persist);
    assert_eq!(next(storage), StorageEvent::Persisted(number));
}

fn save(storage: &mut Storage, snapshot: Snapshot) {
    let index = snapshot.index;
    storage.save(snapshot);
    assert_eq!(next(storage), StorageEvent::Saved(index, Ok(())));
}

/// Persist number 1 of every replica.
fn first() -> Persist {
    Persist { number: 1, snapshot: Some(snapshot(0)), records: vec![promise(1)] }
}

/// A folder with some entries in it, and with the segment that is made ahead.
fn used() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let (mut storage, recovered) = open(folder.path());
    assert_eq!(recovered, None);
    persist(&mut storage, first());
    persist(&mut storage, plain(2, vec![entry(1), entry(2)]));
    persist(&mut storage, plain(3, vec![entry(3)]));
    let start = Instant::now();
    while !folder.path().join("log-2").exists() {
        assert!(start.elapsed() < AT_ONCE);
        std::thread::yield_now();
    }
    folder
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

fn change(file: &Path, at: u64) {
    let file = fs::OpenOptions::new().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[test]
fn what_was_persisted_is_there_after_a_restart() {
    let folder = used();
    let (mut storage, recovered) = open(folder.path());
    let replica = storage.replica();
    let records = vec![promise(1), entry(1), entry(2), entry(3)];
    assert_eq!(recovered, Some(Recovered { snapshot: snapshot(0), records: records.clone() }));
    persist(&mut storage, plain(1, vec![entry(4)]));
    drop(storage);
    let (storage, recovered) = open(folder.path());
    assert_eq!(storage.replica(), replica);
    assert_eq!(recovered.unwrap().records, [records, vec![entry(4)]].concat());
}

#[test]
fn what_is_asked_at_once_is_answered_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let (mut storage, _) = open(folder.path());
    storage.persist(first());
    for number in 2..=100 {
        storage.persist(plain(number, vec![entry(number - 1)]));
    }
    let mut safe = 0;
    while safe < 100 {
        let StorageEvent::Persisted(number) = next(&mut storage) else { panic!("not persisted") };
        assert!(number > safe);
        safe = number;
    }
    drop(storage);
    let recovered = open(folder.path()).1.unwrap();
    assert_eq!(recovered.records.len(), 100);
}

#[test]
fn nobody_else_may_read_the_folder() {
    let folder = used();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(folder.path()), 0o700);
    for name in names(folder.path()) {
        assert_eq!(mode(&folder.path().join(&name)), 0o600, "{name}");
    }
}

#[test]
fn a_folder_is_one_process_at_a_time() {
    let folder = used();
    let (storage, _) = open(folder.path());
    let pid = std::process::id();
    assert_eq!(
        refusal(folder.path()),
        format!(
            "DIR is in use by another process, {pid}: stop that one, or name another folder by \
             --data-dir"
        )
    );
    assert!(matches!(set_aside(folder.path()), Err(StorageError::InUse { .. })));
    drop(storage);
    open(folder.path());
}

#[test]
fn a_folder_of_anybody_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.tex"), "").unwrap();
    assert_eq!(
        refusal(folder.path()),
        "DIR holds thesis.tex, which is no file of a replica: name a new or empty folder by \
         --data-dir"
    );
    assert_eq!(names(folder.path()), ["thesis.tex"]);
}

#[test]
fn a_folder_of_another_replica_or_a_later_program_is_refused() {
    let folder = used();
    let other = Who { class: "bank.Vault".into(), ..who() };
    assert_eq!(
        refusal_of(folder.path(), other),
        "DIR holds a bank.Account, not a bank.Vault: start the replica with -o bank.Account, or \
         name another folder by --data-dir"
    );
    let other = Who { witness: true, ..who() };
    assert_eq!(
        refusal_of(folder.path(), other),
        "DIR is of a replica that was started without --witness: start it so again, or name \
         another folder by --data-dir"
    );
    let other = Who { address: SocketAddr::from(([127, 0, 0, 1], 14001)), ..who() };
    assert_eq!(
        refusal_of(folder.path(), other),
        "DIR is of the replica at 127.0.0.1:14000, not 127.0.0.1:14001: start it with -a \
         127.0.0.1 -p 14000, or name another folder by --data-dir"
    );
    let identity = folder.path().join("identity");
    let text = fs::read_to_string(&identity).unwrap();
    fs::write(&identity, text.replace("format 1", "format 2")).unwrap();
    assert_eq!(
        refusal(folder.path()),
        "DIR is of format 2, which this program does not know: use the program that wrote it, or \
         a later one"
    );
}

/// Where the batches of [`used`] are: the snapshot and its promise, two entries, one entry.
const BATCHES: [u64; 3] = [4096, 8192, 12288];

#[test]
fn a_torn_tail_is_cut_and_the_log_goes_on_elsewhere() {
    let folder = used();
    unmark(folder.path());
    change(&folder.path().join("log-1"), BATCHES[2] + 20);
    let (mut storage, recovered) = open(folder.path());
    assert_eq!(recovered.unwrap().records, [promise(1), entry(1), entry(2)]);
    let other = Record { term: 2, ..entry(3) };
    persist(&mut storage, plain(1, vec![other.clone()]));
    drop(storage);
    let recovered = open(folder.path()).1.unwrap();
    let records = [promise(1), entry(1), entry(2), promise(1), other];
    assert_eq!(recovered.records, records);
}

#[test]
fn damage_is_refused_and_setting_the_folder_aside_begins_anew() {
    let folder = used();
    let replica = open(folder.path()).0.replica();
    change(&folder.path().join("log-1"), BATCHES[1] + 20);
    let flaw = "DIR: the log is damaged (log-1, byte 8192): what was written here is not there; ";
    assert_eq!(refusal(folder.path()), [flaw, ADVICE].concat());
    let before = names(folder.path());

    let aside = set_aside(folder.path()).unwrap();
    assert_eq!(aside, folder.path().join("damaged-1"));
    let kept: Vec<_> = before.into_iter().filter(|name| name != "lock").collect();
    assert_eq!(names(&aside), kept);
    let (storage, recovered) = open(folder.path());
    assert_eq!(recovered, None);
    assert_ne!(storage.replica(), replica);
    drop(storage);
    assert_eq!(set_aside(folder.path()).unwrap(), folder.path().join("damaged-2"));
}

/// Where the mark is that [`used`] ends with.
const MARK: u64 = BATCHES[2] + 4096;

/// As if the process had been killed before it could vouch for what it wrote last.
fn unmark(folder: &Path) {
    let file = fs::OpenOptions::new().write(true).open(folder.join("log-1")).unwrap();
    file.write_all_at(&[0; 4096], MARK).unwrap();
}

/// Waits until something is written there.
fn await_batch(file: &Path, at: u64) {
    let log = fs::File::open(file).unwrap();
    let start = Instant::now();
    let mut magic = [0; 4];
    while magic == [0; 4] {
        assert!(start.elapsed() < AT_ONCE);
        std::thread::yield_now();
        log.read_exact_at(&mut magic, at).unwrap();
    }
}

/// The last batch is told from a torn tail once a mark vouches for it.
#[test]
fn a_quiet_log_vouches_for_its_last_batch() {
    let folder = used();
    let log = folder.path().join("log-1");
    let (mut storage, _) = open(folder.path());
    persist(&mut storage, plain(1, vec![entry(4)]));
    await_batch(&log, MARK + 2 * 4096);
    drop(storage);
    change(&log, MARK + 4096 + 20);
    assert!(refusal(folder.path()).contains("log-1, byte 20480"));
}

/// It need not be quiet before: the process may be down for long.
#[test]
fn a_log_that_ends_vouches_for_its_last_batch() {
    let folder = used();
    let (mut storage, _) = open(folder.path());
    persist(&mut storage, plain(1, vec![entry(4)]));
    drop(storage);
    change(&folder.path().join("log-1"), MARK + 4096 + 20);
    assert!(refusal(folder.path()).contains("log-1, byte 20480"));
}

#[test]
fn a_log_that_was_not_vouched_for_is_when_it_is_read_again() {
    let folder = used();
    let log = folder.path().join("log-1");
    unmark(folder.path());
    let (storage, _) = open(folder.path());
    await_batch(&log, MARK);
    drop(storage);
    change(&log, BATCHES[2] + 20);
    assert!(refusal(folder.path()).contains("log-1, byte 12288"));
}

/// There is no place behind it: the next segment says where this one ends.
#[test]
fn a_batch_that_fills_its_segment_is_vouched_for() {
    let folder = tempfile::tempdir().unwrap();
    let (mut storage, _) = open(folder.path());
    persist(&mut storage, first());
    let (batch, record) = (16, 24);
    let room = usize::try_from(SEGMENT_BYTES - BATCHES[1]).unwrap();
    persist(&mut storage, plain(2, vec![entry_of(1, room - batch - record)]));
    let start = Instant::now();
    while !folder.path().join("log-2").exists() {
        assert!(start.elapsed() < AT_ONCE);
        std::thread::yield_now();
    }
    await_batch(&folder.path().join("log-2"), 0);
    drop(storage);
    change(&folder.path().join("log-1"), BATCHES[1] + 20);
    assert!(refusal(folder.path()).contains("log-1, byte 8192"));
}

#[test]
fn files_that_are_missing_are_missed() {
    for (names, flaw) in [
        // The blank one that was made ahead does not pass for the first.
        (&["log-1"][..], "log-1 is missing"),
        (&["log-1", "log-2"], "the log, log-*, is missing"),
        (&["snapshot-0"], "the snapshot, snapshot-*, is missing"),
        (&["identity"], "the file that says whose it is, identity, is missing"),
    ] {
        let folder = used();
        for name in names {
            fs::remove_file(folder.path().join(name)).unwrap();
        }
        assert_eq!(refusal(folder.path()), format!("DIR: {flaw}; {ADVICE}"));
    }
    let folder = used();
    change(&folder.path().join("identity"), 40);
    let flaw = "DIR: identity is not what was written; ";
    assert_eq!(refusal(folder.path()), [flaw, ADVICE].concat());
}

#[test]
fn a_snapshot_that_can_not_be_read_is_passed_over_where_the_one_before_is_there() {
    let folder = used();
    fs::copy(folder.path().join("snapshot-0"), folder.path().join("snapshot-2")).unwrap();
    let recovered = open(folder.path()).1.unwrap();
    assert_eq!((recovered.snapshot, recovered.records.len()), (snapshot(0), 4));
    assert!(!names(folder.path()).contains(&"snapshot-2".into()));

    change(&folder.path().join("snapshot-0"), 200);
    let refused = refusal(folder.path());
    assert!(refused.contains("snapshot-0: the snapshot is damaged"), "{refused}");
    assert!(refused.ends_with(ADVICE));
}

#[test]
fn a_log_that_does_not_reach_back_to_the_snapshot_is_refused() {
    let folder = used();
    let (mut storage, _) = open(folder.path());
    persist(&mut storage, plain(1, vec![entry(9)]));
    drop(storage);
    let flaw = "DIR: the log goes on at 9, what is before that ends at 3; ";
    assert_eq!(refusal(folder.path()), [flaw, ADVICE].concat());
}

/// Twelve times the log's own segment goes through it.
#[test]
fn snapshots_keep_the_log_short() {
    let folder = used();
    let (mut storage, _) = open(folder.path());
    let bytes = usize::try_from(SEGMENT_BYTES).unwrap() * 3 / 4;
    for round in 1..=12 {
        persist(&mut storage, plain(round, vec![entry_of(3 + round, bytes)]));
        save(&mut storage, snapshot(3 + round));
        let segments = names(folder.path()).iter().filter(|name| name.starts_with("log-")).count();
        // The current one, one made ahead, and one or two that are about to be deleted.
        assert!(segments <= 4, "{segments}");
    }
    drop(storage);
    let (storage, recovered) = open(folder.path());
    let recovered = recovered.unwrap();
    assert_eq!(recovered.snapshot, snapshot(15));
    assert_eq!(recovered.records[0], promise(1), "what was promised stays promised");
    drop(storage);
    let snapshots: Vec<_> =
        names(folder.path()).into_iter().filter(|name| name.starts_with("snapshot-")).collect();
    assert_eq!(snapshots, ["snapshot-15"]);
}

#[test]
fn a_snapshot_from_the_leader_stands_for_the_log_before_it() {
    let folder = used();
    let (mut storage, _) = open(folder.path());
    let records = vec![restored(50), entry(51)];
    let late = Persist { number: 1, snapshot: Some(snapshot(50)), records: records.clone() };
    persist(&mut storage, late);
    persist(&mut storage, plain(2, vec![entry(52)]));
    drop(storage);
    let recovered = open(folder.path()).1.unwrap();
    assert_eq!(recovered.snapshot, snapshot(50));
    let tail = [records, vec![entry(52)]].concat();
    assert!(recovered.records.ends_with(&tail));
}

#[test]
fn a_discarded_folder_is_another_replica_s() {
    let folder = used();
    let (mut storage, _) = open(folder.path());
    let before = storage.replica();
    storage.discard(&[]).unwrap();
    let after = storage.replica();
    assert_ne!(before, after);
    assert!(folder.path().join("discarded").exists());
    persist(&mut storage, first());
    persist(&mut storage, plain(2, vec![entry(1)]));
    let until = Instant::now() + AT_ONCE;
    while folder.path().join("discarded").exists() {
        assert!(Instant::now() < until, "it goes when the others' state is safe");
        std::thread::yield_now();
    }
    drop(storage);
    let (storage, recovered) = open(folder.path());
    assert_eq!(storage.replica(), after);
    assert_eq!(recovered.unwrap().records, [promise(1), entry(1)]);
}

/// What was asked before it still waits for a segment when the snapshot is safe.
#[test]
fn a_snapshot_stands_for_the_log_once_the_log_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let identity = Folder::open(folder.path()).unwrap().identify(&who()).unwrap();
    let (events, mut said) = unbounded_channel();
    let ((to_keeper, keeper), (to_maker, _maker)) = (channel(), channel());
    let (ask, asked) = channel();
    let found = Found::nothing(&identity);
    let log = Log::new(folder.path().into(), identity, found, events, (to_keeper, to_maker));
    let log = log.unwrap();
    let made = |number| {
        let path = folder::segment_path(folder.path(), number);
        disk::Segment::make(&path, SEGMENT_BYTES).unwrap();
        let file = disk::Segment::open(&path).unwrap();
        ask.send(ToLog::Made(log::Ready { number, bytes: SEGMENT_BYTES, file })).unwrap();
    };
    const MIB: usize = 1 << 20;
    made(1);
    let records = vec![restored(50), entry_of(51, 14 * MIB)];
    let late = Persist { number: 3, snapshot: Some(snapshot(50)), records };
    for persist in
        [plain(1, vec![entry_of(1, 14 * MIB)]), plain(2, vec![entry_of(2, 3 * MIB)]), late]
    {
        ask.send(ToLog::Persist(persist)).unwrap();
    }
    let writes = std::thread::spawn(move || log.run(&asked));
    let mut next = || said.blocking_recv().expect("it goes on");
    assert_eq!(next(), StorageEvent::Persisted(1));
    assert!(matches!(keeper.recv_timeout(AT_ONCE), Ok(ToKeeper::Store(_))));
    ask.send(ToLog::Stored(50)).unwrap();
    made(2);
    assert_eq!(next(), StorageEvent::Persisted(2));
    // Once it says so it has done all that it can.
    ask.send(ToLog::NoRoom("no log-3".into())).unwrap();
    assert_eq!(next(), StorageEvent::Full("no log-3".into()));
    let told = keeper.try_recv();
    assert!(told.is_err(), "what the snapshot stands for still counts: {told:?}");
    made(3);
    assert_eq!(next(), StorageEvent::Persisted(3));
    assert!(matches!(keeper.recv_timeout(AT_ONCE), Ok(ToKeeper::Forget(50))));
    ask.send(ToLog::Stop).unwrap();
    writes.join().unwrap();
}

/// It has promised things, but nothing of the object: nobody counts on it.
#[test]
fn a_replica_without_a_snapshot_begins_anew() {
    let folder = tempfile::tempdir().unwrap();
    let (mut storage, _) = open(folder.path());
    let before = storage.replica();
    persist(&mut storage, plain(1, vec![promise(3)]));
    drop(storage);
    let (storage, recovered) = open(folder.path());
    assert_eq!(recovered, None);
    assert_ne!(storage.replica(), before);
}

#[test]
fn a_replica_that_has_written_nothing_keeps_its_id() {
    let folder = tempfile::tempdir().unwrap();
    let before = open(folder.path()).0.replica();
    assert_eq!(open(folder.path()).0.replica(), before);
}

/// A file system of a size of its own, for as long as this lives.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new(megabytes: u32) -> Self {
        let at = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"]).arg(at.path());
        assert!(mount.status().unwrap().success(), "this test must be run by root");
        Self(at)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
        assert!(unmounted.unwrap().success());
    }
}

#[test]
fn a_full_disk_is_told_and_waited_for() {
    let disk = SmallDisk::new(56);
    let path = disk.0.path().join("data");
    let ballast = disk.0.path().join("ballast");
    let (mut storage, _) = open(&path);
    persist(&mut storage, first());
    // Two segments are there or on their way: no room for the third.
    fs::write(&ballast, vec![1; 16 << 20]).unwrap();
    let bytes = usize::try_from(SEGMENT_BYTES).unwrap() * 3 / 4;
    persist(&mut storage, plain(2, vec![entry_of(1, bytes)]));
    persist(&mut storage, plain(3, vec![entry_of(2, bytes)]));
    storage.persist(plain(4, vec![entry_of(3, bytes)]));
    let StorageEvent::Full(reason) = next(&mut storage) else { panic!("there is no room") };
    assert!(reason.starts_with("log-3 can't be made: No space left on device"), "{reason}");
    fs::remove_file(&ballast).unwrap();
    let mut events = [next(&mut storage), next(&mut storage)];
    events.sort_by_key(|event| *event == StorageEvent::Room);
    assert_eq!(events, [StorageEvent::Persisted(4), StorageEvent::Room]);
    drop(storage);
    assert_eq!(open(&path).1.unwrap().records.iter().filter(|record| record.index == 3).count(), 1);
}
