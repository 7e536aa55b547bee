//! Reading and throwing away a request body, within its limit, so that it is never taken for the
//! next request (RFC 9112 section 9.3; CVE-2025-4366).

use crate::{
    data_plane::exchange::Exchange,
    model::Fault,
    protocol::http1::{chunked::ChunkedDecoder, request::RequestFraming},
    system::watch::{Ended, Shut},
};

/// Where a body ended.
#[derive(Debug, Default)]
pub(crate) struct Drained {
    /// Bytes of the body among those that had arrived with the head.
    pub(crate) consumed: usize,
    /// Bytes behind the body that were read with it: the start of the next request.
    pub(crate) surplus: Vec<u8>,
}

/// Reads the body to its end. `rest` is what arrived behind the head.
///
/// # Errors
/// [`Fault::BodyTooLarge`] over the limit, [`Fault::BadRequest`] for malformed chunks,
/// [`Fault::HeadTimeout`] when it does not arrive within the time for a head.
pub(crate) async fn drain(exchange: &Exchange<'_>, rest: &[u8]) -> Result<Drained, Fault> {
    let limit = exchange.local.limits.body_bytes;
    exchange.socket.watch().arm(exchange.local.timeouts.client_header, Shut::Read);
    let drained = match exchange.head.framing {
        RequestFraming::None => Ok(Drained::default()),
        RequestFraming::Fixed(length) if length > limit => Err(Fault::BodyTooLarge),
        RequestFraming::Fixed(length) => fixed(exchange, rest, length).await,
        RequestFraming::Chunked => chunked(exchange, rest, limit).await,
    };
    exchange.socket.watch().disarm();
    drained
}

async fn fixed(exchange: &Exchange<'_>, rest: &[u8], length: u64) -> Result<Drained, Fault> {
    let here = usize::try_from(length).unwrap_or(usize::MAX).min(rest.len());
    let mut left = length - here as u64;
    while left > 0 {
        let mut buffer = exchange.core.buffers.small();
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        left -= receive(exchange, &mut buffer[..most]).await? as u64;
    }
    Ok(Drained { consumed: here, surplus: Vec::new() })
}

async fn chunked(exchange: &Exchange<'_>, rest: &[u8], limit: u64) -> Result<Drained, Fault> {
    let mut body = Chunks { decoder: ChunkedDecoder::default(), limit, seen: 0, carried: Vec::new() };
    let (mut consumed, mut done) = body.feed(rest)?;
    if done {
        return Ok(Drained { consumed, surplus: Vec::new() });
    }
    body.carried.extend_from_slice(rest.get(consumed..).unwrap_or_default());
    consumed = rest.len();
    let mut buffer = exchange.core.buffers.small();
    while !done {
        let count = receive(exchange, &mut buffer).await?;
        let mut bytes = std::mem::take(&mut body.carried);
        bytes.extend_from_slice(&buffer[..count]);
        let (used, ended) = body.feed(&bytes)?;
        bytes.drain(..used);
        body.carried = bytes;
        done = ended;
    }
    Ok(Drained { consumed, surplus: body.carried })
}

struct Chunks {
    decoder: ChunkedDecoder,
    limit: u64,
    seen: u64,
    carried: Vec<u8>,
}

impl Chunks {
    /// Decodes what it can; tells how many bytes that were and whether the body has ended.
    fn feed(&mut self, bytes: &[u8]) -> Result<(usize, bool), Fault> {
        let mut at = 0;
        loop {
            let input = bytes.get(at..).unwrap_or_default();
            let step = self.decoder.step(input).map_err(|_| Fault::BadRequest)?;
            at += step.consumed;
            self.seen += step.data.len() as u64;
            if self.seen > self.limit {
                return Err(Fault::BodyTooLarge);
            }
            if step.done {
                return Ok((at, true));
            }
            if step.consumed == 0 {
                return Ok((at, false));
            }
        }
    }
}

async fn receive(exchange: &Exchange<'_>, into: &mut [u8]) -> Result<usize, Fault> {
    let received = exchange.socket.recv(into).await;
    match received {
        _ if exchange.socket.watch().ended() == Ended::Deadline => Err(Fault::HeadTimeout),
        Ok(0) | Err(_) => Err(Fault::BadRequest),
        Ok(count) => Ok(count),
    }
}
