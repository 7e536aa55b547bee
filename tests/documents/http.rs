//! `docs/HTTP.md` against the code: its table has every error.

use std::{collections::BTreeSet, env, fmt::Write as _, fs};

use yatagarasu::model::Fault;

use crate::{page, root};

const PAGE: &str = "docs/HTTP.md";

/// Heading of the table of errors.
const HEADING: &str = "| Status | Code | Message |\n|---|---|---|\n";

fn expected_table() -> String {
    let mut faults = Fault::ALL.to_vec();
    let is_hidden = |fault: &Fault| matches!(fault, Fault::Hidden(_));
    faults.sort_by_key(|fault| (is_hidden(fault), fault.status()));
    let mut table = String::from(HEADING);
    for fault in faults {
        let message = match fault {
            Fault::InvalidToken(_) => "Authentication failed: ...",
            _ => fault.message(),
        };
        let status =
            if is_hidden(&fault) { "that of S3".to_owned() } else { fault.status().to_string() };
        writeln!(table, "| {status} | `{}` | {message} |", fault.code()).unwrap();
    }
    table
}

#[test]
fn the_table_has_every_error_with_its_status_and_message() {
    let page = page(PAGE);
    let start = page.find(HEADING).expect("the table of errors");
    let rows = page[start..].lines().take_while(|line| line.starts_with('|'));
    let found: String = rows.flat_map(|row| [row, "\n"]).collect();
    let expected = expected_table();
    if env::var_os("BLESS").is_some() {
        fs::write(root().join(PAGE), page.replace(&found, &expected)).unwrap();
        return;
    }
    assert_eq!(found, expected, "docs/HTTP.md drifted; BLESS=1 rewrites its table");
}

/// The codes as they stand in the source, so that none is missing in the list of all.
#[test]
fn the_list_of_errors_has_every_code_of_the_source() {
    let source = page("src/model/fault.rs");
    let body = source.split_once("pub const fn code(self)").unwrap().1;
    let body = body.split_once("\n    }\n").unwrap().0;
    let written: BTreeSet<&str> = body.split('"').skip(1).step_by(2).collect();
    let listed: BTreeSet<&str> = Fault::ALL.iter().map(|fault| fault.code()).collect();
    assert_eq!(written, listed);
    assert!(listed.len() > 30, "{listed:?}");
}
