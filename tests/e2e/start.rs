//! The command line, the start, and what is refused before anything listens.

use std::{
    env,
    net::{Ipv4Addr, Ipv6Addr, TcpListener},
    thread,
};

use serde_json::Value;

use crate::support::{
    config::Config,
    proxy::{Launch, Proxy},
    reload::{config_of, reload, touched},
    scripted_origin::ScriptedOrigin,
};

fn workers(proxy: &Proxy) -> usize {
    let page = proxy.metrics();
    page.lines().filter(|line| line.starts_with("config_worker_generation{")).count()
}

#[test]
fn version_and_help_exit_with_0() {
    let version = Launch::new().arguments(&["--version"]).run();
    assert_eq!(version.code, Some(0));
    assert!(version.stdout.contains(env!("CARGO_PKG_VERSION")), "{version:?}");
    let help = Launch::new().arguments(&["--help"]).run();
    assert_eq!(help.code, Some(0));
    for option in ["--config", "--validate", "--diff"] {
        assert!(help.stdout.contains(option), "{option}");
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    assert_eq!(Launch::new().arguments(&["--no-such-option"]).run().code, Some(2));
    assert_eq!(Launch::new().arguments(&["--config"]).run().code, Some(2));
}

#[test]
fn a_refused_configuration_exits_with_1() {
    let missing = Launch::new().arguments(&["--config", "nowhere.yaml"]).run();
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.stderr.contains("nowhere.yaml"), "{missing:?}");
    // Without an argument it is config.yaml of the current directory, which is not there.
    assert_eq!(Launch::new().run().code, Some(1));
    for text in ["", "buckets: []\n", "server: [\n", "buckets: 7\n", "\u{0}"] {
        assert_eq!(Launch::new().config_text(text).run().code, Some(1), "{text:?}");
    }
}

#[test]
fn validate_reports_every_problem_and_exits_with_0_or_1() {
    let good = Launch::new().config(&Config::unreachable()).arguments(&["--validate"]).run();
    assert_eq!(good.code, Some(0), "{good:?}");

    let twice = Config::unreachable()
        .bucket("other", "http://127.0.0.1:9")
        .set("buckets.0.path_prefix", "/api")
        .set("buckets.1.path_prefix", "/api")
        .set("server.prot", 1)
        .set("jwt.secret", "short")
        .set("buckets.0.auth.enabled", true)
        .set("buckets.1.auth.enabled", false);
    let bad = Launch::new().config(&twice).arguments(&["--validate"]).run();
    assert_eq!(bad.code, Some(1), "{bad:?}");
    let shown = format!("{}\n{}", bad.stdout, bad.stderr);
    for expected in [
        "Duplicate path_prefix '/api' found in buckets: products, other",
        "JWT secret must be at least 32 characters",
        "server.prot",
        "port",
    ] {
        assert!(shown.contains(expected), "{expected:?} in\n{shown}");
    }
}

#[test]
fn validate_opens_no_socket() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let config = Config::unreachable().set("server.port", taken.local_addr().unwrap().port());
    let checked = Launch::new().config(&config).arguments(&["--validate"]).run();
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

#[test]
fn a_port_in_use_exits_with_3() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let main = Launch::new().config(&Config::unreachable().set("server.port", port)).run();
    assert_eq!(main.code, Some(3), "{main:?}");
    assert!(main.stderr.contains(&port.to_string()), "{main:?}");
    let admin = Config::unreachable().set("admin.listen", format!("127.0.0.1:{port}"));
    assert_eq!(Launch::new().config(&admin).run().code, Some(3));
}

#[test]
fn a_second_process_on_the_same_port_is_refused() {
    let origin = ScriptedOrigin::serving("first");
    let first = Proxy::start(&Config::products(origin.url()).set("server.threads", 2));
    let config = Config::unreachable().set("server.port", first.address().port());
    let second = Launch::new().config(&config).run();
    assert_eq!(second.code, Some(3), "{second:?}");
    for _ in 0..20 {
        assert_eq!(first.get("/products/x").text(), "first");
    }
}

#[test]
fn the_process_says_what_it_is() {
    let proxy = Proxy::start(&Config::unreachable());
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", proxy.pid())).unwrap();
    assert_eq!(comm.trim(), "yatagarasu");
    for signal in ["SIGHUP", "SIGTERM", "SIGUSR1"] {
        proxy.stderr().wait_for(signal);
    }
    let lines = proxy.stderr().all();
    assert_eq!(proxy.stderr().records().len(), lines.len(), "every line is JSON: {lines:?}");
}

#[test]
fn without_an_argument_the_file_is_config_yaml_of_this_directory() {
    let launch = Launch::new().arguments(&["--validate"]);
    launch.write("config.yaml", &Config::unreachable().to_yaml());
    let checked = launch.run();
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.contains("config.yaml"), "{checked:?}");
}

#[test]
fn validate_prints_warnings_and_accepts_all_the_same() {
    // 32 characters: enough for SHA-256, fewer than SHA-512 has (RFC 7518 section 3.2).
    let config = Config::unreachable()
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
    let text = Config::unreachable()
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
    launch.write("old.yaml", &Config::unreachable().to_yaml());
    launch.write("new.yaml", &Config::unreachable().set("server.port", 1).to_yaml());
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

#[test]
fn every_core_that_may_be_used_gets_a_worker() {
    let config = Config::unreachable().set("server.threads", Value::Null);
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

#[test]
fn an_address_of_another_machine_exits_with_3() {
    // TEST-NET-1 (RFC 5737) is on no interface.
    let config = Config::unreachable().set("server.address", "192.0.2.1");
    let exited = Launch::new().config(&config).run();
    assert_eq!(exited.code, Some(3), "{exited:?}");
    assert!(exited.stderr.contains("192.0.2.1"), "{exited:?}");
}

/// Whether this machine has the loopback address of IPv6. Where it has none, whoever runs the tests
/// says so, so that nothing is left untested unnoticed.
#[track_caller]
fn has_ipv6() -> bool {
    const WITHOUT: &str = "YATAGARASU_TEST_WITHOUT_IPV6";
    let found = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    assert!(found || env::var_os(WITHOUT).is_some(), "no IPv6 here: set {WITHOUT} to go without");
    found
}

#[test]
fn both_listeners_speak_ipv6() {
    if !has_ipv6() {
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
fn a_machine_without_root_certificates_is_a_warning_wherever_a_file_is_checked() {
    let origin = ScriptedOrigin::serving("still served");
    let config = config_of(origin.url()).bucket("lost", "https://127.0.0.1:1").with_jwt(&[]);
    let launch = || {
        let launch = Launch::new().config(&config);
        let nothing = launch.path("nothing").display().to_string();
        launch.environment("SSL_CERT_FILE", &nothing).environment("SSL_CERT_DIR", &nothing)
    };
    let warning = "no root certificates were found on this machine";
    let checked = launch().arguments(&["--validate"]).run();
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(checked.stdout.contains(warning), "{checked:?}");

    let proxy = launch().start();
    proxy.stderr().wait_for(warning);
    assert_eq!(proxy.get("/products/x").text(), "still served");
    proxy.get("/lost/x").assert_fault(502, "upstream_refused");
    proxy.write_config(&touched(&config, 1));
    let warnings = reload(&proxy)["warnings"].to_string();
    assert!(warnings.contains(warning) && warnings.contains("buckets[lost].s3"), "{warnings}");

    // With a bundle of its own an endpoint needs no other roots.
    let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(proxy.directory().join("ca.pem"), own.cert.pem()).unwrap();
    proxy.write_config(&config.clone().set("buckets.1.s3.ca_file", "ca.pem"));
    assert!(reload(&proxy).get("warnings").is_none());
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
    proxy.stderr().wait_for("no-such-host.invalid");
    proxy.stderr().wait_for("\"WARN\"");
}
