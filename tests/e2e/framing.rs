//! Messages from clients: what is malformed is refused once and its connection closed; what is
//! well formed works however it arrives.

use crate::support::{
    config::Config,
    proxy::Proxy,
    raw_client::{Client, End, Framing, request_bytes},
    scripted_origin::{ScriptedOrigin, refused_address},
    waiting::wait_until,
};

/// Sends `message` with a good request behind it: exactly one response, with `status` and `code`,
/// may come, and the connection must end.
#[track_caller]
pub(crate) fn assert_refused(proxy: &Proxy, message: &[u8], status: u16, code: &str) {
    let mut client = proxy.client();
    let shown = String::from_utf8_lossy(&message[..message.len().min(300)]).into_owned();
    client.send_if_open(message);
    client.send_if_open("GET /products/smuggled HTTP/1.1\r\nHost: proxy.test\r\n\r\n");
    let response = client.response("GET");
    assert_eq!((response.status, response.code().as_str()), (status, code), "{shown:?}");
    assert!(response.says_close(), "{shown:?}: {response:?}");
    let (rest, _) = client.read_to_end();
    assert!(rest.is_empty(), "{shown:?}: {:?}", String::from_utf8_lossy(&rest));
}

/// Each message, refused with 400.
#[track_caller]
fn assert_all_bad(messages: &[&str]) {
    let origin = ScriptedOrigin::echo();
    let proxy = Proxy::in_front_of(&origin);
    for message in messages {
        assert_refused(&proxy, message.as_bytes(), 400, "bad_request");
    }
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn ambiguous_body_lengths_are_refused() {
    let with = |fields: &str| format!("GET /products/x HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let messages: Vec<_> = [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 5\r\nContent-Length: 5\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: +5\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5.0\r\n",
        "Content-Length:\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 99999999999999999999999999\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding:\r\n",
    ]
    .map(with)
    .to_vec();
    assert_all_bad(&messages.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_transfer_coding_in_http_1_0_is_refused() {
    assert_all_bad(&["GET /products/x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"]);
}

#[test]
fn unknown_transfer_codings_are_501() {
    let origin = ScriptedOrigin::echo();
    let proxy = Proxy::in_front_of(&origin);
    for coding in ["gzip", "identity", "xchunked", "gzip, chunked"] {
        let message =
            format!("GET /products/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n");
        assert_refused(&proxy, message.as_bytes(), 501, "unknown_transfer_coding");
    }
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn malformed_fields_are_refused() {
    assert_all_bad(&[
        "GET /products/x HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET /products/x HTTP/1.1\r\nHost: a\r\nX-A : b\r\n\r\n",
        "GET /products/x HTTP/1.1\r\nHost: a\r\nX-A: b\r\n folded\r\n\r\n",
        "GET /products/x HTTP/1.1\r\nHost: a\r\nX-A: b\r\n\tfolded\r\n\r\n",
        "GET /products/x HTTP/1.1\r\n X-A: b\r\nHost: a\r\n\r\n",
        "GET /products/x HTTP/1.1\r\nHost: a\r\nX-A: b\rX-B: c\r\n\r\n",
        "GET /products/x HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n",
        "GET /products/x HTTP/1.1\nHost: a\n\n",
        "GET /products/x HTTP/1.1\r\nHost: a\r\nX-A: b\0c\r\n\r\n",
        "GET /products/x HTTP/1.1\r\nHost: a\r\nX-A: b\x01c\r\n\r\n",
        "GET /products/x HTTP/1.1\r\nHost: a\r\nX-A: b\x7fc\r\n\r\n",
        "GET /products/x HTTP/1.1\r\nHost: a\r\nX\0A: b\r\n\r\n",
        "GET /products/x HTTP/1.1\r\nHost: a\r\nX(A): b\r\n\r\n",
        "GET /products/x HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
        "GET /products/x HTTP/1.1\r\nHost: a\r\n: no name\r\n\r\n",
    ]);
}

#[test]
fn malformed_request_lines_are_refused() {
    assert_all_bad(&[
        "GET  /products/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /products/x  HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET\t/products/x\tHTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /products/x\r\nHost: a\r\n\r\n",
        "GET /products/a b HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /products/x HTTP/1.1x\r\nHost: a\r\n\r\n",
        "GET /products/x http/1.1\r\nHost: a\r\n\r\n",
        "GET /products/x HTTP/1,1\r\nHost: a\r\n\r\n",
        "GET products/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "G(T /products/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /products/\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
        " GET /products/x HTTP/1.1\r\nHost: a\r\n\r\n",
        "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n",
    ]);
}

#[test]
fn other_versions_are_505() {
    let origin = ScriptedOrigin::echo();
    let proxy = Proxy::in_front_of(&origin);
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3.0"] {
        let message = format!("GET /products/x {version}\r\nHost: a\r\n\r\n");
        assert_refused(&proxy, message.as_bytes(), 505, "version_not_supported");
    }
    assert_refused(&proxy, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "version_not_supported");
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn host_is_required_once_and_well_formed() {
    assert_all_bad(&[
        "GET /products/x HTTP/1.1\r\n\r\n",
        "GET /products/x HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET /products/x HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n",
        "GET /products/x HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET /products/x HTTP/1.1\r\nHost: a/b\r\n\r\n",
        "GET /products/x HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET /products/x HTTP/1.1\r\nHost: a:port\r\n\r\n",
        "GET /products/x HTTP/1.1\r\nHost: user@a\r\n\r\n",
    ]);
}

#[test]
fn absolute_form_names_the_same_object() {
    let origin = ScriptedOrigin::echo();
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    for target in ["http://other.test/products/x?q", "HTTP://other.test:80/products/x"] {
        let response = client.get(target);
        assert_eq!((response.status, response.text()), (200, "/products/x"), "{target}");
    }
}

#[test]
fn a_head_may_arrive_byte_by_byte() {
    let origin = ScriptedOrigin::echo();
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    for byte in request_bytes("GET", "/products/slowly", &[("Range", "bytes=0-")]) {
        client.send([byte]);
    }
    assert_eq!(client.response("GET").text(), "/products/slowly");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = ScriptedOrigin::echo();
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    let mut all = Vec::new();
    for number in 0..20 {
        let target =
            if number % 5 == 4 { "/nothing".to_owned() } else { format!("/products/{number}") };
        all.extend(request_bytes("GET", &target, &[]));
    }
    client.send(all);
    for number in 0..20 {
        let response = client.response("GET");
        if number % 5 == 4 {
            response.assert_fault(404, "no_route");
        } else {
            assert_eq!(response.text(), format!("/products/{number}"));
        }
    }
}

#[test]
fn a_request_body_is_never_the_next_request() {
    let origin = ScriptedOrigin::echo();
    let proxy = Proxy::in_front_of(&origin);
    let inner = "GET /products/smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let counted = format!("Content-Length: {}\r\n\r\n{inner}", inner.len());
    let chunked = format!(
        "Transfer-Encoding: chunked\r\n\r\n{:x};name=\"v\"\r\n{inner}\r\n0\r\nX-Trailer: t\r\n\r\n",
        inner.len()
    );
    for body in [counted, chunked] {
        for (line, status) in [
            ("GET /products/outer", 200),
            ("GET /nothing", 404),
            ("GET /products", 404),
            ("POST /products/outer", 405),
            ("OPTIONS /products/outer", 204),
        ] {
            let mut client = proxy.client();
            client.send(format!("{line} HTTP/1.1\r\nHost: a\r\n{body}"));
            client.send_if_open("GET /products/next HTTP/1.1\r\nHost: a\r\n\r\n");
            let method = line.split(' ').next().unwrap();
            let first = client.response(method);
            assert_eq!(first.status, status, "{line}: {first:?}");
            // Draining and closing are both right.
            match client.try_response("GET") {
                Ok(next) => assert_eq!((next.status, next.text()), (200, "/products/next")),
                Err(cut) => assert!(cut.response.is_none() && cut.head_bytes.is_empty(), "{cut:?}"),
            }
        }
    }
    assert!(!origin.received().contains("smuggled"));
}

#[test]
fn malformed_chunks_end_the_connection() {
    let origin = ScriptedOrigin::echo();
    let proxy = Proxy::in_front_of(&origin);
    for body in [
        "zz\r\n",
        "-1\r\n",
        "+1\r\nx\r\n0\r\n\r\n",
        "0x1\r\nx\r\n0\r\n\r\n",
        " 1\r\nx\r\n0\r\n\r\n",
        "1\nx\n0\n\n",
        "1\r\nxx\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n",
        "1;a=\rb\r\nx\r\n0\r\n\r\n",
        "\r\n0\r\n\r\n",
    ] {
        for line in ["GET /products/x", "POST /products/x"] {
            let mut client = proxy.client();
            let head = "HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked";
            client.send(format!("{line} {head}\r\n\r\n{body}"));
            client.send_if_open("GET /products/smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
            let response = client.response("GET");
            assert!([200, 400, 405].contains(&response.status), "{body:?}: {response:?}");
            let (rest, _) = client.read_to_end();
            assert!(rest.is_empty(), "{body:?}: {:?}", String::from_utf8_lossy(&rest));
        }
    }
    assert!(!origin.received().contains("smuggled"));
}

#[test]
fn an_early_response_does_not_wait_for_a_body_that_never_comes() {
    let origin = ScriptedOrigin::echo();
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    client.send(request_bytes("POST", "/products/x", &[("Content-Length", "1000")]));
    client.response("POST").assert_fault(405, "method_not_allowed");
}

#[test]
fn expect_100_continue_never_hangs() {
    let origin = ScriptedOrigin::echo();
    let proxy = Proxy::in_front_of(&origin);
    for method in ["GET", "POST"] {
        let mut client = proxy.client();
        let fields = [("Expect", "100-continue"), ("Content-Length", "5")];
        client.send(request_bytes(method, "/products/x", &fields));
        let mut response = client.response(method);
        if response.status == 100 {
            client.send("hello");
            response = client.response(method);
        }
        assert_eq!(response.status, if method == "GET" { 200 } else { 405 });
    }
    let none = proxy.get_with("/products/x", &[("Expect", "100-Continue")]);
    assert!([100, 200].contains(&none.status), "{none:?}");
}

#[test]
fn an_unknown_expectation_is_417() {
    let origin = ScriptedOrigin::echo();
    let proxy = Proxy::in_front_of(&origin);
    let response = proxy.get_with("/products/x", &[("Expect", "a-miracle")]);
    response.assert_fault(417, "expectation_failed");
}

#[test]
fn http_1_0_is_answered_and_closed() {
    let origin = ScriptedOrigin::echo();
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    client.send("GET /products/old HTTP/1.0\r\n\r\n");
    let response = client.response("GET");
    assert_eq!((response.status, response.text()), (200, "/products/old"));
    assert_eq!(client.expect_end(), End::Fin);
}

#[test]
fn http_1_0_may_ask_for_keep_alive() {
    let origin = ScriptedOrigin::echo();
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    for _ in 0..2 {
        client.send("GET /products/old HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
        let response = client.response("GET");
        assert_eq!(response.text(), "/products/old");
        let connection = response.header("connection").unwrap_or_default();
        assert!(connection.eq_ignore_ascii_case("keep-alive"), "{response:?}");
    }
}

#[test]
fn http_1_0_never_gets_chunks() {
    let origin = ScriptedOrigin::always(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
    );
    let proxy = Proxy::in_front_of(&origin);
    for connection in ["", "Connection: keep-alive\r\n"] {
        let mut client = proxy.client();
        client.send(format!("GET /products/x HTTP/1.0\r\n{connection}\r\n"));
        let response = client.response("GET");
        assert_eq!((response.text(), response.framing), ("abcdef", Framing::UntilClose));
    }
    let modern = proxy.get("/products/x");
    assert_eq!(modern.text(), "abcdef");
}

#[test]
fn connection_close_is_honoured() {
    let origin = ScriptedOrigin::echo();
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    let response = client.request("GET", "/products/x", &[("Connection", "close")]);
    assert_eq!(response.text(), "/products/x");
    assert!(response.says_close(), "{response:?}");
    assert_eq!(client.expect_end(), End::Fin);
}

#[test]
fn garbage_from_many_clients_leaves_the_service_up() {
    use proptest::{
        prelude::any,
        test_runner::{Config as Cases, TestRunner},
    };
    let origin = ScriptedOrigin::echo();
    let proxy = Proxy::in_front_of(&origin);
    let mut runner = TestRunner::new(Cases { failure_persistence: None, ..Cases::with_cases(200) });
    let bytes = proptest::collection::vec(any::<u8>(), 1..2_000);
    runner
        .run(&bytes, |garbage| {
            let mut client = Client::connect(proxy.address());
            client.send_if_open(&garbage);
            client.send_if_open("\r\n\r\n");
            client.finish_sending_if_open();
            let (response, _) = client.read_to_end();
            let refused = response.is_empty() || response.starts_with(b"HTTP/1.1 ");
            proptest::prop_assert!(refused, "{:?}", String::from_utf8_lossy(&response));
            Ok(())
        })
        .unwrap();
    assert_eq!(proxy.get("/products/x").status, 200);
}

#[test]
fn a_refused_head_is_counted_and_logged() {
    let proxy = Proxy::start(&Config::products(format!("http://{}", refused_address())));
    let mut client = proxy.client();
    client.send("GET /products/x HTTP/1.1\r\nHost : SECRET\r\n\r\n");
    let response = client.response("GET");
    response.assert_fault(400, "bad_request");
    wait_until("its record", || proxy.stdout().records().len() == 1);
    let record = &proxy.stdout().records()[0];
    assert_eq!((&record["status"], &record["code"]), (&400.into(), &"bad_request".into()));
    assert_eq!(record["request_id"], response.header("x-request-id").unwrap());
    assert!(!proxy.output().contains("SECRET"));
    assert!(proxy.metrics().contains("status=\"400\"} 1"), "{}", proxy.metrics());
}

#[test]
fn a_chunk_larger_than_the_limit_ends_the_connection_before_it_comes() {
    let origin = ScriptedOrigin::serving("x");
    // Longer than a test waits.
    let config = Config::products(origin.url()).set("server.timeouts.client_header", 60);
    let proxy = Proxy::start(&config);
    for method in ["GET", "POST"] {
        let mut client = proxy.client();
        client.send(request_bytes(method, "/products/x", &[("Transfer-Encoding", "chunked")]));
        client.send("fffffffffffffffd\r\n");
        let response = client.response(method);
        assert_eq!(response.status, if method == "GET" { 413 } else { 405 });
        client.expect_end();
    }
}

#[test]
fn an_early_response_to_a_body_over_the_limit_says_that_the_connection_ends() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&Config::products(origin.url()).set("server.limits.body_bytes", 10));
    for (method, path, status) in [("POST", "/products/x", 405), ("GET", "/nothing", 404)] {
        for (length, closes) in [("10", false), ("11", true)] {
            let mut client = proxy.client();
            client.send(request_bytes(method, path, &[("Content-Length", length)]));
            let response = client.response(method);
            assert_eq!((response.status, response.says_close()), (status, closes), "{response:?}");
        }
    }
}

#[test]
fn a_head_request_that_is_refused_gets_no_body() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&Config::products(origin.url()));
    for message in [
        "HEAD /products/x HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(),
        "\r\nHEAD /products/x HTTP/1.1\r\n\r\n".to_owned(),
        format!("HEAD /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(10_000)),
    ] {
        let mut client = proxy.client();
        client.send(&message);
        client.finish_sending_if_open();
        let response = client.response("HEAD");
        assert!([400, 414].contains(&response.status), "{response:?}");
        assert!(response.header("content-length").is_some_and(|length| length != "0"));
        client.expect_end();
    }
}

#[test]
fn an_https_target_on_a_plain_listener_is_misdirected() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&Config::products(origin.url()));
    let mut client = proxy.client();
    for target in ["https://proxy.test/products/x", "HTTPS://proxy.test", "https://proxy.test?a"] {
        client.get(target).assert_fault(421, "misdirected");
    }
    assert_eq!(client.get("http://proxy.test/products/x").status, 200);
    client.get("httpx://proxy.test/products/x").assert_fault(400, "bad_request");
    assert_eq!(origin.requests().len(), 1);
}
