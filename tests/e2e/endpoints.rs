//! The built-in endpoints, and which listener has them.

use std::{net::ToSocketAddrs as _, time::Instant};

use serde_json::{Value, json};

use crate::support::{
    config::Config,
    proxy::{Launch, Proxy},
    raw_client::Client,
    reload::{config, post, reload, touched},
    scripted_origin::ScriptedOrigin,
    tls_front::TlsFront,
    token::{self, bearer},
    waiting::{wait_for, wait_until},
};

#[test]
fn health_readiness_and_metrics_respond() {
    let proxy = Proxy::start(&Config::unreachable().set("server.threads", 2));
    for path in ["/health", "/ready"] {
        assert_eq!(proxy.get(path).status, 200, "{path}");
        assert_eq!(proxy.client().request("HEAD", path, &[]).status, 200, "HEAD {path}");
    }
    let page = proxy.metrics();
    for series in [
        "config_reload_success_total 0",
        "config_reload_failure_total 0",
        "config_generation 1",
        "config_last_reload_successful 1",
        "config_restart_required 0",
    ] {
        assert!(page.lines().any(|line| line == series), "{series} in\n{page}");
    }
    for family in ["config_worker_generation{", "process_", "yatagarasu_build_info"] {
        assert!(page.contains(family), "{family} in\n{page}");
    }
}

#[test]
fn an_admin_listener_takes_the_built_in_endpoints_with_it() {
    let origin = ScriptedOrigin::serving("object");
    let proxy = Proxy::start(&Config::products(origin.url()).with_admin_listener());
    for path in ["/health", "/ready", "/metrics"] {
        proxy.get(path).assert_fault(404, "no_route");
        assert_eq!(Client::connect(proxy.admin_address()).get(path).status, 200, "{path}");
    }
    assert_eq!(proxy.get("/products/x").text(), "object");
    let object = Client::connect(proxy.admin_address()).get("/products/x");
    assert_eq!(object.status, 404, "the admin listener serves no objects");
}

#[test]
fn the_main_listener_knows_nothing_of_admin_when_there_is_another() {
    let config = Config::unreachable().with_jwt(&[]).with_admin_listener();
    let proxy = Proxy::start(&config);
    let admin = bearer(&token::for_role("admin"));
    let fields = [("Authorization", admin.as_str())];
    for path in ["/admin/status", "/admin/config/history", "/admin", "/admin/x"] {
        proxy.get_with(path, &fields).assert_fault(404, "no_route");
    }
    assert_eq!(
        Client::connect(proxy.admin_address()).request("GET", "/admin/status", &fields).status,
        200
    );
    let post = |address| Client::connect(address).request("POST", "/admin/reload", &fields);
    let refused = post(proxy.address());
    assert_eq!(refused.status, 404, "{refused:?}");
    assert_eq!(proxy.metric("config_reload_success_total"), Some(0.0));
    assert_eq!(post(proxy.admin_address()).status, 200);
    assert_eq!(proxy.metric("config_reload_success_total"), Some(1.0));
}

#[test]
fn the_status_page_shows_every_worker_and_the_last_reload() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin);
    let proxy = Proxy::start(&first);
    proxy.write_config(&touched(&first, 1));
    reload(&proxy);
    let admin = bearer(&token::for_role("admin"));
    let page = proxy.get_with("/admin/status", &[("Authorization", &admin)]).json();
    let generations: Vec<_> = page["workers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|w| w["config_generation"].clone())
        .collect();
    assert_eq!(generations, [json!(2), json!(2)], "{page}");
    assert_eq!(page["last_reload"]["status"], "success");
    assert_eq!(page["last_reload"]["trigger"], "api");
    assert_eq!(page["last_reload"]["applied"], json!(["server.timeouts.client_idle"]));
    for worker in 0..2 {
        let series = format!("config_worker_generation{{worker=\"{worker}\"}}");
        assert_eq!(proxy.metric(&series), Some(2.0));
    }
    // The access log always has the generation.
    assert_eq!(proxy.get("/products/x").status, 200);
    wait_until("an access-log line of this generation", || {
        proxy.stdout().records().iter().any(|r| r["path"] == "/products/x" && r["generation"] == 2)
    });
}

#[test]
fn everything_on_the_status_page_is_true() {
    let origin = ScriptedOrigin::serving("x");
    let front = TlsFront::start(origin.address());
    let port = origin.address().port();
    let by_name = format!("http://localhost:{port}");
    let first = config(&origin)
        .bucket("encrypted", front.url())
        .bucket("unsigned", by_name.as_str())
        .with_jwt(&["encrypted"])
        .set("buckets.1.s3.ca_file", "ca.pem")
        .set(
            "buckets.2.s3",
            json!({ "bucket": "open", "region": "r", "endpoint": by_name, "anonymous": true }),
        );
    let launch = Launch::new();
    launch.write("ca.pem", front.ca_pem());
    let launched = Instant::now();
    let proxy = launch.config(&first).start();
    let listening = Instant::now();
    let admin = bearer(&token::for_role("admin"));
    let status = || {
        let response = proxy.get_with("/admin/status", &[("Authorization", &admin)]);
        assert_eq!(response.status, 200, "{response:?}");
        let mut page = response.json();
        let id = page.as_object_mut().unwrap().remove("request_id").unwrap();
        assert_eq!(id.as_str(), response.header("x-request-id"));
        page
    };
    assert_eq!(status().get("last_reload"), None);

    // A change that is adopted and one that waits, and then a file that is refused.
    proxy.write_config(&touched(&first, 1).set("server.max_connections", 77));
    let adopted = reload(&proxy);
    assert_eq!(status()["last_reload"], without_id(&adopted, "api"));
    proxy.write_config_text("nonsense");
    let refused = post(&proxy, "/admin/reload", &[]).json();
    assert_eq!(refused["config_generation"], 2);
    let used: Vec<Client> = (0..3)
        .map(|_| {
            let mut client = proxy.client();
            assert_eq!(client.get("/products/x").status, 200);
            client
        })
        .collect();

    let told = |name: &str, number: usize| status()["workers"][number][name].as_u64().unwrap();
    wait_until("the connections of now only", || {
        told("connections_idle", 0) + told("connections_idle", 1) == used.len() as u64
            && status()["workers"].as_array().unwrap().iter().all(|worker| worker["panics"] == 0)
    });
    wait_until("a second", || status()["uptime_seconds"].as_u64() >= Some(1));
    let least = listening.elapsed().as_secs();
    // One that has its response already may still be open for a moment.
    let mut page = wait_for("the end of those who asked before", || {
        let page = status();
        let active = |number: usize| page["workers"][number]["connections_active"].as_u64();
        (active(0).unwrap() + active(1).unwrap() == 1).then_some(page)
    });
    let uptime = page["uptime_seconds"].as_u64().unwrap();
    assert!((least..=launched.elapsed().as_secs()).contains(&uptime), "{least}: {page}");
    let live = page["live_version"].as_u64().unwrap();
    assert!(live >= 1, "{page}");
    for worker in page["workers"].as_array_mut().unwrap() {
        for name in ["connections_active", "connections_idle"] {
            worker.as_object_mut().unwrap().remove(name).unwrap();
        }
    }
    let mut localhost: Vec<String> =
        ("localhost", port).to_socket_addrs().unwrap().map(|address| address.to_string()).collect();
    localhost.sort();
    localhost.dedup();
    let addresses = page["buckets"][2]["addresses"].as_array_mut().unwrap();
    addresses.sort_by_key(Value::to_string);
    let (plain, secure) = (origin.address().to_string(), front.address().to_string());
    let mut found = page.as_object_mut().unwrap().remove("addresses").unwrap();
    let hosts = [("127.0.0.1", origin.address()), ("127.0.0.1", front.address())];
    let hosts = hosts.into_iter().chain([("localhost", origin.address())]);
    for ((host, address), found) in hosts.zip(found.as_array_mut().unwrap()) {
        let version = found["version"].as_u64().unwrap();
        assert!((1..=live).contains(&version), "{found}");
        // An address needs no look-up, whose age could be told.
        assert_eq!(found["age_seconds"].is_u64(), host == "localhost", "{found}");
        found["addresses"].as_array_mut().unwrap().sort_by_key(Value::to_string);
        let addresses = match host {
            "localhost" => localhost.clone(),
            _ => vec![address.to_string()],
        };
        let expected = json!({
            "host": host,
            "port": address.port(),
            "addresses": addresses,
            "version": version,
            "worker_versions": [version, version],
            "age_seconds": found["age_seconds"],
            "ends": null,
            "last_error": null,
        });
        assert_eq!(*found, expected);
    }
    assert_eq!(found.as_array().unwrap().len(), 3, "{found}");
    let bucket = |name: &str, endpoint: &str, addresses: &[String]| {
        json!({
            "name": name,
            "path_prefix": format!("/{name}"),
            "hosts": [],
            "endpoint": endpoint,
            "addresses": addresses,
            "tls": name == "encrypted",
            "signed": name != "unsigned",
            "credentials": null,
            "auth": name == "encrypted",
        })
    };
    let worker = |number: usize| json!({ "worker": number, "config_generation": 2, "live_version": live, "panics": 0 });
    let expected = json!({
        "status": "success",
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": uptime,
        "config_generation": 2,
        "live_version": live,
        "auth_enforced": true,
        "restart_required": adopted["restart_required"],
        "workers": [worker(0), worker(1)],
        "buckets": [
            bucket("products", &plain, std::slice::from_ref(&plain)),
            bucket("encrypted", &secure, std::slice::from_ref(&secure)),
            bucket("unsigned", &format!("localhost:{port}"), &localhost),
        ],
        "certificates": [],
        "jwks": [],
        "credentials": [],
        "last_reload": without_id(&refused, "api"),
    });
    assert_eq!(page, expected, "{page:#}");
}

/// A report as the status page repeats it.
fn without_id(report: &Value, trigger: &str) -> Value {
    let mut report = report.clone();
    report.as_object_mut().unwrap().remove("request_id").unwrap();
    report["trigger"] = trigger.into();
    report
}
