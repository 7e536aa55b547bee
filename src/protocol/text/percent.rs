//! Percent-encoding (RFC 3986 section 2.1), undone exactly once.

use std::borrow::Cow;

use super::hex;

/// A `%` that two hexadecimal digits do not follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadEscape;

/// Appends `encoded` to `out`, decoded.
///
/// # Errors
/// [`BadEscape`]; `out` then holds the part before it.
pub fn append_decoded(encoded: &[u8], out: &mut Vec<u8>) -> Result<(), BadEscape> {
    out.reserve(encoded.len());
    let mut rest = encoded;
    while let Some(at) = memchr::memchr(b'%', rest) {
        let (plain, escape) = rest.split_at(at);
        out.extend_from_slice(plain);
        let (byte, after) = split_escape(escape).ok_or(BadEscape)?;
        out.push(byte);
        rest = after;
    }
    out.extend_from_slice(rest);
    Ok(())
}

/// Decodes `encoded`, in which a `%` without two digits stands for itself.
pub fn decode_lenient(encoded: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr(b'%', encoded).is_none() {
        return Cow::Borrowed(encoded);
    }
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut rest = encoded;
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, after) = split_escape(rest).unwrap_or((first, tail));
        decoded.push(byte);
        rest = after;
    }
    Cow::Owned(decoded)
}

/// The bytes of a name or value of a query, decoded once as in a form: a `+` is a space, as S3
/// reads it (WHATWG URL, "application/x-www-form-urlencoded parsing").
pub fn decode_form(encoded: &[u8]) -> impl Iterator<Item = Result<u8, BadEscape>> {
    let mut rest = encoded;
    std::iter::from_fn(move || {
        let (&first, tail) = rest.split_first()?;
        let decoded = match first {
            b'+' => Ok((b' ', tail)),
            b'%' => split_escape(rest).ok_or(BadEscape),
            plain => Ok((plain, tail)),
        };
        rest = decoded.map_or(tail, |(_, after)| after);
        Some(decoded.map(|(byte, _)| byte))
    })
}

/// Splits `%XX` off the start: the byte that it stands for, and what follows.
fn split_escape(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let [b'%', high, low, after @ ..] = bytes else { return None };
    Some((hex::value(*high)? << 4 | hex::value(*low)?, after))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict(encoded: &str) -> Result<Vec<u8>, BadEscape> {
        let mut out = Vec::new();
        append_decoded(encoded.as_bytes(), &mut out).map(|()| out)
    }

    #[test]
    fn escapes_are_decoded_once() {
        for (encoded, decoded) in
            [("", ""), ("a+b", "a+b"), ("a%20b", "a b"), ("%252F", "%2F"), ("%c3%A9", "\u{e9}")]
        {
            assert_eq!(strict(encoded).as_deref(), Ok(decoded.as_bytes()), "{encoded}");
            assert_eq!(decode_lenient(encoded.as_bytes()), decoded.as_bytes(), "{encoded}");
        }
    }

    #[test]
    fn a_plus_of_a_form_is_a_space() {
        let form = |encoded: &str| decode_form(encoded.as_bytes()).collect::<Result<Vec<_>, _>>();
        for (encoded, decoded) in
            [("", ""), ("a+b%2B", "a b+"), ("%252F", "%2F"), ("%c3%A9", "\u{e9}")]
        {
            assert_eq!(form(encoded).as_deref(), Ok(decoded.as_bytes()), "{encoded}");
        }
        for encoded in ["%", "a%2", "%zz", "%+1", "%%20"] {
            assert_eq!(form(encoded), Err(BadEscape), "{encoded}");
        }
    }

    #[test]
    fn a_bad_escape_is_refused_or_stands_for_itself() {
        for (encoded, lenient) in
            [("%", "%"), ("a%2", "a%2"), ("%zz", "%zz"), ("%%20", "% "), ("%u002e", "%u002e")]
        {
            assert_eq!(strict(encoded), Err(BadEscape), "{encoded}");
            assert_eq!(decode_lenient(encoded.as_bytes()), lenient.as_bytes(), "{encoded}");
        }
    }
}
