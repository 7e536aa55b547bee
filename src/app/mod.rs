//! Wires both planes together: start, wait, stop.

mod check_s3;
mod descriptors;
mod exit;
mod listeners;
mod offline;
mod start;
#[cfg(test)]
mod tests;
mod workers;

use std::{
    io::{self, ErrorKind, Write},
    time::Duration,
};

pub use self::exit::Exit;
use self::{
    check_s3::check_s3,
    exit::{Failure, could_not_start, refused, say},
    offline::{compare, validate},
    start::start,
};
use crate::{
    cli::{self, Action, Arguments},
    control_plane::{
        certificates::paths,
        control::{Control, End, Inputs, level},
        files::{ConfigPlace, ProcessEnvironment},
        fingerprints::Seen,
        prepare::load,
        signals,
    },
    policy::auth::install_crypto,
    system::clock,
    telemetry::log,
};

/// Time that the last log lines may take to be written.
const LOG_GRACE: Duration = Duration::from_secs(1);

/// Does what the arguments ask for.
pub fn run(arguments: &Arguments) -> Exit {
    install_crypto();
    let environment = ProcessEnvironment::capture();
    match &arguments.action {
        Action::Run => serve_requests(&arguments.config, environment),
        Action::Validate => validate(arguments, &environment),
        Action::Diff(old) => compare(old, arguments, &environment),
        Action::CheckS3 => check_s3(arguments, &environment),
        Action::Completions(shell) => print(&cli::completions(*shell)),
        Action::Man => match cli::manual() {
            Ok(page) => print(&page),
            Err(error) => could_not_start(&format!("the manual page cannot be made: {error}")),
        },
    }
}

/// Prints what becomes a file: half of it must not look like all of it.
fn print(text: &[u8]) -> Exit {
    let mut out = io::stdout();
    match out.write_all(text).and_then(|()| out.flush()) {
        // A closed pipe is the reader's choice.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            say(&mut io::stderr(), format!("error: standard output cannot be written: {error}\n"));
            Exit::CouldNotStart
        }
        _ => Exit::Clean,
    }
}

fn serve_requests(place: &ConfigPlace, environment: ProcessEnvironment) -> Exit {
    // Caught before anything that takes time: a SIGHUP during start is a reload afterwards.
    let signals = match signals::catch() {
        Ok(signals) => signals,
        Err(error) => return could_not_start(&format!("signals cannot be caught: {error}")),
    };
    let mut seen = Seen::new();
    let (content, loaded) = match load(place, &environment, None, &mut seen) {
        Ok(found) => found,
        Err(problems) => return refused(place, &problems),
    };
    let log = match log::init(level(loaded.settings.logging.level), clock::unix_millis) {
        Ok(log) => log,
        Err(error) => return could_not_start(&format!("the log cannot be started: {error}")),
    };
    let exit = match start(place, environment, signals, &content, loaded, log.clone()) {
        Ok((mut control, inputs)) => {
            let certificates = paths(place, &control.running.settings);
            control.watcher.watch_certificates(certificates, &seen);
            control.watcher.read_file(seen, true);
            let is_watched = control.running.settings.reload.watch && !place.is_stdin();
            control.watcher.watch(is_watched);
            control.service.ready("serving generation 1");
            serve(control, inputs)
        }
        Err(Failure::Refused(problems)) => refused(place, &problems),
        Err(Failure::CouldNotStart(why)) => {
            tracing::error!("could not start: {why}");
            Exit::CouldNotStart
        }
    };
    log.flush(LOG_GRACE);
    exit
}

fn serve(mut control: Control, mut inputs: Inputs) -> Exit {
    let end = control.run(&mut inputs);
    control.access_log.stop(LOG_GRACE);
    match end {
        End::Stopped => {
            tracing::info!("stopped");
            Exit::Clean
        }
        End::StoppedAtOnce => Exit::Clean,
        End::WorkerFailed(why) => {
            tracing::error!("a worker ended: {why}");
            Exit::CouldNotStart
        }
    }
}
