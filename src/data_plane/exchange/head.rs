//! The head that a client gets for S3's.

use crate::{
    data_plane::exchange::{
        client::ResponseWriter,
        coding::HeadCoding,
        context::{Exchange, Kind, ObjectSent, OwnFields},
        respond,
    },
    protocol::http1::{BodyLength, ResponseHead, reason_phrase, retain_fields},
};

/// Changes to the head of a response of S3.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Changes<'c> {
    /// Status in place of S3's: the response is the page of an error.
    pub(crate) status: Option<u16>,
    /// Field lines of that error.
    pub(crate) kept: &'c [u8],
    /// Set if the response would be another one with another `Accept`.
    pub(crate) varies_with_accept: bool,
    /// Compression of the body.
    pub(crate) coding: HeadCoding,
}

/// Fields of an object that its bytes do not have as an error page. Validators and ranges are of
/// the object and not of what the path names (RFC 9110 sections 8.8 and 14.3), and a cache that
/// keeps the page as long as the object would hide an object that comes.
const NOT_OF_ERRORS: [&[u8]; 6] =
    [b"etag", b"last-modified", b"accept-ranges", b"cache-control", b"expires", b"age"];

/// Writes the head that the client gets for S3's, which is in `message`, to a request for the
/// object with this key.
pub(crate) fn add_head(
    exchange: &Exchange<'_>,
    head: &ResponseHead,
    message: &[u8],
    key: &[u8],
    changes: Changes<'_>,
    response: &mut impl ResponseWriter,
) {
    match changes.status {
        None => response.begin(head.status, head.reason.of(message)),
        Some(status) => response.begin(status, reason_phrase(status).as_bytes()),
    }
    response.fields_of(head, message);
    changes.coding.apply(head, message, response);
    if changes.status.is_some() {
        let (lines, start) = response.field_lines();
        retain_fields(lines, start, |name, _| {
            !NOT_OF_ERRORS.iter().any(|other| name.eq_ignore_ascii_case(other))
        });
        response.field_lines().0.extend_from_slice(changes.kept);
        response.field("Cache-Control", b"no-store");
    }
    if !head.has_date {
        response.field("Date", &exchange.core.dates.http());
    }
    let is_not_modified = head.status == 304;
    let is_object = matches!(changes.status.unwrap_or(head.status), 200 | 206 | 304);
    let object = is_object.then_some(ObjectSent { key, is_not_modified });
    // Beside one of S3 (RFC 9110 section 12.5.5).
    let vary: &[u8] = match (changes.varies_with_accept, changes.coding.varies()) {
        (false, false) => b"",
        (true, false) => b"Accept",
        (false, true) => b"Accept-Encoding",
        (true, true) => b"Accept, Accept-Encoding",
    };
    let own = OwnFields { kind: Kind::OfS3(object), vary, ..exchange.own() };
    respond::add_own_fields(&own, response);
    if changes.coding.is_coded() {
        response.end_head(BodyLength::Chunked, None);
    } else {
        let declared = head.content_length.filter(|_| changes.coding.is_of_object());
        response.end_head(head.length, declared);
    }
}
