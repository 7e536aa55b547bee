//! An identity provider: its metadata and its JWK set, over plain HTTP on the loopback address. It
//! honours conditional requests, counts what it is asked, and misbehaves when told to.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use serde_json::{Value, json};

/// How it answers requests for the set.
#[derive(Clone, Debug)]
pub(crate) enum Behaviour {
    /// As it should.
    Good,
    /// With this status and no body.
    Status(u16),
    /// With a redirect to this address.
    Redirect(String),
    /// With status 200 and this body.
    Body(Vec<u8>),
    /// With the beginning of a body, then nothing.
    CutShort,
    /// Not at all, with the connection open.
    Silent,
    /// By closing the connection.
    Closed,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) target: String,
    /// `If-None-Match`, if there was one.
    pub(crate) tag: Option<String>,
}

#[derive(Debug)]
struct State {
    issuer: String,
    keys_url: String,
    keys: Vec<Value>,
    /// Grows with each change of the keys.
    tag: usize,
    cache_control: Option<String>,
    behaviour: Behaviour,
    asked: Vec<Asked>,
}

/// A listening provider; stops when dropped.
#[derive(Debug)]
pub(crate) struct IdentityServer {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    stopping: Arc<AtomicBool>,
}

impl IdentityServer {
    /// Publishes these keys.
    pub(crate) fn start(keys: &[Value]) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            issuer: format!("http://{address}"),
            keys_url: format!("http://{address}/keys"),
            keys: keys.to_vec(),
            tag: 1,
            cache_control: None,
            behaviour: Behaviour::Good,
            asked: Vec::new(),
        }));
        let stopping = Arc::new(AtomicBool::new(false));
        let (served, stop) = (Arc::clone(&state), Arc::clone(&stopping));
        thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let served = Arc::clone(&served);
                thread::spawn(move || answer(stream.expect("accept"), &served));
            }
        });
        Self { address, state, stopping }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its own idea of who it is.
    pub(crate) fn issuer(&self) -> String {
        self.state().issuer.clone()
    }

    /// Place of its keys.
    pub(crate) fn keys_url(&self) -> String {
        self.state().keys_url.clone()
    }

    /// Publishes other keys from now on.
    pub(crate) fn publish(&self, keys: &[Value]) {
        let mut state = self.state();
        state.keys = keys.to_vec();
        state.tag += 1;
    }

    /// Says that it is somebody else from now on.
    pub(crate) fn claim_to_be(&self, issuer: &str) {
        issuer.clone_into(&mut self.state().issuer);
    }

    /// Sends this `Cache-Control` from now on.
    pub(crate) fn cache_control(&self, value: &str) {
        self.state().cache_control = Some(value.to_owned());
    }

    /// Answers like this from now on.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.state().behaviour = behaviour;
    }

    /// All requests so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.state().asked.clone()
    }

    /// Requests for the set so far.
    pub(crate) fn asked_for_keys(&self) -> usize {
        self.asked().iter().filter(|asked| asked.target == "/keys").count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

impl Drop for IdentityServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) {
    let Some(asked) = read_request(&mut stream) else { return };
    let (response, behaviour) = {
        let mut state = state.lock().unwrap();
        state.asked.push(asked.clone());
        (response(&state, &asked), state.behaviour.clone())
    };
    if asked.target == "/keys" {
        match behaviour {
            Behaviour::Closed => return,
            Behaviour::Silent => {
                // Until the client has given up.
                let _ = stream.read(&mut [0]);
                return;
            }
            _ => {}
        }
    }
    let _ = stream.write_all(&response);
}

fn read_request(stream: &mut TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).expect("a request line").to_owned();
    let tag = head.lines().find_map(|line| line.strip_prefix("If-None-Match: "));
    Some(Asked { target, tag: tag.map(str::to_owned) })
}

fn response(state: &State, asked: &Asked) -> Vec<u8> {
    let with = |status: &str, fields: &str, body: &[u8]| {
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n\
             Content-Length: {}\r\n{fields}\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let empty = |status: &str| with(status, "", b"");
    match &*asked.target {
        document if document.ends_with("/.well-known/openid-configuration") => {
            let document = json!({ "issuer": state.issuer, "jwks_uri": state.keys_url });
            with("200 OK", "", document.to_string().as_bytes())
        }
        "/keys" => match &state.behaviour {
            Behaviour::Status(status) => empty(&format!("{status} Told")),
            Behaviour::Redirect(to) => with("302 Found", &format!("Location: {to}\r\n"), b""),
            Behaviour::Body(body) => with("200 OK", "", body),
            Behaviour::CutShort => {
                b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{\"keys\":[".to_vec()
            }
            Behaviour::Good | Behaviour::Silent | Behaviour::Closed => {
                let tag = format!("\"{}\"", state.tag);
                let caching = state.cache_control.as_deref();
                let caching = caching.map(|value| format!("Cache-Control: {value}\r\n"));
                let fields = format!("ETag: {tag}\r\n{}", caching.unwrap_or_default());
                if asked.tag.as_ref() == Some(&tag) {
                    let head =
                        format!("HTTP/1.1 304 Not Modified\r\nConnection: close\r\n{fields}\r\n");
                    return head.into_bytes();
                }
                let set = json!({ "keys": state.keys });
                with("200 OK", &fields, set.to_string().as_bytes())
            }
        },
        _ => empty("404 Not Found"),
    }
}
