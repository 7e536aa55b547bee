//! End-to-end tests: the real binary between raw clients and real or scripted S3 endpoints.
//!
//! One crate, so that it links once. `harness` tests the tools themselves.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failed expectation of a test tool is a failed test, also outside #[test] functions"
)]

#[path = "../support/mod.rs"]
mod support;

mod allowlist;
mod auth;
mod auth_closed;
mod auth_keys;
mod auth_leaks;
mod auth_recipes;
mod faults;
mod framing;
mod harness;
mod lifecycle;
mod memory;
mod reload;
mod reload_load;
mod reload_refusals;
mod reload_service;
mod reload_verify;
mod reload_watch;
mod review_clients;
mod review_drain;
mod review_fairness;
mod review_limits;
mod review_slow;
mod review_upstream;
mod serve;
mod spec_answers;
mod spec_hot;
mod spec_start;
