use proptest::prelude::*;
use serde_json::json;

use super::*;

fn spec(claim: &str, operator: &str, value: Value) -> ClaimSpec {
    ClaimSpec {
        path: "jwt.claims[0]".to_owned(),
        claim: claim.to_owned(),
        operator: operator.to_owned(),
        value,
    }
}

fn compile(claim: &str, operator: &str, value: Value) -> Result<Rules, AuthProblem> {
    let mut problems = Vec::new();
    let rules = Rules::compile(&[spec(claim, operator, value)], Scope::Objects, &mut problems);
    problems.pop().map_or(Ok(rules), Err)
}

fn holds(operator: &str, value: Value, claims: &Value) -> bool {
    compile("c", operator, value).unwrap().hold(claims.as_object().unwrap())
}

#[test]
fn operators_hold_exactly_when_they_should() {
    for (operator, value, claim, expected) in [
        ("equals", json!("a"), json!("a"), true),
        ("equals", json!("a"), json!("A"), false),
        ("equals", json!("a"), json!("ab"), false),
        ("equals", json!("1"), json!(1), false),
        ("equals", json!(1), json!("1"), false),
        ("equals", json!(1), json!(1.0), true),
        ("equals", json!(1), json!(true), false),
        ("equals", json!(true), json!(true), true),
        ("equals", json!(true), json!("true"), false),
        ("equals", json!("a"), json!(["a"]), false),
        ("equals", json!("a"), json!(null), false),
        ("equals", json!(9_007_199_254_740_993_u64), json!(9_007_199_254_740_992_u64), false),
        ("not_equals", json!("a"), json!("b"), true),
        ("not_equals", json!("a"), json!("a"), false),
        ("not_equals", json!("a"), json!(1), false),
        ("not_equals", json!("a"), json!(["b"]), false),
        ("not_equals", json!("a"), json!(null), false),
        ("in", json!(["a", 1]), json!("a"), true),
        ("in", json!(["a", 1]), json!(1), true),
        ("in", json!(["a", 1]), json!("1"), false),
        ("in", json!(["a"]), json!(["a"]), false),
        ("in", json!(["a"]), json!("b"), false),
        ("contains", json!("a"), json!(["b", "a"]), true),
        ("contains", json!("a"), json!(["ba"]), false),
        ("contains", json!(1), json!(["1"]), false),
        ("contains", json!(1), json!([1]), true),
        ("contains", json!("a"), json!([["a"]]), false),
        ("contains", json!("a"), json!([]), false),
        ("contains", json!("read"), json!("write read"), true),
        ("contains", json!("read"), json!("write"), false),
        ("contains", json!(1), json!("1"), false),
        ("contains", json!("a"), json!({"a": 1}), false),
        ("gt", json!(5), json!(6), true),
        ("gt", json!(5), json!(5), false),
        ("gt", json!(5), json!("6"), false),
        ("gt", json!(5), json!(5.5), true),
        ("gt", json!(-1), json!(0), true),
        ("gte", json!(5), json!(5), true),
        ("gte", json!(5), json!(4), false),
        ("lt", json!(5), json!(4), true),
        ("lt", json!(5), json!(5), false),
        ("lt", json!(5), json!(null), false),
        ("lte", json!(5), json!(5), true),
        ("lte", json!(5), json!(u64::MAX), false),
        ("exists", json!(null), json!(0), true),
        ("exists", json!(true), json!(false), true),
        ("exists", json!(true), json!(null), false),
        ("exists", json!(false), json!(null), false),
        ("exists", json!(false), json!("x"), false),
    ] {
        assert_eq!(
            holds(operator, value.clone(), &json!({"c": claim.clone()})),
            expected,
            "{operator} {value} on {claim}"
        );
    }
}

#[test]
fn a_missing_claim_fails_every_rule_but_its_absence() {
    for (operator, value) in [
        ("equals", json!("a")),
        ("not_equals", json!("a")),
        ("in", json!(["a"])),
        ("contains", json!("a")),
        ("gt", json!(0)),
        ("gte", json!(0)),
        ("lt", json!(0)),
        ("lte", json!(0)),
        ("exists", json!(true)),
    ] {
        assert!(!holds(operator, value, &json!({"other": "b"})), "{operator}");
    }
    assert!(holds("exists", json!(false), &json!({})));
    let prefix = compile("c", "path_prefix", Value::Null).unwrap();
    assert!(!prefix.permit_key(&Map::new(), b"a"));
}

#[test]
fn dots_descend_into_objects_and_whole_names_count_too() {
    let holds = |name: &str, claims: Value| {
        compile(name, "equals", json!("x")).unwrap().hold(claims.as_object().unwrap())
    };
    assert!(holds("a.b.c", json!({"a": {"b": {"c": "x"}}})));
    assert!(!holds("a.b.c", json!({"a": {"b": "x"}})));
    assert!(!holds("a.b", json!({"a": [{"b": "x"}]})));
    assert!(!holds("a.b", json!({"b": "x"})));
    let url = "https://example.com/role";
    assert!(holds(url, json!({url: "x"})));
    assert!(!holds("a.b", json!({"a.b": "x", "a": {"b": "x"}})), "ambiguous");
}

#[test]
fn all_rules_must_hold() {
    let mut problems = Vec::new();
    let rules = Rules::compile(
        &[spec("a", "equals", json!(1)), spec("b", "equals", json!(2))],
        Scope::Objects,
        &mut problems,
    );
    assert!(problems.is_empty());
    assert!(rules.hold(json!({"a": 1, "b": 2}).as_object().unwrap()));
    assert!(!rules.hold(json!({"a": 1, "b": 3}).as_object().unwrap()));
    assert!(!rules.hold(json!({"a": 1}).as_object().unwrap()));
}

#[test]
fn prefixes_match_whole_segments() {
    let rules = compile("c", "path_prefix", Value::Null).unwrap();
    for (claim, key, expected) in [
        (json!("tenant1"), "tenant1/a", true),
        (json!("tenant1"), "tenant1", true),
        (json!("tenant1"), "tenant10/a", false),
        (json!("tenant1"), "tenant", false),
        (json!("tenant1"), "x/tenant1/a", false),
        (json!("tenant1"), "/tenant1/a", false),
        (json!("tenant1"), "Tenant1/a", false),
        (json!("tenant1/"), "tenant1/a", true),
        (json!("tenant1/"), "tenant1/", true),
        (json!("tenant1/"), "tenant1", false),
        (json!("tenant1/"), "tenant10/a", false),
        (json!("tenant1//"), "tenant1/a", false),
        (json!("tenant1//"), "tenant1//a", true),
        (json!("a/b"), "a/b/c", true),
        (json!("a/b"), "a/bc", false),
        (json!(["a", "b"]), "b/x", true),
        (json!(["a", "b"]), "c/x", false),
        (json!([]), "a", false),
        (json!(""), "a", false),
        (json!("/"), "a", false),
        (json!("/"), "/a", false),
        (json!(["a", ""]), "a/x", false),
        (json!(["a", 1]), "a/x", false),
        (json!(1), "1/x", false),
        (json!(null), "a", false),
        (json!({"a": true}), "a", false),
        (json!("a"), "a/../b", false),
        (json!("a"), "a/./b", false),
        (json!("a"), "a/..b", true),
        (json!("bücher"), "bücher/ä", true),
    ] {
        assert_eq!(
            rules.permit_key(json!({"c": claim.clone()}).as_object().unwrap(), key.as_bytes()),
            expected,
            "{claim} for {key}"
        );
    }
}

#[test]
fn values_of_the_wrong_type_are_problems() {
    for (operator, value) in [
        ("equals", json!(null)),
        ("equals", json!(["a"])),
        ("equals", json!({"a": 1})),
        ("not_equals", json!([])),
        ("in", json!("a")),
        ("in", json!([])),
        ("in", json!([["a"]])),
        ("in", json!([null])),
        ("contains", json!(["a"])),
        ("contains", json!("")),
        ("gt", json!("5")),
        ("gte", json!(true)),
        ("lt", json!(null)),
        ("lte", json!([1])),
        ("exists", json!("yes")),
        ("exists", json!(1)),
        ("path_prefix", json!("tenant1")),
        ("path_prefix", json!([])),
    ] {
        let problem = compile("c", operator, value.clone()).unwrap_err();
        assert_eq!(problem.path, "jwt.claims[0].value", "{operator} {value}");
        assert!(!problem.warning);
    }
}

#[test]
fn unknown_operators_and_empty_names_are_problems() {
    let problem = compile("c", "equal", json!("a")).unwrap_err();
    assert_eq!(problem.path, "jwt.claims[0].operator");
    assert!(
        problem.message.contains("'equal'; write one of equals, not_equals"),
        "{}",
        problem.message
    );
    for name in ["", ".", "a..b", ".a", "a."] {
        let problem = compile(name, "exists", json!(true)).unwrap_err();
        assert_eq!(problem.path, "jwt.claims[0].claim", "{name:?}");
    }
    let mut problems = Vec::new();
    Rules::compile(&[spec("c", "path_prefix", Value::Null)], Scope::Admin, &mut problems);
    assert_eq!(problems.len(), 1);
}

proptest! {
    /// The definition, written the slow way: the key's segments begin with the prefix's.
    #[test]
    fn prefixes_agree_with_segments(prefix in "[ab/]{1,5}", key in "[ab/]{0,8}") {
        let rules = compile("c", "path_prefix", Value::Null).unwrap();
        let wanted: Vec<_> = prefix.strip_suffix('/').unwrap_or(&prefix).split('/').collect();
        let have: Vec<_> = key.split('/').collect();
        let mut expected = have.starts_with(&wanted) && wanted != [""];
        if prefix.ends_with('/') && have.len() == wanted.len() {
            expected = false;
        }
        let claims = json!({"c": prefix.clone()});
        prop_assert_eq!(rules.permit_key(claims.as_object().unwrap(), key.as_bytes()), expected);
    }
}
