//! Limits and timeouts of the data plane that an operator may set, with their
//! defaults, and the fixed ones with the reason for each.

use std::time::Duration;

/// Limits on what a client may send (`server.limits`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request line and header fields together, in bytes; over it 431.
    pub header_bytes: usize,
    /// Request target, in bytes; over it 414. RFC 9110 section 4.1 recommends at least 8000.
    pub uri_bytes: usize,
    /// Number of header fields; over it 431.
    pub headers: usize,
    /// Request body, which is discarded, in bytes; over it 413 and close.
    pub body_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { header_bytes: 32_768, uri_bytes: 8_192, headers: 100, body_bytes: 1_048_576 }
    }
}

/// Client-side timeouts (`server.timeouts`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first byte (or accept) to the end of the request head.
    pub client_header: Duration,
    /// Keep-alive between two requests.
    pub client_idle: Duration,
    /// Longest time without progress while a response is being sent.
    pub client_write: Duration,
    /// Time of accepting connections after `/ready` has turned 503.
    pub drain_delay: Duration,
    /// Time in which an idle connection may still send a request after that.
    pub drain_idle: Duration,
    /// Longest time for requests in progress after that delay.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            client_header: Duration::from_secs(10),
            client_idle: Duration::from_mins(1),
            client_write: Duration::from_secs(30),
            drain_delay: Duration::ZERO,
            drain_idle: Duration::from_secs(1),
            drain: Duration::from_secs(30),
        }
    }
}

/// HTTP/2 towards clients (`server.http2`), for new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Http2 {
    /// Offered on the TLS listener (ALPN `h2`).
    pub enabled: bool,
    /// Accepted without TLS from clients that begin with it (RFC 9113 section 3.3).
    pub cleartext: bool,
    /// Requests at a time on one connection (`SETTINGS_MAX_CONCURRENT_STREAMS`).
    pub max_concurrent_streams: u32,
}

impl Default for Http2 {
    fn default() -> Self {
        Self { enabled: true, cleartext: false, max_concurrent_streams: 128 }
    }
}

/// Timeouts towards one bucket's endpoint (`buckets[].s3.timeouts`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UpstreamTimeouts {
    /// TCP connect and TLS handshake together.
    pub connect: Duration,
    /// From the request being sent to the first byte of the response head.
    pub first_byte: Duration,
    /// Longest time without a byte while the body arrives.
    pub read: Duration,
}

impl Default for UpstreamTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(30),
            read: Duration::from_secs(30),
        }
    }
}

/// Connections that the admin listener may have, across all cores: far more than scrapers, probes
/// and operators open at once. Whoever opens more, and says nothing, would take the descriptors
/// that clients need. They are not among those of `server.max_connections`, so that they take no
/// client's place.
pub const ADMIN_CONNECTIONS_MAX: u64 = 256;

/// Connections over TLS above the limit that a worker refuses at a time, which takes a handshake.
/// One more is closed without a word.
pub const TLS_REFUSALS_MAX: usize = 64;

/// Longest S3 object key, in bytes of UTF-8 (Amazon S3 User Guide, "Naming Amazon S3 objects").
pub const OBJECT_KEY_BYTES_MAX: usize = 1_024;

/// Response head of an S3 server that is accepted, in bytes: S3 allows 8 KiB of user metadata
/// headers at most (and 2 KiB by default), so this leaves room for everything else.
pub const UPSTREAM_HEAD_BYTES_MAX: usize = 65_536;

/// Header fields of an S3 response head that are accepted.
pub const UPSTREAM_HEADERS_MAX: usize = 200;

/// Longest part of an S3 error body that is read to find its `<Code>`, in bytes. Real ones are
/// below 1 KiB.
pub const ERROR_BODY_BYTES_MAX: usize = 16_384;

/// Longest accepted token, in bytes. Identity providers stay below 8 KiB, the usual header limit.
pub const TOKEN_BYTES_MAX: usize = 8_192;
