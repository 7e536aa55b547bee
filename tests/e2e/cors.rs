//! `buckets[].cors`: which pages of other origins may read which responses.

use serde_json::json;

use crate::support::{
    config::Config,
    http2_client::{self, Http2Client},
    proxy::Proxy,
    raw_client::Response,
    reload::adopt,
    scripted_origin::{ScriptedOrigin, refused_address, response_bytes},
    token::{self, bearer},
};

const APP: &str = "https://app.example.com";

const VARY_OF_PREFLIGHT: &str =
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers";

fn rules() -> serde_json::Value {
    json!({
        "origins": [APP, "https://*.tenants.example:8443"],
        "headers": ["Authorization", "X-Auth-Token"],
        "expose": ["ETag", "X-Request-Id"],
        "max_age": 60,
        "credentials": true,
    })
}

/// Fields of the response that begin with `access-control-`, without that beginning, by name.
fn granted(response: &Response) -> Vec<(String, String)> {
    let names = response.fields.names();
    let names = names.iter().filter_map(|name| {
        let lower = name.to_ascii_lowercase();
        lower.strip_prefix("access-control-").map(str::to_owned)
    });
    let value = |name: &str| response.header(&format!("access-control-{name}")).unwrap().to_owned();
    names.map(|name| (name.clone(), value(&name))).collect()
}

fn fields(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let mut fields: Vec<_> =
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    fields.sort();
    fields
}

/// What a page of this origin may do with a response to an actual request.
fn readable_by(origin: &str) -> Vec<(String, String)> {
    fields(&[
        ("allow-origin", origin),
        ("allow-credentials", "true"),
        ("expose-headers", "ETag, X-Request-Id"),
    ])
}

fn preflight(proxy: &Proxy, target: &str, origin: &str) -> Response {
    let asked = [
        ("Origin", origin),
        ("Access-Control-Request-Method", "GET"),
        ("Access-Control-Request-Headers", "authorization"),
    ];
    proxy.client().request("OPTIONS", target, &asked)
}

/// An origin that has one object, and knows ranges, conditions and errors.
fn s3() -> ScriptedOrigin {
    ScriptedOrigin::start(|connection, _| {
        while let Some(request) = connection.request() {
            let (status, body) = match &*request.target {
                _ if request.fields.has("if-none-match") => ("304 Not Modified", ""),
                _ if request.fields.has("range") => ("206 Partial Content", "b"),
                target if target.ends_with("/missing") => ("404 Not Found", "<Error/>"),
                target if target.ends_with("/secret") => ("403 Forbidden", "<Error/>"),
                _ => ("200 OK", "abc"),
            };
            let of_s3 = [
                ("Access-Control-Allow-Origin", "*"),
                ("Access-Control-Allow-Credentials", "false"),
                ("Access-Control-Max-Age", "7"),
                ("Vary", "Accept-Encoding, origin"),
                ("ETag", "\"e\""),
            ];
            let body =
                if request.method == "HEAD" || status.starts_with("304") { "" } else { body };
            connection.respond(status, &of_s3, body.as_bytes());
        }
    })
}

fn buckets(origin: &ScriptedOrigin) -> Config {
    Config::products(origin.url())
        .bucket("private", origin.url())
        .bucket("down", format!("http://{}", refused_address()))
        .bucket("plain", origin.url())
        .bucket("listed", origin.url())
        .with_jwt(&["private"])
        .set("buckets.4.cors", rules())
        .set("buckets.4.listing.enabled", true)
        .set("buckets.0.cors", rules())
        .set("buckets.1.cors", rules())
        .set("buckets.2.cors", rules())
}

/// A response of every kind that a bucket gives, to a request with this `Origin` or none.
fn of_every_kind(proxy: &Proxy, origin: Option<&str>) -> Vec<(u16, Response)> {
    let guest = bearer(&token::mint("another-secret-that-is-long-enough-too", &json!({})));
    let ask = |method: &str, target: &str, more: &[(&str, &str)]| {
        let mut fields = more.to_vec();
        fields.extend(origin.map(|origin| ("Origin", origin)));
        proxy.client().request(method, target, &fields)
    };
    vec![
        (200, ask("GET", "/products/x", &[])),
        (200, ask("HEAD", "/products/x", &[])),
        (206, ask("GET", "/products/x", &[("Range", "bytes=1-1")])),
        (304, ask("GET", "/products/x", &[("If-None-Match", "\"e\"")])),
        (404, ask("GET", "/products/missing", &[])),
        (403, ask("GET", "/products/secret", &[])),
        (404, ask("GET", "/products/", &[])),
        (401, ask("GET", "/private/x", &[])),
        (401, ask("GET", "/private/x", &[("Authorization", &guest)])),
        (400, ask("GET", "/products/x?acl", &[])),
        (308, ask("GET", "/listed", &[])),
        (405, ask("DELETE", "/products/x", &[])),
        (502, ask("GET", "/down/x", &[])),
        (204, ask("OPTIONS", "/products/x", &[])),
    ]
}

#[test]
fn pages_of_allowed_origins_may_read_every_response_of_the_bucket() {
    let origin = s3();
    let proxy = Proxy::start(&buckets(&origin));
    for page in [APP, "https://a.tenants.example:8443"] {
        for (status, response) in of_every_kind(&proxy, Some(page)) {
            assert_eq!(response.status, status, "{response:?}");
            assert_eq!(granted(&response), readable_by(page), "{status}");
        }
    }
    assert!(!origin.received().contains("app.example.com"), "Origin went to S3");
}

#[test]
fn other_pages_may_read_nothing_and_caches_are_told_in_every_case() {
    let origin = s3();
    let proxy = Proxy::start(&buckets(&origin));
    let huge = format!("https://{}.example.com", "a".repeat(7_000));
    for page in [
        None,
        Some(APP),
        Some("null"),
        Some("https://evil.example"),
        Some("https://app.example.com.evil.example"),
        Some("https://a.b.tenants.example:8443"),
        Some(huge.as_str()),
    ] {
        for (status, response) in of_every_kind(&proxy, page) {
            assert_eq!(response.status, status, "{response:?}");
            assert_eq!(granted(&response).is_empty(), page != Some(APP), "{page:?} {status}");
            let vary = response.header("vary").unwrap_or_default().to_ascii_lowercase();
            let members: Vec<_> = vary.split(", ").collect();
            let count = members.iter().filter(|member| **member == "origin").count();
            assert_eq!(count, 1, "{page:?} {status}: {vary}");
        }
    }
    let twice = [("Origin", APP), ("Origin", APP)];
    assert_eq!(granted(&proxy.get_with("/products/x", &twice)), []);
    // What S3 says of its own is kept.
    let vary = proxy.get("/products/x");
    assert_eq!(vary.header("vary"), Some("Accept-Encoding, origin"));
    assert_eq!(vary.header("etag"), Some("\"e\""));
}

#[test]
fn a_preflight_is_answered_before_a_token_is_asked_for_and_without_s3() {
    let origin = s3();
    let proxy = Proxy::start(&buckets(&origin));
    for target in ["/private/x", "/private", "/down/x"] {
        let response = preflight(&proxy, target, APP);
        assert_eq!((response.status, response.body.len()), (204, 0), "{response:?}");
        assert_eq!(
            granted(&response),
            fields(&[
                ("allow-origin", APP),
                ("allow-credentials", "true"),
                ("allow-methods", "GET, HEAD"),
                ("allow-headers", "Authorization, X-Auth-Token"),
                ("max-age", "60"),
            ])
        );
        assert_eq!(response.header("vary"), Some(VARY_OF_PREFLIGHT));
    }
    for page in ["https://evil.example", "null"] {
        let response = preflight(&proxy, "/private/x", page);
        assert_eq!(response.status, 204);
        assert_eq!(granted(&response), []);
        assert_eq!(response.header("vary"), Some(VARY_OF_PREFLIGHT));
    }
    assert!(origin.requests().is_empty());
    let counted =
        "yatagarasu_http_requests_total{bucket=\"private\",method=\"OPTIONS\",status=\"204\"}";
    assert_eq!(proxy.metric(counted), Some(4.0));
}

#[test]
fn an_options_request_that_asks_nothing_is_no_preflight() {
    let origin = s3();
    let proxy = Proxy::start(&buckets(&origin));
    let method = ("Access-Control-Request-Method", "GET");
    for fields in [&[("Origin", APP)][..], &[method], &[]] {
        let response = proxy.client().request("OPTIONS", "/products/x", fields);
        assert_eq!(response.status, 204);
        assert_eq!(response.header("allow"), Some("GET, HEAD, OPTIONS"));
        assert_eq!(response.header("access-control-allow-methods"), None);
        assert_eq!(response.header("vary"), Some("Origin"));
    }
}

#[test]
fn public_buckets_say_so_to_everybody_and_need_not_vary() {
    let origin = ScriptedOrigin::serving("x");
    let public = json!({ "origins": ["*"], "headers": ["*", "Authorization"], "expose": ["*"] });
    let proxy = Proxy::start(&Config::products(origin.url()).set("buckets.0.cors", public));
    for page in [Some(APP), Some("null"), None] {
        let page: Vec<_> = page.map(|page| ("Origin", page)).into_iter().collect();
        let response = proxy.get_with("/products/x", &page);
        assert_eq!(granted(&response), fields(&[("allow-origin", "*"), ("expose-headers", "*")]));
        assert_eq!(response.header("vary"), None);
    }
    let asked = preflight(&proxy, "/products/x", "null");
    assert_eq!(asked.header("access-control-allow-headers"), Some("*, Authorization"));
    assert_eq!(asked.header("access-control-max-age"), Some("600"));
}

#[test]
fn a_bucket_without_cors_is_as_before() {
    let origin = s3();
    let proxy = Proxy::start(&buckets(&origin));
    let response = proxy.get_with("/plain/x", &[("Origin", APP)]);
    // What S3 says passes.
    assert_eq!(response.header("access-control-allow-origin"), Some("*"));
    assert_eq!(response.header("vary"), Some("Accept-Encoding, origin"));
    let asked = preflight(&proxy, "/plain/x", APP);
    assert_eq!((asked.status, granted(&asked)), (204, vec![]));
    assert_eq!(asked.header("vary"), None);
    // What belongs to no bucket has no fields either.
    let long = format!("/products/{}", "x".repeat(9_000));
    for (target, status) in
        [("/nowhere/x", 404), ("/health", 200), ("/products/%00", 400), (long.as_str(), 414)]
    {
        let response = proxy.get_with(target, &[("Origin", APP)]);
        assert_eq!((response.status, granted(&response)), (status, vec![]), "{target}");
    }
}

#[test]
fn http2_has_the_same_fields() {
    let origin = s3();
    let proxy = Proxy::start(&buckets(&origin).set("server.http2.cleartext", true));
    let client = Http2Client::connect(proxy.address());
    let ask = |method: &str, path: &str, fields: &[(&str, &str)]| {
        let mut request = http2_client::get(path);
        *request.method_mut() = method.parse().unwrap();
        for (name, value) in fields {
            let name: http::HeaderName = name.parse().unwrap();
            request.headers_mut().append(name, value.parse().unwrap());
        }
        client.request(request)
    };
    for (status, path) in [(200, "/products/x"), (401, "/private/x"), (404, "/products/missing")] {
        let reply = ask("GET", path, &[("origin", APP)]);
        assert_eq!(reply.status, status);
        assert_eq!(reply.header("access-control-allow-origin"), Some(APP));
        assert_eq!(reply.header("access-control-max-age"), None);
    }
    let asked =
        ask("OPTIONS", "/private/x", &[("origin", APP), ("access-control-request-method", "GET")]);
    assert_eq!(asked.status, 204);
    assert_eq!(asked.header("access-control-max-age"), Some("60"));
    assert_eq!(asked.header("vary"), Some(VARY_OF_PREFLIGHT));
}

#[test]
fn a_reload_changes_who_may_read_on_the_same_connection() {
    let origin = ScriptedOrigin::always(response_bytes("200 OK", &[], b"x"));
    let config = Config::products(origin.url()).with_jwt(&[]);
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    let mut allowed = || {
        let response = client.request("GET", "/products/x", &[("Origin", APP)]);
        response.header("access-control-allow-origin").map(str::to_owned)
    };
    assert_eq!(allowed(), None);
    adopt(&proxy, &config.clone().set("buckets.0.cors.origins", json!([APP])));
    assert_eq!(allowed().as_deref(), Some(APP));
    adopt(&proxy, &config.clone().set("buckets.0.cors.origins", json!(["*"])));
    assert_eq!(allowed().as_deref(), Some("*"));
    adopt(&proxy, &config);
    assert_eq!(allowed(), None);
}
