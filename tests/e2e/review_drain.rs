//! Stopping, seen from connections that are neither idle nor in the middle of an answer.

use std::net::{SocketAddr, TcpStream};

use crate::support::{
    config::Config,
    gate::Gate,
    proxy::Proxy,
    raw_client::{Client, request_bytes},
    scripted_origin::ScriptedOrigin,
    token,
    waiting::wait_until,
};

#[track_caller]
fn wait_refused(address: SocketAddr) {
    wait_until("the listener to close", || TcpStream::connect(address).is_err());
}

#[test]
fn a_head_that_has_begun_is_finished_and_answered_when_stopping() {
    let origin = ScriptedOrigin::serving("answer");
    let mut proxy = Proxy::start(&Config::products(origin.url()));
    let mut fresh = proxy.client();
    let mut used = proxy.client();
    assert_eq!(used.get("/products/x").status, 200);
    let request = request_bytes("GET", "/products/x", &[]);
    let (start, rest) = request.split_at(20);
    for client in [&mut fresh, &mut used] {
        client.send(start);
    }
    // Whatever was sent before this answer has been taken in as well: the loop is one.
    assert_eq!(proxy.get("/health").status, 200);
    assert_eq!(proxy.get("/health").status, 200);
    proxy.signal("TERM");
    wait_refused(proxy.address());
    for client in [&mut fresh, &mut used] {
        client.send(rest);
        let answer = client.response("GET");
        assert_eq!(answer.text(), "answer");
        assert!(answer.says_close(), "{answer:?}");
        client.expect_end();
    }
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn pipelined_requests_are_answered_up_to_the_one_that_says_close() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        while conn.request().is_some() {
            conn.wait(&held);
            conn.respond("200 OK", &[], b"answer");
        }
    });
    let mut proxy = Proxy::start(&Config::products(origin.url()));
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/x", &[]).repeat(3));
    wait_until("the first request", || origin.requests().len() == 1);
    proxy.signal("TERM");
    wait_refused(proxy.address());
    gate.open();
    let answer = client.response("GET");
    assert_eq!(answer.text(), "answer");
    assert!(answer.says_close());
    let (rest, _) = client.read_to_end();
    assert!(rest.is_empty(), "nothing follows an answer that says close");
    assert_eq!(origin.requests().len(), 1);
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn an_admin_request_in_progress_is_answered_when_stopping() {
    let origin = ScriptedOrigin::serving("x");
    let config = Config::products(origin.url()).with_jwt(&[]).with_admin_listener();
    let admin = token::bearer(&token::for_role("admin"));
    for _ in 0..10 {
        let mut proxy = Proxy::start(&config);
        let mut client = Client::connect(proxy.admin_address());
        assert_eq!(client.get("/health").status, 200);
        client.send(request_bytes(
            "POST",
            "/admin/reload",
            &[("Authorization", &admin), ("Content-Length", "0")],
        ));
        proxy.signal("TERM");
        let answer = client.response("POST");
        assert!([200, 503].contains(&answer.status), "{answer:?}");
        assert_eq!(proxy.wait_exit().code(), Some(0));
    }
}

#[test]
fn a_connection_without_a_request_does_not_hold_up_the_stop() {
    let origin = ScriptedOrigin::serving("x");
    // Longer than these tests ever wait.
    let config = Config::products(origin.url())
        .set("server.timeouts.client_header", 60)
        .set("server.timeouts.drain", 300);
    for _ in 0..5 {
        let mut proxy = Proxy::start(&config);
        // Some are accepted before the listener closes, and some as it closes.
        let silent: Vec<_> = (0..300).map(|_| proxy.client()).collect();
        proxy.signal("TERM");
        assert_eq!(proxy.wait_exit().code(), Some(0));
        drop(silent);
    }
}
