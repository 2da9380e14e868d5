//! What the repository says of itself.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What stands between backquotes and looks like a path of ours.
fn paths(text: &str) -> impl Iterator<Item = &str> {
    let quoted = text.split('`').skip(1).step_by(2);
    quoted.filter(|word| !word.contains([' ', '\n', ':']) && is_ours(word))
}

fn is_ours(word: &str) -> bool {
    ["crates/", "docs/", "scripts/", "benches/", ".ci/"].iter().any(|top| word.starts_with(top))
        || ["docs", "scripts", "benches"].contains(&word)
}

/// What stands as a link's target, other sites left out.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://"))
}

/// All that is written for people.
fn pages() -> Vec<String> {
    let mut pages = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"]
        .map(str::to_owned)
        .to_vec();
    let mut folders =
        ["docs/reference", "docs/internals", "docs/decisions"].map(str::to_owned).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(root().join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let path = format!("{folder}/{}", entry.file_name().to_str().unwrap());
            let of_its_kind =
                if entry.file_type().unwrap().is_dir() { &mut folders } else { &mut pages };
            of_its_kind.push(path);
        }
    }
    pages.retain(|page| page.ends_with(".md"));
    pages
}

#[test]
fn the_pages_name_what_is_there() {
    assert!(paths(&text("ARCHITECTURE.md")).count() > 10);
    for page in pages() {
        let text = text(&page);
        let absent: Vec<_> = paths(&text).filter(|path| !root().join(path).exists()).collect();
        assert!(absent.is_empty(), "{page} names what is not there: {absent:?}");
    }
}

#[test]
fn links_lead_somewhere() {
    for page in pages() {
        let text = text(&page);
        let folder = root().join(&page).parent().map(Path::to_owned).unwrap_or_default();
        let dead: Vec<_> = links(&text).filter(|link| !folder.join(link).exists()).collect();
        assert!(dead.is_empty(), "{page} links to what is not there: {dead:?}");
    }
}

#[test]
fn the_core_has_no_runtime_and_no_randomness() {
    let manifest = text("crates/concoord-core/Cargo.toml");
    let dependencies = manifest.split("[dependencies]").nth(1).expect("the core depends on some");
    let dependencies = dependencies.split("\n[").next().unwrap_or_default();
    for banned in ["tokio", "mio", "rand", "getrandom", "socket2", "rustix"] {
        let named = dependencies
            .lines()
            .find(|line| line.split(['.', '=', ' ']).next().is_some_and(|name| name == banned));
        assert_eq!(named, None, "the core decides and does nothing");
    }
}

#[test]
fn only_one_file_names_the_consensus_library() {
    let mut folders = vec![root().join("crates/concoord-core/src")];
    let mut named = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if fs::read_to_string(&path).unwrap().contains("raft::") {
                named.push(path);
            }
        }
    }
    let outside = |path: &&PathBuf| !path.to_string_lossy().contains("src/consensus");
    assert_eq!(named.iter().find(outside), None);
}

#[test]
fn the_exit_codes_are_documented() {
    let page = text("docs/reference/cli.md");
    for code in (0..=12).chain([126, 127]) {
        assert!(page.contains(&format!("\n| {code} | ")), "{code}");
    }
}
