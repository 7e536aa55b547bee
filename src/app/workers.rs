//! Threads of the workers: started, awaited, and reported when they end.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
};

use crossbeam_channel::{Receiver, Sender};

use crate::{
    data_plane::worker::{self, Assignment},
    handoff::message::FromWorker,
};

pub(super) fn spawn(assignment: Assignment, to_control: Sender<FromWorker>) -> io::Result<()> {
    let worker = assignment.worker;
    thread::Builder::new().name(format!("yt-worker-{worker}")).spawn(move || {
        let error = why_it_ended(|| worker::run(assignment));
        let _ = to_control.send(FromWorker::Failed { worker, error });
    })?;
    Ok(())
}

/// Runs a worker to its end, a panic outside of its connections included: a process that lost a
/// core must not go on as if it had it.
fn why_it_ended(run: impl FnOnce() -> Result<(), String>) -> String {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(())) => "the event loop ended".to_owned(),
        Ok(Err(error)) => error,
        Err(_) => "it panicked".to_owned(),
    }
}

/// Waits until every worker runs: only then is the address announced.
pub(super) fn await_workers(messages: &Receiver<FromWorker>, workers: usize) -> Result<(), String> {
    let mut running = 0;
    while running < workers {
        match messages.recv() {
            Ok(FromWorker::Running { worker, io, refused, core }) => {
                running += 1;
                tracing::info!(worker, io = %io, core, "worker running");
                if let Some(refused) = refused {
                    tracing::warn!(worker, io = %io, refused, "a better event loop was refused");
                }
            }
            Ok(FromWorker::Failed { worker, error }) => {
                return Err(format!("worker {worker}: {error}"));
            }
            Ok(_) => {}
            Err(_) => return Err("no worker runs".to_owned()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_panics_is_reported_like_one_that_fails() {
        assert_eq!(why_it_ended(|| panic!("a bug")), "it panicked");
        assert_eq!(why_it_ended(|| Err("no ring".to_owned())), "no ring");
        assert_eq!(why_it_ended(|| Ok(())), "the event loop ended");
    }
}
