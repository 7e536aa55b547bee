//! Certificates that clients are shown: PEM in, a pair that signs out, or what is wrong with it.
//!
//! All that can be wrong with a pair of files is found here, before anything uses it. What clients
//! would refuse is refused: weak keys, curves that no client knows, a leaf that is not the first
//! certificate (RFC 8446 section 4.4.2).
//!
//! Deliberately absent: clocks (the caller compares the period of validity with its time), files,
//! and trust. Who issued a chain is a matter of the clients.

mod pem;
mod public_key;

use std::{fmt, net::IpAddr, sync::Arc};

use rustls::{
    Error, InconsistentKeys,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, DnsName},
    sign::CertifiedKey,
};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

/// Largest file of a chain, in bytes. A certificate takes 2 KiB, and some tools write its content
/// as text before it.
pub const CHAIN_FILE_BYTES_MAX: usize = 131_072;

/// Largest file of a private key, in bytes. An RSA key of 8,192 bits takes 6,400.
pub const KEY_FILE_BYTES_MAX: usize = 131_072;

/// A chain with the key of its leaf. Two are equal when their chains are.
#[derive(Clone)]
pub struct ServerCertificate {
    certified: Arc<CertifiedKey>,
    names: Vec<Box<str>>,
    shown: Box<str>,
    not_before: i64,
    not_after: i64,
}

/// Reason why a pair cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateProblem {
    /// The file to change.
    pub file: PairFile,
    /// A sentence that follows the name of the file's key.
    pub message: String,
}

/// One of the two files of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PairFile {
    /// The one with the chain.
    Chain,
    /// The one with the private key.
    Key,
}

impl PairFile {
    fn problem(self, message: impl Into<String>) -> CertificateProblem {
        CertificateProblem { file: self, message: message.into() }
    }
}

impl ServerCertificate {
    /// Reads a chain, leaf first, and its key as PKCS#8, PKCS#1 or SEC1, both in PEM. One file may
    /// hold both.
    ///
    /// # Errors
    /// The first problem.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Self, CertificateProblem> {
        let of_chain = |message| PairFile::Chain.problem(message);
        let of_key = |message| PairFile::Key.problem(message);
        let chain = pem::chain(chain).map_err(of_chain)?;
        let read = chain.iter().zip(1..).map(|(der, number)| read(der, number));
        let read = read.collect::<Result<Vec<_>, _>>().map_err(of_chain)?;
        let leaf = &read[0];
        public_key::check(leaf.public_key()).map_err(of_chain)?;

        let key = pem::private_key(key).map_err(of_key)?;
        let Ok(key) = any_supported_type(&key) else { return Err(of_key(UNUSABLE_KEY.to_owned())) };
        if let Some(spki) = key.public_key()
            && let Some(index) = read.iter().position(|known| known.public_key().raw == &*spki)
            && index > 0
        {
            return Err(of_chain(format!(
                "the key of key_file belongs to certificate {} of the file; write that one, the \
                 leaf, first",
                index + 1
            )));
        }
        let issued = check_order(&read).map_err(of_chain);
        let certified = CertifiedKey::new(chain.clone(), key);
        match certified.keys_match() {
            Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(Error::InconsistentKeys(_)) => {
                return Err(of_key(format!(
                    "the key does not belong to the certificate of cert_file, which holds {}; \
                     name the key that the certificate was made for",
                    public_key::kind(leaf.public_key())
                )));
            }
            Err(error) => {
                return Err(of_chain(format!(
                    "certificate 1 of the file cannot be used ({error}); replace it"
                )));
            }
        }
        issued?;

        let names = Names::of(leaf).map_err(of_chain)?;
        let validity = leaf.validity();
        Ok(Self {
            certified: Arc::new(certified),
            shown: names.for_people(leaf),
            names: names.dns,
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// The chain, leaf first, and the key that signs.
    pub const fn key(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// DNS names of the leaf, in its order and in lower case; a wildcard is `*.example.com`.
    pub fn names(&self) -> &[Box<str>] {
        &self.names
    }

    /// Name for people: the first DNS name, or the first address, or the common name.
    pub fn name(&self) -> &str {
        &self.shown
    }

    /// Begin of the leaf's validity, in seconds since 1970.
    pub const fn not_before(&self) -> i64 {
        self.not_before
    }

    /// End of the leaf's validity, in seconds since 1970.
    pub const fn not_after(&self) -> i64 {
        self.not_after
    }
}

impl PartialEq for ServerCertificate {
    fn eq(&self, other: &Self) -> bool {
        // The leaf names the key.
        self.certified.cert == other.certified.cert
    }
}

impl Eq for ServerCertificate {}

impl fmt::Debug for ServerCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerCertificate")
            .field("name", &self.shown)
            .field("not_before", &self.not_before)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

const UNUSABLE_KEY: &str = "the key cannot be used; write an RSA key of 2048 to 8192 bits, an \
                            ECDSA key of P-256, P-384 or P-521, or an Ed25519 key";

fn read<'d>(der: &'d CertificateDer<'_>, number: usize) -> Result<X509Certificate<'d>, String> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => {
            Err(format!("certificate {number} of the file has bytes after its end; replace it"))
        }
        Err(_) => Err(format!(
            "certificate {number} of the file is damaged or no X.509 certificate; replace it"
        )),
    }
}

/// Returns an error unless every certificate after the leaf issued one before it.
fn check_order(chain: &[X509Certificate<'_>]) -> Result<(), String> {
    for (index, certificate) in chain.iter().enumerate().skip(1) {
        let subject = certificate.subject().as_raw();
        if !chain[..index].iter().any(|earlier| earlier.issuer().as_raw() == subject) {
            return Err(format!(
                "certificate {} of the file issued none of those before it; write the leaf first, \
                 then the certificate that issued it, and so on",
                index + 1
            ));
        }
    }
    Ok(())
}

/// The names that clients compare with the host that they ask for.
struct Names {
    dns: Vec<Box<str>>,
    address: Option<IpAddr>,
}

impl Names {
    fn of(leaf: &X509Certificate<'_>) -> Result<Self, String> {
        let mut names = Self { dns: Vec::new(), address: None };
        let extension = leaf.subject_alternative_name().map_err(|_| {
            "certificate 1 of the file has a subjectAltName that cannot be read; replace it"
                .to_owned()
        })?;
        for name in extension.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => names.dns.extend(dns_name(name)),
                GeneralName::IPAddress(bytes) if names.address.is_none() => {
                    names.address = address(bytes);
                }
                _ => {}
            }
        }
        Ok(names)
    }

    fn for_people(&self, leaf: &X509Certificate<'_>) -> Box<str> {
        /// Longest common name that is shown, in characters; RFC 5280 appendix A.1 allows 64.
        const SHOWN_CHARS_MAX: usize = 64;

        if let Some(name) = self.dns.first() {
            return name.clone();
        }
        if let Some(address) = self.address {
            return address.to_string().into();
        }
        let mut common = leaf.subject().iter_common_name();
        let common = common.find_map(|name| name.as_str().ok()).unwrap_or("unnamed");
        common.escape_debug().take(SHOWN_CHARS_MAX).collect::<String>().into()
    }
}

/// The name as SNI would have it; none for what is no DNS name.
fn dns_name(written: &str) -> Option<Box<str>> {
    let name = written.strip_suffix('.').unwrap_or(written).to_ascii_lowercase();
    DnsName::try_from(name.strip_prefix("*.").unwrap_or(&name)).ok()?;
    Some(name.into())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(four) = <[u8; 4]>::try_from(bytes) {
        return Some(four.into());
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

#[cfg(test)]
mod tests;
