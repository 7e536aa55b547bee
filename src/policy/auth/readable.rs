//! The keys of a bucket that a token may read, for answers that name several of them.
//!
//! A listing shows an entry where a request for it would be permitted, and tells nothing of what
//! lies between: neither where it begins nor where it goes on is a key that the token may not read.

use serde_json::{Map, Value};

use super::claims::{Prefixes, Rules, has_dot_segment};

/// The keys that a token may read: those that every rule permits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readable {
    /// None for every key.
    ranges: Option<Ranges>,
}

/// Disjoint ranges of keys, in order. A text that ends with `/` stands for every key that begins
/// with it, and another for the key of that name.
type Ranges = Vec<Box<str>>;

impl Readable {
    /// Every key.
    pub fn everything() -> Self {
        Self::default()
    }

    /// The keys below these prefixes, as one rule permits them.
    #[cfg(test)]
    pub(crate) fn below(prefixes: &[&str]) -> Self {
        let prefixes: Prefixes = prefixes.iter().map(|prefix| Box::from(*prefix)).collect();
        Self { ranges: Some(ranges_of(&prefixes)) }
    }

    /// The keys that these rules permit with these claims.
    pub(super) fn of<'r>(
        rules: impl IntoIterator<Item = &'r Rules>,
        claims: &Map<String, Value>,
    ) -> Self {
        let rules = rules.into_iter().flat_map(|rules| rules.key_prefixes(claims));
        Self::of_all(rules)
    }

    fn of_all(rules: impl Iterator<Item = Prefixes>) -> Self {
        let ranges = rules.map(|rule| ranges_of(&rule));
        Self { ranges: ranges.reduce(|one, other| common(&one, &other)) }
    }

    /// Returns true if the key may be read.
    pub fn has(&self, key: &str) -> bool {
        self.ranges
            .as_ref()
            .is_none_or(|all| !has_dot_segment(key.as_bytes()) && range_with(all, key).is_some())
    }

    /// Returns true if a key that begins with this text could be read.
    pub fn has_below(&self, prefix: &str) -> bool {
        // The last segment may go on.
        let segments = prefix.rfind('/').and_then(|end| prefix.get(..end)).unwrap_or_default();
        let could_be = self.ranges.is_none() || !has_dot_segment(segments.as_bytes());
        could_be && self.first_from(prefix).is_some_and(|first| first.starts_with(prefix))
    }

    /// The first text, from this one on, that is covered by every rule: no key before it may be
    /// read. None if nothing is left.
    pub fn first_from<'t>(&'t self, from: &'t str) -> Option<&'t str> {
        match &self.ranges {
            None => Some(from),
            Some(ranges) if range_with(ranges, from).is_some() => Some(from),
            Some(ranges) => {
                let at = ranges.partition_point(|range| **range < *from);
                ranges.get(at).map(|range| &**range)
            }
        }
    }
}

/// The range that holds this key.
fn range_with<'r>(ranges: &'r [Box<str>], key: &str) -> Option<&'r str> {
    // Ranges are disjoint: the last one that begins before the key, or with it.
    let at = ranges.partition_point(|range| **range <= *key);
    let range = ranges.get(at.checked_sub(1)?)?;
    (**range == *key || range.ends_with('/') && key.starts_with(&**range)).then_some(range)
}

/// The keys that one rule permits. A prefix without its slash permits the key of that name, and
/// what is below, which does not follow it at once: `a-b` is between `a` and `a/`.
fn ranges_of(rule: &Prefixes) -> Ranges {
    let mut all: Ranges = Vec::with_capacity(2 * rule.len());
    for prefix in rule {
        all.push(prefix.clone());
        if !prefix.ends_with('/') {
            all.push(format!("{prefix}/").into());
        }
    }
    all.sort_unstable();
    let mut ranges: Ranges = Vec::with_capacity(all.len());
    for range in all {
        if range_with(&ranges, &range).is_none() {
            ranges.push(range);
        }
    }
    ranges
}

/// The keys that are in both. Of two ranges that share a key, one holds the other.
fn common(one: &Ranges, other: &Ranges) -> Ranges {
    let inside = |ranges: &Ranges, of: &Ranges| {
        let all = ranges.iter().filter(|range| range_with(of, range).is_some());
        all.cloned().collect::<Ranges>()
    };
    let mut both = inside(one, other);
    both.append(&mut inside(other, one));
    both.sort_unstable();
    both.dedup();
    both
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::policy::auth::claims::covers;

    fn prefixes(rule: &[&str]) -> Prefixes {
        rule.iter().map(|prefix| Box::from(*prefix)).collect()
    }

    fn readable(rules: &[&[&str]]) -> Readable {
        Readable::of_all(rules.iter().map(|rule| prefixes(rule)))
    }

    #[test]
    fn without_rules_everything_is_readable() {
        let all = Readable::everything();
        assert!(all.has("a") && all.has("a/../b") && all.has_below(""));
        assert_eq!(all.first_from("m"), Some("m"));
    }

    #[test]
    fn a_rule_without_prefixes_permits_nothing() {
        let none = readable(&[&["a"], &[]]);
        assert!(!none.has("a/b") && !none.has_below(""));
    }

    #[test]
    fn entries_are_shown_below_the_prefixes_and_on_the_way_to_them() {
        let tenants = readable(&[&["t/a", "t/c/"]]);
        for key in ["t/a", "t/a/x", "t/c/", "t/c/x"] {
            assert!(tenants.has(key), "{key}");
        }
        for key in ["t", "t/", "t/a-b", "t/ab/x", "t/b/x", "t/c", "t/a/../b", "u"] {
            assert!(!tenants.has(key), "{key}");
        }
        for prefix in ["", "t", "t/", "t/a", "t/a/", "t/a/deep/", "t/c", "t/c/"] {
            assert!(tenants.has_below(prefix), "{prefix}");
        }
        assert!(tenants.has_below("t/a/..") && tenants.has("t/a/..b"));
        for prefix in ["s", "t/b", "t/a-", "t/ab/", "t/d", "u/", "t/a/../", "t/a/./b/"] {
            assert!(!tenants.has_below(prefix), "{prefix}");
        }
    }

    #[test]
    fn the_next_readable_key_is_a_prefix_or_the_key_itself() {
        let tenants = readable(&[&["t/a", "t/c/"]]);
        for (from, first) in [
            ("", Some("t/a")),
            ("t/a", Some("t/a")),
            ("t/a-b", Some("t/a/")),
            ("t/a/x", Some("t/a/x")),
            ("t/b", Some("t/c/")),
            ("t/c/y", Some("t/c/y")),
            ("t/d", None),
        ] {
            assert_eq!(tenants.first_from(from), first, "{from}");
        }
        let both = readable(&[&["t/a"], &["t/a/m", "t/z"]]);
        assert_eq!(both.first_from(""), Some("t/a/m"));
        assert_eq!(both.first_from("t/a/n"), None);
    }

    #[test]
    fn rules_with_many_prefixes_cost_little_for_each_key() {
        let texts = |shift: usize| -> Vec<String> {
            (0..1_000).map(|at| format!("t/{:05}/", 2 * at + shift)).collect()
        };
        let (even, odd) = (texts(0), texts(1));
        let both: Vec<&[String]> = vec![&even, &odd];
        let rules = both.iter().map(|rule| rule.iter().map(|text| text.as_str().into()).collect());
        let readable = Readable::of_all(rules);
        assert_eq!(readable.ranges, Some(vec![]));
        assert!(odd.iter().all(|text| !readable.has_below(text)));
        let same =
            [&even, &even].map(|rule| rule.iter().map(|text| text.as_str().into()).collect());
        let same = Readable::of_all(same.into_iter());
        assert_eq!(same.ranges.as_ref().map(Vec::len), Some(1_000));
        assert!(even.iter().all(|text| same.has_below(text)));
    }

    proptest! {
        #[test]
        fn no_readable_key_is_passed_over(
            rules in prop::collection::vec(prop::collection::vec("[ab/-]{1,3}", 1..3), 0..3),
            keys in prop::collection::vec("[ab./-]{0,5}", 1..20),
            from in "[ab/-]{0,4}",
        ) {
            let rules: Vec<Vec<&str>> =
                rules.iter().map(|rule| rule.iter().map(String::as_str).collect()).collect();
            let rules: Vec<&[&str]> = rules.iter().map(Vec::as_slice).collect();
            let readable = readable(&rules);
            let first = readable.first_from(&from);
            if let Some(first) = &first {
                prop_assert!(*first >= &*from);
                prop_assert_eq!(readable.first_from(first), Some(*first));
            }
            for key in keys {
                let is_covered = |rule: &&[&str]| {
                    rule.iter().any(|prefix| covers(prefix.as_bytes(), key.as_bytes()))
                };
                let may_be_read = rules.is_empty()
                    || !has_dot_segment(key.as_bytes()) && rules.iter().all(is_covered);
                prop_assert_eq!(readable.has(&key), may_be_read, "{}", key);
                if readable.has(&key) && key >= from {
                    prop_assert!(first.is_some_and(|first| first <= key.as_str()), "{}", key);
                }
                for end in (0..key.len()).filter(|_| readable.has(&key)) {
                    prop_assert!(readable.has_below(&key[..end]), "{} of {}", &key[..end], key);
                }
            }
        }
    }
}
