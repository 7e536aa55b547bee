//! Mistakes that the parser finds, in words for whoever wrote the file: where each is, which may be
//! a line above the one where the parser gave up, and what to write instead. No line of the file is
//! quoted, because it may hold a secret.

use crate::config::problem::Problem;

/// Parts of what the parser says, and what to tell instead. Where a mistake shows as one of several
/// of these, [`colon`] decides.
const WORDS: &[(&str, &str)] = &[
    ("tab", "is indented with a tab, or has one before a key; write blanks"),
    (
        "did not find expected '-' indicator",
        "is indented neither like the dash (-) of the list above it nor like the keys of its \
         element; indent it like one of them",
    ),
    (
        "block sequence entries are not allowed",
        "has a dash behind its colon, which begins a list; write \"-\" in quotes for a dash, or \
         begin the list on the next line",
    ),
    ("\"-\" is only valid inside a block", "has a lone dash in { } or [ ]; write \"-\" in quotes"),
    ("unknown anchor", "has an alias (*) for which no &anchor stands above; put text in quotes"),
    ("anchor", "has a & or * in the wrong place; put text that begins with it in quotes"),
    ("tag", "has a value that begins with !; put it in quotes"),
    ("TAG", "begins with %; remove the line"),
    ("unexpected character", "has a value that begins with @, ` or %; put it in quotes"),
    ("plain scalar cannot start", "has a value that begins with a dash; put it in quotes"),
    (
        "unknown escape character",
        "has a backslash in double quotes that means nothing; write two, or use single quotes",
    ),
    ("escape", "has a bad \\x or \\u in double quotes; use single quotes for text as it stands"),
    (
        "hexadecimal",
        "has a bad \\x or \\u in double quotes; use single quotes for text as it stands",
    ),
    ("trailing content", "has text behind a closing quote; put the whole value in quotes"),
    ("quoted scalar", "opens a quote that is not closed; close it at the end of the value"),
    (
        "block scalar",
        "has a block of text (| or >) that begins wrongly; write the text on the lines below it, \
         each indented by the same number of blanks",
    ),
    ("misplaced bracket", "has a } or ] that closes nothing; remove it, or put text in quotes"),
    (
        "flow mapping",
        "has { without its }, or no comma between two keys, or text of several words without \
         quotes; inside { } write `key: value, key: value`",
    ),
    (
        "flow sequence",
        "has [ without its ], or no comma between two elements; inside [ ] write `value, value`",
    ),
    (
        "illegal placement of ':'",
        "has a colon inside [ ], or [ without its ]; close it, or use quotes",
    ),
    ("flow", "has { or [ that is not closed, or lines in it that are not indented; close it"),
    (
        "did not find expected key",
        "is indented less than the keys above it and more than the section; indent it like one of \
         them",
    ),
    ("document start", "begins with %, or follows such a line; remove it"),
    ("directive", "begins with %; remove the line"),
    ("document", "has --- or ... in the wrong place; remove it"),
    ("expected node content", "has a comma or bracket where a value belongs; put text in quotes"),
    ("recursion limit", "is nested too deep; write it flatter"),
];

/// Fallback, for what the parser says otherwise.
const OTHERWISE: &str = "is not valid YAML; check colons, quotes, brackets and the indentation of this line and the one \
     above it";

/// The problem with a text that the parser gave up at a line, counted from 1, for this reason.
pub(super) fn problem(text: &str, line: usize, reason: &str) -> Problem {
    let lines: Vec<&str> = text.lines().take(line).collect();
    let here = lines.get(line.saturating_sub(1)).copied().unwrap_or_default();
    if here.contains("${") && reason.contains("flow") {
        let message =
            "has a variable without quotes inside { } or [ ]; write \"${NAME}\" in quotes";
        return Problem::at(line, message);
    }
    if reason.contains("simple key") || reason.contains("mapping values are not allowed") {
        let (line, message) = colon(&lines, line);
        return Problem::at(line, message);
    }
    if let Some(message) = meant(&lines, here, reason) {
        return Problem::at(line, message);
    }
    let words = WORDS.iter().find(|(part, _)| reason.contains(part));
    Problem::at(line, words.map_or(OTHERWISE, |(_, words)| words))
}

/// The words for a line where the parser's reason alone would be told wrongly.
fn meant(lines: &[&str], here: &str, reason: &str) -> Option<&'static str> {
    let above = lines.split_last().map_or(lines, |(_, above)| above);
    if reason.contains("document start") {
        let has_directive = lines.iter().any(|line| line.starts_with('%'));
        return (!has_directive).then_some(
            "has text behind a ] or } that ends the document; the file is YAML: write `server:`, \
             and below it, indented, `port: 80`",
        );
    }
    let starts_with_dash = |line: &str| line.trim_start().starts_with("- ");
    let blanks = |line: &str| line.len() - line.trim_start().len();
    if reason.contains("did not find expected '-' indicator") {
        let mut beside = above.iter().rev().filter(|line| !is_left_out(line));
        let beside = beside.find(|line| blanks(line) <= blanks(here));
        let is_beside =
            beside.is_some_and(|line| starts_with_dash(line) && blanks(line) == blanks(here));
        return is_beside.then_some(
            "has no dash (-), and a line above it in the same column has one; write both with a \
             dash, or both without",
        );
    }
    if !reason.contains("did not find expected key") {
        return None;
    }
    if here.split_once(": ").is_some_and(|(_, value)| value.trim_start().starts_with(['{', '['])) {
        return Some("has text behind a } or ] that ends its value; put the whole value in quotes");
    }
    if !starts_with_dash(here) {
        return None;
    }
    let mut deeper =
        above.iter().rev().take_while(|line| is_left_out(line) || blanks(line) > blanks(here));
    if deeper.any(|line| starts_with_dash(line)) {
        Some("has a dash that is not in the column of the dashes above it; write it there")
    } else {
        Some("has a dash (-) among keys; remove the dash")
    }
}

/// The line, and what is wrong with it, where a colon is missing or one too many.
fn colon(lines: &[&str], line: usize) -> (usize, &'static str) {
    let last = line.saturating_sub(1);
    let here = lines.get(last).copied().unwrap_or_default();
    let above = lines.iter().enumerate().take(last).rev();
    let mut above = above.filter(|(_, text)| !is_left_out(text));
    let Some((index, before)) = above.next() else { return (line, two_colons(here)) };
    let number = index + 1;
    if here.contains('\u{a0}') || before.contains('\u{a0}') {
        let number = if here.contains('\u{a0}') { line } else { number };
        return (
            number,
            "has a no-break space (U+00A0), which is no blank for YAML; write a blank",
        );
    }
    if before.trim_start().starts_with('-') && !before.trim_start().starts_with("- ") {
        return (number, "has no blank behind its dash; write `- key: value`");
    }
    if !has_colon(before) {
        return (number, "has no colon and blank behind its key; write `key: value`");
    }
    if colons(here) > 1 {
        return (line, two_colons(here));
    }
    if indentation(here) > indentation(before) {
        return (
            line,
            "is indented deeper than the line above it, which has a value; indent both alike",
        );
    }
    (line, "has no colon and blank behind its key; write `key: value`")
}

fn two_colons(here: &str) -> &'static str {
    if colons(here) > 1 {
        "has two colons; put a value that has one in quotes, or begin the second key on a line of \
         its own"
    } else {
        OTHERWISE
    }
}

/// Empty, or a comment.
fn is_left_out(line: &str) -> bool {
    let text = line.trim_start();
    text.is_empty() || text.starts_with('#')
}

fn has_colon(line: &str) -> bool {
    colons(line) > 0
}

/// Colons that end a key: those before a blank or at the end, outside of comments.
fn colons(line: &str) -> usize {
    let text = line.split(" #").next().unwrap_or_default();
    text.match_indices(':')
        .filter(|(index, _)| matches!(text.as_bytes().get(index + 1), None | Some(b' ' | b'\t')))
        .count()
}

/// Column of a line's key, a dash before it counted as blanks.
fn indentation(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '-']).len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{
        problem::Problems,
        yaml::{Size, read},
    };

    #[test]
    fn mistakes_are_told_with_their_line_and_without_the_parsers_words() {
        for (text, line, part) in [
            ("server:\n\tport: 8080\n", 2, "with a tab"),
            ("server:\n  port: 8080\n\tthreads: 1\n", 2, "with a tab"),
            ("server:\n  port: 80\n   threads: 1\n", 3, "deeper than the line above"),
            ("server:\n    port: 80\n  threads: 1\n", 3, "less than the keys above"),
            ("buckets:\n  - name: a\n   path_prefix: /a\n", 3, "neither like the dash"),
            ("buckets:\n  - name: a\n     path_prefix: /a\n", 3, "deeper than the line above"),
            ("buckets:\n  - name: a\n - name: b\n", 3, "column of the dashes"),
            ("buckets:\n  - name: a\n    hosts: []\n- name: b\n", 4, "column of the dashes"),
            ("server:\n  port: 80\n  - threads: 1\n", 3, "a dash (-) among keys"),
            ("server:\n  - threads: 1\n  port: 80\n", 3, "has no dash (-)"),
            ("a:\n  template: {time} {status}\n", 2, "put the whole value in quotes"),
            ("a:\n  template: [{time}] {status}\n", 2, "put the whole value in quotes"),
            ("[server]\nport = 80\n", 2, "the file is YAML"),
            ("{a: b}\nc: d\n", 2, "the file is YAML"),
            ("server:\n  port: 80\n  threads 4\n\nbuckets: []\n", 3, "no colon and blank"),
            ("server\n  port: 80\n", 1, "no colon and blank"),
            ("buckets:\n  -name: a\n   path_prefix: /a\n", 2, "no blank behind its dash"),
            ("server: port: 80\n", 1, "two colons"),
            ("a: 1\nb: c: d\n", 2, "two colons"),
            ("server:\u{a0}\n  port: 80\n", 1, "no-break space"),
            ("a: \"b\nc: d\n", 1, "quote that is not closed"),
            ("a: 'b", 1, "quote that is not closed"),
            ("a: \"b\" c\n", 1, "behind a closing quote"),
            ("a: -\n", 1, "write \"-\" in quotes"),
            ("a: { b: - }\n", 1, "write \"-\" in quotes"),
            ("a: - b\n", 1, "begins a list"),
            ("a: @b\n", 1, "begins with @"),
            ("a: %b\n", 1, "begins with @, ` or %"),
            ("a: { b: c\nd: e\n", 2, "{ without its }"),
            ("a: { b: c d: e }\n", 1, "no comma"),
            ("a: [ b, c\nd: e\n", 2, "[ without its ]"),
            ("a: }\n", 1, "closes nothing"),
            ("a: { b: ${C} }\n", 1, "variable without quotes"),
            ("a: \"b\\qc\"\n", 1, "backslash"),
            ("a: *b\n", 1, "alias (*)"),
            ("%YAML 1.2\na: b\n", 2, "begins with %"),
        ] {
            let problem =
                read(text.as_bytes(), Size::default(), &mut Problems::default()).unwrap_err();
            assert!(problem.message.contains(part), "{text:?}: {problem}");
            assert_eq!(problem.line, Some(line), "{text:?}: {problem}");
            for word in ["scalar", "simple key", "context", "parsing", "scanning", "flow"] {
                assert!(!problem.message.contains(word), "{text:?}: {problem}");
            }
        }
    }

    #[test]
    fn whatever_the_parser_says_is_told_in_words() {
        assert_eq!(problem("a", 1, "while dreaming").message, OTHERWISE);
        assert_eq!(problem("", 0, "mapping values are not allowed").line, Some(0));
    }
}
