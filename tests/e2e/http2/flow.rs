//! Flow control and time: a stream that is not read holds little and slows S3 down, others go on,
//! and a client that takes or says nothing for too long is given up.

use super::{cleartext, proxy};
use crate::support::{
    gate::Gate,
    http2_client::{Http2Client, get},
    http2_frames::{
        ACK, CANCEL, DATA, END_HEADERS, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, INITIAL_WINDOW,
        NO_ERROR, PING, RST_STREAM, RawHttp2, SETTINGS_TIMEOUT, fields, frame, request, settings,
        window_update,
    },
    proxy::Proxy,
    scripted_origin::ScriptedOrigin,
    waiting::wait_until,
};

const MIB: usize = 1_048_576;

/// Serves endless zeros under `/endless`, noting how many were taken, and `x` otherwise.
fn endless(taken: &std::sync::Arc<std::sync::atomic::AtomicUsize>) -> ScriptedOrigin {
    let taken = std::sync::Arc::clone(taken);
    ScriptedOrigin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if !request.target.contains("/endless") {
                conn.respond("200 OK", &[], b"x");
                continue;
            }
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
            while conn.try_send([0; 16_384]) {
                taken.fetch_add(16_384, std::sync::atomic::Ordering::SeqCst);
            }
            return;
        }
    })
}

/// Waits until a number above zero has stopped growing, and returns it.
fn wait_until_still(what: &str, number: impl Fn() -> usize) -> usize {
    let mut last = 0;
    wait_until(what, || {
        std::thread::park_timeout(std::time::Duration::from_millis(300));
        let now = number();
        std::mem::replace(&mut last, now) == now && now > 0
    });
    last
}

#[test]
fn a_stream_that_is_not_read_stops_s3_and_no_other_stream() {
    let taken = std::sync::Arc::default();
    let origin = endless(&taken);
    let proxy = proxy(&origin);
    let client = Http2Client::connect(proxy.address());
    assert_eq!(client.get("/products/x").body, b"x");
    let before = proxy.rss_kib();
    let stalled: Vec<_> = (0..10)
        .map(|_| {
            let response = client.start(get("/products/endless"), None);
            client.run(response).unwrap()
        })
        .collect();
    // The windows of the streams are those of the connection: what is left of that is for others.
    let last = wait_until_still("S3 to be slowed down", || {
        taken.load(std::sync::atomic::Ordering::SeqCst)
    });
    assert!(last < 64 * MIB, "S3 got rid of {last} bytes for streams that nobody reads");
    assert!(proxy.rss_kib() - before < 16 * 1_024, "from {before} to {} KiB", proxy.rss_kib());
    drop(stalled);
    assert_eq!(client.get("/products/x").body, b"x");
    wait_until("the stalled ones to be freed", || origin.open() <= 1);
}

#[test]
fn many_streams_that_are_not_read_hold_little_memory() {
    const STREAMS: u32 = 100;
    const STREAM_KIB_MAX: u64 = 64;
    let origin = ScriptedOrigin::start(|conn, _| {
        while let Some(request) = conn.request() {
            let length = if request.target.contains("/small") { 1 } else { 262_144 };
            conn.respond("200 OK", &[], &vec![b'x'; length]);
        }
    });
    // How much is read with a head depends on the objects before it.
    for before in ["/products/small", "/products/large"] {
        let proxy = proxy(&origin);
        for _ in 0..10 {
            assert_eq!(proxy.get(before).status, 200);
        }
        let kib = proxy.rss_kib();
        let mut client = RawHttp2::with_settings(proxy.address(), &[(INITIAL_WINDOW, 0)]);
        for number in 0..STREAMS {
            client.send(request(2 * number + 1, "/products/large"));
        }
        for _ in 0..STREAMS {
            client.expect_frame(HEADERS);
        }
        let held = proxy.rss_kib().saturating_sub(kib);
        assert!(held < u64::from(STREAMS) * STREAM_KIB_MAX, "{held} KiB after {before}");
        // Each goes on when it may.
        client.send(window_update(1, 262_144));
        let mut got = 0;
        while got < 65_535 {
            got += client.expect(DATA, 1).payload.len();
        }
    }
}

#[test]
fn streams_that_wait_for_their_heads_hold_little_memory() {
    const STREAMS: u32 = 120;
    const STREAM_KIB_MAX: u64 = 64;
    let origin = ScriptedOrigin::start(|conn, _| {
        while let Some(request) = conn.request() {
            if request.target.contains("/endless") {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
                while conn.try_send([0; 16_384]) {}
                return;
            }
            conn.respond("200 OK", &[], &vec![b'x'; 262_144]);
        }
    });
    let proxy = proxy(&origin);
    assert_eq!(proxy.get("/products/x").status, 200);
    let windows = [(INITIAL_WINDOW, i32::MAX.unsigned_abs())];
    let mut client = RawHttp2::with_receive_buffer(proxy.address(), 4_096, &windows);
    client.send([window_update(0, 1_000_000_000), request(1, "/products/endless")].concat());
    // One fills the socket, and the answers to PINGs leave no room for a head.
    let kib = || usize::try_from(proxy.rss_kib()).unwrap();
    wait_until_still("the memory", kib);
    client.send(frame(PING, 0, 0, [0; 8]).repeat(1_100));
    let before = wait_until_still("the memory", kib);
    for number in 1..STREAMS {
        client.send(request(2 * number + 1, "/products/x"));
    }
    wait_until("S3 to be asked", || origin.requests().len() == STREAMS as usize + 1);
    let held = wait_until_still("the memory", kib).saturating_sub(before);
    assert!(proxy.metric("yatagarasu_http2_streams") == Some(STREAMS.into()));
    assert!(held as u64 <= u64::from(STREAMS) * STREAM_KIB_MAX, "{held} KiB");
}

#[test]
fn a_body_ends_without_a_window_whatever_others_hold() {
    const OTHERS: u32 = 20;
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target.contains("/large") {
                conn.respond("200 OK", &[], &vec![b'x'; 262_144]);
                continue;
            }
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            conn.send("a\r\n0123456789\r\n");
            conn.wait(&held);
            conn.send("0\r\n\r\n");
        }
    });
    let proxy = proxy(&origin);
    let mut client = RawHttp2::with_settings(proxy.address(), &[(INITIAL_WINDOW, 10)]);
    for number in 1..=OTHERS {
        client.send(request(2 * number + 1, "/products/large"));
    }
    for _ in 0..OTHERS {
        assert_eq!(client.expect_frame(DATA).payload.len(), 10);
    }
    client.send(request(1_001, "/products/chunked"));
    assert_eq!(client.expect(DATA, 1_001).payload, b"0123456789");
    gate.open();
    let end = client.expect(DATA, 1_001);
    assert!(end.payload.is_empty() && end.ends_stream());
}

#[test]
fn a_stream_goes_on_while_another_has_no_window() {
    let taken = std::sync::Arc::default();
    let origin = endless(&taken);
    let proxy = proxy(&origin);
    // Each stream may get 1,000 bytes; the connection has its usual window.
    let mut client = RawHttp2::with_settings(proxy.address(), &[(INITIAL_WINDOW, 1_000)]);
    client.send(request(1, "/products/endless"));
    let mut got = 0;
    while got < 1_000 {
        got += client.expect(DATA, 1).payload.len();
    }
    assert_eq!(got, 1_000);
    client.send(request(3, "/products/x"));
    assert_eq!(client.response(3), (Some(200), b"x".to_vec()));
    client.send(window_update(1, 500));
    assert_eq!(client.expect(DATA, 1).payload.len(), 500);
}

#[test]
fn streams_share_the_window_of_the_connection_evenly() {
    const STREAMS: usize = 3;
    const UPDATE: usize = 32_768;
    // Less than a stream sends before it gives others their turn of its own accord.
    const TOTAL: usize = 3 * MIB / 4;
    let taken = std::sync::Arc::default();
    let origin = endless(&taken);
    let proxy = proxy(&origin);
    let windows = [(INITIAL_WINDOW, i32::MAX.unsigned_abs())];
    let mut client = RawHttp2::with_settings(proxy.address(), &windows);
    let mut has_begun = [false; STREAMS];
    let mut got = [0; STREAMS];
    for stream in [1, 3, 5] {
        client.send(request(stream, "/products/endless"));
    }
    let mut released = 0;
    while got.iter().sum::<usize>() < TOTAL {
        let part = client.expect_frame(DATA);
        let stream = part.stream as usize / 2;
        has_begun[stream] = true;
        // S3 may begin the last one long after the first.
        if has_begun == [true; STREAMS] {
            got[stream] += part.payload.len();
        }
        released += part.payload.len();
        if released >= UPDATE {
            // Clients widen the window of the stream first.
            client.send(window_update(part.stream, 1));
            client.send(window_update(0, u32::try_from(released).unwrap()));
            released = 0;
        }
    }
    assert!(got.iter().all(|bytes| *bytes > TOTAL / 8), "{got:?}");
}

#[test]
fn windows_of_any_size_bring_a_body_unchanged() {
    let body: Vec<u8> = (0..100_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let origin = ScriptedOrigin::serving(&body);
    let proxy = proxy(&origin);
    let mut client = RawHttp2::with_settings(proxy.address(), &[(INITIAL_WINDOW, 1)]);
    client.send(request(1, "/products/x"));
    let (mut got, mut increment) = (Vec::new(), 1);
    while got.len() < body.len() {
        let part = client.expect(DATA, 1);
        got.extend_from_slice(&part.payload);
        increment = (increment * 3) % 20_011;
        client.send(window_update(1, increment));
        client.send(window_update(0, u32::try_from(part.payload.len()).unwrap()));
    }
    assert!(got == body);
}

/// A body of which no part is like another.
fn body(seed: usize, length: usize) -> Vec<u8> {
    let word = |at: usize| {
        (at as u64 + ((seed as u64) << 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
    };
    (0..length / 8).flat_map(word).collect()
}

#[test]
fn bodies_are_unchanged_when_the_socket_was_full() {
    // More than a socket takes of a client that does not read (`net.ipv4.tcp_wmem`).
    const LENGTH: usize = 12 * MIB;
    const STREAMS: u32 = 3;
    let sent = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = std::sync::Arc::clone(&sent);
    let origin = ScriptedOrigin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            let seed = request.target.rsplit('/').next().unwrap().parse().unwrap();
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
            for part in body(seed, LENGTH).chunks(10_007) {
                conn.send(part);
                count.fetch_add(part.len(), std::sync::atomic::Ordering::SeqCst);
            }
        }
    });
    let proxy = proxy(&origin);
    let windows = [(INITIAL_WINDOW, i32::MAX.unsigned_abs())];
    let mut client = RawHttp2::with_receive_buffer(proxy.address(), 16_384, &windows);
    client.send(window_update(0, 1_000_000_000));
    for number in 0..STREAMS {
        client.send(request(2 * number + 1, &format!("/products/{}", 2 * number + 1)));
    }
    wait_until_still("S3 to be slowed down", || sent.load(std::sync::atomic::Ordering::SeqCst));
    let mut bodies = vec![Vec::new(); 2 * STREAMS as usize];
    let mut ended = 0;
    while ended < STREAMS {
        let frame = client.next().expect("the rest of the bodies");
        if frame.kind == DATA {
            bodies[frame.stream as usize].extend_from_slice(&frame.payload);
        }
        ended += u32::from(frame.ends_stream());
    }
    for number in 0..STREAMS {
        let stream = 2 * number as usize + 1;
        assert!(bodies[stream] == body(stream, LENGTH), "the body of stream {stream} differs");
    }
}

#[test]
fn a_stream_that_takes_nothing_is_reset_and_the_connection_goes_on() {
    let taken = std::sync::Arc::default();
    let origin = endless(&taken);
    let proxy = Proxy::start(&cleartext(&origin).set("server.timeouts.client_write", 0.2));
    let mut client = RawHttp2::with_settings(proxy.address(), &[(INITIAL_WINDOW, 100)]);
    client.send(request(1, "/products/endless"));
    assert_eq!(client.expect_reset(1), CANCEL);
    origin.wait_open_after_first(0);
    assert_eq!(proxy.metric("yatagarasu_http2_resets_total{reason=\"stalled\"}"), Some(1.0));
    client.send(request(3, "/products/x"));
    assert_eq!(client.response(3), (Some(200), b"x".to_vec()));
}

/// Streams that wait for a client which gives them nothing, or next to nothing.
const WAITING: [u32; 3] = [1, 3, 5];

#[test]
fn nothing_but_a_frame_of_body_puts_the_end_of_a_stream_off() {
    const ROUNDS: u32 = 500;
    let wide = i32::MAX.unsigned_abs();
    let taken = std::sync::Arc::default();
    let origin = endless(&taken);
    let proxy = Proxy::start(&cleartext(&origin).set("server.timeouts.client_write", 0.5));
    for (what, window, frames) in [
        ("PING", wide, (|_| Vec::new()) as fn(u32) -> Vec<u8>),
        ("a byte for all", wide, |_| window_update(0, 1)),
        ("a byte for each", 100, |_| WAITING.map(|stream| window_update(stream, 1)).concat()),
        ("windows that come and go", wide, |round| {
            settings(&[(INITIAL_WINDOW, (round % 2) * i32::MAX.unsigned_abs())])
        }),
    ] {
        let mut client = RawHttp2::with_settings(proxy.address(), &[(INITIAL_WINDOW, window)]);
        for stream in WAITING {
            client.send(request(stream, "/products/endless"));
        }
        let room = if window == wide { 65_535 } else { 300 };
        let mut got = 0;
        while got < room {
            got += client.expect_frame(DATA).payload.len();
        }
        let mut resets = Vec::new();
        for round in 0..ROUNDS {
            client.send([frames(round), frame(PING, 0, 0, round.to_be_bytes().repeat(2))].concat());
            loop {
                let frame = client.next().unwrap_or_else(|| panic!("{what}: the end"));
                match frame.kind {
                    RST_STREAM => resets.push((frame.stream, frame.numbers()[0])),
                    PING if frame.flags == ACK => break,
                    _ => {}
                }
            }
            if resets.len() == WAITING.len() {
                break;
            }
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
        resets.sort_unstable();
        assert_eq!(resets, WAITING.map(|stream| (stream, CANCEL)), "{what}");
    }
    origin.wait_open_after_first(0);
}

#[test]
fn streams_that_share_what_a_slow_client_takes_go_on() {
    // For twice the time that it has, so little that none of them gets a frame in it.
    const STREAMS: u32 = 30;
    const ROUNDS: u32 = 200;
    let taken = std::sync::Arc::default();
    let origin = endless(&taken);
    let proxy = Proxy::start(&cleartext(&origin).set("server.timeouts.client_write", 2));
    let windows = [(INITIAL_WINDOW, i32::MAX.unsigned_abs())];
    let mut client = RawHttp2::with_settings(proxy.address(), &windows);
    for number in 0..STREAMS {
        client.send(request(2 * number + 1, "/products/endless"));
    }
    let (mut room, mut got) = (65_535, 0);
    for _ in 0..ROUNDS {
        while got < room {
            let frame = client.next().expect("bodies");
            assert_ne!(frame.kind, RST_STREAM, "{frame:?} after {got} bytes");
            got += if frame.kind == DATA { frame.payload.len() } else { 0 };
        }
        std::thread::park_timeout(std::time::Duration::from_millis(20));
        client.send(window_update(0, 2_048));
        room += 2_048;
    }
}

#[test]
fn a_stream_goes_on_as_long_as_a_slow_client_takes_what_waits_in_the_kernel() {
    // For twice the time that it has, less than the kernel waits for before it asks for more.
    const ROUNDS: usize = 80;
    let taken = std::sync::Arc::default();
    let origin = endless(&taken);
    let proxy = Proxy::start(&cleartext(&origin).set("server.timeouts.client_write", 2));
    let windows = [(INITIAL_WINDOW, i32::MAX.unsigned_abs())];
    let mut client = RawHttp2::with_receive_buffer(proxy.address(), 16_384, &windows);
    client.send(window_update(0, 1_000_000_000));
    client.send(request(1, "/products/endless"));
    for _ in 0..ROUNDS {
        client.expect(DATA, 1);
        std::thread::park_timeout(std::time::Duration::from_millis(60));
    }
    assert_eq!(proxy.metric("yatagarasu_http2_resets_total{reason=\"stalled\"}"), Some(0.0));
}

#[test]
fn a_stream_goes_on_as_long_as_a_slow_client_takes_what_its_window_had_room_for() {
    // It opens the window once it has received half of it, which takes longer than the time.
    const WINDOW: u32 = 262_144;
    let taken = std::sync::Arc::default();
    let origin = endless(&taken);
    let proxy = Proxy::start(&cleartext(&origin).set("server.timeouts.client_write", 1.5));
    let windows = [(INITIAL_WINDOW, WINDOW)];
    let mut client = RawHttp2::with_receive_buffer(proxy.address(), 16_384, &windows);
    client.send(window_update(0, 1_000_000_000));
    client.send(request(1, "/products/endless"));
    let (mut got, mut owed) = (0, 0);
    while got < WINDOW as usize + 65_536 {
        let length = client.expect(DATA, 1).payload.len();
        got += length;
        owed += u32::try_from(length).unwrap();
        if owed >= WINDOW / 2 {
            client.send(window_update(1, std::mem::take(&mut owed)));
        }
        std::thread::park_timeout(std::time::Duration::from_millis(400));
    }
    assert_eq!(proxy.metric("yatagarasu_http2_resets_total{reason=\"stalled\"}"), Some(0.0));
}

#[test]
fn the_end_of_a_connection_waits_for_what_a_slow_client_still_takes() {
    const LENGTH: usize = 2 * MIB;
    let origin = ScriptedOrigin::serving(vec![b'x'; LENGTH]);
    let proxy = Proxy::start(&cleartext(&origin).set("server.timeouts.client_idle", 1));
    let windows = [(INITIAL_WINDOW, i32::MAX.unsigned_abs())];
    let mut client = RawHttp2::with_receive_buffer(proxy.address(), 65_536, &windows);
    client.send(window_update(0, 1_000_000_000));
    client.send(request(1, "/products/x"));
    let mut got = 0;
    while got < LENGTH {
        got += client.expect_of_body(1).payload.len();
        // What it sends must not meet a closed socket.
        client.try_send(frame(PING, 0, 0, [0; 8]));
        std::thread::park_timeout(std::time::Duration::from_millis(40));
    }
    assert_eq!(got, LENGTH);
}

#[test]
fn a_client_that_reads_nothing_at_all_is_given_up() {
    let taken = std::sync::Arc::default();
    let origin = endless(&taken);
    let proxy = Proxy::start(&cleartext(&origin).set("server.timeouts.client_write", 0.2));
    let windows = [(INITIAL_WINDOW, i32::MAX.unsigned_abs())];
    let mut client = RawHttp2::with_receive_buffer(proxy.address(), 4_096, &windows);
    client.send(window_update(0, 1_000_000_000));
    client.send(request(1, "/products/endless"));
    origin.wait_open_after_first(0);
    wait_until("the connection to be gone", || {
        proxy.metric("yatagarasu_client_connections{protocol=\"http2\"}") == Some(0.0)
    });
}

#[test]
fn an_idle_connection_ends_although_it_pings() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&cleartext(&origin).set("server.timeouts.client_idle", 0.5));
    let mut client = RawHttp2::connect(proxy.address());
    client.send(request(1, "/products/x"));
    assert_eq!(client.response(1), (Some(200), b"x".to_vec()));
    client.send(frame(PING, 0, 0, [7; 8]));
    assert_eq!(client.expect(PING, 0).flags, ACK);
    assert_eq!(client.expect_goaway(), NO_ERROR);
    assert_eq!(proxy.metric("yatagarasu_http2_goaways_total{reason=\"idle\"}"), Some(1.0));
}

/// Pings of which a part is under way whenever the rest has been read: the first `cut` bytes, or
/// those of the next one behind the rest if `overlaps`. Returns the code of the GOAWAY with this
/// number.
#[track_caller]
pub(super) fn ping_in_pieces(
    client: &mut RawHttp2,
    (cut, overlaps): (usize, bool),
    goaway: usize,
) -> u32 {
    const ROUNDS: usize = 500;
    let ping = frame(PING, 0, 0, [7; 8]);
    let (first, rest) = ping.split_at(cut);
    let mut told = 0;
    client.send(first);
    for _ in 0..ROUNDS {
        std::thread::park_timeout(std::time::Duration::from_millis(20));
        if overlaps {
            client.try_send([rest, first].concat());
        } else {
            client.try_send(rest);
        }
        let frame = client.next().expect("GOAWAY before the end");
        told += usize::from(frame.kind == GOAWAY);
        if told == goaway {
            return frame.numbers()[1];
        }
        if !overlaps {
            std::thread::park_timeout(std::time::Duration::from_millis(20));
            client.try_send(first);
        }
    }
    panic!("not told to go");
}

/// Where pings are cut: within the head of the frame, behind it, and so that there is always a part
/// of one.
pub(super) const PIECES: [(usize, bool); 3] = [(3, false), (12, false), (3, true)];

#[test]
fn an_idle_connection_ends_although_it_pings_in_pieces() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&cleartext(&origin).set("server.timeouts.client_idle", 2));
    for pieces in PIECES {
        let mut client = RawHttp2::connect(proxy.address());
        client.send(request(1, "/products/x"));
        assert_eq!(client.response(1), (Some(200), b"x".to_vec()));
        assert_eq!(ping_in_pieces(&mut client, pieces, 1), NO_ERROR, "{pieces:?}");
    }
    assert_eq!(proxy.metric("yatagarasu_http2_goaways_total{reason=\"idle\"}"), Some(3.0));
}

#[test]
fn a_request_that_begins_in_time_has_the_time_of_any_head() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&cleartext(&origin).set("server.timeouts.client_idle", 2));
    let whole = request(1, "/products/x");
    let mut client = RawHttp2::connect(proxy.address());
    client.send(&whole[..12]);
    // Another one, to see that so much time has passed.
    let mut idle = RawHttp2::connect(proxy.address());
    assert_eq!(idle.expect_goaway(), NO_ERROR);
    client.send(&whole[12..]);
    assert_eq!(client.response(1), (Some(200), b"x".to_vec()));
}

#[test]
fn a_connection_with_a_stream_is_not_idle() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        while conn.request().is_some() {
            conn.wait(&held);
            conn.respond("200 OK", &[], b"late");
        }
    });
    let proxy = Proxy::start(&cleartext(&origin).set("server.timeouts.client_idle", 0.2));
    let mut client = RawHttp2::connect(proxy.address());
    client.send(request(1, "/products/x"));
    // Another one, to see that so much time has passed.
    let mut idle = RawHttp2::connect(proxy.address());
    assert_eq!(idle.expect_goaway(), NO_ERROR);
    gate.open();
    assert_eq!(client.response(1), (Some(200), b"late".to_vec()));
}

#[test]
fn the_time_of_a_field_section_goes_on_while_the_client_takes_nothing() {
    const FRAMES: u32 = 3_000;
    let taken = std::sync::Arc::default();
    let origin = endless(&taken);
    let proxy = Proxy::start(&cleartext(&origin).set("server.timeouts.client_header", 1.0));
    let windows = [(INITIAL_WINDOW, i32::MAX.unsigned_abs())];
    let mut client = RawHttp2::with_receive_buffer(proxy.address(), 16_384, &windows);
    client.send(window_update(0, 1_000_000_000));
    client.send(request(1, "/products/endless"));
    client.expect(DATA, 1);
    client.send(frame(HEADERS, 0, 3, b""));
    // The socket is full again and again.
    let mut told = None;
    for _ in 0..FRAMES {
        let frame = client.next().expect("GOAWAY before the end");
        if frame.kind == GOAWAY {
            told = Some(frame.numbers()[1]);
            break;
        }
        std::thread::park_timeout(std::time::Duration::from_millis(2));
    }
    assert_eq!(told, Some(ENHANCE_YOUR_CALM));
}

#[test]
fn what_is_begun_must_be_completed_in_time() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&cleartext(&origin).set("server.timeouts.client_header", 1.0));
    // Half a preface is half a head of HTTP/1.
    let mut client = proxy.client();
    client.send("PRI * HT");
    assert_eq!(client.response("PRI").status, 408);
    // No settings.
    let mut client = RawHttp2::silent(proxy.address());
    client.send(crate::support::http2_frames::PREFACE);
    assert_eq!(client.expect_goaway(), SETTINGS_TIMEOUT);
    // A field section that goes on in a frame that does not come.
    let mut client = RawHttp2::connect(proxy.address());
    client.send(frame(HEADERS, 0, 1, b""));
    assert_eq!(client.expect_goaway(), ENHANCE_YOUR_CALM);
    // One of which a byte comes now and then, for longer than the connection is there.
    let mut client = RawHttp2::connect(proxy.address());
    let whole = request(1, &format!("/products/{}", "x".repeat(1_500)));
    let mut bytes = whole.iter();
    while client.try_send([*bytes.next().expect("the end before that of its time")]) {
        std::thread::park_timeout(std::time::Duration::from_millis(10));
    }
    assert_eq!(client.expect_goaway(), ENHANCE_YOUR_CALM);
    // A body: the stream only.
    let mut client = RawHttp2::connect(proxy.address());
    let with_body = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "a"),
        (":path", "/products/x"),
        ("content-length", "5"),
    ];
    client.send(frame(HEADERS, END_HEADERS, 1, fields(&with_body)));
    client.send(frame(DATA, 0, 1, b"some"));
    client.expect(HEADERS, 1);
    client.send(request(3, "/products/x"));
    assert_eq!(client.response(3), (Some(200), b"x".to_vec()));
    assert_eq!(origin.requests().len(), 1);
}
