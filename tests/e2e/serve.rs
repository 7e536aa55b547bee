//! Serving objects: routing, keys, signing, what passes through and what is added.

use crate::support::{
    config::Config,
    proxy::Proxy,
    raw_client::{Client, Framing},
    reload,
    s3_server::S3Server,
    scripted_origin::{ScriptedOrigin, response_bytes},
};

#[test]
fn get_and_head_of_a_signed_object() {
    let s3 = S3Server::with_test_keys();
    s3.put("products", "dir/hello.txt", "hello");
    let proxy = Proxy::start(&Config::products(s3.url()));
    let mut client = proxy.client();

    let got = client.get("/products/dir/hello.txt");
    assert_eq!((got.status, got.text()), (200, "hello"));
    assert_eq!(got.framing, Framing::Length(5));

    let head = client.request("HEAD", "/products/dir/hello.txt", &[]);
    assert_eq!((head.status, head.header("content-length")), (200, Some("5")));

    let again = client.get("/products/dir/hello.txt");
    assert_eq!(again.text(), "hello");
    let methods: Vec<_> = s3.requests().into_iter().map(|seen| seen.method).collect();
    assert_eq!(methods, ["GET", "HEAD", "GET"]);
    assert_eq!(s3.connections(), 1, "one worker needs one upstream connection here");
}

#[test]
fn each_bucket_signs_with_its_own_credentials() {
    let s3 = S3Server::start(&[("AKIDFIRST", "first-secret"), ("AKIDSECOND", "second-secret")]);
    s3.put("first", "who", "first");
    s3.put("second", "who", "second");
    let config = Config::new()
        .bucket_with_keys("first", s3.url(), "AKIDFIRST", "first-secret")
        .bucket_with_keys("second", s3.url(), "AKIDSECOND", "second-secret");
    let proxy = Proxy::start(&config);
    let mut client = proxy.client();
    for name in ["first", "second", "first"] {
        let got = client.get(&format!("/{name}/who"));
        assert_eq!((got.status, got.text()), (200, name));
    }
    let ids: Vec<_> = s3
        .requests()
        .iter()
        .map(|seen| seen.header("authorization").unwrap().contains("AKIDSECOND"))
        .collect();
    assert_eq!(ids, [false, true, false]);
}

#[test]
fn awkward_keys_name_their_objects() {
    let s3 = S3Server::with_test_keys();
    let long = ["k".repeat(204).as_str(); 5].join("/");
    assert_eq!(long.len(), 1_024);
    let keys = [
        ("plain", "plain"),
        ("a b", "a%20b"),
        ("a+b", "a+b"),
        ("a+b c", "a%2Bb%20c"),
        ("50%", "50%25"),
        ("%2F", "%252F"),
        ("(x)@y!*'", "(x)@y!*'"),
        ("back\\slash", "back%5Cslash"),
        ("~-._", "%7E%2d%2E%5f"),
        ("&=;:,$?#[]", "&=;:,$%3F%23%5B%5D"),
        ("deep/er/key", "deep%2Fer/key"),
        ("ü/日本.txt", "%C3%BC/%E6%97%A5%E6%9C%AC.txt"),
        (long.as_str(), long.as_str()),
    ];
    for (key, _) in keys {
        s3.put("products", key, format!("I am {key}"));
    }
    let proxy = Proxy::start(&Config::products(s3.url()));
    let mut client = proxy.client();
    for (key, written) in keys {
        let got = client.get(&format!("/products/{written}"));
        assert_eq!((got.status, got.text()), (200, format!("I am {key}").as_str()), "{key}");
    }
}

#[test]
fn a_key_is_encoded_for_s3_exactly_once() {
    let origin = ScriptedOrigin::serving("ok");
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    let cases = [
        ("/products/a//b", "/products/a//b"),
        ("/products//a", "/products//a"),
        ("/products/dir/", "/products/dir/"),
        ("/products/a%2Fb", "/products/a/b"),
        ("/products/a%2fb", "/products/a/b"),
        ("/products/a%252Fb", "/products/a%252Fb"),
        ("/products/a+b", "/products/a%2Bb"),
        ("/products/(x)@!*'", "/products/%28x%29%40%21%2A%27"),
        ("/products/%7e%41-._", "/products/~A-._"),
        ("/products/a%5cb", "/products/a%5Cb"),
        ("/products/a;b=c,d&e:f$g", "/products/a%3Bb%3Dc%2Cd%26e%3Af%24g"),
        ("/products/%e6%97%a5", "/products/%E6%97%A5"),
        ("/pro%64ucts/x", "/products/x"),
        ("/products/..a/.b./c..", "/products/..a/.b./c.."),
        ("/products/x?y=z", "/products/x"),
        ("/products/x?", "/products/x"),
    ];
    for (asked, _) in cases {
        assert_eq!(client.get(asked).status, 200, "{asked}");
    }
    let targets: Vec<_> = origin.requests().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, cases.map(|(_, target)| target));
}

#[test]
fn a_bad_path_is_refused_and_never_reaches_s3() {
    let origin = ScriptedOrigin::serving("no");
    let proxy = Proxy::in_front_of(&origin);
    for path in [
        "/products/%",
        "/products/%2",
        "/products/%zz",
        "/products/%00",
        "/products/a%0Ab",
        "/products/a%7Fb",
        "/products/%C3%28",
        "/products/%FF",
        "/products/%ED%A0%80",
        "/products/..",
        "/products/../x",
        "/products/a/../b",
        "/products/./a",
        "/products/a/.",
        "/products/%2e%2e/x",
        "/products/%2E./x",
        "/products/a%2F..%2Fb",
        "/products/..%2fother",
        "/../products/x",
    ] {
        proxy.get(path).assert_fault(400, "bad_path");
    }
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn a_range_passes_through() {
    let s3 = S3Server::with_test_keys();
    s3.put("products", "digits", "0123456789");
    let proxy = Proxy::start(&Config::products(s3.url()));
    let part = proxy.get_with("/products/digits", &[("Range", "bytes=2-5")]);
    assert_eq!((part.status, part.text()), (206, "2345"));
    assert_eq!(part.header("content-range"), Some("bytes 2-5/10"));
    let beyond = proxy.get_with("/products/digits", &[("Range", "bytes=50-60")]);
    assert_eq!(beyond.status, 416);
}

/// The pseudonyms that a request's `Via` names, in order.
fn instances(via: Option<&str>) -> Vec<String> {
    let members = via.expect("Via").split(", ").map(|member| member.strip_prefix("1.1 ").unwrap());
    members.map(str::to_owned).collect()
}

#[test]
fn a_request_names_the_instance_that_it_came_through() {
    let origin = ScriptedOrigin::serving("x");
    let proxies = [(); 2].map(|()| Proxy::start(&Config::products(origin.url())));
    for proxy in &proxies {
        for via in ["", "1.1 cache.example, 1.0 yatagarasu, 1.1 yatagarasu-0"] {
            assert_eq!(proxy.get_with("/products/x", &[("Via", via)]).status, 200);
        }
    }
    let names: Vec<_> =
        origin.requests().iter().map(|seen| instances(seen.fields.get("via"))).collect();
    assert_eq!([names[0].len(), names[2].len()], [1, 1], "nothing of the client's: {names:?}");
    assert_eq!([&names[0], &names[2]], [&names[1], &names[3]], "an instance keeps its name");
    assert_ne!(names[0], names[2]);
    let digits = names[0][0].strip_prefix("yatagarasu-").expect("a pseudonym");
    assert!(digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
}

#[test]
fn two_instances_in_a_chain_are_no_loop() {
    let s3 = S3Server::with_test_keys();
    s3.put("products", "hello.txt", "hello");
    let inner = Proxy::start(&Config::products(s3.url()));
    let outer = Proxy::start(&Config::products(format!("http://{}", inner.address())));
    let got = outer.get("/products/hello.txt");
    assert_eq!((got.status, got.text()), (200, "hello"));
    let requests = s3.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(instances(requests[0].header("via")).len(), 2, "{requests:?}");
}

#[test]
fn a_request_that_comes_back_is_508() {
    let origin = ScriptedOrigin::serving("x");
    let config = Config::products(origin.url()).with_jwt(&[]);
    let proxy = Proxy::start(&config);
    let own = format!("http://{}", proxy.address());
    reload::adopt(&proxy, &config.clone().set("buckets.0.s3.endpoint", own.as_str()));
    for method in ["GET", "HEAD"] {
        let response = proxy.client().request(method, "/products/x", &[]);
        assert_eq!((response.status, response.reason.as_str()), (508, "Loop Detected"));
    }
    // What came back was answered as by any S3 server.
    assert_eq!(proxy.get("/products/x").json()["code"], "loop_detected");
    proxy.stderr().wait_for("the S3 endpoint leads to this proxy itself");
    // Through another instance, which does not see itself.
    let other = Proxy::start(&Config::products(own));
    let through = format!("http://{}", other.address());
    reload::adopt(&proxy, &config.set("buckets.0.s3.endpoint", through.as_str()));
    assert_eq!(proxy.get("/products/x").json()["code"], "loop_detected");
    assert!(origin.requests().is_empty());
}

#[test]
fn via_and_a_request_id_are_added() {
    let origin = ScriptedOrigin::always(response_bytes(
        "200 OK",
        &[("x-amz-request-id", "S3ID"), ("Via", "1.1 cache")],
        b"x",
    ));
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    let (first, second) = (client.get("/products/x"), client.get("/products/x"));
    for response in [&first, &second] {
        let via = response.fields.all("via").join(", ");
        assert!(via.starts_with("1.1 cache, 1.1 "), "{via}");
        assert_eq!(response.header("x-amz-request-id"), Some("S3ID"));
    }
    let id = |response: &crate::support::raw_client::Response| {
        response.header("x-request-id").expect("X-Request-Id").to_owned()
    };
    assert_ne!(id(&first), id(&second));
}

#[test]
fn a_date_is_added_only_when_missing() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.respond("200 OK", &[("Date", "Tue, 15 Nov 1994 08:12:31 GMT")], b"x");
        conn.expect_request();
        conn.respond("200 OK", &[], b"x");
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    let dated = client.get("/products/x");
    assert_eq!(dated.header("date"), Some("Tue, 15 Nov 1994 08:12:31 GMT"));
    let undated = client.get("/products/x");
    assert!(undated.header("date").is_some_and(|date| date.ends_with(" GMT")), "{undated:?}");
    assert!(client.get("/nothing").header("date").is_some());
}

#[test]
fn options_tells_the_methods() {
    let origin = ScriptedOrigin::serving("no");
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    let response = client.request("OPTIONS", "/products/x", &[]);
    assert_eq!((response.status, response.header("allow")), (204, Some("GET, HEAD, OPTIONS")));
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn other_methods_are_405_and_never_reach_s3() {
    let origin = ScriptedOrigin::serving("no");
    let proxy = Proxy::in_front_of(&origin);
    for (method, target) in [
        ("POST", "/products/x"),
        ("PUT", "/products/x"),
        ("DELETE", "/products/x"),
        ("PATCH", "/products/x"),
        ("TRACE", "/products/x"),
        ("get", "/products/x"),
        ("BREW", "/products/x"),
        ("CONNECT", "proxy.test:443"),
    ] {
        let response = proxy.client().request(method, target, &[]);
        response.assert_fault(405, "method_not_allowed");
        assert_eq!(response.header("allow"), Some("GET, HEAD, OPTIONS"), "{method}");
    }
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn paths_without_an_object_are_404() {
    let origin = ScriptedOrigin::serving("a listing");
    let proxy = Proxy::in_front_of(&origin);
    for path in ["/products", "/products/", "/products?list-type=2", "/products/?acl"] {
        proxy.get(path).assert_fault(404, "no_key");
    }
    for path in ["/", "/other/x", "/productsfoo/x", "/product/x", "/PRODUCTS/x", "//products/x"] {
        proxy.get(path).assert_fault(404, "no_route");
    }
    assert_eq!(origin.accepted(), 0);
    let head = proxy.client().request("HEAD", "/products", &[]);
    assert_eq!((head.status, head.framing), (404, Framing::NoBody));
}

#[test]
fn the_longest_prefix_wins() {
    let (outer, inner) = (ScriptedOrigin::serving("outer"), ScriptedOrigin::serving("inner"));
    let config = Config::new()
        .bucket("outer", outer.url())
        .bucket("inner", inner.url())
        .set("buckets.0.path_prefix", "/a")
        .set("buckets.1.path_prefix", "/a/b");
    let proxy = Proxy::start(&config);
    for (path, name) in [
        ("/a/x", "outer"),
        ("/a/b/x", "inner"),
        ("/a/bc/x", "outer"),
        ("/a/c/b/x", "outer"),
        ("/a%2Fb/x", "inner"),
    ] {
        assert_eq!(proxy.get(path).text(), name, "{path}");
    }
    proxy.get("/a/b").assert_fault(404, "no_key");
}

#[test]
fn the_root_prefix_serves_everything_but_the_built_in_endpoints() {
    let origin = ScriptedOrigin::serving("object");
    let config = Config::products(origin.url()).set("buckets.0.path_prefix", "/");
    let proxy = Proxy::start(&config);
    assert_eq!(proxy.get("/any/key").text(), "object");
    assert_eq!(origin.only_request().target, "/products/any/key");
    for path in ["/health", "/ready", "/metrics"] {
        let response = proxy.get(path);
        assert_eq!(response.status, 200, "{path}");
        assert_ne!(response.text(), "object", "{path}");
    }
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn a_key_prefix_stands_before_the_key() {
    let origin = ScriptedOrigin::serving("x");
    let config = Config::products(origin.url()).set("buckets.0.s3.key_prefix", "tenant a/");
    let proxy = Proxy::start(&config);
    assert_eq!(proxy.get("/products/k").status, 200);
    assert_eq!(origin.only_request().target, "/products/tenant%20a/k");
}

#[test]
fn a_session_token_is_sent_and_signed() {
    let origin = ScriptedOrigin::serving("x");
    let config = Config::products(origin.url()).set("buckets.0.s3.session_token", "SESSION/TOKEN");
    let proxy = Proxy::start(&config);
    assert_eq!(proxy.get("/products/k").status, 200);
    let seen = origin.only_request();
    assert_eq!(seen.fields.get("x-amz-security-token"), Some("SESSION/TOKEN"));
    let authorization = seen.fields.get("authorization").unwrap();
    assert!(authorization.contains("x-amz-security-token"), "{authorization}");
    assert!(!proxy.output().contains("SESSION/TOKEN"));
}

#[test]
fn an_anonymous_bucket_is_not_signed() {
    let origin = ScriptedOrigin::serving("x");
    let mut config = Config::new().bucket("products", origin.url());
    config = config.set(
        "buckets.0.s3",
        serde_json::json!({
            "bucket": "products",
            "region": "us-east-1",
            "endpoint": origin.url(),
            "anonymous": true,
        }),
    );
    let proxy = Proxy::start(&config);
    assert_eq!(proxy.get("/products/k").status, 200);
    let seen = origin.only_request();
    assert!(!seen.fields.has("authorization"), "{seen:?}");
}

#[test]
fn conditional_responses_pass_through() {
    let origin = ScriptedOrigin::start(|conn, _| {
        let seen = conn.expect_request();
        assert_eq!(seen.fields.get("if-none-match"), Some("\"abc\""));
        conn.send("HTTP/1.1 304 Not Modified\r\nETag: \"abc\"\r\nContent-Length: 10\r\n\r\n");
        let seen = conn.expect_request();
        assert_eq!(seen.fields.get("if-match"), Some("\"other\""));
        conn.respond("412 Precondition Failed", &[], b"<Error/>");
        conn.expect_request();
        conn.respond("200 OK", &[], b"x");
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    let fresh = client.request("GET", "/products/x", &[("If-None-Match", "\"abc\"")]);
    assert_eq!((fresh.status, fresh.header("etag")), (304, Some("\"abc\"")));
    let failed = client.request("GET", "/products/x", &[("If-Match", "\"other\"")]);
    assert_eq!((failed.status, failed.text()), (412, "<Error/>"));
    assert_eq!(client.get("/products/x").text(), "x");
    assert_eq!(origin.accepted(), 1, "a 304 leaves the upstream connection in order");
}

#[test]
fn head_keeps_the_length_of_the_object() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 12345678901\r\nETag: \"e\"\r\n\r\n");
        conn.expect_request();
        conn.respond("200 OK", &[], b"next");
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    let head = client.request("HEAD", "/products/x", &[]);
    assert_eq!(head.header("content-length"), Some("12345678901"));
    assert_eq!(client.get("/products/y").text(), "next");
}

#[test]
fn the_generation_is_shown_when_asked_for() {
    let origin = ScriptedOrigin::serving("x");
    let plain = Proxy::in_front_of(&origin);
    assert_eq!(plain.get("/products/x").header("x-config-generation"), None);
    let config = Config::products(origin.url()).set("server.expose_generation", true);
    let exposing = Proxy::start(&config);
    for path in ["/products/x", "/nothing", "/health"] {
        assert_eq!(exposing.get(path).header("x-config-generation"), Some("1"), "{path}");
    }
}

#[test]
fn many_clients_on_two_workers_get_their_own_objects() {
    let s3 = S3Server::with_test_keys();
    for number in 0..20 {
        s3.put("products", &format!("object-{number}"), number.to_string().repeat(10_000));
    }
    let proxy = Proxy::start(&Config::products(s3.url()).set("server.threads", 2));
    std::thread::scope(|scope| {
        for number in 0..20 {
            let address = proxy.address();
            scope.spawn(move || {
                let mut client = Client::connect(address);
                for _ in 0..10 {
                    let got = client.get(&format!("/products/object-{number}"));
                    assert_eq!(got.text(), number.to_string().repeat(10_000));
                }
            });
        }
    });
}

#[test]
fn ranges_keep_their_status_and_length() {
    let range = [("Content-Range", "bytes 0-3/10"), ("ETag", "\"e\"")];
    let origin = ScriptedOrigin::start(move |conn, _| {
        conn.expect_request();
        conn.respond("206 Partial Content", &range, b"0123");
        conn.expect_request();
        conn.respond("416 Range Not Satisfiable", &[("Content-Range", "bytes */10")], b"<Error/>");
        conn.expect_request();
        conn.send("HTTP/1.1 206 Partial Content\r\nContent-Length: 4\r\nContent-Range: bytes 0-3/10\r\n\r\n");
        conn.wait_closed();
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    let part = client.request("GET", "/products/x", &[("Range", "bytes=0-3")]);
    assert_eq!((part.status, part.framing, part.text()), (206, Framing::Length(4), "0123"));
    assert_eq!(part.header("content-range"), Some("bytes 0-3/10"));
    let beyond = client.request("GET", "/products/x", &[("Range", "bytes=50-60")]);
    assert_eq!((beyond.status, beyond.text()), (416, "<Error/>"));
    assert_eq!(beyond.header("content-range"), Some("bytes */10"));
    let head = client.request("HEAD", "/products/x", &[("Range", "bytes=0-3")]);
    assert_eq!((head.status, head.header("content-length")), (206, Some("4")));
    assert_eq!(origin.accepted(), 1);
}
