//! The keys of a bucket that a token may read, for answers that name several of them.
//!
//! A listing shows an entry where a request for it would be permitted, and tells nothing of what
//! lies between: neither where it begins nor where it goes on is a key that the token may not read.

use serde_json::{Map, Value};

use super::claims::{Prefixes, Rules, covers, has_dot_segment};

/// The keys that a token may read: those that every rule permits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readable {
    /// The prefixes of each rule.
    rules: Vec<Prefixes>,
}

impl Readable {
    /// Every key.
    pub fn everything() -> Self {
        Self::default()
    }

    /// The keys below these prefixes, as one rule permits them.
    #[cfg(test)]
    pub(crate) fn below(prefixes: &[&str]) -> Self {
        Self { rules: vec![prefixes.iter().map(|prefix| Box::from(*prefix)).collect()] }
    }

    /// The keys that these rules permit with these claims.
    pub(super) fn of<'r>(
        rules: impl IntoIterator<Item = &'r Rules>,
        claims: &Map<String, Value>,
    ) -> Self {
        Self { rules: rules.into_iter().flat_map(|rules| rules.key_prefixes(claims)).collect() }
    }

    /// Returns true if the key may be read.
    pub fn has(&self, key: &str) -> bool {
        let covered =
            |rule: &Prefixes| rule.iter().any(|prefix| covers(prefix.as_bytes(), key.as_bytes()));
        self.rules.is_empty() || !has_dot_segment(key.as_bytes()) && self.rules.iter().all(covered)
    }

    /// Returns true if a key that begins with this text could be read.
    pub fn has_below(&self, prefix: &str) -> bool {
        self.first_from(prefix).is_some_and(|first| first.starts_with(prefix))
    }

    /// The first text, from this one on, that is covered by every rule: no key before it may be
    /// read. None if nothing is left.
    pub fn first_from(&self, from: &str) -> Option<String> {
        let mut first = from.to_owned();
        loop {
            let last = first.clone();
            for rule in &self.rules {
                first = first_of(rule, &first)?;
            }
            if first == last {
                return Some(first);
            }
        }
    }
}

/// The first text, from this one on, that the rule covers.
fn first_of(rule: &Prefixes, from: &str) -> Option<String> {
    if rule.iter().any(|prefix| covers(prefix.as_bytes(), from.as_bytes())) {
        return Some(from.to_owned());
    }
    // A prefix without its slash permits the key of that name, and what is below, which does not
    // follow it at once: `a-b` is between `a` and `a/`.
    let starts = rule.iter().flat_map(|prefix| match prefix.strip_suffix('/') {
        Some(_) => [Some(prefix.to_string()), None],
        None => [Some(prefix.to_string()), Some(format!("{prefix}/"))],
    });
    starts.flatten().filter(|start| start.as_str() >= from).min()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn readable(rules: &[&[&str]]) -> Readable {
        let rule = |prefixes: &&[&str]| prefixes.iter().map(|prefix| Box::from(*prefix)).collect();
        Readable { rules: rules.iter().map(rule).collect() }
    }

    #[test]
    fn without_rules_everything_is_readable() {
        let all = Readable::everything();
        assert!(all.has("a") && all.has("a/../b") && all.has_below(""));
        assert_eq!(all.first_from("m").as_deref(), Some("m"));
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
        for prefix in ["s", "t/b", "t/a-", "t/ab/", "t/d", "u/"] {
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
            assert_eq!(tenants.first_from(from).as_deref(), first, "{from}");
        }
        let both = readable(&[&["t/a"], &["t/a/m", "t/z"]]);
        assert_eq!(both.first_from("").as_deref(), Some("t/a/m"));
        assert_eq!(both.first_from("t/a/n"), None);
    }

    proptest! {
        #[test]
        fn no_readable_key_is_passed_over(
            rules in prop::collection::vec(prop::collection::vec("[ab/-]{1,3}", 1..3), 0..3),
            keys in prop::collection::vec("[ab/-]{0,5}", 1..20),
            from in "[ab/-]{0,4}",
        ) {
            let rules: Vec<Vec<&str>> =
                rules.iter().map(|rule| rule.iter().map(String::as_str).collect()).collect();
            let rules: Vec<&[&str]> = rules.iter().map(Vec::as_slice).collect();
            let readable = readable(&rules);
            let first = readable.first_from(&from);
            if let Some(first) = &first {
                prop_assert!(*first >= from);
                prop_assert_eq!(readable.first_from(first), Some(first.clone()));
            }
            for key in keys {
                if readable.has(&key) && key >= from {
                    prop_assert!(first.as_ref().is_some_and(|first| *first <= key), "{}", key);
                }
                for end in (0..key.len()).filter(|_| readable.has(&key)) {
                    prop_assert!(readable.has_below(&key[..end]), "{} of {}", &key[..end], key);
                }
            }
        }
    }
}
