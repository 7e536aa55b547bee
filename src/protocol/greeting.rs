//! Beginnings of other protocols, for a message to whoever sends them to a port that does not
//! expect them.

use crate::protocol::{http2::PREFACE, proxy_protocol::is_header};

/// Content type of a TLS record that holds a handshake, and the first byte of its version (RFC 8446
/// section 5.1).
const TLS_HANDSHAKE: &[u8] = &[0x16, 0x03];

/// A protocol that is not the one that was expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Greeting {
    /// A TLS handshake.
    Tls,
    /// A PROXY protocol header.
    ProxyHeader,
    /// HTTP/2 by prior knowledge (RFC 9113 section 3.3).
    Http2,
}

impl Greeting {
    /// The protocol that these bytes, in which HTTP/1 was expected, are the beginning of.
    pub fn of(arrived: &[u8]) -> Option<Self> {
        let line = &PREFACE[..16];
        if arrived.starts_with(TLS_HANDSHAKE) {
            Some(Self::Tls)
        } else if is_header(arrived) {
            Some(Self::ProxyHeader)
        } else if arrived.starts_with(line) {
            Some(Self::Http2)
        } else {
            None
        }
    }

    /// The mistake, and the way out of it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Tls => {
                "a TLS handshake came where HTTP without TLS is expected; use the port of server.tls"
            }
            Self::ProxyHeader => {
                "a PROXY protocol header came; write server.proxy_protocol: require if a balancer \
                 sends one on every connection"
            }
            Self::Http2 => {
                "HTTP/2 came without negotiation; write server.http2.cleartext: true to serve it"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_told_from_their_first_bytes() {
        for (arrived, greeting) in [
            (&b"\x16\x03\x01\x02\x00\x01\x00\x01"[..], Some(Greeting::Tls)),
            (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET /", Some(Greeting::ProxyHeader)),
            (b"PROXY UNKNOWN\r\n", Some(Greeting::ProxyHeader)),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", Some(Greeting::ProxyHeader)),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Some(Greeting::Http2)),
            (b"PROXY /a HTTP/1.1\r\n", None),
            (b"GET / HTTP/1.1\r\n", None),
            (b"\x16", None),
            (b"", None),
        ] {
            assert_eq!(Greeting::of(arrived), greeting, "{arrived:?}");
        }
    }
}
