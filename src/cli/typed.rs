//! The command line as it is typed.

use std::{path::PathBuf, sync::LazyLock};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::control_plane::admin;

/// Name of the program, as it is installed.
pub(super) const NAME: &str = "yatagarasu";

/// Version, commit and what is built in.
static VERSION: LazyLock<String> = LazyLock::new(|| version(admin::VERSION, admin::REVISION));

pub(super) fn version(version: &str, commit: &str) -> String {
    let commit = if commit.is_empty() { "unknown" } else { commit };
    format!(
        "{version}\ncommit: {commit}\ntarget: {}-{}\nfeatures: io_uring, epoll, http2, \
         tls (rustls, aws-lc), zstd, br, gzip",
        std::env::consts::ARCH,
        std::env::consts::OS
    )
}

/// Form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Lines for people.
    Text,
    /// One JSON object.
    Json,
}

/// Serves objects of S3 buckets over HTTP, one thread per core.
///
/// Without a command it serves requests. Exit codes: 0 clean stop or everything good, 1
/// configuration refused or a check failed, 2 wrong usage, 3 could not start or write.
#[derive(Debug, Parser)]
#[command(name = NAME, version = VERSION.as_str(), about, max_term_width = 100)]
pub(super) struct CommandLine {
    #[command(flatten)]
    pub(super) place: PlaceFlags,

    /// Check the configuration, as `validate` does.
    #[arg(short = 't', long, conflicts_with = "diff")]
    pub(super) validate: bool,

    /// Compare with this older configuration, as `diff` does.
    #[arg(long, value_name = "OLD")]
    pub(super) diff: Option<PathBuf>,

    #[command(flatten)]
    pub(super) report: ReportFlags,

    #[command(subcommand)]
    pub(super) command: Option<Command>,
}

#[derive(Debug, Args)]
pub(super) struct PlaceFlags {
    /// The configuration file; - is standard input.
    #[arg(
        short,
        long,
        value_name = "FILE",
        default_value = "./config.yaml",
        env = "YATAGARASU_CONFIG",
        hide_env_values = true,
        global = true
    )]
    pub(super) config: PathBuf,

    /// The directory that relative paths in the configuration start at, in place of the file's own
    /// (of standard input: the working directory).
    #[arg(long, value_name = "DIR", global = true)]
    pub(super) base_dir: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Args)]
pub(super) struct ReportFlags {
    /// Form of what is printed [default: problems as text, the report of a comparison as json].
    #[arg(long, value_enum)]
    pub(super) format: Option<Format>,

    /// Let warnings fail, with exit code 1.
    #[arg(long)]
    pub(super) strict: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Serve requests (the default).
    Run,
    /// Check the configuration, print every problem, and exit with 0 or 1. Opens no socket.
    Validate {
        #[command(flatten)]
        report: ReportFlags,
    },
    /// Print the report that a reload from OLD to NEW would give.
    Diff {
        /// The configuration that runs; - is standard input.
        old: PathBuf,
        /// The one that is to follow; the one of --config where it is left out.
        new: Option<PathBuf>,
        #[command(flatten)]
        report: ReportFlags,
    },
    /// Send one request to each bucket, signed as configured, and print what S3 said. Exits with 1
    /// if one failed.
    #[command(name = "check-s3")]
    CheckS3 {
        /// Form of what is printed.
        #[arg(long, value_enum)]
        format: Option<Format>,
    },
    /// Print completions for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Print the manual page, in roff.
    Man,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_names_commit_and_features() {
        let shown = version("1.2.3", "abcdef");
        assert!(shown.starts_with("1.2.3\ncommit: abcdef\n"), "{shown}");
        assert!(version("1", "").contains("commit: unknown"));
        assert!(shown.contains("features: io_uring, "), "{shown}");
    }
}
