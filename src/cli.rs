//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// A thread-per-core S3 edge proxy.
///
/// Exit codes: 0 clean stop, 1 configuration refused, 2 wrong usage, 3 could not start.
#[derive(Clone, Debug, Parser)]
#[command(name = "yatagarasu", version, about)]
pub struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE", default_value = "./config.yaml")]
    pub config: PathBuf,

    /// Check the configuration, print every problem, and exit with 0 or 1. Opens no socket.
    #[arg(long, conflicts_with = "diff")]
    pub validate: bool,

    /// Print the report that a reload from this file to the one of --config would give.
    #[arg(long, value_name = "OLD")]
    pub diff: Option<PathBuf>,
}

/// Parses the arguments of the program.
///
/// # Errors
/// clap's own error, which prints itself and knows its exit code.
pub fn parse(
    arguments: impl IntoIterator<Item = std::ffi::OsString>,
) -> Result<Arguments, clap::Error> {
    Arguments::try_parse_from(arguments)
}
