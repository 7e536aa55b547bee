//! Verification keys: every algorithm from PEM files, rotation, and JWK sets.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use yatagarasu::policy::auth::JWKS_BYTES_MAX;

use crate::{
    auth::{
        OTHER_SECRET, ask, claims,
        keys::{ALGORITHMS, KeySet},
        logged,
    },
    support::{
        config::Config,
        proxy::{Launch, Proxy},
        raw_client::Client,
        reload::wait_generation,
        scripted_origin::ScriptedOrigin,
        token::{JWT_SECRET, bearer},
        waiting::wait_until,
    },
};

/// Section without a key.
fn bare(origin: &ScriptedOrigin) -> Config {
    Config::products(origin.url())
        .set("buckets.0.auth", json!({ "enabled": true }))
        .set("jwt", json!({ "enabled": true }))
}

/// A token of [`JWT_SECRET`] or another one, with a header of one's own.
fn with_kid(secret: &str, kid: Option<&str>, claims: &Value) -> String {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    let mut header = Header::new(Algorithm::HS256);
    header.kid = kid.map(str::to_owned);
    encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

fn uses(proxy: &Proxy, key: &str) -> f64 {
    proxy
        .metric(&format!("yatagarasu_jwt_key_uses_total{{key=\"{key}\"}}"))
        .expect("the key's counter")
}

/// The counter has room for 32 keys; a year of rotations has more.
#[test]
fn a_new_key_takes_the_counter_of_one_that_is_gone_and_starts_at_zero() {
    let origin = ScriptedOrigin::serving("object");
    let secret = |number: usize| format!("{number:-<40}");
    let with_keys = |numbers: std::ops::Range<usize>| {
        let keys: Vec<Value> = numbers
            .map(|number| json!({ "id": format!("k{number}"), "secret": secret(number) }))
            .collect();
        bare(&origin).set("jwt.keys", keys)
    };
    let proxy = Proxy::start(&with_keys(0..32));
    let get = |number: usize| {
        let token = with_kid(&secret(number), Some(&format!("k{number}")), &claims());
        proxy.get_with("/products/x", &[("Authorization", &bearer(&token))]).status
    };
    assert_eq!((get(0), get(0), get(31)), (200, 200, 200));
    let counts = |keys: [&str; 3]| {
        keys.map(|key| proxy.metric(&format!("yatagarasu_jwt_key_uses_total{{key=\"{key}\"}}")))
    };
    assert_eq!(counts(["k0", "k31", "k32"]), [Some(2.0), Some(1.0), None]);
    proxy.write_config(&with_keys(1..33));
    proxy.signal("HUP");
    wait_generation(&proxy, 2);
    assert_eq!(counts(["k0", "k31", "k32"]), [None, Some(1.0), Some(0.0)]);
    assert_eq!((get(0), get(32), get(31)), (401, 200, 200));
    assert_eq!(counts(["_other", "k31", "k32"]), [Some(0.0), Some(2.0), Some(1.0)]);
}

#[test]
fn every_algorithm_verifies_with_a_key_from_a_file() {
    let origin = ScriptedOrigin::serving("object");
    let (ours, theirs) = (KeySet::generate("ours"), KeySet::generate("theirs"));
    let claims = claims().to_string();
    for algorithm in ALGORITHMS {
        let launch = Launch::new();
        let config = bare(&origin).set("jwt.algorithm", algorithm);
        let config = if algorithm.starts_with("HS") {
            launch.write("key", &format!("{:-<64}\n", "ours"));
            config.set("jwt.secret_file", "key")
        } else {
            launch.write("key", std::str::from_utf8(&ours.pem(algorithm)).unwrap());
            config.set("jwt.public_key_file", "key")
        };
        let proxy = launch.config(&config).start();
        let good = ours.token(algorithm, &claims);
        assert_eq!(ask(&proxy, "/products/x", &good).text(), "object", "{algorithm}");
        ask(&proxy, "/products/x", &theirs.token(algorithm, &claims))
            .assert_fault(401, "invalid_token");
        // The same signer with every other algorithm, honestly named or not.
        for other in ALGORITHMS.into_iter().filter(|other| *other != algorithm) {
            let named = ours.token(other, &claims);
            let header = format!(r#"{{"alg":"{algorithm}"}}"#);
            let disguised = ours.token_with(other, &header, &claims);
            for token in [named, disguised] {
                assert_eq!(ask(&proxy, "/products/x", &token).status, 401, "{algorithm} {other}");
            }
        }
        // The public key as an HMAC secret (RFC 8725 section 2.1).
        if !algorithm.starts_with("HS") {
            let pem = String::from_utf8(ours.pem(algorithm)).unwrap();
            for secret in [pem.as_str(), pem.trim_end()] {
                let token = with_kid(secret, None, &crate::auth::claims());
                assert_eq!(ask(&proxy, "/products/x", &token).status, 401, "{algorithm}");
            }
        }
        assert_eq!(origin.requests().len(), 1 + position(algorithm), "{algorithm}");
    }
}

fn position(algorithm: &str) -> usize {
    ALGORITHMS.iter().position(|known| *known == algorithm).unwrap()
}

#[test]
fn a_rotation_has_no_gap_and_shows_when_the_old_key_is_no_longer_used() {
    let origin = ScriptedOrigin::serving("object");
    let old_key = json!({ "id": "old", "algorithm": "HS256", "secret": JWT_SECRET });
    let new_key = json!({ "id": "new", "algorithm": "HS256", "secret": OTHER_SECRET });
    let with =
        |keys: &[&Value]| bare(&origin).set("jwt.keys", json!(keys)).set("server.threads", 2);
    let proxy = Proxy::start(&with(&[&old_key]));
    let old = with_kid(JWT_SECRET, Some("old"), &claims());
    let new = with_kid(OTHER_SECRET, Some("new"), &claims());
    let reload = |config: &Config| {
        let before = proxy.metric("config_reload_success_total").unwrap();
        proxy.write_config(config);
        proxy.signal("HUP");
        wait_until("the reload", || {
            proxy.metric("config_reload_success_total") == Some(before + 1.0)
        });
    };
    assert_eq!(ask(&proxy, "/products/x", &new).status, 401);

    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let mut client = Client::connect(proxy.address());
            let bearing = bearer(&old);
            while !stop.load(Ordering::SeqCst) {
                let response = client.request("GET", "/products/x", &[("Authorization", &bearing)]);
                if response.status != 200 {
                    return Some(response.status);
                }
                asked.fetch_add(1, Ordering::SeqCst);
            }
            None
        });
        let more = |count: usize| {
            let from = asked.load(Ordering::SeqCst);
            wait_until("more requests", || {
                load.is_finished() || asked.load(Ordering::SeqCst) >= from + count
            });
        };
        more(20);
        reload(&with(&[&new_key, &old_key]));
        assert_eq!(ask(&proxy, "/products/x", &new).status, 200);
        more(20);
        stop.store(true, Ordering::SeqCst);
        assert_eq!(load.join().unwrap(), None, "the old key worked all the time");
    });
    let of_old = uses(&proxy, "old");
    assert!(of_old >= 40.0, "{of_old}");
    assert!((uses(&proxy, "new") - 1.0).abs() < f64::EPSILON);
    for _ in 0..5 {
        assert_eq!(ask(&proxy, "/products/x", &new).status, 200);
    }
    assert!((uses(&proxy, "old") - of_old).abs() < f64::EPSILON, "nobody used it any more");
    assert!((uses(&proxy, "new") - 6.0).abs() < f64::EPSILON);

    reload(&with(&[&new_key]));
    let mut kept = proxy.client();
    for _ in 0..4 {
        let refused = kept.request("GET", "/products/x", &[("Authorization", &bearer(&old))]);
        refused.assert_fault(401, "invalid_token");
        assert_eq!(logged(&proxy, &refused)["auth_reason"], "unknown_key");
        assert_eq!(ask(&proxy, "/products/x", &new).status, 200);
    }
}

#[test]
fn a_kid_binds_to_its_key() {
    let origin = ScriptedOrigin::serving("object");
    let config = bare(&origin).set(
        "jwt.keys",
        json!([
            { "id": "a", "algorithm": "HS256", "secret": JWT_SECRET },
            { "id": "b", "algorithm": "HS256", "secret": OTHER_SECRET },
            { "algorithm": "HS256", "secret": "the-third-secret-has-no-id-but-enough-characters" },
        ]),
    );
    let proxy = Proxy::start(&config);
    let third = "the-third-secret-has-no-id-but-enough-characters";
    for (secret, kid, status) in [
        (JWT_SECRET, Some("a"), 200),
        (OTHER_SECRET, Some("b"), 200),
        (JWT_SECRET, Some("b"), 401),
        (third, Some("a"), 401),
        // Without a kid, or with one that nobody has, only keys without an id are tried.
        (third, None, 200),
        (third, Some("c"), 200),
        (JWT_SECRET, None, 401),
        (JWT_SECRET, Some("c"), 401),
        (JWT_SECRET, Some("A"), 401),
    ] {
        let token = with_kid(secret, kid, &claims());
        assert_eq!(ask(&proxy, "/products/x", &token).status, status, "{kid:?} {secret}");
    }
    assert!((uses(&proxy, "jwt.keys[2]") - 2.0).abs() < f64::EPSILON);
}

/// The contents of a PEM.
fn der(pem: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(pem);
    let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
    STANDARD.decode(body).unwrap()
}

/// A JWK set as a provider would publish it. The numbers lie at fixed places in a
/// `SubjectPublicKeyInfo` (RFC 5280 section 4.1.2.7) of these sizes.
fn jwk_set(keys: &KeySet) -> Value {
    let (rsa, ec, ed) = (der(&keys.pem("RS256")), der(&keys.pem("ES256")), der(&keys.pem("EdDSA")));
    let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let point = &ec[ec.len() - 64..];
    json!({ "keys": [
        { "kty": "RSA", "kid": "rsa", "alg": "RS256", "use": "sig",
          "n": text(&rsa[rsa.len() - 261..rsa.len() - 5]), "e": text(&rsa[rsa.len() - 3..]) },
        { "kty": "EC", "kid": "ec", "crv": "P-256", "x": text(&point[..32]), "y": text(&point[32..]) },
        { "kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": text(&ed[ed.len() - 32..]) },
        { "kty": "oct", "kid": "oct", "alg": "HS256", "k": text(OTHER_SECRET.as_bytes()) },
        { "kty": "EC", "kid": "unknown", "crv": "secp256k1", "x": "AA", "y": "AA" },
    ] })
}

#[test]
fn a_jwk_set_verifies_and_its_unusable_keys_are_warnings() {
    let origin = ScriptedOrigin::serving("object");
    let (ours, theirs) = (KeySet::generate("ours"), KeySet::generate("theirs"));
    let launch = Launch::new();
    launch.write("set.json", &jwk_set(&ours).to_string());
    let config = bare(&origin).set("jwt.jwks_file", "set.json");
    let proxy = launch.config(&config).start();
    proxy.stderr().wait_for("kid unknown");
    let claims = claims().to_string();
    for (algorithm, kid) in [("RS256", "rsa"), ("ES256", "ec"), ("EdDSA", "ed")] {
        let header = format!(r#"{{"alg":"{algorithm}","kid":"{kid}"}}"#);
        let good = ours.token_with(algorithm, &header, &claims);
        assert_eq!(ask(&proxy, "/products/x", &good).status, 200, "{algorithm}");
        let forged = theirs.token_with(algorithm, &header, &claims);
        assert_eq!(ask(&proxy, "/products/x", &forged).status, 401, "{algorithm}");
        assert!((uses(&proxy, kid) - 1.0).abs() < f64::EPSILON, "{kid}");
    }
    let shared = with_kid(OTHER_SECRET, Some("oct"), &crate::auth::claims());
    assert_eq!(ask(&proxy, "/products/x", &shared).status, 200);

    // A set that is renamed over the old one is taken with the next reload, a bad one is not.
    let replace = |text: &str| {
        let path = proxy.directory().join("set.json");
        std::fs::write(path.with_extension("new"), text).unwrap();
        std::fs::rename(path.with_extension("new"), path).unwrap();
        proxy.signal("HUP");
    };
    replace("{\"keys\": []}");
    wait_until("the refusal", || proxy.metric("config_reload_failure_total") == Some(1.0));
    assert_eq!(ask(&proxy, "/products/x", &shared).status, 200, "the running keys stay");
    replace(&jwk_set(&theirs).to_string());
    wait_until("the reload", || proxy.metric("config_reload_success_total") == Some(1.0));
    let header = r#"{"alg":"ES256","kid":"ec"}"#;
    let (old, new) = (ours, theirs);
    assert_eq!(ask(&proxy, "/products/x", &old.token_with("ES256", header, &claims)).status, 401);
    assert_eq!(ask(&proxy, "/products/x", &new.token_with("ES256", header, &claims)).status, 200);
}

#[test]
fn a_jwk_set_is_read_up_to_its_bound() {
    let origin = ScriptedOrigin::serving("object");
    let mut set = jwk_set(&KeySet::generate("ours"));
    set["keys"].as_array_mut().unwrap().pop();
    let mut set = set.to_string();
    for (length, code) in [(JWKS_BYTES_MAX, 0), (JWKS_BYTES_MAX + 1, 1)] {
        set.push_str(&" ".repeat(length - set.len()));
        let launch = Launch::new();
        launch.write("set.json", &set);
        let config = bare(&origin).set("jwt.jwks_file", "set.json");
        let exited = launch.config(&config).arguments(&["--validate"]).run();
        let output = exited.stdout + &exited.stderr;
        assert_eq!(exited.code, Some(code), "{output}");
        let message = format!("is larger than {JWKS_BYTES_MAX} bytes");
        assert_eq!(output.contains(&message), code == 1, "{output}");
        assert_eq!(output.matches("jwt").count(), code.unsigned_abs() as usize, "{output}");
    }
}
