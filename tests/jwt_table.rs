//! Tokens, good and bad, each with the decision that it must get. Every case runs twice,
//! with an empty cache and with what the first run left in it, and must end the same.

#![expect(clippy::unwrap_used, reason = "a test stops where its set-up fails")]

#[path = "jwt_table/configuration.rs"]
mod configuration;
#[path = "jwt_table/contents.rs"]
mod contents;
#[path = "jwt_table/head.rs"]
mod head;
#[path = "jwt_table/keys.rs"]
mod keys;
#[path = "jwt_table/providers.rs"]
mod providers;
#[path = "jwt_table/requests.rs"]
mod requests;

use std::sync::OnceLock;

use head::{Head, NOW, decide, policy, protected};
use keys::{ALGORITHMS, KeySet, encode, mac};
use serde_json::{Value, json};
use yatagarasu::{
    model::Fault,
    policy::auth::{
        AuthPolicy, BucketAuth, DenialReason, TokenCache, permit_object,
        spec::{AuthSpec, KeySpec},
    },
};

/// Keys that the policies know.
fn ours() -> &'static KeySet {
    static KEYS: OnceLock<KeySet> = OnceLock::new();
    KEYS.get_or_init(|| KeySet::generate("ours"))
}

/// Keys that they do not know.
fn theirs() -> &'static KeySet {
    static KEYS: OnceLock<KeySet> = OnceLock::new();
    KEYS.get_or_init(|| KeySet::generate("theirs"))
}

fn spec(keys: Vec<KeySpec>) -> AuthSpec {
    AuthSpec { enforced: true, keys, ..AuthSpec::default() }
}

fn policy_of(algorithm: &str) -> AuthPolicy {
    policy(&spec(vec![ours().spec(algorithm, None)]))
}

/// Claims that every policy here likes.
fn good() -> Value {
    json!({"sub": "alice", "exp": NOW + 600, "role": "user"})
}

fn good_with(name: &str, value: Value) -> String {
    let mut claims = good();
    claims[name] = value;
    claims.to_string()
}

/// Cases under one policy.
struct Table {
    policy: AuthPolicy,
    bucket: BucketAuth,
    cases: usize,
}

impl Table {
    fn new(policy: AuthPolicy) -> Self {
        Self { policy, bucket: protected(), cases: 0 }
    }

    fn case(&mut self, name: impl AsRef<str>, token: &str, expected: Result<(), DenialReason>) {
        let name = name.as_ref();
        let head = Head::bearer(token);
        let mut cache = TokenCache::new();
        for run in ["cold", "again"] {
            let decision =
                permit_object(&self.policy, &(), &self.bucket, &mut cache, &head, b"a", NOW);
            assert_eq!(
                decision.map(|_| ()).map_err(|denial| denial.reason),
                expected,
                "{name} ({run}): {token:.300}"
            );
        }
        assert_eq!(cache.is_empty(), expected.is_err() && !is_about_claims(expected), "{name}");
        self.cases += 1;
    }

    fn refused(&mut self, name: impl AsRef<str>, token: &str, reason: DenialReason) {
        self.case(name, token, Err(reason));
    }

    fn permitted(&mut self, name: impl AsRef<str>, token: &str) {
        self.case(name, token, Ok(()));
    }
}

/// Whether the token itself was good.
fn is_about_claims(result: Result<(), DenialReason>) -> bool {
    matches!(result, Err(DenialReason::Claims | DenialReason::Path))
}

#[test]
fn every_algorithm_accepts_its_own_key_only() {
    let mut cases = 0;
    for algorithm in ALGORITHMS {
        let mut table = Table::new(policy_of(algorithm));
        let token = ours().token(algorithm, &good().to_string());
        table.permitted(algorithm, &token);
        let foreign = theirs().token(algorithm, &good().to_string());
        table.refused("another key", &foreign, DenialReason::BadSignature);

        let parts: Vec<_> = token.split('.').collect();
        let forged = encode(good_with("role", json!("admin")));
        let swapped = format!("{}.{forged}.{}", parts[0], parts[2]);
        table.refused("payload of another", &swapped, DenialReason::BadSignature);
        let header = encode(format!(r#"{{"alg":"{algorithm}","typ":"at+jwt"}}"#));
        let swapped = format!("{header}.{}.{}", parts[1], parts[2]);
        table.refused("header of another", &swapped, DenialReason::BadSignature);

        let signature = ours().sign(algorithm, format!("{}.{}", parts[0], parts[1]).as_bytes());
        let with = |signature: &[u8]| format!("{}.{}.{}", parts[0], parts[1], encode(signature));
        let mut flipped = signature.clone();
        flipped[5] ^= 1;
        for (name, bytes) in [
            ("one bit flipped", flipped),
            ("truncated signature", signature[..signature.len() - 1].to_vec()),
            ("one byte of signature", signature[..1].to_vec()),
            ("extended signature", [signature.as_slice(), &[0]].concat()),
            ("zero signature", vec![0; signature.len()]),
        ] {
            table.refused(
                format!("{algorithm}: {name}"),
                &with(&bytes),
                DenialReason::BadSignature,
            );
        }
        table.refused(
            "no signature",
            &format!("{}.{}.", parts[0], parts[1]),
            DenialReason::Malformed,
        );
        cases += table.cases;
    }
    assert_eq!(cases, ALGORITHMS.len() * 10);
}

#[test]
fn no_algorithm_passes_for_another() {
    for expected in ALGORITHMS {
        let mut table = Table::new(policy_of(expected));
        for other in ALGORITHMS.into_iter().filter(|other| *other != expected) {
            let claims = good().to_string();
            table.refused(
                format!("{other} for {expected}"),
                &ours().token(other, &claims),
                DenialReason::BadAlgorithm,
            );
            let lying = format!(r#"{{"alg":"{expected}"}}"#);
            table.refused(
                format!("{other} that says {expected}"),
                &ours().token_with(other, &lying, &claims),
                DenialReason::BadSignature,
            );
        }
        assert_eq!(table.cases, 22);
    }
}

#[test]
fn none_is_refused_in_any_spelling() {
    for key in ["HS256", "RS256", "ES256", "EdDSA"] {
        let mut table = Table::new(policy_of(key));
        for name in ["none", "None", "NONE", "nOnE", " none", "none\\u0000", ""] {
            let header = format!(r#"{{"alg":"{name}"}}"#);
            let signed = format!("{}.{}", encode(&header), encode(good().to_string()));
            table.refused(name, &format!("{signed}."), DenialReason::Malformed);
            table.refused(name, &signed, DenialReason::Malformed);
            table.refused(name, &format!("{signed}.AAAA"), DenialReason::BadAlgorithm);
            let signature = encode(ours().sign(key, signed.as_bytes()));
            table.refused(name, &format!("{signed}.{signature}"), DenialReason::BadAlgorithm);
        }
    }
}

#[test]
fn a_public_key_is_not_an_hmac_secret() {
    for algorithm in ["RS256", "PS256", "ES256", "ES384", "EdDSA"] {
        let mut table = Table::new(policy_of(algorithm));
        let pem = ours().pem(algorithm);
        let text = String::from_utf8(pem.clone()).unwrap();
        for secret in
            [pem.as_slice(), text.trim_end().as_bytes(), text.replace('\n', "").as_bytes()]
        {
            for header in [r#"{"alg":"HS256"}"#.to_owned(), format!(r#"{{"alg":"{algorithm}"}}"#)] {
                let signed = format!("{}.{}", encode(&header), encode(good().to_string()));
                let tag = mac(aws_lc_rs::hmac::HMAC_SHA256, secret, signed.as_bytes());
                let reason = if header.contains("HS256") {
                    DenialReason::BadAlgorithm
                } else {
                    DenialReason::BadSignature
                };
                table.refused(algorithm, &format!("{signed}.{}", encode(tag)), reason);
            }
        }
    }
}

#[test]
fn the_form_is_exact() {
    let mut table = Table::new(policy_of("HS256"));
    let token = ours().token("HS256", &good().to_string());
    let [header, payload, signature] = token.split('.').collect::<Vec<_>>()[..] else {
        panic!("{token}")
    };
    // 32 bytes of signature end in a character of which two bits are unused; the header's length
    // is chosen so that it has such bits too.
    let next = |part: &str| {
        let last = part.chars().last().unwrap();
        let next = char::from(u8::try_from(u32::from(last) + 1).unwrap());
        format!("{}{next}", &part[..part.len() - 1])
    };
    let malformed = [
        ("empty", String::new()),
        ("one part", header.to_owned()),
        ("two parts", format!("{header}.{payload}")),
        ("four parts", format!("{token}.AAAA")),
        ("five parts", format!("{token}.AAAA.AAAA")),
        ("dots only", "..".to_owned()),
        ("leading dot", format!(".{token}")),
        ("trailing dot", format!("{token}.")),
        ("no header", format!(".{payload}.{signature}")),
        ("no payload", format!("{header}..{signature}")),
        ("no signature", format!("{header}.{payload}.")),
        ("padded signature", format!("{token}=")),
        ("padded header", format!("{header}=.{payload}.{signature}")),
        ("padded payload", format!("{header}.{payload}==.{signature}")),
        ("trailing bits", format!("{header}.{payload}.{}", next(signature))),
        ("length 4n+1", format!("{header}.{payload}.{signature}AA")),
        ("standard alphabet +", format!("{header}.{payload}.{}+/", &signature[..41])),
        ("space inside", format!("{header}.{payload}.{} {}", &signature[..20], &signature[20..])),
        ("space in front", format!("{header}. {payload}.{signature}")),
        ("space behind", format!("{token} ")),
        ("line feed", format!("{header}\n.{payload}.{signature}")),
        ("quote", format!("\"{token}\"")),
        ("comma list", format!("{token},{token}")),
        ("two tokens", format!("{token} {token}")),
        ("percent", token.replacen('.', "%2E", 1)),
        ("unicode", format!("{token}é")),
        ("nul", format!("{token}\0")),
        ("header not JSON", format!("{}.{payload}.{signature}", encode("x"))),
        ("header a list", format!("{}.{payload}.{signature}", encode("[]"))),
        ("header a string", format!("{}.{payload}.{signature}", encode("\"HS256\""))),
        ("header without alg", format!("{}.{payload}.{signature}", encode("{}"))),
        ("header with two", format!("{}.{payload}.{signature}", encode("{}{}"))),
        ("not UTF-8", format!("{}.{payload}.{signature}", encode(b"{\"alg\":\"HS256\xff\"}"))),
    ];
    for (name, token) in &malformed {
        table.refused(*name, token, DenialReason::Malformed);
    }
    for (name, header) in [
        ("alg a number", r#"{"alg":256}"#),
        ("alg a list", r#"{"alg":["HS256"]}"#),
        ("alg null", r#"{"alg":null}"#),
        ("alg twice", r#"{"alg":"HS256","alg":"HS256"}"#),
        ("alg twice, once none", r#"{"alg":"none","alg":"HS256"}"#),
        ("alg twice, escaped", r#"{"alg":"HS256","\u0061lg":"none"}"#),
        ("kid twice", r#"{"alg":"HS256","kid":"a","kid":"b"}"#),
        ("kid a number", r#"{"alg":"HS256","kid":1}"#),
        ("kid null", r#"{"alg":"HS256","kid":null}"#),
        ("kid a list", r#"{"alg":"HS256","kid":["a"]}"#),
        ("anything twice", r#"{"alg":"HS256","x":{"y":1,"y":1}}"#),
    ] {
        let token = ours().token_with("HS256", header, &good().to_string());
        table.refused(name, &token, DenialReason::Malformed);
    }
    for header in [r#"{"alg":"hs256"}"#, r#"{"alg":"HS256 "}"#, r#"{"alg":"HS-256"}"#] {
        let token = ours().token_with("HS256", header, &good().to_string());
        table.refused(header, &token, DenialReason::BadAlgorithm);
    }
    assert_eq!(table.cases, malformed.len() + 14);
}

#[test]
fn size_is_bounded_before_anything_else() {
    let mut table = Table::new(policy_of("HS256"));
    let of_length = |wanted: usize| {
        let bare = ours().token("HS256", &good_with("x", json!("")));
        let text = "x".repeat((wanted - bare.len()) * 3 / 4);
        ours().token("HS256", &good_with("x", json!(text)))
    };
    let longest = of_length(8_192);
    assert!((8_188..=8_192).contains(&longest.len()), "{}", longest.len());
    table.permitted("8 KiB", &longest);
    table.refused("over 8 KiB", &of_length(8_200), DenialReason::TooLong);
    table.refused("64 KiB, valid", &of_length(65_536), DenialReason::TooLong);
    table.refused("64 KiB of dots", &".".repeat(65_536), DenialReason::TooLong);
    table.refused("64 KiB of A", &"A".repeat(65_536), DenialReason::TooLong);
    let deep = format!(r#"{{"exp":{},"x":{}{}}}"#, NOW + 9, "[".repeat(1_000), "]".repeat(1_000));
    table.refused("deep", &ours().token("HS256", &deep), DenialReason::Malformed);
}

#[test]
fn payloads_are_objects_without_duplicates() {
    let mut table = Table::new(policy_of("HS256"));
    let exp = NOW + 600;
    for payload in [
        "null".to_owned(),
        "[]".to_owned(),
        "\"x\"".to_owned(),
        "1".to_owned(),
        " ".to_owned(),
        "{".to_owned(),
        format!(r#"{{"exp":{exp}}} x"#),
        format!(r#"{{"exp":{exp},}}"#),
        format!(r#"{{"exp":1,"exp":{exp}}}"#),
        format!(r#"{{"exp":{exp},"exp":{exp}}}"#),
        format!(r#"{{"exp":{exp},"role":"user","role":"admin"}}"#),
        format!(r#"{{"exp":{exp},"role":"user","\u0072ole":"admin"}}"#),
        format!(r#"{{"exp":{exp},"a":{{"b":1,"b":2}}}}"#),
        format!(r#"{{"exp":{exp},"x":1e400}}"#),
        r#"{"exp":1e400}"#.to_owned(),
        r#"{"exp":NaN}"#.to_owned(),
        r#"{"exp":Infinity}"#.to_owned(),
        r#"{"exp":0x7fffffff}"#.to_owned(),
        r#"{"exp":+9999999999}"#.to_owned(),
        r#"{"exp":09999999999}"#.to_owned(),
    ] {
        table.refused(&payload, &ours().token("HS256", &payload), DenialReason::Malformed);
    }
}

#[test]
fn headers_that_bring_a_key_change_nothing() {
    let mut table = Table::new(policy_of("RS256"));
    let pem = String::from_utf8(theirs().pem("RS256")).unwrap();
    for extra in [
        r#""jku":"https://attacker.example/jwks.json""#.to_owned(),
        r#""x5u":"https://attacker.example/cert.pem""#.to_owned(),
        r#""jwk":{"kty":"oct","k":"AAAA"}"#.to_owned(),
        format!(r#""x5c":[{}]"#, json!(pem)),
        r#""x5t":"AAAA","x5t#S256":"AAAA""#.to_owned(),
        r#""jku":1,"jwk":2,"x5u":3,"x5c":4"#.to_owned(),
        r#""typ":"at+jwt","cty":"JWT","zip":"DEF""#.to_owned(),
    ] {
        let header = format!(r#"{{"alg":"RS256",{extra}}}"#);
        let token = |keys: &KeySet| keys.token_with("RS256", &header, &good().to_string());
        table.refused(&extra, &token(theirs()), DenialReason::BadSignature);
        table.permitted(&extra, &token(ours()));
    }
    for crit in [r#"["b64"]"#, r#"["exp"]"#, r#"["http://x"]"#, "[]", "null", "\"alg\"", "{}"] {
        let header = format!(r#"{{"alg":"RS256","b64":false,"crit":{crit}}}"#);
        let token = ours().token_with("RS256", &header, &good().to_string());
        table.refused(crit, &token, DenialReason::Critical);
    }
}

#[test]
fn clients_are_told_the_class_only() {
    let policy = policy_of("HS256");
    let fault = |head: &Head| decide(&policy, head).unwrap_err().fault;
    let texts = |token: &str| fault(&Head::bearer(token)).message();
    assert_eq!(fault(&Head::default()), Fault::MissingToken);
    assert_eq!(fault(&Head::default()).message(), "Authentication required: Missing token");
    let invalid = "Authentication failed: Invalid token";
    assert_eq!(texts("x"), invalid);
    assert_eq!(texts(&theirs().token("HS256", &good().to_string())), invalid);
    assert_eq!(texts(&theirs().token("HS256", &good_with("exp", json!(1)))), invalid);
    let expired = texts(&ours().token("HS256", &good_with("exp", json!(1))));
    assert_eq!(expired, "Authentication failed: Token expired");
    let early = texts(&ours().token("HS256", &good_with("nbf", json!(NOW + 900))));
    assert_eq!(early, "Authentication failed: Token not yet valid");
}

#[test]
fn a_subject_is_named_only_when_its_signature_is_good() {
    let policy = policy_of("HS256");
    let subject = |token: &str| match decide(&policy, &Head::bearer(token)) {
        Ok(permit) => permit.subject().map(str::to_owned),
        Err(denial) => denial.subject.as_deref().map(str::to_owned),
    };
    let alice = Some("alice".to_owned());
    assert_eq!(subject(&ours().token("HS256", &good().to_string())), alice);
    assert_eq!(subject(&ours().token("HS256", &good_with("exp", json!(1)))), alice);
    assert_eq!(subject(&theirs().token("HS256", &good().to_string())), None);
    assert_eq!(subject(&ours().token("HS256", &good_with("sub", json!(5)))), None);
}
