//! Keys that apply without a restart, seen from outside.

use crate::support::{
    config::Config,
    proxy::{Proxy, field},
    raw_client::{Client, request_bytes},
    reload::adopt,
    scripted_origin::ScriptedOrigin,
    waiting::wait_until,
};

#[test]
fn limits_apply_to_the_next_request_of_an_open_connection() {
    let origin = ScriptedOrigin::serving("x");
    let config = Config::products(origin.url()).with_jwt(&[]);
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
    let config =
        Config::products(origin.url()).with_jwt(&[]).set("server.timeouts.client_idle", 3_600);
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
    let config = Config::products(origin.url()).with_jwt(&[]);
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
