//! Search for the token of a request.
//!
//! Sources are tried in the configured order and the first one that is present decides, even when
//! its token is not good: falling through to the next one would let a client choose which of two
//! tokens counts.

use std::borrow::Cow;

use super::{denial::DenialReason, spec::TokenSource};
use crate::protocol::text::percent::decode_lenient;

/// The parts of a request head that may carry a token.
pub trait TokenCarrier {
    /// Values of all header fields of that name (given in lower case; field names compare
    /// without regard to case), in order, without surrounding white space.
    fn header_values<'a>(&'a self, name_lower: &'a str) -> impl Iterator<Item = &'a [u8]>;

    /// The query of the request target as it arrived, without the `?`.
    fn query(&self) -> Option<&[u8]>;
}

/// Contents of one source.
enum Found<'a> {
    Nothing,
    Token(Cow<'a, [u8]>),
    /// Two different tokens in one source: the next hop may choose another one than this proxy.
    Several,
}

impl<'a> Found<'a> {
    fn add(self, token: Cow<'a, [u8]>) -> Self {
        match self {
            Self::Nothing => Self::Token(token),
            Self::Token(first) if first == token => Self::Token(first),
            Self::Token(_) | Self::Several => Self::Several,
        }
    }
}

/// The token of the first source that is present.
pub(super) fn find<'a>(
    sources: &'a [TokenSource],
    carrier: &'a impl TokenCarrier,
) -> Result<Cow<'a, [u8]>, DenialReason> {
    for source in sources {
        let found = match source {
            TokenSource::Bearer => bearer(carrier),
            TokenSource::Header { name, prefix } => header(carrier, name, prefix),
            TokenSource::Query { name } => query(carrier, name),
            TokenSource::Cookie { name } => cookie(carrier, name),
        };
        match found {
            Found::Nothing => {}
            Found::Token(token) => return Ok(token),
            Found::Several => return Err(DenialReason::Ambiguous),
        }
    }
    Err(DenialReason::MissingToken)
}

/// Reads `Authorization: Bearer` (RFC 6750 section 2.1). The scheme compares without regard to case
/// (RFC 9110 section 11.1). With credentials of another scheme the source is absent.
fn bearer(carrier: &impl TokenCarrier) -> Found<'_> {
    const SCHEME: &[u8] = b"bearer";
    let mut found = Found::Nothing;
    for value in carrier.header_values("authorization") {
        let Some((scheme, rest)) = value.split_at_checked(SCHEME.len()) else { continue };
        if !scheme.eq_ignore_ascii_case(SCHEME) {
            continue;
        }
        match rest.first() {
            None | Some(b' ' | b'\t') => found = found.add(Cow::Borrowed(rest.trim_ascii_start())),
            Some(_) => {}
        }
    }
    found
}

fn header<'a>(carrier: &'a impl TokenCarrier, name: &'a str, prefix: &str) -> Found<'a> {
    let mut found = Found::Nothing;
    for value in carrier.header_values(name) {
        if let Some(token) = value.strip_prefix(prefix.as_bytes()) {
            found = found.add(Cow::Borrowed(token));
        }
    }
    found
}

/// Reads a query parameter. Names and values are percent-decoded once. `+` stands for itself, as no
/// token holds one. So does a bad escape: neither a parameter name nor a token can hold one, so
/// that it never turns a bad token into a good one.
fn query<'a>(carrier: &'a impl TokenCarrier, name: &str) -> Found<'a> {
    let mut found = Found::Nothing;
    for pair in carrier.query().unwrap_or_default().split(|byte| *byte == b'&') {
        let (raw_name, raw_value) = split_once(pair, b'=').unwrap_or((pair, b""));
        if decode_lenient(raw_name).as_ref() == name.as_bytes() {
            found = found.add(decode_lenient(raw_value));
        }
    }
    found
}

/// Reads a cookie (RFC 6265 section 4.2.1). Names compare exactly; double quotes around a value are
/// not part of it.
fn cookie<'a>(carrier: &'a impl TokenCarrier, name: &str) -> Found<'a> {
    let mut found = Found::Nothing;
    for field in carrier.header_values("cookie") {
        for pair in field.split(|byte| *byte == b';') {
            let Some((pair_name, value)) = split_once(pair, b'=') else { continue };
            if pair_name.trim_ascii() == name.as_bytes() {
                let value = value.trim_ascii();
                let unquoted = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
                found = found.add(Cow::Borrowed(unquoted.unwrap_or(value)));
            }
        }
    }
    found
}

fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(separator, bytes)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Head(&'static [(&'static str, &'static str)], Option<&'static str>);

    impl TokenCarrier for Head {
        fn header_values<'a>(&'a self, name_lower: &'a str) -> impl Iterator<Item = &'a [u8]> {
            self.0
                .iter()
                .filter(move |(name, _)| name.eq_ignore_ascii_case(name_lower))
                .map(|(_, value)| value.as_bytes())
        }

        fn query(&self) -> Option<&[u8]> {
            self.1.map(str::as_bytes)
        }
    }

    fn named(source: &str) -> TokenSource {
        let name = "token".to_owned();
        match source {
            "bearer" => TokenSource::Bearer,
            "header" => TokenSource::Header { name: "x-auth".to_owned(), prefix: String::new() },
            "prefixed" => {
                TokenSource::Header { name: "x-auth".to_owned(), prefix: "Token ".to_owned() }
            }
            "query" => TokenSource::Query { name },
            _ => TokenSource::Cookie { name },
        }
    }

    fn found(source: &str, head: &Head) -> Result<String, DenialReason> {
        find(&[named(source)], head).map(|token| String::from_utf8(token.into_owned()).unwrap())
    }

    #[test]
    fn bearer_takes_its_own_scheme_only() {
        for (value, expected) in [
            ("Bearer abc", Ok("abc")),
            ("bearer abc", Ok("abc")),
            ("BEARER \t abc", Ok("abc")),
            ("Bearer", Ok("")),
            ("Bearer ", Ok("")),
            ("Bearerabc", Err(DenialReason::MissingToken)),
            ("Basic abc", Err(DenialReason::MissingToken)),
            ("Bear", Err(DenialReason::MissingToken)),
            ("", Err(DenialReason::MissingToken)),
        ] {
            let fields: &'static _ = Box::leak(Box::new([("Authorization", value)]));
            assert_eq!(
                found("bearer", &Head(fields, None)),
                expected.map(str::to_owned),
                "{value:?}"
            );
        }
    }

    #[test]
    fn one_source_with_two_tokens_is_ambiguous_unless_they_are_equal() {
        const TWO: Head = Head(
            &[
                ("Authorization", "Bearer a"),
                ("authorization", "Bearer b"),
                ("X-Auth", "a"),
                ("x-auth", "b"),
                ("Cookie", "token=a; token=b"),
            ],
            Some("token=a&token=b"),
        );
        const SAME: Head = Head(
            &[
                ("Authorization", "Bearer a"),
                ("Authorization", "Bearer a"),
                ("X-Auth", "a"),
                ("X-Auth", "a"),
                ("Cookie", "token=a"),
                ("Cookie", "token=\"a\""),
            ],
            Some("token=a&%74oken=%61"),
        );
        for source in ["bearer", "header", "query", "cookie"] {
            assert_eq!(found(source, &TWO), Err(DenialReason::Ambiguous), "{source}");
            assert_eq!(found(source, &SAME).as_deref(), Ok("a"), "{source}");
        }
    }

    #[test]
    fn a_header_without_the_prefix_is_absent() {
        assert_eq!(
            found("prefixed", &Head(&[("X-Auth", "Token abc")], None)).as_deref(),
            Ok("abc")
        );
        assert_eq!(
            found("prefixed", &Head(&[("X-Auth", "abc")], None)),
            Err(DenialReason::MissingToken)
        );
    }

    #[test]
    fn query_and_cookie_names_match_whole_names() {
        for query in ["xtoken=a", "token2=a", "a=token=b", "Token=a", ""] {
            assert_eq!(
                found("query", &Head(&[], Some(query))),
                Err(DenialReason::MissingToken),
                "{query}"
            );
        }
        assert_eq!(found("query", &Head(&[], Some("x=1&token&y"))).as_deref(), Ok(""));
        assert_eq!(found("query", &Head(&[], Some("token=a%2Eb%zz%4"))).as_deref(), Ok("a.b%zz%4"));
        for cookie in ["xtoken=a", "Token=a", "token", "a=b token=c"] {
            let fields: &'static _ = Box::leak(Box::new([("cookie", cookie)]));
            assert_eq!(
                found("cookie", &Head(fields, None)),
                Err(DenialReason::MissingToken),
                "{cookie}"
            );
        }
        assert_eq!(
            found("cookie", &Head(&[("cookie", "a=b;token=x.y=z ; c=d")], None)).as_deref(),
            Ok("x.y=z")
        );
    }

    #[test]
    fn the_first_source_that_is_present_decides() {
        const HEAD: Head = Head(&[("X-Auth", "from-header")], Some("token=from-query"));
        let order = |names: &[&str]| {
            let sources: Vec<_> = names.iter().map(|source| named(source)).collect();
            find(&sources, &HEAD).map(|token| String::from_utf8(token.into_owned()).unwrap())
        };
        assert_eq!(order(&["bearer", "header", "query"]).as_deref(), Ok("from-header"));
        assert_eq!(order(&["bearer", "query", "header"]).as_deref(), Ok("from-query"));
        assert_eq!(order(&["bearer", "cookie"]), Err(DenialReason::MissingToken));
        assert_eq!(order(&[]), Err(DenialReason::MissingToken));
    }
}
