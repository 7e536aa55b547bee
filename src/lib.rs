//! Yatagarasu: a thread-per-core S3 edge proxy.
//!
//! Folders are the architecture. A module may use modules on its own floor's
//! folder and on lower floors, never higher ones; the two planes never use each
//! other, `handoff` is all that crosses. `tests/architecture.rs` holds this.
//!
//! | floor | modules |
//! |---|---|
//! | 5 | `app`, `cli` |
//! | 4 | `control_plane`, `data_plane` |
//! | 3 | `handoff` |
//! | 2 | `policy`, `telemetry` |
//! | 1 | `protocol`, `system` |
//! | 0 | `model` |

pub mod app;
pub mod cli;
pub mod control_plane;
pub mod data_plane;
pub mod handoff;
pub mod model;
pub mod policy;
pub mod protocol;
pub mod system;
pub mod telemetry;
