//! Cipher suites that leave application data where they decrypted it.
//!
//! rustls decrypts a record in the buffer that it arrived in, and then copies the plaintext into
//! memory of its own for whoever reads it. The copy is of no use to a caller that owns the buffer.
//! So each suite of the provider is wrapped: rustls' own code decrypts and authenticates, and then,
//! if the caller has asked for it, only the first byte of application data is passed on, and the
//! place of all of it is noted. Everything else (handshake messages, alerts, sequence numbers, key
//! updates) is as it was, and so is every connection that has not asked.
//!
//! The decrypters are made by rustls from static tables, so the place is noted per thread.

use std::{
    cell::Cell,
    sync::{Arc, OnceLock},
};

use rustls::{
    CipherSuite, CipherSuiteCommon, ConnectionTrafficSecrets, ContentType, Error,
    SupportedCipherSuite, Tls12CipherSuite, Tls13CipherSuite,
    crypto::{
        CryptoProvider, aws_lc_rs,
        cipher::{
            AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, KeyBlockShape,
            MessageDecrypter, MessageEncrypter, Tls12AeadAlgorithm, Tls13AeadAlgorithm,
            UnsupportedOperationError,
        },
    },
};

/// The place where application data was decrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    address: usize,
    /// Its length in bytes, never 0.
    pub(super) length: usize,
}

impl Place {
    /// The distance in bytes from the start of `buffer`, which it must be part of.
    pub(super) fn offset_in(&self, buffer: &[u8]) -> Option<usize> {
        let offset = self.address.checked_sub(buffer.as_ptr().addr())?;
        offset.checked_add(self.length).filter(|end| *end <= buffer.len()).map(|_| offset)
    }
}

#[derive(Clone, Copy, Debug)]
enum Noting {
    /// Nobody asked: plaintext is passed on whole.
    Off,
    On,
    Noted(Place),
}

thread_local! {
    static NOTING: Cell<Noting> = const { Cell::new(Noting::Off) };
}

/// Calls `process`, which decrypts at most one record of application data, and returns its place.
pub(super) fn noting<T>(process: impl FnOnce() -> T) -> (T, Option<Place>) {
    struct Restore;
    impl Drop for Restore {
        fn drop(&mut self) {
            NOTING.set(Noting::Off);
        }
    }
    let _restore = Restore;
    NOTING.set(Noting::On);
    let result = process();
    let place = match NOTING.get() {
        Noting::Noted(place) => Some(place),
        Noting::Off | Noting::On => None,
    };
    (result, place)
}

/// aws-lc-rs with wrapped suites, the fastest first.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| {
        let mut provider = aws_lc_rs::default_provider();
        let rank = if has_aes() { rank_with_aes } else { rank_without_aes };
        // TLS 1.3 stays before 1.2, and ECDSA before RSA: the sort is stable.
        provider.cipher_suites.sort_by_key(|suite| rank(suite.suite()));
        provider.cipher_suites = provider.cipher_suites.iter().map(wrapped).collect();
        Arc::new(provider)
    }))
}

/// Returns true if the processor encrypts AES-GCM in hardware.
fn has_aes() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq");
    #[cfg(target_arch = "aarch64")]
    return std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    return false;
}

/// Returns true if it is for TLS 1.2, and how slow its cipher is. Breaking 128-bit keys is out of
/// reach, and they take 10 rounds instead of 14.
fn rank_with_aes(suite: CipherSuite) -> (bool, u8) {
    match suite {
        CipherSuite::TLS13_AES_128_GCM_SHA256 => (false, 0),
        CipherSuite::TLS13_AES_256_GCM_SHA384 => (false, 1),
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256 => (false, 2),
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => (true, 0),
        CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
        | CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => (true, 1),
        _ => (true, 2),
    }
}

fn rank_without_aes(suite: CipherSuite) -> (bool, u8) {
    let (old, slowness) = rank_with_aes(suite);
    (old, (slowness + 1) % 3)
}

fn wrapped(suite: &SupportedCipherSuite) -> SupportedCipherSuite {
    match suite {
        SupportedCipherSuite::Tls13(inner) => {
            SupportedCipherSuite::Tls13(Box::leak(Box::new(Tls13CipherSuite {
                common: common(&inner.common),
                hkdf_provider: inner.hkdf_provider,
                aead_alg: Box::leak(Box::new(Aead13(inner.aead_alg))),
                quic: inner.quic,
            })))
        }
        SupportedCipherSuite::Tls12(inner) => {
            SupportedCipherSuite::Tls12(Box::leak(Box::new(Tls12CipherSuite {
                common: common(&inner.common),
                prf_provider: inner.prf_provider,
                kx: inner.kx,
                sign: inner.sign,
                aead_alg: Box::leak(Box::new(Aead12(inner.aead_alg))),
            })))
        }
    }
}

fn common(inner: &CipherSuiteCommon) -> CipherSuiteCommon {
    CipherSuiteCommon {
        suite: inner.suite,
        hash_provider: inner.hash_provider,
        confidentiality_limit: inner.confidentiality_limit,
    }
}

struct Aead13(&'static dyn Tls13AeadAlgorithm);

impl Tls13AeadAlgorithm for Aead13 {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        self.0.encrypter(key, iv)
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(Decrypter(self.0.decrypter(key, iv)))
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

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

struct Aead12(&'static dyn Tls12AeadAlgorithm);

impl Tls12AeadAlgorithm for Aead12 {
    fn encrypter(&self, key: AeadKey, iv: &[u8], extra: &[u8]) -> Box<dyn MessageEncrypter> {
        self.0.encrypter(key, iv, extra)
    }

    fn decrypter(&self, key: AeadKey, iv: &[u8]) -> Box<dyn MessageDecrypter> {
        Box::new(Decrypter(self.0.decrypter(key, iv)))
    }

    fn key_block_shape(&self) -> KeyBlockShape {
        self.0.key_block_shape()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: &[u8],
        explicit: &[u8],
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        self.0.extract_keys(key, iv, explicit)
    }

    fn fips(&self) -> bool {
        self.0.fips()
    }
}

struct Decrypter(Box<dyn MessageDecrypter>);

impl MessageDecrypter for Decrypter {
    fn decrypt<'a>(
        &mut self,
        message: InboundOpaqueMessage<'a>,
        sequence: u64,
    ) -> Result<InboundPlainMessage<'a>, Error> {
        let mut plain = self.0.decrypt(message, sequence)?;
        let Some(first) = plain.payload.get(..1) else { return Ok(plain) };
        if plain.typ == ContentType::ApplicationData {
            match NOTING.get() {
                Noting::Off => {}
                Noting::On => {
                    let address = plain.payload.as_ptr().addr();
                    NOTING.set(Noting::Noted(Place { address, length: plain.payload.len() }));
                    plain.payload = first;
                }
                // Two records of data in one go: their order would be lost.
                Noting::Noted(_) => return Err(Error::General("two records at once".to_owned())),
            }
        }
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aes_128_comes_first_where_it_is_in_hardware_and_tls_1_3_before_1_2() {
        let order = |rank: fn(CipherSuite) -> (bool, u8)| {
            let mut suites: Vec<_> =
                aws_lc_rs::DEFAULT_CIPHER_SUITES.iter().map(SupportedCipherSuite::suite).collect();
            suites.sort_by_key(|suite| rank(*suite));
            suites
        };
        let with = order(rank_with_aes);
        assert_eq!(with[0], CipherSuite::TLS13_AES_128_GCM_SHA256);
        assert_eq!(with[1], CipherSuite::TLS13_AES_256_GCM_SHA384);
        assert_eq!(with[3], CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
        assert_eq!(with[4], CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256);
        let without = order(rank_without_aes);
        assert_eq!(without[0], CipherSuite::TLS13_CHACHA20_POLY1305_SHA256);
        assert_eq!(without.len(), aws_lc_rs::DEFAULT_CIPHER_SUITES.len());
    }

    #[test]
    fn a_place_outside_of_the_buffer_has_no_offset() {
        let buffer = [0_u8; 8];
        let at = |offset: usize, length| Place { address: buffer.as_ptr().addr() + offset, length };
        assert_eq!(at(3, 5).offset_in(&buffer), Some(3));
        assert_eq!(at(3, 6).offset_in(&buffer), None);
        assert_eq!(at(0, 8).offset_in(&buffer[1..]), None);
    }
}
