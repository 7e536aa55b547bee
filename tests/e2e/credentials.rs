//! Credentials that renew themselves: from services that enforce what those of AWS do, to an S3
//! server that checks every signature.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::support::{
    aws_services::{AwsServices, CANARY, IDENTITY_TOKEN, Mood, ROLE},
    config::Config,
    proxy::{Launch, Proxy, state_of},
    raw_client::Client,
    reload::{adopt, post},
    s3_server::S3Server,
    token::{self, bearer},
    waiting::{wait_long_until, wait_until},
};

const HOUR: Duration = Duration::from_hours(1);

/// A bucket at the S3 server that is signed by this source, with an admin API.
fn with_source(s3: &S3Server, sources: Value, source: &str) -> Config {
    bucket_of(Config::new().set("credentials", sources), 0, "products", s3, source).with_jwt(&[])
}

fn bucket_of(config: Config, index: usize, name: &str, s3: &S3Server, source: &str) -> Config {
    s3.put(name, "x", "content");
    let config = config.bucket(name, s3.url());
    let at = |key: &str| format!("buckets.{index}.s3.{key}");
    config
        .set(&at("access_key"), Value::Null)
        .set(&at("secret_key"), Value::Null)
        .set(&at("credentials"), source)
}

fn container(services: &AwsServices, name: &str) -> Value {
    let endpoint = format!("{}/credentials/{name}", services.url());
    json!({ "name": name, "source": "container", "endpoint": endpoint })
}

fn status(proxy: &Proxy) -> Value {
    let admin = bearer(&token::for_role("admin"));
    let answer = Client::connect(proxy.admin_address()).request(
        "GET",
        "/admin/status",
        &[("Authorization", &admin)],
    );
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["credentials"].clone()
}

fn refreshes(proxy: &Proxy, source: &str, result: &str) -> usize {
    let name = "yatagarasu_credentials_refresh_total";
    let series = format!("{name}{{source=\"{source}\",result=\"{result}\"}} ");
    let page = proxy.metrics();
    let value = page.lines().find_map(|line| line.strip_prefix(&series));
    value.map_or(0, |value| value.parse().unwrap())
}

#[track_caller]
fn assert_content(proxy: &Proxy, target: &str) {
    let answer = proxy.get(target);
    assert_eq!((answer.status, answer.text()), (200, "content"), "{}", proxy.stderr().text());
}

/// Nothing of a secret key, a token or a response is anywhere.
#[track_caller]
fn assert_silent(proxy: &Proxy) {
    let all = format!("{}{}{}", proxy.output(), proxy.metrics(), status(proxy));
    assert!(!all.contains(CANARY), "{all}");
}

#[test]
fn each_source_of_the_default_chain_signs_requests() {
    let s3 = S3Server::start(&[("AKIDENV", "secret")]);
    let services = AwsServices::start(s3.key_ring(), HOUR);
    let config = with_source(&s3, json!([]), "default").set("logging.level", "trace");
    let url = services.url();
    services.know("AKIDFILES", "secret");
    let nowhere = "http://127.0.0.1:1".to_owned();
    for (kind, variables) in [
        (
            "env",
            vec![
                ("AWS_ACCESS_KEY_ID", "AKIDENV".to_owned()),
                ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
            ],
        ),
        ("profile", vec![("AWS_PROFILE", "two".to_owned())]),
        (
            "web_identity",
            vec![
                ("AWS_WEB_IDENTITY_TOKEN_FILE", "identity".to_owned()),
                ("AWS_ROLE_ARN", ROLE.to_owned()),
                ("AWS_ENDPOINT_URL_STS", url.clone()),
            ],
        ),
        (
            "container",
            vec![
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{url}/credentials/x")),
                ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "container".to_owned()),
            ],
        ),
        ("imds", vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT", url)]),
    ] {
        services.want_container_token("container-token");
        let launch = Launch::new();
        launch.write("identity", &format!("{IDENTITY_TOKEN}\n"));
        launch.write("container", "container-token\n");
        launch.write(
            "credentials",
            "[two]\naws_access_key_id = AKIDFILES\naws_secret_access_key = secret\n",
        );
        let files = launch.path("credentials").display().to_string();
        let mut launch = launch
            .config(&config)
            .environment("AWS_EC2_METADATA_SERVICE_ENDPOINT", &nowhere)
            .environment("AWS_CONFIG_FILE", "no-such-file")
            .environment("AWS_SHARED_CREDENTIALS_FILE", &files);
        for (name, value) in &variables {
            launch = launch.environment(name, value);
        }
        let proxy = launch.start();
        assert_content(&proxy, "/products/x");
        let found = status(&proxy);
        assert_eq!(found[0]["source"], "default", "{kind}: {found}");
        assert_eq!(found[0]["version"], 1, "{kind}: {found}");
        assert_eq!(found[0]["worker_versions"], json!([1]), "{kind}: {found}");
        assert_eq!(found[0]["last_error"], Value::Null, "{kind}: {found}");
        wait_until("the access log", || {
            proxy.stdout().records().iter().any(|line| line["credentials"] == "default")
        });
        assert_silent(&proxy);
    }
    assert_eq!(services.refused(), [""; 0]);
}

#[test]
fn a_role_is_assumed_with_a_signature_that_sts_accepts() {
    let s3 = S3Server::start(&[]);
    let services = AwsServices::start(s3.key_ring(), HOUR);
    services.know("AKIDBASE", "base/secret+CANARY-never-shown");
    let role = |arn: &str| json!({ "role_arn": arn, "sts_endpoint": services.url() });
    let sources = json!([
        { "name": "fixed", "source": "env", "assume_role": role(ROLE) },
        { "name": "twice", "source": "container", "endpoint": format!("{}/credentials/x", services.url()), "assume_role": role(ROLE) },
        { "name": "denied", "source": "env", "assume_role": role("arn:aws:iam::123456789012:role/other") },
    ]);
    let config = Config::new().set("credentials", sources);
    let mut config = bucket_of(config, 0, "products", &s3, "fixed");
    for (index, name) in [(1, "twice"), (2, "denied")] {
        config = bucket_of(config, index, name, &s3, name);
    }
    let proxy = Launch::new()
        .config(&config.with_jwt(&[]))
        .environment("AWS_ACCESS_KEY_ID", "AKIDBASE")
        .environment("AWS_SECRET_ACCESS_KEY", "base/secret+CANARY-never-shown")
        .start();
    assert_content(&proxy, "/products/x");
    assert_content(&proxy, "/twice/x");
    let answer = proxy.get("/denied/x");
    assert_eq!((answer.status, &answer.json()["code"]), (502, &"upstream_credentials".into()));
    proxy.stderr().wait_for("refuses AssumeRole (AccessDenied)");
    let refused = services.refused();
    assert!(
        !refused.is_empty() && refused.iter().all(|code| code == "AccessDenied"),
        "{refused:?}"
    );
    assert_silent(&proxy);
}

#[test]
fn the_last_good_ones_serve_until_they_end_and_other_buckets_beyond() {
    let s3 = S3Server::start(&[("AKIDFIXED", "fixed")]);
    let services = AwsServices::start(s3.key_ring(), HOUR);
    let lasting = AwsServices::start(s3.key_ring(), HOUR);
    let sources = json!([container(&services, "short"), container(&lasting, "long")]);
    let config = with_source(&s3, sources, "short");
    let config = bucket_of(config, 1, "lasting", &s3, "long");
    s3.put("fixed", "x", "content");
    let config = config.bucket_with_keys("fixed", s3.url(), "AKIDFIXED", "fixed").with_jwt(&[]);
    let proxy = Proxy::start(&config);
    assert_content(&proxy, "/products/x");
    for mood in [Mood::Failing(500), Mood::Garbage, Mood::Huge, Mood::Ended, Mood::Failing(404)] {
        let failures = refreshes(&proxy, "short", "failure");
        services.set_mood(mood.clone());
        post(&proxy, "/admin/credentials/refresh", &[]);
        wait_until("a failure", || refreshes(&proxy, "short", "failure") > failures);
        assert_content(&proxy, "/products/x");
    }
    services.set_life(Duration::from_secs(8));
    services.set_mood(Mood::Well);
    let renewed = refreshes(&proxy, "short", "success");
    post(&proxy, "/admin/credentials/refresh", &[]);
    wait_until("the short ones", || refreshes(&proxy, "short", "success") > renewed);
    services.set_mood(Mood::Failing(500));
    wait_until("the end", || proxy.get("/products/x").status == 502);
    let answer = proxy.get("/products/x");
    assert_eq!(answer.json()["code"], "upstream_credentials");
    assert_content(&proxy, "/lasting/x");
    assert_content(&proxy, "/fixed/x");
    assert!(
        proxy
            .metric("yatagarasu_upstream_errors_total{bucket=\"products\",reason=\"credentials\"}")
            > Some(0.0)
    );
    services.set_life(HOUR);
    services.set_mood(Mood::Well);
    wait_until("recovery", || proxy.get("/products/x").status == 200);
    assert_eq!(proxy.metric("config_generation"), Some(1.0));
    assert_eq!(proxy.metric("config_reload_success_total"), Some(0.0));
    assert_silent(&proxy);
}

#[test]
fn a_start_does_not_wait_for_ever_and_credentials_that_come_late_are_used() {
    let s3 = S3Server::start(&[]);
    let services = AwsServices::start(s3.key_ring(), HOUR);
    services.set_mood(Mood::Silent);
    let config = with_source(&s3, json!([container(&services, "prod")]), "prod");
    let proxy = Proxy::start(&config);
    proxy.stderr().wait_for("credentials[prod]: there are none (");
    assert_eq!(proxy.get("/ready").status, 200);
    let answer = proxy.get("/products/x");
    assert_eq!((answer.status, &answer.json()["code"]), (502, &"upstream_credentials".into()));
    services.set_mood(Mood::Well);
    wait_until("credentials", || proxy.get("/products/x").status == 200);
    assert_eq!(proxy.metric("config_generation"), Some(1.0));
}

#[test]
fn a_reload_brings_new_sources_and_forgets_others() {
    let s3 = S3Server::start(&[]);
    let services = AwsServices::start(s3.key_ring(), HOUR);
    let first = with_source(&s3, json!([container(&services, "a")]), "a");
    let proxy = Proxy::start(&first);
    assert_content(&proxy, "/products/x");
    let documents = services.documents();
    // What does not touch the source does not fetch it again.
    let first = first.set("server.timeouts.client_idle", 77);
    adopt(&proxy, &first);
    assert_eq!(services.documents(), documents);

    let sources = json!([container(&services, "a"), container(&services, "b")]);
    let second = first.set("credentials", sources).set("buckets.0.s3.credentials", "b");
    let report = adopt(&proxy, &second);
    assert_eq!(report["applied"], json!(["credentials[b]", "buckets[products].s3.credentials"]));
    assert_content(&proxy, "/products/x");
    assert_eq!(services.documents(), documents + 1);
    let found = status(&proxy);
    assert_eq!((found.as_array().unwrap().len(), &found[0]["source"]), (1, &"b".into()));
    assert!(!proxy.metrics().contains("source=\"a\""));

    // A source that cannot work is a warning of the report.
    let broken = json!([{ "name": "c", "source": "profile", "profile": "nobody" }]);
    let third = second.set("credentials", broken).set("buckets.0.s3.credentials", "c");
    let report = adopt(&proxy, &third);
    let warnings = report["warnings"].to_string();
    assert!(
        warnings.contains("credentials[c]: there are none (the shared files have no profile"),
        "{report}"
    );
    assert_eq!(proxy.get("/products/x").status, 502);
}

#[test]
fn an_operator_asks_for_new_ones_and_sees_them() {
    let s3 = S3Server::start(&[]);
    let services = AwsServices::start(s3.key_ring(), HOUR);
    let config = with_source(&s3, json!([container(&services, "prod")]), "prod");
    let proxy = Proxy::start(&config.set("server.threads", 2));
    assert_eq!(proxy.get("/admin/credentials/refresh").status, 405);
    assert_eq!(proxy.client().request("POST", "/admin/credentials/refresh", &[]).status, 401);
    let answer = post(&proxy, "/admin/credentials/refresh", &[]);
    assert_eq!((answer.status, &answer.json()["sources"]), (202, &json!(["prod"])));
    wait_until("the next version on both cores", || {
        status(&proxy)[0]["worker_versions"] == json!([2, 2])
    });
    services.set_mood(Mood::SameAgain);
    post(&proxy, "/admin/credentials/refresh", &[]);
    wait_until("the same again", || refreshes(&proxy, "prod", "success") == 3);
    let found = status(&proxy);
    assert_eq!(found[0]["version"], 2, "{found}");
    let ends = found[0]["ends"].as_f64();
    let name = "yatagarasu_credentials_expiry_timestamp_seconds{source=\"prod\"}";
    assert!(ends.is_some() && proxy.metric(name) == ends, "{found}");
    assert_eq!(refreshes(&proxy, "prod", "failure"), 0);
    assert_content(&proxy, "/products/x");
    assert_silent(&proxy);
}

#[test]
fn validation_says_what_would_be_asked_and_asks_nobody() {
    let s3 = S3Server::start(&[]);
    let services = AwsServices::start(s3.key_ring(), HOUR);
    let config = with_source(&s3, json!([container(&services, "prod")]), "prod");
    let validate = |format: &str| {
        let arguments = ["--validate", "--format", format];
        let exited = Launch::new().config(&config).arguments(&arguments).run();
        assert_eq!(exited.code, Some(0), "{exited:?}");
        exited.stdout
    };
    let note = format!(
        "credentials[prod]: not asked here; a start asks the container service at {}/credentials/prod",
        services.url()
    );
    let printed = validate("text");
    assert!(printed.lines().any(|line| line == format!("note: {note}")), "{printed}");
    let verdict: Value = serde_json::from_str(&validate("json")).unwrap();
    assert_eq!(verdict["notes"], json!([note]));
    assert_eq!(services.documents(), 0);
}

#[test]
fn a_credential_check_uses_what_the_source_gives() {
    let s3 = S3Server::start(&[]);
    let services = AwsServices::start(s3.key_ring(), HOUR);
    let first = with_source(&s3, json!([container(&services, "a")]), "a");
    let proxy = Proxy::start(&first);
    let other = json!([container(&services, "a"), container(&services, "b")]);
    let second = first.set("credentials", other).set("buckets.0.s3.credentials", "b");
    let report = adopt(&proxy, &second.set("buckets.0.s3.verify", "require"));
    assert!(report.get("warnings").is_none(), "{report}");
    assert!(s3.requests().last().unwrap().target.contains("yatagarasu-verify-"));
}

/// Whoever withdraws credentials before their end does not have to wait for it. However many
/// requests fail meanwhile, the source is asked once in half a minute.
#[test]
fn credentials_that_s3_refuses_are_replaced_before_their_end() {
    let s3 = S3Server::start(&[]);
    let services = AwsServices::start(s3.key_ring(), HOUR);
    let config = with_source(&s3, json!([container(&services, "prod")]), "prod");
    let proxy = Proxy::start(&config.set("server.threads", 2));
    let start = Instant::now();
    assert_content(&proxy, "/products/x");
    s3.revoke_all();
    let answer = proxy.get("/products/x");
    assert_eq!((answer.status, &answer.json()["code"]), (502, &"upstream_credentials".into()));
    wait_long_until("others", || proxy.get("/products/x").status == 200);
    let most = 1 + start.elapsed().as_secs() / 30;
    let documents = services.documents() as u64;
    assert!((2..=most + 1).contains(&documents), "{documents} in {:?}", start.elapsed());
    assert!(
        proxy
            .metric("yatagarasu_upstream_errors_total{bucket=\"products\",reason=\"credentials\"}")
            > Some(0.0)
    );
    // What is about the object is no reason.
    assert_eq!(proxy.get("/products/none").status, 404);
    assert_eq!(refreshes(&proxy, "prod", "failure"), 0);
}

/// The end comes while the process is frozen, so nothing in it can have noticed. What arrives
/// meanwhile, before the end too, is signed with nothing when it goes on.
#[test]
fn credentials_that_end_while_the_process_is_frozen_sign_nothing() {
    let s3 = S3Server::start(&[]);
    let services = AwsServices::start(s3.key_ring(), Duration::from_secs(15));
    let config = with_source(&s3, json!([container(&services, "prod")]), "prod");
    let proxy = Proxy::start(&config.set("server.threads", 2));
    let mut clients: Vec<_> = (0..8).map(|_| proxy.client()).collect();
    for client in &mut clients {
        let answer = client.get("/products/x");
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    services.set_mood(Mood::Failing(500));
    let ends = status(&proxy)[0]["ends"].as_u64().unwrap();
    proxy.signal("STOP");
    wait_until("the process to stop", || state_of(proxy.pid()) == 'T');
    let signed = s3.requests().len();
    let ask = |client: &mut Client| client.send("GET /products/x HTTP/1.1\r\nHost: a\r\n\r\n");
    let (early, late) = clients.split_at_mut(4);
    early.iter_mut().for_each(ask);
    wait_until("the end", || {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() >= ends
    });
    late.iter_mut().for_each(ask);
    proxy.signal("CONT");
    for client in &mut clients {
        let answer = client.response("GET");
        assert_eq!((answer.status, &answer.json()["code"]), (502, &"upstream_credentials".into()));
    }
    assert_eq!(s3.requests().len(), signed, "something was signed");
    services.set_life(HOUR);
    services.set_mood(Mood::Well);
    wait_until("recovery", || proxy.get("/products/x").status == 200);
}
