//! `--validate`, `--diff`, a start and a reload give the same verdict on every configuration file
//! of `tests/config`, in the same words.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;
use serde_yaml::Value;
use tempfile::TempDir;

use crate::support::{
    proxy::{Launch, Lines, Proxy, field},
    waiting::wait_for,
};

/// What runs before each reload; also the old file of `--diff`. It asks for no token, so that a
/// file without a jwt section may follow it.
const RUNNING: &str = r#"
server: { address: "127.0.0.1", port: 0, threads: 1 }
buckets:
  - name: running
    path_prefix: /running
    s3: { bucket: running, region: us-east-1, anonymous: true }
"#;

/// The variables of the fixtures, as `tests/config.rs` has them.
const ENVIRONMENT: [(&str, &str); 10] = [
    ("JWT_SECRET", "jwt-secret-of-the-fixtures-0123456789"),
    ("OLD_SECRET", "old-secret-of-the-fixtures-0123456789"),
    ("DIGITS", "12345678901234567890123456789012"),
    ("PORT", "9000"),
    ("WATCH", "true"),
    ("SECONDS", "2.5"),
    ("SHORT", "too-short-hunter2"),
    ("NOT_A_NUMBER", "hunter2"),
    ("EMPTY", ""),
    ("YAML", "x, anonymous: true, bucket: [hunter2]"),
];

/// A directory with the files that the fixtures name, and `config/` for themselves.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir_all(place.path("")).unwrap();
        // As they lie in the tree.
        for (from, to) in [("files", "config/files"), ("../tls", "tls")] {
            let to = place.0.path().join(to);
            fs::create_dir(&to).unwrap();
            for entry in fs::read_dir(fixtures(from)).unwrap() {
                let entry = entry.unwrap();
                fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
            }
        }
        place.write("running.yaml", RUNNING.as_bytes());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join("config/valid").join(name)
    }

    fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    fn launch(&self, name: &str) -> Launch {
        let path = self.path(name);
        ENVIRONMENT
            .into_iter()
            .fold(Launch::new(), |launch, (name, value)| launch.environment(name, value))
            .arguments(&["--config", path.to_str().unwrap()])
    }
}

fn fixtures(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(name)
}

fn yaml_files(name: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(fixtures(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

/// What a command says is wrong, one line a problem.
fn problems(stderr: &str) -> Vec<String> {
    stderr.lines().filter_map(|line| line.strip_prefix("error: ")).map(str::to_owned).collect()
}

/// What the log of a reload says is wrong, from the `from`th record; none while it is under way.
fn reloaded(stderr: &Lines, from: usize) -> Option<Vec<String>> {
    let mut problems = Vec::new();
    for record in stderr.records().iter().skip(from) {
        let message = field(record, "message")?.as_str()?.to_owned();
        if message.starts_with("Configuration reloaded successfully") {
            return Some(Vec::new());
        }
        if message.starts_with("Configuration reload failed") {
            return Some(problems);
        }
        if field(record, "level") == Some(&json!("ERROR")) {
            // The file that is reloaded has another name than the one of the commands.
            problems.push(message.replace("/adopted.yaml:", "/new.yaml:"));
        }
    }
    None
}

fn reload(proxy: &Proxy) -> Vec<String> {
    let from = proxy.stderr().records().len();
    proxy.signal("HUP");
    wait_for("the reload", || reloaded(proxy.stderr(), from))
}

/// What `--validate` and `--diff` say is wrong with the file `new.yaml`, which must be the same.
#[track_caller]
fn told_by_the_commands(place: &Place, file: &str) -> Vec<String> {
    let validated = place.launch("new.yaml").arguments(&["--validate"]).run();
    let running = place.path("running.yaml");
    let compared = place.launch("new.yaml").arguments(&["--diff", running.to_str().unwrap()]).run();
    let found = problems(&validated.stderr);
    assert_eq!(validated.code, Some(i32::from(!found.is_empty())), "{file}: {validated:?}");
    assert_eq!(compared.code, validated.code, "{file}: {compared:?}");
    assert_eq!(problems(&compared.stderr), found, "{file}");
    found
}

/// Refused files, and the problems of each in all four ways.
#[track_caller]
fn all_refuse(place: &Place, proxy: &Proxy, file: &str, content: &[u8]) {
    place.write("new.yaml", content);
    let found = told_by_the_commands(place, file);
    assert!(!found.is_empty(), "{file} is accepted");
    let started = place.launch("new.yaml").run();
    assert_eq!((started.code, problems(&started.stderr)), (Some(1), found.clone()), "{file}");
    place.write("adopted.yaml", content);
    assert_eq!(reload(proxy), found, "{file}");
}

#[test]
fn a_file_that_one_way_refuses_is_refused_by_all() {
    let place = Place::new();
    place.write("adopted.yaml", RUNNING.as_bytes());
    let proxy = place.launch("adopted.yaml").start();
    for path in yaml_files("invalid") {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        all_refuse(&place, &proxy, &file, &fs::read(&path).unwrap());
    }
    // Found when the configuration is put to use, not when it is read.
    let log = place.path("no-such-directory/access.log");
    let text = format!("{RUNNING}logging: {{ access_log: {{ path: {} }} }}\n", log.display());
    all_refuse(&place, &proxy, "access log", text.as_bytes());
}

#[test]
fn a_file_that_one_way_accepts_is_accepted_by_all() {
    // With an admin listener, so that any bucket may have the built-in paths.
    let running = format!("{RUNNING}admin: {{ listen: \"127.0.0.1:0\" }}\n");
    for path in yaml_files("valid") {
        let file = path.file_name().unwrap().to_string_lossy().into_owned();
        let place = Place::new();
        // Free ports, a log that this user may write, and a level that tells of the reload.
        let mut value: Value = serde_yaml::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        set(&mut value, &["server", "port"], 0);
        set(&mut value, &["server", "address"], "127.0.0.1");
        if value.get("server").is_some_and(|server| server.get("tls").is_some()) {
            set(&mut value, &["server", "tls", "port"], 0);
        }
        if value.get("admin").is_some_and(|admin| admin.get("listen").is_some()) {
            set(&mut value, &["admin", "listen"], "127.0.0.1:0");
        }
        set(&mut value, &["logging", "level"], "info");
        let log = place.path("access.log").display().to_string();
        set(&mut value, &["logging", "access_log", "path"], log);
        let content = serde_yaml::to_string(&value).unwrap();

        place.write("running.yaml", running.as_bytes());
        place.write("new.yaml", content.as_bytes());
        assert_eq!(told_by_the_commands(&place, &file), [""; 0], "{file}");
        place.write("adopted.yaml", running.as_bytes());
        let proxy = place.launch("adopted.yaml").start();
        place.write("adopted.yaml", content.as_bytes());
        assert_eq!(reload(&proxy), [""; 0], "{file}");
        drop(proxy);
        place.launch("new.yaml").start();
    }
}

/// The paths of the built-in endpoints are taken on the listener that the process really has:
/// `admin.listen` moves them with the next start only.
#[test]
fn reserved_prefixes_are_those_of_the_listener_that_runs() {
    let place = Place::new();
    let bucket =
        "  - { name: a, path_prefix: /admin, s3: { bucket: abc, region: r, anonymous: true } }\n";
    let new = format!("{RUNNING}{bucket}admin: {{ listen: \"127.0.0.1:0\" }}\n");
    place.write("new.yaml", new.as_bytes());
    assert_eq!(place.launch("new.yaml").arguments(&["--validate"]).run().code, Some(0));
    let running = place.path("running.yaml");
    let compared = place.launch("new.yaml").arguments(&["--diff", running.to_str().unwrap()]).run();
    let found = problems(&compared.stderr);
    assert!(found[0].contains("restart with the new admin.listen"), "{compared:?}");
    place.write("adopted.yaml", RUNNING.as_bytes());
    let proxy = place.launch("adopted.yaml").start();
    place.write("adopted.yaml", new.as_bytes());
    assert_eq!(reload(&proxy), found);
}

/// A file without a jwt section is a good one to start with, and none to follow one that asks for
/// tokens: `--diff` and the reload say so alike.
#[test]
fn a_file_that_forgets_the_protection_is_refused_beside_one_that_protects() {
    let place = Place::new();
    let protects = RUNNING
        .replace("anonymous: true }", "anonymous: true }\n    auth: { enabled: true }")
        + "jwt: { secret: \"${JWT_SECRET}\" }\n";
    for forgets in [RUNNING.to_owned(), format!("{RUNNING}    auth: {{ enabled: false }}\n")] {
        place.write("running.yaml", protects.as_bytes());
        place.write("new.yaml", forgets.as_bytes());
        assert_eq!(place.launch("new.yaml").arguments(&["--validate"]).run().code, Some(0));
        let running = place.path("running.yaml");
        let compared =
            place.launch("new.yaml").arguments(&["--diff", running.to_str().unwrap()]).run();
        let found = problems(&compared.stderr);
        assert_eq!(compared.code, Some(1), "{compared:?}");
        assert!(
            found.iter().any(|problem| problem.contains("new.yaml: jwt: is missing")),
            "{found:?}"
        );
        place.write("adopted.yaml", protects.as_bytes());
        let proxy = place.launch("adopted.yaml").start();
        place.write("adopted.yaml", forgets.as_bytes());
        assert_eq!(reload(&proxy), found);
        drop(proxy);
        place.launch("new.yaml").start();
    }
}

fn set(value: &mut Value, path: &[&str], to: impl Into<Value>) {
    let mut place = value;
    for key in path {
        if place.is_null() {
            *place = Value::Mapping(serde_yaml::Mapping::new());
        }
        let mapping = place.as_mapping_mut().unwrap();
        place = mapping.entry((*key).into()).or_insert(Value::Null);
    }
    *place = to.into();
}
