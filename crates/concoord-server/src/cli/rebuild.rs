//! `concoord rebuild`: sets a data folder's content aside.

use std::path::PathBuf;

use super::exit::Failure;
use super::output;
use crate::storage::set_aside;

#[derive(Debug, clap::Args)]
#[command(after_long_help = super::EXIT_CODES)]
pub(super) struct Options {
    /// The data folder of a replica that is stopped
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let aside = set_aside(&options.data_dir).map_err(Failure::failed)?;
    output::say(format!(
        "What {} held is in {} now. Start the replica again with -b and the address of a peer: \
         it gets everything from there.",
        options.data_dir.display(),
        aside.display()
    ));
    Ok(())
}
