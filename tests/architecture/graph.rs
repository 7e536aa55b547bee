//! Uses of files by files: paths in the code, followed through re-exports to the file that defines
//! the item they name.

use std::collections::{BTreeMap, BTreeSet};

use crate::source::{Source, find_word};

/// Re-exports of re-exports that are followed; more would be a circle of them.
const REEXPORTS_MAX: usize = 8;

/// Files by module path, with the names that each brings into its own scope.
struct Tree<'a> {
    files: BTreeMap<String, &'a Source>,
    imports: BTreeMap<&'a str, Vec<Import>>,
}

/// A name that a `use` brings into scope.
#[derive(Clone, Debug)]
struct Import {
    name: String,
    path: String,
    /// Set if others may see it.
    exported: bool,
}

/// For each file the files that it uses.
pub(crate) fn uses(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let mut tree = Tree { files: BTreeMap::new(), imports: BTreeMap::new() };
    for source in sources {
        tree.files.insert(module_path(source), source);
    }
    for source in sources {
        let imports = source
            .imports()
            .into_iter()
            .map(|(name, path, exported)| Import {
                name,
                path: tree.absolute(source, &path),
                exported,
            })
            .collect();
        tree.imports.insert(&source.path, imports);
    }
    let mut graph = BTreeMap::new();
    for source in sources {
        let mut used = tree.used_by(source);
        used.remove(&source.path);
        graph.insert(source.path.clone(), used);
    }
    graph
}

/// Sets of files each of which uses, directly or by way of others, every other one of its set.
/// Files and sets are in order.
pub(crate) fn circles(graph: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reachable: BTreeMap<&String, BTreeSet<&String>> = graph
        .keys()
        .map(|from| {
            let mut seen = BTreeSet::new();
            let mut next: Vec<&String> = graph[from].iter().collect();
            while let Some(file) = next.pop() {
                if seen.insert(file) {
                    next.extend(graph.get(file).into_iter().flatten());
                }
            }
            (from, seen)
        })
        .collect();
    let mut found = BTreeSet::new();
    for (file, seen) in &reachable {
        if seen.contains(file) {
            let both = seen.iter().filter(|to| reachable[*to].contains(file));
            found.insert(both.map(ToString::to_string).collect::<Vec<_>>());
        }
    }
    found.into_iter().collect()
}

impl Tree<'_> {
    fn used_by(&self, source: &Source) -> BTreeSet<String> {
        let mut used = BTreeSet::new();
        let body = source.code_without_imports();
        for import in &self.imports[source.path.as_str()] {
            let is_module = self.files.contains_key(&import.path);
            let members = members_of(&body, &import.name);
            if is_module && !members.is_empty() {
                for member in members {
                    used.extend(self.defining(&format!("{}::{member}", import.path)));
                }
            } else if !import.exported || find_word(&body, &import.name).is_some() {
                // A re-export by itself is a sign, not a use.
                used.extend(self.defining(&import.path));
            }
        }
        for path in paths_in(&body) {
            used.extend(self.defining(&self.absolute(source, &path)));
        }
        used
    }

    /// A path from the crate root; other crates' paths stay as they are.
    fn absolute(&self, source: &Source, path: &str) -> String {
        let path = path.strip_prefix("::").unwrap_or(path);
        let first = path.split("::").next().unwrap_or_default();
        let own = module_path(source);
        if self.files.contains_key(&format!("{own}::{first}")) {
            return format!("{own}::{path}");
        }
        source.resolve(path)
    }

    /// The file that defines what this path from the crate root names.
    fn defining(&self, path: &str) -> Option<String> {
        let mut path = path.to_owned();
        for _ in 0..REEXPORTS_MAX {
            let parts: Vec<&str> = path.split("::").collect();
            let length = (1..=parts.len())
                .rev()
                .find(|length| self.files.contains_key(&parts[..*length].join("::")))?;
            let file = &self.files[&parts[..length].join("::")].path;
            let Some(name) = parts.get(length) else { return Some(file.clone()) };
            let reexport = self.imports[file.as_str()].iter().find(|import| import.name == *name);
            match reexport.filter(|import| import.path.starts_with("crate::")) {
                Some(import) if import.path != path => {
                    let rest = parts[length + 1..].iter().map(|part| format!("::{part}"));
                    path = import.path.clone() + &rest.collect::<String>();
                }
                _ => return Some(file.clone()),
            }
        }
        None
    }
}

fn module_path(source: &Source) -> String {
    source.module().iter().fold("crate".to_owned(), |path, part| format!("{path}::{part}"))
}

/// Text behind `name::` in the code.
fn members_of(code: &str, name: &str) -> Vec<String> {
    let head = format!("{name}::");
    let mut members = Vec::new();
    let mut rest = code;
    while let Some(at) = find_word(rest, &head) {
        let before = &rest[..at];
        rest = &rest[at + head.len()..];
        if !before.ends_with(':') {
            members.push(identifier(rest));
        }
    }
    members
}

/// Paths in expressions, types and patterns: everything with `::` that starts with a name in lower
/// case.
fn paths_in(code: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut from = 0;
    while let Some(at) = code[from..].find("::").map(|at| at + from) {
        let start = code[..at]
            .rfind(|c: char| !(c.is_alphanumeric() || c == '_'))
            .map_or(0, |before| before + 1);
        let mut end = at;
        while code[end..].starts_with("::") {
            let part = identifier(&code[end + 2..]);
            if part.is_empty() {
                break;
            }
            end += 2 + part.len();
        }
        if start < at && code[start..].starts_with(|c: char| c.is_ascii_lowercase()) {
            paths.push(code[start..end].to_owned());
        }
        from = end.max(at + 2);
    }
    paths
}

fn identifier(code: &str) -> String {
    code.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}
