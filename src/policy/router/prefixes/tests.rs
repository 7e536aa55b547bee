use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

fn router(prefixes: &[&str]) -> Prefixes {
    Prefixes::build(prefixes.iter().enumerate().map(|(bucket, prefix)| (*prefix, bucket))).unwrap()
}

fn routed(router: &Prefixes, path: &str) -> Option<(usize, Option<String>)> {
    let Routed { bucket, key } = router.route(path.as_bytes())?;
    Some((bucket, key.map(|key| String::from_utf8(key.to_vec()).unwrap())))
}

#[test]
fn the_longest_prefix_of_whole_segments_wins() {
    let router = router(&["/public", "/public/images", "/public/images/big", "/p"]);
    for (path, expected) in [
        ("/public/a", Some((0, Some("a")))),
        ("/public/images/a", Some((1, Some("a")))),
        ("/public/imagesque/a", Some((0, Some("imagesque/a")))),
        ("/public/images/big/a/b", Some((2, Some("a/b")))),
        ("/public/images/bigger", Some((1, Some("bigger")))),
        ("/public/images/bi", Some((1, Some("bi")))),
        ("/p/x", Some((3, Some("x")))),
        ("/publicfoo", None),
        ("/publicfoo/a", None),
        ("/publi", None),
        ("/pu/a", None),
        ("/Public/a", None),
        ("/", None),
        ("//public/a", None),
        ("", None),
        ("public/a", None),
    ] {
        let expected = expected.map(|(bucket, key)| (bucket, key.map(str::to_owned)));
        assert_eq!(routed(&router, path), expected, "{path}");
    }
}

#[test]
fn a_path_that_names_only_the_prefix_has_no_key() {
    let router = router(&["/products", "/products/a"]);
    assert_eq!(routed(&router, "/products"), Some((0, None)));
    assert_eq!(routed(&router, "/products/"), Some((0, None)));
    assert_eq!(routed(&router, "/products/a"), Some((1, None)));
    assert_eq!(routed(&router, "/products/a/"), Some((1, None)));
}

#[test]
fn slashes_after_the_prefix_belong_to_the_key() {
    let router = router(&["/products", "/"]);
    assert_eq!(routed(&router, "/products//a"), Some((0, Some("/a".to_owned()))));
    assert_eq!(routed(&router, "/products//"), Some((0, Some("/".to_owned()))));
    assert_eq!(routed(&router, "/products/a//b/"), Some((0, Some("a//b/".to_owned()))));
    assert_eq!(routed(&router, "//products/a"), Some((1, Some("/products/a".to_owned()))));
}

#[test]
fn the_root_takes_what_nothing_else_takes() {
    let router = router(&["/a", "/"]);
    assert_eq!(routed(&router, "/a/x"), Some((0, Some("x".to_owned()))));
    assert_eq!(routed(&router, "/ab/x"), Some((1, Some("ab/x".to_owned()))));
    assert_eq!(routed(&router, "/x"), Some((1, Some("x".to_owned()))));
    assert_eq!(routed(&router, "//"), Some((1, Some("/".to_owned()))));
    assert_eq!(routed(&router, "/"), Some((1, None)));
}

#[test]
fn without_prefixes_nothing_is_routed() {
    for router in [Prefixes::default(), router(&[])] {
        assert_eq!(routed(&router, "/"), None);
        assert_eq!(routed(&router, "/a/b"), None);
        assert_eq!(routed(&router, ""), None);
    }
}

#[test]
fn duplicates_are_refused() {
    for prefix in ["/api", "/"] {
        let built = Prefixes::build([("/x", 4), (prefix, 7), ("/y", 5), (prefix, 9)]);
        assert_eq!(built.err(), Some(DuplicatePlace));
    }
}

#[test]
fn prefixes_are_checked() {
    for good in ["/", "/a", "/a/b", "/a b/八", "/...", "/.well-known"] {
        assert_eq!(validate_path_prefix(good), Ok(()), "{good}");
    }
    for bad in ["", "a", "/a/", "//", "/a//b", "/a%20b", "/a?b", "/a#b", "/a\n", "/.", "/a/../b"] {
        assert!(validate_path_prefix(bad).is_err(), "{bad}");
    }
}

#[test]
fn debug_lists_the_routes() {
    assert_eq!(format!("{:?}", router(&["/", "/a"])), "{\"/\": 0, \"/a\": 1}");
}

/// A client that knows the hash can make a path that collides with a prefix: the first word of
/// the segment is varied until what the second one has to make up for fits its seven bytes.
#[test]
fn a_path_that_collides_with_a_prefix_routes_nowhere() {
    let prefix = b"/aaaaaaaabbbbbbb";
    let router = router(&["/aaaaaaaabbbbbbb"]);
    assert_eq!(router.route(prefix), Some(Routed { bucket: 0, key: None }));
    let after_first_word =
        |word: [u8; 8]| u64::from_le_bytes(word).wrapping_mul(hash::FACTOR).rotate_left(5);
    let colliding = (0..100_000_u64).find_map(|n| {
        let word = (u64::from_le_bytes(*b"aaaaaaaa") ^ n << 20 ^ 1).to_le_bytes();
        let make_up = (after_first_word(*b"aaaaaaaa") ^ after_first_word(word)).to_le_bytes();
        let tail: Vec<u8> = b"bbbbbbb".iter().zip(make_up).map(|(a, b)| a ^ b).collect();
        let segment = [&word[..], &tail].concat();
        (make_up[7] == 0 && !segment.contains(&b'/')).then_some(segment)
    });
    let segment = colliding.unwrap();
    assert_eq!(hash::add_bytes(0, &segment), hash::add_bytes(0, &prefix[1..]));
    assert_ne!(segment, prefix[1..]);
    let path = [b"/", &segment[..]].concat();
    let mut slots = 0;
    assert_eq!(router.route_observed(&path, |step| slots += usize::from(step == Step::Slot)), None);
    assert_eq!(slots, 2, "the colliding slot and the empty one after it");
}

/// Ten thousand buckets, a few of them below others.
fn many(count: usize) -> Vec<String> {
    (0..count)
        .map(|n| match n % 10 {
            0 => format!("/team-{n:05}"),
            m => format!("/team-{:05}/bucket-{m}", n - m),
        })
        .collect()
}

#[test]
fn ten_thousand_buckets_are_all_found() {
    let prefixes = many(10_000);
    let router = router(&prefixes.iter().map(String::as_str).collect::<Vec<_>>());
    for (bucket, prefix) in prefixes.iter().enumerate() {
        let path = format!("{prefix}/some/key");
        assert_eq!(routed(&router, &path), Some((bucket, Some("some/key".to_owned()))));
        assert_eq!(
            routed(&router, &format!("{prefix}x")).map(|(bucket, _)| bucket),
            match bucket % 10 {
                0 => None,
                m => Some(bucket - m),
            }
        );
    }
    assert_eq!(routed(&router, "/team-99990/bucket-1/a"), None);
}

fn steps(router: &Prefixes, path: &str) -> (usize, usize) {
    let (mut segments, mut slots) = (0, 0);
    router.route_observed(path.as_bytes(), |step| match step {
        Step::Segment => segments += 1,
        Step::Slot => slots += 1,
    });
    (segments, slots)
}

#[test]
fn the_work_does_not_grow_with_the_number_of_buckets() {
    let prefixes = many(10_000);
    let all: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    let (few, many) = (router(&all[..10]), router(&all));
    let mut slots_of_few = 0;
    let mut slots_of_many = 0;
    for prefix in &all[..10] {
        for path in [format!("{prefix}/k"), format!("{prefix}/k/l/m"), format!("{prefix}x/k")] {
            let (segments_of_few, slots) = steps(&few, &path);
            slots_of_few += slots;
            let (segments_of_many, slots) = steps(&many, &path);
            slots_of_many += slots;
            assert_eq!(segments_of_few, segments_of_many, "{path}");
        }
    }
    assert!(
        slots_of_many <= slots_of_few * 3,
        "{slots_of_many} slots with 10,000 buckets, {slots_of_few} with 10"
    );
    // In a table that is at most half full the average chain is short, whoever is looked for.
    let total: usize = all.iter().map(|prefix| steps(&many, &format!("{prefix}/k")).1).sum();
    assert!(total < all.len() * 4, "{total} slots for {} look-ups", all.len());
}

#[test]
fn a_path_is_never_read_past_the_longest_prefix() {
    let router = router(&["/a/b/c", "/long-prefix-0123"]);
    let longest = "/long-prefix-0123".len();
    let (segments, slots) = steps(&router, &"/".repeat(8_000));
    assert!(segments <= longest, "{segments} segments");
    assert!(slots <= 2 * 3, "{slots} slots, though only two lengths exist");
    let (segments, _) = steps(&router, &format!("/{}", "a/".repeat(4_000)));
    assert!(segments <= longest.div_ceil(2), "{segments} segments");
    assert_eq!(steps(&router, &format!("/{}", "x".repeat(8_000))), (0, 0));
}

/// The rules as plainly as they can be written.
fn reference(prefixes: &BTreeMap<String, usize>, path: &str) -> Option<(usize, Option<String>)> {
    let mut best: Option<(&str, usize)> = None;
    for (prefix, bucket) in prefixes {
        let takes = prefix == "/" && path.starts_with('/')
            || path == prefix
            || path.starts_with(&format!("{prefix}/"));
        if takes && best.is_none_or(|(longest, _)| prefix.len() > longest.len()) {
            best = Some((prefix, *bucket));
        }
    }
    let (prefix, bucket) = best?;
    let rest = if prefix == "/" { &path[1..] } else { &path[prefix.len()..] };
    let key = if prefix == "/" { rest } else { rest.strip_prefix('/').unwrap_or_default() };
    Some((bucket, (!key.is_empty()).then(|| key.to_owned())))
}

proptest! {
    #[test]
    fn agrees_with_the_plain_rules(
        prefixes in prop::collection::btree_set("/|(/(a|b|ab|aaaaaaaa|aaaaaaaab|é)){1,4}", 0..12),
        paths in prop::collection::vec("(/(a|b|ab|aaaaaaaa|aaaaaaaab|é|)){0,6}", 1..20),
    ) {
        let numbered: BTreeMap<String, usize> =
            prefixes.into_iter().enumerate().map(|(n, prefix)| (prefix, n)).collect();
        let router =
            Prefixes::build(numbered.iter().map(|(prefix, &n)| (prefix.as_str(), n))).unwrap();
        for path in paths {
            prop_assert_eq!(routed(&router, &path), reference(&numbered, &path), "{}", path);
        }
    }
}
