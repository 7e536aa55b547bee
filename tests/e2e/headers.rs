//! `headers` and `hide_s3`: which fields and error bodies reach clients.

use serde_json::{Value, json};

use crate::{
    responses::{of_every_kind, three_buckets},
    support::{
        config::Config,
        http2_client::Http2Client,
        proxy::Proxy,
        raw_client::{Client, Response},
        reload::adopt,
        scripted_origin::{ScriptedOrigin, response_bytes},
        site::Site,
    },
};

/// A page of rules about security, as operators write it.
fn security() -> Value {
    json!({
        "set": { "X-Frame-Options": "DENY", "Strict-Transport-Security": "max-age=63072000" },
        "add": { "Link": ["<https://a.example/>; rel=license", "<https://b.example/>; rel=help"] },
        "remove": ["Server", "x-amz-*", "Set-Cookie"],
    })
}

/// Fields that S3 or a server before it may send.
const OF_S3: [(&str, &str); 7] = [
    ("Server", "AmazonS3"),
    ("x-amz-id-2", "MARK"),
    ("X-Amz-Request-Id", "MARK"),
    ("x-amz-meta-owner", "MARK"),
    ("Set-Cookie", "session=MARK"),
    ("X-Frame-Options", "ALLOWALL"),
    ("Link", "<https://s3.example/>; rel=next"),
];

fn assert_secured(what: &str, response: &Response) {
    assert_eq!(response.fields.all("x-frame-options"), ["DENY"], "{what}: {response:?}");
    let links = response.fields.all("link");
    let own = ["<https://a.example/>; rel=license", "<https://b.example/>; rel=help"];
    assert_eq!(links[links.len() - 2..], own, "{what}: {response:?}");
    for removed in ["server", "x-amz-id-2", "x-amz-request-id", "x-amz-meta-owner", "set-cookie"] {
        assert_eq!(response.header(removed), None, "{what}: {response:?}");
    }
}

#[test]
fn rules_for_all_go_for_every_kind_of_response() {
    let origin = ScriptedOrigin::always(response_bytes("200 OK", &OF_S3, b"x"));
    let proxy = Proxy::start(&three_buckets(&origin).set("server.headers", security()));
    let responses = of_every_kind(&proxy);
    for (what, response) in &responses {
        assert_secured(what, response);
        // RFC 6797 section 7.2
        assert_eq!(response.header("strict-transport-security"), None, "{what}: {response:?}");
        assert!(response.header("x-request-id").is_some(), "{what}: {response:?}");
    }
    assert_eq!(responses[0].1.fields.all("link").len(), 3);
    assert_eq!(responses[0].1.text(), "x");
}

#[test]
fn hsts_is_sent_over_tls() {
    let origin = ScriptedOrigin::always(response_bytes("200 OK", &OF_S3, b"x"));
    let site = Site::new();
    let config = three_buckets(&origin).with_tls().set("server.headers", security());
    let proxy = site.start(&config);
    for target in ["/products/x", "/private/x", "/nothing", "/health", "/products/%00"] {
        let response = site.visitor().get(&proxy, target);
        assert_secured(target, &response);
        let hsts = response.header("strict-transport-security");
        assert_eq!(hsts, Some("max-age=63072000"), "{response:?}");
        assert_eq!(proxy.get(target).header("strict-transport-security"), None);
    }
    let mut malformed = site.visitor().connect(&proxy);
    malformed.send("GET /products/x HTTP/1.1\r\nHost : a\r\n\r\n");
    let refused = malformed.response("GET");
    assert_eq!(refused.status, 400);
    assert_eq!(refused.header("strict-transport-security"), Some("max-age=63072000"));
}

#[test]
fn rules_of_a_bucket_win_and_stay_in_the_bucket() {
    let origin = ScriptedOrigin::always(response_bytes("200 OK", &OF_S3, b"x"));
    let rules = json!({
        "set": { "x-frame-options": "SAMEORIGIN" },
        "remove": ["link", "Via", "X-Request-Id"],
    });
    let config =
        three_buckets(&origin).set("server.headers", security()).set("buckets.0.headers", rules);
    let proxy = Proxy::start(&config);
    for target in ["/products/x", "/products/"] {
        let response = proxy.get(target);
        assert_eq!(response.fields.all("x-frame-options"), ["SAMEORIGIN"], "{response:?}");
        for removed in ["link", "via", "x-request-id", "server", "x-amz-id-2"] {
            assert_eq!(response.header(removed), None, "{response:?}");
        }
    }
    assert_secured("another bucket", &proxy.get("/private/x"));
    assert_secured("no bucket", &proxy.get("/nothing"));
}

/// An origin whose objects have the type that their names end in.
fn typed() -> ScriptedOrigin {
    ScriptedOrigin::start(|connection, _| {
        while let Some(request) = connection.request() {
            let target = request.target.clone();
            let kind = target.rsplit_once('.').map_or("binary", |(_, end)| end);
            let content_type = match kind {
                "html" => "text/html; charset=utf-8",
                "png" => "image/png",
                _ => "application/octet-stream",
            };
            let own = ("Cache-Control", "max-age=5");
            let of_object = [("Content-Type", content_type), own, ("ETag", "\"e\"")];
            match kind {
                _ if request.fields.has("if-none-match") => {
                    connection.respond("304 Not Modified", &[own, ("ETag", "\"e\"")], b"");
                }
                _ if request.fields.has("range") => {
                    connection.respond("206 Partial Content", &of_object, b"x");
                }
                "missing" => connection.respond(
                    "404 Not Found",
                    &[("Content-Type", "application/xml")],
                    b"<Error/>",
                ),
                _ => connection.respond("200 OK", &of_object, b"x"),
            }
        }
    })
}

#[test]
fn a_value_may_be_for_some_types_and_suffixes() {
    let origin = typed();
    let rules = json!({
        "set": {
            "Cache-Control": [
                { "value": "no-cache", "types": ["text/html"] },
                { "value": "immutable", "suffixes": [".JS", ".css"] },
                { "value": "max-age=60", "types": ["image/*"] },
            ],
            "Content-Disposition": [{ "value": "attachment", "suffixes": [".pdf"] }],
            "Content-Type": [{ "value": "application/wasm", "suffixes": [".wasm"] }],
            "Content-Security-Policy": [{ "value": "default-src 'self'", "types": ["text/html"] }],
        },
    });
    let config = Config::products(origin.url()).with_jwt(&[]).set("buckets.0.headers", rules);
    let proxy = Proxy::start(&config);
    let cached = |target: &str, fields: &[(&str, &str)]| {
        let response = proxy.get_with(target, fields);
        let value = response.fields.all("cache-control").join(" + ");
        (response.status, value)
    };
    let unchanged = [("If-None-Match", "\"e\"")];
    for (target, fields, status, value) in [
        ("/products/a.html", &[][..], 200, "no-cache"),
        ("/products/a.html", &[("Range", "bytes=0-0")], 206, "no-cache"),
        ("/products/a.js", &[], 200, "immutable"),
        ("/products/a.png", &[], 200, "max-age=60"),
        ("/products/a.bin", &[], 200, "max-age=5"),
        // A 304 without a type: the client keeps what it has (RFC 9111 section 4.3.4).
        ("/products/a.html", &unchanged, 304, ""),
        ("/products/a.js", &unchanged, 304, ""),
        // Errors are not kept for as long as objects.
        ("/products/a.missing", &[], 404, ""),
        ("/products/", &[], 404, "no-store"),
    ] {
        assert_eq!(cached(target, fields), (status, value.to_owned()), "{target} {fields:?}");
    }
    let header = |target: &str, name: &str| proxy.get(target).header(name).map(str::to_owned);
    assert_eq!(header("/products/a.PDF", "content-disposition").as_deref(), Some("attachment"));
    assert_eq!(header("/products/a.html", "content-disposition"), None);
    assert_eq!(header("/products/a.wasm", "content-type").as_deref(), Some("application/wasm"));
    let policy = "content-security-policy";
    assert_eq!(header("/products/a.html", policy).as_deref(), Some("default-src 'self'"));
    assert_eq!(header("/products/a.png", policy), None);
}

#[test]
fn a_304_has_no_value_that_its_type_decides_about() {
    let origin = typed();
    let html = |value: &str| json!([{ "value": value, "types": ["text/html"] }, "other"]);
    let all = json!({ "set": { "Cache-Control": "for-all", "X-All": "yes" } });
    let rules = json!({
        "set": {
            "Cache-Control": [
                { "value": "scripts", "suffixes": [".js"] },
                { "value": "pages", "types": ["text/html"] },
                "rest",
            ],
            "X-Set": html("page"),
        },
        "add": { "X-Added": html("page"), "X-Plain": "always" },
    });
    let config = Config::products(origin.url())
        .set("server.headers", all)
        .set("buckets.0.headers", rules)
        // Whose list has nothing before what is for all.
        .bucket("more", origin.url())
        .set(
            "buckets.1.headers.set",
            json!({ "Cache-Control": [{ "value": "p", "types": ["text/*"] }] }),
        );
    let proxy = Proxy::start(&config);
    let values = |target: &str, fields: &[(&str, &str)]| {
        let response = proxy.get_with(target, fields);
        let all = |name: &&str| response.fields.all(name).join(" + ");
        let names = ["cache-control", "x-set", "x-added", "x-plain", "x-all"];
        names.iter().map(all).collect::<Vec<_>>()
    };
    let unchanged = [("If-None-Match", "\"e\"")];
    for (target, object, not_modified) in [
        ("/products/a.html", ["pages", "page", "page + other", "always", "yes"], ""),
        ("/products/a.png", ["rest", "other", "other", "always", "yes"], ""),
        ("/products/a.js", ["scripts", "other", "other", "always", "yes"], "scripts"),
        ("/more/a.html", ["p", "", "", "", "yes"], ""),
        ("/more/a.png", ["for-all", "", "", "", "yes"], ""),
    ] {
        assert_eq!(values(target, &[]), object, "{target}");
        let mut expected = object;
        expected[..3].copy_from_slice(&[not_modified, "", ""]);
        assert_eq!(values(target, &unchanged), expected, "{target}");
    }
}

#[test]
fn vary_becomes_one_list_of_all_that_has_a_say() {
    let vary = [("Vary", "Accept-Encoding"), ("Vary", "origin")];
    let origin = ScriptedOrigin::always(response_bytes("200 OK", &vary, b"x"));
    let config = Config::products(origin.url()).with_jwt(&[]);
    let with = |headers: Value, cors: bool| {
        let config = config.clone().set("buckets.0.headers", headers);
        if cors {
            config.set("buckets.0.cors.origins", json!(["https://a.example"]))
        } else {
            config
        }
    };
    let proxy = Proxy::start(&config);
    assert_eq!(proxy.get("/products/x").fields.all("vary"), ["Accept-Encoding", "origin"]);
    for (headers, cors, expected) in [
        (
            json!({ "add": { "Vary": "X-A, accept-encoding" } }),
            false,
            "Accept-Encoding, origin, X-A",
        ),
        (json!({ "add": { "Vary": "X-A" } }), true, "Accept-Encoding, origin, X-A"),
        (json!({ "set": { "Vary": "X-A" } }), true, "X-A, Origin"),
        (json!({ "remove": ["Vary"] }), true, "Origin"),
    ] {
        adopt(&proxy, &with(headers.clone(), cors));
        assert_eq!(proxy.get("/products/x").fields.all("vary"), [expected], "{headers}");
    }
    adopt(&proxy, &with(json!({ "remove": ["Vary"] }), false));
    assert_eq!(proxy.get("/products/x").header("vary"), None);
    adopt(&proxy, &with(json!({ "add": { "Vary": "*" } }), true));
    assert_eq!(proxy.get("/products/x").fields.all("vary"), ["*"]);
}

#[test]
fn what_the_proxy_itself_depends_on_stays_in_vary() {
    let origin = ScriptedOrigin::start(|connection, _| {
        while let Some(request) = connection.request() {
            let status =
                if request.target.ends_with("app.html") { "200 OK" } else { "404 Not Found" };
            let body = "x".repeat(4_096);
            connection.respond(status, &[("Content-Type", "text/html")], body.as_bytes());
        }
    });
    let config = Config::products(origin.url())
        .with_jwt(&[])
        .set("buckets.0.spa", "app.html")
        .set("buckets.0.compress", json!({ "types": ["text/*"] }));
    let proxy = Proxy::start(&config);
    for (rules, expected) in [
        (json!({ "remove": ["Vary"] }), "Accept, Accept-Encoding"),
        (json!({ "set": { "Vary": "X-A" } }), "X-A, Accept, Accept-Encoding"),
    ] {
        adopt(&proxy, &config.clone().set("server.headers", rules));
        let app = proxy.get_with("/products/route", &[("Accept", "text/html")]);
        assert_eq!((app.status, app.fields.all("vary")), (200, vec![expected]));
        let error = proxy.get("/products/route");
        assert_eq!((error.status, error.header("vary").is_some()), (404, true));
        assert!(error.header("vary").is_some_and(|vary| vary.contains("Accept")));
    }
}

#[test]
fn responses_of_the_proxy_itself_are_never_stored() {
    let origin = typed();
    let config = Config::products(origin.url())
        .set("buckets.0.index", "index.html")
        .set("server.headers.remove", json!(["Cache-Control"]));
    let proxy = Proxy::start(&config);
    for (target, status) in [("/products", 308), ("/products/%00", 400), ("/nothing", 404)] {
        let response = proxy.get(target);
        let seen = (response.status, response.header("cache-control"));
        assert_eq!(seen, (status, Some("no-store")), "{target}");
    }
    assert_eq!(proxy.get("/products/a.html").header("cache-control"), None);
}

/// An error as S3 sends it, which names the bucket and the whole key.
fn error_of_s3(code: &str) -> Vec<u8> {
    format!(
        "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Key>hidden-prefix/x</Key>\
         <BucketName>hidden-bucket</BucketName><RequestId>MARK</RequestId></Error>"
    )
    .into_bytes()
}

/// A bucket that hides an origin which responds in each way by the name of the object.
fn hiding(origin: &ScriptedOrigin) -> Config {
    Config::products(origin.url())
        .with_jwt(&[])
        .set("buckets.0.s3.bucket", "hidden-bucket")
        .set("buckets.0.s3.key_prefix", "hidden-prefix/")
        .set("buckets.0.hide_s3", true)
}

fn s3() -> ScriptedOrigin {
    ScriptedOrigin::start(|connection, _| {
        while let Some(request) = connection.request() {
            let name = request.target.rsplit('/').next().unwrap_or_default().to_owned();
            let (status, code, more) = match &*name {
                "object" => ("200 OK", "", None),
                "unchanged" => ("304 Not Modified", "", None),
                "precondition" => ("412 Precondition Failed", "PreconditionFailed", None),
                "range" => (
                    "416 Requested Range Not Satisfiable",
                    "InvalidRange",
                    Some(("Content-Range", "bytes */7")),
                ),
                "denied" => ("403 Forbidden", "AccessDenied", None),
                "ours" => ("403 Forbidden", "InvalidAccessKeyId", None),
                "bad" => ("400 Bad Request", "InvalidArgument", None),
                "slow" => ("503 Slow Down", "SlowDown", Some(("Retry-After", "7"))),
                "method" => {
                    ("405 Method Not Allowed", "MethodNotAllowed", Some(("Allow", "DELETE")))
                }
                "broken" => ("500 Internal Server Error", "InternalError", None),
                "moved" => (
                    "301 Moved Permanently",
                    "PermanentRedirect",
                    Some(("Location", "https://hidden-bucket.s3.example/hidden-prefix/x")),
                ),
                _ => ("404 Not Found", "NoSuchKey", None),
            };
            let mut fields = vec![
                ("Server", "AmazonS3"),
                ("x-amz-request-id", "MARK"),
                ("x-amz-bucket-region", "MARK"),
                ("X-Minio-Error-Desc", "MARK"),
                ("ETag", "\"e\""),
            ];
            fields.extend(more);
            let body = match code {
                "" => b"abc".to_vec(),
                code => error_of_s3(code),
            };
            let is_bodiless = request.method == "HEAD" || name == "unchanged";
            connection.respond(status, &fields, if is_bodiless { b"" } else { &body });
        }
    })
}

#[test]
fn a_hidden_s3_shows_in_no_field_and_no_body() {
    let origin = s3();
    let proxy = Proxy::start(&hiding(&origin));
    let mut client = proxy.client();
    for (name, status, code) in [
        ("missing", 404, "not_found"),
        ("denied", 403, "access_denied"),
        ("precondition", 412, "precondition_failed"),
        ("range", 416, "range_not_satisfiable"),
        ("bad", 400, "request_refused"),
        ("slow", 503, "slow_down"),
        ("broken", 500, "storage_error"),
        ("method", 405, "request_refused"),
        ("moved", 301, "moved"),
        // As ever: this is no error of the client's.
        ("ours", 502, "upstream_credentials"),
    ] {
        let target = format!("/products/{name}");
        let response = client.get(&target);
        response.assert_fault(status, code);
        assert_eq!(response.header("content-type"), Some("application/json"));
        assert_eq!(response.header("etag"), None, "of the object, not of the error");
        let shown = format!("{response:?}").to_lowercase();
        for told in ["hidden", "mark", "amz", "amazon", "xml"] {
            assert!(!shown.contains(told), "{told}: {shown}");
        }
        let head = client.request("HEAD", &target, &[]);
        if name != "ours" {
            assert_eq!(head.status, status, "{head:?}");
            assert_eq!(head.header("content-length"), response.header("content-length"));
            assert_eq!(head.header("content-type"), response.header("content-type"));
            assert!(!format!("{head:?}").to_lowercase().contains("mark"), "{head:?}");
        }
    }
    // What a client needs of an error (RFC 9110 section 15.5.17).
    assert_eq!(client.get("/products/range").header("content-range"), Some("bytes */7"));
    assert_eq!(client.get("/products/slow").header("retry-after"), Some("7"));
    // RFC 9110 section 15.5.6
    assert_eq!(client.get("/products/method").header("allow"), Some("DELETE"));
    assert_eq!(client.get("/products/moved").header("location"), None);
    for (name, status) in [("object", 200), ("unchanged", 304)] {
        let response = client.get(&format!("/products/{name}"));
        assert_eq!((response.status, response.header("etag")), (status, Some("\"e\"")));
        assert!(!format!("{response:?}").contains("MARK"), "{response:?}");
        assert_eq!(response.header("server"), None);
    }
    // Errors were read to their ends, so all of it went over one connection.
    assert_eq!(origin.accepted(), 1);
    let series = "http_requests_total{bucket=\"products\",method=\"GET\",status=\"404\"}";
    assert_eq!(proxy.metric(&format!("yatagarasu_{series}")), Some(1.0));
}

#[test]
fn an_error_of_s3_that_is_too_long_is_hidden_all_the_same() {
    // Enough to fill all buffers, should somebody read it.
    const CHUNKS: usize = 8_192;

    let origin = ScriptedOrigin::start(|connection, _| {
        connection.expect_request();
        connection.send("HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = format!("1000\r\n{}\r\n", "x".repeat(4_096));
        let _ = (0..CHUNKS).all(|_| connection.try_send(&chunk));
    });
    let proxy = Proxy::start(&hiding(&origin));
    let mut client = proxy.client();
    client.get("/products/x").assert_fault(404, "not_found");
    assert_eq!(client.get("/health").status, 200);
    origin.wait_open_after_first(0);
}

#[test]
fn an_error_of_s3_that_is_cut_is_an_error_of_the_connection() {
    let origin = ScriptedOrigin::start(|connection, _| {
        if connection.request().is_some() {
            connection.send("HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\n<Error>");
        }
    });
    let proxy = Proxy::start(&hiding(&origin));
    proxy.get("/products/x").assert_fault(502, "upstream_protocol_error");
}

#[test]
fn http2_has_the_same_fields_and_bodies() {
    let origin = s3();
    let config = hiding(&origin)
        .set("server.http2.cleartext", true)
        .set("server.headers", security())
        .set("buckets.0.headers.set", json!({ "Cache-Control": "max-age=9" }));
    let proxy = Proxy::start(&config);
    let client = Http2Client::connect(proxy.address());
    let object = client.get("/products/object");
    assert_eq!((object.status.as_u16(), &*object.body), (200, &b"abc"[..]));
    assert_eq!(object.header("cache-control"), Some("max-age=9"));
    let missing = client.get("/products/missing");
    assert_eq!((missing.status.as_u16(), missing.code()), (404, "not_found".to_owned()));
    assert_eq!(missing.header("cache-control"), Some("no-store"));
    for reply in [object, missing, client.get("/health"), client.get("/nowhere")] {
        assert_eq!(reply.header("x-frame-options"), Some("DENY"));
        assert_eq!(reply.header("server"), None);
        assert_eq!(reply.header("x-amz-request-id"), None);
        assert_eq!(reply.header("strict-transport-security"), None);
    }
}

#[test]
fn a_reload_changes_fields_on_the_same_connection() {
    let origin = ScriptedOrigin::always(response_bytes("200 OK", &OF_S3, b"x"));
    let config = Config::products(origin.url()).with_jwt(&[]);
    let proxy = Proxy::start(&config);
    let mut client: Client = proxy.client();
    let mut seen = |target: &str| {
        let response = client.get(target);
        (response.header("server").is_some(), response.header("x-a").map(str::to_owned))
    };
    assert_eq!(seen("/products/x"), (true, None));
    let all = config.clone().set("server.headers.set", json!({ "X-A": "all" }));
    adopt(&proxy, &all);
    assert_eq!(seen("/products/x"), (true, Some("all".to_owned())));
    assert_eq!(seen("/health"), (false, Some("all".to_owned())));
    adopt(&proxy, &all.set("buckets.0.headers.set", json!({ "X-A": "own" })));
    assert_eq!(seen("/products/x"), (true, Some("own".to_owned())));
    assert_eq!(seen("/health"), (false, Some("all".to_owned())));
    adopt(&proxy, &config.clone().set("buckets.0.hide_s3", true));
    assert_eq!(seen("/products/x"), (false, None));
    adopt(&proxy, &config);
    assert_eq!(seen("/products/x"), (true, None));
    assert_eq!(seen("/health"), (false, None));
}
