//! Keys that are promised to apply without a restart, seen from outside.

use std::{fs, path::Path};

use serde_json::Value;

use super::reload::reload;
use crate::support::{
    config::Config,
    proxy::{Proxy, field},
    raw_client::{Client, request_bytes},
    scripted_origin::ScriptedOrigin,
    waiting::wait_until,
};

fn config(origin: &ScriptedOrigin) -> Config {
    Config::products(origin.url()).with_jwt(&[])
}

/// Adopts this configuration.
#[track_caller]
fn adopt(proxy: &Proxy, config: &Config) -> Value {
    proxy.write_config(config);
    let report = reload(proxy);
    assert_eq!(report["changed"], true, "{report}");
    assert_eq!(report["restart_required"], serde_json::json!([]), "{report}");
    report
}

#[test]
fn limits_apply_to_the_next_request_of_an_open_connection() {
    let origin = ScriptedOrigin::serving("x");
    let config = config(&origin);
    let proxy = Proxy::start(&config);
    let long = format!("/products/{}", "k".repeat(200));
    let many = [("A", "b"); 20];
    let large = [("A", "b".repeat(3_000))];
    let large: Vec<_> = large.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let mut clients: Vec<Client> = (0..4).map(|_| proxy.client()).collect();
    let with_body = |client: &mut Client| {
        client.send(request_bytes("GET", "/products/x", &[("Content-Length", "11")]));
        client.send_if_open("elevenbytes");
        client.response("GET")
    };
    assert_eq!(clients[0].get(&long).status, 200);
    assert_eq!(clients[1].request("GET", "/products/x", &many).status, 200);
    assert_eq!(clients[2].request("GET", "/products/x", &large).status, 200);
    assert_eq!(with_body(&mut clients[3]).status, 200);

    let tight = config
        .set("server.limits.uri_bytes", 100)
        .set("server.limits.headers", 10)
        .set("server.limits.header_bytes", 2_000)
        .set("server.limits.body_bytes", 10);
    adopt(&proxy, &tight);
    clients[0].get(&long).assert_fault(414, "uri_too_long");
    clients[1].request("GET", "/products/x", &many).assert_fault(431, "head_too_large");
    clients[2].request("GET", "/products/x", &large).assert_fault(431, "head_too_large");
    with_body(&mut clients[3]).assert_fault(413, "body_too_large");
}

#[test]
fn timeouts_apply_to_open_connections_after_their_next_request() {
    let origin = ScriptedOrigin::serving("x");
    // Longer than these tests ever wait.
    let config = config(&origin).set("server.timeouts.client_idle", 3_600);
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    assert_eq!(client.get("/products/x").status, 200);
    adopt(&proxy, &config.set("server.timeouts.client_idle", 0.2));
    assert_eq!(client.get("/products/x").status, 200);
    client.expect_end();
}

#[test]
fn the_level_of_the_log_applies_at_once() {
    const SUCCESS: &str = "Configuration reloaded successfully";
    let origin = ScriptedOrigin::serving("x");
    let config = config(&origin);
    let proxy = Proxy::start(&config);
    let at = |level: &str, idle: usize| {
        config.clone().set("logging.level", level).set("server.timeouts.client_idle", idle)
    };
    for next in [at("info", 100), at("error", 101), at("error", 102), at("info", 103)] {
        adopt(&proxy, &next);
    }
    let told = || -> Vec<u64> {
        let records = proxy.stderr().records();
        let successes = records.iter().filter(|r| field(r, "message") == Some(&SUCCESS.into()));
        successes.filter_map(|r| field(r, "config_generation")?.as_u64()).collect()
    };
    wait_until("the last reload in the log", || told().contains(&5));
    assert_eq!(told(), [2, 5]);
}

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

#[track_caller]
fn wait_logged(file: &Path, expected: &[&str]) {
    wait_until(&format!("{expected:?} in {}", file.display()), || paths_in(file) == expected);
}

#[test]
fn the_access_log_moves_with_its_path_and_is_switched_off_and_on() {
    let origin = ScriptedOrigin::serving("x");
    let config = config(&origin);
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

    let nowhere = file("no-such-folder").join("x.log").display().to_string();
    proxy.write_config(&config.clone().set("logging.access_log.path", nowhere));
    let refused = super::reload::post(&proxy, "/admin/reload", &[]);
    assert_eq!(refused.status, 400, "{refused:?}");
    assert!(refused.text().contains("logging.access_log.path"), "{refused:?}");
    proxy.get("/products/6");
    wait_logged(&file("c.log"), &["/products/5", "/products/6"]);
}

#[test]
fn a_log_that_is_off_needs_no_file_to_start() {
    let origin = ScriptedOrigin::serving("x");
    let config = config(&origin)
        .set("logging.access_log.enabled", false)
        .set("logging.access_log.path", "no-such-folder/x.log");
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
    let proxy = Proxy::start(&config(&origin).set("logging.access_log.path", path));
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

#[test]
fn the_metrics_page_is_switched_off_and_on() {
    let origin = ScriptedOrigin::serving("x");
    let config = config(&origin);
    let proxy = Proxy::start(&config);
    proxy.metrics();
    adopt(&proxy, &config.clone().set("metrics.enabled", false));
    proxy.get("/metrics").assert_fault(404, "no_route");
    assert_eq!(proxy.get("/health").status, 200);
    adopt(&proxy, &config);
    assert_eq!(proxy.metric("config_generation"), Some(3.0));
}

#[test]
fn series_of_buckets_are_kept_apart_or_together() {
    let origin = ScriptedOrigin::serving("four");
    let config = config(&origin).bucket("other", origin.url()).with_jwt(&[]);
    let proxy = Proxy::start(&config);
    let bytes =
        |bucket: &str| proxy.metric(&format!("http_response_bytes_total{{bucket=\"{bucket}\"}}"));
    proxy.get("/products/x");
    proxy.get("/other/x");
    wait_until("two series", || bytes("products") == Some(4.0) && bytes("other") == Some(4.0));
    adopt(&proxy, &config.set("metrics.per_bucket", false));
    proxy.get("/products/x");
    proxy.get("/other/x");
    wait_until("one series", || bytes("_all") == Some(8.0));
    assert_eq!((bytes("products"), bytes("other")), (None, None), "{}", proxy.metrics());
}

#[test]
fn the_number_of_idle_connections_to_s3_is_kept_to() {
    let origin = ScriptedOrigin::serving("x");
    let config = config(&origin);
    let proxy = Proxy::start(&config);
    for _ in 0..3 {
        assert_eq!(proxy.get("/products/x").status, 200);
    }
    assert_eq!(origin.accepted(), 1);
    adopt(&proxy, &config.set("buckets.0.s3.max_idle_connections", 0));
    let before = origin.accepted();
    for _ in 0..4 {
        assert_eq!(proxy.get("/products/x").status, 200);
    }
    // The one that was idle may have been used once more.
    assert!(origin.accepted() >= before + 3, "{} then {}", before, origin.accepted());
}
