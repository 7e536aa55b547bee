//! The metrics page: which series there are, and what they count.

use crate::{
    responses::{of_every_kind, three_buckets},
    support::{
        config::Config,
        gate::Gate,
        http2_frames::{HEADERS, INITIAL_WINDOW, RawHttp2, request, window_update},
        proxy::{Proxy, state_of},
        raw_client::{Client, request_bytes},
        reload::adopt,
        scripted_origin::ScriptedOrigin,
        waiting::wait_until,
    },
};

#[test]
fn requests_are_counted_by_bucket() {
    let origin = ScriptedOrigin::serving("four");
    let proxy = Proxy::start(&Config::products(origin.url()));
    for _ in 0..3 {
        assert_eq!(proxy.get("/products/x").status, 200);
    }
    wait_until("three requests in the metrics", || {
        proxy.metrics().lines().any(|line| {
            line.starts_with("yatagarasu_http_requests_total{")
                && line.contains("bucket=\"products\"")
                && line.contains("status=\"200\"")
                && line.ends_with(" 3")
        })
    });
}

#[test]
fn requests_are_counted_by_method() {
    let origin = ScriptedOrigin::serving("four");
    let proxy = Proxy::start(&Config::products(origin.url()));
    let mut client = proxy.client();
    let methods = [("HEAD", 2), ("OPTIONS", 3), ("PUT", 1), ("head", 3)];
    for (method, count) in methods {
        for _ in 0..count {
            client.request(method, "/products/x", &[]);
        }
    }
    // Names are case-sensitive (RFC 9110 section 9.1). The page itself is asked for with GET.
    let expected = [("HEAD", 2), ("OPTIONS", 3), ("OTHER", 4)];
    wait_until("the requests in the metrics, each with its method", || {
        let page = proxy.metrics();
        expected.iter().all(|(label, count)| {
            let label = format!("method=\"{label}\"");
            let counted = page.lines().filter(|line| {
                line.starts_with("yatagarasu_http_requests_total{") && line.contains(&label)
            });
            let counts = counted.filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok());
            counts.sum::<u32>() == *count
        })
    });
}

#[test]
fn gauges_of_connections_return_to_zero() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, number| {
        conn.expect_request();
        match number {
            0 => conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"),
            1 => conn.send("garbage\r\n\r\n"),
            2 => conn.respond("200 OK", &[("Connection", "close")], b"x"),
            3 => conn.reset(),
            4 => conn.send("HTTP/1.1 200 OK\r\n\r\nuntil close"),
            _ => {
                conn.respond("200 OK", &[], b"x");
                // Idle, and then closed by this side.
                conn.wait(&held);
            }
        }
    });
    let proxy = Proxy::in_front_of(&origin);
    for _ in 0..6 {
        let mut client = proxy.client();
        client.send(request_bytes("GET", "/products/x", &[]));
        let _ = client.try_response("GET");
    }
    assert_eq!(origin.accepted(), 6);
    assert_eq!(proxy.metric_count("yatagarasu_upstream_connections"), 1);
    gate.open();
    wait_until("no upstream connection to be counted", || {
        proxy.metric_count("yatagarasu_upstream_connections") == 0
    });
    // The one that asks.
    wait_until("no client connection but one", || {
        proxy.metric_count("yatagarasu_connections") == 1
    });
}

#[test]
fn every_promised_series_is_there_and_nothing_of_the_client_in_it() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&three_buckets(&origin));
    of_every_kind(&proxy);
    let mut client = proxy.client();
    client.request("CLIENTWORD", "/products/x", &[]);
    client.get("/CLIENTWORD?CLIENTWORD");
    let response = client.request("GET", "/products/CLIENTWORD", &[("CLIENTWORD", "CLIENTWORD")]);
    assert_eq!(response.status, 200);
    // Each name with the beginning of its labels, as the page writes them.
    for series in [
        "config_reload_success_total ",
        "config_reload_failure_total ",
        "config_generation ",
        "config_last_reload_successful ",
        "config_last_reload_timestamp_seconds ",
        "config_restart_required ",
        "config_worker_generation{worker=\"0\"} ",
        "yatagarasu_http_requests_total{bucket=\"products\",method=\"GET\",status=\"200\"} ",
        "yatagarasu_http_requests_total{bucket=\"-\",method=\"OTHER\",status=\"400\"} ",
        "yatagarasu_http_request_duration_seconds_bucket{bucket=\"products\",le=\"+Inf\"} ",
        "yatagarasu_http_request_duration_seconds_sum{bucket=\"products\"} ",
        "yatagarasu_http_request_duration_seconds_count{bucket=\"products\"} ",
        "yatagarasu_http_response_bytes_total{bucket=\"products\"} ",
        "yatagarasu_connections{state=\"active\"} ",
        "yatagarasu_connections{state=\"idle\"} ",
        "yatagarasu_connections_rejected_total{reason=\"limit\"} ",
        "yatagarasu_auth_failures_total{reason=\"missing\"} ",
        "yatagarasu_upstream_requests_total{bucket=\"products\",status=\"200\"} ",
        "yatagarasu_upstream_connections{bucket=\"products\",state=\"idle\"} ",
        "yatagarasu_upstream_connects_total ",
        "yatagarasu_upstream_errors_total{bucket=\"down\",reason=\"",
        "yatagarasu_upstream_first_byte_seconds_count{bucket=\"products\"} ",
        "yatagarasu_access_log_dropped_total ",
        "yatagarasu_auth_enforced ",
        "process_cpu_seconds_total ",
        "process_resident_memory_bytes ",
        "process_open_fds ",
        "yatagarasu_build_info{version=\"",
    ] {
        let there = || proxy.metrics().lines().any(|line| line.starts_with(series));
        wait_until(series, there);
    }
    assert!(!proxy.metrics().contains("CLIENTWORD"), "{}", proxy.metrics());
}

#[test]
fn the_metrics_page_is_switched_off_and_on() {
    let origin = ScriptedOrigin::serving("x");
    let config = Config::products(origin.url()).with_jwt(&[]);
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
    let config =
        Config::products(origin.url()).with_jwt(&[]).bucket("other", origin.url()).with_jwt(&[]);
    let proxy = Proxy::start(&config);
    let bytes = |bucket: &str| {
        proxy.metric(&format!("yatagarasu_http_response_bytes_total{{bucket=\"{bucket}\"}}"))
    };
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
fn a_thousand_buckets_have_series_of_their_own_and_one_more_has_them_together() {
    let origin = ScriptedOrigin::serving("four");
    let with = |buckets: usize| {
        let add = |config: Config, number| config.bucket(&format!("bucket-{number}"), origin.url());
        (0..buckets).fold(Config::new(), add).with_jwt(&[])
    };
    let proxy = Proxy::start(&with(1_000));
    for buckets in [1_000, 1_001, 1_000] {
        if proxy.metric("config_generation") > Some(1.0) || buckets > 1_000 {
            adopt(&proxy, &with(buckets));
        }
        for name in ["bucket-0", "bucket-999"] {
            assert_eq!(proxy.get(&format!("/{name}/x")).status, 200);
        }
        let apart = buckets == 1_000;
        wait_until("the series", || {
            let page = proxy.metrics();
            let has = |bucket: &str| {
                page.contains(&format!(
                    "yatagarasu_http_response_bytes_total{{bucket=\"{bucket}\"}}"
                ))
            };
            has("bucket-0") == apart && has("bucket-999") == apart && has("_all") != apart
        });
    }
}

#[test]
fn many_who_ask_for_the_page_at_once_all_get_it() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&Config::products(origin.url()).set("server.threads", 1));
    let mut clients: Vec<_> = (0..100).map(|_| proxy.client()).collect();
    // All requests are there when the process goes on.
    proxy.signal("STOP");
    wait_until("the process to stop", || state_of(proxy.pid()) == 'T');
    for client in &mut clients {
        client.send(request_bytes("GET", "/metrics", &[]));
    }
    proxy.signal("CONT");
    for client in &mut clients {
        let response = client.response("GET");
        assert!(response.text().contains("yatagarasu_build_info"), "{response:?}");
    }
}

#[test]
fn a_client_that_takes_nothing_of_the_page_keeps_it_from_nobody() {
    /// More than a core has pages under way.
    const STREAMS: u32 = 100;

    let origin = ScriptedOrigin::serving("x");
    let config =
        Config::products(origin.url()).set("server.threads", 1).set("server.http2.cleartext", true);
    let proxy = Proxy::start(&config);
    let mut client = RawHttp2::with_settings(proxy.address(), &[(INITIAL_WINDOW, 0)]);
    for stream in (0..STREAMS).map(|number| 2 * number + 1) {
        client.send(request(stream, "/metrics"));
        assert_eq!(client.expect(HEADERS, stream).status(), Some(200), "stream {stream}");
    }
    assert!(proxy.metrics().contains("\nyatagarasu_build_info{"));
    // Nothing was taken away from one that may still want it.
    let last = 2 * STREAMS - 1;
    client.send(window_update(0, 1_000_000_000));
    client.send(window_update(last, 1_000_000_000));
    let (_, page) = client.response(last);
    assert!(String::from_utf8(page).unwrap().contains("\nyatagarasu_build_info{"));
}

#[test]
fn pages_that_nobody_takes_hold_bounded_memory() {
    /// More than a core has pages under way.
    const CLIENTS: usize = 40;
    /// Pages that a core has under way (`PAGES_MAX` in `metrics_pages.rs`), and those that are
    /// being rendered.
    const PAGES: usize = 16 + 2;
    /// For the connections.
    const OTHERS_KIB: usize = 16_384;

    let origin = ScriptedOrigin::serving("x");
    let config = (0..1_000).fold(Config::new(), |config, number| {
        config.bucket(&format!("bucket-{number}"), origin.url())
    });
    let proxy = Proxy::start(&config.set("server.threads", 1));
    let mut client = proxy.client();
    for number in 0..1_000 {
        assert_eq!(client.get(&format!("/bucket-{number}/x")).status, 200);
    }
    let page_kib = proxy.metrics().len() / 1_024;
    let before = proxy.rss_kib();
    let mut clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = Client::connect_with_receive_buffer(proxy.address(), 4_096);
            client.send(request_bytes("GET", "/metrics", &[]));
            let head = client.head("GET").unwrap();
            assert_eq!(head.status, 200, "{head:?}");
            (client, head)
        })
        .collect();
    let kib = usize::try_from(proxy.rss_kib().saturating_sub(before)).unwrap();
    let most = PAGES * page_kib + OTHERS_KIB;
    assert!(kib <= most && most < CLIENTS * page_kib, "{kib} KiB for pages of {page_kib} KiB");
    // Those who take their time get all of it.
    let (mut client, head) = clients.pop().unwrap();
    let page = client.rest_of(&head);
    assert_eq!(head.header("content-length"), Some(page.len().to_string().as_str()));
}
