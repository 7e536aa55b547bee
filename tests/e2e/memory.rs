//! Bounds: memory does not grow with the size of an object or the slowness of a client, and
//! nothing is left when many connections have come and gone.

use serde_json::json;

use crate::support::{
    config::Config,
    load::{self, FastOrigin},
    proxy::Proxy,
    raw_client::{Client, Framing, request_bytes},
    reload::{adopt, touched},
    scripted_origin::{ScriptedOrigin, refused_address},
    tls_front::TlsFront,
    token::{JWT_SECRET, bearer, mint, unix_now},
    waiting::wait_until,
};

const MIB: usize = 1024 * 1024;

/// How much resident memory may grow over a download, in KiB.
const GROWTH_KIB_MAX: u64 = 8 * 1024;

/// Sends any number of zeros after a head with their count.
fn zeros(length: usize) -> ScriptedOrigin {
    ScriptedOrigin::start(move |conn, _| {
        let block = vec![0; 256 * 1024];
        while conn.request().is_some() {
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n"));
            let mut left = length;
            while left > 0 {
                let part = left.min(block.len());
                if !conn.try_send(&block[..part]) {
                    return;
                }
                left -= part;
            }
        }
    })
}

#[test]
fn a_gibibyte_passes_without_being_held() {
    const LENGTH: usize = 1024 * MIB;
    let origin = zeros(LENGTH);
    let proxy = Proxy::start(&Config::products(origin.url()));
    assert_eq!(proxy.get("/health").status, 200);
    let before = proxy.rss_kib();
    let mut peak = before;
    for _ in 0..2 {
        let mut client = proxy.client();
        client.send(request_bytes("GET", "/products/x", &[]));
        let head = client.head("GET").unwrap();
        assert_eq!(head.framing, Framing::Length(LENGTH as u64));
        let (mut length, mut looked) = (0, 0);
        client
            .body(head.framing, &mut |bytes| {
                length += bytes.len();
                if length - looked > 64 * MIB {
                    looked = length;
                    peak = peak.max(proxy.rss_kib());
                }
            })
            .unwrap();
        assert_eq!(length, LENGTH);
    }
    peak = peak.max(proxy.rss_kib());
    assert!(peak - before <= GROWTH_KIB_MAX, "from {before} to {peak} KiB");
}

#[test]
fn a_slow_client_slows_s3_instead_of_filling_memory() {
    const LENGTH: usize = 256 * MIB;
    let origin = zeros(LENGTH);
    let proxy = Proxy::start(&Config::products(origin.url()));
    let before = proxy.rss_kib();
    let mut clients: Vec<_> =
        (0..10).map(|_| Client::connect_with_receive_buffer(proxy.address(), 4_096)).collect();
    for client in &mut clients {
        client.send(request_bytes("GET", "/products/x", &[]));
        client.head("GET").unwrap();
    }
    // Each takes a little now and then; together they could have been sent 2.5 GiB.
    for _ in 0..20 {
        for client in &mut clients {
            client.read_exactly(16 * 1024);
        }
    }
    let after = proxy.rss_kib();
    assert!(after.saturating_sub(before) <= GROWTH_KIB_MAX, "from {before} to {after} KiB");
    assert_eq!(proxy.get("/health").status, 200);
    drop(clients);
    origin.wait_open(0);
}

#[test]
fn two_thousand_connections_come_and_go() {
    const CONNECTIONS: usize = 2_000;
    const REQUESTS: usize = 100;
    // This process holds both ends of the load: clients, and upstream connections of the proxy.
    let possible = load::raise_open_files().saturating_sub(500) / 2;
    let connections = CONNECTIONS.min(possible);
    let origin = FastOrigin::start(&[b'x'; 1_024]);
    let proxy = Proxy::start(&Config::products(origin.url()).set("server.threads", 2));
    assert_eq!(proxy.get("/products/x").status, 200);
    let (fds, threads) = (proxy.open_fds(), proxy.threads());

    let load = load::keep_alive(proxy.address(), "/products/x", connections, REQUESTS, 1_024);
    assert!(
        load.errors.is_empty(),
        "{} errors, first {:?}",
        load.errors.len(),
        load.errors.first()
    );
    assert_eq!(load.good, connections * REQUESTS);

    // The pool may keep its idle connections: two workers, at most 64 each.
    wait_until("client connections to be closed", || proxy.open_fds() <= fds + 2 * 64);
    assert_eq!(proxy.threads(), threads);
    assert_eq!(proxy.get("/products/x").status, 200);
}

#[test]
fn aborted_downloads_leave_no_descriptor_behind() {
    let origin = zeros(1024 * MIB);
    let proxy = Proxy::start(&Config::products(origin.url()));
    assert_eq!(proxy.get("/health").status, 200);
    let mut expected = 0;
    let mut round = || {
        expected += 30;
        for number in 0..30 {
            let mut client = proxy.client();
            client.send(request_bytes("GET", "/products/x", &[]));
            client.read_exactly(2 * MIB);
            if number % 2 == 0 {
                client.reset();
            }
        }
        wait_until("upstream connections to end", || {
            origin.accepted() >= expected && origin.open() == 0
        });
    };
    round();
    let after_first = proxy.open_fds();
    round();
    round();
    // Pipes and buffers may stay pooled after the first round; they must not add up.
    wait_until("no more descriptors than before", || proxy.open_fds() <= after_first);
}

#[test]
fn many_requests_that_wait_for_s3_over_tls_hold_little_memory() {
    const WAITING: usize = 200;
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.wait_closed();
    });
    let front = TlsFront::start(origin.address());
    let proxy = Proxy::behind_tls(&front, |config| config);
    assert_eq!(proxy.get("/health").status, 200);
    let before = proxy.rss_kib();
    let mut clients: Vec<_> = (0..WAITING).map(|_| proxy.client()).collect();
    for client in &mut clients {
        client.send(request_bytes("GET", "/products/x", &[]));
    }
    wait_until("all requests", || origin.requests().len() == WAITING);
    let each = proxy.rss_kib().saturating_sub(before) / WAITING as u64;
    assert!(each <= 128, "{each} KiB for each request");
}

#[test]
fn a_slow_download_holds_no_verified_tokens_of_its_generation() {
    const GENERATIONS: usize = 16;
    const TOKENS: usize = 900;
    /// Verified tokens of one core take 8 MiB at most; those of two generations are there at once.
    const GROWTH_KIB_MAX: u64 = 32 * 1024;
    let origin = zeros(64 * MIB);
    let config = Config::products(origin.url())
        .bucket("guarded", format!("http://{}", refused_address()))
        .with_jwt(&["guarded"])
        .set("logging.access_log.enabled", false)
        .set("server.timeouts.client_write", 600);
    let proxy = Proxy::start(&config);
    let mut before = 0;
    let mut slow = Vec::new();
    for generation in 0..GENERATIONS {
        adopt(&proxy, &touched(&config, generation));
        let mut download = Client::connect_with_receive_buffer(proxy.address(), 4_096);
        download.send(request_bytes("GET", "/products/x", &[]));
        download.head("GET").unwrap();
        slow.push(download);
        let mut client = proxy.client();
        for number in 0..TOKENS {
            let filling = format!("{number}{}", "f".repeat(5_000));
            let claims = json!({ "exp": unix_now() + 3_600, "filling": filling });
            let token = bearer(&mint(JWT_SECRET, &claims));
            let response = client.request("GET", "/guarded/x", &[("Authorization", &token)]);
            assert_eq!(response.status, 502);
        }
        if generation == 1 {
            before = proxy.rss_kib();
        }
    }
    let after = proxy.rss_kib();
    assert!(after < before + GROWTH_KIB_MAX, "{before} KiB, then {after} KiB");
}
