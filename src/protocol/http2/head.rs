//! Request heads in the form of HTTP/1.1, so that one strict parser reads both versions.
//!
//! What HTTP/2 forbids (RFC 9113 sections 8.2 and 8.3) and what could end a line or a target early
//! is refused here, before there is such a form. The rest is left to the parser.

use std::ops::Range;

use crate::protocol::text::token::{is_token, is_token_byte};

/// Bytes that each field counts besides its name and value (RFC 9113 section 6.5.2).
pub const FIELD_OVERHEAD_BYTES: usize = 32;

/// Reason to refuse a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedHead {
    /// It breaks RFC 9113; the text says how, and holds nothing the client sent.
    Malformed(&'static str),
    /// It is larger than was announced.
    TooLarge {
        /// True if it is that of a request for a head only, as far as it was read.
        is_head: bool,
    },
}

/// A head that was taken down as one of HTTP/1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// True if the scheme is `https`.
    pub is_https: bool,
    /// The length of the body, if it was declared.
    pub content_length: Option<u64>,
}

/// Takes down a head, field by field.
#[derive(Debug)]
pub struct HeadWriter<'h> {
    /// The head in the form of HTTP/1.1.
    out: &'h mut Vec<u8>,
    /// The values of the pseudo-header fields.
    values: &'h mut Vec<u8>,
    pseudo: [Option<Range<usize>>; PSEUDO.len()],
    is_begun: bool,
    is_https: bool,
    /// The place in `out` of the value of `Host`.
    host: Option<Range<usize>>,
    has_host_field: bool,
    content_length: Option<u64>,
    /// Bytes that may still come.
    left: Option<usize>,
    malformed: Option<&'static str>,
}

const METHOD: usize = 0;
const SCHEME: usize = 1;
const AUTHORITY: usize = 2;
const PATH: usize = 3;

/// The pseudo-header fields of a request (RFC 9113 section 8.3.1).
const PSEUDO: [&[u8]; 4] = [b":method", b":scheme", b":authority", b":path"];

impl<'h> HeadWriter<'h> {
    /// Takes down into two empty buffers a head of so many bytes at most, counted as HTTP/2 does.
    pub fn new(bytes_max: usize, out: &'h mut Vec<u8>, values: &'h mut Vec<u8>) -> Self {
        Self {
            out,
            values,
            pseudo: [const { None }; PSEUDO.len()],
            is_begun: false,
            is_https: false,
            host: None,
            has_host_field: false,
            content_length: None,
            left: Some(bytes_max),
            malformed: None,
        }
    }

    /// Takes down one field.
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        let size = name.len() + value.len() + FIELD_OVERHEAD_BYTES;
        self.left = self.left.and_then(|left| left.checked_sub(size));
        if self.left.is_some() && self.malformed.is_none() {
            self.malformed = self.take_down(name, value).err();
        }
    }

    /// Ends the head.
    ///
    /// # Errors
    /// It is refused; what was taken down is of no use.
    pub fn end(mut self) -> Result<Head, RefusedHead> {
        if self.left.is_none() {
            return Err(RefusedHead::TooLarge { is_head: self.value(METHOD) == Some(b"HEAD") });
        }
        if self.malformed.is_none() && !self.is_begun {
            self.malformed = self.begin().err();
        }
        if let Some(malformed) = self.malformed {
            return Err(RefusedHead::Malformed(malformed));
        }
        if self.host.is_none() {
            return Err(RefusedHead::Malformed("neither :authority nor Host is there"));
        }
        self.out.extend_from_slice(b"\r\n");
        Ok(Head { is_https: self.is_https, content_length: self.content_length })
    }

    fn take_down(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if name.starts_with(b":") {
            return self.take_pseudo(name, value);
        }
        if !self.is_begun {
            self.begin()?;
        }
        // RFC 9113 section 8.2.1
        if name.is_empty() || !name.iter().all(|byte| NAME_BYTES[usize::from(*byte)]) {
            return Err("a field name is malformed, or not in lower case");
        }
        if !value.iter().all(|byte| VALUE_BYTES[usize::from(*byte)]) {
            return Err("a field value holds a control character");
        }
        if matches!(value, [b' ' | b'\t', ..] | [.., b' ' | b'\t']) {
            return Err("blanks are around a field value");
        }
        match name {
            // RFC 9113 section 8.2.2
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding"
            | b"upgrade" => {
                return Err("a field of connections, which HTTP/2 has none of, is there");
            }
            b"te" if !value.eq_ignore_ascii_case(b"trailers") => return Err("TE is not trailers"),
            b"host" => return self.take_host(value),
            b"content-length" => self.take_length(value)?,
            _ => {}
        }
        self.append_line(name, value);
        Ok(())
    }

    fn take_pseudo(&mut self, name: &[u8], value: &[u8]) -> Result<(), &'static str> {
        if self.is_begun {
            return Err("a pseudo-header field is behind others");
        }
        let known = PSEUDO.iter().position(|known| *known == name);
        let place = known
            .and_then(|at| self.pseudo.get_mut(at))
            .ok_or("a pseudo-header field is unknown")?;
        if place.is_some() {
            return Err("a pseudo-header field is repeated");
        }
        // Nothing that could end the line, or the part of it.
        if value.is_empty() || !value.iter().all(|byte| *byte > b' ' && *byte != 0x7f) {
            return Err("a pseudo-header field has a malformed value");
        }
        let start = self.values.len();
        self.values.extend_from_slice(value);
        *place = Some(start..self.values.len());
        Ok(())
    }

    fn value(&self, at: usize) -> Option<&[u8]> {
        self.values.get(self.pseudo.get(at)?.clone()?)
    }

    /// Begins the form of HTTP/1.1: the pseudo-header fields are complete.
    fn begin(&mut self) -> Result<(), &'static str> {
        self.is_begun = true;
        let method = self.value(METHOD).ok_or(":method is missing")?;
        if !is_token(method) {
            return Err(":method is not a token");
        }
        let authority = self.pseudo[AUTHORITY].clone();
        let mut is_https = false;
        let target = if method == b"CONNECT" {
            // RFC 9113 section 8.5: the authority is the target.
            if self.pseudo[SCHEME].is_some() || self.pseudo[PATH].is_some() {
                return Err("CONNECT has a scheme or a path");
            }
            authority.clone().ok_or(":authority is missing")?
        } else {
            let scheme = self.value(SCHEME).ok_or(":scheme is missing")?;
            is_https = scheme.eq_ignore_ascii_case(b"https");
            if !is_https && !scheme.eq_ignore_ascii_case(b"http") {
                return Err(":scheme is neither http nor https");
            }
            let path = self.value(PATH).ok_or(":path is missing")?;
            // RFC 9113 section 8.3.1; nothing else may be taken for another form of a target.
            let is_asterisk = path == b"*" && method == b"OPTIONS";
            if !path.starts_with(b"/") && !is_asterisk {
                return Err(":path does not start with /");
            }
            self.pseudo[PATH].clone().ok_or(":path is missing")?
        };
        self.is_https = is_https;
        let method = self.pseudo[METHOD].clone().unwrap_or_default();
        let values = &*self.values;
        self.out.extend_from_slice(values.get(method).unwrap_or_default());
        self.out.push(b' ');
        self.out.extend_from_slice(values.get(target).unwrap_or_default());
        self.out.extend_from_slice(b" HTTP/1.1\r\n");
        if let Some(authority) = authority {
            self.out.extend_from_slice(b"host: ");
            let start = self.out.len();
            self.out.extend_from_slice(values.get(authority).unwrap_or_default());
            self.host = Some(start..self.out.len());
            self.out.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    /// Host and port are those of `:authority`, which `Host` may only repeat, else of `Host`.
    fn take_host(&mut self, value: &[u8]) -> Result<(), &'static str> {
        if std::mem::replace(&mut self.has_host_field, true) {
            return Err("Host is repeated");
        }
        if let Some(authority) = self.host.clone() {
            let authority = self.out.get(authority).unwrap_or_default();
            let is_same = is_same(authority, value, self.is_https);
            return if is_same { Ok(()) } else { Err("Host differs from :authority") };
        }
        self.append_line(b"host", value);
        let end = self.out.len() - 2;
        self.host = Some(end - value.len()..end);
        Ok(())
    }

    /// RFC 9110 section 8.6: digits, and repeated only as what they were.
    fn take_length(&mut self, value: &[u8]) -> Result<(), &'static str> {
        let digit = |sum: u64, byte: &u8| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            sum.checked_mul(10)?.checked_add(digit)
        };
        let length = value.iter().try_fold(0, digit).filter(|_| !value.is_empty());
        let length = length.ok_or("Content-Length")?;
        if self.content_length.replace(length).is_some() {
            return Err("Content-Length is repeated");
        }
        Ok(())
    }

    fn append_line(&mut self, name: &[u8], value: &[u8]) {
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b": ");
        self.out.extend_from_slice(value);
        self.out.extend_from_slice(b"\r\n");
    }
}

/// Bytes that a name may have: those of a token, in lower case.
const NAME_BYTES: [bool; 256] = bytes_of(true);

/// Bytes that a value may have (RFC 9113 section 8.2.1), and no other controls either.
const VALUE_BYTES: [bool; 256] = bytes_of(false);

#[expect(clippy::cast_possible_truncation, reason = "it counts to 255")]
const fn bytes_of(name: bool) -> [bool; 256] {
    let mut allowed = [false; 256];
    let mut at = 0;
    while at < allowed.len() {
        let byte = at as u8;
        allowed[at] = if name {
            is_token_byte(byte) && !byte.is_ascii_uppercase()
        } else {
            byte == b'\t' || (byte >= b' ' && byte != 0x7f)
        };
        at += 1;
    }
    allowed
}

/// Returns true if both name one entity (RFC 9113 section 8.3.1, RFC 9110 section 4.2.3).
fn is_same(authority: &[u8], host: &[u8], is_https: bool) -> bool {
    let default_port: &[u8] = if is_https { b":443" } else { b":80" };
    let without = |name| <[u8]>::strip_suffix(name, default_port).unwrap_or(name);
    without(authority).eq_ignore_ascii_case(without(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head_of(bytes_max: usize, fields: &[(&str, &str)]) -> Result<(String, Head), RefusedHead> {
        let (mut out, mut values) = (Vec::new(), Vec::new());
        let mut writer = HeadWriter::new(bytes_max, &mut out, &mut values);
        for (name, value) in fields {
            writer.field(name.as_bytes(), value.as_bytes());
        }
        let head = writer.end()?;
        Ok((String::from_utf8(out).unwrap(), head))
    }

    /// A head of method, scheme, authority and path, as far as they are there, and more.
    fn head(pseudo: [&str; 4], more: &[(&str, &str)]) -> Result<(String, Head), RefusedHead> {
        let names = [":method", ":scheme", ":authority", ":path"];
        let fields: Vec<_> =
            names.into_iter().zip(pseudo).filter(|(_, value)| !value.is_empty()).collect();
        head_of(10_000, &[&fields[..], more].concat())
    }

    #[test]
    fn a_head_has_its_authority_as_host() {
        let fields = [("range", "bytes=0-1"), ("host", "EXAMPLE.com:80")];
        let (text, head_read) = head(["GET", "http", "example.com", "/a?b=c"], &fields).unwrap();
        assert_eq!(text, "GET /a?b=c HTTP/1.1\r\nhost: example.com\r\nrange: bytes=0-1\r\n\r\n");
        assert!(!head_read.is_https);
        let (text, head_read) =
            head(["GET", "https", "example.com:443", "/"], &[("host", "example.com")]).unwrap();
        assert_eq!(text, "GET / HTTP/1.1\r\nhost: example.com:443\r\n\r\n");
        assert!(head_read.is_https);
    }

    #[test]
    fn a_head_without_an_authority_has_the_host_field() {
        let fields = [("a", "b"), ("host", "example.com"), ("content-length", "5")];
        let (text, head) = head(["HEAD", "http", "", "/a"], &fields).unwrap();
        assert_eq!(
            text,
            "HEAD /a HTTP/1.1\r\na: b\r\nhost: example.com\r\ncontent-length: 5\r\n\r\n"
        );
        assert_eq!(head.content_length, Some(5));
    }

    #[test]
    fn an_authority_is_the_target_of_connect() {
        let (text, _) = head(["CONNECT", "", "example.com:443", ""], &[]).unwrap();
        assert_eq!(text, "CONNECT example.com:443 HTTP/1.1\r\nhost: example.com:443\r\n\r\n");
        assert!(head(["CONNECT", "http", "a:1", ""], &[]).is_err());
        assert!(head(["CONNECT", "", "a:1", "/"], &[]).is_err());
        assert!(head(["CONNECT", "", "", ""], &[("host", "a")]).is_err());
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_refused() {
        for (pseudo, fields) in [
            (["GET", "http", "", "/a"], &[][..]),
            (["GET", "http", "a", "/"], &[("host", "b")]),
            (["GET", "http", "a", "/"], &[("host", "a:443")]),
            (["GET", "http", "a", "/"], &[("host", "a"), ("host", "a")]),
            (["GET", "http", "", "/"], &[("host", "a"), ("host", "a")]),
            (["GET", "ftp", "a", "/"], &[]),
            (["GET", "http", "a", "*"], &[]),
            (["GET", "http", "a", "a"], &[]),
            (["GET", "http", "a", "/ b"], &[]),
            (["GET", "http", "a", "/\r\nb: c"], &[]),
            (["GET", "http", "a\r\nb: c", "/"], &[]),
            (["GET /", "http", "a", "/"], &[]),
            (["G(T", "http", "a", "/"], &[]),
            (["GET", "http", "a", "/"], &[("x", " a")]),
            (["GET", "http", "a", "/"], &[("x", "a\t")]),
            (["GET", "http", "a", "/"], &[("x", "a\nb: c")]),
            (["GET", "http", "a", "/"], &[("x\r\ny", "a")]),
            (["GET", "http", "a", "/"], &[("content-length", "5"), ("content-length", "5")]),
            (["GET", "http", "a", "/"], &[("content-length", "+5")]),
            (["GET", "http", "a", "/"], &[("content-length", "")]),
            (["GET", "http", "a", "/"], &[("content-length", "99999999999999999999")]),
        ] {
            let refused = head(pseudo, fields);
            assert!(matches!(refused, Err(RefusedHead::Malformed(_))), "{pseudo:?} {fields:?}");
        }
        assert!(head(["OPTIONS", "http", "a", "*"], &[]).is_ok());
    }

    #[test]
    fn a_head_may_be_as_large_as_announced() {
        let fields = [
            (":method", "HEAD"),
            (":path", "/"),
            (":scheme", "http"),
            (":authority", "a"),
            ("name", "value"),
        ];
        let size: usize = fields.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
        assert!(head_of(size, &fields).is_ok());
        let refused = head_of(size - 1, &fields);
        assert_eq!(refused, Err(RefusedHead::TooLarge { is_head: true }));
        assert_eq!(head_of(10, &fields), Err(RefusedHead::TooLarge { is_head: false }));
    }
}
