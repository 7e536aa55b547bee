//! `server.tls.plain`: what becomes of requests on the plain listener.

use crate::support::{
    config::Config, raw_client::End, reload::adopt, scripted_origin::ScriptedOrigin, site::Site,
    token,
};

fn config(origin: &ScriptedOrigin, plain: &str) -> Config {
    Config::products(origin.url()).with_tls().with_jwt(&[]).set("server.tls.plain", plain)
}

#[test]
fn redirect_sends_clients_to_the_same_target_over_tls() {
    let origin = ScriptedOrigin::serving("x");
    let site = Site::new();
    let proxy = site.start(&config(&origin, "redirect").set("server.tls.redirect_port", 8443));
    let mut client = proxy.client();
    for (host, target, location) in [
        ("a.example", "/products/x", "https://a.example:8443/products/x"),
        ("a.example:8080", "/products/x?a=b&c", "https://a.example:8443/products/x?a=b&c"),
        ("192.0.2.7:8080", "/products/a%20b", "https://192.0.2.7:8443/products/a%20b"),
        ("[2001:db8::1]", "/", "https://[2001:db8::1]:8443/"),
        ("[2001:db8::1]:8080", "/nowhere", "https://[2001:db8::1]:8443/nowhere"),
        // The authority of the target wins (RFC 9112 section 3.2.2).
        ("other.test", "http://b.example:80/products/x?q", "https://b.example:8443/products/x?q"),
        ("other.test", "http://b.example", "https://b.example:8443/"),
    ] {
        for method in ["GET", "HEAD", "POST", "PUT"] {
            let response = client.request(method, target, &[("Host", host)]);
            assert_eq!(response.status, 308, "{response:?}");
            assert_eq!(response.header("location"), Some(location));
            assert_eq!(response.header("cache-control"), Some("no-store"));
            assert!(response.header("x-request-id").is_some());
        }
    }
    // The same connection went on; nothing was asked of S3.
    assert_eq!(client.get("/health").status, 200);
    assert_eq!(
        proxy.metric("yatagarasu_http_requests_total{bucket=\"-\",method=\"GET\",status=\"3xx\"}"),
        Some(7.0)
    );
    assert!(origin.requests().is_empty());
    // Over TLS it is served.
    assert_eq!(site.visitor().get(&proxy, "/products/x").text(), "x");
}

#[test]
fn redirect_leaves_out_the_usual_port_and_knows_its_own() {
    let origin = ScriptedOrigin::serving("x");
    let site = Site::new();
    let usual = config(&origin, "redirect").set("server.tls.redirect_port", 443);
    let proxy = site.start(&usual);
    let to = |target: &str| proxy.get(target).header("location").map(str::to_owned);
    assert_eq!(to("/products/x").as_deref(), Some("https://proxy.test/products/x"));
    // Without it the port is that of the listener, here one that was free.
    adopt(&proxy, &config(&origin, "redirect"));
    let port = proxy.tls_address().port();
    assert_eq!(to("/products/x"), Some(format!("https://proxy.test:{port}/products/x")));
}

#[test]
fn redirect_has_nowhere_to_go_without_a_host() {
    let origin = ScriptedOrigin::serving("x");
    let site = Site::new();
    let proxy = site.start(&config(&origin, "redirect"));
    let mut client = proxy.client();
    client.send("GET /products/x HTTP/1.0\r\n\r\n");
    client.response("GET").assert_fault(403, "https_required");
    assert_eq!(client.expect_end(), End::Fin);
    // What cannot be served over TLS either is told so at once.
    proxy.get("/products/%00").assert_fault(400, "bad_path");
}

#[test]
fn refuse_serves_the_built_in_endpoints_only() {
    let origin = ScriptedOrigin::serving("x");
    let site = Site::new();
    let proxy = site.start(&config(&origin, "refuse"));
    let mut client = proxy.client();
    for (method, target) in
        [("GET", "/products/x"), ("GET", "/"), ("GET", "/nowhere"), ("DELETE", "/products/x")]
    {
        client.request(method, target, &[]).assert_fault(403, "https_required");
    }
    for target in ["/health", "/ready", "/metrics"] {
        assert_eq!(client.get(target).status, 200, "{target}");
    }
    let admin = token::bearer(&token::for_role("admin"));
    let status = client.request("GET", "/admin/status", &[("Authorization", &admin)]);
    assert_eq!(status.status, 200);
    assert!(origin.requests().is_empty());
    assert_eq!(site.visitor().get(&proxy, "/products/x").text(), "x");
}

#[test]
fn a_reload_changes_what_plain_requests_get_on_the_same_connection() {
    let origin = ScriptedOrigin::serving("x");
    let site = Site::new();
    let proxy = site.start(&config(&origin, "serve"));
    let mut client = proxy.client();
    assert_eq!(client.get("/products/x").status, 200);
    for (plain, status) in [("redirect", 308), ("refuse", 403), ("serve", 200)] {
        adopt(&proxy, &config(&origin, plain));
        assert_eq!(client.get("/products/x").status, status);
    }
}

#[test]
fn endpoints_that_have_moved_away_are_no_exception() {
    let origin = ScriptedOrigin::serving("x");
    let site = Site::new();
    let proxy = site.start(&config(&origin, "refuse").with_admin_listener());
    proxy.get("/health").assert_fault(403, "https_required");
    let mut over_tls = site.visitor().connect(&proxy);
    over_tls.get("/health").assert_fault(404, "no_route");
    assert_eq!(over_tls.get("/products/x").text(), "x");
    // The admin listener is none of `plain`'s business.
    let mut admin = crate::support::raw_client::Client::connect(proxy.admin_address());
    assert_eq!(admin.get("/health").status, 200);
    admin.get("/products/x").assert_fault(404, "no_route");
}
