use proptest::prelude::*;

use super::*;

fn patterns(hosts: &[&str]) -> Vec<HostPattern> {
    hosts.iter().map(|host| HostPattern::parse(host).unwrap()).collect()
}

/// Buckets by their hosts and prefix, numbered in this order.
fn build(buckets: &[(&[&str], &str)]) -> Result<Router, DuplicatePlace> {
    let hosts: Vec<_> = buckets.iter().map(|(hosts, _)| patterns(hosts)).collect();
    let places = buckets.iter().zip(&hosts).enumerate();
    Router::build(places.map(|(bucket, ((_, prefix), hosts))| (Place { hosts, prefix }, bucket)))
}

fn routed(router: &Router, host: &str, path: &str) -> Option<(usize, Option<String>)> {
    let Routed { bucket, key } = router.route(|| host.as_bytes(), path.as_bytes())?;
    Some((bucket, key.map(|key| String::from_utf8(key.to_vec()).unwrap())))
}

fn bucket(router: &Router, host: &str, path: &str) -> Option<usize> {
    routed(router, host, path).map(|(bucket, _)| bucket)
}

#[test]
fn the_longest_prefix_wins_then_the_exact_host_the_wildcard_and_none() {
    let router = build(&[
        (&["a.example"], "/"),
        (&["*.example"], "/"),
        (&[], "/"),
        (&["*.example"], "/deep"),
        (&[], "/deep/er"),
        (&["a.example", "b.test"], "/deep"),
        (&[], "/deep"),
    ])
    .unwrap();
    for (host, path, expected) in [
        ("a.example", "/x", 0),
        ("b.example", "/x", 1),
        ("c.test", "/x", 2),
        ("", "/x", 2),
        ("a.example", "/deep/x", 5),
        ("b.example", "/deep/x", 3),
        ("b.test", "/deep/x", 5),
        ("c.test", "/deep", 6),
        ("a.example", "/deep/er/x", 4),
        ("b.example", "/deep/er", 4),
        ("a.example", "/deeper", 0),
    ] {
        assert_eq!(bucket(&router, host, path), Some(expected), "{host} {path}");
    }
    assert_eq!(routed(&router, "a.example", "/deep"), Some((5, None)));
    assert_eq!(routed(&router, "a.example", "/deep//x"), Some((5, Some("/x".to_owned()))));
}

#[test]
fn hosts_compare_without_case_and_final_dot_and_a_star_is_one_label() {
    let router = build(&[(&["www.example.com"], "/"), (&["*.example.com"], "/")]).unwrap();
    for host in ["www.example.com", "WWW.Example.com", "www.example.com."] {
        assert_eq!(bucket(&router, host, "/x"), Some(0), "{host}");
    }
    for host in ["a.example.com", "A.EXAMPLE.COM.", "-.example.com", "*.example.com"] {
        assert_eq!(bucket(&router, host, "/x"), Some(1), "{host}");
    }
    let long = format!("{}.example.com", "a".repeat(300));
    for host in [
        "example.com",
        "a.b.example.com",
        ".example.com",
        "www.example.com..",
        "www.example.co",
        "xwww.example.com.evil",
        "www.example.com\0",
        "a%2eexample.com",
        "",
        ".",
        &long,
    ] {
        assert_eq!(bucket(&router, host, "/x"), None, "{host}");
        assert!(!router.serves(host.as_bytes()), "{host}");
    }
    assert!(router.serves(b"www.example.com") && router.serves(b"b.example.com."));
}

#[test]
fn a_host_is_served_if_a_bucket_names_it_or_none_is_named() {
    let with_any = build(&[(&["a.test"], "/a"), (&[], "/b")]).unwrap();
    assert!(with_any.serves(b"other.test"));
    assert_eq!(bucket(&with_any, "other.test", "/a/x"), None);
    assert_eq!(bucket(&with_any, "other.test", "/b/x"), Some(1));
    assert!(build(&[(&[], "/b")]).unwrap().serves(b"x") && Router::default().serves(b"x"));
    // A host whose buckets have other prefixes is known all the same.
    let router = build(&[(&["a.test"], "/a")]).unwrap();
    assert!(router.serves(b"a.test"));
    assert_eq!(bucket(&router, "a.test", "/b"), None);
}

#[test]
fn only_buckets_that_share_a_host_must_have_different_prefixes() {
    assert!(
        build(&[(&["a.test"], "/"), (&["b.test"], "/"), (&["*.test"], "/"), (&[], "/")]).is_ok()
    );
    for twice in [
        [(&["a.test", "b.test"][..], "/x"), (&["c.test", "B.test."], "/x")],
        [(&["*.test"], "/"), (&["*.test"], "/")],
        [(&[], "/x"), (&[], "/x")],
    ] {
        assert_eq!(build(&twice).err(), Some(DuplicatePlace));
    }
}

#[test]
fn another_tenant_is_not_reached_over_a_connection_for_this_one() {
    let router = build(&[
        (&["a.test", "www.a.test"], "/"),
        (&["b.test"], "/"),
        (&["*.wild.test"], "/"),
        (&[], "/shared"),
        (&["a.test"], "/shared/of-a"),
    ])
    .unwrap();
    let is_of_another = |sni: Option<&str>, host: &'static str, path: &str| {
        let bucket = bucket(&router, host, path).unwrap();
        router.is_of_another(sni, || host.as_bytes(), path.as_bytes(), bucket)
    };
    for (sni, host, path) in [
        ("b.test", "a.test", "/x"),
        ("a.test", "b.test", "/x"),
        ("a.test", "x.wild.test", "/x"),
        ("x.wild.test", "a.test", "/x"),
        ("b.test", "a.test", "/shared/of-a/x"),
        ("a.test", "other.test", "/shared/of-a/x"),
    ] {
        assert!(is_of_another(Some(sni), host, path), "{sni} {host} {path}");
    }
    for (sni, host, path) in [
        ("a.test", "a.test", "/x"),
        ("a.test", "A.TEST", "/x"),
        ("a.test", "a.test.", "/x"),
        ("a.test", "www.a.test", "/x"),
        ("x.wild.test", "y.wild.test", "/x"),
        ("a.test", "b.test", "/shared/x"),
        ("balancer.internal", "b.test", "/x"),
        ("wild.test", "b.test", "/x"),
    ] {
        assert!(!is_of_another(Some(sni), host, path), "{sni} {host} {path}");
    }
    assert!(!is_of_another(None, "b.test", "/x"));
}

#[test]
fn ten_thousand_hosts_are_all_found() {
    let hosts: Vec<_> = (0..10_000).map(|n| patterns(&[&format!("t{n}.example")])).collect();
    let places = hosts.iter().enumerate();
    let router = Router::build(places.map(|(n, hosts)| (Place { hosts, prefix: "/" }, n))).unwrap();
    for n in 0..10_000 {
        assert_eq!(bucket(&router, &format!("T{n}.example"), "/x"), Some(n));
    }
    assert_eq!(bucket(&router, "t10000.example", "/x"), None);
}

/// The rules as plainly as they can be written.
fn reference(buckets: &[(Vec<&str>, &str)], host: &str, path: &str) -> Option<usize> {
    let host = host.strip_suffix('.').unwrap_or(host).to_lowercase();
    let rank_of = |hosts: &[&str]| {
        let is_wild = |pattern: &&str| {
            pattern.strip_prefix('*').is_some_and(|rest| {
                host.strip_suffix(rest)
                    .is_some_and(|label| !label.is_empty() && !label.contains('.'))
            })
        };
        match hosts {
            [] => Some(0),
            _ if hosts.contains(&&*host) => Some(2),
            _ => hosts.iter().any(is_wild).then_some(1),
        }
    };
    let takes =
        |prefix: &str| prefix == "/" || path == prefix || path.starts_with(&format!("{prefix}/"));
    let candidates = buckets.iter().enumerate().filter(|(_, (_, prefix))| takes(prefix));
    let ranked = candidates
        .filter_map(|(bucket, (hosts, prefix))| Some(((prefix.len(), rank_of(hosts)?), bucket)));
    ranked.max().map(|(_, bucket)| bucket)
}

proptest! {
    #[test]
    fn agrees_with_the_plain_rules(
        buckets in prop::collection::vec(
            (
                prop::collection::btree_set(
                    prop::sample::select(vec!["a.x", "b.x", "*.x", "x", "*.a.x", "a.a.x"]),
                    0..3,
                ),
                prop::sample::select(vec!["/", "/a", "/a/b", "/b", "/ab"]),
            ),
            0..8,
        ),
        hosts in prop::collection::vec("(a\\.|b\\.|A\\.)?(a\\.)?[xX]\\.?|", 1..6),
        paths in prop::collection::vec("(/(a|b|ab)){0,4}/?", 1..6),
    ) {
        let buckets: Vec<(Vec<&str>, &str)> =
            buckets.into_iter().map(|(hosts, prefix)| (hosts.into_iter().collect(), prefix)).collect();
        let by_reference: Vec<(&[&str], &str)> =
            buckets.iter().map(|(hosts, prefix)| (&**hosts, *prefix)).collect();
        let Ok(router) = build(&by_reference) else { return Ok(()) };
        for host in &hosts {
            for path in paths.iter().filter(|path| path.starts_with('/')) {
                prop_assert_eq!(
                    bucket(&router, host, path),
                    reference(&buckets, host, path),
                    "{} {}", host, path
                );
            }
        }
    }
}
