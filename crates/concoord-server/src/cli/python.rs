//! Which Python hosts an object.

use std::path::{Path, PathBuf};

/// The one that was asked for, else the one that this program was installed into, else that of
/// the active virtual environment, else the first on the path.
pub(super) fn choose(asked: Option<&Path>, installed: Option<&Path>) -> PathBuf {
    if let Some(python) = asked.or(installed) {
        return python.to_owned();
    }
    let environment = std::env::var_os("VIRTUAL_ENV").filter(|folder| !folder.is_empty());
    environment
        .map(|folder| PathBuf::from(folder).join("bin/python"))
        .filter(|python| python.exists())
        .unwrap_or_else(|| PathBuf::from("python3"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_comes_first() {
        let (asked, installed) = (Path::new("/a/python"), Path::new("/b/python"));
        assert_eq!(choose(Some(asked), Some(installed)), asked);
        assert_eq!(choose(None, Some(installed)), installed);
    }
}
