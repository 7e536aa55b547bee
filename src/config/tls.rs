//! `server.tls`: the listener for TLS, and the files that it shows and trusts.
//!
//! Certificates change without the configuration file, so their content can be read again from the
//! same files ([`TlsSettings::read_again`]). What cannot be used then stays what it was.

use std::{path::PathBuf, sync::Arc};

use super::{
    bucket::certificates,
    changes::Changes,
    declare::{Keys as _, Value, choice, declare, words},
    inputs::{FileReader, NAMED_FILE_BYTES_MAX},
    keys::{Key, file, integer, keys, list},
    problem::Problem,
    section::Section,
    walk::{At, Noted},
};
use crate::{
    model::CaBundle,
    system::tls::{
        CHAIN_FILE_BYTES_MAX, CertificateProblem, KEY_FILE_BYTES_MAX, PairFile, ServerCertificate,
        TicketKeys, TlsVersion,
    },
};

/// Pairs of a listener. All of them are read again when one of their files changes.
const CERTIFICATES_MAX: usize = 1_000;

/// Largest file of ticket keys, in bytes: several hundred keys.
const TICKET_KEYS_BYTES_MAX: usize = 65_536;

declare! {
    /// `server.tls`. `Debug` shows no secret.
    pub struct TlsSettings, check = check_tls {
        /// TCP port of the listener for TLS, on `server.address`; 0 takes any free one and prints
        /// it at start.
        port: u16 = integer(0, 65_535, "").is("8443").restart(),
        /// Certificates; the first one that has the name that a client asks for is shown, else
        /// the first of all.
        certificates: Vec<CertificatePair> = list(PAIR).required(),
        /// Oldest version of TLS that is accepted.
        min_version: TlsVersion = choice::<TlsVersion>().is("1.2"),
        /// PEM certificates; every client must show a certificate that one of them issued.
        client_ca as "client_ca_file": Option<ClientCa> =
            file().otherwise("no client certificates"),
        /// Keys of session tickets that several instances share, newest first: in each line 48 or
        /// 80 random bytes in base64.
        ticket_keys as "ticket_keys_file": Option<TicketKeysFile> = file()
            .at_most(TICKET_KEYS_BYTES_MAX)
            .otherwise("keys of the process"),
        /// Responses of `server.port`, its built-in endpoints aside: the objects, a redirect to
        /// https, or 403.
        plain: PlainMode = choice::<PlainMode>().is("serve"),
        /// Port that redirects name; 0 is that of `server.tls.port`.
        redirect_port: u16 = integer(0, 65_535, "").is("0"),
    }
}

/// Two files that belong together.
const PAIR: &[Key] = keys! {
    /// PEM certificates: the leaf first, then those that issued it.
    cert_file = file().at_most(CHAIN_FILE_BYTES_MAX).required(),
    /// PEM private key of the leaf: PKCS#8, PKCS#1 or SEC1, not encrypted.
    key_file = file().at_most(KEY_FILE_BYTES_MAX).required(),
};

words! {
    impl TlsVersion {
        Tls12 = "1.2",
        Tls13 = "1.3",
    }
}

words! {
    /// `server.tls.plain`.
    pub enum PlainMode {
        /// As if there were no TLS.
        Serve = "serve",
        /// 308 to https.
        Redirect = "redirect",
        /// 403.
        Refuse = "refuse",
    }
}

/// A certificate, and the files that it came from, as they are written.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificatePair {
    /// The chain.
    pub cert_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
    /// Their content.
    pub certificate: Arc<ServerCertificate>,
}

/// Authorities of client certificates, and the file that they came from.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientCa {
    /// The file, as it is written.
    pub file: PathBuf,
    /// Its content.
    pub bundle: CaBundle,
}

/// Keys of tickets, and the file that they came from.
#[derive(Clone, Debug, PartialEq)]
pub struct TicketKeysFile {
    /// The file, as it is written.
    pub file: PathBuf,
    /// Its content.
    pub keys: TicketKeys,
}

impl Value for Option<TlsSettings> {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        if !section.has(key.name) {
            return None;
        }
        if !section.is_written(key.name) {
            section.error(key.name, "is empty; write its keys, or remove it");
            return None;
        }
        Some(section.section(key.name, TlsSettings::read_keys))
    }

    /// A listener comes and goes with the process only.
    fn compare(&self, new: &Self, key: &'static Key, at: &At<'_>, changes: &mut Changes) {
        let at = At::Key(at, key.name);
        let shown = |tls: &TlsSettings| format!("a listener on port {}", tls.port);
        match (self, new) {
            (Some(running), Some(new)) => running.compare_keys(new, &at, changes),
            (None, None) => {}
            (None, Some(new)) => changes.restart(at, "nothing", &shown(new)),
            (Some(running), None) => changes.restart(at, &shown(running), "nothing"),
        }
    }

    fn keep(&mut self, running: &Self, _key: &'static Key) {
        match (&mut *self, running) {
            (Some(new), Some(running)) => new.keep_keys(running),
            _ => self.clone_from(running),
        }
    }
}

/// Notes keys that are written without a value, of which nobody could say what they ask for, one
/// that has no effect, and certificates of clients that only one of two ports asks for.
fn check_tls(tls: &TlsSettings, section: Section<'_>) {
    for name in ["min_version", "client_ca_file", "ticket_keys_file", "plain"] {
        if section.has(name) && !section.is_written(name) {
            section.error(name, "is null; write a value, or remove the key");
        }
    }
    if tls.client_ca.is_some() && !section.has("plain") {
        section.warning(
            "client_ca_file",
            "clients of server.port get the objects without a certificate; write plain: refuse, or \
             plain: serve if that is meant",
        );
    }
    if tls.redirect_port != 0 && tls.plain != PlainMode::Redirect {
        section.warning(
            "redirect_port",
            "is not used, because plain is not redirect; remove it, or write plain: redirect",
        );
    }
}

impl Value for Vec<CertificatePair> {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        if section.list(key.name).len() > CERTIFICATES_MAX {
            let message = format!("holds more than {CERTIFICATES_MAX} certificates; remove some");
            section.error(key.name, message);
            return Self::new();
        }
        if section.is_empty_list(key.name) {
            section.error(
                key.name,
                "no certificate is configured; write at least one pair of cert_file and key_file",
            );
        }
        section.each(key.name, pair).into_iter().flatten().collect()
    }

    fn compare(&self, new: &Self, key: &'static Key, at: &At<'_>, changes: &mut Changes) {
        let list = At::Key(at, key.name);
        for index in 0..self.len().max(new.len()) {
            let at = At::Index(&list, index);
            match (self.get(index), new.get(index)) {
                (Some(running), Some(new)) => {
                    let content = running.certificate != new.certificate;
                    if running.cert_file != new.cert_file || content {
                        changes.hot(At::Key(&at, "cert_file"));
                    }
                    if running.key_file != new.key_file {
                        changes.hot(At::Key(&at, "key_file"));
                    }
                }
                _ => changes.hot(at),
            }
        }
    }
}

fn pair(section: Section<'_>) -> Result<CertificatePair, Noted> {
    let file = |name: &'static str| match section.named_file_at(name)? {
        Some(found) => Ok(found),
        None => Err(section.error(name, "is empty; write the path of a PEM file")),
    };
    let (chain, key) = (file("cert_file"), file("key_file"));
    let ((cert_file, chain), (key_file, key)) = (chain?, key?);
    match ServerCertificate::from_pem(&chain, &key) {
        Ok(certificate) => {
            Ok(CertificatePair { cert_file, key_file, certificate: Arc::new(certificate) })
        }
        Err(problem) => Err(section.error(key_of(&problem), problem.message)),
    }
}

const fn key_of(problem: &CertificateProblem) -> &'static str {
    match problem.file {
        PairFile::Chain => "cert_file",
        PairFile::Key => "key_file",
    }
}

impl Value for Option<ClientCa> {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        let (file, pem) = section.named_file_at(key.name).ok().flatten()?;
        let bundle = section.walk.certificates(&pem, certificates);
        let bundle = bundle.map_err(|message| section.error(key.name, message)).ok()?;
        Some(ClientCa { file, bundle })
    }
}

impl Value for Option<TicketKeysFile> {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        let (file, text) = section.named_file_at(key.name).ok().flatten()?;
        let keys = TicketKeys::from_lines(&text);
        let keys = keys.map_err(|message| section.error(key.name, message)).ok()?;
        Some(TicketKeysFile { file, keys })
    }
}

impl TlsSettings {
    /// Files whose content may change while the configuration stays.
    pub fn files(&self) -> impl Iterator<Item = &PathBuf> {
        let pairs = self.certificates.iter().flat_map(|pair| [&pair.cert_file, &pair.key_file]);
        let ca = self.client_ca.iter().map(|ca| &ca.file);
        pairs.chain(ca).chain(self.ticket_keys.iter().map(|keys| &keys.file))
    }

    /// The same settings with what their files hold now. What cannot be used is told, and stays as
    /// it is here, so that one broken pair does not keep another from being renewed.
    #[must_use]
    pub fn read_again(&self, files: &dyn FileReader) -> (Self, Vec<Problem>) {
        let mut read = self.clone();
        let mut problems = Vec::new();
        let mut note = |path: String, message: String| {
            let path = format!("server.tls.{path}");
            problems.push(Problem::of_key(path, message));
        };
        let unreadable = |why| format!("the file that it names {why}");
        for (index, pair) in read.certificates.iter_mut().enumerate() {
            let mut content =
                |name: &str, file: &PathBuf, bytes_max| match files.read(file, bytes_max) {
                    Ok(content) => Some(content),
                    Err(why) => {
                        note(format!("certificates[{index}].{name}"), unreadable(why));
                        None
                    }
                };
            let chain = content("cert_file", &pair.cert_file, CHAIN_FILE_BYTES_MAX);
            let key = content("key_file", &pair.key_file, KEY_FILE_BYTES_MAX);
            let (Some(chain), Some(key)) = (chain, key) else { continue };
            match ServerCertificate::from_pem(&chain, &key) {
                Ok(certificate) if certificate == *pair.certificate => {}
                Ok(certificate) => pair.certificate = Arc::new(certificate),
                Err(problem) => {
                    note(format!("certificates[{index}].{}", key_of(&problem)), problem.message);
                }
            }
        }
        if let Some(ca) = &mut read.client_ca {
            let pem = files.read(&ca.file, NAMED_FILE_BYTES_MAX).map_err(unreadable);
            match pem.and_then(|pem| certificates(&pem)) {
                Ok(bundle) => ca.bundle = bundle,
                Err(message) => note("client_ca_file".to_owned(), message),
            }
        }
        if let Some(tickets) = &mut read.ticket_keys {
            let text = files.read(&tickets.file, TICKET_KEYS_BYTES_MAX).map_err(unreadable);
            match text.and_then(|text| TicketKeys::from_lines(&text)) {
                Ok(keys) => tickets.keys = keys,
                Err(message) => note("ticket_keys_file".to_owned(), message),
            }
        }
        (read, problems)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    type Files = BTreeMap<PathBuf, Vec<u8>>;

    fn pair_of(files: &mut Files, name: &str) {
        let made = rcgen::generate_simple_self_signed(vec![format!("{name}.test")]).unwrap();
        files.insert(format!("{name}.pem").into(), made.cert.pem().into_bytes());
        files.insert(format!("{name}.key").into(), made.signing_key.serialize_pem().into_bytes());
    }

    fn pairs(files: &mut Files) {
        for name in ["a", "b"] {
            pair_of(files, name);
        }
    }

    fn settings(files: &Files) -> TlsSettings {
        let text = "server:\n  tls:\n    client_ca_file: a.pem\n    certificates:\n\
                    \x20   - { cert_file: a.pem, key_file: a.key }\n\
                    \x20   - { cert_file: b.pem, key_file: b.key }\n\
                    buckets:\n- { name: a, path_prefix: /a, s3: { bucket: aaa, region: r, \
                    anonymous: true } }\n";
        let environment = BTreeMap::<String, String>::new();
        let loaded = crate::config::parse(text.as_bytes(), &environment, files);
        loaded.unwrap().settings.server.tls.unwrap()
    }

    #[test]
    fn what_did_not_change_is_the_same_again() {
        let mut files = Files::new();
        pairs(&mut files);
        let before = settings(&files);
        assert_eq!(before.files().count(), 5);
        let (again, problems) = before.read_again(&files);
        assert_eq!((&again, problems.len()), (&before, 0));
    }

    #[test]
    fn one_broken_pair_keeps_its_last_content_and_no_other_from_being_renewed() {
        let mut files = Files::new();
        pairs(&mut files);
        let before = settings(&files);
        // The chain of one is replaced before its key, both files of the other.
        let key = files[&PathBuf::from("a.key")].clone();
        pairs(&mut files);
        let new_key = files.insert("a.key".into(), key).unwrap();
        let (again, problems) = before.read_again(&files);
        assert_eq!(again.certificates[0], before.certificates[0]);
        assert_ne!(again.certificates[1], before.certificates[1]);
        assert_ne!(again.client_ca, before.client_ca);
        let [problem] = &problems[..] else { panic!("{problems:?}") };
        assert_eq!(problem.path, "server.tls.certificates[0].key_file");
        assert!(problem.message.contains("does not belong to the certificate"));
        // With the key it fits again.
        files.insert("a.key".into(), new_key);
        let (last, problems) = again.read_again(&files);
        assert_ne!(last.certificates[0], before.certificates[0]);
        assert_eq!((&last.certificates[1], problems.len()), (&again.certificates[1], 0));
        files.clear();
        let (kept, problems) = last.read_again(&files);
        assert_eq!((kept, problems.len()), (last, 5));
    }
}
