//! A real S3 server (s3s-fs) in this process: it checks every signature, so what it answers with
//! 200 was signed correctly. It ignores conditional requests and collapses `//` in keys; tests
//! about those use a scripted origin.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use http::HeaderValue;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use s3s::{
    S3Result,
    access::{S3Access, S3AccessContext},
    auth::{S3Auth, SecretKey},
    s3_error,
    service::{S3Service, S3ServiceBuilder},
};
use s3s_fs::FileSystem;
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::config::{ACCESS_KEY, SECRET_KEY};

/// A request as the S3 server saw it.
#[derive(Clone, Debug)]
pub(crate) struct SeenRequest {
    pub(crate) method: String,
    pub(crate) target: String,
    /// Names in lower case, in the order of the wire.
    pub(crate) fields: Vec<(String, String)>,
}

impl SeenRequest {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug, Default)]
struct Seen {
    requests: Mutex<Vec<SeenRequest>>,
    connections: AtomicUsize,
}

/// What belongs to an access key.
#[derive(Clone, Debug)]
struct Known {
    secret_key: SecretKey,
    /// The token that a request has to bring, or none.
    session_token: Option<String>,
    /// The time until which they are good, if they end.
    ends: Option<Instant>,
}

/// The keys that are good, by access key.
#[derive(Clone, Debug, Default)]
struct Keys(Arc<Mutex<HashMap<String, Known>>>);

impl Keys {
    fn of(&self, access_key: &str) -> Option<Known> {
        self.0.lock().unwrap().get(access_key).cloned()
    }
}

impl S3Access for Keys {
    // As the macro of async-trait would write it.
    fn check<'s, 'c, 'x, 'f>(
        &'s self,
        context: &'c mut S3AccessContext<'x>,
    ) -> Pin<Box<dyn Future<Output = S3Result<()>> + Send + 'f>>
    where
        's: 'f,
        'c: 'f,
        'x: 'f,
        Self: 'f,
    {
        let brought = context.headers().get("x-amz-security-token").cloned();
        let known = context.credentials().and_then(|credentials| self.of(&credentials.access_key));
        Box::pin(async move {
            let known = known.ok_or_else(|| s3_error!(AccessDenied))?;
            let wanted = known.session_token.as_deref().map(str::as_bytes);
            if brought.as_ref().map(HeaderValue::as_bytes) != wanted {
                return Err(s3_error!(InvalidToken));
            }
            Ok(())
        })
    }
}

impl S3Auth for Keys {
    // As the macro of async-trait would write it.
    fn get_secret_key<'s, 'k, 'f>(
        &'s self,
        access_key: &'k str,
    ) -> Pin<Box<dyn Future<Output = S3Result<SecretKey>> + Send + 'f>>
    where
        's: 'f,
        'k: 'f,
        Self: 'f,
    {
        let found = self.of(access_key);
        Box::pin(async {
            let known = found.ok_or_else(|| s3_error!(InvalidAccessKeyId))?;
            if known.ends.is_some_and(|end| Instant::now() >= end) {
                return Err(s3_error!(ExpiredToken));
            }
            Ok(known.secret_key)
        })
    }
}

/// The keys that an S3 server accepts, from the outside.
#[derive(Clone, Debug)]
pub(crate) struct KeyRing(Keys);

impl KeyRing {
    /// Accepts a user's own pair.
    pub(crate) fn accept(&self, access_key: &str, secret_key: &str) {
        self.insert(access_key, secret_key, None, None);
    }

    /// Accepts a pair with a session token only, for so long.
    pub(crate) fn accept_session(
        &self,
        access_key: &str,
        secret_key: &str,
        session_token: &str,
        life: Duration,
    ) {
        self.insert(access_key, secret_key, Some(session_token), Some(life));
    }

    fn insert(
        &self,
        access_key: &str,
        secret_key: &str,
        session_token: Option<&str>,
        life: Option<Duration>,
    ) {
        let known = Known {
            secret_key: secret_key.into(),
            session_token: session_token.map(str::to_owned),
            ends: life.map(|life| Instant::now() + life),
        };
        self.0.0.lock().unwrap().insert(access_key.to_owned(), known);
    }
}

/// A running S3 server with its own directory; stops when dropped.
#[derive(Debug)]
pub(crate) struct S3Server {
    address: SocketAddr,
    directory: TempDir,
    keys: Keys,
    seen: Arc<Seen>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl S3Server {
    /// Starts on a free port, accepting these pairs of access key and secret key.
    pub(crate) fn start(keys: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let accepted = Keys::default();
        for (access_key, secret_key) in keys {
            KeyRing(accepted.clone()).accept(access_key, secret_key);
        }
        let mut builder = S3ServiceBuilder::new(FileSystem::new(directory.path()).unwrap());
        builder.set_auth(accepted.clone());
        builder.set_access(accepted.clone());
        let service = builder.build();

        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let (stop, stopped) = oneshot::channel();
        let of_thread = Arc::clone(&seen);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = serve(listener, service, of_thread) => {}
                    _ = stopped => {}
                }
            });
            runtime.shutdown_background();
        });
        Self { address, directory, keys: accepted, seen, stop: Some(stop), thread: Some(thread) }
    }

    /// With the keys that test buckets sign with.
    pub(crate) fn with_test_keys() -> Self {
        Self::start(&[(ACCESS_KEY, SECRET_KEY)])
    }

    /// Accepts this secret key for the access key from now on, and no other.
    pub(crate) fn accept(&self, access_key: &str, secret_key: &str) {
        self.key_ring().accept(access_key, secret_key);
    }

    /// The keys that are good, for whoever hands out temporary ones.
    pub(crate) fn key_ring(&self) -> KeyRing {
        KeyRing(self.keys.clone())
    }

    /// Accepts nothing of any access key any more.
    pub(crate) fn revoke_all(&self) {
        self.keys.0.lock().unwrap().clear();
    }

    /// Accepts nothing of this access key any more.
    pub(crate) fn revoke(&self, access_key: &str) {
        assert!(self.keys.0.lock().unwrap().remove(access_key).is_some(), "{access_key}");
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// For `s3.endpoint`.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stores an object, making its bucket when it is new.
    pub(crate) fn put(&self, bucket: &str, key: &str, bytes: impl AsRef<[u8]>) {
        let path = self.path(bucket, key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Removes an object.
    pub(crate) fn delete(&self, bucket: &str, key: &str) {
        std::fs::remove_file(self.path(bucket, key)).unwrap();
    }

    fn path(&self, bucket: &str, key: &str) -> PathBuf {
        self.directory.path().join(bucket).join(key)
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<SeenRequest> {
        self.seen.requests.lock().unwrap().clone()
    }

    /// Connections accepted so far.
    pub(crate) fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, service: S3Service, seen: Arc<Seen>) {
    let listener = tokio::net::TcpListener::from_std(listener).unwrap();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        // With Nagle's algorithm one connection manages 76 requests a second.
        stream.set_nodelay(true).unwrap();
        seen.connections.fetch_add(1, Ordering::SeqCst);
        let (service, seen) = (service.clone(), Arc::clone(&seen));
        tokio::spawn(async move {
            let recording = service_fn(move |request: http::Request<Incoming>| {
                seen.requests.lock().unwrap().push(record(&request));
                let service = service.clone();
                async move {
                    let response = hyper::service::Service::call(&service, request).await;
                    Ok::<_, Infallible>(response.expect("S3 service"))
                }
            });
            // A peer that goes away in the middle is no news here.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), recording).await;
        });
    }
}

fn record(request: &http::Request<Incoming>) -> SeenRequest {
    let fields = request.headers().iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    SeenRequest {
        method: request.method().to_string(),
        target: request.uri().to_string(),
        fields: fields.collect(),
    }
}
