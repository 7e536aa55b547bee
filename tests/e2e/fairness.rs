//! One client, however busy, leaves its core's others their turn, over either event loop.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use crate::support::{
    config::Config,
    gate::Gate,
    proxy::{Launch, Proxy},
    raw_client::request_bytes,
    s3_server::S3Server,
    scripted_origin::ScriptedOrigin,
    tls_front::TlsFront,
    waiting::wait_until,
};

/// Values of `server.io` with which a worker must be fair.
const KERNEL_INTERFACES: [&str; 2] = ["auto", "epoll"];

/// Answers of others while one client keeps its core busy.
const OTHERS: usize = 20;

/// Reads, and throws away, until the connection ends.
fn discard(mut stream: TcpStream) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1_048_576];
        while stream.read(&mut buffer).is_ok_and(|length| length > 0) {}
    })
}

/// Others are answered, and orders of the control thread arrive, while `busy` holds.
fn assert_fair(proxy: &Proxy, io: &str) {
    for _ in 0..OTHERS {
        assert_eq!(proxy.get("/health").status, 200, "{io}");
        assert_eq!(proxy.client().get("/metrics").status, 200, "{io}");
    }
}

/// An origin that sends chunks without end.
fn endless() -> ScriptedOrigin {
    ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let mut chunks = Vec::new();
        for _ in 0..16 {
            chunks.extend_from_slice(b"10000\r\n");
            chunks.extend_from_slice(&vec![b'x'; 65_536]);
            chunks.extend_from_slice(b"\r\n");
        }
        while conn.try_send(&chunks) {}
    })
}

#[test]
fn a_request_that_waits_does_not_hold_others_up() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if request.target.ends_with("slow") {
                conn.wait(&held);
            }
            conn.respond("200 OK", &[], b"x");
        }
    });
    let proxy = Proxy::start(&Config::products(origin.url()));
    let mut slow: Vec<_> = (0..50).map(|_| proxy.client()).collect();
    for client in &mut slow {
        client.send(request_bytes("GET", "/products/slow", &[]));
    }
    wait_until("all slow requests", || origin.requests().len() == 50);
    for _ in 0..50 {
        assert_eq!(proxy.get("/products/quick").status, 200);
    }
    gate.open();
    for client in &mut slow {
        assert_eq!(client.response("GET").status, 200);
    }
}

#[test]
fn a_client_that_never_stops_asking_does_not_starve_others() {
    let origin = ScriptedOrigin::serving("x");
    for io in KERNEL_INTERFACES {
        let proxy = Proxy::start(&Config::products(origin.url()).set("server.io", io));
        let client = proxy.client();
        let mut asking = client.sending_half();
        let reading = discard(client.sending_half());
        let writing = std::thread::spawn(move || {
            let many = request_bytes("GET", "/health", &[]).repeat(1_000);
            while asking.write_all(&many).is_ok() {}
        });
        assert_fair(&proxy, io);
        client.reset();
        drop(proxy);
        writing.join().unwrap();
        reading.join().unwrap();
    }
}

/// Others are served while a client reads an object as fast as it comes.
fn assert_fair_beside_a_download(proxy: Proxy, io: &str) {
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/x", &[]));
    client.head("GET").unwrap();
    let reading = discard(client.sending_half());
    assert_fair(&proxy, io);
    drop(proxy);
    reading.join().unwrap();
}

#[test]
fn a_fast_download_does_not_starve_others() {
    for io in KERNEL_INTERFACES {
        let origin = endless();
        let proxy = Proxy::start(&Config::products(origin.url()).set("server.io", io));
        assert_fair_beside_a_download(proxy, io);
    }
}

#[test]
fn a_fast_spliced_download_does_not_starve_others() {
    for io in KERNEL_INTERFACES {
        let origin = ScriptedOrigin::start(|conn, _| {
            conn.expect_request();
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000000000\r\n\r\n");
            let block = vec![b'x'; 1_048_576];
            while conn.try_send(&block) {}
        });
        let proxy = Proxy::start(&Config::products(origin.url()).set("server.io", io));
        assert_fair_beside_a_download(proxy, io);
    }
}

#[test]
fn a_fast_download_over_tls_does_not_starve_others() {
    for io in KERNEL_INTERFACES {
        let origin = endless();
        let front = TlsFront::start(origin.address());
        let proxy = Proxy::behind_tls(&front, |config| config.set("server.io", io));
        assert_fair_beside_a_download(proxy, io);
    }
}

#[test]
fn both_kernel_interfaces_serve_reload_and_stop() {
    let s3 = S3Server::with_test_keys();
    let large = vec![b'x'; 3 * 1_048_576];
    s3.put("products", "small", "small");
    s3.put("products", "large", &large);
    for io in ["io_uring", "epoll"] {
        let config = Config::products(s3.url()).set("server.threads", 2).set("server.io", io);
        // The usual choice of sends, whatever that of the tests is.
        let mut proxy = Launch::new().config(&config).environment("YATAGARASU_SENDS", "").start();
        let running = proxy.stderr().event("worker running").expect("a running worker");
        assert!(running["io"].as_str().unwrap().starts_with(io), "{running}");
        let mut client = proxy.client();
        for _ in 0..5 {
            assert_eq!(client.get("/products/small").text(), "small");
            assert!(client.get("/products/large").body == large);
            assert_eq!(client.request("HEAD", "/products/large", &[]).status, 200);
            assert_eq!(client.get("/products/missing").status, 404);
        }
        proxy.write_config(&config.clone().set("server.expose_generation", true));
        proxy.signal("HUP");
        wait_until("the reload", || {
            client.get("/products/small").header("x-config-generation") == Some("2")
        });
        proxy.signal("TERM");
        assert_eq!(proxy.wait_exit().code(), Some(0), "{io}");
    }
}
