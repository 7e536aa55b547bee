//! A public key in PEM (RFC 7468), read strictly: one block, and only a public key.

use base64::{Engine, engine::general_purpose::STANDARD};

/// Start of every PEM block. No HMAC secret may hold it: then a public key, which everybody may
/// know, would sign tokens (RFC 8725 section 2.1).
pub(super) const MARK: &[u8] = b"-----BEGIN ";

/// Longest key file, in bytes; an RSA key of 8192 bits takes 1.5 KiB.
pub const PEM_BYTES_MAX: usize = 65_536;

/// Decodes the one `PUBLIC KEY` (RFC 5280 `SubjectPublicKeyInfo`) or `RSA PUBLIC KEY` (RFC 8017
/// `RSAPublicKey`) block to its DER.
///
/// # Errors
/// The problem, in words that fit after the key path.
pub(super) fn public_key(bytes: &[u8]) -> Result<Vec<u8>, String> {
    if bytes.len() > PEM_BYTES_MAX {
        return Err(format!("must be at most {PEM_BYTES_MAX} bytes long"));
    }
    let no_pem = "the file holds no PEM; write a public key, which begins with -----BEGIN PUBLIC \
                  KEY-----";
    let text = str::from_utf8(bytes).map_err(|_| no_pem.to_owned())?;
    let mut blocks = text.split("-----BEGIN ").skip(1);
    let block = blocks.next().ok_or(no_pem)?;
    if text.contains("PRIVATE KEY-----") {
        return Err("is a private key; a verifier needs the public half only, which \
                    `openssl pkey -pubout` writes"
            .into());
    }
    if block.starts_with("CERTIFICATE-----") {
        return Err("is a certificate; extract its key with `openssl x509 -pubkey -noout`".into());
    }
    if blocks.next().is_some() {
        return Err("holds more than one PEM block; it must hold one public key".to_owned());
    }
    let (label, rest) = block.split_once("-----").ok_or("has a malformed BEGIN line")?;
    if !matches!(label, "PUBLIC KEY" | "RSA PUBLIC KEY") {
        return Err("holds no 'PUBLIC KEY' block; write one, as `openssl pkey -pubout` does".into());
    }
    let end = format!("-----END {label}-----");
    let (body, after) = rest.split_once(&end).ok_or("has no END line for its BEGIN line")?;
    if !after.trim().is_empty() {
        return Err("has something after its END line".to_owned());
    }
    let compact: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(compact).map_err(|_| "is not valid base64".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_block_of_a_public_key_is_decoded() {
        for label in ["PUBLIC KEY", "RSA PUBLIC KEY"] {
            for line_end in ["\n", "\r\n"] {
                let text = [
                    "comment",
                    &format!("-----BEGIN {label}-----"),
                    "AQID",
                    "BA==",
                    &format!("-----END {label}-----"),
                    "",
                ]
                .join(line_end);
                assert_eq!(public_key(text.as_bytes()), Ok(vec![1, 2, 3, 4]), "{text}");
            }
        }
    }

    #[test]
    fn everything_else_says_what_it_is() {
        let block = |label: &str, body: &str| {
            format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
        };
        let key = block("PUBLIC KEY", "AQID");
        for (text, part) in [
            (String::new(), "holds no PEM"),
            ("ssh-rsa AAAA".to_owned(), "holds no PEM"),
            (block("CERTIFICATE", "AQID"), "certificate"),
            (block("PRIVATE KEY", "AQID"), "private key"),
            (block("EC PARAMETERS", "AQ") + &block("EC PRIVATE KEY", "AQID"), "private key"),
            (block("CERTIFICATE", "AQ") + &block("CERTIFICATE", "AQID"), "certificate"),
            (block("X509 CRL", "AQID"), "no 'PUBLIC KEY'"),
            (format!("{key}{key}"), "more than one"),
            (format!("{key}x"), "after its END"),
            (block("PUBLIC KEY", "A*"), "base64"),
            ("-----BEGIN PUBLIC KEY-----\nAQID\n".to_owned(), "no END"),
            ("-----BEGIN PUBLIC KEY".to_owned(), "malformed BEGIN"),
            ("x".repeat(PEM_BYTES_MAX + 1), "at most"),
        ] {
            let problem = public_key(text.as_bytes()).unwrap_err();
            assert!(problem.contains(part), "{text:.60} -> {problem}");
        }
        assert!(public_key(b"\xff-----BEGIN PUBLIC KEY-----").is_err());
    }
}
