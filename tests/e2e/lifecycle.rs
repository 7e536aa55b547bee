//! Starting, refusing to start, being looked at, and stopping without losing anything.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use crate::support::{
    config::Config,
    gate::Gate,
    proxy::{Launch, Proxy},
    raw_client::{Client, End, request_bytes},
    scripted_origin::{ScriptedOrigin, refused_address},
    waiting::wait_until,
};

/// A bucket that nobody asks for anything.
fn unused() -> Config {
    Config::products(format!("http://{}", refused_address()))
}

#[track_caller]
fn wait_refused(address: SocketAddr) {
    wait_until("the listener to close", || TcpStream::connect(address).is_err());
}

/// An origin that sends half of its body, and the rest when the gate opens.
fn half_then_gate(gate: &Gate) -> ScriptedOrigin {
    let held = gate.clone();
    ScriptedOrigin::start(move |conn, _| {
        while conn.request().is_some() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nfirst");
            conn.wait(&held);
            conn.send("_last");
        }
    })
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
    let good = Launch::new().config(&unused()).arguments(&["--validate"]).run();
    assert_eq!(good.code, Some(0), "{good:?}");

    let twice = unused()
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
    let config = unused().set("server.port", taken.local_addr().unwrap().port());
    let checked = Launch::new().config(&config).arguments(&["--validate"]).run();
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

#[test]
fn a_port_in_use_exits_with_3() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let main = Launch::new().config(&unused().set("server.port", port)).run();
    assert_eq!(main.code, Some(3), "{main:?}");
    assert!(main.stderr.contains(&port.to_string()), "{main:?}");
    let admin = unused().set("admin.listen", format!("127.0.0.1:{port}"));
    assert_eq!(Launch::new().config(&admin).run().code, Some(3));
}

#[test]
fn a_second_process_on_the_same_port_is_refused() {
    let origin = ScriptedOrigin::serving("first");
    let first = Proxy::start(&Config::products(origin.url()).set("server.threads", 2));
    let config = unused().set("server.port", first.address().port());
    let second = Launch::new().config(&config).run();
    assert_eq!(second.code, Some(3), "{second:?}");
    for _ in 0..20 {
        assert_eq!(first.get("/products/x").text(), "first");
    }
}

#[test]
fn the_process_says_what_it_is() {
    let proxy = Proxy::start(&unused());
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", proxy.pid())).unwrap();
    assert_eq!(comm.trim(), "yatagarasu");
    let log = proxy.stderr().text();
    for signal in ["SIGHUP", "SIGTERM", "SIGUSR1"] {
        assert!(log.contains(signal), "{signal} in\n{log}");
    }
    let lines = proxy.stderr().all();
    assert_eq!(proxy.stderr().records().len(), lines.len(), "every line is JSON: {lines:?}");
}

#[test]
fn health_readiness_and_metrics_answer() {
    let proxy = Proxy::start(&unused().set("server.threads", 2));
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
fn requests_are_counted_by_bucket() {
    let origin = ScriptedOrigin::serving("four");
    let proxy = Proxy::start(&Config::products(origin.url()));
    for _ in 0..3 {
        assert_eq!(proxy.get("/products/x").status, 200);
    }
    wait_until("three requests in the metrics", || {
        proxy.metrics().lines().any(|line| {
            line.starts_with("http_requests_total{")
                && line.contains("bucket=\"products\"")
                && line.contains("status=\"200\"")
                && line.ends_with(" 3")
        })
    });
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
fn an_idle_process_stops_with_0() {
    for signal in ["TERM", "INT"] {
        let mut proxy = Proxy::start(&unused().set("server.threads", 2).with_admin_listener());
        proxy.signal(signal);
        assert_eq!(proxy.wait_exit().code(), Some(0), "SIG{signal}");
        assert!(TcpStream::connect(proxy.address()).is_err());
    }
}

#[test]
fn idle_connections_are_closed_when_stopping() {
    let origin = ScriptedOrigin::serving("x");
    let mut proxy = Proxy::start(&Config::products(origin.url()));
    let (mut used, mut unused) = (proxy.client(), proxy.client());
    assert_eq!(used.get("/products/x").status, 200);
    proxy.signal("TERM");
    assert_eq!(used.expect_end(), End::Fin);
    unused.expect_end();
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn a_body_on_its_way_is_finished_when_stopping() {
    let gate = Gate::default();
    let origin = half_then_gate(&gate);
    let mut proxy = Proxy::start(&Config::products(origin.url()));
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/x", &[]));
    let head = client.head("GET").unwrap();
    let mut body = client.read_exactly(5);
    proxy.signal("TERM");
    wait_refused(proxy.address());
    assert!(proxy.is_running());
    gate.open();
    body.extend(client.read_exactly(5));
    assert_eq!((head.status, &*body), (200, b"first_last".as_slice()));
    assert_eq!(client.expect_end(), End::Fin);
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn an_answer_still_to_come_says_close_when_stopping() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        conn.expect_request();
        conn.wait(&held);
        conn.respond("200 OK", &[], b"answer");
    });
    let mut proxy = Proxy::start(&Config::products(origin.url()));
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/x", &[]));
    wait_until("the request", || !origin.requests().is_empty());
    proxy.signal("TERM");
    wait_refused(proxy.address());
    gate.open();
    let answer = client.response("GET");
    assert_eq!(answer.text(), "answer");
    assert!(answer.says_close(), "{answer:?}");
    client.expect_end();
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn what_does_not_finish_within_the_drain_time_is_cut_short() {
    let gate = Gate::default();
    let origin = half_then_gate(&gate);
    let config = Config::products(origin.url()).set("server.timeouts.drain", 0.3);
    let mut proxy = Proxy::start(&config);
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/x", &[]));
    client.head("GET").unwrap();
    client.read_exactly(5);
    proxy.signal("TERM");
    let (rest, _) = client.read_to_end();
    assert!(rest.is_empty());
    proxy.wait_exit();
}

#[test]
fn a_second_signal_stops_at_once() {
    let gate = Gate::default();
    let origin = half_then_gate(&gate);
    // Longer than these tests ever wait.
    let config = Config::products(origin.url()).set("server.timeouts.drain", 3_600);
    let mut proxy = Proxy::start(&config);
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/x", &[]));
    client.head("GET").unwrap();
    proxy.signal("TERM");
    wait_refused(proxy.address());
    assert!(proxy.is_running());
    proxy.signal("TERM");
    proxy.wait_exit();
}

#[test]
fn not_ready_comes_before_not_accepting() {
    let origin = ScriptedOrigin::serving("still served");
    let config = Config::products(origin.url()).set("server.timeouts.drain_delay", 3_600);
    let mut proxy = Proxy::start(&config);
    proxy.signal("TERM");
    wait_until("/ready to turn 503", || proxy.get("/ready").status == 503);
    assert_eq!(proxy.get("/health").status, 200);
    assert_eq!(proxy.get("/products/x").text(), "still served");
    proxy.signal("TERM");
    proxy.wait_exit();
}

#[test]
fn the_admin_listener_closes_last() {
    let gate = Gate::default();
    let origin = half_then_gate(&gate);
    let mut proxy = Proxy::start(&Config::products(origin.url()).with_admin_listener());
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/x", &[]));
    let head = client.head("GET").unwrap();
    proxy.signal("TERM");
    wait_refused(proxy.address());
    assert_eq!(Client::connect(proxy.admin_address()).get("/ready").status, 503);
    gate.open();
    let mut body = Vec::new();
    client.body(head.framing, &mut |bytes| body.extend_from_slice(bytes)).unwrap();
    assert_eq!(body, b"first_last");
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn the_tail_of_a_large_answer_survives_the_stop() {
    const LENGTH: usize = 4 * 1024 * 1024;
    let origin = ScriptedOrigin::serving(vec![b'x'; LENGTH]);
    let mut proxy = Proxy::start(&Config::products(origin.url()));
    let mut client = Client::connect_with_receive_buffer(proxy.address(), 16_384);
    client.send(request_bytes("GET", "/products/x", &[]));
    let answer = client.head("GET").unwrap();
    proxy.signal("TERM");
    wait_refused(proxy.address());
    let mut length = 0;
    client.body(answer.framing, &mut |bytes| length += bytes.len()).unwrap();
    assert_eq!(length, LENGTH);
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn a_request_sent_ahead_does_not_cut_the_answer_before_it_off_at_the_stop() {
    const LENGTH: usize = 4 * 1024 * 1024;
    let origin = ScriptedOrigin::serving(vec![b'x'; LENGTH]);
    let mut proxy = Proxy::start(&Config::products(origin.url()));
    let mut client = Client::connect_with_receive_buffer(proxy.address(), 16_384);
    client.send(request_bytes("GET", "/products/x", &[]));
    let first = client.head("GET").unwrap();
    client.send(request_bytes("GET", "/products/x", &[]));
    proxy.signal("TERM");
    wait_refused(proxy.address());
    let mut length = 0;
    client.body(first.framing, &mut |bytes| length += bytes.len()).unwrap();
    assert_eq!(length, LENGTH);
    let second = client.head("GET").unwrap();
    assert!(second.says_close());
    client.body(second.framing, &mut |bytes| length += bytes.len()).unwrap();
    assert_eq!(length, 2 * LENGTH);
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn connections_over_the_limit_are_refused_and_counted() {
    let origin = ScriptedOrigin::serving("x");
    let config =
        Config::products(origin.url()).set("server.max_connections", 3).with_admin_listener();
    let proxy = Proxy::start(&config);
    let mut kept: Vec<_> = (0..3).map(|_| proxy.client()).collect();
    for client in &mut kept {
        assert_eq!(client.get("/products/x").status, 200);
    }
    let mut over = proxy.client();
    over.send_if_open(request_bytes("GET", "/products/x", &[]));
    over.response("GET").assert_fault(503, "too_many_connections");
    over.read_to_end();
    assert!(proxy.metric_sum("connections_rejected_total") >= 1.0, "{}", proxy.metrics());
    kept.truncate(1);
    wait_until("room for another", || proxy.get("/products/x").status == 200);
    assert_eq!(kept[0].get("/products/x").status, 200);
}
