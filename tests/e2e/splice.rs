//! Bodies from 48 KiB on, which the kernel moves from socket to socket, and the heads before them,
//! of which little is read at once.
//!
//! The proxy expects a large object where the first one of the endpoint was large, or the last two,
//! so each test gets large ones first. Configurations have one worker, which has seen them.

use std::{
    collections::HashMap,
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::support::{
    config::Config,
    gate::Gate,
    proxy::Proxy,
    raw_client::{Client, End, request_bytes},
    scripted_origin::{OriginConnection, ScriptedOrigin, response_bytes},
    waiting::wait_until,
};

/// Length of the large object, in bytes.
const LARGE: usize = 65_536;

/// Bytes that the proxy reads at once of a head where it expects a large object.
const HEAD_READ: usize = 4_096;

/// Bytes left of a body from which on the proxy splices it.
const LEFT_TO_SPLICE: usize = 32_768;

/// A body of so many bytes, no part of which is like another.
fn object(length: usize) -> Vec<u8> {
    let mut word = length as u64;
    let mut body = Vec::with_capacity(length + 8);
    while body.len() < length {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        body.extend_from_slice(&word.to_be_bytes());
    }
    body.truncate(length);
    body
}

/// An origin that has a large object, and responds to other names as told.
fn origin(respond: impl Fn(&mut OriginConnection, &str) + Send + Sync + 'static) -> ScriptedOrigin {
    ScriptedOrigin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            match request.target.strip_prefix("/products/") {
                Some("large") => conn.respond("200 OK", &[], &object(LARGE)),
                name => respond(conn, name.expect("the name of an object")),
            }
        }
    })
}

/// Gets the large object. Where it is the first one the next is expected to be large.
#[track_caller]
fn get_large(client: &mut Client) {
    let response = client.get("/products/large");
    assert!(response.body == object(LARGE), "{:?}", response.fields);
}

/// Gets the large object twice, so that the next one is expected to be large whatever came before.
#[track_caller]
fn expect_large(client: &mut Client) {
    get_large(client);
    get_large(client);
}

/// Ways to send a response.
const WAYS: [&str; 2] = ["whole", "parts"];

/// Sends bytes in one part, or in parts whose ends are nowhere in particular.
fn send(conn: &mut OriginConnection, way: &str, bytes: &[u8]) {
    match way {
        "whole" => conn.send(bytes),
        "parts" => bytes.chunks(1_733).for_each(|part| conn.send(part)),
        other => panic!("{other}"),
    }
}

/// The access log has these lines: the bytes of each, and whether it was aborted.
#[track_caller]
fn assert_logged(proxy: &Proxy, expected: &[(usize, bool)]) {
    wait_until("a line of each", || proxy.stdout().records().len() >= expected.len());
    let records = proxy.stdout().records();
    let logged: Vec<_> =
        records.iter().map(|line| (line["bytes"].as_u64(), line["aborted"].as_bool())).collect();
    let expected: Vec<_> =
        expected.iter().map(|(bytes, aborted)| (Some(*bytes as u64), Some(*aborted))).collect();
    assert_eq!(logged, expected);
}

/// Descriptors of pipes that the proxy holds. It keeps those that bodies went through.
fn pipe_ends(proxy: &Proxy) -> usize {
    let all = fs::read_dir(format!("/proc/{}/fd", proxy.pid())).unwrap();
    let targets = all.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
    targets.filter(|target| target.to_string_lossy().starts_with("pipe:")).count()
}

#[test]
fn bodies_of_all_lengths_come_whole_over_one_connection() {
    let origin = origin(|conn, name| {
        let (way, length) = name.split_once('/').unwrap();
        let body = object(length.parse().unwrap());
        send(conn, way, &response_bytes("200 OK", &[], &body));
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    let pipe_ends_before = pipe_ends(&proxy);
    // Where as much as is read with the head leaves one byte less than is spliced, and so on.
    let head = response_bytes("200 OK", &[], &object(LEFT_TO_SPLICE)).len() - LEFT_TO_SPLICE;
    let edges = [LEFT_TO_SPLICE + HEAD_READ - head, 49_152, 65_536, 262_144, 524_288];
    let mut lengths = vec![100_000, 200_000, 307_200];
    lengths.extend(edges.iter().flat_map(|edge| [edge - 1, *edge, edge + 1]));
    let mut logged = Vec::new();
    for way in WAYS {
        for length in &lengths {
            expect_large(&mut client);
            let response = client.get(&format!("/products/{way}/{length}"));
            assert!(response.body == object(*length), "{length} bytes in {way}");
            logged.extend([(LARGE, false), (LARGE, false), (*length, false)]);
        }
    }
    assert_logged(&proxy, &logged);
    assert_eq!(origin.accepted(), 1);
    assert_eq!(pipe_ends(&proxy), pipe_ends_before + 2, "all went through one pipe");
}

/// A head of so many bytes before a large body, with the value of the field that fills it.
fn head_of(bytes: usize) -> (String, String) {
    let start = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\nx-amz-meta-padding: ");
    let padding: String = ('a'..='z').cycle().take(bytes - start.len() - 4).collect();
    (format!("{start}{padding}\r\n\r\n"), padding)
}

/// Interim responses by name.
fn interim(name: &str) -> String {
    let link =
        |bytes| format!("HTTP/1.1 103 Early Hints\r\nLink: </{}>\r\n\r\n", "l".repeat(bytes));
    match name {
        "none" => String::new(),
        "short" => link(100),
        "long" => link(5_000),
        "two" => link(100) + &link(1_000),
        other => panic!("{other}"),
    }
}

#[test]
fn heads_of_all_lengths_leave_the_body_whole() {
    // Heads that the client has.
    let passed = Arc::new(AtomicUsize::new(0));
    let passed_on = Arc::clone(&passed);
    let origin = origin(move |conn, name| {
        let [way, before, bytes] = name.split('/').collect::<Vec<_>>()[..] else {
            panic!("{name}")
        };
        let (head, _) = head_of(bytes.parse().unwrap());
        let head = interim(before) + &head;
        if way == "behind" {
            let passed_before = passed_on.load(Ordering::SeqCst);
            conn.send(head);
            wait_until("the client to have the head", || {
                passed_on.load(Ordering::SeqCst) > passed_before
            });
            conn.send(object(LARGE));
        } else {
            send(conn, way, &[head.as_bytes(), &object(LARGE)].concat());
        }
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    get_large(&mut client);
    for before in ["none", "short", "long", "two"] {
        let both = HEAD_READ.checked_sub(interim(before).len()).unwrap_or(1_000);
        for edge in [HEAD_READ, both, 5 * 1_024, 16_384, 20 * 1_024] {
            for bytes in [edge - 1, edge, edge + 1] {
                for way in ["whole", "parts", "behind"] {
                    let name = format!("{way}/{before}/{bytes}");
                    client.send(request_bytes("GET", &format!("/products/{name}"), &[]));
                    let head = client.head("GET").unwrap();
                    passed.fetch_add(1, Ordering::SeqCst);
                    let (_, padding) = head_of(bytes);
                    assert!(head.header("x-amz-meta-padding") == Some(&*padding), "{name}");
                    assert!(client.rest_of(&head) == object(LARGE), "{name}");
                }
            }
        }
    }
    let responses = passed.load(Ordering::SeqCst) + 1;
    assert_logged(&proxy, &vec![(LARGE, false); responses]);
    assert_eq!(origin.accepted(), 1);
}

/// A response to a request that was expected to be about a large object.
struct Other {
    name: &'static str,
    method: &'static str,
    status: &'static str,
    /// Fields beside those of the framing.
    fields: Vec<(&'static str, &'static str)>,
    body: Vec<u8>,
    /// The whole message.
    bytes: Vec<u8>,
}

impl Other {
    fn get(name: &'static str, body: Vec<u8>) -> Self {
        Self::with_status(name, "200 OK", vec![], body)
    }

    fn with_status(
        name: &'static str,
        status: &'static str,
        fields: Vec<(&'static str, &'static str)>,
        body: Vec<u8>,
    ) -> Self {
        let bytes = response_bytes(status, &fields, &body);
        Self { name, method: "GET", status, fields, body, bytes }
    }

    fn chunked(name: &'static str, body: Vec<u8>) -> Self {
        let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for part in body.chunks(10_000) {
            bytes.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
            bytes.extend_from_slice(part);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        Self { bytes, ..Self::get(name, body) }
    }

    /// Has the length of a body, and none.
    fn without_body(name: &'static str, method: &'static str, status: &'static str) -> Self {
        let bytes = format!("HTTP/1.1 {status}\r\nContent-Length: {LARGE}\r\n\r\n").into_bytes();
        Self { method, bytes, ..Self::with_status(name, status, vec![], Vec::new()) }
    }
}

fn error_document(padding: usize) -> Vec<u8> {
    let message = "m".repeat(padding);
    format!("<Error><Code>AccessDenied</Code><Message>{message}</Message></Error>").into_bytes()
}

fn others() -> Vec<Other> {
    let xml = vec![("Content-Type", "application/xml")];
    let forbidden = |name, padding| {
        Other::with_status(name, "403 Forbidden", xml.clone(), error_document(padding))
    };
    let part = |name, range, length| {
        let fields = vec![("Content-Range", range)];
        Other::with_status(name, "206 Partial Content", fields, object(length))
    };
    vec![
        Other::get("empty", Vec::new()),
        Other::get("10 bytes", object(10)),
        Other::get("10 KiB", object(10 * 1_024)),
        Other::get("40 KiB", object(40 * 1_024)),
        Other::chunked("chunks of 10 bytes", object(10)),
        Other::chunked("chunks of 64 KiB", object(65_536)),
        Other::without_body("not modified", "GET", "304 Not Modified"),
        Other::without_body("HEAD", "HEAD", "200 OK"),
        forbidden("403 with 5 KB", 5_000),
        forbidden("403 with 20 KB", 20_000),
        forbidden("403 with 100 KB", 100_000),
        Other::with_status("404", "404 Not Found", xml.clone(), error_document(6_000)),
        part("part of 100 bytes", "bytes 100-199/1000000", 100),
        part("part of 64 KiB", "bytes 0-65535/1000000", 65_536),
    ]
}

#[test]
fn what_is_not_the_large_object_that_was_expected_comes_whole() {
    let bytes: HashMap<_, _> =
        others().into_iter().map(|other| (other.name, other.bytes)).collect();
    let origin = origin(move |conn, name| {
        let (way, name) = name.split_once('/').unwrap();
        send(conn, way, &bytes[&*name.replace("%20", " ")]);
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    let mut logged = Vec::new();
    for way in WAYS {
        for Other { name, method, status, fields, body, .. } in others() {
            expect_large(&mut client);
            let target = format!("/products/{way}/{}", name.replace(' ', "%20"));
            let response = client.request(method, &target, &[]);
            assert_eq!(response.status.to_string(), status[..3], "{name}");
            assert!(response.body == body, "{name}: {} bytes", response.body.len());
            for (field, value) in fields {
                assert_eq!(response.header(field), Some(value), "{name}");
            }
            logged.extend([(LARGE, false), (LARGE, false), (body.len(), false)]);
        }
    }
    assert_logged(&proxy, &logged);
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn a_body_until_the_end_of_the_connection_that_was_expected_to_be_spliced_comes_whole() {
    let origin = origin(|conn, name| {
        conn.send("HTTP/1.1 200 OK\r\n\r\n");
        conn.send(object(name.parse().unwrap()));
        conn.finish_sending();
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    let mut logged = Vec::new();
    for (number, length) in [0, 10, 10 * 1_024, 65_536, 307_200].into_iter().enumerate() {
        expect_large(&mut client);
        let response = client.get(&format!("/products/{length}"));
        assert!(response.body == object(length), "{length}");
        logged.extend([(LARGE, false), (LARGE, false), (length, false)]);
        assert_eq!(origin.accepted(), number + 1);
    }
    assert_logged(&proxy, &logged);
}

#[test]
fn a_spliced_body_that_is_cut_short_is_reset_behind_what_came_of_it() {
    const CAME: usize = 40 * 1_024;
    for reset in [false, true] {
        let gate = Gate::default();
        let ends = gate.clone();
        let origin = ScriptedOrigin::start(move |conn, number| {
            conn.expect_request();
            conn.respond("200 OK", &[], &object(LARGE));
            if number > 0 {
                return conn.wait_closed();
            }
            conn.expect_request();
            let response = response_bytes("200 OK", &[], &object(LARGE));
            conn.send(&response[..response.len() - LARGE + CAME]);
            conn.wait(&ends);
            if reset {
                conn.reset();
            }
        });
        let proxy = Proxy::in_front_of(&origin);
        let mut client = proxy.client();
        get_large(&mut client);
        client.send(request_bytes("GET", "/products/large", &[]));
        client.head("GET").unwrap();
        assert!(client.read_exactly(CAME) == object(LARGE)[..CAME]);
        gate.open();
        assert_eq!(client.read_to_end(), (Vec::new(), End::Reset));
        assert_logged(&proxy, &[(LARGE, false), (CAME, true)]);
        get_large(&mut proxy.client());
        assert_eq!(origin.accepted(), 2);
    }
}

#[test]
fn an_end_right_behind_a_part_of_a_spliced_body_does_not_make_it_look_whole() {
    const CAME: usize = 40 * 1_024;
    let origin = origin(|conn, _| {
        let response = response_bytes("200 OK", &[], &object(LARGE));
        conn.send(&response[..response.len() - LARGE + CAME]);
        conn.finish_sending();
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    get_large(&mut client);
    client.send(request_bytes("GET", "/products/cut", &[]));
    let cut = client.try_response("GET").expect_err("a part");
    assert_eq!(cut.end, End::Reset);
    let body = cut.response.map(|response| response.body).unwrap_or_default();
    assert!(body.len() <= CAME && object(LARGE).starts_with(&body), "{}", body.len());
    assert_logged(&proxy, &[(LARGE, false), (CAME, true)]);
    get_large(&mut proxy.client());
    assert_eq!(origin.accepted(), 2);
}

#[test]
fn bytes_behind_a_spliced_body_do_not_reach_the_client() {
    let origin = origin(|conn, _| {
        let mut bytes = response_bytes("200 OK", &[], &object(LARGE));
        bytes.extend_from_slice(b"surplus");
        conn.send(bytes);
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    get_large(&mut client);
    let response = client.request("GET", "/products/more", &[("Connection", "close")]);
    assert!(response.body == object(LARGE));
    assert_eq!(client.expect_end(), End::Fin);
    assert_logged(&proxy, &[(LARGE, false), (LARGE, false)]);
}

#[test]
fn more_bodies_at_once_than_a_core_keeps_pipes_for_come_whole() {
    const OF_EACH_KIND: usize = 20;
    const SHORT_PIPES: usize = 16;
    const PIPES_KEPT: usize = 32;
    // Each longer than what the kernel takes for a client that does not read, and what it holds.
    let short = (0..OF_EACH_KIND).map(|number| (300 + 5 * number) * 1_024);
    let long = (0..OF_EACH_KIND).map(|number| (600 + 38 * number) * 1_024);
    let lengths: Vec<_> = short.chain(long).collect();
    let gate = Gate::default();
    let held = gate.clone();
    let origin = origin(move |conn, name| {
        let response = response_bytes("200 OK", &[], &object(name.parse().unwrap()));
        let (begins, rest) = response.split_at(20_000);
        conn.send(begins);
        conn.wait(&held);
        conn.send(rest);
    });
    let proxy = Proxy::in_front_of(&origin);
    let pipe_ends_before = pipe_ends(&proxy);
    let mut clients = Vec::new();
    for length in &lengths {
        let mut client = proxy.client();
        // One that is taken for small gives the guess another large one.
        expect_large(&mut client);
        client.send(request_bytes("GET", &format!("/products/{length}"), &[]));
        clients.push(client);
    }
    // The short bodies beyond those are copied; each long one has a pipe.
    wait_until("the pipes to be in use", || {
        pipe_ends(&proxy) == pipe_ends_before + 2 * (SHORT_PIPES + OF_EACH_KIND)
    });
    gate.open();
    for (client, length) in clients.iter_mut().zip(&lengths) {
        assert!(client.response("GET").body == object(*length), "{length}");
    }
    wait_until("the pipes to be given back", || {
        pipe_ends(&proxy) == pipe_ends_before + 2 * PIPES_KEPT
    });
    let expected = 3 * lengths.len();
    wait_until("all lines", || proxy.stdout().records().len() == expected);
    for line in proxy.stdout().records() {
        let bytes = match line["path"].as_str().unwrap().trim_start_matches("/products/") {
            "large" => LARGE,
            length => length.parse().unwrap(),
        };
        assert_eq!((&line["bytes"], &line["aborted"]), (&bytes.into(), &false.into()), "{line}");
    }
}

#[test]
fn a_client_that_takes_little_of_a_short_body_but_steadily_gets_all_of_it() {
    const LENGTH: usize = 400 * 1_024;
    let origin = origin(|conn, _| conn.respond("200 OK", &[], &object(LENGTH)));
    let config = Config::products(origin.url()).set("server.timeouts.client_write", 1.0);
    let proxy = Proxy::start(&config);
    expect_large(&mut proxy.client());
    let mut client = Client::connect_with_small_segments(proxy.address(), 4_096, Some(536));
    client.send(request_bytes("GET", "/products/slow", &[]));
    let framing = client.head("GET").unwrap().framing;
    // For six times as long as a client may take nothing, and so that what the kernel waits for
    // before it calls the socket writable takes longer than that.
    let (mut pieces, mut body) = (0, Vec::new());
    let end = client.body(framing, &mut |bytes| {
        pieces += 1;
        body.extend_from_slice(bytes);
        if pieces < 20 {
            std::thread::park_timeout(std::time::Duration::from_millis(300));
        }
    });
    assert!(end.is_ok(), "{end:?} after {} bytes in {pieces} pieces", body.len());
    assert!(pieces >= 20, "{pieces}");
    assert!(body == object(LENGTH));
    assert_logged(&proxy, &[(LARGE, false), (LARGE, false), (LENGTH, false)]);
}

#[test]
fn a_client_that_resets_in_the_middle_of_a_spliced_body_costs_others_nothing() {
    const LENGTH: usize = 200 * 1_024;
    const CAME: usize = 100 * 1_024;
    // S3 is silent at that time, or sends all but the last byte.
    for silent in [true, false] {
        let gate = Gate::default();
        let goes_on = gate.clone();
        let origin = origin(move |conn, _| {
            let response = response_bytes("200 OK", &[], &object(LENGTH));
            let (begins, rest) = response.split_at(response.len() - LENGTH + CAME);
            conn.send(begins);
            if conn.wait_or_closed(&goes_on) {
                conn.try_send(&rest[..rest.len() - 1]);
            }
            conn.wait_closed();
        });
        let proxy = Proxy::in_front_of(&origin);
        let mut other = proxy.client();
        get_large(&mut other);
        let mut client = proxy.client();
        client.send(request_bytes("GET", "/products/cut", &[]));
        client.head("GET").unwrap();
        assert!(client.read_exactly(CAME) == object(LENGTH)[..CAME]);
        if !silent {
            gate.open();
        }
        client.reset();
        origin.wait_open(0);
        for _ in 0..3 {
            get_large(&mut other);
        }
        let connections: Vec<_> = origin.requests().iter().map(|seen| seen.connection).collect();
        assert_eq!(connections, [0, 0, 1, 1, 1]);
        wait_until("a line of each", || proxy.stdout().records().len() == 5);
        let records = proxy.stdout().records();
        let cut = records.iter().find(|line| line["path"] == "/products/cut").unwrap();
        assert_eq!((&cut["status"], &cut["aborted"]), (&200.into(), &true.into()), "{cut}");
        let bytes = cut["bytes"].as_u64().unwrap();
        let most = if silent { CAME } else { LENGTH - 1 };
        assert!((CAME as u64..=most as u64).contains(&bytes), "{cut}");
    }
}

#[test]
fn bytes_that_a_client_left_in_a_pipe_reach_nobody_else() {
    const BLOCK: usize = 262_144;
    let blocks = Arc::new(AtomicUsize::new(0));
    let sent = Arc::clone(&blocks);
    let origin = origin(move |conn, _| {
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n");
        let block = vec![b'x'; BLOCK];
        while conn.try_send(&block) {
            sent.fetch_add(1, Ordering::SeqCst);
        }
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut other = proxy.client();
    get_large(&mut other);
    let mut client = Client::connect_with_receive_buffer(proxy.address(), 16_384);
    client.send(request_bytes("GET", "/products/endless", &[]));
    // A pipe is full when the origin has to wait.
    let mut same = (0, 0);
    wait_until("the origin to wait", || {
        let now = blocks.load(Ordering::SeqCst);
        same = if now == same.1 && now > 0 { (same.0 + 1, now) } else { (0, now) };
        same.0 > 20
    });
    client.reset();
    origin.wait_open(0);
    for _ in 0..3 {
        get_large(&mut other);
    }
    assert_eq!(origin.accepted(), 2);
}
