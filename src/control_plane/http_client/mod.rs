//! A blocking HTTP/1.1 client for the threads of the control plane that may block.
//!
//! It speaks to services that may be slow, broken or somebody else's, so everything is bounded: one
//! deadline for the whole of it, from connecting to the last byte, however slowly bytes drip in;
//! the size of the head by the parser, that of the body by the caller. Each request has a
//! connection of its own. Redirects are not followed: where a key set or credentials come from is
//! configured.
//!
//! Deliberately absent: names (`services` looks them up), proxies of the environment, connection
//! reuse, compression.

mod request;
mod timed;

#[cfg(test)]
mod tests;

use std::{
    fmt,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConnection, StreamOwned};

pub use self::request::{InvalidRequest, Method, Request};
use self::timed::Timed;
use crate::{
    protocol::http1::{
        BodyLength, ChunkedDecoder, Progress, ResponseError, ResponseHead, parse_response,
    },
    system::{clock::Monotonic, tls::TlsClient},
};

/// Addresses that are tried. The others would only get what little time those leave.
const ADDRESSES_MAX: usize = 4;

/// Interim responses (1xx) that are read over. Real servers send none or one.
const INTERIM_RESPONSES_MAX: usize = 8;

/// Size of one read, in bytes.
const READ_BYTES: usize = 4_096;

/// Destination of a request.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// Tried in this order.
    pub addresses: &'a [SocketAddr],
    /// Trusted roots and the name of the server, or none for plain HTTP.
    pub tls: Option<&'a TlsClient>,
}

/// Part of a response that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// A whole body of at most so many bytes; anything else is an error.
    Whole(usize),
    /// The first so many bytes of the body, or as many as come: an error document that is cut
    /// short may still say what is wrong.
    Beginning(usize),
}

/// A response. `Debug` shows no body, as it may hold credentials.
#[derive(Clone)]
pub struct Response {
    /// Status code, 200 to 599.
    pub status: u16,
    /// The body, without its framing.
    pub body: Vec<u8>,
    head: ResponseHead,
    head_bytes: Vec<u8>,
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

impl Response {
    /// A response without fields, for tests of what is made of responses.
    #[cfg(test)]
    pub(crate) fn of(status: u16, body: &[u8]) -> Self {
        let mut head = ResponseHead::default();
        head.status = status;
        Self { status, body: body.to_vec(), head, head_bytes: Vec::new() }
    }

    /// The first value of the field called `name_lower` (in lower case).
    pub fn field<'r>(&'r self, name_lower: &'r [u8]) -> Option<&'r [u8]> {
        self.head.header_values(&self.head_bytes, name_lower).next()
    }
}

/// Step at which a request failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Opening a TCP connection.
    Connect,
    /// The TLS handshake.
    Handshake,
    /// Sending the request.
    Send,
    /// Waiting for the response head.
    Head,
    /// Reading the body.
    Body,
}

impl Phase {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connecting",
            Self::Handshake => "the TLS handshake",
            Self::Send => "sending the request",
            Self::Head => "waiting for the response",
            Self::Body => "reading the body",
        }
    }
}

/// Reason why there is no response.
#[derive(Debug)]
pub enum FetchError {
    /// The host has no address.
    NoAddress,
    /// The deadline passed.
    TimedOut(Phase),
    /// The connection failed, or ended too early.
    Failed(Phase, io::Error),
    /// The certificates or the name of the server cannot be used for TLS.
    NoTls(String),
    /// TLS refused the server, or the server refused TLS.
    Tls(rustls::Error),
    /// The bytes that came are no HTTP/1 response.
    NotHttp(ResponseError),
    /// The body has more bytes than wanted.
    TooLarge(usize),
    /// The connection ended before the body did.
    CutShort,
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAddress => f.write_str("its host name does not resolve"),
            Self::TimedOut(phase) => write!(f, "{} took too long", phase.as_str()),
            Self::Failed(phase, error) => write!(f, "{} failed: {error}", phase.as_str()),
            Self::NoTls(why) => f.write_str(why),
            Self::Tls(error) => write!(f, "the TLS handshake failed: {error}"),
            Self::NotHttp(ResponseError::Malformed(what)) => {
                write!(f, "the response is not HTTP (bad {what})")
            }
            Self::NotHttp(ResponseError::HeadTooLarge) => {
                f.write_str("the head of the response is too large")
            }
            Self::TooLarge(bytes) => write!(f, "the body has more than {bytes} bytes"),
            Self::CutShort => f.write_str("the connection ended in the middle of the body"),
        }
    }
}

impl std::error::Error for FetchError {}

/// A connection that may be encrypted.
trait Duplex: Read + Write {}
impl<T: Read + Write> Duplex for T {}

/// Sends a request and reads the response, all of it within `timeout`.
///
/// # Errors
/// See [`FetchError`]. A status that is not the wanted one is no error here.
pub fn fetch(
    server: &Server<'_>,
    request: &Request,
    wanted: Wanted,
    timeout: Duration,
) -> Result<Response, FetchError> {
    let deadline = Monotonic::now().plus(timeout);
    let stream = Timed::new(connect(server.addresses, deadline)?, deadline);
    match server.tls {
        None => converse(&mut { stream }, request, wanted),
        Some(tls) => converse(&mut shake_hands(tls, stream)?, request, wanted),
    }
}

fn connect(addresses: &[SocketAddr], deadline: Monotonic) -> Result<TcpStream, FetchError> {
    let mut last = FetchError::NoAddress;
    let addresses = addresses.get(..ADDRESSES_MAX).unwrap_or(addresses);
    for (number, address) in addresses.iter().enumerate() {
        let left = Duration::from_nanos(deadline.since(Monotonic::now()));
        // One that is silent must leave time for those behind it, and for the request.
        let behind = u32::try_from(addresses.len() - number).unwrap_or(u32::MAX);
        let share = left / behind.max(1);
        if share.is_zero() {
            return Err(FetchError::TimedOut(Phase::Connect));
        }
        match TcpStream::connect_timeout(address, share) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = failed(Phase::Connect)(error),
        }
    }
    Err(last)
}

fn shake_hands(
    tls: &TlsClient,
    stream: Timed,
) -> Result<StreamOwned<ClientConnection, Timed>, FetchError> {
    let session = ClientConnection::new(Arc::clone(&tls.config), tls.server_name.clone())
        .map_err(FetchError::Tls)?;
    let mut stream = StreamOwned::new(session, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock).map_err(failed(Phase::Handshake))?;
    }
    Ok(stream)
}

/// Turns what a socket or rustls reports into what happened.
fn failed(phase: Phase) -> impl Fn(io::Error) -> FetchError {
    move |error| {
        if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) {
            return FetchError::TimedOut(phase);
        }
        match error.downcast::<rustls::Error>() {
            Ok(error) => FetchError::Tls(error),
            Err(error) => FetchError::Failed(phase, error),
        }
    }
}

fn converse(
    stream: &mut dyn Duplex,
    request: &Request,
    wanted: Wanted,
) -> Result<Response, FetchError> {
    // A server that refuses a request early may answer before it has read all of it.
    let sent = stream.write_all(&request.to_bytes()).and_then(|()| stream.flush());
    let sent = sent.map_err(failed(Phase::Send));
    if let Err(error @ FetchError::TimedOut(_)) = sent {
        return Err(error);
    }
    let (head, mut bytes) = match read_head(stream) {
        Ok(read) => read,
        Err(error) => return Err(sent.err().unwrap_or(error)),
    };
    let rest = bytes.split_off(head.head_len);
    let body = read_body(stream, head.length, rest, wanted)?;
    Ok(Response { status: head.status, body, head, head_bytes: bytes })
}

/// The final head, and the bytes that came with it, from its start.
fn read_head(stream: &mut dyn Duplex) -> Result<(ResponseHead, Vec<u8>), FetchError> {
    let mut bytes = Vec::new();
    let mut head = ResponseHead::default();
    let mut interim = 0;
    loop {
        match parse_response(&bytes, false, &mut head).map_err(FetchError::NotHttp)? {
            Progress::Complete if !head.is_interim() => return Ok((head, bytes)),
            Progress::Complete if head.status == 101 || interim == INTERIM_RESPONSES_MAX => {
                return Err(FetchError::NotHttp(ResponseError::Malformed("interim response")));
            }
            Progress::Complete => {
                interim += 1;
                bytes.drain(..head.head_len);
                head.reset();
            }
            Progress::Partial => {
                if read_more(stream, Phase::Head, &mut bytes)? == 0 {
                    return Err(FetchError::Failed(
                        Phase::Head,
                        io::ErrorKind::UnexpectedEof.into(),
                    ));
                }
            }
        }
    }
}

fn read_body(
    stream: &mut dyn Duplex,
    length: BodyLength,
    start: Vec<u8>,
    wanted: Wanted,
) -> Result<Vec<u8>, FetchError> {
    let mut body = Body::new(length, wanted);
    let mut arrived = start;
    loop {
        let step = body.take(&arrived);
        match (wanted, step) {
            (_, Ok(false)) => {}
            (_, Ok(true)) | (Wanted::Beginning(_), Err(_)) => return Ok(body.bytes),
            (Wanted::Whole(_), Err(error)) => return Err(error),
        }
        arrived.clear();
        let more = match (read_more(stream, Phase::Body, &mut arrived), length) {
            (Ok(0), BodyLength::UntilClose) => return Ok(body.bytes),
            (Ok(0), _) => Err(FetchError::CutShort),
            // Over TLS an end without close_notify may have been forged (RFC 8446 section 6.1).
            (Err(FetchError::Failed(_, error)), _)
                if error.kind() == io::ErrorKind::UnexpectedEof =>
            {
                Err(FetchError::CutShort)
            }
            (read, _) => read,
        };
        match (wanted, more) {
            (_, Ok(_)) => {}
            (Wanted::Whole(_), Err(error)) => return Err(error),
            (Wanted::Beginning(_), Err(_)) => return Ok(body.bytes),
        }
    }
}

/// A body on its way.
struct Body {
    bytes: Vec<u8>,
    length: BodyLength,
    chunks: ChunkedDecoder,
    wanted: Wanted,
}

impl Body {
    fn new(length: BodyLength, wanted: Wanted) -> Self {
        Self { bytes: Vec::new(), length, chunks: ChunkedDecoder::new(), wanted }
    }

    /// Takes what arrived. Whether nothing more is wanted.
    fn take(&mut self, mut arrived: &[u8]) -> Result<bool, FetchError> {
        match self.length {
            BodyLength::None => Ok(true),
            BodyLength::Fixed(length) => {
                let length = usize::try_from(length).unwrap_or(usize::MAX);
                if let Wanted::Whole(most) = self.wanted
                    && length > most
                {
                    return Err(FetchError::TooLarge(most));
                }
                let left = length - self.bytes.len();
                let full = self.add(&arrived[..arrived.len().min(left)])?;
                Ok(full || self.bytes.len() == length)
            }
            BodyLength::UntilClose => self.add(arrived),
            BodyLength::Chunked => loop {
                let step = self
                    .chunks
                    .step(arrived)
                    .map_err(|_| FetchError::NotHttp(ResponseError::Malformed("chunked body")))?;
                if self.add(&arrived[step.data])? || step.done {
                    return Ok(true);
                }
                if step.consumed == 0 {
                    return Ok(false);
                }
                arrived = &arrived[step.consumed..];
            },
        }
    }

    /// Adds data. Whether nothing more is wanted.
    fn add(&mut self, data: &[u8]) -> Result<bool, FetchError> {
        match self.wanted {
            Wanted::Whole(most) if self.bytes.len() + data.len() > most => {
                Err(FetchError::TooLarge(most))
            }
            Wanted::Whole(_) => {
                self.bytes.extend_from_slice(data);
                Ok(false)
            }
            Wanted::Beginning(most) => {
                let left = most - self.bytes.len();
                self.bytes.extend_from_slice(&data[..data.len().min(left)]);
                Ok(self.bytes.len() == most)
            }
        }
    }
}

/// Appends what one read gives; 0 at the end of the connection.
fn read_more(
    stream: &mut dyn Duplex,
    phase: Phase,
    bytes: &mut Vec<u8>,
) -> Result<usize, FetchError> {
    let mut buffer = [0; READ_BYTES];
    loop {
        match stream.read(&mut buffer) {
            Ok(count) => {
                bytes.extend_from_slice(&buffer[..count]);
                return Ok(count);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(phase)(error)),
        }
    }
}
