//! A listing: a page of it read from S3 as a whole, filtered, and written in the form that the
//! client wants.
//!
//! Memory is bounded: a page has at most a thousand entries, S3's answer is read up to
//! [`LISTING_BYTES_MAX`], and a core has room for so many pages at once
//! (`src/data_plane/core/listings.rs`).

use crate::{
    data_plane::{
        core::listings::ListingRoom,
        exchange::{
            client::ResponseWriter, context::Exchange, forward, outcome::Outcome, respond,
            respond::Document,
        },
        fetch::{
            attempt::Fetched,
            request::{ObjectRequest, Target, Wanted},
        },
        upstream::{
            body::{Body, Frame, Passage},
            error::{Kind, Phase, UpstreamError},
        },
    },
    handoff::snapshot::Bucket,
    model::Fault,
    policy::{
        auth::{Permit, Readable},
        site::listing::{
            Asked, ENTRIES_PARAMETER, Format, ListQuery, Listing, TOKEN_PARAMETER, keep_readable,
        },
    },
    protocol::{
        http1::ResponseHead,
        s3::listing::{
            CONTENT_SECURITY_POLICY, HtmlPage, LISTING_BYTES_MAX, LISTING_ENTRIES_MAX, Listed,
            S3Listing, S3Version, append_json, append_list_query, append_location, read_listing,
        },
    },
};

/// A listing that a client may have.
#[derive(Debug)]
pub(crate) struct ListPlan {
    pub(super) bucket: usize,
    pub(super) asked: Asked,
    pub(super) query: ListQuery,
    pub(super) readable: Readable,
    pub(super) permit: Permit,
}

/// Responds with a listing, or with what S3 clients ask about a bucket.
pub(super) async fn list(
    exchange: &Exchange<'_>,
    plan: ListPlan,
    response: &mut impl ResponseWriter,
) -> Outcome {
    let ListPlan { bucket: index, asked, query, readable, permit } = plan;
    let Some(bucket) = exchange.request.local.buckets.get(index) else {
        return respond::fault(exchange, Fault::Internal, response).await;
    };
    let form = match asked {
        Asked::Page(format) => Form::Page(format),
        Asked::S3(version) => Form::S3(version),
        Asked::Bucket => return respond::document(exchange, &Document::XML, response).await,
        Asked::Location => {
            let mut body = Vec::new();
            append_location(&bucket.region, &mut body);
            let document = Document { body: &body, ..Document::XML };
            return respond::document(exchange, &document, response).await;
        }
        Asked::Slash => return respond::fault(exchange, Fault::NoKey, response).await,
    };
    let listing = bucket.site.as_ref().and_then(|site| site.listing.as_ref());
    let Some(listing) = listing else {
        return respond::fault(exchange, Fault::Internal, response).await;
    };
    if !query.is_short_enough(listing.key_prefix()) {
        return respond::fault(exchange, Fault::InvalidListQuery, response).await;
    }
    let core = exchange.core;
    let client = exchange.identity.client;
    let Some(room) = core.listings.begin(client, core.reactor.clock.coarse()) else {
        return respond::fault(exchange, Fault::TooManyListings, response).await;
    };
    let page = Page { exchange, bucket, listing, form, query, readable, room };
    if page.query.entries_max == 0 {
        return page.respond(Listed::default(), None, response).await;
    }
    let Ok(start_after) = page.query.start(&page.readable) else {
        return page.respond(Listed::default(), None, response).await;
    };
    let (listed, upstream_ns) =
        match page.fetch(index, start_after.as_deref(), permit, response).await {
            Ok(fetched) => fetched,
            Err(outcome) => return outcome,
        };
    let next = page.next(&listed);
    let outcome = page.respond(listed, next.as_deref(), response).await;
    Outcome { upstream_ns, ..outcome }
}

/// Form of the page.
#[derive(Clone, Copy, Debug)]
enum Form {
    Page(Format),
    S3(S3Version),
}

struct Page<'p> {
    exchange: &'p Exchange<'p>,
    bucket: &'p Bucket,
    listing: &'p Listing,
    form: Form,
    query: ListQuery,
    readable: Readable,
    /// To be left before a response that is no page, which may take its time.
    room: ListingRoom<'p>,
}

impl Page<'_> {
    /// Asks S3 for the page behind this key. The keys that come back are as the client names them.
    async fn fetch(
        &self,
        bucket: usize,
        start_after: Option<&str>,
        permit: Permit,
        response: &mut impl ResponseWriter,
    ) -> Result<(Listed, Option<u64>), Outcome> {
        let Self { exchange, listing, query, .. } = self;
        let core = exchange.core;
        let key_prefix = listing.key_prefix();
        let mut fields = core.buffers.scratch();
        exchange.request.append_via(&core.pseudonym, &mut fields);
        let mut parameters = core.buffers.scratch();
        append_list_query(
            query.delimiter.as_deref(),
            query.entries_max,
            [key_prefix, &query.prefix],
            start_after.map(|key| [key_prefix, key]),
            &mut parameters,
        );
        let wanted = Wanted {
            target: Target::Bucket,
            query: &parameters,
            is_head: false,
            fields: &fields,
            client: Some(response.presence()),
            passage: Passage::Copied,
            notes: exchange.notes,
        };
        let request = ObjectRequest::new(core, &exchange.request.local, bucket, wanted, permit);
        let request = match request {
            Ok(request) => request,
            Err(fault) => {
                self.room.leave();
                return Err(respond::fault(exchange, fault, response).await);
            }
        };
        let mut upstream_ns = None;
        let mut head = ResponseHead::default();
        let listed = match request.fetch(&mut head, &mut upstream_ns).await {
            Ok(mut fetched) => {
                request.cells().record_upstream(head.status, upstream_ns.unwrap_or(0));
                // The error of S3 may name keys as S3 knows them, with the prefix of the bucket.
                if head.status >= 400 {
                    self.room.leave();
                    let outcome =
                        forward::hide(exchange, &request, &head, &mut fetched, response).await;
                    forward::keep(&request, &head, &outcome, fetched);
                    return Err(Outcome { upstream_ns, ..outcome });
                }
                let listed = match head.status {
                    200 => self.read(&head, &mut fetched).await,
                    _ => Err(malformed()),
                };
                if listed.is_ok() && !head.close {
                    request.give_back(fetched.body);
                }
                listed
            }
            Err(error) => Err(error),
        };
        match listed {
            Ok(listed) => Ok((listed, upstream_ns)),
            Err(error) => {
                self.room.leave();
                let outcome = forward::failed(exchange, &request, &error, response).await;
                Err(Outcome { upstream_ns, ..outcome })
            }
        }
    }

    /// Reads the page that S3 sends.
    async fn read(
        &self,
        head: &ResponseHead,
        fetched: &mut Fetched<'_>,
    ) -> Result<Listed, UpstreamError> {
        if forward::is_coded(head, fetched.message()) {
            return Err(malformed());
        }
        let document = collect(&mut fetched.body, LISTING_BYTES_MAX).await?;
        // Lets other tasks run before the page is parsed and written, which takes milliseconds.
        self.exchange.core.reactor.turns.next().await;
        let listed = read_listing(&document).map_err(|_| malformed())?;
        if listed.is_truncated && listed.last().is_none() {
            // Nothing says where it goes on.
            return Err(malformed());
        }
        listed.below(self.listing.key_prefix(), &self.query.prefix).map_err(|_| malformed())
    }

    /// Token of the page behind this one, if there may be one.
    fn next(&self, listed: &Listed) -> Option<String> {
        let last = listed.last().filter(|_| listed.is_truncated)?;
        let version = match self.form {
            Form::Page(_) => S3Version::Two,
            Form::S3(version) => version,
        };
        self.query.next(version, last, &self.readable)
    }

    /// Responds with what of the page the client may read.
    async fn respond(
        &self,
        mut listed: Listed,
        next: Option<&str>,
        response: &mut impl ResponseWriter,
    ) -> Outcome {
        let Self { exchange, query, .. } = self;
        keep_readable(&mut listed, &self.readable);
        let is_empty = listed.objects.is_empty() && listed.prefixes.is_empty();
        let mut body = Vec::new();
        match self.form {
            // S3 has no directories: what has no entry is not there.
            Form::Page(_)
                if is_empty && next.is_none() && !query.prefix.is_empty() && query.is_first() =>
            {
                drop(listed);
                self.room.leave();
                return respond::fault(exchange, Fault::NoKey, response).await;
            }
            Form::Page(Format::Html) => self.append_html(&listed, next, &mut body),
            Form::Page(_) => append_json(&query.prefix, &listed, next, &mut body),
            Form::S3(version) => self.append_xml(version, &listed, next, &mut body),
        }
        drop(listed);
        let document = match self.form {
            Form::Page(Format::Html) => Document {
                content_type: "text/html; charset=utf-8",
                content_security_policy: Some(CONTENT_SECURITY_POLICY),
                varies: self.listing.is_negotiated(),
                body: &body,
            },
            Form::Page(_) => Document {
                content_type: "application/json",
                content_security_policy: None,
                varies: self.listing.is_negotiated(),
                body: &body,
            },
            Form::S3(_) => Document { body: &body, ..Document::XML },
        };
        self.room.begin_to_send(body.len(), exchange.core.reactor.clock.refresh());
        let sent = self.room.recall().or(respond::document(exchange, &document, response)).await;
        sent.unwrap_or_else(|| respond::recalled(200, response))
    }

    fn append_html(&self, listed: &Listed, next: Option<&str>, out: &mut Vec<u8>) {
        let query = &self.query;
        let next = next.map(|token| {
            let most = match query.entries_max {
                LISTING_ENTRIES_MAX => String::new(),
                most => format!("&{ENTRIES_PARAMETER}={most}"),
            };
            format!("{TOKEN_PARAMETER}={token}{most}")
        });
        let root = self.bucket.path_prefix.trim_end_matches('/');
        let (prefix, is_continued) = (&query.prefix, !query.is_first());
        HtmlPage { root, prefix, listed, is_continued, next: next.as_deref() }.append_to(out);
    }

    fn append_xml(
        &self,
        version: S3Version,
        listed: &Listed,
        next: Option<&str>,
        out: &mut Vec<u8>,
    ) {
        let query = &self.query;
        let name = match self.bucket.path_prefix.trim_start_matches('/') {
            "" => &self.bucket.name,
            name => name,
        };
        let listing = S3Listing {
            version,
            name,
            prefix: &query.prefix,
            delimiter: query.delimiter.as_deref(),
            entries_max: query.entries_max,
            is_encoded: query.is_encoded,
            start_after: query.start_after.as_deref(),
            token: query.token.as_deref(),
            next,
            listed,
        };
        listing.append_to(out);
    }
}

/// Reads a body to its end.
async fn collect(body: &mut Body<'_>, bytes_max: usize) -> Result<Vec<u8>, UpstreamError> {
    let mut read = Vec::new();
    loop {
        match body.buffered()? {
            Frame::Data(frame) => {
                let bytes = body.bytes(frame);
                if read.len() + bytes.len() > bytes_max {
                    return Err(malformed());
                }
                read.extend_from_slice(bytes);
            }
            Frame::Wait => body.wait(bytes_max).await?,
            Frame::End => return Ok(read),
        }
    }
}

fn malformed() -> UpstreamError {
    UpstreamError::new(Kind::Malformed, Phase::Body)
}
