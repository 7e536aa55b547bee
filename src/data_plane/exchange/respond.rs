//! The one place where a [`Fault`], or anything else that this proxy says itself, becomes bytes.

use std::{net::SocketAddr, time::Duration};

use crate::{
    data_plane::{
        core::{Core, request_ids::REQUEST_ID_CHARS},
        exchange::{Exchange, Next, record},
    },
    handoff::message::Answer,
    model::Fault,
    protocol::{
        http1::{
            Version, append_connection, append_content_length, append_field, append_status_line,
        },
        text::decimal::append_decimal,
    },
    system::{socket::Socket, watch::Ended},
};

/// Methods that are served, as `Allow` lists them.
pub(crate) const ALLOW: &str = "GET, HEAD, OPTIONS";

const JSON: &str = "application/json";

/// Answers a request with a fault.
pub(crate) async fn fault(exchange: &mut Exchange<'_>, fault: Fault) -> Next {
    if ends_connection(fault) {
        exchange.keep_alive = false;
    }
    let body = fault_body(fault, &exchange.id);
    exchange.record.code = fault.code();
    let reply = Reply {
        status: fault.status(),
        content_type: JSON,
        body: &body,
        fault: Some(fault),
        allow: exchange.allow,
    };
    send(exchange, &reply).await
}

/// Answers OPTIONS.
pub(crate) async fn options(exchange: &mut Exchange<'_>) -> Next {
    let allow = exchange.allow;
    send(exchange, &Reply { status: 204, content_type: "", body: b"", fault: None, allow }).await
}

/// Answers with a page of this process: health, metrics, or what the control plane said.
pub(crate) async fn answer(exchange: &mut Exchange<'_>, answer: &Answer) -> Next {
    exchange.record.code = answer.code;
    let reply = Reply {
        status: answer.status,
        content_type: answer.content_type,
        body: &answer.body,
        fault: None,
        allow: exchange.allow,
    };
    send(exchange, &reply).await
}

struct Reply<'r> {
    status: u16,
    content_type: &'r str,
    body: &'r [u8],
    fault: Option<Fault>,
    allow: &'static str,
}

async fn send(exchange: &mut Exchange<'_>, reply: &Reply<'_>) -> Next {
    let core = exchange.core;
    exchange.notice_drain();
    let mut out = core.buffers.scratch();
    append_head(core, reply, &mut out);
    append_own(exchange, &mut out);
    append_connection(exchange.head.version, !exchange.keep_alive, &mut out);
    out.extend_from_slice(b"\r\n");
    exchange.record.status = reply.status;
    let body = if exchange.is_head() { &[] } else { reply.body };
    match deliver(exchange, &out, body).await {
        Ok(()) => {
            exchange.record.bytes = body.len() as u64;
            next(exchange)
        }
        Err(Cut { taken }) => {
            exchange.record.bytes = taken.saturating_sub(out.len()) as u64;
            exchange.record.aborted = true;
            Next::Abort
        }
    }
}

/// The client is gone or takes nothing.
#[derive(Debug)]
pub(crate) struct Cut {
    /// Bytes that its socket took before.
    pub(crate) taken: usize,
}

/// Sends to the client, giving it `client_write` for each step of progress.
///
/// # Errors
/// How much was taken of both slices.
pub(crate) async fn deliver(
    exchange: &Exchange<'_>,
    first: &[u8],
    second: &[u8],
) -> Result<(), Cut> {
    deliver_to(exchange.socket, exchange.local.timeouts.client_write, first, second).await
}

async fn deliver_to(
    socket: &Socket,
    client_write: Duration,
    mut first: &[u8],
    mut second: &[u8],
) -> Result<(), Cut> {
    let mut taken = 0;
    while !first.is_empty() || !second.is_empty() {
        if first.is_empty() {
            first = std::mem::take(&mut second);
        }
        match socket.try_send(first, second) {
            Ok(Some(sent)) => {
                taken += sent;
                let of_first = sent.min(first.len());
                first = first.get(of_first..).unwrap_or_default();
                second = second.get(sent - of_first..).unwrap_or_default();
            }
            Ok(None) => {
                client_writable(socket, client_write).await.map_err(|_| Cut { taken })?;
            }
            Err(_) => return Err(Cut { taken }),
        }
    }
    Ok(())
}

/// Waits until the client takes more.
///
/// # Errors
/// `TimedOut` when it takes nothing for `client_write`, `ConnectionAborted` when the process ends.
/// Its socket is left as it is: an orderly end behind a part of a body that ends with the connection
/// would make that look whole.
pub(crate) async fn client_writable(
    socket: &Socket,
    client_write: Duration,
) -> std::io::Result<()> {
    socket.watch().arm_sending(client_write);
    socket.writable().await;
    socket.watch().disarm();
    match socket.watch().ended() {
        Ended::No => Ok(()),
        Ended::Deadline => Err(std::io::ErrorKind::TimedOut.into()),
        Ended::ClientGone => Err(std::io::ErrorKind::ConnectionAborted.into()),
    }
}

/// Appends the fields that every answer to a request carries.
pub(crate) fn append_own(exchange: &Exchange<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(b"X-Request-Id: ");
    out.extend_from_slice(&exchange.id);
    out.extend_from_slice(b"\r\n");
    if exchange.local.expose_generation {
        out.extend_from_slice(b"X-Config-Generation: ");
        append_decimal(exchange.local.generation.0, out);
        out.extend_from_slice(b"\r\n");
    }
}

/// Refuses a head that could not be read, of which these bytes have arrived: one answer, and the
/// connection ends.
pub(crate) async fn refuse_head(
    core: &Core,
    socket: &Socket,
    peer: SocketAddr,
    head: &[u8],
    fault: Fault,
) -> Next {
    let id = core.ids.next();
    let mut out = core.buffers.scratch();
    let body = append_refusal(core, fault, &id, is_head_request(head), &mut out);
    let client_write = core.current().timeouts.client_write;
    let delivered = deliver_to(socket, client_write, &out, &body).await;
    let (bytes, next) = match delivered {
        Ok(()) => (body.len(), Next::Close),
        Err(Cut { taken }) => (taken.saturating_sub(out.len()), Next::Abort),
    };
    record::refused_head(core, peer, fault, &id, bytes as u64, next == Next::Abort);
    next
}

/// Writes a whole answer to a connection that will not be served, on which these bytes have arrived.
pub(crate) fn write_refusal(core: &Core, fault: Fault, arrived: &[u8], out: &mut Vec<u8>) {
    let body = append_refusal(core, fault, &core.ids.next(), is_head_request(arrived), out);
    out.extend_from_slice(&body);
}

/// Whether a head that was not parsed begins as that of a HEAD request, whose answer has no body
/// (RFC 9110 section 9.3.2).
fn is_head_request(head: &[u8]) -> bool {
    head.strip_prefix(b"\r\n").unwrap_or(head).starts_with(b"HEAD ")
}

/// Appends the head of a refusal and returns the body.
fn append_refusal(
    core: &Core,
    fault: Fault,
    id: &[u8; REQUEST_ID_CHARS],
    is_head: bool,
    out: &mut Vec<u8>,
) -> Vec<u8> {
    // No request has looked at the clock for this answer.
    core.dates.unix_seconds(core.watches.clock.refresh());
    let body = fault_body(fault, id);
    let reply = Reply {
        status: fault.status(),
        content_type: JSON,
        body: &body,
        fault: Some(fault),
        allow: ALLOW,
    };
    append_head(core, &reply, out);
    append_field("X-Request-Id", id, out);
    let local = core.current();
    if local.expose_generation {
        append_field("X-Config-Generation", local.generation.to_string().as_bytes(), out);
    }
    append_connection(Version::Http11, true, out);
    out.extend_from_slice(b"\r\n");
    if is_head { Vec::new() } else { body }
}

fn append_head(core: &Core, reply: &Reply<'_>, out: &mut Vec<u8>) {
    append_status_line(reply.status, out);
    append_field("Date", &core.dates.http(), out);
    match reply.fault {
        Some(Fault::MissingToken) => {
            append_field("WWW-Authenticate", b"Bearer", out);
        }
        // RFC 6750 section 3.1
        Some(Fault::InvalidToken(_)) => {
            append_field("WWW-Authenticate", b"Bearer error=\"invalid_token\"", out);
        }
        Some(Fault::ClaimsRefused) => {
            append_field("WWW-Authenticate", b"Bearer error=\"insufficient_scope\"", out);
        }
        Some(Fault::MethodNotAllowed) => append_field("Allow", reply.allow.as_bytes(), out),
        Some(
            Fault::NoReply
            | Fault::OutOfDescriptors
            | Fault::TooManyConnections
            | Fault::TooManyScrapes
            | Fault::ShuttingDown,
        ) => {
            append_field("Retry-After", b"1", out);
        }
        _ => {}
    }
    if reply.status == 204 {
        append_field("Allow", reply.allow.as_bytes(), out);
        return;
    }
    append_field("Content-Type", reply.content_type.as_bytes(), out);
    append_content_length(reply.body.len() as u64, out);
    // An error of the moment must not be served from a cache (RFC 9111 section 5.2.2.5).
    append_field("Cache-Control", b"no-store", out);
}

/// The JSON body of a fault. Nothing in it comes from a client, so nothing needs escaping.
fn fault_body(fault: Fault, id: &[u8; REQUEST_ID_CHARS]) -> Vec<u8> {
    let mut body = Vec::with_capacity(192);
    for part in [
        br#"{"status":"error","code":""#.as_slice(),
        fault.code().as_bytes(),
        br#"","message":""#,
        fault.message().as_bytes(),
        br#"","request_id":""#,
        id,
        br#""}"#,
    ] {
        body.extend_from_slice(part);
    }
    body.push(b'\n');
    body
}

/// Whether the connection can't be trusted, or must not be used, after this fault.
fn ends_connection(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::BadRequest
            | Fault::UnknownTransferCoding
            | Fault::VersionNotSupported
            | Fault::ExpectationFailed
            | Fault::UriTooLong
            | Fault::HeadTooLarge
            | Fault::BodyTooLarge
            | Fault::HeadTimeout
            | Fault::TooManyConnections
            | Fault::ShuttingDown
            | Fault::Internal
    )
}

/// How an exchange goes on after an answer was sent whole.
pub(crate) fn next(exchange: &Exchange<'_>) -> Next {
    if exchange.keep_alive { Next::KeepAlive } else { Next::Close }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_body_is_json_with_its_code() {
        let id = [b'0'; REQUEST_ID_CHARS];
        for fault in [Fault::NoRoute, Fault::InvalidToken("Authentication failed: Invalid token")] {
            let body: serde_json::Value = serde_json::from_slice(&fault_body(fault, &id)).unwrap();
            assert_eq!(body["code"], fault.code());
            assert_eq!(body["status"], "error");
            assert_eq!(body["message"], fault.message());
        }
    }
}
