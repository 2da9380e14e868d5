//! What the fuzzer kept, without the fuzzer.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

#[expect(unreachable_pub, reason = "it is a crate of its own, for the fuzzer")]
#[path = "../../../../fuzz/src/lib.rs"]
mod fuzz;

fn folder(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz").join(name);
    let mut all: Vec<_> = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    all.sort();
    all
}

#[test]
fn what_the_fuzzer_kept_breaks_no_promise() {
    for (name, run) in fuzz::TARGETS {
        let corpus = folder(&format!("corpus/{name}"));
        assert!(!corpus.is_empty(), "nothing is kept of {name}");
        for file in corpus {
            let bytes = fs::read(&file).unwrap();
            // Shown if it fails.
            eprintln!("{}", file.display());
            run(&bytes);
        }
    }
}

#[test]
fn each_target_has_a_program_and_a_corpus() {
    let names = |folder_name: &str| {
        let stem = |path: &PathBuf| path.file_stem().unwrap().to_owned();
        folder(folder_name).iter().map(stem).collect::<Vec<_>>()
    };
    let targets = fuzz::TARGETS.map(|(name, _)| OsString::from(name));
    assert_eq!(names("fuzz_targets"), targets);
    assert_eq!(names("corpus"), targets);
}
