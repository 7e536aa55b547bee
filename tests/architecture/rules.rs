//! The rules, each a function from files to violations.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Source, find_word, has_word};

/// Imports between modules of one layer that are meant to be: from, to, why.
pub(crate) const SAME_LAYER: &[(&str, &str, &str)] =
    &[("app", "cli", "the application runs with the parsed command line")];

/// A circle of files is a violation.
pub(crate) fn no_circles(found: &[Vec<String>]) -> Vec<String> {
    let told = |circle: &Vec<String>| {
        format!("files that use each other in a circle: {}", circle.join(", "))
    };
    found.iter().map(told).collect()
}

/// Inside a plane imports point to lower layers of its table only.
pub(crate) fn layers_point_downward(
    plane: &str,
    graph: &BTreeMap<String, BTreeSet<String>>,
    layers: &BTreeMap<String, u32>,
) -> Vec<String> {
    let prefix = format!("src/{plane}/");
    let module = |path: &str| {
        let name =
            path.strip_prefix(&prefix)?.split('/').next()?.trim_end_matches(".rs").to_owned();
        Some(name).filter(|name| name != "mod")
    };
    let mut violations = Vec::new();
    for (file, used) in graph {
        let Some(from) = module(file) else { continue };
        let Some(from_layer) = layers.get(&from) else {
            violations.push(format!("{file}: `{from}` is not in the table of {prefix}mod.rs"));
            continue;
        };
        for path in used {
            let Some(to) = module(path).filter(|to| *to != from) else { continue };
            let Some(to_layer) = layers.get(&to) else { continue };
            if to_layer >= from_layer {
                violations
                    .push(format!("{file} (layer {from_layer}) uses {path} (layer {to_layer})"));
            }
        }
    }
    violations
}

/// Layers of the top-level modules, from the table in the crate's documentation.
pub(crate) fn layers(lib: &str) -> BTreeMap<String, u32> {
    let mut layers = BTreeMap::new();
    for line in lib.lines().filter_map(|line| line.strip_prefix("//! |")) {
        let mut cells = line.split('|').map(str::trim);
        let Some(Ok(layer)) = cells.next().map(str::parse::<u32>) else { continue };
        let modules = cells.next().unwrap_or_default();
        for module in modules.split(',').map(|name| name.trim().trim_matches('`')) {
            layers.insert(module.to_owned(), layer);
        }
    }
    layers
}

/// Imports point to lower layers only; modules of one layer do not use each other.
pub(crate) fn imports_point_downward(
    sources: &[Source],
    layers: &BTreeMap<String, u32>,
    same_layer: &[(&str, &str, &str)],
) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources {
        let Some(from) = source.top() else { continue };
        let Some(from_layer) = layers.get(from) else {
            violations.push(format!("{}: `{from}` is not in the layer table", source.path));
            continue;
        };
        for path in source.paths() {
            let Some(to) = path.strip_prefix("crate::").and_then(|rest| rest.split("::").next())
            else {
                continue;
            };
            let Some(to_layer) = layers.get(to).filter(|_| to != from) else { continue };
            let meant = same_layer.iter().any(|(a, b, _)| (*a, *b) == (from, to));
            if to_layer > from_layer || (to_layer == from_layer && !meant) {
                let path = path.as_str();
                violations.push(format!(
                    "{}: layer {from_layer} `{from}` names `{path}` of layer {to_layer}",
                    source.path
                ));
            }
        }
    }
    violations
}

/// Only these directories may use these words.
pub(crate) fn only_in(places: &[&str], words: &[&str], sources: &[Source]) -> Vec<String> {
    let outside = sources.iter().filter(|source| !source.is_in(places));
    outside.flat_map(|source| uses(source, words)).collect()
}

/// These directories may not use these words.
pub(crate) fn never_in(places: &[&str], words: &[&str], sources: &[Source]) -> Vec<String> {
    let inside = sources.iter().filter(|source| source.is_in(places));
    inside.flat_map(|source| uses(source, words)).collect()
}

fn uses(source: &Source, words: &[&str]) -> Vec<String> {
    let mut violations = Vec::new();
    for word in words {
        for line in source.lines_with(word) {
            violations.push(format!("{}:{line}: {word}", source.path));
        }
    }
    violations
}

/// These directories may not import paths with these prefixes.
pub(crate) fn never_imported_in(
    places: &[&str],
    prefixes: &[&str],
    sources: &[Source],
) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources.iter().filter(|source| source.is_in(places)) {
        for path in source.paths() {
            if prefixes.iter().any(|prefix| path.starts_with(prefix)) {
                violations.push(format!("{}: imports {path}", source.path));
            }
        }
    }
    violations
}

/// A secret can be shown by nothing but the one method that says so.
pub(crate) fn secrets_stay_hidden(sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources {
        let joined = one_line(&source.code);
        for ability in ["Display", "Serialize", "ToString", "Deref", "AsRef<[u8]>", "Borrow<[u8]>"]
        {
            for target in ["Secret", "model::Secret", "crate::model::Secret"] {
                if has_word(&joined, &format!("{ability} for {target} {{")) {
                    violations.push(format!("{}: {ability} for Secret", source.path));
                }
            }
        }
        if let Some(at) = find_word(&joined, "struct Secret") {
            let from = joined[..at].rfind(['}', ';']).map_or(0, |end| end + 1);
            for ability in ["Serialize", "Debug", "Display"] {
                if has_word(&joined[from..at], ability) {
                    violations.push(format!("{}: Secret derives {ability}", source.path));
                }
            }
            let body = &joined[at..joined[at..].find(['}', ';']).map_or(joined.len(), |e| at + e)];
            if has_word(body, "pub") {
                violations.push(format!("{}: Secret has a public field", source.path));
            }
        }
    }
    violations
}

/// A `Permit` comes into being in `policy/auth` only.
pub(crate) fn permits_are_earned(sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    let mut definitions = 0;
    for source in sources {
        let inside = source.is_in(&["policy/auth"]);
        let joined = one_line(&source.code);
        if let Some(at) = find_word(&joined, "struct Permit") {
            definitions += 1;
            if !inside {
                violations.push(format!("{}: Permit is defined outside policy/auth", source.path));
            }
            let from = joined[..at].rfind(['}', ';']).map_or(0, |end| end + 1);
            for ability in ["Default", "Deserialize"] {
                if has_word(&joined[from..at], ability) {
                    violations.push(format!("{}: Permit derives {ability}", source.path));
                }
            }
            if has_word(&joined[at..], "pub")
                && joined[at..].find("pub") < joined[at..].find(['}', ';'])
            {
                violations.push(format!("{}: Permit has a public field", source.path));
            }
        }
        if !inside {
            for made in ["Permit {", "Permit (", "Permit("] {
                let constructs = joined.match_indices(made).any(|(at, _)| {
                    let before = joined[..at].trim_end();
                    !["->", "struct", "for", "impl"].iter().any(|word| before.ends_with(word))
                });
                if constructs {
                    violations.push(format!("{}: makes a Permit", source.path));
                }
            }
        }
        for (at, _) in joined.match_indices("for Permit") {
            let header = &joined[joined[..at].rfind("impl").unwrap_or(0)..at];
            if ["Default", "From", "TryFrom"].iter().any(|ability| has_word(header, ability)) {
                violations.push(format!("{}: {header}for Permit", source.path));
            }
        }
        for block in source.inherent_impls("Permit") {
            violations.extend(
                public_constructors(block)
                    .iter()
                    .map(|name| format!("{}: Permit::{name} is a public constructor", source.path)),
            );
        }
    }
    if definitions != 1 {
        violations.push(format!("{definitions} definitions of `struct Permit` instead of one"));
    }
    violations
}

/// Names of functions visible outside that take no receiver.
fn public_constructors(block: &str) -> Vec<String> {
    let joined = one_line(block);
    let mut names = Vec::new();
    for visible in ["pub fn ", "pub const fn ", "pub(crate) fn ", "pub(crate) const fn "] {
        for (at, _) in joined.match_indices(visible) {
            let rest = &joined[at + visible.len()..];
            let (name, arguments) = rest.split_once('(').unwrap_or((rest, ""));
            let first = arguments.split([',', ')']).next().unwrap_or_default();
            if !has_word(first, "self") {
                names.push(name.to_owned());
            }
        }
    }
    names
}

/// Words that say that something is unfinished, anywhere in a text.
pub(crate) fn nothing_is_left_to_do(sources: &[Source]) -> Vec<String> {
    // Written in halves so that this file does not find itself.
    let words =
        [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), concat!("HA", "CK")];
    let mut violations = Vec::new();
    for source in sources {
        for (at, line) in source.text.lines().enumerate() {
            if words.iter().any(|word| has_word(line, word)) {
                violations.push(format!("{}:{}: {}", source.path, at + 1, line.trim()));
            }
        }
    }
    violations
}

/// Values in lines of the log are words: `Debug` is for developers, and its form is nobody's
/// promise.
pub(crate) fn lines_of_the_log_have_no_debug_text(sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for Source { path, text, code } in sources {
        let text: Vec<_> = text.lines().collect();
        for level in ["error!(", "warn!(", "info!(", "debug!(", "trace!("] {
            let call = format!("tracing::{level}");
            for (at, _) in code.match_indices(&call) {
                let inside = parenthesized(&code[at + call.len()..]);
                let first = code[..at].matches('\n').count();
                let lines = &text[first..=first + inside.matches('\n').count()];
                let is_debug = |(at, _): (usize, &str)| {
                    inside[..at].is_empty() || inside[..at].trim_end().ends_with([',', '='])
                };
                let has_debug = inside.match_indices('?').any(is_debug);
                if has_debug || lines.iter().any(|line| line.contains(":?}")) {
                    violations.push(format!("{path}:{}: {}", first + 1, lines[0].trim()));
                }
            }
        }
    }
    violations
}

/// The text up to the parenthesis that closes the one before it.
fn parenthesized(code: &str) -> &str {
    let mut depth = 1;
    let end = code.find(|character| {
        match character {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        depth == 0
    });
    &code[..end.unwrap_or(code.len())]
}

/// Names of private lists: a comment cites an RFC, a page of AWS, or a document of this project.
pub(crate) fn no_private_lists(sources: &[Source]) -> Vec<String> {
    let names = [concat!("MU", "STS"), concat!("SP", "EC")];
    let mut violations = Vec::new();
    for source in sources {
        for (at, line) in source.text.lines().enumerate() {
            if names.iter().any(|name| has_word(line, name)) {
                violations.push(format!("{}:{}: {}", source.path, at + 1, line.trim()));
            }
        }
    }
    violations
}

/// Docstrings that open with a question word where a noun or a verb says the same.
pub(crate) fn docstrings_do_not_ask(sources: &[Source]) -> Vec<String> {
    let words = ["What", "Whether", "How", "Who", "Whose"];
    let mut violations = Vec::new();
    for source in sources {
        let mut inside = false;
        for (line, number) in source.text.lines().map(str::trim).zip(1..) {
            let text = line.strip_prefix("///").or_else(|| line.strip_prefix("//!"));
            let opens = text.filter(|_| !inside).unwrap_or_default();
            inside = text.is_some();
            if words.iter().any(|word| opens.split_whitespace().next() == Some(word)) {
                violations.push(format!("{}:{number}: {line}", source.path));
            }
        }
    }
    violations
}

/// Characters of a comment's line, indentation included, at most; code is rustfmt's business.
const COMMENT_COLUMNS_MAX: usize = 100;

/// Lines of comments that are longer than the code may be.
pub(crate) fn comments_are_wrapped(sources: &[Source]) -> Vec<String> {
    let mut violations = Vec::new();
    for source in sources {
        for (line, number) in source.text.lines().zip(1..) {
            let is_comment = line.trim_start().starts_with("//");
            // A link or a table cannot be broken.
            let breaks = !["http", "](", " | "].iter().any(|part| line.contains(part));
            if is_comment && breaks && line.chars().count() > COMMENT_COLUMNS_MAX {
                violations.push(format!("{}:{number}: {line}", source.path));
            }
        }
    }
    violations
}

/// Paths of somebody's machine.
pub(crate) fn no_private_paths(sources: &[Source]) -> Vec<String> {
    let directories = [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
        concat!("/Us", "ers/"),
    ];
    let mut violations = Vec::new();
    for source in sources {
        for (at, line) in source.text.lines().enumerate() {
            let private = directories.iter().any(|directory| {
                line.match_indices(directory).any(|(at, _)| {
                    let before = line[..at].chars().next_back();
                    !before.is_some_and(|c| c.is_alphanumeric() || "_.-}*".contains(c))
                })
            });
            if private {
                violations.push(format!("{}:{}: {}", source.path, at + 1, line.trim()));
            }
        }
    }
    violations
}

/// A name that says nothing about what a file is for.
pub(crate) fn names_say_something(sources: &[Source]) -> Vec<String> {
    let empty = ["utils", "util", "common", "helper", "helpers", "manager", "misc"];
    let vague = |source: &&Source| source.module().iter().any(|part| empty.contains(part));
    sources.iter().filter(vague).map(|source| source.path.clone()).collect()
}

fn one_line(code: &str) -> String {
    code.split_whitespace().collect::<Vec<_>>().join(" ")
}
