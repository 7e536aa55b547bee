//! Every way to get a pair wrong, and what is said about it.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, PKCS_ECDSA_P521_SHA512, PKCS_ED25519, SanType,
};
use rustls::SignatureAlgorithm;

use super::*;

macro_rules! file {
    ($name:literal) => {
        include_bytes!(concat!("../../../../tests/tls/", $name)).as_slice()
    };
}

/// A leaf, the intermediate that issued it, the root, and the keys of the first two, all in PEM.
struct Chain {
    leaf: String,
    intermediate: String,
    root: String,
    key: String,
    intermediate_key: String,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

impl Chain {
    fn new() -> Self {
        let key = || KeyPair::generate().unwrap();
        let (root_key, intermediate_key, leaf_key) = (key(), key(), key());
        let root_params = authority("root");
        let root = root_params.self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(root_params, &root_key);
        let params = authority("intermediate");
        let intermediate = params.signed_by(&intermediate_key, &root_issuer).unwrap();
        let issuer = Issuer::new(params, &intermediate_key);
        let params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let leaf = params.signed_by(&leaf_key, &issuer).unwrap();
        Self {
            leaf: leaf.pem(),
            intermediate: intermediate.pem(),
            root: root.pem(),
            key: leaf_key.serialize_pem(),
            intermediate_key: intermediate_key.serialize_pem(),
        }
    }
}

fn pair() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(vec!["a.test".to_owned()]).unwrap();
    (made.cert.pem(), made.signing_key.serialize_pem())
}

fn problem(chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> (PairFile, String) {
    let problem = ServerCertificate::from_pem(chain.as_ref(), key.as_ref()).unwrap_err();
    assert!(!problem.message.ends_with('.') && !problem.message.contains("-----END"));
    (problem.file, problem.message)
}

#[track_caller]
fn assert_problem(found: (PairFile, String), file: PairFile, words: &str) {
    let (blamed, message) = found;
    assert_eq!(blamed, file, "{message}");
    assert!(message.contains(words), "{message}");
}

#[test]
fn every_usual_kind_of_key_is_read() {
    for (algorithm, expected) in [
        (&PKCS_ECDSA_P256_SHA256, SignatureAlgorithm::ECDSA),
        (&PKCS_ECDSA_P384_SHA384, SignatureAlgorithm::ECDSA),
        (&PKCS_ECDSA_P521_SHA512, SignatureAlgorithm::ECDSA),
        (&PKCS_ED25519, SignatureAlgorithm::ED25519),
    ] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        let leaf = params.self_signed(&key).unwrap();
        let key = key.serialize_pem();
        let read = ServerCertificate::from_pem(leaf.pem().as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(read.key().key.algorithm(), expected);
    }
    // PKCS#1, and SEC1 after its parameters, as openssl ecparam -genkey writes it.
    let rsa = ServerCertificate::from_pem(file!("rsa.pem"), file!("rsa-pkcs1.key")).unwrap();
    assert_eq!((rsa.key().key.algorithm(), rsa.name()), (SignatureAlgorithm::RSA, "rsa.test"));
    let ec = ServerCertificate::from_pem(file!("ec.pem"), file!("ec-sec1.key")).unwrap();
    assert_eq!((ec.key().key.algorithm(), ec.name()), (SignatureAlgorithm::ECDSA, "ec.test"));
    assert!(ec != rsa && ec == ec.clone());
}

#[test]
fn names_and_validity_are_those_of_the_leaf() {
    let key = KeyPair::generate().unwrap();
    let names = ["A.Test.", "*.b.test", "not a name"].map(|name| name.try_into().unwrap());
    let mut params = CertificateParams::default();
    params.subject_alt_names.push(SanType::IpAddress([127, 0, 0, 1].into()));
    params.subject_alt_names.extend(names.map(SanType::DnsName));
    params.not_before = rcgen::date_time_ymd(2026, 1, 2);
    params.not_after = rcgen::date_time_ymd(2027, 1, 2);
    let pem = |params: &CertificateParams| {
        let (leaf, key) = (params.self_signed(&key).unwrap().pem(), key.serialize_pem());
        ServerCertificate::from_pem(leaf.as_bytes(), key.as_bytes()).unwrap()
    };
    let read = pem(&params);
    assert_eq!(read.names(), ["a.test", "*.b.test"].map(Box::from));
    assert_eq!(read.name(), "a.test");
    assert_eq!((read.not_before(), read.not_after()), (1_767_312_000, 1_798_848_000));
    // Without a DNS name, people still get a name.
    params.subject_alt_names.truncate(1);
    assert_eq!((pem(&params).names().len(), pem(&params).name()), (0, "127.0.0.1"));
    params.subject_alt_names.clear();
    params.distinguished_name.push(DnType::CommonName, "old\nstyle");
    assert_eq!(pem(&params).name(), "old\\nstyle");
}

#[test]
fn line_ends_marks_and_text_around_blocks_do_not_matter() {
    let chain = Chain::new();
    let written = format!("{}{}{}", chain.leaf, chain.intermediate, chain.root);
    let plain = ServerCertificate::from_pem(written.as_bytes(), chain.key.as_bytes()).unwrap();
    assert_eq!(plain.key().cert.len(), 3);
    let windows = |text: &str| format!("\u{feff}{}", text.replace('\n', "\r\n"));
    for (file, key) in [
        (windows(&written), windows(&chain.key)),
        (format!("subject=a\n\n{written}\ntail"), format!("a key\n{}", chain.key)),
        // One file for both, as some proxies want it.
        (format!("{}{written}", chain.key), format!("{}{written}", chain.key)),
    ] {
        let read = ServerCertificate::from_pem(file.as_bytes(), key.as_bytes()).unwrap();
        assert_eq!(read, plain);
    }
    // Two that issued the same leaf are how authorities change their root.
    let twice = format!("{}{}{}", chain.leaf, chain.intermediate, chain.intermediate);
    assert!(ServerCertificate::from_pem(twice.as_bytes(), chain.key.as_bytes()).is_ok());
}

#[test]
fn files_that_hold_something_else_are_told_so() {
    use PairFile::{Chain, Key};
    let (leaf, key) = pair();
    let der = x509_parser::pem::parse_x509_pem(leaf.as_bytes()).unwrap().1.contents;
    let utf16 = ["\u{feff}", &leaf].concat().encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (content, words) in [
        (Vec::new(), "the file is empty"),
        (b" \n".to_vec(), "the file is empty"),
        (utf16, "UTF-16"),
        (der, "binary (DER or PKCS#12)"),
        (b"nonsense".to_vec(), "the file holds no PEM"),
    ] {
        assert_problem(problem(&content, &key), Chain, words);
        assert_problem(problem(&leaf, &content), Key, words);
    }
    assert_problem(problem(&key, &key), Chain, "a private key and no certificate");
    assert_problem(problem(&leaf, &leaf), Key, "a certificate and no private key");
    assert_problem(problem(file!("request.pem"), &key), Chain, "a certificate request");
    assert_problem(problem(file!("pkcs7.pem"), &key), Chain, "PKCS#7");
    assert_problem(problem(file!("public.pem"), &key), Chain, "no certificate, but PUBLIC KEY");
    assert_problem(problem(&leaf, file!("public.pem")), Key, "a public key");
    assert_problem(problem(&leaf, file!("encrypted-pkcs8.key")), Key, "the key is encrypted");
    assert_problem(problem(&leaf, file!("encrypted-pkcs1.key")), Key, "the key is encrypted");
    assert_problem(problem(&leaf, format!("{key}{key}")), Key, "2 private keys");
}

#[test]
fn damage_is_found_and_never_shown() {
    use PairFile::{Chain, Key};
    let (leaf, key) = pair();
    let cut = |text: &str| text[..text.len() / 2].to_owned();
    let broken = |text: &str| text.replacen("\nM", "\n%", 1);
    assert_problem(problem(cut(&leaf), &key), Chain, "certificate 1 of the file has no END line");
    assert_problem(problem(broken(&leaf), &key), Chain, "certificate 1 of the file is not base64");
    assert_problem(problem(&leaf, cut(&key)), Key, "a part of the file has no END line");
    assert_problem(problem(&leaf, broken(&key)), Key, "a part of the file is not base64");
    let other = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    assert_problem(problem(other, &key), Chain, "certificate 1 of the file is damaged");
    let second = format!("{leaf}{other}");
    assert_problem(problem(second, &key), Chain, "certificate 2 of the file is damaged");
    let other = other.replace("CERTIFICATE", "PRIVATE KEY");
    assert_problem(problem(&leaf, other), Key, "the key cannot be used; write an RSA key of 2048");
    let long = leaf.repeat(pem::CHAIN_DER_BYTES_MAX / 300);
    assert_problem(problem(long, &key), Chain, "longer than 60000 bytes");
}

#[test]
fn weak_and_unknown_keys_are_refused() {
    use PairFile::Chain;
    let (_, key) = pair();
    assert_problem(problem(file!("weak-rsa.pem"), &key), Chain, "an RSA key of 1024 bits");
    assert_problem(problem(file!("secp256k1.pem"), &key), Chain, "(OID 1.3.132.0.10)");
    assert_problem(problem(file!("ed448.pem"), &key), Chain, "(OID 1.3.101.113)");
}

#[test]
fn a_key_of_another_certificate_is_told_from_a_wrong_order() {
    use PairFile::{Chain, Key};
    let (leaf, key) = pair();
    let words = "which holds an ECDSA key of P-256";
    assert_problem(problem(&leaf, pair().1), Key, words);
    assert_problem(problem(file!("rsa.pem"), &key), Key, "which holds an RSA key of 2048 bits");
    let chain = self::Chain::new();
    let (leaf, intermediate, root) = (&chain.leaf, &chain.intermediate, &chain.root);
    let upside_down = format!("{root}{intermediate}{leaf}");
    assert_problem(problem(upside_down, &chain.key), Chain, "belongs to certificate 3 of the file");
    let mixed = format!("{leaf}{root}{intermediate}");
    assert_problem(problem(mixed, &chain.key), Chain, "certificate 2 of the file issued none");
    let foreign = format!("{leaf}{intermediate}{}", pair().0);
    assert_problem(problem(foreign, &chain.key), Chain, "certificate 3 of the file issued none");
    // The intermediate's own key fits the intermediate.
    let words = "belongs to certificate 2 of the file";
    let both = format!("{leaf}{intermediate}");
    assert_problem(problem(both, &chain.intermediate_key), Chain, words);
}

#[test]
fn what_is_shown_of_a_pair_is_public() {
    let (leaf, key) = pair();
    let read = ServerCertificate::from_pem(leaf.as_bytes(), key.as_bytes()).unwrap();
    let shown = format!("{read:?}");
    assert!(shown.contains("a.test") && shown.len() < 200, "{shown}");
}
