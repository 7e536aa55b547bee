//! Hosts that buckets are served for.

use std::{collections::HashMap, fmt, net::Ipv4Addr};

use super::prefixes::{DuplicatePlace, Prefixes};

/// Longest host name, in bytes without the final dot (RFC 1035 section 2.3.4).
const HOST_BYTES_MAX: usize = 253;

/// Longest label of a host name, in bytes (same section).
const LABEL_BYTES_MAX: usize = 63;

/// Place of a bucket: where it is served.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Hosts that it is served for; every one if there are none.
    pub hosts: &'a [HostPattern],
    /// Prefix of its paths (see [`validate_path_prefix`](super::validate_path_prefix)).
    pub prefix: &'a str,
}

/// A host name, or all names with one label before a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPattern {
    /// In lower case, without a final dot; of a wildcard what follows `*.`.
    name: Box<str>,
    is_wildcard: bool,
}

impl HostPattern {
    /// Parses `www.example.com` or `*.example.com`.
    ///
    /// # Errors
    /// What to write instead.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let (name, is_wildcard) = match text.strip_prefix("*.") {
            Some(name) => (name, true),
            None => (text, false),
        };
        let name = name.strip_suffix('.').unwrap_or(name);
        if text == "*" {
            return Err("is every host; remove hosts for a bucket of every host");
        }
        if name.contains('*') {
            return Err("has a '*' that is not the whole first label; write *.example.com");
        }
        if name.contains(['/', '@', '?', '#']) {
            return Err("is not a host name; write it without scheme, user and path");
        }
        if name.contains('[') || name.matches(':').count() > 1 {
            return Err("is an IPv6 address; write a host name or an IPv4 address");
        }
        if name.contains(':') {
            return Err("has a port, which is not compared; write the name without it");
        }
        if !name.is_ascii() {
            return Err("has letters outside ASCII; write its ASCII form (xn--...)");
        }
        let label_is_good = |label: &str| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        if name.len() > HOST_BYTES_MAX || !name.split('.').all(label_is_good) {
            return Err(
                "is not a host name; write labels of letters, digits, '-' and '_', each of at most \
                 63 characters",
            );
        }
        if is_wildcard && name.parse::<Ipv4Addr>().is_ok() {
            return Err("has a '*' before an IP address; write the whole address");
        }
        Ok(Self { name: name.to_ascii_lowercase().into(), is_wildcard })
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_wildcard { "*." } else { "" })?;
        f.write_str(&self.name)
    }
}

/// The tables of the buckets that name a host.
#[derive(Clone, Copy, Default)]
pub(super) struct Named<'h> {
    /// Those that name it exactly.
    pub(super) exact: Option<&'h Prefixes>,
    /// Those that name it with a wildcard.
    pub(super) wildcard: Option<&'h Prefixes>,
}

/// The prefixes of each host.
#[derive(Clone, Debug)]
pub(super) struct Hosts {
    exact: HashMap<Box<[u8]>, Prefixes>,
    /// By what follows the first label.
    wildcard: HashMap<Box<[u8]>, Prefixes>,
}

impl Hosts {
    /// Builds the tables of buckets with hosts.
    pub(super) fn build(places: Vec<(Place<'_>, usize)>) -> Result<Self, DuplicatePlace> {
        let mut by_host: HashMap<&HostPattern, Vec<(&str, usize)>> = HashMap::new();
        for (place, bucket) in places {
            for host in place.hosts {
                by_host.entry(host).or_default().push((place.prefix, bucket));
            }
        }
        let mut hosts = Self { exact: HashMap::new(), wildcard: HashMap::new() };
        for (host, prefixes) in by_host {
            let tables = if host.is_wildcard { &mut hosts.wildcard } else { &mut hosts.exact };
            tables.insert(host.name.as_bytes().into(), Prefixes::build(prefixes)?);
        }
        Ok(hosts)
    }

    /// The tables of a host: in any case, without port, with a final dot or without.
    pub(super) fn find(&self, host: &[u8]) -> Named<'_> {
        let mut lower = [0; HOST_BYTES_MAX];
        let name = host.strip_suffix(b".").unwrap_or(host);
        let Some(lower) = lower.get_mut(..name.len()) else { return Named::default() };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        let lower = &*lower;
        let after_label = match memchr::memchr(b'.', lower) {
            Some(dot) if dot > 0 => lower.get(dot + 1..),
            _ => None,
        };
        Named {
            exact: self.exact.get(lower),
            wildcard: after_label.and_then(|name| self.wildcard.get(name)),
        }
    }

    /// Returns true if a bucket names the host.
    pub(super) fn knows(&self, host: &[u8]) -> bool {
        let named = self.find(host);
        named.exact.is_some() || named.wildcard.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_names_or_one_label_before_one() {
        for (text, shown) in [
            ("example.com", "example.com"),
            ("Example.COM.", "example.com"),
            ("*.Example.com", "*.example.com"),
            ("*.com", "*.com"),
            ("localhost", "localhost"),
            ("127.0.0.1", "127.0.0.1"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("a_b.example", "a_b.example"),
        ] {
            let pattern = HostPattern::parse(text);
            assert_eq!(pattern.map(|pattern| pattern.to_string()).as_deref(), Ok(shown), "{text}");
        }
        for text in [
            "",
            ".",
            "*",
            "*.",
            "**.example.com",
            "*.*.example.com",
            "a.*.com",
            "*example.com",
            "a*.example.com",
            "example.com:8080",
            "http://example.com",
            "example.com/a",
            "user@example.com",
            "[::1]",
            "2001:db8::1",
            "b\u{fc}cher.example",
            "a..b",
            ".example.com",
            "a b",
            "a%20b",
            "*.127.0.0.1",
        ] {
            assert!(HostPattern::parse(text).is_err(), "{text}");
        }
        assert!(HostPattern::parse(&"a.".repeat(126)).is_ok());
        assert!(HostPattern::parse(&"a.".repeat(128)).is_err());
        assert!(HostPattern::parse(&"a".repeat(64)).is_err());
    }
}
