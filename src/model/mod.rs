//! Vocabulary that every floor shares: names, limits, secrets, faults.
//! Nothing here does I/O, reads a clock or knows a configuration file.

pub mod fault;
pub mod generation;
pub mod limits;
pub mod secret;

pub use fault::{Fault, Side};
pub use generation::Generation;
pub use secret::Secret;
