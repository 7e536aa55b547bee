//! Field sections that HTTP/2 forbids (RFC 9113 sections 8.2 and 8.3): nothing of them reaches S3.

use super::proxy;
use crate::support::{
    http2_frames::{
        END_HEADERS, END_STREAM, GOAWAY, HEADERS, PROTOCOL_ERROR, RST_STREAM, RawHttp2, fields,
        frame, request,
    },
    scripted_origin::ScriptedOrigin,
};

/// A whole request, from which one thing is changed.
const GOOD: [(&str, &str); 4] =
    [(":method", "GET"), (":scheme", "http"), (":authority", "test"), (":path", "/products/x")];

fn without(name: &str) -> Vec<(&'static str, &'static str)> {
    GOOD.iter().copied().filter(|(known, _)| *known != name).collect()
}

fn with<'f>(more: &[(&'f str, &'f str)]) -> Vec<(&'f str, &'f str)> {
    GOOD.iter().copied().chain(more.iter().copied()).collect()
}

fn instead<'f>(name: &str, value: &'f str) -> Vec<(&'f str, &'f str)> {
    GOOD.iter().map(|(known, old)| (*known, if *known == name { value } else { old })).collect()
}

#[test]
fn malformed_requests_are_refused_before_anything_reaches_s3() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = proxy(&origin);
    let cases = [
        ("no method", without(":method")),
        ("no scheme", without(":scheme")),
        ("no path", without(":path")),
        ("an empty path", instead(":path", "")),
        ("a path without a slash", instead(":path", "products/x")),
        ("a path that is a target", instead(":path", "http://other/products/x")),
        ("an asterisk", instead(":path", "*")),
        ("no authority", without(":authority")),
        ("an empty authority", instead(":authority", "")),
        ("userinfo", instead(":authority", "user@test")),
        ("two hosts", with(&[("host", "other")])),
        ("two paths", with(&[(":path", "/products/y")])),
        ("two methods", with(&[(":method", "GET")])),
        ("two schemes", with(&[(":scheme", "http")])),
        ("two authorities", with(&[(":authority", "test")])),
        ("an unknown pseudo-header field", with(&[(":unknown", "x")])),
        ("a status", with(&[(":status", "200")])),
        ("a protocol", with(&[(":protocol", "websocket")])),
        ("a late pseudo-header field", [&[("a", "b")][..], &GOOD].concat()),
        ("upper case", with(&[("Range", "bytes=0-1")])),
        ("an empty name", with(&[("", "x")])),
        ("a blank in a name", with(&[("a b", "x")])),
        ("a colon in a name", with(&[("a:b", "x")])),
        ("connection", with(&[("connection", "close")])),
        ("keep-alive", with(&[("keep-alive", "timeout=5")])),
        ("proxy-connection", with(&[("proxy-connection", "close")])),
        ("transfer-encoding", with(&[("transfer-encoding", "chunked")])),
        ("upgrade", with(&[("upgrade", "h2c")])),
        ("te", with(&[("te", "gzip")])),
        ("CR", with(&[("a", "b\rc")])),
        ("LF", with(&[("a", "b\nc")])),
        ("a line of its own", with(&[("a", "b\r\nRange: bytes=0-1")])),
        ("NUL", with(&[("a", "b\0c")])),
        ("LF in the path", instead(":path", "/products/x HTTP/1.1\r\na: b")),
        ("a blank in the path", instead(":path", "/products/x y")),
        ("a blank in the method", instead(":method", "GET /y")),
        ("LF in the authority", instead(":authority", "test\r\na: b")),
        ("a leading blank", with(&[("a", " b")])),
        ("a trailing tab", with(&[("a", "b\t")])),
        ("another scheme", instead(":scheme", "ftp")),
        ("a length without a body", with(&[("content-length", "5")])),
        ("a length that is none", with(&[("content-length", "+0")])),
        ("CONNECT with a path", instead(":method", "CONNECT")),
    ];
    for (what, section) in cases {
        let mut client = RawHttp2::connect(proxy.address());
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, fields(&section)));
        let refused = loop {
            match client.next() {
                Some(frame) if frame.kind == RST_STREAM => break frame.numbers()[0],
                Some(frame) if frame.kind == GOAWAY => break frame.numbers()[1],
                Some(frame) if frame.kind == HEADERS => panic!("{what}: {:?}", frame.status()),
                Some(_) => {}
                None => panic!("{what}: the end without a word"),
            }
        };
        assert_eq!(refused, PROTOCOL_ERROR, "{what}");
    }
    assert_eq!(origin.requests().len(), 0, "{:?}", origin.requests());
    let mut client = RawHttp2::connect(proxy.address());
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, fields(&GOOD)));
    assert_eq!(client.response(1).0, Some(200), "the request that the cases were made from");
}

#[test]
fn a_stream_that_is_refused_leaves_the_others_alone() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = proxy(&origin);
    let mut client = RawHttp2::connect(proxy.address());
    let refused = fields(&with(&[("te", "gzip")]));
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, refused));
    let ours = fields(&with(&[("host", "other")]));
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 3, ours));
    client.send(request(5, "/products/x"));
    let mut codes = vec![client.expect_reset(1), client.expect_reset(3)];
    codes.dedup();
    assert_eq!(codes, [PROTOCOL_ERROR]);
    assert_eq!(client.response(5), (Some(200), b"x".to_vec()));
    assert_eq!(proxy.metric("yatagarasu_http2_resets_total{reason=\"malformed\"}"), Some(2.0));
}

#[test]
fn what_http2_allows_is_served() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = proxy(&origin);
    for (what, section) in [
        ("te: trailers", with(&[("te", "trailers")])),
        ("the same host", with(&[("host", "TEST:80")])),
        ("Host alone", [&without(":authority")[..], &[("host", "test")]].concat()),
        ("several cookies", with(&[("cookie", "a=b"), ("cookie", "c=d")])),
        ("bytes above ASCII", with(&[("a", "\u{e9}")])),
        ("an empty value", with(&[("a", "")])),
    ] {
        let mut client = RawHttp2::connect(proxy.address());
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, fields(&section)));
        assert_eq!(client.response(1), (Some(200), b"x".to_vec()), "{what}");
    }
}

#[test]
fn https_without_tls_is_misdirected_and_connect_is_no_method_of_ours() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = proxy(&origin);
    let client = crate::support::http2_client::Http2Client::connect(proxy.address());
    let ask = |method: &str, uri: &str| {
        http::Request::builder().method(method).uri(uri).body(()).unwrap()
    };
    let reply = client.request(ask("GET", "https://test/products/x"));
    assert_eq!(reply.status, 421, "{reply:?}");
    let reply = client.request(ask("CONNECT", "test:443"));
    assert_eq!((reply.status.as_u16(), reply.header("allow")), (405, Some("GET, HEAD, OPTIONS")));
    assert_eq!(origin.requests().len(), 0);
}

#[test]
fn a_token_in_a_path_that_is_refused_is_in_no_log() {
    let origin = ScriptedOrigin::serving("x");
    let config = super::cleartext(&origin).set("logging.level", "trace");
    let proxy = crate::support::proxy::Proxy::start(&config);
    let mut client = RawHttp2::connect(proxy.address());
    let section = fields(&instead(":path", "/products/x?token=very-secret y"));
    client.send(frame(HEADERS, END_HEADERS | END_STREAM, 1, section));
    client.send(request(3, "/products/x?token=very-secret"));
    assert_eq!(client.response(3).0, Some(200));
    assert!(!proxy.output().contains("very-secret"), "{}", proxy.output());
}
