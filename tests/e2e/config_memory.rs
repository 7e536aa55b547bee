//! Configuration files that stand for far more than they hold: whatever is decided about one, it is
//! decided in little memory and in few words.

use std::fmt::Write as _;

use crate::support::proxy::{Exited, Launch};

/// Address space that a check may take, in KiB: what the program, its libraries and the largest
/// permitted file take together, and some room.
const ADDRESS_SPACE_KIB: usize = 640 * 1_024;

/// Longest output of a check, in bytes.
const OUTPUT_BYTES_MAX: usize = 512 * 1_024;

const MIB: usize = 1_024 * 1_024;

/// What `--validate` says in that much memory.
#[track_caller]
fn validated(name: &str, text: &str, variable: &str, file_bytes: usize) -> Exited {
    let script = format!("ulimit -v {ADDRESS_SPACE_KIB} && exec \"$0\" \"$@\"");
    let binary = option_env!("CARGO_BIN_EXE_yatagarasu").unwrap_or("yatagarasu");
    let launch = Launch::of("/bin/sh")
        .arguments(&["-c", &script, binary])
        .config_text(text)
        .environment("LONG", variable);
    launch.write("secret", &"s".repeat(file_bytes));
    let exited = launch.arguments(&["--validate"]).run();
    assert!(exited.code.is_some_and(|code| code <= 1), "{name}: {:.2000}", format!("{exited:?}"));
    let bytes = exited.stdout.len() + exited.stderr.len();
    assert!(bytes <= OUTPUT_BYTES_MAX, "{name} is answered with {bytes} bytes");
    exited
}

fn bucket(number: usize, s3: &str) -> String {
    format!(
        "  - {{ name: b{number}, path_prefix: /b{number}, auth: {{ enabled: false }}, s3: {s3} }}\n"
    )
}

/// One bucket and a jwt section.
fn with_jwt(jwt: &str) -> String {
    let s3 = "{ bucket: abc, region: r, anonymous: true }";
    format!("buckets:\n{}jwt:\n  secret: \"{}\"\n{jwt}", bucket(0, s3), "x".repeat(40))
}

fn keys(secret: &str) -> String {
    format!("{{ bucket: abc, region: r, access_key: AKIA, {secret} }}")
}

#[test]
fn a_small_file_that_stands_for_much_text_is_refused_in_little_memory() {
    let times = |count: usize, text: &str| vec![text; count].join(", ");
    let long = "x".repeat(8 * MIB);
    let audience = with_jwt(&format!("  audience: [&a {long}, {}]\n", times(1_000, "*a")));
    let short = "x".repeat(60_000);
    let audience_of_short =
        with_jwt(&format!("  audience: [&a {short}, {}]\n", times(100_000, "*a")));
    let claims = with_jwt(&format!(
        "  claims:\n    - {{ claim: c, operator: in, value: [&a {short}, {}] }}\n",
        times(100_000, "*a")
    ));
    let listed =
        with_jwt(&format!("  keys: [&k {{ id: k, secret: {short} }}, {}]\n", times(10_000, "*k")));
    let mut repeated = String::from("buckets:\n");
    let mut variables = String::from("buckets:\n");
    for number in 0..10_000 {
        let s3 = if number == 0 {
            format!("&s {}", keys(&format!("secret_key: {short}")))
        } else {
            "*s".to_owned()
        };
        repeated.push_str(&bucket(number, &s3));
        variables.push_str(&bucket(number, &keys(&format!("secret_key: \"{number}${{LONG}}\""))));
    }
    for (name, text, variable) in [
        ("long text in audience", &audience, 0),
        ("text in audience", &audience_of_short, 0),
        ("text in claims", &claims, 0),
        ("jwt.keys", &listed, 0),
        ("s3", &repeated, 0),
        ("a variable over the bound", &variables, 120 * 1_024),
        ("a variable under the bound", &variables, 60 * 1_024),
    ] {
        let exited = validated(name, text, &"v".repeat(variable), 0);
        assert_eq!(exited.code, Some(1), "{name}");
    }
}

#[test]
fn a_secret_file_that_many_buckets_name_is_held_once() {
    let mut text = String::from("buckets:\n");
    for number in 0..12_000 {
        text.push_str(&bucket(number, &keys("secret_key_file: secret")));
    }
    assert_eq!(validated("a secret", &text, "", 65_000).code, Some(0));
    let exited = validated("a large file", &text, "", 4 * MIB);
    assert_eq!(exited.code, Some(1));
    assert!(exited.stderr.contains("is larger than 65536 bytes"), "{:.2000}", exited.stderr);
}

#[test]
fn a_variable_that_many_buckets_name_is_held_once() {
    let mut text = String::from("buckets:\n");
    for number in 0..10_000 {
        let both = "secret_key: \"${LONG}\", session_token: \"${LONG}\"";
        text.push_str(&bucket(number, &keys(both)));
    }
    let exited = validated("a variable", &text, &"v".repeat(8 * 1_024), 0);
    assert_eq!(exited.code, Some(0), "{:.2000}", exited.stderr);
}

/// The most text that is accepted, in the largest number of buckets that fit the file.
#[test]
fn a_file_at_its_bounds_is_accepted_in_little_memory() {
    let mut text = String::from("buckets:\n");
    for number in 0..30_000 {
        let secret = if number == 0 {
            format!("&s {}", keys(&format!("secret_key: {}", "s".repeat(500))))
        } else {
            "*s".to_owned()
        };
        text.push_str(&bucket(number, &secret));
    }
    let exited = validated("30,000 buckets", &text, "", 0);
    assert_eq!(exited.code, Some(0), "{:.2000}", exited.stderr);
}

#[test]
fn a_huge_piece_of_the_file_is_never_repeated() {
    let huge = "x".repeat(10 * MIB);
    let mut names = String::from("buckets:\n");
    for number in 0..20_000 {
        writeln!(names, "  - {{ name: same, path_prefix: /same }} # {number}").unwrap();
    }
    for (name, text) in [
        ("an operator", with_jwt(&format!("  claims: [{{ claim: c, operator: {huge} }}]\n"))),
        ("a variable's name", with_jwt(&format!("  issuer: \"${{{huge}}}\"\n"))),
        ("an unknown key", with_jwt(&format!("  ? {huge}\n  : 1\n"))),
        (
            "a key of a value",
            with_jwt(&format!(
                "  claims: [{{ claim: c, operator: in, value: [ {{ {huge}: [\"${{NONE}}\"] }} ] }}]\n"
            )),
        ),
        ("an algorithm", with_jwt(&format!("  algorithm: {huge}\n"))),
        ("a number", with_jwt(&format!("  leeway: {huge}\n"))),
        ("a file", with_jwt(&format!("  jwks_file: {huge}\n"))),
        ("one name for many", names),
    ] {
        let exited = validated(name, &text, "", 0);
        assert_eq!(exited.code, Some(1), "{name}");
        let longest = exited.stderr.lines().map(str::len).max().unwrap_or_default();
        assert!(longest <= 1_024, "{name}: a line of {longest} bytes");
    }
}
