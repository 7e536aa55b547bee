//! Metric definitions, per-core counters and the access log. Counters are cells with a single
//! writer each; whoever renders them reads with relaxed loads.

pub mod access_log;
pub mod cells;
pub mod render;
