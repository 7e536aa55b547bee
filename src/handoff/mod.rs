//! All that crosses between the control plane and the data plane: the immutable
//! [`snapshot::Snapshot`] of one generation, and the messages that carry it.

pub mod message;
pub mod snapshot;
