//! Slips of the pen around secrets: files with typing mistakes, none of which may be answered with
//! the secret.

/// Stands for a secret access key: 40 characters, of which some mean something in YAML elsewhere.
pub(crate) const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

/// One without any character that could not stand in a name.
pub(crate) const PLAIN_SECRET: &str = "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEYZZ";

/// A file with this in a bucket's `s3` section, one key a line.
pub(crate) fn bucket(lines: &str) -> String {
    let lines = indented(lines, 6);
    format!(
        "buckets:\n  - name: a\n    path_prefix: /a\n    s3:\n      bucket: my-a\n      region: r\n\
         {lines}"
    )
}

fn indented(lines: &str, blanks: usize) -> String {
    lines.lines().fold(String::new(), |text, line| text + &" ".repeat(blanks) + line + "\n")
}

/// The same with `s3` on one line.
fn inline(rest: &str) -> String {
    format!(
        "buckets:\n  - name: a\n    path_prefix: /a\n    s3: {{ bucket: my-a, region: r, {rest} }}\n"
    )
}

fn jwt(lines: &str) -> String {
    let lines = indented(lines, 2);
    let open = inline("anonymous: true");
    format!("{open}    auth: {{ enabled: true }}\njwt:\n{lines}")
}

/// Files with the secret `S`, or with a variable that holds it.
fn unfilled() -> Vec<(&'static str, String)> {
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
        ("as a word among header fields", inline("anonymous: true") + "    headers: { S-x }\n"),
        ("as the name of a source", bucket("credentials: S")),
        (
            "as a field of the access log",
            inline("anonymous: true")
                + "logging: { access_log: { format: template, template: \"{S}\" } }\n",
        ),
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
        ("a tab for a blank", bucket("access_key: A\nsecret_key:\tS")),
        ("a tab before a key", bucket("access_key: A\n\tsecret_key: S")),
        ("a tab for a colon", bucket("access_key: A\nsecret_key\tS")),
        ("an arrow for a colon", bucket("access_key: A\nsecret_key => S")),
        ("a full-width colon", bucket("access_key: A\nsecret_key\u{ff1a} S")),
        ("two colons", bucket("access_key: A\nsecret_key:: S")),
        ("a blank before the colon and none behind", bucket("access_key: A\nsecret_key :S")),
        ("export", bucket("access_key: A\nexport SECRET_KEY=S")),
        ("a key in capitals", bucket("access_key: A\nSECRET_KEY: S")),
        ("a key in capitals, without a blank", bucket("access_key: A\nSECRET_KEY:S")),
        ("a key in camel case", bucket("access_key: A\nsecretKey: S")),
        ("a key with a hyphen", bucket("access_key: A\nsecret-key: S")),
        ("the name that AWS gives it", bucket("access_key: A\naws_secret_access_key: S")),
        ("the name of the variable", bucket("access_key: A\nAWS_SECRET_ACCESS_KEY: S")),
        ("value and key exchanged", bucket("access_key: A\nS: secret_key")),
        ("value and key exchanged, without a blank", bucket("access_key: A\nS:secret_key")),
        ("a list for a mapping", bucket("- access_key: A\n- secret_key: S")),
        ("an element between the keys", bucket("access_key: A\n- secret_key: S")),
        ("indented too far", bucket("access_key: A\n  secret_key: S")),
        (
            "the secret for the section",
            "buckets:\n  - { name: a, path_prefix: /a, s3: S }\n".into(),
        ),
        ("the secret for a bucket", "buckets:\n  - S\n".into()),
        ("the secret for the list of buckets", "buckets: S\n".into()),
        ("the secret for the file", "S\n".into()),
        ("the secret at the top", format!("secret_key: S\n{}", inline("anonymous: true"))),
        (
            "the secret at the top, without a blank",
            format!("{}secret_key:S\n", inline("anonymous: true")),
        ),
        (
            "the secret in another section",
            format!("{}server: {{ secret_key: S }}\n", inline("anonymous: true")),
        ),
        (
            "the keys one level too high",
            "buckets:\n  - name: a\n    path_prefix: /a\n    secret_key: S\n".into(),
        ),
        (
            "an anchor in the place of its value",
            bucket("access_key: A\nsecret_key: &x\nregion: *S"),
        ),
        ("an anchor on the key", bucket("access_key: A\n&S secret_key: x")),
        ("an alias as a key", bucket("access_key: &x S\n*x : x")),
        ("a merge key", bucket("<<: { secret_key: S }")),
        ("a block as a value", bucket("access_key: A\nsecret_key: |\n  S\n  S")),
        ("a folded block as a file", bucket("access_key: A\nsecret_key_file: >\n  S")),
        ("a variable without braces", bucket("access_key: A\nsecret_key_file: $S/S")),
        ("a variable in parentheses", bucket("access_key: A\nsecret_key_file: $(S)")),
        ("a variable in percent signs", bucket("access_key: A\nsecret_key_file: \"%S%\"")),
        ("a variable in double braces", bucket("access_key: A\nsecret_key: ${{S}}")),
        (
            "the secret as the variable's name",
            bucket("access_key: A\nsecret_key: \"${NO_SUCH:-S\""),
        ),
        (
            "a default with one character too few",
            bucket("access_key: A\nsecret_key: \"${NO_SUCH:S}\""),
        ),
        ("a default with a question mark", bucket("access_key: A\nsecret_key: \"${NO_SUCH:?S}\"")),
        (
            "a default in its file's place",
            bucket("access_key: A\nsecret_key_file: \"${NO_SUCH:-S}\""),
        ),
        ("a variable as a key", bucket("access_key: A\n\"${S}\": x")),
        ("a JWT section that is the secret", format!("{}jwt: S\n", inline("anonymous: true"))),
        (
            "a JWT section that is a list",
            format!("{}jwt: [secret: S]\n", inline("anonymous: true")),
        ),
        ("a JWT secret for the list of keys", jwt("keys: S")),
        ("a JWT secret in a mapping of keys", jwt("keys: { k: S }")),
        ("a JWT secret as an audience in a mapping", jwt("secret: S\naudience: { S: x }")),
        ("a JWT secret as a token source", jwt("secret: x\ntoken_sources: [S]")),
        ("a JWT secret as a claim", jwt("secret: x\nclaims: [S]")),
        ("a JWT secret in its own key file", jwt("keys: [{ id: k, secret_file: S }]")),
        ("a JWT secret where seconds belong", jwt("secret: x\nleeway: S")),
        ("a JWT secret where true belongs", jwt("secret: x\nrequire_exp: S")),
        ("a JWT secret as a leeway from a variable", jwt("secret: x\nleeway: \"${S}\"")),
        ("a JWT secret that is too short", jwt("secret: \"S\"\nkeys: [{ secret: short, id: S }]")),
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

/// The files with this secret, and what is wrong with each. `S` is the name of a variable that
/// holds the secret too.
pub(crate) fn slips(secret: &str) -> Vec<(&'static str, String)> {
    let with_secret = |text: String| {
        let text = text.replace("${S}", "${\0}").replace("${S", "${\0");
        filled(&text, secret).replace('\0', "S")
    };
    unfilled().into_iter().map(|(slip, text)| (slip, with_secret(text))).collect()
}

/// Whether a text shows enough of the secret to be of use.
pub(crate) fn shows(text: &str, secret: &str) -> bool {
    let mut parts = secret.as_bytes().windows(8);
    parts.any(|part| std::str::from_utf8(part).is_ok_and(|part| text.contains(part)))
}
