//! Compression of one response: whether the client gets S3's body in a coding, and what that means
//! for the request to S3 and for the head.

use crate::{
    data_plane::{
        core::encoders::LentEncoder,
        exchange::{client::ResponseWriter, context::Exchange, request::Request},
    },
    policy::site::compress::{Body, Choice, Compress, Held, append_marked},
    protocol::{
        content_coding::Coding,
        http1::{ResponseHead, Version, list_members, retain_fields},
    },
    telemetry::cells::CompressionCells,
};

/// The rules of the bucket, and what the client of this request takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Compression<'x> {
    rules: &'x Compress,
    choice: Choice,
}

/// Compression in the head of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HeadCoding {
    /// Every client gets the body as it is.
    #[default]
    None,
    /// This client gets it as it is, another may not.
    Varies,
    /// 304 to a client that has the body in this coding; none if that is not known.
    NotModified(Option<Coding>),
    /// The body is in this coding.
    Coded(Coding),
}

/// Fields that are true of S3's body only, besides `Content-Length` and the checksums of S3:
/// digests (RFC 9530, RFC 3230), the offer to send parts, which are of another representation, and
/// a coding without a name, beside which some clients would not see ours.
const OF_THE_BODY: [&[u8]; 7] = [
    b"accept-ranges",
    b"content-digest",
    b"content-encoding",
    b"content-md5",
    b"digest",
    b"etag",
    b"repr-digest",
];

/// Beginnings of fields that are true of the stored body only: checksums of S3, one field for each
/// algorithm, and those of Google Cloud Storage with the stored length and coding.
/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html>
/// <https://cloud.google.com/storage/docs/xml-api/reference-headers>
const OF_THE_STORED_BODY: [&[u8]; 3] = [b"x-amz-checksum-", b"x-goog-hash", b"x-goog-stored-"];

impl<'x> Compression<'x> {
    /// Compression of responses to this request; none if its bucket has no rules for it.
    pub(crate) fn of(exchange: &Exchange<'x>) -> Option<Self> {
        let rules = exchange.site?.compress.as_ref()?;
        let choice = choice(rules, exchange.request);
        Some(Self { rules, choice })
    }

    /// The codings that the client takes.
    pub(crate) fn choice(&self) -> Choice {
        self.choice
    }

    /// Returns true if some response may be encoded for the client.
    pub(crate) fn may_encode(&self) -> bool {
        self.choice.coding.is_some()
    }

    /// Decides about a response of S3, which the client gets with this status if not with its own,
    /// and lends the encoder for its body. Where there is no memory for one, which is counted, the
    /// client gets the body as it is.
    pub(crate) fn plan<'c>(
        &self,
        exchange: &Exchange<'c>,
        cells: &CompressionCells,
        (head, message): (&ResponseHead, &[u8]),
        status: Option<u16>,
        coding: &mut HeadCoding,
    ) -> Option<LentEncoder<'c>> {
        *coding = match status {
            None => self.of_response(exchange.request, head, message),
            Some(_) => HeadCoding::None,
        };
        let HeadCoding::Coded(chosen) = *coding else { return None };
        if exchange.request.is_head() {
            return None;
        }
        let encoder = exchange.core.encoders.lend(chosen, head.content_length);
        if encoder.is_none() {
            cells.skipped.inc();
            *coding = HeadCoding::Varies;
        }
        encoder
    }

    fn of_response(
        &self,
        request: &Request<'_>,
        head: &ResponseHead,
        message: &[u8],
    ) -> HeadCoding {
        let values = |name| head.header_values(message, name);
        let body = Body {
            content_type: values(b"content-type".as_slice()).next().unwrap_or_default(),
            length: head.content_length,
            is_coded: values(b"content-encoding").any(|value| !value.is_empty()),
            no_transform: forbids_transforming(values(b"cache-control")),
        };
        match head.status {
            200 if self.rules.covers(&body) => {
                self.choice.coding.map_or(HeadCoding::Varies, HeadCoding::Coded)
            }
            206 if self.rules.covers_part(&body) => HeadCoding::Varies,
            // S3 does not say what it is that was not modified.
            304 if !body.is_coded && !body.no_transform => {
                let object = values(b"etag").next().unwrap_or_default();
                let fields = request.values(b"if-none-match");
                match self.choice.of_not_modified(fields, object) {
                    Held::Object => HeadCoding::Varies,
                    Held::Coded(coding) => HeadCoding::NotModified(Some(coding)),
                    Held::Unknown => HeadCoding::NotModified(None),
                }
            }
            _ => HeadCoding::None,
        }
    }
}

/// The codings that the client of a request takes. None in HTTP/1.0, which could not tell a body
/// that was cut short from a whole one, none for a part of the body, and none where the client
/// forbids it (RFC 9111 section 5.2.1.6).
fn choice(rules: &Compress, request: &Request<'_>) -> Choice {
    let is_out_of_question = request.head.version == Version::Http10
        || request.values(b"range").next().is_some()
        || forbids_transforming(request.values(b"cache-control"));
    if is_out_of_question {
        return Choice::default();
    }
    rules.choose(request.values(b"accept-encoding"))
}

fn forbids_transforming<'v>(mut values: impl Iterator<Item = &'v [u8]>) -> bool {
    values.any(|value| {
        list_members(value).any(|directive| directive.eq_ignore_ascii_case(b"no-transform"))
    })
}

impl HeadCoding {
    /// Changes the fields of S3, which are in the head of the response, to those of what the client
    /// gets.
    pub(super) fn apply(
        self,
        head: &ResponseHead,
        message: &[u8],
        response: &mut impl ResponseWriter,
    ) {
        let coding = match self {
            Self::None => return,
            Self::Varies | Self::NotModified(None) => None,
            Self::NotModified(Some(coding)) | Self::Coded(coding) => Some(coding),
        };
        let (lines, start) = response.field_lines();
        let is_of_object = self.is_of_object();
        retain_fields(lines, start, |name, _| {
            let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
            let begins_with = |known: &[u8]| {
                name.get(..known.len()).is_some_and(|start| start.eq_ignore_ascii_case(known))
            };
            is_of_object
                || !(OF_THE_BODY.into_iter().any(is)
                    || OF_THE_STORED_BODY.into_iter().any(begins_with))
        });
        let Some(coding) = coding else { return };
        if let Some(etag) = head.header_values(message, b"etag").next() {
            let mut marked = Vec::with_capacity(etag.len() + 8);
            if append_marked(etag, coding, &mut marked) {
                response.field("ETag", &marked);
            }
        }
        if self.is_coded() {
            response.field("Content-Encoding", coding.name().as_bytes());
        }
    }

    /// True if the response would be another one with another `Accept-Encoding`.
    pub(super) fn varies(self) -> bool {
        self != Self::None
    }

    /// True if the body that the client gets is coded.
    pub(super) fn is_coded(self) -> bool {
        matches!(self, Self::Coded(_))
    }

    /// True if what the client gets, or has, is the object as S3 holds it. A cache takes the fields
    /// of a 304 for what it has (RFC 9111 section 3.2).
    pub(super) fn is_of_object(self) -> bool {
        matches!(self, Self::None | Self::Varies)
    }
}
