//! The data plane: one pinned thread per core, each with its own event loop, listener, connection
//! pools, counters and copy of the running generation. Nothing here is shared between cores but
//! immutable snapshots and single-writer counters.
//!
//! A module uses modules of lower layers only, which `tests/architecture.rs` holds.
//!
//! | layer | modules |
//! |---|---|
//! | 5 | `rehearsal`, `worker` |
//! | 4 | `client` |
//! | 3 | `exchange` |
//! | 2 | `fetch` |
//! | 1 | `core` |
//! | 0 | `upstream` |

mod client;
mod core;
mod exchange;
mod fetch;
pub mod rehearsal;
mod upstream;
pub mod worker;
