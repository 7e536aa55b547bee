//! Good files made bad in hundreds of ways: each is refused with at least one problem, and none
//! makes the process panic, hang or take much memory.

use std::fs::{self, File};

use proptest::prelude::*;
use serde_yaml::Value;
use yatagarasu::{
    config::{
        CONFIG_BYTES_MAX, DEPTH_MAX, KEYS, Problems, check, keys::Kind, parse,
        problem::PROBLEMS_MAX,
    },
    control_plane::files::FilesBeside,
};

use super::{
    changes::{at as key_at, full},
    directory, environment, report,
};

fn checked(bytes: &[u8]) -> Problems {
    check(bytes, &environment(), &FilesBeside::new(&directory("valid")))
}

/// Paths to every value, as keys and indexes.
fn places(value: &Value, path: &mut Vec<Value>, all: &mut Vec<Vec<Value>>) {
    all.push(path.clone());
    let children: Vec<(Value, &Value)> = match value {
        Value::Mapping(mapping) => mapping.iter().map(|(k, v)| (k.clone(), v)).collect(),
        Value::Sequence(items) => items.iter().enumerate().map(|(i, v)| (i.into(), v)).collect(),
        _ => Vec::new(),
    };
    for (step, child) in children {
        path.push(step);
        places(child, path, all);
        path.pop();
    }
}

fn at<'v>(value: &'v mut Value, path: &[Value]) -> &'v mut Value {
    path.iter().fold(value, |value, step| match step {
        Value::Number(index) => &mut value[usize::try_from(index.as_u64().unwrap()).unwrap()],
        key => value.get_mut(key).unwrap(),
    })
}

#[test]
fn every_value_replaced_by_one_of_a_wrong_kind_is_refused_with_its_line() {
    let good = full();
    let mut all = Vec::new();
    places(&good, &mut Vec::new(), &mut all);
    let mut refused = 0;
    for path in &all {
        // The value of a claim rule may be nearly anything.
        if path.iter().any(|step| step == "value") {
            continue;
        }
        for bad in ["[[]]", "{ no_such_key: 1 }", "\"${NO_SUCH_VARIABLE}\""] {
            let mut mutated = good.clone();
            *at(&mut mutated, path) = serde_yaml::from_str(bad).unwrap();
            let text = serde_yaml::to_string(&mutated).unwrap();
            let problems = checked(text.as_bytes());
            assert!(!problems.errors.is_empty(), "{path:?} = {bad} is accepted");
            assert!(problems.errors.iter().all(|problem| problem.line.is_some()), "{problems}");
            refused += 1;
        }
    }
    assert!(refused >= 100, "only {refused} files");
}

/// Null would say "not checked" without a word; every list of the key table is tried, in the file
/// that has them all, alone and behind what is there.
#[test]
fn null_in_any_list_is_refused_at_its_place() {
    let mut tried = 0;
    for key in KEYS.iter().filter(|key| matches!(key.kind, Kind::List(_) | Kind::Texts)) {
        for alone in [true, false] {
            let mut mutated = full();
            let list = key_at(&mut mutated, &key.path).unwrap_or_else(|| panic!("{}", key.path));
            let items = list.as_sequence_mut().unwrap_or_else(|| panic!("{}", key.path));
            if alone {
                items.clear();
            }
            items.push(Value::Null);
            let place = format!("{}[{}]", key.path.replace("[]", "[0]"), items.len() - 1);
            let problems = checked(serde_yaml::to_string(&mutated).unwrap().as_bytes());
            let told = problems
                .errors
                .iter()
                .any(|problem| problem.path == place && problem.message.starts_with("is null"));
            assert!(told, "{place}: {problems}");
            tried += 1;
        }
    }
    assert!(tried >= 14, "only {tried} lists");

    // The value of a claim rule may be a list, or hold one.
    for value in ["[null]", "[1, ~]", "{ a: [null] }", "[[null]]"] {
        let mut mutated = full();
        *key_at(&mut mutated, "jwt.claims[].value").unwrap() = serde_yaml::from_str(value).unwrap();
        let problems = checked(serde_yaml::to_string(&mutated).unwrap().as_bytes());
        assert!(problems.errors.iter().any(|p| p.message.starts_with("is null")), "{value}");
    }
}

#[test]
fn every_mapping_with_an_unknown_key_is_refused_at_that_key() {
    let good = full();
    let mut all = Vec::new();
    places(&good, &mut Vec::new(), &mut all);
    // Their keys are names of header fields.
    let is_free = |path: &[Value]| {
        matches!(path, [.., section, key]
            if section == "headers" && (key == "set" || key == "add"))
    };
    let mut refused = 0;
    for path in all.iter().filter(|path| !is_free(path)) {
        let mut mutated = good.clone();
        let Value::Mapping(mapping) = at(&mut mutated, path) else { continue };
        mapping.insert("no_such_key".into(), "hunter2".into());
        let text = serde_yaml::to_string(&mutated).unwrap();
        let problems = checked(text.as_bytes());
        let line = text.lines().position(|line| line.contains("no_such_key")).unwrap() + 1;
        assert_eq!(problems.errors.len(), 1, "{problems}");
        assert_eq!(problems.errors[0].line, Some(line), "{problems}");
        assert!(problems.errors[0].path.ends_with("no_such_key"), "{problems}");
        assert!(!problems.to_string().contains("hunter2"), "{problems}");
        refused += 1;
    }
    assert!(refused >= 15, "only {refused} mappings");
}

#[test]
fn every_key_written_twice_is_refused_at_its_second_line() {
    let text = fs::read_to_string(directory("valid").join("full.yaml")).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let mut refused = 0;
    for (index, line) in lines.iter().enumerate() {
        let key = line.trim_start().trim_start_matches("- ");
        // Only keys with a value on their own line can be repeated as a line.
        let Some((_, value)) = key.split_once(": ") else { continue };
        if line.trim_start().starts_with(['-', '#']) || value.starts_with('#') {
            continue;
        }
        let mut doubled = lines.clone();
        doubled.insert(index + 1, line);
        let problems = checked(doubled.join("\n").as_bytes());
        let first = problems.errors.first().unwrap_or_else(|| panic!("{line} is accepted twice"));
        assert_eq!(first.line, Some(index + 2), "{problems}");
        assert!(first.message.starts_with("duplicate key"), "{problems}");
        refused += 1;
    }
    assert!(refused >= 40, "only {refused} keys");
}

#[test]
fn a_file_cut_anywhere_never_panics() {
    let text = fs::read(directory("valid").join("full.yaml")).unwrap();
    let first_key = text.windows(15).position(|window| window == b"secret_key_file").unwrap();
    for end in 0..text.len() {
        let problems = checked(&text[..end]);
        // A file that ends after a whole bucket is a good one; before that it is not.
        assert!(end > first_key || !problems.errors.is_empty(), "{end} bytes are accepted");
    }
}

/// Characters that mean something in YAML.
const SYNTAX: &[u8] = b"{}[]&*:-?!|>'\"%@`#,\n \t$";

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_bytes_never_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4_u8), 1..8)
    ) {
        let mut bytes = fs::read(directory("valid").join("full.yaml")).unwrap();
        for (place, byte, how) in damage {
            let place = place.index(bytes.len());
            match how {
                0 => bytes[place] = byte,
                1 => bytes.insert(place, byte),
                2 => { bytes.remove(place); }
                _ => bytes.insert(place, SYNTAX[usize::from(byte) % SYNTAX.len()]),
            }
        }
        let report = checked(&bytes).to_string();
        prop_assert!(!report.contains("of-the-fixtures"));
    }

    #[test]
    fn strange_yaml_never_panics(text in "[ \\n\\t{}\\[\\]&*:?!|>'\"%@`#,a-b0-9$~.<-]{0,200}") {
        checked(text.as_bytes());
    }

    /// Where the other YAML reader accepts a simple document, both see the same buckets.
    #[test]
    fn names_mean_what_another_yaml_reader_says(name in "[ -~]{1,20}") {
        let text = format!(
            "buckets:\n  - path_prefix: /a\n    s3: {{ bucket: abc, region: r, anonymous: true }}\n    name: {name}\n"
        );
        let theirs = serde_yaml::from_str::<Value>(&text);
        let files = FilesBeside::new(&directory("valid"));
        let ours = parse(text.as_bytes(), &environment(), &files);
        // An anchor may hold a colon (YAML 1.2.2, 6.9.2), where the other reader ends it.
        let is_compared = !name.contains('$') && !name.trim_start().starts_with('&');
        if let (Ok(ours), Ok(theirs)) = (ours, theirs) && is_compared {
            let theirs = theirs["buckets"][0]["name"].as_str();
            prop_assert_eq!(Some(&*ours.settings.buckets[0].name), theirs);
        }
    }
}

#[test]
fn bombs_are_refused_quickly_and_by_name() {
    let bomb = |open: &str, close: &str, levels: usize| {
        format!("server: {}1{}\n", open.repeat(levels), close.repeat(levels))
    };
    for text in [
        bomb("[", "]", DEPTH_MAX),
        bomb("{ a: ", " }", DEPTH_MAX),
        bomb("[", "]", 200),
        bomb("[", "]", 100_000),
        (0..100_000).fold(String::new(), |text, _| text + "- "),
        (0..5_000).map(|level| format!("{}a:\n", " ".repeat(level))).collect(),
    ] {
        let problems = checked(text.as_bytes());
        assert_eq!(problems.errors.len(), 1, "{problems}");
        let shown = problems.to_string();
        assert!(shown.contains("nested deeper") || shown.contains("nested too deep"), "{shown}");
    }

    // Depth that only aliases reach.
    let levels: String = (1..=40).map(|n| format!("k{n}: &a{n} [*a{}]\n", n - 1)).collect();
    let problems = checked(format!("k0: &a0 x\n{levels}").as_bytes());
    assert!(problems.to_string().contains("nested deeper"), "{problems}");
}

#[test]
fn a_flood_of_mistakes_is_reported_within_bounds() {
    let unknown: String = (0..200_000).map(|n| format!("k{n}: 1\n")).collect();
    let problems = checked(unknown.as_bytes());
    assert_eq!(problems.errors.len(), PROBLEMS_MAX + 1);
    let last = &problems.errors[PROBLEMS_MAX].message;
    assert!(last.ends_with("more problems are not shown"), "{last}");

    let repeated = "k: 1\n".repeat(200_000);
    assert_eq!(checked(repeated.as_bytes()).errors.len(), PROBLEMS_MAX + 1);

    let many = "[,]\n".repeat(10) + &"- a\n".repeat(1_100_000);
    assert!(!checked(many.as_bytes()).errors.is_empty());
    let values = format!("buckets: [{}]", "1,".repeat(1_100_000));
    let problems = checked(values.as_bytes());
    assert!(problems.to_string().contains("more than 1000000 values"), "{problems}");
}

#[test]
fn what_is_no_readable_file_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let shown = report(directory.path()).to_string();
    assert!(shown.contains("is a directory"), "{shown}");
    let shown = report(&directory.path().join("none.yaml")).to_string();
    assert!(shown.contains("none.yaml does not exist"), "{shown}");
    let huge = directory.path().join("huge.yaml");
    File::create(&huge).unwrap().set_len(100 << 20).unwrap();
    let shown = report(&huge).to_string();
    assert!(shown.contains(&format!("is larger than {CONFIG_BYTES_MAX} bytes")), "{shown}");
}
