//! The command line: subcommands, and the flags of earlier versions that mean the same.
//!
//! Words that were typed (`typed`) become what is to be done ([`Arguments`]). The completions and
//! the manual page come from the same declarations.

mod manual;
mod typed;

use std::{ffi::OsString, path::PathBuf};

use clap::{
    ArgMatches, CommandFactory as _, FromArgMatches as _,
    builder::StyledStr,
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};
pub use clap_complete::Shell;

use self::typed::{Command, CommandLine, NAME, PlaceFlags, ReportFlags};
pub use self::{manual::manual, typed::Format};
use crate::control_plane::files::ConfigPlace;

/// Work to do, and its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arguments {
    /// The configuration.
    pub config: ConfigPlace,
    /// Work to do with it.
    pub action: Action,
    /// Form of what is printed; none for the usual one.
    pub format: Option<Format>,
    /// Takes warnings for errors.
    pub strict: bool,
}

/// Work that the program can do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Serve requests.
    Run,
    /// Check the configuration.
    Validate,
    /// Report what a reload from this configuration would change.
    Diff(ConfigPlace),
    /// Ask each bucket for an object.
    CheckS3,
    /// Print completions.
    Completions(Shell),
    /// Print the manual page.
    Man,
}

/// Parses the arguments of the program.
///
/// # Errors
/// clap's own error, which prints itself and knows its exit code.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Arguments, clap::Error> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let matches = CommandLine::command()
        .try_get_matches_from(&arguments)
        .map_err(|error| with_tip(error, &arguments))?;
    let typed = CommandLine::from_arg_matches(&matches)?;
    understand(typed, &matches)
}

fn understand(typed: CommandLine, matches: &ArgMatches) -> Result<Arguments, clap::Error> {
    let CommandLine { place, validate, diff, report, command } = typed;
    let PlaceFlags { config, base_dir } = place;
    let at = |path: &PathBuf| ConfigPlace::new(path, base_dir.as_deref());
    if command.is_some() && (validate || diff.is_some() || report.format.is_some() || report.strict)
    {
        return Err(conflict("write --validate, --diff, --format and --strict behind the command"));
    }
    let is_check = validate || diff.is_some();
    if command.is_none() && !is_check && (report.format.is_some() || report.strict) {
        return Err(conflict("--format and --strict belong to validate and diff"));
    }
    let mut arguments = Arguments {
        config: at(&config),
        action: Action::Run,
        format: report.format,
        strict: report.strict,
    };
    match command {
        None if validate => arguments.action = Action::Validate,
        None => {
            if let Some(old) = diff {
                arguments.action = Action::Diff(at(&old));
            }
        }
        Some(Command::Run) => {}
        Some(Command::Validate { report: ReportFlags { format, strict } }) => {
            arguments = Arguments { action: Action::Validate, format, strict, ..arguments };
        }
        Some(Command::Diff { old, new, report: ReportFlags { format, strict } }) => {
            let is_typed = matches.subcommand_matches("diff").is_some_and(|matches| {
                matches.value_source("config") == Some(ValueSource::CommandLine)
            });
            if let Some(new) = new {
                if is_typed {
                    return Err(conflict("--config names the new configuration; write NEW or it"));
                }
                arguments.config = at(&new);
            }
            arguments = Arguments { action: Action::Diff(at(&old)), format, strict, ..arguments };
        }
        Some(Command::CheckS3 { format }) => {
            arguments = Arguments { action: Action::CheckS3, format, ..arguments };
        }
        Some(Command::Completions { shell }) => arguments.action = Action::Completions(shell),
        Some(Command::Man) => arguments.action = Action::Man,
    }
    if let Action::Diff(old) = &arguments.action
        && old.is_stdin()
        && arguments.config.is_stdin()
    {
        return Err(conflict("standard input can be read once; name a file for OLD or NEW"));
    }
    Ok(arguments)
}

fn conflict(message: &str) -> clap::Error {
    CommandLine::command().error(ErrorKind::ArgumentConflict, message)
}

/// Adds a tip where a file was named like a command.
fn with_tip(mut error: clap::Error, arguments: &[OsString]) -> clap::Error {
    let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand) else {
        return error;
    };
    let names_file = word.contains(['.', '/']) && arguments.iter().any(|typed| typed == &**word);
    if names_file {
        let tip = format!("name the configuration file with a flag: --config {word}");
        let tips = ContextValue::StyledStrs(vec![StyledStr::from(tip)]);
        error.insert(ContextKind::Suggested, tips);
    }
    error
}

/// The completions of a shell.
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut CommandLine::command(), NAME, &mut text);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Arguments {
        let words = [&[NAME], words].concat();
        parse(words.into_iter().map(OsString::from)).unwrap()
    }

    fn refused(words: &[&str]) -> String {
        let words = [&[NAME], words].concat();
        let error = parse(words.into_iter().map(OsString::from)).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{error}");
        error.to_string()
    }

    #[test]
    fn the_declarations_hold_together() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn flags_and_commands_mean_the_same() {
        for [flags, command] in [
            [&["-c", "a.yaml", "--validate"][..], &["validate", "--config", "a.yaml"]],
            [&["-c", "a.yaml", "-t", "--strict"], &["-c", "a.yaml", "validate", "--strict"]],
            [&["--config", "a.yaml"], &["run", "-c", "a.yaml"]],
            [&["--diff", "o.yaml", "-c", "a.yaml"], &["diff", "o.yaml", "a.yaml"]],
            [&["--diff=o", "-c", "a", "--format=text"], &["-c=a", "diff", "o", "--format", "text"]],
            [&["-c-", "-t", "--base-dir", "d"], &["--base-dir", "d", "validate", "-c", "-"]],
        ] {
            assert_eq!(parsed(flags), parsed(command), "{flags:?} {command:?}");
        }
    }

    #[test]
    fn what_does_not_go_together_is_wrong_usage() {
        for (words, told) in [
            (&["-t", "--diff", "a"][..], "cannot be used with"),
            (&["-t", "validate"], "behind the command"),
            (&["--strict"], "belong to validate and diff"),
            (&["run", "--strict"], "unexpected argument '--strict'"),
            (&["diff", "-", "-"], "standard input can be read once"),
            (&["diff", "a", "b", "-c", "c"], "write NEW or it"),
            (&["valdiate"], "a similar subcommand exists: 'validate'"),
            (&["--confg", "a"], "a similar argument exists: '--config'"),
            (&["config.yaml"], "--config config.yaml"),
            (&["completions", "bsh"], "a similar value exists: 'bash'"),
        ] {
            let shown = refused(words);
            assert!(shown.contains(told), "{words:?}: {shown}");
        }
    }
}
