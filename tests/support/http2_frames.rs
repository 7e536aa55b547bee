//! HTTP/2 by hand: frames written and read byte by byte, for everything that a well-behaved client
//! never does. Field sections are literals without indexing (RFC 7541 section 6.2.2).

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::waiting::DEADLINE;

/// The bytes that a client begins with (RFC 9113 section 3.4).
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;

/// `SETTINGS_HEADER_TABLE_SIZE`.
pub(crate) const TABLE_SIZE: u16 = 1;
/// `SETTINGS_INITIAL_WINDOW_SIZE`.
pub(crate) const INITIAL_WINDOW: u16 = 4;

pub(crate) const NO_ERROR: u32 = 0;
pub(crate) const PROTOCOL_ERROR: u32 = 1;
pub(crate) const INTERNAL_ERROR: u32 = 2;
pub(crate) const FLOW_CONTROL_ERROR: u32 = 3;
pub(crate) const SETTINGS_TIMEOUT: u32 = 4;
pub(crate) const STREAM_CLOSED: u32 = 5;
pub(crate) const FRAME_SIZE_ERROR: u32 = 6;
pub(crate) const REFUSED_STREAM: u32 = 7;
pub(crate) const CANCEL: u32 = 8;
pub(crate) const COMPRESSION_ERROR: u32 = 9;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// The error code of `RST_STREAM`, or the last stream and the code of GOAWAY.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.payload
            .chunks_exact(4)
            .map(|word| u32::from_be_bytes(word.try_into().unwrap()))
            .collect()
    }

    pub(crate) fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0
    }

    /// The status of a response whose status is in the static table (RFC 7541 appendix A).
    pub(crate) fn status(&self) -> Option<u16> {
        let statuses = [200, 204, 206, 304, 400, 404, 500];
        let index = usize::from(self.payload.first()?.checked_sub(0x88)?);
        statuses.get(index).copied()
    }
}

/// The bytes of a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A field section, in the order given.
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut section = Vec::new();
    for (name, value) in fields {
        section.push(0);
        for text in [name, value] {
            append_length(text.len(), &mut section);
            section.extend_from_slice(text.as_bytes());
        }
    }
    section
}

/// An integer with a prefix of seven bits (RFC 7541 section 5.1).
fn append_length(length: usize, out: &mut Vec<u8>) {
    let Some(mut rest) = length.checked_sub(127) else {
        return out.push(u8::try_from(length).unwrap());
    };
    out.push(127);
    while rest >= 128 {
        out.push(u8::try_from(rest % 128).unwrap() | 0x80);
        rest /= 128;
    }
    out.push(u8::try_from(rest).unwrap());
}

/// The section of a GET.
pub(crate) fn get(path: &str) -> Vec<u8> {
    fields(&[(":method", "GET"), (":scheme", "http"), (":authority", "test"), (":path", path)])
}

/// The frame of a whole GET.
pub(crate) fn request(stream: u32, path: &str) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, get(path))
}

/// The frame of an increment of a window.
pub(crate) fn window_update(stream: u32, increment: u32) -> Vec<u8> {
    frame(WINDOW_UPDATE, 0, stream, increment.to_be_bytes())
}

/// The frame of settings.
pub(crate) fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
    let payload: Vec<u8> = settings
        .iter()
        .flat_map(|(id, value)| [&id.to_be_bytes()[..], &value.to_be_bytes()].concat())
        .collect();
    frame(SETTINGS, 0, 0, payload)
}

/// What carries the frames: TCP, or TLS over it.
trait Carrier: Read + Write + std::fmt::Debug {}

impl<T: Read + Write + std::fmt::Debug> Carrier for T {}

/// A connection on which every wait has an end.
fn patient(stream: TcpStream) -> TcpStream {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

/// One connection.
#[derive(Debug)]
pub(crate) struct RawHttp2 {
    stream: Box<dyn Carrier>,
    buffer: Vec<u8>,
}

impl RawHttp2 {
    /// Connects and says nothing.
    #[track_caller]
    pub(crate) fn silent(address: SocketAddr) -> Self {
        Self::from_stream(TcpStream::connect(address).expect("connect"))
    }

    /// Connects and begins.
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::with_settings(address, &[])
    }

    /// Connects and begins with these settings.
    #[track_caller]
    pub(crate) fn with_settings(address: SocketAddr, of_client: &[(u16, u32)]) -> Self {
        let mut connection = Self::silent(address);
        connection.send([PREFACE, &settings(of_client)].concat());
        connection
    }

    /// The same, from this address of the same machine.
    #[track_caller]
    pub(crate) fn connect_from(
        from: IpAddr,
        address: SocketAddr,
        of_client: &[(u16, u32)],
    ) -> Self {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        socket.connect(&address.into()).expect("connect");
        let mut connection = Self::from_stream(socket.into());
        connection.send([PREFACE, &settings(of_client)].concat());
        connection
    }

    /// The same, with a receive buffer of this size, so that one which does not read stops the
    /// sender soon.
    #[track_caller]
    pub(crate) fn with_receive_buffer(
        address: SocketAddr,
        bytes: usize,
        of_client: &[(u16, u32)],
    ) -> Self {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).unwrap();
        socket.set_recv_buffer_size(bytes).unwrap();
        socket.connect(&address.into()).expect("connect");
        let mut connection = Self::from_stream(socket.into());
        connection.send([PREFACE, &settings(of_client)].concat());
        connection
    }

    /// Connects by TLS and begins. The session must offer `h2`.
    #[track_caller]
    pub(crate) fn over_tls(address: SocketAddr, session: rustls::ClientConnection) -> Self {
        let tcp = patient(TcpStream::connect(address).expect("connect"));
        let stream = Box::new(rustls::StreamOwned::new(session, tcp));
        let mut connection = Self { stream, buffer: Vec::new() };
        connection.send([PREFACE, &settings(&[])].concat());
        connection
    }

    fn from_stream(stream: TcpStream) -> Self {
        Self { stream: Box::new(patient(stream)), buffer: Vec::new() }
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("send");
    }

    /// Sends bytes to a peer that may have closed; whether it took them.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// The next frame, or none at the end of the connection, be it orderly or not.
    #[track_caller]
    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                return Some(frame);
            }
            let mut chunk = [0; 16_384];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(length) => self.buffer.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("read: {error}"),
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head = self.buffer.first_chunk::<9>()?;
        let [a, b, c, kind, flags, stream @ ..] = *head;
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap();
        if self.buffer.len() < 9 + length {
            return None;
        }
        let payload = self.buffer.drain(..9 + length).skip(9).collect();
        Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload })
    }

    /// Reads on to the first frame of this kind on this stream.
    #[track_caller]
    pub(crate) fn expect(&mut self, kind: u8, stream: u32) -> Frame {
        loop {
            let frame = self.next().unwrap_or_else(|| panic!("no frame of type {kind}: the end"));
            if (frame.kind, frame.stream) == (kind, stream) {
                return frame;
            }
            assert!(frame.kind != GOAWAY, "told to go instead: {frame:?}");
        }
    }

    /// Reads on to the next part of a body, though the connection ends behind it.
    #[track_caller]
    pub(crate) fn expect_of_body(&mut self, stream: u32) -> Frame {
        loop {
            let frame = self.next().expect("the rest of a body");
            if (frame.kind, frame.stream) == (DATA, stream) {
                return frame;
            }
        }
    }

    /// Reads on to the first frame of this kind on any stream.
    #[track_caller]
    pub(crate) fn expect_frame(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next().unwrap_or_else(|| panic!("no frame of type {kind}: the end"));
            if frame.kind == kind {
                return frame;
            }
        }
    }

    /// Reads on to GOAWAY and the end, and returns the code of the last one.
    #[track_caller]
    pub(crate) fn expect_goaway(&mut self) -> u32 {
        let mut code = None;
        while let Some(frame) = self.next() {
            if frame.kind == GOAWAY {
                code = Some(frame.numbers()[1]);
            }
        }
        code.expect("a GOAWAY before the end")
    }

    /// Reads on to the reset of a stream, and returns its code.
    #[track_caller]
    pub(crate) fn expect_reset(&mut self, stream: u32) -> u32 {
        self.expect(RST_STREAM, stream).numbers()[0]
    }

    /// Reads on to the end of a stream: the status of its response, if it is a usual one, and the
    /// body.
    #[track_caller]
    pub(crate) fn response(&mut self, stream: u32) -> (Option<u16>, Vec<u8>) {
        let (mut status, mut body) = (None, Vec::new());
        loop {
            let frame = self.next().expect("the end of a stream before that of the connection");
            assert!(frame.kind != GOAWAY, "told to go instead: {frame:?}");
            if frame.stream != stream {
                continue;
            }
            match frame.kind {
                HEADERS => status = frame.status(),
                DATA => body.extend_from_slice(&frame.payload),
                _ => panic!("not a response: {frame:?}"),
            }
            if frame.ends_stream() {
                return (status, body);
            }
        }
    }
}
