//! Where tokens must never be: at S3, in a log, in a response, on the metrics page.

use std::fmt::Write;

use serde_json::json;

use crate::{
    auth::{OTHER_SECRET, claims, claims_with, logged, with_tokens},
    support::{
        config::Config,
        proxy::Proxy,
        scripted_origin::ScriptedOrigin,
        token::{JWT_SECRET, mint, unix_now},
    },
};

/// What a token may be recognised by: its three parts, and the head of each.
fn pieces(token: &str) -> Vec<String> {
    // The header is the same for all tokens of an issuer and no secret, but has no business there.
    token.split('.').flat_map(|part| [part, &part[..16]]).map(str::to_owned).collect()
}

#[test]
fn tokens_of_every_source_stay_here() {
    let origin = ScriptedOrigin::serving("object");
    let config = Config::new()
        .bucket("public", origin.url())
        .bucket("private", origin.url())
        .with_jwt(&["private"])
        .set(
            "jwt.token_sources",
            json!([
                { "type": "bearer" },
                { "type": "header", "name": "X-Auth-Token", "prefix": "Token " },
                { "type": "query", "name": "tok" },
                { "type": "cookie", "name": "session" },
            ]),
        )
        .set("jwt.claims", json!([{ "claim": "role", "operator": "equals", "value": "user" }]))
        .set("logging.level", "trace");
    let proxy = Proxy::start(&config);

    let tokens = [
        (mint(JWT_SECRET, &claims()), 200),
        (mint(JWT_SECRET, &claims_with("exp", unix_now() - 600)), 401),
        (mint(JWT_SECRET, &claims_with("role", "nobody")), 403),
        (mint(OTHER_SECRET, &claims()), 401),
        (
            "thisisnotatokenbutasecret.thisisnotatokenbutasecret.thisisnotatokenbutasecret".into(),
            401,
        ),
    ];
    let mut responses = Vec::new();
    for (token, status) in &tokens {
        for source in 0..4 {
            let mut places = [None; 4];
            places[source] = Some(token.as_str());
            let private = with_tokens(&proxy, "/private/x", &places);
            assert_eq!(private.status, *status, "source {source}");
            // A bucket that needs no token passes none on either, good or bad.
            let public = with_tokens(&proxy, "/public/x", &places);
            assert_eq!((public.status, public.text()), (200, "object"), "source {source}");
            for path in ["/nothing/x", "/public", "/public/%zz", "/admin/status", "/health"] {
                responses.push(with_tokens(&proxy, path, &places));
            }
            responses.extend([private, public]);
        }
        responses.push(with_tokens(&proxy, "/public/x", &[Some(token.as_str()); 4]));
    }
    for response in &responses {
        // So that the line of every request is among what is searched.
        let line = logged(&proxy, response);
        assert!(!line["path"].as_str().unwrap().contains('?'), "{line}");
    }
    let received = origin.received();
    assert_eq!(origin.requests().len(), 4 + 5 * 4 + 5, "what was served was really asked for");
    let (output, metrics) = (proxy.output(), proxy.metrics());
    let mut answered = String::new();
    for response in &responses {
        writeln!(answered, "{response:?} {:?}", response.text()).unwrap();
    }
    for (token, _) in &tokens {
        for piece in pieces(token) {
            for (place, text) in [
                ("S3", &received),
                ("the logs", &output),
                ("a response", &answered),
                ("the metrics", &metrics),
            ] {
                assert!(!text.contains(&piece), "{piece} at {place}");
            }
        }
    }
    for secret in [JWT_SECRET, OTHER_SECRET] {
        assert!(!(received.clone() + &output + &answered + &metrics).contains(secret));
    }
    // Not even the places where they were.
    for name in ["X-Auth-Token", "Cookie", "session", "tok="] {
        assert!(!received.to_ascii_lowercase().contains(&name.to_ascii_lowercase()), "{name}");
    }
    assert!(received.contains("AWS4-HMAC-SHA256"), "the search sees the origin's bytes");
    assert!(output.contains("auth_reason"), "and the logs");
}
