//! HTTP/2 over TLS, agreed on by ALPN (RFC 9113 section 3.2).

use crate::support::{
    config::Config,
    http2_frames::{NO_ERROR, RawHttp2, fields, frame, request},
    proxy::Proxy,
    scripted_origin::ScriptedOrigin,
    site::{Site, Visitor},
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
