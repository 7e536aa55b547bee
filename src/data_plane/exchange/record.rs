//! Counting and logging a request once it is over.

use std::net::SocketAddr;

use crate::{
    data_plane::{
        core::Core,
        exchange::{context::Exchange, decision::Decision, outcome::Outcome},
    },
    protocol::http1::Version,
    system::tls::{Negotiated, TlsVersion},
    telemetry::{
        access_log::{AccessRecord, TlsFacts},
        labels::Method as MethodLabel,
    },
};

/// Counts and logs a request that is over.
pub(crate) fn finish(exchange: &Exchange<'_>, decision: &Decision, outcome: &Outcome) {
    let Exchange { core, request, .. } = exchange;
    let local = &request.local;
    let now = core.reactor.clock.refresh();
    let duration = now.since(exchange.started);
    let method = request.method_name();
    let label = MethodLabel::from_token(method);
    let bucket = decision.bucket.and_then(|index| local.buckets.get(index));
    match decision.bucket.and_then(|index| local.cells_of(index, core.worker)) {
        Some(cells) => cells.record_request(label, outcome.status, duration, outcome.bytes),
        None => core.cells.unrouted.record(label, outcome.status, duration, outcome.bytes),
    }
    if local.access_log {
        core.access_log.borrow_mut().push(&AccessRecord {
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
            aborted: outcome.aborted,
        });
    }
}

/// Counts and logs a head that could not be read.
pub(super) fn refused_head(
    core: &Core,
    (peer, tls): (SocketAddr, Option<&Negotiated>),
    version: Option<Version>,
    id: &[u8],
    outcome: &Outcome,
) {
    let local = core.current();
    core.cells.unrouted.record(MethodLabel::Other, outcome.status, 0, outcome.bytes);
    if local.access_log {
        core.access_log.borrow_mut().push(&AccessRecord {
            unix_ms: core.dates.unix_millis(core.reactor.clock.refresh()),
            request_id: id,
            trace_id: id,
            parent_id: None,
            client: peer.into(),
            peer: peer.into(),
            tls: tls.map(facts_of),
            protocol: version.map(Version::name),
            method: b"",
            path: b"",
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
            aborted: outcome.aborted,
        });
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
