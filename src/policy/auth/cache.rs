//! Cache of verified tokens: the second use of a token costs a hash instead of a signature.
//!
//! There is one cache per core and generation. It needs no lock, and nothing in it outlives the
//! keys and rules that it was filled under. Only good tokens enter, so that a flood of bad ones
//! evicts nothing.

use std::{
    collections::HashMap,
    fmt,
    hash::{BuildHasherDefault, Hasher},
    mem,
    rc::Rc,
};

use super::verified::Verified;

/// Most cached tokens, per core. At a few hundred bytes each this is about the working set of a
/// busy site between two expiries, and takes at most a few megabytes.
const CACHED_TOKENS_MAX: usize = 8_192;

/// Most memory of the cached tokens' claims, per core, in bytes. It bounds [`CACHED_TOKENS_MAX`]
/// tokens that are near their own size limit.
const CACHED_BYTES_MAX: usize = 8 * 1_024 * 1_024;

/// SHA-256 of a token.
pub(super) type Digest = [u8; 32];

/// One core's verified tokens under one generation.
///
/// It has two halves. New and recently used tokens are in the young one. When that is full it
/// becomes the old one, and the tokens of the former old one are forgotten. A token in use moves
/// back to the young half, so that it stays.
#[derive(Default)]
pub struct TokenCache {
    /// Identity of the policy that the tokens were verified under.
    policy: Option<u64>,
    young: Tokens,
    young_bytes: usize,
    old: Tokens,
}

type Tokens = HashMap<Digest, Rc<Verified>, BuildHasherDefault<DigestPrefix>>;

impl TokenCache {
    /// An empty cache.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of cached tokens.
    pub fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Returns true if no token is cached.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The token of that digest, if it was verified under that policy.
    pub(super) fn get(&mut self, policy: u64, digest: &Digest) -> Option<Rc<Verified>> {
        self.bind(policy);
        if let Some(token) = self.young.get(digest) {
            return Some(Rc::clone(token));
        }
        let token = self.old.remove(digest)?;
        self.insert_young(*digest, Rc::clone(&token));
        Some(token)
    }

    /// Adds a token that was verified under that policy.
    pub(super) fn insert(&mut self, policy: u64, digest: Digest, token: Rc<Verified>) {
        self.bind(policy);
        self.insert_young(digest, token);
    }

    /// Removes the token of that digest, because it has expired or its key is gone.
    pub(super) fn remove(&mut self, digest: &Digest) {
        if let Some(token) = self.young.remove(digest) {
            self.young_bytes = self.young_bytes.saturating_sub(token.heap_bytes());
        }
        self.old.remove(digest);
    }

    /// Removes at most `most` tokens and returns their number, for a cache that is no longer used
    /// and too large to be dropped at once.
    pub fn forget(&mut self, most: usize) -> usize {
        let mut forgotten = 0;
        for tokens in [&mut self.old, &mut self.young] {
            let some: Vec<Digest> = tokens.keys().take(most - forgotten).copied().collect();
            for digest in &some {
                tokens.remove(digest);
            }
            forgotten += some.len();
        }
        forgotten
    }

    /// Empties the cache if it was filled under another policy, so that a mistake in its ownership
    /// cannot make a revoked key count.
    fn bind(&mut self, policy: u64) {
        if self.policy != Some(policy) {
            *self = Self { policy: Some(policy), ..Self::default() };
        }
    }

    fn insert_young(&mut self, digest: Digest, token: Rc<Verified>) {
        if self.young.len() >= CACHED_TOKENS_MAX / 2 || self.young_bytes >= CACHED_BYTES_MAX / 2 {
            self.old = mem::take(&mut self.young);
            self.young_bytes = 0;
        }
        self.young_bytes += token.heap_bytes();
        self.young.insert(digest, token);
    }
}

impl fmt::Debug for TokenCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// The first eight bytes of a SHA-256, which is as good a hash as any. Collisions would need many
/// validly signed tokens.
#[derive(Default)]
struct DigestPrefix(u64);

impl Hasher for DigestPrefix {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(prefix) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*prefix);
        }
    }

    fn write_usize(&mut self, _length: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: usize) -> Digest {
        let mut digest = [0; 32];
        digest[..8].copy_from_slice(&number.to_le_bytes());
        digest
    }

    fn token(payload_bytes: usize) -> Rc<Verified> {
        Rc::new(Verified::for_test(payload_bytes))
    }

    #[test]
    fn it_is_bounded_in_entries_and_keeps_what_is_in_use() {
        let mut cache = TokenCache::new();
        let kept = digest(usize::MAX);
        cache.insert(1, kept, token(10));
        for number in 0..5 * CACHED_TOKENS_MAX {
            cache.insert(1, digest(number), token(10));
            assert!(cache.len() <= CACHED_TOKENS_MAX);
            if number % 1_000 == 0 {
                assert!(cache.get(1, &kept).is_some(), "{number}");
            }
        }
        assert!(cache.get(1, &digest(0)).is_none());
    }

    #[test]
    fn it_is_bounded_in_bytes() {
        let mut cache = TokenCache::new();
        let big = 6_000;
        for number in 0..CACHED_TOKENS_MAX {
            cache.insert(1, digest(number), token(big));
        }
        let held: usize =
            cache.young.values().chain(cache.old.values()).map(|token| token.heap_bytes()).sum();
        assert!(held >= CACHED_BYTES_MAX / 2, "{held}");
        assert!(held <= CACHED_BYTES_MAX + 2 * token(big).heap_bytes(), "{held}");
    }

    #[test]
    fn another_policy_finds_nothing() {
        let mut cache = TokenCache::new();
        cache.insert(1, digest(1), token(10));
        assert!(cache.get(1, &digest(1)).is_some());
        assert!(cache.get(2, &digest(1)).is_none());
        assert!(cache.get(1, &digest(1)).is_none());
    }

    #[test]
    fn it_is_forgotten_in_parts() {
        let mut cache = TokenCache::new();
        for number in 0..CACHED_TOKENS_MAX {
            cache.insert(1, digest(number), token(10));
        }
        let all = cache.len();
        assert_eq!(cache.forget(all - 10), all - 10);
        assert_eq!((cache.len(), cache.forget(100), cache.len()), (10, 10, 0));
        assert_eq!(cache.forget(1), 0);
    }

    #[test]
    fn removed_is_gone() {
        let mut cache = TokenCache::new();
        cache.insert(1, digest(1), token(10));
        cache.remove(&digest(1));
        assert!(cache.is_empty());
        assert_eq!(cache.young_bytes, 0);
    }
}
