//! Keys from a JWK set (RFC 7517), such as an identity provider publishes.
//!
//! A key that cannot be used is named in a warning and does not make the set unusable: providers
//! publish encryption keys and new types of keys in the same set. A set without any usable key is
//! refused.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{AlgorithmFamily, DecodingKey};
use serde_json::{Map, Value};

use super::{
    json,
    key::{KEY_ID_BYTES_MAX, KnownAlgorithm, VerificationKey, curve_key, hmac_key, rsa_key},
    spec::AuthProblem,
};

/// Longest JWK set, in bytes: the largest public ones are below 64 KiB.
pub const JWKS_BYTES_MAX: usize = 262_144;

/// Most characters of a set's text in a message.
const SHOWN_CHARS_MAX: usize = 40;

/// Compiles the JWK set of a key path. Of its keys those of the `algorithms` are used; all if there
/// are none. Mistakes are added to `problems`.
pub(super) fn compile(
    bytes: &[u8],
    set_path: &str,
    algorithms: &[KnownAlgorithm],
    problems: &mut Vec<AuthProblem>,
) -> Vec<VerificationKey> {
    let mut report = |path: String, message: &str, warning| {
        problems.push(AuthProblem { path, message: message.to_owned(), warning });
    };
    if bytes.len() > JWKS_BYTES_MAX {
        let message = format!("must be at most {JWKS_BYTES_MAX} bytes long");
        report(set_path.to_owned(), &message, false);
        return Vec::new();
    }
    let Some(Value::Array(entries)) = json::object(bytes).and_then(|mut set| set.remove("keys"))
    else {
        let message = "must be a JWK set: a JSON object with a list 'keys' (RFC 7517 section 5)";
        report(set_path.to_owned(), message, false);
        return Vec::new();
    };
    let mut keys: Vec<VerificationKey> = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let path = format!("{set_path}.keys[{index}]");
        match read_key(entry, index, algorithms) {
            Ok(key) if key.id.is_some() && keys.iter().any(|other| other.id == key.id) => {
                report(path, "is not used: an earlier key has the same kid", true);
            }
            Ok(key) => keys.push(key),
            Err(why) => {
                let name = entry.get("kid").and_then(Value::as_str).unwrap_or("none");
                report(path, &format!("is not used (kid {}): {why}", shown(name)), true);
            }
        }
    }
    if keys.is_empty() {
        report(set_path.to_owned(), "must hold at least one usable key", false);
    }
    keys
}

fn read_key(
    entry: &Value,
    index: usize,
    algorithms: &[KnownAlgorithm],
) -> Result<VerificationKey, String> {
    let members = entry.as_object().ok_or("it is not an object")?;
    let key_type = text(members, "kty")?.ok_or("it has no kty")?;
    if text(members, "use")?.is_some_and(|usage| usage != "sig") {
        return Err("its use is not 'sig'".to_owned());
    }
    if let Some(operations) = members.get("key_ops") {
        let verifies = operations.as_array().is_some_and(|list| list.contains(&"verify".into()));
        if !verifies {
            return Err("its key_ops do not include 'verify'".to_owned());
        }
    }
    let id = text(members, "kid")?;
    if id.is_some_and(|id| id.is_empty() || id.len() > KEY_ID_BYTES_MAX) {
        return Err(format!("its kid must have 1 to {KEY_ID_BYTES_MAX} bytes"));
    }
    let (algorithm, key) = match key_type {
        "RSA" => read_rsa(members, algorithms)?,
        "EC" => read_curve(members)?,
        "OKP" => read_ed25519(members)?,
        "oct" => read_secret(members)?,
        other => return Err(format!("unsupported kty '{}'", shown(other))),
    };
    if !algorithms.is_empty() && !algorithms.contains(&algorithm) {
        return Err(format!("algorithms does not name {}", algorithm.name()));
    }
    let label = id.map_or_else(|| format!("jwks[{index}]"), str::to_owned);
    Ok(VerificationKey::new(id, &label, algorithm, key))
}

/// Reads an RSA key. Without `alg` it is for the first RSA algorithm that is configured, or RS256:
/// some large providers leave it out, and all of those sign with RS256.
fn read_rsa(
    jwk: &Map<String, Value>,
    algorithms: &[KnownAlgorithm],
) -> Result<(KnownAlgorithm, DecodingKey), String> {
    refuse_private(jwk)?;
    let configured = algorithms.iter().find(|known| known.family() == AlgorithmFamily::Rsa);
    let implied = configured.map_or("RS256", |known| known.name());
    let algorithm = algorithm(jwk, AlgorithmFamily::Rsa, Some(implied))?;
    let key = rsa_key(&bytes(jwk, "n")?, &bytes(jwk, "e")?)?;
    Ok((algorithm, key))
}

/// Reads a key on a NIST curve. The coordinates have the full length of the field (RFC 7518
/// section 6.2.1).
fn read_curve(jwk: &Map<String, Value>) -> Result<(KnownAlgorithm, DecodingKey), String> {
    refuse_private(jwk)?;
    let (implied, coordinate_bytes) = match text(jwk, "crv")?.ok_or("it has no crv")? {
        "P-256" => ("ES256", 32),
        "P-384" => ("ES384", 48),
        other => return Err(format!("unsupported crv '{}'", shown(other))),
    };
    let algorithm = algorithm(jwk, AlgorithmFamily::Ec, Some(implied))?;
    if algorithm.name() != implied {
        return Err("its alg does not fit its crv".to_owned());
    }
    let (x, y) = (bytes(jwk, "x")?, bytes(jwk, "y")?);
    if x.len() != coordinate_bytes || y.len() != coordinate_bytes {
        return Err("its x or y has the wrong length".to_owned());
    }
    // SEC 1 section 2.3.3: an uncompressed point.
    let point = [&[4], x.as_slice(), y.as_slice()].concat();
    Ok((algorithm, curve_key(algorithm, &point)?))
}

/// Reads an Ed25519 key (RFC 8037 section 2).
fn read_ed25519(jwk: &Map<String, Value>) -> Result<(KnownAlgorithm, DecodingKey), String> {
    refuse_private(jwk)?;
    match text(jwk, "crv")?.ok_or("it has no crv")? {
        "Ed25519" => {}
        other => return Err(format!("unsupported crv '{}'", shown(other))),
    }
    let algorithm = algorithm(jwk, AlgorithmFamily::Ed, Some("EdDSA"))?;
    let x = bytes(jwk, "x")?;
    if x.len() != 32 {
        return Err("its x has the wrong length".to_owned());
    }
    Ok((algorithm, curve_key(algorithm, &x)?))
}

/// Reads a secret. `alg` must be written, as nothing else about a secret tells its hash.
fn read_secret(jwk: &Map<String, Value>) -> Result<(KnownAlgorithm, DecodingKey), String> {
    let algorithm = algorithm(jwk, AlgorithmFamily::Hmac, None)?;
    Ok((algorithm, hmac_key(algorithm, &bytes(jwk, "k")?)?))
}

fn algorithm(
    jwk: &Map<String, Value>,
    family: AlgorithmFamily,
    implied: Option<&str>,
) -> Result<KnownAlgorithm, String> {
    let name = text(jwk, "alg")?.or(implied).ok_or("it has no alg")?;
    KnownAlgorithm::by_name(name)
        .filter(|known| known.family() == family)
        .ok_or_else(|| format!("alg '{}' does not fit its kty or is not supported", shown(name)))
}

/// The beginning of what a set holds, without control characters.
fn shown(text: &str) -> String {
    text.escape_debug().take(SHOWN_CHARS_MAX).collect()
}

/// Refuses a private key, as its presence in this file is a mistake that should be seen.
fn refuse_private(jwk: &Map<String, Value>) -> Result<(), String> {
    if jwk.contains_key("d") {
        return Err("it is a private key; a verifier needs the public half only".to_owned());
    }
    Ok(())
}

fn text<'a>(jwk: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("its {name} is not a string")),
    }
}

fn bytes(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let encoded = text(jwk, name)?.ok_or_else(|| format!("it has no {name}"))?;
    URL_SAFE_NO_PAD.decode(encoded).map_err(|_| format!("its {name} is not unpadded base64url"))
}
