//! What is promised about the command line, the start and the listeners.

use std::{
    net::{Ipv6Addr, TcpListener},
    thread,
};

use serde_json::Value;

use crate::support::{
    config::Config,
    proxy::{Launch, Proxy, field},
    raw_client::Client,
    scripted_origin::{ScriptedOrigin, refused_address},
    token::{self, bearer},
};

/// A bucket that nobody asks for anything.
fn unused() -> Config {
    Config::products(format!("http://{}", refused_address()))
}

#[test]
fn without_an_argument_the_file_is_config_yaml_of_this_directory() {
    let launch = Launch::new().arguments(&["--validate"]);
    launch.write("config.yaml", &unused().to_yaml());
    let checked = launch.run();
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.contains("config.yaml"), "{checked:?}");
}

#[test]
fn validate_prints_warnings_and_accepts_all_the_same() {
    // 32 characters: enough for SHA-256, fewer than SHA-512 has (RFC 7518 section 3.2).
    let config = unused()
        .with_jwt(&["products"])
        .set("jwt.secret", "s".repeat(32))
        .set("jwt.algorithm", "HS512");
    let checked = Launch::new().config(&config).arguments(&["--validate"]).run();
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let warning = checked.stdout.lines().find(|line| line.starts_with("warning: "));
    assert!(warning.is_some_and(|line| line.contains("jwt.secret")), "{checked:?}");
    assert!(checked.stderr.is_empty(), "{checked:?}");
}

#[test]
fn numbers_and_booleans_come_from_variables() {
    let text = unused()
        .set("server.threads", "${WORKERS}")
        .set("server.expose_generation", "${SHOWN:-true}")
        .to_yaml();
    let proxy = Launch::new().config_text(&text).environment("WORKERS", "2").start();
    assert_eq!(proxy.get("/health").header("x-config-generation"), Some("1"));
    assert_eq!(workers(&proxy), 2);
    let unset = Launch::new().config_text(&text).run();
    assert_eq!(unset.code, Some(1));
    let named = ["server.threads", "WORKERS"].iter().all(|name| unset.stderr.contains(name));
    assert!(named, "{unset:?}");
}

#[test]
fn a_comparison_ends_like_a_validation() {
    let launch = Launch::new().arguments(&["--config", "new.yaml", "--diff", "old.yaml"]);
    launch.write("old.yaml", &unused().to_yaml());
    launch.write("new.yaml", &unused().set("server.port", 1).to_yaml());
    let compared = launch.run();
    assert_eq!(compared.code, Some(0), "{compared:?}");
    let report: Value = serde_json::from_str(&compared.stdout).unwrap();
    assert_eq!(report["restart_required"][0], "server.port: running 0, file 1");
    launch.write("new.yaml", "buckets: 7\n");
    let refused = launch.run();
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("new.yaml"), "{refused:?}");
    assert_eq!(launch.arguments(&["--validate"]).run().code, Some(2));
}

fn workers(proxy: &Proxy) -> usize {
    let page = proxy.metrics();
    page.lines().filter(|line| line.starts_with("config_worker_generation{")).count()
}

#[test]
fn every_core_that_may_be_used_gets_a_worker() {
    let config = unused().set("server.threads", Value::Null);
    let cores = core_affinity::get_core_ids().unwrap();
    // A quota of the cgroup is rounded down here and up there.
    let least = thread::available_parallelism().unwrap().get();
    assert!((least..=cores.len()).contains(&workers(&Proxy::start(&config))));
    thread::scope(|scope| {
        scope.spawn(|| {
            // What this thread starts inherits its mask.
            assert!(core_affinity::set_for_current(cores[0]));
            assert_eq!(workers(&Proxy::start(&config)), 1);
        });
    });
}

/// The proxy under a soft and a hard limit on open files.
fn with_open_files(soft: usize, hard: usize, config: &Config) -> Proxy {
    let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
    let binary = env!("CARGO_BIN_EXE_yatagarasu");
    Launch::of("/bin/sh").arguments(&["-c", &script, binary]).config(config).start()
}

#[test]
fn the_limit_on_open_files_is_raised_and_compared_with_the_connections() {
    const WARNING: &str = "the limit on open files is too low for server.max_connections";
    let config = unused().set("server.max_connections", 1_000);
    let low = with_open_files(256, 1_024, &config);
    assert_eq!(low.metric("process_max_fds"), Some(1_024.0));
    let warning = low.stderr().event(WARNING).expect("a warning");
    assert_eq!(warning["level"], "WARN");
    assert_eq!(field(&warning, "open_file_limit"), Some(&1_024.into()));
    assert_eq!(field(&warning, "max_connections"), Some(&1_000.into()));
    let wanted = field(&warning, "wanted").and_then(Value::as_u64).unwrap();
    assert!(wanted >= 2_000, "{warning}");

    let enough = with_open_files(256, 4_096, &config);
    assert_eq!(enough.stderr().event(WARNING), None);
}

#[test]
fn an_address_of_another_machine_exits_with_3() {
    // TEST-NET-1 (RFC 5737) is on no interface.
    let config = unused().set("server.address", "192.0.2.1");
    let exited = Launch::new().config(&config).run();
    assert_eq!(exited.code, Some(3), "{exited:?}");
    assert!(exited.stderr.contains("192.0.2.1"), "{exited:?}");
}

#[test]
fn both_listeners_speak_ipv6() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        eprintln!("no IPv6 here: nothing tested");
        return;
    }
    let origin = ScriptedOrigin::serving("over IPv6");
    let config =
        Config::products(origin.url()).set("server.address", "::1").set("admin.listen", "[::1]:0");
    let proxy = Proxy::start(&config);
    assert!(proxy.address().is_ipv6() && proxy.admin_address().is_ipv6());
    assert_eq!(proxy.get("/products/x").text(), "over IPv6");
    assert!(proxy.metrics().contains("config_generation 1"));
}

#[test]
fn a_name_that_does_not_resolve_is_a_warning_and_502() {
    let origin = ScriptedOrigin::serving("still served");
    // RFC 6761 section 6.4: never a name.
    let config = Config::products(origin.url()).bucket("lost", "http://no-such-host.invalid:9000");
    let checked = Launch::new().config(&config).arguments(&["--validate"]).run();
    assert_eq!(checked.code, Some(0), "{checked:?}");

    let proxy = Proxy::start(&config);
    proxy.get("/lost/x").assert_fault(502, "upstream_refused");
    assert_eq!(proxy.get("/products/x").text(), "still served");
    let log = proxy.stderr().text();
    assert!(log.contains("no-such-host.invalid") && log.contains("\"WARN\""), "{log}");
}

#[test]
fn the_main_listener_knows_nothing_of_admin_when_there_is_another() {
    let config = unused().with_jwt(&[]).with_admin_listener();
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
