//! The client's address, request id and trace behind trusted proxies, and of everybody else.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::{Value, json};

use crate::support::{
    config::Config,
    http2_client::{Http2Client, get},
    proxy::{Proxy, field},
    raw_client::{Client, request_bytes},
    reload::{adopt, reload},
    scripted_origin::ScriptedOrigin,
    waiting::{wait_for, wait_until},
};

/// Where a trusted proxy connects from, in these tests.
const TRUSTED: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Where everybody else does.
const STRANGER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn trusting(config: Config) -> Config {
    config.set("server.trusted_proxies", json!(["127.0.0.1", "10.0.0.0/8", "2001:db8:1::/48"]))
}

fn traceparent() -> String {
    format!("00-{TRACE}-{PARENT}-01")
}

#[test]
fn the_client_is_found_behind_trusted_proxies() {
    let proxy = Proxy::start(&trusting(Config::unreachable()));
    let mut client = Client::connect_from(TRUSTED, proxy.address());
    let peer = client.local().to_string();
    let xff = "X-Forwarded-For";
    let cases: [(&[(&str, &str)], &str); 12] = [
        (&[(xff, "203.0.113.5")], "203.0.113.5"),
        (&[(xff, "203.0.113.5:4711")], "203.0.113.5:4711"),
        (&[(xff, "6.6.6.6, 203.0.113.5, 10.0.0.1")], "203.0.113.5"),
        (&[(xff, "6.6.6.6"), ("X-A", "b"), ("x-forwarded-for", "203.0.113.5")], "203.0.113.5"),
        (&[(xff, "203.0.113.5"), (xff, "10.0.0.2"), (xff, "10.0.0.1")], "203.0.113.5"),
        (&[(xff, "2001:db8::5, [2001:db8:1::1]:80")], "[2001:db8::5]"),
        (&[(xff, "[2001:db8::5]:99")], "[2001:db8::5]:99"),
        (&[(xff, "::ffff:203.0.113.5")], "203.0.113.5"),
        (&[(xff, "203.0.113.5, unknown, 10.0.0.1")], "10.0.0.1"),
        (&[(xff, "junk")], &peer),
        (&[("Forwarded", "for=203.0.113.5")], &peer),
        (&[], &peer),
    ];
    for (number, (fields, expected)) in cases.into_iter().enumerate() {
        assert_eq!(client.request("GET", "/nothing", fields).status, 404);
        let record = proxy.stdout().record(number + 1);
        assert_eq!(record["client"], expected, "{fields:?}: {record}");
        assert_eq!(record["peer"], peer, "{fields:?}: {record}");
    }
}

#[test]
fn only_the_configured_field_counts() {
    let config = trusting(Config::unreachable()).set("server.client_address_header", "forwarded");
    let proxy = Proxy::start(&config);
    let mut client = Client::connect_from(TRUSTED, proxy.address());
    let fields = [
        ("X-Forwarded-For", "6.6.6.6"),
        ("Forwarded", "for=\"6.6.6.6"),
        ("Forwarded", "for=\"[2001:db8::5]:99\";proto=https, For=10.0.0.1;by=_x"),
    ];
    client.request("GET", "/nothing", &fields);
    assert_eq!(proxy.stdout().record(1)["client"], "[2001:db8::5]:99");
    client.request("GET", "/nothing", &fields[..1]);
    assert_eq!(proxy.stdout().record(2)["client"], client.local().to_string());
}

#[test]
fn nothing_that_a_stranger_says_about_itself_is_believed() {
    let trace = traceparent();
    let fields = [
        ("X-Forwarded-For", "10.0.0.1"),
        ("Forwarded", "for=10.0.0.1"),
        ("X-Real-IP", "10.0.0.1"),
        ("X-Request-Id", "chosen-by-a-stranger"),
        ("traceparent", &trace),
    ];
    for config in [
        trusting(Config::unreachable()),
        trusting(Config::unreachable()).set("server.client_address_header", "forwarded"),
        Config::unreachable(),
    ] {
        let proxy = Proxy::start(&config);
        let mut client = Client::connect_from(STRANGER, proxy.address());
        let answer = client.request("GET", "/nothing", &fields);
        answer.assert_fault(404, "no_route");
        let record = proxy.stdout().record(1);
        let peer = client.local().to_string();
        assert_eq!((&record["client"], &record["peer"]), (&json!(peer), &json!(peer)));
        let id = answer.header("x-request-id").unwrap();
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
        assert_eq!((&record["request_id"], &record["trace_id"]), (&json!(id), &json!(id)));
        assert_eq!(record["parent_id"], Value::Null);
        assert!(!proxy.output().contains("chosen-by-a-stranger"));
    }
}

#[test]
fn ids_of_a_trusted_proxy_are_taken_over() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&trusting(Config::products(origin.url())));
    let mut client = Client::connect_from(TRUSTED, proxy.address());
    let trace = traceparent();
    let longest = "x".repeat(128);
    let mut number = 0;
    for id in ["a", "Root=1-67891233-abcdef012345678912345678", "\"\\", &longest] {
        for target in ["/products/x", "/nothing"] {
            let fields = [("X-Request-Id", id), ("Traceparent", &trace)];
            let answer = client.request("GET", target, &fields);
            assert_eq!(answer.header("x-request-id"), Some(id));
            if target == "/nothing" {
                // Its body has the id too.
                answer.assert_fault(404, "no_route");
            }
            number += 1;
            let record = proxy.stdout().record(number);
            assert_eq!(record["request_id"], id);
            assert_eq!(
                (&record["trace_id"], &record["parent_id"]),
                (&TRACE.into(), &PARENT.into())
            );
        }
    }
    assert!(origin.requests().iter().all(|request| request.fields.get("traceparent").is_none()));
}

#[test]
fn ids_that_cannot_be_used_are_made_anew() {
    let proxy = Proxy::start(&trusting(Config::unreachable()));
    let mut client = Client::connect_from(TRUSTED, proxy.address());
    let over = "x".repeat(129);
    let zero = format!("00-{}-{PARENT}-01", "0".repeat(32));
    let cases: [&[(&str, &str)]; 8] = [
        &[("X-Request-Id", "")],
        &[("X-Request-Id", "a b")],
        &[("X-Request-Id", "caf\u{e9}")],
        &[("X-Request-Id", &over)],
        &[("X-Request-Id", "a"), ("X-Request-Id", "b")],
        &[("traceparent", &zero)],
        &[("traceparent", "00-short-01")],
        &[],
    ];
    for (number, fields) in cases.into_iter().enumerate() {
        let answer = client.request("GET", "/nothing", fields);
        let id = answer.header("x-request-id").unwrap();
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{fields:?}");
        let record = proxy.stdout().record(number + 1);
        assert_eq!(record["request_id"], id, "{fields:?}");
        assert_eq!((&record["trace_id"], &record["parent_id"]), (&id.into(), &Value::Null));
    }
    // A trace without an id of the request: each is judged by itself.
    let answer = client.request("GET", "/nothing", &[("traceparent", &traceparent())]);
    let record = proxy.stdout().record(9);
    assert_eq!(record["request_id"], answer.header("x-request-id").unwrap());
    assert_eq!(record["trace_id"], TRACE);
}

#[test]
fn the_fields_of_requests_over_http2_are_judged_in_the_same_way() {
    let config = trusting(Config::unreachable()).set("server.http2.cleartext", true);
    let proxy = Proxy::start(&config);
    let client = Http2Client::connect(proxy.address());
    let mut request = get("/nothing");
    let lines = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-request-id", "given"),
        ("x-forwarded-for", "203.0.113.5:99, 10.0.0.2"),
        ("x-forwarded-for", "10.0.0.1"),
        ("traceparent", &traceparent()),
    ];
    for (name, value) in lines {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().append(name, value.parse().unwrap());
    }
    let reply = client.request(request);
    assert_eq!(reply.header("x-request-id"), Some("given"));
    let record = proxy.stdout().record(1);
    assert_eq!((&record["protocol"], &record["status"]), (&json!("HTTP/2"), &json!(404)));
    assert_eq!(
        (&record["client"], &record["request_id"]),
        (&json!("203.0.113.5:99"), &json!("given"))
    );
    assert_eq!((&record["trace_id"], &record["parent_id"]), (&TRACE.into(), &PARENT.into()));
    assert!(record["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{record}");
}

#[test]
fn a_head_that_is_refused_is_that_of_its_peer() {
    let proxy = Proxy::start(&trusting(Config::unreachable()));
    let mut client = Client::connect_from(TRUSTED, proxy.address());
    client.send("GET /x HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.5\r\nBad : b\r\n\r\n");
    client.response("GET").assert_fault(400, "bad_request");
    let record = proxy.stdout().record(1);
    let peer = client.local().to_string();
    assert_eq!((&record["client"], &record["peer"]), (&json!(peer), &json!(peer)));
    assert_eq!(record["trace_id"], record["request_id"]);
}

#[test]
fn trust_changes_with_the_next_request_of_an_open_connection() {
    // The reloads come from this address too, and have records of their own.
    let config = Config::unreachable().with_jwt(&[]);
    let proxy = Proxy::start(&config);
    let mut client = Client::connect_from(TRUSTED, proxy.address());
    let peer = client.local().to_string();
    let mut seen = |path: &str| {
        client.send(request_bytes("GET", path, &[("X-Forwarded-For", "203.0.113.5")]));
        client.response("GET").assert_fault(404, "no_route");
        let found = || proxy.stdout().records().into_iter().find(|record| record["path"] == path);
        wait_until("the record", || found().is_some());
        found().unwrap()["client"].as_str().unwrap().to_owned()
    };
    assert_eq!(seen("/1"), peer);
    adopt(&proxy, &trusting(config.clone()));
    assert_eq!(seen("/2"), "203.0.113.5");
    adopt(&proxy, &trusting(config.clone()).set("server.client_address_header", "forwarded"));
    assert_eq!(seen("/3"), peer);
    adopt(&proxy, &config.clone().set("server.trusted_proxies", json!(["127.0.0.2"])));
    assert_eq!(seen("/4"), peer);
    // The same addresses in other words are no change.
    let halves = json!(["127.0.0.2/32", "127.0.0.2"]);
    proxy.write_config(&config.set("server.trusted_proxies", halves));
    assert_eq!(reload(&proxy)["changed"], false);
}

#[test]
fn the_line_of_an_admin_command_names_the_client() {
    let proxy = Proxy::start(&trusting(Config::unreachable().with_jwt(&[])));
    let admin = crate::support::token::bearer(&crate::support::token::for_role("admin"));
    let fields = [("Authorization", admin.as_str()), ("X-Forwarded-For", "203.0.113.5:9")];
    let mut client = Client::connect_from(TRUSTED, proxy.address());
    assert_eq!(client.request("GET", "/admin/status", &fields).status, 200);
    let line = wait_for("the line", || proxy.stderr().event("admin command"));
    assert_eq!(field(&line, "client"), Some(&json!("203.0.113.5:9")));
}
