//! The bytes of one connection, as `h2` reads and writes them: an adapter of our streams, which are
//! used by readiness, to the traits of tokio.
//!
//! `h2` flushes after nearly every frame. Here frames come together until there are enough of them,
//! or until the task of the connection has nothing more to add, so that the streams of a connection
//! share sends and TLS records. Whatever a flush says, the bytes that wait are bounded.
//!
//! What the client sends is looked at before `h2` gets it: its frames are charged to the
//! connection's budget, and a client that always has more to say gives others their turn.

use std::{
    cell::RefCell,
    io::{self, IoSlice},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::{
    data_plane::client::{http2::shared::Shared, input::Input},
    protocol::http2::{FrameKind, FrameScan},
    system::{buffers::RecordBuffer, stream::Stream},
};

/// Bytes that are read before others get their turn. The frames in them are a few thousand at most,
/// a tenth of a millisecond of work.
const TURN_READ_BYTES: usize = 65_536;

/// The bytes of one connection. Never borrowed across a wait.
#[derive(Debug)]
pub(super) struct Transport<'t> {
    shared: &'t Shared,
    stream: &'t Stream,
    incoming: RefCell<Incoming<'t>>,
    outgoing: RefCell<Outgoing>,
}

#[derive(Debug)]
struct Incoming<'t> {
    /// Bytes that have arrived and `h2` has not taken.
    input: Input<'t>,
    scan: FrameScan,
    /// Bytes that may still be read in this turn.
    this_turn: usize,
    /// Set if there is more to be read, in the next turn.
    is_cut_short: bool,
    /// Set once the client has sent something that it may not: nothing more is read.
    offence: Option<Offence>,
}

/// Something that a client may not send and that `h2` lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offence {
    /// More frames or resets than it has use for.
    Flood,
    /// A promise to push (RFC 9113 section 8.4).
    Push,
}

/// Frames that wait to be sent. No buffer is held while there are none.
#[derive(Debug, Default)]
struct Outgoing {
    buffer: Option<RecordBuffer>,
    start: usize,
    end: usize,
    /// Set if the socket has not taken all.
    is_blocked: bool,
}

impl<'t> Transport<'t> {
    /// The bytes of a connection of which some may have arrived.
    pub(super) fn new(shared: &'t Shared, stream: &'t Stream, input: Input<'t>) -> Self {
        let incoming = Incoming {
            input,
            scan: FrameScan::default(),
            this_turn: TURN_READ_BYTES,
            is_cut_short: false,
            offence: None,
        };
        let (incoming, outgoing) = (RefCell::new(incoming), RefCell::default());
        Self { shared, stream, incoming, outgoing }
    }

    /// Begins a turn of the connection's task.
    pub(super) fn begin_turn(&self) {
        let mut incoming = self.incoming.borrow_mut();
        incoming.this_turn = TURN_READ_BYTES;
        incoming.is_cut_short = false;
    }

    /// Returns true if more is to be read after others have had their turn.
    pub(super) fn needs_turn(&self) -> bool {
        self.incoming.borrow().is_cut_short
    }

    /// Something that the client sent although it may not, if it did.
    pub(super) fn offence(&self) -> Option<Offence> {
        self.incoming.borrow().offence
    }

    /// Number of the field section that the client has started and not completed.
    pub(super) fn open_section(&self) -> Option<u64> {
        self.incoming.borrow().scan.open_section()
    }

    /// Returns true once the client has sent its first settings.
    pub(super) fn has_settings(&self) -> bool {
        self.incoming.borrow().scan.has_settings()
    }

    /// Returns true if the socket has not taken all that was to be sent.
    pub(super) fn is_blocked(&self) -> bool {
        self.outgoing.borrow().is_blocked
    }

    /// Sends all that waits. Ready when it is sent, with the socket's error if there is one.
    pub(super) fn poll_send(&self, context: &Context<'_>) -> Poll<io::Result<()>> {
        let mut outgoing = self.outgoing.borrow_mut();
        loop {
            if self.send(&mut outgoing)? {
                return Poll::Ready(Ok(()));
            }
            ready!(self.stream.poll_writable(context));
        }
    }

    /// Sends what the socket takes of what waits; whether that was all.
    fn send(&self, outgoing: &mut Outgoing) -> io::Result<bool> {
        let mut taken = 0;
        let is_all = loop {
            let waiting = outgoing.waiting();
            if waiting.is_empty() {
                break self.stream.try_flush()?;
            }
            match self.stream.try_write(waiting, &[])? {
                Some(count) => {
                    taken += count;
                    outgoing.sent(count);
                }
                None => break false,
            }
        };
        if taken > 0 {
            self.shared.budget.borrow_mut().sent(taken);
        }
        // Each step of progress has its own time.
        if !is_all && (taken > 0 || !outgoing.is_blocked) {
            let client_write = self.shared.core.current().timeouts.client_write;
            self.stream.registration().arm_sending(client_write);
        }
        outgoing.is_blocked = !is_all;
        Ok(is_all)
    }

    fn poll_read(&self, context: &Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let incoming = &mut *self.incoming.borrow_mut();
        if incoming.offence.is_some() {
            // The task of the connection sees it, and says so to the client.
            return Poll::Pending;
        }
        if incoming.input.is_empty() {
            if incoming.this_turn == 0 {
                incoming.is_cut_short = true;
                return Poll::Pending;
            }
            ready!(self.stream.poll_readable(context));
            match incoming.input.try_fill(&self.shared.core, self.stream)? {
                Some(0) => return Poll::Ready(Ok(())),
                Some(count) => incoming.this_turn = incoming.this_turn.saturating_sub(count),
                None => {
                    // Records without data, which a peer can send for ever: others first.
                    incoming.is_cut_short = self.stream.poll_readable(context).is_ready();
                    return Poll::Pending;
                }
            }
        }
        let arrived = incoming.input.bytes();
        let count = arrived.len().min(into.remaining());
        let taken = arrived.get(..count).unwrap_or_default();
        let now = self.shared.core.reactor.clock.coarse();
        let mut budget = self.shared.budget.borrow_mut();
        let offence = &mut incoming.offence;
        incoming.scan.advance(taken, |frame| {
            if frame.kind == FrameKind::PushPromise {
                *offence = Some(Offence::Push);
            } else if budget.take(frame, now).is_err() {
                *offence = Some(Offence::Flood);
            }
        });
        into.put_slice(taken);
        incoming.input.consume(count);
        Poll::Ready(Ok(()))
    }

    fn poll_write(&self, context: &Context<'_>, from: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut outgoing = self.outgoing.borrow_mut();
        while outgoing.make_room(self.shared) == 0 {
            let is_all = self.send(&mut outgoing)?;
            if !is_all && outgoing.make_room(self.shared) == 0 {
                ready!(self.stream.poll_writable(context));
            }
        }
        Poll::Ready(Ok(outgoing.append(from)))
    }
}

impl Outgoing {
    fn waiting(&self) -> &[u8] {
        self.buffer.as_ref().and_then(|buffer| buffer.get(self.start..self.end)).unwrap_or_default()
    }

    fn sent(&mut self, count: usize) {
        self.start += count;
        if self.start >= self.end {
            *self = Self { is_blocked: self.is_blocked, ..Self::default() };
        }
    }

    /// Makes room for more behind what waits, and returns how many bytes fit.
    fn make_room(&mut self, shared: &Shared) -> usize {
        let buffer = self.buffer.get_or_insert_with(|| shared.core.buffers.records());
        if self.end == buffer.len() && self.start > 0 {
            buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        buffer.len() - self.end
    }

    /// Appends what fits, of slices as if they were one, and returns how much that was.
    fn append(&mut self, from: &[IoSlice<'_>]) -> usize {
        let Some(buffer) = &mut self.buffer else { return 0 };
        let mut taken = 0;
        for slice in from {
            let room = buffer.get_mut(self.end..).unwrap_or_default();
            let count = room.len().min(slice.len());
            if let (Some(room), Some(bytes)) = (room.get_mut(..count), slice.get(..count)) {
                room.copy_from_slice(bytes);
            }
            self.end += count;
            taken += count;
        }
        taken
    }
}

/// A connection's bytes in the hands of `h2`.
#[derive(Debug)]
pub(super) struct Io<'t>(pub(super) Rc<Transport<'t>>);

impl AsyncRead for Io<'_> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.0.poll_read(context, into)
    }
}

impl AsyncWrite for Io<'_> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(context, &[IoSlice::new(from)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.0.poll_write(context, from)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// The task of the connection sends when `h2` has nothing more to add.
    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.poll_send(context)
    }
}
