//! `s3.verify`: one signed request to each bucket whose address or credentials a reload changes,
//! before any worker has seen them.
//!
//! It asks for a random key that does not exist, from the preparation thread. S3 checks the
//! signature before it looks for the object, so a 404 is the good response. It signs without a
//! permit: no client asked, and nothing of the response reaches one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    config::{
        Places, Problems, Settings,
        settings::{BucketSettings, SigningSettings, Verify},
    },
    control_plane::http_client::{FetchError, Method, Request, Response, Server, Wanted, fetch},
    handoff::{
        credentials::{Credentials, Signing},
        live::LiveTable,
        snapshot::{Bucket, Endpoint, Snapshot},
    },
    model::{Secret, limits::ERROR_BODY_BYTES_MAX},
    protocol::{
        s3::{
            AmzDate, CredentialProblem, SigningInput, SigningKey, append_signed_headers,
            credential_problem, error_code,
        },
        text::hex,
    },
    system::{
        clock::{Monotonic, unix_seconds},
        process,
    },
};

/// Time for one request from connecting to the last byte of the response.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Time in which the requests of one reload must start. Buckets that were not asked by then are
/// warnings.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Requests at the same time: endpoints that hang hold each other up little, and a reload of a
/// thousand buckets does not look like an attack.
const AT_ONCE_MAX: usize = 8;

/// Random bytes of the key that is asked for.
const KEY_RANDOM_BYTES: usize = 16;

/// Verdict of S3 on one bucket's credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Good,
    /// Worth a look, and no reason to refuse anything.
    Doubtful(String),
    /// These credentials cannot work.
    Refused(String),
}

/// Asks the buckets that `new` changes and that want to be asked. Warnings go to `warnings`.
///
/// # Errors
/// The buckets with `verify: require` whose credentials are refused.
pub fn verify(
    running: &Settings,
    new: &Settings,
    places: &Places,
    snapshot: &Snapshot,
    live: &LiveTable,
    warnings: &mut Vec<String>,
) -> Result<(), Problems> {
    let before: HashMap<&str, &BucketSettings> =
        running.buckets.iter().map(|bucket| (bucket.name.as_str(), bucket)).collect();
    let asked: Vec<usize> = new
        .buckets
        .iter()
        .enumerate()
        .filter(|(_, bucket)| {
            bucket.s3.verify != Verify::None && bucket.s3.signing != SigningSettings::Anonymous
        })
        .filter(|(_, bucket)| {
            let source =
                |settings: &Settings| bucket.s3.signing.source().map(|name| settings.source(name));
            is_changed(before.get(bucket.name.as_str()).copied(), bucket)
                || source(running) != source(new)
        })
        .map(|(index, _)| index)
        .collect();
    let mut problems = Problems::default();
    for (index, verdict) in asked.iter().zip(ask_all(snapshot, live, &asked)) {
        let bucket = &new.buckets[*index];
        match verdict {
            Verdict::Good => {}
            Verdict::Refused(why) if bucket.s3.verify == Verify::Require => {
                let message = format!("bucket '{}': {why}", bucket.name);
                problems.error(places.s3_problem(*index, message));
            }
            Verdict::Refused(why) | Verdict::Doubtful(why) => {
                warnings.push(format!("buckets[{}].s3.verify: {why}", bucket.name));
            }
        }
    }
    if problems.refuse() { Err(problems) } else { Ok(()) }
}

/// Returns true if the same request could get another response than with the running configuration.
fn is_changed(running: Option<&BucketSettings>, new: &BucketSettings) -> bool {
    let Some(running) = running else { return true };
    let (a, b) = (&running.s3, &new.s3);
    a.bucket != b.bucket
        || a.region != b.region
        || a.endpoint != b.endpoint
        || a.addressing != b.addressing
        || a.signing != b.signing
        || a.ca != b.ca
}

fn ask_all(snapshot: &Snapshot, live: &LiveTable, asked: &[usize]) -> Vec<Verdict> {
    let unasked = Verdict::Doubtful(
        "the credentials were not checked, as the checks of this reload took too long".to_owned(),
    );
    let bucket_of = |index: &usize| snapshot.buckets.get(*index).map(|bucket| &**bucket);
    let buckets: Vec<&Bucket> = asked.iter().filter_map(bucket_of).collect();
    several_at_once(&buckets, START_TIMEOUT, &unasked, |bucket| verdict(snapshot, live, bucket))
}

/// Outcomes of work on each bucket, a few of them at a time; `unasked` for those that did not begin
/// before `timeout`.
pub(super) fn several_at_once<T: Clone + Send + Sync>(
    buckets: &[&Bucket],
    timeout: Duration,
    unasked: &T,
    work: impl Fn(&Bucket) -> T + Sync,
) -> Vec<T> {
    let until = Monotonic::now().plus(timeout);
    let outcomes = Mutex::new(vec![unasked.clone(); buckets.len()]);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE_MAX.min(buckets.len()) {
            scope.spawn(|| {
                while Monotonic::now() < until {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(bucket) = buckets.get(number) else { return };
                    let outcome = work(bucket);
                    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(place) = outcomes.get_mut(number) {
                        *place = outcome;
                    }
                }
            });
        }
    });
    outcomes.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Reason why S3 did not respond for a bucket.
#[derive(Debug)]
pub(super) enum Silence {
    /// The bucket's source, which has this name, has given no credentials.
    NoCredentials(Arc<str>),
    /// The request could not be made.
    Unmade(String),
    /// It could not be sent, or nothing came back.
    Failed(FetchError),
}

/// Asks for a random key of a bucket, signed unless the bucket is anonymous.
pub(super) fn ask(
    bucket: &Bucket,
    endpoint: &Endpoint,
    live: &LiveTable,
) -> Result<Response, Silence> {
    let credentials = match &bucket.signing {
        Signing::Anonymous => None,
        Signing::Keys(keys) => Some(keys),
        Signing::Source(source) => match live.credentials(source.id) {
            Some(newest) => Some(&newest.credentials),
            None => return Err(Silence::NoCredentials(Arc::clone(&source.name))),
        },
    };
    let request = request(bucket, credentials).map_err(Silence::Unmade)?;
    let addresses = live.addresses(&endpoint.host_port()).map_or(&[][..], |found| found);
    let server = Server { addresses, tls: endpoint.tls.as_deref() };
    let wanted = Wanted::Beginning(ERROR_BODY_BYTES_MAX);
    fetch(&server, &request, wanted, REQUEST_TIMEOUT).map_err(Silence::Failed)
}

fn verdict(snapshot: &Snapshot, live: &LiveTable, bucket: &Bucket) -> Verdict {
    let Some(endpoint) = snapshot.endpoints.get(bucket.endpoint) else { return Verdict::Good };
    if matches!(bucket.signing, Signing::Anonymous) {
        return Verdict::Good;
    }
    let why = match ask(bucket, endpoint, live) {
        Ok(response) => return judge(&response),
        Err(Silence::NoCredentials(source)) => {
            return Verdict::Doubtful(format!(
                "the source '{source}' has given no credentials yet, so they could not be checked"
            ));
        }
        Err(Silence::Unmade(why)) => why,
        Err(Silence::Failed(error)) => error.to_string(),
    };
    Verdict::Doubtful(format!("{}:{} cannot be asked: {why}", endpoint.host, endpoint.port))
}

fn judge(response: &Response) -> Verdict {
    let code = error_code(&response.body).filter(|_| response.status >= 300);
    match code.and_then(|code| Some((credential_problem(code)?, code))) {
        Some((
            CredentialProblem::Signature | CredentialProblem::KeyId | CredentialProblem::Token,
            code,
        )) => {
            return Verdict::Refused(format!("S3 refuses the credentials ({code})"));
        }
        // About this machine or that one, and it passes without a change of the credentials.
        Some((CredentialProblem::Clock, code)) => {
            return Verdict::Doubtful(format!(
                "S3 says that its clock and ours differ ({code}), so the credentials could not be \
                 checked"
            ));
        }
        Some((CredentialProblem::Scope, code)) => {
            return Verdict::Doubtful(format!(
                "S3 refuses the scope of the signature ({code}); write the bucket's own region in \
                 s3.region"
            ));
        }
        None => {}
    }
    match (response.status, code) {
        (200..=299 | 404, _) => Verdict::Good,
        (403, Some("AccessDenied")) => Verdict::Doubtful(
            "the credentials are accepted, but may not read objects that do not exist \
             (AccessDenied); that is normal without permission to list the bucket"
                .to_owned(),
        ),
        (status, Some(code)) => Verdict::Doubtful(format!(
            "S3 responded with {status} ({code}), so the credentials could not be checked"
        )),
        (status, None) => Verdict::Doubtful(format!(
            "the response is {status} without a readable error code, so the credentials could not \
             be checked"
        )),
    }
}

fn request(bucket: &Bucket, credentials: Option<&Credentials>) -> Result<Request, String> {
    let mut random = [0; KEY_RANDOM_BYTES];
    process::random(&mut random).map_err(|error| error.to_string())?;
    let key = format!("yatagarasu-verify-{}", hex::lower_string(&random));
    let mut target = bucket.target_prefix.to_vec();
    target.extend_from_slice(key.as_bytes());
    let mut request =
        Request::new(Method::Get, &bucket.host, &target).map_err(|error| error.to_string())?;
    let Some(credentials) = credentials else { return Ok(request) };
    let date = AmzDate::from_unix(unix_seconds());
    let signing_key = SigningKey::derive(credentials.secret_key.expose(), &date, &bucket.region);
    let input = SigningInput {
        method: "GET",
        host: &bucket.host,
        target: &target,
        query_bytes: 0,
        access_key: &credentials.access_key,
        session_token: credentials.session_token.as_ref().map(Secret::expose),
    };
    append_signed_headers(&signing_key, &date, &input, &mut Vec::new(), request.fields_mut());
    Ok(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict_on(status: u16, body: &str) -> Verdict {
        judge(&Response::of(status, body.as_bytes()))
    }

    fn error(code: &str) -> String {
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>")
    }

    #[test]
    fn only_what_is_about_our_credentials_is_a_refusal() {
        for code in ["SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken", "InvalidToken"]
        {
            let verdict = verdict_on(403, &error(code));
            assert!(matches!(&verdict, Verdict::Refused(why) if why.contains(code)), "{verdict:?}");
        }
        for (status, code) in [
            (403, "AccessDenied"),
            (403, "RequestTimeTooSkewed"),
            (403, "SomethingNew"),
            (400, "AuthorizationHeaderMalformed"),
            (503, "SlowDown"),
            (301, "PermanentRedirect"),
        ] {
            let verdict = verdict_on(status, &error(code));
            let named = matches!(&verdict, Verdict::Doubtful(why) if why.contains(code));
            assert!(named, "{code}: {verdict:?}");
        }
        assert_eq!(verdict_on(404, &error("NoSuchKey")), Verdict::Good);
        assert_eq!(verdict_on(200, ""), Verdict::Good);
    }

    /// Whatever stands in front of S3 may say 403 too, and that says nothing of the credentials.
    #[test]
    fn a_403_without_a_readable_code_accepts_nothing() {
        for body in ["", "<html>Forbidden</html>", "<Error><Code>Sig", "{}"] {
            let Verdict::Doubtful(why) = verdict_on(403, body) else { panic!("{body}") };
            assert!(why.contains("403 without a readable error code"), "{why}");
            assert!(!why.contains("accepted"), "{why}");
        }
    }
}
