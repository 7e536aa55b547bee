//! The configuration: bytes to a checked [`Settings`], the difference between two of them, and
//! the [`Snapshot`](crate::handoff::snapshot::Snapshot) that workers run.
//!
//! ```text
//! bytes -> yaml (values with lines) -> walk over keys (types, defaults, variables, files)
//!       -> Settings -> rules between keys -> compile -> Snapshot
//! ```
//!
//! Start, reload and `--validate` take the same way. All problems of a file are reported
//! together. Absent on purpose: serde (it stops at the first problem and knows no lines) and
//! name resolution (a name that does not resolve is no mistake in the file).

pub mod compile;
pub mod diff;
pub mod keys;
pub mod load;
pub mod problem;
pub mod settings;

mod bucket;
mod expand;
mod jwt;
mod parse;
mod rules;
mod scalar;
mod section;
mod server;
mod walk;
mod yaml;

pub use compile::{CompileContext, compile};
pub use diff::{Difference, diff};
pub use load::{Environment, FileReader, FilesBeside, ProcessEnvironment, read};
pub use parse::{Loaded, check, parse, parse_beside};
pub use problem::{Problem, Problems};
pub use settings::Settings;
pub use yaml::{DEPTH_MAX, TEXT_BYTES_MAX, VALUES_MAX};
