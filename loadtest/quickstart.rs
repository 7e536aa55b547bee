//! The proxy in front of a real S3 server, ready to be tried with curl.
//!
//! `cargo run --example quickstart` starts an S3 server (s3s-fs) with a few objects in this
//! process, writes a configuration, starts the real binary with it, prints requests to try, and
//! stops everything on Ctrl-C or SIGTERM.
//!
//! - `--check` makes the printed requests itself and exits 0 if all responses are as expected.
//! - `--until-eof` also stops when standard input ends.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a demonstration that talks to a person and ends when something is wrong"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::{
    env,
    fmt::Write,
    io::{self, Read},
    path::PathBuf,
    process::{Command, ExitCode},
    sync::mpsc,
    thread,
};

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};
use support::{
    proxy::{Launch, Proxy},
    raw_client::Response,
    s3_server::S3Server,
    token,
};

const USAGE: &str = "usage: quickstart [--check] [--until-eof]";

/// The demonstration tokens are good for a day.
const TOKEN_SECONDS: u64 = 86_400;

const PUBLIC_KEYS: (&str, &str) = ("QUICKSTARTPUBLIC", "the-secret-key-of-the-public-bucket");
const PRIVATE_KEYS: (&str, &str) = ("QUICKSTARTPRIVATE", "the-secret-key-of-the-private-bucket");

fn main() -> ExitCode {
    let (mut check, mut until_eof) = (false, false);
    for argument in env::args().skip(1) {
        match argument.as_str() {
            "--check" => check = true,
            "--until-eof" => until_eof = true,
            _ => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    // Registered first, so that an early Ctrl-C still removes the temporary files.
    let stop = stop_requests(until_eof);

    let s3 = S3Server::start(&[PUBLIC_KEYS, PRIVATE_KEYS]);
    s3.put("demo-public", "hello.txt", "Hello from S3, through Yatagarasu.\n");
    s3.put("demo-public", "with space/100%.txt", "Awkward keys reach the object they name.\n");
    s3.put("demo-private", "report.txt", "For those with a token.\n");
    let secret = random_secret();
    let mut proxy =
        Launch::of(binary()).config_text(&configuration(&s3, &secret)).in_own_group().start();

    let demo = Demonstration::new(&secret);
    demo.print(&proxy);
    let good = if check {
        demo.check(&proxy)
    } else {
        let _ = stop.recv();
        true
    };
    proxy.signal("TERM");
    let status = proxy.wait_exit();
    println!("The proxy has stopped: {status}");
    ExitCode::from(u8::from(!(good && status.success())))
}

/// A message comes when somebody wants this to end.
fn stop_requests(until_eof: bool) -> mpsc::Receiver<()> {
    let (sender, receiver) = mpsc::channel();
    let mut signals = Signals::new([SIGINT, SIGTERM]).unwrap();
    let of_signals = sender.clone();
    thread::spawn(move || {
        for _ in signals.forever() {
            let _ = of_signals.send(());
        }
    });
    if until_eof {
        thread::spawn(move || {
            let _ = io::copy(&mut io::stdin().lock().by_ref(), &mut io::sink());
            let _ = sender.send(());
        });
    }
    receiver
}

/// The proxy's binary beside this example, built first so that it is there and new.
fn binary() -> PathBuf {
    let example = env::current_exe().unwrap();
    let profile = example.parent().and_then(|examples| examples.parent()).unwrap();
    let name = profile.file_name().unwrap().to_string_lossy();
    let mut build = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--bin", "yatagarasu", "--profile"]);
    build.arg(if name == "debug" { "dev" } else { &name });
    build.arg("--target-dir").arg(profile.parent().unwrap());
    build.current_dir(env!("CARGO_MANIFEST_DIR"));
    let binary = profile.join("yatagarasu");
    match build.status() {
        Ok(status) => assert!(status.success(), "cargo build --bin yatagarasu failed"),
        // Away from cargo the binary that is there has to do.
        Err(error) => assert!(binary.exists(), "no {} and no cargo: {error}", binary.display()),
    }
    binary
}

fn random_secret() -> String {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).unwrap();
    URL_SAFE_NO_PAD.encode(bytes)
}

fn configuration(s3: &S3Server, secret: &str) -> String {
    let endpoint = s3.url();
    let (public_key, public_secret) = PUBLIC_KEYS;
    let (private_key, private_secret) = PRIVATE_KEYS;
    format!(
        r#"server:
  address: "127.0.0.1"
  port: 0
  threads: 2
buckets:
  - name: public
    path_prefix: "/public"
    s3:
      bucket: demo-public
      region: us-east-1
      endpoint: "{endpoint}"
      access_key: "{public_key}"
      secret_key: "{public_secret}"
    auth:
      enabled: false
  - name: private
    path_prefix: "/private"
    s3:
      bucket: demo-private
      region: us-east-1
      endpoint: "{endpoint}"
      access_key: "{private_key}"
      secret_key: "{private_secret}"
    auth:
      enabled: true
jwt:
  enabled: true
  algorithm: HS256
  secret: "{secret}"
  admin_claims:
    - {{ claim: role, operator: equals, value: admin }}
"#
    )
}

/// A request to try, and what comes back when all is well.
struct Try {
    what: &'static str,
    method: &'static str,
    target: &'static str,
    fields: Vec<(&'static str, String)>,
    status: u16,
    body_part: &'static str,
}

struct Demonstration(Vec<Try>);

impl Demonstration {
    fn new(secret: &str) -> Self {
        let bearer = |role: &str| {
            let expires = token::unix_now() + TOKEN_SECONDS;
            let claims = json!({ "sub": "demo", "role": role, "exp": expires });
            vec![("Authorization", token::bearer(&token::mint(secret, &claims)))]
        };
        let get = |what, target, fields, status, body_part| Try {
            what,
            method: "GET",
            target,
            fields,
            status,
            body_part,
        };
        let range = vec![("Range", "bytes=0-4".to_owned())];
        Self(vec![
            get("A public object", "/public/hello.txt", vec![], 200, "Hello from S3"),
            get("Its first five bytes", "/public/hello.txt", range, 206, "Hello"),
            get("An awkward key", "/public/with%20space/100%25.txt", vec![], 200, "Awkward"),
            get("A private object without a token", "/private/report.txt", vec![], 401, "Missing"),
            get("And with one", "/private/report.txt", bearer("user"), 200, "with a token"),
            get("No such object", "/public/missing", vec![], 404, "NoSuchKey"),
            Try {
                what: "Reload the configuration (edit the file first to see a change)",
                method: "POST",
                target: "/admin/reload",
                fields: bearer("admin"),
                status: 200,
                body_part: "\"status\":\"success\"",
            },
            get("Metrics", "/metrics", vec![], 200, "config_generation"),
            get("Health", "/health", vec![], 200, ""),
        ])
    }

    fn print(&self, proxy: &Proxy) {
        println!("Yatagarasu listens on http://{}", proxy.address());
        println!("Its configuration: {}/config.yaml\n", proxy.directory().display());
        for attempt in &self.0 {
            println!("# {}: {}", attempt.what, attempt.status);
            println!("{}\n", attempt.curl(proxy));
        }
        println!("Stop with Ctrl-C.");
    }

    fn check(&self, proxy: &Proxy) -> bool {
        let mut good = true;
        for attempt in &self.0 {
            let fields: Vec<_> =
                attempt.fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let response = proxy.client().request(attempt.method, attempt.target, &fields);
            let fits = attempt.fits(&response);
            good &= fits;
            let verdict = if fits { "ok" } else { "WRONG" };
            println!("{verdict}: {} -> {}", attempt.what, response.status);
            if !fits {
                println!("{response:?}");
            }
        }
        good
    }
}

impl Try {
    fn curl(&self, proxy: &Proxy) -> String {
        let mut line = String::from("curl -sS -i");
        if self.method != "GET" {
            write!(line, " -X {}", self.method).unwrap();
        }
        for (name, value) in &self.fields {
            write!(line, " -H '{name}: {value}'").unwrap();
        }
        write!(line, " 'http://{}{}'", proxy.address(), self.target).unwrap();
        line
    }

    fn fits(&self, response: &Response) -> bool {
        let body = String::from_utf8_lossy(&response.body);
        let dense: String = body.chars().filter(|c| !c.is_whitespace()).collect();
        response.status == self.status
            && (body.contains(self.body_part) || dense.contains(self.body_part))
    }
}
