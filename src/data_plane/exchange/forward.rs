//! An object: asked of S3, and its response streamed to the client.

use std::rc::Rc;

use crate::{
    data_plane::{
        exchange::{
            Exchange, Next, respond,
            stream::{End, Sink, stream},
        },
        fetch::{
            attempt::Fetched,
            request::{ObjectRequest, Wanted},
        },
        upstream::{
            body::{Body, Frame},
            error::{Kind, Phase, UpstreamError},
        },
    },
    model::{Fault, limits::ERROR_BODY_BYTES_MAX},
    policy::auth::Permit,
    protocol::{
        http1::{
            ClientFraming, PROXY_NAME, ResponseHead, append_connection, append_field,
            append_framing, client_framing,
        },
        s3::{
            credential_problem,
            error_body::{is_clock_skew, may_be_credentials_error},
            error_code,
        },
    },
};

/// Serves an object that the client may read.
pub(crate) async fn forward(
    exchange: &mut Exchange<'_>,
    index: usize,
    key: &[u8],
    permit: Permit,
) -> Next {
    let local = Rc::clone(&exchange.local);
    let core = exchange.core;
    let mut fields = core.buffers.scratch();
    append_forwarded(exchange, &mut fields);
    let (is_head, client) = (exchange.is_head(), exchange.client());
    let wanted = Wanted { key, is_head, fields: &fields, client };
    let Some(request) = ObjectRequest::new(core, &local, index, wanted, permit) else {
        return respond::fault(exchange, Fault::Internal).await;
    };
    match request.fetch(&mut exchange.record.upstream_ns).await {
        Ok(fetched) => {
            let first_byte_ns = exchange.record.upstream_ns.unwrap_or(0);
            request.cells().record_upstream(fetched.head.status, first_byte_ns);
            relay(exchange, &request, fetched).await
        }
        Err(error) => failed(exchange, &request, &error).await,
    }
}

/// Appends the client's header fields that S3 gets.
fn append_forwarded(exchange: &Exchange<'_>, out: &mut Vec<u8>) {
    let Exchange { head, bytes, .. } = exchange;
    for forwarded in head.forwarded() {
        append_field(forwarded.field.name(), forwarded.value.of(bytes), out);
    }
    exchange.core.pseudonym.append_via(head.version, head.via(bytes), out);
}

/// Counts and logs a failure, and responds to the client unless it is gone.
async fn failed(
    exchange: &mut Exchange<'_>,
    request: &ObjectRequest<'_>,
    error: &UpstreamError,
) -> Next {
    request.note(error);
    if let Some(fault) = error.fault() {
        return respond::fault(exchange, fault).await;
    }
    exchange.record.aborted = true;
    Next::Abort
}

/// Passes the response on.
async fn relay(
    exchange: &mut Exchange<'_>,
    request: &ObjectRequest<'_>,
    fetched: Fetched<'_>,
) -> Next {
    let core = exchange.core;
    let framing = client_framing(exchange.head.version, exchange.is_head(), fetched.head.length);
    if framing.must_close() {
        exchange.keep_alive = false;
    }
    exchange.notice_drain();
    let mut out = core.buffers.scratch();
    append_head(exchange, &fetched.head, fetched.message(), framing, &mut out);
    let may_be_ours = request.bucket().credentials.is_some()
        && may_be_credentials_error(fetched.head.status)
        && !matches!(framing, ClientFraming::None);
    let is_coded = may_be_ours && is_coded(&fetched.head, fetched.message());
    let Fetched { head, mut body, .. } = fetched;
    let mut sink = Sink::new(&mut out, framing);

    if may_be_ours {
        let inspected = if is_coded {
            Err(UpstreamError::new(Kind::Malformed, Phase::Body))
        } else {
            inspect(&mut body, &mut sink).await
        };
        if let Err(error) = inspected {
            return failed(exchange, request, &error).await;
        }
    }
    exchange.record.status = head.status;
    // To this client the end of the connection is the end of the body: until it is complete, every
    // end, that of the process included, must be a reset.
    if framing.must_close() {
        exchange.socket.set_abortive(true);
    }
    let done = stream(exchange, &mut body, &mut sink).await;
    exchange.record.bytes = sink.sent;
    match done {
        Ok(()) if framing.must_close() => exchange.socket.set_abortive(false),
        Ok(()) => {}
        Err(End::Upstream(error)) if !sink.begun => {
            if framing.must_close() {
                exchange.socket.set_abortive(false);
            }
            return failed(exchange, request, &error).await;
        }
        Err(end) => {
            if let End::Upstream(error) = end {
                request.note(&error);
            }
            exchange.record.aborted = true;
            return Next::Abort;
        }
    }
    if !head.close {
        request.give_back(body);
    }
    respond::next(exchange)
}

/// Appends the head that the client gets.
fn append_head(
    exchange: &Exchange<'_>,
    head: &ResponseHead,
    message: &[u8],
    framing: ClientFraming,
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(b"HTTP/1.1 ");
    let status = [
        b'0' + u8::try_from(head.status / 100 % 10).unwrap_or(0),
        b'0' + u8::try_from(head.status / 10 % 10).unwrap_or(0),
        b'0' + u8::try_from(head.status % 10).unwrap_or(0),
        b' ',
    ];
    out.extend_from_slice(&status);
    out.extend_from_slice(head.reason.of(message));
    out.extend_from_slice(b"\r\n");
    head.copy_end_to_end(message, out);
    if !head.has_date {
        append_field("Date", &exchange.core.dates.http(), out);
    }
    head.append_via(message, PROXY_NAME, out);
    append_framing(framing, head.status, head.content_length, out);
    respond::append_own(exchange, out);
    append_connection(exchange.head.version, !exchange.keep_alive, out);
    out.extend_from_slice(b"\r\n");
}

/// Returns true if the body is in a content coding. Nobody asked for one, and a coded error document
/// cannot be searched for our key id.
fn is_coded(head: &ResponseHead, message: &[u8]) -> bool {
    head.header_values(message, b"content-encoding")
        .any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}

/// Reads an error body far enough to see whose fault it is. What was read of one that is not about our
/// credentials is in the sink.
///
/// # Errors
/// It is about our credentials, or it did not arrive.
async fn inspect(body: &mut Body<'_>, sink: &mut Sink<'_>) -> Result<(), UpstreamError> {
    let mut read = Vec::new();
    while read.len() < ERROR_BODY_BYTES_MAX {
        match body.buffered()? {
            Frame::Data(frame) => read.extend_from_slice(body.bytes(frame)),
            Frame::End => break,
            Frame::Wait => body.wait().await?,
        }
    }
    let kind = match error_code(&read) {
        Some(code) if is_clock_skew(code) => Kind::ClockSkew,
        Some(code) if credential_problem(code).is_some() => Kind::Credentials,
        _ => {
            if !read.is_empty() {
                sink.gather(&read);
            }
            return Ok(());
        }
    };
    Err(UpstreamError::new(kind, Phase::Body))
}
