//! Ends of the process, and the texts that explain them to a terminal.

use std::io::{self, Write};

use crate::{config::Problems, control_plane::files::ConfigPlace};

/// Reason why the process could not start.
#[derive(Debug)]
pub(super) enum Failure {
    /// The configuration cannot be used here.
    Refused(Problems),
    /// A sentence for the operator.
    CouldNotStart(String),
}

impl From<Problems> for Failure {
    fn from(problems: Problems) -> Self {
        Self::Refused(problems)
    }
}

/// The failure of what the words name, with the kernel's reason behind them.
pub(super) fn because(what: &str) -> impl Fn(io::Error) -> Failure + '_ {
    move |error| Failure::CouldNotStart(format!("{what}: {error}"))
}

/// End of the process, with an exit code for each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// A clean stop, or everything that was checked is good.
    Clean,
    /// The configuration was refused, or a check failed.
    Refused,
    /// Wrong usage.
    Usage,
    /// The port is in use, something is not permitted, no `io_uring` though demanded.
    CouldNotStart,
}

impl Exit {
    /// The exit code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Clean => 0,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::CouldNotStart => 3,
        }
    }
}

pub(super) fn say(out: &mut impl Write, text: impl AsRef<[u8]>) {
    // A closed pipe is the reader's choice.
    let _ = out.write_all(text.as_ref()).and_then(|()| out.flush());
}

pub(super) fn refused(place: &ConfigPlace, problems: &Problems) -> Exit {
    say(&mut io::stderr(), format!("{problems}{place}: the configuration is refused\n"));
    Exit::Refused
}

pub(super) fn could_not_start(why: &str) -> Exit {
    say(&mut io::stderr(), format!("error: could not start: {why}\n"));
    Exit::CouldNotStart
}
