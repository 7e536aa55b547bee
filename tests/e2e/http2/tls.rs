//! HTTP/2 over TLS, agreed on by ALPN (RFC 9113 section 3.2).

use std::{
    fs,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
};

use crate::support::{
    config::Config,
    http2_frames::{NO_ERROR, RawHttp2, fields, frame, request, window_update},
    proxy::Proxy,
    reload::{Done, adopt, config_of, counts, touched},
    scripted_origin::ScriptedOrigin,
    site::{Identity, Site, Visitor},
    waiting::wait_until,
};

/// One open bucket `products` at this origin, and a TLS listener.
fn config(origin: &ScriptedOrigin) -> Config {
    Config::products(origin.url()).with_tls()
}

/// A client that offers these protocols.
fn offering(site: &Site, protocols: &[&str]) -> Visitor {
    site.visitor().with(|config| {
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    })
}

fn connect(proxy: &Proxy, site: &Site) -> RawHttp2 {
    RawHttp2::over_tls(proxy.tls_address(), offering(site, &["h2", "http/1.1"]).session())
}

#[test]
fn a_client_that_offers_http2_gets_it() {
    let body: Vec<u8> = (0..60_000_u32).map(|at| u8::try_from(at % 251).unwrap()).collect();
    let origin = ScriptedOrigin::serving(&body);
    let site = Site::new();
    let mut proxy = site.start(&config(&origin));
    let mut client = connect(&proxy, &site);
    // The scheme of a secured connection.
    let section = [
        (":method", "GET"),
        (":scheme", "https"),
        (":authority", "localhost"),
        (":path", "/products/x"),
    ];
    client.send(frame(1, 5, 1, fields(&section)));
    let (status, got) = client.response(1);
    assert_eq!(status, Some(200));
    assert!(got == body);
    wait_until("the record", || !proxy.stdout().records().is_empty());
    let record = &proxy.stdout().records()[0];
    assert_eq!(record["protocol"], "HTTP/2");
    assert_eq!((&record["tls_version"], &record["sni"]), (&"TLSv1.3".into(), &"localhost".into()));
    proxy.signal("TERM");
    // To the end of the session, which is an orderly one.
    assert_eq!(client.expect_goaway(), NO_ERROR);
    assert_eq!(proxy.wait_exit().code(), Some(0));
}

#[test]
fn a_client_that_does_not_offer_http2_gets_http1() {
    let origin = ScriptedOrigin::serving("x");
    let site = Site::new();
    let proxy = site.start(&config(&origin));
    for protocols in [&[][..], &["http/1.1"]] {
        let response = offering(&site, protocols).get(&proxy, "/products/x");
        assert_eq!((response.status, response.text()), (200, "x"), "{protocols:?}");
    }
    // The preface is no way around it.
    let mut client = offering(&site, &["http/1.1"]).connect(&proxy);
    client.send(crate::support::http2_frames::PREFACE);
    assert_eq!(client.response("PRI").status, 505);
}

#[test]
fn http2_is_not_offered_where_it_is_switched_off() {
    let origin = ScriptedOrigin::serving("x");
    let site = Site::new();
    let proxy = site.start(&config(&origin).set("server.http2.enabled", false));
    let both = offering(&site, &["h2", "http/1.1"]);
    assert_eq!(both.get(&proxy, "/products/x").text(), "x");
}

#[test]
fn streams_share_a_session() {
    let origin = ScriptedOrigin::echo();
    let site = Site::new();
    let proxy = site.start(&config(&origin));
    let mut client = connect(&proxy, &site);
    let requests = (0..50_u32).flat_map(|n| request(2 * n + 1, &format!("/products/{n}")));
    client.send(requests.collect::<Vec<_>>());
    let mut bodies = vec![Vec::new(); 50];
    let mut ended = 0;
    while ended < 50 {
        let frame = client.next().expect("a frame");
        if frame.kind == 0 {
            bodies[frame.stream as usize / 2].extend_from_slice(&frame.payload);
        }
        ended += u32::from(frame.ends_stream());
    }
    for (number, body) in bodies.iter().enumerate() {
        assert_eq!(*body, format!("/products/{number}").as_bytes());
    }
}

/// Replaces the pair in one step for each file.
fn put_pair(proxy: &Proxy, identity: &Identity) {
    for (name, text) in [("site.pem", identity.pem()), ("site.key", identity.key_pem())] {
        let new = proxy.directory().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, proxy.directory().join(name)).unwrap();
    }
}

/// Connections that go on and new ones, while generations and certificates change in turn.
#[test]
fn reloads_and_renewals_lose_no_stream() {
    const BODY: usize = 40_000;
    const ROUNDS: usize = 4;
    const RENEWED: &str = "yatagarasu_tls_certificate_renewals_total{result=\"success\"}";
    let body = vec![b'x'; BODY];
    let origin = ScriptedOrigin::serving(&body);
    let site = Site::new();
    let config = config_of(origin.url()).with_tls();
    let proxy = site.start(&config);
    let (done, served) = (AtomicBool::new(false), AtomicU32::new(0));
    thread::scope(|scope| {
        let _done = Done(&done);
        for is_kept in [true, true, false] {
            let (proxy, site, body, done, served) = (&proxy, &site, &body, &done, &served);
            scope.spawn(move || {
                let mut client = connect(proxy, site);
                let mut stream = 1;
                while !done.load(Ordering::SeqCst) {
                    if !is_kept {
                        (client, stream) = (connect(proxy, site), 1);
                    }
                    client.send(request(stream, "/products/a"));
                    let (status, got) = client.response(stream);
                    assert_eq!(status, Some(200));
                    assert!(got == *body, "{} bytes", got.len());
                    client.send(window_update(0, u32::try_from(BODY).unwrap()));
                    stream += 2;
                    served.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        for round in 1..=ROUNDS {
            let go_on = |what: &str| {
                let before = served.load(Ordering::SeqCst);
                wait_until(what, || served.load(Ordering::SeqCst) > before + 5);
            };
            adopt(&proxy, &touched(&config, round));
            go_on("requests after a reload");
            let renewed = proxy.metric(RENEWED);
            put_pair(&proxy, &site.issue(&["localhost"]));
            wait_until("the renewal", || proxy.metric(RENEWED) > renewed);
            go_on("requests after a renewal");
        }
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(counts(&proxy), (ROUNDS, 0));
    assert_eq!(proxy.metric("config_generation"), Some(5.0));
}
