//! Entity tags in field values (RFC 9110 section 8.8.3).

use memchr::memchr;

/// One tag of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntityTag<'v> {
    /// The text between its quotes. Two tags are equal in the weak comparison if this is (section
    /// 8.8.3.2).
    pub opaque: &'v [u8],
    /// Place of its first byte in the value.
    pub start: usize,
    /// Place behind its closing quote.
    pub end: usize,
}

impl EntityTag<'_> {
    /// True for a weak tag, which begins with `W/`.
    pub fn is_weak(&self) -> bool {
        let quotes = 2;
        self.end - self.start > self.opaque.len() + quotes
    }
}

/// The tags of a field value, weak ones included. Members that are none, such as `*`, are left out.
pub fn entity_tags(value: &[u8]) -> impl Iterator<Item = EntityTag<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            at += value.get(at..)?.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
            let tag = tag_at(value, at);
            let rest = value.get(tag.map_or(at, |tag| tag.end)..)?;
            let comma = memchr(b',', rest).unwrap_or(rest.len());
            at = value.len() - rest.len() + comma;
            let ends = rest.get(..comma).unwrap_or_default().trim_ascii().is_empty();
            if let Some(tag) = tag.filter(|_| ends) {
                return Some(tag);
            }
        }
    })
}

fn tag_at(value: &[u8], start: usize) -> Option<EntityTag<'_>> {
    let text = value.get(start..)?;
    let quoted = text.strip_prefix(b"W/").unwrap_or(text).strip_prefix(b"\"")?;
    let opaque = quoted.get(..memchr(b'"', quoted)?)?;
    let end = start + (text.len() - quoted.len()) + opaque.len() + 1;
    Some(EntityTag { opaque, start, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_found_with_their_places() {
        for (value, expected) in [
            ("\"a\"", &["\"a\""][..]),
            ("W/\"a\"", &["W/\"a\""]),
            ("\"a\", W/\"b\" ,\"c\"", &["\"a\"", "W/\"b\"", "\"c\""]),
            (",, \"a\",,\t\"\",", &["\"a\"", "\"\""]),
            ("\"a,b\",\"c\"", &["\"a,b\"", "\"c\""]),
            ("*", &[]),
            ("a, \"b\"", &["\"b\""]),
            ("\"a\" x, \"b\"", &["\"b\""]),
            ("w/\"a\", \"b\"", &["\"b\""]),
            ("\"a", &[]),
            ("", &[]),
        ] {
            let found: Vec<_> =
                entity_tags(value.as_bytes()).map(|tag| &value[tag.start..tag.end]).collect();
            assert_eq!(found, expected, "{value}");
        }
        let weak = entity_tags(b"W/\"a b\"").next().unwrap();
        assert!(weak.opaque == b"a b" && weak.is_weak());
        assert!(!entity_tags(b" \"W/\"").next().unwrap().is_weak());
    }
}
