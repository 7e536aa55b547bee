//! The configuration: bytes to checked [`Settings`], and the difference between two of them.
//!
//! ```text
//! bytes -> yaml (values with lines) -> walk over keys (types, defaults, variables, files)
//!       -> Settings -> rules between keys
//! ```
//!
//! Start, reload and `--validate` take the same way. All problems of a file are reported
//! together. Absent on purpose: serde (it stops at the first problem and knows no lines), name
//! resolution (a name that does not resolve is no mistake in the file), and every kind of I/O: the
//! control plane reads the file, and brings the environment and a reader of further files
//! ([`inputs`]). It also makes the snapshot that workers run.

pub mod credentials;
pub mod inputs;
pub mod keys;
pub mod problem;
pub mod settings;

mod access_log;
mod advice;
mod bucket;
mod changes;
mod declare;
mod diff;
mod documents;
mod expand;
mod foreign;
mod include;
mod jwt;
mod parse;
mod parts;
mod policies;
mod reading;
mod rules;
mod scalar;
mod section;
mod site;
mod tls;
mod unknown;
mod values;
mod walk;
mod yaml;

pub use changes::Difference;
pub use diff::diff;
pub use documents::{INCLUDED_FILES_MAX, Places};
pub use inputs::{
    CONFIG_BYTES_MAX, Environment, FileReader, IncludedFile, Main, NAMED_FILE_BYTES_MAX, too_large,
};
pub use parse::{Loaded, check, parse, parse_beside};
pub use policies::Policies;
pub use problem::{Problem, Problems};
pub use settings::{KEYS, Settings};
pub use yaml::{DEPTH_MAX, TEXT_BYTES_MAX, VALUES_MAX};
