//! An object: fetched from S3, and its response streamed to the client.

use crate::{
    data_plane::{
        exchange::{
            client::{Cut, ResponseWriter},
            context::Exchange,
            head::{Changes, add_head},
            outcome::Outcome,
            respond,
            stream::stream,
        },
        fetch::{
            attempt::Fetched,
            request::{ObjectRequest, Target, Wanted},
        },
        upstream::{
            body::{Body, Frame},
            error::{Kind, Phase, UpstreamError},
        },
    },
    model::limits::ERROR_BODY_BYTES_MAX,
    policy::auth::{Permit, TokenCarrier as _},
    protocol::{
        http1::{ResponseHead, append_field},
        s3::{
            CredentialProblem, credential_problem, error_body::may_be_credentials_error, error_code,
        },
    },
    system::buffers::Scratch,
};

/// Fields of an error of S3 that a client needs although the rest of it is hidden: the length of
/// the object with 416 (RFC 9110 section 15.5.17), and the time to come again.
const KEPT_OF_HIDDEN: [(&str, &str); 2] =
    [("Content-Range", "content-range"), ("Retry-After", "retry-after")];

/// Serves an object that the client may read.
pub(super) async fn forward(
    exchange: &Exchange<'_>,
    index: usize,
    key: &[u8],
    permit: Permit,
    response: &mut impl ResponseWriter,
) -> Outcome {
    let core = exchange.core;
    let mut fields = core.buffers.scratch();
    exchange.request.append_forwarded(&core.pseudonym, &mut fields);
    let query = passed_query(exchange);
    let wanted = Wanted {
        target: Target::Object(key),
        query: query.as_deref().map_or(&[], Vec::as_slice),
        is_head: exchange.request.is_head(),
        fields: &fields,
        client: Some(response.presence()),
    };
    let request = ObjectRequest::new(core, &exchange.request.local, index, wanted, permit);
    let request = match request {
        Ok(request) => request,
        Err(fault) => return respond::fault(exchange, fault, response).await,
    };
    let mut upstream_ns = None;
    // Too large to be moved about.
    let mut head = ResponseHead::default();
    let outcome = match request.fetch(&mut head, &mut upstream_ns).await {
        Ok(mut fetched) => {
            request.cells().record_upstream(head.status, upstream_ns.unwrap_or(0));
            let outcome = relay(exchange, &request, &head, &mut fetched, response).await;
            if !outcome.aborted && !head.close {
                request.give_back(fetched.body);
            }
            outcome
        }
        Err(error) => failed(exchange, &request, &error, response).await,
    };
    Outcome { upstream_ns, ..outcome }
}

/// Parameters of the query that reach S3; none where the bucket lets nothing through.
fn passed_query<'x>(exchange: &Exchange<'x>) -> Option<Scratch<'x>> {
    let query = exchange.request.query()?;
    let allowed = exchange.site?.query?;
    let buffers = &exchange.core.buffers;
    let mut passed = buffers.scratch();
    allowed.append(query, &mut buffers.scratch(), &mut passed);
    Some(passed)
}

/// Counts and logs a failure, and responds to the client unless it is gone.
async fn failed(
    exchange: &Exchange<'_>,
    request: &ObjectRequest<'_>,
    error: &UpstreamError,
    response: &mut impl ResponseWriter,
) -> Outcome {
    request.note(error);
    match error.fault() {
        Some(fault) => respond::fault(exchange, fault, response).await,
        None => Outcome { aborted: true, ..Outcome::default() },
    }
}

/// Passes the response on.
async fn relay(
    exchange: &Exchange<'_>,
    request: &ObjectRequest<'_>,
    head: &ResponseHead,
    fetched: &mut Fetched<'_>,
    response: &mut impl ResponseWriter,
) -> Outcome {
    if exchange.hides(head.status) {
        return hide(exchange, request, head, fetched, response).await;
    }
    let message = fetched.message();
    add_head(exchange, head, message, request.key(), Changes::default(), response);
    let may_be_ours = request.bucket().signing.is_signed()
        && may_be_credentials_error(head.status)
        && response.has_body();
    let is_coded = may_be_ours && is_coded(head, message);
    let body = &mut fetched.body;

    let mut passed = Ok(());
    if may_be_ours {
        if is_coded {
            let error = UpstreamError::new(Kind::Malformed, Phase::Body);
            return failed(exchange, request, &error, response).await;
        }
        passed = inspect(request, body, response).await;
    }
    if passed.is_ok() {
        passed = stream(exchange.core, body, response).await;
    }
    let aborted = match passed {
        Ok(()) => false,
        Err(Cut::Upstream(error)) if !response.is_started() => {
            return failed(exchange, request, &error, response).await;
        }
        Err(cut) => {
            if let Cut::Upstream(error) = cut {
                request.note(&error);
            }
            true
        }
    };
    let bytes = response.body_bytes();
    Outcome { status: head.status, bytes, aborted, ..Outcome::default() }
}

/// Returns true if the body is in a content coding. Nobody asked for one, and a coded error
/// document cannot be searched for our key id.
fn is_coded(head: &ResponseHead, message: &[u8]) -> bool {
    head.header_values(message, b"content-encoding")
        .any(|coding| !coding.eq_ignore_ascii_case(b"identity"))
}

/// Reads an error body far enough to see whose fault it is. What was read of one that is not about
/// our credentials is passed on.
///
/// # Errors
/// It is about our credentials, or it did not arrive, or the client left.
async fn inspect(
    request: &ObjectRequest<'_>,
    body: &mut Body<'_>,
    response: &mut impl ResponseWriter,
) -> Result<(), Cut> {
    let read = read_beginning(body).await.map_err(Cut::Upstream)?;
    refuse_credentials_error(request, &read).map_err(Cut::Upstream)?;
    if read.is_empty() { Ok(()) } else { Ok(response.write(&read).await?) }
}

/// Reads an error body, but not much of one that is too long for S3.
async fn read_beginning(body: &mut Body<'_>) -> Result<Vec<u8>, UpstreamError> {
    let mut bytes = Vec::new();
    while bytes.len() < ERROR_BODY_BYTES_MAX {
        match body.buffered()? {
            Frame::Data(frame) => bytes.extend_from_slice(body.bytes(frame)),
            Frame::End => break,
            Frame::Wait => body.wait(ERROR_BODY_BYTES_MAX).await?,
        }
    }
    Ok(bytes)
}

/// Looks for a refusal of our own credentials in an error body.
fn refuse_credentials_error(request: &ObjectRequest<'_>, body: &[u8]) -> Result<(), UpstreamError> {
    let kind = match error_code(body).and_then(credential_problem) {
        Some(CredentialProblem::Clock) => Kind::ClockSkew,
        Some(problem) => {
            request.note_refusal(problem);
            Kind::Credentials
        }
        None => return Ok(()),
    };
    Err(UpstreamError::new(kind, Phase::Body))
}

/// Responds in place of S3, whose error shall not be seen.
async fn hide(
    exchange: &Exchange<'_>,
    request: &ObjectRequest<'_>,
    head: &ResponseHead,
    fetched: &mut Fetched<'_>,
    response: &mut impl ResponseWriter,
) -> Outcome {
    let message = fetched.message();
    let mut kept = exchange.core.buffers.scratch();
    for (name, name_lower) in KEPT_OF_HIDDEN {
        for value in head.header_values(message, name_lower.as_bytes()) {
            append_field(name, value, &mut kept);
        }
    }
    let may_be_ours = request.bucket().signing.is_signed() && may_be_credentials_error(head.status);
    let is_coded = is_coded(head, message);
    let read = read_beginning(&mut fetched.body).await;
    let refused = read.and_then(|read| match () {
        () if !may_be_ours || read.is_empty() => Ok(()),
        () if is_coded => Err(UpstreamError::new(Kind::Malformed, Phase::Body)),
        () => refuse_credentials_error(request, &read),
    });
    match refused {
        Ok(()) => respond::hidden(exchange, head.status, &kept, response).await,
        Err(error) => failed(exchange, request, &error, response).await,
    }
}
