//! Verification keys, each bound to one algorithm.
//!
//! The binding is made when the configuration is compiled. The key's type and size are checked
//! against the algorithm there (RFC 8725 sections 3.1 and 3.5). The token's own `alg` can only
//! agree or be refused.

use std::fmt;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, UnparsedPublicKey,
    VerificationAlgorithm,
};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, crypto, crypto::aws_lc};

use super::{
    pem,
    spec::{AuthProblem, KeyMaterial, KeySpec},
    token::Unverified,
};

/// Smallest RSA modulus (RFC 7518 section 3.3).
const RSA_MODULUS_BITS_MIN: usize = 2_048;
/// Largest RSA modulus that the backend accepts. Verifying costs the square of its size.
const RSA_MODULUS_BITS_MAX: usize = 8_192;
/// Largest RSA public exponent, in bits, that the backend accepts. Verifying costs more with each.
const RSA_EXPONENT_BITS_MAX: usize = 33;
/// Shortest HMAC secret, in characters: the output of the shortest hash (RFC 7518 section 3.2).
pub(super) const HMAC_SECRET_CHARACTERS_MIN: usize = 32;
/// Longest key id, in bytes. It becomes a metric label.
pub(super) const KEY_ID_BYTES_MAX: usize = 256;

/// Accepted algorithms by their names in RFC 7518 section 3.1 and RFC 8037. `none` has no key and
/// is not among them.
const ALGORITHMS: [(&str, Algorithm); 12] = [
    ("HS256", Algorithm::HS256),
    ("HS384", Algorithm::HS384),
    ("HS512", Algorithm::HS512),
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("EdDSA", Algorithm::EdDSA),
];

/// An algorithm of the list above, with its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownAlgorithm {
    name: &'static str,
    algorithm: Algorithm,
}

impl KnownAlgorithm {
    /// The algorithm of exactly that name.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        let (name, algorithm) = ALGORITHMS.into_iter().find(|(known, _)| *known == name)?;
        Some(Self { name, algorithm })
    }

    pub(super) fn name(self) -> &'static str {
        self.name
    }

    pub(super) fn family(self) -> AlgorithmFamily {
        self.algorithm.family()
    }

    /// Advised length of an HMAC secret, in bytes: the length of the hash.
    fn secret_bytes_advised(self) -> usize {
        match self.algorithm {
            Algorithm::HS384 => 48,
            Algorithm::HS512 => 64,
            _ => HMAC_SECRET_CHARACTERS_MIN,
        }
    }

    /// The backend's algorithm for an elliptic-curve signature; none for RSA and HMAC.
    fn curve(self) -> Option<&'static dyn VerificationAlgorithm> {
        match self.algorithm {
            Algorithm::ES256 => Some(&ECDSA_P256_SHA256_FIXED),
            Algorithm::ES384 => Some(&ECDSA_P384_SHA384_FIXED),
            Algorithm::EdDSA => Some(&ED25519),
            _ => None,
        }
    }
}

/// A key that fits its algorithm.
pub(super) struct VerificationKey {
    /// `kid` of the tokens that it verifies; without one it verifies those that name no known key.
    pub(super) id: Option<Box<str>>,
    /// Name in metrics: the id, or the key path without one.
    pub(super) label: Box<str>,
    algorithm: KnownAlgorithm,
    key: DecodingKey,
}

impl VerificationKey {
    pub(super) fn new(
        id: Option<&str>,
        label: &str,
        algorithm: KnownAlgorithm,
        key: DecodingKey,
    ) -> Self {
        Self { id: id.map(Box::from), label: label.into(), algorithm, key }
    }

    /// Compiles one configured key. Mistakes are added to `problems`.
    pub(super) fn compile(spec: &KeySpec, problems: &mut Vec<AuthProblem>) -> Option<Self> {
        let mut report = |member: &str, message: String, warning| {
            problems.push(AuthProblem {
                path: format!("{}.{member}", spec.path),
                message,
                warning,
            });
        };
        let id = spec.id.as_deref();
        if id.is_some_and(|id| id.is_empty() || id.len() > KEY_ID_BYTES_MAX) {
            report("id", format!("must have 1 to {KEY_ID_BYTES_MAX} bytes"), false);
            return None;
        }
        let Some(algorithm) = KnownAlgorithm::by_name(&spec.algorithm) else {
            report("algorithm", unknown_algorithm(&spec.algorithm), false);
            return None;
        };
        let (member, key) = match &spec.material {
            KeyMaterial::Secret(secret) => {
                let key = hmac_key(algorithm, secret.expose());
                if key.is_ok() && secret.expose().len() < algorithm.secret_bytes_advised() {
                    let message = format!(
                        "JWT secret is shorter than the {} bytes of {}'s hash (RFC 7518 section 3.2); \
                         write a longer one",
                        algorithm.secret_bytes_advised(),
                        algorithm.name
                    );
                    report("secret", message, true);
                }
                ("secret", key)
            }
            KeyMaterial::PublicPem(pem) => ("public_key_file", pem_key(algorithm, pem)),
        };
        match key {
            Ok(key) => Some(Self::new(id, id.unwrap_or(&spec.path), algorithm, key)),
            Err(message) => {
                report(member, message, false);
                None
            }
        }
    }

    /// Returns true if the token names this key's algorithm.
    pub(super) fn has_algorithm_of(&self, token: &Unverified<'_>) -> bool {
        self.algorithm.name == token.algorithm
    }

    /// Verifies the signature. The comparison is the backend's, in constant time.
    pub(super) fn verifies(&self, token: &Unverified<'_>) -> bool {
        let (signature, signed) = (token.signature, token.signed);
        matches!(crypto::verify(signature, signed, &self.key, self.algorithm.algorithm), Ok(true))
    }
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerificationKey")
            .field("label", &self.label)
            .field("algorithm", &self.algorithm.name)
            .finish_non_exhaustive()
    }
}

/// Makes the cryptography of `jsonwebtoken` that of `aws-lc-rs`, once per process. Later calls
/// change nothing; compiling a policy calls it too.
pub fn install_crypto() {
    // The only error is that a provider is installed already, and no other one is compiled in.
    let _already_installed = aws_lc::DEFAULT_PROVIDER.install_default();
}

/// Makes an HMAC key from the secret as configured.
///
/// # Errors
/// The problem, in words that fit after the key path.
pub(super) fn hmac_key(algorithm: KnownAlgorithm, secret: &[u8]) -> Result<DecodingKey, String> {
    if algorithm.family() != AlgorithmFamily::Hmac {
        return Err(format!(
            "{} needs a public key, not a secret; write public_key_file",
            algorithm.name
        ));
    }
    if memchr::memmem::find(secret, pem::MARK).is_some() {
        return Err(format!(
            "holds a PEM key, which is never accepted as a secret; name a public key in \
             public_key_file with its algorithm (RS256, ES256 ...), or write at least \
             {HMAC_SECRET_CHARACTERS_MIN} random characters for {}",
            algorithm.name
        ));
    }
    let characters = str::from_utf8(secret).map_or(secret.len(), |text| text.chars().count());
    if characters < HMAC_SECRET_CHARACTERS_MIN {
        return Err(format!("JWT secret must be at least {HMAC_SECRET_CHARACTERS_MIN} characters"));
    }
    Ok(DecodingKey::from_secret(secret))
}

/// Reads the public key in a PEM file.
///
/// # Errors
/// The problem, in words that fit after the key path.
fn pem_key(algorithm: KnownAlgorithm, bytes: &[u8]) -> Result<DecodingKey, String> {
    if algorithm.family() == AlgorithmFamily::Hmac {
        return Err(format!(
            "{} needs a secret, not a public key; write secret or secret_file",
            algorithm.name
        ));
    }
    let der = pem::public_key(bytes)?;
    if algorithm.family() != AlgorithmFamily::Rsa {
        return curve_key(algorithm, &der);
    }
    let (modulus, exponent) = rsa_components(&der).ok_or_else(|| wrong_key(algorithm, &der))?;
    rsa_key(&modulus, &exponent)
}

/// Modulus and exponent of the RSA key in a DER, if it is one.
fn rsa_components(der: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let components = aws_lc::DEFAULT_PROVIDER.key_utils.rsa_pub_components_from_public_key;
    components(der).ok()
}

/// Kind of the key in a PEM file or in a DER, and the first algorithm that it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyKind {
    /// With its article.
    pub name: &'static str,
    /// Name of the algorithm.
    pub algorithm: &'static str,
}

impl KeyKind {
    /// The kind of the public key in a PEM file, if there is one that some algorithm takes.
    pub fn of_pem(bytes: &[u8]) -> Option<Self> {
        install_crypto();
        Self::of_der(&pem::public_key(bytes).ok()?)
    }

    fn of_der(der: &[u8]) -> Option<Self> {
        let on_curve = |curve: &'static dyn VerificationAlgorithm| {
            UnparsedPublicKey::new(curve, der).parse().is_ok()
        };
        let (name, algorithm) = if rsa_components(der).is_some() {
            ("an RSA key", "RS256")
        } else if on_curve(&ECDSA_P256_SHA256_FIXED) {
            ("an EC P-256 key", "ES256")
        } else if on_curve(&ECDSA_P384_SHA384_FIXED) {
            ("an EC P-384 key", "ES384")
        } else if on_curve(&ED25519) {
            ("an Ed25519 key", "EdDSA")
        } else {
            return None;
        };
        Some(Self { name, algorithm })
    }
}

/// Message about a key of another type than its algorithm needs.
fn wrong_key(algorithm: KnownAlgorithm, der: &[u8]) -> String {
    let needed = match algorithm.algorithm {
        Algorithm::ES256 => "an EC P-256 key",
        Algorithm::ES384 => "an EC P-384 key",
        Algorithm::EdDSA => "an Ed25519 key",
        _ => "an RSA key",
    };
    match KeyKind::of_der(der) {
        Some(kind) => format!(
            "{} needs {needed}; this is {}: write algorithm: {}, or name {needed}",
            algorithm.name, kind.name, kind.algorithm
        ),
        None => format!(
            "{} needs {needed}; this is a key of a type that is not supported",
            algorithm.name
        ),
    }
}

/// Makes an elliptic-curve key from a `SubjectPublicKeyInfo`, an uncompressed point (ECDSA) or 32
/// raw bytes (Ed25519). The backend checks the curve, and that an ECDSA point lies on it.
pub(super) fn curve_key(algorithm: KnownAlgorithm, bytes: &[u8]) -> Result<DecodingKey, String> {
    let fits =
        algorithm.curve().is_some_and(|curve| UnparsedPublicKey::new(curve, bytes).parse().is_ok());
    match algorithm.family() {
        AlgorithmFamily::Ec if fits => Ok(DecodingKey::from_ec_der(bytes)),
        AlgorithmFamily::Ed if fits => Ok(DecodingKey::from_ed_der(bytes)),
        _ => Err(wrong_key(algorithm, bytes)),
    }
}

/// Makes an RSA key from its numbers, big-endian.
pub(super) fn rsa_key(modulus: &[u8], exponent: &[u8]) -> Result<DecodingKey, String> {
    let (modulus, exponent) = (without_leading_zeros(modulus), without_leading_zeros(exponent));
    let bits = bit_length(modulus);
    if bits < RSA_MODULUS_BITS_MIN {
        return Err(format!(
            "is an RSA key of {bits} bits; it must have at least {RSA_MODULUS_BITS_MIN} (RFC 7518 section 3.3)"
        ));
    }
    if bits > RSA_MODULUS_BITS_MAX {
        return Err(format!(
            "is an RSA key of {bits} bits; it must have at most {RSA_MODULUS_BITS_MAX}"
        ));
    }
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
    let good_exponent =
        is_odd(exponent) && exponent != [1] && bit_length(exponent) <= RSA_EXPONENT_BITS_MAX;
    if !is_odd(modulus) || !good_exponent {
        return Err("is not a valid RSA key".to_owned());
    }
    Ok(DecodingKey::from_rsa_raw_components(modulus, exponent))
}

fn without_leading_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

/// Length in bits of a big-endian number without leading zero bytes.
fn bit_length(number: &[u8]) -> usize {
    number.first().map_or(0, |first| number.len() * 8 - first.leading_zeros() as usize)
}

fn unknown_algorithm(name: &str) -> String {
    let known = ALGORITHMS.map(|(known, _)| known).join(", ");
    if name.eq_ignore_ascii_case("none") {
        return format!("'none' would accept any token and is not allowed; write one of {known}");
    }
    format!("unknown algorithm '{name:.64}'; write one of {known}")
}
