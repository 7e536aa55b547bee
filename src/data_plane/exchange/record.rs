//! What is counted and logged of a request once it is over.

use std::net::SocketAddr;

use crate::{
    data_plane::{
        core::{Core, generation::Local, request_ids::REQUEST_ID_CHARS},
        exchange::Exchange,
    },
    model::Fault,
    policy::auth::{Denial, DenialReason, Permit},
    telemetry::{
        access_log::AccessRecord,
        labels::{AuthFailure, Method as MethodLabel},
    },
};

/// What became of a request, filled in as it goes.
#[derive(Debug, Default)]
pub(crate) struct Record {
    /// Index of the bucket, once routed.
    pub(crate) bucket: Option<usize>,
    /// Status sent to the client; 0 when nothing was.
    pub(crate) status: u16,
    /// `code` of an answer of our own.
    pub(crate) code: &'static str,
    /// Why the token was refused, in full; empty if it was not.
    pub(crate) auth_reason: &'static str,
    /// Body bytes handed to the client's socket.
    pub(crate) bytes: u64,
    /// From the request being sent upstream to its first byte, in nanoseconds.
    pub(crate) upstream_ns: Option<u64>,
    /// Whether the connection ended before the answer was whole.
    pub(crate) aborted: bool,
    /// `sub` of the token, when the log is on.
    pub(crate) subject: Option<Box<str>>,
}

impl Record {
    /// Notes whose token let the request in.
    pub(crate) fn permitted(&mut self, core: &Core, local: &Local, permit: &Permit) {
        if let Some(key) = permit.key_index() {
            count_key_use(core, local, key);
        }
        if local.access_log {
            self.subject = permit.subject().map(Box::from);
        }
    }

    /// Notes why a request was not let in.
    pub(crate) fn denied(&mut self, core: &Core, local: &Local, denial: &Denial) {
        core.cells.auth_failures(failure_of(denial.reason)).inc();
        self.auth_reason = denial.reason.as_str();
        if local.access_log {
            self.subject = denial.subject.as_deref().map(Box::from);
        }
    }
}

/// Counts a token that the key of this index verified, so that an operator sees which keys are
/// still needed.
pub(crate) fn count_key_use(core: &Core, local: &Local, key: usize) {
    if let Some(slot) = local.key_slots.get(key) {
        core.cells.jwt_key_uses(*slot).inc();
    }
}

fn failure_of(reason: DenialReason) -> AuthFailure {
    match reason {
        DenialReason::MissingToken => AuthFailure::Missing,
        DenialReason::AdminClosed => AuthFailure::AdminClosed,
        DenialReason::Ambiguous
        | DenialReason::TooLong
        | DenialReason::Malformed
        | DenialReason::Critical => AuthFailure::Malformed,
        DenialReason::BadAlgorithm => AuthFailure::Algorithm,
        DenialReason::UnknownKey => AuthFailure::UnknownKey,
        DenialReason::BadSignature => AuthFailure::Signature,
        DenialReason::BadTime | DenialReason::MissingExpiry => AuthFailure::InvalidTime,
        DenialReason::Expired => AuthFailure::Expired,
        DenialReason::NotYetValid => AuthFailure::NotYetValid,
        DenialReason::BadIssuer => AuthFailure::Issuer,
        DenialReason::BadAudience => AuthFailure::Audience,
        DenialReason::Claims | DenialReason::Path => AuthFailure::Claims,
    }
}

/// Counts and logs a request that is over.
pub(crate) fn finish(exchange: &Exchange<'_>) {
    let core = exchange.core;
    let record = &exchange.record;
    let now = core.watches.clock.refresh();
    let duration = now.since(exchange.started);
    let method = exchange.head.method_span.of(exchange.bytes);
    let label = MethodLabel::from_token(method);
    let bucket = record.bucket.and_then(|index| exchange.local.buckets.get(index));
    match bucket.and_then(|bucket| bucket.cells.get(core.worker)) {
        Some(cells) => cells.record_request(label, record.status, duration, record.bytes),
        None => core.cells.unrouted.record(label, record.status, duration, record.bytes),
    }
    if exchange.local.access_log {
        core.access_log.borrow_mut().push(&AccessRecord {
            unix_ms: core.dates.unix_millis(now),
            request_id: &exchange.id,
            client: exchange.peer,
            method,
            path: exchange.head.path.of(exchange.bytes),
            bucket: bucket.map_or("", |bucket| &bucket.name),
            status: record.status,
            code: record.code,
            auth_reason: record.auth_reason,
            bytes: record.bytes,
            duration_us: duration / 1_000,
            upstream_us: record.upstream_ns.map(|ns| ns / 1_000),
            generation: exchange.local.generation.0,
            sub: record.subject.as_deref(),
            aborted: record.aborted,
        });
    }
}

/// Counts and logs a head that could not be read.
pub(crate) fn refused_head(
    core: &Core,
    peer: SocketAddr,
    fault: Fault,
    id: &[u8; REQUEST_ID_CHARS],
    bytes: u64,
    aborted: bool,
) {
    let local = core.current();
    core.cells.unrouted.record(MethodLabel::Other, fault.status(), 0, bytes);
    if local.access_log {
        core.access_log.borrow_mut().push(&AccessRecord {
            unix_ms: core.dates.unix_millis(core.watches.clock.refresh()),
            request_id: id,
            client: peer,
            method: b"",
            path: b"",
            bucket: "",
            status: fault.status(),
            code: fault.code(),
            auth_reason: "",
            bytes,
            duration_us: 0,
            upstream_us: None,
            generation: local.generation.0,
            sub: None,
            aborted,
        });
    }
}
