//! Compression of documents of a website: indexes, applications and error pages, together with the
//! other rules for browsers.

use std::collections::HashMap;

use serde_json::{Value, json};

use crate::support::{
    config::Config,
    decode::{CODINGS, decode_all, page},
    http2_client::{Http2Client, get},
    proxy::Proxy,
    raw_client::{Framing, Response},
    scripted_origin::{ScriptedOrigin, response_bytes},
};

const BROWSER: (&str, &str) = ("Accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8");
const APP: &str = "https://app.example.com";

/// Length of every document, in bytes.
const LENGTH: usize = 30_000;

/// A website of documents with the tag `"etag"`, which knows conditions.
fn website() -> ScriptedOrigin {
    let keys = ["docs/index.html", "app.html", "404.html"];
    let documents: HashMap<_, _> =
        keys.iter().map(|key| (format!("/products/{key}"), page(LENGTH))).collect();
    ScriptedOrigin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            let fields = [("Content-Type", "text/html"), ("ETag", "\"etag\""), ("Vary", "X-S3")];
            let Some(body) = documents.get(&request.target) else {
                conn.respond("404 Not Found", &[], b"");
                continue;
            };
            if request.fields.get("if-none-match") == Some("\"etag\"") {
                conn.send("HTTP/1.1 304 Not Modified\r\nETag: \"etag\"\r\nVary: X-S3\r\n\r\n");
            } else if request.method == "HEAD" {
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: \"etag\"\r\n";
                conn.send(format!("{head}Vary: X-S3\r\nContent-Length: {}\r\n\r\n", body.len()));
            } else {
                conn.respond("200 OK", &fields, body);
            }
        }
    })
}

fn compressing(origin: &ScriptedOrigin, keys: &[(&str, Value)]) -> Config {
    let config = Config::products(origin.url());
    let config = config.set("buckets.0.compress", json!({ "types": ["text/html"] }));
    keys.iter()
        .fold(config, |config, (key, value)| config.set(&format!("buckets.0.{key}"), value.clone()))
}

/// A document in a coding, with a tag of its own; without its body if that is for HEAD.
#[track_caller]
fn assert_coded(response: &Response, coding: &str, is_head: bool) {
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("content-encoding"), Some(coding), "{:?}", response.fields);
    assert_eq!(response.header("etag"), Some(&*format!("W/\"etag-{coding}\"")));
    assert_eq!(response.header("content-length"), None);
    if is_head {
        assert!(response.body.is_empty());
    } else {
        assert_eq!(decode_all(coding, &response.body), page(LENGTH));
    }
}

/// The target in every coding, by GET and HEAD, and what a client gets that has it.
fn assert_coded_document(origin: &ScriptedOrigin, proxy: &Proxy, target: &str, vary: &str) {
    let mut client = proxy.client();
    for coding in CODINGS {
        let accepts = ("Accept-Encoding", coding);
        for method in ["GET", "HEAD"] {
            let response = client.request(method, target, &[BROWSER, accepts]);
            assert_coded(&response, coding, method == "HEAD");
            assert_eq!(response.fields.all("vary"), [vary], "{method}");
            let tag = response.header("etag").unwrap().to_owned();
            let held = [BROWSER, accepts, ("If-None-Match", tag.as_str())];
            let unchanged = client.request(method, target, &held);
            assert_eq!((unchanged.status, unchanged.body.len()), (304, 0), "{method} {coding}");
            assert_eq!(unchanged.header("etag"), Some(&*tag));
            assert_eq!(unchanged.header("content-encoding"), None);
            assert_eq!(unchanged.fields.all("vary"), [vary]);
            let asked = origin.requests().pop().unwrap();
            assert_eq!(asked.fields.get("if-none-match"), Some("\"etag\""), "without its mark");
        }
    }
    let plain = client.request("GET", target, &[BROWSER]);
    assert_eq!((plain.status, plain.framing), (200, Framing::Length(LENGTH as u64)));
    assert_eq!((plain.header("etag"), plain.fields.all("vary")), (Some("\"etag\""), vec![vary]));
}

#[test]
fn an_index_is_coded_as_any_object_is() {
    let origin = website();
    let proxy = Proxy::start(&compressing(&origin, &[("index", "index.html".into())]));
    assert_coded_document(&origin, &proxy, "/products/docs/", "X-S3, Accept-Encoding");
    // A part of it never is.
    let part = [("Accept-Encoding", "gzip"), ("Range", "bytes=0-9")];
    let part = proxy.get_with("/products/docs/", &part);
    assert_eq!((part.status, part.header("content-encoding")), (200, None));
}

#[test]
fn an_application_is_coded_for_every_path_that_it_stands_for() {
    let origin = website();
    let proxy = Proxy::start(&compressing(&origin, &[("spa", "app.html".into())]));
    let vary = "X-S3, Accept, Accept-Encoding";
    assert_coded_document(&origin, &proxy, "/products/some/route", vary);
    // What asks for a part gets the whole document as it is.
    let fields = [BROWSER, ("Accept-Encoding", "gzip"), ("Range", "bytes=0-9")];
    let whole = proxy.get_with("/products/some/route", &fields);
    assert_eq!((whole.status, whole.body.len()), (200, LENGTH));
    assert_eq!(whole.header("content-encoding"), None);
}

#[test]
fn an_error_page_keeps_its_status_and_is_not_coded() {
    let origin = website();
    let pages = ("error_pages", json!({ "404": "/404.html" }));
    let proxy = Proxy::start(&compressing(&origin, &[pages, ("spa", "app.html".into())]));
    let mut client = proxy.client();
    let tags = ["W/\"etag-gzip\"", "\"etag\"", "*"];
    let conditions = tags.map(|tag| ("If-None-Match", tag));
    for condition in conditions.iter().map(Some).chain([None]) {
        for method in ["GET", "HEAD"] {
            let mut fields = vec![("Accept-Encoding", "zstd, br, gzip")];
            fields.extend(condition);
            let error = client.request(method, "/products/script.js", &fields);
            assert_eq!((error.status, &*error.reason), (404, "Not Found"), "{condition:?}");
            assert_eq!(error.header("content-encoding"), None);
            assert_eq!(error.header("content-length"), Some("30000"));
            assert_eq!(
                (error.header("etag"), error.header("cache-control")),
                (None, Some("no-store"))
            );
            let length = if method == "HEAD" { 0 } else { LENGTH };
            assert_eq!(error.body.len(), length);
        }
    }
}

#[test]
fn pages_of_a_listing_are_not_coded() {
    let object = "<Contents><Key>a</Key><Size>1</Size></Contents>";
    let xml = format!("<ListBucketResult>{}</ListBucketResult>", object.repeat(900));
    let origin = ScriptedOrigin::always(response_bytes("200 OK", &[], xml.as_bytes()));
    let proxy = Proxy::start(&compressing(&origin, &[("listing", json!({ "enabled": true }))]));
    let listed = proxy.get_with("/products/", &[BROWSER, ("Accept-Encoding", "zstd, br, gzip")]);
    assert_eq!((listed.status, listed.fields.all("vary")), (200, vec!["Accept"]));
    assert_eq!(listed.header("content-encoding"), None);
    assert_eq!(listed.text().matches("<bdi>a</bdi>").count(), 900);
}

#[test]
fn rules_for_browsers_meet_in_one_response() {
    let origin = website();
    let config = compressing(
        &origin,
        &[
            ("spa", "app.html".into()),
            ("error_pages", json!({ "404": "/404.html" })),
            ("cors", json!({ "origins": [APP], "expose": ["ETag"], "credentials": true })),
            (
                "headers",
                json!({
                    "set": { "Cache-Control": [{ "value": "no-cache", "types": ["text/html"] }] },
                    "add": { "Vary": "X-Own" },
                    "remove": ["Server", "x-amz-*"],
                }),
            ),
            ("hide_s3", true.into()),
        ],
    );
    let proxy = Proxy::start(&config.set("server.http2.cleartext", true));
    let vary = "X-S3, X-Own, Accept, Accept-Encoding, Origin";
    let coded = [BROWSER, ("Accept-Encoding", "br"), ("Origin", APP)];
    let app = proxy.get_with("/products/route", &coded);
    assert_coded(&app, "br", false);
    assert_eq!(app.header("cache-control"), Some("no-cache"));
    let held = [&coded[..], &[("If-None-Match", "W/\"etag-br\"")]].concat();
    let unchanged = proxy.get_with("/products/route", &held);
    assert_eq!(unchanged.status, 304);
    let error = proxy.get_with("/products/script.js", &coded[1..]);
    assert_eq!((error.status, error.body.len()), (404, LENGTH));
    assert_eq!(error.fields.all("vary"), ["X-S3, X-Own, Accept, Origin"]);
    for response in [&app, &unchanged] {
        assert_eq!(response.fields.all("vary"), [vary], "{}", response.status);
    }
    for response in [&app, &unchanged, &error] {
        assert_eq!(response.fields.all("access-control-allow-origin"), [APP]);
        assert_eq!(response.header("access-control-expose-headers"), Some("ETag"));
    }

    let client = Http2Client::connect(proxy.address());
    let mut request = get("/products/route");
    for (name, value) in coded {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let reply = client.request(request);
    assert_eq!((reply.status.as_u16(), reply.header("content-encoding")), (200, Some("br")));
    assert_eq!((reply.header("vary"), reply.header("etag")), (Some(vary), app.header("etag")));
    assert_eq!(reply.header("access-control-allow-origin"), Some(APP));
    assert_eq!(decode_all("br", &reply.body), page(LENGTH));
}
