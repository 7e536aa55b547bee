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

impl TlsClient {
    /// Placeholder.
    pub fn new(server_name: &str, extra_ca_pem: Option<&[u8]>) -> Result<Self, String> {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let mut roots = rustls::RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(extra_ca_pem.unwrap_or_default()) {
            roots
                .add(certificate.map_err(|error| error.to_string())?)
                .map_err(|error| error.to_string())?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let server_name = ServerName::try_from(server_name.to_owned())
            .map_err(|error| error.to_string())?;
        Ok(Self { config: Arc::new(config), server_name })
    }
}
