//! Pure decisions: which bucket a path belongs to, and who may read it.
//! Nothing here does I/O, awaits, or reads a clock (the time is an argument).

pub mod auth;
pub mod router;
