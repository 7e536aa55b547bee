//! What docs/deploy holds, against the program.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use yatagarasu::config::parse;

use crate::{page, root};

#[test]
fn the_example_configuration_lacks_only_its_secrets() {
    let text = page("docs/deploy/config.yaml");
    let files: BTreeMap<PathBuf, Vec<u8>> = ["products-id", "products-key"]
        .map(|name| (PathBuf::from("/etc/yatagarasu/secrets").join(name), b"AKIAEXAMPLE".to_vec()))
        .into();
    match parse(text.as_bytes(), &BTreeMap::new(), &files) {
        Ok(loaded) => assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings),
        Err(problems) => panic!("{problems}"),
    }
    assert!(parse(text.as_bytes(), &BTreeMap::new(), &BTreeMap::new()).is_err());
}

/// Sources of the Debian package, as Cargo.toml lists them.
fn assets() -> BTreeSet<String> {
    let manifest = page("Cargo.toml");
    let list = manifest.split_once("\nassets = [").expect("the assets").1;
    let list = list.split_once("\n]").expect("their end").0;
    list.lines().filter_map(|line| Some(line.split('"').nth(1)?.to_owned())).collect()
}

#[test]
fn the_package_has_every_file_of_the_service() {
    let assets = assets();
    let built = ["yatagarasu", "yatagarasu.8", "completions/yatagarasu", "completions/_yatagarasu"];
    for name in built {
        assert!(assets.contains(&format!("target/deploy/{name}")), "{name}");
    }
    for entry in root().join("docs/deploy/systemd").read_dir().unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(assets.contains(&format!("docs/deploy/systemd/{name}")), "{name}");
    }
}

/// The commands of the service are there without a package that is not essential, and the logs are
/// rotated with words that systemd 240 knows.
#[test]
fn the_service_needs_no_newer_or_further_tools() {
    for name in ["yatagarasu.service", "credentials.conf"] {
        let unit = page(&format!("docs/deploy/systemd/{name}"));
        assert!(!unit.contains("/bin/kill"), "{name}: /bin/kill is of procps");
    }
    let rotation = page("docs/deploy/logrotate");
    assert!(rotation.contains("--kill-who=main") && !rotation.contains("/dev/null"), "{rotation}");
    let modes = page("docs/deploy/systemd/tmpfiles.conf");
    let globs: Vec<&str> = modes.lines().filter(|line| line.contains('*')).collect();
    assert!(globs.is_empty(), "a mode of files would be one of directories too: {globs:?}");
}

#[test]
fn the_page_runs_the_image_of_this_version() {
    let image = concat!(" yatagarasu:", env!("CARGO_PKG_VERSION"), "\n");
    assert!(page("docs/DEPLOY.md").contains(image), "{image}");
}
