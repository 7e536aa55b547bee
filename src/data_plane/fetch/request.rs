//! The request for an object: its parts, and the bytes of one attempt.

use std::{rc::Rc, sync::Arc};

use crate::{
    data_plane::{
        core::{Core, WarnTopic, credentials::CoreCredentials, generation::Local},
        fetch::notes::Notes,
        upstream::{
            body::{Body, Passage},
            endpoint::{EndpointState, Keeping},
            error::UpstreamError,
        },
    },
    handoff::{
        credentials::{Credentials, Signing, Source},
        snapshot::Bucket,
    },
    model::{Fault, Secret},
    policy::auth::Permit,
    protocol::{
        http1::append_field,
        s3::{CredentialProblem, Signer, SigningInput, encode_key},
    },
    system::reactor::Presence,
    telemetry::{cells::BucketCells, labels::UpstreamErrorReason},
};

/// A request for an object or a bucket. Making one takes the [`Permit`]: nothing is signed without.
#[derive(Debug)]
pub(crate) struct ObjectRequest<'r> {
    pub(super) core: &'r Core,
    local: &'r Local,
    index: usize,
    pub(super) bucket: &'r Bucket,
    pub(super) endpoint: &'r EndpointState,
    pub(super) cells: &'r Arc<BucketCells>,
    target: Target<'r>,
    query: &'r [u8],
    fields: &'r [u8],
    pub(super) is_head: bool,
    pub(super) client: Option<Presence>,
    pub(super) passage: Passage,
    pub(super) notes: Option<&'r Notes>,
    credentials: Held<'r>,
    _permit: Permit,
}

/// Credentials that a request keeps from its beginning to its last attempt.
#[derive(Debug)]
enum Held<'r> {
    Nothing,
    Keys(&'r Credentials),
    Live(Rc<CoreCredentials>),
}

impl Held<'_> {
    /// The credentials and their number.
    fn get(&self) -> Option<(&Credentials, u64)> {
        match self {
            Self::Nothing => None,
            Self::Keys(keys) => Some((keys, 0)),
            Self::Live(live) => Some((&live.credentials, live.serial)),
        }
    }
}

/// The resource that a request is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target<'r> {
    /// The object of this key, decoded.
    Object(&'r [u8]),
    /// The bucket itself, without the prefix of its keys.
    Bucket,
}

/// The requester's part of a request.
#[derive(Debug)]
pub(crate) struct Wanted<'r> {
    pub(crate) target: Target<'r>,
    /// The canonical query, without `?` (see [`append_query`](crate::protocol::s3::append_query));
    /// empty for none.
    pub(crate) query: &'r [u8],
    /// True if only the head is wanted.
    pub(crate) is_head: bool,
    /// Header fields that are passed on, each as a line.
    pub(crate) fields: &'r [u8],
    /// The client that waits for it, whose departure ends the attempts and the body. Without one
    /// only timeouts do.
    pub(crate) client: Option<Presence>,
    /// The way of its body to the client.
    pub(crate) passage: Passage,
    /// Where its attempts are noted, if anybody wants to know.
    pub(crate) notes: Option<&'r Notes>,
}

impl<'r> ObjectRequest<'r> {
    /// A request to the bucket of this index.
    ///
    /// # Errors
    /// The generation has no such bucket, or the bucket's source has no credentials that are good.
    pub(crate) fn new(
        core: &'r Core,
        local: &'r Local,
        index: usize,
        wanted: Wanted<'r>,
        permit: Permit,
    ) -> Result<Self, Fault> {
        let bucket = local.buckets.get(index).ok_or(Fault::Internal)?;
        let Wanted { target, query, is_head, fields, client, passage, notes } = wanted;
        let cells = local.cells_of(index, core.worker).ok_or(Fault::Internal)?;
        let credentials = match &bucket.signing {
            Signing::Keys(keys) => Held::Keys(keys),
            Signing::Anonymous => Held::Nothing,
            Signing::Source(source) => match core.credentials.of(source.id) {
                Some(live) if live.are_good(core.dates.now()) => Held::Live(live),
                _ => {
                    cells.upstream.error(UpstreamErrorReason::Credentials).inc();
                    warn_of_lack(core, index, bucket, source);
                    return Err(Fault::UpstreamCredentials);
                }
            },
        };
        Ok(Self {
            core,
            local,
            index,
            bucket,
            endpoint: local.endpoint_of(bucket).ok_or(Fault::Internal)?,
            cells,
            target,
            query,
            fields,
            is_head,
            client,
            passage,
            notes,
            credentials,
            _permit: permit,
        })
    }

    /// The next request of the same requester, for something else in the same bucket, with the same
    /// permit and the same credentials.
    pub(crate) fn followed_by(self, wanted: Wanted<'r>) -> Self {
        let Wanted { target, query, is_head, fields, client, passage, notes } = wanted;
        Self { target, query, fields, is_head, client, passage, notes, ..self }
    }

    /// Returns true if the response has the content of an object.
    pub(super) fn reads_an_object(&self) -> bool {
        !self.is_head && matches!(self.target, Target::Object(_))
    }

    /// The object's key, decoded; empty if it asks for none.
    pub(crate) fn key(&self) -> &'r [u8] {
        match self.target {
            Target::Object(key) => key,
            Target::Bucket => b"",
        }
    }

    /// The bucket that the object is in.
    pub(crate) fn bucket(&self) -> &'r Bucket {
        self.bucket
    }

    /// The bucket's counters.
    pub(crate) fn cells(&self) -> &'r BucketCells {
        self.cells
    }

    /// Notes that S3 refused the credentials. Where others of the same source may be good, they are
    /// asked for.
    pub(crate) fn note_refusal(&self, problem: CredentialProblem) {
        if problem.may_pass_with_others()
            && let (Signing::Source(source), Held::Live(live)) =
                (&self.bucket.signing, &self.credentials)
        {
            self.core.want_credentials(source.id, live.serial);
        }
    }

    /// Appends the request as one attempt sends it, signed with the date of the moment.
    pub(crate) fn append_to(&self, out: &mut Vec<u8>) {
        let bucket = self.bucket;
        let method = if self.is_head { "HEAD" } else { "GET" };
        out.extend_from_slice(method.as_bytes());
        out.push(b' ');
        let target_at = out.len();
        match self.target {
            Target::Object(key) => {
                out.extend_from_slice(&bucket.target_prefix);
                encode_key(key, out);
            }
            Target::Bucket => out.extend_from_slice(&bucket.bucket_target),
        }
        if !self.query.is_empty() {
            out.push(b'?');
            out.extend_from_slice(self.query);
        }
        let target = target_at..out.len();
        out.extend_from_slice(b" HTTP/1.1\r\n");
        append_field("Host", bucket.host.as_bytes(), out);
        out.extend_from_slice(self.fields);
        if let Some((credentials, serial)) = self.credentials.get() {
            let signer = Signer { bucket: self.index, serial };
            let secret = credentials.secret_key.expose();
            let date = self.core.dates.amz();
            self.local.with_signing_key(signer, secret, &bucket.region, &date, |key, recent| {
                let input = SigningInput {
                    method,
                    host: &bucket.host,
                    target: out.get(target).unwrap_or_default(),
                    query_bytes: self.query.len(),
                    access_key: &credentials.access_key,
                    session_token: credentials.session_token.as_ref().map(Secret::expose),
                };
                key.sign(recent, signer, &date, &input).append_to(out);
            });
        }
        out.extend_from_slice(b"\r\n");
    }

    /// Keeps the connection of a body that was read to its end, if it may serve another request.
    pub(crate) fn give_back(&self, body: Body<'_>) {
        if let Some(connection) = body.into_connection() {
            let Bucket { max_idle_connections, max_connection_age, .. } = *self.bucket;
            let keeping = Keeping { most: max_idle_connections, max_age: max_connection_age };
            self.endpoint.give_back(connection, keeping, self.core.reactor.clock.coarse());
        }
    }

    /// Counts and logs a failure.
    pub(crate) fn note(&self, error: &UpstreamError) {
        let Some(reason) = error.reason() else { return };
        self.cells.upstream.error(reason).inc();
        let name = &*self.bucket.name;
        if error.fault() != Some(Fault::UpstreamCredentials) {
            self.endpoint.warn(name, error, self.core.reactor.clock.coarse());
            return;
        }
        let (topic, message) = match reason {
            UpstreamErrorReason::ClockSkew => (
                WarnTopic::Clock(self.index),
                "S3 refuses the clock of this machine; set it, and keep NTP running: clients get \
                 502 until then",
            ),
            _ => (
                WarnTopic::Credentials(self.index),
                "S3 refuses the credentials of this bucket; check their key, secret and token, and \
                 the region: clients get 502 until then",
            ),
        };
        if self.core.may_warn(topic) {
            tracing::warn!(bucket = name, reason = reason.label(), "{message}");
        }
    }
}

/// Logs that a source has no credentials, once a minute for each bucket.
#[cold]
fn warn_of_lack(core: &Core, index: usize, bucket: &Bucket, source: &Source) {
    if core.may_warn(WarnTopic::NoCredentials(index)) {
        tracing::warn!(
            bucket = &*bucket.name,
            source = &*source.name,
            "the source has given no credentials that are still good; clients get 502"
        );
    }
}
