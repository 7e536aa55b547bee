//! A request head as far as authentication looks at it, and how a decision is asked for.

use yatagarasu::policy::auth::{
    AuthPolicy, BucketAuth, Denial, Permit, TokenCache, TokenCarrier, permit_object, spec::AuthSpec,
};

/// When the tests take place, in seconds of unix time.
pub(crate) const NOW: u64 = 1_700_000_000;

/// Fields and query of a request.
#[derive(Default)]
pub(crate) struct Head {
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) query: Option<Vec<u8>>,
}

impl Head {
    pub(crate) fn bearer(token: &str) -> Self {
        Self::default().field("Authorization", format!("Bearer {token}"))
    }

    pub(crate) fn field(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.fields.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn with_query(mut self, query: impl Into<Vec<u8>>) -> Self {
        self.query = Some(query.into());
        self
    }
}

impl TokenCarrier for Head {
    fn header_values<'a>(&'a self, name_lower: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.fields
            .iter()
            .filter(move |(name, _)| name.eq_ignore_ascii_case(name_lower))
            .map(|(_, value)| value.as_slice())
    }

    fn query(&self) -> Option<&[u8]> {
        self.query.as_deref()
    }
}

/// Compiles a policy that must be good.
pub(crate) fn policy(spec: &AuthSpec) -> AuthPolicy {
    let (policy, problems) = AuthPolicy::compile(spec);
    policy.unwrap_or_else(|| panic!("{problems:?}"))
}

/// A protected bucket without rules of its own.
pub(crate) fn protected() -> BucketAuth {
    BucketAuth::compile(true, &[]).0.unwrap()
}

/// Asks for the object `tenant1/a.jpg` in a protected bucket, with an empty cache.
pub(crate) fn decide(policy: &AuthPolicy, head: &Head) -> Result<Permit, Denial> {
    permit_object(policy, &(), &protected(), &mut TokenCache::new(), head, b"tenant1/a.jpg", NOW)
}
