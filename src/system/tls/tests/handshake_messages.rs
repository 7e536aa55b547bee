//! Handshake messages after the handshake, whole and in part, from a peer that means harm.

use std::sync::Arc;

use rustls::{
    CipherSuiteCommon, ConnectionTrafficSecrets, ContentType, Error, ServerConfig,
    ServerConnection, SupportedCipherSuite, Tls13CipherSuite,
    client::UnbufferedClientConnection,
    crypto::{
        CryptoProvider,
        cipher::{
            AeadKey, Iv, MessageDecrypter, MessageEncrypter, OutboundOpaqueMessage,
            OutboundPlainMessage, Tls13AeadAlgorithm, UnsupportedOperationError,
        },
    },
    version::TLS13,
};

use super::{Identity, Peer, client_records, encrypt, shake_hands, take_in, take_unsent};
use crate::system::tls::{in_place, records::Records};

/// Sends what starts with "HS:" as a handshake record.
struct Mislabelling(&'static dyn Tls13AeadAlgorithm);
struct MislabellingEncrypter(Box<dyn MessageEncrypter>);

impl Tls13AeadAlgorithm for Mislabelling {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(MislabellingEncrypter(self.0.encrypter(key, iv)))
    }
    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        self.0.decrypter(key, iv)
    }
    fn key_len(&self) -> usize {
        self.0.key_len()
    }
    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv)
    }
}

impl MessageEncrypter for MislabellingEncrypter {
    fn encrypt(
        &mut self,
        m: OutboundPlainMessage<'_>,
        seq: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let bytes = m.payload.to_vec();
        if m.typ == ContentType::ApplicationData && bytes.starts_with(b"HS:") {
            let mislabelled = OutboundPlainMessage {
                typ: ContentType::Handshake,
                version: m.version,
                payload: bytes[3..].into(),
            };
            return self.0.encrypt(mislabelled, seq);
        }
        self.0.encrypt(m, seq)
    }
    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        self.0.encrypted_payload_len(payload_len)
    }
}

fn mislabelling_provider() -> Arc<CryptoProvider> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.cipher_suites = provider
        .cipher_suites
        .iter()
        .filter_map(|suite| match suite {
            SupportedCipherSuite::Tls13(inner) => {
                Some(SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                    common: CipherSuiteCommon {
                        suite: inner.common.suite,
                        hash_provider: inner.common.hash_provider,
                        confidentiality_limit: inner.common.confidentiality_limit,
                    },
                    hkdf_provider: inner.hkdf_provider,
                    aead_alg: Box::leak(Box::new(Mislabelling(inner.aead_alg))),
                    quic: None,
                }))))
            }
            SupportedCipherSuite::Tls12(_) => None,
        })
        .collect();
    Arc::new(provider)
}

fn mislabelling_pair() -> (Records<UnbufferedClientConnection>, ServerConnection) {
    let identity = Identity::new();
    let config = identity.client(in_place::provider(), &[&TLS13], None);
    let mut ours = client_records(&config);
    let mut config = ServerConfig::builder_with_provider(mislabelling_provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![identity.certificate.clone()], identity.key.clone_key())
        .unwrap();
    config.max_fragment_size = None;
    let mut server = ServerConnection::new(Arc::new(config)).unwrap();
    shake_hands(&mut ours, &mut server, || usize::MAX);
    (ours, server)
}

#[test]
fn a_failure_behind_a_part_of_a_handshake_message_is_closed_without_a_panic() {
    let (mut ours, mut server) = mislabelling_pair();
    // A NewSessionTicket that says 100 bytes and has 4 of them.
    server.write_plain(b"HS:\x04\x00\x00\x64abcd");
    let mut cipher = server.take_cipher();
    cipher.extend_from_slice(&[23, 3, 3, 0, 40]);
    cipher.extend_from_slice(&[0; 40]);
    take_in(&mut ours, &cipher, || usize::MAX);
    assert!(ours.failure().is_some());
    take_unsent(&mut ours);
    assert!(ours.close().is_err());
}

#[test]
fn a_failure_before_another_handshake_message_is_closed_without_a_panic() {
    let (mut ours, mut server) = mislabelling_pair();
    server.write_plain(b"HS:\x63\x00\x00\x00\x04\x00\x00\x00");
    let cipher = server.take_cipher();
    take_in(&mut ours, &cipher, || usize::MAX);
    assert!(ours.failure().is_some());
    take_unsent(&mut ours);
    assert!(ours.close().is_err());
}

#[test]
fn a_part_of_a_handshake_message_does_not_hinder_writing() {
    let (mut ours, mut server) = mislabelling_pair();
    server.write_plain(b"HS:\x04\x00\x00\x64abcd");
    let cipher = server.take_cipher();
    take_in(&mut ours, &cipher, || 7);
    assert!(ours.failure().is_none());
    assert!(!ours.is_quiet());
    let cipher = encrypt(&mut ours, b"hello");
    assert_eq!(server.give_cipher(&cipher).unwrap(), b"hello");
    server.write_plain(b"HS:zzzz");
    let cipher = server.take_cipher();
    take_in(&mut ours, &cipher, || 5);
    let cipher = encrypt(&mut ours, b"hello");
    assert_eq!(server.give_cipher(&cipher).unwrap(), b"hello");
    assert!(ours.close().is_ok());
}
