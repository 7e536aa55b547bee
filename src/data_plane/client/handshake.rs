//! The TLS handshake with a client, and what a client is told that does not get through it.

use std::net::SocketAddr;

use crate::{
    data_plane::{
        client::{
            http2,
            linger::linger,
            refusal::{self, REQUEST_BYTES},
        },
        core::Core,
        exchange::{End, record::Refusal},
    },
    model::Fault,
    system::{
        socket::Socket,
        stream::{Refused, Stream},
        tls::{Alpn, HandshakeFailure, Negotiated},
    },
    telemetry::labels::{TlsCipher, TlsFailure},
};

/// Shakes hands with a client that has as much time for it as for a request's head. None when
/// nothing came of it; the connection is then over.
pub(crate) async fn shake_hands(core: &Core, socket: Socket, peer: SocketAddr) -> Option<Stream> {
    let server = core.live.borrow().tls_server().cloned()?;
    let timeouts = core.current().timeouts;
    let mut most = timeouts.client_header;
    if core.is_closing() {
        most = most.min(timeouts.drain_idle);
    }
    let registration = socket.registration();
    registration.arm(most);
    // No request is in progress that a stop would have to wait for.
    registration.set_idle(true);
    match Stream::accept_tls(socket, &server, &core.buffers).await {
        Ok(stream) => {
            stream.registration().set_idle(false);
            stream.registration().disarm();
            if let Some(negotiated) = stream.negotiated() {
                count(core, negotiated);
            }
            Some(stream)
        }
        Err(refused) => {
            core.cells.tls_failures(label_of(refused.failure)).inc();
            let error = &refused.error;
            tracing::debug!(worker = core.worker, %peer, %error, "a TLS handshake failed");
            end(core, peer, refused).await;
            None
        }
    }
}

/// Refuses a client over the limit on connections after its handshake: 503 for its first request,
/// or GOAWAY before any stream (RFC 9113 section 6.8).
pub(crate) async fn refuse(core: &Core, socket: Socket, peer: SocketAddr) {
    let Some(stream) = shake_hands(core, socket, peer).await else { return };
    if stream.negotiated().is_some_and(|tls| tls.alpn == Alpn::Http2) {
        http2::connection::refuse(core, &stream);
    } else {
        stream.registration().arm(core.current().timeouts.client_header);
        let mut request = [0_u8; REQUEST_BYTES];
        let Ok(count @ 1..) = stream.read(&mut request).await else { return };
        refusal::send_refusal(core, &stream, request.get(..count).unwrap_or_default());
    }
    linger(core, &stream).await;
}

fn count(core: &Core, negotiated: &Negotiated) {
    if let Some(cipher) = TlsCipher::named(negotiated.cipher) {
        core.cells.tls_handshakes(cipher, negotiated.resumed).inc();
    }
}

/// Ends a connection without a session.
async fn end(core: &Core, peer: SocketAddr, refused: Refused) {
    let Refused { failure, socket, plain_greeting, .. } = refused;
    socket.registration().set_idle(false);
    let stream = Stream::Plain(socket);
    match (failure, plain_greeting) {
        (HandshakeFailure::Timeout | HandshakeFailure::Closed, _) => {}
        (_, Some(greeting)) => {
            let reason = "HTTP without TLS came to the port of server.tls; use https";
            let refused = Refusal { fault: Fault::PlainHttp, reason };
            // The beginning of a path is not told as if it were a path.
            let method = greeting.split_inclusive(|byte| *byte == b' ').next().unwrap_or_default();
            match refusal::refuse_head(core, &stream, peer, method, refused).await {
                End::Complete => linger(core, &stream).await,
                End::Cut => stream.abort(),
            }
        }
        // The client may be sending what would answer the alert with a reset.
        _ => linger(core, &stream).await,
    }
}

fn label_of(failure: HandshakeFailure) -> TlsFailure {
    match failure {
        HandshakeFailure::Timeout => TlsFailure::Timeout,
        HandshakeFailure::Closed => TlsFailure::Closed,
        HandshakeFailure::NotTls => TlsFailure::NotTls,
        HandshakeFailure::Version => TlsFailure::Version,
        HandshakeFailure::Cipher => TlsFailure::Cipher,
        HandshakeFailure::Protocol => TlsFailure::Protocol,
        HandshakeFailure::CertificateMissing => TlsFailure::CertificateMissing,
        HandshakeFailure::CertificateRefused => TlsFailure::CertificateRefused,
        HandshakeFailure::Alert => TlsFailure::Alert,
        HandshakeFailure::Malformed => TlsFailure::Malformed,
    }
}
