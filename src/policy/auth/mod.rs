//! Who may read an object or use the admin API.

pub mod spec;

use spec::{AuthProblem, AuthSpec, ClaimSpec, KeyMaterial};

/// Placeholder.
#[derive(Debug)]
pub struct AuthPolicy;

/// Placeholder.
#[derive(Debug)]
pub struct BucketAuth;

impl AuthPolicy {
    /// Placeholder.
    pub fn compile(spec: &AuthSpec) -> (Option<Self>, Vec<AuthProblem>) {
        let mut problems = Vec::new();
        for key in &spec.keys {
            if let KeyMaterial::Secret(secret) = &key.material
                && secret.len() < 32
            {
                problems.push(AuthProblem {
                    path: format!("{}.secret", key.path),
                    message: "JWT secret must be at least 32 characters".to_owned(),
                    warning: false,
                });
            }
        }
        (problems.is_empty().then_some(Self), problems)
    }

    /// Placeholder.
    pub fn disabled() -> Self {
        Self
    }
}

impl BucketAuth {
    /// Placeholder.
    pub fn compile(_enabled: bool, claims: &[ClaimSpec]) -> (Option<Self>, Vec<AuthProblem>) {
        let mut problems = Vec::new();
        for claim in claims {
            if claim.operator == "in" && !claim.value.is_array() {
                problems.push(AuthProblem {
                    path: format!("{}.value", claim.path),
                    message: "needs a list".to_owned(),
                    warning: false,
                });
            }
        }
        (problems.is_empty().then_some(Self), problems)
    }
}
