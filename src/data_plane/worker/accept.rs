//! Accepting connections, within the limit, and closing the listener without losing any.

use std::{
    net::SocketAddr,
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    rc::Rc,
    time::Duration,
};

use crate::{
    data_plane::{
        client::{connection, handshake, proxy_header, refusal},
        core::{
            Core,
            open::{ConnectionGuard, ListenerGuard, Role},
        },
    },
    handoff::message::DrainStep,
    model::limits::{ADMIN_CONNECTIONS_MAX, TLS_REFUSALS_MAX},
    system::{
        event_loop,
        listener::{CoreListener, is_exhausted},
        panic,
        socket::{Accepted, Socket},
        stream::Stream,
    },
    telemetry::labels::RejectReason,
};

/// Connections accepted before the loop looks at anything else.
const ACCEPTS_PER_TURN: usize = 64;

/// Pause when descriptors are exhausted: long enough not to spin, short enough to go unnoticed
/// once one is free.
const EXHAUSTED_PAUSE: Duration = Duration::from_millis(50);

/// Time that a listener which takes no new connections stays open: a handshake that is under way
/// ends within a round trip.
const HANDSHAKE_GRACE: Duration = Duration::from_millis(200);

/// Pause between two looks at the queue of such a listener.
const HANDSHAKE_PAUSE: Duration = Duration::from_millis(10);

/// The kind of a listener.
#[derive(Clone, Copy, Debug)]
pub(super) struct Door {
    role: Role,
    is_tls: bool,
}

impl Door {
    pub(super) const MAIN: Self = Self { role: Role::Main, is_tls: false };
    pub(super) const MAIN_TLS: Self = Self { role: Role::Main, is_tls: true };
    pub(super) const ADMIN: Self = Self { role: Role::Admin, is_tls: false };
}

/// Starts accepting on a listener.
pub(super) fn spawn(core: &Rc<Core>, listener: CoreListener, door: Door) {
    let guard = ListenerGuard::new(&core.open, door.role);
    event_loop::spawn(accept(Rc::clone(core), listener, door, guard));
}

fn closes_at(role: Role) -> DrainStep {
    match role {
        Role::Main => DrainStep::Closing,
        Role::Admin => DrainStep::AdminClosing,
    }
}

async fn accept(core: Rc<Core>, listener: CoreListener, door: Door, guard: ListenerGuard) {
    let role = door.role;
    let mut closes = None;
    // Counted by its clones.
    let refusals = Rc::new(());
    while core.open.step() < DrainStep::Ending {
        if closes.is_none() && core.open.step() >= closes_at(role) {
            let grace = listener.ignore_new().map_or(Duration::ZERO, |()| HANDSHAKE_GRACE);
            closes = Some(core.reactor.clock.refresh().plus(grace));
        }
        let closing = closes.is_some_and(|at| at <= core.reactor.clock.refresh());
        let mut exhausted = false;
        let mut more = true;
        for _ in 0..ACCEPTS_PER_TURN {
            match listener.try_accept() {
                Ok(Some(accepted)) => admit(&core, accepted, door, &refusals),
                Ok(None) if closing => {
                    // The queue is empty, and nothing has come into it: closing resets nobody.
                    drop(listener);
                    drop(guard);
                    return;
                }
                Ok(None) => {
                    more = false;
                    break;
                }
                Err(error) if is_exhausted(&error) => {
                    core.cells.rejected(RejectReason::FdExhausted).inc();
                    exhausted = true;
                    break;
                }
                // One connection was reset in the queue.
                Err(_) => core.cells.rejected(RejectReason::AcceptError).inc(),
            }
        }
        if exhausted {
            core.reactor.sleep(EXHAUSTED_PAUSE).await;
        } else if more {
            core.reactor.turns.next().await;
        } else if closes.is_some() {
            core.reactor.sleep(HANDSHAKE_PAUSE).await;
        } else {
            core.open.until(closes_at(role), listener.readable()).await;
        }
    }
}

fn admit(core: &Rc<Core>, accepted: Accepted, door: Door, refusals: &Rc<()>) {
    core.cells.accepted.inc();
    let (most, reason) = match door.role {
        Role::Main => (core.max_connections, RejectReason::Limit),
        Role::Admin => (ADMIN_CONNECTIONS_MAX, RejectReason::AdminLimit),
    };
    // Each kind by itself: neither takes places of the other.
    let open: u64 = core.all_cells.iter().map(|cells| door.role.connections(cells).get()).sum();
    if open >= most {
        core.cells.rejected(reason).inc();
        if !door.is_tls {
            refusal::refuse_connection(core, accepted.fd);
        } else if Rc::strong_count(refusals) <= TLS_REFUSALS_MAX
            && let Ok(socket) = Socket::accepted(accepted.fd, &core.reactor)
        {
            let (core, refused) = (Rc::clone(core), Rc::clone(refusals));
            event_loop::spawn(async move {
                run(&core, pin!(refuse(&core, socket, accepted.peer))).await;
                drop(refused);
            });
        }
        return;
    }
    let Ok(socket) = Socket::accepted(accepted.fd, &core.reactor) else {
        core.cells.rejected(RejectReason::FdExhausted).inc();
        return;
    };
    let guard = ConnectionGuard::new(&core.open, door.role);
    let core = Rc::clone(core);
    event_loop::spawn(async move {
        run(&core, pin!(serve(&core, socket, accepted.peer, door, &guard))).await;
        drop(guard);
    });
}

/// Runs what a connection does, and notes a panic. By reference, since a task would hold what is
/// handed on by value twice.
async fn run(core: &Core, connection: Pin<&mut impl Future<Output = ()>>) {
    if panic::caught(AssertUnwindSafe(connection)).await.is_err() {
        core.cells.panics.inc();
        tracing::error!(worker = core.worker, "a connection's task panicked and was ended");
    }
}

/// Refuses a connection over TLS that is over the limit.
async fn refuse(core: &Rc<Core>, socket: Socket, mut peer: SocketAddr) {
    if core.proxy_headers {
        let Some(named) = proxy_header::peer_of(core, &socket, peer).await else { return };
        peer = named;
    }
    handshake::refuse(core, socket, peer).await;
}

/// Serves an accepted connection until it ends.
async fn serve(
    core: &Rc<Core>,
    socket: Socket,
    mut peer: SocketAddr,
    door: Door,
    guard: &ConnectionGuard,
) {
    if core.proxy_headers && door.role != Role::Admin {
        let Some(named) = proxy_header::peer_of(core, &socket, peer).await else { return };
        peer = named;
    }
    let stream = if door.is_tls {
        // In memory of its own, which the connection does not hold for longer.
        match Box::pin(handshake::shake_hands(core, socket, peer)).await {
            Some(stream) => stream,
            None => return,
        }
    } else {
        Stream::Plain(socket)
    };
    connection::serve(core, stream, peer, guard).await;
}
