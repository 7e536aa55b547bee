//! Threads of the workers: started, awaited, and reported when they end.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread,
};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::{
    exit::{Failure, because},
    listeners::Listeners,
};
use crate::{
    data_plane::worker::{self, Assignment},
    handoff::{
        live::LiveTable,
        message::{FromWorker, ToWorker},
        release::Release,
    },
    protocol::http1::Pseudonym,
    system::{
        cpu::Processor,
        inbox::{InboxSender, inbox},
        pauses::PausesChoice,
        ring::IoChoice,
        send_ring::SendsChoice,
    },
    telemetry::{access_log::AccessLogSinks, cells::CoreCells},
};

/// Messages that may wait for one worker. Reloads coalesce and addresses repeat, so a worker
/// that is this far behind is stalled.
const INBOX_MESSAGES_MAX: usize = 256;

/// Everything that all workers start with alike.
#[derive(Debug)]
pub(super) struct SharedSetup<'c> {
    pub(super) io: IoChoice,
    /// Turns whose small sends are to leave together, where the kernel can do that.
    pub(super) sends: SendsChoice,
    /// Pauses of workers that have nothing to do for a moment.
    pub(super) pauses: PausesChoice,
    /// Set if connections to the main address begin with a PROXY protocol header.
    pub(super) proxy_headers: bool,
    /// Client connections that all of them together may have.
    pub(super) max_connections: u64,
    pub(super) pseudonym: Pseudonym,
    pub(super) release: &'c Release,
    pub(super) live: &'c Arc<LiveTable>,
    /// The counters of each, by index.
    pub(super) all_cells: &'c Arc<[Arc<CoreCells>]>,
    pub(super) sinks: &'c AccessLogSinks,
}

/// Starts a worker for each set of counters, and waits until all of them run: only then are the
/// addresses announced. Returns how to reach them, and what they say.
pub(super) fn start_workers(
    shared: &SharedSetup<'_>,
    cores: &[Processor],
    listeners: Listeners,
) -> Result<(Vec<InboxSender<ToWorker>>, Receiver<FromWorker>), Failure> {
    let (to_control, from_workers) = unbounded();
    let mut inboxes = Vec::with_capacity(shared.all_cells.len());
    let mut tls_listeners = listeners.tls.into_iter();
    let mut admin_listeners = listeners.admin.into_iter();
    for ((worker, cells), listener) in shared.all_cells.iter().enumerate().zip(listeners.main) {
        let (sender, inbox) =
            inbox(INBOX_MESSAGES_MAX).map_err(because("the inbox of a worker"))?;
        inboxes.push(sender);
        let assignment = Assignment {
            worker,
            core: (!cores.is_empty()).then(|| cores[worker % cores.len()]),
            io: shared.io,
            sends: shared.sends,
            pauses: shared.pauses,
            listener,
            tls_listener: tls_listeners.next(),
            admin_listener: admin_listeners.next(),
            proxy_headers: shared.proxy_headers,
            max_connections: shared.max_connections,
            pseudonym: shared.pseudonym,
            release: shared.release.clone(),
            live: Arc::clone(shared.live),
            inbox,
            to_control: to_control.clone(),
            all_cells: Arc::clone(shared.all_cells),
            access_log: shared.sinks.sink(Arc::clone(cells)),
        };
        spawn(assignment, to_control.clone()).map_err(because("a worker thread"))?;
    }
    // So that the end of the last worker is seen.
    drop(to_control);
    await_workers(&from_workers, inboxes.len()).map_err(Failure::CouldNotStart)?;
    Ok((inboxes, from_workers))
}

fn spawn(assignment: Assignment, to_control: Sender<FromWorker>) -> io::Result<()> {
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

/// Waits until every worker runs.
fn await_workers(messages: &Receiver<FromWorker>, workers: usize) -> Result<(), String> {
    let mut running = 0;
    while running < workers {
        match messages.recv() {
            Ok(FromWorker::Running { worker, io, refused, sends, pauses, core }) => {
                running += 1;
                tracing::info!(worker, io = %io, sends = %sends, pauses, core, "worker running");
                if let Some(refused) = refused {
                    tracing::warn!(worker, io = %io, refused, "{}", io.refusal_message());
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
