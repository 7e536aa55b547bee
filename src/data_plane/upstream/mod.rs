//! Connections to S3: spread over the addresses of an endpoint, pooled per core, connected within a
//! deadline, read and written in plain text or through TLS.

mod addresses;
pub(crate) mod body;
pub(crate) mod connect;
pub(crate) mod connection;
pub(crate) mod endpoint;
pub(crate) mod error;
mod pool;
