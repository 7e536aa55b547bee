//! A network between the proxy and a TLS server that knows where records begin, and does something
//! to them.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

type Pass = dyn Fn(&[u8], &mut TcpStream) -> bool + Send + Sync;

/// Length of a record that holds an alert in TLS 1.3: header, two bytes, content type and tag.
pub(crate) const ALERT_RECORD_BYTES: usize = 5 + 2 + 1 + 16;

/// A listener that forwards to a TLS server; stops accepting when dropped.
#[derive(Debug)]
pub(crate) struct TlsRelay {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
}

impl TlsRelay {
    /// Calls `pass` for each record of encrypted data that the server sends, with the proxy's side
    /// of the connection. When it says no, the connection ends with a bare FIN.
    pub(crate) fn start(
        server: SocketAddr,
        pass: impl Fn(&[u8], &mut TcpStream) -> bool + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = Arc::clone(&stopping);
        let pass: Arc<Pass> = Arc::new(pass);
        thread::spawn(move || {
            for client in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let client = client.expect("accept");
                let server = TcpStream::connect(server).expect("connect to the TLS server");
                let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
                let pass = Arc::clone(&pass);
                thread::spawn(move || forward(server, client, &*pass));
            }
        });
        Self { address, stopping }
    }

    /// For `s3.endpoint`.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.address)
    }
}

impl Drop for TlsRelay {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn forward(mut server: TcpStream, mut client: TcpStream, pass: &Pass) {
    client.set_nodelay(true).unwrap();
    let mut record = vec![0; 5];
    while server.read_exact(&mut record[..5]).is_ok() {
        let length = usize::from(u16::from_be_bytes([record[3], record[4]]));
        record.resize(5 + length, 0);
        if server.read_exact(&mut record[5..]).is_err() {
            break;
        }
        let is_data = record[0] == 23;
        let goes_on =
            if is_data { pass(&record, &mut client) } else { client.write_all(&record).is_ok() };
        if !goes_on {
            break;
        }
    }
    let _ = client.shutdown(Shutdown::Write);
}
