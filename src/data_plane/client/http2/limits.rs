//! Limits on a connection, each with its reason. The number of concurrent streams and the size of a
//! head are the configuration's.

use crate::{model::limits::Limits, protocol::http2::FIELD_OVERHEAD_BYTES};

/// Payload of a frame, in bytes: what either side may send without being told otherwise (RFC 9113
/// section 6.5.2). Requests have short heads, and their bodies are discarded.
pub(super) const FRAME_BYTES_MAX: usize = 16_384;

/// Bytes of a body that go into one frame: with its head they fill a TLS record (RFC 8446 section
/// 5.1).
pub(super) const DATA_BYTES_MAX: usize = FRAME_BYTES_MAX - 9;

/// Bytes of a body that are read at once for a stream: what waits for the socket has no room for
/// more.
pub(super) const READ_BYTES_MAX: usize = 65_536;

/// Width of a window, in bytes (RFC 9113 section 6.9.1).
pub(super) const WINDOW_BYTES_MAX: i64 = (1 << 31) - 1;

/// Bytes of request bodies that may be under way, of a stream and of the connection. What is
/// discarded needs no more than the initial window (RFC 9113 section 6.9.2).
pub(super) const RECEIVE_WINDOW_BYTES: u32 = 65_535;

/// Bytes of request bodies after which the client is told that it may send as many again: half a
/// window, so that it neither waits nor hears of it for each frame.
pub(super) const RELEASED_BYTES_MIN: u32 = RECEIVE_WINDOW_BYTES / 2;

/// Bytes that wait for the socket before nothing more is read from the client, since each of its
/// frames may want an answer. Streams stop at half of it.
pub(super) const BACKLOG_BYTES_MAX: usize = 131_072;

/// Pseudo-header fields of a request.
const PSEUDO_FIELDS: usize = 4;

/// Streams that we reset because of the client's errors, more than responses were completed. Each
/// costs little, but only a broken or hostile client has many (CVE-2025-8671); those that were
/// refused because the client did not know the limit yet are among them, but not those for which
/// the process had no room.
pub(super) const ERROR_RESETS_MAX: usize = 512;

/// Streams that the client reset before they were looked at, in a turn (CVE-2023-44487). A client
/// that leaves a page resets streams that have been looked at long ago.
pub(super) const RESETS_AT_ONCE_MAX: usize = 20;

/// Tasks for each concurrent stream: those of streams that were reset may still have something to
/// finish, while others have taken their place.
pub(super) const TASKS_PER_STREAM: usize = 2;

/// Streams that have ended and that we still remember, so that frames which were under way are
/// told from errors.
pub(super) const REMEMBERED_STREAMS_MAX: usize = 64;

/// Length that a field section may have once it is decoded, in sizes of a head: to respond with 431
/// it has to be decoded to its end, and a few bytes may repeat thousands of the dynamic table.
const DECODED_HEADS_MAX: usize = 4;

/// Bytes that a field section may mean.
pub(super) fn decoded_bytes_max(limits: &Limits) -> usize {
    head_bytes_max(limits) * DECODED_HEADS_MAX
}

/// The size of a head by HTTP/2's way of counting that every head within the limits has. What is
/// over it is answered with 431, as is what is over the limits.
pub(super) fn head_bytes_max(limits: &Limits) -> usize {
    limits.header_bytes + (limits.headers + PSEUDO_FIELDS) * FIELD_OVERHEAD_BYTES
}
