//! Certificates for a TLS listener of the proxy, and clients that trust them.

use std::{
    io,
    net::{SocketAddr, TcpStream},
    sync::Arc,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, SupportedProtocolVersion,
    client::WantsClientCert,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    version::{TLS12, TLS13},
};

use super::{
    config::Config,
    proxy::{Launch, Proxy},
    raw_client::{Client, Response},
};

/// Both versions of TLS.
pub(crate) const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A private authority.
#[derive(Debug)]
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
#[derive(Debug)]
pub(crate) struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// A certificate for these names.
    pub(crate) fn issue(&self, names: &[&str]) -> Identity {
        let names: Vec<_> = names.iter().map(ToString::to_string).collect();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(names).unwrap();
        Identity { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }
}

impl Identity {
    pub(crate) fn pem(&self) -> String {
        self.certificate.pem()
    }

    pub(crate) fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.certificate.der().clone()
    }
}

/// A certificate for `localhost`, the authority that issued it, and clients that trust that.
#[derive(Debug)]
pub(crate) struct Site {
    authority: Authority,
    identity: Identity,
}

/// How a client goes about a handshake.
#[derive(Clone, Debug)]
pub(crate) struct Visitor(Arc<ClientConfig>);

impl Site {
    pub(crate) fn new() -> Self {
        let authority = Authority::new("site");
        let identity = authority.issue(&["localhost"]);
        Self { authority, identity }
    }

    /// The certificate that is shown.
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// A certificate for other names of the same authority.
    pub(crate) fn issue(&self, names: &[&str]) -> Identity {
        self.authority.issue(names)
    }

    /// The authority, for tools that read PEM.
    pub(crate) fn ca_pem(&self) -> String {
        self.authority.pem()
    }

    /// The binary with the files that [`Config::with_tls`] names.
    pub(crate) fn launch(&self) -> Launch {
        self.with_files(Launch::new())
    }

    /// The same of another binary.
    pub(crate) fn with_files(&self, launch: Launch) -> Launch {
        launch.write("site.pem", &self.identity.pem());
        launch.write("site.key", &self.identity.key_pem());
        launch
    }

    /// Starts the binary with a TLS listener, whatever `config` says of it.
    #[track_caller]
    pub(crate) fn start(&self, config: &Config) -> Proxy {
        self.launch().config(config).start()
    }

    /// A client of every version.
    pub(crate) fn visitor(&self) -> Visitor {
        self.visitor_of(&VERSIONS, None)
    }

    /// A client of one version.
    pub(crate) fn visitor_with(&self, version: &'static SupportedProtocolVersion) -> Visitor {
        self.visitor_of(&[version], None)
    }

    /// A client of some versions, with a certificate to show.
    pub(crate) fn visitor_of(
        &self,
        versions: &[&'static SupportedProtocolVersion],
        identity: Option<&Identity>,
    ) -> Visitor {
        let builder = self.trusting(aws_lc_rs::default_provider(), versions);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let key = PrivatePkcs8KeyDer::from(identity.key.serialize_der());
                let chain = vec![identity.der()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from(key)).unwrap()
            }
        };
        Visitor(Arc::new(config))
    }

    /// A client that knows these ciphers only.
    pub(crate) fn visitor_by(
        &self,
        provider: CryptoProvider,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Visitor {
        Visitor(Arc::new(self.trusting(provider, versions).with_no_client_auth()))
    }

    fn trusting(
        &self,
        provider: CryptoProvider,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ConfigBuilder<ClientConfig, WantsClientCert> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.0.der().clone()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
    }
}

impl Visitor {
    /// The same client with another configuration.
    pub(crate) fn with(&self, change: impl FnOnce(&mut ClientConfig)) -> Self {
        let mut config = ClientConfig::clone(&self.0);
        change(&mut config);
        Self(Arc::new(config))
    }

    /// A connection to the TLS listener that has shaken hands with `localhost`.
    #[track_caller]
    pub(crate) fn connect(&self, proxy: &Proxy) -> Client {
        self.try_connect(proxy.tls_address(), "localhost").expect("a handshake")
    }

    /// A connection that has shaken hands with `name`, or what hindered it. Alerts that a server
    /// sends behind its part of a handshake may be noticed later.
    pub(crate) fn try_connect(&self, address: SocketAddr, name: &str) -> io::Result<Client> {
        Client::connect(address).secure(Arc::clone(&self.0), name)
    }

    /// The same over a connection that exists.
    pub(crate) fn over(&self, tcp: Client) -> io::Result<Client> {
        tcp.secure(Arc::clone(&self.0), "localhost")
    }

    /// What this client would send first, and the session that goes on from there.
    pub(crate) fn session(&self) -> rustls::ClientConnection {
        self.session_with("localhost")
    }

    /// The same for a server of this name.
    pub(crate) fn session_with(&self, name: &'static str) -> rustls::ClientConnection {
        let name = rustls::pki_types::ServerName::try_from(name).unwrap();
        rustls::ClientConnection::new(Arc::clone(&self.0), name).unwrap()
    }

    /// GET on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, proxy: &Proxy, target: &str) -> Response {
        self.connect(proxy).get(target)
    }

    /// The error that a client gets that is not served.
    ///
    /// # Panics
    /// If it is served.
    #[track_caller]
    pub(crate) fn refusal(&self, proxy: &Proxy) -> String {
        match self.try_connect(proxy.tls_address(), "localhost") {
            Ok(mut client) => client.session_error(),
            Err(error) => error.to_string(),
        }
    }

    /// A plain connection to the TLS listener.
    #[track_caller]
    pub(crate) fn tcp(proxy: &Proxy) -> TcpStream {
        TcpStream::connect(proxy.tls_address()).expect("connect")
    }
}
