//! TLS towards S3.

use std::{io::Write as _, time::Duration};

use crate::support::{
    config::Config,
    gate::Gate,
    proxy::{Launch, Proxy},
    raw_client::request_bytes,
    s3_server::S3Server,
    scripted_origin::{ScriptedOrigin, response_bytes},
    tls_front::TlsFront,
    tls_relay::{ALERT_RECORD_BYTES, TlsRelay},
    waiting::wait_until,
};

/// A proxy in front of an `https` endpoint at `url`, which has the front's certificate.
fn proxy_to(url: String, front: &TlsFront, change: impl Fn(Config) -> Config) -> Proxy {
    let launch = Launch::trusting(front);
    launch.config(&change(Config::products(url).set("buckets.0.s3.ca_file", "ca.pem"))).start()
}

#[test]
fn an_https_endpoint_is_trusted_by_its_ca_file() {
    let s3 = S3Server::with_test_keys();
    let body: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    s3.put("products", "big", &body);
    let front = TlsFront::start(s3.address());
    let launch = Launch::trusting(&front);
    let config = Config::products(front.url())
        .set("buckets.0.s3.ca_file", "ca.pem")
        .bucket("named", front.named_url())
        .set("buckets.1.s3.bucket", "products")
        .set("buckets.1.s3.ca_file", "ca.pem")
        .bucket("distrusted", front.url())
        .set("buckets.2.s3.bucket", "products");
    let proxy = launch.config(&config).start();
    let mut client = proxy.client();
    for path in ["/products/big", "/named/big", "/products/big"] {
        let got = client.get(path);
        assert_eq!(got.status, 200, "{path}");
        assert!(got.body == body, "{path}");
    }
    assert_eq!(front.handshakes(), 2, "the pool keeps TLS connections, one for each name");
    client.get("/distrusted/big").assert_fault(502, "upstream_refused");
}

#[test]
fn tls_to_a_server_that_is_silent_or_speaks_otherwise_fails_in_time_and_is_logged_once() {
    let silent = ScriptedOrigin::start(|conn, _| conn.wait_closed());
    let plain = ScriptedOrigin::start(|conn, _| {
        conn.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        conn.wait_closed();
    });
    let https = |origin: &ScriptedOrigin| origin.url().replace("http:", "https:");
    let config = Config::new()
        .bucket("silent", https(&silent))
        .set("buckets.0.s3.timeouts.connect", 0.3)
        .bucket("plain", https(&plain));
    let proxy = Proxy::start(&config);
    proxy.get("/silent/x").assert_fault(504, "upstream_timeout");
    silent.wait_open(0);
    for _ in 0..20 {
        proxy.get("/plain/x").assert_fault(502, "upstream_refused");
    }
    let warnings = || proxy.stderr().text().matches("TLS handshake: ").count();
    wait_until("a warning for each endpoint", || warnings() >= 2);
    assert_eq!(warnings(), 2, "one for each endpoint: {}", proxy.stderr().text());
}

#[test]
fn what_comes_decrypted_behind_a_response_is_not_taken_for_the_next_one() {
    // After a large response the proxy reads 16,384 bytes at a time: the second one fills that
    // exactly, and what the origin smuggles in behind it is the TLS session's only.
    const ROOM: usize = 16_384;
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 16000\r\nX-Amz-Meta-Fill: ";
    let fill = "f".repeat(ROOM - 16_000 - head.len() - 4);
    let mut poisoned = format!("{head}{fill}\r\n\r\n{}", "b".repeat(16_000)).into_bytes();
    assert_eq!(poisoned.len(), ROOM);
    poisoned.extend(response_bytes("200 OK", &[], b"poisoned"));
    let origin = ScriptedOrigin::start(move |conn, number| {
        if number == 0 {
            conn.expect_request();
            conn.respond("200 OK", &[], &vec![b'a'; 600_000]);
            conn.expect_request();
            conn.send(&poisoned);
            conn.wait_closed();
        } else {
            conn.expect_request();
            conn.respond("200 OK", &[], b"fresh");
        }
    });
    let front = TlsFront::start(origin.address());
    let proxy = Proxy::behind_tls(&front, |config| config);
    let mut client = proxy.client();
    assert_eq!(client.get("/products/x").body.len(), 600_000);
    assert_eq!(client.get("/products/x").body.len(), 16_000);
    assert_eq!(client.get("/products/x").text(), "fresh");
}

#[test]
fn connections_that_end_in_order_say_so_and_later_ones_resume() {
    let origin = ScriptedOrigin::serving("x");
    let front = TlsFront::start(origin.address());
    let launch = Launch::trusting(&front);
    let elsewhere = Config::products(front.named_url())
        .set("server.threads", 1)
        .set("buckets.0.s3.ca_file", "ca.pem");
    let config = elsewhere.clone().set("buckets.0.s3.endpoint", front.url());
    let proxy = launch.config(&config).start();
    for round in 1..4 {
        assert_eq!(proxy.get("/products/x").text(), "x");
        assert_eq!((front.handshakes(), front.resumed()), (round, round - 1));
        // Without the endpoint its connections are closed.
        for config in [&elsewhere, &config] {
            let before = proxy.metric("config_reload_success_total");
            proxy.write_config(config);
            proxy.signal("HUP");
            wait_until("the reload", || proxy.metric("config_reload_success_total") > before);
        }
        wait_until("close_notify", || front.closed_in_order() == round);
    }
}

#[test]
fn a_body_until_the_end_of_the_connection_is_whole_only_with_close_notify() {
    for keeps_alert in [true, false] {
        let origin = ScriptedOrigin::start(|conn, _| {
            conn.expect_request();
            conn.send("HTTP/1.1 200 OK\r\n\r\nthe whole body");
        });
        let front = TlsFront::start(origin.address());
        let relay = TlsRelay::start(front.address(), move |record, client| {
            (keeps_alert || record.len() != ALERT_RECORD_BYTES) && client.write_all(record).is_ok()
        });
        let proxy = proxy_to(relay.url(), &front, |config| config);
        let mut client = proxy.client();
        client.send(request_bytes("GET", "/products/x", &[]));
        match client.try_response("GET") {
            Ok(whole) => assert!(keeps_alert && whole.text() == "the whole body", "{whole:?}"),
            Err(cut) => {
                assert!(!keeps_alert, "{cut:?}");
                assert_eq!(cut.response.unwrap().body, b"the whole body");
                let series =
                    "yatagarasu_upstream_errors_total{bucket=\"products\",reason=\"truncated\"}";
                assert_eq!(proxy.metric(series), Some(1.0));
            }
        }
    }
}

#[test]
fn a_record_that_drips_is_given_up_in_the_time_of_a_read() {
    let gate = Gate::default();
    let head_arrived = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        conn.expect_request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10001\r\n\r\nx");
        // What follows is in a record of its own.
        conn.wait(&gate);
        conn.send([b'x'; 10_000]);
        conn.wait_closed();
    });
    let front = TlsFront::start(origin.address());
    let relay = TlsRelay::start(front.address(), |record, client| {
        if record.len() < 9_000 {
            return client.write_all(record).is_ok();
        }
        // Long after the time is over.
        record.iter().all(|byte| {
            std::thread::sleep(Duration::from_millis(20));
            client.write_all(&[*byte]).is_ok()
        })
    });
    let proxy = proxy_to(relay.url(), &front, |config| {
        config.set("buckets.0.s3.timeouts.read", 0.5).set("buckets.0.s3.timeouts.first_byte", 60)
    });
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/x", &[]));
    let framing = client.head("GET").unwrap().framing;
    let mut received = 0;
    let ended = client.body(framing, &mut |bytes| {
        received += bytes.len();
        head_arrived.open();
    });
    ended.expect_err("a record that never ends");
    assert_eq!(received, 1);
    let series = "yatagarasu_upstream_errors_total{bucket=\"products\",reason=\"read_timeout\"}";
    assert_eq!(proxy.metric(series), Some(1.0));
}

/// How long a short response takes behind a long body that paused.
fn after_a_long_body_that_pauses() -> Duration {
    const LENGTH: usize = 2_000_000;
    let gate = Gate::default();
    let opened = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        conn.expect_request();
        conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
        conn.send([b'x'; 10_000]);
        conn.wait(&gate);
        conn.send(vec![b'x'; LENGTH - 10_000]);
        while conn.request().is_some() {
            conn.respond("200 OK", &[], b"short");
        }
    });
    let front = TlsFront::start(origin.address());
    let proxy = proxy_to(front.url(), &front, |config| config);
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/x", &[]));
    let framing = client.head("GET").unwrap().framing;
    let mut received = 0;
    client
        .body(framing, &mut |bytes| {
            received += bytes.len();
            if received == 10_000 {
                opened.open();
            }
        })
        .unwrap();
    assert_eq!(received, LENGTH);
    let started = std::time::Instant::now();
    assert_eq!(client.get("/products/x").text(), "short");
    let took = started.elapsed();
    assert_eq!(front.handshakes(), 1);
    took
}

#[test]
fn a_long_body_that_pauses_is_passed_on_as_far_as_it_came() {
    // A short response that is waited for as if it were long takes a tenth of a second or more. On
    // a busy machine some others do.
    let fastest = (0..5).map(|_| after_a_long_body_that_pauses()).min().unwrap();
    assert!(fastest < Duration::from_millis(90), "{fastest:?}");
}
