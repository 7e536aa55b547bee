//! What authentication costs a request: a token verified for the first time, and the same token
//! recognised in the core's cache, for each algorithm; and a token that is refused.

#![expect(clippy::unwrap_used, reason = "a benchmark stops where its set-up fails")]

#[path = "../tests/jwt_table/head.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
mod head;
#[path = "../tests/jwt_table/keys.rs"]
#[expect(dead_code, reason = "shared with the tests, which use more of it")]
mod keys;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use head::{Head, NOW, policy, protected};
use keys::{ALGORITHMS, KeySet};
use yatagarasu::policy::auth::{
    TokenCache, permit_object,
    spec::{AuthSpec, ClaimSpec},
};

fn verify(criterion: &mut Criterion) {
    let keys = KeySet::generate("bench");
    let strangers = KeySet::generate("strangers");
    let bucket = protected();
    let claims = format!(
        r#"{{"iss":"https://id.example.com/","sub":"alice@example.com","aud":"files","exp":{},"nbf":{NOW},"iat":{NOW},"role":"user","prefixes":["tenant1/"]}}"#,
        NOW + 600
    );
    let rule = |claim: &str, operator: &str, value| ClaimSpec {
        path: "jwt.claims".to_owned(),
        claim: claim.to_owned(),
        operator: operator.to_owned(),
        value,
    };
    for algorithm in ALGORITHMS {
        let policy = policy(&AuthSpec {
            enforced: true,
            keys: vec![keys.spec(algorithm, None)],
            issuer: Some("https://id.example.com/".to_owned()),
            audience: vec!["files".to_owned()],
            claims: vec![
                rule("role", "equals", "user".into()),
                rule("prefixes", "path_prefix", serde_json::Value::Null),
            ],
            ..AuthSpec::default()
        });
        let token = keys.token(algorithm, &claims);
        let head = Head::bearer(&token);
        let ask = |cache: &mut TokenCache, head: &Head| {
            permit_object(&policy, &(), &bucket, cache, black_box(head), b"tenant1/a.jpg", NOW)
        };
        let mut group = criterion.benchmark_group(algorithm);
        group.bench_function("cold", |bencher| {
            bencher.iter(|| ask(&mut TokenCache::new(), &head).unwrap());
        });
        let mut cache = TokenCache::new();
        group.bench_function("cached", |bencher| {
            bencher.iter(|| ask(&mut cache, &head).unwrap());
        });
        let forged = Head::bearer(&strangers.token(algorithm, &claims));
        group.bench_function("refused", |bencher| {
            bencher.iter(|| ask(&mut cache, &forged).unwrap_err());
        });
        group.finish();
    }
}

criterion_group!(benches, verify);
criterion_main!(benches);
