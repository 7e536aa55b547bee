//! No configuration exists in which leaving something out opens a bucket. Only
//! `jwt.enabled: false`, written out, does, and it says so everywhere.

use serde_json::{Value, json};

use crate::{
    auth::{OTHER_SECRET, ask, claims, logged},
    support::{
        config::Config,
        proxy::{Launch, Proxy, field},
        scripted_origin::ScriptedOrigin,
        token::{self, mint},
        waiting::wait_until,
    },
};

/// Everything that a section about authentication can hold.
fn full(origin: &ScriptedOrigin) -> Value {
    let config = Config::products(origin.url())
        .with_jwt(&["products"])
        .set(
            "jwt.keys",
            json!([{ "id": "next", "algorithm": "HS256", "secret": "the-next-secret-with-enough-characters" }]),
        )
        .set("jwt.issuer", "us")
        .set("jwt.audience", json!(["proxy"]))
        .set("jwt.leeway", 10)
        .set("jwt.require_exp", true)
        .set("jwt.token_sources", json!([{ "type": "bearer" }, { "type": "cookie", "name": "t" }]))
        .set("jwt.claims", json!([{ "claim": "role", "operator": "equals", "value": "user" }]))
        .set("jwt.admin_claims", json!([{ "claim": "role", "operator": "equals", "value": "admin" }]))
        .set("buckets.0.auth.claims", json!([{ "claim": "team", "operator": "exists" }]));
    serde_yaml::from_str(&config.to_yaml()).unwrap()
}

/// JSON pointers of every value at or below `pointer`.
fn pointers(value: &Value, pointer: &str, found: &mut Vec<String>) {
    found.push(pointer.to_owned());
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                pointers(value, &format!("{pointer}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                pointers(value, &format!("{pointer}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// The configuration without the value at `pointer`.
fn without(config: &Value, pointer: &str) -> Value {
    let mut config = config.clone();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match config.pointer_mut(parent).unwrap() {
        Value::Object(members) => drop(members.remove(name)),
        Value::Array(items) => drop(items.remove(name.parse().unwrap())),
        other => panic!("{pointer} lies in {other}"),
    }
    config
}

/// Claims that [`full`] lets in.
fn good_claims() -> Value {
    let mut claims = claims();
    for (name, value) in [("iss", json!("us")), ("aud", json!("proxy")), ("team", json!("red"))] {
        claims[name] = value;
    }
    claims
}

/// Tokens that are wrong in one thing each, and the optional key whose check that is.
fn wrong_tokens() -> Vec<(String, &'static str)> {
    let with = |name: &str, value: Value| {
        let mut claims = good_claims();
        claims[name] = value;
        mint(token::JWT_SECRET, &claims)
    };
    let mut no_team = good_claims();
    no_team.as_object_mut().unwrap().remove("team");
    vec![
        (with("iss", json!("them")), "/jwt/issuer"),
        (with("aud", json!(["others"])), "/jwt/audience"),
        (with("role", json!("guest")), "/jwt/claims"),
        (mint(token::JWT_SECRET, &no_team), "/buckets/0/auth/claims"),
        (with("exp", json!(token::unix_now() - 3_600)), "-"),
        (mint(OTHER_SECRET, &good_claims()), "-"),
    ]
}

/// Whether a mutant of this name is a file that does not ask for the check of a key: docs/CONFIG.md
/// says that null and, where a key need not be written, nothing in it are as if it were absent.
fn is_switched_off(key: &str, mutant: &str) -> bool {
    let absent = [
        format!("without {key}"),
        format!("without {key}/0"),
        format!("{key} is null"),
        format!("{key} is []"),
    ];
    absent.iter().any(|name| name == mutant)
        || mutant == "/jwt/issuer is \"\"" && key == "/jwt/issuer"
}

#[test]
fn nothing_that_is_left_out_or_emptied_opens_a_bucket() {
    let origin = ScriptedOrigin::serving("secret object");
    let config = full(&origin);
    let launch = Launch::new().config_text(&config.to_string());
    let proxy = launch.start();
    let mut places = Vec::new();
    pointers(&config["jwt"], "/jwt", &mut places);
    pointers(&config["buckets"][0]["auth"], "/buckets/0/auth", &mut places);
    let mut mutants = Vec::new();
    for place in &places {
        mutants.push((format!("without {place}"), without(&config, place)));
        for empty in [Value::Null, json!(""), json!({}), json!([]), json!("false"), json!(0)] {
            let mut mutant = config.clone();
            *mutant.pointer_mut(place).unwrap() = empty.clone();
            mutants.push((format!("{place} is {empty}"), mutant));
        }
    }
    for pair in [
        ["/jwt", "/buckets/0/auth"],
        ["/jwt", "/buckets/0/auth/enabled"],
        ["/jwt/secret", "/jwt/keys"],
    ] {
        mutants.push((format!("without {pair:?}"), without(&without(&config, pair[0]), pair[1])));
    }
    assert!(mutants.len() > 150, "{}", mutants.len());

    let wrong = wrong_tokens();
    let mut attempts = 0.0;
    let (mut refused, mut adopted) = (0, 0);
    let mut running = String::new();
    for (name, mutant) in mutants {
        let failures = proxy.metric("config_reload_failure_total");
        proxy.write_config_text(&mutant.to_string());
        proxy.signal("HUP");
        attempts += 1.0;
        wait_until(&name, || {
            proxy.metric_sum("config_reload_success_total")
                + proxy.metric_sum("config_reload_failure_total")
                >= attempts
        });
        if proxy.metric("config_reload_failure_total") == failures {
            adopted += 1;
            running.clone_from(&name);
        } else {
            refused += 1;
        }
        let bare = proxy.get("/products/x");
        assert_eq!(bare.status, 401, "{name}: {bare:?}");
        for (number, (token, key)) in wrong.iter().enumerate() {
            let status = ask(&proxy, "/admin/status", token).status;
            assert!([401, 403].contains(&status), "{name}: {status} for token {number}, admin");
            if !is_switched_off(key, &running) {
                let status = ask(&proxy, "/products/x", token).status;
                assert!(
                    [401, 403].contains(&status),
                    "{name}, running {running}: {status} for token {number}"
                );
            }
        }
        // Good for the bucket, but not an admin's.
        let status = ask(&proxy, "/admin/status", &mint(token::JWT_SECRET, &good_claims())).status;
        assert!([401, 403].contains(&status), "{name}: {status} for a user, admin");
        assert_eq!(proxy.metric("yatagarasu_auth_enforced"), Some(1.0), "{name}");
    }
    assert_eq!(origin.accepted(), 0, "nothing reached S3");
    // Both happen: optional keys may go, the others may not.
    assert!(refused > 80 && adopted > 20, "{refused} refused, {adopted} adopted");

    // The tokens are wrong in nothing else.
    proxy.write_config_text(&config.to_string());
    proxy.signal("HUP");
    wait_until("the good file", || {
        ask(&proxy, "/products/x", &mint(token::JWT_SECRET, &good_claims())).status == 200
    });
}

/// What `--validate` says about a file, and its exit code.
fn validate(text: &str) -> (Option<i32>, String) {
    let exited = Launch::new().config_text(text).arguments(&["--validate"]).run();
    (exited.code, exited.stdout + &exited.stderr)
}

#[test]
fn a_reload_does_not_take_a_file_that_forgets_about_tokens() {
    let origin = ScriptedOrigin::serving("secret object");
    let protected = Config::products(origin.url()).with_jwt(&["products"]);
    let public = Config::products(origin.url());
    let proxy = Proxy::start(&protected);
    let bearing = token::bearer(&token::for_role("admin"));
    let reload = || proxy.client().request("POST", "/admin/reload", &[("Authorization", &bearing)]);

    // A good file for a start; but nothing in it says that what was protected is public now.
    proxy.write_config(&public);
    let refused = reload();
    assert_eq!(refused.status, 400, "{refused:?}");
    let error = refused.json()["error"].as_str().unwrap().to_owned();
    assert!(error.contains("write jwt.enabled: false"), "{error}");
    proxy.get("/products/x").assert_fault(401, "missing_token");

    // In two written steps it may go.
    for config in [protected.set("jwt.enabled", false), public] {
        let before = proxy.metric("config_reload_success_total").unwrap();
        proxy.write_config(&config);
        proxy.signal("HUP");
        wait_until("the step", || {
            proxy.metric("config_reload_success_total") == Some(before + 1.0)
        });
        assert_eq!(proxy.metric("yatagarasu_auth_enforced"), Some(0.0));
    }
    assert_eq!(proxy.get("/products/x").text(), "secret object");
}

#[test]
fn a_start_is_refused_where_a_reload_is() {
    let origin = ScriptedOrigin::serving("secret object");
    let config = full(&origin);
    for (pointer, path) in [
        ("/jwt", "buckets[0].auth.enabled"),
        ("/buckets/0/auth", "buckets[0].auth"),
        ("/buckets/0/auth/enabled", "buckets[0].auth"),
    ] {
        let text = without(&config, pointer).to_string();
        let (code, output) = validate(&text);
        assert_eq!(code, Some(1), "{pointer}: {output}");
        assert!(output.contains(path), "{pointer}: {output}");
        let started = Launch::new().config_text(&text).run();
        assert_eq!(started.code, Some(1), "{pointer}");
        assert!(started.stderr.contains(path), "{pointer}: {}", started.stderr);
    }
    assert_eq!(validate(&config.to_string()).0, Some(0));
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn only_the_written_switch_opens_and_it_says_so() {
    let origin = ScriptedOrigin::serving("object");
    let config = Config::products(origin.url()).with_jwt(&["products"]);
    let proxy = Proxy::start(&config);
    assert_eq!(proxy.metric("yatagarasu_auth_enforced"), Some(1.0));
    proxy.get("/products/x").assert_fault(401, "missing_token");

    proxy.write_config(&config.clone().set("jwt.enabled", false));
    let admin = token::for_role("admin");
    let bearing = token::bearer(&admin);
    let response = proxy.client().request("POST", "/admin/reload", &[("Authorization", &bearing)]);
    assert_eq!(response.status, 200, "{response:?}");
    let report = response.json();
    assert!(report["warnings"].to_string().contains("jwt.enabled"), "{report}");
    assert_eq!(proxy.metric("yatagarasu_auth_enforced"), Some(0.0));
    let warned = |record: &Value| {
        field(record, "level").is_some_and(|level| level == "WARN")
            && record.to_string().contains("switched off")
    };
    wait_until("a warning in the log", || proxy.stderr().records().iter().any(warned));
    assert_eq!(proxy.get("/products/x").text(), "object");
    for (method, path) in [("GET", "/admin/status"), ("POST", "/admin/reload"), ("GET", "/admin/x")]
    {
        let closed = proxy.client().request(method, path, &[("Authorization", &bearing)]);
        closed.assert_fault(403, "admin_closed");
        assert_eq!(logged(&proxy, &closed)["auth_reason"], "admin_closed");
    }

    proxy.write_config(&config);
    proxy.signal("HUP");
    wait_until("the switch back", || proxy.metric("yatagarasu_auth_enforced") == Some(1.0));
    proxy.get("/products/x").assert_fault(401, "missing_token");
    assert_eq!(ask(&proxy, "/admin/status", &admin).status, 200);
}

#[test]
fn without_any_jwt_the_admin_api_is_closed() {
    let origin = ScriptedOrigin::serving("object");
    let proxy = Proxy::start(&Config::products(origin.url()));
    assert_eq!(proxy.metric("yatagarasu_auth_enforced"), Some(0.0));
    let admin = token::for_role("admin");
    for response in [proxy.get("/admin/status"), ask(&proxy, "/admin/status", &admin)] {
        response.assert_fault(403, "admin_closed");
    }
}
