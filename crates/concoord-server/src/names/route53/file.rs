//! Files of keys: our own, that `concoord route53id` and `route53key` write, and AWS's.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

/// Bytes of a file of keys.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Settings by section, in the order in which they stand in the file.
#[derive(Debug, Default)]
pub(crate) struct Sections(Vec<(String, Vec<(String, String)>)>);

impl Sections {
    /// Reads a file of sections; a file that is not there has none.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        match read(path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    fn parse(text: &str) -> Self {
        let mut sections = Vec::new();
        for line in text.lines() {
            // What is indented belongs to the setting before it, of which we use none.
            if line.starts_with([' ', '\t', '#', ';']) {
                continue;
            }
            let line = line.trim();
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.split(']').next()) {
                sections.push((name.split_whitespace().collect::<Vec<_>>().join(" "), Vec::new()));
            } else if let Some((name, value)) = line.split_once('=')
                && let Some((_, settings)) = sections.last_mut()
            {
                settings.push((name.trim().to_lowercase(), value.trim().to_owned()));
            }
        }
        Self(sections)
    }

    /// Whether there is such a section.
    pub(crate) fn has(&self, section: &str) -> bool {
        self.0.iter().any(|(name, _)| name == section)
    }

    /// A setting that is not empty; of several the last counts.
    pub(crate) fn get(&self, section: &str, setting: &str) -> Option<&str> {
        let sections = self.0.iter().filter(|(name, _)| name == section);
        let settings = sections.flat_map(|(_, settings)| settings);
        let values = settings.filter(|(name, value)| name == setting && !value.is_empty());
        values.map(|(_, value)| value.as_str()).next_back()
    }
}

/// Our own file of keys: lines `NAME=VALUE`, for its owner alone.
#[derive(Debug)]
pub(crate) struct KeyFile(PathBuf);

impl KeyFile {
    /// Where it is, for this user: below `XDG_CONFIG_HOME`, else `~/.config`.
    pub(crate) fn of_user() -> Option<Self> {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let folder = variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            // The standard has relative paths ignored.
            .filter(|folder| folder.is_absolute())
            .or_else(|| Some(PathBuf::from(variable("HOME")?).join(".config")))?;
        Some(Self::at(folder.join("concoord/CONFIG")))
    }

    pub(crate) const fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// What is kept under that name.
    pub(crate) fn get(&self, name: &str) -> io::Result<Option<String>> {
        let text = self.text()?;
        let kept = lines(&text).filter(|(known, value)| *known == name && !value.is_empty());
        Ok(kept.map(|(_, value)| value.to_owned()).last())
    }

    /// Keeps it under that name; the file is there whole or as it was. Says whether that changes
    /// anything.
    pub(crate) fn set(&self, name: &str, value: &str) -> io::Result<bool> {
        let text = self.text()?;
        let is_private =
            |path| fs::metadata(path).is_ok_and(|about| about.permissions().mode() & 0o077 == 0);
        if lines(&text).filter(|(known, _)| *known == name).eq([(name, value)])
            && is_private(&self.0)
        {
            return Ok(false);
        }
        let others = text.lines().filter(|line| lines(line).all(|(known, _)| known != name));
        let mut text: String = others.map(|line| format!("{line}\n")).collect();
        text += &format!("{name}={value}\n");
        let folder = self.0.parent().ok_or(io::ErrorKind::InvalidInput)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        // For its owner alone from the first byte on.
        let mut file = NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(&self.0)?;
        fs::File::open(folder)?.sync_all()?;
        Ok(true)
    }

    fn text(&self) -> io::Result<String> {
        match read(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            text => text,
        }
    }
}

fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.trim(), value.trim()))
}

/// A whole file of text.
pub(crate) fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let read = fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if read as u64 > FILE_BYTES_MAX {
        let why = format!("{} has more than {FILE_BYTES_MAX} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_are_read_as_aws_writes_them() {
        let text = "\
# a comment
[default]
aws_access_key_id = AKID
AWS_SECRET_ACCESS_KEY=se=cret
s3 =
  max_concurrent_requests = 20
[profile  two]
credential_process = /bin/program --with arguments
[default]
aws_session_token =
";
        let sections = Sections::parse(text);
        assert_eq!(sections.get("default", "aws_access_key_id"), Some("AKID"));
        assert_eq!(sections.get("default", "aws_secret_access_key"), Some("se=cret"));
        assert_eq!(sections.get("default", "aws_session_token"), None);
        assert_eq!(sections.get("default", "max_concurrent_requests"), None);
        assert!(sections.get("profile two", "credential_process").is_some());
        assert!(sections.has("profile two") && !sections.has("two"));
    }

    #[test]
    fn keys_are_kept_for_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let file = KeyFile::at(folder.path().join("a/b/CONFIG"));
        assert_eq!(file.get("ID").unwrap(), None);
        assert!(file.set("ID", "one").unwrap());
        assert!(file.set("KEY", "x=y").unwrap());
        assert!(!file.set("ID", "one").unwrap());
        assert!(file.set("ID", "two").unwrap());
        assert_eq!(file.get("ID").unwrap().as_deref(), Some("two"));
        assert_eq!(file.get("KEY").unwrap().as_deref(), Some("x=y"));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(file.path()), 0o600);
        assert_eq!(mode(file.path().parent().unwrap()), 0o700);
        // One that others could read is made anew, also with the same value.
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(file.set("ID", "two").unwrap());
        assert_eq!(mode(file.path()), 0o600);
        assert_eq!(fs::read_dir(file.path().parent().unwrap()).unwrap().count(), 1);
    }
}
