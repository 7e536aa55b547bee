//! The query of a request for a page.

use super::super::append_query;

/// Appends the query of a `ListObjectsV2`, in the form in which it is signed. Both parts of the
/// prefix and of the key that the page begins behind are joined.
///
/// Keys come back encoded, because XML cannot hold all characters that a key may have.
pub fn append_list_query(
    delimiter: Option<&str>,
    entries_max: u16,
    prefix: [&str; 2],
    start_after: Option<[&str; 2]>,
    out: &mut Vec<u8>,
) {
    let entries_max = entries_max.to_string();
    let (prefix, start_after) = (prefix.concat(), start_after.map(|parts| parts.concat()));
    let mut parameters: Vec<(&'static str, &[u8])> = vec![
        ("encoding-type", b"url"),
        ("list-type", b"2"),
        ("max-keys", entries_max.as_bytes()),
        ("prefix", prefix.as_bytes()),
    ];
    let others = [("delimiter", delimiter), ("start-after", start_after.as_deref())];
    parameters
        .extend(others.into_iter().filter_map(|(name, value)| Some((name, value?.as_bytes()))));
    append_query(&mut parameters, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(delimiter: Option<&str>, prefix: &str, start_after: Option<&str>) -> String {
        let mut out = Vec::new();
        let start_after = start_after.map(|key| ["in/", key]);
        append_list_query(delimiter, 1_000, ["in/", prefix], start_after, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn names_are_sorted_and_values_encoded() {
        assert_eq!(
            query(Some("/"), "a b&c=八/", Some("a b/+")),
            "delimiter=%2F&encoding-type=url&list-type=2&max-keys=1000\
             &prefix=in%2Fa%20b%26c%3D%E5%85%AB%2F&start-after=in%2Fa%20b%2F%2B"
        );
        assert_eq!(
            query(None, "", None),
            "encoding-type=url&list-type=2&max-keys=1000&prefix=in%2F"
        );
    }
}
