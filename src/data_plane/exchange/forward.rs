//! An object: fetched from S3, and its response streamed to the client.

use crate::{
    data_plane::{
        core::Core,
        exchange::{
            client::{Cut, ResponseWriter},
            coding::Compression,
            context::Exchange,
            encoded::stream_encoded,
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
            body::{Body, Frame, Passage},
            error::{Kind, Phase, UpstreamError},
        },
    },
    model::limits::{ERROR_BODY_BYTES_MAX, OBJECT_KEY_BYTES_MAX},
    policy::{
        auth::{Permit, TokenCarrier as _},
        site::{
            documents::{Documents, Substitute},
            query::{AllowedQuery, selects},
        },
    },
    protocol::{
        http1::{Forwarded, ResponseHead, append_field},
        s3::{
            CredentialProblem, credential_problem, error_body::may_be_credentials_error, error_code,
        },
    },
    system::buffers::{Buffers, Scratch},
    telemetry::access_log::AbortedBy,
};

/// Fields of an error of S3 that a client needs whatever is sent in its place: the methods with 405
/// and the length of the object with 416 (RFC 9110 sections 15.5.6 and 15.5.17), and the time to
/// come again.
const KEPT_OF_ERRORS: [(&str, &str); 3] =
    [("Allow", "allow"), ("Content-Range", "content-range"), ("Retry-After", "retry-after")];

/// The object that a path names.
#[derive(Clone, Copy, Debug)]
pub(super) struct NamedObject<'p> {
    /// The canonical path; behind that of a directory, the name of its index.
    pub(super) path: &'p [u8],
    /// Start of the key in it.
    pub(super) key_at: usize,
    /// Set if it is the index of a directory.
    pub(super) is_index: bool,
    /// Set if a page of the directory is sent where S3 has no such object.
    pub(super) is_optional: bool,
}

impl<'p> NamedObject<'p> {
    fn key(&self) -> &'p [u8] {
        self.path.get(self.key_at..).unwrap_or_default()
    }
}

/// The end of a request for an optional object that is missing: nothing was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Missing {
    /// Nanoseconds to the response of S3 that says so.
    pub(super) upstream_ns: Option<u64>,
}

/// The way of the body to the client. It does not go on unseen if something may compress it.
fn passage(response: &impl ResponseWriter, compression: Option<&Compression<'_>>) -> Passage {
    match response.passage() {
        Passage::Spliced if compression.is_some_and(Compression::may_encode) => Passage::Copied,
        passage => passage,
    }
}

/// Serves an object that the client may read.
///
/// # Errors
/// It is an optional one, and missing.
pub(super) fn forward(
    exchange: &Exchange<'_>,
    index: usize,
    object: NamedObject<'_>,
    permit: Permit,
    response: &mut impl ResponseWriter,
) -> impl Future<Output = Result<Outcome, Missing>> {
    async move {
        let core = exchange.core;
        let mut fields = core.buffers.scratch();
        let compression = Compression::of(exchange);
        let choice = compression.map(|compression| compression.choice());
        exchange.request.append_forwarded(&core.pseudonym, choice, &mut fields);
        let query = passed_query(exchange);
        let wanted = Wanted {
            target: Target::Object(object.key()),
            query: query.as_deref().map_or(&[], Vec::as_slice),
            is_head: exchange.request.is_head(),
            fields: &fields,
            client: Some(response.presence()),
            passage: passage(response, compression.as_ref()),
            notes: exchange.notes,
        };
        // What is rare or fails is in a box below, so that not every request has room for it. And
        // what is matched is not kept while something is waited for.
        let request = 'made: {
            let local = &exchange.request.local;
            let fault = match ObjectRequest::new(core, local, index, wanted, permit) {
                Ok(request) => break 'made request,
                Err(fault) => fault,
            };
            return Ok(Box::pin(respond::fault(exchange, fault, response)).await);
        };
        let mut upstream_ns = None;
        // Too large to be moved about.
        let mut head = ResponseHead::default();
        let mut fetched = 'fetched: {
            let error = match request.fetch(&mut head, &mut upstream_ns).await {
                Ok(fetched) => break 'fetched fetched,
                Err(error) => error,
            };
            let outcome = Box::pin(failed(exchange, &request, &error, response)).await;
            return Ok(Outcome { upstream_ns, ..outcome });
        };
        request.cells().record_upstream(head.status, upstream_ns.unwrap_or(0));
        let documents = exchange.documents().filter(|all| all.replace(head.status));
        let is_exact = documents.is_some() && exchange.request.query().is_some_and(selects);
        if object.is_optional
            && !is_exact
            && documents.is_some_and(|all| all.is_missing(head.status))
        {
            if Box::pin(read_beginning(&mut fetched.body)).await.is_ok() && !head.close {
                request.give_back(fetched.body);
            }
            return Err(Missing { upstream_ns });
        }
        let outcome = if let Some(documents) = documents {
            let replacement = Replacement { exchange, documents, object, is_exact, compression };
            let arrived = Arrived { head: &mut head, upstream_ns: &mut upstream_ns };
            Box::pin(replacement.respond(request, arrived, fetched, response)).await
        } else {
            let rules = (Changes::default(), compression);
            let outcome = relay(exchange, &request, &head, rules, &mut fetched, response).await;
            keep(&request, &head, &outcome, fetched);
            outcome
        };
        Ok(Outcome { upstream_ns, ..outcome })
    }
}

/// Parameters of the query that reach S3; none where the bucket lets nothing through.
fn passed_query<'x>(exchange: &Exchange<'x>) -> Option<Scratch<'x>> {
    let query = exchange.request.query()?;
    let allowed = exchange.site?.query?;
    Some(allowed_of(query, allowed, &exchange.core.buffers))
}

#[inline(never)]
fn allowed_of<'b>(query: &[u8], allowed: AllowedQuery, buffers: &'b Buffers) -> Scratch<'b> {
    let mut passed = buffers.scratch();
    allowed.append(query, &mut buffers.scratch(), &mut passed);
    passed
}

/// Counts and logs a failure, and responds to the client unless it is gone.
pub(super) async fn failed(
    exchange: &Exchange<'_>,
    request: &ObjectRequest<'_>,
    error: &UpstreamError,
    response: &mut impl ResponseWriter,
) -> Outcome {
    request.note(error);
    match error.fault() {
        Some(fault) => respond::fault(exchange, fault, response).await,
        None => gone(),
    }
}

/// Passes the response on.
fn relay(
    exchange: &Exchange<'_>,
    request: &ObjectRequest<'_>,
    head: &ResponseHead,
    (mut changes, compression): (Changes<'_>, Option<Compression<'_>>),
    fetched: &mut Fetched<'_>,
    response: &mut impl ResponseWriter,
) -> impl Future<Output = Outcome> {
    async move {
        if exchange.hides(head.status) {
            return Box::pin(hide(exchange, request, head, fetched, response)).await;
        }
        let message = fetched.message();
        let cells = &request.cells().compression;
        let encoder = compression.and_then(|compression| {
            let Changes { status, ref mut coding, .. } = changes;
            compression.plan(exchange, cells, (head, message), status, coding)
        });
        let encoder = encoder.map(Box::new);
        add_head(exchange, head, message, request.key(), changes, response);
        let may_be_ours = request.bucket().signing.is_signed()
            && may_be_credentials_error(head.status)
            && response.has_body();
        let is_coded = may_be_ours && is_coded(head, message);
        let body = &mut fetched.body;

        let mut passed = Ok(());
        if may_be_ours {
            if is_coded {
                let error = UpstreamError::new(Kind::Malformed, Phase::Body);
                return Box::pin(failed(exchange, request, &error, response)).await;
            }
            passed = Box::pin(inspect(request, body, response)).await;
        }
        if passed.is_ok() {
            passed = match encoder {
                None => stream(exchange.core, body, response).await,
                Some(encoder) => {
                    Box::pin(stream_encoded(exchange.core, body, *encoder, cells, response)).await
                }
            };
        }
        let status = changes.status.unwrap_or(head.status);
        if passed.is_ok() {
            return whole(status, response);
        }
        Box::pin(conclude(exchange, request, status, passed, response)).await
    }
}

/// The outcome of a body that was passed on, or was not.
async fn conclude(
    exchange: &Exchange<'_>,
    request: &ObjectRequest<'_>,
    status: u16,
    passed: Result<(), Cut>,
    response: &mut impl ResponseWriter,
) -> Outcome {
    let aborted = match passed {
        Ok(()) => return whole(status, response),
        Err(Cut::Upstream(error)) if !response.start().is_made() => {
            return failed(exchange, request, &error, response).await;
        }
        Err(Cut::Client) => AbortedBy::Client,
        Err(Cut::Upstream(error)) => {
            request.note(&error);
            if error.is_client_gone() { AbortedBy::Client } else { AbortedBy::Upstream }
        }
        Err(Cut::Proxy) => AbortedBy::Proxy,
    };
    Outcome { aborted: Some(aborted), ..whole(status, response) }
}

/// The outcome of a body that was passed on.
fn whole(status: u16, response: &impl ResponseWriter) -> Outcome {
    Outcome { status, bytes: response.body_bytes(), ..Outcome::default() }
}

/// Keeps the connection of a response that was passed on, unless S3 ends it.
pub(super) fn keep<'r>(
    request: &ObjectRequest<'r>,
    head: &ResponseHead,
    outcome: &Outcome,
    fetched: Fetched<'r>,
) {
    if outcome.aborted.is_none() && !head.close {
        request.give_back(fetched.body);
    }
}

/// Returns true if the body is in a content coding. Nobody asked for one, and a coded error
/// document cannot be searched for our key id.
pub(super) fn is_coded(head: &ResponseHead, message: &[u8]) -> bool {
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
    refuse_credentials_error(request, &read.bytes).map_err(Cut::Upstream)?;
    if read.bytes.is_empty() { Ok(()) } else { Ok(response.write(&read.bytes).await?) }
}

/// The beginning of an error body.
struct Beginning {
    bytes: Vec<u8>,
    /// Set if nothing follows.
    is_whole: bool,
}

/// Reads an error body, but not much of one that is too long for S3.
async fn read_beginning(body: &mut Body<'_>) -> Result<Beginning, UpstreamError> {
    let mut bytes = Vec::new();
    while bytes.len() < ERROR_BODY_BYTES_MAX {
        match body.buffered()? {
            Frame::Data(frame) => bytes.extend_from_slice(body.bytes(frame)),
            Frame::End => return Ok(Beginning { bytes, is_whole: true }),
            Frame::Wait => body.wait(ERROR_BODY_BYTES_MAX).await?,
        }
    }
    Ok(Beginning { bytes, is_whole: false })
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

/// The fields of an error that the client needs whatever is sent in its place.
fn kept_of<'x>(exchange: &Exchange<'x>, head: &ResponseHead, message: &[u8]) -> Scratch<'x> {
    let mut kept = exchange.core.buffers.scratch();
    for (name, name_lower) in KEPT_OF_ERRORS {
        for value in head.header_values(message, name_lower.as_bytes()) {
            append_field(name, value, &mut kept);
        }
    }
    kept
}

/// Looks for a refusal of our own credentials in the body of any error, of which this is the
/// beginning.
fn refuse_ours(
    request: &ObjectRequest<'_>,
    status: u16,
    is_coded: bool,
    body: &[u8],
) -> Result<(), UpstreamError> {
    let may_be_ours = request.bucket().signing.is_signed() && may_be_credentials_error(status);
    match () {
        () if !may_be_ours || body.is_empty() => Ok(()),
        () if is_coded => Err(UpstreamError::new(Kind::Malformed, Phase::Body)),
        () => refuse_credentials_error(request, body),
    }
}

/// Responds in place of S3, whose error shall not be seen.
pub(super) async fn hide(
    exchange: &Exchange<'_>,
    request: &ObjectRequest<'_>,
    head: &ResponseHead,
    fetched: &mut Fetched<'_>,
    response: &mut impl ResponseWriter,
) -> Outcome {
    let message = fetched.message();
    let kept = kept_of(exchange, head, message);
    let is_coded = is_coded(head, message);
    let read = read_beginning(&mut fetched.body).await;
    let refused = read.and_then(|read| refuse_ours(request, head.status, is_coded, &read.bytes));
    match refused {
        Ok(()) => respond::hidden(exchange, head.status, &kept, b"", response).await,
        Err(error) => failed(exchange, request, &error, response).await,
    }
}

/// A document in place of an error of S3.
#[derive(Clone, Copy)]
struct Replacement<'s> {
    exchange: &'s Exchange<'s>,
    documents: &'s Documents,
    object: NamedObject<'s>,
    /// Set if a version or a part is asked for: nothing but an error page takes its place.
    is_exact: bool,
    compression: Option<Compression<'s>>,
}

/// Head of the last response of S3, and the nanoseconds that all responses took so far.
struct Arrived<'a> {
    head: &'a mut ResponseHead,
    upstream_ns: &'a mut Option<u64>,
}

impl Arrived<'_> {
    /// Sends another request and reads the head of its response.
    async fn fetch<'r>(
        &mut self,
        request: &ObjectRequest<'r>,
    ) -> Result<Fetched<'r>, UpstreamError> {
        self.head.reset();
        let mut ns = None;
        let fetched = request.fetch(self.head, &mut ns).await;
        let ns = ns.unwrap_or(0);
        *self.upstream_ns = Some(self.upstream_ns.unwrap_or(0) + ns);
        if fetched.is_ok() {
            request.cells().record_upstream(self.head.status, ns);
        }
        fetched
    }
}

/// An error of S3 that is sent unless a document takes its place. Its head is with the response
/// writer, which sends nothing yet, unless it shall not be seen.
struct Waiting<'r> {
    status: u16,
    is_hidden: bool,
    /// Fields that are sent with what takes its place.
    kept: Scratch<'r>,
    varies_with_accept: bool,
    bytes: Vec<u8>,
    /// Rest of a long body, which was not read.
    rest: Option<Body<'r>>,
}

impl<'s> Replacement<'s> {
    /// Responds to an error of S3: with a redirect to the directory of that name, with the document
    /// of an application or an error page, or with the error itself.
    async fn respond<'r>(
        self,
        request: ObjectRequest<'r>,
        mut arrived: Arrived<'_>,
        fetched: Fetched<'r>,
        response: &mut impl ResponseWriter,
    ) -> Outcome
    where
        's: 'r,
    {
        let Self { exchange, documents, object, is_exact, compression } = self;
        let waiting = match self.hold(&request, arrived.head, fetched, response).await {
            Ok(waiting) => waiting,
            Err(error) => return failed(exchange, &request, &error, response).await,
        };
        let status = waiting.status;
        let buffers = &exchange.core.buffers;
        let (mut key, mut via, mut fields) =
            (buffers.scratch(), buffers.scratch(), buffers.scratch());
        let (client, notes) = (Some(response.presence()), exchange.notes);
        // Only shorter-lived requests from here on.
        let mut request: ObjectRequest<'_> = request;
        let may_be_directory = !object.is_index && !is_exact;
        if let Some(index) = documents.index_to_look_for(status).filter(|_| may_be_directory) {
            for part in [object.key(), b"/", index] {
                key.extend_from_slice(part);
            }
            self.append_fields(|_| false, &mut via);
            let target = Target::Object(&key);
            let wanted = Wanted {
                target,
                query: b"",
                is_head: true,
                fields: &via,
                client,
                passage: Passage::Copied,
                notes,
            };
            request = request.followed_by(wanted);
            if key.len() <= OBJECT_KEY_BYTES_MAX {
                match exists(&request, &mut arrived).await {
                    Ok(true) => {
                        let path = object.path;
                        return respond::redirect_to_directory(exchange, path, response).await;
                    }
                    Ok(false) => {}
                    Err(error) if error.is_client_gone() => return gone(),
                    Err(error) => request.note(&error),
                }
            }
        }
        let accept = exchange.request.values(b"accept").filter(|_| !is_exact);
        if let Some(substitute) = documents.substitute(status, object.key(), accept) {
            let is_application = matches!(substitute, Substitute::Application(_));
            // A validator says what a client has of the document, wherever it was found. Nothing
            // but the whole page goes with the status of an error (RFC 9110 sections 13.2.1 and
            // 14.2).
            let passes = |field| is_application && field == Forwarded::IfNoneMatch;
            self.append_fields(passes, &mut fields);
            let target = Target::Object(substitute.key());
            let is_head = exchange.request.is_head();
            let passage = passage(response, compression.as_ref());
            let wanted =
                Wanted { target, query: b"", is_head, fields: &fields, client, passage, notes };
            request = request.followed_by(wanted);
            match arrived.fetch(&request).await {
                Ok(fetched) if substitute.is_found(arrived.head.status) => {
                    let changes = Changes {
                        status: (!is_application).then_some(status),
                        kept: &waiting.kept,
                        varies_with_accept: waiting.varies_with_accept,
                        ..Changes::default()
                    };
                    let rules = (changes, compression);
                    return relay_all(exchange, &request, arrived.head, rules, fetched, response)
                        .await;
                }
                Ok(fetched) => discard(&request, arrived.head, fetched.body).await,
                Err(error) if error.is_client_gone() => return gone(),
                Err(error) => request.note(&error),
            }
        }
        waiting.send(exchange, &request, response).await
    }

    /// Keeps an error of S3 back, and frees its connection for the next request.
    ///
    /// # Errors
    /// It is about our credentials, or it did not arrive, or the client left.
    async fn hold<'r>(
        &self,
        request: &ObjectRequest<'r>,
        head: &ResponseHead,
        mut fetched: Fetched<'r>,
        response: &mut impl ResponseWriter,
    ) -> Result<Waiting<'r>, UpstreamError>
    where
        's: 'r,
    {
        let exchange = self.exchange;
        let status = head.status;
        let message = fetched.message();
        let varies_with_accept = self.documents.varies_with_accept(status);
        let is_hidden = exchange.hides(status);
        let kept = kept_of(exchange, head, message);
        if !is_hidden {
            let changes = Changes { varies_with_accept, ..Changes::default() };
            add_head(exchange, head, message, request.key(), changes, response);
        }
        let is_coded = is_coded(head, message);
        let Beginning { bytes, is_whole } = read_beginning(&mut fetched.body).await?;
        refuse_ours(request, status, is_coded, &bytes)?;
        let rest = if is_whole {
            if !head.close {
                request.give_back(fetched.body);
            }
            None
        } else {
            Some(fetched.body)
        };
        Ok(Waiting { status, is_hidden, kept, varies_with_accept, bytes, rest })
    }

    fn append_fields(&self, passes: impl Fn(Forwarded) -> bool, fields: &mut Vec<u8>) {
        let Exchange { request, core, .. } = self.exchange;
        let choice = self.compression.map(|compression| compression.choice());
        request.append_forwarded_of(passes, &core.pseudonym, choice, fields);
    }
}

impl Waiting<'_> {
    async fn send(
        self,
        exchange: &Exchange<'_>,
        request: &ObjectRequest<'_>,
        response: &mut impl ResponseWriter,
    ) -> Outcome {
        let Self { status, is_hidden, kept, varies_with_accept, bytes, mut rest } = self;
        if is_hidden {
            let vary: &[u8] = if varies_with_accept { b"Accept" } else { b"" };
            return respond::hidden(exchange, status, &kept, vary, response).await;
        }
        let passed = pass(exchange.core, &bytes, rest.as_mut(), response).await;
        conclude(exchange, request, status, passed, response).await
    }
}

/// Passes on what was read of a body, and the rest of it.
async fn pass(
    core: &Core,
    read: &[u8],
    rest: Option<&mut Body<'_>>,
    response: &mut impl ResponseWriter,
) -> Result<(), Cut> {
    if response.has_body() && !read.is_empty() {
        response.write(read).await?;
    }
    match rest {
        Some(body) => stream(core, body, response).await,
        None => Ok(response.finish().await?),
    }
}

/// Passes a response on, and keeps its connection.
async fn relay_all<'r>(
    exchange: &Exchange<'_>,
    request: &ObjectRequest<'r>,
    head: &ResponseHead,
    rules: (Changes<'_>, Option<Compression<'_>>),
    mut fetched: Fetched<'r>,
    response: &mut impl ResponseWriter,
) -> Outcome {
    let outcome = relay(exchange, request, head, rules, &mut fetched, response).await;
    keep(request, head, &outcome, fetched);
    outcome
}

/// Returns true if S3 has what a HEAD request asks for.
async fn exists(
    request: &ObjectRequest<'_>,
    arrived: &mut Arrived<'_>,
) -> Result<bool, UpstreamError> {
    let fetched = arrived.fetch(request).await?;
    let status = arrived.head.status;
    discard(request, arrived.head, fetched.body).await;
    Ok(status == 200)
}

/// Keeps the connection of a response that is not sent, if little of its body is left.
async fn discard<'r>(request: &ObjectRequest<'r>, head: &ResponseHead, mut body: Body<'r>) {
    let read = read_beginning(&mut body).await;
    if read.is_ok_and(|read| read.is_whole) && !head.close {
        request.give_back(body);
    }
}

/// The outcome for a client that left.
fn gone() -> Outcome {
    Outcome { aborted: Some(AbortedBy::Client), ..Outcome::default() }
}
