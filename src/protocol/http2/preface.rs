//! The first bytes of a connection (RFC 9113 section 3.4).

/// The bytes that a client begins with. They were chosen so that no request of HTTP/1 does.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol that the first bytes of a connection are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begins {
    /// HTTP/2: the preface is complete.
    Http2,
    /// More bytes are needed to know.
    Unknown,
    /// Another one.
    Otherwise,
}

/// Looks at the first bytes of a connection.
pub fn begins(bytes: &[u8]) -> Begins {
    if bytes.starts_with(PREFACE) {
        Begins::Http2
    } else if PREFACE.starts_with(bytes) {
        Begins::Unknown
    } else {
        Begins::Otherwise
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preface_is_known_when_it_is_whole() {
        for length in 0..PREFACE.len() {
            assert_eq!(begins(&PREFACE[..length]), Begins::Unknown, "{length}");
        }
        assert_eq!(begins(PREFACE), Begins::Http2);
        assert_eq!(begins(&[PREFACE, b"\0\0\0"].concat()), Begins::Http2);
        for other in [&b"GET / HTTP/1.1\r\n"[..], b"PRI * HTTP/1.1\r\n", b"PUT", b"\x16\x03\x01"] {
            assert_eq!(begins(other), Begins::Otherwise);
        }
    }
}
