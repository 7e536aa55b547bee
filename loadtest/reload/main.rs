//! Reloads under load, for as long as one likes: `cargo run --release --example reload -- 500`.
//!
//! The number is how many reloads; 50 without one. The same in short is part of the tests.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool that ends when something is wrong"
)]

#[path = "../../tests/support/mod.rs"]
mod support;

mod scenario;

use std::{env, path::PathBuf, time::Instant};

use support::proxy::Launch;

fn main() {
    let reloads = env::args().nth(1).map_or(50, |number| number.parse().expect("a number"));
    let start = Instant::now();
    let outcome = scenario::run(Launch::of(binary()), reloads);
    println!(
        "{reloads} reloads, {} small and {} large responses in {:.1} s; none failed",
        outcome.small,
        outcome.large,
        start.elapsed().as_secs_f64()
    );
}

/// The proxy's binary beside this example: build it first, with the same profile.
fn binary() -> PathBuf {
    let example = env::current_exe().unwrap();
    let binary = example.parent().and_then(|examples| examples.parent()).unwrap();
    let binary = binary.join("yatagarasu");
    assert!(binary.exists(), "build it first: cargo build --bin yatagarasu, same profile");
    binary
}
