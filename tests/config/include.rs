//! Included files: bounds over all of them together, and what counts as a change.

use std::{collections::BTreeMap, path::PathBuf};

use yatagarasu::config::{
    CONFIG_BYTES_MAX, Difference, INCLUDED_FILES_MAX, Problems, Settings, VALUES_MAX, check, diff,
    parse,
};

use super::environment;

type Files = BTreeMap<PathBuf, Vec<u8>>;

fn bucket(name: &str) -> String {
    format!(
        "  - {{ name: {name}, path_prefix: /{name}, \
         s3: {{ bucket: abc, region: r, anonymous: true }} }}\n"
    )
}

fn file(names: &[&str]) -> String {
    let buckets: String = names.iter().map(|name| bucket(name)).collect();
    format!("buckets:\n{buckets}")
}

fn files(all: &[(&str, &str)]) -> Files {
    all.iter().map(|(name, text)| (PathBuf::from(name), text.as_bytes().to_vec())).collect()
}

fn settings(main: &str, files: &Files) -> Settings {
    parse(main.as_bytes(), &environment(), files)
        .map_err(|found| found.to_string())
        .unwrap()
        .settings
}

fn problems(main: &str, files: &Files) -> Problems {
    check(main.as_bytes(), &environment(), files)
}

#[test]
fn buckets_count_and_not_the_files_that_they_stand_in() {
    let whole = settings(&file(&["a", "b", "c"]), &Files::new());
    let parts = files(&[("x", &file(&["b", "c"])), ("y", &file(&["c"])), ("z", &file(&["b"]))]);
    for main in ["include: x\n", "include: [y, z]\n", "include: [x, x]\n"] {
        let split = settings(&format!("{main}{}", file(&["a"])), &parts);
        assert_eq!(diff(&whole, &split), Difference::default(), "{main}");
        assert_eq!(split.buckets.len(), 3);
    }
    let without = settings(&file(&["a", "b"]), &Files::new());
    let gone = diff(&whole, &without);
    assert_eq!((gone.applied, gone.hot_changed), (vec!["buckets[c]".to_owned()], true));
}

#[test]
fn what_is_found_later_has_its_file_and_line_too() {
    let parts = files(&[("x", &file(&["b", "c"])), ("y", "buckets: []\n"), ("z", &file(&["d"]))]);
    let main = format!("include: [x, y, z]\n{}", file(&["a"]));
    let places = parse(main.as_bytes(), &environment(), &parts).unwrap().places;
    let at = |bucket| places.s3_problem(bucket, "bad".to_owned()).to_string();
    let expected = [
        "line 3: buckets[0].s3: bad",
        "x:2: buckets[0].s3: bad",
        "x:3: buckets[1].s3: bad",
        "z:2: buckets[0].s3: bad",
    ];
    assert_eq!([0, 1, 2, 3].map(at), expected);
}

#[test]
fn all_files_together_are_bounded_as_one_would_be() {
    // Bytes.
    let half = format!("{}#{}\n", file(&["b"]), "-".repeat(CONFIG_BYTES_MAX / 2));
    let two = files(&[("x", &half), ("y", &half.replace('b', "c"))]);
    assert!(problems("include: x\n", &two).errors.is_empty());
    let found = problems("include: [x, y]\n", &two);
    assert_eq!(found.errors[0].path, "include[1]", "{found}");
    // Values.
    let many = format!("{}  - [{}]\n", file(&["b"]), "1,".repeat(VALUES_MAX / 2));
    let two = files(&[("x", &many), ("y", &many)]);
    let found = problems("include: [x, y]\n", &two).to_string();
    assert!(found.contains("y:3: the file holds more than 1000000 values"), "{found}");
    // Files.
    let names: Vec<String> = (0..=INCLUDED_FILES_MAX).map(|number| format!("f{number}")).collect();
    let all: Files = names.iter().map(|name| (name.into(), file(&[name]).into_bytes())).collect();
    let main = format!("include: [{}]\n", names.join(", "));
    let found = problems(&main, &all);
    assert_eq!(found.errors[0].path, "include[1000]", "{found}");
    assert!(found.errors[0].message.contains("more than 1000"), "{found}");
}
