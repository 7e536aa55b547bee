//! The tools tested against each other, without the proxy.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{
        PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4,
};

use crate::support::{
    config::{ACCESS_KEY, Config, SECRET_KEY},
    gate::Gate,
    load::{self, FastOrigin},
    proxy::Launch,
    raw_client::{Client, End, Framing, request_bytes},
    s3_server::S3Server,
    scripted_origin::{FullQueue, ScriptedOrigin, refused_address},
    tls_front::TlsFront,
    token,
    waiting::wait_until,
};

/// A GET signed with the AWS crate, as raw bytes.
fn signed_get(host: &str, target: &str, secret_key: &str) -> Vec<u8> {
    let identity = Credentials::from_keys(ACCESS_KEY, secret_key, None).into();
    let mut settings = SigningSettings::default();
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    settings.payload_checksum_kind = aws_sigv4::http_request::PayloadChecksumKind::XAmzSha256;
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("s3")
        .time(SystemTime::now())
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let url = format!("http://{host}{target}");
    let signable = SignableRequest::new(
        "GET",
        url.as_str(),
        [("host", host)].into_iter(),
        SignableBody::Bytes(b""),
    );
    let (instructions, _) = sign(signable.unwrap(), &params).unwrap().into_parts();
    let mut fields = vec![("Host", host)];
    fields.extend(instructions.headers());
    request_bytes("GET", target, &fields)
}

#[test]
fn the_s3_server_serves_what_is_signed_and_refuses_what_is_not() {
    let s3 = S3Server::start(&[(ACCESS_KEY, SECRET_KEY), ("other", "other-secret")]);
    s3.put("products", "a b/ü.txt", "hello");
    let host = s3.address().to_string();
    let mut client = Client::connect(s3.address());

    client.send(signed_get(&host, "/products/a%20b/%C3%BC.txt", SECRET_KEY));
    let good = client.response("GET");
    assert_eq!((good.status, good.text()), (200, "hello"));

    client.send(signed_get(&host, "/products/a%20b/%C3%BC.txt", "wrong"));
    let refused = client.response("GET");
    assert_eq!(refused.status, 403);
    assert!(refused.text().contains("SignatureDoesNotMatch"), "{refused:?}");

    let anonymous = client.get("/products/a%20b/%C3%BC.txt");
    assert_eq!(anonymous.status, 403);

    let seen = s3.requests();
    assert_eq!((seen.len(), s3.connections()), (3, 1));
    assert_eq!(seen[0].target, "/products/a%20b/%C3%BC.txt");
    assert!(seen[0].header("authorization").is_some_and(|value| value.contains(ACCESS_KEY)));
}

#[test]
fn the_tls_front_forwards_to_the_s3_server() {
    use std::{io::Write, net::TcpStream, sync::Arc};

    use rustls::pki_types::{CertificateDer, pem::PemObject};

    let s3 = S3Server::with_test_keys();
    let big = vec![7; 300_000];
    s3.put("products", "big", &big);
    let front = TlsFront::start(s3.address());

    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(front.ca_pem().as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = "127.0.0.1".try_into().unwrap();
    let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let stream = TcpStream::connect(front.address()).unwrap();
    let mut stream = rustls::StreamOwned::new(session, stream);
    let mut request = signed_get(&front.address().to_string(), "/products/big", SECRET_KEY);
    let at = request.len() - 2;
    request.splice(at..at, *b"Connection: close\r\n");
    stream.write_all(&request).unwrap();
    let mut response = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut response).unwrap();
    assert!(response.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", String::from_utf8_lossy(&response));
    assert!(response.ends_with(&big));
    assert_eq!(front.handshakes(), 1);
}

#[test]
fn the_client_reads_every_framing() {
    let origin = ScriptedOrigin::start(|conn, _| {
        conn.expect_request();
        conn.respond("200 OK", &[("X-A", "1")], b"counted");
        conn.expect_request();
        conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n");
        conn.expect_request();
        conn.send("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n");
        conn.expect_request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n");
        conn.expect_request();
        conn.send("HTTP/1.1 200 OK\r\n\r\nto the end");
    });
    let mut client = Client::connect(origin.address());
    let first = client.get("/1");
    assert_eq!((first.text(), first.framing), ("counted", Framing::Length(7)));
    let chunked = client.get("/2");
    assert_eq!((chunked.text(), chunked.framing), ("abc0123456789", Framing::Chunked));
    assert_eq!(client.get("/3").framing, Framing::NoBody);
    assert_eq!(client.request("HEAD", "/4", &[]).framing, Framing::NoBody);
    let last = client.get("/5");
    assert_eq!((last.text(), last.framing), ("to the end", Framing::UntilClose));
    let targets: Vec<_> = origin.requests().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/1", "/2", "/3", "/4", "/5"]);
    assert_eq!(origin.accepted(), 1);
    origin.wait_open(0);
}

#[test]
fn the_client_refuses_malformed_responses() {
    for bad in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length : 1\r\n\r\na",
        "HTTP/1.1 200 OK\nContent-Length: 1\r\n\r\na",
        "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 200\r\n\r\n",
    ] {
        let origin = ScriptedOrigin::start(move |conn, _| {
            conn.request();
            conn.send(bad);
        });
        let mut client = Client::connect(origin.address());
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| client.get("/")));
        assert!(outcome.is_err(), "accepted {bad:?}: {outcome:?}");
    }
}

#[test]
fn the_client_tells_a_reset_from_an_end() {
    let origin = ScriptedOrigin::start(|conn, number| {
        conn.expect_request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour");
        if number == 0 {
            conn.reset();
        }
    });
    let mut ends = Vec::new();
    for _ in 0..2 {
        let mut client = Client::connect(origin.address());
        client.send(request_bytes("GET", "/", &[]));
        let cut = client.try_response("GET").unwrap_err();
        ends.push(cut.end);
        // A reset may overtake what was sent before it.
        let all_came = cut.response.as_ref().is_some_and(|part| part.body == b"four");
        assert!(all_came || cut.end == End::Reset, "{cut:?}");
    }
    assert_eq!(ends, [End::Reset, End::Fin]);
}

#[test]
fn a_gate_holds_a_script_until_it_opens() {
    let gate = Gate::default();
    let held = gate.clone();
    let origin = ScriptedOrigin::start(move |conn, _| {
        conn.expect_request();
        conn.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\na");
        conn.wait(&held);
        conn.send("b");
    });
    let mut client = Client::connect(origin.address());
    client.send(request_bytes("GET", "/", &[]));
    let response = client.head("GET").unwrap();
    assert_eq!(client.read_exactly(1), b"a");
    assert_eq!(origin.open(), 1);
    gate.open();
    assert_eq!(client.read_exactly(1), b"b");
    assert_eq!(response.framing, Framing::Length(2));
    assert_eq!(client.expect_end(), End::Fin);
}

#[test]
fn an_origin_reports_a_script_that_failed() {
    let origin = ScriptedOrigin::start(|conn, _| {
        assert_eq!(conn.expect_request().target, "/expected");
    });
    Client::connect(origin.address()).send(request_bytes("GET", "/other", &[]));
    wait_until("the request", || !origin.requests().is_empty());
    origin.wait_open(0);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(origin)));
    let panic = *outcome.unwrap_err().downcast::<String>().unwrap();
    assert!(panic.contains("/expected") && panic.contains("/other"), "{panic}");
}

#[test]
fn addresses_that_refuse_and_that_hang() {
    let refused = std::net::TcpStream::connect(refused_address()).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let full = FullQueue::start();
    let address = full.url().strip_prefix("http://").unwrap().parse().unwrap();
    let brief = std::time::Duration::from_millis(200);
    let hung = std::net::TcpStream::connect_timeout(&address, brief).unwrap_err();
    assert_eq!(hung.kind(), std::io::ErrorKind::TimedOut);
}

#[test]
fn the_load_counts_good_responses_and_describes_bad_ones() {
    let origin = FastOrigin::start(b"body");
    let load = load::keep_alive(origin.address(), "/x", 20, 10, 4);
    assert_eq!(load.good, 200, "{load:?}");
    let broken = ScriptedOrigin::always("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    let load = load::keep_alive(broken.address(), "/x", 2, 10, 4);
    assert_eq!((load.good, load.errors.len()), (0, 2));
    assert!(load::raise_open_files() >= 256);
}

#[test]
fn configurations_are_yaml_with_the_values_that_were_set() {
    let text = Config::products("http://127.0.0.1:9")
        .bucket("private", "http://127.0.0.1:9")
        .set("server.timeouts.client_idle", 0.5)
        .set("buckets.0.s3.timeouts.first_byte", 0.25)
        .with_jwt(&["private"])
        .with_admin_listener()
        .to_yaml();
    let value: serde_json::Value = serde_yaml::from_str(&text).unwrap();
    assert_eq!(value["server"]["timeouts"]["client_idle"], 0.5);
    assert_eq!(value["buckets"][0]["s3"]["timeouts"]["first_byte"], 0.25);
    assert_eq!(value["buckets"][0]["auth"]["enabled"], false);
    assert_eq!(value["buckets"][1]["auth"]["enabled"], true);
    assert_eq!(value["admin"]["listen"], "127.0.0.1:0");
}

#[test]
fn tokens_verify_with_the_secret_they_were_minted_with() {
    use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
    let minted = token::for_role("admin");
    let key = DecodingKey::from_secret(token::JWT_SECRET.as_bytes());
    let claims =
        decode::<serde_json::Value>(&minted, &key, &Validation::new(Algorithm::HS256)).unwrap();
    assert_eq!(claims.claims["role"], "admin");
}

/// Something that logs as the proxy does, runs until SIGTERM, and says so.
const STAND_IN: &str = r#"
echo '{"level":"INFO","fields":{"message":"listening","address":"127.0.0.1:9"}}' >&2
echo '{"level":"INFO","message":"admin listening","address":"127.0.0.1:10"}' >&2
trap 'echo stopping; exit 7' TERM
while :; do sleep 0.02; done
"#;

#[test]
fn a_process_is_started_found_signalled_and_awaited() {
    let config = Config::products("http://127.0.0.1:9").with_admin_listener();
    let launch = Launch::of("/bin/sh").arguments(&["-c", STAND_IN]).config(&config);
    let mut proxy = launch.start();
    assert_eq!(proxy.address().port(), 9);
    assert_eq!(proxy.admin_address().port(), 10);
    assert!(proxy.rss_kib() > 0 && proxy.open_fds() >= 3 && proxy.threads() == 1);
    assert!(proxy.is_running());
    proxy.write_config_text("new");
    assert_eq!(std::fs::read_to_string(proxy.directory().join("config.yaml")).unwrap(), "new");
    proxy.signal("TERM");
    assert_eq!(proxy.wait_exit().code(), Some(7));
    wait_until("the last words", || proxy.stdout().text() == "stopping");
}

#[test]
fn a_process_that_ends_is_reported_with_its_words() {
    let script = "echo out; echo err >&2; exit 3";
    let exited = Launch::of("/bin/sh").arguments(&["-c", script]).run();
    assert_eq!((exited.code, &*exited.stdout, &*exited.stderr), (Some(3), "out", "err"));
    let outcome = std::panic::catch_unwind(|| {
        Launch::of("/bin/sh").arguments(&["-c", script]).start();
    });
    let panic = *outcome.unwrap_err().downcast::<String>().unwrap();
    assert!(panic.contains("err"), "{panic}");
}
