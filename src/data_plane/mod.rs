//! The data plane: one pinned thread per core, each with its own event loop, listener, connection
//! pools, counters and copy of the running generation. Nothing here is shared between cores but
//! immutable snapshots and single-writer counters.
//!
//! A module uses modules of lower layers only, which `tests/architecture.rs` holds.
//!
//! | layer | modules |
//! |---|---|
//! | 4 | `worker` |
//! | 3 | `connection` |
//! | 2 | `exchange` |
//! | 1 | `core` |
//! | 0 | `upstream` |

mod connection;
mod core;
mod exchange;
mod upstream;
pub mod worker;
