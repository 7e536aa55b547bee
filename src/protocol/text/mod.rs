//! Forms of text that HTTP, S3 and the logs share, each written once.
//!
//! Deliberately absent: anything that knows which message the text belongs to.

pub mod append;
pub mod class;
pub mod date;
pub mod decimal;
pub mod hash;
pub mod hex;
pub mod percent;
pub mod token;
