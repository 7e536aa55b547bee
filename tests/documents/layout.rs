//! Layout of the documents: prose ends at a column that an editor and a review can show.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::{page, root};

/// Columns of a line of prose.
const COLUMNS_MAX: usize = 100;

/// All documents of the package, by their path from its directory.
fn documents() -> Vec<String> {
    fn below(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                below(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                found.push(path);
            }
        }
    }
    let mut found = vec![root().join("README.md")];
    for directory in ["bench", "docs", "loadtest", "tests"] {
        below(&root().join(directory), &mut found);
    }
    let name = |path: &PathBuf| path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
    found.iter().map(name).collect()
}

/// Numbers of the lines of prose that are too long. Tables, code and images cannot be wrapped.
fn too_long(text: &str) -> Vec<usize> {
    let mut in_code = false;
    let mut found = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code
            && line.chars().count() > COLUMNS_MAX
            && !["|", "    ", "!["].iter().any(|start| line.starts_with(start))
        {
            found.push(number);
        }
    }
    found
}

#[test]
fn prose_is_wrapped() {
    let documents = documents();
    assert!(documents.len() >= 14, "only {documents:?} found");
    let long: Vec<_> = documents
        .iter()
        .flat_map(|name| {
            too_long(&page(name)).into_iter().map(move |line| format!("{name}:{line}"))
        })
        .collect();
    assert!(long.is_empty(), "wrap at {COLUMNS_MAX} columns: {long:?}");
}

#[test]
fn no_merge_is_left_half_done() {
    for name in documents() {
        for line in page(&name).lines() {
            let marker = ["<<<<<<<", "=======", ">>>>>>>"].iter().any(|m| line.starts_with(m));
            assert!(!marker, "{name}: {line}");
        }
    }
}

#[test]
fn only_prose_is_measured() {
    let long = "word ".repeat(30);
    let text =
        format!("{long}\n| {long}\n```sh\n{long}\n```\n- {long}\n\n    {long}\n![{long}](x)\n");
    assert_eq!(too_long(&text), [1, 6]);
}
