//! Compression of bodies that are long, late, cut short, or wanted by slow clients.

use std::time::Duration;

use serde_json::json;

use crate::support::{
    config::Config,
    decode::{CODINGS, decode, noise, page},
    gate::Gate,
    proxy::Proxy,
    raw_client::{Client, Framing, request_bytes},
    scripted_origin::ScriptedOrigin,
    waiting::wait_until,
};

const MIB: usize = 1_048_576;

fn compressing(endpoint: String) -> Config {
    Config::products(endpoint).set("buckets.0.compress", json!({ "types": ["text/html"] }))
}

fn request(coding: &str) -> Vec<u8> {
    request_bytes("GET", "/products/x", &[("Accept-Encoding", coding)])
}

/// Sends a body as long as the peer takes it.
fn endless() -> ScriptedOrigin {
    let part = page(MIB);
    ScriptedOrigin::start(move |conn, _| {
        conn.expect_request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n");
        conn.send("Content-Length: 999999999999\r\n\r\n");
        while conn.try_send(&part) {}
    })
}

#[test]
fn a_body_that_s3_cuts_short_never_looks_whole() {
    for (framing, chunk) in
        [("Content-Length: 200000", ""), ("Transfer-Encoding: chunked", "186a0\r\n")]
    {
        for coding in CODINGS {
            let gate = Gate::default();
            let closed = gate.clone();
            let origin = ScriptedOrigin::start(move |conn, _| {
                conn.expect_request();
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n";
                conn.send(format!("{head}{framing}\r\n\r\n{chunk}"));
                conn.send(page(100_000));
                conn.wait(&closed);
                conn.finish_sending();
                conn.wait_closed();
            });
            let proxy = Proxy::start(&compressing(origin.url()));
            let mut client = proxy.client();
            client.send(request(coding));
            let head = client.head("GET").unwrap();
            assert_eq!(head.header("content-encoding"), Some(coding));
            gate.open();
            let mut coded = Vec::new();
            let end = client.body(head.framing, &mut |bytes| coded.extend_from_slice(bytes));
            assert!(end.is_err(), "{coding} after {framing}");
            let (body, whole) = decode(coding, &coded);
            assert!(!whole, "{coding} looks whole after {framing}");
            assert!(page(100_000).starts_with(&body));
        }
    }
}

#[test]
fn a_body_that_s3_cuts_short_before_anything_was_sent_is_an_error() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.send(
            "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9000\r\n\r\nshort",
        );
    });
    let proxy = Proxy::start(&compressing(origin.url()));
    let response = proxy.get_with("/products/x", &[("Accept-Encoding", "zstd")]);
    assert_eq!(response.status, 502, "{response:?}");
    assert_eq!(response.header("content-encoding"), None);
}

#[test]
fn what_has_arrived_reaches_the_client_while_s3_pauses() {
    let gate = Gate::default();
    let closed = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        while conn.request().is_some() {
            conn.send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 60000\r\n\r\n",
            );
            let body = page(60_000);
            conn.send(&body[..30_000]);
            conn.wait(&closed);
            conn.send(&body[30_000..]);
        }
    });
    let proxy = Proxy::start(&compressing(origin.url()));
    let mut clients = Vec::new();
    for coding in CODINGS {
        let mut client = proxy.client();
        client.send(request(coding));
        let head = client.head("GET").unwrap();
        assert_eq!(head.framing, Framing::Chunked);
        // Byte by byte: how much comes is not known, but that it does.
        let (mut raw, mut coded) = (Vec::new(), Vec::new());
        while decode(coding, &coded).0.len() < 30_000 {
            raw.extend(client.read_exactly(1));
            raw.extend(client.read_exactly(client.buffered()));
            coded = unchunked(&raw);
        }
        assert_eq!(decode(coding, &coded), (page(30_000), false), "{coding}");
        clients.push((client, coding, raw));
    }
    gate.open();
    for (mut client, coding, mut raw) in clients {
        while !raw.ends_with(b"\r\n0\r\n\r\n") {
            raw.extend(client.read_exactly(1));
        }
        assert_eq!(decode(coding, &unchunked(&raw)), (page(60_000), true));
    }
}

#[test]
fn a_slow_body_without_pauses_reaches_the_client_long_before_a_block_is_full() {
    /// Bytes before S3 does pause: far less than any of the codings gathers.
    const SLOWLY: usize = 3_000;
    /// More often than what counts as a pause.
    const BETWEEN: Duration = Duration::from_millis(5);

    for coding in CODINGS {
        let (gate, paused) = (Gate::default(), Gate::default());
        let (seen, at_rest) = (gate.clone(), paused.clone());
        let origin = ScriptedOrigin::start(move |conn, _| {
            conn.expect_request();
            conn.send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 60000\r\n\r\n",
            );
            let body = page(60_000);
            let mut sent = 0;
            while sent < SLOWLY && !seen.pass_within(BETWEEN) {
                conn.send(&body[sent..=sent]);
                sent += 1;
            }
            if sent == SLOWLY {
                at_rest.open();
            }
            conn.wait(&seen);
            conn.send(&body[sent..]);
        });
        let proxy = Proxy::start(&compressing(origin.url()));
        let mut client = proxy.client();
        client.send(request(coding));
        let head = client.head("GET").unwrap();
        assert_eq!(head.header("content-encoding"), Some(coding));
        let mut raw = Vec::new();
        while decode(coding, &unchunked(&raw)).0.is_empty() {
            raw.extend(client.read_exactly(1));
            raw.extend(client.read_exactly(client.buffered()));
        }
        assert!(!paused.pass_within(Duration::ZERO), "{coding} came with the pause only");
        gate.open();
        while !raw.ends_with(b"\r\n0\r\n\r\n") {
            raw.extend(client.read_exactly(1));
        }
        assert_eq!(decode(coding, &unchunked(&raw)), (page(60_000), true), "{coding}");
    }
}

#[test]
fn the_head_does_not_wait_for_a_body_that_is_late() {
    let gate = Gate::default();
    let seen = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        while conn.request().is_some() {
            conn.send(
                "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 60000\r\n\r\n",
            );
            conn.wait(&seen);
            conn.send(page(60_000));
        }
    });
    let proxy = Proxy::start(&compressing(origin.url()));
    let mut clients = CODINGS.map(|coding| (coding, proxy.client()));
    let heads = clients.each_mut().map(|(coding, client)| {
        client.send(request(coding));
        client.head("GET").unwrap()
    });
    gate.open();
    for ((coding, client), head) in clients.iter_mut().zip(heads) {
        assert_eq!(head.header("content-encoding"), Some(*coding));
        assert_eq!(decode(coding, &client.rest_of(&head)), (page(60_000), true), "{coding}");
    }
}

/// The content of chunks as far as it is there.
fn unchunked(mut raw: &[u8]) -> Vec<u8> {
    let mut content = Vec::new();
    while let Some(at) = raw.windows(2).position(|pair| pair == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..at]).unwrap(), 16).unwrap();
        let rest = &raw[at + 2..];
        content.extend_from_slice(&rest[..size.min(rest.len())]);
        raw = rest.get(size + 2..).unwrap_or_default();
    }
    content
}

#[test]
fn compressing_long_bodies_leaves_others_their_turn() {
    for io in ["auto", "epoll"] {
        let origin = endless();
        let config = compressing(origin.url()).set("server.threads", 1).set("server.io", io);
        let proxy = Proxy::start(&config);
        let reading: Vec<_> = CODINGS
            .map(|coding| {
                let mut client = proxy.client();
                client.send(request(coding));
                let head = client.head("GET").unwrap();
                assert_eq!(head.header("content-encoding"), Some(coding));
                std::thread::spawn(move || {
                    let _ = client.body(head.framing, &mut |_| ());
                })
            })
            .into();
        for _ in 0..20 {
            assert_eq!(proxy.get("/health").status, 200, "{io}");
            assert_eq!(proxy.client().get("/metrics").status, 200, "{io}");
        }
        drop(proxy);
        for thread in reading {
            thread.join().unwrap();
        }
    }
}

/// Sends so much of a body and then nothing, until the test ends.
fn pausing(length: usize) -> ScriptedOrigin {
    let part = noise(length);
    let never = Gate::default();
    ScriptedOrigin::start(move |conn, _| {
        conn.expect_request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9999999\r\n\r\n");
        if conn.try_send(&part) {
            conn.wait_or_closed(&never);
        }
    })
}

/// Clients that have read a head and then take nothing more.
fn stuck(proxy: &Proxy, coding: &str, count: usize) -> Vec<Client> {
    (0..count)
        .map(|_| {
            let mut client = Client::connect_with_receive_buffer(proxy.address(), 4_096);
            client.send(request(coding));
            let head = client.head("GET").unwrap();
            assert_eq!(head.header("content-encoding"), Some(coding));
            client
        })
        .collect()
}

#[test]
fn slow_clients_hold_bounded_memory() {
    const CLIENTS: usize = 50;
    /// The buffer for S3's bytes, that for coded ones, and the connections.
    const OTHERS_KIB: u64 = 320;
    for (coding, kib) in [("zstd", 768), ("br", 2_048), ("gzip", 384)] {
        let origin = pausing(2 * MIB);
        let config = compressing(origin.url()).set("server.threads", 1);
        let proxy = Proxy::start(&config.set("server.timeouts.client_write", 3_600));
        let before = proxy.rss_kib();
        let clients = stuck(&proxy, coding, CLIENTS);
        let most = CLIENTS as u64 * (kib + OTHERS_KIB);
        let mut held = 0;
        // Until nothing is added any more.
        wait_until("all bodies to be stuck", || {
            let now = proxy.rss_kib().saturating_sub(before);
            assert!(now <= most, "{coding}: {now} KiB for {CLIENTS} clients, {most} expected");
            std::mem::replace(&mut held, now) == now
        });
        assert_eq!(proxy.get("/health").status, 200);
        drop(clients);
    }
}

#[test]
fn clients_beyond_the_memory_for_encoders_get_the_body_as_it_is() {
    /// 128 MiB, and 2 MiB for each.
    const ENCODERS: usize = 64;
    let origin = pausing(20_000);
    let config = compressing(origin.url()).set("server.threads", 1);
    let proxy = Proxy::start(&config.set("buckets.0.s3.timeouts.read", 3_600));
    let mut coded = stuck(&proxy, "br", ENCODERS);
    let ask = || {
        let mut client = proxy.client();
        client.send(request("br"));
        client.head("GET").unwrap()
    };
    let head = ask();
    assert_eq!(head.header("content-encoding"), None, "{:?}", head.fields);
    assert_eq!(head.header("vary"), Some("Accept-Encoding"));
    assert_eq!(head.framing, Framing::Length(9_999_999));
    let skipped = proxy.metric("yatagarasu_compression_skipped_total{bucket=\"products\"}");
    assert_eq!(skipped, Some(1.0));
    coded.pop();
    wait_until("an encoder to be free again", || ask().header("content-encoding") == Some("br"));
}
