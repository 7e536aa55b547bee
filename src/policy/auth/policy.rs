//! The policy of one generation, compiled from the configuration: keys, rules, token sources.

use std::{
    fmt,
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::Value;

use super::{
    claims::{Rules, Scope},
    denial::DenialReason,
    json, jwks,
    key::{VerificationKey, install_crypto},
    spec::{AuthProblem, AuthSpec, ClaimSpec, TokenSource},
    token::Unverified,
    verified::{Verified, check_audience, check_issuer},
    window::Window,
};
use crate::protocol::text::token::is_token;

/// Most keys at once. A rotation needs two, a provider's JWK set a handful.
pub const KEYS_MAX: usize = 100;

/// Most keys without an id. A token that names none of the others is tried with each of them, so
/// that they multiply the cost of a bad token.
const KEYS_WITHOUT_ID_MAX: usize = 8;

/// Longest `jwt.leeway`, in seconds. It is for clocks that differ, "usually no more than a few
/// minutes" (RFC 7519 section 4.1.4), not for tokens that should be valid for longer.
pub const LEEWAY_SECONDS_MAX: u64 = 300;

/// Immutable rules for reading objects and using the admin API, for one generation.
pub struct AuthPolicy {
    /// Number that no other policy of this process has; binds a cache to its policy.
    pub(super) identity: u64,
    enforced: bool,
    keys: Box<[VerificationKey]>,
    issuer: Option<Box<str>>,
    audience: Box<[Box<str>]>,
    leeway_seconds: u64,
    require_exp: bool,
    /// Sources of a token in a request for an object.
    pub(super) sources: Box<[TokenSource]>,
    /// The same for the admin API: header fields only.
    pub(super) admin_sources: Box<[TokenSource]>,
    /// Rules for every protected bucket.
    pub(super) general_rules: Rules,
    /// Rules for the admin API.
    pub(super) admin_rules: Rules,
}

impl AuthPolicy {
    /// Compiles the `jwt` section. All problems are reported together; there is a policy unless one
    /// of them is an error.
    pub fn compile(spec: &AuthSpec) -> (Option<Self>, Vec<AuthProblem>) {
        if !spec.enforced {
            return (Some(Self::disabled()), Vec::new());
        }
        install_crypto();
        let mut problems = Vec::new();
        let keys = compile_keys(spec, &mut problems);
        if spec.issuer.as_deref() == Some("") {
            problems.push(error("jwt.issuer", "must not be empty"));
        }
        if spec.audience.iter().any(String::is_empty) {
            problems.push(error("jwt.audience", "must not hold an empty string"));
        }
        let leeway_seconds = spec.leeway.as_secs();
        if spec.leeway.as_nanos() > u128::from(LEEWAY_SECONDS_MAX) * 1_000_000_000 {
            let message = format!("must be at most {LEEWAY_SECONDS_MAX} seconds");
            problems.push(error("jwt.leeway", message));
        }
        check_sources(&spec.sources, &mut problems);
        let general_rules = Rules::compile(&spec.claims, Scope::Objects, &mut problems);
        if spec.admin_claims.is_empty() {
            let message = "must hold at least one rule; without one every token could use the \
                           admin API";
            problems.push(error("jwt.admin_claims", message));
        }
        let admin_rules = Rules::compile(&spec.admin_claims, Scope::Admin, &mut problems);
        if problems.iter().any(|problem| !problem.warning) {
            return (None, problems);
        }
        let policy = Self {
            identity: next_identity(),
            enforced: true,
            keys: keys.into(),
            issuer: spec.issuer.as_deref().map(Box::from),
            audience: spec.audience.iter().map(|audience| audience.as_str().into()).collect(),
            leeway_seconds,
            require_exp: spec.require_exp,
            sources: spec.sources.clone().into(),
            admin_sources: admin_sources(&spec.sources),
            general_rules,
            admin_rules,
        };
        (Some(policy), problems)
    }

    /// The policy of `jwt.enabled: false`, and of a configuration without a `jwt` section: no
    /// bucket requires a token and the admin API is closed.
    pub fn disabled() -> Self {
        Self {
            identity: next_identity(),
            enforced: false,
            keys: Box::default(),
            issuer: None,
            audience: Box::default(),
            leeway_seconds: 0,
            require_exp: true,
            sources: Box::default(),
            admin_sources: Box::default(),
            general_rules: Rules::default(),
            admin_rules: Rules::default(),
        }
    }

    /// Returns true if JWT authentication is enabled.
    pub fn enforced(&self) -> bool {
        self.enforced
    }

    /// One label per key, in the order of `Permit::key_index`: its id, or its key path.
    pub fn key_ids(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.keys.iter().map(|key| &*key.label)
    }

    /// Verifies a token: form, key, signature, times, issuer, audience, in this order. No claim is
    /// read before the signature is known to be good.
    pub(super) fn verify(&self, token: &[u8], now_unix: u64) -> Result<Verified, Refused> {
        let unverified = Unverified::parse(token)?;
        let key_index = self.verifying_key(&unverified)?;
        let claims = json::object(&unverified.payload).ok_or(DenialReason::Malformed)?;
        let subject = claims.get("sub").and_then(Value::as_str).map(Rc::from);
        let checked = Window::read(&claims, self.leeway_seconds, self.require_exp)
            .and_then(|window| window.check(now_unix).map(|()| window))
            .and_then(|window| {
                self.issuer.as_deref().map_or(Ok(()), |issuer| check_issuer(&claims, issuer))?;
                if !self.audience.is_empty() {
                    check_audience(&claims, &self.audience)?;
                }
                Ok(window)
            });
        match checked {
            Ok(window) => {
                let general_rules_hold = self.general_rules.hold(&claims);
                Ok(Verified { window, key_index, subject, claims, general_rules_hold })
            }
            Err(reason) => Err(Refused { reason, subject }),
        }
    }

    /// Index of the key that verifies the token. A key with the token's `kid` is the only one
    /// allowed; without such a key those without an id are tried.
    fn verifying_key(&self, token: &Unverified<'_>) -> Result<usize, DenialReason> {
        let bound = token
            .key_id
            .as_deref()
            .and_then(|id| self.keys.iter().position(|key| key.id.as_deref() == Some(id)));
        let mut reason = DenialReason::UnknownKey;
        for (index, key) in self.keys.iter().enumerate() {
            let may_verify = bound.map_or_else(|| key.id.is_none(), |bound| bound == index);
            if !may_verify {
                continue;
            }
            if !key.has_algorithm_of(token) {
                if reason == DenialReason::UnknownKey {
                    reason = DenialReason::BadAlgorithm;
                }
                continue;
            }
            if key.verifies(token) {
                return Ok(index);
            }
            reason = DenialReason::BadSignature;
        }
        Err(reason)
    }
}

impl fmt::Debug for AuthPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthPolicy")
            .field("enforced", &self.enforced)
            .field("keys", &self.keys)
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

/// Refusal of a token, with its subject if the signature was good.
pub(super) struct Refused {
    pub(super) reason: DenialReason,
    pub(super) subject: Option<Rc<str>>,
}

impl From<DenialReason> for Refused {
    fn from(reason: DenialReason) -> Self {
        Self { reason, subject: None }
    }
}

/// Rules of one bucket, in addition to those of the policy.
#[derive(Debug)]
pub struct BucketAuth {
    enabled: bool,
    pub(super) rules: Rules,
}

impl BucketAuth {
    /// Compiles `buckets[].auth`. The rules are checked even when `enabled` is false.
    pub fn compile(enabled: bool, claims: &[ClaimSpec]) -> (Option<Self>, Vec<AuthProblem>) {
        let mut problems = Vec::new();
        let rules = Rules::compile(claims, Scope::Objects, &mut problems);
        if !problems.is_empty() {
            return (None, problems);
        }
        if let (false, Some(first)) = (enabled, claims.first()) {
            let message = "has no effect while auth.enabled of this bucket is false".to_owned();
            problems.push(AuthProblem { path: first.path.clone(), message, warning: true });
        }
        (Some(Self { enabled, rules }), problems)
    }

    /// Returns true if the bucket requires a token (when the policy is enforced).
    pub fn enabled(&self) -> bool {
        self.enabled
    }
}

fn next_identity() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn compile_keys(spec: &AuthSpec, problems: &mut Vec<AuthProblem>) -> Vec<VerificationKey> {
    let mut keys: Vec<VerificationKey> = Vec::new();
    for key_spec in &spec.keys {
        let Some(key) = VerificationKey::compile(key_spec, problems) else { continue };
        if key.id.is_some() && keys.iter().any(|other| other.id == key.id) {
            problems
                .push(error(format!("{}.id", key_spec.path), "must not be the id of another key"));
        } else {
            keys.push(key);
        }
    }
    if let Some(bytes) = &spec.jwks {
        for key in jwks::compile(bytes, problems) {
            if key.id.is_some() && keys.iter().any(|other| other.id == key.id) {
                let message =
                    format!("the kid '{}' must not be the id of a key in jwt.keys too", key.label);
                problems.push(error("jwt.jwks_file", message));
            } else {
                keys.push(key);
            }
        }
    }
    if spec.keys.is_empty() && spec.jwks.is_none() {
        let message = "needs a key; write secret, secret_file, public_key_file, keys or jwks_file";
        problems.push(error("jwt", message));
    }
    if keys.len() > KEYS_MAX {
        problems.push(error(
            "jwt.keys",
            format!("must have at most {KEYS_MAX} keys, those of the JWK set included"),
        ));
    }
    if keys.iter().filter(|key| key.id.is_none()).count() > KEYS_WITHOUT_ID_MAX {
        let message = format!("at most {KEYS_WITHOUT_ID_MAX} keys may have no id");
        problems.push(error("jwt.keys", message));
    }
    keys
}

fn check_sources(sources: &[TokenSource], problems: &mut Vec<AuthProblem>) {
    if sources.is_empty() {
        problems.push(error("jwt.token_sources", "must hold at least one source"));
    }
    for (index, source) in sources.iter().enumerate() {
        let good = match source {
            TokenSource::Bearer => true,
            // Cookie names are tokens too (RFC 6265 section 4.1.1).
            TokenSource::Header { name, .. } | TokenSource::Cookie { name } => {
                is_token(name.as_bytes())
            }
            TokenSource::Query { name } => !name.is_empty(),
        };
        if !good {
            let path = format!("jwt.token_sources[{index}].name");
            problems.push(error(path, "must be a valid name of a field, cookie or parameter"));
        }
    }
}

/// Sources of a token for the admin API: the configured header fields, or else Bearer.
///
/// A query ends up in histories and logs, and a browser adds a cookie to requests that another
/// site makes, so neither is accepted.
fn admin_sources(sources: &[TokenSource]) -> Box<[TokenSource]> {
    let headers: Box<[_]> = sources
        .iter()
        .filter(|source| matches!(source, TokenSource::Bearer | TokenSource::Header { .. }))
        .cloned()
        .collect();
    if headers.is_empty() { [TokenSource::Bearer].into() } else { headers }
}

fn error(path: impl Into<String>, message: impl Into<String>) -> AuthProblem {
    AuthProblem { path: path.into(), message: message.into(), warning: false }
}
