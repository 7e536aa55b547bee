//! One element of `buckets`.

use std::{collections::HashMap, rc::Rc, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use super::{
    jwt::claims,
    section::Section,
    settings::{BucketAuthSettings, BucketSettings, CaBundle, S3Settings, Verify},
    walk::Noted,
};
use crate::{
    handoff::snapshot::Credentials,
    model::limits::UpstreamTimeouts,
    policy::router::validate_path_prefix,
    protocol::{
        s3::{
            endpoint::{Addressing, EndpointUrl, Scheme, address, check_addressing},
            name::{
                validate_access_key, validate_bucket_name, validate_key_prefix, validate_region,
                validate_session_token,
            },
        },
        text::hex,
    },
};

/// Longest bucket name (the proxy's own, a metric label), in bytes.
const NAME_BYTES_MAX: usize = 128;

/// Longest path prefix, in bytes: an S3 key has at most 1,024, and a prefix is meant to be short.
const PATH_PREFIX_BYTES_MAX: usize = 1_024;

/// Reads buckets; certificates that several of them name are parsed once.
pub(super) struct BucketReader {
    bundles: HashMap<*const Vec<u8>, Result<CaBundle, String>>,
    jwt_written: bool,
}

impl BucketReader {
    /// For a file with or without a `jwt` section.
    pub(super) fn new(jwt_written: bool) -> Self {
        Self { bundles: HashMap::new(), jwt_written }
    }

    pub(super) fn read(&mut self, section: Section<'_>) -> BucketSettings {
        BucketSettings {
            name: section.checked("name", checked_name).unwrap_or_default(),
            path_prefix: section.checked("path_prefix", checked_path_prefix).unwrap_or_default(),
            s3: section.section("s3", |s3| self.s3(s3)),
            auth: section.section("auth", |auth| self.auth(auth, section.has("auth"))),
        }
    }

    fn auth(&self, section: Section<'_>, is_there: bool) -> BucketAuthSettings {
        let enabled = section.optional_boolean("enabled");
        match (enabled, self.jwt_written) {
            (Ok(None), true) => {
                section.error(
                    "enabled",
                    "must be written, true or false, because there is a jwt section",
                );
            }
            // Whoever writes the section wants something of it, and rules alone ask for no token.
            (Ok(None), false) if is_there => {
                section.error("enabled", "must be written, true or false, in an auth section");
            }
            (Ok(Some(true)), false) => {
                section.error(
                    "enabled",
                    "true needs a jwt section; without one no token could be checked",
                );
            }
            _ => {}
        }
        let claims = claims(section, "claims", "buckets[].auth.claims[]");
        let enabled = enabled.ok().flatten().unwrap_or_default();
        BucketAuthSettings { enabled, claims }
    }

    fn s3(&mut self, section: Section<'_>) -> S3Settings {
        let bucket =
            section.checked("bucket", |name| validate_bucket_name(name).map(|()| name.to_owned()));
        let region =
            section.checked("region", |region| validate_region(region).map(|()| region.to_owned()));
        let endpoint = endpoint(section);
        let addressing = section.choice("addressing", |name| match name {
            "auto" => Some(Addressing::Auto),
            "path" => Some(Addressing::Path),
            "virtual" => Some(Addressing::Virtual),
            _ => None,
        });
        if let (Ok(bucket), Ok(region), Ok(endpoint), Ok(addressing)) =
            (&bucket, &region, &endpoint, addressing)
        {
            note_bad_address(section, endpoint.as_ref(), region, bucket, addressing);
        }
        let plain_http = matches!(&endpoint, Ok(Some(url)) if url.scheme == Scheme::Http);
        let key_prefix = section.optional_text("key_prefix").ok().flatten();
        let key_prefix = key_prefix.map(|text| text.value.into_owned()).unwrap_or_default();
        if let Err(message) = validate_key_prefix(&key_prefix) {
            section.error("key_prefix", message);
        }
        S3Settings {
            bucket: bucket.unwrap_or_default(),
            region: region.unwrap_or_default(),
            endpoint: endpoint.ok().flatten(),
            addressing: addressing.unwrap_or_default(),
            credentials: credentials(section, plain_http).ok().flatten(),
            key_prefix,
            ca: self.ca(section, plain_http).ok().flatten(),
            timeouts: section.section("timeouts", |timeouts| UpstreamTimeouts {
                connect: timeouts.seconds("connect"),
                first_byte: timeouts.seconds("first_byte"),
                read: timeouts.seconds("read"),
            }),
            max_idle_connections: section.size("max_idle_connections"),
            max_connection_age: section.seconds("max_connection_age"),
            verify: section.choice("verify", Verify::parse).unwrap_or(Verify::None),
        }
    }

    fn ca(&mut self, section: Section<'_>, plain_http: bool) -> Result<Option<CaBundle>, Noted> {
        let Some(pem) = section.named_file("ca_file")? else { return Ok(None) };
        if plain_http {
            section.warning("ca_file", "is not used, because the endpoint is http");
        }
        // The walk keeps the content of each file it has read, so the address stands for the file.
        let bundle = self.bundles.entry(Rc::as_ptr(&pem)).or_insert_with(|| ca_bundle(&pem));
        bundle.clone().map(Some).map_err(|message| section.error("ca_file", message))
    }
}

fn endpoint(section: Section<'_>) -> Result<Option<EndpointUrl>, Noted> {
    let Some(text) = section.optional_text("endpoint")? else { return Ok(None) };
    match EndpointUrl::parse(&text.value) {
        Ok(url) => Ok(Some(url)),
        Err(error) => Err(section.error("endpoint", error.to_string())),
    }
}

/// Notes a bucket that cannot be addressed as written, or whose TLS server name cannot exist.
fn note_bad_address(
    section: Section<'_>,
    endpoint: Option<&EndpointUrl>,
    region: &str,
    bucket: &str,
    addressing: Addressing,
) {
    if let Err(message) = check_addressing(endpoint, bucket, addressing) {
        section.error("addressing", message);
        return;
    }
    let url = address(endpoint, region, bucket, "", addressing).url;
    if url.scheme == Scheme::Https && ServerName::try_from(url.host.as_str()).is_err() {
        section.error(
            "endpoint",
            "TLS needs a host name with letters, digits, '-' and dots; rename the host, or use \
             http",
        );
    }
}

fn credentials(section: Section<'_>, plain_http: bool) -> Result<Option<Credentials>, Noted> {
    let anonymous = section.boolean("anonymous");
    let access_key = section.secret("access_key", "access_key_file", check_access_key);
    let secret_key = section.secret("secret_key", "secret_key_file", check_secret_key);
    let session_token =
        section.secret("session_token", "session_token_file", validate_session_token);
    let (access_key, secret_key, session_token) = (access_key?, secret_key?, session_token?);
    if anonymous {
        if access_key.is_some() || secret_key.is_some() || session_token.is_some() {
            return Err(section.error(
                "anonymous",
                "an anonymous bucket has no keys; remove access_key, secret_key and session_token",
            ));
        }
        return Ok(None);
    }
    let (access_key, secret_key) = match (access_key, secret_key) {
        (Some(access_key), Some(secret_key)) => (access_key, secret_key),
        (None, None) => {
            return Err(section.error(
                "access_key",
                "access_key and secret_key are missing or empty; write both, or anonymous: true \
                 for a public bucket",
            ));
        }
        (Some(_), None) => {
            return Err(section.error("secret_key", "is missing or empty beside access_key"));
        }
        (None, Some(_)) => {
            return Err(section.error("access_key", "is missing or empty beside secret_key"));
        }
    };
    if session_token.is_some() && plain_http {
        let name = written_of(section, "session_token", "session_token_file");
        section.warning(name, "is sent without encryption, because the endpoint is http");
    }
    let access_key = String::from_utf8_lossy(access_key.expose()).into();
    Ok(Some(Credentials { access_key, secret_key, session_token }))
}

fn check_access_key(key: &[u8]) -> Result<(), &'static str> {
    validate_access_key(std::str::from_utf8(key).map_err(|_| "is not text")?)
}

fn check_secret_key(key: &[u8]) -> Result<(), &'static str> {
    if key.iter().any(u8::is_ascii_control) {
        return Err("holds a control character, such as a second line");
    }
    Ok(())
}

fn written_of(section: Section<'_>, name: &'static str, file_name: &'static str) -> &'static str {
    if section.is_written(file_name) && !section.is_written(name) { file_name } else { name }
}

fn ca_bundle(pem: &[u8]) -> Result<CaBundle, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let number = roots.len() + 1;
        let certificate =
            certificate.map_err(|error| format!("is not PEM at certificate {number}: {error}"))?;
        roots
            .add(certificate)
            .map_err(|error| format!("certificate {number} is not usable: {error}"))?;
    }
    if roots.is_empty() {
        return Err("holds no certificate; expected PEM (BEGIN CERTIFICATE)".to_owned());
    }
    let digest = hex::lower_string(digest(&SHA256, pem).as_ref());
    Ok(CaBundle { pem: Arc::from(pem), digest: Arc::from(digest) })
}

fn checked_name(name: &str) -> Result<String, String> {
    if name.len() > NAME_BYTES_MAX {
        return Err(format!("has more than {NAME_BYTES_MAX} bytes"));
    }
    if name.chars().any(char::is_control) || name.trim() != name {
        return Err("holds a control character, or white space at an end".to_owned());
    }
    Ok(name.to_owned())
}

fn checked_path_prefix(prefix: &str) -> Result<String, String> {
    if prefix.len() > PATH_PREFIX_BYTES_MAX {
        return Err(format!("has more than {PATH_PREFIX_BYTES_MAX} bytes"));
    }
    validate_path_prefix(prefix)?;
    Ok(prefix.to_owned())
}
