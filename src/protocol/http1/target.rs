//! Request targets and hosts (RFC 9112 section 3.2, RFC 9110 sections 4.2 and 7.2).

use std::net::Ipv6Addr;

use memchr::{memchr, memchr2};

use super::message::Method;
use super::span::Span;
use crate::protocol::text::class::all_are;

/// Digits of 65535.
const PORT_DIGITS_MAX: usize = 5;

/// A request target taken apart. Spans are relative to the buffer that was parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) path: Span,
    pub(super) query: Option<Span>,
    pub(super) authority: Option<Span>,
    /// True for an absolute-form with scheme `https`.
    pub(super) https: bool,
}

/// Reads a request target whose first byte is at offset `at` of the parsed buffer.
///
/// Origin-form, absolute-form with scheme `http` or `https`, and `*` for OPTIONS. The target of CONNECT
/// is taken as it is: that method is never served. Blanks and controls cannot occur here:
/// they end the target where the request line is read.
///
/// # Errors
/// The reason, for everything else, for a fragment and for bytes outside ASCII.
pub(super) fn parse_target(
    method: Method,
    method_name: &[u8],
    target: &[u8],
    at: usize,
) -> Result<Target, &'static str> {
    // Nearly all are a path alone.
    #[expect(clippy::needless_bitwise_bool, reason = "a lazy operator is a branch")]
    let is_of_path = |byte: u8| (byte < 0x80) & (byte != b'?') & (byte != b'#');
    if target.starts_with(b"/") && all_are(target, is_of_path) {
        let path = Span::new(at, at + target.len());
        return Ok(Target { path, query: None, authority: None, https: false });
    }
    if !target.is_ascii() {
        return Err("the request target holds bytes outside ASCII");
    }
    if target.starts_with(b"/") {
        return split_path(target, at, None);
    }
    if method_name == b"CONNECT" {
        let path = Span::new(at, at + target.len());
        return Ok(Target { path, query: None, authority: None, https: false });
    }
    if target == b"*" && method == Method::Options {
        let path = Span::new(at, at + 1);
        return Ok(Target { path, query: None, authority: None, https: false });
    }
    absolute_form(target, at)
}

/// Splits an origin-form at its first `?`.
fn split_path(target: &[u8], at: usize, authority: Option<Span>) -> Result<Target, &'static str> {
    let end = at + target.len();
    let Some(mark) = memchr2(b'?', b'#', target) else {
        return Ok(Target { path: Span::new(at, end), query: None, authority, https: false });
    };
    if target[mark] == b'#' || memchr(b'#', &target[mark..]).is_some() {
        return Err("the request target holds a fragment");
    }
    let query = Some(Span::new(at + mark + 1, end));
    Ok(Target { path: Span::new(at, at + mark), query, authority, https: false })
}

/// `http://authority[/path][?query]`, or the same with `https` (RFC 9112 section 3.2.2).
fn absolute_form(target: &[u8], at: usize) -> Result<Target, &'static str> {
    let schemes: [&[u8]; 2] = [b"http://", b"https://"];
    let is_of = |scheme: &&[u8]| {
        target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
    };
    let Some(scheme) = schemes.into_iter().find(is_of) else {
        return Err("the request target is malformed");
    };
    let rest = &target[scheme.len()..];
    let authority_len =
        rest.iter().position(|&byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(authority_len);
    if !is_host(authority) {
        return Err("the authority of the request target is malformed");
    }
    let authority_at = at + scheme.len();
    let path_at = authority_at + authority_len;
    let mut parsed = split_path(path, path_at, Some(Span::new(authority_at, path_at)))?;
    parsed.https = scheme.len() == schemes[1].len();
    if parsed.path.is_empty() {
        // An empty path means "/" (RFC 9110 section 4.2.3); the last byte of "http://" is one.
        parsed.path = Span::new(authority_at - 1, authority_at);
    }
    Ok(parsed)
}

/// Returns true for a host with an optional port (RFC 9110 section 7.2): a registered name or
/// IPv4 address, or an IPv6 address in brackets; not empty, without userinfo.
pub(super) fn is_host(value: &[u8]) -> bool {
    let (host_is_valid, port) = if let Some(rest) = value.strip_prefix(b"[") {
        let Some(close) = memchr(b']', rest) else { return false };
        (is_ipv6(&rest[..close]), &rest[close + 1..])
    } else {
        // A name holds no colon, so that one further ahead is refused with it.
        let tail = value.len().saturating_sub(PORT_DIGITS_MAX + 1);
        let colon = value[tail..].iter().position(|byte| *byte == b':');
        let end = colon.map_or(value.len(), |at| tail + at);
        (is_reg_name(&value[..end]), &value[end..])
    };
    host_is_valid && is_port_suffix(port)
}

fn is_ipv6(address: &[u8]) -> bool {
    std::str::from_utf8(address).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

/// RFC 3986 section 3.2.2, but not empty (RFC 9110 section 4.2.1).
fn is_reg_name(name: &[u8]) -> bool {
    #[expect(clippy::needless_bitwise_bool, reason = "a lazy operator is a branch")]
    let is_usual = |byte: u8| {
        ((byte | 0x20).wrapping_sub(b'a') < 26)
            | (byte.wrapping_sub(b'0') <= 9)
            | (byte == b'.')
            | (byte == b'-')
    };
    let mut rest = if all_are(name, is_usual) { &[] } else { name };
    while let [first, after @ ..] = rest {
        rest = match first {
            b'%' => match after {
                [high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    after
                }
                _ => return false,
            },
            b'0'..=b'9'
            | b'A'..=b'Z'
            | b'a'..=b'z'
            | b'-'
            | b'.'
            | b'_'
            | b'~'
            | b'!'
            | b'$'
            | b'&'
            | b'\''
            | b'('
            | b')'
            | b'*'
            | b'+'
            | b','
            | b';'
            | b'=' => after,
            _ => return false,
        };
    }
    !name.is_empty()
}

/// Nothing, or `:` and a number up to 65535. RFC 3986 section 3.2.3 allows the number to be
/// left out.
fn is_port_suffix(suffix: &[u8]) -> bool {
    match suffix {
        [] => true,
        [b':', digits @ ..] => {
            digits.len() <= PORT_DIGITS_MAX
                && digits.iter().all(u8::is_ascii_digit)
                && digits.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0')) <= 65_535
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(
        method: Method,
        target: &str,
    ) -> Result<(String, Option<String>, Option<String>), &'static str> {
        let line = format!("XX {target}");
        let text = |span: Span| String::from_utf8(span.of(line.as_bytes()).to_vec()).unwrap();
        let parsed = parse_target(method, b"GET", target.as_bytes(), 3)?;
        Ok((text(parsed.path), parsed.query.map(text), parsed.authority.map(text)))
    }

    #[test]
    fn origin_form_is_path_and_query() {
        let get = |target| parts(Method::Get, target).unwrap();
        assert_eq!(get("/a/b"), ("/a/b".into(), None, None));
        assert_eq!(get("/a?b=1?c"), ("/a".into(), Some("b=1?c".into()), None));
        assert_eq!(get("/a?"), ("/a".into(), Some(String::new()), None));
        assert_eq!(get("//a//%2F"), ("//a//%2F".into(), None, None));
        assert_eq!(get("/*"), ("/*".into(), None, None));
    }

    #[test]
    fn absolute_form_gives_its_authority() {
        let get = |target| parts(Method::Get, target).unwrap();
        assert_eq!(get("http://h:80/a?b"), ("/a".into(), Some("b".into()), Some("h:80".into())));
        assert_eq!(get("HTTP://h/"), ("/".into(), None, Some("h".into())));
        assert_eq!(get("http://h"), ("/".into(), None, Some("h".into())));
        assert_eq!(get("http://[::1]:8080"), ("/".into(), None, Some("[::1]:8080".into())));
        assert_eq!(get("http://h?q"), ("/".into(), Some("q".into()), Some("h".into())));
    }

    #[test]
    fn asterisk_is_for_options_only() {
        assert_eq!(parts(Method::Options, "*"), Ok(("*".into(), None, None)));
        assert!(parts(Method::Get, "*").is_err());
        assert!(parts(Method::Options, "**").is_err());
    }

    #[test]
    fn other_targets_are_refused() {
        for bad in [
            "a",
            "a/b",
            "h:80",
            "ftp://h/",
            "http:/h",
            "http://",
            "http:///a",
            "http://u@h/",
            "http://h:x/",
            "http://h:99999/",
            "http://[::1/",
            "/a#b",
            "/a?b#c",
            "http://h#f",
            "http://h/#f",
            "/\u{e9}",
            "?a",
            "#",
        ] {
            assert!(parts(Method::Get, bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_host_is_a_name_or_address_with_an_optional_port() {
        for good in [
            "a",
            "a.b-c_d",
            "127.0.0.1",
            "a:80",
            "a:",
            "a:0",
            "a:65535",
            "[::1]",
            "[::1]:443",
            "xn--bcher-kva.example",
            "a%20b",
            "a~!$&'()*+,;=",
        ] {
            assert!(is_host(good.as_bytes()), "{good:?}");
        }
        for bad in [
            "",
            ":80",
            "a:65536",
            "a:-1",
            "a:+1",
            "a:80:80",
            "a:8 0",
            "a b",
            "a/b",
            "a?b",
            "a#b",
            "a@b",
            "u:p@h",
            "a\\b",
            "a,b c",
            "[",
            "[]",
            "[::1",
            "::1",
            "[::1]x",
            "[::1]:x",
            "[::g]",
            "[v1.a]",
            "[fe80::1%25eth0]",
            "a%2",
            "a%zz",
            "h\u{e9}",
            "a<b",
            "a\"b",
            "a\tb",
        ] {
            assert!(!is_host(bad.as_bytes()), "{bad:?}");
        }
    }
}
