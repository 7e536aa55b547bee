//! `s3.verify`: credentials that S3 refuses are found out before any core has seen them.

use serde_json::Value;

use crate::support::{
    config::Config,
    proxy::{Launch, Proxy},
    reload::{config, counts, line_of, post, reload},
    s3_server::S3Server,
    scripted_origin::{ScriptedOrigin, refused_address},
    tls_front::TlsFront,
    waiting::wait_for,
};

const WRONG_KEY: &str = "a-wrong-secret-key-never-shown";

fn verified(endpoint: String, how: &str) -> Config {
    Config::products(endpoint)
        .set("server.threads", 2)
        .with_jwt(&[])
        .set("buckets.0.s3.verify", how)
}

fn warnings(report: &Value) -> String {
    report["warnings"].to_string()
}

#[test]
fn wrong_credentials_are_refused_before_anybody_uses_them() {
    let s3 = S3Server::with_test_keys();
    s3.put("products", "x", "content");
    let first = verified(s3.url(), "require");
    let proxy = Proxy::start(&first);
    assert!(s3.requests().is_empty(), "never at start");

    for (key, value, code) in
        [("secret_key", WRONG_KEY, "SignatureDoesNotMatch"), ("access_key", "AKIDUNKNOWN", "")]
    {
        let refused = first.clone().set(&format!("buckets.0.s3.{key}"), value);
        let log = proxy.directory().join("made-by-nobody.log");
        let path = log.display().to_string();
        proxy.write_config(&refused.set("logging.access_log.path", path));
        let asked = s3.requests().len();
        for target in ["/admin/reload?dry_run=true", "/admin/reload"] {
            let response = post(&proxy, target, &[]);
            assert_eq!(response.status, 400, "{key}: {response:?}");
            let error = response.json()["errors"][0].clone();
            assert_eq!(error["key"], "buckets[0].s3", "{error}");
            assert_eq!(line_of(&proxy, &error), "s3:", "{error}");
            assert!(error["message"].as_str().unwrap().contains(code), "{error}");
        }
        assert_eq!(s3.requests().len(), asked + 2, "one request each");
        assert!(!log.exists(), "a refusal leaves nothing behind");
        assert_eq!(proxy.get("/products/x").text(), "content", "with the old credentials");
    }
    assert_eq!(proxy.metric("config_generation"), Some(1.0));
    assert_eq!(counts(&proxy), (0, 2));

    // Another key of the same bucket does not ask again.
    proxy.write_config(&first.clone().set("buckets.0.s3.max_idle_connections", 3));
    let asked = s3.requests().len();
    reload(&proxy);
    assert_eq!(s3.requests().len(), asked);
    // Good credentials do, and a key that is not there is fine.
    let moved = first.set("buckets.0.s3.endpoint", s3.url().replace("127.0.0.1", "localhost"));
    proxy.write_config(&moved);
    let report = reload(&proxy);
    assert!(report.get("warnings").is_none(), "{report}");
    assert_eq!(s3.requests().len(), asked + 1);
    assert!(s3.requests().last().unwrap().target.starts_with("/products/yatagarasu-verify-"));
    assert!(!proxy.output().contains("never-shown"));
}

#[test]
fn a_refusal_can_be_a_warning_or_not_be_asked_for() {
    let s3 = S3Server::with_test_keys();
    let first = verified(s3.url(), "none");
    let proxy = Proxy::start(&first);
    let wrong = first.set("buckets.0.s3.secret_key", WRONG_KEY);
    proxy.write_config(&wrong);
    assert!(reload(&proxy).get("warnings").is_none());
    assert!(s3.requests().is_empty());
    let wrong = wrong.set("buckets.0.s3.secret_key", "another-wrong-key-never-shown");
    proxy.write_config(&wrong.set("buckets.0.s3.verify", "warn"));
    let report = reload(&proxy);
    assert_eq!(report["config_generation"], 3);
    let shown = warnings(&report);
    assert!(shown.contains("buckets[products].s3.verify"), "{report}");
    assert!(shown.contains("SignatureDoesNotMatch"), "{report}");
}

#[test]
fn what_is_not_about_credentials_is_a_warning() {
    let denied = "<Error><Code>AccessDenied</Code></Error>";
    let denying = ScriptedOrigin::always(format!(
        "HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{denied}",
        denied.len()
    ));
    let skewed = "<Error><Code>RequestTimeTooSkewed</Code></Error>";
    let skewing = ScriptedOrigin::always(format!(
        "HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{skewed}\r\n0\r\n\r\n",
        skewed.len()
    ));
    let wordless = ScriptedOrigin::always("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    let garbled = ScriptedOrigin::always("nonsense\r\n\r\n");
    let origin = ScriptedOrigin::serving("x");
    let proxy = Proxy::start(&config(&origin));
    for (url, word) in [
        (denying.url(), "AccessDenied"),
        (wordless.url(), "403 without a readable error code"),
        // A wrong clock makes every signature wrong, also those of the running credentials.
        (skewing.url(), "RequestTimeTooSkewed"),
        (format!("http://{}", refused_address()), "cannot be asked"),
        (garbled.url(), "cannot be asked"),
    ] {
        proxy.write_config(&verified(url, "require"));
        let report = reload(&proxy);
        assert!(warnings(&report).contains(word), "{word}: {report}");
    }
}

#[test]
fn an_encrypted_endpoint_is_asked_too() {
    let s3 = S3Server::with_test_keys();
    let front = TlsFront::start(s3.address());
    let launch = Launch::trusting(&front);
    let first = verified(front.url(), "require").set("buckets.0.s3.ca_file", "ca.pem");
    let proxy = launch.config(&first).start();
    proxy.write_config(&first.clone().set("buckets.0.s3.secret_key", WRONG_KEY));
    let response = wait_for("a handshake in time", || {
        let response = post(&proxy, "/admin/reload?dry_run=true", &[]);
        (!response.text().contains("took too long")).then_some(response)
    });
    assert_eq!(response.status, 400, "{response:?}");
    assert!(response.text().contains("SignatureDoesNotMatch"), "{response:?}");
    proxy.write_config(&first.set("buckets.0.s3.region", "us-west-2"));
    let response = post(&proxy, "/admin/reload", &[]);
    assert_eq!(response.status, 200, "{response:?}");
    // Without the authority's certificate it cannot be asked.
    proxy.write_config(&verified(front.url(), "require"));
    assert!(warnings(&reload(&proxy)).contains("cannot be asked"));
}
