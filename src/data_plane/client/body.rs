//! Request bodies in HTTP/1: discarded within their limit, so that they are never taken for the
//! next request (RFC 9112 section 9.3; CVE-2025-4366).

use std::time::Duration;

use crate::{
    data_plane::{core::Core, exchange::client::RequestBody},
    model::Fault,
    protocol::http1::{BodyDiscard, DiscardError, RequestFraming, RequestHead},
    system::{reactor::CloseReason, stream::Stream},
};

/// The body of one request.
#[derive(Debug)]
pub(super) struct Body<'b> {
    core: &'b Core,
    stream: &'b Stream,
    /// Time in which it has to arrive.
    timeout: Duration,
    state: State,
    /// Bytes of it among those that had arrived with the head.
    consumed: usize,
    /// Bytes behind it that were read with it: the start of the next request.
    surplus: Vec<u8>,
}

#[derive(Debug)]
enum State {
    /// Nothing is left of it.
    Over,
    Arriving(BodyDiscard),
    /// A client that waits for 100 (RFC 9110 section 10.1.1) gets the final response instead, and
    /// its body, which it may or may not send now, ends with the connection.
    LeftUnread,
    Refused(Fault),
}

impl<'b> Body<'b> {
    /// The body of a request of at most `limit` bytes, of which `rest` arrived behind the head.
    pub(super) fn begin(
        core: &'b Core,
        stream: &'b Stream,
        (limit, timeout): (u64, Duration),
        head: &RequestHead,
        rest: &[u8],
    ) -> Self {
        let mut body =
            Self { core, stream, timeout, state: State::Over, consumed: 0, surplus: Vec::new() };
        if head.framing == RequestFraming::None {
            return body;
        }
        body.state = if head.expect_continue {
            State::LeftUnread
        } else {
            match BodyDiscard::new(head.framing, limit).and_then(|mut discard| {
                body.consumed = discard.feed(rest)?.consumed;
                Ok(discard)
            }) {
                Ok(discard) if discard.is_done() => State::Over,
                Ok(discard) => State::Arriving(discard),
                Err(error) => State::Refused(fault_of(error)),
            }
        };
        body
    }

    /// True if it is known already that the connection ends with the response.
    pub(super) fn ends_connection(&self) -> bool {
        matches!(self.state, State::LeftUnread | State::Refused(_))
    }

    /// True if there was none, or all of it was read.
    pub(super) fn is_read(&self) -> bool {
        matches!(self.state, State::Over)
    }

    /// Bytes of it among those that had arrived with the head.
    pub(super) fn consumed(&self) -> usize {
        self.consumed
    }

    /// Bytes behind it that were read with it.
    pub(super) fn surplus(&self) -> &[u8] {
        &self.surplus
    }
}

impl RequestBody for Body<'_> {
    fn is_over(&self) -> bool {
        matches!(self.state, State::Over | State::LeftUnread)
    }

    async fn discard(&mut self) -> Result<(), Fault> {
        let discard = match &mut self.state {
            State::Over | State::LeftUnread => return Ok(()),
            State::Refused(fault) => return Err(*fault),
            State::Arriving(discard) => discard,
        };
        let _deadline = self.stream.registration().deadline(self.timeout);
        let read = read_rest(self.core, self.stream, discard).await;
        self.state = match &read {
            Ok(_) => State::Over,
            Err(fault) => State::Refused(*fault),
        };
        self.surplus = read?;
        Ok(())
    }
}

/// Discards what is left, and returns what came behind it.
async fn read_rest(
    core: &Core,
    stream: &Stream,
    discard: &mut BodyDiscard,
) -> Result<Vec<u8>, Fault> {
    loop {
        stream.readable().await;
        let mut buffer = core.buffers.small();
        match stream.try_read(&mut buffer) {
            Ok(Some(0)) | Err(_) => return Err(Fault::BadRequest),
            Ok(None) => {}
            Ok(Some(count)) => {
                let received = buffer.get(..count).unwrap_or_default();
                let fed = discard.feed(received).map_err(fault_of)?;
                if fed.done {
                    return Ok(received.get(fed.consumed..).unwrap_or_default().to_vec());
                }
            }
        }
        if stream.registration().close_reason() != CloseReason::Open {
            return Err(Fault::HeadTimeout);
        }
    }
}

fn fault_of(error: DiscardError) -> Fault {
    match error {
        DiscardError::TooLarge => Fault::BodyTooLarge,
        DiscardError::Malformed(_) => Fault::BadRequest,
    }
}
