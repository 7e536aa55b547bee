//! One test per rule, named after the line of the requirements it holds.

use super::*;

fn parse(head: &str) -> Result<ResponseHead, ResponseError> {
    parse_for(head, false)
}

fn parse_for(head: &str, request_was_head: bool) -> Result<ResponseHead, ResponseError> {
    let mut parsed = ResponseHead::default();
    let progress = parse_response(head.as_bytes(), request_was_head, &mut parsed)?;
    assert_eq!(progress, Progress::Complete);
    Ok(parsed)
}

fn with_fields(fields: &str) -> Result<ResponseHead, ResponseError> {
    parse(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"))
}

fn passed(head: &str) -> String {
    let mut out = Vec::new();
    parse(head).unwrap().copy_end_to_end(head.as_bytes(), &mut out);
    String::from_utf8(out).unwrap()
}

#[track_caller]
fn assert_malformed(result: &Result<ResponseHead, ResponseError>, what: &str) {
    assert!(matches!(result, Err(ResponseError::Malformed(_))), "{what:?} gave {result:?}");
}

#[test]
fn a_head_is_taken_apart() {
    let buf = "HTTP/1.1 206 Partial Content\r\nDate: now\r\nContent-Length: 10\r\n\
               Content-Range: bytes 0-9/99\r\nServer: AmazonS3\r\n\r\n0123456789";
    let head = parse(buf).unwrap();
    assert_eq!((head.status, head.version), (206, Version::Http11));
    assert_eq!(head.reason.of(buf.as_bytes()), b"Partial Content");
    assert_eq!(head.length, BodyLength::Fixed(10));
    assert_eq!(head.content_length, Some(10));
    assert_eq!(head.head_len, buf.len() - 10);
    assert!(head.has_date && !head.has_via && !head.close && !head.is_interim());
    let ranges: Vec<_> = head.header_values(buf.as_bytes(), b"content-range").collect();
    assert_eq!(ranges, [b"bytes 0-9/99"]);
}

#[test]
fn a_reason_may_be_missing_or_odd() {
    for (line, reason) in [
        ("HTTP/1.1 200", &b""[..]),
        ("HTTP/1.1 200 ", b""),
        ("HTTP/1.1 200 All  right\t", b"All  right\t"),
        ("HTTP/1.1 200 \u{e9}", "\u{e9}".as_bytes()),
    ] {
        let buf = format!("{line}\r\n\r\n");
        let head = parse(&buf).unwrap();
        assert_eq!(head.reason.of(buf.as_bytes()), reason, "{line:?}");
    }
}

#[test]
fn status_lines_are_strict() {
    for bad in [
        "HTTP/1.1 099 x",
        "HTTP/1.1 000 x",
        "HTTP/1.1 600 x",
        "HTTP/1.1 999 x",
        "HTTP/1.1 20 x",
        "HTTP/1.1 2000 x",
        "HTTP/1.1 2x0 x",
        "HTTP/1.1  200 x",
        "HTTP/1.1 200\tx",
        "HTTP/2.0 200 x",
        "HTTP/1.2 200 x",
        "http/1.1 200 x",
        "ICY 200 OK",
        " HTTP/1.1 200 OK",
        "HTTP/1.1 200 a\0b",
        "HTTP/1.1 200 a\rb",
    ] {
        assert_malformed(&parse(&format!("{bad}\r\n\r\n")), bad);
    }
    assert_malformed(&parse("\r\nHTTP/1.1 200 OK\r\n\r\n"), "empty line first");
    assert_malformed(&parse("\n\nHTTP/1.1 200 OK\r\n\r\n"), "LF first");
}

#[test]
fn ambiguous_framing_is_refused() {
    for bad in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: \r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    ] {
        assert_malformed(&with_fields(bad), bad);
        let buf = format!("HTTP/1.1 200 OK\r\n{bad}\r\n");
        assert_malformed(&parse_for(&buf, true), bad);
    }
    assert_malformed(&parse("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), "1.0");
}

#[test]
fn bad_syntax_from_the_upstream_is_refused() {
    for bad in [
        "X : y\r\n",
        "X: a\r\n b\r\n",
        " X: a\r\n",
        "X: a\rb\r\n",
        "X: a\n",
        "X:\n",
        "X: a\0b\r\n",
        "X: a\u{7f}b\r\n",
        "X\0: a\r\n",
        "no colon\r\n",
        ": a\r\n",
    ] {
        assert_malformed(&with_fields(bad), bad);
    }
    assert_malformed(&parse("HTTP/1.1 200 OK\nX: y\r\n\r\n"), "status line");
    assert_malformed(&parse("HTTP/1.1 200\n\r\n"), "status line without a reason");
    assert_malformed(&parse("HTTP/1.1 200 OK\r\nX: y\r\n\n"), "final line");
    assert_malformed(&parse("HTTP/1.1 200 OK\r\n\n"), "no fields");
    assert!(with_fields("X: caf\u{e9}\r\n").is_ok());
}

#[test]
fn hop_by_hop_fields_are_removed() {
    let buf = "HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\nConnection: X-Hop, keep-alive\r\nX-Hop: h\r\n\
               keep-alive: timeout=5\r\nC: 3\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\
               Upgrade: h2c\r\nTE: x\r\nProxy-Connection: x\r\nProxy-Authenticate: x\r\n\
               Proxy-Authorization: x\r\nProxy-Authentication-Info: x\r\nD:4 \r\nx-hop: h2\r\n\
               Via: 1.0 up\r\nX-Request-ID: up\r\nX-Config-Generation: 9\r\nE:\r\n\r\n";
    assert_eq!(passed(buf), "A: 1\r\nB: 2\r\nC: 3\r\nD:4 \r\nE:\r\n");
}

#[test]
fn content_length_is_left_to_the_caller() {
    assert_eq!(passed("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nA: b\r\n\r\n"), "A: b\r\n");
    assert_eq!(passed("HTTP/1.1 200 OK\r\n\r\n"), "");
}

#[test]
fn connection_cannot_remove_what_the_content_means() {
    let buf = "HTTP/1.1 200 OK\r\nConnection: content-length, content-encoding, date, etag, x\r\n\
               Date: d\r\nContent-Length: 3\r\nContent-Encoding: gzip\r\nETag: e\r\nX: y\r\n\r\n";
    assert_eq!(passed(buf), "Date: d\r\nContent-Encoding: gzip\r\nETag: e\r\n");
    let head = parse(buf).unwrap();
    assert_eq!(head.length, BodyLength::Fixed(3));
    assert!(head.has_date);
}

#[test]
fn every_connection_field_can_name_others() {
    let buf = "HTTP/1.1 200 OK\r\nConnection: close, a\r\nA: 1\r\nB: 2\r\nC: 3\r\nD: 4\r\n\
               Connection: ,keep-alive ,C\r\nconnection: b\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(passed(buf), "D: 4\r\n");
    assert!(parse(buf).unwrap().close);
}

#[test]
fn the_work_for_hop_by_hop_fields_is_bounded() {
    let runs = |count: usize| with_fields(&"A: 1\r\nTE: x\r\n".repeat(count));
    assert!(runs(FIELD_RUNS_MAX).is_ok());
    assert_malformed(&runs(FIELD_RUNS_MAX + 1), "runs");
    let last = format!("{}B: 2\r\n", "A: 1\r\nTE: x\r\n".repeat(FIELD_RUNS_MAX));
    assert_malformed(&with_fields(&last), "the last run");
    let options = |count: usize| with_fields(&format!("Connection: {}\r\n", "x,".repeat(count)));
    assert!(options(CONNECTION_OPTIONS_MAX).is_ok());
    assert_malformed(&options(CONNECTION_OPTIONS_MAX + 1), "options");
}

#[test]
fn via_continues_what_the_upstream_said() {
    let via = |buf: &str| {
        let mut out = Vec::new();
        parse(buf).unwrap().append_via(buf.as_bytes(), "yatagarasu", &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(via("HTTP/1.1 200 OK\r\n\r\n"), "Via: 1.1 yatagarasu\r\n");
    assert_eq!(via("HTTP/1.0 200 OK\r\n\r\n"), "Via: 1.0 yatagarasu\r\n");
    assert_eq!(
        via("HTTP/1.1 200 OK\r\nVia: 1.0 a, 1.1 b\r\nX: y\r\nvia: \r\nVIA: 1.1 c\r\n\r\n"),
        "Via: 1.0 a, 1.1 b, 1.1 c, 1.1 yatagarasu\r\n"
    );
}

#[test]
fn interim_heads_are_told_apart() {
    for status in [100, 101, 103, 199] {
        let head = parse(&format!("HTTP/1.1 {status} x\r\nLink: y\r\n\r\n")).unwrap();
        assert!(head.is_interim());
        assert_eq!(head.length, BodyLength::None);
        assert!(!head.close);
    }
    assert!(!parse("HTTP/1.1 200 OK\r\n\r\n").unwrap().is_interim());
    assert_malformed(&parse("HTTP/1.1 100 x\r\nContent-Length: 3\r\n\r\n"), "body in 100");
    assert_malformed(&parse("HTTP/1.1 103 x\r\nTransfer-Encoding: chunked\r\n\r\n"), "body in 103");
}

#[test]
fn head_204_and_304_have_no_body_whatever_content_length_says() {
    let head = parse_for("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true).unwrap();
    assert_eq!((head.length, head.content_length), (BodyLength::None, Some(9)));
    assert!(!head.close);
    let head = parse_for("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true).unwrap();
    assert_eq!((head.length, head.close), (BodyLength::None, false));
    let head = parse_for("HTTP/1.1 200 OK\r\n\r\n", true).unwrap();
    assert_eq!((head.length, head.close), (BodyLength::None, false));
    let head = parse("HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n").unwrap();
    assert_eq!((head.length, head.content_length), (BodyLength::None, Some(9)));
    assert!(!head.close);
    let head = parse("HTTP/1.1 204 x\r\n\r\n").unwrap();
    assert_eq!((head.length, head.close), (BodyLength::None, false));
}

#[test]
fn a_204_that_declares_a_body_is_not_reused() {
    for fields in ["Content-Length: 9\r\n", "Transfer-Encoding: chunked\r\n"] {
        let head = parse(&format!("HTTP/1.1 204 x\r\n{fields}\r\n")).unwrap();
        assert_eq!((head.length, head.close), (BodyLength::None, true));
    }
    assert!(!parse("HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n").unwrap().close);
}

#[test]
fn version_and_connection_options_decide_about_reuse() {
    let close = |head: &str| parse(head).unwrap().close;
    assert!(!close("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"));
    assert!(close("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: Close\r\n\r\n"));
    assert!(close("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: a,close\r\n\r\n"));
    assert!(close("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n"));
    assert!(!close("HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n"));
    let head = parse("HTTP/1.1 200 OK\r\n\r\n").unwrap();
    assert_eq!((head.length, head.close), (BodyLength::UntilClose, true));
}

#[test]
fn heads_are_bounded_before_their_end_has_come() {
    let mut head = ResponseHead::default();
    let endless = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(UPSTREAM_HEAD_BYTES_MAX));
    let too_large = Err(ResponseError::HeadTooLarge);
    let almost = &endless.as_bytes()[..UPSTREAM_HEAD_BYTES_MAX - 1];
    assert_eq!(parse_response(almost, false, &mut head), Ok(Progress::Partial));
    assert_eq!(parse_response(endless.as_bytes(), false, &mut head), too_large);
    let fields = |count: usize| format!("HTTP/1.1 200 OK\r\n{}", "X: y\r\n".repeat(count));
    let most = format!("{}\r\n", fields(UPSTREAM_HEADERS_MAX));
    assert_eq!(parse_response(most.as_bytes(), false, &mut head), Ok(Progress::Complete));
    let more = fields(UPSTREAM_HEADERS_MAX + 1);
    assert_eq!(parse_response(more.as_bytes(), false, &mut head), too_large);
    let whole = format!("{more}\r\n");
    assert_eq!(parse_response(whole.as_bytes(), false, &mut head), too_large);
}

#[test]
fn the_first_fault_of_a_field_is_the_one_that_is_named() {
    let faults =
        ["Content-Length: x\r\n", "Transfer-Encoding: chunked\r\nTransfer-Encoding: a\r\n"];
    let named = |first: usize| with_fields(&[faults[first], faults[1 - first]].concat());
    let length = ResponseError::Malformed("Content-Length");
    assert_eq!(named(0).unwrap_err(), length);
    assert_eq!(named(1).unwrap_err(), ResponseError::Malformed("Transfer-Encoding is repeated"));
}
