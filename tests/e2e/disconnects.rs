//! Clients that go away, half or wholly, and what is freed, counted and logged then.

use crate::support::{
    config::Config,
    gate::Gate,
    proxy::Proxy,
    raw_client::{Client, End, request_bytes},
    scripted_origin::{FullQueue, ScriptedOrigin},
    waiting::wait_until,
};

/// An origin that answers when the gate opens.
fn gated(gate: &Gate) -> ScriptedOrigin {
    let held = gate.clone();
    ScriptedOrigin::start(move |conn, _| {
        while conn.request().is_some() {
            if conn.wait_or_closed(&held) {
                conn.respond("200 OK", &[], b"response");
            }
        }
    })
}

#[test]
fn a_client_abort_in_a_body_frees_the_upstream() {
    for reset in [false, true] {
        let origin = ScriptedOrigin::start(|conn, _| {
            conn.expect_request();
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
            while conn.try_send([0; 16_384]) {}
        });
        let proxy = Proxy::in_front_of(&origin);
        let mut client = proxy.client();
        client.send(request_bytes("GET", "/products/x", &[]));
        client.read_exactly(1_000_000);
        if reset {
            client.reset();
        } else {
            drop(client);
        }
        origin.wait_open_after_first(0);
        assert_eq!(proxy.get("/health").status, 200);
    }
}

#[test]
fn a_client_abort_before_the_response_frees_the_upstream() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.wait_closed();
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/x", &[]));
    wait_until("the request", || !origin.requests().is_empty());
    client.reset();
    origin.wait_open(0);
}

#[test]
fn a_client_that_finished_sending_still_gets_its_response() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        conn.expect_request();
        conn.wait(&held);
        conn.respond("200 OK", &[], b"late");
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/x", &[("Connection", "close")]));
    wait_until("the request to arrive", || !origin.requests().is_empty());
    gate.open();
    assert_eq!(client.response("GET").text(), "late");
    client.expect_end();
}

#[test]
fn a_client_that_closes_while_the_response_is_awaited_frees_the_upstream() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.wait_closed();
    });
    let proxy = Proxy::in_front_of(&origin);
    for reset in [false, true] {
        let before = origin.requests().len();
        let mut client = proxy.client();
        client.send(request_bytes("GET", "/products/x", &[]));
        wait_until("the request", || origin.requests().len() > before);
        if reset {
            client.reset();
        } else {
            drop(client);
        }
        origin.wait_open(0);
    }
    wait_until("both records", || proxy.stdout().records().len() == 2);
    for record in proxy.stdout().records() {
        assert_eq!(record["aborted"], true, "{record}");
        assert_eq!(record["status"], 0, "{record}");
    }
    let page = proxy.metrics();
    assert!(
        !page.lines().any(|line| {
            line.starts_with("yatagarasu_http_requests_total{bucket=\"products\"")
                && line.contains("2xx")
        }),
        "an aborted request is no success:\n{page}"
    );
    assert_eq!(
        proxy.metric_count("yatagarasu_upstream_errors_total"),
        0,
        "S3 did nothing wrong:\n{page}"
    );
    assert_eq!(proxy.metric_count("yatagarasu_upstream_connections"), 0);
}

#[test]
fn a_client_that_closes_while_connecting_frees_the_upstream() {
    let full = FullQueue::start();
    let config = Config::products(full.url()).set("buckets.0.s3.timeouts.connect", 60);
    let proxy = Proxy::start(&config);
    let before = proxy.open_fds();
    for reset in [false, true] {
        let mut client = proxy.client();
        client.send(request_bytes("GET", "/products/x", &[]));
        wait_until("both connections", || proxy.open_fds() >= before + 2);
        if reset {
            client.reset();
        } else {
            drop(client);
        }
        wait_until("both connections to be closed", || proxy.open_fds() <= before);
    }
}

#[test]
fn a_client_that_closes_in_a_stalled_body_frees_the_upstream_and_is_no_fault_of_s3() {
    for framing in [
        "Content-Length: 100\r\n\r\npart",
        "Content-Length: 100000000\r\n\r\npart",
        "Transfer-Encoding: chunked\r\n\r\n4\r\npart",
    ] {
        let origin = ScriptedOrigin::start(move |conn, _| {
            conn.expect_request();
            conn.send(format!("HTTP/1.1 200 OK\r\n{framing}"));
            conn.wait_closed();
        });
        let proxy = Proxy::in_front_of(&origin);
        let mut client = proxy.client();
        client.send(request_bytes("GET", "/products/x", &[]));
        client.head("GET").unwrap();
        client.read_exactly(4);
        drop(client);
        origin.wait_open(0);
        wait_until("the record", || proxy.stdout().records().len() == 1);
        assert_eq!(proxy.stdout().records()[0]["aborted"], true);
        assert_eq!(proxy.metric_count("yatagarasu_upstream_errors_total"), 0, "{framing}");
    }
}

#[test]
fn a_client_that_left_with_unread_bytes_behind_its_request_frees_the_upstream() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.wait_closed();
    });
    // Longer than these tests ever wait.
    let config = Config::products(origin.url()).set("buckets.0.s3.timeouts.first_byte", 60);
    let proxy = Proxy::start(&config);
    for half in [false, true] {
        let before = origin.requests().len();
        let mut client = proxy.client();
        client.send(request_bytes("GET", "/products/x", &[]));
        wait_until("the request", || origin.requests().len() > before);
        client.send(request_bytes("GET", "/products/next", &[]));
        // One that keeps its connection and ends its side is gone as well: it did not say that it
        // waits for this one response.
        client.finish_sending();
        if !half {
            drop(client);
        }
        origin.wait_open(0);
    }
    assert_eq!(proxy.metric_count("yatagarasu_upstream_errors_total"), 0);
}

#[test]
fn a_client_that_asks_for_one_response_may_finish_sending_and_wait_for_it() {
    let gate = Gate::default();
    let origin = gated(&gate);
    let proxy = Proxy::in_front_of(&origin);
    let mut last = proxy.client();
    last.send(request_bytes("GET", "/products/last", &[("Connection", "close")]));
    last.finish_sending();
    let mut old = proxy.client();
    old.send("GET /products/old HTTP/1.0\r\n\r\n");
    old.finish_sending();
    wait_until("two requests", || origin.requests().len() == 2);
    // When the end of this one's stream was noticed, theirs, which came before, was too.
    let mut gone = proxy.client();
    gone.send(request_bytes("GET", "/products/gone", &[]));
    wait_until("three requests", || origin.requests().len() == 3);
    drop(gone);
    origin.wait_open(2);
    gate.open();
    assert_eq!(last.response("GET").text(), "response");
    assert_eq!(old.response("GET").text(), "response");
}

#[test]
fn a_client_that_asked_for_the_end_is_not_waited_for() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::in_front_of(&origin);
    for request in [
        request_bytes("GET", "/products/x", &[("Connection", "close")]),
        b"GET /products/x HTTP/1.0\r\n\r\n".to_vec(),
        b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
            .to_vec(),
    ] {
        let mut client = proxy.client();
        client.send(request);
        client.response("GET");
        assert_eq!(client.expect_end(), End::Fin);
        // The client's side is still open. There is one worker, which has closed its own side
        // before it counts: only the connection that asks is left.
        assert_eq!(proxy.metric("yatagarasu_connections{state=\"active\"}"), Some(1.0));
    }
}

#[test]
fn the_tail_of_a_response_survives_bytes_that_nobody_reads() {
    const LENGTH: usize = 3 * 1_048_576;
    let origin = ScriptedOrigin::serving(vec![b'x'; LENGTH]);
    let proxy = Proxy::in_front_of(&origin);
    for surplus in ["GET /products/never HTTP/1.1\r\nHost: a\r\n\r\n", "\0garbage"] {
        let mut client = Client::connect_with_receive_buffer(proxy.address(), 16_384);
        client.send(request_bytes("GET", "/products/x", &[("Connection", "close")]));
        let response = client.head("GET").unwrap();
        client.send(surplus);
        let mut length = 0;
        let body = client.body(response.framing, &mut |bytes| length += bytes.len());
        assert_eq!((length, body), (LENGTH, Ok(())));
        assert_eq!(client.expect_end(), End::Fin);
    }
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn an_early_refusal_survives_a_body_that_goes_on_coming() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::in_front_of(&origin);
    for fields in [
        vec![("Content-Length", "1000000000")],
        vec![("Content-Length", "100000"), ("Connection", "close")],
        vec![("Content-Length", "100000"), ("Expect", "100-continue")],
    ] {
        let mut client = proxy.client();
        client.send(request_bytes("POST", "/products/x", &fields));
        // More than the sockets hold, so that a reset would be seen by the sender.
        for _ in 0..50 {
            client.send_if_open([b'x'; 2_000]);
        }
        let response = client.response("POST");
        assert_eq!(response.status, 405, "{response:?}");
        client.finish_sending_if_open();
        let (rest, _) = client.read_to_end();
        assert!(rest.is_empty());
    }
    assert_eq!(origin.accepted(), 0);
}
