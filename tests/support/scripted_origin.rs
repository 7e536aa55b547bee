//! An S3 endpoint that does exactly what a test's script says, down to the byte and the packet
//! flag: everything that a well-behaved server never does.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use socket2::SockRef;

use super::{
    gate::Gate,
    http_head::{self, Fields},
    waiting::{DEADLINE, wait_until},
};

/// How often a script that waits at a gate looks whether the test is over.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// A request head as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// Which connection it came on, counted from 0.
    pub(crate) connection: usize,
    pub(crate) method: String,
    /// The target exactly as on the wire.
    pub(crate) target: String,
    pub(crate) version: String,
    pub(crate) fields: Fields,
    /// The head's bytes.
    pub(crate) raw: Vec<u8>,
}

#[derive(Debug, Default)]
struct Shared {
    received: Mutex<Vec<u8>>,
    requests: Mutex<Vec<Request>>,
    accepted: AtomicUsize,
    open: Mutex<HashMap<usize, TcpStream>>,
    stopping: AtomicBool,
    failures: Mutex<Vec<String>>,
}

/// A listening origin; stops when dropped, and then reports scripts that panicked.
#[derive(Debug)]
pub(crate) struct ScriptedOrigin {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl ScriptedOrigin {
    /// Runs `script` on a thread of its own for each connection, with its number from 0.
    pub(crate) fn start(
        script: impl Fn(&mut OriginConnection, usize) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let script = Arc::new(script);
        let of_thread = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if of_thread.stopping.load(Ordering::SeqCst) {
                    return;
                }
                let stream = stream.expect("accept");
                let (shared, script) = (Arc::clone(&of_thread), Arc::clone(&script));
                let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
                shared.open.lock().unwrap().insert(number, stream.try_clone().unwrap());
                thread::spawn(move || run(stream, number, &shared, &*script));
            }
        });
        Self { address, shared }
    }

    /// Answers every request, on every connection, with the same bytes.
    pub(crate) fn always(response: impl Into<Vec<u8>>) -> Self {
        let response = response.into();
        Self::start(move |conn, _| {
            while conn.request().is_some() {
                conn.send(&response);
            }
        })
    }

    /// Answers every request with 200 and this body.
    pub(crate) fn serving(body: impl AsRef<[u8]>) -> Self {
        Self::always(response_bytes("200 OK", &[], body.as_ref()))
    }

    /// Answers every request with its target.
    pub(crate) fn echo() -> Self {
        Self::start(|conn, _| {
            while let Some(request) = conn.request() {
                conn.respond("200 OK", &[], request.target.as_bytes());
            }
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// For `s3.endpoint`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections whose script still runs.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.lock().unwrap().len()
    }

    /// Waits until all connections but `count` have ended.
    #[track_caller]
    pub(crate) fn wait_open(&self, count: usize) {
        wait_until("origin connections to end", || self.open() == count);
    }

    /// Waits until a connection has come and all but `count` have ended.
    #[track_caller]
    pub(crate) fn wait_open_after_first(&self, count: usize) {
        wait_until("an origin connection to come and end", || {
            self.accepted() > 0 && self.open() == count
        });
    }

    /// All request heads so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The only request so far.
    #[track_caller]
    pub(crate) fn only_request(&self) -> Request {
        let mut requests = self.requests();
        assert_eq!(requests.len(), 1, "{requests:?}");
        requests.remove(0)
    }

    /// All bytes that came in, over all connections, as text for a search.
    pub(crate) fn received(&self) -> String {
        String::from_utf8_lossy(&self.shared.received.lock().unwrap()).into_owned()
    }
}

impl Drop for ScriptedOrigin {
    fn drop(&mut self) {
        let failures = std::mem::take(&mut *self.shared.failures.lock().unwrap());
        self.shared.stopping.store(true, Ordering::SeqCst);
        for stream in self.shared.open.lock().unwrap().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let _ = TcpStream::connect(self.address);
        if !thread::panicking() {
            assert!(failures.is_empty(), "scripts failed: {failures:?}");
        }
    }
}

fn run(
    stream: TcpStream,
    number: usize,
    shared: &Arc<Shared>,
    script: &dyn Fn(&mut OriginConnection, usize),
) {
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(DEADLINE * 3)).unwrap();
    stream.set_write_timeout(Some(DEADLINE * 3)).unwrap();
    let mut conn =
        OriginConnection { stream, number, shared: Arc::clone(shared), buffer: Vec::new() };
    let outcome = catch_unwind(AssertUnwindSafe(|| script(&mut conn, number)));
    if let Err(panic) = outcome
        && !shared.stopping.load(Ordering::SeqCst)
    {
        let text = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_default();
        shared.failures.lock().unwrap().push(format!("connection {number}: {text}"));
    }
    let _ = conn.stream.shutdown(Shutdown::Both);
    // The stream of the script closes before the number leaves the table of open ones.
    drop(conn);
    shared.open.lock().unwrap().remove(&number);
}

/// One accepted connection. It ends in an orderly way when the script returns.
#[derive(Debug)]
pub(crate) struct OriginConnection {
    stream: TcpStream,
    number: usize,
    shared: Arc<Shared>,
    buffer: Vec<u8>,
}

impl OriginConnection {
    /// The next request head, or nothing when the peer has closed or reset.
    ///
    /// # Panics
    /// If the head is malformed or nothing comes for a long time.
    pub(crate) fn request(&mut self) -> Option<Request> {
        let length = loop {
            if let Some(length) = http_head::head_length(&self.buffer) {
                break length;
            }
            if !self.fill() {
                assert!(self.buffer.is_empty(), "half a request: {:?}", self.buffer);
                return None;
            }
        };
        let raw: Vec<u8> = self.buffer.drain(..length).collect();
        let head = http_head::parse(&raw).expect("request head");
        let parts: Vec<_> = head.start.split(' ').map(str::to_owned).collect();
        let [method, target, version] = parts.try_into().expect("three words in a request line");
        let connection = self.number;
        let request = Request { connection, method, target, version, fields: head.fields, raw };
        self.shared.requests.lock().unwrap().push(request.clone());
        Some(request)
    }

    /// The next request head, which must come.
    pub(crate) fn expect_request(&mut self) -> Request {
        self.request().expect("a request")
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("origin send");
    }

    /// Sends to a peer that may be gone; whether it worked.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends a response with `Content-Length`.
    pub(crate) fn respond(&mut self, status: &str, fields: &[(&str, &str)], body: &[u8]) {
        self.send(response_bytes(status, fields, body));
    }

    /// Waits at a gate, or until the test ends.
    pub(crate) fn wait(&self, gate: &Gate) {
        while !gate.pass_within(STOP_CHECK) && !self.shared.stopping.load(Ordering::SeqCst) {}
    }

    /// Waits at a gate, or until the peer ends the connection or the test ends; whether the gate
    /// is open.
    pub(crate) fn wait_or_closed(&self, gate: &Gate) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let open = loop {
            if gate.pass_within(STOP_CHECK) {
                break true;
            }
            let gone = !matches!(
                self.stream.peek(&mut [0]),
                Err(error) if error.kind() == ErrorKind::WouldBlock
            );
            if gone || self.shared.stopping.load(Ordering::SeqCst) {
                break false;
            }
        };
        self.stream.set_nonblocking(false).unwrap();
        open
    }

    /// Reads, and records, until the peer ends the connection.
    pub(crate) fn wait_closed(&mut self) {
        while self.fill() {}
    }

    /// Ends the connection with a reset instead of an orderly end.
    pub(crate) fn reset(&mut self) {
        // The close that resets must be the last one, so the table's clone goes first.
        if let Some(clone) = self.shared.open.lock().unwrap().get_mut(&self.number) {
            let unconnected = socket2::Socket::new(
                socket2::Domain::IPV4,
                socket2::Type::STREAM,
                Some(socket2::Protocol::TCP),
            );
            *clone = unconnected.unwrap().into();
        }
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
        let unconnected = socket2::Socket::new(
            socket2::Domain::IPV4,
            socket2::Type::STREAM,
            Some(socket2::Protocol::TCP),
        );
        self.stream = unconnected.unwrap().into();
    }

    /// Ends this side's direction in an orderly way; the script may go on reading.
    pub(crate) fn finish_sending(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    fn fill(&mut self) -> bool {
        let mut chunk = [0; 16_384];
        match self.stream.read(&mut chunk) {
            Ok(0) => false,
            Ok(length) => {
                self.buffer.extend_from_slice(&chunk[..length]);
                self.shared.received.lock().unwrap().extend_from_slice(&chunk[..length]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("origin read: {error}, having {:?}", self.buffer),
        }
    }
}

/// A response with `Content-Length` and the date that an origin should give.
pub(crate) fn response_bytes(status: &str, fields: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let length = body.len();
    write!(bytes, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\n").unwrap();
    for (name, value) in fields {
        write!(bytes, "{name}: {value}\r\n").unwrap();
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// An address where connecting is refused, to the end of the process: a socket has the port and
/// does not listen.
pub(crate) fn refused_address() -> SocketAddr {
    static HELD: Mutex<Vec<socket2::Socket>> = Mutex::new(Vec::new());
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    HELD.lock().unwrap().push(socket);
    address
}

/// An address where connecting hangs, because the queue of connections is full.
#[derive(Debug)]
pub(crate) struct FullQueue {
    listener: socket2::Socket,
    _waiting: Vec<socket2::Socket>,
}

impl FullQueue {
    pub(crate) fn start() -> Self {
        use socket2::{Domain, Protocol, Socket, Type};
        let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
        let listener = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        listener.bind(&any.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        // Linux keeps one more than asked for; the others stay in SYN-SENT.
        let waiting = (0..4)
            .map(|_| {
                let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
                socket.set_nonblocking(true).unwrap();
                let _ = socket.connect(&address);
                socket
            })
            .collect();
        Self { listener, _waiting: waiting }
    }

    pub(crate) fn url(&self) -> String {
        let address = self.listener.local_addr().unwrap().as_socket().unwrap();
        format!("http://{address}")
    }
}
