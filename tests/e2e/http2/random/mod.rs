//! Connections that send frames at random: right ones, nearly right ones and broken ones, cut and
//! glued anywhere. Requests that nothing was done to are served whole, nothing else reaches S3, the
//! windows of the client are kept, and a connection answers a ping or is told to end.

mod client;
mod moves;

use std::{
    cell::{Cell, RefCell},
    collections::HashSet,
    sync::LazyLock,
};

use client::Client;
use moves::{Case, case};
use proptest::{
    prop_assert, prop_assert_eq,
    test_runner::{Config as Cases, TestCaseError, TestRunner},
};

use super::cleartext;
use crate::support::{
    http2_client::Http2Client,
    proxy::Proxy,
    scripted_origin::{ScriptedOrigin, response_bytes},
    waiting::wait_until,
};

/// Connections of a run: each run makes others.
const CASES: u32 = 250;

/// Time for finding a smaller case that fails, in milliseconds: one that hangs takes the deadline
/// of a client each time that it is tried.
const SHRINK_MS_MAX: u32 = 60_000;

/// Concurrent streams that a client may have: fewer than some cases begin.
const STREAMS_MAX: usize = 10;

const FRAME_BYTES_MAX: u32 = 16_384;
/// The initial window, in bytes.
const WINDOW: u32 = 65_535;
const PADDED: u8 = 0x8;

/// The longest body of a response, in bytes: more than six windows.
const BODY_BYTES_MAX: usize = 400_000;

/// A body is a part of this.
static BYTES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let word = |at: u64| at.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    (1..=(BODY_BYTES_MAX as u64) / 8 + 1_000).flat_map(word).collect()
});

/// The body of the request with this number.
fn body(number: usize, length: usize) -> &'static [u8] {
    &BYTES[number % 997..][..length]
}

/// The response to a target of [`World::target`].
fn serve(target: &str) -> Vec<u8> {
    let mut numbers = target.rsplit('/').map(|number| number.parse().unwrap_or_default());
    let (length, number) = (numbers.next().unwrap(), numbers.next().unwrap());
    response_bytes("200 OK", &[], body(number, length))
}

/// What all cases have in common.
struct World {
    proxy: Proxy,
    other: Http2Client,
    /// Requests so far, of all clients.
    requests: Cell<usize>,
    /// Targets that S3 may be asked for.
    targets: RefCell<HashSet<String>>,
}

impl World {
    /// The number and the target of a request that may reach S3.
    fn target(&self, length: usize) -> (usize, String) {
        let number = self.requests.replace(self.requests.get() + 1);
        let target = format!("/products/{number}/{length}");
        self.targets.borrow_mut().insert(target.clone());
        (number, target)
    }

    /// The other client gets what it asks for.
    fn serves_others(&self) -> bool {
        let (number, target) = self.target(100);
        self.other.get(&target).body == body(number, 100)
    }

    /// Everything that is open: connections of clients, streams, and requests to S3.
    fn gauges(&self) -> [u64; 4] {
        [
            "yatagarasu_connections",
            "yatagarasu_client_connections",
            "yatagarasu_http2_streams",
            "yatagarasu_upstream_connections{bucket=\"products\",state=\"active\"}",
        ]
        .map(|family| self.proxy.metric_count(family))
    }

    /// Tries one case.
    fn check(&self, case: &Case) -> Checked {
        let mut client = Client::begin(self, case);
        for one in &case.moves {
            if !client.has_ended {
                client.go(one)?;
            }
        }
        client.send();
        client.finish()?;
        prop_assert!(self.serves_others(), "others");
        prop_assert_eq!(self.proxy.metric("yatagarasu_worker_panics_total"), Some(0.0));
        Ok(())
    }
}

type Checked = Result<(), TestCaseError>;

#[test]
fn frames_at_random_are_answered_or_end_the_connection() {
    let origin = ScriptedOrigin::start(|conn, _| {
        while let Some(request) = conn.request() {
            if !conn.try_send(serve(&request.target)) {
                return;
            }
        }
    });
    // Times that are longer than a test waits.
    let config = ["client_header", "client_write", "client_idle"].iter().fold(
        cleartext(&origin).set("server.http2.max_concurrent_streams", STREAMS_MAX),
        |config, timeout| config.set(&format!("server.timeouts.{timeout}"), 600),
    );
    let proxy = Proxy::start(&config);
    let other = Http2Client::connect(proxy.address());
    let world = World { proxy, other, requests: Cell::default(), targets: RefCell::default() };
    assert!(world.serves_others());
    let before = world.gauges();
    let cases = Cases {
        failure_persistence: None,
        max_shrink_time: SHRINK_MS_MAX,
        ..Cases::with_cases(CASES)
    };
    TestRunner::new(cases).run(&case(), |case| world.check(&case)).unwrap();
    wait_until("everything to be over", || world.gauges() == before);
    assert!(world.serves_others());
    let targets = world.targets.take();
    for request in origin.requests() {
        assert!(targets.contains(&request.target), "{request:?}");
    }
}
