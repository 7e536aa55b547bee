//! Notes of a moment ago, of what clients can cause as often as they like.

use std::{cell::RefCell, collections::HashMap, hash::Hash};

use crate::system::clock::Monotonic;

/// Keys that were noted within the last interval. Older ones are dropped with the next note, so it
/// never holds more than one interval brings.
#[derive(Debug)]
pub(crate) struct Recent<K> {
    interval_ns: u64,
    noted: RefCell<HashMap<K, Monotonic>>,
}

impl<K: Clone + Eq + Hash> Recent<K> {
    pub(crate) fn within(interval_ns: u64) -> Self {
        Self { interval_ns, noted: RefCell::default() }
    }

    /// Notes a key. Returns true unless it was noted within the last interval.
    pub(crate) fn note(&self, key: &K, now: Monotonic) -> bool {
        let mut noted = self.noted.borrow_mut();
        noted.retain(|_, at| now.since(*at) < self.interval_ns);
        if noted.contains_key(key) {
            return false;
        }
        noted.insert(key.clone(), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_news_once_in_an_interval_and_old_ones_are_dropped() {
        let recent = Recent::within(10);
        let note = |key: u32, now| recent.note(&key, Monotonic(now));
        assert!(note(1, 100));
        assert!(!note(1, 109), "noted before");
        assert!(note(2, 105));
        assert!(note(1, 110), "what is not news does not begin an interval");
        for key in 0..1_000 {
            assert!(note(key, 1_000 + u64::from(key)));
            assert!(recent.noted.borrow().len() <= 10);
        }
    }
}
