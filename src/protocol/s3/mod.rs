//! The S3 REST dialect: keys, canonical requests, signatures, error bodies.

pub mod endpoint;
pub mod key;
pub mod name;
pub mod path;
