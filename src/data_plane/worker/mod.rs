//! A worker: a pinned thread with its own event loop. It adopts generations, accepts connections,
//! serves them, and stops in steps.

mod accept;
mod inbox;

use std::{net::TcpListener, rc::Rc, sync::Arc};

use crossbeam_channel::Sender;

use crate::{
    data_plane::{
        core::{Core, Setup},
        worker::accept::Door,
    },
    handoff::{
        live::LiveTable,
        message::{FromWorker, ToWorker},
        release::Release,
    },
    protocol::http1::Pseudonym,
    system::{
        cpu, event_loop,
        inbox::UnclaimedInbox,
        listener::CoreListener,
        pauses::PausesChoice,
        reactor::Reactor,
        ring::{self, IoChoice, Opened},
        send_ring::{Sending, SendsChoice},
    },
    telemetry::{access_log::AccessLogSink, cells::CoreCells},
};

/// Everything that a worker is given when its thread starts.
#[derive(Debug)]
pub struct Assignment {
    /// Index of the worker, from 0.
    pub worker: usize,
    /// The processor to pin to.
    pub core: Option<cpu::Processor>,
    /// Which kernel interface to use.
    pub io: IoChoice,
    /// Turns whose small sends are to leave together, where the kernel can do that.
    pub sends: SendsChoice,
    /// Its pauses when it has nothing to do for a moment.
    pub pauses: PausesChoice,
    /// Its share of the main address.
    pub listener: TcpListener,
    /// Its share of the address for TLS, if there is one.
    pub tls_listener: Option<TcpListener>,
    /// Its share of the admin address, when that is another one.
    pub admin_listener: Option<TcpListener>,
    /// Set if connections to the main address begin with a PROXY protocol header.
    pub proxy_headers: bool,
    /// Client connections that all cores together may have, and as many requests over HTTP/2.
    pub max_connections: u64,
    /// Name of the process in the `Via` of its requests.
    pub pseudonym: Pseudonym,
    /// The generation to start with.
    pub release: Release,
    /// The live values to start with.
    pub live: Arc<LiveTable>,
    /// Messages from the control thread.
    pub inbox: UnclaimedInbox<ToWorker>,
    /// Messages to the control thread.
    pub to_control: Sender<FromWorker>,
    /// The counters of all cores, by worker.
    pub all_cells: Arc<[Arc<CoreCells>]>,
    /// Where its access-log records go.
    pub access_log: AccessLogSink,
}

/// Serves until the process ends. Runs on the thread that is to be the worker.
///
/// # Errors
/// A sentence for the operator when the kernel gives no ring that is demanded or no descriptors, or
/// when the event loop ends.
pub fn run(assignment: Assignment) -> Result<(), String> {
    // The order matters: a ring belongs to the processor's memory that its thread is pinned to.
    let pinned = assignment.core.filter(|core| core.pin());
    let opened = ring::open(assignment.io, assignment.sends).map_err(|error| {
        format!("server.io: the kernel gives no io_uring ({error}); write auto, or permit io_uring")
    })?;
    event_loop::run(|| serve(assignment, opened, pinned))
        .map_err(|error| format!("no event loop can be built: {error}"))?
        .map_err(|error| format!("the event loop refuses a descriptor: {error}"))
}

async fn serve(
    assignment: Assignment,
    opened: Opened,
    pinned: Option<cpu::Processor>,
) -> std::io::Result<()> {
    let sends = if opened.ring.is_some() { Sending::Together } else { Sending::Alone };
    let reactor = Reactor::start_with(opened.ring, assignment.pauses)?;
    let inbox = assignment.inbox.claim(&reactor)?;
    let Some(cells) = assignment.all_cells.get(assignment.worker).cloned() else {
        return Err(std::io::Error::other("the worker has no counters"));
    };
    let core = Rc::new(Core::new(Setup {
        worker: assignment.worker,
        release: assignment.release,
        live: assignment.live,
        reactor,
        cells,
        all_cells: assignment.all_cells,
        max_connections: assignment.max_connections,
        admin_elsewhere: assignment.admin_listener.is_some(),
        proxy_headers: assignment.proxy_headers,
        tls_port: assignment.tls_listener.as_ref().map_or(Ok(0), port_of)?,
        pseudonym: assignment.pseudonym,
        to_control: assignment.to_control.clone(),
        access_log: assignment.access_log,
    }));
    for (listener, door) in [
        (Some(assignment.listener), Door::MAIN),
        (assignment.tls_listener, Door::MAIN_TLS),
        (assignment.admin_listener, Door::ADMIN),
    ] {
        if let Some(listener) = listener {
            accept::spawn(&core, CoreListener::new(listener, &core.reactor)?, door);
        }
    }
    let _ = assignment.to_control.send(FromWorker::Running {
        worker: core.worker,
        io: opened.kind,
        refused: opened.refused.map(|error| error.to_string()),
        sends,
        pauses: core.reactor.may_pause(),
        core: pinned.map(cpu::Processor::number),
    });
    let beating = Rc::clone(&core);
    event_loop::spawn(async move { beating.reactor.every_tick(|| beat(&beating)).await });
    inbox::read(&core, inbox).await;
    Ok(())
}

fn port_of(listener: &TcpListener) -> std::io::Result<u16> {
    listener.local_addr().map(|address| address.port())
}

/// Ticks between two looks at idle upstream connections.
const SWEEP_TICKS: u64 = 10;

/// Ticks without a connection after which free memory goes back to the allocator.
const SHRINK_AFTER_TICKS: u64 = 300;

fn beat(core: &Core) {
    core.reactor.tick();
    core.dates.refresh();
    core.open.flush_access_log();
    core.deferred.free_some();
    core.commands.end_dropped();
    let (count, quiet) = core.ticks.get();
    let quiet = if core.open.main_connections() == 0 { quiet + 1 } else { 0 };
    core.ticks.set((count + 1, quiet));
    if count % SWEEP_TICKS == 0 {
        let endpoints: Vec<_> = core.endpoints.borrow().values().cloned().collect();
        let now = core.reactor.clock.coarse();
        let live = Arc::clone(&core.live.borrow());
        for endpoint in endpoints {
            endpoint.learn(&live, now);
            endpoint.sweep(now);
        }
    }
    if quiet == SHRINK_AFTER_TICKS {
        core.buffers.shrink();
        core.reactor.shrink();
        core.pipes.shrink();
        core.encoders.shrink();
    }
}
