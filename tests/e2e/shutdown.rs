//! Stopping without losing anything.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use crate::support::{
    config::Config,
    gate::Gate,
    proxy::Proxy,
    raw_client::{Client, End, request_bytes},
    scripted_origin::ScriptedOrigin,
    token,
    waiting::{wait_refused, wait_until},
};

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

/// Connects, asks and reads on four connections at once until connecting is refused, with a stop
/// in the middle. How many got no response although they were connected.
fn cut_in_a_storm(origin: &ScriptedOrigin) -> usize {
    let config = Config::products(origin.url()).set("server.threads", 2);
    // For clients that do not get to run for a while.
    let mut proxy = Proxy::start(&config.set("server.timeouts.drain_idle", 20));
    let address = proxy.address();
    let (answered, cut) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while let Ok(mut stream) = TcpStream::connect(address) {
                    let mut response = Vec::new();
                    let request = request_bytes("GET", "/health", &[("Connection", "close")]);
                    let whole = stream.write_all(&request).is_ok()
                        && stream.read_to_end(&mut response).is_ok()
                        && response.starts_with(b"HTTP/1.1 200 ");
                    let count = if whole { &answered } else { &cut };
                    count.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        wait_until("the storm", || answered.load(Ordering::SeqCst) > 200);
        proxy.signal("TERM");
    });
    assert_eq!(proxy.wait_exit().code(), Some(0));
    cut.into_inner()
}

#[test]
fn an_idle_process_stops_with_0() {
    for signal in ["TERM", "INT"] {
        let mut proxy =
            Proxy::start(&Config::unreachable().set("server.threads", 2).with_admin_listener());
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
fn a_response_still_to_come_says_close_when_stopping() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        conn.expect_request();
        conn.wait(&held);
        conn.respond("200 OK", &[], b"response");
    });
    let mut proxy = Proxy::start(&Config::products(origin.url()));
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/x", &[]));
    wait_until("the request", || !origin.requests().is_empty());
    proxy.signal("TERM");
    wait_refused(proxy.address());
    gate.open();
    let response = client.response("GET");
    assert_eq!(response.text(), "response");
    assert!(response.says_close(), "{response:?}");
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
    assert_eq!(proxy.wait_exit().code(), Some(0));
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
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn accepting_ends_by_itself_when_its_delay_is_over() {
    const DELAY: Duration = Duration::from_millis(1_500);
    let origin = ScriptedOrigin::serving("still served");
    let config =
        Config::products(origin.url()).set("server.timeouts.drain_delay", DELAY.as_secs_f64());
    let mut proxy = Proxy::start(&config);
    let signalled = Instant::now();
    proxy.signal("TERM");
    // Until then new connections are served as before, however late this thread gets to run.
    while let Ok(mut client) = Client::try_connect(proxy.address()) {
        client.send_if_open(request_bytes("GET", "/products/x", &[]));
        match client.try_response("GET") {
            Ok(response) => assert_eq!(response.text(), "still served"),
            Err(cut) => panic!("{cut:?} after {:?}", signalled.elapsed()),
        }
    }
    assert!(signalled.elapsed() >= DELAY, "closed after {:?}", signalled.elapsed());
    assert_eq!(proxy.wait_exit().code(), Some(0));
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
    assert_eq!(client.rest_of(&head), b"first_last");
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

/// Sends `requests` for a large object ahead on one connection, stops the process while the first
/// response is on its way, and reads all of them slowly.
fn large_responses_across_a_stop(requests: usize) {
    const LENGTH: usize = 4 * 1024 * 1024;
    let origin = ScriptedOrigin::serving(vec![b'x'; LENGTH]);
    let mut proxy = Proxy::start(&Config::products(origin.url()));
    let mut client = Client::connect_with_receive_buffer(proxy.address(), 16_384);
    client.send(request_bytes("GET", "/products/x", &[]));
    let mut head = client.head("GET").unwrap();
    client.send(request_bytes("GET", "/products/x", &[]).repeat(requests - 1));
    proxy.signal("TERM");
    wait_refused(proxy.address());
    for _ in 1..requests {
        assert_eq!(client.rest_of(&head).len(), LENGTH);
        head = client.head("GET").unwrap();
        assert!(head.says_close(), "{head:?}");
    }
    assert_eq!(client.rest_of(&head).len(), LENGTH);
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn the_tail_of_a_large_response_survives_the_stop() {
    large_responses_across_a_stop(1);
}

#[test]
fn a_request_sent_ahead_does_not_cut_the_response_before_it_off_at_the_stop() {
    large_responses_across_a_stop(2);
}

#[test]
fn a_head_that_has_begun_is_finished_and_answered_when_stopping() {
    let origin = ScriptedOrigin::serving("response");
    let mut proxy = Proxy::start(&Config::products(origin.url()));
    let mut fresh = proxy.client();
    let mut used = proxy.client();
    assert_eq!(used.get("/products/x").status, 200);
    let request = request_bytes("GET", "/products/x", &[]);
    let (start, rest) = request.split_at(20);
    for client in [&mut fresh, &mut used] {
        client.send(start);
    }
    // Whatever was sent before this response has been taken in as well: the loop is one.
    assert_eq!(proxy.get("/health").status, 200);
    assert_eq!(proxy.get("/health").status, 200);
    proxy.signal("TERM");
    wait_refused(proxy.address());
    for client in [&mut fresh, &mut used] {
        client.send(rest);
        let response = client.response("GET");
        assert_eq!(response.text(), "response");
        assert!(response.says_close(), "{response:?}");
        client.expect_end();
    }
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn pipelined_requests_are_answered_up_to_the_one_that_says_close() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        while conn.request().is_some() {
            conn.wait(&held);
            conn.respond("200 OK", &[], b"response");
        }
    });
    let mut proxy = Proxy::start(&Config::products(origin.url()));
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/x", &[]).repeat(3));
    wait_until("the first request", || origin.requests().len() == 1);
    proxy.signal("TERM");
    wait_refused(proxy.address());
    gate.open();
    let response = client.response("GET");
    assert_eq!(response.text(), "response");
    assert!(response.says_close());
    let (rest, _) = client.read_to_end();
    assert!(rest.is_empty(), "nothing follows a response that says close");
    assert_eq!(origin.requests().len(), 1);
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn an_admin_request_in_progress_is_answered_when_stopping() {
    let origin = ScriptedOrigin::serving("x");
    let config = Config::products(origin.url()).with_jwt(&[]).with_admin_listener();
    let admin = token::bearer(&token::for_role("admin"));
    for _ in 0..10 {
        let mut proxy = Proxy::start(&config);
        let mut client = Client::connect(proxy.admin_address());
        assert_eq!(client.get("/health").status, 200);
        client.send(request_bytes(
            "POST",
            "/admin/reload",
            &[("Authorization", &admin), ("Content-Length", "0")],
        ));
        proxy.signal("TERM");
        let response = client.response("POST");
        assert!([200, 503].contains(&response.status), "{response:?}");
        assert_eq!(proxy.wait_exit().code(), Some(0));
    }
}

#[test]
fn a_connection_without_a_request_does_not_hold_up_the_stop() {
    let origin = ScriptedOrigin::serving("x");
    // Longer than these tests ever wait.
    let config = Config::products(origin.url())
        .set("server.timeouts.client_header", 60)
        .set("server.timeouts.drain", 300);
    for _ in 0..5 {
        let mut proxy = Proxy::start(&config);
        // Some are accepted before the listener closes, and some as it closes.
        let silent: Vec<_> = (0..300).map(|_| proxy.client()).collect();
        proxy.signal("TERM");
        assert_eq!(proxy.wait_exit().code(), Some(0));
        drop(silent);
    }
}

#[test]
fn connections_that_arrive_while_stopping_are_answered_or_refused() {
    let origin = ScriptedOrigin::serving("x");
    // A listener that closes as soon as its queue is empty cuts a connection in a thousand: between
    // the last look and the close is one system call.
    let cut: usize = (0..5).map(|_| cut_in_a_storm(&origin)).sum();
    assert_eq!(cut, 0);
}

#[test]
fn idle_connections_may_send_one_more_request_while_stopping() {
    let origin = ScriptedOrigin::serving("response");
    // Longer than these tests ever wait.
    let config = Config::products(origin.url()).set("server.timeouts.drain_idle", 60);
    let mut proxy = Proxy::start(&config);
    let mut used: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    for client in &mut used {
        assert_eq!(client.get("/products/x").text(), "response");
    }
    let unused: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    proxy.signal("TERM");
    wait_refused(proxy.address());
    for mut client in used.into_iter().chain(unused) {
        let response = client.get("/products/x");
        assert_eq!(response.text(), "response");
        assert!(response.says_close(), "{response:?}");
        assert_eq!(client.expect_end(), End::Fin);
    }
    // With the last of them the stop is complete.
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn an_idle_connection_is_closed_when_its_time_while_stopping_is_over() {
    let origin = ScriptedOrigin::serving("response");
    let config = Config::products(origin.url())
        .set("server.timeouts.drain_idle", 0.5)
        .set("server.timeouts.drain", 60);
    let mut proxy = Proxy::start(&config);
    let (mut used, mut unused) = (proxy.client(), proxy.client());
    assert_eq!(used.get("/products/x").status, 200);
    let stopped = Instant::now();
    proxy.signal("TERM");
    assert_eq!(used.expect_end(), End::Fin);
    assert_eq!(unused.expect_end(), End::Fin);
    assert!(stopped.elapsed() >= Duration::from_millis(500), "{:?}", stopped.elapsed());
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn a_head_that_starts_while_stopping_has_the_time_of_any_head() {
    let origin = ScriptedOrigin::serving("response");
    let config = Config::products(origin.url())
        .set("server.timeouts.drain_idle", 1.5)
        .set("server.timeouts.client_header", 60);
    let mut proxy = Proxy::start(&config);
    let (mut used, unused) = (proxy.client(), proxy.client());
    let mut idle = proxy.client();
    for client in [&mut used, &mut idle] {
        assert_eq!(client.get("/products/x").status, 200);
    }
    proxy.signal("TERM");
    let request = request_bytes("GET", "/products/x", &[]);
    let (start, rest) = request.split_at(20);
    let mut slow = [used, unused];
    for client in &mut slow {
        client.send(start);
    }
    // This one sends nothing: when it is closed, the time of idle connections is over.
    assert_eq!(idle.expect_end(), End::Fin);
    for client in &mut slow {
        client.send(rest);
        assert_eq!(client.response("GET").text(), "response");
    }
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

/// Sixteen clients that send one request after another on connections that are kept, with a stop in
/// the middle. How many requests were sent and not answered.
fn lost_under_load(origin: &ScriptedOrigin) -> usize {
    let config = Config::products(origin.url()).set("server.threads", 2);
    // For clients that do not get to run for a while.
    let mut proxy = Proxy::start(&config.set("server.timeouts.drain_idle", 20));
    let address = proxy.address();
    let (answered, lost) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let stopping = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..16_u64 {
            let (answered, lost, stopping) = (&answered, &lost, &stopping);
            scope.spawn(move || {
                let mut client = Client::connect(address);
                while !stopping.load(Ordering::SeqCst) || number % 2 == 0 {
                    client.send_if_open(request_bytes("GET", "/health", &[]));
                    match client.try_response("GET") {
                        Ok(response) if response.says_close() => {
                            answered.fetch_add(1, Ordering::SeqCst);
                            return;
                        }
                        Ok(_) => answered.fetch_add(1, Ordering::SeqCst),
                        Err(_) => {
                            lost.fetch_add(1, Ordering::SeqCst);
                            return;
                        }
                    };
                    // Most of the time a client thinks, and its connection is idle.
                    std::thread::sleep(Duration::from_millis(number));
                }
                // One that has just been idle as the stop came sends its last request now.
                client.send_if_open(request_bytes("GET", "/health", &[]));
                if client.try_response("GET").is_err() {
                    lost.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        wait_until("the load", || answered.load(Ordering::SeqCst) > 300);
        proxy.signal("TERM");
        stopping.store(true, Ordering::SeqCst);
    });
    assert_eq!(proxy.wait_exit().code(), Some(0));
    lost.into_inner()
}

#[test]
fn stopping_under_load_loses_no_request() {
    let origin = ScriptedOrigin::serving("x");
    let lost: Vec<_> = (0..3).map(|_| lost_under_load(&origin)).collect();
    assert_eq!(lost, [0, 0, 0]);
}

#[test]
fn requests_that_the_deadline_cuts_are_recorded_as_aborted() {
    let origin = ScriptedOrigin::start(|conn, number| {
        conn.expect_request();
        if number > 0 {
            conn.send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\npart");
        }
        conn.wait_closed();
    });
    let config = Config::products(origin.url()).set("server.timeouts.drain", 0.2);
    let mut proxy = Proxy::start(&config);
    let mut silent = proxy.client();
    silent.send(request_bytes("GET", "/products/silent", &[]));
    wait_until("the first request", || origin.requests().len() == 1);
    let mut begun = proxy.client();
    begun.send(request_bytes("GET", "/products/begun", &[]));
    begun.head("GET").unwrap();
    begun.read_exactly(4);
    proxy.signal("TERM");
    assert_eq!(proxy.wait_exit().code(), Some(0));
    let mut records = proxy.complete_stdout().records();
    records.sort_by_key(|record| record["path"].as_str().map(str::to_owned));
    let told: Vec<_> = records
        .iter()
        .map(|record| (&record["path"], &record["status"], &record["bytes"], &record["aborted"]))
        .collect();
    assert_eq!(
        told,
        [
            (&"/products/begun".into(), &200.into(), &4.into(), &true.into()),
            (&"/products/silent".into(), &0.into(), &0.into(), &true.into()),
        ]
    );
}

#[test]
fn half_a_head_does_not_hold_up_the_end() {
    let origin = ScriptedOrigin::serving("x");
    let mut proxy = Proxy::start(&Config::products(origin.url()).set("server.threads", 1));
    let mut client = proxy.client();
    assert_eq!(client.get("/products/x").status, 200);
    client.send("GET /products/x HTTP/1.1\r\nHos");
    // Whatever was sent before these responses has been taken in as well: the loop is one.
    assert_eq!(proxy.get("/health").status, 200);
    assert_eq!(proxy.get("/health").status, 200);
    proxy.signal("TERM");
    proxy.signal("INT");
    assert_eq!(proxy.wait_exit().code(), Some(0));
    let records = proxy.complete_stdout().records();
    let statuses: Vec<_> = records.iter().map(|record| record["status"].as_u64()).collect();
    assert_eq!(statuses, [Some(200); 3], "{records:?}");
    assert!(proxy.stderr().event("the last records of these workers are lost").is_none());
}

#[test]
fn a_second_signal_loses_no_line_of_either_log() {
    for _ in 0..5 {
        let origin = ScriptedOrigin::start(|conn, _| {
            while let Some(request) = conn.request() {
                if request.target.ends_with("held") {
                    return conn.wait_closed();
                }
                conn.respond("200 OK", &[], b"x");
            }
        });
        let mut proxy = Proxy::start(&Config::products(origin.url()).set("server.threads", 2));
        let mut held = proxy.client();
        held.send(request_bytes("GET", "/products/held", &[]));
        wait_until("the held request", || origin.requests().len() == 1);
        let mut client = proxy.client();
        for _ in 0..20 {
            assert_eq!(client.get("/products/x").status, 200);
        }
        proxy.signal("TERM");
        proxy.signal("INT");
        assert_eq!(proxy.wait_exit().code(), Some(0));
        let records = proxy.complete_stdout().records();
        assert_eq!(records.len(), 21, "{records:?}");
        let cut = records.iter().find(|record| record["path"] == "/products/held").unwrap();
        assert_eq!(cut["aborted"], true, "{cut}");
        proxy.stderr().wait_for("stopping at once: asked twice");
    }
}
