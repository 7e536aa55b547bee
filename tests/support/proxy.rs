//! The real binary as a child process.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;
use tempfile::TempDir;

use super::{
    config::Config,
    raw_client::{Client, Response},
    scripted_origin::ScriptedOrigin,
    tls_front::TlsFront,
    waiting::{wait_for, wait_until},
};

/// How much of the proxy's log a failed test shows.
const LOG_TAIL_LINES: usize = 40;

/// Lines of one output stream, collected while the process runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    fn collect(stream: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let collected = lines.clone();
        thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                collected.0.lock().unwrap().push(text);
                line.clear();
            }
        });
        lines
    }

    /// Waits for the last line of a process that has ended.
    #[track_caller]
    fn wait_complete(&self) {
        wait_until("output to be collected", || Arc::strong_count(&self.0) == 1);
    }

    /// All lines so far.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    /// All lines so far as one text.
    pub(crate) fn text(&self) -> String {
        self.all().join("\n")
    }

    /// Waits until `text` is in some line. A process writes its lines when it gets to it, and they
    /// are collected after that.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        wait_until(&format!("a line with {text}"), || {
            self.0.lock().unwrap().iter().any(|line| line.contains(text))
        });
    }

    /// The lines so far that are JSON objects.
    pub(crate) fn records(&self) -> Vec<Value> {
        self.all().iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The last of so many records, once they are there; there are no more.
    #[track_caller]
    pub(crate) fn record(&self, number: usize) -> Value {
        wait_until("the record", || self.records().len() >= number);
        let records = self.records();
        assert_eq!(records.len(), number, "{records:?}");
        records[number - 1].clone()
    }

    /// The first log record with this message, if it is there yet.
    pub(crate) fn event(&self, message: &str) -> Option<Value> {
        self.records().into_iter().find(|record| field(record, "message") == Some(&message.into()))
    }
}

/// A field of a log record, whether the writer nests fields or not.
pub(crate) fn field<'a>(record: &'a Value, name: &str) -> Option<&'a Value> {
    record.get(name).or_else(|| record.get("fields")?.get(name))
}

/// The binary, a directory for its files, and how to start it.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent properties of a process")]
pub(crate) struct Launch {
    binary: PathBuf,
    directory: TempDir,
    arguments: Vec<String>,
    environment: Vec<(String, OsString)>,
    /// The file that is its standard input, if it has one.
    input: Option<PathBuf>,
    admin_listener: bool,
    tls_listener: bool,
    own_group: bool,
    own_session: bool,
}

/// A process that ended by itself.
#[derive(Debug)]
pub(crate) struct Exited {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Launch {
    /// The binary that cargo built for this test.
    ///
    /// # Panics
    /// Outside cargo's integration tests, where there is none.
    pub(crate) fn new() -> Self {
        let binary: Option<&str> = option_env!("CARGO_BIN_EXE_yatagarasu");
        let Some(binary) = binary else { panic!("only integration tests know the binary") };
        Self::of(binary)
    }

    /// The binary with a file `ca.pem`, for `s3.ca_file`, that makes it trust a front.
    pub(crate) fn trusting(front: &TlsFront) -> Self {
        let launch = Self::new();
        launch.write("ca.pem", front.ca_pem());
        launch
    }

    /// The binary under a soft and a hard limit on open files.
    pub(crate) fn with_open_files(soft: usize, hard: usize) -> Self {
        let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
        let binary = Self::new().binary.display().to_string();
        Self::of("/bin/sh").arguments(&["-c", &script, &binary])
    }

    /// A binary somewhere else.
    pub(crate) fn of(binary: impl Into<PathBuf>) -> Self {
        Self {
            binary: binary.into(),
            directory: tempfile::tempdir().unwrap(),
            arguments: Vec::new(),
            environment: Vec::new(),
            input: None,
            admin_listener: false,
            tls_listener: false,
            own_group: false,
            own_session: false,
        }
    }

    /// Writes the configuration to a file and passes it.
    #[must_use]
    pub(crate) fn config(mut self, config: &Config) -> Self {
        self.admin_listener = config.has_admin_listener();
        self.tls_listener = config.has_tls_listener();
        self.config_text(&config.to_yaml())
    }

    /// Writes this text as the configuration file and passes it.
    #[must_use]
    pub(crate) fn config_text(self, text: &str) -> Self {
        self.write("config.yaml", text);
        let path = self.path("config.yaml").display().to_string();
        self.arguments(&["--config", &path])
    }

    /// Adds arguments.
    #[must_use]
    pub(crate) fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// Keeps a terminal's Ctrl-C from reaching the process, for a caller that stops it itself.
    #[must_use]
    pub(crate) fn in_own_group(mut self) -> Self {
        self.own_group = true;
        self
    }

    /// Runs in a session of its own, as a service does. The kernel weighs the threads of a session
    /// against each other (`sched(7)`, "The autogroup feature"): in that of the tests, those of
    /// lower priority, which prepare a reload, starve while other programs keep the machine busy.
    #[must_use]
    pub(crate) fn in_own_session(mut self) -> Self {
        self.own_session = true;
        self
    }

    /// Adds an environment variable.
    #[must_use]
    pub(crate) fn environment(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Gives it this text as its standard input.
    #[must_use]
    pub(crate) fn input(mut self, text: &str) -> Self {
        self.write("input", text);
        self.input = Some(self.path("input"));
        self
    }

    /// Writes a file beside the configuration.
    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    /// The directory with the configuration file.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The path of a file beside the configuration.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn spawn(&self) -> (Child, Lines, Lines) {
        let mut command = if self.own_session {
            let mut command = Command::new("setsid");
            command.arg(&self.binary);
            command
        } else {
            Command::new(&self.binary)
        };
        if self.own_group {
            command.process_group(0);
        }
        let mut child =
            command
                .args(&self.arguments)
                .envs(self.environment.iter().map(|(name, value)| (name, value)))
                .current_dir(self.directory.path())
                .stdin(self.input.as_ref().map_or_else(Stdio::null, |path| {
                    Stdio::from(std::fs::File::open(path).unwrap())
                }))
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap_or_else(|error| panic!("{}: {error}", self.binary.display()));
        let stdout = Lines::collect(child.stdout.take().unwrap());
        let stderr = Lines::collect(child.stderr.take().unwrap());
        (child, stdout, stderr)
    }

    /// Runs to the end.
    #[track_caller]
    pub(crate) fn run(&self) -> Exited {
        let (child, stdout, stderr) = self.spawn();
        let mut process = Process { child };
        let status = process.wait();
        stdout.wait_complete();
        stderr.wait_complete();
        Exited { code: status.code(), stdout: stdout.text(), stderr: stderr.text() }
    }

    /// Starts and waits until it listens.
    ///
    /// # Panics
    /// If it ends instead, with what it wrote.
    #[track_caller]
    pub(crate) fn start(self) -> Proxy {
        self.start_while(|_, _| {})
    }

    /// The same, with something done to the process, of which the number and the log are known,
    /// as soon as it is there.
    #[track_caller]
    pub(crate) fn start_while(self, meanwhile: impl FnOnce(u32, &Lines)) -> Proxy {
        let (child, stdout, stderr) = self.spawn();
        let mut process = Process { child };
        meanwhile(process.child.id(), &stderr);
        let mut address_of = |message: &str| {
            wait_for(message, || {
                let ended = process.child.try_wait().unwrap();
                if let Some(event) = stderr.event(message) {
                    let address = field(&event, "address").and_then(Value::as_str);
                    return Some(address.expect("an address").parse().expect("an address"));
                }
                if let Some(status) = ended {
                    stderr.wait_complete();
                    panic!("no \"{message}\" but {status}; stderr:\n{}", stderr.text());
                }
                None
            })
        };
        let address = address_of("listening");
        let admin = self.admin_listener.then(|| address_of("admin listening"));
        let tls = self.tls_listener.then(|| address_of("TLS listening"));
        Proxy { process, address, admin, tls, stdout, stderr, launch: self }
    }
}

/// A child that does not outlive the test.
#[derive(Debug)]
struct Process {
    child: Child,
}

impl Process {
    #[track_caller]
    fn wait(&mut self) -> ExitStatus {
        wait_for("the process to exit", || self.child.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A proxy that listens. It is killed when dropped, and must not have logged a panic by then.
#[derive(Debug)]
pub(crate) struct Proxy {
    process: Process,
    address: SocketAddr,
    admin: Option<SocketAddr>,
    tls: Option<SocketAddr>,
    stdout: Lines,
    stderr: Lines,
    launch: Launch,
}

impl Proxy {
    /// Starts the binary of this package with a configuration.
    #[track_caller]
    pub(crate) fn start(config: &Config) -> Self {
        Launch::new().config(config).start()
    }

    /// Starts the binary with one open bucket `products` at this origin.
    #[track_caller]
    pub(crate) fn in_front_of(origin: &ScriptedOrigin) -> Self {
        Self::start(&Config::products(origin.url()))
    }

    /// The main listener.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The admin listener, or the main one.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin.unwrap_or(self.address)
    }

    /// The TLS listener.
    ///
    /// # Panics
    /// If there is none.
    #[track_caller]
    pub(crate) fn tls_address(&self) -> SocketAddr {
        self.tls.expect("a TLS listener")
    }

    /// A new connection to the main listener.
    #[track_caller]
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// GET on a connection of its own.
    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Response {
        self.client().get(target)
    }

    /// GET with header fields on a connection of its own.
    #[track_caller]
    pub(crate) fn get_with(&self, target: &str, fields: &[(&str, &str)]) -> Response {
        self.client().request("GET", target, fields)
    }

    /// Starts the binary with one open bucket `products` at this front, whose certificate it
    /// trusts.
    #[track_caller]
    pub(crate) fn behind_tls(front: &TlsFront, change: impl FnOnce(Config) -> Config) -> Self {
        let config = Config::products(front.url()).set("buckets.0.s3.ca_file", "ca.pem");
        Launch::trusting(front).config(&change(config)).start()
    }

    /// The text of `/metrics`.
    #[track_caller]
    pub(crate) fn metrics(&self) -> String {
        let response = Client::connect(self.admin_address()).get("/metrics");
        assert_eq!(response.status, 200, "{response:?}");
        response.text().to_owned()
    }

    /// The value of one series, written as on the page: `name` or `name{label="value"}`.
    #[track_caller]
    pub(crate) fn metric(&self, series: &str) -> Option<f64> {
        let page = self.metrics();
        let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
        Some(line.trim().parse().expect("a number"))
    }

    /// The sum of all series of a family.
    #[track_caller]
    pub(crate) fn metric_sum(&self, family: &str) -> f64 {
        let page = self.metrics();
        page.lines()
            .filter(|line| {
                line.strip_prefix(family).is_some_and(|rest| rest.starts_with([' ', '{']))
            })
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok())
            .sum()
    }

    /// The sum of all series of a family of whole numbers.
    #[track_caller]
    pub(crate) fn metric_count(&self, family: &str) -> u64 {
        let page = self.metrics();
        page.lines()
            .filter_map(|line| line.strip_prefix(family))
            .filter(|rest| rest.starts_with([' ', '{']))
            .map(|rest| rest.rsplit(' ').next().unwrap_or_default())
            .map(|number| number.parse::<u64>().expect("a whole number"))
            .sum()
    }

    /// The log so far.
    pub(crate) fn stderr(&self) -> &Lines {
        &self.stderr
    }

    /// The access log so far.
    pub(crate) fn stdout(&self) -> &Lines {
        &self.stdout
    }

    /// The whole access log of a process that has ended.
    #[track_caller]
    pub(crate) fn complete_stdout(&self) -> &Lines {
        self.stdout.wait_complete();
        &self.stdout
    }

    /// Everything written so far, for a search for what must not be there.
    pub(crate) fn output(&self) -> String {
        format!("{}\n{}", self.stdout.text(), self.stderr.text())
    }

    /// Replaces the configuration file as an editor would: by renaming over it.
    pub(crate) fn write_config(&self, config: &Config) {
        self.write_config_text(&config.to_yaml());
    }

    /// Replaces the configuration file by this text.
    pub(crate) fn write_config_text(&self, text: &str) {
        self.launch.write("config.yaml.new", text);
        let (from, to) = (self.launch.path("config.yaml.new"), self.launch.path("config.yaml"));
        std::fs::rename(from, to).unwrap();
    }

    /// The directory with the configuration file.
    pub(crate) fn directory(&self) -> &Path {
        self.launch.directory.path()
    }

    /// Process id.
    pub(crate) fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// Sends a signal by name, such as `TERM`.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub(crate) fn wait_exit(&mut self) -> ExitStatus {
        self.process.wait()
    }

    /// Whether the process has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.process.child.try_wait().unwrap().is_none()
    }

    /// Resident memory in KiB.
    pub(crate) fn rss_kib(&self) -> u64 {
        self.status_number("VmRSS:")
    }

    /// Threads of the process.
    pub(crate) fn threads(&self) -> u64 {
        self.status_number("Threads:")
    }

    /// Open file descriptors.
    pub(crate) fn open_fds(&self) -> usize {
        self.fds().count()
    }

    /// Whether every descriptor below `limit`, the process's limit on open files, is in use. One
    /// that was inherited may lie above it.
    pub(crate) fn has_no_free_fd(&self, limit: usize) -> bool {
        self.fds().filter(|&fd| fd < limit).count() == limit
    }

    fn fds(&self) -> impl Iterator<Item = usize> {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid()))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
    }

    fn status_number(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("status line");
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}

/// The letter of a process's or a thread's state, as in `proc(5)`.
pub(crate) fn state_of(pid: u32) -> char {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name before it may hold anything, parentheses too.
    stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()).expect("a state")
}

/// Sends a signal by name to a process that this test started.
#[track_caller]
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -s {name} {pid}");
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let log = self.stderr.text();
        if thread::panicking() {
            let lines: Vec<_> = log.lines().collect();
            let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n");
            eprintln!("the proxy's log ended with:\n{tail}");
        } else {
            assert!(!log.contains("panicked"), "the proxy panicked:\n{log}");
        }
    }
}
