use proptest::prelude::*;

use super::{
    field::{OF_A_CONNECTION, OF_THE_BODY, OF_THE_RESPONSE},
    *,
};

const OBJECT: Response<'_> = Response {
    key: Some(b"docs/Page.HTML"),
    content_type: Some(b"Text/HTML; charset=utf-8"),
    is_not_modified: false,
    is_tls: true,
};

const ERROR: Response<'_> =
    Response { key: None, content_type: Some(b"application/json"), ..OBJECT };

fn choice(value: &str, types: &[&str], suffixes: &[&str]) -> Choice {
    Choice {
        value: value.into(),
        types: types.iter().map(|text| MediaRange::parse(text).unwrap()).collect(),
        suffixes: suffixes.iter().map(|text| Box::from(*text)).collect(),
    }
}

fn rule(name: &str, choices: &[Choice]) -> FieldRule {
    FieldRule { name: FieldName::parse(name).unwrap(), choices: choices.to_vec() }
}

fn always(name: &str, value: &str) -> FieldRule {
    rule(name, &[choice(value, &[], &[])])
}

fn removed(names: &[&str]) -> Vec<NamePattern> {
    names.iter().map(|name| NamePattern::parse(name).unwrap()).collect()
}

fn of_bucket(rules: &HeaderRules) -> Headers {
    Headers::new(&HeaderRules::default(), rules).unwrap()
}

fn setting(rules: &[FieldRule]) -> Headers {
    of_bucket(&HeaderRules { set: rules.to_vec(), ..HeaderRules::default() })
}

fn fields<'h>(headers: &'h Headers, response: &'h Response<'_>) -> Vec<(&'h str, &'h str)> {
    headers.fields(response).collect()
}

#[test]
fn names_that_would_break_a_response_are_refused() {
    for (name, error) in [
        ("", FieldError::Name),
        ("a b", FieldError::Name),
        ("a:", FieldError::Name),
        ("a\r\nb", FieldError::Name),
        ("é", FieldError::Name),
        ("Connection", FieldError::OfAConnection),
        ("keep-alive", FieldError::OfAConnection),
        ("TE", FieldError::OfAConnection),
        ("Trailer", FieldError::OfAConnection),
        ("Upgrade", FieldError::OfAConnection),
        ("Transfer-Encoding", FieldError::OfTheBody),
        ("CONTENT-LENGTH", FieldError::OfTheBody),
        ("Content-Range", FieldError::OfTheBody),
        ("Content-Encoding", FieldError::OfTheBody),
        ("Date", FieldError::OfTheResponse),
        ("WWW-Authenticate", FieldError::OfTheResponse),
    ] {
        assert_eq!(FieldName::parse(name).err(), Some(error), "{name:?}");
        assert_eq!(NamePattern::parse(name).err(), Some(error), "{name:?}");
    }
    let long = "x".repeat(FIELD_NAME_BYTES_MAX + 1);
    assert_eq!(FieldName::parse(&long).err(), Some(FieldError::NameTooLong));
    for name in ["Via", "X-Request-Id", "ETag", "last-modified", "X-Config-Generation"] {
        assert_eq!(FieldName::parse(name).err(), Some(FieldError::NeverSet), "{name}");
        assert!(NamePattern::parse(name).is_ok(), "{name}");
    }
    for (name, error) in [
        ("*", FieldError::Wildcard),
        ("x-*-y", FieldError::Wildcard),
        ("x-**", FieldError::Wildcard),
        ("content-*", FieldError::Covers("content-encoding")),
        ("D*", FieldError::Covers("date")),
        ("t*", FieldError::Covers("transfer-encoding")),
        ("u*", FieldError::Covers("upgrade")),
    ] {
        assert_eq!(NamePattern::parse(name).err(), Some(error), "{name}");
    }
    assert!(NamePattern::parse("content-sec*").is_ok());
}

#[test]
fn values_that_a_client_would_misread_are_refused() {
    for (value, error) in [
        ("", FieldError::Empty),
        ("a\r\nSet-Cookie: b", FieldError::Control),
        ("a\nb", FieldError::Control),
        ("a\0b", FieldError::Control),
        ("a\u{7f}", FieldError::Control),
        ("ä", FieldError::NotAscii),
        (" a", FieldError::Blank),
        ("a\t", FieldError::Blank),
    ] {
        assert_eq!(check_value(value), Err(error), "{value:?}");
    }
    assert_eq!(check_value("max-age=1,\t b"), Ok(()));
    let long = "x".repeat(FIELD_VALUE_BYTES_MAX + 1);
    assert_eq!(check_value(&long), Err(FieldError::ValueTooLong));
    assert_eq!(check_value(&long[1..]), Ok(()));
}

#[test]
fn a_field_that_is_set_replaces_and_one_that_is_added_does_not() {
    let headers = of_bucket(&HeaderRules {
        set: vec![always("X-Frame-Options", "DENY")],
        add: vec![always("Link", "<a>"), rule("Link", &[choice("<b>", &[], &[])])],
        remove: removed(&["Server", "x-amz-*"]),
    });
    for response in [OBJECT, ERROR] {
        let expected = [("X-Frame-Options", "DENY"), ("Link", "<a>"), ("Link", "<b>")];
        assert_eq!(fields(&headers, &response), expected);
        for (name, stays) in [
            ("x-frame-options", false),
            ("link", true),
            ("SERVER", false),
            ("server-timing", true),
            ("X-Amz-Id-2", false),
            ("x-amz", true),
            ("etag", true),
        ] {
            assert_eq!(headers.keeps(name.as_bytes(), &response), stays, "{name}");
        }
    }
    assert!(Headers::new(&HeaderRules::default(), &HeaderRules::default()).is_none());
}

#[test]
fn the_first_value_that_fits_the_object_is_set() {
    let headers = setting(&[rule(
        "Cache-Control",
        &[
            choice("no-cache", &["text/html"], &[]),
            choice("max-age=60", &[], &[".js", ".CSS"]),
            choice("max-age=7", &["text/*"], &[".txt"]),
        ],
    )]);
    let with = |key: &'static [u8], content_type: Option<&'static [u8]>| Response {
        key: Some(key),
        content_type,
        ..OBJECT
    };
    for (key, content_type, expected) in [
        (&b"a"[..], Some(&b"text/html"[..]), Some("no-cache")),
        (b"a.js", Some(b"text/html"), Some("no-cache")),
        (b"a.JS", Some(b"text/javascript"), Some("max-age=60")),
        (b"a.css", None, Some("max-age=60")),
        (b"a.txt", Some(b"text/plain"), Some("max-age=7")),
        (b"a.txt", Some(b"image/png"), None),
        (b"txt", Some(b"text/plain"), None),
        (b"", None, None),
    ] {
        let response = with(key, content_type);
        let found = fields(&headers, &response);
        assert_eq!(found.first().map(|(_, value)| *value), expected, "{key:?}");
        assert_eq!(headers.keeps(b"cache-control", &response), expected.is_none());
    }
}

#[test]
fn fields_of_an_object_are_not_sent_with_errors() {
    let headers = setting(&[
        always("Cache-Control", "max-age=1"),
        always("Content-Disposition", "attachment"),
        always("Content-Type", "text/plain"),
        always("X-A", "b"),
    ]);
    assert_eq!(fields(&headers, &OBJECT).len(), 4);
    assert_eq!(fields(&headers, &ERROR), [("X-A", "b")]);
    let removing =
        of_bucket(&HeaderRules { remove: removed(&["Cache-*"]), ..HeaderRules::default() });
    assert!(removing.keeps(b"Cache-Control", &ERROR));
    assert!(!removing.keeps(b"Cache-Control", &OBJECT));
    // What is said of the error stays.
    assert!(headers.keeps(b"cache-control", &ERROR) && headers.keeps(b"content-type", &ERROR));
}

#[test]
fn hsts_is_sent_over_tls_only_whoever_sent_it() {
    let headers = setting(&[always("Strict-Transport-Security", "max-age=1")]);
    for response in [OBJECT, ERROR] {
        let plain = Response { is_tls: false, ..response };
        assert_eq!(fields(&headers, &response).len(), 1);
        assert_eq!(fields(&headers, &plain), []);
        assert!(!headers.keeps(b"strict-transport-security", &plain));
    }
}

#[test]
fn a_type_that_is_set_decides_about_other_fields_and_unknown_ones_change_nothing() {
    let by_type = rule("Cache-Control", &[choice("no-cache", &["application/wasm"], &[])]);
    let headers = setting(&[
        by_type.clone(),
        rule("Content-Type", &[choice("application/wasm", &[], &[".wasm"])]),
    ]);
    let wasm = Response { key: Some(b"a.wasm"), content_type: None, ..OBJECT };
    let expected = [("Cache-Control", "no-cache"), ("Content-Type", "application/wasm")];
    assert_eq!(fields(&headers, &wasm), expected);
    let unchanged = Response { is_not_modified: true, ..wasm };
    assert_eq!(fields(&headers, &unchanged), expected[..1]);
    assert!(!headers.keeps(b"content-type", &unchanged));
    // An unchanged object whose type nobody knows keeps the value that it came with.
    let headers = setting(&[by_type]);
    assert_eq!(fields(&headers, &unchanged), []);
    assert!(!headers.keeps(b"cache-control", &unchanged));
    assert!(headers.keeps(b"cache-control", &wasm));
}

#[test]
fn no_value_of_an_unchanged_object_is_chosen_behind_one_that_its_type_decides_about() {
    let choices = [
        choice("scripts", &[], &[".js"]),
        choice("pages", &["text/html"], &[".html", ".htm"]),
        choice("rest", &[], &[]),
    ];
    let headers = setting(&[rule("Cache-Control", &choices)]);
    let unchanged = |key, content_type| Response {
        key: Some(key),
        content_type,
        is_not_modified: true,
        is_tls: true,
    };
    for (key, content_type, expected) in [
        (&b"a.js"[..], None, Some("scripts")),
        (b"a.html", None, None),
        (b"a.html", Some(&b"text/html"[..]), Some("pages")),
        (b"a.html", Some(b"text/plain"), Some("rest")),
        // Whatever its type is.
        (b"a.png", None, Some("rest")),
    ] {
        let response = unchanged(key, content_type);
        let found = fields(&headers, &response);
        assert_eq!(found.first().map(|(_, value)| *value), expected, "{key:?} {content_type:?}");
        assert!(!headers.keeps(b"cache-control", &response));
    }
    // A type that is set where S3 has a certain one is as unknown.
    let headers = setting(&[
        rule("Content-Type", &[choice("text/css", &["text/plain"], &[]), choice("b/c", &[], &[])]),
        rule("X-A", &[choice("b/c", &["b/c"], &[]), choice("other", &[], &[])]),
    ]);
    assert_eq!(fields(&headers, &unchanged(b"a", None)), []);
    // Of what is added, all or nothing, beside what S3 has.
    let added = rule("Link", &[choice("a", &[], &[]), choice("b", &["text/html"], &[".html"])]);
    let headers = of_bucket(&HeaderRules { add: vec![added], ..HeaderRules::default() });
    assert_eq!(fields(&headers, &unchanged(b"a.html", None)), []);
    assert!(!headers.keeps(b"link", &unchanged(b"a.html", None)));
    assert_eq!(fields(&headers, &unchanged(b"a.png", None)), [("Link", "a")]);
    assert!(headers.keeps(b"link", &unchanged(b"a.png", None)));
    // So it is with a value that is added beside one that is set.
    let headers = of_bucket(&HeaderRules {
        set: vec![rule("X-A", &[choice("a", &["text/html"], &[]), choice("b", &[], &[])])],
        add: vec![always("X-A", "c")],
        remove: Vec::new(),
    });
    assert_eq!(fields(&headers, &OBJECT), [("X-A", "a"), ("X-A", "c")]);
    assert_eq!(fields(&headers, &unchanged(b"a.html", None)), []);
}

#[test]
fn rules_of_a_bucket_win() {
    let all = HeaderRules {
        set: vec![
            always("X-A", "all"),
            always("X-B", "all"),
            rule("Cache-Control", &[choice("all", &[], &[])]),
        ],
        add: vec![always("Link", "all"), always("X-C", "all"), always("X-D", "all")],
        remove: removed(&["Server"]),
    };
    let bucket = HeaderRules {
        set: vec![
            always("x-a", "bucket"),
            rule("cache-control", &[choice("html", &["text/html"], &[])]),
            always("X-C", "bucket"),
        ],
        add: vec![always("Link", "bucket")],
        remove: removed(&["x-b", "X-D"]),
    };
    let headers = Headers::new(&all, &bucket).unwrap();
    let expected = [
        ("x-a", "bucket"),
        ("cache-control", "html"),
        ("X-C", "bucket"),
        ("Link", "all"),
        ("Link", "bucket"),
    ];
    assert_eq!(fields(&headers, &OBJECT), expected);
    let image = Response { content_type: Some(b"image/png"), ..OBJECT };
    assert_eq!(fields(&headers, &image)[1], ("cache-control", "all"));
    assert!(!headers.keeps(b"server", &OBJECT) && !headers.keeps(b"x-b", &OBJECT));
}

#[test]
fn vary_is_kept_apart() {
    let headers = of_bucket(&HeaderRules {
        set: vec![always("Vary", "A")],
        add: vec![always("vary", "B")],
        remove: vec![],
    });
    assert_eq!(fields(&headers, &OBJECT), []);
    assert_eq!(headers.vary(&OBJECT).collect::<Vec<_>>(), ["A", "B"]);
}

proptest! {
    #[test]
    fn names_and_values_that_are_accepted_are_one_line(name in "\\PC{0,12}", value in "\\PC{0,20}") {
        if FieldName::parse(&name).is_ok() {
            prop_assert!(name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':'));
        }
        if check_value(&value).is_ok() {
            prop_assert!(value.bytes().all(|byte| matches!(byte, b'\t' | b' '..=b'~')));
            prop_assert_eq!(value.trim(), value.as_str());
        }
    }

    #[test]
    fn what_cannot_be_removed_is_not_covered(text in "[a-z-]{0,6}\\*?", name in 0_usize..17) {
        let kept: Vec<_> =
            OF_A_CONNECTION.iter().chain(&OF_THE_BODY).chain(&OF_THE_RESPONSE).collect();
        if let Ok(pattern) = NamePattern::parse(&text) {
            prop_assert!(!pattern.covers(kept[name].as_bytes()), "{text}");
        }
    }
}
