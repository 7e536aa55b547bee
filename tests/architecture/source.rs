//! Reading Rust source well enough to judge it: comments and the contents of literals blanked,
//! test modules removed, `use` trees expanded. No parser: all it needs is in the tokens.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// One file of the project.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Path from the project root, with `/`.
    pub(crate) path: String,
    /// As written.
    pub(crate) text: String,
    /// Without comments, literals' contents and test modules; lines keep their numbers.
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        let mut code = blank(text);
        if path.ends_with("/tests.rs") || path.contains("/tests/") {
            code = String::new();
        }
        remove_test_modules(&mut code);
        Self { path: path.to_owned(), text: text.to_owned(), code }
    }

    /// Module path below the crate root: `src/protocol/s3/key.rs` is `[protocol, s3, key]`.
    pub(crate) fn module(&self) -> Vec<&str> {
        let inner = self.path.strip_prefix("src/").unwrap_or(&self.path);
        let inner = inner.strip_suffix(".rs").unwrap_or(inner);
        inner.split('/').filter(|part| !["mod", "lib", "main"].contains(part)).collect()
    }

    /// The top-level module it belongs to, if it is not the crate root.
    pub(crate) fn top(&self) -> Option<&str> {
        self.module().first().copied()
    }

    /// Returns true if the file lies in one of these directories or files below `src`.
    pub(crate) fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            self.path.strip_prefix("src/").and_then(|rest| rest.strip_prefix(place)).is_some_and(
                |rest| rest.is_empty() || rest.starts_with('/') || rest.starts_with(".rs"),
            )
        })
    }

    /// Lines of code that contain `word` between non-identifier characters.
    pub(crate) fn lines_with(&self, word: &str) -> Vec<usize> {
        let lines = self.code.lines().enumerate();
        lines.filter(|(_, line)| has_word(line, word)).map(|(at, _)| at + 1).collect()
    }

    /// Every path that the code imports or names from the crate root or an outside crate, such as
    /// `crate::model::Secret` or `std::fs`. `super` is resolved from the file's own module.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = Vec::new();
        let mut rest = self.code.as_str();
        while let Some(at) = find_word(rest, "use ") {
            rest = &rest[at + 3..];
            let Some(end) = rest.find(';') else { break };
            expand(&rest[..end], "", &mut paths);
            rest = &rest[end..];
        }
        let mut rest = self.code.as_str();
        while let Some(at) = find_word(rest, "crate") {
            rest = &rest[at..];
            let end = rest
                .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
                .unwrap_or(rest.len());
            paths.push(rest[..end].trim_end_matches(':').to_owned());
            rest = &rest["crate".len()..];
        }
        for path in &mut paths {
            *path = self.resolve(path);
        }
        paths.sort();
        paths.dedup();
        paths
    }

    /// Names that each `use` brings into scope: the name, its path as written, and true if it is
    /// exported.
    pub(crate) fn imports(&self) -> Vec<(String, String, bool)> {
        let mut imports = Vec::new();
        for (start, end) in self.import_statements() {
            let statement = &self.code[start..end];
            let at = find_word(statement, "use ").unwrap_or_default();
            let exported = has_word(&statement[..at], "pub");
            let mut leaves = Vec::new();
            leaves_of(&statement[at + "use".len()..], "", &mut leaves);
            for (name, path) in leaves {
                imports.push((name, path, exported));
            }
        }
        imports
    }

    /// The code with its `use` statements blanked.
    pub(crate) fn code_without_imports(&self) -> String {
        let mut code = self.code.clone();
        for (start, end) in self.import_statements() {
            let blanked: String = code[start..end]
                .chars()
                .flat_map(|c| {
                    let blank = if c == '\n' { '\n' } else { ' ' };
                    std::iter::repeat_n(blank, c.len_utf8())
                })
                .collect();
            code.replace_range(start..end, &blanked);
        }
        code
    }

    /// Ranges of `use` statements, with their visibility and without their semicolon.
    fn import_statements(&self) -> Vec<(usize, usize)> {
        let mut statements = Vec::new();
        let mut from = 0;
        while let Some(at) = find_word(&self.code[from..], "use ").map(|at| at + from) {
            let Some(end) = self.code[at..].find(';').map(|end| at + end) else { break };
            let start = self.code[..at].rfind(['\n', ';', '{', '}']).map_or(0, |before| before + 1);
            statements.push((start, end));
            from = end;
        }
        statements
    }

    pub(crate) fn resolve(&self, path: &str) -> String {
        let mut module = self.module();
        let mut rest = path;
        if let Some(inner) = rest.strip_prefix("self::") {
            rest = inner;
        } else if !rest.starts_with("super::") {
            return path.to_owned();
        }
        while let Some(inner) = rest.strip_prefix("super::") {
            module.pop();
            rest = inner;
        }
        module.iter().fold("crate".to_owned(), |to, part| format!("{to}::{part}")) + "::" + rest
    }

    /// The blocks of this type's own `impl`s, generic or not, those of traits left out.
    pub(crate) fn inherent_impls(&self, name: &str) -> Vec<&str> {
        let mut blocks = Vec::new();
        let mut from = 0;
        while let Some(at) = find_word(&self.code[from..], "impl").map(|at| at + from) {
            from = at + "impl".len();
            let Some(open) = self.code[from..].find('{').map(|open| open + from) else { break };
            let header = &self.code[from..open];
            if has_word(header, name)
                && !has_word(header, "for")
                && let Some(close) = closing_brace(&self.code, open)
            {
                blocks.push(&self.code[open..=close]);
            }
        }
        blocks
    }
}

/// All files with this ending below a directory, sorted, `target` and hidden ones left out.
pub(crate) fn files(directory: &str, endings: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    collect(&root.join(directory), endings, &mut found);
    found.sort();
    let relative = |path: &Path| path.strip_prefix(root).unwrap().display().to_string();
    found
        .iter()
        // Some samples of bad input are not UTF-8.
        .map(|path| (relative(path), fs::read(path).unwrap()))
        .map(|(path, bytes)| Source::new(&path, &String::from_utf8_lossy(&bytes)))
        .collect()
}

fn collect(directory: &Path, endings: &[&str], found: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                collect(&path, endings, found);
            }
        } else if endings.iter().any(|ending| name.ends_with(ending)) {
            found.push(path);
        }
    }
}

fn expand(tree: &str, prefix: &str, paths: &mut Vec<String>) {
    let mut found = Vec::new();
    expand_with_aliases(tree, prefix, &mut found);
    paths.extend(found.into_iter().map(|(path, _)| path));
}

/// The paths of a `use` tree, each with the name behind its `as`.
fn expand_with_aliases(tree: &str, prefix: &str, paths: &mut Vec<(String, Option<String>)>) {
    let tree = tree.trim();
    let Some(open) = tree.find('{') else {
        let mut words = tree.split_whitespace();
        let name = words.next().unwrap_or_default().trim_start_matches("::");
        if !name.is_empty() {
            let alias = words.nth(1).map(str::to_owned);
            paths.push((format!("{prefix}{name}"), alias));
        }
        return;
    };
    let head = format!("{prefix}{}", tree[..open].trim());
    let close = tree.rfind('}').unwrap_or(tree.len());
    let (mut depth, mut start) = (0, open + 1);
    for (at, c) in tree[..close].char_indices().skip_while(|(at, _)| *at <= open) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand_with_aliases(&tree[start..at], &head, paths);
                start = at + 1;
            }
            _ => {}
        }
    }
    expand_with_aliases(&tree[start..close], &head, paths);
}

/// The names at the ends of a `use` tree with their paths; `self` is the name before it.
fn leaves_of(tree: &str, prefix: &str, leaves: &mut Vec<(String, String)>) {
    let mut paths = Vec::new();
    expand_with_aliases(tree, prefix, &mut paths);
    for (path, alias) in paths {
        let path = path.strip_suffix("::self").unwrap_or(&path).to_owned();
        let own = path.rsplit("::").next().unwrap_or_default().to_owned();
        leaves.push((alias.unwrap_or(own), path));
    }
}

fn is_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Offset of `word` between non-identifier characters.
pub(crate) fn find_word(text: &str, word: &str) -> Option<usize> {
    text.match_indices(word).map(|(at, _)| at).find(|&at| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let starts = word.starts_with(is_identifier) && before.is_some_and(is_identifier);
        let ends = word.ends_with(is_identifier) && after.is_some_and(is_identifier);
        !starts && !ends
    })
}

pub(crate) fn has_word(text: &str, word: &str) -> bool {
    find_word(text, word).is_some()
}

fn closing_brace(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// Blanks `#[cfg(test)]` items that have a block, such as `mod tests { ... }`.
fn remove_test_modules(code: &mut String) {
    const MARK: &str = "#[cfg(test)]";
    let mut from = 0;
    while let Some(at) = code[from..].find(MARK).map(|at| at + from) {
        from = at + MARK.len();
        let Some(open) = code[from..].find(['{', ';']).map(|at| at + from) else { return };
        let end =
            if code.as_bytes()[open] == b';' { Some(open) } else { closing_brace(code, open) };
        let Some(end) = end else { return };
        let blanked: String =
            code[at..=end].chars().map(|c| if c == '\n' { '\n' } else { ' ' }).collect();
        from = at + blanked.len();
        code.replace_range(at..=end, &blanked);
    }
}

/// Blanks comments and the contents of string and character literals.
fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let length = token(&chars[at..], chars[..at].last().copied());
        match length {
            Token::Code => {
                out.push(chars[at]);
                at += 1;
            }
            Token::Blank { open, length, close } => {
                let inner = open..length - close;
                for (offset, c) in chars[at..at + length].iter().enumerate() {
                    out.push(if inner.contains(&offset) && *c != '\n' { ' ' } else { *c });
                }
                at += length;
            }
        }
    }
    out
}

enum Token {
    Code,
    /// `length` characters, of which all but the first `open` and the last `close` are blanked.
    Blank {
        open: usize,
        length: usize,
        close: usize,
    },
}

fn token(rest: &[char], before: Option<char>) -> Token {
    let starts = |text: &str| text.chars().enumerate().all(|(at, c)| rest.get(at) == Some(&c));
    if starts("//") {
        let length = rest.iter().position(|c| *c == '\n').unwrap_or(rest.len());
        return Token::Blank { open: 0, length, close: 0 };
    }
    if starts("/*") {
        return Token::Blank { open: 0, length: block_comment(rest), close: 0 };
    }
    if rest[0] == 'r' && !before.is_some_and(|c| is_identifier(c) && c != 'b' && c != 'c') {
        let hashes = rest[1..].iter().take_while(|c| **c == '#').count();
        if rest.get(1 + hashes) == Some(&'"') {
            let open = hashes + 2;
            let ends = |at: usize| {
                rest[at] == '"'
                    && rest[at + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
            };
            let close = (open..rest.len()).find(|&at| ends(at)).unwrap_or(rest.len() - 1);
            let length = (close + 1 + hashes).min(rest.len());
            return Token::Blank { open, length, close: length - close };
        }
    }
    if rest[0] == '"' {
        let mut at = 1;
        while at < rest.len() && rest[at] != '"' {
            at += if rest[at] == '\\' { 2 } else { 1 };
        }
        return Token::Blank { open: 1, length: (at + 1).min(rest.len()), close: 1 };
    }
    if rest[0] == '\'' {
        if rest.get(1) == Some(&'\\') {
            let length =
                rest.iter().skip(3).position(|c| *c == '\'').map_or(rest.len(), |at| at + 4);
            return Token::Blank { open: 1, length, close: 1 };
        }
        if rest.get(2) == Some(&'\'') {
            return Token::Blank { open: 1, length: 3, close: 1 };
        }
    }
    Token::Code
}

fn block_comment(rest: &[char]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        match (rest[at], rest.get(at + 1)) {
            ('/', Some('*')) => {
                depth += 1;
                at += 2;
            }
            ('*', Some('/')) => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    return at;
                }
            }
            _ => at += 1,
        }
    }
    at
}
