//! What S3 servers and networks do wrong, and how a client sees it: never as a whole message that
//! is not whole.

use crate::support::{
    config::Config,
    gate::Gate,
    proxy::Proxy,
    raw_client::{End, Framing, Response, request_bytes},
    scripted_origin::{ScriptedOrigin, refused_address, response_bytes},
};

/// The proxy's response to a GET when the first upstream connection runs `script`; later ones work.
#[track_caller]
fn response_to_bytes(bytes: impl Into<Vec<u8>>) -> Response {
    let bytes = bytes.into();
    let origin = ScriptedOrigin::start(move |conn, _| {
        conn.expect_request();
        conn.try_send(&bytes);
    });
    let proxy = Proxy::in_front_of(&origin);
    let response = proxy.get("/products/x");
    origin.wait_open(0);
    assert_eq!(origin.accepted(), 1, "a response on a fresh connection is not asked for again");
    response
}

/// Asserts that a GET gets a good head and then, instead of the whole body, the end.
#[track_caller]
fn assert_cut_short(origin: &ScriptedOrigin, proxy: &Proxy, sent: &[u8]) {
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/x", &[]));
    let cut = client.try_response("GET").expect_err("a body cut short must not look whole");
    if let Some(part) = cut.response {
        assert_eq!(part.status, 200);
        assert!(sent.starts_with(&part.body), "{part:?}");
    }
    let before = origin.accepted();
    let next = proxy.get("/products/next");
    assert_eq!((next.status, next.text()), (200, "next"));
    assert_eq!(origin.accepted(), before + 1, "a broken connection must not be pooled");
}

/// An origin whose first connection sends `first` to its first request and then ends as told;
/// later connections answer "next".
fn breaking(first: &'static str, reset: bool) -> ScriptedOrigin {
    ScriptedOrigin::start(move |conn, number| {
        conn.expect_request();
        if number > 0 {
            conn.respond("200 OK", &[], b"next");
            return conn.wait_closed();
        }
        conn.send(first);
        if reset {
            conn.reset();
        }
    })
}

#[test]
fn a_counted_body_cut_short_is_seen_as_incomplete() {
    for reset in [false, true] {
        let origin = breaking("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npartial", reset);
        let proxy = Proxy::in_front_of(&origin);
        assert_cut_short(&origin, &proxy, b"partial");
    }
}

#[test]
fn a_large_body_cut_short_is_seen_as_incomplete() {
    // Beyond what a pipe holds, so that it is moved in parts.
    const LENGTH: usize = 8 * 1024 * 1024;
    for reset in [false, true] {
        let origin = ScriptedOrigin::start(move |conn, number| {
            conn.expect_request();
            if number > 0 {
                return conn.respond("200 OK", &[], b"next");
            }
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
            conn.send(vec![b'x'; LENGTH - 1]);
            if reset {
                conn.reset();
            }
        });
        let proxy = Proxy::in_front_of(&origin);
        assert_cut_short(&origin, &proxy, &vec![b'x'; LENGTH - 1]);
    }
}

#[test]
fn a_chunked_body_cut_short_gets_no_last_chunk() {
    for first in [
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\npartial\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\npart",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\npartial\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n7\r\npartial\r\n5",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        for reset in [false, true] {
            let origin = breaking(first, reset);
            let proxy = Proxy::in_front_of(&origin);
            assert_cut_short(&origin, &proxy, b"partial");
        }
    }
}

#[test]
fn malformed_chunks_cut_the_body_short() {
    for chunks in [
        "zz\r\n",
        "-1\r\n",
        "+7\r\npartial\r\n0\r\n\r\n",
        "0x7\r\npartial\r\n0\r\n\r\n",
        "7\npartial\n0\n\n",
        "6\r\npartial\r\n0\r\n\r\n",
        "7\r\npartialxx0\r\n\r\n",
        "fffffffffffffffff\r\n",
        "7\r\npartial\r\n0\r\nbad trailer\r\n\r\n",
    ] {
        let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        let origin = ScriptedOrigin::start(move |conn, number| {
            conn.expect_request();
            if number > 0 {
                return conn.respond("200 OK", &[], b"next");
            }
            // Kept open: the proxy has to judge by the bytes alone.
            conn.send(format!("{head}{chunks}"));
            conn.wait_closed();
        });
        let proxy = Proxy::in_front_of(&origin);
        let mut client = proxy.client();
        client.send(request_bytes("GET", "/products/x", &[]));
        match client.try_response("GET") {
            // The head may not have been passed on yet.
            Ok(response) => response.assert_fault(502, "upstream_protocol_error"),
            Err(cut) => {
                let body = cut.response.map(|part| part.body).unwrap_or_default();
                assert!(b"partial".starts_with(&body[..]), "{chunks:?}: {body:?}");
            }
        }
        assert_eq!(proxy.get("/products/x").text(), "next", "{chunks:?}");
    }
}

#[test]
fn an_end_before_the_head_is_502_without_a_retry_on_a_fresh_connection() {
    response_to_bytes("").assert_fault(502, "upstream_protocol_error");
    response_to_bytes("HTTP/1.1 200 OK\r\nContent-Le").assert_fault(502, "upstream_protocol_error");
}

#[test]
fn a_reset_before_the_head_is_502() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.reset();
    });
    let proxy = Proxy::in_front_of(&origin);
    let response = proxy.get("/products/x");
    assert_eq!(response.status, 502);
    assert!(["upstream_refused", "upstream_protocol_error"].contains(&response.code().as_str()));
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn malformed_heads_are_502() {
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X-A: b\r\n".repeat(300));
    let long = format!("HTTP/1.1 200 OK\r\nX-A: {}\r\n\r\n", "v".repeat(80_000));
    let endless = "H".repeat(80_000);
    for bytes in [
        "garbage\r\n\r\n",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\nContent-Length: 1\n\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\nX: y\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1x\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nX-A: b\r\n folded\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nX-A: b\rc\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 20 OK\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 2000 OK\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 099 OK\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/2.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        many.as_str(),
        long.as_str(),
        endless.as_str(),
    ] {
        let response = response_to_bytes(bytes);
        let shown = &bytes[..bytes.len().min(120)];
        assert_eq!(response.status, 502, "{shown:?}: {response:?}");
        assert_eq!(response.code(), "upstream_protocol_error", "{shown:?}");
    }
}

#[test]
fn a_head_with_large_metadata_is_fine() {
    let value = "v".repeat(8_000);
    let bytes = response_bytes("200 OK", &[("x-amz-meta-large", &value)], b"x");
    let response = response_to_bytes(bytes);
    assert_eq!(response.header("x-amz-meta-large"), Some(value.as_str()));
}

#[test]
fn interim_responses_are_absorbed() {
    let response = response_to_bytes(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal",
    );
    assert_eq!((response.status, response.text()), (200, "final"));
    assert!(!response.fields.has("link"));
}

#[test]
fn interim_responses_without_end_are_502() {
    let response = response_to_bytes("HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000));
    assert_eq!(response.status, 502, "{response:?}");
}

#[test]
fn a_refused_connection_is_502() {
    let proxy = Proxy::start(&Config::products(format!("http://{}", refused_address())));
    let mut client = proxy.client();
    for _ in 0..2 {
        client.get("/products/x").assert_fault(502, "upstream_refused");
    }
}

#[test]
fn a_body_that_ends_with_the_connection_is_passed_on() {
    let body = "to the end ".repeat(10_000);
    let sent = body.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        conn.expect_request();
        conn.send(format!("HTTP/1.1 200 OK\r\n\r\n{sent}"));
    });
    let proxy = Proxy::in_front_of(&origin);
    assert!(proxy.get("/products/x").text() == body);
}

#[test]
fn a_body_that_ends_with_a_reset_is_not_whole() {
    let origin = ScriptedOrigin::start(move |conn, _| {
        conn.expect_request();
        conn.send("HTTP/1.1 200 OK\r\n\r\npart");
        conn.reset();
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/x", &[]));
    match client.try_response("GET") {
        Ok(response) => assert_eq!(response.status, 502, "{response:?}"),
        Err(cut) => {
            assert!(cut.response.is_none() || cut.end == End::Reset || cut.end == End::Fin);
        }
    }
}

#[test]
fn bodiless_responses_stay_bodiless_and_in_step() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.send("HTTP/1.1 204 No Content\r\n\r\n");
        conn.expect_request();
        conn.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 50\r\n\r\n");
        conn.expect_request();
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        conn.expect_request();
        conn.respond("200 OK", &[], b"in step");
        conn.wait_closed();
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    assert_eq!(client.get("/products/1").status, 204);
    assert_eq!(client.get("/products/2").status, 304);
    assert_eq!(client.request("HEAD", "/products/3", &[]).status, 200);
    assert_eq!(client.get("/products/4").text(), "in step");
}

#[test]
fn chunks_extensions_and_trailers_are_understood() {
    let origin = ScriptedOrigin::always(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
         3;name=\"value\"\r\nabc\r\n00004\r\ndefg\r\n0;last\r\nX-Trailer: t\r\n\r\n",
    );
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    for _ in 0..2 {
        assert_eq!(client.get("/products/x").text(), "abcdefg");
    }
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn responses_that_come_in_pieces_are_put_together() {
    let bytes = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n";
    let origin = ScriptedOrigin::start(move |conn, _| {
        while conn.request().is_some() {
            for byte in bytes.bytes() {
                conn.send([byte]);
            }
        }
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("/products/x").text(), "abc0123456789");
    }
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn faults_of_one_upstream_do_not_touch_another() {
    let broken = ScriptedOrigin::always("garbage\r\n\r\n");
    let good = ScriptedOrigin::serving("good");
    let config = Config::new().bucket("broken", broken.url()).bucket("good", good.url());
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    for _ in 0..5 {
        assert_eq!(client.get("/broken/x").status, 502);
        assert_eq!(client.get("/good/x").text(), "good");
    }
    assert_eq!(good.accepted(), 1);
}

#[test]
fn a_large_head_behind_a_large_object_is_read_whole() {
    let long = "m".repeat(20_000);
    let sent = long.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        conn.expect_request();
        conn.respond("200 OK", &[], &"x".repeat(600_000).into_bytes());
        conn.expect_request();
        conn.respond("200 OK", &[("X-Amz-Meta-Long", &sent)], b"second");
    });
    let proxy = Proxy::start(&Config::products(origin.url()));
    let mut client = proxy.client();
    assert_eq!(client.get("/products/large").body.len(), 600_000);
    let response = client.get("/products/small");
    assert_eq!((response.status, &response.body[..]), (200, &b"second"[..]));
    assert_eq!(response.header("x-amz-meta-long"), Some(&long[..]));
    assert_eq!(origin.accepted(), 1, "the second response came on the same connection");
}

#[test]
fn interim_responses_that_never_stop_are_502() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        // One by one, each in a read of its own, for as long as anybody listens.
        while conn.try_send("HTTP/1.1 103 Early Hints\r\n\r\n") {
            std::thread::park_timeout(std::time::Duration::from_millis(1));
        }
    });
    let proxy = Proxy::in_front_of(&origin);
    proxy.get("/products/x").assert_fault(502, "upstream_protocol_error");
    origin.wait_open(0);
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
        let proxy = Proxy::in_front_of(&origin);
        let mut client = proxy.client();
        client.send("GET /products/x HTTP/1.0\r\n\r\n");
        assert_eq!(client.head("GET").unwrap().framing, Framing::UntilClose);
        client.read_exactly(4);
        if cut == "a stop" {
            proxy.signal("TERM");
            proxy.signal("INT");
        } else {
            gate.open();
        }
        assert_eq!(client.read_to_end().1, End::Reset, "{cut}");
    }
}

#[test]
fn trailers_and_extensions_do_not_reach_clients_of_either_version() {
    let origin = ScriptedOrigin::always(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
         3;sig=\"MARK\"\r\nabc\r\n0;MARK\r\nX-Sum: MARK\r\n\r\n",
    );
    let proxy = Proxy::in_front_of(&origin);
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
