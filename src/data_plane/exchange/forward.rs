//! An object: one signed request to S3, and its answer streamed to the client.

use std::{io, rc::Rc, sync::Arc, time::Duration};

use crate::{
    data_plane::{
        core::generation::Local,
        exchange::{
            Exchange, Next,
            body::{Body, Piece},
            respond,
            stream::{End, SPLICE_BYTES_MIN, Sink, stream},
        },
        upstream::{
            connect::Connector,
            connection::Connection,
            endpoint::{EndpointState, Keeping},
            error::{Kind, Phase, UpstreamError},
        },
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
        clock::Monotonic,
        watch::Shut,
    },
    telemetry::cells::BucketCells,
};

/// Interim responses (1xx) to one request that are absorbed; S3 sends none, or one. Without a bound
/// a server could hold a request for ever.
const INTERIM_RESPONSES_MAX: usize = 16;

/// Serves an object that the client may read.
pub(crate) async fn forward(
    exchange: &mut Exchange<'_>,
    index: usize,
    key: &[u8],
    permit: Permit,
) -> Next {
    let local = Rc::clone(&exchange.local);
    let core = exchange.core;
    let found = local.buckets.get(index).and_then(|bucket| {
        Some((bucket, local.endpoint_of(bucket)?, bucket.cells.get(core.worker)?))
    });
    let Some((bucket, endpoint, cells)) = found else {
        return respond::fault(exchange, Fault::Internal).await;
    };
    let mut request = core.buffers.scratch();
    append_request(exchange, &local, index, bucket, key, permit, &mut request);
    let mut head = ResponseHead::default();
    let target = Target { bucket, endpoint, cells };
    let fetched = fetch(exchange, &target, &request, &mut head).await;
    let (connection, arrived) = match fetched {
        Ok(fetched) => fetched,
        Err(error) => return failed(exchange, &target, &error).await,
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

/// Sends the request and reads the head of the final response, on a pooled connection if there is
/// one, and once more on a fresh one if that proves stale (RFC 9112 section 9.3.1).
async fn fetch<'x>(
    exchange: &mut Exchange<'x>,
    target: &Target<'_>,
    request: &[u8],
    head: &mut ResponseHead,
) -> Result<(Connection, Arrived<'x>), UpstreamError> {
    let core = exchange.core;
    let Target { bucket, endpoint, cells } = target;
    let now = core.watches.clock.coarse();
    if let Some(mut connection) = endpoint.take(bucket.max_connection_age, now, cells) {
        match ask(exchange, target, &mut connection, request, head).await {
            Ok(arrived) => return Ok((connection, arrived)),
            Err(error) if error.is_retryable() => head.reset(),
            Err(error) => return Err(error),
        }
    }
    let mut connection = open(exchange, target).await?;
    core.cells.upstream_connects.inc();
    let asked = ask(exchange, target, &mut connection, request, head).await;
    match &asked {
        Ok(_) => connection.address().works(),
        Err(error) if error.is_of_address() => {
            connection.address().fails(core.watches.clock.coarse());
        }
        Err(_) => {}
    }
    asked.map(|arrived| (connection, arrived))
}

/// Opens a connection to the endpoint; when the kernel has no descriptor left for it, once more in
/// place of connections that nobody uses.
async fn open(exchange: &Exchange<'_>, target: &Target<'_>) -> Result<Connection, UpstreamError> {
    let core = exchange.core;
    let Target { bucket, endpoint, cells } = target;
    endpoint.learn(&core.live.borrow(), core.watches.clock.coarse());
    let connector = Connector {
        watches: &core.watches,
        buffers: &core.buffers,
        client: exchange.client(),
        cells,
        timeout: bucket.timeouts.connect,
    };
    match endpoint.open(&connector).await {
        Err(error) if error.is_out_of_descriptors() => {
            core.evict_idle();
            endpoint.open(&connector).await
        }
        opened => opened,
    }
}

async fn ask<'x>(
    exchange: &mut Exchange<'x>,
    target: &Target<'_>,
    connection: &mut Connection,
    request: &[u8],
    head: &mut ResponseHead,
) -> Result<Arrived<'x>, UpstreamError> {
    let core = exchange.core;
    let Target { bucket, endpoint, .. } = target;
    let clock = &core.watches.clock;
    // On a pooled connection no time has passed since the request's own reading of the clock.
    let asked = if connection.is_reused() { clock.coarse() } else { clock.refresh() };
    let watch = connection.socket().watch();
    watch.arm(bucket.timeouts.first_byte, Shut::Both);
    watch.waits_for_client(Some(exchange.client()));
    if connection.send_all(request).await.is_err() {
        return Err(failure(connection, Kind::Reset, Phase::Send));
    }
    connection.wait().await;
    // What arrives with the head is copied; of a large object that should be little, because the
    // rest can be moved without copying.
    let large = endpoint.expects_large();
    let mut buffer = if large { core.buffers.small() } else { core.buffers.large() };
    let mut phase = Phase::Send;
    let mut filled = 0;
    let mut interim = 0;
    loop {
        if filled == buffer.len() {
            buffer.grow(LARGE_BYTES);
        }
        let room = buffer.get_mut(filled..).unwrap_or_default();
        let count = match connection.recv(room).await {
            Ok(0) => return Err(failure(connection, Kind::Truncated, phase)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(failure(connection, Kind::Truncated, phase));
            }
            Err(_) => return Err(failure(connection, Kind::Reset, phase)),
        };
        let mut begins = filled == 0;
        if begins {
            exchange.record.upstream_ns = Some(clock.refresh().since(asked));
        }
        filled += count;
        let mut at = 0;
        loop {
            let unread = buffer.get(at..filled).unwrap_or_default();
            let malformed = |connection| Err(failure(connection, Kind::Malformed, Phase::Head));
            match parse_response(unread, exchange.is_head(), head) {
                Err(_) => return malformed(connection),
                Ok(Progress::Partial) => break,
                // We never ask to switch protocols.
                Ok(Progress::Complete) if head.status == 101 => return malformed(connection),
                Ok(Progress::Complete) if head.is_interim() => {
                    interim += 1;
                    if interim > INTERIM_RESPONSES_MAX {
                        return malformed(connection);
                    }
                    at += head.head_len;
                    head.reset();
                    begins = true;
                }
                Ok(Progress::Complete) => {
                    if head.status == 408 && connection.is_reused() && interim == 0 {
                        return Err(failure(connection, Kind::IdleTooLong, Phase::Head));
                    }
                    connection.socket().watch().disarm();
                    let large = |length| length >= SPLICE_BYTES_MIN;
                    endpoint.expect_large(head.content_length.is_some_and(large));
                    return Ok(Arrived { buffer, head_at: at, end: filled });
                }
            }
        }
        buffer.copy_within(at..filled, 0);
        filled -= at;
        // Interim responses do not prolong the time of the final one's first byte. A head that has
        // begun has a time of its own, which its bytes do not prolong.
        if filled == 0 {
            phase = Phase::Interim;
            let left = bucket.timeouts.first_byte.saturating_sub(since(asked, clock.refresh()));
            connection.socket().watch().arm(left, Shut::Both);
        } else if begins {
            phase = Phase::Head;
            connection.socket().watch().arm(bucket.timeouts.read, Shut::Both);
        }
    }
}

fn since(earlier: Monotonic, now: Monotonic) -> Duration {
    Duration::from_nanos(now.since(earlier))
}

fn failure(connection: &Connection, otherwise: Kind, phase: Phase) -> UpstreamError {
    UpstreamError::ended(connection.ended(), otherwise, phase)
        .of(connection.address().socket_address(), connection.is_reused())
}

/// Counts and logs a failure, and answers the client unless it is gone.
async fn failed(exchange: &mut Exchange<'_>, target: &Target<'_>, error: &UpstreamError) -> Next {
    note(exchange, target, error);
    if let Some(fault) = error.fault() {
        return respond::fault(exchange, fault).await;
    }
    exchange.record.aborted = true;
    Next::Abort
}

fn note(exchange: &Exchange<'_>, target: &Target<'_>, error: &UpstreamError) {
    let Some(reason) = error.reason() else { return };
    let Target { bucket, endpoint, cells } = target;
    cells.upstream.error(reason).inc();
    let core = exchange.core;
    if error.fault() != Some(Fault::UpstreamCredentials) {
        endpoint.warn(&bucket.name, error, core.watches.clock.coarse());
    } else if core.may_warn(exchange.record.bucket) {
        tracing::warn!(
            bucket = &*bucket.name,
            reason = reason.label(),
            "S3 refused this proxy's own credentials or clock; clients get 502"
        );
    }
}

/// Where a request goes.
struct Target<'t> {
    bucket: &'t Bucket,
    endpoint: &'t EndpointState,
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
    let Target { bucket, endpoint, .. } = target;
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
            Inspected::Failed(UpstreamError::new(Kind::Malformed, Phase::Body))
        } else {
            inspect(&mut body, &mut sink).await
        };
        match inspected {
            Inspected::Failed(error) => return failed(exchange, target, &error).await,
            Inspected::Theirs => {}
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
            return failed(exchange, target, &error).await;
        }
        Err(end) => {
            if let End::Upstream(error) = end {
                note(exchange, target, &error);
            }
            exchange.record.aborted = true;
            return Next::Abort;
        }
    }
    if body.is_clean() && !head.close {
        let now = core.watches.clock.coarse();
        let keeping =
            Keeping { most: bucket.max_idle_connections, max_age: bucket.max_connection_age };
        endpoint.give_back(body.connection, keeping, now);
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
    /// Another error than one about our credentials; what was read of it is in the sink.
    Theirs,
    /// The error is about our credentials, or the body did not arrive.
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
    let refused = |kind| UpstreamError::new(kind, Phase::Body);
    match error_code(&read) {
        Some(code) if is_clock_skew(code) => Inspected::Failed(refused(Kind::ClockSkew)),
        Some(code) if credential_problem(code).is_some() => {
            Inspected::Failed(refused(Kind::Credentials))
        }
        _ => {
            if !read.is_empty() {
                sink.gather(&read);
            }
            Inspected::Theirs
        }
    }
}
