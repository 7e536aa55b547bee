//! Every recipe of `docs/AUTH.md`, as printed there: started, and tried with a right token and
//! with wrong ones.

use serde_json::{Value, json};

use crate::{
    auth::{OTHER_SECRET, ask, claims, claims_with, keys::KeySet},
    support::{
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

/// Directories that the recipes name; the test's own takes their place.
const DIRECTORIES: [&str; 3] = ["/run/secrets/", "/etc/yatagarasu/", "/var/lib/yatagarasu/"];

/// The recipe with an endpoint and a port that exist here, running.
fn start(yaml: &str, keys: &KeySet, origin: &ScriptedOrigin) -> Proxy {
    let launch = Launch::new();
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
    let mut config: Value = serde_yaml::from_str(&text).unwrap();
    config["server"] = json!({ "address": "127.0.0.1", "port": 0, "threads": 1 });
    for bucket in config["buckets"].as_array_mut().unwrap() {
        bucket["s3"]["endpoint"] = origin.url().into();
    }
    let proxy = launch.config_text(&config.to_string()).start();
    assert_eq!(proxy.metric("auth_enforced"), Some(1.0));
    proxy
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
    let mut titles = Vec::new();
    for (title, yaml) in recipes() {
        let proxy = start(&yaml, &keys, &origin);
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
            "JWKS" => {
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
            other => panic!("the recipe {other:?} is not tried"),
        }
        titles.push(title);
    }
    assert_eq!(titles.len(), 6, "{titles:?}");
}
