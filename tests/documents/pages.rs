//! The documentation against the tree: what a page names has to exist.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use yatagarasu::{
    app::Exit,
    config::{KEYS, parse},
    policy::auth::DenialReason,
    telemetry::definitions,
};

use crate::{page, root};

/// Pages whose names are checked.
const PAGES: [&str; 19] = [
    "README.md",
    "bench/TRIED.md",
    "docs/ARCHITECTURE.md",
    "docs/AUTH.md",
    "docs/AWS.md",
    "docs/CHANGELOG.md",
    "docs/COMPRESSION.md",
    "docs/CONFIG.md",
    "docs/DEPLOY.md",
    "docs/DEVELOPMENT.md",
    "docs/HTTP.md",
    "docs/LEXICON.md",
    "docs/METRICS.md",
    "docs/OPERATIONS.md",
    "docs/PERFORMANCE.md",
    "docs/PROXIES.md",
    "docs/RELOAD.md",
    "docs/SITES.md",
    "docs/TLS.md",
];

/// Text between single backticks, outside of code blocks.
fn quoted(page: &str) -> Vec<String> {
    let mut in_block = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if line.starts_with("```") {
            in_block = !in_block;
        } else if !in_block && !line.starts_with("    ") {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// All Rust files below a directory.
fn rust_files(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Names of the functions marked `#[test]`.
fn test_names() -> BTreeSet<String> {
    let mut files = Vec::new();
    rust_files(&root().join("src"), &mut files);
    rust_files(&root().join("tests"), &mut files);
    let mut names = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        for after in text.split("#[test]").skip(1) {
            if let Some((_, from)) = after.split_once("fn ") {
                names.insert(from.split('(').next().unwrap().to_owned());
            }
        }
    }
    assert!(names.len() > 300, "{} tests found", names.len());
    names
}

/// A path of the tree; a module may be named without its ending.
fn exists(path: &str) -> bool {
    let path = root().join(path);
    path.exists() || path.with_extension("rs").exists()
}

#[test]
fn every_path_that_a_page_names_exists() {
    let mut named = 0;
    for name in PAGES {
        for word in quoted(&page(name)) {
            let top = ["src/", "tests/", "docs/", "bench/", "loadtest/", ".ci/"];
            if top.iter().any(|top| word.starts_with(top)) && !word.contains([' ', '*', '<']) {
                assert!(exists(&word), "{name} names {word}");
                named += 1;
            }
        }
    }
    assert!(named > 60, "only {named} paths found");
}

#[test]
fn every_test_that_a_page_names_exists() {
    let tests = test_names();
    let is_test_name = |word: &str| {
        word.matches('_').count() >= 3
            && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    let mut named = 0;
    for name in ["docs/ARCHITECTURE.md", "docs/DEVELOPMENT.md"] {
        for word in quoted(&page(name)).iter().filter(|word| is_test_name(word)) {
            assert!(tests.contains(word), "{name} names the test {word}");
            named += 1;
        }
    }
    assert!(named > 30, "only {named} tests named");
}

#[test]
fn every_directory_of_the_source_is_on_the_map() {
    let map = page("docs/ARCHITECTURE.md");
    for top in ["src", "src/control_plane", "src/data_plane", "src/policy", "src/protocol"] {
        for entry in fs::read_dir(root().join(top)).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let module = name.trim_end_matches(".rs");
            if !["lib", "main", "mod"].contains(&module) {
                let module = format!("`{top}/{module}");
                assert!(map.contains(&module), "docs/ARCHITECTURE.md does not mention {module}`");
            }
        }
    }
}

#[test]
fn every_key_that_a_page_names_exists() {
    let sections: BTreeSet<_> = KEYS.iter().filter_map(|key| key.path.split('.').next()).collect();
    let keys: BTreeSet<_> = KEYS.iter().map(|key| key.path.replace("[]", "")).collect();
    let mut named = 0;
    for name in PAGES {
        for word in quoted(&page(name)) {
            let key = word.split([':', ' ']).next().unwrap().trim_end_matches('*');
            let Some((section, _)) = key.split_once('.') else { continue };
            if sections.contains(section) {
                let plain = key.replace("[]", "");
                assert!(keys.contains(&plain), "{name} names the key {key}");
                named += 1;
            }
        }
    }
    assert!(named > 60, "only {named} keys found");
}

#[test]
fn every_metric_that_a_page_names_exists() {
    let known: BTreeSet<_> = definitions::ALL.iter().map(|metric| metric.name).collect();
    let mut named = 0;
    for name in PAGES {
        for word in quoted(&page(name)) {
            let metric = word.split(['{', ' ']).next().unwrap();
            let looks = ["_total", "_seconds"].iter().any(|end| metric.ends_with(end))
                || word.contains("{reason");
            if looks && !metric.contains(['(', '.', '/']) {
                assert!(known.contains(metric), "{name} names the metric {metric}");
                named += 1;
            }
        }
    }
    assert!(named > 20, "only {named} metrics found");
}

#[test]
fn every_link_leads_somewhere() {
    for name in PAGES {
        let text = page(name);
        for after in text.split("](").skip(1) {
            let target = after.split(')').next().unwrap();
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            if file.starts_with("http") {
                continue;
            }
            let path = match file {
                "" => root().join(name),
                _ => root().join(name).parent().unwrap().join(file),
            };
            assert!(path.exists(), "{name} links to {target}");
            if !anchor.is_empty() {
                let headings = fs::read_to_string(&path).unwrap();
                let slug = |line: &str| -> String {
                    let title = line.trim_start_matches('#').trim().to_lowercase();
                    let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
                    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
                };
                let found =
                    headings.lines().filter(|l| l.starts_with('#')).any(|l| slug(l) == anchor);
                assert!(found, "{name} links to {target}");
            }
        }
    }
}

#[test]
fn the_first_configuration_of_the_readme_works() {
    let text = page("README.md");
    let yaml = text.split("```yaml\n").nth(1).unwrap().split("```").next().unwrap();
    let environment: BTreeMap<String, String> = [
        ("PRODUCTS_ACCESS_KEY", "AKIAEXAMPLE"),
        ("REPORTS_ACCESS_KEY", "reports"),
        ("JWT_SECRET", "0123456789abcdef0123456789abcdef"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    let files: BTreeMap<PathBuf, Vec<u8>> =
        ["/run/secrets/products-key", "/run/secrets/reports-key"]
            .map(|path| (path.into(), b"secret\n".to_vec()))
            .into();
    match parse(yaml.as_bytes(), &environment, &files) {
        Ok(loaded) => assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings),
        Err(problems) => panic!("{problems}"),
    }
}

#[test]
fn every_reason_of_a_refusal_is_explained() {
    let text = page("docs/METRICS.md");
    let table = text.split_once("| auth_reason | reason").unwrap().1;
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let documented: BTreeSet<_> = rows.map(|row| row.split('|').nth(1).unwrap().trim()).collect();
    let known: BTreeSet<_> = DenialReason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(documented, known);
}

#[test]
fn the_exit_codes_are_those_of_the_program() {
    let text = page("docs/OPERATIONS.md");
    for (exit, meaning) in [
        (Exit::Clean, "clean stop"),
        (Exit::Refused, "configuration refused"),
        (Exit::Usage, "wrong usage"),
        (Exit::CouldNotStart, "could not start"),
    ] {
        let row = format!("| {} | {meaning}", exit.code());
        assert!(text.contains(&row), "{row}");
    }
}

#[test]
fn the_changelog_begins_with_this_version() {
    let text = page("docs/CHANGELOG.md");
    let newest = text.lines().find_map(|line| line.strip_prefix("## ")).unwrap();
    let version = newest.split_whitespace().next().unwrap();
    assert!(["Unreleased", env!("CARGO_PKG_VERSION")].contains(&version), "{newest}");
}

#[test]
fn the_licence_is_the_one_that_the_package_names() {
    assert_eq!(env!("CARGO_PKG_LICENSE"), "Apache-2.0");
    let text = page("LICENSE");
    assert!(text.trim_start().starts_with("Apache License"));
    assert!(text.contains("END OF TERMS AND CONDITIONS"));
}
