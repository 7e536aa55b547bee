//! Vocabulary that every layer shares: limits, timeouts, secrets, faults.
//! Nothing here does I/O, reads a clock or knows a configuration file.

pub mod ca_bundle;
pub mod client_address;
pub mod fault;
pub mod generation;
pub mod limits;
pub mod secret;

pub use ca_bundle::CaBundle;
pub use client_address::ClientAddress;
pub use fault::Fault;
pub use generation::Generation;
pub use secret::Secret;
