//! The decision about one request, as a value that later steps require.
//!
//! A [`Permit`] is made only here, and signing a request for S3 takes one. So no request can be
//! signed without this decision.

use std::{fmt, rc::Rc};

use aws_lc_rs::digest::{SHA256, digest};

use super::{
    cache::{Digest, TokenCache},
    claims::Rules,
    denial::{Denial, DenialReason},
    key_source::KeySets,
    policy::{AuthPolicy, BucketAuth},
    readable::Readable,
    source::{self, TokenCarrier},
    spec::TokenSource,
    verified::Verified,
};
use crate::model::limits::TOKEN_BYTES_MAX;

/// Permission to read one object, or to list a bucket.
#[must_use = "a permit is what lets the request go on"]
pub struct Permit {
    token: Option<Rc<Verified>>,
}

impl Permit {
    /// The token's `sub`; none for a public bucket.
    pub fn subject(&self) -> Option<&str> {
        self.token.as_ref()?.subject.as_deref()
    }

    /// The token's `kid`; none for a public bucket.
    pub fn key_id(&self) -> Option<&str> {
        self.token.as_ref()?.key_id.as_deref()
    }

    /// Key that verified the token, as an index into `AuthPolicy::key_ids`; none for a public
    /// bucket and for a key of a fetched set.
    pub fn key_index(&self) -> Option<usize> {
        self.token.as_ref()?.key.key_index
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("key_index", &self.key_index()).finish_non_exhaustive()
    }
}

/// Permission to use the admin API.
#[must_use = "a permit is what lets the command go on"]
pub struct AdminPermit {
    token: Rc<Verified>,
}

impl AdminPermit {
    /// The token's `sub`.
    pub fn subject(&self) -> Option<&str> {
        self.token.subject.as_deref()
    }

    /// The token's `kid`.
    pub fn key_id(&self) -> Option<&str> {
        self.token.key_id.as_deref()
    }

    /// Key that verified the token, as an index into `AuthPolicy::key_ids`; none for a key of a
    /// fetched set.
    pub fn key_index(&self) -> Option<usize> {
        self.token.key.key_index
    }
}

impl fmt::Debug for AdminPermit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminPermit").field("key_index", &self.key_index()).finish_non_exhaustive()
    }
}

/// Decides whether a request may read the object of that key in that bucket.
///
/// `key` is the object key as the client names it, decoded, before any `key_prefix`;
/// `now_unix` is in seconds. The cache must be this core's own; one of another policy is emptied,
/// and a token in it counts only while the set of its key is the one in `fetched`.
///
/// # Errors
///
/// A [`Denial`] with the error for the client and the reason for the log and the counters.
#[inline]
pub fn permit_object(
    policy: &AuthPolicy,
    fetched: &impl KeySets,
    bucket: &BucketAuth,
    cache: &mut TokenCache,
    carrier: &impl TokenCarrier,
    key: &[u8],
    now_unix: u64,
) -> Result<Permit, Denial> {
    if !policy.enforced() || !bucket.enabled() {
        return Ok(Permit { token: None });
    }
    permit_reader(policy, fetched, bucket, cache, carrier, key, now_unix)
}

/// Decides about a request for an object that needs a token.
#[inline(never)]
fn permit_reader(
    policy: &AuthPolicy,
    fetched: &impl KeySets,
    bucket: &BucketAuth,
    cache: &mut TokenCache,
    carrier: &impl TokenCarrier,
    key: &[u8],
    now_unix: u64,
) -> Result<Permit, Denial> {
    let token = reader(policy, fetched, bucket, cache, carrier, now_unix)?;
    let permits = |rules: &Rules| rules.permit_key(&token.claims, key);
    if !policy.rules_for(&token).is_some_and(permits) || !permits(&bucket.rules) {
        return Err(refuse(&token, DenialReason::Path));
    }
    Ok(Permit { token: Some(token) })
}

/// Decides whether a request may list the keys that begin with `prefix`, and which of them it may
/// be shown.
///
/// # Errors
///
/// A [`Denial`], also where the token may read nothing below the prefix.
pub fn permit_listing(
    policy: &AuthPolicy,
    fetched: &impl KeySets,
    bucket: &BucketAuth,
    cache: &mut TokenCache,
    carrier: &impl TokenCarrier,
    prefix: &str,
    now_unix: u64,
) -> Result<(Permit, Readable), Denial> {
    if !policy.enforced() || !bucket.enabled() {
        return Ok((Permit { token: None }, Readable::everything()));
    }
    let token = reader(policy, fetched, bucket, cache, carrier, now_unix)?;
    let Some(general) = policy.rules_for(&token) else {
        return Err(refuse(&token, DenialReason::Path));
    };
    let readable = Readable::of([general, &bucket.rules], &token.claims);
    if !readable.has_below(prefix) {
        return Err(refuse(&token, DenialReason::Path));
    }
    Ok((Permit { token: Some(token) }, readable))
}

/// The token of a request that may read some object of a bucket, if its `path_prefix` rules permit
/// it.
fn reader(
    policy: &AuthPolicy,
    fetched: &impl KeySets,
    bucket: &BucketAuth,
    cache: &mut TokenCache,
    carrier: &impl TokenCarrier,
    now_unix: u64,
) -> Result<Rc<Verified>, Denial> {
    let token = authenticate(policy, fetched, &policy.sources, cache, carrier, now_unix)?;
    if !bucket.providers.has(token.provider) {
        return Err(refuse(&token, DenialReason::Provider));
    }
    if !token.general_rules_hold || !bucket.rules.hold(&token.claims) {
        return Err(refuse(&token, DenialReason::Claims));
    }
    Ok(token)
}

/// Decides whether a request may use the admin API. Tokens count only in header fields, and not
/// in cookies; without JWT the admin API is closed.
///
/// # Errors
///
/// A [`Denial`] with the error for the client and the reason for the log and the counters.
pub fn permit_admin(
    policy: &AuthPolicy,
    fetched: &impl KeySets,
    cache: &mut TokenCache,
    carrier: &impl TokenCarrier,
    now_unix: u64,
) -> Result<AdminPermit, Denial> {
    if !policy.enforced() {
        return Err(Denial::new(DenialReason::AdminClosed));
    }
    let token = authenticate(policy, fetched, &policy.admin_sources, cache, carrier, now_unix)?;
    if !policy.admin_providers.has(token.provider) {
        return Err(refuse(&token, DenialReason::Provider));
    }
    if !policy.admin_rules.hold(&token.claims) {
        return Err(refuse(&token, DenialReason::Claims));
    }
    Ok(AdminPermit { token })
}

/// The verified token of a request, from the cache or by verifying it now.
fn authenticate(
    policy: &AuthPolicy,
    fetched: &impl KeySets,
    sources: &[TokenSource],
    cache: &mut TokenCache,
    carrier: &impl TokenCarrier,
    now_unix: u64,
) -> Result<Rc<Verified>, Denial> {
    let token = source::find(sources, carrier).map_err(Denial::new)?;
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Denial::new(DenialReason::TooLong));
    }
    let digest = sha256(&token);
    if let Some(verified) = cache.get(policy.identity, &digest) {
        if policy.still_trusts(&verified, fetched) {
            return match verified.window.check(now_unix) {
                Ok(()) => Ok(verified),
                Err(reason) => {
                    if reason == DenialReason::Expired {
                        cache.remove(&digest);
                    }
                    Err(refuse(&verified, reason))
                }
            };
        }
        cache.remove(&digest);
    }
    match policy.verify(&token, fetched, now_unix) {
        Ok(verified) => {
            let verified = Rc::new(verified);
            cache.insert(policy.identity, digest, Rc::clone(&verified));
            Ok(verified)
        }
        Err(refused) => Err(Denial {
            unknown_key_of: refused.unknown_key_of,
            ..Denial::of_token(refused.reason, refused.subject, refused.key_id)
        }),
    }
}

fn refuse(token: &Verified, reason: DenialReason) -> Denial {
    Denial::of_token(reason, token.subject.clone(), token.key_id.clone())
}

fn sha256(token: &[u8]) -> Digest {
    let mut bytes = Digest::default();
    bytes.copy_from_slice(digest(&SHA256, token).as_ref());
    bytes
}
