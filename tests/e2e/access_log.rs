//! The access log, and the log of the process.

use std::{
    fs,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::{
    responses::{of_every_kind, three_buckets},
    support::{
        config::Config,
        gate::Gate,
        proxy::Proxy,
        raw_client::{Client, request_bytes},
        reload::{adopt, line_of, post},
        scripted_origin::ScriptedOrigin,
        token::{self, bearer},
        waiting::wait_until,
    },
};

fn paths_in(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let path = |line: &str| {
        let record: Value = serde_json::from_str(line).expect("a whole line");
        record["path"].as_str().expect("path").to_owned()
    };
    // The last line may be on its way.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(path).filter(|path| path.starts_with("/products/")).collect()
}

/// The time of a line of either log: RFC 3339 section 5.6, UTC, milliseconds.
#[track_caller]
fn assert_time(record: &Value) {
    let time = record["time"].as_str().unwrap();
    let form: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    assert_eq!(form, "0000-00-00T00:00:00.000Z");
}

#[track_caller]
fn wait_logged(file: &Path, expected: &[&str]) {
    wait_until(&format!("{expected:?} in {}", file.display()), || paths_in(file) == expected);
}

#[test]
fn the_access_log_has_one_record_a_request_without_the_query() {
    let origin = ScriptedOrigin::serving("four");
    let proxy = Proxy::start(&Config::products(origin.url()));
    let mut client = proxy.client();
    let got = client.get("/products/x%20y?token=HIDDEN");
    client.get("/nothing?token=HIDDEN");
    wait_until("two records", || proxy.stdout().records().len() == 2);
    let records = proxy.stdout().records();
    assert_eq!(records[0]["status"], 200);
    assert_eq!(records[0]["bucket"], "products");
    assert_eq!(records[0]["method"], "GET");
    assert_eq!(records[0]["protocol"], "HTTP/1.1");
    assert_eq!(records[0]["generation"], 1);
    assert_eq!(records[0]["request_id"], got.header("x-request-id").unwrap());
    assert_eq!(records[1]["status"], 404);
    assert_eq!(records[1]["code"], "no_route");
    for record in &records {
        for name in ["time", "request_id", "client", "path", "bytes", "duration_ms"] {
            assert!(record.get(name).is_some(), "{name} in {record}");
        }
    }
    assert!(!proxy.output().contains("HIDDEN"));
}

#[test]
fn a_record_has_exactly_the_promised_fields() {
    const FIELDS: [&str; 24] = [
        "log",
        "time",
        "request_id",
        "trace_id",
        "parent_id",
        "client",
        "peer",
        "tls_version",
        "tls_cipher",
        "sni",
        "protocol",
        "method",
        "path",
        "bucket",
        "credentials",
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
    let proxy = Proxy::start(&three_buckets(&origin));
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
    assert_eq!((&object["client"], &object["peer"]), (&peer.clone().into(), &peer.into()));
    assert_eq!((&object["trace_id"], &object["parent_id"]), (&object["request_id"], &Value::Null));
    assert_eq!(object["request_id"].as_str(), got.header("x-request-id"));
    assert_eq!((&object["method"], &object["path"]), (&"GET".into(), &"/private/a%20b".into()));
    assert_eq!((&object["bucket"], &object["sub"]), (&"private".into(), &"ann".into()));
    assert_eq!((&object["code"], &object["bytes"]), (&Value::Null, &4.into()));
    assert!(object["upstream_ms"].is_number() && object["duration_ms"].is_number(), "{object}");
    assert_eq!((&object["generation"], &object["aborted"]), (&1.into(), &false.into()));
    assert_eq!(object["log"], "access");
    assert_time(object);

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
    let proxy = Proxy::start(&three_buckets(&origin));
    of_every_kind(&proxy);
    for line in proxy.stderr().all() {
        let record: Value = serde_json::from_str(&line).expect("JSON");
        for name in ["time", "level", "message", "target"] {
            assert!(record[name].is_string(), "{name} in {line}");
        }
        assert_eq!(record["log"], "process", "{line}");
        assert_time(&record);
    }
    let signals = proxy.stderr().event("signals").expect("the line about signals");
    assert_eq!(signals["level"], "INFO");
}

#[test]
fn the_access_log_moves_with_its_path_and_is_switched_off_and_on() {
    let origin = ScriptedOrigin::serving("x");
    let config = Config::products(origin.url()).with_jwt(&[]);
    let proxy = Proxy::start(&config);
    let file = |name: &str| proxy.directory().join(name);
    let to = |name: &str, enabled: bool| {
        let config = config.clone().set("logging.access_log.enabled", enabled);
        config.set("logging.access_log.path", file(name).display().to_string())
    };
    adopt(&proxy, &to("a.log", true));
    proxy.get("/products/1");
    wait_logged(&file("a.log"), &["/products/1"]);
    adopt(&proxy, &to("b.log", true));
    proxy.get("/products/2");
    wait_logged(&file("b.log"), &["/products/2"]);

    adopt(&proxy, &to("b.log", false));
    proxy.get("/products/3");
    // Another path while it is off: the one that is in force when it is switched on.
    adopt(&proxy, &to("c.log", false));
    proxy.get("/products/4");
    assert!(!file("c.log").exists());
    adopt(&proxy, &to("c.log", true));
    proxy.get("/products/5");
    wait_logged(&file("c.log"), &["/products/5"]);
    assert_eq!(paths_in(&file("a.log")), ["/products/1"]);
    assert_eq!(paths_in(&file("b.log")), ["/products/2"]);

    let nowhere = file("no-such-directory").join("x.log").display().to_string();
    proxy.write_config(&config.clone().set("logging.access_log.path", nowhere));
    let refused = post(&proxy, "/admin/reload", &[]);
    assert_eq!(refused.status, 400, "{refused:?}");
    let error = &refused.json()["errors"][0];
    assert_eq!(error["key"], "logging.access_log.path", "{error}");
    assert!(line_of(&proxy, error).starts_with("path: "), "{error}");
    proxy.get("/products/6");
    wait_logged(&file("c.log"), &["/products/5", "/products/6"]);
}

#[test]
fn a_log_that_is_off_needs_no_file_to_start() {
    let origin = ScriptedOrigin::serving("x");
    let config = Config::products(origin.url())
        .with_jwt(&[])
        .set("logging.access_log.enabled", false)
        .set("logging.access_log.path", "no-such-directory/x.log");
    let proxy = Proxy::start(&config);
    assert_eq!(proxy.get("/products/x").status, 200);
    assert!(proxy.stdout().all().is_empty());
}

#[test]
fn a_signal_opens_the_access_log_anew_after_it_was_renamed() {
    let origin = ScriptedOrigin::serving("x");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("access.log");
    let moved = directory.path().join("access.log.1");
    let path = file.display().to_string();
    let proxy = Proxy::start(
        &Config::products(origin.url()).with_jwt(&[]).set("logging.access_log.path", path),
    );
    proxy.get("/products/1");
    wait_logged(&file, &["/products/1"]);
    fs::rename(&file, &moved).unwrap();
    proxy.get("/products/2");
    wait_logged(&moved, &["/products/1", "/products/2"]);
    proxy.signal("USR1");
    wait_until("the new file", || file.exists());
    proxy.get("/products/3");
    wait_logged(&file, &["/products/3"]);
    assert_eq!(paths_in(&moved), ["/products/1", "/products/2"]);
}

/// Bytes in the sending and the receiving queue of the socket with this local and this remote port
/// (`proc_pid_net(5)`).
fn queued(local: u16, remote: u16) -> Option<(usize, usize)> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let mut port = || u16::from_str_radix(words.next()?.split_once(':')?.1, 16).ok();
        let ends = (port()?, port()?);
        let (sending, receiving) = words.nth(1)?.split_once(':')?;
        let bytes = |hex| usize::from_str_radix(hex, 16).ok();
        (ends == (local, remote)).then_some((bytes(sending)?, bytes(receiving)?))
    })
}

#[test]
fn bytes_of_an_aborted_response_are_those_that_the_socket_took() {
    const LENGTH: usize = 64 * 1_048_576;
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{LENGTH:x}\r\n"));
        // Until the proxy gives the response up.
        while conn.try_send(vec![b'x'; 65_536]) {}
    });
    let proxy = Proxy::start(&Config::products(origin.url()));
    let mut client = Client::connect_with_receive_buffer(proxy.address(), 4_096);
    // Without chunks, so that all but the head is body.
    client.send("GET /products/x HTTP/1.0\r\n\r\n");
    let head = client.head("GET").unwrap();
    let buffered = client.buffered();
    let (ours, theirs) = (client.local().port(), proxy.address().port());
    let in_kernel = || Some(queued(theirs, ours)?.0 + queued(ours, theirs)?.1);
    let mut same = (0, None);
    wait_until("the queues to be full", || {
        let now = in_kernel();
        same = if now == same.1 { (same.0 + 1, now) } else { (0, now) };
        same.0 > 100
    });
    let taken = buffered + same.1.expect("an open connection");
    client.reset();
    wait_until("the record", || proxy.stdout().records().len() == 1);
    let record = &proxy.stdout().records()[0];
    assert_eq!((&record["status"], &record["aborted"]), (&200.into(), &true.into()), "{head:?}");
    assert_eq!(record["bytes"], taken);
    let counted = proxy.metric("yatagarasu_http_response_bytes_total{bucket=\"products\"}");
    assert_eq!(counted, Some(f64::from(u32::try_from(taken).unwrap())));
}

#[test]
fn an_early_response_is_recorded_when_it_is_complete_and_not_when_its_body_has_come() {
    let origin = ScriptedOrigin::serving("x");
    // Longer than a test waits.
    let config = Config::products(origin.url()).set("server.timeouts.client_header", 60);
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    client.send(request_bytes("POST", "/products/x", &[("Content-Length", "5")]));
    assert_eq!(client.response("POST").status, 405);
    wait_until("the record", || proxy.stdout().records().len() == 1);
    client.send("12345");
    assert_eq!(client.get("/products/x").status, 200);
}
