//! More of what S3 servers do: error bodies however they are framed, interim answers without end,
//! and bodies whose cut could pass for an end.

use std::io::Write;

use crate::support::{
    config::{ACCESS_KEY, Config},
    gate::Gate,
    proxy::{Launch, Proxy},
    raw_client::{End, Framing, request_bytes},
    scripted_origin::{ScriptedOrigin, response_bytes},
    tls_front::TlsFront,
    waiting::wait_until,
};

fn proxy_of(origin: &ScriptedOrigin) -> Proxy {
    Proxy::start(&Config::products(origin.url()))
}

fn error_document(code: &str, padding: usize) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{}</Message>\
         <AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId></Error>",
        "m".repeat(padding)
    )
}

/// An answer in chunks of at most 1,000 bytes, as S3 sends its errors.
fn chunked(status: &str, body: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    write!(bytes, "HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    for part in body.as_bytes().chunks(1_000) {
        write!(bytes, "{:x}\r\n", part.len()).unwrap();
        bytes.extend_from_slice(&[part, b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

#[test]
fn error_bodies_in_chunks_pass_at_once_and_leave_the_connection_in_order() {
    for (status, code) in [("403 Forbidden", "AccessDenied"), ("400 Bad Request", "InvalidRequest")]
    {
        for padding in [0, 10_000, 100_000] {
            let body = error_document(code, padding);
            let origin = ScriptedOrigin::always(chunked(status, &body));
            let proxy = proxy_of(&origin);
            let mut client = proxy.client();
            for _ in 0..2 {
                let answer = client.get("/products/x");
                assert_eq!(answer.status.to_string(), status[..3]);
                assert!(answer.text() == body, "{status} with {padding}");
            }
            assert_eq!(origin.accepted(), 1);
            let sent = "http_response_bytes_total{bucket=\"products\"}";
            let both = (2 * body.len()).to_string().parse().ok();
            wait_until("both bodies to be counted", || proxy.metric(sent) == both);
        }
    }
}

#[test]
fn refusals_of_our_credentials_are_found_in_any_framing() {
    let body = error_document("SignatureDoesNotMatch", 10);
    let until_close = format!("HTTP/1.1 403 Forbidden\r\n\r\n{body}").into_bytes();
    for bytes in [chunked("403 Forbidden", &body), until_close] {
        let origin = ScriptedOrigin::start(move |conn, _| {
            conn.expect_request();
            conn.send(&bytes);
        });
        let proxy = proxy_of(&origin);
        let answer = proxy.get("/products/x");
        answer.assert_fault(502, "upstream_credentials");
        assert!(!answer.text().contains(ACCESS_KEY));
    }
}

#[test]
fn an_error_body_that_cannot_be_read_is_not_passed_on() {
    // A content coding that nobody asked for hides whether the body names our key.
    let gzip = [("Content-Encoding", "gzip"), ("Content-Type", "application/xml")];
    let origin =
        ScriptedOrigin::always(response_bytes("403 Forbidden", &gzip, b"\x1f\x8b\x08\0 coded"));
    proxy_of(&origin).get("/products/x").assert_fault(502, "upstream_protocol_error");
    let identity = [("Content-Encoding", "identity")];
    let body = error_document("AccessDenied", 1);
    let origin =
        ScriptedOrigin::always(response_bytes("403 Forbidden", &identity, body.as_bytes()));
    assert_eq!(proxy_of(&origin).get("/products/x").status, 403);
}

#[test]
fn a_403_to_head_passes_and_leaves_the_connection_in_order() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.send("HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n");
        conn.expect_request();
        conn.respond("200 OK", &[], b"next");
        conn.wait_closed();
    });
    let proxy = proxy_of(&origin);
    let mut client = proxy.client();
    let head = client.request("HEAD", "/products/x", &[]);
    assert_eq!((head.status, head.framing), (403, Framing::NoBody));
    assert_eq!(client.get("/products/x").text(), "next");
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn a_403_that_never_comes_is_502_and_not_a_hang() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 500\r\n\r\n<Error>");
    });
    proxy_of(&origin).get("/products/x").assert_fault(502, "upstream_protocol_error");
}

#[test]
fn interim_answers_that_never_stop_are_502() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        // One by one, each in a read of its own, for as long as anybody listens.
        while conn.try_send("HTTP/1.1 103 Early Hints\r\n\r\n") {
            std::thread::park_timeout(std::time::Duration::from_millis(1));
        }
    });
    let proxy = proxy_of(&origin);
    proxy.get("/products/x").assert_fault(502, "upstream_protocol_error");
    origin.wait_open(0);
}

#[test]
fn surplus_behind_bodiless_answers_is_never_the_next_answer() {
    for (method, head) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\nsmuggled"),
        ("GET", "HTTP/1.1 204 No Content\r\nContent-Length: 8\r\n\r\nsmuggled"),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 8\r\n\r\nsmuggled"),
        ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nsmuggled"),
        ("GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nsmuggled"),
    ] {
        let origin = ScriptedOrigin::start(move |conn, number| {
            conn.expect_request();
            if number > 0 {
                conn.respond("200 OK", &[], b"clean");
            } else {
                conn.send(head);
            }
            conn.wait_closed();
        });
        let proxy = proxy_of(&origin);
        let mut client = proxy.client();
        assert!(client.request(method, "/products/x", &[]).body.is_empty(), "{head}");
        assert_eq!(client.get("/products/x").text(), "clean", "{head}");
    }
}

#[test]
fn a_body_until_close_that_is_cut_resets_an_http_1_0_client() {
    // To this client an orderly end would be the end of the body.
    for cut in ["a stop", "the origin"] {
        let gate = Gate::default();
        let held = gate.clone();
        let origin = ScriptedOrigin::start(move |conn, _| {
            conn.expect_request();
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n");
            conn.wait(&held);
            conn.reset();
        });
        let proxy = proxy_of(&origin);
        let mut client = proxy.client();
        client.send("GET /products/x HTTP/1.0\r\n\r\n");
        assert_eq!(client.head("GET").unwrap().framing, Framing::UntilClose);
        client.read_exactly(4);
        if cut == "a stop" {
            proxy.signal("TERM");
            proxy.signal("TERM");
        } else {
            gate.open();
        }
        assert_eq!(client.read_to_end().1, End::Reset, "{cut}");
    }
}

#[test]
fn ranges_keep_their_status_and_length() {
    let range = [("Content-Range", "bytes 0-3/10"), ("ETag", "\"e\"")];
    let origin = ScriptedOrigin::start(move |conn, _| {
        conn.expect_request();
        conn.respond("206 Partial Content", &range, b"0123");
        conn.expect_request();
        conn.respond("416 Range Not Satisfiable", &[("Content-Range", "bytes */10")], b"<Error/>");
        conn.expect_request();
        conn.send("HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\nContent-Range: bytes 0-3/10\r\n\r\n");
        conn.wait_closed();
    });
    let proxy = proxy_of(&origin);
    let mut client = proxy.client();
    let part = client.request("GET", "/products/x", &[("Range", "bytes=0-3")]);
    assert_eq!((part.status, part.framing, part.text()), (206, Framing::Length(4), "0123"));
    assert_eq!(part.header("content-range"), Some("bytes 0-3/10"));
    let beyond = client.request("GET", "/products/x", &[("Range", "bytes=50-60")]);
    assert_eq!((beyond.status, beyond.text()), (416, "<Error/>"));
    assert_eq!(beyond.header("content-range"), Some("bytes */10"));
    let head = client.request("HEAD", "/products/x", &[("Range", "bytes=0-3")]);
    assert_eq!((head.status, head.header("content-length")), (206, Some("4")));
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn trailers_and_extensions_do_not_reach_clients_of_either_version() {
    let origin = ScriptedOrigin::always(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         3;sig=\"MARK\"\r\nabc\r\n0;MARK\r\nX-Sum: MARK\r\n\r\n",
    );
    let proxy = proxy_of(&origin);
    for version in ["1.0", "1.1"] {
        let mut client = proxy.client();
        client.send(format!(
            "GET /products/x HTTP/{version}\r\nHost: a\r\nConnection: close\r\n\r\n"
        ));
        let (all, end) = client.read_to_end();
        let text = String::from_utf8(all).unwrap();
        assert!(text.contains("abc") && !text.contains("MARK"), "{text}");
        assert!(!text.to_ascii_lowercase().contains("trailer"), "{text}");
        assert_eq!(end, End::Fin);
    }
}

#[test]
fn gauges_of_connections_return_to_zero() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, number| {
        conn.expect_request();
        match number {
            0 => conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"),
            1 => conn.send("garbage\r\n\r\n"),
            2 => conn.respond("200 OK", &[("Connection", "close")], b"x"),
            3 => conn.reset(),
            4 => conn.send("HTTP/1.1 200 OK\r\n\r\nuntil close"),
            _ => {
                conn.respond("200 OK", &[], b"x");
                // Idle, and then closed by this side.
                conn.wait(&held);
            }
        }
    });
    let proxy = proxy_of(&origin);
    for _ in 0..6 {
        let mut client = proxy.client();
        client.send(request_bytes("GET", "/products/x", &[]));
        let _ = client.try_response("GET");
    }
    assert_eq!(origin.accepted(), 6);
    assert_eq!(proxy.metric_count("upstream_connections"), 1);
    gate.open();
    wait_until("no upstream connection to be counted", || {
        proxy.metric_count("upstream_connections") == 0
    });
    // The one that asks.
    wait_until("no client connection but one", || proxy.metric_count("connections") == 1);
}

#[test]
fn what_comes_decrypted_behind_an_answer_is_not_taken_for_the_next_one() {
    // After a large answer the proxy reads 16,384 bytes at a time: the second answer fills that
    // exactly, and what the origin smuggles in behind it is the TLS session's only.
    const ROOM: usize = 16_384;
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 16000\r\nX-Amz-Meta-Fill: ";
    let fill = "f".repeat(ROOM - 16_000 - head.len() - 4);
    let mut poisoned = format!("{head}{fill}\r\n\r\n{}", "b".repeat(16_000)).into_bytes();
    assert_eq!(poisoned.len(), ROOM);
    poisoned.extend(response_bytes("200 OK", &[], b"poisoned"));
    let origin = ScriptedOrigin::start(move |conn, number| {
        if number == 0 {
            conn.expect_request();
            conn.respond("200 OK", &[], &vec![b'a'; 600_000]);
            conn.expect_request();
            conn.send(&poisoned);
            conn.wait_closed();
        } else {
            conn.expect_request();
            conn.respond("200 OK", &[], b"fresh");
        }
    });
    let front = TlsFront::start(origin.address());
    let launch = Launch::new();
    launch.write("ca.pem", front.ca_pem());
    let config = Config::products(front.url())
        .set("buckets.0.s3.ca_file", launch.path("ca.pem").display().to_string());
    let proxy = launch.config(&config).start();
    let mut client = proxy.client();
    assert_eq!(client.get("/products/x").body.len(), 600_000);
    assert_eq!(client.get("/products/x").body.len(), 16_000);
    assert_eq!(client.get("/products/x").text(), "fresh");
}
