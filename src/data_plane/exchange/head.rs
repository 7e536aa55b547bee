//! The head that a client gets for S3's.

use crate::{
    data_plane::exchange::{
        client::ResponseWriter,
        context::{Exchange, Kind, ObjectSent, OwnFields},
        respond,
    },
    protocol::http1::{ResponseHead, reason_phrase},
};

/// Changes to the head of a response of S3.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Changes {
    /// Status in place of S3's.
    pub(crate) status: Option<u16>,
}

/// Writes the head that the client gets for S3's, which is in `message`, to a request for the
/// object with this key.
pub(crate) fn add_head(
    exchange: &Exchange<'_>,
    head: &ResponseHead,
    message: &[u8],
    key: &[u8],
    changes: Changes,
    response: &mut impl ResponseWriter,
) {
    match changes.status {
        None => response.begin(head.status, head.reason.of(message)),
        Some(status) => response.begin(status, reason_phrase(status).as_bytes()),
    }
    response.fields_of(head, message);
    if !head.has_date {
        response.field("Date", &exchange.core.dates.http());
    }
    let is_not_modified = head.status == 304;
    let is_object = matches!(changes.status.unwrap_or(head.status), 200 | 206 | 304);
    let object = is_object.then_some(ObjectSent { key, is_not_modified });
    respond::add_own_fields(&OwnFields { kind: Kind::OfS3(object), ..exchange.own() }, response);
    response.end_head(head.length, head.content_length);
}
