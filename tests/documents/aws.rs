//! `docs/AWS.md`: every file in it is what it says it is.

use std::collections::BTreeMap;

use serde_json::Value;
use yatagarasu::config::parse;

use crate::page;

/// Blocks of the page in one language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let open = format!("```{language}\n");
    page.split(&open).skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_configuration_works_without_warnings() {
    let page = page("docs/AWS.md");
    let no_files: BTreeMap<std::path::PathBuf, Vec<u8>> = BTreeMap::new();
    let no_variables: BTreeMap<String, String> = BTreeMap::new();
    let (mut configurations, mut others) = (0, 0);
    for yaml in blocks(&page, "yaml") {
        if yaml.starts_with("apiVersion:") {
            let manifest: Value = serde_yaml::from_str(&yaml).unwrap();
            assert_eq!(manifest["kind"], "ServiceAccount");
            others += 1;
            continue;
        }
        match parse(yaml.as_bytes(), &no_variables, &no_files) {
            Ok(loaded) => {
                assert!(loaded.warnings.is_empty(), "{:?}\n{yaml}", loaded.warnings);
                assert!(!loaded.settings.sources().is_empty(), "{yaml}");
            }
            Err(problems) => panic!("{problems}\n{yaml}"),
        }
        configurations += 1;
    }
    assert_eq!((configurations, others), (8, 1));
}

#[test]
fn every_policy_is_a_policy() {
    let policies = blocks(&page("docs/AWS.md"), "json");
    assert_eq!(policies.len(), 2);
    for policy in policies {
        let policy: Value = serde_json::from_str(&policy).unwrap();
        assert_eq!(policy["Version"], "2012-10-17");
        assert!(policy["Statement"].as_array().is_some_and(|all| !all.is_empty()));
    }
}
