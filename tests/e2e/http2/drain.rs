//! The end of the process over HTTP/2: two GOAWAYs, streams finish, and what does not is cut.

use super::{
    cleartext,
    flow::{PIECES, ping_in_pieces},
    proxy,
};
use crate::support::{
    gate::Gate,
    http2_client::{self, Http2Client},
    http2_frames::{
        ACK, DATA, END_HEADERS, GOAWAY, HEADERS, NO_ERROR, PING, RST_STREAM, RawHttp2, frame, get,
        request, window_update,
    },
    proxy::Proxy,
    scripted_origin::ScriptedOrigin,
    waiting::{wait_refused, wait_until},
};

/// Answers when the gate opens.
fn gated(gate: &Gate) -> ScriptedOrigin {
    let held = gate.clone();
    ScriptedOrigin::start(move |conn, _| {
        while conn.request().is_some() {
            conn.wait(&held);
            conn.respond("200 OK", &[], b"late");
        }
    })
}

#[test]
fn a_client_is_told_twice_and_its_streams_finish() {
    let gate = Gate::default();
    let origin = gated(&gate);
    let mut proxy = proxy(&origin);
    let mut client = RawHttp2::connect(proxy.address());
    client.send(request(1, "/products/a"));
    wait_until("the request", || origin.requests().len() == 1);
    proxy.signal("TERM");
    let first = client.expect_frame(GOAWAY);
    assert_eq!(first.numbers(), [i32::MAX.unsigned_abs(), NO_ERROR]);
    // One that was on its way is served too.
    client.send(request(3, "/products/b"));
    let ping = client.expect(PING, 0);
    client.send(frame(PING, ACK, 0, &ping.payload));
    let second = client.expect_frame(GOAWAY);
    assert_eq!(second.numbers(), [3, NO_ERROR]);
    // One that comes later is passed over, with all that belongs to it.
    client.send(frame(HEADERS, END_HEADERS, 5, get("/products/c")));
    client.send(frame(DATA, 0, 5, b"x"));
    client.send(window_update(5, 1));
    client.send(frame(RST_STREAM, 0, 5, [0; 4]));
    client.send(frame(PING, 0, 0, [7; 8]));
    assert_eq!(client.expect(PING, 0).payload, [7; 8]);
    gate.open();
    let mut bodies = Vec::new();
    while let Some(frame) = client.next() {
        if frame.kind == 0 {
            bodies.push((frame.stream, frame.payload));
        }
    }
    bodies.sort();
    assert_eq!(bodies, [(1, b"late".to_vec()), (3, b"late".to_vec())]);
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn a_client_that_answers_nothing_and_goes_on_asking_is_told_all_the_same() {
    const ROUNDS: u32 = 500;
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target.ends_with("/held") {
                conn.wait(&held);
            }
            conn.respond("200 OK", &[], b"x");
        }
    });
    let config = cleartext(&origin).set("server.timeouts.drain_idle", 2);
    let mut proxy = Proxy::start(&config.set("server.timeouts.drain", 60));
    let mut client = RawHttp2::connect(proxy.address());
    client.send(request(1, "/products/held"));
    wait_until("the request", || origin.requests().len() == 1);
    proxy.signal("TERM");
    let first = client.expect_frame(GOAWAY);
    assert_eq!(first.numbers(), [i32::MAX.unsigned_abs(), NO_ERROR]);
    let (mut served, mut asked, mut told) = (0, 0, None);
    while told.is_none() {
        asked += 1;
        assert!(asked < ROUNDS, "{served} of {asked} requests were served");
        client.send(request(2 * asked + 1, "/products/x"));
        while served < asked && told.is_none() {
            let frame = client.next().expect("a response or GOAWAY");
            served += u32::from(frame.ends_stream());
            told = (frame.kind == GOAWAY).then(|| frame.numbers());
        }
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    assert!(served > 0, "what comes at once is served");
    let told = told.unwrap();
    assert!([2 * served + 1, 2 * asked + 1].contains(&told[0]), "{told:?} after {served}");
    // What comes later is not.
    client.send(request(2 * asked + 3, "/products/late"));
    client.send(frame(PING, 0, 0, [7; 8]));
    assert_eq!(client.expect(PING, 0).payload, [7; 8]);
    gate.open();
    assert_eq!(client.response(1), (Some(200), b"x".to_vec()));
    assert_eq!(proxy.wait_exit().code(), Some(0));
    assert!(origin.requests().iter().all(|request| !request.target.ends_with("/late")));
}

#[test]
fn a_well_behaved_client_sees_an_orderly_end() {
    let gate = Gate::default();
    let origin = gated(&gate);
    let mut proxy = proxy(&origin);
    let client = Http2Client::connect(proxy.address());
    let response = client.start(http2_client::get("/products/x"), None);
    client.run(async {
        while origin.requests().is_empty() {
            tokio::task::yield_now().await;
        }
    });
    proxy.signal("TERM");
    wait_refused(proxy.address());
    gate.open();
    assert_eq!(client.finish(response).unwrap().body, b"late");
    assert!(client.expect_end().is_ok());
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn idle_connections_do_not_hold_up_the_end() {
    let origin = ScriptedOrigin::serving("x");
    let mut proxy = proxy(&origin);
    let mut used = RawHttp2::connect(proxy.address());
    used.send(request(1, "/products/x"));
    assert_eq!(used.response(1).0, Some(200));
    let mut unused = RawHttp2::connect(proxy.address());
    unused.expect(4, 0);
    proxy.signal("TERM");
    // Neither answers the ping that asks whether it has heard.
    assert_eq!(used.expect_goaway(), NO_ERROR);
    assert_eq!(unused.expect_goaway(), NO_ERROR);
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn pings_in_pieces_do_not_hold_up_the_end() {
    let origin = ScriptedOrigin::serving("x");
    for pieces in PIECES {
        let config = cleartext(&origin).set("server.timeouts.drain_idle", 0.5);
        let mut proxy = Proxy::start(&config.set("server.timeouts.drain", 60));
        let mut client = RawHttp2::connect(proxy.address());
        client.send(request(1, "/products/x"));
        assert_eq!(client.response(1).0, Some(200));
        proxy.signal("TERM");
        assert_eq!(ping_in_pieces(&mut client, pieces, 2), NO_ERROR, "{pieces:?}");
        assert_eq!(proxy.wait_exit().code(), Some(0));
    }
}

#[test]
fn what_does_not_finish_within_the_drain_time_is_cut() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
        conn.wait_closed();
    });
    let mut proxy = Proxy::start(&cleartext(&origin).set("server.timeouts.drain", 0.3));
    let mut client = RawHttp2::connect(proxy.address());
    client.send(request(1, "/products/x"));
    assert_eq!(client.expect(0, 1).payload, b"first");
    proxy.signal("TERM");
    while let Some(frame) = client.next() {
        assert!(!frame.ends_stream(), "it would look whole");
    }
    assert_eq!(proxy.wait_exit().code(), Some(0));
    let records = proxy.complete_stdout().records();
    assert_eq!((records.len(), &records[0]["aborted"]), (1, &true.into()));
}
