//! Every metric, once: name, type, labels, unit and meaning. The renderer takes them from here
//! and a test compares `docs/METRICS.md` with them.

/// Type of a metric (Prometheus metric types).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows; starts at zero with the process.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Cumulative buckets, sum and count.
    Histogram,
}

impl MetricKind {
    /// The word of the `# TYPE` line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Definition {
    /// Name of the metric family.
    pub name: &'static str,
    /// Type.
    pub kind: MetricKind,
    /// Label names, in the order they are written.
    pub labels: &'static [&'static str],
    /// Unit of the value.
    pub unit: &'static str,
    /// Meaning, one sentence.
    pub help: &'static str,
}

/// Declares the metrics as constants and lists them all, in the order of the page.
macro_rules! definitions {
    ($( $constant:ident: $kind:ident $name:literal [$($label:literal),*] $unit:literal, $help:literal; )+) => {
        $(
            #[doc = concat!("`", $name, "`: ", $help)]
            pub const $constant: Definition = Definition {
                name: $name,
                kind: MetricKind::$kind,
                labels: &[$($label),*],
                unit: $unit,
                help: $help,
            };
        )+

        /// All metrics, in the order of the page.
        pub const ALL: &[Definition] = &[$($constant),+];
    };
}

definitions! {
    CONFIG_RELOAD_SUCCESS: Counter "config_reload_success_total" [] "reloads",
        "Reloads that every worker acknowledged, or that changed nothing.";
    CONFIG_RELOAD_FAILURE: Counter "config_reload_failure_total" [] "reloads",
        "Reloads that were refused, or not acknowledged in time.";
    CONFIG_GENERATION: Gauge "config_generation" [] "generation",
        "Generation of the running configuration.";
    CONFIG_LAST_RELOAD_SUCCESSFUL: Gauge "config_last_reload_successful" [] "0 or 1",
        "Whether the last load or reload succeeded.";
    CONFIG_LAST_RELOAD_TIMESTAMP: Gauge "config_last_reload_timestamp_seconds" [] "seconds since 1970",
        "When the last successful load or reload finished.";
    CONFIG_RESTART_REQUIRED: Gauge "config_restart_required" [] "0 or 1",
        "Whether the file differs from the running process in keys that need a restart.";
    CONFIG_WORKER_GENERATION: Gauge "config_worker_generation" ["worker"] "generation",
        "Generation that each worker serves; 0 before its first.";
    HTTP_REQUESTS: Counter "yatagarasu_http_requests_total" ["bucket", "method", "status"] "requests",
        "Finished client requests by what the client was told.";
    HTTP_REQUEST_DURATION: Histogram "yatagarasu_http_request_duration_seconds" ["bucket"] "seconds",
        "Time from the end of a request's head to the last byte of its response.";
    HTTP_RESPONSE_BYTES: Counter "yatagarasu_http_response_bytes_total" ["bucket"] "bytes",
        "Response body bytes sent to clients.";
    COMPRESSED_RESPONSES: Counter "yatagarasu_compressed_responses_total" ["bucket", "coding"] "responses",
        "Responses whose bodies were compressed.";
    COMPRESSION_INPUT_BYTES: Counter "yatagarasu_compression_input_bytes_total" ["bucket", "coding"] "bytes",
        "Body bytes of S3 that were compressed.";
    COMPRESSION_OUTPUT_BYTES: Counter "yatagarasu_compression_output_bytes_total" ["bucket", "coding"] "bytes",
        "Bytes that they were compressed into.";
    COMPRESSION_SKIPPED: Counter "yatagarasu_compression_skipped_total" ["bucket"] "responses",
        "Responses that were not compressed because the encoders of the core held all their memory.";
    CONNECTIONS: Gauge "yatagarasu_connections" ["state"] "connections",
        "Open client connections.";
    CONNECTIONS_ACCEPTED: Counter "yatagarasu_connections_accepted_total" [] "connections",
        "Client connections accepted.";
    CONNECTIONS_REJECTED: Counter "yatagarasu_connections_rejected_total" ["reason"] "connections",
        "Client connections turned away, and accepts that failed.";
    TLS_HANDSHAKES: Counter "yatagarasu_tls_handshakes_total" ["version", "cipher", "resumed"] "handshakes",
        "TLS handshakes with clients; a resumed one continued an earlier session.";
    TLS_HANDSHAKE_FAILURES: Counter "yatagarasu_tls_handshake_failures_total" ["reason"] "handshakes",
        "TLS handshakes with clients that failed.";
    CLIENT_CONNECTIONS: Gauge "yatagarasu_client_connections" ["protocol"] "connections",
        "Open client connections by the protocol that they speak.";
    HTTP2_STREAMS: Gauge "yatagarasu_http2_streams" [] "streams",
        "Open HTTP/2 streams of clients.";
    HTTP2_REQUESTS: Counter "yatagarasu_http2_requests_total" [] "requests",
        "Requests that were started over HTTP/2.";
    HTTP2_RESETS: Counter "yatagarasu_http2_resets_total" ["reason"] "streams",
        "HTTP/2 streams that ended before their response did.";
    HTTP2_GOAWAYS: Counter "yatagarasu_http2_goaways_total" ["reason"] "connections",
        "HTTP/2 connections that the proxy told to end.";
    AUTH_FAILURES: Counter "yatagarasu_auth_failures_total" ["reason"] "requests",
        "Requests refused for their token or its claims.";
    AUTH_ENFORCED: Gauge "yatagarasu_auth_enforced" [] "0 or 1",
        "Whether JWT authentication is switched on.";
    JWT_KEY_USES: Counter "yatagarasu_jwt_key_uses_total" ["key"] "tokens",
        "Tokens accepted with each key; a key that stands still may be retired.";
    JWKS_AGE: Gauge "yatagarasu_jwks_age_seconds" ["provider"] "seconds",
        "Time since a provider was last known to publish the key set that is used.";
    JWKS_REFRESH: Counter "yatagarasu_jwks_refresh_total" ["provider", "result"] "renewals",
        "Renewals of the key set of a provider, by result: renewed, unchanged, failed.";
    UPSTREAM_REQUESTS: Counter "yatagarasu_upstream_requests_total" ["bucket", "status"] "requests",
        "Response heads received from S3, by status.";
    UPSTREAM_FIRST_BYTE: Histogram "yatagarasu_upstream_first_byte_seconds" ["bucket"] "seconds",
        "Time from a request being sent to S3 to the first byte of its response.";
    UPSTREAM_ERRORS: Counter "yatagarasu_upstream_errors_total" ["bucket", "reason"] "errors",
        "Failures of S3 or of the way to it.";
    UPSTREAM_CONNECTIONS: Gauge "yatagarasu_upstream_connections" ["bucket", "state"] "connections",
        "Open connections to S3; an idle one belongs to the bucket that used it last.";
    UPSTREAM_CONNECTS: Counter "yatagarasu_upstream_connects_total" [] "connections",
        "Connections to S3 that were established.";
    TLS_CERTIFICATE_EXPIRY: Gauge "yatagarasu_tls_certificate_expiry_timestamp_seconds" ["name"] "seconds since 1970",
        "End of the validity of each certificate in use, by the first DNS name in it.";
    TLS_CERTIFICATE_RENEWALS: Counter "yatagarasu_tls_certificate_renewals_total" ["result"] "renewals",
        "Changed certificate files that were put to use, and readings of files that could not be.";
    CREDENTIALS_EXPIRY: Gauge "yatagarasu_credentials_expiry_timestamp_seconds" ["source"]
        "seconds since 1970", "When the newest credentials of a source end.";
    CREDENTIALS_REFRESH: Counter "yatagarasu_credentials_refresh_total" ["source", "result"] "fetches",
        "Fetches of credentials from their source, by result.";
    ACCESS_LOG_DROPPED: Counter "yatagarasu_access_log_dropped_total" [] "lines",
        "Access-log lines lost because the file or pipe did not keep up or failed.";
    LOG_DROPPED: Counter "yatagarasu_log_dropped_total" [] "lines",
        "Lines of the process log lost because stderr did not keep up or failed.";
    WORKER_PANICS: Counter "yatagarasu_worker_panics_total" [] "panics",
        "Connection tasks that panicked; each closed its own connection only.";
    PROCESS_CPU: Counter "process_cpu_seconds_total" [] "seconds",
        "User and system CPU time of the process.";
    PROCESS_RESIDENT_MEMORY: Gauge "process_resident_memory_bytes" [] "bytes",
        "Resident memory of the process.";
    PROCESS_VIRTUAL_MEMORY: Gauge "process_virtual_memory_bytes" [] "bytes",
        "Virtual memory of the process.";
    PROCESS_OPEN_FDS: Gauge "process_open_fds" [] "descriptors",
        "Open file descriptors.";
    PROCESS_MAX_FDS: Gauge "process_max_fds" [] "descriptors",
        "Soft limit on open file descriptors.";
    PROCESS_START_TIME: Gauge "process_start_time_seconds" [] "seconds since 1970",
        "When the process started.";
    PROCESS_THREADS: Gauge "process_threads" [] "threads",
        "Threads of the process.";
    BUILD_INFO: Gauge "yatagarasu_build_info" ["version", "revision"] "always 1",
        "Version of the binary, and the commit that a release build was made from.";
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use super::*;
    use crate::{
        protocol::content_coding::Coding,
        telemetry::{
            cells::DURATION_BOUNDS_US,
            labels::{
                AuthFailure, ConnectionState, Http2GoAway, Http2Reset, Method, RejectReason,
                TlsCipher, TlsFailure, UpstreamErrorReason, status_label, status_slot,
            },
        },
    };

    const PAGE: &str = include_str!("../../docs/METRICS.md");

    #[test]
    fn names_are_unique_and_legal() {
        let mut seen = HashSet::new();
        for definition in ALL {
            assert!(
                ["yatagarasu_", "config_", "process_"]
                    .iter()
                    .any(|prefix| definition.name.starts_with(prefix)),
                "{} has no prefix",
                definition.name
            );
            assert!(seen.insert(definition.name), "{} twice", definition.name);
            for name in definition.labels.iter().chain([&definition.name]) {
                let is_legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
                assert!(name.bytes().all(is_legal), "{name}");
            }
            assert_eq!(
                definition.kind == MetricKind::Counter,
                definition.name.ends_with("_total"),
                "{}: counters and only they end in _total",
                definition.name
            );
        }
    }

    /// The rows of `docs/METRICS.md` with a name in backquotes are these definitions, in this
    /// order.
    #[test]
    fn the_documentation_lists_exactly_these_metrics() {
        let documented: Vec<&str> = PAGE.lines().filter(|line| line.starts_with("| `")).collect();
        let expected: Vec<String> = ALL
            .iter()
            .map(|d| {
                let labels: Vec<_> = d.labels.iter().map(|label| format!("`{label}`")).collect();
                let labels = if labels.is_empty() { "-".to_owned() } else { labels.join(", ") };
                format!("| `{}` | {} | {labels} | {} | {} |", d.name, d.kind.name(), d.unit, d.help)
            })
            .collect();
        assert_eq!(documented, expected, "docs/METRICS.md should read:\n{}", expected.join("\n"));
    }

    #[test]
    fn the_documentation_lists_the_label_values() {
        fn row<T: Copy>(label: &str, all: &[T], name: impl Fn(T) -> &'static str) -> String {
            let values: Vec<_> = all.iter().map(|value| name(*value)).collect();
            format!("| {label} | {} |", values.join(", "))
        }
        for row in [
            row("method", Method::ALL, Method::label),
            row(
                "reason of yatagarasu_connections_rejected_total",
                RejectReason::ALL,
                RejectReason::label,
            ),
            row("cipher", TlsCipher::ALL, TlsCipher::label),
            row(
                "reason of yatagarasu_tls_handshake_failures_total",
                TlsFailure::ALL,
                TlsFailure::label,
            ),
            row("reason of yatagarasu_auth_failures_total", AuthFailure::ALL, AuthFailure::label),
            row(
                "reason of yatagarasu_upstream_errors_total",
                UpstreamErrorReason::ALL,
                UpstreamErrorReason::label,
            ),
            row("reason of yatagarasu_http2_resets_total", Http2Reset::ALL, Http2Reset::label),
            row("reason of yatagarasu_http2_goaways_total", Http2GoAway::ALL, Http2GoAway::label),
            row("state", ConnectionState::ALL, ConnectionState::label),
            row("coding", &Coding::ALL, Coding::name),
        ] {
            assert!(PAGE.lines().any(|line| line == row), "docs/METRICS.md should have:\n{row}");
        }
    }

    #[test]
    fn the_documentation_lists_bounds_and_statuses() {
        let page = PAGE.split_whitespace().collect::<Vec<_>>().join(" ");
        let seconds = DURATION_BOUNDS_US.map(|us| Duration::from_micros(us).as_secs_f64());
        let bounds = seconds.map(|bound| bound.to_string()).join(", ");
        assert!(page.contains(&format!(" {bounds}. ")), "{bounds}");
        let own = |status: &u16| status_label(status_slot(*status)) == status.to_string();
        let statuses: Vec<_> = (0..600).filter(own).map(|status| status.to_string()).collect();
        let statuses = statuses.join(", ");
        assert!(page.contains(&format!(" {statuses}. ")), "{statuses}");
    }
}
