//! Minting tokens.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

/// A secret long enough for HS256.
pub(crate) const JWT_SECRET: &str = "an-end-to-end-secret-of-enough-characters";

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// An HS256 token with these claims, as they are.
pub(crate) fn mint(secret: &str, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).unwrap()
}

/// A token for `role` that is good for an hour.
pub(crate) fn for_role(role: &str) -> String {
    mint(JWT_SECRET, &json!({ "sub": "tester", "role": role, "exp": unix_now() + 3_600 }))
}

/// The value of an `Authorization` field.
pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}
