//! Compression: which responses are coded, and what their heads say.

use http::Request;
use serde_json::json;

use crate::support::{
    config::Config,
    decode::{CODINGS, decode_all, page},
    http2_client::Http2Client,
    proxy::Proxy,
    raw_client::{Client, Framing, Response, request_bytes},
    reload::{adopt, config_of},
    scripted_origin::{OriginConnection, Request as SeenRequest, ScriptedOrigin, response_bytes},
    waiting::wait_until,
};

/// Length of the objects of [`store`], in bytes.
const LENGTH: usize = 20_000;

/// Fields that S3 may send of an object beside its type.
const OF_THE_OBJECT: &[(&str, &str)] = &[
    ("ETag", "\"abc\""),
    ("Accept-Ranges", "bytes"),
    ("Content-MD5", "1B2M2Y8AsgTpgAmY7PhCfg=="),
    ("Digest", "md5=x"),
    ("Content-Digest", "md5=:x:"),
    ("Repr-Digest", "md5=:x:"),
    ("x-amz-checksum-crc32", "AAAAAA=="),
    ("X-Amz-Checksum-Type", "FULL_OBJECT"),
    ("x-goog-hash", "crc32c=AAAAAA=="),
    ("x-goog-stored-content-length", "20000"),
    ("x-amz-meta-kept", "yes"),
    ("Last-Modified", "Sun, 29 Nov 2026 09:00:00 GMT"),
];

fn compressing(endpoint: String) -> Config {
    let compress = json!({ "types": ["text/*", "application/json"] });
    Config::products(endpoint).set("buckets.0.compress", compress)
}

/// Serves pages with the tag `"abc"`, as S3 does: parts of them and under conditions, too.
fn store(more: &'static [(&str, &str)]) -> ScriptedOrigin {
    ScriptedOrigin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            answer(conn, &request, more);
        }
    })
}

fn answer(conn: &mut OriginConnection, request: &SeenRequest, more: &[(&str, &str)]) {
    let body = page(LENGTH);
    let lists = |name: &str| {
        let tags = request.fields.all(name).join(",");
        tags.split(',').any(|tag| tag.trim() == "\"abc\"")
    };
    let mut fields = OF_THE_OBJECT.to_vec();
    if !more.iter().any(|(name, _)| *name == "Content-Type") {
        fields.push(("Content-Type", "text/html; charset=utf-8"));
    }
    fields.extend_from_slice(more);
    let range = request.fields.get("range").is_some();
    let (status, sent) = if request.fields.has("if-match") && !lists("if-match") {
        ("412 Precondition Failed", &b"<Error/>"[..])
    } else if lists("if-none-match") || request.fields.has("if-modified-since") {
        conn.send("HTTP/1.1 304 Not Modified\r\nETag: \"abc\"\r\n");
        conn.send("Content-Length: 20000\r\nAccept-Ranges: bytes\r\n");
        conn.send("Last-Modified: Sun, 29 Nov 2026 09:00:00 GMT\r\n\r\n");
        return;
    } else if range {
        fields.push(("Content-Range", "bytes 0-1999/20000"));
        ("206 Partial Content", &body[..2_000])
    } else {
        ("200 OK", &body[..])
    };
    let response = response_bytes(status, &fields, sent);
    let length =
        if request.method == "HEAD" { response.len() - sent.len() } else { response.len() };
    conn.send(&response[..length]);
}

fn get(proxy: &Proxy, fields: &[(&str, &str)]) -> Response {
    proxy.get_with("/products/x", fields)
}

#[track_caller]
fn assert_coded(response: &Response, coding: &str) {
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("content-encoding"), Some(coding), "{:?}", response.fields);
    assert_eq!(response.header("vary"), Some("Accept-Encoding"));
    assert_eq!(response.header("etag"), Some(&*format!("W/\"abc-{coding}\"")));
    for gone in [
        "content-length",
        "accept-ranges",
        "content-md5",
        "digest",
        "content-digest",
        "repr-digest",
        "x-amz-checksum-crc32",
        "x-amz-checksum-type",
        "x-goog-hash",
        "x-goog-stored-content-length",
    ] {
        assert!(!response.fields.has(gone), "{gone} of another body");
    }
    assert_eq!(response.header("x-amz-meta-kept"), Some("yes"));
    assert_eq!(response.header("content-type"), Some("text/html; charset=utf-8"));
    assert!(response.fields.has("last-modified"));
}

/// The body is the object as it is, and the head says so.
#[track_caller]
fn assert_as_it_is(response: &Response, vary: Option<&str>) {
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.body.len(), LENGTH, "{:?}", response.fields);
    assert_eq!(response.framing, Framing::Length(LENGTH as u64));
    assert_eq!(response.header("vary"), vary);
    assert_eq!(response.header("etag"), Some("\"abc\""));
    assert!(response.fields.has("accept-ranges"));
}

#[test]
fn bodies_of_every_size_come_back_in_every_coding() {
    let sizes = [0, 1, 1_023, 1_024, 1_025, 16_384, 65_536, 131_072, 300_000, 3_000_000];
    let origin = ScriptedOrigin::start(|conn, _| {
        while let Some(request) = conn.request() {
            let size = request.target.rsplit('/').next().unwrap().parse().unwrap();
            conn.respond("200 OK", &[("Content-Type", "Text/Plain")], &page(size));
        }
    });
    let proxy = Proxy::start(&compressing(origin.url()));
    for coding in CODINGS {
        let mut client = proxy.client();
        for size in sizes {
            let target = format!("/products/{size}");
            let response = client.request("GET", &target, &[("Accept-Encoding", coding)]);
            assert_eq!(response.status, 200);
            let encoding = response.header("content-encoding");
            if size < 1_024 {
                assert_eq!((encoding, response.header("vary")), (None, None), "{size}");
                assert_eq!(response.body, page(size));
                continue;
            }
            assert_eq!(encoding, Some(coding), "{size} {:?}", response.fields);
            assert_eq!(response.framing, Framing::Chunked);
            assert!(response.body.len() < size, "{coding} made {size} longer");
            assert_eq!(decode_all(coding, &response.body), page(size), "{coding} {size}");
        }
    }
}

#[test]
fn a_coded_response_has_fields_of_its_own_and_its_head_is_that_of_head() {
    let origin = store(&[]);
    let proxy = Proxy::start(&compressing(origin.url()));
    for coding in CODINGS {
        let response = get(&proxy, &[("Accept-Encoding", coding)]);
        assert_coded(&response, coding);
        assert_eq!(decode_all(coding, &response.body), page(LENGTH));
        let fields = [("Accept-Encoding", coding)];
        let head = proxy.client().request("HEAD", "/products/x", &fields);
        assert_coded(&head, coding);
        assert!(head.body.is_empty());
        let names = |response: &Response| {
            let names = response.fields.names();
            names.into_iter().filter(|name| name != "transfer-encoding").collect::<Vec<_>>()
        };
        assert_eq!(names(&head), names(&response));
    }
    // What a client without the coding gets is the object, and a cache knows that it depends.
    for fields in [&[][..], &[("Accept-Encoding", "identity")], &[("Accept-Encoding", "gzip;q=0")]]
    {
        assert_as_it_is(&get(&proxy, fields), Some("Accept-Encoding"));
    }
    let head = proxy.client().request("HEAD", "/products/x", &[]);
    assert_eq!(head.header("content-length"), Some("20000"));
    assert_eq!(head.header("vary"), Some("Accept-Encoding"));
    // S3 is not asked for codings.
    assert!(origin.requests().iter().all(|request| !request.fields.has("accept-encoding")));
}

#[test]
fn the_configured_order_decides_between_codings_that_a_client_likes_equally() {
    let origin = store(&[]);
    let config = compressing(origin.url());
    let proxy = Proxy::start(&config);
    for (accepts, expected) in [
        ("gzip, deflate, br, zstd", Some("zstd")),
        ("gzip, deflate, br", Some("br")),
        ("gzip;q=1.0, br;q=0.5", Some("gzip")),
        ("*", Some("zstd")),
        ("*;q=0", None),
        ("identity, gzip;q=0.5", None),
        ("deflate", None),
    ] {
        let response = get(&proxy, &[("Accept-Encoding", accepts)]);
        assert_eq!(response.header("content-encoding"), expected, "{accepts}");
        assert_eq!(response.header("vary"), Some("Accept-Encoding"), "{accepts}");
    }
    let config = config.set("buckets.0.compress.algorithms", json!(["gzip", "br"]));
    let proxy = Proxy::start(&config);
    assert_coded(&get(&proxy, &[("Accept-Encoding", "zstd, br, gzip")]), "gzip");
    assert_as_it_is(&get(&proxy, &[("Accept-Encoding", "zstd")]), Some("Accept-Encoding"));
}

#[test]
fn responses_that_are_not_to_be_coded_pass_as_they_are() {
    let accepts = ("Accept-Encoding", "gzip");
    for more in [
        &[("Content-Type", "image/png")][..],
        &[("Content-Encoding", "gzip")],
        &[("Content-Encoding", "aws-chunked")],
        &[("Cache-Control", "max-age=60, No-Transform")],
    ] {
        let origin = store(more);
        let proxy = Proxy::start(&compressing(origin.url()));
        assert_as_it_is(&get(&proxy, &[accepts]), None);
    }
    let origin = store(&[]);
    let proxy = Proxy::start(&compressing(origin.url()));
    let response = get(&proxy, &[accepts, ("Cache-Control", "no-transform")]);
    assert_as_it_is(&response, Some("Accept-Encoding"));
    let mut client = proxy.client();
    client.send("GET /products/x HTTP/1.0\r\nAccept-Encoding: gzip\r\n\r\n");
    assert_as_it_is(&client.response("GET"), Some("Accept-Encoding"));
    // Errors of S3 and our own.
    let origin = ScriptedOrigin::always(response_bytes(
        "404 Not Found",
        &[("Content-Type", "text/html")],
        &page(LENGTH),
    ));
    let proxy = Proxy::start(&compressing(origin.url()));
    for target in ["/products/x", "/nothing"] {
        let response = proxy.get_with(target, &[accepts]);
        assert_eq!(response.status, 404);
        assert_eq!(response.header("content-encoding"), None);
        assert_eq!(response.header("vary"), None);
    }
}

#[test]
fn a_coding_without_a_name_is_none() {
    // What S3 has of an object that was stored with `aws-chunked`.
    let origin = store(&[("Content-Encoding", "")]);
    let proxy = Proxy::start(&compressing(origin.url()));
    let response = get(&proxy, &[("Accept-Encoding", "gzip")]);
    assert_coded(&response, "gzip");
    assert_eq!(response.fields.all("content-encoding"), ["gzip"], "clients look at the first");
    assert_as_it_is(&get(&proxy, &[]), Some("Accept-Encoding"));
}

#[test]
fn a_part_of_an_object_is_never_coded() {
    let origin = store(&[]);
    let proxy = Proxy::start(&compressing(origin.url()));
    let accepts = ("Accept-Encoding", "zstd, gzip");
    let part = get(&proxy, &[accepts, ("Range", "bytes=0-1999")]);
    assert_eq!((part.status, part.body.len()), (206, 2_000));
    assert_eq!(part.header("content-encoding"), None);
    assert_eq!(part.header("etag"), Some("\"abc\""));
    assert_eq!(part.header("vary"), Some("Accept-Encoding"));
    assert!(part.fields.has("accept-ranges"));
    // Of a coded body there are no parts: the whole object, whatever S3 thinks of the tag.
    for tag in ["W/\"abc-zstd\"", "W/\"abc-gzip\""] {
        let whole = get(&proxy, &[accepts, ("Range", "bytes=0-1999"), ("If-Range", tag)]);
        assert_as_it_is(&whole, Some("Accept-Encoding"));
        let seen = origin.requests().pop().unwrap();
        assert!(!seen.fields.has("range") && !seen.fields.has("if-range"), "{tag}");
    }
    // The second is an object's own, although it looks like one of a coding.
    for tag in ["\"abc\"", "\"abc-gzip\""] {
        let part = get(&proxy, &[accepts, ("Range", "bytes=0-1999"), ("If-Range", tag)]);
        assert_eq!(part.status, 206);
        assert_eq!(origin.requests().pop().unwrap().fields.get("if-range"), Some(tag));
    }
}

#[test]
fn conditions_are_about_the_representation_that_the_client_has() {
    let origin = store(&[]);
    let proxy = Proxy::start(&compressing(origin.url()));
    let ask = |accepts: &str, name: &str, tags: &str| {
        get(&proxy, &[("Accept-Encoding", accepts), (name, tags)])
    };
    for (accepts, tags, tag, asked) in [
        ("zstd", "W/\"abc-zstd\"", "W/\"abc-zstd\"", "\"abc\""),
        ("br, gzip", "W/\"abc-gzip\"", "W/\"abc-gzip\"", "\"abc\""),
        ("zstd", "\"x\", W/\"abc-zstd\"", "W/\"abc-zstd\"", "\"x\", \"abc\""),
        ("zstd", "\"abc\"", "\"abc\"", "\"abc\""),
    ] {
        let response = ask(accepts, "If-None-Match", tags);
        assert_eq!(response.status, 304, "{tags}");
        assert_eq!(response.header("etag"), Some(tag));
        assert_eq!(response.header("vary"), Some("Accept-Encoding"));
        assert_eq!(response.header("content-encoding"), None);
        // Of the object, and not of what the client holds.
        let of_object = (response.header("content-length"), response.header("accept-ranges"));
        let is_object = tag == "\"abc\"";
        let expected = (is_object.then_some("20000"), is_object.then_some("bytes"));
        assert_eq!(of_object, expected, "{tags}");
        let seen = origin.requests().pop().unwrap();
        assert_eq!(seen.fields.get("if-none-match"), Some(asked));
    }
    // Which representation the client holds is not known.
    let since = "Sun, 29 Nov 2026 09:00:00 GMT";
    let response = ask("zstd", "If-Modified-Since", since);
    assert_eq!((response.status, response.header("last-modified")), (304, Some(since)));
    for name in ["etag", "content-length", "accept-ranges"] {
        assert_eq!(response.header(name), None, "{name}");
    }
    let response = ask("identity", "If-Modified-Since", since);
    assert_eq!((response.status, response.header("etag")), (304, Some("\"abc\"")));
    // It does not take what it says it has.
    assert_coded(&ask("zstd", "If-None-Match", "\"abc-zstd\""), "zstd");
    assert_coded(&ask("gzip", "If-None-Match", "W/\"abc-zstd\""), "gzip");
    assert_as_it_is(&ask("", "If-None-Match", "W/\"abc-zstd\""), Some("Accept-Encoding"));
    // A weak tag matches nothing where the strong comparison is asked for.
    for tag in ["W/\"abc-zstd\"", "\"abc-zstd\""] {
        assert_eq!(ask("zstd", "If-Match", tag).status, 412);
    }
    assert_coded(&ask("zstd", "If-Match", "\"abc\""), "zstd");
}

#[test]
fn vary_of_s3_and_ours_are_one_field() {
    for (vary, expected) in [
        ("X-A", "X-A, Accept-Encoding, Origin"),
        ("accept-encoding, origin", "accept-encoding, origin"),
        ("*", "*"),
    ] {
        let body = page(LENGTH);
        let fields = [("Content-Type", "text/css"), ("ETag", "\"abc\""), ("Vary", vary)];
        let origin = ScriptedOrigin::always(response_bytes("200 OK", &fields, &body));
        let config = compressing(origin.url());
        let config = config.set("buckets.0.cors.origins", json!(["https://a.example"]));
        let proxy = Proxy::start(&config);
        for accepts in ["", "gzip"] {
            let response = get(&proxy, &[("Accept-Encoding", accepts)]);
            assert_eq!(response.header("vary"), Some(expected));
        }
    }
}

#[test]
fn streams_of_http2_get_coded_bodies() {
    let origin = store(&[]);
    let config = compressing(origin.url()).set("server.http2.cleartext", true);
    let proxy = Proxy::start(&config);
    let client = Http2Client::connect(proxy.address());
    for coding in CODINGS {
        let request = |method: &str| {
            let request = Request::builder().method(method).uri("http://test/products/x");
            client.request(request.header("accept-encoding", coding).body(()).unwrap())
        };
        let reply = request("GET");
        assert_eq!(reply.status, 200);
        assert_eq!(reply.header("content-encoding"), Some(coding));
        assert_eq!(reply.header("etag"), Some(&*format!("W/\"abc-{coding}\"")));
        assert_eq!(reply.header("content-length"), None);
        assert_eq!(reply.header("vary"), Some("Accept-Encoding"));
        assert_eq!(decode_all(coding, &reply.body), page(LENGTH));
        let head = request("HEAD");
        assert_eq!(head.header("content-encoding"), Some(coding));
        assert_eq!((head.header("content-length"), head.body.len()), (None, 0));
    }
}

#[test]
fn what_was_compressed_is_counted() {
    let origin = store(&[]);
    let proxy = Proxy::start(&compressing(origin.url()));
    let of = |family: &str, coding: &str| {
        let labels = format!("{{bucket=\"products\",coding=\"{coding}\"}}");
        proxy.metric(&format!("yatagarasu_{family}_total{labels}"))
    };
    assert!(!proxy.metrics().contains("compress"), "no series before the first event");
    // What is not compressed does not count, nor does a head alone.
    get(&proxy, &[]);
    get(&proxy, &[("Accept-Encoding", "br"), ("Range", "bytes=0-1999")]);
    get(&proxy, &[("Accept-Encoding", "br"), ("If-None-Match", "W/\"abc-br\"")]);
    proxy.client().request("HEAD", "/products/x", &[("Accept-Encoding", "br")]);
    for (coding, times) in [("gzip", 2), ("zstd", 1)] {
        let mut written = 0;
        for _ in 0..times {
            written += get(&proxy, &[("Accept-Encoding", coding)]).body.len();
        }
        let expected = [times, times * LENGTH, written];
        let expected = expected.map(|count| u32::try_from(count).ok().map(f64::from));
        let families =
            ["compressed_responses", "compression_input_bytes", "compression_output_bytes"];
        let counted = || families.map(|family| of(family, coding)) == expected;
        wait_until("the bodies to be counted", counted);
    }
    assert_eq!(of("compressed_responses", "br"), None);
}

#[test]
fn a_reload_turns_compression_on_and_off() {
    let origin = store(&[]);
    let plain = config_of(origin.url());
    let proxy = Proxy::start(&plain);
    let accepts = [("Accept-Encoding", "gzip"), ("If-None-Match", "W/\"abc-gzip\"")];
    let response = get(&proxy, &accepts);
    assert_as_it_is(&response, None);
    let on = plain.clone().set("buckets.0.compress.types", json!(["text/html"]));
    let report = adopt(&proxy, &on);
    assert_eq!(report["applied"], json!(["buckets[products].compress.types"]));
    assert_eq!(get(&proxy, &accepts).status, 304);
    assert_eq!(get(&proxy, &accepts[..1]).header("content-encoding"), Some("gzip"));
    let larger = on.set("buckets.0.compress.min_bytes", 20_001);
    adopt(&proxy, &larger);
    assert_as_it_is(&get(&proxy, &accepts[..1]), None);
    adopt(&proxy, &plain);
    assert_as_it_is(&get(&proxy, &accepts), None);
}

#[test]
fn a_body_of_unknown_length_is_coded() {
    let origin = ScriptedOrigin::start(|conn, _| {
        while let Some(request) = conn.request() {
            conn.send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n");
            conn.send("Transfer-Encoding: chunked\r\n\r\n");
            if request.method == "HEAD" {
                continue;
            }
            for part in page(100_000).chunks(777) {
                conn.send(format!("{:x}\r\n", part.len()));
                conn.send(part);
                conn.send("\r\n");
            }
            conn.send("0\r\n\r\n");
        }
    });
    let proxy = Proxy::start(&compressing(origin.url()));
    let mut client: Client = proxy.client();
    for coding in CODINGS {
        for method in ["GET", "HEAD"] {
            client.send(request_bytes(method, "/products/x", &[("Accept-Encoding", coding)]));
            let response = client.response(method);
            assert_eq!(response.header("content-encoding"), Some(coding));
            if method == "GET" {
                assert_eq!(decode_all(coding, &response.body), page(100_000));
            }
        }
    }
}
