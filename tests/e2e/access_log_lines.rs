//! What the lines of the access log have, which requests have one, and in which form.

use serde_json::{Value, json};

use crate::support::{
    config::Config,
    gate::Gate,
    http2_client::Http2Client,
    proxy::Proxy,
    raw_client::request_bytes,
    reload::{adopt, config_of, post},
    scripted_origin::{ScriptedOrigin, refused_address, response_bytes},
    token::{self, bearer},
    waiting::wait_until,
};

const FIELDS: &str = "logging.access_log.fields";

/// The access log once it has so many lines.
#[track_caller]
fn lines(proxy: &Proxy, number: usize) -> Vec<String> {
    wait_until("the lines", || proxy.stdout().all().len() >= number);
    let lines = proxy.stdout().all();
    assert_eq!(lines.len(), number, "{lines:?}");
    lines
}

/// Its newest line, as an object.
#[track_caller]
fn record(proxy: &Proxy, number: usize) -> Value {
    let line = lines(proxy, number).pop().unwrap();
    serde_json::from_str(&line).expect("JSON")
}

/// A token whose key has an id.
fn token_with_key_id() -> String {
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    header.kid = Some("2026-11".to_owned());
    let claims = json!({ "sub": "ann", "exp": token::unix_now() + 60 });
    let key = jsonwebtoken::EncodingKey::from_secret(token::JWT_SECRET.as_bytes());
    bearer(&jsonwebtoken::encode(&header, &claims, &key).unwrap())
}

fn origin_with_ids() -> ScriptedOrigin {
    let ids = [("x-amz-request-id", "4442587FB7D0A2F9")];
    ScriptedOrigin::always(response_bytes("200 OK", &ids, b"four"))
}

#[test]
fn fields_that_are_asked_for_are_in_every_line() {
    let origin = origin_with_ids();
    let more = json!([
        "-peer",
        "host",
        "user_agent",
        "referer",
        "x_forwarded_for",
        "range",
        "upstream_address",
        "upstream_status",
        "attempts",
        "s3_request_id",
        "ttfb_ms",
        "kid",
        "aborted_by",
        "otel",
    ]);
    let key = json!([{ "id": "2026-11", "algorithm": "HS256", "secret": token::JWT_SECRET }]);
    let config = Config::products(origin.url())
        .with_jwt(&["products"])
        .set("jwt", json!({ "keys": key }))
        .set("server.http2.cleartext", true)
        .set(FIELDS, more);
    let proxy = Proxy::start(&config);
    let token = token_with_key_id();
    let agent = format!("curl/8.5.0 {}", "x".repeat(2_000));
    let fields = [
        ("Host", "a.example:8080"),
        ("Authorization", token.as_str()),
        ("User-Agent", &agent),
        ("Referer", "https://ann:HIDDEN@b.example/p?token=HIDDEN"),
        ("X-Forwarded-For", "203.0.113.9"),
        ("X-Forwarded-For", "10.0.0.1"),
        ("Range", "bytes=0-9"),
    ];
    let mut client = proxy.client();
    assert_eq!(client.request("GET", "/products/x?token=HIDDEN", &fields).status, 200);
    let of_http1 = record(&proxy, 1);
    assert!(of_http1.get("peer").is_none(), "{of_http1}");

    let mut request = http::Request::get("http://a.example:8080/products/x?token=HIDDEN");
    for (name, value) in &fields[1..] {
        request = request.header(*name, *value);
    }
    let client2 = Http2Client::connect(proxy.address());
    assert_eq!(client2.request(request.body(()).unwrap()).status, 200);
    let of_http2 = record(&proxy, 2);

    let origin_address = origin.address().to_string();
    for (record, version) in [(&of_http1, "1.1"), (&of_http2, "2")] {
        for (name, value) in [
            ("host", json!("a.example:8080")),
            ("user_agent", json!(&agent[..1_024])),
            ("referer", json!("https://b.example/p")),
            ("x_forwarded_for", json!("203.0.113.9, 10.0.0.1")),
            ("range", json!("bytes=0-9")),
            ("upstream_address", json!(origin_address)),
            ("upstream_status", json!(200)),
            ("attempts", json!(1)),
            ("s3_request_id", json!("4442587FB7D0A2F9")),
            ("kid", json!("2026-11")),
            ("sub", json!("ann")),
            ("aborted_by", Value::Null),
            ("client.address", json!("127.0.0.1")),
            ("network.protocol.version", json!(version)),
            ("http.request.method", json!("GET")),
            ("url.path", json!("/products/x")),
            ("http.route", json!("/products")),
            ("server.address", json!("a.example")),
            ("server.port", json!(8080)),
            ("http.response.status_code", json!(200)),
            ("http.response.body.size", json!(4)),
            ("user_agent.original", json!(&agent[..1_024])),
            ("http.request.header.referer", json!(["https://b.example/p"])),
            ("aws.request_id", json!("4442587FB7D0A2F9")),
        ] {
            assert_eq!(record[name], value, "{name} in {record}");
        }
        assert!(record["ttfb_ms"].as_f64() <= record["duration_ms"].as_f64(), "{record}");
    }
    assert_eq!(of_http1["client.port"], client.local().port());
    let bare = token.trim_start_matches("Bearer ");
    assert!(!proxy.output().contains("HIDDEN") && !proxy.output().contains(bare));
}

#[test]
fn attempts_and_addresses_of_s3_are_those_that_were_tried() {
    let origin = ScriptedOrigin::start(|conn, number| {
        conn.expect_request();
        conn.respond("200 OK", &[("x-amz-request-id", "FIRST")], b"x");
        if number == 0 {
            // Stale when it is used again.
            conn.expect_request();
        } else {
            conn.wait_closed();
        }
    });
    let fields = ["upstream_address", "upstream_status", "attempts", "s3_request_id", "ttfb_ms"];
    let config = Config::products(origin.url())
        .bucket("down", format!("http://{}", refused_address()))
        .set(FIELDS, json!(fields));
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    client.get("/products/1");
    assert_eq!(record(&proxy, 1)["attempts"], 1);
    assert_eq!(client.get("/products/2").status, 200);
    let stale = record(&proxy, 2);
    assert_eq!((&stale["attempts"], &stale["upstream_status"]), (&json!(2), &json!(200)));
    assert_eq!(client.get("/down/x").status, 502);
    let down = record(&proxy, 3);
    assert_eq!((&down["attempts"], &down["upstream_status"]), (&json!(1), &Value::Null));
    assert!(down["upstream_address"].is_string() && down["s3_request_id"].is_null(), "{down}");
    client.get("/nothing");
    let nothing = record(&proxy, 4);
    assert_eq!((&nothing["attempts"], &nothing["upstream_address"]), (&json!(0), &Value::Null));
    assert!(nothing["ttfb_ms"].is_number(), "{nothing}");
}

#[test]
fn a_line_says_who_cut_a_response_short() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        let request = conn.expect_request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n12345");
        if !request.target.ends_with("upstream") {
            conn.wait_or_closed(&held);
        }
    });
    let config = Config::products(origin.url()).set(FIELDS, json!(["aborted_by"]));
    let mut proxy = Proxy::start(&config);
    for (number, side) in ["upstream", "client"].into_iter().enumerate() {
        let mut client = proxy.client();
        client.send(request_bytes("GET", &format!("/products/{side}"), &[]));
        client.read_exactly(5);
        if side == "client" {
            client.reset();
        }
        let record = record(&proxy, number + 1);
        assert_eq!((&record["aborted"], &record["aborted_by"]), (&true.into(), &side.into()));
    }
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/proxy", &[]));
    client.read_exactly(5);
    proxy.signal("TERM");
    wait_until("the stop", || proxy.stderr().event("stopping").is_some());
    proxy.signal("TERM");
    proxy.wait_exit();
    let record = proxy.complete_stdout().records().pop().unwrap();
    assert_eq!(
        (&record["path"], &record["aborted_by"]),
        (&"/products/proxy".into(), &"proxy".into())
    );
    gate.open();
}

#[test]
fn the_format_changes_between_two_requests_of_a_connection() {
    let origin = origin_with_ids();
    let config = config_of(origin.url()).set("server.threads", 1);
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    let format = |name: &str| config.clone().set("logging.access_log.format", name);
    let fields = [("User-Agent", "a \"b\" c"), ("Referer", "https://b.example/?q")];
    client.request("GET", "/products/1", &fields);
    assert_eq!(record(&proxy, 1)["path"], "/products/1");

    // Each reload has a line of its own, in the format before it.
    let of_logfmt = format("logfmt").set(FIELDS, json!(["-usual", "method", "path", "user_agent"]));
    adopt(&proxy, &of_logfmt);
    client.request("GET", "/products/2", &fields);
    let expected = "method=GET path=/products/2 user_agent=\"a \\\"b\\\" c\"";
    assert_eq!(lines(&proxy, 3)[2], expected);

    adopt(&proxy, &format("combined"));
    client.request("GET", "/products/3", &fields);
    let combined = lines(&proxy, 5)[4].clone();
    let (start, end) = combined.split_once(" +0000] ").expect(&combined);
    assert!(start.starts_with("127.0.0.1 - - ["), "{combined}");
    let expected = "\"GET /products/3 HTTP/1.1\" 200 4 \"https://b.example/\" \"a \\x22b\\x22 c\"";
    assert_eq!(end, expected);

    let template = "{method} {path} {{{status}}} {code}";
    adopt(&proxy, &format("template").set("logging.access_log.template", template));
    client.request("GET", "/products/4", &fields);
    assert_eq!(lines(&proxy, 7)[6], "GET /products/4 {200} -");

    let unknown = format("template").set("logging.access_log.template", "{metod}");
    proxy.write_config(&unknown);
    let refused = post(&proxy, "/admin/reload", &[]);
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.text().contains("logging.access_log.template"), "{refused:?}");
    client.request("GET", "/products/5", &fields);
    assert_eq!(lines(&proxy, 9)[8], "GET /products/5 {200} -");
}

#[test]
fn endpoints_that_are_skipped_have_no_line() {
    let config = Config::unreachable().set("logging.access_log.skip", json!(["health", "metrics"]));
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    for path in ["/health", "/metrics", "/ready", "/health", "/healthy"] {
        client.get(path);
    }
    client.request("POST", "/health", &[]);
    client.get("/last");
    let paths: Vec<_> = lines(&proxy, 3)
        .iter()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["path"].clone())
        .collect();
    assert_eq!(paths, ["/ready", "/healthy", "/last"]);
}

#[test]
fn a_share_of_good_responses_and_all_others_have_a_line() {
    let origin = ScriptedOrigin::serving("x");
    let config = Config::products(origin.url())
        .set("server.http2.cleartext", true)
        .set("logging.access_log.sample", 0.25);
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    for _ in 0..8 {
        assert_eq!(client.get("/products/good").status, 200);
        assert_eq!(client.get("/nothing").status, 404);
    }
    let client2 = Http2Client::connect(proxy.address());
    for _ in 0..8 {
        assert_eq!(client2.get("/products/good").status, 200);
    }
    assert_eq!(client2.get("/last").status, 404);
    let records: Vec<Value> =
        lines(&proxy, 13).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |path: &str, protocol: &str| {
        records.iter().filter(|line| line["path"] == path && line["protocol"] == protocol).count()
    };
    assert_eq!(of("/products/good", "HTTP/1.1"), 2);
    assert_eq!(of("/products/good", "HTTP/2"), 2);
    assert_eq!((of("/nothing", "HTTP/1.1"), of("/last", "HTTP/2")), (8, 1));
}
