//! Handshakes that do not come to their end, and what they leave behind.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    time::{Duration, Instant},
};

use rustls::{
    SupportedProtocolVersion,
    crypto::{CryptoProvider, aws_lc_rs},
    version::{TLS12, TLS13},
};

use crate::support::{
    config::Config,
    http2_frames::{GOAWAY, NO_ERROR, RawHttp2, request},
    proxy::Proxy,
    raw_client::{Client, End, request_bytes},
    scripted_origin::ScriptedOrigin,
    site::{Site, VERSIONS, Visitor},
    waiting::{DEADLINE, wait_refused, wait_until},
};

fn failures(proxy: &Proxy, reason: &str) -> Option<f64> {
    proxy.metric(&format!("yatagarasu_tls_handshake_failures_total{{reason=\"{reason}\"}}"))
}

/// Everything up to the end of a connection, and whether that was in order.
fn read_to_end(mut stream: &TcpStream) -> (Vec<u8>, End) {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut read = Vec::new();
    match stream.read_to_end(&mut read) {
        Ok(_) => (read, End::Fin),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => (read, End::Reset),
        Err(error) => panic!("{error} after {read:?}"),
    }
}

/// The first message of a client.
fn hello(site: &Site, version: &'static SupportedProtocolVersion) -> Vec<u8> {
    let mut hello = Vec::new();
    let mut session = site.visitor_with(version).session();
    while session.wants_write() {
        session.write_tls(&mut hello).unwrap();
    }
    hello
}

/// The content of an alert record in plain (RFC 8446 section 6).
fn alert(bytes: &[u8]) -> Option<[u8; 2]> {
    match bytes {
        [21, 3, _, 0, 2, level, description, ..] => Some([*level, *description]),
        _ => None,
    }
}

#[test]
fn a_handshake_has_the_time_of_a_head_and_no_more() {
    let site = Site::new();
    let config = Config::unreachable().with_tls().set("server.timeouts.client_header", 0.5);
    let proxy = site.start(&config);
    let silent = Visitor::tcp(&proxy);
    let half = Visitor::tcp(&proxy);
    let hello = hello(&site, &TLS13);
    (&half).write_all(&hello[..hello.len() / 2]).unwrap();
    // One that goes on, byte by byte, and would take far longer.
    let dripping = Visitor::tcp(&proxy);
    let begun = Instant::now();
    let mut sent = 0;
    for byte in &hello {
        if (&dripping).write_all(&[*byte]).is_err() {
            break;
        }
        sent += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(sent < hello.len(), "{sent} bytes in {:?}", begun.elapsed());
    assert_eq!(read_to_end(&silent), (Vec::new(), End::Fin));
    let (bytes, _) = read_to_end(&half);
    assert_eq!(bytes, b"");
    wait_until("the failures", || failures(&proxy, "timeout") == Some(3.0));
    assert_eq!(site.visitor().get(&proxy, "/health").status, 200);
}

#[test]
fn a_session_that_sends_no_request_has_the_time_of_a_head_too() {
    let site = Site::new();
    let config = Config::unreachable().with_tls().set("server.timeouts.client_header", 2.0);
    let proxy = site.start(&config);
    for version in VERSIONS {
        let mut silent = site.visitor_with(version).connect(&proxy);
        assert_eq!(silent.expect_end(), End::Fin);
        let mut half = site.visitor_with(version).connect(&proxy);
        half.send("GET /health HT");
        half.response("GET").assert_fault(408, "head_timeout");
        assert_eq!(half.expect_end(), End::Fin);
    }
}

#[test]
fn a_hello_that_drips_works_in_time() {
    let site = Site::new();
    let origin = ScriptedOrigin::serving("x");
    let proxy = site.start(&Config::products(origin.url()).with_tls());
    for version in VERSIONS {
        let mut session = site.visitor_with(version).session();
        let mut tcp = Visitor::tcp(&proxy);
        tcp.set_nodelay(true).unwrap();
        tcp.set_read_timeout(Some(DEADLINE)).unwrap();
        let mut answered = false;
        session.writer().write_all(&request_bytes("GET", "/products/x", &[])).unwrap();
        while !answered {
            while session.wants_write() {
                let mut bytes = Vec::new();
                session.write_tls(&mut bytes).unwrap();
                for byte in bytes {
                    tcp.write_all(&[byte]).unwrap();
                }
            }
            session.read_tls(&mut tcp).unwrap();
            let state = session.process_new_packets().unwrap();
            answered = state.plaintext_bytes_to_read() > 0;
        }
        let mut head = [0; 12];
        session.reader().read_exact(&mut head).unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
    }
}

#[test]
fn plain_http_on_the_tls_port_is_told_so() {
    let site = Site::new();
    let proxy = site.start(&Config::unreachable().with_tls());
    for (method, expected) in [("GET", 1.0), ("HEAD", 2.0), ("POST", 3.0)] {
        let mut client = Client::connect(proxy.tls_address());
        let response = client.request(method, "/products/x", &[]);
        assert_eq!(response.status, 400);
        if method != "HEAD" {
            response.assert_fault(400, "plain_http");
        }
        assert!(response.says_close());
        assert_eq!(client.expect_end(), End::Fin);
        assert_eq!(failures(&proxy, "not_tls"), Some(expected));
    }
    // A body that is still on its way does not reset the response.
    let mut client = Client::connect(proxy.tls_address());
    client.send("PUT /products/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n");
    client.send(vec![b'x'; 1_000_000]);
    client.response("PUT").assert_fault(400, "plain_http");
    let refused = |method: &str| {
        let records = proxy.stdout().records();
        records.into_iter().find(|line| line["code"] == "plain_http" && line["method"] == method)
    };
    wait_until("its line in the access log", || refused("GET").is_some());
    assert_ne!(refused("GET").unwrap()["path"], "/", "{:?}", refused("GET"));
    assert_eq!(site.visitor().get(&proxy, "/health").status, 200);
}

#[test]
fn tls_on_the_plain_port_ends_with_a_response_in_plain() {
    let site = Site::new();
    let proxy = site.start(&Config::unreachable().with_tls());
    for version in VERSIONS {
        let mut client = proxy.client();
        client.send(hello(&site, version));
        let response = client.response("GET");
        response.assert_fault(400, "bad_request");
        assert_eq!(client.expect_end(), End::Fin);
    }
}

#[test]
fn bytes_that_are_no_handshake_are_answered_with_an_alert() {
    let site = Site::new();
    let proxy = site.start(&Config::unreachable().with_tls());
    let unexpected_message = Some([2, 10]);
    let decode_error = Some([2, 50]);
    for (bytes, expected, reason) in [
        // SSL 2, and other bytes that no record begins with.
        (&b"\x80\x2e\x01\x03\x01\x00\x15\x00\x00\x00\x10"[..], decode_error, "not_tls"),
        // Data before any handshake.
        (b"\x17\x03\x03\x00\x05hello", unexpected_message, "malformed"),
        // A message that no client sends.
        (b"\x16\x03\x01\x00\x04\x0e\x00\x00\x00", unexpected_message, "malformed"),
    ] {
        let before = failures(&proxy, reason);
        let mut tcp = Visitor::tcp(&proxy);
        tcp.write_all(bytes).unwrap();
        tcp.shutdown(Shutdown::Write).unwrap();
        let (got, end) = read_to_end(&tcp);
        assert_eq!((alert(&got), end), (expected, End::Fin), "{bytes:?}: {got:?}");
        wait_until("the count", || failures(&proxy, reason) > before);
    }
}

#[test]
fn garbage_leaves_the_service_up() {
    let site = Site::new();
    let proxy = site.start(&Config::unreachable().with_tls());
    let good = [hello(&site, &TLS12), hello(&site, &TLS13)];
    let mut state = 0x2545_F491_u32;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as usize % below
    };
    for number in 0..300 {
        let mut bytes = good[number % 2].clone();
        for _ in 0..=random(4) {
            let at = random(bytes.len());
            bytes[at] = u8::try_from(random(256)).unwrap();
        }
        bytes.truncate(1 + random(bytes.len()));
        let mut tcp = Visitor::tcp(&proxy);
        tcp.write_all(&bytes).unwrap();
        tcp.shutdown(Shutdown::Write).unwrap();
        read_to_end(&tcp);
    }
    assert_eq!(site.visitor().get(&proxy, "/health").status, 200);
    assert_eq!(proxy.metric("yatagarasu_worker_panics_total"), Some(0.0));
    wait_until("the connections to end", || {
        proxy.metric("yatagarasu_connections{state=\"active\"}") == Some(1.0)
    });
}

#[test]
fn clients_with_nothing_in_common_are_refused_with_a_reason() {
    let site = Site::new();
    let config = Config::unreachable().with_tls().set("server.tls.min_version", "1.3");
    let proxy = site.start(&config);
    let old = site.visitor_with(&TLS12).refusal(&proxy);
    assert!(old.contains("ProtocolVersion"), "{old}");
    assert_eq!(failures(&proxy, "version"), Some(1.0));
    assert_eq!(site.visitor_with(&TLS13).get(&proxy, "/health").status, 200);

    let other = site.visitor().with(|config| config.alpn_protocols = vec![b"imap".to_vec()]);
    let refusal = other.refusal(&proxy);
    assert!(refusal.contains("NoApplicationProtocol"), "{refusal}");
    assert_eq!(failures(&proxy, "protocol"), Some(1.0));
    let http = site.visitor().with(|config| config.alpn_protocols = vec![b"http/1.1".to_vec()]);
    let mut client = http.connect(&proxy);
    assert_eq!(client.session().alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[test]
fn clients_without_a_cipher_or_trust_in_common_are_counted() {
    let site = Site::new();
    let proxy = site.start(&Config::unreachable().with_tls());
    // Only RSA, which the certificate is not.
    let provider = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256],
        ..aws_lc_rs::default_provider()
    };
    let rsa = site.visitor_by(provider, &[&TLS12]).refusal(&proxy);
    assert!(rsa.contains("HandshakeFailure"), "{rsa}");
    assert_eq!(failures(&proxy, "cipher"), Some(1.0));
    let stranger = Site::new().visitor();
    stranger.try_connect(proxy.tls_address(), "localhost").unwrap_err();
    wait_until("the alert", || failures(&proxy, "alert") == Some(1.0));
    drop(Visitor::tcp(&proxy));
    wait_until("the end", || failures(&proxy, "closed") == Some(1.0));
}

/// Connections over the limit that one core refuses at a time, as docs/OPERATIONS.md says.
pub(crate) const TLS_REFUSALS_MAX: usize = 64;

#[test]
fn handshakes_count_among_the_connections_and_their_limit() {
    let site = Site::new();
    let config = Config::unreachable().with_tls().set("server.max_connections", 5);
    let proxy = site.start(&config);
    let waiting: Vec<_> = (0..5).map(|_| Visitor::tcp(&proxy)).collect();
    wait_until("five handshakes", || site.visitor().get(&proxy, "/health").status == 503);
    // The plain listener has the same limit.
    assert_eq!(proxy.get("/health").status, 503);
    drop(waiting);
    wait_until("room", || proxy.get("/health").status == 200);
    let rejected = proxy.metric("yatagarasu_connections_rejected_total{reason=\"limit\"}").unwrap();
    assert!(rejected > 1.5, "{rejected}");
    wait_until("room for a session", || site.visitor().get(&proxy, "/health").status == 200);
}

/// A proxy whose only place is taken.
fn full(site: &Site) -> (Proxy, Client) {
    let config = Config::unreachable()
        .with_tls()
        .set("server.timeouts.client_header", 600)
        .set("server.max_connections", 1)
        .set("server.headers.set.Strict-Transport-Security", "max-age=60")
        .with_admin_listener();
    let proxy = site.start(&config);
    let mut only = proxy.client();
    only.get("/nothing").assert_fault(404, "no_route");
    (proxy, only)
}

#[test]
fn a_session_over_the_limit_is_told_so() {
    let site = Site::new();
    let (proxy, mut only) = full(&site);
    for version in VERSIONS {
        let mut over = site.visitor_with(version).connect(&proxy);
        let response = over.get("/products/x");
        response.assert_fault(503, "too_many_connections");
        assert_eq!(response.header("retry-after"), Some("1"));
        assert_eq!(response.header("strict-transport-security"), Some("max-age=60"));
        assert!(response.says_close());
        over.expect_end();
        let mut over = site.visitor_with(version).connect(&proxy);
        over.send(request_bytes("HEAD", "/products/x", &[]));
        assert_eq!(over.response("HEAD").status, 503);
        over.expect_end();
    }
    // A record that comes in two pieces.
    let mut session = site.visitor_with(&TLS13).session();
    let mut tcp = Visitor::tcp(&proxy);
    tcp.set_read_timeout(Some(DEADLINE)).unwrap();
    session.complete_io(&mut tcp).unwrap();
    session.writer().write_all(&request_bytes("GET", "/products/x", &[])).unwrap();
    let mut record = Vec::new();
    session.write_tls(&mut record).unwrap();
    let (first, second) = record.split_at(30);
    tcp.write_all(first).unwrap();
    // It has been looked at when another one, which came later, is refused.
    assert_eq!(site.visitor().get(&proxy, "/products/x").status, 503);
    tcp.write_all(second).unwrap();
    let mut response = Vec::new();
    rustls::Stream::new(&mut session, &mut tcp).read_to_end(&mut response).unwrap();
    assert!(response.starts_with(b"HTTP/1.1 503 "), "{:?}", String::from_utf8_lossy(&response));

    let http2 = site.visitor().with(|config| config.alpn_protocols = vec![b"h2".to_vec()]);
    let mut over = RawHttp2::over_tls(proxy.tls_address(), http2.session());
    over.try_send(request(1, "/products/x"));
    // No stream was looked at, so that all may be sent again.
    assert_eq!(over.expect_frame(GOAWAY).numbers(), [0, NO_ERROR]);
    assert!(over.next().is_none());
    let rejected = proxy.metric("yatagarasu_connections_rejected_total{reason=\"limit\"}");
    assert_eq!(rejected, Some(7.0));
    only.get("/nothing").assert_fault(404, "no_route");
}

#[test]
fn few_sessions_are_refused_at_a_time() {
    let site = Site::new();
    let (proxy, only) = full(&site);
    let mut silent: Vec<_> = (0..TLS_REFUSALS_MAX).map(|_| Visitor::tcp(&proxy)).collect();
    let over = Visitor::tcp(&proxy);
    assert_eq!(read_to_end(&over), (Vec::new(), End::Fin));
    let refused = || site.visitor().try_connect(proxy.tls_address(), "localhost");
    refused().unwrap_err();
    // One that goes makes room.
    silent.pop();
    wait_until("a word of refusal", || {
        refused().is_ok_and(|mut over| over.get("/products/x").status == 503)
    });
    drop((silent, only));
}

#[test]
fn a_client_in_its_handshake_is_served_at_the_stop() {
    let origin = ScriptedOrigin::serving("x");
    let site = Site::new();
    // As long as a busy machine needs.
    let config = Config::products(origin.url()).with_tls().set("server.timeouts.drain_idle", 20);
    let mut proxy = site.start(&config);
    let mut session = site.visitor_with(&TLS13).session();
    let mut tcp = Visitor::tcp(&proxy);
    tcp.set_read_timeout(Some(DEADLINE)).unwrap();
    while session.wants_write() {
        session.write_tls(&mut tcp).unwrap();
    }
    session.read_tls(&mut tcp).unwrap();
    proxy.signal("TERM");
    wait_refused(proxy.tls_address());
    session.process_new_packets().unwrap();
    session.writer().write_all(&request_bytes("GET", "/products/x", &[])).unwrap();
    let mut tls = rustls::Stream::new(&mut session, &mut tcp);
    let mut response = Vec::new();
    tls.read_to_end(&mut response).unwrap();
    let response = String::from_utf8(response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.contains("onnection: close"), "{response}");
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn a_client_that_does_not_go_on_with_its_handshake_does_not_hold_up_the_stop() {
    let site = Site::new();
    let config = Config::unreachable()
        .with_tls()
        .set("server.timeouts.client_header", 600)
        .set("server.timeouts.drain_idle", 0.2)
        .set("server.timeouts.drain", 600);
    let mut proxy = site.start(&config);
    let silent = Visitor::tcp(&proxy);
    let half = Visitor::tcp(&proxy);
    (&half).write_all(&hello(&site, &TLS13)[..100]).unwrap();
    wait_until("both", || proxy.metric("yatagarasu_connections{state=\"active\"}") == Some(3.0));
    proxy.signal("TERM");
    assert_eq!(proxy.wait_exit().code(), Some(0));
    drop((silent, half));
}
