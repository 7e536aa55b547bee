//! Changing the field lines of a head that is being written.

use memchr::memchr;

use super::fields::{list_members, trim_ows, values};

/// Members that a merged list may have. More of them than a person writes only cost time.
pub const MERGED_MEMBERS_MAX: usize = 64;

/// Keeps the field lines from `start` on whose name and value `keep` accepts, in their order.
///
/// The lines are those of a head that was written or validated, each ending in CRLF.
pub fn retain_fields(
    lines: &mut Vec<u8>,
    start: usize,
    mut keep: impl FnMut(&[u8], &[u8]) -> bool,
) {
    let (mut from, mut to) = (start, start);
    while let Some(length) = lines.get(from..).and_then(|rest| memchr(b'\n', rest)) {
        let end = from + length + 1;
        let line = lines.get(from..end).unwrap_or_default();
        let (name, value) = match memchr(b':', line) {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = value.strip_suffix(b"\r\n").unwrap_or(value);
        if keep(name, trim_ows(value)) {
            lines.copy_within(from..end, to);
            to += end - from;
        }
        from = end;
    }
    lines.truncate(to);
}

/// The value of the first of these field lines with this name, which is in lower case.
pub fn first_value<'b>(lines: &'b [u8], name_lower: &[u8]) -> Option<&'b [u8]> {
    values(lines, name_lower).next()
}

/// Adds the members of a list of names that `list` does not have, whatever their case. A list with
/// `*` in it, or of too many members, becomes `*` alone, which `Vary` takes for everything
/// (RFC 9110 section 12.5.5).
pub fn merge_list(value: &[u8], list: &mut Vec<u8>) {
    for member in list_members(value) {
        if list_members(list).any(|known| known == b"*" || known.eq_ignore_ascii_case(member)) {
            continue;
        }
        if member == b"*" || list_members(list).count() >= MERGED_MEMBERS_MAX {
            list.clear();
            list.push(b'*');
            return;
        }
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(member);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_are_kept_as_they_are() {
        let head = b"HTTP/1.1 200 OK\r\nA: 1\r\nB:\t2:3 \r\nC:\r\n";
        let mut lines = head.to_vec();
        let mut seen = Vec::new();
        retain_fields(&mut lines, 17, |name, value| {
            seen.push((name.to_vec(), value.to_vec()));
            name != b"A"
        });
        assert_eq!(lines, b"HTTP/1.1 200 OK\r\nB:\t2:3 \r\nC:\r\n");
        let field = |name: &[u8], value: &[u8]| (name.to_vec(), value.to_vec());
        assert_eq!(seen, [field(b"A", b"1"), field(b"B", b"2:3"), field(b"C", b"")]);
        retain_fields(&mut lines, 17, |_, _| false);
        assert_eq!(lines, b"HTTP/1.1 200 OK\r\n");
    }

    fn merged(values: &[&str]) -> String {
        let mut list = Vec::new();
        for value in values {
            merge_list(value.as_bytes(), &mut list);
        }
        String::from_utf8(list).unwrap()
    }

    #[test]
    fn each_name_stands_once_in_a_merged_list() {
        assert_eq!(merged(&["Origin"]), "Origin");
        assert_eq!(merged(&["Accept-Encoding, origin", "Origin"]), "Accept-Encoding, origin");
        assert_eq!(merged(&["a,, b\t,", "", "B, c"]), "a, b, c");
        assert_eq!(merged(&["a", "b, *, c", "d"]), "*");
        assert_eq!(merged(&["*", "Origin"]), "*");
        let many: Vec<_> = (0..=MERGED_MEMBERS_MAX).map(|number| number.to_string()).collect();
        assert_eq!(merged(&[&many[1..].join(",")]).matches(',').count(), MERGED_MEMBERS_MAX - 1);
        assert_eq!(merged(&[&many.join(",")]), "*");
    }

    proptest! {
        #[test]
        fn any_lines_are_read_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            start in 0_usize..220,
        ) {
            let mut lines = bytes.clone();
            retain_fields(&mut lines, start, |_, _| true);
            prop_assert!(bytes.starts_with(&lines));
            let mut list = Vec::new();
            merge_list(&bytes, &mut list);
        }
    }
}
