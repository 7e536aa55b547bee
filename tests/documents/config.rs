//! `docs/CONFIG.md` against the code: its table is the key table, its examples work.

use std::{collections::BTreeMap, env, fmt::Write as _, fs};

use yatagarasu::{
    config::{
        CONFIG_BYTES_MAX, DEPTH_MAX, KEYS, NAMED_FILE_BYTES_MAX, VALUES_MAX,
        keys::{Applies, Kind, Preset},
        parse,
    },
    control_plane::files::FilesBeside,
};

use crate::{page, root};

const PAGE: &str = "docs/CONFIG.md";

fn expected_table() -> String {
    let mut table = String::from(
        "| Key | Type | Default | Unit | Applies | Meaning |\n|---|---|---|---|---|---|\n",
    );
    for key in KEYS.iter() {
        let default = match key.default {
            Preset::Required => "required".to_owned(),
            Preset::Is("") => "empty".to_owned(),
            Preset::Is(text) => format!("`{text}`"),
            Preset::Otherwise(words) => words.to_owned(),
        };
        let applies = match (key.kind, key.applies) {
            (Kind::Section(_), _) => "",
            (_, Applies::Hot) => "hot",
            (_, Applies::Restart) => "restart",
        };
        writeln!(
            table,
            "| `{}` | {} | {default} | {} | {applies} | {} |",
            key.path,
            key.kind,
            key.kind.unit(),
            key.about()
        )
        .unwrap();
    }
    table
}

/// The lines of the page's table of keys.
#[expect(clippy::format_collect, reason = "a short text may be built plainly")]
fn table_of(page: &str) -> String {
    page.lines()
        .skip_while(|line| !line.starts_with("| Key |"))
        .take_while(|line| line.starts_with('|'))
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn the_table_lists_every_key_as_the_code_knows_it() {
    let page = page(PAGE);
    let (found, expected) = (table_of(&page), expected_table());
    if env::var_os("BLESS").is_some() {
        let found = if found.is_empty() { "TABLE\n" } else { &found };
        fs::write(root().join(PAGE), page.replace(found, &expected)).unwrap();
        return;
    }
    for (found, expected) in found.lines().zip(expected.lines()) {
        assert_eq!(found, expected, "docs/CONFIG.md drifted; BLESS=1 rewrites its table");
    }
    assert_eq!(found.lines().count(), expected.lines().count(), "a row is missing or left over");
}

#[test]
fn every_example_works_without_warnings() {
    let page = page(PAGE);
    let environment = BTreeMap::from(
        [("MINIO_SECRET_KEY", "minio-secret"), ("JWT_SECRET", "0123456789abcdef0123456789abcdef")]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
    );
    // The examples name files in `files/`, which are the fixtures.
    let beside = FilesBeside::new(&root().join("tests/config"));
    let mut examples = 0;
    let page = [page, crate::page("docs/PROXIES.md"), crate::page("docs/COMPRESSION.md")].concat();
    for block in page.split("```yaml\n").skip(1) {
        let yaml = block.split("```").next().unwrap();
        match parse(yaml.as_bytes(), &environment, &beside) {
            Ok(loaded) => assert!(loaded.warnings.is_empty(), "{:?}\n{yaml}", loaded.warnings),
            Err(problems) => panic!("{problems}\n{yaml}"),
        }
        examples += 1;
    }
    assert!(examples >= 5, "only {examples} examples found");
}

#[test]
fn the_page_quotes_the_bounds_that_hold() {
    let page = page(PAGE);
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(VALUES_MAX, 1_000_000);
    let sentence = format!(
        "Bounds: {} MiB, 1,000,000 values with aliases counted each time, {DEPTH_MAX} levels deep. \
         A file that a key names may have {} MiB.",
        CONFIG_BYTES_MAX >> 20,
        NAMED_FILE_BYTES_MAX >> 20
    );
    assert!(page.contains(&sentence), "{sentence}");
}
