//! Tokens whose signature is good: what their times, names, key ids and claims decide.

use std::time::Duration;

use serde_json::{Value, json};
use yatagarasu::policy::auth::{BucketAuth, DenialReason, spec::ClaimSpec};

use crate::{
    Table, good, good_with,
    head::{NOW, policy},
    keys::KeySet,
    ours, policy_of, spec,
};

#[test]
fn times_are_numbers_in_range() {
    let mut table = Table::new(policy_of("HS256"));
    for name in ["exp", "nbf", "iat"] {
        for value in [
            json!("1800000000"),
            json!(""),
            json!(null),
            json!(true),
            json!(false),
            json!([1_800_000_000]),
            json!({}),
            json!(-1),
            json!(-1.5),
            json!(i64::MIN),
            json!(253_402_300_800_u64),
            json!(i64::MAX),
            json!(u64::MAX),
            json!(1e19),
            json!(1e308),
        ] {
            let token = ours().token("HS256", &good_with(name, value.clone()));
            table.refused(format!("{name} {value}"), &token, DenialReason::BadTime);
        }
    }
    for (claims, expected) in [
        (json!({}), Err(DenialReason::MissingExpiry)),
        (json!({"EXP": NOW + 600}), Err(DenialReason::MissingExpiry)),
        (json!({"nbf": 0, "iat": 0}), Err(DenialReason::MissingExpiry)),
        (json!({"exp": 0}), Err(DenialReason::Expired)),
        (json!({"exp": NOW - 61}), Err(DenialReason::Expired)),
        (json!({"exp": NOW - 60}), Err(DenialReason::Expired)),
        (json!({"exp": NOW - 59}), Ok(())),
        (json!({"exp": NOW}), Ok(())),
        (json!({"exp": 253_402_300_799_u64}), Ok(())),
        (json!({"exp": 1_700_000_000.5}), Ok(())),
        (json!({"exp": 1_699_999_940.5}), Err(DenialReason::Expired)),
        (json!({"exp": 1_699_999_941.0}), Ok(())),
        (json!({"exp": 1.8e9}), Ok(())),
        (json!({"exp": NOW + 600, "nbf": NOW + 60}), Ok(())),
        (json!({"exp": NOW + 600, "nbf": NOW + 61}), Err(DenialReason::NotYetValid)),
        (json!({"exp": NOW + 600, "nbf": 1_700_000_060.1}), Err(DenialReason::NotYetValid)),
        (json!({"exp": NOW + 600, "iat": NOW + 60}), Ok(())),
        (json!({"exp": NOW + 600, "iat": NOW + 61}), Err(DenialReason::NotYetValid)),
        (json!({"exp": NOW + 600, "iat": 0, "nbf": 0}), Ok(())),
        (json!({"exp": NOW - 600, "nbf": NOW + 600}), Err(DenialReason::Expired)),
    ] {
        let token = ours().token("HS256", &claims.to_string());
        table.case(claims.to_string(), &token, expected);
    }
    assert_eq!(table.cases, 65);

    let mut exact = spec(vec![ours().spec("HS256", None)]);
    exact.leeway = Duration::ZERO;
    exact.require_exp = false;
    let mut table = Table::new(policy(&exact));
    let mut case = |claims: Value, expected| {
        table.case(claims.to_string(), &ours().token("HS256", &claims.to_string()), expected);
    };
    case(json!({}), Ok(()));
    case(json!({"exp": NOW}), Err(DenialReason::Expired));
    case(json!({"exp": NOW + 1}), Ok(()));
    case(json!({"exp": null}), Err(DenialReason::BadTime));
    case(json!({"nbf": NOW}), Ok(()));
    case(json!({"nbf": NOW + 1}), Err(DenialReason::NotYetValid));
}

#[test]
fn issuer_and_audience_are_exact() {
    let mut who = spec(vec![ours().spec("HS256", None)]);
    who.issuer = Some("https://id.example.com/".to_owned());
    who.audience = vec!["files".to_owned(), "images".to_owned()];
    let mut table = Table::new(policy(&who));
    let issuer = "https://id.example.com/";
    for (iss, aud, expected) in [
        (json!(issuer), json!("files"), Ok(())),
        (json!(issuer), json!("images"), Ok(())),
        (json!(issuer), json!(["other", "files"]), Ok(())),
        (json!(issuer), json!(["files"]), Ok(())),
        (json!("https://id.example.com"), json!("files"), Err(DenialReason::BadIssuer)),
        (json!("https://id.example.com/x"), json!("files"), Err(DenialReason::BadIssuer)),
        (json!("HTTPS://id.example.com/"), json!("files"), Err(DenialReason::BadIssuer)),
        (json!([issuer]), json!("files"), Err(DenialReason::BadIssuer)),
        (json!(null), json!("files"), Err(DenialReason::BadIssuer)),
        (json!(issuer), json!("Files"), Err(DenialReason::BadAudience)),
        (json!(issuer), json!("files "), Err(DenialReason::BadAudience)),
        (json!(issuer), json!("files,images"), Err(DenialReason::BadAudience)),
        (json!(issuer), json!([]), Err(DenialReason::BadAudience)),
        (json!(issuer), json!(["other"]), Err(DenialReason::BadAudience)),
        (json!(issuer), json!(["files", 1]), Err(DenialReason::BadAudience)),
        (json!(issuer), json!([["files"]]), Err(DenialReason::BadAudience)),
        (json!(issuer), json!({"files": true}), Err(DenialReason::BadAudience)),
        (json!(issuer), json!(null), Err(DenialReason::BadAudience)),
    ] {
        let mut claims = good();
        claims["iss"] = iss;
        claims["aud"] = aud;
        let text = claims.to_string();
        table.case(&text, &ours().token("HS256", &text), expected);
    }
    let token = ours().token("HS256", &good().to_string());
    table.refused("neither", &token, DenialReason::BadIssuer);
    let token = ours().token("HS256", &good_with("iss", json!(issuer)));
    table.refused("no audience", &token, DenialReason::BadAudience);
}

#[test]
fn a_kid_binds_to_its_key_and_to_nothing_else() {
    let old = KeySet::generate("old");
    let new = KeySet::generate("new");
    let mut table = Table::new(policy(&spec(vec![
        ours().spec("HS256", None),
        old.spec("HS256", Some("2023")),
        new.spec("ES256", Some("2024")),
    ])));
    let kid = |keys: &KeySet, algorithm: &str, id: &str| {
        let header = json!({"alg": algorithm, "kid": id}).to_string();
        keys.token_with(algorithm, &header, &good().to_string())
    };
    table.permitted("old", &kid(&old, "HS256", "2023"));
    table.permitted("new", &kid(&new, "ES256", "2024"));
    table.permitted("no kid", &ours().token("HS256", &good().to_string()));
    table.permitted("unknown kid falls to the key without id", &kid(ours(), "HS256", "2025"));
    table.refused("kid of another key", &kid(&old, "HS256", "2024"), DenialReason::BadAlgorithm);
    table.refused("kid of a key", &kid(ours(), "HS256", "2023"), DenialReason::BadSignature);
    let without = old.token("HS256", &good().to_string());
    table.refused("a key with id needs its kid", &without, DenialReason::BadSignature);
    let without = new.token("ES256", &good().to_string());
    table.refused("no key without id for it", &without, DenialReason::BadAlgorithm);
    let strange = [
        "../../../../dev/null",
        "/etc/passwd",
        "' OR '1'='1",
        "x' UNION SELECT 'AAAA';--",
        "2023\u{0}",
        " 2023",
        "2023 ",
        "",
        "${jndi:ldap://x}",
        "2023/../2024",
        "|/usr/bin/id",
        "\u{202e}3202",
    ];
    for id in strange {
        table.permitted(id, &kid(ours(), "HS256", id));
        table.refused(id, &kid(&old, "HS256", id), DenialReason::BadSignature);
    }
    assert_eq!(table.cases, 8 + 2 * strange.len());

    let mut bound = Table::new(policy(&spec(vec![old.spec("HS256", Some("2023"))])));
    bound.refused("unknown kid", &kid(&old, "HS256", "2024"), DenialReason::UnknownKey);
    bound.refused("no kid", &without, DenialReason::UnknownKey);
}

#[test]
fn claim_rules_are_asked_after_the_token_is_known_to_be_good() {
    let rule = |claim: &str, operator: &str, value: Value| ClaimSpec {
        path: "rule".to_owned(),
        claim: claim.to_owned(),
        operator: operator.to_owned(),
        value,
    };
    let mut with_rules = spec(vec![ours().spec("HS256", None)]);
    with_rules.claims = vec![
        rule("role", "in", json!(["user", "editor"])),
        rule("plan", "not_equals", json!("expired")),
        rule("realm_access.roles", "contains", json!("reader")),
    ];
    let mut table = Table::new(policy(&with_rules));
    table.bucket = BucketAuth::compile(
        true,
        &[rule("level", "gte", json!(3)), rule("suspended", "exists", json!(false))],
    )
    .0
    .unwrap();
    let fitting = json!({
        "exp": NOW + 600, "role": "user", "plan": "gold", "level": 3,
        "realm_access": {"roles": ["reader", "writer"]},
    });
    let with = |name: &str, value: Value| {
        let mut claims = fitting.clone();
        claims[name] = value;
        ours().token("HS256", &claims.to_string())
    };
    let without = |name: &str| {
        let mut claims = fitting.clone();
        claims.as_object_mut().unwrap().remove(name);
        ours().token("HS256", &claims.to_string())
    };
    table.permitted("all hold", &ours().token("HS256", &fitting.to_string()));
    table.permitted("editor", &with("role", json!("editor")));
    table.permitted("level above", &with("level", json!(3.5)));
    for name in ["role", "plan", "realm_access", "level"] {
        table.refused(format!("no {name}"), &without(name), DenialReason::Claims);
        table.refused(format!("null {name}"), &with(name, json!(null)), DenialReason::Claims);
        table.refused(format!("list {name}"), &with(name, json!([])), DenialReason::Claims);
    }
    table.refused("role", &with("role", json!("User")), DenialReason::Claims);
    table.refused("plan", &with("plan", json!("expired")), DenialReason::Claims);
    table.refused("level", &with("level", json!("3")), DenialReason::Claims);
    table.refused("level below", &with("level", json!(2)), DenialReason::Claims);
    table.refused("suspended", &with("suspended", json!(false)), DenialReason::Claims);
    table.refused("suspended", &with("suspended", json!(null)), DenialReason::Claims);
    let roles = json!({"roles": "reader"});
    table.permitted("contains in a string", &with("realm_access", roles));
    let expired = with("exp", json!(1));
    table.refused("expired comes first", &expired, DenialReason::Expired);
}
