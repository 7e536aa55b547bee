use proptest::prelude::*;

use super::*;
use crate::protocol::s3::listing::ListedObject;

const ALL: [Format; 3] = [Format::Html, Format::Json, Format::S3];

fn asked(formats: &[Format], path: &str, query: &str) -> Option<Asked> {
    asked_with(formats, path, query, false, &[])
}

fn asked_with(
    formats: &[Format],
    path: &str,
    query: &str,
    is_head: bool,
    accept: &[&str],
) -> Option<Asked> {
    let listing = Listing::new(formats, "");
    let key = path.trim_start_matches('/').as_bytes();
    let key = Some(key).filter(|key| !key.is_empty());
    let accept = accept.iter().map(|value| value.as_bytes());
    listing.asked(key, path.ends_with('/'), is_head, query.as_bytes(), &accept)
}

#[test]
fn only_directories_are_listed_in_pages() {
    let page = Some(Asked::Page(Format::Html));
    for (path, expected) in
        [("/", page), ("/a/", page), ("/a/b/", page), ("", Some(Asked::Slash)), ("/a", None)]
    {
        assert_eq!(asked(&ALL, path, ""), expected, "{path}");
        assert_eq!(asked(&ALL[..2], path, ""), expected, "{path}");
    }
    for path in ["/a/", "/a"] {
        assert_eq!(asked(&ALL[2..], path, "list-type=2"), None, "{path}");
    }
}

#[test]
fn the_bucket_itself_is_what_s3_clients_ask() {
    let (one, two) = (Some(Asked::S3(S3Version::One)), Some(Asked::S3(S3Version::Two)));
    for path in ["", "/"] {
        for query in ["list-type=2", "prefix=a&list-type=2", "x&list%2Dtype=2", "list-type=3"] {
            assert_eq!(asked(&ALL, path, query), two, "{query}");
        }
        for query in ["prefix=", "delimiter=%2F", "max-keys=1&marker=m", "encoding-type=url"] {
            assert_eq!(asked(&ALL, path, query), one, "{query}");
            assert_eq!(asked(&ALL[2..], path, query), one, "{query}");
        }
        for query in ["location", "location="] {
            assert_eq!(asked(&ALL, path, query), Some(Asked::Location), "{query}");
        }
        assert_eq!(asked(&ALL[2..], path, ""), one);
        assert_eq!(asked(&ALL[2..], path, "versioning"), None);
    }
    assert_eq!(asked(&ALL, "/", "max-keys=1"), Some(Asked::Page(Format::Html)));
    assert_eq!(asked(&ALL[..2], "/", "list-type=2"), Some(Asked::Page(Format::Html)));
    assert_eq!(asked(&ALL[..2], "", "location"), Some(Asked::Slash));
}

#[test]
fn a_head_of_the_bucket_is_head_bucket_unless_it_is_of_a_page() {
    let head = |formats, path| asked_with(formats, path, "", true, &[]);
    assert_eq!(head(&ALL, ""), Some(Asked::Bucket));
    assert_eq!(head(&ALL, "/"), Some(Asked::Page(Format::Html)));
    assert_eq!(head(&ALL[2..], "/"), Some(Asked::Bucket));
    assert_eq!(head(&ALL[..2], ""), Some(Asked::Slash));
    assert_eq!(asked_with(&ALL, "/", "list-type=2", true, &[]), Some(Asked::Bucket));
}

#[test]
fn the_form_of_a_page_is_what_the_client_prefers() {
    for (accept, expected) in [
        (&[][..], Format::Html),
        (&["*/*"], Format::Html),
        (&["text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"], Format::Html),
        (&["application/json"], Format::Json),
        (&["Application/JSON; charset=utf-8"], Format::Json),
        (&["text/html;q=0.5", "application/*;q=0.6"], Format::Json),
        (&["text/*, application/json;q=0.9"], Format::Html),
        (&["*/*, text/html;q=0"], Format::Json),
        (&["text/html;q=0.1, text/*;q=1, application/json;q=0.2"], Format::Json),
        (&["image/png"], Format::Html),
        (&["application/json;q=nan, text/html;q=0.001"], Format::Html),
        (&["application/json;q=1e-1, text/html;q=0.001"], Format::Html),
        (&["application/json;q=+1, text/html;q=0.001"], Format::Html),
        (&[",;,/"], Format::Html),
    ] {
        let asked = asked_with(&ALL, "/", "", false, accept);
        assert_eq!(asked, Some(Asked::Page(expected)), "{accept:?}");
    }
    let json_first = [Format::Json, Format::Html];
    assert_eq!(asked(&json_first, "/", ""), Some(Asked::Page(Format::Json)));
}

fn query(version: S3Version, query: &str) -> Result<ListQuery, InvalidListQuery> {
    ListQuery::of_client(version, query.as_bytes())
}

#[test]
fn parameters_of_a_client_are_read() {
    let read = query(
        S3Version::Two,
        "list-type=2&prefix=a+b%2B%2F&delimiter=%2F&encoding-type=url&max-keys=7&start-after=s\
         &fetch-owner=true&x=%zz",
    );
    let expected = ListQuery {
        prefix: "a b+/".to_owned(),
        delimiter: Some("/".to_owned()),
        entries_max: 7,
        is_encoded: true,
        start_after: Some("s".to_owned()),
        token: None,
        after: Some("s".to_owned()),
    };
    assert_eq!(read, Ok(expected));
    let token = URL_SAFE_NO_PAD.encode("k八");
    let read = query(
        S3Version::Two,
        &format!("list-type=2&continuation-token={token}&start-after=s&max-keys=99999999"),
    )
    .unwrap();
    assert_eq!((read.after.as_deref(), read.entries_max), (Some("k八"), 1_000));
    let read = query(S3Version::One, "marker=m&delimiter=&prefix").unwrap();
    assert_eq!((read.after.as_deref(), read.delimiter, &*read.prefix), (Some("m"), None, ""));
}

#[test]
fn parameters_that_are_wrong_are_refused() {
    for wrong in [
        "list-type=1",
        "list-type",
        "list-type=2&max-keys=-1",
        "list-type=2&max-keys=x",
        "list-type=2&encoding-type=base64",
        "list-type=2&prefix=%ff",
        "list-type=2&prefix=%f",
        "list-type=2&continuation-token=***",
        "list-type=2&continuation-token=_w",
    ] {
        assert_eq!(query(S3Version::Two, wrong), Err(InvalidListQuery), "{wrong}");
    }
    for wrong in ["continuation-token=a", "max-keys=1.5", "max-keys=0", "continuation-token=%3D"] {
        let read = ListQuery::of_page(b"a/", wrong.as_bytes());
        assert_eq!(read, Err(InvalidListQuery), "{wrong}");
    }
    assert_eq!(ListQuery::of_page(b"\xff/", b""), Err(InvalidListQuery));
}

#[test]
fn a_text_before_another_is_next_to_it() {
    for (text, expected) in [
        ("a/", "a.\u{10ffff}"),
        ("b", "a\u{10ffff}"),
        ("a\0", "a"),
        ("\u{e000}", "\u{d7ff}\u{10ffff}"),
        ("", ""),
    ] {
        assert_eq!(before(text), expected, "{text:?}");
    }
}

/// A token that may read what is below these prefixes.
fn reader(prefixes: &[&str]) -> Readable {
    Readable::below(prefixes)
}

fn page_of(prefix: &str, after: Option<&str>) -> ListQuery {
    ListQuery {
        prefix: prefix.to_owned(),
        delimiter: Some("/".to_owned()),
        entries_max: 1_000,
        after: after.map(str::to_owned),
        ..ListQuery::default()
    }
}

#[test]
fn a_listing_begins_where_the_client_may_read() {
    let tenant = reader(&["t/a"]);
    for (prefix, after, start) in [
        ("", None, Ok(Some("t.\u{10ffff}"))),
        ("t/", None, Ok(Some("t/`\u{10ffff}"))),
        ("t/a/", None, Ok(None)),
        ("t/a/", Some("t/a/x"), Ok(Some("t/a/x"))),
        ("t/", Some("t/b"), Err(Over)),
        ("", Some("t."), Ok(Some("t.\u{10ffff}"))),
        // Inside of the group, where it begins does not depend on keys that it may not read.
        ("", Some("t/"), Ok(Some("t/`\u{10ffff}"))),
        ("", Some("t/Z"), Ok(Some("t/`\u{10ffff}"))),
        ("", Some("t/`zz"), Ok(Some("t/`\u{10ffff}"))),
        ("", Some("t/a/x"), Ok(Some("t/a/x"))),
    ] {
        let start = start.map(|start| start.map(str::to_owned));
        assert_eq!(page_of(prefix, after).start(&tenant), start, "{prefix} {after:?}");
    }
    let flat = ListQuery { delimiter: None, ..page_of("", None) };
    assert_eq!(flat.start(&tenant), Ok(Some("t/`\u{10ffff}".to_owned())));
    assert_eq!(page_of("x/", None).start(&Readable::everything()), Ok(None));
}

#[test]
fn a_token_never_holds_a_key_that_the_client_may_not_read() {
    let tenants = reader(&["t/a", "t/c/"]);
    let flat = ListQuery { delimiter: None, ..page_of("", None) };
    let next = |last| flat.next(S3Version::One, last, &tenants);
    assert_eq!(next(Last::Key("t/a/x")).as_deref(), Some("t/a/x"));
    assert_eq!(next(Last::Key("t/b/secret")).as_deref(), Some("t/c.\u{10ffff}"));
    assert_eq!(next(Last::Key("t/d/secret")), None);
    let next = |last| page_of("t/", None).next(S3Version::One, last, &tenants);
    assert_eq!(next(Last::Prefix("t/a/")).as_deref(), Some("t/a/\u{10ffff}"));
    assert_eq!(next(Last::Prefix("t/b/")).as_deref(), Some("t/c.\u{10ffff}"));
    // No path names a key with a dot segment, and no token may read it.
    assert_eq!(next(Last::Key("t/a/../x")).as_deref(), Some("t/a/../\u{10ffff}"));
    assert_eq!(next(Last::Key("t/a/x/..")).as_deref(), Some("t/a/x/..\u{1}"));
    assert_eq!(next(Last::Prefix("t/a/./b/")).as_deref(), Some("t/a/./\u{10ffff}"));
    let token = page_of("t/", None).next(S3Version::Two, Last::Prefix("t/a/"), &tenants).unwrap();
    assert_eq!(key_of(&token).as_deref(), Ok("t/a/\u{10ffff}"));
}

/// The page that S3 gives of these keys.
fn s3(keys: &[String], query: &ListQuery, start_after: Option<&str>) -> Listed {
    let mut listed = Listed::default();
    let below = keys.iter().filter(|key| key.starts_with(&query.prefix));
    for key in below.filter(|key| start_after.is_none_or(|start| key.as_str() > start)) {
        let rest = &key[query.prefix.len()..];
        let group = query.delimiter.as_deref().and_then(|by| Some(rest.find(by)? + by.len()));
        let group = group.map(|end| key[..query.prefix.len() + end].to_owned());
        if group.is_some() && group.as_ref() == listed.prefixes.last() {
            continue;
        }
        if listed.objects.len() + listed.prefixes.len() == usize::from(query.entries_max) {
            listed.is_truncated = true;
            break;
        }
        match group {
            Some(group) => listed.prefixes.push(group),
            None => listed.objects.push(ListedObject { key: key.clone(), ..Default::default() }),
        }
    }
    listed
}

proptest! {
    /// All pages together show each readable entry once, and nothing else.
    #[test]
    fn pages_show_every_readable_entry_once(
        mut keys in prop::collection::vec("[ab./-]{1,5}", 0..30),
        prefixes in prop::collection::vec("[ab-]{1,2}(/[ab]{0,2})?", 0..3),
        prefix in "([ab]/?){0,2}",
        is_grouped in any::<bool>(),
        entries_max in 1_u16..4,
    ) {
        keys.sort();
        keys.dedup();
        let prefixes: Vec<&str> = prefixes.iter().map(String::as_str).collect();
        let readable =
            if prefixes.is_empty() { Readable::everything() } else { reader(&prefixes) };
        let delimiter = is_grouped.then(|| "/".to_owned());
        let mut query = ListQuery { delimiter, entries_max, ..page_of(&prefix, None) };

        let mut expected = s3(&keys, &ListQuery { entries_max: 1_000, ..query.clone() }, None);
        keep_readable(&mut expected, &readable);
        let mut shown = Listed::default();
        let mut pages = 0;
        while let Ok(start) = query.start(&readable) {
            pages += 1;
            prop_assert!(pages <= 2 * keys.len() + 2, "it never ends");
            let mut page = s3(&keys, &query, start.as_deref());
            let next = page.last().filter(|_| page.is_truncated);
            let next = next.and_then(|last| query.next(S3Version::Two, last, &readable));
            keep_readable(&mut page, &readable);
            shown.objects.append(&mut page.objects);
            shown.prefixes.append(&mut page.prefixes);
            let Some(token) = next else { break };
            let key = key_of(&token).unwrap();
            query.after = Some(key.clone());
            // Behind all texts of a kind, or known to the client.
            prop_assert!(key.ends_with(char::MAX) || readable.has_below(&key), "{key} is told");
        }
        prop_assert_eq!(shown, expected);
    }
}
