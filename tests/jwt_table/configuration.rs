//! What a configuration may say: keys that fit, key files of other tools, JWK sets.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use yatagarasu::{
    model::Secret,
    policy::auth::{
        AuthPolicy, BucketAuth, JWKS_BYTES_MAX, TokenCache, permit_object,
        spec::{AuthProblem, AuthSpec, ClaimSpec, KeyMaterial, KeySpec, TokenSource},
    },
};

use crate::{
    good,
    head::{Head, decide, policy, protected},
    keys::{ALGORITHMS, encode},
    ours, spec,
};

fn key(algorithm: &str, material: KeyMaterial) -> KeySpec {
    KeySpec { path: "jwt".to_owned(), id: None, algorithm: algorithm.to_owned(), material }
}

fn secret(text: &str) -> KeyMaterial {
    KeyMaterial::Secret(Secret::new(text))
}

fn fixture(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/fixtures/jwt/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

fn pem(name: &str) -> KeyMaterial {
    KeyMaterial::PublicPem(fixture(name))
}

/// The problems of one configuration, which is refused if one of them is an error.
fn problems(spec: &AuthSpec) -> Vec<AuthProblem> {
    let (policy, problems) = AuthPolicy::compile(spec);
    assert_eq!(policy.is_none(), problems.iter().any(|problem| !problem.warning), "{problems:?}");
    problems
}

fn only_problem(spec: &AuthSpec) -> AuthProblem {
    let problems = problems(spec);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.into_iter().next().unwrap()
}

#[test]
fn secrets_have_at_least_32_characters() {
    for (text, good) in [
        ("", false),
        ("short", false),
        ("1234567890123456789012345678901", false),
        ("12345678901234567890123456789012", true),
        ("ääääääääääääääää", false),
        ("ääääääääääääääääääääääääääääääää", true),
    ] {
        let found = problems(&spec(vec![key("HS256", secret(text))]));
        if good {
            assert_eq!(found, [], "{text}");
        } else {
            assert_eq!(found[0].message, "JWT secret must be at least 32 characters");
            assert_eq!(found[0].path, "jwt.secret");
        }
    }
}

#[test]
fn a_secret_shorter_than_the_hash_is_a_warning() {
    for (algorithm, length, warns) in [
        ("HS256", 32, false),
        ("HS384", 47, true),
        ("HS384", 48, false),
        ("HS512", 63, true),
        ("HS512", 64, false),
    ] {
        let found = problems(&spec(vec![key(algorithm, secret(&"s".repeat(length)))]));
        assert_eq!(!found.is_empty(), warns, "{algorithm} {length}");
        assert!(found.iter().all(|problem| problem.warning));
    }
}

#[test]
fn a_pem_is_never_a_secret_and_a_secret_never_a_public_key() {
    for name in ["rsa_2048.pub.pem", "prime256v1.pub.pem", "certificate.pem"] {
        let text = String::from_utf8(fixture(name)).unwrap();
        for text in [text.clone(), format!("\n\n{text}"), format!("padding {text}")] {
            let problem = only_problem(&spec(vec![key("HS256", secret(&text))]));
            assert!(problem.message.contains("PEM"), "{}", problem.message);
            assert_eq!(problem.path, "jwt.secret");
        }
    }
    let problem = only_problem(&spec(vec![key("HS256", pem("rsa_2048.pub.pem"))]));
    assert_eq!(problem.path, "jwt.public_key_file");
    for algorithm in ALGORITHMS.into_iter().filter(|name| !name.starts_with("HS")) {
        let problem = only_problem(&spec(vec![key(algorithm, secret(&"s".repeat(64)))]));
        assert!(problem.message.contains("public key"), "{}", problem.message);
    }
}

#[test]
fn a_key_file_must_fit_its_algorithm() {
    let fits = |algorithm: &str, name: &str| match &algorithm[..2] {
        "RS" | "PS" => name.starts_with("rsa_2048"),
        "ES" if algorithm == "ES256" => name.starts_with("prime256v1"),
        "ES" => name.starts_with("secp384r1"),
        _ => name.starts_with("ed25519"),
    };
    let mut accepted = 0;
    for algorithm in ALGORITHMS.into_iter().filter(|name| !name.starts_with("HS")) {
        for name in [
            "rsa_2048.pub.pem",
            "rsa_2048.pkcs1.pem",
            "rsa_1024.pub.pem",
            "prime256v1.pub.pem",
            "secp384r1.pub.pem",
            "secp521r1.pub.pem",
            "secp256k1.pub.pem",
            "ed25519.pub.pem",
            "ed448.pub.pem",
            "certificate.pem",
            "README.md",
        ] {
            let found = problems(&spec(vec![key(algorithm, pem(name))]));
            assert_eq!(found.is_empty(), fits(algorithm, name), "{algorithm} {name} {found:?}");
            accepted += usize::from(found.is_empty());
        }
    }
    assert_eq!(accepted, 6 * 2 + 3);
    for (algorithm, name, message) in [
        (
            "RS256",
            "prime256v1.pub.pem",
            "RS256 needs an RSA key; this is an EC P-256 key: \
             write algorithm: ES256, or name an RSA key",
        ),
        (
            "ES256",
            "secp384r1.pub.pem",
            "ES256 needs an EC P-256 key; this is an EC P-384 key: \
             write algorithm: ES384, or name an EC P-256 key",
        ),
        (
            "EdDSA",
            "rsa_2048.pub.pem",
            "EdDSA needs an Ed25519 key; this is an RSA key: \
             write algorithm: RS256, or name an Ed25519 key",
        ),
        (
            "ES384",
            "ed25519.pub.pem",
            "ES384 needs an EC P-384 key; this is an Ed25519 key: \
             write algorithm: EdDSA, or name an EC P-384 key",
        ),
        (
            "PS256",
            "ed448.pub.pem",
            "PS256 needs an RSA key; this is a key of a type that is not supported",
        ),
    ] {
        assert_eq!(only_problem(&spec(vec![key(algorithm, pem(name))])).message, message);
    }
    let small = only_problem(&spec(vec![key("RS256", pem("rsa_1024.pub.pem"))]));
    assert!(small.message.contains("1024 bits; it must have at least 2048"), "{}", small.message);
}

#[test]
fn tokens_of_another_implementation_verify() {
    let tokens = String::from_utf8(fixture("rsa_2048.tokens")).unwrap();
    let algorithms = ["PS256", "PS384", "PS512", "RS256", "RS384", "RS512"];
    assert_eq!(tokens.lines().count(), algorithms.len());
    let eddsa = String::from_utf8(fixture("ed25519.tokens")).unwrap();
    let rsa = algorithms.into_iter().zip(tokens.lines()).flat_map(|(algorithm, token)| {
        [(algorithm, token, "rsa_2048.pub.pem"), (algorithm, token, "rsa_2048.pkcs1.pem")]
    });
    for (algorithm, token, file) in rsa.chain([("EdDSA", eddsa.trim(), "ed25519.pub.pem")]) {
        let policy = policy(&spec(vec![key(algorithm, pem(file))]));
        let permit = decide(&policy, &Head::bearer(token)).unwrap();
        assert_eq!(permit.subject(), Some("openssl"), "{algorithm}");
    }
}

/// RFC 7515 appendix A.1 to A.3, keys as JWK and tokens as printed there.
#[test]
fn the_examples_of_the_standard_verify() {
    let claims = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    for (jwk, header, signature) in [
        (
            json!({
                "kty": "oct", "alg": "HS256",
                "k": "AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow",
            }),
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            json!({
                "kty": "RSA", "e": "AQAB",
                "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ",
            }),
            "eyJhbGciOiJSUzI1NiJ9",
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
        (
            json!({
                "kty": "EC", "crv": "P-256",
                "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
            }),
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ] {
        let mut set = spec(Vec::new());
        set.jwks = Some(json!({"keys": [jwk]}).to_string().into_bytes());
        set.issuer = Some("joe".to_owned());
        let head = Head::bearer(&format!("{header}.{claims}.{signature}"));
        let at = |now| {
            let mut cache = TokenCache::new();
            permit_object(&policy(&set), &(), &protected(), &mut cache, &head, b"a", now).is_ok()
        };
        assert!(at(1_300_819_379), "{header}");
        assert!(!at(1_300_819_380 + 60), "{header}");
    }
}

fn jwks_problems(keys: &Value) -> Vec<AuthProblem> {
    let mut set = spec(vec![ours().spec("HS256", None)]);
    set.jwks = Some(json!({ "keys": keys }).to_string().into_bytes());
    problems(&set)
}

fn p256(extra: &Value) -> Value {
    let mut jwk = json!({
        "kty": "EC", "crv": "P-256",
        "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
        "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    });
    jwk.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    jwk
}

#[test]
fn keys_of_a_set_that_cannot_be_used_are_named_and_skipped() {
    let good = p256(&json!({"kid": "good"}));
    assert_eq!(jwks_problems(&json!([good])), []);
    let decode = |name: &str| URL_SAFE_NO_PAD.decode(good[name].as_str().unwrap()).unwrap();
    let point = [decode("x"), decode("y")].concat();
    let modulus = |bytes: usize| encode([&[0x81_u8], vec![1; bytes - 1].as_slice()].concat());
    for bad in [
        json!("text"),
        json!({}),
        json!({"kty": 1}),
        json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AAAA"}),
        p256(&json!({"use": "enc"})),
        p256(&json!({"use": 1})),
        p256(&json!({"key_ops": ["sign"]})),
        p256(&json!({"key_ops": "verify"})),
        p256(&json!({"crv": "P-384"})),
        p256(&json!({"crv": "P-521"})),
        p256(&json!({"crv": "secp256k1"})),
        p256(&json!({"alg": "ES384"})),
        p256(&json!({"alg": "HS256"})),
        p256(&json!({"alg": "none"})),
        p256(&json!({"alg": null})),
        p256(&json!({"x": "AAAA"})),
        p256(&json!({"y": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU"})),
        p256(&json!({"y": null})),
        // The right bytes, cut in the wrong place.
        p256(&json!({
            "x": encode(&point[..31]),
            "y": encode(&point[31..]),
        })),
        p256(&json!({"x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU="})),
        p256(&json!({"d": "AAAA"})),
        p256(&json!({"kid": 1})),
        p256(&json!({"kid": ""})),
        p256(&json!({"kid": "x".repeat(300)})),
        p256(&json!({"kid": "good"})),
        json!({"kty": "RSA", "n": modulus(128), "e": "AQAB"}),
        json!({"kty": "RSA", "n": modulus(1_100), "e": "AQAB"}),
        json!({"kty": "RSA", "n": modulus(256), "e": "AQ"}),
        json!({"kty": "RSA", "n": modulus(256), "e": "AA"}),
        json!({"kty": "RSA", "n": modulus(256), "e": "BA"}),
        json!({"kty": "RSA", "n": modulus(256), "e": "AQABAQABAQAB"}),
        json!({"kty": "RSA", "n": modulus(256), "e": "AQAB", "alg": "RSA-OAEP"}),
        json!({"kty": "RSA", "n": modulus(256), "e": "AQAB", "alg": "ES256"}),
        json!({"kty": "RSA", "n": modulus(256)}),
        json!({"kty": "OKP", "crv": "X25519", "x": encode([9; 32])}),
        json!({"kty": "OKP", "crv": "Ed448", "x": encode([9; 57])}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": encode([9; 31])}),
        json!({"kty": "oct", "k": encode([9; 64])}),
        json!({"kty": "oct", "alg": "RS256", "k": encode([9; 64])}),
        json!({"kty": "oct", "alg": "HS256", "k": encode([9; 31])}),
        json!({"kty": "oct", "alg": "HS256", "k": encode(fixture("rsa_2048.pub.pem"))}),
    ] {
        let found = jwks_problems(&json!([good, bad]));
        assert_eq!(found.len(), 1, "{bad} {found:?}");
        assert!(found[0].warning, "{bad}");
        assert_eq!(found[0].path, "jwt.jwks_file.keys[1]");
        let found = jwks_problems(&json!([bad]));
        if bad["kid"] != json!("good") {
            assert!(found.iter().any(|problem| !problem.warning), "only {bad}");
        }
    }
}

#[test]
fn a_set_is_bounded_and_well_formed() {
    let of = |bytes: Vec<u8>| {
        let mut set = spec(Vec::new());
        set.jwks = Some(bytes);
        only_problem(&set)
    };
    for text in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, "x", "{\"keys\":[]}"]
    {
        assert_eq!(of(text.as_bytes().to_vec()).path, "jwt.jwks_file", "{text}");
    }
    let mut long = json!({"keys": [p256(&json!({}))]}).to_string().into_bytes();
    long.resize(JWKS_BYTES_MAX + 1, b' ');
    assert!(of(long).message.contains("at most"));
    let many: Vec<_> = (0..101).map(|n| p256(&json!({"kid": n.to_string()}))).collect();
    assert!(jwks_problems(&json!(many)).iter().any(|problem| problem.message.contains("100")));
    let nameless: Vec<_> = (0..9).map(|_| p256(&json!({}))).collect();
    assert!(jwks_problems(&json!(nameless)).iter().any(|problem| !problem.warning));
}

#[test]
fn a_kid_of_a_set_binds_as_a_configured_id_does() {
    let mut set = spec(vec![ours().spec("HS256", Some("shared"))]);
    set.jwks = Some(json!({"keys": [p256(&json!({"kid": "set"}))]}).to_string().into_bytes());
    let compiled = policy(&set);
    assert_eq!(compiled.key_ids().collect::<Vec<_>>(), ["shared", "set"]);
    set.jwks = Some(json!({"keys": [p256(&json!({"kid": "shared"}))]}).to_string().into_bytes());
    assert_eq!(only_problem(&set).path, "jwt.jwks_file");
}

#[test]
fn all_problems_are_reported_together() {
    let mut bad = spec(vec![
        key("HS256", secret("short")),
        key("none", secret(&"s".repeat(64))),
        key("hs256", secret(&"s".repeat(64))),
        key("RS256", pem("prime256v1.pub.pem")),
        ours().spec("HS256", Some("twice")),
        ours().spec("HS384", Some("twice")),
        ours().spec("HS384", Some("")),
    ]);
    bad.issuer = Some(String::new());
    bad.audience = vec![String::new()];
    bad.leeway = Duration::from_millis(300_001);
    bad.sources = vec![
        TokenSource::Header { name: "x y".to_owned(), prefix: String::new() },
        TokenSource::Query { name: String::new() },
        TokenSource::Cookie { name: "a=b".to_owned() },
    ];
    let rule = |path: &str, operator: &str, value: Value| ClaimSpec {
        path: path.to_owned(),
        claim: "role".to_owned(),
        operator: operator.to_owned(),
        value,
    };
    bad.claims = vec![rule("jwt.claims[0]", "gt", json!("1"))];
    bad.admin_claims = vec![rule("jwt.admin_claims[0]", "path_prefix", Value::Null)];
    let found = problems(&bad);
    let paths: Vec<_> = found.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "jwt.secret",
            "jwt.algorithm",
            "jwt.algorithm",
            "jwt.public_key_file",
            "jwt.id",
            "jwt.id",
            "jwt.issuer",
            "jwt.audience",
            "jwt.claims[0].value",
            "jwt.leeway",
            "jwt.token_sources[0].name",
            "jwt.token_sources[1].name",
            "jwt.token_sources[2].name",
            "jwt.admin_claims[0].operator",
        ]
    );
}

#[test]
fn what_would_fail_open_is_refused() {
    assert_eq!(only_problem(&spec(Vec::new())).path, "jwt");
    let good = || spec(vec![ours().spec("HS256", None)]);
    let no_sources = AuthSpec { sources: Vec::new(), ..good() };
    assert_eq!(only_problem(&no_sources).path, "jwt.token_sources");
    let no_admin_rules = AuthSpec { admin_claims: Vec::new(), ..good() };
    assert_eq!(only_problem(&no_admin_rules).path, "jwt.admin_claims");
    assert!(!AuthSpec::default().enforced);
    assert!(AuthSpec::default().require_exp);
    let rule = ClaimSpec {
        path: "buckets[0].auth.claims[0]".to_owned(),
        claim: "role".to_owned(),
        operator: "equals".to_owned(),
        value: json!("user"),
    };
    let (bucket, warnings) = BucketAuth::compile(false, &[rule]);
    assert!(!bucket.unwrap().enabled());
    assert!(warnings.len() == 1 && warnings[0].warning, "rules that nobody asks are worth a word");
}

#[test]
fn a_policy_is_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<AuthPolicy>();
    shared::<BucketAuth>();
}

#[test]
fn secrets_are_in_no_debug_output() {
    let hidden = "a-secret-that-nobody-should-see-anywhere";
    let set = json!({"keys": [{"kty": "oct", "alg": "HS256", "kid": "s", "k": encode(hidden)}]});
    let mut open = spec(vec![key("HS256", secret(hidden))]);
    open.jwks = Some(set.to_string().into_bytes());
    let compiled = policy(&open);
    let token = ours().token("HS256", &good().to_string());
    let denial = decide(&compiled, &Head::bearer(&token)).unwrap_err();
    let bytes = format!("{:?}", hidden.as_bytes());
    let encoded_bytes = format!("{:?}", encode(hidden).as_bytes());
    for shown in [format!("{open:?}"), format!("{compiled:?}"), format!("{denial:?}")] {
        for secret in [hidden, &encode(hidden), &bytes[1..40], &encoded_bytes[1..40]] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
    assert!(problems(&spec(vec![key("HS256", secret("hunter2"))]))[0].message.len() < 100);
}
