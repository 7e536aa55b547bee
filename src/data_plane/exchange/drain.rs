//! Reading and throwing away a request body, within its limit, so that it is never taken for the
//! next request (RFC 9112 section 9.3; CVE-2025-4366).

use crate::{
    data_plane::exchange::Exchange,
    model::Fault,
    protocol::http1::{BodyDrain, DrainError},
    system::watch::{Ended, Shut},
};

/// Where a body ended.
#[derive(Debug, Default)]
pub(crate) struct BodyEnd {
    /// Bytes of the body among those that had arrived with the head.
    pub(crate) consumed: usize,
    /// Bytes behind the body that were read with it: the start of the next request.
    pub(crate) surplus: Vec<u8>,
}

/// A body that is being read over.
#[derive(Debug)]
pub(crate) struct RequestBody {
    body: BodyDrain,
    /// Bytes of it among those that had arrived with the head.
    consumed: usize,
}

impl RequestBody {
    /// Reads over `rest`, which arrived behind the head.
    ///
    /// # Errors
    /// [`Fault::BodyTooLarge`] when what is declared is over the limit, [`Fault::BadRequest`] for
    /// malformed chunks.
    pub(crate) fn begin(exchange: &Exchange<'_>, rest: &[u8]) -> Result<Self, Fault> {
        let limit = exchange.local.limits.body_bytes;
        let mut body = BodyDrain::new(exchange.head.framing, limit).map_err(fault_of)?;
        let consumed = body.feed(rest).map_err(fault_of)?.consumed;
        Ok(Self { body, consumed })
    }

    /// Reads over what is left.
    ///
    /// # Errors
    /// As for [`RequestBody::begin`]; [`Fault::BadRequest`] for an early end too, and
    /// [`Fault::HeadTimeout`] when it does not arrive within the time for a head.
    pub(crate) async fn finish(mut self, exchange: &Exchange<'_>) -> Result<BodyEnd, Fault> {
        let mut end = BodyEnd { consumed: self.consumed, surplus: Vec::new() };
        if self.body.is_done() {
            return Ok(end);
        }
        read_rest(exchange, &mut self.body, &mut end).await?;
        Ok(end)
    }
}

async fn read_rest(
    exchange: &Exchange<'_>,
    body: &mut BodyDrain,
    end: &mut BodyEnd,
) -> Result<(), Fault> {
    let local = &exchange.local;
    let socket = exchange.socket;
    socket.watch().arm(local.timeouts.client_header, Shut::Neither);
    loop {
        socket.readable().await;
        let mut buffer = exchange.core.buffers.small();
        match socket.try_recv(&mut buffer) {
            Ok(Some(0)) | Err(_) => return Err(Fault::BadRequest),
            Ok(None) => {}
            Ok(Some(count)) => {
                let received = buffer.get(..count).unwrap_or_default();
                let fed = body.feed(received).map_err(fault_of)?;
                if fed.done {
                    end.surplus = received.get(fed.consumed..).unwrap_or_default().to_vec();
                    socket.watch().disarm();
                    return Ok(());
                }
            }
        }
        if socket.watch().ended() != Ended::No {
            return Err(Fault::HeadTimeout);
        }
    }
}

fn fault_of(error: DrainError) -> Fault {
    match error {
        DrainError::TooLarge => Fault::BodyTooLarge,
        DrainError::Malformed(_) => Fault::BadRequest,
    }
}
