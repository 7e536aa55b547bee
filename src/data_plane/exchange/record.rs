//! Counting and logging a request once it is over.

use std::{borrow::Cow, net::SocketAddr};

use crate::{
    data_plane::{
        core::Core,
        exchange::{builtin::Builtin, context::Exchange, decision::Decision, outcome::Outcome},
        fetch::notes::Notes,
    },
    handoff::message::DrainStep,
    model::Fault,
    protocol::http1::{BegunRequest, Method, Version},
    system::{
        clock::Monotonic,
        tls::{Negotiated, TlsVersion},
    },
    telemetry::{
        access_log::{AbortedBy, AccessLogRules, AccessRecord, More, Needs, TlsFacts},
        labels::Method as MethodLabel,
    },
};

/// Counts and logs a request that is over, whose response began at `first_byte` where that was
/// asked for.
pub(crate) fn finish(
    exchange: &Exchange<'_>,
    decision: &Decision,
    outcome: &Outcome,
    first_byte: Option<Monotonic>,
) {
    let Exchange { core, request, .. } = exchange;
    let local = &request.local;
    let now = core.reactor.clock.refresh();
    let duration = now.since(exchange.started);
    let method = request.method_name();
    let label = label_of(request.method());
    let bucket = decision.bucket.and_then(|index| local.buckets.get(index));
    match decision.bucket.and_then(|index| local.cells_of(index, core.worker)) {
        Some(cells) => cells.record_request(label, outcome.status, duration, outcome.bytes),
        None => core.cells.unrouted.record(label, outcome.status, duration, outcome.bytes),
    }
    if outcome.status == 400 && !outcome.code.is_empty() {
        let (peer, id) = (request.peer, exchange.identity.request_id());
        log_refusal(core, peer, id, outcome, reason_of(decision, outcome.code));
    }
    if let Some(rules) = &local.access_log
        && (!rules.is_selective() || is_logged(core, rules, decision, outcome))
    {
        let s3_request_id = exchange.notes.and_then(Notes::request_id);
        let needs_more = rules.needs() != Needs::NOTHING;
        let more =
            needs_more.then(|| more_of(exchange, decision, first_byte, s3_request_id.as_deref()));
        core.access_log.borrow_mut().push(
            rules,
            &AccessRecord {
                unix_ms: core.dates.unix_millis(now),
                request_id: exchange.identity.request_id(),
                trace_id: exchange.identity.trace_id(),
                parent_id: exchange.identity.parent_id(),
                client: exchange.identity.client,
                peer: request.peer.into(),
                tls: request.tls.map(facts_of),
                protocol: Some(request.head.version.name()),
                method,
                path: request.path(),
                bucket: bucket.map_or("", |bucket| &bucket.name),
                credentials: bucket.map_or("", |bucket| bucket.signing.source_name()),
                status: outcome.status,
                code: outcome.code,
                auth_reason: decision.auth_reason,
                bytes: outcome.bytes,
                duration_us: duration / 1_000,
                upstream_us: outcome.upstream_ns.map(|ns| ns / 1_000),
                generation: local.generation.0,
                sub: decision.subject.as_deref(),
                aborted: aborted_by(core, outcome),
                more: more.as_ref(),
            },
        );
    }
}

fn label_of(method: Method) -> MethodLabel {
    match method {
        Method::Get => MethodLabel::Get,
        Method::Head => MethodLabel::Head,
        Method::Options => MethodLabel::Options,
        Method::Other => MethodLabel::Other,
    }
}

/// Returns true if the request is one of those that have a line.
fn is_logged(core: &Core, rules: &AccessLogRules, decision: &Decision, outcome: &Outcome) -> bool {
    let endpoint = decision.builtin.and_then(Builtin::skipped_as);
    !endpoint.is_some_and(|endpoint| rules.skips(endpoint))
        && core.access_log.borrow_mut().samples(rules, outcome.status, outcome.aborted.is_some())
}

/// The side that cut a response short. At the end of the process that is this one, although a
/// client that leaves looks the same to what waits for it.
fn aborted_by(core: &Core, outcome: &Outcome) -> Option<AbortedBy> {
    let by = outcome.aborted?;
    Some(if core.open.step() >= DrainStep::Ending { AbortedBy::Proxy } else { by })
}

/// The facts about a request for lines with more than the usual fields.
#[inline(never)]
fn more_of<'m>(
    exchange: &Exchange<'m>,
    decision: &'m Decision,
    first_byte: Option<Monotonic>,
    s3_request_id: Option<&'m [u8]>,
) -> More<'m> {
    let Exchange { request, notes, .. } = exchange;
    let bucket = decision.bucket.and_then(|index| request.local.buckets.get(index));
    let mut forwarded = request.values(b"x-forwarded-for");
    let x_forwarded_for = match (forwarded.next(), forwarded.next()) {
        (None, _) => None,
        (Some(one), None) => Some(Cow::Borrowed(one)),
        // Lines of one field are one list (RFC 9110 section 5.3).
        (Some(first), Some(second)) => {
            let all: Vec<_> = [first, second].into_iter().chain(forwarded).collect();
            Some(Cow::Owned(all.join(&b", "[..])))
        }
    };
    More {
        route: bucket.map_or("", |bucket| &bucket.path_prefix),
        host: request.head.host.of(request.bytes),
        user_agent: request.values(b"user-agent").next(),
        referer: request.values(b"referer").next(),
        x_forwarded_for,
        range: request.values(b"range").next(),
        upstream_address: notes.and_then(Notes::address),
        upstream_status: notes.and_then(Notes::status),
        attempts: notes.map_or(0, Notes::attempts),
        s3_request_id,
        first_byte_us: first_byte.map(|at| at.since(exchange.started) / 1_000),
        key_id: decision.key_id.as_deref(),
    }
}

/// Refusal of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(crate) fault: Fault,
    /// The reason, in words for the log. It holds nothing that the client sent.
    pub(crate) reason: &'static str,
}

/// A head that could not be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RefusedHead<'h> {
    pub(crate) refusal: Refusal,
    /// The version, where another layer told it.
    pub(crate) version: Option<Version>,
    /// As much of it as has arrived.
    pub(crate) arrived: &'h [u8],
}

/// The reason for a refusal of this code, in words.
fn reason_of(decision: &Decision, code: &'static str) -> &'static str {
    if !decision.reason.is_empty() {
        return decision.reason;
    }
    if code == Fault::BadRequest.code() {
        // The head was good.
        return "the body of the request is malformed, or ended early";
    }
    if code == Fault::QueryNotSupported.code() {
        return "the query asks for something else than the object, which allow_query of the bucket \
                does not let through";
    }
    let fault = Fault::ALL.iter().find(|fault| fault.code() == code);
    fault.map_or(code, |fault| fault.message())
}

/// Logs why a request was refused, for whoever looks for a fault.
fn log_refusal(core: &Core, peer: SocketAddr, id: &[u8], outcome: &Outcome, reason: &str) {
    let Outcome { status, code, .. } = *outcome;
    tracing::debug!(
        worker = core.worker,
        %peer,
        request_id = &*String::from_utf8_lossy(id),
        status,
        code,
        reason,
        "a request was refused"
    );
}

/// Counts and logs a head that could not be read.
pub(super) fn refused_head(
    core: &Core,
    (peer, tls): (SocketAddr, Option<&Negotiated>),
    refused: &RefusedHead<'_>,
    id: &[u8],
    outcome: &Outcome,
) {
    let RefusedHead { refusal, version, arrived } = *refused;
    let begun = BegunRequest::of(arrived);
    log_refusal(core, peer, id, outcome, refusal.reason);
    let local = core.current();
    core.cells.unrouted.record(MethodLabel::Other, outcome.status, 0, outcome.bytes);
    if let Some(rules) = &local.access_log {
        core.access_log.borrow_mut().push(
            rules,
            &AccessRecord {
                unix_ms: core.dates.unix_millis(core.reactor.clock.refresh()),
                request_id: id,
                trace_id: id,
                parent_id: None,
                client: peer.into(),
                peer: peer.into(),
                tls: tls.map(facts_of),
                protocol: version.map(Version::name),
                method: begun.method,
                path: begun.path,
                bucket: "",
                credentials: "",
                status: outcome.status,
                code: outcome.code,
                auth_reason: "",
                bytes: outcome.bytes,
                duration_us: 0,
                upstream_us: None,
                generation: local.generation.0,
                sub: None,
                aborted: aborted_by(core, outcome),
                more: None,
            },
        );
    }
}

fn facts_of(tls: &Negotiated) -> TlsFacts<'_> {
    TlsFacts {
        version: match tls.version {
            TlsVersion::Tls12 => "TLSv1.2",
            TlsVersion::Tls13 => "TLSv1.3",
        },
        cipher: tls.cipher,
        sni: tls.sni.as_deref(),
    }
}
