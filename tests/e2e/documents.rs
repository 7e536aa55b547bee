//! Documents of a website: indexes, redirects to directories, single-page applications and error
//! pages.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::{
    config::{ACCESS_KEY, Config},
    gate::Gate,
    http2_client::{Http2Client, get},
    proxy::Proxy,
    raw_client::{Client, Response, request_bytes},
    reload::{adopt, config_of},
    s3_server::S3Server,
    scripted_origin::{OriginConnection, Request, ScriptedOrigin, response_bytes},
    token::{JWT_SECRET, bearer, mint, unix_now},
    waiting::wait_until,
};

const BROWSER: (&str, &str) = ("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8");

/// Fields of every object of [`bucket_of`].
const FIELDS: [(&str, &str); 5] = [
    ("Content-Type", "text/html"),
    ("ETag", "\"etag\""),
    ("Last-Modified", "Sun, 29 Nov 2026 08:00:00 GMT"),
    ("Accept-Ranges", "bytes"),
    ("Cache-Control", "max-age=31536000"),
];

/// An error document of S3 about the object of this target.
fn missing(target: &str) -> String {
    format!("<Error><Code>NoSuchKey</Code><Key>{target}</Key></Error>")
}

/// Answers as S3 does: with an object, or with 404.
fn answer(conn: &mut OriginConnection, request: &Request, objects: &HashMap<String, String>) {
    let (status, body) = match objects.get(&request.target) {
        Some(_) if request.fields.get("if-none-match") == Some("\"etag\"") => {
            conn.send("HTTP/1.1 304 Not Modified\r\nETag: \"etag\"\r\n\r\n");
            return;
        }
        Some(body) if request.fields.has("range") => ("206 Partial Content", body.clone()),
        Some(body) => ("200 OK", body.clone()),
        None => ("404 Not Found", missing(&request.target)),
    };
    let fields: &[_] = if objects.contains_key(&request.target) { &FIELDS } else { &[] };
    let mut bytes = response_bytes(status, fields, body.as_bytes());
    if request.method == "HEAD" {
        bytes.truncate(bytes.len() - body.len());
    }
    conn.send(bytes);
}

/// The bucket `products` with these objects.
fn bucket_of(objects: &[(&str, &str)]) -> ScriptedOrigin {
    let objects: HashMap<_, _> = objects
        .iter()
        .map(|(key, body)| (format!("/products/{key}"), (*body).to_owned()))
        .collect();
    ScriptedOrigin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            answer(conn, &request, &objects);
        }
    })
}

/// The bucket under `/products` with these keys.
fn with(endpoint: impl Into<String>, keys: &[(&str, Value)]) -> Config {
    keys.iter().fold(Config::products(endpoint), |config, (key, value)| {
        config.set(&format!("buckets.0.{key}"), value.clone())
    })
}

fn index() -> (&'static str, Value) {
    ("index", "index.html".into())
}

/// An error page for 404.
fn page() -> (&'static str, Value) {
    ("error_pages", json!({ "404": "/404.html" }))
}

/// Methods and targets, in order.
fn asked(origin: &ScriptedOrigin) -> Vec<String> {
    origin.requests().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect()
}

#[track_caller]
fn assert_redirect(response: &Response, location: &str) {
    assert_eq!(response.status, 308, "{response:?}");
    assert_eq!(response.header("location"), Some(location));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    assert_eq!(response.header("content-length"), Some("0"));
    assert!(response.header("x-request-id").is_some());
}

#[test]
fn a_directory_is_its_index() {
    let s3 = S3Server::with_test_keys();
    s3.put("products", "index.html", "home");
    s3.put("products", "a b/index.html", "inner");
    let proxy = Proxy::start(&with(s3.url(), &[index()]));
    let mut client = proxy.client();
    assert_eq!(client.get("/products/").text(), "home");
    assert_eq!(client.get("/products/a%20b/").text(), "inner");
    assert_eq!(client.get("/products/a%20b%2F?v=1").text(), "inner");
    let part = client.request("GET", "/products/", &[("Range", "bytes=1-2")]);
    assert_eq!((part.status, part.text()), (206, "om"));
    let head = client.request("HEAD", "/products/a%20b/", &[]);
    assert_eq!((head.status, head.header("content-length")), (200, Some("5")));
    let nothing = client.get("/products/empty/");
    assert_eq!(nothing.status, 404);
    assert!(nothing.text().contains("NoSuchKey"), "{nothing:?}");
    assert_eq!(s3.requests().len(), 6, "one request each");
    for bad in ["/products/../", "/products/./", "/products/%2e%2e/"] {
        client.get(bad).assert_fault(400, "bad_path");
    }
}

#[test]
fn without_an_index_a_directory_is_no_object() {
    let origin = bucket_of(&[("index.html", "home"), ("404.html", "page")]);
    let proxy = Proxy::start(&with(origin.url(), &[page()]));
    for path in ["/products", "/products/"] {
        proxy.get(path).assert_fault(404, "no_key");
    }
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn an_index_counts_for_the_length_of_a_key() {
    let origin = bucket_of(&[]);
    let proxy = Proxy::start(&with(origin.url(), &[index()]));
    let directory = |length: usize| format!("/products/{}/", "k".repeat(length - 1));
    let longest = 1_024 - "index.html".len();
    assert_eq!(proxy.get(&directory(longest)).status, 404);
    proxy.get(&directory(longest + 1)).assert_fault(400, "key_too_long");
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_prefix_without_its_slash_is_redirected_without_s3() {
    let origin = bucket_of(&[]);
    let proxy = Proxy::start(&with(origin.url(), &[index()]));
    let mut client = proxy.client();
    assert_redirect(&client.get("/products"), "/products/");
    assert_redirect(&client.get("/pro%64ucts?a=%20b&c"), "/products/?a=%20b&c");
    let head = client.request("HEAD", "/products?", &[]);
    assert_redirect(&head, "/products/?");
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn a_name_is_redirected_to_the_directory_that_has_an_index() {
    let origin = bucket_of(&[("docs/index.html", "docs"), ("file", "file"), ("ü/index.html", "ü")]);
    let keys = [index(), ("redirect_directories", true.into())];
    let proxy = Proxy::start(&with(origin.url(), &keys));
    let mut client = proxy.client();
    assert_redirect(&client.get("/products/docs?x=1&y"), "/products/docs/?x=1&y");
    assert_redirect(&client.request("HEAD", "/products/docs", &[]), "/products/docs/");
    let conditional = [("If-None-Match", "\"etag\""), ("Range", "bytes=0-1")];
    assert_redirect(&client.request("GET", "/products/docs", &conditional), "/products/docs/");
    assert_eq!(client.get("/products/file").text(), "file");
    let nothing = client.get("/products/nothing");
    assert_eq!((nothing.status, nothing.text()), (404, &*missing("/products/nothing")));
    let nothing = client.get("/products/none/");
    assert_eq!((nothing.status, nothing.text()), (404, &*missing("/products/none/index.html")));
    assert_eq!(
        asked(&origin),
        [
            "GET /products/docs",
            "HEAD /products/docs/index.html",
            "HEAD /products/docs",
            "HEAD /products/docs/index.html",
            "GET /products/docs",
            "HEAD /products/docs/index.html",
            "GET /products/file",
            "GET /products/nothing",
            "HEAD /products/nothing/index.html",
            "GET /products/none/index.html",
        ]
    );
    assert!(
        origin
            .requests()
            .iter()
            .filter(|seen| seen.method == "HEAD")
            .all(|seen| { !seen.fields.has("if-none-match") && !seen.fields.has("range") })
    );
    assert_eq!(origin.accepted(), 1, "one connection serves them all");
}

#[test]
fn a_prefix_of_keys_stands_before_every_document_and_shows_in_no_redirect() {
    let objects =
        [("hidden/docs/index.html", "docs"), ("hidden/404.html", "page"), ("docs/index.html", "x")];
    let origin = bucket_of(&objects);
    let keys = [
        index(),
        page(),
        ("redirect_directories", true.into()),
        ("s3.key_prefix", "hidden/".into()),
    ];
    let proxy = Proxy::start(&with(origin.url(), &keys));
    let mut client = proxy.client();
    assert_redirect(&client.get("/products/docs?a=%2F&b"), "/products/docs/?a=%2F&b");
    assert_redirect(&client.get("/products?a"), "/products/?a");
    assert_eq!(client.get("/products/docs/?a=%2F&b").text(), "docs");
    let error = client.get("/products/x?a");
    assert_eq!((error.status, error.text()), (404, "page"));
    assert_eq!(
        asked(&origin),
        [
            "GET /products/hidden/docs",
            "HEAD /products/hidden/docs/index.html",
            "GET /products/hidden/docs/index.html",
            "GET /products/hidden/x",
            "HEAD /products/hidden/x/index.html",
            "GET /products/hidden/404.html",
        ]
    );
}

#[test]
fn a_redirect_never_leads_to_another_host() {
    let origin = ScriptedOrigin::start(|conn, _| {
        while let Some(request) = conn.request() {
            let is_index = request.target.ends_with("/index.html");
            let status = if is_index { "200 OK" } else { "404 Not Found" };
            let body = if request.method == "HEAD" { "" } else { &*request.target };
            conn.respond(status, &[], body.as_bytes());
        }
    });
    let keys = [index(), ("redirect_directories", true.into()), ("path_prefix", "/".into())];
    let proxy = Proxy::start(&with(origin.url(), &keys));
    for (path, location) in [
        ("//evil.test/a", "/%2Fevil.test/a/"),
        ("///evil.test", "/%2F/evil.test/"),
        ("/%2Fevil.test", "/%2Fevil.test/"),
        ("/%2f%2fevil.test", "/%2F/evil.test/"),
        ("/\\evil.test", "/%5Cevil.test/"),
        ("/%5c/evil.test", "/%5C/evil.test/"),
        ("http://evil.test//a", "/%2Fa/"),
    ] {
        let redirect = proxy.get(path);
        assert_redirect(&redirect, location);
        // It names the same directory.
        let index = proxy.get(location);
        assert_eq!(index.status, 200, "{location}");
        assert!(index.text().ends_with("/index.html"), "{index:?}");
    }
}

#[test]
fn an_application_answers_for_missing_objects_that_html_is_asked_for() {
    let s3 = S3Server::with_test_keys();
    s3.put("products", "app.html", "the app");
    s3.put("products", "data.json", "{}");
    let proxy = Proxy::start(&with(s3.url(), &[("spa", "app.html".into())]));
    let mut client = proxy.client();
    let page = client.request("GET", "/products/some/route", &[BROWSER]);
    assert_eq!((page.status, page.text(), &*page.reason), (200, "the app", "OK"));
    assert_eq!(page.header("vary"), Some("Accept"));
    let head = client.request("HEAD", "/products/some/route", &[BROWSER]);
    assert_eq!((head.status, head.header("content-length")), (200, Some("7")));
    for accept in ["*/*", "application/json", "text/html;q=0"] {
        let data = client.request("GET", "/products/some/route", &[("Accept", accept)]);
        assert_eq!((data.status, data.header("vary")), (404, Some("Accept")), "{accept}");
        assert!(data.text().contains("NoSuchKey"), "{data:?}");
    }
    let found = client.request("GET", "/products/data.json", &[BROWSER]);
    assert_eq!((found.status, found.text(), found.header("vary")), (200, "{}", None));
    assert_eq!(s3.requests().len(), 2 + 2 + 3 + 1);
    assert_eq!(s3.connections(), 1);
}

#[test]
fn a_client_that_has_the_document_of_an_application_need_not_load_it_again() {
    let origin = bucket_of(&[("app.html", "the app")]);
    let proxy = Proxy::start(&with(origin.url(), &[("spa", "app.html".into())]));
    let mut client = proxy.client();
    let full = client.request("GET", "/products/route", &[BROWSER]);
    assert_eq!((full.status, full.header("etag")), (200, Some("\"etag\"")));
    let fields = [
        BROWSER,
        ("If-None-Match", "\"etag\""),
        ("If-Modified-Since", "Sun, 29 Nov 2026 09:00:00 GMT"),
    ];
    let unchanged = client.request("GET", "/products/route", &fields);
    assert_eq!((unchanged.status, unchanged.header("vary")), (304, Some("Accept")));
    let fields = [
        BROWSER,
        ("Range", "bytes=0-1"),
        ("If-Range", "\"etag\""),
        ("If-Match", "\"other\""),
        ("If-Modified-Since", "Sun, 29 Nov 2026 09:00:00 GMT"),
        ("If-Unmodified-Since", "Sun, 29 Nov 2020 09:00:00 GMT"),
    ];
    let whole = client.request("GET", "/products/route", &fields);
    assert_eq!((whole.status, whole.text()), (200, "the app"));
    let requests = origin.requests();
    let (first, second) = (&requests[4], &requests[5]);
    for (name, _) in &fields[1..] {
        assert!(first.fields.has(name), "{name} is for the object");
        assert!(!second.fields.has(name), "{name} is not for the document");
    }
}

#[test]
fn an_error_page_has_the_status_of_the_error_and_nothing_of_an_object() {
    let origin = bucket_of(&[("404.html", "not here"), ("there", "there")]);
    let proxy = Proxy::start(&with(origin.url(), &[page()]));
    let mut client = proxy.client();
    let fields = [
        ("Range", "bytes=0-1"),
        ("If-None-Match", "\"etag\""),
        ("If-Match", "\"etag\""),
        ("If-Modified-Since", "Sun, 29 Nov 2026 09:00:00 GMT"),
        ("If-Unmodified-Since", "Sun, 29 Nov 2020 09:00:00 GMT"),
        ("If-Range", "\"etag\""),
    ];
    for (method, fields) in [("GET", &[][..]), ("GET", &fields), ("HEAD", &[]), ("HEAD", &fields)] {
        let error = client.request(method, "/products/x", fields);
        assert_eq!((error.status, &*error.reason), (404, "Not Found"), "{error:?}");
        assert_eq!(error.text(), if method == "HEAD" { "" } else { "not here" });
        assert_eq!(error.header("content-length"), Some("8"));
        assert_eq!(error.header("content-type"), Some("text/html"));
        assert_eq!(error.header("cache-control"), Some("no-store"));
        for name in ["etag", "last-modified", "accept-ranges", "content-range", "vary"] {
            assert_eq!(error.header(name), None, "{name}");
        }
        let requests = origin.requests();
        let [.., first, second] = &requests[..] else { panic!("{requests:?}") };
        assert_eq!((&*first.method, &*first.target), (method, "/products/x"));
        assert_eq!((&*second.method, &*second.target), (method, "/products/404.html"));
        assert!(fields.iter().all(|(name, _)| first.fields.has(name)));
        assert!(!fields.iter().any(|(name, _)| second.fields.has(name)));
    }
    let there = client.get("/products/there");
    assert_eq!((there.status, there.header("etag")), (200, Some("\"etag\"")));
    let itself = client.get("/products/404.html");
    assert_eq!((itself.status, itself.header("etag")), (200, Some("\"etag\"")));
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn an_error_page_that_is_missing_leaves_the_error_as_it_was() {
    let origin = bucket_of(&[]);
    let proxy = Proxy::start(&with(origin.url(), &[page(), ("spa", "app.html".into())]));
    let mut client = proxy.client();
    let error = client.get("/products/x");
    assert_eq!((error.status, error.text()), (404, &*missing("/products/x")));
    let error = client.request("GET", "/products/y", &[BROWSER]);
    assert_eq!((error.status, error.text()), (404, &*missing("/products/y")));
    let head = client.request("HEAD", "/products/z", &[]);
    let length = missing("/products/z").len().to_string();
    assert_eq!((head.status, head.header("content-length")), (404, Some(&*length)));
    // What was asked for is not asked for once more.
    assert_eq!(client.get("/products/404.html").text(), missing("/products/404.html"));
    assert_eq!(
        asked(&origin),
        [
            "GET /products/x",
            "GET /products/404.html",
            "GET /products/y",
            "GET /products/app.html",
            "HEAD /products/z",
            "HEAD /products/404.html",
            "GET /products/404.html",
        ]
    );
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn a_second_request_that_fails_leaves_the_error_as_it_was() {
    let origin = ScriptedOrigin::start(|conn, _| {
        while let Some(request) = conn.request() {
            match &*request.target {
                "/products/cut" => conn.respond("404 Not Found", &[], b"first"),
                "/products/404.html" => return,
                _ => conn.respond("500 Internal Server Error", &[], b"broken"),
            }
        }
    });
    let pages = json!({ "404": "/404.html", "500": "/500.html" });
    let proxy = Proxy::start(&with(origin.url(), &[("error_pages", pages)]));
    let mut client = proxy.client();
    let error = client.get("/products/cut");
    assert_eq!((error.status, error.text()), (404, "first"));
    let error = client.get("/products/x");
    assert_eq!((error.status, error.text()), (500, "broken"));
    let failed = "yatagarasu_upstream_errors_total{bucket=\"products\",reason=\"reset\"}";
    assert_eq!(proxy.metric(failed), Some(1.0));
}

#[test]
fn a_page_that_is_cut_short_never_looks_whole() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.respond("404 Not Found", &[], b"first");
        conn.expect_request();
        conn.send(format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 400000\r\n\r\n{}",
            "x".repeat(99_999)
        ));
    });
    let proxy = Proxy::start(&with(origin.url(), &[page()]));
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/x", &[]));
    let cut = client.try_response("GET").expect_err("a cut response");
    if let Some(response) = cut.response {
        assert_eq!((response.status, response.header("content-length")), (404, Some("400000")));
    }
}

#[test]
fn a_long_error_body_is_not_read_for_a_page_and_not_lost_without_one() {
    let long = "e".repeat(300_000);
    let body = long.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            match &*request.target {
                "/products/404.html" => conn.respond("200 OK", &[], b"page"),
                "/products/410.html" => conn.respond("404 Not Found", &[], body.as_bytes()),
                "/products/gone" => conn.respond("410 Gone", &[], body.as_bytes()),
                _ if !conn.try_send(response_bytes("404 Not Found", &[], body.as_bytes())) => {
                    return;
                }
                _ => {}
            }
        }
    });
    let pages = json!({ "404": "/404.html", "410": "/410.html" });
    let proxy = Proxy::start(&with(origin.url(), &[("error_pages", pages)]));
    let mut client = proxy.client();
    let page = client.get("/products/x");
    assert_eq!((page.status, page.text()), (404, "page"));
    origin.wait_open(1);
    let error = client.get("/products/gone");
    assert_eq!((error.status, error.body.len()), (410, long.len()));
    assert!(error.text() == long);
    assert_eq!(client.get("/products/x").text(), "page", "the pool still serves");
}

#[test]
fn what_means_missing_is_configured() {
    let origin = ScriptedOrigin::start(|conn, _| {
        while let Some(request) = conn.request() {
            let code = |code: &str| format!("<Error><Code>{code}</Code></Error>");
            let (status, body) = match &*request.target {
                "/products/404.html" => ("200 OK", "not here".to_owned()),
                "/products/app.html" => ("200 OK", "the app".to_owned()),
                "/products/dir/index.html" => ("200 OK", String::new()),
                "/products/ours" => ("403 Forbidden", code("SignatureDoesNotMatch")),
                "/products/gone" => ("410 Gone", code("Gone")),
                _ => ("403 Forbidden", code("AccessDenied")),
            };
            let body = if request.method == "HEAD" { "" } else { &*body };
            conn.respond(status, &[], body.as_bytes());
        }
    });
    let keys = [
        index(),
        page(),
        ("redirect_directories", true.into()),
        ("spa", "app.html".into()),
        ("missing", json!([404, 403])),
    ];
    let proxy = Proxy::start(&with(origin.url(), &keys));
    let mut client = proxy.client();
    assert_redirect(&client.get("/products/dir"), "/products/dir/");
    let app = client.request("GET", "/products/x", &[BROWSER]);
    assert_eq!((app.status, app.text()), (200, "the app"));
    let error = client.get("/products/x");
    assert_eq!((error.status, error.text()), (403, "not here"), "S3's own status");
    let gone = client.request("GET", "/products/gone", &[BROWSER]);
    assert_eq!((gone.status, gone.header("vary")), (410, None));
    // A refusal of our credentials never is a missing object.
    let before = origin.requests().len();
    let ours = client.request("GET", "/products/ours", &[BROWSER]);
    ours.assert_fault(502, "upstream_credentials");
    assert!(!format!("{ours:?}").contains(ACCESS_KEY));
    assert_eq!(origin.requests().len(), before + 1);

    let keys = [page(), ("spa", "app.html".into())];
    let proxy = Proxy::start(&with(origin.url(), &keys));
    let denied = proxy.get_with("/products/x", &[BROWSER]);
    assert_eq!(denied.status, 403);
    assert!(denied.text().contains("AccessDenied"), "{denied:?}");
}

#[test]
fn a_page_of_403_is_for_what_s3_denies() {
    let origin = ScriptedOrigin::start(|conn, _| {
        while let Some(request) = conn.request() {
            match &*request.target {
                "/products/denied.html" => conn.respond("200 OK", &[], b"denied"),
                _ => {
                    conn.respond("403 Forbidden", &[], b"<Error><Code>AccessDenied</Code></Error>");
                }
            }
        }
    });
    let pages = json!({ "404": "/404.html", "403": "/denied.html" });
    let keys = [("error_pages", pages), ("missing", json!([404, 403]))];
    let proxy = Proxy::start(&with(origin.url(), &keys));
    let denied = proxy.get("/products/x");
    assert_eq!((denied.status, denied.text()), (403, "denied"));
    assert_eq!(origin.requests().len(), 2);
}

#[test]
fn a_hidden_error_of_s3_gives_way_to_a_page_and_stays_hidden_without_one() {
    let origin = bucket_of(&[("404.html", "not here")]);
    let keys = [page(), ("spa", "app.html".into()), ("hide_s3", true.into())];
    let proxy = Proxy::start(&with(origin.url(), &keys));
    let mut client = proxy.client();
    let error = client.get("/products/x");
    assert_eq!((error.status, error.text()), (404, "not here"));
    let hidden = client.request("GET", "/products/x", &[BROWSER]);
    hidden.assert_fault(404, "not_found");
    assert_eq!(hidden.header("vary"), Some("Accept"));
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn a_version_or_part_that_is_missing_gives_way_to_no_other_object() {
    let objects = [("app.html", "the app"), ("404.html", "not here"), ("dir/index.html", "dir")];
    let origin = bucket_of(&objects);
    let keys = [
        index(),
        page(),
        ("redirect_directories", true.into()),
        ("spa", "app.html".into()),
        ("listing", json!({ "enabled": true })),
        ("allow_query", json!(["versionId", "partNumber"])),
    ];
    let proxy = Proxy::start(&with(origin.url(), &keys));
    let mut client = proxy.client();
    for path in
        ["dir?versionId=1", "route?partNumber=2", "dir/?version%49d=1", "other/?versionId=1"]
    {
        let error = client.request("GET", &format!("/products/{path}"), &[BROWSER]);
        assert_eq!((error.status, error.text()), (404, "not here"), "{path}");
    }
    assert_eq!(client.request("GET", "/products/route", &[BROWSER]).text(), "the app");
}

#[test]
fn an_error_page_keeps_what_the_error_demands() {
    let origin = ScriptedOrigin::start(|conn, _| {
        while let Some(request) = conn.request() {
            match &*request.target {
                "/products/e.html" => conn.respond("200 OK", &[], b"page"),
                "/products/range" => conn.respond(
                    "416 Range Not Satisfiable",
                    &[("Content-Range", "bytes */7")],
                    b"",
                ),
                _ => conn.respond("503 Slow Down", &[("Retry-After", "7")], b""),
            }
        }
    });
    let pages = json!({ "416": "/e.html", "503": "/e.html" });
    let config = with(origin.url(), &[("error_pages", pages)]);
    for config in [config.clone().set("buckets.0.hide_s3", true), config] {
        let proxy = Proxy::start(&config);
        let range = proxy.get("/products/range");
        assert_eq!((range.status, range.text()), (416, "page"));
        assert_eq!(range.fields.all("content-range"), ["bytes */7"]);
        let busy = proxy.get("/products/busy");
        assert_eq!((busy.status, busy.fields.all("retry-after")), (503, vec!["7"]));
    }
}

#[test]
fn no_token_no_page() {
    let origin = bucket_of(&[
        ("team/index.html", "team"),
        ("404.html", "not here"),
        ("index.html", "home"),
        ("app.html", "the app"),
    ]);
    let keys = [index(), page(), ("redirect_directories", true.into()), ("spa", "app.html".into())];
    let rule = json!([{ "claim": "dir", "operator": "path_prefix" }]);
    let config = with(origin.url(), &keys)
        .with_jwt(&["products"])
        .set("buckets.0.auth.claims", rule)
        .set("jwt.token_sources", json!([{ "type": "bearer" }, { "type": "query", "name": "t" }]));
    let proxy = Proxy::start(&config);
    for path in ["/products", "/products/", "/products/x", "/products/team/", "/products/team"] {
        let refused = proxy.get_with(path, &[BROWSER]);
        refused.assert_fault(401, "missing_token");
    }
    let of = |dir: &str| mint(JWT_SECRET, &json!({ "dir": dir, "exp": unix_now() + 3_600 }));
    let token = of("team");
    let authorization = bearer(&token);
    let fields = [BROWSER, ("Authorization", authorization.as_str())];
    for path in ["/products", "/products/", "/products/x", "/products/index.html"] {
        proxy.get_with(path, &fields).assert_fault(403, "claims_refused");
    }
    assert_eq!(origin.accepted(), 0, "nothing was asked for");

    let team = proxy.get_with("/products/team/", &fields);
    assert_eq!((team.status, team.text()), (200, "team"));
    assert_redirect(&proxy.get_with("/products/team", &fields), "/products/team/");
    let app = proxy.get_with("/products/team/x", &fields);
    assert_eq!((app.status, app.text()), (200, "the app"), "whoever may ask may see the document");
    let error = proxy.get_with("/products/team/x", &fields[1..]);
    assert_eq!((error.status, error.text()), (404, "not here"));

    // A token in the query stays with the client that sent it.
    let location = format!("/products/team/?t={token}&x=1");
    assert_redirect(&proxy.get(&format!("/products/team?t={token}&x=1")), &location);
    assert_eq!(proxy.get(&location).text(), "team");
    assert!(!origin.received().contains(&token));
    wait_until("the record", || proxy.stdout().text().contains("\"status\":308"));
    assert!(!proxy.output().contains(&token));
}

#[test]
fn nothing_takes_more_than_one_more_request() {
    let origin = bucket_of(&[]);
    let keys = [
        index(),
        ("redirect_directories", true.into()),
        ("spa", "app.html".into()),
        ("error_pages", json!({ "404": "/404.html" })),
    ];
    let proxy = Proxy::start(&with(origin.url(), &keys));
    let mut client = proxy.client();
    assert_eq!(client.request("GET", "/products/x", &[BROWSER]).text(), missing("/products/x"));
    let asked_for = ["GET /products/x", "HEAD /products/x/index.html", "GET /products/app.html"];
    assert_eq!(asked(&origin), asked_for);
    let longest = format!("/products/{}", "k".repeat(1_024));
    assert_eq!(client.get(&longest).status, 404);
    let second = &asked(&origin)[3..];
    assert_eq!(second, [format!("GET {longest}"), "GET /products/404.html".to_owned()]);
    let series = |status: u16| {
        format!("yatagarasu_upstream_requests_total{{bucket=\"products\",status=\"{status}\"}}")
    };
    assert_eq!(proxy.metric(&series(404)), Some(5.0));
}

#[test]
fn the_record_has_the_status_that_the_client_got_and_the_time_of_both_requests() {
    let gates = [Gate::default(), Gate::default()];
    let held = gates.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            let is_page = request.target == "/products/404.html";
            conn.wait(&held[usize::from(is_page)]);
            let status = if is_page { "200 OK" } else { "404 Not Found" };
            conn.respond(status, &[], b"not here");
        }
    });
    let proxy = Proxy::start(&with(origin.url(), &[page(), ("spa", "404.html".into())]));
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/x", &[]));
    let mut waited = Duration::ZERO;
    for (at, gate) in gates.iter().enumerate() {
        wait_until("the request", || origin.requests().len() == at + 1);
        let since = Instant::now();
        // Takes its time.
        proxy.metrics();
        waited += since.elapsed();
        gate.open();
    }
    assert_eq!(client.response("GET").status, 404);
    assert_eq!(client.request("GET", "/products/x", &[BROWSER]).status, 200);
    wait_until("two records", || {
        proxy.stdout().records().iter().filter(|record| record["bucket"] == "products").count() == 2
    });
    let mut records = proxy.stdout().records();
    records.retain(|record| record["bucket"] == "products");
    assert_eq!((&records[0]["status"], &records[0]["bytes"]), (&json!(404), &json!(8)));
    assert_eq!(records[0]["code"], Value::Null);
    let upstream_ms = records[0]["upstream_ms"].as_f64().unwrap();
    assert!(upstream_ms >= waited.as_secs_f64() * 1_000.0 - 0.01, "{waited:?}: {}", records[0]);
    assert_eq!((&records[1]["status"], &records[1]["path"]), (&json!(200), &json!("/products/x")));
}

#[test]
fn documents_are_the_same_over_http2() {
    let objects =
        [("404.html", "not here"), ("app.html", "the app"), ("docs/index.html", "the docs")];
    let origin = bucket_of(&objects);
    let keys = [index(), page(), ("redirect_directories", true.into()), ("spa", "app.html".into())];
    let config = with(origin.url(), &keys).set("server.http2.cleartext", true);
    let proxy = Proxy::start(&config);
    let client = Http2Client::connect(proxy.address());
    let index = client.get("/products/docs/");
    assert_eq!((index.status.as_u16(), &*index.body), (200, &b"the docs"[..]));
    let redirect = client.get("/products/docs?a");
    assert_eq!(
        (redirect.status.as_u16(), redirect.header("location")),
        (308, Some("/products/docs/?a"))
    );
    let error = client.get("/products/x");
    assert_eq!((error.status.as_u16(), &*error.body), (404, &b"not here"[..]));
    assert_eq!((error.header("content-length"), error.header("etag")), (Some("8"), None));
    let mut request = get("/products/x");
    request.headers_mut().insert("accept", "text/html".parse().unwrap());
    let app = client.request(request.clone());
    assert_eq!((app.status.as_u16(), &*app.body), (200, &b"the app"[..]));
    assert_eq!(app.header("vary"), Some("Accept"));
    *request.method_mut() = http::Method::HEAD;
    let head = client.request(request);
    assert_eq!((head.status.as_u16(), head.header("content-length")), (200, Some("7")));
    assert_eq!(head.body, b"");
}

#[test]
fn documents_change_with_a_reload() {
    let origin = bucket_of(&[("404.html", "old"), ("new.html", "new"), ("index.html", "home")]);
    let plain = config_of(origin.url());
    let proxy = Proxy::start(&plain);
    let mut client = proxy.client();
    client.get("/products/").assert_fault(404, "no_key");
    let pages = |path: &str| json!({ "404": path });
    let first = plain
        .clone()
        .set("buckets.0.index", "index.html")
        .set("buckets.0.error_pages", pages("/404.html"));
    let report = adopt(&proxy, &first);
    let applied = json!(["buckets[products].index", "buckets[products].error_pages"]);
    assert_eq!(report["applied"], applied);
    assert_eq!(client.get("/products/").text(), "home");
    assert_eq!(client.get("/products/x").text(), "old");
    adopt(&proxy, &first.set("buckets.0.error_pages", pages("/new.html")));
    assert_eq!(client.get("/products/x").text(), "new");
    adopt(&proxy, &plain);
    client.get("/products/").assert_fault(404, "no_key");
    assert_eq!(client.get("/products/x").text(), missing("/products/x"));
}

#[test]
fn a_client_that_leaves_ends_the_second_request() {
    let origin = ScriptedOrigin::start(|conn, _| {
        while let Some(request) = conn.request() {
            match &*request.target {
                "/products/404.html" => return conn.wait_closed(),
                _ => conn.respond("404 Not Found", &[], b"first"),
            }
        }
    });
    let proxy = Proxy::start(&with(origin.url(), &[page()]));
    let mut client = Client::connect(proxy.address());
    client.send(request_bytes("GET", "/products/x", &[]));
    wait_until("the second request", || origin.requests().len() == 2);
    client.reset();
    origin.wait_open(0);
    wait_until("the record", || !proxy.stdout().records().is_empty());
    assert_eq!(proxy.stdout().records()[0]["aborted"], true);
}
