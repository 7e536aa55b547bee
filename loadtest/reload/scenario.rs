//! Load on every kind of connection while the configuration is replaced again and again.
//!
//! Each reload changes path prefixes, S3 credentials, JWT secrets and a limit. Clients only use
//! what the configuration that was acknowledged last offers, and hold the proxy to its word: no
//! request fails, no connection is closed, and nothing older than the acknowledged generation
//! responses.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::json;

use crate::support::{
    config::Config,
    proxy::{Launch, Proxy},
    raw_client::{Client, Framing, request_bytes},
    scripted_origin::ScriptedOrigin,
    token::{self, bearer, unix_now},
    waiting::wait_until,
};

/// The small object.
const SMALL_BYTES: usize = 1_024;

/// The large one.
const LARGE_BYTES: usize = 64 * 1_024 * 1_024;

/// Length of the pattern that the large object repeats, in bytes: a prime, so that no buffer size
/// hides a piece that is missing or comes twice.
const PATTERN_BYTES: usize = 65_521;

/// A reload waits until every small client has had so many responses since the last one.
const REQUESTS_BETWEEN: usize = 3;

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    pub(crate) small: usize,
    pub(crate) large: usize,
}

struct Shared {
    proxy: Proxy,
    /// Version of the configuration that was acknowledged last; its generation is the same.
    acknowledged: AtomicU64,
    done: AtomicBool,
    pattern: Arc<[u8]>,
}

/// Ends the load when the reloads end, also when they end by a panic.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// Runs `reloads` reloads under load, on two workers.
///
/// # Panics
/// When the proxy breaks its word.
pub(crate) fn run(launch: Launch, reloads: u64) -> Outcome {
    let pattern: Arc<[u8]> = (0..=250_u8).cycle().take(PATTERN_BYTES).collect();
    let origin = origin(&pattern);
    let proxy = launch.config(&version(&origin, 1)).start();
    let shared =
        Shared { proxy, acknowledged: AtomicU64::new(1), done: AtomicBool::new(false), pattern };
    let small: [AtomicUsize; 4] = Default::default();
    let large = AtomicUsize::new(0);
    thread::scope(|scope| {
        for (number, count) in small.iter().enumerate() {
            let (shared, keep, protected) = (&shared, number < 3, number == 2);
            scope.spawn(move || small_requests(shared, keep, protected, count));
        }
        scope.spawn(|| large_requests(&shared, &large));
        let _done = Done(&shared.done);
        for number in 2..=reloads + 1 {
            let before: Vec<usize> =
                small.iter().map(|count| count.load(Ordering::SeqCst)).collect();
            reload(&shared, &origin, number);
            wait_until("requests between reloads", || {
                // A client that has failed ends the wait; its panic is what counts.
                shared.done.load(Ordering::SeqCst)
                    || small.iter().zip(&before).all(|(count, before)| {
                        count.load(Ordering::SeqCst) >= before + REQUESTS_BETWEEN
                    })
            });
        }
        wait_until("a large body", || {
            shared.done.load(Ordering::SeqCst) || large.load(Ordering::SeqCst) > 0
        });
    });
    let page = shared.proxy.metrics();
    for line in [
        format!("config_reload_success_total {reloads}"),
        "config_reload_failure_total 0".to_owned(),
        format!("config_worker_generation{{worker=\"0\"}} {}", reloads + 1),
        format!("config_worker_generation{{worker=\"1\"}} {}", reloads + 1),
    ] {
        assert!(page.lines().any(|found| found == line), "no {line} in\n{page}");
    }
    Outcome {
        small: small.iter().map(|count| count.load(Ordering::SeqCst)).sum(),
        large: large.load(Ordering::SeqCst),
    }
}

fn origin(pattern: &Arc<[u8]>) -> ScriptedOrigin {
    let pattern = Arc::clone(pattern);
    ScriptedOrigin::start(move |conn, _| {
        while let Some(request) = conn.request() {
            if !request.target.ends_with("/large") {
                conn.respond("200 OK", &[], &[b's'; SMALL_BYTES]);
                continue;
            }
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE_BYTES}\r\n\r\n"));
            let mut left = LARGE_BYTES;
            while left > 0 {
                let piece = &pattern[..left.min(pattern.len())];
                conn.send(piece);
                left -= piece.len();
            }
        }
    })
}

/// The configuration of a version. What it offers to clients of the two versions before is still
/// there, since a request may be on its way.
fn version(origin: &ScriptedOrigin, number: u64) -> Config {
    let kept = number.saturating_sub(2)..=number;
    let mut config = Config::new();
    for version in kept.clone() {
        let access_key = format!("AKIDVERSION{number}");
        let secret_key = format!("secret-key-of-version-{number}-for-{version}");
        config = config.bucket_with_keys(
            &format!("version-{version}"),
            origin.url(),
            &access_key,
            &secret_key,
        );
    }
    let keys: Vec<_> = kept.map(|version| json!({ "secret": jwt_secret(version) })).collect();
    config
        .bucket("large", origin.url())
        .bucket("protected", origin.url())
        .with_jwt(&["protected"])
        .set("jwt.keys", keys)
        .set("server.threads", 2)
        .set("server.expose_generation", true)
        .set("server.limits.headers", 60 + number % 40)
}

fn jwt_secret(version: u64) -> String {
    format!("jwt-secret-of-version-{version}-which-is-long-enough")
}

fn reload(shared: &Shared, origin: &ScriptedOrigin, number: u64) {
    let proxy = &shared.proxy;
    proxy.write_config(&version(origin, number));
    let admin = bearer(&token::for_role("admin"));
    let fields = [("Authorization", &*admin)];
    let response = Client::connect(proxy.address()).request("POST", "/admin/reload", &fields);
    assert_eq!(response.status, 200, "{response:?}");
    let report = response.json();
    assert_eq!(report["config_generation"], number, "{report}");
    assert_eq!(report["workers"], 2, "{report}");
    shared.acknowledged.store(number, Ordering::SeqCst);
}

fn small_requests(shared: &Shared, keep: bool, protected: bool, count: &AtomicUsize) {
    let _done = Done(&shared.done);
    let mut client = shared.proxy.client();
    while !shared.done.load(Ordering::SeqCst) {
        if !keep {
            client = shared.proxy.client();
        }
        let acknowledged = shared.acknowledged.load(Ordering::SeqCst);
        let response = if protected {
            let claims = json!({ "exp": unix_now() + 60 });
            let token = bearer(&token::mint(&jwt_secret(acknowledged), &claims));
            client.request("GET", "/protected/x", &[("Authorization", &token)])
        } else {
            client.get(&format!("/version-{acknowledged}/x"))
        };
        assert_eq!(response.status, 200, "version {acknowledged}: {response:?}");
        assert_eq!(response.body.len(), SMALL_BYTES);
        assert!(!response.says_close(), "no connection is closed by a reload");
        let seen: u64 = response.header("x-config-generation").unwrap().parse().unwrap();
        assert!(seen >= acknowledged, "generation {seen} after {acknowledged} was acknowledged");
        count.fetch_add(1, Ordering::SeqCst);
    }
}

fn large_requests(shared: &Shared, count: &AtomicUsize) {
    let _done = Done(&shared.done);
    let mut client = shared.proxy.client();
    while !shared.done.load(Ordering::SeqCst) {
        client.send(request_bytes("GET", "/large/large", &[]));
        let response = client.head("GET").unwrap();
        assert_eq!((response.status, response.framing), (200, Framing::Length(LARGE_BYTES as u64)));
        let mut at = 0;
        let mut same = |mut piece: &[u8]| {
            while !piece.is_empty() {
                let expected = &shared.pattern[at % PATTERN_BYTES..];
                let length = piece.len().min(expected.len());
                assert!(piece[..length] == expected[..length], "other bytes near {at}");
                at += length;
                piece = &piece[length..];
            }
        };
        client.body(response.framing, &mut same).unwrap();
        assert_eq!(at, LARGE_BYTES);
        count.fetch_add(1, Ordering::SeqCst);
    }
}
