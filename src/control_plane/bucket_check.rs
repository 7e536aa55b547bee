//! `check-s3`: one request to each bucket, and what S3 said in words.
//!
//! It is the request of `s3.verify`, sent unsigned for an anonymous bucket. That judges credentials
//! only and doubts where this one fails: here the question is whether the bucket works.

use std::time::Duration;

use crate::{
    control_plane::{
        credential_check::{Silence, ask, several_at_once},
        http_client::{FetchError, Phase, Response},
    },
    handoff::{
        credentials::Signing,
        live::LiveTable,
        snapshot::{Bucket, Endpoint, Snapshot},
    },
    protocol::s3::{CredentialProblem, credential_problem, error_code},
};

/// Time in which all requests must start; each may take five seconds.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// Longest name of a region that is repeated from a response.
const REGION_BYTES_MAX: usize = 32;

/// Outcome for one bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// S3 answers, and accepts what the request was signed with.
    Ok,
    /// The endpoint has no such bucket.
    NoSuchBucket,
    /// The bucket or the signature belongs to another region.
    WrongRegion,
    /// The secret key does not fit.
    SignatureRefused,
    /// The access key is unknown or disabled.
    KeyRefused,
    /// The session token is expired or another key's.
    TokenRefused,
    /// The clocks differ.
    ClockSkew,
    /// The source of credentials gave none.
    NoCredentials,
    /// The endpoint's name has no address.
    NameNotResolved,
    /// Nothing listens there, or it cannot be reached.
    CannotConnect,
    /// The handshake failed.
    TlsFailed,
    /// A connection, and then nothing.
    TimedOut,
    /// A response that S3 would not send.
    Unexpected,
    /// The time was up before its turn.
    NotAsked,
}

impl Outcome {
    /// The word in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NoSuchBucket => "no_such_bucket",
            Self::WrongRegion => "wrong_region",
            Self::SignatureRefused => "signature_refused",
            Self::KeyRefused => "access_key_refused",
            Self::TokenRefused => "session_token_refused",
            Self::ClockSkew => "clock_skew",
            Self::NoCredentials => "no_credentials",
            Self::NameNotResolved => "name_not_resolved",
            Self::CannotConnect => "cannot_connect",
            Self::TlsFailed => "tls_failed",
            Self::TimedOut => "timed_out",
            Self::Unexpected => "unexpected_response",
            Self::NotAsked => "not_asked",
        }
    }
}

/// Finding about one bucket. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The bucket's name in the configuration.
    pub bucket: String,
    /// URL of the endpoint.
    pub endpoint: String,
    /// Kind of the outcome.
    pub outcome: Outcome,
    /// The same as a sentence.
    pub message: String,
}

/// Asks every bucket, a few at a time.
pub fn check(snapshot: &Snapshot, live: &LiveTable) -> Vec<Finding> {
    let buckets: Vec<&Bucket> = snapshot.buckets.iter().map(|bucket| &**bucket).collect();
    let late = (Outcome::NotAsked, "the checks before it took too long".to_owned());
    let endpoint_of = |bucket: &Bucket| snapshot.endpoints.get(bucket.endpoint);
    let outcomes =
        several_at_once(&buckets, START_TIMEOUT, &late, |bucket| match endpoint_of(bucket) {
            Some(endpoint) => outcome(bucket, endpoint, live),
            None => late.clone(),
        });
    let finding = |(bucket, (outcome, message)): (&&Bucket, (Outcome, String))| Finding {
        bucket: bucket.name.to_string(),
        endpoint: endpoint_of(bucket).map(|endpoint| endpoint.url()).unwrap_or_default().to_owned(),
        outcome,
        message,
    };
    buckets.iter().zip(outcomes).map(finding).collect()
}

fn outcome(bucket: &Bucket, endpoint: &Endpoint, live: &LiveTable) -> (Outcome, String) {
    match ask(bucket, endpoint, live) {
        Ok(response) => judge(&response, matches!(bucket.signing, Signing::Anonymous)),
        Err(Silence::NoCredentials(source)) => {
            (Outcome::NoCredentials, format!("the source '{source}' of credentials has given none"))
        }
        Err(Silence::Unmade(why)) => (Outcome::Unexpected, why),
        Err(Silence::Failed(error)) => (failure(&error), error.to_string()),
    }
}

fn failure(error: &FetchError) -> Outcome {
    match error {
        FetchError::NoAddress => Outcome::NameNotResolved,
        FetchError::TimedOut(Phase::Connect) | FetchError::Failed(Phase::Connect, _) => {
            Outcome::CannotConnect
        }
        FetchError::NoTls(_)
        | FetchError::Tls(_)
        | FetchError::TimedOut(Phase::Handshake)
        | FetchError::Failed(Phase::Handshake, _) => Outcome::TlsFailed,
        FetchError::TimedOut(_) => Outcome::TimedOut,
        FetchError::Failed(..)
        | FetchError::NotHttp(_)
        | FetchError::TooLarge(_)
        | FetchError::CutShort => Outcome::Unexpected,
    }
}

fn judge(response: &Response, is_anonymous: bool) -> (Outcome, String) {
    let code = error_code(&response.body).filter(|_| response.status >= 300);
    let shown = code.unwrap_or_default();
    match code.and_then(credential_problem) {
        Some(CredentialProblem::Signature) => {
            let message = "S3 refuses the signature: the secret key is not that of the access key";
            return (Outcome::SignatureRefused, format!("{message} ({shown})"));
        }
        Some(CredentialProblem::KeyId) => {
            let message = "S3 does not know the access key, or does not let it in";
            return (Outcome::KeyRefused, format!("{message} ({shown})"));
        }
        Some(CredentialProblem::Token) => {
            let message = "S3 refuses the session token: it is expired, or another key's";
            return (Outcome::TokenRefused, format!("{message} ({shown})"));
        }
        Some(CredentialProblem::Clock) => {
            let message = "S3's clock and that of this machine differ: set the one of this machine";
            return (Outcome::ClockSkew, format!("{message} ({shown})"));
        }
        Some(CredentialProblem::Scope) => return (Outcome::WrongRegion, other_region(response)),
        None => {}
    }
    match (response.status, code) {
        (404, Some("NoSuchBucket")) => {
            (Outcome::NoSuchBucket, "the endpoint has no such bucket (NoSuchBucket)".to_owned())
        }
        (404, Some(_)) if is_anonymous => (Outcome::Ok, "S3 answers without a signature".to_owned()),
        (404, Some(_)) => (Outcome::Ok, "S3 accepts the credentials".to_owned()),
        (403, Some("AccessDenied")) if is_anonymous => (
            Outcome::Ok,
            "S3 answers; objects that do not exist may not be read (AccessDenied), which is normal \
             for a public bucket that may not be listed"
                .to_owned(),
        ),
        (403, Some("AccessDenied")) => (
            Outcome::Ok,
            "S3 accepts the credentials; they may not read objects that do not exist \
             (AccessDenied), which is normal without permission to list the bucket"
                .to_owned(),
        ),
        (301 | 307, _) => (Outcome::WrongRegion, other_region(response)),
        (status, Some(code)) => (Outcome::Unexpected, format!("S3 responded with {status} ({code})")),
        (status @ 200..=299, None) => (
            Outcome::Unexpected,
            format!("the response is {status} for an object that cannot exist: is this S3?"),
        ),
        (status, None) => (
            Outcome::Unexpected,
            format!("the response is {status} without an error code of S3: is this S3?"),
        ),
    }
}

/// The message about a bucket of another region, with the region where S3 says it.
fn other_region(response: &Response) -> String {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
    let region = response
        .field(b"x-amz-bucket-region")
        .filter(|region| region.len() <= REGION_BYTES_MAX && region.iter().all(is_name))
        .map(String::from_utf8_lossy);
    let code = error_code(&response.body).map(|code| format!(" ({code})")).unwrap_or_default();
    match region {
        Some(region) => format!("the bucket is in another region{code}: write {region}"),
        None => format!("S3 expects another region{code}: write the bucket's own in s3.region"),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    fn outcome_of(status: u16, code: &str) -> Outcome {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
        judge(&Response::of(status, body.as_bytes()), false).0
    }

    #[test]
    fn what_s3_says_is_told_apart() {
        for (status, code, expected) in [
            (404, "NoSuchKey", Outcome::Ok),
            (403, "AccessDenied", Outcome::Ok),
            (404, "NoSuchBucket", Outcome::NoSuchBucket),
            (403, "SignatureDoesNotMatch", Outcome::SignatureRefused),
            (403, "InvalidAccessKeyId", Outcome::KeyRefused),
            (400, "ExpiredToken", Outcome::TokenRefused),
            (403, "RequestTimeTooSkewed", Outcome::ClockSkew),
            (400, "AuthorizationHeaderMalformed", Outcome::WrongRegion),
            (301, "PermanentRedirect", Outcome::WrongRegion),
            (503, "SlowDown", Outcome::Unexpected),
            (404, "", Outcome::Unexpected),
            (403, "", Outcome::Unexpected),
        ] {
            assert_eq!(outcome_of(status, code), expected, "{status} {code}");
        }
        assert_eq!(judge(&Response::of(200, b"hello"), true).0, Outcome::Unexpected);
    }

    #[test]
    fn why_nobody_answers_is_told_apart() {
        let refused = || io::Error::from(io::ErrorKind::ConnectionRefused);
        for (error, expected) in [
            (FetchError::NoAddress, Outcome::NameNotResolved),
            (FetchError::Failed(Phase::Connect, refused()), Outcome::CannotConnect),
            (FetchError::TimedOut(Phase::Connect), Outcome::CannotConnect),
            (FetchError::Failed(Phase::Handshake, refused()), Outcome::TlsFailed),
            (FetchError::NoTls("no roots".to_owned()), Outcome::TlsFailed),
            (FetchError::TimedOut(Phase::Head), Outcome::TimedOut),
            (FetchError::CutShort, Outcome::Unexpected),
        ] {
            assert_eq!(failure(&error), expected, "{error}");
        }
    }
}
