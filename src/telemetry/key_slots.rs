//! Assignment of counters to JWT keys.

use crate::telemetry::cells::JWT_KEY_SLOTS;

/// Label of all keys that found no slot of their own.
const OTHER_KEYS: &str = "_other";

/// Assigns counter slots to key labels, for the life of the process.
///
/// A key's position in the configuration changes when keys rotate, and a counter must not change
/// its meaning. So a label keeps its slot even after the key is gone, until a new label needs the
/// slot: then the label that has been gone for longest makes room, and what was counted for it is
/// no part of the new label's count. Owned by whoever compiles configurations: compile with a clone
/// and keep that when the configuration is adopted, so that a refused one takes no slot.
#[derive(Clone, Debug, Default)]
pub struct KeySlots {
    slots: Vec<Slot>,
    /// Number of assignments so far.
    assignments: u64,
}

#[derive(Clone, Debug)]
struct Slot {
    label: Box<str>,
    /// The last assignment that named the label.
    named: u64,
    /// The counter's value when the label got the slot; none until [`KeySlots::begin`].
    start: Option<u64>,
}

impl KeySlots {
    /// The slots of the keys of a configuration, by their labels. A label that finds no slot gets
    /// the shared last one ([`JWT_KEY_SLOTS`]).
    pub fn assign<'l>(&mut self, labels: impl Iterator<Item = &'l str> + Clone) -> Box<[usize]> {
        self.assignments += 1;
        // Labels that have a slot come first: none of them may make room for another one.
        for label in labels.clone() {
            if let Some(slot) = self.slots.iter_mut().find(|slot| *slot.label == *label) {
                slot.named = self.assignments;
            }
        }
        labels.map(|label| self.slot(label)).collect()
    }

    fn slot(&mut self, label: &str) -> usize {
        if label == OTHER_KEYS {
            return JWT_KEY_SLOTS;
        }
        if let Some(known) = self.slots.iter().position(|slot| *slot.label == *label) {
            return known;
        }
        let new = Slot { label: label.into(), named: self.assignments, start: None };
        if self.slots.len() < JWT_KEY_SLOTS {
            self.slots.push(Slot { start: Some(0), ..new });
            return self.slots.len() - 1;
        }
        let retired = self
            .slots
            .iter_mut()
            .enumerate()
            .filter(|(_, slot)| slot.named < self.assignments)
            .min_by_key(|(_, slot)| slot.named);
        match retired {
            None => JWT_KEY_SLOTS,
            Some((index, slot)) => {
                *slot = new;
                index
            }
        }
    }

    /// Begins the counts of new labels. `count` gives the value of a slot's counter at the moment
    /// of adoption.
    pub fn begin(&mut self, count: impl Fn(usize) -> u64) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            slot.start.get_or_insert_with(|| count(index));
        }
    }

    /// Slots in use with their labels and the values at which their counters started; the shared
    /// one is always the last.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (usize, &str, u64)> {
        let named = self.slots.iter().enumerate();
        let named = named.map(|(index, slot)| (index, &*slot.label, slot.start.unwrap_or(0)));
        named.chain(std::iter::once((JWT_KEY_SLOTS, OTHER_KEYS, 0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(range: std::ops::Range<usize>) -> Vec<String> {
        range.map(|number| format!("k{number}")).collect()
    }

    fn assign(slots: &mut KeySlots, labels: &[String]) -> Vec<usize> {
        slots.assign(labels.iter().map(String::as_str)).into_vec()
    }

    #[test]
    fn a_label_keeps_its_slot() {
        let mut slots = KeySlots::default();
        assert_eq!(*slots.assign(["old", "new"].into_iter()), [0, 1]);
        assert_eq!(*slots.assign(["new", "newer"].into_iter()), [1, 2]);
        assert_eq!(*slots.assign(["newer", "old"].into_iter()), [2, 0]);
    }

    #[test]
    fn labels_beyond_the_table_share_the_last_slot() {
        let mut slots = KeySlots::default();
        let found = assign(&mut slots, &labels(0..JWT_KEY_SLOTS + 2));
        assert_eq!(found[..JWT_KEY_SLOTS], (0..JWT_KEY_SLOTS).collect::<Vec<_>>());
        assert_eq!(found[JWT_KEY_SLOTS..], [JWT_KEY_SLOTS; 2]);
        assert_eq!(*KeySlots::default().assign([OTHER_KEYS].into_iter()), [JWT_KEY_SLOTS]);
        assert_eq!(slots.iter().count(), JWT_KEY_SLOTS + 1);
        assert_eq!(slots.iter().last(), Some((JWT_KEY_SLOTS, "_other", 0)));
    }

    /// A pair of keys that rotates every night, for a year.
    #[test]
    fn retired_labels_make_room_for_new_ones() {
        let mut slots = KeySlots::default();
        for night in 0..365 {
            let found = assign(&mut slots, &labels(night..night + 2));
            assert!(found.iter().all(|slot| *slot < JWT_KEY_SLOTS), "{night}: {found:?}");
            assert_ne!(found[0], found[1]);
            if night > 0 {
                let before = slots.slots[found[0]].label.clone();
                assert_eq!(*before, *format!("k{night}"), "it keeps its slot");
            }
        }
        // The label that has been gone for longest went first.
        let kept: Vec<&str> = slots.iter().map(|(_, label, _)| label).collect();
        assert!(kept.contains(&"k340") && !kept.contains(&"k330"), "{kept:?}");
    }

    #[test]
    fn a_new_label_does_not_count_what_was_counted_in_its_slot_before() {
        let mut slots = KeySlots::default();
        assign(&mut slots, &labels(0..JWT_KEY_SLOTS));
        slots.begin(|_| 7);
        assert_eq!(*slots.assign(["new"].into_iter()), [0]);
        slots.begin(|slot| 100 + slot as u64);
        assert_eq!(slots.iter().next(), Some((0, "new", 100)));
        assert_eq!(slots.iter().nth(1), Some((1, "k1", 0)));
        // Once started, the start stays.
        slots.begin(|_| 500);
        assert_eq!(slots.iter().next(), Some((0, "new", 100)));
    }
}
