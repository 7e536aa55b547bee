//! Method and path of a request that was refused before it was understood, for the log.

use super::request::METHOD_BYTES_MAX;
use crate::protocol::text::token::is_token_byte;

/// Longest path that is kept of a refused request, in bytes: it may be refused for its length.
pub const BEGUN_PATH_BYTES_MAX: usize = 1_024;

/// As much of a request line as can be told from its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BegunRequest<'b> {
    /// The method; empty if what has arrived does not begin as a request does.
    pub method: &'b [u8],
    /// The path without query, as far as it arrived and at most [`BEGUN_PATH_BYTES_MAX`] of it;
    /// empty if there is none.
    pub path: &'b [u8],
}

impl<'b> BegunRequest<'b> {
    /// Looks at the beginning of what a client sent. What does not stand where a method or a path
    /// does is left out, since it may be anything, a secret included.
    pub fn of(arrived: &'b [u8]) -> Self {
        let line = arrived.strip_prefix(b"\r\n").unwrap_or(arrived);
        let length = line.iter().take_while(|byte| is_token_byte(**byte)).count();
        let method = &line[..length];
        let Some(rest) = line[length..].strip_prefix(b" ") else { return Self::default() };
        if method.is_empty() || length > METHOD_BYTES_MAX {
            return Self::default();
        }
        let is_end = |byte: &u8| matches!(byte, b'?' | b'#' | b' ' | b'\r' | b'\n');
        let target = &rest[..rest.iter().position(is_end).unwrap_or(rest.len())];
        let path = match path_of_absolute(target) {
            Some(path) => path,
            None if target.starts_with(b"/") || target == b"*" => target,
            None => b"",
        };
        Self { method, path: path.get(..BEGUN_PATH_BYTES_MAX).unwrap_or(path) }
    }
}

/// The path of an absolute-form target, whose authority may hold a password.
fn path_of_absolute(target: &[u8]) -> Option<&[u8]> {
    let rest = ["http://", "https://"].iter().find_map(|scheme| {
        let (start, rest) = target.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some(rest)
    })?;
    Some(memchr::memchr(b'/', rest).map_or(&b""[..], |at| &rest[at..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn method_and_path_are_told_from_what_arrived() {
        let long = [b"GET /", &[b'a'; 9_000][..]].concat();
        let cut = &long[4..4 + BEGUN_PATH_BYTES_MAX];
        for (arrived, method, path) in [
            (&b"GET /a%20b?token=x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"[..], "GET", "/a%20b"),
            (b"\r\nHEAD /a#x HTTP/1.1\r\n", "HEAD", "/a"),
            (b"GET /a", "GET", "/a"),
            (b"GET /a\nHost", "GET", "/a"),
            (b"OPTIONS * HTTP/1.1", "OPTIONS", "*"),
            (b"GET http://ann:pw@h/a?x HTTP/1.1\r\n", "GET", "/a"),
            (b"GET HTTPS://ann:pw@h", "GET", ""),
            (b"CONNECT host:443 HTTP/1.1\r\n", "CONNECT", ""),
            (b"GET secret HTTP/1.1\r\n", "GET", ""),
            (b"GET", "", ""),
            (b"secret\r\n", "", ""),
            (b"Authorization: Bearer x\r\n", "", ""),
            (b"\x16\x03\x01\x02\x00\x01", "", ""),
            (b" /a", "", ""),
            (b"", "", ""),
        ] {
            let begun = BegunRequest::of(arrived);
            assert_eq!(begun.method, method.as_bytes(), "{arrived:?}");
            assert_eq!(begun.path, path.as_bytes(), "{arrived:?}");
        }
        assert_eq!(BegunRequest::of(&long).path, cut);
        let method = [&[b'A'; METHOD_BYTES_MAX + 1][..], b" /"].concat();
        assert_eq!(BegunRequest::of(&method), BegunRequest::default());
    }

    proptest! {
        #[test]
        fn nothing_behind_a_path_is_taken_for_one(arrived: Vec<u8>, head in "[A-Z]{0,9} ?[/?#: a]*") {
            for arrived in [&arrived[..], &[head.as_bytes(), &arrived].concat()] {
                let BegunRequest { method, path } = BegunRequest::of(arrived);
                prop_assert!(method.len() <= METHOD_BYTES_MAX);
                prop_assert!(path.len() <= BEGUN_PATH_BYTES_MAX);
                prop_assert!(method.iter().all(|byte| is_token_byte(*byte)));
                prop_assert!(!path.iter().any(|byte| b"?# \r\n".contains(byte)));
            }
        }
    }
}
