//! What a change to each key means: the key table says hot or restart, and `diff` must agree.

use serde_yaml::{Mapping, Value};
use yatagarasu::{
    config::{
        Difference, KEYS, Settings, diff,
        keys::{Applies, Key, Kind, Preset, Row},
        parse,
    },
    control_plane::files::FilesBeside,
};

use super::{directory, environment};

/// A file in which every key is written, as values.
pub(crate) fn full() -> Value {
    let text = std::fs::read_to_string(directory("valid").join("full.yaml")).unwrap();
    serde_yaml::from_str(&text.replace("${PORT:-8081}", "8081")).unwrap()
}

pub(crate) fn settings(value: &Value) -> Settings {
    let text = serde_yaml::to_string(value).unwrap();
    let files = FilesBeside::new(&directory("valid"));
    match parse(text.as_bytes(), &environment(), &files) {
        Ok(loaded) => loaded.settings,
        Err(problems) => panic!("{problems}\n{text}"),
    }
}

fn change(from: &Value, to: &Value) -> Difference {
    diff(&settings(from), &settings(to))
}

/// The value at a path like `buckets[].s3.region`, taking the first element of each list.
pub(crate) fn at<'v>(value: &'v mut Value, pattern: &str) -> Option<&'v mut Value> {
    let mut value = value;
    for segment in pattern.split('.') {
        let (name, element) = match segment.strip_suffix("[]") {
            Some(name) => (name, true),
            None => (segment, false),
        };
        value = value.get_mut(name)?;
        if element {
            value = value.get_mut(0)?;
        }
    }
    Some(value)
}

/// Another acceptable value for a key whose kind tells one.
fn another(key: &Key, current: &Value) -> Option<Value> {
    match key.kind {
        Kind::Boolean => Some(Value::Bool(current != &Value::Bool(true))),
        Kind::Integer(min, max, _) => {
            let current = current.as_u64().unwrap_or(min);
            Some(if current < max { current + 1 } else { current - 1 }.into())
        }
        Kind::Seconds(_) | Kind::SecondsOrZero(_) => Some(7.5.into()),
        Kind::Share => Some(0.5.into()),
        Kind::Choice(names) => {
            names.iter().find(|name| current.as_str() != Some(**name)).map(|name| (*name).into())
        }
        _ => None,
    }
}

/// Where `diff` reports a key of the full file.
fn reported(key: &Row) -> String {
    let path = key.path.replace("buckets[]", "buckets[products]");
    let path = path.replace("providers[]", "providers[corp]");
    let path = path.replace("credentials[]", "credentials[prod]");
    // Lists of rules and sources are reported as a whole.
    for list in ["claims[]", "token_sources[]"] {
        if let Some(end) = path.find(list) {
            return path[..end + list.len() - 2].to_owned();
        }
    }
    path.replace("keys[]", "keys[0]")
}

#[test]
fn diff_agrees_with_the_key_table_about_hot_and_restart() {
    let full = full();
    let mut checked = 0;
    for key in KEYS.iter() {
        // These would break another rule; the tests below change them.
        let rules = ["buckets[].s3.anonymous", "jwt.algorithm", "jwt.discovery"];
        if rules.contains(&&*key.path)
            || key.path.ends_with("keys[].algorithm")
            || key.path.ends_with("[].discovery")
            || key.path.starts_with("jwt.token_sources[]")
            || key.path.ends_with("[].operator")
            || matches!(key.kind, Kind::Choice([_]))
        {
            continue;
        }
        let mut changed = full.clone();
        let Some(current) = at(&mut changed, &key.path) else { continue };
        let Some(other) = another(key, current) else { continue };
        *current = other;
        let difference = change(&full, &changed);
        let (expected, other) = match key.applies {
            Applies::Hot => (&difference.applied, &difference.restart_required),
            Applies::Restart => (&difference.restart_required, &difference.applied),
        };
        assert_eq!(expected.len(), 1, "{}: {difference:?}", key.path);
        assert!(other.is_empty(), "{}: {difference:?}", key.path);
        let shown = reported(key);
        assert!(expected[0].starts_with(&shown), "{} is reported as {}", key.path, expected[0]);
        assert_eq!(difference.hot_changed, key.applies == Applies::Hot, "{}", key.path);
        checked += 1;
    }
    assert!(checked >= 25, "only {checked} keys were changed");
}

#[test]
fn diff_reports_text_keys_by_path() {
    let full = full();
    for (path, value, reported) in [
        ("server.address", "127.0.0.1", "server.address: running ::, file 127.0.0.1"),
        (
            "admin.listen",
            "127.0.0.1:9091",
            "admin.listen: running 127.0.0.1:9090, file 127.0.0.1:9091",
        ),
        ("admin.listen", "", "admin.listen: running 127.0.0.1:9090, file the main listener"),
        ("server.tls.client_ca_file", "", "server.tls.client_ca_file"),
        ("server.tls.ticket_keys_file", "", "server.tls.ticket_keys_file"),
        ("buckets[].path_prefix", "/p", "buckets[products].path_prefix"),
        ("buckets[].s3.bucket", "other", "buckets[products].s3.bucket"),
        ("buckets[].s3.region", "other", "buckets[products].s3.region"),
        ("buckets[].s3.endpoint", "https://other", "buckets[products].s3.endpoint"),
        ("buckets[].s3.access_key_file", "../files/jwt-secret", "buckets[products].s3.access_key"),
        ("buckets[].s3.secret_key_file", "../files/jwt-secret", "buckets[products].s3.secret_key"),
        ("buckets[].s3.session_token_file", "", "buckets[products].s3.session_token"),
        ("buckets[].s3.key_prefix", "", "buckets[products].s3.key_prefix"),
        ("buckets[].s3.ca_file", "", "buckets[products].s3.ca_file"),
        ("buckets[].index", "main.html", "buckets[products].index"),
        ("buckets[].spa", "", "buckets[products].spa"),
        ("jwt.keys[].secret", "another-secret-of-the-fixtures-0123456789", "jwt.keys[0].secret"),
        ("jwt.keys[].id", "older", "jwt.keys[0].id"),
        ("jwt.issuer", "", "jwt.issuer"),
        ("jwt.claims[].value", "reader", "jwt.claims"),
        ("jwt.admin_claims[].claim", "realm.role", "jwt.admin_claims"),
        ("buckets[].auth.claims[].value", "writers", "buckets[products].auth.claims"),
        ("jwt.token_sources[].type", "bearer", ""),
        ("logging.access_log.path", "-", "logging.access_log.path"),
        ("logging.access_log.template", "{status}", "logging.access_log.template"),
    ] {
        let mut changed = full.clone();
        *at(&mut changed, path).unwrap() = value.into();
        let difference = change(&full, &changed);
        let mut all = difference.applied;
        all.extend(difference.restart_required);
        let expected: &[&str] = if reported.is_empty() { &[] } else { &[reported] };
        assert_eq!(all, expected, "{path}");
    }
}

#[test]
fn lists_of_statuses_and_error_pages_are_compared_whatever_their_order() {
    let full = full();
    for (key, text, is_change) in [
        ("missing", "[403, 404, 403]", false),
        ("missing", "[404]", true),
        ("error_pages", "{ '503': '/errors/busy page.html', '404': /404.html }", false),
        ("error_pages", "{ 404: /404.html, 503: /busy.html }", true),
        ("error_pages", "{}", true),
    ] {
        let mut changed = full.clone();
        changed["buckets"][0][key] = serde_yaml::from_str(text).unwrap();
        let path = format!("buckets[products].{key}");
        let expected: &[String] = if is_change { &[path] } else { &[] };
        assert_eq!(change(&full, &changed).applied, expected, "{key}: {text}");
    }
}

#[test]
fn only_the_order_that_means_something_is_a_change() {
    let full = full();
    for (path, is_change) in [
        ("server.trusted_proxies", false),
        ("buckets[].hosts", false),
        ("buckets[].missing", false),
        ("buckets[].allow_query", false),
        ("buckets[].cors.origins", false),
        ("buckets[].cors.headers", true),
        ("buckets[].cors.expose", true),
        ("buckets[].headers.remove", false),
        ("buckets[].compress.types", false),
        ("buckets[].compress.algorithms", true),
        ("buckets[].listing.formats", true),
        ("buckets[].auth.providers", false),
        ("jwt.audience", false),
        ("jwt.algorithms", true),
        ("jwt.admin_providers", false),
        ("jwt.token_sources", true),
        ("logging.access_log.skip", false),
    ] {
        let mut changed = full.clone();
        let list = at(&mut changed, path).and_then(Value::as_sequence_mut).unwrap();
        assert!(list.len() > 1, "{path}");
        list.reverse();
        let expected: &[String] = if is_change { &[path.replace("[]", "[products]")] } else { &[] };
        assert_eq!(change(&full, &changed).applied, expected, "{path}");
        // One less is a change in any case.
        at(&mut changed, path).and_then(Value::as_sequence_mut).unwrap().pop();
        assert_ne!(change(&full, &changed).applied, [""; 0], "{path}");
    }

    let audience = |names: &str| {
        let mut changed = full.clone();
        changed["jwt"]["providers"][0]["audience"] = serde_yaml::from_str(names).unwrap();
        changed
    };
    let two = audience("[files, pages]");
    assert_eq!(change(&two, &audience("[pages, files, pages]")), Difference::default());
    assert_eq!(change(&two, &audience("[files]")).applied, ["jwt.providers[corp].audience"]);
}

#[test]
fn buckets_are_matched_by_name_whatever_their_order() {
    let full = full();
    let mut swapped = full.clone();
    swapped["buckets"].as_sequence_mut().unwrap().reverse();
    assert_eq!(change(&full, &swapped), Difference::default());

    let mut renamed = full.clone();
    renamed["buckets"][1]["name"] = "renamed".into();
    let difference = change(&full, &renamed);
    assert_eq!(difference.applied, ["buckets[renamed]", "buckets[open]"]);
}

#[test]
fn deleting_the_jwt_section_is_one_change() {
    let mut full = full();
    full["buckets"][0]["auth"]["enabled"] = false.into();
    // Without a section there are no providers to name.
    full["buckets"][0]["auth"].as_mapping_mut().unwrap().remove("providers");
    let mut without = full.clone();
    without.as_mapping_mut().unwrap().remove("jwt");
    assert_eq!(change(&full, &without).applied, ["jwt"]);
    assert_eq!(change(&without, &full).applied, ["jwt"]);
}

#[test]
fn certificates_are_compared_by_path_and_content() {
    let full = full();
    let pair = |cert: &str, key: &str| {
        let (cert, key) = (format!("../../tls/{cert}"), format!("../../tls/{key}"));
        serde_yaml::from_str::<Value>(&format!("{{ cert_file: {cert}, key_file: {key} }}")).unwrap()
    };
    let (ec, rsa) = (pair("ec.pem", "ec-sec1.key"), pair("rsa.pem", "rsa-pkcs1.key"));
    let applied = |pairs: &[&Value]| {
        let mut changed = full.clone();
        changed["server"]["tls"]["certificates"] =
            Value::Sequence(pairs.iter().map(|pair| (*pair).clone()).collect());
        let difference = change(&full, &changed);
        assert_eq!(difference.restart_required, [""; 0]);
        difference.applied
    };
    let at = |rest: &str| format!("server.tls.certificates[{rest}");
    assert_eq!(applied(&[&ec, &rsa]), [""; 0]);
    assert_eq!(applied(&[&ec]), [at("1]")]);
    assert_eq!(applied(&[&ec, &rsa, &ec]), [at("2]")]);
    let swapped = ["0].cert_file", "0].key_file", "1].cert_file", "1].key_file"].map(at);
    assert_eq!(applied(&[&rsa, &ec]), swapped);
    let elsewhere = pair("../tls/ec.pem", "ec-sec1.key");
    assert_eq!(applied(&[&elsewhere, &rsa]), [at("0].cert_file")]);
}

#[test]
fn a_tls_section_that_comes_or_goes_waits_for_a_restart() {
    let full = full();
    let mut without = full.clone();
    without["server"].as_mapping_mut().unwrap().remove("tls");
    let gone = "server.tls: running a listener on port 8444, file nothing";
    let new = "server.tls: running nothing, file a listener on port 8444";
    for (running, file, line) in [(&full, &without, gone), (&without, &full, new)] {
        let difference = change(running, file);
        assert_eq!((&difference.applied[..], difference.hot_changed), (&[][..], false));
        assert_eq!(difference.restart_required, [line]);
        let (running, file) = (settings(running), settings(file));
        let adopted = file.with_restart_keys_of(&running);
        assert_eq!(diff(&running, &adopted), Difference::default());
    }
}

#[test]
fn a_secret_that_moves_into_a_file_unchanged_is_no_change() {
    let full = full();
    let mut inline = full.clone();
    let s3 = inline["buckets"][0]["s3"].as_mapping_mut().unwrap();
    s3.remove("secret_key_file");
    s3.insert("secret_key".into(), "fixture/secret+key".into());
    assert_eq!(change(&full, &inline), Difference::default());
}

#[test]
fn a_running_process_keeps_its_restart_keys() {
    let full = full();
    let mut changed = full.clone();
    for key in KEYS.iter().filter(|key| key.applies == Applies::Restart) {
        if let Some(value) = at(&mut changed, &key.path)
            && let Some(other) = another(key, value)
        {
            *value = other;
        }
    }
    changed["server"]["address"] = "127.0.0.1".into();
    changed["admin"]["listen"] = "".into();
    changed["reload"]["watch"] = false.into();
    let (running, new) = (settings(&full), settings(&changed));
    let restart = KEYS.iter().filter(|key| key.applies == Applies::Restart).count();
    assert_eq!(diff(&running, &new).restart_required.len(), restart);
    let adopted = new.clone().with_restart_keys_of(&running);
    let difference = diff(&running, &adopted);
    assert_eq!(difference.restart_required, [""; 0]);
    assert_eq!(difference.applied, ["reload.watch"]);
    assert_eq!(diff(&adopted, &new).applied, [""; 0]);
}

#[test]
fn the_defaults_of_the_table_are_those_of_the_model() {
    use yatagarasu::model::limits::{Http2, Limits, Timeouts, UpstreamTimeouts};
    let least = super::load(&directory("valid").join("least.yaml"));
    assert_eq!(least.server.limits, Limits::default());
    assert_eq!(least.server.timeouts, Timeouts::default());
    assert_eq!(least.server.http2, Http2::default());
    assert!(least.server.tls.is_none());
    assert_eq!(least.buckets[0].s3.timeouts, UpstreamTimeouts::default());
    assert_eq!(least.admin.reload_timeout, std::time::Duration::from_secs(10));
    let auth = super::load(&directory("valid").join("variables.yaml")).auth.unwrap();
    assert!(auth.enforced && auth.require_exp && auth.audience.is_empty());
    assert_eq!(auth.leeway.as_secs(), 60);
    assert_eq!(auth.keys[0].algorithm, "HS256");
    assert_eq!(auth.admin_claims[0].claim, "role");
}

/// Writing a default out changes nothing, and neither does empty text in its place.
#[test]
fn every_default_may_be_written() {
    let least = serde_yaml::from_str::<Value>(
        &std::fs::read_to_string(directory("valid").join("least.yaml")).unwrap(),
    )
    .unwrap();
    for key in KEYS.iter() {
        let Preset::Is(default) = key.default else { continue };
        // A list that is not there has no element to write them in; see the next test.
        let elsewhere =
            ["jwt", "server.tls.", "credentials[]"].iter().any(|name| key.path.starts_with(name));
        if elsewhere || key.path == "buckets[].s3.anonymous" {
            continue;
        }
        let values = match key.kind {
            Kind::Text => vec![Value::String(default.to_owned()), Value::String(String::new())],
            _ => vec![serde_yaml::from_str(default).unwrap()],
        };
        for value in values {
            let mut written = least.clone();
            let mut parent = &mut written;
            for segment in key.section().split('.').filter(|segment| !segment.is_empty()) {
                parent = if let Some(name) = segment.strip_suffix("[]") {
                    &mut parent[name][0]
                } else {
                    let mapping = parent.as_mapping_mut().unwrap();
                    mapping.entry(segment.into()).or_insert(Value::Mapping(Mapping::default()))
                };
            }
            parent.as_mapping_mut().unwrap().insert(key.name.into(), value);
            assert_eq!(change(&least, &written), Difference::default(), "{}", key.path);
        }
    }
}

#[test]
fn the_defaults_of_a_source_may_be_written() {
    let of = |source: &str| {
        let bucket =
            "{ name: a, path_prefix: /a, s3: { bucket: aaa, region: r, anonymous: true } }";
        let text = format!("credentials: [{source}]\nbuckets: [{bucket}]");
        settings(&serde_yaml::from_str(&text).unwrap())
    };
    let arn = "role_arn: \"arn:aws:iam::1:role/a\"";
    let least = of(&format!("{{ name: a, assume_role: {{ {arn} }} }}"));
    let written = of(&format!(
        "{{ name: a, source: default, profile: \"\", endpoint: \"\", assume_role: {{ {arn}, \
         external_id: \"\", session_name: yatagarasu, duration: 3600, region: \"\", \
         sts_endpoint: \"\" }} }}"
    ));
    assert_eq!(diff(&least, &written), Difference::default());
    assert_eq!(least.credentials[0].id(), written.credentials[0].id());
    let emptied = of(&format!("{{ name: a, assume_role: {{ {arn}, session_name: \"\" }} }}"));
    assert_eq!(diff(&least, &emptied), Difference::default());
    let other = of(&format!("{{ name: a, assume_role: {{ {arn}, duration: 3601 }} }}"));
    assert_eq!(diff(&least, &other).applied, ["credentials[a].assume_role.duration"]);
    assert_ne!(least.credentials[0].id(), other.credentials[0].id());
}

#[test]
fn debug_of_settings_shows_no_secret() {
    let settings = settings(&full());
    let shown = format!("{settings:?}");
    for secret in ["of-the-fixtures", "fixture/secret", "fixture-session", "0123456789abcdef"] {
        assert!(!shown.contains(secret), "{secret}");
    }
    assert!(shown.contains("products"));
}
