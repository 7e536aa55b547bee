//! Our signatures against those of the AWS SDK's own signer, byte for byte.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say so at once")]

use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{
        PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4,
};
use proptest::prelude::*;
use yatagarasu::protocol::s3::{
    AmzDate, SigningInput, SigningKey, append_query, append_signed_headers, encode_key,
    sigv4::form::{FORM_TYPE, FormInput, append_signed_form},
};

/// One request to sign, in plain values.
#[derive(Clone, Debug)]
struct Case {
    method: &'static str,
    host: String,
    key: String,
    /// Parameters of the query, with their decoded values.
    query: Vec<(&'static str, String)>,
    access_key: String,
    secret: String,
    session_token: Option<String>,
    region: String,
    seconds: u64,
}

impl Case {
    /// The target, and the bytes of the query at its end.
    fn target(&self) -> (String, usize) {
        let mut target = b"/".to_vec();
        encode_key(self.key.as_bytes(), &mut target);
        let mut query = Vec::new();
        let mut parameters: Vec<_> =
            self.query.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        append_query(&mut parameters, &mut query);
        if !query.is_empty() {
            target.push(b'?');
            target.extend_from_slice(&query);
        }
        (String::from_utf8(target).unwrap(), query.len())
    }

    /// Our header fields, by name.
    fn ours(&self) -> Vec<(String, String)> {
        let date = AmzDate::from_unix(self.seconds);
        let key = SigningKey::derive(self.secret.as_bytes(), &date, &self.region);
        let (target, query_bytes) = self.target();
        let input = SigningInput {
            method: self.method,
            host: &self.host,
            target: target.as_bytes(),
            query_bytes,
            access_key: &self.access_key,
            session_token: self.session_token.as_deref().map(str::as_bytes),
        };
        let mut out = Vec::new();
        append_signed_headers(&key, &date, &input, &mut Vec::new(), &mut out);
        fields_of(&out)
    }

    fn theirs(&self) -> Vec<(String, String)> {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let uri = format!("http://{}{}", self.host, self.target().0);
        let headers = [("host", self.host.as_str())];
        let request =
            SignableRequest::new(self.method, uri, headers.into_iter(), SignableBody::Bytes(b""))
                .unwrap();
        let keys = Credentials::new(
            &self.access_key,
            &self.secret,
            self.session_token.clone(),
            None,
            "test",
        );
        signed_by_the_sdk(keys, &self.region, "s3", self.seconds, settings, request)
    }
}

/// The header fields that the SDK's signer adds, by name.
fn signed_by_the_sdk(
    keys: Credentials,
    region: &str,
    service: &str,
    seconds: u64,
    settings: SigningSettings,
    request: SignableRequest<'_>,
) -> Vec<(String, String)> {
    let identity = keys.into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name(service)
        .time(UNIX_EPOCH + Duration::from_secs(seconds))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let (instructions, _) = sign(request, &params).unwrap().into_parts();
    sorted(instructions.headers())
}

/// Lines of header fields, by name.
fn fields_of(lines: &[u8]) -> Vec<(String, String)> {
    let lines = str::from_utf8(lines).unwrap().strip_suffix("\r\n").unwrap();
    sorted(lines.split("\r\n").map(|line| line.split_once(": ").unwrap()))
}

fn sorted<'f>(fields: impl Iterator<Item = (&'f str, &'f str)>) -> Vec<(String, String)> {
    let mut fields: Vec<_> =
        fields.map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    fields.sort();
    fields
}

/// Keys that have broken signers, and keys made of the same pieces at random.
fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "([a-z]|[A-Z0-9]|/|//|\\.|%|%2F|%252F|\\+| |\\(|\\)|@|\\\\|é|八|😀|[!-~]|~|\\*|'){0,40}",
        1 => "\\PC{0,60}",
        1 => "[a-z/ %]{1024}",
        1 => Just("八".repeat(341)),
    ]
}

/// Parameters that requests to S3 may have, each at most once and in any order.
fn query() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let names = vec![
        "continuation-token",
        "delimiter",
        "list-type",
        "max-keys",
        "partNumber",
        "prefix",
        "response-content-disposition",
        "response-content-type",
        "start-after",
        "versionId",
    ];
    let value = prop_oneof![Just(String::new()), "[ -~]{1,30}", "\\PC{1,20}", key()];
    let chosen = prop::sample::subsequence(names, 0..5).prop_shuffle();
    (chosen, prop::collection::vec(value, 5))
        .prop_map(|(names, values)| names.into_iter().zip(values).collect())
}

fn host() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z][a-z0-9-]{0,20}[a-z0-9](\\.[a-z]{2,8}){0,3}(:[1-9][0-9]{2,3})?",
        "10\\.[0-9]\\.[0-9]\\.7(:9000)?",
        Just("[2001:db8::1]:9000".to_owned()),
    ]
}

fn case() -> impl Strategy<Value = Case> {
    (
        prop_oneof![Just("GET"), Just("HEAD")],
        host(),
        key(),
        query(),
        "[A-Za-z0-9_-]{1,40}",
        prop_oneof!["[A-Za-z0-9/+=]{1,100}", "\\PC{1,60}"],
        prop::option::of("[A-Za-z0-9/+=]{1,1200}"),
        "[a-z]{2}-[a-z]{4,9}-[1-9]|auto|garage",
        0..253_402_300_800_u64,
    )
        .prop_map(
            |(method, host, key, query, access_key, secret, session_token, region, seconds)| Case {
                method,
                host,
                key,
                query,
                access_key,
                secret,
                session_token,
                region,
                seconds,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn signs_exactly_like_the_sdk(case in case()) {
        prop_assert_eq!(case.ours(), case.theirs());
    }
}

/// A form to sign, in plain values.
#[derive(Clone, Debug)]
struct FormCase {
    host: String,
    body: String,
    access_key: String,
    secret: String,
    session_token: Option<String>,
    region: String,
    seconds: u64,
}

impl FormCase {
    fn ours(&self) -> Vec<(String, String)> {
        let date = AmzDate::from_unix(self.seconds);
        let key = SigningKey::derive_for("sts", self.secret.as_bytes(), &date, &self.region);
        let input = FormInput {
            host: &self.host,
            body: self.body.as_bytes(),
            access_key: &self.access_key,
            session_token: self.session_token.as_deref().map(str::as_bytes),
        };
        let mut out = Vec::new();
        append_signed_form(&key, &date, &input, &mut out);
        fields_of(&out)
    }

    fn theirs(&self) -> Vec<(String, String)> {
        let uri = format!("https://{}/", self.host);
        let headers = [("host", self.host.as_str()), ("content-type", FORM_TYPE)];
        let body = SignableBody::Bytes(self.body.as_bytes());
        let request = SignableRequest::new("POST", uri, headers.into_iter(), body).unwrap();
        let keys = Credentials::new(
            &self.access_key,
            &self.secret,
            self.session_token.clone(),
            None,
            "test",
        );
        let settings = SigningSettings::default();
        signed_by_the_sdk(keys, &self.region, "sts", self.seconds, settings, request)
    }
}

fn form_case() -> impl Strategy<Value = FormCase> {
    (
        host(),
        "[A-Za-z0-9%&=._~-]{0,300}",
        "[A-Za-z0-9_-]{1,40}",
        "[A-Za-z0-9/+=]{1,100}",
        prop::option::of("[A-Za-z0-9/+=]{1,1200}"),
        "[a-z]{2}-[a-z]{4,9}-[1-9]",
        0..253_402_300_800_u64,
    )
        .prop_map(|(host, body, access_key, secret, session_token, region, seconds)| {
            FormCase { host, body, access_key, secret, session_token, region, seconds }
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn signs_a_form_exactly_like_the_sdk(case in form_case()) {
        prop_assert_eq!(case.ours(), case.theirs());
        let mut other = case.clone();
        other.body.push('x');
        prop_assert_ne!(other.ours(), case.theirs());
    }
}

#[test]
fn the_oracle_tells_a_wrong_signature_from_a_right_one() {
    let case = Case {
        method: "GET",
        host: "examplebucket.s3.amazonaws.com".to_owned(),
        key: "test.txt".to_owned(),
        query: vec![("versionId", "a/b".to_owned()), ("partNumber", "2".to_owned())],
        access_key: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
        session_token: None,
        region: "us-east-1".to_owned(),
        seconds: 1_369_353_600,
    };
    assert_eq!(case.ours(), case.theirs());
    let changes: [fn(&mut Case); 9] = [
        |case| case.method = "HEAD",
        |case| case.host.push('x'),
        |case| case.key.push('/'),
        |case| case.query[0].1.push('x'),
        |case| drop(case.query.pop()),
        |case| case.secret.push('x'),
        |case| case.session_token = Some("t".to_owned()),
        |case| case.region.push('x'),
        |case| case.seconds += 1,
    ];
    for change in changes {
        let mut other = case.clone();
        change(&mut other);
        assert_ne!(other.ours(), case.theirs(), "{other:?}");
    }
}
