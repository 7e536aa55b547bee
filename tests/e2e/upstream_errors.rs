//! Error responses of S3: passed on as they are, but for those about our own credentials.

use std::io::Write as _;

use crate::support::{
    config::{ACCESS_KEY, Config},
    proxy::{Launch, Proxy, field},
    raw_client::Framing,
    s3_server::S3Server,
    scripted_origin::{FullQueue, ScriptedOrigin, refused_address, response_bytes},
    tls_front::TlsFront,
    waiting::wait_until,
};

fn error_document(code: &str, padding: usize) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{}</Message>\
         <AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId></Error>",
        "m".repeat(padding)
    )
}

/// A response in chunks of at most 1,000 bytes, as S3 sends its errors.
fn chunked(status: &str, body: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    write!(bytes, "HTTP/1.1 {status}\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    for part in body.as_bytes().chunks(1_000) {
        write!(bytes, "{:x}\r\n", part.len()).unwrap();
        bytes.extend_from_slice(&[part, b"\r\n"].concat());
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

#[test]
fn errors_of_s3_pass_as_they_are() {
    let s3 = S3Server::with_test_keys();
    s3.put("products", "there", "x");
    let proxy = Proxy::start(&Config::products(s3.url()));
    let missing = proxy.get("/products/missing");
    assert_eq!(missing.status, 404);
    assert!(missing.text().contains("NoSuchKey"), "{missing:?}");
    let head = proxy.client().request("HEAD", "/products/missing", &[]);
    assert_eq!(head.status, 404);
}

#[test]
fn a_refusal_of_our_credentials_is_our_fault_and_shows_nothing() {
    let s3 = S3Server::with_test_keys();
    s3.put("products", "x", "x");
    let config =
        Config::new().bucket_with_keys("products", s3.url(), ACCESS_KEY, "not-the-right-secret");
    let proxy = Proxy::start(&config);
    let refused = proxy.get("/products/x");
    refused.assert_fault(502, "upstream_credentials");
    let shown = format!("{refused:?}");
    for secret in [ACCESS_KEY, "not-the-right-secret", "CanonicalRequest", "AWS4-HMAC"] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(!proxy.output().contains("not-the-right-secret"));
}

#[test]
fn a_403_is_translated_only_when_it_is_about_our_credentials() {
    for (code, ours) in [
        ("SignatureDoesNotMatch", true),
        ("InvalidAccessKeyId", true),
        ("ExpiredToken", true),
        ("InvalidToken", true),
        ("RequestTimeTooSkewed", true),
        ("AccessDenied", false),
        ("InvalidObjectState", false),
    ] {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>m</Message>\
             <AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId></Error>"
        );
        let xml = [("Content-Type", "application/xml")];
        let origin = ScriptedOrigin::always(response_bytes("403 Forbidden", &xml, body.as_bytes()));
        let proxy = Proxy::in_front_of(&origin);
        let response = proxy.get("/products/x");
        if ours {
            response.assert_fault(502, "upstream_credentials");
            assert!(!response.text().contains(ACCESS_KEY), "{response:?}");
        } else {
            assert_eq!((response.status, response.text()), (403, body.as_str()));
            assert_eq!(response.header("content-type"), Some("application/xml"));
        }
    }
}

#[test]
fn errors_of_the_server_pass_with_body_and_fields() {
    for status in ["500 Internal Server Error", "503 Slow Down", "429 Too Many", "418 Teapot"] {
        let fields = [("Retry-After", "7"), ("Content-Type", "application/xml")];
        let origin = ScriptedOrigin::always(response_bytes(status, &fields, b"<Error/>"));
        let proxy = Proxy::in_front_of(&origin);
        let response = proxy.get("/products/x");
        assert_eq!(response.status.to_string(), status[..3]);
        assert_eq!((response.text(), response.header("retry-after")), ("<Error/>", Some("7")));
        assert_eq!(origin.requests().len(), 1, "a response is a response, not a reason to retry");
    }
}

#[test]
fn error_bodies_in_chunks_pass_at_once_and_leave_the_connection_in_order() {
    for (status, code) in [("403 Forbidden", "AccessDenied"), ("400 Bad Request", "InvalidRequest")]
    {
        for padding in [0, 10_000, 100_000] {
            let body = error_document(code, padding);
            let origin = ScriptedOrigin::always(chunked(status, &body));
            let proxy = Proxy::in_front_of(&origin);
            let mut client = proxy.client();
            for _ in 0..2 {
                let response = client.get("/products/x");
                assert_eq!(response.status.to_string(), status[..3]);
                assert!(response.text() == body, "{status} with {padding}");
            }
            assert_eq!(origin.accepted(), 1);
            let sent = "yatagarasu_http_response_bytes_total{bucket=\"products\"}";
            let both = (2 * body.len()).to_string().parse().ok();
            wait_until("both bodies to be counted", || proxy.metric(sent) == both);
        }
    }
}

#[test]
fn refusals_of_our_credentials_are_found_in_any_framing() {
    let body = error_document("SignatureDoesNotMatch", 10);
    let until_close = format!("HTTP/1.1 403 Forbidden\r\n\r\n{body}").into_bytes();
    for bytes in [chunked("403 Forbidden", &body), until_close] {
        let origin = ScriptedOrigin::start(move |conn, _| {
            conn.expect_request();
            conn.send(&bytes);
        });
        let proxy = Proxy::in_front_of(&origin);
        let response = proxy.get("/products/x");
        response.assert_fault(502, "upstream_credentials");
        assert!(!response.text().contains(ACCESS_KEY));
    }
}

#[test]
fn an_error_body_that_cannot_be_read_is_not_passed_on() {
    // A content coding that nobody asked for hides whether the body names our key.
    let gzip = [("Content-Encoding", "gzip"), ("Content-Type", "application/xml")];
    let origin =
        ScriptedOrigin::always(response_bytes("403 Forbidden", &gzip, b"\x1f\x8b\x08\0 coded"));
    Proxy::in_front_of(&origin).get("/products/x").assert_fault(502, "upstream_protocol_error");
    let identity = [("Content-Encoding", "identity")];
    let body = error_document("AccessDenied", 1);
    let origin =
        ScriptedOrigin::always(response_bytes("403 Forbidden", &identity, body.as_bytes()));
    assert_eq!(Proxy::in_front_of(&origin).get("/products/x").status, 403);
}

#[test]
fn a_403_to_head_passes_and_leaves_the_connection_in_order() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.send("HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n");
        conn.expect_request();
        conn.respond("200 OK", &[], b"next");
        conn.wait_closed();
    });
    let proxy = Proxy::in_front_of(&origin);
    let mut client = proxy.client();
    let head = client.request("HEAD", "/products/x", &[]);
    assert_eq!((head.status, head.framing), (403, Framing::NoBody));
    assert_eq!(client.get("/products/x").text(), "next");
    assert_eq!(origin.accepted(), 1);
}

#[test]
fn a_403_that_never_comes_is_502_and_not_a_hang() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.send("HTTP/1.1 403 Forbidden\r\nContent-Length: 500\r\n\r\n<Error>");
    });
    Proxy::in_front_of(&origin).get("/products/x").assert_fault(502, "upstream_protocol_error");
}

#[test]
fn an_endpoint_that_is_dead_is_named_in_one_warning() {
    const WARNING: &str = "a request to S3 failed; this is logged once a minute";
    let refused = refused_address();
    let full = FullQueue::start();
    let silent = ScriptedOrigin::start(|conn, _| conn.wait_closed());
    for (url, short, errno, code, reason) in [
        (format!("http://{refused}"), "read", Some(111), "upstream_refused", "refused"),
        (full.url(), "connect", None, "upstream_timeout", "connect_timeout"),
        (silent.url(), "first_byte", None, "upstream_timeout", "first_byte_timeout"),
    ] {
        let address = url.replace("http://", "");
        let config = Config::products(&url).set(&format!("buckets.0.s3.timeouts.{short}"), 0.2);
        let proxy = Proxy::start(&config);
        for _ in 0..3 {
            assert_eq!(proxy.get("/products/x").code(), code);
        }
        wait_until("the warning", || proxy.stderr().event(WARNING).is_some());
        let records = proxy.stderr().records();
        let warnings: Vec<_> = records
            .iter()
            .filter(|record| field(record, "message") == Some(&WARNING.into()))
            .collect();
        let [warning] = warnings[..] else { panic!("{warnings:?}") };
        assert_eq!(warning["level"], "WARN");
        assert_eq!(field(warning, "bucket"), Some(&"products".into()));
        assert_eq!(field(warning, "endpoint"), Some(&url.into()));
        assert_eq!(field(warning, "address"), Some(&address.into()), "{warning}");
        assert_eq!(field(warning, "errno").cloned(), errno.map(Into::into), "{warning}");
        assert_eq!(field(warning, "reason"), Some(&reason.into()), "{warning}");
    }
}

#[test]
fn a_dead_endpoint_is_named_as_its_url() {
    const WARNING: &str = "a request to S3 failed; this is logged once a minute";
    let origin = ScriptedOrigin::serving("x");
    let front = TlsFront::start(origin.address());
    let port = refused_address().port();
    for (url, ca_file) in [
        (format!("http://[::ffff:127.0.0.1]:{port}"), ""),
        (format!("https://127.0.0.1:{port}"), "ca.pem"),
    ] {
        let config = Config::products(&url).set("buckets.0.s3.ca_file", ca_file);
        let proxy = Launch::trusting(&front).config(&config).start();
        assert_eq!(proxy.get("/products/x").code(), "upstream_refused");
        wait_until("the warning", || proxy.stderr().event(WARNING).is_some());
        let warning = proxy.stderr().event(WARNING).unwrap();
        assert_eq!(field(&warning, "endpoint"), Some(&url.into()), "{warning}");
    }
}

#[test]
fn refusals_of_the_clock_and_of_credentials_each_have_a_warning_and_a_count() {
    const CLOCK: &str = "S3 refuses the clock of this machine; set it, and keep NTP running: \
                         clients get 502 until then";
    const CREDENTIALS: &str = "S3 refuses the credentials of this bucket; check their key, secret \
                               and token, and the region: clients get 502 until then";
    const REFUSALS: usize = 3;

    let origin = ScriptedOrigin::start(|conn, _| {
        while let Some(request) = conn.request() {
            let code = request.target.rsplit('/').next().unwrap();
            conn.send(chunked("403 Forbidden", &error_document(code, 10)));
        }
    });
    // Topics belong to a core.
    let config = Config::products(origin.url()).bucket("other", origin.url());
    let proxy = Proxy::start(&config.set("server.threads", 1));
    let refuse = |bucket: &str, code: &str| {
        proxy.get(&format!("/{bucket}/{code}")).assert_fault(502, "upstream_credentials");
    };
    for _ in 0..REFUSALS {
        refuse("products", "RequestTimeTooSkewed");
    }
    // In the same minute.
    for _ in 0..REFUSALS {
        refuse("products", "InvalidAccessKeyId");
    }
    refuse("other", "RequestTimeTooSkewed");
    // A request that came back, which would have no warning of its own either.
    let via = origin.requests()[0].fields.get("via").expect("a Via").to_owned();
    proxy.get_with("/products/x", &[("Via", &via)]).assert_fault(508, "loop_detected");

    let count = |bucket: &str, reason: &str| {
        proxy.metric(&format!(
            "yatagarasu_upstream_errors_total{{bucket=\"{bucket}\",reason=\"{reason}\"}}"
        ))
    };
    assert_eq!(count("products", "clock_skew"), Some(3.0), "{}", proxy.metrics());
    assert_eq!(count("products", "credentials"), Some(3.0));
    assert_eq!(count("other", "clock_skew"), Some(1.0));
    let warnings = || -> Vec<(String, String)> {
        let word = |record: &_, name| field(record, name)?.as_str().map(str::to_owned);
        let records = proxy.stderr().records();
        let warnings = records.iter().filter(|record| field(record, "bucket").is_some());
        warnings
            .filter_map(|record| Some((word(record, "bucket")?, word(record, "message")?)))
            .collect()
    };
    wait_until("the last warning", || {
        warnings().iter().any(|(_, text)| text.contains("came back"))
    });
    let of = |bucket: &str, text: &str| (bucket.to_owned(), text.to_owned());
    assert_eq!(
        warnings(),
        [
            of("products", CLOCK),
            of("products", CREDENTIALS),
            of("other", CLOCK),
            of("products", "a request came back: the S3 endpoint leads to this proxy itself"),
        ]
    );
}
