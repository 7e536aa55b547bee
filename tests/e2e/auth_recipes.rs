//! Every recipe of `docs/AUTH.md`, as printed there: started, and tried with a right token and
//! with wrong ones.

use serde_json::{Value, json};

use crate::{
    auth::{
        OTHER_SECRET, ask, claims, claims_with,
        keys::{KeySet, encode},
    },
    support::{
        identity_server::IdentityServer,
        proxy::{Launch, Proxy},
        scripted_origin::ScriptedOrigin,
        token::{JWT_SECRET, mint},
    },
};

/// Titles of the recipes with their YAML.
fn recipes() -> Vec<(String, String)> {
    let page = include_str!("../../docs/AUTH.md");
    let mut found = Vec::new();
    for section in page.split("\n### ").skip(1) {
        let title = section.lines().next().unwrap().to_owned();
        let section = section.split("\n## ").next().unwrap();
        for block in section.split("```yaml\n").skip(1) {
            found.push((title.clone(), block.split("```").next().unwrap().to_owned()));
        }
    }
    assert_eq!(page.matches("```yaml").count(), found.len(), "a snippet outside a recipe");
    found
}

/// Providers that the recipes name; one on this machine takes their place.
const PROVIDERS: [&str; 6] = [
    "https://id.example.com",
    "https://keycloak.example.com",
    "https://tenant.eu.auth0.com",
    "https://cognito-idp.eu-west-1.amazonaws.com",
    "https://login.microsoftonline.com",
    "https://dex.example.com",
];

/// Directories that the recipes name; the test's own takes their place.
const DIRECTORIES: [&str; 3] = ["/run/secrets/", "/etc/yatagarasu/", "/var/lib/yatagarasu/"];

/// The recipe with an endpoint and a port that exist here, running.
fn start(
    yaml: &str,
    keys: &KeySet,
    identity: &IdentityServer,
    origin: &ScriptedOrigin,
) -> (Proxy, Value) {
    let launch = Launch::new();
    launch.write("partner.pem", std::str::from_utf8(&keys.pem("ES256")).unwrap());
    let own_authority = rcgen::generate_simple_self_signed(vec!["dex.example.com".to_owned()]);
    launch.write("dex-ca.pem", &own_authority.unwrap().cert.pem());
    launch.write("idp.pem", std::str::from_utf8(&keys.pem("RS256")).unwrap());
    launch.write("jwt", &format!("{JWT_SECRET}\n"));
    launch.write("jwt-2024-06", JWT_SECRET);
    launch.write("jwt-2024-01", OTHER_SECRET);
    for name in ["files-key", "tenants-key", "media-key"] {
        launch.write(name, "end-to-end-secret-key-never-shown");
    }
    launch.write("jwks.json", &jwks().to_string());
    let directory = format!("{}/", launch.path("").display().to_string().trim_end_matches('/'));
    let mut text = yaml.to_owned();
    for known in DIRECTORIES {
        text = text.replace(known, &directory);
    }
    let fetches = ["jwks_url", "discovery"].iter().any(|key| yaml.contains(key));
    if fetches {
        for known in PROVIDERS {
            text = text.replace(known, &format!("http://{}", identity.address()));
        }
    }
    let mut config: Value = serde_yaml::from_str(&text).unwrap();
    let issuers = [&config["jwt"]["issuer"], &config["jwt"]["providers"][0]["issuer"]];
    if let Some(issuer) = issuers.into_iter().find_map(Value::as_str).filter(|_| fetches) {
        identity.claim_to_be(issuer);
    }
    config["server"] = json!({ "address": "127.0.0.1", "port": 0, "threads": 1 });
    for bucket in config["buckets"].as_array_mut().unwrap() {
        bucket["s3"]["endpoint"] = origin.url().into();
    }
    let proxy = launch.config_text(&config.to_string()).start();
    assert_eq!(proxy.metric("yatagarasu_auth_enforced"), Some(1.0));
    (proxy, config)
}

/// The public half of an ES256 key, as providers publish it.
fn published(keys: &KeySet) -> Value {
    let point = keys.p256_point();
    let (x, y) = (encode(&point[1..33]), encode(&point[33..]));
    json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": "k1", "x": x, "y": y })
}

/// A token of a provider whose keys are fetched.
fn of_fetched(keys: &KeySet, claims: &Value) -> String {
    keys.token_with("ES256", r#"{"alg":"ES256","kid":"k1"}"#, &claims.to_string())
}

/// Claims that a recipe with discovery asks for, beside `iss`.
fn claims_of(title: &str) -> Value {
    match title {
        "Key sets from the network" => json!({ "aud": "files.example.com" }),
        "Keycloak" => {
            json!({ "aud": ["account", "files"], "realm_access": { "roles": ["reader"] } })
        }
        "Auth0" => json!({ "aud": "https://files.example.com", "permissions": ["read:files"] }),
        "Amazon Cognito" => json!({ "token_use": "access", "client_id": "1example23456789",
            "cognito:groups": ["readers"] }),
        "Microsoft Entra ID" => {
            json!({ "aud": "66666666-7777-8888-9999-000000000000", "roles": ["Files.Read"] })
        }
        "Dex" => json!({ "aud": "files", "groups": ["example:readers"] }),
        other => panic!("the recipe {other:?} is not tried"),
    }
}

fn jwks() -> Value {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let key = URL_SAFE_NO_PAD.encode(JWT_SECRET);
    json!({ "keys": [{ "kty": "oct", "kid": "k1", "alg": "HS256", "k": key }] })
}

/// An HS256 token with a `kid`.
fn with_kid(secret: &str, kid: &str, claims: &Value) -> String {
    use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::HS256) };
    encode(&header, claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

/// Claims as the provider of the recipes makes them.
fn of_provider() -> Value {
    let mut claims = claims_with("iss", "https://id.example.com/");
    claims["aud"] = "files.example.com".into();
    claims
}

#[track_caller]
fn expect(proxy: &Proxy, path: &str, token: &str, status: u16) {
    let response = ask(proxy, path, token);
    assert_eq!(response.status, status, "{path}: {response:?}");
}

#[test]
fn every_recipe_lets_in_whom_it_should_and_nobody_else() {
    let origin = ScriptedOrigin::serving("object");
    let keys = KeySet::generate("provider");
    let others = KeySet::generate("somebody else");
    let identity = IdentityServer::start(&[published(&keys)]);
    let mut titles = Vec::new();
    for (title, yaml) in recipes() {
        let (proxy, config) = start(&yaml, &keys, &identity, &origin);
        let path = match title.as_str() {
            "Tenants that see their own prefix only" => "/tenants/tenant1/a.jpg",
            "Tokens for `<img>` and `<video>`" => "/media/film.mp4",
            _ => "/files/a",
        };
        proxy.get(path).assert_fault(401, "missing_token");
        expect(&proxy, path, &mint("nobody-ever-configured-this-secret!", &of_provider()), 401);
        expect(&proxy, path, &with_kid(OTHER_SECRET, "2024-06", &of_provider()), 401);
        match title.as_str() {
            "One secret" => {
                expect(&proxy, path, &mint(JWT_SECRET, &claims()), 200);
            }
            "Rotation" => {
                expect(&proxy, path, &with_kid(JWT_SECRET, "2024-06", &claims()), 200);
                expect(&proxy, path, &with_kid(OTHER_SECRET, "2024-01", &claims()), 200);
                expect(&proxy, path, &mint(JWT_SECRET, &claims()), 401);
            }
            "RS256 from an identity provider" => {
                let token = |claims: &Value| keys.token("RS256", &claims.to_string());
                expect(&proxy, path, &token(&of_provider()), 200);
                expect(&proxy, path, &token(&claims()), 401);
                let mut of_another_application = of_provider();
                of_another_application["aud"] = "shop.example.com".into();
                expect(&proxy, path, &token(&of_another_application), 401);
            }
            "JWK set in a file" => {
                expect(&proxy, path, &with_kid(JWT_SECRET, "k1", &of_provider()), 200);
                expect(&proxy, path, &with_kid(JWT_SECRET, "k1", &claims()), 401);
                expect(&proxy, path, &with_kid(JWT_SECRET, "k2", &of_provider()), 401);
            }
            "Tenants that see their own prefix only" => {
                let token = claims_with("prefixes", json!(["tenant1/", "shared/eu"]));
                let token = mint(JWT_SECRET, &token);
                expect(&proxy, path, &token, 200);
                expect(&proxy, "/tenants/shared/eu/b.jpg", &token, 200);
                expect(&proxy, "/tenants/tenant10/a.jpg", &token, 403);
                expect(&proxy, "/tenants/tenant2/a.jpg", &token, 403);
                expect(&proxy, path, &mint(JWT_SECRET, &claims()), 403);
            }
            "Tokens for `<img>` and `<video>`" => {
                let good = mint(JWT_SECRET, &claims_with("scope", "media"));
                let cookie = format!("media_token={good}");
                expect(&proxy, path, &good, 200);
                assert_eq!(proxy.get_with(path, &[("Cookie", &cookie)]).status, 200);
                assert_eq!(proxy.get(&format!("{path}?token={good}")).status, 200);
                expect(&proxy, path, &mint(JWT_SECRET, &claims()), 403);
                let bad = format!("Bearer {}", mint(OTHER_SECRET, &claims()));
                let both = [("Authorization", bad.as_str()), ("Cookie", &cookie)];
                assert_eq!(proxy.get_with(path, &both).status, 401, "the first present decides");
            }
            "Several issuers" => {
                let mut staff = claims_with("iss", config["jwt"]["providers"][0]["issuer"].clone());
                staff["aud"] = "files".into();
                let mut partner = claims_with("iss", "https://partner.example.net");
                partner["aud"] = "files".into();
                partner["scope"] = "read".into();
                let partner = keys.token("ES256", &partner.to_string());
                for (token, internal) in [
                    (of_fetched(&keys, &staff), 200),
                    (partner, 403),
                    (mint(JWT_SECRET, &claims()), 403),
                ] {
                    expect(&proxy, path, &token, 200);
                    expect(&proxy, "/internal/a", &token, internal);
                }
                expect(&proxy, path, &of_fetched(&others, &staff), 401);
            }
            title => {
                let mut claims = claims_with("iss", config["jwt"]["issuer"].clone());
                for (name, value) in claims_of(title).as_object().unwrap() {
                    claims[name] = value.clone();
                }
                expect(&proxy, path, &of_fetched(&keys, &claims), 200);
                expect(&proxy, path, &of_fetched(&others, &claims), 401);
                for name in claims_of(title).as_object().unwrap().keys() {
                    let mut without = claims.clone();
                    without.as_object_mut().unwrap().remove(name);
                    let status = if name == "aud" { 401 } else { 403 };
                    expect(&proxy, path, &of_fetched(&keys, &without), status);
                }
                claims["iss"] = "https://somebody.example".into();
                expect(&proxy, path, &of_fetched(&keys, &claims), 401);
            }
        }
        titles.push(title);
    }
    assert_eq!(titles.len(), 13, "{titles:?}");
}
