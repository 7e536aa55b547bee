//! Listings of a bucket: pages for people and programs, the answers for S3 clients, and what of it
//! a token may see.

use std::{collections::BTreeSet, time::Instant};

use serde_json::{Value, json};

use crate::{
    auth::claims_with,
    support::{
        config::{ACCESS_KEY, Config},
        gate::Gate,
        http2_client::{Http2Client, get},
        proxy::Proxy,
        raw_client::{Client, Response, request_bytes},
        reload::adopt,
        s3_server::S3Server,
        scripted_origin::{ScriptedOrigin, response_bytes},
        token::{JWT_SECRET, bearer, mint},
        waiting::wait_until,
    },
};

/// Pages that any listing here has at most.
const PAGES_MAX: usize = 12;

const HTML: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");
const JSON: (&str, &str) = ("Accept", "application/json");

/// A signature as S3 clients send one.
const SIGNATURE: (&str, &str) = (
    "Authorization",
    "AWS4-HMAC-SHA256 Credential=AKID/20261129/us-east-1/s3/aws4_request, SignedHeaders=host, \
     Signature=00",
);

/// A bucket that is listed in every form, below a prefix that nobody may see.
fn listed(endpoint: impl Into<String>) -> Config {
    Config::products(endpoint)
        .set("buckets.0.s3.key_prefix", "hidden/")
        .set("buckets.0.listing.enabled", true)
}

/// A real S3 server with some objects, and others outside of the prefix.
fn server() -> S3Server {
    let s3 = S3Server::with_test_keys();
    for key in ["a.txt", "b c&d.txt", "docs/one.txt", "docs/deep/two.txt", "t/a/x", "t/b/x"] {
        s3.put("products", &format!("hidden/{key}"), key);
    }
    s3.put("products", "other/secret.txt", "");
    s3
}

/// Asserts that nothing of a response tells of the key prefix.
#[track_caller]
fn assert_hides_prefix(response: &Response) {
    let shown = format!("{response:?}");
    assert!(!shown.contains("hidden") && !shown.contains("secret"), "{shown}");
}

/// The texts of all elements of this name.
fn elements<'t>(xml: &'t str, name: &str) -> Vec<&'t str> {
    let open = format!("<{name}>");
    xml.split(&open).skip(1).filter_map(|rest| rest.split("</").next()).collect()
}

fn percent_encoded(byte: u8) -> Vec<u8> {
    format!("%{byte:02X}").into_bytes()
}

fn keys(page: &Value) -> Vec<&str> {
    page["objects"].as_array().unwrap().iter().map(|o| o["key"].as_str().unwrap()).collect()
}

#[test]
fn a_directory_is_a_page_in_the_form_that_the_client_prefers() {
    let s3 = server();
    let proxy = Proxy::start(&listed(s3.url()));
    let mut client = proxy.client();

    let html = client.request("GET", "/products/", &[HTML]);
    assert_eq!((html.status, html.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(
        (html.header("vary"), html.header("cache-control")),
        (Some("Accept"), Some("no-store"))
    );
    assert_eq!(html.header("x-content-type-options"), Some("nosniff"));
    let policy = html.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
    let text = html.text();
    assert!(text.contains("<a href=\"./b%20c%26d.txt\"><bdi>b c&amp;d.txt</bdi></a>"), "{text}");
    assert!(text.contains("<a href=\"./docs/\"><bdi>docs/</bdi></a>"), "{text}");
    assert!(!text.contains("one.txt") && !text.contains("<script"), "{text}");
    assert_hides_prefix(&html);

    let page = client.request("GET", "/products/docs/", &[JSON]);
    assert_eq!(page.header("content-type"), Some("application/json"));
    let json = page.json();
    assert_eq!(keys(&json), ["docs/one.txt"]);
    assert_eq!((&json["prefix"], &json["prefixes"]), (&json!("docs/"), &json!(["docs/deep/"])));
    assert_eq!((&json["objects"][0]["size"], &json["next"]), (&json!(12), &Value::Null));
    assert_hides_prefix(&page);

    // The first form of the configuration where the client does not care.
    assert_eq!(client.get("/products/").header("content-type"), html.header("content-type"));
    for target in ["/products/a.txt", "/products/b%20c%26d.txt"] {
        assert_eq!(client.get(target).status, 200, "{target}");
    }
    assert_eq!(s3.connections(), 1, "the connection of a listing is kept");
}

#[test]
fn head_of_a_page_has_the_fields_of_get() {
    let s3 = server();
    let proxy = Proxy::start(&listed(s3.url()));
    let mut client = proxy.client();
    for fields in [[HTML], [JSON]] {
        let get = client.request("GET", "/products/docs/", &fields);
        let head = client.request("HEAD", "/products/docs/", &fields);
        assert_eq!((head.status, head.body.len()), (200, 0));
        for name in ["content-type", "content-length", "vary", "content-security-policy"] {
            assert_eq!(head.header(name), get.header(name), "{name}");
        }
    }
}

#[test]
fn a_path_without_its_slash_leads_to_the_page() {
    let s3 = server();
    let proxy = Proxy::start(&listed(s3.url()));
    let moved = proxy.get("/products?max-keys=2");
    assert_eq!((moved.status, moved.header("location")), (308, Some("/products/?max-keys=2")));
    // An object, and not a directory.
    assert_eq!(proxy.get("/products/missing").status, 404);
}

#[test]
fn a_directory_without_entries_is_not_found() {
    let s3 = server();
    let proxy = Proxy::start(&listed(s3.url()));
    proxy.get("/products/doc/").assert_fault(404, "no_key");
    let none = S3Server::with_test_keys();
    none.put("products", "other/x", "");
    let proxy = Proxy::start(&listed(none.url()));
    assert_eq!(proxy.get_with("/products/", &[JSON]).json()["objects"], json!([]));
}

#[test]
fn pages_follow_one_another_to_the_end() {
    let s3 = server();
    for number in 0..7 {
        s3.put("products", &format!("hidden/many/{number}"), "");
        s3.put("products", &format!("hidden/many/d{number}/x"), "");
    }
    let proxy = Proxy::start(&listed(s3.url()));
    let mut client = proxy.client();
    let mut seen = Vec::new();
    let mut target = "/products/many/?max-keys=3".to_owned();
    for page in 1.. {
        assert!(page <= PAGES_MAX, "it never ends");
        let page = client.request("GET", &target, &[JSON]).json();
        seen.extend(keys(&page).into_iter().map(str::to_owned));
        let prefixes = page["prefixes"].as_array().unwrap();
        seen.extend(prefixes.iter().map(|prefix| prefix.as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        target = format!("/products/many/?max-keys=3&continuation-token={next}");
    }
    let expected: Vec<String> = (0..7)
        .map(|number| format!("many/{number}"))
        .chain((0..7).map(|number| format!("many/d{number}/")))
        .collect();
    assert_eq!(seen, expected);

    let html = client.request("GET", "/products/many/?max-keys=3", &[HTML]);
    let next = html.text().split("rel=\"next\" href=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(next.ends_with("&amp;max-keys=3"), "{next}");
    let second = format!("/products/many/{}", next.replace("&amp;", "&"));
    let second = client.request("GET", &second, &[HTML]);
    assert!(second.text().contains("<bdi>3</bdi>"), "{}", second.text());
    assert!(!second.text().contains("<bdi>2</bdi>"), "{}", second.text());
}

#[test]
fn wrong_parameters_never_reach_s3() {
    let s3 = server();
    let proxy = Proxy::start(&listed(s3.url()));
    for target in [
        "/products/?continuation-token=%2A",
        "/products/?continuation-token=_w",
        "/products/docs/?max-keys=many",
    ] {
        proxy.get(target).assert_fault(400, "invalid_listing_query");
    }
    for target in ["/products/docs/?acl", "/products/docs/?versionId=1", "/products/?partNumber=1"]
    {
        proxy.get(target).assert_fault(400, "query_not_supported");
    }
    proxy.get("/products/?max-keys=0").assert_fault(400, "invalid_listing_query");
    // No key is as long, with the prefix that nobody may see.
    let long = "k".repeat(1_018);
    for query in [
        "list-type=3",
        "list-type=2&max-keys=-1",
        "list-type=2&prefix=%ff",
        &format!("list-type=2&prefix={long}"),
        &format!("delimiter=%2F&marker={long}kkkk"),
    ] {
        let refused = proxy.get(&format!("/products?{query}"));
        assert_eq!(
            (refused.status, refused.header("content-type")),
            (400, Some("application/xml"))
        );
        assert_eq!(elements(refused.text(), "Code"), ["InvalidArgument"], "{query}");
    }
    let none = proxy.get("/products?list-type=2&max-keys=0");
    assert_eq!((none.status, elements(none.text(), "KeyCount")), (200, vec!["0"]));
    assert_eq!(elements(none.text(), "IsTruncated"), ["false"]);
    assert_eq!(s3.requests().len(), 0);
}

#[test]
fn nothing_is_listed_unless_the_bucket_says_so() {
    let s3 = server();
    let config = Config::products(s3.url()).with_jwt(&[]);
    let proxy = Proxy::start(&config);
    let targets = ["/products", "/products/", "/products/?list-type=2", "/products?location"];
    for target in targets {
        proxy.get(target).assert_fault(404, "no_key");
        assert_eq!(proxy.client().request("HEAD", target, &[]).status, 404);
    }
    assert_eq!(s3.requests().len(), 0);

    // Only the forms that are written, from the next request on.
    let mut client = proxy.client();
    let html =
        config.clone().set("buckets.0.listing", json!({ "enabled": true, "formats": ["html"] }));
    adopt(&proxy, &html);
    let page = client.request("GET", "/products/?list-type=2&location", &[JSON]);
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(page.header("vary"), None);
    assert_eq!(client.request("HEAD", "/products", &[]).status, 308);

    let s3_only =
        config.clone().set("buckets.0.listing", json!({ "enabled": true, "formats": ["s3"] }));
    adopt(&proxy, &s3_only);
    assert_eq!(
        client.get("/products/?list-type=2").header("content-type"),
        Some("application/xml")
    );
    assert_eq!(client.get("/products/nothing/").status, 404, "a key that ends with a slash");
    client.get("/products/?versioning").assert_fault(404, "no_key");

    adopt(&proxy, &config);
    client.get("/products/").assert_fault(404, "no_key");
}

#[test]
fn s3_clients_get_the_answers_of_a_bucket() {
    let s3 = server();
    let proxy = Proxy::start(&listed(s3.url()));
    let mut client = proxy.client();

    let listed = client.get("/products?list-type=2&prefix=docs%2F&delimiter=%2F&fetch-owner=true");
    assert_eq!((listed.status, listed.header("content-type")), (200, Some("application/xml")));
    assert_hides_prefix(&listed);
    let xml = listed.text();
    assert_eq!(elements(xml, "Name"), ["products"]);
    assert_eq!(elements(xml, "Key"), ["docs/one.txt"]);
    assert_eq!(elements(xml, "Prefix"), ["docs/", "docs/deep/"]);
    assert_eq!(
        (elements(xml, "KeyCount"), elements(xml, "IsTruncated")),
        (vec!["2"], vec!["false"])
    );

    // Both versions go on where they ended.
    for (first, parameter, element) in [
        ("list-type=2", "continuation-token", "NextContinuationToken"),
        ("encoding-type=url", "marker", "NextMarker"),
    ] {
        let mut seen = Vec::new();
        let mut more = String::new();
        for page in 1.. {
            assert!(page <= PAGES_MAX, "it never ends");
            let page = client.get(&format!("/products/?{first}&max-keys=2{more}"));
            assert_hides_prefix(&page);
            seen.extend(elements(page.text(), "Key").into_iter().map(str::to_owned));
            let next = elements(page.text(), element);
            assert_eq!(next.len() == 1, page.text().contains("<IsTruncated>true<"));
            let Some(next) = next.first() else { break };
            more = format!("&{parameter}={next}");
        }
        let all = ["a.txt", "docs/deep/two.txt", "docs/one.txt", "t/a/x", "t/b/x"];
        seen.retain(|key| !key.starts_with("b "));
        seen.retain(|key| !key.starts_with("b%20"));
        assert_eq!(seen, all, "{first}");
    }
    let after = client.get("/products?list-type=2&start-after=docs/one.txt");
    assert_eq!(elements(after.text(), "Key"), ["t/a/x", "t/b/x"]);
    assert_eq!(elements(after.text(), "StartAfter"), ["docs/one.txt"]);

    let asked = s3.requests().len();
    let head = client.request("HEAD", "/products", &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));
    let location = client.get("/products?location");
    assert!(location.text().contains("<LocationConstraint"), "{}", location.text());
    assert_eq!(s3.requests().len(), asked, "both are known without S3");
}

/// The bucket with a token, whose claim `paths` has prefixes.
fn protected(endpoint: impl Into<String>) -> Config {
    let rules = json!([{ "claim": "paths", "operator": "path_prefix" }]);
    listed(endpoint).with_jwt(&["products"]).set("jwt.claims", rules)
}

fn token(paths: &[&str]) -> String {
    bearer(&mint(JWT_SECRET, &claims_with("paths", json!(paths))))
}

#[test]
fn a_token_sees_what_it_may_read_and_no_more() {
    let s3 = server();
    let proxy = Proxy::start(&protected(s3.url()));
    let mut client = proxy.client();
    let tenant = token(&["t/b"]);
    let tenant = ("Authorization", tenant.as_str());

    // The way to what it may read, and nothing beside it.
    let root = client.request("GET", "/products/", &[JSON, tenant]).json();
    assert_eq!((keys(&root), &root["prefixes"]), (vec![], &json!(["t/"])));
    let tenants = client.request("GET", "/products/t/", &[JSON, tenant]).json();
    assert_eq!((keys(&tenants), &tenants["prefixes"]), (vec![], &json!(["t/b/"])));
    let own = client.request("GET", "/products/t/b/", &[JSON, tenant]).json();
    assert_eq!(keys(&own), ["t/b/x"]);
    let html = client.request("GET", "/products/", &[HTML, tenant]);
    assert!(html.text().contains("./t/") && !html.text().contains("a.txt"), "{}", html.text());

    let asked = s3.requests().len();
    for target in ["/products/docs/", "/products/t/a/", "/products/t/bb/"] {
        client.request("GET", target, &[JSON, tenant]).assert_fault(403, "claims_refused");
    }
    client.request("GET", "/products/", &[JSON]).assert_fault(401, "missing_token");
    let other = token(&["elsewhere/"]);
    let other = client.request("GET", "/products/", &[JSON, ("Authorization", &other)]);
    assert_eq!(other.json()["prefixes"], json!([]), "nothing is there, and it may be read");
    let nothing = bearer(&mint(JWT_SECRET, &claims_with("paths", json!([""]))));
    let nothing = client.request("GET", "/products/", &[JSON, ("Authorization", &nothing)]);
    nothing.assert_fault(403, "claims_refused");
    assert_eq!(s3.requests().len(), asked + 1);
}

#[test]
fn a_token_comes_before_the_parameters() {
    let s3 = server();
    let proxy = Proxy::start(&protected(s3.url()));
    let mut client = proxy.client();
    let tenant = token(&["t/b"]);
    let tenant = ("Authorization", tenant.as_str());
    for (query, own) in [("max-keys=0", "/products/t/b/"), ("continuation-token=%2A", "/products/")]
    {
        let target = format!("{own}?{query}");
        client.request("GET", &target, &[]).assert_fault(401, "missing_token");
        client.request("GET", &target, &[tenant]).assert_fault(400, "invalid_listing_query");
        let other = format!("/products/docs/?{query}");
        client.request("GET", &other, &[tenant]).assert_fault(403, "claims_refused");
    }
    let listing = "/products?list-type=3";
    assert_eq!(client.request("GET", listing, &[]).status, 401);
    assert_eq!(client.request("GET", listing, &[tenant]).status, 400);
    let missing = "yatagarasu_auth_failures_total{reason=\"missing\"}";
    assert_eq!(proxy.metric(missing), Some(3.0));
    assert_eq!(s3.requests().len(), 0);
}

#[test]
fn pages_of_a_token_tell_no_key_that_it_may_not_read() {
    let s3 = server();
    for number in 0..9 {
        s3.put("products", &format!("hidden/t/a{number}/x"), "");
        s3.put("products", &format!("hidden/t/c/{number}"), "");
    }
    let proxy = Proxy::start(&protected(s3.url()));
    let mut client = proxy.client();
    let tenant = token(&["t/a4", "t/c/"]);
    for delimiter in ["", "&delimiter=%2F"] {
        let mut seen = BTreeSet::new();
        let mut marker = String::new();
        for page in 1.. {
            assert!(page <= PAGES_MAX, "it never ends");
            let target = format!("/products?prefix=t%2F&max-keys=2{delimiter}&marker={marker}");
            let page = client.request("GET", &target, &[("Authorization", &tenant)]);
            assert_hides_prefix(&page);
            let text = page.text();
            for foreign in ["t/a0", "t/a3", "t/a5", "t/a8", "t/b"] {
                assert!(!text.contains(foreign), "{foreign}: {text}");
            }
            let prefixes = elements(text, "Prefix").into_iter().skip(1);
            seen.extend(elements(text, "Key").into_iter().chain(prefixes).map(str::to_owned));
            let Some(next) = elements(text, "NextMarker").first().copied() else { break };
            marker = next.bytes().flat_map(percent_encoded).map(char::from).collect();
        }
        let count = if delimiter.is_empty() { 10 } else { 2 };
        assert_eq!(seen.len(), count, "{seen:?}");
    }
}

#[test]
fn a_signature_is_no_token_and_faults_of_s3_clients_are_xml() {
    let s3 = server();
    let proxy = Proxy::start(&protected(s3.url()));
    let mut client = proxy.client();
    for target in ["/products?list-type=2", "/products/a.txt"] {
        let refused = client.request("GET", target, &[SIGNATURE]);
        assert_eq!((refused.status, refused.header("www-authenticate")), (401, Some("Bearer")));
        assert_eq!(elements(refused.text(), "Code"), ["AccessDenied"], "{target}");
        assert!(refused.text().contains("--no-sign-request"), "{}", refused.text());
    }
    let unsigned = client.get("/products?list-type=2");
    assert_eq!((unsigned.status, elements(unsigned.text(), "Code")), (401, vec!["AccessDenied"]));
    let id = unsigned.header("x-request-id").unwrap();
    assert_eq!(elements(unsigned.text(), "RequestId"), [id]);
    client.get("/products/a.txt").assert_fault(401, "missing_token");

    // Where nothing is listed, no S3 client is expected.
    let plain = Proxy::start(&Config::products(s3.url()).with_jwt(&["products"]));
    plain.get_with("/products/a.txt", &[SIGNATURE]).assert_fault(401, "signed_request");
    // An open bucket does not look at it.
    let open = Proxy::start(&listed(s3.url()));
    assert_eq!(open.get_with("/products/a.txt", &[SIGNATURE]).status, 200);
}

/// A page of S3 with these parts inside.
fn document(inside: &str) -> Vec<u8> {
    let xml = format!(
        "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">\
         <EncodingType>url</EncodingType>{inside}</ListBucketResult>"
    );
    response_bytes("200 OK", &[("Content-Type", "application/xml")], xml.as_bytes())
}

fn answers(bytes: impl Into<Vec<u8>>) -> (ScriptedOrigin, Proxy) {
    let origin = ScriptedOrigin::always(bytes);
    let proxy = Proxy::start(&listed(origin.url()));
    (origin, proxy)
}

#[test]
fn s3_is_asked_for_encoded_keys_and_for_nothing_of_the_client() {
    let (origin, proxy) = answers(document(
        "<Contents><Key>hidden/d/%01%3Cb%3E+%2B%C3%A9</Key><Size>1</Size></Contents>",
    ));
    let fields = [JSON, ("Range", "bytes=0-1"), ("If-None-Match", "\"x\""), ("Cookie", "a=b")];
    let page = proxy.get_with("/products/d/?x=y&max-keys=7", &fields);
    assert_eq!(keys(&page.json()), ["d/\u{1}<b> +é"]);
    let asked = origin.only_request();
    assert_eq!(
        asked.target,
        "/products?delimiter=%2F&encoding-type=url&list-type=2&max-keys=7&prefix=hidden%2Fd%2F"
    );
    for name in ["range", "if-none-match", "cookie", "accept"] {
        assert_eq!(asked.fields.get(name), None, "{name}");
    }
    let html = proxy.get_with("/products/d/", &[HTML]);
    assert!(html.text().contains("<td><bdi>\u{fffd}&lt;b&gt; +é</bdi></td>"), "{}", html.text());
    let xml = proxy.get("/products?list-type=2&prefix=d/&encoding-type=url");
    assert_eq!(elements(xml.text(), "Key"), ["d/%01%3Cb%3E%20%2B%C3%A9"]);
    let raw = proxy.get("/products?list-type=2&prefix=d/");
    assert_eq!(elements(raw.text(), "Key"), ["d/&#1;&lt;b&gt; +é"]);
}

#[test]
fn what_is_no_listing_is_a_protocol_error() {
    let long = format!("<Pad>{}</Pad>", "x".repeat(5 << 20));
    let moved = [("Location", "https://bucket.example/?prefix=hidden%2Fd%2F")];
    let mut part = document("");
    part.splice(9..15, *b"206 Pa");
    let mut coded = document("");
    coded.splice(17..17, *b"Content-Encoding: gzip\r\n");
    for (what, bytes) in [
        ("another document", response_bytes("200 OK", &[], b"<html></html>")),
        ("nothing", response_bytes("200 OK", &[], b"")),
        ("cut", response_bytes("200 OK", &[], b"<ListBucketResult><Contents>")),
        ("a key outside", document("<Contents><Key>other/x</Key></Contents>")),
        ("a key beside the prefix", document("<Contents><Key>hidden/e/x</Key></Contents>")),
        ("an end that leads nowhere", document("<IsTruncated>true</IsTruncated>")),
        ("entities", document("<!DOCTYPE x [<!ENTITY a 'b'>]>")),
        ("too long", document(&long)),
        ("coded", coded),
        ("elsewhere", response_bytes("307 Temporary Redirect", &moved, b"hidden/")),
        ("a part", part),
    ] {
        let (_origin, proxy) = answers(bytes);
        let mut client = proxy.client();
        let refused = client.request("GET", "/products/d/", &[JSON]);
        assert_eq!(refused.status, 502, "{what}");
        refused.assert_fault(502, "upstream_protocol_error");
        let xml = client.get("/products?list-type=2&prefix=d/");
        assert_eq!((xml.status, elements(xml.text(), "Code")), (502, vec!["InternalError"]));
    }
}

#[test]
fn errors_of_s3_show_nothing_but_their_status() {
    let error = |code: &str| {
        format!("<Error><Code>{code}</Code><AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId></Error>")
    };
    let xml = [("Content-Type", "application/xml")];
    let denied = error("AccessDenied");
    let (origin, proxy) = answers(response_bytes("403 Forbidden", &xml, denied.as_bytes()));
    let mut client = proxy.client();
    for target in ["/products/", "/products?list-type=2"] {
        let refused = client.get(target);
        assert_eq!(refused.status, 403, "{target}");
        assert!(!refused.text().contains("AWSAccessKeyId"), "{}", refused.text());
        let head = client.request("HEAD", "/products/", &[]);
        assert_eq!((head.status, head.body.len()), (403, 0));
    }
    assert_eq!(origin.accepted(), 1, "the connection is kept");

    let invalid = "<Error><Code>InvalidArgument</Code><ArgumentValue>hidden/d/</ArgumentValue>";
    let (_origin, proxy) = answers(response_bytes("400 Bad Request", &xml, invalid.as_bytes()));
    for target in ["/products/d/", "/products?list-type=2&prefix=d/"] {
        let refused = proxy.get(target);
        assert_eq!(refused.status, 400, "{target}");
        assert_hides_prefix(&refused);
    }

    let ours = error("SignatureDoesNotMatch");
    let (_origin, proxy) = answers(response_bytes("403 Forbidden", &xml, ours.as_bytes()));
    let mut client = proxy.client();
    client.get("/products/").assert_fault(502, "upstream_credentials");
    assert_eq!(client.request("HEAD", "/products/", &[]).status, 502);
    let refused = client.get("/products?list-type=2");
    assert_eq!((refused.status, elements(refused.text(), "Code")), (502, vec!["InternalError"]));
    assert!(!refused.text().contains(ACCESS_KEY));
}

#[test]
fn a_page_is_served_over_http2_and_to_old_clients() {
    let s3 = server();
    let proxy = Proxy::start(&listed(s3.url()).set("server.http2.cleartext", true));
    let client = Http2Client::connect(proxy.address());
    let mut request = get("/products/");
    request.headers_mut().insert("accept", "application/json".parse().unwrap());
    let reply = client.request(request);
    assert_eq!(reply.status, 200);
    let page: Value = serde_json::from_slice(&reply.body).unwrap();
    assert_eq!(keys(&page), ["a.txt", "b c&d.txt"]);

    let mut old = Client::connect(proxy.address());
    old.send("GET /products/ HTTP/1.0\r\nAccept: application/json\r\n\r\n");
    assert_eq!(old.response("GET").json(), page);
}

#[test]
fn a_prefix_of_many_long_keys_is_one_page() {
    let entry = |number: usize| {
        let key = format!("hidden/{number:04}{}", "k".repeat(1_013));
        format!("<Contents><Key>{key}</Key><Size>{number}</Size></Contents>")
    };
    let inside: String = (0..1_000).map(entry).collect();
    let (_origin, proxy) = answers(document(&inside));
    let mut client = proxy.client();
    assert_eq!(keys(&client.request("GET", "/products/", &[JSON]).json()).len(), 1_000);
    let html = client.request("GET", "/products/", &[HTML]);
    assert_eq!(html.text().matches("<tr><td>").count(), 1_000);
}

#[test]
fn an_index_is_sent_where_there_is_one_and_a_page_elsewhere() {
    let s3 = server();
    s3.put("products", "hidden/docs/index.html", "the index");
    let with_index = |config: Config| config.set("buckets.0.index", "index.html");
    let proxy = Proxy::start(&with_index(listed(s3.url())));
    let mut client = proxy.client();
    for fields in [[HTML], [JSON]] {
        let index = client.request("GET", "/products/docs/", &fields);
        assert_eq!((index.status, index.text()), (200, "the index"));
    }
    assert_eq!(client.request("HEAD", "/products/docs/", &[]).header("content-length"), Some("9"));

    let page = client.request("GET", "/products/?max-keys=1", &[JSON]).json();
    assert_eq!(keys(&page), ["a.txt"]);
    let next = format!("/products/?continuation-token={}", page["next"].as_str().unwrap());
    assert_eq!(keys(&client.request("GET", &next, &[JSON]).json()), ["b c&d.txt"]);
    let head = client.request("HEAD", "/products/", &[HTML]);
    assert_eq!(head.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(client.get("/products").status, 308);
    assert_eq!(client.request("HEAD", "/products", &[]).status, 200, "HeadBucket");
    client.get("/products/none/").assert_fault(404, "no_key");
    assert_eq!(s3.connections(), 1);

    // The index of the bucket is not for a tenant, and the way to its own directory is.
    let proxy = Proxy::start(&with_index(protected(s3.url())));
    let tenant = token(&["t/b"]);
    let fields = [JSON, ("Authorization", tenant.as_str())];
    assert_eq!(proxy.get_with("/products/", &fields).json()["prefixes"], json!(["t/"]));
    assert_eq!(proxy.metric("yatagarasu_jwt_key_uses_total{key=\"jwt\"}"), Some(1.0));
    // The page is there, so the way to it is.
    assert_eq!(proxy.get_with("/products", &fields).status, 308);
    proxy.get_with("/products/docs/", &fields).assert_fault(403, "claims_refused");
    proxy.get("/products/").assert_fault(401, "missing_token");
    let missing = "yatagarasu_auth_failures_total{reason=\"missing\"}";
    assert_eq!(proxy.metric(missing), Some(1.0), "it is counted once");
}

#[test]
fn a_page_comes_before_the_application_and_the_error_page() {
    let s3 = server();
    for key in ["app.html", "404.html"] {
        s3.put("products", &format!("hidden/{key}"), key);
    }
    let plain = listed(s3.url())
        .set("buckets.0.spa", "app.html")
        .set("buckets.0.error_pages", json!({ "404": "/404.html" }));
    for config in [plain.clone(), plain.set("buckets.0.index", "index.html")] {
        let proxy = Proxy::start(&config);
        let mut client = proxy.client();
        let page = client.request("GET", "/products/docs/", &[HTML]);
        assert!(page.text().contains("<bdi>one.txt</bdi>"), "{page:?}");
        // Where nothing is below a directory, it is not found, and nothing takes its place.
        for fields in [HTML, JSON] {
            let none = client.request("GET", "/products/app/deep/", &[fields]);
            none.assert_fault(404, "no_key");
        }
        let app = client.request("GET", "/products/app/deep", &[HTML]);
        assert_eq!((app.status, app.text()), (200, "app.html"));
        let error = client.request("GET", "/products/app/deep", &[JSON]);
        assert_eq!((error.status, error.text()), (404, "404.html"));
    }
}

#[test]
fn a_wrong_parameter_is_refused_where_there_is_no_index() {
    let s3 = server();
    for key in ["docs/index.html", "app.html"] {
        s3.put("products", &format!("hidden/{key}"), key);
    }
    let with_documents = |config: Config| {
        config.set("buckets.0.index", "index.html").set("buckets.0.spa", "app.html")
    };
    let proxy = Proxy::start(&with_documents(listed(s3.url())));
    for query in ["max-keys=0", "continuation-token=%2A"] {
        let page = proxy.get_with(&format!("/products/t/?{query}"), &[HTML]);
        page.assert_fault(400, "invalid_listing_query");
        // An index has no such parameters.
        assert_eq!(proxy.get(&format!("/products/docs/?{query}")).text(), "docs/index.html");
    }

    // The index is not for the tenant, and the page is.
    let proxy = Proxy::start(&with_documents(protected(s3.url())));
    let tenant = token(&["t/b"]);
    let fields = [JSON, ("Authorization", tenant.as_str())];
    proxy.get_with("/products/?max-keys=0", &fields).assert_fault(400, "invalid_listing_query");
    proxy.get_with("/products/docs/?max-keys=0", &fields).assert_fault(403, "claims_refused");
}

#[test]
fn the_record_of_a_page_has_the_time_of_the_index_too() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |connection, _| {
        while let Some(request) = connection.request() {
            if request.target.contains("index.html") {
                connection.wait(&held);
                connection.respond("404 Not Found", &[], b"");
            } else {
                connection.send(document(""));
            }
        }
    });
    let proxy = Proxy::start(&listed(origin.url()).set("buckets.0.index", "index.html"));
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/products/", &[JSON]));
    wait_until("the request for the index", || origin.requests().len() == 1);
    let since = Instant::now();
    // Takes its time.
    proxy.metrics();
    let waited = since.elapsed();
    gate.open();
    assert_eq!(client.response("GET").status, 200);
    let of_page = || {
        let records = proxy.stdout().records();
        records.into_iter().find(|record| record["bucket"] == "products")
    };
    wait_until("the record", || of_page().is_some());
    let upstream_ms = of_page().unwrap()["upstream_ms"].as_f64().unwrap();
    assert!(upstream_ms >= waited.as_secs_f64() * 1_000.0 - 0.01, "{waited:?}: {upstream_ms}");
}

#[test]
fn rules_for_browsers_apply_to_pages() {
    let s3 = server();
    let config = listed(s3.url())
        .set("buckets.0.cors.origins", json!(["https://app.example"]))
        .set("buckets.0.headers.set", json!({ "X-Page": "yes" }))
        .set("buckets.0.hide_s3", true);
    let proxy = Proxy::start(&config);
    let page = proxy.get_with("/products/", &[JSON, ("Origin", "https://app.example")]);
    assert_eq!(keys(&page.json()), ["a.txt", "b c&d.txt"]);
    assert_eq!(page.header("access-control-allow-origin"), Some("https://app.example"));
    assert_eq!(page.header("x-page"), Some("yes"));
    let vary = format!("{page:?}").to_ascii_lowercase();
    assert!(vary.contains("origin") && vary.contains("accept"), "{vary}");
}
