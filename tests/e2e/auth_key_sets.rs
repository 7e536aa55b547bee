//! Key sets from the network, and several issuers: what they let in, what they never do, and what
//! an identity provider that fails can and cannot break.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::{
    auth::{
        ask, claims_with,
        keys::{KeySet, encode},
        logged,
    },
    support::{
        config::Config,
        identity_server::{Behaviour, IdentityServer},
        proxy::{Launch, Proxy},
        raw_client::Client,
        reload::{Done, adopt, counts, post, touched},
        scripted_origin::ScriptedOrigin,
        tls_front::TlsFront,
        token::{self, JWT_SECRET, mint},
        waiting::{wait_for, wait_until},
    },
};

const PATH: &str = "/products/x";

/// The public half of an ES256 key.
fn jwk(keys: &KeySet, kid: &str) -> Value {
    let point = keys.p256_point();
    let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
    json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": kid, "x": x, "y": y })
}

/// A token of a provider, good for an hour.
fn signed(keys: &KeySet, kid: &str, issuer: &str, role: &str) -> String {
    let mut claims = claims_with("iss", issuer);
    claims["role"] = role.into();
    claims["aud"] = "files".into();
    let header = format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#);
    keys.token_with("ES256", &header, &claims.to_string())
}

/// A bucket that asks for tokens, and one that only tokens of `corp` may read; two workers. The
/// section's own key is [`JWT_SECRET`].
fn config(origin: &ScriptedOrigin, corp: Value) -> Config {
    let mut corp = corp;
    corp["name"] = "corp".into();
    corp["audience"] = json!(["files"]);
    Config::products(origin.url())
        .bucket("corporate", origin.url())
        .with_jwt(&["products", "corporate"])
        .set("server.threads", 2)
        .set("buckets.1.auth.providers", json!(["corp"]))
        .set("jwt.providers", json!([corp]))
}

fn by_url(origin: &ScriptedOrigin, identity: &IdentityServer) -> Config {
    let corp = json!({ "issuer": identity.issuer(), "jwks_url": identity.keys_url() });
    config(origin, corp)
}

fn renewals(proxy: &Proxy, result: &str) -> f64 {
    let series = format!(r#"yatagarasu_jwks_refresh_total{{provider="corp",result="{result}"}}"#);
    proxy.metric(&series).expect("the counter exists from the start")
}

/// Asks on so many new connections that both cores have been asked, most likely.
#[track_caller]
fn everywhere(proxy: &Proxy, token: &str, status: u16) {
    for _ in 0..20 {
        let answer = ask(proxy, PATH, token);
        assert_eq!(answer.status, status, "{answer:?}");
    }
}

/// Makes the proxy renew its sets, and waits for the result.
#[track_caller]
fn renew(proxy: &Proxy, result: &str) {
    let before = renewals(proxy, result);
    let answer = post(proxy, "/admin/jwks/refresh", &[]);
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.json()["providers"], json!(["corp"]));
    wait_until("the renewal", || renewals(proxy, result) > before);
}

#[test]
fn keys_rotate_under_load_without_a_reload_and_an_old_key_dies_on_every_core() {
    let origin = ScriptedOrigin::serving("object");
    let (old, new) = (KeySet::generate("old"), KeySet::generate("new"));
    let identity = IdentityServer::start(&[jwk(&old, "1")]);
    let front = TlsFront::start(identity.address());
    let corp = json!({ "issuer": "https://id.example/", "jwks_url": format!("{}/keys", front.named_url()) });
    let config = config(&origin, corp).set("jwt.jwks.refresh", 1).set("jwt.jwks.ca_file", "ca.pem");
    let proxy = Launch::trusting(&front).config(&config).start();
    let of_old = signed(&old, "1", "https://id.example/", "user");
    let of_new = signed(&new, "2", "https://id.example/", "user");
    let own = mint(JWT_SECRET, &claims_with("role", "user"));
    everywhere(&proxy, &of_old, 200);
    everywhere(&proxy, &of_new, 401);

    let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let done = Done(&over);
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = proxy.client();
                let fields = [("Authorization", format!("Bearer {own}"))];
                let fields = [(fields[0].0, fields[0].1.as_str())];
                while !over.load(Ordering::SeqCst) {
                    let answer = client.request("GET", PATH, &fields);
                    assert_eq!(answer.status, 200, "{answer:?}");
                    served.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        // Requests of the others in each step, or its end shows nothing of them.
        let more_are_served = || {
            let before = served.load(Ordering::SeqCst);
            wait_until("requests", || served.load(Ordering::SeqCst) > before);
        };
        for _ in 0..5 {
            identity.publish(&[jwk(&old, "1"), jwk(&new, "2")]);
            more_are_served();
            wait_until("the new key", || ask(&proxy, PATH, &of_new).status == 200);
            wait_until("every core", || (0..20).all(|_| ask(&proxy, PATH, &of_new).status == 200));
            everywhere(&proxy, &of_old, 200);
            identity.publish(&[jwk(&new, "2")]);
            more_are_served();
            wait_until("the end of the old key", || {
                (0..20).all(|_| ask(&proxy, PATH, &of_old).status == 401)
            });
            everywhere(&proxy, &of_old, 401);
            everywhere(&proxy, &of_new, 200);
            identity.publish(&[jwk(&old, "1")]);
            more_are_served();
            wait_until("the other way round", || {
                (0..20).all(|_| ask(&proxy, PATH, &of_new).status == 401)
            });
        }
        drop(done);
    });
    assert_eq!((proxy.metric("config_generation"), counts(&proxy)), (Some(1.0), (0, 0)));
    assert!(identity.asked().iter().any(|asked| asked.tag.is_some()), "no conditional request");
    assert!(renewals(&proxy, "renewed") >= 15.0);
}

/// Whatever clients invent, the provider is asked once in 30 s; a key that is really new is found.
#[test]
fn a_flood_of_unknown_key_ids_costs_the_provider_nothing() {
    let origin = ScriptedOrigin::serving("object");
    let (old, new) = (KeySet::generate("old"), KeySet::generate("new"));
    let identity = IdentityServer::start(&[jwk(&old, "1")]);
    let start = Instant::now();
    let proxy = Proxy::start(&by_url(&origin, &identity));
    thread::scope(|scope| {
        for number in 0..4 {
            let (proxy, old, issuer) = (&proxy, &old, identity.issuer());
            scope.spawn(move || {
                let mut client = proxy.client();
                for flood in 0..500 {
                    let token = signed(old, &format!("{number}-{flood}"), &issuer, "user");
                    let field = format!("Bearer {token}");
                    let answer = client.request("GET", PATH, &[("Authorization", &field)]);
                    assert_eq!(answer.status, 401, "{answer:?}");
                }
            });
        }
    });
    let most = 1 + start.elapsed().as_secs() / 30;
    let asked = identity.asked_for_keys() as u64;
    assert!(asked <= most + 1, "{asked} requests in {:?}", start.elapsed());

    identity.publish(&[jwk(&new, "2")]);
    let token = signed(&new, "2", &identity.issuer(), "user");
    wait_until("the new key to be looked for", || ask(&proxy, PATH, &token).status == 200);
    let most = 1 + start.elapsed().as_secs() / 30;
    assert!(identity.asked_for_keys() as u64 <= most + 1);
    everywhere(&proxy, &signed(&old, "1", &identity.issuer(), "user"), 401);
}

#[test]
fn whatever_the_provider_answers_the_last_good_set_serves() {
    let origin = ScriptedOrigin::serving("object");
    let keys = KeySet::generate("provider");
    let identity = IdentityServer::start(&[jwk(&keys, "1")]);
    let elsewhere = IdentityServer::start(&[jwk(&keys, "2")]);
    let proxy = Proxy::start(&by_url(&origin, &identity));
    let token = signed(&keys, "1", &identity.issuer(), "user");
    everywhere(&proxy, &token, 200);
    let live = |proxy: &Proxy| status(proxy)["live_version"].clone();
    let version = live(&proxy);
    for behaviour in [
        Behaviour::Status(500),
        Behaviour::Status(404),
        Behaviour::Status(204),
        Behaviour::Redirect(elsewhere.keys_url()),
        Behaviour::Redirect("https://127.0.0.1:9/keys".to_owned()),
        Behaviour::Body(b"{\"keys\":[]}".to_vec()),
        Behaviour::Body(b"<html>log in</html>".to_vec()),
        Behaviour::Body(vec![b' '; 10_000_000]),
        Behaviour::Body(vec![0xff; 1_000]),
        Behaviour::CutShort,
        Behaviour::Closed,
        Behaviour::Silent,
    ] {
        identity.behave(behaviour.clone());
        renew(&proxy, "failed");
        let answer = ask(&proxy, PATH, &token);
        assert_eq!(answer.status, 200, "{behaviour:?}: {answer:?}");
        let page = status(&proxy);
        assert!(page["jwks"][0]["last_error"].is_string(), "{behaviour:?}: {page}");
    }
    assert_eq!(elsewhere.asked().len(), 0, "a redirect was followed");
    assert_eq!(live(&proxy), version);
    assert!(!proxy.output().contains("log in"), "a body is in the log");
    identity.behave(Behaviour::Good);
    renew(&proxy, "unchanged");
    let page = status(&proxy);
    assert_eq!(page["jwks"][0]["last_error"], Value::Null, "{page}");
    assert_eq!(live(&proxy), version, "the same keys are no news");
}

fn status(proxy: &Proxy) -> Value {
    let admin = format!("Bearer {}", token::for_role("admin"));
    let mut client = Client::connect(proxy.admin_address());
    let answer = client.request("GET", "/admin/status", &[("Authorization", &admin)]);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[test]
fn a_set_that_is_too_old_ends_in_401_with_a_log_that_says_why_and_comes_back() {
    let origin = ScriptedOrigin::serving("object");
    let keys = KeySet::generate("provider");
    let identity = IdentityServer::start(&[jwk(&keys, "1")]);
    let config =
        by_url(&origin, &identity).set("jwt.jwks", json!({ "refresh": 1, "max_stale": 10 }));
    let proxy = Proxy::start(&config);
    let token = signed(&keys, "1", &identity.issuer(), "user");
    let own = mint(JWT_SECRET, &claims_with("role", "user"));
    everywhere(&proxy, &token, 200);
    identity.behave(Behaviour::Status(503));
    wait_until("the end of the set", || ask(&proxy, PATH, &token).status == 401);
    wait_until("every core", || (0..20).all(|_| ask(&proxy, PATH, &token).status == 401));
    let answer = ask(&proxy, PATH, &token);
    answer.assert_fault(401, "invalid_token");
    assert_eq!(logged(&proxy, &answer)["auth_reason"], "no_key_set");
    everywhere(&proxy, &own, 200);
    proxy.stderr().wait_for("jwt.jwks.max_stale");
    proxy.stderr().wait_for("has status 503");
    identity.behave(Behaviour::Good);
    wait_until("the set again", || (0..20).all(|_| ask(&proxy, PATH, &token).status == 200));
    assert_eq!(counts(&proxy), (0, 0));
}

#[test]
fn a_provider_that_is_down_at_the_start_is_a_warning_and_its_tokens_wait_for_it() {
    let origin = ScriptedOrigin::serving("object");
    let keys = KeySet::generate("provider");
    let identity = IdentityServer::start(&[jwk(&keys, "1")]);
    identity.behave(Behaviour::Closed);
    let proxy = Proxy::start(&by_url(&origin, &identity));
    let token = signed(&keys, "1", &identity.issuer(), "user");
    let answer = ask(&proxy, PATH, &token);
    assert_eq!(answer.status, 401, "{answer:?}");
    assert_eq!(logged(&proxy, &answer)["auth_reason"], "no_key_set");
    everywhere(&proxy, &mint(JWT_SECRET, &claims_with("role", "user")), 200);
    proxy.stderr().wait_for("the key set of provider 'corp' is not there");
    identity.behave(Behaviour::Good);
    wait_until("its keys", || (0..20).all(|_| ask(&proxy, PATH, &token).status == 200));
}

#[test]
fn a_certificate_that_is_not_trusted_brings_no_keys() {
    let origin = ScriptedOrigin::serving("object");
    let keys = KeySet::generate("provider");
    let identity = IdentityServer::start(&[jwk(&keys, "1")]);
    let (front, other) = (TlsFront::start(identity.address()), TlsFront::start(identity.address()));
    let url = format!("{}/keys", front.named_url());
    let config = config(&origin, json!({ "issuer": "https://id.example/", "jwks_url": url }))
        .set("jwt.jwks.ca_file", "ca.pem");
    let proxy = Launch::trusting(&other).config(&config).start();
    let error = status(&proxy)["jwks"][0]["last_error"].as_str().unwrap().to_owned();
    assert!(error.contains("the TLS handshake failed"), "{error}");
    let token = signed(&keys, "1", "https://id.example/", "user");
    everywhere(&proxy, &token, 401);
    assert!(identity.asked().is_empty());
}

#[test]
fn discovery_takes_the_keys_of_the_issuer_itself_only() {
    let origin = ScriptedOrigin::serving("object");
    let keys = KeySet::generate("provider");
    let identity = IdentityServer::start(&[jwk(&keys, "1")]);
    let issuer = identity.issuer();
    let config = config(&origin, json!({ "issuer": issuer, "discovery": true }));
    let proxy = Proxy::start(&config);
    let token = signed(&keys, "1", &issuer, "user");
    everywhere(&proxy, &token, 200);
    everywhere(&proxy, &signed(&keys, "1", "https://id.example", "user"), 401);
    identity.claim_to_be("http://127.0.0.1:1");
    renew(&proxy, "failed");
    everywhere(&proxy, &token, 200);
    let error = status(&proxy)["jwks"][0]["last_error"].as_str().unwrap().to_owned();
    assert!(error.contains("is of another issuer"), "{error}");

    // From the start there is no key at all.
    let proxy = Proxy::start(&config);
    everywhere(&proxy, &token, 401);
    identity.claim_to_be(&issuer);
    wait_until("the right metadata", || (0..20).all(|_| ask(&proxy, PATH, &token).status == 200));
}

#[test]
fn reloads_keep_the_sets_that_they_do_not_touch() {
    let origin = ScriptedOrigin::serving("object");
    let keys = KeySet::generate("provider");
    let identity = IdentityServer::start(&[jwk(&keys, "1")]);
    let other = IdentityServer::start(&[jwk(&keys, "2")]);
    let first = by_url(&origin, &identity);
    let proxy = Proxy::start(&first);
    let token = signed(&keys, "1", &identity.issuer(), "user");
    everywhere(&proxy, &token, 200);
    identity.behave(Behaviour::Closed);
    for number in 0..5 {
        adopt(&proxy, &touched(&first, number));
        everywhere(&proxy, &token, 200);
    }
    assert_eq!(identity.asked_for_keys(), 1);

    // Another place is another set, and the old one is not used for it.
    let moved = first.clone().set("jwt.providers.0.jwks_url", other.keys_url());
    let report = adopt(&proxy, &moved);
    let applied = report["applied"].as_array().unwrap();
    assert!(applied.contains(&"jwt.providers[corp].jwks_url".into()), "{report}");
    everywhere(&proxy, &token, 401);
    everywhere(&proxy, &signed(&keys, "2", &identity.issuer(), "user"), 200);

    // One that does not answer is a warning, and the reload succeeds.
    let report =
        adopt(&proxy, &touched(&first, 9).set("jwt.providers.0.algorithms", json!(["ES256"])));
    assert!(report["warnings"][0].as_str().unwrap().contains("provider 'corp'"), "{report}");
    everywhere(&proxy, &token, 401);
    identity.behave(Behaviour::Good);
    wait_until("its keys", || (0..20).all(|_| ask(&proxy, PATH, &token).status == 200));
}

#[test]
fn times_of_key_sets_count_from_the_reload_that_brings_them() {
    let origin = ScriptedOrigin::serving("object");
    let keys = KeySet::generate("provider");
    let identity = IdentityServer::start(&[jwk(&keys, "1")]);
    let first = by_url(&origin, &identity);
    let proxy = Proxy::start(&first);
    everywhere(&proxy, &signed(&keys, "1", &identity.issuer(), "user"), 200);
    for max_stale in [100, 1_000] {
        adopt(&proxy, &first.clone().set("jwt.jwks.max_stale", max_stale));
        let set = status(&proxy)["jwks"][0].clone();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let left = set["ends"].as_u64().unwrap() - now;
        assert!(left <= max_stale && left + 100 > max_stale, "{max_stale}: {set}");
    }
    assert_eq!(identity.asked_for_keys(), 1, "the set is kept");
}

#[test]
fn buckets_and_the_admin_api_take_tokens_of_their_providers_only() {
    let origin = ScriptedOrigin::serving("object");
    let keys = KeySet::generate("provider");
    let identity = IdentityServer::start(&[jwk(&keys, "1")]);
    let first = by_url(&origin, &identity);
    let proxy = Proxy::start(&first);
    let of_corp = signed(&keys, "1", &identity.issuer(), "admin");
    let own = token::for_role("admin");
    for _ in 0..4 {
        assert_eq!(ask(&proxy, "/products/x", &own).status, 200);
        assert_eq!(ask(&proxy, "/products/x", &of_corp).status, 200);
        assert_eq!(ask(&proxy, "/corporate/x", &of_corp).status, 200);
        let answer = ask(&proxy, "/corporate/x", &own);
        answer.assert_fault(403, "claims_refused");
        assert_eq!(logged(&proxy, &answer)["auth_reason"], "provider");
        assert_eq!(ask(&proxy, "/admin/status", &own).status, 200);
        assert_eq!(ask(&proxy, "/admin/status", &of_corp).status, 403);
    }
    adopt(&proxy, &first.set("jwt.admin_providers", json!(["corp"])));
    assert_eq!(ask(&proxy, "/admin/status", &own).status, 403);
    assert_eq!(ask(&proxy, "/admin/status", &of_corp).status, 200);
}

#[test]
fn status_and_metrics_show_each_set() {
    let origin = ScriptedOrigin::serving("object");
    let keys = KeySet::generate("provider");
    let identity = IdentityServer::start(&[jwk(&keys, "1"), jwk(&keys, "2")]);
    identity.cache_control("max-age=600");
    let proxy = Proxy::start(&by_url(&origin, &identity));
    let set = status(&proxy)["jwks"][0].clone();
    assert_eq!(set["provider"], "corp", "{set}");
    assert_eq!(set["url"], identity.keys_url(), "{set}");
    assert_eq!(set["keys"], 2, "{set}");
    assert_eq!(set["last_error"], Value::Null, "{set}");
    assert!(set["version"].as_u64() >= Some(1), "{set}");
    let everywhere = vec![set["version"].clone(); 2];
    assert_eq!(set["worker_versions"], Value::from(everywhere), "{set}");
    assert!(set["age_seconds"].is_u64(), "{set}");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let left = set["ends"].as_u64().unwrap() - now;
    assert!((86_000..=86_400).contains(&left), "jwt.jwks.max_stale: {set}");
    assert_eq!((renewals(&proxy, "renewed"), renewals(&proxy, "failed")), (1.0, 0.0));
    let age = proxy.metric(r#"yatagarasu_jwks_age_seconds{provider="corp"}"#).unwrap();
    assert!((0.0..300.0).contains(&age), "{age}");
    renew(&proxy, "unchanged");
    assert!(identity.asked().iter().any(|asked| asked.tag.as_deref() == Some("\"1\"")));
    // Without a token, or with a GET, nothing is renewed.
    let mut client = proxy.client();
    assert_eq!(client.request("POST", "/admin/jwks/refresh", &[]).status, 401);
    let admin = format!("Bearer {}", token::for_role("admin"));
    let answer = client.request("GET", "/admin/jwks/refresh", &[("Authorization", &admin)]);
    assert_eq!(answer.status, 405);
    assert_eq!(identity.asked_for_keys(), 2);
}

#[test]
fn a_validation_names_the_sources_and_asks_none() {
    let origin = ScriptedOrigin::serving("object");
    let identity = IdentityServer::start(&[]);
    for (corp, expected) in [
        (
            json!({ "issuer": "https://id.example", "jwks_url": identity.keys_url() }),
            format!("the key set of provider 'corp' is fetched at {}", identity.keys_url()),
        ),
        (
            json!({ "issuer": identity.issuer(), "discovery": true }),
            format!("is fetched where {}/.well-known/openid-configuration says", identity.issuer()),
        ),
    ] {
        let ended = Launch::new().config(&config(&origin, corp)).arguments(&["--validate"]).run();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stdout.contains(&expected), "{ended:?}");
    }
    assert!(identity.asked().is_empty());
}

/// A provider that never answers holds up the start and a reload for seconds, and nothing else.
#[test]
fn a_provider_that_is_silent_holds_up_nobody() {
    let origin = ScriptedOrigin::serving("object");
    let keys = KeySet::generate("provider");
    let identity = IdentityServer::start(&[jwk(&keys, "1")]);
    identity.behave(Behaviour::Silent);
    let proxy = Proxy::start(&by_url(&origin, &identity));
    let own = mint(JWT_SECRET, &claims_with("role", "user"));
    everywhere(&proxy, &own, 200);
    let report = adopt(&proxy, &touched(&by_url(&origin, &identity), 1));
    assert_eq!(report["workers"], 2, "{report}");
    let found = wait_for("the failure", || {
        status(&proxy)["jwks"][0]["last_error"].as_str().map(str::to_owned)
    });
    assert!(found.contains("took too long"), "{found}");
}
