//! The body of a response of S3 as it arrives: frames of plain bytes, however the message is
//! framed. Knows nothing of whom the bytes are for.

use std::{cell::Cell, ops::Range, rc::Rc, time::Duration};

use crate::{
    data_plane::upstream::{
        connection::Connection,
        error::{Kind, Phase, UpstreamError},
    },
    protocol::http1::{BodyLength, ChunkedDecoder},
    system::{
        buffers::{Buffers, PooledBuffer, SMALL_BYTES},
        reactor::CloseReason,
    },
};

/// A body of at least so many bytes is large: the next one of its endpoint is expected to be worth
/// moving inside the kernel, so that little of it is read with the head.
pub(crate) const LARGE_BODY_BYTES_MIN: u64 = 49_152;

/// Bytes left of a body from which on splicing costs less than copying.
const SPLICED_BYTES_MIN: u64 = 32_768;

/// The rule for the end of the body (RFC 9112 section 6.3).
#[derive(Debug)]
enum Framing {
    Fixed(u64),
    Chunked(ChunkedDecoder),
    UntilClose,
}

/// The way that a large body takes to the client, on which depends how much of it is worth reading
/// with its head.
#[derive(Clone, Debug)]
pub(crate) enum Passage {
    /// It may pass this process without being copied.
    Spliced,
    /// It is copied, in the one buffer of the client's connection.
    Copied,
    /// It is copied, and others of the same connection may be held up with theirs.
    Shared(HeldUp),
}

/// Bodies of one connection of which a part was read that the client does not take yet.
///
/// The first of them may be long parts, because fewer reads cost less. A client that takes nothing
/// could make the proxy hold many of those, so the parts of others are short.
#[derive(Clone, Debug, Default)]
pub(crate) struct HeldUp(Rc<Cell<usize>>);

impl HeldUp {
    /// Parts that may be long.
    const LONG_MAX: usize = 16;

    /// Returns true if another part has to be short.
    pub(crate) fn are_many(&self) -> bool {
        self.0.get() >= Self::LONG_MAX
    }

    /// One more, for as long as this lives.
    pub(crate) fn one(&self) -> OneHeldUp<'_> {
        self.0.set(self.0.get() + 1);
        OneHeldUp(&self.0)
    }
}

/// One of the bodies that are held up.
#[derive(Debug)]
pub(crate) struct OneHeldUp<'h>(&'h Cell<usize>);

impl Drop for OneHeldUp<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// A body that is being read.
#[derive(Debug)]
pub(crate) struct Body<'c> {
    buffers: &'c Buffers,
    connection: Box<Connection>,
    /// Holds bytes that arrived and were not used; none while there are none.
    buffer: Option<PooledBuffer<'c>>,
    window: Range<usize>,
    framing: Framing,
    read_timeout: Duration,
    ended: bool,
}

/// A result of [`Body::buffered`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// Bytes of the body, by their place in the buffer. May be empty.
    Data(Range<usize>),
    /// Nothing more without waiting.
    Wait,
    /// The body is complete.
    End,
}

impl<'c> Body<'c> {
    /// A body whose first bytes are at `window` of `buffer`.
    pub(crate) fn new(
        buffers: &'c Buffers,
        connection: Box<Connection>,
        buffer: PooledBuffer<'c>,
        window: Range<usize>,
        length: BodyLength,
        read_timeout: Duration,
    ) -> Self {
        let framing = match length {
            BodyLength::None => Framing::Fixed(0),
            BodyLength::Fixed(length) => Framing::Fixed(length),
            BodyLength::Chunked => Framing::Chunked(ChunkedDecoder::new()),
            BodyLength::UntilClose => Framing::UntilClose,
        };
        Self {
            buffers,
            connection,
            buffer: Some(buffer),
            window,
            framing,
            read_timeout,
            ended: false,
        }
    }

    /// The bytes that a frame names.
    pub(crate) fn bytes(&self, frame: Range<usize>) -> &[u8] {
        self.buffer.as_ref().and_then(|buffer| buffer.get(frame)).unwrap_or_default()
    }

    /// The next frame among the bytes that have arrived.
    ///
    /// # Errors
    /// Malformed chunks.
    pub(crate) fn buffered(&mut self) -> Result<Frame, UpstreamError> {
        let available = self.window.len();
        if self.ended {
            return Ok(Frame::End);
        }
        match &mut self.framing {
            Framing::Fixed(0) => {
                self.ended = true;
                Ok(Frame::End)
            }
            _ if available == 0 => Ok(Frame::Wait),
            Framing::Fixed(left) => {
                let count = usize::try_from(*left).unwrap_or(usize::MAX).min(available);
                *left -= count as u64;
                Ok(Frame::Data(self.take(count)))
            }
            Framing::UntilClose => Ok(Frame::Data(self.take(available))),
            Framing::Chunked(decoder) => {
                let buffer = self.buffer.as_ref();
                let input = buffer.and_then(|b| b.get(self.window.clone())).unwrap_or_default();
                let step = decoder.step(input).map_err(|_| malformed())?;
                let start = self.window.start;
                self.window.start += step.consumed;
                if step.done {
                    self.ended = true;
                    return Ok(Frame::End);
                }
                if step.consumed == 0 && step.data.is_empty() {
                    return Ok(Frame::Wait);
                }
                Ok(Frame::Data(start + step.data.start..start + step.data.end))
            }
        }
    }

    fn take(&mut self, count: usize) -> Range<usize> {
        let frame = self.window.start..self.window.start + count;
        self.window.start += count;
        frame
    }

    /// Waits for more bytes, and takes at most `most` of them. The frames that were handed out must
    /// have been used.
    ///
    /// # Errors
    /// The upstream is silent for too long, fails, or ends the connection before the body's end.
    pub(crate) async fn wait(&mut self, most: usize) -> Result<(), UpstreamError> {
        self.wait_for_room(|| Some(most)).await.map(drop)
    }

    /// The same, with the bytes that there is room for when some have arrived. Returns false if
    /// there is none: then nothing was taken, and no buffer is held.
    ///
    /// The end of a body whose length is not known needs no room, and may be all that has arrived.
    /// So of such a body a little is taken in any case.
    ///
    /// # Errors
    /// Those of [`Body::wait`].
    pub(crate) async fn wait_for_room(
        &mut self,
        room: impl FnOnce() -> Option<usize>,
    ) -> Result<bool, UpstreamError> {
        self.release_buffer();
        let deadline = self.connection.stream().registration().deadline(self.read_timeout);
        let left = if let Framing::Fixed(left) = self.framing { left } else { 0 };
        self.connection.wait_for_body(left).await;
        let most = match room() {
            Some(most) => most,
            None if matches!(self.framing, Framing::Fixed(_)) && self.was_left_alone() => {
                return Ok(false);
            }
            None => SMALL_BYTES,
        };
        let buffers = self.buffers;
        let buffer = self.buffer.get_or_insert_with(|| {
            if most <= SMALL_BYTES { buffers.small() } else { buffers.large() }
        });
        if self.window.end == buffer.len() {
            buffer.copy_within(self.window.clone(), 0);
            self.window = 0..self.window.len();
        }
        let Some(room) = buffer.get_mut(self.window.end..).filter(|room| !room.is_empty()) else {
            return Err(malformed());
        };
        let most = most.min(room.len());
        let room = &mut room[..most];
        let received = self.connection.recv(room).await;
        drop(deadline);
        match received {
            Ok(0) if matches!(self.framing, Framing::UntilClose) && self.was_left_alone() => {
                self.framing = Framing::Fixed(0);
                Ok(true)
            }
            Ok(0) => Err(self.failure(Kind::Truncated)),
            Ok(count) => {
                self.window.end += count;
                Ok(true)
            }
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                Err(self.failure(Kind::Truncated))
            }
            Err(_) => Err(self.failure(Kind::Reset)),
        }
    }

    fn was_left_alone(&self) -> bool {
        self.connection.ended() == CloseReason::Open
    }

    /// A failure of the connection, from what ended it on this side if anything did.
    pub(crate) fn failure(&self, otherwise: Kind) -> UpstreamError {
        let connection = &self.connection;
        UpstreamError::ended(connection.ended(), otherwise, Phase::Body)
            .of(connection.address().socket_address(), connection.is_reused())
    }

    /// Bytes that may be spliced past this value: all that is left of a body of known length, when
    /// it is large, none of it has arrived here and the socket carries it in plain.
    pub(crate) fn left_to_splice(&self) -> Option<u64> {
        match self.framing {
            Framing::Fixed(left)
                if self.window.is_empty() && self.connection.stream().splice_fd().is_some() =>
            {
                (left >= SPLICED_BYTES_MIN).then_some(left)
            }
            _ => None,
        }
    }

    /// Gives the buffer back where nothing in it is to be kept: none is held while waiting.
    pub(crate) fn release_buffer(&mut self) {
        if self.window.is_empty() {
            self.window = 0..0;
            self.buffer = None;
        }
    }

    /// Notes that bytes were spliced.
    pub(crate) fn spliced(&mut self, count: u64) {
        if let Framing::Fixed(left) = &mut self.framing {
            *left = left.saturating_sub(count);
        }
    }

    /// Longest time without a byte.
    pub(crate) fn read_timeout(&self) -> Duration {
        self.read_timeout
    }

    /// The connection that it comes on, for splicing.
    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The connection, if it may serve another request: the body has ended, its end was certain and
    /// nothing came behind it.
    pub(crate) fn into_connection(self) -> Option<Box<Connection>> {
        let clean = self.ended
            && self.was_left_alone()
            && self.window.is_empty()
            && !self.connection.has_leftover();
        clean.then_some(self.connection)
    }
}

fn malformed() -> UpstreamError {
    UpstreamError::new(Kind::Malformed, Phase::Body)
}
