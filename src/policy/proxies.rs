//! Proxies before this one: which of them are believed, and who their client is.

use std::net::IpAddr;

use crate::{model::ClientAddress, policy::networks::Networks, protocol::http1::AddressField};

/// Addresses of a request that are looked at, at most. Real chains have a handful of proxies; a
/// request that lists thousands of trusted addresses is to cost no more than one that lists few.
const HOPS_MAX: usize = 32;

/// The proxies whose word is taken for who their client is, and the field in which they give it
/// (`server.trusted_proxies`, `server.client_address_header`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Their addresses.
    pub networks: Networks,
    /// The one field that all of them write.
    pub field: AddressField,
}

impl TrustedProxies {
    /// Returns true if the other end of a connection is one of them.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        !self.networks.is_empty() && self.networks.contains(peer)
    }

    /// The client of a request that came from one of them, `peer`: the last address in its fields
    /// that is not one of theirs. `values` are those of [`TrustedProxies::field`], the last line
    /// first.
    ///
    /// Each address is the word of the one behind it, so the walk goes on for as long as that one
    /// is trusted. Where it ends early, the last trusted proxy stands for its client: at a member
    /// that names no address, at the first address of all, and after `HOPS_MAX`.
    pub fn client<'b>(
        &self,
        peer: ClientAddress,
        values: impl Iterator<Item = &'b [u8]>,
    ) -> ClientAddress {
        let mut client = peer;
        let members = values.flat_map(|value| self.field.from_the_last(value));
        for member in members.take(HOPS_MAX) {
            let Some(address) = member else { break };
            client = address;
            if !self.networks.contains(address.ip()) {
                break;
            }
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::policy::networks::Network;

    fn proxies(field: AddressField) -> TrustedProxies {
        let networks = ["10.0.0.0/8", "192.0.2.1", "2001:db8:1::/48"];
        let networks = networks.into_iter().map(|text| Network::parse(text).unwrap()).collect();
        TrustedProxies { networks, field }
    }

    /// The client of a request with these field lines, in the order of the message.
    fn client(field: AddressField, lines: &[&str]) -> String {
        let peer = ClientAddress::from("10.0.0.9:4711".parse::<SocketAddr>().unwrap());
        let values = lines.iter().rev().map(|line| line.as_bytes());
        proxies(field).client(peer, values).to_string()
    }

    #[test]
    fn the_last_address_that_is_no_proxy_is_the_client() {
        for (lines, expected) in [
            (&[][..], "10.0.0.9:4711"),
            (&["203.0.113.5"], "203.0.113.5"),
            (&["203.0.113.5:1234"], "203.0.113.5:1234"),
            // What the client sent itself comes before what the proxy saw.
            (&["198.51.100.1, 203.0.113.5"], "203.0.113.5"),
            (&["198.51.100.1, 203.0.113.5, 10.0.0.1"], "203.0.113.5"),
            (&["203.0.113.5, 2001:db8:1::7, 192.0.2.1, 10.0.0.1:80"], "203.0.113.5"),
            (&["2001:db8::5, 10.0.0.1"], "[2001:db8::5]"),
            (&["[2001:db8::5]:99, [2001:db8:1::7]:1"], "[2001:db8::5]:99"),
            // All lines are one list.
            (&["203.0.113.5", "10.0.0.1"], "203.0.113.5"),
            (&["198.51.100.1", "203.0.113.5, 10.0.0.2", "10.0.0.1"], "203.0.113.5"),
            (&["203.0.113.5", "", " ,"], "203.0.113.5"),
            (&["::ffff:203.0.113.5, ::ffff:10.0.0.1"], "203.0.113.5"),
            // Nobody but proxies.
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ] {
            assert_eq!(client(AddressField::XForwardedFor, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn what_names_no_address_ends_the_walk_at_the_proxy_that_wrote_it() {
        for (lines, expected) in [
            (&["unknown"][..], "10.0.0.9:4711"),
            (&["203.0.113.5, unknown"], "10.0.0.9:4711"),
            (&["203.0.113.5, unknown, 10.0.0.1:5"], "10.0.0.1:5"),
            (&["203.0.113.5, _hidden, 10.0.0.1"], "10.0.0.1"),
            (&["203.0.113.5", "junk", "10.0.0.1"], "10.0.0.1"),
            (&["junk, 203.0.113.5, 10.0.0.1"], "203.0.113.5"),
        ] {
            assert_eq!(client(AddressField::XForwardedFor, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn elements_of_forwarded_are_walked_in_the_same_way() {
        for (lines, expected) in [
            (&["for=203.0.113.5;proto=https"][..], "203.0.113.5"),
            (&["for=198.51.100.1, for=\"203.0.113.5:7\"", "for=10.0.0.1"], "203.0.113.5:7"),
            (&["for=\"[2001:db8::5]:99\", for=\"[2001:db8:1::1]\""], "[2001:db8::5]:99"),
            (&["for=203.0.113.5, for=unknown, for=10.0.0.1"], "10.0.0.1"),
            (&["for=203.0.113.5, proto=https"], "10.0.0.9:4711"),
            (&["for=\"6.6.6.6", "for=203.0.113.5"], "203.0.113.5"),
            (&["for=6.6.6.6;by=\", for=203.0.113.5"], "203.0.113.5"),
        ] {
            assert_eq!(client(AddressField::Forwarded, lines), expected, "{lines:?}");
        }
    }

    #[test]
    fn a_list_without_end_is_not_walked_to_its_end() {
        let mut members = vec!["203.0.113.5".to_owned()];
        members.extend((1..HOPS_MAX).map(|hop| format!("10.1.0.{hop}")));
        assert_eq!(client(AddressField::XForwardedFor, &[&members.join(",")]), "203.0.113.5");
        members.push("10.2.0.1".to_owned());
        assert_eq!(client(AddressField::XForwardedFor, &[&members.join(",")]), "10.1.0.1");
    }

    #[test]
    fn nobody_is_trusted_where_nobody_is_named() {
        let peer: IpAddr = "10.0.0.9".parse().unwrap();
        assert!(proxies(AddressField::Forwarded).trusts(peer));
        assert!(!TrustedProxies::default().trusts(peer));
        let nobody: IpAddr = "203.0.113.5".parse().unwrap();
        assert!(!proxies(AddressField::Forwarded).trusts(nobody));
    }
}
