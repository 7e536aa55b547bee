//! TLS towards S3 endpoints: rustls driven by socket readiness.

use std::{
    io::{self, Read, Write},
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};

use crate::system::socket::Socket;

/// What is needed to open a TLS connection to one endpoint.
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
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
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

fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    })
}

/// The TLS state of one upstream connection. The socket is passed to each call.
#[derive(Debug)]
pub struct TlsSession {
    connection: ClientConnection,
}

/// Reads and writes a socket without blocking, as rustls wants it.
struct Nonblocking<'s>(&'s Socket);

impl Read for Nonblocking<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_recv(into)?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Nonblocking<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.0.try_send(from, &[])?.ok_or_else(|| io::ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TlsSession {
    /// Shakes hands over a connected socket.
    ///
    /// # Errors
    /// Certificate and protocol errors as `InvalidData`; what the socket reports otherwise.
    pub async fn connect(client: &TlsClient, socket: &Socket) -> io::Result<Self> {
        let connection =
            ClientConnection::new(Arc::clone(&client.config), client.server_name.clone())
                .map_err(io::Error::other)?;
        let mut session = Self { connection };
        while session.connection.is_handshaking() {
            session.flush(socket).await?;
            if session.connection.is_handshaking() && session.fill(socket).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        session.flush(socket).await?;
        Ok(session)
    }

    /// Plain bytes that arrived, or 0 at a proper end (`close_notify`).
    ///
    /// # Errors
    /// `UnexpectedEof` when the peer closed without `close_notify`: the body may be cut short.
    pub async fn recv(&mut self, socket: &Socket, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(into) {
                Ok(n) => return Ok(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
            self.fill(socket).await?;
            if self.connection.wants_write() {
                self.flush(socket).await?;
            }
        }
    }

    /// Sends all of `bytes`.
    pub async fn send_all(&mut self, socket: &Socket, bytes: &[u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = self.connection.writer().write(rest)?;
            rest = rest.get(taken..).unwrap_or_default();
            self.flush(socket).await?;
        }
        Ok(())
    }

    /// Whether the next read needs nothing from the socket: bytes or the end have been decrypted.
    pub fn has_bytes(&self) -> bool {
        !self.connection.wants_read()
    }

    /// Whether decrypted bytes wait that nobody asked for. Takes in what the socket holds (session
    /// tickets may arrive on an idle connection).
    pub fn is_quiet(&mut self, socket: &Socket) -> bool {
        if self.has_bytes() {
            return false;
        }
        loop {
            match self.connection.read_tls(&mut Nonblocking(socket)) {
                Ok(0) => return false,
                Ok(_) => match self.connection.process_new_packets() {
                    Ok(state)
                        if state.plaintext_bytes_to_read() == 0 && !state.peer_has_closed() => {}
                    _ => return false,
                },
                Err(e) => return e.kind() == io::ErrorKind::WouldBlock,
            }
        }
    }

    async fn fill(&mut self, socket: &Socket) -> io::Result<usize> {
        loop {
            match self.connection.read_tls(&mut Nonblocking(socket)) {
                Ok(n) => {
                    let processed = self.connection.process_new_packets();
                    if let Err(error) = processed {
                        // The alert that says why is worth sending; it may not fit, and that is fine.
                        let _ = self.connection.write_tls(&mut Nonblocking(socket));
                        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                    }
                    return Ok(n);
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => socket.readable().await,
                Err(e) => return Err(e),
            }
        }
    }

    async fn flush(&mut self, socket: &Socket) -> io::Result<()> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Nonblocking(socket)) {
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => socket.writable().await,
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
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
