//! Reloads under load, and very many of them.

#[path = "../../loadtest/reload/scenario.rs"]
mod scenario;

use std::{
    env,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use serde_json::json;

use crate::support::{
    config::Config,
    gate::Gate,
    load::FastOrigin,
    proxy::{Launch, Proxy},
    raw_client::request_bytes,
    reload::{Done, config, counts, post},
    scripted_origin::ScriptedOrigin,
    token::{self, bearer},
};

/// Also with large bodies, rotated secrets, tokens and moving prefixes.
#[test]
fn fifty_reloads_that_change_everything_lose_nothing() {
    let outcome = scenario::run(Launch::new(), 50);
    assert!(outcome.small >= 50 * 4 && outcome.large >= 1, "{outcome:?}");
}

/// Buckets of the configuration that is reloaded very often.
const BUCKETS: usize = 1_000;

/// Reloads in the short form. `YATAGARASU_RELOADS=10000` asks for the long one.
const RELOADS: usize = 80;

/// What resident memory may grow by from one quarter of the reloads to the end, in KiB: less than
/// one snapshot of a thousand buckets for every ten reloads of the short form.
const GROWTH_KIB_MAX: u64 = 16 * 1_024;

fn thousand(url: &str, number: usize) -> Config {
    (0..BUCKETS)
        .fold(Config::new(), |config, bucket| {
            let name = format!("bucket-{bucket}");
            let secret = format!("secret key {number} of bucket {bucket}");
            config.bucket_with_keys(&name, url, "AKIDTHOUSAND", &secret)
        })
        .with_jwt(&["bucket-500"])
        .set("server.threads", 2)
        .set("metrics.per_bucket", false)
}

/// Bytes of a token's subject in the load beside very many reloads.
const SUBJECT_BYTES: usize = 4_000;

/// Tokens of each client there.
const TOKENS: usize = 64;

/// Generations are freed when nobody uses them any more, and with them their caches of tokens.
#[test]
fn memory_reaches_a_plateau_under_very_many_reloads() {
    let reloads = env::var("YATAGARASU_RELOADS").map_or(RELOADS, |text| text.parse().unwrap());
    let origin = FastOrigin::start(b"x");
    let proxy = Launch::new().in_own_session().config(&thousand(&origin.url(), 0)).start();
    // Each is new to the caches of a generation. However long one lasts, they stay small.
    let tokens: [Vec<String>; 2] = std::array::from_fn(|client| {
        let token = |number| {
            let subject = format!("{client} {number} {}", "s".repeat(SUBJECT_BYTES));
            let claims = json!({ "sub": subject, "exp": token::unix_now() + 36_000 });
            bearer(&token::mint(token::JWT_SECRET, &claims))
        };
        (0..TOKENS).map(token).collect()
    });
    let done = AtomicBool::new(false);
    let (early, late) = thread::scope(|scope| {
        for tokens in &tokens {
            let (proxy, done) = (&proxy, &done);
            scope.spawn(move || {
                let mut client = proxy.client();
                for bearing in tokens.iter().cycle() {
                    if done.load(Ordering::SeqCst) {
                        return;
                    }
                    let fields = [("Authorization", bearing.as_str())];
                    assert_eq!(client.request("GET", "/bucket-500/x", &fields).status, 200);
                }
            });
        }
        let _done = Done(&done);
        let mut early = 0;
        for number in 1..=reloads {
            proxy.write_config(&thousand(&origin.url(), number));
            let response = post(&proxy, "/admin/reload", &[]);
            assert_eq!(response.status, 200, "{response:?}");
            if number == reloads / 4 {
                early = proxy.rss_kib();
            }
        }
        (early, proxy.rss_kib())
    });
    assert!(late <= early + GROWTH_KIB_MAX, "resident: {early} KiB, then {late} KiB");
    assert_eq!(counts(&proxy), (reloads, 0));
}

/// A response that began in a generation is finished with it.
#[test]
fn a_large_body_of_a_removed_bucket_arrives_whole() {
    const PIECE: usize = 1_000_003;
    let gate = Gate::default();
    let held = gate.clone();
    let piece = |number: u8| {
        (0..=252_u8).cycle().take(PIECE).map(|byte| byte ^ number).collect::<Vec<u8>>()
    };
    let origin = ScriptedOrigin::start(move |conn, _| {
        conn.expect_request();
        conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 20 * PIECE));
        for number in 0..20 {
            if number == 1 {
                conn.wait(&held);
            }
            conn.send(piece(number));
        }
    });
    let other = ScriptedOrigin::serving("x");
    let with = config(&other).bucket("doomed", origin.url()).with_jwt(&[]);
    let proxy = Proxy::start(&with);
    let mut client = proxy.client();
    client.send(request_bytes("GET", "/doomed/x", &[]));
    let response = client.head("GET").unwrap();
    // Not only its bucket goes: so do the secret and the admin's.
    proxy.write_config(&config(&other).set("jwt.secret", "another-secret-that-is-long-enough-too"));
    let admin = bearer(&token::for_role("admin"));
    let report = proxy.client().request("POST", "/admin/reload", &[("Authorization", &admin)]);
    assert_eq!(report.status, 200, "{report:?}");
    gate.open();
    let body = client.rest_of(&response);
    assert_eq!(body.len(), 20 * PIECE);
    assert!(body.chunks(PIECE).zip(0..).all(|(found, number)| found == piece(number)));
}
