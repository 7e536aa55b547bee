//! TLS in front of a plain origin: terminates with a fresh self-signed certificate and forwards.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use rustls::{
    HandshakeKind, ServerConfig, ServerConnection,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// A listener with TLS for `localhost` and `127.0.0.1`; stops accepting when dropped.
#[derive(Debug)]
pub(crate) struct TlsFront {
    address: SocketAddr,
    ca_pem: String,
    stopping: Arc<AtomicBool>,
    counts: Arc<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    handshakes: AtomicUsize,
    resumed: AtomicUsize,
    closed: AtomicUsize,
}

impl TlsFront {
    /// Forwards what arrives to `plain`.
    pub(crate) fn start(plain: SocketAddr) -> Self {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
        let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let config = Arc::new(config);

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let counts = Arc::new(Counts::default());
        let (stop, done) = (Arc::clone(&stopping), Arc::clone(&counts));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (config, done) = (Arc::clone(&config), Arc::clone(&done));
                thread::spawn(move || forward(stream.expect("accept"), plain, config, &done));
            }
        });
        Self { address, ca_pem: made.cert.pem(), stopping, counts }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// For `s3.endpoint`, by IP address.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// For `s3.endpoint`, by name.
    pub(crate) fn named_url(&self) -> String {
        format!("https://localhost:{}", self.address.port())
    }

    /// The certificate to trust, for `s3.ca_file`.
    pub(crate) fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Completed handshakes.
    pub(crate) fn handshakes(&self) -> usize {
        self.counts.handshakes.load(Ordering::SeqCst)
    }

    /// Those of them that resumed an earlier session.
    pub(crate) fn resumed(&self) -> usize {
        self.counts.resumed.load(Ordering::SeqCst)
    }

    /// Connections whose client said `close_notify`.
    pub(crate) fn closed_in_order(&self) -> usize {
        self.counts.closed.load(Ordering::SeqCst)
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

/// One connection: this thread moves bytes inwards, a second one outwards; both end when either
/// side does.
fn forward(secure: TcpStream, plain: SocketAddr, config: Arc<ServerConfig>, done: &Counts) {
    let plain = TcpStream::connect(plain).expect("connect to the plain origin");
    for stream in [&secure, &plain] {
        stream.set_nodelay(true).unwrap();
    }
    let mut session = ServerConnection::new(config).unwrap();
    session.set_buffer_limit(None);
    let session = Arc::new(Mutex::new(session));

    let outwards = {
        let (session, mut plain) = (Arc::clone(&session), plain.try_clone().unwrap());
        let mut secure = secure.try_clone().unwrap();
        thread::spawn(move || {
            let mut chunk = vec![0; 65_536];
            while let Ok(length @ 1..) = plain.read(&mut chunk) {
                let mut session = session.lock().unwrap();
                session.writer().write_all(&chunk[..length]).unwrap();
                if !flush(&mut session, &mut secure) {
                    break;
                }
            }
            let mut session = session.lock().unwrap();
            session.send_close_notify();
            flush(&mut session, &mut secure);
            let _ = secure.shutdown(Shutdown::Both);
        })
    };
    move_inwards(secure, &plain, &session, done);
    let _ = plain.shutdown(Shutdown::Both);
    let _ = outwards.join();
}

fn move_inwards(
    mut secure: TcpStream,
    mut plain: &TcpStream,
    session: &Mutex<ServerConnection>,
    done: &Counts,
) {
    let mut chunk = [0; 16_384];
    let mut shaking = true;
    while let Ok(length @ 1..) = secure.read(&mut chunk) {
        let mut input = &chunk[..length];
        while !input.is_empty() {
            let mut session = session.lock().unwrap();
            session.read_tls(&mut input).unwrap();
            let Ok(state) = session.process_new_packets() else {
                flush(&mut session, &mut secure);
                return;
            };
            let mut clear = vec![0; state.plaintext_bytes_to_read()];
            session.reader().read_exact(&mut clear).unwrap();
            if shaking && !session.is_handshaking() {
                shaking = false;
                if session.handshake_kind() == Some(HandshakeKind::Resumed) {
                    done.resumed.fetch_add(1, Ordering::SeqCst);
                }
                done.handshakes.fetch_add(1, Ordering::SeqCst);
            }
            if state.peer_has_closed() {
                done.closed.fetch_add(1, Ordering::SeqCst);
                input = &[];
            }
            if !flush(&mut session, &mut secure) || plain.write_all(&clear).is_err() {
                return;
            }
        }
    }
}

fn flush(session: &mut ServerConnection, secure: &mut TcpStream) -> bool {
    while session.wants_write() {
        if session.write_tls(secure).is_err() {
            return false;
        }
    }
    true
}
