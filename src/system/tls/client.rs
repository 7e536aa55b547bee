//! The part that all TLS connections to one S3 endpoint share.

use std::sync::{Arc, OnceLock};

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use crate::system::tls::in_place;

/// Everything that a TLS connection to one endpoint needs.
#[derive(Debug)]
pub struct TlsClient {
    /// Roots, versions and session cache.
    pub config: Arc<ClientConfig>,
    /// Name that the certificate must be valid for, also sent as SNI.
    pub server_name: ServerName<'static>,
}

impl TlsClient {
    /// Trusts the system's roots and, when given, the CA certificates of a PEM file.
    ///
    /// # Errors
    /// A sentence for the operator: the PEM holds no certificate, or the name is not one.
    pub fn new(server_name: &str, extra_ca_pem: Option<&[u8]>) -> Result<Self, String> {
        let mut roots = system_roots().clone();
        if let Some(pem) = extra_ca_pem {
            let mut added = 0;
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|e| format!("not a PEM certificate: {e}"))?;
                roots.add(certificate).map_err(|e| format!("not a usable CA certificate: {e}"))?;
                added += 1;
            }
            if added == 0 {
                return Err("holds no PEM certificate (BEGIN CERTIFICATE)".to_owned());
            }
        }
        let mut config = ClientConfig::builder_with_provider(in_place::provider())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let server_name = ServerName::try_from(server_name.to_owned())
            .map_err(|_| format!("'{server_name}' is not a valid TLS server name"))?;
        Ok(Self { config: Arc::new(config), server_name })
    }
}

/// Returns true if this machine has root certificates. It is asked once in the life of the process.
pub fn has_system_roots() -> bool {
    !system_roots().is_empty()
}

fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_without_a_certificate_is_refused() {
        let error = TlsClient::new("s3.example", Some(b"nothing here")).map(|_| ()).unwrap_err();
        assert!(error.contains("holds no PEM certificate"), "{error}");
    }

    #[test]
    fn names_and_addresses_are_server_names() {
        assert!(TlsClient::new("s3.example", None).is_ok());
        assert!(TlsClient::new("127.0.0.1", None).is_ok());
        assert!(TlsClient::new("not a name", None).is_err());
    }
}
