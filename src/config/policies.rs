//! The policies of a configuration: keys and rules, compiled once for checking and for serving.

use std::sync::Arc;

use super::settings::Settings;
use crate::policy::auth::{AuthPolicy, BucketAuth, spec::AuthProblem};

/// The meaning of the `jwt` section and of each bucket's rules.
#[derive(Clone, Debug)]
pub struct Policies {
    /// Keys and rules for all buckets.
    pub auth: Arc<AuthPolicy>,
    /// Rules of each bucket, in file order.
    pub buckets: Vec<Arc<BucketAuth>>,
}

impl Policies {
    /// Compiles keys and rules. All problems are reported together; there are policies unless one
    /// of them is an error, or a key is missing, which is reported where keys are read.
    pub fn compile(settings: &Settings) -> (Option<Self>, Vec<AuthProblem>) {
        let mut problems = Vec::new();
        let auth = match &settings.auth {
            None => Some(AuthPolicy::disabled()),
            Some(auth) if !auth.has_own_keys() && auth.providers.is_empty() => {
                // The rules are still worth checking.
                problems.extend(BucketAuth::compile(true, &auth.claims).1);
                problems.extend(BucketAuth::compile(true, &auth.admin_claims).1);
                (!auth.enforced).then(AuthPolicy::disabled)
            }
            Some(auth) => {
                let (policy, found) = AuthPolicy::compile(auth);
                problems.extend(found);
                policy
            }
        };
        let mut buckets = Vec::with_capacity(settings.buckets.len());
        let providers = settings.auth.as_ref().map_or(&[][..], |auth| &auth.providers);
        for (index, bucket) in settings.buckets.iter().enumerate() {
            let (rules, found) = BucketAuth::compile(bucket.auth.enabled, &bucket.auth.claims);
            problems.extend(found);
            let rules = match &bucket.auth.providers[..] {
                [] => rules,
                names => rules.and_then(|rules| {
                    let path = format!("buckets[{index}].auth.providers");
                    let limited = rules.limited_to(names, providers, &path);
                    limited.map_err(|problem| problems.push(problem)).ok()
                }),
            };
            buckets.extend(rules.map(Arc::new));
        }
        let policies = auth
            .filter(|_| buckets.len() == settings.buckets.len())
            .map(|auth| Self { auth: Arc::new(auth), buckets });
        (policies, problems)
    }
}
