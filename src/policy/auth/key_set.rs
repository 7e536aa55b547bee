//! The keys that verify the tokens of one provider.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{denial::DenialReason, key::VerificationKey, token::Unverified};

/// Most keys at once. A rotation needs two, a provider's JWK set a handful.
pub const KEYS_MAX: usize = 100;

/// Most keys without an id. A token that names none of the others is tried with each of them, so
/// that they multiply the cost of a bad token.
const KEYS_WITHOUT_ID_MAX: usize = 8;

/// Keys of one provider, all at once: a set is replaced as a whole, never changed.
pub struct KeySet {
    /// Number that no other set of this process has; binds cached tokens to their set.
    pub(super) version: u64,
    keys: Box<[VerificationKey]>,
}

impl KeySet {
    pub(super) fn new(keys: Vec<VerificationKey>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self { version: NEXT.fetch_add(1, Ordering::Relaxed), keys: keys.into() }
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns true if it holds no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Number of the set; no other set of this process has it.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// One label per key, in order: its id, or its place.
    pub(super) fn labels(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.keys.iter().map(|key| &*key.label)
    }

    fn position(&self, id: &str) -> Option<usize> {
        self.keys.iter().position(|key| key.id.as_deref() == Some(id))
    }
}

/// Bounds the number of keys.
///
/// # Errors
/// The problem, in words that fit after the key path.
pub(super) fn check_number(keys: &[VerificationKey]) -> Result<(), String> {
    if keys.len() > KEYS_MAX {
        return Err(format!("must have at most {KEYS_MAX} keys, those of the JWK set included"));
    }
    if keys.iter().filter(|key| key.id.is_none()).count() > KEYS_WITHOUT_ID_MAX {
        return Err(format!("at most {KEYS_WITHOUT_ID_MAX} keys may have no id"));
    }
    Ok(())
}

/// A key among those of some sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Index of the set.
    pub(super) set: usize,
    /// Index of the key in its set.
    pub(super) key: usize,
}

/// No key that verifies a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoKey {
    pub(super) reason: DenialReason,
    /// Set if the token has a `kid` that no key has.
    pub(super) is_id_unknown: bool,
}

/// The key of some sets that verifies the token. A key with the token's `kid` is the only one
/// allowed; without such a key those without an id are tried.
pub(super) fn verifying_key(sets: &[&KeySet], token: &Unverified<'_>) -> Result<Place, NoKey> {
    let bound = token.key_id.as_deref().and_then(|id| {
        let position =
            |(set, keys): (usize, &&KeySet)| Some(Place { set, key: keys.position(id)? });
        sets.iter().enumerate().find_map(position)
    });
    let mut reason = DenialReason::UnknownKey;
    for (set, keys) in sets.iter().enumerate() {
        for (key, candidate) in keys.keys.iter().enumerate() {
            let place = Place { set, key };
            let may_verify = bound.map_or_else(|| candidate.id.is_none(), |bound| bound == place);
            if !may_verify {
                continue;
            }
            if !candidate.has_algorithm_of(token) {
                if reason == DenialReason::UnknownKey {
                    reason = DenialReason::BadAlgorithm;
                }
                continue;
            }
            if candidate.verifies(token) {
                return Ok(place);
            }
            reason = DenialReason::BadSignature;
        }
    }
    Err(NoKey { reason, is_id_unknown: token.key_id.is_some() && bound.is_none() })
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet").field("version", &self.version).field("keys", &self.keys).finish()
    }
}
