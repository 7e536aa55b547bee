//! The decision about a request, made without waiting for anything: one canonical path, the
//! endpoints of the proxy itself, the bucket, and the permission.

use crate::{
    data_plane::{
        core::{Core, WarnTopic, generation::Local, open::Role},
        exchange::{builtin::Builtin, list::ListPlan, request::Request, respond},
    },
    handoff::snapshot::{Bucket, Plain},
    model::{Fault, limits::OBJECT_KEY_BYTES_MAX},
    policy::{
        auth::{
            Denial, DenialReason, Permit, TokenCarrier as _, permit_admin, permit_listing,
            permit_object,
        },
        router::Routed,
        site::{
            listing::{Asked, InvalidListQuery, ListQuery},
            query::AllowedQuery,
        },
    },
    protocol::http1::Method,
    telemetry::{access_log::Needs, labels::AuthFailure},
};

/// The next step for a request.
#[derive(Debug)]
pub(crate) enum Plan {
    Object {
        bucket: usize,
        key_at: usize,
        /// Set if the path names a directory, and the key its index.
        is_index: bool,
        permit: Permit,
    },
    List(Box<ListPlan>),
    Builtin(Builtin),
    /// To the same target over TLS, on this port.
    Redirect {
        port: u16,
    },
    /// To the same path with a `/` behind it.
    RedirectToDirectory,
    Options,
    /// The question of a browser whether an actual request may follow.
    Preflight,
    Refuse(Fault),
}

/// The way to a plan, as far as it is logged or decides about the response.
#[derive(Debug)]
pub(crate) struct Decision {
    /// Methods that the resource takes, as `Allow` lists them.
    pub(crate) allow: &'static str,
    /// Index of the bucket that the path belongs to, whatever the method.
    pub(crate) routed: Option<usize>,
    /// Index of the bucket, once it is asked for an object.
    pub(crate) bucket: Option<usize>,
    /// Reason for which the token was refused, in full; empty if it was not.
    pub(crate) auth_reason: &'static str,
    /// Reason to refuse the path, in words for the log; empty if it was not.
    pub(crate) reason: &'static str,
    /// `sub` of the token, where it is logged.
    pub(crate) subject: Option<Box<str>>,
    /// `kid` of the token, where it is logged.
    pub(crate) key_id: Option<Box<str>>,
    /// The endpoint of the proxy itself that was asked, whatever the method.
    pub(crate) builtin: Option<Builtin>,
    /// Set for a request of an S3 client, as far as one can tell.
    pub(crate) is_of_s3_client: bool,
    /// The response in place of an index that S3 does not have.
    pub(super) or_page: Option<OrPage>,
}

/// The response to a request for a page of a directory whose index S3 does not have.
#[derive(Debug)]
pub(super) enum OrPage {
    Page(Box<ListPlan>),
    /// The client may have the page, but a parameter is malformed.
    Invalid(Permit),
}

impl Decision {
    /// Nothing is decided yet.
    pub(crate) const fn new() -> Self {
        Self {
            allow: respond::ALLOW,
            routed: None,
            bucket: None,
            auth_reason: "",
            reason: "",
            subject: None,
            key_id: None,
            builtin: None,
            is_of_s3_client: false,
            or_page: None,
        }
    }

    /// Decides. The canonical path is written to `path`, which is empty.
    pub(crate) fn plan(
        &mut self,
        core: &Core,
        request: &Request<'_>,
        now: u64,
        path: &mut Vec<u8>,
    ) -> Plan {
        self.try_plan(core, request, now, path).unwrap_or_else(Plan::Refuse)
    }

    fn try_plan(
        &mut self,
        core: &Core,
        request: &Request<'_>,
        now: u64,
        path: &mut Vec<u8>,
    ) -> Result<Plan, Fault> {
        if request.head.https && request.tls.is_none() {
            // RFC 9110 section 7.4
            return Err(Fault::Misdirected);
        }
        let (local, method) = (&request.local, request.method());
        if method == Method::Options && request.path() == b"*" {
            return Ok(Plan::Options);
        }
        if let Err(error) = request.canonical_path(path) {
            self.reason = error.reason();
            // CONNECT has no path at all (RFC 9110 section 9.3.6).
            return Err(match method {
                Method::Other => Fault::MethodNotAllowed,
                _ => Fault::BadPath,
            });
        }
        let builtin = Builtin::of(path);
        let builtin_here = request.role == Role::Admin || !core.admin_elsewhere;
        if builtin_here && let Some(builtin) = builtin {
            return self.builtin(core, request, now, builtin);
        }
        if request.tls.is_none() && request.role == Role::Main {
            match local.plain {
                Plain::Serve => {}
                // HTTP/1.0 may name no host to go to.
                Plain::Redirect { port } if !request.host_name().is_empty() => {
                    return Ok(Plan::Redirect {
                        port: if port == 0 { core.tls_port } else { port },
                    });
                }
                Plain::Redirect { .. } | Plain::Refuse => return Err(Fault::HttpsRequired),
            }
        }
        let routed = local.router.route(|| request.host_name(), path);
        if builtin.is_some() && routed.is_none() {
            // It lives on the admin listener, and no bucket has taken its path here: whatever the
            // method, there is no such thing.
            return Err(Fault::NoRoute);
        }
        if request.role == Role::Main
            && let Some(routed) = &routed
        {
            check_connection(request, path, routed.bucket)?;
            self.routed = Some(routed.bucket);
        }
        match method {
            Method::Options => return Ok(self.options(request)),
            Method::Other => return Err(Fault::MethodNotAllowed),
            Method::Get | Method::Head => {}
        }
        if request.role == Role::Admin {
            return Err(Fault::NoRoute);
        }
        let routed = routed.ok_or_else(|| unrouted(request))?;
        let bucket = local.buckets.get(routed.bucket).ok_or(Fault::Internal)?;
        self.bucket = Some(routed.bucket);
        if request.check_via(&core.pseudonym).is_err() {
            if core.may_warn(WarnTopic::Loop(routed.bucket)) {
                tracing::warn!(
                    bucket = &*bucket.name,
                    "a request came back: the S3 endpoint leads to this proxy itself"
                );
            }
            return Err(Fault::LoopDetected);
        }
        if let Some(plan) = self.listing(core, request, now, bucket, routed, path)? {
            return Ok(plan);
        }
        let index = index_of(bucket, routed.key)?;
        let key = routed.key.unwrap_or_default();
        if key.len() + index.map_or(0, <[u8]>::len) > OBJECT_KEY_BYTES_MAX {
            return Err(Fault::KeyTooLong);
        }
        let key_at = path.len() - key.len();
        let tokens = &mut local.tokens.borrow_mut();
        match permit_object(
            &local.auth,
            &core.live.borrow().good_keys(&core.reactor.clock),
            &bucket.auth,
            tokens,
            request,
            key,
            now,
        ) {
            Ok(permit) => {
                self.permitted(core, local, &permit);
                check_query(allowed_query(bucket), request)?;
                let bucket = routed.bucket;
                if let Some(index) = index {
                    if !path.ends_with(b"/") {
                        return Ok(Plan::RedirectToDirectory);
                    }
                    path.extend_from_slice(index);
                }
                Ok(Plan::Object { bucket, key_at, is_index: index.is_some(), permit })
            }
            // Where the index is not for this client, the directory may be.
            Err(Denial { reason: DenialReason::Path, .. }) if self.or_page.is_some() => {
                let page = match self.or_page.take().ok_or(Fault::Internal)? {
                    OrPage::Page(page) => page,
                    OrPage::Invalid(permit) => return Err(self.invalid(core, local, &permit)),
                };
                self.permitted(core, local, &page.permit);
                check_query(AllowedQuery::default(), request)?;
                Ok(Plan::List(page))
            }
            Err(denial) => Err(self.denied(core, request, &denial)),
        }
    }

    /// The plan for a request that asks for a listing, or what else S3 clients ask about a bucket.
    fn listing(
        &mut self,
        core: &Core,
        request: &Request<'_>,
        now: u64,
        bucket: &Bucket,
        routed: Routed<'_>,
        path: &[u8],
    ) -> Result<Option<Plan>, Fault> {
        let Some(listing) = bucket.site.as_ref().and_then(|site| site.listing.as_ref()) else {
            return Ok(None);
        };
        self.is_of_s3_client = listing.speaks_s3() && request.is_signed();
        if routed.key.is_some() && !path.ends_with(b"/") {
            // An object.
            return Ok(None);
        }
        let query = request.query().unwrap_or_default();
        let accept: Vec<&[u8]> = request.values(b"accept").collect();
        let (accept, is_head) = (accept.iter().copied(), request.is_head());
        let ends_in_slash = path.ends_with(b"/");
        let Some(asked) = listing.asked(routed.key, ends_in_slash, is_head, query, &accept) else {
            return Ok(None);
        };
        // A directory is its index, if there is one.
        let has_index = index_of(bucket, routed.key).is_ok_and(|index| index.is_some());
        match asked {
            Asked::Page(_) if has_index => {
                self.or_page = match page(core, request, now, bucket, routed, asked) {
                    Ok(page) => Some(OrPage::Page(page)),
                    Err(NoPage::Invalid(permit)) => Some(OrPage::Invalid(permit)),
                    Err(NoPage::Denied(_)) => None,
                };
                return Ok(None);
            }
            Asked::Bucket if has_index && ends_in_slash => return Ok(None),
            _ => {}
        }
        self.is_of_s3_client |= asked.is_of_s3();
        let plan = page(core, request, now, bucket, routed, asked);
        let plan = plan.map_err(|no_page| match no_page {
            NoPage::Denied(denial) => self.denied(core, request, &denial),
            NoPage::Invalid(permit) => self.invalid(core, &request.local, &permit),
        })?;
        self.permitted(core, &request.local, &plan.permit);
        if matches!(asked, Asked::Page(_)) {
            // A page has no versions.
            check_query(AllowedQuery::default(), request)?;
        } else if matches!(asked, Asked::Slash) {
            check_query(allowed_query(bucket), request)?;
        }
        Ok(Some(match asked {
            Asked::Slash => Plan::RedirectToDirectory,
            _ => Plan::List(plan),
        }))
    }

    /// The fault for a malformed parameter of a page that the client may have.
    fn invalid(&mut self, core: &Core, local: &Local, permit: &Permit) -> Fault {
        self.permitted(core, local, permit);
        Fault::InvalidListQuery
    }

    /// Notes what is counted and logged of a permit.
    fn permitted(&mut self, core: &Core, local: &Local, permit: &Permit) {
        if let Some(key) = permit.key_index() {
            count_key_use(core, local, key);
        }
        if let Some(rules) = &local.access_log {
            self.subject = permit.subject().map(Box::from);
            if rules.needs().has(Needs::KEY_ID) {
                self.key_id = permit.key_id().map(Box::from);
            }
        }
    }

    /// Tells a preflight request from others. It is answered before a token is looked for, because
    /// browsers never send credentials with it
    /// (<https://fetch.spec.whatwg.org/#cors-preflight-fetch>, step 1).
    fn options(&mut self, request: &Request<'_>) -> Plan {
        let has_cors = request.site_of(self.routed).is_some_and(|site| site.cors.is_some());
        if !has_cors || !request.is_preflight() {
            return Plan::Options;
        }
        self.bucket = self.routed;
        Plan::Preflight
    }

    fn builtin(
        &mut self,
        core: &Core,
        request: &Request<'_>,
        now: u64,
        builtin: Builtin,
    ) -> Result<Plan, Fault> {
        self.allow = builtin.allowed();
        self.builtin = Some(builtin);
        if !builtin.allows(request.method(), request.method_name()) {
            return match request.method() {
                Method::Options => Ok(Plan::Options),
                _ => Err(Fault::MethodNotAllowed),
            };
        }
        if matches!(builtin, Builtin::Admin(_)) {
            let local = &request.local;
            let tokens = &mut local.tokens.borrow_mut();
            let fetched = core.live.borrow();
            let fetched = &fetched.good_keys(&core.reactor.clock);
            match permit_admin(&local.auth, fetched, tokens, request, now) {
                Ok(permit) => {
                    if let Some(key) = permit.key_index() {
                        count_key_use(core, local, key);
                    }
                    self.subject = permit.subject().map(Box::from);
                    self.key_id = permit.key_id().map(Box::from);
                }
                Err(denial) => return Err(self.denied(core, request, &denial)),
            }
        }
        Ok(Plan::Builtin(builtin))
    }

    fn denied(&mut self, core: &Core, request: &Request<'_>, denial: &Denial) -> Fault {
        let local = &request.local;
        core.cells.auth_failures(failure_of(denial.reason)).inc();
        let provider = denial.unknown_key_of;
        if let Some(source) = provider.and_then(|provider| local.auth.key_source(provider)) {
            core.want_keys(&source.id);
        }
        self.auth_reason = denial.reason.as_str();
        if local.access_log.is_some() {
            self.subject = denial.subject.as_deref().map(Box::from);
            self.key_id = denial.key_id.as_deref().map(Box::from);
        }
        match denial.fault {
            Fault::MissingToken if request.is_signed() => Fault::SignedRequest,
            fault => fault,
        }
    }
}

/// Reason why a client gets nothing of what it asks of a bucket.
enum NoPage {
    Denied(Denial),
    /// A parameter is malformed. The client may have the page of that directory.
    Invalid(Permit),
}

/// The plan for what is asked of a bucket, if the client may have it.
fn page(
    core: &Core,
    request: &Request<'_>,
    now: u64,
    bucket: &Bucket,
    routed: Routed<'_>,
    asked: Asked,
) -> Result<Box<ListPlan>, NoPage> {
    let query = request.query().unwrap_or_default();
    let directory = routed.key.unwrap_or_default();
    let query = match asked {
        Asked::Page(_) => ListQuery::of_page(directory, query),
        Asked::S3(version) => ListQuery::of_client(version, query),
        Asked::Bucket | Asked::Location | Asked::Slash => Ok(ListQuery::default()),
    };
    // The token comes first: a stranger is told nothing of the parameters.
    let prefix = match &query {
        Ok(query) => &query.prefix,
        Err(InvalidListQuery) => str::from_utf8(directory).unwrap_or_default(),
    };
    let local = &request.local;
    let permitted = permit_listing(
        &local.auth,
        &core.live.borrow().good_keys(&core.reactor.clock),
        &bucket.auth,
        &mut local.tokens.borrow_mut(),
        request,
        prefix,
        now,
    );
    let (permit, readable) = permitted.map_err(NoPage::Denied)?;
    let Ok(query) = query else { return Err(NoPage::Invalid(permit)) };
    Ok(Box::new(ListPlan { bucket: routed.bucket, asked, query, readable, permit }))
}

/// Name of the object that stands for the directory that is asked for; none for an object.
fn index_of<'b>(bucket: &'b Bucket, key: Option<&[u8]>) -> Result<Option<&'b [u8]>, Fault> {
    let documents = bucket.site.as_ref().and_then(|site| site.documents.as_ref());
    let index = documents.and_then(|documents| documents.index_of(key.unwrap_or_default()));
    if key.is_none() && index.is_none() {
        return Err(Fault::NoKey);
    }
    Ok(index)
}

/// The fault for a path that no bucket takes.
fn unrouted(request: &Request<'_>) -> Fault {
    if request.local.router.serves(request.host_name()) { Fault::NoRoute } else { Fault::NoHost }
}

/// Refuses a request for the bucket of another host than the client named in its TLS handshake.
/// Clients may send requests for several hosts over one connection (RFC 9113 section 9.1.1), and
/// try again on another one when they are told so.
fn check_connection(request: &Request<'_>, path: &[u8], bucket: usize) -> Result<(), Fault> {
    let Some(tls) = request.tls else { return Ok(()) };
    let router = &request.local.router;
    let is_of_another =
        router.is_of_another(tls.sni.as_deref(), || request.host_name(), path, bucket);
    if is_of_another { Err(Fault::OtherHost) } else { Ok(()) }
}

/// Parameters that the bucket lets through to S3.
fn allowed_query(bucket: &Bucket) -> AllowedQuery {
    bucket.site.as_ref().and_then(|site| site.query).unwrap_or_default()
}

/// Refuses a query that asks for something else than the object.
fn check_query(allowed: AllowedQuery, request: &Request<'_>) -> Result<(), Fault> {
    let Some(query) = request.query() else { return Ok(()) };
    allowed.check(query).map_err(|_| Fault::QueryNotSupported)
}

/// Counts a token that the key of this index verified, so that an operator sees which keys are
/// still needed.
fn count_key_use(core: &Core, local: &Local, key: usize) {
    if let Some(slot) = local.key_slot(key) {
        core.cells.jwt_key_uses(slot).inc();
    }
}

fn failure_of(reason: DenialReason) -> AuthFailure {
    match reason {
        DenialReason::MissingToken => AuthFailure::Missing,
        DenialReason::AdminClosed => AuthFailure::AdminClosed,
        DenialReason::Ambiguous
        | DenialReason::TooLong
        | DenialReason::Malformed
        | DenialReason::Critical => AuthFailure::Malformed,
        DenialReason::BadAlgorithm => AuthFailure::Algorithm,
        DenialReason::UnknownKey => AuthFailure::UnknownKey,
        DenialReason::NoKeySet => AuthFailure::NoKeySet,
        DenialReason::BadSignature => AuthFailure::Signature,
        DenialReason::BadTime | DenialReason::MissingExpiry => AuthFailure::InvalidTime,
        DenialReason::Expired => AuthFailure::Expired,
        DenialReason::NotYetValid => AuthFailure::NotYetValid,
        DenialReason::BadIssuer => AuthFailure::Issuer,
        DenialReason::BadAudience => AuthFailure::Audience,
        DenialReason::Provider | DenialReason::Claims | DenialReason::Path => AuthFailure::Claims,
    }
}
