//! Encoding field sections of responses (RFC 7541 section 6.2.2): literals that nobody keeps, with
//! names of the static table where it has them.

use memchr::{memchr, memchr_iter};

/// Longest name that may be in the static table, in bytes.
const KNOWN_NAME_BYTES_MAX: usize = 27;

/// Appends the beginning of a field section once the client has made the dynamic table smaller: the
/// table is empty, as it always was (RFC 7541 section 4.2).
pub fn append_table_size_zero(out: &mut Vec<u8>) {
    out.push(0x20);
}

/// Appends the pseudo-header field of a status of three digits.
pub fn append_status(status: u16, out: &mut Vec<u8>) {
    let index = match status {
        200 => 8,
        204 => 9,
        206 => 10,
        304 => 11,
        400 => 12,
        404 => 13,
        500 => 14,
        _ => {
            let digit = |power: u16| b'0' + u8::try_from(status / power % 10).unwrap_or_default();
            out.extend_from_slice(&[0x08, 3, digit(100), digit(10), digit(1)]);
            return;
        }
    };
    out.push(0x80 | index);
}

/// Appends the fields of lines of HTTP/1.1, but for those that belong to a connection (RFC 9113
/// section 8.2.2).
pub fn append_lines(lines: &[u8], out: &mut Vec<u8>) {
    let mut start = 0;
    for end in memchr_iter(b'\n', lines) {
        let line = lines.get(start..end).unwrap_or_default();
        start = end + 1;
        let Some(colon) = memchr(b':', line) else {
            debug_assert!(false, "a line that is no field");
            continue;
        };
        let (name, value) = line.split_at(colon);
        append_field(name, trimmed(value.get(1..).unwrap_or_default()), out);
    }
}

/// A value without the blanks around it, and without the end of its line.
fn trimmed(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t' | b'\r'] = value {
        value = rest;
    }
    value
}

fn append_field(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    let mut lower = [0; KNOWN_NAME_BYTES_MAX];
    let known = lower.get_mut(..name.len()).map(|lower| {
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        known(lower)
    });
    match known {
        Some(Known::Forbidden) => return,
        // Four bits of the first byte, and the rest in the second.
        Some(Known::Index(index)) if index < 15 => out.push(index),
        Some(Known::Index(index)) => out.extend_from_slice(&[15, index - 15]),
        None | Some(Known::Otherwise) => {
            out.push(0);
            append_length(name.len(), out);
            out.extend(name.iter().map(u8::to_ascii_lowercase));
        }
    }
    append_length(value.len(), out);
    out.extend_from_slice(value);
}

/// Appends the length of a string that is not coded (RFC 7541 section 5.2).
fn append_length(length: usize, out: &mut Vec<u8>) {
    let Some(mut rest) = length.checked_sub(127) else {
        out.push(u8::try_from(length).unwrap_or_default());
        return;
    };
    out.push(127);
    while rest >= 128 {
        out.push(u8::try_from(rest & 0x7f).unwrap_or_default() | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap_or_default());
}

enum Known {
    Index(u8),
    /// It belongs to a connection.
    Forbidden,
    Otherwise,
}

/// Looks for a name in the static table, among those of responses.
fn known(name: &[u8]) -> Known {
    Known::Index(match name {
        b"accept-ranges" => 18,
        b"access-control-allow-origin" => 20,
        b"age" => 21,
        b"allow" => 22,
        b"cache-control" => 24,
        b"content-disposition" => 25,
        b"content-encoding" => 26,
        b"content-language" => 27,
        b"content-length" => 28,
        b"content-location" => 29,
        b"content-range" => 30,
        b"content-type" => 31,
        b"date" => 33,
        b"etag" => 34,
        b"expires" => 36,
        b"last-modified" => 44,
        b"link" => 45,
        b"location" => 46,
        b"retry-after" => 53,
        b"server" => 54,
        b"set-cookie" => 55,
        b"strict-transport-security" => 56,
        b"vary" => 59,
        b"via" => 60,
        b"www-authenticate" => 61,
        b"connection" | b"keep-alive" | b"proxy-connection" | b"te" | b"transfer-encoding"
        | b"upgrade" => return Known::Forbidden,
        _ => return Known::Otherwise,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::http2::hpack::{Decoder, fixed};

    fn decoded(section: &[u8]) -> Vec<(String, String)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut fields = Vec::new();
        let mut each = |name: &[u8], value: &[u8]| fields.push((text(name), text(value)));
        Decoder::default().decode(section, 1_000_000, &mut each).unwrap();
        fields
    }

    fn of_lines(lines: &str) -> Vec<(String, String)> {
        let mut out = Vec::new();
        append_lines(lines.as_bytes(), &mut out);
        decoded(&out)
    }

    #[test]
    fn every_status_comes_back() {
        for status in 100..1_000 {
            let mut out = Vec::new();
            append_table_size_zero(&mut out);
            append_status(status, &mut out);
            assert_eq!(decoded(&out), [(":status".to_owned(), status.to_string())]);
        }
    }

    #[test]
    fn lines_become_fields_without_what_http2_forbids() {
        let found = of_lines(
            "Content-Type: text/plain\r\nx-amz-meta-a:\t b c \r\nVia: 1.1 a\r\nvia: 1.1 b\r\n\
             ETag: \"x:y\"\r\nEmpty:\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\
             Keep-Alive: a\r\nUpgrade: a\r\nTE: a\r\nProxy-Connection: a\r\n",
        );
        let expected = [
            ("content-type", "text/plain"),
            ("x-amz-meta-a", "b c"),
            ("via", "1.1 a"),
            ("via", "1.1 b"),
            ("etag", "\"x:y\""),
            ("empty", ""),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn names_and_values_of_any_length_come_back() {
        for length in [1, 26, 27, 28, 126, 127, 128, 254, 255, 256, 16_000, 40_000] {
            let (name, value) = ("N".repeat(length), "v".repeat(length));
            let found = of_lines(&format!("{name}: {value}\r\n"));
            assert_eq!(found, [(name.to_lowercase(), value)], "{length}");
        }
    }

    #[test]
    fn names_have_the_index_of_the_static_table() {
        let mut indexed = 0;
        for (at, (name, _)) in fixed::ENTRIES.iter().enumerate() {
            if let Known::Index(index) = known(name) {
                assert_eq!(usize::from(index), at + 1, "{}", String::from_utf8_lossy(name));
                indexed += 1;
            }
        }
        assert_eq!(indexed, 25);
    }
}
