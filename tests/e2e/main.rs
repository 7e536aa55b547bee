//! End-to-end tests: the real binary between raw clients and real or scripted S3 endpoints.
//!
//! One crate, so that it links once; one file for each topic. `harness` tests the tools
//! themselves.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failed expectation of a test tool is a failed test, also outside #[test] functions"
)]

#[path = "../support/mod.rs"]
mod support;

mod access_log;
mod access_log_lines;
mod access_log_refusals;
mod allowlist;
mod auth;
mod auth_closed;
mod auth_key_sets;
mod auth_keys;
mod auth_leaks;
mod auth_recipes;
mod check_s3;
mod client_address;
mod command_line;
mod compress;
mod compress_documents;
mod compress_streams;
mod config_files;
mod config_memory;
mod config_secrets;
mod cors;
mod credentials;
mod credentials_load;
mod disconnects;
mod documents;
mod endpoints;
mod fairness;
mod faults;
mod framing;
mod harness;
mod headers;
mod hosts;
mod http2;
mod limits;
mod listing;
mod listing_limits;
mod memory;
mod metrics;
mod process;
mod proxy_protocol;
mod queries;
mod reload;
mod reload_hot;
mod reload_load;
mod reload_refusals;
mod reload_service;
mod reload_verify;
mod reload_watch;
mod responses;
mod sends;
mod serve;
mod shutdown;
mod signed_query;
mod site_rules;
mod splice;
mod start;
mod timeouts;
mod tls;
mod tls_handshake;
mod tls_memory;
mod tls_plain;
mod tls_renewal;
mod tls_resumption;
mod upstream_errors;
mod upstream_pool;
mod upstream_tls;
