//! Pure decisions: who the client is, the bucket that a path belongs to, and permission to read it.
//! Nothing here does I/O, awaits, or reads a clock (the time is an argument).

pub mod auth;
pub mod networks;
pub mod proxies;
pub mod router;
pub mod site;
