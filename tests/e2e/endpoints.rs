//! The built-in endpoints, and which listener has them.

use serde_json::json;

use crate::support::{
    config::Config,
    proxy::Proxy,
    raw_client::Client,
    reload::{config, reload, touched},
    scripted_origin::ScriptedOrigin,
    token::{self, bearer},
    waiting::wait_until,
};

#[test]
fn health_readiness_and_metrics_answer() {
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
    for family in ["config_worker_generation{", "process_", "build_info"] {
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
