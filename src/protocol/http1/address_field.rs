//! `X-Forwarded-For` and `Forwarded`: the addresses that the proxies before this one wrote down.
//!
//! Each proxy appends what it sees, so the last address was written by the nearest one and
//! everything before it may come from the client. A value is therefore read from its end, and
//! nothing that stands before an address changes how that address is read: no quote, no backslash
//! and no comma of a client can.
//!
//! Deliberately absent: the decision which address to believe.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use memchr::{memchr, memrchr};

use super::fields::trim_ows;
use crate::{
    model::ClientAddress,
    protocol::text::token::{is_token, is_token_byte},
};

/// The field in which proxies pass the address of their client on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressField {
    /// `X-Forwarded-For`: addresses between commas.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239): the parameter `for` of each element.
    Forwarded,
}

impl AddressField {
    /// The field's name in lower case.
    pub const fn name_lower(self) -> &'static [u8] {
        match self {
            Self::XForwardedFor => b"x-forwarded-for",
            Self::Forwarded => b"forwarded",
        }
    }

    /// The members of a field line's value, the last one first; `None` for a member that does not
    /// name an IP address: `unknown`, an obfuscated identifier (RFC 7239 section 6), or anything
    /// else. Empty members are left out (RFC 9110 section 5.6.1.2).
    pub fn from_the_last(self, value: &[u8]) -> impl Iterator<Item = Option<ClientAddress>> {
        let mut rest = Some(value);
        std::iter::from_fn(move || {
            loop {
                let value = rest?;
                let comma = self.last_comma(value);
                rest = comma.map(|at| &value[..at]);
                let member = trim_ows(&value[comma.map_or(0, |at| at + 1)..]);
                if !member.is_empty() {
                    return Some(self.address_in(member));
                }
            }
        })
    }

    /// Position of the comma before the last member.
    fn last_comma(self, value: &[u8]) -> Option<usize> {
        match self {
            Self::XForwardedFor => memrchr(b',', value),
            Self::Forwarded => last_unquoted_comma(value),
        }
    }

    fn address_in(self, member: &[u8]) -> Option<ClientAddress> {
        match self {
            Self::XForwardedFor => node(member),
            Self::Forwarded => forwarded_for(member),
        }
    }
}

/// Position of the last comma outside of quoted strings (RFC 9110 section 5.6.4). Seen from the
/// end, a string begins at the nearest quote that is not escaped.
fn last_unquoted_comma(value: &[u8]) -> Option<usize> {
    let mut quoted = false;
    for (at, byte) in value.iter().enumerate().rev() {
        match byte {
            b'"' if !is_escaped(value, at) => quoted = !quoted,
            b',' if !quoted => return Some(at),
            _ => {}
        }
    }
    None
}

/// Returns true if an odd number of backslashes stands before a quote.
fn is_escaped(value: &[u8], quote: usize) -> bool {
    let before = value.get(..quote).unwrap_or_default();
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// The address in the parameter `for` of one element of `Forwarded`. An element that is malformed,
/// or that has no such parameter, or two, names none.
fn forwarded_for(element: &[u8]) -> Option<ClientAddress> {
    let mut found = None;
    let mut rest = element;
    loop {
        rest = trim_ows(rest);
        if let Some(next) = rest.strip_prefix(b";") {
            // An empty parameter (RFC 7239 section 4).
            rest = next;
            continue;
        }
        if rest.is_empty() {
            return found;
        }
        let (name, from_value) = rest.split_at_checked(memchr(b'=', rest)?)?;
        let (value, after) = parameter_value(from_value.get(1..)?)?;
        let after = trim_ows(after);
        if !is_token(name) || !(after.is_empty() || after.starts_with(b";")) {
            return None;
        }
        if name.eq_ignore_ascii_case(b"for") {
            if found.is_some() {
                return None;
            }
            found = Some(node(value)?);
        }
        rest = after;
    }
}

/// Splits a parameter's value off, without the quotes around it. Escapes stay: no address needs
/// any. Addresses with colons and brackets are taken without quotes too, as some proxies write
/// them.
fn parameter_value(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        let is_value = |byte: u8| is_token_byte(byte) || matches!(byte, b':' | b'[' | b']');
        let end = text.iter().position(|byte| !is_value(*byte)).unwrap_or(text.len());
        return text.split_at_checked(end);
    };
    let mut from = 0;
    loop {
        let end = from + memchr(b'"', quoted.get(from..)?)?;
        if !is_escaped(quoted, end) {
            return Some((&quoted[..end], &quoted[end + 1..]));
        }
        from = end + 1;
    }
}

/// An IP address with or without a port (RFC 7239 section 6). IPv6 stands in brackets, or without
/// brackets and port. A port that is an obfuscated identifier is not known.
fn node(text: &[u8]) -> Option<ClientAddress> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some(bracketed) = text.strip_prefix('[') {
        let (ip, rest) = bracketed.split_once(']')?;
        let ip = IpAddr::V6(ip.parse::<Ipv6Addr>().ok()?);
        return match rest.strip_prefix(':') {
            Some(port) => Some(ClientAddress::new(ip, node_port(port).ok()?)),
            None => rest.is_empty().then(|| ClientAddress::new(ip, None)),
        };
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some(ClientAddress::new(ip, None));
    }
    let (ip, port) = text.split_once(':')?;
    let ip = IpAddr::V4(ip.parse::<Ipv4Addr>().ok()?);
    Some(ClientAddress::new(ip, node_port(port).ok()?))
}

/// Something else than a port.
struct NoPort;

/// The port, or none for an obfuscated one.
fn node_port(text: &str) -> Result<Option<u16>, NoPort> {
    let is_identifier = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    match text.as_bytes() {
        [b'0'..=b'9', ..] => text.parse().map(Some).map_err(|_| NoPort),
        [b'_', rest @ ..] if !rest.is_empty() && rest.iter().all(is_identifier) => Ok(None),
        _ => Err(NoPort),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{AddressField::*, *};

    /// The members as text, the last one first; `-` for one that names no address.
    fn read(field: AddressField, value: &str) -> Vec<String> {
        let members = field.from_the_last(value.as_bytes());
        members.map(|address| address.map_or_else(|| "-".to_owned(), |a| a.to_string())).collect()
    }

    #[test]
    fn x_forwarded_for_is_read_from_its_end() {
        for (value, expected) in [
            ("203.0.113.9", &["203.0.113.9"][..]),
            ("203.0.113.9, 10.0.0.1", &["10.0.0.1", "203.0.113.9"]),
            ("203.0.113.9:4711,10.0.0.1 ", &["10.0.0.1", "203.0.113.9:4711"]),
            ("2001:db8::1", &["[2001:db8::1]"]),
            ("[2001:db8::1]", &["[2001:db8::1]"]),
            ("[2001:db8::1]:443 ,\t::1", &["[::1]", "[2001:db8::1]:443"]),
            ("::ffff:192.0.2.1", &["192.0.2.1"]),
            ("[::ffff:192.0.2.1]:7", &["192.0.2.1:7"]),
            ("203.0.113.9:_hidden", &["203.0.113.9"]),
            ("", &[]),
            (" , ,,", &[]),
            (",1.2.3.4,", &["1.2.3.4"]),
            ("a,b", &["-", "-"]),
            ("unknown, 1.2.3.4", &["1.2.3.4", "-"]),
        ] {
            assert_eq!(read(XForwardedFor, value), expected, "{value:?}");
        }
    }

    #[test]
    fn what_is_no_address_is_not_taken_for_one() {
        for member in [
            "unknown",
            "_hidden",
            "localhost",
            "1.2.3",
            "1.2.3.4.5",
            "01.2.3.4",
            "1.2.3.256",
            "0x7f.1",
            "1.2.3.4:",
            "1.2.3.4:65536",
            "1.2.3.4:+80",
            "1.2.3.4:80:80",
            "1.2.3.4:_",
            "1.2.3.4 5.6.7.8",
            "1.2.3.4/32",
            "2001:db8::1%eth0",
            "[2001:db8::1%1]:80",
            "[2001:db8::1",
            "2001:db8::1]",
            "[2001:db8::1]80",
            "[2001:db8::1]:",
            "[1.2.3.4]",
            "[1.2.3.4]:80",
            "\"1.2.3.4\"",
            "for=1.2.3.4",
            "1.2.3.4\u{e9}",
        ] {
            assert_eq!(read(XForwardedFor, member), ["-"], "{member:?}");
        }
        assert_eq!(XForwardedFor.from_the_last(b"\xff\xfe").collect::<Vec<_>>(), [None]);
    }

    #[test]
    fn elements_of_forwarded_name_an_address_in_for() {
        for (value, expected) in [
            ("for=192.0.2.60;proto=http;by=203.0.113.43", &["192.0.2.60"][..]),
            ("For=\"[2001:db8:cafe::17]:4711\"", &["[2001:db8:cafe::17]:4711"]),
            ("for=192.0.2.43, for=198.51.100.17", &["198.51.100.17", "192.0.2.43"]),
            ("proto=https ; FOR=\"192.0.2.1:80\" ;", &["192.0.2.1:80"]),
            ("for=\"192.0.2.1:_p\"", &["192.0.2.1"]),
            // Not quoted, which RFC 7239 section 4 asks for.
            ("for=[2001:db8::1]:80;by=x", &["[2001:db8::1]:80"]),
            ("for=192.0.2.1:80", &["192.0.2.1:80"]),
            // Commas, semicolons and quotes inside strings.
            ("for=1.1.1.1;host=\"a,b;c\\\",d\\\\\", for=2.2.2.2", &["2.2.2.2", "1.1.1.1"]),
            ("for=unknown", &["-"]),
            ("for=_gazonk", &["-"]),
            ("for=\"_gazonk:80\"", &["-"]),
            ("proto=https", &["-"]),
            ("for=1.1.1.1;for=2.2.2.2", &["-"]),
            ("for=1.1.1.1 x", &["-"]),
            ("for=\"1.1.1.1\"x", &["-"]),
            ("for=\"1.1.1.1", &["-"]),
            ("for=1.1.1.1\"", &["-"]),
            ("for = 1.1.1.1", &["-"]),
            ("for=1.1.1.1;x", &["-"]),
            ("for=", &["-"]),
            ("=1.1.1.1", &["-"]),
            ("1.1.1.1", &["-"]),
            ("for=1.\\1.1.1", &["-"]),
            ("for=\"1.1.1.\\1\"", &["-"]),
        ] {
            assert_eq!(read(Forwarded, value), expected, "{value:?}");
        }
    }

    #[test]
    fn nothing_that_a_client_writes_changes_the_member_behind_it() {
        let behind = ["for=192.0.2.1", "for=\"[2001:db8::1]:80\"", "host=\"a\\\"b\";for=192.0.2.1"];
        for before in ["for=\"", "\"", "\\", "for=6.6.6.6;x=\"", "for=\"6.6.6.6\\", "a=\"\\\\\\"] {
            for element in behind {
                let alone = read(Forwarded, element);
                let joined = read(Forwarded, &format!("{before}, {element}"));
                assert_eq!(joined[0], alone[0], "{before:?}");
                assert!(joined[1..].iter().all(|member| member == "-"), "{joined:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(value in prop::collection::vec(any::<u8>(), 0..96)) {
            for field in [XForwardedFor, Forwarded] {
                prop_assert!(field.from_the_last(&value).count() <= value.len());
            }
        }

        #[test]
        fn bytes_like_those_of_a_list_are_read_without_a_panic(value in "[for=\",;\\\\.:0-9\\[\\] ]{0,64}") {
            for field in [XForwardedFor, Forwarded] {
                prop_assert!(field.from_the_last(value.as_bytes()).count() <= value.len());
            }
        }

        #[test]
        fn an_address_is_found_whatever_stands_before_it(
            before in prop::collection::vec(any::<u8>(), 0..64),
            ip in any::<IpAddr>(),
            port in any::<Option<u16>>(),
        ) {
            let address = ClientAddress::new(ip, port);
            let after = format!(", {address}").into_bytes();
            let value = [&before[..], &after].concat();
            prop_assert_eq!(XForwardedFor.from_the_last(&value).next(), Some(Some(address)));
            let after = format!(",for=\"{address}\";proto=https").into_bytes();
            let value = [&before[..], &after].concat();
            prop_assert_eq!(Forwarded.from_the_last(&value).next(), Some(Some(address)));
        }
    }
}
