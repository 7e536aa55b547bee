//! Connections to S3: pooled per core, connected within a deadline, read and written in plain text
//! or through TLS.

pub(crate) mod connection;
pub(crate) mod pool;
