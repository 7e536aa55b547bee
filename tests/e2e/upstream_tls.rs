//! TLS towards S3.

use crate::support::{
    config::Config,
    proxy::{Launch, Proxy},
    s3_server::S3Server,
    scripted_origin::{ScriptedOrigin, response_bytes},
    tls_front::TlsFront,
};

#[test]
fn an_https_endpoint_is_trusted_by_its_ca_file() {
    let s3 = S3Server::with_test_keys();
    let body: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    s3.put("products", "big", &body);
    let front = TlsFront::start(s3.address());
    let launch = Launch::new();
    launch.write("ca.pem", front.ca_pem());
    let ca_file = launch.path("ca.pem").display().to_string();
    let config = Config::products(front.url())
        .set("buckets.0.s3.ca_file", ca_file.as_str())
        .bucket("named", front.named_url())
        .set("buckets.1.s3.bucket", "products")
        .set("buckets.1.s3.ca_file", ca_file)
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
    let warnings = proxy.stderr().text().matches("TLS handshake failed").count();
    assert_eq!(warnings, 1, "{}", proxy.stderr().text());
}

#[test]
fn what_comes_decrypted_behind_an_answer_is_not_taken_for_the_next_one() {
    // After a large answer the proxy reads 16,384 bytes at a time: the second answer fills that
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
    let launch = Launch::new();
    launch.write("ca.pem", front.ca_pem());
    let config = Config::products(front.url())
        .set("buckets.0.s3.ca_file", launch.path("ca.pem").display().to_string());
    let proxy = launch.config(&config).start();
    let mut client = proxy.client();
    assert_eq!(client.get("/products/x").body.len(), 600_000);
    assert_eq!(client.get("/products/x").body.len(), 16_000);
    assert_eq!(client.get("/products/x").text(), "fresh");
}
