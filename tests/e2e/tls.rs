//! TLS for clients: what they are shown, what they get, and how their connections end.

use std::time::Duration;

use rustls::{CipherSuite, version::TLS12, version::TLS13};
use serde_json::json;

use crate::support::{
    config::Config,
    gate::Gate,
    proxy::{Proxy, field},
    raw_client::{Client, End, Framing, request_bytes},
    reload::{adopt, touched},
    s3_server::S3Server,
    scripted_origin::ScriptedOrigin,
    site::{Site, VERSIONS},
    waiting::{wait_for, wait_until},
};

const MIB: usize = 1024 * 1024;

/// Bytes of which no part looks like another.
fn pattern(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

fn handshakes(proxy: &Proxy, version: &str, cipher: &str, resumed: bool) -> Option<f64> {
    let labels = format!("version=\"{version}\",cipher=\"{cipher}\",resumed=\"{resumed}\"");
    // Labels are written in the order of their names.
    let page = proxy.metrics();
    let line = page.lines().find(|line| {
        line.starts_with("yatagarasu_tls_handshakes_total{")
            && labels.split(',').all(|label| line.contains(label))
    })?;
    line.rsplit_once(' ')?.1.parse().ok()
}

#[test]
fn objects_are_served_over_both_versions_with_the_fastest_cipher() {
    let server = S3Server::with_test_keys();
    server.put("products", "a/b.txt", b"hello");
    let site = Site::new();
    let proxy = site.start(&Config::products(server.url()).with_tls());
    for (version, suite, name) in [
        (
            &TLS12,
            CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
            "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        ),
        (&TLS13, CipherSuite::TLS13_AES_128_GCM_SHA256, "TLS_AES_128_GCM_SHA256"),
    ] {
        let number = if name.contains("ECDHE") { "1.2" } else { "1.3" };
        let mut client = site.visitor_with(version).connect(&proxy);
        for _ in 0..3 {
            assert_eq!(client.get("/products/a/b.txt").text(), "hello");
        }
        assert_eq!(client.session().protocol_version(), Some(version.version));
        assert_eq!(client.session().negotiated_cipher_suite().map(|s| s.suite()), Some(suite));
        assert_eq!(handshakes(&proxy, number, name, false), Some(1.0), "{}", proxy.metrics());
        assert_eq!(handshakes(&proxy, number, name, true), Some(0.0));
    }
    // The built-in endpoints are there too, and the plain listener is what it was.
    assert_eq!(site.visitor().get(&proxy, "/health").status, 200);
    assert_eq!(proxy.get("/products/a/b.txt").text(), "hello");
}

#[test]
fn the_access_log_describes_the_session() {
    let origin = ScriptedOrigin::serving("x");
    let site = Site::new();
    let mut proxy = site.start(&Config::products(origin.url()).with_tls());
    site.visitor_with(&TLS12).get(&proxy, "/products/over12");
    site.visitor_with(&TLS13)
        .with(|config| config.enable_sni = false)
        .get(&proxy, "/products/over13");
    proxy.get("/products/plain");
    let mut client = site.visitor().connect(&proxy);
    client.send(b"bad request\r\n\r\n");
    assert_eq!(client.response("GET").status, 400);
    proxy.signal("TERM");
    proxy.wait_exit();
    let records = proxy.complete_stdout().records();
    let of = |path: &str| records.iter().find(|record| record["path"] == path).unwrap().clone();
    let described = |path: &str| {
        let record = of(path);
        [&record["tls_version"], &record["tls_cipher"], &record["sni"]].map(Clone::clone)
    };
    let ecdhe = "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256";
    assert_eq!(described("/products/over12"), [json!("TLSv1.2"), json!(ecdhe), json!("localhost")]);
    let aes = "TLS_AES_128_GCM_SHA256";
    assert_eq!(described("/products/over13"), [json!("TLSv1.3"), json!(aes), json!(null)]);
    assert_eq!(described("/products/plain"), [json!(null), json!(null), json!(null)]);
    assert_eq!(described(""), [json!("TLSv1.3"), json!(aes), json!("localhost")]);
}

#[test]
fn the_certificate_is_the_one_for_the_name_that_is_asked_for() {
    let site = Site::new();
    let [exact, wildcard] =
        [&["a.wild.example"][..], &["*.wild.example", "b.test"]].map(|names| site.issue(names));
    let launch = site.launch();
    for (name, identity) in [("exact", &exact), ("wildcard", &wildcard)] {
        launch.write(&format!("{name}.pem"), &identity.pem());
        launch.write(&format!("{name}.key"), &identity.key_pem());
    }
    let pair = |name: &str| json!({ "cert_file": format!("{name}.pem"), "key_file": format!("{name}.key") });
    let config = Config::unreachable()
        .with_tls()
        .set("server.tls.certificates", json!([pair("site"), pair("wildcard"), pair("exact")]));
    let proxy = launch.config(&config).start();
    for version in VERSIONS {
        for (name, expected) in [
            ("localhost", site.identity()),
            ("a.wild.example", &exact),
            ("A.Wild.Example", &exact),
            ("c.wild.example", &wildcard),
            ("b.test", &wildcard),
        ] {
            let visitor = site.visitor_with(version);
            let mut client = visitor.try_connect(proxy.tls_address(), name).unwrap();
            let shown = client.session().peer_certificates().unwrap()[0].clone();
            assert!(shown == expected.der(), "{name}");
        }
        // One label only; and a name that nobody has gets the first one, which does not fit.
        for name in ["x.a.wild.example", "nowhere.test"] {
            let visitor = site.visitor_with(version);
            let error = visitor.try_connect(proxy.tls_address(), name).unwrap_err().to_string();
            assert!(error.contains("localhost"), "{name}: {error}");
        }
        let visitor = site.visitor_with(version).with(|config| config.enable_sni = false);
        let mut client = visitor.connect(&proxy);
        let shown = client.session().peer_certificates().unwrap()[0].clone();
        assert!(shown == site.identity().der(), "without a name");
    }
}

#[test]
fn bodies_of_every_size_arrive_whole() {
    let server = S3Server::with_test_keys();
    let site = Site::new();
    let sizes = [0, 1, 4_000, 16_383, 16_384, 16_385, 65_536, 300_000, 5 * MIB + 7];
    for size in sizes {
        server.put("products", &size.to_string(), pattern(size));
    }
    let proxy = site.start(&Config::products(server.url()).with_tls());
    for version in VERSIONS {
        let mut client = site.visitor_with(version).connect(&proxy);
        for size in sizes {
            let response = client.get(&format!("/products/{size}"));
            assert_eq!(response.status, 200);
            assert!(response.body == pattern(size), "{size}");
        }
        let head = client.request("HEAD", "/products/300000", &[]);
        assert_eq!(head.header("content-length"), Some("300000"));
    }
}

#[test]
fn a_body_in_chunks_and_one_until_the_end_arrive_whole() {
    let origin = ScriptedOrigin::start(|conn, _| {
        while let Some(request) = conn.request() {
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for _ in 0..100 {
                conn.send(format!("{:x}\r\n{}\r\n", 5_000, "c".repeat(5_000)));
            }
            conn.send("0\r\n\r\n");
            let _ = request;
        }
    });
    let site = Site::new();
    let proxy = site.start(&Config::products(origin.url()).with_tls());
    let mut client = site.visitor().connect(&proxy);
    assert_eq!(client.get("/products/x").body.len(), 500_000);
    // To a client of HTTP/1.0 the end of the session is that of the body.
    client.send("GET /products/x HTTP/1.0\r\nHost: x\r\n\r\n");
    let response = client.response("GET");
    assert_eq!(response.framing, Framing::UntilClose);
    assert_eq!(response.body.len(), 500_000);
    assert_eq!(client.expect_end(), End::Fin);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = ScriptedOrigin::echo();
    let site = Site::new();
    let proxy = site.start(&Config::products(origin.url()).with_tls());
    let mut client = site.visitor().connect(&proxy);
    let requests: Vec<u8> = (0..50)
        .flat_map(|number| request_bytes("GET", &format!("/products/{number}"), &[]))
        .collect();
    client.send(requests);
    for number in 0..50 {
        let response = client.response("GET");
        assert!(response.text().contains(&format!("/products/{number}")), "{response:?}");
    }
}

#[test]
fn a_request_in_many_small_records_is_one_request() {
    let origin = ScriptedOrigin::serving("x");
    let site = Site::new();
    let proxy = site.start(&Config::products(origin.url()).with_tls());
    for version in VERSIONS {
        let mut client = site.visitor_with(version).connect(&proxy);
        for byte in request_bytes("GET", "/products/x", &[]) {
            client.send([byte]);
        }
        assert_eq!(client.response("GET").text(), "x");
    }
}

#[test]
fn an_orderly_end_is_announced_whatever_the_reason() {
    let origin = ScriptedOrigin::serving("x");
    let site = Site::new();
    let config = Config::products(origin.url()).with_tls().set("server.timeouts.client_idle", 0.2);
    let proxy = site.start(&config);
    for version in VERSIONS {
        let visitor = site.visitor_with(version);
        // The client asks for it.
        let mut client = visitor.connect(&proxy);
        let closing = client.request("GET", "/products/x", &[("Connection", "close")]);
        assert_eq!(closing.text(), "x");
        assert_eq!(client.expect_end(), End::Fin);
        // It is idle for too long.
        let mut client = visitor.connect(&proxy);
        assert_eq!(client.get("/products/x").text(), "x");
        assert_eq!(client.expect_end(), End::Fin);
        // It does not speak HTTP.
        let mut client = visitor.connect(&proxy);
        client.send("nonsense\r\n\r\n");
        assert_eq!(client.response("GET").status, 400);
        assert_eq!(client.expect_end(), End::Fin);
        // It goes first.
        let mut client = visitor.connect(&proxy);
        assert_eq!(client.get("/products/x").text(), "x");
        client.end_session();
        assert_eq!(client.expect_end(), End::Fin);
    }
}

#[test]
fn the_end_of_the_process_is_announced_to_idle_clients() {
    let origin = ScriptedOrigin::serving("x");
    let site = Site::new();
    let mut proxy = site.start(&Config::products(origin.url()).with_tls());
    let mut used = site.visitor().connect(&proxy);
    assert_eq!(used.get("/products/x").text(), "x");
    let mut unused = site.visitor().connect(&proxy);
    proxy.signal("TERM");
    assert_eq!(used.expect_end(), End::Fin);
    assert_eq!(unused.expect_end(), End::Fin);
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn a_body_that_is_cut_short_ends_with_a_reset_and_is_not_announced() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        let request = conn.expect_request();
        if request.target.contains("length") {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nfirst");
        } else {
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n");
        }
        conn.wait(&held);
    });
    let site = Site::new();
    let proxy = site.start(&Config::products(origin.url()).with_tls());
    let clients: Vec<_> = VERSIONS
        .iter()
        .flat_map(|version| ["length", "chunked", "until-close"].map(|key| (version, key)))
        .map(|(version, key)| {
            let mut client = site.visitor_with(version).connect(&proxy);
            if key == "until-close" {
                client.send(format!("GET /products/{key} HTTP/1.0\r\nHost: x\r\n\r\n"));
            } else {
                client.send(request_bytes("GET", &format!("/products/{key}"), &[]));
            }
            client.head("GET").unwrap();
            client
        })
        .collect();
    gate.open();
    for mut client in clients {
        let (_, end) = client.read_to_end();
        assert_eq!(end, End::Reset);
    }
}

#[test]
fn a_client_that_leaves_a_session_without_saying_so_is_gone() {
    let site = Site::new();
    let proxy = site.start(&Config::unreachable().with_tls());
    let connections = || proxy.metric("yatagarasu_connections{state=\"idle\"}");
    let mut client = site.visitor().connect(&proxy);
    assert_eq!(client.get("/health").status, 200);
    wait_until("the idle connection", || connections() == Some(1.0));
    client.finish_sending();
    assert_eq!(client.expect_end(), End::Fin);
    wait_until("its end", || connections() == Some(0.0));
    let client = site.visitor().connect(&proxy);
    client.reset();
    wait_until("its end", || proxy.metric("yatagarasu_connections{state=\"active\"}") == Some(1.0));
}

#[test]
fn a_download_goes_on_through_reloads() {
    const LENGTH: usize = 64 * MIB;
    let origin = ScriptedOrigin::start(|conn, _| {
        while conn.request().is_some() {
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
            let block = vec![b'x'; MIB];
            for _ in 0..LENGTH / MIB {
                if !conn.try_send(&block) {
                    return;
                }
            }
        }
    });
    let site = Site::new();
    let config = Config::products(origin.url()).with_tls().with_jwt(&[]);
    let proxy = site.start(&config);
    let mut client = site.visitor().connect(&proxy);
    client.send(request_bytes("GET", "/products/x", &[]));
    let head = client.head("GET").unwrap();
    client.read_exactly(MIB);
    for number in 0..3 {
        adopt(&proxy, &touched(&config, number));
    }
    let rest = client.read_exactly(LENGTH - MIB);
    assert_eq!(head.framing, Framing::Length(LENGTH as u64));
    assert!(rest.iter().all(|byte| *byte == b'x'));
    assert_eq!(client.get("/health").status, 200);
}

#[test]
fn an_https_target_is_right_on_a_tls_connection_only() {
    let origin = ScriptedOrigin::serving("x");
    let site = Site::new();
    let proxy = site.start(&Config::products(origin.url()).with_tls());
    assert_eq!(site.visitor().get(&proxy, "https://proxy.test/products/x").text(), "x");
    proxy.get("https://proxy.test/products/x").assert_fault(421, "misdirected");
}

#[test]
fn a_second_process_on_the_port_is_refused() {
    let site = Site::new();
    let config = Config::unreachable().with_tls();
    let proxy = site.start(&config);
    let port = proxy.tls_address().port();
    let second = site.launch().config(&config.set("server.tls.port", port)).run();
    assert_eq!(second.code, Some(3), "{second:?}");
    assert!(second.stderr.contains("server.tls.port"), "{second:?}");
    assert_eq!(site.visitor().get(&proxy, "/health").status, 200);
}

#[test]
fn the_port_is_that_of_the_file() {
    let site = Site::new();
    // Below those that the kernel gives to outgoing connections, so a free one stays free.
    let port = wait_for("a free port", || {
        let port = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
        (port..port + 100).find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
    });
    let proxy = site.start(&Config::unreachable().with_tls().set("server.tls.port", port));
    assert_eq!(proxy.tls_address().port(), port);
    let event = proxy.stderr().event("TLS listening").unwrap();
    assert_eq!(field(&event, "address"), Some(&json!(format!("127.0.0.1:{port}"))));
}

#[test]
fn every_core_accepts() {
    let site = Site::new();
    let proxy = site.start(&Config::unreachable().with_tls().set("server.threads", 2));
    let visitor = site.visitor().with(|config| {
        config.resumption = rustls::client::Resumption::disabled();
    });
    let clients: Vec<_> = (0..40).map(|_| visitor.connect(&proxy)).collect();
    for mut client in clients {
        assert_eq!(client.get("/health").status, 200);
    }
    let total = handshakes(&proxy, "1.3", "TLS_AES_128_GCM_SHA256", false);
    assert_eq!(total, Some(40.0));
}

#[test]
fn a_slow_reader_gets_all_of_it() {
    let server = S3Server::with_test_keys();
    server.put("products", "big", pattern(4 * MIB));
    let site = Site::new();
    let proxy = site.start(&Config::products(server.url()).with_tls());
    let tcp = Client::connect_with_receive_buffer(proxy.tls_address(), 4_096);
    let mut client = site.visitor().over(tcp).unwrap();
    client.send(request_bytes("GET", "/products/big", &[]));
    let head = client.head("GET").unwrap();
    assert_eq!(head.framing, Framing::Length(4 * MIB as u64));
    let mut body = Vec::new();
    while body.len() < 4 * MIB {
        let part = (4 * MIB - body.len()).min(300_000);
        body.extend(client.read_exactly(part));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(body == pattern(4 * MIB));
}

#[test]
fn a_client_may_change_its_keys() {
    let origin = ScriptedOrigin::serving("x");
    let site = Site::new();
    let proxy = site.start(&Config::products(origin.url()).with_tls());
    let mut client = site.visitor_with(&TLS13).connect(&proxy);
    for _ in 0..5 {
        client.session().refresh_traffic_keys().unwrap();
        assert_eq!(client.get("/products/x").text(), "x");
    }
}
