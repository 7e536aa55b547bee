//! Requests of well-behaved clients: the same responses as over HTTP/1.

use http::{Request, StatusCode};
use serde_json::json;

use super::{cleartext, proxy};
use crate::support::{
    gate::Gate,
    http2_client::{Http2Client, get, read_body},
    http2_frames::{HEADERS, PREFACE, RawHttp2, TABLE_SIZE, request, settings},
    proxy::Proxy,
    raw_client::request_bytes,
    scripted_origin::{ScriptedOrigin, response_bytes},
    waiting::wait_until,
};

#[test]
fn an_object_is_served_with_its_fields() {
    let origin = ScriptedOrigin::always(response_bytes(
        "200 OK",
        &[
            ("ETag", "\"abc\""),
            ("x-amz-meta-Colour", "blue"),
            ("Connection", "X-Hop"),
            ("X-Hop", "1"),
            ("Keep-Alive", "timeout=5"),
        ],
        b"hello",
    ));
    let proxy = proxy(&origin);
    let client = Http2Client::connect(proxy.address());
    let reply = client.get("/products/a%20b");
    assert_eq!((reply.status, &*reply.body), (StatusCode::OK, b"hello".as_slice()));
    assert_eq!(reply.header("content-length"), Some("5"));
    assert_eq!(reply.header("etag"), Some("\"abc\""));
    assert_eq!(reply.header("x-amz-meta-colour"), Some("blue"));
    assert_eq!(reply.header("via"), Some("1.1 yatagarasu"));
    assert!(reply.header("date").is_some() && reply.header("x-request-id").is_some());
    for forbidden in ["connection", "x-hop", "keep-alive", "transfer-encoding"] {
        assert_eq!(reply.header(forbidden), None, "{forbidden}");
    }
    let asked = origin.only_request();
    assert_eq!((&*asked.method, &*asked.target), ("GET", "/products/a%20b"));
    let via = asked.fields.get("via").unwrap();
    assert!(via.starts_with("2 yatagarasu-"), "{via}");

    wait_until("the record", || !proxy.stdout().records().is_empty());
    let record = &proxy.stdout().records()[0];
    assert_eq!(record["protocol"], "HTTP/2");
    assert_eq!((&record["path"], &record["bytes"]), (&json!("/products/a%20b"), &json!(5)));
    assert_eq!(proxy.metric("yatagarasu_client_connections{protocol=\"http2\"}"), Some(1.0));
    assert_eq!(proxy.metric("yatagarasu_http2_requests_total"), Some(1.0));
    assert_eq!(proxy.metric("yatagarasu_http2_streams"), Some(0.0));
}

#[test]
fn head_ranges_conditions_and_options_are_as_in_http1() {
    let origin = ScriptedOrigin::start(|conn, _| {
        while let Some(request) = conn.request() {
            if request.fields.get("if-none-match").is_some() {
                conn.send(
                    "HTTP/1.1 304 Not Modified\r\nETag: \"abc\"\r\nContent-Length: 5\r\n\r\n",
                );
            } else if request.method == "HEAD" {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
            } else if request.fields.get("range").is_some() {
                conn.respond("206 Partial Content", &[("Content-Range", "bytes 0-1/5")], b"he");
            } else {
                conn.respond("404 Not Found", &[], b"<Error/>");
            }
        }
    });
    let proxy = proxy(&origin);
    let client = Http2Client::connect(proxy.address());
    let ask = |request: http::request::Builder| {
        let reply = client.request(request.uri("http://test/products/x").body(()).unwrap());
        let length = reply.header("content-length").map(str::to_owned);
        (reply.status.as_u16(), length, String::from_utf8(reply.body).unwrap())
    };
    let length = |digits: &str| Some(digits.to_owned());
    assert_eq!(ask(Request::head("/")), (200, length("5"), String::new()));
    let range = Request::get("/").header("range", "bytes=0-1");
    assert_eq!(ask(range), (206, length("2"), "he".to_owned()));
    let condition = Request::get("/").header("if-none-match", "\"abc\"");
    assert_eq!(ask(condition), (304, length("5"), String::new()));
    assert_eq!(ask(Request::get("/")), (404, length("8"), "<Error/>".to_owned()));
    assert_eq!(ask(Request::options("/")), (204, None, String::new()));
    assert_eq!(ask(Request::delete("/")).0, 405);
    let asked = origin.requests();
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert_eq!(asked[1].fields.get("range"), Some("bytes=0-1"));
}

#[test]
fn the_proxys_own_responses_are_as_in_http1() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.reset();
    });
    let proxy = Proxy::start(&cleartext(&origin).with_jwt(&[]));
    let client = Http2Client::connect(proxy.address());
    for (path, status, code) in [
        ("/nowhere", 404, "no_route"),
        ("/products/../x", 400, "bad_path"),
        ("/products/x", 502, "upstream_protocol_error"),
        ("/admin/status", 401, "missing_token"),
    ] {
        let reply = client.get(path);
        assert_eq!(reply.status.as_u16(), status, "{path}: {reply:?}");
        assert_eq!(reply.code(), code, "{path}");
    }
    assert_eq!(client.get("/health").status, StatusCode::OK);
    assert!(
        String::from_utf8(client.get("/metrics").body).unwrap().contains("yatagarasu_build_info")
    );
}

#[test]
fn many_streams_are_served_at_once_and_in_any_order() {
    const STREAMS: usize = 100;
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target.ends_with("/first") {
                conn.wait(&held);
            }
            conn.respond("200 OK", &[], request.target.as_bytes());
        }
    });
    let proxy = proxy(&origin);
    let client = Http2Client::connect(proxy.address());
    let first = client.start(get("/products/first"), None);
    let others: Vec<_> =
        (0..STREAMS).map(|n| client.start(get(&format!("/products/{n}")), None)).collect();
    for (number, response) in others.into_iter().enumerate() {
        let reply = client.finish(response).unwrap();
        assert_eq!(reply.body, format!("/products/{number}").as_bytes());
    }
    assert_eq!(proxy.metric("yatagarasu_http2_streams"), Some(1.0));
    gate.open();
    assert_eq!(client.finish(first).unwrap().body, b"/products/first");
}

#[test]
fn large_bodies_arrive_unchanged_and_at_the_same_time() {
    const LENGTH: usize = 3_000_001;
    let body = |seed: usize| -> Vec<u8> {
        (0..LENGTH).map(|at| u8::try_from((at * 31 + at / 251 + seed) % 251).unwrap()).collect()
    };
    let origin = ScriptedOrigin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            let seed = request.target.rsplit('/').next().unwrap().parse().unwrap();
            if seed % 2 == 0 {
                conn.respond("200 OK", &[], &body(seed));
            } else {
                conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                for part in body(seed).chunks(70_001) {
                    conn.send([format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat());
                }
                conn.send("0\r\n\r\n");
            }
        }
    });
    let proxy = proxy(&origin);
    let client = Http2Client::connect(proxy.address());
    let responses: Vec<_> =
        (0..4).map(|seed| client.start(get(&format!("/products/{seed}")), None)).collect();
    let bodies = client.run(async {
        let mut tasks = Vec::new();
        for response in responses {
            tasks.push(tokio::spawn(async move {
                read_body(response.await.unwrap().body_mut()).await.unwrap()
            }));
        }
        let mut bodies = Vec::new();
        for task in tasks {
            bodies.push(task.await.unwrap());
        }
        bodies
    });
    for (seed, got) in bodies.iter().enumerate() {
        assert!(*got == body(seed), "body {seed} differs, of length {}", got.len());
    }
}

#[test]
fn a_body_that_s3_cuts_short_is_a_reset_of_its_stream_only() {
    let origin = ScriptedOrigin::start(|conn, _| {
        while let Some(request) = conn.request() {
            if request.target.ends_with("/cut") {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
                return;
            }
            conn.respond("200 OK", &[], b"whole");
        }
    });
    let proxy = proxy(&origin);
    let client = Http2Client::connect(proxy.address());
    let cut = client.start(get("/products/cut"), None);
    let error = client.finish(cut).unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR), "{error}");
    assert_eq!(client.get("/products/x").body, b"whole");
    assert_eq!(proxy.metric("yatagarasu_http2_resets_total{reason=\"cut\"}"), Some(1.0));
}

#[test]
fn request_bodies_are_discarded_within_their_limit() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&cleartext(&origin).set("server.limits.body_bytes", 200_000));
    let client = Http2Client::connect(proxy.address());
    let path = "http://test/products/x";
    let post = || Request::post(path).body(()).unwrap();
    // More than the windows hold at once.
    let response = client.start(post(), Some(&vec![0; 200_000]));
    assert_eq!(client.finish(response).unwrap().status, StatusCode::METHOD_NOT_ALLOWED);
    let with_body = Request::get(path).body(()).unwrap();
    let response = client.start(with_body, Some(&vec![0; 200_000]));
    assert_eq!(client.finish(response).unwrap().status, StatusCode::OK);
    let too_long = Request::get(path).body(()).unwrap();
    let response = client.start(too_long, Some(&vec![0; 200_001]));
    assert_eq!(client.finish(response).unwrap().status, StatusCode::PAYLOAD_TOO_LARGE);
    let declared = Request::get(path).header("content-length", "200001").body(()).unwrap();
    let response = client.start(declared, Some(&vec![0; 200_001]));
    assert_eq!(client.finish(response).unwrap().status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(client.get("/products/x").body, b"x", "the connection goes on");
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn limits_of_heads_hold() {
    let origin = ScriptedOrigin::serving("x");
    let config = cleartext(&origin)
        .set("server.limits.uri_bytes", 1_000)
        .set("server.limits.header_bytes", 4_000)
        .set("server.limits.headers", 20);
    let proxy = Proxy::start(&config);
    let client = Http2Client::connect(proxy.address());
    assert_eq!(client.get(&format!("/products/{}", "x".repeat(900))).status, StatusCode::OK);
    let long = client.get(&format!("/products/{}", "x".repeat(1_000)));
    assert_eq!((long.status, long.code()), (StatusCode::URI_TOO_LONG, "uri_too_long".to_owned()));
    let ask = |fields: usize, length: usize| {
        let mut request = Request::get("http://test/products/x");
        for number in 0..fields {
            request = request.header(format!("x-{number}"), "v".repeat(length));
        }
        client.request(request.body(()).unwrap()).status.as_u16()
    };
    assert_eq!(ask(15, 100), 200);
    assert_eq!(ask(25, 1), 431);
    // A little over the limit, and far over it, where the library refuses.
    assert_eq!(ask(1, 4_000), 431);
    assert_eq!(ask(2, 6_000), 431);
    assert_eq!(ask(1, 1), 200);
}

#[test]
fn a_head_that_is_longer_than_a_frame_goes_on_in_others() {
    let names: Vec<_> = (0..40).map(|number| format!("x-amz-meta-{number}")).collect();
    let value = "v".repeat(1_000);
    let fields: Vec<_> = names.iter().map(|name| (&**name, &*value)).collect();
    let origin = ScriptedOrigin::always(response_bytes("200 OK", &fields, b"hello"));
    let proxy = proxy(&origin);
    let reply = Http2Client::connect(proxy.address()).get("/products/x");
    assert_eq!((reply.status, &*reply.body), (StatusCode::OK, b"hello".as_slice()));
    for name in &names {
        assert_eq!(reply.header(name), Some(&*value), "{name}");
    }
}

#[test]
fn a_client_that_wants_a_smaller_table_is_told_once_that_it_is_empty() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = proxy(&origin);
    for (size, expected) in [(4_095, [0x20, 0x88]), (4_096, [0x88, 0x88])] {
        let mut client = RawHttp2::with_settings(proxy.address(), &[(TABLE_SIZE, size)]);
        let first = [1, 3].map(|stream| {
            client.send(request(stream, "/products/x"));
            client.expect(HEADERS, stream).payload[0]
        });
        assert_eq!(first, expected, "{size}");
    }
}

#[test]
fn http1_and_http2_share_the_port_only_where_it_is_allowed() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = proxy(&origin);
    assert_eq!(proxy.get("/products/x").text(), "x");
    // A preface that comes in pieces, and words that begin like it.
    let mut slow = RawHttp2::silent(proxy.address());
    let bytes = [PREFACE, &settings(&[]), &request(1, "/products/x")].concat();
    for part in bytes.chunks(5) {
        slow.send(part);
    }
    assert_eq!(slow.response(1), (Some(200), b"x".to_vec()));
    let mut client = proxy.client();
    client.send("PR");
    client.send("OPFIND /products/x HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.response("PROPFIND").status, 405);
    // Not on a connection that has begun with HTTP/1.
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/x", &[]));
    assert_eq!(client.response("GET").status, 200);
    client.send(PREFACE);
    assert_eq!(client.response("PRI").status, 505);

    let without = Proxy::in_front_of(&origin);
    let mut client = without.client();
    client.send(PREFACE);
    assert_eq!(client.response("PRI").status, 505);
    client.expect_end();
}

#[test]
fn the_admin_listener_speaks_http1_only() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&cleartext(&origin).with_admin_listener());
    let mut client = crate::support::raw_client::Client::connect(proxy.admin_address());
    client.send(PREFACE);
    assert_eq!(client.response("PRI").status, 505);
}

#[test]
fn a_client_that_resets_a_stream_frees_the_upstream() {
    let origin = ScriptedOrigin::start(|conn, _| {
        while let Some(request) = conn.request() {
            if request.target.ends_with("/slow") {
                conn.wait_closed();
                return;
            }
            conn.respond("200 OK", &[], b"x");
        }
    });
    let proxy = proxy(&origin);
    let client = Http2Client::connect(proxy.address());
    let response = client.start(get("/products/slow"), None);
    client.run(async {
        while origin.requests().is_empty() {
            tokio::task::yield_now().await;
        }
    });
    drop(response);
    assert_eq!(client.get("/products/x").body, b"x");
    wait_until("the upstream to be freed", || origin.open() == 1);
    wait_until("both records", || proxy.stdout().records().len() == 2);
    let records = proxy.stdout().records();
    let slow = records.iter().find(|record| record["path"] == "/products/slow").unwrap();
    assert_eq!((&slow["aborted"], &slow["status"]), (&json!(true), &json!(0)));
    assert_eq!(proxy.metric("yatagarasu_http2_resets_total{reason=\"client\"}"), Some(1.0));
    assert_eq!(proxy.metric_count("yatagarasu_upstream_errors_total"), 0, "S3 did nothing wrong");
}

#[test]
fn a_client_that_disappears_frees_all_of_its_streams() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.wait_closed();
    });
    let proxy = proxy(&origin);
    let mut client = RawHttp2::connect(proxy.address());
    for number in 0..10 {
        client.send(request(2 * number + 1, "/products/x"));
    }
    wait_until("the requests", || origin.requests().len() == 10);
    drop(client);
    origin.wait_open(0);
    wait_until("the records", || proxy.stdout().records().len() == 10);
    wait_until("the connection to be gone", || {
        proxy.metric("yatagarasu_client_connections{protocol=\"http2\"}") == Some(0.0)
    });
    assert_eq!(proxy.metric("yatagarasu_http2_streams"), Some(0.0));
}
