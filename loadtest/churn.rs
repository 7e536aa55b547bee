//! Connections that come, ask once and go, and the wait of one client that behaves well.
//!
//! `cargo run --example churn -- 127.0.0.1:8080 /bench 4 128` keeps 128 connections under way for
//! four seconds. Two thirds of them ask for the object `1k` below `/bench` and read it to its end.
//! A third ask for `10m` or `100m` and reset the connection in the middle of the body. Beside them
//! one kept-alive connection asks for `1k` every 5 ms.
//!
//! - `--rate N` bounds how many connections begin in a second. Those that are missed are not made
//!   up for: the report has the rate that was reached.
//! - `--good PATH` is what the good client asks for instead.
//!
//! The report is a line of JSON. The exit status is 0 if every response was good, 1 if one was not.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool that reports on standard output"
)]

use std::{
    env, fs,
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Command, ExitCode, Stdio},
    sync::{
        Arc, Barrier, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use socket2::SockRef;

const USAGE: &str = "usage: churn ADDRESS PREFIX SECONDS CONNECTIONS [--rate N] [--good PATH]
  ADDRESS is one of loopback, with its port; 1k, 10m and 100m are below PREFIX";

/// Each connection has a thread, and so has the good client of a run.
const CONNECTIONS_MAX: u64 = 1_024;
/// Far over what two cores do.
const RATE_MAX: u64 = 1_000_000;
const SECONDS_MAX: u64 = 3_600;
/// One in so many connections is reset.
const RESET_EACH: u64 = 3;
/// A reset comes after less than this, so that most of the object is still to come.
const RESET_BYTES_MAX: u64 = 400_000;
/// Longer than it takes a lost SYN to be sent twice more, shorter than anybody waits for a hang.
const PATIENCE: Duration = Duration::from_secs(5);
const GOOD_INTERVAL: Duration = Duration::from_millis(5);
/// By then all connections have begun at least once.
const GOOD_BEGINS: Duration = Duration::from_millis(500);
const BUFFER_BYTES: usize = 64 << 10;
const HEAD_BYTES_MAX: usize = 16 << 10;

fn main() -> ExitCode {
    let options = match Options::parse(env::args().skip(1)) {
        Ok(options) => options,
        Err(problem) => {
            eprintln!("churn: {problem}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let tally = Arc::new(Tally::default());
    let begin = Arc::new(Barrier::new(usize::try_from(options.connections).unwrap_or(0) + 1));
    let threads: Vec<_> = (0..options.connections)
        .map(|number| {
            let visitor = Visitor::new(number, &options, Arc::clone(&tally));
            let begin = Arc::clone(&begin);
            thread::spawn(move || {
                begin.wait();
                visitor.run();
            })
        })
        .collect();
    // Now that the threads exist, which would inherit it.
    let is_first = run_first();
    if !is_first {
        eprintln!("churn: no leave for SCHED_FIFO: the good client also waits for a processor");
    }
    begin.wait();
    let start = Instant::now();
    let waits = GoodClient::new(&options).run(start, options.duration, &tally);
    tally.stop.store(true, Relaxed);
    let seconds = start.elapsed().as_secs_f64();
    let (connections, resets) = (tally.connections.load(Relaxed), tally.resets.load(Relaxed));
    // Those that are under way may still fail.
    for thread in threads {
        if thread.join().is_err() {
            return ExitCode::FAILURE;
        }
    }
    let errors = tally.errors.load(Relaxed);
    if let Some(first) = tally.first_error.get() {
        eprintln!("churn: {errors} errors, the first: {first}");
    }
    println!(
        "{{\"seconds\":{seconds:.3},\"connections\":{connections},\"connections_per_second\":{:.0},\
         \"resets_per_second\":{:.0},\"errors\":{errors},\"good_requests\":{},\"good_first\":{is_first},\
         \"p50_ms\":{:.3},\"p99_ms\":{:.3},\"max_ms\":{:.3}}}",
        f64::from(connections) / seconds,
        f64::from(resets) / seconds,
        waits.0.len(),
        waits.percentile_ms(50),
        waits.percentile_ms(99),
        waits.percentile_ms(100),
    );
    ExitCode::from(u8::from(errors > 0))
}

/// The command line.
struct Options {
    address: SocketAddr,
    prefix: String,
    duration: Duration,
    connections: u32,
    /// Connections that begin in a second, at most.
    rate: Option<u32>,
    /// Path of the good client's object.
    good: String,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut plain, mut rate, mut good) = (Vec::new(), None, None);
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--rate" => rate = Some(number("--rate", &value()?, RATE_MAX)?),
                "--good" => good = Some(path("--good", value()?)?),
                _ if argument.starts_with('-') => return Err(format!("no option {argument}")),
                _ => plain.push(argument),
            }
        }
        let Ok([address, prefix, seconds, connections]) = <[String; 4]>::try_from(plain) else {
            return Err("four arguments are needed".to_owned());
        };
        let address: SocketAddr =
            address.parse().map_err(|_| format!("{address} is not IP:PORT"))?;
        if !address.ip().is_loopback() {
            return Err(format!("{address} is not an address of loopback"));
        }
        let prefix = path("PREFIX", prefix)?;
        let connections = number("CONNECTIONS", &connections, CONNECTIONS_MAX)?;
        // Each thread wakes up once a second at least, and then sees that it is to stop.
        if rate.is_some_and(|rate| rate < connections) {
            return Err(format!("--rate is at least {connections}, one a second for each thread"));
        }
        Ok(Self {
            good: good.unwrap_or_else(|| format!("{prefix}/1k")),
            address,
            prefix,
            duration: Duration::from_secs(number("SECONDS", &seconds, SECONDS_MAX)?.into()),
            connections,
            rate,
        })
    }
}

fn number(name: &str, text: &str, max: u64) -> Result<u32, String> {
    let fits = |number: &u32| (1..=max).contains(&u64::from(*number));
    text.parse()
        .ok()
        .filter(fits)
        .ok_or_else(|| format!("{name} is a number from 1 to {max}, not {text}"))
}

fn path(name: &str, text: String) -> Result<String, String> {
    let is_path = text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is_path { Ok(text) } else { Err(format!("{name} is a path that begins with /, not {text}")) }
}

/// Lets this thread run before all others of its processor: otherwise the good client would wait
/// for the load beside it. Returns false where that is not permitted.
fn run_first() -> bool {
    let chrt = |thread: &str| {
        let mut chrt = Command::new("chrt");
        chrt.args(["--fifo", "--pid", "1", thread]);
        chrt.stdout(Stdio::null()).stderr(Stdio::null()).status()
    };
    let thread = fs::read_link("/proc/thread-self").unwrap_or_default();
    let id = thread.file_name().and_then(|id| id.to_str());
    id.is_some_and(|id| chrt(id).is_ok_and(|status| status.success()))
}

/// Counts of all connections.
#[derive(Default)]
struct Tally {
    stop: AtomicBool,
    connections: AtomicU32,
    resets: AtomicU32,
    errors: AtomicU32,
    first_error: OnceLock<String>,
}

impl Tally {
    fn count_error(&self, who: &str, error: &io::Error) {
        self.errors.fetch_add(1, Relaxed);
        self.first_error.get_or_init(|| format!("{who}: {error}"));
    }
}

/// A thread that makes one connection after another.
struct Visitor {
    address: SocketAddr,
    small: Vec<u8>,
    large: [Vec<u8>; 2],
    /// Between the beginnings of connections, where there is a rate.
    interval: Duration,
    /// The first connection begins so long after the run.
    phase: Duration,
    random: Random,
    buffer: Vec<u8>,
    tally: Arc<Tally>,
}

impl Visitor {
    fn new(number: u32, options: &Options, tally: Arc<Tally>) -> Self {
        let object = |name: &str| format!("{}/{name}", options.prefix);
        let second = Duration::from_secs(1);
        let interval =
            options.rate.map_or(Duration::ZERO, |rate| second * options.connections / rate);
        Self {
            address: options.address,
            small: request(&object("1k"), "Connection: close\r\n"),
            large: [request(&object("10m"), ""), request(&object("100m"), "")],
            interval,
            // Evenly, not all together.
            phase: interval * number / options.connections,
            random: Random::new(number),
            buffer: vec![0; BUFFER_BYTES],
            tally,
        }
    }

    fn run(mut self) {
        let tally = Arc::clone(&self.tally);
        let mut due = Instant::now() + self.phase;
        while !tally.stop.load(Relaxed) {
            let now = Instant::now();
            thread::sleep(due.saturating_duration_since(now));
            due = due.max(now) + self.interval;
            let is_reset = self.random.below(RESET_EACH) == 0;
            let done = if is_reset { self.ask_and_reset() } else { self.ask_and_close() };
            match done {
                Ok(()) => {
                    tally.connections.fetch_add(1, Relaxed);
                    tally.resets.fetch_add(is_reset.into(), Relaxed);
                }
                Err(error) => {
                    let what = if is_reset { "a connection to reset" } else { "a connection" };
                    tally.count_error(what, &error);
                }
            }
        }
    }

    fn ask_and_close(&mut self) -> io::Result<()> {
        let mut exchange = Exchange::connect(self.address)?;
        let mut body = exchange.ask(&self.small, &mut self.buffer)?;
        exchange.read(&mut body, u64::MAX, &mut self.buffer)
    }

    fn ask_and_reset(&mut self) -> io::Result<()> {
        let which = &self.large[usize::from(self.random.below(2) == 0)];
        let bytes = self.random.below(RESET_BYTES_MAX);
        let mut exchange = Exchange::connect(self.address)?;
        let mut body = exchange.ask(which, &mut self.buffer)?;
        if body.bytes <= RESET_BYTES_MAX + u64::try_from(BUFFER_BYTES).unwrap_or(u64::MAX) {
            return Err(failed("the object is too small to be reset in its middle"));
        }
        exchange.read(&mut body, bytes, &mut self.buffer)?;
        SockRef::from(&exchange.stream).set_linger(Some(Duration::ZERO))
    }
}

/// One connection that requests are made on.
struct Exchange {
    stream: TcpStream,
    deadline: Instant,
}

/// Bytes of a body, and how many of them have come.
struct Body {
    bytes: u64,
    received: u64,
}

impl Exchange {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, deadline: Instant::now() + PATIENCE })
    }

    /// Sends a request and reads the head of its response, with the body bytes that come with it.
    fn ask(&mut self, request: &[u8], buffer: &mut [u8]) -> io::Result<Body> {
        self.deadline = Instant::now() + PATIENCE;
        self.stream.write_all(request)?;
        let mut filled = 0;
        loop {
            filled += self.receive(&mut buffer[filled..])?;
            if let Some(end) = buffer[..filled].windows(4).position(|four| four == b"\r\n\r\n") {
                let received = u64::try_from(filled - end - 4).map_err(failed)?;
                return Ok(Body { bytes: body_bytes(&buffer[..end])?, received });
            }
            if filled > HEAD_BYTES_MAX {
                return Err(failed("the head of the response is too long"));
            }
        }
    }

    /// Reads a body to its end, or until so many bytes of it have come.
    fn read(&mut self, body: &mut Body, bytes: u64, buffer: &mut [u8]) -> io::Result<()> {
        while body.received < body.bytes.min(bytes) {
            body.received += u64::try_from(self.receive(buffer)?).map_err(failed)?;
        }
        if body.received > body.bytes { Err(failed("more came than the body")) } else { Ok(()) }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.stream.read(buffer) {
            Ok(0) => Err(failed("the response ended early")),
            // Byte for byte it could go on for ever.
            Ok(_) if Instant::now() > self.deadline => Err(failed("the response is too slow")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(failed("nothing came for too long"))
            }
            outcome => outcome,
        }
    }
}

/// Content-Length of a response that is 200.
fn body_bytes(head: &[u8]) -> io::Result<u64> {
    let head = String::from_utf8_lossy(head);
    let mut lines = head.lines();
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("200") {
        return Err(failed(format!("the response is {status}")));
    }
    lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok())
        .ok_or_else(|| failed("the response has no Content-Length"))
}

fn request(path: &str, field: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: churn\r\n{field}\r\n").into_bytes()
}

fn failed(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::other(why)
}

/// One client that keeps its connection and asks at fixed times.
struct GoodClient {
    address: SocketAddr,
    request: Vec<u8>,
    exchange: Option<Exchange>,
    buffer: Vec<u8>,
}

impl GoodClient {
    fn new(options: &Options) -> Self {
        Self {
            address: options.address,
            request: request(&options.good, ""),
            exchange: None,
            buffer: vec![0; BUFFER_BYTES],
        }
    }

    /// Asks until the end. A wait begins when the request was due: where one takes long, those
    /// that are due meanwhile wait as well. One that is not even sent at the end has waited until
    /// then.
    fn run(mut self, start: Instant, duration: Duration, tally: &Tally) -> Waits {
        let end = start + duration;
        let mut due = start + GOOD_BEGINS;
        let mut waits = Vec::new();
        while due < end {
            let now = Instant::now();
            thread::sleep(due.saturating_duration_since(now));
            if now < end
                && let Err(error) = self.ask()
            {
                self.exchange = None;
                tally.count_error("the good client", &error);
            }
            waits.push(due.elapsed());
            due += GOOD_INTERVAL;
        }
        waits.sort_unstable();
        Waits(waits)
    }

    fn ask(&mut self) -> io::Result<()> {
        let exchange = match &mut self.exchange {
            Some(exchange) => exchange,
            none => none.insert(Exchange::connect(self.address)?),
        };
        let mut body = exchange.ask(&self.request, &mut self.buffer)?;
        exchange.read(&mut body, u64::MAX, &mut self.buffer)
    }
}

/// Waits of the good client, in order.
struct Waits(Vec<Duration>);

impl Waits {
    fn percentile_ms(&self, percent: usize) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get(last * percent / 100).map_or(0.0, |wait| wait.as_secs_f64() * 1e3)
    }
}

/// Marsaglia's xorshift64: the same numbers in every run, so that all proxies meet the same load.
struct Random(u64);

impl Random {
    fn new(number: u32) -> Self {
        // Never zero, which the shifts would keep.
        Self((u64::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The upper half has passed through more of the shifts.
        (self.0 >> 32) % bound
    }
}
