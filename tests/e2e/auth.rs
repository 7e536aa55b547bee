//! Authentication seen from outside: which requests get an object, what the others are told, and
//! what the log and the counters say about it.

#[path = "../jwt_table/keys.rs"]
#[allow(dead_code, reason = "shared with the table of tokens, which uses all of it")]
pub(crate) mod keys;

use serde_json::{Value, json};

use crate::support::{
    config::{Config, SECRET_KEY},
    proxy::Proxy,
    raw_client::{Client, Response},
    scripted_origin::ScriptedOrigin,
    token::{self, JWT_SECRET, bearer, mint, unix_now},
    waiting::{wait_for, wait_until},
};

/// A secret that no configuration here knows.
pub(crate) const OTHER_SECRET: &str = "a-secret-of-somebody-else-with-enough-characters";

/// Claims that are good for an hour.
pub(crate) fn claims() -> Value {
    json!({ "sub": "alice", "role": "user", "exp": unix_now() + 3_600 })
}

/// The same with one claim more, or another.
pub(crate) fn claims_with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

/// Asks for `target` with a bearer token.
#[track_caller]
pub(crate) fn ask(proxy: &Proxy, target: &str, token: &str) -> Response {
    proxy.get_with(target, &[("Authorization", &bearer(token))])
}

/// The access-log line of the response.
#[track_caller]
pub(crate) fn logged(proxy: &Proxy, response: &Response) -> Value {
    let id = response.header("x-request-id").expect("X-Request-Id").to_owned();
    wait_for("the access-log line", || {
        proxy.stdout().records().into_iter().find(|line| line["request_id"] == id.as_str())
    })
}

/// A bucket `products` that asks for tokens of [`JWT_SECRET`].
fn protected(origin: &ScriptedOrigin) -> Config {
    Config::products(origin.url()).with_jwt(&["products"])
}

/// Every way to be refused with a bearer token, as (token, status, code, exact reason, label of
/// the counter).
fn refused_tokens() -> Vec<(String, u16, &'static str, &'static str, &'static str)> {
    let good = mint(JWT_SECRET, &claims());
    let with = |name, value: Value| mint(JWT_SECRET, &claims_with(name, value));
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let payload = signed.split_once('.').unwrap().1;
    let headed = |header: &str| {
        let signed = format!("{}.{payload}", keys::encode(header));
        let mac = keys::mac(aws_lc_rs::hmac::HMAC_SHA256, JWT_SECRET.as_bytes(), signed.as_bytes());
        format!("{signed}.{}", keys::encode(mac))
    };
    let (now, bad) = (unix_now(), "invalid_token");
    let mut without_exp = claims();
    without_exp.as_object_mut().unwrap().remove("exp");
    vec![
        ("no-token-at-all".into(), 401, bad, "malformed", "malformed"),
        (String::new(), 401, bad, "malformed", "malformed"),
        (format!("{good}="), 401, bad, "malformed", "malformed"),
        (format!("{good}.{signature}"), 401, bad, "malformed", "malformed"),
        ("x".repeat(8_193), 401, bad, "too_long", "malformed"),
        (headed(r#"{"alg":"HS256","crit":["x"]}"#), 401, bad, "critical_extension", "malformed"),
        (
            format!("{}.{payload}.", keys::encode(r#"{"alg":"none"}"#)),
            401,
            bad,
            "malformed",
            "malformed",
        ),
        (headed(r#"{"alg":"none"}"#), 401, bad, "bad_algorithm", "algorithm"),
        (headed(r#"{"alg":"nOnE"}"#), 401, bad, "bad_algorithm", "algorithm"),
        (headed(r#"{"alg":"HS384"}"#), 401, bad, "bad_algorithm", "algorithm"),
        (mint(OTHER_SECRET, &claims()), 401, bad, "bad_signature", "signature"),
        (format!("{signed}.{}", keys::encode([0; 32])), 401, bad, "bad_signature", "signature"),
        (with("exp", json!("4102444800")), 401, bad, "bad_time", "invalid_time"),
        (with("exp", json!(-1)), 401, bad, "bad_time", "invalid_time"),
        (with("nbf", Value::Null), 401, bad, "bad_time", "invalid_time"),
        (mint(JWT_SECRET, &without_exp), 401, bad, "missing_expiry", "invalid_time"),
        (with("exp", json!(now - 300)), 401, bad, "expired", "expired"),
        (with("nbf", json!(now + 300)), 401, bad, "not_yet_valid", "not_yet_valid"),
        (with("iss", json!("somebody")), 401, bad, "bad_issuer", "issuer"),
        (with("aud", json!(["others"])), 401, bad, "bad_audience", "audience"),
        (with("role", json!("guest")), 403, "claims_refused", "claims", "claims"),
        (with("folder", json!("elsewhere/")), 403, "claims_refused", "path", "claims"),
    ]
}

/// Asks for an issuer, an audience, a role and a folder.
fn strict(origin: &ScriptedOrigin) -> Config {
    protected(origin)
        .set("jwt.issuer", "us")
        .set("jwt.audience", json!(["proxy", "others-too"]))
        .set(
            "jwt.claims",
            json!([
                { "claim": "role", "operator": "equals", "value": "user" },
                { "claim": "folder", "operator": "path_prefix" },
            ]),
        )
}

/// `token` signed anew with what [`strict`] asks for, where it says nothing itself.
fn completed(token: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let parts: Vec<_> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { return token.to_owned() };
    let Ok(payload) = URL_SAFE_NO_PAD.decode(payload) else { return token.to_owned() };
    let Ok(mut claims) = serde_json::from_slice::<Value>(&payload) else {
        return token.to_owned();
    };
    for (name, value) in [("iss", "us"), ("aud", "proxy"), ("folder", "mine/")] {
        if claims.get(name).is_none() {
            claims[name] = value.into();
        }
    }
    let signed = format!("{header}.{}", keys::encode(claims.to_string()));
    let ours = |secret: &str, text: &str| {
        keys::encode(keys::mac(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes(), text.as_bytes()))
    };
    let was = format!("{header}.{}", parts[1]);
    for secret in [JWT_SECRET, OTHER_SECRET] {
        if ours(secret, &was) == signature {
            return format!("{signed}.{}", ours(secret, &signed));
        }
    }
    format!("{signed}.{signature}")
}

#[test]
fn every_refusal_is_answered_by_its_class_and_logged_by_its_reason() {
    let origin = ScriptedOrigin::serving("object");
    let proxy = Proxy::start(&strict(&origin));
    let good = completed(&mint(JWT_SECRET, &claims()));
    assert_eq!(ask(&proxy, "/products/mine/x", &good).text(), "object");

    let mut counted = std::collections::BTreeMap::new();
    for (token, status, code, reason, label) in refused_tokens() {
        let response = ask(&proxy, "/products/mine/x", &completed(&token));
        assert_eq!(response.status, status, "{reason}: {response:?}");
        response.assert_fault(status, code);
        let challenge = match status {
            401 => r#"Bearer error="invalid_token""#,
            _ => r#"Bearer error="insufficient_scope""#,
        };
        assert_eq!(response.header("www-authenticate"), Some(challenge), "{reason}");
        let text = response.json()["message"].as_str().unwrap().to_owned();
        let expected = match reason {
            "expired" => "Authentication failed: Token expired",
            "not_yet_valid" => "Authentication failed: Token not yet valid",
            "claims" | "path" => "Access denied: the token's claims do not permit this",
            _ => "Authentication failed: Invalid token",
        };
        assert_eq!(text, expected, "{reason}");

        let line = logged(&proxy, &response);
        assert_eq!(line["code"], code, "{line}");
        assert_eq!(line["auth_reason"], reason, "{line}");
        assert_eq!(line["status"], status, "{line}");
        assert_eq!(line["bucket"], "products", "{line}");
        // Whose token it is, is known only when the signature is good.
        let verified = matches!(
            reason,
            "bad_time"
                | "missing_expiry"
                | "expired"
                | "not_yet_valid"
                | "bad_issuer"
                | "bad_audience"
                | "claims"
                | "path"
        );
        let subject = if verified { json!("alice") } else { Value::Null };
        assert_eq!(line["sub"], subject, "{line}");
        *counted.entry(label).or_insert(0.0) += 1.0;
    }
    for (label, count) in counted {
        let series = format!("yatagarasu_auth_failures_total{{reason=\"{label}\"}}");
        assert_eq!(proxy.metric(&series), Some(count), "{series}");
    }
    assert_eq!(origin.requests().len(), 1, "no refused request reached S3");
}

#[test]
fn a_missing_token_is_asked_for() {
    let origin = ScriptedOrigin::serving("object");
    let proxy = Proxy::start(&protected(&origin));
    for fields in [&[][..], &[("Authorization", "Basic YTpi")], &[("Cookie", "token=a")]] {
        let response = proxy.get_with("/products/x?token=a", fields);
        response.assert_fault(401, "missing_token");
        assert_eq!(response.json()["message"], "Authentication required: Missing token");
        // RFC 6750 section 3.1: without credentials, no error code.
        assert_eq!(response.header("www-authenticate"), Some("Bearer"));
        assert_eq!(logged(&proxy, &response)["auth_reason"], "missing_token");
    }
    let head = proxy.client().request("HEAD", "/products/x", &[]);
    assert_eq!((head.status, head.body.len()), (401, 0));
    assert_eq!(proxy.metric("yatagarasu_auth_failures_total{reason=\"missing\"}"), Some(4.0));
    assert_eq!(origin.accepted(), 0);
}

#[test]
fn responses_to_bad_tokens_differ_in_nothing_but_their_id_and_date() {
    let origin = ScriptedOrigin::serving("object");
    let proxy = Proxy::start(&strict(&origin));
    let mut shapes = std::collections::BTreeSet::new();
    for (token, status, _, reason, _) in refused_tokens() {
        if status != 401 || ["expired", "not_yet_valid"].contains(&reason) {
            continue;
        }
        let response = ask(&proxy, "/products/mine/x", &completed(&token));
        let id = response.header("x-request-id").unwrap().to_owned();
        let mut fields = response.fields.clone();
        fields.0.retain(|(name, _)| !name.eq_ignore_ascii_case("date"));
        shapes.insert(format!("{:?} {}", fields, response.text()).replace(&id, "ID"));
    }
    assert_eq!(shapes.len(), 1, "{shapes:#?}");
}

#[test]
fn the_log_says_whose_request_it_was() {
    let origin = ScriptedOrigin::serving("object");
    let proxy = Proxy::start(&protected(&origin));
    let response = ask(&proxy, "/products/x", &mint(JWT_SECRET, &claims_with("sub", "a\"b\n")));
    let line = logged(&proxy, &response);
    assert_eq!(
        (&line["sub"], &line["code"], &line["auth_reason"]),
        (&json!("a\"b\n"), &Value::Null, &Value::Null)
    );
    for odd in [json!(7), json!(["alice"]), Value::Null] {
        let response = ask(&proxy, "/products/x", &mint(JWT_SECRET, &claims_with("sub", odd)));
        assert_eq!(response.status, 200);
        assert_eq!(logged(&proxy, &response)["sub"], Value::Null);
    }
}

#[test]
fn the_first_source_that_is_present_decides() {
    let origin = ScriptedOrigin::serving("object");
    let sources = [
        json!({ "type": "bearer" }),
        json!({ "type": "header", "name": "X-Auth-Token", "prefix": "Token " }),
        json!({ "type": "query", "name": "tok" }),
        json!({ "type": "cookie", "name": "session" }),
    ];
    let (good, bad) = (mint(JWT_SECRET, &claims()), mint(OTHER_SECRET, &claims()));
    // Each source in turn is the first.
    for turn in 0..sources.len() {
        let mut order: Vec<usize> = (0..sources.len()).collect();
        order.rotate_left(turn);
        let listed: Vec<_> = order.iter().map(|index| sources[*index].clone()).collect();
        let proxy = Proxy::start(&protected(&origin).set("jwt.token_sources", listed));
        for (place, index) in order.iter().enumerate() {
            // A good token in one source and bad ones in all later ones, then the other way round.
            for (first, later, status) in [(&good, &bad, 200), (&bad, &good, 401)] {
                let mut tokens = vec![None; sources.len()];
                tokens[*index] = Some(first.as_str());
                for after in &order[place + 1..] {
                    tokens[*after] = Some(later.as_str());
                }
                let response = with_tokens(&proxy, "/products/x", &tokens);
                assert_eq!(response.status, status, "{order:?} from place {place}");
            }
        }
    }
}

/// A request with tokens in bearer, header, query and cookie.
pub(crate) fn with_tokens(proxy: &Proxy, path: &str, tokens: &[Option<&str>]) -> Response {
    let [bearer, header, query, cookie] = tokens[..] else { panic!("four sources") };
    let mut fields = Vec::new();
    let target = query.map_or_else(|| path.to_owned(), |token| format!("{path}?a=1&tok={token}"));
    fields.extend(bearer.map(|token| ("Authorization", format!("Bearer {token}"))));
    fields.extend(header.map(|token| ("X-Auth-Token", format!("Token {token}"))));
    fields.extend(cookie.map(|token| ("Cookie", format!("a=b; session={token}"))));
    let fields: Vec<_> = fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    proxy.get_with(&target, &fields)
}

#[test]
fn two_different_tokens_in_one_source_are_refused() {
    let origin = ScriptedOrigin::serving("object");
    let proxy = Proxy::start(&protected(&origin));
    let (one, two) = (mint(JWT_SECRET, &claims()), mint(JWT_SECRET, &claims_with("sub", "bob")));
    let (one, two) = (bearer(&one), bearer(&two));
    let response =
        proxy.get_with("/products/x", &[("Authorization", &one), ("Authorization", &two)]);
    response.assert_fault(401, "invalid_token");
    assert_eq!(logged(&proxy, &response)["auth_reason"], "ambiguous_token");
}

#[test]
fn every_operator_decides() {
    let origin = ScriptedOrigin::serving("object");
    let rule = |claim: &str, operator: &str, value: Value| match value {
        Value::Null => json!([{ "claim": claim, "operator": operator }]),
        value => json!([{ "claim": claim, "operator": operator, "value": value }]),
    };
    for (operator, value, fits, does_not) in [
        ("equals", json!("a"), json!("a"), vec![json!("b"), json!(["a"]), json!(1), Value::Null]),
        ("equals", json!(true), json!(true), vec![json!("true"), json!(1)]),
        ("not_equals", json!("a"), json!("b"), vec![json!("a"), json!(1), Value::Null]),
        ("in", json!(["a", 2]), json!(2), vec![json!("2"), json!("b"), json!(["a"])]),
        ("contains", json!("a"), json!(["b", "a"]), vec![json!(["b"]), json!("bc"), json!(1)]),
        ("gt", json!(5), json!(6), vec![json!(5), json!("6"), json!([6])]),
        ("gte", json!(5), json!(5), vec![json!(4.5)]),
        ("lt", json!(5), json!(4), vec![json!(5), json!("4")]),
        ("lte", json!(5), json!(5), vec![json!(6)]),
        ("exists", Value::Null, json!(0), vec![Value::Null]),
    ] {
        let config =
            protected(&origin).set("buckets.0.auth.claims", rule("deep.c", operator, value));
        let proxy = Proxy::start(&config);
        let of = |value: &Value| mint(JWT_SECRET, &claims_with("deep", json!({ "c": value })));
        assert_eq!(ask(&proxy, "/products/x", &of(&fits)).status, 200, "{operator} {fits}");
        for value in does_not {
            let response = ask(&proxy, "/products/x", &of(&value));
            assert_eq!(response.status, 403, "{operator} {value}");
        }
        let missing = mint(JWT_SECRET, &claims());
        ask(&proxy, "/products/x", &missing).assert_fault(403, "claims_refused");
    }
}

#[test]
fn a_tenant_reads_whole_segments_of_its_own_folder() {
    let origin = ScriptedOrigin::serving("object");
    let config = protected(&origin)
        .set("jwt.claims", json!([{ "claim": "folders", "operator": "path_prefix" }]))
        .set("buckets.0.s3.key_prefix", "stored/");
    let proxy = Proxy::start(&config);
    let tenant = mint(JWT_SECRET, &claims_with("folders", json!(["tenant1/", "shared/eu"])));
    for (path, status) in [
        ("tenant1/a", 200),
        ("tenant1/deep/er/a", 200),
        ("tenant1%2Fa", 200),
        ("shared/eu/a", 200),
        ("shared/eu", 200),
        ("tenant10/a", 403),
        ("tenant1", 403),
        ("tenant2/a", 403),
        ("Tenant1/a", 403),
        ("shared/europe/a", 403),
        ("stored/tenant1/a", 403),
        ("x/tenant1/a", 403),
        ("/tenant1/a", 403),
        // Refused before anybody is asked: these could mean another tenant's object.
        ("tenant1/../tenant2/a", 400),
        ("tenant1/%2e%2e/tenant2/a", 400),
        ("tenant1%2F..%2Ftenant2/a", 400),
    ] {
        let response = ask(&proxy, &format!("/products/{path}"), &tenant);
        assert_eq!(response.status, status, "{path}");
    }
    for folders in [json!([]), json!(""), json!([""]), json!(7), json!({}), Value::Null] {
        let token = mint(JWT_SECRET, &claims_with("folders", folders.clone()));
        assert_eq!(ask(&proxy, "/products/tenant1/a", &token).status, 403, "{folders}");
    }
    assert!(origin.requests().iter().all(|seen| seen.target.starts_with("/products/stored/")));
}

#[test]
fn admin_tokens_come_in_headers_only() {
    let origin = ScriptedOrigin::serving("object");
    let config = protected(&origin).set(
        "jwt.token_sources",
        json!([
            { "type": "query", "name": "tok" },
            { "type": "cookie", "name": "session" },
        ]),
    );
    let proxy = Proxy::start(&config);
    let admin = token::for_role("admin");
    let cookie = format!("session={admin}");
    let query = format!("/admin/status?tok={admin}");
    for response in [proxy.get(&query), proxy.get_with("/admin/status", &[("Cookie", &cookie)])] {
        response.assert_fault(401, "missing_token");
    }
    assert_eq!(ask(&proxy, "/admin/status", &admin).status, 200);
    let user = ask(&proxy, "/admin/status", &token::for_role("user"));
    user.assert_fault(403, "claims_refused");
    assert_eq!(logged(&proxy, &user)["auth_reason"], "claims");
    // The object side of the same configuration does take them from there.
    assert_eq!(proxy.get(&format!("/products/x?tok={admin}")).status, 200);
    let count = proxy.metric("yatagarasu_jwt_key_uses_total{key=\"jwt\"}");
    assert_eq!(count, Some(2.0), "admin tokens count too");
}

#[test]
fn a_token_that_expires_is_refused_though_it_was_remembered() {
    let origin = ScriptedOrigin::serving("object");
    let proxy = Proxy::start(&protected(&origin).set("jwt.leeway", 0));
    let mut client = Client::connect(proxy.address());
    let mut ask =
        |token: &str| client.request("GET", "/products/x", &[("Authorization", &bearer(token))]);
    // On a busy machine it may be over before it was used once.
    let token = (1..10)
        .map(|seconds| mint(JWT_SECRET, &claims_with("exp", unix_now() + 2 * seconds)))
        .find(|token| ask(token).status == 200)
        .expect("a token that is good for a while");
    let refused = wait_for("the token to expire", || {
        let response = ask(&token);
        (response.status != 200).then_some(response)
    });
    refused.assert_fault(401, "invalid_token");
    assert_eq!(refused.json()["message"], "Authentication failed: Token expired");
}

#[test]
fn tokens_decide_and_go_no_further() {
    let origin = ScriptedOrigin::serving("secret object");
    let config = Config::new()
        .bucket("public", origin.url())
        .bucket("private", origin.url())
        .with_jwt(&["private"])
        .set(
            "jwt.token_sources",
            serde_json::json!([
                { "type": "bearer" },
                { "type": "header", "name": "X-Auth-Token", "prefix": "" },
                { "type": "query", "name": "token" },
                { "type": "cookie", "name": "token" },
            ]),
        )
        .set("logging.level", "trace");
    let proxy = Proxy::start(&config);

    let missing = proxy.get("/private/x");
    missing.assert_fault(401, "missing_token");
    assert_eq!(missing.json()["message"], "Authentication required: Missing token");
    assert!(missing.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
    assert_eq!(proxy.get("/public/x").status, 200);

    let good = token::for_role("user");
    let bearing = bearer(&good);
    let cookie = format!("a=b; token={good}; c=d");
    let query = format!("/private/x?a=b&token={good}");
    assert_eq!(proxy.get_with("/private/x", &[("Authorization", &bearing)]).status, 200);
    assert_eq!(proxy.get_with("/private/x", &[("X-Auth-Token", &good)]).status, 200);
    assert_eq!(proxy.get_with("/private/x", &[("Cookie", &cookie)]).status, 200);
    assert_eq!(proxy.get(&query).status, 200);

    let claims = serde_json::json!({ "role": "user", "exp": unix_now() + 60 });
    let forged = mint("another-secret-of-more-than-enough-characters", &claims);
    let response = proxy.get_with("/private/x", &[("Authorization", &bearer(&forged))]);
    response.assert_fault(401, "invalid_token");
    let both = [("Authorization", bearer(&forged)), ("X-Auth-Token", good.clone())];
    let both: Vec<_> = both.iter().map(|(name, value)| (*name, value.as_str())).collect();
    proxy.get_with("/private/x", &both).assert_fault(401, "invalid_token");

    assert_eq!(origin.requests().len(), 5);
    wait_until("the access log", || proxy.stdout().records().len() >= 8);
    let signature = |token: &str| token.rsplit('.').next().unwrap().to_owned();
    for secret in [signature(&good), signature(&forged), JWT_SECRET.into(), SECRET_KEY.into()] {
        assert!(!origin.received().contains(&secret), "{secret} at the origin");
        assert!(!proxy.output().contains(&secret), "{secret} in the logs");
    }
}

#[test]
fn claims_that_do_not_fit_are_403() {
    let origin = ScriptedOrigin::serving("x");
    let config = Config::products(origin.url()).with_jwt(&["products"]).set(
        "jwt.claims",
        serde_json::json!([{ "claim": "role", "operator": "equals", "value": "user" }]),
    );
    let proxy = Proxy::start(&config);
    let as_role = |role: &str| {
        let bearing = bearer(&token::for_role(role));
        proxy.get_with("/products/x", &[("Authorization", &bearing)])
    };
    assert_eq!(as_role("user").status, 200);
    as_role("guest").assert_fault(403, "claims_refused");
    assert_eq!(origin.requests().len(), 1);
}
