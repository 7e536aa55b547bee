//! Authentication as configured, in plain values: the input from which the control plane compiles
//! an `AuthPolicy` and each bucket's `BucketAuth`.

use std::{fmt, time::Duration};

use crate::model::Secret;

/// Default of `jwt.leeway`, the tolerance for clocks that differ.
pub const LEEWAY_DEFAULT: Duration = Duration::from_mins(1);

/// The `jwt` section after defaults, variables and files.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthSpec {
    /// `jwt.enabled`; false without a section. If false, no bucket requires a token.
    pub enforced: bool,
    /// All verification keys; the single-key form comes first, without an id.
    pub keys: Vec<KeySpec>,
    /// `jwt.jwks_file`: the bytes of a JWK set (RFC 7517 section 5), and its key path for messages.
    pub jwks: Option<Vec<u8>>,
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

impl fmt::Debug for AuthSpec {
    /// Leaves out the JWK set, which may hold HMAC secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthSpec")
            .field("enforced", &self.enforced)
            .field("keys", &self.keys)
            .field("jwks_bytes", &self.jwks.as_ref().map(Vec::len))
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
