//! What is promised about every answer, every record and every series.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::support::{
    config::Config,
    gate::Gate,
    proxy::Proxy,
    raw_client::{Client, Response, request_bytes},
    scripted_origin::{ScriptedOrigin, refused_address},
    token::{self, bearer},
    waiting::wait_until,
};

/// Two buckets that answer, one of them for tokens only, and one whose endpoint does not.
fn config(origin: &ScriptedOrigin) -> Config {
    Config::products(origin.url())
        .bucket("private", origin.url())
        .bucket("down", format!("http://{}", refused_address()))
        .with_jwt(&["private"])
        .set("server.expose_generation", true)
}

/// One answer of every kind.
fn of_every_kind(proxy: &Proxy) -> Vec<(&'static str, Response)> {
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
fn every_answer_has_an_id_of_its_own_and_shows_the_generation() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&config(&origin));
    let answers = of_every_kind(&proxy);
    let mut ids = Vec::new();
    for (what, answer) in &answers {
        assert_eq!(answer.header("x-config-generation"), Some("1"), "{what}: {answer:?}");
        assert!(answer.header("date").is_some(), "{what}: {answer:?}");
        ids.push(answer.header("x-request-id").unwrap_or_else(|| panic!("{what}: {answer:?}")));
    }
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), answers.len());
    assert_eq!(answers[0].1.header("via"), Some("1.1 yatagarasu"));
}

#[test]
fn errors_have_the_promised_form_and_a_code_for_each_kind() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&config(&origin));
    let answers = of_every_kind(&proxy);
    let mut codes = Vec::new();
    for (what, answer) in &answers {
        if answer.status >= 400 {
            // Checks the form too.
            answer.assert_fault(answer.status, &answer.code());
            assert_eq!(answer.header("content-type"), Some("application/json"), "{what}");
            codes.push(answer.code());
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
fn answers_about_reloads_carry_code_and_id() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&config(&origin));
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
    for (status, answer) in [(412, condition), (404, unknown), (400, refused), (403, guest)] {
        answer.assert_fault(status, &answer.code());
        codes.push(answer.code());
    }
    codes.sort_unstable();
    codes.dedup();
    assert_eq!(codes.len(), 4, "{codes:?}");
}

#[test]
fn a_record_has_exactly_the_promised_fields() {
    const FIELDS: [&str; 15] = [
        "time",
        "request_id",
        "client",
        "method",
        "path",
        "bucket",
        "status",
        "code",
        "auth_reason",
        "bytes",
        "duration_ms",
        "upstream_ms",
        "generation",
        "sub",
        "aborted",
    ];
    let origin = ScriptedOrigin::serving("four");
    let proxy = Proxy::start(&config(&origin));
    let claims = serde_json::json!({ "sub": "ann", "exp": token::unix_now() + 60 });
    let token = bearer(&token::mint(token::JWT_SECRET, &claims));
    let mut client = proxy.client();
    let got = client.request("GET", "/private/a%20b?token=HIDDEN", &[("Authorization", &token)]);
    assert_eq!(got.status, 200);
    let peer = client.local().to_string();
    proxy.get("/private/x");
    proxy.get("/down/x");
    let mut refused = proxy.client();
    refused.send("GET /x HTTP/1.1\r\nHost : a\r\n\r\n");
    let malformed = refused.response("GET");
    wait_until("four records", || proxy.stdout().records().len() == 4);

    for line in proxy.stdout().all() {
        let record: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(record.as_object().unwrap().len(), FIELDS.len(), "{line}");
        let places: Vec<_> =
            FIELDS.iter().map(|name| line.find(&format!("\"{name}\":")).expect(name)).collect();
        assert!(places.is_sorted(), "{line}");
    }
    let records = proxy.stdout().records();
    let find = |status: u16| records.iter().find(|record| record["status"] == status).unwrap();
    let object = find(200);
    assert_eq!(object["client"], peer);
    assert_eq!(object["request_id"].as_str(), got.header("x-request-id"));
    assert_eq!((&object["method"], &object["path"]), (&"GET".into(), &"/private/a%20b".into()));
    assert_eq!((&object["bucket"], &object["sub"]), (&"private".into(), &"ann".into()));
    assert_eq!((&object["code"], &object["bytes"]), (&Value::Null, &4.into()));
    assert!(object["upstream_ms"].is_number() && object["duration_ms"].is_number(), "{object}");
    assert_eq!((&object["generation"], &object["aborted"]), (&1.into(), &false.into()));
    let time = object["time"].as_str().unwrap();
    assert!(time.len() == "2026-01-02T03:04:05.678Z".len() && time.ends_with('Z'), "{time}");

    assert_eq!(find(401)["code"], "missing_token");
    assert_eq!(find(502)["code"], "upstream_refused");
    let of_malformed = find(400);
    assert_eq!(of_malformed["request_id"].as_str(), malformed.header("x-request-id"));
    assert_eq!(of_malformed["bytes"], malformed.body.len());
}

#[test]
fn the_time_of_a_record_is_the_end_of_the_request() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        conn.expect_request();
        conn.wait(&held);
        conn.respond("200 OK", &[], b"x");
    });
    let proxy = Proxy::start(&Config::products(origin.url()));
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/x", &[]));
    wait_until("the request", || !origin.requests().is_empty());
    let sent = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    gate.open();
    assert_eq!(client.response("GET").status, 200);
    wait_until("its record", || !proxy.stdout().records().is_empty());
    let record = proxy.stdout().records().remove(0);
    let time = record["time"].as_str().unwrap();
    // Seconds and milliseconds; that the same minute of another day is meant is unlikely.
    let in_minute: u128 =
        time[17..19].parse::<u128>().unwrap() * 1_000 + time[20..23].parse::<u128>().unwrap();
    // Both clocks are rounded down to milliseconds, the proxy's twice.
    let late = (in_minute + 60_000 - (sent - 2) % 60_000) % 60_000;
    assert!(late < 30_000, "{record} ended before {sent}");
}

#[test]
fn lines_of_the_log_are_json_with_time_level_and_message() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&config(&origin));
    of_every_kind(&proxy);
    for line in proxy.stderr().all() {
        let record: Value = serde_json::from_str(&line).expect("JSON");
        for name in ["timestamp", "level", "message", "target"] {
            assert!(record[name].is_string(), "{name} in {line}");
        }
    }
    let signals = proxy.stderr().event("signals").expect("the line about signals");
    assert_eq!(signals["level"], "INFO");
}

#[test]
fn every_promised_series_is_there_and_nothing_of_the_client_in_it() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&config(&origin));
    of_every_kind(&proxy);
    let mut client = proxy.client();
    client.request("CLIENTWORD", "/products/x", &[]);
    client.get("/CLIENTWORD?CLIENTWORD");
    let answer = client.request("GET", "/products/CLIENTWORD", &[("CLIENTWORD", "CLIENTWORD")]);
    assert_eq!(answer.status, 200);
    // Each name with the beginning of its labels, as the page writes them.
    for series in [
        "config_reload_success_total ",
        "config_reload_failure_total ",
        "config_generation ",
        "config_last_reload_successful ",
        "config_last_reload_timestamp_seconds ",
        "config_restart_required ",
        "config_worker_generation{worker=\"0\"} ",
        "http_requests_total{bucket=\"products\",method=\"GET\",status=\"200\"} ",
        "http_requests_total{bucket=\"-\",method=\"OTHER\",status=\"400\"} ",
        "http_request_duration_seconds_bucket{bucket=\"products\",le=\"+Inf\"} ",
        "http_request_duration_seconds_sum{bucket=\"products\"} ",
        "http_request_duration_seconds_count{bucket=\"products\"} ",
        "http_response_bytes_total{bucket=\"products\"} ",
        "connections{state=\"active\"} ",
        "connections{state=\"idle\"} ",
        "connections_rejected_total{reason=\"limit\"} ",
        "auth_failures_total{reason=\"missing\"} ",
        "upstream_requests_total{bucket=\"products\",status=\"200\"} ",
        "upstream_connections{bucket=\"products\",state=\"idle\"} ",
        "upstream_connects_total ",
        "upstream_errors_total{bucket=\"down\",reason=\"",
        "upstream_first_byte_seconds_count{bucket=\"products\"} ",
        "access_log_dropped_total ",
        "auth_enforced ",
        "process_cpu_seconds_total ",
        "process_resident_memory_bytes ",
        "process_open_fds ",
        "build_info{version=\"",
    ] {
        let there = || proxy.metrics().lines().any(|line| line.starts_with(series));
        wait_until(series, there);
    }
    assert!(!proxy.metrics().contains("CLIENTWORD"), "{}", proxy.metrics());
}

#[test]
fn one_over_the_limit_is_told_when_to_come_back() {
    let config = Config::products(format!("http://{}", refused_address()))
        .set("server.max_connections", 1)
        .with_admin_listener();
    let proxy = Proxy::start(&config);
    let mut kept = proxy.client();
    kept.get("/nothing").assert_fault(404, "no_route");
    let refused = proxy.client().response("GET");
    refused.assert_fault(503, "too_many_connections");
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(refused.says_close());
    let rejected = proxy.metric("connections_rejected_total{reason=\"limit\"}");
    assert_eq!(rejected, Some(1.0));
}
