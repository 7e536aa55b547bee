//! Rules that matter are tests: the layers of the source tree, and the limits of each directory.
//!
//! The rules read the source as text. `samples` shows each of them a violation, so that a rule that
//! finds nothing any more is noticed.
#![allow(
    clippy::unwrap_used,
    reason = "a file that cannot be read is a failed test, also outside #[test] functions"
)]

#[path = "architecture/graph.rs"]
mod graph;
#[path = "architecture/rules.rs"]
mod rules;
#[path = "architecture/samples.rs"]
mod samples;
#[path = "architecture/source.rs"]
mod source;

use graph::{circles, uses};
use rules::{
    SAME_LAYER, comments_are_wrapped, docstrings_do_not_ask, imports_point_downward, layers,
    layers_point_downward, lines_of_the_log_have_no_debug_text, names_say_something,
    never_imported_in, never_in, no_circles, no_private_lists, no_private_paths,
    nothing_is_left_to_do, only_in, permits_are_earned, secrets_stay_hidden,
};
use source::{Source, files};

/// Modules that turn bytes into meaning and make decisions, without I/O.
const PURE: &[&str] = &["protocol", "policy", "config"];

fn src() -> Vec<Source> {
    files("src", &[".rs"])
}

#[track_caller]
fn assert_none(violations: &[String]) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}

fn layer_table() -> std::collections::BTreeMap<String, u32> {
    let sources = src();
    let lib = sources.iter().find(|source| source.path == "src/lib.rs").unwrap();
    layers(&lib.text)
}

#[test]
fn imports_go_down_the_layers_and_planes_do_not_meet() {
    assert_none(&imports_point_downward(&src(), &layer_table(), SAME_LAYER));
}

#[test]
fn the_layer_table_is_the_one_that_was_decided() {
    let table = layer_table();
    for (layer, modules) in [
        (0, &["model"][..]),
        (1, &["protocol", "system"]),
        (2, &["policy", "telemetry"]),
        (3, &["handoff"]),
        (4, &["config"]),
        (5, &["control_plane", "data_plane"]),
        (6, &["app", "cli"]),
    ] {
        for module in modules {
            assert_eq!(table.get(*module), Some(&layer), "{module}");
        }
    }
    assert_eq!(table.len(), 11);
}

#[test]
fn same_layer_exceptions_are_still_needed() {
    let (sources, table) = (src(), layer_table());
    for (from, to, why) in SAME_LAYER {
        if !sources.iter().any(|source| source.top() == Some(from)) {
            continue;
        }
        let without: Vec<_> =
            SAME_LAYER.iter().filter(|(a, b, _)| (a, b) != (from, to)).copied().collect();
        let violations = imports_point_downward(&sources, &table, &without);
        assert!(!violations.is_empty(), "{from} no longer uses {to} ({why})");
    }
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    assert_none(&no_circles(&circles(&uses(&src()))));
}

#[test]
fn imports_go_down_inside_the_planes() {
    let (sources, graph) = (src(), uses(&src()));
    for plane in ["data_plane", "control_plane"] {
        let path = format!("src/{plane}/mod.rs");
        let table = layers(&sources.iter().find(|source| source.path == path).unwrap().text);
        assert!(table.len() > 3, "{path} has no table of layers");
        assert_none(&layers_point_downward(plane, &graph, &table));
    }
}

#[test]
fn only_system_is_unsafe() {
    assert_none(&only_in(&["system"], &["unsafe"], &src()));
}

#[test]
fn only_system_reads_a_clock() {
    let clocks = ["Instant::now", "SystemTime::now", ".elapsed()", "clock_gettime"];
    assert_none(&only_in(&["system"], &clocks, &src()));
}

#[test]
fn only_the_event_loop_names_the_runtime() {
    // Of tasks that others start it does not know that they can run.
    let is_other = |source: &Source| {
        source.path != "src/system/event_loop.rs" && source.path != "src/system/tls/tests/mod.rs"
    };
    let others: Vec<_> = src().into_iter().filter(is_other).collect();
    assert_none(&only_in(&[], &["monoio"], &others));
}

#[test]
fn pure_layers_do_no_io() {
    let words =
        ["async", ".await", "monoio", "TcpStream", "TcpListener", "UdpSocket", "UnixStream"];
    assert_none(&never_in(PURE, &words, &src()));
    let prefixes =
        ["std::fs", "std::net::Tcp", "std::net::Udp", "std::os::unix::net", "std::process"];
    assert_none(&never_imported_in(PURE, &prefixes, &src()));
    assert_none(&never_in(PURE, &["std::fs", "std::env", "std::thread", "std::process"], &src()));
}

#[test]
fn what_serves_requests_knows_nothing_of_the_file() {
    let below = ["data_plane", "handoff", "policy", "telemetry", "protocol", "system", "model"];
    assert_none(&never_imported_in(&below, &["crate::config"], &src()));
}

#[test]
fn bytes_from_the_network_do_not_panic() {
    let words = [".unwrap()", ".expect(\"", "panic!", "todo!", "unimplemented!"];
    assert_none(&never_in(&["protocol", "policy", "data_plane"], &words, &src()));
    assert_none(&never_in(&["protocol", "policy"], &["unreachable!"], &src()));
}

#[test]
fn a_snapshot_knows_nothing_of_serde() {
    let words = ["serde", "Serialize", "Deserialize", "serde_json", "serde_yaml"];
    assert_none(&never_in(&["handoff/snapshot"], &words, &src()));
}

#[test]
fn a_secret_cannot_be_shown() {
    assert_none(&secrets_stay_hidden(&src()));
}

#[test]
fn a_permit_can_be_made_by_the_auth_code_only() {
    assert_none(&permits_are_earned(&src()));
}

#[test]
fn lines_of_the_log_say_what_they_mean_in_words() {
    assert_none(&lines_of_the_log_have_no_debug_text(&src()));
}

#[test]
fn docstrings_open_with_a_noun_or_a_verb() {
    assert_none(&docstrings_do_not_ask(&src()));
}

#[test]
fn comments_are_as_wide_as_the_code() {
    let all = [src(), files("tests", &[".rs"]), files("bench", &[".rs"])].concat();
    assert_none(&comments_are_wrapped(&all));
}

#[test]
fn every_file_name_says_something() {
    assert_none(&names_say_something(&src()));
}

#[test]
fn nothing_is_unfinished_and_nothing_is_private() {
    let endings =
        &[".rs", ".md", ".toml", ".yaml", ".yml", ".py", ".sh", ".js", ".lua", ".json", "run"];
    for directory in ["src", "tests", "loadtest", "bench", "docs", ".ci"] {
        let texts = files(directory, endings);
        assert_none(&nothing_is_left_to_do(&texts));
        assert_none(&no_private_paths(&texts));
        assert_none(&no_private_lists(&texts));
    }
    let readme = files("", &["README.md", "Cargo.toml"]);
    assert!(readme.iter().any(|text| text.path == "Cargo.toml"));
    assert_none(&nothing_is_left_to_do(&readme));
    assert_none(&no_private_paths(&readme));
    assert_none(&no_private_lists(&readme));
}
