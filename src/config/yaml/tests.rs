use std::fmt::Write as _;

use super::{build::KEYS_SEARCHED_MAX, *};

fn tree(text: &str) -> Result<Node<'_>, Problem> {
    read(text.as_bytes(), Size::default(), &mut Problems::default()).map(|tree| tree.root)
}

fn scalar<'n>(node: &'n Node<'_>) -> &'n str {
    match node.shape() {
        Shape::Scalar(scalar) => &scalar.text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_value_knows_its_line() {
    let root = tree("# top\na: 1\nb:\n  - x\n  -\n    c: {d: 1,\n     e: 2}\n").unwrap();
    for (path, line) in [
        ("a", 2),
        ("b", 3),
        ("b[0]", 4),
        ("b[1]", 6),
        ("b[1].c", 6),
        ("b[1].c.e", 7),
        // What is not there: the nearest above.
        ("b[1].c.f", 6),
        ("b[7].c", 3),
        ("z.y", 2),
        ("a.b", 2),
    ] {
        assert_eq!(root.line_of(path), line, "{path}");
    }
}

#[test]
fn aliases_repeat_what_they_name() {
    let root = tree("a: &x [1, {k: v}]\nb: *x\nc: &y z\nd: *y\n").unwrap();
    let Shape::Mapping(entries) = root.shape() else { panic!("no mapping") };
    let Shape::Sequence(items) = entries[1].value.shape() else { panic!("no list") };
    assert_eq!(scalar(&items[0]), "1");
    assert_eq!(scalar(&entries[3].value), "z");
    assert_eq!(entries[1].value.line, 2);
}

#[test]
fn duplicates_are_found_in_small_and_large_mappings() {
    for count in [2, KEYS_SEARCHED_MAX, KEYS_SEARCHED_MAX + 1, 1_000] {
        let mut problems = Problems::default();
        let mut text = String::from("top:\n");
        for n in 0..count {
            writeln!(text, "  k{n}: 1").unwrap();
        }
        writeln!(text, "  k{}: 2\n  k0: 3", count - 1).unwrap();
        read(text.as_bytes(), Size::default(), &mut problems).unwrap();
        let found: Vec<_> =
            problems.errors.iter().map(|problem| (&*problem.path, problem.line)).collect();
        let last = format!("top.k{}", count - 1);
        assert_eq!(found, [(&*last, Some(count + 2)), ("top.k0", Some(count + 3))]);
        assert!(problems.errors[1].message.contains("first written on line 2"));
    }
}

#[test]
fn depth_is_counted_through_aliases() {
    let nested = |levels: usize| format!("{}x{}", "[".repeat(levels), "]".repeat(levels));
    assert!(tree(&format!("a: {}", nested(DEPTH_MAX - 2))).is_ok());
    assert!(tree(&format!("a: {}", nested(DEPTH_MAX - 1))).is_err());
    let alias = |levels: usize| format!("a: &a {}\nb: [[*a]]\n", nested(levels));
    assert!(tree(&alias(DEPTH_MAX - 4)).is_ok());
    let refused = tree(&alias(DEPTH_MAX - 3)).unwrap_err();
    assert_eq!(
        (refused.line, &*refused.message),
        (Some(2), "is nested deeper than 32 levels; write it flatter")
    );
}

#[test]
fn values_are_counted_through_aliases() {
    // Three values and the list that holds them, repeated.
    let times = VALUES_MAX / 4;
    let text = |times: usize| format!("- &a [1, 2, 3]\n{}", "- *a\n".repeat(times - 1));
    assert!(tree(&text(times - 1)).is_ok());
    assert_eq!(tree(&text(times)).unwrap_err().line, Some(times));
}

#[test]
fn text_is_counted_through_aliases() {
    let text = |bytes: usize, times: usize| {
        format!("- &a [{}]\n{}", "x".repeat(bytes), "- *a\n".repeat(times - 1))
    };
    let times = 1_024;
    assert!(tree(&text(TEXT_BYTES_MAX / times, times)).is_ok());
    let refused = tree(&text(TEXT_BYTES_MAX / times + 1, times)).unwrap_err();
    assert!(
        refused.message.starts_with("the file stands for more than 32 MiB of text"),
        "{refused}"
    );
}

#[test]
fn a_key_is_shown_up_to_what_cannot_be_one() {
    for (key, shown) in [
        ("port", Some("port")),
        ("no-such_key", Some("no-such_key")),
        ("secret_key:hunter2", Some("secret_key")),
        ("secret_key=hunter2", Some("secret_key")),
        ("secret_key hunter2", Some("secret_key")),
        ("secret_key\"hunter2", Some("secret_key")),
        ("", None),
        ("<<", Some("<<")),
        ("=hunter2", None),
        ("hunter/2", None),
        ("abcdefghijklmnopqrstuvwxyz012345", None),
    ] {
        assert_eq!(shown_key(key), shown, "{key}");
    }
}

#[test]
fn what_the_parser_takes_for_the_end_is_no_end() {
    let refused = tree("a: 1\n\0b: 2\n").unwrap_err();
    assert_eq!(
        (refused.line, &*refused.message),
        (Some(2), "holds the control character 0x00; remove it")
    );
}
