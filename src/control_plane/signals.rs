//! Signals as messages. They are caught from before the first configuration is read, so that one
//! that arrives during start-up is neither lost nor fatal.

use std::io;

use crossbeam_channel::{Receiver, unbounded};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1},
    iterator::Signals,
};

use crate::control_plane::jobs;

/// Request that a signal stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGHUP: reload the configuration.
    Reload,
    /// SIGTERM or SIGINT: drain and stop; the second one stops at once.
    Stop,
    /// SIGUSR1: reopen the access log.
    Reopen,
}

/// Text of the line about signals at the start.
pub const EXPLAINED: &str = "SIGHUP reloads, SIGTERM and SIGINT drain and stop (a second one at once), SIGUSR1 reopens the access log";

/// Starts catching signals.
///
/// # Errors
/// When a handler cannot be installed or the thread cannot be started.
pub fn catch() -> io::Result<Receiver<Signal>> {
    let mut signals = Signals::new([SIGHUP, SIGTERM, SIGINT, SIGUSR1])?;
    let (sender, receiver) = unbounded();
    jobs::keep("yt-signals".to_owned(), move || {
        for number in &mut signals {
            let signal = match number {
                SIGHUP => Signal::Reload,
                SIGUSR1 => Signal::Reopen,
                _ => Signal::Stop,
            };
            if sender.send(signal).is_err() {
                return;
            }
        }
    })?;
    Ok(receiver)
}
