//! Authentication as configured, in plain values: the input from which the control plane compiles
//! an `AuthPolicy` and each bucket's `BucketAuth`.

use std::{fmt, time::Duration};

use crate::{
    model::{CaBundle, Secret},
    protocol::url::HttpUrl,
};

/// Default of `jwt.leeway`, the tolerance for clocks that differ.
pub const LEEWAY_DEFAULT: Duration = Duration::from_mins(1);

/// Default of `jwt.jwks.refresh`.
pub const REFRESH_DEFAULT: Duration = Duration::from_hours(1);

/// Default of `jwt.jwks.max_stale`.
pub const MAX_STALE_DEFAULT: Duration = Duration::from_hours(24);

/// The `jwt` section after defaults, variables and files.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthSpec {
    /// `jwt.enabled`; false without a section. If false, no bucket requires a token.
    pub enforced: bool,
    /// All verification keys; the single-key form comes first, without an id.
    pub keys: Vec<KeySpec>,
    /// `jwt.jwks_file`: the bytes of a JWK set (RFC 7517 section 5), and its key path for messages.
    pub jwks: Option<Vec<u8>>,
    /// `jwt.jwks_url`: where a JWK set is fetched from.
    pub jwks_url: Option<HttpUrl>,
    /// `jwt.discovery`: the place of the set is asked for at the issuer.
    pub discovery: bool,
    /// Times and certificates for fetching sets, those of providers too.
    pub fetch: FetchSettings,
    /// Names of the algorithms accepted for keys of a set; empty for the default.
    pub algorithms: Vec<String>,
    /// Further issuers, each with its own keys.
    pub providers: Vec<ProviderSpec>,
    /// Names of providers whose tokens may use the admin API; empty for the keys above only.
    pub admin_providers: Vec<String>,
    /// Required `iss`, when set.
    pub issuer: Option<String>,
    /// Accepted `aud` values; empty accepts any.
    pub audience: Vec<String>,
    /// Tolerance for `exp`, `nbf` and `iat`.
    pub leeway: Duration,
    /// Set if a token without `exp` is refused.
    pub require_exp: bool,
    /// Sources of a token, in the order in which they are tried.
    pub sources: Vec<TokenSource>,
    /// Rules for every protected bucket.
    pub claims: Vec<ClaimSpec>,
    /// Rules for `/admin/*`.
    pub admin_claims: Vec<ClaimSpec>,
}

impl Default for AuthSpec {
    /// Defaults of a `jwt` section; without keys, and not enforced.
    fn default() -> Self {
        Self {
            enforced: false,
            keys: Vec::new(),
            jwks: None,
            jwks_url: None,
            discovery: false,
            fetch: FetchSettings::default(),
            algorithms: Vec::new(),
            providers: Vec::new(),
            admin_providers: Vec::new(),
            issuer: None,
            audience: Vec::new(),
            leeway: LEEWAY_DEFAULT,
            require_exp: true,
            sources: vec![TokenSource::Bearer],
            claims: Vec::new(),
            admin_claims: vec![ClaimSpec {
                path: "jwt.admin_claims[0]".to_owned(),
                claim: "role".to_owned(),
                operator: "equals".to_owned(),
                value: "admin".into(),
            }],
        }
    }
}

impl AuthSpec {
    /// Returns true if the section itself has keys, or a source of them.
    pub fn has_own_keys(&self) -> bool {
        !self.keys.is_empty() || self.jwks.is_some() || self.jwks_url.is_some() || self.discovery
    }

    /// Every configured key, those of providers included.
    pub fn all_keys(&self) -> impl Iterator<Item = &KeySpec> {
        self.keys.iter().chain(self.providers.iter().flat_map(|provider| &provider.keys))
    }

    /// Every configured JWK set, with the key path of its place.
    pub fn all_sets(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let own = self.jwks.as_deref().map(|set| ("jwt", set));
        let others = self.providers.iter();
        own.into_iter().chain(others.filter_map(|one| Some((&*one.path, one.jwks.as_deref()?))))
    }
}

impl fmt::Debug for AuthSpec {
    /// Leaves out the JWK set, which may hold HMAC secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthSpec")
            .field("enforced", &self.enforced)
            .field("keys", &self.keys)
            .field("jwks_bytes", &self.jwks.as_ref().map(Vec::len))
            .field("jwks_url", &self.jwks_url.as_ref().map(ToString::to_string))
            .field("discovery", &self.discovery)
            .field("fetch", &self.fetch)
            .field("algorithms", &self.algorithms)
            .field("providers", &self.providers)
            .field("admin_providers", &self.admin_providers)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("leeway", &self.leeway)
            .field("require_exp", &self.require_exp)
            .field("sources", &self.sources)
            .field("claims", &self.claims)
            .field("admin_claims", &self.admin_claims)
            .finish()
    }
}

/// Times and certificates for fetching JWK sets, `jwt.jwks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchSettings {
    /// Time between two renewals, where the answer names none.
    pub refresh: Duration,
    /// Time for which the last good set is used.
    pub max_stale: Duration,
    /// Certificates trusted besides the system's.
    pub ca: Option<CaBundle>,
}

impl Default for FetchSettings {
    fn default() -> Self {
        Self { refresh: REFRESH_DEFAULT, max_stale: MAX_STALE_DEFAULT, ca: None }
    }
}

/// One issuer as configured.
#[derive(Clone, PartialEq, Eq)]
pub struct ProviderSpec {
    /// Key path for messages, such as `jwt.providers[0]`.
    pub path: String,
    /// Name in `auth.providers`, metrics and logs.
    pub name: String,
    /// The `iss` of its tokens.
    pub issuer: String,
    /// Accepted `aud` values; none for those of the section.
    pub audience: Option<Vec<String>>,
    /// Its keys.
    pub keys: Vec<KeySpec>,
    /// The bytes of a JWK set.
    pub jwks: Option<Vec<u8>>,
    /// Where a JWK set is fetched from.
    pub jwks_url: Option<HttpUrl>,
    /// The place of the set is asked for at the issuer.
    pub discovery: bool,
    /// Names of the algorithms accepted for keys of a set; empty for those of the section.
    pub algorithms: Vec<String>,
    /// Rules for every protected bucket; none for those of the section.
    pub claims: Option<Vec<ClaimSpec>>,
}

impl ProviderSpec {
    /// Returns true if it has keys, or a source of them.
    pub fn has_keys(&self) -> bool {
        !self.keys.is_empty() || self.jwks.is_some() || self.jwks_url.is_some() || self.discovery
    }
}

impl fmt::Debug for ProviderSpec {
    /// Leaves out the JWK set, which may hold HMAC secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderSpec")
            .field("path", &self.path)
            .field("name", &self.name)
            .field("issuer", &self.issuer)
            .field("audience", &self.audience)
            .field("keys", &self.keys)
            .field("jwks_bytes", &self.jwks.as_ref().map(Vec::len))
            .field("jwks_url", &self.jwks_url.as_ref().map(ToString::to_string))
            .field("discovery", &self.discovery)
            .field("algorithms", &self.algorithms)
            .field("claims", &self.claims)
            .finish()
    }
}

/// One verification key as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySpec {
    /// Key path for messages, such as `jwt.keys[2]` or `jwt`.
    pub path: String,
    /// `kid` that binds to this key, if it has one.
    pub id: Option<String>,
    /// Algorithm name as written, such as `HS256`.
    pub algorithm: String,
    /// The key itself.
    pub material: KeyMaterial,
}

/// Key bytes as read from the file or the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyMaterial {
    /// HMAC secret.
    Secret(Secret),
    /// PEM of a public key (SPKI or PKCS#1).
    PublicPem(Vec<u8>),
}

/// One place where a token may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// `Authorization: Bearer` (RFC 6750 section 2.1).
    Bearer,
    /// A header field, whose value starts with a fixed prefix.
    Header {
        /// Field name, lower case.
        name: String,
        /// Removed from the start of the value; the source is absent if it is not there.
        prefix: String,
    },
    /// A query parameter.
    Query {
        /// Parameter name.
        name: String,
    },
    /// A cookie.
    Cookie {
        /// Cookie name.
        name: String,
    },
}

/// One claim rule as configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimSpec {
    /// Key path for messages, such as `jwt.claims[0]`.
    pub path: String,
    /// Claim name; dots descend into objects.
    pub claim: String,
    /// Operator name as written.
    pub operator: String,
    /// The value to compare with; `Null` when not written.
    pub value: serde_json::Value,
}

/// A problem with an [`AuthSpec`], found while compiling it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthProblem {
    /// Key path, such as `jwt.keys[0].secret`.
    pub path: String,
    /// The problem and what to change. Never holds a secret.
    pub message: String,
    /// Set if it is only a warning.
    pub warning: bool,
}

impl AuthProblem {
    /// A problem that is more than a warning.
    pub(super) fn error(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), warning: false }
    }
}
