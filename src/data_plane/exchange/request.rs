//! The request in hand: its head as bytes, in whichever version of HTTP it came.

use std::{net::SocketAddr, rc::Rc};

use crate::{
    data_plane::core::{generation::Local, open::Role},
    policy::{
        auth::TokenCarrier,
        site::{
            Site,
            compress::{Choice, is_marked},
        },
    },
    protocol::{
        http1::{Forwarded, Looped, Method, Pseudonym, RequestHead, append_field},
        s3::{PathError, canonical_path},
    },
    system::tls::Negotiated,
};

/// A request whose head is complete.
#[derive(Debug)]
pub(crate) struct Request<'r> {
    /// The generation that the whole request is served with.
    pub(crate) local: Rc<Local>,
    pub(crate) role: Role,
    pub(crate) peer: SocketAddr,
    /// The TLS session that it came through; none on a plain connection.
    pub(crate) tls: Option<&'r Negotiated>,
    pub(crate) head: &'r RequestHead,
    /// The bytes that the head's spans point into.
    pub(crate) bytes: &'r [u8],
}

impl<'r> Request<'r> {
    /// The method, as far as this proxy knows it.
    pub(super) fn method(&self) -> Method {
        self.head.method
    }

    /// The method's name as sent.
    pub(super) fn method_name(&self) -> &'r [u8] {
        self.head.method_span.of(self.bytes)
    }

    /// The path as sent, without query.
    pub(super) fn path(&self) -> &'r [u8] {
        self.head.path.of(self.bytes)
    }

    /// The host that is asked, without a port; empty where HTTP/1.0 names none.
    pub(super) fn host_name(&self) -> &'r [u8] {
        let host = self.head.host.of(self.bytes);
        let port = match host.iter().rposition(|byte| *byte == b':') {
            // Those of an IPv6 address are in brackets.
            Some(colon) if !host[colon..].contains(&b']') => colon,
            _ => host.len(),
        };
        &host[..port]
    }

    /// Writes the canonical path to `path`, which is empty.
    pub(super) fn canonical_path(&self, path: &mut Vec<u8>) -> Result<(), PathError> {
        canonical_path(self.path(), path)
    }

    /// True if the response must not have a body.
    pub(crate) fn is_head(&self) -> bool {
        self.head.method == Method::Head
    }

    /// Rules for browsers and websites of the bucket of this index; without one, of responses that
    /// belong to no bucket.
    pub(crate) fn site_of(&self, bucket: Option<usize>) -> Option<&Site> {
        match bucket {
            Some(bucket) => self.local.buckets.get(bucket)?.site.as_deref(),
            None => self.local.elsewhere.as_deref(),
        }
    }

    /// True if a browser asks whether an actual request may follow (Fetch standard, "CORS-preflight
    /// request": <https://fetch.spec.whatwg.org/#cors-preflight-request>).
    pub(super) fn is_preflight(&self) -> bool {
        self.method() == Method::Options
            && self.values(b"origin").next().is_some()
            && self.values(b"access-control-request-method").next().is_some()
    }

    /// Values of the fields of this name, which is in lower case.
    pub(super) fn values(&self, name_lower: &'static [u8]) -> impl Iterator<Item = &'r [u8]> {
        self.head.header_values(self.bytes, name_lower)
    }

    /// True if it carries a signature of AWS, which is no token.
    pub(super) fn is_signed(&self) -> bool {
        const SCHEME: &[u8] = b"AWS4-HMAC-SHA256";
        let mut values = self.values(b"authorization");
        values.any(|value| value.get(..SCHEME.len()).is_some_and(|scheme| scheme == SCHEME))
    }

    /// Looks for this process among the instances that the request came through.
    pub(super) fn check_via(&self, pseudonym: &Pseudonym) -> Result<(), Looped> {
        self.head.via(self.bytes).map_or(Ok(()), |via| pseudonym.check(via))
    }

    /// Appends `Via` alone, as a line.
    pub(super) fn append_via(&self, pseudonym: &Pseudonym, out: &mut Vec<u8>) {
        pseudonym.append_via(self.head.version, self.head.via(self.bytes), out);
    }

    /// Appends the fields that S3 gets, each as a line. With compression, S3 is asked for what it
    /// has: the marks of entity tags that the client takes are removed.
    pub(crate) fn append_forwarded(
        &self,
        pseudonym: &Pseudonym,
        compression: Option<Choice>,
        out: &mut Vec<u8>,
    ) {
        self.append_forwarded_of(|_| true, pseudonym, compression, out);
    }

    /// Appends those of the fields that S3 gets which are passed, each as a line.
    pub(super) fn append_forwarded_of(
        &self,
        passes: impl Fn(Forwarded) -> bool,
        pseudonym: &Pseudonym,
        compression: Option<Choice>,
        out: &mut Vec<u8>,
    ) {
        let Self { head, bytes, .. } = self;
        let fields = head.forwarded().iter().filter(|forwarded| passes(forwarded.field));
        let fields = fields.map(|forwarded| (forwarded.field, forwarded.value.of(bytes)));
        match compression {
            None => fields.for_each(|(field, value)| append_field(field.name(), value, out)),
            Some(choice) => append_unmarked(fields, choice, out),
        }
        self.append_via(pseudonym, out);
    }
}

/// Appends fields with the entity tags that S3 knows.
fn append_unmarked<'f>(
    fields: impl Iterator<Item = (Forwarded, &'f [u8])> + Clone,
    choice: Choice,
    out: &mut Vec<u8>,
) {
    // The client has a part of a coded body, of which S3 has no other part: it gets the whole (RFC
    // 9110 section 13.1.5).
    let is_of_coded =
        fields.clone().any(|(field, tag)| field == Forwarded::IfRange && is_marked(tag));
    fields.for_each(|(field, value)| match field {
        Forwarded::Range | Forwarded::IfRange if is_of_coded => {}
        Forwarded::IfNoneMatch => {
            out.extend_from_slice(b"If-None-Match: ");
            choice.append_if_none_match(value, out);
            out.extend_from_slice(b"\r\n");
        }
        _ => append_field(field.name(), value, out),
    });
}

impl TokenCarrier for Request<'_> {
    fn header_values<'a>(&'a self, name_lower: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.head.header_values(self.bytes, name_lower.as_bytes())
    }

    fn query(&self) -> Option<&[u8]> {
        self.head.query.map(|span| span.of(self.bytes))
    }
}
