//! What is refused changes nothing, and what an operator is told.

use crate::support::{
    proxy::{Launch, Proxy},
    raw_client::Client,
    reload::{config, counts, post, reload, touched},
    scripted_origin::ScriptedOrigin,
    token::{self, bearer},
    waiting::wait_until,
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config as Runs, RngSeed, TestRunner},
};
use serde_json::json;

/// Refused files, at least.
const REFUSALS: usize = 110;

/// Series that this test's own requests and the machine move, and those that a failed reload is
/// meant to move.
const MOVING: [&str; 10] = [
    "yatagarasu_http_",
    "yatagarasu_upstream_requests_total",
    "yatagarasu_upstream_first_byte",
    "yatagarasu_connections",
    "yatagarasu_client_connections",
    "process_",
    "config_reload_failure_total",
    "config_last_reload_successful",
    "yatagarasu_jwt_",
    "yatagarasu_access_log",
];

fn still_series(proxy: &Proxy) -> Vec<String> {
    let is_still = |line: &&str| {
        !line.starts_with('#') && !MOVING.iter().any(|moving| line.starts_with(moving))
    };
    proxy.metrics().lines().filter(is_still).map(str::to_owned).collect()
}

/// What can happen to a file: a line that is gone, doubled, cut or replaced, and the same with
/// single bytes.
fn mutated(good: &str, kind: usize, at: usize, byte: u8) -> Vec<u8> {
    let lines: Vec<&str> = good.lines().collect();
    let line = at % lines.len();
    let rebuilt = |change: &dyn Fn(usize, &str) -> Vec<String>| {
        let changed: Vec<String> =
            lines.iter().enumerate().flat_map(|(number, text)| change(number, text)).collect();
        changed.join("\n").into_bytes()
    };
    let keep = |text: &str| vec![text.to_owned()];
    match kind {
        0 => rebuilt(&|number, text| if number == line { vec![] } else { keep(text) }),
        1 => rebuilt(&|number, text| {
            if number == line { [keep(text), keep(text)].concat() } else { keep(text) }
        }),
        2 => good.as_bytes()[..at % good.len()].to_vec(),
        3 => rebuilt(&|number, text| {
            if number == line { keep(&text.replace(':', ": [")) } else { keep(text) }
        }),
        4 => rebuilt(&|number, text| {
            if number == line { keep(&format!("{text}x: y")) } else { keep(text) }
        }),
        _ => {
            let mut bytes = good.as_bytes().to_vec();
            bytes[at % good.len()] = byte;
            bytes
        }
    }
}

#[test]
fn a_hundred_mutated_files_leave_everything_as_it_was() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin).bucket("second", origin.url()).with_jwt(&["second"]);
    let proxy = Proxy::start(&first);
    let mut kept = proxy.client();
    assert_eq!(kept.get("/products/x").status, 200);
    let mut operator = proxy.client();
    let admin = bearer(&token::for_role("admin"));
    let mut ask = |target: &str| operator.request("POST", target, &[("Authorization", &admin)]);
    let good = first.to_yaml();
    let path = proxy.directory().join("config.yaml");
    wait_until("the two connections and the one that asks", || {
        proxy.metric("yatagarasu_client_connections{protocol=\"http1\"}") == Some(3.0)
    });
    let before = still_series(&proxy);
    assert!(before.iter().any(|line| line == "config_generation 1"), "{before:?}");
    let (fds, threads) = (proxy.open_fds(), proxy.threads());
    let seed = 0x5EED;
    eprintln!("seed {seed:#x}");
    let runs = Runs { rng_seed: RngSeed::Fixed(seed), ..Runs::default() };
    let mut runner = TestRunner::new(runs);
    let strategy = (0..6_usize, 0..good.len(), proptest::num::u8::ANY);
    let mut refused = 0;
    while refused < REFUSALS {
        let (kind, at, byte) = strategy.new_tree(&mut runner).unwrap().current();
        let text = mutated(&good, kind, at, byte);
        std::fs::write(&path, &text).unwrap();
        // Some mutations only say the same, or something else, in another way.
        if ask("/admin/reload?dry_run=true").status == 200 {
            continue;
        }
        refused += 1;
        let shown = format!("mutation {kind} {at} {byte}");
        let response = ask("/admin/reload");
        assert_eq!(response.status, 400, "{shown}: {response:?}");
        assert!(!response.text().contains(token::JWT_SECRET), "{shown}: {response:?}");
        assert_eq!(still_series(&proxy), before, "{shown}");
        assert_eq!(kept.get("/products/x").status, 200, "{shown}");
        assert_eq!(counts(&proxy), (0, refused), "{shown}");
        assert_eq!(proxy.threads(), threads, "{shown}");
    }
    wait_until("no descriptor more than before", || proxy.open_fds() <= fds);
    assert_eq!(Client::connect(proxy.address()).get("/ready").status, 200, "the listener is there");
    assert!(!proxy.output().contains(token::JWT_SECRET));
    std::fs::write(&path, good).unwrap();
    assert_eq!(reload(&proxy)["changed"], false);
    assert_eq!(proxy.metric("config_last_reload_successful"), Some(1.0));
}

#[test]
fn going_back_says_which_secrets_come_back_and_that_the_file_differs() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin);
    let proxy = Proxy::start(&first);
    let new_secret = "the-secret-after-the-leak-of-the-first-one";
    proxy.write_config(&first.clone().set("jwt.secret", new_secret));
    reload(&proxy);
    let claims = json!({ "role": "admin", "exp": token::unix_now() + 60 });
    let admin = bearer(&token::mint(new_secret, &claims));
    let back = |to: &str, admin: &str| {
        let fields = [("Authorization", admin)];
        proxy.client().request("POST", &format!("/admin/rollback?to={to}"), &fields)
    };
    let response = back("1", &admin);
    assert_eq!(response.status, 200, "{response:?}");
    let report = response.json();
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("jwt: a JWT secret"), "{report}");
    assert!(warnings.contains("is accepted again"), "{report}");
    assert!(warnings.contains("file on disk differs"), "{report}");
    for secret in [new_secret, token::JWT_SECRET] {
        assert!(!report.to_string().contains(secret) && !proxy.output().contains(secret));
    }
    // The old secret is good again, the new one is not: it was no part of that content.
    assert_eq!(back("3", &admin).status, 401);
    proxy.write_config(&first);
    let old = bearer(&token::for_role("admin"));
    let response = back("1", &old);
    assert_eq!(response.status, 200, "{response:?}");
    assert!(response.json().get("warnings").is_none(), "{response:?}");
    assert_eq!(response.json()["changed"], false);
    let unknown = back("99", &old);
    assert_eq!(unknown.status, 404, "{unknown:?}");
    assert_eq!(counts(&proxy), (3, 1));
}

#[test]
fn switching_authentication_off_is_done_and_said() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin).with_jwt(&["products"]);
    let proxy = Proxy::start(&first);
    assert_eq!(proxy.get("/products/x").status, 401);
    assert_eq!(proxy.metric("yatagarasu_auth_enforced"), Some(1.0));
    proxy.write_config(&first.clone().set("jwt.enabled", false));
    let report = reload(&proxy);
    let warnings = report["warnings"].to_string();
    assert!(warnings.contains("no bucket asks for a token"), "{report}");
    assert!(warnings.contains("admin API"), "{report}");
    assert_eq!(proxy.get("/products/x").status, 200);
    assert_eq!(proxy.metric("yatagarasu_auth_enforced"), Some(0.0));
    post(&proxy, "/admin/reload", &[]).assert_fault(403, "admin_closed");
    proxy.stderr().wait_for("no bucket asks for a token");
    // Only a signal leads back.
    proxy.write_config(&first);
    proxy.signal("HUP");
    wait_until("authentication", || proxy.metric("yatagarasu_auth_enforced") == Some(1.0));
    wait_until("every worker", || counts(&proxy) == (2, 0));
    assert_eq!(proxy.get("/products/x").status, 401);
    // Without the section nothing could be checked: refused, never opened.
    proxy.write_config(&first.set("jwt", serde_json::Value::Null));
    assert_eq!(post(&proxy, "/admin/reload", &[]).status, 400);
    assert_eq!(proxy.get("/products/x").status, 401);
}

#[test]
fn the_report_the_log_and_the_offline_report_say_the_same() {
    let origin = ScriptedOrigin::serving("x");
    let first = config(&origin);
    let new = touched(&first, 1)
        .set("server.port", 1)
        .set("buckets.0.s3.secret_key", "another-secret-key-never-shown")
        .bucket("more", origin.url())
        .with_jwt(&[]);
    let launch = Launch::new();
    launch.write("old.yaml", &first.to_yaml());
    launch.write("new.yaml", &new.to_yaml());
    let offline = launch.arguments(&["--config", "new.yaml", "--diff", "old.yaml"]).run();
    assert_eq!(offline.code, Some(0), "{offline:?}");
    let offline: serde_json::Value = serde_json::from_str(&offline.stdout).unwrap();

    let proxy = Proxy::start(&first);
    proxy.write_config(&new);
    let dry = post(&proxy, "/admin/reload?dry_run=true", &[]).json();
    let done = reload(&proxy);
    for key in ["applied", "restart_required", "changed"] {
        assert_eq!(offline[key], done[key], "{key}");
        assert_eq!(dry[key], done[key], "{key}");
    }
    let applied: Vec<&str> =
        done["applied"].as_array().unwrap().iter().map(|key| key.as_str().unwrap()).collect();
    assert_eq!(
        applied,
        ["server.timeouts.client_idle", "buckets[products].s3.secret_key", "buckets[more]"]
    );
    assert_eq!(done["restart_required"], json!(["server.port: running 0, file 1"]));
    let logged = || {
        let records = proxy.stderr().records();
        records.into_iter().find(|r| r["message"] == "Configuration reloaded successfully")
    };
    wait_until("the log", || logged().is_some());
    let logged = logged().unwrap();
    assert_eq!(logged["applied"], applied.join(", "));
    assert_eq!(logged["config_generation"], 2);
    assert!(logged["duration_ms"].is_number() && logged["trigger"] == "api", "{logged}");
    assert!(proxy.output().contains("server.port: running 0, file 1"));
    assert!(!proxy.output().contains("never-shown"));
}
