//! What crosses the proxy: from the client only what is on the list, from S3 only what is end to
//! end, and of secrets nothing.

use std::collections::BTreeSet;

use crate::support::{
    config::Config,
    proxy::Proxy,
    s3_server::S3Server,
    scripted_origin::{ScriptedOrigin, response_bytes},
};

/// Everything that may ever stand in a request to S3.
const ALLOWED: &[&str] = &[
    "host",
    "authorization",
    "x-amz-date",
    "x-amz-content-sha256",
    "x-amz-security-token",
    "range",
    "if-match",
    "if-none-match",
    "if-modified-since",
    "if-unmodified-since",
    "if-range",
    "connection",
    "via",
    "user-agent",
];

/// Fields a client may try, each with a mark in its value.
const TRIED: &[(&str, &str)] = &[
    ("Authorization", "Bearer MARK"),
    ("Proxy-Authorization", "Basic MARK"),
    ("Cookie", "session=MARK"),
    ("X-Amz-Date", "MARK"),
    ("X-Amz-Content-Sha256", "MARK"),
    ("X-Amz-Security-Token", "MARK"),
    ("X-Amz-Acl", "MARK"),
    ("x-amz-server-side-encryption-customer-key", "MARK"),
    ("X-Forwarded-For", "MARK"),
    ("X-Forwarded-Host", "MARK"),
    ("X-Forwarded-Proto", "MARK"),
    ("X-Real-IP", "MARK"),
    ("Forwarded", "for=MARK"),
    ("X-Auth-Token", "MARK"),
    ("X-Request-Id", "MARK"),
    ("User-Agent", "MARK"),
    ("Referer", "MARK"),
    ("Origin", "MARK"),
    ("Accept", "MARK"),
    ("Accept-Encoding", "MARK"),
    ("Accept-Language", "MARK"),
    ("Cache-Control", "MARK"),
    ("TE", "MARK"),
    ("Trailer", "MARK"),
    ("Upgrade", "MARK"),
    ("Keep-Alive", "MARK"),
    ("Proxy-Connection", "MARK"),
    ("Via", "1.1 MARK"),
    ("X-HTTP-Method-Override", "MARK"),
    ("Content-Type", "MARK"),
    ("Host", "mark.test"),
];

#[test]
fn nothing_from_the_client_arrives_at_s3_but_the_allowlist() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&Config::products(origin.url()));
    assert_eq!(proxy.get_with("/products/x", TRIED).status, 200);
    let seen = origin.only_request();
    let allowed: BTreeSet<_> = ALLOWED.iter().copied().collect();
    let names = seen.fields.names();
    let surprising: Vec<_> = names.iter().filter(|name| !allowed.contains(name.as_str())).collect();
    assert!(surprising.is_empty(), "{surprising:?}");
    let received = origin.received();
    assert!(!received.to_ascii_lowercase().contains("mark"), "{received}");
    assert_eq!(seen.fields.get("host"), Some(origin.address().to_string().as_str()));
    for name in &names {
        assert_eq!(seen.fields.all(name).len(), 1, "{name} once: {seen:?}");
    }
}

#[test]
fn no_part_of_a_query_arrives_at_s3() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&Config::products(origin.url()));
    let mut client = proxy.client();
    let queries = [
        "policy",
        "list-type=2&prefix=MARK",
        "versionid=MARK",
        "response-content-type=MARK",
        "X-Amz-Signature=MARK&X-Amz-Credential=MARK",
        "AWSAccessKeyId=MARK&Signature=MARK",
        "token=MARK",
        "a=%2e%2e%2f&%zz",
        "?",
    ];
    for query in queries {
        let response = client.get(&format!("/products/x?{query}"));
        assert_eq!(response.status, 200, "{query}");
    }
    let seen = origin.requests();
    assert_eq!(seen.len(), queries.len());
    assert!(seen.iter().all(|request| request.target == "/products/x"), "{seen:?}");
    assert!(!origin.received().contains("MARK"));
}

#[test]
fn range_and_conditions_arrive_as_they_were() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&Config::products(origin.url()));
    let fields = [
        ("Range", "bytes=0-9, 20-29"),
        ("If-Match", "\"a\", \"b\""),
        ("If-None-Match", "W/\"c\""),
        ("If-Modified-Since", "Tue, 15 Nov 1994 08:12:31 GMT"),
        ("If-Unmodified-Since", "Tue, 15 Nov 1994 08:12:32 GMT"),
        ("If-Range", "\"d\""),
    ];
    assert_eq!(proxy.get_with("/products/x", &fields).status, 200);
    let seen = origin.only_request();
    for (name, value) in fields {
        assert_eq!(seen.fields.get(name), Some(value), "{name}");
    }
}

#[test]
fn a_connection_field_cannot_remove_what_the_proxy_adds() {
    let s3 = S3Server::with_test_keys();
    s3.put("products", "x", "signed");
    let proxy = Proxy::start(&Config::products(s3.url()));
    let options = "authorization, host, x-amz-date, x-amz-content-sha256, via, x-request-id";
    let response = proxy.get_with("/products/x", &[("Connection", options)]);
    assert_eq!((response.status, response.text()), (200, "signed"));
    assert!(response.fields.has("via") && response.fields.has("x-request-id"));
}

#[test]
fn a_field_that_connection_names_is_not_passed_on() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&Config::products(origin.url()));
    let fields = [("Connection", "if-match, Range"), ("If-Match", "\"a\""), ("Range", "bytes=0-1")];
    assert_eq!(proxy.get_with("/products/x", &fields).status, 200);
    let seen = origin.only_request();
    assert!(!seen.fields.has("if-match") && !seen.fields.has("range"), "{seen:?}");
}

#[test]
fn everything_tried_at_once_still_signs_correctly() {
    let s3 = S3Server::with_test_keys();
    s3.put("products", "x", "signed");
    let proxy = Proxy::start(&Config::products(s3.url()));
    let mut fields = TRIED.to_vec();
    fields.push(("Range", "bytes=0-2"));
    let response = proxy.get_with("/products/x?X-Amz-Signature=MARK", &fields);
    assert_eq!((response.status, response.text()), (206, "sig"));
}

#[test]
fn end_to_end_fields_of_s3_pass_and_hop_by_hop_fields_do_not() {
    let end_to_end = [
        ("ETag", "\"e\""),
        ("Last-Modified", "Tue, 15 Nov 1994 08:12:31 GMT"),
        ("Content-Type", "text/x-strange; a=\"b\""),
        ("Content-Encoding", "gzip"),
        ("Content-Disposition", "attachment; filename=\"a b\""),
        ("Cache-Control", "max-age=60"),
        ("Accept-Ranges", "bytes"),
        ("x-amz-meta-Own", "Kept As It Is"),
        ("x-amz-version-id", "v1"),
        ("Server", "AmazonS3"),
        ("Set-Cookie", "a=b"),
    ];
    let hop_by_hop = [
        ("Connection", "X-Named, keep-alive"),
        ("X-Named", "HOP"),
        ("Keep-Alive", "timeout=HOP"),
        ("Proxy-Connection", "HOP"),
        ("Proxy-Authenticate", "HOP"),
        ("Trailer", "HOP"),
        ("Upgrade", "HOP"),
    ];
    let fields = [&end_to_end[..], &hop_by_hop[..]].concat();
    let origin = ScriptedOrigin::always(response_bytes("200 OK", &fields, b"x"));
    let proxy = Proxy::start(&Config::products(origin.url()));
    let response = proxy.get("/products/x");
    for (name, value) in end_to_end {
        assert_eq!(response.header(name), Some(value), "{name}");
    }
    assert!(!format!("{response:?}").contains("HOP"), "{response:?}");
    assert!(!response.fields.has("x-named"));
}

#[test]
fn a_connection_field_of_s3_cannot_remove_the_framing() {
    let origin = ScriptedOrigin::always(
        "HTTP/1.1 200 OK\r\nConnection: content-length, via, x-request-id, date\r\n\
         Content-Length: 4\r\n\r\nbody",
    );
    let proxy = Proxy::start(&Config::products(origin.url()));
    let mut client = proxy.client();
    for _ in 0..2 {
        let response = client.get("/products/x");
        assert_eq!(response.text(), "body");
        assert!(response.fields.has("via") && response.fields.has("x-request-id"), "{response:?}");
    }
}
