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

/// Reads the body to its end. `rest` is what arrived behind the head.
///
/// # Errors
/// [`Fault::BodyTooLarge`] over the limit, [`Fault::BadRequest`] for malformed chunks or an early
/// end, [`Fault::HeadTimeout`] when it does not arrive within the time for a head.
pub(crate) async fn drain(exchange: &Exchange<'_>, rest: &[u8]) -> Result<BodyEnd, Fault> {
    let local = &exchange.local;
    let mut body =
        BodyDrain::new(exchange.head.framing, local.limits.body_bytes).map_err(fault_of)?;
    let fed = body.feed(rest).map_err(fault_of)?;
    let mut end = BodyEnd { consumed: fed.consumed, surplus: Vec::new() };
    if fed.done {
        return Ok(end);
    }
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
                    return Ok(end);
                }
            }
        }
        if socket.watch().ended() == Ended::Deadline {
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
