//! Many connections at once, cheaply: an origin and a client on one current-thread runtime each.

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
    thread::{self, JoinHandle},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinSet,
};

use super::{http_head::head_length, raw_client::request_bytes, scripted_origin::response_bytes};

/// An origin that answers every request with the same small object.
#[derive(Debug)]
pub(crate) struct FastOrigin {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FastOrigin {
    pub(crate) fn start(body: &[u8]) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let response: &'static [u8] = response_bytes("200 OK", &[], body).leak();
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || {
            runtime().block_on(async {
                tokio::select! {
                    () = accept(listener, response) => {}
                    _ = stopped => {}
                }
            });
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    /// For `s3.endpoint`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for FastOrigin {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: std::net::TcpListener, response: &'static [u8]) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(async move {
            let mut buffer = Vec::with_capacity(2_048);
            while let Ok(1..) = stream.read_buf(&mut buffer).await {
                while let Some(length) = head_length(&buffer) {
                    buffer.drain(..length);
                    if stream.write_all(response).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

/// What a load brought.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// Answers with status 200 and the expected number of body bytes.
    pub(crate) good: usize,
    /// Everything else, described.
    pub(crate) errors: Vec<String>,
}

/// Opens `connections`, waits until all are open, and sends `requests` on each, one after the
/// other, expecting a 200 with `body_length` bytes each time.
pub(crate) fn keep_alive(
    address: SocketAddr,
    target: &str,
    connections: usize,
    requests: usize,
    body_length: usize,
) -> Load {
    let request: &'static [u8] = request_bytes("GET", target, &[]).leak();
    runtime().block_on(async {
        let mut streams = Vec::with_capacity(connections);
        for _ in 0..connections {
            let stream = TcpStream::connect(address).await.expect("connect");
            stream.set_nodelay(true).unwrap();
            streams.push(stream);
        }
        let mut tasks = JoinSet::new();
        for stream in streams {
            tasks.spawn(one_connection(stream, request, requests, body_length));
        }
        let mut load = Load::default();
        while let Some(outcome) = tasks.join_next().await {
            let (good, error) = outcome.unwrap();
            load.good += good;
            load.errors.extend(error);
        }
        load
    })
}

async fn one_connection(
    mut stream: TcpStream,
    request: &[u8],
    requests: usize,
    body_length: usize,
) -> (usize, Option<String>) {
    let mut buffer = Vec::with_capacity(4_096);
    for done in 0..requests {
        if let Err(error) = stream.write_all(request).await {
            return (done, Some(format!("send {done}: {error}")));
        }
        buffer.clear();
        loop {
            if let Some(head) = head_length(&buffer) {
                if !buffer.starts_with(b"HTTP/1.1 200 ") || buffer.len() > head + body_length {
                    let text = String::from_utf8_lossy(&buffer).into_owned();
                    return (done, Some(format!("response {done}: {text:?}")));
                }
                if buffer.len() == head + body_length {
                    break;
                }
            }
            match stream.read_buf(&mut buffer).await {
                Ok(1..) => {}
                Ok(0) => return (done, Some(format!("response {done}: closed"))),
                Err(error) => return (done, Some(format!("response {done}: {error}"))),
            }
        }
    }
    (requests, None)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// Raises this process's soft limit of open files to the hard one and returns what holds now.
pub(crate) fn raise_open_files() -> usize {
    let limits = |text: &str| -> Vec<usize> {
        let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned();
        line.split_whitespace().filter_map(|word| word.parse().ok()).collect()
    };
    let read = || limits(&std::fs::read_to_string("/proc/self/limits").unwrap());
    if let [soft, hard] = read()[..]
        && soft < hard
    {
        // Where prlimit is missing the tests make do with what there is.
        let _ = Command::new("prlimit")
            .arg(format!("--pid={}", std::process::id()))
            .arg(format!("--nofile={hard}:{hard}"))
            .status();
    }
    read()[0]
}
