//! A well-behaved HTTP/2 client: that of the `h2` crate. Its frames are handled while something is
//! waited for.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::{
    RecvStream,
    client::{self, ResponseFuture, SendRequest},
};
use http::{HeaderMap, Request, StatusCode};
use tokio::{net::TcpStream, runtime::Runtime, task::JoinHandle, time::timeout};

use super::waiting::DEADLINE;

/// A response as it came.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) fields: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// The first value of a field.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(|value| value.to_str().unwrap())
    }

    /// The `code` of one of the proxy's own responses.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        let json: serde_json::Value = serde_json::from_slice(&self.body).expect("JSON");
        assert_eq!(json["request_id"].as_str(), self.header("x-request-id"), "{json}");
        json["code"].as_str().expect("a code").to_owned()
    }
}

/// One connection.
pub(crate) struct Http2Client {
    runtime: Runtime,
    send: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl std::fmt::Debug for Http2Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Http2Client").finish_non_exhaustive()
    }
}

/// A GET for a path.
pub(crate) fn get(path: &str) -> Request<()> {
    Request::get(format!("http://test{path}")).body(()).unwrap()
}

impl Http2Client {
    /// Connects with the usual settings.
    #[track_caller]
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &client::Builder::new())
    }

    /// Connects with these.
    #[track_caller]
    pub(crate) fn connect_with(address: SocketAddr, builder: &client::Builder) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (send, connection) = runtime.block_on(async {
            let stream = TcpStream::connect(address).await.expect("connect");
            stream.set_nodelay(true).unwrap();
            let (send, connection) = builder.handshake(stream).await.expect("handshake");
            (send, tokio::spawn(connection))
        });
        Self { runtime, send, connection }
    }

    /// Waits for something that must end.
    #[track_caller]
    pub(crate) fn run<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { timeout(DEADLINE, future).await.expect("in time") })
    }

    /// Sends a request, with a body if there is one, and waits for nothing.
    #[track_caller]
    pub(crate) fn start(&self, request: Request<()>, body: Option<&[u8]>) -> ResponseFuture {
        let send = self.send.clone();
        let mut send = self.run(send.ready()).expect("ready");
        let (response, mut sending) = send.send_request(request, body.is_none()).expect("request");
        if let Some(body) = body {
            sending.send_data(Bytes::copy_from_slice(body), true).expect("body");
        }
        response
    }

    /// Reads a response to its end.
    #[track_caller]
    pub(crate) fn finish(&self, response: ResponseFuture) -> Result<Reply, h2::Error> {
        self.run(read(response))
    }

    /// Sends a request and reads its response.
    #[track_caller]
    pub(crate) fn request(&self, request: Request<()>) -> Reply {
        let response = self.start(request, None);
        self.finish(response).expect("a response")
    }

    /// GET.
    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Reply {
        self.request(get(path))
    }

    /// Waits for the end of the connection, and says whether it was an orderly one.
    #[track_caller]
    pub(crate) fn expect_end(self) -> Result<(), h2::Error> {
        let Self { runtime, connection, .. } = self;
        runtime.block_on(async { timeout(DEADLINE, connection).await.expect("in time").unwrap() })
    }
}

async fn read(response: ResponseFuture) -> Result<Reply, h2::Error> {
    let (head, mut stream) = response.await?.into_parts();
    let body = read_body(&mut stream).await?;
    Ok(Reply { status: head.status, fields: head.headers, body })
}

/// Reads a body to its end.
pub(crate) async fn read_body(stream: &mut RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut body = Vec::new();
    while let Some(data) = stream.data().await {
        let data = data?;
        stream.flow_control().release_capacity(data.len())?;
        body.extend_from_slice(&data);
    }
    Ok(body)
}
