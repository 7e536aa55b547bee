//! Samples for each rule: violations, which it must find, and good code, which it must not.

use crate::{
    graph::{circles, uses},
    rules::{
        comments_are_wrapped, docstrings_do_not_ask, imports_point_downward, layers,
        layers_point_downward, lines_of_the_log_have_no_debug_text, names_say_something,
        never_imported_in, never_in, no_circles, no_private_lists, no_private_paths,
        nothing_is_left_to_do, only_in, permits_are_earned, secrets_stay_hidden,
    },
    source::Source,
};

const TABLE: &str = "\
//! | layer | modules |
//! |---|---|
//! | 2 | `up` |
//! | 1 | `left`, `right` |
//! | 0 | `down` |
";

fn downward(path: &str, text: &str) -> Vec<String> {
    imports_point_downward(&[Source::new(path, text)], &layers(TABLE), &[])
}

#[test]
fn the_layer_table_is_read_from_the_documentation() {
    let read: Vec<_> = layers(TABLE).into_iter().collect();
    let expected = [("down", 0), ("left", 1), ("right", 1), ("up", 2)];
    assert_eq!(read, expected.map(|(name, layer)| (name.to_owned(), layer)));
}

#[test]
fn imports_upward_and_sideways_are_found_however_they_are_written() {
    for (path, text) in [
        ("src/down/a.rs", "use crate::up::X;"),
        ("src/down/a.rs", "use crate::{\n    down::Y,\n    up::{X, z::W},\n};"),
        ("src/down/a.rs", "pub(crate) use crate::up::X as Y;"),
        ("src/down/a.rs", "fn f() { crate::up::g() }"),
        ("src/down/a.rs", "use super::super::up::X;"),
        ("src/down/mod.rs", "use super::up::X;"),
        ("src/left/a.rs", "use crate::right::X;"),
        ("src/unlisted/a.rs", ""),
        ("src/down.rs", "use crate::left;"),
    ] {
        assert!(!downward(path, text).is_empty(), "{path}: {text}");
    }
}

#[test]
fn imports_downward_and_inside_are_fine() {
    for (path, text) in [
        ("src/up/a.rs", "use crate::{down::X, left::{self, Y}};"),
        ("src/left/a.rs", "use super::b; use self::c::D; use crate::left::E;"),
        ("src/down/a.rs", "// use crate::up::X;\nconst T: &str = \"crate::up\";"),
        ("src/down/a.rs", "#[cfg(test)]\nmod tests {\n    use crate::up::X;\n}\n"),
        ("src/down/a.rs", "//! See [`crate::up`].\n/* use crate::up; /* nested */ */"),
        ("src/down/a/tests.rs", "use crate::up::X;"),
    ] {
        assert_eq!(downward(path, text), Vec::<String>::new(), "{path}: {text}");
    }
}

#[test]
fn an_exception_is_for_one_direction() {
    let exception = [("left", "right", "because")];
    let check = |path, text| {
        imports_point_downward(&[Source::new(path, text)], &layers(TABLE), &exception).len()
    };
    assert_eq!(check("src/left/a.rs", "use crate::right::X;"), 0);
    assert_eq!(check("src/right/a.rs", "use crate::left::X;"), 1);
}

#[test]
fn words_are_found_in_code_only_and_with_their_line() {
    let text = "// unsafe\nfn f() {\n    unsafe { g() }\n}\n#![deny(unsafe_code)]\nconst S: &str = r#\"unsafe\"#;\n";
    let source = |path| vec![Source::new(path, text)];
    assert_eq!(only_in(&["system"], &["unsafe"], &source("src/app.rs")), ["src/app.rs:3: unsafe"]);
    assert!(only_in(&["system"], &["unsafe"], &source("src/system/a.rs")).is_empty());
    assert_eq!(only_in(&["system"], &["unsafe"], &source("src/system_two.rs")).len(), 1);
    assert_eq!(never_in(&["app"], &["unsafe"], &source("src/app.rs")).len(), 1);
    assert!(never_in(&["app"], &["unsafe"], &source("src/system/a.rs")).is_empty());
}

#[test]
fn literals_and_lifetimes_do_not_confuse_the_reader() {
    let text = "fn f<'a>(x: &'a str) { let q = '\"'; let e = '\\''; let b = b\"\\\"\"; unsafe {} }";
    let source = Source::new("src/a.rs", text);
    assert_eq!(source.lines_with("unsafe"), [1], "{}", source.code);
    assert_eq!(source.code.len(), text.len());
    let hidden =
        Source::new("src/a.rs", "let s = \"a \\\" unsafe\"; let t = br##\"x\"# unsafe\"##;");
    assert!(hidden.lines_with("unsafe").is_empty(), "{}", hidden.code);
}

#[test]
fn io_is_found_in_grouped_imports() {
    let prefixes = ["std::fs", "std::net::Tcp"];
    for bad in ["use std::{fs, fmt};", "use std::net::{IpAddr, TcpStream};", "use std::fs::File;"] {
        let sources = [Source::new("src/policy/a.rs", bad)];
        assert_eq!(never_imported_in(&["policy"], &prefixes, &sources).len(), 1, "{bad}");
    }
    let good = [Source::new("src/policy/a.rs", "use std::net::{IpAddr, SocketAddr};")];
    assert!(never_imported_in(&["policy"], &prefixes, &good).is_empty());
    let awaits = [Source::new("src/policy/a.rs", "async fn f() { g().await }")];
    assert_eq!(never_in(&["policy"], &["async", ".await"], &awaits).len(), 2);
}

#[test]
fn ways_to_show_a_secret_are_found() {
    for bad in [
        "impl fmt::Display for Secret {\n}",
        "impl serde::Serialize for Secret { }",
        "impl Deref for Secret { }",
        "#[derive(Clone, Debug)]\npub struct Secret(Vec<u8>);",
        "#[derive(Clone, Serialize)]\npub struct Secret(Vec<u8>);",
        "pub struct Secret(pub Vec<u8>);",
    ] {
        let found = secrets_stay_hidden(&[Source::new("src/model/secret.rs", bad)]);
        assert_eq!(found.len(), 1, "{bad}: {found:?}");
    }
    let good = "#[derive(Debug)]\nstruct Other;\n#[derive(Clone)]\npub struct Secret(Vec<u8>);\nimpl fmt::Debug for Secret { }\nimpl fmt::Display for SecretKind { }";
    assert!(secrets_stay_hidden(&[Source::new("src/model/secret.rs", good)]).is_empty());
}

#[test]
fn unearned_permits_are_found() {
    let good = "#[derive(Debug)]\npub struct Permit { subject: u8 }\nimpl Permit {\n    pub(super) fn grant() -> Self { Permit { subject: 1 } }\n    pub fn subject(&self) -> u8 { self.subject }\n}";
    let inside = |text: &str| Source::new("src/policy/auth/permit.rs", text);
    let outside = |text: &str| Source::new("src/data_plane/exchange/mod.rs", text);
    let user = outside("fn sign(permit: &Permit) -> Option<Permit> { f() }");
    assert_eq!(permits_are_earned(&[inside(good), user]), Vec::<String>::new());
    for bad in [
        vec![],
        vec![outside(good)],
        vec![inside(&good.replace("pub(super) fn", "pub fn"))],
        vec![inside(&good.replace("pub(super) fn", "pub(crate) fn"))],
        vec![inside(
            &good.replace("impl Permit", "impl<'a> Permit<'a>").replace("pub(super)", "pub"),
        )],
        vec![inside(&good.replace("{ subject: u8", "{ pub subject: u8"))],
        vec![inside(&good.replace("derive(Debug", "derive(Debug, Default"))],
        vec![inside(good), outside("fn f() { let p = Permit { subject: 2 }; }")],
        vec![inside(good), outside("impl Default for Permit { }")],
        vec![inside(good), outside("impl From<u8> for Permit { }")],
    ] {
        assert!(!permits_are_earned(&bad).is_empty(), "{bad:?}");
    }
}

#[test]
fn debug_text_in_lines_of_the_log_is_found() {
    let found =
        |text: &str| lines_of_the_log_have_no_debug_text(&[Source::new("src/up/a.rs", text)]).len();
    for bad in [
        "tracing::info!(?command, \"m\");",
        "tracing::warn!(\n    a = f(b),\n    workers = ?busy,\n    \"m\"\n);",
        "tracing::debug!(\"m {x:?}\");",
        "tracing::error!(a, ?b, \"m\");",
    ] {
        assert_eq!(found(bad), 1, "{bad}");
    }
    for good in [
        "tracing::info!(%command, \"is it ready? {x}\");",
        "tracing::info!(a = f(b)?, \"m\");\nlet x = format!(\"{y:?}\");",
        "#[cfg(test)]\nmod tests {\n    fn f() { tracing::info!(?a); }\n}\n",
    ] {
        assert_eq!(found(good), 0, "{good}");
    }
}

#[test]
fn unfinished_and_private_text_is_found() {
    let bad = concat!("// TO", "DO: later");
    assert_eq!(nothing_is_left_to_do(&[Source::new("docs/a.md", bad)]).len(), 1);
    assert!(nothing_is_left_to_do(&[Source::new("docs/a.md", "mastodon")]).is_empty());
    for bad in [concat!("see /ho", "me/me/x"), concat!("\"/wo", "rk/x\""), concat!("(/ro", "ot/x)")]
    {
        assert_eq!(no_private_paths(&[Source::new("docs/a.md", bad)]).len(), 1, "{bad}");
    }
    let good = concat!("net/ho", "me/x and target/wo", "rk/y");
    assert!(no_private_paths(&[Source::new("docs/a.md", good)]).is_empty());
    assert_eq!(names_say_something(&[Source::new("src/policy/utils.rs", "")]).len(), 1);
    assert!(names_say_something(&[Source::new("src/policy/utilisation.rs", "")]).is_empty());
}

fn circles_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let sources: Vec<_> = files.iter().map(|(path, text)| Source::new(path, text)).collect();
    circles(&uses(&sources))
}

#[test]
fn circles_are_found_however_the_files_name_each_other() {
    for text in [
        "use crate::b::B;",
        "use super::b::B;",
        "use crate::{x::X, b::{B, C}};",
        "use crate::b; fn f() -> b::B { b::B }",
        "use crate::b as other; fn f() -> other::B { todo() }",
        "fn f() { crate::b::g() }",
        "fn f() { super::b::g() }",
        "impl crate::b::B {}",
        "pub use crate::b::B; struct A(B);",
        "use crate::shown::B;",
        "use crate::shown; fn f() -> shown::B { todo() }",
        "fn f() -> crate::shown::B { todo() }",
        "use crate::shown::Renamed;",
    ] {
        let found = circles_of(&[
            ("src/a.rs", text),
            ("src/b.rs", "use crate::a::A;"),
            ("src/shown/mod.rs", "pub use crate::b::{B, B as Renamed};"),
            ("src/x.rs", "use crate::a::A;"),
        ]);
        let expected = if text.contains("x::X") {
            vec!["src/a.rs", "src/b.rs", "src/x.rs"]
        } else {
            vec!["src/a.rs", "src/b.rs"]
        };
        assert_eq!(found, [expected], "{text}");
    }
}

#[test]
fn a_circle_of_a_parent_and_its_child_is_found() {
    for (parent, child) in [
        ("mod child; fn f() { child::g() } struct P;", "use super::P;"),
        ("mod child; use child::C; struct P(C);", "use crate::parent::P;"),
        ("mod child; use self::child::C; const P: C = C;", "fn f() { super::P }"),
        ("mod child; pub use child::C; fn f(c: C) {} struct P;", "use super::P;"),
    ] {
        let files = [("src/parent/mod.rs", parent), ("src/parent/child.rs", child)];
        assert_eq!(circles_of(&files), [["src/parent/child.rs", "src/parent/mod.rs"]], "{parent}");
    }
}

#[test]
fn a_circle_by_way_of_a_third_file_is_found() {
    let found = circles_of(&[
        ("src/a.rs", "use crate::b::B;"),
        ("src/b.rs", "use crate::c::C;"),
        ("src/c.rs", "use crate::a::A; use crate::d::D;"),
        ("src/d.rs", ""),
    ]);
    assert_eq!(found, [["src/a.rs", "src/b.rs", "src/c.rs"]]);
}

#[test]
fn what_is_no_circle_is_not_found() {
    for (first, second) in [
        ("use crate::second::S;", ""),
        ("use crate::second::S;", "// use crate::first::F;\nconst T: &str = \"crate::first\";"),
        ("use crate::second::S;", "#[cfg(test)]\nmod tests {\n    use crate::first::F;\n}\n"),
        ("use crate::second::S;", "use other::first::F; fn f() { other::first::g() }"),
        ("use crate::second::S; use crate::first::F;", "use std::first;"),
    ] {
        let files = [("src/first.rs", first), ("src/second.rs", second)];
        assert_eq!(circles_of(&files), Vec::<Vec<String>>::new(), "{first} {second}");
    }
    // A parent that shows what its children define is not used by a child that names a sibling by
    // way of it.
    let files = [
        ("src/parent/mod.rs", "mod one; mod two; pub use self::{one::One, two::Two};"),
        ("src/parent/one.rs", "use super::Two;"),
        ("src/parent/two.rs", ""),
    ];
    assert_eq!(circles_of(&files), Vec::<Vec<String>>::new());
}

#[test]
fn a_circle_is_told_with_its_files() {
    let told = no_circles(&[vec!["a".to_owned(), "b".to_owned()]]);
    assert_eq!(told, ["files that use each other in a circle: a, b"]);
    assert!(no_circles(&[]).is_empty());
}

#[test]
fn imports_upward_inside_a_plane_are_found() {
    let check = |path: &str, text: &str| {
        let sources = [
            Source::new(path, text),
            Source::new("src/plane/up.rs", ""),
            Source::new("src/plane/left/mod.rs", ""),
            Source::new("src/plane/right.rs", ""),
            Source::new("src/plane/down.rs", ""),
        ];
        layers_point_downward("plane", &uses(&sources), &layers(TABLE)).len()
    };
    for (path, text) in [
        ("src/plane/down/a.rs", "use crate::plane::up::U;"),
        ("src/plane/down/a.rs", "use super::super::left::L;"),
        ("src/plane/left/a.rs", "fn f() { crate::plane::right::g() }"),
        ("src/plane/unlisted.rs", ""),
    ] {
        assert_eq!(check(path, text), 1, "{path}: {text}");
    }
    let text = "use crate::{other::O, plane::{down::D, left::L}};";
    assert_eq!(check("src/plane/up/a.rs", text), 0);
}

#[test]
fn docstrings_that_ask_are_found() {
    let check = |text: &str| docstrings_do_not_ask(&[Source::new("src/file.rs", text)]).len();
    for text in ["/// What it is.", "//! How it goes.", "    /// Whether it is so.\n    a: bool,"] {
        assert_eq!(check(text), 1, "{text}");
    }
    for text in ["/// A noun\n/// What follows.", "/// Whatever.", "// What a comment says.", ""] {
        assert_eq!(check(text), 0, "{text}");
    }
}

#[test]
fn long_comments_are_found() {
    let check = |text: &str| comments_are_wrapped(&[Source::new("src/file.rs", text)]).len();
    let long = "x ".repeat(49);
    assert_eq!(check(&format!("/// {long}")), 1);
    assert_eq!(check(&format!("// {}", &long[1..])), 0);
    assert_eq!(check(&format!("let a = \"{long}\";")), 0);
    assert_eq!(check(&format!("/// <https://example.com/{long}>")), 0);
}

#[test]
fn private_lists_are_found() {
    let check = |text: &str| no_private_lists(&[Source::new("src/file.rs", text)]).len();
    assert_eq!(check(concat!("/// SP", "EC 4.")), 1);
    assert_eq!(check(concat!("// see MU", "STS, item 2")), 1);
    assert_eq!(check("// RFC 9110 section 13.1.1; the specification; a SPECIAL case"), 0);
}
