//! Request bodies in HTTP/2: discarded within their limit.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use h2::RecvStream;

use crate::{
    data_plane::exchange::client::RequestBody,
    model::Fault,
    protocol::http1::{RequestFraming, RequestHead},
    system::substream::Substream,
};

/// The body of one request.
#[derive(Debug)]
pub(super) struct Body<'b> {
    stream: RecvStream,
    substream: &'b Substream,
    /// Time in which it has to arrive.
    timeout: Duration,
    /// Bytes that may still come.
    left: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Arriving,
    /// A client that waits for 100 gets the final response instead, as in HTTP/1.
    LeftUnread,
    Refused(Fault),
}

impl<'b> Body<'b> {
    /// The body of a request of at most `limit` bytes.
    pub(super) fn new(
        stream: RecvStream,
        substream: &'b Substream,
        (limit, timeout): (u64, Duration),
        head: &RequestHead,
    ) -> Self {
        let state = match head.framing {
            _ if head.expect_continue => State::LeftUnread,
            RequestFraming::Fixed(length) if length > limit => State::Refused(Fault::BodyTooLarge),
            _ => State::Arriving,
        };
        Self { stream, substream, timeout, left: limit, state }
    }

    fn poll_discarded(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        loop {
            match self.stream.poll_data(context) {
                Poll::Ready(Some(Ok(data))) => {
                    let count = data.len();
                    // Fails only for more than has come.
                    let _ = self.stream.flow_control().release_capacity(count);
                    match self.left.checked_sub(count as u64) {
                        Some(left) => self.left = left,
                        None => return Poll::Ready(Err(Fault::BodyTooLarge)),
                    }
                }
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Err(Fault::BadRequest)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending => {
                    return self.substream.poll_over(context).map(|_| Err(Fault::HeadTimeout));
                }
            }
        }
    }
}

impl RequestBody for Body<'_> {
    fn is_over(&self) -> bool {
        self.state == State::LeftUnread || self.stream.is_end_stream()
    }

    async fn discard(&mut self) -> Result<(), Fault> {
        match self.state {
            State::LeftUnread => return Ok(()),
            State::Refused(fault) => return Err(fault),
            State::Arriving => {}
        }
        self.substream.arm(self.timeout);
        let discarded = poll_fn(|context| self.poll_discarded(context)).await;
        self.substream.disarm();
        if let Err(fault) = discarded {
            self.state = State::Refused(fault);
        }
        discarded
    }
}
