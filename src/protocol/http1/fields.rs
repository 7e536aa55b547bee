//! Field lines: finding values, list members, and the strict reading of the framing fields.

use memchr::{memchr, memchr_iter, memrchr};

use crate::protocol::text::{class::is_name, token::is_token};

/// Removes spaces and tabs at both ends (OWS, RFC 9110 section 5.6.3).
pub(super) fn trim_ows(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// The members of a comma-separated list, empty ones left out (RFC 9110 section 5.6.1.2).
pub fn list_members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim_ows).filter(|member| !member.is_empty())
}

/// A weight (RFC 9110 section 12.4.2) in thousandths; none if it is malformed.
pub fn qvalue(value: &[u8]) -> Option<u16> {
    let (whole, decimals) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut weight = match whole {
        b'0' => 0,
        b'1' => 1_000,
        _ => return None,
    };
    for (decimal, unit) in decimals.iter().zip([100, 10, 1]) {
        weight += u16::from(decimal.is_ascii_digit().then(|| decimal - b'0')?) * unit;
    }
    (weight <= 1_000).then_some(weight)
}

/// Returns true for the bytes that a field value may hold: visible, blank or obs-text
/// (RFC 9110 section 5.5).
pub(super) const fn is_value_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..=0xff)
}

/// A `Content-Length` value: digits only, and it must fit (RFC 9110 section 8.6).
///
/// Signs, lists (even of equal members), blanks and overflow give `None`.
pub(super) fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// Meaning of a `Transfer-Encoding` value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TransferCoding {
    /// Exactly `chunked`, in any case.
    Chunked,
    /// Well formed, but it names a coding that this proxy does not know.
    Unknown,
    /// Not a list of codings that ends, at most once, in `chunked`.
    Malformed,
}

/// Reads one `Transfer-Encoding` value (RFC 9112 section 6.1).
pub(super) fn transfer_coding(value: &[u8]) -> TransferCoding {
    if value.eq_ignore_ascii_case(b"chunked") {
        return TransferCoding::Chunked;
    }
    let mut members = value.split(|&byte| byte == b',').map(trim_ows).peekable();
    let mut unknown = false;
    while let Some(member) = members.next() {
        let name = member.split(|&byte| byte == b';').next().map(trim_ows).unwrap_or_default();
        if !is_token(name) {
            return TransferCoding::Malformed;
        }
        let is_chunked = name.eq_ignore_ascii_case(b"chunked");
        if is_chunked && (members.peek().is_some() || member.len() != name.len()) {
            return TransferCoding::Malformed;
        }
        unknown |= !is_chunked;
    }
    if unknown { TransferCoding::Unknown } else { TransferCoding::Malformed }
}

/// Options that a sender named in `Connection` (RFC 9110 section 7.6.1).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConnectionOptions {
    pub(super) close: bool,
    pub(super) keep_alive: bool,
}

impl ConnectionOptions {
    /// Reads all options. Those that are names of fields are handed to `named`.
    #[inline]
    pub(super) fn read<'v>(&mut self, value: &'v [u8], mut named: impl FnMut(&'v [u8])) {
        // Nearly always there is one.
        if self.note(value) {
            return;
        }
        for option in list_members(value) {
            if !self.note(option) {
                named(option);
            }
        }
    }

    /// Reads one option. Returns false if it is the name of a field.
    fn note(&mut self, option: &[u8]) -> bool {
        if is_name(option, b"close") {
            self.close = true;
        } else if is_name(option, b"keep-alive") {
            self.keep_alive = true;
        } else {
            return false;
        }
        true
    }
}

/// The values of all field lines with one name, in order.
///
/// `lines` are the field lines of a validated head, each ending in CRLF, without the final
/// empty line; `name_lower` is in lower case.
pub(super) fn values<'b, 'n>(
    lines: &'b [u8],
    name_lower: &'n [u8],
) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n> {
    let mut start = 0;
    memchr_iter(b'\n', lines).filter_map(move |line_feed| {
        let line = &lines[start..line_feed];
        start = line_feed + 1;
        value_of(line, name_lower)
    })
}

/// The same values, those of the last line first.
pub(super) fn values_from_the_last<'b, 'n>(
    lines: &'b [u8],
    name_lower: &'n [u8],
) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n> {
    let mut rest = lines;
    std::iter::from_fn(move || {
        loop {
            let line_feed = rest.len().checked_sub(1)?;
            let start = memrchr(b'\n', &rest[..line_feed]).map_or(0, |before| before + 1);
            let line = &rest[start..line_feed];
            rest = &rest[..start];
            if let Some(value) = value_of(line, name_lower) {
                return Some(value);
            }
        }
    })
}

/// The value of a line without its line feed, if it has this name.
fn value_of<'b>(line: &'b [u8], name_lower: &[u8]) -> Option<&'b [u8]> {
    let (name, rest) = line.split_at_checked(name_lower.len())?;
    let value = rest.strip_prefix(b":")?;
    name.eq_ignore_ascii_case(name_lower)
        .then(|| trim_ows(value.strip_suffix(b"\r").unwrap_or(value)))
}

/// The values of the fields of a head: the lines between its first line and `head_len`.
pub(super) fn head_values<'b, 'n>(
    buf: &'b [u8],
    fields_start: usize,
    head_len: usize,
    name_lower: &'n [u8],
) -> impl Iterator<Item = &'b [u8]> + use<'b, 'n> {
    values(field_lines(buf, fields_start, head_len), name_lower)
}

/// The field lines of a head.
pub(super) fn field_lines(buf: &[u8], fields_start: usize, head_len: usize) -> &[u8] {
    let end = head_len.saturating_sub(2);
    buf.get(fields_start..end).unwrap_or_default()
}

/// Offset after the line that starts at `start`.
pub(super) fn line_end(buf: &[u8], start: usize) -> Option<usize> {
    memchr(b'\n', buf.get(start..)?).map(|found| start + found + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_length_is_digits_that_fit() {
        assert_eq!(content_length(b"0"), Some(0));
        assert_eq!(content_length(b"007"), Some(7));
        assert_eq!(content_length(b"18446744073709551615"), Some(u64::MAX));
        for bad in
            ["", "18446744073709551616", "+1", "-1", "1,1", "1, 1", "1 1", "0x1", "1.0", "1e3"]
        {
            assert_eq!(content_length(bad.as_bytes()), None, "{bad:?}");
        }
    }

    #[test]
    fn only_chunked_alone_is_chunked() {
        use TransferCoding::{Chunked, Malformed, Unknown};
        for (value, expected) in [
            ("chunked", Chunked),
            ("Chunked", Chunked),
            ("CHUNKED", Chunked),
            ("gzip", Unknown),
            ("identity", Unknown),
            ("xchunked", Unknown),
            ("gzip, chunked", Unknown),
            ("x;q=1", Unknown),
            ("", Malformed),
            (",", Malformed),
            ("chunked,", Malformed),
            (",chunked", Malformed),
            ("chunked, chunked", Malformed),
            ("chunked, gzip", Malformed),
            ("chunked;q=1", Malformed),
            ("chunked ;", Malformed),
            ("\"chunked\"", Malformed),
            ("chun ked", Malformed),
        ] {
            assert_eq!(transfer_coding(value.as_bytes()), expected, "{value:?}");
        }
    }

    #[test]
    fn values_are_found_in_any_case_and_trimmed() {
        let lines = b"Cookie: a=1\r\nCookies: no\r\ncOOKIE:\t b=2 \r\nX: cookie: no\r\nCookie:\r\n";
        let found: Vec<_> = values(lines, b"cookie").collect();
        assert_eq!(found, [&b"a=1"[..], b"b=2", b""]);
        assert_eq!(values(lines, b"authorization").count(), 0);
    }

    #[test]
    fn values_are_found_from_the_last_line_too() {
        let one = b"A: 1\r\n";
        let lines = b"A: 1\r\nB: 2\r\na:3\r\nAA: 4\r\nA:\r\n";
        for lines in [&b""[..], one, lines] {
            for name in [&b"a"[..], b"b", b"aa", b"c"] {
                let mut expected: Vec<_> = values(lines, name).collect();
                expected.reverse();
                assert_eq!(values_from_the_last(lines, name).collect::<Vec<_>>(), expected);
            }
        }
        assert_eq!(values_from_the_last(lines, b"a").collect::<Vec<_>>(), [&b""[..], b"3", b"1"]);
    }

    #[test]
    fn list_members_skip_empty_ones() {
        let members: Vec<_> = list_members(b" close ,, \tkeep-alive,").collect();
        assert_eq!(members, [&b"close"[..], b"keep-alive"]);
    }
}
