//! Slips of the pen around secrets: whatever is said of the file, the secret is not.

use std::collections::BTreeMap;

use yatagarasu::control_plane::config::{Difference, FilesBeside, Settings, check, diff, parse};

use super::folder;

/// Stands for a secret access key: 40 characters, of which some mean something in YAML elsewhere.
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// One without any character that could not stand in a name.
const PLAIN_SECRET: &str = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEYZZ";

/// A file with this in a bucket's `s3` section, one key a line.
fn bucket(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("      {line}\n")).collect();
    format!(
        "buckets:\n  - name: a\n    path_prefix: /a\n    s3:\n      bucket: my-a\n      region: r\n\
         {lines}"
    )
}

/// The same with `s3` on one line.
fn inline(rest: &str) -> String {
    format!(
        "buckets:\n  - name: a\n    path_prefix: /a\n    s3: {{ bucket: my-a, region: r, {rest} }}\n"
    )
}

fn jwt(lines: &str) -> String {
    let lines: String = lines.lines().map(|line| format!("  {line}\n")).collect();
    let open = inline("anonymous: true");
    format!("{open}    auth: {{ enabled: true }}\njwt:\n{lines}")
}

/// Files with the secret `S`, or with a variable that holds it.
fn slips() -> Vec<(&'static str, String)> {
    vec![
        ("a variable where a file belongs", bucket("access_key: A\nsecret_key_file: \"${S}\"")),
        ("the same for the key id", bucket("access_key_file: \"${S}\"\nsecret_key: x")),
        (
            "the same for a token",
            inline("access_key: A, secret_key: x, session_token_file: \"${S}\""),
        ),
        ("the secret where its file belongs", bucket("access_key: A\nsecret_key_file: S")),
        ("a directory and the secret", bucket("access_key: A\nsecret_key_file: /run/S")),
        ("no blank, on one line", inline("access_key: A, secret_key:S")),
        ("no blank, in quotes", inline("access_key: A, \"secret_key:S\"")),
        ("no blank before quotes", inline("access_key: A, secret_key:\"S\"")),
        ("an equals sign", bucket("access_key: A\nsecret_key=S")),
        ("an equals sign and blanks", bucket("access_key: A\nsecret_key = S")),
        ("an equals sign, on one line", inline("access_key: A, secret_key=S")),
        ("an equals sign and a colon", bucket("access_key: A\nsecret_key=S:")),
        ("no colon", bucket("access_key: A\nsecret_key S")),
        ("no colon, on one line", inline("access_key: A, secret_key S")),
        ("a quote for a colon", inline("access_key: A, secret_key'S'")),
        ("a comma for a colon", inline("access_key: A, secret_key, S")),
        ("the secret as a key", bucket("access_key: A\nsecret_key:\n  S: x")),
        ("the secret as a key of the section", bucket("access_key: A\nS: x")),
        ("the secret as a quoted key", bucket("access_key: A\n\"S\": x")),
        ("the secret as an explicit key", bucket("access_key: A\n? S\n: x")),
        ("the secret twice as a key", bucket("access_key: A\nS: x\nS: y")),
        ("no blank, twice", inline("secret_key:S, secret_key:S")),
        ("the secret in a list", bucket("access_key: A\nsecret_key: [S]")),
        ("the secret in a mapping", bucket("access_key: A\nsecret_key: { S: S }")),
        ("a quote that is not closed", bucket("access_key: A\nsecret_key: \"S")),
        ("a single quote that is not closed", bucket("access_key: A\nsecret_key: 'S")),
        ("text behind a quote", bucket("access_key: A\nsecret_key: \"x\"S")),
        ("a secret that looks like an alias", bucket("access_key: A\nsecret_key: *S")),
        ("one that looks like an anchor", bucket("access_key: A\nsecret_key: &S")),
        ("one that looks like a tag", bucket("access_key: A\nsecret_key: !S")),
        ("one that looks like a directive", bucket("access_key: A\nsecret_key: %S")),
        ("one that begins with a character of no use", bucket("access_key: A\nsecret_key: @S")),
        ("one with a colon and a blank", bucket("access_key: A\nsecret_key: x: S")),
        ("a variable without a closing brace", bucket("access_key: A\nsecret_key: \"${S\"")),
        (
            "the secret as a variable that holds more",
            bucket("access_key: A\nsecret_key: \"${S S}\""),
        ),
        ("the secret as a nested default", bucket("access_key: A\nsecret_key: \"${X:-${S}}\"")),
        (
            "indented too little",
            "buckets:\n  - name: a\n    path_prefix: /a\n    secret_key:S\n".to_owned(),
        ),
        ("two lines", bucket("access_key: A\nsecret_key: \"x\\nS\"")),
        ("the key id and the secret in one", bucket("access_key: \"A:S/\"\nsecret_key: x")),
        ("half a pair", bucket("secret_key: S")),
        ("beside its file", bucket("access_key: A\nsecret_key: S\nsecret_key_file: x")),
        ("with an anonymous bucket", bucket("anonymous: true\naccess_key: A\nsecret_key: S")),
        (
            "in the endpoint",
            bucket("endpoint: \"https://A:S@minio\"\naccess_key: A\nsecret_key: x"),
        ),
        (
            "a variable where a choice belongs",
            bucket("addressing: \"${S}\"\naccess_key: A\nsecret_key: x"),
        ),
        (
            "the secret where a choice belongs",
            bucket("addressing: S\naccess_key: A\nsecret_key: x"),
        ),
        (
            "a variable where a number belongs",
            bucket("max_idle_connections: \"${S}\"\naccess_key: A\nsecret_key: x"),
        ),
        (
            "a variable where a time belongs",
            bucket("timeouts: { read: \"${S}\" }\naccess_key: A\nsecret_key: x"),
        ),
        ("a variable where a boolean belongs", bucket("anonymous: \"${S}\"")),
        ("a variable as a region", inline("region: \"${S}/\", access_key: A, secret_key: x")),
        (
            "a variable as a bucket's name",
            bucket("access_key: A\nsecret_key: x").replace("my-a", "\"${S}\""),
        ),
        (
            "a variable as a certificate file",
            bucket("access_key: A\nsecret_key: x\nca_file: \"${S}\""),
        ),
        ("a variable as two names", twice("name: a", "name: \"${S}\"")),
        ("a variable as two prefixes", twice("path_prefix: /a", "path_prefix: \"/${S}\"")),
        ("a JWT secret without a blank", jwt("secret:S")),
        ("a JWT secret with an equals sign", jwt("secret=S")),
        ("a JWT secret in its file's place", jwt("secret_file: S")),
        ("a JWT secret as a variable in its file's place", jwt("secret_file: \"${S}\"")),
        ("a JWT secret as a public key file", jwt("algorithm: RS256\npublic_key_file: \"${S}\"")),
        ("a JWT secret as the algorithm", jwt("algorithm: S")),
        ("a JWT secret in a list of keys", jwt("keys: [S]")),
        ("a JWT secret as an id without a secret", jwt("keys: [{ id: S }]")),
        ("a JWT secret without a blank in a list", jwt("keys: [{ id: k, secret:S }]")),
        ("a JWT secret for a public key", jwt("algorithm: RS256\nsecret: S")),
        ("a JWT secret as an operator", jwt("secret: S\nclaims: [{ claim: c, operator: S }]")),
        ("a variable as an operator", jwt("secret: S\nclaims: [{ claim: c, operator: \"${S}\" }]")),
        (
            "a JWT secret in a value",
            jwt("secret: S\nclaims: [{ claim: c, operator: gt, value: S }]"),
        ),
        (
            "a JWT secret as a key of a value",
            jwt("secret: S\nclaims: [{ claim: c, operator: in, value: { S: \"${NONE}\" } }]"),
        ),
        (
            "a JWT secret as a header's name",
            jwt("secret: S\ntoken_sources: [{ type: header, name: \"${S}/\" }]"),
        ),
    ]
}

/// Two buckets of which both have the same of something.
fn twice(one: &str, other: &str) -> String {
    let text = inline("anonymous: true").replace(one, other);
    let second = text.strip_prefix("buckets:\n").unwrap_or_default();
    format!("{text}{second}")
}

#[test]
fn no_slip_of_the_pen_shows_a_secret() {
    let slips = slips();
    assert!(slips.len() >= 40, "only {} slips", slips.len());
    let mut failures = Vec::new();
    for secret in [SECRET, PLAIN_SECRET] {
        let environment = BTreeMap::from([("S".to_owned(), secret.to_owned())]);
        for (slip, text) in &slips {
            // The letter stands for the secret, but for the name of the variable.
            let text = text.replace("${S}", "${\0}").replace("${S", "${\0");
            let text = filled(&text, secret).replace('\0', "S");
            let files = FilesBeside::new(&folder("valid").join("x.yaml"));
            let report = check(text.as_bytes(), &environment, &files).to_string();
            if report.is_empty() {
                failures.push(format!("{slip}: nothing is said of\n{text}"));
            }
            let shown = secret
                .as_bytes()
                .windows(8)
                .any(|part| report.contains(std::str::from_utf8(part).unwrap_or("not text")));
            if shown {
                failures.push(format!("{slip}: {report}"));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Each `S` that stands by itself replaced by the secret.
fn filled(text: &str, secret: &str) -> String {
    let mut filled = String::new();
    let mut before = ' ';
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let alone = c == 'S'
            && !before.is_ascii_alphanumeric()
            && !rest.peek().is_some_and(char::is_ascii_alphanumeric);
        if alone {
            filled.push_str(secret);
        } else {
            filled.push(c);
        }
        before = c;
    }
    filled
}

#[test]
fn no_difference_shows_a_secret() {
    let settings = |secret: &str| -> Settings {
        let text = bucket(&format!("access_key: A\nsecret_key: {secret}"));
        let files = FilesBeside::new(&folder("valid").join("x.yaml"));
        parse(text.as_bytes(), &BTreeMap::new(), &files).map(|loaded| loaded.settings).unwrap()
    };
    let Difference { applied, .. } = diff(&settings(SECRET), &settings(PLAIN_SECRET));
    assert_eq!(applied, ["buckets[a].s3.secret_key"]);
}
