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

/// As many elements of a list as a line may have, from its end: what the last proxies wrote, behind
/// what the client may have made up.
pub(super) fn bounded_list(value: &[u8]) -> &[u8] {
    let Some(cut) = value.len().checked_sub(VALUE_BYTES_MAX).filter(|cut| *cut > 0) else {
        return value;
    };
    let kept = &value[cut..];
    memchr::memchr(b',', kept).map_or(kept, |at| kept[at + 1..].trim_ascii_start())
}

/// Cuts off a query, which may carry a token, even if the caller forgot to; and a fragment, which
/// no well-behaved client sends.
pub(super) fn without_query(path: &[u8]) -> &[u8] {
    memchr::memchr2(b'?', b'#', path).map_or(path, |end| &path[..end])
}

/// A `Referer` without query and fragment, and without the user information that its authority may
/// hold (RFC 3986 section 3.2.1): either may be a secret. Slashes are counted as leniently as
/// browsers do. What is neither a URL nor a path is cut off up to its last `@`.
pub(super) fn without_secrets(referer: &[u8]) -> Cow<'_, [u8]> {
    let referer = without_query(referer);
    let is_slash = |byte: &u8| matches!(byte, b'/' | b'\\');
    let scheme = scheme_bytes(referer);
    let slashes = referer[scheme..].iter().take_while(|byte| is_slash(byte)).count();
    if scheme == 0 && slashes == 1 && referer.first() == Some(&b'/') {
        return Cow::Borrowed(bounded(referer));
    }
    let (authority, rest) = referer.split_at(if slashes == 0 { 0 } else { scheme + slashes });
    let end = match slashes {
        0 => rest.len(),
        _ => rest.iter().position(is_slash).unwrap_or(rest.len()),
    };
    match memchr::memrchr(b'@', &rest[..end]) {
        None => Cow::Borrowed(bounded(referer)),
        Some(at) => Cow::Owned(bounded(&[authority, &rest[at + 1..]].concat()).to_vec()),
    }
}

/// Length of the scheme of a URL and its colon (RFC 3986 section 3.1); 0 if there is none.
fn scheme_bytes(url: &[u8]) -> usize {
    let is_of_scheme =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let length = url.iter().take_while(|byte| is_of_scheme(byte)).count();
    if length > 0 && url.get(length) == Some(&b':') { length + 1 } else { 0 }
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
            ("ann:secret@a.example/a//b", "a.example/a//b"),
            ("https:/ann:secret@a.example/p", "https:/a.example/p"),
            ("https:///ann:secret@a.example/p", "https:///a.example/p"),
            ("https:\\\\ann:secret@a.example\\p@ge", "https:\\\\a.example\\p@ge"),
            ("https:ann:secret@a.example", "a.example"),
            ("/p@ge", "/p@ge"),
            ("", ""),
        ] {
            let kept = without_secrets(referer.as_bytes());
            assert_eq!(&*kept, shown.as_bytes(), "{referer}");
        }
    }

    #[test]
    fn a_long_password_does_not_hide_where_it_ends() {
        let referer = format!("https://ann:{}@a.example/page", "secret".repeat(400));
        assert_eq!(&*without_secrets(referer.as_bytes()), b"https://a.example/page");
    }

    #[test]
    fn of_many_addresses_the_last_are_kept() {
        let all = format!("{}203.0.113.9", "192.0.2.1, ".repeat(400));
        let kept = bounded_list(all.as_bytes());
        assert!(kept.len() <= VALUE_BYTES_MAX && kept.starts_with(b"192.0.2.1, "), "{kept:?}");
        assert!(kept.ends_with(b", 203.0.113.9"));
        assert_eq!(bounded_list(b"192.0.2.1"), b"192.0.2.1");
    }
}
