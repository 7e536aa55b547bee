//! Connections to S3: which are kept, used again, replaced and closed.

use crate::support::{
    config::Config, gate::Gate, proxy::Proxy, raw_client::request_bytes, reload::adopt,
    scripted_origin::ScriptedOrigin, waiting::wait_until,
};

#[test]
fn a_stale_pooled_connection_is_replaced_once() {
    let origin = ScriptedOrigin::start(|conn, number| {
        conn.expect_request();
        conn.respond("200 OK", &[], b"first");
        if number == 0 {
            // Reads the next request and ends: it was closing while the request was on its way.
            conn.expect_request();
        } else {
            conn.wait_closed();
        }
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    assert_eq!(client.get("/products/1").text(), "first");
    assert_eq!(client.get("/products/2").text(), "first");
    let seen: Vec<_> =
        origin.requests().into_iter().map(|seen| (seen.connection, seen.target)).collect();
    let expected = [(0, "/products/1"), (0, "/products/2"), (1, "/products/2")];
    assert_eq!(seen, expected.map(|(connection, target)| (connection, target.to_owned())));
}

#[test]
fn the_replacement_of_a_stale_connection_is_not_replaced_again() {
    let origin = ScriptedOrigin::start(|conn, number| {
        conn.expect_request();
        if number == 0 {
            conn.respond("200 OK", &[], b"first");
            conn.expect_request();
        }
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    assert_eq!(client.get("/products/1").text(), "first");
    assert_eq!(client.get("/products/2").status, 502);
    assert_eq!(origin.accepted(), 2);
}

#[test]
fn a_retry_uses_a_fresh_connection_even_when_others_are_pooled() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, number| {
        conn.expect_request();
        if number < 2 {
            conn.wait(&held);
            conn.respond("200 OK", &[], b"first");
            // Stale at the next use.
            conn.request();
        } else {
            conn.respond("200 OK", &[], b"fresh");
            conn.wait_closed();
        }
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut clients = [proxy.client(), proxy.client()];
    for client in &mut clients {
        client.send(request_bytes("GET", "/products/x", &[]));
    }
    wait_until("both requests", || origin.requests().len() == 2);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response("GET").text(), "first");
    }
    assert_eq!(proxy.get("/products/x").text(), "fresh");
    assert_eq!(origin.accepted(), 3);
}

#[test]
fn a_pooled_connection_that_the_origin_closed_is_not_used() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.respond("200 OK", &[], b"one each");
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    for round in 1..=5 {
        assert_eq!(client.get("/products/x").text(), "one each");
        origin.wait_open(0);
        assert_eq!(origin.accepted(), round);
    }
}

#[test]
fn connections_are_pooled_and_reused() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::in_front_of(&origin);
    for _ in 0..10 {
        assert_eq!(proxy.get("/products/x").status, 200);
    }
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn bytes_on_an_idle_pooled_connection_close_it() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, number| {
        conn.expect_request();
        conn.respond("200 OK", &[], format!("{number}").as_bytes());
        if number == 0 {
            conn.wait(&held);
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned");
        }
        conn.wait_closed();
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    assert_eq!(client.get("/products/x").text(), "0");
    gate.open();
    origin.wait_open(0);
    assert_eq!(client.get("/products/x").text(), "1");
}

#[test]
fn bytes_after_a_body_keep_the_connection_out_of_the_pool() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        let poison = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\npoisoned";
        conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood{poison}"));
        conn.wait_closed();
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    for _ in 0..3 {
        assert_eq!(client.get("/products/x").text(), "good");
    }
    assert_eq!(origin.accepted(), 3);
}

#[test]
fn a_response_that_says_close_is_not_pooled() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: x-a, Close\r\n\r\nx",
        "HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx",
    ] {
        let origin = ScriptedOrigin::start(move |conn, _| {
            conn.expect_request();
            conn.send(head);
            conn.wait_closed();
        });
        let proxy = Proxy::in_front_of(&origin);
        let mut client = proxy.client();
        assert_eq!(client.get("/products/x").text(), "x");
        let second = client.get("/products/x");
        assert_eq!(second.text(), "x");
        assert!(!second.says_close(), "the client's connection is another matter");
        assert_eq!(origin.accepted(), 2);
    }
}

#[test]
fn an_endpoint_may_have_a_name() {
    // `localhost` is 127.0.0.1 on one machine, and ::1 before it on another; the origin listens on
    // the former. Several addresses, on any machine: the tests in src/app/tests.rs.
    let origin = ScriptedOrigin::serving("x");
    let port = origin.address().port();
    let proxy = Proxy::start(&Config::products(format!("http://localhost:{port}")));
    for _ in 0..3 {
        assert_eq!(proxy.get("/products/x").status, 200);
    }
}

#[test]
fn surplus_behind_bodiless_responses_is_never_the_next_response() {
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
        let proxy = Proxy::in_front_of(&origin);
        let mut client = proxy.client();
        assert!(client.request(method, "/products/x", &[]).body.is_empty(), "{head}");
        assert_eq!(client.get("/products/x").text(), "clean", "{head}");
    }
}

#[test]
fn the_number_of_idle_connections_to_s3_is_kept_to() {
    let origin = ScriptedOrigin::serving("x");
    let config = Config::products(origin.url()).with_jwt(&[]);
    let proxy = Proxy::start(&config);
    for _ in 0..3 {
        assert_eq!(proxy.get("/products/x").status, 200);
    }
    assert_eq!(origin.accepted(), 1);
    adopt(&proxy, &config.set("buckets.0.s3.max_idle_connections", 0));
    let before = origin.accepted();
    for _ in 0..4 {
        assert_eq!(proxy.get("/products/x").status, 200);
    }
    // The one that was idle may have been used once more.
    assert!(origin.accepted() >= before + 3, "{} then {}", before, origin.accepted());
}

#[test]
fn a_connection_serves_no_request_beyond_its_age_and_is_closed_when_idle() {
    let origin = ScriptedOrigin::serving("x");
    let config = Config::products(origin.url()).set("buckets.0.s3.max_connection_age", 0.5);
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    // Never idle for long.
    wait_until("a busy connection to be replaced twice", || {
        assert_eq!(client.get("/products/x").text(), "x");
        origin.accepted() >= 3
    });
    wait_until("the last one to be closed", || origin.open() == 0);
    assert_eq!(client.get("/products/x").text(), "x");
}

#[test]
fn a_new_age_holds_for_the_connections_that_are_there() {
    let origin = ScriptedOrigin::serving("x");
    let config = Config::products(origin.url()).with_jwt(&[]);
    let proxy = Proxy::start(&config);
    assert_eq!(proxy.get("/products/x").status, 200);
    adopt(&proxy, &config.set("buckets.0.s3.max_connection_age", 0.001));
    assert_eq!(proxy.get("/products/x").status, 200);
    assert_eq!(origin.accepted(), 2);
}

#[test]
fn a_408_that_comes_first_on_a_reused_connection_is_nobodys() {
    let origin = ScriptedOrigin::start(|conn, number| {
        conn.expect_request();
        conn.respond("200 OK", &[], format!("{number}").as_bytes());
        // The request and the server's timeout cross on the way.
        if conn.request().is_some() {
            conn.respond("408 Request Timeout", &[("Connection", "close")], b"too slow");
            conn.wait_closed();
        }
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    assert_eq!(client.get("/products/1").text(), "0");
    assert_eq!(client.get("/products/2").text(), "1");
    let targets: Vec<_> = origin.requests().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/products/1", "/products/2", "/products/2"]);
    assert_eq!(proxy.metric_count("yatagarasu_upstream_errors_total"), 0);
}

#[test]
fn a_408_to_the_first_request_of_a_connection_is_a_response_like_others() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.respond("408 Request Timeout", &[("Connection", "close")], b"too slow");
    });
    let proxy = Proxy::in_front_of(&origin);
    let response = proxy.get("/products/x");
    assert_eq!((response.status, response.text()), (408, "too slow"));
    assert_eq!(origin.accepted(), 1);
}
