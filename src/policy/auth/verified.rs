//! A token whose signature, issuer and audience were checked.

use std::rc::Rc;

use serde_json::{Map, Value};

use super::{denial::DenialReason, window::Window};

/// The key that verified a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct VerifiedBy {
    /// Index among all configured keys of the policy, if it is one of them.
    pub(super) key_index: Option<usize>,
    /// Version of the fetched set that it is in, if it is in one.
    pub(super) set_version: Option<u64>,
}

/// Contents of a token that is known to be genuine: enough to decide any later request with it. It
/// is never made from a token that failed a check.
#[derive(Debug)]
pub(super) struct Verified {
    /// Time in which it is good; checked on every use.
    pub(super) window: Window,
    /// Index of its provider in the policy.
    pub(super) provider: usize,
    /// The key that verified it.
    pub(super) key: VerifiedBy,
    /// `kid` of its header, which the signature covers.
    pub(super) key_id: Option<Rc<str>>,
    /// `sub`, when it is a string.
    pub(super) subject: Option<Rc<str>>,
    /// All claims, for the rules of buckets, of the admin API and about object keys.
    pub(super) claims: Map<String, Value>,
    /// Result of the rules about claims alone that are for every bucket; decided once.
    pub(super) general_rules_hold: bool,
}

impl Verified {
    /// Estimate of the memory that it takes, in bytes.
    pub(super) fn heap_bytes(&self) -> usize {
        let key_id = self.key_id.as_ref().map_or(0, |id| id.len());
        size_of::<Self>() + key_id + members_bytes(&self.claims)
    }

    #[cfg(test)]
    pub(super) fn for_test(text_bytes: usize) -> Self {
        let mut claims = Map::new();
        claims.insert("text".to_owned(), Value::String("x".repeat(text_bytes)));
        let window = Window::read(&claims, 0, false);
        Self {
            window: window.unwrap(),
            provider: 0,
            key: VerifiedBy { key_index: Some(0), set_version: None },
            key_id: None,
            subject: None,
            claims,
            general_rules_hold: true,
        }
    }
}

fn members_bytes(members: &Map<String, Value>) -> usize {
    let entry = size_of::<String>() + size_of::<Value>();
    members.iter().map(|(name, value)| entry + name.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => {
            items.iter().map(|item| size_of::<Value>() + value_bytes(item)).sum()
        }
        Value::Object(members) => members_bytes(members),
    }
}

/// Checks `iss` (RFC 7519 section 4.1.1): equal, byte for byte.
pub(super) fn check_issuer(
    claims: &Map<String, Value>,
    expected: &str,
) -> Result<(), DenialReason> {
    match claims.get("iss") {
        Some(Value::String(issuer)) if issuer == expected => Ok(()),
        _ => Err(DenialReason::BadIssuer),
    }
}

/// Checks `aud` (RFC 7519 section 4.1.3): a string, or a list of strings of which one is accepted.
pub(super) fn check_audience(
    claims: &Map<String, Value>,
    accepted: &[Box<str>],
) -> Result<(), DenialReason> {
    let is_accepted = |audience: &str| accepted.iter().any(|known| **known == *audience);
    let good = match claims.get("aud") {
        Some(Value::String(audience)) => is_accepted(audience),
        Some(Value::Array(audiences)) => {
            audiences.iter().all(Value::is_string)
                && audiences.iter().filter_map(Value::as_str).any(is_accepted)
        }
        _ => false,
    };
    if good { Ok(()) } else { Err(DenialReason::BadAudience) }
}
