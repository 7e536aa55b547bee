//! `check-s3`: what S3, or whatever else is at the endpoint, says for each bucket.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    aws_services::{AwsServices, CANARY},
    config::{ACCESS_KEY, Config, SECRET_KEY},
    proxy::{Exited, Launch},
    s3_server::S3Server,
    scripted_origin::{ScriptedOrigin, refused_address, response_bytes},
    tls_front::TlsFront,
};

const WRONG_KEY: &str = "a-wrong-secret-key-never-shown";

/// An origin that answers everything with this error of S3.
fn failing(status: &str, code: &str, fields: &[(&str, &str)]) -> ScriptedOrigin {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
    ScriptedOrigin::always(response_bytes(status, fields, body.as_bytes()))
}

fn check(launch: Launch) -> (Exited, Value) {
    let exited = launch.arguments(&["check-s3", "--format", "json"]).run();
    assert_eq!(exited.stderr, "", "{exited:?}");
    for secret in [SECRET_KEY, WRONG_KEY, CANARY] {
        assert!(!exited.stdout.contains(secret), "{secret} in {exited:?}");
    }
    let report = serde_json::from_str(&exited.stdout).unwrap();
    (exited, report)
}

#[test]
fn each_bucket_is_told_what_is_wrong_with_it() {
    let s3 = S3Server::with_test_keys();
    s3.put("good", "x", "content");
    s3.put("signature", "x", "content");
    s3.put("key", "x", "content");
    let front = TlsFront::start(s3.address());
    let missing = failing("404 Not Found", "NoSuchBucket", &[]);
    let skewed = failing("403 Forbidden", "RequestTimeTooSkewed", &[]);
    let region = [("x-amz-bucket-region", "eu-west-1")];
    let moved = failing("301 Moved Permanently", "PermanentRedirect", &region);
    let site = ScriptedOrigin::serving("<html>hello</html>");
    let config = Config::products(s3.url())
        .set("buckets.0.name", "good")
        .set("buckets.0.s3.bucket", "good")
        .bucket_with_keys("signature", s3.url(), ACCESS_KEY, WRONG_KEY)
        .bucket_with_keys("key", s3.url(), "AKIDUNKNOWN", SECRET_KEY)
        .bucket("missing", missing.url())
        .bucket("skewed", skewed.url())
        .bucket("moved", moved.url())
        .bucket("site", site.url())
        .bucket("refused", format!("http://{}", refused_address()))
        // RFC 6761 section 6.4: never a name.
        .bucket("nameless", "http://no-such-host.invalid:9000")
        .bucket("untrusted", front.url());
    let (exited, report) = check(Launch::new().config(&config));
    assert_eq!(exited.code, Some(1), "{exited:?}");
    assert_eq!(report["status"], "failed");
    let buckets = report["buckets"].as_array().unwrap();
    let results: Vec<(&str, &str)> = buckets
        .iter()
        .map(|found| (found["bucket"].as_str().unwrap(), found["result"].as_str().unwrap()))
        .collect();
    let expected = [
        ("good", "ok"),
        ("signature", "signature_refused"),
        ("key", "access_key_refused"),
        ("missing", "no_such_bucket"),
        ("skewed", "clock_skew"),
        ("moved", "wrong_region"),
        ("site", "unexpected_response"),
        ("refused", "cannot_connect"),
        ("nameless", "name_not_resolved"),
        ("untrusted", "tls_failed"),
    ];
    assert_eq!(results, expected, "{report:#}");
    let message = |index: usize| buckets[index]["message"].as_str().unwrap();
    assert!(message(5).contains("write eu-west-1"), "{report:#}");
    assert!(message(7).contains("refused"), "{report:#}");
    assert!(message(9).contains("certificate"), "{report:#}");
    assert_eq!(buckets[0]["endpoint"], s3.url());
    // One request each, for an object.
    let asked = s3.requests();
    assert!(asked.iter().all(|request| request.method == "GET"), "{asked:?}");
    assert_eq!(asked.iter().filter(|asked| asked.target.starts_with("/good/")).count(), 1);
    assert_eq!(skewed.requests().len(), 1);
}

#[test]
fn buckets_that_answer_are_good_and_lines_say_so() {
    let s3 = S3Server::with_test_keys();
    s3.put("products", "x", "content");
    let front = TlsFront::start(s3.address());
    let public = failing("404 Not Found", "NoSuchKey", &[]);
    let denied = failing("403 Forbidden", "AccessDenied", &[]);
    let nothing = Value::Null;
    let config = Config::products(front.url())
        .set("buckets.0.s3.ca_file", "ca.pem")
        .bucket("public", public.url())
        .set("buckets.1.s3.anonymous", true)
        .set("buckets.1.s3.access_key", nothing.clone())
        .set("buckets.1.s3.secret_key", nothing)
        .bucket("denied", denied.url());
    let exited = Launch::trusting(&front).config(&config).arguments(&["check-s3"]).run();
    assert_eq!((exited.code, &*exited.stderr), (Some(0), ""), "{exited:?}");
    let lines: Vec<&str> = exited.stdout.lines().collect();
    assert!(lines[0].starts_with("products: ok: S3 accepts the credentials"), "{lines:?}");
    assert!(lines[1].starts_with("public: ok: S3 answers without a signature"), "{lines:?}");
    assert!(lines[2].starts_with("denied: ok: ") && lines[2].contains("AccessDenied"), "{lines:?}");
    assert!(lines[3].ends_with("config.yaml: all 3 buckets answer"), "{lines:?}");
    assert!(public.only_request().fields.get("authorization").is_none());
    assert!(denied.only_request().fields.get("authorization").is_some());
}

#[test]
fn credentials_of_sources_are_fetched_as_at_a_start() {
    let s3 = S3Server::start(&[]);
    s3.put("products", "x", "content");
    s3.put("lost", "x", "content");
    let aws = AwsServices::start(s3.key_ring(), Duration::from_hours(1));
    let keys = |config: Config, index: usize, source: &str| {
        ["access_key", "secret_key"]
            .into_iter()
            .fold(config, |config, key| {
                config.set(&format!("buckets.{index}.s3.{key}"), Value::Null)
            })
            .set(&format!("buckets.{index}.s3.credentials"), source)
    };
    let config = keys(Config::products(s3.url()), 0, "machine");
    let config = keys(config.bucket("lost", s3.url()), 1, "unset").set(
        "credentials",
        json!([
            { "name": "machine", "source": "imds", "endpoint": aws.url() },
            { "name": "unset", "source": "env" },
        ]),
    );
    let (exited, report) = check(Launch::new().config(&config));
    assert_eq!(exited.code, Some(1), "{exited:?}");
    assert_eq!(report["buckets"][0]["result"], "ok", "{report:#}");
    assert_eq!(report["buckets"][1]["result"], "no_credentials", "{report:#}");
    let message = report["buckets"][1]["message"].as_str().unwrap();
    assert!(message.contains("'unset'") && message.contains("AWS_ACCESS_KEY_ID"), "{message}");
}

#[test]
fn a_configuration_that_is_refused_asks_nobody() {
    let s3 = S3Server::with_test_keys();
    let config = Config::products(s3.url()).set("server.prot", 1);
    let (exited, report) = check(Launch::new().config(&config));
    assert_eq!((exited.code, &report["status"]), (Some(1), &json!("refused")), "{exited:?}");
    assert_eq!(report["errors"][0]["key"], "server.prot");
    assert!(s3.requests().is_empty());
}
