//! A process that dies, or whose disk fails, at each step that it takes to the disk: what it
//! acknowledged is there when the folder is opened again.

use std::fmt::Write as _;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use super::*;

/// Says to [`a_replica_s_life`] where.
const FOLDER: &str = "CONCOORD_TEST_FOLDER";

/// Every step, and how many times it goes well before it is made to fail.
const STEPS: [(&str, &[u32]); 23] = [
    ("create-identity", &[0, 1]),
    ("write-identity", &[0, 1]),
    ("sync-identity", &[0, 1]),
    ("rename-identity", &[0, 1]),
    ("folder-identity", &[0, 1]),
    ("create-segment", &[0, 1, 2]),
    ("write-segment", &[0, 1]),
    ("preallocate-segment", &[0, 1, 2]),
    ("sync-segment", &[0, 1]),
    ("rename-segment", &[0, 1, 2]),
    ("folder-segment", &[0, 1, 3]),
    ("open-segment", &[0, 1]),
    ("append-segment", &[0, 1, 3, 5]),
    ("flush-segment", &[0, 1, 3, 5]),
    ("read-segment", &[0]),
    ("delete-segment", &[0]),
    ("create-snapshot", &[0, 1, 2]),
    ("write-snapshot", &[0, 1, 2]),
    ("append-snapshot", &[0, 1, 2]),
    ("sync-snapshot", &[0, 1, 2]),
    ("rename-snapshot", &[0, 1, 2]),
    ("folder-snapshot", &[0, 1, 2]),
    ("delete-snapshot", &[0, 1]),
];

/// What a life was told to be safe.
#[derive(Debug, Default)]
struct Acknowledged {
    replica: Option<String>,
    /// The last entry, if there was any answer at all.
    last: Option<u64>,
}

enum Step {
    Persist(Persist),
    Save(Snapshot),
}

/// Numbers say how far the log is: 10 more than the last entry.
fn steps() -> impl Iterator<Item = Step> {
    let large = usize::try_from(SEGMENT_BYTES).unwrap() * 3 / 4;
    let late = Persist { number: 18, snapshot: Some(snapshot(8)), records: vec![restored(8)] };
    [
        Step::Persist(Persist { number: 10, ..first() }),
        Step::Persist(plain(12, vec![entry(1), entry(2)])),
        Step::Persist(plain(13, vec![entry_of(3, large)])),
        Step::Persist(plain(14, vec![entry_of(4, large)])),
        // The second life.
        Step::Persist(plain(15, vec![entry(5)])),
        Step::Save(snapshot(4)),
        Step::Persist(plain(16, vec![entry(6)])),
        Step::Persist(late),
        Step::Persist(plain(19, vec![entry(9)])),
        Step::Save(snapshot(9)),
        Step::Persist(plain(20, vec![entry(10)])),
    ]
    .into_iter()
}

#[test]
#[ignore = "it is a process of other tests"]
fn a_replica_s_life() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let mut steps = steps();
    if live_for(Path::new(&folder), &mut steps.by_ref().take(4)) {
        live_for(Path::new(&folder), &mut steps);
    }
}

/// Takes these steps and says what comes of each; false if the disk fails.
fn live_for(folder: &Path, steps: &mut dyn Iterator<Item = Step>) -> bool {
    let mut storage = match Storage::open(folder, who()) {
        Ok((storage, _)) => storage,
        Err(error) => {
            say(&format!("refused {error}"));
            return false;
        }
    };
    say(&format!("replica {}", storage.replica()));
    for step in steps {
        match step {
            Step::Persist(persist) => storage.persist(persist),
            Step::Save(snapshot) => storage.save(snapshot),
        }
        loop {
            let event = next(&mut storage);
            say(&format!("{event:?}"));
            match event {
                StorageEvent::Failed(_) => return false,
                StorageEvent::Full(_) | StorageEvent::Room => {}
                StorageEvent::Persisted(_) | StorageEvent::Saved(..) => break,
            }
        }
    }
    true
}

/// The test's own output may have begun a line.
fn say(text: &str) {
    writeln!(io::stdout().lock(), "\n{text}").unwrap();
}

fn run(test: &str, folder: &Path, failpoints: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &format!("storage::tests::crashes::{test}"), "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env("FAILPOINTS", failpoints)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn acknowledged(said: &str) -> Acknowledged {
    let mut all = Acknowledged::default();
    for line in said.lines() {
        if let Some(replica) = line.strip_prefix("replica ") {
            let before = all.replica.replace(replica.into());
            assert!(before.is_none() || before == all.replica, "another replica: {said}");
        }
        if let Some(number) = line.strip_prefix("Persisted(") {
            let number: u64 = number.trim_end_matches(')').parse().unwrap();
            all.last = Some(number - 10);
        }
    }
    all
}

/// Opens the folder and compares.
fn check(folder: &Path, said: &str) -> Acknowledged {
    let all = acknowledged(said);
    let (storage, recovered) = match Storage::open(folder, who()) {
        Ok(opened) => opened,
        Err(error) => panic!("{error}: {said}"),
    };
    let Some(recovered) = recovered else {
        assert_eq!(all.last, None, "all is lost: {said}");
        return all;
    };
    assert_eq!(Some(storage.replica().to_string()), all.replica, "{said}");
    let Recovered { snapshot: found, records } = recovered;
    assert_eq!(found, snapshot(found.index), "{said}");
    let mut last = found.index;
    for record in &records {
        match record.kind {
            RecordKind::Promise => assert_eq!(*record, promise(1), "{said}"),
            RecordKind::Restored => assert_eq!(*record, restored(8), "{said}"),
            RecordKind::Entry | RecordKind::Change | RecordKind::Alone => {
                assert_eq!(*record, entry_of(record.index, record.payload.len()), "{said}");
                last = last.max(record.index);
            }
        }
    }
    assert!(last >= all.last.unwrap_or(0), "{last} is the last: {said}");
    assert!(all.last.is_none() || records.contains(&promise(1)), "a promise is lost: {said}");
    all
}

/// A life for each step, which fails there.
fn fail_everywhere(how: &str, check_end: impl Fn(&Output, &str)) {
    let mut table = String::new();
    for (step, times) in STEPS {
        for before in times {
            let folder = tempfile::tempdir().unwrap();
            let passes = if *before > 0 { format!("{before}*off->") } else { String::new() };
            let failpoints = format!("storage::{step}={passes}return({how})");
            let output = run("a_replica_s_life", folder.path(), &failpoints);
            let said = format!("{failpoints}\n{}", said(&output));
            check_end(&output, &said);
            let last = check(folder.path(), &said).last;
            writeln!(table, "{step:<20} {before}  {how:<6} acknowledged {last:?}").unwrap();
        }
    }
    writeln!(io::stdout().lock(), "{table}").unwrap();
}

#[test]
fn without_a_failure_all_is_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let said = said(&run("a_replica_s_life", folder.path(), ""));
    assert_eq!(check(folder.path(), &said).last, Some(10), "{said}");
}

#[test]
fn a_process_that_dies_at_any_step_has_lost_nothing() {
    const ABORTED: i32 = 6;
    fail_everywhere("abort", |output, said| {
        assert_eq!(output.status.signal(), Some(ABORTED), "the step was not taken: {said}");
    });
}

#[test]
fn a_disk_that_fails_at_any_step_has_lost_nothing() {
    fail_everywhere("EIO", |output, said| {
        assert!(output.status.success(), "{said}");
        let told = ["Failed(", "Err(", "refused "].iter().any(|word| said.contains(word));
        // What is only not deleted, or not needed yet, is no failure.
        let complete = said.contains("Persisted(20)");
        assert!(told || complete, "{said}");
    });
}

/// Of the four batches of its first life, by turns; some are of many blocks.
#[test]
fn a_write_that_is_torn_was_promised_to_nobody() {
    for (before, last) in [(0, None), (1, Some(0)), (2, Some(2)), (3, Some(3))] {
        let folder = tempfile::tempdir().unwrap();
        let passes = if before > 0 { format!("{before}*off->") } else { String::new() };
        let failpoints = format!("storage::tear-segment={passes}return");
        let output = run("a_replica_s_life", folder.path(), &failpoints);
        assert!(!output.status.success());
        assert_eq!(check(folder.path(), &said(&output)).last, last);
    }
}

#[test]
fn a_log_that_can_not_be_read_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let said = said(&run("a_replica_s_life", folder.path(), "storage::read-segment=return(EIO)"));
    let said = said.replace(folder.path().to_str().unwrap(), "DIR");
    let flaw = "refused DIR: log-1 can't be read: Input/output error (os error 5); ";
    assert!(said.contains(&[flaw, ADVICE].concat()), "{said}");
}

#[test]
fn a_snapshot_that_finds_no_room_is_waited_for_where_the_log_needs_it() {
    let folder = tempfile::tempdir().unwrap();
    let once = "storage::write-snapshot=1*return(ENOSPC)";
    let said = said(&run("a_replica_s_life", folder.path(), once));
    let full = "\nFull(\"the snapshot at 0 can't be written: No space left on device";
    assert!(said.contains(full) && said.contains("\nRoom\n"), "{said}");
    assert_eq!(check(folder.path(), &said).last, Some(10), "{said}");
}

/// Clients may have taken them all, and that says nothing of the disk.
#[test]
fn a_file_that_finds_no_descriptor_is_waited_for() {
    for (step, file) in [
        ("create-segment", "log-1 can't be made"),
        ("open-segment", "log-1 can't be made"),
        ("create-snapshot", "the snapshot at 0 can't be written"),
        ("folder-snapshot", "the snapshot at 0 can't be written"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let once = format!("storage::{step}=1*return(EMFILE)");
        let said = said(&run("a_replica_s_life", folder.path(), &once));
        let full = format!("\nFull(\"{file}: Too many open files");
        assert!(said.contains(&full) && said.contains("\nRoom\n"), "{step}: {said}");
        assert_eq!(check(folder.path(), &said).last, Some(10), "{step}: {said}");
    }
}

/// Whenever it dies on the way, the folder is the old replica's, whole, or the new one's with the
/// old copy set aside, whole.
#[test]
fn a_folder_that_is_being_discarded_is_of_one_replica_or_the_other() {
    for (step, is_before) in [
        ("create-aside", true),
        ("create-aside=1*off->", true),
        ("write-aside", true),
        ("rename-aside", true),
        ("folder-aside", true),
        ("folder-aside=1*off->", true),
        ("create-identity", true),
        ("rename-identity", true),
        ("folder-identity", false),
        ("move-aside", false),
        ("move-aside=1*off->", false),
        ("folder-aside=2*off->", false),
        ("folder-aside=3*off->", false),
        ("keep-aside", false),
        ("folder-aside=4*off->", false),
        ("folder-segment", false),
    ] {
        let folder = used();
        let (storage, whole) = open(folder.path());
        let before = storage.replica();
        drop(storage);
        let point = if step.contains('=') { step.to_owned() } else { format!("{step}=") };
        let died = run("a_discard", folder.path(), &format!("storage::{point}return(abort)"));
        assert!(!died.status.success(), "{step}");
        let (storage, recovered) = open(folder.path());
        assert_eq!(storage.replica() == before, is_before, "{step}");
        assert!(!folder.path().join("discarding").exists(), "{step}");
        if is_before {
            assert_eq!(recovered, whole, "{step}");
            assert!(!folder.path().join("discarded").exists(), "{step}");
        } else {
            assert_eq!(recovered, None, "{step}");
            check_aside(folder.path(), whole.as_ref());
        }
    }
}

/// What is set aside is whole; and it is no data folder, since nobody may vote by it.
fn check_aside(folder: &Path, whole: Option<&Recovered>) {
    let aside = folder.join("discarded");
    let refused = refusal(&aside);
    assert!(refused.contains("holds was, which is no file of a replica"), "{refused}");
    fs::rename(aside.join("was"), aside.join("identity")).unwrap();
    assert_eq!(open(&aside).1.as_ref(), whole);
}

/// It dies once more while what is set aside is deleted: the next start does the rest.
#[test]
fn what_was_set_aside_goes_when_the_others_state_is_safe() {
    for step in ["delete-aside", "delete-aside=1*off->", "folder-aside=5*off->"] {
        let folder = used();
        let point = if step.contains('=') { step.to_owned() } else { format!("{step}=") };
        let failpoints = format!("storage::{point}return(abort)");
        let died = run("a_discard_and_a_new_life", folder.path(), &failpoints);
        assert!(!died.status.success(), "{step}");
        let (_, recovered) = open(folder.path());
        assert_eq!(recovered.map(|recovered| recovered.snapshot), first().snapshot, "{step}");
        assert!(!folder.path().join("discarded").exists(), "{step}");
    }
}

#[test]
#[ignore = "it is a process of other tests"]
fn a_discard_and_a_new_life() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let (mut storage, _) = open(Path::new(&folder));
    storage.discard(&[]).unwrap();
    persist(&mut storage, first());
    // It dies of that, in another thread.
    let until = Instant::now() + AT_ONCE;
    while Instant::now() < until {
        std::thread::yield_now();
    }
}

#[test]
#[ignore = "it is a process of other tests"]
fn a_discard() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let (mut storage, _) = open(Path::new(&folder));
    storage.discard(&[]).unwrap();
}
