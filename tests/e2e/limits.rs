//! Bounds on heads, bodies, connections and descriptors.

use serde_json::Value;

use crate::{
    framing::assert_refused,
    support::{
        config::Config,
        proxy::{Launch, Proxy, field},
        raw_client::{Client, request_bytes},
        scripted_origin::{ScriptedOrigin, refused_address},
        site::Site,
        waiting::wait_until,
    },
    tls_handshake::TLS_REFUSALS_MAX,
};

#[test]
fn a_request_line_of_8000_octets_works_and_a_longer_target_is_414() {
    let origin = ScriptedOrigin::echo();
    let proxy = Proxy::in_front_of(&origin);
    let line = |octets: usize| {
        let fixed = "GET /products/x? HTTP/1.1".len();
        format!("/products/x?{}", "q".repeat(octets - fixed))
    };
    assert_eq!(proxy.get(&line(8_000)).text(), "/products/x");
    assert_refused(&proxy, &request_bytes("GET", &line(9_000), &[]), 414, "uri_too_long");
    // Also when the line never ends.
    let mut endless = proxy.client();
    endless.send(format!("GET /products/{}", "x".repeat(9_000)));
    endless.response("GET").assert_fault(414, "uri_too_long");
    endless.read_to_end();
    let encoded = format!("/products/{}", "%6b".repeat(1_024));
    assert_eq!(proxy.get(&encoded).text(), format!("/products/{}", "k".repeat(1_024)));
}

#[test]
fn a_head_over_the_limits_is_431() {
    let origin = ScriptedOrigin::echo();
    let proxy = Proxy::in_front_of(&origin);
    let value = "v".repeat(30_000);
    assert_eq!(proxy.get_with("/products/x", &[("X-A", &value)]).status, 200);
    let value = "v".repeat(33_000);
    let long = request_bytes("GET", "/products/x", &[("X-A", &value)]);
    assert_refused(&proxy, &long, 431, "head_too_large");

    let fields = |count| vec![("X-A", "b"); count];
    assert_eq!(proxy.get_with("/products/x", &fields(99)).status, 200);
    let many = request_bytes("GET", "/products/x", &fields(100));
    assert_refused(&proxy, &many, 431, "head_too_large");

    let name = "N".repeat(70_000);
    let long_name = request_bytes("GET", "/products/x", &[(&name, "b")]);
    assert_refused(&proxy, &long_name, 431, "head_too_large");
    assert_eq!(proxy.get("/products/x").status, 200);
}

#[test]
fn limits_are_configurable() {
    let origin = ScriptedOrigin::echo();
    let config = Config::products(origin.url())
        .set("server.limits.uri_bytes", 100)
        .set("server.limits.headers", 5)
        .set("server.limits.header_bytes", 2_000)
        .set("server.limits.body_bytes", 10);
    let proxy = Proxy::start(&config);
    let long = format!("/products/{}", "k".repeat(100));
    proxy.get(&long).assert_fault(414, "uri_too_long");
    proxy.get_with("/products/x", &[("A", "b"); 6]).assert_fault(431, "head_too_large");
    proxy.get_with("/products/x", &[("A", &"b".repeat(2_000))]).assert_fault(431, "head_too_large");
    let body = request_bytes("GET", "/products/x", &[("Content-Length", "11")]);
    assert_refused(&proxy, &[&body[..], b"elevenbytes"].concat(), 413, "body_too_large");
}

#[test]
fn a_body_over_the_limit_is_refused_without_waiting_for_it() {
    let origin = ScriptedOrigin::echo();
    let proxy = Proxy::in_front_of(&origin);
    for length in ["1048577", "99999999999"] {
        let mut client = proxy.client();
        client.send(request_bytes("GET", "/products/x", &[("Content-Length", length)]));
        let response = client.response("GET");
        response.assert_fault(413, "body_too_large");
        assert!(response.says_close(), "{response:?}");
        client.finish_sending();
        client.expect_end();
    }
    // Which of its two faults a request is told is no promise; that it ends is one.
    let mut client = proxy.client();
    client.send(request_bytes("POST", "/products/x", &[("Content-Length", "1048577")]));
    let response = client.response("POST");
    assert!([405, 413].contains(&response.status), "{response:?}");
    client.expect_end();
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
    assert!(
        proxy.metric_sum("yatagarasu_connections_rejected_total") >= 1.0,
        "{}",
        proxy.metrics()
    );
    kept.truncate(1);
    wait_until("room for another", || proxy.get("/products/x").status == 200);
    assert_eq!(kept[0].get("/products/x").status, 200);
}

/// Connections that the admin listener may have, as docs/OPERATIONS.md says.
const ADMIN_CONNECTIONS_MAX: usize = 256;

#[test]
fn connections_to_the_admin_listener_take_none_of_the_main_one() {
    let origin = ScriptedOrigin::serving("x");
    let config =
        Config::products(origin.url()).set("server.max_connections", 3).with_admin_listener();
    let proxy = Proxy::start(&config);
    let silent: Vec<_> = (0..10).map(|_| Client::connect(proxy.admin_address())).collect();
    // Each page is a connection itself.
    wait_until("all of them to be accepted", || proxy.metric_sum("yatagarasu_connections") >= 10.5);
    let mut kept: Vec<_> = (0..3).map(|_| proxy.client()).collect();
    for client in &mut kept {
        assert_eq!(client.get("/products/x").text(), "x");
    }
    // They are still counted where all connections are.
    assert!(proxy.metric_sum("yatagarasu_connections") >= 13.5, "{}", proxy.metrics());
    proxy.client().response("GET").assert_fault(503, "too_many_connections");
    assert_eq!(proxy.metric("yatagarasu_connections_rejected_total{reason=\"limit\"}"), Some(1.0));
    drop(silent);
}

#[test]
fn the_admin_listener_has_a_limit_of_its_own() {
    let origin = ScriptedOrigin::serving("x");
    let config = Config::products(origin.url())
        .set("server.timeouts.client_header", 600)
        .with_admin_listener();
    let proxy = Proxy::start(&config);
    // One core accepts them in this order.
    let mut kept: Vec<_> =
        (0..ADMIN_CONNECTIONS_MAX).map(|_| Client::connect(proxy.admin_address())).collect();
    let mut over = Client::connect(proxy.admin_address());
    let refused = over.response("GET");
    refused.assert_fault(503, "too_many_connections");
    assert_eq!(refused.header("retry-after"), Some("1"));
    over.read_to_end();
    // All that were there before go on, and so does the main listener.
    assert_eq!(kept[ADMIN_CONNECTIONS_MAX - 1].get("/health").status, 200);
    assert_eq!(proxy.get("/products/x").text(), "x");
    let page = kept[0].get("/metrics").text().to_owned();
    for line in [
        "yatagarasu_connections_rejected_total{reason=\"limit\"} 0",
        "yatagarasu_connections_rejected_total{reason=\"admin_limit\"} 1",
    ] {
        assert!(page.lines().any(|other| other == line), "{line}: {page}");
    }
    kept.truncate(1);
    wait_until("room for another", || {
        Client::connect(proxy.admin_address()).get("/health").status == 200
    });
}

#[test]
fn exhausted_descriptors_pause_accepting_and_nothing_leaks() {
    for io in ["auto", "epoll"] {
        let origin = ScriptedOrigin::serving("x");
        let config = Config::products(origin.url())
            .set("server.io", io)
            .set("server.timeouts.client_header", 600);
        let proxy = Launch::with_open_files(64, 64).config(&config).start();
        let mut first = proxy.client();
        assert_eq!(first.get("/products/x").status, 200);
        let before = proxy.open_fds();
        let mut crowd: Vec<_> = (0..200).map(|_| proxy.client()).collect();
        wait_until("the limit to be reached", || proxy.has_no_free_fd(64));
        // Each refusal is followed by a pause, so they are few; spinning makes millions.
        let exhausted = |client: &mut Client| {
            let page = client.get("/metrics").text().to_owned();
            let line = page
                .lines()
                .find_map(|line| {
                    line.strip_prefix(
                        "yatagarasu_connections_rejected_total{reason=\"fd_exhausted\"} ",
                    )
                })
                .expect("the series")
                .to_owned();
            line.parse::<f64>().unwrap()
        };
        wait_until("accepting to pause", || exhausted(&mut first) >= 3.0);
        assert!(exhausted(&mut first) < 1_000.0, "{io}");
        // A connection that is open goes on being served, its pooled upstream included.
        assert_eq!(first.get("/products/x").status, 200);
        // Those that wait in the queue are served as soon as there is room.
        crowd.drain(..crowd.len() - 1);
        assert_eq!(crowd[0].get("/health").status, 200, "{io}");
        crowd.clear();
        wait_until("descriptors to be given back", || proxy.open_fds() <= before);
        assert_eq!(proxy.get("/products/x").status, 200);
    }
}

/// Connects until connections hold every descriptor of the proxy, as one client sees.
fn exhaust_descriptors(proxy: &Proxy, client: &mut Client, limit: usize) -> Vec<Client> {
    let crowd: Vec<_> = (0..2 * limit).map(|_| proxy.client()).collect();
    // A page of metrics opens files itself, and a connection refused meanwhile leaves their
    // descriptor free for a moment: the kernel is asked before and after.
    wait_until("the limit to be reached", || proxy.has_no_free_fd(limit));
    wait_until("accepting to pause", || {
        let page = client.get("/metrics").text().to_owned();
        !page.contains("yatagarasu_connections_rejected_total{reason=\"fd_exhausted\"} 0\n")
    });
    wait_until("the limit to be reached again", || proxy.has_no_free_fd(limit));
    crowd
}

#[test]
fn exhausted_descriptors_are_not_called_a_fault_of_s3() {
    let origin = ScriptedOrigin::serving("x");
    // Nobody in the crowd says anything.
    let config = Config::products(origin.url()).set("server.timeouts.client_header", 600);
    let proxy = Launch::with_open_files(64, 64).config(&config).start();
    let mut client = proxy.client();
    assert_eq!(client.get("/health").status, 200);
    let crowd = exhaust_descriptors(&proxy, &mut client, 64);
    let refused = client.get("/products/x");
    refused.assert_fault(503, "out_of_descriptors");
    assert_eq!(refused.header("retry-after"), Some("1"));
    let page = client.get("/metrics").text().to_owned();
    let errors: Vec<_> =
        page.lines().filter(|line| line.starts_with("yatagarasu_upstream_errors_total{")).collect();
    assert!(!errors.is_empty(), "{page}");
    assert!(errors.iter().all(|line| line.contains("reason=\"out_of_descriptors\"")), "{errors:?}");
    drop(crowd);
    wait_until("room again", || client.get("/products/x").status == 200);
}

#[test]
fn idle_connections_make_room_when_descriptors_are_exhausted() {
    let origins = [ScriptedOrigin::serving("a"), ScriptedOrigin::serving("b")];
    let config = Config::new()
        .bucket("first", origins[0].url())
        .bucket("second", origins[1].url())
        .set("server.timeouts.client_header", 600);
    let proxy = Launch::with_open_files(64, 64).config(&config).start();
    let mut client = proxy.client();
    assert_eq!(client.get("/first/x").text(), "a");
    let crowd = exhaust_descriptors(&proxy, &mut client, 64);
    assert_eq!((origins[0].open(), origins[1].accepted()), (1, 0));
    assert_eq!(client.get("/second/x").text(), "b");
    origins[0].wait_open(0);
    drop(crowd);
}

#[test]
fn the_limit_on_connections_is_exact_on_one_core() {
    let origin = ScriptedOrigin::serving("x");
    let config =
        Config::products(origin.url()).set("server.max_connections", 10).with_admin_listener();
    let proxy = Proxy::start(&config);
    // All at once, so that they are accepted in one turn.
    let clients: Vec<_> = (0..50).map(|_| proxy.client()).collect();
    wait_until("all to be accepted or refused", || {
        proxy.metric_count("yatagarasu_connections_rejected_total") == 40
    });
    drop(clients);
    wait_until("room again", || proxy.get("/products/x").status == 200);
    assert_eq!(proxy.metric_count("yatagarasu_upstream_errors_total"), 0);
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
    let rejected = proxy.metric("yatagarasu_connections_rejected_total{reason=\"limit\"}");
    assert_eq!(rejected, Some(1.0));
}

#[test]
fn the_limit_on_open_files_is_raised_and_compared_with_the_connections() {
    const WARNING: &str = "the limit on open files is too low for server.max_connections";
    let config = Config::unreachable().set("server.max_connections", 1_000);
    let low = Launch::with_open_files(256, 1_024).config(&config).start();
    assert_eq!(low.metric("process_max_fds"), Some(1_024.0));
    let warning = low.stderr().event(WARNING).expect("a warning");
    assert_eq!(warning["level"], "WARN");
    assert_eq!(field(&warning, "open_file_limit"), Some(&1_024.into()));
    assert_eq!(field(&warning, "max_connections"), Some(&1_000.into()));
    let wanted = field(&warning, "wanted").and_then(Value::as_u64).unwrap();
    // Four for each connection, 64 idle ones, those of a worker, and the process.
    assert_eq!(wanted, 4_272, "{warning}");

    // An admin listener has a limit of its own.
    let with_admin =
        Launch::with_open_files(256, 4_272).config(&config.clone().with_admin_listener());
    let with_admin = with_admin.start();
    let warning = with_admin.stderr().event(WARNING).expect("a warning");
    let wanted = field(&warning, "wanted").and_then(Value::as_u64).unwrap();
    assert_eq!(wanted, 4_272 + ADMIN_CONNECTIONS_MAX as u64, "{warning}");

    // Requests over HTTP/2, of which one connection may have many, have connections to S3 too.
    let over_http2 = config.clone().set("server.http2.cleartext", true);
    let with_http2 = Launch::with_open_files(256, 4_272).config(&over_http2).start();
    let warning = with_http2.stderr().event(WARNING).expect("a warning");
    let wanted = field(&warning, "wanted").and_then(Value::as_u64).unwrap();
    assert_eq!(wanted, 5_272, "{warning}");

    // So have those that are refused over TLS.
    let site = Site::new();
    let over_tls = config.clone().with_tls().set("server.http2.enabled", false);
    let with_tls = site.with_files(Launch::with_open_files(256, 4_272)).config(&over_tls).start();
    let warning = with_tls.stderr().event(WARNING).expect("a warning");
    let wanted = field(&warning, "wanted").and_then(Value::as_u64).unwrap();
    assert_eq!(wanted, 4_272 + TLS_REFUSALS_MAX as u64, "{warning}");

    let enough = Launch::with_open_files(256, 4_272).config(&config).start();
    assert_eq!(enough.stderr().event(WARNING), None);
}
