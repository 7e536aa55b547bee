//! `docs/TLS.md` against the program: its examples are loaded with real certificates.

use std::{collections::BTreeMap, path::PathBuf};

use yatagarasu::{config::parse, control_plane::tls, policy::auth::install_crypto};

use crate::page;

#[test]
fn every_example_makes_a_listener() {
    install_crypto();
    let mut examples = 0;
    for block in page("docs/TLS.md").split("```yaml\n").skip(1) {
        let yaml = block.split("```").next().unwrap();
        let made =
            rcgen::generate_simple_self_signed(vec!["files.example.com".to_owned()]).unwrap();
        let named = yaml.split([' ', '\n', ',', '}']).filter(|word| word.contains('/'));
        let mut files: BTreeMap<PathBuf, Vec<u8>> = BTreeMap::new();
        for name in named {
            let key = made.signing_key.serialize_pem();
            let is_key = [".key", "privkey.pem"].iter().any(|end| name.ends_with(end));
            let content = if is_key { key } else { made.cert.pem() };
            files.insert(name.into(), content.into_bytes());
        }
        let environment = BTreeMap::<String, String>::new();
        match parse(yaml.as_bytes(), &environment, &files) {
            Ok(loaded) => {
                assert!(loaded.warnings.is_empty(), "{:?}\n{yaml}", loaded.warnings);
                assert!(loaded.settings.server.tls.is_some(), "{yaml}");
                tls::check(&loaded.settings.server).unwrap_or_else(|e| panic!("{e}\n{yaml}"));
            }
            Err(problems) => panic!("{problems}\n{yaml}"),
        }
        examples += 1;
    }
    assert!(examples >= 4, "only {examples} examples found");
}
