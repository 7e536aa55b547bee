//! The policy of one generation, compiled from the configuration: keys, rules, token sources.

use std::{
    fmt,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use serde_json::{Map, Value};

use super::{
    claims::{Rules, Scope},
    denial::DenialReason,
    json,
    key::install_crypto,
    key_source::{KeySets, KeySource},
    provider::{self, Provider, ProviderSet, unknown_name},
    spec::{AuthProblem, AuthSpec, ClaimSpec, ProviderSpec, TokenSource},
    token::Unverified,
    verified::Verified,
    window::Window,
};
use crate::protocol::text::token::is_token;

/// Longest `jwt.leeway`, in seconds. It is for clocks that differ, "usually no more than a few
/// minutes" (RFC 7519 section 4.1.4), not for tokens that should be valid for longer.
pub const LEEWAY_SECONDS_MAX: u64 = 300;

/// Immutable rules for reading objects and using the admin API, for one generation.
pub struct AuthPolicy {
    /// Number that no other policy of this process has; binds a cache to its policy.
    pub(super) identity: u64,
    enforced: bool,
    /// The keys of the section itself, then its providers.
    providers: Box<[Provider]>,
    leeway_seconds: u64,
    require_exp: bool,
    /// Sources of a token in a request for an object.
    pub(super) sources: Box<[TokenSource]>,
    /// The same for the admin API: header fields only.
    pub(super) admin_sources: Box<[TokenSource]>,
    /// Rules for the admin API.
    pub(super) admin_rules: Rules,
    /// Providers whose tokens may use the admin API.
    pub(super) admin_providers: ProviderSet,
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
        let providers = provider::compile(spec, &mut problems);
        let leeway_seconds = spec.leeway.as_secs();
        if spec.leeway.as_nanos() > u128::from(LEEWAY_SECONDS_MAX) * 1_000_000_000 {
            let message = format!("must be at most {LEEWAY_SECONDS_MAX} seconds");
            problems.push(AuthProblem::error("jwt.leeway", message));
        }
        check_sources(&spec.sources, &mut problems);
        if spec.admin_claims.is_empty() {
            let message = "must hold at least one rule; without one every token could use the \
                           admin API";
            problems.push(AuthProblem::error("jwt.admin_claims", message));
        }
        let admin_rules = Rules::compile(&spec.admin_claims, Scope::Admin, &mut problems);
        if problems.iter().any(|problem| !problem.warning) {
            return (None, problems);
        }
        let admin_providers = match &spec.admin_providers[..] {
            [] => ProviderSet::OWN,
            names => ProviderSet::of(names, &spec.providers).unwrap_or(ProviderSet::OWN),
        };
        let policy = Self {
            identity: next_identity(),
            enforced: true,
            providers: providers.into(),
            leeway_seconds,
            require_exp: spec.require_exp,
            sources: spec.sources.clone().into(),
            admin_sources: admin_sources(&spec.sources),
            admin_rules,
            admin_providers,
        };
        (Some(policy), problems)
    }

    /// The policy of `jwt.enabled: false`, and of a configuration without a `jwt` section: no
    /// bucket requires a token and the admin API is closed.
    pub fn disabled() -> Self {
        Self {
            identity: next_identity(),
            enforced: false,
            providers: Box::default(),
            leeway_seconds: 0,
            require_exp: true,
            sources: Box::default(),
            admin_sources: Box::default(),
            admin_rules: Rules::default(),
            admin_providers: ProviderSet::OWN,
        }
    }

    /// Returns true if JWT authentication is enabled.
    pub fn enforced(&self) -> bool {
        self.enforced
    }

    /// One label per key, in the order of `Permit::key_index`: its id, or its key path.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> + Clone {
        self.providers.iter().flat_map(|provider| provider.keys.labels())
    }

    /// The sources of key sets, each of another provider.
    pub fn key_sources(&self) -> impl Iterator<Item = &Arc<KeySource>> + Clone {
        self.providers.iter().filter_map(|provider| provider.source.as_ref())
    }

    /// The source of the key set that a refused token could be in, had it been renewed
    /// (`Denial::unknown_key_of`).
    pub fn key_source(&self, provider: usize) -> Option<&Arc<KeySource>> {
        self.providers.get(provider)?.source.as_ref()
    }

    /// Returns true if the key that verified a token is one of its provider's still.
    pub(super) fn still_trusts(&self, token: &Verified, fetched: &impl KeySets) -> bool {
        let provider = self.providers.get(token.provider);
        provider.is_some_and(|provider| provider.still_has(token.key, fetched))
    }

    /// Rules for every protected bucket, as they are for a token.
    pub(super) fn rules_for(&self, token: &Verified) -> Option<&Rules> {
        self.providers.get(token.provider).map(|provider| &*provider.rules)
    }

    /// Verifies a token: form, provider, key, signature, times, issuer, audience, in this order. No
    /// claim is read before the signature is known to be good, but `iss` where it chooses keys.
    pub(super) fn verify(
        &self,
        token: &[u8],
        fetched: &impl KeySets,
        now_unix: u64,
    ) -> Result<Verified, Refused> {
        let unverified = Unverified::parse(token)?;
        let read_claims = || json::object(&unverified.payload).ok_or(DenialReason::Malformed);
        // Without providers there is nothing to choose.
        let early = if self.providers.len() > 1 { Some(read_claims()?) } else { None };
        let index = early.as_ref().map_or(0, |claims| self.provider_of(claims));
        let provider = self.providers.get(index).ok_or(DenialReason::UnknownKey)?;
        if provider.keys.is_empty() && provider.source.is_none() {
            // The section has providers only, and this token is of none of them.
            return Err(DenialReason::BadIssuer.into());
        }
        let key = provider.verifying_key(&unverified, fetched).map_err(|no_key| Refused {
            reason: no_key.reason,
            subject: None,
            key_id: None,
            unknown_key_of: Some(index).filter(|_| no_key.is_id_unknown),
        })?;
        let claims = early.map_or_else(read_claims, Ok)?;
        let key_id = unverified.key_id.as_deref().map(Rc::from);
        let subject = claims.get("sub").and_then(Value::as_str).map(Rc::from);
        let checked = Window::read(&claims, self.leeway_seconds, self.require_exp)
            .and_then(|window| window.check(now_unix).map(|()| window))
            .and_then(|window| provider.check(&claims).map(|()| window));
        match checked {
            Ok(window) => {
                let general_rules_hold = provider.rules.hold(&claims);
                let provider = index;
                Ok(Verified { window, provider, key, key_id, subject, claims, general_rules_hold })
            }
            Err(reason) => Err(Refused { reason, subject, key_id, unknown_key_of: None }),
        }
    }

    /// Index of the provider that these claims say they are of; that of the section's own keys if
    /// no provider has this issuer.
    fn provider_of(&self, claims: &Map<String, Value>) -> usize {
        let issuer = claims.get("iss").and_then(Value::as_str);
        let of_issuer = |issuer| {
            let others = self.providers.iter().skip(1);
            others.clone().position(|provider| provider.issues(issuer)).map(|place| place + 1)
        };
        issuer.and_then(of_issuer).unwrap_or_default()
    }
}

impl fmt::Debug for AuthPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthPolicy")
            .field("enforced", &self.enforced)
            .field("keys", &self.providers.iter().map(|p| &p.keys).collect::<Vec<_>>())
            .field("sources", &self.sources)
            .finish_non_exhaustive()
    }
}

/// Refusal of a token, with its subject and the id of its key if the signature was good.
pub(super) struct Refused {
    pub(super) reason: DenialReason,
    pub(super) subject: Option<Rc<str>>,
    pub(super) key_id: Option<Rc<str>>,
    /// The provider that has no key of the token's `kid`, if that is why.
    pub(super) unknown_key_of: Option<usize>,
}

impl From<DenialReason> for Refused {
    fn from(reason: DenialReason) -> Self {
        Self { reason, subject: None, key_id: None, unknown_key_of: None }
    }
}

/// Rules of one bucket, in addition to those of the policy.
#[derive(Debug)]
pub struct BucketAuth {
    enabled: bool,
    pub(super) rules: Rules,
    /// Providers whose tokens may read it.
    pub(super) providers: ProviderSet,
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
        (Some(Self { enabled, rules, providers: ProviderSet::ALL }), problems)
    }

    /// Limits the bucket to the tokens of some of the providers, by name.
    ///
    /// # Errors
    /// The problem with a name at `path` that no provider has.
    pub fn limited_to(
        mut self,
        names: &[String],
        providers: &[ProviderSpec],
        path: &str,
    ) -> Result<Self, AuthProblem> {
        self.providers = ProviderSet::of(names, providers)
            .map_err(|position| unknown_name(format!("{path}[{position}]")))?;
        Ok(self)
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

fn check_sources(sources: &[TokenSource], problems: &mut Vec<AuthProblem>) {
    if sources.is_empty() {
        problems.push(AuthProblem::error("jwt.token_sources", "must hold at least one source"));
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
            problems.push(AuthProblem::error(
                path,
                "must be a valid name of a field, cookie or parameter",
            ));
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
