//! What the logs say about requests that were refused before they were understood.

use serde_json::Value;

use crate::support::{
    config::Config,
    http2_client::{Http2Client, get},
    http2_frames::{END_HEADERS, END_STREAM, HEADERS, RawHttp2, fields, frame},
    proxy::{Proxy, field},
    raw_client::Client,
    site::Site,
    waiting::{wait_for, wait_until},
};

/// Sends this and returns the status and the id of the response.
#[track_caller]
fn refused(client: &mut Client, bytes: impl AsRef<[u8]>) -> (u16, String) {
    client.send(bytes);
    let response = client.response("GET");
    (response.status, response.header("x-request-id").unwrap().to_owned())
}

#[test]
fn the_line_of_a_refused_head_has_what_was_read_of_method_and_path() {
    let proxy = Proxy::start(&Config::unreachable());
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "p".repeat(9_000));
    let cut = format!("/{}", "p".repeat(1_023));
    let large = format!("HEAD /a HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    let cases = [
        ("GET /a%20b?token=HIDDEN HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "GET", "/a%20b"),
        ("\r\nPUT http://u:HIDDEN@h/a?HIDDEN HTTP/1.1\r\n\r\n", 400, "PUT", "/a"),
        ("GET /a HTTP/1.1\r\nHost : a\r\n\r\n", 400, "GET", "/a"),
        ("GET /a?HIDDEN HTTP/2.7\r\nHost: a\r\n\r\n", 505, "GET", "/a"),
        ("GET /a HTTP/1.1\r\nHost: a\r\nExpect: x\r\n\r\n", 417, "GET", "/a"),
        ("GET /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501, "GET", "/a"),
        ("HIDDEN: HIDDEN\r\n\r\n", 400, "", ""),
        (&long, 414, "GET", &cut),
        (&large, 431, "HEAD", "/a"),
    ];
    for (number, (bytes, status, method, path)) in cases.into_iter().enumerate() {
        let mut client = proxy.client();
        client.send_if_open(bytes);
        let response = client.response(if method == "HEAD" { "HEAD" } else { "GET" });
        assert_eq!(response.status, status, "{bytes:.80}");
        let record = proxy.stdout().record(number + 1);
        assert_eq!(record["status"], status, "{record}");
        assert_eq!((&record["method"], &record["path"]), (&method.into(), &path.into()));
        assert_eq!(record["request_id"].as_str(), response.header("x-request-id"));
    }
    assert!(!proxy.output().contains("HIDDEN"));
}

#[test]
fn so_has_that_of_a_refused_stream() {
    let config = Config::unreachable().set("server.http2.cleartext", true);
    let proxy = Proxy::start(&config);
    let client = Http2Client::connect(proxy.address());
    let long = format!("/{}?HIDDEN", "p".repeat(9_000));
    assert_eq!(client.get(&long).status, 414);
    let too_long = proxy.stdout().record(1);
    let cut = format!("/{}", "p".repeat(1_023));
    assert_eq!((&too_long["method"], &too_long["path"]), (&"GET".into(), &cut.into()));
    assert_eq!((&too_long["protocol"], &too_long["status"]), (&"HTTP/2".into(), &414.into()));
    let mut large = get("/a?HIDDEN");
    large.headers_mut().insert("x-large", "x".repeat(34_000).parse().unwrap());
    assert_eq!(client.request(large).status, 431);
    let too_large = proxy.stdout().record(2);
    assert_eq!((&too_large["method"], &too_large["path"]), (&"GET".into(), &"/a".into()));
    assert!(!proxy.output().contains("HIDDEN"));
}

/// The reason that the process log has for the refusal of this request.
#[track_caller]
fn reason(proxy: &Proxy, id: &str) -> String {
    let of_request = |record: &Value| {
        field(record, "message") == Some(&"a request was refused".into())
            && field(record, "request_id") == Some(&id.into())
    };
    let line = wait_for("the reason", || proxy.stderr().records().into_iter().find(of_request));
    assert_eq!(field(&line, "level"), Some(&"DEBUG".into()));
    field(&line, "reason").and_then(Value::as_str).expect("a reason").to_owned()
}

#[test]
fn at_debug_the_log_says_in_words_why_a_request_is_400() {
    let config = Config::unreachable().set("logging.level", "debug").with_jwt(&[]).with_tls();
    let site = Site::new();
    let proxy = site.start(&config);
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0; 64], b"\r\n\r\n"].concat();
    let cases: [(&[u8], &str); 14] = [
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "Host is repeated"),
        (b"GET / HTTP/1.1\r\n\r\n", "Host is missing"),
        (&hello, "TLS handshake came where HTTP without TLS is expected"),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n\r\n", "PROXY protocol header"),
        (b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", "PROXY protocol header"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "server.http2.cleartext"),
        (b"GET / HTTP/1.1\nHost: a\n\n", "LF alone"),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", "a field name"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: a\0\r\n\r\n", "a field value"),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "both Content-Length and Transfer-Encoding",
        ),
        (b"GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n", "'.' or '..' segment"),
        (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", "two hexadecimal digits"),
        (
            b"GET /products/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "the body of the request is malformed",
        ),
        (b"GET /products/x?acl HTTP/1.1\r\nHost: a\r\n\r\n", "allow_query"),
    ];
    for (bytes, words) in cases {
        let (status, id) = refused(&mut proxy.client(), bytes);
        assert!(status == 400 || status == 505, "{bytes:?}: {status}");
        let reason = reason(&proxy, &id);
        assert!(reason.contains(words), "{bytes:?}: {reason}");
    }
    let mut on_tls_port = Client::connect(proxy.tls_address());
    let (status, id) = refused(&mut on_tls_port, "GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(status, 400);
    assert!(reason(&proxy, &id).contains("HTTP without TLS came to the port of server.tls"));
}

#[test]
fn at_debug_the_log_says_why_a_stream_is_reset_and_a_proxy_header_is_refused() {
    let config = Config::unreachable().set("logging.level", "debug");
    let proxy = Proxy::start(&config.clone().set("server.http2.cleartext", true));
    let mut client = RawHttp2::connect(proxy.address());
    let pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/a")];
    let cases = [
        ([&pseudo[..], &[("Range", "bytes=0-1")]].concat(), "not in lower case"),
        (pseudo[..3].to_vec(), ":path is missing"),
        ([&pseudo[..], &[("content-length", "1")]].concat(), "Content-Length is not 0"),
        ([&pseudo[..], &[("host", "b")]].concat(), "Host differs from :authority"),
    ];
    for (stream, (sent, words)) in (1..).step_by(2).zip(cases) {
        client.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, fields(&sent)));
        client.expect_reset(stream);
        let of_stream = |record: &Value| {
            field(record, "message") == Some(&"a malformed HTTP/2 request was reset".into())
                && field(record, "stream") == Some(&stream.into())
        };
        let find = || proxy.stderr().records().into_iter().find(of_stream);
        let line = wait_for("the reason", find);
        let reason = field(&line, "reason").and_then(Value::as_str).expect("a reason");
        assert!(reason.contains(words), "{sent:?}: {reason}");
    }

    let config = config.set("server.proxy_protocol", "require").with_admin_listener();
    let proxy = Proxy::start(&config);
    // Each of them, although the warning comes once a minute.
    for number in 1..=2 {
        let mut client = proxy.client();
        client.send("GET / HTTP/1.1\r\n\r\n");
        client.expect_end();
        let is_line = |record: &Value| {
            field(record, "message") == Some(&"a PROXY protocol header was refused".into())
        };
        wait_until("the line", || {
            proxy.stderr().records().iter().filter(|record| is_line(record)).count() == number
        });
    }
}

#[test]
fn at_info_it_says_nothing_of_them() {
    let proxy = Proxy::start(&Config::unreachable());
    let (status, _) = refused(&mut proxy.client(), "GET / HTTP/1.1\r\n\r\n");
    assert_eq!(status, 400);
    // The line of the stop is behind what was logged before.
    proxy.signal("TERM");
    wait_until("the stop", || proxy.stderr().event("stopping").is_some());
    assert!(proxy.stderr().event("a request was refused").is_none());
}
