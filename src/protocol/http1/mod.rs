//! HTTP/1.1 (RFC 9110, RFC 9112) as pure functions and small state machines over byte slices.
//!
//! A head is read line by line, each byte once, and each field is judged as it comes. The rules are
//! strict: CRLF only, one framing, one host. What comes out is an owned value of
//! [`Span`]s into the caller's buffer, so it may live across awaits while the caller keeps the
//! buffer. Fields are passed on as bytes; they are never turned into a map.
//!
//! Deliberately absent: I/O, clocks, routing, limits on time, and any leniency that lets two
//! implementations read one message differently.

mod address_field;
mod begun;
mod chunked;
mod correlation;
mod date;
mod discard;
mod encode;
mod entity_tag;
mod fields;
mod lines;
mod message;
mod request;
mod response;
mod rewrite;
mod scan;
mod span;
mod target;
#[cfg(test)]
mod tests;
mod via;

pub use address_field::AddressField;
pub use begun::{BEGUN_PATH_BYTES_MAX, BegunRequest};
pub use chunked::{
    CHUNK_END, CHUNK_LINE_BYTES_MAX, CHUNK_TRAILER_BYTES_MAX, ChunkError, ChunkStep,
    ChunkedDecoder, LAST_CHUNK, encode_chunk_head,
};
pub use correlation::{REQUEST_ID_BYTES_MAX, TraceParent, request_id};
pub use date::{IMF_FIXDATE_BYTES, imf_fixdate};
pub use discard::{BodyDiscard, CHUNK_OVERHEAD_BYTES_MAX, DiscardError, Discarded};
pub use encode::{
    ClientFraming, append_connection, append_content_length, append_field, append_framing,
    append_status_line, client_framing, reason_phrase,
};
pub use entity_tag::{EntityTag, entity_tags};
pub use fields::{list_members, qvalue};
pub use message::{Method, Progress, Version};
pub use request::{
    FORWARDED_FIELDS_MAX, Forwarded, ForwardedField, HEADERS_MAX, METHOD_BYTES_MAX, RequestError,
    RequestFraming, RequestHead, parse_request,
};
pub use response::{
    BodyLength, CONNECTION_OPTIONS_MAX, FIELD_RUNS_MAX, ResponseError, ResponseHead, parse_response,
};
pub use rewrite::{MERGED_MEMBERS_MAX, first_value, merge_list, retain_fields};
pub use span::Span;
pub use via::{Looped, PROXY_NAME, Pseudonym};
