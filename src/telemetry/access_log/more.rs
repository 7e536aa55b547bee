//! Facts about a request that lines have only where they are asked for.

use std::{borrow::Cow, net::SocketAddr};

/// Longest value of a header field in a line, in bytes: as much as tells one client, page or
/// proxy from another. A client may send 32 KiB of each.
const VALUE_BYTES_MAX: usize = 1_024;

/// Facts about a request that only some lines have. Bytes that came from the client or from S3 may
/// hold anything.
#[derive(Clone, Debug, Default)]
pub struct More<'a> {
    /// Path prefix of the bucket that the path was routed to; empty if none.
    pub route: &'a str,
    /// Host and port, as asked for.
    pub host: &'a [u8],
    /// `User-Agent`.
    pub user_agent: Option<&'a [u8]>,
    /// `Referer`, whole: what a line must not have of it is left out where it is written.
    pub referer: Option<&'a [u8]>,
    /// `X-Forwarded-For`, all of its lines.
    pub x_forwarded_for: Option<Cow<'a, [u8]>>,
    /// `Range`.
    pub range: Option<&'a [u8]>,
    /// Address of S3 that was asked last.
    pub upstream_address: Option<SocketAddr>,
    /// Status of S3's last response.
    pub upstream_status: Option<u16>,
    /// Times that S3 was asked.
    pub attempts: u32,
    /// `x-amz-request-id` of S3's last response.
    pub s3_request_id: Option<&'a [u8]>,
    /// From the end of the request's head to the first byte of the response, in microseconds.
    pub first_byte_us: Option<u64>,
    /// Id of the key that verified the token.
    pub key_id: Option<&'a str>,
}

/// As much of a value as a line may have. A character at its end is kept or left out as a whole.
pub(super) fn bounded(value: &[u8]) -> &[u8] {
    if value.len() <= VALUE_BYTES_MAX {
        return value;
    }
    let is_start = |at: &usize| value[*at] & 0xc0 != 0x80;
    let end = (VALUE_BYTES_MAX - 3..=VALUE_BYTES_MAX).rev().find(is_start);
    &value[..end.unwrap_or(VALUE_BYTES_MAX)]
}

/// Cuts off a query, which may carry a token, even if the caller forgot to; and a fragment, which
/// no well-behaved client sends.
pub(super) fn without_query(path: &[u8]) -> &[u8] {
    memchr::memchr2(b'?', b'#', path).map_or(path, |end| &path[..end])
}

/// A `Referer` without query and fragment, and without the user information that its authority may
/// hold (RFC 3986 section 3.2.1): either may be a secret.
pub(super) fn without_secrets(referer: &[u8]) -> Cow<'_, [u8]> {
    let referer = bounded(without_query(referer));
    let authority = memchr::memmem::find(referer, b"//").map_or(0, |at| at + 2);
    let rest = &referer[authority..];
    let end = memchr::memchr(b'/', rest).unwrap_or(rest.len());
    match memchr::memrchr(b'@', &rest[..end]) {
        None => Cow::Borrowed(referer),
        Some(at) => Cow::Owned([&referer[..authority], &rest[at + 1..]].concat()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_ends_at_a_character() {
        assert_eq!(bounded(b"short"), b"short");
        for lead in 0..4 {
            let text = "x".repeat(lead) + &"€".repeat(1_000);
            let cut = str::from_utf8(bounded(text.as_bytes())).unwrap();
            assert!(cut.len() <= VALUE_BYTES_MAX && cut.len() > VALUE_BYTES_MAX - 3, "{cut}");
        }
        assert_eq!(bounded(&[0x80; 2_000]).len(), VALUE_BYTES_MAX);
    }

    #[test]
    fn a_referer_tells_neither_query_nor_password() {
        for (referer, shown) in [
            ("https://a.example/page", "https://a.example/page"),
            ("https://a.example/page?token=x", "https://a.example/page"),
            ("https://a.example#token=x", "https://a.example"),
            ("https://ann:secret@a.example/p@ge?x", "https://a.example/p@ge"),
            ("//ann:se@cret@a.example", "//a.example"),
            ("ann:secret@a.example/x", "a.example/x"),
            ("", ""),
        ] {
            assert_eq!(&*without_secrets(referer.as_bytes()), shown.as_bytes());
        }
    }
}
