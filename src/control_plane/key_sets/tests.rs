//! Sources whose clock and responses come from the test.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    round::{Known, Validators},
    *,
};
use crate::{
    control_plane::live,
    policy::auth::{
        KeySets as _,
        spec::{AuthSpec, FetchSettings},
    },
    protocol::url::HttpUrl,
    system::clock::CoreClock,
};

const KEYS_URL: &str = "https://id.example/keys";
const ISSUER: &str = "https://id.example";

fn at(seconds: u64) -> Monotonic {
    Monotonic(0).plus(Duration::from_secs(seconds))
}

fn policy(change: impl FnOnce(&mut AuthSpec)) -> AuthPolicy {
    let mut spec = AuthSpec { enforced: true, ..AuthSpec::default() };
    change(&mut spec);
    let (policy, problems) = AuthPolicy::compile(&spec);
    policy.unwrap_or_else(|| panic!("{problems:?}"))
}

fn by_url() -> AuthPolicy {
    policy(|spec| spec.jwks_url = Some(HttpUrl::parse(KEYS_URL).unwrap()))
}

fn by_discovery(issuer: &str) -> AuthPolicy {
    policy(|spec| (spec.issuer, spec.discovery) = (Some(issuer.to_owned()), true))
}

fn source(policy: &AuthPolicy) -> Arc<KeySource> {
    Arc::clone(policy.key_sources().next().unwrap())
}

/// An RSA key that nobody has the private half of.
fn key(kid: &str) -> Value {
    let modulus = [[0xc5; 256].as_slice(), &[1]].concat();
    let (n, e) = (URL_SAFE_NO_PAD.encode(modulus), URL_SAFE_NO_PAD.encode([1, 0, 1]));
    json!({ "kty": "RSA", "kid": kid, "alg": "RS256", "n": n, "e": e })
}

fn set(kids: &[&str]) -> Vec<u8> {
    let keys: Vec<Value> = kids.iter().map(|kid| key(kid)).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}

fn ok(body: impl Into<Vec<u8>>) -> Answer {
    Answer { status: 200, body: body.into(), ..Answer::default() }
}

fn status(status: u16) -> Answer {
    Answer { status, ..Answer::default() }
}

fn tagged(body: Vec<u8>, etag: &str) -> Answer {
    let etag = Some(etag.as_bytes().to_vec());
    Answer { validators: Validators { etag, last_modified: None }, ..ok(body) }
}

/// Plays one round: the URLs that it asks, with their validators, and how it ends.
fn play(
    source: &KeySource,
    known: Option<&Known>,
    answers: Vec<Answer>,
) -> (Vec<Ask>, Result<Next, String>) {
    let (mut round, ask) = Round::begin(source, known);
    let mut asked = vec![ask];
    for answer in answers {
        match round.answer(answer) {
            Ok(Next::Ask(ask)) => asked.push(ask),
            end => return (asked, end),
        }
    }
    panic!("it asks on: {asked:?}")
}

#[track_caller]
fn renewed(end: Result<Next, String>) -> Known {
    match end {
        Ok(Next::Renewed { known, .. }) => known,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_set_is_asked_for_conditionally_and_the_same_keys_stay_the_same_set() {
    let policy = by_url();
    let source = source(&policy);
    let (asked, end) = play(&source, None, vec![tagged(set(&["a"]), "\"1\"")]);
    assert_eq!(
        (asked[0].url.to_string(), &asked[0].validators),
        (KEYS_URL.to_owned(), &Validators::default())
    );
    let first = renewed(end);
    assert_eq!(first.keys.len(), 1);

    let (asked, end) = play(&source, Some(&first), vec![status(304)]);
    assert_eq!(asked[0].validators.etag.as_deref(), Some(&b"\"1\""[..]));
    assert!(matches!(end, Ok(Next::Unchanged { .. })), "{end:?}");

    // A server without conditions, or one that has a new tag for the same bytes.
    let second = renewed(play(&source, Some(&first), vec![tagged(set(&["a"]), "\"2\"")]).1);
    assert_eq!(second.keys.version(), first.keys.version());
    let third = renewed(play(&source, Some(&second), vec![ok(set(&["b"]))]).1);
    assert!(third.keys.version() > second.keys.version());
    let (asked, end) = play(&source, Some(&third), vec![status(304)]);
    assert_eq!(asked[0].validators, Validators::default());
    assert!(end.is_err(), "nobody asked for that: {end:?}");
}

#[test]
fn what_is_no_usable_set_is_refused() {
    let policy = by_url();
    let source = source(&policy);
    let known = renewed(play(&source, None, vec![ok(set(&["a"]))]).1);
    let many: Vec<String> = (0..101).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let secret = URL_SAFE_NO_PAD.encode([9; 64]);
    let secrets = json!({ "keys": [{ "kty": "oct", "alg": "HS256", "kid": "s", "k": secret }] });
    let mut encryption = key("e");
    encryption["use"] = "enc".into();
    let mut long_hash = key("l");
    long_hash["alg"] = "RS512".into();
    for (name, answer) in [
        ("empty body", ok("")),
        ("HTML", ok("<html>log in</html>")),
        ("garbage", ok([0xff; 300])),
        ("a list", ok("[]")),
        ("no keys", ok("{}")),
        ("an empty list", ok(r#"{"keys":[]}"#)),
        ("names twice", ok(r#"{"keys":[],"keys":[]}"#)),
        ("published secrets", ok(secrets.to_string())),
        ("an encryption key", ok(json!({ "keys": [encryption] }).to_string())),
        ("an algorithm that is not configured", ok(json!({ "keys": [long_hash] }).to_string())),
        ("too many keys", ok(set(&many))),
        ("too long", ok(vec![b' '; 300_000])),
        ("moved", status(301)),
        ("found", status(302)),
        ("see other", status(307)),
        ("not modified, unasked", status(304)),
        ("partial", status(206)),
        ("no content", status(204)),
        ("forbidden", status(403)),
        ("gone", status(404)),
        ("too many requests", status(429)),
        ("internal error", status(500)),
        ("unavailable", status(503)),
    ] {
        // Whatever a status says, what comes with it is no set.
        let body = if answer.status == 200 { answer.body } else { set(&["b"]) };
        let (_, end) = play(&source, Some(&known), vec![Answer { body, ..answer }]);
        let why = end.expect_err(name);
        assert!(!why.contains("log in") && !why.contains(&secret), "{name}: {why}");
    }
    // Among good keys the others are named and passed over.
    let mixed = json!({ "keys": [key("a"), { "kty": "new\n", "kid": "\u{1b}n" }] });
    let (_, end) = play(&source, None, vec![ok(mixed.to_string())]);
    let Ok(Next::Renewed { known, unused, .. }) = end else { panic!("{end:?}") };
    let expected = r"the set.keys[1]: is not used (kid \u{1b}n): unsupported kty 'new\n'";
    assert_eq!((known.keys.len(), unused), (1, vec![expected.to_owned()]));
}

#[test]
fn metadata_must_be_the_issuers_and_name_a_protected_place() {
    let document = |issuer: &str, uri: &str| {
        ok(json!({ "issuer": issuer, "jwks_uri": uri, "more": 1 }).to_string())
    };
    let ask = |issuer: &str, answer: Answer| {
        let policy = by_discovery(issuer);
        let source = source(&policy);
        let (mut round, ask) = Round::begin(&source, None);
        let suffix = "/.well-known/openid-configuration";
        let expected = format!("{}{suffix}", issuer.trim_end_matches('/'));
        assert_eq!(format!("{}{}", ask.url.endpoint, ask.url.target), expected);
        match round.answer(answer) {
            Ok(Next::Ask(ask)) => Ok(ask.url.to_string()),
            other => Err(format!("{other:?}")),
        }
    };
    for (issuer, uri) in [
        (ISSUER, "https://id.example/keys"),
        ("https://id.example/", "https://id.example/keys"),
        ("https://id.example/realms/a", "https://cdn.example:8443/keys"),
        ("http://localhost:8080", "http://127.0.0.1:8080/keys"),
        ("http://127.0.0.1:8080", "https://localhost/keys"),
        ("http://[::1]:8080", "https://id.example/keys"),
    ] {
        assert_eq!(ask(issuer, document(issuer, uri)), Ok(uri.to_owned()), "{issuer} {uri}");
    }
    let good = "https://id.example/keys";
    for (name, answer) in [
        ("another issuer", document("https://evil.example", good)),
        ("a slash more", document("https://id.example/", good)),
        ("upper case", document("https://ID.example", good)),
        ("http keys", document(ISSUER, "http://id.example/keys")),
        ("local keys", document(ISSUER, "http://localhost/keys")),
        ("local keys over TLS", document(ISSUER, "https://127.0.0.1/keys")),
        ("a file", document(ISSUER, "file:///etc/passwd")),
        ("relative", document(ISSUER, "/keys")),
        ("a user", document(ISSUER, "https://a:b@id.example/keys")),
        ("no uri", ok(json!({ "issuer": ISSUER }).to_string())),
        ("uri is a list", ok(json!({ "issuer": ISSUER, "jwks_uri": [good] }).to_string())),
        ("no issuer", ok(json!({ "jwks_uri": good }).to_string())),
        (
            "two issuers",
            ok(format!(
                r#"{{"issuer":"https://evil.example","issuer":"{ISSUER}","jwks_uri":"{good}"}}"#
            )),
        ),
        ("HTML", ok("<html>")),
        ("a redirect", status(302)),
        ("an error", status(500)),
        ("not modified", status(304)),
    ] {
        let found = ask(ISSUER, answer);
        assert!(found.is_err_and(|why| !why.contains("evil")), "{name}");
    }
}

proptest! {
    #[test]
    fn no_bytes_of_a_provider_make_it_panic(
        body in prop::collection::vec(any::<u8>(), 0..300),
        text in "[\\[\\]{}:,\"a-z0-9]{0,60}",
        status in 200_u16..600,
    ) {
        for policy in [by_url(), by_discovery(ISSUER)] {
            let source = source(&policy);
            for body in [body.clone(), text.clone().into_bytes(), format!("{{\"keys\":[{text}]}}").into()] {
                let (mut round, _) = Round::begin(&source, None);
                let _ = round.answer(Answer { status, body, ..Answer::default() });
            }
        }
    }
}

#[test]
fn keys_that_move_are_asked_for_anew() {
    let policy = by_discovery(ISSUER);
    let source = source(&policy);
    let document = |uri: &str| ok(json!({ "issuer": ISSUER, "jwks_uri": uri }).to_string());
    let (asked, end) =
        play(&source, None, vec![document("https://id.example/1"), tagged(set(&["a"]), "\"1\"")]);
    assert_eq!(asked.len(), 2);
    let known = renewed(end);
    let (asked, end) =
        play(&source, Some(&known), vec![document("https://id.example/1"), status(304)]);
    assert!(asked[1].validators.etag.is_some() && matches!(end, Ok(Next::Unchanged { .. })));
    let (asked, end) =
        play(&source, Some(&known), vec![document("https://id.example/2"), ok(set(&["a"]))]);
    assert_eq!(asked[1].validators, Validators::default());
    assert_ne!(renewed(end).keys.version(), known.keys.version());
}

fn known(policy: &AuthPolicy, kids: &[&str]) -> Known {
    renewed(play(&source(policy), None, vec![ok(set(kids))]).1)
}

#[test]
fn the_last_good_set_serves_until_it_is_too_old_and_comes_back() {
    let (refresh, max_stale) = (Duration::from_secs(100), Duration::from_secs(400));
    let policy = policy(|spec| {
        spec.jwks_url = Some(HttpUrl::parse(KEYS_URL).unwrap());
        spec.fetch = FetchSettings { refresh, max_stale, ca: None };
    });
    let source = source(&policy);
    let id = &source.id;
    let mut book = Book::default();
    book.add(policy.key_sources(), at(0));
    assert_eq!(book.missing(policy.key_sources()).len(), 1);
    assert!(book.begin(at(0)).is_some() && book.begin(at(0)).is_none(), "one at a time");
    let change = book.end(id, Ended::Renewed(known(&policy, &["a"]), None), at(1), 0).unwrap();
    let served = change.keys.unwrap();
    let version = served.keys.version();
    assert_eq!(served.good_until.get(), at(401));
    assert!(book.missing(policy.key_sources()).is_empty());

    // It fails from now on, and is asked again and again.
    let mut now = 1;
    let mut failures = 0;
    while book.expire(at(now)).is_empty() {
        if book.begin(at(now)).is_some() {
            assert!(book.end(id, Ended::Failed("down".to_owned()), at(now), 0).is_none());
            failures += 1;
        }
        let state = &book.status(policy.key_sources(), at(now))[0];
        assert_eq!(state.set, Some((version, 1)), "{now}");
        now += 1;
        assert!(now < 1_000, "it is never too old");
    }
    assert_eq!(now, 401);
    assert!(failures > 15, "{failures}");
    let state = &book.status(policy.key_sources(), at(now))[0];
    assert_eq!((state.set, state.last_error.as_deref()), (None, Some("down")));
    assert_eq!(state.results, Results { renewed: 1, unchanged: 0, failed: failures });
    assert!(book.expire(at(now)).is_empty(), "once");

    // The provider is back, with the same keys.
    while book.begin(at(now)).is_none() {
        now += 1;
    }
    let change = book.end(id, Ended::Unchanged(None), at(now), 0).unwrap();
    assert_eq!(change.keys.unwrap().keys.version(), version);
    assert_eq!(served.good_until.get(), at(now + 400));
    // One that is confirmed is no news, and lasts longer all the same.
    book.begin(at(now + 100)).unwrap();
    assert!(book.end(id, Ended::Unchanged(None), at(now + 101), 0).is_none());
    assert_eq!(served.good_until.get(), at(now + 501));
    assert_eq!(book.status(policy.key_sources(), at(now))[0].last_error, None);
}

#[test]
fn only_another_set_is_news_and_a_source_that_is_gone_takes_its_set_along() {
    let policy = by_url();
    let source = source(&policy);
    let mut book = Book::default();
    book.add(policy.key_sources(), at(0));
    let first = known(&policy, &["a"]);
    let mut end = |ended| {
        book.begin(at(0));
        book.end(&source.id, ended, at(0), 0).is_some()
    };
    assert!(end(Ended::Renewed(first.clone(), None)));
    assert!(!end(Ended::Renewed(first, None)), "the same");
    assert!(!end(Ended::Unchanged(None)));
    assert!(end(Ended::Renewed(known(&policy, &["b"]), None)));
    // The same source again, as a reload names it.
    book.add(policy.key_sources(), at(1));
    assert!(book.missing(policy.key_sources()).is_empty());
    let other = by_discovery(ISSUER);
    assert_ne!(self::source(&other).id, source.id);
    book.add(other.key_sources(), at(1));
    assert!(book.keep(policy.key_sources().chain(other.key_sources())).is_empty());
    let gone = book.keep(other.key_sources());
    assert!(gone.len() == 1 && gone[0].keys.is_none() && gone[0].id == source.id);
    assert!(book.end(&source.id, Ended::Unchanged(None), at(2), 0).is_none(), "too late");
}

#[test]
fn times_that_are_only_prepared_change_nothing_and_those_that_run_do() {
    let with = |max_stale| {
        policy(|spec| {
            spec.jwks_url = Some(HttpUrl::parse(KEYS_URL).unwrap());
            spec.fetch.max_stale = Duration::from_secs(max_stale);
        })
    };
    let (running, prepared) = (with(400), with(100));
    let mut book = Book::default();
    book.add(running.key_sources(), at(0));
    book.begin(at(0));
    let ended = Ended::Renewed(known(&running, &["a"]), None);
    let served = book.end(&source(&running).id, ended, at(0), 0).unwrap().keys.unwrap();
    let stale_in = |book: &Book| {
        book.status(running.key_sources(), at(1))[0].stale_in.map(|time| time.as_secs())
    };
    book.add(prepared.key_sources(), at(1));
    assert_eq!(stale_in(&book), Some(399), "a dry run");
    book.take_times(running.key_sources(), at(1));
    assert!(book.keep(running.key_sources()).is_empty());
    assert_eq!(stale_in(&book), Some(399));
    book.take_times(prepared.key_sources(), at(1));
    assert_eq!(stale_in(&book), Some(99), "adopted");
    assert_eq!(served.good_until.get(), at(100));
}

/// A fetcher that takes its answers from a list; when it is empty, the provider is down.
fn fetcher(answers: Vec<Answer>) -> (KeyFetcher, LiveValues, Arc<AtomicUsize>) {
    let (live, _bell) = live::start();
    let (answers, asked) = (Mutex::new(VecDeque::from(answers)), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&asked);
    let fetcher = start_with(live.clone(), move |_, _, _| {
        count.fetch_add(1, Ordering::SeqCst);
        answers.lock().unwrap().pop_front().ok_or_else(|| "down".to_owned())
    });
    (fetcher, live, asked)
}

#[track_caller]
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Monotonic::now().plus(Duration::from_secs(30));
    while !condition() {
        assert!(Monotonic::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn new_sets_are_waited_for_and_reach_the_live_values() {
    let policy = by_url();
    let id = Arc::clone(&source(&policy).id);
    let (fetcher, live, asked) = fetcher(vec![ok(set(&["a"])), ok(set(&["b"]))]);
    assert_eq!(fetcher.learn(&AuthPolicy::disabled(), Duration::from_secs(30)), [""; 0]);
    assert_eq!(asked.load(Ordering::SeqCst), 0);
    assert_eq!(fetcher.learn(&policy, Duration::from_secs(30)), [""; 0]);
    let first = live.newest();
    let version = first.key_set(&id).unwrap().keys.version();
    assert_eq!(fetcher.status(&policy)[0].live_version, first.version());
    // What is known already is not asked for again.
    assert_eq!(fetcher.learn(&policy, Duration::from_secs(30)), [""; 0]);
    assert_eq!(asked.load(Ordering::SeqCst), 1);

    assert_eq!(fetcher.demand(&policy), [Box::from("jwt")]);
    until("the next set", || live.newest().key_set(&id).unwrap().keys.version() != version);
    assert!(live.newest().version() > first.version());
    assert_eq!(
        first.key_set(&id).unwrap().keys.version(),
        version,
        "a table that was handed out stays"
    );

    // Down: the set stays, and so does the table.
    let second = live.newest().version();
    fetcher.demand(&policy);
    until("a failure", || fetcher.status(&policy)[0].results.failed > 0);
    assert_eq!(live.newest().version(), second);
    fetcher.keep(&AuthPolicy::disabled());
    assert!(live.newest().key_set(&id).is_none() && fetcher.status(&policy).is_empty());
}

#[test]
fn a_provider_that_is_down_is_a_warning_that_names_it() {
    let policy = by_url();
    let (fetcher, live, asked) = fetcher(Vec::new());
    let warnings = fetcher.learn(&policy, Duration::ZERO);
    assert!(warnings.len() == 1 && warnings[0].contains("provider 'jwt'"), "{warnings:?}");
    until("another try", || asked.load(Ordering::SeqCst) > 1);
    let warnings = fetcher.learn(&policy, Duration::ZERO);
    assert!(warnings[0].contains("(down)"), "{warnings:?}");
    assert!(live.newest().key_set(&source(&policy).id).is_none());
}

#[test]
fn a_renewal_that_panics_has_failed_and_is_tried_again() {
    let policy = by_url();
    let (live, _bell) = live::start();
    let asked = AtomicUsize::new(0);
    let fetcher = start_with(live, move |_, _, _| {
        assert!(asked.fetch_add(1, Ordering::SeqCst) > 0, "this one is meant to fail");
        Ok(ok(set(&["a"])))
    });
    assert_eq!(fetcher.learn(&policy, Duration::from_secs(30)), [""; 0]);
    assert_eq!(fetcher.status(&policy)[0].results.failed, 1);
}

/// Whatever holds the fetcher up: a core looks at the end of a set itself.
#[test]
fn a_set_ends_for_the_cores_while_its_renewal_hangs() {
    let policy = policy(|spec| {
        spec.jwks_url = Some(HttpUrl::parse(KEYS_URL).unwrap());
        spec.fetch.max_stale = Duration::from_secs(1);
    });
    let id = Arc::clone(&source(&policy).id);
    let (live, _bell) = live::start();
    let (release, held) = crossbeam_channel::bounded::<()>(0);
    let asked = AtomicUsize::new(0);
    let fetcher = start_with(live.clone(), move |_, _, _| {
        if asked.fetch_add(1, Ordering::SeqCst) > 0 {
            let _ = held.recv();
        }
        Ok(ok(set(&["a"])))
    });
    assert_eq!(fetcher.learn(&policy, Duration::from_secs(30)), [""; 0]);
    let (table, clock) = (live.newest(), CoreClock::default());
    until("the end", || {
        clock.refresh();
        table.good_keys(&clock).key_set(&id).is_none()
    });
    assert!(live.newest().key_set(&id).is_some(), "nobody took it away");
    assert_eq!(fetcher.status(&policy)[0].results.renewed, 1, "the next one hangs");
    drop(release);
    until("the set again", || {
        clock.refresh();
        live.newest().good_keys(&clock).key_set(&id).is_some()
    });
}
