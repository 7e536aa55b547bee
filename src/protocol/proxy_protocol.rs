//! The PROXY protocol, versions 1 and 2: the header in which a balancer says whose connection it
//! passes on (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>, whose sections are
//! cited here).
//!
//! Strict: whatever the document does not allow is refused, since after a wrong header nobody knows
//! where the connection's own bytes begin.
//!
//! Deliberately absent: the optional values behind the addresses (TLVs, section 2.2.7), which are
//! skipped.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use memchr::memchr;

/// Longest header of version 1, line end included (section 2.1).
pub const V1_BYTES_MAX: usize = 107;

/// Longest header of version 2 that is accepted. The addresses have 216 bytes at most, and what
/// balancers put behind them some hundred; a client certificate has a few thousand.
pub const V2_BYTES_MAX: usize = 8_192;

/// The beginning of a header that is looked at: a whole one of version 1, or all of version 2 up to
/// the end of an IP address block.
pub const LOOKED_AT_BYTES_MAX: usize = V1_BYTES_MAX;

/// First bytes of version 2 (section 2.2).
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and protocol, and length (section 2.2).
const V2_FIXED_BYTES: usize = 16;

/// First bytes of version 1.
const V1_START: &[u8] = b"PROXY ";

/// A header, or a beginning of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// All bytes so far belong to a header that has not ended.
    Partial,
    /// The header has this length, and says this. Its end may be still to come.
    Known(ProxyHeader),
}

/// A header that was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// Its length in bytes, behind which the connection's own bytes begin.
    pub bytes: usize,
    /// Where the connection comes from; none when that is the balancer itself (`LOCAL`, section
    /// 2.2), or what has no IP address (`UNKNOWN`, a local socket).
    pub source: Option<SocketAddr>,
}

/// Reason to refuse a header; the text says what is wrong with it, and holds nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedHeader(pub &'static str);

const MALFORMED_LINE: MalformedHeader = MalformedHeader("a malformed line of version 1");

/// Returns true if something that was taken for HTTP begins as a header does.
pub fn is_header(bytes: &[u8]) -> bool {
    let lines: [&[u8]; 3] = [b"PROXY TCP4 ", b"PROXY TCP6 ", b"PROXY UNKNOWN"];
    bytes.starts_with(V2_SIGNATURE) || lines.iter().any(|line| bytes.starts_with(line))
}

/// Parses the header at the start of `bytes`, of which the first [`LOOKED_AT_BYTES_MAX`] are
/// enough.
///
/// # Errors
/// What can never become a header, as soon as that is seen.
pub fn parse(bytes: &[u8]) -> Result<Progress, MalformedHeader> {
    let is_start_of = |whole: &[u8]| {
        let common = bytes.len().min(whole.len());
        bytes.get(..common) == whole.get(..common)
    };
    if is_start_of(V2_SIGNATURE) {
        parse_v2(bytes)
    } else if is_start_of(V1_START) {
        parse_v1(bytes)
    } else {
        Err(MalformedHeader("no PROXY protocol header"))
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Progress, MalformedHeader> {
    let looked_at = bytes.get(..V1_BYTES_MAX).unwrap_or(bytes);
    let Some(line_feed) = memchr(b'\n', looked_at) else {
        return if looked_at.len() == V1_BYTES_MAX {
            Err(MalformedHeader("a line of version 1 that is too long"))
        } else {
            Ok(Progress::Partial)
        };
    };
    let line = looked_at.get(..line_feed).and_then(|line| line.strip_suffix(b"\r"));
    let text = line
        .filter(|line| line.iter().all(|byte| matches!(byte, b' '..=b'~')))
        .and_then(|line| std::str::from_utf8(line.strip_prefix(V1_START)?).ok())
        .ok_or(MALFORMED_LINE)?;
    // Whatever stands behind UNKNOWN is to be ignored.
    let source = if text == "UNKNOWN" || text.starts_with("UNKNOWN ") {
        None
    } else {
        Some(v1_source(text).ok_or(MALFORMED_LINE)?)
    };
    Ok(Progress::Known(ProxyHeader { bytes: line_feed + 1, source }))
}

/// The source that a line of version 1 names (section 2.1).
fn v1_source(text: &str) -> Option<SocketAddr> {
    let mut words = text.split(' ');
    let (family, source, destination) = (words.next()?, words.next()?, words.next()?);
    let (source_port, destination_port) = (words.next()?, words.next()?);
    if words.next().is_some() {
        return None;
    }
    let address = |text: &str| -> Option<IpAddr> {
        match family {
            "TCP4" => text.parse().ok().map(IpAddr::V4),
            "TCP6" => text.parse().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, _) = (address(source)?, address(destination)?);
    let (port, _) = (v1_port(source_port)?, v1_port(destination_port)?);
    Some(SocketAddr::new(source, port))
}

/// A port of version 1: decimal, without leading zeros.
fn v1_port(text: &str) -> Option<u16> {
    let is_canonical = text == "0" || text.starts_with(|first| matches!(first, '1'..='9'));
    text.parse().ok().filter(|_| is_canonical)
}

fn parse_v2(bytes: &[u8]) -> Result<Progress, MalformedHeader> {
    // Refused as soon as it is seen: the rest might never come.
    match bytes.get(V2_SIGNATURE.len()) {
        None | Some(0x20 | 0x21) => {}
        Some(_) => return Err(MalformedHeader("an unknown version or command")),
    }
    let Some((fixed, rest)) = bytes.split_first_chunk::<V2_FIXED_BYTES>() else {
        return Ok(Progress::Partial);
    };
    let [.., command, family, high, low] = *fixed;
    let length = usize::from(u16::from_be_bytes([high, low]));
    let bytes = V2_FIXED_BYTES + length;
    if bytes > V2_BYTES_MAX {
        return Err(MalformedHeader("a header of version 2 that is too long"));
    }
    let known = |source| Ok(Progress::Known(ProxyHeader { bytes, source }));
    if command == 0x20 {
        // LOCAL: the rest is to be ignored, family included.
        return known(None);
    }
    let block = match family {
        // Unspecified, and a local socket's stream.
        0x00 => return known(None),
        0x31 if length >= 216 => return known(None),
        // TCP over IPv4 and over IPv6.
        0x11 if length >= 12 => 12,
        0x21 if length >= 36 => 36,
        0x31 | 0x11 | 0x21 => return Err(MalformedHeader("an address block that is too short")),
        _ => return Err(MalformedHeader("an address family or protocol that is no stream's")),
    };
    match rest.get(..block) {
        None => Ok(Progress::Partial),
        Some(block) => known(v2_source(block)),
    }
}

/// The source in an address block: two addresses, then two ports (section 2.2).
fn v2_source(block: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = if block.len() == 12 {
        let ip: [u8; 4] = *block.first_chunk()?;
        (IpAddr::V4(Ipv4Addr::from(ip)), block.get(8..)?)
    } else {
        let ip: [u8; 16] = *block.first_chunk()?;
        (IpAddr::V6(Ipv6Addr::from(ip)), block.get(32..)?)
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes(*port.first_chunk()?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn known(bytes: usize, source: Option<&str>) -> Progress {
        let source = source.map(|text| text.parse().unwrap());
        Progress::Known(ProxyHeader { bytes, source })
    }

    /// A header of version 2 with this command, family and protocol, and this behind it.
    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&V2_SIGNATURE[..], &[command, family], &length, rest].concat()
    }

    const V4_BLOCK: [u8; 12] = [203, 0, 113, 5, 10, 0, 0, 1, 0x12, 0x34, 0, 80];

    fn v6_block() -> [u8; 36] {
        let mut block = [0; 36];
        block[..16].copy_from_slice(&"2001:db8::5".parse::<Ipv6Addr>().unwrap().octets());
        block[32..].copy_from_slice(&[0x12, 0x34, 0, 80]);
        block
    }

    #[test]
    fn lines_of_version_1_name_a_source_or_none() {
        let longest = format!(
            "PROXY UNKNOWN {0} {0} 65535 65535\r\n",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
        );
        assert_eq!(longest.len(), V1_BYTES_MAX);
        for (line, source) in [
            ("PROXY TCP4 203.0.113.5 10.0.0.1 4660 80\r\n", Some("203.0.113.5:4660")),
            (
                "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
                Some("255.255.255.255:65535"),
            ),
            ("PROXY TCP4 203.0.113.5 10.0.0.1 0 0\r\n", Some("203.0.113.5:0")),
            ("PROXY TCP6 2001:db8::5 ::1 4660 80\r\n", Some("[2001:db8::5]:4660")),
            ("PROXY TCP6 ::ffff:203.0.113.5 ::1 1 2\r\n", Some("[::ffff:203.0.113.5]:1")),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN what ever it is\r\n", None),
            (&longest, None),
        ] {
            let expected = known(line.len(), source);
            assert_eq!(parse(line.as_bytes()), Ok(expected), "{line:?}");
            // What is behind it is not looked at.
            let behind = format!("{line}PROXY TCP4 GET / HTTP/1.1\r\n\r\n");
            assert_eq!(parse(behind.as_bytes()), Ok(expected), "{line:?}");
            for end in 0..line.len() {
                assert_eq!(parse(&line.as_bytes()[..end]), Ok(Progress::Partial), "{line:?} {end}");
            }
        }
    }

    #[test]
    fn malformed_lines_of_version_1_are_refused() {
        let too_long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_BYTES_MAX - 15));
        assert_eq!(too_long.len(), V1_BYTES_MAX + 1);
        for line in [
            "GET / HTTP/1.1\r\n\r\n",
            "proxy TCP4 203.0.113.5 10.0.0.1 1 2\r\n",
            " PROXY TCP4 203.0.113.5 10.0.0.1 1 2\r\n",
            "PROXY  TCP4 203.0.113.5 10.0.0.1 1 2\r\n",
            "PROXY\tTCP4 203.0.113.5 10.0.0.1 1 2\r\n",
            "PROXY TCP4  203.0.113.5 10.0.0.1 1 2\r\n",
            "PROXY TCP4 203.0.113.5 10.0.0.1 1 2 \r\n",
            "PROXY TCP4 203.0.113.5 10.0.0.1 1 2 3\r\n",
            "PROXY TCP4 203.0.113.5 10.0.0.1 1\r\n",
            "PROXY TCP4\r\n",
            "PROXY \r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY UNKNOWN\n",
            "PROXY UNKNOWN a\rb\r\n",
            "PROXY UNKNOWN \u{7f}\r\n",
            "PROXY tcp4 203.0.113.5 10.0.0.1 1 2\r\n",
            "PROXY UDP4 203.0.113.5 10.0.0.1 1 2\r\n",
            "PROXY TCP4 203.0.113.5 10.0.0.1 1 2\n",
            "PROXY TCP4 2001:db8::5 ::1 1 2\r\n",
            "PROXY TCP6 203.0.113.5 10.0.0.1 1 2\r\n",
            "PROXY TCP4 203.0.113.5 ::1 1 2\r\n",
            "PROXY TCP6 [2001:db8::5] [::1] 1 2\r\n",
            "PROXY TCP6 2001:db8::5%1 ::1 1 2\r\n",
            "PROXY TCP4 203.0.113.05 10.0.0.1 1 2\r\n",
            "PROXY TCP4 203.0.113.256 10.0.0.1 1 2\r\n",
            "PROXY TCP4 203.0.113 10.0.0.1 1 2\r\n",
            "PROXY TCP4 203.0.113.5 10.0.0.1 65536 2\r\n",
            "PROXY TCP4 203.0.113.5 10.0.0.1 1 65536\r\n",
            "PROXY TCP4 203.0.113.5 10.0.0.1 01 2\r\n",
            "PROXY TCP4 203.0.113.5 10.0.0.1 +1 2\r\n",
            "PROXY TCP4 203.0.113.5 10.0.0.1 -1 2\r\n",
            "PROXY TCP4 203.0.113.5 10.0.0.1 1 \r\n",
            "PROXY TCP4 203.0.113.5 10.0.0.1 99999999999999999999 2\r\n",
            &too_long,
            &"PROXY ".repeat(20),
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line:?}");
        }
    }

    #[test]
    fn headers_of_version_2_name_a_source_or_none() {
        let v4_with_more = [&V4_BLOCK[..], &[0xea, 0, 2, 1, 2]].concat();
        let v6_with_more = [&v6_block()[..], &vec![0; 8_000]].concat();
        for (header, source, needed) in [
            (v2(0x21, 0x11, &V4_BLOCK), Some("203.0.113.5:4660"), 28),
            (v2(0x21, 0x11, &v4_with_more), Some("203.0.113.5:4660"), 28),
            (v2(0x21, 0x21, &v6_block()), Some("[2001:db8::5]:4660"), 52),
            (v2(0x21, 0x21, &v6_with_more), Some("[2001:db8::5]:4660"), 52),
            (v2(0x21, 0x31, &[0; 216]), None, 16),
            (v2(0x21, 0x00, b""), None, 16),
            (v2(0x21, 0x00, b"anything"), None, 16),
            (v2(0x20, 0x00, b""), None, 16),
            (v2(0x20, 0x11, &V4_BLOCK), None, 16),
            (v2(0x20, 0x12, b"x"), None, 16),
            (v2(0x20, 0xff, &[0; 300]), None, 16),
        ] {
            let expected = known(header.len(), source);
            assert_eq!(parse(&header), Ok(expected), "{header:?}");
            assert_eq!(parse(&[&header[..], b"GET / HTTP/1.1"].concat()), Ok(expected));
            for end in 0..header.len() {
                let so_far = if end < needed { Progress::Partial } else { expected };
                assert_eq!(parse(&header[..end]), Ok(so_far), "{end} of {header:?}");
            }
        }
    }

    #[test]
    fn malformed_headers_of_version_2_are_refused() {
        let mut short = Vec::new();
        for (family, block) in [(0x11, 12), (0x21, 36), (0x31, 216)] {
            short.push(v2(0x21, family, &vec![0; block - 1]));
            short.push(v2(0x21, family, b""));
        }
        let mut one_bit = v2(0x21, 0x11, &V4_BLOCK);
        one_bit[11] ^= 1;
        let too_long = v2(0x21, 0x11, &vec![0; V2_BYTES_MAX - V2_FIXED_BYTES + 1]);
        let local_too_long = v2(0x20, 0x00, &vec![0; 65_535]);
        for header in short.into_iter().chain([one_bit, too_long, local_too_long]) {
            assert!(parse(&header).is_err(), "{header:?}");
        }
        for command in (0..=u8::MAX).filter(|command| ![0x20, 0x21].contains(command)) {
            assert!(parse(&v2(command, 0x11, &V4_BLOCK)).is_err(), "{command:#x}");
            assert!(parse(&v2(command, 0x11, &V4_BLOCK)[..13]).is_err(), "{command:#x}");
        }
        for family in (0..=u8::MAX).filter(|family| ![0x00, 0x11, 0x21, 0x31].contains(family)) {
            assert!(parse(&v2(0x21, family, &[0; 300])).is_err(), "{family:#x}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_without_a_panic(
            start in prop::sample::select(vec![&b""[..], V1_START, b"PROXY TCP4 ", V2_SIGNATURE,
                b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0", b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0"]),
            rest in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            let bytes = [start, &rest].concat();
            if let Ok(Progress::Known(header)) = parse(&bytes) {
                prop_assert!((15..=V2_BYTES_MAX).contains(&header.bytes));
                // More bytes do not change what was said.
                prop_assert_eq!(parse(&[&bytes[..], b"x"].concat()), parse(&bytes));
            }
        }

        #[test]
        fn every_source_is_read_as_it_was_written(source in any::<SocketAddr>()) {
            let source = SocketAddr::new(source.ip(), source.port());
            let (family, v2) = match source.ip() {
                IpAddr::V4(ip) => {
                    let block = [&ip.octets()[..], &[0; 4], &source.port().to_be_bytes(), &[0; 2]];
                    ("TCP4", v2(0x21, 0x11, &block.concat()))
                }
                IpAddr::V6(ip) => {
                    let block = [&ip.octets()[..], &[0; 16], &source.port().to_be_bytes(), &[0; 2]];
                    ("TCP6", v2(0x21, 0x21, &block.concat()))
                }
            };
            let v1 = format!("PROXY {family} {0} {0} {1} 80\r\n", source.ip(), source.port());
            for header in [v1.as_bytes(), &v2] {
                let expected = ProxyHeader { bytes: header.len(), source: Some(source) };
                prop_assert_eq!(parse(header), Ok(Progress::Known(expected)));
            }
        }
    }
}
