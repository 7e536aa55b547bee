//! One test per rule, named after the line of the requirements it holds.

use super::*;
use crate::protocol::text::token::is_token_byte;

/// A head that is expected to be complete.
fn parse(head: &str) -> Result<RequestHead, RequestError> {
    parse_within(head.as_bytes(), &Limits::default())
}

fn parse_within(head: &[u8], limits: &Limits) -> Result<RequestHead, RequestError> {
    let mut parsed = RequestHead::default();
    assert_eq!(parse_request(head, limits, &mut parsed)?, Progress::Complete);
    Ok(parsed)
}

/// `GET /` in HTTP/1.1 with these extra lines, each to be ended in CRLF.
fn with_fields(fields: &str) -> Result<RequestHead, RequestError> {
    parse(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
}

fn text(span: Span, buf: &str) -> &str {
    std::str::from_utf8(span.of(buf.as_bytes())).unwrap()
}

#[track_caller]
fn assert_malformed(result: &Result<RequestHead, RequestError>, what: &str) {
    assert!(matches!(result, Err(RequestError::Malformed(_))), "{what:?} gave {result:?}");
}

#[test]
fn a_head_is_taken_apart() {
    let buf = "GET /products/a%20b?x=1&y HTTP/1.1\r\nHost: cdn.example:8080\r\n\
               Range: bytes=0-9\r\nAuthorization: Bearer abc\r\n\r\nnext";
    let head = parse(buf).unwrap();
    assert_eq!(head.method, Method::Get);
    assert_eq!(text(head.method_span, buf), "GET");
    assert_eq!(head.version, Version::Http11);
    assert_eq!(text(head.path, buf), "/products/a%20b");
    assert_eq!(head.query.map(|query| text(query, buf)), Some("x=1&y"));
    assert_eq!(text(head.host, buf), "cdn.example:8080");
    assert_eq!(head.framing, RequestFraming::None);
    assert_eq!(head.head_len, buf.len() - "next".len());
    assert!(!head.close && !head.keep_alive_asked && !head.expect_continue);
    let tokens: Vec<_> = head.header_values(buf.as_bytes(), b"authorization").collect();
    assert_eq!(tokens, [b"Bearer abc"]);
}

#[test]
fn methods_are_case_sensitive_and_unknown_ones_are_kept() {
    for (name, method) in [
        ("GET", Method::Get),
        ("HEAD", Method::Head),
        ("OPTIONS", Method::Options),
        ("get", Method::Other),
        ("POST", Method::Other),
        ("PUT", Method::Other),
        ("TRACE", Method::Other),
        ("GETX", Method::Other),
        ("!#$%&'*+-.^_`|~", Method::Other),
    ] {
        let buf = format!("{name} /a HTTP/1.1\r\nHost: a\r\n\r\n");
        let head = parse(&buf).unwrap();
        assert_eq!(head.method, method, "{name}");
        assert_eq!(text(head.method_span, &buf), name);
    }
    let longest = "M".repeat(METHOD_BYTES_MAX);
    assert!(parse(&format!("{longest} / HTTP/1.1\r\nHost: a\r\n\r\n")).is_ok());
    assert_malformed(&parse(&format!("{longest}M / HTTP/1.1\r\nHost: a\r\n\r\n")), "method");
}

#[test]
fn content_length_with_transfer_encoding_is_refused() {
    assert_malformed(&with_fields("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), "CL, TE");
    assert_malformed(&with_fields("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), "TE, CL");
    assert_malformed(&with_fields("Transfer-Encoding: gzip\r\nContent-Length: 5\r\n"), "gzip, CL");
    assert_malformed(&with_fields("Transfer-Encoding:\r\nContent-Length: 5\r\n"), "empty, CL");
}

#[test]
fn a_content_length_that_is_repeated_not_digits_or_too_large_is_refused() {
    assert_eq!(with_fields("Content-Length: 5\r\n").unwrap().framing, RequestFraming::Fixed(5));
    assert_eq!(with_fields("content-length:0\r\n").unwrap().framing, RequestFraming::Fixed(0));
    for bad in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\ncontent-length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5,\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: five\r\n",
        "Content-Length:\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: \u{665}\r\n",
    ] {
        assert_malformed(&with_fields(bad), bad);
    }
}

#[test]
fn a_transfer_encoding_other_than_chunked_is_refused() {
    for good in ["chunked", "Chunked", "CHUNKED", "\tchunked "] {
        let head = with_fields(&format!("Transfer-Encoding: {good}\r\n")).unwrap();
        assert_eq!(head.framing, RequestFraming::Chunked, "{good:?}");
    }
    for bad in ["", "chunked, chunked", "chunked,", "chunked, gzip", "chunked;a", "\"chunked\""] {
        assert_malformed(&with_fields(&format!("Transfer-Encoding: {bad}\r\n")), bad);
    }
    assert_malformed(
        &with_fields("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        "repeated",
    );
    for unknown in ["gzip", "gzip, chunked", "identity", "xchunked", "cow"] {
        assert_eq!(
            with_fields(&format!("Transfer-Encoding: {unknown}\r\n")).unwrap_err(),
            RequestError::UnknownTransferCoding,
            "{unknown:?}"
        );
    }
}

#[test]
fn transfer_encoding_in_http_1_0_is_refused() {
    for coding in ["chunked", "gzip"] {
        let buf = format!("GET / HTTP/1.0\r\nTransfer-Encoding: {coding}\r\n\r\n");
        assert_malformed(&parse(&buf), coding);
    }
}

#[test]
fn a_space_before_the_colon_is_refused() {
    assert_malformed(&with_fields("Content-Length : 5\r\n"), "space");
    assert_malformed(&with_fields("X\t: 5\r\n"), "tab");
    assert_malformed(&parse("GET / HTTP/1.1\r\nHost : a\r\n\r\n"), "Host");
}

#[test]
fn folded_lines_are_refused() {
    assert_malformed(&with_fields("X: a\r\n b\r\n"), "obs-fold");
    assert_malformed(&with_fields("X: a\r\n\tb\r\n"), "obs-fold with tab");
    assert_malformed(&with_fields("X: a\r\n \r\n"), "blank line");
    assert_malformed(&parse("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), "first line");
    assert_malformed(&parse(" GET / HTTP/1.1\r\nHost: a\r\n\r\n"), "request line");
}

#[test]
fn a_bare_cr_is_refused() {
    for bad in [
        "GET / HTTP/1.1\rHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX:\rb\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX\r: b\r\n\r\n",
        "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n",
        "\rGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\rX",
    ] {
        assert_malformed(&parse(bad), bad);
    }
}

#[test]
fn a_bare_lf_is_refused_at_any_line() {
    let lines = ["GET / HTTP/1.1", "Host: a", "Empty:", "Blank: ", "X: b", ""];
    for bare in 0..lines.len() {
        let end = |at| if at == bare { "\n" } else { "\r\n" };
        let buf: String = (0..lines.len()).flat_map(|at| [lines[at], end(at)]).collect();
        assert_malformed(&parse(&buf), &buf);
    }
    assert_malformed(&parse("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), "leading LF");
    assert_malformed(&parse("\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), "two leading LF");
    assert_malformed(&parse("GET / HTTP/1.1\nHost: a\n\n"), "all bare");
    assert_malformed(&parse("GET / HTTP/1.1\r\nHost: a\r\n\nGET"), "bare final");
    assert_malformed(&parse("GET / HTTP/1.1\r\n\n"), "no fields");
}

#[test]
fn controls_in_names_and_values_are_refused() {
    for byte in 0..=255_u8 {
        let limits = Limits::default();
        // Long enough to meet the wide paths of the parser, at each of its positions.
        for before in [0, 7, 31, 40] {
            let mut value = b"GET / HTTP/1.1\r\nHost: a\r\nX: v".to_vec();
            value.extend(std::iter::repeat_n(b'v', before));
            value.push(byte);
            value.extend_from_slice(b"vvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvvv\r\n\r\n");
            let is_text = byte == b'\t' || (byte >= b' ' && byte != 0x7f);
            let parsed = parse_within(&value, &limits);
            assert_eq!(parsed.is_ok(), is_text, "value with {byte:#x} after {before}");

            let mut name = b"GET / HTTP/1.1\r\nHost: a\r\nn".to_vec();
            name.extend(std::iter::repeat_n(b'n', before));
            name.push(byte);
            name.extend_from_slice(b"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn: v\r\n\r\n");
            let is_name = byte == b':' || is_token_byte(byte);
            let parsed = parse_within(&name, &limits);
            assert_eq!(parsed.is_ok(), is_name, "name with {byte:#x} after {before}");
        }
    }
    assert_malformed(&with_fields(": no name\r\n"), "no name");
    assert_malformed(&with_fields("no colon\r\n"), "no colon");
}

#[test]
fn controls_and_other_bytes_in_the_target_are_refused() {
    for byte in 0..=255_u8 {
        for before in [0, 7, 31, 40] {
            let mut buf = b"GET /".to_vec();
            buf.extend(std::iter::repeat_n(b'p', before));
            buf.push(byte);
            buf.extend_from_slice(
                b"pppppppppppppppppppppppppppppppppp HTTP/1.1\r\nHost: a\r\n\r\n",
            );
            let is_allowed = byte.is_ascii_graphic() && byte != b'#';
            let parsed = parse_within(&buf, &Limits::default());
            assert_eq!(parsed.is_ok(), is_allowed, "{byte:#x} after {before}");
        }
    }
    for bad in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET\t/ HTTP/1.1",
        "GET /a b HTTP/1.1",
        "GET HTTP/1.1",
        "GET /",
        "GET / ",
        "GET / http/1.1",
        "GET / HTTP/1.1x",
        "GET / HTTP/11",
        "GET / HTTP/1.10",
        "GET / FTP/1.1",
        "/ GET HTTP/1.1",
        "G\u{e9}T / HTTP/1.1",
    ] {
        assert_malformed(&parse(&format!("{bad}\r\nHost: a\r\n\r\n")), bad);
    }
}

#[test]
fn one_empty_line_may_come_first() {
    let head = parse("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(head.head_len, 29);
    assert_malformed(&parse("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), "two");
}

#[test]
fn other_versions_are_505_and_no_version_is_400() {
    for other in ["HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "HTTP/3.0"] {
        assert_eq!(
            parse(&format!("GET / {other}\r\nHost: a\r\n\r\n")).unwrap_err(),
            RequestError::VersionNotSupported,
            "{other}"
        );
    }
    let preface = parse("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert_eq!(preface.unwrap_err(), RequestError::VersionNotSupported);
    assert_malformed(&parse("GET /\r\n\r\n"), "HTTP/0.9");
    assert_malformed(&parse("GET / HTTP/2\r\n\r\n"), "HTTP/2");
    assert_malformed(&parse("\u{16}\u{3}\u{1}"), "TLS hello");
}

#[test]
fn a_host_that_is_missing_repeated_or_malformed_is_refused() {
    assert_malformed(&parse("GET / HTTP/1.1\r\n\r\n"), "missing");
    assert_malformed(&parse("GET / HTTP/1.1\r\nX: y\r\n\r\n"), "missing among others");
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        for bad in ["", "a b", "a/b", "a@b", "a:b", "a:99999", "a,b c", "http://a", "[::1", "a\\"] {
            let buf = format!("GET / {version}\r\nHost: {bad}\r\n\r\n");
            assert_malformed(&parse(&buf), &buf);
        }
        let buf = format!("GET / {version}\r\nHost: a\r\nhOST: a\r\n\r\n");
        assert_malformed(&parse(&buf), &buf);
    }
    assert!(parse("GET / HTTP/1.0\r\n\r\n").unwrap().host.is_empty());
}

#[test]
fn the_authority_of_an_absolute_form_wins() {
    let buf = "GET http://real:81/k?q HTTP/1.1\r\nHost: other\r\n\r\n";
    let head = parse(buf).unwrap();
    assert_eq!(text(head.host, buf), "real:81");
    assert_eq!(text(head.path, buf), "/k");
    assert_eq!(head.query.map(|query| text(query, buf)), Some("q"));
    let buf = "GET http://real HTTP/1.0\r\n\r\n";
    let head = parse(buf).unwrap();
    assert_eq!((text(head.host, buf), text(head.path, buf)), ("real", "/"));
    assert_malformed(&parse("GET http://real/ HTTP/1.1\r\n\r\n"), "still needs Host");
    assert_malformed(&parse("GET http://real/ HTTP/1.1\r\nHost: b d\r\n\r\n"), "Host is bad");
    assert_malformed(&parse("GET http://u@real/ HTTP/1.1\r\nHost: a\r\n\r\n"), "userinfo");
}

#[test]
fn connect_and_trace_are_parsed_so_that_405_can_be_said() {
    let buf = "CONNECT db.internal:22 HTTP/1.1\r\nHost: db.internal:22\r\n\r\n";
    let head = parse(buf).unwrap();
    assert_eq!(head.method, Method::Other);
    assert_eq!(text(head.method_span, buf), "CONNECT");
    assert_malformed(&parse("GET db.internal:22 HTTP/1.1\r\nHost: a\r\n\r\n"), "GET");
    let head = parse("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(head.method, Method::Options);
    assert_malformed(&parse("GET * HTTP/1.1\r\nHost: a\r\n\r\n"), "GET *");
}

#[test]
fn only_the_allowlist_is_forwarded() {
    let buf = "GET / HTTP/1.1\r\nHost: a\r\nCookie: c\r\nrange: bytes=1-\r\nIf-Match: \"m\"\r\n\
               IF-NONE-MATCH: \"n\"\r\nIf-Modified-Since: t1\r\nIf-Unmodified-Since: t2\r\n\
               If-Range: \"r\"\r\nx-amz-acl: private\r\nTE: trailers\r\nIf-None-Match: \"n2\"\r\n\r\n";
    let head = parse(buf).unwrap();
    let sent: Vec<_> = head
        .forwarded()
        .iter()
        .map(|forwarded| (forwarded.field.name(), text(forwarded.value, buf)))
        .collect();
    assert_eq!(
        sent,
        [
            ("Range", "bytes=1-"),
            ("If-Match", "\"m\""),
            ("If-None-Match", "\"n\""),
            ("If-Modified-Since", "t1"),
            ("If-Unmodified-Since", "t2"),
            ("If-Range", "\"r\""),
            ("If-None-Match", "\"n2\""),
        ]
    );
    let many = "Range: bytes=0-0\r\n".repeat(FORWARDED_FIELDS_MAX);
    assert!(with_fields(&many).is_ok());
    let too_many = "Range: bytes=0-0\r\n".repeat(FORWARDED_FIELDS_MAX + 1);
    assert_eq!(with_fields(&too_many).unwrap_err(), RequestError::HeadTooLarge);
}

#[test]
fn a_field_that_connection_names_is_not_forwarded() {
    let head = with_fields(
        "Range: a\r\nConnection: range, authorization, host\r\nIf-Match: b\r\nRange: c\r\n",
    )
    .unwrap();
    let sent: Vec<_> = head.forwarded().iter().map(|forwarded| forwarded.field).collect();
    assert_eq!(sent, [Forwarded::IfMatch]);
    assert!(!head.close);
}

#[test]
fn version_and_connection_options_decide_about_keep_alive() {
    let state = |version: &str, connection: &str| {
        let buf = format!("GET / {version}\r\nHost: a\r\n{connection}\r\n");
        let head = parse(&buf).unwrap();
        (head.close, head.keep_alive_asked)
    };
    assert_eq!(state("HTTP/1.1", ""), (false, false));
    assert_eq!(state("HTTP/1.1", "Connection: keep-alive\r\n"), (false, false));
    assert_eq!(state("HTTP/1.1", "Connection: Close\r\n"), (true, false));
    assert_eq!(state("HTTP/1.1", "Connection: x, ,close\r\n"), (true, false));
    assert_eq!(state("HTTP/1.1", "Connection: x\r\nconnection: close\r\n"), (true, false));
    assert_eq!(state("HTTP/1.1", "Connection: closed\r\n"), (false, false));
    assert_eq!(state("HTTP/1.0", ""), (true, false));
    assert_eq!(state("HTTP/1.0", "Connection: Keep-Alive\r\n"), (false, true));
    assert_eq!(state("HTTP/1.0", "Connection: keep-alive, close\r\n"), (true, false));
}

#[test]
fn expect_is_noted_or_refused() {
    assert!(with_fields("Expect: 100-Continue\r\n").unwrap().expect_continue);
    for other in ["200-ok", "", "100-continue, x", "100-continue;q"] {
        assert_eq!(
            with_fields(&format!("Expect: {other}\r\n")).unwrap_err(),
            RequestError::ExpectationFailed,
            "{other:?}"
        );
    }
    let head = parse("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n").unwrap();
    assert!(!head.expect_continue);
    assert_malformed(&with_fields("Expect: x\r\nContent-Length: y\r\n"), "framing comes first");
}

#[test]
fn a_request_line_of_8000_octets_works_and_over_the_limit_is_414() {
    let line = |len: usize| {
        let path = "p".repeat(len - "GET / HTTP/1.1".len());
        format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n")
    };
    assert_eq!(parse(&line(8_000)).unwrap().path.len(), 8_000 - 13);
    let limits = Limits { uri_bytes: 8, ..Limits::default() };
    let get = |target: &str| {
        parse_within(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes(), &limits)
    };
    assert!(get("/2345678").is_ok());
    assert_eq!(get("/23456789").unwrap_err(), RequestError::UriTooLong);
    assert_eq!(get("/2?456789").unwrap_err(), RequestError::UriTooLong);
    assert_eq!(parse(&line(9_000)).unwrap_err(), RequestError::UriTooLong);
}

#[test]
fn over_the_head_limits_is_431() {
    let limits = Limits { header_bytes: 64, headers: 3, ..Limits::default() };
    let of_len = |len: usize| {
        let fixed = "GET / HTTP/1.1\r\nHost: a\r\nX: \r\n\r\n".len();
        format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(len - fixed))
    };
    assert_eq!(parse_within(of_len(64).as_bytes(), &limits).unwrap().head_len, 64);
    let too_long = parse_within(of_len(65).as_bytes(), &limits);
    assert_eq!(too_long.unwrap_err(), RequestError::HeadTooLarge);
    let fields =
        |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count - 1));
    assert!(parse_within(fields(3).as_bytes(), &limits).is_ok());
    let too_many = parse_within(fields(4).as_bytes(), &limits);
    assert_eq!(too_many.unwrap_err(), RequestError::HeadTooLarge);
    let generous = Limits { headers: 10_000, ..Limits::default() };
    assert!(parse_within(fields(HEADERS_MAX).as_bytes(), &generous).is_ok());
    let too_many = parse_within(fields(HEADERS_MAX + 1).as_bytes(), &generous);
    assert_eq!(too_many.unwrap_err(), RequestError::HeadTooLarge);
}

#[test]
fn the_first_fault_of_a_field_is_the_one_that_is_named() {
    let faults = ["Content-Length: x\r\n", &"Range: r\r\n".repeat(FORWARDED_FIELDS_MAX + 1)];
    let named = |first: usize| {
        let head = format!("GET / HTTP/1.1\r\n{}{}\r\n", faults[first], faults[1 - first]);
        parse_within(head.as_bytes(), &Limits::default()).unwrap_err()
    };
    assert_eq!(named(0), RequestError::Malformed("Content-Length is not a number"));
    assert_eq!(named(1), RequestError::HeadTooLarge);
}

/// Feeds `bytes` one at a time until the first result other than [`Progress::Partial`].
fn dribble(bytes: &[u8], limits: &Limits) -> (usize, Result<Progress, RequestError>) {
    let mut head = RequestHead::default();
    for end in 1..=bytes.len() {
        let result = parse_request(&bytes[..end], limits, &mut head);
        if result != Ok(Progress::Partial) {
            return (end, result);
        }
    }
    (bytes.len(), Ok(Progress::Partial))
}

#[test]
fn limits_hold_before_the_end_has_come() {
    let limits = Limits { uri_bytes: 100, header_bytes: 1_000, headers: 5, ..Limits::default() };
    let endless_target = format!("GET /{}", "p".repeat(5_000));
    let too_long = Err(RequestError::UriTooLong);
    assert_eq!(dribble(endless_target.as_bytes(), &limits), (4 + 101, too_long));
    let mut head = RequestHead::default();
    assert_eq!(parse_request(endless_target.as_bytes(), &limits, &mut head), too_long);

    let too_large = Err(RequestError::HeadTooLarge);
    let endless_value = format!("GET / HTTP/1.1\r\nX: {}", "v".repeat(5_000));
    assert_eq!(dribble(endless_value.as_bytes(), &limits), (1_000, too_large));
    assert_eq!(parse_request(endless_value.as_bytes(), &limits, &mut head), too_large);

    let endless_fields = format!("GET / HTTP/1.1\r\n{}", "A: b\r\n".repeat(50));
    assert_eq!(dribble(endless_fields.as_bytes(), &limits), (16 + 6 * 6, too_large));
    assert_eq!(parse_request(endless_fields.as_bytes(), &limits, &mut head), too_large);

    let endless_method = "M".repeat(5_000);
    let (end, result) = dribble(endless_method.as_bytes(), &limits);
    assert_eq!(end, METHOD_BYTES_MAX + 1);
    assert!(matches!(result, Err(RequestError::Malformed(_))));
}

#[test]
fn a_bare_lf_is_refused_when_it_arrives_not_at_a_timeout() {
    let bad = b"GET / HTTP/1.1\r\nHost: a\n\n";
    let (end, result) = dribble(bad, &Limits::default());
    assert_eq!(end, bad.len() - 1);
    assert!(matches!(result, Err(RequestError::Malformed(_))));
}

#[test]
fn pipelined_requests_are_parsed_one_after_the_other() {
    let buf = b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nHEAD /2 HTTP/1.1\r\nHost: b\r\n\r\nGET /3";
    let limits = Limits::default();
    let mut head = RequestHead::default();
    assert_eq!(parse_request(buf, &limits, &mut head), Ok(Progress::Complete));
    assert_eq!(head.path.of(buf), b"/1");
    let rest = &buf[head.head_len..];
    assert_eq!(parse_request(rest, &limits, &mut head), Ok(Progress::Complete));
    assert_eq!((head.method, head.path.of(rest)), (Method::Head, &b"/2"[..]));
    let rest = &rest[head.head_len..];
    assert_eq!(parse_request(rest, &limits, &mut head), Ok(Progress::Partial));
}

#[test]
fn one_value_serves_many_requests_without_a_trace_of_the_last() {
    let limits = Limits::default();
    let mut head = RequestHead::default();
    let first = b"GET http://h/a?q HTTP/1.0\r\nConnection: keep-alive\r\nRange: x\r\n\
                  Content-Length: 3\r\n\r\n";
    assert_eq!(parse_request(first, &limits, &mut head), Ok(Progress::Complete));
    let second = b"GET / HTTP/1.1\r\nHost: b\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(parse_request(second, &limits, &mut head), Ok(Progress::Complete));
    let mut fresh = RequestHead::default();
    assert_eq!(parse_request(second, &limits, &mut fresh), Ok(Progress::Complete));
    assert_eq!(head.query, None);
    assert_eq!(head.framing, RequestFraming::None);
    assert_eq!((head.host, head.close), (fresh.host, false));
    assert!(head.forwarded().is_empty() && !head.keep_alive_asked && head.expect_continue);
}
