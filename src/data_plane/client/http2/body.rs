//! Request bodies in HTTP/2: discarded within their limit.

use std::{
    future::poll_fn,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    data_plane::{
        client::http2::{lane::Lane, shared::Shared},
        exchange::client::RequestBody,
    },
    model::Fault,
    protocol::http1::{RequestFraming, RequestHead},
    system::substream::Substream,
};

/// The body of one request.
#[derive(Debug)]
pub(super) struct Body<'b> {
    shared: &'b Shared,
    lane: &'b Lane,
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
        shared: &'b Shared,
        lane: &'b Lane,
        substream: &'b Substream,
        (limit, timeout): (u64, Duration),
        head: &RequestHead,
    ) -> Self {
        let state = match head.framing {
            _ if head.expect_continue => State::LeftUnread,
            RequestFraming::Fixed(length) if length > limit => State::Refused(Fault::BodyTooLarge),
            _ => State::Arriving,
        };
        Self { shared, lane, substream, timeout, left: limit, state }
    }

    fn poll_discarded(&mut self, context: &Context<'_>) -> Poll<Result<(), Fault>> {
        let lane = self.lane;
        let arrived = lane.arrived.take();
        match self.left.checked_sub(arrived) {
            Some(left) => self.left = left,
            None => return Poll::Ready(Err(Fault::BodyTooLarge)),
        }
        if lane.has_received_all.get() {
            return Poll::Ready(Ok(()));
        }
        if lane.is_gone.get() {
            return Poll::Ready(Err(Fault::BadRequest));
        }
        if arrived > 0 {
            let arrived = u32::try_from(arrived).unwrap_or(u32::MAX);
            self.shared.wire.borrow_mut().release(lane, arrived);
            self.shared.wake();
        }
        lane.listen(context);
        self.substream.poll_over(context).map(|_| Err(Fault::HeadTimeout))
    }
}

impl RequestBody for Body<'_> {
    fn is_over(&self) -> bool {
        let is_over = || self.lane.has_received_all.get() && self.lane.arrived.get() == 0;
        self.state == State::LeftUnread || is_over()
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
