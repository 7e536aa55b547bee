//! Buckets of several hosts: which one a request is for, and that no mismatch of names leads to
//! another tenant's.

use http::{Request, StatusCode};
use serde_json::json;

use crate::support::{
    config::Config,
    http2_client::Http2Client,
    http2_frames::{RawHttp2, fields, frame},
    proxy::Proxy,
    raw_client::request_bytes,
    reload::adopt,
    scripted_origin::ScriptedOrigin,
    site::{Authority, Site},
    token::{self, bearer},
};

/// A bucket for each of these hosts, at `/` of its own S3 bucket.
fn tenants(origin: &ScriptedOrigin, tenants: &[(&str, &[&str])]) -> Config {
    tenants.iter().enumerate().fold(Config::new(), |config, (index, (name, hosts))| {
        let config = config.bucket(name, origin.url());
        config
            .set(&format!("buckets.{index}.path_prefix"), serde_json::Value::Null)
            .set(&format!("buckets.{index}.hosts"), json!(hosts))
    })
}

/// A TLS listener that shows `name` the certificate of that name, whatever else it has.
fn start_with_certificates(site: &Site, config: Config, names: &[&str]) -> Proxy {
    let launch = site.launch();
    let mut pairs = vec![json!({ "cert_file": "site.pem", "key_file": "site.key" })];
    for name in names {
        let identity = site.issue(&[name]);
        launch.write(&format!("{name}.pem"), &identity.pem());
        launch.write(&format!("{name}.key"), &identity.key_pem());
        pairs
            .push(json!({ "cert_file": format!("{name}.pem"), "key_file": format!("{name}.key") }));
    }
    launch.config(&config.with_tls().set("server.tls.certificates", json!(pairs))).start()
}

#[test]
fn the_host_decides_then_the_prefix() {
    let origin = ScriptedOrigin::echo();
    let config = tenants(&origin, &[("alpha", &["a.test"]), ("beta", &["*.wild.test", "b.test"])])
        .bucket("assets", origin.url())
        .set("server.http2.cleartext", true);
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    let http2 = Http2Client::connect(proxy.address());
    for (host, path, expected) in [
        ("a.test", "/x", "/alpha/x"),
        ("A.Test:8080", "/x", "/alpha/x"),
        ("a.test.", "/x", "/alpha/x"),
        ("b.test", "/x", "/beta/x"),
        ("one.wild.test:443", "/x", "/beta/x"),
        // A bucket of every host has the longer prefix.
        ("a.test", "/assets/x", "/assets/x"),
        ("other.test", "/assets/x", "/assets/x"),
        ("[::1]:8080", "/assets/x", "/assets/x"),
        ("a.test", "/assetsx", "/alpha/assetsx"),
    ] {
        let response = client.request("GET", path, &[("Host", host)]);
        assert_eq!((response.status, response.text()), (200, expected), "{host} {path}");
        let request = Request::get(format!("http://{host}{path}")).body(()).unwrap();
        let reply = http2.request(request);
        assert_eq!(String::from_utf8(reply.body).unwrap(), expected, "{host} {path}");
    }
    for host in ["other.test", "a.b.wild.test", "wild.test", "xa.test", "a.test.evil.test"] {
        let response = client.request("GET", "/x", &[("Host", host)]);
        // A bucket of every host is there, but not at this path.
        response.assert_fault(404, "no_route");
    }
    // The authority of an absolute-form wins over Host (RFC 9112 section 3.2.2).
    let absolute = client.request("GET", "http://b.test/x", &[("Host", "a.test")]);
    assert_eq!(absolute.text(), "/beta/x");
}

#[test]
fn an_unknown_host_is_misdirected() {
    let origin = ScriptedOrigin::echo();
    let config = tenants(&origin, &[("alpha", &["a.test"])]).set("server.http2.cleartext", true);
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    client.request("GET", "/x", &[("Host", "b.test")]).assert_fault(421, "no_host");
    assert_eq!(client.request("HEAD", "/x", &[("Host", "b.test")]).status, 421);
    client.request("POST", "/x", &[("Host", "b.test")]).assert_fault(405, "method_not_allowed");
    // The connection is good for other hosts, and the built-in endpoints are there for all.
    assert_eq!(client.request("GET", "/health", &[("Host", "b.test")]).status, 200);
    assert_eq!(client.request("GET", "/x", &[("Host", "a.test")]).text(), "/alpha/x");
    let mut old = proxy.client();
    old.send("GET /x HTTP/1.0\r\n\r\n");
    old.response("GET").assert_fault(421, "no_host");
    let http2 = Http2Client::connect(proxy.address());
    let reply = http2.get("/x");
    assert_eq!((reply.status, &*reply.code()), (StatusCode::MISDIRECTED_REQUEST, "no_host"));
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_tenants_token_is_asked_for_whatever_the_host_says() {
    let origin = ScriptedOrigin::echo();
    let config = tenants(&origin, &[("alpha", &["a.test"]), ("beta", &["b.test"])]);
    let rule = |tenant| json!([{ "claim": "role", "operator": "equals", "value": tenant }]);
    let config = config
        .with_jwt(&["alpha", "beta"])
        .set("buckets.0.auth.claims", rule("a"))
        .set("buckets.1.auth.claims", rule("b"));
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    let of_a = bearer(&token::for_role("a"));
    let mut get =
        |target, host| client.request("GET", target, &[("Host", host), ("Authorization", &of_a)]);
    assert_eq!(get("/x", "a.test").text(), "/alpha/x");
    get("/x", "b.test").assert_fault(403, "claims_refused");
    get("http://b.test/x", "a.test").assert_fault(403, "claims_refused");
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_connection_for_one_tenant_does_not_reach_another() {
    let origin = ScriptedOrigin::echo();
    let site = Site::new();
    let config = tenants(
        &origin,
        &[("alpha", &["a.test", "www.a.test"]), ("beta", &["b.test"]), ("gamma", &["*.wild.test"])],
    )
    .bucket("assets", origin.url());
    let proxy = start_with_certificates(&site, config, &["a.test", "b.test", "*.wild.test"]);
    let connect = |sni: &str| site.visitor().try_connect(proxy.tls_address(), sni).unwrap();
    for (sni, host, expected) in [
        ("a.test", "a.test", "/alpha/x"),
        ("a.test", "A.TEST.:8443", "/alpha/x"),
        ("a.test", "www.a.test", "/alpha/x"),
        ("b.test", "b.test", "/beta/x"),
        ("one.wild.test", "two.wild.test", "/gamma/x"),
        // A name that no bucket has, as a load balancer may send it.
        ("localhost", "b.test", "/beta/x"),
    ] {
        let response = connect(sni).request("GET", "/x", &[("Host", host)]);
        assert_eq!((response.status, response.text()), (200, expected), "{sni} {host}");
    }
    let served = origin.requests().len();
    for (sni, host) in [
        ("a.test", "b.test"),
        ("a.test", "B.TEST."),
        ("b.test", "a.test"),
        ("b.test", "one.wild.test"),
        ("one.wild.test", "a.test"),
    ] {
        let mut client = connect(sni);
        let response = client.request("GET", "/x", &[("Host", host)]);
        response.assert_fault(421, "other_host");
        let absolute = client.request("GET", &format!("https://{host}/x"), &[("Host", sni)]);
        absolute.assert_fault(421, "other_host");
        for method in ["OPTIONS", "POST"] {
            let response = client.request(method, "/x", &[("Host", host)]);
            assert_eq!(response.status, 421, "{method}");
        }
        // What belongs to every host is there on every connection.
        let response = client.request("GET", "/assets/x", &[("Host", host)]);
        assert_eq!(response.text(), "/assets/x", "{sni} {host}");
        assert_eq!(client.request("GET", "/health", &[("Host", host)]).status, 200);
    }
    assert_eq!(origin.requests().len(), served + 5);
    // Without SNI there is no name that could differ.
    let visitor = site.visitor().with(|config| config.enable_sni = false);
    let mut client = visitor.try_connect(proxy.tls_address(), "localhost").unwrap();
    assert_eq!(client.request("GET", "/x", &[("Host", "b.test")]).text(), "/beta/x");
}

#[test]
fn streams_of_a_connection_for_one_tenant_do_not_reach_another() {
    let origin = ScriptedOrigin::echo();
    let site = Site::new();
    let config = tenants(&origin, &[("alpha", &["a.test"]), ("beta", &["b.test"])]);
    let proxy = start_with_certificates(&site, config, &["a.test", "b.test"]);
    let visitor = site.visitor().with(|config| config.alpn_protocols = vec![b"h2".to_vec()]);
    let mut client = RawHttp2::over_tls(proxy.tls_address(), visitor.session_with("a.test"));
    let get = |authority| {
        let pseudo =
            [(":method", "GET"), (":scheme", "https"), (":authority", authority), (":path", "/x")];
        fields(&pseudo)
    };
    for (stream, authority, expected) in [
        (1, "a.test", "/alpha/x"),
        (3, "b.test", "other_host"),
        (5, "a.test:8443", "/alpha/x"),
        (7, "other.test", "no_host"),
    ] {
        client.send(frame(1, 5, stream, get(authority)));
        let (_, body) = client.response(stream);
        let body = String::from_utf8(body).unwrap();
        assert!(body.contains(expected), "{authority}: {body}");
    }
    let asked: Vec<_> = origin.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(asked, ["/alpha/x", "/alpha/x"]);
}

#[test]
fn client_certificates_are_of_the_listener_and_tenants_stay_apart() {
    let origin = ScriptedOrigin::echo();
    let site = Site::new();
    let company = Authority::new("company");
    let config = tenants(&origin, &[("alpha", &["a.test"]), ("beta", &["b.test"])])
        .with_tls()
        .set("server.tls.client_ca_file", "company.pem");
    let launch = site.launch();
    launch.write("company.pem", &company.pem());
    for name in ["a.test", "b.test"] {
        let identity = site.issue(&[name]);
        launch.write(&format!("{name}.pem"), &identity.pem());
        launch.write(&format!("{name}.key"), &identity.key_pem());
    }
    let pair = |name: &str| json!({ "cert_file": format!("{name}.pem"), "key_file": format!("{name}.key") });
    let pairs = json!([pair("a.test"), pair("b.test")]);
    let proxy = launch.config(&config.set("server.tls.certificates", pairs)).start();
    let employee = company.issue(&["employee"]);
    let visitor = site.visitor_of(&crate::support::site::VERSIONS, Some(&employee));
    let mut client = visitor.try_connect(proxy.tls_address(), "a.test").unwrap();
    assert_eq!(client.request("GET", "/x", &[("Host", "a.test")]).text(), "/alpha/x");
    client.request("GET", "/x", &[("Host", "b.test")]).assert_fault(421, "other_host");
    // Nobody without a certificate gets as far as a host.
    let stranger = site.visitor().try_connect(proxy.tls_address(), "b.test");
    let hindered =
        stranger.map_or_else(|error| error.to_string(), |mut client| client.session_error());
    assert!(!hindered.is_empty());
}

#[test]
fn hosts_move_between_buckets_with_a_reload() {
    let origin = ScriptedOrigin::echo();
    let before = tenants(&origin, &[("alpha", &["a.test"]), ("beta", &["b.test"])]).with_jwt(&[]);
    let after = tenants(&origin, &[("alpha", &["b.test"]), ("beta", &["a.test"])]).with_jwt(&[]);
    let proxy = Proxy::start(&before);
    let mut client = proxy.client();
    let mut get = |host| client.request("GET", "/x", &[("Host", host)]).text().to_owned();
    assert_eq!(get("a.test"), "/alpha/x");
    let report = adopt(&proxy, &after);
    assert_eq!(
        report["applied"],
        json!(["buckets[alpha].hosts", "buckets[beta].hosts"]),
        "{report}"
    );
    assert_eq!((get("a.test"), get("b.test")), ("/beta/x".to_owned(), "/alpha/x".to_owned()));
    let status =
        proxy.get_with("/admin/status", &[("Authorization", &bearer(&token::for_role("admin")))]);
    assert_eq!(status.json()["buckets"][0]["hosts"], json!(["b.test"]));
}

#[test]
fn the_redirect_to_https_is_the_same_for_every_host() {
    let origin = ScriptedOrigin::echo();
    let site = Site::new();
    let config = tenants(&origin, &[("alpha", &["a.test"])])
        .with_tls()
        .set("server.tls.plain", "redirect")
        .set("server.tls.redirect_port", 443);
    let proxy = site.start(&config);
    for host in ["a.test", "unknown.test"] {
        let response = proxy.get_with("/x?y", &[("Host", host)]);
        assert_eq!(response.status, 308);
        assert_eq!(response.header("location"), Some(&*format!("https://{host}/x?y")));
    }
}

#[test]
fn pipelined_requests_for_several_hosts_are_answered_in_order() {
    let origin = ScriptedOrigin::echo();
    let proxy = Proxy::start(&tenants(&origin, &[("alpha", &["a.test"]), ("beta", &["b.test"])]));
    let mut client = proxy.client();
    let hosts = ["a.test", "b.test", "c.test", "a.test"];
    let requests = hosts.map(|host| request_bytes("GET", "/x", &[("Host", host)]));
    client.send(requests.concat());
    let statuses = hosts.map(|_| {
        let response = client.response("GET");
        (response.status, response.text().starts_with("/beta"))
    });
    assert_eq!(statuses, [(200, false), (200, true), (421, false), (200, false)]);
}
