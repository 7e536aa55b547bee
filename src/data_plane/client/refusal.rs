//! Responses to clients that are not served: one is sent, and the connection ends.

use std::{net::SocketAddr, os::fd::OwnedFd};

use crate::{
    data_plane::{
        client::writer::{RespondTo, Writer},
        core::Core,
        exchange::{
            self, End,
            record::{Refusal, RefusedHead},
        },
    },
    model::Fault,
    protocol::{
        greeting::Greeting,
        http1::{RequestError, Version},
    },
    system::{socket::Socket, stream::Stream},
};

/// Reason for [`Fault::HeadTooLarge`].
pub(super) const HEAD_TOO_LARGE: &str = "the head is larger than server.limits.header_bytes, or has more fields than \
     server.limits.headers";

/// Bytes of a refused connection's request that are read: it is not parsed.
pub(super) const REQUEST_BYTES: usize = 1_024;

/// Refuses a head that could not be read, of which these bytes have arrived.
pub(super) async fn refuse_head(
    core: &Core,
    stream: &Stream,
    peer: SocketAddr,
    arrived: &[u8],
    refusal: Refusal,
) -> End {
    let client_write = core.current().timeouts.client_write;
    let mut response = Writer::new(core, stream, client_write, unknown(arrived));
    let client = (peer, stream.negotiated());
    let refused = RefusedHead { refusal, version: None, arrived };
    exchange::refuse(core, client, &refused, &mut response).await
}

/// Responds with 503 on a connection over the limit: one attempt to send, and closed.
pub(crate) fn refuse_connection(core: &Core, fd: OwnedFd) {
    if let Ok(stream) = Socket::new(fd, &core.reactor).map(Stream::Plain) {
        // The request may have come or be on its way: taking it off the queue keeps the close from
        // resetting the response.
        let mut discarded = [0_u8; REQUEST_BYTES];
        let count = stream.try_read(&mut discarded).ok().flatten().unwrap_or(0);
        send_refusal(core, &stream, discarded.get(..count).unwrap_or_default());
        stream.finish();
        let _ = stream.try_read(&mut discarded);
    }
}

/// Tries once to send 503 for a request of which these bytes have arrived.
pub(super) fn send_refusal(core: &Core, stream: &Stream, arrived: &[u8]) {
    let client_write = core.current().timeouts.client_write;
    let mut response = Writer::new(core, stream, client_write, unknown(arrived));
    let is_tls = stream.negotiated().is_some();
    let body = exchange::begin_refusal(core, is_tls, Fault::TooManyConnections, &mut response);
    response.send_once(&body);
}

/// A request that was not parsed. One that begins as that of HEAD gets no body (RFC 9110 section
/// 9.3.2).
fn unknown(arrived: &[u8]) -> RespondTo {
    let is_head = arrived.strip_prefix(b"\r\n").unwrap_or(arrived).starts_with(b"HEAD ");
    RespondTo { version: Version::Http11, is_head, close: true }
}

/// The refusal of a head that could not be read, of which these bytes have arrived.
pub(super) fn refusal_of(error: &RequestError, arrived: &[u8]) -> Refusal {
    let (fault, reason) = match error {
        RequestError::Malformed(reason) => (Fault::BadRequest, *reason),
        RequestError::UnknownTransferCoding => {
            (Fault::UnknownTransferCoding, "a transfer coding other than chunked is asked for")
        }
        RequestError::UriTooLong => {
            (Fault::UriTooLong, "the target is longer than server.limits.uri_bytes")
        }
        RequestError::HeadTooLarge => (Fault::HeadTooLarge, HEAD_TOO_LARGE),
        RequestError::VersionNotSupported => {
            (Fault::VersionNotSupported, "the version of HTTP is neither 1.0 nor 1.1")
        }
        RequestError::ExpectationFailed => (Fault::ExpectationFailed, "Expect is not 100-continue"),
    };
    Refusal { fault, reason: Greeting::of(arrived).map_or(reason, Greeting::reason) }
}
