//! Sets of IP networks, such as those of trusted proxies.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// A network: an address and the number of bits that are the same in all of it (CIDR, RFC 4632
/// section 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    first: IpAddr,
    prefix: u8,
}

/// Reason why a text is no network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NetworkError {
    /// It is neither an address nor an address, a slash and a number.
    Form,
    /// The number is greater than the bits of the address, which these are.
    Prefix(u8),
    /// Bits behind the prefix are set; this network has none.
    Bits(Network),
}

impl Network {
    /// Reads `10.0.0.0/8`, `2001:db8::/32`, or a single address. A part of IPv4 in the form of IPv6
    /// (`::ffff:10.0.0.0/104`) is the network of IPv4 that it means.
    ///
    /// # Errors
    /// As [`NetworkError`] says.
    pub fn parse(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Form)?;
        let bits = bits(address);
        let prefix = match prefix {
            None => bits,
            Some(digits) => {
                let is_number = !digits.is_empty()
                    && digits.bytes().all(|byte| byte.is_ascii_digit())
                    && (digits == "0" || !digits.starts_with('0'));
                if !is_number {
                    return Err(NetworkError::Form);
                }
                let prefix = digits.parse::<u8>().ok().filter(|prefix| *prefix <= bits);
                prefix.ok_or(NetworkError::Prefix(bits))?
            }
        };
        let network = Self { first: first_of(address, prefix), prefix };
        if network.first == address {
            Ok(network.canonical())
        } else {
            Err(NetworkError::Bits(network))
        }
    }

    /// IPv4 in the form of IPv6 (RFC 4291 section 2.5.5.2) as IPv4.
    fn canonical(self) -> Self {
        const MAPPED_BITS: u8 = 96;
        match (self.first.to_canonical(), self.prefix.checked_sub(MAPPED_BITS)) {
            (first @ IpAddr::V4(_), Some(prefix)) if self.first.is_ipv6() => Self { first, prefix },
            _ => self,
        }
    }

    /// True if it holds every address of its version of IP.
    pub const fn is_everything(&self) -> bool {
        self.prefix == 0
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

const fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

fn first_of(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & !rest_v4(prefix)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !rest_v6(prefix)).into(),
    }
}

/// The bits behind a prefix.
fn rest_v4(prefix: u8) -> u32 {
    u32::MAX.checked_shr(prefix.into()).unwrap_or(0)
}

fn rest_v6(prefix: u8) -> u128 {
    u128::MAX.checked_shr(prefix.into()).unwrap_or(0)
}

/// A set of networks. A lookup takes time that grows with the logarithm of their number. Sets are
/// equal when they hold the same addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    v4: Ranges,
    v6: Ranges,
}

impl Networks {
    /// Returns true if no address is in the set.
    pub fn is_empty(&self) -> bool {
        self.v4.0.is_empty() && self.v6.0.is_empty()
    }

    /// Returns true if an address is in the set. IPv4 in the form of IPv6 counts as IPv4, so no
    /// network of IPv6 holds it.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match ip.to_canonical() {
            IpAddr::V4(ip) => self.v4.contains(ip.to_bits().into()),
            IpAddr::V6(ip) => self.v6.contains(ip.to_bits()),
        }
    }
}

impl FromIterator<Network> for Networks {
    fn from_iter<I: IntoIterator<Item = Network>>(networks: I) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for Network { first, prefix } in networks {
            match first {
                IpAddr::V4(ip) => {
                    v4.push((ip.to_bits().into(), (ip.to_bits() | rest_v4(prefix)).into()));
                }
                IpAddr::V6(ip) => v6.push((ip.to_bits(), ip.to_bits() | rest_v6(prefix))),
            }
        }
        Self { v4: Ranges::new(v4), v6: Ranges::new(v6) }
    }
}

/// Ranges of addresses, first and last one each, in order and with a gap between any two.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges(Box<[(u128, u128)]>);

impl Ranges {
    fn new(mut ranges: Vec<(u128, u128)>) -> Self {
        ranges.sort_unstable();
        let mut joined: Vec<(u128, u128)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match joined.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        Self(joined.into())
    }

    fn contains(&self, number: u128) -> bool {
        let behind = self.0.partition_point(|(first, _)| *first <= number);
        behind.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(_, last)| number <= *last)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        texts.iter().map(|text| Network::parse(text).unwrap()).collect()
    }

    fn holds(networks: &Networks, address: &str) -> bool {
        networks.contains(address.parse().unwrap())
    }

    #[test]
    fn networks_are_read_as_addresses_with_a_prefix() {
        for (text, shown) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("192.0.2.1", "192.0.2.1/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::1", "::1/128"),
            ("::/0", "::/0"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("::fffe:0:0/95", "::fffe:0:0/95"),
        ] {
            assert_eq!(Network::parse(text).unwrap().to_string(), shown);
        }
        for text in [
            "",
            "/",
            "/8",
            "10.0.0.0/",
            "10.0.0/8",
            "10.0.0.0/08",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
            "10.0.0.0 /8",
            " 10.0.0.0/8",
            "010.0.0.0/8",
            "[::1]/128",
            "::1%lo",
            "localhost",
            "10.0.0.0/255.0.0.0",
        ] {
            assert_eq!(Network::parse(text), Err(NetworkError::Form), "{text:?}");
        }
        for (text, bits) in [("10.0.0.0/33", 32), ("::/129", 128), ("10.0.0.0/99999", 32)] {
            assert_eq!(Network::parse(text), Err(NetworkError::Prefix(bits)), "{text:?}");
        }
        for (text, better) in [
            ("10.1.0.0/8", "10.0.0.0/8"),
            ("192.0.2.1/0", "0.0.0.0/0"),
            ("2001:db8::1/64", "2001:db8::/64"),
        ] {
            let better = Network::parse(better).unwrap();
            assert_eq!(Network::parse(text), Err(NetworkError::Bits(better)), "{text}");
        }
    }

    #[test]
    fn a_set_holds_the_addresses_of_its_networks() {
        let set = networks(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::1"]);
        for inside in [
            "10.0.0.0",
            "10.255.255.255",
            "192.0.2.7",
            "::ffff:192.0.2.7",
            "::ffff:10.1.2.3",
            "2001:db8::",
            "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
            "::1",
        ] {
            assert!(holds(&set, inside), "{inside}");
        }
        for outside in [
            "9.255.255.255",
            "11.0.0.0",
            "192.0.2.6",
            "192.0.2.8",
            "2001:db7:ffff:ffff:ffff:ffff:ffff:ffff",
            "2001:db9::",
            "::",
            "::2",
        ] {
            assert!(!holds(&set, outside), "{outside}");
        }
    }

    #[test]
    fn everything_of_one_version_of_ip_is_nothing_of_the_other() {
        let (v4, v6) = (networks(&["0.0.0.0/0"]), networks(&["::/0"]));
        for address in ["0.0.0.0", "127.0.0.1", "255.255.255.255", "::ffff:1.2.3.4"] {
            assert!(holds(&v4, address) && !holds(&v6, address), "{address}");
        }
        for address in ["::", "::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
            assert!(holds(&v6, address) && !holds(&v4, address), "{address}");
        }
        assert!(!holds(&Networks::default(), "::1") && Networks::default().is_empty());
    }

    #[test]
    fn sets_with_the_same_addresses_are_equal() {
        let halves = networks(&["10.128.0.0/9", "10.0.0.0/9", "10.1.2.3"]);
        assert_eq!(halves, networks(&["10.0.0.0/8"]));
        assert_ne!(halves, networks(&["10.0.0.0/9"]));
        assert_eq!(networks(&["0.0.0.0/1", "128.0.0.0/1"]), networks(&["0.0.0.0/0"]));
    }

    proptest! {
        #[test]
        fn a_set_says_what_its_networks_say_one_by_one(
            networks in prop::collection::vec((any::<u32>(), 0_u8..=32), 0..12),
            address in any::<u32>(),
            near in any::<prop::sample::Index>(),
        ) {
            let first = |(address, prefix): (u32, u8)| address & !rest_v4(prefix);
            let set: Networks = networks
                .iter()
                .map(|n| Network { first: Ipv4Addr::from_bits(first(*n)).into(), prefix: n.1 })
                .collect();
            let mut asked = vec![address];
            if !networks.is_empty() {
                let (_, prefix) = networks[near.index(networks.len())];
                let edge = first(networks[near.index(networks.len())]);
                asked.extend([edge, edge.wrapping_sub(1), edge | rest_v4(prefix)]);
                asked.push((edge | rest_v4(prefix)).wrapping_add(1));
            }
            for address in asked {
                let expected =
                    networks.iter().any(|n| address & !rest_v4(n.1) == first(*n));
                let found = set.contains(Ipv4Addr::from_bits(address).into());
                prop_assert_eq!(found, expected, "{}", Ipv4Addr::from_bits(address));
            }
        }
    }
}
