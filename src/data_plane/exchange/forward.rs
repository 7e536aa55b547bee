//! An object: one signed request to S3, and its answer streamed to the client.

use std::{rc::Rc, sync::Arc};

use crate::{
    data_plane::{
        core::Local,
        exchange::{
            Exchange, Next,
            body::{Body, Piece},
            respond,
            stream::{End, SPLICE_BYTES_MIN, Sink, stream},
        },
        upstream::{connection::Connection, pool::Pool},
    },
    handoff::snapshot::Bucket,
    model::{Fault, Secret, limits::ERROR_BODY_BYTES_MAX},
    policy::auth::Permit,
    protocol::{
        http1::{
            ClientFraming, PROXY_NAME, Progress, ResponseHead, append_connection, append_field,
            append_framing, client_framing, parse_response,
        },
        s3::{
            SigningInput, append_signed_headers_once, credential_problem, encode_key,
            error_body::{is_clock_skew, may_be_credentials_error},
            error_code,
        },
    },
    system::{
        buffers::{LARGE_BYTES, Lent},
        watch::{Ended, Shut},
    },
    telemetry::{cells::BucketCells, labels::UpstreamError},
};

/// Interim answers (1xx) to one request that are absorbed; S3 sends none, or one. Without a bound
/// a server could hold a request for ever.
const INTERIM_ANSWERS_MAX: usize = 16;

/// Serves an object that the client may read.
pub(crate) async fn forward(
    exchange: &mut Exchange<'_>,
    index: usize,
    key: &[u8],
    permit: Permit,
) -> Next {
    let local = Rc::clone(&exchange.local);
    let core = exchange.core;
    let found = local
        .buckets
        .get(index)
        .and_then(|bucket| Some((bucket, local.pool(bucket)?, bucket.cells.get(core.worker)?)));
    let Some((bucket, pool, cells)) = found else {
        return respond::fault(exchange, Fault::Internal).await;
    };
    let mut request = core.buffers.scratch();
    append_request(exchange, &local, index, bucket, key, permit, &mut request);
    let mut head = ResponseHead::default();
    let target = Target { bucket, pool, cells };
    let fetched = fetch(exchange, &target, &request, &mut head).await;
    let (connection, arrived) = match fetched {
        Ok(fetched) => fetched,
        Err(_) if exchange.record.aborted => return Next::Abort,
        Err(error) => {
            cells.upstream.error(error).inc();
            return respond::fault(exchange, fault_of(error)).await;
        }
    };
    cells.record_upstream(head.status, exchange.record.upstream_ns.unwrap_or(0));
    relay(exchange, &target, &head, connection, arrived).await
}

/// The request to S3. Signing takes the [`Permit`]: there is no other way to get here.
fn append_request(
    exchange: &Exchange<'_>,
    local: &Local,
    index: usize,
    bucket: &Bucket,
    key: &[u8],
    _permit: Permit,
    out: &mut Vec<u8>,
) {
    let method = if exchange.is_head() { "HEAD" } else { "GET" };
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    let target_at = out.len();
    out.extend_from_slice(&bucket.target_prefix);
    encode_key(key, out);
    let target = target_at..out.len();
    out.extend_from_slice(b" HTTP/1.1\r\n");
    append_field("Host", bucket.host.as_bytes(), out);
    for forwarded in exchange.head.forwarded() {
        append_field(forwarded.field.name(), forwarded.value.of(exchange.bytes), out);
    }
    let via = exchange.head.via(exchange.bytes);
    exchange.core.pseudonym.append_via(exchange.head.version, via, out);
    let date = exchange.core.dates.amz();
    if let Some(credentials) = &bucket.credentials {
        let mut scratch = exchange.core.buffers.scratch();
        let mut signed = exchange.core.buffers.scratch();
        local.with_signing_key(index, bucket, &date, |key, recent| {
            let input = SigningInput {
                method,
                host: &bucket.host,
                target: out.get(target).unwrap_or_default(),
                access_key: &credentials.access_key,
                session_token: credentials.session_token.as_ref().map(Secret::expose),
            };
            let (scratch, signed) = (&mut scratch, &mut signed);
            append_signed_headers_once(recent, index, key, &date, &input, scratch, signed);
        });
        out.extend_from_slice(&signed);
    }
    out.extend_from_slice(b"\r\n");
}

/// The bytes that have arrived: a head, and what follows it.
struct Arrived<'c> {
    buffer: Lent<'c>,
    head_at: usize,
    end: usize,
}

/// Sends the request and reads the head of the final answer, on a pooled connection if there is
/// one, and once more on a fresh one if that proves stale (RFC 9112 section 9.3.1).
async fn fetch<'x>(
    exchange: &mut Exchange<'x>,
    target: &Target<'_>,
    request: &[u8],
    head: &mut ResponseHead,
) -> Result<(Connection, Arrived<'x>), UpstreamError> {
    let core = exchange.core;
    let Target { bucket, pool, cells } = target;
    if let Some(mut connection) = pool.take(cells) {
        match ask(exchange, target, &mut connection, request, head).await {
            Ok(arrived) => return Ok((connection, arrived)),
            Err(Failed::Stale) => head.reset(),
            Err(Failed::With(error)) => return Err(error),
        }
    }
    let timeout = bucket.timeouts.connect;
    let client = exchange.client();
    pool.learn(&core.live.borrow());
    let opened =
        Connection::open(pool, timeout, client, &core.watches, &core.buffers, cells).await?;
    let Some(mut connection) = opened else {
        exchange.record.aborted = true;
        return Err(UpstreamError::Reset);
    };
    core.cells.upstream_connects.inc();
    match ask(exchange, target, &mut connection, request, head).await {
        Ok(arrived) => Ok((connection, arrived)),
        Err(Failed::Stale) => Err(UpstreamError::Reset),
        Err(Failed::With(error)) => Err(error),
    }
}

enum Failed {
    /// The connection ended before a byte of the answer: S3 has not seen the request, or will not
    /// answer it.
    Stale,
    With(UpstreamError),
}

async fn ask<'x>(
    exchange: &mut Exchange<'x>,
    target: &Target<'_>,
    connection: &mut Connection,
    request: &[u8],
    head: &mut ResponseHead,
) -> Result<Arrived<'x>, Failed> {
    let core = exchange.core;
    let Target { bucket, pool, .. } = target;
    let clock = &core.watches.clock;
    // On a pooled connection no time has passed since the request's own reading of the clock.
    let asked = if connection.reused { clock.coarse() } else { clock.refresh() };
    let watch = connection.socket().watch();
    watch.arm(bucket.timeouts.first_byte, Shut::Both);
    watch.waits_for_client(Some(exchange.client()));
    if connection.send_all(request).await.is_err() {
        return Err(failure(exchange, connection, 0));
    }
    connection.wait().await;
    // What arrives with the head is copied; of a large object that should be little, because the
    // rest can be moved without copying.
    let mut buffer = if pool.expects_large() { core.buffers.small() } else { core.buffers.large() };
    let mut filled = 0;
    let mut at = 0;
    let mut interim = 0;
    loop {
        if filled == buffer.len() {
            buffer.grow(LARGE_BYTES);
        }
        let room = buffer.get_mut(filled..).unwrap_or_default();
        let count = match connection.recv(room).await {
            Ok(0) | Err(_) => return Err(failure(exchange, connection, filled)),
            Ok(count) => count,
        };
        if filled == 0 && interim == 0 {
            exchange.record.upstream_ns = Some(core.watches.clock.refresh().since(asked));
            connection.socket().watch().arm(bucket.timeouts.read, Shut::Both);
        }
        filled += count;
        loop {
            let unread = buffer.get(at..filled).unwrap_or_default();
            match parse_response(unread, exchange.is_head(), head) {
                Err(_) => return Err(Failed::With(UpstreamError::Protocol)),
                Ok(Progress::Partial) => break,
                // We never ask to switch protocols.
                Ok(Progress::Complete) if head.status == 101 => {
                    return Err(Failed::With(UpstreamError::Protocol));
                }
                Ok(Progress::Complete) if head.is_interim() => {
                    interim += 1;
                    if interim > INTERIM_ANSWERS_MAX {
                        return Err(Failed::With(UpstreamError::Protocol));
                    }
                    at += head.head_len;
                    head.reset();
                }
                Ok(Progress::Complete) => {
                    connection.socket().watch().disarm();
                    let large = |length| length >= SPLICE_BYTES_MIN;
                    pool.expect_large(head.content_length.is_some_and(large));
                    return Ok(Arrived { buffer, head_at: at, end: filled });
                }
            }
        }
        if at > 0 {
            buffer.copy_within(at..filled, 0);
            filled -= at;
            at = 0;
        }
    }
}

fn failure(exchange: &mut Exchange<'_>, connection: &Connection, received: usize) -> Failed {
    match connection.ended() {
        Ended::Deadline => Failed::With(UpstreamError::FirstByteTimeout),
        Ended::ClientGone => {
            exchange.record.aborted = true;
            Failed::With(UpstreamError::Reset)
        }
        _ if received == 0 && connection.reused => Failed::Stale,
        _ if received == 0 => Failed::With(UpstreamError::Reset),
        Ended::No => Failed::With(UpstreamError::Truncated),
    }
}

fn fault_of(error: UpstreamError) -> Fault {
    match error {
        UpstreamError::Refused | UpstreamError::NoAddress | UpstreamError::Tls => {
            Fault::UpstreamRefused
        }
        UpstreamError::ConnectTimeout
        | UpstreamError::FirstByteTimeout
        | UpstreamError::ReadTimeout => Fault::UpstreamTimeout,
        UpstreamError::Credentials | UpstreamError::ClockSkew => Fault::UpstreamCredentials,
        UpstreamError::Protocol | UpstreamError::Reset | UpstreamError::Truncated => {
            Fault::UpstreamProtocol
        }
    }
}

/// Where a request goes.
struct Target<'t> {
    bucket: &'t Bucket,
    pool: &'t Pool,
    cells: &'t Arc<BucketCells>,
}

/// Passes the answer on.
async fn relay(
    exchange: &mut Exchange<'_>,
    target: &Target<'_>,
    head: &ResponseHead,
    connection: Connection,
    arrived: Arrived<'_>,
) -> Next {
    let core = exchange.core;
    let Target { bucket, pool, cells } = target;
    let Arrived { buffer, head_at, end } = arrived;
    let framing = client_framing(exchange.head.version, exchange.is_head(), head.length);
    if framing.must_close() {
        exchange.keep_alive = false;
    }
    exchange.notice_drain();
    let mut out = core.buffers.scratch();
    let message = buffer.get(head_at..end).unwrap_or_default();
    append_answer(exchange, head, message, framing, &mut out);
    let window = head_at + head.head_len..end;
    let mut body = Body::new(core, connection, buffer, window, head.length, bucket.timeouts.read);
    let mut sink = Sink::new(&mut out, framing);

    if bucket.credentials.is_some()
        && may_be_credentials_error(head.status)
        && !matches!(framing, ClientFraming::None)
    {
        let inspected = if is_coded(head, body.bytes(head_at..end)) {
            Inspected::Failed(UpstreamError::Protocol)
        } else {
            inspect(&mut body, &mut sink).await
        };
        match inspected {
            Inspected::Ours(error) => {
                cells.upstream.error(error).inc();
                return refuse_credentials(exchange, bucket, error).await;
            }
            Inspected::Theirs => {}
            Inspected::Failed(_) if body.client_is_gone() => {
                exchange.record.aborted = true;
                return Next::Abort;
            }
            Inspected::Failed(error) => {
                cells.upstream.error(error).inc();
                return respond::fault(exchange, fault_of(error)).await;
            }
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
        Err(End::Upstream(error)) if !body.client_is_gone() => {
            cells.upstream.error(error).inc();
            if !sink.begun {
                if framing.must_close() {
                    exchange.socket.set_abortive(false);
                }
                return respond::fault(exchange, fault_of(error)).await;
            }
            exchange.record.aborted = true;
            return Next::Abort;
        }
        Err(End::Client | End::Upstream(_)) => {
            exchange.record.aborted = true;
            return Next::Abort;
        }
    }
    if body.is_clean() && !head.close {
        let now = core.watches.clock.coarse();
        pool.give_back(body.connection, bucket.max_idle_connections, now);
    }
    respond::next(exchange)
}

fn append_answer(
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

/// Whether the body is in a content coding. Nobody asked for one, and a coded error document
/// cannot be searched for our key id.
fn is_coded(head: &ResponseHead, message: &[u8]) -> bool {
    head.header_values(message, b"content-encoding")
        .any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}

enum Inspected {
    /// The error is about our credentials.
    Ours(UpstreamError),
    /// Any other answer; what was read of it is in the sink.
    Theirs,
    /// The body did not arrive.
    Failed(UpstreamError),
}

/// Reads an error body far enough to see whose fault it is.
async fn inspect(body: &mut Body<'_>, sink: &mut Sink<'_>) -> Inspected {
    let mut read = Vec::new();
    let mut ended = false;
    while !ended && read.len() < ERROR_BODY_BYTES_MAX {
        match body.buffered() {
            Ok(Piece::Data(piece)) => read.extend_from_slice(body.bytes(piece)),
            Ok(Piece::End) => ended = true,
            Ok(Piece::Wait) => {
                if let Err(error) = body.wait().await {
                    return Inspected::Failed(error);
                }
            }
            Err(error) => return Inspected::Failed(error),
        }
    }
    match error_code(&read) {
        Some(code) if is_clock_skew(code) => Inspected::Ours(UpstreamError::ClockSkew),
        Some(code) if credential_problem(code).is_some() => {
            Inspected::Ours(UpstreamError::Credentials)
        }
        _ => {
            if !read.is_empty() {
                sink.gather(&read);
            }
            Inspected::Theirs
        }
    }
}

async fn refuse_credentials(
    exchange: &mut Exchange<'_>,
    bucket: &Bucket,
    error: UpstreamError,
) -> Next {
    if exchange.core.may_warn(exchange.record.bucket) {
        tracing::warn!(
            bucket = &*bucket.name,
            reason = error.label(),
            "S3 refused this proxy's own credentials or clock; clients get 502"
        );
    }
    respond::fault(exchange, Fault::UpstreamCredentials).await
}
