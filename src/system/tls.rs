//! TLS towards S3 endpoints (rustls).

use std::sync::Arc;

use rustls::{ClientConfig, pki_types::ServerName};

/// What is needed to open a TLS connection to one endpoint.
#[derive(Debug)]
pub struct TlsClient {
    /// Roots, versions and session cache.
    pub config: Arc<ClientConfig>,
    /// Name that the certificate must be valid for, also sent as SNI.
    pub server_name: ServerName<'static>,
}
