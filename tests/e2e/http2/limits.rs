//! `server.max_connections` and the requests over HTTP/2 of the whole process: one over it is
//! refused before anything is done for it, and those in flight go on.

use super::cleartext;
use crate::support::{
    config::Config,
    gate::Gate,
    http2_frames::{
        ACK, CANCEL, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, PING,
        REFUSED_STREAM, RST_STREAM, RawHttp2, frame, get, request,
    },
    proxy::Proxy,
    scripted_origin::ScriptedOrigin,
    waiting::wait_until,
};

/// Requests that a client sends before it looks at the responses: fewer than it may have at a time,
/// so that none of them is an error.
const LOT: u32 = 100;

/// Responds with `x`, to requests under `/waits` once the gate is open.
fn waiting(gate: &Gate) -> ScriptedOrigin {
    let gate = gate.clone();
    ScriptedOrigin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target.ends_with("/waits") {
                conn.wait(&gate);
            }
            conn.respond("200 OK", &[], b"x");
        }
    })
}

fn limited(origin: &ScriptedOrigin, max_connections: usize) -> Config {
    cleartext(origin).set("server.max_connections", max_connections).with_admin_listener()
}

/// Connects and sends so many requests that wait, from stream 1 on.
fn holding(proxy: &Proxy, streams: u32) -> RawHttp2 {
    let mut client = RawHttp2::connect(proxy.address());
    client.send(lot(0, streams, "/products/waits"));
    client
}

/// The frames of so many requests, behind a number of others.
fn lot(begun: u32, count: u32, path: &str) -> Vec<u8> {
    (begun..begun + count).flat_map(|number| request(2 * number + 1, path)).collect()
}

/// Reads so many responses to their ends, in whatever order they come.
#[track_caller]
fn finish(client: &mut RawHttp2, mut responses: u32) {
    while responses > 0 {
        let frame = client.next().expect("a response before the end");
        assert!(frame.kind != GOAWAY && frame.kind != RST_STREAM, "{frame:?}");
        if frame.kind == HEADERS {
            assert_eq!(frame.status(), Some(200));
        }
        responses -= u32::from(frame.ends_stream());
    }
}

fn refused(proxy: &Proxy) -> Option<f64> {
    proxy.metric("yatagarasu_http2_resets_total{reason=\"limit\"}")
}

#[test]
fn a_request_over_the_limit_is_refused_and_those_in_flight_go_on() {
    let gate = Gate::default();
    let origin = waiting(&gate);
    let mut proxy = Proxy::start(&limited(&origin, 3));
    let (mut first, mut second) = (holding(&proxy, 2), holding(&proxy, 1));
    wait_until("three requests", || origin.requests().len() == 3);

    // Whose connection it is makes no difference, nor does a body.
    first.send(request(5, "/products/x"));
    assert_eq!(first.expect_reset(5), REFUSED_STREAM);
    second.send(frame(HEADERS, END_HEADERS, 3, get("/products/x")));
    second.send(frame(DATA, END_STREAM, 3, [b'a'; 1_000]));
    assert_eq!(second.expect_reset(3), REFUSED_STREAM);
    second.send(frame(PING, 0, 0, [1; 8]));
    assert_eq!(second.expect(PING, 0).flags, ACK, "the connection goes on");
    assert_eq!(refused(&proxy), Some(2.0));
    assert_eq!(proxy.metric("yatagarasu_http2_streams"), Some(3.0));
    assert_eq!(proxy.metric("yatagarasu_http2_requests_total"), Some(3.0));
    assert_eq!(origin.requests().len(), 3, "S3 was not asked");
    // Over HTTP/1 it is the connections that are counted, and this is the third.
    assert_eq!(proxy.get("/products/x").text(), "x");

    gate.open();
    finish(&mut first, 2);
    finish(&mut second, 1);
    wait_until("room", || proxy.metric("yatagarasu_http2_streams") == Some(0.0));
    first.send(request(7, "/products/x"));
    assert_eq!(first.response(7), (Some(200), b"x".to_vec()));
    assert_eq!(refused(&proxy), Some(2.0));
    assert_eq!(proxy.metric_sum("yatagarasu_http2_goaways_total").to_bits(), 0.0_f64.to_bits());

    drop((first, second));
    proxy.signal("TERM");
    assert_eq!(proxy.wait_exit().code(), Some(0));
    let served = proxy.complete_stdout().text().matches("\"/products/").count();
    assert_eq!(served, 5, "{}", proxy.stdout().text());
}

#[test]
fn a_full_proxy_is_no_fault_of_its_clients() {
    let gate = Gate::default();
    let origin = waiting(&gate);
    let proxy = Proxy::start(&limited(&origin, 3));
    let mut holder = holding(&proxy, 3);
    wait_until("three requests", || origin.requests().len() == 3);

    // More than a client may cause by errors of its own.
    let mut patient = RawHttp2::connect(proxy.address());
    for begun in (0..7 * LOT).step_by(LOT as usize) {
        patient.send(lot(begun, LOT, "/products/x"));
        assert_eq!(patient.expect_reset(2 * (begun + LOT) - 1), REFUSED_STREAM);
    }
    // One that never stops is told to, as with any other frame.
    assert_eq!(hammer(&proxy), ENHANCE_YOUR_CALM);
    assert_eq!(origin.requests().len(), 3, "S3 was not asked");

    gate.open();
    finish(&mut holder, 3);
    wait_until("room", || proxy.metric("yatagarasu_http2_streams") == Some(0.0));
    let next = 14 * LOT + 1;
    patient.send(request(next, "/products/x"));
    assert_eq!(patient.response(next), (Some(200), b"x".to_vec()));
}

/// Sends requests that are refused, over and over, and returns the code that it is told to go with.
#[track_caller]
fn hammer(proxy: &Proxy) -> u32 {
    let mut client = RawHttp2::connect(proxy.address());
    for begun in (0..200 * LOT).step_by(LOT as usize) {
        let last = 2 * (begun + LOT) - 1;
        if !client.try_send(lot(begun, LOT, "/products/x")) {
            return client.expect_goaway();
        }
        loop {
            let frame = client.next().expect("a reset or GOAWAY");
            if frame.kind == GOAWAY {
                return frame.numbers()[1];
            }
            if (frame.kind, frame.stream) == (RST_STREAM, last) {
                break;
            }
        }
    }
    panic!("it goes on for ever");
}

#[test]
fn the_requests_of_all_cores_count() {
    const MAX: u32 = 16;
    let gate = Gate::default();
    let origin = waiting(&gate);
    let config = limited(&origin, MAX as usize).set("server.threads", 2);
    let proxy = Proxy::start(&config);
    let mut holder = holding(&proxy, MAX);
    wait_until("all of them", || origin.requests().len() == MAX as usize);
    // The kernel spreads connections: of so many, one is on the other core.
    let mut others: Vec<_> = (1..MAX).map(|_| RawHttp2::connect(proxy.address())).collect();
    for other in &mut others {
        other.send(request(1, "/products/x"));
        assert_eq!(other.expect_reset(1), REFUSED_STREAM);
    }
    assert_eq!(refused(&proxy), Some(f64::from(MAX - 1)));
    assert_eq!(origin.requests().len(), MAX as usize);
    gate.open();
    finish(&mut holder, MAX);
    wait_until("room", || proxy.metric("yatagarasu_http2_streams") == Some(0.0));
    for other in &mut others {
        other.send(request(3, "/products/x"));
        assert_eq!(other.response(3), (Some(200), b"x".to_vec()));
    }
}

#[test]
fn a_request_that_is_reset_at_once_takes_no_place() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&limited(&origin, 1));
    let mut client = RawHttp2::connect(proxy.address());
    let reset = frame(RST_STREAM, 0, 1, CANCEL.to_be_bytes());
    client.send([request(1, "/products/reset"), reset, request(3, "/products/x")].concat());
    assert_eq!(client.response(3), (Some(200), b"x".to_vec()));
    assert_eq!(refused(&proxy), Some(0.0));
    assert_eq!(origin.only_request().target, "/products/x");
}
