//! Memory of TLS connections, idle and slow.

use std::time::Duration;

use crate::support::{
    config::Config,
    load,
    raw_client::{Client, request_bytes},
    scripted_origin::ScriptedOrigin,
    site::{Site, Visitor},
    tls_front::TlsFront,
    waiting::wait_until,
};

/// Resident memory of an idle connection, in KiB, at most.
const IDLE_KIB_MAX: u64 = 9;

/// Resident memory of a stream whose client is slow, in KiB, at most: 256 of them and all the rest
/// stay under 100 MiB.
const SLOW_KIB_MAX: u64 = 320;

/// Each of them fills some megabytes of the kernel's buffers first.
const SLOW_STREAMS: usize = 64;

/// Receive buffer of a slow client, in bytes. In less the kernel has no room for a segment, drops
/// it, and waits ever longer before it is sent again.
const RECEIVE_BYTES: usize = 65_536;

/// Length of an object whose client is slow, in bytes.
const OBJECT_BYTES: usize = 100 * 1_024 * 1_024;

#[test]
fn idle_connections_hold_little_memory() {
    const CONNECTIONS: usize = 1_000;
    const FIRST: usize = 10;
    assert!(load::raise_open_files() > CONNECTIONS + 200, "open files");
    let origin = ScriptedOrigin::serving([b'x'; 1_024]);
    let site = Site::new();
    let proxy = site.start(&Config::products(origin.url()).with_tls());
    // What a first connection needs is not counted.
    let visitor = site.visitor();
    let first: Vec<_> = (0..FIRST).map(|_| used(&visitor, &proxy)).collect();
    let before = proxy.rss_kib();
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| used(&visitor, &proxy)).collect();
    let idle = format!("yatagarasu_connections{{state=\"idle\"}} {}\n", CONNECTIONS + FIRST);
    wait_until("all to be idle", || proxy.metrics().contains(&idle));
    let held = proxy.rss_kib() - before;
    assert!(held <= IDLE_KIB_MAX * CONNECTIONS as u64, "{held} KiB");
    drop((first, clients));
}

#[track_caller]
fn used(visitor: &Visitor, proxy: &crate::support::proxy::Proxy) -> Client {
    let mut client = visitor.connect(proxy);
    assert_eq!(client.get("/products/x").body.len(), 1_024);
    client
}

/// Sends any number of zeros after a head with their count.
fn zeros() -> ScriptedOrigin {
    ScriptedOrigin::start(move |conn, _| {
        let block = vec![0; 256 * 1_024];
        while conn.request().is_some() {
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {OBJECT_BYTES}\r\n\r\n"));
            let mut left = OBJECT_BYTES;
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

/// Many clients that take a little now and then of large objects.
fn slow_streams(secure_origin: bool) {
    assert!(load::raise_open_files() > 3 * SLOW_STREAMS + 200, "open files");
    let origin = zeros();
    let front = TlsFront::start(origin.address());
    let site = Site::new();
    let launch = site.launch();
    launch.write("ca.pem", front.ca_pem());
    let config = if secure_origin {
        Config::products(front.url()).set("buckets.0.s3.ca_file", "ca.pem")
    } else {
        Config::products(origin.url())
    };
    let config = config.with_tls().set("server.timeouts.client_write", 600);
    let proxy = launch.config(&config).start();
    let visitor = site.visitor();
    assert_eq!(visitor.get(&proxy, "/health").status, 200);
    let before = proxy.rss_kib();
    let mut clients: Vec<_> = (0..SLOW_STREAMS)
        .map(|_| {
            let tcp = Client::connect_with_receive_buffer(proxy.tls_address(), RECEIVE_BYTES);
            let mut client = visitor.over(tcp).unwrap();
            client.send(request_bytes("GET", "/products/x", &[]));
            client.head("GET").unwrap();
            client
        })
        .collect();
    let mut most = 0;
    for _ in 0..5 {
        for client in &mut clients {
            client.read_exactly(16 * 1_024);
        }
        std::thread::sleep(Duration::from_millis(20));
        most = most.max(proxy.rss_kib());
    }
    let held = most - before;
    assert!(held <= SLOW_KIB_MAX * SLOW_STREAMS as u64, "{held} KiB");
}

#[test]
fn slow_streams_of_a_plain_origin_hold_bounded_memory() {
    slow_streams(false);
}

#[test]
fn slow_streams_of_a_tls_origin_hold_bounded_memory() {
    slow_streams(true);
}
