//! Frames that cost a client nothing, sent without end (RFC 9113 section 10.5): the connection is
//! told to calm down and ends, nothing is asked of S3 for it, and others are served meanwhile.

use super::{cleartext, proxy};
use crate::support::{
    http2_client::Http2Client,
    http2_frames::{
        ACK, CANCEL, COMPRESSION_ERROR, CONTINUATION, DATA, END_HEADERS, END_STREAM,
        ENHANCE_YOUR_CALM, FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, HEADERS, INITIAL_WINDOW, NO_ERROR,
        PING, PRIORITY, PROTOCOL_ERROR, REFUSED_STREAM, RST_STREAM, RawHttp2, SETTINGS,
        STREAM_CLOSED, WINDOW_UPDATE, fields, frame, get, request, settings, window_update,
    },
    proxy::Proxy,
    scripted_origin::ScriptedOrigin,
    waiting::wait_until,
};

/// Frames of a flood: more than any client has use for.
const FLOOD: u32 = 20_000;

/// Sends the frames of `flood` by the thousand until the peer takes no more, and returns the code
/// that it was told to go with. `begin` comes first.
#[track_caller]
fn flood(proxy: &Proxy, begin: &[u8], flood: impl Fn(u32) -> Vec<u8>) -> u32 {
    let mut client = RawHttp2::connect(proxy.address());
    client.send(begin);
    for from in (0..FLOOD).step_by(1_000) {
        let frames: Vec<u8> = (from..from + 1_000).flat_map(&flood).collect();
        if !client.try_send(frames) {
            break;
        }
    }
    client.expect_goaway()
}

/// A stream that stays open for its body.
fn open_stream() -> Vec<u8> {
    let post = [(":method", "POST"), (":scheme", "http"), (":authority", "a"), (":path", "/x")];
    frame(HEADERS, END_HEADERS, 1, fields(&post))
}

#[test]
fn floods_end_their_connection() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = proxy(&origin);
    let other = Http2Client::connect(proxy.address());
    let reset = CANCEL.to_be_bytes();
    for (what, begin, frames) in [
        ("PING", vec![], (|_| frame(PING, 0, 0, [0; 8])) as fn(u32) -> Vec<u8>),
        ("PING answers", vec![], |_| frame(PING, ACK, 0, [0; 8])),
        ("SETTINGS", vec![], |_| settings(&[(INITIAL_WINDOW, 65_535)])),
        ("empty SETTINGS", vec![], |_| settings(&[])),
        ("WINDOW_UPDATE", open_stream(), |_| window_update(1, 1)),
        ("WINDOW_UPDATE of the connection", vec![], |_| window_update(0, 1)),
        ("PRIORITY", vec![], |number| frame(PRIORITY, 0, 2 * number + 1, [0, 0, 0, 0, 16])),
        ("empty DATA", open_stream(), |_| frame(DATA, 0, 1, b"")),
        ("tiny DATA", open_stream(), |_| frame(DATA, 0, 1, b"x")),
        ("an unknown type", vec![], |_| frame(0xfa, 0xff, 0, b"")),
    ] {
        let code = flood(&proxy, &begin, frames);
        assert_eq!(code, ENHANCE_YOUR_CALM, "{what}");
        assert_eq!(other.get("/products/x").body, b"x", "{what}: others are served");
    }
    // Requests that are reset at once.
    let mut client = RawHttp2::connect(proxy.address());
    for number in 0..FLOOD {
        let stream = 2 * number + 1;
        let pair = [request(stream, "/products/reset"), frame(RST_STREAM, 0, stream, reset)];
        if !client.try_send(pair.concat()) {
            break;
        }
    }
    assert_eq!(client.expect_goaway(), ENHANCE_YOUR_CALM, "resets");
    let asked = origin.requests().iter().filter(|r| r.target.ends_with("/reset")).count();
    assert!(asked < 300, "S3 was asked for {asked} of {FLOOD} requests that were reset");
    assert!(proxy.metric("yatagarasu_http2_goaways_total{reason=\"flood\"}").unwrap() >= 11.0);
    assert_eq!(other.get("/products/x").body, b"x");
}

#[test]
fn s3_is_not_asked_for_what_was_reset_at_once() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = proxy(&origin);
    let mut client = RawHttp2::connect(proxy.address());
    let mut bytes = Vec::new();
    for number in 0..15_u32 {
        let stream = 2 * number + 1;
        bytes.extend(request(stream, "/products/reset"));
        bytes.extend(frame(RST_STREAM, 0, stream, CANCEL.to_be_bytes()));
    }
    bytes.extend(request(101, "/products/x"));
    client.send(bytes);
    assert_eq!(client.response(101), (Some(200), b"x".to_vec()));
    let asked: Vec<_> = origin.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(asked, ["/products/x"]);
    assert_eq!(proxy.metric("yatagarasu_http2_resets_total{reason=\"at_once\"}"), Some(15.0));
}

#[test]
fn a_client_may_answer_each_frame_of_a_stream_that_it_left_with_a_reset() {
    const LEFT: u32 = 5;
    let origin = ScriptedOrigin::serving(vec![b'x'; 1_048_576]);
    // So that twice as many resets are few.
    let config = cleartext(&origin).set("server.http2.max_concurrent_streams", 4);
    let proxy = Proxy::start(&config);
    let mut client = RawHttp2::with_settings(proxy.address(), &[(INITIAL_WINDOW, 1_048_576)]);
    client.send(window_update(0, 100 * 1_048_576));
    let reset = |stream| frame(RST_STREAM, 0, stream, CANCEL.to_be_bytes());
    for stream in (0..LEFT).map(|number| 2 * number + 1) {
        client.send(request(stream, "/products/x"));
        client.expect(DATA, stream);
        client.send(reset(stream).repeat(50));
        // All of them are looked at before the next request.
        client.send(frame(PING, 0, 0, stream.to_be_bytes().repeat(2)));
        while client.expect_frame(PING).payload != stream.to_be_bytes().repeat(2) {}
    }
    client.send(request(2 * LEFT + 1, "/products/x"));
    assert_eq!(client.response(2 * LEFT + 1).1.len(), 1_048_576);
}

#[test]
fn a_burst_of_requests_that_are_reset_is_a_flood_before_they_are_looked_at() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = proxy(&origin);
    let mut client = RawHttp2::connect(proxy.address());
    let bytes: Vec<u8> = (0..100_u32)
        .flat_map(|number| {
            let stream = 2 * number + 1;
            let reset = frame(RST_STREAM, 0, stream, CANCEL.to_be_bytes());
            [request(stream, "/products/reset"), reset].concat()
        })
        .collect();
    client.send(bytes);
    assert_eq!(client.expect_goaway(), ENHANCE_YOUR_CALM);
    assert!(origin.requests().len() < 25, "{}", origin.requests().len());
}

#[test]
fn a_field_section_without_end_is_refused() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = proxy(&origin);
    for (what, payload) in [("empty", vec![]), ("large", fields(&[("a", &"x".repeat(16_000))]))] {
        let mut client = RawHttp2::connect(proxy.address());
        client.send(frame(HEADERS, END_STREAM, 1, get("/products/x")));
        for _ in 0..FLOOD {
            if !client.try_send(frame(CONTINUATION, 0, 1, &payload)) {
                break;
            }
        }
        assert_eq!(client.expect_goaway(), ENHANCE_YOUR_CALM, "{what}");
    }
    assert_eq!(origin.requests().len(), 0);
}

#[test]
fn field_sections_that_mean_far_more_than_they_have_bytes_are_a_flood() {
    const INDEXED_NAME: [u8; 2] = [0x7e, 0];
    let origin = ScriptedOrigin::serving("x");
    let proxy = proxy(&origin);
    // A name that fills the table: 127 and 3,933, which are 30 times 128 and 93.
    let long = [&[0x40, 127, 0xdd, 30][..], &[b'a'; 4_060], &[0]].concat();
    let mut client = RawHttp2::connect(proxy.address());
    client.send(frame(HEADERS, 5, 1, [long.clone(), INDEXED_NAME.repeat(6_000)].concat()));
    assert_eq!(client.expect_goaway(), ENHANCE_YOUR_CALM, "one");
    // Each of these is a head that is too large, and is answered as that.
    let code = flood(&proxy, &frame(HEADERS, 5, 1, long), |number| {
        frame(HEADERS, 5, 2 * number + 3, INDEXED_NAME.repeat(30))
    });
    assert_eq!(code, ENHANCE_YOUR_CALM, "many");
    assert_eq!(origin.requests().len(), 0);
}

#[test]
fn more_streams_than_allowed_are_refused_and_too_many_of_them_end_the_connection() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.wait_closed();
    });
    let proxy = Proxy::start(&cleartext(&origin).set("server.http2.max_concurrent_streams", 3));
    let mut client = RawHttp2::connect(proxy.address());
    let announced = client.expect(SETTINGS, 0).payload;
    assert!(announced.chunks(6).any(|one| one == [0, 3, 0, 0, 0, 3]), "{announced:?}");
    for number in 0..4 {
        client.send(request(2 * number + 1, "/products/x"));
    }
    assert_eq!(client.expect_reset(7), REFUSED_STREAM);
    wait_until("the others", || origin.requests().len() == 3);
    for number in 4..2_000 {
        if !client.try_send(request(2 * number + 1, "/products/x")) {
            break;
        }
    }
    assert_eq!(client.expect_goaway(), ENHANCE_YOUR_CALM);
    origin.wait_open(0);
    assert_eq!(origin.requests().len(), 3);
}

#[test]
fn frames_that_are_wrong_end_the_connection_with_their_code() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = proxy(&origin);
    let too_wide = i32::MAX.unsigned_abs();
    for (what, code, bytes) in [
        ("a stream of the server", PROTOCOL_ERROR, request(2, "/products/x")),
        ("DATA on an idle stream", PROTOCOL_ERROR, frame(DATA, 0, 1, b"x")),
        ("a window of nothing", PROTOCOL_ERROR, window_update(0, 0)),
        (
            "a push",
            PROTOCOL_ERROR,
            [request(1, "/products/x"), frame(5, END_HEADERS, 1, [0, 0, 0, 2, 0x82])].concat(),
        ),
        ("CONTINUATION alone", PROTOCOL_ERROR, frame(CONTINUATION, END_HEADERS, 1, b"")),
        (
            "something between the parts of a section",
            PROTOCOL_ERROR,
            [frame(HEADERS, END_STREAM, 1, b"\x82"), frame(PING, 0, 0, [0; 8])].concat(),
        ),
        ("PING on a stream", PROTOCOL_ERROR, frame(PING, 0, 1, [0; 8])),
        (
            "an older stream",
            PROTOCOL_ERROR,
            [request(3, "/products/x"), request(1, "/products/x")].concat(),
        ),
        ("padding without end", PROTOCOL_ERROR, frame(HEADERS, 0x0d, 1, [200, 0x82])),
        ("a reset of no stream", PROTOCOL_ERROR, frame(RST_STREAM, 0, 1, [0; 4])),
        ("a push that is neither on nor off", PROTOCOL_ERROR, settings(&[(2, 2)])),
        ("frames that are too short", PROTOCOL_ERROR, settings(&[(5, 16_383)])),
        ("PING of 7 bytes", FRAME_SIZE_ERROR, frame(PING, 0, 0, [0; 7])),
        ("settings of 5 bytes", FRAME_SIZE_ERROR, frame(SETTINGS, 0, 0, [0; 5])),
        ("settings in an answer", FRAME_SIZE_ERROR, frame(SETTINGS, ACK, 0, [0; 6])),
        ("a window of 3 bytes", FRAME_SIZE_ERROR, frame(WINDOW_UPDATE, 0, 0, [0; 3])),
        ("a long frame", FRAME_SIZE_ERROR, frame(0xfa, 0, 0, vec![0; 16_385])),
        ("a window that is too wide", FLOW_CONTROL_ERROR, window_update(0, too_wide)),
        (
            "windows that are too wide",
            FLOW_CONTROL_ERROR,
            settings(&[(INITIAL_WINDOW, too_wide + 1)]),
        ),
        ("an index of no field", COMPRESSION_ERROR, frame(HEADERS, 5, 1, [0x80])),
    ] {
        let mut client = RawHttp2::connect(proxy.address());
        client.send(bytes);
        assert_eq!(client.expect_goaway(), code, "{what}");
    }
    // Something else than settings first, or than the preface.
    let mut client = RawHttp2::silent(proxy.address());
    client.send([crate::support::http2_frames::PREFACE, &frame(0, 0, 1, b"")].concat());
    assert_ne!(client.expect_goaway(), NO_ERROR);
}

#[test]
fn frames_that_a_stream_may_not_have_end_the_stream_only() {
    let origin = ScriptedOrigin::start(|conn, _| {
        while let Some(request) = conn.request() {
            if request.target.ends_with("/waits") {
                conn.wait_closed();
                return;
            }
            conn.respond("200 OK", &[], b"x");
        }
    });
    let proxy = proxy(&origin);
    let mut client = RawHttp2::connect(proxy.address());
    let too_wide = i32::MAX.unsigned_abs();
    for (number, (code, kind, flags, payload)) in [
        (STREAM_CLOSED, DATA, 0, b"x".to_vec()),
        (STREAM_CLOSED, HEADERS, END_HEADERS | END_STREAM, get("/products/x")),
        (PROTOCOL_ERROR, WINDOW_UPDATE, 0, vec![0; 4]),
        (FLOW_CONTROL_ERROR, WINDOW_UPDATE, 0, too_wide.to_be_bytes().to_vec()),
    ]
    .into_iter()
    .enumerate()
    {
        let stream = 2 * u32::try_from(number).unwrap() + 1;
        client.send(request(stream, "/products/waits"));
        client.send(frame(kind, flags, stream, payload));
        assert_eq!(client.expect_reset(stream), code, "{number}");
    }
    // A body that is longer than it was said to be, and one that is shorter.
    let post = [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/products/x"),
        ("content-length", "2"),
    ];
    for (stream, body) in [(11, "abc"), (13, "a")] {
        client.send(frame(HEADERS, END_HEADERS, stream, fields(&post)));
        client.send(frame(DATA, END_STREAM, stream, body));
        assert_eq!(client.expect_reset(stream), PROTOCOL_ERROR, "{body}");
    }
    // Padding and advice are no errors.
    let padded = [&[3, 0, 0, 0, 0, 16][..], &get("/products/x"), &[0; 3]].concat();
    client.send(frame(HEADERS, 0x2d, 15, padded));
    assert_eq!(client.response(15), (Some(200), b"x".to_vec()));
}

#[test]
fn a_client_that_pings_now_and_then_is_no_flood() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = proxy(&origin);
    let mut client = RawHttp2::connect(proxy.address());
    for number in 0..1_500_u32 {
        let payload = [number.to_be_bytes(), [0; 4]].concat();
        client.send(frame(PING, 0, 0, &payload));
        let answer = client.expect(PING, 0);
        assert_eq!((answer.flags, answer.payload), (ACK, payload));
    }
    client.send(request(1, "/products/x"));
    assert_eq!(client.response(1), (Some(200), b"x".to_vec()));
}
