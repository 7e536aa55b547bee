//! Records against rustls' own buffered connections, in fragments of random sizes; and sessions
//! against a server at the other end of a socket.
#![allow(clippy::print_stdout, reason = "a failed test shows the seed that replays it")]

mod handshake_messages;
mod server;

use std::{
    io::{Read, Write},
    os::fd::OwnedFd,
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use rustls::{
    AlertDescription, CipherSuite, ClientConfig, ClientConnection, Error, HandshakeKind,
    ProtocolVersion, RootCertStore, ServerConfig, ServerConnection, SupportedProtocolVersion,
    client::UnbufferedClientConnection,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName},
    server::UnbufferedServerConnection,
    version::{TLS12, TLS13},
};

use super::{
    TlsClient, in_place,
    records::{Records, Side},
};
use crate::system::{
    buffers::Buffers,
    event_loop, process,
    reactor::Reactor,
    socket::{self, Socket},
    stream::Stream,
};

/// Numbers that look random, the same for the same seed (xorshift64*).
struct Random(u64);

impl Random {
    /// `TLS_TEST_SEED` replays a run.
    fn new() -> Self {
        let mut seed = [0; 8];
        process::random(&mut seed).unwrap();
        let given = std::env::var("TLS_TEST_SEED").ok().map(|seed| seed.parse().unwrap());
        let seed = given.unwrap_or_else(|| u64::from_le_bytes(seed) | 1);
        println!("TLS_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(high).unwrap() % end.max(1)
    }

    /// Often small, seldom as large as `most`.
    fn size(&mut self, most: usize) -> usize {
        let bits = self.below(usize::try_from(most.ilog2()).unwrap() + 2);
        self.below((1 << bits).min(most + 1))
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| u8::try_from(self.below(256)).unwrap()).collect()
    }
}

/// A certificate for `localhost`, and who trusts it.
struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    pem: String,
}

impl Identity {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        Self { certificate: made.cert.der().clone(), key: key.into(), pem: made.cert.pem() }
    }

    fn server(&self, provider: Arc<CryptoProvider>, fragment: Option<usize>) -> Arc<ServerConfig> {
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], self.key.clone_key())
            .unwrap();
        config.max_fragment_size = fragment;
        Arc::new(config)
    }

    fn client(
        &self,
        provider: Arc<CryptoProvider>,
        versions: &[&'static SupportedProtocolVersion],
        fragment: Option<usize>,
    ) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.max_fragment_size = fragment;
        Arc::new(config)
    }
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

fn rustls_provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn only(provider: &CryptoProvider, suite: CipherSuite) -> Arc<CryptoProvider> {
    let mut provider = provider.clone();
    provider.cipher_suites.retain(|known| known.suite() == suite);
    assert_eq!(provider.cipher_suites.len(), 1);
    Arc::new(provider)
}

/// The other end: a buffered connection of rustls.
trait Peer {
    fn write_plain(&mut self, bytes: &[u8]);
    fn take_cipher(&mut self) -> Vec<u8>;
    fn give_cipher(&mut self, bytes: &[u8]) -> Result<Vec<u8>, Error>;
    fn close(&mut self);
    fn refresh_keys(&mut self);
}

macro_rules! peer {
    ($connection:ty) => {
        impl Peer for $connection {
            fn write_plain(&mut self, bytes: &[u8]) {
                self.set_buffer_limit(None);
                self.writer().write_all(bytes).unwrap();
            }

            fn take_cipher(&mut self) -> Vec<u8> {
                let mut taken = Vec::new();
                while self.wants_write() {
                    self.write_tls(&mut taken).unwrap();
                }
                taken
            }

            fn give_cipher(&mut self, mut bytes: &[u8]) -> Result<Vec<u8>, Error> {
                let mut plain = Vec::new();
                while !bytes.is_empty() {
                    if self.read_tls(&mut bytes).unwrap() == 0 {
                        break;
                    }
                    let state = self.process_new_packets()?;
                    let before = plain.len();
                    plain.resize(before + state.plaintext_bytes_to_read(), 0);
                    self.reader().read_exact(&mut plain[before..]).unwrap();
                }
                Ok(plain)
            }

            fn close(&mut self) {
                self.send_close_notify();
            }

            fn refresh_keys(&mut self) {
                self.refresh_traffic_keys().unwrap();
            }
        }
    };
}

peer!(ServerConnection);
peer!(ClientConnection);

/// Takes in `cipher` in pieces, and returns what is decrypted.
fn take_in<S: Side>(
    ours: &mut Records<S>,
    mut cipher: &[u8],
    mut piece: impl FnMut() -> usize,
) -> Vec<u8> {
    let mut plain = Vec::new();
    while !cipher.is_empty() {
        let room = ours.room().unwrap();
        let count = cipher.len().min(room.len()).min(piece().max(1));
        room[..count].copy_from_slice(&cipher[..count]);
        cipher = &cipher[count..];
        ours.received(count);
        plain.extend(read(ours));
    }
    plain
}

fn read<S: Side>(ours: &mut Records<S>) -> Vec<u8> {
    let mut plain = Vec::new();
    while !ours.plain().is_empty() {
        // Not always the whole of what is offered.
        let count = ours.plain().len().div_ceil(2);
        plain.extend_from_slice(&ours.plain()[..count]);
        ours.consume(count);
    }
    plain
}

fn take_unsent<S: Side>(ours: &mut Records<S>) -> Vec<u8> {
    let unsent = ours.unsent().to_vec();
    ours.sent(unsent.len());
    unsent
}

fn encrypt<S: Side>(ours: &mut Records<S>, mut plain: &[u8]) -> Vec<u8> {
    let mut cipher = Vec::new();
    while !plain.is_empty() {
        let count = ours.encrypt(plain).unwrap();
        plain = &plain[count..];
        cipher.extend(take_unsent(ours));
        assert!(count > 0, "nothing waited, so there was room");
    }
    cipher
}

fn shake_hands<S: Side>(
    ours: &mut Records<S>,
    peer: &mut dyn Peer,
    mut piece: impl FnMut() -> usize,
) {
    ours.start();
    for _ in 0..4 {
        let cipher = take_unsent(ours);
        assert_eq!(peer.give_cipher(&cipher).unwrap(), b"");
        let cipher = peer.take_cipher();
        assert_eq!(take_in(ours, &cipher, &mut piece), b"");
    }
    assert!(!ours.is_handshaking());
    assert!(ours.failure().is_none(), "{ours:?}");
}

fn client_records(config: &Arc<ClientConfig>) -> Records<UnbufferedClientConnection> {
    let side = UnbufferedClientConnection::new(Arc::clone(config), name()).unwrap();
    Records::new(side, &Rc::default())
}

/// Our client and a server, hands shaken.
fn pair() -> (Records<UnbufferedClientConnection>, ServerConnection) {
    pair_of(&[&TLS13], None)
}

fn pair_of(
    versions: &[&'static SupportedProtocolVersion],
    fragment: Option<usize>,
) -> (Records<UnbufferedClientConnection>, ServerConnection) {
    let identity = Identity::new();
    let config = identity.client(in_place::provider(), versions, None);
    let mut ours = client_records(&config);
    let mut server = ServerConnection::new(identity.server(rustls_provider(), fragment)).unwrap();
    shake_hands(&mut ours, &mut server, || usize::MAX);
    (ours, server)
}

/// Talks in both directions for a while.
fn converse<S: Side>(
    ours: &mut Records<S>,
    peer: &mut dyn Peer,
    random: &mut Random,
    updates_keys: bool,
) {
    for round in 0..60 {
        let mut expected = Vec::new();
        for _ in 0..random.below(4) {
            let length = random.size(100_000);
            let bytes = random.bytes(length);
            peer.write_plain(&bytes);
            expected.extend(bytes);
            if updates_keys && random.below(8) == 0 {
                peer.refresh_keys();
            }
        }
        let cipher = peer.take_cipher();
        let most = 1 + random.size(200_000);
        let got = take_in(ours, &cipher, || 1 + random.below(most));
        assert!(got == expected, "round {round}: {} of {} bytes", got.len(), expected.len());
        assert!(ours.is_quiet(), "round {round}: {ours:?}");

        let length = random.size(100_000);
        let sent = random.bytes(length);
        let cipher = encrypt(ours, &sent);
        let got = peer.give_cipher(&cipher).unwrap();
        assert!(got == sent, "round {round}: {} of {} bytes", got.len(), sent.len());
    }
}

#[test]
fn a_client_talks_in_every_version_and_suite() {
    let mut random = Random::new();
    let identity = Identity::new();
    for suite in in_place::provider().cipher_suites.iter().map(rustls::SupportedCipherSuite::suite)
    {
        if format!("{suite:?}").contains("RSA") {
            continue; // The key is for ECDSA.
        }
        let is_new = format!("{suite:?}").starts_with("TLS13");
        let versions = if is_new { [&TLS13] } else { [&TLS12] };
        let fragment = [None, Some(32), Some(500), Some(5_000)][random.below(4)];
        println!("{suite:?}, {fragment:?}");
        let config = identity.client(only(&in_place::provider(), suite), &versions, fragment);
        let mut ours = client_records(&config);
        let server = identity.server(rustls_provider(), fragment);
        let mut server = ServerConnection::new(server).unwrap();
        let most = 1 + random.size(5_000);
        shake_hands(&mut ours, &mut server, || random.below(most));
        assert_eq!(server.negotiated_cipher_suite().unwrap().suite(), suite);
        converse(&mut ours, &mut server, &mut random, is_new);
    }
}

#[test]
fn a_server_talks_in_both_versions() {
    let mut random = Random::new();
    let identity = Identity::new();
    for version in [&TLS12, &TLS13] {
        let config = identity.server(in_place::provider(), None);
        let side = UnbufferedServerConnection::new(config).unwrap();
        let mut ours = Records::new(side, &Rc::default());
        let config = identity.client(rustls_provider(), &[version], None);
        let mut client = ClientConnection::new(config, name()).unwrap();
        shake_hands(&mut ours, &mut client, || 7);
        converse(&mut ours, &mut client, &mut random, version.version == ProtocolVersion::TLSv1_3);
    }
}

#[test]
fn aes_128_is_agreed_on_with_a_server_that_leaves_the_choice() {
    let identity = Identity::new();
    let mut config = ServerConfig::clone(&identity.server(rustls_provider(), None));
    config.ignore_client_order = false;
    let mut server = ServerConnection::new(Arc::new(config)).unwrap();
    let config = identity.client(in_place::provider(), &[&TLS12, &TLS13], None);
    let mut ours = client_records(&config);
    shake_hands(&mut ours, &mut server, || usize::MAX);
    let suite = server.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, CipherSuite::TLS13_AES_128_GCM_SHA256);
}

#[test]
fn records_may_be_split_anywhere() {
    for version in [&TLS12, &TLS13] {
        let (mut ours, mut server) = pair_of(&[version], None);
        let length = 2 * (60 + 40);
        for split in 1..length {
            for part in [[b'a'; 60].as_slice(), [b'b'; 40].as_slice()] {
                server.write_plain(part);
            }
            let cipher = server.take_cipher();
            assert!(cipher.len() < length, "{}", cipher.len());
            let mut pieces = [split, usize::MAX].into_iter();
            let got = take_in(&mut ours, &cipher, || pieces.next().unwrap_or(usize::MAX));
            assert_eq!(got, [[b'a'; 60].as_slice(), [b'b'; 40].as_slice()].concat(), "at {split}");
        }
    }
}

#[test]
fn plaintext_can_be_read_where_a_record_is_not_yet_complete() {
    let (mut ours, mut server) = pair();
    server.write_plain(b"first");
    let first = server.take_cipher();
    server.write_plain(b"second");
    let second = server.take_cipher();
    let both = [first.as_slice(), second.as_slice()].concat();
    let room = ours.room().unwrap();
    room[..both.len() - 1].copy_from_slice(&both[..both.len() - 1]);
    ours.received(both.len() - 1);
    assert_eq!(read(&mut ours), b"first");
    assert!(!ours.is_quiet(), "a part of a record is there");
    // Sending meanwhile changes nothing.
    assert_eq!(server.give_cipher(&encrypt(&mut ours, b"more")).unwrap(), b"more");
    assert_eq!(take_in(&mut ours, &both[both.len() - 1..], || 1), b"second");
    assert!(ours.is_quiet());
}

#[test]
fn sending_goes_on_while_a_handshake_message_is_half_there() {
    let identity = Identity::new();
    let mut ours = client_records(&identity.client(in_place::provider(), &[&TLS13], None));
    // Tickets in records of 32 bytes.
    let server = identity.server(rustls_provider(), Some(32));
    let mut server = ServerConnection::new(server).unwrap();
    ours.start();
    let cipher = take_unsent(&mut ours);
    server.give_cipher(&cipher).unwrap();
    let cipher = server.take_cipher();
    take_in(&mut ours, &cipher, || usize::MAX);
    let cipher = take_unsent(&mut ours);
    server.give_cipher(&cipher).unwrap();
    server.write_plain(b"behind the tickets");
    let tickets = server.take_cipher();
    let mut plain = Vec::new();
    for byte in &tickets {
        plain.extend(take_in(&mut ours, &[*byte], || 1));
        let cipher = encrypt(&mut ours, b"x");
        assert_eq!(server.give_cipher(&cipher).unwrap(), b"x");
    }
    assert_eq!(plain, b"behind the tickets");
    assert!(ours.is_quiet(), "{ours:?}");
}

#[test]
fn a_later_connection_resumes() {
    let identity = Identity::new();
    for version in [&TLS12, &TLS13] {
        let client = identity.client(in_place::provider(), &[version], None);
        let server = identity.server(rustls_provider(), None);
        let mut kinds = Vec::new();
        for _ in 0..3 {
            let mut ours = client_records(&client);
            let mut server = ServerConnection::new(Arc::clone(&server)).unwrap();
            shake_hands(&mut ours, &mut server, || usize::MAX);
            kinds.push(server.handshake_kind().unwrap());
        }
        let resumed = HandshakeKind::Resumed;
        assert_eq!(kinds, [HandshakeKind::Full, resumed, resumed], "{version:?}");
    }
}

#[test]
fn no_buffer_is_held_while_there_is_nothing_to_hold() {
    let buffers = Rc::new(Buffers::default());
    let identity = Identity::new();
    let config = identity.client(in_place::provider(), &[&TLS13], None);
    let side = UnbufferedClientConnection::new(config, name()).unwrap();
    let mut ours = Records::new(side, &buffers);
    let mut server = ServerConnection::new(identity.server(rustls_provider(), None)).unwrap();
    shake_hands(&mut ours, &mut server, || 100);
    server.write_plain(&vec![1; 50_000]);
    let cipher = server.take_cipher();
    take_in(&mut ours, &cipher, || 9_000);
    encrypt(&mut ours, &vec![2; 50_000]);
    // Both buffers that were ever made are there to be taken.
    let (first, second) = (buffers.records(), buffers.records());
    assert!(first.iter().any(|byte| *byte != 0) && second.iter().any(|byte| *byte != 0));
    assert!(buffers.records().iter().all(|byte| *byte == 0), "the third is a new one");
    ours.room().unwrap();
    ours.received(0);
    assert!(ours.is_quiet());
}

#[test]
fn what_was_whole_before_an_altered_record_is_delivered_and_the_peer_is_told_why() {
    for version in [&TLS12, &TLS13] {
        let (mut ours, mut server) = pair_of(&[version], None);
        server.write_plain(b"whole");
        let mut cipher = server.take_cipher();
        server.write_plain(b"altered");
        cipher.extend(server.take_cipher());
        *cipher.last_mut().unwrap() ^= 1;
        server.write_plain(b"behind it");
        cipher.extend(server.take_cipher());
        assert_eq!(take_in(&mut ours, &cipher, || usize::MAX), b"whole");
        assert_eq!(ours.failure().unwrap().kind(), std::io::ErrorKind::InvalidData);
        let alert = take_unsent(&mut ours);
        let error = server.give_cipher(&alert).unwrap_err();
        assert_eq!(error, Error::AlertReceived(AlertDescription::BadRecordMac));
        assert!(!ours.is_quiet());
    }
}

#[test]
fn garbage_fails_and_does_not_panic() {
    let mut random = Random::new();
    for _ in 0..300 {
        let (mut ours, mut server) = pair();
        server.write_plain(&[7; 3_000]);
        let mut cipher = server.take_cipher();
        match random.below(3) {
            0 => cipher = random.bytes(cipher.len()),
            1 => {
                // The record's version, which must be ignored (RFC 8446 section 5.1), is left
                // alone.
                let at = random.below(cipher.len() - 2);
                cipher[if at == 0 { at } else { at + 2 }] ^=
                    u8::try_from(1 + random.below(255)).unwrap();
            }
            _ => cipher.splice(0..0, [22, 3, 3, 0, 1, 9]).for_each(drop),
        }
        let most = cipher.len();
        let got = take_in(&mut ours, &cipher, || random.below(most));
        assert!(got.len() < 3_000, "{}", got.len());
        let _ = ours.encrypt(b"x");
        let _ = ours.close();
    }
}

#[test]
fn alerts_end_the_connection() {
    let (mut ours, mut server) = pair();
    let alert = encrypt(&mut ours, b"x");
    let mut altered = alert;
    altered[7] ^= 1;
    server.give_cipher(&altered).unwrap_err();
    let alert = server.take_cipher();
    assert_eq!(take_in(&mut ours, &alert, || 3), b"");
    assert!(ours.failure().unwrap().to_string().contains("BadRecordMac"), "{ours:?}");
}

#[test]
fn close_notify_is_an_end_and_what_follows_is_ignored() {
    for version in [&TLS12, &TLS13] {
        let (mut ours, mut server) = pair_of(&[version], None);
        server.write_plain(b"all");
        server.close();
        let mut cipher = server.take_cipher();
        cipher.extend_from_slice(b"garbage");
        assert_eq!(take_in(&mut ours, &cipher, || usize::MAX), b"all");
        assert!(ours.is_closed() && ours.failure().is_none() && !ours.is_quiet(), "{ours:?}");
        assert_eq!(take_in(&mut ours, b"more garbage", || 5), b"");
        // The other direction is still open.
        assert_eq!(server.give_cipher(&encrypt(&mut ours, b"late")).unwrap(), b"late");
        ours.close().unwrap();
        let unsent = take_unsent(&mut ours);
        assert_eq!(server.give_cipher(&unsent).unwrap(), b"");
        assert!(server.process_new_packets().unwrap().peer_has_closed());
        ours.close().unwrap_err();
        assert!(ours.unsent().is_empty(), "said once");
    }
}

#[test]
fn a_buffer_full_of_tiny_records_is_taken_in() {
    let (mut ours, mut server) = pair_of(&[&TLS13], Some(32));
    let sent: Vec<u8> = (0..30_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    server.write_plain(&sent);
    let cipher = server.take_cipher();
    assert!(take_in(&mut ours, &cipher, || usize::MAX) == sent);
}

#[test]
fn several_records_wait_to_be_sent_together() {
    let (mut ours, mut server) = pair();
    let sent = vec![3; 60_000];
    assert_eq!(ours.encrypt(&sent[..100]).unwrap(), 100);
    let more = ours.encrypt(&sent[100..]).unwrap();
    assert!(more >= 2 * 16_384, "{more}");
    let cipher = take_unsent(&mut ours);
    assert!(server.give_cipher(&cipher).unwrap() == sent[..100 + more]);
}

/// A server at the other end of a socket, on a thread of its own. `serve` gets it after its
/// handshake, and the socket.
fn with_session<F: Future<Output = ()>>(
    serve: impl Fn(ServerConnection, std::os::unix::net::UnixStream) + Clone + Send + 'static,
    test: impl Fn(Stream) -> F,
) {
    let identity = Identity::new();
    let config = identity.server(rustls_provider(), None);
    let client = TlsClient::new("localhost", Some(identity.pem.as_bytes())).unwrap();
    event_loop::run(|| async {
        let reactor = Reactor::start().unwrap();
        let (ours, theirs) = socket::pair().unwrap();
        let (config, serve) = (Arc::clone(&config), serve.clone());
        let thread = std::thread::spawn(move || {
            let mut theirs = blocking(theirs);
            let mut server = ServerConnection::new(config).unwrap();
            while server.is_handshaking() {
                server.complete_io(&mut theirs).unwrap();
            }
            serve(server, theirs);
        });
        let socket = Socket::new(ours, &reactor).unwrap();
        test(Stream::secure(socket, &client, &Rc::default()).await.unwrap()).await;
        thread.join().unwrap();
    })
    .unwrap();
}

fn blocking(fd: OwnedFd) -> std::os::unix::net::UnixStream {
    let stream = std::os::unix::net::UnixStream::from(fd);
    stream.set_nonblocking(false).unwrap();
    stream
}

#[test]
fn a_session_asks_and_reads_the_response() {
    let length = 300_000;
    with_session(
        move |mut server, mut stream| {
            let mut tls = rustls::Stream::new(&mut server, &mut stream);
            let mut request = [0; 7];
            tls.read_exact(&mut request).unwrap();
            assert_eq!(&request, b"request");
            tls.write_all(&vec![5; length]).unwrap();
            let mut end = [0; 1];
            assert_eq!(tls.read(&mut end).unwrap(), 0, "close_notify, not a bare end");
        },
        |stream| async move {
            assert!(stream.is_quiet());
            stream.write_all(b"request").await.unwrap();
            let mut into = vec![0; 50_000];
            let mut received = 0;
            while received < length {
                let count = stream.read(&mut into).await.unwrap();
                assert!(count > 0 && into[..count].iter().all(|byte| *byte == 5));
                received += count;
            }
            assert_eq!(received, length);
            assert!(stream.is_quiet() && !stream.has_leftover());
            stream.finish();
        },
    );
}

#[test]
fn nothing_may_be_written_and_may_be_the_last_that_is() {
    with_session(
        |mut server, mut stream| {
            let mut tls = rustls::Stream::new(&mut server, &mut stream);
            tls.write_all(b"x").unwrap();
            assert_eq!(tls.read(&mut [0; 1]).unwrap(), 0, "close_notify");
        },
        |stream| async move {
            // The server has come to the end of its handshake.
            assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 1);
            assert_eq!(stream.try_write(&[], &[]).unwrap(), Some(0));
            assert_eq!(stream.try_write_part(&[], &[], true).unwrap(), Some(0));
        },
    );
}

#[test]
fn an_end_without_close_notify_is_an_error_and_comes_after_the_bytes() {
    for says_so in [true, false] {
        with_session(
            move |mut server, mut stream| {
                server.writer().write_all(b"body").unwrap();
                if says_so {
                    server.send_close_notify();
                }
                while server.wants_write() {
                    server.write_tls(&mut stream).unwrap();
                }
            },
            move |stream| async move {
                let mut into = [0; 100];
                let mut received = Vec::new();
                let end = loop {
                    match stream.read(&mut into).await {
                        Ok(0) => break None,
                        Ok(count) => received.extend_from_slice(&into[..count]),
                        Err(error) => break Some(error.kind()),
                    }
                };
                assert_eq!(received, b"body");
                let expected = (!says_so).then_some(std::io::ErrorKind::UnexpectedEof);
                assert_eq!(end, expected);
                assert!(!stream.is_quiet());
            },
        );
    }
}

#[test]
fn a_wait_may_be_dropped_and_taken_up_again() {
    with_session(
        |mut server, mut stream| {
            server.writer().write_all(&vec![9; 40_000]).unwrap();
            let mut cipher = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut cipher).unwrap();
            }
            for piece in cipher.chunks(3_001) {
                stream.write_all(piece).unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
            let mut end = [0; 1];
            let _ = stream.read(&mut end);
        },
        |stream| async move {
            let mut into = [0; 1_000];
            let (mut received, mut dropped) = (0, 0);
            while received < 40_000 {
                monoio::select! {
                    count = stream.read(&mut into) => {
                        let count = count.unwrap();
                        assert!(into[..count].iter().all(|byte| *byte == 9));
                        received += count;
                    }
                    () = stream.registration().reactor.sleep(Duration::from_micros(1)) => dropped += 1,
                }
            }
            assert_eq!(received, 40_000);
            assert!(dropped > 0);
            stream.finish();
        },
    );
}
