//! Metrics and logs of the process: definitions, per-core counters, their text form, the access log
//! and the process log.
//!
//! Counters are cells with a single writer each; the renderer reads them with relaxed loads.
//! Deliberately absent: sockets (the admin handlers serve the text) and clocks (times are
//! arguments, in the unit that their name ends with).

pub mod access_log;
pub mod cells;
pub mod definitions;
pub mod key_slots;
pub mod labels;
mod lines;
pub mod log;
pub mod process;
pub mod render;
mod text;

/// Most buckets for which `metrics.per_bucket: auto` gives each bucket series of its own. A bucket
/// has about 50 series once it is used, and the load of a Prometheus server grows with series.
/// Beyond this all buckets share the cells named [`ALL_BUCKETS`].
pub const PER_BUCKET_SERIES_MAX: usize = 1_000;

/// `bucket` label of the cells that all buckets share beyond [`PER_BUCKET_SERIES_MAX`].
pub const ALL_BUCKETS: &str = "_all";

/// `bucket` label of requests that no bucket served: no route, a refused head, built-in endpoints.
pub const NO_BUCKET: &str = "-";
