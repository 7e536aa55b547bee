//! The documentation against the tree, the program's own tables, and the real binary.
#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a failed expectation of a test tool is a failed test, also outside #[test] functions"
)]

#[path = "documents/aws.rs"]
mod aws;
#[path = "documents/config.rs"]
mod config;
#[path = "documents/deploy.rs"]
mod deploy;
#[path = "documents/http.rs"]
mod http;
#[path = "documents/layout.rs"]
mod layout;
#[path = "documents/pages.rs"]
mod pages;
#[path = "documents/reload.rs"]
mod reload;
#[path = "documents/sites.rs"]
mod sites;
mod support;
#[path = "documents/tls.rs"]
mod tls;

use std::path::{Path, PathBuf};

/// The directory of the package.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A document by its path from there.
fn page(name: &str) -> String {
    let path: PathBuf = root().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
