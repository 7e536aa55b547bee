//! What holds for every response, whatever it is about.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::{
    config::Config,
    proxy::Proxy,
    raw_client::{Client, Response},
    scripted_origin::{ScriptedOrigin, refused_address},
    token::{self, bearer},
    waiting::wait_until,
};

/// Two buckets that answer, one of them for tokens only, and one whose endpoint does not.
pub(crate) fn three_buckets(origin: &ScriptedOrigin) -> Config {
    Config::products(origin.url())
        .bucket("private", origin.url())
        .bucket("down", format!("http://{}", refused_address()))
        .with_jwt(&["private"])
        .set("server.expose_generation", true)
}

/// One response of every kind.
pub(crate) fn of_every_kind(proxy: &Proxy) -> Vec<(&'static str, Response)> {
    let raw = |bytes: &str| {
        let mut client = Client::connect(proxy.address());
        client.send(bytes);
        client.response("GET")
    };
    let admin = bearer(&token::for_role("admin"));
    let admin = [("Authorization", admin.as_str())];
    let request = |method: &str, path: &str, fields: &[(&str, &str)]| {
        proxy.client().request(method, path, fields)
    };
    vec![
        ("an object", proxy.get("/products/x")),
        ("its head", request("HEAD", "/products/x", &[])),
        ("options", request("OPTIONS", "/products/x", &[])),
        ("no route", proxy.get("/nothing")),
        ("no key", proxy.get("/products/")),
        ("a bad path", proxy.get("/products/%00")),
        ("another method", request("DELETE", "/products/x", &[])),
        ("no token", proxy.get("/private/x")),
        ("upstream refused", proxy.get("/down/x")),
        ("malformed", raw("GET /products/x HTTP/1.1\r\nHost : a\r\n\r\n")),
        ("another version", raw("GET /products/x HTTP/3.0\r\nHost: a\r\n\r\n")),
        ("health", proxy.get("/health")),
        ("ready", proxy.get("/ready")),
        ("metrics", proxy.get("/metrics")),
        ("status", request("GET", "/admin/status", &admin)),
        ("history", request("GET", "/admin/config/history", &admin)),
        ("reload", request("POST", "/admin/reload", &admin)),
        ("no admin", request("POST", "/admin/reload", &[])),
    ]
}

#[test]
fn every_response_has_an_id_of_its_own_and_shows_the_generation() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&three_buckets(&origin));
    let responses = of_every_kind(&proxy);
    let mut ids = Vec::new();
    for (what, response) in &responses {
        assert_eq!(response.header("x-config-generation"), Some("1"), "{what}: {response:?}");
        assert!(response.header("date").is_some(), "{what}: {response:?}");
        ids.push(response.header("x-request-id").unwrap_or_else(|| panic!("{what}: {response:?}")));
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), responses.len());
    assert_eq!(responses[0].1.header("via"), Some("1.1 yatagarasu"));
}

#[test]
fn errors_have_the_promised_form_and_a_code_for_each_kind() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&three_buckets(&origin));
    let responses = of_every_kind(&proxy);
    let mut codes = Vec::new();
    for (what, response) in &responses {
        if response.status >= 400 {
            // Checks the form too.
            response.assert_fault(response.status, &response.code());
            assert_eq!(response.header("content-type"), Some("application/json"), "{what}");
            codes.push(response.code());
        }
    }
    assert_eq!(
        codes,
        [
            "no_route",
            "no_key",
            "bad_path",
            "method_not_allowed",
            "missing_token",
            "upstream_refused",
            "bad_request",
            "version_not_supported",
            "missing_token",
        ]
    );
}

#[test]
fn responses_about_reloads_carry_code_and_id() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&three_buckets(&origin));
    let post = |role: &str, target: &str, fields: &[(&str, &str)]| {
        let token = bearer(&token::for_role(role));
        let fields = [&[("Authorization", token.as_str())], fields].concat();
        proxy.client().request("POST", target, &fields)
    };
    let good = post("admin", "/admin/reload", &[]);
    assert_eq!(good.status, 200);
    assert_eq!(good.json()["message"], "Configuration reloaded successfully");
    assert_eq!(good.json()["request_id"].as_str(), good.header("x-request-id"));
    let condition = post("admin", "/admin/reload", &[("If-Match", "\"7\"")]);
    let unknown = post("admin", "/admin/rollback?to=99", &[]);
    proxy.write_config_text("buckets: 7\n");
    let refused = post("admin", "/admin/reload", &[]);
    assert_eq!(refused.json()["message"], "Configuration reload failed");
    let guest = post("guest", "/admin/reload", &[]);
    let mut codes = Vec::new();
    for (status, response) in [(412, condition), (404, unknown), (400, refused), (403, guest)] {
        response.assert_fault(status, &response.code());
        codes.push(response.code());
    }
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), 4, "{codes:?}");
}

/// Seconds since 1970 of an HTTP date, by the system's own `date`.
fn unix_seconds_of(date: &str) -> u64 {
    let output = std::process::Command::new("date").args(["-d", date, "+%s"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().parse().expect("seconds")
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn refusals_after_a_quiet_time_have_the_date_of_now() {
    let origin = ScriptedOrigin::serving("x");
    let config = Config::products(origin.url()).set("server.max_connections", 1);
    let proxy = Proxy::start(&config);
    let mut only = proxy.client();
    // No request has made the proxy look at the clock since it started.
    let start = now();
    wait_until("two seconds later", || now() >= start + 2);
    let response = proxy.client().response("GET");
    assert_eq!(response.status, 503);
    assert!(unix_seconds_of(response.header("date").unwrap()) > start, "{response:?}");
    let later = now();
    wait_until("two seconds later", || now() >= later + 2);
    only.send("GET /products/x HTTP/1.1\r\nHost : a\r\n\r\n");
    let response = only.response("GET");
    assert_eq!(response.status, 400);
    assert!(unix_seconds_of(response.header("date").unwrap()) > later, "{response:?}");
}
