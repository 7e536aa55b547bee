//! Decisions about whole requests: sources, the cache, the admin API, object keys.

use std::cell::RefCell;

use serde_json::{Value, json};
use yatagarasu::{
    model::Fault,
    policy::auth::{
        AuthPolicy, BucketAuth, DenialReason, TokenCache, TokenCarrier, permit_admin,
        permit_object,
        spec::{AuthSpec, ClaimSpec, TokenSource},
    },
};

use crate::{
    good, good_with,
    head::{Head, NOW, decide, policy, protected},
    keys::{ALGORITHMS, KeySet},
    ours, policy_of, spec, theirs,
};

fn sources() -> Vec<TokenSource> {
    vec![
        TokenSource::Bearer,
        TokenSource::Header { name: "x-auth-token".to_owned(), prefix: "JWT ".to_owned() },
        TokenSource::Query { name: "token".to_owned() },
        TokenSource::Cookie { name: "session".to_owned() },
    ]
}

fn with_sources() -> AuthSpec {
    AuthSpec { sources: sources(), ..spec(vec![ours().spec("HS256", None)]) }
}

fn rule(claim: &str, operator: &str, value: Value) -> ClaimSpec {
    ClaimSpec {
        path: "rule".to_owned(),
        claim: claim.to_owned(),
        operator: operator.to_owned(),
        value,
    }
}

#[test]
fn the_first_source_present_decides_even_when_what_it_holds_is_bad() {
    let policy = policy(&with_sources());
    let good = ours().token("HS256", &good().to_string());
    let bad = theirs().token("HS256", &crate::good().to_string());
    let at = |place: usize, token: &str, head: Head| match place {
        0 => head.field("Authorization", format!("Bearer {token}")),
        1 => head.field("X-Auth-Token", format!("JWT {token}")),
        2 => head.with_query(format!("v=1&token={token}&w=2")),
        _ => head.field("Cookie", format!("a=b; session={token}; c=d")),
    };
    let reason = |head: &Head| decide(&policy, head).map(|_| ()).map_err(|denial| denial.reason);
    for first in 0..4 {
        assert_eq!(reason(&at(first, &good, Head::default())), Ok(()), "{first}");
        let bad_alone = at(first, &bad, Head::default());
        assert_eq!(reason(&bad_alone), Err(DenialReason::BadSignature), "{first}");
        let empty = at(first, "", Head::default());
        assert_eq!(reason(&empty), Err(DenialReason::Malformed), "{first}");
        for second in first + 1..4 {
            let good_first = at(first, &good, at(second, &bad, Head::default()));
            assert_eq!(reason(&good_first), Ok(()), "{first} {second}");
            let bad_first = at(first, &bad, at(second, &good, Head::default()));
            assert_eq!(reason(&bad_first), Err(DenialReason::BadSignature), "{first} {second}");
            let empty_first = at(first, "", at(second, &good, Head::default()));
            assert_eq!(reason(&empty_first), Err(DenialReason::Malformed), "{first} {second}");
        }
        if first != 2 {
            let both = at(first, &good, at(first, &bad, Head::default()));
            assert_eq!(reason(&both), Err(DenialReason::Ambiguous), "{first}");
        }
    }
    let twice = Head::default().with_query(format!("token={good}&token={bad}"));
    assert_eq!(reason(&twice), Err(DenialReason::Ambiguous));
    let other_scheme = at(2, &good, Head::default()).field("Authorization", "Basic YTpi");
    assert_eq!(reason(&other_scheme), Ok(()), "another scheme is no token");
    assert_eq!(reason(&Head::default()), Err(DenialReason::MissingToken));
}

#[test]
fn a_source_that_is_not_configured_is_not_looked_at() {
    let policy = policy_of("HS256");
    let token = ours().token("HS256", &good().to_string());
    let head = Head::default()
        .field("X-Auth-Token", token.clone())
        .field("Cookie", format!("token={token}"))
        .with_query(format!("token={token}&access_token={token}"));
    assert_eq!(decide(&policy, &head).unwrap_err().fault, Fault::MissingToken);
}

#[test]
fn the_cache_never_outlives_the_token_or_the_policy() {
    for algorithm in ALGORITHMS {
        let policy = policy_of(algorithm);
        let bucket = protected();
        let mut cache = TokenCache::new();
        let claims = json!({"exp": NOW + 100, "nbf": NOW}).to_string();
        let head = Head::bearer(&ours().token(algorithm, &claims));
        let mut at = |now: u64| {
            permit_object(&policy, &(), &bucket, &mut cache, &head, b"a", now)
                .map(|_| ())
                .map_err(|denial| denial.reason)
        };
        assert_eq!(at(NOW), Ok(()));
        assert_eq!(at(NOW + 159), Ok(()));
        assert_eq!(at(NOW + 160), Err(DenialReason::Expired));
        assert_eq!(at(NOW + 160), Err(DenialReason::Expired));
        assert_eq!(at(NOW), Ok(()));
        assert_eq!(at(NOW - 61), Err(DenialReason::NotYetValid), "a clock that went back");

        let rotated = crate::head::policy(&spec(vec![theirs().spec(algorithm, None)]));
        let denial =
            permit_object(&rotated, &(), &bucket, &mut cache, &head, b"a", NOW).unwrap_err();
        assert_eq!(denial.reason, DenialReason::BadSignature, "{algorithm}");
        assert!(cache.is_empty());
    }
}

#[test]
fn tokens_that_are_refused_take_no_place_in_the_cache() {
    let policy = policy_of("HS256");
    let bucket = protected();
    let mut cache = TokenCache::new();
    let mut ask = |token: &str| {
        let head = Head::bearer(token);
        let decision = permit_object(&policy, &(), &bucket, &mut cache, &head, b"a", NOW);
        (decision.is_ok(), cache.len())
    };
    assert_eq!(ask(&ours().token("HS256", &good().to_string())), (true, 1));
    for number in 0..100 {
        let claims = good_with("n", json!(number));
        assert_eq!(ask(&theirs().token("HS256", &claims)), (false, 1));
        let expired = json!({"exp": number}).to_string();
        assert_eq!(ask(&ours().token("HS256", &expired)), (false, 1));
        assert_eq!(ask(&format!("x{number}.y.z")), (false, 1));
    }
}

#[test]
fn a_cached_token_is_still_asked_about_every_bucket_and_key() {
    let mut with_rules = spec(vec![ours().spec("HS256", None)]);
    with_rules.claims = vec![rule("prefixes", "path_prefix", Value::Null)];
    let policy = policy(&with_rules);
    let open = protected();
    let strict = BucketAuth::compile(true, &[rule("role", "equals", json!("editor"))]).0.unwrap();
    let narrow = BucketAuth::compile(true, &[rule("sub", "path_prefix", Value::Null)]).0.unwrap();
    let public = BucketAuth::compile(false, &[]).0.unwrap();
    let claims = good_with("prefixes", json!(["tenant1/", "alice", "shared/eu"]));
    let head = Head::bearer(&ours().token("HS256", &claims));
    let mut cache = TokenCache::new();
    let mut ask = |bucket: &BucketAuth, key: &str| {
        permit_object(&policy, &(), bucket, &mut cache, &head, key.as_bytes(), NOW)
            .map(|permit| permit.key_index())
            .map_err(|denial| (denial.reason, denial.fault.status()))
    };
    let path = Err((DenialReason::Path, 403));
    for _ in 0..2 {
        assert_eq!(ask(&open, "tenant1/a"), Ok(Some(0)));
        assert_eq!(ask(&open, "shared/eu/a"), Ok(Some(0)));
        assert_eq!(ask(&open, "shared/europe"), path);
        assert_eq!(ask(&open, "tenant10/a"), path);
        assert_eq!(ask(&open, "tenant1/../tenant2/a"), path);
        assert_eq!(ask(&open, "a"), path);
        assert_eq!(ask(&open, ""), path);
        assert_eq!(ask(&strict, "tenant1/a"), Err((DenialReason::Claims, 403)));
        assert_eq!(ask(&narrow, "alice/a"), Ok(Some(0)));
        assert_eq!(ask(&narrow, "tenant1/a"), path, "both rules must permit the key");
        assert_eq!(ask(&public, "tenant2/a"), Ok(None));
    }
}

#[test]
fn without_enforcement_buckets_are_public_and_the_admin_api_is_closed() {
    let head = Head::bearer(&ours().token("HS256", &good_with("role", json!("admin"))));
    let off = AuthPolicy::compile(&AuthSpec { enforced: false, ..with_sources() }).0.unwrap();
    for policy in [AuthPolicy::disabled(), off] {
        assert!(!policy.enforced());
        let permit = decide(&policy, &Head::default()).unwrap();
        assert_eq!((permit.subject(), permit.key_index()), (None, None));
        let denial = permit_admin(&policy, &(), &mut TokenCache::new(), &head, NOW).unwrap_err();
        assert_eq!((denial.fault, denial.reason), (Fault::AdminClosed, DenialReason::AdminClosed));
    }
}

#[test]
fn the_admin_api_takes_headers_only_and_asks_its_own_rules() {
    let mut with_rules = with_sources();
    with_rules.claims = vec![rule("prefixes", "path_prefix", Value::Null)];
    let policy = policy(&with_rules);
    let admin = ours().token("HS256", &good_with("role", json!("admin")));
    let user = ours().token("HS256", &good().to_string());
    let mut cache = TokenCache::new();
    let mut ask = |head: Head| {
        permit_admin(&policy, &(), &mut cache, &head, NOW)
            .map(|permit| (permit.subject().map(str::to_owned), permit.key_index()))
            .map_err(|denial| denial.reason)
    };
    let alice = Ok((Some("alice".to_owned()), Some(0)));
    for _ in 0..2 {
        assert_eq!(ask(Head::bearer(&admin)), alice);
        let header = Head::default().field("x-auth-token", format!("JWT {admin}"));
        assert_eq!(ask(header), alice);
        assert_eq!(ask(Head::bearer(&user)), Err(DenialReason::Claims));
        let query = Head::default().with_query(format!("token={admin}"));
        assert_eq!(ask(query), Err(DenialReason::MissingToken));
        let cookie = Head::default().field("Cookie", format!("session={admin}"));
        assert_eq!(ask(cookie), Err(DenialReason::MissingToken));
        let wrong = Head::bearer(&theirs().token("HS256", &good().to_string()));
        assert_eq!(ask(wrong), Err(DenialReason::BadSignature));
    }

    let query_only = AuthSpec {
        sources: vec![TokenSource::Query { name: "token".to_owned() }],
        ..spec(vec![ours().spec("HS256", None)])
    };
    let policy = crate::head::policy(&query_only);
    let by = |head: Head| permit_admin(&policy, &(), &mut TokenCache::new(), &head, NOW).is_ok();
    assert!(by(Head::bearer(&admin)), "bearer is always possible");
    assert!(!by(Head::default().with_query(format!("token={admin}"))));
}

#[test]
fn rotation_shows_which_key_is_still_used() {
    let old = KeySet::generate("old");
    let mut keys = vec![ours().spec("HS256", None), old.spec("RS256", Some("2023"))];
    keys.push(ours().spec("EdDSA", Some("2024")));
    let policy = policy(&spec(keys));
    assert_eq!(policy.key_ids().collect::<Vec<_>>(), ["jwt", "2023", "2024"]);
    let index = |keys: &KeySet, algorithm: &str, id: Option<&str>| {
        let mut header = json!({"alg": algorithm});
        if let Some(id) = id {
            header["kid"] = json!(id);
        }
        let token = keys.token_with(algorithm, &header.to_string(), &good().to_string());
        decide(&policy, &Head::bearer(&token)).unwrap().key_index()
    };
    assert_eq!(index(ours(), "HS256", None), Some(0));
    assert_eq!(index(&old, "RS256", Some("2023")), Some(1));
    assert_eq!(index(ours(), "EdDSA", Some("2024")), Some(2));
}

/// Counts how often it is asked for a query.
struct Watched(Head, RefCell<u32>);

impl TokenCarrier for Watched {
    fn header_values<'a>(&'a self, name_lower: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0.header_values(name_lower)
    }

    fn query(&self) -> Option<&[u8]> {
        *self.1.borrow_mut() += 1;
        self.0.query()
    }
}

#[test]
fn a_public_bucket_and_the_admin_api_never_look_at_the_query() {
    let token = ours().token("HS256", &good().to_string());
    let head = Watched(Head::default().with_query(format!("token={token}")), RefCell::default());
    let policy = policy(&with_sources());
    let public = BucketAuth::compile(false, &[]).0.unwrap();
    let mut cache = TokenCache::new();
    assert!(permit_object(&policy, &(), &public, &mut cache, &head, b"a", NOW).is_ok());
    assert!(permit_admin(&policy, &(), &mut cache, &head, NOW).is_err());
    assert_eq!(*head.1.borrow(), 0);
    assert!(permit_object(&policy, &(), &protected(), &mut cache, &head, b"a", NOW).is_ok());
    assert_eq!(*head.1.borrow(), 1);
}
