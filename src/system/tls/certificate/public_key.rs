//! Public keys of certificates: those that TLS clients accept, and words for the others.

use x509_parser::{public_key::PublicKey, x509::SubjectPublicKeyInfo};

/// Smallest RSA key, in bits (CA/Browser Forum Baseline Requirements, section 6.1.5).
const RSA_BITS_MIN: usize = 2_048;

/// Largest RSA key that the cryptographic library uses, in bits.
const RSA_BITS_MAX: usize = 8_192;

/// Object identifiers of key types and curves (RFC 8017 appendix A.1, RFC 5480, RFC 8410).
const RSA: &str = "1.2.840.113549.1.1.1";
const EC: &str = "1.2.840.10045.2.1";
const ED25519: &str = "1.3.101.112";
const CURVES: [(&str, &str); 3] =
    [("1.2.840.10045.3.1.7", "P-256"), ("1.3.132.0.34", "P-384"), ("1.3.132.0.35", "P-521")];

const GOOD_KEYS: &str = "ECDSA with P-256, P-384 or P-521, Ed25519, or RSA with 2048 to 8192 bits";

/// Returns an error for a key that is weak or that clients do not know.
pub(super) fn check(key: &SubjectPublicKeyInfo<'_>) -> Result<(), String> {
    match key.algorithm.algorithm.to_id_string().as_str() {
        RSA => {
            let bits = rsa_bits(key).ok_or("certificate 1 of the file has a damaged RSA key")?;
            if bits < RSA_BITS_MIN {
                return Err(format!(
                    "certificate 1 of the file has an RSA key of {bits} bits, which is weak; make \
                     one of at least {RSA_BITS_MIN}"
                ));
            }
            if bits > RSA_BITS_MAX {
                return Err(format!(
                    "certificate 1 of the file has an RSA key of {bits} bits; at most \
                     {RSA_BITS_MAX} can be used"
                ));
            }
            Ok(())
        }
        EC => match curve(key) {
            Some(oid) if CURVES.iter().any(|(known, _)| *known == oid) => Ok(()),
            other => Err(format!(
                "certificate 1 of the file has a key of a curve (OID {}) that TLS clients do not \
                 accept; make one of {GOOD_KEYS}",
                other.as_deref().unwrap_or("missing")
            )),
        },
        ED25519 => Ok(()),
        other => Err(format!(
            "certificate 1 of the file has a key of a type (OID {other}) that is not supported; \
             make one of {GOOD_KEYS}"
        )),
    }
}

/// Words for a key that was found good.
pub(super) fn kind(key: &SubjectPublicKeyInfo<'_>) -> String {
    match key.algorithm.algorithm.to_id_string().as_str() {
        RSA => format!("an RSA key of {} bits", rsa_bits(key).unwrap_or_default()),
        ED25519 => "an Ed25519 key".to_owned(),
        _ => {
            let oid = curve(key).unwrap_or_default();
            let name = CURVES.iter().find(|(known, _)| *known == oid).map(|(_, name)| *name);
            format!("an ECDSA key of {}", name.unwrap_or("another curve"))
        }
    }
}

fn rsa_bits(key: &SubjectPublicKeyInfo<'_>) -> Option<usize> {
    let Ok(PublicKey::RSA(rsa)) = key.parsed() else { return None };
    let first = rsa.modulus.iter().position(|byte| *byte != 0)?;
    let zeros = rsa.modulus[first].leading_zeros() as usize;
    Some((rsa.modulus.len() - first) * 8 - zeros)
}

fn curve(key: &SubjectPublicKeyInfo<'_>) -> Option<String> {
    let parameters = key.algorithm.parameters.as_ref()?;
    parameters.clone().oid().ok().map(|oid| oid.to_id_string())
}
