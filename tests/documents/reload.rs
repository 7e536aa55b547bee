//! `docs/RELOAD.md` against the real binary: every key of its table is reloaded, and what the page
//! promises for it is what the report says. The files beside it name metrics that exist.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    page,
    support::{
        config::Config,
        proxy::Launch,
        raw_client::Client,
        s3_server::S3Server,
        tls_front::TlsFront,
        token::{self, bearer},
    },
};
use serde_json::{Value, json};
use yatagarasu::{
    app::Exit,
    config::{
        KEYS,
        keys::{Applies, Kind},
    },
    telemetry::definitions,
};

/// The keys of the page's table, with the word that the page has for each.
fn documented() -> BTreeMap<String, String> {
    let page = page("docs/RELOAD.md");
    let section = page.split("## What is hot and what is not").nth(1).expect("the section");
    let section = section.split("\n## ").next().unwrap();
    let mut keys = BTreeMap::new();
    for row in section.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        for key in cells[1].split('`').filter(|part| !part.trim().is_empty()) {
            let before = keys.insert(key.to_owned(), cells[2].to_owned());
            assert_eq!(before, None, "{key} stands twice");
        }
    }
    keys
}

#[test]
fn the_table_has_every_key_with_the_word_of_the_program() {
    let expected: BTreeMap<String, String> = KEYS
        .iter()
        .filter(|key| !matches!(key.kind, Kind::Section(_)))
        .map(|key| {
            let word = match key.applies {
                Applies::Hot => "hot",
                Applies::Restart => "restart",
            };
            (key.path.clone(), word.to_owned())
        })
        .collect();
    assert_eq!(documented(), expected);
}

/// Values by the path at which they are set.
type Setting = (&'static str, Value);

/// A change of one key: the values that must be there before, and the new ones.
struct Change {
    before: Vec<Setting>,
    after: Vec<Setting>,
}

impl Change {
    /// With another value after it.
    fn and(mut self, path: &'static str, value: impl Into<Value>) -> Self {
        self.after.push((path, value.into()));
        self
    }
}

fn simple(path: &'static str, value: impl Into<Value>) -> Change {
    Change { before: vec![], after: vec![(path, value.into())] }
}

fn from_to(path: &'static str, before: Value, after: Value) -> Change {
    Change { before: vec![(path, before)], after: vec![(path, after)] }
}

fn pair(chain: &str, key: &str) -> Value {
    json!({ "cert_file": format!("{chain}.pem"), "key_file": format!("{key}.key") })
}

/// The section with its least keys and one more.
fn tls_with(key: &str, value: impl Into<Value>) -> Value {
    let mut section = json!({ "port": 0, "certificates": [pair("site", "site")] });
    section[key] = value.into();
    section
}

/// A change of one key of `server.tls`.
fn tls(key: &'static str, value: impl Into<Value>) -> Change {
    from_to("server.tls", tls_with("port", 0), tls_with(key, value))
}

/// A change of one key of `buckets[].cors`.
fn cors(key: &'static str, value: impl Into<Value>) -> Change {
    let before = json!({ "origins": ["https://a.example"] });
    let mut after = before.clone();
    after[key] = value.into();
    from_to("buckets.0.cors", before, after)
}

fn rules(claim: &str, operator: &str, value: &str) -> Value {
    json!([{ "claim": claim, "operator": operator, "value": value }])
}

fn sources(source: &Value) -> Value {
    json!([{ "type": "bearer" }, source])
}

/// Another value for each key.
fn change(key: &str) -> Change {
    const SECRET: &str = "another-secret-of-more-than-enough-characters";
    let keys = |key: Value| json!([key]);
    match key {
        "server.address" => simple("server.address", "127.0.0.2"),
        "server.port" => simple("server.port", 1),
        "server.threads" => simple("server.threads", 1),
        "server.max_connections" => simple("server.max_connections", 77),
        "server.io" => simple("server.io", "epoll"),
        "server.proxy_protocol" => simple("server.proxy_protocol", "require"),
        "admin.listen" => simple("admin.listen", "127.0.0.1:1"),
        "server.limits.header_bytes" => simple("server.limits.header_bytes", 20_000),
        "server.limits.uri_bytes" => simple("server.limits.uri_bytes", 4_096),
        "server.limits.headers" => simple("server.limits.headers", 50),
        "server.limits.body_bytes" => simple("server.limits.body_bytes", 5),
        "server.timeouts.client_header" => simple("server.timeouts.client_header", 3),
        "server.timeouts.client_idle" => simple("server.timeouts.client_idle", 3),
        "server.timeouts.client_write" => simple("server.timeouts.client_write", 3),
        "server.timeouts.drain_delay" => simple("server.timeouts.drain_delay", 3),
        "server.timeouts.drain_idle" => simple("server.timeouts.drain_idle", 3),
        "server.timeouts.drain" => simple("server.timeouts.drain", 3),
        "server.expose_generation" => simple("server.expose_generation", true),
        "server.http2.enabled" => simple("server.http2.enabled", false),
        "server.http2.cleartext" => simple("server.http2.cleartext", true),
        "server.http2.max_concurrent_streams" => simple("server.http2.max_concurrent_streams", 7),
        "server.trusted_proxies" => simple("server.trusted_proxies", json!(["10.0.0.0/8"])),
        "server.client_address_header" => simple("server.client_address_header", "forwarded"),
        "server.headers.set" => simple("server.headers.set", json!({ "X-A": "b" })),
        "server.headers.add" => simple("server.headers.add", json!({ "X-A": "b" })),
        "server.headers.remove" => simple("server.headers.remove", json!(["X-A"])),
        "server.tls.port" => tls("port", 8443),
        "server.tls.certificates" => {
            tls("certificates", json!([pair("site", "site"), pair("other", "other")]))
        }
        "server.tls.certificates[].cert_file" => tls("certificates", json!([pair("copy", "site")])),
        "server.tls.certificates[].key_file" => tls("certificates", json!([pair("site", "copy")])),
        "server.tls.min_version" => tls("min_version", "1.3"),
        "server.tls.client_ca_file" => tls("client_ca_file", "ca.pem"),
        "server.tls.ticket_keys_file" => tls("ticket_keys_file", "ticket-keys"),
        "server.tls.plain" => tls("plain", "refuse"),
        "server.tls.redirect_port" => Change {
            before: vec![("server.tls", tls_with("plain", "redirect"))],
            after: vec![("server.tls.redirect_port", 443.into())],
        },
        "include" => simple("include", "more-*.yaml"),
        "buckets" => simple("buckets.1", Value::Null),
        "buckets[].name" => simple("buckets.0.name", "renamed"),
        "buckets[].path_prefix" => simple("buckets.0.path_prefix", "/elsewhere"),
        "buckets[].s3.bucket" => simple("buckets.0.s3.bucket", "another"),
        "buckets[].s3.region" => simple("buckets.0.s3.region", "eu-west-1"),
        "buckets[].s3.key_prefix" => simple("buckets.0.s3.key_prefix", "below/"),
        "buckets[].s3.addressing" => simple("buckets.0.s3.addressing", "virtual"),
        "buckets[].s3.endpoint" => simple("buckets.0.s3.endpoint", "http://127.0.0.1:9"),
        "buckets[].s3.ca_file" => simple("buckets.0.s3.ca_file", "ca.pem"),
        "buckets[].s3.access_key" => simple("buckets.0.s3.access_key", "AKIDOTHER"),
        "buckets[].s3.secret_key" => simple("buckets.0.s3.secret_key", "another secret key"),
        "buckets[].s3.session_token" => simple("buckets.0.s3.session_token", "a-token"),
        "buckets[].s3.access_key_file" => Change {
            before: vec![],
            after: vec![
                ("buckets.0.s3.access_key", Value::Null),
                ("buckets.0.s3.access_key_file", "text".into()),
            ],
        },
        "buckets[].s3.secret_key_file" => Change {
            before: vec![],
            after: vec![
                ("buckets.0.s3.secret_key", Value::Null),
                ("buckets.0.s3.secret_key_file", "text".into()),
            ],
        },
        "buckets[].s3.session_token_file" => simple("buckets.0.s3.session_token_file", "text"),
        "buckets[].s3.credentials" => Change {
            before: vec![],
            after: vec![
                ("credentials", json!([{ "name": "prod", "source": "env" }])),
                ("buckets.0.s3.access_key", Value::Null),
                ("buckets.0.s3.secret_key", Value::Null),
                ("buckets.0.s3.credentials", "prod".into()),
            ],
        },
        "buckets[].s3.anonymous" => Change {
            before: vec![],
            after: vec![
                ("buckets.0.s3.access_key", Value::Null),
                ("buckets.0.s3.secret_key", Value::Null),
                ("buckets.0.s3.anonymous", true.into()),
            ],
        },
        "buckets[].s3.timeouts.connect" => simple("buckets.0.s3.timeouts.connect", 3),
        "buckets[].s3.timeouts.first_byte" => simple("buckets.0.s3.timeouts.first_byte", 3),
        "buckets[].s3.timeouts.read" => simple("buckets.0.s3.timeouts.read", 3),
        "buckets[].s3.max_idle_connections" => simple("buckets.0.s3.max_idle_connections", 3),
        "buckets[].s3.max_connection_age" => simple("buckets.0.s3.max_connection_age", 3),
        "buckets[].s3.verify" => simple("buckets.0.s3.verify", "warn"),
        "buckets[].hosts" => simple("buckets.0.hosts", json!(["a.example"])),
        "buckets[].allow_query" => simple("buckets.0.allow_query", json!(["versionId"])),
        "buckets[].cors.origins" => cors("origins", json!(["https://b.example"])),
        "buckets[].cors.methods" => cors("methods", json!(["GET"])),
        "buckets[].cors.headers" => cors("headers", json!(["Authorization"])),
        "buckets[].cors.expose" => cors("expose", json!(["ETag"])),
        "buckets[].cors.max_age" => cors("max_age", 3),
        "buckets[].cors.credentials" => cors("credentials", true),
        "buckets[].headers.set" => simple("buckets.0.headers.set", json!({ "X-A": "b" })),
        "buckets[].headers.add" => simple("buckets.0.headers.add", json!({ "X-A": "b" })),
        "buckets[].headers.remove" => simple("buckets.0.headers.remove", json!(["X-A"])),
        "buckets[].hide_s3" => simple("buckets.0.hide_s3", true),
        "buckets[].compress.types" => simple("buckets.0.compress.types", json!(["text/html"])),
        "buckets[].compress.min_bytes" => simple("buckets.0.compress.min_bytes", 3),
        "buckets[].compress.algorithms" => simple("buckets.0.compress.algorithms", json!(["gzip"])),
        "buckets[].listing.enabled" => simple("buckets.0.listing.enabled", true),
        "buckets[].listing.formats" => simple("buckets.0.listing.formats", json!(["s3"])),
        "buckets[].auth.enabled" => simple("buckets.0.auth.enabled", true),
        "buckets[].auth.claims" => simple("buckets.0.auth.claims", rules("a", "equals", "b")),
        "buckets[].auth.providers" => simple("buckets.0.auth.providers", json!(["jwt"])),
        "jwt.enabled" => simple("jwt.enabled", false),
        "jwt.algorithm" => simple("jwt.algorithm", "HS512"),
        "jwt.secret" => simple("jwt.secret", SECRET),
        "jwt.secret_file" => Change {
            before: vec![],
            after: vec![("jwt.secret", Value::Null), ("jwt.secret_file", "text".into())],
        },
        "jwt.public_key_file" => Change {
            before: vec![],
            after: vec![
                ("jwt.secret", Value::Null),
                ("jwt.algorithm", "ES256".into()),
                ("jwt.public_key_file", "public.pem".into()),
            ],
        },
        "jwt.keys" => simple("jwt.keys", keys(json!({ "secret": SECRET }))),
        "jwt.keys[].id" => from_to(
            "jwt.keys",
            keys(json!({ "id": "a", "secret": SECRET })),
            keys(json!({ "id": "b", "secret": SECRET })),
        ),
        "jwt.keys[].algorithm" => from_to(
            "jwt.keys",
            keys(json!({ "algorithm": "HS256", "secret": SECRET })),
            keys(json!({ "algorithm": "HS384", "secret": SECRET })),
        ),
        "buckets[].index" => simple("buckets.0.index", "index.html"),
        "buckets[].redirect_directories" => {
            from_to("buckets.0.index", "index.html".into(), "index.html".into())
                .and("buckets.0.redirect_directories", true)
        }
        "buckets[].missing" => {
            from_to("buckets.0.spa", "a".into(), "a".into()).and("buckets.0.missing", json!([403]))
        }
        "buckets[].spa" => simple("buckets.0.spa", "app.html"),
        "buckets[].error_pages" => simple("buckets.0.error_pages", json!({ "404": "/404.html" })),
        "jwt.keys[].secret" => from_to(
            "jwt.keys",
            keys(json!({ "secret": SECRET })),
            keys(json!({ "secret": format!("{SECRET}-2") })),
        ),
        "jwt.keys[].secret_file" => from_to(
            "jwt.keys",
            keys(json!({ "secret": SECRET })),
            keys(json!({ "secret_file": "text" })),
        ),
        "jwt.keys[].public_key_file" => from_to(
            "jwt.keys",
            keys(json!({ "algorithm": "ES256", "public_key_file": "public.pem" })),
            keys(json!({ "algorithm": "ES256", "public_key_file": "public-2.pem" })),
        ),
        "jwt.jwks_file" => simple("jwt.jwks_file", "jwks.json"),
        "jwt.jwks_url" => simple("jwt.jwks_url", "http://127.0.0.1:9/keys"),
        "jwt.discovery" => Change {
            before: vec![],
            after: vec![
                ("jwt.issuer", "http://127.0.0.1:9".into()),
                ("jwt.discovery", true.into()),
            ],
        },
        "jwt.jwks.refresh" => simple("jwt.jwks.refresh", 60),
        "jwt.jwks.max_stale" => simple("jwt.jwks.max_stale", 60),
        "jwt.jwks.ca_file" => simple("jwt.jwks.ca_file", "ca.pem"),
        "jwt.algorithms" => simple("jwt.algorithms", json!(["RS256"])),
        "jwt.providers" => simple("jwt.providers", json!([provider(&[])])),
        "jwt.admin_providers" => simple("jwt.admin_providers", json!(["jwt"])),
        "jwt.issuer" => simple("jwt.issuer", "somebody"),
        "jwt.audience" => simple("jwt.audience", json!(["somebody"])),
        "jwt.leeway" => simple("jwt.leeway", 3),
        "jwt.require_exp" => simple("jwt.require_exp", false),
        "jwt.token_sources" => {
            simple("jwt.token_sources", sources(&json!({ "type": "cookie", "name": "t" })))
        }
        "jwt.token_sources[].type" => from_to(
            "jwt.token_sources",
            sources(&json!({ "type": "query", "name": "t" })),
            sources(&json!({ "type": "cookie", "name": "t" })),
        ),
        "jwt.token_sources[].name" => from_to(
            "jwt.token_sources",
            sources(&json!({ "type": "cookie", "name": "t" })),
            sources(&json!({ "type": "cookie", "name": "u" })),
        ),
        "jwt.token_sources[].prefix" => from_to(
            "jwt.token_sources",
            sources(&json!({ "type": "header", "name": "x-token", "prefix": "a" })),
            sources(&json!({ "type": "header", "name": "x-token", "prefix": "b" })),
        ),
        "jwt.claims" => simple("jwt.claims", rules("a", "equals", "b")),
        "jwt.admin_claims" => simple("jwt.admin_claims", rules("a", "equals", "b")),
        "admin.reload_timeout" => simple("admin.reload_timeout", 3),
        "metrics.enabled" => simple("metrics.enabled", false),
        "metrics.per_bucket" => simple("metrics.per_bucket", false),
        "logging.level" => simple("logging.level", "debug"),
        "logging.access_log.enabled" => simple("logging.access_log.enabled", false),
        "logging.access_log.path" => simple("logging.access_log.path", "access.log"),
        "logging.access_log.format" => simple("logging.access_log.format", "logfmt"),
        "logging.access_log.fields" => simple("logging.access_log.fields", json!(["host"])),
        "logging.access_log.template" => from_to(
            "logging.access_log",
            json!({ "format": "template", "template": "{path}" }),
            json!({ "format": "template", "template": "{status}" }),
        ),
        "logging.access_log.skip" => simple("logging.access_log.skip", json!(["health"])),
        "logging.access_log.sample" => simple("logging.access_log.sample", 0.5),
        "reload.watch" => simple("reload.watch", true),
        _ if key.starts_with("credentials") => source_change(key),
        key => match key.strip_prefix("jwt.providers[].") {
            Some(part) => provider_change(part),
            None => claim_change(key),
        },
    }
}

/// A provider with a key, and these values.
fn provider(values: &[(&str, Value)]) -> Value {
    let secret = "a-secret-of-a-provider-with-enough-characters";
    let mut provider = json!({ "name": "p", "issuer": "https://p.example", "audience": ["a"],
        "keys": [{ "id": "a", "secret": secret }] });
    for (name, value) in values {
        provider[name] = value.clone();
    }
    provider
}

/// Changes inside a provider.
fn provider_change(part: &str) -> Change {
    const SECRET: &str = "another-secret-of-more-than-enough-characters";
    let key = |value: Value| ("keys", json!([value]));
    let rule = |claim: &str, operator: &str, value: &str| ("claims", rules(claim, operator, value));
    let (before, after) = match part {
        "name" => (vec![], vec![("name", "q".into())]),
        "issuer" => (vec![], vec![("issuer", "https://q.example".into())]),
        "audience" => (vec![], vec![("audience", json!(["b"]))]),
        "keys" => (vec![], vec![("keys", json!([{ "secret": SECRET }, { "secret": SECRET }]))]),
        "keys[].id" => (
            vec![key(json!({ "id": "a", "secret": SECRET }))],
            vec![key(json!({ "id": "b", "secret": SECRET }))],
        ),
        "keys[].algorithm" => (
            vec![key(json!({ "algorithm": "HS256", "secret": SECRET }))],
            vec![key(json!({ "algorithm": "HS384", "secret": SECRET }))],
        ),
        "keys[].secret" => (vec![], vec![key(json!({ "id": "a", "secret": SECRET }))]),
        "keys[].secret_file" => (vec![], vec![key(json!({ "id": "a", "secret_file": "text" }))]),
        "keys[].public_key_file" => (
            vec![key(json!({ "algorithm": "ES256", "public_key_file": "public.pem" }))],
            vec![key(json!({ "algorithm": "ES256", "public_key_file": "public-2.pem" }))],
        ),
        "jwks_file" => (vec![], vec![("jwks_file", "jwks.json".into())]),
        "jwks_url" => (vec![], vec![("jwks_url", "http://127.0.0.1:9/keys".into())]),
        "discovery" => {
            let issuer = ("issuer", Value::from("http://127.0.0.1:9"));
            (vec![issuer.clone()], vec![issuer, ("discovery", true.into())])
        }
        "algorithms" => (vec![], vec![("algorithms", json!(["RS256"]))]),
        "claims" => (vec![], vec![rule("a", "equals", "b")]),
        "claims[].claim" => (vec![rule("a", "equals", "b")], vec![rule("c", "equals", "b")]),
        "claims[].operator" => (vec![rule("a", "equals", "b")], vec![rule("a", "not_equals", "b")]),
        "claims[].value" => (vec![rule("a", "equals", "b")], vec![rule("a", "equals", "c")]),
        _ => panic!("no change for {part}"),
    };
    from_to("jwt.providers", json!([provider(&before)]), json!([provider(&after)]))
}

/// Changes of a source of credentials that no bucket uses.
fn source_change(key: &str) -> Change {
    let sources = |source: Value| json!([source]);
    let role = |part: &str, value: Value| {
        let mut role = json!({ "role_arn": "arn:aws:iam::123456789012:role/a" });
        role[part] = value;
        json!([{ "name": "prod", "assume_role": role }])
    };
    let (before, after) = match key {
        "credentials" => (json!([]), sources(json!({ "name": "prod" }))),
        "credentials[].name" => {
            (sources(json!({ "name": "prod" })), sources(json!({ "name": "other" })))
        }
        "credentials[].source" => (
            sources(json!({ "name": "prod", "source": "env" })),
            sources(json!({ "name": "prod", "source": "imds" })),
        ),
        "credentials[].profile" => (
            sources(json!({ "name": "prod", "profile": "a" })),
            sources(json!({ "name": "prod", "profile": "b" })),
        ),
        "credentials[].endpoint" => (
            sources(json!({ "name": "prod", "source": "imds", "endpoint": "http://a:1" })),
            sources(json!({ "name": "prod", "source": "imds", "endpoint": "http://b:1" })),
        ),
        _ => {
            let part = key.strip_prefix("credentials[].assume_role.").unwrap();
            let (before, after) = match part {
                "role_arn" => (json!("arn:aws:iam::1:role/a"), json!("arn:aws:iam::1:role/b")),
                "duration" => (json!(900), json!(1_800)),
                "sts_endpoint" => (json!("http://a:1"), json!("http://b:1")),
                "external_id" | "session_name" | "region" => (json!("one"), json!("two")),
                _ => panic!("no change for {key}"),
            };
            (role(part, before), role(part, after))
        }
    };
    from_to("credentials", before, after)
}

/// Changes inside a claim rule; what stands before fits the operator's token.
fn claim_change(key: &str) -> Change {
    let (list, part) = key.rsplit_once("[].").unwrap_or_else(|| panic!("no change for {key}"));
    let path = match list {
        "buckets[].auth.claims" => "buckets.0.auth.claims",
        "jwt.claims" => "jwt.claims",
        "jwt.admin_claims" => "jwt.admin_claims",
        _ => panic!("no change for {key}"),
    };
    let after = match part {
        "claim" => rules("sub", "equals", "admin"),
        "operator" => rules("role", "not_equals", "admin"),
        "value" => rules("role", "equals", "somebody"),
        _ => panic!("no change for {key}"),
    };
    from_to(path, rules("role", "equals", "admin"), after)
}

/// Name of a key in the report; none where it names a whole that the key is a part of.
fn name_in_report(key: &str) -> Option<String> {
    let is_part = (key.ends_with("_file") && !key.starts_with("server.tls."))
        || key.matches("[]").count() > 1;
    let in_list =
        ["jwt.keys", "jwt.providers", "jwt.token_sources[]", "jwt.claims[]", "jwt.admin_claims[]"];
    if is_part || in_list.iter().any(|list| key.starts_with(list)) {
        return None;
    }
    let key = &*key.replace("server.tls.certificates[]", "server.tls.certificates[0]");
    match key {
        "server.tls.certificates" => Some("server.tls.certificates[1]".to_owned()),
        "include" | "buckets" | "buckets[].name" | "credentials" | "credentials[].name"
        | "jwt.algorithm" | "jwt.secret" => None,
        _ => {
            let key = key.replace("buckets[]", "buckets[products]");
            Some(key.replace("credentials[]", "credentials[prod]"))
        }
    }
}

fn with(config: &Config, settings: &[Setting]) -> Config {
    settings.iter().fold(config.clone(), |config, (path, value)| match *path {
        // A bucket more.
        "buckets.1" => config.bucket("more", "http://127.0.0.1:9").with_jwt(&[]),
        path => config.set(path, value.clone()),
    })
}

#[test]
fn every_key_of_the_table_is_what_the_table_says() {
    let s3 = S3Server::start(&[("AKIDX", "a secret")]);
    let front = TlsFront::start(s3.address());
    let identity = || rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
    let (site, other) = (identity(), identity());
    let pem = || rcgen::KeyPair::generate().unwrap().public_key_pem();
    let jwks = json!({ "keys": [{ "kty": "oct", "alg": "HS256", "kid": "k",
        "k": "YW5vdGhlci1zZWNyZXQtb2YtbW9yZS10aGFuLWVub3VnaC1jaGFyYWN0ZXJz" }] });
    let base = Config::products("http://localhost:9").with_jwt(&[]).set("server.threads", 2);
    let admin = bearer(&token::for_role("admin"));
    for (key, word) in documented() {
        let Change { before, after } = change(&key);
        let launch = Launch::new();
        launch.write(
            "more-1.yaml",
            "buckets: [{ name: a, path_prefix: /a, auth: { enabled: false }, \
             s3: { bucket: abc, region: r, anonymous: true } }]",
        );
        launch.write("text", "the-content-of-a-file-with-a-secret-in-it");
        launch.write("ca.pem", front.ca_pem());
        launch.write("public.pem", &pem());
        launch.write("public-2.pem", &pem());
        launch.write("jwks.json", &jwks.to_string());
        launch.write("ticket-keys", &page("tests/tls/ticket-keys"));
        for (name, chain) in [("site", &site), ("copy", &site), ("other", &other)] {
            launch.write(&format!("{name}.pem"), &chain.cert.pem());
            launch.write(&format!("{name}.key"), &chain.signing_key.serialize_pem());
        }
        let first = with(&base, &before);
        let proxy = launch.config(&first).start();
        proxy.write_config(&with(&first, &after));
        let response = Client::connect(proxy.address()).request(
            "POST",
            "/admin/reload",
            &[("Authorization", &admin)],
        );
        assert_eq!(response.status, 200, "{key}: {response:?}");
        let report = response.json();
        let list = |name: &str| -> BTreeSet<String> {
            let items = report[name].as_array().unwrap();
            items.iter().map(|item| item.as_str().unwrap().to_owned()).collect()
        };
        let (applied, waiting) = (list("applied"), list("restart_required"));
        if word == "restart" {
            assert_eq!(report["changed"], false, "{key}: {report}");
            assert_eq!(report["config_generation"], 1, "{key}: {report}");
            assert!(applied.is_empty(), "{key}: {report}");
            let named = format!("{key}: running ");
            assert!(waiting.iter().any(|line| line.starts_with(&named)), "{key}: {report}");
            continue;
        }
        assert_eq!(word, "hot", "{key}");
        assert_eq!(report["changed"], true, "{key}: {report}");
        assert_eq!(report["config_generation"], 2, "{key}: {report}");
        assert_eq!(report["workers"], 2, "{key}: {report}");
        assert!(waiting.is_empty(), "{key}: {report}");
        assert!(!applied.is_empty(), "{key}: {report}");
        if let Some(name) = name_in_report(&key) {
            assert!(applied.contains(&name), "{key}: {report}");
        }
        assert!(!report.to_string().contains("content-of-a-file"), "{key}: {report}");
    }
}

#[test]
fn alerts_and_dashboard_name_metrics_that_exist() {
    let known: BTreeSet<&str> = definitions::ALL.iter().map(|metric| metric.name).collect();
    let families = ["config_", "http_", "auth_", "jwt_", "upstream_", "process_", "yatagarasu_"];
    let alerts = ["reload", "traffic", "credentials", "jwks", "tls"];
    let alerts = alerts.map(|name| format!("alerts/{name}.yaml"));
    for name in
        alerts.into_iter().chain(["grafana/reload.json", "grafana/traffic.json"].map(str::to_owned))
    {
        let text = page(&format!("docs/{name}"));
        // JSON is YAML too.
        let _: Value = serde_yaml::from_str(&text).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let mut found = 0;
        for word in words.filter(|word| families.iter().any(|family| word.starts_with(family))) {
            let metric = word.strip_suffix("_bucket").unwrap_or(word);
            assert!(known.contains(metric), "{name}: {word} is no metric");
            found += 1;
        }
        assert!(found > 3, "{name} names no metric");
    }
    for metric in known.iter().filter(|metric| metric.starts_with("config_")) {
        assert!(
            page("docs/grafana/reload.json").contains(metric) || *metric == "config_generation"
        );
    }
}

/// Values of a key of a unit, in their order.
fn values<'a>(unit: &'a str, key: &str) -> Vec<&'a str> {
    unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('=')).collect()
}

#[test]
fn the_unit_says_what_the_program_can_do() {
    let unit = page("docs/deploy/systemd/yatagarasu.service");
    // Older versions than 253 refuse a unit with another type.
    assert_eq!(values(&unit, "Type"), ["notify"]);
    assert_eq!(values(&unit, "NotifyAccess"), ["exec"]);
    let mut commands = values(&unit, "ExecStart");
    let reload = values(&unit, "ExecReload");
    commands.extend(&reload[..1]);
    assert!(reload[0].ends_with(" --validate"), "{reload:?}");
    // In this order: else the reload ends before the process has said that it begins.
    assert_eq!(
        reload[1..],
        ["/usr/bin/systemd-notify RELOADING=1", "/bin/sh -c 'kill -HUP $MAINPID'"]
    );
    for command in commands {
        let words = command.split(' ').map(Into::into);
        assert!(yatagarasu::cli::parse(words).is_ok(), "{command}");
    }
    let refusals = [Exit::Refused, Exit::Usage].map(|exit| exit.code().to_string()).join(" ");
    assert_eq!(values(&unit, "RestartPreventExitStatus"), [refusals]);

    let with_credentials = page("docs/deploy/systemd/credentials.conf");
    let theirs = values(&with_credentials, "ExecReload");
    assert_eq!((theirs[0], &theirs[2..]), ("", &reload[1..]));
    assert!(theirs[1].ends_with(reload[0]), "{}", theirs[1]);

    let newer = page("docs/deploy/systemd/notify-reload.conf");
    assert_eq!(values(&newer, "Type"), ["notify-reload"]);
    assert_eq!(values(&newer, "ExecReload"), [""]);
}
