//! A client that sends exactly the bytes it is given and accepts only well-formed responses.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream},
    sync::Arc,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};
use socket2::{Domain, Protocol, Socket, Type};

use super::{
    http_head::{self, Fields},
    waiting::DEADLINE,
};

/// How much one read takes.
const READ_BYTES: usize = 16_384;

/// How a peer ended a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// An orderly end (FIN).
    Fin,
    /// A reset (RST).
    Reset,
    /// The end of the connection without the TLS session's (`close_notify`).
    Unannounced,
}

/// How the length of a body was known (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// The kind of message has none.
    NoBody,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Until the connection ends.
    UntilClose,
}

/// A response, complete unless it is part of a [`Cut`].
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) version: String,
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) fields: Fields,
    pub(crate) framing: Framing,
    pub(crate) body: Vec<u8>,
}

/// What arrived before the connection ended in the middle of a message.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    /// The head with the part of the body that came, if the head was complete.
    pub(crate) response: Option<Response>,
    /// Bytes of an incomplete head.
    pub(crate) head_bytes: Vec<u8>,
    /// How the connection ended.
    pub(crate) end: End,
}

impl Response {
    /// Value of a field that appears at most once.
    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.fields.get(name)
    }

    /// The body as text.
    #[track_caller]
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("body is not UTF-8")
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// The `code` of one of the proxy's own JSON responses, after checking the fixed parts.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        let json = self.json();
        assert_eq!(json["status"], "error", "{json}");
        assert!(json["message"].as_str().is_some_and(|text| !text.is_empty()), "{json}");
        let request_id = json["request_id"].as_str().expect("request_id");
        assert_eq!(self.header("x-request-id"), Some(request_id), "one id in head and body");
        json["code"].as_str().expect("code").to_owned()
    }

    /// Whether this message says that the connection ends after it.
    pub(crate) fn says_close(&self) -> bool {
        self.fields.all("connection").iter().any(|value| value.eq_ignore_ascii_case("close"))
    }

    /// Checks status, `code` and form of one of the proxy's own responses.
    #[track_caller]
    pub(crate) fn assert_fault(&self, status: u16, code: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.code(), code);
        let json = self.json();
        assert_eq!(json["status"], "error", "{self:?}");
        assert!(json["message"].as_str().is_some_and(|text| !text.is_empty()), "{self:?}");
        assert_eq!(json["request_id"].as_str(), self.header("x-request-id"), "{self:?}");
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Client {
    stream: Wire,
    buffer: Vec<u8>,
}

/// What carries the bytes.
#[derive(Debug)]
enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Wire {
    fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => tls.get_ref(),
        }
    }

    fn as_write(&mut self) -> &mut dyn Write {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(tls) => &mut **tls,
        }
    }

    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(into),
            Self::Tls(tls) => tls.read(into),
        }
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.as_write().write_all(bytes)?;
        self.as_write().flush()
    }
}

/// What a read brought.
enum Got {
    Bytes,
    Ended(End),
}

impl Client {
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::from_stream(TcpStream::connect(address).expect("connect"))
    }

    /// A connection, unless it is refused.
    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Self> {
        TcpStream::connect(address).map(Self::from_stream)
    }

    /// With a small receive buffer, so that a client that does not read stops the sender soon.
    #[track_caller]
    pub(crate) fn connect_with_receive_buffer(address: SocketAddr, bytes: usize) -> Self {
        Self::connect_with_small_segments(address, bytes, None)
    }

    /// The same, with segments of at most so many bytes. The kernel buffers many segments for a
    /// client, and those of loopback are large.
    #[track_caller]
    pub(crate) fn connect_with_small_segments(
        address: SocketAddr,
        bytes: usize,
        segment_bytes: Option<u32>,
    ) -> Self {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.set_recv_buffer_size(bytes).unwrap();
        if let Some(most) = segment_bytes {
            socket.set_tcp_mss(most).unwrap();
        }
        socket.connect(&address.into()).expect("connect");
        Self::from_stream(socket.into())
    }

    /// From this address of the same machine.
    #[track_caller]
    pub(crate) fn connect_from(from: IpAddr, address: SocketAddr) -> Self {
        Self::connect_from_with_receive_buffer(from, address, None)
    }

    /// The same, with a receive buffer of so many bytes.
    #[track_caller]
    pub(crate) fn connect_from_with_receive_buffer(
        from: IpAddr,
        address: SocketAddr,
        bytes: Option<usize>,
    ) -> Self {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).unwrap();
        if let Some(bytes) = bytes {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        socket.connect(&address.into()).expect("connect");
        Self::from_stream(socket.into())
    }

    fn from_stream(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        Self { stream: Wire::Plain(stream), buffer: Vec::new() }
    }

    /// The connection with a TLS session in it, or what hindered the handshake.
    pub(crate) fn secure(self, config: Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut session = ClientConnection::new(config, name).unwrap();
        let Wire::Plain(mut stream) = self.stream else { panic!("a session in a session") };
        while session.is_handshaking() {
            if session.complete_io(&mut stream)? == (0, 0) {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(Self { stream: Wire::Tls(Box::new(StreamOwned::new(session, stream))), ..self })
    }

    /// The error that ends a session whose peer has not finished the handshake after all.
    ///
    /// # Panics
    /// If the peer serves it.
    #[track_caller]
    pub(crate) fn session_error(&mut self) -> String {
        let sent = self.stream.write_all(&request_bytes("GET", "/health", &[]));
        let read = sent.and_then(|()| self.stream.read(&mut [0; 1]));
        read.expect_err("no session").to_string()
    }

    /// Ends the session in order, and this side's direction with it.
    pub(crate) fn end_session(&mut self) {
        self.session().send_close_notify();
        let _ = self.stream.as_write().flush();
        self.finish_sending_if_open();
    }

    /// The TLS session.
    ///
    /// # Panics
    /// On a plain connection.
    pub(crate) fn session(&mut self) -> &mut ClientConnection {
        match &mut self.stream {
            Wire::Plain(_) => panic!("a plain connection"),
            Wire::Tls(tls) => &mut tls.conn,
        }
    }

    /// This side's address.
    pub(crate) fn local(&self) -> SocketAddr {
        self.stream.tcp().local_addr().unwrap()
    }

    /// Bytes that were read from the socket and not asked for yet.
    pub(crate) fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("send");
    }

    /// Sends bytes to a peer that may have closed already, which then shows when reading.
    pub(crate) fn send_if_open(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(bytes.as_ref());
    }

    /// Ends this side's direction only.
    pub(crate) fn finish_sending(&self) {
        self.stream.tcp().shutdown(Shutdown::Write).unwrap();
    }

    /// Ends this side's direction of a connection that may be gone already.
    pub(crate) fn finish_sending_if_open(&self) {
        let _ = self.stream.tcp().shutdown(Shutdown::Write);
    }

    /// The same connection for another thread to write to.
    pub(crate) fn sending_half(&self) -> TcpStream {
        self.stream.tcp().try_clone().unwrap()
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(self.stream.tcp());
        socket.set_linger(Some(std::time::Duration::ZERO)).unwrap();
    }

    /// Sends a GET with a Host field and nothing else, and reads the response.
    #[track_caller]
    pub(crate) fn get(&mut self, target: &str) -> Response {
        self.request("GET", target, &[])
    }

    /// Sends a request without a body and reads the response.
    #[track_caller]
    pub(crate) fn request(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
    ) -> Response {
        self.send(request_bytes(method, target, fields));
        self.response(method)
    }

    /// Reads one complete response to a request with `method`.
    ///
    /// # Panics
    /// If it is malformed, cut short or late.
    #[track_caller]
    pub(crate) fn response(&mut self, method: &str) -> Response {
        match self.try_response(method) {
            Ok(response) => response,
            Err(cut) => panic!("connection ended in the middle of a message: {cut:?}"),
        }
    }

    /// Reads one response that may be cut short.
    ///
    /// # Panics
    /// If it is malformed or late.
    #[track_caller]
    pub(crate) fn try_response(&mut self, method: &str) -> Result<Response, Box<Cut>> {
        let mut response = self.head(method)?;
        let mut body = Vec::new();
        match self.body(response.framing, &mut |bytes| body.extend_from_slice(bytes)) {
            Ok(()) => {
                response.body = body;
                Ok(response)
            }
            Err(end) => {
                response.body = body;
                Err(Box::new(Cut { response: Some(response), head_bytes: Vec::new(), end }))
            }
        }
    }

    /// Reads a head only; the body is left for [`Self::body`].
    #[track_caller]
    pub(crate) fn head(&mut self, method: &str) -> Result<Response, Box<Cut>> {
        let length = loop {
            if let Some(length) = http_head::head_length(&self.buffer) {
                break length;
            }
            if let Got::Ended(end) = self.fill() {
                let head_bytes = std::mem::take(&mut self.buffer);
                return Err(Box::new(Cut { response: None, head_bytes, end }));
            }
        };
        let raw: Vec<u8> = self.buffer.drain(..length).collect();
        match parse_response(&raw, method) {
            Ok(response) => Ok(response),
            Err(problem) => panic!("{problem} in {:?}", String::from_utf8_lossy(&raw)),
        }
    }

    /// The whole body of a response whose head was read.
    #[track_caller]
    pub(crate) fn rest_of(&mut self, head: &Response) -> Vec<u8> {
        let mut body = Vec::new();
        self.body(head.framing, &mut |bytes| body.extend_from_slice(bytes)).unwrap();
        body
    }

    /// Reads a body in pieces.
    #[track_caller]
    pub(crate) fn body(
        &mut self,
        framing: Framing,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), End> {
        match framing {
            Framing::NoBody => Ok(()),
            Framing::Length(length) => self.counted(length, sink),
            Framing::Chunked => self.chunked(sink),
            Framing::UntilClose => loop {
                sink(&std::mem::take(&mut self.buffer));
                match self.fill() {
                    Got::Bytes => {}
                    Got::Ended(End::Fin) => return Ok(()),
                    Got::Ended(end) => return Err(end),
                }
            },
        }
    }

    #[track_caller]
    fn counted(&mut self, mut left: u64, sink: &mut dyn FnMut(&[u8])) -> Result<(), End> {
        while left > 0 {
            if self.buffer.is_empty()
                && let Got::Ended(end) = self.fill()
            {
                return Err(end);
            }
            let take = usize::try_from(left).unwrap_or(usize::MAX).min(self.buffer.len());
            sink(&self.buffer[..take]);
            self.buffer.drain(..take);
            left -= take as u64;
        }
        Ok(())
    }

    /// RFC 9112 section 7.1, without extensions and trailers, which this proxy never sends.
    #[track_caller]
    fn chunked(&mut self, sink: &mut dyn FnMut(&[u8])) -> Result<(), End> {
        loop {
            let line = self.chunk_line()?;
            assert!(
                !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit()),
                "bad chunk size line {line:?}"
            );
            let size = u64::from_str_radix(&line, 16).expect("chunk size");
            self.counted(size, sink)?;
            let end = self.chunk_line()?;
            assert!(end.is_empty(), "no CRLF after a chunk but {end:?}");
            if size == 0 {
                return Ok(());
            }
        }
    }

    #[track_caller]
    fn chunk_line(&mut self) -> Result<String, End> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).take(at).collect();
                return Ok(String::from_utf8(line).expect("chunk line"));
            }
            if let Got::Ended(end) = self.fill() {
                return Err(end);
            }
        }
    }

    /// Waits for the end of the connection, before which nothing may arrive.
    #[track_caller]
    pub(crate) fn expect_end(&mut self) -> End {
        let (rest, end) = self.read_to_end();
        assert!(rest.is_empty(), "unexpected bytes {:?}", String::from_utf8_lossy(&rest));
        end
    }

    /// Everything up to the end of the connection.
    #[track_caller]
    pub(crate) fn read_to_end(&mut self) -> (Vec<u8>, End) {
        loop {
            if let Got::Ended(end) = self.fill() {
                return (std::mem::take(&mut self.buffer), end);
            }
        }
    }

    /// Reads until at least `length` bytes have come and takes those.
    #[track_caller]
    pub(crate) fn read_exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            match self.fill() {
                Got::Bytes => {}
                Got::Ended(end) => panic!("{end:?} after {} bytes", self.buffer.len()),
            }
        }
        self.buffer.drain(..length).collect()
    }

    #[track_caller]
    fn fill(&mut self) -> Got {
        let mut chunk = [0; READ_BYTES];
        match self.stream.read(&mut chunk) {
            Ok(0) => Got::Ended(End::Fin),
            Ok(length) => {
                self.buffer.extend_from_slice(&chunk[..length]);
                Got::Bytes
            }
            Err(error) if is_reset(&error) => Got::Ended(End::Reset),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Got::Ended(End::Unannounced),
            // A process that was stopped and continued (signal(7)).
            Err(error) if error.kind() == ErrorKind::Interrupted => Got::Bytes,
            Err(error) => panic!(
                "{error} after {} bytes: {:?}",
                self.buffer.len(),
                String::from_utf8_lossy(&self.buffer[..self.buffer.len().min(2_000)])
            ),
        }
    }
}

fn is_reset(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// The bytes of a request without a body, with `Host: proxy.test` unless `fields` name a host.
pub(crate) fn request_bytes(method: &str, target: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write!(bytes, "{method} {target} HTTP/1.1\r\n").unwrap();
    if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        bytes.extend_from_slice(b"Host: proxy.test\r\n");
    }
    for (name, value) in fields {
        write!(bytes, "{name}: {value}\r\n").unwrap();
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

fn parse_response(raw: &[u8], method: &str) -> Result<Response, String> {
    let head = http_head::parse(raw)?;
    let mut parts = head.start.splitn(3, ' ');
    let version = parts.next().unwrap_or_default().to_owned();
    if version != "HTTP/1.1" && version != "HTTP/1.0" {
        return Err(format!("bad version {version:?}"));
    }
    let digits = parts.next().unwrap_or_default();
    let status = match digits.parse::<u16>() {
        Ok(status) if digits.len() == 3 && (100..600).contains(&status) => status,
        _ => return Err(format!("bad status {digits:?}")),
    };
    let reason = parts.next().ok_or("no space after the status")?.to_owned();
    let framing = framing(&head.fields, status, method)?;
    Ok(Response { version, status, reason, fields: head.fields, framing, body: Vec::new() })
}

fn framing(fields: &Fields, status: u16, method: &str) -> Result<Framing, String> {
    let lengths = fields.all("content-length");
    let codings = fields.all("transfer-encoding");
    if lengths.len() > 1 || codings.len() > 1 || (!lengths.is_empty() && !codings.is_empty()) {
        return Err(format!("ambiguous framing {lengths:?} {codings:?}"));
    }
    if (status < 200 || status == 204) && (!lengths.is_empty() || !codings.is_empty()) {
        return Err(format!("framing fields in a {status} (RFC 9110 section 8.6)"));
    }
    if method == "HEAD" || status < 200 || status == 204 || status == 304 {
        return Ok(Framing::NoBody);
    }
    match (lengths.first(), codings.first()) {
        (Some(digits), _) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().map(Framing::Length).map_err(|error| error.to_string())
        }
        (Some(other), _) => Err(format!("bad Content-Length {other:?}")),
        (None, Some(coding)) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        (None, Some(other)) => Err(format!("unknown transfer coding {other:?}")),
        (None, None) => Ok(Framing::UntilClose),
    }
}
