//! Key sets that were fetched, each with its end.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use crate::{policy::auth::KeySet, system::clock::Monotonic};

/// Time until which a set is good. The control plane moves it whenever the provider confirms the
/// set, which then needs no other version; cores look at it with every token that needs the set. So
/// a set ends for them though nobody takes it away.
#[derive(Debug)]
pub struct GoodUntil(AtomicU64);

impl GoodUntil {
    /// At first.
    pub const fn new(end: Monotonic) -> Self {
        Self(AtomicU64::new(end.0))
    }

    /// Moves it.
    pub fn set(&self, end: Monotonic) {
        self.0.store(end.0, Ordering::Relaxed);
    }

    /// The time.
    pub fn get(&self) -> Monotonic {
        Monotonic(self.0.load(Ordering::Relaxed))
    }
}

/// The key set of a source.
#[derive(Clone, Debug)]
pub struct LiveKeys {
    /// The keys.
    pub keys: Arc<KeySet>,
    /// Their end.
    pub good_until: Arc<GoodUntil>,
}
