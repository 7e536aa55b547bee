//! Rules between keys of different sections.

use std::collections::HashMap;

use super::{
    settings::{AdminSettings, BucketSettings, ServerSettings},
    walk::Walk,
    yaml::Node,
};

/// Paths that the proxy answers itself, on whichever listener serves the admin endpoints.
const RESERVED_PREFIXES: [&str; 4] = ["/admin", "/health", "/ready", "/metrics"];

/// Notes what is wrong between sections. An empty name or prefix is a stand-in for one that has
/// been noted already.
pub(super) fn check(
    walk: &Walk<'_>,
    root: &Node<'_>,
    server: &ServerSettings,
    admin: &AdminSettings,
    buckets: &[BucketSettings],
) {
    let error = |path: String, message: String| walk.error_in(root, path, message);
    let list = |indexes: &[usize], label: &dyn Fn(usize) -> String| {
        indexes.iter().map(|index| label(*index)).collect::<Vec<_>>().join(", ")
    };

    for indexes in repeated(buckets.iter().map(|bucket| bucket.name.as_str())) {
        let name = &buckets[indexes[0]].name;
        let places = list(&indexes, &|index| format!("buckets[{index}]"));
        error(
            format!("buckets[{}].name", indexes[1]),
            format!("Duplicate bucket name '{name}' found in {places}"),
        );
    }
    for indexes in repeated(buckets.iter().map(|bucket| bucket.path_prefix.as_str())) {
        let prefix = &buckets[indexes[0]].path_prefix;
        let names = list(&indexes, &|index| buckets[index].name.clone());
        error(
            format!("buckets[{}].path_prefix", indexes[1]),
            format!("Duplicate path_prefix '{prefix}' found in buckets: {names}"),
        );
    }

    match admin.listen {
        None => {
            for (index, bucket) in buckets.iter().enumerate() {
                if let Some(reserved) = reserved_above(&bucket.path_prefix) {
                    error(
                        format!("buckets[{index}].path_prefix"),
                        format!(
                            "{reserved} is served by the proxy itself on this listener; choose \
                             another prefix, or move the admin endpoints with admin.listen"
                        ),
                    );
                }
            }
        }
        Some(listen) => {
            let same_address = listen.ip() == server.address
                || listen.ip().is_unspecified()
                || server.address.is_unspecified();
            if listen.port() != 0 && listen.port() == server.port && same_address {
                error(
                    "admin.listen".to_owned(),
                    "is the main listener's port; choose another one".to_owned(),
                );
            }
        }
    }
}

fn reserved_above(prefix: &str) -> Option<&'static str> {
    RESERVED_PREFIXES.into_iter().find(|reserved| {
        prefix.strip_prefix(reserved).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// Groups of indexes that hold the same text, at least two in each, in order of appearance.
fn repeated<'a>(texts: impl Iterator<Item = &'a str>) -> Vec<Vec<usize>> {
    let mut places: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, text) in texts.enumerate().filter(|(_, text)| !text.is_empty()) {
        places.entry(text).or_default().push(index);
    }
    let mut groups: Vec<_> = places.into_values().filter(|group| group.len() > 1).collect();
    groups.sort_unstable();
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_segments_are_reserved() {
        for prefix in ["/admin", "/admin/x", "/metrics", "/ready", "/health/a/b"] {
            assert!(reserved_above(prefix).is_some(), "{prefix}");
        }
        for prefix in ["/", "/administration", "/a/admin", "/healthy", "/Admin"] {
            assert_eq!(reserved_above(prefix), None, "{prefix}");
        }
    }

    #[test]
    fn groups_come_in_order_of_appearance() {
        let texts = ["a", "b", "", "b", "a", "", "b", "c"];
        assert_eq!(repeated(texts.into_iter()), [vec![0, 4], vec![1, 3, 6]]);
    }
}
