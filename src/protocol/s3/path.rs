//! The one canonical path of a request: decoded once, checked, never decoded again.

use std::fmt;

use crate::protocol::text::{class::all_are, percent};

/// Reason to refuse a request path. All of them are the client's doing (400).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// A `%` that two hexadecimal digits do not follow (RFC 3986 section 2.1).
    BadPercent,
    /// NUL or another control character (Unicode category Cc), written plainly or encoded.
    ControlCharacter,
    /// The decoded bytes are not UTF-8, which S3 keys always are.
    InvalidUtf8,
    /// A segment that is `.` or `..` after decoding: servers disagree on what it names.
    DotSegment,
    /// It does not start with `/`.
    NotAbsolute,
}

impl PathError {
    /// A short reason for the log.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::BadPercent => "a '%' is not followed by two hexadecimal digits",
            Self::ControlCharacter => "the path holds a control character",
            Self::InvalidUtf8 => "the decoded path is not UTF-8",
            Self::DotSegment => "the path holds a '.' or '..' segment",
            Self::NotAbsolute => "the path does not start with '/'",
        }
    }
}

impl fmt::Display for PathError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for PathError {}

/// Decodes the path of a request target (what stands before `?`) exactly once into `out`, which
/// is cleared first, and checks it.
///
/// `+` stays `+` (it means a space in queries only), `%2F` becomes `/`, `%252F` becomes the
/// three characters `%2F`, and `//` is kept, because S3 keys may hold it.
///
/// # Errors
/// See [`PathError`]. `out` is then empty, so that no unchecked path can be used by mistake.
pub fn canonical_path(raw: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    out.clear();
    if raw.first() != Some(&b'/') {
        return Err(PathError::NotAbsolute);
    }
    let checked = if all_are(raw, is_plain) {
        out.extend_from_slice(raw);
        refuse_dot_segments(out)
    } else {
        let decoded = percent::append_decoded(raw, out).map_err(|_| PathError::BadPercent);
        decoded.and_then(|()| check_decoded(out))
    };
    if checked.is_err() {
        out.clear();
    }
    checked
}

/// Checks text that stands for a decoded path or a part of one, such as a configured path prefix
/// or key prefix.
///
/// # Errors
/// [`PathError::ControlCharacter`] or [`PathError::DotSegment`].
pub fn check_decoded_text(text: &str) -> Result<(), PathError> {
    check_decoded(text.as_bytes())
}

/// Returns true for printable ASCII that stands for itself.
#[expect(clippy::needless_bitwise_bool, reason = "a lazy operator is a branch")]
const fn is_plain(byte: u8) -> bool {
    is_printable(byte) & (byte != b'%')
}

/// Returns true for printable ASCII, the space included.
const fn is_printable(byte: u8) -> bool {
    byte.wrapping_sub(b' ') < 0x5f
}

fn check_decoded(path: &[u8]) -> Result<(), PathError> {
    if all_are(path, is_printable) {
        return refuse_dot_segments(path);
    }
    if path.iter().any(u8::is_ascii_control) {
        return Err(PathError::ControlCharacter);
    }
    if !path.is_ascii() {
        str::from_utf8(path).map_err(|_| PathError::InvalidUtf8)?;
        // U+0080 to U+009F are controls too; a terminal that shows a log obeys some of them.
        if path.windows(2).any(|pair| pair[0] == 0xc2 && pair[1] <= 0x9f) {
            return Err(PathError::ControlCharacter);
        }
    }
    refuse_dot_segments(path)
}

fn refuse_dot_segments(path: &[u8]) -> Result<(), PathError> {
    for at in memchr::memchr_iter(b'.', path) {
        let starts_segment = at == 0 || path[at - 1] == b'/';
        if starts_segment && matches!(path[at + 1..], [] | [b'/', ..] | [b'.'] | [b'.', b'/', ..]) {
            return Err(PathError::DotSegment);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::s3::key::encode_key;

    fn canonical(raw: &[u8]) -> Result<String, PathError> {
        let mut out = b"left over".to_vec();
        let result = canonical_path(raw, &mut out);
        assert!(result.is_ok() || out.is_empty(), "a refused path must not be left in the buffer");
        result.map(|()| String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_path_is_decoded_exactly_once() {
        for (raw, decoded) in [
            ("/", "/"),
            ("/a/b.txt", "/a/b.txt"),
            ("/a%2Fb", "/a/b"),
            ("/a%2fb", "/a/b"),
            ("/a%252Fb", "/a%2Fb"),
            ("/a%25252Fb", "/a%252Fb"),
            ("/a+b%2Bc%20d", "/a+b+c d"),
            ("/a//b/", "/a//b/"),
            ("//", "//"),
            ("/%28x%29@\\", "/(x)@\\"),
            ("/%E5%85%AB%e5%92%ab", "/八咫"),
            ("/%3F%23", "/?#"),
        ] {
            assert_eq!(canonical(raw.as_bytes()).as_deref(), Ok(decoded), "{raw}");
        }
        assert_eq!(canonical("/八咫烏".as_bytes()).as_deref(), Ok("/八咫烏"));
    }

    #[test]
    fn a_bad_percent_is_refused() {
        for raw in ["/%", "/%2", "/%zz", "/%2g", "/%g2", "/a%", "/%%20", "/%+1", "/% 1", "/%u002e"]
        {
            assert_eq!(canonical(raw.as_bytes()), Err(PathError::BadPercent), "{raw}");
        }
    }

    #[test]
    fn control_characters_are_refused_plain_and_encoded() {
        for byte in (0..0x20).chain([0x7f]) {
            assert_eq!(canonical(&[b'/', b'a', byte]), Err(PathError::ControlCharacter));
            let encoded = format!("/a%{byte:02x}b");
            assert_eq!(canonical(encoded.as_bytes()), Err(PathError::ControlCharacter));
        }
        assert_eq!(canonical(b"/%C2%9B1m"), Err(PathError::ControlCharacter));
        for control in ["/\u{80}", "/a\u{9f}b"] {
            assert_eq!(canonical(control.as_bytes()), Err(PathError::ControlCharacter));
        }
        assert_eq!(canonical("/\u{a0}".as_bytes()).as_deref(), Ok("/\u{a0}"));
        assert_eq!(canonical("/\u{2c2}\u{9080}".as_bytes()).as_deref(), Ok("/\u{2c2}\u{9080}"));
    }

    #[test]
    fn invalid_utf8_is_refused_plain_and_encoded() {
        for raw in [&b"/\xff"[..], b"/%ff", b"/%C0%AF", b"/%ED%A0%80", b"/%E5%85", b"/%F8%88%80"] {
            assert_eq!(canonical(raw), Err(PathError::InvalidUtf8), "{raw:?}");
        }
    }

    #[test]
    fn dot_segments_are_refused_however_they_are_written() {
        for raw in [
            "/.",
            "/..",
            "/./",
            "/../",
            "/a/.",
            "/a/..",
            "/a/./b",
            "/a/../b",
            "/%2e",
            "/%2E%2e/b",
            "/a%2F..%2Fb",
            "/a%2f.",
            "/.%2e",
            "//..",
            "/...//./x",
        ] {
            assert_eq!(canonical(raw.as_bytes()), Err(PathError::DotSegment), "{raw}");
        }
        for raw in
            ["/...", "/.a", "/..a", "/a.", "/a..", "/.git/x", "/a/..b/c.", "/a.b/c..d", "/.\\."]
        {
            assert_eq!(canonical(raw.as_bytes()).as_deref(), Ok(raw));
        }
        assert_eq!(canonical(b"/%252e%252e/a").as_deref(), Ok("/%2e%2e/a"));
    }

    #[test]
    fn only_absolute_paths_are_accepted() {
        for raw in ["", "*", "a", "%2Fa", "http://h/"] {
            assert_eq!(canonical(raw.as_bytes()), Err(PathError::NotAbsolute), "{raw}");
        }
    }

    /// The same rules, written as plainly as possible.
    fn reference(raw: &[u8]) -> Result<Vec<u8>, ()> {
        let mut out = Vec::new();
        let mut at = 0;
        while at < raw.len() {
            if raw[at] == b'%' {
                let digits = raw.get(at + 1..at + 3).ok_or(())?;
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(());
                }
                let digits = str::from_utf8(digits).map_err(|_| ())?;
                out.push(u8::from_str_radix(digits, 16).map_err(|_| ())?);
                at += 3;
            } else {
                out.push(raw[at]);
                at += 1;
            }
        }
        let text = str::from_utf8(&out).map_err(|_| ())?;
        let dots = text.split('/').any(|segment| segment == "." || segment == "..");
        if raw.first() != Some(&b'/') || text.chars().any(char::is_control) || dots {
            return Err(());
        }
        Ok(out)
    }

    proptest! {
        #[test]
        fn agrees_with_the_plain_rules_on_likely_paths(
            raw in "/([a./%+\\\\é\u{85}~ ]|%2[eEfF5g]|%[0-9a-f]{2}|%C3%A9){0,12}"
        ) {
            let fast = canonical(raw.as_bytes()).map(String::into_bytes).map_err(|_| ());
            prop_assert_eq!(fast, reference(raw.as_bytes()));
        }

        #[test]
        fn agrees_with_the_plain_rules_on_any_bytes(mut raw in prop::collection::vec(any::<u8>(), 0..40)) {
            raw.insert(0, b'/');
            let fast = canonical(&raw).map(String::into_bytes).map_err(|_| ());
            prop_assert_eq!(fast, reference(&raw));
        }

        #[test]
        fn encoding_a_canonical_path_and_decoding_it_again_changes_nothing(path in "/\\PC{0,60}") {
            let mut wire = Vec::new();
            encode_key(path.as_bytes(), &mut wire);
            if let Ok(decoded) = canonical(&wire) {
                prop_assert_eq!(decoded, path);
            } else {
                prop_assert!(reference(path.replace('%', "%25").as_bytes()).is_err());
            }
        }
    }
}
