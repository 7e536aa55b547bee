//! Queries: what is refused, what is dropped, and what a bucket lets through to S3.

use http::StatusCode;
use serde_json::json;

use crate::support::{
    config::Config,
    http2_client::Http2Client,
    proxy::Proxy,
    raw_client::request_bytes,
    reload,
    s3_server::S3Server,
    scripted_origin::ScriptedOrigin,
    token::{self, bearer},
};

/// Parameters that no bucket lets through.
const SUBRESOURCES: [&str; 8] =
    ["acl", "attributes", "legal-hold", "retention", "tagging", "torrent", "uploadId", "uploads"];

fn allowing(config: Config, parameters: &[&str]) -> Config {
    config.set("buckets.0.allow_query", json!(parameters))
}

#[test]
fn a_query_for_something_else_than_the_object_never_gets_the_object() {
    let origin = ScriptedOrigin::serving("the current version");
    let config = Config::products(origin.url()).set("server.http2.cleartext", true);
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    let http2 = Http2Client::connect(proxy.address());
    let others = ["versionId=3", "versionId", "partNumber=1", "version%49d=3", "x=1&%61cl"];
    for query in others.into_iter().chain(SUBRESOURCES) {
        let target = format!("/products/a?{query}");
        let response = client.get(&target);
        response.assert_fault(400, "query_not_supported");
        assert_eq!(client.request("HEAD", &target, &[]).status, 400, "{query}");
        let reply = http2.get(&target);
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(reply.code(), "query_not_supported", "{query}");
    }
    assert_eq!(origin.requests().len(), 0);
    // The connection is as good as before.
    assert_eq!(client.get("/products/a").text(), "the current version");
}

#[test]
fn a_token_is_asked_for_before_the_query_is_looked_at() {
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&Config::products(origin.url()).with_jwt(&["products"]));
    proxy.get("/products/a?versionId=3").assert_fault(401, "missing_token");
    let token = bearer(&token::for_role("user"));
    let response = proxy.get_with("/products/a?versionId=3", &[("Authorization", &token)]);
    response.assert_fault(400, "query_not_supported");
    assert_eq!(origin.requests().len(), 0);
}

#[test]
fn what_a_bucket_lets_through_reaches_s3_in_canonical_form() {
    let origin = ScriptedOrigin::echo();
    let config = Config::products(origin.url()).bucket("others", origin.url());
    let parameters = ["versionId", "response-content-type", "partNumber"];
    let config = allowing(config, &parameters).set("server.http2.cleartext", true);
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    let http2 = Http2Client::connect(proxy.address());
    for (query, sent) in [
        ("versionId=abc", "?versionId=abc"),
        ("versionId=a%2fb+c&token=x", "?versionId=a%2Fb%20c"),
        ("versionId=v&x=1&partNumber=2", "?partNumber=2&versionId=v"),
        (
            "version%49d=v&response-content-type=text/plain",
            "?response-content-type=text%2Fplain&versionId=v",
        ),
        ("response-expires=0&X-Amz-Signature=x", ""),
        ("", ""),
    ] {
        let target = format!("/products/a?{query}");
        let expected = format!("/products/a{sent}");
        assert_eq!(client.get(&target).text(), expected);
        assert_eq!(String::from_utf8(http2.get(&target).body).unwrap(), expected);
    }
    for query in [
        "versionId=",
        "versionId",
        "versionId=1&versionId=2",
        "versionId=1&version%49d=1",
        "versionId=%zz",
        "versionId=%0a",
        "partNumber=0",
        "partNumber=10001",
        "partNumber=one",
        "response-content-type=",
        "versionId=1&acl",
    ] {
        let response = client.get(&format!("/products/a?{query}"));
        response.assert_fault(400, "query_not_supported");
    }
    // What one bucket lets through says nothing about another.
    client.get("/others/a?versionId=1").assert_fault(400, "query_not_supported");
    assert_eq!(client.get("/others/a?response-content-type=x").text(), "/others/a");
}

#[test]
fn s3_accepts_the_signature_of_every_query_within_a_second() {
    let server = S3Server::with_test_keys();
    server.put("products", "a b.txt", "text");
    let parameters = ["response-content-type", "response-content-disposition", "versionId"];
    let proxy = Proxy::start(&allowing(Config::products(server.url()), &parameters));
    let mut client = proxy.client();
    // The same key in the same second: a remembered signature of one must not serve another.
    for _ in 0..3 {
        for query in [
            "",
            "?response-content-type=text/html",
            "?response-content-type=text/css",
            "?versionId=null",
            "?versionId=a%2Bb+c",
            "?response-content-disposition=attachment;+filename=%22%E5%85%AB+%2B1.txt%22",
        ] {
            let response = client.get(&format!("/products/a%20b.txt{query}"));
            assert_eq!((response.status, response.text()), (200, "text"), "{query}");
        }
    }
    let sent: Vec<_> = server.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(
        sent[5],
        "/products/a%20b.txt?response-content-disposition=attachment%3B%20filename%3D%22%E5%85%AB\
         %20%2B1.txt%22"
    );
}

#[test]
fn allowing_a_parameter_is_hot() {
    let origin = ScriptedOrigin::echo();
    let before = reload::config(&origin);
    let proxy = Proxy::start(&before);
    let mut client = proxy.client();
    client.get("/products/a?versionId=1").assert_fault(400, "query_not_supported");
    let report = reload::adopt(&proxy, &allowing(before.clone(), &["versionId"]));
    assert_eq!(report["applied"], json!(["buckets[products].allow_query"]), "{report}");
    assert_eq!(client.get("/products/a?versionId=1").text(), "/products/a?versionId=1");
    reload::adopt(&proxy, &before);
    client.get("/products/a?versionId=1").assert_fault(400, "query_not_supported");
}

#[test]
fn a_pipelined_request_after_a_refused_query_is_served() {
    let origin = ScriptedOrigin::echo();
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    let requests = [
        request_bytes("GET", "/products/a?acl", &[]),
        request_bytes("GET", "/products/b?x-id=GetObject", &[]),
    ];
    client.send(requests.concat());
    client.response("GET").assert_fault(400, "query_not_supported");
    assert_eq!(client.response("GET").text(), "/products/b");
}
