//! The PROXY protocol before everything else on a connection.

use std::net::{Ipv6Addr, SocketAddr};

use serde_json::{Value, json};

use crate::support::{
    config::Config,
    http2_frames::{PREFACE, request, settings},
    proxy::{Proxy, field},
    raw_client::{Client, request_bytes},
    reload::reload,
    scripted_origin::ScriptedOrigin,
    site::Site,
    waiting::wait_until,
};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

const V1: &[u8] = b"PROXY TCP4 203.0.113.5 10.0.0.1 4660 80\r\n";

const SOURCE: &str = "203.0.113.5:4660";

/// A header of version 2.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &length, rest].concat()
}

/// One that names [`SOURCE`], with this behind the addresses.
fn v2_with(values: &[u8]) -> Vec<u8> {
    let block = [203, 0, 113, 5, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
    v2(0x21, 0x11, &[&block, values].concat())
}

fn v2_over_ipv6() -> Vec<u8> {
    let ip: Ipv6Addr = "2001:db8::5".parse().unwrap();
    v2(0x21, 0x21, &[&ip.octets()[..], &[0; 16], &[0x12, 0x34, 0, 80]].concat())
}

fn config(origin: &ScriptedOrigin) -> Config {
    Config::products(origin.url()).set("server.proxy_protocol", "require").with_admin_listener()
}

#[track_caller]
fn refused(proxy: &Proxy) -> f64 {
    proxy
        .metric("yatagarasu_connections_rejected_total{reason=\"proxy_protocol\"}")
        .expect("the series")
}

#[test]
fn the_header_names_the_peer_and_the_request_follows_it() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&config(&origin));
    let request = request_bytes("GET", "/products/x", &[]);
    let mut number = 0;
    for (header, source) in [
        (V1.to_vec(), Some(SOURCE)),
        (b"PROXY TCP6 2001:db8::5 ::1 4660 80\r\n".to_vec(), Some("[2001:db8::5]:4660")),
        (b"PROXY TCP6 ::ffff:203.0.113.5 ::1 4660 80\r\n".to_vec(), Some(SOURCE)),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
        (b"PROXY UNKNOWN 203.0.113.5 10.0.0.1 4660 80\r\n".to_vec(), None),
        (v2_with(b""), Some(SOURCE)),
        (v2_with(&[0xea, 0, 3, 1, b'i', b'd']), Some(SOURCE)),
        (v2_with(&[0; 8_000]), Some(SOURCE)),
        (v2_over_ipv6(), Some("[2001:db8::5]:4660")),
        (v2(0x20, 0x00, b""), None),
        (v2(0x20, 0x11, &[0; 300]), None),
        (v2(0x21, 0x00, b"no address"), None),
        (v2(0x21, 0x31, &[b'/'; 216]), None),
    ] {
        let mut client = proxy.client();
        // All at once: two requests wait behind the header.
        client.send([&header[..], &request, &request].concat());
        let expected = source.map_or_else(|| client.local().to_string(), str::to_owned);
        for _ in 0..2 {
            assert_eq!(client.response("GET").text(), "x");
            number += 1;
        }
        // And later ones on the same connection.
        assert_eq!(client.get("/products/x").text(), "x");
        number += 1;
        let newest = proxy.stdout().record(number);
        let records = proxy.stdout().records();
        for record in &records[number - 3..] {
            assert_eq!((&record["client"], &record["peer"]), (&json!(expected), &json!(expected)));
        }
        assert_eq!(newest["status"], 200);
    }
    assert!(refused(&proxy) < 1.0);
}

#[test]
fn a_header_may_come_byte_by_byte() {
    let origin = ScriptedOrigin::serving("x");
    for io in ["auto", "epoll"] {
        let proxy = Proxy::start(&config(&origin).set("server.io", io));
        for (number, header) in
            [V1.to_vec(), v2_with(&[7; 200]), v2_over_ipv6()].into_iter().enumerate()
        {
            let mut client = proxy.client();
            for byte in [&header[..], &request_bytes("GET", "/products/x", &[])].concat() {
                client.send([byte]);
            }
            assert_eq!(client.response("GET").text(), "x");
            let port = proxy.stdout().record(number + 1)["peer"]
                .as_str()
                .unwrap()
                .rsplit_once(':')
                .map(|(_, port)| port.to_owned());
            assert_eq!(port.as_deref(), Some("4660"));
        }
    }
}

#[test]
fn what_is_no_header_closes_the_connection_and_is_counted() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&config(&origin));
    let mut over_the_signature = v2_with(b"");
    over_the_signature[5] = b'\n';
    let too_long = v2(0x21, 0x11, &[0; 8_200]);
    let endless = [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat();
    let cases: [&[u8]; 17] = [
        b"GET /products/x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\0",
        b"PROXY TCP4 203.0.113.5 10.0.0.1 4660 80\n",
        b"PROXY TCP4 203.0.113.5 10.0.0.1 4660\r\n",
        b"PROXY TCP4 203.0.113.5 10.0.0.1 04660 80\r\n",
        b"PROXY TCP4 2001:db8::5 ::1 4660 80\r\n",
        b"PROXY TCP4 203.0.113.5  10.0.0.1 4660 80\r\n",
        b"PROXY SCTP4 203.0.113.5 10.0.0.1 4660 80\r\n",
        &endless,
        &over_the_signature,
        &v2(0x11, 0x11, &[0; 12]),
        &v2(0x22, 0x11, &[0; 12]),
        &v2(0x21, 0x12, &[0; 12]),
        &v2(0x21, 0x11, &[0; 11]),
        &too_long,
    ];
    for (number, bytes) in cases.into_iter().enumerate() {
        let mut client = proxy.client();
        client.send_if_open(bytes);
        client.expect_end();
        let expected = f64::from(u32::try_from(number + 1).unwrap());
        wait_until("the count", || refused(&proxy) >= expected);
        assert!((refused(&proxy) - expected).abs() < 0.5, "{:?}", String::from_utf8_lossy(bytes));
    }
    // A beginning that never goes on, because the client ends it.
    for (number, bytes) in
        [&V1[..20], &v2_with(b"")[..20], &v2_with(&[0; 50])[..40]].into_iter().enumerate()
    {
        let mut client = proxy.client();
        client.send(bytes);
        client.finish_sending();
        client.expect_end();
        let expected = f64::from(u32::try_from(cases.len() + number + 1).unwrap());
        assert!((refused(&proxy) - expected).abs() < 0.5, "{bytes:?}");
    }
    assert!(origin.requests().is_empty());
    // The counts were asked for, which may have been written by now.
    let records = proxy.stdout().records();
    assert!(records.iter().all(|record| record["path"] == "/metrics"), "{records:?}");

    proxy.stderr().wait_for("PROXY protocol header was closed");
    let warnings: Vec<_> = proxy
        .stderr()
        .records()
        .into_iter()
        .filter(|record| record.to_string().contains("PROXY protocol header was closed"))
        .collect();
    assert_eq!(warnings.len(), 1, "once a minute: {warnings:?}");
    assert_eq!(field(&warnings[0], "reason"), Some(&json!("no PROXY protocol header")));
    let peer = field(&warnings[0], "peer").and_then(Value::as_str).unwrap();
    assert!(peer.parse::<SocketAddr>().unwrap().ip().is_loopback(), "{peer}");

    let mut client = proxy.client();
    client.send([V1, &request_bytes("GET", "/products/x", &[])].concat());
    assert_eq!(client.response("GET").text(), "x");
}

#[test]
fn a_header_has_its_time_and_a_silent_connection_is_not_counted() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&config(&origin).set("server.timeouts.client_header", 1.0));
    // A check whether the port is open, and a client that never says anything.
    drop(proxy.client());
    let mut checks = proxy.client();
    checks.finish_sending();
    checks.expect_end();
    proxy.client().expect_end();
    assert!(refused(&proxy) < 0.5);
    for (number, beginning) in
        [&V1[..1], &V1[..30], &SIGNATURE[..3], &v2_with(&[0; 50])[..60]].into_iter().enumerate()
    {
        let mut client = proxy.client();
        client.send(beginning);
        client.expect_end();
        let expected = f64::from(u32::try_from(number + 1).unwrap());
        assert!((refused(&proxy) - expected).abs() < 0.5, "{beginning:?}");
    }
    // The request behind it has a time of its own, as on other connections.
    let mut client = proxy.client();
    client.send([V1, b"GET /products/x"].concat());
    client.response("GET").assert_fault(408, "head_timeout");
}

#[test]
fn trust_applies_to_the_source_that_the_header_names() {
    let origin = ScriptedOrigin::serving("x");
    let trusted = json!(["203.0.113.5", "10.0.0.0/8"]);
    let proxy = Proxy::start(&config(&origin).set("server.trusted_proxies", trusted));
    let stranger = b"PROXY TCP4 203.0.113.6 10.0.0.1 4660 80\r\n";
    let fields = [("X-Forwarded-For", "198.51.100.7, 10.0.0.2"), ("X-Request-Id", "given")];
    for (number, (header, client, id_given)) in
        [(V1, "198.51.100.7", true), (&stranger[..], "203.0.113.6:4660", false)]
            .into_iter()
            .enumerate()
    {
        let mut connection = proxy.client();
        connection.send([header, &request_bytes("GET", "/products/x", &fields)].concat());
        let answer = connection.response("GET");
        assert_eq!(answer.header("x-request-id") == Some("given"), id_given);
        assert_eq!(proxy.stdout().record(number + 1)["client"], client);
    }
}

#[test]
fn the_header_comes_before_the_handshake() {
    let origin = ScriptedOrigin::serving("x");
    let site = Site::new();
    let proxy = site.start(&config(&origin).with_tls());
    for (number, header) in
        [V1.to_vec(), v2_with(&[0; 3_000]), v2_over_ipv6()].into_iter().enumerate()
    {
        let mut tcp = Client::connect(proxy.tls_address());
        for byte in &header {
            tcp.send([*byte]);
        }
        let mut client = site.visitor().over(tcp).expect("a handshake");
        assert_eq!(client.get("/products/x").text(), "x");
        let record = proxy.stdout().record(number + 1);
        assert_eq!(record["tls_version"], "TLSv1.3");
        let port = record["peer"].as_str().unwrap().rsplit_once(':').map(|(_, port)| port);
        assert_eq!(port, Some("4660"), "{record}");
    }
    // Without one, nobody shakes hands.
    let silent = site.visitor().over(Client::connect(proxy.tls_address()));
    assert!(silent.is_err());
    wait_until("the count", || refused(&proxy) >= 1.0);
}

#[test]
fn the_header_comes_before_a_refusal_over_tls() {
    let origin = ScriptedOrigin::serving("x");
    let site = Site::new();
    let proxy = site.start(&config(&origin).with_tls().set("server.max_connections", 1));
    let mut only = proxy.client();
    only.send(V1);
    assert_eq!(only.get("/products/x").text(), "x");
    let mut tcp = Client::connect(proxy.tls_address());
    tcp.send(V1);
    let mut over = site.visitor().over(tcp).expect("a handshake");
    assert_eq!(over.get("/products/x").status, 503);
}

#[test]
fn the_header_comes_before_the_preface_of_http2() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&config(&origin).set("server.http2.cleartext", true));
    for (number, header) in [V1.to_vec(), v2_with(b"")].into_iter().enumerate() {
        let mut client = proxy.client();
        let begin = [&header[..], PREFACE, &settings(&[]), &request(1, "/products/x")].concat();
        client.send(begin);
        let record = proxy.stdout().record(number + 1);
        assert_eq!((&record["protocol"], &record["status"]), (&json!("HTTP/2"), &json!(200)));
        assert_eq!(record["peer"], SOURCE);
    }
}

#[test]
fn the_admin_listener_takes_no_header() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&config(&origin).with_jwt(&[]));
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(Client::connect(proxy.admin_address()).get(path).status, 200, "{path}");
    }
    let mut with_header = Client::connect(proxy.admin_address());
    with_header.send([V1, &request_bytes("GET", "/health", &[])].concat());
    with_header.response("GET").assert_fault(400, "bad_request");
    // The key is the process's until it is restarted.
    proxy.write_config(&config(&origin).with_jwt(&[]).set("server.proxy_protocol", "none"));
    let report = reload(&proxy);
    assert_eq!(report["changed"], false, "{report}");
    assert_eq!(
        report["restart_required"],
        json!(["server.proxy_protocol: running require, file none"])
    );
    let mut client = proxy.client();
    client.send_if_open(request_bytes("GET", "/products/x", &[]));
    client.expect_end();
    let mut client = proxy.client();
    client.send([V1, &request_bytes("GET", "/products/x", &[])].concat());
    assert_eq!(client.response("GET").text(), "x");
}

#[test]
fn a_probe_without_an_admin_listener_needs_the_header_and_a_warning_says_so() {
    let config = Config::unreachable().set("server.proxy_protocol", "require");
    let proxy = Proxy::start(&config);
    proxy.stderr().wait_for("server.proxy_protocol: applies to health probes");
    let mut probe = proxy.client();
    probe.send_if_open(request_bytes("GET", "/health", &[]));
    probe.expect_end();
    let mut probe = proxy.client();
    probe.send([V1, &request_bytes("GET", "/health", &[])].concat());
    assert_eq!(probe.response("GET").status, 200);
}

#[test]
fn a_stop_does_not_wait_for_headers_that_have_not_begun() {
    let origin = ScriptedOrigin::serving("x");
    // Longer than a test waits.
    let config = config(&origin)
        .set("server.timeouts.client_header", 3_600)
        .set("server.timeouts.drain", 3_600)
        .set("server.timeouts.drain_idle", 0.2);
    let mut proxy = Proxy::start(&config);
    let mut silent = proxy.client();
    // The one that asks is the other.
    wait_until("the connection", || proxy.metric_sum("yatagarasu_connections") >= 2.0);
    let mut late = proxy.client();
    proxy.signal("TERM");
    silent.expect_end();
    late.read_to_end();
    assert_eq!(proxy.wait_exit().code(), Some(0));
}
