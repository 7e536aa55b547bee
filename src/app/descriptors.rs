//! The open-file limit, beside what a configuration may need of it.

use std::io;

use crate::{
    config::Settings,
    handoff::snapshot::Snapshot,
    model::limits::{ADMIN_CONNECTIONS_MAX, TLS_REFUSALS_MAX},
    system::splice::IDLE_DESCRIPTORS_MAX,
};

/// Descriptors that the process needs besides connections and workers: logs, channels, files.
const SPARE_DESCRIPTORS: u64 = 128;

/// Descriptors of a worker besides connections and pipes: listeners, inbox, timer, ring, epoll.
const DESCRIPTORS_PER_WORKER: usize = 16;

/// Descriptors that a connection may take: the client's, the upstream's, and the two ends of a pipe
/// while a body is moved inside the kernel.
const DESCRIPTORS_PER_CONNECTION: u64 = 4;

/// Descriptors that a request over HTTP/2 may take: the upstream's, for its body is not moved
/// inside the kernel.
const DESCRIPTORS_PER_STREAM: u64 = 1;

/// Warns if the limit is below what clients may make the process open: `server.max_connections` of
/// HTTP/1 and, where HTTP/2 is served, as many requests over that. One connection has room for many
/// of these, so nearly all of both can come together. On top of them those that are refused over
/// TLS, those to the admin listener, which need no S3, and those to S3 that are idle.
pub(super) fn check_descriptors(
    limit: io::Result<u64>,
    settings: &Settings,
    snapshot: &Snapshot,
    workers: usize,
) {
    let connections = settings.server.max_connections as u64;
    let idle_upstream = idle_upstream(snapshot, workers).min(connections);
    let of_workers = (workers * (DESCRIPTORS_PER_WORKER + IDLE_DESCRIPTORS_MAX)) as u64;
    let streams = if may_serve_http2(settings) { connections } else { 0 };
    let refusals = settings.server.tls.as_ref().map_or(0, |_| workers * TLS_REFUSALS_MAX) as u64;
    let of_admin = settings.admin.listen.map_or(0, |_| ADMIN_CONNECTIONS_MAX);
    let wanted = connections * DESCRIPTORS_PER_CONNECTION
        + streams * DESCRIPTORS_PER_STREAM
        + refusals
        + of_admin
        + idle_upstream
        + of_workers
        + SPARE_DESCRIPTORS;
    match limit {
        Ok(limit) if limit < wanted => tracing::warn!(
            open_file_limit = limit,
            wanted,
            max_connections = connections,
            idle_upstream,
            "the limit on open files is too low for server.max_connections"
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit on open files cannot be raised"),
    }
}

fn may_serve_http2(settings: &Settings) -> bool {
    let server = &settings.server;
    server.http2.cleartext || (server.http2.enabled && server.tls.is_some())
}

/// Idle connections that the pools of all cores and endpoints may keep.
fn idle_upstream(snapshot: &Snapshot, workers: usize) -> u64 {
    let mut most = vec![0; snapshot.endpoints.len()];
    for bucket in &snapshot.buckets {
        if let Some(most) = most.get_mut(bucket.endpoint) {
            *most = bucket.max_idle_connections.max(*most);
        }
    }
    most.into_iter().sum::<usize>() as u64 * workers as u64
}
