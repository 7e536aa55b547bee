//! All that crosses between the control plane and the data plane: the immutable
//! [`snapshot::Snapshot`] of one generation with its counters beside it ([`release::Release`]), the
//! [`live::LiveTable`] of what renews itself, and the messages that carry them.

pub mod credentials;
pub mod key_sets;
pub mod live;
pub mod message;
pub mod release;
pub mod snapshot;
