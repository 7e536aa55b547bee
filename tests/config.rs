//! Configuration files that must be accepted or refused, with the exact report.
//!
//! `tests/config/invalid/*.yaml` has a `.expected` file beside each one, which holds the report
//! that `--validate` prints. `tests/config/valid/*.yaml` is accepted; where it has an `.expected`
//! file, with these warnings. Set `BLESS=1` to write the reports instead of comparing them.

#![expect(
    clippy::unwrap_used,
    clippy::format_collect,
    reason = "helpers of tests may panic, and short texts may be built plainly"
)]

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
};

use yatagarasu::{
    config::{Difference, Policies, Problems, Settings, check, diff, parse},
    control_plane::{
        compile::{CompileContext, compile},
        files::{FilesBeside, read},
    },
    model::Generation,
};

#[path = "config/changes.rs"]
mod changes;
#[path = "config/compiled.rs"]
mod compiled;
#[path = "config/include.rs"]
mod include;
#[path = "config/mutations.rs"]
mod mutations;
#[path = "config/secrets.rs"]
mod secrets;
#[path = "config/slips.rs"]
mod slips;

fn environment() -> BTreeMap<String, String> {
    [
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
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/config").join(name)
}

fn yaml_files(name: &str) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no files in {name}");
    files
}

fn report(path: &Path) -> Problems {
    match read(path) {
        Ok(bytes) => check(&bytes, &environment(), &FilesBeside::new(path.parent().unwrap())),
        Err(problem) => problem.into(),
    }
}

fn load(path: &Path) -> Settings {
    let bytes = read(path).unwrap();
    match parse(&bytes, &environment(), &FilesBeside::new(path.parent().unwrap())) {
        Ok(loaded) => loaded.settings,
        Err(problems) => panic!("{} is refused:\n{problems}", path.display()),
    }
}

/// A report as the program prints it; included files have their names from here.
fn shown(problems: &Problems) -> String {
    let mut text = problems.to_string();
    for name in ["valid", "invalid"] {
        text = text.replace(&format!("{}/../", directory(name).display()), "");
    }
    text
}

/// Compares with the file beside it, or writes it when blessing.
fn differs(path: &Path, report: &str) -> Option<String> {
    let expected_path = path.with_extension("expected");
    if env::var_os("BLESS").is_some() {
        if !report.is_empty() {
            fs::write(&expected_path, report).unwrap();
        }
        return None;
    }
    let expected = fs::read_to_string(&expected_path).unwrap_or_default();
    (expected != report)
        .then(|| format!("{}\n--- expected\n{expected}--- reported\n{report}", path.display()))
}

#[test]
fn every_invalid_file_is_refused_with_its_report() {
    let mut failures = Vec::new();
    for path in yaml_files("invalid") {
        let problems = report(&path);
        if problems.errors.is_empty() {
            failures.push(format!("{} is accepted", path.display()));
        }
        failures.extend(differs(&path, &shown(&problems)));
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_valid_file_is_accepted_and_compiles() {
    let mut failures = Vec::new();
    for path in yaml_files("valid") {
        let problems = report(&path);
        failures.extend(differs(&path, &shown(&problems)));
        let settings = load(&path);
        assert_eq!(diff(&settings, &load(&path)), Difference::default(), "{}", path.display());
        let policies = &Policies::compile(&settings).0.unwrap();
        let generation = Generation::FIRST;
        let context = CompileContext { generation, workers: 2, policies, previous: None };
        let snapshot = compile(&settings, &context).unwrap();
        assert_eq!(snapshot.buckets.len(), settings.buckets.len());
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// What the fixtures and their environment hold that no report may show.
#[test]
fn no_report_shows_a_secret() {
    for path in yaml_files("invalid").into_iter().chain(yaml_files("valid")) {
        let report = report(&path).to_string();
        for secret in ["hunter2", "of-the-fixtures", "fixture/secret", "fixture-session"] {
            assert!(!report.contains(secret), "{} shows {secret}", path.display());
        }
    }
}
