//! Descriptors and connections at their limits.

use crate::support::{
    config::Config,
    proxy::{Launch, Proxy},
    raw_client::{Client, request_bytes},
    scripted_origin::ScriptedOrigin,
    waiting::wait_until,
};

/// The proxy under a hard limit on open files.
fn with_open_files(limit: usize, config: &Config) -> Proxy {
    let script = format!("ulimit -n {limit} && exec \"$0\" \"$@\"");
    let binary = option_env!("CARGO_BIN_EXE_yatagarasu").expect("an integration test");
    Launch::of("/bin/sh").arguments(&["-c", &script, binary]).config(config).start()
}

#[test]
fn exhausted_descriptors_pause_accepting_and_nothing_leaks() {
    for io in ["auto", "epoll"] {
        let origin = ScriptedOrigin::serving("x");
        let config = Config::products(origin.url()).set("server.io", io);
        let proxy = with_open_files(64, &config);
        let mut first = proxy.client();
        assert_eq!(first.get("/products/x").status, 200);
        let before = proxy.open_fds();
        let mut crowd: Vec<_> = (0..200).map(|_| proxy.client()).collect();
        wait_until("the limit to be reached", || proxy.open_fds() >= 62);
        // Each refusal is followed by a pause, so they are few; spinning makes millions.
        let exhausted = |client: &mut Client| {
            let page = client.get("/metrics").text().to_owned();
            let line = page
                .lines()
                .find_map(|line| {
                    line.strip_prefix("connections_rejected_total{reason=\"fd_exhausted\"} ")
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
        crowd.drain(..100);
        let last = crowd.last_mut().unwrap();
        crowd_get(last);
        crowd.clear();
        wait_until("descriptors to be given back", || proxy.open_fds() <= before);
        assert_eq!(proxy.get("/products/x").status, 200);
    }
}

fn crowd_get(client: &mut Client) {
    client.send(request_bytes("GET", "/health", &[]));
    // Its turn comes when the ones before it in the queue are gone.
    let _ = client.try_response("GET");
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
        proxy.metric("connections_rejected_total{reason=\"limit\"}") == Some(40.0)
    });
    drop(clients);
    wait_until("room again", || proxy.get("/products/x").status == 200);
    assert_eq!(proxy.metric_sum("upstream_errors_total"), 0.0);
}
