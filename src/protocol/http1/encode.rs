//! Head lines for a client: status line, framing fields, plain fields.

use super::{message::Version, response::BodyLength};
use crate::protocol::text::{append::append_all, decimal::append_decimal};

/// The reason phrase of a status code (RFC 9110 section 15); empty for codes that have none
/// here.
pub const fn reason_phrase(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        305 => "Use Proxy",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        425 => "Too Early",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        451 => "Unavailable For Legal Reasons",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        507 => "Insufficient Storage",
        508 => "Loop Detected",
        511 => "Network Authentication Required",
        _ => "",
    }
}

/// Appends `HTTP/1.1 <status> <reason>` and the line end. The version is that of the sender,
/// whatever the client's is (RFC 9112 section 2.3).
pub fn append_status_line(status: u16, out: &mut Vec<u8>) {
    let usual: &[u8] = match status {
        200 => b"HTTP/1.1 200 OK\r\n",
        206 => b"HTTP/1.1 206 Partial Content\r\n",
        304 => b"HTTP/1.1 304 Not Modified\r\n",
        404 => b"HTTP/1.1 404 Not Found\r\n",
        _ => b"",
    };
    out.extend_from_slice(usual);
    if usual.is_empty() {
        out.extend_from_slice(b"HTTP/1.1 ");
        append_decimal(u64::from(status), out);
        out.push(b' ');
        out.extend_from_slice(reason_phrase(status).as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends one field line. `value` is trusted: it must not hold a line end.
pub fn append_field(name: &str, value: &[u8], out: &mut Vec<u8>) {
    debug_assert!(!value.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)));
    append_all(&[name.as_bytes(), b": ", value, b"\r\n"], out);
}

/// Appends a `Content-Length` line.
pub fn append_content_length(length: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(b"Content-Length: ");
    append_decimal(length, out);
    out.extend_from_slice(b"\r\n");
}

/// Framing of a response body towards the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFraming {
    /// No body is sent.
    None,
    /// This number of bytes.
    Fixed(u64),
    /// Chunks; only to HTTP/1.1.
    Chunked,
    /// Everything until the connection closes; only to HTTP/1.0.
    UntilClose,
}

impl ClientFraming {
    /// Returns true if the client connection must close after this response.
    pub const fn must_close(self) -> bool {
        matches!(self, Self::UntilClose)
    }
}

/// Chooses the framing of a response for the client (RFC 9112 section 6.3).
///
/// A body of unknown length goes out in chunks, which tell a cut from an end. An HTTP/1.0 client
/// does not know chunks; its connection is closed after the body.
pub const fn client_framing(
    client: Version,
    request_is_head: bool,
    upstream: BodyLength,
) -> ClientFraming {
    match upstream {
        _ if request_is_head => ClientFraming::None,
        BodyLength::None => ClientFraming::None,
        BodyLength::Fixed(length) => ClientFraming::Fixed(length),
        BodyLength::Chunked | BodyLength::UntilClose => match client {
            Version::Http11 | Version::Http2 => ClientFraming::Chunked,
            Version::Http10 => ClientFraming::UntilClose,
        },
    }
}

/// Appends the framing fields of a response.
///
/// `declared` is the upstream's `Content-Length`. Without a body it is passed on as it is (in
/// responses to HEAD, and in 304), but never with 1xx or 204 (RFC 9110 section 8.6).
pub fn append_framing(
    framing: ClientFraming,
    status: u16,
    declared: Option<u64>,
    out: &mut Vec<u8>,
) {
    match (framing, declared) {
        (ClientFraming::Fixed(length), _) => append_content_length(length, out),
        (ClientFraming::None, Some(length)) if status >= 200 && status != 204 => {
            append_content_length(length, out);
        }
        (ClientFraming::Chunked, _) => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        (ClientFraming::None | ClientFraming::UntilClose, _) => {}
    }
}

/// Appends the `Connection` line, if one is needed: `close` when the connection ends here,
/// `keep-alive` when an HTTP/1.0 client asked for it and gets it.
pub fn append_connection(client: Version, close: bool, out: &mut Vec<u8>) {
    match (client, close) {
        (_, true) => out.extend_from_slice(b"Connection: close\r\n"),
        (Version::Http10, false) => out.extend_from_slice(b"Connection: keep-alive\r\n"),
        (Version::Http11 | Version::Http2, false) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn status_lines_have_the_phrase_of_the_code() {
        for status in 100..600 {
            let line = written(|out| append_status_line(status, out));
            assert_eq!(line, format!("HTTP/1.1 {status} {}\r\n", reason_phrase(status)));
        }
        assert_eq!(reason_phrase(416), "Range Not Satisfiable");
    }

    #[test]
    fn no_chunks_for_http_1_0() {
        use BodyLength as Up;
        use ClientFraming as Down;
        for (upstream, to_1_1, to_1_0) in [
            (Up::None, Down::None, Down::None),
            (Up::Fixed(3), Down::Fixed(3), Down::Fixed(3)),
            (Up::Chunked, Down::Chunked, Down::UntilClose),
            (Up::UntilClose, Down::Chunked, Down::UntilClose),
        ] {
            assert_eq!(client_framing(Version::Http11, false, upstream), to_1_1);
            assert_eq!(client_framing(Version::Http10, false, upstream), to_1_0);
            assert_eq!(client_framing(Version::Http11, true, upstream), Down::None);
        }
        assert!(Down::UntilClose.must_close());
        assert!(!Down::Chunked.must_close());
    }

    #[test]
    fn keep_alive_is_said_to_http_1_0_only() {
        let line = |client, close| written(|out| append_connection(client, close, out));
        assert_eq!(line(Version::Http11, false), "");
        assert_eq!(line(Version::Http11, true), "Connection: close\r\n");
        assert_eq!(line(Version::Http10, false), "Connection: keep-alive\r\n");
        assert_eq!(line(Version::Http10, true), "Connection: close\r\n");
    }

    #[test]
    fn a_declared_length_is_passed_without_a_body_but_not_with_204() {
        let framing = |framing, status, declared| {
            written(|out| append_framing(framing, status, declared, out))
        };
        assert_eq!(framing(ClientFraming::None, 200, Some(7)), "Content-Length: 7\r\n");
        assert_eq!(framing(ClientFraming::None, 304, Some(7)), "Content-Length: 7\r\n");
        assert_eq!(framing(ClientFraming::None, 304, None), "");
        assert_eq!(framing(ClientFraming::None, 204, Some(7)), "");
        assert_eq!(framing(ClientFraming::Fixed(0), 200, Some(0)), "Content-Length: 0\r\n");
        assert_eq!(framing(ClientFraming::Chunked, 200, None), "Transfer-Encoding: chunked\r\n");
        assert_eq!(framing(ClientFraming::UntilClose, 200, None), "");
    }

    #[test]
    fn a_field_is_a_line() {
        assert_eq!(written(|out| append_field("Via", b"1.1 y", out)), "Via: 1.1 y\r\n");
    }
}
