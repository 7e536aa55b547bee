//! Assignment of counters to JWT keys.

use crate::telemetry::cells::JWT_KEY_SLOTS;

/// Label of all keys that found no slot of their own.
const OTHER_KEYS: &str = "_other";

/// Assigns counter slots to key labels, for the life of the process.
///
/// A key's position in the configuration changes when keys rotate, and a counter must not change its
/// meaning. So a label keeps its slot even after the key is gone, and a slot
/// is never given to another label. Owned by whoever compiles configurations: compile with a clone
/// and keep that when the configuration is adopted, so that a refused one takes no slot.
#[derive(Clone, Debug, Default)]
pub struct KeySlots {
    labels: Vec<Box<str>>,
}

impl KeySlots {
    /// No key yet.
    pub const fn new() -> Self {
        Self { labels: Vec::new() }
    }

    /// The slot of a key, a new one for a new label; the shared last one
    /// ([`JWT_KEY_SLOTS`]) when all are taken.
    pub fn slot(&mut self, label: &str) -> usize {
        if label == OTHER_KEYS {
            return JWT_KEY_SLOTS;
        }
        if let Some(slot) = self.labels.iter().position(|known| **known == *label) {
            return slot;
        }
        if self.labels.len() == JWT_KEY_SLOTS {
            return JWT_KEY_SLOTS;
        }
        self.labels.push(label.into());
        self.labels.len() - 1
    }

    /// Slots in use with their labels; the shared one is always the last.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &str)> {
        let named = self.labels.iter().enumerate().map(|(slot, label)| (slot, &**label));
        named.chain(std::iter::once((JWT_KEY_SLOTS, OTHER_KEYS)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_keeps_its_slot() {
        let mut slots = KeySlots::new();
        assert_eq!((slots.slot("old"), slots.slot("new")), (0, 1));
        assert_eq!((slots.slot("new"), slots.slot("newer"), slots.slot("old")), (1, 2, 0));
    }

    #[test]
    fn labels_beyond_the_table_share_the_last_slot() {
        let mut slots = KeySlots::new();
        for key in 0..JWT_KEY_SLOTS {
            assert_eq!(slots.slot(&format!("k{key}")), key);
        }
        assert_eq!(slots.slot("one too many"), JWT_KEY_SLOTS);
        assert_eq!(slots.slot("k3"), 3);
        assert_eq!(KeySlots::new().slot(OTHER_KEYS), JWT_KEY_SLOTS);
        assert_eq!(slots.iter().count(), JWT_KEY_SLOTS + 1);
        assert_eq!(slots.iter().last(), Some((JWT_KEY_SLOTS, "_other")));
    }
}
