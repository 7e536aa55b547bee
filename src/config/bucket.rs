//! One element of `buckets`.

use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use super::{
    changes::Changes,
    declare::{Keys as _, Value, choice, compare_named, declare, section_of, words},
    jwt::RULE,
    keys::{
        DAY_SECONDS, HOUR_SECONDS, Key, boolean, file, group, integer, integers, keys, list, map,
        seconds, secret, text, texts,
    },
    section::Section,
    site::{
        CompressSettings, CorsSettings, HeadersSettings, HostPatterns, ListingSettings, PathPrefix,
        QueryParameters, check_fields,
        documents::{DocumentKeys, ErrorPages, Missing, check_document},
    },
    values::check_name,
    walk::{At, Noted},
};
use crate::{
    handoff::credentials::Credentials,
    model::{CaBundle, limits::UpstreamTimeouts},
    policy::{auth::spec::ClaimSpec, site::documents::MISSING_STATUSES},
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

declare! {
    /// One element of `buckets`.
    pub struct BucketSettings, check = check_bucket {
        /// Unique name for metrics, logs and reload reports.
        name: String = text().required().checked(check_name),
        /// Starts with `/`, does not end with one (but `/` itself), matches whole segments; unique
        /// among buckets that share a host.
        path_prefix: PathPrefix = text().otherwise("`/` with hosts, else required"),
        /// Place of the objects, and the credentials to read them.
        s3: S3Settings = section_of::<S3Settings>().required(),
        /// Host names, or `*.example.com` for one label before a name, that it is served for.
        hosts: HostPatterns = texts().otherwise("every host"),
        /// Name of the object that stands for a directory: for the prefix and for each path that
        /// ends with `/`. A prefix without its `/` is 308 to the one with it.
        index: String = text().is("").checked(check_document),
        /// 308 from `dir` to `dir/` where `dir` is missing and `dir/` has an index.
        redirect_directories: bool = boolean().is("false"),
        /// Statuses of S3 that mean that there is no such object, for `redirect_directories`,
        /// `spa` and `error_pages`; AWS says 403 to credentials that may not list the bucket.
        missing: Missing = integers(&MISSING_STATUSES).is("[404]"),
        /// Key of the object that is sent, with 200, in place of a missing one where the client's
        /// `Accept` names `text/html`.
        spa: String = text().is("").checked(check_document),
        /// Paths of objects, without `path_prefix`, that are sent in place of S3's errors, with
        /// their status.
        error_pages: ErrorPages = map("statuses, 400 to 599, to paths").is("{}"),
        /// Parameters of a query that reach S3: `versionId`, `partNumber` and
        /// `response-content-type`, `-content-disposition`, `-content-encoding`,
        /// `-content-language`, `-cache-control`, `-expires`.
        allow_query: QueryParameters = texts(),
        /// Pages of other origins that may read the bucket in a browser; off without origins.
        cors: CorsSettings = section_of::<CorsSettings>(),
        /// Changes to the fields of responses, errors of the proxy included; they win over
        /// `server.headers`.
        headers: HeadersSettings = section_of::<HeadersSettings>(),
        /// Leaves out what tells of S3: `x-amz-*`, `Server`, and the bodies of its errors, which
        /// become errors of the proxy.
        hide_s3: bool = boolean().is("false"),
        /// Compression of responses that S3 did not encode.
        compress: CompressSettings = section_of::<CompressSettings>(),
        /// Listings of the bucket.
        listing: ListingSettings = section_of::<ListingSettings>(),
        /// Readers of the bucket.
        auth: BucketAuthSettings = section_of::<BucketAuthSettings>()
            .otherwise("not protected; required with a jwt section"),
    }
}

/// Notes what is wrong between the keys of a bucket.
fn check_bucket(bucket: &BucketSettings, section: Section<'_>) {
    let BucketSettings { index, redirect_directories, spa, error_pages, s3, .. } = bucket;
    let is_listed = bucket.listing.enabled;
    let keys = DocumentKeys { index, spa, error_pages, is_listed };
    keys.check(section, *redirect_directories, &s3.key_prefix);
    let is_anonymous = bucket.s3.signing == SigningSettings::Anonymous;
    let has_override = bucket.allow_query.0.iter().any(|parameter| parameter.is_override());
    if is_anonymous && has_override && !section.is_noted("s3") {
        section.error(
            "allow_query",
            "lets response-* through, which S3 takes in signed requests only; remove those, or \
             write credentials in place of s3.anonymous",
        );
    }
    check_fields(&bucket.cors, &bucket.headers, section);
}

impl Value for Vec<BucketSettings> {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        let buckets = section.each(key.name, BucketSettings::read_keys);
        if section.is_empty_list(key.name)
            && section.walk.includes_nothing()
            && !section.is_noted("include")
        {
            section.error(key.name, "no bucket is configured; write at least one");
        }
        buckets
    }

    fn compare(&self, new: &Self, key: &'static Key, at: &At<'_>, changes: &mut Changes) {
        let at = At::Key(at, key.name);
        compare_named(self, new, |bucket| &bucket.name, &at, changes, BucketSettings::compare_keys);
    }
}

declare! {
    /// `buckets[].s3`.
    pub struct S3Settings, check = check_s3 {
        /// Name of the S3 bucket.
        bucket: String = text().required().checked(validate_bucket_name),
        /// Region that requests are signed for.
        region: String = text().required().checked(validate_region),
        /// http or https URL of an S3 server.
        endpoint: Option<EndpointUrl> = text().otherwise("AWS for the region"),
        /// Place of the bucket name; `auto` is path with an endpoint, virtual for AWS (path if
        /// the name has a dot).
        addressing: Addressing = choice::<Addressing>().is("auto"),
        signing: SigningSettings = group(SIGNING),
        /// Text before every object key.
        key_prefix: String = text().is("").checked(validate_key_prefix),
        /// PEM certificates trusted besides the system's, for an https endpoint.
        ca as "ca_file": Option<CaBundle> = file(),
        /// Timeouts towards S3.
        timeouts: UpstreamTimeouts = section_of::<UpstreamTimeouts>(),
        /// Idle connections kept to the endpoint, per core; more than these only for a second
        /// after a burst.
        max_idle_connections: usize = integer(0, 65_536, "connections").is("64"),
        /// Age of a connection to S3 beyond which it serves no further request; up to a tenth
        /// less, so that they are not replaced all at once.
        max_connection_age: Duration = seconds(DAY_SECONDS).is("300"),
        /// One signed request before a reload adopts a changed bucket; `require` refuses the
        /// reload when S3 refuses the credentials.
        verify: Verify = choice::<Verify>().is("none"),
    }
}

/// Origin of the credentials of a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningSettings {
    /// `anonymous: true`.
    Anonymous,
    /// `access_key`, `secret_key` and `session_token`.
    Keys(Credentials),
    /// The name of a source in `credentials`.
    Source(String),
}

impl SigningSettings {
    /// The name of the source, if it is one.
    pub fn source(&self) -> Option<&str> {
        match self {
            Self::Source(name) => Some(name),
            Self::Anonymous | Self::Keys(_) => None,
        }
    }
}

/// Two forms of each key: a value, or a file that holds it.
const SIGNING: &[Key] = keys! {
    /// Access key id.
    access_key = text(),
    /// The same from a file.
    access_key_file = file(),
    /// Secret access key.
    secret_key = secret(),
    /// The same from a file.
    secret_key_file = file(),
    /// Session token of temporary credentials.
    session_token = secret(),
    /// The same from a file.
    session_token_file = file(),
    /// Name of a source in `credentials`, instead of keys; `default` needs no entry there.
    credentials = text(),
    /// Sends unsigned requests, for a public bucket; the keys must not be written then.
    anonymous = boolean().is("false"),
};

words! {
    impl Addressing {
        Auto = "auto",
        Path = "path",
        Virtual = "virtual",
    }
}

declare! {
    impl UpstreamTimeouts {
        /// Time for TCP connect and TLS handshake together.
        connect: Duration = seconds(HOUR_SECONDS).is("5"),
        /// Time from the request to the first byte of the final response.
        first_byte: Duration = seconds(HOUR_SECONDS).is("30"),
        /// Time for the rest of the response's head, and then without a byte while the body
        /// arrives.
        read: Duration = seconds(HOUR_SECONDS).is("30"),
    }
}

words! {
    /// `buckets[].s3.verify`.
    pub enum Verify {
        /// No request.
        None = "none",
        /// A refusal is a warning.
        Warn = "warn",
        /// A refusal refuses the reload.
        Require = "require",
    }
}

declare! {
    /// `buckets[].auth`.
    pub struct BucketAuthSettings, check = check_bucket_auth {
        /// Asks for a token.
        enabled: bool = boolean().otherwise("false; required with a jwt section"),
        /// Further rules for this bucket, like `jwt.claims`.
        claims: Vec<ClaimSpec> = list(RULE),
        /// Names of the providers whose tokens may read it; `jwt` names the keys of the jwt
        /// section.
        providers: Vec<String> = texts().otherwise("all").in_any_order(),
    }
}

fn check_bucket_auth(auth: &BucketAuthSettings, section: Section<'_>) {
    if section.has("providers") && section.is_empty_list("providers") {
        section.error("providers", "is empty; write names, or remove the key for all providers");
    }
    let message = match (section.is_written("enabled"), section.walk.jwt_written.get()) {
        (false, true) => "is missing; write true or false, because the file has a jwt section",
        // Whoever writes the section wants something of it, and rules alone ask for no token.
        (false, false) if section.is_there => {
            "is missing; an auth section needs it: write true or false"
        }
        (true, false) if auth.enabled => {
            "is true, but without a jwt section no token can be checked; write one, or false"
        }
        _ => return,
    };
    section.error("enabled", message);
}

/// Notes what is wrong between keys: a bucket that cannot be addressed as written, whose TLS server
/// name cannot exist, or that protects less than it seems to.
fn check_s3(s3: &S3Settings, section: Section<'_>) {
    let S3Settings { endpoint, region, bucket, addressing, .. } = s3;
    if !section.is_noted("key_prefix") {
        warn_of_key_prefix(section, &s3.key_prefix);
    }
    let addressed = ["bucket", "region", "endpoint", "addressing"];
    if !addressed.into_iter().any(|name| section.is_noted(name)) {
        note_bad_address(section, endpoint.as_ref(), region, bucket, *addressing);
        if let Some(url) = endpoint {
            warn_of_bucket_in_host(section, url, s3);
        }
    }
    if !endpoint.as_ref().is_some_and(|url| url.scheme == Scheme::Http) {
        return;
    }
    if s3.ca.is_some() {
        section.warning(
            "ca_file",
            "is not used, because the endpoint is http; remove it, or write an https endpoint",
        );
    }
    if matches!(&s3.signing, SigningSettings::Keys(keys) if keys.session_token.is_some()) {
        let name = written_of(section, "session_token", "session_token_file");
        section.warning(
            name,
            "is sent without encryption, because the endpoint is http; use an https endpoint",
        );
    }
}

impl Value for Option<EndpointUrl> {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        let text = section.optional_text(key.name).ok().flatten()?;
        let url = EndpointUrl::parse(&text.value);
        url.map_err(|error| section.error(key.name, error.to_string())).ok()
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

/// Warns of a prefix that is put before keys as it is, and hardly makes those that are there.
fn warn_of_key_prefix(section: Section<'_>, prefix: &str) {
    if prefix.starts_with('/') {
        section.warning(
            "key_prefix",
            "begins with '/', which the keys of few buckets do; remove it unless yours do",
        );
    } else if prefix.ends_with(|last: char| last.is_ascii_alphanumeric()) {
        section.warning(
            "key_prefix",
            "ends without '/', so that prefix and key become one word; write a '/' at its end if \
             it is a directory",
        );
    }
}

/// Warns of an endpoint whose host begins with the bucket, before what looks like S3: the bucket
/// would be named twice. Other hosts may have its name by chance.
fn warn_of_bucket_in_host(section: Section<'_>, url: &EndpointUrl, s3: &S3Settings) {
    let rest = url.host.strip_prefix(&*s3.bucket).and_then(|rest| rest.strip_prefix('.'));
    let Some(host) = rest.filter(|host| !host.is_empty()) else { return };
    let label = host.split('.').next().unwrap_or_default();
    let is_of_s3 = label == "s3" || label.starts_with("s3-");
    if !is_of_s3 && s3.addressing != Addressing::Virtual {
        return;
    }
    let is_written = |name| {
        section.entry(name).and_then(|entry| entry.value.text()).is_some_and(|t| !t.contains('$'))
    };
    let is_default = url.scheme == Scheme::Https
        && (host == "s3.amazonaws.com" || host == format!("s3.{}.amazonaws.com", s3.region));
    let advice = if is_default {
        "remove endpoint, because this one is the default".to_owned()
    } else {
        let without = EndpointUrl { host: host.to_owned(), ..url.clone() };
        let write = if is_written("endpoint") && is_written("bucket") {
            without.to_string()
        } else {
            "the host without it".to_owned()
        };
        format!("write {write}, with addressing: virtual if the name has to be in the host")
    };
    section.warning(
        "endpoint",
        format!(
            "has the name of the bucket in its host, and requests would name it twice; {advice}"
        ),
    );
}

impl Value for SigningSettings {
    fn read(section: Section<'_>, _key: &'static Key) -> Self {
        signing(section).unwrap_or(Self::Anonymous)
    }

    fn compare(&self, new: &Self, _key: &'static Key, at: &At<'_>, changes: &mut Changes) {
        match (self, new) {
            (Self::Keys(running), Self::Keys(new)) => {
                let Credentials { access_key, secret_key, session_token } = running;
                for (name, differs) in [
                    ("access_key", *access_key != new.access_key),
                    ("secret_key", *secret_key != new.secret_key),
                    ("session_token", *session_token != new.session_token),
                ] {
                    if differs {
                        changes.hot(At::Key(at, name));
                    }
                }
            }
            (running, new) if running == new => {}
            (Self::Source(_), _) | (_, Self::Source(_)) => changes.hot(At::Key(at, "credentials")),
            _ => changes.hot(At::Key(at, "anonymous")),
        }
    }
}

fn signing(section: Section<'_>) -> Result<SigningSettings, Noted> {
    let anonymous = section.boolean("anonymous");
    let access_key = section.secret("access_key", "access_key_file", check_access_key);
    let secret_key = section.secret("secret_key", "secret_key_file", check_secret_key);
    let session_token =
        section.secret("session_token", "session_token_file", validate_session_token);
    let source = section.security_text("credentials");
    let (access_key, secret_key, session_token) = (access_key?, secret_key?, session_token?);
    let source = source?;
    if ["anonymous", "access_key", "secret_key"].into_iter().any(|name| section.is_noted(name)) {
        return Err(Noted);
    }
    let has_keys = access_key.is_some() || secret_key.is_some() || session_token.is_some();
    if anonymous {
        if has_keys {
            return Err(section.error(
                "anonymous",
                "is true, so requests are not signed; remove access_key, secret_key and \
                 session_token, or write false",
            ));
        }
        if source.is_some() {
            return Err(section.error(
                "anonymous",
                "is true, so requests are not signed; remove credentials, or write false",
            ));
        }
        return Ok(SigningSettings::Anonymous);
    }
    if let Some(source) = source {
        if has_keys {
            return Err(section.error(
                "credentials",
                "is written beside access_key, secret_key or session_token; keep the keys, or the \
                 source",
            ));
        }
        return Ok(SigningSettings::Source(source.value.into_owned()));
    }
    let (access_key, secret_key) = match (access_key, secret_key) {
        (Some(access_key), Some(secret_key)) => (access_key, secret_key),
        (None, None) => {
            return Err(section.error(
                "access_key",
                "access_key and secret_key are missing or empty; write both, credentials: default \
                 for those of the environment, or anonymous: true for a public bucket",
            ));
        }
        (Some(_), None) => {
            return Err(section.error(
                "secret_key",
                "is missing or empty, but access_key is written; write both",
            ));
        }
        (None, Some(_)) => {
            return Err(section.error(
                "access_key",
                "is missing or empty, but secret_key is written; write both",
            ));
        }
    };
    let access_key = String::from_utf8_lossy(access_key.expose()).into();
    Ok(SigningSettings::Keys(Credentials { access_key, secret_key, session_token }))
}

fn check_access_key(key: &[u8]) -> Result<(), &'static str> {
    validate_access_key(
        std::str::from_utf8(key).map_err(|_| "is not text; write the key id in UTF-8")?,
    )
}

fn check_secret_key(key: &[u8]) -> Result<(), &'static str> {
    if key.iter().any(u8::is_ascii_control) {
        return Err("holds a control character, such as a second line; write one line");
    }
    Ok(())
}

fn written_of(section: Section<'_>, name: &'static str, file_name: &'static str) -> &'static str {
    if section.is_written(file_name) && !section.is_written(name) { file_name } else { name }
}

impl Value for Option<CaBundle> {
    fn read(section: Section<'_>, key: &'static Key) -> Self {
        let pem = section.named_file(key.name).ok().flatten()?;
        let bundle = section.walk.certificates(&pem, certificates);
        bundle.map_err(|message| section.error(key.name, message)).ok()
    }
}

/// PEM with at least one certificate that can be trusted, and its digest.
pub(super) fn certificates(pem: &[u8]) -> Result<CaBundle, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let number = roots.len() + 1;
        let damaged = |what| format!("certificate {number} of the file {what}; write it anew");
        let certificate = certificate.map_err(|_| damaged("is damaged PEM"))?;
        roots.add(certificate).map_err(|_| damaged("is damaged, or no certificate at all"))?;
    }
    if roots.is_empty() {
        let message = "the file holds no certificate; write PEM blocks that start with \
                       -----BEGIN CERTIFICATE-----";
        return Err(message.to_owned());
    }
    let digest = hex::lower_string(digest(&SHA256, pem).as_ref());
    Ok(CaBundle { pem: pem.into(), digest: digest.into() })
}
