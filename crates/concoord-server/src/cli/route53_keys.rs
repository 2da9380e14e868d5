//! `concoord route53id` and `concoord route53key`: the keys that replicas change Route 53 with.

use std::io::{self, BufRead, Read};

use super::exit::Failure;
use super::output::say;
use crate::names::route53::file::KeyFile;
use crate::names::route53::{ID, KEY};

/// Bytes of an id or a key; AWS's have 128 at most.
const BYTES_MAX: usize = 256;

#[derive(Debug, clap::Args)]
pub(super) struct Id {
    /// The access key id, or - to read it from standard input
    #[arg(value_name = "AWS_ACCESS_KEY_ID")]
    id: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct Key {
    /// The secret access key, or - to read it from standard input, where no list of processes
    /// shows it
    #[arg(value_name = "AWS_SECRET_ACCESS_KEY", allow_hyphen_values = true)]
    key: String,
}

pub(super) fn keep_id(options: &Id) -> Result<(), Failure> {
    let id = value(&options.id, ID)?;
    if keep(ID, &id)? {
        say(format!("Adding {ID} to CONFIG: {id}"));
    }
    Ok(())
}

pub(super) fn keep_key(options: &Key) -> Result<(), Failure> {
    let key = value(&options.key, KEY)?;
    if keep(KEY, &key)? {
        // Terminals are recorded and looked at.
        say(format!("Adding {KEY} to CONFIG."));
    }
    Ok(())
}

/// Keeps it, unless it is kept already; then says so.
fn keep(name: &str, value: &str) -> Result<bool, Failure> {
    let file = KeyFile::of_user()
        .ok_or_else(|| Failure::failed("neither XDG_CONFIG_HOME nor HOME says where to keep it"))?;
    let kept = file.set(name, value);
    let added =
        kept.map_err(|error| Failure::failed(format!("{}: {error}", file.path().display())))?;
    if !added {
        say(format!("{name} is already in the CONFIG file."));
    }
    Ok(added)
}

/// The value, or the first line of standard input.
fn value(given: &str, name: &str) -> Result<String, Failure> {
    let mut line = String::new();
    let text = if given == "-" {
        let mut input = io::stdin().lock().take(BYTES_MAX as u64 + 2);
        input.read_line(&mut line).map_err(Failure::failed)?;
        line.as_str()
    } else {
        given
    };
    let text = text.trim();
    if text.is_empty()
        || text.len() > BYTES_MAX
        || !text.bytes().all(|byte| byte.is_ascii_graphic())
    {
        let text = format!("that is no {name}: give it as AWS shows it");
        return Err(Failure::usage(text));
    }
    Ok(text.to_owned())
}
