//! The one place where a [`Fault`], or anything else that this proxy says itself, becomes a
//! response.

use crate::{
    data_plane::{
        core::Core,
        exchange::{
            client::{ClientGone, ResponseWriter},
            context::{Exchange, Kind, OwnFields},
            fields,
            outcome::Outcome,
        },
    },
    handoff::message::CallReply,
    model::Fault,
    policy::{auth::TokenCarrier as _, site::documents::append_directory_location},
    protocol::{
        http1::{BodyLength, reason_phrase},
        s3::listing::append_s3_error,
        text::decimal::append_decimal,
    },
    telemetry::access_log::AbortedBy,
};

/// Methods that are served, as `Allow` lists them.
pub(super) const ALLOW: &str = "GET, HEAD, OPTIONS";

/// The port of `https` where a URI names none (RFC 9110 section 4.2.2).
const HTTPS_PORT: u16 = 443;

const JSON: &str = "application/json";
const XML: &str = "application/xml";

/// Body bytes that are handed over at a time. Those of a part during which a response is recalled
/// are not counted.
const PART_BYTES: usize = 65_536;

/// Digits of the longest generation.
const GENERATION_DIGITS_MAX: usize = 20;

/// Adds the fields that every response carries, and puts all fields of the head through the rules
/// of the bucket: the last step before the head ends.
pub(super) fn add_own_fields(own: &OwnFields<'_>, response: &mut impl ResponseWriter) {
    response.field("X-Request-Id", own.id);
    if own.local.expose_generation {
        let mut generation = Vec::with_capacity(GENERATION_DIGITS_MAX);
        append_decimal(own.local.generation.0, &mut generation);
        response.field("X-Config-Generation", &generation);
    }
    if let Some(site) = own.site {
        fields::apply(own, site, response);
    }
}

/// Responds with a fault.
pub(super) async fn fault(
    exchange: &Exchange<'_>,
    fault: Fault,
    response: &mut impl ResponseWriter,
) -> Outcome {
    if ends_connection(fault) {
        response.end_connection();
    }
    let (content_type, body) = body_of(exchange, fault);
    let reply = Reply { content_type, ..Reply::fault(fault, &body, exchange.allow) };
    send(exchange.core, &exchange.own(), &reply, response).await
}

/// The body of a fault in the form that the client understands, and its media type.
fn body_of(exchange: &Exchange<'_>, fault: Fault) -> (&'static str, Vec<u8>) {
    let id = exchange.identity.request_id();
    if exchange.is_of_s3_client {
        (XML, s3_fault_body(fault, id))
    } else {
        (JSON, fault_body(fault, id))
    }
}

/// A response of our own with content that S3's answers were made into.
#[derive(Clone, Copy, Debug)]
pub(super) struct Document<'d> {
    pub(super) content_type: &'static str,
    /// For a page that browsers show.
    pub(super) content_security_policy: Option<&'static str>,
    /// Set if the form depends on the client's `Accept`.
    pub(super) varies: bool,
    pub(super) body: &'d [u8],
}

impl Document<'_> {
    /// XML without content.
    pub(super) const XML: Self =
        Self { content_type: XML, content_security_policy: None, varies: false, body: b"" };
}

/// Responds with a document.
pub(super) async fn document(
    exchange: &Exchange<'_>,
    document: &Document<'_>,
    response: &mut impl ResponseWriter,
) -> Outcome {
    response.begin(200, reason_phrase(200).as_bytes());
    response.field("Date", &exchange.core.dates.http());
    response.field("Content-Type", document.content_type.as_bytes());
    // What is listed may change at any time, and depends on who asks.
    response.field("Cache-Control", b"no-store");
    response.field("X-Content-Type-Options", b"nosniff");
    if let Some(policy) = document.content_security_policy {
        response.field("Content-Security-Policy", policy.as_bytes());
        response.field("Referrer-Policy", b"no-referrer");
    }
    let vary: &[u8] = if document.varies { b"Accept" } else { b"" };
    add_own_fields(&OwnFields { vary, ..exchange.own() }, response);
    let length = document.body.len() as u64;
    response.end_head(BodyLength::Fixed(length), Some(length));
    finish(200, "", document.body, response).await
}

/// Responds with a fault in place of an error of S3, with these fields of it.
pub(super) async fn hidden(
    exchange: &Exchange<'_>,
    status: u16,
    kept: &[u8],
    vary: &[u8],
    response: &mut impl ResponseWriter,
) -> Outcome {
    let fault = Fault::Hidden(status);
    let (content_type, body) = body_of(exchange, fault);
    let reply = Reply { content_type, kept, ..Reply::fault(fault, &body, exchange.allow) };
    send(exchange.core, &OwnFields { vary, ..exchange.own() }, &reply, response).await
}

/// Responds to OPTIONS.
pub(super) async fn options(
    exchange: &Exchange<'_>,
    response: &mut impl ResponseWriter,
) -> Outcome {
    send(exchange.core, &exchange.own(), &Reply::options(exchange.allow), response).await
}

/// Responds to the question of a browser that comes before an actual request
/// (<https://fetch.spec.whatwg.org/#cors-preflight-fetch>). The status is a good one even if
/// nothing is allowed: the fields say so, and browsers report what is missing among them.
pub(super) async fn preflight(
    exchange: &Exchange<'_>,
    response: &mut impl ResponseWriter,
) -> Outcome {
    let own = OwnFields { kind: Kind::Preflight, ..exchange.own() };
    send(exchange.core, &own, &Reply::options(exchange.allow), response).await
}

/// Sends the client to the same target over TLS, on this port (RFC 9110 section 15.4.9).
pub(super) async fn redirect(
    exchange: &Exchange<'_>,
    port: u16,
    response: &mut impl ResponseWriter,
) -> Outcome {
    let request = exchange.request;
    let mut location = exchange.core.buffers.scratch();
    location.extend_from_slice(b"https://");
    location.extend_from_slice(request.host_name());
    if port != HTTPS_PORT {
        location.push(b':');
        append_decimal(u64::from(port), &mut location);
    }
    location.extend_from_slice(request.path());
    if let Some(query) = request.query() {
        location.push(b'?');
        location.extend_from_slice(query);
    }
    // Where TLS is offered may change.
    moved(exchange, &location, response).await
}

/// Sends the client from a canonical path to the directory of that name.
pub(super) async fn redirect_to_directory(
    exchange: &Exchange<'_>,
    path: &[u8],
    response: &mut impl ResponseWriter,
) -> Outcome {
    let mut location = exchange.core.buffers.scratch();
    append_directory_location(path, exchange.request.query(), &mut location);
    // An object of that name may come.
    moved(exchange, &location, response).await
}

/// Sends the client to another place, for this time only.
async fn moved(
    exchange: &Exchange<'_>,
    location: &[u8],
    response: &mut impl ResponseWriter,
) -> Outcome {
    response.begin(308, reason_phrase(308).as_bytes());
    response.field("Date", &exchange.core.dates.http());
    response.field("Location", location);
    response.field("Cache-Control", b"no-store");
    add_own_fields(&exchange.own(), response);
    response.end_head(BodyLength::Fixed(0), Some(0));
    finish(308, "", b"", response).await
}

/// Responds with a page of this process: health, metrics, or what the control plane said.
pub(super) async fn page(
    exchange: &Exchange<'_>,
    page: &CallReply,
    response: &mut impl ResponseWriter,
) -> Outcome {
    let reply = Reply {
        status: page.status,
        code: page.code,
        content_type: page.content_type,
        body: &page.body,
        fault: None,
        allow: exchange.allow,
        kept: b"",
    };
    send(exchange.core, &exchange.own(), &reply, response).await
}

/// Responds to a request that could not be read, and ends the connection.
pub(super) async fn refusal(
    core: &Core,
    is_tls: bool,
    id: &[u8],
    fault: Fault,
    response: &mut impl ResponseWriter,
) -> Outcome {
    let body = fault_body(fault, id);
    begin_refusal(core, is_tls, id, fault, &body, response);
    finish(fault.status(), fault.code(), &body, response).await
}

/// Begins the response to a request that could not be read, with the body of this fault.
pub(super) fn begin_refusal(
    core: &Core,
    is_tls: bool,
    id: &[u8],
    fault: Fault,
    body: &[u8],
    response: &mut impl ResponseWriter,
) {
    // No request has looked at the clock for this response.
    core.dates.unix_seconds(core.reactor.clock.refresh());
    response.end_connection();
    let local = &core.current();
    let own = OwnFields {
        id,
        local,
        core,
        request: None,
        site: local.elsewhere.as_deref(),
        kind: Kind::Own,
        vary: b"",
        is_tls,
    };
    begin(core, &own, &Reply::fault(fault, body, ALLOW), response);
}

struct Reply<'r> {
    status: u16,
    code: &'static str,
    content_type: &'r str,
    body: &'r [u8],
    fault: Option<Fault>,
    allow: &'static str,
    /// Field lines of S3.
    kept: &'r [u8],
}

impl<'r> Reply<'r> {
    fn options(allow: &'static str) -> Self {
        Self { status: 204, code: "", content_type: "", body: b"", fault: None, allow, kept: b"" }
    }

    fn fault(fault: Fault, body: &'r [u8], allow: &'static str) -> Self {
        Self {
            status: fault.status(),
            code: fault.code(),
            content_type: JSON,
            body,
            fault: Some(fault),
            allow,
            kept: b"",
        }
    }
}

async fn send(
    core: &Core,
    own: &OwnFields<'_>,
    reply: &Reply<'_>,
    response: &mut impl ResponseWriter,
) -> Outcome {
    begin(core, own, reply, response);
    finish(reply.status, reply.code, reply.body, response).await
}

fn begin(core: &Core, own: &OwnFields<'_>, reply: &Reply<'_>, response: &mut impl ResponseWriter) {
    response.begin(reply.status, reason_phrase(reply.status).as_bytes());
    response.field_lines().0.extend_from_slice(reply.kept);
    add_fields(core, reply, response);
    add_own_fields(own, response);
    let length = reply.body.len() as u64;
    response.end_head(BodyLength::Fixed(length), Some(length));
}

async fn finish(
    status: u16,
    code: &'static str,
    body: &[u8],
    response: &mut impl ResponseWriter,
) -> Outcome {
    let sent = send_body(body, response).await;
    let aborted = sent.err().map(|ClientGone| AbortedBy::Client);
    Outcome { status, code, bytes: response.body_bytes(), upstream_ns: None, aborted }
}

/// The outcome of a response with this status that was recalled while it was sent.
pub(super) fn recalled(status: u16, response: &mut impl ResponseWriter) -> Outcome {
    response.give_up();
    let bytes = response.body_bytes();
    Outcome { status, code: "", bytes, upstream_ns: None, aborted: Some(AbortedBy::Client) }
}

async fn send_body(body: &[u8], response: &mut impl ResponseWriter) -> Result<(), ClientGone> {
    if response.has_body() {
        for part in body.chunks(PART_BYTES) {
            response.write(part).await?;
        }
    }
    response.finish().await
}

fn add_fields(core: &Core, reply: &Reply<'_>, response: &mut impl ResponseWriter) {
    response.field("Date", &core.dates.http());
    match reply.fault {
        Some(Fault::MissingToken | Fault::SignedRequest) => {
            response.field("WWW-Authenticate", b"Bearer");
        }
        // RFC 6750 section 3.1
        Some(Fault::InvalidToken(_)) => {
            response.field("WWW-Authenticate", b"Bearer error=\"invalid_token\"");
        }
        Some(Fault::ClaimsRefused) => {
            response.field("WWW-Authenticate", b"Bearer error=\"insufficient_scope\"");
        }
        Some(Fault::MethodNotAllowed) => response.field("Allow", reply.allow.as_bytes()),
        Some(
            Fault::NoReply
            | Fault::OutOfDescriptors
            | Fault::TooManyConnections
            | Fault::TooManyListings
            | Fault::TooManyScrapes
            | Fault::ShuttingDown,
        ) => response.field("Retry-After", b"1"),
        _ => {}
    }
    if reply.status == 204 {
        response.field("Allow", reply.allow.as_bytes());
        return;
    }
    response.field("Content-Type", reply.content_type.as_bytes());
    // An error of the moment must not be served from a cache (RFC 9111 section 5.2.2.5).
    response.field("Cache-Control", b"no-store");
}

/// The JSON body of a fault. Nothing in it comes from a client but for the id, which a trusted
/// proxy may have given: visible ASCII.
pub(super) fn fault_body(fault: Fault, id: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(192 + id.len());
    for part in [
        br#"{"status":"error","code":""#.as_slice(),
        fault.code().as_bytes(),
        br#"","message":""#,
        fault.message().as_bytes(),
        br#"","request_id":""#,
    ] {
        body.extend_from_slice(part);
    }
    for byte in id {
        if matches!(byte, b'"' | b'\\') {
            body.push(b'\\');
        }
        body.push(*byte);
    }
    body.extend_from_slice(b"\"}\n");
    body
}

/// The body of a fault for an S3 client. Its code is one that S3 has, because clients know those
/// (Amazon S3 API Reference, "List of error codes"); the message is ours.
fn s3_fault_body(fault: Fault, id: &[u8]) -> Vec<u8> {
    let code = match fault {
        Fault::InvalidListQuery => "InvalidArgument",
        Fault::MethodNotAllowed => "MethodNotAllowed",
        Fault::NoKey | Fault::Hidden(404 | 410) => "NoSuchKey",
        Fault::Hidden(412) => "PreconditionFailed",
        Fault::Hidden(416) => "InvalidRange",
        _ => match fault.status() {
            401 | 403 => "AccessDenied",
            400..=499 => "InvalidRequest",
            503 => "SlowDown",
            _ => "InternalError",
        },
    };
    let mut body = Vec::with_capacity(256 + id.len());
    append_s3_error(code, fault.message(), &String::from_utf8_lossy(id), &mut body);
    body
}

/// True if the connection can't be trusted, or must not be used, after this fault.
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
            | Fault::PlainHttp
            | Fault::TooManyConnections
            | Fault::ShuttingDown
            | Fault::Internal
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s3_clients_are_told_codes_that_they_know() {
        for (fault, code) in [
            (Fault::Hidden(404), "NoSuchKey"),
            (Fault::Hidden(412), "PreconditionFailed"),
            (Fault::Hidden(416), "InvalidRange"),
            (Fault::Hidden(403), "AccessDenied"),
            (Fault::Hidden(400), "InvalidRequest"),
        ] {
            let body = String::from_utf8(s3_fault_body(fault, b"id")).unwrap();
            assert!(body.contains(&format!("<Code>{code}</Code>")), "{body}");
        }
    }

    #[test]
    fn every_fault_body_is_json_with_its_code() {
        let id = br#"a"b\c\"#;
        for fault in [Fault::NoRoute, Fault::InvalidToken("Authentication failed: Invalid token")] {
            let body: serde_json::Value = serde_json::from_slice(&fault_body(fault, id)).unwrap();
            assert_eq!(body["code"], fault.code());
            assert_eq!(body["status"], "error");
            assert_eq!(body["message"], fault.message());
            assert_eq!(body["request_id"], str::from_utf8(id).unwrap());
        }
    }
}
