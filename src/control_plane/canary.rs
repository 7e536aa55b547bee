//! `s3.verify`: one signed request to each bucket whose address or credentials a reload changes,
//! before any worker has seen them.
//!
//! It asks for a random key that does not exist, from the preparation thread, with plain blocking
//! sockets. S3 checks the signature before it looks for the object, so a 404 is a good answer. It
//! signs without a permit: no client asked, and nothing of the answer reaches one.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use rustls::{ClientConnection, StreamOwned};

use crate::{
    control_plane::config::{
        Problem, Problems, Settings,
        settings::{BucketSettings, Verify},
    },
    handoff::{
        live::LiveTable,
        snapshot::{Bucket, Credentials, Endpoint, Snapshot},
    },
    model::{Secret, limits::ERROR_BODY_BYTES_MAX},
    protocol::{
        http1::{BodyLength, ChunkedDecoder, Progress, ResponseHead, append_field, parse_response},
        s3::{
            AmzDate, CredentialProblem, SigningInput, SigningKey, append_signed_headers,
            credential_problem, error_code, may_be_credentials_error,
        },
    },
    system::{
        clock::{Monotonic, unix_seconds},
        process,
    },
};

/// How long one request may take altogether: connecting, TLS, asking, and the answer.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

/// How long all requests of one reload may take. Buckets that were not asked by then are warnings.
const ALL_PATIENCE: Duration = Duration::from_secs(20);

/// Requests at the same time: endpoints that hang hold each other up little, and a reload of a
/// thousand buckets does not look like an attack.
const AT_ONCE_MAX: usize = 8;

/// Random bytes of the key that is asked for.
const KEY_RANDOM_BYTES: usize = 16;

/// Size of the buffer for the head of the answer, in bytes; it grows as far as the parser allows.
const READ_BYTES: usize = 4_096;

/// What S3 said to one bucket's credentials.
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
        .filter(|(_, bucket)| bucket.s3.verify != Verify::None && bucket.s3.credentials.is_some())
        .filter(|(_, bucket)| is_changed(before.get(bucket.name.as_str()).copied(), bucket))
        .map(|(index, _)| index)
        .collect();
    let mut problems = Problems::default();
    for (index, verdict) in asked.iter().zip(ask_all(snapshot, live, &asked)) {
        let bucket = &new.buckets[*index];
        match verdict {
            Verdict::Good => {}
            Verdict::Refused(why) if bucket.s3.verify == Verify::Require => {
                problems.error(Problem {
                    path: format!("buckets[{index}].s3"),
                    line: None,
                    message: format!("bucket '{}': {why}", bucket.name),
                });
            }
            Verdict::Refused(why) | Verdict::Doubtful(why) => {
                warnings.push(format!("buckets[{}].s3.verify: {why}", bucket.name));
            }
        }
    }
    if problems.refuse() { Err(problems) } else { Ok(()) }
}

/// Whether the same request could get another answer than with the running configuration.
fn is_changed(running: Option<&BucketSettings>, new: &BucketSettings) -> bool {
    let Some(running) = running else { return true };
    let (a, b) = (&running.s3, &new.s3);
    a.bucket != b.bucket
        || a.region != b.region
        || a.endpoint != b.endpoint
        || a.addressing != b.addressing
        || a.credentials != b.credentials
        || a.ca != b.ca
}

fn ask_all(snapshot: &Snapshot, live: &LiveTable, asked: &[usize]) -> Vec<Verdict> {
    let until = Monotonic::now().plus(ALL_PATIENCE);
    let unasked = Verdict::Doubtful("there was no time left to ask S3".to_owned());
    let verdicts = Mutex::new(vec![unasked; asked.len()]);
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE_MAX.min(asked.len()) {
            scope.spawn(|| {
                while Monotonic::now() < until {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(index) = asked.get(number) else { return };
                    let verdict = verdict(snapshot, live, *index);
                    let mut verdicts = verdicts.lock().unwrap_or_else(PoisonError::into_inner);
                    if let Some(place) = verdicts.get_mut(number) {
                        *place = verdict;
                    }
                }
            });
        }
    });
    verdicts.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn verdict(snapshot: &Snapshot, live: &LiveTable, index: usize) -> Verdict {
    let found = snapshot
        .buckets
        .get(index)
        .and_then(|bucket| Some((bucket, snapshot.endpoints.get(bucket.endpoint)?)));
    let Some((bucket, endpoint)) = found else { return Verdict::Good };
    let Some(credentials) = &bucket.credentials else { return Verdict::Good };
    let addresses = live.addresses(&endpoint.host_port()).map_or(&[][..], |found| found);
    match ask(bucket, endpoint, addresses, credentials) {
        Ok(answer) => judge(&answer),
        Err(error) => Verdict::Doubtful(format!(
            "{}:{} cannot be asked: {error}",
            endpoint.host, endpoint.port
        )),
    }
}

/// The part of an answer that matters.
#[derive(Debug, Default)]
struct Answer {
    status: u16,
    /// `<Code>` of an error document.
    code: Option<String>,
}

fn judge(answer: &Answer) -> Verdict {
    let code = answer.code.as_deref().unwrap_or("no error code");
    match answer.code.as_deref().and_then(credential_problem) {
        Some(
            CredentialProblem::Signature | CredentialProblem::KeyId | CredentialProblem::Token,
        ) => return Verdict::Refused(format!("S3 refuses the credentials ({code})")),
        Some(CredentialProblem::Clock) => {
            return Verdict::Refused(format!(
                "S3 refuses the signature, because its clock and ours differ ({code})"
            ));
        }
        Some(CredentialProblem::Scope) => {
            return Verdict::Doubtful(format!(
                "S3 does not take the signature; is the region right? ({code})"
            ));
        }
        None => {}
    }
    match answer.status {
        200..=299 | 404 => Verdict::Good,
        403 => Verdict::Doubtful(format!(
            "the credentials are accepted, but may not read objects that do not exist ({code}); \
             that is normal without permission to list the bucket"
        )),
        status => Verdict::Doubtful(format!("S3 answered {status} ({code})")),
    }
}

/// A connection that may be encrypted.
trait Duplex: Read + Write {}
impl<T: Read + Write> Duplex for T {}

/// Gives up when its time is over, however slowly bytes drip in.
struct Timed {
    stream: TcpStream,
    until: Monotonic,
}

impl Timed {
    fn left(&self) -> io::Result<Duration> {
        let left = Duration::from_nanos(self.until.since(Monotonic::now()));
        if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Timed {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        self.stream.read(into)
    }
}

impl Write for Timed {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write(from)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

fn ask(
    bucket: &Bucket,
    endpoint: &Endpoint,
    addresses: &[SocketAddr],
    credentials: &Credentials,
) -> io::Result<Answer> {
    let until = Monotonic::now().plus(REQUEST_PATIENCE);
    let stream = connect(addresses, bucket.timeouts.connect.min(REQUEST_PATIENCE))?;
    let stream = Timed { stream, until };
    let request = request(bucket, credentials)?;
    match &endpoint.tls {
        None => converse(&mut { stream }, &request),
        Some(tls) => {
            let session = ClientConnection::new(Arc::clone(&tls.config), tls.server_name.clone())
                .map_err(io::Error::other)?;
            converse(&mut StreamOwned::new(session, stream), &request)
        }
    }
}

fn connect(addresses: &[SocketAddr], patience: Duration) -> io::Result<TcpStream> {
    let mut last = io::Error::other("its host name does not resolve");
    for address in addresses.iter().take(2) {
        match TcpStream::connect_timeout(address, patience) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn request(bucket: &Bucket, credentials: &Credentials) -> io::Result<Vec<u8>> {
    let mut random = [0; KEY_RANDOM_BYTES];
    process::random(&mut random)?;
    let mut key = String::from("yatagarasu-verify-");
    for byte in random {
        let _ = write!(key, "{byte:02x}");
    }
    let mut target = bucket.target_prefix.to_vec();
    target.extend_from_slice(key.as_bytes());
    let mut request = Vec::from(b"GET ");
    request.extend_from_slice(&target);
    request.extend_from_slice(b" HTTP/1.1\r\n");
    append_field("Host", bucket.host.as_bytes(), &mut request);
    append_field("Connection", b"close", &mut request);
    let date = AmzDate::from_unix(unix_seconds());
    let signing_key = SigningKey::derive(credentials.secret_key.expose(), &date, &bucket.region);
    let input = SigningInput {
        method: "GET",
        host: &bucket.host,
        target: &target,
        access_key: &credentials.access_key,
        session_token: credentials.session_token.as_ref().map(Secret::expose),
    };
    append_signed_headers(&signing_key, &date, &input, &mut Vec::new(), &mut request);
    request.extend_from_slice(b"\r\n");
    Ok(request)
}

fn converse(stream: &mut dyn Duplex, request: &[u8]) -> io::Result<Answer> {
    stream.write_all(request)?;
    stream.flush()?;
    let mut bytes = Vec::with_capacity(READ_BYTES);
    let mut head = ResponseHead::default();
    loop {
        match parse_response(&bytes, false, &mut head) {
            Err(error) => return Err(io::Error::other(format!("not an HTTP answer: {error:?}"))),
            Ok(Progress::Complete) if head.is_interim() => {
                bytes.drain(..head.head_len);
                head.reset();
            }
            Ok(Progress::Complete) => break,
            Ok(Progress::Partial) => {
                if read_more(stream, &mut bytes)? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
    }
    let mut answer = Answer { status: head.status, code: None };
    if may_be_credentials_error(head.status) {
        bytes.drain(..head.head_len);
        let body = read_body(stream, head.length, bytes);
        answer.code = error_code(&body).map(str::to_owned);
    }
    Ok(answer)
}

/// The body as far as it comes: an error document that is cut short may still name its code.
fn read_body(stream: &mut dyn Duplex, length: BodyLength, mut bytes: Vec<u8>) -> Vec<u8> {
    let enough = match length {
        BodyLength::None => 0,
        BodyLength::Fixed(length) => {
            usize::try_from(length).unwrap_or(usize::MAX).min(ERROR_BODY_BYTES_MAX)
        }
        BodyLength::Chunked | BodyLength::UntilClose => ERROR_BODY_BYTES_MAX,
    };
    let chunked = length == BodyLength::Chunked;
    while bytes.len() < enough && !(chunked && dechunk(&bytes).1) {
        if !matches!(read_more(stream, &mut bytes), Ok(1..)) {
            break;
        }
    }
    if chunked { dechunk(&bytes).0 } else { bytes }
}

/// The data of the chunks so far, and whether that is all of it.
fn dechunk(mut bytes: &[u8]) -> (Vec<u8>, bool) {
    let mut decoder = ChunkedDecoder::new();
    let mut data = Vec::new();
    while let Ok(step) = decoder.step(bytes) {
        data.extend_from_slice(&bytes[step.data]);
        if step.done {
            return (data, true);
        }
        if step.consumed == 0 {
            break;
        }
        bytes = &bytes[step.consumed..];
    }
    (data, false)
}

fn read_more(stream: &mut dyn Duplex, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let mut piece = [0; READ_BYTES];
    let count = stream.read(&mut piece)?;
    bytes.extend_from_slice(&piece[..count]);
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a server's answer back.
    struct Played(io::Cursor<Vec<u8>>);

    impl Read for Played {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            // In small pieces, so that every state of the reader is seen.
            let end = into.len().min(7);
            self.0.read(&mut into[..end])
        }
    }

    impl Write for Played {
        fn write(&mut self, from: &[u8]) -> io::Result<usize> {
            Ok(from.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn verdict_on(answer: &str) -> Verdict {
        let mut played = Played(io::Cursor::new(answer.as_bytes().to_vec()));
        judge(&converse(&mut played, b"GET").unwrap())
    }

    fn error(status: &str, code: &str) -> String {
        let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code></Error>");
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    #[test]
    fn only_what_is_about_our_credentials_is_a_refusal() {
        for code in [
            "SignatureDoesNotMatch",
            "InvalidAccessKeyId",
            "ExpiredToken",
            "InvalidToken",
            "RequestTimeTooSkewed",
        ] {
            let verdict = verdict_on(&error("403 Forbidden", code));
            assert!(matches!(&verdict, Verdict::Refused(why) if why.contains(code)), "{verdict:?}");
        }
        for (status, code) in [
            ("403 Forbidden", "AccessDenied"),
            ("400 Bad Request", "AuthorizationHeaderMalformed"),
            ("503 Slow Down", "SlowDown"),
            ("301 Moved", "PermanentRedirect"),
        ] {
            let verdict = verdict_on(&error(status, code));
            assert!(matches!(&verdict, Verdict::Doubtful(_)), "{code}: {verdict:?}");
        }
        assert_eq!(verdict_on(&error("404 Not Found", "NoSuchKey")), Verdict::Good);
        assert_eq!(verdict_on("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), Verdict::Good);
    }

    #[test]
    fn an_error_document_is_read_in_every_framing() {
        let body = "<Error><Code>InvalidAccessKeyId</Code></Error>";
        let (first, second) = body.split_at(20);
        for answer in [
            format!(
                "HTTP/1.1 403 F\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\n\r\n",
                first.len(),
                second.len()
            ),
            format!("HTTP/1.1 403 F\r\n\r\n{body}"),
            format!(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 403 F\r\nContent-Length: 900\r\n\r\n{body}"
            ),
        ] {
            let verdict = verdict_on(&answer);
            assert!(matches!(verdict, Verdict::Refused(_)), "{answer}: {verdict:?}");
        }
    }

    #[test]
    fn an_answer_that_is_none_is_an_error() {
        for answer in ["", "HTTP/1.1 200", "SSH-2.0-x\r\n\r\n"] {
            let mut played = Played(io::Cursor::new(answer.as_bytes().to_vec()));
            assert!(converse(&mut played, b"GET").is_err(), "{answer:?}");
        }
    }
}
