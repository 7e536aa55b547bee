//! One connection: its frames in and out, its streams, its deadlines, and the way it ends.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use crate::{
    data_plane::{
        client::{
            http2::{
                budget::Budget,
                deadlines::{Deadlines, Waits},
                limits::{BACKLOG_BYTES_MAX, FRAME_BYTES_MAX, head_bytes_max},
                receive::{LAST_PING, Offence, OpenSection, Receiver},
                shared::Shared,
                stream,
                wire::Wire,
            },
            input::Input,
            linger::linger,
        },
        core::{
            Core,
            open::{ConnectionGuard, StepWatch},
        },
    },
    protocol::http2::{Code, FRAME_HEAD_BYTES, FrameHead, FrameKind, PREFACE},
    system::{
        clock::Monotonic,
        reactor::{CloseReason, TICK},
        stream::Stream,
    },
    telemetry::{
        cells::Gauge,
        labels::{ConnectionState, Http2GoAway, Http2Reset},
    },
};

/// Bytes that are read before others get their turn. The frames in them are a few thousand at most,
/// a tenth of a millisecond of work.
const TURN_READ_BYTES: usize = 65_536;

/// The highest number of a stream, which says that all are still served (RFC 9113 section 6.8).
const LAST_STREAM: u32 = (1 << 31) - 1;

/// Settings that a client is told (RFC 9113 section 6.5.2).
const MAX_CONCURRENT_STREAMS: u16 = 3;
const MAX_HEADER_LIST_SIZE: u16 = 6;

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
    let client = (peer, stream.registration().presence(false));
    let shared = Rc::new(Shared::new(core, guard.role(), client, tls, budget));
    let streams = Streams(&shared);
    let ended = drive(&shared, &stream, guard, input).await;
    drop(streams);
    match ended {
        Ended::Told => linger(core, &stream).await,
        Ended::Lost => stream.set_abortive(true),
        Ended::Left => stream.say_end(),
    }
    drop(stream);
    // They have heard of it, and may still have something to finish.
    shared.tasks_over().await;
}

/// Tells a client that none of its streams will be served, with one attempt to send.
pub(in crate::data_plane::client) fn refuse(core: &Core, stream: &Stream) {
    let mut wire = Wire::new(&core.buffers);
    wire.settings(&[]);
    wire.go_away(0, Code::NO_ERROR);
    let _ = stream.try_write(wire.output.waiting(), &[]);
}

/// The streams of a connection, which end with this, be it by a panic.
struct Streams<'s>(&'s Shared);

impl Drop for Streams<'_> {
    fn drop(&mut self) {
        self.0.wire.borrow_mut().end_all();
    }
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

/// Reason why nothing more is read.
enum Halt {
    /// The client closed the connection, or it failed, or it does not speak HTTP/2.
    Ended,
    Offence(Offence),
}

async fn drive(
    shared: &Rc<Shared>,
    stream: &Stream,
    guard: &ConnectionGuard,
    input: Input<'_>,
) -> Ended {
    let core = &shared.core;
    let local = core.current();
    stream.registration().arm(local.timeouts.client_header);
    let head_bytes = u32::try_from(head_bytes_max(&local.limits)).unwrap_or(u32::MAX);
    let streams_max = local.http2.max_concurrent_streams;
    shared
        .wire
        .borrow_mut()
        .settings(&[(MAX_CONCURRENT_STREAMS, streams_max), (MAX_HEADER_LIST_SIZE, head_bytes)]);
    drop(local);
    let mut driver = Driver {
        shared,
        stream,
        guard,
        input,
        receiver: Receiver::new(streams_max),
        steps: StepWatch::new(&core.open),
        deadlines: Deadlines::default(),
        armed: (Waits::Preface, None),
        this_turn: 0,
        has_preface: false,
        is_cut_short: false,
        is_held: false,
        is_blocked: false,
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

#[expect(clippy::struct_excessive_bools, reason = "independent properties of a connection")]
struct Driver<'d> {
    shared: &'d Rc<Shared>,
    stream: &'d Stream,
    guard: &'d ConnectionGuard,
    /// Bytes that have arrived and are no whole frame yet.
    input: Input<'d>,
    receiver: Receiver,
    steps: StepWatch,
    deadlines: Deadlines,
    /// Wait that the socket's deadline is for, and its end.
    armed: (Waits, Option<Monotonic>),
    /// Bytes that may still be read in this turn.
    this_turn: usize,
    has_preface: bool,
    /// Set if there is more to be read, in the next turn.
    is_cut_short: bool,
    /// Set if nothing is read until the socket has taken something.
    is_held: bool,
    /// Set if the socket has not taken all.
    is_blocked: bool,
    /// Set once the client was told that the process stops.
    is_stopping: bool,
    /// Set once the client was told that the connection ends now.
    is_going: bool,
    has_served: bool,
}

impl Driver<'_> {
    /// One turn: frames in, streams started, frames out, deadlines.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Step> {
        self.shared.listen(context);
        self.steps.wake(context);
        self.this_turn = TURN_READ_BYTES;
        self.is_cut_short = false;
        if self.shared.core.is_closing() && !self.is_stopping && !self.is_going {
            self.is_stopping = true;
            self.receiver.ask();
            let drain_idle = self.shared.core.current().timeouts.drain_idle;
            self.deadlines.stop(self.shared.core.reactor.clock.coarse(), drain_idle);
            // Twice (RFC 9113 section 6.8): requests that are on their way are served.
            let mut wire = self.shared.wire.borrow_mut();
            wire.go_away(LAST_STREAM, Code::NO_ERROR);
            wire.frame(FrameKind::Ping, 0, 0, &LAST_PING);
            drop(wire);
            self.count(Http2GoAway::Stop);
        }
        match self.read(context) {
            Ok(()) => {}
            Err(Halt::Ended) => return Poll::Ready(Step::Over(Ended::Left)),
            Err(Halt::Offence(offence)) => {
                let (code, why) = match offence {
                    Offence::Flood => (Code::ENHANCE_YOUR_CALM, Http2GoAway::Flood),
                    Offence::Error(code) => (code, Http2GoAway::Protocol),
                };
                self.go_away(code, Some(why));
            }
        }
        let now = self.shared.core.reactor.clock.coarse();
        // What had arrived by then was read.
        if self.receiver.is_to_be_told(self.deadlines.is_stopped(now)) && !self.is_going {
            let mut wire = self.shared.wire.borrow_mut();
            let newest = wire.newest();
            wire.go_away(newest, Code::NO_ERROR);
            self.receiver.end_after(newest);
        }
        self.begin_streams();
        match self.poll_send(context) {
            Poll::Ready(Err(_)) => return Poll::Ready(Step::Over(Ended::Left)),
            Poll::Ready(Ok(())) if self.is_over() => {
                return Poll::Ready(Step::Over(Ended::Told));
            }
            Poll::Ready(Ok(())) => self.is_cut_short |= self.is_held,
            Poll::Pending => {}
        }
        let (waits, until) = self.awaited(now);
        match self.stream.registration().close_reason() {
            CloseReason::ClientGone => return Poll::Ready(Step::Over(Ended::Lost)),
            CloseReason::Deadline if self.is_going || self.is_blocked => {
                return Poll::Ready(Step::Over(Ended::Lost));
            }
            CloseReason::Deadline | CloseReason::Open => {}
        }
        if !self.is_going {
            // By the clock: what comes and goes may set the socket's deadline again and again.
            if until.is_some_and(|until| until <= now) && self.is_free_to_end(waits) {
                // A preface that does not come is not worth an answer (RFC 9113 section 3.4).
                if waits == Waits::Preface {
                    return Poll::Ready(Step::Over(Ended::Left));
                }
                self.time_is_over(waits);
                // It has something to send now.
                return self.poll(context);
            }
            let waits = if self.is_blocked { (Waits::Room, None) } else { (waits, until) };
            self.set_deadline(now, waits);
        }
        if self.is_cut_short { Poll::Ready(Step::Turn) } else { Poll::Pending }
    }

    /// Reads what has arrived, and takes in the frames.
    fn read(&mut self, context: &Context<'_>) -> Result<(), Halt> {
        while !self.is_going {
            loop {
                // What follows is looked at when the socket has taken something.
                self.is_held = self.shared.wire.borrow().output.len() > BACKLOG_BYTES_MAX;
                if self.is_held {
                    return Ok(());
                }
                if !self.next_frame()? {
                    break;
                }
            }
            if self.this_turn == 0 {
                self.is_cut_short = true;
                break;
            }
            if self.stream.poll_readable(context).is_pending() {
                break;
            }
            match self.input.try_fill(&self.shared.core, self.stream) {
                Err(_) | Ok(Some(0)) => return Err(Halt::Ended),
                Ok(Some(count)) => self.this_turn = self.this_turn.saturating_sub(count),
                Ok(None) => {
                    // Records without data, which a peer can send for ever: others first.
                    self.is_cut_short = self.stream.poll_readable(context).is_ready();
                    break;
                }
            }
        }
        Ok(())
    }

    /// Takes in one frame, if it has arrived as a whole.
    fn next_frame(&mut self) -> Result<bool, Halt> {
        let bytes = self.input.bytes();
        if !self.has_preface {
            self.has_preface = bytes.starts_with(PREFACE);
            if self.has_preface {
                self.input.consume(PREFACE.len());
            } else if !PREFACE.starts_with(bytes) {
                return Err(Halt::Ended);
            }
            return Ok(self.has_preface);
        }
        let Some(head) = FrameHead::read(bytes) else { return Ok(false) };
        let length = usize::try_from(head.length).unwrap_or(usize::MAX);
        if length > FRAME_BYTES_MAX {
            return Err(Halt::Offence(Offence::Error(Code::FRAME_SIZE_ERROR)));
        }
        let end = FRAME_HEAD_BYTES + length;
        let Some(payload) = bytes.get(FRAME_HEAD_BYTES..end) else { return Ok(false) };
        let now = self.shared.core.reactor.clock.coarse();
        // Padding is worth nothing.
        let length = match head.content(payload) {
            Ok(content) if head.kind == FrameKind::Data => {
                u32::try_from(content.len()).unwrap_or(u32::MAX)
            }
            _ => head.length,
        };
        let charged = self.shared.budget.borrow_mut().take(FrameHead { length, ..head }, now);
        charged.map_err(|_| Halt::Offence(Offence::Flood))?;
        self.receiver.frame(self.shared, head, payload).map_err(Halt::Offence)?;
        self.input.consume(end);
        Ok(true)
    }

    /// Sends all that waits. Ready when it is sent, with the socket's error if there is one.
    fn poll_send(&mut self, context: &Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if self.send()? {
                return Poll::Ready(Ok(()));
            }
            ready!(self.stream.poll_writable(context));
        }
    }

    /// Sends what the socket takes of what waits; whether that was all.
    fn send(&mut self) -> io::Result<bool> {
        let mut wire = self.shared.wire.borrow_mut();
        let mut taken = 0;
        let is_all = loop {
            let waiting = wire.output.waiting();
            if waiting.is_empty() {
                break self.stream.try_flush()?;
            }
            match self.stream.try_write(waiting, &[])? {
                Some(count) => {
                    taken += count;
                    wire.output.sent(count);
                }
                None => break false,
            }
        };
        if taken > 0 {
            self.shared.budget.borrow_mut().sent(taken);
        }
        let moved = wire.note_encrypted(self.stream.unsent_bytes()) || taken > 0;
        if moved {
            wire.progressed();
        }
        // Each step of progress has its own time.
        if !is_all && (moved || !self.is_blocked) {
            let client_write = self.shared.core.current().timeouts.client_write;
            self.stream.registration().arm_sending(client_write);
            // The deadline is this one's, even if the rest is sent before it is looked at again.
            self.armed = (Waits::Room, None);
        }
        self.is_blocked = !is_all;
        Ok(is_all)
    }

    /// Returns true if nothing more is to be done once everything is sent.
    fn is_over(&self) -> bool {
        let is_last = || self.receiver.is_last() && self.shared.wire.borrow().open_streams() == 0;
        self.is_going || is_last()
    }

    fn count(&self, why: Http2GoAway) {
        self.shared.core.cells.http2.goaways(why).inc();
    }

    /// Tells the client that the connection ends now, with all of its streams.
    fn go_away(&mut self, code: Code, why: Option<Http2GoAway>) {
        if let Some(why) = why {
            self.count(why);
        }
        self.is_going = true;
        let mut wire = self.shared.wire.borrow_mut();
        let newest = wire.newest();
        wire.go_away(newest, code);
        wire.end_all();
        let client_write = self.shared.core.current().timeouts.client_write;
        self.stream.registration().arm(client_write);
    }

    /// Begins the streams of this turn. Everything that had arrived was read before, so nothing is
    /// done for a stream that was reset at once. One for which the process has no room may be sent
    /// again (RFC 9113 section 8.7), and is no error of the client. The frames that it may send
    /// bound those.
    fn begin_streams(&mut self) {
        for arrived in self.receiver.take_accepted() {
            self.has_served = true;
            if arrived.lane.is_gone.get() {
                self.shared.count_reset(Http2Reset::AtOnce);
            } else if self.shared.core.http2_streams() >= self.shared.core.max_connections {
                self.shared.count_reset(Http2Reset::Limit);
                self.shared.wire.borrow_mut().reset(arrived.lane.id, Code::REFUSED_STREAM);
            } else {
                stream::spawn(self.shared, arrived);
            }
        }
    }

    /// The deadline has passed: tells the client that the connection ends.
    fn time_is_over(&mut self, waits: Waits) {
        let (code, why) = match waits {
            Waits::Stream if self.is_stopping => (Code::NO_ERROR, None),
            Waits::Preface | Waits::Settings => {
                (Code::SETTINGS_TIMEOUT, Some(Http2GoAway::Timeout))
            }
            Waits::Fields(_) => (Code::ENHANCE_YOUR_CALM, Some(Http2GoAway::Timeout)),
            Waits::Stream | Waits::Room | Waits::Last | Waits::Nothing => {
                (Code::NO_ERROR, Some(Http2GoAway::Idle))
            }
        };
        self.go_away(code, why);
    }

    /// Something that the client has begun and not completed, or not begun although it has to.
    fn begun(&self) -> Option<Waits> {
        if !self.has_preface {
            Some(Waits::Preface)
        } else if !self.receiver.has_settings() {
            Some(Waits::Settings)
        } else {
            self.open_section().map(|section| Waits::Fields(section.frame))
        }
    }

    fn open_section(&self) -> Option<OpenSection> {
        self.receiver.open_section(self.input.bytes())
    }

    /// Notes what has begun and ended, and returns what is waited for, and until when.
    fn awaited(&mut self, now: Monotonic) -> (Waits, Option<Monotonic>) {
        let is_idle = self.receiver.has_settings() && self.shared.tasks() == 0;
        let begun = self.begun();
        let timeouts = self.shared.core.current().timeouts;
        self.deadlines.note(now, begun, is_idle, &timeouts);
        let is_request = self.open_section().is_some_and(|section| !section.is_guess);
        self.deadlines.first(is_request, self.receiver.is_last())
    }

    /// Returns true if nothing stands in the way of the end when this is over.
    fn is_free_to_end(&self, waits: Waits) -> bool {
        match waits {
            // The last response may not be sent yet.
            Waits::Stream => !self.is_blocked,
            // The rest may have arrived, and was not read.
            _ => !self.is_held && !self.is_cut_short,
        }
    }

    /// Sets the deadline for what is waited for now, unless it is set.
    fn set_deadline(&mut self, now: Monotonic, waits: (Waits, Option<Monotonic>)) {
        let is_idle = matches!(waits.0, Waits::Stream | Waits::Last) && self.shared.tasks() == 0;
        self.guard.set_state(if is_idle && self.has_served {
            ConnectionState::Idle
        } else {
            ConnectionState::Active
        });
        if std::mem::replace(&mut self.armed, waits) == waits {
            return;
        }
        let registration = self.stream.registration();
        match waits {
            // Set by the transport, at each step of progress.
            (Waits::Room, _) => {}
            // A tick is added to it again.
            (_, Some(until)) => {
                let left = Duration::from_nanos(until.since(now));
                registration.arm(left.saturating_sub(TICK));
            }
            (_, None) => {
                // One that has passed is forgotten.
                registration.arm(self.shared.core.current().timeouts.client_idle);
                registration.disarm();
            }
        }
    }
}
