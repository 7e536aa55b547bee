//! PEM (RFC 7468) to DER, with words for everything that people put into such files instead.

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{Error, PemObject},
};

/// Longest chain without its PEM form, in bytes: it must fit into one handshake message, of which
/// clients accept 64 KiB.
pub(super) const CHAIN_DER_BYTES_MAX: usize = 60_000;

const BEGIN: &[u8] = b"-----BEGIN ";

/// UTF-8's byte order mark, which editors of Windows write.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The certificates of a file, at least one.
pub(super) fn chain(file: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = text(file, "openssl x509 -inform DER -in FILE -out NEW")?;
    let mut chain = Vec::new();
    let mut bytes = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let number = chain.len() + 1;
        let certificate = certificate.map_err(|error| {
            format!("certificate {number} of the file {}; replace it", defect(&error))
        })?;
        bytes += certificate.len();
        chain.push(certificate);
    }
    if bytes > CHAIN_DER_BYTES_MAX {
        return Err(format!(
            "the chain is longer than {CHAIN_DER_BYTES_MAX} bytes, which clients do not accept; \
             keep the leaf and the certificates up to the root"
        ));
    }
    if !chain.is_empty() {
        return Ok(chain);
    }
    let labels = labels(pem);
    let found = |word| labels.iter().any(|label| label.contains(word));
    Err(if found("CERTIFICATE REQUEST") {
        "the file holds a certificate request; write the certificate that the CA made of it"
            .to_owned()
    } else if found("PRIVATE KEY") {
        "the file holds a private key and no certificate; name the chain here, and the key in \
         key_file"
            .to_owned()
    } else if found("PKCS7") {
        "the file holds PKCS#7; write PEM certificates, as openssl pkcs7 -print_certs does"
            .to_owned()
    } else {
        nothing_in("certificate", "BEGIN CERTIFICATE", &labels)
    })
}

/// The one private key of a file.
pub(super) fn private_key(file: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    let pem = text(file, "openssl pkey -inform DER -in FILE -out NEW")?;
    let labels = labels(pem);
    let found = |word| labels.iter().any(|label| label.contains(word));
    // The second form is that of RFC 1421 section 4.6.1.1.
    let is_encrypted = found("ENCRYPTED PRIVATE KEY")
        || pem.windows(ENCRYPTED.len()).any(|window| window == ENCRYPTED);
    if is_encrypted {
        return Err("the key is encrypted, and nobody stands by to enter its passphrase; write \
                    it decrypted, as openssl pkey -in FILE -out NEW does"
            .to_owned());
    }
    let keys = PrivateKeyDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    let mut keys =
        keys.map_err(|error| format!("a part of the file {}; replace the file", defect(&error)))?;
    match (keys.pop(), keys.len()) {
        (Some(key), 0) => Ok(key),
        (Some(_), others) => Err(format!(
            "the file holds {} private keys; keep the one of the certificate",
            others + 1
        )),
        (None, _) if found("CERTIFICATE") => {
            Err("the file holds a certificate and no private key; name the key here, and the \
             certificate in cert_file"
                .to_owned())
        }
        (None, _) if found("PUBLIC KEY") => {
            Err("the file holds a public key; name the private key that it belongs to".to_owned())
        }
        (None, _) => Err(nothing_in("private key", "BEGIN PRIVATE KEY", &labels)),
    }
}

const ENCRYPTED: &[u8] = b"Proc-Type: 4,ENCRYPTED";

/// The file without its byte order mark, if it is text with a PEM block in it.
fn text<'f>(file: &'f [u8], conversion: &str) -> Result<&'f [u8], String> {
    let text = file.strip_prefix(BYTE_ORDER_MARK).unwrap_or(file);
    if text.trim_ascii().is_empty() {
        return Err("the file is empty; write PEM into it".to_owned());
    }
    if text.starts_with(b"\xff\xfe") || text.starts_with(b"\xfe\xff") {
        return Err("the file is UTF-16 text; save it as UTF-8".to_owned());
    }
    if text.windows(BEGIN.len()).any(|window| window == BEGIN) {
        return Ok(text);
    }
    // DER of a certificate, of a key and of PKCS#12 is one SEQUENCE.
    if text[0] == 0x30 && std::str::from_utf8(text).is_err() {
        return Err(format!(
            "the file is binary (DER or PKCS#12); write PEM, as {conversion} does"
        ));
    }
    Err("the file holds no PEM; write blocks that start with -----BEGIN".to_owned())
}

/// Labels of the blocks, those that cannot be read included.
fn labels(pem: &[u8]) -> Vec<String> {
    let lines = pem.split(|byte| matches!(byte, b'\n' | b'\r'));
    let label = |line: &[u8]| {
        let label = line.strip_prefix(BEGIN)?.trim_ascii_end();
        Some(String::from_utf8_lossy(label.strip_suffix(b"-----")?).into_owned())
    };
    lines.filter_map(label).collect()
}

fn nothing_in(what: &str, begin: &str, labels: &[String]) -> String {
    /// Longest label of RFC 7468 and its relatives, in characters, with some room.
    const LABEL_CHARS_MAX: usize = 32;

    let begin = format!("write a PEM block that starts with -----{begin}-----");
    match labels.first() {
        None => format!("the file holds no {what}; {begin}"),
        Some(label) => {
            let label: String = label.escape_debug().take(LABEL_CHARS_MAX).collect();
            format!("the file holds no {what}, but {label}; {begin}")
        }
    }
}

/// Words that follow the part of the file, and never show what it holds.
fn defect(error: &Error) -> &'static str {
    match error {
        Error::MissingSectionEnd { .. } => "has no END line of its own; it may be cut",
        Error::IllegalSectionStart { .. } => "has a BEGIN line without five dashes at its end",
        Error::Base64Decode(_) => "is not base64",
        _ => "is not PEM",
    }
}
