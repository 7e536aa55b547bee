//! One connection: its frames in and out, its streams, its deadlines, and the way it ends.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::pin,
    rc::Rc,
    task::{Context, Poll},
};

use h2::{
    Error, Reason, RecvStream,
    server::{Connection, SendResponse},
};
use http::Request as Message;

use crate::{
    data_plane::{
        client::{
            http2::{
                budget::Budget,
                chunk::Chunk,
                limits,
                shared::Shared,
                stream,
                transport::{Io, Offence, Transport},
            },
            input::Input,
            linger::linger,
        },
        core::{
            Core,
            open::{ConnectionGuard, StepWatch},
        },
    },
    system::{reactor::CloseReason, stream::Stream},
    telemetry::{
        cells::Gauge,
        labels::{ConnectionState, Http2GoAway, Http2Reset},
    },
};

/// Serves one connection until it ends. Some of its bytes may have been read: they begin with the
/// client's preface.
pub(in crate::data_plane::client) async fn serve(
    core: &Rc<Core>,
    stream: Stream,
    peer: SocketAddr,
    guard: &ConnectionGuard,
    input: Input<'_>,
) {
    let _counted = Counted::new(&core.cells.http2.connections);
    let http2 = core.current().http2;
    let budget = Budget::new(http2.max_concurrent_streams, core.reactor.clock.coarse());
    let tls = stream.negotiated().cloned();
    let shared = Rc::new(Shared::new(core, guard.role(), peer, tls, budget));
    let ended = drive(&shared, &stream, guard, input).await;
    match ended {
        Ended::Told => linger(core, &stream).await,
        Ended::Lost => stream.set_abortive(true),
        Ended::Left => stream.say_end(),
    }
    drop(stream);
    // They have heard of it, and may still have something to finish.
    shared.streams_over().await;
}

/// An open connection in a gauge, for as long as this lives.
struct Counted<'g>(&'g Gauge);

impl<'g> Counted<'g> {
    fn new(gauge: &'g Gauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// The end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// The client was told, or said so itself.
    Told,
    /// The client closed it, or it failed.
    Left,
    /// It takes nothing any more, or the process ends.
    Lost,
}

/// The next step after a turn of the task.
enum Step {
    /// Others have their turn, and it goes on.
    Turn,
    Over(Ended),
}

/// The next step of a handshake.
enum Shaken<C> {
    /// Others have their turn, and it goes on.
    Turn,
    Over(Option<C>),
}

async fn drive(
    shared: &Rc<Shared>,
    stream: &Stream,
    guard: &ConnectionGuard,
    input: Input<'_>,
) -> Ended {
    let core = &shared.core;
    let local = core.current();
    let transport = Rc::new(Transport::new(shared, stream, input));
    stream.registration().arm(local.timeouts.client_header);
    let handshake = limits::builder(local.http2, &local.limits)
        .handshake::<_, Chunk>(Io(Rc::clone(&transport)));
    drop(local);
    let connection = {
        let mut handshake = pin!(handshake);
        loop {
            let polled = poll_fn(|context| {
                transport.begin_turn();
                if let Poll::Ready(shaken) = handshake.as_mut().poll(context) {
                    return Poll::Ready(Shaken::Over(shaken.ok()));
                }
                let is_lost = matches!(transport.poll_send(context), Poll::Ready(Err(_)));
                if is_lost || stream.registration().close_reason() != CloseReason::Open {
                    return Poll::Ready(Shaken::Over(None));
                }
                if transport.needs_turn() { Poll::Ready(Shaken::Turn) } else { Poll::Pending }
            });
            match polled.await {
                Shaken::Turn => core.reactor.turns.next().await,
                Shaken::Over(Some(connection)) => break connection,
                // A preface that does not come, or is another, is not worth an answer (RFC 9113
                // section 3.4).
                Shaken::Over(None) => return Ended::Left,
            }
        }
    };
    let mut driver = Driver {
        connection,
        shared,
        transport,
        stream,
        guard,
        steps: StepWatch::new(&core.open),
        waits: Waits::Settings,
        accepted: Vec::new(),
        is_stopping: false,
        is_going: false,
        has_served: false,
    };
    loop {
        match poll_fn(|context| driver.poll(context)).await {
            Step::Turn => core.reactor.turns.next().await,
            Step::Over(ended) => return ended,
        }
    }
}

/// Something that a connection's deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// The client's first frame.
    Settings,
    /// The rest of this field section.
    Fields(u64),
    /// The client, which takes nothing.
    Room,
    /// A stream.
    Stream,
    /// Streams, which have deadlines of their own.
    Nothing,
}

struct Driver<'d> {
    connection: Connection<Io<'d>, Chunk>,
    shared: &'d Rc<Shared>,
    transport: Rc<Transport<'d>>,
    stream: &'d Stream,
    guard: &'d ConnectionGuard,
    steps: StepWatch,
    waits: Waits,
    /// Streams of this turn, which begin at its end.
    accepted: Vec<(Message<RecvStream>, SendResponse<Chunk>)>,
    /// Set once the client was told that the process stops.
    is_stopping: bool,
    /// Set once the client was told that the connection ends now.
    is_going: bool,
    has_served: bool,
}

impl Driver<'_> {
    /// One turn: frames in, streams started, frames out, deadlines.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        self.shared.wake(context);
        self.steps.wake(context);
        self.transport.begin_turn();
        if self.shared.core.is_closing() && !self.is_stopping {
            self.is_stopping = true;
            // Twice (RFC 9113 section 6.8): requests that are on their way are served.
            self.connection.graceful_shutdown();
            self.count(Http2GoAway::Stop);
        }
        if let Poll::Ready(ended) = self.poll_frames(context) {
            return Poll::Ready(Step::Over(ended));
        }
        if let Some(offence) = self.transport.offence().filter(|_| !self.is_going) {
            let (reason, why) = match offence {
                Offence::Flood => (Reason::ENHANCE_YOUR_CALM, Http2GoAway::Flood),
                Offence::Push => (Reason::PROTOCOL_ERROR, Http2GoAway::Protocol),
            };
            self.go_away(reason, Some(why));
            if let Poll::Ready(ended) = self.poll_frames(context) {
                return Poll::Ready(Step::Over(ended));
            }
        }
        self.begin_streams(context);
        if let Poll::Ready(Err(_)) = self.transport.poll_send(context) {
            return Poll::Ready(Step::Over(Ended::Left));
        }
        let waits = self.awaited();
        match self.stream.registration().close_reason() {
            CloseReason::ClientGone => return Poll::Ready(Step::Over(Ended::Lost)),
            CloseReason::Deadline if self.is_going || waits == Waits::Room => {
                return Poll::Ready(Step::Over(Ended::Lost));
            }
            // Of what was waited for when it was set.
            CloseReason::Deadline if waits == self.waits => {
                self.time_is_over();
                // It has something to send now.
                return self.poll(context);
            }
            CloseReason::Deadline | CloseReason::Open => {}
        }
        if !self.is_going {
            self.set_deadline(waits);
        }
        if self.transport.needs_turn() { Poll::Ready(Step::Turn) } else { Poll::Pending }
    }

    /// Reads and writes frames, and takes in the streams that begin.
    fn poll_frames(&mut self, context: &mut Context<'_>) -> Poll<Ended> {
        loop {
            match self.connection.poll_accept(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(stream))) => self.accepted.push(stream),
                Poll::Ready(None) => return Poll::Ready(Ended::Told),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(self.failed(&error)),
            }
        }
    }

    fn failed(&self, error: &Error) -> Ended {
        if !error.is_go_away() || !error.is_library() {
            return if error.is_go_away() { Ended::Told } else { Ended::Left };
        }
        self.count(match error.reason() {
            Some(Reason::ENHANCE_YOUR_CALM) => Http2GoAway::Flood,
            _ => Http2GoAway::Protocol,
        });
        Ended::Told
    }

    fn count(&self, why: Http2GoAway) {
        self.shared.core.cells.http2.goaways(why).inc();
    }

    /// Tells the client that the connection ends now, with all of its streams.
    fn go_away(&mut self, reason: Reason, why: Option<Http2GoAway>) {
        if let Some(why) = why {
            self.count(why);
        }
        self.is_going = true;
        self.connection.abrupt_shutdown(reason);
        let client_write = self.shared.core.current().timeouts.client_write;
        self.stream.registration().arm(client_write);
    }

    /// Begins the streams of this turn. Everything that had arrived was read before, so nothing is
    /// done for a stream that was reset at once.
    fn begin_streams(&mut self, context: &mut Context<'_>) {
        for (message, mut respond) in self.accepted.drain(..) {
            self.has_served = true;
            if self.is_going || respond.poll_reset(context).is_ready() {
                self.shared.count_reset(Http2Reset::AtOnce);
            } else {
                stream::spawn(self.shared, message, respond);
            }
        }
    }

    /// The deadline has passed: tells the client that the connection ends.
    fn time_is_over(&mut self) {
        let (reason, why) = match self.waits {
            Waits::Stream if self.is_stopping => (Reason::NO_ERROR, None),
            Waits::Settings => (Reason::SETTINGS_TIMEOUT, Some(Http2GoAway::Timeout)),
            Waits::Fields(_) => (Reason::ENHANCE_YOUR_CALM, Some(Http2GoAway::Timeout)),
            Waits::Stream | Waits::Room | Waits::Nothing => {
                (Reason::NO_ERROR, Some(Http2GoAway::Idle))
            }
        };
        self.go_away(reason, why);
    }

    fn awaited(&self) -> Waits {
        if self.transport.is_blocked() {
            Waits::Room
        } else if !self.transport.has_settings() {
            Waits::Settings
        } else if let Some(section) = self.transport.open_section() {
            Waits::Fields(section)
        } else if self.shared.has_streams() {
            Waits::Nothing
        } else {
            Waits::Stream
        }
    }

    /// Sets the deadline for what is waited for now, unless it is set.
    fn set_deadline(&mut self, waits: Waits) {
        let registration = self.stream.registration();
        let is_idle = waits == Waits::Stream;
        registration.set_idle(is_idle);
        self.guard.set_state(if is_idle && self.has_served {
            ConnectionState::Idle
        } else {
            ConnectionState::Active
        });
        if std::mem::replace(&mut self.waits, waits) == waits {
            return;
        }
        let core = &self.shared.core;
        let timeouts = core.current().timeouts;
        match waits {
            // Set by the transport, at each step of progress.
            Waits::Room => {}
            Waits::Settings | Waits::Fields(_) => registration.arm(timeouts.client_header),
            Waits::Stream if core.is_closing() => {
                registration.arm(timeouts.client_idle.min(timeouts.drain_idle));
            }
            Waits::Stream => registration.arm(timeouts.client_idle),
            Waits::Nothing => {
                // One that has passed is forgotten.
                registration.arm(timeouts.client_idle);
                registration.disarm();
            }
        }
    }
}
