//! Several issuers: the token's `iss` picks the provider, whose keys and rules then apply.

use std::{collections::HashMap, sync::Arc};

use serde_json::{Value, json};
use yatagarasu::{
    policy::auth::{
        AuthPolicy, BucketAuth, Denial, DenialReason, KeySet, KeySets, KeySource, Permit,
        TokenCache, permit_admin, permit_object,
        spec::{AuthProblem, AuthSpec, ClaimSpec, KeySpec, ProviderSpec},
    },
    protocol::url::HttpUrl,
};

use crate::{
    Table, good,
    head::{Head, NOW, policy, protected},
    ours, spec, theirs,
};

/// A provider whose ES256 key is that of [`theirs`].
fn provider(name: &str) -> ProviderSpec {
    let path = format!("jwt.providers[{name}]");
    ProviderSpec {
        keys: vec![KeySpec { path: format!("{path}.keys[0]"), ..theirs().spec("ES256", None) }],
        path,
        name: name.to_owned(),
        issuer: issuer(name),
        audience: Some(vec![format!("files-of-{name}")]),
        jwks: None,
        jwks_url: None,
        discovery: false,
        algorithms: Vec::new(),
        claims: None,
    }
}

fn issuer(name: &str) -> String {
    format!("https://{name}.example/")
}

/// The section's own key is the HS256 one of [`ours`].
fn with_providers(providers: Vec<ProviderSpec>) -> AuthSpec {
    AuthSpec { providers, ..spec(vec![ours().spec("HS256", None)]) }
}

fn of(name: &str) -> Value {
    let mut claims = good();
    claims["iss"] = issuer(name).into();
    claims["aud"] = format!("files-of-{name}").into();
    claims
}

fn changed(mut claims: Value, name: &str, value: Value) -> String {
    claims[name] = value;
    claims.to_string()
}

fn rule(claim: &str, value: &str) -> ClaimSpec {
    ClaimSpec {
        path: format!("rule of {claim}"),
        claim: claim.to_owned(),
        operator: "equals".to_owned(),
        value: value.into(),
    }
}

fn problems(spec: &AuthSpec) -> Vec<AuthProblem> {
    let (policy, problems) = AuthPolicy::compile(spec);
    assert_eq!(policy.is_none(), problems.iter().any(|problem| !problem.warning), "{problems:?}");
    problems
}

fn limited(spec: &AuthSpec, names: &[&str]) -> Result<BucketAuth, AuthProblem> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    protected().limited_to(&names, &spec.providers, "buckets[0].auth.providers")
}

#[test]
fn the_issuer_picks_the_keys_and_nothing_else_does() {
    let mut table = Table::new(policy(&with_providers(vec![provider("a"), provider("b")])));
    let own = |claims: &str| ours().token("HS256", claims);
    let other = |claims: &str| theirs().token("ES256", claims);
    table.permitted("own key, no issuer", &own(&good().to_string()));
    table.permitted("own key, unknown issuer", &own(&of("c").to_string()));
    table.permitted("a", &other(&of("a").to_string()));
    table.permitted("b", &other(&of("b").to_string()));
    // The own key signs whatever it likes; it is not asked about tokens of others.
    table.refused("own key as a", &own(&of("a").to_string()), DenialReason::BadAlgorithm);
    table.refused("a without iss", &other(&good().to_string()), DenialReason::BadAlgorithm);
    table.refused("a as c", &other(&of("c").to_string()), DenialReason::BadAlgorithm);
    let forged = ours().token("ES256", &of("a").to_string());
    table.refused("another key as a", &forged, DenialReason::BadSignature);
    for (name, iss) in [
        ("a list", json!([issuer("a")])),
        ("an object", json!({ "iss": issuer("a") })),
        ("null", Value::Null),
        ("a number", json!(1)),
        ("with a blank", json!(format!("{} ", issuer("a")))),
        ("upper case", json!(issuer("a").to_uppercase())),
        ("without the slash", json!("https://a.example")),
        ("empty", json!("")),
    ] {
        let claims = changed(of("a"), "iss", iss);
        table.refused(format!("iss is {name}"), &other(&claims), DenialReason::BadAlgorithm);
    }
    let twice = format!(r#"{{"iss":"{}","iss":"{}","exp":{}}}"#, issuer("a"), issuer("b"), NOW + 9);
    table.refused("iss twice", &other(&twice), DenialReason::Malformed);
    table.refused("no object", &other("[]"), DenialReason::Malformed);
}

#[test]
fn audience_and_claims_are_the_providers_own_or_those_of_the_section() {
    let mut strict = provider("strict");
    strict.claims = Some(vec![rule("groups", "readers")]);
    let mut heir = provider("heir");
    heir.audience = None;
    let mut all = with_providers(vec![strict, heir]);
    all.audience = vec!["section".to_owned()];
    all.claims = vec![rule("role", "user")];
    let mut table = Table::new(policy(&all));
    let other = |claims: &str| theirs().token("ES256", claims);

    let mut claims = of("strict");
    claims["groups"] = "readers".into();
    claims["role"] = "anything".into();
    table.permitted("its own rule, not the section's", &other(&claims.to_string()));
    table.refused("without its claim", &other(&of("strict").to_string()), DenialReason::Claims);
    let foreign = changed(claims, "aud", "section".into());
    table.refused("the section's audience", &other(&foreign), DenialReason::BadAudience);

    let inherited = changed(of("heir"), "aud", "section".into());
    table.permitted("inherited audience and rule", &other(&inherited));
    table.refused("another audience", &other(&of("heir").to_string()), DenialReason::BadAudience);
    let mut poor = of("heir");
    poor["aud"] = "section".into();
    poor["role"] = "guest".into();
    table.refused("inherited rule", &other(&poor.to_string()), DenialReason::Claims);
}

#[test]
fn path_rules_of_a_provider_decide_about_its_tokens_only() {
    let mut tenants = provider("tenants");
    let operator = "path_prefix".to_owned();
    tenants.claims = Some(vec![ClaimSpec { operator, value: Value::Null, ..rule("prefixes", "") }]);
    let policy = policy(&with_providers(vec![tenants]));
    let decide = |token: &str, key: &[u8]| {
        let head = Head::bearer(token);
        permit_object(&policy, &(), &protected(), &mut TokenCache::new(), &head, key, NOW)
            .map(|_| ())
            .map_err(|denial| denial.reason)
    };
    let token = theirs().token("ES256", &changed(of("tenants"), "prefixes", json!(["t1"])));
    assert_eq!(decide(&token, b"t1/a"), Ok(()));
    assert_eq!(decide(&token, b"t2/a"), Err(DenialReason::Path));
    assert_eq!(decide(&ours().token("HS256", &good().to_string()), b"t2/a"), Ok(()));
}

#[test]
fn a_bucket_is_read_with_tokens_of_its_providers_only_whatever_the_cache_holds() {
    let spec = with_providers(vec![provider("a"), provider("b")]);
    let policy = policy(&spec);
    let tokens = [
        ("jwt", ours().token("HS256", &good().to_string())),
        ("a", theirs().token("ES256", &of("a").to_string())),
        ("b", theirs().token("ES256", &of("b").to_string())),
    ];
    let buckets: [&[&str]; 5] = [&["jwt"], &["a"], &["b"], &["a", "b"], &["b", "jwt"]];
    let mut cache = TokenCache::new();
    for _ in 0..2 {
        for names in buckets {
            let bucket = limited(&spec, names).unwrap();
            for (of, token) in &tokens {
                let head = Head::bearer(token);
                let found = permit_object(&policy, &(), &bucket, &mut cache, &head, b"a", NOW);
                let expected =
                    if names.contains(of) { Ok(()) } else { Err(DenialReason::Provider) };
                let found = found.map(|_| ()).map_err(|denial| denial.reason);
                assert_eq!(found, expected, "{of} for {names:?}");
            }
        }
    }
    assert_eq!(cache.len(), tokens.len());
    let problem = limited(&spec, &["a", "c"]).unwrap_err();
    assert_eq!(problem.path, "buckets[0].auth.providers[1]");
}

#[test]
fn the_admin_api_is_for_tokens_of_the_sections_own_keys_unless_others_are_named() {
    let ask = |spec: &AuthSpec, token: &str| {
        let (policy, mut cache) = (policy(spec), TokenCache::new());
        let permit = permit_admin(&policy, &(), &mut cache, &Head::bearer(token), NOW);
        permit.map(|_| ()).map_err(|denial| denial.reason)
    };
    let mut spec = with_providers(vec![provider("a"), provider("b")]);
    let own = ours().token("HS256", &changed(good(), "role", "admin".into()));
    let of_a = theirs().token("ES256", &changed(of("a"), "role", "admin".into()));
    let refused = Err(DenialReason::Provider);
    assert_eq!((ask(&spec, &own), ask(&spec, &of_a)), (Ok(()), refused));
    spec.admin_providers = vec!["b".to_owned()];
    assert_eq!((ask(&spec, &own), ask(&spec, &of_a)), (refused, refused));
    spec.admin_providers = vec!["a".to_owned(), "jwt".to_owned()];
    assert_eq!((ask(&spec, &own), ask(&spec, &of_a)), (Ok(()), Ok(())));
    let reader = theirs().token("ES256", &of("a").to_string());
    assert_eq!(ask(&spec, &reader), Err(DenialReason::Claims));
}

#[test]
fn a_section_may_have_providers_only() {
    let spec = AuthSpec { keys: Vec::new(), ..with_providers(vec![provider("a")]) };
    let warned: Vec<String> = problems(&spec).into_iter().map(|problem| problem.path).collect();
    assert_eq!(warned, ["jwt.admin_providers"]);
    let mut table = Table::new(policy(&spec));
    table.permitted("a", &theirs().token("ES256", &of("a").to_string()));
    let own = ours().token("HS256", &good().to_string());
    table.refused("no provider's", &own, DenialReason::BadIssuer);
}

#[test]
fn a_key_of_one_provider_is_no_key_of_another() {
    let mut foreign = provider("b");
    foreign.keys = vec![KeySpec { path: "b".to_owned(), ..ours().spec("ES256", Some("same")) }];
    let mut known = provider("a");
    known.keys[0].id = Some("same".to_owned());
    let compiled = policy(&with_providers(vec![known, foreign]));
    assert_eq!(compiled.key_ids().collect::<Vec<_>>(), ["jwt", "a/same", "b/same"]);
    let mut table = Table::new(compiled);
    let header = r#"{"alg":"ES256","kid":"same"}"#;
    let a = theirs().token_with("ES256", header, &of("a").to_string());
    let b = ours().token_with("ES256", header, &of("b").to_string());
    table.permitted("a", &a);
    table.permitted("b", &b);
    let crossed = theirs().token_with("ES256", header, &of("b").to_string());
    table.refused("the key of a, as b", &crossed, DenialReason::BadSignature);
}

#[test]
fn what_makes_providers_ambiguous_or_open_is_refused() {
    let refused = |change: fn(&mut AuthSpec), path: &str| {
        let mut spec = with_providers(vec![provider("a"), provider("b")]);
        change(&mut spec);
        let found = problems(&spec);
        let errors: Vec<&str> =
            found.iter().filter(|one| !one.warning).map(|one| one.path.as_str()).collect();
        assert_eq!(errors, [path], "{found:?}");
    };
    refused(|spec| spec.providers[1].name = "a".to_owned(), "jwt.providers[b].name");
    refused(|spec| spec.providers[1].name = "jwt".to_owned(), "jwt.providers[b].name");
    refused(|spec| spec.providers[1].name = String::new(), "jwt.providers[b].name");
    refused(|spec| spec.providers[1].issuer = issuer("a"), "jwt.providers[b].issuer");
    refused(|spec| spec.providers[1].issuer = String::new(), "jwt.providers[b].issuer");
    refused(|spec| spec.issuer = Some(issuer("b")), "jwt.providers[b].issuer");
    refused(|spec| spec.providers[1].keys.clear(), "jwt.providers[b]");
    refused(
        |spec| spec.providers[1].audience = Some(vec![String::new()]),
        "jwt.providers[b].audience",
    );
    refused(
        |spec| spec.providers[1].algorithms = vec!["none".to_owned()],
        "jwt.providers[b].algorithms[0]",
    );
    refused(|spec| spec.admin_providers = vec!["c".to_owned()], "jwt.admin_providers[0]");
    refused(
        |spec| {
            for number in 0..62 {
                let mut one = spec.providers[1].clone();
                (one.name, one.issuer) = (format!("p{number}"), format!("https://p{number}"));
                spec.providers.push(one);
            }
        },
        "jwt.providers",
    );
    let mut open = with_providers(vec![provider("a")]);
    open.providers[0].audience = None;
    let found = problems(&open);
    assert!(found.len() == 1 && found[0].warning, "{found:?}");
    assert!(found[0].message.contains("another application"), "{found:?}");
}

#[test]
fn algorithms_limit_the_keys_of_a_set_and_name_that_of_a_key_without_one() {
    let number = |bytes: &[u8]| crate::encode(bytes);
    let modulus = [[0xc5; 256].as_slice(), &[1]].concat();
    let key = json!({ "kty": "RSA", "kid": "k", "n": number(&modulus), "e": number(&[1, 0, 1]) });
    let compile = |algorithms: &[&str]| {
        let mut spec = spec(Vec::new());
        spec.algorithms = algorithms.iter().map(ToString::to_string).collect();
        spec.jwks = Some(json!({ "keys": [key] }).to_string().into_bytes());
        problems(&spec)
    };
    for good in [&[][..], &["RS256"], &["ES256", "PS384"]] {
        assert_eq!(compile(good), [], "{good:?}");
    }
    let found = compile(&["ES256"]);
    assert!(found[0].message.ends_with("algorithms does not name RS256"), "{found:?}");
    assert!(found.iter().any(|problem| !problem.warning), "no key is left");

    let mut spec = spec(Vec::new());
    spec.algorithms = vec!["PS512".to_owned()];
    spec.jwks = Some(json!({ "keys": [key] }).to_string().into_bytes());
    let mut table = Table::new(policy(&spec));
    let header = r#"{"alg":"RS256","kid":"k"}"#;
    let token = ours().token_with("RS256", header, &good().to_string());
    table.refused("RS256 for PS512", &token, DenialReason::BadAlgorithm);
}

/// The sets that have been fetched, by the id of their source.
#[derive(Default)]
struct Fetched(HashMap<Arc<str>, KeySet>);

impl KeySets for Fetched {
    fn key_set(&self, source: &str) -> Option<&KeySet> {
        self.0.get(source)
    }
}

/// Providers `a` and `b`, whose keys are fetched, and what has come of them.
struct World {
    policy: AuthPolicy,
    fetched: Fetched,
    cache: TokenCache,
}

impl World {
    fn new() -> Self {
        let mut providers = vec![provider("a"), provider("b")];
        for one in &mut providers {
            one.keys.clear();
            let url = format!("https://{}.example/keys", one.name);
            one.jwks_url = Some(HttpUrl::parse(&url).unwrap());
        }
        let policy = policy(&with_providers(providers));
        Self { policy, fetched: Fetched::default(), cache: TokenCache::new() }
    }

    fn source(&self, name: &str) -> Arc<KeySource> {
        Arc::clone(self.policy.key_sources().find(|source| *source.provider == *name).unwrap())
    }

    fn publish(&mut self, name: &str, keys: &[Value]) {
        let source = self.source(name);
        let (set, _) = source.read_set(json!({ "keys": keys }).to_string().as_bytes()).unwrap();
        self.fetched.0.insert(Arc::clone(&source.id), set);
    }

    fn decide(&mut self, token: &str) -> Result<Permit, Denial> {
        let (head, bucket) = (Head::bearer(token), protected());
        permit_object(&self.policy, &self.fetched, &bucket, &mut self.cache, &head, b"a", NOW)
    }

    fn reason(&mut self, token: &str) -> Result<(), DenialReason> {
        self.decide(token).map(|_| ()).map_err(|denial| denial.reason)
    }
}

/// The public half of the P-256 key of [`ours`] or [`theirs`].
fn jwk(keys: &crate::keys::KeySet, kid: &str) -> Value {
    let point = keys.p256_point();
    let (x, y) = (crate::encode(&point[1..33]), crate::encode(&point[33..]));
    json!({ "kty": "EC", "crv": "P-256", "kid": kid, "x": x, "y": y })
}

fn signed(keys: &crate::keys::KeySet, kid: &str, claims: &Value) -> String {
    keys.token_with("ES256", &format!(r#"{{"alg":"ES256","kid":"{kid}"}}"#), &claims.to_string())
}

#[test]
fn a_key_that_left_its_set_is_refused_at_once_and_other_providers_stay_cached() {
    let mut world = World::new();
    world.publish("a", &[jwk(ours(), "1"), jwk(theirs(), "2")]);
    world.publish("b", &[jwk(theirs(), "1")]);
    let old = signed(ours(), "1", &of("a"));
    let new = signed(theirs(), "2", &of("a"));
    let of_b = signed(theirs(), "1", &of("b"));
    let own = ours().token("HS256", &good().to_string());
    for _ in 0..2 {
        for token in [&old, &new, &of_b, &own] {
            assert_eq!(world.reason(token), Ok(()));
        }
    }
    assert_eq!(world.cache.len(), 4);
    assert_eq!(world.decide(&of_b).unwrap().key_index(), None, "no configured key");
    assert_eq!(world.decide(&own).unwrap().key_index(), Some(0));

    world.publish("a", &[jwk(theirs(), "2")]);
    assert_eq!(world.reason(&old), Err(DenialReason::UnknownKey));
    assert_eq!(world.cache.len(), 3, "only the refused one is gone");
    assert_eq!(world.reason(&new), Ok(()), "verified anew");

    // A set that is taken away takes its tokens along, and nobody else's.
    world.fetched.0.remove(&world.source("a").id.clone());
    assert_eq!(world.reason(&new), Err(DenialReason::NoKeySet));
    assert_eq!((world.reason(&of_b), world.reason(&own)), (Ok(()), Ok(())));
    assert_eq!(world.cache.len(), 2);
}

#[test]
fn only_an_unknown_id_asks_for_its_own_provider() {
    let mut world = World::new();
    let asked = |world: &mut World, token: &str| {
        let provider = world.decide(token).unwrap_err().unknown_key_of?;
        world.policy.key_source(provider).map(|source| source.provider.to_string())
    };
    let unknown = signed(ours(), "9", &of("a"));
    assert_eq!(asked(&mut world, &unknown), None, "its set is on the way already");
    world.publish("a", &[jwk(ours(), "1")]);
    world.publish("b", &[jwk(ours(), "9")]);
    assert_eq!(asked(&mut world, &unknown).as_deref(), Some("a"));
    assert_eq!(world.reason(&unknown), Err(DenialReason::UnknownKey));
    let unknown_own = ours().token_with("HS256", r#"{"alg":"HS256","kid":"x"}"#, "{}");
    for (name, token) in [
        ("no id", ours().token("ES256", &of("a").to_string())),
        ("a wrong signature", signed(theirs(), "1", &of("a"))),
        (
            "another algorithm",
            ours().token_with("HS256", r#"{"alg":"HS256","kid":"1"}"#, &of("a").to_string()),
        ),
        ("configured keys", unknown_own),
    ] {
        assert_eq!(asked(&mut world, &token), None, "{name}");
    }
}

#[test]
fn where_keys_are_fetched_from_is_checked() {
    let refused = |change: fn(&mut ProviderSpec), path: &str| {
        let mut spec = with_providers(vec![provider("a")]);
        change(&mut spec.providers[0]);
        let found = problems(&spec);
        let errors: Vec<&str> =
            found.iter().filter(|one| !one.warning).map(|one| one.path.as_str()).collect();
        assert_eq!(errors, [path], "{found:?}");
    };
    let url = |text| HttpUrl::parse(text).ok();
    assert!(url("https://id.example/keys").is_some());
    refused(
        |one| one.jwks_url = HttpUrl::parse("http://id.example/keys").ok(),
        "jwt.providers[a].jwks_url",
    );
    refused(
        |one| {
            one.jwks_url = HttpUrl::parse("https://id.example/keys").ok();
            one.discovery = true;
        },
        "jwt.providers[a].discovery",
    );
    for issuer in ["not a url", "http://id.example", "https://id.example?x", "https://id.example#x"]
    {
        let mut spec = with_providers(vec![provider("a")]);
        (spec.providers[0].issuer, spec.providers[0].discovery) = (issuer.to_owned(), true);
        assert_eq!(problems(&spec)[0].path, "jwt.providers[a].issuer", "{issuer}");
    }
    refused(
        |one| {
            one.jwks_url = HttpUrl::parse("https://id.example/keys").ok();
            one.algorithms = vec!["HS256".to_owned()];
        },
        "jwt.providers[a].algorithms",
    );
    let mut own = spec(Vec::new());
    own.discovery = true;
    assert_eq!(problems(&own)[0].path, "jwt.discovery");
    own.issuer = Some("http://127.0.0.1:5556/dex".to_owned());
    assert_eq!(problems(&own), []);
    assert_eq!(policy(&own).key_sources().count(), 1);
}
