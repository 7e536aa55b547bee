//! A process of the test's own, but for its control thread.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Sender, unbounded};

use super::start::start;
use crate::{
    control_plane::{
        control::{Control, End, Inputs},
        files::{ConfigPlace, ProcessEnvironment},
        fingerprints::Seen,
        prepare::load,
        signals,
    },
    policy::auth::install_crypto,
    telemetry::log,
};

/// Longest wait for something that is known to come.
const TIMEOUT: Duration = Duration::from_secs(20);

/// An origin that responds to each request with `body`, and then closes the connection.
fn origin(body: &'static str) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|length| length > 2) {
                line.clear();
            }
            let length = body.len();
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close");
            let _ = write!(stream.get_mut(), "{head}\r\n\r\n{body}");
        }
    });
    address
}

/// Head and body of the response to a GET on a new connection.
fn get(address: SocketAddr, target: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn unused(ip: [u8; 4]) -> SocketAddr {
    TcpListener::bind((Ipv4Addr::from(ip), 0)).unwrap().local_addr().unwrap()
}

/// A process that has started, but for its control thread.
struct Started {
    main: SocketAddr,
    control: Control,
    inputs: Inputs,
    signals: Sender<signals::Signal>,
    _directory: tempfile::TempDir,
}

impl Started {
    /// With one worker and one open bucket under `/a` at this port of localhost.
    fn with_origin_at(port: u16) -> Self {
        install_crypto();
        // On an address that nothing else here listens on, so the port stays free.
        let main = unused([127, 77, 0, 1]);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config.yaml");
        let text = format!(
            "server: {{ address: {}, port: {}, threads: 1 }}\n\
             logging: {{ access_log: {{ enabled: false }} }}\n\
             buckets:\n\
             - name: a\n  path_prefix: /a\n  s3: {{ bucket: aaa, region: r, endpoint: 'http://localhost:{port}', anonymous: true }}\n",
            main.ip(),
            main.port(),
        );
        std::fs::write(&path, text).unwrap();
        let environment = ProcessEnvironment::capture();
        let place = ConfigPlace::new(&path, None);
        let (content, loaded) = load(&place, &environment, None, &mut Seen::new()).unwrap();
        let (signals, signalled) = unbounded();
        // The start lowers the priority of its thread, which is to be none of the tests'.
        let starting = thread::spawn(move || {
            start(&place, environment, signalled, &content, loaded, log::nowhere()).ok()
        });
        let (control, inputs) = starting.join().unwrap().expect("a start");
        Self { main, control, inputs, signals, _directory: directory }
    }
}

/// From the resolver's table over the control thread and a worker's inbox to the addresses
/// that the next connection is opened to: each step is the real one.
#[test]
fn addresses_that_change_are_those_that_the_next_connection_goes_to() {
    let (first, second, third) = (origin("first"), origin("second"), origin("third"));
    let refused = unused([127, 0, 0, 1]);
    let started = Started::with_origin_at(first.port());
    let Started { main, mut control, mut inputs, signals, _directory } = started;
    let live = control.live.clone();
    let running = thread::spawn(move || control.run(&mut inputs));

    let host = ("localhost".into(), first.port());
    let comes = |body: &str| {
        let start = Instant::now();
        while !get(main, "/a/x").ends_with(body) {
            assert!(start.elapsed() < TIMEOUT, "{body} never came");
        }
    };
    comes("first");
    assert!(live.set_addresses(&host, vec![second]));
    comes("second");
    // One that refuses is passed over.
    assert!(live.set_addresses(&host, vec![refused, third]));
    comes("third");
    assert!(live.set_addresses(&host, vec![refused]));
    comes("}\n");
    assert!(get(main, "/a/x").starts_with("HTTP/1.1 502 "));

    signals.send(signals::Signal::Stop).unwrap();
    assert_eq!(running.join().unwrap(), End::Stopped);
}

#[test]
fn workers_serve_and_say_so_while_the_control_thread_stands_still() {
    let mut started = Started::with_origin_at(origin("object").port());
    let main = started.main;
    for _ in 0..20 {
        assert!(get(main, "/a/x").ends_with("object"));
        for path in ["/health", "/ready"] {
            let response = get(main, path);
            assert!(response.starts_with("HTTP/1.1 200 "), "{path}: {response}");
        }
    }
    // What only the control thread knows comes when it goes on.
    let scrape = thread::spawn(move || get(main, "/metrics"));
    let waiting = Instant::now();
    while started.inputs.workers.is_empty() {
        assert!(waiting.elapsed() < TIMEOUT, "nobody asks");
    }
    assert!(get(main, "/health").starts_with("HTTP/1.1 200 "));
    assert!(!scrape.is_finished());
    let running = thread::spawn(move || started.control.run(&mut started.inputs));
    assert!(scrape.join().unwrap().contains("config_generation 1"));
    started.signals.send(signals::Signal::Stop).unwrap();
    assert_eq!(running.join().unwrap(), End::Stopped);
}
