//! Servers with clients at the other end of a socket.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    rc::Rc,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, SignatureScheme,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, UnixTime},
    version::{TLS12, TLS13},
};

use super::{
    Peer as _, blocking, client_records, encrypt, name, pair_of, rustls_provider, take_in,
    take_unsent,
};
use crate::system::{
    buffers::Buffers,
    event_loop,
    reactor::Reactor,
    socket::{self, Socket},
    stream::{Refused, Stream},
    tls::{
        Alpn, HandshakeFailure, ServerCertificate, ServerPolicy, TicketKeys, TlsServer, TlsVersion,
        records::Records, server::ByName,
    },
};

/// A certificate for these names.
fn certificate(names: &[&str]) -> Arc<ServerCertificate> {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let key = made.signing_key.serialize_pem();
    Arc::new(ServerCertificate::from_pem(made.cert.pem().as_bytes(), key.as_bytes()).unwrap())
}

/// An authority that issues certificates of clients.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["client".to_owned()]).unwrap();
        let issued = params.signed_by(&key, &self.0).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        (vec![issued.der().clone()], key.into())
    }
}

/// A server for `localhost`, and who trusts it.
struct Site {
    certificate: Arc<ServerCertificate>,
    tickets: TicketKeys,
}

impl Site {
    fn new() -> Self {
        let certificate = certificate(&["localhost"]);
        Self { certificate, tickets: TicketKeys::of_process().unwrap() }
    }

    fn server(&self, client_ca: Option<&str>) -> TlsServer {
        let policy = ServerPolicy {
            min_version: TlsVersion::Tls12,
            client_ca: client_ca.map(str::as_bytes),
            http2: false,
            tickets: &self.tickets,
        };
        TlsServer::new(&policy, &[Arc::clone(&self.certificate)]).unwrap()
    }

    fn client(
        &self,
        version: &'static rustls::SupportedProtocolVersion,
        identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.key().cert[0].clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(rustls_provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder.with_client_auth_cert(chain, key).unwrap(),
        }
    }
}

/// A client on a thread of its own, as far as it gets: it sends `x`, and returns what it reads.
fn client(
    config: &Arc<ClientConfig>,
    mut socket: UnixStream,
) -> JoinHandle<Result<Vec<u8>, String>> {
    let config = Arc::clone(config);
    thread::spawn(move || {
        let mut connection = ClientConnection::new(config, name()).unwrap();
        let mut tls = rustls::Stream::new(&mut connection, &mut socket);
        tls.write_all(b"x").map_err(|error| error.to_string())?;
        let mut read = Vec::new();
        tls.read_to_end(&mut read).map_err(|error| error.to_string())?;
        Ok(read)
    })
}

/// Answers the request of a client.
async fn serve(stream: &Stream) {
    let mut request = [0; 8];
    assert_eq!(stream.read(&mut request).await.unwrap(), 1);
    stream.write_all(b"response").await.unwrap();
    stream.finish();
}

/// Shakes hands with `config`'s client, serves it, and returns whether its session was resumed.
async fn visit(
    reactor: &Rc<Reactor>,
    server: &TlsServer,
    config: &Arc<ClientConfig>,
) -> Result<bool, HandshakeFailure> {
    let (ours, theirs) = socket::pair().unwrap();
    let client = client(config, blocking(theirs));
    let socket = Socket::new(ours, reactor).unwrap();
    match Stream::accept_tls(socket, server, &Rc::default()).await {
        Ok(stream) => {
            serve(&stream).await;
            let resumed = stream.negotiated().unwrap().resumed;
            assert_eq!(client.join().unwrap().as_deref(), Ok(&b"response"[..]));
            Ok(resumed)
        }
        Err(Refused { failure, socket, .. }) => {
            drop(socket);
            client.join().unwrap().unwrap_err();
            Err(failure)
        }
    }
}

fn run<F: Future<Output = ()>>(test: impl Fn(Rc<Reactor>) -> F) {
    event_loop::run(|| async { test(Reactor::start().unwrap()).await }).unwrap();
}

#[test]
fn a_certificate_is_chosen_by_its_names_exact_ones_first() {
    let names: [&[&str]; 4] = [
        &["first.example"],
        &["*.example", "other.test"],
        &["exact.example", "*.deep.example"],
        &["*.exact.example"],
    ];
    let certificates = names.map(certificate);
    let by_name = ByName::new(&certificates);
    for (name, expected) in [
        (None, 0),
        (Some("first.example"), 0),
        (Some("any.example"), 1),
        (Some("other.test"), 1),
        (Some("exact.example"), 2),
        (Some("a.deep.example"), 2),
        (Some("a.exact.example"), 3),
        // One label only, and a wildcard is not for its parent.
        (Some("a.b.example"), 0),
        (Some("example"), 0),
        (Some("nowhere.test"), 0),
        (Some("*.example"), 1),
    ] {
        let chosen = by_name.choose(name, &[]).unwrap();
        let index = certificates.iter().position(|known| Arc::ptr_eq(known.key(), chosen));
        assert_eq!(index, Some(expected), "{name:?}");
    }
}

#[test]
fn of_two_certificates_for_a_name_the_client_gets_one_that_it_can_check() {
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let params = CertificateParams::new(vec!["one.example".to_owned()]).unwrap();
    let made = params.self_signed(&rsa).unwrap().pem();
    let rsa = Arc::new(
        ServerCertificate::from_pem(made.as_bytes(), rsa.serialize_pem().as_bytes()).unwrap(),
    );
    let ecdsa = certificate(&["one.example"]);
    let only_rsa = [SignatureScheme::RSA_PSS_SHA256];
    let only_ecdsa = [SignatureScheme::ECDSA_NISTP256_SHA256];
    for (certificates, first) in [([&rsa, &ecdsa], &rsa), ([&ecdsa, &rsa], &ecdsa)] {
        let by_name = ByName::new(&certificates.map(Arc::clone));
        for name in [Some("one.example"), None] {
            for (schemes, expected) in [
                (&only_rsa[..], &rsa),
                (&only_ecdsa, &ecdsa),
                (&[only_rsa[0], only_ecdsa[0]], first),
                (&[], first),
            ] {
                let chosen = by_name.choose(name, schemes).unwrap();
                assert!(Arc::ptr_eq(chosen, expected.key()), "{name:?} {schemes:?}");
            }
        }
    }
}

#[test]
fn what_was_agreed_on_is_known() {
    let site = Site::new();
    run(|reactor| {
        let site = &site;
        async move {
            for (version, alpn) in [(&TLS12, None), (&TLS13, Some(b"http/1.1"))] {
                let mut config = site.client(version, None);
                config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
                let (ours, theirs) = socket::pair().unwrap();
                let client = client(&Arc::new(config), blocking(theirs));
                let socket = Socket::new(ours, &reactor).unwrap();
                let server = site.server(None);
                let stream = Stream::accept_tls(socket, &server, &Rc::default()).await.unwrap();
                let agreed = stream.negotiated().unwrap().clone();
                let is_new = version.version == TLS13.version;
                let cipher = if is_new {
                    "TLS_AES_128_GCM_SHA256"
                } else {
                    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"
                };
                assert_eq!(agreed.version == TlsVersion::Tls13, is_new);
                assert_eq!(
                    agreed.cipher, cipher,
                    "the fastest, although the client prefers others"
                );
                assert_eq!(agreed.sni.as_deref(), Some("localhost"));
                assert_eq!(agreed.alpn, if is_new { Alpn::Http11 } else { Alpn::None });
                assert!(!agreed.resumed);
                assert_eq!(stream.try_write(&[], &[]).unwrap(), Some(0), "nothing is done at once");
                serve(&stream).await;
                assert!(!stream.has_leftover());
                client.join().unwrap().unwrap();
            }
        }
    });
}

#[test]
fn a_session_resumes_on_every_server_with_its_keys_until_the_rules_for_clients_change() {
    let site = Site::new();
    let (ours, others) = (Authority::new(), Authority::new());
    let (ours, pem, others) = (&ours, &ours.pem(), &others.pem());
    run(|reactor| {
        let site = &site;
        async move {
            for version in [&TLS12, &TLS13] {
                let config = Arc::new(site.client(version, Some(ours.issue())));
                for (client_ca, expected) in [
                    (None, Ok(false)),
                    (None, Ok(true)),
                    (Some(pem), Ok(false)),
                    (Some(pem), Ok(true)),
                    (None, Ok(false)),
                    (Some(pem), Ok(false)),
                    (Some(others), Err(HandshakeFailure::CertificateRefused)),
                ] {
                    // Each time another server.
                    let server = site.server(client_ca.map(String::as_str));
                    let resumed = visit(&reactor, &server, &config).await;
                    assert_eq!(resumed, expected, "{version:?} {client_ca:?}");
                }
            }
        }
    });
}

#[test]
fn a_client_must_show_a_certificate_where_there_is_an_authority() {
    let site = Site::new();
    let (ours, others) = (Authority::new(), Authority::new());
    run(|reactor| {
        let (site, ours, others) = (&site, &ours, &others);
        async move {
            for version in [&TLS12, &TLS13] {
                let server = site.server(Some(&ours.pem()));
                for (identity, expected) in [
                    (Some(ours.issue()), Ok(false)),
                    (None, Err(HandshakeFailure::CertificateMissing)),
                    (Some(others.issue()), Err(HandshakeFailure::CertificateRefused)),
                ] {
                    let config = Arc::new(site.client(version, identity));
                    assert_eq!(visit(&reactor, &server, &config).await, expected, "{version:?}");
                }
            }
        }
    });
}

#[test]
fn a_resumed_client_is_judged_by_its_certificate_again() {
    let site = Site::new();
    let ours = Authority::new();
    let server = site.server(Some(&ours.pem()));
    let (chain, _) = ours.issue();
    let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let now = UnixTime::now();
    server.judge_again(Some(&chain), now).unwrap();
    // Certificates of rcgen end in the year 4096.
    server.judge_again(Some(&chain), at(70_000_000_000)).unwrap_err();
    server.judge_again(Some(&Authority::new().issue().0), now).unwrap_err();
    server.judge_again(None, now).unwrap_err();
    site.server(None).judge_again(None, now).unwrap();
}

#[test]
fn only_versions_that_are_allowed_are_spoken() {
    let site = Site::new();
    let policy = ServerPolicy {
        min_version: TlsVersion::Tls13,
        client_ca: None,
        http2: false,
        tickets: &site.tickets,
    };
    let server = TlsServer::new(&policy, &[Arc::clone(&site.certificate)]).unwrap();
    run(|reactor| {
        let (site, server) = (&site, &server);
        async move {
            let old = visit(&reactor, server, &Arc::new(site.client(&TLS12, None))).await;
            assert_eq!(old, Err(HandshakeFailure::Version));
            let new = visit(&reactor, server, &Arc::new(site.client(&TLS13, None))).await;
            assert_eq!(new, Ok(false));
        }
    });
}

#[test]
fn a_protocol_that_is_not_spoken_is_refused() {
    let site = Site::new();
    run(|reactor| {
        let site = &site;
        async move {
            let mut config = site.client(&TLS13, None);
            config.alpn_protocols = vec![b"h2".to_vec()];
            let visited = visit(&reactor, &site.server(None), &Arc::new(config)).await;
            assert_eq!(visited, Err(HandshakeFailure::Protocol));
        }
    });
}

#[test]
fn policies_that_cannot_be_served_are_refused() {
    let site = Site::new();
    let new = |client_ca: Option<&[u8]>, certificates: &[Arc<ServerCertificate>]| {
        let policy = ServerPolicy {
            min_version: TlsVersion::Tls12,
            client_ca,
            http2: true,
            tickets: &site.tickets,
        };
        TlsServer::new(&policy, certificates).map(|_| ()).unwrap_err()
    };
    assert_eq!(new(None, &[]), "no certificate");
    let own = [Arc::clone(&site.certificate)];
    let problem = new(Some(b"nothing here"), &own);
    assert!(problem.starts_with("holds no PEM certificate"), "{problem}");
    let problem =
        new(Some(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), &own);
    assert!(problem.starts_with("certificate 1 is not a usable CA"), "{problem}");
}

/// A client that sends these bytes and ends; what it got.
async fn greeted_with(
    reactor: &Rc<Reactor>,
    server: &TlsServer,
    bytes: &[u8],
) -> (Refused, Vec<u8>) {
    let (ours, theirs) = socket::pair().unwrap();
    let mut theirs = blocking(theirs);
    theirs.write_all(bytes).unwrap();
    let socket = Socket::new(ours, reactor).unwrap();
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    let Err(refused) = Stream::accept_tls(socket, server, &Rc::default()).await else {
        panic!("a session came about")
    };
    refused.socket.finish();
    let mut got = Vec::new();
    theirs.read_to_end(&mut got).unwrap();
    (refused, got)
}

#[test]
fn http_without_tls_is_recognised_and_other_bytes_are_answered_with_an_alert() {
    let site = Site::new();
    run(|reactor| {
        let site = &site;
        async move {
            let server = site.server(None);
            let (refused, got) =
                greeted_with(&reactor, &server, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").await;
            assert_eq!(refused.failure, HandshakeFailure::NotTls);
            assert_eq!(refused.plain_greeting.as_deref(), Some(&b"HEAD "[..]));
            assert_eq!(got, b"");
            for (bytes, failure) in [
                (&b"\x80\x2e\x01\x03\x01\x00\x15"[..], HandshakeFailure::NotTls),
                (b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", HandshakeFailure::Malformed),
                (b"\x17\x03\x03\x00\x02ab", HandshakeFailure::Malformed),
            ] {
                let (refused, got) = greeted_with(&reactor, &server, bytes).await;
                assert_eq!((refused.failure, refused.plain_greeting), (failure, None), "{bytes:?}");
                assert_eq!(got.first(), Some(&21), "an alert, not {got:?}");
            }
            let (refused, got) = greeted_with(&reactor, &server, b"\x16\x03\x01").await;
            assert_eq!((refused.failure, got), (HandshakeFailure::Closed, Vec::new()));
        }
    });
}

#[test]
fn a_part_of_a_record_is_kept_in_memory_of_its_size() {
    let (mut ours, mut server) = pair_of(&[&TLS13], None);
    server.write_plain(b"whole");
    let mut cipher = server.take_cipher();
    server.write_plain(&[7; 10_000]);
    let second = server.take_cipher();
    cipher.extend_from_slice(&second[..4_000]);
    assert_eq!(take_in(&mut ours, &cipher, || usize::MAX), b"whole");
    ours.stow();
    assert_eq!(ours.incoming_bytes(), 4_000);
    ours.stow();
    assert!(!ours.is_quiet());
    // Sending meanwhile changes nothing.
    assert_eq!(server.give_cipher(&encrypt(&mut ours, b"more")).unwrap(), b"more");
    assert_eq!(take_in(&mut ours, &second[4_000..], || 1_500), [7; 10_000]);
    ours.stow();
    assert!(ours.is_quiet() && ours.incoming_bytes() == 0);
}

#[test]
fn a_hello_that_drips_is_kept_in_memory_of_its_size() {
    let site = Site::new();
    let mut hello = client_records(&Arc::new(site.client(&TLS13, None)));
    hello.start();
    let hello = take_unsent(&mut hello);
    let mut ours =
        Records::new(site.server(None).connection().unwrap(), &Rc::new(Buffers::default()));
    for (byte, number) in hello.iter().zip(1..) {
        take_in(&mut ours, &[*byte], || 1);
        ours.stow();
        let expected = if number == hello.len() { 0 } else { number };
        assert_eq!(ours.incoming_bytes(), expected);
    }
    assert!(!ours.unsent().is_empty());
}

#[test]
fn a_ticket_and_what_the_client_asked_for_meanwhile_go_out_together() {
    let site = Site::new();
    run(|reactor| {
        let site = &site;
        async move {
            let (ours, theirs) = socket::pair().unwrap();
            let mut theirs = blocking(theirs);
            let config = Arc::new(site.client(&TLS13, None));
            let client = thread::spawn(move || {
                let mut connection = ClientConnection::new(config, name()).unwrap();
                // The request comes with the end of the handshake.
                connection.writer().write_all(b"x").unwrap();
                while connection.is_handshaking() {
                    connection.complete_io(&mut theirs).unwrap();
                }
                while connection.wants_write() {
                    connection.write_tls(&mut theirs).unwrap();
                }
                let mut first = vec![0; 65_536];
                let length = theirs.read(&mut first).unwrap();
                let mut first = &first[..length];
                while !first.is_empty() {
                    connection.read_tls(&mut first).unwrap();
                    connection.process_new_packets().unwrap();
                }
                let mut response = [0; 8];
                connection.reader().read_exact(&mut response).unwrap();
                assert_eq!(connection.tls13_tickets_received(), 1);
                response
            });
            let socket = Socket::new(ours, &reactor).unwrap();
            let server = site.server(None);
            let stream = Stream::accept_tls(socket, &server, &Rc::default()).await.unwrap();
            serve(&stream).await;
            assert_eq!(&client.join().unwrap(), b"response");
        }
    });
}
