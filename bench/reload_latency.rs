//! What reloads do to those who are being served: the 99th percentile of the latency of small
//! objects at half of what the proxy can do, with and without reloads, in one run.
//!
//! `cargo bench --bench reload_latency`. Requests are sent at a constant rate whatever the
//! responses do, and each one's latency counts from when it was due, so that a stall shows in full.
//! Quiet phases and phases with reloads take turns, and the figure is the ratio of their medians.
//! At the end one file of 10,000 buckets is reloaded and the reports are printed.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a measuring tool that prints rounded figures and ends when something is wrong"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    env,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use support::{
    config::Config,
    load::{self, FastOrigin},
    proxy::{Launch, Proxy, field},
    raw_client::Client,
    token::{self, bearer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::sleep_until,
};

/// Size of the object.
const BODY_BYTES: usize = 1_024;

/// Connections at the same time.
const CONNECTIONS: usize = 32;

/// Requests on each connection while the most that is possible is looked for.
const SATURATION_REQUESTS: usize = 3_000;

/// Pairs of phases, one without and one with reloads. `RELOAD_BENCH_PAIRS` sets another number.
const PAIRS: usize = 5;

/// Length of a phase. The first tenth is not counted.
const PHASE: Duration = Duration::from_secs(4);

/// A quiet phase with a higher percentile than this says that something else has the processors:
/// then the ratio says nothing about reloads.
const QUIET_P99_MAX: Duration = Duration::from_millis(10);

/// Reloads of the large file.
const LARGE_RELOADS: usize = 5;

fn main() {
    // `cargo test --benches` asks every benchmark whether it works; this one takes too long.
    if env::args().any(|argument| argument == "--test") {
        return;
    }
    let origin = FastOrigin::start(&[b'x'; BODY_BYTES]);
    for (buckets, per_second) in [(10, 20), (1_000, 2)] {
        compare(&origin, buckets, per_second);
    }
    large(&origin);
}

fn config(origin: &FastOrigin, buckets: usize, number: usize) -> Config {
    let secret = |bucket: usize| format!("secret-{number}-of-{bucket}");
    (0..buckets)
        .fold(Config::new(), |config, bucket| {
            let name = format!("bucket-{bucket}");
            config.bucket_with_keys(&name, origin.url(), "AKIDBENCH", &secret(bucket))
        })
        .with_jwt(&[])
        .set("server.threads", 2)
        .set("logging.access_log.enabled", false)
}

fn compare(origin: &FastOrigin, buckets: usize, per_second: u32) {
    let proxy = Proxy::start(&config(origin, buckets, 0));
    let start = Instant::now();
    let most = load::keep_alive(
        proxy.address(),
        "/bucket-1/x",
        CONNECTIONS,
        SATURATION_REQUESTS,
        BODY_BYTES,
    );
    assert!(most.errors.is_empty(), "{:?}", most.errors);
    let rate = most.good as f64 / start.elapsed().as_secs_f64() / 2.0;
    println!("{buckets} buckets, {per_second} reloads/s, {rate:.0} requests/s (half of the most)");
    let texts: Vec<String> =
        (0..2).map(|number| config(origin, buckets, number).to_yaml()).collect();
    let (mut quiet, mut reloading) = (Vec::new(), Vec::new());
    let pairs = env::var("RELOAD_BENCH_PAIRS").map_or(PAIRS, |pairs| pairs.parse().unwrap());
    for pair in 0..pairs {
        let without = phase(proxy.address(), rate);
        let stop = Arc::new(AtomicBool::new(false));
        let (with, reloads) = thread::scope(|scope| {
            let reloader = scope.spawn(|| reload_often(&proxy, &texts, per_second, &stop));
            let with = phase(proxy.address(), rate);
            stop.store(true, Ordering::SeqCst);
            (with, reloader.join().unwrap())
        });
        println!(
            "  pair {pair}: p99 {:.0} us without, {:.0} us with {reloads} reloads",
            micros(without),
            micros(with)
        );
        quiet.push(without);
        reloading.push(with);
    }
    let (without, with) = (median(&mut quiet), median(&mut reloading));
    if without > QUIET_P99_MAX {
        println!("  the machine is too busy for these figures to mean anything");
    }
    let ratio = with.as_secs_f64() / without.as_secs_f64();
    println!(
        "  median p99: {:.0} us without, {:.0} us with: ratio {ratio:.3}",
        micros(without),
        micros(with)
    );
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn median(values: &mut [Duration]) -> Duration {
    values.sort_unstable();
    values[values.len() / 2]
}

/// Sends at a constant rate and returns the 99th percentile.
fn phase(address: SocketAddr, rate: f64) -> Duration {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut latencies = runtime.block_on(async {
        let start = tokio::time::Instant::now() + Duration::from_millis(100);
        let between = Duration::from_secs_f64(CONNECTIONS as f64 / rate);
        let mut tasks = JoinSet::new();
        for number in 0..CONNECTIONS {
            let first = start + between * number as u32 / CONNECTIONS as u32;
            tasks.spawn(one_connection(address, first, between, start + PHASE));
        }
        let mut all = Vec::new();
        while let Some(latencies) = tasks.join_next().await {
            all.extend(latencies.unwrap());
        }
        all
    });
    latencies.sort_unstable();
    latencies[latencies.len() * 99 / 100]
}

async fn one_connection(
    address: SocketAddr,
    first: tokio::time::Instant,
    between: Duration,
    end: tokio::time::Instant,
) -> Vec<Duration> {
    let request = support::raw_client::request_bytes("GET", "/bucket-1/x", &[]);
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let counted_from = first + PHASE / 10;
    let (mut due, mut latencies) = (first, Vec::new());
    let mut buffer = Vec::with_capacity(4_096);
    while due < end {
        sleep_until(due).await;
        stream.write_all(&request).await.unwrap();
        buffer.clear();
        loop {
            let head = support::http_head::head_length(&buffer);
            if head.is_some_and(|head| buffer.len() >= head + BODY_BYTES) {
                break;
            }
            assert_ne!(stream.read_buf(&mut buffer).await.unwrap(), 0, "closed");
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&buffer));
        if due >= counted_from {
            latencies.push(due.elapsed());
        }
        due += between;
    }
    latencies
}

fn reload_often(proxy: &Proxy, texts: &[String], per_second: u32, stop: &AtomicBool) -> usize {
    let mut client = Client::connect(proxy.address());
    let mut reloads = 0;
    let start = Instant::now();
    while !stop.load(Ordering::SeqCst) {
        proxy.write_config_text(&texts[(reloads + 1) % texts.len()]);
        let report = post(&mut client);
        assert_eq!(report["changed"], true, "{report}");
        reloads += 1;
        let due = start + Duration::from_secs(1) * reloads as u32 / per_second;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    // The next phase begins with the first text again.
    if reloads % texts.len() == 1 {
        proxy.write_config_text(&texts[0]);
        post(&mut client);
    }
    reloads
}

fn post(client: &mut Client) -> Value {
    let admin = bearer(&token::for_role("admin"));
    let response = client.request("POST", "/admin/reload", &[("Authorization", &admin)]);
    assert_eq!(response.status, 200, "{response:?}");
    response.json()
}

/// A file of 10,000 buckets: from the signal to the last acknowledgement, and what each worker
/// spends on it.
fn large(origin: &FastOrigin) {
    const BUCKETS: usize = 10_000;
    let version = |number: usize| {
        config(origin, BUCKETS, number)
            .set("logging.level", "debug")
            .set("metrics.per_bucket", false)
    };
    let proxy = Launch::new().config(&version(0)).start();
    let mut client = Client::connect(proxy.address());
    println!("{BUCKETS} buckets");
    for number in 1..=LARGE_RELOADS {
        proxy.write_config(&version(number));
        let report = post(&mut client);
        println!("  {} ms from the order to the last acknowledgement", report["duration_ms"]);
    }
    for record in proxy.stderr().records() {
        if field(&record, "message").is_some_and(|message| message == "generation adopted") {
            let (worker, micros) = (field(&record, "worker"), field(&record, "micros"));
            println!("  worker {}: {} us", worker.unwrap(), micros.unwrap());
        }
    }
}
