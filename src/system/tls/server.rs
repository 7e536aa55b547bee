//! The part that all TLS connections of clients share: certificates by name, who is let in, and
//! the sessions that resume.

use std::{cell::RefCell, collections::HashMap, fmt, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    RootCertStore, ServerConfig, SignatureScheme, SupportedProtocolVersion,
    pki_types::{CertificateDer, UnixTime, pem::PemObject},
    server::{
        ClientHello, NoServerSessionStorage, ResolvesServerCert, UnbufferedServerConnection,
        WebPkiClientVerifier, danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use crate::system::tls::{
    certificate::ServerCertificate,
    in_place,
    negotiated::{HTTP_1_1, HTTP_2, TlsVersion},
    tickets::{PolicyDigest, TicketKeys},
};

/// Rules for the connections of clients.
#[derive(Clone, Copy, Debug)]
pub struct ServerPolicy<'p> {
    /// The lowest version that is spoken.
    pub min_version: TlsVersion,
    /// PEM certificates of the CA that every client needs a certificate of, if it needs one.
    pub client_ca: Option<&'p [u8]>,
    /// Offers HTTP/2.
    pub http2: bool,
    /// Keys of the sessions that resume.
    pub tickets: &'p TicketKeys,
}

/// Everything that a TLS connection of a client needs. Clones share it.
#[derive(Clone)]
pub struct TlsServer(Arc<Shared>);

struct Shared {
    config: Arc<ServerConfig>,
    clients: Option<Arc<dyn ClientCertVerifier>>,
}

impl TlsServer {
    /// Serves with these certificates, of which the first is for clients that name no host, or one
    /// that no certificate is for.
    ///
    /// # Errors
    /// A sentence for the operator about `client_ca`, or an empty list of certificates.
    pub fn new(
        policy: &ServerPolicy<'_>,
        certificates: &[Arc<ServerCertificate>],
    ) -> Result<Self, String> {
        if certificates.is_empty() {
            return Err("no certificate".to_owned());
        }
        let clients = policy.client_ca.map(client_verifier).transpose()?;
        let versions: &[&SupportedProtocolVersion] = match policy.min_version {
            TlsVersion::Tls12 => &[&TLS13, &TLS12],
            TlsVersion::Tls13 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(in_place::provider())
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?;
        let builder = match &clients {
            Some(clients) => builder.with_client_cert_verifier(Arc::clone(clients)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(ByName::new(certificates)));
        // The fastest cipher is ours to choose; all of them are good.
        config.ignore_client_order = true;
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        if policy.http2 {
            config.alpn_protocols.insert(0, HTTP_2.to_vec());
        }
        // Sessions resume with tickets only, which every core can open.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = policy.tickets.ticketer(digest_of(policy.client_ca));
        config.send_tls13_tickets = 1;
        // A request that can be sent again by others is not taken (RFC 8446 section 8).
        config.max_early_data_size = 0;
        Ok(Self(Arc::new(Shared { config: Arc::new(config), clients })))
    }

    pub(super) fn connection(&self) -> Result<UnbufferedServerConnection, rustls::Error> {
        UnbufferedServerConnection::new(Arc::clone(&self.0.config))
    }

    /// Judges the certificates of a client whose session was resumed at this time: since they were
    /// shown they may have expired.
    ///
    /// # Errors
    /// The reason why they are not good, or no longer.
    pub(super) fn judge_again(
        &self,
        chain: Option<&[CertificateDer<'static>]>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let Some(clients) = &self.0.clients else { return Ok(()) };
        let (leaf, rest) =
            chain.and_then(<[_]>::split_first).ok_or(rustls::Error::NoCertificatesPresented)?;
        clients.verify_client_cert(leaf, rest, now).map(|_| ())
    }
}

impl fmt::Debug for TlsServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsServer").finish_non_exhaustive()
    }
}

fn client_verifier(pem: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for (certificate, number) in CertificateDer::pem_slice_iter(pem).zip(1..) {
        let certificate = certificate
            .map_err(|error| format!("certificate {number} is not PEM ({error}); replace it"))?;
        roots.add(certificate).map_err(|error| {
            format!("certificate {number} is not a usable CA certificate ({error}); replace it")
        })?;
    }
    if roots.is_empty() {
        return Err("holds no PEM certificate (BEGIN CERTIFICATE); write those of the CA that \
                    issues the clients' certificates"
            .to_owned());
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), in_place::provider())
        .build()
        .map_err(|error| format!("cannot be used: {error}"))
}

/// Tells the rules for clients apart.
fn digest_of(client_ca: Option<&[u8]>) -> PolicyDigest {
    let mut policy = [0; 32];
    if let Some(pem) = client_ca {
        policy.copy_from_slice(digest(&SHA256, pem).as_ref());
    }
    policy
}

/// Certificates in the order of the configuration.
type Candidates = Vec<Arc<CertifiedKey>>;

/// The certificates by the names that they are for.
pub(super) struct ByName {
    exact: HashMap<Box<str>, Candidates>,
    /// By what follows the first label.
    wildcard: HashMap<Box<str>, Candidates>,
    all: Candidates,
}

impl ByName {
    pub(super) fn new(certificates: &[Arc<ServerCertificate>]) -> Self {
        let mut by_name = Self { exact: HashMap::new(), wildcard: HashMap::new(), all: Vec::new() };
        for certificate in certificates {
            for name in certificate.names() {
                let candidates = match name.strip_prefix("*.") {
                    Some(parent) => by_name.wildcard.entry(parent.into()),
                    None => by_name.exact.entry(name.clone()),
                };
                candidates.or_default().push(Arc::clone(certificate.key()));
            }
            by_name.all.push(Arc::clone(certificate.key()));
        }
        by_name
    }

    /// The certificates that are for this name, which is in lower case.
    fn of(&self, name: &str) -> Option<&Candidates> {
        self.exact.get(name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.wildcard.get(parent)
        })
    }

    pub(super) fn choose(
        &self,
        name: Option<&str>,
        schemes: &[SignatureScheme],
    ) -> Option<&Arc<CertifiedKey>> {
        let candidates = name.and_then(|name| self.of(name)).unwrap_or(&self.all);
        let first = candidates.first();
        if candidates.len() < 2 {
            return first;
        }
        // A name may have an RSA and an ECDSA certificate.
        let can_be_checked =
            |candidate: &&Arc<CertifiedKey>| candidate.key.choose_scheme(schemes).is_some();
        candidates.iter().find(can_be_checked).or(first)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name();
        ASKED_FOR.set(name.map(Box::from));
        self.choose(name, hello.signature_schemes()).cloned()
    }
}

impl fmt::Debug for ByName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByName").field("certificates", &self.all.len()).finish_non_exhaustive()
    }
}

thread_local! {
    /// rustls' unbuffered connections tell the name to nobody else.
    static ASKED_FOR: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// The host name in the hello that this thread has processed since the last call, if it had one.
pub(super) fn take_name() -> Option<Box<str>> {
    ASKED_FOR.take()
}
