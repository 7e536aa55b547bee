//! Limits on a connection, each with its reason. The number of concurrent streams and the size of a
//! head are the configuration's.

use h2::server::Builder;

use crate::model::limits::{Http2, Limits};

/// Payload of a frame of the client, in bytes: what a client may send without being told otherwise
/// (RFC 9113 section 6.5.2). Requests have short heads, and their bodies are discarded.
const FRAME_BYTES_MAX: u32 = 16_384;

/// Bytes of request bodies that may be under way, of a stream and of the connection. What is
/// discarded needs no more than the initial window (RFC 9113 section 6.9.2), and this much of a
/// body is held in memory at most.
const RECEIVE_WINDOW_BYTES: u32 = 65_535;

/// Body bytes of one stream that wait for its windows and the socket, at most. Four frames go out
/// with one send; a stream that takes nothing holds this much, and slows S3 down.
const SEND_BUFFER_BYTES: usize = 65_536;

/// Bytes that each field counts besides its name and value (RFC 9113 section 6.5.2).
const FIELD_OVERHEAD_BYTES: usize = 32;

/// Pseudo-header fields of a request.
const PSEUDO_FIELDS: usize = 4;

/// Streams that we reset because of the client's errors, in the life of a connection. Each costs
/// little, but only a broken or hostile client has many (CVE-2025-8671); those that were refused
/// because the client did not know the limit yet are among them.
const ERROR_RESETS_MAX: usize = 512;

/// Streams that the client reset before they were looked at, at a time (CVE-2023-44487). A client
/// that leaves a page resets streams that have been looked at long ago.
const PENDING_RESETS_MAX: usize = 20;

/// Streams that we have reset and still remember, so that frames which were under way are ignored.
const REMEMBERED_RESETS_MAX: usize = 50;

/// The settings of a connection.
pub(super) fn builder(http2: Http2, limits: &Limits) -> Builder {
    let mut builder = Builder::new();
    builder
        .max_concurrent_streams(http2.max_concurrent_streams)
        .max_header_list_size(head_bytes_max(limits))
        .max_frame_size(FRAME_BYTES_MAX)
        .initial_window_size(RECEIVE_WINDOW_BYTES)
        .initial_connection_window_size(RECEIVE_WINDOW_BYTES)
        .max_send_buffer_size(SEND_BUFFER_BYTES)
        .max_local_error_reset_streams(Some(ERROR_RESETS_MAX))
        .max_pending_accept_reset_streams(PENDING_RESETS_MAX)
        .max_concurrent_reset_streams(REMEMBERED_RESETS_MAX);
    builder
}

/// The size of a head by HTTP/2's way of counting that every head within the limits has: what is
/// over it is answered with 431 by `h2`, what is over the limits by us.
fn head_bytes_max(limits: &Limits) -> u32 {
    let overhead = (limits.headers + PSEUDO_FIELDS) * FIELD_OVERHEAD_BYTES;
    u32::try_from(limits.header_bytes + overhead).unwrap_or(u32::MAX)
}
