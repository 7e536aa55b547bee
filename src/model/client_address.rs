//! The address of a client.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

/// Address of a client, or of a proxy before it: the other end of a connection, or what a trusted
/// proxy says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    ip: IpAddr,
    port: Option<u16>,
}

impl ClientAddress {
    /// An address with its TCP port, where that is known. An IPv4 address in the form of an IPv6
    /// one (RFC 4291 section 2.5.5.2) becomes the IPv4 address that it is.
    pub const fn new(ip: IpAddr, port: Option<u16>) -> Self {
        Self { ip: ip.to_canonical(), port }
    }

    /// The IP address, never an IPv4 one in the form of IPv6.
    pub const fn ip(self) -> IpAddr {
        self.ip
    }

    /// The TCP port, where it is known.
    pub const fn port(self) -> Option<u16> {
        self.port
    }
}

impl From<SocketAddr> for ClientAddress {
    fn from(address: SocketAddr) -> Self {
        Self::new(address.ip(), Some(address.port()))
    }
}

impl fmt::Display for ClientAddress {
    /// `192.0.2.7:80`, `[2001:db8::1]:80`; without a port `192.0.2.7`, `[2001:db8::1]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            IpAddr::V4(ip) => write!(f, "{ip}")?,
            IpAddr::V6(ip) => write!(f, "[{ip}]")?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_with_their_port_where_it_is_known() {
        for (address, text) in [
            ("192.0.2.7:80", "192.0.2.7:80"),
            ("[2001:db8::1]:443", "[2001:db8::1]:443"),
            ("[::ffff:192.0.2.7]:80", "192.0.2.7:80"),
        ] {
            let address = ClientAddress::from(address.parse::<SocketAddr>().unwrap());
            assert_eq!(address.to_string(), text);
            let alone = ClientAddress::new(address.ip(), None).to_string();
            assert_eq!(alone, text.rsplit_once(':').unwrap().0);
        }
    }
}
