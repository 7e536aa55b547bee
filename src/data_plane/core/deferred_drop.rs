//! Deferred drop of verified tokens whose generation is over. They are never looked at again, but
//! freeing thousands of them at once would hold requests up, and they cannot leave their core.

use std::cell::RefCell;

use crate::policy::auth::TokenCache;

/// Tokens freed at each tick at least: some tens of microseconds of work.
const TOKENS_PER_TICK: usize = 256;

/// At each tick at least this part of all of them goes, so that very frequent reloads of a busy
/// proxy do not pile them up.
const PART_PER_TICK: usize = 8;

/// The caches of one core that wait to be freed.
#[derive(Debug, Default)]
pub(crate) struct DeferredDrop(RefCell<Vec<TokenCache>>);

impl DeferredDrop {
    /// Takes over a cache that nobody uses any more.
    pub(crate) fn add(&self, cache: TokenCache) {
        if cache.len() > TOKENS_PER_TICK {
            self.0.borrow_mut().push(cache);
        }
    }

    /// Frees some. Call it each tick.
    pub(crate) fn free_some(&self) {
        let mut caches = self.0.borrow_mut();
        let all: usize = caches.iter().map(TokenCache::len).sum();
        let mut left = TOKENS_PER_TICK.max(all / PART_PER_TICK);
        while let Some(cache) = caches.last_mut() {
            left -= cache.forget(left);
            if !cache.is_empty() {
                return;
            }
            caches.pop();
        }
    }
}
