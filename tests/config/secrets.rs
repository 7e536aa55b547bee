//! Whatever is said of a file, the secret is not.

use std::collections::BTreeMap;

use yatagarasu::{
    config::{Difference, KEYS, Settings, check, diff, keys::Kind, parse},
    control_plane::files::FilesBeside,
};

use super::{
    changes::{at, full},
    directory,
    slips::{PLAIN_SECRET, SECRET, bucket, shows, slips},
};

#[test]
fn no_slip_of_the_pen_shows_a_secret() {
    let mut failures = Vec::new();
    for secret in [SECRET, PLAIN_SECRET] {
        let environment = BTreeMap::from([("S".to_owned(), secret.to_owned())]);
        let slips = slips(secret);
        assert!(slips.len() >= 100, "only {} slips", slips.len());
        for (slip, text) in slips {
            let files = FilesBeside::new(&directory("valid"));
            let report = check(text.as_bytes(), &environment, &files).to_string();
            if report.is_empty() {
                failures.push(format!("{slip}: nothing is said of\n{text}"));
            }
            if shows(&report, secret) {
                failures.push(format!("{slip}: {report}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// A variable that stands where another one was meant: no key tells what it holds.
#[test]
fn no_key_echoes_what_came_from_a_variable() {
    let files = FilesBeside::new(&directory("valid"));
    let (mut refused, mut failures) = (0, Vec::new());
    for secret in [SECRET, "hunter2-hunter2", "-2222222222"] {
        let mut environment = super::environment();
        environment.insert("S".to_owned(), secret.to_owned());
        for key in KEYS.iter().filter(|key| !matches!(key.kind, Kind::Section(_) | Kind::List(_))) {
            for form in ["${S}", "/${S}", "${S}/", "http://${S}@x", "x ${S} x", "${S}${S}${S}"] {
                let mut file = full();
                let Some(value) = at(&mut file, &key.path) else { continue };
                *value = form.into();
                let text = serde_yaml::to_string(&file).unwrap();
                let report = check(text.as_bytes(), &environment, &files);
                refused += usize::from(report.refuse());
                if shows(&report.to_string(), secret) {
                    failures.push(format!("{} = {form}: {report}", key.path));
                }
            }
        }
    }
    assert!(refused >= 300, "only {refused} files are refused");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn no_difference_shows_a_secret() {
    let settings = |secret: &str| -> Settings {
        let text = bucket(&format!("access_key: A\nsecret_key: {secret}"));
        let files = FilesBeside::new(&directory("valid"));
        parse(text.as_bytes(), &BTreeMap::new(), &files).map(|loaded| loaded.settings).unwrap()
    };
    let Difference { applied, .. } = diff(&settings(SECRET), &settings(PLAIN_SECRET));
    assert_eq!(applied, ["buckets[a].s3.secret_key"]);
}
