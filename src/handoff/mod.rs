//! All that crosses between the control plane and the data plane: the immutable
//! [`snapshot::Snapshot`] of one generation, the [`live::LiveTable`] of what renews itself, and the
//! messages that carry them.

pub mod live;
pub mod message;
pub mod snapshot;
