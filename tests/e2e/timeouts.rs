//! Slow and stalling peers in every phase: each is given up in its time, and others do not notice.

use std::{
    io::Write as _,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::support::{
    config::Config,
    proxy::{Proxy, signal},
    raw_client::{Client, End, request_bytes},
    scripted_origin::{FullQueue, ScriptedOrigin, response_bytes},
    waiting::wait_until,
};

#[test]
fn a_connect_that_hangs_is_504() {
    let full = FullQueue::start();
    let config = Config::products(full.url()).set("buckets.0.s3.timeouts.connect", 0.3);
    let proxy = Proxy::start(&config);
    proxy.get("/products/x").assert_fault(504, "upstream_timeout");
}

#[test]
fn a_late_first_byte_is_504_and_frees_the_upstream() {
    let origin = ScriptedOrigin::start(|conn, number| {
        conn.expect_request();
        if number > 0 {
            return conn.respond("200 OK", &[], b"next");
        }
        conn.wait_closed();
    });
    let config = Config::products(origin.url()).set("buckets.0.s3.timeouts.first_byte", 0.3);
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    client.get("/products/x").assert_fault(504, "upstream_timeout");
    origin.wait_open(0);
    assert_eq!(client.get("/products/x").text(), "next", "the client's connection goes on");
}

#[test]
fn a_body_that_stalls_is_cut_short() {
    for framing in
        ["Content-Length: 100\r\n\r\npart", "Transfer-Encoding: chunked\r\n\r\n4\r\npart"]
    {
        let origin = ScriptedOrigin::start(move |conn, _| {
            conn.expect_request();
            conn.send(format!("HTTP/1.1 200 OK\r\n{framing}"));
            conn.wait_closed();
        });
        let config = Config::products(origin.url()).set("buckets.0.s3.timeouts.read", 0.3);
        let proxy = Proxy::start(&config);
        let mut client = proxy.client();
        client.send(request_bytes("GET", "/products/x", &[]));
        client.try_response("GET").expect_err("a stalled body must not look whole");
        origin.wait_open(0);
    }
}

#[test]
fn a_client_that_does_not_read_is_given_up() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        while conn.try_send([0; 16_384]) {}
    });
    let config = Config::products(origin.url()).set("server.timeouts.client_write", 0.5);
    let proxy = Proxy::start(&config);
    let mut client = Client::connect_with_receive_buffer(proxy.address(), 4_096);
    client.send(request_bytes("GET", "/products/x", &[]));
    origin.wait_open_after_first(0);
    drop(client);
}

#[test]
fn half_a_head_is_408_when_its_time_is_over() {
    let origin = ScriptedOrigin::echo();
    let config = Config::products(origin.url()).set("server.timeouts.client_header", 1.0);
    let proxy = Proxy::start(&config);
    for half in
        ["GET", "GET /products/x HTTP/1.1\r\nHost: a\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r"]
    {
        let mut client = proxy.client();
        client.send(half);
        client.response("GET").assert_fault(408, "head_timeout");
        client.expect_end();
    }
    // The deadline is for the whole head: drops of bytes do not move it.
    let mut dripping = proxy.client();
    dripping.send("GET /products/x HTTP/1.1\r\nHost: a\r\n");
    let mut writer = dripping.sending_half();
    let drip = std::thread::spawn(move || {
        while std::io::Write::write_all(&mut writer, b"X-A: b\r\n").is_ok() {
            std::thread::park_timeout(std::time::Duration::from_millis(50));
        }
    });
    dripping.response("GET").assert_fault(408, "head_timeout");
    drop(dripping);
    drip.join().unwrap();
}

#[test]
fn a_silent_connection_is_closed_silently() {
    let origin = ScriptedOrigin::echo();
    let config = Config::products(origin.url()).set("server.timeouts.client_header", 1.0);
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    client.expect_end();
}

#[test]
fn an_idle_kept_alive_connection_is_closed_silently() {
    let origin = ScriptedOrigin::echo();
    let config = Config::products(origin.url()).set("server.timeouts.client_idle", 0.3);
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    assert_eq!(client.get("/products/x").status, 200);
    assert_eq!(client.expect_end(), End::Fin);
}

#[test]
fn slow_heads_slow_bodies_and_slow_readers_leave_the_service_up_for_others() {
    let origin = ScriptedOrigin::start(|conn, _| {
        while let Some(request) = conn.request() {
            if request.target.ends_with("large") {
                conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
                if !conn.try_send(vec![b'x'; 100_000_000]) {
                    return;
                }
            } else {
                conn.respond("200 OK", &[], b"x");
            }
        }
    });
    let config = Config::products(origin.url())
        .set("server.timeouts.client_header", 1)
        .set("server.timeouts.client_write", 1);
    let proxy = Proxy::start(&config);
    let mut slow = Vec::new();
    for number in 0..90 {
        let mut client = Client::connect_with_receive_buffer(proxy.address(), 4_096);
        client.send(match number % 3 {
            0 => b"GET /products/x HTTP/1.1\r\nHost: a\r\nX-".to_vec(),
            1 => request_bytes("POST", "/products/x", &[("Content-Length", "100")]),
            _ => request_bytes("GET", "/products/large", &[]),
        });
        slow.push(client);
    }
    for _ in 0..20 {
        assert_eq!(proxy.get("/products/x").status, 200);
    }
    // Then they are gone by themselves, and what was held for them is free.
    wait_until("all of them to be given up", || proxy.metric_count("yatagarasu_connections") == 1);
    wait_until("their upstream connections to end", || origin.open() <= 1);
    drop(slow);
}

#[test]
fn a_body_that_does_not_come_in_time_is_408() {
    let origin = ScriptedOrigin::serving("x");
    let config = Config::products(origin.url()).set("server.timeouts.client_header", 1.0);
    let proxy = Proxy::start(&config);
    for fields in [("Content-Length", "100"), ("Transfer-Encoding", "chunked")] {
        let mut client = proxy.client();
        client.send(request_bytes("GET", "/products/x", &[fields]));
        let mut writer = client.sending_half();
        let drip = std::thread::spawn(move || {
            // Bytes that keep coming do not move the deadline; the chunk's size never ends.
            while writer.write_all(b"0").is_ok() {
                std::thread::park_timeout(std::time::Duration::from_millis(50));
            }
        });
        let response = client.response("GET");
        response.assert_fault(408, "head_timeout");
        assert!(response.says_close());
        drop(client);
        drip.join().unwrap();
    }
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn a_large_body_that_stalls_is_cut_short() {
    for sent in ["", "part"] {
        let origin = ScriptedOrigin::start(move |conn, _| {
            conn.expect_request();
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n{sent}"));
            conn.wait_closed();
        });
        let config = Config::products(origin.url()).set("buckets.0.s3.timeouts.read", 0.3);
        let proxy = Proxy::start(&config);
        let mut client = proxy.client();
        client.send(request_bytes("GET", "/products/x", &[]));
        let cut = client.try_response("GET").expect_err("a stalled body must not look whole");
        assert_eq!(cut.response.unwrap().body, sent.as_bytes());
        origin.wait_open(0);
        let series =
            "yatagarasu_upstream_errors_total{bucket=\"products\",reason=\"read_timeout\"}";
        assert!(proxy.metrics().contains(&format!("{series} 1\n")), "{}", proxy.metrics());
    }
}

#[test]
fn a_client_that_does_not_read_chunks_is_given_up() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = [b"4000\r\n".as_slice(), &[0; 16_384], b"\r\n"].concat();
        while conn.try_send(&chunk) {}
    });
    let config = Config::products(origin.url()).set("server.timeouts.client_write", 0.5);
    let proxy = Proxy::start(&config);
    let mut client = Client::connect_with_receive_buffer(proxy.address(), 4_096);
    client.send(request_bytes("GET", "/products/x", &[]));
    origin.wait_open_after_first(0);
    wait_until("the record", || proxy.stdout().records().len() == 1);
    assert_eq!(proxy.stdout().records()[0]["aborted"], true);
    drop(client);
}

#[test]
fn a_head_that_drips_from_s3_is_504() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.send("HTTP/1.1 200 OK\r\nX-Drip: ");
        while conn.try_send("x") {
            std::thread::park_timeout(std::time::Duration::from_millis(20));
        }
    });
    let config = Config::products(origin.url()).set("buckets.0.s3.timeouts.read", 0.5);
    let proxy = Proxy::start(&config);
    proxy.get("/products/x").assert_fault(504, "upstream_timeout");
    origin.wait_open(0);
    assert_eq!(proxy.metric(&timeouts_of("head_timeout")), Some(1.0));
}

/// The series of one reason.
fn timeouts_of(reason: &str) -> String {
    format!("yatagarasu_upstream_errors_total{{bucket=\"products\",reason=\"{reason}\"}}")
}

#[test]
fn interim_responses_do_not_prolong_the_time_of_the_first_byte() {
    for interim in ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n"] {
        let origin = ScriptedOrigin::start(move |conn, _| {
            conn.expect_request();
            conn.send(interim);
            conn.wait_closed();
        });
        let config = Config::products(origin.url())
            .set("buckets.0.s3.timeouts.first_byte", 0.5)
            .set("buckets.0.s3.timeouts.read", 600);
        let proxy = Proxy::start(&config);
        proxy.get("/products/x").assert_fault(504, "upstream_timeout");
        origin.wait_open(0);
        assert_eq!(proxy.metric(&timeouts_of("first_byte_timeout")), Some(1.0));
    }
}

#[test]
fn an_interim_response_does_not_shorten_the_time_of_the_first_byte() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.send("HTTP/1.1 103 Early Hints\r\n\r\n");
        // Longer than a read may take.
        std::thread::sleep(std::time::Duration::from_secs(1));
        conn.respond("200 OK", &[], b"late");
    });
    let config = Config::products(origin.url())
        .set("buckets.0.s3.timeouts.first_byte", 600)
        .set("buckets.0.s3.timeouts.read", 0.3);
    let proxy = Proxy::start(&config);
    assert_eq!(proxy.get("/products/x").text(), "late");
}

#[test]
fn a_client_that_takes_little_but_steadily_is_not_given_up() {
    const LENGTH: usize = 8 * 1_048_576;
    let spliced = response_bytes("200 OK", &[], &vec![b'x'; LENGTH]);
    let mut copied = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    copied.extend(format!("{LENGTH:x}\r\n{}\r\n0\r\n\r\n", "x".repeat(LENGTH)).into_bytes());
    for response in [spliced, copied] {
        let origin = ScriptedOrigin::always(response);
        let config = Config::products(origin.url()).set("server.timeouts.client_write", 1.0);
        let proxy = Proxy::start(&config);
        let mut client = Client::connect_with_receive_buffer(proxy.address(), 65_536);
        client.send(request_bytes("GET", "/products/x", &[]));
        let framing = client.head("GET").unwrap().framing;
        // Slower than the third of a send buffer in each of those seconds, for which the
        // kernel waits before it calls the socket writable; and then as fast as can be.
        let (mut pieces, mut length) = (0, 0);
        let end = client.body(framing, &mut |bytes| {
            (pieces, length) = (pieces + 1, length + bytes.len());
            if pieces < 100 {
                std::thread::park_timeout(std::time::Duration::from_millis(60));
            }
        });
        assert!(end.is_ok(), "{end:?} after {length} bytes in {pieces} pieces");
        assert_eq!(length, LENGTH);
    }
}

#[test]
fn a_client_that_still_sends_gets_its_408_in_order() {
    let origin = ScriptedOrigin::serving("x");
    let config = Config::products(origin.url()).set("server.timeouts.client_header", 0.3);
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    client.send("GET /products/x HTTP/1.1\r\n");
    client.response("GET").assert_fault(408, "head_timeout");
    // What is still on its way must not be met with a reset, which could overtake the response.
    for _ in 0..50 {
        client.send("X-Slow: 1\r\n");
    }
    client.finish_sending();
    assert_eq!(client.expect_end(), End::Fin);
}

/// A process that is stopped and continued again and again, as by a debugger or a container's
/// freezer, which interrupts its system calls in the middle.
#[test]
fn a_large_download_survives_a_process_that_is_stopped_and_continued() {
    const LENGTH: usize = 256 * 1_048_576;
    let origin = ScriptedOrigin::start(|conn, _| {
        let block = vec![b'x'; 1_048_576];
        while conn.request().is_some() {
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
            for _ in 0..LENGTH / block.len() {
                if !conn.try_send(&block) {
                    return;
                }
            }
        }
    });
    // Shorter than a test waits, so that a download that stalls is seen to be cut.
    let config = Config::products(origin.url()).set("server.timeouts.client_write", 5);
    let proxy = Proxy::start(&config);
    let over = AtomicBool::new(false);
    let pid = proxy.pid();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::SeqCst) {
                for name in ["STOP", "CONT"] {
                    signal(pid, name);
                }
            }
        });
        let mut client = proxy.client();
        client.send(request_bytes("GET", "/products/large", &[]));
        let head = client.head("GET").unwrap();
        let mut received = 0;
        let ended = client.body(head.framing, &mut |bytes| received += bytes.len());
        over.store(true, Ordering::SeqCst);
        assert_eq!((ended, received), (Ok(()), LENGTH));
    });
}
