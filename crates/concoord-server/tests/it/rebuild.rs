//! `concoord rebuild`.

use std::fs;
use std::path::Path;

use concoord_server::storage::{Storage, Who};

use crate::processes::concoord;

fn who() -> Who {
    Who {
        class: "bank.Account".into(),
        address: ([127, 0, 0, 1], 14000).into(),
        runtime: String::new(),
        witness: false,
    }
}

fn rebuild(folder: &Path) -> (Option<i32>, String) {
    let output = concoord(&["rebuild", "--data-dir", folder.to_str().unwrap()]).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

#[test]
fn a_folder_that_is_refused_can_be_used_after_a_rebuild() {
    let folder = tempfile::tempdir().unwrap();
    drop(Storage::open(folder.path(), who()).unwrap());
    fs::write(folder.path().join("identity"), "rotten").unwrap();
    let refused = Storage::open(folder.path(), who()).map(drop).unwrap_err().to_string();
    let advice = format!("`concoord rebuild --data-dir {}`", folder.path().display());
    assert!(refused.contains(&advice), "{refused}");

    let (code, said) = rebuild(folder.path());
    let aside = folder.path().join("damaged-1");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(aside.to_str().unwrap()), "{said}");
    assert_eq!(fs::read_to_string(aside.join("identity")).unwrap(), "rotten");
    assert_eq!(Storage::open(folder.path(), who()).unwrap().1, None);
}

#[test]
fn what_is_no_folder_of_a_stopped_replica_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (code, said) = rebuild(&folder.path().join("none"));
    assert_eq!(code, Some(1));
    assert!(said.contains("there is no such folder"), "{said}");

    let storage = Storage::open(folder.path(), who()).unwrap();
    let (code, said) = rebuild(folder.path());
    assert_eq!(code, Some(1));
    assert!(said.contains("is in use by another process"), "{said}");
    drop(storage);

    fs::write(folder.path().join("thesis.tex"), "").unwrap();
    let (code, said) = rebuild(folder.path());
    assert_eq!(code, Some(1));
    assert!(said.contains("holds thesis.tex"), "{said}");
}
