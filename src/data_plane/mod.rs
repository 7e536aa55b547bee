//! The data plane: one pinned thread per core, each with its own event loop, listener, connection
//! pools, counters and copy of the running generation. Nothing here is shared between cores but
//! immutable snapshots and single-writer counters.

mod connection;
mod core;
mod exchange;
mod fading;
mod upstream;
pub mod worker;
