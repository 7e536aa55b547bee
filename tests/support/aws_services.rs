//! The services of AWS that give credentials: instance metadata, container credentials and STS, on
//! one port. They enforce what the real ones do, and misbehave when told to. What they give is
//! good at an S3 server until it ends.

use std::{
    fmt::Write as _,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{SignableBody, SignableRequest, SigningSettings, sign},
    sign::v4,
};

use super::{http_head::head_length, s3_server::KeyRing};

/// Part of every secret key and token that is given.
pub(crate) const CANARY: &str = "CANARY-never-shown";

/// What the services do with a request that is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Give new credentials.
    Well,
    /// Give the last ones again.
    SameAgain,
    /// Respond with this status.
    Failing(u16),
    /// Respond with something that is no document.
    Garbage,
    /// Respond with a body without a reasonable end.
    Huge,
    /// Give credentials that have ended.
    Ended,
    /// Take the request and say nothing.
    Silent,
}

#[derive(Debug)]
struct State {
    keys: KeyRing,
    life: Mutex<Duration>,
    mood: Mutex<Mood>,
    /// Access keys that were given, with their secret keys, tokens and ends.
    given: Mutex<Vec<Given>>,
    /// Token that a container has to bring; none is asked for while it is empty.
    container_token: Mutex<String>,
    /// Requests that the real services refuse: without a token, badly signed, forwarded.
    refused: Mutex<Vec<String>>,
    documents: AtomicUsize,
    stopped: AtomicBool,
}

#[derive(Clone, Debug)]
struct Given {
    access_key: String,
    secret_key: String,
    token: String,
    /// Seconds since 1970.
    ends: u64,
}

/// The services, which stop when dropped.
#[derive(Debug)]
pub(crate) struct AwsServices {
    address: SocketAddr,
    state: Arc<State>,
}

/// Token of a metadata session.
const SESSION: &str = "metadata-session-token";

/// Token of an identity provider that STS knows.
pub(crate) const IDENTITY_TOKEN: &str = "identity.token.CANARY-never-shown";

/// Role that everybody here has.
pub(crate) const ROLE: &str = "arn:aws:iam::123456789012:role/reader";

impl AwsServices {
    /// Starts on a free port. What is given lives so long.
    pub(crate) fn start(keys: KeyRing, life: Duration) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            keys,
            life: Mutex::new(life),
            mood: Mutex::new(Mood::Well),
            given: Mutex::default(),
            container_token: Mutex::default(),
            refused: Mutex::default(),
            documents: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        });
        let of_thread = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if of_thread.stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(stream), state) = (stream, Arc::clone(&of_thread)) else { return };
                thread::spawn(move || serve(stream, &state));
            }
        });
        Self { address, state }
    }

    /// URL of all of them.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn set_mood(&self, mood: Mood) {
        *self.state.mood.lock().unwrap() = mood;
    }

    pub(crate) fn set_life(&self, life: Duration) {
        *self.state.life.lock().unwrap() = life;
    }

    /// Asks containers for this token from now on.
    pub(crate) fn want_container_token(&self, token: &str) {
        token.clone_into(&mut self.state.container_token.lock().unwrap());
    }

    /// Makes a pair of keys good at STS and at the S3 server, as a user's own keys are.
    pub(crate) fn know(&self, access_key: &str, secret_key: &str) {
        self.state.keys.accept(access_key, secret_key);
        self.state.given.lock().unwrap().push(Given {
            access_key: access_key.to_owned(),
            secret_key: secret_key.to_owned(),
            token: String::new(),
            ends: u64::MAX,
        });
    }

    /// Documents with credentials, or with what stands for them, that were asked for.
    pub(crate) fn documents(&self) -> usize {
        self.state.documents.load(Ordering::SeqCst)
    }

    /// Requests that the real services refuse.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.state.refused.lock().unwrap().clone()
    }
}

impl Drop for AwsServices {
    fn drop(&mut self) {
        self.state.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// A request, as far as these services look at it.
struct Request {
    method: String,
    target: String,
    fields: Vec<(String, String)>,
    body: String,
}

impl Request {
    fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    fn read(stream: &mut TcpStream) -> Option<Self> {
        let mut bytes = Vec::new();
        let mut buffer = [0; 4_096];
        let head = loop {
            if let Some(length) = head_length(&bytes) {
                break length;
            }
            match stream.read(&mut buffer) {
                Ok(count @ 1..) => bytes.extend_from_slice(&buffer[..count]),
                _ => return None,
            }
        };
        let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
        let mut lines = text.split("\r\n");
        let mut words = lines.next().unwrap().split(' ');
        let (method, target) = (words.next().unwrap(), words.next().unwrap());
        let fields: Vec<_> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let mut body = bytes.split_off(head);
        let mut request = Self {
            method: method.to_owned(),
            target: target.to_owned(),
            fields,
            body: String::new(),
        };
        let length: usize =
            request.field("content-length").map_or(0, |length| length.parse().unwrap());
        while body.len() < length {
            match stream.read(&mut buffer) {
                Ok(count @ 1..) => body.extend_from_slice(&buffer[..count]),
                _ => return None,
            }
        }
        request.body = String::from_utf8(body).unwrap();
        Some(request)
    }
}

fn serve(mut stream: TcpStream, state: &State) {
    let Some(request) = Request::read(&mut stream) else { return };
    let roles = "/latest/meta-data/iam/security-credentials/";
    let (status, body) = match (request.method.as_str(), request.target.as_str()) {
        // The metadata service refuses what a proxy forwarded.
        (_, target)
            if target.starts_with("/latest") && request.field("x-forwarded-for").is_some() =>
        {
            refuse(state, 403, "a forwarded request")
        }
        ("PUT", "/latest/api/token") => {
            match request.field("x-aws-ec2-metadata-token-ttl-seconds").map(str::parse::<u32>) {
                Some(Ok(1..=21_600)) => (200, SESSION.to_owned()),
                _ => refuse(state, 400, "a session without a life"),
            }
        }
        ("GET", target) if target.starts_with("/latest") => {
            if request.field("x-aws-ec2-metadata-token") != Some(SESSION) {
                refuse(state, 401, "metadata without a token")
            } else if target == roles {
                (200, "the-role".to_owned())
            } else if target == format!("{roles}the-role") {
                return give(&mut stream, state, json);
            } else {
                (404, String::new())
            }
        }
        ("GET", target) if target.starts_with("/credentials") => {
            let wanted = state.container_token.lock().unwrap().clone();
            if !wanted.is_empty() && request.field("authorization") != Some(&wanted) {
                refuse(state, 401, "a container without its token")
            } else {
                return give(&mut stream, state, json);
            }
        }
        ("POST", "/") => match check_sts(&request, state) {
            Ok(()) => return give(&mut stream, state, xml),
            Err((status, code)) => {
                state.refused.lock().unwrap().push(code.to_owned());
                (status, sts_error(code))
            }
        },
        _ => (404, String::new()),
    };
    respond(&mut stream, status, &body);
}

fn refuse(state: &State, status: u16, what: &str) -> (u16, String) {
    state.refused.lock().unwrap().push(what.to_owned());
    (status, String::new())
}

fn respond(stream: &mut TcpStream, status: u16, body: &str) {
    let length = body.len();
    let _ = write!(stream, "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}");
}

/// Gives credentials as the mood is.
fn give(stream: &mut TcpStream, state: &State, form: fn(&Given) -> String) {
    state.documents.fetch_add(1, Ordering::SeqCst);
    let mood = state.mood.lock().unwrap().clone();
    let body = match mood {
        Mood::Well => form(&new(state, false)),
        Mood::Ended => form(&new(state, true)),
        Mood::SameAgain => {
            let last = state.given.lock().unwrap().last().cloned();
            form(&last.unwrap_or_else(|| new(state, false)))
        }
        Mood::Failing(status) => return respond(stream, status, CANARY),
        Mood::Garbage => format!("<{CANARY}>{{"),
        Mood::Huge => CANARY.repeat(1_000_000),
        Mood::Silent => {
            // Until the client has given up.
            let _ = stream.read(&mut [0]);
            return;
        }
    };
    respond(stream, 200, &body);
}

fn new(state: &State, has_ended: bool) -> Given {
    let life = *state.life.lock().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let ends = if has_ended { now.as_secs() - 60 } else { (now + life).as_secs() };
    let mut given = state.given.lock().unwrap();
    let number = given.len();
    let new = Given {
        access_key: format!("ASIA{number}"),
        secret_key: format!("{CANARY}-secret-{number}"),
        token: format!("{CANARY}-token-{number}"),
        ends,
    };
    state.keys.accept_session(&new.access_key, &new.secret_key, &new.token, life);
    given.push(new.clone());
    new
}

/// A time as AWS writes it. Counts years and months one by one, which is easy to see through.
fn utc(unix_seconds: u64) -> String {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let (mut year, mut month, mut day) = (1970, 1, unix_seconds / 86_400 + 1);
    while day > if is_leap(year) { 366 } else { 365 } {
        day -= if is_leap(year) { 366 } else { 365 };
        year += 1;
    }
    let days_of = |month: u64| match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    while day > days_of(month) {
        day -= days_of(month);
        month += 1;
    }
    let second = unix_seconds % 86_400;
    let mut text = String::new();
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    write!(text, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z").unwrap();
    text
}

fn json(given: &Given) -> String {
    serde_json::json!({
        "Code": "Success",
        "AccessKeyId": given.access_key,
        "SecretAccessKey": given.secret_key,
        "Token": given.token,
        "Expiration": utc(given.ends),
    })
    .to_string()
}

fn xml(given: &Given) -> String {
    let Given { access_key, secret_key, token, ends } = given;
    let ends = utc(*ends);
    format!(
        "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  \
         <AssumeRoleResult>\n    <Credentials>\n      <AccessKeyId>{access_key}</AccessKeyId>\n      \
         <SecretAccessKey>{secret_key}</SecretAccessKey>\n      \
         <SessionToken>{token}</SessionToken>\n      <Expiration>{ends}</Expiration>\n    \
         </Credentials>\n  </AssumeRoleResult>\n</AssumeRoleResponse>\n"
    )
}

fn sts_error(code: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    \
         <Type>Sender</Type>\n    <Code>{code}</Code>\n    <Message>{CANARY}</Message>\n  \
         </Error>\n</ErrorResponse>\n"
    )
}

/// Checks a request as STS does.
fn check_sts(request: &Request, state: &State) -> Result<(), (u16, &'static str)> {
    let pair = |name: &str| {
        let pairs = request.body.split('&').filter_map(|pair| pair.split_once('='));
        pairs.clone().find(|(found, _)| *found == name).map(|(_, value)| value.to_owned())
    };
    let role = ROLE.replace(':', "%3A").replace('/', "%2F");
    if pair("Version").as_deref() != Some("2011-06-15") || pair("RoleSessionName").is_none() {
        return Err((400, "ValidationError"));
    }
    if pair("RoleArn") != Some(role) {
        return Err((403, "AccessDenied"));
    }
    match pair("Action").as_deref() {
        Some("AssumeRoleWithWebIdentity") => match pair("WebIdentityToken") {
            Some(token) if token == IDENTITY_TOKEN => Ok(()),
            _ => Err((400, "InvalidIdentityToken")),
        },
        Some("AssumeRole") => check_signature(request, state),
        _ => Err((400, "InvalidAction")),
    }
}

/// Signs the request once more, with the crate of AWS.
fn check_signature(request: &Request, state: &State) -> Result<(), (u16, &'static str)> {
    let refused = (403, "SignatureDoesNotMatch");
    let authorization =
        request.field("authorization").ok_or((403, "MissingAuthenticationToken"))?;
    let scope = authorization.split("Credential=").nth(1).ok_or(refused)?;
    let mut scope = scope.split(',').next().unwrap_or_default().split('/');
    let access_key = scope.next().unwrap_or_default();
    let (date, region) =
        (request.field("x-amz-date").ok_or(refused)?, scope.nth(1).ok_or(refused)?);
    let given = state.given.lock().unwrap();
    let given = given.iter().find(|given| given.access_key == access_key);
    let given = given.ok_or((403, "InvalidClientTokenId"))?.clone();
    let token = Some(given.token.clone()).filter(|token| !token.is_empty());
    if request.field("x-amz-security-token") != token.as_deref() {
        return Err((403, "InvalidClientTokenId"));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    if given.ends <= now {
        return Err((403, "ExpiredToken"));
    }
    // A request is good for some minutes around its time.
    let seconds = (now - 300..now + 300)
        .find(|second| utc(*second).replace(['-', ':'], "") == date)
        .ok_or((403, "SignatureDoesNotMatch"))?;
    let identity = Credentials::new(access_key, given.secret_key, token, None, "test").into();
    let params = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("sts")
        .time(UNIX_EPOCH + Duration::from_secs(seconds))
        .settings(SigningSettings::default())
        .build()
        .unwrap()
        .into();
    let host = request.field("host").ok_or(refused)?;
    let content_type = request.field("content-type").ok_or(refused)?;
    let fields = [("host", host), ("content-type", content_type)];
    let body = SignableBody::Bytes(request.body.as_bytes());
    let uri = format!("http://{host}/");
    let signable = SignableRequest::new("POST", uri, fields.into_iter(), body).unwrap();
    let (instructions, _) = sign(signable, &params).unwrap().into_parts();
    let expected = instructions.headers().find(|(name, _)| *name == "authorization");
    if expected.map(|(_, value)| value) == Some(authorization) { Ok(()) } else { Err(refused) }
}
