//! Yatagarasu: a thread-per-core S3 edge proxy.
//!
//! Directories are the architecture. A module uses modules of lower layers only. The two planes
//! never use each other: all that crosses between them is in `handoff`. `tests/architecture.rs`
//! holds this.
//!
//! | layer | modules |
//! |---|---|
//! | 6 | `app`, `cli` |
//! | 5 | `control_plane`, `data_plane` |
//! | 4 | `config` |
//! | 3 | `handoff` |
//! | 2 | `policy`, `telemetry` |
//! | 1 | `protocol`, `system` |
//! | 0 | `model` |

pub mod app;
pub mod cli;
pub mod config;
pub mod control_plane;
pub mod data_plane;
pub mod handoff;
pub mod model;
pub mod policy;
pub mod protocol;
pub mod system;
pub mod telemetry;
